// What all kernels share: the two dtypes of hidden states, reductions, and how a kernel gets its
// names. Everything is computed in f32 and rounded once.
//
// Plain C++ beside CUDA's own words, so that emulator.cpp can compile it for the processor.

#pragma once

#include <stdint.h>

// Memory that the threads of a block share, as much as the launch says: `float shared[]`.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED extern __shared__ __align__(16) float shared[]
#endif

// A bf16 as it lies in memory. Conversions are by hand, because hardware has them from sm_80 on only.
struct bf16 {
  uint16_t bits;
};

__device__ inline float to_f32(float x) { return x; }
__device__ inline float to_f32(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }

template <typename T> __device__ inline T from_f32(float x);
template <> __device__ inline float from_f32<float>(float x) { return x; }
// To the nearest, ties to even; NaN stays NaN.
template <> __device__ inline bf16 from_f32<bf16>(float x) {
  uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return bf16{(uint16_t)(bits >> 16 | 0x40)};
  return bf16{(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// A value rounded to T.
template <typename T> __device__ inline float rounded(float x) { return to_f32(from_f32<T>(x)); }

// Values that a thread loads or stores at once: 16 bytes.
template <typename T> constexpr int PACK = 16 / sizeof(T);
template <typename T> struct alignas(16) Pack {
  T values[PACK<T>];
};

// PACK<T> values to f32. All of them where the rows are whole packs; else the first `count`, and
// zeros.
template <typename T> __device__ inline void load(const T *from, bool whole, int64_t count, float *values) {
  if (whole) {
    Pack<T> pack = *(const Pack<T> *)from;
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) values[i] = to_f32(pack.values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) values[i] = i < count ? to_f32(from[i]) : 0.0f;
  }
}

// The reverse of load.
template <typename T> __device__ inline void store(T *to, bool whole, int64_t count, const float *values) {
  if (whole) {
    Pack<T> pack;
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) pack.values[i] = from_f32<T>(values[i]);
    *(Pack<T> *)to = pack;
  } else {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) {
      if (i < count) to[i] = from_f32<T>(values[i]);
    }
  }
}

// Copies a pack where the rows are whole packs, else one value.
template <typename T> __device__ inline void copy_pack(const T *from, T *to, bool whole) {
  if (whole) {
    *(Pack<T> *)to = *(const Pack<T> *)from;
  } else {
    *to = *from;
  }
}

constexpr int WARP = 32;
// Warps of a block that multiplies.
constexpr int WARPS = 8;

struct Sum {
  static __device__ float of(float a, float b) { return a + b; }
  static __device__ float nothing() { return 0.0f; }
};
struct Max {
  static __device__ float of(float a, float b) { return fmaxf(a, b); }
  static __device__ float nothing() { return -INFINITY; }
};

// Over a warp; every lane gets the result.
template <typename Op> __device__ inline float warp_reduce(float x) {
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    x = Op::of(x, __shfl_xor_sync(0xffffffff, x, offset));
  }
  return x;
}

// Over a block of whole warps, at most 32; every thread gets the result.
template <typename Op> __device__ inline float block_reduce(float x) {
  __shared__ float of_warp[WARP];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  x = warp_reduce<Op>(x);
  __syncthreads();
  if (lane == 0) of_warp[warp] = x;
  __syncthreads();
  x = lane < (int)blockDim.x / WARP ? of_warp[lane] : Op::nothing();
  return warp_reduce<Op>(x);
}

// GELU in the tanh approximation (Hendrycks and Gimpel, arXiv 1606.08415).
__device__ inline float gelu(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

// `softcap · tanh(scale · x / softcap)`, or `scale · x` where softcap is 0.
__device__ inline float scored(float x, float scale, float softcap) {
  return softcap > 0.0f ? softcap * tanhf(x * (scale / softcap)) : x * scale;
}

// What an output's sum becomes: `gelu(y + bias) + residual`.
template <typename T>
__device__ inline T finished(float y, const T *__restrict__ bias, const T *__restrict__ residual, int64_t output,
                             int64_t place, int with_gelu) {
  y = rounded<T>(y);
  if (bias) y = rounded<T>(y + to_f32(bias[output]));
  if (with_gelu) y = rounded<T>(gelu(y));
  if (residual) y += to_f32(residual[place]);
  return from_f32<T>(y);
}

#ifndef EMULATED
// Adds the product of 16 rows and 8 rows of 32 numbers of 8 bits, on the tensor cores, to sums `[16, 8]`. A lane
// has four of each row lane / 4 and lane / 4 + 8 of the first at a time, and of row lane / 4 of the second; and
// the sums of rows lane / 4 and lane / 4 + 8 with rows 2 · (lane % 4) and the next.
__device__ inline void multiply_add(int (&sums)[4], const uint32_t (&first)[4], const uint32_t (&second)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(second[0]), "r"(second[1]));
#else
#pragma unroll
  for (int i = 0; i < 4; i++) {
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(sums[i % 2 * 2]), "+r"(sums[i % 2 * 2 + 1])
        : "r"(first[i]), "r"(second[i / 2]));
  }
#endif
}
#endif
