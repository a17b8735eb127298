#!/bin/sh
# Type-checks and lints for macOS, on Debian: its browsers' compiler comes with the standard library's source, so that the
# library can be built for a Mac. `scripts/setup.sh mac` installs both.
#
#   scripts/check-mac.sh [aarch64-apple-darwin|x86_64-apple-darwin [TARGETS]]
#
# TARGETS are those of cargo; all of them by default. What differs between the two Macs is in the program, if anywhere.
set -eu
cd "$(dirname "$0")/.."
triple=${1:-aarch64-apple-darwin}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- --all-targets
# Exactly the compiler that the source belongs to, whatever else is installed.
PATH=/usr/bin:$PATH
RUSTC=/usr/bin/rustc
CARGO=/usr/bin/cargo
# Building the standard library is still a nightly feature of cargo.
RUSTC_BOOTSTRAP=1
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/macos
export PATH RUSTC CARGO RUSTC_BOOTSTRAP CARGO_TARGET_DIR
# The C parts (SQLite) are not checked, and there is no compiler here that could: something that makes empty objects.
mkdir -p "$CARGO_TARGET_DIR"
fake=$(cd "$CARGO_TARGET_DIR" && pwd)/fake-cc
cat >"$fake" <<'FAKE'
#!/bin/sh
# Stands in for cc (-o FILE) and for ar (OPERATION FILE ...).
case ${1-} in cq* | s | rcs) : >"$2" ;; esac
while [ $# -gt 1 ]; do
    [ "$1" != -o ] || : >"$2"
    shift
done
FAKE
chmod 755 "$fake"
for name in aarch64_apple_darwin x86_64_apple_darwin; do
    export "CC_$name=$fake" "AR_$name=$fake"
done
if ! [ -x "$RUSTC" ] || ! [ -d /usr/lib/rustlib/src/rust/library ]; then
    echo "error: run 'scripts/setup.sh mac' first" >&2
    exit 1
fi
exec /usr/bin/cargo clippy --locked --quiet -Zbuild-std=std,panic_abort,test "$@" --target "$triple" -- -D warnings
