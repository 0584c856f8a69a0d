// Norms over rows. One block a row.

#include "device.cuh"

// `x / rms(x) · scale`, and then `residual` plus that if there is a residual.
template <typename T>
__device__ void rms_norm(const T *x, const float *scale, const T *residual, T *out, int width, float eps) {
  x += (int64_t)blockIdx.x * width;
  out += (int64_t)blockIdx.x * width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float value = to_f32(x[i]);
    squares += value * value;
  }
  float factor = rsqrtf(block_reduce<Sum>(squares) / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float y = to_f32(x[i]) * factor * scale[i];
    if (residual) y = to_f32(residual[(int64_t)blockIdx.x * width + i]) + rounded<T>(y);
    out[i] = from_f32<T>(y);
  }
}

// `(x - mean) / deviation · weight + bias`.
template <typename T>
__device__ void layer_norm(const T *x, const float *weight, const float *bias, T *out, int width, float eps) {
  x += (int64_t)blockIdx.x * width;
  out += (int64_t)blockIdx.x * width;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += to_f32(x[i]);
  float mean = block_reduce<Sum>(sum) / width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float value = to_f32(x[i]) - mean;
    squares += value * value;
  }
  float factor = rsqrtf(block_reduce<Sum>(squares) / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    out[i] = from_f32<T>((to_f32(x[i]) - mean) * factor * weight[i] + bias[i]);
  }
}

#define KERNELS(T, NAME)                                                                                        \
  extern "C" __global__ void rms_norm_##NAME(const T *x, const float *scale, const T *residual, T *out,         \
                                             int width, float eps) {                                            \
    rms_norm<T>(x, scale, residual, out, width, eps);                                                           \
  }                                                                                                             \
  extern "C" __global__ void layer_norm_##NAME(const T *x, const float *weight, const float *bias, T *out,      \
                                               int width, float eps) {                                          \
    layer_norm<T>(x, weight, bias, out, width, eps);                                                            \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
