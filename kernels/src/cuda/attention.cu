// Attention: rotary positions, the KV cache, softmax, and decoding.
//
// The cache is `[slots, kv_heads, context, head_dim]`, and rows are `[heads, head_dim]` each.

#include "device.cuh"

// Of each row `[heads + 2 · kv_heads, head_dim]`, rotates the queries to `queries` `[heads, head_dim]`,
// rotates the keys into the cache, and copies the values there. One block a head of a row.
// `cos` and `sin` are `[rows, head_dim / 2]`, `slots` and `positions` `[rows]`.
template <typename T>
__device__ void rotate_and_keep(const T *__restrict__ qkv, const T *__restrict__ cos,
                                const T *__restrict__ sin, const uint32_t *__restrict__ slots,
                                const uint32_t *__restrict__ positions, T *__restrict__ queries,
                                T *__restrict__ keys, T *__restrict__ values, int heads, int kv_heads,
                                int head_dim, int context) {
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

// Scores of a row that a lane keeps in registers.
constexpr int KEPT = 16;

// Softmax over rows of scores `[blocks · rows, keys]`, in f32; one warp a row. `mask` `[rows, keys]`
// is 0 where a key is seen and -∞ where not, and may be absent.
template <typename T>
__device__ void softmax(const float *__restrict__ scores, const float *__restrict__ mask, T *__restrict__ out,
                        int64_t count, int rows, int keys, float scale, float softcap) {
  int lane = threadIdx.x % WARP;
  int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
  if (row >= count) return;
  scores += row * keys;
  out += row * keys;
  const float *hidden = mask ? mask + row % rows * keys : nullptr;
  auto score = [&](int i) {
    float own = scored(scores[i], scale, softcap);
    return hidden ? own + hidden[i] : own;
  };
  float kept[KEPT];
  float max = -INFINITY;
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    int key = i * WARP + lane;
    kept[i] = key < keys ? score(key) : -INFINITY;
    max = fmaxf(max, kept[i]);
  }
  for (int key = KEPT * WARP + lane; key < keys; key += WARP) max = fmaxf(max, score(key));
  max = warp_reduce<Max>(max);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    kept[i] = expf(kept[i] - max);
    sum += kept[i];
  }
  for (int key = KEPT * WARP + lane; key < keys; key += WARP) sum += expf(score(key) - max);
  sum = warp_reduce<Sum>(sum);
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    int key = i * WARP + lane;
    if (key < keys) out[key] = from_f32<T>(kept[i] / sum);
  }
  for (int key = KEPT * WARP + lane; key < keys; key += WARP) out[key] = from_f32<T>(expf(score(key) - max) / sum);
}

// Of images `[images · patches, 3 · heads · head_dim]` to `[3, images, heads, patches, head_dim]`, or of
// `[images, heads, patches, head_dim]` to `[images · patches, heads · head_dim]`; a pack a thread.
template <typename T>
__device__ void regroup(const T *__restrict__ from, T *__restrict__ to, int64_t count, int parts, int heads,
                        int patches, int head_dim, int split) {
  int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  if (first >= count) return;
  bool whole = head_dim % PACK<T> == 0;
  int64_t of_part = count / parts;
  for (int i = 0; i < PACK<T>; i += whole ? PACK<T> : 1) {
    int64_t at = first + i;
    if (at >= count) return;
    // Where the value lies when it is grouped by heads, and when by patches.
    int64_t part = at / of_part, rest = at % of_part;
    int64_t value = rest % head_dim, patch = rest / head_dim % patches;
    int64_t head = rest / head_dim / patches % heads, image = rest / head_dim / patches / heads;
    int64_t by_patch = (((image * patches + patch) * parts + part) * heads + head) * head_dim + value;
    int64_t source = split ? by_patch : at, target = split ? at : by_patch;
    if (whole) {
      *(Pack<T> *)(to + target) = *(const Pack<T> *)(from + source);
    } else {
      to[target] = from[source];
    }
  }
}

constexpr int THREADS = 256;

// What a row sees of its slot: keys first..end, in parts of so many.
struct Seen {
  int first, end;
  __device__ Seen(uint32_t position, int window) {
    end = (int)position + 1;
    first = window > 0 && end > window ? end - window : 0;
  }
  __device__ int parts(int size) const { return (end - first + size - 1) / size; }
};

// One part of `size` of a row's keys, for up to G heads of one key head. The grid is parts, groups of
// all key heads, rows. `partial` f32 `[rows, heads, parts, head_dim]` gets sums of values weighted by
// exp(score - max), and `totals` f32 `[rows, heads, parts, 2]` gets max and the sum of weights.
template <typename T, int G>
__device__ void decode_part(const T *__restrict__ queries, const T *__restrict__ keys,
                            const T *__restrict__ values, const uint32_t *__restrict__ slots,
                            const uint32_t *__restrict__ positions, float *__restrict__ partial,
                            float *__restrict__ totals, int heads, int kv_heads, int head_dim, int context,
                            int window, int size, float scale, float softcap, float *shared) {
  int part = blockIdx.x, row = blockIdx.z, parts = gridDim.x;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int group = heads / kv_heads, groups = (group + G - 1) / G;
  int kv_head = blockIdx.y / groups;
  int first_head = kv_head * group + blockIdx.y % groups * G;
  int count = (kv_head + 1) * group - first_head;
  if (count > G) count = G;
  Seen seen(positions[row], window);
  int first = seen.first + part * size;
  int length = seen.end - first;
  if (length <= 0) return;
  if (length > size) length = size;

  float *query = shared;                 // [G, head_dim]
  float *weights = query + G * head_dim; // [G, size]
  const T *own = queries + ((int64_t)row * heads + first_head) * head_dim;
  for (int i = threadIdx.x; i < G * head_dim; i += THREADS) {
    query[i] = i < count * head_dim ? to_f32(own[i]) : 0.0f;
  }
  __syncthreads();

  int64_t start = (((int64_t)slots[row] * kv_heads + kv_head) * context + first) * head_dim;
  keys += start;
  values += start;
  bool whole = head_dim % PACK<T> == 0;
#pragma unroll 2
  for (int key = warp; key < length; key += THREADS / WARP) {
    float sums[G] = {};
    for (int i = lane * PACK<T>; i < head_dim; i += WARP * PACK<T>) {
      float own[PACK<T>];
      load(keys + (int64_t)key * head_dim + i, whole, head_dim - i, own);
#pragma unroll
      for (int g = 0; g < G; g++) {
#pragma unroll
        for (int j = 0; j < PACK<T>; j++) {
          if (whole || i + j < head_dim) sums[g] += own[j] * query[g * head_dim + i + j];
        }
      }
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      float score = warp_reduce<Sum>(sums[g]);
      if (lane == 0) weights[g * size + key] = scored(score, scale, softcap);
    }
  }
  __syncthreads();

  for (int g = warp; g < count; g += THREADS / WARP) {
    float max = -INFINITY, sum = 0.0f;
    for (int key = lane; key < length; key += WARP) max = fmaxf(max, weights[g * size + key]);
    max = warp_reduce<Max>(max);
    for (int key = lane; key < length; key += WARP) {
      float weight = expf(weights[g * size + key] - max);
      weights[g * size + key] = weight;
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
      for (int g = 0; g < G; g++) sums[g] += weights[g * size + key] * value;
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (g < count) partial[(((int64_t)row * heads + first_head + g) * parts + part) * head_dim + i] = sums[g];
    }
  }
}

// Puts the parts of a head of a row together. The grid is heads, rows.
template <typename T>
__device__ void decode_combine(const float *__restrict__ partial, const float *__restrict__ totals,
                               const uint32_t *__restrict__ positions, T *__restrict__ out, int head_dim,
                               int parts, int window, int size) {
  int64_t head = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
  int own = Seen(positions[blockIdx.y], window).parts(size);
  partial += head * parts * head_dim;
  totals += head * parts * 2;
  float max = -INFINITY, sum = 0.0f;
#pragma unroll 8
  for (int part = 0; part < own; part++) max = fmaxf(max, totals[2 * part]);
  for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
    float value = 0.0f;
    sum = 0.0f;
#pragma unroll 8
    for (int part = 0; part < own; part++) {
      float weight = expf(totals[2 * part] - max);
      value += partial[(int64_t)part * head_dim + i] * weight;
      sum += totals[2 * part + 1] * weight;
    }
    out[head * head_dim + i] = from_f32<T>(value / sum);
  }
}

#define DECODE_PART(T, NAME, G)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_part_##G##_##NAME(                              \
      const T *queries, const T *keys, const T *values, const uint32_t *slots, const uint32_t *positions,      \
      float *partial, float *totals, int heads, int kv_heads, int head_dim, int context, int window,           \
      int size, float scale, float softcap) {                                                                            \
    extern __shared__ float shared[];                                                                          \
    decode_part<T, G>(queries, keys, values, slots, positions, partial, totals, heads, kv_heads, head_dim,     \
                      context, window, size, scale, softcap, shared);                                                \
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
                                                   int window, int size) {                                     \
    decode_combine<T>(partial, totals, positions, out, head_dim, parts, window, size);                         \
  }                                                                                                            \
  extern "C" __global__ void regroup_##NAME(const T *from, T *to, int64_t count, int parts, int heads,         \
                                            int patches, int head_dim, int split) {                            \
    regroup<T>(from, to, count, parts, heads, patches, head_dim, split);                                       \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
