/* The ring of ring.h. Sizes are powers of two, so an offset's place is its low bits.
 * Invariant: no byte outside [start, end) is read, none of it is written but by ring_took's caller. */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

static size_t kinds_bytes(uint32_t size) { return size / 4; }
static enum ring_kind kind_at(const struct ring *ring, uint64_t offset) {
    uint32_t at = (uint32_t)offset & (ring->size - 1);
    return (enum ring_kind)(ring->kinds[at / 4] >> (at % 4 * 2) & 3);
}

static void set_kind(struct ring *ring, uint64_t offset, enum ring_kind kind) {
    uint32_t at = (uint32_t)offset & (ring->size - 1), shift = at % 4 * 2;
    ring->kinds[at / 4] = (uint8_t)((ring->kinds[at / 4] & ~(3u << shift)) | (uint32_t)kind << shift);
}

static bool allocate(struct ring *ring, uint32_t size) {
    uint8_t *memory = malloc(size + kinds_bytes(size));
    if (!memory) return false;
    ring->bytes = memory;
    ring->kinds = memory + size;
    ring->size = size;
    memset(ring->kinds, 0, kinds_bytes(size));
    return true;
}

bool ring_open(struct ring *ring) {
    *ring = (struct ring){0};
    return allocate(ring, RING_FIRST_BYTES);
}

void ring_free(struct ring *ring) {
    free(ring->bytes);
    *ring = (struct ring){0};
}

/* No memory: it stays as small as it is, and older bytes give way. */
static void grow(struct ring *ring) {
    struct ring old = *ring;
    if (!allocate(ring, old.size * 2)) return;
    for (uint64_t offset = old.start; offset < old.end; offset++) {
        ring->bytes[offset & (ring->size - 1)] = old.bytes[offset & (old.size - 1)];
        set_kind(ring, offset, kind_at(&old, offset));
    }
    free(old.bytes);
}

uint8_t *ring_space(struct ring *ring, size_t *most) {
    while (ring->size < RING_BYTES && ring->end - ring->start + *most > ring->size) {
        uint32_t before = ring->size;
        grow(ring);
        if (ring->size == before) break;
    }
    uint32_t at = (uint32_t)ring->end & (ring->size - 1);
    if (*most > ring->size - at) *most = ring->size - at;
    return ring->bytes + at;
}

void ring_took(struct ring *ring, enum ring_kind kind, size_t count) {
    uint64_t end = ring->end + count;
    while (ring->end < end) {
        uint32_t at = (uint32_t)ring->end & (ring->size - 1);
        if (at % 4 == 0 && end - ring->end >= 4) {
            ring->kinds[at / 4] = (uint8_t)(kind * 0x55u);
            ring->end += 4;
        } else set_kind(ring, ring->end++, kind);
    }
    if (ring->end - ring->start > ring->size) ring->start = ring->end - ring->size;
}

const uint8_t *ring_run(const struct ring *ring, uint64_t offset, enum ring_kind *kind, size_t *most) {
    uint32_t at = (uint32_t)offset & (ring->size - 1);
    size_t room = ring->size - at, count = 1;
    if (ring->end - offset < room) room = (size_t)(ring->end - offset);
    if (*most < room) room = *most;
    *kind = kind_at(ring, offset);
    while (count < room) {
        if ((at + count) % 4 == 0 && room - count >= 4 && ring->kinds[(at + count) / 4] == (uint8_t)(*kind * 0x55u)) count += 4;
        else if (kind_at(ring, offset + count) == *kind) count++;
        else break;
    }
    *most = count;
    return ring->bytes + at;
}
