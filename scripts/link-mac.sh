#!/bin/sh
# Links the program as it ships for a Mac on Debian, by zig's linker, and prints its size and what it imports. Beyond what
# scripts/check-mac.sh needs it takes 500 MB of disk below target/ and some minutes, so that CI leaves it out.
#
#   scripts/link-mac.sh [aarch64-apple-darwin|x86_64-apple-darwin]
set -eu
cd "$(dirname "$0")/.."
triple=${1:-aarch64-apple-darwin}
target=${CARGO_TARGET_DIR:-target}
venv=$target/mac-venv
[ -x "$venv/bin/cargo-zigbuild" ] || {
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.1 cargo-zigbuild==0.24.0 lief
}
# Exactly the compiler that the library's source belongs to, see check-mac.sh.
PATH=$(cd "$venv/bin" && pwd):/usr/bin:$PATH
RUSTC=/usr/bin/rustc
CARGO=/usr/bin/cargo
RUSTC_BOOTSTRAP=1
CARGO_TARGET_DIR=$target/macos
# Stripping wants a tool that Debian's compiler comes without.
CARGO_PROFILE_DIST_STRIP=none
MACOSX_DEPLOYMENT_TARGET=11.0
export PATH RUSTC CARGO RUSTC_BOOTSTRAP CARGO_TARGET_DIR CARGO_PROFILE_DIST_STRIP MACOSX_DEPLOYMENT_TARGET
cargo-zigbuild zigbuild --locked --profile dist --bin mpm-monitor -Zbuild-std=std,panic_unwind --target "$triple"
file=$CARGO_TARGET_DIR/$triple/dist/mpm-monitor
"$venv/bin/python" - "$file" <<'PYTHON'
import os, sys
import lief
lief.logging.disable()
path = sys.argv[1]
binary = lief.MachO.parse(path).at(0)
print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB, {binary.header.cpu_type.name}, signed: {binary.has_code_signature}")
libraries = [library.name for library in binary.libraries]
print("libraries:", ", ".join(libraries))
frameworks = [name for name in libraries if ".framework/" in name]
if frameworks:
    # A framework brings threads along, and a copy of the process (fork) may not use it.
    sys.exit(f"error: it links to {', '.join(frameworks)}")
names = sorted(s.name for s in binary.imported_symbols)
print(f"{len(names)} symbols, of them of launchd:", ", ".join(n for n in names if "launch" in n) or "none")
PYTHON
