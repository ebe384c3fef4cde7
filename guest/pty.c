/* Opens terminals. The other end is taken by TIOCGPTPEER, never by name: a name inside could lie.
 * Invariant: on return PID 1's filesystem ids and death signal are what they were. */
#define _GNU_SOURCE
#include "pty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

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

/* The terminal belongs to whoever opens its master. PID 1 cannot chown, but it can open with the command's filesystem ids,
 * so that programs may open their terminal again by name. */
static int open_master_as(uint32_t uid, uint32_t gid) {
    uid_t own_uid = (uid_t)setfsuid(uid);
    gid_t own_gid = (gid_t)setfsgid(gid);
    int master = open_master();
    int error = errno;
    setfsgid(own_gid);
    setfsuid(own_uid);
    /* SAFETY: the change cleared it. A spawner that died meanwhile shows at the barrier, which the loop watches. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    errno = error;
    return master;
}

int pty_open(const struct facts *facts, uint32_t uid, uint32_t gid, uint16_t rows, uint16_t cols, int *master, int *terminal) {
    *master = facts->several_ids && !left_out(facts, 18) ? open_master_as(uid, gid) : open_master();
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
