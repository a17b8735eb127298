#!/bin/sh
# Runs the monitor and its peers side by side under the same load and prints what each did, the ratios and the aims.
#
#   benches/run.sh                     about 20 s for each measurement, three rounds: more than an hour
#   benches/run.sh --quick             3 s each, one round: about five minutes
#   benches/run.sh --peers ours,raw    only these; all: ours,raw,socketioxide,node,python,claude-mpm
#   benches/run.sh --seconds 5 --rounds 2
#   benches/run.sh --program FILE      that program as ours, in place of building one
#
# The server gets processor 0 and the generator processor 1; peers take turns within a round, so that a noisy minute
# falls on all of them. Everything is on loopback, bounded in number and time; what is started here is stopped here.
# What peers need goes into target/ (a venv, node_modules, cargo); POST/s is measured with wrk where it is installed.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

seconds=20 rounds=3 peers=ours,raw,socketioxide,node,python,claude-mpm program='' port=18865 starts=7
while [ $# -gt 0 ]; do
    case $1 in
    --quick) seconds=3 rounds=1 ;;
    --peers) peers=${2:?--peers needs a list} && shift ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift ;;
    --rounds) rounds=${2:?--rounds needs a number} && shift ;;
    --program) program=$(realpath "${2:?--program needs a file}") && shift ;;
    --port) port=${2:?--port needs a number} && shift ;;
    *) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" | sed '$d' >&2 && exit 2 ;;
    esac
    shift
done
peers=$(printf '%s' "$peers" | tr ',' ' ')
for peer in $peers; do
    case $peer in ours | raw | socketioxide | node | python | claude-mpm) ;; *) die "there is no peer $peer" ;; esac
done
[ "$(uname -s)" = Linux ] || die "the generator needs Linux (epoll)"
for tool in cargo curl python3 ss taskset; do have $tool || die "this needs $tool"; done
[ "$(nproc)" -ge 2 ] || die "this needs two processors, one for the server and one for the generator"
# shellcheck disable=SC3045 # dash, bash and busybox have it
ulimit -n 20000 2>/dev/null || ulimit -n "$(ulimit -H -n)"

target=$(target_dir)
case $target in /*) ;; *) target=$(pwd)/$target ;; esac
built=$target/benches
mkdir -p "$built"
here=$(pwd)/benches

# --- what it takes -------------------------------------------------------------------------------------------------

crate() { cargo build --release --locked --quiet --manifest-path "benches/$1/Cargo.toml" --target-dir "$built"; }

venv() { # venv NAME: one for each Python peer, made again when its requirements change
    wanted=$(cksum <"benches/peers/$1/requirements.txt")
    [ "$(cat "$built/$1/.installed" 2>/dev/null)" = "$wanted" ] && return 0
    say "installing benches/peers/$1/requirements.txt"
    rm -rf "${built:?}/$1"
    python3 -m venv "$built/$1"
    "$built/$1/bin/python3" -m pip install --quiet --disable-pip-version-check -r "benches/peers/$1/requirements.txt" </dev/null
    printf '%s\n' "$wanted" >"$built/$1/.installed"
}

node_modules() {
    wanted=$(cat benches/peers/node/* | cksum)
    [ "$(cat "$built/node/.installed" 2>/dev/null)" = "$wanted" ] && return 0
    say "installing benches/peers/node"
    rm -rf "$built/node"
    mkdir -p "$built/node"
    cp benches/peers/node/* "$built/node"
    (cd "$built/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >/dev/null)
    printf '%s\n' "$wanted" >"$built/node/.installed"
}

say "building"
crate loadgen
for peer in $peers; do
    case $peer in
    ours)
        if [ -z "$program" ]; then
            cargo build --profile dist --locked --quiet --bin mpm-monitor
            program=$target/dist/mpm-monitor
        fi
        ;;
    socketioxide) crate peers/socketioxide ;;
    node) have npm || die "the peer node needs Node" && node_modules ;;
    python) venv python ;;
    claude-mpm) venv claude_mpm ;;
    esac
done

# --- servers -------------------------------------------------------------------------------------------------------

scratch=$(mktemp -d)
server='' subscribers=''
results=$built/results.tsv
: >"$results"

stop() { # stop PID: politely, then not
    [ -n "$1" ] && kill "$1" 2>/dev/null || return 0
    tries=0
    while kill -0 "$1" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -eq 50 ]; then kill -9 "$1" 2>/dev/null || :; fi
        [ $tries -lt 100 ] || break
        sleep 0.1
    done
    wait "$1" 2>/dev/null || :
}
finish() {
    stop "$subscribers"
    stop "$server"
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The peers write into their home, too; none of it is the user's. No `env` in between: it would count as start time.
HOME=$scratch/home
MPM_MONITOR_STATE_DIR=$scratch/state
MPM_MONITOR_RUNTIME_DIR=$scratch/run
unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_RUNTIME_DIR
export HOME MPM_MONITOR_STATE_DIR MPM_MONITOR_RUNTIME_DIR

with() { # with PEER COMMAND...: COMMAND with the peer's command line behind it
    with=$1
    shift
    rm -rf "${scratch:?}/home" "$scratch/state" "$scratch/run"
    mkdir -p "$scratch/home"
    case $with in
    ours)
        "$@" "$program" run --port "$port" --set server.max_clients=2000 --set server.max_connections=4000
        ;;
    socketioxide) "$@" "$built/release/peer-socketioxide" "$port" ;;
    node) "$@" node "$built/node/server.js" "$port" ;;
    python) "$@" "$built/python/bin/python3" "$here/peers/python/server.py" "$port" ;;
    claude-mpm) "$@" "$built/claude_mpm/bin/python3" "$here/peers/claude_mpm/server.py" "$port" ;;
    esac
}

start() {
    (cd "$scratch" && with "$1" exec taskset -c 0) >/dev/null 2>&1 &
    server=$!
    tries=0
    until curl -fs -o /dev/null "http://127.0.0.1:$port/health"; do
        tries=$((tries + 1))
        if [ $tries -eq 200 ] || ! kill -0 "$server" 2>/dev/null; then die "$1 did not start on port $port"; fi
        sleep 0.1
    done
}

# --- measurements --------------------------------------------------------------------------------------------------

record() { # record PEER WHAT ROUND, the JSON on standard input
    line=$(cat)
    [ -n "$line" ] || die "no figures for $2 of $1"
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$line" >>"$results"
}
generate() {
    timeout $((seconds + 120)) taskset -c 1 "$built/release/loadgen" --url "http://127.0.0.1:$port" \
        --server-pid "$server" --duration "$seconds" --publishers 32 "$@"
}
# Ticks of processor time that the server used; its name, which may hold blanks, is cut off first.
ticks() { sed 's/.*) //' "/proc/$server/stat" | awk '{ print $12 + $13 }'; }

posts() { # posts SUBSCRIBERS
    if ! have wrk; then
        generate --clients "$1" --rate 0
        return
    fi
    if [ "$1" -gt 0 ]; then
        taskset -c 1 "$built/release/loadgen" --url "http://127.0.0.1:$port" --clients "$1" --idle \
            --duration $((seconds + 3)) >"$scratch/subscribers" &
        subscribers=$!
        tries=0
        until [ "$(ss -Htn state established "sport = :$port" 2>/dev/null | wc -l)" -ge "$1" ]; do
            tries=$((tries + 1))
            [ $tries -lt 100 ] || die "the subscribers did not connect"
            sleep 0.1
        done
    fi
    before=$(ticks)
    timeout $((seconds + 60)) taskset -c 1 wrk -t1 -c32 -d"${seconds}s" -s "$here/post.lua" \
        "http://127.0.0.1:$port/api/events" >"$scratch/wrk"
    after=$(ticks)
    awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" '
        /Requests\/sec/ { rate = $2 }
        /requests in/ { n = $1 }
        /Non-2xx/ { bad = $NF }
        END {
            printf "{\"mode\":\"wrk\",\"acked_per_s\":%.0f,\"refused\":%d,\"acked_per_cpu_s\":%.0f}\n",
                rate, bad, ticks ? n / (ticks / hz) : 0
        }' "$scratch/wrk"
    stop "$subscribers"
    subscribers=''
}

measure() { # measure PEER WHAT
    case $2 in
    coldstart)
        (cd "$scratch" && with "$1" taskset -c 1 "$built/release/coldstart" --address "127.0.0.1:$port" \
            --cpu 0 --times $starts --)
        return
        ;;
    esac
    start "$1"
    case $2 in
    idle) generate --clients 500 --idle ;;
    rate) generate --clients 500 --rate 200 ;;
    sat50) generate --clients 50 --rate 0 ;;
    sat500) generate --clients 500 --rate 0 ;;
    post0) posts 0 ;;
    post50) posts 50 ;;
    esac >"$scratch/figures"
    stop "$server"
    server=''
    cat "$scratch/figures"
}

raw() { "$built/release/rawlimit" --sockets 500 --seconds "$seconds" --writer-cpu 0 --reader-cpu 1 "$@"; }

round=1
while [ "$round" -le "$rounds" ]; do
    for what in coldstart idle rate sat50 sat500 post0 post50; do
        for peer in $peers; do
            say "round $round, $what, $peer"
            case $peer,$what in
            raw,rate) raw --frames 1 --rate 200 ;;
            raw,sat500) raw --frames 16 ;;
            raw,*) continue ;;
            *) measure "$peer" "$what" ;;
            esac >"$scratch/line"
            record "$peer" "$what" "$round" <"$scratch/line"
        done
    done
    round=$((round + 1))
done
say "the figures as they came: $results"
python3 benches/report.py "$results"
