/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_PAT_MEMTYPE_H
#define _ASM_X86_PAT_MEMTYPE_H

#include <linux/memtype.h>
#include <linux/mm_types.h>
#include <linux/page-flags.h>

enum memtype_kind pat_pfn_memtype(unsigned long pfn);
enum memtype_kind mtrr_pfn_memtype(unsigned long pfn);

/**
 * pat_page_is_wb - whether the host maps a page of memory write-back
 * @page: a page that is not reserved
 *
 * As pat_pfn_memtype(), for those who cannot afford to call it.
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
