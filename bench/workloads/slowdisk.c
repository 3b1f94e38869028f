/* Preloaded into Postgres: adds two milliseconds to each flush to disk, as on an ordinary cloud disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static void delay(void) {
    struct timespec two_ms = {0, 2000000};
    nanosleep(&two_ms, 0);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    delay();
    return real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    delay();
    return real(fd);
}
