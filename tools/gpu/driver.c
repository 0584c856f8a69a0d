// What the CUDA binary is linked with instead of libcuda.so.1, NVIDIA's driver.
//
// Linked with the driver itself, a binary ends before main where there is none, with a word of the
// dynamic loader's; and where the driver is older and lacks a function that isn't even called. So
// each of the driver's functions is a jump here, to the driver's own if it is there when the
// process starts, and otherwise to one that says so. x86-64 only.
//
// FUNCTIONS names a file with FUNCTION(name) for each function that the bindings declare.

#include <dlfcn.h>
#include <stddef.h>

// CUDA_ERROR_STUB_LIBRARY: "the CUDA driver that the application has loaded is a stub library".
static int no_driver(void) { return 34; }
// CUDA_ERROR_NOT_FOUND: this driver is older than the function.
static int no_function(void) { return 500; }

// A jump leaves registers and stack as the caller set them, so it fits functions of any signature.
#define FUNCTION(name)                                                                   \
  __attribute__((used)) static int (*to_##name)(void) __asm__("to_" #name) = no_driver; \
  __asm__(".pushsection .text\n"                                                         \
          ".globl " #name "\n"                                                           \
          ".type " #name ", @function\n" #name ":\n"                                     \
          "  jmp *to_" #name "(%rip)\n"                                                  \
          ".size " #name ", . - " #name "\n"                                             \
          ".popsection");
#include FUNCTIONS
#undef FUNCTION

static const struct {
  const char *name;
  int (**to)(void);
} functions[] = {
#define FUNCTION(name) {#name, &to_##name},
#include FUNCTIONS
#undef FUNCTION
};

__attribute__((constructor)) static void find_driver(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *function = dlsym(driver, functions[i].name);
    *functions[i].to = function ? (int (*)(void))function : no_function;
  }
}
