/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_PAT_MEMTYPE_H
#define _ASM_X86_PAT_MEMTYPE_H

#include <linux/memtype.h>
#include <linux/mm_types.h>
#include <linux/page-flags.h>
#include <uapi/asm/mtrr.h>

enum memtype_kind mtrr_pfn_memtype(unsigned long pfn);
enum memtype_kind memtype_combine(enum memtype_kind memory, enum memtype_kind pat, bool amd);
u64 memtype_to_pat(enum memtype_kind kind, enum memtype_kind *actual);
enum memtype_kind pfn_memtype(unsigned long pfn, enum memtype_kind pat);

/**
 * mtrr_memtype - the memory type that an encoding of MTRRs and EPT entries stands for
 * @type: MTRR_TYPE_*, of which neither may have another value
 *
 * Intel SDM vol. 3 section 13.11 (MTRRs) and section 30.3.7.2 (EPT).
 *
 * Context: Any.
 * Return: MEMTYPE_WB, WT, WP, WC or UC.
 */
static inline enum memtype_kind mtrr_memtype(u8 type)
{
	switch (type) {
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

/**
 * pat_page_is_wb - whether the kernel's linear map has a page of memory write-back
 * @page: a page that is not reserved
 *
 * As pfn_memtype() of a write-back entry, for those who cannot afford to call it.
 *
 * Context: Any.
 * Return: Whether it does.
 */
static inline bool pat_page_is_wb(const struct page *page)
{
#ifdef CONFIG_X86_PAT
	/* _PGMT_WB in arch/x86/mm/pat/memtype.c. Newer kernels have the flags in a struct. */
	return !(READ_ONCE(*(const unsigned long *)&page->flags) &
		 (BIT(PG_arch_1) | BIT(PG_arch_2)));
#else
	return true;
#endif
}

#endif /* _ASM_X86_PAT_MEMTYPE_H */
