#!/bin/sh
# Builds mpm-monitor and serves in the foreground, with the settings it has of itself; arguments go to `mpm-monitor run`.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

scripts/setup.sh build
say "building (some minutes the first time)"
cargo build --release --locked --bin mpm-monitor
say "serving; Ctrl-C ends it, '$(target_dir)/release/mpm-monitor --help' tells what else it does"
exec "$(target_dir)/release/mpm-monitor" run "$@"
