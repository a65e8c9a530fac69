/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * usNIC: CPU cache maintenance for domains whose DMA may bypass the caches.
 *
 * All pages of a region are cleaned before any is mapped, and flushed before any is unpinned.
 * Pages of regions that overlap are mapped once, and maintained for each.
 *
 * Part of usnic_uiom.c, for its private structures.
 */
#include <linux/dma_cache.h>
#include <linux/scatterlist.h>
#include <linux/symbol_ns.h>

#ifdef CONFIG_DMA_CACHE
MODULE_IMPORT_NS(SYMBOL_NS(DMA_CACHE));

/* Sleeps: without the lock of the protection domain */
static int usnic_uiom_maintain(struct usnic_uiom_reg *uiomr, enum dma_cache_op op)
{
	struct usnic_uiom_chunk *chunk;
	struct scatterlist *sg;
	struct dma_cache dc;
	int i;

	if (!dma_cache_needed(uiomr->pd->domain))
		return 0;

	dma_cache_begin(&dc, op);
	list_for_each_entry(chunk, &uiomr->chunk_list, list)
		for_each_sg(chunk->page_list, sg, chunk->nents, i)
			dma_cache_add(&dc, page_to_pfn(sg_page(sg)), 1);
	return dma_cache_end(&dc);
}
#else
static int usnic_uiom_maintain(struct usnic_uiom_reg *uiomr, enum dma_cache_op op)
{
	return 0;
}
#endif
