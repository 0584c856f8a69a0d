#!/usr/bin/env bash
# Sets up the CUDA toolkit once, from PyPI wheels, for machines that have neither a GPU nor CUDA;
# prints the folder to use as CUDA_HOME. `tools/gpu/build.sh` and `.ci/run` both start from it.
#
#   CUDA_TOOLKIT   the folder to keep it in, target/cuda-toolkit by default (2 GB)
#
# Needs python3 with pip, or with its venv module, on x86-64.
set -euo pipefail
cd "$(dirname "$0")/../.."

toolkit=${CUDA_TOOLKIT:-$PWD/target/cuda-toolkit}
home=$toolkit/nvidia/cu13

if [ ! -e "$toolkit/complete" ]; then
  rm -rf "$toolkit"
  pip=(python3 -m pip)
  # Debian's python3 comes without pip; a virtual environment brings its own.
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python3 -m venv "$toolkit/venv"
    pip=("$toolkit/venv/bin/pip")
  fi
  "${pip[@]}" install --quiet --disable-pip-version-check --no-deps --target "$toolkit" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 \
    nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cublas==13.0.2.14 \
    nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88 >&2
  # The wheels carry versioned libraries in lib; builds look for plain names, some in lib64.
  ln -s lib "$home/lib64"
  for library in cublas:13 cublasLt:13 cudart:13 curand:10 nvrtc:13; do
    ln -s "lib${library%:*}.so.${library#*:}" "$home/lib/lib${library%:*}.so"
  done
  touch "$toolkit/complete"
fi
echo "$home"
