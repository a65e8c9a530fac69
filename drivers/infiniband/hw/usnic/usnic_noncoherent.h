/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * usNIC: CPU cache maintenance for domains whose DMA may bypass the caches.
 *
 * All pages of a region are cleaned before any is mapped, and flushed before any is unpinned.
 * Pages of regions that overlap are mapped once, and maintained for each. The device may write all
 * that is mapped, so that no region can do without the flush.
 *
 * Part of usnic_uiom.c, for its private structures.
 */
#include <linux/dma_cache.h>
#include <linux/scatterlist.h>
#include <linux/symbol_ns.h>

/*
 * The domain is made for an adapter, and it is virtual functions that are going to be attached. The
 * adapter is in use by its driver, and can be declared anew at any time: ask once.
 */
static void usnic_uiom_enforce(struct usnic_uiom_pd *pd, struct device *adapter)
{
	bool capable = device_iommu_capable(adapter, IOMMU_CAP_ENFORCE_CACHE_COHERENCY);
	bool declared = iommu_group_declared_coherent(adapter->iommu_group);
	struct iommu_group *group = declared ? adapter->iommu_group : NULL;

	pd->declared = !dma_cache_enforce(pd->domain, group, capable) && declared;
}

/* The group of a function cannot be declared anew while it is attached. */
static int usnic_uiom_attach(struct usnic_uiom_pd *pd, struct device *dev)
{
	int err = iommu_attach_device(pd->domain, dev);

	if (err || !pd->declared || iommu_group_declared_coherent(dev->iommu_group))
		return err;
	usnic_err("%s is not declared coherent, as its adapter is\n", dev_name(dev));
	iommu_detach_device(pd->domain, dev);
	return -EINVAL;
}

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
