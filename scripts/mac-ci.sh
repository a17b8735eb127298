#!/bin/sh
# What the macOS workflow runs beyond the tests, one part for each word. Some parts need root through sudo, make an account,
# switch on remote login and use Homebrew: they are for a machine that is thrown away afterwards.
#
#   scripts/mac-ci.sh facts      what kind of Mac this is, and what its launchd says
#   scripts/mac-ci.sh program    what the program links to, how it is signed, what it imports
#   scripts/mac-ci.sh scripts    the scripts under the system's own shells, the property lists under plutil
#   scripts/mac-ci.sh users      another user is refused, by the kernel's word (makes an account)
#   scripts/mac-ci.sh daemon     a daemon of the machine: its limits, files, account and removal (as root)
#   scripts/mac-ci.sh ssh        an agent that was installed over SSH (switches remote login on)
#   scripts/mac-ci.sh homebrew   the formula in a tap of its own: style, audit, install, test, services
#   scripts/mac-ci.sh always     crash reports and launchd's log, for whoever reads a failed run
set -eu
cd "$(dirname "$0")/.."
program=$PWD/target/dist/mpm-monitor
# Where others can run it: not below this user's home.
copy=/usr/local/bin/mpm-monitor
port=8797

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'FAIL  %s\n' "$*" >&2
    exit 1
}
ask() { curl --silent --noproxy '*' --max-time 5 "$@"; }
status_of() { ask -o /dev/null -w '%{http_code}' "$@"; }
until_ready() { # until_ready PORT
    for _ in $(seq 50); do
        [ "$(status_of "http://127.0.0.1:$1/ready")" != 200 ] || return 0
        sleep 0.2
    done
    die "nobody answers as ready on port $1"
}
put() { # put: the program where everybody can run it, by rename
    sudo mkdir -p /usr/local/bin
    sudo cp "$program" $copy.new
    sudo chown root:wheel $copy.new
    sudo chmod 755 $copy.new
    sudo mv $copy.new $copy
}

facts() {
    sw_vers
    uname -a
    launchctl managername
    csrutil status
    for domain in system "gui/$(id -u)" "user/$(id -u)"; do
        say "launchctl print $domain"
        launchctl print "$domain" 2>&1 | head -20 || true
    done
    say "what the exit codes are called"
    for code in 1 3 5 36 37 64 78 112 113 119 122 125 134; do launchctl error $code || true; done
    say "limits"
    sysctl kern.maxfiles kern.maxfilesperproc kern.bootsessionuuid
    launchctl limit
    /bin/bash -c 'ulimit -a'
}

program() {
    otool -L "$program"
    if otool -L "$program" | grep -q '\.framework/'; then die "it links to a framework"; fi
    codesign --verify --verbose=4 "$program"
    codesign --display --verbose=4 "$program"
    nm -u "$program" | grep -q launch_activate_socket || die "launch_activate_socket is not imported"
    file "$program"
    ls -l "$program"
}

scripts() {
    for file in scripts/*.sh launchd/*.sh packaging/homebrew/*.sh; do
        # The system's bash is 3.2, and each script says which shell it is for.
        /bin/bash -n "$file"
        /bin/sh -n "$file"
    done
    plutil -lint launchd/*/*.plist packaging/homebrew/golden/*.plist
}

users() {
    other=mpmother
    put
    sudo sysadminctl -addUser $other -password "$(uuidgen)" >/dev/null 2>&1
    home=$(mktemp -d)
    mkdir "$home/files"
    echo ours >"$home/files/ours.txt"
    MPM_MONITOR_STATE_DIR=$home/state MPM_MONITOR_RUNTIME_DIR=$home/run \
        $copy run --port $port --set "files.roots=$home/files" &
    daemon=$!
    trap 'kill $daemon 2>/dev/null; sudo sysadminctl -deleteUser $other >/dev/null 2>&1' EXIT
    until_ready $port
    url="http://127.0.0.1:$port/api/file/read?path=$home/files/ours.txt"
    said=$(status_of "$url")
    [ "$said" = 200 ] || die "its own user is answered with $said"
    said=$(sudo -u $other curl --silent --noproxy '*' -o /dev/null -w '%{http_code}' "$url")
    [ "$said" = 403 ] || die "another user is answered with $said"
    echo "PASS  another user is refused"
}

daemon() {
    put
    before=$(sysctl -n kern.maxfiles)
    sudo $copy install --system --port $port
    pid=$(ask http://127.0.0.1:$port/health | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
    owner=$(ps -o user= -p "$pid" | tr -d ' ')
    [ "$owner" = "$(id -un)" ] || die "it runs as $owner"
    [ "$(sysctl -n kern.maxfiles)" = "$before" ] || die "kern.maxfiles is another now"
    ls -l /Library/Logs/mpm-monitor /Library/LaunchDaemons/mpm-monitor.$port.plist
    sudo plutil -lint /Library/LaunchDaemons/mpm-monitor.$port.plist
    sudo $copy restart --system --port $port
    sudo $copy doctor --system --port $port || true
    sudo $copy uninstall --system --port $port --purge
    for left in /Library/LaunchDaemons/mpm-monitor.$port.plist "/Library/Application Support/mpm-monitor/$port" \
        /Library/Logs/mpm-monitor/$port.log; do
        [ ! -e "$left" ] || die "$left is left"
    done
    echo "PASS  a daemon of the machine"
}

ssh() {
    put
    sudo systemsetup -setremotelogin on >/dev/null || sudo launchctl load -w /System/Library/LaunchDaemons/ssh.plist
    mkdir -p ~/.ssh
    [ -e ~/.ssh/mpm-ci ] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/mpm-ci
    cat ~/.ssh/mpm-ci.pub >>~/.ssh/authorized_keys
    chmod 700 ~/.ssh
    chmod 600 ~/.ssh/authorized_keys
    over() { command ssh -i ~/.ssh/mpm-ci -o StrictHostKeyChecking=accept-new -o BatchMode=yes localhost "$@"; }
    over launchctl managername
    over $copy install --user --port $port
    over $copy status --user --port $port
    # Whichever domain it is in, it is one and the same for every verb, also from here.
    $copy restart --user --port $port
    over $copy uninstall --user --port $port --purge
    echo "PASS  an agent over SSH"
}

homebrew() {
    tap=$(brew --repository)/Library/Taps/mpm/homebrew-ci
    tarball=$(mktemp -d)/mpm-monitor-ci.tar.gz
    git archive --prefix=mpm-monitor-ci/ --output "$tarball" HEAD
    [ -d "$tap" ] || brew tap-new --no-git mpm/ci
    packaging/homebrew/render.sh https://example.invalid/mpm-monitor "file://$tarball" "$tarball" >"$tap/Formula/mpm-monitor.rb"
    brew style mpm/ci/mpm-monitor
    brew audit --formula mpm/ci/mpm-monitor
    brew install --build-from-source mpm/ci/mpm-monitor
    brew test mpm/ci/mpm-monitor
    brew services start mpm/ci/mpm-monitor
    until_ready 8765
    golden=packaging/homebrew/golden/homebrew.mxcl.mpm-monitor.plist
    # Homebrew calls the label one way or the other, and its prefix is another one on Intel.
    installed=$(ls ~/Library/LaunchAgents/*mpm-monitor.plist)
    sed "s|/opt/homebrew|$(brew --prefix)|g" $golden >"$tarball.golden"
    diff "$tarball.golden" "$installed" || echo "NOTE  Homebrew writes another property list than the golden one"
    brew services stop mpm/ci/mpm-monitor
    brew uninstall mpm/ci/mpm-monitor
    echo "PASS  the formula"
}

always() {
    find ~/Library/Logs/DiagnosticReports /Library/Logs/DiagnosticReports -name '*mpm*' -exec head -60 {} + 2>/dev/null || true
    sudo tail -300 /var/log/com.apple.xpc.launchd/launchd.log 2>/dev/null | grep -i mpm || true
    tail -100 ~/Library/Logs/mpm-monitor/*.log 2>/dev/null || true
}

case ${1-} in
facts | program | scripts | users | daemon | ssh | homebrew | always)
    [ "$(uname -s)" = Darwin ] || die "this is for a Mac"
    "$1"
    ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
    ;;
esac
