/* Runs an emitted network once, between two calls of `mark`, and ends with status 0 if its output is as expected.
 * Compiled with -DHEADER='"NAME.h"' and -DRUN=NAME_run; case.h has the codes `case_input` and `case_expected`, and an
 * array `case_output`. Without input and output: it runs where there is no C library, too. */
#include <stddef.h>
#include <stdint.h>

#include HEADER
#include "case.h"

void mark(void);

/* The counting plugin looks for this address; c_count_plugin.c. */
__attribute__((noinline, used)) void mark(void)
{
    __asm__ volatile("" : : : "memory");
}

int main(void)
{
    size_t i;

    mark();
    RUN(case_input, case_output);
    mark();

    for (i = 0; i < sizeof case_output / sizeof case_output[0]; i++) {
        if (case_output[i] != case_expected[i]) {
            return 1;
        }
    }
    return 0;
}
