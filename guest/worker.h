/* Built-in programs of the guest that run in the sandbox as the command's user: files, watch, dial (EXEC with WORKER). */
#ifndef CORRAL_WORKER_H
#define CORRAL_WORKER_H

#include <stdbool.h>
#include <sys/types.h>

#include "buffer.h"
#include "start.h"

struct guest;

/* Whether `flags` and `name` ask for a worker that exists. 0 or errno. */
int worker_check(uint32_t flags, const char *name);
/* Forks PID 1 into the worker `start->argv[0]`. The pid, or 0 with `start->error`. Does not wait: a set-up that fails is exit status 125. */
pid_t worker_start(struct start *start, struct guest *guest);

/* In a child that stays the guest, first of all: the key to clone3 goes, from memory and stack. */
void worker_forget(struct guest *guest);
/* Of a worker: writes all of `out` to stdout, waiting as long as it takes. False: nobody reads it any more. */
bool worker_say(struct buffer *out);
/* The built-ins: argv[0] is the name. Their exit status. */
int files_main(int argc, char **argv);
int watch_main(int argc, char **argv);
int dial_main(int argc, char **argv);
/* stdin and stdout become the connection `socket`, each direction with its own end. 0 or errno. */
int dial_relay(int socket);

#endif
