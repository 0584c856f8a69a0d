// Modules, kernels, and launches, which are checked and counted; nothing runs.

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

// A module is its text, PTX.
struct CUmod_st {
  char *text;
};

struct CUfunc_st {
  char *name;
  struct limits limits;
  struct CUmod_st *module;
  struct CUfunc_st *next;
};

static struct CUfunc_st *functions;

int launch(const char *kernel, const unsigned grid[3], const unsigned block[3], unsigned shared,
           struct limits limits) {
  static const unsigned most[3] = {0x7fffffff, 65535, 65535};
  for (int i = 0; i < 3; i++) {
    if (grid[i] == 0 || grid[i] > most[i]) {
      complain("%s: a grid of %u × %u × %u blocks", kernel, grid[0], grid[1], grid[2]);
      return 0;
    }
  }
  unsigned long threads = (unsigned long)block[0] * block[1] * block[2];
  if (threads == 0 || threads > limits.threads || block[2] > 64) {
    complain("%s: a block of %u × %u × %u threads, of at most %u", kernel, block[0], block[1],
             block[2], limits.threads);
    return 0;
  }
  if (shared > limits.shared) {
    complain("%s: %u bytes of shared memory, of at most %u", kernel, shared, limits.shared);
    return 0;
  }
  count("launch", kernel);
  return 1;
}

// Whether the card can run a module: one for an older card, or for exactly this one (`.target sm_90a`).
static int runs(const char *text) {
  const char *target = strstr(text, ".target sm_");
  if (!target) return 0;
  char *rest;
  long needs = strtol(target + strlen(".target sm_"), &rest, 10);
  return *rest == 'a' ? needs == capability() : needs <= capability();
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  if (!runs(image)) {
    complain("a module that is not for compute capability %d", capability());
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  *module = malloc(sizeof **module);
  if (!*module) return CUDA_ERROR_OUT_OF_MEMORY;
  (*module)->text = strdup(image);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleUnload(CUmodule module) {
  // Functions of it may still be known.
  (void)module;
  return CUDA_SUCCESS;
}

// The kernel in a module's text, `.entry name(`; NULL if it is not there.
static const char *entry(const struct CUmod_st *module, const char *name) {
  char wanted[512];
  snprintf(wanted, sizeof wanted, ".entry %s(", name);
  return strstr(module->text, wanted);
}

// The most threads of a block that a kernel's text allows.
static unsigned most_threads(const char *entry) {
  const char *body = strchr(entry, '{');
  const char *bound = strstr(entry, ".maxntid ");
  if (!bound || (body && bound > body)) return MOST_THREADS;
  return (unsigned)strtoul(bound + strlen(".maxntid "), NULL, 10);
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  for (CUfunction known = functions; known; known = known->next) {
    if (known->module == module && !strcmp(known->name, name)) {
      *function = known;
      return CUDA_SUCCESS;
    }
  }
  const char *text = entry(module, name);
  if (!text) {
    complain("there is no kernel %s in its module", name);
    return CUDA_ERROR_NOT_FOUND;
  }
  struct CUfunc_st *made = malloc(sizeof *made);
  if (!made) return CUDA_ERROR_OUT_OF_MEMORY;
  *made = (struct CUfunc_st){
      .name = strdup(name),
      .limits = {most_threads(text), DEFAULT_SHARED},
      .module = module,
      .next = functions,
  };
  *function = functions = made;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value < 0 || value > most_shared()) return CUDA_ERROR_INVALID_VALUE;
    function->limits.shared = (unsigned)value;
  }
  return CUDA_SUCCESS;
}

// The one kernel that has an effect, since a request whose logits are not finite fails: each row's
// token is some text's. See `likeliest` in kernels/src/cuda/token.cu.
static void choose_tokens(unsigned rows, void **arguments) {
  static unsigned tokens;
  uint32_t *found = *(uint32_t **)arguments[3];
  unsigned vocab = (unsigned)*(int *)arguments[4];
  unsigned most = (unsigned)*(int *)arguments[6];
  unsigned width = 5 + 2 * most;
  if (!lies_in_memory((uint64_t)found, (size_t)rows * width * sizeof *found, "chosen tokens")) return;
  for (unsigned row = 0; row < rows; row++) {
    uint32_t *of_row = found + row * width;
    of_row[0] = vocab / 2 + tokens++ % 16;
    of_row[1] = 1;
    // All of the likeliest ones are equally likely.
    for (unsigned place = 0; place < most; place++) of_row[5 + 2 * place] = of_row[0] + place;
  }
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                               CUstream stream, void **arguments, void **extra) {
  (void)stream, (void)extra;
  const unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
  if (breaks_graph()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (!launch(function->name, grid, block, shared, function->limits)) return CUDA_ERROR_INVALID_VALUE;
  if (!strcmp(function->name, "likeliest")) choose_tokens(grid_x, arguments);
  return CUDA_SUCCESS;
}
