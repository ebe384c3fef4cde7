/* Moves bytes between pipes and connections. One read per event, straight into the connection's buffer.
 * Invariant: output is read only while there is credit and room, so a stalled reader stops the program; what is read is passed on
 * in order or counted as dropped; of a command that has ended only its own bytes are passed on; control bytes follow all that the
 * command wrote to stdout and stderr before it wrote them. */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest.h"
#include "pipes.h"
#include "kept.h"

/* TERMINAL_TAIL: more than a pty can hold (4 KiB read buffer, 64 KiB in flight). TAIL_RESERVE: that and one read, or two full pipes.
 * PAUSE_MS: see rest(). */
enum { CHUNK = 64 * 1024, TERMINAL_TAIL = 128 * 1024, TAIL_RESERVE = TERMINAL_TAIL + CHUNK, PAUSE_MS = 10, END_OF_FILE_BYTE = 4 };

enum pumped { PUMPED_SOME, PUMPED_NOTHING /* pipe empty */, PUMPED_HELD /* no credit or no room */, PUMPED_CLOSED };

void stream_close(struct stream *stream) {
    if (stream->watch.fd < 0) return;
    loop_unwatch(&stream->exec->guest->loop, &stream->watch);
    close(stream->watch.fd);
    stream->watch.fd = -1;
    stream->tail = stream->first = stream->due = 0;
}

static uint64_t waiting(const struct stream *stream) {
    int bytes = 0;
    return stream->watch.fd >= 0 && ioctl(stream->watch.fd, FIONREAD, &bytes) == 0 && bytes > 0 ? (uint64_t)bytes : 0;
}

static void count_down(uint64_t *count, size_t by) { *count -= by < *count ? by : *count; }

/* read(), with what it means for the stream. */
static enum pumped take(struct stream *stream, uint8_t *into, size_t most, size_t *count) {
    ssize_t got = read(stream->watch.fd, into, most);
    *count = got > 0 ? (size_t)got : 0;
    if (got > 0) {
        /* A terminal's tail is a bound, not a count, so it may be overshot. */
        if (stream->exec->phase == EXEC_ENDED) count_down(&stream->tail, (size_t)got);
        count_down(&stream->first, (size_t)got);
        count_down(&stream->due, (size_t)got);
        return PUMPED_SOME;
    }
    if (got < 0 && errno == EINTR) return PUMPED_SOME;
    if (got < 0 && errno == EAGAIN) {
        stream->first = stream->due = 0; /* where there were some, somebody else has read them */
        if (stream->terminal) stream->tail = 0; /* a terminal's read has waited for all that was under way */
        return PUMPED_NOTHING;
    }
    stream_close(stream); /* end of file; EIO is a terminal's way to say so */
    return PUMPED_CLOSED;
}

static enum pumped drop(struct stream *stream) {
    static uint8_t nowhere[CHUNK];
    struct exec *exec = stream->exec;
    size_t count, most = CHUNK;
    if (exec->phase == EXEC_ENDED && !stream->terminal && stream->tail < most) most = (size_t)stream->tail;
    enum pumped result = take(stream, nowhere, most, &count);
    if (exec->phase != EXEC_LINGERING) exec->dropped += count;
    return result;
}

static enum pumped drop_counted(struct stream *stream) {
    struct exec *exec = stream->exec;
    uint64_t before = exec->dropped;
    enum pumped result = drop(stream);
    if (exec->dropped > before) exec->exit_flags |= EXIT_TRUNCATED;
    return result;
}

uint32_t exec_reserve(const struct exec *exec) {
    /* A running command leaves part of the credit alone, for what it will leave in its pipes: EXIT follows those bytes, and a reader
     * that has stopped must not keep the end of a command from whoever waits for that alone. */
    if (exec->phase != EXEC_RUNNING) return 0;
    return exec->flags & EXEC_CONTROL ? TAIL_RESERVE + CHUNK : TAIL_RESERVE;
}

/* How much of the stream may be read now, whoever gets it. Control bytes are outside of the cap: without them nobody would know an end. */
static size_t readable(const struct stream *stream) {
    const struct exec *exec = stream->exec;
    size_t most = CHUNK;
    if (stream->kind == RING_CONTROL) {
        if (exec->phase == EXEC_RUNNING && stream->due < most) most = (size_t)stream->due;
    } else if (exec->capped && exec->cap_left < most) most = (size_t)exec->cap_left;
    if (exec->phase == EXEC_ENDED && !stream->terminal && stream->tail < most) most = (size_t)stream->tail;
    return most;
}

static void took(struct stream *stream, size_t count) {
    if (stream->kind != RING_CONTROL && stream->exec->capped) stream->exec->cap_left -= count;
}

/* A stopped command whose pipes held more than the reserve (it made them larger) ends all the same. */
static enum pumped held(struct stream *stream) {
    const struct exec *exec = stream->exec;
    return exec->phase == EXEC_ENDED && exec->rung > 0 && exec->client ? drop_counted(stream) : PUMPED_HELD;
}

static enum pumped keep(struct stream *stream) {
    struct kept *kept = stream->exec->kept;
    size_t most = readable(stream), count;
    if (stream->exec->phase == EXEC_ENDED) kept_flush(kept); /* the credit that was left alone counts now */
    uint8_t *into = kept_space(kept, &most);
    if (most == 0) return held(stream);
    enum pumped result = take(stream, into, most, &count);
    if (count == 0) return result;
    took(stream, count);
    ring_took(&kept->ring, stream->kind, count);
    kept_flush(kept);
    return result;
}

static enum pumped pass_on(struct stream *stream) {
    static const uint8_t answers[] = {[RING_STDOUT] = ANSWER_STDOUT, [RING_STDERR] = ANSWER_STDERR, [RING_CONTROL] = ANSWER_CONTROL};
    struct exec *exec = stream->exec;
    struct conn *conn = &exec->client->conn;
    size_t most = readable(stream), count;
    uint32_t reserve = exec_reserve(exec), credit = exec->credit > reserve ? exec->credit - reserve : 0;
    if (credit < most) most = credit;
    if (most == 0) return held(stream);
    if (conn_backlog(conn) + CHUNK > conn->limit) {
        conn->wants_room = true;
        return PUMPED_HELD;
    }
    uint8_t *into = conn_reserve(conn, most);
    if (!into) return PUMPED_HELD; /* no memory: the connection closes, and then all is dropped */
    enum pumped result = take(stream, into, most, &count);
    if (count == 0) return result;
    exec->credit -= (uint32_t)count;
    took(stream, count);
    conn_commit(conn, answers[stream->kind], exec->id, count);
    return result;
}

static enum pumped pump(struct stream *stream) {
    struct exec *exec = stream->exec;
    /* What comes now is a daemon's, and EXIT still waits for the other stream. (A read of no bytes would look like the end.) */
    if (exec->phase == EXEC_ENDED && stream->tail == 0) return PUMPED_HELD;
    if (exec->phase == EXEC_LINGERING) return drop(stream);
    bool hears = exec->kept || (exec->client && !exec->client->conn.dead);
    if (!hears) return drop(stream);
    if (stream->kind != RING_CONTROL && exec->capped && exec->cap_left == 0) return drop_counted(stream);
    return exec->kept ? keep(stream) : pass_on(stream);
}

/* Passes on what must go before control bytes. False: something holds it. */
static bool pump_first(struct stream *stream) {
    enum pumped result = PUMPED_SOME;
    while (stream->watch.fd >= 0 && stream->first > 0 && result == PUMPED_SOME) result = pump(stream);
    if (result == PUMPED_HELD) loop_unwatch(&stream->exec->guest->loop, &stream->watch);
    return stream->watch.fd < 0 || stream->first == 0;
}

/* Looks at the control pipe first and at the others then, so whatever was written before its bytes is counted. */
static enum pumped pump_control(struct stream *control) {
    struct exec *exec = control->exec;
    if (exec->phase != EXEC_RUNNING) return pump(control);
    if (control->due == 0) {
        control->due = waiting(control);
        exec->out.first = waiting(&exec->out);
        exec->err.first = waiting(&exec->err);
    }
    bool out = pump_first(&exec->out), err = pump_first(&exec->err);
    if (!out || !err) return PUMPED_HELD;
    if (control->due > 0) return pump(control);
    stream_close(control); /* readable without a byte: its end */
    return PUMPED_CLOSED;
}

/* Output that nobody gets is read at a gentle pace: reading it as fast as a daemon writes would cost PID 1 a core,
 * outside of the commands' own CPU limit. The more there are, the longer each waits. */
static void rest(struct exec *exec) {
    struct guest *guest = exec->guest;
    loop_unwatch(&guest->loop, &exec->out.watch);
    loop_unwatch(&guest->loop, &exec->err.watch);
    loop_unwatch(&guest->loop, &exec->control.watch);
    if (!exec->look.armed) loop_timer(&guest->loop, &exec->look, in_ms(PAUSE_MS + (uint64_t)guest->exec_count));
}

static void ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct stream *stream = CONTAINER_OF(watch, struct stream, watch);
    struct exec *exec = stream->exec;
    bool unheard = exec->phase == EXEC_LINGERING || (!exec->client && !exec->kept);
    enum pumped result = stream->kind == RING_CONTROL ? pump_control(stream) : pump(stream);
    if (result == PUMPED_SOME) exec->last_output = now_ns();
    if (result == PUMPED_HELD) loop_unwatch(&exec->guest->loop, &stream->watch);
    if (result == PUMPED_SOME && unheard) {
        for (int more = exec->phase == EXEC_LINGERING ? 0 : 15; more > 0 && result == PUMPED_SOME; more--) result = pump(stream);
        rest(exec);
    }
    if (exec->phase != EXEC_RUNNING) exec_progress(exec); /* may free it */
}

void stream_open(struct stream *stream, struct exec *exec, int fd, enum ring_kind kind, bool terminal) {
    *stream = (struct stream){.watch = {.fd = fd, .ready = ready}, .exec = exec, .kind = kind, .terminal = terminal};
}

void stream_resume(struct stream *stream) {
    if (stream->watch.fd < 0) return;
    /* Cannot be watched (no memory in the kernel): nothing of it would ever arrive, so it is closed and the program sees EPIPE. */
    if (loop_watch(&stream->exec->guest->loop, &stream->watch, EPOLLIN) != 0) stream_close(stream);
}

void stream_ended(struct stream *stream) {
    if (stream->watch.fd < 0) return;
    stream->first = stream->due = 0; /* control is finished last */
    stream->tail = stream->terminal ? TERMINAL_TAIL : waiting(stream);
}

bool stream_finish(struct stream *stream) {
    enum pumped result = PUMPED_SOME;
    while (stream->watch.fd >= 0 && stream->tail > 0 && result == PUMPED_SOME) result = pump(stream);
    if (stream->watch.fd < 0 || stream->tail == 0) return true;
    /* A pipe that is empty although bytes were counted: somebody else read them. */
    if (result == PUMPED_NOTHING) stream->tail = 0;
    if (result == PUMPED_HELD) loop_unwatch(&stream->exec->guest->loop, &stream->watch);
    return stream->tail == 0;
}

void stream_settle(struct stream *stream) {
    if (stream->watch.fd >= 0) drop(stream);
}

static void credit_input(struct input *input, size_t count) {
    struct exec *exec = input->exec;
    uint8_t body[4];
    if (count == 0 || !exec->client) return;
    put_u32(body, (uint32_t)count);
    conn_send(&exec->client->conn, input->credit, exec->id, body, sizeof body);
}

void input_close(struct input *input) {
    if (input->watch.fd >= 0) {
        loop_unwatch(&input->exec->guest->loop, &input->watch);
        close(input->watch.fd);
        input->watch.fd = -1;
    }
    /* What the program never took is credited all the same, so that its sender does not wait for ever. */
    credit_input(input, buffer_length(&input->bytes));
    buffer_free(&input->bytes);
}

/* A terminal has no end of file; its line discipline makes one of this byte. */
static void finish_input(struct input *input) {
    static const uint8_t end = END_OF_FILE_BYTE;
    if (!input->terminal) {
        input_close(input);
        return;
    }
    if (write(input->watch.fd, &end, 1) == 1) input->ended = false;
}

static void drain_input(struct input *input) {
    while (buffer_length(&input->bytes) > 0) {
        ssize_t count = write(input->watch.fd, buffer_bytes(&input->bytes), buffer_length(&input->bytes));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) {
            input_close(input); /* EPIPE: the program closed its stdin */
            return;
        }
        buffer_drop(&input->bytes, (size_t)count);
        credit_input(input, (size_t)count);
    }
    if (buffer_length(&input->bytes) == 0) {
        buffer_free(&input->bytes);
        if (input->ended) finish_input(input);
    }
    if (input->watch.fd < 0) return;
    bool more = buffer_length(&input->bytes) > 0 || input->ended;
    if (loop_watch(&input->exec->guest->loop, &input->watch, more ? EPOLLOUT : 0) != 0) input_close(input);
}

static void writable(struct watch *watch, uint32_t events) {
    (void)events;
    drain_input(CONTAINER_OF(watch, struct input, watch));
}

void input_open(struct input *input, struct exec *exec, int fd, uint8_t credit, bool terminal) {
    *input = (struct input){.watch = {.fd = fd, .ready = writable}, .exec = exec, .credit = credit, .terminal = terminal};
}

bool input_write(struct input *input, const uint8_t *data, uint32_t length) {
    if (length > INPUT_WINDOW || buffer_length(&input->bytes) + length > INPUT_WINDOW) return false;
    if (input->watch.fd < 0 || input->ended) {
        credit_input(input, length);
        return true;
    }
    if (!buffer_add(&input->bytes, data, length)) {
        input_close(input); /* no memory: the program sees the end of its input, as if its sender had gone */
        credit_input(input, length);
        return true;
    }
    drain_input(input);
    return true;
}

void input_end(struct input *input) {
    if (input->watch.fd < 0) return;
    input->ended = true;
    drain_input(input);
}

void exec_stdin_again(struct exec *exec) {
    if (exec->again < 0 || exec->phase != EXEC_RUNNING) return;
    input_close(&exec->in);
    int fd = pipe_open_again(&exec->guest->facts, exec->uid, exec->gid, exec->again);
    if (fd >= 0) input_open(&exec->in, exec, fd, ANSWER_STDIN_CREDIT, false);
}
