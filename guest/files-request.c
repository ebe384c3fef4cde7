/* Requests of the worker `files`, from frames. Invariant: lengths are exact, and only what carries data may have some. */
#include "files-request.h"

bool files_parse(const struct frame *frame, struct files_request *out) {
    const uint8_t *p = frame->body;
    if (frame->type < FILES_STAT || frame->type > FILES_SETXATTR || frame->length < FILES_HEAD_BYTES) return false;
    *out = (struct files_request){
        .op = frame->type,
        .id = frame->id,
        .flags = get_u32(p),
        .mode = get_u32(p + 4),
        .count = get_u32(p + 8),
        .handle = get_u32(p + 12),
        .offset = get_u64(p + 16),
    };
    if (out->flags & ~(uint32_t)FILES_ALL_FLAGS || out->mode > 07777 || out->offset > INT64_MAX) return false;
    struct record_walk walk;
    record_begin(&walk, p + FILES_HEAD_BYTES, frame->length - FILES_HEAD_BYTES);
    if (!(out->base = record_next(&walk)) || !(out->path = record_next(&walk)) || !(out->other = record_next(&walk))) return false;
    out->data = (const uint8_t *)walk.at;
    out->length = (uint32_t)(walk.end - walk.at);
    return out->length == 0 || out->op == FILES_PUT || out->op == FILES_WRITE || out->op == FILES_SETXATTR;
}
