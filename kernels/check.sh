#!/usr/bin/env bash
# Runs the kernels' tests where mistakes of memory show: kernels/check.sh miri | asan | valgrind
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
package=(--locked --package paligemma-kernels)

case "${1:-}" in
miri)
  # The packing and unpacking of weights, and products in plain Rust. Miri has none of the other
  # instructions. Tree borrows, because rayon's queues don't keep to the older rules.
  export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-disable-isolation -Zmiri-ignore-leaks"
  export RAYON_NUM_THREADS=2
  cargo +nightly miri test "${package[@]}" -- packing
  ;;
asan)
  # Every set of instructions that this processor has.
  RUSTFLAGS=-Zsanitizer=address cargo +nightly test "${package[@]}" --target "$host" --target-dir target/asan
  ;;
valgrind)
  # What Valgrind knows: AVX2, but neither AVX-512 nor AMX.
  cargo test "${package[@]}" --no-run
  test=$(cargo test "${package[@]}" --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  valgrind --quiet --error-exitcode=1 "$test" cpu::
  ;;
*)
  sed -n '2s/^# //p' "$0" >&2
  exit 2
  ;;
esac
