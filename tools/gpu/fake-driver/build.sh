#!/usr/bin/env bash
# Builds the fake driver: one library under the names of NVIDIA's, which takes calls, checks them,
# counts them and computes nothing. Prints its folder, for LD_LIBRARY_PATH.
#
#   LD_LIBRARY_PATH=$(tools/gpu/fake-driver/build.sh) target/cuda/release/paligemma-server doctor --device cuda
#
# Needs gcc, and what toolkit.sh needs for CUDA's headers.
set -euo pipefail
cd "$(dirname "$0")/../../.."

source=tools/gpu/fake-driver
out=target/fake-driver
include=$(tools/gpu/toolkit.sh)/include
mkdir -p "$out"
gcc -std=gnu17 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -pthread -isystem "$include" \
  -Wl,--version-script=$source/symbols.map -o "$out/libfake-driver.so" $source/*.c
for name in cuda.so.1 cudart.so.13 cublas.so.13 cublasLt.so.13 curand.so.10 nvrtc.so.13; do
  ln -sf libfake-driver.so "$out/lib$name"
done
echo "$PWD/$out"
