#!/bin/sh
# The long versions of what the test suite does briefly, against the program as it ships, and the numbers they print:
# 200 kills with and without durable writes, 200 in every phase of a life, 1000 starts, 10 000 clients, 20 of 120 clients
# stalled, hostile peers, a hundred ways to break a machine that the doctor must name, and ten minutes of partitions and kills
# among three nodes on a bus. About half an hour.
#
#   scripts/soak.sh                                    everything
#   scripts/soak.sh --fast                             with the short counts: about two minutes
#   scripts/soak.sh --hour                             an hour of mixed load beside an hour of kills, and nothing else
#   MPM_MONITOR_SOAK_SECONDS=600 scripts/soak.sh --hour    ten minutes of it
#   MPM_MONITOR_KILL_ROUNDS=2000 scripts/soak.sh       other counts; also MPM_MONITOR_IDLE_CLIENTS, MPM_MONITOR_BUS_SECONDS
#   MPM_MONITOR_KILL_SEED=4711 scripts/soak.sh         the random moments of an earlier run, which it printed;
#                                                      also MPM_MONITOR_BUS_SEED
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

tests='binary(stress) | binary(bus) | test(killed_in_every_phase) | test(pain_6_no_ready) | test(doctor_names)'
case ${1-} in
'')
    export MPM_MONITOR_PHASE_KILLS="${MPM_MONITOR_PHASE_KILLS:-200}"
    export MPM_MONITOR_READY_STARTS="${MPM_MONITOR_READY_STARTS:-1000}"
    export MPM_MONITOR_KILL_ROUNDS="${MPM_MONITOR_KILL_ROUNDS:-200}"
    export MPM_MONITOR_IDLE_CLIENTS="${MPM_MONITOR_IDLE_CLIENTS:-10000}"
    export MPM_MONITOR_SABOTAGES="${MPM_MONITOR_SABOTAGES:-all}"
    export MPM_MONITOR_BUS_SECONDS="${MPM_MONITOR_BUS_SECONDS:-600}" MPM_MONITOR_BUS_RATE_SECONDS=30
    ;;
--fast) ;;
--hour)
    export MPM_MONITOR_SOAK_SECONDS="${MPM_MONITOR_SOAK_SECONDS:-3600}"
    tests='test(under_mixed_load)'
    ;;
*) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" | sed '$d' >&2 && exit 2 ;;
esac
scripts/setup.sh test
cargo build --profile dist --locked --bin mpm-monitor
case $(target_dir) in /*) built=$(target_dir) ;; *) built=$(pwd)/$(target_dir) ;; esac
export MPM_MONITOR_BIN="$built/dist/mpm-monitor" MPM_MONITOR_TESTS_MUST_RUN=1
# shellcheck disable=SC3045 # dash, bash and busybox have it
ulimit -n 30000 2>/dev/null || ulimit -n "$(ulimit -H -n)"

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
status=0
cargo nextest run --locked --profile soak --success-output immediate -E "$tests" \
    >"$lines" 2>&1 || status=$?
sed -n 's/^ *\(FIGURE .*\)/\1/p' "$lines"
[ "$status" -eq 0 ] || { tail -n 80 "$lines" >&2 && die "a test failed"; }
sed -n 's/^ *Summary/== Summary/p' "$lines"
[ "${1-}" = --hour ] || [ "$(uname -s)" != Linux ] || [ "$(nproc)" -lt 2 ] || benches/stalled.sh --program "$MPM_MONITOR_BIN"
