/* What PID 1 does after its walls stand: accepts connections, hands requests to exec.c, reaps.
 * Invariant: at most MAX_CLIENTS connections, each begins with READY; a peer inside the sandbox is refused although it cannot reach the socket;
 * every zombie is reaped, whoever's child it was. */
#define _GNU_SOURCE
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "handover.h"

enum { KILL_AGAIN_MS = 5, ACCEPT_AGAIN_MS = 100 };

static struct client *client_of(struct conn *conn) { return CONTAINER_OF(conn, struct client, conn); }

static void on_close(struct conn *conn) {
    struct client *client = client_of(conn);
    struct guest *guest = client->guest;
    exec_client_gone(client);
    struct client **place = &guest->clients;
    while (*place && *place != client) place = &(*place)->next;
    if (*place) *place = client->next;
    guest->client_count--;
    free(client);
}

static void on_room(struct conn *conn) {
    struct client *client = client_of(conn);
    kept_client_room(client); /* first: an exec goes on as soon as its ring has room */
    for (int i = 0; i < EXEC_BUCKETS; i++) {
        struct exec *next;
        for (struct exec *exec = client->guest->by_id[i]; exec; exec = next) {
            next = exec->next_by_id;
            if (exec->client == client) exec_resume(exec);
        }
    }
}

static void kill_all(struct guest *guest) {
    /* SAFETY: reaches everything in our namespace and nothing outside, because we are its PID 1. */
    if (getpid() == 1) kill(-1, SIGKILL);
    egress_spare(guest, SIGKILL);
    loop_timer(&guest->loop, &guest->kill_again, in_ms(KILL_AGAIN_MS));
}

static void kill_again(struct timer *timer) { kill_all(CONTAINER_OF(timer, struct guest, kill_again)); }

static void none_left(struct guest *guest) {
    if (!guest->kill_again.armed) return;
    loop_timer_stop(&guest->loop, &guest->kill_again);
    for (struct client *client = guest->clients; client; client = client->next) {
        if (!client->kill_all) continue;
        client->kill_all = false;
        conn_send(&client->conn, ANSWER_OK, client->kill_all_id, NULL, 0);
    }
    egress_renew(guest);
}

static void reaped(struct guest *guest, pid_t pid, int status, const struct rusage *usage) {
    if (!egress_reaped(guest, pid)) exec_reaped(guest, pid, status, usage);
    else if (!guest->kill_again.armed) egress_renew(guest);
}

static void reap(struct guest *guest) {
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG | __WALL, &usage)) > 0) reaped(guest, pid, status, &usage);
    /* Orphans become our children, so no child means no process. */
    if (pid < 0 && errno == ECHILD) none_left(guest);
}

static bool begin_kill_all(struct client *client, uint32_t id) {
    if (client->kill_all) return false; /* one at a time on a connection */
    client->kill_all = true;
    client->kill_all_id = id;
    kill_all(client->guest);
    reap(client->guest);
    return true;
}

static bool to_exec(struct client *client, const struct request *request) {
    struct kept *kept = request->type == REQUEST_CREDIT ? kept_heard(client, request->id) : NULL;
    if (kept) return kept_credit(kept, request->credit);
    struct exec *exec = exec_find(client, request->id);
    if (!exec) return true; /* its EXIT is on the way: nothing is wrong with that */
    switch (request->type) {
        case REQUEST_STDIN: return input_write(&exec->in, request->data.bytes, request->data.length);
        case REQUEST_CONTROL_IN: return input_write(&exec->control_in, request->data.bytes, request->data.length);
        case REQUEST_STDIN_AGAIN: exec_stdin_again(exec); return true;
        case REQUEST_STDIN_EOF: input_end(&exec->in); return true;
        case REQUEST_SIGNAL: exec_signal(exec, request->signal.number, (enum signal_scope)request->signal.scope); return true;
        case REQUEST_STOP: exec_stop(exec, 0); return true;
        case REQUEST_RESIZE: exec_resize(exec, request->size.rows, request->size.cols); return true;
        default: return exec_credit(exec, request->credit);
    }
}

static bool on_frame(struct conn *conn, const struct frame *frame) {
    struct client *client = client_of(conn);
    struct request request;
    if (!request_parse(frame, &request)) return false;
    switch (request.type) {
        case REQUEST_EXEC: return exec_begin(client, request.id, &request.exec);
        case REQUEST_PING: conn_send(conn, ANSWER_PONG, request.id, request.data.bytes, request.data.length); return true;
        case REQUEST_KILL_ALL: return begin_kill_all(client, request.id);
        case REQUEST_HOLD: loop_hold(&client->guest->loop); conn_send(conn, ANSWER_PONG, request.id, NULL, 0); return true;
        case REQUEST_RELEASE: exec_release(client->guest); conn_send(conn, ANSWER_PONG, request.id, NULL, 0); return true;
        case REQUEST_LIST: kept_list(client, request.id); return true;
        case REQUEST_ATTACH: return kept_attach(client, request.id, request.kept.key, request.kept.offset);
        case REQUEST_FORGET: kept_forget(client->guest, request.kept.key); return true;
        default: return to_exec(client, &request);
    }
}

/* SAFETY: a peer with a pid in our namespace is hostile code that found the socket; peers outside have none here. */
static bool is_outside(int fd) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == 0;
}

static void on_connection(struct watch *watch, uint32_t events) {
    (void)events;
    struct guest *guest = CONTAINER_OF(watch, struct guest, listener);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        /* Out of descriptors or memory: asking again at once would only spin. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            loop_unwatch(&guest->loop, watch);
            loop_timer(&guest->loop, &guest->accept_again, in_ms(ACCEPT_AGAIN_MS));
        }
        return;
    }
    struct client *client = NULL;
    if (guest->client_count >= MAX_CLIENTS || !is_outside(fd) || !(client = calloc(1, sizeof *client))) {
        close(fd);
        return;
    }
    *client = (struct client){.guest = guest, .conn = {.on_frame = on_frame, .on_close = on_close, .on_room = on_room}};
    if (conn_open(&client->conn, &guest->loop, fd) != 0) {
        free(client);
        return;
    }
    client->next = guest->clients;
    guest->clients = client;
    guest->client_count++;
    conn_send(&client->conn, ANSWER_READY, 0, buffer_bytes(&guest->ready), buffer_length(&guest->ready));
}

static void accept_again(struct timer *timer) {
    struct guest *guest = CONTAINER_OF(timer, struct guest, accept_again);
    if (loop_watch(&guest->loop, &guest->listener, EPOLLIN) != 0) loop_timer(&guest->loop, timer, in_ms(ACCEPT_AGAIN_MS));
}

static void on_children(struct watch *watch, uint32_t events) {
    (void)events;
    struct signalfd_siginfo signal;
    ssize_t ignored = read(watch->fd, &signal, sizeof signal); /* clears the one that is pending; wait4 tells the rest */
    (void)ignored;
    reap(CONTAINER_OF(watch, struct guest, children));
}

static void on_barrier(struct watch *watch, uint32_t events) {
    (void)watch;
    (void)events;
    /* SAFETY: the spawner died. The death signal says the same; this holds where a change of ids has just cleared it. */
    _exit(1);
}

void serve_prepare(struct guest *guest) {
    sigset_t all;
    sigfillset(&all);
    /* Dispositions survive an exec when they say "ignore"; commands must begin with none. */
    for (int number = 1; number <= MAX_SIGNAL; number++)
        if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
    /* Told of ends alone: a child that stops and continues itself without end would keep us busy. */
    struct sigaction ends = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    if (sigaction(SIGCHLD, &ends, NULL) != 0) step_fail(23, errno, "SIGCHLD cannot be set");
    if (sigprocmask(SIG_SETMASK, &all, NULL) != 0) step_fail(23, errno, "signals cannot be blocked");
    int error = loop_open(&guest->loop);
    if (error != 0) step_fail(23, -error, "no epoll");
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    guest->kill_again = (struct timer){.fire = kill_again};
    guest->accept_again = (struct timer){.fire = accept_again};
    guest->listener = (struct watch){.fd = HANDOVER_SOCKET, .ready = on_connection};
    guest->barrier = (struct watch){.fd = HANDOVER_BARRIER, .ready = on_barrier};
    guest->children = (struct watch){.fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_children};
    guest->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (guest->children.fd < 0) step_fail(23, errno, "no signalfd");
    if (guest->null_fd < 0) step_fail(23, errno, "/dev/null cannot be opened");
    if (fcntl(HANDOVER_SOCKET, F_SETFL, O_NONBLOCK) != 0) step_fail(23, errno, "the socket was not handed over");
}

int serve(struct guest *guest) {
    int error = loop_watch(&guest->loop, &guest->children, EPOLLIN);
    if (error == 0) error = loop_watch(&guest->loop, &guest->barrier, EPOLLIN);
    if (error == 0) error = loop_watch(&guest->loop, &guest->listener, EPOLLIN);
    if (error != 0) step_fail(23, -error, "the loop cannot watch what was handed over");
    close(HANDOVER_FAULT);
    return loop_run(&guest->loop);
}
