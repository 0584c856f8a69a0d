// Runs the CUDA kernels on the processor: blocks one after another, and the threads of a block in turns,
// each on a stack of its own, from one barrier or exchange between lanes to the next. It shows wrong
// numbers and wrong places, and a missing barrier mostly, because every other block runs its threads from
// the last to the first; it says nothing of speed.

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <tuple>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
#define DYNAMIC_SHARED
#define EMULATED

struct uint3 {
  unsigned x, y, z;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

static uint3 threadIdx, blockIdx, blockDim, gridDim;

// Memory that a block asks for when it is launched; more than any does.
alignas(16) static float shared[1 << 16];

namespace {

constexpr int LANES = 32;
constexpr size_t STACK = 64 << 10;

struct Thread {
  ucontext_t context;
  bool done;
  std::vector<char> stack;
};

std::vector<Thread> threads;
ucontext_t scheduler;
int current;
// What the threads have in common.
int arrived, generation, alive, any, any_before;
uint32_t posted[2][1024];
int turn[1024];
void (*body)();

void yield() {
  int own = current;
  swapcontext(&threads[own].context, &scheduler);
  current = own;
  threadIdx = {(unsigned)own, 0, 0};
}

void thread_main() {
  body();
  threads[current].done = true;
  swapcontext(&threads[current].context, &scheduler);
}

// Runs all threads of a block to their ends.
void run_block(int count) {
  alive = count;
  arrived = any = 0;
  for (int i = 0; i < count; i++) {
    Thread &thread = threads[i];
    if (thread.stack.empty()) thread.stack.resize(STACK);
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = STACK;
    thread.context.uc_link = &scheduler;
    thread.done = false;
    turn[i] = 0;
    makecontext(&thread.context, thread_main, 0);
  }
  static bool backwards;
  backwards = !backwards;
  while (alive > 0) {
    for (int step = 0; step < count; step++) {
      int i = backwards ? count - 1 - step : step;
      if (threads[i].done) continue;
      current = i;
      threadIdx = {(unsigned)i, 0, 0};
      swapcontext(&scheduler, &threads[i].context);
      if (threads[i].done) alive--;
    }
    // Those that wait at a barrier go on when nobody else can come.
    if (alive > 0 && arrived == alive) {
      arrived = 0;
      generation++;
      any_before = any;
      any = 0;
    }
  }
}

}  // namespace

static void __syncthreads() {
  int own = generation;
  arrived++;
  while (generation == own) yield();
}
static int __syncthreads_or(int predicate) {
  any |= predicate != 0;
  __syncthreads();
  return any_before;
}
static void __threadfence() {}

// Each lane posts its value; a turn later all have. Two places in turn, so that no value is
// overwritten before it is read.
static uint32_t exchange(uint32_t value, int mask) {
  int own = threadIdx.x;
  int place = turn[own]++ % 2;
  posted[place][own] = value;
  yield();
  return posted[place][own ^ mask];
}
static uint32_t __shfl_xor_sync(uint32_t, uint32_t value, int mask) { return exchange(value, mask); }
static float __shfl_xor_sync(uint32_t, float value, int mask) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = exchange(bits, mask);
  memcpy(&value, &bits, 4);
  return value;
}

// The eight lanes whose rows a lane needs post theirs, as all do: four words of the first factor, two of the
// second. See device.cuh.
static uint32_t posted_rows[2][1024][6];
static void multiply_add(int (&sums)[4], const uint32_t (&first)[4], const uint32_t (&second)[2]) {
  int own = threadIdx.x, lane = own % LANES, warp = own - lane;
  int place = turn[own]++ % 2;
  memcpy(posted_rows[place][own], first, sizeof first);
  memcpy(posted_rows[place][own] + 4, second, sizeof second);
  yield();
  for (int i = 0; i < 4; i++) {
    for (int word = 0; word < 2; word++) {
      for (int k = 0; k < 4; k++) {
        int8_t a[4], b[4];
        memcpy(a, &posted_rows[place][warp + lane / 4 * 4 + k][i / 2 + 2 * word], 4);
        memcpy(b, &posted_rows[place][warp + (lane % 4 * 2 + i % 2) * 4 + k][4 + word], 4);
        for (int byte = 0; byte < 4; byte++) sums[i] += a[byte] * b[byte];
      }
    }
  }
}

static uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
  uint64_t bytes = (uint64_t)high << 32 | low;
  uint32_t result = 0;
  for (int i = 0; i < 4; i++) result |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  return result;
}
static float __uint_as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static uint32_t __float_as_uint(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}
static float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <typename T> static T __ldcs(const T *from) { return *from; }
template <typename T> static T __ldcg(const T *from) { return *from; }
static uint32_t atomicInc(uint32_t *at, uint32_t most) {
  uint32_t old = *at;
  *at = old >= most ? 0 : old + 1;
  return old;
}

// Names that are used in more than one file.
#define KEPT NORM_KEPT
#include "norm.cu"
#undef KEPT
#undef KERNELS
#include "product.cu"
#undef KERNELS
#define THREADS ATTENTION_THREADS
#include "attention.cu"
#undef THREADS
#undef KERNELS
#include "token.cu"
#include "quantized.cu"
#include "low_rank.cu"

namespace {

template <typename... Types, size_t... Index>
void call(void (*kernel)(Types...), const void *const *arguments, std::index_sequence<Index...>) {
  kernel(*(const std::remove_reference_t<Types> *)arguments[Index]...);
}

void (*invoke)(const void *const *);
const void *const *given;

template <auto kernel> struct Call;
template <typename... Types, void (*kernel)(Types...)> struct Call<kernel> {
  static void with(const void *const *arguments) {
    call(kernel, arguments, std::index_sequence_for<Types...>());
  }
};

struct Named {
  const char *name;
  void (*call)(const void *const *);
};

#define NAMED(name) {#name, Call<name>::with}
#define OF_BOTH(name) NAMED(name##_f32), NAMED(name##_bf16)
const Named kernels[] = {
    OF_BOTH(rms_norm),        OF_BOTH(layer_norm), OF_BOTH(one_row),  OF_BOTH(one_row_gated), OF_BOTH(epilogue),
    OF_BOTH(gelu_gated),      OF_BOTH(softmax),    OF_BOTH(decode_2), OF_BOTH(decode_8),      OF_BOTH(split_heads),
    OF_BOTH(merge_heads), OF_BOTH(rotate_and_keep), OF_BOTH(logits),     NAMED(scan),       NAMED(likeliest),
    NAMED(quantize_q8),       NAMED(product_1_q8),       NAMED(product_2_q8),
    NAMED(product_4_q8),      NAMED(product_gated_1_q8), NAMED(product_gated_2_q8),
    NAMED(product_gated_4_q8),
    OF_BOTH(unpack_q8), OF_BOTH(shrink), OF_BOTH(expand),
};

}  // namespace

extern "C" int emulate(const char *name, const unsigned *grid, unsigned block, unsigned bytes,
                       const void *const *arguments) {
  invoke = nullptr;
  for (const Named &kernel : kernels) {
    if (!strcmp(kernel.name, name)) invoke = kernel.call;
  }
  if (!invoke || bytes > sizeof shared || block > 1024) return 1;
  if (threads.size() < block) threads.resize(block);
  given = arguments;
  body = [] { invoke(given); };
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block, 1, 1};
  for (unsigned z = 0; z < grid[2]; z++) {
    for (unsigned y = 0; y < grid[1]; y++) {
      for (unsigned x = 0; x < grid[0]; x++) {
        blockIdx = {x, y, z};
        run_block(block);
      }
    }
  }
  return 0;
}
