/* The pipes of a command: output and control bytes towards its client, input and control bytes from it. */
#ifndef CORRAL_STREAM_H
#define CORRAL_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "loop.h"
#include "ring.h"

struct exec;

enum { OUTPUT_WINDOW = 1 << 20, INPUT_WINDOW = 256 * 1024 };

struct stream {
    struct watch watch; /* fd -1: closed */
    struct exec *exec;
    enum ring_kind kind;
    bool terminal;
    uint64_t tail;  /* once the command has ended: bytes in the pipe that may still be its own */
    uint64_t first; /* of stdout and stderr: bytes that were written before what stands in the control pipe */
    uint64_t due;   /* of control: bytes that may follow those */
};

struct input {
    struct watch watch; /* fd -1: closed, or never asked for */
    struct exec *exec;
    struct buffer bytes;
    uint8_t credit; /* ANSWER_STDIN_CREDIT or ANSWER_CONTROL_CREDIT */
    bool ended; /* nothing follows */
    bool terminal;
};

/* Takes over the descriptor. */
void stream_open(struct stream *stream, struct exec *exec, int fd, enum ring_kind kind, bool terminal);
void stream_close(struct stream *stream);
/* Credit or room has come, or the client has gone: look at the pipe again. */
void stream_resume(struct stream *stream);
/* The command has ended: fixes `tail`. */
void stream_ended(struct stream *stream);
/* After stream_ended: passes on what it can. True when the command's own bytes are all passed on or dropped. */
bool stream_finish(struct stream *stream);
/* One look at a stream that nobody hears: closes it at its end. */
void stream_settle(struct stream *stream);

void input_open(struct input *input, struct exec *exec, int fd, uint8_t credit, bool terminal);
/* Bytes of the window that do not wait here. */
static inline size_t input_room(const struct input *input) { return INPUT_WINDOW - buffer_length(&input->bytes); }
/* False: more than the window allows, the connection is to be closed. */
bool input_write(struct input *input, const uint8_t *data, uint32_t length);
void input_end(struct input *input);
void input_close(struct input *input);

#endif
