/* The one parser of frames and records for all roles. No input or output, no global state.
 * Invariant: no byte outside [start, end) of the reader's buffer is looked at; memory is bounded by one frame. */
#include "frame.h"

#include <string.h>

enum { READ_CHUNK = 64 * 1024 };

/* Bytes that the frame at the front still lacks; 0 when its head is not there yet. */
static size_t missing(const struct frame_reader *reader) {
    size_t have = buffer_length(&reader->bytes);
    if (have < FRAME_HEAD_BYTES) return 0;
    size_t whole = FRAME_HEAD_BYTES + (size_t)get_u32(buffer_bytes(&reader->bytes));
    return whole > have ? whole - have : 0;
}

uint8_t *frame_room(struct frame_reader *reader, size_t *room) {
    /* frame_next has refused longer frames, so `missing` is at most one frame. */
    size_t lacks = missing(reader);
    size_t want = lacks > READ_CHUNK ? lacks : READ_CHUNK;
    return buffer_room(&reader->bytes, want, room);
}

void frame_took(struct frame_reader *reader, size_t count) { buffer_took(&reader->bytes, count); }

enum frame_verdict frame_next(struct frame_reader *reader, struct frame *out) {
    size_t have = buffer_length(&reader->bytes);
    if (have == 0) {
        frame_reader_free(reader);
        return FRAME_MORE;
    }
    if (have < FRAME_HEAD_BYTES) return FRAME_MORE;
    const uint8_t *head = buffer_bytes(&reader->bytes);
    uint32_t length = get_u32(head);
    if (length > MAX_FRAME_BYTES || head[9] != 0 || head[10] != 0 || head[11] != 0) return FRAME_BROKEN;
    if (have - FRAME_HEAD_BYTES < length) return FRAME_MORE;
    *out = (struct frame){.body = head + FRAME_HEAD_BYTES, .length = length, .id = get_u32(head + 4), .type = head[8]};
    /* Only moves an offset: the bytes stay where they are until the next frame_room. */
    buffer_drop(&reader->bytes, FRAME_HEAD_BYTES + (size_t)length);
    return FRAME_WHOLE;
}

void frame_reader_free(struct frame_reader *reader) { buffer_free(&reader->bytes); }

bool frame_feed(struct frame_reader *reader, const uint8_t *data, size_t count,
                bool (*on_frame)(void *context, const struct frame *frame), void *context) {
    while (count > 0) {
        size_t room;
        uint8_t *at = frame_room(reader, &room);
        if (!at) return false;
        size_t part = count < room ? count : room;
        memcpy(at, data, part);
        frame_took(reader, part);
        data += part;
        count -= part;
        struct frame frame;
        enum frame_verdict verdict;
        while ((verdict = frame_next(reader, &frame)) == FRAME_WHOLE)
            if (!on_frame(context, &frame)) return false;
        if (verdict == FRAME_BROKEN) return false;
    }
    return true;
}

void frame_head_put(uint8_t head[FRAME_HEAD_BYTES], uint8_t type, uint32_t id, uint32_t length) {
    put_u32(head, length);
    put_u32(head + 4, id);
    head[8] = type;
    head[9] = head[10] = head[11] = 0;
}

void record_begin(struct record_walk *walk, const void *data, size_t count) {
    *walk = (struct record_walk){.at = data, .end = count ? (const char *)data + count : data, .broken = false};
}

const char *record_next(struct record_walk *walk) {
    if (walk->broken || walk->at == walk->end) return NULL;
    const char *text = walk->at;
    const char *nul = memchr(text, 0, (size_t)(walk->end - text));
    if (!nul) {
        walk->broken = true;
        return NULL;
    }
    walk->at = nul + 1;
    return text;
}

bool record_number(const char *text, uint64_t max, uint64_t *out) {
    if (*text == 0) return false;
    uint64_t value = 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    if (value > max) return false;
    *out = value;
    return true;
}

bool record_put(struct buffer *out, const char *text) { return buffer_add(out, text, strlen(text) + 1); }

bool record_put_number(struct buffer *out, uint64_t value) {
    char text[21];
    size_t at = sizeof text;
    text[--at] = 0;
    do text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    return buffer_add(out, text + at, sizeof text - at);
}
