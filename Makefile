# Two commands for a newcomer, the rest for those who change it. What they do is in scripts/, in plain shell.
#
#   make run     install what is missing, build, serve in the foreground on http://127.0.0.1:8765 (Ctrl-C ends it)
#   make test    install what the tests need, and pass them all
#
# Arguments: make run ARGS="--port auto"   make test ARGS="crash_loop"

.PHONY: help run test lint mac packages figures bench soak fuzz

.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

run:
	@scripts/run.sh $(ARGS)

test:
	@scripts/test.sh $(ARGS)

# Formatting, spelling, licences, lints of both feature sets, the fuzz targets, and the scripts.
lint:
	@scripts/lint.sh

# Types and lints for both kinds of Mac, checked on Debian.
mac:
	@scripts/setup.sh mac
	@scripts/check-mac.sh aarch64-apple-darwin
	@scripts/check-mac.sh x86_64-apple-darwin --lib --bins

# The packages for Debian and Fedora, of the program as it ships, into target/packages/.
packages:
	@scripts/setup.sh package
	@scripts/package.sh all $(ARGS)

# The numbers of docs/figures.md, measured here with the program as it ships.
figures:
	@scripts/figures.sh

# Beside the peers under the same load, as docs/performance.md shows it: make bench ARGS=--quick
bench:
	@benches/run.sh $(ARGS)

# The long versions of the tests of load and of kill -9, against the program as it ships; docs/dev/testing.md lists them.
soak:
	@scripts/soak.sh $(ARGS)

# Every parser under libFuzzer, a minute each: make fuzz ARGS=10
fuzz:
	@scripts/fuzz.sh $(ARGS)
