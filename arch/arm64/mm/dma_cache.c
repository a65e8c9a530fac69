// SPDX-License-Identifier: GPL-2.0-only
/* Cache maintenance for DMA on arm64: by virtual address to the point of coherency. */
#include <linux/dma_cache.h>
#include <linux/init.h>
#include <linux/memblock.h>

#include <asm/dma_cache.h>

asmlinkage unsigned int dma_cache_line_size(void);
asmlinkage unsigned long dma_cache_lines_cvac(unsigned long start, unsigned long end,
					      unsigned long line);
asmlinkage unsigned long dma_cache_lines_civac(unsigned long start, unsigned long end,
					       unsigned long line);

/**
 * arch_dma_cache_init() - find out the size of a line
 * @clwb: ignored: there is but one way to clean to the PoC
 *
 * Return: size of a cache line in bytes.
 */
unsigned int __init arch_dma_cache_init(bool clwb)
{
	return dma_cache_line_size();
}

/**
 * arch_dma_cache_name() - the instruction that maintains a line
 * @op: what is done
 *
 * Return: its mnemonic.
 */
const char *arch_dma_cache_name(enum dma_cache_op op)
{
	return op == DMA_CACHE_CLEAN ? "DC CVAC" : "DC CIVAC";
}

/**
 * arch_dma_cache_lines() - maintain a range of kernel addresses
 * @op: what to do
 * @start: address of the first line
 * @end: address after the last line
 * @line: size of a line in bytes
 *
 * Context: Any, between two fences.
 * Return: @end, or the first line that is not mapped.
 */
unsigned long arch_dma_cache_lines(enum dma_cache_op op, unsigned long start, unsigned long end,
				   unsigned int line)
{
	if (op == DMA_CACHE_CLEAN)
		return dma_cache_lines_cvac(start, end, line);
	return dma_cache_lines_civac(start, end, line);
}

/**
 * arch_dma_cache_is_memory() - whether there is cacheable memory
 * @phys: physical address of a page that has no struct page, or a reserved one
 *
 * Return: true for memory, also for what is not in the linear map (no-map). Memory that mem=
 * hides is known to nobody here.
 */
bool arch_dma_cache_is_memory(phys_addr_t phys)
{
	return memblock_is_memory(phys);
}
