/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_DMA_CACHE_H
#define _LINUX_DMA_CACHE_H
/*
 * CPU cache maintenance for DMA that bypasses the caches, for the owners of IOMMU
 * domains. Documentation/driver-api/dma-cache.rst has the rules.
 */
#include <linux/iommu.h>
#include <linux/pgtable.h>
#include <linux/types.h>

/**
 * enum dma_cache_op - what is done to the cache lines of a page
 * @DMA_CACHE_CLEAN: memory gets what the caches hold: before a device may read
 * @DMA_CACHE_FLUSH: clean, then drop the lines: after a device may have written
 */
enum dma_cache_op {
	DMA_CACHE_CLEAN,
	DMA_CACHE_FLUSH,
};

/**
 * struct dma_cache - one run of cache maintenance over many ranges of pages
 * @op: what is done
 * @error: what dma_cache_end() is going to return
 * @room: how many pages the chunk still takes before the next fence
 * @pages: pages maintained
 * @lines: cache lines maintained, by dma_cache_end()
 * @chunks: chunks, each with one pair of fences
 * @skipped: pages left alone: no memory, or poisoned and not to be cleaned
 * @failed: pages of cacheable memory that could not be reached, or poisoned ones to be cleaned
 * @start_ns: when the maintenance began
 * @chunk_ns: when the chunk began
 *
 * Lives on the caller's stack between dma_cache_begin() and dma_cache_end().
 */
struct dma_cache {
	enum dma_cache_op op;
	int error;
	unsigned long room;
	u64 pages;
	u64 lines;
	u64 chunks;
	u64 skipped;
	u64 failed;
	u64 start_ns;
	u64 chunk_ns;
};

#ifdef CONFIG_DMA_CACHE
bool dma_cache_active(void);
void dma_cache_begin(struct dma_cache *dc, enum dma_cache_op op);
void dma_cache_add(struct dma_cache *dc, unsigned long pfn, unsigned long npages);
void dma_cache_add_pinned(struct dma_cache *dc, unsigned long pfn, unsigned long npages);
int dma_cache_end(struct dma_cache *dc);
int dma_cache_clean_pages(struct page **pages, unsigned long npages);
bool dma_cache_unreachable(unsigned long pfn, pgprot_t prot);

/**
 * dma_cache_range() - maintain one range of pages
 * @op: what to do
 * @pfn: first page frame
 * @npages: how many pages
 *
 * Context: May sleep. See dma_cache_begin().
 * Return: As dma_cache_end().
 */
static inline int dma_cache_range(enum dma_cache_op op, unsigned long pfn, unsigned long npages)
{
	struct dma_cache dc;

	dma_cache_begin(&dc, op);
	dma_cache_add(&dc, pfn, npages);
	return dma_cache_end(&dc);
}

/**
 * dma_cache_set_domain() - note whether DMA through a domain needs cache maintenance
 * @domain: a new domain, which maps nothing yet
 * @enforced: whether @domain makes all DMA coherent, whatever a device asks for
 *
 * No property of a device counts: one may bypass the caches with No-Snoop off, and others
 * may be attached later.
 */
static inline void dma_cache_set_domain(struct iommu_domain *domain, bool enforced)
{
	domain->noncoherent = !enforced && dma_cache_active();
}
#else
static inline void dma_cache_set_domain(struct iommu_domain *domain, bool enforced)
{
}

static inline bool dma_cache_unreachable(unsigned long pfn, pgprot_t prot)
{
	return false;
}
#endif

#endif /* _LINUX_DMA_CACHE_H */
