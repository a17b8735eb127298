#!/bin/sh
# Fuzzes every parser with libFuzzer, one after the other, and prints for each how many inputs it tried and how fast.
# What must hold is in tests/formats/parsers/properties.rs. A crash ends it, and its input is in fuzz/artifacts/.
#
#   scripts/fuzz.sh                 60 seconds each: a quarter of an hour
#   scripts/fuzz.sh 10              10 seconds each
#   scripts/fuzz.sh 600 websocket   only that one
#
# What was found before is in fuzz/corpus/ (not in git), what it begins with in fuzz/seeds/.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

seconds=${1:-60}
[ $# -gt 0 ] && shift
case $seconds in *[!0-9]*) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" | sed '$d' >&2 && exit 2 ;; esac
scripts/setup.sh fuzz
# shellcheck disable=SC2046 # a list of names
[ $# -gt 0 ] || set -- $(cargo fuzz list)

# The coverage that libFuzzer steers by needs compiler flags that stable Rust keeps for itself; nothing else does, and
# memory is looked after by the language (crates/daemon/src/sys.rs has the only unsafe code, and no parser in it).
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
run() { # run TARGET: what was built, so that an edit in between does not make the rest wait for the compiler
    mkdir -p "fuzz/corpus/$1" "fuzz/artifacts/$1"
    "fuzz/target/$host/release/$1" "fuzz/corpus/$1" "fuzz/seeds/$1" -artifact_prefix="fuzz/artifacts/$1/" \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
}

say "building"
cargo fuzz build --sanitizer none --release --debug-assertions >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in "$@"; do
    if ! run "$target" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "$target found a crash"
    fi
    awk -v target="$target" '
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { rate = $2 }
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") coverage = $(i + 1) }
        END { printf "FIGURE fuzz_%s %d inputs, %d a second, %d edges, no crash\n", target, runs, rate, coverage }' "$log"
done
