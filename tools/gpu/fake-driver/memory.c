// The device's memory, which is the host's.
//
// FAKE_MEMORY is how many bytes the card has. At its end, a process writes the most bytes that it had
// allocated to the file that FAKE_PEAK names. One allocation fails when there is the file that FAKE_FULL
// names, and removes it.

#include <cuda.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"

// What CUDA, cuBLAS and kernels take for themselves, most of it later than the first question of what is
// free. See `OVERHEAD` in src/runtime/memory.rs.
static const size_t OVERHEAD = (size_t)1 << 30;

static const size_t ALIGNMENT = 256;

static struct allocation {
  uint64_t address;
  size_t bytes;
  void *memory;
} *live;
static size_t used, allocated, bytes_taken, peak;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// What the card seems to have.
static size_t total(void) {
  const char *asked = getenv("FAKE_MEMORY");
  return asked ? strtoul(asked, NULL, 10) : (size_t)80 << 30;
}

// Whether the next allocation is to fail, which is asked for once.
static int is_full(void) {
  const char *asked = getenv("FAKE_FULL");
  return asked && unlink(asked) == 0;
}

// Whether there are so many bytes more; takes them then.
static int take(size_t bytes) {
  if (is_full()) return 0;
  pthread_mutex_lock(&lock);
  int there_are = bytes_taken + bytes + OVERHEAD <= total();
  if (there_are) bytes_taken += bytes;
  if (bytes_taken > peak) peak = bytes_taken;
  pthread_mutex_unlock(&lock);
  return there_are;
}

static void give_back(size_t bytes) {
  pthread_mutex_lock(&lock);
  bytes_taken -= bytes;
  pthread_mutex_unlock(&lock);
}

__attribute__((destructor)) static void tell_peak(void) {
  const char *asked = getenv("FAKE_PEAK");
  FILE *out = asked ? fopen(asked, "w") : NULL;
  if (!out) return;
  fprintf(out, "%zu\n", peak);
  fclose(out);
}

uint64_t device_allocate(size_t bytes) {
  if (!take(bytes)) return 0;
  // Zeros, so that what a kernel would have written is the same in every run. Large memory that
  // nothing touches costs nothing. Aligned as the driver does it.
  char *memory = calloc(1, bytes + 2 * ALIGNMENT);
  if (!memory) {
    give_back(bytes);
    return 0;
  }
  uint64_t address = ((uint64_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  pthread_mutex_lock(&lock);
  if (used == allocated) {
    allocated = allocated ? 2 * allocated : 1024;
    live = realloc(live, allocated * sizeof *live);
    if (!live) abort();
  }
  live[used++] = (struct allocation){address, bytes, memory};
  pthread_mutex_unlock(&lock);
  return address;
}

int device_free(uint64_t address) {
  pthread_mutex_lock(&lock);
  size_t at = 0;
  while (at < used && live[at].address != address) at++;
  int found = at < used;
  void *memory = NULL;
  if (found) {
    memory = live[at].memory;
    bytes_taken -= live[at].bytes;
    live[at] = live[--used];
  }
  pthread_mutex_unlock(&lock);
  free(memory);
  if (!found) complain("memory at %#lx is freed, but was not allocated", address);
  return found;
}

// Large memory is always new from the system, and so it need not be set to zero.
__attribute__((constructor)) static void keep_large_memory_apart(void) {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

int lies_in_memory(uint64_t address, size_t bytes, const char *what) {
  pthread_mutex_lock(&lock);
  int found = bytes == 0;
  for (size_t i = 0; i < used && !found; i++) {
    found = live[i].address <= address && address - live[i].address <= live[i].bytes &&
            bytes <= live[i].bytes - (address - live[i].address);
  }
  pthread_mutex_unlock(&lock);
  if (!found) complain("%s: %zu bytes at %#lx lie in no allocation", what, bytes, address);
  return found;
}

EXPORT CUresult cuMemGetInfo(size_t *free, size_t *bytes) {
  pthread_mutex_lock(&lock);
  *bytes = total();
  *free = *bytes - bytes_taken;
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}

static CUresult allocate(CUdeviceptr *address, size_t bytes) {
  count("allocate", "device");
  *address = device_allocate(bytes);
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  if (refused_in_graph("memory is allocated at once")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  return allocate(address, bytes);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  (void)stream;
  graph_allocates(1);
  return allocate(address, bytes);
}

static CUresult release(CUdeviceptr address) {
  count("free", "device");
  return device_free(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuMemFree(CUdeviceptr address) {
  if (refused_in_graph("memory is freed at once")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  return release(address);
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  (void)stream;
  // The memory is lost, as on a card.
  if (graph_is_broken()) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  graph_allocates(-1);
  return release(address);
}

EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  (void)stream;
  if (refused_in_graph("memory of the host is copied")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  count("copy", "to device");
  if (!lies_in_memory(to, bytes, "a copy to the device")) return CUDA_ERROR_INVALID_VALUE;
  memcpy((void *)to, from, bytes);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  count("synchronise", "copy");
  return cuMemcpyHtoDAsync(to, from, bytes, NULL);
}

EXPORT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  (void)stream;
  if (refused_in_graph("memory is copied to the host")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  count("copy", "to host");
  count_many("bytes", "to host", bytes);
  // From memory of the host that is not pinned, the driver returns when all before it is done.
  count("synchronise", "copy");
  if (!lies_in_memory(from, bytes, "a copy to the host")) return CUDA_ERROR_INVALID_VALUE;
  memcpy(to, (const void *)from, bytes);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  return cuMemcpyDtoHAsync(to, from, bytes, NULL);
}

EXPORT CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  (void)stream;
  count("copy", "on device");
  if (!lies_in_memory(to, bytes, "a copy's target") ||
      !lies_in_memory(from, bytes, "a copy's source")) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  memmove((void *)to, (const void *)from, bytes);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return cuMemcpyDtoDAsync(to, from, bytes, NULL);
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t bytes, CUstream stream) {
  (void)stream;
  count("set", "device");
  if (!lies_in_memory(at, bytes, "memory to set")) return CUDA_ERROR_INVALID_VALUE;
  memset((void *)at, value, bytes);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemsetD8(CUdeviceptr at, unsigned char value, size_t bytes) {
  return cuMemsetD8Async(at, value, bytes, NULL);
}
