// Products with weights of 8 bits: 32 values of a row share a scale in half precision, as in GGML's Q8_0.
//
// Weights, and rows that are quantised for them, lie in tiles of 16 rows and 32 columns, in the order in
// which the tensor cores take them: a lane has 16 bytes, 8 values of row lane / 4 from column 8 · (lane % 4)
// on, and then the same of row lane / 4 + 8. A tile's 16 scales lie elsewhere. Tiles go by rows, and then by
// columns; what is missing at the end of a row is 0.
//
// A weight may have several parts, whose rows share their input. Each begins with a tile of its own.

#include "device.cuh"

constexpr int SIDE = 16, BLOCK = 32;
// So many tiles of the weight are on their way to a warp at once.
constexpr int TILES_AHEAD = 4;

// Of a scale, which is not negative.
__device__ inline float half_to_f32(uint32_t half) {
  return __uint_as_float((half & 0x7fff) << 13) * 5.192296858534828e33f; // 2^112
}

// A byte of four, each a number plus 128. In the last bits of 2^23 it counts as it is.
__device__ inline float to_number(uint32_t shifted, int byte) {
  return __uint_as_float(__byte_perm(shifted, 0x4b000000, 0x7650 + byte)) - 8388736.0f;
}

// Four values of a row from `first` on, where they are there and else 0.
__device__ inline void load_four(const float *__restrict__ row, int first, int width, float *values) {
  if (width % 4 == 0 && first < width) {
    *(float4 *)values = *(const float4 *)(row + first);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) values[i] = first + i < width ? row[first + i] : 0.0f;
  }
}

// Values of a row that a thread of `quantize` keeps, in fours.
constexpr int FOURS = 4;

// Rows `[rows, in]`, which are normalised before (see rms_norm) if there is a scale, to tiles of 8 bits with
// scales in f32. A block with a value that is not finite has no number as its scale. The grid is rows, and parts
// of a row: one if there is a norm.
__device__ void quantize_row(const float *__restrict__ x, const float *__restrict__ scale, float eps,
                             uint32_t *__restrict__ values, float *__restrict__ scales, int in, int blocks) {
  int row = blockIdx.x;
  x += (int64_t)row * in;
  float kept[FOURS][4], squares = 0.0f;
#pragma unroll
  for (int j = 0; j < FOURS; j++) {
    int first = ((blockIdx.y * FOURS + j) * blockDim.x + threadIdx.x) * 4;
    load_four(x, first, in, kept[j]);
#pragma unroll
    for (int i = 0; i < 4; i++) squares += kept[j][i] * kept[j][i];
  }
  float factor = scale ? rsqrtf(block_reduce<Sum>(squares) / in + eps) : 1.0f;
#pragma unroll
  for (int j = 0; j < FOURS; j++) {
    int first = ((blockIdx.y * FOURS + j) * blockDim.x + threadIdx.x) * 4;
    float factors[4];
    if (scale) load_four(scale, first, in, factors);
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      // As rms_norm does it.
      if (scale) kept[j][i] = kept[j][i] * factor * factors[i];
      // As bits, among which infinity and what is no number are the largest.
      uint32_t size = __float_as_uint(kept[j][i]) & 0x7fffffff;
      largest = size > largest ? size : largest;
    }
    // Eight threads have a block.
    for (int mask = 1; mask < 8; mask *= 2) {
      uint32_t other = __shfl_xor_sync(0xffffffff, largest, mask);
      largest = other > largest ? other : largest;
    }
    if (first >= blocks * BLOCK) continue;
    bool finite = largest < 0x7f800000;
    float most = __uint_as_float(largest), inverse = finite && most > 0.0f ? 127.0f / most : 0.0f;
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int number = finite ? (int)rintf(kept[j][i] * inverse) : 0;
      word |= (uint32_t)(number & 0xff) << (8 * i);
    }
    int64_t tile = (int64_t)(row / SIDE) * blocks + first / BLOCK;
    int side = row % SIDE, column = first % BLOCK;
    int lane = side % 8 * 4 + column / 8;
    values[(tile * WARP + lane) * 4 + side / 8 * 2 + column / 4 % 2] = word;
    if (column == 0) scales[tile * SIDE + side] = finite ? most / 127.0f : NAN;
  }
}

// A part of a weight, which is read once unless there are many rows.
template <int MANY> __device__ inline uint4 once(const uint4 *from) { return MANY < 4 ? __ldcs(from) : *from; }

// `gelu(x · Wᵀ + bias) + residual` of quantised rows, up to MANY tiles of them for a warp, or `gelu(first) ·
// second` of a gated weight. What comes out of a row does not depend on others. The grid is rows / (SIDE · MANY), and tiles of all
// parts (of one if gated) · split / WARPS: blocks with the same part of the weight run at the same time.
template <int MANY, bool GATED>
__device__ void product(const uint4 *__restrict__ x, const float *__restrict__ x_scales,
                          const uint4 *__restrict__ weight, const uint16_t *__restrict__ scales,
                          const float *__restrict__ bias, const float *__restrict__ residual,
                          float *__restrict__ out, int rows, int width, int parts, int tiles, int blocks, int split,
                          int with_gelu) {
  constexpr int PARTS = GATED ? 2 : 1, SUMS = PARTS * MANY * 8, AHEAD = TILES_AHEAD / PARTS;
  // A float with this as its last bits is 1.5 · 2^23, plus an integer that is added to them.
  constexpr int SHIFT = 0x4b400000;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, member = warp % split;
  int tile = blockIdx.y * (WARPS / split) + warp / split, first_row = blockIdx.x * MANY * SIDE;
  bool there = tile < tiles * (GATED ? 1 : parts);
  float sums[PARTS][MANY][2][4] = {};
  for (int start = there ? member : blocks; start < blocks; start += AHEAD * split) {
    uint4 w[AHEAD][PARTS];
    uint32_t d[AHEAD][PARTS][2];
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      int block = start + j * split;
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        int64_t at = ((int64_t)p * tiles + tile) * blocks + block;
        w[j][p] = block < blocks ? once<MANY>(weight + at * WARP + lane) : uint4{};
        // The scales of two outputs, of each half of the tile.
        const uint32_t *own = (const uint32_t *)(scales + at * SIDE) + lane % 4;
        d[j][p][0] = block < blocks ? own[0] : 0;
        d[j][p][1] = block < blocks ? own[4] : 0;
      }
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      // No branches, so that all loads go together: beyond the end the weight is 0.
      int block = start + j * split < blocks ? start + j * split : blocks - 1;
      uint4 own[MANY];
      float unit[MANY][2];
#pragma unroll
      for (int m = 0; m < MANY; m++) {
        int row = first_row + m * SIDE;
        int64_t at = (int64_t)(row / SIDE) * blocks + block;
        own[m] = row + lane / 4 < rows ? x[at * WARP + lane] : uint4{};
        unit[m][0] = row + lane / 4 < rows ? x_scales[at * SIDE + lane / 4] : 0.0f;
        unit[m][1] = row + lane / 4 + 8 < rows ? x_scales[at * SIDE + lane / 4 + 8] : 0.0f;
      }
#pragma unroll
      for (int m = 0; m < MANY; m++) {
        uint32_t first[4] = {own[m].x, own[m].z, own[m].y, own[m].w};
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
#pragma unroll
          for (int half = 0; half < 2; half++) {
            uint32_t second[2] = {half ? w[j][p].z : w[j][p].x, half ? w[j][p].w : w[j][p].y};
            int product[4] = {SHIFT, SHIFT, SHIFT, SHIFT};
            multiply_add(product, first, second);
            float of_output[2] = {half_to_f32(d[j][p][half] & 0xffff), half_to_f32(d[j][p][half] >> 16)};
#pragma unroll
            for (int i = 0; i < 4; i++) {
              float number = __uint_as_float(product[i]) - 12582912.0f;
              sums[p][m][half][i] += number * (unit[m][i / 2] * of_output[i % 2]);
            }
          }
        }
      }
    }
  }
  // The warps that share a tile add what they have, by halves.
  __shared__ float handed[WARPS / 2][SUMS][WARP];
  float *all = &sums[0][0][0][0];
  for (int half = split / 2; half > 0; half /= 2) {
    int place = warp / split * half + member % half;
    if (member >= half && member < 2 * half) {
#pragma unroll
      for (int i = 0; i < SUMS; i++) handed[place][i][lane] = all[i];
    }
    __syncthreads();
    if (member < half) {
#pragma unroll
      for (int i = 0; i < SUMS; i++) all[i] += handed[place][i][lane];
    }
    __syncthreads();
  }
  if (!there || member > 0) return;
  int part = tile / tiles, of_row = GATED ? width : parts * width;
#pragma unroll
  for (int m = 0; m < MANY; m++) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      int half = i / 4, at = i % 4;
      int row = first_row + m * SIDE + at / 2 * 8 + lane / 4;
      int output = tile % tiles * SIDE + half * 8 + lane % 4 * 2 + at % 2;
      if (row >= rows || output >= width) continue;
      output += part * width;
      int64_t place = (int64_t)row * of_row + output;
      float y = sums[0][m][half][at];
      if (GATED) {
        out[place] = gelu(y) * sums[PARTS - 1][m][half][at];
      } else {
        out[place] = finished<float>(y, bias, residual, output, place, with_gelu);
      }
    }
  }
}

// Rows of a weight as numbers, `[rows, in]`: those with `ids`, or without ids all. One block a row.
template <typename T>
__device__ void unpack(const uint8_t *__restrict__ weight, const uint16_t *__restrict__ scales,
                       const uint32_t *__restrict__ ids, T *__restrict__ out, int in, int width, int tiles,
                       int blocks) {
  int row = ids ? ids[blockIdx.x] : blockIdx.x, side = row % width % SIDE;
  int64_t tile = (int64_t)(row / width) * tiles + row % width / SIDE;
  out += (int64_t)blockIdx.x * in;
  bool whole = in % PACK<T> == 0;
  for (int first = threadIdx.x * 8; first < in; first += blockDim.x * 8) {
    int64_t block = tile * blocks + first / BLOCK;
    float unit = half_to_f32(scales[block * SIDE + side]), values[8];
    const uint32_t *own =
        (const uint32_t *)(weight + ((block * WARP + side % 8 * 4 + first % BLOCK / 8) * 16 + side / 8 * 8));
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] = unit * to_number(own[i / 4] ^ 0x80808080, i % 4);
#pragma unroll
    for (int i = 0; i < 8; i += PACK<T>) store(out + first + i, whole && first + i < in, in - first - i, values + i);
  }
}

extern "C" __global__ void __launch_bounds__(1024) quantize_q8(const float *x, const float *scale, float eps,
                                                               uint32_t *values, float *scales, int in,
                                                               int blocks) {
  quantize_row(x, scale, eps, values, scales, in, blocks);
}

#define PRODUCT(MANY, GATED, NAME, BLOCKS)                                                                     \
  extern "C" __global__ void __launch_bounds__(WARPS * WARP, BLOCKS) NAME##_##MANY##_q8(                       \
      const uint4 *x, const float *x_scales, const uint4 *weight, const uint16_t *scales, const float *bias,   \
      const float *residual, float *out, int rows, int width, int parts, int tiles, int blocks, int split,     \
      int with_gelu) {                                                                                         \
    product<MANY, GATED>(x, x_scales, weight, scales, bias, residual, out, rows, width, parts, tiles, blocks,  \
                         split, with_gelu);                                                                    \
  }
PRODUCT(1, false, product, 2)
PRODUCT(2, false, product, 2)
PRODUCT(4, false, product, 1)
PRODUCT(1, true, product_gated, 2)
PRODUCT(2, true, product_gated, 1)
PRODUCT(4, true, product_gated, 1)

#define UNPACK(T, NAME)                                                                                        \
  extern "C" __global__ void unpack_q8_##NAME(const uint8_t *weight, const uint16_t *scales,                   \
                                              const uint32_t *ids, T *out, int in, int width, int tiles,       \
                                              int blocks) {                                                    \
    unpack<T>(weight, scales, ids, out, in, width, tiles, blocks);                                             \
  }
UNPACK(float, f32)
UNPACK(bf16, bf16)
