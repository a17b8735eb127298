#!/bin/sh
# Asks the real program everything that its OpenAPI description (docs/openapi.json) allows, and much that it does not, and
# compares what it answers with what the description promises: schemathesis, in an environment of its own.
#
#   scripts/schemathesis.sh            at length, some minutes, against the debug build
#   scripts/schemathesis.sh short      a few questions for each operation; the test suite runs this
#   MPM_MONITOR_BIN=... MPM_MONITOR_EXAMPLES=1000 scripts/schemathesis.sh
#
# The stream of events is left out: it has no end, and tests/process/stream/ asks it everything.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

case ${1-} in
'') phases=examples,coverage,fuzzing examples=${MPM_MONITOR_EXAMPLES:-300} ;;
short) phases=examples,coverage,fuzzing examples=${MPM_MONITOR_EXAMPLES:-2} ;;
*) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" | sed '$d' >&2 && exit 2 ;;
esac
st=$(target_dir)/test-schemathesis/bin/st
[ -x "$st" ] || die "schemathesis is not there; scripts/setup.sh test installs it"
program=${MPM_MONITOR_BIN:-$(target_dir)/debug/mpm-monitor}
[ -x "$program" ] || die "$program is not there; build it first"

place=$(mktemp -d "${TMPDIR:-/tmp}/mpm-monitor-schemathesis-XXXXXX")
monitor=
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    [ -z "$monitor" ] || kill "$monitor" 2>/dev/null || true
    [ -z "$monitor" ] || wait "$monitor" 2>/dev/null || true
    rm -rf "$place"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
mkdir "$place/home" "$place/state" "$place/run"
# A free port of the kernel's choice, but for the moment in which another takes it.
port=$("$(dirname "$st")/python3" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# Polls that wait end with the next ping; sessions that nobody enters take a place for 45 s.
HOME="$place/home" MPM_MONITOR_STATE_DIR="$place/state" MPM_MONITOR_RUNTIME_DIR="$place/run" "$program" run \
    --port "$port" --set socketio.ping_interval=1s --set server.max_clients=20000 --set server.max_connections=20100 \
    >"$place/log" 2>&1 &
monitor=$!
status=0
# It leaves what it found in the folder it runs in.
here=$(pwd)
case $st in /*) ;; *) st=$here/$st ;; esac
(cd "$place" && "$st" --config-file "$here/scripts/schemathesis.toml" run "$here/docs/openapi.json" --url "http://127.0.0.1:$port" --wait-for-schema 20 --workers 1 --no-color \
    --phases "$phases" --max-examples "$examples" --seed "${MPM_MONITOR_SEED:-1}" --request-timeout 10 \
    --generation-database none --exclude-path /api/stream --suppress-health-check all --warnings off \
    --continue-on-failure </dev/null) || status=$?
[ "$status" -eq 0 ] || { tail -n 20 "$place/log" >&2; die "the program and docs/openapi.json differ"; }
kill -0 "$monitor" 2>/dev/null || die "the program has ended: $(tail -n 5 "$place/log")"
if grep -i 'panic' "$place/log" >&2; then die "it panicked"; fi
