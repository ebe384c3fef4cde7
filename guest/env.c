/* Builds argv and envp of a command from a parsed request and the sandbox's base environment. Copies no string.
 * Invariant: each name stands once in envp, with the value given last, so that no two programs read different ones. */
#include "env.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

/* Open addressing, at most half full: linear also for 65,535 entries. */
struct names {
    char **envp;
    size_t count;
    uint32_t *slots; /* index + 1 into envp */
    size_t mask;
};

static size_t name_length(const char *entry) {
    const char *equals = strchr(entry, '=');
    return equals ? (size_t)(equals - entry) : 0;
}

static bool put(struct names *names, const char *entry) {
    size_t length = name_length(entry);
    if (length == 0) return false;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)entry[i]) * 16777619u;
    size_t at = hash & names->mask;
    for (; names->slots[at]; at = (at + 1) & names->mask) {
        char **known = &names->envp[names->slots[at] - 1];
        if (strncmp(*known, entry, length + 1) == 0) {
            *known = (char *)(uintptr_t)entry;
            return true;
        }
    }
    names->envp[names->count++] = (char *)(uintptr_t)entry;
    names->slots[at] = (uint32_t)names->count;
    return true;
}

static const char *path_of(char **envp) {
    for (; *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0) return *envp + 5;
    return DEFAULT_PATH;
}

int arguments_make(struct arguments *out, const struct exec_request *request, const char *const *base, size_t bases) {
    *out = (struct arguments){0};
    if (request->argc == 0) return -EINVAL;
    size_t entries = bases + request->envc, slots = 16;
    while (slots < entries * 2) slots *= 2;
    size_t pointers = (size_t)request->argc + 1 + entries + 1;
    char **memory = calloc(1, pointers * sizeof(char *) + slots * sizeof(uint32_t));
    if (!memory) return -ENOMEM;
    out->memory = memory;
    out->argv = memory;
    out->envp = memory + request->argc + 1;
    struct names names = {.envp = out->envp, .slots = (uint32_t *)(void *)(memory + pointers), .mask = slots - 1};
    const char *text = request->argv;
    for (size_t i = 0; i < request->argc; i++, text += strlen(text) + 1) out->argv[i] = (char *)(uintptr_t)text;
    bool good = true;
    for (size_t i = 0; i < bases; i++) good = good && put(&names, base[i]);
    for (size_t i = 0; i < request->envc; i++, text += strlen(text) + 1) good = good && put(&names, text);
    if (!good) {
        arguments_free(out);
        return -EINVAL;
    }
    out->path = path_of(out->envp);
    return 0;
}

void arguments_free(struct arguments *arguments) {
    free(arguments->memory);
    *arguments = (struct arguments){0};
}
