/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of the caches of a machine's CPUs, together one cache without an end, and of the memory
 * behind it, which a device that does not snoop sees.
 *
 * A file has three parts of the size of the machine's RAM, and a fourth for all else. The first is
 * what the CPUs see, which QEMU has as the machine's RAM. The second is what the device sees, and
 * the third what both last agreed on. A line is dirty if the first and the third differ. If it is
 * not, and the second is another, it is stale.
 *
 * Whoever has the file mapped may call these functions at any time, in any number of processes and
 * threads. A place in RAM is its distance from the first byte.
 */
#ifndef MEMTYPE_CACHE_MODEL_H
#define MEMTYPE_CACHE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define CACHE_LINE	64u

struct cache {
	unsigned char *ram, *dram, *base;
	uint32_t *locks;
	bool *uncached;	/* of each page */
	uint64_t size;	/* of RAM, in bytes; a multiple of the page's */
	int fd;
};

enum cache_op {
	CACHE_CLEAN,	/* A dirty line is written back. */
	CACHE_FLUSH,	/* A dirty line is written back, and any is dropped: an eviction does so. */
};

/* Opens the file; RAM is a quarter of it. Returns 0 or a negative error number. */
int cache_open(struct cache *cache, const char *path);

/* Whether CPUs pass the caches in a page: what they store there is what a device sees, at once. */
void cache_set_uncached(struct cache *cache, uint64_t place, bool uncached);

/* What an instruction does to the line that the place is in; and to all lines. */
void cache_maintain(struct cache *cache, enum cache_op op, uint64_t place);
void cache_maintain_all(struct cache *cache, enum cache_op op);

/*
 * What a device does that does not snoop. They return of how many lines it read something else than
 * what the CPUs see, and how many it wrote that were dirty, so that what it wrote can be lost.
 */
unsigned int cache_device_read(struct cache *cache, uint64_t place, void *to, uint64_t size);
unsigned int cache_device_write(struct cache *cache, uint64_t place, const void *from,
				uint64_t size);

#endif /* MEMTYPE_CACHE_MODEL_H */
