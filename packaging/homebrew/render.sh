#!/bin/sh
# Fills the formula in for a release, or another file that names the same things (packaging/arch/PKGBUILD.in).
#
#   packaging/homebrew/render.sh HOMEPAGE URL TARBALL [FILE] > mpm-monitor.rb
#
# TARBALL is the very file that URL will serve: its checksum goes into the formula.
set -eu
if [ $# -ne 3 ] && [ $# -ne 4 ]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
fi
here=$(dirname "$0")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml" | head -n 1)
if command -v sha256sum >/dev/null 2>&1; then sum=$(sha256sum "$3"); else sum=$(shasum -a 256 "$3"); fi
sed -e '1d' -e "s|@HOMEPAGE@|$1|" -e "s|@URL@|$2|" -e "s|@VERSION@|$version|" -e "s|@SHA256@|${sum%% *}|" "${4:-$here/mpm-monitor.rb.in}"
