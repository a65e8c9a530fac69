/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_IOMMU_COHERENCY_H
#define _LINUX_IOMMU_COHERENCY_H
/*
 * Groups of devices whose DMA is coherent although their IOMMU does not enforce it.
 * Documentation/driver-api/dma-cache.rst has the rules.
 */
#include <linux/iommu.h>
#include <linux/types.h>

struct pci_dev;
struct seq_file;

/**
 * enum iommu_coherency - what makes the DMA of a group coherent
 * @IOMMU_COHERENCY_IOMMU: the IOMMU, where it enforces coherency, and nothing elsewhere
 * @IOMMU_COHERENCY_DECLARED: an administrator says that it is
 * @IOMMU_COHERENCY_NO_SNOOP_OFF: an administrator says that it is as long as No-Snoop is
 * disabled in the devices, and vfio-pci keeps it so
 */
enum iommu_coherency {
	IOMMU_COHERENCY_IOMMU,
	IOMMU_COHERENCY_DECLARED,
	IOMMU_COHERENCY_NO_SNOOP_OFF,
};

#ifdef CONFIG_DMA_CACHE
bool iommu_group_declared_coherent(struct iommu_group *group);
int iommu_no_snoop_off(struct pci_dev *pdev);
void iommu_show_coherency(struct seq_file *m);

/**
 * iommu_coherency_set_domain() - note that a domain needs no cache maintenance
 * @domain: a new domain, after dma_cache_enforce() and before it maps anything
 * @group: the group that it is made for, which the caller owns; or NULL
 *
 * The owner of the domain lets no device of a group use it that is not declared as this one.
 */
static inline void iommu_coherency_set_domain(struct iommu_domain *domain,
					      struct iommu_group *group)
{
	if (iommu_group_declared_coherent(group))
		domain->noncoherent = false;
}
#else
static inline bool iommu_group_declared_coherent(struct iommu_group *group)
{
	return false;
}

static inline int iommu_no_snoop_off(struct pci_dev *pdev)
{
	return 0;
}

static inline void iommu_coherency_set_domain(struct iommu_domain *domain,
					      struct iommu_group *group)
{
}
#endif

/**
 * iommu_device_coherent() - whether KVM may take all DMA of a device for coherent
 * @dev: the device, whose group the caller keeps
 *
 * Context: May sleep.
 * Return: true if its IOMMU can enforce it, so that each of its domains does, or if it is
 * declared so.
 */
static inline bool iommu_device_coherent(struct device *dev)
{
	return device_iommu_capable(dev, IOMMU_CAP_ENFORCE_CACHE_COHERENCY) ||
	       iommu_group_declared_coherent(dev->iommu_group);
}

#endif /* _LINUX_IOMMU_COHERENCY_H */
