#!/usr/bin/env bash
# Runs every test of the workspace and prints one line of totals at the end. A test that was not run
# is named; a test program that died without a result is a failure.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# Root tests wait for processes more than they compute, but each may hold a gVisor sandbox.
threads=$(nproc)
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((threads > 4 ? 4 : threads))}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

cargo test --workspace --locked --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# "test result: ok. 12 passed; 0 failed; 1 ignored; ...", one a test program.
read -r passed failed ignored < <(awk '
  /^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) g += $(i-1) } }
  END { print p + 0, f + 0, g + 0 }' "$log")

echo
if [ "$ignored" -gt 0 ]; then
  echo "Not run:"
  grep -E '^test .* \.\.\. ignored' "$log" | sed 's/^test /  /'
fi
if [ "$failed" -gt 0 ]; then
  echo "Failed:"
  grep -E '^test .* \.\.\. FAILED' "$log" | sed 's/^test /  /; s/ \.\.\. FAILED//'
elif [ "$status" != 0 ]; then
  echo "cargo test ended with status $status and no failed test: something did not build, or a test program died"
elif [ "$passed" = 0 ]; then
  echo "no test was run"
  status=1
fi
echo "Tests: $passed passed, $failed failed, $ignored skipped"
exit "$status"
