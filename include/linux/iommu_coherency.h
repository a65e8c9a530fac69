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

#else
static inline bool iommu_group_declared_coherent(struct iommu_group *group)
{
	return false;
}

static inline int iommu_no_snoop_off(struct pci_dev *pdev)
{
	return 0;
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
