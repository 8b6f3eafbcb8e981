#!/bin/bash
# A real PostgreSQL behind a tcp:// forward, with psql and pgbench across drains. See README.md.
LIMIT=240
. "$(dirname "$0")/lib.sh"
BIN=${PGBIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)}
FLAGS=(--grace-period 30s --app-shutdown 1s --lame-duck-min 1s --lame-duck-max 3s --quiet 500ms)
CLIENTS=8
export PGUSER=postgres PGCONNECT_TIMEOUT=10 PGSSLMODE=disable

# The server refuses to run as root.
server() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

DB_PORT=$(free_port)
mkdir "$DIR/db"
[ "$(id -u)" != 0 ] || chown postgres "$DIR/db"
cd "$DIR"
server "$BIN/initdb" -D "$DIR/db/data" -U postgres -A trust --no-sync >"$DIR/initdb.log"
stop_app() { server "$BIN/pg_ctl" -D "$DIR/db/data" -m immediate stop >"$DIR/stop.log"; }
direct() { "$BIN/psql" -X -A -t -h "$DIR/db" -p "$DB_PORT" -c "$1" postgres; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$DIR/db/tls.key" -out "$DIR/db/tls.crt" 2>"$DIR/openssl.err"
chmod 600 "$DIR/db/tls.key"
[ "$(id -u)" != 0 ] || chown postgres "$DIR"/db/tls.*
echo "$("$BIN/postgres" --version), $("$BIN/pgbench" --version)"

# What a server notes when its client goes without a word.
COMPLAINTS='unexpected EOF|Connection reset|Broken pipe|could not (receive|send)|incomplete|invalid'
complaints() { grep -cE "$COMPLAINTS" "$DIR/db/log" || true; }
run_server() {
    server "$BIN/pg_ctl" -D "$DIR/db/data" -w -l "$DIR/db/log" "$1" -m fast >"$DIR/$1.log" -o \
        "-p $DB_PORT -k $DIR/db -c listen_addresses=127.0.0.1 -c fsync=off -c log_connections=on -c ssl=on -c ssl_cert_file=$DIR/db/tls.crt -c ssl_key_file=$DIR/db/tls.key"
}
run_server start
through() { PGHOST=127.0.0.1 PGPORT=$PORT "$BIN/$@"; }
sleeping() { [ "$(direct "select count(*) from pg_stat_activity where query = 'select pg_sleep($1)'")" = 1 ]; }
same_rows() { # what pgbench says it has committed is there, each once
    DONE=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$1")
    THERE=$(direct 'select count(*) from pgbench_history')
    echo "  transactions: pgbench says $DONE, the table has $THERE"
    [ "$DONE" = "$THERE" ] && [ "$DONE" -gt 0 ]
}

for UPSTREAM in "$DB_PORT" "unix:$DIR/db/.s.PGSQL.$DB_PORT"; do
    echo "psql through ebb, upstream $UPSTREAM"
    start_ebb psql --forward "tcp://127.0.0.1:0=$UPSTREAM" "${FLAGS[@]}"
    BEFORE=$(complaints)
    check "a query" test "$(through psql -XAtc 'select 6 * 7' postgres)" = 42
    through psql -XAt postgres -c "create table if not exists t (n int, s text)" -c "truncate t" >"$DIR/out" 2>&1
    seq 1 200000 | sed 's/.*/&\t& some text that is not short, line &/' >"$DIR/rows"
    through psql -XAtc '\copy t from pstdin' postgres <"$DIR/rows" >"$DIR/out"
    through psql -XAtc '\copy (select * from t order by n) to pstdout' postgres >"$DIR/rows.back"
    check "COPY in and out: $(stat -c %s "$DIR/rows") bytes come back the same" cmp "$DIR/rows" "$DIR/rows.back"
    PGHOST=127.0.0.1 PGPORT=$PORT "$BIN/psql" -XAtc 'select pg_sleep(30)' postgres >"$DIR/cancel" 2>&1 &
    CANCEL=$!
    until_true 5 sleeping 30
    kill -INT $CANCEL
    wait $CANCEL || true
    check "a query is cancelled (over a connection of its own)" grep -q 'canceling statement due to user request' "$DIR/cancel"
    through pgbench -i -q -s 4 postgres >"$DIR/init.log" 2>&1
    if [ "$UPSTREAM" = "$DB_PORT" ]; then # the server does not offer it on a Unix socket
        PGSSLMODE=verify-full PGSSLROOTCERT=$DIR/db/tls.crt through psql -XAt postgres >"$DIR/out" 2>&1 \
            -c 'select ssl from pg_stat_ssl where pid = pg_backend_pid()' || true
        check "TLS from end to end" test "$(cat "$DIR/out")" = t
    fi
    check "pgbench's tables" test "$(direct 'select count(*) from pgbench_accounts')" = 400000

    echo "pgbench with $CLIENTS connections that stay, across a drain"
    direct 'truncate pgbench_history' >"$DIR/out"
    through pgbench -n -c $CLIENTS -j 2 -T 9 postgres >"$DIR/bench" 2>"$DIR/bench.err" &
    BENCH=$!
    sleep 2
    drain "$DIR/report"
    until_true 10 in_phase draining
    check "pgbench goes on while ebb is draining" kill -0 $BENCH
    check "new connections are refused" refused "$PORT"
    through psql -XAtc 'select 1' postgres >"$DIR/out" 2>&1 || true
    sed -n 's/^/  psql says: /;1p' "$DIR/out"
    check "psql says so, too" grep -q 'Connection refused' "$DIR/out"
    check "pgbench ends with 0" wait $BENCH
    DRAINED=0; wait $DRAIN_PID || DRAINED=$?
    check "no transaction failed" grep -q '^number of failed transactions: 0 ' "$DIR/bench"
    check "each is there once" same_rows "$DIR/bench"
    same_rows "$DIR/bench" || true
    sed -n 's/^/  pgbench: /p' "$DIR/bench.err"
    echo "  report: $(report "$DIR/report" '(r["outcome"], r["seconds"], r["connections"]["tcp"])')"
    check "the drain is clean, exit code 0" test $DRAINED = 0
    check "it waited for all $CLIENTS connections, and cut none" \
        test "$(report "$DIR/report" 'r["connections"]["tcp"]["finished"], r["connections"]["tcp"]["cut"]')" = "($CLIENTS, 0)"
    check "the server has nothing to complain of" test "$(complaints)" = "$BEFORE"
    check "bytes are counted in both directions" test "$(metric 'tunnel_bytes_total.*to_app')" -gt 1000000 -a "$(metric 'tunnel_bytes_total.*to_client')" -gt 1000000
    stop_ebb

    echo "pgbench -C (a connection for each transaction), one ebb"
    direct 'truncate pgbench_history' >"$DIR/out"
    start_ebb single --forward "tcp://127.0.0.1:0=$UPSTREAM" "${FLAGS[@]}"
    AUTHORIZED=$(grep -c 'connection authorized' "$DIR/db/log")
    BEFORE=$(complaints)
    through pgbench -n -C -c $CLIENTS -j 2 -T 30 postgres >"$DIR/bench" 2>"$DIR/bench.err" &
    BENCH=$!
    sleep 2
    drain "$DIR/report"
    wait $BENCH || true
    DRAINED=0; wait $DRAIN_PID || DRAINED=$?
    ACCEPTED=$(metric '^ebb_connections_total.*protocol="tcp"')
    SERVED=$(($(grep -c 'connection authorized' "$DIR/db/log") - AUTHORIZED))
    sed 's/port [0-9]*/port …/;s/client [0-9]*/client …/' "$DIR/bench.err" | grep -E '^pgbench: error|^connection to' | sort | uniq -c
    same_rows "$DIR/bench" || true
    echo "  report: $(report "$DIR/report" '(r["outcome"], r["seconds"], r["connections"]["tcp"])')"
    # pgbench itself makes one connection more, to look at the tables.
    echo "  ebb accepted $ACCEPTED connections, the server authorized $SERVED"
    check "each of the $CLIENTS clients ended with a connection refused" \
        test "$(grep -c 'Connection refused' "$DIR/bench.err")" = $CLIENTS
    check "and with nothing else" test "$(grep -E 'error|fail|closed|reset' "$DIR/bench.err" | grep -vcE 'Connection refused|aborted while establishing|Run was aborted|connection for initialization' || true)" = 0
    check "each transaction is there once" same_rows "$DIR/bench"
    check "each accepted connection got to the server" test "$ACCEPTED" = "$SERVED"
    check "the drain is clean, exit code 0" test $DRAINED = 0
    check "the server has nothing to complain of" test "$(complaints)" = "$BEFORE"
    stop_ebb

    echo "pgbench -C with two ebbs, the first is drained"
    direct 'truncate pgbench_history' >"$DIR/out"
    start_ebb second --forward "tcp://127.0.0.1:0=$UPSTREAM" "${FLAGS[@]}"
    SECOND=$PORT SECOND_PID=$EBB_PID SECOND_ADMIN=$ADMIN
    start_ebb first --forward "tcp://127.0.0.1:0=$UPSTREAM" "${FLAGS[@]}"
    BEFORE=$(complaints)
    PGHOST=127.0.0.1,127.0.0.1 PGPORT=$PORT,$SECOND "$BIN/pgbench" -n -C -c $CLIENTS -j 2 -T 8 postgres >"$DIR/bench" 2>"$DIR/bench.err" &
    BENCH=$!
    sleep 2
    drain "$DIR/report"
    check "pgbench ends with 0" wait $BENCH
    DRAINED=0; wait $DRAIN_PID || DRAINED=$?
    same_rows "$DIR/bench" || true
    sed -n 's/^/  pgbench: /p' "$DIR/bench.err"
    echo "  connections: the first $(metric '^ebb_connections_total.*tcp'), the second $(ADMIN=$SECOND_ADMIN metric '^ebb_connections_total.*tcp')"
    check "no transaction failed" grep -q '^number of failed transactions: 0 ' "$DIR/bench"
    check "each is there once" same_rows "$DIR/bench"
    check "the drain is clean, exit code 0" test $DRAINED = 0
    check "the second took over" test "$(ADMIN=$SECOND_ADMIN metric '^ebb_connections_total.*tcp')" -gt 10
    check "the server has nothing to complain of" test "$(complaints)" = "$BEFORE"
    stop_ebb
    EBB_PID=$SECOND_PID stop_ebb
done

echo "the ends of a connection that are nobody's wish"
start_ebb ends --forward "tcp://127.0.0.1:0=$DB_PORT" "${FLAGS[@]}"
PGHOST=127.0.0.1 PGPORT=$PORT "$BIN/pgbench" -n -S -c 50 -T 60 postgres >"$DIR/bench" 2>&1 &
BENCH=$!
connections_are() { [ "$(metric '^ebb_connections\{.*tcp')" = "$1" ]; }
until_true 10 connections_are 50
kill -KILL $BENCH
wait $BENCH 2>/dev/null || true
of_clients() { direct "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"; }
check "50 clients are killed: none is left in ebb" until_true 5 connections_are 0
nobody_left() { [ "$(of_clients)" = 0 ]; }
check "nor in the server" until_true 5 nobody_left
through psql -XAtc 'select pg_sleep(20)' postgres >"$DIR/out" 2>&1 &
LATE=$!
until_true 5 sleeping 20
run_server restart
wait $LATE || true
sed -n '1s/^/  the server is restarted, psql says: /p' "$DIR/out"
check "a client hears the server's last words" grep -q 'terminating connection due to administrator command' "$DIR/out"
check "and can come back" test "$(through psql -XAtc 'select 6 * 7' postgres)" = 42
stop_ebb

echo "a query that takes longer than the drain"
start_ebb late --forward "tcp://127.0.0.1:0=$DB_PORT" --grace-period 5s --app-shutdown 1s --lame-duck-min 500ms --lame-duck-max 1s --quiet 200ms
through psql -XAtc 'select pg_sleep(20)' postgres >"$DIR/out" 2>&1 &
LATE=$!
until_true 5 sleeping 20
drain "$DIR/report"
DRAINED=0; wait $DRAIN_PID || DRAINED=$?
wait $LATE || true
sed -n '1s/^/  psql says: /p' "$DIR/out"
echo "  report: $(report "$DIR/report" '(r["outcome"], r["seconds"], r["connections"]["tcp"])')"
check "the drain is forced, exit code 1" test $DRAINED = 1
check "one connection was cut" test "$(report "$DIR/report" 'r["connections"]["tcp"]["cut"]')" = 1
check "after 3 s, with an end in order (no reset)" grep -q 'server closed the connection unexpectedly' "$DIR/out"
check "not late" test "$(report "$DIR/report" '2.5 < r["seconds"]["total"] < 3.5')" = True
stop_ebb
