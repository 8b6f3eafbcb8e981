#!/bin/bash
# An https:// forward with curl and openssl: versions, ALPN, resumption, client certificates, certificates that change
# under load, a drain. See README.md.
LIMIT=180
. "$(dirname "$0")/lib.sh"
cd "$DIR"
FLAGS=(--grace-period 15s --app-shutdown 1s --lame-duck-min 1s --lame-duck-max 3s --quiet 300ms --tls-reload-interval 200ms)
echo "$(curl --version | head -1 | cut -d' ' -f1,2,5), $(openssl version | cut -d' ' -f1-2)"

# authority NAME, certificate NAME AUTHORITY: NAME.crt and NAME.key.
NEW_KEY=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2)
authority() { openssl req -x509 "${NEW_KEY[@]}" -subj "/CN=$1" -keyout "$1.key" -out "$1.crt" 2>"$1.err"; }
certificate() {
    openssl req -x509 -CA "$2.crt" -CAkey "$2.key" "${NEW_KEY[@]}" -subj "/CN=$1" -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
        -addext 'basicConstraints=critical,CA:FALSE' -keyout "$1.key" -out "$1.crt" 2>"$1.err"
}
authority ca; authority strangers
for NAME in one two three four five six client; do certificate $NAME ca; done
certificate stranger strangers

cat >app.cjs <<'JS'
const http = require("node:http");
const app = http.createServer((request, response) => {
  const headers = { "x-proto": request.headers["x-forwarded-proto"] ?? "none" };
  if (request.method === "POST") return response.writeHead(200, headers), void request.pipe(response);
  if (request.url !== "/slow") return response.writeHead(200, { ...headers, "content-length": 6 }), void response.end("hello\n");
  let left = 60; // a response of six seconds
  const timer = setInterval(() => (left-- ? response.write(`${left} `.padEnd(10000)) : (clearInterval(timer), response.end())), 100);
  response.on("close", () => clearInterval(timer));
});
app.keepAliveTimeout = 60000;
app.listen(0, "127.0.0.1", () => console.log(app.address().port));
JS
node app.cjs >app.port &
STARTED+=($!)
until_true 10 test -s app.port
APP_PORT=$(cat app.port)

echo "curl and openssl s_client"
start_ebb plain --forward "https://127.0.0.1:0=$APP_PORT" --tls-cert one.crt --tls-key one.key "${FLAGS[@]}"
URL=https://localhost:$PORT
head -c 20000000 /dev/urandom >big
fetch() { curl -sS --cacert ca.crt --max-time 20 "$@"; }
for HTTP in 1.1 2; do
    for TLS in 1.2 1.3; do
        check "HTTP/$HTTP over TLS $TLS" test \
            "$(fetch --http$HTTP --tlsv$TLS --tls-max $TLS -o /dev/null -w '%{http_version} %{http_code} %header{x-proto}' "$URL/")" = "$HTTP 200 https"
        check "20 MB there and back" cmp big <(fetch --http$HTTP --tls-max $TLS --data-binary @big "$URL/")
    done
done
fetch --http2 --parallel --parallel-max 50 -o /dev/null -w '%{http_version} %{http_code}\n' "$URL/[1-200]" 2>parallel.err | sort | uniq -c | sed 's/^/  200 at once:/'
client() { openssl s_client -connect "localhost:$PORT" -CAfile ca.crt -verify_return_error -servername localhost "$@" 2>&1; }
get() { printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'; }
for TLS in tls1_2 tls1_3; do
    rm -f session
    # s_client ends with an error when the connection ends without close_notify.
    check "s_client -$TLS, ended with close_notify" sh -c "printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' |
        timeout 10 openssl s_client -connect localhost:$PORT -CAfile ca.crt -verify_return_error -$TLS -ign_eof -sess_out session 2>&1 | tee out.$TLS | grep -q '^closed$' && ! grep -q 'unexpected eof' out.$TLS"
    check "  and resumed" grep -q '^Reused, ' <(get | timeout 10 openssl s_client -connect "localhost:$PORT" -CAfile ca.crt -$TLS -ign_eof -sess_in session 2>&1)
done
check "ALPN h2" grep -q 'ALPN protocol: h2' <(client -alpn h2,http/1.1 </dev/null)
check "ALPN http/1.1" grep -q 'ALPN protocol: http/1.1' <(client -alpn http/1.1 </dev/null)
check "nothing in common" grep -q 'alert no application protocol' <(client -alpn nonsense </dev/null || true)
check "TLS 1.1 is not spoken" grep -qE 'alert (protocol version|handshake failure)' <(client -tls1_1 -cipher 'ALL:@SECLEVEL=0' </dev/null || true)
fetch "http://localhost:$PORT/" >out 2>&1 || true
sed 's/^/  over plain HTTP curl has: /' out
stop_ebb

echo "client certificates"
start_ebb mutual --forward "https://127.0.0.1:0=$APP_PORT" --tls-cert one.crt --tls-key one.key --tls-client-ca ca.crt "${FLAGS[@]}"
URL=https://localhost:$PORT
for HTTP in 1.1 2; do
    for TLS in 1.2 1.3; do
        TRY=(--http$HTTP --tls-max $TLS -o /dev/null -w '%{http_code}' "$URL/")
        check "HTTP/$HTTP, TLS $TLS: ours is taken" test "$(fetch --cert client.crt --key client.key "${TRY[@]}")" = 200
        check "  a stranger's is not" test "$(fetch --cert stranger.crt --key stranger.key "${TRY[@]}" 2>stranger.err)" = 000
        check "  none is not" test "$(fetch "${TRY[@]}" 2>none.err)" = 000
    done
done
sed 's/^/  a stranger hears: /' stranger.err
sed 's/^/  without one: /' none.err
check "8 are counted" test "$(metric 'tls_handshake_failures_total.*client-certificate')" = 8
stop_ebb

echo "certificates that change under load"
cat >load.py <<'PYTHON'
"""New connections, one after the other, and some that stay, until told to stop; whoever fails is counted."""
import collections, signal, socket, ssl, sys, threading
port, stopping, seen, lock = int(sys.argv[1]), threading.Event(), collections.Counter(), threading.Lock()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
def connect(resume=None):
    context = resume or ssl.create_default_context(cafile="ca.crt")
    tls = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost", suppress_ragged_eofs=False)
    name = dict(part[0] for part in tls.getpeercert()["subject"])["commonName"]
    return tls, name
def ask(tls, last):
    tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + (b"Connection: close\r\n" if last else b"") + b"\r\n")
    got = b""
    while not got.endswith(b"hello\n"):
        more = tls.recv(65536)
        if not more: raise EOFError(got)
        got += more
    if last and tls.recv(1): raise ValueError("more than the response")
    return b"connection: close" in got.lower()
def run(stays):
    tls = None
    while not stopping.is_set():
        try:
            if tls is None: tls, name = connect()
            told = ask(tls, not stays)
            if stays: stopping.wait(0.02)
            if told: tls.close(); tls = None
            with lock: seen[("requests over connections that stay, ", "connections, ")[not stays] + name] += 1
        except ConnectionRefusedError:
            with lock: seen["refused"] += 1
            return
        except Exception as error:
            with lock: seen[f"FAILED {error!r}"] += 1
            tls = None
threads = [threading.Thread(target=run, args=[number % 4 == 3]) for number in range(8)]
[thread.start() for thread in threads]
while any(thread.is_alive() for thread in threads): threads[0].join(0.1) if threads[0].is_alive() else stopping.wait(0.1)
for what, times in sorted(seen.items()): print(f"  {times:6} {what}")
PYTHON
# As the kubelet does it: a symlink to a symlink to a directory, swapped by a rename.
mkdir -p secret/..first mounted
cp one.crt secret/..first/tls.crt; cp one.key secret/..first/tls.key
ln -s ..first secret/..data; ln -s ..data/tls.crt secret/tls.crt; ln -s ..data/tls.key secret/tls.key
start_ebb rotated --forward "https://127.0.0.1:0=$APP_PORT" --tls-cert secret/tls.crt --tls-key secret/tls.key "${FLAGS[@]}"
python3 load.py "$PORT" >load.out 2>&1 &
LOAD=$!
STARTED+=($LOAD)
(while fetch --http2 -o /dev/null -w '%{http_version} %{http_code}\n' "https://localhost:$PORT/"; do :; done) >curls 2>&1 &
CURLS=$!
shows() { openssl s_client -connect "localhost:$PORT" </dev/null 2>/dev/null | grep -q "^subject=CN = $1$"; }
sleep 1
check "the first is shown" shows one
mkdir secret/..second; cp two.crt secret/..second/tls.crt; cp two.key secret/..second/tls.key
ln -s ..second secret/..new; mv -T secret/..new secret/..data
check "the second, after the directory was swapped" until_true 5 shows two
cp three.crt new.crt; cp three.key new.key
mv new.key secret/..data/tls.key
sleep 1
check "a key without its certificate changes nothing" shows two
mv new.crt secret/..data/tls.crt
check "the third, after renames with a second between them" until_true 5 shows three
cat four.crt >secret/tls.crt; cat four.key >secret/tls.key
check "the fourth, written in place" until_true 5 shows four
head -c 100 five.crt >secret/tls.crt; sleep 1; cat five.crt >secret/tls.crt
cat five.key >secret/tls.key
check "the fifth, written in place with half of it for a second" until_true 5 shows five
rm secret/tls.crt; sleep 1
check "no file changes nothing" shows five
cp six.crt secret/tls.crt; cat six.key >secret/tls.key
check "the sixth, after it was away" until_true 5 shows six
sleep 1
kill $LOAD; wait $LOAD || true
cat load.out
check "no client failed" test "$(grep -cE 'FAILED|refused|Error' load.out || true)" = 0
check "the load has seen all six" test "$(grep -c ' connections, ' load.out)" = 6
echo "  reloads: $(metric 'tls_reloads_total.*loaded') loaded, $(metric 'tls_reloads_total.*failed') failed; failed handshakes: $(metric tls_handshake_failures)"
check "five loads, and the failures are counted" test "$(metric 'tls_reloads_total.*loaded') $(($(metric 'tls_reloads_total.*failed') > 2))" = "5 1"

echo "a drain"
python3 load.py "$PORT" >load.out 2>&1 &
LOAD=$!
STARTED+=($LOAD)
fetch --http1.1 -o slow.1 "https://localhost:$PORT/slow" & SLOW1=$!
fetch --http2 -o slow.2 "https://localhost:$PORT/slow" & SLOW2=$!
openssl s_client -connect "localhost:$PORT" -CAfile ca.crt -quiet -no_ign_eof < <(sleep 20) >idle.out 2>&1 & IDLE=$!
sleep 1
drain report
until_true 10 in_phase draining
check "new connections are refused" refused "$PORT"
check "a long download over HTTP/1.1 ends as it should" wait $SLOW1
check "and over HTTP/2" wait $SLOW2
check "both are whole" test "$(stat -c %s slow.1 slow.2 | tr '\n' ' ')" = "600000 600000 "
wait $LOAD || true
cat load.out
check "of the load every connection was served or refused" test "$(grep -c FAILED load.out || true)" = 0
check "an idle s_client is let go" until_true 3 sh -c "! kill -0 $IDLE"
check "  with close_notify" sh -c "! grep -q 'unexpected eof' idle.out"
wait $CURLS || true
sort curls | sed 's/port [0-9]*/port …/;s/after [0-9]* ms/after …/' | uniq -c | sed 's/^/  curl -w:/'
check "curl in a loop, from the first change on, has seen 200 and one refusal" \
    test "$(grep -v '^2 200$' curls | sed 's/port.*: //' | tr '\n' ' ')" = "curl: (7) Failed to connect to localhost Couldn't connect to server 0 000 "
DRAINED=0; wait $DRAIN_PID || DRAINED=$?
echo "  report: $(report report '(r["outcome"], r["seconds"], r["connections"]["http1"], r["connections"]["http2"], r["raced_requests"])')"
check "the drain is clean, exit code 0" test $DRAINED = 0
stop_ebb
