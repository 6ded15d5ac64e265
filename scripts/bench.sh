#!/usr/bin/env bash
# Measures ours beside containerd and the bare runtimes, in one run, and writes docs/benchmarks.md.
# Run it while nothing else runs.
set -eu
cd "$(dirname "$0")/.."
scripts/preflight.sh --install bench
cargo build --release --locked -p cofferdam-bench
exec target/release/cofferdam-bench --write docs/benchmarks.md "$@"
