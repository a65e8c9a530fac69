/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the server needs of the device behind it, which is of PCI, and what it has for it. Regions
 * and interrupts have the numbers of VFIO. What can fail returns 0 or a negative error number.
 */
#ifndef VFIO_USER_DEVICE_H
#define VFIO_USER_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

/* The first that is asked of it; @argument is that of server_run(). */
int device_init(const char *argument);

/* In bytes; 0 of a region that the device does not have */
uint64_t device_region_size(unsigned int region);

/* How many interrupts there are of a kind */
unsigned int device_irqs(unsigned int kind);

/* The access is within the region. */
int device_read(unsigned int region, uint64_t offset, void *data, uint32_t count);
int device_write(unsigned int region, uint64_t offset, const void *data, uint32_t count);

/* As the machine's reset does */
void device_reset(void);

/*
 * What it does between two messages. Returns after how many milliseconds it wants to do more, if no
 * message comes before, or -1 if not before.
 */
int device_work(void);

/* What the server has */

/*
 * Has the device for the client that connects to this socket, which is listening already, so that
 * whoever starts the client need not wait. Returns an exit status when the client has gone.
 */
int server_run(int listening, const char *argument);

/*
 * Of device_init(): the client itself maps the region, from the start of this file, for the
 * accesses that VFIO_REGION_INFO_FLAG_* allow.
 */
void server_give_file(unsigned int region, int fd, uint32_t flags);

/* Of device_init(): of the client's memory, the device can reach what is in this file. */
int server_reach(int fd);

/*
 * Where in that file @address is, if the device may read or write it there, and how many bytes are
 * mapped from there on. They stay mapped until the device returns.
 */
int server_find(uint64_t address, bool write, uint64_t *place, uint64_t *size);

/* Signals an interrupt, if anybody wants to know. */
void server_signal(unsigned int kind, unsigned int number);

#endif /* VFIO_USER_DEVICE_H */
