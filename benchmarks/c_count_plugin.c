/* A plugin of QEMU that counts instructions: qemu-... -plugin count.so,at=0x1234 writes a line "count N" to the standard
 * error each time that the instruction at this address is about to run, N being how many ran before.
 *
 * What is counted are blocks of translated instructions as they are entered, each with its length. That is exact where
 * no exception leaves a block early, as between two marks. An instruction whose condition fails counts, too. The
 * declarations are the part of QEMU's interface for plugins that is the same since version 4.2; VERSION, of that
 * interface, is what the running QEMU asks for. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION 1
#endif

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*on_execution)(unsigned processor, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*call)(uint64_t id, struct qemu_plugin_tb *block));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, on_execution call, int flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *one, on_execution call, int flags,
                                                   void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *one);

extern int qemu_plugin_version;
extern int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments);
int qemu_plugin_version = VERSION;

static uint64_t executed, marked;

static void count(unsigned processor, void *instructions)
{
    (void)processor;
    executed += (uintptr_t)instructions;
}

/* The block in which the marked instruction is the `data`-th has been counted as a whole by now. */
static void tell(unsigned processor, void *data)
{
    (void)processor;
    fprintf(stderr, "count %" PRIu64 "\n", executed - (uintptr_t)data);
}

static void translated(uint64_t id, struct qemu_plugin_tb *block)
{
    const size_t n = qemu_plugin_tb_n_insns(block);
    size_t i;
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, count, 0, (void *)(uintptr_t)n);
    for (i = 0; i < n; i++) {
        struct qemu_plugin_insn *one = qemu_plugin_tb_get_insn(block, i);
        if (qemu_plugin_insn_vaddr(one) == marked) {
            qemu_plugin_register_vcpu_insn_exec_cb(one, tell, 0, (void *)(uintptr_t)(n - i));
        }
    }
}

int qemu_plugin_install(uint64_t id, const void *info, int count_of_arguments, char **arguments)
{
    (void)info;
    if (count_of_arguments != 1 || strncmp(arguments[0], "at=", 3) != 0) {
        fprintf(stderr, "wanted: at=ADDRESS\n");
        return 1;
    }
    marked = strtoull(arguments[0] + 3, NULL, 0);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
