// Attention: rotary positions, the KV cache, softmax, and decoding.
//
// The cache is `[slots, kv_heads, context, head_dim]`, and rows are `[heads, head_dim]` each.

#include "device.cuh"

// Of each row `[heads + 2 · kv_heads, head_dim]`, rotates the queries to `queries` `[heads, head_dim]`,
// rotates the keys into the cache, and copies the values there. One block a head of a row.
// `cos` and `sin` are `[rows, head_dim / 2]`, `slots` and `positions` `[rows]`.
template <typename T>
__device__ void rotate_and_keep(const T *qkv, const T *cos, const T *sin, const uint32_t *slots,
                                const uint32_t *positions, T *queries, T *keys, T *values, int heads,
                                int kv_heads, int head_dim, int context) {
  int row = blockIdx.x, head = blockIdx.y, half = head_dim / 2;
  const T *x = qkv + ((int64_t)row * (heads + 2 * kv_heads) + head) * head_dim;
  T *out;
  if (head < heads) {
    out = queries + ((int64_t)row * heads + head) * head_dim;
  } else {
    T *cache = head < heads + kv_heads ? keys : values;
    int64_t kv_head = (int64_t)slots[row] * kv_heads + (head - heads) % kv_heads;
    out = cache + (kv_head * context + positions[row]) * head_dim;
  }
  bool rotates = head < heads + kv_heads;
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    float a = to_f32(x[i]), b = to_f32(x[i + half]);
    if (rotates) {
      float c = to_f32(cos[(int64_t)row * half + i]), s = to_f32(sin[(int64_t)row * half + i]);
      float rotated = a * c - b * s;
      b = b * c + a * s;
      a = rotated;
    }
    out[i] = from_f32<T>(a);
    out[i + half] = from_f32<T>(b);
  }
}

// Softmax over rows of scores `[blocks · rows, keys]`, in f32; one warp a row. `mask` `[rows, keys]`
// is 0 where a key is seen and -∞ where not, and may be absent.
template <typename T>
__device__ void softmax(const float *scores, const float *mask, T *out, int64_t count, int rows, int keys,
                        float scale, float softcap) {
  int lane = threadIdx.x % WARP;
  int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
  if (row >= count) return;
  scores += row * keys;
  out += row * keys;
  const float *hidden = mask ? mask + row % rows * keys : nullptr;
  float max = -INFINITY;
  for (int i = lane; i < keys; i += WARP) {
    float score = scored(scores[i], scale, softcap);
    if (hidden) score += hidden[i];
    max = fmaxf(max, score);
  }
  max = warp_reduce<Max>(max);
  float sum = 0.0f;
  for (int i = lane; i < keys; i += WARP) {
    float score = scored(scores[i], scale, softcap);
    if (hidden) score += hidden[i];
    sum += expf(score - max);
  }
  sum = warp_reduce<Sum>(sum);
  for (int i = lane; i < keys; i += WARP) {
    float score = scored(scores[i], scale, softcap);
    if (hidden) score += hidden[i];
    out[i] = from_f32<T>(expf(score - max) / sum);
  }
}

// Decoding splits a sequence's keys in parts, which blocks attend to one by one.
constexpr int PART = 64;
constexpr int THREADS = 256;


// What a row sees of its slot: keys first..end, in parts of PART.
struct Seen {
  int first, end;
  __device__ Seen(uint32_t position, int window) {
    end = (int)position + 1;
    first = window > 0 && end > window ? end - window : 0;
  }
  __device__ int parts() const { return (end - first + PART - 1) / PART; }
};

// One part of a row's keys, for up to G heads of one key head. The grid is parts, groups of all key
// heads, rows. `partial` f32 `[rows, heads, parts, head_dim]` gets sums of values weighted by
// exp(score - max), and `totals` f32 `[rows, heads, parts, 2]` gets max and the sum of weights.
template <typename T, int G>
__device__ void decode_part(const T *queries, const T *keys, const T *values, const uint32_t *slots,
                            const uint32_t *positions, float *partial, float *totals, int heads,
                            int kv_heads, int head_dim, int context, int window, float scale,
                            float softcap, float *shared) {
  int part = blockIdx.x, row = blockIdx.z, parts = gridDim.x;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int group = heads / kv_heads, groups = (group + G - 1) / G;
  int kv_head = blockIdx.y / groups;
  int first_head = kv_head * group + blockIdx.y % groups * G;
  int count = (kv_head + 1) * group - first_head;
  if (count > G) count = G;
  Seen seen(positions[row], window);
  int first = seen.first + part * PART;
  int length = seen.end - first;
  if (length <= 0) return;
  if (length > PART) length = PART;

  float *query = shared;                 // [G, head_dim]
  float *weights = query + G * head_dim; // [G, PART]
  const T *own = queries + ((int64_t)row * heads + first_head) * head_dim;
  for (int i = threadIdx.x; i < G * head_dim; i += THREADS) {
    query[i] = i < count * head_dim ? to_f32(own[i]) : 0.0f;
  }
  __syncthreads();

  int64_t start = (((int64_t)slots[row] * kv_heads + kv_head) * context + first) * head_dim;
  keys += start;
  values += start;
  for (int key = warp; key < length; key += THREADS / WARP) {
    float sums[G] = {};
    for (int i = 2 * lane; i < head_dim; i += 2 * WARP) {
      float a = to_f32(keys[(int64_t)key * head_dim + i]);
      float b = to_f32(keys[(int64_t)key * head_dim + i + 1]);
#pragma unroll
      for (int g = 0; g < G; g++) sums[g] += a * query[g * head_dim + i] + b * query[g * head_dim + i + 1];
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      float score = warp_reduce<Sum>(sums[g]);
      if (lane == 0) weights[g * PART + key] = scored(score, scale, softcap);
    }
  }
  __syncthreads();

  for (int g = warp; g < count; g += THREADS / WARP) {
    float max = -INFINITY, sum = 0.0f;
    for (int key = lane; key < length; key += WARP) max = fmaxf(max, weights[g * PART + key]);
    max = warp_reduce<Max>(max);
    for (int key = lane; key < length; key += WARP) {
      float weight = expf(weights[g * PART + key] - max);
      weights[g * PART + key] = weight;
      sum += weight;
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) {
      float *total = totals + (((int64_t)row * heads + first_head + g) * parts + part) * 2;
      total[0] = max;
      total[1] = sum;
    }
  }
  __syncthreads();

  for (int i = threadIdx.x; i < head_dim; i += THREADS) {
    float sums[G] = {};
#pragma unroll 8
    for (int key = 0; key < length; key++) {
      float value = to_f32(values[(int64_t)key * head_dim + i]);
#pragma unroll
      for (int g = 0; g < G; g++) sums[g] += weights[g * PART + key] * value;
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (g < count) partial[(((int64_t)row * heads + first_head + g) * parts + part) * head_dim + i] = sums[g];
    }
  }
}

// Puts the parts of a head of a row together. The grid is heads, rows.
template <typename T>
__device__ void decode_combine(const float *partial, const float *totals, const uint32_t *positions, T *out,
                               int head_dim, int parts, int window) {
  int64_t head = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
  int own = Seen(positions[blockIdx.y], window).parts();
  partial += head * parts * head_dim;
  totals += head * parts * 2;
  float max = -INFINITY, sum = 0.0f;
  for (int part = 0; part < own; part++) max = fmaxf(max, totals[2 * part]);
  for (int part = 0; part < own; part++) sum += totals[2 * part + 1] * expf(totals[2 * part] - max);
  for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
    float value = 0.0f;
    for (int part = 0; part < own; part++) {
      value += partial[(int64_t)part * head_dim + i] * expf(totals[2 * part] - max);
    }
    out[head * head_dim + i] = from_f32<T>(value / sum);
  }
}

#define DECODE_PART(T, NAME, G)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS) decode_part_##G##_##NAME(                              \
      const T *queries, const T *keys, const T *values, const uint32_t *slots, const uint32_t *positions,      \
      float *partial, float *totals, int heads, int kv_heads, int head_dim, int context, int window,           \
      float scale, float softcap) {                                                                            \
    extern __shared__ float shared[];                                                                          \
    decode_part<T, G>(queries, keys, values, slots, positions, partial, totals, heads, kv_heads, head_dim,     \
                      context, window, scale, softcap, shared);                                                \
  }
#define KERNELS(T, NAME)                                                                                       \
  extern "C" __global__ void rotate_and_keep_##NAME(                                                           \
      const T *qkv, const T *cos, const T *sin, const uint32_t *slots, const uint32_t *positions, T *queries,  \
      T *keys, T *values, int heads, int kv_heads, int head_dim, int context) {                                \
    rotate_and_keep<T>(qkv, cos, sin, slots, positions, queries, keys, values, heads, kv_heads, head_dim,      \
                       context);                                                                               \
  }                                                                                                            \
  extern "C" __global__ void softmax_##NAME(const float *scores, const float *mask, T *out, int64_t count,     \
                                            int rows, int keys, float scale, float softcap) {                  \
    softmax<T>(scores, mask, out, count, rows, keys, scale, softcap);                                          \
  }                                                                                                            \
  DECODE_PART(T, NAME, 2)                                                                                      \
  DECODE_PART(T, NAME, 8)                                                                                      \
  extern "C" __global__ void decode_combine_##NAME(const float *partial, const float *totals,                  \
                                                   const uint32_t *positions, T *out, int head_dim, int parts, \
                                                   int window) {                                               \
    decode_combine<T>(partial, totals, positions, out, head_dim, parts, window);                               \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
