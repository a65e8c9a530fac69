/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The messages of vfio-user, version 0.0, as docs/interop/vfio-user.rst of QEMU has them. Where a
 * message stands for an ioctl() of VFIO, it carries what that does.
 */
#ifndef VFIO_USER_PROTOCOL_H
#define VFIO_USER_PROTOCOL_H

#include <stdint.h>

#define VFIO_USER_MAJOR		0
#define VFIO_USER_MINOR		0

/* The client's commands */
enum {
	VFIO_USER_VERSION		= 1,
	VFIO_USER_DMA_MAP		= 2,
	VFIO_USER_DMA_UNMAP		= 3,
	VFIO_USER_DEVICE_GET_INFO	= 4,
	VFIO_USER_GET_REGION_INFO	= 5,
	VFIO_USER_GET_IRQ_INFO		= 7,
	VFIO_USER_SET_IRQS		= 8,
	VFIO_USER_REGION_READ		= 9,
	VFIO_USER_REGION_WRITE		= 10,
	VFIO_USER_DEVICE_RESET		= 13,
};

struct vfio_user_header {
	uint16_t id, command;
	uint32_t size;		/* header included */
	uint32_t flags;
#define VFIO_USER_REPLY		0x1	/* in a field of four bits that is 0 in a command */
#define VFIO_USER_NO_REPLY	0x10
#define VFIO_USER_ERROR		0x20
	uint32_t error;
};

struct vfio_user_version {
	uint16_t major, minor;
	char capabilities[];	/* JSON, with a NUL */
};

struct vfio_user_dma_map {
	uint32_t argsz, flags;
#define VFIO_USER_DMA_READABLE	0x1
#define VFIO_USER_DMA_WRITEABLE	0x2
	uint64_t offset, address, size;
};

struct vfio_user_dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

struct vfio_user_region_access {
	uint64_t offset;
	uint32_t region, count;
	unsigned char data[];	/* of a write's command and of a read's reply */
};

#endif /* VFIO_USER_PROTOCOL_H */
