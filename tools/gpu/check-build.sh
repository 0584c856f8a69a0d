#!/usr/bin/env bash
# Type-checks the code behind the `cuda` feature, on a machine that has neither a GPU nor CUDA.
#
#   tools/gpu/check-build.sh [cargo arguments]
#
# Shares the target folder, and so the metadata of all dependencies that are the same without the
# feature. Build a binary with build.sh, in its own folder: the kernels here are empty, see nvcc-check.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

CUDA_HOME=$(tools/gpu/toolkit.sh)
export CUDA_HOME CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-75} NVCC=$PWD/tools/gpu/nvcc-check.sh
export PATH=$CUDA_HOME/bin:$PATH LIBRARY_PATH=$CUDA_HOME/lib
exec cargo check --features cuda "$@"
