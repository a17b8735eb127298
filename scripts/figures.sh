#!/bin/sh
# Measures the program as it ships on this machine and writes the numbers into docs/figures.md, between its two marks.
# Takes about five minutes; a machine that does something else at the same time measures that, too.
#
#   scripts/figures.sh             everything
#   scripts/figures.sh --process   without the throw-away systemd, where none can be had
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

scripts/setup.sh test
cargo build --profile dist --locked --bin mpm-monitor
cargo nextest run --locked --no-run
program=$(pwd)/$(target_dir)/dist/mpm-monitor
case $(target_dir) in /*) program=$(target_dir)/dist/mpm-monitor ;; esac
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

say "the process by itself"
python3 scripts/figures.py process "$program" | tee "$lines"
if [ "${1-}" != --process ]; then
    say "the service, on a throw-away systemd"
    # One at a time: these are times.
    MPM_MONITOR_BIN=$program MPM_MONITOR_TESTS_MUST_RUN=1 cargo nextest run --locked --test-threads 1 --test system \
        an_event_reaches_a_client a_stopped_process_is_replaced a_restart_refuses_nobody ready_is_never_a_lie \
        --success-output immediate 2>&1 | sed -n 's/^ *\(FIGURE .*\)/\1/p' | tee -a "$lines"
fi
if [ "$(nproc)" -ge 2 ]; then
    say "clients that stop reading"
    benches/stalled.sh --program "$program" | tee -a "$lines"
fi
python3 scripts/figures.py table "$lines" docs/figures.md
say "docs/figures.md is written"
