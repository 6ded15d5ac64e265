#!/usr/bin/env bash
# Measures ours beside containerd and the bare runtimes: as a library (docs/benchmarks.md), then over
# CRI, as a kubelet drives both (docs/benchmarks-cri.md), each in one run. BENCH=library or BENCH=cri
# leaves the other out. Run it while nothing else runs.
set -eu
cd "$(dirname "$0")/.."
which=${BENCH:-both}
case $which in both | library | cri) ;; *) echo "BENCH is library, cri or both, not $which" >&2; exit 2 ;; esac
scripts/preflight.sh --install bench
cargo build --release --locked -p cofferdam-bench -p cofferdam-cli
[ "$which" = cri ] || target/release/cofferdam-bench --write docs/benchmarks.md "$@"
[ "$which" = library ] || target/release/cofferdam-bench --cri target/release/cofferdam --write docs/benchmarks-cri.md "$@"
