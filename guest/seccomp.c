/* Step 22: installs the generated program once; every later process inherits it. The table itself lives outside, as data.
 * Invariant: no program is installed that still holds a placeholder - its value is public, so it would open clone3 to everybody. */
#define _GNU_SOURCE
#include "seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handover.h"

int seccomp_patch(struct sock_filter *filter, size_t length, const uint32_t words[COOKIE_WORDS]) {
    unsigned found = 0;
    for (size_t i = 0; i < length; i++) {
        uint32_t index = filter[i].k - COOKIE_PLACEHOLDER - 1;
        unsigned class = BPF_CLASS(filter[i].code);
        if ((class != BPF_JMP && class != BPF_ALU) || index >= COOKIE_WORDS) continue;
        if (found >> index & 1u) return -1;
        found |= 1u << index;
        filter[i].k = words[index];
    }
    return __builtin_popcount(found);
}

void seccomp_install(struct sock_filter *filter, size_t length, struct clone_key *key) {
    uint32_t words[COOKIE_WORDS];
    if (length == 0 || length > BPF_MAXINSNS) step_fail(22, EINVAL, "the seccomp program is empty or too long");
    /* SAFETY: the cookie is all that stands between a command and clone3, whose flags no filter can read. */
    if (getrandom(words, sizeof words, 0) != (ssize_t)sizeof words) step_fail(22, errno, "no random bytes for the clone3 cookie");
    int found = seccomp_patch(filter, length, words);
    if (found != 0 && found != COOKIE_WORDS) step_fail(22, EINVAL, "the seccomp program holds some of the clone3 placeholders, not all");
    struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) step_fail(22, errno, "the seccomp program was refused");
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER) step_fail(22, EPERM, "no filter is in force after it was installed");
    key->open = found == COOKIE_WORDS;
    for (int i = 0; i < COOKIE_WORDS / 2; i++) key->args[i] = key->open ? words[2 * i] | (uint64_t)words[2 * i + 1] << 32 : 0;
    /* Its copies go: `key` is the one place, and a worker wipes that. */
    explicit_bzero(words, sizeof words);
    explicit_bzero(filter, length * sizeof *filter);
}
