/* Step 21: the second wall, by inode: still true when a mount is wrong. Only when the handover names paths.
 * Invariant: what is not named can neither be read nor written; a named path that is missing ends the set-up. */
#define _GNU_SOURCE
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handover.h"

/* Bits of the kernel's ABI; the headers of our oldest build machine end at ABI 1. */
enum {
    EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3,
    ALL_OF_ABI_1 = (1 << 13) - 1, REFER = 1 << 13, TRUNCATE = 1 << 14,
    SCOPE_ABSTRACT_SOCKETS = 1 << 0, SCOPE_SIGNALS = 1 << 1,
    RULE_PATH_BENEATH = 1, QUERY_VERSION = 1,
};
struct ruleset {
    uint64_t files, network, scoped;
};
struct __attribute__((packed)) beneath {
    uint64_t allowed;
    int32_t parent;
};

int landlock_abi(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, QUERY_VERSION);
    return abi < 0 ? 0 : (int)abi;
}

static void allow(int ruleset, const struct landlock_rule *rule, uint64_t handled) {
    int fd = open(rule->path, O_PATH | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) step_fail(21, errno, "a path named for Landlock cannot be opened");
    uint64_t allowed = rule->writable ? handled : EXECUTE | READ_FILE | READ_DIR;
    /* The kernel refuses rights that make no sense on a file. */
    if (!S_ISDIR(info.st_mode)) allowed &= EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;
    struct beneath beneath = {.allowed = allowed & handled, .parent = fd};
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) != 0) step_fail(21, errno, "a Landlock rule was refused");
    close(fd);
}

void landlock_restrict(const struct facts *facts) {
    if (facts->landlocks == 0) return;
    int abi = landlock_abi();
    /* SAFETY: below ABI 2 nothing can be moved between directories: every `mv` would fail, and a caller that asked for this wall must not go on without. */
    if (abi < 2) step_fail(21, ENOSYS, "this kernel's Landlock is too old (ABI 2 is needed, kernel 5.19)");
    struct ruleset attr = {.files = ALL_OF_ABI_1 | REFER};
    if (abi >= 3) attr.files |= TRUNCATE;
    if (abi >= 6) attr.scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS;
    /* An older kernel knows a shorter struct. */
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    long ruleset = syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0) step_fail(21, errno, "a Landlock ruleset was refused");
    for (size_t i = 0; i < facts->landlocks; i++) allow((int)ruleset, &facts->landlock[i], attr.files);
    if (syscall(SYS_landlock_restrict_self, (int)ruleset, 0) != 0) step_fail(21, errno, "Landlock could not be put in force");
    close((int)ruleset);
}
