/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI Express devices with no hardware behind them, for tests: the functions of a device below the
 * first root port that has none. They have a config space and a function-level reset, and nothing
 * else.
 *
 * Shared with selftests, and in no way stable.
 */
#ifndef __VFIO_PCI_MOCK_H
#define __VFIO_PCI_MOCK_H

#define VFIO_PCI_MOCK_VENDOR	0x1af4
#define VFIO_PCI_MOCK_DEVICE	0x1200	/* that of function 0 */
/* Where the PCI Express capability is */
#define VFIO_PCI_MOCK_EXP	0x40
/* After a 1 is written here, No-Snoop stays as it is until a reset. */
#define VFIO_PCI_MOCK_STICK	0x7c

/* The functions, each in an IOMMU group of its own */
enum vfio_pci_mock {
	VFIO_PCI_MOCK_PLAIN,
	VFIO_PCI_MOCK_DISPLAY,
	VFIO_PCI_MOCK_STUCK,	/* No-Snoop cannot be disabled. */
	VFIO_PCI_MOCK_PF,	/* may have one virtual function, which is the next one */
	VFIO_PCI_MOCK_VF,
	VFIO_PCI_MOCK_FUNCTIONS
};

#endif /* __VFIO_PCI_MOCK_H */
