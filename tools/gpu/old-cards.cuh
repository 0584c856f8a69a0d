// Included before each of candle's kernels that become PTX (nvcc.sh). PTX for compute capability 7.5
// runs on all cards from there on, but candle leaves its bf16 kernels out below 8.0, though NVIDIA's
// headers have bf16 for older cards, computed in f32. So those headers are read for 7.5, and what
// follows, which asks for 8.0 only to have bf16, for 8.0.

#pragma once

#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#undef __CUDA_ARCH__
#define __CUDA_ARCH__ 800
#endif
