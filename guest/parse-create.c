/* CREATE: the records of one sandbox as a checked struct (parse.h). Does no I/O and allocates nothing.
 * It does not judge whether a sandbox makes sense to the kernel.
 * Invariant: nothing malformed reaches a system call. */
#define _GNU_SOURCE
#include <string.h>

#include "frame.h"
#include "parse-words.h"

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

static int on_egress(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    /* SAFETY: a name, not a way: it is looked up by a process inside. */
    if (!arg[1][0] || strlen(arg[1]) > EGRESS_NAME_MAX || arg[1][0] == '.' || strchr(arg[1], '/') || one_path(&create->egress_dir, arg[0]))
        return -1;
    create->egress_name = arg[1];
    return number32(arg[2], UINT32_MAX - 1, &create->egress_uid) || number32(arg[3], UINT32_MAX - 1, &create->egress_gid) ? -1 : 0;
}

static int on_egress_port(struct create *create, struct record_walk *walk, const char **arg) {
    (void)walk;
    uint32_t port;
    if (create->egress_ports == EGRESS_PORTS_MAX || number32(arg[0], UINT16_MAX, &port) || !port)
        return -1;
    create->egress_port[create->egress_ports++] = port;
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
    {"egress", 4, on_egress}, {"egress-port", 1, on_egress_port},
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
    if (create->egress_dir) {
        if (idmap_outside(create, create->egress_uid) < 0 || idmap_outside(create, create->egress_gid) < 0)
            return "no idmap covers the egress relay";
        /* SAFETY: its own id, or a command could end the relay; and never in the node's own network. */
        if (!create->egress_uid || !create->egress_gid || create->egress_uid == create->uid || create->weaken >> 6 & 1u)
            return "egress needs an id of its own and a network of its own";
    }
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

int mount_parse(const uint8_t *bytes, size_t length, struct create *create) {
    memset(create, 0, sizeof *create);
    create->mounts = 1; /* the root: what is added lies below it */
    create->wrong = "a record is unknown, cut off or out of range";
    struct record_walk walk;
    record_begin(&walk, bytes, length);
    while (walk.at != walk.end) {
        const char *name = record_next(&walk);
        if (!name || (strcmp(name, "id") && (strcmp(name, "overlay") || create->mounts > 1)) || apply_verb(name, &walk, create))
            return -1;
    }
    if (!create->id || create->mounts != 2)
        return -1;
    create->wrong = NULL;
    return 0;
}
