/* Commands that are forked from a command that runs, a forker, instead of being executed: an interpreter that has its modules in memory. */
#ifndef CORRAL_FORK_H
#define CORRAL_FORK_H

#include <stdbool.h>

#include "pipes.h"
#include "request.h"
#include "start.h"

struct client;
struct exec;

/* Makes `exec` a forker: its descriptor 5 becomes the one it is asked by. 0 or errno. */
int forker_make(struct exec *exec, struct start *start);
/* The command's half of that: it has its own. */
void forker_given(struct exec *exec);
/* Asks for a child that gets what `start` says as its descriptors 0 to 4. 0: `ends` is taken over, and the exec begins, or is refused,
 * when the forker has answered or not in time. Else errno. */
int fork_ask(struct exec *exec, const struct exec_request *request, const struct start *start, struct ends *ends);
/* The forker has ended; harmless for any other command. */
void forker_end(struct exec *exec);
void fork_client_gone(struct client *client);

#endif
