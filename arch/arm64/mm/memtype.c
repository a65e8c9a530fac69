// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory types of the host's own mappings. A leaf entry selects one of eight attributes in
 * MAIR_EL1, which the kernel sets up, but for CPUs on which one of them is broken.
 */
#include <linux/bitfield.h>
#include <linux/export.h>
#include <linux/memtype.h>
#include <asm/mair_memtype.h>
#include <asm/memory.h>
#include <asm/sysreg.h>

/* Of Normal memory, each of the inner and the outer caches: Write-Back, Write-Through or none. */
static enum memtype_kind mair_cache_memtype(u8 attr)
{
	if (attr == 0x4)
		return MEMTYPE_WC;
	return attr & 0x4 ? MEMTYPE_WB : MEMTYPE_WT;
}

/**
 * mair_memtype - the memory type of an attribute in MAIR_EL1
 * @attr: the attribute, 8 bits
 *
 * Arm ARM DDI 0487, MAIR_EL1: 0b0000dd0x is Device; 0b0100 in a half of the others is
 * Non-cacheable, 0b00RW and 0b10RW are Write-Through, 0b01RW and 0b11RW are Write-Back.
 * With FEAT_XS, 0x40 is Non-cacheable and 0xa0 Write-Through; with FEAT_MTE2, 0xf0 is
 * Tagged memory, which is Write-Back.
 *
 * Context: Any.
 * Return: The type; of caches that differ, the one that caches less. MEMTYPE_NONE for what
 * the architecture leaves unpredictable.
 */
enum memtype_kind mair_memtype(u8 attr)
{
	static const enum memtype_kind device[] = {
		MEMTYPE_NGNRNE, MEMTYPE_UC, MEMTYPE_NGRE, MEMTYPE_GRE,
	};
	enum memtype_kind inner, outer;

	switch (attr) {
	case 0x40:
		return MEMTYPE_WC;
	case 0xa0:
		return MEMTYPE_WT;
	case 0xf0:
		return MEMTYPE_WB;
	}
	if (!(attr >> 4))
		return attr & 0x2 ? MEMTYPE_NONE : device[attr >> 2];
	if (!(attr & 0xf))
		return MEMTYPE_NONE;

	inner = mair_cache_memtype(attr & 0xf);
	outer = mair_cache_memtype(attr >> 4);
	if (inner == MEMTYPE_WC || outer == MEMTYPE_WC)
		return MEMTYPE_WC;
	return inner == MEMTYPE_WT ? inner : outer;
}

/**
 * mair_index_memtype - the memory type that an index into MAIR_EL1 selects on this CPU
 * @index: MT_*
 *
 * Context: Any. With VHE, the register is that of EL2, which maps the host's processes.
 * Return: The type.
 */
enum memtype_kind mair_index_memtype(unsigned int index)
{
	return mair_memtype(read_sysreg(mair_el1) >> (8 * index));
}

/* The leaf entry says it all. */
enum memtype_kind arch_memtype_kind(const struct memtype_leaf *leaf)
{
	return mair_index_memtype(FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(leaf->prot)));
}

/* Nothing but the entry counts. */
bool arch_memtype_is_one(unsigned long pfn, unsigned long nr)
{
	return true;
}
