/* What the files of the spawner share: one struct with everything it knows, handed around; nothing lives in globals.
 * The spawner is trusted: it runs with the node's rights (or, rootless, those of its user namespace) and holds the only ends by
 * which sandboxes are watched and ended.
 * Invariant: every kernel object of a sandbox is reachable from its struct sandbox, so that one function can take all away. */
#ifndef CORRAL_SPAWNER_H
#define CORRAL_SPAWNER_H

#include <sys/types.h>

#include "conn.h"
#include "parse.h"

/* Frames of the control socket (PROTOCOL.md, Spawner). */
enum {
    REQUEST_CONFIGURE = 1,
    REQUEST_CREATE,
    REQUEST_DESTROY,
    REQUEST_TOOL,
    REQUEST_TOOL_IN,
    REQUEST_TOOL_EOF,
    REQUEST_TOOL_KILL,
    REQUEST_CREDIT,
    REQUEST_STATS,
    REQUEST_ADOPT,
    REQUEST_END,
    REQUEST_FREEZE,
    REQUEST_MOUNT,
    ANSWER_OK = 65,
    ANSWER_ERROR,
    ANSWER_TOOL_OUT,
    ANSWER_TOOL_END,
    ANSWER_TOOL_CREDIT,
    ANSWER_DIED,
};

/* Numbers kept for the layers of the overlay that is being made: always the same, so that mountinfo inside does not count sandboxes. */
enum { LAYER_FIRST = 16, LAYER_FDS = OVERLAY_LAYERS_MAX + 2 };

enum { SOCKET_MAX = 108, CONTROLLER_MAX = 33, IDMAP_CACHE = 16 };

/* The directories under which every sandbox gets its own. */
struct cgroup_parents {
    int v2; /* -1: none */
    char *v2_path; /* as it was told, for a successor */
    bool v2_memory, v2_pids, v2_cpu;
    uint32_t v1_count;
    struct {
        char name[CONTROLLER_MAX];
        int dir;
        char *path;
    } v1[CG1_MAX];
};

struct idmap_entry {
    uint32_t from_uid, from_gid, to_uid, to_gid;
    int userns;
    uint64_t used;
};

/* One sandbox's way to its end: destroy was asked for, or it died. */
enum sandbox_state { SANDBOX_LIVE, SANDBOX_KILLED, SANDBOX_REAPED, SANDBOX_SCRUBBING };

struct sandbox {
    struct sandbox *next;
    struct spawner *spawner;
    char id[ID_MAX + 1];
    char socket[SOCKET_MAX];
    enum sandbox_state state;
    pid_t pid;
    int pidfd, journal, barrier, fault;
    bool has_cgroup;
    bool asked;        /* by DESTROY: `request` is answered; else the end is told by DIED */
    bool orphan;       /* whoever asked is gone: nobody waits for the answer */
    uint32_t request;
    int status;
    uint32_t create_errno, create_step; /* CREATE failed: told once all is taken away */
    const char *create_message;         /* a constant */
    char *scrub[SCRUB_MAX];
    uint32_t scrubs, scrubbed;
    pid_t scrubber;
    struct timer retry;
    uint32_t retries;
};

struct toolrun;

/* The connection belongs to nobody, to one that has yet to say ADOPT, or to the client. */
enum client_state { CLIENT_NONE, CLIENT_ASKING, CLIENT_SERVED };

struct spawner {
    struct loop loop;
    struct conn conn;
    enum client_state client;
    struct watch children; /* signalfd */
    bool configured, allow_weaken, rootless, closing;
    struct timer deadline;
    struct watch listener; /* where successors of a client come; -1: not on a server, or closing */
    char socket[SOCKET_MAX];
    uint64_t wait_ms;      /* for a successor */
    struct timer waiting, asking, accept_again;
    char mark[MARK_MAX + 1];
    int guest;             /* sealed memfd that holds this program */
    int proc;              /* the host's /proc */
    int proc_fds;          /* /proc/self/fd: layers of overlays are named by their number, relative to it */
    int home_netns;        /* the one the spawner was started in */
    struct later next_network;
    bool netns_ready;      /* the present network namespace belongs to no sandbox yet */
    struct cgroup_parents cgroups;
    uint8_t filter[SECCOMP_BYTES_MAX];
    uint32_t filter_bytes;
    struct idmap_entry idmaps[IDMAP_CACHE];
    uint64_t idmap_clock;
    struct sandbox *sandboxes;
    uint32_t sandbox_count;
    struct toolrun *tools;
    uint32_t tool_count;
    uint32_t fail_step, fail_errno; /* fault injection, only with --allow-weaken */
    struct create request; /* too large for the stack of a fuzzed path; used by one CREATE at a time */
};

/* spawner.c */
void answer_error(struct spawner *spawner, uint32_t request, int error, uint32_t step, const char *message);
void spawner_maybe_exit(struct spawner *spawner);
void close_down(struct spawner *spawner); /* all sandboxes end, then this process */

/* clients.c */
/* To the client; without one it is dropped. */
void answer(struct spawner *spawner, uint8_t type, uint32_t request, const void *body, size_t length);
int client_open(struct spawner *spawner, int fd, enum client_state state); /* 0 or -errno */
int successors_listen(struct spawner *spawner, const char *path);         /* 0 or -errno; the path fits */
void successors_refuse(struct spawner *spawner);

/* rootless.c: ranges beside the caller's own id, which becomes 0. Returns only when it failed: -errno with `message`; else the
 * program runs again from its start, inside its user namespace. */
struct rootless_maps {
    struct idrange uid[IDMAPS_MAX], gid[IDMAPS_MAX];
    uint32_t uids, gids;
};
int rootless_enter(int argc, char **argv, const struct rootless_maps *maps, const char **message);

/* configure.c */
void on_configure(struct spawner *spawner, const struct frame *frame);
bool facts_put(struct buffer *out); /* version, landlock, kernel; false: no memory */
bool parents_put(const struct cgroup_parents *cgroups, struct buffer *out); /* as CONFIGURE told them */

/* toolrun.c */
void on_tool(struct spawner *spawner, const struct frame *frame);
bool on_tool_frame(struct spawner *spawner, const struct frame *frame);
void tools_room(struct spawner *spawner);
void tools_kill(struct spawner *spawner);
void tools_orphan(struct spawner *spawner);
bool tool_reaped(struct spawner *spawner, pid_t pid, int status);

/* create.c */
void on_create(struct spawner *spawner, const struct frame *frame);

/* reap.c */
void on_destroy(struct spawner *spawner, const struct frame *frame);
struct sandbox *sandbox_new(struct spawner *spawner, const char *id); /* create.c; NULL: no memory */
void sandbox_kill(struct sandbox *sandbox);
void sandbox_abandon(struct sandbox *sandbox, uint32_t request, int error, uint32_t step, const char *message);
bool sandbox_reaped(struct spawner *spawner, pid_t pid, int status);
struct sandbox *sandbox_find(struct spawner *spawner, const char *id);
void sandboxes_orphan(struct spawner *spawner);

/* freeze.c */
void on_freeze(struct spawner *spawner, const struct frame *frame);
void thaw_to_die(const struct sandbox *sandbox);

/* late.c */
void on_mount(struct spawner *spawner, const struct frame *frame);

/* cgroup.c */
void on_stats(struct spawner *spawner, const struct frame *frame);

#endif
