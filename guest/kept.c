/* Kept commands of kept.h.
 * Invariant: offsets count every byte of stdout, stderr and control that was read, in that order; a byte goes to one connection once,
 * or a gap is told; a detached command is read until its half of the ring is full, and then stands still as behind a slow reader. */
#define _GNU_SOURCE
#include "kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

enum { ATTACHED_BYTES = 28, DETACHED_ROOM = RING_BYTES / 2, CHUNK = 64 * 1024 };

static const uint8_t answers[] = {[RING_STDOUT] = ANSWER_STDOUT, [RING_STDERR] = ANSWER_STDERR, [RING_CONTROL] = ANSWER_CONTROL};

static struct kept *find(const struct guest *guest, const char *key) {
    struct kept *kept = guest->kept_first;
    while (kept && strcmp(kept->key, key) != 0) kept = kept->next;
    return kept;
}

struct kept *kept_heard(const struct client *client, uint32_t id) {
    struct kept *kept = client->guest->kept_first;
    while (kept && (kept->client != client || kept->id != id)) kept = kept->next;
    return kept;
}

void kept_unmake(struct kept *kept) {
    if (!kept) return;
    ring_free(&kept->ring);
    free(kept->note);
    free(kept);
}

static void drop(struct kept *kept) {
    struct guest *guest = kept->guest;
    struct kept **place = &guest->kept_first;
    while (*place && *place != kept) place = &(*place)->next;
    if (*place) *place = kept->next;
    guest->kept_count--;
    kept_unmake(kept);
}

static bool is_over(const struct kept *kept) { return !kept->exec && !kept->client; }

/* False: all of them run or are being heard. */
static bool make_room(struct guest *guest) {
    if (guest->kept_count < MAX_KEPT) return true;
    struct kept *kept = guest->kept_first;
    while (kept && !is_over(kept)) kept = kept->next;
    if (!kept) return false;
    drop(kept);
    guest->kept_forgotten++;
    return true;
}

struct kept *kept_make(struct exec *exec, const struct exec_request *request, int *error) {
    struct guest *guest = exec->guest;
    *error = find(guest, request->key) ? EEXIST : make_room(guest) ? 0 : EAGAIN;
    struct kept *kept = *error == 0 ? calloc(1, sizeof *kept) : NULL;
    if (*error == 0 && (!kept || !ring_open(&kept->ring) || !(kept->note = strdup(request->note)))) {
        kept_unmake(kept);
        kept = NULL;
        *error = ENOMEM;
    }
    if (!kept) return NULL;
    kept->guest = guest;
    kept->exec = exec;
    kept->client = exec->client;
    kept->id = exec->id;
    kept->flags = exec->flags;
    kept->credit = OUTPUT_WINDOW;
    memcpy(kept->key, request->key, strlen(request->key) + 1); /* request_parse has bounded it */
    return kept;
}

void kept_enter(struct kept *kept) {
    struct kept **last = &kept->guest->kept_first;
    while (*last) last = &(*last)->next;
    *last = kept;
    kept->guest->kept_count++;
    kept->pid = kept->exec->pid;
}

static bool is_heard(const struct kept *kept) { return kept->client && !kept->client->conn.dead; }

uint8_t *kept_space(struct kept *kept, size_t *most) {
    struct ring *ring = &kept->ring;
    uint64_t unsent = ring->end - kept->sent, bound = is_heard(kept) ? RING_BYTES : DETACHED_ROOM;
    size_t room = unsent < bound ? (size_t)(bound - unsent) : 0;
    if (*most > room) *most = room;
    if (*most == 0) return NULL;
    uint8_t *at = ring_space(ring, most);
    /* Where memory is short the ring is smaller, and no byte that was not sent may give way. */
    if (*most > ring->size - unsent) *most = ring->size - unsent;
    return at;
}

static void tell_end(struct kept *kept) {
    conn_send(&kept->client->conn, ANSWER_EXIT, kept->id, kept->exit, sizeof kept->exit);
    kept->client = NULL;
}

void kept_flush(struct kept *kept) {
    if (!is_heard(kept)) return;
    struct conn *conn = &kept->client->conn;
    uint32_t reserve = kept->exec ? exec_reserve(kept->exec) : 0;
    while (kept->sent < kept->ring.end) {
        enum ring_kind kind;
        size_t most = kept->credit > reserve ? kept->credit - reserve : 0;
        if (most > CHUNK) most = CHUNK;
        if (most == 0) return;
        if (conn_backlog(conn) + CHUNK > conn->limit) {
            conn->wants_room = true;
            return;
        }
        const uint8_t *bytes = ring_run(&kept->ring, kept->sent, &kind, &most);
        conn_send(conn, answers[kind], kept->id, bytes, most);
        kept->sent += most;
        kept->credit -= (uint32_t)most;
        if (conn->dead) return;
    }
    if (!kept->exec) tell_end(kept);
}

bool kept_credit(struct kept *kept, uint32_t bytes) {
    if (bytes > OUTPUT_WINDOW || kept->credit + bytes > OUTPUT_WINDOW) return false;
    kept->credit += bytes;
    kept_flush(kept);
    if (kept->exec) exec_resume(kept->exec);
    return true;
}

void kept_ended(struct kept *kept, const uint8_t exit[EXIT_BYTES]) {
    kept->exec = NULL;
    memcpy(kept->exit, exit, EXIT_BYTES);
    kept_flush(kept);
}

void kept_client_gone(const struct client *client) {
    for (struct kept *kept = client->guest->kept_first; kept; kept = kept->next)
        if (kept->client == client) kept->client = NULL;
}

void kept_client_room(const struct client *client) {
    for (struct kept *kept = client->guest->kept_first; kept; kept = kept->next)
        if (kept->client == client) kept_flush(kept);
}

static bool list_one(struct buffer *out, const struct kept *kept) {
    bool runs = kept->exec && kept->exec->phase == EXEC_RUNNING;
    return record_put(out, "kept") && record_put(out, kept->key) && record_put_number(out, (uint64_t)kept->pid) &&
           record_put(out, runs ? "running" : "ended") && record_put_number(out, kept->ring.start) && record_put_number(out, kept->ring.end) && record_put(out, kept->note);
}

void kept_list(struct client *client, uint32_t id) {
    struct guest *guest = client->guest;
    struct buffer records = {0};
    bool ok = record_put(&records, "forgotten") && record_put_number(&records, guest->kept_forgotten);
    for (struct kept *kept = guest->kept_first; kept && ok; kept = kept->next) ok = list_one(&records, kept);
    if (ok) conn_send(&client->conn, ANSWER_KEPT, id, buffer_bytes(&records), buffer_length(&records));
    else conn_close(&client->conn); /* no memory: an answer would be missing */
    buffer_free(&records);
}

static void answer_attached(struct client *client, uint32_t id, uint32_t error, const struct kept *kept) {
    uint8_t body[ATTACHED_BYTES] = {0};
    put_u32(body, error);
    if (kept) {
        put_u32(body + 4, (uint32_t)kept->pid);
        put_u64(body + 8, kept->sent);
        put_u32(body + 16, kept->exec ? (uint32_t)input_room(&kept->exec->in) : 0);
        put_u32(body + 20, kept->exec ? (uint32_t)input_room(&kept->exec->control_in) : 0);
        put_u32(body + 24, kept->flags);
    }
    conn_send(&client->conn, ANSWER_ATTACHED, id, body, sizeof body);
}

bool kept_attach(struct client *client, uint32_t id, const char *key, uint64_t offset) {
    if (exec_find(client, id) || kept_heard(client, id)) return false;
    struct kept *kept = find(client->guest, key);
    if (!kept) {
        answer_attached(client, id, ENOENT, NULL);
        return true;
    }
    if (kept->client) conn_send(&kept->client->conn, ANSWER_DETACHED, kept->id, NULL, 0);
    kept->client = client;
    kept->id = id;
    kept->credit = OUTPUT_WINDOW;
    kept->sent = offset < kept->ring.start ? kept->ring.start : offset > kept->ring.end ? kept->ring.end : offset;
    if (kept->exec) exec_heard_by(kept->exec, client, id);
    answer_attached(client, id, 0, kept);
    kept_flush(kept);
    if (kept->exec) exec_resume(kept->exec);
    return true;
}

void kept_forget(struct guest *guest, const char *key) {
    struct kept *kept = find(guest, key);
    if (kept && is_over(kept)) drop(kept);
}
