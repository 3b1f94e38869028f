/* Preloaded into a host's processes: their wall clock is off by FLEET_TEST_SHIFT seconds, or by as many as the file that
   FLEET_TEST_CLOCK names holds (a double), which may change at any time. The monotonic clock is not. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile double *set;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("FLEET_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *set, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) set = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    const char *shift = getenv("FLEET_TEST_SHIFT");
    if (failed || clock != CLOCK_REALTIME) return failed;
    if (set) {
        double moment = now->tv_nsec / 1e9 + *set, whole = floor(moment);
        now->tv_sec += (time_t)whole;
        now->tv_nsec = (long)((moment - whole) * 1e9);
    } else if (shift) {
        now->tv_sec += atoi(shift);
    }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec read;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &read)) return -1;
    now->tv_sec = read.tv_sec;
    now->tv_usec = read.tv_nsec / 1000;
    return 0;
}
