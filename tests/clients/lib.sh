# For the shell scripts here, to be sourced: a temporary directory, ebb, its drain, and checks. Everything that was
# started is stopped at the end, and the end comes after LIMIT seconds at the latest.
set -euo pipefail
if [ -z "${BOUNDED-}" ]; then
    BOUNDED=1 exec timeout --kill-after=10 "${LIMIT:-180}" "$0" "$@"
fi
cd "$(dirname "$0")/../.."
EBB=$(realpath "${EBB:-target/debug/ebb}")
DIR=$(mktemp -d /tmp/ebb-clients-XXXXXX)
chmod 755 "$DIR"
WRONG=0
STARTED=()

finish() {
    local code=$?
    trap - EXIT TERM INT
    if [ "$code$WRONG" != 00 ]; then # what ebb has to say to it
        cat "$DIR"/*.log 2>/dev/null | grep -E '"level":"(WARN|ERROR)"|panicked|"report"' | sed 's/^/  ebb: /' || true
    fi
    declare -F stop_app >/dev/null && stop_app || true
    local pid
    for pid in "${STARTED[@]}"; do
        kill -KILL "$pid" && wait "$pid" || true
    done 2>/dev/null
    [ -n "${KEEP-}" ] && echo "kept: $DIR" || rm -rf "$DIR"
    if [ "$code" = 0 ] && [ "$WRONG" = 0 ]; then
        echo "as it should be"
        exit 0
    fi
    echo "NOT as it should be ($WRONG checks failed, exit code $code)"
    exit 1
}
trap finish EXIT
trap 'echo "interrupted, or too slow"; exit 124' TERM INT

# check TEXT COMMAND...: one line for each thing that is to be so.
check() {
    local text=$1
    shift
    if "$@" >/dev/null 2>&1; then
        echo "  ok    $text"
    else
        echo "  WRONG $text"
        WRONG=$((WRONG + 1))
    fi
}

# until SECONDS COMMAND...: waits for it to succeed.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            echo "  not in time: $*"
            return 1
        fi
        sleep 0.05
    done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start_ebb NAME FLAG...: sets PORT (of the first forward), ADMIN and EBB_PID.
start_ebb() {
    local log=$DIR/$1.log
    shift
    rm -f "$log"
    "$EBB" proxy --admin 127.0.0.1:0 --log-format json "$@" >"$DIR/access" 2>"$log" &
    EBB_PID=$!
    STARTED+=("$EBB_PID")
    until_true 10 grep -qs '"admin"' "$log" || { cat "$log"; return 1; }
    PORT=$(sed -n 's/.*"forward":"[a-z]*:\/\/[^"]*:\([0-9]*\)".*/\1/p' "$log" | head -1)
    ADMIN=$(sed -n 's/.*"admin":"\([^"]*\)".*/\1/p' "$log")
}

# stop_ebb: with a second signal, so that it ends at once.
stop_ebb() {
    kill -TERM "$EBB_PID" 2>/dev/null && kill -TERM "$EBB_PID" 2>/dev/null || true
    wait "$EBB_PID" 2>/dev/null || true
}

phase() { curl -s "http://$ADMIN/status" | python3 -c 'import json, sys; print(json.load(sys.stdin)["phase"])'; }
in_phase() { [ "$(phase)" = "$1" ]; }
refused() { [ "$(python3 -c 'import errno, socket, sys
code = socket.socket().connect_ex(("127.0.0.1", int(sys.argv[1])))
print(errno.errorcode.get(code, code))' "$1")" = ECONNREFUSED ]; }

# drain FILE: in the background, as the hook does; sets DRAIN_PID. The report goes into the file.
drain() {
    "$EBB" drain --admin "http://$ADMIN" >"$1" &
    DRAIN_PID=$!
    STARTED+=("$DRAIN_PID")
}

# report FILE EXPRESSION: of the report `r`, as Python sees it.
report() { python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }

# metric PATTERN: the sum of the samples that match.
metric() { curl -s "http://$ADMIN/metrics" | grep -v '^#' | grep -E "$1" | awk '{sum += $NF} END {printf "%d\n", sum}'; }
