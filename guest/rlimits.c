/* Step 17: PID 1 cannot be read by its children, and hard limits they cannot raise again.
 * RLIMIT_NOFILE of commands is not set here but in the child (start.c): PID 1 itself needs descriptors for a thousand commands. */
#define _GNU_SOURCE
#include "rlimits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "handover.h"

enum { OWN_DESCRIPTORS = 16384 };

static void limit(int resource, uint64_t value, const char *message) {
    struct rlimit current;
    if (getrlimit(resource, &current) != 0) step_fail(17, errno, message);
    /* Never raised: a lower limit that the node's operator set holds on. */
    rlim_t hard = current.rlim_max != RLIM_INFINITY && current.rlim_max < value ? current.rlim_max : (rlim_t)value;
    struct rlimit want = {.rlim_cur = hard, .rlim_max = hard}, back;
    if (setrlimit(resource, &want) != 0 || getrlimit(resource, &back) != 0)
        step_fail(17, errno, message);
    if (back.rlim_max != hard) step_fail(17, EPERM, message);
}

/* With fs.suid_dumpable=1 every change of uid in a child that still shares our memory would make us readable again. */
static void check_suid_dumpable(void) {
    char text[8] = "";
    int fd = open("/proc/sys/fs/suid_dumpable", O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (count <= 0) return; /* not shown here: the read-back of PR_GET_DUMPABLE after the first trial child (tree.c) decides */
    if (text[0] == '1') step_fail(17, EPERM, "fs.suid_dumpable is 1 on this node: set it to 0 or 2 (sysctl fs.suid_dumpable=0)");
}

void limits_set(struct facts *facts) {
    /* SAFETY: a dumpable PID 1 lets every process of its uid attach, read the clone3 cookie and write its memory. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) step_fail(17, errno, "PID 1 stays dumpable");
    check_suid_dumpable();
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) step_fail(17, errno, "RLIMIT_NOFILE cannot be read");
    if (facts->nofile == 0 || facts->nofile > files.rlim_max) facts->nofile = files.rlim_max > 1048576 ? 1048576 : files.rlim_max;
    limit(RLIMIT_NOFILE, facts->nofile > OWN_DESCRIPTORS ? facts->nofile : OWN_DESCRIPTORS, "RLIMIT_NOFILE");
    if (facts->nproc) limit(RLIMIT_NPROC, facts->nproc, "RLIMIT_NPROC");   /* a fork bomb where no pids cgroup is */
    if (facts->fsize) limit(RLIMIT_FSIZE, facts->fsize, "RLIMIT_FSIZE");   /* one file cannot fill the disk */
    limit(RLIMIT_MEMLOCK, 8u << 20, "RLIMIT_MEMLOCK");                     /* the kernel's own default; locked pages never swap */
    limit(RLIMIT_MSGQUEUE, 819200, "RLIMIT_MSGQUEUE");                     /* counted per uid of the node: one default share each */
    limit(RLIMIT_RTPRIO, 0, "RLIMIT_RTPRIO");                              /* no real-time thread can hold a core */
    limit(RLIMIT_NICE, 0, "RLIMIT_NICE");                                  /* no raising of priority */
    limit(RLIMIT_CORE, 1, "RLIMIT_CORE"); /* 0 still runs a core handler behind a pipe; 1 is refused before that */
}

