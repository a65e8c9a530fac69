// SPDX-License-Identifier: GPL-2.0-only
/*
 * As much of QEMU and GLib as the plugin uses, for test_cache_plugin.py: CPUs that execute one
 * instruction at a time, each in a block of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define CPUS		2
#define CALLS		2
/* What is mapped, one to one but for this offset; the first gigabyte is not. */
#define OFFSET		0x40000000ull

struct qemu_plugin_insn {
	const unsigned char *code;
	size_t size;
	uint64_t address;
	void *where;
	struct {
		qemu_plugin_vcpu_udata_cb_t call;
		void *data;
		bool conditional;
		uint64_t value;
	} calls[CALLS];
	unsigned int nr_calls;
};

struct qemu_plugin_tb {
	struct qemu_plugin_insn insn;
};

struct qemu_plugin_scoreboard {
	uint64_t values[CPUS];
};

static struct qemu_plugin_scoreboard scoreboard;
static qemu_plugin_vcpu_udata_cb_t start;
static qemu_plugin_vcpu_tb_trans_cb_t translate;
static qemu_plugin_udata_cb_t end;
static unsigned int current;
/* The registers that a test sets; all others are 0. */
static const char *const names[] = {
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
	"r12", "r13", "r14", "r15", "fs_base", "gs_base",
	"PAR_EL1", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10",
	"x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20",
	"x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
};

static uint64_t values[CPUS][ARRAY_SIZE(names)];

/* As 11.1 has it, with members that the plugin does not look at */
struct descriptor {
	struct qemu_plugin_register *handle;
	const char *name, *feature;
	bool is_readonly;
};

struct g_byte_array *g_byte_array_new(void)
{
	return calloc(1, sizeof(struct g_byte_array));
}

struct g_byte_array *g_byte_array_set_size(struct g_byte_array *array, unsigned int length)
{
	array->data = realloc(array->data, length + 1);
	array->len = length;
	return array;
}

unsigned int g_array_get_element_size(struct g_array *array)
{
	(void)array;
	return sizeof(struct descriptor);
}

char *g_array_free(struct g_array *array, int free_segment)
{
	if (free_segment)
		free(array->data);
	free(array);
	return NULL;
}

struct g_array *qemu_plugin_get_registers(void)
{
	struct descriptor *found = calloc(ARRAY_SIZE(names), sizeof(*found));
	struct g_array *array = malloc(sizeof(*array));
	unsigned int i;

	/* The handle of the first one is NULL, as in QEMU. */
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		found[i].handle = (void *)(uintptr_t)i;
		found[i].name = names[i];
	}
	*array = (struct g_array) { (char *)found, ARRAY_SIZE(names) };
	return array;
}

bool qemu_plugin_read_register(struct qemu_plugin_register *handle, struct g_byte_array *to)
{
	g_byte_array_set_size(to, sizeof(values[0][0]));
	memcpy(to->data, &values[current][(uintptr_t)handle], to->len);
	return true;
}

bool qemu_plugin_translate_vaddr(uint64_t address, uint64_t *physical)
{
	*physical = address - OFFSET;
	return address >= OFFSET;
}

void qemu_plugin_register_vcpu_init_cb(uint64_t id, qemu_plugin_vcpu_udata_cb_t call, void *data)
{
	(void)id;
	(void)data;
	start = call;
}

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, qemu_plugin_vcpu_tb_trans_cb_t call,
					   void *data)
{
	(void)id;
	(void)data;
	translate = call;
}

void qemu_plugin_register_atexit_cb(uint64_t id, qemu_plugin_udata_cb_t call, void *data)
{
	(void)id;
	(void)data;
	end = call;
}

void qemu_plugin_register_vcpu_insn_exec_cond_cb(struct qemu_plugin_insn *insn,
						 qemu_plugin_vcpu_udata_cb_t call,
						 enum qemu_plugin_cb_flags flags,
						 enum qemu_plugin_cond cond,
						 struct qemu_plugin_u64 entry, uint64_t value,
						 void *data)
{
	qemu_plugin_register_vcpu_insn_exec_cb(insn, call, flags, data);
	insn->calls[insn->nr_calls - 1].conditional = true;
	insn->calls[insn->nr_calls - 1].value = value;
	if (cond != QEMU_PLUGIN_COND_NE || entry.score != &scoreboard || entry.offset)
		abort();
}

void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    qemu_plugin_vcpu_udata_cb_t call,
					    enum qemu_plugin_cb_flags flags, void *data)
{
	(void)flags;
	if (insn->nr_calls == CALLS)
		abort();
	insn->calls[insn->nr_calls].call = call;
	insn->calls[insn->nr_calls++].data = data;
}

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb)
{
	(void)tb;
	return 1;
}

struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t number)
{
	(void)number;
	return (struct qemu_plugin_insn *)&tb->insn;
}

size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size)
{
	if (size > insn->size)
		size = insn->size;
	memcpy(to, insn->code, size);
	return size;
}

uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn)
{
	return insn->address;
}

void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn)
{
	return insn->where;
}

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t element_size)
{
	(void)element_size;
	return &scoreboard;
}

void qemu_plugin_u64_set(struct qemu_plugin_u64 entry, unsigned int vcpu, uint64_t value)
{
	entry.score->values[vcpu] = value;
}

/* What the test does */

int install(const char *target, char *argument)
{
	struct qemu_info info = { .target_name = target, .system_emulation = true };
	unsigned int cpu;
	int ret = qemu_plugin_install(1, &info, argument ? 1 : 0, &argument);

	for (cpu = 0; !ret && cpu < CPUS; cpu++) {
		current = cpu;
		start(cpu, NULL);
	}
	return ret;
}

void set_register(unsigned int cpu, unsigned int number, uint64_t value)
{
	values[cpu][number] = value;
}

/* Returns how many calls it had. */
unsigned int execute(unsigned int cpu, const unsigned char *code, size_t size, uint64_t address,
		     void *where)
{
	struct qemu_plugin_tb tb = {
		.insn = { .code = code, .size = size, .address = address, .where = where },
	};
	unsigned int i, called = 0;

	translate(&tb, NULL);
	current = cpu;
	for (i = 0; i < tb.insn.nr_calls; i++) {
		if (tb.insn.calls[i].conditional &&
		    scoreboard.values[cpu] == tb.insn.calls[i].value)
			continue;
		tb.insn.calls[i].call(cpu, tb.insn.calls[i].data);
		called++;
	}
	return called;
}

void finish(void)
{
	end(NULL);
}
