/* What a client of PID 1 may ask, as structs. Pure: the fuzzer drives it.
 * Invariant: a request that request_parse accepted points only into its frame, and each of its strings ends inside it. */
#ifndef CORRAL_REQUEST_H
#define CORRAL_REQUEST_H

#include "frame.h"

enum request_type {
    REQUEST_EXEC = 1, REQUEST_STDIN, REQUEST_STDIN_EOF, REQUEST_SIGNAL, REQUEST_STOP, REQUEST_RESIZE, REQUEST_CREDIT, REQUEST_PING, REQUEST_KILL_ALL,
    REQUEST_CONTROL_IN, REQUEST_STDIN_AGAIN, REQUEST_LIST, REQUEST_ATTACH, REQUEST_FORGET,
    REQUEST_HOLD = 20, REQUEST_RELEASE,
};
enum answer_type {
    ANSWER_READY = 64, ANSWER_OK, ANSWER_STARTED, ANSWER_STDOUT, ANSWER_STDERR, ANSWER_EXIT, ANSWER_STDIN_CREDIT, ANSWER_PONG,
    ANSWER_CONTROL, ANSWER_CONTROL_CREDIT, ANSWER_KEPT, ANSWER_ATTACHED, ANSWER_DETACHED,
};
enum exec_flag {
    EXEC_PTY = 1, EXEC_STDIN = 2, EXEC_MERGE = 4, EXEC_TIED = 8, EXEC_ROOT = 16, EXEC_KEEP = 32, EXEC_CONTROL = 64, EXEC_WORKER = 128,
    EXEC_FORKER = 256, EXEC_FORKED = 512, EXEC_ALL_FLAGS = 1023,
};
enum signal_scope { SCOPE_GROUP, SCOPE_TREE };
enum { EXEC_HEAD_BYTES = 32, MAX_PING_BYTES = 64, MAX_SIGNAL = 64, MAX_KEY_BYTES = 64, MAX_NOTE_BYTES = 4096, ATTACH_HEAD_BYTES = 8 };

struct exec_request {
    uint32_t flags, timeout_ms, idle_ms, grace_ms;
    uint64_t output_cap;
    uint16_t rows, cols, argc, envc;
    const char *cwd;
    const char *argv; /* the first of argc strings, one behind the other; the envc of the environment follow */
    const char *key, *note; /* with EXEC_KEEP, else NULL */
};

struct request {
    uint8_t type;
    uint32_t id;
    union {
        struct exec_request exec;
        struct { const uint8_t *bytes; uint32_t length; } data; /* STDIN, CONTROL_IN, PING */
        struct { int32_t number; uint32_t scope; } signal;
        struct { uint16_t rows, cols; } size;
        uint32_t credit;
        struct { uint64_t offset; const char *key; } kept; /* ATTACH, FORGET */
    };
};

/* False: not a request of this protocol; the connection is to be closed. */
bool request_parse(const struct frame *frame, struct request *out);

#endif
