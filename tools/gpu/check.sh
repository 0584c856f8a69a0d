#!/usr/bin/env bash
# Checks and measures the CUDA build on a machine with a GPU of compute capability 8.0 or newer, without
# compiling or downloading there.
#
#   tools/gpu/build.sh --bins --examples       (elsewhere; then bring target/cuda along)
#   tools/gpu/check.sh [SHAPE]                 SHAPE: of random_checkpoint, paligemma2-3b-224 by default
#
# First parity with the recorded answers of transformers (f32 must agree to the token) and memory errors,
# then the doctor, then speed against transformers on the same card and checkpoint, with and without recorded
# decode steps, and eight adapters at once against none. Needs python3 with torch, transformers, pillow and
# numpy for the last part, and CUDA 13's libraries for all.
set -euo pipefail
cd "$(dirname "$0")/../.."

shape=${1:-paligemma2-3b-224}
bin=${BIN:-target/cuda/release}
# The libraries of a pip-installed torch serve when the system has none.
libraries=$(python3 - <<'PY'
import glob, sysconfig
print(":".join(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")))
PY
)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$bin/examples/parity" --goldens --device cuda --dtype f32 --at-least 1.0
for dtype in bf16 q8_0; do
  "$bin/examples/parity" --goldens --device cuda --dtype "$dtype" | tail -n 1
done

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    for dtype in bf16 q8_0; do
      compute-sanitizer --tool "$tool" --error-exitcode 1 \
        "$bin/examples/parity" --goldens --device cuda --dtype "$dtype" | tail -n 1
    done
  done
fi
"$bin/paligemma-server" doctor
"$bin/paligemma-server" doctor --dtype q8_0
# The same with recorded decode steps; auto says whether they have the same bits.
"$bin/paligemma-server" doctor --cuda-graphs on
"$bin/paligemma-server" doctor --cuda-graphs auto --only-checks

checkpoint=$(mktemp -d)
trap 'rm -rf "$checkpoint"' EXIT
"$bin/examples/random_checkpoint" --shape "$shape" --out "$checkpoint" --adapters 8
"$bin/examples/parity" --checkpoint "$checkpoint" --device cuda --dtype bf16 | tail -n 1
python3 tools/bench/compare.py --checkpoint "$checkpoint" --binary "$bin/paligemma-server" \
  --device cuda --recorded --slots 64 --tokens 64 --repeats 5 \
  --concurrency 1,8,64 --reference-concurrency 1,8,64
python3 tools/bench/adapters.py --checkpoint "$checkpoint" --binary "$bin/paligemma-server" --device cuda
