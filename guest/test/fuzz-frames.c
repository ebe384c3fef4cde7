/* Fuzzes what PID 1 reads from its socket: frames and the requests in them. No I/O.
 * Properties: byte at a time equals all at once; an accepted frame re-encodes to itself; strings end inside their frame.
 * fuzz-sources: frame.c buffer.c request.c env.c */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "frame.h"
#include "request.h"

static void must(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "property broken: %s\n", what);
    abort();
}

/* What a run saw: every accepted frame as it would be written again. */
struct seen {
    struct buffer bytes;
};

static void walk_exec(const struct frame *frame, const struct exec_request *exec, uint8_t *body) {
    const char *begin = (const char *)frame->body + EXEC_HEAD_BYTES, *end = (const char *)frame->body + frame->length;
    put_u32(body, exec->flags), put_u32(body + 4, exec->timeout_ms), put_u32(body + 8, exec->idle_ms), put_u32(body + 12, exec->grace_ms);
    put_u64(body + 16, exec->output_cap);
    put_u32(body + 24, exec->rows | (uint32_t)exec->cols << 16), put_u32(body + 28, exec->argc | (uint32_t)exec->envc << 16);
    must(exec->cwd == begin, "cwd is the first string");
    const char *text = begin;
    must((exec->key != NULL) == ((exec->flags & EXEC_KEEP) != 0), "a key is there when it was asked for");
    for (uint32_t i = 0; i < 1u + exec->argc + exec->envc + (exec->key ? 2 : 0); i++) {
        must(text != exec->key || i == 1u + exec->argc + exec->envc, "the key is the last string but one");
        must(text != exec->note || i == 2u + exec->argc + exec->envc, "the note is the last string");
        must(text < end, "a string begins inside the frame");
        size_t length = strnlen(text, (size_t)(end - text));
        must(text + length < end, "a string ends inside the frame");
        memcpy(body + (text - (const char *)frame->body), text, length + 1);
        text += length + 1;
    }
    must(text == end, "nothing follows the last string");
    static const char *const base[] = {"PATH=/bin", "A=1", "B=2"};
    struct arguments arguments;
    if (arguments_make(&arguments, exec, base, 3) != 0) return;
    size_t count = 0;
    while (arguments.argv[count]) must(arguments.argv[count] >= begin && arguments.argv[count] < end, "an argument lies in the frame"), count++;
    must(count == exec->argc, "every argument is there");
    for (char **a = arguments.envp; *a; a++) must(strchr(*a, '=') > *a, "a variable has a name");
    arguments_free(&arguments);
}

static void walk_kept(const struct frame *frame, const struct request *request, size_t head, uint8_t *body) {
    const char *begin = (const char *)frame->body + head;
    must(request->kept.key == begin && begin + strlen(begin) + 1 == (const char *)frame->body + frame->length, "the key is all that follows");
    must(*begin && strlen(begin) <= MAX_KEY_BYTES, "the key is bounded");
    if (head) put_u64(body, request->kept.offset);
    memcpy(body + head, begin, strlen(begin) + 1);
}

static bool on_frame(void *context, const struct frame *frame) {
    struct seen *seen = context;
    struct request request;
    if (!request_parse(frame, &request)) return false;
    uint8_t *body = calloc(1, frame->length + 1u), head[FRAME_HEAD_BYTES];
    if (!body) abort();
    switch (request.type) {
        case REQUEST_EXEC: walk_exec(frame, &request.exec, body); break;
        case REQUEST_ATTACH: walk_kept(frame, &request, ATTACH_HEAD_BYTES, body); break;
        case REQUEST_FORGET: walk_kept(frame, &request, 0, body); break;
        case REQUEST_STDIN:
        case REQUEST_CONTROL_IN:
        case REQUEST_PING: memcpy(body, request.data.bytes, request.data.length); break;
        case REQUEST_SIGNAL: put_u32(body, (uint32_t)request.signal.number), put_u32(body + 4, request.signal.scope); break;
        case REQUEST_RESIZE: put_u32(body, request.size.rows | (uint32_t)request.size.cols << 16); break;
        case REQUEST_CREDIT: put_u32(body, request.credit); break;
        default: must(frame->length == 0, "only these carry a body");
    }
    must(memcmp(body, frame->body, frame->length) == 0, "the body re-encodes to itself");
    frame_head_put(head, request.type, request.id, frame->length);
    if (!buffer_add(&seen->bytes, head, sizeof head) || !buffer_add(&seen->bytes, body, frame->length)) abort();
    free(body);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frame_reader whole = {0}, single = {0};
    struct seen first = {0}, second = {0};
    bool good = frame_feed(&whole, data, size, on_frame, &first);
    bool good_single = true;
    for (size_t i = 0; i < size && good_single; i++) {
        /* A copy of one byte, so that reading beyond it is seen. */
        uint8_t *byte = malloc(1);
        if (!byte) abort();
        *byte = data[i];
        good_single = frame_feed(&single, byte, 1, on_frame, &second);
        free(byte);
    }
    must(good == good_single, "byte by byte is judged alike");
    size_t length = buffer_length(&first.bytes);
    must(length == buffer_length(&second.bytes), "byte by byte gives as many frames");
    must(length <= size, "no more comes out than went in");
    if (length) {
        must(memcmp(buffer_bytes(&first.bytes), buffer_bytes(&second.bytes), length) == 0, "byte by byte gives the same frames");
        must(memcmp(buffer_bytes(&first.bytes), data, length) == 0, "accepted frames are the bytes that came");
    }
    frame_reader_free(&whole), frame_reader_free(&single);
    buffer_free(&first.bytes), buffer_free(&second.bytes);
    return 0;
}

/* Keeps the shape of frames while it changes them: blind changes nearly always break a length first. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max) {
    (void)data, (void)max;
    return size;
}

/* An EXEC body: sets argc and envc so that they fit the strings that are there. */
static void mend_exec(uint8_t *body, size_t length, unsigned seed) {
    if (length <= EXEC_HEAD_BYTES) return;
    unsigned strings = 0;
    body[length - 1] = 0;
    for (size_t i = EXEC_HEAD_BYTES; i < length; i++) strings += body[i] == 0;
    put_u32(body, get_u32(body) & EXEC_ALL_FLAGS);
    if (get_u32(body) & EXEC_KEEP && strings > 2) strings -= 2;
    unsigned others = strings - 1, argc = others ? seed % (others + 1) : 0;
    put_u32(body + 28, (argc & 0xffff) | (others - argc) << 16);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
    if (seed % 4 == 0 || size < FRAME_HEAD_BYTES) return LLVMFuzzerMutate(data, size, max);
    size_t at = 0, starts[64], count = 0;
    while (size - at >= FRAME_HEAD_BYTES && count < 64) {
        size_t length = get_u32(data + at);
        starts[count++] = at;
        if (length > size - at - FRAME_HEAD_BYTES) break;
        at += FRAME_HEAD_BYTES + length;
    }
    /* Cut behind a frame of the list, change that frame's body, and write a head that fits. */
    size_t from = starts[(seed >> 8) % count];
    uint8_t *body = data + from + FRAME_HEAD_BYTES;
    size_t length = LLVMFuzzerMutate(body, size - from - FRAME_HEAD_BYTES, max - from - FRAME_HEAD_BYTES);
    uint8_t type = seed % 8 == 1 ? (uint8_t)(seed >> 16) : (uint8_t)(1 + (seed >> 16) % 14);
    if (type == REQUEST_EXEC) mend_exec(body, length, seed >> 20);
    else if (type == REQUEST_SIGNAL && length >= 8) length = 8;
    else if ((type == REQUEST_RESIZE || type == REQUEST_CREDIT) && length >= 4) length = 4;
    else if (type == REQUEST_ATTACH || type == REQUEST_FORGET) {
        if (length) body[length - 1] = 0;
    } else if (type == REQUEST_STDIN_EOF || type == REQUEST_STDIN_AGAIN || type == REQUEST_LIST || type == REQUEST_STOP || type == REQUEST_KILL_ALL) length = seed % 16 == 2 ? length : 0;
    frame_head_put(data + from, type, get_u32(data + from + 4), (uint32_t)length);
    return from + FRAME_HEAD_BYTES + length;
}
