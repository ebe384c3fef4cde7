/* argv and environment of a command. */
#ifndef CORRAL_ENV_H
#define CORRAL_ENV_H

#include <stddef.h>

#include "request.h"

struct arguments {
    char **argv;
    char **envp;
    const char *path; /* value of PATH, or the default */
    void *memory;
};

/* Pointers into the request and `base`; later wins. 0, -ENOMEM, or -EINVAL for no argv[0] or an entry without a name. */
int arguments_make(struct arguments *out, const struct exec_request *request, const char *const *base, size_t bases);
void arguments_free(struct arguments *arguments);

#endif
