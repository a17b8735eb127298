#!/bin/sh
# Installs what the tests need and runs them all; arguments choose tests, as `cargo nextest run` takes them.
#
# The tests of the service boot throw-away systemds in namespaces of their own. Where that cannot be (no root and no
# sudo without a password, a container without privileges, a Mac) they pass, and a line for each that begins with "SKIP:"
# ends the output; with MPM_MONITOR_TESTS_MUST_RUN=1 they fail instead.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

scripts/setup.sh test
if [ $# -eq 0 ]; then
    cargo test --locked --quiet --doc
fi
# Most tests wait more than they compute. Those that measure have the machine to themselves (.config/nextest.toml).
export NEXTEST_TEST_THREADS="${NEXTEST_TEST_THREADS:-$((2 * $(getconf _NPROCESSORS_ONLN)))}"
skipped=$(mktemp)
trap 'rm -f "$skipped"' EXIT
status=0
MPM_MONITOR_TESTS_SKIPPED="$skipped" cargo nextest run --locked "$@" || status=$?
if [ -s "$skipped" ]; then
    sort -u "$skipped"
    say "$(sort -u "$skipped" | grep -c .) tests were skipped; MPM_MONITOR_TESTS_MUST_RUN=1 makes that a failure"
fi
exit "$status"
