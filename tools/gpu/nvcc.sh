#!/usr/bin/env bash
# Stands in for nvcc where the CUDA binary is built: candle's PTX gets its kernels for bf16 in a build
# for compute capability 7.5, too (old-cards.cuh). Everything else goes to nvcc as it is.
set -euo pipefail

extra=()
# Cargo says whose build script runs. Its other kernels are machine code, which serves one capability.
if [ "${CARGO_PKG_NAME:-}" = candle-kernels ] && [[ " $* " == *" --ptx "* ]]; then
  extra=(-include "$(dirname "$0")/old-cards.cuh")
fi
exec "$CUDA_HOME/bin/nvcc" "${extra[@]}" "$@"
