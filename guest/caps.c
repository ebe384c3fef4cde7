/* Step 18: what PID 1 and its children may still do as root of their namespace. Not the place where a command changes its uid (start.c).
 * Invariant: after caps_drop the bounding and ambient sets hold nothing that a command may not have, and this was read back. */
#define _GNU_SOURCE
#include "caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handover.h"

/* What programs that expect root use on files and ports of their own namespace; none reaches mounts, devices, tracing or the network's shape. */
const int caps_of_root[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,          CAP_SETUID,
                            CAP_SETGID, CAP_KILL,         CAP_NET_BIND_SERVICE, -1};

static uint64_t bit(int cap) { return (uint64_t)1 << cap; }

static uint64_t root_mask(void) {
    uint64_t mask = 0;
    for (const int *cap = caps_of_root; *cap >= 0; cap++) mask |= bit(*cap);
    return mask;
}

static void set_bounding(uint64_t keep) {
    for (int cap = 0; cap < 64; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0) break; /* the first number the kernel does not know */
        /* SAFETY: a capability left here comes back at the next exec of a uid 0 program. */
        if (has && !(keep & bit(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            step_fail(18, errno, "a capability could not be dropped from the bounding set");
    }
}

static void set_own(uint64_t keep) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2] = {{0}};
    for (int half = 0; half < 2; half++) data[half].effective = data[half].permitted = (uint32_t)(keep >> (32 * half));
    /* SAFETY: inheritable stays empty, or a file with inheritable capabilities would hand them to a command. */
    if (syscall(SYS_capset, &head, data) != 0) step_fail(18, errno, "capset was refused");
    struct __user_cap_data_struct back[2] = {{0}};
    if (syscall(SYS_capget, &head, back) != 0) step_fail(18, errno, "capget was refused");
    for (int half = 0; half < 2; half++)
        if (back[half].effective != data[half].effective || back[half].permitted != data[half].permitted || back[half].inheritable != 0)
            step_fail(18, EPERM, "the capability sets are not as set");
}

static void check(uint64_t bounding) {
    for (int cap = 0; cap < 64; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0) break;
        if (has && !(bounding & bit(cap))) step_fail(18, EPERM, "the bounding set is not empty");
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) != 0) step_fail(18, EPERM, "the ambient set is not empty");
    }
}

void caps_drop(const struct facts *facts) {
    uint64_t own = 0, bounding = 0;
    if (facts->several_ids) own = bit(CAP_SETUID) | bit(CAP_SETGID) | bit(CAP_KILL);
    if (facts->root_offered) {
        bounding = root_mask();
        /* SETPCAP: the child of an ordinary command empties its bounding set with it. A command of uid 0 loses it at exec, not being in the bounding set. */
        own |= bounding | bit(CAP_SETPCAP);
    }
    /* SAFETY: an ambient capability survives the exec of an unprivileged program. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) step_fail(18, errno, "the ambient set could not be cleared");
    set_bounding(bounding);
    set_own(own);
    check(bounding);
}
