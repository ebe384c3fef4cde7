/* Unit tests of the pure parts: frames, records, buffers, the ring, counters, the loop, the stub of egress. Built with ASan and UBSan by unit.test.ts; prints each test's name.
 * unit-sources: dns.c names.c frame.c buffer.c ring.c loop.c conn.c count.c seccomp.c step.c */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "count.h"
#include "dns.h"
#include "frame.h"
#include "names.h"
#include "ring.h"
#include "seccomp.h"

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

static void frames(void) {
    struct frame_reader reader = {0};
    struct frame frame;
    size_t room;
    uint8_t head[FRAME_HEAD_BYTES];
    CHECK(frame_next(&reader, &frame) == FRAME_MORE);
    frame_head_put(head, 7, 0xdeadbeef, 3);
    memcpy(frame_room(&reader, &room), head, sizeof head);
    frame_took(&reader, sizeof head);
    CHECK(frame_next(&reader, &frame) == FRAME_MORE);
    memcpy(frame_room(&reader, &room), "abc", 3);
    frame_took(&reader, 3);
    CHECK(frame_next(&reader, &frame) == FRAME_WHOLE);
    CHECK(frame.type == 7 && frame.id == 0xdeadbeef && frame.length == 3 && !memcmp(frame.body, "abc", 3));
    CHECK(frame_next(&reader, &frame) == FRAME_MORE && reader.bytes.memory == NULL); /* idle: no memory held */
    for (int i = 0; i < 4; i++) {
        frame_head_put(head, 1, 1, i == 3 ? MAX_FRAME_BYTES + 1 : 0);
        if (i < 3) head[9 + i] = 1;
        memcpy(frame_room(&reader, &room), head, sizeof head);
        frame_took(&reader, sizeof head);
        CHECK(frame_next(&reader, &frame) == FRAME_BROKEN);
        frame_reader_free(&reader);
    }
    frame_head_put(head, 1, 1, MAX_FRAME_BYTES);
    memcpy(frame_room(&reader, &room), head, sizeof head);
    frame_took(&reader, sizeof head);
    CHECK(frame_next(&reader, &frame) == FRAME_MORE);
    CHECK(frame_room(&reader, &room) && room >= MAX_FRAME_BYTES); /* the rest fits in one read */
    frame_reader_free(&reader);
}

static void records(void) {
    struct record_walk walk;
    uint64_t value;
    record_begin(&walk, "a\0\0bc\0", 6);
    CHECK(!strcmp(record_next(&walk), "a") && !strcmp(record_next(&walk), "") && !strcmp(record_next(&walk), "bc"));
    CHECK(record_next(&walk) == NULL && !walk.broken);
    record_begin(&walk, "a\0b", 3);
    CHECK(record_next(&walk) && !record_next(&walk) && walk.broken && !record_next(&walk));
    record_begin(&walk, NULL, 0);
    CHECK(record_next(&walk) == NULL && !walk.broken);
    CHECK(record_number("0", 0, &value) && value == 0);
    CHECK(record_number("18446744073709551615", UINT64_MAX, &value) && value == UINT64_MAX);
    CHECK(!record_number("18446744073709551616", UINT64_MAX, &value) && !record_number("99999999999999999999", UINT64_MAX, &value));
    CHECK(!record_number("", 9, &value) && !record_number("-1", 9, &value) && !record_number("+1", 9, &value));
    CHECK(!record_number(" 1", 9, &value) && !record_number("1x", 9, &value) && !record_number("10", 9, &value));
    struct buffer out = {0};
    CHECK(record_put(&out, "k") && record_put_number(&out, UINT64_MAX) && record_put_number(&out, 0));
    CHECK(buffer_length(&out) == 2 + 21 + 2 && !memcmp(buffer_bytes(&out), "k\00018446744073709551615\0000", 25));
    buffer_free(&out);
}

static void buffers(void) {
    struct buffer b = {0};
    uint8_t expected = 0, next = 0;
    for (int round = 0; round < 5000; round++) { /* adds and takes of many sizes keep the order and bound the memory */
        for (int i = 0; i < round % 37; i++, next++) CHECK(buffer_add(&b, &next, 1));
        for (int i = 0; i < round % 41 && buffer_length(&b); i++, expected++) {
            CHECK(*buffer_bytes(&b) == expected);
            buffer_drop(&b, 1);
        }
        CHECK(b.start <= b.end && b.end <= b.size && b.size <= 8192);
    }
    CHECK(buffer_room(&b, SIZE_MAX / 2, NULL) == NULL && buffer_room(&b, SIZE_MAX, NULL) == NULL);
    buffer_free(&b);
}

/* What was put in, in whatever pieces, comes out in order and with its stream; the oldest give way beyond RING_BYTES alone. */
static void rings(void) {
    struct ring ring;
    CHECK(ring_open(&ring) && ring.size == RING_FIRST_BYTES);
    for (uint32_t step = 1; ring.end < 5u * RING_BYTES; step = step * 7 % 4099) {
        size_t most = step;
        uint64_t from = ring.end;
        uint8_t *at = ring_space(&ring, &most);
        CHECK(most >= 1 && most <= step);
        for (size_t i = 0; i < most; i++) at[i] = (uint8_t)((from + i) * 31);
        ring_took(&ring, (enum ring_kind)(from % 3), most);
        CHECK(ring.end == from + most && ring.start == (ring.end > RING_BYTES ? ring.end - RING_BYTES : 0));
        if (from % 5 || ring.start > from) continue;
        /* The newest piece is one run, or two around the end of the memory, or joined by a neighbour of its kind. */
        for (uint64_t offset = from; offset < ring.end;) {
            enum ring_kind kind;
            size_t run = SIZE_MAX;
            const uint8_t *bytes = ring_run(&ring, offset, &kind, &run);
            CHECK(kind == (enum ring_kind)(from % 3) && run >= 1 && run <= ring.end - offset);
            for (size_t i = 0; i < run; i++) CHECK(bytes[i] == (uint8_t)((offset + i) * 31));
            offset += run;
        }
    }
    uint64_t offset = ring.start;
    while (offset < ring.end) {
        enum ring_kind kind;
        size_t run = 100;
        const uint8_t *bytes = ring_run(&ring, offset, &kind, &run);
        for (size_t i = 0; i < run; i++) CHECK(bytes[i] == (uint8_t)((offset + i) * 31));
        CHECK(run <= 100);
        offset += run;
    }
    ring_free(&ring);
}

static void counters(void) {
    CHECK(count_find("low 1\noom 3\noom_kill 42\noom_group_kill 7\n", "oom_kill") == 42);
    CHECK(count_find("oom_kill_disable 1\nunder_oom 0\noom_kill 5", "oom_kill") == 5);
    CHECK(count_find("xmax 3\nmax 9\n", "max") == 9 && count_find("max\n", "max") == 0 && count_find("", "max") == 0);
    CHECK(count_read(-1, "max") == 0);
}

static void patching(void) {
    const uint32_t words[COOKIE_WORDS] = {11, 12, 13, 14, 15, 16, 17, 18};
    struct sock_filter filter[COOKIE_WORDS + 2];
    for (uint32_t i = 0; i < COOKIE_WORDS; i++) filter[i] = (struct sock_filter){BPF_ALU | BPF_XOR | BPF_K, 0, 0, COOKIE_PLACEHOLDER + COOKIE_WORDS - i};
    filter[COOKIE_WORDS] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, COOKIE_PLACEHOLDER + 1}; /* an answer, not a comparison */
    filter[COOKIE_WORDS + 1] = (struct sock_filter){BPF_JMP | BPF_JEQ | BPF_K, 0, 0, COOKIE_PLACEHOLDER};
    CHECK(seccomp_patch(filter, COOKIE_WORDS + 2, words) == COOKIE_WORDS);
    for (uint32_t i = 0; i < COOKIE_WORDS; i++) CHECK(filter[i].k == words[COOKIE_WORDS - 1 - i]);
    CHECK(filter[COOKIE_WORDS].k == COOKIE_PLACEHOLDER + 1 && filter[COOKIE_WORDS + 1].k == COOKIE_PLACEHOLDER);
    CHECK(seccomp_patch(filter, COOKIE_WORDS + 2, words) == 0);
}

/* Two pipes that are ready in one round; whoever is called first takes the other out and frees it. */
struct rival {
    struct watch watch;
    struct rival *other;
    struct loop *loop;
    int *calls;
};

static void rival_ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct rival *rival = CONTAINER_OF(watch, struct rival, watch);
    ++*rival->calls;
    loop_unwatch(rival->loop, &rival->other->watch);
    free(rival->other);
    rival->loop->stopped = true;
}

static int order[3], fired;
static struct loop *timed;
static void fire(struct timer *timer) {
    order[fired++] = (int)(timer->at % 1000);
    timed->stopped = fired == 3;
}

static void timers(void) {
    struct loop loop;
    CHECK(loop_open(&loop) == 0);
    timed = &loop;
    struct timer all[4] = {{.fire = fire}, {.fire = fire}, {.fire = fire}, {.fire = fire}};
    uint64_t base = now_ns() / 1000 * 1000;
    loop_timer(&loop, &all[0], base + 3), loop_timer(&loop, &all[1], base + 1), loop_timer(&loop, &all[2], base + 2), loop_timer(&loop, &all[3], base + 5);
    loop_timer(&loop, &all[1], base + 4); /* armed again: moved, not doubled */
    loop_timer_stop(&loop, &all[2]);
    CHECK(loop_run(&loop) == 0 && loop.timers == NULL);
    CHECK(order[0] == 3 && order[1] == 4 && order[2] == 5);
}

static void loops(void) {
    struct loop loop;
    int calls = 0, pipes[2][2];
    CHECK(loop_open(&loop) == 0);
    struct rival *rivals[2] = {calloc(1, sizeof **rivals), calloc(1, sizeof **rivals)};
    for (int i = 0; i < 2; i++) {
        CHECK(pipe(pipes[i]) == 0 && write(pipes[i][1], "x", 1) == 1);
        *rivals[i] = (struct rival){.watch = {.fd = pipes[i][0], .ready = rival_ready}, .other = rivals[1 - i], .loop = &loop, .calls = &calls};
        CHECK(loop_watch(&loop, &rivals[i]->watch, EPOLLIN) == 0);
    }
    CHECK(loop_run(&loop) == 0 && calls == 1);
}

static struct conn conn;
static int frames_seen, closed;
static bool on_frame(struct conn *c, const struct frame *frame) {
    frames_seen++;
    conn_send(c, frame->type, frame->id, frame->body, frame->length);
    return frame->type != 9;
}
static void on_close(struct conn *c) {
    closed++;
    c->loop->stopped = true;
}

static void connections(void) {
    struct loop loop;
    int pair[2];
    uint8_t head[FRAME_HEAD_BYTES], back[64];
    CHECK(loop_open(&loop) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    conn = (struct conn){.on_frame = on_frame, .on_close = on_close};
    CHECK(conn_open(&conn, &loop, pair[0]) == 0);
    frame_head_put(head, 5, 1, 0);
    CHECK(write(pair[1], head, sizeof head) == sizeof head);
    frame_head_put(head, 9, 2, 0);
    CHECK(write(pair[1], head, sizeof head) == sizeof head && write(pair[1], head, sizeof head) == sizeof head);
    CHECK(loop_run(&loop) == 0);
    /* The frame that broke the protocol is the last one looked at, and closed once. */
    CHECK(frames_seen == 2 && closed == 1);
    CHECK(read(pair[1], back, sizeof back) == 0);
}

/* A question of class IN for `type`, with `labels` as the name's bytes; the length. */
static size_t question(uint8_t *out, const char *labels, size_t length, unsigned type) {
    const uint8_t head[DNS_HEAD_BYTES] = {0xab, 0xcd, 1, 0, 0, 1}, tail[] = {0, (uint8_t)type, 0, 1};
    memcpy(out, head, sizeof head);
    memcpy(out + sizeof head, labels, length);
    memcpy(out + sizeof head + length, tail, sizeof tail);
    return sizeof head + length + sizeof tail;
}

static enum dns_verdict parsed(const char *labels, size_t length, struct dns_question *told) {
    uint8_t message[600];
    return dns_parse(message, question(message, labels, length, 1), told);
}

static void stub_questions(void) {
    struct dns_question told;
    uint8_t message[600], out[DNS_ANSWER_MAX];
    CHECK(parsed("\3FoO\4t-_t", 10, &told) == DNS_ASK && !strcmp(told.name, "foo.t-_t") && told.wants_address);
    static const char *const no_names[] = {"\1 ", "\2\303\251", "\3a.b", "\0031.2", "\1a\0019", "\2a\n"};
    for (size_t i = 0; i < sizeof no_names / sizeof *no_names; i++) CHECK(parsed(no_names[i], strlen(no_names[i]) + 1, &told) == DNS_NO_NAME);
    CHECK(parsed("", 1, &told) == DNS_NO_NAME);
    /* Pointers, reserved lengths, a label or a name that does not end. */
    CHECK(parsed("\xc0\x0c", 2, &told) == DNS_MALFORMED && parsed("\1a\xc0\x0c", 4, &told) == DNS_MALFORMED);
    CHECK(parsed("\x40z", 2, &told) == DNS_MALFORMED && parsed("\77a", 2, &told) == DNS_MALFORMED && parsed("\1a", 2, &told) == DNS_MALFORMED);
    char longest[300];
    for (int i = 0; i < 150; i++) memcpy(longest + 2 * i, "\1a", 2);
    longest[254] = 0;
    CHECK(parsed(longest, 255, &told) == DNS_ASK && strlen(told.name) == DNS_NAME_MAX);
    longest[254] = 1, longest[256] = 0;
    CHECK(parsed(longest, 257, &told) == DNS_MALFORMED);
    size_t length = question(message, "\1a", 3, 28);
    CHECK(dns_parse(message, length, &told) == DNS_ASK && !told.wants_address);
    for (int i = 0; i < (int)length; i++) CHECK(dns_parse(message, (size_t)i, &told) == (i < DNS_HEAD_BYTES ? DNS_DROP : DNS_MALFORMED));
    memcpy(message + length, "\0\0\51\4\320\0\0\0\0\0\0", 11);
    CHECK(dns_parse(message, length + 11, &told) == DNS_MALFORMED);
    message[11] = 1;
    CHECK(dns_parse(message, length + 10, &told) == DNS_MALFORMED && dns_parse(message, length + 11, &told) == DNS_ASK && told.end == length);
    CHECK(dns_answer(message, &told, DNS_OK, STUB_OWN, out) == length && out[3] == 0x80 && out[11] == 0);
    length = question(message, "\1a", 3, 1);
    CHECK(dns_parse(message, length, &told) == DNS_ASK && dns_answer(message, &told, DNS_OK, 0xc6130405, out) == length + 16);
    CHECK(!memcmp(out + length + 10, "\0\4\306\23\4\5", 6) && out[7] == 1 && !memcmp(out, message, 2) && out[2] == 0x81);
    message[2] = 0x81;
    CHECK(dns_parse(message, length, &told) == DNS_DROP);
    message[2] = 0x29;
    CHECK(dns_parse(message, length, &told) == DNS_NOT_DONE && dns_answer(message, &told, DNS_NOT_DONE, 0, out) == DNS_HEAD_BYTES && out[5] == 0);
}

static void proxy_words(void) {
    uint16_t ports[2];
    size_t count = 2;
    CHECK(dns_said("no", ports, &count) == 0 && dns_said("yes", ports, &count) == 1 && count == 0);
    count = 2;
    CHECK(dns_said("yes 443 1 9", ports, &count) == 1 && count == 2 && ports[0] == 443 && ports[1] == 1);
    static const char *const wrong[] = {"", "n", "no ", "yes ", "yes  1", "yes 0", "yes 65536", "yes 1x", "yes -1", "yesno", "yes 1\t2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) CHECK((count = 2, dns_said(wrong[i], ports, &count)) == -1);
}

static int evictions;
static void evicted(struct name *name) { evictions += name->text[0] == 'n'; }

static void stub_names(void) {
    static struct names names;
    char text[16];
    struct name *first = names_take(&names, "n0", evicted), *live = names_take(&names, "n1", evicted);
    uint32_t address = first->address, kept = live->address;
    CHECK(address == NAMES_FIRST && kept == NAMES_FIRST + 1 && names_take(&names, "n0", evicted) == first);
    live->live = 1;
    for (int i = 2; i < NAMES_MAX; i++) CHECK((snprintf(text, sizeof text, "n%d", i), names_take(&names, text, evicted)) != NULL);
    CHECK(evictions == 0 && names_take(&names, "n0", evicted)->address == address);
    /* n1 is the oldest, but somebody is connected to it. */
    CHECK(names_take(&names, "more", evicted)->address == NAMES_FIRST + NAMES_MAX && evictions == 1 && live->address == kept && !strcmp(live->text, "n1"));
    names.next = NAMES_LAST;
    CHECK(names_take(&names, "last", evicted)->address == NAMES_LAST && names_take(&names, "round", evicted)->address != address);
    for (size_t i = 0; i < names.count; i++) names.list[i]->live = 1;
    CHECK(names_take(&names, "none", evicted) == NULL && names_take(&names, "n0", evicted)->address == address);
}

int main(void) {
    frames(), puts("frames");
    records(), puts("records");
    buffers(), puts("buffers");
    rings(), puts("rings");
    counters(), puts("counters");
    patching(), puts("patching");
    loops(), puts("loops");
    timers(), puts("timers");
    connections(), puts("connections");
    stub_questions(), puts("stub questions");
    stub_names(), puts("stub names");
    proxy_words(), puts("proxy words");
    return 0;
}
