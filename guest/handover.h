/* What the spawner hands to PID 1 when it re-executes the program from a sealed memfd: descriptors by number, facts by record.
 * `execveat(memfd, "", {"corral-guest", "init", NULL}, {NULL}, AT_EMPTY_PATH)`; the environment is empty, cwd is `/`,
 * the process is uid 0 of its user namespace (or the one mapped uid), PID 1, pivoted, steps 1-16 done.
 * Where the one mapped uid is not 0 the exec itself takes all capabilities: empty the bounding set before it, init cannot any more.
 * Invariant: PID 1 believes nothing else; a missing or unknown record ends it before it answers. */
#ifndef CORRAL_HANDOVER_H
#define CORRAL_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

/* 0, 1, 2 are open on /dev/null. An optional descriptor that is not given is closed. None has FD_CLOEXEC when handed over
 * (the exec would close it); init sets it on each before anything else. Nothing above 10 is open. */
enum handover_fd {
    HANDOVER_SOCKET = 3,        /* listening unix stream socket */
    HANDOVER_FACTS = 4,         /* memfd, layout below; init closes it once read */
    HANDOVER_BARRIER = 5,       /* read end of a pipe whose write end only the spawner holds: end of file = the spawner died */
    HANDOVER_CGROUP = 6,        /* optional: O_PATH descriptor of the sandbox's v2 `work` cgroup, the root of a mount of its own (`..` leads nowhere), see below */
    HANDOVER_MEMORY_EVENTS = 7, /* optional: v2 memory.events or v1 memory.oom_control, O_RDONLY (line `oom_kill N`) */
    HANDOVER_PIDS_EVENTS = 8,   /* optional: pids.events of v1 or v2, O_RDONLY (line `max N`) */
    HANDOVER_FAULT = 9,         /* write end of a pipe: a failed step writes step_fail's line; closed without one = step 23 reached */
    HANDOVER_EGRESS = 10,       /* only with record `egress`: O_PATH descriptor of the directory that holds the proxy's socket, the root of a mount of its own */
};

/* The `work` cgroup. Every exec gets a child cgroup `work/N`, entered by CLONE_INTO_CGROUP with PID 1's own credentials, so the kernel asks:
 *  - the directory `work` writable by PID 1's outside uid (mkdir), and `cgroup.procs` of `work` and of the common ancestor of
 *    `work` and PID 1's own cgroup writable by it (chown them to that uid; nothing else of the tree);
 *  - where the tree is mounted `nsdelegate`: the cgroup namespace rooted at that ancestor or above, not at PID 1's own leaf;
 *  - no domain controller enabled in work/cgroup.subtree_control.
 *  - nobody writes cgroup.kill of `work` or above while the sandbox is to live on: see slot_renew in tree.c.
 * DESTROY removes `work/N` too: PID 1 leaves up to 1,024 empty ones. */

/* The memfd: u32 magic, u32 bytes of records, u32 bytes of the seccomp program (struct sock_filter[], may be 0 only with `weaken 22`), then both.
 * Records (frame.h), each once unless said:
 *   user UID GID      inside ids of ordinary commands
 *   ids 0|1           1: uid 0 and the user's are both mapped; PID 1 is uid 0 and changes id per command. 0: one id, which PID 1 has
 *   root 0|1          1: EXEC may ask for uid 0 (only with `ids 1`)
 *   env K=V           repeat; base environment of commands
 *   nofile N · nproc N · fsize N      hard limits; absent = nofile 1,048,576 or what the spawner has, the others none
 *   egress NAME UID GID               a relay is to run (egress.c): the socket's name in HANDOVER_EGRESS, and the relay's inside ids; only with `ids 1`
 *   egress-port N                     repeat; what is listened on for a name for which the proxy tells no ports
 *   landlock PATH ro|rw               repeat; present = step 21 is on
 *   weaken N          repeat; leave out step N (17, 18, 19, 20, 21, 22, 24), for negative controls
 */
#define HANDOVER_MAGIC 0x6c617263u
enum { HANDOVER_HEAD_BYTES = 12, HANDOVER_MAX_RECORDS = 1 << 20, HANDOVER_MAX_FILTER = 4096 * 8 };

static inline bool handover_optional(int fd) { return (fd >= HANDOVER_CGROUP && fd <= HANDOVER_PIDS_EVENTS) || fd == HANDOVER_EGRESS; }

/* One line on HANDOVER_FAULT, `STEP ERRNO MESSAGE\n`, then _exit(1). Usable by every step from the clone on. */
_Noreturn void step_fail(int step, int error, const char *message);

#endif
