#!/bin/sh
# Checks on a real Mac what tests on Linux cannot: installs mpm-monitor as an agent of this user on a port of its own, asks launchctl
# and curl about each promise, prints PASS or FAIL for each, and cleans up. docs/macos.md says what it is for.
#
#   launchd/verify-on-mac.sh [--socket] PROGRAM
#
# PROGRAM is the binary to check; a copy of it is installed, outside of the build tree. Exit code 0 when all passed.
set -u
port=${VERIFY_PORT:-8799}
label=mpm-monitor.$port
home=$HOME/.mpm-monitor-verify
monitor=$home/mpm-monitor
plist=$HOME/Library/LaunchAgents/$label.plist
logs=$HOME/Library/Logs/mpm-monitor
url=http://127.0.0.1:$port
failures=0
socket=

if [ "${1-}" = --socket ]; then
    socket=--socket
    shift
fi
if [ $# -ne 1 ] || ! [ -x "$1" ]; then
    echo "usage: $0 [--socket] PROGRAM" >&2
    exit 2
fi
if [ "$(uname -s)" != Darwin ]; then
    echo "this is for a Mac; on Linux the tests in tests/launchd/ do the same against a stand-in" >&2
    exit 2
fi

check() { # check WHAT COMMAND...: whether it succeeds
    what=$1
    shift
    if said=$("$@" 2>&1); then
        echo "PASS  $what"
    else
        echo "FAIL  $what"
        printf '%s\n' "$said" | sed 's/^/      /'
        failures=$((failures + 1))
    fi
}

until_true() { # until_true SECONDS COMMAND...: whether it succeeds in time
    left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}

# Loopback is nobody's proxy, whatever the environment says.
ask() { curl --silent --noproxy '*' --max-time 2 "$@"; }
# What /health says of a field; empty if nobody answers.
health() { ask "$url/health" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }
domain() {
    for domain in "gui/$(id -u)" "user/$(id -u)"; do
        if launchctl print "$domain/$label" >/dev/null 2>&1; then
            echo "$domain"
            return
        fi
    done
}
printed() { launchctl print "$(domain)/$label" | sed -n "s/^	$1 = //p" | head -1; }
loaded() { [ -n "$(domain)" ]; }
gone() { ! loaded; }
other() { now=$(health instance_id) && [ -n "$now" ] && [ "$now" != "$1" ] && [ "$(health ready)" = true ]; }
same_pid() { [ -n "$(health pid)" ] && [ "$(health pid)" = "$(printed pid)" ]; }
runs_more_than() { [ "$(printed runs)" -gt "$1" ]; }
not_running() { [ "$(printed state)" != running ]; }
refused() { ! ask "$url/health" >/dev/null; }
exit_code() { # exit_code NUMBER COMMAND...
    wanted=$1
    shift
    "$@" >/dev/null 2>&1
    [ $? -eq "$wanted" ]
}
says() { # says WORDS COMMAND...
    words=$1
    shift
    "$@" 2>&1 | tr -s ' \n' ' ' | grep -q -- "$words"
}
not() { ! "$@"; }
# 300 connections at once: under launchd's own limit of 256 the last ones would not be answered.
many_connections() {
    readers=
    for _ in $(seq 300); do
        sleep 8 | nc 127.0.0.1 "$port" >/dev/null 2>&1 &
        readers="$readers $!"
    done
    sleep 3
    answered=1
    ask "$url/health" >/dev/null && answered=0
    # shellcheck disable=SC2086 # a list of numbers
    kill $readers 2>/dev/null
    wait
    return $answered
}
no_files() {
    ! [ -e "$plist" ] && ! [ -e "$logs/$port.log" ] && ! [ -e "$HOME/Library/Application Support/mpm-monitor/$port" ]
}

# shellcheck disable=SC2317 # called by the trap
clean_up() {
    "$monitor" uninstall --user --port "$port" --purge >/dev/null 2>&1
    for each in "gui/$(id -u)" "user/$(id -u)"; do launchctl bootout "$each/$label" >/dev/null 2>&1; done
    rm -f "$plist"
    rm -rf "$home"
}
if loaded || [ -e "$plist" ]; then
    echo "$label is there already; remove it first (mpm-monitor uninstall --port $port)" >&2
    exit 2
fi
trap clean_up EXIT
trap 'exit 1' INT TERM

sw_vers
uname -m
mkdir -p "$home"
# A new file by rename: a Mac kills what was written over in place.
cp "$1" "$home/new" && mv "$home/new" "$monitor"
check "the program starts" "$monitor" --version

check "install proves readiness" "$monitor" install --user --port "$port" $socket
check "plutil has nothing to complain about" plutil -lint "$plist"
check "launchd loaded it" loaded
check "launchd says it runs" [ "$(printed state)" = running ]
check "the process that launchd names is the one that answers" same_pid
check "it knows that launchd runs it" grep -q 'managed_by=Launchd' "$logs/$port.log"
check "the exit timeout is ours" [ "$(printed 'exit timeout')" = 15 ]
check "the minimum runtime is ours" [ "$(printed 'minimum runtime')" = 10 ]
check "a second install has nothing to do" says "nothing to do" "$monitor" install --user --port "$port" $socket
check "status says so, with exit code 0" exit_code 0 "$monitor" status --user --port "$port"
check "an event is taken" [ "$(ask -o /dev/null -w '%{http_code}' -d '{}' "$url/api/events")" = 204 ]
check "list has it" says "$port" "$monitor" list
check "logs finds the log" says "ready: serving" "$monitor" logs --user --port "$port"

before=$(health instance_id)
check "restart proves another process" "$monitor" restart --user --port "$port"
check "and it is another" other "$before"
check "reload is taken" says "configuration read 2 times" "$monitor" reload --user --port "$port"

before=$(health instance_id) runs=$(printed runs)
kill -KILL "$(health pid)"
check "after kill -9 launchd starts it again" until_true 20 other "$before"
check "and counts it" runs_more_than "$runs"
check "the process that launchd names is the one that answers, again" same_pid

before=$(health instance_id)
launchctl kill SIGTERM "$(domain)/$label"
check "a clean end stays ended" until_true 10 not_running
sleep 12
check "beyond the throttle interval, too" not_running
check "start brings it back" "$monitor" start --user --port "$port"
check "as another process" other "$before"

check "stop ends it" "$monitor" stop --user --port "$port"
check "and the label is free" gone
check "nobody answers" refused
check "status says so, with exit code 3" exit_code 3 "$monitor" status --user --port "$port"
launchctl disable "gui/$(id -u)/$label" 2>/dev/null
check "start enables what was disabled" "$monitor" start --user --port "$port"

# A port that is taken is a reason, not a loop.
"$monitor" stop --user --port "$port" >/dev/null
# -k: it stays when the connection ends that asks who it is.
nc -lk 127.0.0.1 "$port" >/dev/null 2>&1 &
stranger=$!
sleep 1
if [ -z "$socket" ]; then
    check "a taken port is told by its exit code" exit_code 69 "$monitor" start --user --port "$port"
    runs=$(printed runs)
    sleep 12
    check "and is not tried again" [ "$(printed runs)" = "$runs" ]
    check "status tells the reason" says "gave up" "$monitor" status --user --port "$port"
fi
kill $stranger 2>/dev/null
wait $stranger 2>/dev/null
check "start works once it is free" "$monitor" start --user --port "$port"

# A program that is signed ad hoc is pinned when its job is loaded, and another one in its place is killed.
# A byte more is another file, and signing it again makes it another program.
cp "$monitor" "$home/new" && codesign --force --sign - --identifier "mpm-monitor.verify.$$" "$home/new" 2>/dev/null
mv "$home/new" "$monitor"
before=$(health instance_id) began=$(date +%s)
check "restart after a replacement proves another process" "$monitor" restart --user --port "$port"
check "within five seconds" [ $(($(date +%s) - began)) -le 5 ]
check "and it is another" other "$before"
check "macOS ended nothing for its signature" not says OS_REASON_CODESIGNING launchctl print "$(domain)/$label"
before=$(health instance_id)
kill -KILL "$(health pid)"
check "after a crash launchd starts the replaced program, too" until_true 20 other "$before"

# Somebody who listens on every address has the port, also on macOS.
if [ -z "$socket" ]; then
    "$monitor" stop --user --port "$port" >/dev/null
    nc -lk 0.0.0.0 "$port" >/dev/null 2>&1 &
    stranger=$!
    sleep 1
    check "a port that somebody has on every address is taken" exit_code 69 "$monitor" start --user --port "$port"
    kill $stranger 2>/dev/null
    wait $stranger 2>/dev/null
    check "start works once it is free again" "$monitor" start --user --port "$port"
fi

# Stopped in the middle of it, it does not end when it is told to: launchd kills it after ExitTimeOut.
pid=$(health pid) began=$(date +%s)
kill -STOP "$pid"
check "stop of a process that does not answer ends" "$monitor" stop --user --port "$port"
took=$(($(date +%s) - began))
check "after ExitTimeOut ($took s)" [ $took -ge 14 ]
check "and soon after" [ $took -le 25 ]

# The directory of the log has to be there, or launchd starts nothing.
mv "$logs" "$logs.away"
check "start without the log's directory fails" not "$monitor" start --user --port "$port" --timeout 5s
check "and doctor says why" says "log-readable" "$monitor" doctor --user --port "$port"
rm -rf "$logs"
mv "$logs.away" "$logs"
check "start works once it is there" "$monitor" start --user --port "$port"

check "it may have more than 256 descriptors open" many_connections

if [ -n "$socket" ]; then
    # launchd holds the sockets: a connection during a restart waits, and is served.
    "$monitor" restart --user --port "$port" >/dev/null &
    refusals=0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ask --max-time 20 "$url/health" >/dev/null || refusals=$((refusals + 1))
    done
    wait
    check "no connection was refused during a restart" [ $refusals -eq 0 ]
fi

check "uninstall removes it" "$monitor" uninstall --user --port "$port" --purge
check "launchd has forgotten it" gone
check "and no file is left" no_files
echo
if [ $failures -eq 0 ]; then
    echo "all passed"
else
    echo "$failures failed; please send these lines with an issue"
    exit 1
fi
