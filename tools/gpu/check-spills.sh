#!/usr/bin/env bash
# Translates our kernels for several generations of cards, and fails if a kernel needs more registers than it
# has, so that values go to memory and back. Then sees that the oldest cards take candle's kernels
# (check-old-cards.sh).
#
#   tools/gpu/check-spills.sh
#
# Needs cargo, g++ and python3 with pip, on x86-64, and no GPU.
set -euo pipefail
cd "$(dirname "$0")/../.."

CUDA_HOME=$(tools/gpu/toolkit.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Text for a compute capability, and the cards that run it: as kernels/build.rs and cuda/quantized.rs have it.
check() {
  local source=$1 capability=$2 spilling=''
  "$CUDA_HOME/bin/nvcc" -ptx -arch="compute_$capability" -std=c++17 -O3 "$source" -o "$work/kernels.ptx"
  for card in "${@:3}"; do
    "$CUDA_HOME/bin/ptxas" -v -arch="sm_$card" "$work/kernels.ptx" -o "$work/kernels" 2> "$work/said"
    grep -q 'spill stores' "$work/said"
    spilling=$(grep 'spill stores' "$work/said" | grep -v ' 0 bytes spill stores, 0 bytes spill loads' || true)
    if [ -n "$spilling" ]; then
      cat "$work/said" >&2
      echo "error: kernels of $source spill registers on sm_$card" >&2
      exit 1
    fi
  done
}

newer=(80 89 90 100 120)
for source in kernels/src/cuda/*.cu; do
  case $source in
    */quantized.cu)
      check "$source" 75 75
      check "$source" 80 "${newer[@]}"
      ;;
    *) check "$source" 75 75 "${newer[@]}" ;;
  esac
done
echo "no kernel spills registers on sm_75 ${newer[*]/#/sm_}"

tools/gpu/check-old-cards.sh
