/* Unix sockets to listen on: private from their first moment. Used for sandboxes' sockets and for the spawner's own. */
#ifndef CORRAL_LISTEN_H
#define CORRAL_LISTEN_H

/* A listening socket at `path` (absolute, shorter than sun_path), non-blocking, mode 0600. Descriptor or -errno; on error nothing is left. */
int local_listen(const char *path, int backlog);
/* Takes away a socket that nobody listens on. 0, also when there is none; -EADDRINUSE: somebody does; -EEXIST: what is there is no socket. */
int local_clear(const char *path);
/* Whether the peer of a connection runs as this process's own user. */
int local_is_own_user(int fd);

#endif
