/* Fuzzes what the spawner is asked (CREATE, MOUNT, CONFIGURE, DESTROY, FREEZE, TOOL) and what PID 1 is handed over. No I/O.
 * The first byte chooses the parser. Properties: an accepted struct points only into its bytes and keeps its tables' bounds;
 * the same bytes with one more behind them are not read differently up to there (a walk that left its end would be).
 * fuzz-sources: frame.c buffer.c parse.c parse-create.c parse-words.c facts.c seccomp.c step.c */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facts.h"
#include "parse.h"
#include "seccomp.h"

static const uint8_t *from;
static size_t room;

static void must(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "property broken: %s\n", what);
    abort();
}

static void inside(const char *text) {
    if (!text) return;
    const uint8_t *at = (const uint8_t *)text;
    must(at >= from && at < from + room, "a string begins inside the payload");
    must(memchr(at, 0, (size_t)(from + room - at)) != NULL, "a string ends inside the payload");
}

static void absolute(const char *path) {
    if (!path) return;
    inside(path);
    must(path[0] == '/', "a path is absolute");
    must(strstr(path, "/../") == NULL && !(strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0), "a path does not climb");
}

static void check_mounts(const struct create *create) {
    for (uint32_t i = 0; i < create->layer_count; i++) absolute(create->layers[i]);
    for (uint32_t i = 0; i < create->mounts; i++) {
        const struct mount *mount = &create->mount[i];
        absolute(mount->target), inside(mount->source);
        if (mount->kind == MOUNT_BIND) absolute(mount->source);
        if (mount->kind != MOUNT_OVERLAY) continue;
        must((uint32_t)mount->overlay.layer + mount->overlay.lowers + mount->overlay.datas <= create->layer_count, "layers are those that were named");
        must(mount->overlay.options <= OVERLAY_OPTIONS_MAX, "tables keep their bounds");
        absolute(mount->overlay.upper), absolute(mount->overlay.work);
    }
}

static void check_mount(const uint8_t *bytes, size_t length) {
    static struct create create;
    if (mount_parse(bytes, length, &create) != 0) {
        must(create.wrong != NULL, "a refusal has a reason");
        return;
    }
    inside(create.id);
    must(create.mounts == 2 && create.mount[1].kind == MOUNT_OVERLAY && create.mount[1].target[1], "one overlay, and not the root");
    check_mounts(&create);
}

static void check_create(const uint8_t *bytes, size_t length) {
    static struct create create;
    if (create_parse(bytes, length, &create) != 0) {
        must(create.wrong != NULL, "a refusal has a reason");
        return;
    }
    size_t id = create.id ? strlen(create.id) : 0;
    must(id >= ID_MIN && id <= ID_MAX && strspn(create.id, "abcdefghijklmnopqrstuvwxyz0123456789") == id, "an id names no other directory");
    inside(create.id), inside(create.hostname), absolute(create.socket), absolute(create.journal);
    must(create.idmaps <= IDMAPS_MAX && create.envs <= ENV_MAX && create.mounts <= MOUNTS_MAX && create.procs <= PROC_MAX, "tables keep their bounds");
    must(create.layer_count <= LAYERS_MAX && create.launches <= LAUNCH_MAX, "tables keep their bounds");
    for (uint32_t i = 0; i < create.envs; i++) inside(create.env[i]);
    check_mounts(&create);
    absolute(create.egress_dir), inside(create.egress_name);
    must(!create.egress_dir == !create.egress_name && create.egress_ports <= EGRESS_PORTS_MAX, "egress is whole");
    must(!create.egress_name || (!strchr(create.egress_name, '/') && create.egress_name[0] != '.'), "the proxy's socket is a plain name");
    must(!create.egress_dir || (create.egress_uid && create.egress_uid != create.uid), "the relay has an id of its own");
    for (uint32_t i = 0; i < create.procs; i++) inside(create.proc[i].name), inside(create.proc[i].content);
    must(create.launch[create.launches] == NULL, "the launch argv ends");
    for (uint32_t i = 0; i < create.launches; i++) inside(create.launch[i]);
}

static void check_configure(const uint8_t *bytes, size_t length) {
    static struct configure configure;
    if (configure_parse(bytes, length, &configure) != 0) return;
    must(configure.seccomp_bytes <= SECCOMP_BYTES_MAX && configure.cg1s <= CG1_MAX, "tables keep their bounds");
    absolute(configure.guest), absolute(configure.cg2), inside(configure.cg2_controllers), inside(configure.mark);
    must(!configure.mark || strlen(configure.mark) <= MARK_MAX, "a mark fits where it is kept");
    for (uint32_t i = 0; i < configure.cg1s; i++) inside(configure.cg1[i]), absolute(configure.cg1_dir[i]);
}

static void check_destroy(const uint8_t *bytes, size_t length) {
    struct destroy destroy;
    if (destroy_parse(bytes, length, &destroy) != 0) return;
    must(destroy.scrubs <= SCRUB_MAX, "tables keep their bounds");
    inside(destroy.id);
    for (uint32_t i = 0; i < destroy.scrubs; i++) absolute(destroy.scrub[i]);
}

static void check_freeze(const uint8_t *bytes, size_t length) {
    struct freeze freeze;
    if (freeze_parse(bytes, length, &freeze) != 0) return;
    must(freeze.frozen == 0 || freeze.frozen == 1, "a flag is a flag");
    inside(freeze.id);
}

static void check_tool(const uint8_t *bytes, size_t length) {
    struct tool_request tool;
    if (tool_parse(bytes, length, &tool) != 0) return;
    must(tool.args <= TOOL_ARGS_MAX && tool.arg[tool.args] == NULL, "tables keep their bounds");
    for (uint32_t i = 0; i < tool.args; i++) inside(tool.arg[i]);
}

static void check_facts(uint8_t *bytes, size_t length) {
    static struct facts facts;
    if (facts_parse(&facts, bytes, length) == NULL) {
        must(facts.envs <= FACTS_ENV && facts.landlocks <= FACTS_LANDLOCK, "tables keep their bounds");
        for (size_t i = 0; i < facts.envs; i++) inside(facts.env[i]);
        for (size_t i = 0; i < facts.landlocks; i++) inside(facts.landlock[i].path);
        inside(facts.egress);
        must(facts.egress_port_count <= FACTS_PORTS && (!facts.egress || (facts.egress_uid && facts.egress_uid != facts.uid)), "the relay has an id of its own");
        must(facts.filter_length > 0 || left_out(&facts, 22), "no filter only when it is left out");
        static const uint32_t words[COOKIE_WORDS] = {1, 2, 3, 4, 5, 6, 7, 8};
        if (facts.filter && seccomp_patch(facts.filter, facts.filter_length, words) == COOKIE_WORDS)
            must(seccomp_patch(facts.filter, facts.filter_length, words) == 0, "no placeholder is left behind");
    }
    free(facts.filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    /* A copy without a byte to spare: a walk over the end is seen. */
    uint8_t *bytes = malloc(size - 1 ? size - 1 : 1);
    if (!bytes) abort();
    memcpy(bytes, data + 1, size - 1);
    from = bytes, room = size - 1;
    switch (data[0] % 7) {
        case 0: check_create(bytes, room); break;
        case 1: check_configure(bytes, room); break;
        case 2: check_destroy(bytes, room); break;
        case 3: check_tool(bytes, room); break;
        case 5: check_freeze(bytes, room); break;
        case 6: check_mount(bytes, room); break;
        default: check_facts(bytes, room);
    }
    free(bytes);
    return 0;
}
