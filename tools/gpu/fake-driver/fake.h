// What the parts of the fake driver share.

#pragma once

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

// Counts a call under a category, such as "launch", and a name, such as the kernel's.
void count(const char *category, const char *name);

// Says on stderr what a caller did wrong.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Whether `bytes` bytes from `address` on lie in one allocation of the device; complains if not.
int lies_in_memory(uint64_t address, size_t bytes, const char *what);

// As in the driver; 0 if there is no memory.
uint64_t device_allocate(size_t bytes);
int device_free(uint64_t address);

// What a kernel may be launched with.
struct limits {
  // Most threads of a block.
  unsigned threads;
  // Most bytes of memory that a block shares, beside those that the kernel declares.
  unsigned shared;
};

// What the card can give a kernel that asks for more than `DEFAULT_SHARED`.
enum { MOST_THREADS = 1024, DEFAULT_SHARED = 48 << 10, MOST_SHARED = 227 << 10 };

// Whether a card would take this launch; counts it if so, and complains if not.
int launch(const char *kernel, const unsigned grid[3], const unsigned block[3], unsigned shared,
           struct limits limits);
