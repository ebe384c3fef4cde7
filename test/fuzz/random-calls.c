// Random programs of system calls: each is a process that makes CALLS calls with arguments that are half right. Used inside sandboxes, where the
// wall is what is tried; never run it outside. It knows nothing of what must hold: whoever started it looks at what lies outside.
// usage: random-calls SEED PROGRAMS CALLS NUMBER…        prints so far, after each: PROGRAMS CALLS SUCCEEDED

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Calls that only one architecture has. */
#ifndef SYS_fork
#define SYS_fork (-2)
#define SYS_vfork (-3)
#define SYS_pause (-4)
#endif

enum { ARENA = 1 << 16, MAX_NUMBERS = 600, PROGRAM_MS = 400, BLOCKED_MS = 5, STEP_MS = 2 };

struct counts {
    volatile long programs, calls, succeeded;
};

static uint64_t state;
static char *arena;
static struct counts *counts;

static uint64_t draw(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(uint64_t limit) { return (draw() >> 11) % limit; }

static const char *const PATHS[] = {
    "/", ".", "..", "../../../..", "/proc/1/root", "/proc/1/mem", "/proc/self/mem", "/proc/self/exe", "/proc/self/ns/mnt", "/proc/self/fd/3",
    "/proc/self/root/..", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/uid_map", "/dev/null", "/dev/ptmx", "/dev/shm/x",
    "/tmp/x", "/tmp/y", "/tmp/d", "/run/x", "/workspace", "/workspace/plain.txt", "/workspace/output/x", "/workspace/output/y",
    "/workspace/output/d", "/workspace/output/d/z", "/workspace/.attempts", "/etc/passwd", "/usr/bin/env", "/home/user", "x", "y", "",
};

/* What an argument of a call is: f descriptor, p path, b buffer, n length, o flags, s structure, v vector, a anything. */
static const struct {
    int number;
    const char *kinds;
} SHAPES[] = {
    {SYS_openat, "fpoo"}, {SYS_read, "fbn"}, {SYS_write, "fbn"}, {SYS_mmap, "anoofn"}, {SYS_mprotect, "bno"}, {SYS_mremap, "bnnob"},
    {SYS_ioctl, "fos"}, {SYS_readv, "fvn"}, {SYS_writev, "fvn"}, {SYS_sendto, "fbnosn"}, {SYS_recvfrom, "fbnoss"}, {SYS_sendmsg, "fso"},
    {SYS_connect, "fsn"}, {SYS_bind, "fsn"}, {SYS_listen, "fn"}, {SYS_accept4, "fsso"}, {SYS_socket, "ooo"}, {SYS_socketpair, "ooos"},
    {SYS_setsockopt, "foosn"}, {SYS_renameat2, "fpfpo"}, {SYS_linkat, "fpfpo"}, {SYS_symlinkat, "pfp"}, {SYS_unlinkat, "fpo"},
    {SYS_mkdirat, "fpo"}, {SYS_mknodat, "fpoo"}, {SYS_fchmodat, "fpo"}, {SYS_fchownat, "fpnno"}, {SYS_setxattr, "ppbno"}, {SYS_fcntl, "foa"},
    {SYS_fallocate, "foonn"}, {SYS_copy_file_range, "fsfsno"}, {SYS_splice, "fsfsno"}, {SYS_sendfile, "ffsn"}, {SYS_vmsplice, "fvno"},
    {SYS_memfd_create, "po"}, {SYS_execve, "pss"}, {SYS_execveat, "fpsso"}, {SYS_prctl, "oaaaa"}, {SYS_seccomp, "oos"}, {SYS_chdir, "p"},
    {SYS_statx, "fpoos"}, {SYS_inotify_add_watch, "fpo"}, {SYS_epoll_ctl, "fofs"}, {SYS_openat2, "fpsn"}, {SYS_getdents64, "fbn"},
    {SYS_utimensat, "fpso"}, {SYS_pwritev2, "fvnnno"}, {SYS_process_vm_readv, "nvnvno"}, {SYS_dup3, "ffo"}, {SYS_pidfd_open, "no"},
    {SYS_clone, "osssa"}, {SYS_setresuid, "nnn"}, {SYS_setpriority, "onn"}, {SYS_prlimit64, "noss"}, {SYS_shmget, "nno"}, {SYS_shmat, "nbo"},
    {SYS_semop, "nsn"}, {SYS_msgsnd, "nsno"}, {SYS_timer_create, "oss"}, {SYS_futex, "bonsbn"}, {SYS_sched_setaffinity, "nns"},
    {SYS_landlock_create_ruleset, "sno"}, {SYS_truncate, "pn"}, {SYS_mount, "pppos"}, {SYS_unshare, "o"}, {SYS_ptrace, "onss"},
};

static uint64_t any(void) {
    switch (below(8)) {
    case 0: return 0;
    case 1: return ~0ULL;
    case 2: return 1ULL << below(64);
    case 3: return draw();
    case 4: return (uint32_t)draw();
    default: return below(64);
    }
}

/* A structure is random words, some of which point to where something is. */
static void fill(uint64_t *words, int count) {
    for (int i = 0; i < count; i++) words[i] = below(3) ? any() : (uint64_t)(uintptr_t)(arena + below(ARENA / 2));
}

static uint64_t structure(void) {
    char *at = arena + below(ARENA / 2) / 8 * 8;
    if (below(4) == 0) {
        struct sockaddr_un *name = (struct sockaddr_un *)at;
        memset(name, 0, sizeof *name);
        name->sun_family = below(2) ? AF_UNIX : (sa_family_t)(below(20));
        snprintf(name->sun_path + below(2), sizeof name->sun_path - 1, "/tmp/s%u", (unsigned)below(4));
    } else fill((uint64_t *)at, 12);
    return (uint64_t)(uintptr_t)at;
}

static uint64_t vector(void) {
    struct iovec *at = (struct iovec *)(arena + ARENA / 2 + below(ARENA / 4) / 16 * 16);
    for (int i = 0; i < 4; i++) at[i] = (struct iovec){arena + below(ARENA), below(4096)};
    return (uint64_t)(uintptr_t)at;
}

static uint64_t argument(char kind) {
    if (below(12) == 0) return any();
    switch (kind) {
    case 'f': return below(8) ? below(24) : (uint64_t)AT_FDCWD;
    case 'p': return (uint64_t)(uintptr_t)PATHS[below(sizeof PATHS / sizeof *PATHS)];
    case 'b': return (uint64_t)(uintptr_t)(arena + below(ARENA));
    case 'n': return below(4) ? below(4096) : any();
    case 'o': return below(3) ? below(32) : (1ULL << below(32)) | (below(2) ? 1ULL << below(32) : 0);
    case 's': return structure();
    case 'v': return vector();
    default: return any();
    }
}

static const char *shape_of(long number) {
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (SHAPES[i].number == number) return SHAPES[i].kinds;
    static const char *const GUESSES[] = {"fbnoss", "pposss", "ffonnn", "sonsnn", "aaaaaa", "nnnnnn"};
    return GUESSES[below(sizeof GUESSES / sizeof *GUESSES)];
}

/* Those that would only end the program, or those beside it, are made seldom. */
static int is_seldom(long number) {
    switch (number) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_vfork: return 1000;
    case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_pidfd_send_signal: return 1000;
    case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigtimedwait: case SYS_close_range: case SYS_munmap: return 20;
    default: return 1;
    }
}

static void on_alarm(int signal) { (void)signal; }

/* A call that waits is interrupted, and the program goes on. */
static void wake(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, BLOCKED_MS * 1000}, {0, BLOCKED_MS * 1000}};
    setitimer(ITIMER_REAL, &every, NULL);
}

static void call(long number) {
    uint64_t arguments[6] = {0};
    const char *kinds = shape_of(number);
    for (int i = 0; i < 6 && kinds[i]; i++) arguments[i] = argument(kinds[i]);
    long result = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    counts->calls++;
    if (result >= 0) counts->succeeded++;
    /* A child of a call goes on for a while, like its parent. */
    if (result == 0 && (number == SYS_clone || number == SYS_fork)) wake();
}

static void program(const long *numbers, int count, long calls) {
    int pair[2];
    setpgid(0, 0);
    wake();
    int made[] = {open("/workspace/output", O_RDONLY), open("/tmp/x", O_RDWR | O_CREAT, 0666), open("/", O_PATH), eventfd(0, EFD_NONBLOCK),
                  open("/proc/self", O_RDONLY), pipe2(pair, O_NONBLOCK), socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)};
    (void)made;
    for (int i = 0; i < ARENA / 8; i++) ((uint64_t *)arena)[i] = any();
    for (long i = 0; i < calls; i++) {
        long number = numbers[below((uint64_t)count)];
        int seldom = is_seldom(number);
        if (seldom > 1 && below((uint64_t)seldom)) continue;
        call(number);
    }
    _exit(0);
}

static void wait_for(pid_t child) {
    const struct timespec step = {0, STEP_MS * 1000000L};
    for (int waited = 0; waited < PROGRAM_MS; waited += STEP_MS) {
        if (waitpid(child, NULL, WNOHANG) != 0) break;
        nanosleep(&step, NULL);
    }
    /* All that this user has but this process itself. */
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    uint64_t seed = strtoull(argv[1], NULL, 10);
    long programs = atol(argv[2]), calls = atol(argv[3]), numbers[MAX_NUMBERS];
    int count = 0;
    for (int i = 4; i < argc && count < MAX_NUMBERS; i++) numbers[count++] = atol(argv[i]);
    arena = mmap(NULL, ARENA * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED || counts == MAP_FAILED) return 3;
    for (long i = 0; i < programs; i++) {
        pid_t child = fork();
        state = (seed * 1000003 + (uint64_t)i + 1) * 0x9e3779b97f4a7c15ULL | 1;
        if (child == 0) program(numbers, count, calls);
        if (child > 0) wait_for(child);
        counts->programs++;
        /* One of them may have ended this one by now, next time. */
        printf("%ld %ld %ld\n", counts->programs, counts->calls, counts->succeeded);
        fflush(stdout);
    }
    return 0;
}
