/* SPDX-License-Identifier: GPL-2.0-only */
/* What an instruction does to caches, and how it says to which line. */
#ifndef MEMTYPE_CACHE_DECODE_H
#define MEMTYPE_CACHE_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"

enum insn_kind {
	INSN_OTHER,
	INSN_LINE,	/* does something to a line, at the next fence at the latest */
	INSN_LINE_NOW,	/* does it at once */
	INSN_ALL,	/* does it to all lines, at once */
	INSN_SOME,	/* does something to lines that nobody can tell: by set and way */
	INSN_FENCE,	/* waits until all that was begun is done */
	INSN_ENTER,	/* has a guest run, until the instruction after it */
	INSN_WALK,	/* has the MMU translate a guest's address, by both stages ... */
	INSN_WALK_ONE,	/* ... or another address */
	INSN_WALKED,	/* reads what came of the last one, which the register @base has */
};

#define NO_REGISTER	-1

/*
 * What is done to lines, and to which of INSN_LINE and INSN_LINE_NOW. The address is the sum of
 * registers, which are indices into the architecture's names, and of @displacement.
 */
struct insn {
	enum insn_kind kind;
	enum cache_op op;
	int base, index, segment;	/* or NO_REGISTER */
	unsigned int scale;		/* of @index */
	bool narrow;			/* base, index and displacement are 32 bits together */
	int64_t displacement;
};

/* An architecture; its names of registers are those of GDB, which QEMU has, too. */
struct decoder {
	const char *target;		/* what QEMU calls it */
	uint64_t ram;			/* where RAM starts */
	const char *const *registers;	/* ends with NULL */
	/* Of the instruction at an address, in 64-bit mode */
	struct insn (*decode)(const unsigned char *code, size_t size, uint64_t address);
};

#define MAX_REGISTERS	40

extern const struct decoder decode_x86, decode_arm64;

#endif /* MEMTYPE_CACHE_DECODE_H */
