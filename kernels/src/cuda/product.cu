// The product of one row with a weight, and what follows a product.

#include "device.cuh"

// A pack that is read once and never again; zeros where it is not there.
template <typename T> __device__ inline Pack<T> stream(const T *from, bool there) {
  union {
    uint4 bits;
    Pack<T> pack;
  } value = {};
  if (there) value.bits = __ldcs((const uint4 *)from);
  return value.pack;
}

// `gelu(x · Wᵀ + bias) + residual` of one row, which is normalised before (see rms_norm) if there is a
// scale. `split` warps share an output. `weight` `[out, in]` with rows of whole packs; a gated one is `[2
// · out, in]`, and gives `gelu(first) · second`.
//
// The root mean square divides the sums, not each value: so nothing waits for it.
template <typename T, bool GATED>
__device__ void one_row(const T *__restrict__ x, const T *__restrict__ weight, const float *__restrict__ scale,
                        float eps, const T *__restrict__ bias, const T *__restrict__ residual,
                        T *__restrict__ out, int in, int width, int split, int with_gelu) {
  // So many packs of the weight are on their way at once.
  constexpr int AHEAD = 4;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int output = blockIdx.x * (WARPS / split) + warp / split;
  float sum = 0.0f, second_sum = 0.0f, squares = 0.0f;
  if (output < width) {
    const T *first = weight + (int64_t)output * in, *second = first + (int64_t)width * in;
    int step = split * WARP * PACK<T>;
    for (int start = (warp % split * WARP + lane) * PACK<T>; start < in; start += AHEAD * step) {
      Pack<T> w[AHEAD], v[AHEAD], own[AHEAD];
#pragma unroll
      for (int j = 0; j < AHEAD; j++) {
        int i = start + j * step;
        w[j] = stream(first + i, i < in);
        if (GATED) v[j] = stream(second + i, i < in);
        own[j] = i < in ? *(const Pack<T> *)(x + i) : Pack<T>{};
      }
#pragma unroll
      for (int j = 0; j < AHEAD; j++) {
        int i = start + j * step;
        if (i >= in) break;
        alignas(16) float factors[PACK<T>];
        if (scale) {
#pragma unroll
          for (int k = 0; k < PACK<T>; k += 4) *(float4 *)(factors + k) = *(const float4 *)(scale + i + k);
        }
#pragma unroll
        for (int k = 0; k < PACK<T>; k++) {
          float value = to_f32(own[j].values[k]);
          if (scale) {
            squares += value * value;
            value *= factors[k];
          }
          sum += to_f32(w[j].values[k]) * value;
          if (GATED) second_sum += to_f32(v[j].values[k]) * value;
        }
      }
    }
  }
  __shared__ float shares[WARPS][3];
  sum = warp_reduce<Sum>(sum);
  second_sum = GATED ? warp_reduce<Sum>(second_sum) : 0.0f;
  squares = scale ? warp_reduce<Sum>(squares) : 0.0f;
  if (lane == 0) {
    shares[warp][0] = sum;
    shares[warp][1] = second_sum;
    shares[warp][2] = squares;
  }
  __syncthreads();
  int own = threadIdx.x;
  output = blockIdx.x * (WARPS / split) + own;
  if (own >= WARPS / split || output >= width) return;
  sum = second_sum = squares = 0.0f;
  for (int i = own * split; i < (own + 1) * split; i++) {
    sum += shares[i][0];
    second_sum += shares[i][1];
    squares += shares[i][2];
  }
  float factor = scale ? rsqrtf(squares / in + eps) : 1.0f;
  if (GATED) {
    out[output] = from_f32<T>(rounded<T>(gelu(rounded<T>(sum * factor))) * rounded<T>(second_sum * factor));
  } else {
    out[output] = finished<T>(sum * factor, bias, residual, output, output, with_gelu);
  }
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

#define KERNELS(T, NAME)                                                                                       \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP, 2) one_row_##NAME(                                 \
      const T *x, const T *weight, const float *scale, float eps, const T *bias, const T *residual, T *out,    \
      int in, int width, int split, int with_gelu) {                                                           \
    one_row<T, false>(x, weight, scale, eps, bias, residual, out, in, width, split, with_gelu);               \
  }                                                                                                            \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP, 2) one_row_gated_##NAME(                                 \
      const T *x, const T *weight, const float *scale, float eps, const T *bias, const T *residual, T *out,    \
      int in, int width, int split, int with_gelu) {                                                           \
    one_row<T, true>(x, weight, scale, eps, bias, residual, out, in, width, split, with_gelu);               \
  }                                                                                                            \
  extern "C" __global__ void epilogue_##NAME(const T *y, const T *bias, const T *residual, T *out,             \
                                             int64_t count, int width, int with_gelu) {                        \
    epilogue<T>(y, bias, residual, out, count, width, with_gelu);                                              \
  }                                                                                                            \
  extern "C" __global__ void gelu_gated_##NAME(const T *y, T *out, int64_t count, int width) {                 \
    gelu_gated<T>(y, out, count, width);                                                                       \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
