// Norms over rows. One block a row.

#include "device.cuh"

// Packs of a row that a thread keeps in registers.
constexpr int KEPT = 4;

// Calls `part(first, whole, kept)` for each of a thread's packs of a row, with the pack's first value,
// whether the row is whole packs, and where the pack may be kept between calls.
template <typename T, typename Part> __device__ inline void for_packs(int width, float *kept, Part part) {
  bool whole = width % PACK<T> == 0;
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    int first = (i * blockDim.x + threadIdx.x) * PACK<T>;
    if (first < width) part(first, whole, kept + i * PACK<T>);
  }
}

// `x / rms(x) · scale`, and then `residual` plus that if there is a residual. At most KEPT packs a
// thread.
template <typename T>
__device__ void rms_norm(const T *__restrict__ x, const float *__restrict__ scale,
                         const T *__restrict__ residual, T *__restrict__ out, int width, float eps) {
  int64_t row = (int64_t)blockIdx.x * width;
  float kept[KEPT * PACK<T>];
  float squares = 0.0f;
  for_packs<T>(width, kept, [&](int first, bool whole, float *values) {
    load(x + row + first, whole, width - first, values);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) squares += values[i] * values[i];
  });
  float factor = rsqrtf(block_reduce<Sum>(squares) / width + eps);
  for_packs<T>(width, kept, [&](int first, bool whole, float *values) {
    float y[PACK<T>], add[PACK<T>];
    if (residual) load(residual + row + first, whole, width - first, add);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) {
      y[i] = values[i] * factor * (first + i < width ? scale[first + i] : 0.0f);
      if (residual) y[i] = add[i] + rounded<T>(y[i]);
    }
    store(out + row + first, whole, width - first, y);
  });
}

// `(x - mean) / deviation · weight + bias`. At most KEPT packs a thread.
template <typename T>
__device__ void layer_norm(const T *__restrict__ x, const float *__restrict__ weight,
                           const float *__restrict__ bias, T *__restrict__ out, int width, float eps) {
  int64_t row = (int64_t)blockIdx.x * width;
  float kept[KEPT * PACK<T>];
  float sum = 0.0f;
  for_packs<T>(width, kept, [&](int first, bool whole, float *values) {
    load(x + row + first, whole, width - first, values);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) sum += values[i];
  });
  float mean = block_reduce<Sum>(sum) / width;
  float squares = 0.0f;
  for_packs<T>(width, kept, [&](int first, bool, float *values) {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) {
      values[i] -= mean;
      if (first + i < width) squares += values[i] * values[i];
    }
  });
  float factor = rsqrtf(block_reduce<Sum>(squares) / width + eps);
  for_packs<T>(width, kept, [&](int first, bool whole, float *values) {
    float y[PACK<T>];
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) {
      y[i] = first + i < width ? values[i] * factor * weight[first + i] + bias[first + i] : 0.0f;
    }
    store(out + row + first, whole, width - first, y);
  });
}

#define KERNELS(T, NAME)                                                                                        \
  extern "C" __global__ void __launch_bounds__(1024)                                                            \
      rms_norm_##NAME(const T *x, const float *scale, const T *residual, T *out, int width, float eps) {        \
    rms_norm<T>(x, scale, residual, out, width, eps);                                                           \
  }                                                                                                             \
  extern "C" __global__ void __launch_bounds__(1024)                                                            \
      layer_norm_##NAME(const T *x, const float *weight, const float *bias, T *out, int width, float eps) {     \
    layer_norm<T>(x, weight, bias, out, width, eps);                                                            \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
