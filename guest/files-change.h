/* Requests of the worker `files` that change names and what stands beside content. 0 or -errno. */
#ifndef CORRAL_FILES_CHANGE_H
#define CORRAL_FILES_CHANGE_H

#include <sys/stat.h>

#include "files-request.h"

/* `st`: of the directory that is there then. */
int change_mkdir(const struct files_request *request, struct stat *st);
int change_move(const struct files_request *request);
/* 1: `count` entries are gone and there are more. */
int change_remove(const struct files_request *request);
/* Mode or time. */
int change_set(const struct files_request *request, struct stat *st);
int change_symlink(const struct files_request *request);
int change_link(const struct files_request *request);
int change_xattr(const struct files_request *request);

#endif
