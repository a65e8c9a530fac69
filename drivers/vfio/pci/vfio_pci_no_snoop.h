/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VFIO_PCI_NO_SNOOP_H
#define VFIO_PCI_NO_SNOOP_H
/*
 * Devices that userspace has while No-Snoop stays disabled in them.
 */
#include <linux/iommu_coherency.h>
#include <linux/vfio_pci_core.h>

#ifdef CONFIG_DMA_CACHE
__le32 vfio_pci_no_snoop_read(struct vfio_pci_core_device *vdev, int pos, int count, __le32 val);
__le32 vfio_pci_no_snoop_write(struct vfio_pci_core_device *vdev, int pos, int count, __le32 val);
#else
static inline __le32 vfio_pci_no_snoop_read(struct vfio_pci_core_device *vdev, int pos, int count,
					    __le32 val)
{
	return val;
}

static inline __le32 vfio_pci_no_snoop_write(struct vfio_pci_core_device *vdev, int pos, int count,
					     __le32 val)
{
	return val;
}
#endif

#endif /* VFIO_PCI_NO_SNOOP_H */
