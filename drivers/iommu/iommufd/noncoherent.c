// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cache maintenance for pages that domains without enforced coherency map.
 *
 * A device behind such a domain may read memory instead of the CPU caches, and write it
 * behind their back. So a page is cleaned before the first such domain maps it, and flushed
 * after the last one unmapped it and its IOTLB was synced, whoever else still has it pinned.
 * Documentation/driver-api/dma-cache.rst has the rules.
 *
 * "First" and "last" are a matter of each index of an iopt_pages, because many areas, of many
 * io_pagetables, map slices of it. iopt_pages::noncoherent_itree has the areas that are wholly
 * mapped by such a domain. An index that none of them covers is not reachable, but for the
 * area that is just being filled or emptied, which is not in the tree:
 *
 *   enter, (clean, map)..., entered		an area is filled, and goes into the tree
 *   leave, (unmap, flush, unpin)..., left	it goes out of the tree, and is emptied
 *
 * Failure to fill goes from the middle of the first line into the middle of the second.
 * Nothing is remembered about a page beyond its mappings.
 */
#include <linux/dma_cache.h>
#include <linux/iommu.h>
#include <linux/iommu_coherency.h>
#include <linux/module.h>
#include <linux/symbol_ns.h>
#include <linux/xarray.h>

#include "double_span.h"
#include "io_pagetable.h"

#ifndef iopt_is_dmabuf
/* Not in this kernel yet */
static bool iopt_is_dmabuf(struct iopt_pages *pages)
{
	return false;
}
#endif

MODULE_IMPORT_NS(SYMBOL_NS(DMA_CACHE));

/**
 * iopt_area_must_maintain() - whether pages of an area are about to become reachable by
 * non-coherent DMA, or about to cease to be
 * @area: the area
 * @pages: its page supplier
 *
 * A dma-buf is a BAR, which has no lines, and which may be revoked meanwhile.
 *
 * Context: Under the mutex of @pages.
 * Return: true if they need to be maintained where no other area covers them.
 */
bool iopt_area_must_maintain(struct iopt_area *area, struct iopt_pages *pages)
{
	return area->noncoherent.domains && !area->noncoherent.whole && !iopt_is_dmabuf(pages);
}

/**
 * iopt_noncoherent_enter() - a domain begins to map an area
 * @area: the area
 * @domain: the domain
 *
 * Context: Under the mutex of the area's iopt_pages, as with all functions here.
 */
void iopt_noncoherent_enter(struct iopt_area *area, struct iommu_domain *domain)
{
	area->noncoherent.domains += domain->noncoherent;
}

/**
 * iopt_noncoherent_enter_all() - all domains of an io_pagetable begin to map an area
 * @area: the area
 *
 * Context: Under domains_rwsem of the area's io_pagetable, too.
 */
void iopt_noncoherent_enter_all(struct iopt_area *area)
{
	struct iommu_domain *domain;
	unsigned long index;

	xa_for_each(&area->iopt->domains, index, domain)
		iopt_noncoherent_enter(area, domain);
}

/**
 * iopt_noncoherent_entered() - all of an area is mapped
 * @area: the area
 * @pages: its page supplier
 *
 * From now on nobody needs to maintain the pages of @area.
 */
void iopt_noncoherent_entered(struct iopt_area *area, struct iopt_pages *pages)
{
	if (!iopt_area_must_maintain(area, pages))
		return;
	area->noncoherent.node.start = iopt_area_index(area);
	area->noncoherent.node.last = iopt_area_last_index(area);
	interval_tree_insert(&area->noncoherent.node, &pages->noncoherent_itree);
	area->noncoherent.whole = true;
}

/**
 * iopt_noncoherent_leave_all() - all domains of an io_pagetable are about to unmap an area
 * @area: the area, which is not going to be used again
 * @pages: its page supplier
 */
void iopt_noncoherent_leave_all(struct iopt_area *area, struct iopt_pages *pages)
{
	if (!area->noncoherent.whole)
		return;
	interval_tree_remove(&area->noncoherent.node, &pages->noncoherent_itree);
	area->noncoherent.whole = false;
}

/**
 * iopt_noncoherent_leave() - a domain is about to unmap an area
 * @area: the area
 * @pages: its page supplier
 * @domain: the domain
 */
void iopt_noncoherent_leave(struct iopt_area *area, struct iopt_pages *pages,
			    struct iommu_domain *domain)
{
	if (domain->noncoherent && area->noncoherent.domains == 1)
		iopt_noncoherent_leave_all(area, pages);
}

/**
 * iopt_noncoherent_left() - a domain has unmapped an area, or failed to map it
 * @area: the area
 * @domain: the domain
 */
void iopt_noncoherent_left(struct iopt_area *area, struct iommu_domain *domain)
{
	area->noncoherent.domains -= domain->noncoherent;
}

/**
 * iopt_noncoherent_split() - an area becomes two, with the mappings that it has
 * @area: the area
 * @lhs: its first part
 * @rhs: its second part
 */
void iopt_noncoherent_split(struct iopt_area *area, struct iopt_area *lhs, struct iopt_area *rhs)
{
	struct iopt_pages *pages = area->pages;

	lhs->noncoherent.domains = area->noncoherent.domains;
	rhs->noncoherent.domains = area->noncoherent.domains;
	iopt_noncoherent_leave_all(area, pages);
	iopt_noncoherent_entered(lhs, pages);
	iopt_noncoherent_entered(rhs, pages);
}

static int maintain_batch(enum dma_cache_op op, struct iopt_pages *pages,
			  const struct pfn_batch *batch, unsigned long start_index,
			  unsigned long npages)
{
	struct interval_tree_span_iter span;
	struct dma_cache dc;

	lockdep_assert_held(&pages->mutex);

	dma_cache_begin(&dc, op);
	interval_tree_for_each_span(&span, &pages->noncoherent_itree, start_index,
				    start_index + npages - 1)
		if (span.is_hole)
			dma_cache_add_runs(&dc, batch->pfns, batch->npfns,
					   span.start_hole - start_index,
					   span.last_hole - span.start_hole + 1);
	return dma_cache_end(&dc);
}

/**
 * iopt_noncoherent_clean() - clean what a batch has and no other area keeps reachable
 * @pages: the page supplier
 * @batch: page frames of @pages, pinned
 * @start_index: the index of the first of them
 *
 * For an area with iopt_area_must_maintain(), before any of its domains maps the batch.
 *
 * Context: May sleep, for long: no mmap_lock is held.
 * Return: 0, or an error, as dma_cache_end(): the batch must not be mapped.
 */
int iopt_noncoherent_clean(struct iopt_pages *pages, const struct pfn_batch *batch,
			   unsigned long start_index)
{
	return maintain_batch(DMA_CACHE_CLEAN, pages, batch, start_index, batch->total_pfns);
}

/* What no device can write has no lines that are older than memory. */
static bool must_flush(struct iopt_pages *pages)
{
	return pages->writable;
}

/**
 * iopt_noncoherent_flush() - flush what a batch has and no other area keeps reachable
 * @area: the area that the batch was unmapped from, from all its domains if need be
 * @pages: the page supplier
 * @batch: page frames of @pages, still pinned
 * @start_index: the index of the first of them
 * @npages: how many of them
 *
 * Context: May sleep.
 */
void iopt_noncoherent_flush(struct iopt_area *area, struct iopt_pages *pages,
			    const struct pfn_batch *batch, unsigned long start_index,
			    unsigned long npages)
{
	if (iopt_area_must_maintain(area, pages) && must_flush(pages))
		maintain_batch(DMA_CACHE_FLUSH, pages, batch, start_index, npages);
}

/* Page frames that are looked up before they are maintained: at most those of one xarray node */
#define HELD_PFNS	XA_CHUNK_SIZE

/*
 * Of indexes that accesses hold, which are in one node, and change only under the mutex of @pages.
 * So this needs no xas_next(), which has twice as many instructions.
 */
static void get_accessed(struct iopt_pages *pages, unsigned long index, unsigned long npfns,
			 unsigned long *pfns)
{
	XA_STATE(xas, &pages->pinned_pfns, index);
	struct xa_node *node;
	unsigned int offset;
	unsigned long i = 0;
	void *entry;

	rcu_read_lock();
	entry = xas_load(&xas);
	node = xas.xa_node;		/* NULL if there is nothing but index 0 */
	offset = xas.xa_offset;
	for (;;) {
		pfns[i++] = xa_to_value(entry);
		if (i == npfns)
			break;
		entry = xa_entry(&pages->pinned_pfns, node, offset + i);
	}
	rcu_read_unlock();
}

/* Of indexes that the domain of the area at @index holds; returns of how many. */
static unsigned long get_mapped(struct iopt_pages *pages, unsigned long index,
				unsigned long npfns, unsigned long *pfns)
{
	struct interval_tree_node *node =
		interval_tree_iter_first(&pages->domains_itree, index, index);
	struct iopt_area *area = container_of(node, struct iopt_area, pages_node);
	unsigned long iova = iopt_area_iova(area), page_offset = area->page_offset, i;

	npfns = min(npfns, iopt_area_last_index(area) - index + 1);
	if (index != iopt_area_index(area)) {
		iova += (index - iopt_area_index(area)) * PAGE_SIZE - page_offset;
		page_offset = 0;
	}
	for (i = 0; i < npfns; i++) {
		pfns[i] = PHYS_PFN(iommu_iova_to_phys(area->storage_domain, iova));
		iova += PAGE_SIZE - page_offset;
		page_offset = 0;
	}
	return npfns;
}

static void add_held(struct dma_cache *dc, struct iopt_pages *pages, unsigned long index,
		     unsigned long last_index, bool accessed)
{
	unsigned long pfns[HELD_PFNS], n;

	for (; index <= last_index; index += n) {
		n = min(last_index - index + 1, HELD_PFNS - index % HELD_PFNS);
		if (accessed)
			get_accessed(pages, index, n, pfns);
		else
			n = get_mapped(pages, index, n, pfns);
		dma_cache_add_pfns(dc, pfns, n);
	}
}

/**
 * iopt_noncoherent_flush_pinned() - flush what somebody else holds and no other area keeps
 * reachable
 * @area: the area, unmapped as far as @last_index
 * @pages: its page supplier
 * @last_index: the last index to flush
 *
 * An access or a coherent domain may hold pages for as long as it likes, so their flush cannot
 * wait for their unpin. The rest was flushed before its unpin.
 *
 * Context: May sleep.
 */
void iopt_noncoherent_flush_pinned(struct iopt_area *area, struct iopt_pages *pages,
				   unsigned long last_index)
{
	struct interval_tree_double_span_iter held;
	struct interval_tree_span_iter span;
	struct dma_cache dc;

	if (!iopt_area_must_maintain(area, pages) || !must_flush(pages))
		return;

	lockdep_assert_held(&pages->mutex);

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	interval_tree_for_each_double_span(&held, &pages->access_itree, &pages->domains_itree,
					   iopt_area_index(area), last_index) {
		if (!held.is_used)
			continue;
		interval_tree_for_each_span(&span, &pages->noncoherent_itree, held.start_used,
					    held.last_used)
			if (span.is_hole)
				add_held(&dc, pages, span.start_hole, span.last_hole,
					 held.is_used == 1);
	}
	dma_cache_end(&dc);
}

/**
 * iopt_noncoherent_pin() - clean what an access is going to have and no area keeps reachable
 * @pages: the page supplier
 * @out_pages: the pages, pinned
 * @start_index: the index of the first of them
 * @last_index: the index of the last one
 *
 * Accesses that pin pages are those of emulated devices, such as mediated ones. KVM takes their
 * DMA for non-coherent, as no IOMMU makes it coherent.
 *
 * Context: Under the mutex of @pages. May sleep.
 * Return: 0, or an error, as iopt_noncoherent_clean().
 */
int iopt_noncoherent_pin(struct iopt_pages *pages, struct page **out_pages,
			 unsigned long start_index, unsigned long last_index)
{
	struct interval_tree_span_iter span;
	int rc = 0;

	lockdep_assert_held(&pages->mutex);

	if (!dma_cache_active())
		return 0;
	interval_tree_for_each_span(&span, &pages->noncoherent_itree, start_index, last_index)
		if (span.is_hole && !rc)
			rc = dma_cache_clean_pages(out_pages + (span.start_hole - start_index),
						   span.last_hole - span.start_hole + 1);
	return rc;
}

/**
 * iopt_noncoherent_unpin() - flush what an access had
 * @pages: the page supplier
 * @start_index: the first index, still in @pages->pinned_pfns, as all are
 * @last_index: the last index
 *
 * Its device is expected to do no DMA any more. What an area keeps reachable is flushed when the
 * last area is emptied.
 *
 * Context: Under the mutex of @pages. May sleep.
 */
void iopt_noncoherent_unpin(struct iopt_pages *pages, unsigned long start_index,
			    unsigned long last_index)
{
	struct interval_tree_span_iter span;
	struct dma_cache dc;

	lockdep_assert_held(&pages->mutex);

	if (!dma_cache_active() || !must_flush(pages))
		return;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	interval_tree_for_each_span(&span, &pages->noncoherent_itree, start_index, last_index)
		if (span.is_hole)
			add_held(&dc, pages, span.start_hole, span.last_hole, true);
	dma_cache_end(&dc);
}

/**
 * iommufd_check_coherency() - whether KVM and a domain agree about a device
 * @idev: the device
 * @hwpt_paging: where it is going to be attached, or NULL
 *
 * KVM takes a device's DMA for coherent if its IOMMU can enforce that, or if it is declared so. The
 * first kind must not use a domain that does not enforce it. And a domain that is made for one of
 * the second kind is not maintained, so that it is for devices of that kind only.
 *
 * Return: 0, or -EINVAL.
 */
int iommufd_check_coherency(struct iommufd_device *idev, struct iommufd_hwpt_paging *hwpt_paging)
{
	if (!hwpt_paging || hwpt_paging->enforce_cache_coherency)
		return 0;
	if (idev->enforce_cache_coherency)
		return -EINVAL;
	if (dma_cache_active() && iommu_group_declared_coherent(idev->igroup->group) ==
				  hwpt_paging->common.domain->noncoherent)
		return -EINVAL;
	return 0;
}

/**
 * iommufd_hwpt_coherency() - tell what becomes of DMA that bypasses the CPU caches
 * @ucmd: IOMMU_OPTION with IOMMU_OPTION_HWPT_COHERENCY, whose val64 is filled in
 *
 * What IOMMU_GET_HW_INFO says is a matter of the kernel and a device; this is one of the
 * domain, which has the last word.
 *
 * Context: May sleep.
 * Return: 0; -EOPNOTSUPP if it is to be set, -ENOENT if there is no such hardware page table.
 */
int iommufd_hwpt_coherency(struct iommufd_ucmd *ucmd)
{
	struct iommu_option *cmd = ucmd->cmd;
	struct iommufd_hwpt_paging *hwpt_paging;
	struct iommufd_object *obj;
	int rc = 0;

	if (cmd->op != IOMMU_OPTION_OP_GET)
		return -EOPNOTSUPP;
	obj = iommufd_get_object(ucmd->ictx, cmd->object_id, IOMMUFD_OBJ_ANY);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	switch (obj->type) {
	case IOMMUFD_OBJ_HWPT_PAGING:
		hwpt_paging = container_of(obj, struct iommufd_hwpt_paging, common.obj);
		break;
	case IOMMUFD_OBJ_HWPT_NESTED:
		hwpt_paging = container_of(obj, struct iommufd_hwpt_nested, common.obj)->parent;
		break;
	default:
		rc = -ENOENT;
		goto out;
	}
	if (hwpt_paging->enforce_cache_coherency)
		cmd->val64 = IOMMU_HWPT_COHERENCY_ENFORCED;
	else if (hwpt_paging->common.domain->noncoherent)
		cmd->val64 = IOMMU_HWPT_COHERENCY_MAINTAINED;
	else
		cmd->val64 = IOMMU_HWPT_COHERENCY_NONE;
out:
	iommufd_put_object(ucmd->ictx, obj);
	return rc;
}
