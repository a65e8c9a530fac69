/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PCI Express device that copies between memory and its buffer, and need not snoop the caches of
 * model.h. Registers have 64 bits; the first ones are those of QEMU's edu, but the buffer can be
 * read and written, too.
 *
 * Shared with selftests, and in no way stable.
 */
#ifndef MEMTYPE_CACHE_ENGINE_H
#define MEMTYPE_CACHE_ENGINE_H

/*
 * A driver that is told to drive it, such as vp-vdpa, finds a virtio device as well, which has a
 * queue and does nothing. Its vendor is not virtio's, so that virtio's own driver leaves it alone.
 */
#define ENGINE_VENDOR		0x1234
#define ENGINE_DEVICE		0x107f

/* Addresses that the next transfer copies from and to, one of them in the buffer; and its bytes */
#define ENGINE_SOURCE		0x80
#define ENGINE_TARGET		0x88
#define ENGINE_COUNT		0x90
/* Starts the transfer, which has ended before the write has. ENGINE_FAULTS counts what failed. */
#define ENGINE_COMMAND		0x98
#define ENGINE_RUN		1
#define ENGINE_TO_MEMORY	2
#define ENGINE_INTERRUPT	4	/* and then signals MSI */
/*
 * Instead fills the memory with a number, again and again with the next one, until it is not mapped
 * any more or another command comes. Reads as set until then.
 */
#define ENGINE_REPEAT		8
#define ENGINE_SNOOP		0xa0	/* 1: the device sees what CPUs see; 0 after a reset */
/*
 * How many lines it read that were not what CPUs saw, how many it wrote that were dirty, and how
 * many transfers ended before their time. What is written to them is what they have.
 */
#define ENGINE_STALE		0xa8
#define ENGINE_DIRTY		0xb0
#define ENGINE_FAULTS		0xb8
/* Evicts the lines of ENGINE_COUNT bytes at an address that is mapped. */
#define ENGINE_EVICT		0xc0
/*
 * Evicts random lines at random times, of pages that there were transfers to or from, even if they
 * are not mapped any more. The number is the seed; 0 ends it.
 */
#define ENGINE_ADVERSARY	0xc8
#define ENGINE_EVICTIONS	0xd0	/* how many lines these were */
#define ENGINE_LAST		0xd8	/* the last number of ENGINE_REPEAT */

#define ENGINE_BUFFER		0x40000
#define ENGINE_BUFFER_SIZE	0x1000
#define ENGINE_VIRTIO		0x80000
#define ENGINE_BAR_SIZE		0x100000

#endif /* MEMTYPE_CACHE_ENGINE_H */
