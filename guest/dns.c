/* One DNS message (dns.h). Strict: what is not exactly one question for an address of a plain host name is refused, not repaired. */
#define _GNU_SOURCE
#include "dns.h"

#include <stdbool.h>
#include <string.h>

#include "frame.h"

enum { TYPE_A = 1, TYPE_AAAA = 28, TYPE_OPT = 41, CLASS_IN = 1, LABEL_MAX = 63, OPT_HEAD_BYTES = 11, QUESTION_TAIL_BYTES = 4, RECORD_BYTES = 16, PORT_LAST = 65535 };
enum { FLAG_ANSWER = 0x8000, FLAG_OPCODE = 0x7800, FLAG_CUT = 0x0200, FLAG_RECURSION = 0x0100, FLAG_RECURSES = 0x0080 };

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static void put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Letters, digits, `-` and `_`, lower case; 0: no byte of a host name. */
static char host_byte(uint8_t byte) {
    if (byte >= 'A' && byte <= 'Z') return (char)(byte + 32);
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' ? (char)byte : 0;
}

/* The bytes that the name takes, 0 when it is malformed. A pointer is: in a question there is nothing before it that it could mean, so no loop can be.
 * `plain`: whether it is a host name at all. */
static size_t read_name(const uint8_t *at, size_t room, char *name, bool *plain) {
    size_t from = 0, to = 0;
    bool digits = true; /* of the last label: all are */
    *plain = true;
    for (;;) {
        if (from >= room) return 0;
        size_t length = at[from++];
        if (length == 0) break;
        /* The limit counts each label with a byte for its length, and the root. */
        if (length > LABEL_MAX || length > room - from || from + length > DNS_NAME_MAX + 1) return 0;
        if (to) name[to++] = '.';
        digits = true;
        for (size_t i = 0; i < length; i++) {
            char byte = host_byte(at[from + i]);
            *plain = *plain && byte;
            digits = digits && byte >= '0' && byte <= '9';
            name[to++] = byte;
        }
        from += length;
    }
    name[to] = 0;
    /* A last label of digits would be read as an address by others. */
    *plain = *plain && to && !digits;
    return from;
}

/* What follows the question: nothing, or one OPT (EDNS, which Go and dig send); it is not looked into. */
static bool tail_ok(const uint8_t *at, size_t room, unsigned additional) {
    if (additional == 0) return room == 0;
    return additional == 1 && room >= OPT_HEAD_BYTES && at[0] == 0 && get16(at + 1) == TYPE_OPT && get16(at + 9) == room - OPT_HEAD_BYTES;
}

enum dns_verdict dns_parse(const uint8_t *message, size_t length, struct dns_question *question) {
    question->end = 0;
    question->name[0] = 0;
    question->wants_address = 0;
    if (length < DNS_HEAD_BYTES || length > DNS_QUERY_MAX) return DNS_DROP;
    unsigned flags = get16(message + 2);
    /* SAFETY: an answer that is answered makes two stubs talk for ever. */
    if (flags & FLAG_ANSWER) return DNS_DROP;
    if (flags & FLAG_OPCODE) return DNS_NOT_DONE;
    if (flags & FLAG_CUT || get16(message + 4) != 1 || get16(message + 6) || get16(message + 8)) return DNS_MALFORMED;
    bool plain;
    const uint8_t *at = message + DNS_HEAD_BYTES;
    size_t room = length - DNS_HEAD_BYTES, taken = read_name(at, room, question->name, &plain);
    if (!taken || room - taken < QUESTION_TAIL_BYTES) return DNS_MALFORMED;
    unsigned type = get16(at + taken), class = get16(at + taken + 2);
    taken += QUESTION_TAIL_BYTES;
    if (!tail_ok(at + taken, room - taken, get16(message + 10))) return DNS_MALFORMED;
    question->end = DNS_HEAD_BYTES + taken;
    if (class != CLASS_IN || (type != TYPE_A && type != TYPE_AAAA)) return DNS_REFUSED;
    question->wants_address = type == TYPE_A;
    return plain ? DNS_ASK : DNS_NO_NAME;
}

static size_t put_record(uint8_t *out, uint32_t address) {
    static const uint8_t head[] = {0xc0, DNS_HEAD_BYTES, 0, TYPE_A, 0, CLASS_IN, 0, 0, 0, DNS_TTL_S, 0, 4};
    memcpy(out, head, sizeof head);
    put16(out + sizeof head, address >> 16);
    put16(out + sizeof head + 2, address & 0xffff);
    return RECORD_BYTES;
}

size_t dns_answer(const uint8_t *message, const struct dns_question *question, enum dns_verdict verdict, uint32_t address, uint8_t *out) {
    size_t length = question->end ? question->end : DNS_HEAD_BYTES;
    bool told = verdict == DNS_OK && question->wants_address;
    memcpy(out, message, length); /* the question as it came: some compare even its case */
    put16(out + 2, FLAG_ANSWER | (get16(message + 2) & (FLAG_OPCODE | FLAG_RECURSION)) | FLAG_RECURSES | (unsigned)verdict);
    put16(out + 4, question->end ? 1 : 0);
    put16(out + 6, told ? 1 : 0);
    put16(out + 8, 0);
    put16(out + 10, 0);
    return told ? length + put_record(out + length, address) : length;
}

int dns_said(const char *line, uint16_t *ports, size_t *count) {
    size_t room = *count;
    *count = 0;
    if (strcmp(line, "no") == 0) return 0;
    if (strncmp(line, "yes", 3) != 0) return -1;
    for (line += 3; *line;) {
        char text[6];
        uint64_t port;
        if (*line++ != ' ') return -1;
        size_t length = strcspn(line, " ");
        if (length == 0 || length >= sizeof text) return -1;
        memcpy(text, line, length);
        text[length] = 0;
        if (!record_number(text, PORT_LAST, &port) || port == 0) return -1;
        if (*count < room) ports[(*count)++] = (uint16_t)port; /* more than can be listened on: the rest is closed */
        line += length;
    }
    return 1;
}
