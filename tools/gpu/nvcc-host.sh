#!/usr/bin/env bash
# Stands in for nvcc where the binary is linked, but only meets the fake driver: kernels are those of
# nvcc.sh, but not optimised, nor translated for a card, which saves an hour. Such a binary is of no use on a card.
set -euo pipefail

exec "$(dirname "$0")/nvcc.sh" -Xcicc -O0 "${@/code=sm_/code=compute_}"
