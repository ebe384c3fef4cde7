/* Which process of the sandbox a connection comes from, for the record alone: `PID:COMM`, or `-` when it is not found quickly.
 * Hostile by nature: a program names itself as it likes. Invariant: the work for one answer is bounded. */
#ifndef CORRAL_PEER_H
#define CORRAL_PEER_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/types.h>

enum { PEER_BYTES = 32, PEER_RECENT = 4 };

struct peer {
    int diag; /* netlink socket for sock_diag, opened before the filter; -1: this kernel has none */
    int proc;
    pid_t recent[PEER_RECENT]; /* found last: who connects once connects again */
};

/* Before the filter of step 22. Descriptor or -1. */
int peer_diag_open(void);
void peer_open(struct peer *peer, int diag);
/* `protocol`: TCP or UDP; `from` is the program's end, `to` ours. */
void peer_find(struct peer *peer, int protocol, const struct sockaddr_in *from, const struct sockaddr_in *to, char text[PEER_BYTES]);

#endif
