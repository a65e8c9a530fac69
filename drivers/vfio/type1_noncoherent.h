/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VFIO type1: CPU cache maintenance for domains whose DMA may bypass the caches.
 *
 * A page is cleaned before the first such domain of its container maps it, and flushed
 * after the last one unmapped it, whoever pins it. All domains of a container map the
 * same, so what the container's list has says all: nothing is remembered about a page.
 *
 * Part of vfio_iommu_type1.c, for its private structures.
 */
#include <linux/dma_cache.h>
#include <linux/sizes.h>
#include <uapi/linux/dma_cache.h>

#ifdef CONFIG_DMA_CACHE
MODULE_IMPORT_NS(DMA_CACHE);

static inline bool vfio_maintains_caches(void)
{
	return dma_cache_active();
}

static inline bool vfio_noncoherent(struct vfio_domain *domain)
{
	return domain->domain->noncoherent;
}

/* Clean or flush contiguous pages, if that is @needed. */
static inline int vfio_maintain(bool needed, enum dma_cache_op op, phys_addr_t phys, size_t size)
{
	return needed ? dma_cache_range(op, PHYS_PFN(phys), size >> PAGE_SHIFT) : 0;
}

/*
 * Clean the pages that are going to be mapped, and with them the rest of the batch that
 * they were pinned in: where memory is fragmented, a fence per page would cost most.
 */
static inline int vfio_clean_batch(bool needed, struct vfio_batch *batch, unsigned long pfn,
				   long npage)
{
	long done = min_t(long, batch->cleaned, npage);
	int i, n, end = batch->offset + batch->size;
	struct dma_cache dc;

	batch->cleaned -= done;
	if (!needed || done == npage)
		return 0;

	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	dma_cache_add(&dc, pfn + done, npage - done);
	for (i = batch->offset; i < end; i += n) {
		pfn = page_to_pfn(batch->pages[i]);
		for (n = 1; i + n < end && page_to_pfn(batch->pages[i + n]) == pfn + n; n++)
			;
		dma_cache_add(&dc, pfn, n);
	}
	batch->cleaned = batch->size;
	return dma_cache_end(&dc);
}

/* Flush what was unmapped, before it is unpinned. */
static inline void vfio_flush_regions(struct vfio_dma *dma, struct list_head *regions)
{
	struct vfio_regions *entry;
	struct dma_cache dc;

	if (!dma->flush || list_empty(regions))
		return;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	list_for_each_entry(entry, regions, list)
		dma_cache_add(&dc, PHYS_PFN(entry->phys), entry->len >> PAGE_SHIFT);
	dma_cache_end(&dc);
}

/*
 * Clean or flush all that the other domains map, if @domain is the only one that needs it:
 * before it maps the same, or after it unmapped it.
 */
static inline int vfio_maintain_domain(struct vfio_iommu *iommu, struct vfio_domain *domain,
				       enum dma_cache_op op)
{
	struct vfio_domain *d, *other = NULL;
	struct dma_cache dc;
	struct rb_node *n;

	if (!vfio_noncoherent(domain))
		return 0;
	list_for_each_entry(d, &iommu->domain_list, next) {
		if (d == domain)
			continue;
		if (vfio_noncoherent(d))
			return 0;
		other = d;
	}
	if (!other)
		return 0;

	dma_cache_begin(&dc, op);
	for (n = rb_first(&iommu->dma_list); n; n = rb_next(n)) {
		struct vfio_dma *dma = rb_entry(n, struct vfio_dma, node);
		dma_addr_t iova = dma->iova, end = dma->iova + dma->size;
		size_t size;

		for (; iova < end; iova += size) {
			phys_addr_t phys = iommu_iova_to_phys(other->domain, iova);

			size = PAGE_SIZE;
			if (WARN_ON(!phys))
				continue;
			/* No more than what dma_cache_add() takes without a rest */
			while (iova + size < end && size < SZ_2M &&
			       iommu_iova_to_phys(other->domain, iova + size) == phys + size)
				size += PAGE_SIZE;
			dma_cache_add(&dc, PHYS_PFN(phys), size >> PAGE_SHIFT);
		}
	}
	return dma_cache_end(&dc);
}

/* Which domains there will be is not known yet when page frames are pinned. */
static inline bool vfio_unreachable(const struct follow_pfnmap_args *args)
{
	return dma_cache_unreachable(args->pfn, args->pgprot);
}
#else
static inline bool vfio_maintains_caches(void)
{
	return false;
}

static inline bool vfio_noncoherent(struct vfio_domain *domain)
{
	return false;
}

static inline int vfio_maintain(bool needed, enum dma_cache_op op, phys_addr_t phys, size_t size)
{
	return 0;
}

static inline int vfio_clean_batch(bool needed, struct vfio_batch *batch, unsigned long pfn,
				   long npage)
{
	return 0;
}

static inline void vfio_flush_regions(struct vfio_dma *dma, struct list_head *regions)
{
}

static inline int vfio_maintain_domain(struct vfio_iommu *iommu, struct vfio_domain *domain,
				       enum dma_cache_op op)
{
	return 0;
}

static inline bool vfio_unreachable(const struct follow_pfnmap_args *args)
{
	return false;
}
#endif

/* Whether what the container maps needs maintenance */
static inline bool vfio_any_noncoherent(struct vfio_iommu *iommu)
{
	struct vfio_domain *d;

	list_for_each_entry(d, &iommu->domain_list, next)
		if (vfio_noncoherent(d))
			return true;
	return false;
}

/* Map pages in a new domain; those that it is the first one to map are not yet cleaned. */
static inline int vfio_replay_map(struct vfio_domain *domain, struct vfio_dma *dma,
				  struct vfio_batch *batch, dma_addr_t iova, phys_addr_t phys,
				  size_t size)
{
	bool first = !dma->iommu_mapped && vfio_noncoherent(domain);
	int ret = vfio_clean_batch(first, batch, PHYS_PFN(phys), size >> PAGE_SHIFT);

	if (ret)
		return ret;
	ret = iommu_map(domain->domain, iova, phys, size, dma->prot | IOMMU_CACHE,
			GFP_KERNEL_ACCOUNT);
	/* A part of it was mapped, perhaps. */
	if (ret)
		vfio_maintain(first, DMA_CACHE_FLUSH, phys, size);
	return ret;
}

/* Take away all mappings of a domain that is going to be freed; others keep the pages. */
static inline void vfio_drop_domain(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
	struct rb_node *n;

	if (!vfio_noncoherent(domain))
		return;
	for (n = rb_first(&iommu->dma_list); n; n = rb_next(n)) {
		struct vfio_dma *dma = rb_entry(n, struct vfio_dma, node);

		iommu_unmap(domain->domain, dma->iova, dma->size);
		cond_resched();
	}
	vfio_maintain_domain(iommu, domain, DMA_CACHE_FLUSH);
}
