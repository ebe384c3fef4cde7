/* rm -r without following links. Not undoable, and not atomic: a tree that is being removed can be seen half gone. */
#ifndef CORRAL_REMOVE_H
#define CORRAL_REMOVE_H

#include <stdint.h>

enum { REMOVE_ALL = -1 };

/* Removes `path` and all below it, at most `budget` entries (REMOVE_ALL: all). Absent is removed.
 * 0 done, 1 the budget was spent, -errno failed. */
int tree_remove(const char *path, int64_t budget);
/* The same for `name` in the directory `dir`. */
int tree_remove_at(int dir, const char *name, int64_t budget);

#endif
