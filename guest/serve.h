/* PID 1 at work: connections, children, the barrier. */
#ifndef CORRAL_SERVE_H
#define CORRAL_SERVE_H

struct guest;

/* Before the walls: descriptors and the loop. Ends the process by step_fail(23). */
void serve_prepare(struct guest *guest);
/* After them; returns only when the loop cannot go on. */
int serve(struct guest *guest);

#endif
