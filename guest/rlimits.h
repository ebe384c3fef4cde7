/* Step 17. */
#ifndef CORRAL_RLIMITS_H
#define CORRAL_RLIMITS_H

#include "facts.h"

/* Non-dumpable and hard limits, read back; step_fail(17) otherwise. Settles facts->nofile. */
void limits_set(struct facts *facts);

#endif
