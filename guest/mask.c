/* `corral-guest tool mask tree|image --own UID GID --xattrs trusted|user /OUT`: reads a plan (PROTOCOL.md, Tools) from stdin and
 * makes the mask layer it describes. OUT is a name nobody uses yet, or (tree) a mask that nobody has mounted.
 * Invariant: a plan that is cut or breaks the grammar ends in exit 1, so that the caller never renames half a mask into place. */
#define _GNU_SOURCE
#include "mask.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_HEAD = 28, LINK_HEAD = 20, ENTER_HEAD = 4, LEAVE_HEAD = 16, END_HEAD = 8, LEVELS_MAX = 4096 };

struct reader {
    size_t at, end;
    uint32_t records;
    uint8_t bytes[1 << 18];
};

struct place {
    char path[PATH_MAX + NAME_MAX + 2];
    size_t length;
    uint16_t before[LEVELS_MAX]; /* length of the path of each open directory's parent */
    size_t depth;
};

_Noreturn void mask_fail(const char *what, const char *name, int error) {
    fprintf(stderr, "mask: %s", what);
    if (name) {
        fputc(' ', stderr);
        for (const char *c = name; *c; c++) fputc(*c < ' ' || *c == 127 ? '?' : *c, stderr);
    }
    if (error) fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
    exit(1);
}

/* Makes `need` bytes available at reader->at; a plan that ends before is cut. */
static const uint8_t *want(struct reader *reader, size_t need) {
    if (reader->end - reader->at < need) {
        memmove(reader->bytes, reader->bytes + reader->at, reader->end - reader->at);
        reader->end -= reader->at;
        reader->at = 0;
    }
    while (reader->end < reader->at + need) {
        ssize_t got = read(0, reader->bytes + reader->end, sizeof reader->bytes - reader->end);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) mask_fail("cannot read the plan", NULL, errno);
        if (got == 0) mask_fail("the plan is cut", NULL, 0);
        reader->end += (size_t)got;
    }
    return reader->bytes + reader->at;
}

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }
static uint64_t get64(const uint8_t *at) { return get32(at) | (uint64_t)get32(at + 4) << 32; }

/* Copies one string of a record out: records are packed, so there is no room for the NUL in place. */
static const char *text(const uint8_t *from, size_t length, char *to, size_t size) {
    if (length == 0 || length >= size || memchr(from, 0, length)) mask_fail("the plan holds a bad name", NULL, 0);
    memcpy(to, from, length);
    to[length] = 0;
    return to;
}

static void name_of(struct mask_op *op, const uint8_t *from, size_t length) {
    static char name[NAME_MAX + 1];
    op->name = text(from, length, name, sizeof name);
    op->name_length = length;
    if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..")) mask_fail("the plan holds a bad name", NULL, 0);
}

/* SAFETY: the kernel follows it in the layer of the codebase, where no link and no `..` is followed; what it says is still kept to names. */
static void place_of(struct mask_op *op, const uint8_t *from, size_t length) {
    static char place[PATH_MAX];
    op->lead = text(from, length, place, sizeof place);
    op->lead_length = length;
    if (place[0] != '/' || strstr(place, "/../") || strstr(place, "//") || (length >= 3 && !strcmp(place + length - 3, "/..")))
        mask_fail("the plan holds a bad place", NULL, 0);
}

static size_t read_file(struct reader *reader, struct mask_op *op) {
    const uint8_t *r = want(reader, FILE_HEAD);
    size_t name = get16(r + 2), place = 0;
    r = want(reader, FILE_HEAD + name);
    if (op->flags & MASK_PLACED) {
        if (!(op->flags & MASK_CONTENT)) mask_fail("the plan holds an unknown flag", NULL, 0);
        r = want(reader, FILE_HEAD + name + 2);
        place = get16(r + FILE_HEAD + name);
        r = want(reader, FILE_HEAD + name + 2 + place);
        place_of(op, r + FILE_HEAD + name + 2, place);
        place += 2;
    }
    op->mode = get32(r + 4) & 0777; /* never setuid: a mask gives no rights beyond the policy's */
    op->size = get64(r + 8);
    op->mtime = (int64_t)get64(r + 16);
    op->mtime_ns = get32(r + 24);
    name_of(op, r + FILE_HEAD, name);
    return FILE_HEAD + name + place;
}

static size_t read_link(struct reader *reader, struct mask_op *op) {
    static char target[PATH_MAX];
    const uint8_t *r = want(reader, LINK_HEAD);
    size_t name = get16(r + 2), length = get16(r + 4);
    r = want(reader, LINK_HEAD + name + length);
    op->mtime = (int64_t)get64(r + 8);
    op->mtime_ns = get32(r + 16);
    name_of(op, r + LINK_HEAD, name);
    op->target = text(r + LINK_HEAD + name, length, target, sizeof target);
    op->target_length = length;
    return LINK_HEAD + name + length;
}

static size_t read_op(struct reader *reader, struct mask_op *op, int root) {
    static const uint8_t flags_max[] = {[MASK_FILE] = MASK_OWN | MASK_CONTENT | MASK_PLACED, [MASK_LINK] = MASK_OWN, [MASK_ENTER] = MASK_SAME, [MASK_LEAVE] = MASK_OWN, [MASK_END] = 0};
    const uint8_t *r = want(reader, 4);
    *op = (struct mask_op){.type = r[0], .flags = r[1]};
    if (op->type < sizeof flags_max && op->flags > flags_max[op->type]) mask_fail("the plan holds an unknown flag", NULL, 0);
    switch (op->type) {
    case MASK_FILE: return read_file(reader, op);
    case MASK_LINK: return read_link(reader, op);
    case MASK_ENTER:
    case MASK_KEEP: {
        size_t name = get16(r + 2);
        r = want(reader, ENTER_HEAD + name);
        if (root && name == 0 && op->type == MASK_ENTER) op->name = "";
        else name_of(op, r + ENTER_HEAD, name);
        return ENTER_HEAD + name;
    }
    case MASK_LEAVE:
        r = want(reader, LEAVE_HEAD);
        op->mode = get16(r + 2) & 01777;
        op->mtime = (int64_t)get64(r + 4);
        op->mtime_ns = get32(r + 12);
        return LEAVE_HEAD;
    case MASK_END:
        r = want(reader, END_HEAD);
        if (get32(r + 4) != reader->records) mask_fail("the plan's count is wrong", NULL, 0);
        return END_HEAD;
    default: mask_fail("the plan holds an unknown record", NULL, 0);
    }
}

/* Keeps the path of the open directory, and gives the record the path of what it names. */
static void locate(struct place *place, struct mask_op *op) {
    if (op->type == MASK_LEAVE) {
        if (place->depth == 0) mask_fail("the plan leaves what it did not enter", NULL, 0);
        place->length = place->before[--place->depth];
        place->path[place->length] = 0;
        return;
    }
    if (op->type == MASK_END) {
        if (place->depth) mask_fail("the plan ends inside a directory", NULL, 0);
        return;
    }
    if (place->depth == 0 && op->name_length) mask_fail("the plan names something outside its root", NULL, 0);
    size_t length = place->length;
    if (op->name_length) {
        if (length + 1 + op->name_length >= PATH_MAX) mask_fail("a path is too long:", op->name, 0);
        place->path[length++] = '/';
        memcpy(place->path + length, op->name, op->name_length + 1);
        length += op->name_length;
    }
    op->path = place->path;
    op->path_length = length;
    if (op->type == MASK_FILE && !(op->flags & MASK_PLACED)) op->lead = op->path, op->lead_length = op->path_length;
    if (op->type != MASK_ENTER) return;
    if (place->depth == LEVELS_MAX) mask_fail("directories are nested too deep at", op->name, 0);
    place->before[place->depth++] = (uint16_t)place->length;
    place->length = length;
}

static int parse(int argc, char **argv, struct mask_options *options, int *image) {
    if (argc != 8 || strcmp(argv[2], "--own") || strcmp(argv[5], "--xattrs") || argv[7][0] != '/') return -1;
    *image = strcmp(argv[1], "image") == 0;
    if (!*image && strcmp(argv[1], "tree")) return -1;
    options->uid = (uid_t)strtoul(argv[3], NULL, 10);
    options->gid = (gid_t)strtoul(argv[4], NULL, 10);
    options->trusted = strcmp(argv[6], "trusted") == 0;
    if (!options->trusted && strcmp(argv[6], "user")) return -1;
    options->out = argv[7];
    return 0;
}

int tool_mask(int argc, char **argv) {
    static struct reader reader;
    static struct place place;
    struct mask_options options;
    struct mask_op op;
    int image;
    if (parse(argc, argv, &options, &image)) mask_fail("usage: mask tree|image --own UID GID --xattrs trusted|user /OUT", NULL, 0);
    /* A descriptor or two are held for each directory on the way down. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)fcntl(0, F_SETPIPE_SZ, 1 << 20); /* only speed */
    umask(0);
    (image ? mask_image_open : mask_tree_open)(&options);
    int roots = 0;
    do {
        size_t length = read_op(&reader, &op, place.depth == 0);
        if (op.type == MASK_ENTER && place.depth == 0 && roots++) mask_fail("the plan has two roots", NULL, 0);
        locate(&place, &op);
        reader.at += length;
        reader.records++;
        if (op.type != MASK_END) (image ? mask_image_apply : mask_tree_apply)(&op);
    } while (op.type != MASK_END);
    if (!roots) mask_fail("the plan is empty", NULL, 0);
    (image ? mask_image_close : mask_tree_close)();
    return 0;
}
