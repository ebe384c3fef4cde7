/* Step 6: a network namespace per sandbox, with `lo` up and nothing else.
 * The spawner enters a fresh one and clones out of it, so it belongs to the spawner's user namespace: uid 0 inside cannot configure
 * it. It has no name anywhere and vanishes with its last process. Making one costs most of what namespaces cost, so the next is
 * made after an answer was sent, not before the next is asked for. */
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "contain.h"
#include "sys.h"

static int loopback_up(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strcpy(request.ifr_name, "lo");
    int error = ioctl(fd, SIOCSIFFLAGS, &request) != 0 ? -errno : 0;
    close(fd);
    return error;
}

int net_prepare(struct spawner *spawner) {
    if (spawner->netns_ready) return 0;
    /* SAFETY: without a new one two sandboxes share abstract sockets and 127.0.0.1. */
    if (unshare(NEW_NET) != 0) return -errno;
    int error = loopback_up();
    spawner->netns_ready = error == 0;
    return error;
}

/* SAFETY: negative controls alone (`weaken 6`): the network the spawner was started in. */
int net_home(struct spawner *spawner) {
    spawner->netns_ready = false;
    return setns(spawner->home_netns, NEW_NET) != 0 ? -errno : 0;
}

/* After the answer, while the child goes on by itself: this process has nothing else to do then, and the first command has the
 * processors later. A failure shows at the next CREATE, as that one's step 6. */
void net_later(struct later *later) { net_prepare(CONTAINER_OF(later, struct spawner, next_network)); }
