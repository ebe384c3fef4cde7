/* oom_score_adj: a child cannot write its own (it shares the memory of a non-dumpable process until it executes, and the write would be lost),
 * so PID 1 raises itself, starts the child, and lowers itself again. A help against accident, not malice: a command may lower itself as far as PID 1 stands.
 * Lowered by a timer and not at once: while the child still shares our memory, the kernel would lower it with us;
 * and a burst of commands then costs two writes, not two each. */
#define _GNU_SOURCE
#include "oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "handover.h"

enum { LOWER_AFTER_MS = 20 };

static bool adjust(const struct oom *oom, int value) {
    char text[16];
    int length = snprintf(text, sizeof text, "%d", value);
    return pwrite(oom->fd, text, (size_t)length, 0) == length;
}

static bool reads(const struct oom *oom, int *value) {
    char text[16];
    ssize_t count = pread(oom->fd, text, sizeof text - 1, 0);
    if (count <= 0) return false;
    text[count] = 0;
    *value = atoi(text);
    return true;
}

static void lower(struct timer *timer) {
    struct oom *oom = CONTAINER_OF(timer, struct oom, lower);
    /* A refusal leaves PID 1 as likely a victim as its commands; nothing else depends on it. */
    if (adjust(oom, oom->own)) oom->raised = false;
}

void oom_open(struct oom *oom) {
    *oom = (struct oom){.fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), .lower = {.fire = lower}};
    if (oom->fd < 0) step_fail(17, errno, "oom_score_adj cannot be opened");
}

void oom_prove(struct oom *oom, struct loop *loop) {
    oom->loop = loop;
    int raised, back;
    if (!reads(oom, &oom->own)) step_fail(17, errno, "oom_score_adj cannot be read");
    if (oom->own >= OOM_OF_COMMANDS) { /* the node made us a victim already: commands inherit that */
        close(oom->fd);
        oom->fd = -1;
        return;
    }
    if (!adjust(oom, OOM_OF_COMMANDS) || !reads(oom, &raised) || raised != OOM_OF_COMMANDS || !adjust(oom, oom->own) || !reads(oom, &back) ||
        back != oom->own)
        step_fail(17, errno, "oom_score_adj does not change as written");
}

void oom_raise(struct oom *oom) {
    if (oom->fd < 0) return;
    if (!oom->raised) oom->raised = adjust(oom, OOM_OF_COMMANDS);
    loop_timer(oom->loop, &oom->lower, in_ms(LOWER_AFTER_MS));
}
