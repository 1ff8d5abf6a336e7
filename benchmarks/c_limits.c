/* What one core of this machine can do at most: multiply-accumulates per second of the instructions that dot products
 * are made of, from registers alone. Prints a line for each that the processor has: its name, a tab, GMAC/s.
 *
 * The best of many short runs counts: another program on the same core only makes a run slower. On other processors
 * than x86-64 nothing is printed. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RUNS 400
#define LOOPS 20000L

/* A loop whose body is `text`, with no memory access in it. */
#define LOOP(name, text, ...)                                                                                          \
    static void name(long loops)                                                                                       \
    {                                                                                                                  \
        __asm__ volatile("1:\n\t" text "dec %0\n\tjnz 1b\n\t" : "+r"(loops) : : "cc", __VA_ARGS__);                    \
    }

#define LOW                                                                                                            \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15"

/* `one` for each of 12 accumulators: more than latency times instructions per cycle. */
#define TWELVE(one) one("0") one("1") one("2") one("3") one("4") one("5") one("6") one("7") one("8") one("9") one("10") one("11")

#define VNNI_512(i) "vpdpbusd %%zmm14, %%zmm15, %%zmm" i "\n\t"
#define VNNI_256_EVEX(i) "%{evex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" i "\n\t"
#define VNNI_256_VEX(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" i "\n\t"
#define WORDS_512(i) "vpmaddwd %%zmm14, %%zmm15, %%zmm13\n\tvpaddd %%zmm13, %%zmm" i ", %%zmm" i "\n\t"
#define WORDS_256(i) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n\tvpaddd %%ymm13, %%ymm" i ", %%ymm" i "\n\t"
#define BYTES_256(i) "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n\tvpaddw %%ymm13, %%ymm" i ", %%ymm" i "\n\t"
/* Without a third operand, the product overwrites what it is made of: a copy first, as in a real kernel. */
#define WORDS_128(i) "movdqa %%xmm14, %%xmm13\n\tpmaddwd %%xmm15, %%xmm13\n\tpaddd %%xmm13, %%xmm" i "\n\t"

LOOP(vnni_512, TWELVE(VNNI_512), LOW)
LOOP(vnni_256_evex, TWELVE(VNNI_256_EVEX), LOW)
LOOP(vnni_256_vex, TWELVE(VNNI_256_VEX), LOW)
LOOP(words_512, TWELVE(WORDS_512), LOW)
LOOP(words_256, TWELVE(WORDS_256), LOW)
LOOP(bytes_256, TWELVE(BYTES_256), LOW)
LOOP(words_128, TWELVE(WORDS_128), LOW)
LOOP(tiles,
     "tdpbusd %%tmm6, %%tmm4, %%tmm0\n\ttdpbusd %%tmm7, %%tmm4, %%tmm1\n\t"
     "tdpbusd %%tmm6, %%tmm5, %%tmm2\n\ttdpbusd %%tmm7, %%tmm5, %%tmm3\n\t",
     "memory")

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void measure(const char *name, void (*loop)(long), double macs)
{
    double best = 1e9;
    int i;
    for (i = 0; i < RUNS; i++) {
        const double start = seconds();
        double used;
        loop(LOOPS);
        used = seconds() - start;
        best = used < best ? used : best;
    }
    printf("%s\t%.1f\n", name, 1e-9 * macs * (double)LOOPS / best);
    fflush(stdout);
}

static unsigned features(unsigned leaf, int of_edx)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, leaf, &a, &b, &c, &d) ? (of_edx ? d : a) : 0;
}

/* Linux gives a process the tiles only on request: 1 where it has them now, all eight of 16 rows of 64 bytes. */
static int tiles_are_ready(void)
{
    static const uint8_t tile_size[64] = {
        [0] = 1,   [16] = 64, [18] = 64, [20] = 64, [22] = 64, [24] = 64, [26] = 64, [28] = 64, [30] = 64,
        [48] = 16, [49] = 16, [50] = 16, [51] = 16, [52] = 16, [53] = 16, [54] = 16, [55] = 16,
    };
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    if ((features(0, 1) >> 24 & 3) != 3 || syscall(SYS_arch_prctl, request, tile_data) != 0) {
        return 0;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(tile_size));
    __asm__ volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tilezero %%tmm4\n\ttilezero %%tmm5\n\ttilezero %%tmm6\n\ttilezero %%tmm7" : : : "memory");
    return 1;
}

int main(void)
{
    __builtin_cpu_init();
    measure("pmaddwd xmm", words_128, 12 * 8);
    if (__builtin_cpu_supports("avx2")) {
        measure("vpmaddwd ymm", words_256, 12 * 16);
        measure("vpmaddubsw ymm", bytes_256, 12 * 32);
    }
    if (features(1, 0) >> 4 & 1) {
        measure("vpdpbusd ymm", vnni_256_vex, 12 * 32);
    } else if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) {
        measure("vpdpbusd ymm", vnni_256_evex, 12 * 32);
    }
    if (__builtin_cpu_supports("avx512bw")) {
        measure("vpmaddwd zmm", words_512, 12 * 32);
    }
    if (__builtin_cpu_supports("avx512vnni")) {
        measure("vpdpbusd zmm", vnni_512, 12 * 64);
    }
    if (tiles_are_ready()) {
        measure("tdpbusd tiles", tiles, 4 * 16 * 16 * 64);
        __asm__ volatile("tilerelease" : : : "memory");
    }
    return 0;
}

#else

int main(void)
{
    return 0;
}

#endif
