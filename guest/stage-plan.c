// The plan of a commit: read from stdin, written to the staging directory as the journal, read back after a crash.
// It is bytes and offsets; what the operations do stands in stage-apply.c.
// Invariant: a plan that was accepted holds only names in normal form and known kinds, and a journal that was cut or changed
// does not pass its checksum: recovery acts on the whole plan or on none.
#define _GNU_SOURCE
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {SIG_BYTES = 40, HEAD_BYTES = 24, BODY_BYTES = 100};
static const char MAGIC[4] = {'C', 'R', 'L', '1'};

static void sig_get(const uint8_t *at, struct stage_sig *sig) {
    sig->type = at[0];
    sig->mode = get32(at + 4);
    sig->ino = get64(at + 8);
    sig->size = get64(at + 16);
    sig->mtime = (int64_t)get64(at + 24);
    sig->ctime = (int64_t)get64(at + 32);
}

void sig_put(uint8_t *at, const struct stage_sig *sig) {
    memset(at, 0, SIG_BYTES);
    at[0] = sig->type;
    put32(at + 4, sig->mode);
    put64(at + 8, sig->ino);
    put64(at + 16, sig->size);
    put64(at + 24, (uint64_t)sig->mtime);
    put64(at + 32, (uint64_t)sig->ctime);
}

static int op_known(const struct op *op, uint32_t path, uint32_t from, uint32_t target) {
    int makes_file = op->kind == OP_FILE, makes_link = op->kind == OP_LINK;
    if (!strchr("DRMFLC", op->kind) || op->source > SOURCE_BASE || (op->mode & ~0777u)) return 0;
    if (makes_file != (op->source != SOURCE_NONE) || makes_link != (target > 0)) return 0;
    if (makes_file && op->from.type != 'f') return 0;
    if (path == 0 || strlen(op->path) != path || strlen(op->from_path) != from || strlen(op->target) != target) return 0;
    return path_plain(op->path, path) && path_plain(op->from_path, from);
}

/* One record at `at`: u32 length, then the body. Returns its whole length, 0 when it is not one. */
static size_t op_parse(const uint8_t *at, size_t left, struct op *op) {
    if (left < 4 + BODY_BYTES) return 0;
    size_t length = get32(at);
    const uint8_t *body = at + 4;
    if (length < BODY_BYTES + 3 || length > left - 4) return 0;
    uint32_t path = get32(body + 88), from = get32(body + 92), target = get32(body + 96);
    if ((uint64_t)path + from + target + 3 + BODY_BYTES != length) return 0;
    memset(op, 0, sizeof *op);
    op->kind = body[0];
    op->source = body[1];
    op->mode = get32(body + 4);
    sig_get(body + 8, &op->before);
    sig_get(body + 48, &op->from);
    op->path = (const char *)body + BODY_BYTES;
    op->from_path = op->path + path + 1;
    op->target = op->from_path + from + 1;
    if (op->path[path] || op->from_path[from] || op->target[target]) return 0;
    return op->kind && op_known(op, path, from, target) ? length + 4 : 0;
}

static int plan_parse(struct plan *plan) {
    plan->ops = calloc((size_t)plan->count + 1, sizeof *plan->ops);
    if (!plan->ops) stage_fail("out of memory", ENOMEM);
    size_t at = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        size_t size = op_parse(plan->bytes + at, plan->length - at, &plan->ops[i]);
        if (size == 0) return -1;
        at += size;
    }
    return at == plan->length ? 0 : -1;
}

/* Request: head as in the journal (`CRL1`, u32 count, u64 inode of the root, u64 bytes of the records), then the records. */
static int head_get(const uint8_t *head, struct plan *plan) {
    plan->count = get32(head + 4);
    plan->root_ino = get64(head + 8);
    plan->length = get64(head + 16);
    if (memcmp(head, MAGIC, sizeof MAGIC) != 0 || plan->count > STAGE_OPS_MAX) return -1;
    return plan->length <= (uint64_t)plan->count * STAGE_RECORD_MAX ? 0 : -1;
}

int plan_take(struct stage_in *in, struct plan *plan) {
    uint8_t head[HEAD_BYTES];
    if (!stage_take(in, head, sizeof head) || head_get(head, plan) < 0) return -1;
    plan->bytes = malloc(plan->length + 1);
    if (!plan->bytes) stage_fail("out of memory", ENOMEM);
    if (plan->length > 0 && !stage_take(in, plan->bytes, plan->length)) return -1;
    return plan_parse(plan);
}

static uint64_t checksum(uint64_t sum, const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) sum = (sum ^ bytes[i]) * 0x100000001b3u;
    return sum;
}

static int write_full(int fd, const uint8_t *bytes, size_t length) {
    while (length > 0) {
        ssize_t done = write(fd, bytes, length);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return -1;
        bytes += done;
        length -= (size_t)done;
    }
    return 0;
}

static int journal_write(int fd, const struct plan *plan) {
    uint8_t head[HEAD_BYTES], sum[8];
    size_t table = (size_t)plan->count * SIG_BYTES;
    uint8_t *made = malloc(table + 1);
    if (!made) stage_fail("out of memory", ENOMEM);
    for (uint32_t i = 0; i < plan->count; i++) sig_put(made + (size_t)i * SIG_BYTES, &plan->ops[i].made);
    memcpy(head, MAGIC, sizeof MAGIC);
    put32(head + 4, plan->count);
    put64(head + 8, plan->root_ino);
    put64(head + 16, plan->length);
    put64(sum, checksum(checksum(checksum(0xcbf29ce484222325u, head, sizeof head), plan->bytes, plan->length), made, table));
    int result = write_full(fd, head, sizeof head) || write_full(fd, plan->bytes, plan->length) || write_full(fd, made, table) || write_full(fd, sum, sizeof sum) ? -1 : 0;
    int error = errno;
    free(made);
    errno = error;
    return result;
}

/* The journal under its first name `plan`: no decision yet. The rename to `go` is the decision. */
int plan_write(struct commit *commit) {
    int fd = openat(commit->stage, "plan", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    int result = journal_write(fd, &commit->plan) < 0 || fsync(fd) < 0 ? -1 : 0;
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static uint8_t *read_whole(int fd, size_t *length) {
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) return NULL;
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    if (!bytes) stage_fail("out of memory", ENOMEM);
    for (*length = 0; *length < (size_t)st.st_size;) {
        ssize_t got = read(fd, bytes + *length, (size_t)st.st_size - *length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        *length += (size_t)got;
    }
    return bytes;
}

/* Reads the journal back. -1 with ENOENT when there is none of that name, EBADMSG when it is not whole. */
int plan_read(struct commit *commit, const char *name) {
    struct plan *plan = &commit->plan;
    size_t length = 0;
    int fd = openat(commit->stage, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -1;
    uint8_t *bytes = read_whole(fd, &length);
    close(fd);
    errno = EBADMSG;
    if (!bytes || length < HEAD_BYTES + 8 || head_get(bytes, plan) < 0) return -1;
    size_t table = (size_t)plan->count * SIG_BYTES;
    if (length != HEAD_BYTES + plan->length + table + 8) return -1;
    if (checksum(0xcbf29ce484222325u, bytes, length - 8) != get64(bytes + length - 8)) return -1;
    plan->bytes = bytes + HEAD_BYTES;
    if (plan_parse(plan) < 0) return -1;
    for (uint32_t i = 0; i < plan->count; i++) sig_get(bytes + HEAD_BYTES + plan->length + (size_t)i * SIG_BYTES, &plan->ops[i].made);
    return 0;
}
