/* The pipes and the terminal between PID 1 and one command, from their making to the handing over. */
#ifndef CORRAL_PIPES_H
#define CORRAL_PIPES_H

#include "facts.h"
#include "request.h"
#include "start.h"

/* [0] stays here, [1] goes to the command. -1: none. */
struct ends {
    int in[2], out[2], err[2];
    int control_in[2], control_out[2]; /* the command's descriptors 3 and 4 */
    int again; /* for pipe_open_again: a reading end of `in` that stays here */
};

void ends_none(struct ends *ends);
/* 0 or errno; on error some may be open: ends_close. */
int ends_make(struct ends *ends, const struct facts *facts, const struct exec_request *request, const struct start *start);
/* Tells `start` which descriptors the command gets. */
void ends_point(const struct ends *ends, struct start *start, uint32_t flags, int null_fd);
/* Closes the command's halves: it has its own. */
void ends_given(struct ends *ends);
void ends_close(struct ends *ends);

/* Empties the pipe that `again` reads and opens it for writing. The descriptor, or -1 with errno. */
int pipe_open_again(const struct facts *facts, uint32_t uid, uint32_t gid, int again);

#endif
