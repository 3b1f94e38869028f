/* Preloaded into a host's processes: their wall clock is FLEET_TEST_SHIFT seconds off. The monotonic clock is not. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    const char *shift = getenv("FLEET_TEST_SHIFT");
    if (!failed && clock == CLOCK_REALTIME && shift) now->tv_sec += atoi(shift);
    return failed;
}
