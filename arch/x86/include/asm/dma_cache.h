/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_DMA_CACHE_H
#define _ASM_X86_DMA_CACHE_H

#include <asm-generic/dma_cache.h>
#include <asm/barrier.h>

/* What dma_cache=auto means: devices do bypass the caches here. */
#define ARCH_DMA_CACHE_AUTO	true

static inline void arch_dma_cache_fence(void)
{
	/*
	 * CLFLUSHOPT and CLWB are ordered by fences, not by each other (Intel SDM volume 2A,
	 * CLFLUSHOPT; volume 3A, 9.2.5).
	 */
	mb();
}

#endif /* _ASM_X86_DMA_CACHE_H */
