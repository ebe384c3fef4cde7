/* The process tree of a command, and how to reach all of it. */
#ifndef CORRAL_TREE_H
#define CORRAL_TREE_H

#include <stdbool.h>
#include <sys/types.h>

struct clone_key;

/* One child cgroup of `work`, for one command at a time. */
struct slot {
    int number; /* its name */
    int directory;
    int events;
    bool spent; /* cgroup.kill was used: see slot_renew */
    struct slot *next;
};

struct trees {
    int work;           /* -1: no cgroup of our own */
    int made;           /* slots made so far, the next one's name */
    int error;          /* why slots are not used, when `work` was given */
    struct slot *empty; /* no process inside */
    struct slot *held;  /* a finished command left processes inside; oldest first */
};

/* `work` is taken over; -1 for none. Proves with a trial child that slots work, else goes on without and notes the errno. */
void trees_open(struct trees *trees, int work, const struct clone_key *key);
/* NULL with errno set when there is none to be had. Only when `work` >= 0. */
struct slot *slot_take(struct trees *trees);
/* The command ended or never began. */
void slot_release(struct trees *trees, struct slot *slot);
void slot_signal(struct slot *slot, int number);
/* Without slots. `alone`: no other command runs, so everything but PID 1 is its tree. */
void session_signal(pid_t leader, int number, bool alone);

#endif
