/* Tool `locked PATH...` (PROTOCOL.md, "Tools"): says of each file whether a living process holds `flock` on it.
 * Not a lock: what it takes to ask, it gives back at once. Invariant: it is asked only about journals whose maker is gone, since for a
 * moment its own shared lock would refuse a spawner that is about to take the file. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "tools.h"

static const char *state_of(const char *path) {
    /* NOFOLLOW: a link in place of a journal is nobody's lock. */
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? "gone" : NULL;
    int error = flock(fd, LOCK_SH | LOCK_NB) == 0 ? 0 : errno;
    close(fd);
    if (error == 0) return "free";
    return error == EWOULDBLOCK ? "locked" : NULL;
}

int tool_locked(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *state = state_of(argv[i]);
        if (!state) {
            fprintf(stderr, "locked: %s\n", strerror(errno));
            return 1;
        }
        puts(state);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
