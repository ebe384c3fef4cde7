/* What single values of a request may look like (parse-words.h). No I/O, no state.
 * Invariant: a value that passed can be given to a system call as it stands. */
#define _GNU_SOURCE
#include "parse-words.h"

#include <limits.h>
#include <string.h>

#include "frame.h"

int bad_number(const char *text, uint64_t most, uint64_t *value) {
    return !record_number(text, most, value);
}

int number32(const char *text, uint32_t most, uint32_t *value) {
    uint64_t wide;
    if (!record_number(text, most, &wide))
        return -1;
    *value = (uint32_t)wide;
    return 0;
}

int flag_parse(const char *text, int *value) {
    if ((text[0] != '0' && text[0] != '1') || text[1])
        return -1;
    *value = text[0] == '1';
    return 0;
}

/* Components without "." and ".."; `text` begins at a component. */
static int components_ok(const char *text) {
    for (;;) {
        size_t length = strcspn(text, "/");
        if (length == 0 || length > NAME_MAX)
            return 0;
        if (text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.')))
            return 0;
        if (!text[length])
            return 1;
        text += length + 1;
    }
}

/* SAFETY: a path of the host is opened as it stands, so "..", "//" and relative spellings are refused here: without this a
 * caller that joined names could be led out of the directory it meant. */
int path_ok(const char *text) {
    if (text[0] != '/' || strlen(text) >= PATH_MAX)
        return 0;
    return !text[1] || components_ok(text + 1);
}

int relative_ok(const char *text) {
    return strlen(text) < PATH_MAX && components_ok(text);
}

int id_ok(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789");
    return !text[length] && length >= ID_MIN && length <= ID_MAX;
}

int hostname_ok(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
    return !text[length] && length >= 1 && length <= 64;
}

/* SAFETY: options that name layers would put a host path into mountinfo and a directory nobody checked into the mount. */
int overlay_option_ok(const char *text) {
    static const char *const allowed[] = {"metacopy=on", "metacopy=off", "redirect_dir=on", "redirect_dir=off", "redirect_dir=nofollow",
        "redirect_dir=follow", "index=off", "xino=on", "xino=off", "xino=auto", "userxattr", "volatile", "nfs_export=off"};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (!strcmp(text, allowed[i]))
            return 1;
    return 0;
}

int one_path(const char **slot, const char *text) {
    if (*slot || !path_ok(text))
        return -1;
    *slot = text;
    return 0;
}
