/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_GENERIC_DMA_CACHE_H
#define _ASM_GENERIC_DMA_CACHE_H
/* What mm/dma_cache.c asks of an architecture, beside a fence and a default. */
#include <linux/dma_cache.h>
#include <linux/pgtable.h>

unsigned int arch_dma_cache_init(bool clwb);
const char *arch_dma_cache_name(enum dma_cache_op op);
unsigned long arch_dma_cache_lines(enum dma_cache_op op, unsigned long start, unsigned long end,
				   unsigned int line);
bool arch_dma_cache_is_memory(phys_addr_t phys, phys_addr_t size);
bool arch_dma_cache_unreachable(phys_addr_t phys, pgprot_t prot);

#endif /* _ASM_GENERIC_DMA_CACHE_H */
