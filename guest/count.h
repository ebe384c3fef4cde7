/* The kernel's counters of limits that were hit. */
#ifndef CORRAL_COUNT_H
#define CORRAL_COUNT_H

#include <stddef.h>
#include <stdint.h>

/* Pure: the number behind `key` at the start of a line, 0 when there is none. */
uint64_t count_find(const char *text, const char *key);
/* Reads a counter file from its beginning; 0 when fd is -1 or it cannot be read: then no hit is ever told, and none invented. */
uint64_t count_read(int fd, const char *key);

#endif
