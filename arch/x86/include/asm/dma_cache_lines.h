/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_DMA_CACHE_LINES_H
#define _ASM_X86_DMA_CACHE_LINES_H
/*
 * The loops of cache maintenance over virtual addresses, one instruction a line. A benchmark
 * compiles them for user space, where DMA_CACHE_EXTABLE() is empty.
 *
 * Each returns @end, or the start of the four lines of which one faulted, which are in
 * one page. The range has whole pages, and is not empty. @line is the size of a line in
 * bytes, at most a quarter of a page.
 *
 * Encodings and ordering: Intel SDM volume 2A, CLFLUSH, CLFLUSHOPT, CLWB.
 */
#define DMA_CACHE_LINES(insn)						\
	"4:\n"								\
	".irp at, \"(%[addr])\", \"(%[addr],%[line])\", "		\
	"\"(%[addr],%[line],2)\", \"(%[addr],%[line3])\"\n"		\
	"1:	" insn " \\at\n"						\
	DMA_CACHE_EXTABLE(1b, 5f)					\
	".endr\n"							\
	"	lea	(%[addr],%[line],4), %[addr]\n"		\
	"	cmp	%[end], %[addr]\n"				\
	"	jb	4b\n"						\
	"5:\n"

static inline unsigned long dma_cache_lines_clflush(unsigned long start, unsigned long end,
						    unsigned long line)
{
	asm volatile(DMA_CACHE_LINES("clflush")
		     : [addr] "+&r" (start)
		     : [end] "r" (end), [line] "r" (line), [line3] "r" (3 * line)
		     : "memory", "cc");
	return start;
}

static inline unsigned long dma_cache_lines_clflushopt(unsigned long start, unsigned long end,
						       unsigned long line)
{
	asm volatile(DMA_CACHE_LINES("clflushopt")
		     : [addr] "+&r" (start)
		     : [end] "r" (end), [line] "r" (line), [line3] "r" (3 * line)
		     : "memory", "cc");
	return start;
}

static inline unsigned long dma_cache_lines_clwb(unsigned long start, unsigned long end,
						 unsigned long line)
{
	asm volatile(DMA_CACHE_LINES("clwb")
		     : [addr] "+&r" (start)
		     : [end] "r" (end), [line] "r" (line), [line3] "r" (3 * line)
		     : "memory", "cc");
	return start;
}

#endif /* _ASM_X86_DMA_CACHE_LINES_H */
