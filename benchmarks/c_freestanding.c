/* The start of a program under a Linux of RISC-V, and the two functions that emitted C takes from a C library, for a
 * compiler that has none. They move words where the addresses allow it, as a small library's do. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* No call of memcpy instead of the loop that it is made of. */
#define AS_WRITTEN __attribute__((optimize("no-tree-loop-distribute-patterns")))

typedef uint32_t __attribute__((may_alias)) word;

__asm__(".globl _start\n"
        "_start:\n"
        ".option push\n"
        ".option norelax\n"
        "    la gp, __global_pointer$\n"
        ".option pop\n"
        "    andi sp, sp, -16\n"
        "    call main\n"
        "    li a7, 93\n" /* exit */
        "    ecall\n");

AS_WRITTEN void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((((uintptr_t)t ^ (uintptr_t)f) & 3) == 0) {
        for (; bytes > 0 && ((uintptr_t)t & 3) != 0; bytes--) {
            *t++ = *f++;
        }
        for (; bytes >= 4; bytes -= 4, t += 4, f += 4) {
            *(word *)t = *(const word *)f;
        }
    }
    for (; bytes > 0; bytes--) {
        *t++ = *f++;
    }
    return to;
}

AS_WRITTEN void *memset(void *to, int value, size_t bytes)
{
    uint8_t *t = to;
    const uint32_t four = (uint8_t)value * UINT32_C(0x01010101);
    for (; bytes > 0 && ((uintptr_t)t & 3) != 0; bytes--) {
        *t++ = (uint8_t)value;
    }
    for (; bytes >= 4; bytes -= 4, t += 4) {
        *(word *)t = four;
    }
    for (; bytes > 0; bytes--) {
        *t++ = (uint8_t)value;
    }
    return to;
}
