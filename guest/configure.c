/* CONFIGURE: what the spawner needs once - the guest program in sealed memory, the filter, the cgroup parents.
 * Invariant: it is answered once; a spawner that could not be configured makes no sandbox. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "spawner.h"
#include "sys.h"

enum { MEMFD_CLOEXEC = 1, MEMFD_SEALABLE = 2, MEMFD_EXEC = 0x10, SEALS = 0x1 | 0x2 | 0x4 | 0x8 };

static int memory_file(void) {
    /* Named neutrally: /proc/1/exe inside shows it. MFD_EXEC since 6.3; before, every memfd is executable. */
    int fd = sys_memfd("corral-guest", MEMFD_CLOEXEC | MEMFD_SEALABLE | MEMFD_EXEC);
    return fd < 0 && errno == EINVAL ? sys_memfd("corral-guest", MEMFD_CLOEXEC | MEMFD_SEALABLE) : fd;
}

/* Step 16's source: a copy that nobody can write. 0 or -errno. */
static int seal_guest(struct spawner *spawner, const char *path) {
    int from = open(path ? path : "/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (from < 0) return -errno;
    int to = memory_file();
    int error = to < 0 ? -errno : 0;
    while (!error) {
        ssize_t count = sendfile(to, from, NULL, 1 << 20);
        if (count == 0) break;
        if (count < 0) error = -errno;
    }
    /* SAFETY: unsealed, uid 0 inside could write the program that the next sandbox runs through /proc/1/exe (CVE-2019-5736). */
    if (!error && (fchmod(to, 0555) != 0 || fcntl(to, F_ADD_SEALS, SEALS) != 0)) error = -errno;
    close(from);
    if (error) close(to);
    else spawner->guest = to;
    return error;
}

static bool has_word(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || !at[length])) return true;
    return false;
}

static int open_cgroups(struct spawner *spawner, const struct configure *configure) {
    struct cgroup_parents *cgroups = &spawner->cgroups;
    if (configure->cg2) {
        cgroups->v2 = open(configure->cg2, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (cgroups->v2 < 0) return -errno;
        if (!(cgroups->v2_path = strdup(configure->cg2))) return -ENOMEM;
        cgroups->v2_memory = has_word(configure->cg2_controllers, "memory");
        cgroups->v2_pids = has_word(configure->cg2_controllers, "pids");
        cgroups->v2_cpu = has_word(configure->cg2_controllers, "cpu");
    }
    for (uint32_t i = 0; i < configure->cg1s; i++) {
        int dir = open(configure->cg1_dir[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0) return -errno;
        strncpy(cgroups->v1[i].name, configure->cg1[i], CONTROLLER_MAX - 1);
        cgroups->v1[i].dir = dir;
        cgroups->v1_count = i + 1;
        if (!(cgroups->v1[i].path = strdup(configure->cg1_dir[i]))) return -ENOMEM;
    }
    return 0;
}

static int raise_nofile(uint64_t wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) != 0 ? -errno : 0;
}

bool facts_put(struct buffer *out) {
    struct utsname name;
    long landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);
    bool ok = uname(&name) == 0 && record_put(out, "version") && record_put(out, GUEST_VERSION);
    ok = ok && record_put(out, "landlock") && record_put_number(out, landlock > 0 ? (uint64_t)landlock : 0);
    return ok && record_put(out, "kernel") && record_put(out, name.release);
}

bool parents_put(const struct cgroup_parents *cgroups, struct buffer *out) {
    char controllers[32] = "";
    if (cgroups->v2_memory) strcat(controllers, "memory,");
    if (cgroups->v2_pids) strcat(controllers, "pids,");
    if (cgroups->v2_cpu) strcat(controllers, "cpu,");
    if (*controllers) controllers[strlen(controllers) - 1] = 0;
    bool ok = cgroups->v2 < 0 || (record_put(out, "cg2") && record_put(out, cgroups->v2_path) && record_put(out, controllers));
    for (uint32_t i = 0; i < cgroups->v1_count && ok; i++)
        ok = record_put(out, "cg1") && record_put(out, cgroups->v1[i].name) && record_put(out, cgroups->v1[i].path);
    return ok;
}

static void answer_facts(struct spawner *spawner, uint32_t request) {
    struct buffer facts = {0};
    if (facts_put(&facts)) answer(spawner, ANSWER_OK, request, buffer_bytes(&facts), buffer_length(&facts));
    else answer_error(spawner, request, ENOMEM, 1, "out of memory");
    buffer_free(&facts);
}

void on_configure(struct spawner *spawner, const struct frame *frame) {
    struct configure *configure = spawner->configured ? NULL : malloc(sizeof *configure);
    if (!configure) {
        answer_error(spawner, frame->id, spawner->configured ? EALREADY : ENOMEM, 0, "the spawner is configured already, or out of memory");
        return;
    }
    const char *message = "";
    int error = 0;
    if (configure_parse(frame->body, frame->length, configure)) {
        message = configure->wrong;
        error = -EINVAL;
    }
    if (!error && (error = seal_guest(spawner, configure->guest)))
        message = "the guest program could not be copied into sealed memory (is vm.memfd_noexec 2?)";
    if (!error && (error = open_cgroups(spawner, configure))) message = "a cgroup directory could not be opened";
    if (!error && configure->nofile && (error = raise_nofile(configure->nofile))) message = "the limit of open files could not be set";
    if (!error) {
        memcpy(spawner->filter, configure->seccomp, configure->seccomp_bytes);
        spawner->filter_bytes = configure->seccomp_bytes;
        strcpy(spawner->mark, configure->mark ? configure->mark : ""); /* parse.c: fits */
        spawner->configured = true;
        answer_facts(spawner, frame->id);
    } else {
        answer_error(spawner, frame->id, -error, 1, message);
    }
    free(configure);
}
