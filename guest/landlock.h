/* Step 21. */
#ifndef CORRAL_LANDLOCK_H
#define CORRAL_LANDLOCK_H

#include "facts.h"

/* The ABI of the kernel, 0 when it has none. */
int landlock_abi(void);
/* Restricts this process and all after it to the paths of the handover; step_fail(21) otherwise. Nothing when none was named. */
void landlock_restrict(const struct facts *facts);

#endif
