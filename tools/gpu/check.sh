#!/usr/bin/env bash
# Checks and measures the CUDA build on a machine with a GPU, without compiling or downloading there.
#
#   tools/gpu/build.sh --bins --examples       (elsewhere; then bring target/cuda along)
#   tools/gpu/check.sh [PART ...]
#
#   PART       what to do, in this order by default:
#     goldens    the recorded answers of transformers: in f32 every token, and in other formats most
#     doctor     layers, answers, kernels and speed, with and without recorded decode steps
#     speed      against transformers on the same card and checkpoint, in turns
#     adapters   eight adapters at once against none
#     sanitizer  compute-sanitizer's memcheck and racecheck, where it is installed; slow
#   SHAPE      of the checkpoint for speed, one of random_checkpoint's; paligemma2-3b-224 by default
#   REFERENCE  what is compared with, as compare.py takes it; bf16,bf16-static by default
#   BIN        the CUDA build; target/cuda/release by default
#
# A part that fails doesn't keep the next from its turn; the script then fails at its end. It needs CUDA 13's
# libraries, and for speed and adapters python3 with torch, transformers, pillow and numpy.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

bin=${BIN:-target/cuda/release}
# The libraries of a pip-installed torch serve when the system has none.
libraries=$(python3 - <<'PY'
import glob, sysconfig
print(":".join(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")))
PY
)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader || exit 1
formats=(bf16 q8_0)
# Turing has no bf16.
case $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) in 7.*) formats=(q8_0) ;; esac

checkpoint=
trap 'rm -rf "$checkpoint"' EXIT
make_checkpoint() {
  if [ -z "$checkpoint" ]; then
    checkpoint=$(mktemp -d)
    "$bin/examples/random_checkpoint" --shape "${SHAPE:-paligemma2-3b-224}" --out "$checkpoint" --adapters 8 || {
      rm -rf "$checkpoint"
      checkpoint=
      return 1
    }
  fi
}

goldens() {
  local failed=0
  "$bin/examples/parity" --goldens --device cuda --dtype f32 --at-least 1.0 || failed=1
  # The logits of these small random checkpoints lie close together.
  for format in "${formats[@]}"; do
    "$bin/examples/parity" --goldens --device cuda --dtype "$format" --at-least 0.7 | tail -n 1 || failed=1
  done
  return $failed
}

doctor() {
  local failed=0
  for format in "${formats[@]}"; do
    "$bin/paligemma-server" doctor --device cuda --dtype "$format" || failed=1
  done
  # Auto finds out whether recorded steps have the same bits as others.
  "$bin/paligemma-server" doctor --device cuda --cuda-graphs auto --only-checks || failed=1
  "$bin/paligemma-server" doctor --device cuda --cuda-graphs on || failed=1
  return $failed
}

speed() {
  make_checkpoint &&
    python3 tools/bench/compare.py --checkpoint "$checkpoint" --binary "$bin/paligemma-server" \
      --device cuda --dtype "${formats[0]}" --recorded --reference "${REFERENCE:-bf16,bf16-static}" --slots 64 \
      --tokens 64 --repeats 5 --concurrency 1,8,64 --reference-concurrency 1,8,64
}

adapters() {
  make_checkpoint &&
    python3 tools/bench/adapters.py --checkpoint "$checkpoint" --binary "$bin/paligemma-server" --device cuda
}

sanitizer() {
  command -v compute-sanitizer >/dev/null || {
    echo "compute-sanitizer is not installed: left out"
    return
  }
  local failed=0
  for tool in memcheck racecheck; do
    for format in "${formats[@]}"; do
      timeout 600 compute-sanitizer --tool $tool --error-exitcode 1 \
        "$bin/examples/parity" --goldens --device cuda --dtype "$format" | tail -n 1 || failed=1
    done
  done
  return $failed
}

failed=()
[ $# -gt 0 ] || set -- goldens doctor speed adapters sanitizer
for part in "$@"; do
  case $part in
    goldens | doctor | speed | adapters | sanitizer) ;;
    *)
      echo "$part is no part: goldens, doctor, speed, adapters, sanitizer" >&2
      exit 2
      ;;
  esac
done
for part in "$@"; do
  echo "== $part"
  "$part" || failed+=("$part")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
