/* What launch.c and launched.c agree on across the foreign runtime between them. */
#ifndef CORRAL_LAUNCHED_H
#define CORRAL_LAUNCHED_H

/* The sealed memfd of this program, without close-on-exec: the runtime is told to run /proc/self/fd/11. */
enum { LAUNCHED_GUEST = 11 };

#endif
