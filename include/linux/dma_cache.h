/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_DMA_CACHE_H
#define _LINUX_DMA_CACHE_H
/*
 * CPU cache maintenance for DMA that bypasses the caches, for the owners of IOMMU
 * domains. Documentation/driver-api/dma-cache.rst has the rules.
 */
#include <linux/iommu.h>
#include <linux/iommu_coherency.h>
#include <linux/pfn.h>
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
void dma_cache_add_runs(struct dma_cache *dc, const unsigned long *pfns, const u32 *npfns,
			unsigned long skip, unsigned long npages);
void dma_cache_add_pfns(struct dma_cache *dc, const unsigned long *pfns, unsigned long npfns);
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
#else
static inline int dma_cache_range(enum dma_cache_op op, unsigned long pfn, unsigned long npages)
{
	return 0;
}

static inline bool dma_cache_unreachable(unsigned long pfn, pgprot_t prot)
{
	return false;
}
#endif

/**
 * dma_cache_needed() - whether the owner of a domain maintains caches for what it maps there
 * @domain: the domain
 *
 * Context: Any, after dma_cache_enforce(). The answer does not change as soon as @domain maps
 * anything.
 * Return: true if the owner has to.
 */
static inline bool dma_cache_needed(const struct iommu_domain *domain)
{
#ifdef CONFIG_DMA_CACHE
	return domain->noncoherent;
#else
	return false;
#endif
}

/**
 * dma_cache_enforce() - have a domain make all DMA coherent, or note that caches need maintenance
 * @domain: a domain that maps nothing yet
 * @group: the group that it is made for, which the caller keeps; or NULL
 * @ask: false if an IOMMU of a device that is going to be attached is known to lack
 *	 IOMMU_CAP_ENFORCE_CACHE_COHERENCY: a domain that was asked before might refuse it
 *
 * For each owner of a domain that maps memory of userspace. No property of a device counts: one
 * may bypass the caches with No-Snoop off, and others may be attached later. What an administrator
 * declares of @group does count; then the owner lets no device of a group that is not declared use
 * @domain. Who asks a second time does so before anything is mapped.
 *
 * Context: That of the driver's enforce_cache_coherency(). The owner allows nobody to map.
 * Return: Whether @domain enforces coherency.
 */
static inline bool dma_cache_enforce(struct iommu_domain *domain, struct iommu_group *group,
				     bool ask)
{
	bool enforced = ask && domain->ops->enforce_cache_coherency &&
			domain->ops->enforce_cache_coherency(domain);

#ifdef CONFIG_DMA_CACHE
	domain->noncoherent = !enforced && dma_cache_active() &&
			      !iommu_group_declared_coherent(group);
#endif
	return enforced;
}

/**
 * dma_cache_map() - iommu_map() for an owner with one domain, which maps a page once
 * @domain: where to map, after dma_cache_enforce()
 * @iova: I/O address
 * @paddr: physical address of contiguous pages, all of them pinned
 * @size: in bytes
 * @prot: IOMMU_READ, IOMMU_WRITE and so on
 * @gfp: how to allocate page tables
 *
 * The pages are cleaned first, also those that no device can read: a dirty line that is evicted
 * later would overwrite what the device wrote. Where the owner maps one twice, more is maintained
 * than needed.
 *
 * Context: May sleep. See dma_cache_begin().
 * Return: 0, or an error of dma_cache_end() or iommu_map(). Then nothing is mapped, and what a
 * device could write for a moment is flushed.
 */
static inline int dma_cache_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr,
				size_t size, int prot, gfp_t gfp)
{
	bool needed = dma_cache_needed(domain);
	int ret = 0;

	if (needed)
		ret = dma_cache_range(DMA_CACHE_CLEAN, PHYS_PFN(paddr), size >> PAGE_SHIFT);
	if (ret)
		return ret;
	ret = iommu_map(domain, iova, paddr, size, prot, gfp);
	if (ret && needed && prot & IOMMU_WRITE)
		dma_cache_range(DMA_CACHE_FLUSH, PHYS_PFN(paddr), size >> PAGE_SHIFT);
	return ret;
}

/**
 * dma_cache_unmap() - undo dma_cache_map()
 * @domain: where the pages are mapped
 * @iova: I/O address
 * @paddr: physical address
 * @size: in bytes
 * @written: whether they were mapped with IOMMU_WRITE; otherwise a flush would do nothing
 *
 * The pages are unmapped, the IOTLB is synced, and they are flushed. Now they can be unpinned.
 *
 * Context: May sleep.
 */
static inline void dma_cache_unmap(struct iommu_domain *domain, unsigned long iova,
				   phys_addr_t paddr, size_t size, bool written)
{
	iommu_unmap(domain, iova, size);
	if (written && dma_cache_needed(domain))
		dma_cache_range(DMA_CACHE_FLUSH, PHYS_PFN(paddr), size >> PAGE_SHIFT);
}

#endif /* _LINUX_DMA_CACHE_H */
