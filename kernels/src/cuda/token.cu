// From the last product to a token.

#include "device.cuh"

// Logits in f32, after the final softcap: of each row `[table]` the first `vocab`.
template <typename T>
__device__ void logits(const T *y, float *out, int64_t count, int table, int vocab, float softcap) {
  int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  out[i] = scored(to_f32(y[i / vocab * table + i % vocab]), 1.0f, softcap);
}

// A candidate for the likeliest token: of equally likely ones, the lowest id.
struct Likeliest {
  float logit;
  uint32_t id;
  __device__ void meet(float other, uint32_t other_id) {
    if (other > logit || (other == logit && other_id < id)) {
      logit = other;
      id = other_id;
    }
  }
};

// The likeliest token of each row of logits, and whether all of them are finite. One block a row;
// `out` `[rows, 2]`.
extern "C" __global__ void __launch_bounds__(1024) likeliest(const float *logits, uint32_t *out, int vocab) {
  const float *row = logits + (int64_t)blockIdx.x * vocab;
  Likeliest best = {-INFINITY, 0xffffffff};
  int broken = 0;
#pragma unroll 8
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
    float logit = row[i];
    broken |= !(fabsf(logit) < INFINITY);
    best.meet(logit, i);
  }
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    float logit = __shfl_xor_sync(0xffffffff, best.logit, offset);
    uint32_t id = __shfl_xor_sync(0xffffffff, best.id, offset);
    best.meet(logit, id);
  }
  broken = __syncthreads_or(broken);
  __shared__ Likeliest of_warp[WARP];
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = best;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < (int)blockDim.x / WARP; warp++) best.meet(of_warp[warp].logit, of_warp[warp].id);
    out[2 * blockIdx.x] = best.id == 0xffffffff ? 0 : best.id;
    out[2 * blockIdx.x + 1] = !broken;
  }
}

extern "C" __global__ void logits_f32(const float *y, float *out, int64_t count, int table, int vocab,
                                      float softcap) {
  logits<float>(y, out, count, table, vocab, softcap);
}
extern "C" __global__ void logits_bf16(const bf16 *y, float *out, int64_t count, int table, int vocab,
                                       float softcap) {
  logits<bf16>(y, out, count, table, vocab, softcap);
}
