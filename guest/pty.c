/* Opens terminals. The other end is taken by TIOCGPTPEER, never by name: a name inside could lie.
 * Invariant: a terminal that could not be opened whole is closed again. */
#define _GNU_SOURCE
#include "pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fsids.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

void pty_resize(int master, uint16_t rows, uint16_t cols) {
    struct winsize size = {.ws_row = rows ? rows : 24, .ws_col = cols ? cols : 80};
    ioctl(master, TIOCSWINSZ, &size);
}

static int open_master(void) {
    int flags = O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK;
    int master = open("/dev/pts/ptmx", flags);
    return master >= 0 ? master : open("/dev/ptmx", flags);
}

int pty_open(const struct facts *facts, uint32_t uid, uint32_t gid, uint16_t rows, uint16_t cols, int *master, int *terminal) {
    /* The terminal belongs to whoever opens its master. */
    struct fsids own = fsids_take(facts, uid, gid);
    *master = open_master();
    fsids_back(&own);
    if (*master < 0) return errno;
    int locked = 0;
    if (ioctl(*master, TIOCSPTLCK, &locked) == 0) {
        *terminal = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (*terminal >= 0) {
            pty_resize(*master, rows, cols);
            return 0;
        }
    }
    int error = errno;
    close(*master);
    return error;
}
