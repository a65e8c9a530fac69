/* SPDX-License-Identifier: GPL-2.0-only */
/* How vmf_insert_pfn_pmd() and vmf_insert_pfn_pud() take a page frame number. */
#ifndef __MM_MEMTYPE_TEST_BASE_H
#define __MM_MEMTYPE_TEST_BASE_H

#if __has_include("linux/pfn_t.h")
#include <linux/pfn_t.h>

#define memtype_test_frame(pfn)	__pfn_to_pfn_t(pfn, PFN_DEV)
#else
#define memtype_test_frame(pfn)	(pfn)
#endif

#endif /* __MM_MEMTYPE_TEST_BASE_H */
