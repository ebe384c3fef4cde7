/* PID 1 as one struct: what its parts share. Made once by init.c, passed by pointer; there is no other state. */
#ifndef CORRAL_GUEST_H
#define CORRAL_GUEST_H

#include "conn.h"
#include "egress.h"
#include "exec.h"
#include "facts.h"
#include "kept.h"
#include "oom.h"
#include "seccomp.h"
#include "tree.h"

enum { MAX_CLIENTS = 8, MAX_EXECS = 1024, EXEC_BUCKETS = 64 };

struct client {
    struct conn conn;
    struct guest *guest;
    struct client *next;
    bool kill_all; /* an answer to KILL_ALL is owed */
    uint32_t kill_all_id;
};

struct guest {
    struct loop loop;
    struct facts facts;
    struct clone_key key;
    struct oom oom;
    struct trees trees;
    struct buffer ready; /* the first frame on every connection */
    int null_fd;
    struct watch listener, children, barrier;
    struct client *clients;
    int client_count;
    struct exec *by_pid[EXEC_BUCKETS]; /* running ones */
    struct exec *by_id[EXEC_BUCKETS];  /* all */
    struct exec *lingering_first;      /* oldest first: EXIT was told, something still holds their output */
    struct exec *lingering_last;
    struct kept *kept_first;           /* oldest first */
    int kept_count;
    uint64_t kept_forgotten;
    int exec_count;
    int running_count; /* without workers: a command that is alone beside them is stopped with everything inside */
    int memory_events, pids_events; /* -1: none */
    struct egress egress;
    struct timer kill_again, accept_again;
};

#endif
