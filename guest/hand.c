/* Hands the mounts of step 4 to the child. They are made after the clone, while the child makes and masks what is its own: on two
 * processors the longer of the two counts, not the sum. So they cannot be inherited and travel as descriptors of one message.
 * Invariant: the child takes exactly the mounts that CREATE lists and that it does not make itself, or it ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "contain.h"
#include "sys.h"

union control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(MOUNTS_MAX * sizeof(int))];
};

int mounts_hand_over(struct making *making) {
    union control control;
    int fds[MOUNTS_MAX];
    uint8_t index[MOUNTS_MAX + 1] = {0}; /* one byte more than needed: a message must not be empty */
    size_t count = 0;
    for (uint32_t i = 0; i < making->create->mounts; i++) {
        if (making->mount[i] < 0) continue;
        index[count] = (uint8_t)i;
        fds[count++] = making->mount[i];
    }
    struct iovec data = {.iov_base = index, .iov_len = count + 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        memset(control.bytes, 0, sizeof control.bytes);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    making->message = "the mounts could not be handed to the child";
    return sendmsg(making->hand[0], &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int mounts_take(struct making *making) {
    union control control;
    uint8_t index[MOUNTS_MAX + 1];
    struct iovec data = {.iov_base = index, .iov_len = sizeof index};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    making->message = "the mounts did not come: the spawner could not make them, or has ended";
    close(making->hand[0]); /* our copy of the spawner's end: with it open its death would not be seen */
    ssize_t length = recvmsg(making->hand[1], &message, MSG_CMSG_CLOEXEC);
    if (length <= 0) return length < 0 ? -errno : -EPIPE;
    /* The room is for all of them, so what is missing found no free number. */
    if (message.msg_flags & MSG_CTRUNC) return -EMFILE;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    size_t count = head ? (head->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
    if (count != (size_t)length - 1) return -EPROTO;
    for (size_t i = 0; i < count; i++) memcpy(&making->mount[index[i]], CMSG_DATA(head) + i * sizeof(int), sizeof(int));
    return 0;
}
