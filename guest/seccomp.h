/* Step 22: the filter, and the one key that opens clone3. */
#ifndef CORRAL_SECCOMP_H
#define CORRAL_SECCOMP_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COOKIE_WORDS = 8 };
#define COOKIE_PLACEHOLDER 0x5ec0de00u

/* The generated program answers ENOSYS to clone3 unless the low and high halves of args[2] to args[5], which the call does not use,
 * equal eight words. The generator writes COOKIE_PLACEHOLDER + 1 … + 8 (low of args[2], high of args[2], low of args[3], …).
 * `open`: PID 1 may call clone3 with `args`. */
struct clone_key {
    bool open;
    uint64_t args[COOKIE_WORDS / 2];
};

/* Pure: puts `words` over the placeholders. How many different ones were found, or -1 when one occurs twice. */
int seccomp_patch(struct sock_filter *filter, size_t length, const uint32_t words[COOKIE_WORDS]);
/* Draws the cookie, patches, installs; ends the process by step_fail(22) on anything unexpected. Frees nothing. */
void seccomp_install(struct sock_filter *filter, size_t length, struct clone_key *key);

#endif
