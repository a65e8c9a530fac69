// SPDX-License-Identifier: GPL-2.0-only
/* arm64 */
#include <string.h>

#include "decode.h"

static const char *const registers[] = {
	"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7",
	"x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
	"x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23",
	"x24", "x25", "x26", "x27", "x28", "x29", "x30", "PAR_EL1", NULL
};

#define PAR_EL1			31

/* SYS #op1, C7, CRm, #op2, Xt, without Xt */
#define SYS_C7(op1, crm, op2)	(0xd5087000 | (op1) << 16 | (crm) << 8 | (op2) << 5)
#define XZR			31
/* MRS Xt, PAR_EL1, without Xt */
#define MRS_PAR_EL1		0xd5387400

static struct insn decode(const unsigned char *code, size_t size, uint64_t address)
{
	struct insn insn = { INSN_OTHER, .index = NO_REGISTER, .segment = NO_REGISTER };
	uint32_t word;

	(void)address;
	if (size != sizeof(word))
		return insn;
	memcpy(&word, code, sizeof(word));
	insn.base = (word & 31) == XZR ? NO_REGISTER : (int)(word & 31);
	switch (word & ~31u) {
	/* What stops at the point of persistence has passed that of coherency. */
	case SYS_C7(3, 10, 1):	/* DC CVAC */
	case SYS_C7(3, 12, 1):	/* DC CVAP */
	case SYS_C7(3, 13, 1):	/* DC CVADP */
		insn.kind = INSN_LINE;
		insn.op = CACHE_CLEAN;
		return insn;
	case SYS_C7(3, 14, 1):	/* DC CIVAC */
	/*
	 * A dirty line may have been evicted just before. What looks dirty can have been stored
	 * with the MMU off, past the caches, and must not be lost.
	 */
	case SYS_C7(0, 6, 1):	/* DC IVAC */
		insn.kind = INSN_LINE;
		insn.op = CACHE_FLUSH;
		return insn;
	case SYS_C7(0, 6, 2):	/* DC ISW */
	case SYS_C7(0, 10, 2):	/* DC CSW */
	case SYS_C7(0, 14, 2):	/* DC CISW */
		insn.kind = INSN_SOME;
		return insn;
	case SYS_C7(4, 8, 4):	/* AT S12E1R */
	case SYS_C7(4, 8, 5):	/* AT S12E1W */
		insn.kind = INSN_WALK;
		return insn;
	case MRS_PAR_EL1:
		insn.kind = INSN_WALKED;
		insn.base = PAR_EL1;
		return insn;
	}
	/* Any other AT */
	if ((word & 0xfff8fe00) == 0xd5087800) {
		insn.kind = INSN_WALK_ONE;
		return insn;
	}
	if ((word & 0xfffff0ff) == 0xd503309f) {
		/*
		 * DSB, but for SSBB and PSSBB. One that is for loads only, or for stores only, does
		 * not wait for DC (Arm ARM DDI 0487, "Ordering and completion of data and
		 * instruction cache instructions").
		 */
		unsigned int crm = word >> 8 & 15;

		if ((crm & 3) == 3 || crm == 8 || crm == 12)
			insn.kind = INSN_FENCE;
	} else if ((word & 0xfffff3ff) == 0xd503323f) {
		/* DSB with nXS */
		insn.kind = INSN_FENCE;
	}
	return insn;
}

/* QEMU's machine "virt" has the RAM there. */
const struct decoder decode_arm64 = { "aarch64", 0x40000000, registers, decode };
