/* Turns the records of CONFIGURE, CREATE, DESTROY and TOOL into checked structs (parse.h). Does no I/O and allocates nothing.
 * It does not judge whether a sandbox makes sense to the kernel.
 * Invariant: nothing malformed reaches a system call. */
#define _GNU_SOURCE
#include "parse.h"

#include "frame.h"

#include <limits.h>
#include <string.h>

static int bad_number(const char *text, uint64_t most, uint64_t *value) {
    return !record_number(text, most, value);
}

static int number32(const char *text, uint32_t most, uint32_t *value) {
    uint64_t wide;
    if (!record_number(text, most, &wide))
        return -1;
    *value = (uint32_t)wide;
    return 0;
}

static int flag_parse(const char *text, int *value) {
    if ((text[0] != '0' && text[0] != '1') || text[1])
        return -1;
    *value = text[0] == '1';
    return 0;
}

/* Components without "." and ".."; `text` begins at a component. */
static int components_ok(const char *text) {
    for (;;) {
        size_t length = strcspn(text, "/");
        if (length == 0 || length > NAME_MAX)
            return 0;
        if (text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.')))
            return 0;
        if (!text[length])
            return 1;
        text += length + 1;
    }
}

/* SAFETY: a path of the host is opened as it stands, so "..", "//" and relative spellings are refused here: without this a
 * caller that joined names could be led out of the directory it meant. */
static int path_ok(const char *text) {
    if (text[0] != '/' || strlen(text) >= PATH_MAX)
        return 0;
    return !text[1] || components_ok(text + 1);
}

static int relative_ok(const char *text) {
    return strlen(text) < PATH_MAX && components_ok(text);
}

static int id_ok(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");
    return !text[length] && length >= ID_MIN && length <= ID_MAX;
}

static int hostname_ok(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
    return !text[length] && length >= 1 && length <= 64;
}

/* SAFETY: options that name layers would put a host path into mountinfo and a directory nobody checked into the mount. */
static int overlay_option_ok(const char *text) {
    static const char *const allowed[] = {"metacopy=on", "metacopy=off", "redirect_dir=on", "redirect_dir=off", "redirect_dir=nofollow",
        "redirect_dir=follow", "index=off", "xino=on", "xino=off", "xino=auto", "userxattr", "volatile", "nfs_export=off"};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (!strcmp(text, allowed[i]))
            return 1;
    return 0;
}

static int one_path(const char **slot, const char *text) {
    if (*slot || !path_ok(text))
        return -1;
    *slot = text;
    return 0;
}

static struct mount *new_mount(struct create *create, enum mount_kind kind, const char *target) {
    if (create->mounts == MOUNTS_MAX || !path_ok(target))
        return NULL;
    /* Nothing can be mounted before the root, and the root can only be a tree. */
    int root = !target[1];
    if (root != (create->mounts == 0) || (root && kind != MOUNT_OVERLAY && kind != MOUNT_BIND))
        return NULL;
    struct mount *mount = &create->mount[create->mounts++];
    memset(mount, 0, sizeof *mount);
    mount->kind = kind;
    mount->target = target;
    return mount;
}

static int add_layer(struct create *create, struct overlay *overlay, const char *path, int data) {
    if (!path_ok(path) || create->layer_count == LAYERS_MAX || overlay->lowers + overlay->datas == OVERLAY_LAYERS_MAX)
        return -1;
    if (!data && overlay->datas) /* data-only layers stand below all others */
        return -1;
    create->layers[create->layer_count++] = path;
    if (data)
        overlay->datas++;
    else
        overlay->lowers++;
    return 0;
}

static int parse_idmap_lower(struct record_walk *walk, struct overlay *overlay) {
    uint32_t *slot[4] = {&overlay->from_uid, &overlay->from_gid, &overlay->to_uid, &overlay->to_gid};
    for (int i = 0; i < 4; i++) {
        const char *text = record_next(walk);
        if (!text || number32(text, UINT32_MAX - 1, slot[i]))
            return -1;
    }
    overlay->idmapped = 1;
    return 0;
}

/* The lines between `overlay` and `end`. */
static int parse_overlay_body(struct record_walk *walk, struct create *create, struct overlay *overlay) {
    overlay->layer = (uint16_t)create->layer_count;
    for (;;) {
        const char *verb = record_next(walk);
        if (!verb)
            return -1;
        if (!strcmp(verb, "end"))
            return overlay->lowers && !overlay->upper == !overlay->work ? 0 : -1;
        if (!strcmp(verb, "idmap-lower")) {
            if (overlay->idmapped || parse_idmap_lower(walk, overlay))
                return -1;
            continue;
        }
        const char *value = record_next(walk);
        int bad = !value;
        if (bad)
            return -1;
        if (!strcmp(verb, "lower"))
            bad = add_layer(create, overlay, value, 0);
        else if (!strcmp(verb, "data"))
            bad = add_layer(create, overlay, value, 1);
        else if (!strcmp(verb, "upper"))
            bad = one_path(&overlay->upper, value);
        else if (!strcmp(verb, "work"))
            bad = one_path(&overlay->work, value);
        else if (!strcmp(verb, "opt") && overlay->options < OVERLAY_OPTIONS_MAX && overlay_option_ok(value))
            overlay->option[overlay->options++] = value;
        else
            bad = 1;
        if (bad)
            return -1;
    }
}

static int on_overlay(struct create *create, struct record_walk *walk, const char **arg) {
    struct mount *mount = new_mount(create, MOUNT_OVERLAY, arg[0]);
    if (!mount || flag_parse(arg[1], &mount->exec))
        return -1;
    return parse_overlay_body(walk, create, &mount->overlay);
}

static int on_bind(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    struct mount *mount = new_mount(create, MOUNT_BIND, arg[0]);
    if (!mount || !path_ok(arg[1]))
        return -1;
    mount->source = arg[1];
    return flag_parse(arg[2], &mount->read_only) || flag_parse(arg[3], &mount->exec) ? -1 : 0;
}

static int on_tmpfs(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    struct mount *mount = new_mount(create, MOUNT_TMPFS, arg[0]);
    if (!mount || bad_number(arg[1], INT64_MAX, &mount->bytes) || bad_number(arg[2], INT64_MAX, &mount->inodes))
        return -1;
    /* tmpfs reads 0 as "no limit". */
    if (!mount->bytes || !mount->inodes)
        return -1;
    return number32(arg[3], 07777, &mount->mode) || flag_parse(arg[4], &mount->own) ? -1 : 0;
}

static int on_proc(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    for (uint32_t i = 0; i < create->mounts; i++) /* the masks of step 12 belong to one proc: a second would stand bare */
        if (create->mount[i].kind == MOUNT_PROC)
            return -1;
    return new_mount(create, MOUNT_PROC, arg[0]) ? 0 : -1;
}

static int on_devpts(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return new_mount(create, MOUNT_DEVPTS, arg[0]) ? 0 : -1;
}

static int on_dev(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return new_mount(create, MOUNT_DEV, arg[0]) ? 0 : -1;
}

static int on_file(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    struct mount *mount = new_mount(create, MOUNT_FILE, arg[0]);
    if (!mount || number32(arg[1], 0777, &mount->mode))
        return -1;
    mount->source = arg[2];
    return 0;
}

static int add_proc(struct create *create, enum proc_kind kind, const char *name, const char *content) {
    if (create->procs == PROC_MAX || !relative_ok(name))
        return -1;
    create->proc[create->procs++] = (struct proc_item){.kind = kind, .name = name, .content = content};
    return 0;
}

static int on_prochide(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return add_proc(create, PROC_HIDE, arg[0], NULL);
}

static int on_procfile(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return add_proc(create, PROC_FILE, arg[0], arg[1]);
}

static int on_procro(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return add_proc(create, PROC_READONLY, arg[0], NULL);
}

static int on_id(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    if (create->id || !id_ok(arg[0]))
        return -1;
    create->id = arg[0];
    return 0;
}

static int on_socket(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    /* sockaddr_un holds 108 bytes with the NUL. */
    return strlen(arg[0]) > 107 ? -1 : one_path(&create->socket, arg[0]);
}

static int on_journal(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return one_path(&create->journal, arg[0]);
}

static int on_hostname(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    if (create->hostname || !hostname_ok(arg[0]))
        return -1;
    create->hostname = arg[0];
    return 0;
}

static int on_idmap(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    if (create->idmaps == IDMAPS_MAX)
        return -1;
    struct idrange *range = &create->idmap[create->idmaps++];
    if (number32(arg[0], UINT32_MAX - 1, &range->inside) || number32(arg[1], UINT32_MAX - 1, &range->outside) || number32(arg[2], UINT32_MAX - 1, &range->count))
        return -1;
    /* SAFETY: outside 0 is the owner of base files (root mode: the node's root); step 2 needs it unmapped, else uid 0 inside owns them. */
    if (!range->count || !range->outside)
        return -1;
    return range->inside > UINT32_MAX - range->count || range->outside > UINT32_MAX - range->count ? -1 : 0;
}

static int on_user(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return number32(arg[0], UINT32_MAX - 1, &create->uid) || number32(arg[1], UINT32_MAX - 1, &create->gid) ? -1 : 0;
}

static int on_root(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return flag_parse(arg[0], &create->offer_root);
}

static int on_memory(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return bad_number(arg[0], INT64_MAX, &create->memory) || !create->memory ? -1 : 0;
}

static int on_pids(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return bad_number(arg[0], 4194304, &create->pids) || !create->pids ? -1 : 0;
}

static int on_cpu(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    /* The kernel takes quotas from 1 ms and periods of 1 ms to 1 s. */
    if (bad_number(arg[0], 1000000000, &create->cpu_quota) || bad_number(arg[1], 1000000, &create->cpu_period))
        return -1;
    return create->cpu_quota < 1000 || create->cpu_period < 1000 ? -1 : 0;
}

static int on_nofile(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    return bad_number(arg[0], 1048576, &create->nofile) || create->nofile < 16 ? -1 : 0;
}

static int on_env(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    const char *equals = strchr(arg[0], '=');
    if (create->envs == ENV_MAX || !equals || equals == arg[0])
        return -1;
    create->env[create->envs++] = arg[0];
    return 0;
}

static int on_weaken(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    uint32_t step;
    if (number32(arg[0], STEP_MAX, &step) || !step)
        return -1;
    create->weaken |= 1u << step;
    return 0;
}

static int on_launch(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    if (create->launches == LAUNCH_MAX || (!create->launches && !path_ok(arg[0])))
        return -1;
    create->launch[create->launches++] = arg[0];
    create->launch[create->launches] = NULL;
    return 0;
}

struct verb {
    const char *name;
    int strings;
    int (*handle)(struct create *, struct record_walk *, const char **);
};

static const struct verb verbs[] = {
    {"overlay", 2, on_overlay}, {"bind", 4, on_bind}, {"tmpfs", 5, on_tmpfs}, {"env", 1, on_env}, {"prochide", 1, on_prochide},
    {"procfile", 2, on_procfile}, {"procro", 1, on_procro}, {"launch", 1, on_launch}, {"file", 3, on_file}, {"idmap", 3, on_idmap},
    {"id", 1, on_id}, {"socket", 1, on_socket}, {"journal", 1, on_journal}, {"hostname", 1, on_hostname}, {"user", 2, on_user},
    {"memory", 1, on_memory}, {"pids", 1, on_pids}, {"cpu", 2, on_cpu}, {"nofile", 1, on_nofile}, {"proc", 1, on_proc},
    {"devpts", 1, on_devpts}, {"dev", 1, on_dev}, {"weaken", 1, on_weaken}, {"root", 1, on_root},
};

static int apply_verb(const char *name, struct record_walk *walk, struct create *create) {
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(name, verbs[i].name))
            continue;
        const char *arg[5] = {0};
        for (int n = 0; n < verbs[i].strings; n++)
            if (!(arg[n] = record_next(walk)))
                return -1;
        return verbs[i].handle(create, walk, arg);
    }
    return -1;
}

int64_t idmap_outside(const struct create *create, uint32_t inside) {
    for (uint32_t i = 0; i < create->idmaps; i++) {
        const struct idrange *range = &create->idmap[i];
        if (inside >= range->inside && inside - range->inside < range->count)
            return (int64_t)range->outside + (inside - range->inside);
    }
    return -1;
}

static const char *create_complete(const struct create *create) {
    if (!create->id || !create->socket || !create->hostname)
        return "id, socket or hostname is missing";
    if (!create->launches && !create->mounts)
        return "no mount is given";
    if (idmap_outside(create, 0) < 0)
        return "no idmap covers uid 0 inside";
    if (idmap_outside(create, create->uid) < 0 || idmap_outside(create, create->gid) < 0)
        return "no idmap covers the user";
    for (uint32_t i = 0; i < create->mounts; i++) {
        const struct mount *mount = &create->mount[i];
        if (mount->kind == MOUNT_FILE && i == 0)
            return "a file cannot be the root";
    }
    return NULL;
}

int create_parse(const uint8_t *bytes, size_t length, struct create *create) {
    memset(create, 0, sizeof *create);
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *name = record_next(&walk);
        if (!name || apply_verb(name, &walk, create)) {
            create->wrong = "a record is unknown, cut off or out of range";
            return -1;
        }
    }
    create->wrong = create_complete(create);
    return create->wrong ? -1 : 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static int add_seccomp(struct configure *configure, const char *hex) {
    for (; *hex; hex += 2) {
        int high = hex_digit(hex[0]), low = high < 0 ? -1 : hex_digit(hex[1]);
        if (low < 0 || configure->seccomp_bytes == SECCOMP_BYTES_MAX)
            return -1;
        configure->seccomp[configure->seccomp_bytes++] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static int name_ok(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    return !text[length] && length >= 1 && length <= 32;
}

static int configure_record(struct configure *configure, struct record_walk *walk, const char *verb) {
    const char *first = record_next(walk);
    if (!first)
        return -1;
    if (!strcmp(verb, "seccomp"))
        return add_seccomp(configure, first);
    if (!strcmp(verb, "guest"))
        return one_path(&configure->guest, first);
    if (!strcmp(verb, "nofile"))
        return bad_number(first, 1048576, &configure->nofile);
    const char *second = record_next(walk);
    if (!second)
        return -1;
    if (!strcmp(verb, "cg2")) {
        configure->cg2_controllers = second;
        return one_path(&configure->cg2, first);
    }
    if (!strcmp(verb, "cg1") && configure->cg1s < CG1_MAX && name_ok(first) && path_ok(second)) {
        configure->cg1[configure->cg1s] = first;
        configure->cg1_dir[configure->cg1s++] = second;
        return 0;
    }
    return -1;
}

int configure_parse(const uint8_t *bytes, size_t length, struct configure *configure) {
    memset(configure, 0, sizeof *configure);
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk);
        if (!verb || configure_record(configure, &walk, verb)) {
            configure->wrong = "a record is unknown, cut off or out of range";
            return -1;
        }
    }
    if (configure->seccomp_bytes % 8) {
        configure->wrong = "the seccomp program is not a whole number of instructions";
        return -1;
    }
    return 0;
}

int destroy_parse(const uint8_t *bytes, size_t length, struct destroy *destroy) {
    memset(destroy, 0, sizeof *destroy);
    destroy->wrong = "a record is unknown, cut off or out of range";
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk), *value = verb ? record_next(&walk) : NULL;
        if (!value)
            return -1;
        if (!strcmp(verb, "id") && !destroy->id && id_ok(value))
            destroy->id = value;
        /* SAFETY: the tree is removed with the spawner's rights; "/" or a spelling with ".." would be the node itself. */
        else if (!strcmp(verb, "scrub") && destroy->scrubs < SCRUB_MAX && path_ok(value) && value[1])
            destroy->scrub[destroy->scrubs++] = value;
        else
            return -1;
    }
    if (!destroy->id)
        return -1;
    destroy->wrong = NULL;
    return 0;
}

int tool_parse(const uint8_t *bytes, size_t length, struct tool_request *tool) {
    memset(tool, 0, sizeof *tool);
    tool->wrong = "a record is unknown, cut off or out of range";
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *verb = record_next(&walk), *value = verb ? record_next(&walk) : NULL;
        if (!value || strcmp(verb, "arg") || tool->args == TOOL_ARGS_MAX)
            return -1;
        tool->arg[tool->args++] = value;
    }
    if (!tool->args)
        return -1;
    tool->wrong = NULL;
    return 0;
}
