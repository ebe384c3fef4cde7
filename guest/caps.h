/* Capabilities of PID 1 (step 18). */
#ifndef CORRAL_CAPS_H
#define CORRAL_CAPS_H

#include "facts.h"

/* Sets and reads back; ends the process by step_fail(18) when a set is not as asked. */
void caps_drop(const struct facts *facts);
/* The eight that uid 0 inside may keep, as numbers, ended by -1. */
extern const int caps_of_root[];

#endif
