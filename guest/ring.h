/* The last bytes of a command's output: three streams in the order in which they were read, counted by one offset.
 * Pure: nothing here does input or output. Invariant: start <= end, end - start <= size <= RING_BYTES; every byte between them is there
 * with its stream; an allocation that fails leaves the ring as it was. */
#ifndef CORRAL_RING_H
#define CORRAL_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_BYTES = 64 * 1024, RING_FIRST_BYTES = 4096 /* both powers of two */ };
enum ring_kind { RING_STDOUT, RING_STDERR, RING_CONTROL };

struct ring {
    uint8_t *bytes;
    uint8_t *kinds; /* two bits for each byte */
    uint32_t size;
    uint64_t start, end; /* offsets of the first byte that is there and of the next one to come */
};

/* False: no memory. */
bool ring_open(struct ring *ring);
void ring_free(struct ring *ring);
/* Where the next bytes go, at most *most of them in one piece (which is set to how many); grows first, then the oldest give way.
 * Nothing is lost before ring_took. */
uint8_t *ring_space(struct ring *ring, size_t *most);
void ring_took(struct ring *ring, enum ring_kind kind, size_t count);
/* Bytes from `offset` on that lie in one piece and are of one stream, at most *most; *most is set to how many. `offset` must be there. */
const uint8_t *ring_run(const struct ring *ring, uint64_t offset, enum ring_kind *kind, size_t *most);

#endif
