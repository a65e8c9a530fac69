// SPDX-License-Identifier: GPL-2.0-only
/* Cache maintenance for DMA on x86: a line at a time, by the best instruction there is. */
#include <linux/cpufeature.h>
#include <linux/dma_cache.h>
#include <linux/init.h>
#include <linux/processor.h>

#include <asm/asm.h>
#include <asm/dma_cache.h>
#include <asm/e820/api.h>

#define DMA_CACHE_EXTABLE(insn, fixup)	_ASM_EXTABLE(insn, fixup)
#include <asm/dma_cache_lines.h>

static enum {
	CLFLUSH,
	CLFLUSHOPT,
	CLWB,
} dma_cache_insn[2] __ro_after_init;

/**
 * arch_dma_cache_init() - choose the instructions
 * @clwb: clean by CLWB, which may keep the line, where the CPU has it. Nobody has yet
 *	shown on real hardware that a non-snooping device sees what CLWB wrote back.
 *
 * Return: size of a cache line in bytes.
 */
unsigned int __init arch_dma_cache_init(bool clwb)
{
	if (boot_cpu_has(X86_FEATURE_CLFLUSHOPT)) {
		dma_cache_insn[DMA_CACHE_CLEAN] = CLFLUSHOPT;
		dma_cache_insn[DMA_CACHE_FLUSH] = CLFLUSHOPT;
	}
	if (clwb && boot_cpu_has(X86_FEATURE_CLWB))
		dma_cache_insn[DMA_CACHE_CLEAN] = CLWB;
	return boot_cpu_data.x86_clflush_size;
}

/**
 * arch_dma_cache_name() - the instruction that maintains a line
 * @op: what is done
 *
 * Return: its mnemonic.
 */
const char *arch_dma_cache_name(enum dma_cache_op op)
{
	static const char * const names[] = {
		[CLFLUSH] = "CLFLUSH", [CLFLUSHOPT] = "CLFLUSHOPT", [CLWB] = "CLWB",
	};

	return names[dma_cache_insn[op]];
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
	switch (dma_cache_insn[op]) {
	case CLWB:
		return dma_cache_lines_clwb(start, end, line);
	case CLFLUSHOPT:
		return dma_cache_lines_clflushopt(start, end, line);
	default:
		return dma_cache_lines_clflush(start, end, line);
	}
}

/**
 * arch_dma_cache_is_memory() - whether there is cacheable memory
 * @phys: physical address of the first page, none of which has a struct page that is not
 *	reserved
 * @size: of all pages, in bytes
 *
 * Asks the firmware's map, before mem= took anything away.
 *
 * Return: true if any of the pages is memory.
 */
bool arch_dma_cache_is_memory(phys_addr_t phys, phys_addr_t size)
{
	return e820__mapped_raw_any(phys, phys + size, E820_TYPE_RAM);
}

/**
 * arch_dma_cache_unreachable() - whether a page has lines that the kernel cannot maintain
 * @phys: physical address of a page
 * @prot: of the entry by which a process maps it
 *
 * Return: false: memremap() reaches what the linear map lacks.
 */
bool arch_dma_cache_unreachable(phys_addr_t phys, pgprot_t prot)
{
	return false;
}
