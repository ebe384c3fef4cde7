/* Which name a stub address of 198.18.0.0/15 stands for. A bounded table: the name that was asked for longest ago makes room, unless somebody is
 * connected to its address. No I/O. Invariant: two names never have one address at the same time, and an address is given anew only after
 * all others of the range. */
#ifndef CORRAL_NAMES_H
#define CORRAL_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dns.h"

enum { NAMES_MAX = 256 };
/* Host order. Those below NAMES_FIRST are the guest's own. */
#define STUB_NETWORK 0xc6120000u
#define STUB_OWN (STUB_NETWORK + 1)
#define NAMES_FIRST (STUB_NETWORK + 256)
#define NAMES_LAST (STUB_NETWORK + 0x1fffe)

struct name {
    char text[DNS_NAME_MAX + 1];
    uint32_t address;
    uint64_t used;  /* by the clock of the table */
    uint32_t live;  /* connections to the address */
    void *owner;    /* the caller's: listeners on the address */
};

struct names {
    struct name *list[NAMES_MAX];
    size_t count;
    uint64_t clock;
    uint32_t next;
};

/* The entry of `text`, made when there is none. `evicted` (may be NULL) is called before an entry goes. NULL: no room, or no memory. */
struct name *names_take(struct names *names, const char *text, void (*evicted)(struct name *name));

#endif
