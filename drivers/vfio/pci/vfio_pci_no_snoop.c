// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices that userspace has while No-Snoop stays disabled in them.
 *
 * An administrator declares in sysfs that such a device, or a virtual function of it, is coherent
 * then (drivers/iommu/iommu-coherency.h). Userspace has a bit of its own, in vconfig, which reads
 * as it wrote it. The device's bit is 1 after a reset. The kernel's own resets restore it as it was
 * before; after any other reset the device cannot master the bus, until userspace lets it.
 */
#include <linux/pci.h>

#include "vfio_pci_no_snoop.h"

/* Where the byte of Device Control is that has the bit, and the bit in that */
#define NO_SNOOP_BYTE(pdev)	((pdev)->pcie_cap + PCI_EXP_DEVCTL + 1)
#define NO_SNOOP_BIT		(PCI_EXP_DEVCTL_NOSNOOP_EN >> 8)

/* Bits of the byte at @byte, in the value of an access; 0 if that has others. */
static __le32 bits_of(int byte, u8 bits, int pos, int count)
{
	return cpu_to_le32(byte < pos || byte >= pos + count ? 0 : (u32)bits << 8 * (byte - pos));
}

/**
 * vfio_pci_no_snoop_read() - what userspace reads, with its own enable bit of No-Snoop
 * @vdev: the device
 * @pos: where in config space
 * @count: bytes, 4 at most
 * @val: what it would read
 *
 * Return: @val; with userspace's bit, if that is among what is read and the device's is kept clear.
 */
__le32 vfio_pci_no_snoop_read(struct vfio_pci_core_device *vdev, int pos, int count, __le32 val)
{
	int byte = NO_SNOOP_BYTE(vdev->pdev);
	__le32 bit = bits_of(byte, NO_SNOOP_BIT, pos, count);

	if (!vdev->pdev->no_snoop_off || !bit)
		return val;
	return vdev->vconfig[byte] & NO_SNOOP_BIT ? val | bit : val & ~bit;
}

/**
 * vfio_pci_no_snoop_write() - what the device gets of what userspace writes
 * @vdev: the device
 * @pos: where in config space
 * @count: bytes, 4 at most
 * @val: what userspace writes
 *
 * Before the device may master the bus, its No-Snoop is disabled once more.
 *
 * Context: May sleep.
 * Return: @val; without what enables No-Snoop if the device's bit is kept clear, and without the
 * bus master bit if that failed.
 */
__le32 vfio_pci_no_snoop_write(struct vfio_pci_core_device *vdev, int pos, int count, __le32 val)
{
	int byte = NO_SNOOP_BYTE(vdev->pdev);
	__le32 bit = bits_of(byte, NO_SNOOP_BIT, pos, count);
	__le32 master = bits_of(PCI_COMMAND, PCI_COMMAND_MASTER, pos, count);

	if (!vdev->pdev->no_snoop_off)
		return val;
	if (val & bit)
		vdev->vconfig[byte] |= NO_SNOOP_BIT;
	else if (bit)
		vdev->vconfig[byte] &= ~NO_SNOOP_BIT;
	if (val & master && iommu_no_snoop_off(vdev->pdev))
		val &= ~master;
	return val & ~bit;
}
