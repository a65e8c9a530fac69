/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The loops of cache maintenance for DMA. dcache_by_line_op has a DSB for each call, here
 * there is one for each chunk of many ranges.
 */
#include <linux/linkage.h>

#include <asm/alternative.h>
#include <asm/asm-uaccess.h>
#include <asm/assembler.h>

/*
 * dma_cache_line_size()
 *
 * Returns the size in bytes of the smallest line of any CPU: CTR_EL0.DminLine is the log2 of
 * its words (Arm ARM DDI 0487, D24.2.36).
 */
SYM_FUNC_START(dma_cache_line_size)
	dcache_line_size x0, x1
	ret
SYM_FUNC_END(dma_cache_line_size)

/*
 * dma_cache_lines_cvac(start, end, line)
 * dma_cache_lines_civac(start, end, line)
 *
 * Clean, or clean and invalidate, the lines of [start, end) to the PoC, four at a time.
 *
 * - start  - kernel virtual address of a page
 * - end    - kernel virtual address after the last page
 * - line   - size of a line in bytes, at most a quarter of a page
 *
 * Returns end, or the first of the four lines of which one faulted, which are in one page.
 */
	.macro	maintain_line, op, addr
	.ifc	\op, cvac
9:	__dcache_op_workaround_clean_cache \op, \addr
	.else
9:	dc	\op, \addr
	.endif
	_cond_uaccess_extable 9b, 2f
	.endm

	.macro	maintain_lines, op
1:	maintain_line \op, x0
	add	x3, x0, x2
	maintain_line \op, x3
	add	x3, x3, x2
	maintain_line \op, x3
	add	x3, x3, x2
	maintain_line \op, x3
	add	x0, x3, x2
	cmp	x0, x1
	b.lo	1b
2:	ret
	.endm

SYM_FUNC_START(dma_cache_lines_cvac)
	maintain_lines cvac
SYM_FUNC_END(dma_cache_lines_cvac)

SYM_FUNC_START(dma_cache_lines_civac)
	maintain_lines civac
SYM_FUNC_END(dma_cache_lines_civac)
