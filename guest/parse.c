/* CONFIGURE, DESTROY, FREEZE and TOOL as checked structs (parse.h); CREATE is parse-create.c. Does no I/O and allocates nothing.
 * Invariant: nothing malformed reaches a system call. */
#define _GNU_SOURCE
#include "parse.h"

#include <string.h>

#include "frame.h"
#include "parse-words.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static int add_seccomp(struct configure *configure, const char *hex) {
    for (; *hex; hex += 2) {
        int high = hex_digit(hex[0]), low = high < 0 ? -1 : hex_digit(hex[1]);
        if (low < 0 || configure->seccomp_bytes == SECCOMP_BYTES_MAX)
            return -1;
        configure->seccomp[configure->seccomp_bytes++] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static int name_ok(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    return !text[length] && length >= 1 && length <= 32;
}

static int mark_ok(const char *text) {
    size_t length = strspn(text, "0123456789abcdef");
    return !text[length] && length >= 1 && length <= MARK_MAX;
}

static int configure_record(struct configure *configure, struct record_walk *walk, const char *verb) {
    const char *first = record_next(walk);
    if (!first)
        return -1;
    if (!strcmp(verb, "seccomp"))
        return add_seccomp(configure, first);
    if (!strcmp(verb, "guest"))
        return one_path(&configure->guest, first);
    if (!strcmp(verb, "nofile"))
        return bad_number(first, 1048576, &configure->nofile);
    if (!strcmp(verb, "mark") && mark_ok(first)) {
        configure->mark = first;
        return 0;
    }
    const char *second = record_next(walk);
    if (!second)
        return -1;
    if (!strcmp(verb, "cg2")) {
        configure->cg2_controllers = second;
        return one_path(&configure->cg2, first);
    }
    if (!strcmp(verb, "cg1") && configure->cg1s < CG1_MAX && name_ok(first) && path_ok(second)) {
        configure->cg1[configure->cg1s] = first;
        configure->cg1_dir[configure->cg1s++] = second;
        return 0;
    }
    return -1;
}

int configure_parse(const uint8_t *bytes, size_t length, struct configure *configure) {
    memset(configure, 0, sizeof *configure);
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk);
        if (!verb || configure_record(configure, &walk, verb)) {
            configure->wrong = "a record is unknown, cut off or out of range";
            return -1;
        }
    }
    if (configure->seccomp_bytes % 8) {
        configure->wrong = "the seccomp program is not a whole number of instructions";
        return -1;
    }
    return 0;
}

int destroy_parse(const uint8_t *bytes, size_t length, struct destroy *destroy) {
    memset(destroy, 0, sizeof *destroy);
    destroy->wrong = "a record is unknown, cut off or out of range";
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk), *value = verb ? record_next(&walk) : NULL;
        if (!value)
            return -1;
        if (!strcmp(verb, "id") && !destroy->id && id_ok(value))
            destroy->id = value;
        /* SAFETY: the tree is removed with the spawner's rights; "/" or a spelling with ".." would be the node itself. */
        else if (!strcmp(verb, "scrub") && destroy->scrubs < SCRUB_MAX && path_ok(value) && value[1])
            destroy->scrub[destroy->scrubs++] = value;
        else
            return -1;
    }
    if (!destroy->id)
        return -1;
    destroy->wrong = NULL;
    return 0;
}

int freeze_parse(const uint8_t *bytes, size_t length, struct freeze *freeze) {
    memset(freeze, 0, sizeof *freeze);
    freeze->frozen = -1;
    freeze->wrong = "a record is unknown, cut off or out of range";
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk), *value = verb ? record_next(&walk) : NULL;
        if (!value)
            return -1;
        if (!strcmp(verb, "id") && !freeze->id && id_ok(value))
            freeze->id = value;
        else if (strcmp(verb, "frozen") || freeze->frozen >= 0 || flag_parse(value, &freeze->frozen))
            return -1;
    }
    if (!freeze->id || freeze->frozen < 0)
        return -1;
    freeze->wrong = NULL;
    return 0;
}

int tool_parse(const uint8_t *bytes, size_t length, struct tool_request *tool) {
    memset(tool, 0, sizeof *tool);
    tool->wrong = "a record is unknown, cut off or out of range";
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk), *value = verb ? record_next(&walk) : NULL;
        if (!value || strcmp(verb, "arg") || tool->args == TOOL_ARGS_MAX)
            return -1;
        tool->arg[tool->args++] = value;
    }
    if (!tool->args)
        return -1;
    tool->wrong = NULL;
    return 0;
}
