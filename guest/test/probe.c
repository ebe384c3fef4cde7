/* What tests run inside: one attempt per first argument; prints what the kernel answered. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* clone3 as a command may try it: plain, and with the placeholders that stand in the published filter. */
static int try_clone3(int published) {
    struct clone3_args args = {.exit_signal = SIGCHLD};
    uint64_t a = 0, b = 0, c = 0, d = 0;
    if (published) {
        a = 0x5ec0de025ec0de01u, b = 0x5ec0de045ec0de03u, c = 0x5ec0de065ec0de05u, d = 0x5ec0de085ec0de07u;
    }
    long pid = syscall(SYS_clone3, &args, sizeof args, a, b, c, d);
    if (pid == 0) _exit(0);
    printf("%d\n", pid < 0 ? errno : 0);
    return 0;
}

/* N children that end while nobody waits, then N grandchildren whose parents have gone. */
static int zombies(int count) {
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (i % 2 && fork() > 0) _exit(0);
            _exit(0);
        }
        if (pid < 0) {
            i--;
            usleep(1000);
        }
    }
    return 0;
}

/* Double fork, new session, ignores what is polite; writes its pid to the file, then lives. */
static int daemonize(const char *file) {
    if (fork() > 0) return 0;
    setsid();
    if (fork() > 0) _exit(0);
    signal(SIGINT, SIG_IGN), signal(SIGTERM, SIG_IGN), signal(SIGHUP, SIG_IGN);
    for (int fd = 0; fd < 3; fd++) close(fd);
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dprintf(fd, "%d\n", getpid());
    for (;;) pause();
}

/* Stops everything it may, again and again: also the next command, between its change of uid and its exec. */
static _Noreturn void become_stopper(void) {
    if (fork() > 0) _exit(0);
    setsid();
    for (;;) {
        int self = getpid();
        for (int pid = 2; pid < 400; pid++)
            if (pid != self) kill(pid, SIGSTOP);
    }
}

static _Noreturn void ignore_and_wait(void) {
    signal(SIGINT, SIG_IGN), signal(SIGTERM, SIG_IGN);
    puts("deaf");
    fflush(stdout);
    kill(getpid(), SIGSTOP);
    for (;;) pause();
}

/* Writes N bytes as fast as it may, then says on stderr that it got through. */
static int flood(long long count) {
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (count > 0) {
        size_t part = count < (long long)sizeof block ? (size_t)count : sizeof block;
        ssize_t done = write(1, block, part);
        if (done < 0) return 1;
        count -= done;
    }
    dprintf(2, "through\n");
    return 0;
}

static int raise_limits(void) {
    const int which[] = {RLIMIT_NOFILE, RLIMIT_CORE, RLIMIT_RTPRIO, RLIMIT_NICE, RLIMIT_MEMLOCK};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
        struct rlimit limit;
        getrlimit(which[i], &limit);
        limit.rlim_cur = limit.rlim_max = limit.rlim_max + 1;
        printf("%d ", setrlimit(which[i], &limit) ? errno : 0);
    }
    puts("");
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "clone3")) return try_clone3(0);
    if (!strcmp(what, "clone3-published")) return try_clone3(1);
    if (!strcmp(what, "zombies")) return zombies(atoi(argv[2]));
    if (!strcmp(what, "daemon")) return daemonize(argv[2]);
    if (!strcmp(what, "stopper")) become_stopper();
    if (!strcmp(what, "deaf")) ignore_and_wait();
    if (!strcmp(what, "flood")) return flood(atoll(argv[2]));
    if (!strcmp(what, "raise-limits")) return raise_limits();
    if (!strcmp(what, "descriptors")) {
        for (int fd = 0; fd < 1024; fd++)
            if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
        puts("");
        return 0;
    }
    return 2;
}
