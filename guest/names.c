/* The table of stub addresses (names.h). Looked through from end to end: it is small, and asked once for each look-up of a name. */
#define _GNU_SOURCE
#include "names.h"

#include <stdlib.h>
#include <string.h>

static bool has_address(const struct names *names, uint32_t address) {
    for (size_t i = 0; i < names->count; i++)
        if (names->list[i]->address == address) return true;
    return false;
}

/* The range is five hundred times the table, so a free one is near. */
static uint32_t next_address(struct names *names) {
    do {
        if (names->next < NAMES_FIRST || names->next > NAMES_LAST) names->next = NAMES_FIRST;
    } while (has_address(names, names->next++));
    return names->next - 1;
}

static struct name *find(const struct names *names, const char *text) {
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i]->text, text) == 0) return names->list[i];
    return NULL;
}

/* The entry that nobody is connected to and that was asked for longest ago, taken out and empty. */
static struct name *evict(struct names *names, void (*evicted)(struct name *name)) {
    struct name *oldest = NULL;
    for (size_t i = 0; i < names->count; i++) {
        struct name *name = names->list[i];
        if (name->live == 0 && (!oldest || name->used < oldest->used)) oldest = name;
    }
    if (oldest && evicted) evicted(oldest);
    if (oldest) memset(oldest, 0, sizeof *oldest);
    return oldest;
}

struct name *names_take(struct names *names, const char *text, void (*evicted)(struct name *name)) {
    struct name *name = find(names, text);
    if (name) {
        name->used = ++names->clock;
        return name;
    }
    size_t length = strlen(text);
    if (length == 0 || length > DNS_NAME_MAX) return NULL;
    if (names->count == NAMES_MAX) name = evict(names, evicted);
    else if ((name = calloc(1, sizeof *name))) names->list[names->count++] = name;
    if (!name) return NULL;
    memcpy(name->text, text, length + 1);
    name->used = ++names->clock;
    name->address = next_address(names);
    return name;
}
