/* The facts that PID 1 is handed across its exec (handover.h), as a memory file that only it reads.
 * Invariant: nothing of the node stands in it: ids inside, limits, the environment of commands, the filter. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>

#include "contain.h"
#include "handover.h"
#include "sys.h"

enum { FIRST_INIT_STEP = 17, HANDSHAKE_STEP = 23 };

static bool put_pair(struct buffer *out, const char *verb, uint64_t value) { return record_put(out, verb) && record_put_number(out, value); }

static bool pids_controlled(const struct spawner *spawner) {
    if (spawner->cgroups.v2 >= 0 && spawner->cgroups.v2_pids) return true;
    for (uint32_t i = 0; i < spawner->cgroups.v1_count; i++)
        if (spawner->cgroups.v1[i].name[0] == 'p') return true;
    return false;
}

static bool put_records(const struct making *making, struct buffer *out) {
    const struct create *create = making->create;
    bool ok = record_put(out, "user") && record_put_number(out, create->uid) && record_put_number(out, create->gid);
    ok = ok && put_pair(out, "ids", 1) && put_pair(out, "root", create->offer_root);
    if (create->nofile) ok = ok && put_pair(out, "nofile", create->nofile);
    /* Where no controller counts processes the rlimit does, per user of the sandbox's own user namespace. */
    if (create->pids && (!pids_controlled(making->spawner) || weakened(making, 5))) ok = ok && put_pair(out, "nproc", create->pids);
    if (create->egress_dir)
        ok = ok && record_put(out, "egress") && record_put(out, create->egress_name) && record_put_number(out, create->egress_uid) && record_put_number(out, create->egress_gid);
    for (uint32_t i = 0; i < create->egress_ports; i++) ok = ok && put_pair(out, "egress-port", create->egress_port[i]);
    for (uint32_t i = 0; i < create->envs; i++) ok = ok && record_put(out, "env") && record_put(out, create->env[i]);
    for (uint32_t step = FIRST_INIT_STEP; step <= STEP_MAX; step++)
        if (weakened(making, step) && step != HANDSHAKE_STEP) ok = ok && put_pair(out, "weaken", step);
    return ok;
}

static int write_all(int fd, const void *bytes, size_t count) { return count && write(fd, bytes, count) != (ssize_t)count ? -EIO : 0; }

int facts_make(struct making *making) {
    struct buffer records = {0};
    uint8_t head[HANDOVER_HEAD_BYTES];
    making->message = "the facts for PID 1 could not be written";
    making->facts = sys_memfd("facts", 1 /* MFD_CLOEXEC */);
    int error = making->facts < 0 ? -errno : 0;
    if (!error && !put_records(making, &records)) error = -ENOMEM;
    put_u32(head, HANDOVER_MAGIC);
    put_u32(head + 4, (uint32_t)buffer_length(&records));
    put_u32(head + 8, making->spawner->filter_bytes);
    if (!error) error = write_all(making->facts, head, sizeof head);
    if (!error) error = write_all(making->facts, buffer_bytes(&records), buffer_length(&records));
    if (!error) error = write_all(making->facts, making->spawner->filter, making->spawner->filter_bytes);
    buffer_free(&records);
    return error;
}
