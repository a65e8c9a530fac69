/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the server needs of the device behind it, which is of PCI. Regions and interrupts have the
 * numbers of VFIO. What can fail returns 0 or a negative error number.
 */
#ifndef VFIO_USER_DEVICE_H
#define VFIO_USER_DEVICE_H

#include <stdint.h>

/* In bytes; 0 of a region that the device does not have */
uint64_t device_region_size(unsigned int region);

/* How many interrupts there are of a kind */
unsigned int device_irqs(unsigned int kind);

/* The access is within the region. */
int device_read(unsigned int region, uint64_t offset, void *data, uint32_t count);
int device_write(unsigned int region, uint64_t offset, const void *data, uint32_t count);

/* As the machine's reset does */
void device_reset(void);

#endif /* VFIO_USER_DEVICE_H */
