#!/bin/sh
# What has to be clean before anything lands: the formatting, the spelling, the dependencies, the lints of both feature sets,
# the fuzz targets, the scripts.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

scripts/setup.sh lint
cargo fmt --check
for crate in loadgen peers/socketioxide; do cargo fmt --check --manifest-path "benches/$crate/Cargo.toml"; done
tools=$(target_dir)/lint-tools/bin
"$tools/typos"
# Licences, duplicate versions and sources. What is unused the compiler itself says (unused_crate_dependencies).
"$tools/cargo-deny" --locked --log-level error check --hide-inclusion-graph licenses bans sources
cargo clippy --locked --quiet --all-targets -- -D warnings
# No test asks which features there are.
cargo clippy --locked --quiet --lib --bins --no-default-features -- -D warnings
# Nothing else builds the fuzz targets. A check links nothing, so libFuzzer, which is C++, is taken as built.
CUSTOM_LIBFUZZER_PATH=/dev/null cargo check --locked --quiet --manifest-path fuzz/Cargo.toml --target-dir target
shellcheck -x scripts/*.sh benches/run.sh packaging/homebrew/render.sh packaging/arch/mpm-monitor.install launchd/verify-on-mac.sh crates/testkit/src/launchd/launchctl.sh .ci/run
# Nothing here can run them, so that this is all that is known of them before they run.
"$(system_python)" scripts/lint-workflows.py .github/workflows/*.yml
# makepkg gives it its directories, reads its variables, and ends where a command fails.
shellcheck -s bash -e SC2034,SC2154,SC2164 packaging/arch/PKGBUILD.in
# The scripts of the Debian package, with the functions that they share.
for script in postinst prerm postrm; do
    sed -e '/^@INSTANCES@$/{' -e 'r packaging/instances.sh' -e 'd' -e '}' "packaging/debian/$script" | shellcheck -s sh -
done
# systemd-box splits words and sources its own state files on purpose.
shellcheck -e SC1090,SC1091,SC2016,SC2086 -S warning tests/systemd-box
