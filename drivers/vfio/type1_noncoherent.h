/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VFIO type1: CPU cache maintenance for domains whose DMA may bypass the caches.
 *
 * A page is cleaned before the first such domain of its container maps it, and flushed
 * after the last one unmapped it, whoever pins it. All domains of a container map the
 * same, so how many of them are such domains says all: nothing is remembered about a page.
 *
 * Part of vfio_iommu_type1.c, for its private structures and functions.
 */
#include <linux/dma_cache.h>
#include <linux/sizes.h>
#include <linux/symbol_ns.h>
#include <uapi/linux/dma_cache.h>

static inline bool vfio_noncoherent(struct vfio_domain *domain)
{
	return dma_cache_needed(domain->domain);
}

/* Whether a group may join the domain of another one: they are enforced, or maintained, alike. */
static inline bool vfio_same_coherency(struct vfio_domain *a, struct vfio_domain *b)
{
	return a->enforce_cache_coherency == b->enforce_cache_coherency &&
	       vfio_noncoherent(a) == vfio_noncoherent(b);
}

/* Whether @domain is the only one of the container that needs maintenance */
static inline bool vfio_only_noncoherent(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
	return vfio_noncoherent(domain) && iommu->noncoherent == 1;
}

/* What no device can write has no lines that are older than memory. */
static inline bool vfio_must_flush(struct vfio_dma *dma)
{
	return dma->iommu->noncoherent && dma->prot & IOMMU_WRITE;
}

/* Flush contiguous pages of @dma that were unmapped, before they are unpinned. */
static inline void vfio_flush(struct vfio_dma *dma, phys_addr_t phys, size_t size)
{
	if (vfio_must_flush(dma))
		dma_cache_range(DMA_CACHE_FLUSH, PHYS_PFN(phys), size >> PAGE_SHIFT);
}

#ifdef CONFIG_DMA_CACHE
MODULE_IMPORT_NS(SYMBOL_NS(DMA_CACHE));

static inline bool vfio_maintains_caches(void)
{
	return dma_cache_active();
}

/*
 * Clean what was just pinned, a page full of pointers at most, before anything maps it. Page
 * frames without pages come by themselves; the batch cannot hold them. Returns @npages or an error.
 */
static inline long vfio_clean_batch(struct vfio_dma *dma, struct vfio_batch *batch,
				    unsigned long pfn, long npages)
{
	int ret;

	if (!dma->iommu->noncoherent)
		return npages;
	if (batch->size > 1)
		ret = dma_cache_clean_pages(batch->pages, batch->size);
	else
		ret = dma_cache_range(DMA_CACHE_CLEAN, pfn, npages);
	return ret ?: npages;
}

/* Flush what was unmapped, before it is unpinned. */
static inline void vfio_flush_regions(struct vfio_dma *dma, struct list_head *regions)
{
	struct vfio_regions *entry;
	struct dma_cache dc;

	if (!vfio_must_flush(dma) || list_empty(regions))
		return;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	list_for_each_entry(entry, regions, list)
		dma_cache_add(&dc, PHYS_PFN(entry->phys), entry->len >> PAGE_SHIFT);
	dma_cache_end(&dc);
}

/* Flush all that the other domains map, after @domain has unmapped the same. */
static inline void vfio_flush_others(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
	struct vfio_domain *other;
	struct dma_cache dc;
	struct rb_node *n;

	list_for_each_entry(other, &iommu->domain_list, next)
		if (other != domain)
			break;
	if (list_entry_is_head(other, &iommu->domain_list, next))
		return;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	for (n = rb_first(&iommu->dma_list); n; n = rb_next(n)) {
		struct vfio_dma *dma = rb_entry(n, struct vfio_dma, node);
		dma_addr_t iova = dma->iova, end = dma->iova + dma->size;
		size_t size;

		if (!(dma->prot & IOMMU_WRITE))
			continue;
		for (; iova < end; iova += size) {
			phys_addr_t phys = iommu_iova_to_phys(other->domain, iova);

			size = PAGE_SIZE;
			if (WARN_ON(!phys))
				continue;
			/* No more than what dma_cache_add() does before it reschedules */
			while (iova + size < end && size < SZ_2M &&
			       iommu_iova_to_phys(other->domain, iova + size) == phys + size)
				size += PAGE_SIZE;
			dma_cache_add(&dc, PHYS_PFN(phys), size >> PAGE_SHIFT);
		}
	}
	dma_cache_end(&dc);
}
#else
static inline bool vfio_maintains_caches(void)
{
	return false;
}

static inline long vfio_clean_batch(struct vfio_dma *dma, struct vfio_batch *batch,
				    unsigned long pfn, long npages)
{
	return npages;
}

static inline void vfio_flush_regions(struct vfio_dma *dma, struct list_head *regions)
{
}

static inline void vfio_flush_others(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
}
#endif

/* Which domains there will be is not known yet when page frames are pinned. */
static inline bool vfio_unreachable(const struct follow_pfnmap_args *args)
{
	return dma_cache_unreachable(args->pfn, args->pgprot);
}

/*
 * Note a page that an emulated device has pinned, and clean it. Nothing makes the DMA of such a
 * device coherent, and so KVM takes it for non-coherent; what it does with the page only its
 * driver knows.
 */
static inline int vfio_add_clean_pfn(struct vfio_dma *dma, dma_addr_t iova, unsigned long pfn)
{
	int ret = vfio_add_to_pfn_list(dma, iova, pfn);

	if (ret || !vfio_maintains_caches())
		return ret;
	ret = dma_cache_range(DMA_CACHE_CLEAN, pfn, 1);
	if (ret)
		vfio_remove_from_pfn_list(dma, vfio_find_vpfn(dma, iova));
	return ret;
}

/* Flush such a page before it is unpinned. */
static inline void vfio_flush_pfn(struct vfio_dma *dma, unsigned long pfn)
{
	if (vfio_maintains_caches() && dma->prot & IOMMU_WRITE)
		dma_cache_range(DMA_CACHE_FLUSH, pfn, 1);
}

/* Map two pages that probe a new domain for superpages. They have just been zeroed. */
static inline int vfio_probe_map(struct vfio_domain *domain, dma_addr_t iova, struct page *pages)
{
	return dma_cache_map(domain->domain, iova, page_to_phys(pages), PAGE_SIZE * 2,
			     IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE, GFP_KERNEL_ACCOUNT);
}

/* They are unmapped again. */
static inline void vfio_probe_flush(struct vfio_domain *domain, struct page *pages)
{
	if (vfio_noncoherent(domain))
		dma_cache_range(DMA_CACHE_FLUSH, page_to_pfn(pages), 2);
}

/* A domain is going to map all that the container has. */
static inline void vfio_join_domain(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
	iommu->noncoherent += vfio_noncoherent(domain);
}

/*
 * Map pages in a new domain. What it is the first one to pin is clean already; what others map
 * is cleaned if none of them needed it.
 */
static inline int vfio_replay_map(struct vfio_domain *domain, struct vfio_dma *dma,
				  dma_addr_t iova, phys_addr_t phys, size_t size)
{
	int ret = 0;

	if (dma->iommu_mapped && vfio_only_noncoherent(dma->iommu, domain))
		ret = dma_cache_range(DMA_CACHE_CLEAN, PHYS_PFN(phys), size >> PAGE_SHIFT);
	if (ret)
		return ret;
	ret = iommu_map(domain->domain, iova, phys, size, dma->prot | IOMMU_CACHE,
			GFP_KERNEL_ACCOUNT);
	/* A part of it was mapped, perhaps. What others map is flushed in the end. */
	if (ret && !dma->iommu_mapped)
		vfio_flush(dma, phys, size);
	return ret;
}

/* A new domain that could not map everything has unmapped it again. */
static inline void vfio_undo_replay(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
	if (vfio_only_noncoherent(iommu, domain))
		vfio_flush_others(iommu, domain);
	iommu->noncoherent -= vfio_noncoherent(domain);
}

/*
 * A domain is going to be freed. If it is the last one of the container, nothing is mapped any
 * more. If it is not, that would not unmap anything; but if it is the last one that needs
 * maintenance, its pages have to be flushed now.
 */
static inline void vfio_drop_domain(struct vfio_iommu *iommu, struct vfio_domain *domain)
{
	struct rb_node *n;

	if (!list_is_singular(&iommu->domain_list) && vfio_only_noncoherent(iommu, domain)) {
		for (n = rb_first(&iommu->dma_list); n; n = rb_next(n)) {
			struct vfio_dma *dma = rb_entry(n, struct vfio_dma, node);

			iommu_unmap(domain->domain, dma->iova, dma->size);
			cond_resched();
		}
		vfio_flush_others(iommu, domain);
	}
	iommu->noncoherent -= vfio_noncoherent(domain);
}
