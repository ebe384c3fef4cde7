/* A queue of bytes: added at the end, taken from the front, in one piece of memory.
 * Not a string and not a ring: a caller may hold a pointer into it until the next call that makes room.
 * Invariant: start <= end <= size; an allocation that fails leaves the buffer as it was. */
#ifndef CORRAL_BUFFER_H
#define CORRAL_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed is a valid empty buffer that holds no memory. */
struct buffer {
    uint8_t *memory;
    size_t start;
    size_t end;
    size_t size;
};

static inline size_t buffer_length(const struct buffer *b) { return b->end - b->start; }
/* Valid only while the length is not 0. */
static inline const uint8_t *buffer_bytes(const struct buffer *b) { return b->memory + b->start; }

/* Room for at least `want` more bytes at the end, moving or growing as needed; `room` (may be NULL) gets how many there are. NULL: no memory. */
uint8_t *buffer_room(struct buffer *b, size_t want, size_t *room);
/* Counts `count` bytes that were written into the room. */
void buffer_took(struct buffer *b, size_t count);
bool buffer_add(struct buffer *b, const void *data, size_t count);
/* Takes from the front. */
void buffer_drop(struct buffer *b, size_t count);
void buffer_free(struct buffer *b);

#endif
