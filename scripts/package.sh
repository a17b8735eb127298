#!/bin/sh
# Makes the packages, into target/packages/.
#
#   scripts/package.sh deb|rpm|all [--binary PATH] [--version VERSION] [--out DIR] [--fast]
#
#   --binary PATH    packs this program in place of one built from this tree
#   --version V      calls it that, in place of the version in Cargo.toml
#   --out DIR        puts the packages there
#   --fast           compresses little, for tests
#
# The same program and tree give the same bytes: times are those of the last commit, or SOURCE_DATE_EPOCH.
# DEBFULLNAME and DEBEMAIL name the maintainer, HOMEPAGE the home page. Needs debhelper for deb, rpmbuild for rpm (scripts/setup.sh package).
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

what=${1-}
case $what in deb | rpm | all) shift ;; *) usage ;; esac
binary='' out=$(target_dir)/packages fast=''
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
while [ $# -gt 0 ]; do
    case $1 in
    --fast) fast=1 && shift && continue ;;
    --binary | --version | --out) [ $# -ge 2 ] || usage ;;
    *) usage ;;
    esac
    case $1 in
    --binary) binary=$2 ;;
    --version) version=$2 ;;
    --out) out=$2 ;;
    esac
    shift 2
done

if [ -z "$binary" ]; then
    scripts/setup.sh build
    cargo build --locked --profile dist --bin mpm-monitor
    binary=$(target_dir)/dist/mpm-monitor
fi
[ -x "$binary" ] || die "$binary is no program"
binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")
mkdir -p "$out"
out=$(cd "$out" && pwd)
if [ -z "${SOURCE_DATE_EPOCH-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
fi
export SOURCE_DATE_EPOCH
export LC_ALL=C.UTF-8 TZ=UTC
umask 022

maintainer="${DEBFULLNAME:-The mpm-monitor developers} <${DEBEMAIL:-maintainers@mpm-monitor.invalid}>"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

# What every package has in it: the program, and what the program itself writes of its pages, completions and settings.
stage=$work/mpm-monitor-$version
mkdir -p "$stage/completions"
install -m 755 "$binary" "$stage/mpm-monitor"
"$stage/mpm-monitor" man --dir "$stage/man"
"$stage/mpm-monitor" completions bash >"$stage/completions/mpm-monitor"
"$stage/mpm-monitor" completions zsh >"$stage/completions/_mpm-monitor"
"$stage/mpm-monitor" completions fish >"$stage/completions/mpm-monitor.fish"
"$stage/mpm-monitor" config example >"$stage/config.toml"
cp -R systemd README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$stage"
rm -f "$stage/systemd/README.md"

# fill FILE: puts in what only this script knows
fill() {
    MAINTAINER=$maintainer awk '
        $0 == "@INSTANCES@" { while ((getline line < "packaging/instances.sh") > 0) print line; next }
        $0 == "@HOMEPAGE@" { if (ENVIRON["HOMEPAGE"] != "") print "Homepage: " ENVIRON["HOMEPAGE"]; next }
        $0 == "@MIT@" { while ((getline line < "LICENSE-MIT") > 0) if (n++ > 1) print line == "" ? " ." : " " line; next }
        { gsub(/@MAINTAINER@/, ENVIRON["MAINTAINER"]); print }' "$1"
}

deb() {
    have dh || die "this needs debhelper: scripts/setup.sh package"
    cp -R packaging/debian "$stage/debian"
    for file in control copyright postinst prerm; do fill "packaging/debian/$file" >"$stage/debian/$file"; done
    cp systemd/mpm-monitor.sysusers "$stage/debian/mpm-monitor.sysusers"
    cat >"$stage/debian/changelog" <<END
mpm-monitor ($version) unstable; urgency=medium

  * Release $version; what changed is told in changelog.gz.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
    compression=''
    [ -z "$fast" ] || compression='-Zgzip -z1'
    # One package, without another one for its debug symbols.
    (cd "$stage" && MPM_MONITOR_DEB_COMPRESSION=$compression DEB_BUILD_OPTIONS="noautodbgsym ${DEB_BUILD_OPTIONS-}" \
        dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >"$work/log" 2>&1) || {
        cat "$work/log" >&2
        die "dpkg-buildpackage failed"
    }
    rm -rf "$stage/debian"
    for file in "$work"/*.deb; do
        mv "$file" "$out/"
        say "$out/${file##*/}"
    done
}

rpm() {
    have rpmbuild || die "this needs rpmbuild: scripts/setup.sh package"
    top=$work/rpm
    mkdir -p "$top/SPECS"
    MPM_VERSION=$version MPM_DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y') MAINTAINER=$maintainer awk '
        $0 == "@INSTANCES@" { while ((getline line < "packaging/instances.sh") > 0) if (line !~ /^#/) { gsub(/%/, "%%", line); print line }
            close("packaging/instances.sh"); next }
        $0 == "@HOMEPAGE@" { if (ENVIRON["HOMEPAGE"] != "") print "URL: " ENVIRON["HOMEPAGE"]; next }
        { gsub(/@VERSION@/, ENVIRON["MPM_VERSION"]); gsub(/@DATE@/, ENVIRON["MPM_DATE"])
          gsub(/@MAINTAINER@/, ENVIRON["MAINTAINER"]); print }' packaging/rpm/mpm-monitor.spec.in >"$top/SPECS/mpm-monitor.spec"
    payload=w6.xzdio
    [ -z "$fast" ] || payload=w1.gzdio
    rpmbuild -bb --quiet --define "_topdir $top" --define "stage $stage" --define "_binary_payload $payload" \
        --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
        --define '_buildhost localhost' "$top/SPECS/mpm-monitor.spec" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die "rpmbuild failed"
    }
    for file in "$top"/RPMS/*/*.rpm; do
        mv "$file" "$out/"
        say "$out/${file##*/}"
    done
}

case $what in
all) deb && rpm ;;
*) "$what" ;;
esac
