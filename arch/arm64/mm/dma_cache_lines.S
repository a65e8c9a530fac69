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
 * Clean, or clean and invalidate, the lines of [start, end) to the PoC.
 *
 * - start  - kernel virtual address of the first line
 * - end    - kernel virtual address after the last line
 * - line   - size of a line in bytes
 *
 * Returns end, or the line that is not mapped.
 */
SYM_FUNC_START(dma_cache_lines_cvac)
1:	__dcache_op_workaround_clean_cache cvac, x0
	add	x0, x0, x2
	cmp	x0, x1
	b.lo	1b
2:	ret
	_cond_uaccess_extable 1b, 2b
SYM_FUNC_END(dma_cache_lines_cvac)

SYM_FUNC_START(dma_cache_lines_civac)
1:	dc	civac, x0
	add	x0, x0, x2
	cmp	x0, x1
	b.lo	1b
2:	ret
	_cond_uaccess_extable 1b, 2b
SYM_FUNC_END(dma_cache_lines_civac)
