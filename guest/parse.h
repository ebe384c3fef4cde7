/* What the spawner is told, as data. No I/O here: bytes in, a checked struct out, so that it can be fuzzed.
 * Every string points into the payload, which must outlive the struct.
 * Invariant: a struct that a parser accepted holds no relative path, no "..", no number out of range and no count above its
 * table: what works with it afterwards need not check again. */
#ifndef CORRAL_PARSE_H
#define CORRAL_PARSE_H

#include <stddef.h>
#include <stdint.h>

enum {
    ID_MIN = 2,
    ID_MAX = 32,
    IDMAPS_MAX = 8,
    MOUNTS_MAX = 64,
    LAYERS_MAX = 256,
    OVERLAY_LAYERS_MAX = 64,
    OVERLAY_OPTIONS_MAX = 8,
    ENV_MAX = 512,
    PROC_MAX = 96,
    LAUNCH_MAX = 512,
    SCRUB_MAX = 16,
    TOOL_ARGS_MAX = 256,
    CG1_MAX = 8,
    SECCOMP_BYTES_MAX = 32768, /* BPF_MAXINSNS instructions of 8 bytes */
    STEP_MAX = 24,
    MARK_MAX = 64,
    EGRESS_NAME_MAX = 64,
    EGRESS_PORTS_MAX = 16,
};

enum mount_kind { MOUNT_OVERLAY, MOUNT_BIND, MOUNT_TMPFS, MOUNT_PROC, MOUNT_DEVPTS, MOUNT_DEV, MOUNT_FILE };
enum proc_kind { PROC_HIDE, PROC_FILE, PROC_READONLY };

struct idrange {
    uint32_t inside, outside, count;
};

struct overlay {
    uint16_t layer;  /* first of `lowers` + `datas` paths in create.layers, topmost first, data-only ones last */
    uint16_t lowers;
    uint16_t datas;
    uint16_t options;
    const char *option[OVERLAY_OPTIONS_MAX];
    const char *upper, *work; /* NULL: read-only */
    int idmapped;
    uint32_t from_uid, from_gid, to_uid, to_gid;
};

struct mount {
    enum mount_kind kind;
    const char *target; /* absolute inside, normal form */
    int exec, read_only, own;
    uint64_t bytes, inodes;
    uint32_t mode;
    const char *source; /* MOUNT_BIND: path; MOUNT_FILE: content */
    struct overlay overlay;
};

struct proc_item {
    enum proc_kind kind;
    const char *name, *content;
};

struct create {
    const char *id, *socket, *journal, *hostname;
    struct idrange idmap[IDMAPS_MAX];
    uint32_t idmaps;
    uint32_t uid, gid;
    uint64_t memory, pids, cpu_quota, cpu_period, nofile; /* 0: no limit asked for */
    const char *env[ENV_MAX];
    uint32_t envs;
    struct mount mount[MOUNTS_MAX];
    uint32_t mounts;
    const char *layers[LAYERS_MAX];
    uint32_t layer_count;
    struct proc_item proc[PROC_MAX];
    uint32_t procs;
    const char *egress_dir, *egress_name; /* NULL: no network but the sandbox's own loopback */
    uint32_t egress_uid, egress_gid;
    uint32_t egress_port[EGRESS_PORTS_MAX];
    uint32_t egress_ports;
    int offer_root;  /* EXEC may ask for uid 0 inside */
    uint32_t weaken; /* bit N: step N is left out */
    const char *launch[LAUNCH_MAX + 1]; /* NULL-terminated */
    uint32_t launches;
    const char *wrong; /* why it was refused */
};

struct configure {
    uint8_t seccomp[SECCOMP_BYTES_MAX];
    uint32_t seccomp_bytes;
    const char *guest, *mark;
    const char *cg2, *cg2_controllers;
    const char *cg1[CG1_MAX], *cg1_dir[CG1_MAX];
    uint32_t cg1s;
    uint64_t nofile;
    const char *wrong;
};

struct destroy {
    const char *id;
    const char *scrub[SCRUB_MAX];
    uint32_t scrubs;
    const char *wrong;
};

struct freeze {
    const char *id;
    int frozen;
    const char *wrong;
};

struct tool_request {
    const char *arg[TOOL_ARGS_MAX + 1]; /* NULL-terminated */
    uint32_t args;
    const char *wrong;
};

/* Each returns 0, or -1 with `wrong` set. */
int create_parse(const uint8_t *bytes, size_t length, struct create *create);
int configure_parse(const uint8_t *bytes, size_t length, struct configure *configure);
int destroy_parse(const uint8_t *bytes, size_t length, struct destroy *destroy);
/* The id and one overlay, as mount[1]: mount[0] stands for the root that is there. */
int mount_parse(const uint8_t *bytes, size_t length, struct create *create);
int freeze_parse(const uint8_t *bytes, size_t length, struct freeze *freeze);
int tool_parse(const uint8_t *bytes, size_t length, struct tool_request *tool);

/* Outside id of an inside id; -1 when it is not mapped. */
int64_t idmap_outside(const struct create *create, uint32_t inside);

#endif
