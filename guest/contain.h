/* What CREATE's files share: the state of one sandbox in the making, and the functions behind its steps.
 * Host-side functions run in the spawner and return 0 or -errno; child-side ones run in the clone, before it is PID 1's program.
 * Invariant: whatever was made so far is in `making`, so that one function can take it away when a later step fails. */
#ifndef CORRAL_CONTAIN_H
#define CORRAL_CONTAIN_H

#include "spawner.h"

struct making {
    struct spawner *spawner;
    const struct create *create;
    struct sandbox *sandbox;
    const char *message;      /* more than the step's name, when there is more to say */
    int listener;
    int facts;
    int egress;               /* the directory with the egress proxy's socket, as a mount of its own; -1: none */
    int barrier[2], fault[2];
    int hand[2];              /* by which the mounts of step 4 reach the child, which is busy with its own meanwhile */
    int mount[MOUNTS_MAX];    /* detached mounts made by the spawner; -1: made in the child */
    bool attach_layers;       /* this kernel wants idmapped layers attached */
    int root, scratch, proc;  /* in the child: the new root; files that are laid over others; the new /proc */
    uint32_t owner_uid, owner_gid; /* outside ids of uid 0 inside */
    struct {
        bool made;
        int v2, work;                   /* the sandbox's own directory, and `work` below it as a mount of its own */
        int join[CG1_MAX];              /* v1 `tasks` files */
        int memory_events, pids_events;
    } cgroup;
};

static inline bool weakened(const struct making *making, uint32_t step) { return making->create->weaken >> step & 1u; }

/* cgroup.c, step 5 */
int cgroup_make(struct making *making);
void cgroup_close(struct making *making);
int cgroup_join(const struct making *making); /* in the child */
int cgroup_remove(struct spawner *spawner, const char *id);
/* A file of the directory `dir`, or of the directory `id` below `parent`. */
int cgroup_write(int dir, const char *name, const char *value);
bool cgroup_read(int parent, const char *id, const char *file, char *text, size_t size);

/* ids.c, steps 2, 8 and 9 */
int ids_map(struct making *making);
int idmap_userns(struct spawner *spawner, const struct overlay *overlay);
int ids_become_root(void); /* in the child */

/* net.c, step 6 */
int net_prepare(struct spawner *spawner);
int net_home(struct spawner *spawner);
int net_stub(struct making *making); /* after net_prepare: this network is one sandbox's, with a route */
void net_later(struct later *later);

/* mount.c, step 4 */
int mounts_make(struct making *making);
int mount_make(struct making *making, const struct mount *mount); /* descriptor; -1 or -errno */
int egress_make(struct making *making); /* 0 or -errno */
/* hand.c: from the spawner, and to the child */
int mounts_hand_over(struct making *making);
int mounts_take(struct making *making);
int overlay_make(struct making *making, const struct overlay *overlay, uint32_t attributes);

/* dev.c, step 11 */
int dev_make(struct making *making); /* host side, root: a detached tmpfs that holds the nodes. -errno or descriptor */
int dev_frame(void);                 /* in the child, rootless: the same with empty files; descriptor */
int dev_bind(int dir);               /* then, once it is attached: the nodes over the files */

/* root.c, steps 10 to 13, in the child; on failure -errno, with `message` saying which */
int root_private(struct making *making);
int root_own(struct making *making);
int root_mask(struct making *making);
int root_attach(struct making *making);
int root_mounts(struct making *making);
int root_pivot(struct making *making);
/* Its parts, for a foreign runtime's PID 1. Descriptor or -errno. */
int tmpfs_make(const struct making *making, const struct mount *mount);
int devpts_make(void);
int scratch_make(struct making *making, const char *place); /* 0 or -errno */
int scratch_fill(struct making *making);
int file_make(const struct making *making, uint32_t index);
/* procmask.c, step 12, in the child: `scratch` holds what is laid over names of `proc` */
int procmask_fill(const struct making *making, int scratch);
int procmask_apply(const struct making *making, int proc, int scratch);

/* child.c: steps 8 to 16 */
_Noreturn void child_run(struct making *making);

/* launch.c: a foreign runtime instead of steps 10 to 13, in the child */
int launch_stage(struct making *making);
int launch_execute(struct making *making);

/* handing.c: the facts for PID 1 (handover.h) */
int facts_make(struct making *making);

#endif
