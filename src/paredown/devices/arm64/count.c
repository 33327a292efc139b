/* Counts the instructions that an emulated program executes: a plugin of QEMU's translator, for user-mode emulation.
 *
 * At every mark, a call of umask with a mask that nobody else asks for, the number of instructions that the calling
 * thread has executed so far goes as one line into the file named with out=FILE.
 *
 * Built with -DPLUGIN_API=N, the version of the interface that QEMU is told. The declarations below are the part of it
 * that is used here, the same in all versions so far; not every distribution brings the header.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { UMASK = 166, MARK = 0463, THREADS = 1024, NO_REGISTERS = 0 };

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_info;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                             uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_API;

static uint64_t executed[THREADS];
static FILE *out;

/* A block of instructions without a branch in it is about to be executed. */
static void block_runs(unsigned thread, void *instructions) { executed[thread % THREADS] += (uintptr_t)instructions; }

static void block_translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, block_runs, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(block));
}

static void system_called(plugin_id id, unsigned thread, int64_t number, uint64_t first, uint64_t a2, uint64_t a3,
                          uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == UMASK && first == MARK) {
        fprintf(out, "%" PRIu64 "\n", executed[thread % THREADS]);
        fflush(out);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int count,
                                                               char **arguments) {
    (void)info;
    if (count != 1 || strncmp(arguments[0], "out=", 4) || !(out = fopen(arguments[0] + 4, "w"))) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_called);
    return 0;
}
