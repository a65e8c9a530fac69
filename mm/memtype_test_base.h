/* SPDX-License-Identifier: GPL-2.0-only */
/* How vmf_insert_pfn_pmd() and vmf_insert_pfn_pud() take a page frame number. */
#ifndef __MM_MEMTYPE_TEST_BASE_H
#define __MM_MEMTYPE_TEST_BASE_H

#include <linux/export.h>

/* A kernel that has this has no pfn_t any more. */
#ifndef EXPORT_SYMBOL_FOR_MODULES
#include <linux/pfn_t.h>

#define memtype_test_frame(pfn)	__pfn_to_pfn_t(pfn, PFN_DEV)
#else
#define memtype_test_frame(pfn)	(pfn)
#endif

#endif /* __MM_MEMTYPE_TEST_BASE_H */
