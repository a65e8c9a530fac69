// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shadow of a mock domain that has a generic page table.
 *
 * Such a table is walked by code that is not the mock's. So the shadow stands between the IOMMU
 * core and the table, and remembers what is mapped.
 */
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/xarray.h>

#include "iommufd_private.h"
#include "selftest_shadow.h"

static void forget(struct mock_shadow *sh, dma_addr_t iova, size_t size)
{
	dma_addr_t at;

	for (at = iova; at < iova + size; at += sh->granule)
		xa_erase(sh->pfns, at / sh->granule);
}

static int remember(struct mock_shadow *sh, dma_addr_t iova, phys_addr_t paddr, size_t size,
		    gfp_t gfp)
{
	size_t at;
	int rc;

	for (at = 0; at < size; at += sh->granule) {
		rc = xa_insert(sh->pfns, (iova + at) / sh->granule,
			       xa_mk_value((paddr + at) / sh->granule), gfp);
		if (rc) {
			forget(sh, iova, at);
			return rc;
		}
	}
	return 0;
}

static int shadow_map_range(struct pt_iommu *table, dma_addr_t iova, phys_addr_t paddr,
			    dma_addr_t len, unsigned int prot, gfp_t gfp, size_t *mapped)
{
	struct mock_shadow *sh = mock_shadow_of(&table->domain);
	size_t before = *mapped, done;
	int rc;

	/* As a table that is the mock's own does */
	if (iommufd_should_fail())
		return -ENOMEM;
	rc = remember(sh, iova, paddr, len, gfp);
	if (rc)
		return rc;
	rc = sh->real_pt_ops->map_range(table, iova, paddr, len, prot, gfp, mapped);
	done = *mapped - before;
	forget(sh, iova + done, len - done);
	mock_shadow_map(sh, paddr, done, prot);
	return rc;
}

static size_t shadow_unmap_range(struct pt_iommu *table, dma_addr_t iova, dma_addr_t len,
				 struct iommu_iotlb_gather *gather)
{
	struct mock_shadow *sh = mock_shadow_of(&table->domain);
	dma_addr_t at;
	size_t done;
	void *entry;

	/* First, because the table may sync the IOTLB, at which late writes land. */
	for (at = iova; at < iova + len; at += sh->granule) {
		entry = xa_erase(sh->pfns, at / sh->granule);
		if (!entry)
			break;
		mock_shadow_unmap(sh, xa_to_value(entry) * sh->granule);
	}
	done = sh->real_pt_ops->unmap_range(table, iova, len, gather);
	WARN_ON_ONCE(done != at - iova);
	return done;
}

static void shadow_deinit(struct pt_iommu *table)
{
	struct mock_shadow *sh = mock_shadow_of(&table->domain);
	unsigned long index;
	void *entry;

	xa_for_each(sh->pfns, index, entry)
		mock_shadow_unmap(sh, xa_to_value(entry) * sh->granule);
	xa_destroy(sh->pfns);
	sh->real_pt_ops->deinit(table);
}

void mock_shadow_init_pt(struct mock_shadow *sh, struct pt_iommu *table, unsigned long dev_flags)
{
	bool simulated = dev_flags & MOCK_SHADOW_DEVICE_FLAGS;

	mock_shadow_init(sh, &table->domain, simulated ? &sh->pt_pfns : NULL, dev_flags);
	if (!simulated)
		return;
	xa_init(&sh->pt_pfns);
	sh->real_pt_ops = table->ops;
	sh->pt_ops = *table->ops;
	sh->pt_ops.map_range = shadow_map_range;
	sh->pt_ops.unmap_range = shadow_unmap_range;
	sh->pt_ops.deinit = shadow_deinit;
	table->ops = &sh->pt_ops;
}
