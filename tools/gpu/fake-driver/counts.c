// Counts of calls and bytes, which a program reads with fake_driver_counts.

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

static struct counter {
  char *category;
  char *name;
  unsigned long number;
} *counters;
static size_t used, allocated;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void count(const char *category, const char *name) { count_many(category, name, 1); }

void count_many(const char *category, const char *name, unsigned long more) {
  if (recording()) category = "recorded";
  pthread_mutex_lock(&lock);
  size_t at = 0;
  while (at < used &&
         (strcmp(counters[at].name, name) || strcmp(counters[at].category, category))) {
    at++;
  }
  if (at == used) {
    if (used == allocated) {
      allocated = allocated ? 2 * allocated : 64;
      counters = realloc(counters, allocated * sizeof *counters);
      if (!counters) abort();
    }
    counters[used++] = (struct counter){strdup(category), strdup(name), 0};
  }
  counters[at].number += more;
  pthread_mutex_unlock(&lock);
}

// All counts so far, a line each: category, name and number, with tabs between. The caller frees it.
EXPORT char *fake_driver_counts(void) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  if (!out) return NULL;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < used; i++) {
    fprintf(out, "%s\t%s\t%lu\n", counters[i].category, counters[i].name, counters[i].number);
  }
  pthread_mutex_unlock(&lock);
  fclose(out);
  return text;
}

void complain(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("fake driver: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}
