/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_PAT_MEMTYPE_H
#define _ASM_X86_PAT_MEMTYPE_H

#include <linux/memtype.h>
#include <linux/mm_types.h>
#include <linux/page-flags.h>

enum memtype_kind mtrr_pfn_memtype(unsigned long pfn);
enum memtype_kind memtype_combine(enum memtype_kind memory, enum memtype_kind pat, bool amd);
u64 memtype_to_pat(enum memtype_kind kind, enum memtype_kind *actual);
enum memtype_kind pfn_memtype(unsigned long pfn, enum memtype_kind pat);

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
	/* _PGMT_WB in arch/x86/mm/pat/memtype.c */
	return !(READ_ONCE(page->flags) & (BIT(PG_arch_1) | BIT(PG_arch_2)));
#else
	return true;
#endif
}

#endif /* _ASM_X86_PAT_MEMTYPE_H */
