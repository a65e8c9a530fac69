/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Records what the kernel does to make memory reachable by DMA, and judges it by the model in
 * dma_cache_order.h.
 *
 * Tracepoints fire too late, or lack the domain, so most events are kprobes. Only TRACED_TASKS
 * are recorded: nobody else's domains, but also what a process does when it exits.
 *
 * Who includes this defines CHECK(condition, fmt, ...): what must work.
 */
#ifndef SELFTEST_DMA_CACHE_TRACE_H
#define SELFTEST_DMA_CACHE_TRACE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kselftest.h"
#include "dma_cache_counters.h"
#include "dma_cache_order.h"
#include "vfio_device.h"

#define TRACED		"dma_cache_order"
/* A thread that KVM gives each VMM may be the last one of it, and close everything. */
#define TRACED_TASKS	"comm == \"" TRACED "\" || comm ~ \"kvm-nx-*\""
#define TRACEFS		"/sys/kernel/tracing/"
#define INSTANCE	TRACEFS "instances/" TRACED "/"

static struct order order;
static uint64_t memmap, page_struct;	/* where the kernel's struct pages are, and their size */
static int trace_pipe = -1, trace_marker = -1, kernel_log = -1;

/* Of arguments of functions: ORDER_LIST struct pages, and indexes of an iopt_pages */
#define LIST(n)		" pages=+0($arg" #n "):x64[64]"
#define INDEXES(a, b)	" first=$arg" #a " last=$arg" #b
#define ENFORCED	" domain=$arg1 ret=$retval:u8"

static const char * const order_probes[] = {
	"p:" TRACED "/map iommu_map domain=$arg1 iova=$arg2 paddr=$arg3 size=$arg4 prot=$arg5",
	"r512:" TRACED "/map_failed iommu_map domain=$arg1 iova=$arg2 size=$arg4 ret=$retval:s32",
	/* Of iommu_unmap() and iommu_unmap_fast(), before either syncs the IOTLB */
	"r512:" TRACED "/unmap __iommu_unmap domain=$arg1 iova=$arg2 size=$retval",
	"r512:" TRACED "/lookup iommu_iova_to_phys domain=$arg1 iova=$arg2 ret=$retval",
	"p:" TRACED "/free iommu_domain_free domain=$arg1",
	"p:" TRACED "/unpin unpin_user_page_range_dirty_lock page=$arg1 n=$arg2",
	"p:" TRACED "/unpin unpin_user_page page=$arg1 n=\\1",
	"p:" TRACED "/unpin_list unpin_user_pages n=$arg2" LIST(1),
	"p:" TRACED "/unpin_list unpin_user_pages_dirty_lock n=$arg2" LIST(1),
};

/*
 * Of IOMMUFD and the drivers that this kernel has. Nothing is lost if one that is used has other
 * functions: then the model misses a sync, or a clean.
 */
static const char * const driver_probes[] = {
	/* With the iopt_pages locked */
	"r512:" TRACED "/access iopt_noncoherent_pin object=$arg1 ret=$retval:s32" INDEXES(3, 4)
	LIST(2),
	"p:" TRACED "/access_end iopt_noncoherent_unpin object=$arg1" INDEXES(2, 3),
	"r512:" TRACED "/sync mock_shadow_iotlb_sync domain=$arg1",
	"r512:" TRACED "/enforced mock_shadow_enforce" ENFORCED,
#ifdef __x86_64__
	"r512:" TRACED "/sync intel_iommu_tlb_sync domain=$arg1",
	"r512:" TRACED "/enforced intel_iommu_enforce_cache_coherency" ENFORCED,
	/* One for each kind of page table, in newer kernels */
	"r512:" TRACED "/enforced intel_iommu_enforce_cache_coherency_ss" ENFORCED,
	"r512:" TRACED "/enforced intel_iommu_enforce_cache_coherency_fs" ENFORCED,
	"r512:" TRACED "/sync amd_iommu_iotlb_sync domain=$arg1",
	"r512:" TRACED "/enforced amd_iommu_enforce_cache_coherency" ENFORCED,
#else
	"r512:" TRACED "/sync arm_smmu_iotlb_sync domain=$arg1",
#endif
};

/* Whether the kernel maintains caches for DMA at all. */
static inline bool is_active(void)
{
	return dma_cache_counters().active;
}

/* Adds a probe, or takes all of a group away. */
static inline bool change_probes(const char *text)
{
	int fd = open(TRACEFS "kprobe_events", O_WRONLY | O_APPEND);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Kretprobes that found no free slot, and whatever else the kernel did not record. */
static inline unsigned long missed_probes(void)
{
	unsigned long missed = 0, n;
	FILE *profile = fopen(TRACEFS "kprobe_profile", "r");

	CHECK(profile, TRACEFS "kprobe_profile");
	while (fscanf(profile, "%*s %*u %lu", &n) == 1)
		missed += n;
	fclose(profile);
	return missed;
}

static inline void trace_stop(void)
{
	close(trace_pipe);
	close(trace_marker);
	rmdir(INSTANCE);
	change_probes("-:" TRACED "/");
}

/* Records this task and its children, with @nr further probes of the group TRACED. */
static inline void trace_start(const char * const *probes, size_t nr)
{
	size_t i;

	CHECK(!prctl(PR_SET_NAME, TRACED), "prctl");
	trace_stop();		/* what a killed run may have left */
	for (i = 0; i < ARRAY_SIZE(order_probes); i++)
		CHECK(change_probes(order_probes[i]), "%s", order_probes[i]);
	for (i = 0; i < ARRAY_SIZE(driver_probes); i++)
		change_probes(driver_probes[i]);
	for (i = 0; i < nr; i++)
		CHECK(change_probes(probes[i]), "%s", probes[i]);
	CHECK(!mkdir(INSTANCE, 0700), INSTANCE);
	/* A counter that all CPUs share: its order is that of what happened. */
	CHECK(!write_file(INSTANCE "trace_clock", "counter"), "trace_clock");
	CHECK(!write_file(INSTANCE "buffer_size_kb", "8192"), "buffer_size_kb");
	CHECK(!write_file(INSTANCE "events/" TRACED "/filter", TRACED_TASKS), "filter");
	CHECK(!write_file(INSTANCE "events/dma_cache/filter", TRACED_TASKS), "filter");
	CHECK(!write_file(INSTANCE "events/" TRACED "/map_failed/filter",
			  "ret != 0 && (" TRACED_TASKS ")"), "filter");
	CHECK(!write_file(INSTANCE "events/" TRACED "/lookup/filter",
			  "ret == 0 && (" TRACED_TASKS ")"), "filter");
	if (!access(INSTANCE "events/" TRACED "/enforced", F_OK))
		CHECK(!write_file(INSTANCE "events/" TRACED "/enforced/filter",
				  "ret != 0 && (" TRACED_TASKS ")"), "filter");
	CHECK(!write_file(INSTANCE "events/" TRACED "/enable", "1"), "events");
	CHECK(!write_file(INSTANCE "events/dma_cache/enable", "1"), "events");
	trace_pipe = open(INSTANCE "trace_pipe", O_RDONLY | O_NONBLOCK);
	trace_marker = open(INSTANCE "trace_marker", O_WRONLY);
	CHECK(trace_pipe >= 0 && trace_marker >= 0, "trace_pipe, trace_marker");
	kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	CHECK(kernel_log >= 0 && lseek(kernel_log, 0, SEEK_END) >= 0, "/dev/kmsg");
}

/* The operation of a task is over. */
static inline void trace_end(pid_t pid)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "end=%d", pid);

	CHECK(write(trace_marker, text, n) == n, "trace_marker");
}

/* Hands all lines that there are to @take. No traced task may run meanwhile. */
static inline void trace_read(void (*take)(struct order *o, const char *line))
{
	static char buffer[65536];
	size_t have = 0;
	unsigned int cpu;
	ssize_t n;

	while ((n = read(trace_pipe, buffer + have, sizeof(buffer) - have - 1)) > 0) {
		char *line = buffer, *end;

		have += n;
		buffer[have] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			take(&order, line);
			line = end + 1;
		}
		have = buffer + have - line;
		memmove(buffer, line, have);
	}
	CHECK(n < 0 && errno == EAGAIN, "trace_pipe");
	for (cpu = 0; ; cpu++) {
		char path[128];

		snprintf(path, sizeof(path), INSTANCE "per_cpu/cpu%u/stats", cpu);
		if (access(path, F_OK))
			break;
		if (read_number(path, "overrun: ") || read_number(path, "commit overrun: ") ||
		    read_number(path, "dropped events: "))
			order_violation(&order, "overrun");
	}
	if (!cpu || missed_probes())
		order_violation(&order, "overrun");
}

static uint64_t seen_paddr, seen_page;

static inline void take_addresses(struct order *o, const char *line)
{
	if (strstr(line, " map: "))
		seen_paddr = order_field(o, line, "paddr");
	else if (strstr(line, " unpin: "))
		seen_page = order_field(o, line, "page");
}

/*
 * Finds out how the kernel numbers its struct pages: it says the address of one page when
 * @map_once maps that through IOMMUFD, and the address of its struct page when it is unmapped
 * again.
 */
static inline void learn_pages(void (*map_once)(void *page))
{
	const size_t room = 512 * ORDER_PAGE;
	uint8_t *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
	uint64_t pfn[2], page[2];
	int i;

	CHECK(memory != MAP_FAILED, "mmap");
	for (i = 0; i < 2; i++) {
		seen_paddr = 0;
		seen_page = 0;
		map_once(memory + i * (room - ORDER_PAGE));
		trace_read(take_addresses);
		CHECK(seen_paddr && seen_page, "no probe saw a page mapped and unpinned");
		pfn[i] = seen_paddr / ORDER_PAGE;
		page[i] = seen_page;
	}
	munmap(memory, room);
	CHECK(pfn[0] != pfn[1], "a page twice");
	page_struct = (int64_t)(page[1] - page[0]) / (int64_t)(pfn[1] - pfn[0]);
	memmap = page[0] - pfn[0] * page_struct;
	CHECK(page_struct && page[1] == memmap + pfn[1] * page_struct,
	      "struct pages at %#lx, %#lx of %#lx, %#lx", page[0], page[1], pfn[0], pfn[1]);
}

/* Whether the kernel warned since it was last asked */
static inline bool kernel_warned(void)
{
	char record[8192];
	bool warned = false;
	ssize_t n;

	/* EPIPE: some were overwritten. */
	while ((n = read(kernel_log, record, sizeof(record) - 1)) >= 0 || errno == EPIPE) {
		record[n < 0 ? 0 : n] = '\0';
		warned = warned || strstr(record, "WARNING:") || strstr(record, "BUG:");
	}
	return warned;
}

static inline void print_violation(const struct order *o)
{
	uint64_t i = o->events > ORDER_LAST ? o->events - ORDER_LAST : 0;

	ksft_print_msg("violation: %s, at the last of these lines\n", o->violation);
	for (; i < o->events; i++)
		ksft_print_msg("  %s\n", o->last[i % ORDER_LAST]);
}

/* Judges what was read, when everything is closed. */
static inline bool is_good(void)
{
	bool warned = kernel_warned();

	order_finish(&order);
	if (order.violation)
		print_violation(&order);
	if (warned)
		ksft_print_msg("the kernel warned, see its log\n");
	if (!order.shared)
		ksft_print_msg("%lu pages were cleaned, %lu flushed without need\n",
			       order.extra[0], order.extra[1]);
	return !order.violation && !warned &&
	       (order.shared || (!order.extra[0] && !order.extra[1]));
}

#endif /* SELFTEST_DMA_CACHE_TRACE_H */
