// The runtime, which candle's kernels for quantised weights are launched with. They are part of the
// binary and were registered before main began.

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

// What a source file was compiled to: machine code of one compute capability, such as 75. Where nvcc-host.sh
// compiles, it is PTX that stands for the machine code.
struct image {
  int capability;
};

struct kernel {
  const struct image *image;
  const void *host;
  char *name;
  struct limits limits;
  struct kernel *next;
};

static struct kernel *kernels;

// The beginnings of a fat binary's parts.
struct wrapper {
  uint32_t magic, version;
  const struct header *header;
};

struct header {
  uint32_t magic;
  uint16_t version, bytes;
};

struct code {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;
  uint32_t compressed, unknown;
  uint16_t minor, major;
  uint32_t capability;
};

// The capability that the first code in a fat binary is for. The layout is not documented; see LLVM's
// offloading tools, which read and write it.
static int capability_of(const struct wrapper *wrapper) {
  const struct header *header = wrapper->header;
  if (wrapper->magic != 0x466243b1 || header->magic != 0xba55ed50) {
    complain("a fat binary of an unknown layout");
    abort();
  }
  const struct code *code = (const void *)((const char *)header + header->bytes);
  return (int)code->capability;
}

EXPORT void **__cudaRegisterFatBinary(void *binary) {
  struct image *image = malloc(sizeof *image);
  if (!image) abort();
  image->capability = capability_of(binary);
  return (void **)image;
}

EXPORT void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }

EXPORT void __cudaUnregisterFatBinary(void **handle) { (void)handle; }

EXPORT void __cudaRegisterVar(void **handle, char *host, char *address, const char *name, int external,
                              size_t bytes, int constant, int global) {
  (void)handle, (void)host, (void)address, (void)name, (void)external, (void)bytes;
  (void)constant, (void)global;
}

EXPORT void __cudaRegisterFunction(void **handle, const char *host, char *function, const char *name,
                                   int thread_limit, void *thread, void *block, void *block_size,
                                   void *grid_size, int *warp_size) {
  (void)function, (void)thread_limit, (void)thread, (void)block, (void)block_size;
  (void)grid_size, (void)warp_size;
  struct kernel *made = malloc(sizeof *made);
  if (!made) abort();
  const struct image *image = (const void *)handle;
  *made = (struct kernel){image, host, strdup(name), {MOST_THREADS, DEFAULT_SHARED}, kernels};
  kernels = made;
}

static struct kernel *kernel(const void *host) {
  struct kernel *at = kernels;
  while (at && at->host != host) at = at->next;
  if (!at) complain("a kernel that was not registered");
  return at;
}

EXPORT cudaError_t __cudaGetKernel(cudaKernel_t *found, const void *host) {
  *found = (cudaKernel_t)kernel(host);
  return *found ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

// The launch that <<<...>>> is about to make.
static __thread struct {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} next;

EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  next.grid = grid, next.block = block, next.shared = shared, next.stream = stream;
  return 0;
}

EXPORT cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = next.grid, *block = next.block, *shared = next.shared;
  *(cudaStream_t *)stream = next.stream;
  return cudaSuccess;
}

static __thread cudaError_t last = cudaSuccess;

// Whether the card can run a kernel: machine code is for its own generation, from a capability on.
static int runs(const struct kernel *of) {
  int is_for = of->image->capability, has = capability();
  int is_fit = is_for / 10 == has / 10 && is_for <= has;
  if (!is_fit) complain("%s is for compute capability %d, not %d", of->name, is_for, has);
  return is_fit;
}

EXPORT cudaError_t cudaGetLastError(void) {
  cudaError_t error = last;
  last = cudaSuccess;
  return error;
}

EXPORT cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t function, dim3 grid, dim3 block, void **arguments,
                                           size_t shared, cudaStream_t stream) {
  (void)arguments, (void)stream;
  const struct kernel *of = (const struct kernel *)function;
  const unsigned blocks[3] = {grid.x, grid.y, grid.z}, threads[3] = {block.x, block.y, block.z};
  if (!runs(of) || !launch(of->name, blocks, threads, (unsigned)shared, of->limits)) {
    // Nobody asks for the error of these launches, and garbage would be used as their result.
    abort();
  }
  return cudaSuccess;
}

EXPORT cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute attribute, int value) {
  struct kernel *of = kernel(host);
  if (!of) return cudaErrorInvalidDeviceFunction;
  if (!runs(of)) return last = cudaErrorNoKernelImageForDevice;
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || value > most_shared()) {
      complain("%s: %d bytes of shared memory, of at most %d", of->name, value, most_shared());
      return last = cudaErrorInvalidValue;
    }
    of->limits.shared = (unsigned)value;
  }
  return cudaSuccess;
}

EXPORT cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}

// Kernels for mixtures of experts want these; nothing here calls them.
EXPORT cudaError_t cudaMallocAsync_ptsz(void **address, size_t bytes, cudaStream_t stream) {
  (void)stream;
  count("allocate", "device");
  *address = (void *)device_allocate(bytes);
  return *address ? cudaSuccess : cudaErrorMemoryAllocation;
}

EXPORT cudaError_t cudaFreeAsync_ptsz(void *address, cudaStream_t stream) {
  (void)stream;
  count("free", "device");
  return device_free((uint64_t)address) ? cudaSuccess : cudaErrorInvalidValue;
}

EXPORT cudaError_t cudaMemsetAsync_ptsz(void *address, int value, size_t bytes, cudaStream_t stream) {
  (void)stream;
  count("set", "device");
  if (!lies_in_memory((uint64_t)address, bytes, "memory to set")) return cudaErrorInvalidValue;
  memset(address, value, bytes);
  return cudaSuccess;
}

EXPORT const char *cudaGetErrorString(cudaError_t error) {
  (void)error;
  return "an error of the fake driver, which says on stderr what is wrong";
}
