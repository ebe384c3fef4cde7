/* CREATE: the spawner's half of making a sandbox, steps 2 to 8 of the containment in their order; child.c does the rest.
 * Nothing waits for the child: a step that fails there after OK is told by DIED.
 * Invariant: a failing step leaves nothing behind - every object made before it is in `making` and is taken away. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>

#include "contain.h"
#include "listen.h"
#include "sys.h"

enum { LISTEN_BACKLOG = 16, TIMINGS = 4 };

static int lock_journal(struct making *making) {
    if (!making->create->journal) return 0;
    making->message = "the journal could not be opened, or another spawner holds its lock";
    int fd = open(making->create->journal, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return -errno;
    making->sandbox->journal = fd;
    return flock(fd, LOCK_EX | LOCK_NB) != 0 ? -errno : 0;
}

static int open_listener(struct making *making) {
    making->message = "the sandbox's socket could not be made";
    making->listener = local_listen(making->create->socket, LISTEN_BACKLOG);
    if (making->listener < 0) return making->listener;
    strcpy(making->sandbox->socket, making->create->socket); /* parse.c: fits with its NUL */
    return 0;
}

static int check_ids(struct making *making) {
    making->message = "uid 0 inside is not mapped";
    int64_t owner = idmap_outside(making->create, 0);
    if (owner < 0) return -EINVAL;
    making->owner_uid = making->owner_gid = (uint32_t)owner;
    return 0;
}

static int make_cgroups(struct making *making) {
    making->message = "the cgroups could not be made";
    making->sandbox->has_cgroup = !weakened(making, 5);
    return cgroup_make(making);
}

static int enter_network(struct making *making) {
    making->message = "a network namespace could not be made";
    int error = weakened(making, 6) ? net_home(making->spawner) : net_prepare(making->spawner);
    return error ? error : net_stub(making);
}

static int make_pipes(struct making *making) {
    making->message = "pipes could not be made";
    if (pipe2(making->barrier, O_CLOEXEC) != 0 || pipe2(making->fault, O_CLOEXEC | O_NONBLOCK) != 0) return -errno;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, making->hand) != 0 ? -errno : 0;
}

static int clone_child(struct making *making) {
    /* SAFETY: all at once: no moment in which half are shared. The network is the spawner's fresh one; the cgroup namespace is made by the
     * child when it sits in its cgroup. weaken 7 leaves out what can be left out with the rest still standing. */
    uint64_t spaces = NEW_USER | NEW_PID | NEW_NS;
    if (!weakened(making, 7)) spaces |= NEW_IPC | NEW_UTS;
    /* A foreign runtime makes the others itself; without these two it could not be handed maps and mounts. */
    if (making->create->launches) spaces = NEW_USER | NEW_NS;
    int pidfd = -1;
    struct clone_request request = {.flags = spaces | WANT_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    if (making->cgroup.v2 >= 0) {
        request.flags |= INTO_CGROUP;
        request.cgroup = (uint64_t)making->cgroup.v2;
    }
    making->message = "the namespaces could not be made (in a chroot the kernel refuses user namespaces)";
    pid_t pid = sys_clone3(&request);
    if (pid == 0) child_run(making);
    if (pid < 0) return -errno;
    making->sandbox->pid = pid;
    making->sandbox->pidfd = pidfd;
    if (!weakened(making, 6)) making->spawner->netns_ready = false;
    return 0;
}

static int map_ids(struct making *making) {
    making->message = "the id maps could not be written";
    int error = ids_map(making);
    /* The child may go on. If it has died by now DIED says so; writing to it is no error of this request. */
    ssize_t ignored = error ? 0 : write(making->barrier[1], "x", 1);
    (void)ignored;
    return error;
}

static int make_mounts(struct making *making) {
    int error = mounts_make(making);
    return error ? error : mounts_hand_over(making);
}

struct host_step {
    uint32_t number;
    int timing; /* which of the answer's figures it belongs to */
    int (*run)(struct making *making);
};

enum { PREPARE, CLONE, MAPS, CGROUP };

static const struct host_step steps[] = {
    {0, PREPARE, lock_journal},   /* before anything exists: a reaper takes what nobody locks */
    {0, PREPARE, open_listener},  /* before the clone, so that a client may connect as soon as it has its answer */
    {2, PREPARE, check_ids},      /* later steps give files to these ids */
    {5, CGROUP, make_cgroups},    /* limits are set before anybody is in them */
    {6, CLONE, enter_network},    /* the clone inherits it */
    {4, PREPARE, egress_make},    /* as all mounts; before the clone, which inherits it */
    {16, PREPARE, facts_make},    /* what PID 1 believes */
    {8, PREPARE, make_pipes},     /* the barrier, and the way by which the child tells a failure */
    {7, CLONE, clone_child},      /* with pidfd: every later signal goes by it */
    {8, MAPS, map_ids},           /* the child waits for them */
    {4, PREPARE, make_mounts},    /* needs rights that the child must not have; at the same time as the child's own part */
};

static void close_all(struct making *making) {
    int *single[] = {&making->listener, &making->facts, &making->egress, &making->barrier[0], &making->fault[1], &making->hand[0], &making->hand[1]};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (*single[i] >= 0) close(*single[i]);
    for (int i = 0; i < MOUNTS_MAX; i++)
        if (making->mount[i] >= 0) close(making->mount[i]);
    cgroup_close(making);
}

struct sandbox *sandbox_new(struct spawner *spawner, const char *id) {
    struct sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox) return NULL;
    sandbox->spawner = spawner;
    sandbox->pidfd = sandbox->journal = sandbox->barrier = sandbox->fault = -1;
    strcpy(sandbox->id, id);
    sandbox->next = spawner->sandboxes;
    spawner->sandboxes = sandbox;
    spawner->sandbox_count++;
    return sandbox;
}

static void begin(struct making *making, struct spawner *spawner, struct sandbox *sandbox) {
    memset(making, 0, sizeof *making);
    making->spawner = spawner;
    making->create = &spawner->request;
    making->sandbox = sandbox;
    making->listener = making->facts = making->egress = making->root = making->scratch = making->proc = -1;
    making->barrier[0] = making->barrier[1] = making->fault[0] = making->fault[1] = -1;
    making->hand[0] = making->hand[1] = -1;
    for (int i = 0; i < MOUNTS_MAX; i++) making->mount[i] = -1;
    making->cgroup.v2 = making->cgroup.work = making->cgroup.memory_events = making->cgroup.pids_events = -1;
    for (int i = 0; i < CG1_MAX; i++) making->cgroup.join[i] = -1;
}

/* The failing step's number, or -1 when all went well; `error` is set. */
static int64_t run_steps(struct making *making, uint64_t *spent, int *error) {
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        uint64_t began = now_ns();
        bool inject = making->spawner->fail_step && making->spawner->fail_step == steps[i].number;
        *error = inject ? -(int)making->spawner->fail_errno : steps[i].run(making);
        spent[steps[i].timing] += now_ns() - began;
        if (*error) return steps[i].number;
    }
    return -1;
}

static void answer_made(struct making *making, uint32_t request, const uint64_t *spent) {
    uint8_t body[4 + 4 * TIMINGS];
    put_u32(body, (uint32_t)making->sandbox->pid);
    for (int i = 0; i < TIMINGS; i++) put_u32(body + 4 + 4 * i, (uint32_t)(spent[i] / 1000));
    answer(making->spawner, ANSWER_OK, request, body, sizeof body);
}

static const char *refusal(struct spawner *spawner, const struct frame *frame, int *error) {
    *error = EINVAL;
    if (create_parse(frame->body, frame->length, &spawner->request)) return spawner->request.wrong;
    if (spawner->request.weaken && !spawner->allow_weaken) return "weaken is for tests: the spawner was not started with --allow-weaken";
    *error = EEXIST;
    if (sandbox_find(spawner, spawner->request.id)) return "a sandbox of that id exists";
    *error = ECANCELED;
    return spawner->closing ? "the spawner is ending" : NULL;
}

void on_create(struct spawner *spawner, const struct frame *frame) {
    int error;
    const char *wrong = refusal(spawner, frame, &error);
    struct sandbox *sandbox = wrong ? NULL : sandbox_new(spawner, spawner->request.id);
    if (!sandbox) {
        answer_error(spawner, frame->id, wrong ? error : ENOMEM, 0, wrong ? wrong : "out of memory");
        return;
    }
    struct making making;
    uint64_t spent[TIMINGS] = {0};
    begin(&making, spawner, sandbox);
    int64_t failed = run_steps(&making, spent, &error);
    sandbox->fault = making.fault[0];
    sandbox->barrier = making.barrier[1];
    close_all(&making);
    if (failed >= 0) {
        sandbox_abandon(sandbox, frame->id, -error, (uint32_t)failed, making.message ? making.message : "");
        return;
    }
    answer_made(&making, frame->id, spent);
    /* Queued behind the connection's own: the answer is on its way first. */
    if (!spawner->netns_ready) loop_later(&spawner->loop, &spawner->next_network);
}
