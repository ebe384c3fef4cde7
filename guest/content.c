/* content.h. A clone where the file system has one, else the kernel's own copying, else bytes through memory.
 * Invariant: a hole of the source is a hole of the copy: a sparse file of terabytes fills no disk. */
#define _GNU_SOURCE
#include "content.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 17 };

static int copy_plain(int from, int to, off_t at, off_t end) {
    static uint8_t bytes[CHUNK_BYTES];
    while (at < end) {
        size_t want = end - at < (off_t)sizeof bytes ? (size_t)(end - at) : sizeof bytes;
        ssize_t got = pread(from, bytes, want, at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got < 0 ? -1 : 0;
        for (ssize_t done = 0; done < got;) {
            ssize_t part = pwrite(to, bytes + done, (size_t)(got - done), at + done);
            if (part < 0 && errno == EINTR) continue;
            if (part < 0) return -1;
            done += part;
        }
        at += got;
    }
    return 0;
}

static int copy_extent(int from, int to, off_t at, off_t end) {
    while (at < end) {
        off_t in = at, out = at;
        ssize_t part = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);
        if (part < 0 && errno == EINTR) continue;
        /* Another file system, or one that knows no such call: bytes through memory. A short 0 is a file that shrank. */
        if (part < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) return copy_plain(from, to, at, end);
        if (part <= 0) return (int)part;
        at += part;
    }
    return 0;
}

int content_copy(int from, int to, off_t size) {
    if (ioctl(to, FICLONE, from) == 0) return 0;
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;
        if (data < 0) return copy_extent(from, to, at, size);
        off_t hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0 || hole > size) hole = size;
        if (copy_extent(from, to, data, hole) < 0) return -1;
        at = hole;
    }
    return ftruncate(to, size);
}
