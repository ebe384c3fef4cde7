/* The loop of loop.h. Nothing is allocated: watches, timers and put-off work live in their owners.
 * Invariant: an event fetched in this round for a watch that has since been taken out is dropped, never delivered. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <time.h>

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int loop_open(struct loop *loop) {
    *loop = (struct loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    loop->last = &loop->first;
    return loop->epoll < 0 ? -errno : 0;
}

/* Without this a watch whose owner was freed by an earlier event of the same round would be called. */
static void forget(struct loop *loop, const struct watch *watch) {
    for (int i = 0; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == watch) loop->batch[i].data.ptr = NULL;
}

int loop_watch(struct loop *loop, struct watch *watch, uint32_t events) {
    if (events == watch->events) return 0;
    if (events == 0) {
        loop_unwatch(loop, watch);
        return 0;
    }
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watch->fd, &event) != 0) return -errno;
    watch->events = events;
    return 0;
}

void loop_unwatch(struct loop *loop, struct watch *watch) {
    if (watch->events == 0) return;
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->events = 0;
    forget(loop, watch);
}

void loop_timer(struct loop *loop, struct timer *timer, uint64_t at) {
    loop_timer_stop(loop, timer);
    if (loop->held_at) at -= now_ns() - loop->held_at; /* the release adds it again */
    struct timer **place = &loop->timers;
    while (*place && (*place)->at <= at) place = &(*place)->next;
    timer->at = at;
    timer->next = *place;
    timer->armed = true;
    *place = timer;
}

void loop_timer_stop(struct loop *loop, struct timer *timer) {
    if (!timer->armed) return;
    struct timer **place = &loop->timers;
    while (*place && *place != timer) place = &(*place)->next;
    if (*place) *place = timer->next;
    timer->armed = false;
}

void loop_hold(struct loop *loop) {
    if (!loop->held_at) loop->held_at = now_ns();
}

uint64_t loop_release(struct loop *loop) {
    if (!loop->held_at) return 0;
    uint64_t stood = now_ns() - loop->held_at;
    for (struct timer *timer = loop->timers; timer; timer = timer->next) timer->at += stood;
    loop->held_at = 0;
    return stood;
}

void loop_later(struct loop *loop, struct later *later) {
    if (later->queued) return;
    later->queued = true;
    later->next = NULL;
    *loop->last = later;
    loop->last = &later->next;
}

static void run_later(struct loop *loop) {
    while (loop->first) {
        struct later *later = loop->first;
        loop->first = later->next;
        if (!loop->first) loop->last = &loop->first;
        later->queued = false;
        later->run(later); /* may free its owner */
    }
}

static void run_timers(struct loop *loop) {
    if (!loop->timers || loop->held_at) return;
    uint64_t now = now_ns();
    while (loop->timers && loop->timers->at <= now) {
        struct timer *timer = loop->timers;
        loop->timers = timer->next;
        timer->armed = false;
        timer->fire(timer);
    }
}

/* Rounded up: waking a moment early would spin. */
static int sleep_ms(const struct loop *loop) {
    if (!loop->timers || loop->held_at) return -1;
    uint64_t now = now_ns();
    if (loop->timers->at <= now) return 0;
    uint64_t ms = (loop->timers->at - now + 999999u) / 1000000u;
    return ms > 3600000u ? 3600000 : (int)ms;
}

int loop_run(struct loop *loop) {
    while (!loop->stopped) {
        run_later(loop);
        if (loop->stopped) break;
        int count = epoll_wait(loop->epoll, loop->batch, LOOP_BATCH, sleep_ms(loop));
        if (count < 0 && errno != EINTR) return -errno;
        loop->batch_count = count < 0 ? 0 : count;
        for (int i = 0; i < loop->batch_count; i++) {
            struct watch *watch = loop->batch[i].data.ptr;
            if (watch) watch->ready(watch, loop->batch[i].events);
        }
        loop->batch_count = 0;
        run_timers(loop);
    }
    run_later(loop);
    return 0;
}
