/* The worker `files`: answers requests of the host one after the other (PROTOCOL.md, Workers). What takes long is cut by the host into many
 * requests, so a slow upload or a large tree holds up nobody else's call.
 * Invariant: a request is answered by exactly one frame; memory is bounded by one frame in, one out and MAX_HANDLES descriptors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "files-change.h"
#include "files-draft.h"
#include "files-entry.h"
#include "worker.h"

/* READ_STEP: what most files are smaller than. HELD_BYTES: of the answer's buffer, kept between requests. */
enum { MAX_HANDLES = 64, MAX_READ_BYTES = 512 * 1024, READ_STEP = 32 * 1024, HELD_BYTES = 128 * 1024, BROKEN = 3 };

struct handle {
    uint32_t number; /* as the host knows it, 0: free */
    bool writes;
    int fd;
    struct draft draft;
};

struct files {
    struct frame_reader in;
    struct buffer out;
    struct handle handles[MAX_HANDLES];
    uint32_t opened;
};

static struct handle *handle_free(struct files *files) {
    for (size_t i = 0; i < MAX_HANDLES; i++) {
        struct handle *handle = &files->handles[i];
        if (handle->number) continue;
        /* Never one that was used before: an answer to a late request must not be another file's. */
        handle->number = (++files->opened & 0x3ffffff) << 6 | (uint32_t)i;
        return handle;
    }
    return NULL;
}

static struct handle *handle_find(struct files *files, uint32_t number, bool writes) {
    struct handle *handle = &files->handles[number % MAX_HANDLES];
    return number && handle->number == number && handle->writes == writes ? handle : NULL;
}

static void handle_close(struct handle *handle) {
    if (handle->writes) draft_close(&handle->draft);
    else close(handle->fd);
    handle->number = 0;
}

static bool put_number(struct buffer *out, uint32_t value) {
    uint8_t bytes[4];
    put_u32(bytes, value);
    return buffer_add(out, bytes, sizeof bytes);
}

static int told(struct buffer *out, const struct stat *st) { return entry_put(out, st, -1, "") ? 0 : -ENOMEM; }

static int do_stat(struct files *files, const struct files_request *request) {
    struct stat st;
    int fd = path_open(request->base, request->path, O_PATH | (request->flags & FILES_NOFOLLOW ? O_NOFOLLOW : 0));
    if (fd < 0) return fd;
    int error = fstat(fd, &st) != 0 ? -errno : 0;
    /* An empty name is the link that the descriptor stands for. */
    if (!error && !entry_put(&files->out, &st, fd, "")) error = -ENOMEM;
    if (!error && request->flags & FILES_XATTRS && !S_ISLNK(st.st_mode)) error = -xattrs_put(&files->out, fd);
    close(fd);
    return error;
}

static int do_list(struct files *files, const struct files_request *request) {
    int fd = path_open(request->base, request->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (fd < 0) return fd;
    int error = entries_put(&files->out, fd, request->other, request->count);
    close(fd);
    return -error;
}

/* Up to `most` bytes from `offset`; `*end`: the file has no more. */
static int put_bytes(struct buffer *out, int fd, uint64_t offset, size_t most, bool *end) {
    *end = false;
    while (most > 0) {
        size_t step = most < READ_STEP ? most : READ_STEP;
        uint8_t *room = buffer_room(out, step, NULL);
        if (!room) return -ENOMEM;
        ssize_t count = pread(fd, room, step, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -errno;
        if (count == 0) *end = true;
        if (count == 0) return 0;
        buffer_took(out, (size_t)count);
        offset += (uint64_t)count;
        most -= (size_t)count;
    }
    return 0;
}

static int do_get(struct files *files, const struct files_request *request) {
    struct stat st;
    bool end;
    int held = path_open(request->base, request->path, O_PATH | (request->flags & FILES_NOFOLLOW ? O_NOFOLLOW : 0));
    if (held < 0) return held;
    int fd = path_reopen_file(held, O_RDONLY, &st);
    close(held);
    if (fd < 0) return fd;
    size_t at = buffer_length(&files->out) + ENTRY_BYTES;
    int error = told(&files->out, &st);
    if (!error && !put_number(&files->out, 0)) error = -ENOMEM;
    size_t most = request->count < MAX_READ_BYTES ? request->count : MAX_READ_BYTES;
    if (!error) error = put_bytes(&files->out, fd, request->offset, most, &end);
    struct handle *handle = !error && !end && request->flags & FILES_KEEP ? handle_free(files) : NULL;
    if (!error && !end && request->flags & FILES_KEEP && !handle) error = -EMFILE;
    if (error || !handle) {
        close(fd);
        return error;
    }
    handle->writes = false;
    handle->fd = fd;
    put_u32(files->out.memory + files->out.start + at, handle->number);
    return 0;
}

static int do_read(struct files *files, const struct files_request *request) {
    bool end;
    const struct handle *handle = handle_find(files, request->handle, false);
    if (!handle) return -EBADF;
    return put_bytes(&files->out, handle->fd, request->offset, request->count < MAX_READ_BYTES ? request->count : MAX_READ_BYTES, &end);
}

static int do_close(struct files *files, const struct files_request *request) {
    struct handle *handle = handle_find(files, request->handle, false);
    if (!handle) handle = handle_find(files, request->handle, true);
    if (!handle) return -EBADF;
    handle_close(handle);
    return 0;
}

static int do_put(struct files *files, const struct files_request *request) {
    struct draft draft;
    struct stat st;
    int error = draft_open(&draft, request);
    if (error) return error;
    error = draft_write(&draft, request->data, request->length);
    if (!error) error = draft_commit(&draft, &st);
    draft_close(&draft);
    return error ? error : told(&files->out, &st);
}

static int do_create(struct files *files, const struct files_request *request) {
    struct handle *handle = handle_free(files);
    if (!handle) return -EMFILE;
    handle->writes = true;
    int error = draft_open(&handle->draft, request);
    if (!error && !put_number(&files->out, handle->number)) error = -ENOMEM;
    if (error) handle_close(handle);
    return error;
}

static int do_write(struct files *files, const struct files_request *request) {
    const struct handle *handle = handle_find(files, request->handle, true);
    return handle ? draft_write(&handle->draft, request->data, request->length) : -EBADF;
}

static int do_commit(struct files *files, const struct files_request *request) {
    struct handle *handle = handle_find(files, request->handle, true);
    struct stat st;
    if (!handle) return -EBADF;
    int error = draft_commit(&handle->draft, &st);
    handle_close(handle);
    return error ? error : told(&files->out, &st);
}

static int do_mkdir(struct files *files, const struct files_request *request) {
    struct stat st;
    int error = change_mkdir(request, &st);
    return error ? error : told(&files->out, &st);
}

static int do_set(struct files *files, const struct files_request *request) {
    struct stat st;
    int error = change_set(request, &st);
    return error ? error : told(&files->out, &st);
}

static int do_remove(struct files *files, const struct files_request *request) {
    int result = change_remove(request);
    uint8_t more = result > 0;
    if (result < 0) return result;
    return buffer_add(&files->out, &more, 1) ? 0 : -ENOMEM;
}

static int serve_one(struct files *files, const struct files_request *request) {
    switch ((enum files_op)request->op) {
        case FILES_STAT: return do_stat(files, request);
        case FILES_LIST: return do_list(files, request);
        case FILES_GET: return do_get(files, request);
        case FILES_READ: return do_read(files, request);
        case FILES_CLOSE: return do_close(files, request);
        case FILES_PUT: return do_put(files, request);
        case FILES_CREATE: return do_create(files, request);
        case FILES_WRITE: return do_write(files, request);
        case FILES_COMMIT: return do_commit(files, request);
        case FILES_MKDIR: return do_mkdir(files, request);
        case FILES_MOVE: return change_move(request);
        case FILES_REMOVE: return do_remove(files, request);
        case FILES_SET: return do_set(files, request);
        case FILES_SYMLINK: return change_symlink(request);
        case FILES_LINK: return change_link(request);
        case FILES_SETXATTR: return change_xattr(request);
    }
    return -ENOSYS;
}

bool worker_say(struct buffer *out) {
    while (buffer_length(out) > 0) {
        ssize_t count = write(1, buffer_bytes(out), buffer_length(out));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return false;
        buffer_drop(out, (size_t)count);
    }
    return true;
}

static bool answer(struct files *files, const struct frame *frame) {
    static const uint8_t blank[FRAME_HEAD_BYTES];
    struct files_request request;
    struct buffer *out = &files->out;
    if (!files_parse(frame, &request) || !buffer_add(out, blank, sizeof blank)) return false;
    int error = serve_one(files, &request);
    if (error) {
        buffer_drop(out, buffer_length(out));
        if (!buffer_add(out, blank, sizeof blank) || !put_number(out, (uint32_t)-error)) return false;
    }
    frame_head_put(out->memory + out->start, error ? FILES_ERROR : FILES_OK, request.id, (uint32_t)buffer_length(out) - FRAME_HEAD_BYTES);
    bool said = worker_say(out);
    if (out->size > HELD_BYTES) buffer_free(out);
    return said;
}

int files_main(int argc, char **argv) {
    (void)argv;
    static struct files files;
    bool good = argc == 1;
    /* A file beyond the limit is an answer, not an end. */
    signal(SIGXFSZ, SIG_IGN);
    while (good) {
        size_t room;
        struct frame frame;
        enum frame_verdict verdict;
        uint8_t *into = frame_room(&files.in, &room);
        ssize_t count = into ? read(0, into, room) : -1;
        if (count < 0 && into && errno == EINTR) continue;
        if (count <= 0) break;
        frame_took(&files.in, (size_t)count);
        while ((verdict = frame_next(&files.in, &frame)) == FRAME_WHOLE && good) good = answer(&files, &frame);
        good = good && verdict != FRAME_BROKEN;
    }
    for (size_t i = 0; i < MAX_HANDLES; i++)
        if (files.handles[i].number) handle_close(&files.handles[i]);
    return good ? 0 : BROKEN;
}
