/* Trees without cgroups: everything but PID 1 when the command is alone, else its session and its descendants as /proc tells them.
 * Weaker than a slot: a process that left the session and whose parent died is found by neither, while other commands run.
 * Invariant: PID 1 is never signalled; a kill is repeated until a pass finds nothing or the bound is reached. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tree.h"

struct process {
    pid_t pid, parent, session;
    bool ours;
};

struct census {
    struct process *list;
    size_t count, room;
};

/* pid (name) state ppid pgrp session … - the name may hold anything, also `) Z 1`, so it ends at the last parenthesis. Zombies are left out. */
static bool read_process(int proc, const char *name, struct process *out) {
    char path[32], text[512];
    int length = snprintf(path, sizeof path, "%.10s/stat", name);
    int fd = length < (int)sizeof path ? openat(proc, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return false;
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    if (count <= 0) return false;
    text[count] = 0;
    char state;
    int parent, group, session;
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4 || state == 'Z' || state == 'X') return false;
    *out = (struct process){.pid = atoi(name), .parent = parent, .session = session};
    return out->pid > 1;
}

static bool add(struct census *census, const struct process *process) {
    if (census->count == census->room) {
        size_t room = census->room ? census->room * 2 : 64;
        struct process *list = realloc(census->list, room * sizeof *list);
        if (!list) return false;
        census->list = list;
        census->room = room;
    }
    census->list[census->count++] = *process;
    return true;
}

static void take_census(struct census *census) {
    census->count = 0;
    DIR *directory = opendir("/proc");
    if (!directory) return;
    struct dirent *entry;
    struct process process;
    while ((entry = readdir(directory)))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && read_process(dirfd(directory), entry->d_name, &process))
            if (!add(census, &process)) break; /* no memory: those found are signalled, the next pass finds the rest */
    closedir(directory);
}

/* /proc lists in the order of pids, so a parent is found by halving. */
static const struct process *find(const struct census *census, pid_t pid) {
    size_t low = 0, high = census->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (census->list[middle].pid == pid) return &census->list[middle];
        if (census->list[middle].pid < pid) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static void mark(struct census *census, pid_t leader) {
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < census->count; i++) {
            struct process *process = &census->list[i];
            if (process->ours) continue;
            const struct process *parent = find(census, process->parent);
            process->ours = process->pid == leader || process->session == leader || (parent && parent->ours);
            changed |= process->ours;
        }
    }
}

static int pass(struct census *census, pid_t leader, int number) {
    take_census(census);
    mark(census, leader);
    int found = 0;
    for (size_t i = 0; i < census->count; i++) {
        if (!census->list[i].ours) continue;
        found++;
        /* SAFETY: read_process leaves PID 1 out; a pid that was reused meanwhile is still one of this sandbox. */
        kill(census->list[i].pid, number);
    }
    return found;
}

void session_signal(pid_t leader, int number, bool alone) {
    if (alone) {
        /* SAFETY: as PID 1 of its namespace this reaches everything inside and nothing outside; never used by another process. */
        if (getpid() == 1) kill(-1, number);
        return;
    }
    struct census census = {0};
    int passes = number == SIGKILL ? 50 : 1;
    /* Stopped first, so that a family that forks while it is counted stands still when it is killed. */
    if (number == SIGKILL) pass(&census, leader, SIGSTOP);
    while (passes-- > 0 && pass(&census, leader, number) > 0) {}
    free(census.list);
}
