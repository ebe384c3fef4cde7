/* Commands that outlive their connection (EXEC flag KEEP): their key, the last of their output, their end.
 * Not the running of them, which is exec.c's, as of every command. */
#ifndef CORRAL_KEPT_H
#define CORRAL_KEPT_H

#include "exec.h"
#include "ring.h"

/* MAX_KEPT * (RING_BYTES and a quarter, MAX_NOTE_BYTES) bounds what all of them together cost PID 1. */
enum { MAX_KEPT = 64 };

struct kept {
    struct guest *guest;
    struct kept *next;     /* newer */
    struct exec *exec;     /* NULL: all that it wrote is in the ring, and `exit` is its end */
    struct client *client; /* who hears it; NULL: nobody, or EXIT was told */
    uint32_t id;           /* on that connection */
    uint32_t flags;
    uint32_t credit;
    pid_t pid;
    uint64_t sent; /* offset up to which `client`, or the last one, was sent it */
    struct ring ring;
    uint8_t exit[EXIT_BYTES];
    char *note; /* the client's own words, told by LIST */
    char key[MAX_KEY_BYTES + 1];
};

/* For a command about to begin: NULL with *error set to EEXIST, EAGAIN or ENOMEM. Forgets the oldest ended one when there are too many. */
struct kept *kept_make(struct exec *exec, const struct exec_request *request, int *error);
/* It did not begin. */
void kept_unmake(struct kept *kept);
/* It runs: from now on it is found. */
void kept_enter(struct kept *kept);

/* The one that this connection hears by this id, or NULL. */
struct kept *kept_heard(const struct client *client, uint32_t id);
/* Where output may be read to: at most *most bytes, which is set to how many; 0: the command is held. Detached, half of the ring stays what was
 * sent already: a reader that died may not have got it. */
uint8_t *kept_space(struct kept *kept, size_t *most);
/* Sends what credit and connection allow, and EXIT after the last byte. May end the hearing, never the command. */
void kept_flush(struct kept *kept);
/* False: more credit than the window. */
bool kept_credit(struct kept *kept, uint32_t bytes);
/* All of its output is in the ring. */
void kept_ended(struct kept *kept, const uint8_t exit[EXIT_BYTES]);
void kept_client_gone(const struct client *client);
void kept_client_room(const struct client *client);

void kept_list(struct client *client, uint32_t id);
/* False: the id is in use, the connection is to be closed. */
bool kept_attach(struct client *client, uint32_t id, const char *key, uint64_t offset);
/* An ended one that nobody hears; any other is left as it is. */
void kept_forget(struct guest *guest, const char *key);

#endif
