/* One epoll loop: descriptors, timers, and work put off to the end of a round. Level-triggered, single thread.
 * Not a library: each role makes one loop and runs it until it ends.
 * Invariant: after loop_unwatch or loop_timer_stop the thing is never called again, also within the round that is running. */
#ifndef CORRAL_LOOP_H
#define CORRAL_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

enum { LOOP_BATCH = 64 };

/* Lives inside its owner; zeroed with fd set is valid and not watched. */
struct watch {
    int fd;
    uint32_t events; /* what epoll was told; 0 = not registered */
    void (*ready)(struct watch *watch, uint32_t events);
};

struct timer {
    uint64_t at; /* monotonic nanoseconds */
    void (*fire)(struct timer *timer);
    struct timer *next;
    bool armed;
};

/* Work at the end of the round, before the loop sleeps. Queued once however often it is asked for. */
struct later {
    void (*run)(struct later *later);
    struct later *next;
    bool queued;
};

struct loop {
    int epoll;
    struct timer *timers; /* sorted by `at` */
    struct later *first;
    struct later **last;
    struct epoll_event batch[LOOP_BATCH];
    int batch_count;
    bool stopped;
    uint64_t held_at; /* 0: time goes on */
};

/* 0 or -errno, here and below. */
int loop_open(struct loop *loop);
/* Sets the events wanted; 0 takes it out of epoll, since HUP and ERR are told even when nothing is asked for. */
int loop_watch(struct loop *loop, struct watch *watch, uint32_t events);
/* Call before closing the descriptor. */
void loop_unwatch(struct loop *loop, struct watch *watch);
void loop_timer(struct loop *loop, struct timer *timer, uint64_t at);
void loop_timer_stop(struct loop *loop, struct timer *timer);
/* No timer fires until the release, which moves each by the time that was held and answers how long that was, ns (0: it was not). */
void loop_hold(struct loop *loop);
uint64_t loop_release(struct loop *loop);
void loop_later(struct loop *loop, struct later *later);
/* Runs until `stopped` is set (0) or epoll fails (-errno). */
int loop_run(struct loop *loop);

uint64_t now_ns(void);
static inline uint64_t in_ms(uint64_t ms) { return now_ns() + ms * 1000000u; }

#endif
