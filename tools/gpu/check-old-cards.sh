#!/usr/bin/env bash
# Assembles candle's kernels for compute capability 7.5, as text for it is built (nvcc.sh). Parts of that text
# are compiled as if for 8.0, and one instruction that 7.5 lacks would keep a card from loading a whole module.
#
#   tools/gpu/check-old-cards.sh
#
# Needs cargo, g++ and python3 with pip, on x86-64, and no GPU. About 40 seconds of processor time.
set -euo pipefail
cd "$(dirname "$0")/../.."

CUDA_HOME=$(tools/gpu/toolkit.sh)
nvcc=$PWD/tools/gpu/nvcc.sh
# How nvcc.sh knows whose kernels they are.
export CUDA_HOME nvcc CARGO_PKG_NAME=candle-kernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export work

manifest=$(cargo metadata --locked --format-version 1 --features cuda | python3 -c '
import json, sys
[package] = [it for it in json.load(sys.stdin)["packages"] if it["name"] == "candle-kernels"]
print(package["manifest_path"])')
cd "$(dirname "$manifest")/src"

# As its build.rs has it. The other kernels are machine code, for which nvcc itself assembles.
assemble() {
  set -e
  "$nvcc" --ptx -arch=sm_75 --expt-relaxed-constexpr -std=c++17 -O3 --disable-warnings "$1" -o "$work/$1.ptx"
  "$CUDA_HOME/bin/ptxas" -arch=sm_75 -O0 "$work/$1.ptx" -o "$work/$1.cubin"
}
export -f assemble
find . -maxdepth 1 -name '*.cu' ! -name 'mmvq_gguf.cu' -printf '%P\0' |
  xargs -0 -n 1 -P "$(nproc)" bash -c 'assemble "$1"' assemble
modules=$(find "$work" -name '*.cubin' | wc -l)
[ "$modules" -gt 0 ]
echo "candle's $modules modules of kernels can be assembled for sm_75"
