/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PCI Express device that says what became of the Enable No Snoop bit in its Device Control
 * register. That is set after a reset, and can be cleared. The device does no DMA.
 *
 * Shared with selftests, and in no way stable.
 */
#ifndef VFIO_USER_NO_SNOOP_H
#define VFIO_USER_NO_SNOOP_H

#define NO_SNOOP_VENDOR		0x1af4
#define NO_SNOOP_DEVICE		0x1210
/* Where the PCI Express capability is: CONFIG_EXP of config.h */
#define NO_SNOOP_EXP		0x40

/* Registers of BAR 0, of 32 bits each */
#define NO_SNOOP_DEVCTL		0x0	/* Device Control, as the device has it */
#define NO_SNOOP_RESETS		0x4	/* how often it was reset */
/*
 * 1 if it could have sent a request that does not snoop, because it was enabled to at a time when
 * it was a bus master, since 0 was written here. A reset leaves it alone.
 */
#define NO_SNOOP_ALLOWED	0x8
#define NO_SNOOP_BAR_SIZE	0x1000

#endif /* VFIO_USER_NO_SNOOP_H */
