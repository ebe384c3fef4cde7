/* Files that PID 1 makes or opens for a command belong to the command's user, or the command could not open them again by name:
 * PID 1 may change neither owners nor modes, but it can act with the command's filesystem ids for a moment. */
#ifndef CORRAL_FSIDS_H
#define CORRAL_FSIDS_H

#include "facts.h"

struct fsids {
    uint32_t uid, gid; /* PID 1's own */
    bool changed;
};

struct fsids fsids_take(const struct facts *facts, uint32_t uid, uint32_t gid);
/* Keeps errno. */
void fsids_back(const struct fsids *own);

#endif
