/* Reads `oom_kill N` of memory.events (v2) or memory.oom_control (v1), and `max N` of pids.events. Descriptors come from the spawner:
 * no cgroup file can be opened from inside. */
#define _GNU_SOURCE
#include "count.h"

#include <string.h>
#include <unistd.h>

uint64_t count_find(const char *text, const char *key) {
    size_t length = strlen(key);
    while (text && *text) {
        if (strncmp(text, key, length) == 0 && text[length] == ' ') {
            uint64_t value = 0;
            for (const char *c = text + length + 1; *c >= '0' && *c <= '9'; c++) value = value * 10 + (uint64_t)(*c - '0');
            return value;
        }
        text = strchr(text, '\n');
        if (text) text++;
    }
    return 0;
}

uint64_t count_read(int fd, const char *key) {
    char text[512];
    if (fd < 0) return 0;
    ssize_t count = pread(fd, text, sizeof text - 1, 0);
    if (count <= 0) return 0;
    text[count] = 0;
    return count_find(text, key);
}
