/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __IOMMUFD_NONCOHERENT_H
#define __IOMMUFD_NONCOHERENT_H
/*
 * Cache maintenance for pages that domains without enforced coherency map: clean before the
 * first of them does, flush after the last of them did.
 */
#include <linux/dma_cache.h>
#include <linux/interval_tree.h>
#include <uapi/linux/dma_cache.h>

struct iommu_domain;
struct iommufd_device;
struct iommufd_hwpt_paging;
struct iommufd_ucmd;
struct iopt_area;
struct iopt_pages;
struct pfn_batch;

#ifdef CONFIG_DMA_CACHE
/**
 * struct iopt_area_noncoherent - what an area has to do with non-coherent DMA
 * @node: in iopt_pages::noncoherent_itree while @whole
 * @domains: how many non-coherent domains map the area, or begin to, or are about to cease
 * @whole: at least one of them maps all of the area and is going to
 *
 * Protected by the mutex of the iopt_pages, which areas of many io_pagetables share.
 */
struct iopt_area_noncoherent {
	struct interval_tree_node node;
	unsigned int domains;
	bool whole;
};

bool iopt_area_must_maintain(struct iopt_area *area, struct iopt_pages *pages);
void iopt_noncoherent_enter(struct iopt_area *area, struct iommu_domain *domain);
void iopt_noncoherent_enter_all(struct iopt_area *area);
void iopt_noncoherent_entered(struct iopt_area *area, struct iopt_pages *pages);
void iopt_noncoherent_leave(struct iopt_area *area, struct iopt_pages *pages,
			    struct iommu_domain *domain);
void iopt_noncoherent_leave_all(struct iopt_area *area, struct iopt_pages *pages);
void iopt_noncoherent_left(struct iopt_area *area, struct iommu_domain *domain);
void iopt_noncoherent_split(struct iopt_area *area, struct iopt_area *lhs, struct iopt_area *rhs);

int iopt_noncoherent_clean(struct iopt_pages *pages, const struct pfn_batch *batch,
			   unsigned long start_index);
void iopt_noncoherent_flush(struct iopt_area *area, struct iopt_pages *pages,
			    const struct pfn_batch *batch, unsigned long start_index,
			    unsigned long npages);
void iopt_noncoherent_flush_pinned(struct iopt_area *area, struct iopt_pages *pages,
				   unsigned long last_index);

int iopt_noncoherent_pin(struct iopt_pages *pages, struct page **out_pages,
			 unsigned long start_index, unsigned long last_index);
void iopt_noncoherent_unpin(struct iopt_pages *pages, unsigned long start_index,
			    unsigned long last_index);

int iommufd_check_coherency(struct iommufd_device *idev, struct iommufd_hwpt_paging *hwpt_paging);
int iommufd_hwpt_coherency(struct iommufd_ucmd *ucmd);

/* Of IOMMU_GET_HW_INFO */
static inline u64 iommufd_noncoherent_caps(void)
{
	return dma_cache_active() ? IOMMU_HW_CAP_DMA_CACHE : 0;
}
#else
struct iopt_area_noncoherent {};

static inline bool iopt_area_must_maintain(struct iopt_area *area, struct iopt_pages *pages)
{
	return false;
}

static inline void iopt_noncoherent_enter(struct iopt_area *area, struct iommu_domain *domain)
{
}

static inline void iopt_noncoherent_enter_all(struct iopt_area *area)
{
}

static inline void iopt_noncoherent_entered(struct iopt_area *area, struct iopt_pages *pages)
{
}

static inline void iopt_noncoherent_leave(struct iopt_area *area, struct iopt_pages *pages,
					  struct iommu_domain *domain)
{
}

static inline void iopt_noncoherent_leave_all(struct iopt_area *area, struct iopt_pages *pages)
{
}

static inline void iopt_noncoherent_left(struct iopt_area *area, struct iommu_domain *domain)
{
}

static inline void iopt_noncoherent_split(struct iopt_area *area, struct iopt_area *lhs,
					  struct iopt_area *rhs)
{
}

static inline int iopt_noncoherent_clean(struct iopt_pages *pages, const struct pfn_batch *batch,
					 unsigned long start_index)
{
	return 0;
}

static inline void iopt_noncoherent_flush(struct iopt_area *area, struct iopt_pages *pages,
					  const struct pfn_batch *batch, unsigned long start_index,
					  unsigned long npages)
{
}

static inline void iopt_noncoherent_flush_pinned(struct iopt_area *area, struct iopt_pages *pages,
						 unsigned long last_index)
{
}

static inline int iopt_noncoherent_pin(struct iopt_pages *pages, struct page **out_pages,
				       unsigned long start_index, unsigned long last_index)
{
	return 0;
}

static inline void iopt_noncoherent_unpin(struct iopt_pages *pages, unsigned long start_index,
					  unsigned long last_index)
{
}

static inline int iommufd_check_coherency(struct iommufd_device *idev,
					  struct iommufd_hwpt_paging *hwpt_paging)
{
	return 0;
}

static inline int iommufd_hwpt_coherency(struct iommufd_ucmd *ucmd)
{
	return -EOPNOTSUPP;
}

static inline u64 iommufd_noncoherent_caps(void)
{
	return 0;
}
#endif

#endif
