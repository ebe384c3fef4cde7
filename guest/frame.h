/* Frames and records: how bytes on a socket become requests.
 * Pure: nothing here does input or output, so the fuzzer drives exactly what the programs run.
 * Invariant: a frame handed out lies wholly inside the reader's buffer; every walk ends at the frame's last byte. */
#ifndef CORRAL_FRAME_H
#define CORRAL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

enum { FRAME_HEAD_BYTES = 12, MAX_FRAME_BYTES = 1 << 20 };

enum frame_verdict { FRAME_WHOLE, FRAME_MORE, FRAME_BROKEN };

/* `body` points into the reader and is valid until the next frame_* call on it. */
struct frame {
    const uint8_t *body;
    uint32_t length;
    uint32_t id;
    uint8_t type;
};

/* Zeroed is a valid empty reader. It holds no memory while no part of a frame is waiting. */
struct frame_reader {
    struct buffer bytes;
};

/* Room for the next read: at least 1 byte, more when a long frame has begun. NULL: no memory. */
uint8_t *frame_room(struct frame_reader *reader, size_t *room);
void frame_took(struct frame_reader *reader, size_t count);

/* The next whole frame. FRAME_BROKEN: a length above the limit or a non-zero reserved byte; the reader is of no more use. */
enum frame_verdict frame_next(struct frame_reader *reader, struct frame *out);
void frame_reader_free(struct frame_reader *reader);

/* For tests and the fuzzer: the same as reading `count` bytes and handing on every whole frame.
 * `on_frame` answers false for a frame that breaks the protocol. False: broken (or no memory). */
bool frame_feed(struct frame_reader *reader, const uint8_t *data, size_t count,
                bool (*on_frame)(void *context, const struct frame *frame), void *context);

void frame_head_put(uint8_t head[FRAME_HEAD_BYTES], uint8_t type, uint32_t id, uint32_t length);

/* A walk over NUL-terminated strings. record_next answers NULL at the end and when the rest has no NUL; `broken` tells which. */
struct record_walk {
    const char *at;
    const char *end;
    bool broken;
};

void record_begin(struct record_walk *walk, const void *data, size_t count);
const char *record_next(struct record_walk *walk);
/* Decimal ASCII without sign, at most `max`. */
bool record_number(const char *text, uint64_t max, uint64_t *out);
/* Appends `text` with its NUL. False: no memory. */
bool record_put(struct buffer *out, const char *text);
bool record_put_number(struct buffer *out, uint64_t value);

static inline uint16_t get_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t get_u64(const uint8_t *p) { return get_u32(p) | (uint64_t)get_u32(p + 4) << 32; }
static inline void put_u32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8), p[2] = (uint8_t)(v >> 16), p[3] = (uint8_t)(v >> 24);
}
static inline void put_u64(uint8_t *p, uint64_t v) { put_u32(p, (uint32_t)v), put_u32(p + 4, (uint32_t)(v >> 32)); }

#endif
