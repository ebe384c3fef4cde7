/* Step 4: the mounts of a sandbox as detached objects, made by the spawner because they need rights and paths that the child must
 * not have. Nothing is attached to a tree here: a mount that is not moved into a sandbox ends with its descriptor.
 * Invariant: mountinfo inside names no path of the host (layers are numbers below a directory of descriptors, sources are type
 * names), and every mount is nosuid and nodev. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "contain.h"
#include "image.h"
#include "sys.h"

enum { LIST_BYTES = 256, NUMBER_BYTES = 16 };

/* Layers of the overlay that is being made: open only until the kernel has looked them up, each on its reserved number. */
struct layers {
    struct spawner *spawner;
    int count;
    int attached; /* a layer that had to be attached for a moment; -1: none */
};

static void layers_close(struct layers *layers) {
    char number[NUMBER_BYTES];
    snprintf(number, sizeof number, "%d", layers->attached);
    /* SAFETY: what was attached in the spawner's mount namespace would be copied into every later sandbox. */
    if (layers->attached >= 0) sys_umount(number, DETACH);
    for (int i = 0; i < layers->count; i++) dup3(layers->spawner->proc, LAYER_FIRST + i, O_CLOEXEC);
    layers->count = 0;
}

static int layer_add(struct layers *layers, int fd) {
    if (fd < 0) return -errno;
    int number = LAYER_FIRST + layers->count;
    int error = dup3(fd, number, O_CLOEXEC) < 0 ? -errno : 0;
    close(fd);
    if (error) return error;
    layers->count++;
    return number;
}

/* SAFETY: NO_MAGICLINKS, or a link into /proc that somebody left on the way would lead to another process's files. Plain links are
 * followed: the caller's own directories may lie behind them. */
static int open_source(const char *path, int flags) { return sys_openat2(AT_FDCWD, path, (uint64_t)(O_PATH | O_CLOEXEC | flags), NO_MAGICLINKS); }

/* `upper` or `work`: made when absent, owned like the root of the topmost lower layer, so that the merged root looks like it. */
static int open_or_make(const char *path, const struct stat *like) {
    int fd = open_source(path, O_DIRECTORY);
    if (fd >= 0 || errno != ENOENT) return fd;
    if (mkdir(path, 0700) != 0) return -1;
    fd = open_source(path, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0) return -1;
    if (fchownat(fd, "", like->st_uid, like->st_gid, AT_EMPTY_PATH) != 0 || chmod(path, like->st_mode & 07777) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* SAFETY: read-only, nosuid, nodev: the tree is the person's own. Without the map uid 0 inside would be nobody to it.
 * The base as seen by the sandbox's user: its owner's id appears as the user's, every other as nobody. */
static int idmapped(struct spawner *spawner, const struct overlay *overlay, const char *path) {
    int userns = idmap_userns(spawner, overlay);
    if (userns < 0) {
        errno = -userns;
        return -1;
    }
    int tree = sys_open_tree(AT_FDCWD, path, TREE_CLONE | O_CLOEXEC);
    if (tree < 0) return -1;
    struct attr_request attributes = {.set = ATTR_IDMAP | ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, .userns_fd = (uint64_t)userns};
    if (sys_mount_setattr(tree, 0, &attributes) != 0) {
        int error = errno;
        close(tree);
        errno = error;
        return -1;
    }
    return tree;
}

/* Appends `separator` and the descriptor's number. False: too many layers for one option. */
static bool list_add(char *list, size_t size, const char *separator, int fd) {
    size_t length = strlen(list);
    int more = snprintf(list + length, size - length, "%s%d", length ? separator : "", fd);
    return more > 0 && (size_t)more < size - length;
}

/* SAFETY: layers_close takes it off again; until then only the spawner's own mount namespace shows it.
 * Before 6.15 overlayfs takes no layer from a detached mount: then it is stacked on "/" of the spawner's own mount namespace, where
 * it hides nothing, until the overlay has its own copy. */
static int attach_layer(struct layers *layers, int fd) {
    if (sys_move_mount(fd, AT_FDCWD, "/", 0) != 0) return -errno;
    layers->attached = fd;
    return 0;
}

static int lower_list(struct making *making, const struct overlay *overlay, struct layers *layers, char *list, struct stat *top) {
    for (uint32_t i = 0; i < overlay->lowers + (uint32_t)overlay->datas; i++) {
        const char *path = making->create->layers[overlay->layer + i];
        bool last = i + 1u == overlay->lowers, data = i >= overlay->lowers;
        int fd = overlay->idmapped && last ? idmapped(making->spawner, overlay, path) : open_source(path, O_DIRECTORY);
        if (fd < 0 && errno == ENOTDIR && !data) fd = image_mount(path); /* a mask may be one file */
        if ((fd = layer_add(layers, fd)) < 0) {
            making->message = "a lower layer of an overlay could not be opened";
            return fd;
        }
        int error = overlay->idmapped && last && making->attach_layers ? attach_layer(layers, fd) : 0;
        if (error) return error;
        if (i == 0 && fstat(fd, top) != 0) return -errno;
        if (!list_add(list, LIST_BYTES, data ? "::" : ":", fd)) {
            making->message = "an overlay has too many layers";
            return -E2BIG;
        }
    }
    return 0;
}

static int set_number(int context, const char *key, int fd) {
    char text[NUMBER_BYTES];
    snprintf(text, sizeof text, "%d", fd);
    return sys_fsconfig(context, FS_SET_STRING, key, text) != 0 ? -errno : 0;
}

static int set_upper(const struct overlay *overlay, struct layers *layers, const struct stat *top, int context) {
    int upper = layer_add(layers, open_or_make(overlay->upper, top));
    if (upper < 0) return upper;
    int work = layer_add(layers, open_or_make(overlay->work, top));
    if (work < 0) return work;
    int error = set_number(context, "upperdir", upper);
    return error ? error : set_number(context, "workdir", work);
}

static int set_options(const struct overlay *overlay, int context) {
    for (uint32_t i = 0; i < overlay->options; i++) {
        char key[32];
        const char *equals = strchr(overlay->option[i], '=');
        int done;
        if (equals) {
            snprintf(key, sizeof key, "%.*s", (int)(equals - overlay->option[i]), overlay->option[i]);
            done = sys_fsconfig(context, FS_SET_STRING, key, equals + 1);
        } else {
            done = sys_fsconfig(context, FS_SET_FLAG, overlay->option[i], NULL);
        }
        if (done != 0) return -errno;
    }
    return 0;
}

static int fill(struct making *making, const struct overlay *overlay, struct layers *layers, int context) {
    char list[LIST_BYTES] = "";
    struct stat top;
    int error = lower_list(making, overlay, layers, list, &top);
    if (error) return error;
    making->message = "the kernel refused an overlay";
    if (sys_fsconfig(context, FS_SET_STRING, "source", "overlay") != 0 || sys_fsconfig(context, FS_SET_STRING, "lowerdir", list) != 0) return -errno;
    if (overlay->upper && (error = set_upper(overlay, layers, &top, context))) {
        making->message = "the upper or work directory of an overlay could not be made or used";
        return error;
    }
    if ((error = set_options(overlay, context))) return error;
    return sys_fsconfig(context, FS_CREATE, NULL, NULL) != 0 ? -errno : 0;
}

static int overlay_try(struct making *making, const struct overlay *overlay, uint32_t attributes) {
    struct layers layers = {.spawner = making->spawner, .attached = -1};
    int context = sys_fsopen("overlay");
    if (context < 0) {
        making->message = "this kernel has no overlay file system";
        return -errno;
    }
    int error = fill(making, overlay, &layers, context);
    int mount = error ? -1 : sys_fsmount(context, attributes);
    if (!error && mount < 0) error = -errno;
    layers_close(&layers);
    close(context);
    return error ? error : mount;
}

int overlay_make(struct making *making, const struct overlay *overlay, uint32_t attributes) {
    int mount = overlay_try(making, overlay, attributes);
    if (mount != -EINVAL || !overlay->idmapped || making->attach_layers) return mount;
    making->attach_layers = true;
    return overlay_try(making, overlay, attributes);
}

static int bind_make(struct making *making, const struct mount *mount, uint32_t attributes) {
    int source = open_source(mount->source, 0);
    int tree = source < 0 ? -1 : sys_open_tree(source, "", TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH);
    /* In a user namespace a tree may not be taken without the mounts that are locked onto it: then with them. */
    unsigned recursive = 0;
    if (source >= 0 && tree < 0 && errno == EINVAL) {
        tree = sys_open_tree(source, "", TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | TREE_RECURSIVE);
        recursive = TREE_RECURSIVE;
    }
    int error = tree < 0 ? -errno : 0;
    if (source >= 0) close(source);
    /* SAFETY: on the whole tree that was taken, or a mount below it would stay writable, with devices and setuid programs. */
    struct attr_request request = {.set = attributes};
    if (!error && sys_mount_setattr(tree, recursive, &request) != 0) {
        error = -errno;
        close(tree);
    }
    if (error) making->message = "a bind mount could not be made";
    return error ? error : tree;
}

int mount_make(struct making *making, const struct mount *mount) {
    uint32_t attributes = ATTR_NOSUID | ATTR_NODEV;
    if (!mount->exec) attributes |= ATTR_NOEXEC;
    switch (mount->kind) {
    case MOUNT_OVERLAY:
        /* SAFETY: without an upper nothing can be written, but times would still be; and the flag is what programs read. */
        return overlay_make(making, &mount->overlay, attributes | (mount->overlay.upper ? 0 : ATTR_RDONLY));
    case MOUNT_BIND: return bind_make(making, mount, attributes | (mount->read_only ? ATTR_RDONLY : 0));
    case MOUNT_DEV: return making->spawner->rootless ? -1 : dev_make(making);
    default: return -1; /* proc, devpts, tmpfs, files: in the child, so that they belong to its namespaces */
    }
}

int egress_make(struct making *making) {
    if (!making->create->egress_dir) return 0;
    const struct mount mount = {.kind = MOUNT_BIND, .source = making->create->egress_dir, .read_only = 1};
    struct stat info;
    making->egress = mount_make(making, &mount);
    if (making->egress < 0) return making->egress;
    making->message = "the egress proxy's socket lies in no directory";
    return fstat(making->egress, &info) != 0 ? -errno : S_ISDIR(info.st_mode) ? 0 : -ENOTDIR;
}

int mounts_make(struct making *making) {
    for (uint32_t i = 0; i < making->create->mounts; i++) {
        const struct mount *mount = &making->create->mount[i];
        bool ours = mount->kind == MOUNT_OVERLAY || mount->kind == MOUNT_BIND || (mount->kind == MOUNT_DEV && !making->spawner->rootless);
        int fd = mount_make(making, mount);
        if (ours && fd < 0) return fd;
        making->mount[i] = ours ? fd : -1;
    }
    return 0;
}
