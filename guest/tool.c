/* `corral-guest tool NAME ARG...`: looks the tool up and runs it. Tools are one process each, on the host side, with the
 * spawner's rights; they read and write hostile trees, so each names its own invariant in its own file. */
#include <stdio.h>
#include <string.h>

#include "roles.h"
#include "tools.h"

struct tool {
    const char *name;
    int (*run)(int argc, char **argv);
};

int tool_main(int argc, char **argv) {
    const struct tool tools[] = {
        {"remove", tool_remove},
        {"walk", tool_walk},
        {"mask", tool_mask},
        {"stage", tool_stage},
        {"locked", tool_locked},
        {"usage", tool_usage},
        {"machine", tool_machine},
        {"layer", tool_layer},
    };
    for (size_t i = 0; argc >= 2 && i < sizeof tools / sizeof *tools; i++)
        if (tools[i].run && strcmp(argv[1], tools[i].name) == 0) return tools[i].run(argc - 1, argv + 1);
    fputs("tool: there is no such tool\n", stderr);
    return 1;
}
