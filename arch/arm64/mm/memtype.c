// SPDX-License-Identifier: GPL-2.0-only
/* Memory types of the host's own mappings: MAIR_EL1, as cpu_setup sets it up. */
#include <linux/bitfield.h>
#include <linux/memtype.h>
#include <asm/memory.h>

/* The leaf entry says it all. */
enum memtype_kind arch_memtype_kind(const struct memtype_leaf *leaf)
{
	switch (FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(leaf->prot))) {
	case MT_NORMAL:
	case MT_NORMAL_TAGGED:
		return MEMTYPE_WB;
	case MT_NORMAL_NC:
		return MEMTYPE_WC;
	case MT_DEVICE_nGnRnE:
		return MEMTYPE_NGNRNE;
	case MT_DEVICE_nGnRE:
		return MEMTYPE_UC;
	default:
		return MEMTYPE_NONE;
	}
}

/* Nothing but the entry counts. */
bool arch_memtype_is_one(unsigned long pfn, unsigned long nr)
{
	return true;
}
