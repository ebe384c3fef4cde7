/* Step 23: what PID 1 says of itself. */
#ifndef CORRAL_READY_H
#define CORRAL_READY_H

struct guest;

/* Fills guest->ready; ends the process by step_fail(23) when a fact cannot be read. */
void ready_collect(struct guest *guest);

#endif
