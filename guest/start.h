/* From a description of a command to a running process. */
#ifndef CORRAL_START_H
#define CORRAL_START_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "seccomp.h"

enum start_stage { STAGE_NONE, STAGE_SETUP, STAGE_CWD, STAGE_EXEC };

struct start {
    /* asked */
    char **argv;
    char **envp;
    const char *path;
    const char *cwd;
    int given[6]; /* what becomes its descriptors 0 to given_count - 1; those from 3 on lie above them */
    int given_count;
    bool terminal; /* given[0] is to be the controlling terminal */
    bool change_ids;
    bool empty_bounding;
    uint32_t uid, gid;
    uint64_t nofile;
    int cgroup; /* descriptor, or -1 */
    const struct clone_key *key;
    /* told */
    int error; /* errno, 0 = started */
    enum start_stage stage;
};

/* The pid (running, or already ended), or 0 with `error` when no process came of it; then nothing is left to reap.
 * Blocks until the program was executed or refused. */
pid_t start_command(struct start *start);
/* Whether a child can be put into `cgroup` at birth: one that ends at once. 0 or errno. */
int start_trial(int cgroup, const struct clone_key *key);

#endif
