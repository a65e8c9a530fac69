// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the kernel maintain caches for non-coherent DMA in the right order?
 *
 * IOMMUFD and VFIO are given one task after the other, in domains of QEMU's edu device behind the
 * real IOMMU and of the mock device, and the trace of every step (dma_cache_trace.h) is judged by
 * the model in dma_cache_order.h. No domain here enforces coherency: neither VT-d without snoop
 * control nor the SMMUv3 can, and mock devices are made so.
 *
 * Each page has one holder at a time (an iopt_pages, a vfio_dma) unless a case says otherwise:
 * then one clean and one flush must be all that it gets.
 */
#define _GNU_SOURCE
#include <sched.h>

#include "dma_cache_devices.h"
#include "fault_injection.h"

static int faults;	/* of faults_open() */

/* Directed cases: each on the mock device, and on edu if there is one. */

/* A step of the case: it works, and is over when it returns. */
#define STEP(call)									\
	do {										\
		int step_ret = (call);							\
		errno = -step_ret;							\
		CHECK(step_ret >= 0, "%s", #call);					\
		trace_end(getpid());							\
	} while (0)

/* A step that must fail with @error */
#define FAIL(call, error)								\
	do {										\
		int step_ret = (call);							\
		errno = -step_ret;							\
		CHECK(step_ret == -(error), "%s, not %s", #call, #error);		\
		trace_end(getpid());							\
	} while (0)

static int replace(struct bench *b, uint32_t pt)
{
	return b->on_edu ? vfio_attach(edu.fd, pt) : mock_replace(b->fd, &b->mock, pt);
}

static int detach(struct bench *b)
{
	return b->on_edu ? vfio_detach(edu.fd) : iommufd_destroy(b->fd, b->mock.stdev);
}

static int map_memory(struct bench *b)
{
	return ioas_map(b->fd, b->ioas, b->memory, PAGES * SZ_4K, IOVA);
}

static int unmap_memory(struct bench *b)
{
	return ioas_unmap(b->fd, b->ioas, IOVA, PAGES * SZ_4K);
}

static int add_domain(struct bench *b)
{
	return hwpt_new(b->fd, b->device, b->ioas, &b->hwpt);
}

static int remove_domain(struct bench *b)
{
	return iommufd_destroy(b->fd, b->hwpt);
}

static int copy_memory(struct bench *b)
{
	return ioas_copy(b->fd, b->other, IOVA, b->ioas, IOVA, PAGES * SZ_4K);
}

static int unmap_copy(struct bench *b)
{
	return ioas_unmap(b->fd, b->other, IOVA, PAGES * SZ_4K);
}

static void case_map(struct bench *b)
{
	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	STEP(unmap_memory(b));
	/* Other pages at the same address */
	discard(ANONYMOUS, b->memory, PAGES * SZ_4K);
	STEP(map_memory(b));
	STEP(unmap_memory(b));
	STEP(detach(b));
}

static void case_attach(struct bench *b)
{
	STEP(map_memory(b));
	STEP(attach(b, b->ioas));
	STEP(detach(b));
	discard(ANONYMOUS, b->memory, PAGES * SZ_4K);
	STEP(attach(b, b->ioas));
	STEP(detach(b));
	STEP(unmap_memory(b));
}

static void case_domains(struct bench *b)
{
	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	STEP(add_domain(b));
	STEP(unmap_memory(b));
	STEP(map_memory(b));
	STEP(remove_domain(b));
	STEP(detach(b));
}

static void case_copy(struct bench *b)
{
	uint32_t hwpt;

	STEP(attach(b, b->ioas));
	STEP(hwpt_new(b->fd, b->device, b->other, &hwpt));
	STEP(map_memory(b));
	STEP(copy_memory(b));
	STEP(unmap_memory(b));
	STEP(unmap_copy(b));
}

/* Parts of the same pages, in an address space each */
static void case_slices(struct bench *b)
{
	STEP(map_memory(b));
	STEP(attach(b, b->other));
	STEP(ioas_copy(b->fd, b->other, IOVA, b->ioas, IOVA, SZ_4K));
	STEP(ioas_copy(b->fd, b->other, IOVA + 2 * SZ_4K, b->ioas, IOVA + 2 * SZ_4K, SZ_4K));
	STEP(add_domain(b));
	STEP(ioas_unmap(b->fd, b->other, IOVA, SZ_4K));
	STEP(remove_domain(b));
	STEP(detach(b));
}

static void case_replace(struct bench *b)
{
	STEP(map_memory(b));
	STEP(copy_memory(b));
	STEP(attach(b, b->ioas));
	STEP(replace(b, b->other));
	STEP(detach(b));
}

static void case_access(struct bench *b)
{
	uint32_t access, id;

	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	STEP(access_create(b->fd, b->ioas, &access));
	STEP(access_pin(b->fd, access, IOVA, PAGES * SZ_4K, &id));
	STEP(detach(b));
	STEP(attach(b, b->ioas));
	STEP(detach(b));
	STEP(access_unpin(b->fd, access, id));
	close(access);
}

/* Pinned pages in the middle of what is contiguous, and so is mapped and unmapped as a whole */
static void case_accesses(struct bench *b)
{
	void *memory = new_memory(HUGETLB, SZ_2M);
	uint32_t access, id[2];

	STEP(attach(b, b->ioas));
	STEP(ioas_map(b->fd, b->ioas, memory, SZ_2M, IOVA));
	STEP(access_create(b->fd, b->ioas, &access));
	STEP(access_pin(b->fd, access, IOVA + 10 * SZ_4K, 20 * SZ_4K, &id[0]));
	STEP(access_pin(b->fd, access, IOVA + 50 * SZ_4K, 20 * SZ_4K, &id[1]));
	STEP(detach(b));
	STEP(access_unpin(b->fd, access, id[0]));
	STEP(access_unpin(b->fd, access, id[1]));
	close(access);
	munmap(memory, SZ_2M);
}

static void case_hole(struct bench *b)
{
	void *hole = new_hole(PAGES * SZ_4K);

	STEP(attach(b, b->ioas));
	FAIL(ioas_map(b->fd, b->ioas, hole, PAGES * SZ_4K, IOVA), EFAULT);
	STEP(detach(b));
	STEP(ioas_map(b->fd, b->ioas, hole, PAGES * SZ_4K, IOVA));
	FAIL(attach(b, b->ioas), EFAULT);
	munmap(hole, PAGES * SZ_4K);
}

/* Runs the step with one allocation failing, for each that it has. */
static void fail_each(struct bench *b, int (*step)(struct bench *b), int (*undo)(struct bench *b))
{
	bool happened = true;
	unsigned int nth;
	int ret;

	for (nth = 1; happened; nth++) {
		faults_on(faults, nth);
		ret = step(b);
		happened = faults_off(faults);
		trace_end(getpid());
		if (!ret)
			STEP(undo(b));
		CHECK(!ret || happened, "failed by itself: %d", ret);
	}
	CHECK(nth > 3, "no allocation failed");
}

static void case_failures(struct bench *b)
{
	uint32_t hwpt;

	STEP(attach(b, b->other));
	/* The first domain of memory that is there, and the second */
	STEP(map_memory(b));
	fail_each(b, add_domain, remove_domain);
	STEP(add_domain(b));
	hwpt = b->hwpt;
	fail_each(b, add_domain, remove_domain);
	fail_each(b, copy_memory, unmap_copy);
	/* Memory in one domain, and in two */
	STEP(unmap_memory(b));
	fail_each(b, map_memory, unmap_memory);
	STEP(add_domain(b));
	fail_each(b, map_memory, unmap_memory);
	STEP(iommufd_destroy(b->fd, hwpt));
}

/* The same with a batch for each page, which comes when others are mapped already */
static void case_late_failures(struct bench *b)
{
	const size_t length = 2 * PAGES * SZ_4K;
	uint8_t *memory = b->memory;
	unsigned int i;

	b->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(b->memory != MAP_FAILED, "mmap");
	/* Touched in an order that leaves no page beside its neighbour in physical memory */
	for (i = 0; i < 2 * PAGES; i++)
		b->memory[i * 5 % (2 * PAGES) * SZ_4K] = 1;
	CHECK(!batch_limit(16), "batch_limit");
	case_failures(b);
	CHECK(!batch_limit(MOCK_BATCH), "batch_limit");
	munmap(b->memory, length);
	b->memory = memory;
}

static void case_bad_iova(struct bench *b)
{
	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	FAIL(map_memory(b), EEXIST);
	FAIL(ioas_map(b->fd, b->ioas, b->memory, SZ_4K, IOVA + SZ_2M + 1), EINVAL);
	FAIL(ioas_copy(b->fd, b->other, IOVA, b->ioas, IOVA + SZ_2M, SZ_4K), ENOENT);
	FAIL(ioas_unmap(b->fd, b->ioas, IOVA, SZ_4K), ENOENT);
	STEP(unmap_memory(b));
}

static void map_kind(struct bench *b, enum memory kind)
{
	void *memory = new_memory(kind, SZ_2M);

	STEP(attach(b, b->ioas));
	STEP(ioas_map(b->fd, b->ioas, memory, SZ_2M, IOVA));
	STEP(ioas_unmap(b->fd, b->ioas, IOVA, SZ_2M));
	munmap(memory, SZ_2M);
}

static void case_memfd(struct bench *b)
{
	map_kind(b, MEMFD);
}

static void case_thp(struct bench *b)
{
	map_kind(b, THP);
}

static void case_hugetlb(struct bench *b)
{
	map_kind(b, HUGETLB);
}

/* What VFIO's own interface does in IOMMUFD: part of a mapping is unmapped. */
static void case_split(struct bench *b)
{
	struct vfio_iommu_type1_dma_unmap part = {
		.argsz = sizeof(part), .iova = IOVA + SZ_4K, .size = SZ_4K,
	};
	struct iommu_vfio_ioas set = {
		.size = sizeof(set), .ioas_id = b->ioas, .op = IOMMU_VFIO_IOAS_SET,
	};
	struct iommu_option small = {
		.size = sizeof(small), .option_id = IOMMU_OPTION_HUGE_PAGES,
		.op = IOMMU_OPTION_OP_SET, .object_id = b->ioas, .val64 = 0,
	};

	STEP(call(b->fd, IOMMU_VFIO_IOAS, &set));
	STEP(call(b->fd, IOMMU_OPTION, &small));
	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	STEP(call(b->fd, VFIO_IOMMU_UNMAP_DMA, &part));
	STEP(detach(b));
}

/* Two mappings that know nothing of each other pin the same pages. */
static void case_twice(struct bench *b)
{
	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	STEP(ioas_map(b->fd, b->ioas, b->memory, PAGES * SZ_4K, IOVA + SZ_2M));
	STEP(unmap_memory(b));
	STEP(ioas_unmap(b->fd, b->ioas, IOVA + SZ_2M, PAGES * SZ_4K));
}

static void case_exit(struct bench *b)
{
	run_child(map_and_exit, b);
}

static void case_dma(struct bench *b)
{
	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	CHECK(copy_by_edu(IOVA, b->memory, 0, PAGES * SZ_4K / 2), "DMA of edu");
	STEP(unmap_memory(b));
}

/* How many ranges of addresses can be mapped: what is reserved for devices divides them. */
static uint32_t count_ranges(struct bench *b)
{
	struct iommu_ioas_iova_ranges cmd = { .size = sizeof(cmd), .ioas_id = b->ioas };
	int ret = call(b->fd, IOMMU_IOAS_IOVA_RANGES, &cmd);

	CHECK(!ret || ret == -EMSGSIZE, "IOMMU_IOAS_IOVA_RANGES");
	return cmd.num_iovas;
}

#define FOREIGN	"domain of another driver"

static void refuse(struct bench *b, uint32_t hwpt)
{
	int ret = replace(b, hwpt);

	trace_end(getpid());
	if (ret == -EINVAL)
		return;
	/* Now, because the IOMMU's driver may not survive what comes next */
	ksft_test_result_fail("edu: %s\n", FOREIGN);
	ksft_exit_fail_msg("replace: %s\n", strerror(-ret));
}

/* A domain of the mock IOMMU's is none for edu: asked for, or found in an address space. */
static void case_foreign(struct bench *b)
{
	struct mock_device mock = {};
	uint32_t ranges, hwpt;

	STEP(map_memory(b));
	STEP(copy_memory(b));
	STEP(attach(b, b->ioas));
	ranges = count_ranges(b);
	STEP(mock_attach(b->fd, b->other, 0, &mock));
	refuse(b, mock.hwpt);
	STEP(hwpt_new(b->fd, mock.idev, b->ioas, &hwpt));
	refuse(b, hwpt);
	/* With it goes what this domain itself has no room for. */
	STEP(iommufd_destroy(b->fd, hwpt));
	if (ranges < 2 || count_ranges(b) != ranges)
		order_violation(&order, "reserved-addresses");
	CHECK(copy_by_edu(IOVA, b->memory, 0, PAGES * SZ_4K / 2), "DMA of edu");
	STEP(replace(b, b->other));
	CHECK(copy_by_edu(IOVA, b->memory, 0, PAGES * SZ_4K / 2), "DMA of edu");
	STEP(iommufd_destroy(b->fd, mock.stdev));
	STEP(detach(b));
}

/* The same by VFIO's own IOMMU driver: a container with the group of edu */
static void open_type1(int *container, int *group)
{
	*container = open("/dev/vfio/vfio", O_RDWR);
	*group = open(edu.group, O_RDWR);
	CHECK(*container >= 0 && *group >= 0, "%s", edu.group);
	CHECK(!ioctl(*group, VFIO_GROUP_SET_CONTAINER, container), "VFIO_GROUP_SET_CONTAINER");
}

static int map_type1(int container, void *memory)
{
	struct vfio_iommu_type1_dma_map cmd = {
		.argsz = sizeof(cmd), .vaddr = (uintptr_t)memory, .iova = IOVA, .size = SZ_4K,
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
	};

	return call(container, VFIO_IOMMU_MAP_DMA, &cmd);
}

static void case_type1(struct bench *b)
{
	struct vfio_iommu_type1_dma_unmap cmd = {
		.argsz = sizeof(cmd), .iova = IOVA, .size = SZ_4K,
	};
	int container, group;

	open_type1(&container, &group);
	STEP(call(container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU));
	STEP(map_type1(container, b->memory));
	STEP(call(container, VFIO_IOMMU_UNMAP_DMA, &cmd));
	close(group);
	STEP(close(container));
}

static void map_type1_and_exit(struct bench *b)
{
	void *memory = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int container, group;

	open_type1(&container, &group);
	if (memory == MAP_FAILED || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) ||
	    map_type1(container, memory))
		_exit(1);
}

static void case_type1_exit(struct bench *b)
{
	run_child(map_type1_and_exit, b);
}

/*
 * The story of each: what must happen in this order, repetitions left out. Numbers are those of
 * domains, "end" is the end of steps.
 */
#define CLEAN	" clean done"
#define FLUSH	" flush done"
#define UNMAP(domain)	" unmap" #domain " sync" #domain
#if PROBE
#define PROBED	CLEAN " map1" UNMAP(1) FLUSH
#else
#define PROBED
#endif
#define SIMPLE	" end" CLEAN " map1 end" UNMAP(1) FLUSH " unpin end free1 end"

static const struct directed {
	const char *name;
	void (*run)(struct bench *b);
	enum { ANY, EDU_ONLY, EDU_AND_MOCK } where;
	enum { NONE, SHARED, PROBES, FAULTS } special;
	const char *story;		/* NULL: whatever obeys the rules */
} directed[] = {
	{ "map, unmap", case_map, ANY, NONE,
	  " end" CLEAN " map1 end" UNMAP(1) FLUSH " unpin end"
	  CLEAN " map1 end" UNMAP(1) FLUSH " unpin end free1 end" },
	{ "attach, detach", case_attach, ANY, NONE,
	  " end" CLEAN " map1 end" UNMAP(1) FLUSH " unpin free1 end"
	  CLEAN " map2 end" UNMAP(2) FLUSH " unpin free2 end" },
	{ "two domains", case_domains, ANY, NONE,
	  " end" CLEAN " map1 end map2 end" UNMAP(2) UNMAP(1) FLUSH " unpin end"
	  CLEAN " map1 map2 end" UNMAP(2) " free2 end" UNMAP(1) FLUSH " unpin free1 end" },
	{ "copy", case_copy, ANY, NONE,
	  " end" CLEAN " map1 end map2 end" UNMAP(1) " end" UNMAP(2) FLUSH
	  " unpin end free1 free2 end" },
	{ "disjoint slices", case_slices, ANY, NONE,
	  " end" CLEAN " map1 end" CLEAN " map1 end" CLEAN " map2 end" UNMAP(1) " end" UNMAP(2)
	  FLUSH " unpin" UNMAP(2) FLUSH " unpin free2 end" UNMAP(1) FLUSH
	  " unpin free1 end| end" CLEAN " map1 end" CLEAN " map1 end" CLEAN
	  " map2 end" UNMAP(1) " end" UNMAP(2) FLUSH " unpin" FLUSH " unpin free2 end" UNMAP(1)
	  FLUSH " unpin free1 end" },
	{ "replace", case_replace, ANY, NONE,
	  " end" CLEAN " map1 end map2" UNMAP(1) " free1 end" UNMAP(2) FLUSH " unpin free2 end" },
	{ "access", case_access, ANY, NONE,
	  " end" CLEAN " map1 end access end" UNMAP(1) FLUSH " free1 end"
	  CLEAN " map2 end" UNMAP(2) FLUSH " free2 end release" FLUSH " unpin end" },
	{ "two accesses", case_accesses, ANY, NONE,
	  " end" CLEAN " map1 end access end access end" UNMAP(1) FLUSH " unpin" FLUSH " unpin"
	  FLUSH " unpin" FLUSH " free1 end release" FLUSH " unpin end release" FLUSH
	  " unpin end" },
	{ "memory with a hole", case_hole, ANY, NONE, " end unpin end unpin end" },
	{ "failing allocations", case_failures, ANY, FAULTS, NULL },
	{ "failing allocations, small batches", case_late_failures, ANY, FAULTS, NULL },
	{ "bad address", case_bad_iova, ANY, NONE, SIMPLE },
	{ "memfd", case_memfd, ANY, NONE, SIMPLE },
	{ "THP", case_thp, ANY, NONE, SIMPLE },
	{ "hugetlb", case_hugetlb, ANY, NONE, SIMPLE },
	{ "split", case_split, ANY, NONE,
	  " end" CLEAN " map1 end" UNMAP(1) FLUSH " unpin end" UNMAP(1)
	  FLUSH " unpin" UNMAP(1) FLUSH " unpin free1 end" },
	/* Over-flushes, and does not mind. */
	{ "two holders", case_twice, ANY, SHARED,
	  " end" CLEAN " map1 end" CLEAN " map1 end" UNMAP(1) FLUSH " unpin end" UNMAP(1)
	  FLUSH " unpin end free1 end" },
	{ "exit", case_exit, ANY, NONE, CLEAN " map1" UNMAP(1) FLUSH " unpin free1 end" },
	{ "DMA", case_dma, EDU_ONLY, NONE, SIMPLE },
	{ FOREIGN, case_foreign, EDU_AND_MOCK, NONE,
	  " end" CLEAN " map1 end map2 end map3 end" UNMAP(3) " free3 end map4" UNMAP(1)
	  " free1 end" UNMAP(2) " free2 end" UNMAP(4) FLUSH " unpin free4 end" },
	{ "type1", case_type1, EDU_ONLY, PROBES,
	  PROBED " end" CLEAN " map1 end" UNMAP(1) FLUSH " unpin end free1 end" },
	{ "type1, exit", case_type1_exit, EDU_ONLY, PROBES,
	  PROBED CLEAN " map1" UNMAP(1) FLUSH " unpin free1 end" },
};

/* Whether it is one of them, with "|" between: what is unmapped at once depends on the pages. */
static bool is_told(const char *stories)
{
	size_t length = strcspn(stories, "|");

	while (strlen(order.story) != length || strncmp(order.story, stories, length)) {
		if (!stories[length])
			return false;
		stories += length + 1;
		length = strcspn(stories, "|");
	}
	return true;
}

static void run_directed(const struct directed *test, bool on_edu)
{
	struct bench b = { .on_edu = on_edu, .memory = new_memory(ANONYMOUS, PAGES * SZ_4K) };
	bool good;

	if (test->special == FAULTS && faults < 0) {
		ksft_test_result_skip("%s: %s: no fault injection in this kernel\n",
				      on_edu ? "edu" : "mock", test->name);
		return;
	}
	order_init(&order, memmap, page_struct);
	order.shared = test->special == SHARED;
	order.unpinned = test->special == PROBES;
	open_bench(&b);
	test->run(&b);
	close_bench(&b);
	trace_end(getpid());
	munmap(b.memory, PAGES * SZ_4K);
	trace_read(order_line);
	good = !test->story || is_told(test->story);
	if (!good)
		ksft_print_msg("story:   %s\n# expected:%s\n", order.story, test->story);
	good = is_good() && good;
	ksft_test_result(good, "%s: %s\n", on_edu ? "edu" : "mock", test->name);
	order_free(&order);
}

static bool can_run(const struct directed *test, bool on_edu)
{
	if (on_edu)
		return edu.name[0] && (have_mock || test->where != EDU_AND_MOCK);
	return have_mock && test->where == ANY;
}

/* What the kernel could not record makes a run fail: here it has room for next to nothing. */
static void run_overrun(void)
{
	struct bench b = { .on_edu = !have_mock, .memory = new_memory(ANONYMOUS, PAGES * SZ_4K) };
	unsigned int i;
	cpu_set_t cpu;

	/* Each CPU has its buffer. What another one still has of a step would be all of it. */
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	CHECK(!sched_setaffinity(0, sizeof(cpu), &cpu), "sched_setaffinity");
	order_init(&order, memmap, page_struct);
	CHECK(!write_file(INSTANCE "buffer_size_kb", "4"), "buffer_size_kb");
	open_bench(&b);
	STEP(attach(&b, b.ioas));
	for (i = 0; i < 200; i++) {
		STEP(map_memory(&b));
		STEP(unmap_memory(&b));
	}
	close_bench(&b);
	trace_read(order_line);
	munmap(b.memory, PAGES * SZ_4K);
	ksft_test_result(order.violation && !strcmp(order.violation, "overrun"),
			 "rejects an overrun of the buffer\n");
	order_free(&order);
}

int main(void)
{
	unsigned int i, tests = 1;

	ksft_print_header();
	prepare();
	faults = faults_open();
	for (i = 0; i < ARRAY_SIZE(directed); i++)
		tests += can_run(&directed[i], false) + can_run(&directed[i], true);
	ksft_set_plan(tests);
	for (i = 0; i < ARRAY_SIZE(directed); i++) {
		if (can_run(&directed[i], false))
			run_directed(&directed[i], false);
		if (can_run(&directed[i], true))
			run_directed(&directed[i], true);
	}
	run_overrun();
	ksft_finished();
}
