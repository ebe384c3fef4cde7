/* How a containment step that failed is told outside: one line on the fault pipe, then the process ends.
 * Nothing is undone here: the process is PID 1 of its namespaces, they go with it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

#include "handover.h"

_Noreturn void step_fail(int step, int error, const char *message) {
    char line[512];
    int length = snprintf(line, sizeof line, "%d %d %s\n", step, error, message);
    if (length >= (int)sizeof line) length = (int)sizeof line - 1;
    /* Best effort: when nobody reads, the exit status and the closed socket still say that it failed. */
    ssize_t ignored = write(HANDOVER_FAULT, line, (size_t)length);
    (void)ignored;
    _exit(1);
}
