/* Test driver: does for one `corral-guest init` what the spawner does, without views, networks and limits.
 *   launch GUEST SOCKET FACTS [--ids OUTSIDE COUNT] [--cgroup DIR] [--memory FILE] [--pids FILE] [--one-id OUTSIDE]
 * DIR is a v2 cgroup `work` with a sibling `guest`, which PID 1 is put into.
 * Prints the pid of PID 1 outside, then what comes on the fault pipe; ends, and PID 1 with it, when its stdin ends.
 * No sandbox: the child sees the node's files. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handover.h"

static _Noreturn void die(const char *what) {
    fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) die(path);
    close(fd);
}

static void move(int fd, int to) {
    if (fd < 0) return;
    if (fd == to) fcntl(fd, F_SETFD, 0);
    else if (dup2(fd, to) < 0) die("dup2");
}

struct given {
    int guest, socket, facts, barrier, cgroup, memory, pids, fault;
};

static _Noreturn void child(struct given *g, int id, int go) {
    char byte;
    if (id >= 0 && (read(go, &byte, 1) != 1 || setresgid(id, id, id) || setresuid(id, id, id))) die("ids");
    /* The exec of a non-root id takes all capabilities, so the bounding set goes before it. */
    for (int cap = 0; id > 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++) {}
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("private");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) die("proc");
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")) die("devpts");
    /* All above the numbers of the handover first, so that none is overwritten before it was moved. */
    int *all[] = {&g->guest, &g->socket, &g->facts, &g->barrier, &g->cgroup, &g->memory, &g->pids, &g->fault};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (*all[i] >= 0 && (*all[i] = fcntl(*all[i], F_DUPFD, 40 + (int)i)) < 0) die("dup");
    for (int fd = 3; fd < 40; fd++) close(fd);
    move(g->socket, HANDOVER_SOCKET), move(g->facts, HANDOVER_FACTS), move(g->barrier, HANDOVER_BARRIER);
    move(g->cgroup, HANDOVER_CGROUP), move(g->memory, HANDOVER_MEMORY_EVENTS), move(g->pids, HANDOVER_PIDS_EVENTS), move(g->fault, HANDOVER_FAULT);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0), dup2(null, 1);
    if (!getenv("LAUNCH_STDERR")) dup2(null, 2);
    close(null);
    int guest = fcntl(g->guest, F_DUPFD_CLOEXEC, 60);
    for (int fd = 10; fd < 60; fd++) close(fd);
    if (chdir("/")) die("chdir");
    char *argv[] = {"corral-guest", "init", NULL}, *envp[] = {NULL, NULL};
    if (getenv("LAUNCH_STDERR")) envp[0] = "ASAN_OPTIONS=detect_leaks=0";
    syscall(SYS_execveat, guest, "", argv, envp, 0x1000);
    die("execveat");
}

struct asked {
    const char *cgroup, *memory, *pids;
    long outside, count; /* outside -1: no user namespace */
};

static int parse(struct asked *asked, int argc, char **argv) {
    *asked = (struct asked){.outside = -1};
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "--ids")) asked->outside = atol(argv[++i]), asked->count = atol(argv[++i]);
        else if (!strcmp(argv[i], "--one-id")) asked->outside = atol(argv[++i]), asked->count = 1;
        else if (!strcmp(argv[i], "--cgroup")) asked->cgroup = argv[++i];
        else if (!strcmp(argv[i], "--memory")) asked->memory = argv[++i];
        else if (!strcmp(argv[i], "--pids")) asked->pids = argv[++i];
        else return 0;
    }
    return argc >= 4;
}

static void map_ids(long pid, const struct asked *asked, int go) {
    char path[64], map[64];
    snprintf(map, sizeof map, asked->count > 1 ? "0 %ld %ld\n" : "1000 %ld %ld\n", asked->outside, asked->count);
    snprintf(path, sizeof path, "/proc/%ld/uid_map", pid), put(path, map);
    snprintf(path, sizeof path, "/proc/%ld/gid_map", pid), put(path, map);
    if (write(go, "x", 1) != 1) die("go");
}

int main(int argc, char **argv) {
    struct asked asked;
    if (!parse(&asked, argc, argv)) return 2;
    const char *cgroup = asked.cgroup, *memory = asked.memory, *pids = asked.pids;
    long outside = asked.outside;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int barrier[2], fault[2], go[2];
    if (pipe2(barrier, O_CLOEXEC) || pipe2(fault, O_CLOEXEC) || pipe2(go, O_CLOEXEC)) die("pipe");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[2], sizeof address.sun_path - 1);
    struct given g = {
        .guest = open(argv[1], O_RDONLY | O_CLOEXEC),
        .socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
        .facts = open(argv[3], O_RDONLY | O_CLOEXEC),
        .barrier = barrier[0],
        .cgroup = cgroup ? open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1,
        .memory = memory ? open(memory, O_RDONLY | O_CLOEXEC) : -1,
        .pids = pids ? open(pids, O_RDONLY | O_CLOEXEC) : -1,
        .fault = fault[1],
    };
    if (g.guest < 0 || g.facts < 0 || bind(g.socket, (void *)&address, sizeof address) || listen(g.socket, 16)) die("socket");
    if (cgroup) {
        char path[4096];
        snprintf(path, sizeof path, "%s/../guest/cgroup.procs", cgroup);
        put(path, "0");
    }
    /* sched.h's clone flags of one old header are enough; no CLONE_INTO_CGROUP here. */
    unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD | (outside >= 0 ? CLONE_NEWUSER : 0);
    long pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid < 0) die("clone");
    if (pid == 0) {
        close(barrier[1]);
        close(go[1]);
        child(&g, outside < 0 ? -1 : asked.count > 1 ? 0 : 1000, go[0]);
    }
    close(g.socket), close(fault[1]), close(barrier[0]);
    if (outside >= 0) map_ids(pid, &asked, go[1]);
    printf("%ld\n", pid);
    fflush(stdout);
    char line[1024];
    ssize_t n;
    while ((n = read(fault[0], line, sizeof line)) > 0) fwrite(line, 1, (size_t)n, stdout);
    puts("serving");
    fflush(stdout);
    while (read(0, line, sizeof line) > 0) {}
    kill((pid_t)pid, SIGKILL);
    waitpid((pid_t)pid, NULL, 0);
    return 0;
}
