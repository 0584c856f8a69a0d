// What adapters add to a product: `up · down` for the rows of each (Hu et al., arXiv 2106.09685), of several
// adapters in one launch.

#include "device.cuh"

// Adapters that go together.
constexpr int MOST = 32;

// Passed by value. Of each adapter, where `down` `[ranks, in]`, `up` `[ranks, out]`, `bias` `[out]` or nothing,
// and its rows' u32 indices lie, how many ranks and how many rows.
struct Adapters {
  uint64_t down[MOST], up[MOST], bias[MOST], rows[MOST];
  int32_t ranks[MOST], counts[MOST];
};

// `down · x` of every row that has an adapter, to f32 `[rows, stride]`; one warp a rank. The grid is ranks / WARPS
// and rows of the adapter that has the most, and adapters.
template <typename T>
__device__ void shrink(const Adapters &adapters, const T *__restrict__ x, float *__restrict__ projected, int in,
                       int stride) {
  int adapter = blockIdx.z, lane = threadIdx.x % WARP, rank = blockIdx.x * WARPS + threadIdx.x / WARP;
  if ((int)blockIdx.y >= adapters.counts[adapter] || rank >= adapters.ranks[adapter]) return;
  int row = ((const uint32_t *)adapters.rows[adapter])[blockIdx.y];
  const T *down = (const T *)adapters.down[adapter] + (int64_t)rank * in;
  x += (int64_t)row * in;
  bool whole = in % PACK<T> == 0;
  float sum = 0.0f;
#pragma unroll 4
  for (int first = lane * PACK<T>; first < in; first += WARP * PACK<T>) {
    float a[PACK<T>], b[PACK<T>];
    load(x + first, whole, in - first, a);
    load(down + first, whole, in - first, b);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) sum += a[i] * b[i];
  }
  sum = warp_reduce<Sum>(sum);
  if (lane == 0) projected[(int64_t)row * stride + rank] = sum;
}

// Adds `projected · up + bias` to every row of `y` `[rows, out]` that has an adapter; a pack a thread. The grid is
// packs of a row / threads, rows of the adapter that has the most, and adapters.
template <typename T>
__device__ void expand(const Adapters &adapters, const float *__restrict__ projected, T *__restrict__ y, int out,
                       int stride) {
  int adapter = blockIdx.z, first = (blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  if ((int)blockIdx.y >= adapters.counts[adapter] || first >= out) return;
  int row = ((const uint32_t *)adapters.rows[adapter])[blockIdx.y];
  const T *up = (const T *)adapters.up[adapter] + first, *bias = (const T *)adapters.bias[adapter];
  projected += (int64_t)row * stride;
  y += (int64_t)row * out + first;
  bool whole = out % PACK<T> == 0;
  float sums[PACK<T>], own[PACK<T>];
  load(y, whole, out - first, sums);
#pragma unroll 4
  for (int rank = 0; rank < adapters.ranks[adapter]; rank++) {
    load(up + (int64_t)rank * out, whole, out - first, own);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) sums[i] += projected[rank] * own[i];
  }
  if (bias) {
    load(bias + first, whole, out - first, own);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) sums[i] += own[i];
  }
  store(y, whole, out - first, sums);
}

#define KERNELS(T, NAME)                                                                                       \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP)                                                   \
      shrink_##NAME(const Adapters adapters, const T *x, float *projected, int in, int stride) {               \
    shrink<T>(adapters, x, projected, in, stride);                                                             \
  }                                                                                                            \
  extern "C" __global__ void expand_##NAME(const Adapters adapters, const float *projected, T *y, int out,     \
                                           int stride) {                                                       \
    expand<T>(adapters, projected, y, out, stride);                                                            \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
