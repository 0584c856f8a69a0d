// What the parts of the fake driver share.

#pragma once

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

// Counts a call under a category, such as "launch", and a name, such as the kernel's.
void count(const char *category, const char *name);

// Counts more of something at once, such as bytes.
void count_many(const char *category, const char *name, unsigned long more);

// Says on stderr what a caller did wrong.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Whether `bytes` bytes from `address` on lie in one allocation of the device; complains if not.
int lies_in_memory(uint64_t address, size_t bytes, const char *what);

// Whether this thread records a graph.
int recording(void);

// Whether the card refuses a kernel in the graph that is recorded, which can't be ended well then.
int breaks_graph(void);

// Whether something was refused in the graph that is recorded.
int graph_is_broken(void);

// Whether a graph is being recorded, in which a card refuses `what`; complains then.
int refused_in_graph(const char *what);

// The graph that is recorded, if one is, allocates memory (1) or frees it (-1).
void graph_allocates(long change);

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

enum { MOST_THREADS = 1024, DEFAULT_SHARED = 48 << 10 };

// The card's compute capability, such as 75: what FAKE_CAPABILITY says, or that of an H100.
int capability(void);

// What the card can give a kernel that asks for more than `DEFAULT_SHARED`.
int most_shared(void);

// Whether a card would take this launch; counts it if so, and complains if not.
int launch(const char *kernel, const unsigned grid[3], const unsigned block[3], unsigned shared,
           struct limits limits);
