// SPDX-License-Identifier: GPL-2.0-only
/* x86, in 64-bit mode */
#include <string.h>

#include "decode.h"

enum { FS = 16, GS };

static const char *const registers[] = {
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
	"fs_base", "gs_base", NULL
};

struct prefixes {
	bool size, repeat, repne, lock, narrow;
	int segment;
	unsigned int rex;
#define REX_X	2
#define REX_B	1
};

/* Returns how many bytes they are. */
static size_t read_prefixes(const unsigned char *code, size_t size, struct prefixes *prefixes)
{
	size_t i;

	*prefixes = (struct prefixes) { .segment = NO_REGISTER };
	for (i = 0; i < size; i++) {
		switch (code[i]) {
		case 0x66:
			prefixes->size = true;
			break;
		case 0xf2:
			prefixes->repne = true;
			break;
		case 0xf3:
			prefixes->repeat = true;
			break;
		case 0xf0:
			prefixes->lock = true;
			break;
		case 0x67:
			prefixes->narrow = true;
			break;
		/* Other segments start at 0, whatever overrides what. */
		case 0x64:
			prefixes->segment = FS;
			break;
		case 0x65:
			prefixes->segment = GS;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			break;
		default:
			/* REX is the last one. */
			if ((code[i] & 0xf0) == 0x40)
				prefixes->rex = code[i++];
			return i;
		}
	}
	return i;
}

/* The operand in memory, with @code at ModRM; false if its bytes are not all there */
static bool read_memory(const unsigned char *code, size_t size, uint64_t next,
			const struct prefixes *prefixes, struct insn *insn)
{
	unsigned int mod = code[0] >> 6, rm = code[0] & 7, bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	unsigned int b = prefixes->rex & REX_B ? 8 : 0, x = prefixes->rex & REX_X ? 8 : 0;
	size_t at = 1;
	int32_t wide;

	insn->segment = prefixes->segment;
	insn->narrow = prefixes->narrow;
	insn->index = NO_REGISTER;
	insn->base = rm + b;
	if (rm == 4) {
		if (size < 2)
			return false;
		insn->scale = 1 << (code[1] >> 6);
		/* RSP is no index, but R12 is. */
		if (((code[1] >> 3 & 7) + x) != 4)
			insn->index = (code[1] >> 3 & 7) + x;
		insn->base = (code[1] & 7) + b;
		at = 2;
		if (!mod && (code[1] & 7) == 5) {
			insn->base = NO_REGISTER;
			bytes = 4;
		}
	} else if (!mod && rm == 5) {
		insn->base = NO_REGISTER;
		insn->displacement = next;
		bytes = 4;
	}
	if (size < at + bytes)
		return false;
	if (bytes == 1) {
		insn->displacement += (int8_t)code[at];
	} else if (bytes) {
		memcpy(&wide, code + at, sizeof(wide));
		insn->displacement += wide;
	}
	return true;
}

static struct insn decode(const unsigned char *code, size_t size, uint64_t address)
{
	struct insn insn = { INSN_OTHER };
	struct prefixes prefixes;
	size_t at = read_prefixes(code, size, &prefixes);
	unsigned int reg;

	/* What is locked waits for CLFLUSHOPT and CLWB, too; XCHG with memory always is. */
	if (prefixes.lock ||
	    (at + 2 <= size && (code[at] & 0xfe) == 0x86 && code[at + 1] < 0xc0)) {
		insn.kind = INSN_FENCE;
		return insn;
	}
	if (at + 2 > size || code[at] != 0x0f)
		return insn;
	if (code[at + 1] == 0x09) {
		/* WBNOINVD, or WBINVD */
		insn.kind = INSN_ALL;
		insn.op = prefixes.repeat ? CACHE_CLEAN : CACHE_FLUSH;
		return insn;
	}
	if (at + 3 > size || prefixes.repeat || prefixes.repne)
		return insn;
	reg = code[at + 2] >> 3 & 7;
	if (code[at + 1] == 0x01 && code[at + 2] == 0xd8) {
		insn.kind = INSN_ENTER;
	} else if (code[at + 1] == 0xae && code[at + 2] >= 0xc0) {
		/* MFENCE, SFENCE; LFENCE does not wait. */
		if (!prefixes.size && (reg == 6 || reg == 7))
			insn.kind = INSN_FENCE;
	} else if (code[at + 1] == 0xae && (reg == 7 || (reg == 6 && prefixes.size)) &&
		   read_memory(code + at + 2, size - at - 2, address + size, &prefixes, &insn)) {
		/* CLFLUSHOPT and CLWB, or CLFLUSH */
		insn.kind = prefixes.size ? INSN_LINE : INSN_LINE_NOW;
		insn.op = reg == 6 ? CACHE_CLEAN : CACHE_FLUSH;
	}
	return insn;
}

const struct decoder decode_x86 = { "x86_64", 0, registers, decode };
