// Products of a few rows with a weight, and what follows a product.

#include "device.cuh"

// Warps of a block, which share its outputs.
constexpr int WARPS = 8;

// A pack that is read once and never again; zeros where it is not there.
template <typename T> __device__ inline Pack<T> stream(const T *from, bool there) {
  union {
    uint4 bits;
    Pack<T> pack;
  } value = {};
  if (there) value.bits = __ldcs((const uint4 *)from);
  return value.pack;
}

// Rows of x divided by their root mean square and multiplied by `scale`, into `out`; all of the block.
template <typename T>
__device__ void normalise(const T *__restrict__ x, const float *__restrict__ scale, T *out, int rows, int in,
                          float eps) {
  for (int row = 0; row < rows; row++) {
    const T *own = x + (int64_t)row * in;
    float squares = 0.0f;
    for (int i = threadIdx.x * PACK<T>; i < in; i += blockDim.x * PACK<T>) {
      float values[PACK<T>];
      load(own + i, true, 0, values);
#pragma unroll
      for (int j = 0; j < PACK<T>; j++) squares += values[j] * values[j];
    }
    float factor = rsqrtf(block_reduce<Sum>(squares) / in + eps);
    for (int i = threadIdx.x * PACK<T>; i < in; i += blockDim.x * PACK<T>) {
      float values[PACK<T>];
      load(own + i, true, 0, values);
#pragma unroll
      for (int j = 0; j < PACK<T>; j++) values[j] *= factor * scale[i + j];
      store(out + row * in + i, true, 0, values);
    }
  }
  __syncthreads();
}

// `gelu(x · Wᵀ + bias) + residual` of at most ROWS rows, which are normalised before if there is a
// scale; `shared` has room for them then. `split` warps share an output. `weight` `[out, in]` with rows
// of whole packs; a gated one is `[2 · out, in]`, and gives `gelu(first) · second`.
template <typename T, int ROWS, bool GATED>
__device__ void few_rows(const T *__restrict__ x, const T *__restrict__ weight, const float *__restrict__ scale,
                         float eps, const T *__restrict__ bias, const T *__restrict__ residual,
                         T *__restrict__ out, int rows, int in, int width, int split, int with_gelu, T *shared) {
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int output = blockIdx.x * (WARPS / split) + warp / split;
  if (scale) {
    normalise(x, scale, shared, rows, in, eps);
    x = shared;
  }
  float sums[ROWS] = {}, seconds[ROWS] = {};
  if (output < width) {
    const T *first = weight + (int64_t)output * in, *second = first + (int64_t)width * in;
    // So many packs of the weight are on their way at once.
    constexpr int AHEAD = ROWS > 2 ? 2 : 4;
    int step = split * WARP * PACK<T>;
    for (int start = (warp % split * WARP + lane) * PACK<T>; start < in; start += AHEAD * step) {
      Pack<T> w[AHEAD], v[AHEAD];
#pragma unroll
      for (int j = 0; j < AHEAD; j++) {
        int i = start + j * step;
        w[j] = stream(first + i, i < in);
        if (GATED) v[j] = stream(second + i, i < in);
      }
#pragma unroll
      for (int j = 0; j < AHEAD; j++) {
        int i = start + j * step;
        if (i >= in) break;
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
          if (row < rows) {
            float values[PACK<T>];
            load(x + (int64_t)row * in + i, true, 0, values);
#pragma unroll
            for (int k = 0; k < PACK<T>; k++) {
              sums[row] += to_f32(w[j].values[k]) * values[k];
              if (GATED) seconds[row] += to_f32(v[j].values[k]) * values[k];
            }
          }
        }
      }
    }
  }
  __shared__ float shares[WARPS][2 * ROWS];
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    float sum = warp_reduce<Sum>(sums[row]), second = GATED ? warp_reduce<Sum>(seconds[row]) : 0.0f;
    if (lane == 0) {
      shares[warp][row] = sum;
      shares[warp][ROWS + row] = second;
    }
  }
  __syncthreads();
  // A thread for each row of each output.
  int row = threadIdx.x % ROWS, own = threadIdx.x / ROWS;
  output = blockIdx.x * (WARPS / split) + own;
  if (own >= WARPS / split || output >= width || row >= rows) return;
  float y = 0.0f, second = 0.0f;
  for (int i = 0; i < split; i++) {
    y += shares[own * split + i][row];
    second += shares[own * split + i][ROWS + row];
  }
  int64_t at = (int64_t)row * width + output;
  y = rounded<T>(y);
  if (GATED) y = rounded<T>(gelu(y)) * rounded<T>(second);
  if (bias) y = rounded<T>(y + to_f32(bias[output]));
  if (with_gelu) y = rounded<T>(gelu(y));
  if (residual) y += to_f32(residual[at]);
  out[at] = from_f32<T>(y);
}

// `gelu(y + bias) + residual` of what another product gave, `[rows, width]`; a pack a thread.
template <typename T>
__device__ void epilogue(const T *__restrict__ y, const T *__restrict__ bias, const T *__restrict__ residual,
                         T *__restrict__ out, int64_t count, int width, int with_gelu) {
  int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  if (first >= count) return;
  bool whole = width % PACK<T> == 0;
  float values[PACK<T>], add[PACK<T>];
  load(y + first, whole, count - first, values);
  int column = first % width;
  if (residual) load(residual + first, whole, count - first, add);
#pragma unroll
  for (int i = 0; i < PACK<T>; i++) {
    if (bias) values[i] = rounded<T>(values[i] + to_f32(bias[(column + i) % width]));
    if (with_gelu) values[i] = rounded<T>(gelu(values[i]));
    if (residual) values[i] += add[i];
  }
  store(out + first, whole, count - first, values);
}

// `gelu(first) · second` for `[rows, 2 · width]`; a pack a thread.
template <typename T>
__device__ void gelu_gated(const T *__restrict__ y, T *__restrict__ out, int64_t count, int width) {
  int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  if (first >= count) return;
  bool whole = width % PACK<T> == 0;
  float values[PACK<T>], gates[PACK<T>];
  if (whole) {
    const T *row = y + first / width * 2 * width + first % width;
    load(row, true, 0, gates);
    load(row + width, true, 0, values);
  } else {
    for (int i = 0; i < PACK<T>; i++) {
      int64_t at = first + i < count ? first + i : first;
      const T *row = y + at / width * 2 * width + at % width;
      gates[i] = to_f32(row[0]);
      values[i] = to_f32(row[width]);
    }
  }
#pragma unroll
  for (int i = 0; i < PACK<T>; i++) values[i] *= rounded<T>(gelu(gates[i]));
  store(out + first, whole, count - first, values);
}

#define FEW_ROWS(T, NAME, ROWS)                                                                                \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP, 3)                                                \
      few_rows_##ROWS##_##NAME(const T *x, const T *weight, const float *scale, float eps, const T *bias,   \
                               const T *residual, T *out, int rows, int in, int width, int split,              \
                               int with_gelu) {                                                                \
    extern __shared__ __align__(16) float shared[];                                                            \
    few_rows<T, ROWS, false>(x, weight, scale, eps, bias, residual, out, rows, in, width, split, with_gelu, \
                             (T *)shared);                                                                     \
  }  \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP, 3)                                                \
      few_rows_gated_##ROWS##_##NAME(const T *x, const T *weight, const float *scale, float eps, const T *bias,   \
                               const T *residual, T *out, int rows, int in, int width, int split,              \
                               int with_gelu) {                                                                \
    extern __shared__ __align__(16) float shared[];                                                            \
    few_rows<T, ROWS, true>(x, weight, scale, eps, bias, residual, out, rows, in, width, split, with_gelu, \
                             (T *)shared);                                                                     \
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
