#!/usr/bin/env bash
# Start to exit of a hook: ours, Claude MPM's in bash and in Python (5.9.10), in one run, with the monitor up and with none.
# Needs target/dist/mpm-monitor and what `scripts/setup.sh test` installs. Prints the table of docs/performance.md.
#   benches/hooks.sh [RUNS]      RUNS of ours and the one in bash (200); the one in Python a tenth of them
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-200}
target=${CARGO_TARGET_DIR:-$PWD/target}
program=${MPM_MONITOR_BIN:-$target/dist/mpm-monitor}
[ -x "$program" ] || { echo "no $program; cargo build --profile dist" >&2; exit 1; }
[ -e "$target/test-claude-mpm/.installed" ] || { echo "no Claude MPM; scripts/setup.sh test" >&2; exit 1; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# A network of its own, as the hooks of Claude MPM know port 8765 of localhost only.
exec 3>&1
unshare --net bash -c '
  ip link set lo up
  exec "$1" benches/hooks.py "$2" "$3" "$4" "$5"
' bash "$target/test-claude-mpm/bin/python3" "$program" "$target/test-claude-mpm" "$place" "$runs"
