/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _IOMMUFD_SELFTEST_SHADOW_H
#define _IOMMUFD_SELFTEST_SHADOW_H
/*
 * Simulated non-coherent memory behind the mock devices' domains.
 */
#include <linux/errno.h>
#include <linux/list.h>
#include <linux/types.h>
#include <linux/xarray.h>

#if IS_ENABLED(CONFIG_IOMMU_PT)
#include <linux/generic_pt/iommu.h>
#endif

struct device;
struct iommu_domain;
struct iommu_iotlb_gather;
struct iommufd_ucmd;

/* Of a mock domain */
struct mock_shadow {
#ifdef CONFIG_DMA_CACHE
	struct iommu_domain *domain;
	/* What the domain maps, by IOVA / granule; NULL if a table is not simulated */
	struct xarray *pfns;
	size_t granule;
	struct list_head late;
	bool simulated, enforceable, enforced;
#if IS_ENABLED(CONFIG_IOMMU_PT)
	struct xarray pt_pfns;
	struct pt_iommu_ops pt_ops;
	const struct pt_iommu_ops *real_pt_ops;
#endif
#endif
};

#ifdef CONFIG_DMA_CACHE
#include "iommufd_test.h"

#define MOCK_SHADOW_DEVICE_FLAGS (MOCK_FLAGS_DEVICE_SHADOW | MOCK_FLAGS_DEVICE_ENFORCE_CC)

/* For other test drivers: a device on the mock bus, MOCK_FLAGS_DEVICE_* of iommufd_test.h */
struct device *iommufd_mock_dev_create(unsigned long dev_flags);
void iommufd_mock_dev_destroy(struct device *dev);
int iommufd_mock_dma_rw(struct iommu_domain *domain, u64 iova, void *buf, size_t len,
			unsigned int flags);

/* Of the mock: the shadow of the paging domain that translates for @domain, or NULL */
struct mock_shadow *mock_shadow_of(struct iommu_domain *domain);

int mock_shadow_begin(unsigned long dev_flags);
void mock_shadow_end(void);
void mock_shadow_init(struct mock_shadow *sh, struct iommu_domain *domain, struct xarray *pfns,
		      unsigned long dev_flags);
#if IS_ENABLED(CONFIG_IOMMU_PT)
void mock_shadow_init_pt(struct mock_shadow *sh, struct pt_iommu *table, unsigned long dev_flags);
#endif
void mock_shadow_free(struct mock_shadow *sh);
void mock_shadow_map(struct mock_shadow *sh, phys_addr_t phys, size_t size, int prot);
void mock_shadow_unmap(struct mock_shadow *sh, phys_addr_t phys);
bool mock_shadow_refuses(struct iommu_domain *domain, unsigned long dev_flags);
bool mock_shadow_enforce(struct iommu_domain *domain);
void mock_shadow_iotlb_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather);
void mock_shadow_flush_iotlb_all(struct iommu_domain *domain);
int mock_shadow_test(struct iommufd_ucmd *ucmd);
#else
#define MOCK_SHADOW_DEVICE_FLAGS 0
#define mock_shadow_enforce NULL
#define mock_shadow_flush_iotlb_all NULL

static inline int mock_shadow_begin(unsigned long dev_flags)
{
	return 0;
}

static inline void mock_shadow_end(void)
{
}

static inline void mock_shadow_init(struct mock_shadow *sh, struct iommu_domain *domain,
				    struct xarray *pfns, unsigned long dev_flags)
{
}

#if IS_ENABLED(CONFIG_IOMMU_PT)
static inline void mock_shadow_init_pt(struct mock_shadow *sh, struct pt_iommu *table,
				       unsigned long dev_flags)
{
}

static inline void mock_shadow_iotlb_sync(struct iommu_domain *domain,
					  struct iommu_iotlb_gather *gather)
{
}
#else
/* Without page tables of the IOMMU core, the mock has no function that could call it. */
#define mock_shadow_iotlb_sync NULL
#endif

static inline void mock_shadow_free(struct mock_shadow *sh)
{
}

static inline void mock_shadow_map(struct mock_shadow *sh, phys_addr_t phys, size_t size, int prot)
{
}

static inline void mock_shadow_unmap(struct mock_shadow *sh, phys_addr_t phys)
{
}

static inline bool mock_shadow_refuses(struct iommu_domain *domain, unsigned long dev_flags)
{
	return false;
}

static inline int mock_shadow_test(struct iommufd_ucmd *ucmd)
{
	return -EOPNOTSUPP;
}
#endif

#endif
