#!/usr/bin/env bash
# Fuzzes each parser for FUZZ_SECONDS (default 60), one after another. What is found stands in
# fuzz/artifacts/<target>/, with the command that repeats it above it. FUZZ_TARGETS names fewer targets.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=${FUZZ_SECONDS:-60}

if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "cargo-fuzz is not here: cargo install cargo-fuzz --locked"
  cargo install cargo-fuzz --locked || exit 1
fi
# The code is safe Rust and what is looked for are panics, so no sanitizer, and so no nightly Rust.
options=(--sanitizer none)
cargo fuzz build "${options[@]}" || exit 1

failed=()
for target in ${FUZZ_TARGETS:-$(cargo fuzz list)}; do
  echo "== $target, $seconds s"
  corpora=("fuzz/corpus/$target" "fuzz/seeds/$target")
  [ "$target" = manifest ] && corpora+=(examples crates/manifest/tests/manifests)
  # An archive is headers of 512 bytes each and what is between them.
  longest=8192
  [[ $target == layers || $target == archives ]] && longest=32768
  mkdir -p "${corpora[0]}"
  cargo fuzz run "${options[@]}" "$target" "${corpora[@]}" -- -max_total_time="$seconds" -max_len="$longest" -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 -print_funcs=0 -verbosity=0 -dict="fuzz/dictionaries/$target" 2>&1 | grep -vE '# Uses:|ecommended dictionary|NEW_FUNC' || failed+=("$target")
done
echo
if [ ${#failed[@]} -gt 0 ]; then
  echo "Found something: ${failed[*]}"
  exit 1
fi
echo "Nothing found in $seconds s a target"
