/* PID 1's side of egress: its listening sockets, the relay (relay.h) as a child beside the commands, and that child's end. */
#ifndef CORRAL_EGRESS_H
#define CORRAL_EGRESS_H

#include <stdbool.h>
#include <sys/types.h>

struct guest;

struct egress {
    pid_t relay; /* 0: none runs */
    int directory; /* HANDOVER_EGRESS; -1: not given */
    int diag;    /* see peer.h; -1: none */
    bool again;  /* we have killed it ourselves, with everything inside: a new one takes its place */
};

/* Before the filter. A directory that the handover does not speak of is closed. */
void egress_open(struct guest *guest);
/* After the last wall, before the first command. 0 or -errno; without egress 0. */
int egress_start(struct guest *guest);
/* After a signal to everything inside (kill -1). */
void egress_spare(struct guest *guest, int number);
/* wait4 has returned the relay's pid. */
bool egress_reaped(struct guest *guest, pid_t pid);
/* Everything inside is gone by our own hand. */
void egress_renew(struct guest *guest);

#endif
