/* Content of one file into another, holes kept, shared where the file system can. */
#ifndef CORRAL_CONTENT_H
#define CORRAL_CONTENT_H

#include <sys/types.h>

/* `to` is empty. 0, or -1 with errno; a source that shrinks meanwhile gives a file of `size` with a hole at its end. */
int content_copy(int from, int to, off_t size);

#endif
