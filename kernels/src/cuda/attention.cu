// Attention: rotary positions, the KV cache, softmax, and decoding.
//
// The cache is `[slots, kv_heads, context, head_dim]`, and rows are `[heads, head_dim]` each.

#include "device.cuh"

// Of prefixes' rows `[heads + 2 · kv_heads, head_dim]`: rotates the queries, and keys also into the cache,
// where values go, too. Queries, keys and values are put together by prefix and head, with zeros after a
// prefix's rows, up to those of the longest. The grid is prefixes · longest, heads + 2 · kv_heads.
//
// `cos` and `sin` are `[rows, head_dim / 2]`, `slots` and `positions` `[rows]`, and `spans` `[prefixes, 2]`
// has each prefix's first row and how many it has. `queries` is `[prefixes, heads, longest or 1, head_dim]`
// (1: only the last row's), `own_keys` and `own_values` `[prefixes, kv_heads, longest, head_dim]`.
template <typename T>
__device__ void rotate_and_keep(const T *__restrict__ qkv, const T *__restrict__ cos, const T *__restrict__ sin,
                                const uint32_t *__restrict__ slots, const uint32_t *__restrict__ positions,
                                const uint32_t *__restrict__ spans, T *__restrict__ queries,
                                T *__restrict__ own_keys, T *__restrict__ own_values, T *__restrict__ keys,
                                T *__restrict__ values, int heads, int kv_heads, int head_dim, int context,
                                int longest, int last_only) {
  int prefix = blockIdx.x / longest, at = blockIdx.x % longest, head = blockIdx.y, half = head_dim / 2;
  int row = spans[2 * prefix] + at, length = spans[2 * prefix + 1];
  bool rotates = head < heads + kv_heads, there = at < length;
  int kv_head = (head - heads) % kv_heads;
  T *out, *cache = nullptr;
  if (head < heads) {
    if (last_only && at != length - 1) return;
    int64_t of_head = (int64_t)prefix * heads + head;
    out = queries + (last_only ? of_head : of_head * longest + at) * head_dim;
  } else {
    out = (rotates ? own_keys : own_values) + (((int64_t)prefix * kv_heads + kv_head) * longest + at) * head_dim;
    if (there) {
      int64_t place = ((int64_t)slots[row] * kv_heads + kv_head) * context + positions[row];
      cache = (rotates ? keys : values) + place * head_dim;
    }
  }
  const T *x = qkv + ((int64_t)row * (heads + 2 * kv_heads) + head) * head_dim;
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    float a = 0.0f, b = 0.0f;
    if (there) {
      a = to_f32(x[i]);
      b = to_f32(x[i + half]);
    }
    if (there && rotates) {
      float c = to_f32(cos[(int64_t)row * half + i]), s = to_f32(sin[(int64_t)row * half + i]);
      float rotated = a * c - b * s;
      b = b * c + a * s;
      a = rotated;
    }
    out[i] = from_f32<T>(a);
    out[i + half] = from_f32<T>(b);
    if (cache) {
      cache[i] = from_f32<T>(a);
      cache[i + half] = from_f32<T>(b);
    }
  }
}

// Scores of a row that a lane keeps in registers.
constexpr int KEPT = 16;

// Softmax over rows of scores `[matrices, rows, keys]`, in f32; one warp a row.
//
// `of_prefix` rows one after another are those of a prefix, whose keys are as many as `spans` says, if there
// are spans; the others weigh 0. A matrix has its rows from `first` on, which are `queries` of each head.
// `mask` `[queries, keys of the prefix]` is 0 where a key is seen and -∞ where not, and may be absent.
template <typename T>
__device__ void softmax(const float *__restrict__ scores, const uint32_t *__restrict__ spans,
                        const float *__restrict__ mask, T *__restrict__ out, int64_t count, int rows, int keys,
                        int64_t of_prefix, int first, int queries, float scale, float softcap) {
  int lane = threadIdx.x % WARP;
  int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
  if (row >= count) return;
  scores += row * keys;
  out += row * keys;
  int seen = spans ? spans[row / of_prefix * 2 + 1] : keys, query = (first + row % rows) % queries;
  // Queries after the prefix's own have zeros, and what they give is not read.
  const float *hidden = mask && query < seen ? mask + (int64_t)query * seen : nullptr;
  auto score = [&](int i) {
    float own = scored(scores[i], scale, softcap);
    return hidden ? own + hidden[i] : own;
  };
  float kept[KEPT];
  float max = -INFINITY;
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    int key = i * WARP + lane;
    kept[i] = key < seen ? score(key) : -INFINITY;
    max = fmaxf(max, kept[i]);
  }
  for (int key = KEPT * WARP + lane; key < seen; key += WARP) max = fmaxf(max, score(key));
  max = warp_reduce<Max>(max);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    kept[i] = expf(kept[i] - max);
    sum += kept[i];
  }
  for (int key = KEPT * WARP + lane; key < seen; key += WARP) sum += expf(score(key) - max);
  sum = warp_reduce<Sum>(sum);
#pragma unroll
  for (int i = 0; i < KEPT; i++) {
    int key = i * WARP + lane;
    if (key < keys) out[key] = from_f32<T>(kept[i] / sum);
  }
  for (int key = KEPT * WARP + lane; key < keys; key += WARP) {
    out[key] = from_f32<T>(key < seen ? expf(score(key) - max) / sum : 0.0f);
  }
}

// Of images `[images · patches, 3 · heads · head_dim]` to `[3, images, heads, patches, head_dim]`; a pack a
// thread.
template <typename T>
__device__ void split_heads(const T *__restrict__ from, T *__restrict__ to, int64_t count, int heads, int patches,
                            int head_dim) {
  int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  bool whole = head_dim % PACK<T> == 0;
  for (int i = 0; i < PACK<T> && first + i < count; i += whole ? PACK<T> : 1) {
    int64_t at = first + i, of_part = count / 3;
    int64_t part = at / of_part, rest = at % of_part;
    int64_t value = rest % head_dim, patch = rest / head_dim % patches;
    int64_t head = rest / head_dim / patches % heads, image = rest / head_dim / patches / heads;
    copy_pack(from + (((image * patches + patch) * 3 + part) * heads + head) * head_dim + value, to + at, whole);
  }
}

// Of prefixes or images `[blocks, heads, rows, head_dim]` to `[rows of all, heads · head_dim]`; a pack a thread.
// Where there are spans, a block has its rows from its first on, and only so many; without, all of `rows`.
template <typename T>
__device__ void merge_heads(const T *__restrict__ from, const uint32_t *__restrict__ spans, T *__restrict__ to,
                            int64_t count, int heads, int rows, int head_dim) {
  int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
  bool whole = head_dim % PACK<T> == 0;
  for (int i = 0; i < PACK<T> && first + i < count; i += whole ? PACK<T> : 1) {
    int64_t at = first + i;
    int64_t value = at % head_dim, row = at / head_dim % rows;
    int64_t head = at / head_dim / rows % heads, block = at / head_dim / rows / heads;
    int64_t begin = spans ? spans[2 * block] : block * rows, length = spans ? spans[2 * block + 1] : rows;
    if (row < length) copy_pack(from + at, to + ((begin + row) * heads + head) * head_dim + value, whole);
  }
}

constexpr int THREADS = 256;
// Packs of a head that a lane has.
template <typename T> constexpr int CHUNKS = 256 / (WARP * PACK<T>);

// Sums over a warp of G values of each lane; a lane gets that of value `lane / (WARP / G)`.
template <int G> __device__ inline float reduce_each(float (&values)[G], int lane) {
  int offset = WARP / 2;
#pragma unroll
  for (int half = G / 2; half > 0; half /= 2) {
    bool upper = lane & offset;
#pragma unroll
    for (int i = 0; i < half; i++) {
      float sent = upper ? values[i] : values[i + half];
      float kept = upper ? values[i + half] : values[i];
      values[i] = kept + __shfl_xor_sync(0xffffffff, sent, offset);
    }
    offset /= 2;
  }
  for (; offset > 0; offset /= 2) values[0] += __shfl_xor_sync(0xffffffff, values[0], offset);
  return values[0];
}

// Rows that decode, each a query for every head over what it sees of its slot: keys, in parts of
// `size`, which blocks attend to one by one. The last block of a row to be done puts the parts
// together. The grid is parts, groups of at most G heads of all key heads, rows. A head has at most 256
// values, a multiple of 4.
//
// `qkv`, `cos`, `sin`, `slots`, `positions`, `keys` and `values` are as for rotate_and_keep, which this
// does for its rows, too. `partial` f32 `[rows, heads, parts, head_dim]` is for sums of values
// weighted by exp(score - max), `totals` f32 `[rows, heads, parts, 2]` for max and the sum of weights,
// and `done` `[rows, groups]` is 0 before and after.
template <typename T, int G>
__device__ void decode(const T *__restrict__ qkv, const T *__restrict__ cos, const T *__restrict__ sin,
                       const uint32_t *__restrict__ slots, const uint32_t *__restrict__ positions, T *keys,
                       T *values, float *partial, float *totals, uint32_t *done, T *__restrict__ out,
                       int heads, int kv_heads, int head_dim, int context, int window, int size, float scale,
                       float softcap, float *shared) {
  int part = blockIdx.x, row = blockIdx.z, parts = gridDim.x;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int group = heads / kv_heads, groups = (group + G - 1) / G;
  int kv_head = blockIdx.y / groups;
  int first_head = kv_head * group + blockIdx.y % groups * G;
  int count = (kv_head + 1) * group - first_head;
  if (count > G) count = G;
  int position = positions[row], end = position + 1;
  int first = window > 0 && end > window ? end - window : 0;
  int own_parts = (end - first + size - 1) / size;
  if (part >= own_parts) return;
  first += part * size;
  int length = end - first < size ? end - first : size;

  float *query = shared;                 // [G, head_dim]
  float *weights = query + G * head_dim; // [G, size]
  int half = head_dim / 2;
  const T *of_row = qkv + (int64_t)row * (heads + 2 * kv_heads) * head_dim;
  cos += (int64_t)row * half;
  sin += (int64_t)row * half;
#pragma unroll 4
  for (int i = threadIdx.x; i < G * half; i += THREADS) {
    int head = i / half, at = i % half;
    float a = 0.0f, b = 0.0f;
    if (head < count) {
      const T *x = of_row + (first_head + head) * head_dim + at;
      float c = to_f32(cos[at]), s = to_f32(sin[at]);
      a = rounded<T>(to_f32(x[0]) * c - to_f32(x[half]) * s);
      b = rounded<T>(to_f32(x[half]) * c + to_f32(x[0]) * s);
    }
    query[head * head_dim + at] = a;
    query[head * head_dim + at + half] = b;
  }
  int64_t slot = ((int64_t)slots[row] * kv_heads + kv_head) * context * head_dim;
  keys += slot;
  values += slot;
  if (part == own_parts - 1) {
    // The row's own key and value. Another group of the same key head may write the same ones.
    const T *key = of_row + (heads + kv_head) * head_dim, *value = key + kv_heads * head_dim;
    int64_t to = (int64_t)position * head_dim;
    for (int i = threadIdx.x; i < half; i += THREADS) {
      float c = to_f32(cos[i]), s = to_f32(sin[i]);
      keys[to + i] = from_f32<T>(to_f32(key[i]) * c - to_f32(key[i + half]) * s);
      keys[to + i + half] = from_f32<T>(to_f32(key[i + half]) * c + to_f32(key[i]) * s);
      values[to + i] = value[i];
      values[to + i + half] = value[i + half];
    }
  }
  __syncthreads();

  keys += (int64_t)first * head_dim;
  values += (int64_t)first * head_dim;
  bool whole = head_dim % PACK<T> == 0;
  float own[G][CHUNKS<T> * PACK<T>];
#pragma unroll
  for (int g = 0; g < G; g++) {
#pragma unroll
    for (int i = 0; i < CHUNKS<T> * PACK<T>; i++) {
      int at = (i / PACK<T> * WARP + lane) * PACK<T> + i % PACK<T>;
      own[g][i] = at < head_dim ? query[g * head_dim + at] : 0.0f;
    }
  }
  for (int key = warp; key < length; key += THREADS / WARP) {
    float sums[G] = {};
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS<T>; chunk++) {
      int at = (chunk * WARP + lane) * PACK<T>;
      float x[PACK<T>] = {};
      if (at < head_dim) load(keys + (int64_t)key * head_dim + at, whole, head_dim - at, x);
#pragma unroll
      for (int g = 0; g < G; g++) {
#pragma unroll
        for (int i = 0; i < PACK<T>; i++) sums[g] += x[i] * own[g][chunk * PACK<T> + i];
      }
    }
    float score = reduce_each<G>(sums, lane);
    if (lane % (WARP / G) == 0) weights[lane / (WARP / G) * size + key] = scored(score, scale, softcap);
  }
  __syncthreads();

  int64_t at_part = ((int64_t)row * heads + first_head) * parts + part;
  for (int g = warp; g < G; g += THREADS / WARP) {
    float max = -INFINITY, sum = 0.0f;
    for (int key = lane; key < length; key += WARP) max = fmaxf(max, weights[g * size + key]);
    max = warp_reduce<Max>(max);
    for (int key = lane; key < size; key += WARP) {
      float weight = key < length ? expf(weights[g * size + key] - max) : 0.0f;
      weights[g * size + key] = weight;
      sum += weight;
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0 && g < count) {
      totals[(at_part + g * parts) * 2] = max;
      totals[(at_part + g * parts) * 2 + 1] = sum;
    }
  }
  __syncthreads();

  for (int i = threadIdx.x; i < head_dim; i += THREADS) {
    float sums[G] = {};
#pragma unroll 4
    for (int key = 0; key < length; key += 4) {
      float x[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        int at = key + j < length ? key + j : length - 1;
        x[j] = to_f32(values[(int64_t)at * head_dim + i]);
      }
#pragma unroll
      for (int g = 0; g < G; g++) {
        float4 w = *(const float4 *)(weights + g * size + key);
        sums[g] += w.x * x[0] + w.y * x[1] + w.z * x[2] + w.w * x[3];
      }
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (g < count) partial[(at_part + g * parts) * head_dim + i] = sums[g];
    }
  }

  __shared__ int last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    // Counts up to the last and then from 0 again.
    last = atomicInc(done + (int64_t)row * gridDim.y + blockIdx.y, own_parts - 1) == own_parts - 1;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  totals += ((int64_t)row * heads + first_head) * parts * 2;
  partial += ((int64_t)row * heads + first_head) * parts * head_dim;
  float *shares = shared; // [G, parts]: what a part's sums count
  for (int g = warp; g < count; g += THREADS / WARP) {
    const float *of_head = totals + g * parts * 2;
    float max = -INFINITY, sum = 0.0f;
    for (int j = lane; j < own_parts; j += WARP) max = fmaxf(max, __ldcg(of_head + 2 * j));
    max = warp_reduce<Max>(max);
    for (int j = lane; j < own_parts; j += WARP) {
      float share = expf(__ldcg(of_head + 2 * j) - max);
      sum += __ldcg(of_head + 2 * j + 1) * share;
      shares[g * parts + j] = share;
    }
    sum = warp_reduce<Sum>(sum);
    for (int j = lane; j < own_parts; j += WARP) shares[g * parts + j] /= sum;
  }
  __syncthreads();
  // Four values of a head a thread.
  for (int i = 4 * threadIdx.x; i < count * head_dim; i += 4 * THREADS) {
    int g = i / head_dim, at = i % head_dim;
    const float *sums = partial + (int64_t)g * parts * head_dim + at;
    float4 value = {};
#pragma unroll 8
    for (int j = 0; j < own_parts; j++) {
      float4 x = __ldcg((const float4 *)(sums + (int64_t)j * head_dim));
      float share = shares[g * parts + j];
      value.x += x.x * share;
      value.y += x.y * share;
      value.z += x.z * share;
      value.w += x.w * share;
    }
    T *to = out + ((int64_t)row * heads + first_head + g) * head_dim + at;
    to[0] = from_f32<T>(value.x);
    to[1] = from_f32<T>(value.y);
    to[2] = from_f32<T>(value.z);
    to[3] = from_f32<T>(value.w);
  }
}

#define DECODE(T, NAME, G)                                                                                     \
  extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_##G##_##NAME(                                \
      const T *qkv, const T *cos, const T *sin, const uint32_t *slots, const uint32_t *positions, T *keys,     \
      T *values, float *partial, float *totals, uint32_t *done, T *out, int heads, int kv_heads, int head_dim, \
      int context, int window, int size, float scale, float softcap) {                                         \
    DYNAMIC_SHARED;                                                                                            \
    decode<T, G>(qkv, cos, sin, slots, positions, keys, values, partial, totals, done, out, heads, kv_heads,   \
                 head_dim, context, window, size, scale, softcap, shared);                                     \
  }
#define KERNELS(T, NAME)                                                                                       \
  extern "C" __global__ void rotate_and_keep_##NAME(                                                           \
      const T *qkv, const T *cos, const T *sin, const uint32_t *slots, const uint32_t *positions,              \
      const uint32_t *spans, T *queries, T *own_keys, T *own_values, T *keys, T *values, int heads,            \
      int kv_heads, int head_dim, int context, int longest, int last_only) {                                   \
    rotate_and_keep<T>(qkv, cos, sin, slots, positions, spans, queries, own_keys, own_values, keys, values,    \
                       heads, kv_heads, head_dim, context, longest, last_only);                                \
  }                                                                                                            \
  extern "C" __global__ void softmax_##NAME(const float *scores, const uint32_t *spans, const float *mask,     \
                                            T *out, int64_t count, int rows, int keys, int64_t of_prefix,      \
                                            int first, int queries, float scale, float softcap) {              \
    softmax<T>(scores, spans, mask, out, count, rows, keys, of_prefix, first, queries, scale, softcap);        \
  }                                                                                                            \
  DECODE(T, NAME, 2)                                                                                           \
  DECODE(T, NAME, 8)                                                                                           \
  extern "C" __global__ void split_heads_##NAME(const T *from, T *to, int64_t count, int heads, int patches,   \
                                                int head_dim) {                                                \
    split_heads<T>(from, to, count, heads, patches, head_dim);                                                 \
  }                                                                                                            \
  extern "C" __global__ void merge_heads_##NAME(const T *from, const uint32_t *spans, T *to, int64_t count,    \
                                                int heads, int rows, int head_dim) {                           \
    merge_heads<T>(from, spans, to, count, heads, rows, head_dim);                                             \
  }
KERNELS(float, f32)
KERNELS(bf16, bf16)
