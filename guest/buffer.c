/* The byte queue of buffer.h. Callers bound its length; it bounds nothing but the arithmetic.
 * Invariant: start <= end <= size, checked here for every count that comes from outside. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 4096 };

uint8_t *buffer_room(struct buffer *b, size_t want, size_t *room) {
    size_t length = buffer_length(b);
    if (b->size - b->end < want) {
        if (b->size - length >= want && b->start >= length) {
            /* Half of it is free at the front: moving is cheaper than growing, and paid for by the bytes already taken. */
            memmove(b->memory, b->memory + b->start, length);
        } else {
            if (want > SIZE_MAX / 4 - length) return NULL;
            size_t size = b->size ? b->size : FIRST_BYTES;
            while (size < length + want) size *= 2;
            uint8_t *memory = malloc(size);
            if (!memory) return NULL;
            if (length) memcpy(memory, b->memory + b->start, length);
            free(b->memory);
            b->memory = memory;
            b->size = size;
        }
        b->start = 0;
        b->end = length;
    }
    if (room) *room = b->size - b->end;
    return b->memory + b->end;
}

void buffer_took(struct buffer *b, size_t count) {
    /* SAFETY: a count beyond the room would make every later offset point outside the memory. */
    if (count > b->size - b->end) abort();
    b->end += count;
}

bool buffer_add(struct buffer *b, const void *data, size_t count) {
    if (count == 0) return true;
    uint8_t *at = buffer_room(b, count, NULL);
    if (!at) return false;
    memcpy(at, data, count);
    b->end += count;
    return true;
}

void buffer_drop(struct buffer *b, size_t count) {
    /* SAFETY: as above, at the other end. */
    if (count > buffer_length(b)) abort();
    b->start += count;
    /* Empty: begin again at the front, so that a busy queue keeps touching the same few pages. The bytes stay readable. */
    if (b->start == b->end) b->start = b->end = 0;
}

void buffer_free(struct buffer *b) {
    free(b->memory);
    *b = (struct buffer){0};
}
