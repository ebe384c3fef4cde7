/* Step 6: a network namespace per sandbox, with `lo` up and nothing else; of one with egress an address beside it, and a local route.
 * The spawner enters a fresh one and clones out of it, so it belongs to the spawner's user namespace: uid 0 inside cannot configure
 * it. It has no name anywhere and vanishes with its last process. Making one costs most of what namespaces cost, so the next is
 * made after an answer was sent, not before the next is asked for. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/rtnetlink.h>
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

enum { STUB_BITS = 15, STUB_OWN = 0x010012c6 /* 198.18.0.1, as it lies in memory */ };

/* The address, and with it the route: the whole of an address's network is local on `lo`, as 127.0.0.0/8 is. What is sent to 198.18.0.0/15 stays
 * inside, where the relay listens; it leads nowhere else. A route alone would do for the kernel, but resolvers that ask whether there is any
 * IPv4 but 127.0.0.1 (AI_ADDRCONFIG) would look up nothing. */
static int add_address(void) {
    struct {
        struct nlmsghdr head;
        struct ifaddrmsg address;
        struct rtattr local_head;
        uint32_t local;
    } ask = {
        .head = {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK},
        .address = {.ifa_family = AF_INET, .ifa_prefixlen = STUB_BITS, .ifa_index = if_nametoindex("lo")},
        .local_head = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFA_LOCAL},
        .local = STUB_OWN,
    };
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        uint8_t rest[256];
    } told;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -errno;
    ssize_t count = send(fd, &ask, sizeof ask, 0) < 0 ? -1 : recv(fd, &told, sizeof told, 0);
    int error = count < 0 ? -errno : count < (ssize_t)(sizeof told.head + sizeof told.error) || told.head.nlmsg_type != NLMSG_ERROR ? -EPROTO : told.error.error;
    close(fd);
    return error;
}

/* The relay has no right over this network, and names may stand for any port. It is the sandbox's own: nobody else's port is taken. */
static int open_low_ports(const struct spawner *spawner) {
    int fd = openat(spawner->proc, "sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int error = write(fd, "0", 1) == 1 ? 0 : -errno;
    close(fd);
    return error;
}

int net_stub(struct making *making) {
    if (!making->create->egress_dir) return 0;
    /* SAFETY: first: whatever fails below, no other sandbox gets a network with a stub's address in it. */
    making->spawner->netns_ready = false;
    making->message = "the address of the egress stub could not be set";
    int error = add_address();
    if (error) return error;
    making->message = "ports below 1024 could not be opened to the egress stub (is /proc/sys read-only here?)";
    return open_low_ports(making->spawner);
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
