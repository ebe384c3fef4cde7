/* Requests of PID 1, from frames. Every byte is untrusted, although only the server can reach the socket.
 * Invariant: lengths are exact - a body with a byte too many is refused like one with a byte too few. */
#include "request.h"

/* 1 to MAX_KEY_BYTES of [a-z0-9-]. */
static const char *parse_key(struct record_walk *walk) {
    const char *key = record_next(walk);
    if (!key || !*key || walk->at - key > MAX_KEY_BYTES + 1) return NULL;
    for (const char *c = key; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-')) return NULL;
    return key;
}

/* A kept command cannot be tied to its connection, and a terminal has no order of its own streams that control bytes could keep. */
static bool flags_agree(uint32_t flags) {
    if (flags & ~(uint32_t)EXEC_ALL_FLAGS) return false;
    const uint32_t never = EXEC_PTY | EXEC_MERGE | EXEC_ROOT | EXEC_KEEP | EXEC_WORKER;
    bool forks = (flags & (EXEC_FORKER | EXEC_FORKED)) != 0;
    if (forks && (flags & never || !(flags & EXEC_CONTROL) || (flags & (EXEC_FORKER | EXEC_FORKED)) == (EXEC_FORKER | EXEC_FORKED))) return false;
    return (flags & (EXEC_KEEP | EXEC_TIED)) != (EXEC_KEEP | EXEC_TIED) && (flags & (EXEC_PTY | EXEC_CONTROL)) != (EXEC_PTY | EXEC_CONTROL);
}

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
    if (!flags_agree(out->flags)) return false;
    struct record_walk walk;
    record_begin(&walk, p + EXEC_HEAD_BYTES, frame->length - EXEC_HEAD_BYTES);
    out->cwd = record_next(&walk);
    if (!out->cwd) return false;
    out->argv = walk.at;
    for (uint32_t left = (uint32_t)out->argc + out->envc; left > 0; left--)
        if (!record_next(&walk)) return false;
    if (out->flags & EXEC_KEEP) {
        out->key = parse_key(&walk);
        out->note = out->key ? record_next(&walk) : NULL;
        if (!out->note || walk.at - out->note > MAX_NOTE_BYTES + 1) return false;
    }
    return walk.at == walk.end;
}

static bool parse_kept(const struct frame *frame, size_t head, struct request *out) {
    struct record_walk walk;
    if (frame->length < head) return false;
    out->kept.offset = head ? get_u64(frame->body) : 0;
    record_begin(&walk, frame->body + head, frame->length - head);
    out->kept.key = parse_key(&walk);
    return out->kept.key != NULL && walk.at == walk.end;
}

bool request_parse(const struct frame *frame, struct request *out) {
    const uint8_t *p = frame->body;
    *out = (struct request){.type = frame->type, .id = frame->id};
    switch (frame->type) {
        case REQUEST_EXEC: return parse_exec(frame, &out->exec);
        case REQUEST_ATTACH: return parse_kept(frame, ATTACH_HEAD_BYTES, out);
        case REQUEST_FORGET: return parse_kept(frame, 0, out);
        case REQUEST_STDIN:
        case REQUEST_CONTROL_IN:
        case REQUEST_PING:
            out->data.bytes = p;
            out->data.length = frame->length;
            return frame->type != REQUEST_PING || frame->length <= MAX_PING_BYTES;
        case REQUEST_STDIN_EOF:
        case REQUEST_STDIN_AGAIN:
        case REQUEST_STOP:
        case REQUEST_HOLD:
        case REQUEST_RELEASE:
        case REQUEST_LIST:
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
