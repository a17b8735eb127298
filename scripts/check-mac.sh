#!/bin/sh
# Type-checks and lints all targets for macOS, on Debian: its browsers' compiler comes with the standard library's
# source, so that the library can be built for a Mac. `scripts/setup.sh mac` installs both.
#
#   scripts/check-mac.sh [aarch64-apple-darwin|x86_64-apple-darwin]
set -eu
cd "$(dirname "$0")/.."
triple=${1:-aarch64-apple-darwin}
# Exactly the compiler that the source belongs to, whatever else is installed.
PATH=/usr/bin:$PATH
RUSTC=/usr/bin/rustc
CARGO=/usr/bin/cargo
# Building the standard library is still a nightly feature of cargo.
RUSTC_BOOTSTRAP=1
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/macos
export PATH RUSTC CARGO RUSTC_BOOTSTRAP CARGO_TARGET_DIR
if ! [ -x "$RUSTC" ] || ! [ -d /usr/lib/rustlib/src/rust/library ]; then
    echo "error: run 'scripts/setup.sh mac' first" >&2
    exit 1
fi
exec /usr/bin/cargo clippy --locked --quiet -Zbuild-std=std,panic_abort,test --all-targets --target "$triple" -- -D warnings
