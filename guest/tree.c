/* Slots: one v2 cgroup per command, entered at birth, so that setsid'ed and re-parented processes are reached too.
 * They are reused when the kernel says they are empty; making one costs several times what a command costs.
 * Not the place of limits: those stand on the parent, `work`. session.c does without cgroups.
 * Invariant: a slot is on one list or in use by one command; a slot on `empty` has no process inside. */
#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "count.h"
#include "start.h"

enum { MAX_SLOTS = 1024, LOOK_AT_HELD = 32 };

static bool is_empty(const struct slot *slot) {
    char text[128];
    if (slot->events < 0) return true; /* could not be made anew the last time */
    ssize_t count = pread(slot->events, text, sizeof text - 1, 0);
    if (count <= 0) return false;
    text[count] = 0;
    /* count_find answers 0 for a missing line too: the line must be there. */
    return strncmp(text, "populated ", 10) == 0 && count_find(text, "populated") == 0;
}

static void slot_close(struct slot *slot) {
    if (slot->events >= 0) close(slot->events);
    if (slot->directory >= 0) close(slot->directory);
    slot->events = slot->directory = -1;
}

/* Makes the directory and opens it. False with errno. */
static bool slot_open(const struct trees *trees, struct slot *slot) {
    char name[16];
    snprintf(name, sizeof name, "%d", slot->number);
    if (mkdirat(trees->work, name, 0755) != 0 && errno != EEXIST) return false;
    slot->spent = false;
    slot->directory = openat(trees->work, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slot->events = slot->directory < 0 ? -1 : openat(slot->directory, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (slot->events >= 0) return true;
    int error = errno;
    slot_close(slot);
    errno = error;
    return false;
}

/* From 6.14 on the kernel kills a child at birth when it is cloned into a cgroup on which cgroup.kill was ever used (it compares the
 * cgroup's count of kills with that of the parent's cgroup). So such a slot is removed and made anew before its next command. */
static bool slot_renew(const struct trees *trees, struct slot *slot) {
    char name[16];
    snprintf(name, sizeof name, "%d", slot->number);
    slot_close(slot);
    if (unlinkat(trees->work, name, AT_REMOVEDIR) != 0 && errno != ENOENT) return false;
    return slot_open(trees, slot);
}

static struct slot *slot_make(struct trees *trees) {
    struct slot *slot = calloc(1, sizeof *slot);
    if (!slot) {
        errno = ENOMEM;
        return NULL;
    }
    *slot = (struct slot){.number = trees->made, .directory = -1, .events = -1};
    if (!slot_open(trees, slot)) {
        int error = errno;
        free(slot);
        errno = error;
        return NULL;
    }
    trees->made++;
    return slot;
}

/* The oldest ones that have become empty meanwhile; bounded, so that 1,000 daemons do not make every command slow. */
static struct slot *slot_recover(struct trees *trees) {
    struct slot **place = &trees->held;
    for (int looks = 0; *place && looks < LOOK_AT_HELD; looks++) {
        struct slot *slot = *place;
        if (is_empty(slot)) {
            *place = slot->next;
            return slot;
        }
        place = &slot->next;
    }
    if (trees->made < MAX_SLOTS) return NULL;
    for (; *place; place = &(*place)->next) {
        struct slot *slot = *place;
        if (!is_empty(slot)) continue;
        *place = slot->next;
        return slot;
    }
    return NULL;
}

static void hold(struct trees *trees, struct slot *slot) {
    struct slot **last = &trees->held;
    while (*last) last = &(*last)->next;
    slot->next = NULL;
    *last = slot;
}

struct slot *slot_take(struct trees *trees) {
    struct slot *slot = trees->empty;
    if (slot) trees->empty = slot->next;
    else slot = slot_recover(trees);
    if (slot && slot->spent && !slot_renew(trees, slot)) {
        int error = errno;
        hold(trees, slot);
        errno = error;
        return NULL;
    }
    if (slot) return slot;
    if (trees->made >= MAX_SLOTS) {
        errno = EAGAIN;
        return NULL;
    }
    return slot_make(trees);
}

void slot_release(struct trees *trees, struct slot *slot) {
    if (is_empty(slot)) {
        slot->next = trees->empty;
        trees->empty = slot;
        return;
    }
    hold(trees, slot);
}

static bool kill_by_kernel(const struct slot *slot) {
    int fd = openat(slot->directory, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false; /* before 5.14 */
    bool done = write(fd, "1", 1) == 1;
    close(fd);
    return done;
}

/* One pass over the slot's processes. How many were there. */
static int signal_each(const struct slot *slot, int number) {
    int fd = openat(slot->directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[4096];
    int found = 0;
    pid_t pid = 0;
    ssize_t count;
    while ((count = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < count; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            /* SAFETY: 0 is a process our namespace cannot name; kill(0) would be PID 1's own group, and 1 PID 1 itself. */
            if (pid > 1) {
                found++;
                kill(pid, number);
            }
            pid = 0;
        }
    close(fd);
    return found;
}

void slot_signal(struct slot *slot, int number) {
    if (number == SIGKILL) {
        slot->spent = true;
        if (kill_by_kernel(slot)) return;
        /* New children appear between the passes; each pass stops those it saw from making more. */
        for (int pass = 0; pass < 100 && signal_each(slot, SIGKILL) > 0; pass++) {}
        return;
    }
    signal_each(slot, number);
}

void trees_open(struct trees *trees, int work, const struct clone_key *key) {
    *trees = (struct trees){.work = work};
    if (work < 0) return;
    struct slot *slot = slot_make(trees);
    trees->error = slot ? start_trial(slot->directory, key) : errno;
    if (trees->error == 0) {
        slot_release(trees, slot);
        return;
    }
    /* Told in READY as `kill all`, where the server decides whether that will do. */
    if (slot) {
        slot_close(slot);
        free(slot);
    }
    close(work);
    trees->work = -1;
}
