/* The records of handover.h as a struct. Pure but for facts_read, so that the fuzzer can drive it.
 * Invariant: a struct that facts_parse accepted has every number in range and every string inside `memory`. */
#ifndef CORRAL_FACTS_H
#define CORRAL_FACTS_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FACTS_LANDLOCK = 64, FACTS_ENV = 1024, FACTS_PORTS = 16, FACTS_SOCKET_NAME = 64 };

struct landlock_rule {
    const char *path;
    bool writable;
};

struct facts {
    uint32_t uid, gid;
    bool several_ids;
    bool root_offered;
    uint64_t nofile, nproc, fsize; /* 0 = not told */
    const char *env[FACTS_ENV];
    size_t envs;
    struct landlock_rule landlock[FACTS_LANDLOCK];
    size_t landlocks;
    const char *egress; /* NULL: no network; else the name of the proxy's socket */
    uint32_t egress_uid, egress_gid;
    uint16_t egress_ports[FACTS_PORTS];
    size_t egress_port_count;
    uint32_t weaken; /* bit N: leave out step N */
    struct sock_filter *filter;
    size_t filter_length; /* instructions */
    uint8_t *memory;      /* what all of it points into */
};

/* NULL, or what is wrong with it. `data` must be aligned as malloc aligns and outlive the struct. */
const char *facts_parse(struct facts *facts, uint8_t *data, size_t count);
/* Reads HANDOVER_FACTS and closes it; ends the process by step_fail(16) when it cannot. */
void facts_read(struct facts *facts);
static inline bool left_out(const struct facts *facts, int step) { return (facts->weaken >> step & 1u) != 0; }

#endif
