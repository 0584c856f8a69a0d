// From the last product to a token.

#include "device.cuh"

// Logits in f32, after the final softcap: of each row `[table]` the first `vocab`. The grid is blocks
// of a row, rows.
template <typename T>
__device__ void logits(const T *__restrict__ y, float *__restrict__ out, int table, int vocab, float softcap) {
  int first = (blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  if (first >= vocab) return;
  float values[PACK<T>];
  load(y + (int64_t)blockIdx.y * table + first, table % PACK<T> == 0, table - first, values);
#pragma unroll
  for (int i = 0; i < PACK<T>; i++) {
    if (first + i < vocab) out[(int64_t)blockIdx.y * vocab + first + i] = scored(values[i], 1.0f, softcap);
  }
}

constexpr uint32_t NO_TOKEN = 0xffffffff;

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

// Among all threads of a block, of which each has met some; every thread gets it.
__device__ inline Likeliest block_likeliest(Likeliest best) {
  __shared__ Likeliest of_warp[WARP];
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    float logit = __shfl_xor_sync(0xffffffff, best.logit, offset);
    uint32_t id = __shfl_xor_sync(0xffffffff, best.id, offset);
    best.meet(logit, id);
  }
  __syncthreads();
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = best;
  __syncthreads();
  for (int warp = 0; warp < (int)blockDim.x / WARP; warp++) best.meet(of_warp[warp].logit, of_warp[warp].id);
  return best;
}

// What a part of a row's logits is like.
struct Part {
  Likeliest best;
  // Of exp(logit - best), and of exp((logit - best) / temperature).
  float sum, warm;
  int broken;
};

// What is wanted of a row: how many of the likeliest tokens, or -1 for no log-probabilities at all; the
// first and the end of ids that have neighbours, and how far these are; 1 / temperature.
struct Wanted {
  int top, first, end, radius;
  float colder;
};

// The grid is parts of rows, rows; `parts` `[rows, parts]`.
extern "C" __global__ void __launch_bounds__(1024) scan(const float *logits, Part *parts, const Wanted *wanted,
                                                        int vocab) {
  const float *row = logits + (int64_t)blockIdx.y * vocab;
  int size = (vocab + gridDim.x - 1) / gridDim.x, first = blockIdx.x * size;
  int end = first + size < vocab ? first + size : vocab;
  Likeliest best = {-INFINITY, NO_TOKEN};
  int broken = 0;
#pragma unroll 4
  for (int i = first + threadIdx.x; i < end; i += blockDim.x) {
    float logit = row[i];
    broken |= !(fabsf(logit) < INFINITY);
    best.meet(logit, i);
  }
  best = block_likeliest(best);
  broken = __syncthreads_or(broken);
  float sum = 0.0f;
#pragma unroll 4
  for (int i = first + threadIdx.x; i < end; i += blockDim.x) sum += expf(row[i] - best.logit);
  sum = block_reduce<Sum>(sum);
  float warm = sum, colder = wanted[blockIdx.y].colder;
  if (colder != 1.0f) {
    warm = 0.0f;
#pragma unroll 4
    for (int i = first + threadIdx.x; i < end; i += blockDim.x) warm += expf((row[i] - best.logit) * colder);
    warm = block_reduce<Sum>(warm);
  }
  if (threadIdx.x == 0) parts[blockIdx.y * gridDim.x + blockIdx.x] = Part{best, sum, warm, broken};
}

// The likeliest token of each row of logits `[rows, vocab]`, which were scanned in `count` parts, and
// what is to be reported of it. One block a row.
//
// `wanted` `[rows]` says what. `out` `[rows, 5 + 2 · most]` gets the id, whether all logits are finite,
// the log-probability of the token, that of it and its neighbours together, the logarithm of the sum of
// exp((logit - highest) / temperature), and then the likeliest ids and their log-probabilities; floats
// by their bits.
extern "C" __global__ void __launch_bounds__(1024) likeliest(const float *logits, const Part *parts,
                                                             const Wanted *wanted, uint32_t *out, int vocab,
                                                             int count, int most) {
  const float *row = logits + (int64_t)blockIdx.x * vocab;
  parts += (int64_t)blockIdx.x * count;
  out += (int64_t)blockIdx.x * (5 + 2 * most);
  Likeliest best = {-INFINITY, NO_TOKEN};
  int broken = 0;
  for (int i = 0; i < count; i++) {
    best.meet(parts[i].best.logit, parts[i].best.id);
    broken |= parts[i].broken;
  }
  uint32_t id = best.id == NO_TOKEN ? 0 : best.id;
  if (threadIdx.x == 0) {
    out[0] = id;
    out[1] = !broken;
  }
  Wanted report = wanted[blockIdx.x];
  if (broken || report.top < 0) return;

  float sum = 0.0f, warm = 0.0f;
  for (int i = 0; i < count; i++) {
    float below = parts[i].best.logit - best.logit;
    sum += parts[i].sum * expf(below);
    warm += parts[i].warm * expf(below * report.colder);
  }
  float total = logf(sum);
  if (threadIdx.x == 0) {
    float near = 1.0f;
    int first = report.first, end = report.end, radius = report.radius;
    if ((int)id >= first && (int)id < end) {
      if (first < (int)id - radius) first = id - radius;
      if (end > (int)id + radius + 1) end = id + radius + 1;
      near = 0.0f;
      for (int i = first; i < end; i++) near += expf(row[i] - best.logit);
    }
    out[2] = __float_as_uint(-total);
    out[3] = __float_as_uint(logf(near) - total);
    out[4] = __float_as_uint(logf(warm));
  }
  // One after the other, each the best of those that come after the last.
  Likeliest last = best;
  for (int place = 0; place < report.top; place++) {
    if (place > 0) {
      Likeliest next = {-INFINITY, NO_TOKEN};
#pragma unroll 8
      for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        float logit = row[i];
        bool after = logit < last.logit || (logit == last.logit && (uint32_t)i > last.id);
        if (after) next.meet(logit, i);
      }
      last = block_likeliest(next);
    }
    if (threadIdx.x == 0) {
      out[5 + 2 * place] = last.id;
      out[6 + 2 * place] = __float_as_uint(last.logit - best.logit - total);
    }
  }
}

extern "C" __global__ void logits_f32(const float *y, float *out, int table, int vocab, float softcap) {
  logits<float>(y, out, table, vocab, softcap);
}
extern "C" __global__ void logits_bf16(const bf16 *y, float *out, int table, int vocab, float softcap) {
  logits<bf16>(y, out, table, vocab, softcap);
}
