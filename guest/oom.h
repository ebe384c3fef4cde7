/* The order in which the OOM killer chooses: commands before PID 1. */
#ifndef CORRAL_OOM_H
#define CORRAL_OOM_H

#include <stdbool.h>

#include "loop.h"

enum { OOM_OF_COMMANDS = 300 };

struct oom {
    int fd; /* -1: left out */
    int own;
    bool raised;
    struct loop *loop;
    struct timer lower;
};

/* Before step 17: opens the file. */
void oom_open(struct oom *oom);
/* After it: proves that raising and lowering work; step_fail(17) otherwise. */
void oom_prove(struct oom *oom, struct loop *loop);
/* Before a command is started: what it inherits. Lowered again a moment after the last start. */
void oom_raise(struct oom *oom);

#endif
