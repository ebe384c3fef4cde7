/* Starts the relay of a sandbox with egress (egress.h) and sees it end. Bytes and questions are the relay's own.
 * The relay is a copy of PID 1 that never executes, as a worker is, but as a user of its own: no command can signal, trace or read it. It is not
 * restarted when it dies: its listeners die with it, and every connection is refused.
 * Invariant: PID 1 keeps no listener; without a relay nothing answers where it stood. */
#define _GNU_SOURCE
#include "egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "caps.h"
#include "guest.h"
#include "handover.h"
#include "peer.h"
#include "raw.h"
#include "relay.h"
#include "sys.h"
#include "worker.h"

enum { BACKLOG = 128, SET_UP_FAILED = 125, GIVEN = 5, FIRST = 3, OUT_OF_THE_WAY = 32 };
enum { AT_PROXY, AT_UDP, AT_TCP, AT_DIAG, AT_DIRECTORY };

void egress_open(struct guest *guest) {
    struct egress *egress = &guest->egress;
    egress->diag = guest->facts.egress ? peer_diag_open() : -1;
    if (guest->facts.egress && egress->directory < 0) step_fail(16, EBADF, "the directory of the egress proxy's socket was not handed over");
    if (guest->facts.egress || egress->directory < 0) return;
    close(egress->directory);
    egress->directory = -1;
}

static int stub_socket(int type, uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(STUB_OWN)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && (type != SOCK_STREAM || listen(fd, BACKLOG) == 0)) return fd;
    int error = errno;
    close(fd);
    return -error;
}

/* Onto their numbers, by way of numbers that none of them has. */
static bool arrange(int from[GIVEN]) {
    for (int i = 0; i < GIVEN; i++)
        if (from[i] >= 0 && (from[i] = fcntl(from[i], F_DUPFD, OUT_OF_THE_WAY)) < 0) return false;
    for (int i = 0; i < GIVEN; i++) {
        if (from[i] >= 0 && dup2(from[i], FIRST + i) < 0) return false;
        if (from[i] < 0) close(FIRST + i);
    }
    /* SAFETY: PID 1's socket, its cgroup and the pipes of commands: whoever took the relay over would hold them. */
    return sys_close_range(FIRST + GIVEN, ~0u) == 0;
}

static bool set_caps(uint32_t keep) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}};
    return syscall(SYS_capset, &head, data) == 0;
}

/* SAFETY: a user of its own: who may signal it is asked of real and saved ids. For files it is the commands' user, which is what the kernel wants to see
 * before it tells whose a socket is. Capabilities live on over the change of ids, long enough to make it, and end here. */
static bool become_relay(const struct facts *facts) {
    const uint32_t ids = 1u << CAP_SETUID | 1u << CAP_SETGID;
    for (const int *cap = caps_of_root; facts->root_offered && *cap >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, *cap, 0, 0, 0) != 0) return false;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return false;
    if (sys_setresgid(facts->egress_gid) != 0 || sys_setresuid(facts->egress_uid) != 0 || !set_caps(ids)) return false;
    setfsgid(facts->gid);
    setfsuid(facts->uid);
    if ((uint32_t)setfsgid((gid_t)-1) != facts->gid || (uint32_t)setfsuid((uid_t)-1) != facts->uid) return false;
    return prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0 && set_caps(0);
}

static _Noreturn void enter(struct guest *guest, const int sockets[]) {
    const struct facts *facts = &guest->facts;
    int from[GIVEN] = {[AT_PROXY] = sockets[AT_PROXY], [AT_UDP] = sockets[AT_UDP], [AT_TCP] = sockets[AT_TCP], [AT_DIAG] = guest->egress.diag, [AT_DIRECTORY] = guest->egress.directory};
    worker_forget(guest);
    /* Every signal stays blocked: nothing but a kill is meant for it. */
    if (setsid() < 0 || !arrange(from) || !become_relay(facts)) _exit(SET_UP_FAILED);
    /* SAFETY: a change of ids sets it anew, to what the node's fs.suid_dumpable says. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) _exit(SET_UP_FAILED);
    /* SAFETY: by descriptor: a root of its own, in which nothing but the proxy's socket lies and `..` leads nowhere. */
    if (fchdir(FIRST + AT_DIRECTORY) != 0) _exit(SET_UP_FAILED);
    close(FIRST + AT_DIRECTORY);
    prctl(PR_SET_NAME, "egress", 0, 0, 0);
    const struct relay_given given = {.proxy = FIRST + AT_PROXY, .dns_udp = FIRST + AT_UDP, .dns_tcp = FIRST + AT_TCP,
                                      .diag = guest->egress.diag < 0 ? -1 : FIRST + AT_DIAG, .socket = facts->egress, .ports = facts->egress_ports,
                                      .port_count = facts->egress_port_count};
    _exit(relay_run(&given));
}

int egress_start(struct guest *guest) {
    if (!guest->facts.egress) return 0;
    int sockets[] = {[AT_PROXY] = stub_socket(SOCK_STREAM, RELAY_PROXY_PORT), [AT_UDP] = stub_socket(SOCK_DGRAM, RELAY_DNS_PORT), [AT_TCP] = stub_socket(SOCK_STREAM, RELAY_DNS_PORT)};
    int error = 0;
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets && !error; i++)
        if (sockets[i] < 0) error = sockets[i];
    long pid = error ? error : raw6(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
    if (pid == 0) enter(guest, sockets);
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++)
        if (sockets[i] >= 0) close(sockets[i]);
    guest->egress.relay = pid > 0 ? (pid_t)pid : 0;
    return pid > 0 ? 0 : (int)pid;
}

void egress_spare(struct guest *guest, int number) {
    if (!guest->egress.relay) return;
    if (number == SIGKILL) guest->egress.again = true;
    /* SAFETY: our own child, not reaped: the number is its own. */
    if (number == SIGSTOP) kill(guest->egress.relay, SIGCONT);
}

void egress_renew(struct guest *guest) {
    if (!guest->egress.again || guest->egress.relay) return;
    guest->egress.again = false;
    (void)egress_start(guest); /* without one everything is refused */
}

bool egress_reaped(struct guest *guest, pid_t pid) {
    if (!guest->egress.relay || pid != guest->egress.relay) return false;
    guest->egress.relay = 0;
    return true;
}
