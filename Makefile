# What the scripts in scripts/ do, under short names. ARGS reaches them: make run ARGS="--port auto", make test ARGS="crash_loop".

.PHONY: help run test lint mac packages figures bench soak fuzz

.DEFAULT_GOAL := help

# Show this list.
help:
	@awk '/^# / { text = text " " substr($$0, 3) } /^$$/ { text = "" } \
		/^[a-z]+:/ { sub(/:.*/, ""); printf "make %-9s%s\n", $$0, text }' Makefile

# Install what is missing, build, serve on http://127.0.0.1:8765 (Ctrl-C ends it).
run:
	@scripts/run.sh $(ARGS)

# Install what the tests need, and run them all.
test:
	@scripts/test.sh $(ARGS)

# Check formatting, spelling, licences, lints of both feature sets, the fuzz targets and the scripts.
lint:
	@scripts/lint.sh

# Check types and lints for both kinds of Mac, on Debian.
mac:
	@scripts/setup.sh mac
	@scripts/check-mac.sh aarch64-apple-darwin
	@scripts/check-mac.sh x86_64-apple-darwin --lib --bins

# Build the packages for Debian and Fedora into target/packages/.
packages:
	@scripts/setup.sh package
	@scripts/package.sh all $(ARGS)

# Measure this machine and write docs/figures.md.
figures:
	@scripts/figures.sh

# Measure beside the peers under the same load, as in docs/performance.md; ARGS=--quick is short.
bench:
	@benches/run.sh $(ARGS)

# Run the long tests of load and of kill -9; docs/dev/testing.md lists them.
soak:
	@scripts/soak.sh $(ARGS)

# Run every parser under libFuzzer, a minute each; ARGS=10 for ten seconds.
fuzz:
	@scripts/fuzz.sh $(ARGS)
