/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_DMA_CACHE_LINES_H
#define _ASM_X86_DMA_CACHE_LINES_H
/*
 * The loops of cache maintenance over virtual addresses, one instruction a line. A benchmark
 * compiles them for user space, where DMA_CACHE_EXTABLE() is empty.
 *
 * Each returns @end, or the line whose access faulted. @start is the start of a line, @line
 * the size of one in bytes, and the range is not empty.
 *
 * Encodings and ordering: Intel SDM volume 2A, CLFLUSH, CLFLUSHOPT, CLWB.
 */
#define DMA_CACHE_LINES(insn)						\
	"1:	" insn " (%[addr])\n"					\
	"	add	%[line], %[addr]\n"				\
	"	cmp	%[end], %[addr]\n"				\
	"	jb	1b\n"						\
	"2:\n"								\
	DMA_CACHE_EXTABLE(1b, 2b)

static inline unsigned long dma_cache_lines_clflush(unsigned long start, unsigned long end,
						    unsigned long line)
{
	asm volatile(DMA_CACHE_LINES("clflush")
		     : [addr] "+r" (start) : [end] "r" (end), [line] "r" (line) : "memory", "cc");
	return start;
}

static inline unsigned long dma_cache_lines_clflushopt(unsigned long start, unsigned long end,
						       unsigned long line)
{
	asm volatile(DMA_CACHE_LINES("clflushopt")
		     : [addr] "+r" (start) : [end] "r" (end), [line] "r" (line) : "memory", "cc");
	return start;
}

static inline unsigned long dma_cache_lines_clwb(unsigned long start, unsigned long end,
						 unsigned long line)
{
	asm volatile(DMA_CACHE_LINES("clwb")
		     : [addr] "+r" (start) : [end] "r" (end), [line] "r" (line) : "memory", "cc");
	return start;
}

#endif /* _ASM_X86_DMA_CACHE_LINES_H */
