/* The forker is asked over a socket of its own, with the descriptors of the new command; the child itself answers, so the kernel tells which process
 * it is. The forker was started like any command, so its child has every wall by birth: namespaces, ids, filter, limits. Nothing is joined.
 * What a forker says is as hostile as what a command says: an answer names nobody but its sender, and that has to be our own child.
 * Invariant: a forked command takes no byte of its client before it stands in a slot of its own; a child that nobody waits for is killed. */
#define _GNU_SOURCE
#include "fork.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

enum { ABOVE_GIVEN = 6, GIVEN = 5, MAX_PENDING = 64, ANSWER_MS = 10000, ANSWERS_A_ROUND = 16 };

struct pending {
    struct exec *exec;
    struct forker *forker;
    struct ends ends;
    uint32_t token;
    struct timer late;
    struct pending *next;
};

struct forker {
    struct watch socket;
    struct guest *guest;
    int theirs; /* -1: given */
    struct pending *first;
    int count;
    uint32_t last_token;
};

static void take_out(struct pending *pending) {
    struct pending **place = &pending->forker->first;
    while (*place != pending) place = &(*place)->next;
    *place = pending->next;
    pending->forker->count--;
    loop_timer_stop(&pending->forker->guest->loop, &pending->late);
}

static void give_up(struct pending *pending, int error) {
    take_out(pending);
    exec_unmake(pending->exec, &pending->ends, error);
    free(pending);
}

static void too_late(struct timer *timer) { give_up(CONTAINER_OF(timer, struct pending, late), ETIMEDOUT); }

static bool enter_slot(const struct slot *slot, pid_t pid) {
    char text[16];
    int length = snprintf(text, sizeof text, "%d", pid);
    int fd = openat(slot->directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool done = write(fd, text, (size_t)length) == length;
    close(fd);
    return done;
}

static bool is_command(const struct guest *guest, pid_t pid) {
    const struct exec *exec = guest->by_pid[(uint32_t)pid % EXEC_BUCKETS];
    while (exec && exec->pid != pid) exec = exec->next_by_pid;
    return exec != NULL;
}

/* SAFETY: only our own child keeps its number until we reap it; any other's may be somebody else's when a signal is sent to it. And it leads a
 * group of its own, or that signal would go to the forker's. */
static bool is_ours(const struct guest *guest, pid_t pid) {
    siginfo_t info = {0};
    return pid > 1 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && getpgid(pid) == pid && !is_command(guest, pid);
}

static void begin(struct pending *pending, pid_t pid) {
    struct exec *exec = pending->exec;
    if (exec->slot && !enter_slot(exec->slot, pid)) {
        int error = errno;
        /* SAFETY: our child, not reaped, so the number is its own. */
        kill(pid, SIGKILL);
        give_up(pending, error ? error : EIO);
        return;
    }
    take_out(pending);
    exec->pid = pid;
    exec_enter(exec, 0, &pending->ends);
    free(pending);
}

static void answered(struct forker *forker, pid_t pid, uint32_t token) {
    struct pending *pending = forker->first;
    while (pending && pending->token != token) pending = pending->next;
    bool ours = is_ours(forker->guest, pid);
    if (pending && ours) begin(pending, pid);
    else if (pending) give_up(pending, ECHILD);
    else if (ours) kill(pid, SIGKILL); /* SAFETY: as above */
}

/* 1: an answer; 0: none is there; -1: the other end is closed. */
static int take_answer(int fd, pid_t *pid, uint32_t *token) {
    /* Room for the sender's ids alone: descriptors that somebody sends along are closed by the kernel. */
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    uint8_t body[4];
    struct iovec part = {.iov_base = body, .iov_len = sizeof body};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (count == 0) return -1;
    *pid = 0;
    *token = count == sizeof body ? get_u32(body) : 0;
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_CREDENTIALS && head->cmsg_len == CMSG_LEN(sizeof(struct ucred))) {
        struct ucred sender;
        memcpy(&sender, CMSG_DATA(head), sizeof sender);
        *pid = sender.pid;
    }
    return 1;
}

static void shut(struct forker *forker) {
    if (forker->socket.fd < 0) return;
    loop_unwatch(&forker->guest->loop, &forker->socket);
    close(forker->socket.fd);
    forker->socket.fd = -1;
    while (forker->first) give_up(forker->first, ESRCH);
}

static void readable(struct watch *watch, uint32_t events) {
    (void)events;
    struct forker *forker = CONTAINER_OF(watch, struct forker, socket);
    for (int round = 0; round < ANSWERS_A_ROUND; round++) {
        pid_t pid;
        uint32_t token;
        int got = take_answer(watch->fd, &pid, &token);
        if (got == 0) return;
        if (got < 0) {
            shut(forker);
            return;
        }
        answered(forker, pid, token);
    }
}

int forker_make(struct exec *exec, struct start *start) {
    int pair[2], on = 1;
    struct forker *forker = calloc(1, sizeof *forker);
    if (!forker) return ENOMEM;
    *forker = (struct forker){.socket = {.fd = -1, .ready = readable}, .guest = exec->guest, .theirs = -1};
    exec->forker = forker;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno;
    forker->socket.fd = pair[0];
    forker->theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, ABOVE_GIVEN);
    int error = forker->theirs < 0 ? errno : 0;
    close(pair[1]);
    if (error == 0 && setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) error = errno;
    if (error == 0) error = -loop_watch(&exec->guest->loop, &forker->socket, EPOLLIN);
    start->given[GIVEN] = forker->theirs;
    start->given_count = GIVEN + 1;
    return error;
}

void forker_given(struct exec *exec) {
    if (!exec->forker || exec->forker->theirs < 0) return;
    close(exec->forker->theirs);
    exec->forker->theirs = -1;
}

void forker_end(struct exec *exec) {
    if (!exec->forker) return;
    forker_given(exec);
    shut(exec->forker);
    free(exec->forker);
    exec->forker = NULL;
}

static int send_ask(int socket, uint32_t token, const struct start *start) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(GIVEN * sizeof(int))];
    } control = {0};
    uint8_t body[4];
    put_u32(body, token);
    struct iovec part = {.iov_base = body, .iov_len = sizeof body};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(GIVEN * sizeof(int));
    memcpy(CMSG_DATA(head), start->given, GIVEN * sizeof(int));
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

int fork_ask(struct exec *exec, const struct exec_request *request, const struct start *start, struct ends *ends) {
    uint32_t id = request->argc == 1 ? (uint32_t)strtoul(request->argv, NULL, 10) : 0;
    const struct exec *parent = exec_find(exec->client, id);
    struct forker *forker = parent ? parent->forker : NULL;
    if (!forker || forker->socket.fd < 0) return ESRCH;
    if (forker->count >= MAX_PENDING) return EAGAIN;
    struct pending *pending = calloc(1, sizeof *pending);
    if (!pending) return ENOMEM;
    *pending = (struct pending){.exec = exec, .forker = forker, .ends = *ends, .token = ++forker->last_token, .late = {.fire = too_late}};
    int error = send_ask(forker->socket.fd, pending->token, start);
    if (error) {
        free(pending);
        return error;
    }
    ends_given(&pending->ends);
    pending->next = forker->first;
    forker->first = pending;
    forker->count++;
    loop_timer(&exec->guest->loop, &pending->late, in_ms(ANSWER_MS));
    return 0;
}

void fork_client_gone(struct client *client) {
    for (int i = 0; i < EXEC_BUCKETS; i++)
        for (struct exec *exec = client->guest->by_id[i]; exec; exec = exec->next_by_id)
            if (exec->client == client && exec->forker)
                while (exec->forker->first) give_up(exec->forker->first, ECANCELED);
}
