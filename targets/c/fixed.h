/* Integer arithmetic of emitted networks. Every function is defined for every argument that its comment allows:
 * no signed overflow, no shift of a negative number. (A compiler turns `x < 0 ? ~(~x >> s) : x >> s` into one
 * arithmetic shift.) The same text for every model, so several may be included together. */
#ifndef PEFSLC_FIXED_H
#define PEFSLC_FIXED_H

#include <stdint.h>

/* Functions that are better with each call's numbers in them. For small code, they stay one. */
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
#define PEFSLC_INLINE static inline __attribute__((always_inline))
#else
#define PEFSLC_INLINE static inline
#endif

/* Functions that are smaller with each call's numbers in them than a call. */
#if defined(__GNUC__)
#define PEFSLC_SMALL static inline __attribute__((always_inline))
#else
#define PEFSLC_SMALL static inline
#endif

/* Functions that all their callers share. */
#if defined(__GNUC__)
#define PEFSLC_SHARED static __attribute__((noinline))
#else
#define PEFSLC_SHARED static
#endif

/* Those of which a compiler makes no copies, as they have their calls' numbers in them. */
#if defined(__GNUC__) && !defined(__clang__)
#define PEFSLC_ONE static __attribute__((noinline, noclone))
#else
#define PEFSLC_ONE PEFSLC_SHARED
#endif

/* Where the pointer points, the compiler is not told. GCC 12 computes the address of one buffer from that of another where it
 * knows both to be in one object, takes a store there for one to nowhere, and drops calls of functions that only store so. */
#if defined(__GNUC__) && !defined(__clang__)
#define PEFSLC_HIDDEN(pointer) __asm__("" : "+r"(pointer))
#else
#define PEFSLC_HIDDEN(pointer) ((void)(pointer))
#endif

/* Sums that a kernel stored, and taps that were copied, are loaded again: clang would carry the first of them into the loop
 * after it in a register, and no longer vectorise that. */
#if defined(__clang__)
#define PEFSLC_STORED __asm__ volatile("" : : : "memory")
#else
#define PEFSLC_STORED ((void)0)
#endif

/* Before a loop of few rounds: clang would write them all out, and then find no vectors. */
#if defined(__clang__)
#define PEFSLC_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define PEFSLC_ROLLED
#endif

/* Sums that are stored one by one: gcc would gather four of them in a vector, which takes it longer. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
#define PEFSLC_APART __asm__ volatile("" : : : "memory")
#else
#define PEFSLC_APART ((void)0)
#endif

/* sum += product, of vectors of an x86-64: `add` is the intrinsic, `name` the instruction. gcc would put off the additions of
 * many products, and then has no register left for them. A product that may change costs no copies of sums. */
#if defined(__GNUC__) && !defined(__clang__)
#ifdef __AVX__
#define PEFSLC_ADDITION(name) "v" name " {%1, %0, %0|%0, %0, %1}"
#else
#define PEFSLC_ADDITION(name) name " {%1, %0|%0, %1}"
#endif
#define PEFSLC_PLUS(sum, product, add, name)                                                                           \
    do {                                                                                                               \
        __typeof__(sum) pefslc_product = product;                                                                      \
        __asm__(PEFSLC_ADDITION(name) : "+x"(sum), "+x"(pefslc_product));                                              \
    } while (0)
#else
#define PEFSLC_PLUS(sum, product, add, name) (sum = add(sum, product))
#endif

/* Functions that add up vectors: those of 512 bits would take longer to add up than they save. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8 && defined(__AVX512F__)
#define PEFSLC_256 __attribute__((noinline, target("prefer-vector-width=256")))
#else
#define PEFSLC_256
#endif

/* Behind it, bytes of the arena may hold another type than before it. C99 allows that, but clang takes a load of one type
 * for independent of a store of another. */
#if defined(__GNUC__)
#define PEFSLC_REUSED __asm__ volatile("" : : : "memory")
#else
#define PEFSLC_REUSED ((void)0)
#endif

/* Of constants. An AVR reads its flash by instructions of their own, which avr-gcc uses for arrays that are __flash: in
 * GNU's C (-std=gnu99), of the first 64 KB. With -DPEFSLC_FLASH= it copies them to RAM before main, as without GNU's C. */
#if !defined(PEFSLC_FLASH) && defined(__AVR__) && defined(__FLASH) && !defined(__STRICT_ANSI__)
#define PEFSLC_FLASH __flash
#define PEFSLC_FLASH_BYTES 65000L /* more are refused: 64 KB, which the program's vectors share */
#elif !defined(PEFSLC_FLASH)
#define PEFSLC_FLASH
#endif

/* Weights of 8 bits, and their products with taps of 8 bits. Without VNNI, compilers make pmaddwd of weights of 16 bits,
 * and nothing as fast of bytes. With it, gcc looks for products of 16 bits, of which it makes vpdpbusd. Arrays of both
 * widths have names of their own: files that are compiled for two processors do not link. */
#if defined(__SSE2__) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__)
typedef int16_t pefslc_weight;
#define PEFSLC_WEIGHT_NAME(name) name##_of_16
#define PEFSLC_PRODUCT(tap, weight) ((int32_t)(tap) * (int32_t)(weight))
#else
typedef int8_t pefslc_weight;
#define PEFSLC_WEIGHT_NAME(name) name##_of_8
#define PEFSLC_PRODUCT(tap, weight) ((int16_t)((int16_t)(tap) * (int16_t)(weight)))
#endif

/* Weights of which a vector has one for each lane, and products that fit into 16 bits. A vector has twice as many lanes of
 * 16 bits as of 32. Elsewhere a product of 32 bits takes no longer, and needs no cutting off. */
#if defined(__SSE2__)
typedef int16_t pefslc_lane_weight;
#define PEFSLC_LANE_WEIGHT_NAME(name) name##_of_16
#define PEFSLC_LANE_PRODUCT(tap, weight) ((int16_t)((tap) * (weight)))
#else
typedef int8_t pefslc_lane_weight;
#define PEFSLC_LANE_WEIGHT_NAME(name) name##_of_8
#define PEFSLC_LANE_PRODUCT(tap, weight) ((int32_t)(tap) * (int32_t)(weight))
#endif

/* floor(x / 2^shift), 0 <= shift < 32 (64). */
static inline int32_t pefslc_floor_shift_32(int32_t x, int shift)
{
    return x < 0 ? ~(~x >> shift) : x >> shift;
}

static inline int64_t pefslc_floor_shift_64(int64_t x, int shift)
{
    return x < 0 ? ~(~x >> shift) : x >> shift;
}

/* x / 2^shift rounded to the nearest, ties to even; 0 <= shift < 31 (63); x + 2^(shift-1) must not overflow. */
PEFSLC_SMALL int32_t pefslc_half_even_shift_32(int32_t x, int shift)
{
    if (shift == 0) {
        return x;
    }
    return pefslc_floor_shift_32(x + ((INT32_C(1) << (shift - 1)) - 1 + (pefslc_floor_shift_32(x, shift) & 1)), shift);
}

static inline int64_t pefslc_half_even_shift_64(int64_t x, int shift)
{
    if (shift == 0) {
        return x;
    }
    return pefslc_floor_shift_64(x + ((INT64_C(1) << (shift - 1)) - 1 + (pefslc_floor_shift_64(x, shift) & 1)), shift);
}

/* The nearest number to x in [low, high]. */
static inline int32_t pefslc_clamp_32(int32_t x, int32_t low, int32_t high)
{
    const int32_t raised = x < low ? low : x;
    return raised > high ? high : raised;
}

static inline int64_t pefslc_clamp_64(int64_t x, int64_t low, int64_t high)
{
    const int64_t raised = x < low ? low : x;
    return raised > high ? high : raised;
}

/* The taps [first, end) of `count`, each `step` behind the one before, of which the first is at `at`, that lie in [0, size). */
static inline int32_t pefslc_first_tap(int32_t at, int32_t step)
{
    return at < 0 ? (step - 1 - at) / step : 0;
}

static inline int32_t pefslc_end_tap(int32_t at, int32_t step, int32_t size, int32_t count)
{
    const int32_t inside = at < size ? (size - at + step - 1) / step : 0;
    return inside < count ? inside : count;
}

/* How many of `count` ascending thresholds are at most x. */
static inline int32_t pefslc_steps_32(int32_t x, const PEFSLC_FLASH int32_t *thresholds, int32_t count)
{
    int32_t first = 0;
    while (count > 0) {
        const int32_t half = count / 2;
        if (thresholds[first + half] <= x) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

static inline int32_t pefslc_steps_64(int64_t x, const PEFSLC_FLASH int64_t *thresholds, int32_t count)
{
    int32_t first = 0;
    while (count > 0) {
        const int32_t half = count / 2;
        if (thresholds[first + half] <= x) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

#endif
