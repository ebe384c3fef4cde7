/* Reads what the spawner handed over. Its sender is trusted, but a guest that misread it would be a sandbox without a wall:
 * everything unknown, missing or doubled is refused.
 * Invariant: walks stay inside the bytes that were read. */
#define _GNU_SOURCE
#include "facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frame.h"
#include "handover.h"

enum { MAX_ID = 0x7fffffff };

static bool number(struct record_walk *walk, uint64_t max, uint64_t *out) {
    const char *text = record_next(walk);
    return text && record_number(text, max, out);
}

static bool flag(struct record_walk *walk, bool *out) {
    uint64_t value;
    if (!number(walk, 1, &value)) return false;
    *out = value != 0;
    return true;
}

static bool user(struct facts *facts, struct record_walk *walk, bool *seen) {
    uint64_t uid, gid;
    if (*seen || !number(walk, MAX_ID, &uid) || !number(walk, MAX_ID, &gid)) return false;
    facts->uid = (uint32_t)uid;
    facts->gid = (uint32_t)gid;
    *seen = true;
    return true;
}

static bool environment(struct facts *facts, struct record_walk *walk) {
    const char *text = record_next(walk);
    if (!text || facts->envs == FACTS_ENV || !strchr(text, '=') || text[0] == '=') return false;
    facts->env[facts->envs++] = text;
    return true;
}

static bool landlock(struct facts *facts, struct record_walk *walk) {
    const char *path = record_next(walk);
    const char *level = record_next(walk);
    if (!path || !level || path[0] != '/' || facts->landlocks == FACTS_LANDLOCK) return false;
    bool writable = strcmp(level, "rw") == 0;
    if (!writable && strcmp(level, "ro") != 0) return false;
    facts->landlock[facts->landlocks++] = (struct landlock_rule){.path = path, .writable = writable};
    return true;
}

static bool egress(struct facts *facts, struct record_walk *walk) {
    const char *name = record_next(walk);
    uint64_t uid, gid;
    if (!name || facts->egress || !*name || strlen(name) > FACTS_SOCKET_NAME || strchr(name, '/') || name[0] == '.') return false;
    /* SAFETY: as root, or as a command's user, it could be signalled by one. */
    if (!number(walk, MAX_ID, &uid) || !number(walk, MAX_ID, &gid) || !uid || !gid) return false;
    facts->egress = name;
    facts->egress_uid = (uint32_t)uid;
    facts->egress_gid = (uint32_t)gid;
    return true;
}

static bool egress_port(struct facts *facts, struct record_walk *walk) {
    uint64_t port;
    if (facts->egress_port_count == FACTS_PORTS || !number(walk, UINT16_MAX, &port) || port == 0) return false;
    facts->egress_ports[facts->egress_port_count++] = (uint16_t)port;
    return true;
}

static bool weaken(struct facts *facts, struct record_walk *walk) {
    uint64_t step;
    if (!number(walk, 24, &step) || step < 17 || step == 23) return false;
    facts->weaken |= 1u << step;
    return true;
}

static bool record(struct facts *facts, struct record_walk *walk, const char *verb, bool *seen_user) {
    if (strcmp(verb, "user") == 0) return user(facts, walk, seen_user);
    if (strcmp(verb, "ids") == 0) return flag(walk, &facts->several_ids);
    if (strcmp(verb, "root") == 0) return flag(walk, &facts->root_offered);
    if (strcmp(verb, "env") == 0) return environment(facts, walk);
    if (strcmp(verb, "nofile") == 0) return number(walk, 1u << 30, &facts->nofile);
    if (strcmp(verb, "nproc") == 0) return number(walk, 1u << 30, &facts->nproc);
    if (strcmp(verb, "fsize") == 0) return number(walk, INT64_MAX, &facts->fsize);
    if (strcmp(verb, "landlock") == 0) return landlock(facts, walk);
    if (strcmp(verb, "egress") == 0) return egress(facts, walk);
    if (strcmp(verb, "egress-port") == 0) return egress_port(facts, walk);
    if (strcmp(verb, "weaken") == 0) return weaken(facts, walk);
    return false;
}

const char *facts_parse(struct facts *facts, uint8_t *data, size_t count) {
    *facts = (struct facts){.memory = data};
    if (count < HANDOVER_HEAD_BYTES || get_u32(data) != HANDOVER_MAGIC) return "the handover does not begin with its magic";
    size_t records = get_u32(data + 4), filter = get_u32(data + 8);
    if (records > HANDOVER_MAX_RECORDS || filter > HANDOVER_MAX_FILTER || records + filter != count - HANDOVER_HEAD_BYTES)
        return "the handover's lengths do not add up";
    if (filter % sizeof(struct sock_filter) != 0) return "the seccomp program is not whole instructions";
    struct record_walk walk;
    record_begin(&walk, data + HANDOVER_HEAD_BYTES, records);
    bool seen_user = false;
    const char *verb;
    while ((verb = record_next(&walk)))
        if (!record(facts, &walk, verb, &seen_user)) return "the handover has a record that is unknown, cut off or out of range";
    if (walk.broken) return "the handover's last record has no end";
    if (!seen_user) return "the handover names no user";
    if (facts->root_offered && !facts->several_ids) return "root needs several ids";
    if (facts->egress && (!facts->several_ids || facts->egress_uid == facts->uid)) return "egress needs an id of its own";
    if (filter == 0 && !left_out(facts, 22)) return "the handover has no seccomp program";
    /* Moved to the front of the allocation: records are of any length, instructions must be aligned. */
    facts->filter_length = filter / sizeof(struct sock_filter);
    if (filter) {
        facts->filter = malloc(filter);
        if (!facts->filter) return "no memory for the seccomp program";
        memcpy(facts->filter, data + HANDOVER_HEAD_BYTES + records, filter);
    }
    return NULL;
}

void facts_read(struct facts *facts) {
    struct stat info;
    if (fstat(HANDOVER_FACTS, &info) != 0) step_fail(16, errno, "the handover's facts are missing");
    size_t limit = HANDOVER_HEAD_BYTES + HANDOVER_MAX_RECORDS + HANDOVER_MAX_FILTER;
    if (info.st_size < 0 || (size_t)info.st_size > limit) step_fail(16, E2BIG, "the handover's facts are too long");
    size_t size = (size_t)info.st_size, have = 0;
    uint8_t *data = malloc(size ? size : 1);
    if (!data) step_fail(16, ENOMEM, "no memory for the handover's facts");
    while (have < size) {
        ssize_t count = pread(HANDOVER_FACTS, data + have, size - have, (off_t)have);
        if (count <= 0) step_fail(16, count < 0 ? errno : EIO, "the handover's facts cannot be read");
        have += (size_t)count;
    }
    close(HANDOVER_FACTS);
    const char *wrong = facts_parse(facts, data, size);
    if (wrong) step_fail(16, EINVAL, wrong);
}
