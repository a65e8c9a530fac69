// SPDX-License-Identifier: GPL-2.0-only
/* The memory type of the host's accesses to a page: page tables, PAT's books and MTRRs. */
#include <linux/export.h>
#include <linux/memtype.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/symbol_ns.h>
#include <asm/cacheinfo.h>
#include <asm/e820/api.h>
#include <asm/memtype.h>
#include <asm/mtrr.h>
#include <asm/pat_memtype.h>

#include "memtype.h"

static enum memtype_kind pat_memtype_kind(enum page_cache_mode mode)
{
	static const enum memtype_kind kinds[_PAGE_CACHE_MODE_NUM] = {
		[_PAGE_CACHE_MODE_WB] = MEMTYPE_WB,
		[_PAGE_CACHE_MODE_WC] = MEMTYPE_WC,
		[_PAGE_CACHE_MODE_UC_MINUS] = MEMTYPE_UC_MINUS,
		[_PAGE_CACHE_MODE_UC] = MEMTYPE_UC,
		[_PAGE_CACHE_MODE_WT] = MEMTYPE_WT,
		[_PAGE_CACHE_MODE_WP] = MEMTYPE_WP,
	};

	return kinds[mode];
}

/* What set_memory_*() made of a page of memory. */
static enum memtype_kind page_memtype(struct page *page)
{
	return IS_ENABLED(CONFIG_X86_PAT) ? pat_memtype_kind(get_page_memtype(page)) : MEMTYPE_WB;
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

	return mtrr_memtype(mtrr_type_lookup(paddr, paddr + PAGE_SIZE, &uniform));
}
EXPORT_SYMBOL_NS_GPL(mtrr_pfn_memtype, SYMBOL_NS(KVM_MEMTYPE));

/**
 * memtype_combine - the type of an access that two registers have a say in
 * @memory: the type of an MTRR, or what takes its place: that of an EPT entry
 * @pat: the type of the PAT entry that a page table entry selects
 * @amd: by AMD's table, not by Intel's
 *
 * Intel SDM vol. 3 section 13.5.2.2 (EPT: 30.3.7.2). AMD APM vol. 2 section 7.8.5,
 * table 7-11, and section 15.25.8, table 15-20, whose CD is UC here, and WC+ is WC.
 *
 * Context: Any.
 * Return: The type of the access; MEMTYPE_NONE if @pat cannot be a PAT entry's.
 */
enum memtype_kind memtype_combine(enum memtype_kind memory, enum memtype_kind pat, bool amd)
{
	bool uncached = memory == MEMTYPE_UC || memory == MEMTYPE_WC;

	switch (pat) {
	case MEMTYPE_WB:
		return memory;
	case MEMTYPE_WT:
	case MEMTYPE_WP:
		if (uncached || (amd && memory != MEMTYPE_WB && memory != pat))
			return MEMTYPE_UC;
		return pat;
	case MEMTYPE_UC_MINUS:
		return memory == MEMTYPE_WC || (memory == MEMTYPE_WP && !amd) ? MEMTYPE_WC :
										MEMTYPE_UC;
	case MEMTYPE_WC:
	case MEMTYPE_UC:
		return pat;
	default:
		return MEMTYPE_NONE;
	}
}
EXPORT_SYMBOL_NS_GPL(memtype_combine, SYMBOL_NS(KVM_MEMTYPE));

#define PAT_BITS	((u64)(_PAGE_PWT | _PAGE_PCD))

/**
 * memtype_to_pat - how a page table entry selects a type from the PAT
 * @kind: the type
 * @actual: set to the type that is selected
 *
 * What the PAT says was read from its register at boot: with "nopat" there is no WC,
 * for instance. PWT and PCD alone must do, because the third bit is elsewhere in an
 * entry of 4 KiB; what they cannot select becomes UC-, so that it is not cached and a
 * WC of another table wins.
 *
 * Context: Any.
 * Return: _PAGE_PWT and _PAGE_PCD, as the entry is to have them.
 */
u64 memtype_to_pat(enum memtype_kind kind, enum memtype_kind *actual)
{
	enum page_cache_mode mode = _PAGE_CACHE_MODE_UC_MINUS;
	u64 bits;

	if (kind == MEMTYPE_WB)
		mode = _PAGE_CACHE_MODE_WB;
	else if (kind == MEMTYPE_WC)
		mode = _PAGE_CACHE_MODE_WC;

	bits = cachemode2protval(mode);
	if (bits & ~PAT_BITS)
		bits = cachemode2protval(_PAGE_CACHE_MODE_UC_MINUS);
	/* Entry 3 is UC in every PAT that Linux has programmed or found. */
	if (bits & ~PAT_BITS)
		bits = PAT_BITS;
	*actual = pat_memtype_kind(pgprot2cachemode(__pgprot(bits)));
	return bits;
}
EXPORT_SYMBOL_NS_GPL(memtype_to_pat, SYMBOL_NS(KVM_MEMTYPE));

static bool pfn_is_isa_hole(unsigned long pfn)
{
	return pfn >= PFN_DOWN(ISA_START_ADDRESS) && pfn < PFN_DOWN(ISA_END_ADDRESS);
}

/* Memory, also what "mem=" hides; of the latter PAT has no books. */
static bool pfn_is_ram(unsigned long pfn)
{
	return (pfn_valid(pfn) && !PageReserved(pfn_to_page(pfn))) ||
	       e820__mapped_raw_any(PFN_PHYS(pfn), PFN_PHYS(pfn) + PAGE_SIZE, E820_TYPE_RAM);
}

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

/* Of two mappings of a page, that with the type which caches less. */
static enum memtype_kind less_cached(enum memtype_kind a, enum memtype_kind b)
{
	static const enum memtype_kind kinds[] = {
		MEMTYPE_UC, MEMTYPE_UC_MINUS, MEMTYPE_WC, MEMTYPE_WP, MEMTYPE_WT,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i] == a || kinds[i] == b)
			return kinds[i];
	}
	return MEMTYPE_WB;
}

/**
 * pfn_memtype - the memory type of the host's accesses to a page frame
 * @pfn: page frame number
 * @pat: the type of the PAT entry that the host's page table entry selects
 *
 * Of memory, the kernel's linear map has another entry, whose type set_memory_*()
 * sets and the page's flags tell. What is not memory has a type from the MTRRs too.
 * It is sampled: nothing tells the caller of a later set_memory_*().
 *
 * Context: Any. No lock is taken.
 * Return: MEMTYPE_WB, WT, WP, WC, UC_MINUS (which is UC, unless an MTRR made it WC) or UC.
 */
enum memtype_kind pfn_memtype(unsigned long pfn, enum memtype_kind pat)
{
	bool amd = boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
		   boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;
	enum memtype_kind mtrr;

	if (pfn_is_isa_hole(pfn))
		return memtype_combine(isa_hole_memtype(pfn), pat, amd);
	if (pfn_is_ram(pfn))
		return pfn_valid(pfn) ? less_cached(pat, page_memtype(pfn_to_page(pfn))) : pat;

	mtrr = mtrr_pfn_memtype(pfn);
	if (mtrr == MEMTYPE_NONE || (pat == MEMTYPE_UC_MINUS && mtrr != MEMTYPE_WC))
		return pat;
	return memtype_combine(mtrr, pat, amd);
}
EXPORT_SYMBOL_NS_GPL(pfn_memtype, SYMBOL_NS(KVM_MEMTYPE));

bool arch_memtype_is_one(unsigned long pfn, unsigned long nr)
{
	unsigned long i;
	u8 uniform;

	if (!pfn_is_ram(pfn)) {
		mtrr_type_lookup(PFN_PHYS(pfn), PFN_PHYS(pfn + nr), &uniform);
		return uniform || !(memory_caching_control & CACHE_MTRR);
	}
	for (i = 1; i < nr && pfn_valid(pfn); i++) {
		if (!pfn_valid(pfn + i) ||
		    page_memtype(pfn_to_page(pfn + i)) != page_memtype(pfn_to_page(pfn)))
			return false;
	}
	return true;
}
EXPORT_SYMBOL_NS_GPL(arch_memtype_is_one, SYMBOL_NS(KVM_MEMTYPE));

enum memtype_kind arch_memtype_kind(const struct memtype_leaf *leaf)
{
	/* The third bit that selects a PAT entry is elsewhere in large entries. */
	pgprot_t prot = leaf->size == PAGE_SIZE ? leaf->prot : pgprot_large_2_4k(leaf->prot);
	enum memtype_kind pat = pat_memtype_kind(pgprot2cachemode(prot));

	/* Copies that a private mapping of a device has made are mapped as the device is. */
	if (pfn_valid(leaf->pfn) && PageAnon(pfn_to_page(leaf->pfn)))
		pat = MEMTYPE_WB;
	return pfn_memtype(leaf->pfn, pat);
}
EXPORT_SYMBOL_NS_GPL(arch_memtype_kind, SYMBOL_NS(KVM_MEMTYPE));
