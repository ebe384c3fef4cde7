/* corral-guest: one program, three roles. Which one is said by the first argument and nothing else: no environment. By its own name it is chosen once:
 * as `corral-connect` it is an ordinary program of a sandbox (connect.c), and none of the roles.
 * Roles share frame.c, buffer.c, loop.c and conn.c; they never call each other. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "roles.h"

static bool is_called(const char *path, const char *name) {
    const char *last = strrchr(path, '/');
    return strcmp(last ? last + 1 : path, name) == 0;
}

int main(int argc, char **argv) {
    if (argc >= 1 && is_called(argv[0], "corral-connect")) return connect_main(argc, argv);
    if (argc >= 2) {
        if (strcmp(argv[1], "init") == 0) return init_main(argc - 1, argv + 1);
        if (strcmp(argv[1], "launched") == 0) return launched_main(argc - 1, argv + 1);
        if (strcmp(argv[1], "spawner") == 0) return spawner_main(argc - 1, argv + 1);
        if (strcmp(argv[1], "tool") == 0) return tool_main(argc - 1, argv + 1);
        if (strcmp(argv[1], "version") == 0) {
            puts(GUEST_VERSION);
            return 0;
        }
    }
    fputs("usage: corral-guest spawner|init|tool ... | version\nCorral starts this program itself; it is of no use by hand.\n", stderr);
    return 2;
}
