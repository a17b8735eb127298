#!/bin/sh
# Stands in for launchctl: hands its words to the launchd of a test (mod.rs beside this file), prints what that answers.
set -eu
state=${0%/bin/launchctl}
call=$(mktemp -d "$state/calls/XXXXXXXX")
for word; do printf '%s\n' "$word"; done >"$call/words"
mkfifo "$call/code"
printf '%s\n' "$call" >"$state/requests"
read -r code <"$call/code"
cat "$call/out"
cat "$call/err" >&2
rm -rf "$call"
exit "$code"
