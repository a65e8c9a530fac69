/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the plugin uses of QEMU and of GLib, which QEMU brings with it. Debian packages no header of
 * QEMU's for plugins. That of another version of the interface can differ in any of this, so the
 * plugin says which version it is made for, and QEMU refuses one that it does not have.
 */
#ifndef MEMTYPE_CACHE_QEMU_PLUGIN_H
#define MEMTYPE_CACHE_QEMU_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QEMU_PLUGIN_VERSION	7	/* of QEMU 11.1 */

/* A QEMU that lacks one of the functions is to complain of the version, not of the function. */
#pragma weak qemu_plugin_get_registers
#pragma weak qemu_plugin_read_register
#pragma weak qemu_plugin_register_vcpu_insn_exec_cond_cb
#pragma weak qemu_plugin_scoreboard_new
#pragma weak qemu_plugin_translate_vaddr
#pragma weak qemu_plugin_u64_set

/* GLib */

struct g_byte_array {
	uint8_t *data;
	unsigned int len;
};

struct g_array {
	char *data;
	unsigned int len;
};

struct g_byte_array *g_byte_array_new(void);
struct g_byte_array *g_byte_array_set_size(struct g_byte_array *array, unsigned int length);
unsigned int g_array_get_element_size(struct g_array *array);
char *g_array_free(struct g_array *array, int free_segment);

/* QEMU */

struct qemu_info {
	const char *target_name;
	struct {
		int min;
		int cur;
	} version;
	bool system_emulation;
};	/* as far as the plugin looks at it */

struct qemu_plugin_register_name {
	struct qemu_plugin_register *handle;
	const char *name;
};	/* likewise */

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;

struct qemu_plugin_u64 {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
};

enum qemu_plugin_cb_flags {
	QEMU_PLUGIN_CB_NO_REGS,
	QEMU_PLUGIN_CB_R_REGS,
};

enum qemu_plugin_cond {
	QEMU_PLUGIN_COND_NE = 3,
};

typedef void (*qemu_plugin_udata_cb_t)(void *data);
typedef void (*qemu_plugin_vcpu_udata_cb_t)(unsigned int vcpu, void *data);
typedef void (*qemu_plugin_vcpu_tb_trans_cb_t)(struct qemu_plugin_tb *tb, void *data);

void qemu_plugin_register_vcpu_init_cb(uint64_t id, qemu_plugin_vcpu_udata_cb_t call,
				       void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   qemu_plugin_vcpu_tb_trans_cb_t call, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    qemu_plugin_vcpu_udata_cb_t call,
					    enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cond_cb(struct qemu_plugin_insn *insn,
						 qemu_plugin_vcpu_udata_cb_t call,
						 enum qemu_plugin_cb_flags flags,
						 enum qemu_plugin_cond cond,
						 struct qemu_plugin_u64 entry, uint64_t value,
						 void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, qemu_plugin_udata_cb_t call, void *data);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t number);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);

struct g_array *qemu_plugin_get_registers(void);
bool qemu_plugin_read_register(struct qemu_plugin_register *handle, struct g_byte_array *to);
bool qemu_plugin_translate_vaddr(uint64_t address, uint64_t *physical);

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t element_size);
void qemu_plugin_u64_set(struct qemu_plugin_u64 entry, unsigned int vcpu, uint64_t value);

/* What QEMU looks for in a plugin */

#define EXPORT	__attribute__((visibility("default")))

extern EXPORT int qemu_plugin_version;

EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);

#endif /* MEMTYPE_CACHE_QEMU_PLUGIN_H */
