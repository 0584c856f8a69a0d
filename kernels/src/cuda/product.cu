// Products of a few rows with a weight, and what follows a product.

#include "device.cuh"

// Rows of x that a block multiplies at once.
constexpr int WARPS = 8;

// A weight's values as they lie in memory: 16 bytes of it a lane, to f32.
template <typename T> struct Values {
  static constexpr int size = Pack<T>::size;
  static __device__ void load(const T *weight, int64_t at, float *values) {
    Pack<T> pack = *(const Pack<T> *)(weight + at);
#pragma unroll
    for (int i = 0; i < size; i++) values[i] = to_f32(pack.values[i]);
  }
};

// Adds to `sums` the products of a row of the weight with ROWS rows of x; each lane has its share.
template <typename T, int ROWS>
__device__ void multiply(const T *weight, const T *x, int in, int rows, int lane, float *sums) {
  constexpr int SIZE = Values<T>::size;
#pragma unroll 4
  for (int i = lane * SIZE; i < in; i += WARP * SIZE) {
    float w[SIZE];
    Values<T>::load(weight, i, w);
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
      if (row < rows) {
        float values[SIZE];
        Values<T>::load(x, (int64_t)row * in + i, values);
#pragma unroll
        for (int j = 0; j < SIZE; j++) sums[row] += w[j] * values[j];
      }
    }
  }
}

// `gelu(x · Wᵀ + bias) + residual` of at most ROWS rows, one warp an output. `weight` `[out, in]` with
// `in` a multiple of 16 bytes; a gated one is `[2 · out, in]`, and gives `gelu(first) · second`.
template <typename T, int ROWS>
__device__ void few_rows(const T *x, const T *weight, const T *bias, const T *residual, T *out, int rows,
                         int in, int width, int gated, int with_gelu) {
  int lane = threadIdx.x % WARP;
  int output = blockIdx.x * WARPS + threadIdx.x / WARP;
  if (output >= width) return;
  float sums[ROWS] = {}, seconds[ROWS] = {};
  multiply<T, ROWS>(weight + (int64_t)output * in, x, in, rows, lane, sums);
  if (gated) multiply<T, ROWS>(weight + (int64_t)(width + output) * in, x, in, rows, lane, seconds);
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    if (row < rows) {
      int64_t at = (int64_t)row * width + output;
      float y = rounded<T>(warp_reduce<Sum>(sums[row]));
      if (gated) {
        float second = rounded<T>(warp_reduce<Sum>(seconds[row]));
        y = rounded<T>(gelu(y)) * second;
      }
      if (bias) y = rounded<T>(y + to_f32(bias[output]));
      if (with_gelu) y = rounded<T>(gelu(y));
      if (residual) y += to_f32(residual[at]);
      if (lane == 0) out[at] = from_f32<T>(y);
    }
  }
}

// `gelu(y + bias) + residual` of what another product gave, `[rows, width]`.
template <typename T>
__device__ void epilogue(const T *y, const T *bias, const T *residual, T *out, int64_t count, int width,
                         int with_gelu) {
  int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float value = to_f32(y[i]);
  if (bias) value = rounded<T>(value + to_f32(bias[i % width]));
  if (with_gelu) value = rounded<T>(gelu(value));
  if (residual) value += to_f32(residual[i]);
  out[i] = from_f32<T>(value);
}

// `gelu(first) · second` for `[rows, 2 · width]`.
template <typename T> __device__ void gelu_gated(const T *y, T *out, int64_t count, int width) {
  int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const T *row = y + i / width * 2 * width + i % width;
  out[i] = from_f32<T>(rounded<T>(gelu(to_f32(row[0]))) * to_f32(row[width]));
}

#define FEW_ROWS(T, NAME, ROWS)                                                                                \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP)                                                   \
      few_rows_##ROWS##_##NAME(const T *x, const T *weight, const T *bias, const T *residual, T *out, int rows,\
                               int in, int width, int gated, int with_gelu) {                                  \
    few_rows<T, ROWS>(x, weight, bias, residual, out, rows, in, width, gated, with_gelu);                      \
  }
#define KERNELS(T, NAME)                                                                                       \
  FEW_ROWS(T, NAME, 1)                                                                                         \
  FEW_ROWS(T, NAME, 2)                                                                                         \
  FEW_ROWS(T, NAME, 4)                                                                                         \
  extern "C" __global__ void epilogue_##NAME(const T *y, const T *bias, const T *residual, T *out,             \
                                             int64_t count, int width, int with_gelu) {                        \
    epilogue<T>(y, bias, residual, out, count, width, with_gelu);                                              \
  }                                                                                                            \
  extern "C" __global__ void gelu_gated_##NAME(const T *y, T *out, int64_t count, int width) {                 \
    gelu_gated<T>(y, out, count, width);                                                                       \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
