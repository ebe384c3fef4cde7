/* Sockets of listen.h. Names are the caller's: in a directory that nobody else may write.
 * Invariant: a socket that somebody listens on is never replaced. */
#define _GNU_SOURCE
#include "listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int open_at(const char *path, struct sockaddr_un *address) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
    strcpy(address->sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int local_listen(const char *path, int backlog) {
    struct sockaddr_un address;
    int fd = open_at(path, &address);
    if (fd < 0) return fd;
    /* SAFETY: 0600 before anybody can connect: on Linux the mode of the socket is that of its descriptor at bind. */
    int error = fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ? -errno : 0;
    if (!error && listen(fd, backlog) != 0) {
        error = -errno;
        unlink(path);
    }
    if (!error) return fd;
    close(fd);
    return error;
}

int local_clear(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0) return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(info.st_mode)) return -EEXIST;
    struct sockaddr_un address;
    int fd = open_at(path, &address);
    if (fd < 0) return fd;
    /* SAFETY: refused is the kernel's word for a socket that no process listens on. Anything else, a full backlog too, may be a living
     * spawner, which would hold sandboxes that nobody could reach any more. */
    int error = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? EADDRINUSE : errno;
    close(fd);
    if (error == ENOENT) return 0;
    if (error != ECONNREFUSED) return error == EAGAIN ? -EADDRINUSE : -error;
    return unlink(path) != 0 && errno != ENOENT ? -errno : 0;
}

int local_is_own_user(int fd) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    /* SAFETY: ids as our user namespace sees them. Without root the caller is 0 inside, as we are; ids of sandboxes are others, and
     * those that are not mapped are 65534. */
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == geteuid();
}
