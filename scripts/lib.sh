# shellcheck shell=sh
# Small helpers that the scripts here share; sourced, not run.

say() { printf '== %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# rustup puts cargo here, and a shell that was open before does not know yet.
[ -d "${HOME:-/root}/.cargo/bin" ] && PATH="$PATH:${HOME:-/root}/.cargo/bin"
export PATH

# minor NAME TEXT: the N of "NAME 1.N.x ..."
minor() { printf '%s\n' "$2" | sed -n "s/^$1 1\\.\\([0-9]*\\)\\..*/\\1/p"; }

# The folder that cargo builds into.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-target}"; }

# The distribution's own Python where it has one: the throw-away systemd sees /usr, but nobody's home.
system_python() { if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else command -v python3; fi; }
