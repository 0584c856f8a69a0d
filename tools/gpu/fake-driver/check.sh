#!/usr/bin/env bash
# Runs the CUDA binary on the fake driver: counts what every step asks of the driver and compares with
# docs/performance/launches.md, lets the server answer, and sees that the doctor fails, also on a card
# that has no bf16. Sees that the server keeps to the memory that there is, and says when it is too little.
#
#   tools/gpu/fake-driver/check.sh [--write]
#
#   --write   write the counts anew instead of comparing
#   BIN       a CUDA build, such as target/cuda/release; by default a quick one is made, whose kernels
#             are not optimised, in target/fake-driver/bin
#
# Needs cargo, g++ and python3 with pip, on x86-64, and no GPU.
set -euo pipefail
cd "$(dirname "$0")/../../.."

fake=$(tools/gpu/fake-driver/build.sh)
if [ -z "${BIN:-}" ]; then
  CUDA_HOME=$(tools/gpu/toolkit.sh)
  export CUDA_HOME
  driver=$(tools/gpu/driver.sh)
  # No RUSTFLAGS, so that all that knows nothing of CUDA is compiled once for this and other builds.
  PATH=$CUDA_HOME/bin:$PATH LIBRARY_PATH=$CUDA_HOME/lib:$driver CUDA_COMPUTE_CAP=75 NVCC=$PWD/tools/gpu/nvcc-host.sh \
    cargo build --locked --release --features cuda --bin paligemma-server --example random_checkpoint --example launch_table
  BIN=target/fake-driver/bin
  rm -rf "$BIN" && mkdir -p "$BIN/examples"
  # Not for anybody to take for a build for cards, or for the processor's.
  mv target/release/paligemma-server "$BIN"
  mv target/release/examples/{random_checkpoint,launch_table} "$BIN/examples"
fi

export LD_LIBRARY_PATH=$fake PALIGEMMA_SERVER=$(realpath "$BIN/paligemma-server")
work=target/fake-driver/checkpoints
for shape in paligemma-narrow paligemma2-narrow; do
  for layers in 2 4; do
    "$BIN/examples/random_checkpoint" --shape $shape --layers $layers --adapters 2 --out $work/$shape-$layers
  done
done
"$BIN/examples/launch_table" --checkpoints $work --table docs/performance/launches.md "$@"
python3 tools/gpu/fake-driver/serve.py $work/paligemma2-narrow-2
