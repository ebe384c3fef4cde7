/* peer.h: the kernel is asked for the inode of the socket by its two ends, and the newest processes are looked through for who holds it. */
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 1024, PIDS_MAX = 256, LINKS_MAX = 512, LINK_BYTES = 40, COMM_BYTES = 16 };

int peer_diag_open(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG); }

void peer_open(struct peer *peer, int diag) {
    *peer = (struct peer){.diag = diag, .proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
}

/* 0: not found. */
static uint32_t inode_of(const struct peer *peer, int protocol, const struct sockaddr_in *from, const struct sockaddr_in *to) {
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 request;
    } ask = {
        .head = {.nlmsg_len = sizeof ask, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = AF_INET, .sdiag_protocol = (uint8_t)protocol, .idiag_states = ~0u},
    };
    /* The two kinds look a socket up from opposite ends. */
    const struct sockaddr_in *its = protocol == IPPROTO_UDP ? to : from, *other = protocol == IPPROTO_UDP ? from : to;
    ask.request.id = (struct inet_diag_sockid){.idiag_sport = its->sin_port, .idiag_dport = other->sin_port, .idiag_src = {its->sin_addr.s_addr},
                                               .idiag_dst = {other->sin_addr.s_addr}, .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}};
    union {
        struct nlmsghdr head;
        uint8_t bytes[ANSWER_BYTES];
    } answer;
    while (recv(peer->diag, &answer, sizeof answer, MSG_DONTWAIT) > 0) {} /* nothing of an earlier question */
    if (send(peer->diag, &ask, sizeof ask, MSG_DONTWAIT) < 0) return 0;
    ssize_t count = recv(peer->diag, &answer, sizeof answer, MSG_DONTWAIT); /* the kernel answers within the call that asks */
    if (count < (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) || answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY) return 0;
    struct inet_diag_msg found;
    memcpy(&found, answer.bytes + NLMSG_LENGTH(0), sizeof found);
    return found.idiag_inode;
}

static bool is_number(const char *text) { return text[0] >= '1' && text[0] <= '9'; }

/* Whether `pid` has the socket called `wanted` open. Each look is paid from `budget`. */
static bool holds(const struct peer *peer, pid_t pid, const char *wanted, int *budget) {
    char path[LINK_BYTES], target[LINK_BYTES];
    snprintf(path, sizeof path, "%d/fd", (int)pid);
    int fd = openat(peer->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        if (fd >= 0) close(fd);
        return false;
    }
    bool found = false;
    struct dirent *entry;
    while (!found && *budget > 0 && (entry = readdir(directory))) {
        if (entry->d_name[0] == '.') continue;
        --*budget;
        ssize_t count = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        if (count <= 0) continue;
        target[count] = 0;
        found = strcmp(target, wanted) == 0;
    }
    closedir(directory);
    return found;
}

/* The newest processes, oldest of them first. */
static size_t newest(const struct peer *peer, pid_t *pids) {
    int fd = openat(peer->proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        if (fd >= 0) close(fd);
        return 0;
    }
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (!is_number(entry->d_name)) continue;
        if (count == PIDS_MAX) memmove(pids, pids + PIDS_MAX / 2, (count = PIDS_MAX / 2) * sizeof *pids);
        pids[count++] = (pid_t)atoi(entry->d_name);
    }
    closedir(directory);
    return count;
}

static pid_t holder(struct peer *peer, uint32_t inode) {
    char wanted[LINK_BYTES];
    pid_t pids[PIDS_MAX];
    int budget = LINKS_MAX;
    snprintf(wanted, sizeof wanted, "socket:[%u]", inode);
    for (int i = 0; i < PEER_RECENT; i++)
        if (peer->recent[i] && holds(peer, peer->recent[i], wanted, &budget)) return peer->recent[i];
    size_t count = newest(peer, pids);
    while (count-- > 0 && budget > 0) {
        budget--;
        if (!holds(peer, pids[count], wanted, &budget)) continue;
        memmove(peer->recent + 1, peer->recent, (PEER_RECENT - 1) * sizeof *pids);
        return peer->recent[0] = pids[count];
    }
    return 0;
}

/* What a program called itself, made harmless for a line of words. */
static void put_name(const struct peer *peer, pid_t pid, char text[PEER_BYTES]) {
    char path[LINK_BYTES], comm[COMM_BYTES] = "";
    snprintf(path, sizeof path, "%d/comm", (int)pid);
    int fd = openat(peer->proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? 0 : read(fd, comm, sizeof comm - 1);
    if (fd >= 0) close(fd);
    comm[count > 0 ? count : 0] = 0;
    comm[strcspn(comm, "\n")] = 0;
    for (char *at = comm; *at; at++) {
        char low = (char)(*at | 32);
        bool fine = (low >= 'a' && low <= 'z') || (*at >= '0' && *at <= '9') || (*at && strchr("._+-", *at));
        if (!fine) *at = '?';
    }
    if (*comm) snprintf(text, PEER_BYTES, "%d:%s", (int)pid, comm);
}

void peer_find(struct peer *peer, int protocol, const struct sockaddr_in *from, const struct sockaddr_in *to, char text[PEER_BYTES]) {
    strcpy(text, "-");
    uint32_t inode = peer->diag < 0 || peer->proc < 0 ? 0 : inode_of(peer, protocol, from, to);
    pid_t pid = inode ? holder(peer, inode) : 0;
    if (pid > 0) put_name(peer, pid, text);
}
