/* Fuzzes what the stub of a sandbox with egress is asked, and what the proxy tells it of a name. The first byte chooses.
 * Properties: a name that is asked for is canonical and not long; an answer keeps its room, answers the question that came and is never answered
 * itself; two names never share an address, whatever order they come in; ports are ports.
 * fuzz-sources: dns.c names.c frame.c buffer.c */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "names.h"

enum { NAMES_STEPS = 300 };

static void must(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "property broken: %s\n", what);
    abort();
}

static void check_name(const char *name) {
    size_t length = strlen(name);
    must(length > 0 && length <= DNS_NAME_MAX, "a name is of a name's length");
    must(name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == 0, "a name holds the bytes of host names alone");
    must(name[0] != '.' && name[length - 1] != '.' && !strstr(name, ".."), "no label is empty");
    const char *last = strrchr(name, '.');
    must(strspn(last ? last + 1 : name, "0123456789") != strlen(last ? last + 1 : name), "a name is not read as an address");
}

static void check_answer(const uint8_t *message, size_t length, const struct dns_question *question, enum dns_verdict verdict) {
    uint8_t out[DNS_ANSWER_MAX];
    struct dns_question again;
    size_t count = dns_answer(message, question, verdict, STUB_OWN, out);
    must(count >= DNS_HEAD_BYTES && count <= sizeof out, "an answer keeps its room");
    must(question->end <= length, "a question lies within its message");
    must(!memcmp(out, message, 2) && (out[3] & 15) == (int)verdict && (out[2] & 0x80), "an answer is one, to this question");
    must(dns_parse(out, count, &again) == DNS_DROP, "an answer is not answered");
}

static void check_message(const uint8_t *bytes, size_t length) {
    struct dns_question question;
    enum dns_verdict verdict = dns_parse(bytes, length, &question);
    if (verdict == DNS_DROP) return;
    if (verdict != DNS_ASK) {
        check_answer(bytes, length, &question, verdict);
        return;
    }
    check_name(question.name);
    must(question.end > DNS_HEAD_BYTES, "what is asked for has a question");
    check_answer(bytes, length, &question, DNS_OK);
    check_answer(bytes, length, &question, DNS_NO_NAME);
}

static void check_said(const uint8_t *bytes, size_t length) {
    char line[161];
    uint16_t ports[4];
    size_t count = 4;
    length = length < sizeof line ? length : sizeof line - 1;
    memcpy(line, bytes, length);
    line[length] = 0;
    int said = dns_said(line, ports, &count);
    must(said >= -1 && said <= 1 && count <= 4, "ports keep their room");
    for (size_t i = 0; said == 1 && i < count; i++) must(ports[i] != 0, "a port is one");
}

/* Each byte a name; a high bit: somebody connects to it or leaves. */
static void check_names(const uint8_t *bytes, size_t length) {
    struct names names = {0};
    for (size_t i = 0; i < length && i < NAMES_STEPS; i++) {
        char text[8];
        snprintf(text, sizeof text, "n%d%s", bytes[i] & 127, i & 1 ? "a" : i & 2 ? "b" : "");
        struct name *name = names_take(&names, text, NULL);
        if (!name) continue;
        must(strcmp(name->text, text) == 0 && name->address >= NAMES_FIRST && name->address <= NAMES_LAST, "a name is itself, in the range");
        name->live = bytes[i] >> 7;
        for (size_t k = 0; k < names.count; k++) must(names.list[k] == name || names.list[k]->address != name->address, "no address is shared");
    }
    for (size_t i = 0; i < names.count; i++) free(names.list[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] % 3 == 0) check_message(data + 1, size - 1);
    else if (data[0] % 3 == 1) check_said(data + 1, size - 1);
    else check_names(data + 1, size - 1);
    return 0;
}
