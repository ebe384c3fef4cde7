/* Terminals of the sandbox's own devpts. */
#ifndef CORRAL_PTY_H
#define CORRAL_PTY_H

#include <stdint.h>

#include "facts.h"

/* 0 or errno; both descriptors close-on-exec, the master non-blocking. `uid`, `gid`: who shall own the terminal. */
int pty_open(const struct facts *facts, uint32_t uid, uint32_t gid, uint16_t rows, uint16_t cols, int *master, int *terminal);
void pty_resize(int master, uint16_t rows, uint16_t cols);

#endif
