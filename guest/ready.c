/* Step 23: reads back from the kernel what the steps before have set, for the server to compare. Nothing hostile has run yet,
 * so this one answer can be believed; later connections get the same bytes.
 * Invariant: every value is the kernel's, none is what we meant to set. */
#define _GNU_SOURCE
#include "ready.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"
#include "handover.h"
#include "landlock.h"

static void put(struct buffer *out, const char *verb, const char *text) {
    if (!record_put(out, verb) || !record_put(out, text)) step_fail(23, ENOMEM, "no memory for READY");
}

static void put_number(struct buffer *out, const char *verb, uint64_t value) {
    if (!record_put(out, verb) || !record_put_number(out, value)) step_fail(23, ENOMEM, "no memory for READY");
}

static void read_file(const char *path, char *text, size_t size) {
    size_t have = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = -1;
    while (fd >= 0 && have < size - 1 && (count = read(fd, text + have, size - 1 - have)) > 0) have += (size_t)count;
    if (fd < 0 || count < 0) step_fail(23, errno, path);
    close(fd);
    text[have] = 0;
}

/* The value of a line of /proc/self/status. */
static void put_status(struct buffer *out, const char *status, const char *line, const char *verb) {
    char value[64];
    size_t length = 0;
    const char *at = strstr(status, line);
    if (!at) step_fail(23, ENOENT, "a line of /proc/self/status is missing");
    at += strlen(line);
    while (*at == '\t' || *at == ' ') at++;
    while (at[length] && at[length] != '\n' && length < sizeof value - 1) length++;
    memcpy(value, at, length);
    value[length] = 0;
    put(out, verb, value);
}

static void put_namespaces(struct buffer *out) {
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts", NULL};
    for (int i = 0; names[i]; i++) {
        char path[32] = "/proc/self/ns/";
        struct stat info;
        strcat(path, names[i]);
        if (stat(path, &info) != 0) step_fail(23, errno, "a namespace cannot be read");
        if (!record_put(out, "ns") || !record_put(out, names[i]) || !record_put_number(out, info.st_ino)) step_fail(23, ENOMEM, "no memory for READY");
    }
}

void ready_collect(struct guest *guest) {
    struct buffer *out = &guest->ready;
    static const char *const lines[][2] = {{"\nCapEff:", "cap-eff"}, {"\nCapPrm:", "cap-prm"}, {"\nCapInh:", "cap-inh"}, {"\nCapBnd:", "cap-bnd"},
                                           {"\nCapAmb:", "cap-amb"}, {"\nNoNewPrivs:", "nnp"}, {"\nSeccomp:", "seccomp"}, {NULL, NULL}};
    char text[8192];
    put(out, "version", GUEST_VERSION);
    read_file("/proc/self/status", text, sizeof text);
    for (int i = 0; lines[i][0]; i++) put_status(out, text, lines[i][0], lines[i][1]);
    put_number(out, "uid", geteuid());
    read_file("/proc/self/cgroup", text, sizeof text);
    if (*text) text[strlen(text) - 1] = 0; /* the last newline */
    put(out, "cgroup", text);
    put_namespaces(out);
    put_number(out, "landlock", (uint64_t)landlock_abi());
    put_number(out, "dumpable", (uint64_t)prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    put_number(out, "groups", (uint64_t)getgroups(0, NULL));
    put(out, "kill", guest->trees.work >= 0 ? "cgroup" : "all");
    if (guest->trees.error) put_number(out, "kill-errno", (uint64_t)guest->trees.error);
}
