// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does vhost-vdpa maintain caches for non-coherent DMA, in the right order?
 *
 * A virtio device of QEMU's is given memory by vhost-vdpa, in a domain of the real IOMMU. The trace
 * of every step (dma_cache_trace.h) is judged by the model in dma_cache_order.h, which knows from
 * the trace, too, whether the IOMMU's driver makes the domain coherent: then nothing is maintained.
 */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "dma_cache_devices.h"
#include "fault_injection.h"
#include "vdpa_device.h"

/* More than vhost-vdpa pins at a time, by fewer than a line of the trace has room for */
#define MANY	520

#define MIN_ORDER	DEBUGFS "fail_page_alloc/min-order"
#define ROW	"vdpa: caches are maintained"

static int faults;	/* of faults_open() */
static int vdpa = -1;

/* It ends as it must, and is over then. */
static void step(int ret, int wanted)
{
	errno = -ret;
	CHECK(ret == wanted, "%d, not %d", ret, wanted);
	trace_end(getpid());
}

static void open_vdpa(void)
{
	vdpa = vdpa_open();
	errno = -vdpa;
	CHECK(vdpa >= 0, VHOST_VDPA);
}

static void map_unmap(enum memory kind, size_t length)
{
	void *memory = new_memory(kind, length);

	step(vdpa_map(vdpa, memory, length, IOVA, VHOST_ACCESS_RW), 0);
	step(vdpa_unmap(vdpa, length, IOVA), 0);
	/* At other addresses, and until the device is closed */
	step(vdpa_map(vdpa, memory, length, IOVA + SZ_2M, VHOST_ACCESS_RW), 0);
	munmap(memory, length);
}

static void case_contiguous(void)
{
	map_unmap(HUGETLB, SZ_2M);
}

static void case_scattered(void)
{
	map_unmap(ANONYMOUS, MANY * SZ_4K);
}

static void case_memfd(void)
{
	map_unmap(MEMFD, PAGES * SZ_4K);
}

/* What is before the hole is mapped when that is found. vhost makes EFAULT of all errors. */
static void case_hole(void)
{
	uint8_t *memory = new_memory(ANONYMOUS, MANY * SZ_4K);

	CHECK(!mprotect(memory + (MANY - 1) * SZ_4K, SZ_4K, PROT_NONE), "mprotect");
	step(vdpa_map(vdpa, memory, MANY * SZ_4K, IOVA, VHOST_ACCESS_RW), -EFAULT);
	munmap(memory, MANY * SZ_4K);
}

/* Nothing is pinned if more than the process may pin would be. */
static void case_limit(void)
{
	struct rlimit limit, low = {};

	CHECK(!getrlimit(RLIMIT_MEMLOCK, &limit), "RLIMIT_MEMLOCK");
	low.rlim_max = limit.rlim_max;
	CHECK(!setrlimit(RLIMIT_MEMLOCK, &low), "RLIMIT_MEMLOCK");
	step(vdpa_map(vdpa, new_memory(ANONYMOUS, SZ_4K), SZ_4K, IOVA, VHOST_ACCESS_RW),
	     -EFAULT);
	CHECK(!setrlimit(RLIMIT_MEMLOCK, &limit), "RLIMIT_MEMLOCK");
}

/* A map with each of its allocations failing once */
static void fail_each(void *memory, size_t length, uint64_t iova)
{
	bool happened = true;
	unsigned int nth;
	int ret;

	for (nth = 1; happened; nth++) {
		faults_on(faults, nth);
		ret = vdpa_map(vdpa, memory, length, iova, VHOST_ACCESS_RW);
		happened = faults_off(faults);
		trace_end(getpid());
		if (!ret)
			step(vdpa_unmap(vdpa, length, iova), 0);
		CHECK(!ret || happened, "failed by itself: %d", ret);
	}
	CHECK(nth > 3, "no allocation failed");
	munmap(memory, length);
}

static void case_failures(void)
{
	const size_t length = 2 * PAGES * SZ_4K;
	uint8_t *memory = new_memory(ANONYMOUS, length);
	unsigned int i;

	/* Touched in an order that leaves no page beside its neighbour in physical memory */
	CHECK(!madvise(memory, length, MADV_DONTNEED), "MADV_DONTNEED");
	for (i = 0; i < 2 * PAGES; i++)
		memory[i * 5 % (2 * PAGES) * SZ_4K] = 1;
	/* Single pages as well */
	CHECK(!write_file(MIN_ORDER, "0"), MIN_ORDER);
	fail_each(memory, length, IOVA);
	/* Two page tables: when there is no page for the second one, half is mapped. */
	fail_each(new_memory(HUGETLB, SZ_2M), SZ_2M, IOVA + SZ_2M / 2);
	CHECK(!write_file(MIN_ORDER, "1"), MIN_ORDER);
}

static void map_vdpa_and_exit(struct bench *b)
{
	void *memory = mmap(NULL, PAGES * SZ_4K, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = vdpa_open();

	if (b || memory == MAP_FAILED || fd < 0 ||
	    vdpa_map(fd, memory, PAGES * SZ_4K, IOVA, VHOST_ACCESS_RW))
		_exit(1);
}

static void case_exit(void)
{
	close(vdpa);
	vdpa = -1;
	run_child(map_vdpa_and_exit, NULL);
}

/* What the device may only read, or only write */
static void map_one_way(uint8_t perm)
{
	void *memory = new_memory(HUGETLB, SZ_2M);

	step(vdpa_map(vdpa, memory, SZ_2M, IOVA, perm), 0);
	step(vdpa_unmap(vdpa, SZ_2M, IOVA), 0);
	munmap(memory, SZ_2M);
}

static void case_read_only(void)
{
	map_one_way(VHOST_ACCESS_RO);
}

static void case_write_only(void)
{
	map_one_way(VHOST_ACCESS_WO);
}

/* By an administrator, who cannot do so while the device is open. */
static void case_declared(void)
{
	CHECK(vdpa_declare("declared") == -EBUSY, "the group is not in use");
	close(vdpa);
	CHECK(!vdpa_declare("declared"), "dma_coherency");
	order.coherent = true;
	open_vdpa();
	case_contiguous();
	close(vdpa);
	vdpa = -1;
	CHECK(!vdpa_declare("iommu"), "dma_coherency");
}

#define UNMAINTAINED	" map1 end unmap1 sync1 unpin"
#define MAINTAINED	" clean done map1 end unmap1 sync1 flush done unpin"

static const struct {
	const char *name;
	void (*run)(void);
	bool needs_faults;
	/* What must happen in this order: with a coherent domain, and with another one */
	const char *story[2];
} cases[] = {
	{ .name = "contiguous memory", .run = case_contiguous,
	  .story = { UNMAINTAINED " end" UNMAINTAINED " free1 end",
		     MAINTAINED " end" MAINTAINED " free1 end" } },
	{ .name = "scattered memory", .run = case_scattered },
	{ .name = "memfd", .run = case_memfd },
	{ .name = "memory with a hole", .run = case_hole },
	{ .name = "more than may be pinned", .run = case_limit },
	{ .name = "failing allocations", .run = case_failures, .needs_faults = true },
	{ .name = "read-only memory", .run = case_read_only,
	  .story = { UNMAINTAINED " end free1 end",
		     " clean done" UNMAINTAINED " end free1 end" } },
	{ .name = "write-only memory", .run = case_write_only,
	  .story = { UNMAINTAINED " end free1 end", MAINTAINED " end free1 end" } },
	{ .name = "declared coherent", .run = case_declared,
	  .story = { UNMAINTAINED " end" UNMAINTAINED " free1 end" } },
	{ .name = "exit", .run = case_exit },
};

/* Whether caches were maintained */
static bool run_case(unsigned int i)
{
	bool maintained, told = true;

	if (cases[i].needs_faults && faults < 0) {
		ksft_test_result_skip("%s: no fault injection in this kernel\n", cases[i].name);
		return false;
	}
	order_init(&order, memmap, page_struct);
	open_vdpa();
	cases[i].run();
	if (vdpa >= 0)
		close(vdpa);
	trace_end(getpid());
	trace_read(order_line);
	maintained = order.maintained[0] || order.maintained[1];
	if (cases[i].story[maintained])
		told = !strcmp(order.story, cases[i].story[maintained]);
	if (!told)
		ksft_print_msg("story:   %s\n# expected:%s\n", order.story,
			       cases[i].story[maintained]);
	ksft_test_result(is_good() && told, "%s\n", cases[i].name);
	order_free(&order);
	return maintained;
}

static bool locked;	/* the task has the mmap_lock; from write to read, it gets it twice */

static void take_locks(struct order *o, const char *line)
{
	if (strstr(line, "success=true"))
		locked = true;
	else if (strstr(line, " mmap_lock_released: "))
		locked = false;
	else if (strstr(line, " mmap_lock_acquire_returned: "))
		return;
	else if (locked && strstr(line, " dma_cache_pages: "))
		order_violation(o, "mmap-lock-held");
	else
		order_line(o, line);
}

/* Whether page faults of others have to wait for maintenance */
static void run_locks(void)
{
	const char * const files[] = {
		INSTANCE "events/mmap_lock/mmap_lock_acquire_returned/",
		INSTANCE "events/mmap_lock/mmap_lock_released/",
	};
	char path[128];
	unsigned int i;

	order_init(&order, memmap, page_struct);
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%sfilter", files[i]);
		CHECK(!write_file(path, TRACED_TASKS), "%s", path);
		snprintf(path, sizeof(path), "%senable", files[i]);
		CHECK(!write_file(path, "1"), "%s", path);
	}
	open_vdpa();
	case_contiguous();
	close(vdpa);
	CHECK(!write_file(INSTANCE "events/mmap_lock/enable", "0"), "mmap_lock");
	trace_end(getpid());
	trace_read(take_locks);
	ksft_test_result(is_good() && !locked, "mmap_lock\n");
	order_free(&order);
}

int main(void)
{
	bool maintained = false;
	unsigned int i;
	int ret;

	ksft_print_header();
	prepare();
	ret = vdpa_bind();
	errno = -ret;
	CHECK(!ret, VHOST_VDPA);
	faults = faults_open();
	ksft_set_plan(ARRAY_SIZE(cases) + 1);
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		maintained |= run_case(i);
	run_locks();
	ksft_print_msg("memtype-cell: row=" ROW " effective=%s forced=no\n",
		       maintained ? "yes" : "no");
	ksft_finished();
}
