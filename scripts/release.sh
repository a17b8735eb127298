#!/bin/sh
# Prepares a release: puts VERSION wherever a version stands, dates the changelog, and commits that. It neither tags nor sends
# anything. What has to be seen before and after is in docs/dev/releasing.md.
#
#   scripts/release.sh VERSION        for example 0.2.0
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

version=${1-}
number='(0|[1-9][0-9]*)'
if [ $# -ne 1 ] || ! printf '%s\n' "$version" | grep -Eqx "$number\.$number\.$number(-[0-9A-Za-z.-]+)?"; then
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" | sed '$d' >&2
    exit 2
fi
current=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ -z "$(git status --porcelain)" ] || die "the tree has changes; commit them, or put them away with git stash"
! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || die "v$version is released already; choose a higher version"
# A version before a release sorts below it, unlike what sort makes of "-".
order() { printf '%s\n' "$@" | sed 's/-/~/' | sort -V | sed 's/~/-/'; }
[ "$(order "$current" "$version" | tail -n 1)" = "$version" ] || die "$version is below $current, the version in Cargo.toml"
changes=$(awk '/^## /{ if (on) exit; on = /^## \[Unreleased\]/; next } on && /^[-*] /' CHANGELOG.md)
[ -n "$changes" ] || die "CHANGELOG.md has nothing under [Unreleased]; write down what changed for users"

# put FILE SED-COMMAND: edits the file, and insists that the new version is in it then.
put() {
    sed "$2" "$1" >"$1.new"
    cat "$1.new" >"$1" && rm "$1.new"
    grep -qF "$version" "$1" || die "$1 has no place for a version any more; mend scripts/release.sh"
}
put Cargo.toml "1,/^version = /s/^version = .*/version = \"$version\"/"
for lock in Cargo.lock fuzz/Cargo.lock; do
    # The program and its libraries have one version.
    put "$lock" "/^name = \"mpm-/{
n
s/^version = \"$current\"\$/version = \"$version\"/
}"
done
put docs/openapi.json "1,/\"version\": /s/\"version\": \".*\"/\"version\": \"$version\"/"
put CHANGELOG.md "s/^## \\[Unreleased\\]\$/&\\
\\
## [$version] - $(date -u +%Y-%m-%d)/"
git commit --quiet --all --message "Release $version"
git show --stat --format='== %h %s' HEAD
say "next: the gate and the rest of docs/dev/releasing.md, then git tag -a v$version -m 'mpm-monitor $version'"
