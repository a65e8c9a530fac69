// SPDX-License-Identifier: GPL-2.0-only
/*
 * The model, and what test_cache.py has happen at the points where another CPU could do something:
 * before it reads a word of a line, before it puts one back, and while it waits for a lock.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>

#include "model.h"

static void cpu_stores(void);
static void others_run(void);

/* A macro does not mean itself. */
#define __atomic_load_n(...) (cpu_stores(), __atomic_load_n(__VA_ARGS__))
#define __atomic_compare_exchange_n(...) (cpu_stores(), __atomic_compare_exchange_n(__VA_ARGS__))
#define sched_yield() others_run()
#include "../cache/model.c"

/* So many accesses of the model's later a CPU counts in this word, and in the line's last. */
static unsigned int later, word;
static unsigned int waits;
static struct cache *cache;

void races_with(struct cache *with, unsigned int after, unsigned int which)
{
	cache = with;
	later = after;
	word = which;
	waits = 0;
}

static void cpu_stores(void)
{
	uint64_t *line = (uint64_t *)cache->ram;

	if (!later || --later)
		return;
	line[word]++;
	line[WORDS - 1]++;
}

static void others_run(void)
{
	waits++;
	cache->locks[0] = 0;
}

/* How often others run while the first line is locked by them, if it is locked at all */
unsigned int waited(void)
{
	return cache->locks[0] ? 0 : waits;
}

void lock_first_line(void)
{
	cache->locks[0] = 1;
}
