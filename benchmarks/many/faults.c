/* Slow syncs and a full disk, for any process on Linux that reaches the disk through libc (LD_PRELOAD).

   FAULTS_SYNC_MS     so long does each fsync and fdatasync take, in place of what the disk needs
   FAULTS_SYNC_LOG    a file that gets a line per sync that has ended: seconds of CLOCK_MONOTONIC, and the path
   FAULTS_FULL_MARK   while this file exists, writes to paths that hold FAULTS_FULL_PATH fail with ENOSPC          */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int path_of(int descriptor, char *path, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return 1;
}

static int is_full(int descriptor)
{
    const char *mark = getenv("FAULTS_FULL_MARK"), *part = getenv("FAULTS_FULL_PATH");
    char path[4096];
    if (!mark || !part || access(mark, F_OK) || !path_of(descriptor, path, sizeof path) || !strstr(path, part))
        return 0;
    errno = ENOSPC;
    return 1;
}

static int synced(int descriptor)
{
    const char *wait = getenv("FAULTS_SYNC_MS"), *log = getenv("FAULTS_SYNC_LOG");
    long ms = wait ? atol(wait) : 0;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    char path[4096], line[4200];
    if (log && path_of(descriptor, path, sizeof path)) {
        clock_gettime(CLOCK_MONOTONIC, &time);
        int length = snprintf(line, sizeof line, "%ld.%09ld %s\n", time.tv_sec, time.tv_nsec, path);
        int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (out >= 0) {
            ssize_t (*plain)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
            plain(out, line, length);
            close(out);
        }
    }
    return 0;
}

int fsync(int descriptor) { return synced(descriptor); }
int fdatasync(int descriptor) { return synced(descriptor); }

#define WRITES(name, parameters, ...)                                                                                  \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        static ssize_t(*next) parameters;                                                                              \
        if (!next)                                                                                                     \
            next = dlsym(RTLD_NEXT, #name);                                                                            \
        return is_full(descriptor) ? -1 : next(__VA_ARGS__);                                                           \
    }

typedef const struct iovec *vectors;
WRITES(write, (int descriptor, const void *data, size_t size), descriptor, data, size)
WRITES(writev, (int descriptor, vectors data, int count), descriptor, data, count)
WRITES(pwrite, (int descriptor, const void *data, size_t size, off_t at), descriptor, data, size, at)
WRITES(pwrite64, (int descriptor, const void *data, size_t size, off64_t at), descriptor, data, size, at)
WRITES(pwritev, (int descriptor, vectors data, int count, off_t at), descriptor, data, count, at)
WRITES(pwritev64, (int descriptor, vectors data, int count, off64_t at), descriptor, data, count, at)
WRITES(pwritev2, (int descriptor, vectors data, int count, off_t at, int flags), descriptor, data, count, at, flags)
WRITES(pwritev64v2, (int descriptor, vectors data, int count, off64_t at, int flags), descriptor, data, count, at, flags)
