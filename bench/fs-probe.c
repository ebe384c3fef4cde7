// Times one kind of file operation in the current directory and prints microseconds per operation. Used by fs-micro alone.
// usage: fs-probe stat|open-read|readdir|create-4k|write-bulk|read-bulk MIB

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PATHS = 4096, CREATES = 500, CHUNK = 1 << 20 };

static char *files[MAX_PATHS], *dirs[MAX_PATHS];
static int file_count, dir_count;

static int visit(const char *path, const struct stat *st, int type, struct FTW *where) {
    (void)st;
    (void)where;
    if (strstr(path, "/output") || strstr(path, "fs-probe")) return 0;
    if (type == FTW_F && file_count < MAX_PATHS) files[file_count++] = strdup(path);
    if (type == FTW_D && dir_count < MAX_PATHS) dirs[dir_count++] = strdup(path);
    return 0;
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int do_stat(void) {
    struct stat st;
    for (int i = 0; i < file_count; i++)
        if (lstat(files[i], &st)) fail(files[i]);
    return file_count;
}

static int do_open_read(void) {
    char block[4096];
    for (int i = 0; i < file_count; i++) {
        int fd = open(files[i], O_RDONLY);
        if (fd < 0 || read(fd, block, sizeof block) < 0) fail(files[i]);
        close(fd);
    }
    return file_count;
}

static int do_readdir(void) {
    for (int i = 0; i < dir_count; i++) {
        DIR *d = opendir(dirs[i]);
        if (!d) fail(dirs[i]);
        while (readdir(d)) {}
        closedir(d);
    }
    return dir_count;
}

static int do_create(void) {
    char name[64], block[4096];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < CREATES; i++) {
        snprintf(name, sizeof name, "output/new-%d", i);
        int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd < 0 || write(fd, block, sizeof block) != sizeof block) fail(name);
        close(fd);
    }
    return CREATES;
}

static int bulk(int mib, int writing) {
    char *block = malloc(CHUNK);
    if (!block) fail("malloc");
    memset(block, 'y', CHUNK);
    int fd = open("output/bulk", writing ? O_CREAT | O_TRUNC | O_WRONLY : O_RDONLY, 0644);
    if (fd < 0) fail("output/bulk");
    for (int i = 0; i < mib; i++) {
        ssize_t n = writing ? write(fd, block, CHUNK) : read(fd, block, CHUNK);
        if (n != CHUNK) fail("bulk");
    }
    close(fd);
    free(block);
    return mib;
}

static void clear_created(void) {
    char name[64];
    for (int i = 0; i < CREATES; i++) {
        snprintf(name, sizeof name, "output/new-%d", i);
        unlink(name);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const char *what = argv[1];
    int mib = atoi(argv[2]), reads = !strcmp(what, "stat") || !strcmp(what, "open-read") || !strcmp(what, "readdir");
    nftw(".", visit, 32, FTW_PHYS);
    clear_created();
    if (!strcmp(what, "read-bulk") && access("output/bulk", R_OK)) bulk(mib, 1);
    int rounds = reads ? 10 : 1, count = 0;
    double start = now_us();
    for (int i = 0; i < rounds; i++) {
        if (!strcmp(what, "stat")) count += do_stat();
        else if (!strcmp(what, "open-read")) count += do_open_read();
        else if (!strcmp(what, "readdir")) count += do_readdir();
        else if (!strcmp(what, "create-4k")) count += do_create();
        else count += bulk(mib, !strcmp(what, "write-bulk"));
    }
    double took = now_us() - start;
    clear_created();
    printf("%.4f\n", took / count);
    return 0;
}
