/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dma_cache

#if !defined(_TRACE_DMA_CACHE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DMA_CACHE_H

#include <linux/dma_cache.h>
#include <linux/tracepoint.h>

TRACE_DEFINE_ENUM(DMA_CACHE_CLEAN);
TRACE_DEFINE_ENUM(DMA_CACHE_FLUSH);

#define DMA_CACHE_OPS				\
	{ DMA_CACHE_CLEAN,	"clean" },	\
	{ DMA_CACHE_FLUSH,	"flush" }

/* What became of a range of pages */
#define DMA_CACHE_RESULTS			\
	{ 0,			"done" },	\
	{ -ENXIO,		"mmio" },	\
	{ -EHWPOISON,		"poisoned" },	\
	{ -EFAULT,		"failed" }

/* The lines of some pages went out; they have arrived by the dma_cache_done of this task. */
TRACE_EVENT(dma_cache_pages,
	TP_PROTO(enum dma_cache_op op, unsigned long pfn, unsigned long npages, int result),
	TP_ARGS(op, pfn, npages, result),
	TP_STRUCT__entry(
		__field(unsigned int, op)
		__field(int, result)
		__field(unsigned long, pfn)
		__field(unsigned long, npages)
	),
	TP_fast_assign(
		__entry->op = op;
		__entry->result = result;
		__entry->pfn = pfn;
		__entry->npages = npages;
	),
	TP_printk("op=%s pfn=0x%lx npages=%lu result=%s",
		  __print_symbolic(__entry->op, DMA_CACHE_OPS), __entry->pfn, __entry->npages,
		  __print_symbolic(__entry->result, DMA_CACHE_RESULTS))
);

TRACE_EVENT(dma_cache_done,
	TP_PROTO(const struct dma_cache *dc),
	TP_ARGS(dc),
	TP_STRUCT__entry(
		__field(unsigned int, op)
		__field(int, error)
		__field(u64, pages)
		__field(u64, lines)
		__field(u64, chunks)
		__field(u64, skipped)
		__field(u64, failed)
	),
	TP_fast_assign(
		__entry->op = dc->op;
		__entry->error = dc->error;
		__entry->pages = dc->pages;
		__entry->lines = dc->lines;
		__entry->chunks = dc->chunks;
		__entry->skipped = dc->skipped;
		__entry->failed = dc->failed;
	),
	TP_printk("op=%s pages=%llu lines=%llu chunks=%llu skipped=%llu failed=%llu error=%d",
		  __print_symbolic(__entry->op, DMA_CACHE_OPS), __entry->pages, __entry->lines,
		  __entry->chunks, __entry->skipped, __entry->failed, __entry->error)
);

#endif /* _TRACE_DMA_CACHE_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
