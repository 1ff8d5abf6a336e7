/* Times an emitted network from within, so that no call from Python counts, by the processor time of the thread: what
 * else the machine does meanwhile does not count either. Several threads are timed by the wall clock. Compiled with
 * -DHEADER='"NAME.h"' and -DRUN=NAME_run, into a shared library. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <time.h>

#include HEADER

#ifdef _OPENMP
#define CLOCK CLOCK_MONOTONIC
#else
#define CLOCK CLOCK_THREAD_CPUTIME_ID
#endif

#define VISIBLE __attribute__((visibility("default")))

VISIBLE void run_once(const void *input, void *output);
VISIBLE int64_t nanoseconds_of(int64_t calls, const void *input, void *output);

void run_once(const void *input, void *output)
{
    RUN(input, output);
}

int64_t nanoseconds_of(int64_t calls, const void *input, void *output)
{
    struct timespec start, end;
    clock_gettime(CLOCK, &start);
    while (calls-- > 0) {
        RUN(input, output);
    }
    clock_gettime(CLOCK, &end);
    return (int64_t)(end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec);
}
