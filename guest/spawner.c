/* The spawner: a daemon on the host side that makes, watches and ends sandboxes for one server. Single thread, one loop, one
 * client (clients.c). It holds no policy and believes its client; what it reads from sandboxes is nothing.
 * Invariant: when the client is gone for good, every sandbox is ended and cleaned before this process is. */
#define _GNU_SOURCE
#include "spawner.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "contain.h"
#include "parse-words.h"
#include "roles.h"
#include "sys.h"

enum { CONTROL_FD = 3, EXIT_DEADLINE_MS = 10000, MESSAGE_MAX = 512, WAIT_MS_MAX = 3600000 };

void answer_error(struct spawner *spawner, uint32_t request, int error, uint32_t step, const char *message) {
    uint8_t body[8 + MESSAGE_MAX];
    size_t length = strnlen(message, MESSAGE_MAX - 1);
    put_u32(body, (uint32_t)error);
    put_u32(body + 4, step);
    memcpy(body + 8, message, length);
    body[8 + length] = 0;
    answer(spawner, ANSWER_ERROR, request, body, 8 + length + 1);
}

void spawner_maybe_exit(struct spawner *spawner) {
    if (spawner->closing && !spawner->sandboxes && !spawner->tools) spawner->loop.stopped = true;
}

static void deadline_passed(struct timer *timer) {
    struct spawner *spawner = CONTAINER_OF(timer, struct spawner, deadline);
    fprintf(stderr, "corral-guest spawner: %u sandboxes were still ending after %d s; leaving, the next start reaps what is left\n",
            spawner->sandbox_count, EXIT_DEADLINE_MS / 1000);
    spawner->loop.stopped = true;
}

/* The client closed and no successor came, it said END, or a signal asked. */
void close_down(struct spawner *spawner) {
    if (spawner->closing) return;
    spawner->closing = true;
    successors_refuse(spawner);
    for (struct sandbox *sandbox = spawner->sandboxes; sandbox; sandbox = sandbox->next) sandbox_kill(sandbox);
    tools_kill(spawner);
    spawner->deadline.fire = deadline_passed;
    loop_timer(&spawner->loop, &spawner->deadline, in_ms(EXIT_DEADLINE_MS));
    spawner_maybe_exit(spawner);
}

static void children_ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct spawner *spawner = CONTAINER_OF(watch, struct spawner, children);
    struct signalfd_siginfo info;
    while (read(watch->fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGTERM) close_down(spawner);
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (!tool_reaped(spawner, pid, status)) sandbox_reaped(spawner, pid, status);
}

struct arguments {
    bool rootless, inside, allow_weaken;
    struct rootless_maps maps;
    uint64_t fd, fail_step, fail_errno, wait_ms;
    const char *listen;
};

static bool take_map(struct idrange *ranges, uint32_t *count, char **text) {
    uint64_t number[3];
    for (int i = 0; i < 3; i++)
        if (!record_number(text[i], UINT32_MAX - 1, &number[i])) return false;
    if (*count == IDMAPS_MAX) return false;
    ranges[(*count)++] = (struct idrange){(uint32_t)number[0], (uint32_t)number[1], (uint32_t)number[2]};
    return true;
}

static bool take_arguments(struct arguments *arguments, int argc, char **argv) {
    struct rootless_maps *maps = &arguments->maps;
    arguments->fd = UINT64_MAX;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--rootless")) arguments->rootless = true;
        else if (!strcmp(argv[i], "--inside")) arguments->inside = true; /* second start, inside its user namespace */
        else if (!strcmp(argv[i], "--allow-weaken")) arguments->allow_weaken = true;
        else if (!strcmp(argv[i], "--fd") && record_number(value, CONTROL_FD, &arguments->fd)) i++;
        else if (!strcmp(argv[i], "--fail-step") && record_number(value, STEP_MAX, &arguments->fail_step)) i++;
        else if (!strcmp(argv[i], "--fail-errno") && record_number(value, 4095, &arguments->fail_errno)) i++;
        else if (!strcmp(argv[i], "--wait-ms") && record_number(value, WAIT_MS_MAX, &arguments->wait_ms)) i++;
        else if (!strcmp(argv[i], "--listen") && path_ok(value) && strlen(value) < SOCKET_MAX) arguments->listen = argv[++i];
        else if (!strcmp(argv[i], "--map") && i + 3 < argc && take_map(maps->uid, &maps->uids, argv + i + 1)) i += 3;
        else if (!strcmp(argv[i], "--gid-map") && i + 3 < argc && take_map(maps->gid, &maps->gids, argv + i + 1)) i += 3;
        else return false;
    }
    /* Fault injection is for tests: it comes with the switch that says so. */
    return arguments->fd == CONTROL_FD && (arguments->allow_weaken || !arguments->fail_step);
}

/* Descriptors the spawner keeps for good. */
static int open_fixed(struct spawner *spawner) {
    spawner->guest = -1;
    spawner->cgroups.v2 = -1;
    spawner->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    spawner->proc_fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    spawner->home_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (spawner->proc < 0 || spawner->proc_fds < 0 || spawner->home_netns < 0) return -errno;
    for (int fd = LAYER_FIRST; fd < LAYER_FIRST + LAYER_FDS; fd++)
        if (dup3(spawner->proc, fd, O_CLOEXEC) < 0) return -errno;
    /* Overlay layers are spelled as numbers relative to this directory, so that mountinfo inside tells no path of the host. */
    return fchdir(spawner->proc_fds) != 0 ? -errno : 0;
}

static int watch_children(struct spawner *spawner) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT); /* blocked and never read: Ctrl-C is the server's to judge */
    sigaddset(&wanted, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &wanted, NULL) != 0) return -errno;
    sigdelset(&wanted, SIGINT);
    sigdelset(&wanted, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    /* PID 1 of a foreign runtime outlives the process that we are told of by a moment: it is ours to reap, not the node's init's. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return -errno;
    spawner->children = (struct watch){.fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK), .ready = children_ready};
    return spawner->children.fd < 0 ? -errno : loop_watch(&spawner->loop, &spawner->children, EPOLLIN);
}

/* SAFETY: a mount namespace of its own, receiving but never sending: what is mounted here by mistake, or has to be attached for a
 * moment on older kernels, does not reach the node, while disks that the node mounts later are still seen. */
static int own_mounts(void) {
    if (unshare(NEW_NS) != 0 || sys_mount(NULL, "/", NULL, RECURSIVE | SLAVE, NULL) != 0) return -errno;
    return 0;
}

static int fail(const char *what, int error) {
    fprintf(stderr, "corral-guest spawner: %s: %s\n", what, strerror(-error));
    return 1;
}

/* 0 to 2 must be open, or a pipe of a sandbox could get one of these numbers; what the server may have leaked is closed. */
static int clean_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return -EBADF;
    return sys_close_range(CONTROL_FD + 1, ~0u) != 0 ? -errno : 0;
}

int spawner_main(int argc, char **argv) {
    struct arguments arguments = {0};
    if (!take_arguments(&arguments, argc, argv)) {
        fputs("corral-guest spawner: wants --fd 3; started by Corral, of no use by hand\n", stderr);
        return 2;
    }
    int error = clean_descriptors();
    if (error) return fail("descriptors", error);
    setsid(); /* a Ctrl-C at the terminal goes to the server, which then ends sandboxes in order */
    umask(0); /* every mode below is meant as written */
    /* SAFETY: a real-time class that the server was given would be the sandboxes' too, beside which the node gets no turn. */
    const struct sched_param ordinary = {.sched_priority = 0};
    sched_setscheduler(0, SCHED_OTHER, &ordinary);
    const char *message = "";
    if (arguments.rootless && !arguments.inside) {
        error = rootless_enter(argc, argv, &arguments.maps, &message);
        return fail(message, error);
    }
    struct spawner *spawner = calloc(1, sizeof *spawner);
    if (!spawner) return fail("memory", -ENOMEM);
    spawner->rootless = arguments.rootless;
    spawner->allow_weaken = arguments.allow_weaken;
    spawner->fail_step = (uint32_t)arguments.fail_step;
    spawner->fail_errno = arguments.fail_errno ? (uint32_t)arguments.fail_errno : EIO;
    if (!arguments.inside && (error = own_mounts())) return fail("own mount namespace (not root?)", error);
    if ((error = open_fixed(spawner))) return fail("/proc", error);
    if ((error = loop_open(&spawner->loop)) || (error = watch_children(spawner))) return fail("event loop", error);
    spawner->next_network.run = net_later;
    spawner->listener.fd = -1;
    spawner->wait_ms = arguments.wait_ms;
    fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
    if (arguments.listen && (error = successors_listen(spawner, arguments.listen))) return fail(arguments.listen, error);
    if ((error = client_open(spawner, CONTROL_FD, CLIENT_SERVED))) return fail("control socket", error);
    error = loop_run(&spawner->loop);
    free(spawner);
    return error ? fail("event loop", error) : 0;
}
