/* The questions that the stub of a sandbox with egress answers, as data: bytes in, a name and a kind out, and back. No I/O, no memory, no names
 * of its own: whether a name is there is asked of the egress proxy (relay-dns.c), and nothing is ever forwarded.
 * Invariant: an accepted question is one canonical host name of class IN and type A or AAAA; an answer fits DNS_ANSWER_MAX. */
#ifndef CORRAL_DNS_H
#define CORRAL_DNS_H

#include <stddef.h>
#include <stdint.h>

enum { DNS_HEAD_BYTES = 12, DNS_QUERY_MAX = 512, DNS_NAME_MAX = 253, DNS_ANSWER_MAX = DNS_QUERY_MAX + 16, DNS_TTL_S = 30 };

/* What a message is worth. RCODEs of RFC 1035 where it is answered; DNS_DROP: it gets no answer, DNS_ASK: its name is to be asked for. */
enum dns_verdict { DNS_OK = 0, DNS_MALFORMED = 1, DNS_FAILED = 2, DNS_NO_NAME = 3, DNS_NOT_DONE = 4, DNS_REFUSED = 5, DNS_DROP = 16, DNS_ASK };

struct dns_question {
    char name[DNS_NAME_MAX + 1]; /* lower case, no last dot */
    size_t end;                  /* of the question in the message; 0: it has none that could be told back */
    int wants_address;           /* A, else AAAA */
};

enum dns_verdict dns_parse(const uint8_t *message, size_t length, struct dns_question *question);
/* The answer to `message`, which dns_parse has seen, into `out` (DNS_ANSWER_MAX). `address`: host order, for DNS_OK to a question for one. Bytes. */
size_t dns_answer(const uint8_t *message, const struct dns_question *question, enum dns_verdict verdict, uint32_t address, uint8_t *out);
/* What the proxy says of a name, without the line's end: `no` (0), `yes` or `yes PORT …` (1), anything else (-1). `count` goes in as the room. */
int dns_said(const char *line, uint16_t *ports, size_t *count);

#endif
