// SPDX-License-Identifier: GPL-2.0-only
/*
 * A test instrument: a bus with PCI Express devices whose config space is memory. They are real
 * devices for everything above config accesses: vfio-pci, the IOMMU's driver, sysfs.
 * vfio_pci_mock.h says which there are, and where.
 */
#include <linux/init.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/unaligned.h>

#include "vfio_pci_mock.h"

#define EXP		VFIO_PCI_MOCK_EXP
#define ACS		PCI_CFG_SPACE_SIZE
#define SRIOV		(ACS + 0x10)
#define SPACE		(SRIOV + PCI_EXT_CAP_SRIOV_SIZEOF)
/* Of Device Control after a reset: No-Snoop and relaxed ordering enabled, 512 bytes a read */
#define DEVCTL_RESET	(PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_RELAX_EN | 0x2000)

/**
 * struct mock_function - a function
 * @space: its config space; what is beyond reads as 0
 * @writable: the bits of it that can be written
 */
struct mock_function {
	u8 space[SPACE], writable[SPACE];
};

/* The lock is that of config accesses, which the PCI core has. */
static struct mock_function functions[VFIO_PCI_MOCK_FUNCTIONS];

static void mock_reset(enum vfio_pci_mock which)
{
	bool vf = which == VFIO_PCI_MOCK_VF, pf = which == VFIO_PCI_MOCK_PF;
	u8 *space = functions[which].space, *writable = functions[which].writable;
	u16 class = which == VFIO_PCI_MOCK_DISPLAY ? PCI_CLASS_DISPLAY_OTHER : PCI_CLASS_SP_OTHER;

	memset(&functions[which], 0, sizeof(functions[which]));
	/* A virtual function has the numbers of its physical one. */
	put_unaligned_le16(vf ? 0xffff : VFIO_PCI_MOCK_VENDOR, space + PCI_VENDOR_ID);
	put_unaligned_le16(vf ? 0xffff : VFIO_PCI_MOCK_DEVICE + which, space + PCI_DEVICE_ID);
	put_unaligned_le16(class, space + PCI_CLASS_DEVICE);
	put_unaligned_le16(PCI_STATUS_CAP_LIST, space + PCI_STATUS);
	space[PCI_CAPABILITY_LIST] = EXP;
	put_unaligned_le16(PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, writable + PCI_COMMAND);

	put_unaligned_le16(PCI_CAP_ID_EXP, space + EXP);
	put_unaligned_le16(2, space + EXP + PCI_EXP_FLAGS);
	put_unaligned_le32(PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER, space + EXP + PCI_EXP_DEVCAP);
	if (!vf) {
		u16 stuck = which == VFIO_PCI_MOCK_STUCK ? PCI_EXP_DEVCTL_NOSNOOP_EN : 0;

		put_unaligned_le16(DEVCTL_RESET, space + EXP + PCI_EXP_DEVCTL);
		put_unaligned_le16(0x7fff & ~stuck, writable + EXP + PCI_EXP_DEVCTL);
		space[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_MFD;
		/* The functions do not talk to each other. */
		put_unaligned_le32(PCI_EXT_CAP_ID_ACS | 1 << 16 | (pf ? SRIOV << 20 : 0),
				   space + ACS);
	}
	if (pf) {
		put_unaligned_le32(PCI_EXT_CAP_ID_SRIOV | 1 << 16, space + SRIOV);
		put_unaligned_le16(PCI_SRIOV_CTRL_VFE, writable + SRIOV + PCI_SRIOV_CTRL);
		space[SRIOV + PCI_SRIOV_INITIAL_VF] = 1;
		space[SRIOV + PCI_SRIOV_TOTAL_VF] = 1;
		writable[SRIOV + PCI_SRIOV_NUM_VF] = 1;
		space[SRIOV + PCI_SRIOV_FUNC_LINK] = VFIO_PCI_MOCK_PF;
		space[SRIOV + PCI_SRIOV_VF_OFFSET] = 1;
		space[SRIOV + PCI_SRIOV_VF_STRIDE] = 1;
		space[SRIOV + PCI_SRIOV_SUP_PGSIZE] = 1;
	}
}

static struct mock_function *mock_find(unsigned int devfn)
{
	u8 *sriov = functions[VFIO_PCI_MOCK_PF].space + SRIOV;

	if (devfn >= VFIO_PCI_MOCK_FUNCTIONS)
		return NULL;
	if (devfn == VFIO_PCI_MOCK_VF && !(sriov[PCI_SRIOV_CTRL] & PCI_SRIOV_CTRL_VFE))
		return NULL;
	return &functions[devfn];
}

static int mock_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	struct mock_function *function = mock_find(devfn);
	int i;

	if (!function) {
		PCI_SET_ERROR_RESPONSE(val);
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
	*val = 0;
	for (i = 0; i < size && where + i < SPACE; i++)
		*val |= (u32)function->space[where + i] << 8 * i;
	return PCIBIOS_SUCCESSFUL;
}

static int mock_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	struct mock_function *function = mock_find(devfn);
	int i;

	if (!function)
		return PCIBIOS_DEVICE_NOT_FOUND;
	for (i = 0; i < size && where + i < SPACE; i++, val >>= 8) {
		u8 *byte = &function->space[where + i], bits = function->writable[where + i];

		*byte = (*byte & ~bits) | (val & bits);
		if (where + i == VFIO_PCI_MOCK_STICK && val & 1)
			function->writable[EXP + PCI_EXP_DEVCTL + 1] &=
				~(PCI_EXP_DEVCTL_NOSNOOP_EN >> 8);
		if (where + i == EXP + PCI_EXP_DEVCTL + 1 && val & (PCI_EXP_DEVCTL_BCR_FLR >> 8)) {
			mock_reset(function - functions);
			break;
		}
	}
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops mock_ops = {
	.read = mock_read,
	.write = mock_write,
};

static struct pci_bus * __init mock_find_bus(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev)
		if (pci_is_pcie(pdev) && pci_pcie_type(pdev) == PCI_EXP_TYPE_ROOT_PORT &&
		    pdev->subordinate && list_empty(&pdev->subordinate->devices))
			break;
	/* Nothing unplugs a root port, so that its reference is not needed. */
	pci_dev_put(pdev);
	return pdev ? pdev->subordinate : NULL;
}

static int __init mock_init(void)
{
	unsigned int which;
	struct pci_bus *bus;

	for (which = 0; which < VFIO_PCI_MOCK_FUNCTIONS; which++)
		mock_reset(which);
	pci_lock_rescan_remove();
	bus = mock_find_bus();
	if (bus) {
		pci_bus_set_ops(bus, &mock_ops);
		pci_scan_slot(bus, 0);
		pci_bus_add_devices(bus);
	}
	pci_unlock_rescan_remove();
	return 0;
}
device_initcall(mock_init);
