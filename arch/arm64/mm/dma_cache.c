// SPDX-License-Identifier: GPL-2.0-only
/* Cache maintenance for DMA on arm64: by virtual address to the point of coherency. */
#include <linux/bitfield.h>
#include <linux/dma_cache.h>
#include <linux/init.h>
#include <linux/memblock.h>

#include <asm/dma_cache.h>
#include <asm/memory.h>

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
 * @start: address of the first page
 * @end: address after the last page
 * @line: size of a line in bytes
 *
 * Context: Any, between two fences.
 * Return: @end, or an address in the first page that is not mapped.
 */
unsigned long arch_dma_cache_lines(enum dma_cache_op op, unsigned long start, unsigned long end,
				   unsigned int line)
{
	if (op == DMA_CACHE_CLEAN)
		return dma_cache_lines_cvac(start, end, line);
	return dma_cache_lines_civac(start, end, line);
}

/**
 * arch_dma_cache_is_memory() - whether memory outside the linear map may be maintained
 * @phys: physical address of the first page, none of which has a struct page that is not
 *	reserved
 * @size: of all pages, in bytes
 *
 * Return: false. It is no-map: a cacheable alias of it, by which to maintain it, could be
 * speculated into, and the memory can be firmware's. What mem= hides is known to nobody here.
 */
bool arch_dma_cache_is_memory(phys_addr_t phys, phys_addr_t size)
{
	return false;
}

/**
 * arch_dma_cache_unreachable() - whether a page has lines that the kernel cannot maintain
 * @phys: physical address of a page
 * @prot: of the entry by which a process maps it
 *
 * Return: true for memory that the linear map lacks, if the process caches it.
 */
bool arch_dma_cache_unreachable(phys_addr_t phys, pgprot_t prot)
{
	unsigned long index = FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(prot));

	return memblock_is_memory(phys) && !memblock_is_map_memory(phys) &&
	       (index == MT_NORMAL || index == MT_NORMAL_TAGGED);
}
