/* Filesystem ids of fsids.h.
 * Invariant: after fsids_back PID 1's filesystem ids and its death signal are what they were. */
#define _GNU_SOURCE
#include "fsids.h"

#include <errno.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

struct fsids fsids_take(const struct facts *facts, uint32_t uid, uint32_t gid) {
    struct fsids own = {.changed = facts->several_ids && !left_out(facts, 18)};
    if (!own.changed) return own;
    own.uid = (uint32_t)setfsuid(uid);
    own.gid = (uint32_t)setfsgid(gid);
    return own;
}

void fsids_back(const struct fsids *own) {
    if (!own->changed) return;
    int error = errno;
    setfsgid(own->gid);
    setfsuid(own->uid);
    /* SAFETY: the change cleared it. A spawner that died meanwhile shows at the barrier, which the loop watches. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    errno = error;
}
