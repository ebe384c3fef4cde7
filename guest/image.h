/* A mask layer that is one file: a read-only EROFS image, made by `tool mask`. See image.c. */
#ifndef CORRAL_IMAGE_H
#define CORRAL_IMAGE_H

/* Mounts the image file at `path`, detached: returns the descriptor of the mount's root, to be used as a lower layer through
 * /proc/self/fd; the mount lives as long as the descriptor or an overlay over it. -1 with errno: ENODEV and ENOTBLK mean that this
 * kernel cannot mount a file as EROFS (before 6.12). */
int image_mount(const char *path);

#endif
