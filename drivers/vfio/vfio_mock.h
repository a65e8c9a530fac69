/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/vfio_mock: VFIO devices with no hardware behind them, for tests.
 *
 * Shared with selftests, and in no way stable.
 */
#ifndef __VFIO_MOCK_H
#define __VFIO_MOCK_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The devices, each in a group of its own */
enum vfio_mock_device {
	VFIO_MOCK_COHERENT,	/* its domain can enforce coherency */
	VFIO_MOCK_NONCOHERENT,
	VFIO_MOCK_NONCOHERENT2,
	VFIO_MOCK_SNOOPING,	/* its domain cannot, but its DMA is coherent */
	VFIO_MOCK_EMULATED,	/* has no domain, pins pages */
	VFIO_MOCK_DEVICES
};

/* Of /dev/vfio_mock, whose mmap() maps one page of reserved memory */
#define VFIO_MOCK_FIND		_IOWR('m', 2, struct vfio_mock_find)

/**
 * struct vfio_mock_find - where a device is
 * @device: enum vfio_mock_device
 * @group: number of its group
 * @name: for VFIO_GROUP_GET_DEVICE_FD
 */
struct vfio_mock_find {
	__u32 device;
	__u32 group;
	char name[32];
};

/* Of a device: the device does DMA. ENODEV: its group has no domain of VFIO's. */
#define VFIO_MOCK_DMA		_IOW('m', 3, struct vfio_mock_dma)

/**
 * struct vfio_mock_dma - one DMA transfer
 * @iova: where to
 * @uptr: the buffer that a write takes, or that a read fills
 * @length: bytes, one page at most
 * @flags: MOCK_DMA_RW_* of iommufd_test.h
 */
struct vfio_mock_dma {
	__u64 iova;
	__u64 uptr;
	__u32 length;
	__u32 flags;
};

/* Of the emulated device: pin one page until it is unmapped or unpinned. */
#define VFIO_MOCK_PIN		_IOW('m', 4, __u64)
#define VFIO_MOCK_UNPIN		_IO('m', 5)

/* Of the emulated device: give the page that is pinned to a PCI device, until it is unpinned. */
#define VFIO_MOCK_MEDIATE	_IOWR('m', 6, struct vfio_mock_mediate)

/**
 * struct vfio_mock_mediate - what the driver of a mediated device does for its user
 * @vendor: of the first PCI device with these two,
 * @device: which may have no other driver that does DMA
 * @address: the page's, for that device's DMA
 */
struct vfio_mock_mediate {
	__u32 vendor;
	__u32 device;
	__u64 address;
};

#endif /* __VFIO_MOCK_H */
