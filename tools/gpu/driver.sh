#!/usr/bin/env bash
# Compiles what stands between the CUDA binary and the driver, a jump for each function that the
# bindings declare (driver.c), and prints the folder of it, to link with. Needs CUDA_HOME.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo fetch --quiet
bindings=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-*/src/driver/sys/mod.rs | tail -n 1)
out=$CUDA_HOME/lib/stubs
rm -rf "$out" && mkdir "$out"
grep -oE 'fn cu[A-Za-z0-9_]+' "$bindings" | sort -u | sed 's/^fn \(.*\)/FUNCTION(\1)/' > "$out/functions.inc"
gcc -O2 -fPIC -c -DFUNCTIONS="\"$out/functions.inc\"" -o "$out/driver.o" tools/gpu/driver.c
ar rcs "$out/libcuda.a" "$out/driver.o"
echo "$out"
