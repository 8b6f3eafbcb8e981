#!/bin/bash
# A real Redis behind a tcp:// forward, with redis-cli and redis-benchmark across drains. See README.md.
LIMIT=180
. "$(dirname "$0")/lib.sh"
cd "$DIR"
FLAGS=(--grace-period 12s --app-shutdown 1s --lame-duck-min 500ms --lame-duck-max 1s --quiet 300ms)
APP_PORT=$(free_port)
redis-server --bind 127.0.0.1 --port "$APP_PORT" --unixsocket "$DIR/redis.sock" --save '' --appendonly no >"$DIR/redis.log" &
STARTED+=($!)
direct() { redis-cli -s "$DIR/redis.sock" "$@"; }
until_true 5 direct ping
redis-server --version | cut -d' ' -f1-3
through() { redis-cli -h 127.0.0.1 -p "$PORT" "$@"; }

heard_by_both() { [ "$(direct publish news hello)" = 2 ]; }

# `INFO stats` over one connection: sets BYTES_IN and BYTES_OUT (as of its own command), CONNECTIONS and REPLY (its size).
info() {
    local text
    text=$(printf 'INFO stats\r\nQUIT\r\n' | python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(sys.stdin.buffer.read())
print(b"".join(iter(lambda: s.recv(65536), b"")).decode())' "$APP_PORT")
    field() { sed -n "s/^$1:\([0-9]*\).*/\1/p" <<<"$text"; }
    BYTES_IN=$(field total_net_input_bytes) BYTES_OUT=$(field total_net_output_bytes)
    CONNECTIONS=$(field total_connections_received)
    REPLY=$((${#text} + 1)) # the shell has taken the last newline away
}

for UPSTREAM in "$APP_PORT" "unix:$DIR/redis.sock"; do
    echo "redis-cli and redis-benchmark through ebb, upstream $UPSTREAM"
    direct flushall >"$DIR/out"
    start_ebb plain --forward "tcp://127.0.0.1:0=$UPSTREAM" "${FLAGS[@]}"
    info
    IN=$BYTES_IN OUT=$BYTES_OUT BEFORE=$CONNECTIONS FIRST=$REPLY
    check "a value" test "$(through set greeting hello; through get greeting)" = "$(printf 'OK\nhello')"
    python3 - "$DIR/mass" >"$DIR/sum" <<'PYTHON'
import hashlib, os, sys
digest = hashlib.sha1()
with open(sys.argv[1], "wb") as out:
    for number in range(1000):
        value = os.urandom(100_000)
        digest.update(value)
        out.write(b"*3\r\n$3\r\nSET\r\n$6\r\nk%05d\r\n$%d\r\n%s\r\n" % (number, len(value), value))
print(digest.hexdigest())
PYTHON
    through --pipe <"$DIR/mass" >"$DIR/pipe"
    tail -1 "$DIR/pipe" | sed 's/^/  redis-cli --pipe: /'
    check "1,000 random values of 100,000 bytes go in" grep -q 'errors: 0, replies: 1000' "$DIR/pipe"
    cat >"$DIR/all.py" <<'PYTHON'
import hashlib, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))).makefile("rwb")
digest = hashlib.sha1()
s.write(b"".join(b"GET k%05d\r\n" % number for number in range(1000)))
s.flush()
for _ in range(1000):
    digest.update(s.read(int(s.readline()[1:]) + 2)[:-2])
print(digest.hexdigest())
PYTHON
    check "and come out the same, asked for in one go" test "$(python3 "$DIR/all.py" "$PORT")" = "$(cat "$DIR/sum")"
    redis-benchmark -h 127.0.0.1 -p "$PORT" -c 20 -n 100000 -P 16 -t set,get,incr --csv 2>&1 | cut -d, -f1,2 | sed 's/^/  /'
    until_true 5 test "$(metric '^ebb_connections\{.*tcp')" = 0
    info
    # The first INFO's reply and the second INFO's words are the only bytes that did not pass through ebb; so were the
    # first one's QUIT and its answer.
    HERE_IN=$((BYTES_IN - IN - 18)) HERE_OUT=$((BYTES_OUT - OUT - FIRST))
    EBB_IN=$(metric 'tunnel_bytes_total.*to_app') EBB_OUT=$(metric 'tunnel_bytes_total.*to_client')
    EBB_CONNECTIONS=$(metric '^ebb_connections_total.*tcp')
    echo "  bytes to the app:    ebb counts $EBB_IN, Redis $HERE_IN"
    echo "  bytes to the client: ebb counts $EBB_OUT, Redis $HERE_OUT"
    echo "  connections:         ebb counts $EBB_CONNECTIONS, Redis $((CONNECTIONS - BEFORE - 1))"
    check "the counts are the same" test "$EBB_IN $EBB_OUT $EBB_CONNECTIONS" = "$HERE_IN $HERE_OUT $((CONNECTIONS - BEFORE - 1))"
    stop_ebb

    echo "redis-benchmark with -P 16 and values of 100,000 bytes, and a subscriber, across a drain"
    start_ebb drained --forward "tcp://127.0.0.1:0=$UPSTREAM" "${FLAGS[@]}"
    through subscribe news >"$DIR/subscriber" 2>&1 &
    SUBSCRIBER=$!
    # cat ends with 0 at a FIN, and with 1 at a reset.
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT"; printf 'SUBSCRIBE news\r\n' >&3; exec cat <&3 >"$DIR/fin" 2>"$DIR/fin.err") &
    FIN=$!
    until_true 5 heard_by_both
    BENCHES=()
    for NUMBER in 1 2; do
        redis-benchmark -h 127.0.0.1 -p "$PORT" -c 10 -n "${VALUES:-20000}" -P 16 -d 100000 -t set --csv >"$DIR/bench.$NUMBER" 2>&1 &
        BENCHES+=($!)
    done
    # A connection for each command, again and again until one fails.
    SHORT=()
    for NUMBER in 1 2 3 4; do
        (while redis-cli -h 127.0.0.1 -p "$PORT" ping; do :; done) >"$DIR/short.$NUMBER" 2>&1 &
        SHORT+=($!)
    done
    sleep 0.5
    drain "$DIR/report"
    until_true 10 in_phase draining
    UNDER_WAY=0
    for BENCH in "${BENCHES[@]}"; do kill -0 "$BENCH" 2>/dev/null && UNDER_WAY=$((UNDER_WAY + 1)); done
    check "both of the large ones are still under way while ebb is draining" test $UNDER_WAY = 2
    check "new connections are refused" refused "$PORT"
    through ping >"$DIR/out" 2>&1 || true
    sed 's/^/  redis-cli says: /;1q' "$DIR/out"
    for BENCH in "${BENCHES[@]}"; do check "a large one ends with 0" wait "$BENCH"; done
    sed 's/^/  /' "$DIR"/bench.[12] | cut -d, -f1,2
    check "they had no error" test "$(grep -ciE 'error|closed|refused' "$DIR"/bench.[12] | grep -cv ':0$' || true)" = 0
    wait "${SHORT[@]}" || true
    sort "$DIR"/short.? | sed 's/:[0-9]*:/:…:/' | uniq -c
    check "of the connections for one command, every one was answered or refused" \
        test "$(grep -hv '^PONG$' "$DIR"/short.? | grep -c .)" = "$(grep -h 'Connection refused$' "$DIR"/short.? | grep -c .)"
    check "the refusals are four" test "$(grep -h 'Connection refused$' "$DIR"/short.? | grep -c .)" = 4
    check "the subscribers are still there" kill -0 $SUBSCRIBER $FIN
    direct publish news "still there" | sed 's/^/  published, receivers: /'
    DRAINED=0; wait $DRAIN_PID || DRAINED=$?
    echo "  report: $(report "$DIR/report" '(r["outcome"], r["seconds"], r["connections"]["tcp"])')"
    check "the subscriber's connection ends with a FIN" wait $FIN
    check "it has got both messages" test "$(grep -cE 'hello|still there' "$DIR/fin")" -ge 2
    kill $SUBSCRIBER 2>/dev/null || true # redis-cli would connect again
    check "so has redis-cli" grep -q 'still there' "$DIR/subscriber"
    check "the deadline cut the two subscribers, and nobody else" \
        test "$DRAINED $(report "$DIR/report" 'r["connections"]["tcp"]["cut"]')" = "1 2"
    check "the drain took its whole time (10 s), and no more" test "$(report "$DIR/report" '9.5 < r["seconds"]["total"] < 10.6')" = True
    ENDS=$(metric '^ebb_drain_connections_total.*tcp.*end="(finished|closed_idle|told|cut)"')
    check "the metrics say the same as the report" test "$ENDS" = \
        "$(report "$DIR/report" 'sum(n for end, n in r["connections"]["tcp"].items() if end != "rescued")')"
    check "no connection is left in Redis" until_true 5 sh -c "test \$(redis-cli -s '$DIR/redis.sock' client list | wc -l) = 1"
    stop_ebb
done

echo "ten drains, each taken back, while clients connect for one command each"
cat >"$DIR/storm.py" <<'PYTHON'
import collections, signal, socket, sys, threading, time
port, stopping, seen, lock = int(sys.argv[1]), threading.Event(), collections.Counter(), threading.Lock()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
def run():
    while not stopping.is_set():
        step = "connect"
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                step = "talk"
                s.sendall(b"PING\r\nQUIT\r\n")
                got = b"".join(iter(lambda: s.recv(100), b""))
            what = "answered" if got == b"+PONG\r\n+OK\r\n" else f"FAILED: {got}"
        except ConnectionRefusedError:
            what = "refused"
            time.sleep(0.01)
        except Exception as error:
            what = f"FAILED: {step}: {error!r}"
        with lock: seen[what] += 1
threads = [threading.Thread(target=run) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
for what, times in sorted(seen.items()): print(f"  {times:6} {what}")
PYTHON
start_ebb storm --forward "tcp://127.0.0.1:0=$APP_PORT" --grace-period 8s --app-shutdown 1s --lame-duck-min 200ms --lame-duck-max 400ms --quiet 100ms
python3 "$DIR/storm.py" "$PORT" >"$DIR/storm" &
STORM=$!
STARTED+=($STORM)
CLEAN=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 0.5
    drain "$DIR/report"
    wait $DRAIN_PID && CLEAN=$((CLEAN + 1))
    sleep 1.2 # a SYN that went unanswered is sent again after a second
    curl -sX POST "http://$ADMIN/undrain" >"$DIR/out"
    until_true 5 in_phase serving
done
sleep 0.5
kill $STORM; wait $STORM || true
cat "$DIR/storm"
echo "  ebb accepted $(metric '^ebb_connections_total.*tcp'), rescued $(metric '^ebb_drain_connections_total.*tcp.*rescued')"
check "ten clean drains" test $CLEAN = 10
check "every connection was answered or refused" test "$(grep -c FAILED "$DIR/storm")" = 0
check "as many were answered as ebb has accepted" \
    test "$(awk '/answered/ {print $1}' "$DIR/storm")" = "$(metric '^ebb_connections_total.*tcp')"
stop_ebb
