#!/usr/bin/env bash
# Builds the CUDA binary on a machine that has neither a GPU nor the CUDA toolkit: the compiler and
# the libraries come from PyPI wheels, and the driver, which only a GPU machine has, is looked for
# when the binary starts (driver.c). The Dockerfile builds its CUDA image with this, too.
#
#   tools/gpu/build.sh [cargo arguments]      e.g. tools/gpu/build.sh --examples
#
# Needs cargo, g++ and python3 with pip, on x86-64. The result lies in target/cuda/release; where it
# runs it needs libcublas.so.13, libcublasLt.so.13, libcudart.so.13 and libcurand.so.10, and to use a
# GPU the driver, 580 series or newer.
#   PROFILE            cargo's profile, release by default
#   CUDA_COMPUTE_CAP   the oldest compute capability to run on, 75 by default, the oldest that CUDA 13 knows.
#                      q4k is quickest on cards of exactly this one; from 90 on, no others run the binary
set -euo pipefail
cd "$(dirname "$0")/../.."

CUDA_HOME=$(tools/gpu/toolkit.sh)
export CUDA_HOME CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-75} NVCC=$PWD/tools/gpu/nvcc.sh
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}

driver=$(tools/gpu/driver.sh)
export PATH=$CUDA_HOME/bin:$PATH LIBRARY_PATH=$CUDA_HOME/lib:$driver
export RUSTFLAGS="${RUSTFLAGS:-} -L native=$CUDA_HOME/lib -L native=$driver -C link-arg=-Wl,-rpath-link,$CUDA_HOME/lib"
exec cargo build --profile "${PROFILE:-release}" --features cuda --target-dir target/cuda "$@"
