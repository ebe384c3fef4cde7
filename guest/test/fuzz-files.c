/* Fuzzes what the worker `files` reads: frames and the requests in them. No I/O.
 * Properties: byte at a time equals all at once; an accepted request re-encodes to itself; strings and data lie inside their frame.
 * fuzz-sources: frame.c buffer.c files-request.c */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files-request.h"

static void must(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "property broken: %s\n", what);
    abort();
}

static bool add(struct buffer *out, const void *data, size_t count) {
    if (!buffer_add(out, data, count)) abort();
    return true;
}

static bool on_frame(void *context, const struct frame *frame) {
    struct buffer *seen = context;
    struct files_request request;
    if (!files_parse(frame, &request)) return false;
    const char *begin = (const char *)frame->body + FILES_HEAD_BYTES, *end = (const char *)frame->body + frame->length;
    uint8_t head[FRAME_HEAD_BYTES], body[FILES_HEAD_BYTES];
    frame_head_put(head, request.op, request.id, frame->length);
    put_u32(body, request.flags), put_u32(body + 4, request.mode), put_u32(body + 8, request.count), put_u32(body + 12, request.handle);
    put_u64(body + 16, request.offset);
    add(seen, head, sizeof head), add(seen, body, sizeof body);
    const char *strings[] = {request.base, request.path, request.other};
    for (int i = 0; i < 3; i++) {
        must(strings[i] >= begin && strings[i] < end, "a string begins inside the frame");
        size_t length = strnlen(strings[i], (size_t)(end - strings[i]));
        must(strings[i] + length < end, "a string ends inside the frame");
        add(seen, strings[i], length + 1);
    }
    must((const char *)request.data + request.length == end, "the data ends with the frame");
    return add(seen, request.data, request.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frame_reader whole = {0}, single = {0};
    struct buffer first = {0}, second = {0};
    bool good = frame_feed(&whole, data, size, on_frame, &first), good_single = true;
    for (size_t i = 0; i < size && good_single; i++) good_single = frame_feed(&single, data + i, 1, on_frame, &second);
    must(good == good_single, "byte by byte is judged alike");
    size_t length = buffer_length(&first);
    must(length == buffer_length(&second) && length <= size, "byte by byte gives as many requests");
    if (length) must(memcmp(buffer_bytes(&first), data, length) == 0, "accepted requests are the bytes that came");
    if (length) must(memcmp(buffer_bytes(&first), buffer_bytes(&second), length) == 0, "byte by byte gives the same requests");
    frame_reader_free(&whole), frame_reader_free(&single);
    buffer_free(&first), buffer_free(&second);
    return 0;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max) {
    (void)data, (void)max;
    return size;
}

/* Changes a body and writes a head that fits: blind changes nearly always break a length first. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
    if (seed % 4 == 0 || size < FRAME_HEAD_BYTES) return LLVMFuzzerMutate(data, size, max);
    size_t length = LLVMFuzzerMutate(data + FRAME_HEAD_BYTES, size - FRAME_HEAD_BYTES, max - FRAME_HEAD_BYTES);
    uint8_t *body = data + FRAME_HEAD_BYTES;
    if (length >= FILES_HEAD_BYTES && seed % 4 != 1) {
        put_u32(body, get_u32(body) & FILES_ALL_FLAGS);
        put_u32(body + 4, get_u32(body + 4) & 07777);
        body[23] &= 0x7f;
    }
    frame_head_put(data, (uint8_t)(1 + (seed >> 16) % 17), get_u32(data + 4), (uint32_t)length);
    return FRAME_HEAD_BYTES + length;
}
