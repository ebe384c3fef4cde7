/* The mask as one file: a read-only EROFS image (the kernel's own format, erofs_fs.h), every file of it a hole with overlay's
 * metacopy and redirect marks. Written front to back, so it costs a hundred bytes an entry and no inode. The layout is a function
 * of the plan alone: inode numbers, sizes and offsets cannot tell what the plan leaves out.
 * Invariant: directories are sorted by bytes ("." and ".." among them) and no short link or directory tail crosses a block,
 * as the kernel's reader demands. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "mask.h"

enum {
    BLOCK_BITS = 12,
    BLOCK = 1 << BLOCK_BITS,
    SUPER_AT = 1024,
    SUPER_BYTES = 128,
    INODE = 64,     /* the extended form: 32-bit ids, times of its own */
    NID_BITS = 5,   /* an inode's number is its offset / 32 */
    DIRENT = 12,
    XATTR_HEAD = 12,
    XATTR_ENTRY = 4,
    CHUNK_BITS = BLOCK_BITS + 31, /* the largest: one pointer covers 8 TiB of hole */
    FLAT_PLAIN = 0, FLAT_INLINE = 2, CHUNK_BASED = 4,
    INDEX_USER = 1, INDEX_TRUSTED = 4,
    TYPE_FILE = 1, TYPE_DIR = 2, TYPE_LINK = 7,
};
#define MAGIC 0xE0F5E1E2u
#define INCOMPAT_CHUNKED 4u
#define HOLE 0xFFFFFFFFu

struct node {
    uint32_t parent;
    uint32_t first, count; /* of a directory's children in image.order */
    uint32_t subdirs;
    uint32_t name, lead, target; /* offsets into image.text */
    uint16_t name_length, lead_length, target_length;
    uint16_t mode;
    uint8_t type, flags;
    uint32_t mtime_ns;
    int64_t mtime;
    uint64_t size;
    uint64_t at;    /* offset of the inode in the image */
    uint64_t bytes; /* of a directory's or link's data */
    uint64_t block; /* its first whole block */
};

static struct {
    struct mask_options options;
    struct node *nodes;
    size_t count, size;
    uint32_t *order; /* nodes by parent, by name */
    char *text;
    size_t text_used, text_size;
    uint32_t open; /* the directory being filled */
    uint8_t *bytes;
    uint64_t length;
} image;

static void *sized(void *old, size_t count, size_t unit) {
    void *fresh = realloc(old, count * unit);
    if (!fresh) mask_fail("out of memory", NULL, 0);
    return fresh;
}

void mask_image_open(const struct mask_options *options) { image.options = *options; }

static uint32_t keep_text(const char *from, size_t length) {
    if (image.text_used + length + 1 > image.text_size) {
        image.text_size = image.text_size ? image.text_size * 2 : 1 << 20;
        image.text = sized(image.text, image.text_size, 1);
    }
    if (image.text_used + length + 1 > UINT32_MAX) mask_fail("the codebase is too large for an image", NULL, 0);
    memcpy(image.text + image.text_used, from, length);
    image.text[image.text_used + length] = 0;
    image.text_used += length + 1;
    return (uint32_t)(image.text_used - length - 1);
}

static struct node *add(const struct mask_op *op, uint8_t type) {
    if (image.count == image.size) {
        image.size = image.size ? image.size * 2 : 1 << 12;
        image.nodes = sized(image.nodes, image.size, sizeof *image.nodes);
    }
    if (image.count == UINT32_MAX) mask_fail("the codebase is too large for an image", NULL, 0);
    struct node *node = &image.nodes[image.count++];
    *node = (struct node){.parent = image.open, .type = type, .flags = op->flags, .mode = (uint16_t)op->mode};
    node->size = op->size;
    node->mtime = op->mtime;
    node->mtime_ns = op->mtime_ns;
    node->name = keep_text(op->name, op->name_length);
    node->name_length = (uint16_t)op->name_length;
    if (image.count > 1) {
        image.nodes[image.open].count++;
        image.nodes[image.open].subdirs += type == TYPE_DIR;
    }
    return node;
}

void mask_image_apply(const struct mask_op *op) {
    struct node *node;
    switch (op->type) {
    case MASK_FILE:
        node = add(op, TYPE_FILE);
        if (!(op->flags & MASK_CONTENT)) break;
        node->lead = keep_text(op->lead, op->lead_length);
        node->lead_length = (uint16_t)op->lead_length;
        break;
    case MASK_LINK:
        node = add(op, TYPE_LINK);
        node->mode = 0777;
        node->target = keep_text(op->target, op->target_length);
        node->target_length = (uint16_t)op->target_length;
        break;
    case MASK_ENTER:
        if (op->flags != MASK_FRESH) mask_fail("an image is always made anew", NULL, 0);
        (void)add(op, TYPE_DIR);
        image.open = (uint32_t)(image.count - 1);
        break;
    case MASK_LEAVE:
        node = &image.nodes[image.open];
        node->mode = (uint16_t)op->mode;
        node->flags = op->flags;
        node->mtime = op->mtime;
        node->mtime_ns = op->mtime_ns;
        image.open = node->parent;
        break;
    default: mask_fail("an image is always made anew", NULL, 0);
    }
}

/* ---- order -------------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    const struct node *x = &image.nodes[*(const uint32_t *)a], *y = &image.nodes[*(const uint32_t *)b];
    int order = strcmp(image.text + x->name, image.text + y->name);
    if (order == 0) mask_fail("the plan names twice", image.text + x->name, 0);
    return order;
}

/* Children of each directory, side by side and sorted. */
static void sort_children(void) {
    image.order = sized(NULL, image.count, sizeof *image.order);
    uint32_t next = 0;
    for (size_t i = 0; i < image.count; i++) {
        image.nodes[i].first = next;
        next += image.nodes[i].count;
        image.nodes[i].count = 0;
    }
    for (uint32_t i = 1; i < image.count; i++) {
        struct node *parent = &image.nodes[image.nodes[i].parent];
        image.order[parent->first + parent->count++] = i;
    }
    for (size_t i = 0; i < image.count; i++)
        if (image.nodes[i].count > 1) qsort(image.order + image.nodes[i].first, image.nodes[i].count, sizeof *image.order, by_name);
}

/* ---- directories -------------------------------------------------------------------------------------------------- */

/* The names of one directory in order, "." and ".." where their bytes put them. */
struct listing {
    const struct node *dir;
    uint32_t next;
    int dots; /* how many of "." and ".." were given */
};

static int list_next(struct listing *l, const char **name, size_t *length, uint32_t *index) {
    const struct node *child = l->next < l->dir->count ? &image.nodes[image.order[l->dir->first + l->next]] : NULL;
    const char *dot = l->dots == 0 ? "." : "..";
    if (l->dots < 2 && (!child || strcmp(dot, image.text + child->name) < 0)) {
        *name = dot;
        *length = strlen(dot);
        *index = l->dots == 0 ? (uint32_t)(l->dir - image.nodes) : l->dir->parent;
        l->dots++;
        return 1;
    }
    if (!child) return 0;
    *name = image.text + child->name;
    *length = child->name_length;
    *index = image.order[l->dir->first + l->next++];
    return 1;
}

static uint64_t dir_bytes(const struct node *dir) {
    struct listing l = {.dir = dir};
    const char *name;
    size_t length;
    uint32_t index;
    uint64_t whole = 0, used = 0;
    while (list_next(&l, &name, &length, &index)) {
        if (used + DIRENT + length > BLOCK) whole += BLOCK, used = 0;
        used += DIRENT + length;
    }
    return whole + used;
}

/* ---- layout ------------------------------------------------------------------------------------------------------- */

static size_t pad4(size_t length) { return (length + 3) & ~(size_t)3; }

static const char METACOPY[] = "overlay.metacopy", REDIRECT[] = "overlay.redirect";

static size_t xattr_bytes(const struct node *node) {
    if (!(node->flags & MASK_CONTENT) || node->type != TYPE_FILE) return 0;
    return XATTR_HEAD + pad4(XATTR_ENTRY + sizeof METACOPY - 1) + pad4(XATTR_ENTRY + sizeof REDIRECT - 1 + node->lead_length);
}

static uint64_t chunks(const struct node *node) { return (node->size + (1ull << CHUNK_BITS) - 1) >> CHUNK_BITS; }

/* What stands behind the inode and must not cross a block: the tail of a directory, the target of a link. */
static size_t tail_bytes(const struct node *node) {
    size_t tail = node->bytes % BLOCK;
    return node->type != TYPE_FILE && tail <= BLOCK - INODE ? tail : 0;
}

static uint64_t whole_blocks(const struct node *node) {
    return tail_bytes(node) ? node->bytes / BLOCK : (node->bytes + BLOCK - 1) / BLOCK;
}

/* Gives each inode its place; the order is that of the plan. */
static void lay_out(void) {
    uint64_t at = SUPER_AT + SUPER_BYTES;
    for (size_t i = 0; i < image.count; i++) {
        struct node *node = &image.nodes[i];
        if (node->type == TYPE_DIR) node->bytes = dir_bytes(node);
        if (node->type == TYPE_LINK) node->bytes = node->target_length;
        size_t tail = tail_bytes(node);
        if (tail && at % BLOCK + INODE + tail > BLOCK) at = (at + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
        node->at = at;
        at += INODE + xattr_bytes(node) + tail;
        if (node->type == TYPE_FILE) at += 4 * chunks(node);
        at = (at + (1 << NID_BITS) - 1) & ~(uint64_t)((1 << NID_BITS) - 1);
    }
    uint64_t block = (at + BLOCK - 1) >> BLOCK_BITS;
    for (size_t i = 0; i < image.count; i++) {
        image.nodes[i].block = block;
        block += whole_blocks(&image.nodes[i]);
    }
    if (block > UINT32_MAX) mask_fail("the codebase is too large for an image", NULL, 0);
    image.length = block << BLOCK_BITS;
}

/* ---- bytes -------------------------------------------------------------------------------------------------------- */

static void le16(uint8_t *at, uint64_t v) { at[0] = (uint8_t)v, at[1] = (uint8_t)(v >> 8); }
static void le32(uint8_t *at, uint64_t v) { le16(at, v), le16(at + 2, v >> 16); }
static void le64(uint8_t *at, uint64_t v) { le32(at, v), le32(at + 4, v >> 32); }

/* Where byte `offset` of a directory's or link's data lies. */
static uint8_t *data_at(const struct node *node, uint64_t offset) {
    uint64_t blocks = whole_blocks(node);
    if (offset < blocks << BLOCK_BITS) return image.bytes + (node->block << BLOCK_BITS) + offset;
    return image.bytes + node->at + INODE + (offset - (blocks << BLOCK_BITS));
}

/* One block of a directory: `count` entries from `l` on, then their names. */
static void write_block(struct listing l, uint32_t count, uint8_t *to) {
    size_t names = (size_t)count * DIRENT;
    for (uint32_t i = 0; i < count; i++) {
        const char *name;
        size_t length;
        uint32_t index;
        if (!list_next(&l, &name, &length, &index)) abort();
        le64(to + i * DIRENT, image.nodes[index].at >> NID_BITS);
        le16(to + i * DIRENT + 8, names);
        to[i * DIRENT + 10] = image.nodes[index].type;
        memcpy(to + names, name, length);
        names += length;
    }
}

static void write_dir(const struct node *dir) {
    struct listing l = {.dir = dir}, from = l;
    const char *name;
    size_t length;
    uint32_t index, count = 0;
    uint64_t offset = 0, used = 0;
    while (list_next(&l, &name, &length, &index)) {
        if (used + DIRENT + length > BLOCK) {
            write_block(from, count, data_at(dir, offset));
            /* `l` has already given the entry that did not fit. */
            for (; count; count--) (void)list_next(&from, &name, &length, &index);
            l = from;
            offset += BLOCK, used = 0;
            (void)list_next(&l, &name, &length, &index);
        }
        used += DIRENT + length;
        count++;
    }
    write_block(from, count, data_at(dir, offset));
}

static uint8_t *write_xattr(uint8_t *to, const char *name, const char *value, size_t value_length) {
    size_t length = strlen(name);
    to[0] = (uint8_t)length;
    to[1] = image.options.trusted ? INDEX_TRUSTED : INDEX_USER;
    le16(to + 2, value_length);
    memcpy(to + XATTR_ENTRY, name, length);
    memcpy(to + XATTR_ENTRY + length, value, value_length);
    return to + pad4(XATTR_ENTRY + length + value_length);
}

static void write_inode(const struct node *node) {
    static const uint16_t FORMATS[] = {[TYPE_FILE] = S_IFREG, [TYPE_DIR] = S_IFDIR, [TYPE_LINK] = S_IFLNK};
    uint8_t *to = image.bytes + node->at;
    size_t xattrs = xattr_bytes(node);
    uint16_t layout = node->type == TYPE_FILE ? (node->size ? CHUNK_BASED : FLAT_PLAIN) : tail_bytes(node) ? FLAT_INLINE : FLAT_PLAIN;
    le16(to, 1u | (unsigned)layout << 1);
    le16(to + 2, xattrs ? (xattrs - XATTR_HEAD) / 4 + 1 : 0);
    le16(to + 4, FORMATS[node->type] | node->mode);
    le64(to + 8, node->type == TYPE_FILE ? node->size : node->bytes);
    if (layout == CHUNK_BASED) le32(to + 16, CHUNK_BITS - BLOCK_BITS);
    else le32(to + 16, node->type == TYPE_FILE ? HOLE : node->block);
    le32(to + 20, node->at >> NID_BITS);
    le32(to + 24, node->flags & MASK_OWN ? image.options.uid : 0);
    le32(to + 28, node->flags & MASK_OWN ? image.options.gid : 0);
    le64(to + 32, (uint64_t)node->mtime);
    le32(to + 40, node->mtime_ns);
    le32(to + 44, node->type == TYPE_DIR ? 2 + node->subdirs : 1);
    if (node->type == TYPE_DIR) write_dir(node);
    if (node->type == TYPE_LINK) memcpy(data_at(node, 0), image.text + node->target, node->target_length);
    if (node->type != TYPE_FILE) return;
    uint8_t *behind = to + INODE;
    if (xattrs) {
        /* SAFETY: only what has `read` leads anywhere; without both marks the file is a hole of the right size. */
        behind = write_xattr(behind + XATTR_HEAD, METACOPY, "", 0);
        behind = write_xattr(behind, REDIRECT, image.text + node->lead, node->lead_length);
    }
    for (uint64_t i = chunks(node); i; i--, behind += 4) le32(behind, HOLE);
}

static void write_super(void) {
    uint8_t *to = image.bytes + SUPER_AT;
    le32(to, MAGIC);
    to[12] = BLOCK_BITS;
    le16(to + 14, image.nodes[0].at >> NID_BITS);
    le64(to + 16, image.count);
    le32(to + 36, image.length >> BLOCK_BITS);
    le32(to + 80, INCOMPAT_CHUNKED);
}

static void write_out(void) {
    int fd = open(image.options.out, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) mask_fail("cannot make", image.options.out, errno);
    for (uint64_t done = 0; done < image.length;) {
        ssize_t n = write(fd, image.bytes + done, image.length - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) mask_fail("cannot write", image.options.out, errno);
        done += (uint64_t)n;
    }
    close(fd);
}

void mask_image_close(void) {
    sort_children();
    lay_out();
    image.bytes = calloc(1, image.length);
    if (!image.bytes) mask_fail("out of memory", NULL, 0);
    for (size_t i = 0; i < image.count; i++) write_inode(&image.nodes[i]);
    write_super();
    write_out();
    /* Whether this kernel takes it is known now, not when a sandbox waits for it. */
    int mount = image_mount(image.options.out);
    if (mount < 0) mask_fail("image: the kernel cannot mount it", NULL, errno);
    close(mount);
}
