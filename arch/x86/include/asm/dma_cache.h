/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_DMA_CACHE_H
#define _ASM_X86_DMA_CACHE_H

#include <linux/dma_cache.h>

#include <asm/barrier.h>

/* What dma_cache=auto means: devices do bypass the caches here. */
#define ARCH_DMA_CACHE_AUTO	true

unsigned int arch_dma_cache_init(bool clwb);
const char *arch_dma_cache_name(enum dma_cache_op op);
unsigned long arch_dma_cache_lines(enum dma_cache_op op, unsigned long start, unsigned long end,
				   unsigned int line);
bool arch_dma_cache_is_memory(phys_addr_t phys);

static inline void arch_dma_cache_fence(void)
{
	/*
	 * CLFLUSHOPT and CLWB are ordered by fences, not by each other (Intel SDM volume 2A,
	 * CLFLUSHOPT; volume 3A, 9.2.5).
	 */
	mb();
}

#endif /* _ASM_X86_DMA_CACHE_H */
