#!/bin/sh
# What 20 clients that stop reading cost the 100 others: the delivery times of these at 200 events a second, with and
# without the 20, in turns; prints the medians over the rounds and their ratio as FIGURE lines. The aim is 1.5.
#
#   benches/stalled.sh                    three rounds of ten seconds each way: a minute and a half
#   benches/stalled.sh --program FILE     that program, in place of building one
#   benches/stalled.sh --seconds 20 --rounds 5
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

seconds=10 rounds=3 program='' port=18866
while [ $# -gt 0 ]; do
    case $1 in
    --program) program=$(realpath "${2:?--program needs a file}") && shift ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift ;;
    --rounds) rounds=${2:?--rounds needs a number} && shift ;;
    *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" | sed '$d' >&2 && exit 2 ;;
    esac
    shift
done
[ "$(uname -s)" = Linux ] || die "the generator needs Linux (epoll)"
for tool in cargo curl python3 taskset; do have $tool || die "this needs $tool"; done
[ "$(nproc)" -ge 2 ] || die "this needs two processors, one for the server and one for the generator"

target=$(target_dir)
case $target in /*) ;; *) target=$(pwd)/$target ;; esac
cargo build --release --locked --quiet --manifest-path benches/loadgen/Cargo.toml --target-dir "$target/benches"
if [ -z "$program" ]; then
    cargo build --profile dist --locked --quiet
    program=$target/dist/mpm-monitor
fi
scratch=$(mktemp -d)
server=''
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    [ -z "$server" ] || wait "$server" 2>/dev/null || :
    server=''
}
trap 'finish; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
export HOME="$scratch" MPM_MONITOR_STATE_DIR="$scratch/state" MPM_MONITOR_RUNTIME_DIR="$scratch/run"

measure() { # measure STALLED: one line of JSON
    rm -rf "$scratch/state" "$scratch/run"
    taskset -c 0 "$program" run --port "$port" --set server.max_clients=200 >/dev/null 2>&1 &
    server=$!
    tries=0
    until curl -fs -o /dev/null "http://127.0.0.1:$port/health"; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || die "the monitor did not start on port $port"
        sleep 0.05
    done
    # A second and a half of warm-up fills the buffers of those that stall; their deadline of 10 s falls into the time
    # that is measured, so that being cut off is measured as well.
    timeout $((seconds + 60)) taskset -c 1 "$target/benches/release/loadgen" --url "http://127.0.0.1:$port" \
        --server-pid "$server" --clients 100 --slow "$1" --rate 200 --payload-bytes 2048 --warmup 1.5 --duration "$seconds"
    finish
}

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    say "round $round of $rounds"
    measure 0 >>"$scratch/without"
    measure 20 >>"$scratch/with"
done
python3 - "$scratch/without" "$scratch/with" <<'EOF'
import json
import statistics
import sys

without, stalled = ([json.loads(line) for line in open(name)] for name in sys.argv[1:])
for runs, name in ((without, "healthy_alone"), (stalled, "healthy_beside_20_stalled")):
    for quantile in ("p50", "p99"):
        print(f"FIGURE {name}_{quantile} {statistics.median(run['lat_ms'][quantile] for run in runs):.3f} ms")
    print(f"FIGURE {name}_lost {sum(run['lost'] for run in runs)} of {sum(run['deliveries'] for run in runs)} deliveries")
p99 = [statistics.median(run["lat_ms"]["p99"] for run in runs) for runs in (stalled, without)]
print(f"FIGURE stalled_p99_ratio {p99[0] / p99[1]:.2f} (aim: 1.5 at most)")
print(f"FIGURE stalled_still_connected {stalled[-1]['slow_still_connected']} of 20 at the end")
EOF
