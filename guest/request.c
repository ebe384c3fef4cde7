/* Requests of PID 1, from frames. Every byte is untrusted, although only the server can reach the socket.
 * Invariant: lengths are exact - a body with a byte too many is refused like one with a byte too few. */
#include "request.h"

static bool parse_exec(const struct frame *frame, struct exec_request *out) {
    const uint8_t *p = frame->body;
    if (frame->length < EXEC_HEAD_BYTES) return false;
    *out = (struct exec_request){
        .flags = get_u32(p),
        .timeout_ms = get_u32(p + 4),
        .idle_ms = get_u32(p + 8),
        .grace_ms = get_u32(p + 12),
        .output_cap = get_u64(p + 16),
        .rows = get_u16(p + 24),
        .cols = get_u16(p + 26),
        .argc = get_u16(p + 28),
        .envc = get_u16(p + 30),
    };
    if (out->flags & ~(uint32_t)EXEC_ALL_FLAGS) return false;
    struct record_walk walk;
    record_begin(&walk, p + EXEC_HEAD_BYTES, frame->length - EXEC_HEAD_BYTES);
    out->cwd = record_next(&walk);
    if (!out->cwd) return false;
    out->argv = walk.at;
    for (uint32_t left = (uint32_t)out->argc + out->envc; left > 0; left--)
        if (!record_next(&walk)) return false;
    return walk.at == walk.end;
}

bool request_parse(const struct frame *frame, struct request *out) {
    const uint8_t *p = frame->body;
    *out = (struct request){.type = frame->type, .id = frame->id};
    switch (frame->type) {
        case REQUEST_EXEC: return parse_exec(frame, &out->exec);
        case REQUEST_STDIN:
        case REQUEST_PING:
            out->data.bytes = p;
            out->data.length = frame->length;
            return frame->type == REQUEST_STDIN || frame->length <= MAX_PING_BYTES;
        case REQUEST_STDIN_EOF:
        case REQUEST_STOP:
        case REQUEST_HOLD:
        case REQUEST_RELEASE:
        case REQUEST_KILL_ALL: return frame->length == 0;
        case REQUEST_SIGNAL:
            if (frame->length != 8) return false;
            out->signal.number = (int32_t)get_u32(p);
            out->signal.scope = get_u32(p + 4);
            return out->signal.number >= 1 && out->signal.number <= MAX_SIGNAL && out->signal.scope <= SCOPE_TREE;
        case REQUEST_RESIZE:
            if (frame->length != 4) return false;
            out->size.rows = get_u16(p);
            out->size.cols = get_u16(p + 2);
            return true;
        case REQUEST_CREDIT:
            if (frame->length != 4) return false;
            out->credit = get_u32(p);
            return true;
        default: return false;
    }
}
