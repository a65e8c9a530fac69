/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_ARM64_DMA_CACHE_H
#define _ASM_ARM64_DMA_CACHE_H

#include <asm-generic/dma_cache.h>
#include <asm/barrier.h>

/*
 * What dma_cache=auto means: off. The SMMUv3 driver of 6.12 never enforces coherency, that of
 * 7.3 only where firmware says that the SMMU can. So most assigned devices would pay, and nearly
 * all of them snoop.
 */
#define ARCH_DMA_CACHE_AUTO	false

/* Maintenance by address is complete after a DSB (Arm ARM DDI 0487, D7.5.9). */
static inline void arch_dma_cache_fence(void)
{
	dsb(sy);
}

#endif /* _ASM_ARM64_DMA_CACHE_H */
