// SPDX-License-Identifier: GPL-2.0-only
/* The model of model.h. CPUs store to RAM at any time, without a lock, in words or parts. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"

#define PAGE	4096u
#define WORDS	(CACHE_LINE / sizeof(uint64_t))
#define LOCKS	65536u
/* How often a line is read that a CPU stores to all the time. Then its words are what they are. */
#define READS	1000

int cache_open(struct cache *cache, const char *path)
{
	struct stat file;
	unsigned char *all;
	int ret;

	cache->fd = open(path, O_RDWR | O_CLOEXEC);
	if (cache->fd < 0)
		return -errno;
	if (fstat(cache->fd, &file)) {
		ret = -errno;
		goto out;
	}
	cache->size = file.st_size / 4;
	if (cache->size < 2 * LOCKS * sizeof(*cache->locks) || file.st_size % (4 * PAGE)) {
		ret = -EINVAL;
		goto out;
	}
	all = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, cache->fd, 0);
	if (all == MAP_FAILED) {
		ret = -errno;
		goto out;
	}
	cache->ram = all;
	cache->dram = all + cache->size;
	cache->base = all + 2 * cache->size;
	cache->locks = (uint32_t *)(all + 3 * cache->size);
	cache->uncached = (bool *)(cache->locks + LOCKS);
	return 0;
out:
	close(cache->fd);
	return ret;
}

/*
 * The lock of a line, for what the device sees and what was last agreed on. Several lines have one,
 * of which nobody holds two.
 */
static uint32_t *lock_line(struct cache *cache, uint64_t place)
{
	uint32_t *lock = &cache->locks[place / CACHE_LINE % LOCKS];

	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	return lock;
}

static void unlock_line(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

static void read_line(const uint64_t *line, uint64_t words[WORDS])
{
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		words[i] = __atomic_load_n(&line[i], __ATOMIC_ACQUIRE);
}

/* What a line had at one time, which is when two reads agree: a line is written back as one. */
static void snapshot(const uint64_t *line, uint64_t words[WORDS])
{
	uint64_t again[WORDS];
	unsigned int i;

	read_line(line, words);
	for (i = 0; i < READS; i++) {
		read_line(line, again);
		if (!memcmp(words, again, CACHE_LINE))
			return;
		memcpy(words, again, CACHE_LINE);
	}
}

void cache_maintain(struct cache *cache, enum cache_op op, uint64_t place)
{
	uint64_t at = place - place % CACHE_LINE;
	uint64_t *ram = (uint64_t *)(cache->ram + at);
	uint64_t *dram = (uint64_t *)(cache->dram + at);
	uint64_t *base = (uint64_t *)(cache->base + at);
	uint64_t words[WORDS];
	uint32_t *lock;
	unsigned int i;

	lock = lock_line(cache, at);
	snapshot(ram, words);
	if (memcmp(words, base, CACHE_LINE)) {
		memcpy(dram, words, CACHE_LINE);
		memcpy(base, words, CACHE_LINE);
	} else if (op == CACHE_FLUSH && memcmp(words, dram, CACHE_LINE)) {
		/* What a CPU stores meanwhile stays, as if it came after, and is dirty. */
		for (i = 0; i < WORDS; i++)
			__atomic_compare_exchange_n(&ram[i], &words[i], dram[i], false,
						    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		memcpy(base, dram, CACHE_LINE);
	}
	unlock_line(lock);
}

/* Whether nothing is dirty or stale in a page, as in most; looking at each line takes long. */
static bool agreed(struct cache *cache, uint64_t page)
{
	return !memcmp(cache->ram + page, cache->base + page, PAGE) &&
	       !memcmp(cache->dram + page, cache->base + page, PAGE);
}

/* All lines of a part of the file; nothing is read where it is still a hole, which takes memory. */
static void maintain_part(struct cache *cache, enum cache_op op, uint64_t part)
{
	off_t at = part, end, stop = part + cache->size;
	unsigned int line;

	while (at < stop) {
		at = lseek(cache->fd, at, SEEK_DATA);
		if (at < 0 || at >= stop)
			return;
		end = lseek(cache->fd, at, SEEK_HOLE);
		for (; at < end && at < stop; at += PAGE) {
			if (agreed(cache, at - part))
				continue;
			for (line = 0; line < PAGE; line += CACHE_LINE)
				cache_maintain(cache, op, at - part + line);
		}
	}
}

void cache_maintain_all(struct cache *cache, enum cache_op op)
{
	maintain_part(cache, op, 0);
	/* What the device wrote, and no CPU looked at */
	maintain_part(cache, op, cache->size);
}

static bool is_uncached(struct cache *cache, uint64_t place)
{
	return __atomic_load_n(&cache->uncached[place / PAGE], __ATOMIC_ACQUIRE);
}

void cache_set_uncached(struct cache *cache, uint64_t place, bool uncached)
{
	uint64_t page = place - place % PAGE, line;

	if (is_uncached(cache, page) == uncached)
		return;
	/*
	 * While a page is uncached, the device sees RAM. So its lines are evicted before that, and
	 * memory gets what was stored past the caches after it.
	 */
	for (line = page; line < page + PAGE; line += CACHE_LINE)
		cache_maintain(cache, CACHE_FLUSH, line);
	__atomic_store_n(&cache->uncached[page / PAGE], uncached, __ATOMIC_RELEASE);
}

/* How much of @size is in the line of the place. */
static unsigned int in_line(uint64_t place, uint64_t size)
{
	unsigned int left = CACHE_LINE - place % CACHE_LINE;

	return size < left ? size : left;
}

unsigned int cache_device_read(struct cache *cache, uint64_t place, void *to, uint64_t size)
{
	unsigned int stale = 0, n;
	uint32_t *lock;

	for (; size; size -= n, place += n, to = (char *)to + n) {
		n = in_line(place, size);
		if (is_uncached(cache, place)) {
			memcpy(to, cache->ram + place, n);
			continue;
		}
		lock = lock_line(cache, place);
		memcpy(to, cache->dram + place, n);
		unlock_line(lock);
		stale += !!memcmp(to, cache->ram + place, n);
	}
	return stale;
}

unsigned int cache_device_write(struct cache *cache, uint64_t place, const void *from,
				uint64_t size)
{
	unsigned int dirty = 0, n;
	uint32_t *lock;
	uint64_t line;

	for (; size; size -= n, place += n, from = (const char *)from + n) {
		n = in_line(place, size);
		line = place - place % CACHE_LINE;
		if (is_uncached(cache, place)) {
			memcpy(cache->ram + place, from, n);
			continue;
		}
		lock = lock_line(cache, place);
		dirty += !!memcmp(cache->ram + line, cache->base + line, CACHE_LINE);
		memcpy(cache->dram + place, from, n);
		unlock_line(lock);
	}
	return dirty;
}
