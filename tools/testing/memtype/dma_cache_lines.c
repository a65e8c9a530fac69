// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast are the x86 kernel's line loops of cache maintenance on this CPU?
 *
 * The very loops of the kernel, in three ways; each instruction is only compared
 * with itself:
 *
 *	kernel	as mm/dma_cache.c on memory of which no two pages are neighbours: a
 *		call for each page, and a pair of fences for each chunk
 *	bare	one call, and two fences in all
 *	fenced	a pair of fences for each page, as clflush_cache_range() has it
 *
 * The ways take turns, each on memory that was just read ("clean") or written
 * ("dirty"). What the caches no longer hold by then counts, too: so it is in the
 * kernel. Time is that of this thread alone, and a ratio is the median of those of
 * the rounds, so that other load does little harm. How much harm, its error says.
 *
 * tools/testing/memtype/bench.py defines CHUNK and reads the lines "memtype-lines:".
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define DMA_CACHE_EXTABLE(...)
#include "../../../arch/x86/include/asm/dma_cache_lines.h"

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define PAGE		4096ul
#define MIB		(1024 * 1024ul)
#define MAX_SIZE	(1024 * MIB)
/* What is read or written before more than this is no longer in any cache. */
#define CACHES		(128 * MIB)
/* It is over when both ratios are this certain, or with the last round or second. */
#define ERROR		0.005
#define MIN_ROUNDS	31
#define MAX_ROUNDS	999
#define SECONDS		10

typedef unsigned long (*lines_fn)(unsigned long start, unsigned long end, unsigned long line);

enum way { KERNEL, BARE, FENCED, WAYS };

static unsigned long line;	/* bytes */
static uint64_t clock_cost;	/* ns that now() adds to what it measures */

/* mb() of the kernel */
static void fence(void)
{
	asm volatile("mfence" : : : "memory");
}

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* In calls of @step bytes, with a pair of fences for each @fenced bytes. */
static void maintain(lines_fn lines, unsigned long start, unsigned long size, unsigned long step,
		     unsigned long fenced)
{
	unsigned long end = start + size, stop;

	while (start < end) {
		stop = start + fenced < end ? start + fenced : end;
		fence();
		while (start < stop)
			start = lines(start, start + step < stop ? start + step : stop, line);
		fence();
	}
}

/* In ns. */
static double measure(lines_fn lines, enum way way, char *memory, unsigned long size, bool dirty)
{
	unsigned long start = (unsigned long)memory;
	unsigned long offset = size > CACHES ? size - CACHES : 0;
	static char value;
	uint64_t before;

	/* Neither what is there already nor 0: a CPU may do less for these. */
	value = value % 100 + 1;
	for (; offset < size; offset += line) {
		if (dirty)
			memory[offset] = value;
		else
			asm volatile("" : : "r" (memory[offset]));
	}
	before = now(CLOCK_THREAD_CPUTIME_ID);
	if (way == KERNEL)
		maintain(lines, start, size, PAGE, CHUNK);
	else if (way == BARE)
		maintain(lines, start, size, size, size);
	else
		maintain(lines, start, size, PAGE, PAGE);
	return now(CLOCK_THREAD_CPUTIME_ID) - before - clock_cost;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* The median of @a[i] / @b[i], or of @a[i] alone, and its standard error. */
static double median(const double *a, const double *b, int nr, double *error)
{
	double sorted[MAX_ROUNDS];

	for (int i = 0; i < nr; i++)
		sorted[i] = b ? a[i] / b[i] : a[i];
	qsort(sorted, nr, sizeof(*sorted), compare);
	/* For what is distributed normally. */
	if (error)
		*error = 0.93 * (sorted[nr * 3 / 4] - sorted[nr / 4]) / sqrt(nr);
	return sorted[nr / 2];
}

static void compare_ways(const char *insn, lines_fn lines, char *memory, unsigned long size,
			 bool dirty)
{
	static double times[WAYS][MAX_ROUNDS];
	uint64_t start = now(CLOCK_MONOTONIC);
	double bare, fenced, errors[2];
	int n = 0;

	do {
		/* Each round begins with another way, and every other goes backwards. */
		for (int i = 0; i < WAYS; i++) {
			enum way way = (n + (n & 1 ? i : WAYS - i)) % WAYS;

			times[way][n] = measure(lines, way, memory, size, dirty);
		}
		n++;
		bare = median(times[BARE], times[KERNEL], n, &errors[0]);
		fenced = median(times[FENCED], times[KERNEL], n, &errors[1]);
	} while (n < MIN_ROUNDS ||
		 (n < MAX_ROUNDS && now(CLOCK_MONOTONIC) - start < SECONDS * 1000000000ull &&
		  (errors[0] > ERROR || errors[1] / fenced > ERROR)));
	printf("memtype-lines: insn=%s lines=%s size=%lu", insn, dirty ? "dirty" : "clean", size);
	printf(" kernel=%.2f", size / median(times[KERNEL], NULL, n, NULL));
	printf(" bare=%.2f", size / median(times[BARE], NULL, n, NULL));
	printf(" fenced=%.2f", size / median(times[FENCED], NULL, n, NULL));
	printf(" over-bare=%.4f error=%.4f", bare, errors[0]);
	printf(" over-fenced=%.4f error=%.4f rounds=%d\n", fenced, errors[1], n);
	fflush(stdout);
}

int main(void)
{
	/* Called, as in the kernel; with the bits of CPUID that say whether the CPU has them. */
	static const struct {
		const char *name;
		lines_fn lines;
		unsigned int leaf, ebx, edx;
	} insns[] = {
		{ "CLFLUSH", dma_cache_lines_clflush, 1, 0, 1 << 19 },
		{ "CLFLUSHOPT", dma_cache_lines_clflushopt, 7, 1 << 23, 0 },
		{ "CLWB", dma_cache_lines_clwb, 7, 1 << 24, 0 },
	};
	static const unsigned long sizes[] = {
		PAGE, 16 * PAGE, MIB, 16 * MIB, MAX_SIZE,
	};
	unsigned int a, b = 0, c, d = 0, i, j;
	static double costs[MAX_ROUNDS];
	char *memory;

	__get_cpuid(1, &a, &b, &c, &d);
	line = (b >> 8 & 0xff) * 8;
	/* Large pages as in the kernel's linear map, or else the TLB would count. */
	memory = aligned_alloc(MAX_SIZE, MAX_SIZE);
	if (!memory || madvise(memory, MAX_SIZE, MADV_HUGEPAGE)) {
		perror("cannot have 1 GiB of huge pages");
		return 1;
	}
	memset(memory, 0, MAX_SIZE);

	for (i = 0; i < MAX_ROUNDS; i++) {
		uint64_t before = now(CLOCK_THREAD_CPUTIME_ID);

		costs[i] = now(CLOCK_THREAD_CPUTIME_ID) - before;
	}
	clock_cost = median(costs, NULL, MAX_ROUNDS, NULL);

	for (i = 0; i < ARRAY_SIZE(insns); i++) {
		if (!__get_cpuid_count(insns[i].leaf, 0, &a, &b, &c, &d) ||
		    (b & insns[i].ebx) != insns[i].ebx || (d & insns[i].edx) != insns[i].edx) {
			printf("memtype-lines: insn=%s unavailable\n", insns[i].name);
			continue;
		}
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			compare_ways(insns[i].name, insns[i].lines, memory, sizes[j], false);
			compare_ways(insns[i].name, insns[i].lines, memory, sizes[j], true);
		}
	}
	return 0;
}
