// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's TCG: has instructions for cache maintenance do to the model what they do to
 * caches. QEMU itself executes them, and they do nothing.
 *
 *	-plugin file=PLUGIN,memory=FILE
 *
 * FILE is that of model.h, and the RAM of QEMU's machine is the first quarter of it. QEMU calls the
 * plugin before it executes an instruction, and so also if the instruction then traps.
 *
 * CLFLUSHOPT, CLWB and DC take effect at the next fence of that CPU, so that it is seen if one is
 * forgotten, unless another one comes by chance: on x86, LOCK and XCHG are fences for them, and the
 * kernel of arm64 executes a DSB when it switches tasks.
 *
 * It sees no types of memory, with one exception: where an arm64 kernel has the MMU translate an
 * address of a guest (AT S12E1R) and reads in PAR_EL1 what came of it, that says of this page
 * whether the guest's accesses pass the caches.
 *
 * QEMU's interface walks no nested page tables of x86: what guests of the machine do there is
 * ignored, and counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "model.h"
#include "qemu_plugin.h"

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define MAX_CPUS	16
#define MAX_CODE	16
/* Ranges of lines that wait for a fence; with more they do not wait, as they need not. */
#define MAX_RANGES	256
/* PAR_EL1 after a translation: it failed, the page, the type, and which type is not cached */
#define PAR_F		1
#define PAR_PA		0xfffffffff000ull
#define PAR_ATTR	56
#define NORMAL_NC	0x44
/* How many instructions that enter a guest the kernel can have */
#define MAX_ENTRIES	8

struct range {
	enum cache_op op;
	uint64_t start, end;
};

static struct cpu {
	struct qemu_plugin_register *registers[MAX_REGISTERS];
	struct g_byte_array *value;
	struct range ranges[MAX_RANGES];
	unsigned int nr_ranges;
	bool in_guest;
	bool walked;	/* What PAR_EL1 has is of both stages, and nobody has read it. */
	/* How many lines there were, of which in no RAM; and instructions that were ignored */
	unsigned long lines, elsewhere, in_guests, by_set;
} cpus[MAX_CPUS];

static const struct decoder *const decoders[] = { &decode_x86, &decode_arm64 };
static const struct decoder *decoder;
static struct cache cache;
/* Of each CPU, whether ranges wait */
static struct qemu_plugin_u64 waiting;
/* Where guests return to, in the memory of QEMU: a guest's kernel can have the host's addresses. */
static const void *returns[MAX_ENTRIES];
static unsigned int nr_returns;

int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static uint64_t read_register(struct cpu *cpu, int number)
{
	uint64_t value = 0;

	if (number == NO_REGISTER)
		return 0;
	g_byte_array_set_size(cpu->value, 0);
	if (qemu_plugin_read_register(cpu->registers[number], cpu->value) &&
	    cpu->value->len == sizeof(value))
		memcpy(&value, cpu->value->data, sizeof(value));
	return value;
}

static uint64_t address_of(struct cpu *cpu, const struct insn *insn)
{
	uint64_t address = read_register(cpu, insn->base) + insn->displacement +
			   read_register(cpu, insn->index) * insn->scale;

	if (insn->narrow)
		address = (uint32_t)address;
	return address + read_register(cpu, insn->segment);
}

static void drain(unsigned int number)
{
	struct cpu *cpu = &cpus[number];
	unsigned int i;
	uint64_t at;

	for (i = 0; i < cpu->nr_ranges; i++)
		for (at = cpu->ranges[i].start; at < cpu->ranges[i].end; at += CACHE_LINE)
			cache_maintain(&cache, cpu->ranges[i].op, at);
	cpu->nr_ranges = 0;
	qemu_plugin_u64_set(waiting, number, 0);
}

static void wait_for_fence(unsigned int number, enum cache_op op, uint64_t line)
{
	struct cpu *cpu = &cpus[number];
	struct range *last = cpu->nr_ranges ? &cpu->ranges[cpu->nr_ranges - 1] : NULL;

	if (last && last->op == op && last->end == line) {
		last->end += CACHE_LINE;
		return;
	}
	if (cpu->nr_ranges == MAX_RANGES)
		drain(number);
	cpu->ranges[cpu->nr_ranges++] = (struct range) { op, line, line + CACHE_LINE };
	qemu_plugin_u64_set(waiting, number, 1);
}

static void do_line(unsigned int number, void *data)
{
	const struct insn *insn = data;
	struct cpu *cpu = &cpus[number];
	uint64_t address, place;

	if (cpu->in_guest) {
		cpu->in_guests++;
		return;
	}
	cpu->lines++;
	address = address_of(cpu, insn);
	if (!qemu_plugin_translate_vaddr(address - address % CACHE_LINE, &place) ||
	    place < decoder->ram || place - decoder->ram >= cache.size) {
		cpu->elsewhere++;
		return;
	}
	place -= decoder->ram;
	if (insn->kind == INSN_LINE_NOW)
		cache_maintain(&cache, insn->op, place);
	else
		wait_for_fence(number, insn->op, place);
}

static void do_all(unsigned int number, void *data)
{
	const struct insn *insn = data;

	if (cpus[number].in_guest)
		cpus[number].in_guests++;
	else
		cache_maintain_all(&cache, insn->op);
}

static void do_some(unsigned int number, void *data)
{
	(void)data;
	cpus[number].by_set++;
}

static void do_fence(unsigned int number, void *data)
{
	(void)data;
	drain(number);
}

static bool is_return(const void *where)
{
	unsigned int i;

	for (i = 0; i < MAX_ENTRIES; i++)
		if (where && __atomic_load_n(&returns[i], __ATOMIC_ACQUIRE) == where)
			return true;
	return false;
}

static void do_enter(unsigned int number, void *data)
{
	unsigned int at;

	/* That of a guest is intercepted. */
	if (cpus[number].in_guest)
		return;
	cpus[number].in_guest = true;
	if (is_return(data))
		return;
	at = __atomic_fetch_add(&nr_returns, 1, __ATOMIC_RELAXED);
	if (at >= MAX_ENTRIES) {
		fprintf(stderr, "cache: guests are entered in too many places\n");
		exit(1);
	}
	__atomic_store_n(&returns[at], data, __ATOMIC_RELEASE);
}

static void do_return(unsigned int number, void *data)
{
	(void)data;
	cpus[number].in_guest = false;
}

static void do_walk(unsigned int number, void *data)
{
	const struct insn *insn = data;

	cpus[number].walked = insn->kind == INSN_WALK;
}

static void do_walked(unsigned int number, void *data)
{
	const struct insn *insn = data;
	uint64_t par = read_register(&cpus[number], insn->base), place;

	if (!cpus[number].walked)
		return;
	/* Later it may be a guest's, which KVM has put back. */
	cpus[number].walked = false;
	if (par & PAR_F)
		return;
	place = (par & PAR_PA) - decoder->ram;
	if (place < cache.size)
		cache_set_uncached(&cache, place, par >> PAR_ATTR == NORMAL_NC);
}

/* An instruction stays known until QEMU ends: there are few, and QEMU may translate it again. */
static void *keep(const struct insn *insn)
{
	struct insn *kept = malloc(sizeof(*kept));

	if (!kept)
		abort();
	*kept = *insn;
	return kept;
}

static void translate(struct qemu_plugin_tb *tb, void *data)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb), size;
	unsigned char code[MAX_CODE];

	(void)data;
	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *at = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(at);
		struct insn insn;

		if (!i && is_return(qemu_plugin_insn_haddr(at)))
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_return,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		size = qemu_plugin_insn_data(at, code, sizeof(code));
		insn = decoder->decode(code, size, address);
		switch (insn.kind) {
		case INSN_OTHER:
			break;
		case INSN_LINE:
		case INSN_LINE_NOW:
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_line, QEMU_PLUGIN_CB_R_REGS,
							       keep(&insn));
			break;
		case INSN_ALL:
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_all, QEMU_PLUGIN_CB_NO_REGS,
							       keep(&insn));
			break;
		case INSN_SOME:
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_some, QEMU_PLUGIN_CB_NO_REGS,
							       NULL);
			break;
		case INSN_WALK:
		case INSN_WALK_ONE:
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_walk, QEMU_PLUGIN_CB_NO_REGS,
							       keep(&insn));
			break;
		case INSN_WALKED:
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_walked, QEMU_PLUGIN_CB_R_REGS,
							       keep(&insn));
			break;
		case INSN_FENCE:
			qemu_plugin_register_vcpu_insn_exec_cond_cb(at, do_fence,
								    QEMU_PLUGIN_CB_NO_REGS,
								    QEMU_PLUGIN_COND_NE, waiting,
								    0, NULL);
			break;
		case INSN_ENTER:
			qemu_plugin_register_vcpu_insn_exec_cb(at, do_enter, QEMU_PLUGIN_CB_NO_REGS,
							       qemu_plugin_insn_haddr(at) + size);
			break;
		}
	}
}

/* Finds the registers; all CPUs have the same ones, but a CPU's are only known to itself. */
static void start_cpu(unsigned int number, void *data)
{
	const struct qemu_plugin_register_name *one;
	unsigned int i, j, size;
	struct g_array *found;
	struct cpu *cpu;

	(void)data;
	if (number >= MAX_CPUS) {
		fprintf(stderr, "cache: more than %u CPUs\n", MAX_CPUS);
		exit(1);
	}
	cpu = &cpus[number];
	cpu->value = g_byte_array_new();
	found = qemu_plugin_get_registers();
	size = g_array_get_element_size(found);
	for (i = 0; decoder->registers[i]; i++) {
		for (j = 0; j < found->len; j++) {
			one = (void *)(found->data + j * size);
			cpu->registers[i] = one->handle;
			if (!strcmp(one->name, decoder->registers[i]))
				break;
		}
		if (j == found->len) {
			fprintf(stderr, "cache: QEMU has no register %s\n", decoder->registers[i]);
			exit(1);
		}
	}
	g_array_free(found, 1);
}

static void report(void *data)
{
	unsigned long lines = 0, elsewhere = 0, in_guests = 0, by_set = 0;
	unsigned int i;

	(void)data;
	for (i = 0; i < MAX_CPUS; i++) {
		lines += cpus[i].lines;
		elsewhere += cpus[i].elsewhere;
		in_guests += cpus[i].in_guests;
		by_set += cpus[i].by_set;
	}
	fprintf(stderr, "cache: %lu lines, %lu not in RAM; ignored %lu in guests, %lu by set\n",
		lines, elsewhere, in_guests, by_set);
}

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	static const char memory[] = "memory=";
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(decoders); i++)
		if (!strcmp(info->target_name, decoders[i]->target))
			decoder = decoders[i];
	if (!decoder || !info->system_emulation) {
		fprintf(stderr, "cache: not for %s\n", info->target_name);
		return 1;
	}
	if (argc != 1 || strncmp(argv[0], memory, strlen(memory))) {
		fprintf(stderr, "cache: needs memory=FILE\n");
		return 1;
	}
	ret = cache_open(&cache, argv[0] + strlen(memory));
	if (ret) {
		fprintf(stderr, "cache: %s: %s\n", argv[0], strerror(-ret));
		return 1;
	}
	waiting.score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	qemu_plugin_register_vcpu_init_cb(id, start_cpu, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate, NULL);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
