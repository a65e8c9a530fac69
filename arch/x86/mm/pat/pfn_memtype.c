// SPDX-License-Identifier: GPL-2.0-only
/* Which memory type the host maps a page frame with, by PAT's own books. */
#include <linux/export.h>
#include <linux/memtype.h>
#include <linux/mm.h>
#include <asm/cacheinfo.h>
#include <asm/e820/api.h>
#include <asm/memtype.h>
#include <asm/mtrr.h>
#include <asm/pat_memtype.h>

#include "memtype.h"

static enum memtype_kind pat_memtype_kind(enum page_cache_mode mode)
{
	switch (mode) {
	case _PAGE_CACHE_MODE_WB:
		return MEMTYPE_WB;
	case _PAGE_CACHE_MODE_WC:
		return MEMTYPE_WC;
	case _PAGE_CACHE_MODE_UC_MINUS:
		return MEMTYPE_UC_MINUS;
	case _PAGE_CACHE_MODE_UC:
		return MEMTYPE_UC;
	case _PAGE_CACHE_MODE_WT:
		return MEMTYPE_WT;
	case _PAGE_CACHE_MODE_WP:
		return MEMTYPE_WP;
	default:
		return MEMTYPE_NONE;
	}
}

/**
 * mtrr_pfn_memtype - the memory type that the MTRRs say of a page frame
 * @pfn: page frame number
 *
 * Intel SDM vol. 3 section 13.11, AMD APM vol. 2 section 7.7.
 *
 * Context: Any. No lock is taken.
 * Return: MEMTYPE_WB, WT, WP, WC or UC; MEMTYPE_NONE if there are no MTRRs, or they are
 * not in use.
 */
enum memtype_kind mtrr_pfn_memtype(unsigned long pfn)
{
	u64 paddr = PFN_PHYS(pfn);
	u8 uniform;

	if (!(memory_caching_control & CACHE_MTRR))
		return MEMTYPE_NONE;

	switch (mtrr_type_lookup(paddr, paddr + PAGE_SIZE, &uniform)) {
	case MTRR_TYPE_WRBACK:
		return MEMTYPE_WB;
	case MTRR_TYPE_WRTHROUGH:
		return MEMTYPE_WT;
	case MTRR_TYPE_WRPROT:
		return MEMTYPE_WP;
	case MTRR_TYPE_WRCOMB:
		return MEMTYPE_WC;
	default:
		return MEMTYPE_UC;
	}
}
EXPORT_SYMBOL_NS_GPL(mtrr_pfn_memtype, KVM_MEMTYPE);

/*
 * The ISA hole, which PAT does not track. The fixed-range MTRRs say what is in it;
 * without them it is known that 0xa0000 to 0xbffff is VGA's.
 */
static enum memtype_kind isa_hole_memtype(unsigned long pfn)
{
	enum memtype_kind kind = mtrr_pfn_memtype(pfn);

	if (kind == MEMTYPE_NONE)
		return pfn < PFN_DOWN(0xc0000) ? MEMTYPE_UC : MEMTYPE_WB;
	return kind;
}

/**
 * pat_pfn_memtype - the memory type with which the host maps a page frame
 * @pfn: page frame number
 *
 * It is sampled: nothing tells the caller of a later set_memory_*().
 *
 * Context: Any. Of memory that has a struct page and is not reserved, no lock is
 * taken, else it may be that of PAT's interval tree.
 * Return: MEMTYPE_WB, WT, WC, UC_MINUS, UC, or of the ISA hole WP; MEMTYPE_NONE if
 * the page frame is no memory and nothing has asked PAT for a type.
 */
enum memtype_kind pat_pfn_memtype(unsigned long pfn)
{
	struct memtype *entry;
	enum memtype_kind kind = MEMTYPE_NONE;
	u64 paddr = PFN_PHYS(pfn);

	if (pfn_valid(pfn) && (!PageReserved(pfn_to_page(pfn)) || is_zero_pfn(pfn)))
		return pat_memtype_kind(get_page_memtype(pfn_to_page(pfn)));
	if (paddr >= ISA_START_ADDRESS && paddr < ISA_END_ADDRESS)
		return isa_hole_memtype(pfn);
	if (e820__mapped_any(paddr, paddr + PAGE_SIZE, E820_TYPE_RAM))
		return pfn_valid(pfn) ? pat_memtype_kind(get_page_memtype(pfn_to_page(pfn))) :
					MEMTYPE_WB;

	spin_lock(&memtype_lock);
	entry = memtype_lookup(paddr);
	if (entry)
		kind = pat_memtype_kind(entry->type);
	spin_unlock(&memtype_lock);
	return kind;
}
EXPORT_SYMBOL_NS_GPL(pat_pfn_memtype, KVM_MEMTYPE);

/*
 * PAT overrides what a driver says of memory, and keeps books of everything else. It
 * does not know of what drivers put into page tables without asking it.
 */
enum memtype_kind arch_memtype_kind(unsigned long pfn, pgprot_t prot)
{
	return pat_pfn_memtype(pfn);
}
