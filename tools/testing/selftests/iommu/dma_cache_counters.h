/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel reports of its cache maintenance for DMA, in debugfs.
 */
#ifndef SELFTEST_DMA_CACHE_COUNTERS_H
#define SELFTEST_DMA_CACHE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kselftest.h"

#define DMA_CACHE_REPORT	"/sys/kernel/debug/dma_cache"

/* Since boot, but for the longest chunk */
struct dma_cache_work {
	uint64_t pages, lines, chunks, skipped, failed, ns, longest_ns;
};

struct dma_cache_counters {
	bool exists;		/* the kernel can maintain caches */
	bool active;		/* and does */
	struct dma_cache_work clean, flush;
};

/* Finds where the number called @name belongs, or returns NULL. */
static inline uint64_t *dma_cache_number(struct dma_cache_counters *c, const char *name)
{
	static const char * const names[] = {
		"pages", "lines", "chunks", "skipped", "failed", "ns", "longest_ns",
	};
	bool flush = !strncmp(name, "flush_", 6);
	unsigned int i;

	if (!flush && strncmp(name, "clean_", 6))
		return NULL;
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name + 6, names[i]))
			return (uint64_t *)(flush ? &c->flush : &c->clean) + i;
	return NULL;
}

static inline struct dma_cache_counters dma_cache_counters(void)
{
	const unsigned int all = 2 * sizeof(struct dma_cache_work) / sizeof(uint64_t);
	struct dma_cache_counters c = {};
	char line[128], name[64], value[64];
	unsigned int found = 0;
	FILE *file = fopen(DMA_CACHE_REPORT, "r");

	if (!file)
		return c;
	c.exists = true;
	while (fgets(line, sizeof(line), file) && sscanf(line, "%63s %63s", name, value) == 2) {
		uint64_t *number = dma_cache_number(&c, name);

		if (!strcmp(name, "active"))
			c.active = !strcmp(value, "yes");
		if (number)
			*number = strtoull(value, NULL, 10);
		found += !!number;
	}
	fclose(file);
	if (found != all)
		ksft_exit_fail_msg("%u of %u numbers in " DMA_CACHE_REPORT "\n", found, all);
	return c;
}

#endif /* SELFTEST_DMA_CACHE_COUNTERS_H */
