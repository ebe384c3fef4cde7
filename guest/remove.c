/* rm -r of a tree that hostile code wrote: any depth, any names, any modes. Used by DESTROY and as `tool remove PATH`.
 * Invariant: no link is followed and no mount is entered; what is removed lies below the path the caller named. Descriptors and
 * stack are bounded: a tree deeper than DEEPEST has its deep parts moved to the top first. */
#define _GNU_SOURCE
#include "remove.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "sys.h"
#include "tools.h"

enum { DEEPEST = 32, ENTRIES_BYTES = 4096, TRIES = 4 };

struct removal {
    int64_t left;
    uint32_t moved; /* deep directories that were moved to the top */
    int top;
};

struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int remove_directory(struct removal *removal, int parent, const char *name, int depth);

/* Deep parts go to the top under a name nobody has yet, to be met again by the next pass over the top. */
static int move_up(struct removal *removal, int dir, const char *name) {
    for (;;) {
        char fresh[32];
        snprintf(fresh, sizeof fresh, ".corral-deep-%u", removal->moved++);
        if (syscall(SYS_renameat2, dir, name, removal->top, fresh, 1 /* RENAME_NOREPLACE */) == 0) return 0;
        if (errno != EEXIST) return -errno;
    }
}

static int remove_one(struct removal *removal, int dir, const char *name, uint8_t type, int depth) {
    if (removal->left == 0) return 1;
    if (removal->left > 0) removal->left--;
    if (type != DT_DIR) {
        if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return 0;
        if (errno != EISDIR) return -errno;
    }
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    if (errno != ENOTEMPTY && errno != EEXIST) return -errno;
    return depth == DEEPEST ? move_up(removal, dir, name) : remove_directory(removal, dir, name, depth + 1);
}

static int remove_entries(struct removal *removal, int dir, int depth) {
    _Alignas(8) uint8_t bytes[ENTRIES_BYTES];
    for (;;) {
        long length = syscall(SYS_getdents64, dir, bytes, sizeof bytes);
        if (length < 0) return -errno;
        if (length == 0) return 0;
        for (long at = 0; at < length;) {
            const struct entry *entry = (const struct entry *)(const void *)(bytes + at);
            at += entry->length;
            const char *name = entry->name;
            if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]))) continue;
            int error = remove_one(removal, dir, name, entry->type, depth);
            if (error) return error;
        }
    }
}

static int remove_directory(struct removal *removal, int parent, const char *name, int depth) {
    /* SAFETY: NOFOLLOW, or a link that took the directory's place between listing and opening would lead out of the tree;
     * NO_XDEV, or a mount below it would be emptied. */
    int dir = sys_openat2(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0x01 /* RESOLVE_NO_XDEV */ | NO_SYMLINKS);
    if (dir < 0) return errno == ENOENT ? 0 : -errno;
    if (depth == 0) removal->top = dir;
    int error = 0;
    /* Some file systems skip entries when others vanish while they are listed, and move_up adds to the top: look again. */
    for (int tries = 0; !error; tries++) {
        uint32_t moved = removal->moved;
        error = remove_entries(removal, dir, depth);
        if (error) break;
        if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) break;
        error = -errno;
        if ((error == -ENOTEMPTY || error == -EEXIST) && (tries < TRIES || moved != removal->moved)) error = 0;
        if (lseek(dir, 0, SEEK_SET) < 0) error = -errno;
    }
    close(dir);
    return error;
}

int tree_remove_at(int dir, const char *name, int64_t budget) {
    struct removal removal = {.left = budget, .top = -1};
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? 0 : -errno;
    if (!S_ISDIR(st.st_mode)) return unlinkat(dir, name, 0) != 0 && errno != ENOENT ? -errno : 0;
    return remove_directory(&removal, dir, name, 0);
}

int tree_remove(const char *path, int64_t budget) {
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash || !slash[1] || length >= sizeof parent) return -EINVAL;
    memcpy(parent, path, length);
    parent[length] = 0;
    int dir = open(length ? parent : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return errno == ENOENT ? 0 : -errno;
    int error = tree_remove_at(dir, slash + 1, budget);
    close(dir);
    return error;
}

int tool_remove(int argc, char **argv) {
    if (argc != 2 || argv[1][0] != '/' || strstr(argv[1], "/../") || !argv[1][1]) {
        fputs("remove: wants one absolute path\n", stderr);
        return 1;
    }
    int error = tree_remove(argv[1], REMOVE_ALL);
    if (error == 0) return 0;
    fprintf(stderr, "remove: %s\n", strerror(-error));
    return 1;
}
