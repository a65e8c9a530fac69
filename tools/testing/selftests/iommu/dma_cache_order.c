// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the kernel maintain caches for non-coherent DMA in the right order?
 *
 * IOMMUFD and VFIO are given directed and random work, in domains of QEMU's edu device behind
 * the real IOMMU and of the mock device, and the trace of every step (dma_cache_trace.h) is
 * judged by the model in dma_cache_order.h. No domain here enforces coherency: neither VT-d
 * without snoop control nor the SMMUv3 can, and mock devices are made so.
 *
 * Each page has one holder at a time (an iopt_pages, a vfio_dma) unless a case says otherwise:
 * then one clean and one flush must be all that it gets.
 *
 * Usage: dma_cache_order [SEED]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../../drivers/iommu/iommufd/iommufd_test.h"
#include "../kselftest.h"

#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define SZ_4K		4096UL
#define SZ_2M		(2UL << 20)

/* Where the mock device and the 28 address bits of edu overlap, below arm64's MSI window */
#define IOVA		(2 * SZ_2M + (1UL << 24))

#define OPERATIONS	5000	/* for each number of threads */
#define BATCH		250	/* between two looks at the trace */
#define THREADS		4
#define SLOTS		8	/* buffers of a thread */
#define TRANSFERS	8	/* real DMA, for each number of threads: 100 ms each */

/* What must work, or there is nothing to test. */
#define CHECK(condition, fmt, ...)							\
	do {										\
		if (!(condition))							\
			ksft_exit_fail_msg("line %d: " fmt ": %s\n", __LINE__,		\
					   ##__VA_ARGS__, strerror(errno));		\
	} while (0)

#include "dma_cache_trace.h"

static bool have_mock, have_failures;

/*
 * The model itself: it must accept what was recorded of a good kernel, and reject the same
 * when lines are missing or come in another order.
 */

/* Recorded on x86-amd: 2 MiB in IOMMUFD, and 4 KiB in type1, of edu behind VT-d. */
#define RECORDED_MEMMAP	0xffff88807cc00000
#define RECORDED_STRUCT	64
#define TASK		" dma_cache_order-38      [001] .....  "
#define IN_IOMMUFD	" domain=0xffff888000b3eca0"
#define IN_TYPE1	" domain=0xffff888000b7dca0"
#define AT		" iova=0x1400000"
#define RANGE		" page=0xffff88807cc08000 n=0x200"
#define LIST		" pages={0xffff88807eb2b4c0,0xffff888004a85e00}"
#define COUNTS		" chunks=1 skipped=0 failed=0 error=0"

static const struct {
	char name;
	const char *line;
} recorded_lines[] = {
	{ 'c', TASK "3003: dma_cache_pages: op=clean pfn=0x200 npages=512 result=done" },
	{ 'C', TASK "3004: dma_cache_done: op=clean pages=512 lines=32768" COUNTS },
	{ 'm', TASK "3005: map: (iommu_map+0x0/0x80)"
	  IN_IOMMUFD AT " paddr=0x200000 size=0x200000" },
	{ 'e', TASK "3006: tracing_mark_write: end=38" },
	{ 's', TASK "3007: sync: (iommu_unmap+0x5b/0x70 <- intel_iommu_tlb_sync)" IN_IOMMUFD },
	{ 'u', TASK "3008: unmap: (iopt_area_unmap_domain_range+0x6e/0xa0 <- iommu_unmap)"
	  IN_IOMMUFD AT " size=0x200000" },
	{ 'f', TASK "3009: dma_cache_pages: op=flush pfn=0x200 npages=512 result=done" },
	{ 'F', TASK "3010: dma_cache_done: op=flush pages=512 lines=32768" COUNTS },
	{ 'p', TASK "3011: unpin: (unpin_user_page_range_dirty_lock+0x0/0x240)"
	  RANGE },
	{ 'r', TASK "3014: free: (iommu_domain_free+0x0/0x40)" IN_IOMMUFD },
	/* type1 */
	{ 'd', TASK "3322: dma_cache_pages: op=clean pfn=0x7cad3 npages=1 result=done" },
	{ 'D', TASK "3323: dma_cache_done: op=clean pages=1 lines=64" COUNTS },
	{ 'n', TASK "3324: map: (iommu_map+0x0/0x80)"
	  IN_TYPE1 AT " paddr=0x7cad3000 size=0x1000" },
	{ 'v', TASK "3326: unmap_fast: (vfio_unmap_unpin+0x1b8/0x3c0 <- iommu_unmap_fast)"
	  IN_TYPE1 AT " size=0x1000" },
	{ 't', TASK "3327: sync: (vfio_sync_unpin.isra.0+0x2d/0x140 <- intel_iommu_tlb_sync)"
	  IN_TYPE1 },
	{ 'g', TASK "3328: dma_cache_pages: op=flush pfn=0x7cad3 npages=1 result=done" },
	{ 'G', TASK "3329: dma_cache_done: op=flush pages=1 lines=64" COUNTS },
	{ 'q', TASK "3330: unpin_list: (unpin_user_pages_dirty_lock+0x0/0xe0) n=0x1"
	  LIST },
	{ 'z', TASK "3332: free: (iommu_domain_free+0x0/0x40)" IN_TYPE1 },
	/* None of it */
	{ 'L', "CPU:1 [LOST 5 EVENTS]" },
	{ 'X', TASK "  3333: something: new" },
};

static const struct recorded {
	const char *violation;		/* NULL: none */
	const char *lines;
	bool coherent;			/* if that is what the domains were */
} recorded[] = {
	{ NULL,				"cCmesufFpere", false },
	{ NULL,				"dDnevtgGqeze", false },
	{ "clean-missing",		"mesufFpere", false },
	{ "clean-missing",		"cCemesufFpere", false },	/* but in another step */
	{ "clean-not-complete",		"cmCesufFpere", false },
	{ "flush-missing",		"cCmesuere", false },
	{ "flush-missing",		"cCmesucCme", false },
	{ "flush-before-unmap",		"cCmefFsupere", false },
	{ "flush-before-sync",		"dDnevgGtqeze", false },
	{ "unpin-before-flush",		"cCmesupfFere", false },
	{ "unpin-before-flush",		"cCmesufpFere", false },	/* it is not complete */
	{ "unpin-before-flush",		"dDnevqtgGeze", false },
	{ "unpin-while-mapped",		"cCmepsufFere", false },
	{ "free-with-live-mappings",	"cCmeresufFpe", false },
	{ "never-unmapped",		"cCme", false },
	{ "never-unpinned",		"cCmesufFere", false },
	{ "inconsistent",		"cCmem", false },
	{ "overrun",			"cCmeLsufFpere", false },
	{ "unreadable",			"cCmeXsufFpere", false },
	{ NULL,				"mesupere", true },
	{ "needless",			"cCmesupere", true },
	{ "unpin-before-flush",		"nevqtze", true },
	{ "unpin-while-mapped",		"mepsuere", true },
	{ "never-unpinned",		"mesuere", true },
};

static void run_recorded(const struct recorded *r)
{
	const char *name;
	unsigned int i;

	order_init(&order, RECORDED_MEMMAP, RECORDED_STRUCT);
	order.coherent = r->coherent;
	for (name = r->lines; *name; name++) {
		for (i = 0; recorded_lines[i].name != *name; i++)
			;
		order_line(&order, recorded_lines[i].line);
	}
	order_finish(&order);
	if (r->violation)
		ksft_test_result(order.violation && !strcmp(order.violation, r->violation),
				 "rejects %s%s: %s\n", r->lines,
				 r->coherent ? " of coherent domains" : "", r->violation);
	else
		ksft_test_result(!order.violation, "accepts %s%s\n", r->lines,
				 r->coherent ? " of coherent domains" : "");
	order_free(&order);
}

/* Mock devices of IOMMUFD */

/* Attached to an IOAS or HWPT until it is destroyed */
struct mock {
	uint32_t id, device;
};

static int new_mock(int fd, uint32_t pt, struct mock *mock)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_MOCK_DOMAIN, .id = pt,
	};
	int ret = call(fd, IOMMU_TEST_CMD, &cmd);

	mock->id = cmd.mock_domain.out_stdev_id;
	mock->device = cmd.mock_domain.out_idev_id;
	return ret;
}

static int replace_mock(int fd, const struct mock *mock, uint32_t pt)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, .id = mock->id,
		.mock_domain_replace.pt_id = pt,
	};

	return call(fd, IOMMU_TEST_CMD, &cmd);
}

/* What an mdev driver does: pins pages of an IOAS, by a file of its own */
static int new_access(int fd, uint32_t ioas)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_CREATE_ACCESS, .id = ioas,
		.create_access.flags = MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES,
	};

	return ioctl(fd, IOMMU_TEST_CMD, &cmd) ? -errno : (int)cmd.create_access.out_access_fd;
}

static int pin(int fd, int access, uint64_t iova, uint64_t length, uint32_t *id)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_ACCESS_PAGES, .id = access,
		.access_pages = {
			.iova = iova, .length = length, .flags = MOCK_FLAGS_ACCESS_WRITE,
		},
	};
	int ret = call(fd, IOMMU_TEST_CMD, &cmd);

	*id = cmd.access_pages.out_access_pages_id;
	return ret;
}

static int unpin(int fd, int access, uint32_t id)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, .id = access,
		.destroy_access_pages.access_pages_id = id,
	};

	return call(fd, IOMMU_TEST_CMD, &cmd);
}

/* QEMU's edu device */

static struct {
	char name[NAME_MAX + 1];	/* empty: there is none */
	char group[PATH_MAX];
	pthread_mutex_t lock;		/* of all below */
	int fd;
	uint32_t device;		/* its id in IOMMUFD */
	int at;				/* the IOAS that it is attached to, or -1 */
	unsigned int transfers;
	void *bar;
} edu = { .fd = -1, .at = -1 };

static void prepare_edu(void)
{
	pthread_mutex_init(&edu.lock, NULL);
	/* Fails without an IOMMU */
	if (!find_edu(edu.name) || vfio_bind(edu.name) || vfio_path(edu.name, true, edu.group))
		edu.name[0] = '\0';
}

static void open_edu(int fd)
{
	edu.fd = vfio_open(edu.name);
	CHECK(edu.fd >= 0 && !vfio_bind_iommufd(edu.fd, fd, &edu.device), "%s", edu.name);
	edu.at = -1;
	edu.transfers = 0;
}

static void close_edu(void)
{
	if (edu.bar)
		munmap(edu.bar, EDU_BAR_SIZE);
	edu.bar = NULL;
	close(edu.fd);
	edu.fd = -1;
}

/* Maps the registers and lets the device access memory. */
static void start_edu(void)
{
	CHECK(!vfio_command(edu.fd, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, true), "PCI_COMMAND");
	edu.bar = vfio_map_bar(edu.fd, VFIO_PCI_BAR0_REGION_INDEX, EDU_BAR_SIZE);
	CHECK(edu.bar != MAP_FAILED, "BAR 0");
}

/* One transfer of at most 4095 bytes between an IOVA and the device's buffer */
static bool run_edu(uint64_t iova, unsigned int bytes, bool to_memory)
{
	unsigned int i;

	if (!edu.bar)
		start_edu();
	edu_start(edu.bar, iova, bytes, to_memory);
	for (i = 0; i < 3000; i++) {
		if (!edu_runs(edu.bar))
			return true;
		usleep(1000);
	}
	return false;
}

/* The device gets @from and writes it to @to, both mapped at @iova on. */
static bool copy_by_edu(uint64_t iova, uint8_t *memory, size_t from, size_t to)
{
	const unsigned int bytes = 2048;
	bool done;
	size_t i;

	for (i = 0; i < bytes; i++) {
		memory[from + i] = rand();
		memory[to + i] = ~memory[from + i];
	}
	done = run_edu(iova + from, bytes, false) && run_edu(iova + to, bytes, true);
	edu.transfers += 2;
	return done && !memcmp(memory + from, memory + to, bytes);
}

/* Memory */

enum memory { ANONYMOUS, MEMFD, THP, HUGETLB };

static void *new_memory(enum memory kind, size_t length)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
	uint8_t *memory;

	if (kind == THP) {
		/* Aligned, from twice as much */
		memory = mmap(NULL, 2 * length, PROT_READ | PROT_WRITE, flags, -1, 0);
		CHECK(memory != MAP_FAILED, "mmap");
		memory = (uint8_t *)(((uintptr_t)memory + SZ_2M - 1) & -SZ_2M);
		CHECK(!madvise(memory, length, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	} else {
		if (kind == HUGETLB)
			flags |= MAP_HUGETLB;
		if (kind == MEMFD) {
			fd = memfd_create("dma_cache_order", 0);
			CHECK(fd >= 0 && !ftruncate(fd, length), "memfd");
			flags = MAP_SHARED;
		}
		memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
		CHECK(memory != MAP_FAILED, "memory of kind %d", kind);
		if (fd >= 0)
			close(fd);
	}
	/* The child that exits must not copy what is pinned. */
	CHECK(!madvise(memory, length, MADV_DONTFORK), "MADV_DONTFORK");
	memset(memory, 1, length);
	return memory;
}

/* Other pages from now on */
static void discard(enum memory kind, void *memory, size_t length)
{
	CHECK(!madvise(memory, length, kind == MEMFD ? MADV_REMOVE : MADV_DONTNEED), "discard");
	memset(memory, 1, length);
}

/* Pages with one that cannot be pinned among them */
static void *new_hole(size_t length)
{
	uint8_t *memory = new_memory(ANONYMOUS, length);

	CHECK(!mprotect(memory + length / 2, SZ_4K, PROT_NONE), "mprotect");
	return memory;
}

/* Directed cases: each on the mock device, and on edu if there is one. */

#define PAGES	4

struct bench {
	bool on_edu;
	int fd;
	uint32_t ioas, other;	/* two address spaces */
	struct mock mock;
	uint32_t device;
	uint32_t hwpt;		/* a second domain, if a case needs it */
	uint8_t *memory;	/* of PAGES pages */
};

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

static int attach(struct bench *b, uint32_t pt)
{
	int ret;

	if (b->on_edu) {
		if (edu.fd < 0)
			open_edu(b->fd);
		b->device = edu.device;
		return vfio_attach(edu.fd, pt);
	}
	ret = new_mock(b->fd, pt, &b->mock);
	b->device = b->mock.device;
	return ret;
}

static int replace(struct bench *b, uint32_t pt)
{
	return b->on_edu ? vfio_attach(edu.fd, pt) : replace_mock(b->fd, &b->mock, pt);
}

static int detach(struct bench *b)
{
	return b->on_edu ? vfio_detach(edu.fd) : iommufd_destroy(b->fd, b->mock.id);
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

static void open_bench(struct bench *b)
{
	b->fd = open("/dev/iommu", O_RDWR);
	CHECK(b->fd >= 0, "/dev/iommu");
	CHECK(!ioas_new(b->fd, &b->ioas) && !ioas_new(b->fd, &b->other), "IOMMU_IOAS_ALLOC");
}

static void close_bench(struct bench *b)
{
	if (edu.fd >= 0)
		close_edu();
	close(b->fd);
}

static void map_once(void *page)
{
	struct bench b = { .on_edu = !have_mock };

	open_bench(&b);
	CHECK(!attach(&b, b.ioas), "attach");
	CHECK(!ioas_map(b.fd, b.ioas, page, SZ_4K, IOVA) &&
	      !ioas_unmap(b.fd, b.ioas, IOVA, SZ_4K), "map, unmap");
	close_bench(&b);
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
	uint32_t id;
	int access;

	STEP(attach(b, b->ioas));
	STEP(map_memory(b));
	access = new_access(b->fd, b->ioas);
	STEP(access);
	STEP(pin(b->fd, access, IOVA, PAGES * SZ_4K, &id));
	STEP(detach(b));
	STEP(attach(b, b->ioas));
	STEP(detach(b));
	STEP(unpin(b->fd, access, id));
	close(access);
}

/* Pinned pages in the middle of what is contiguous, and so is mapped and unmapped as a whole */
static void case_accesses(struct bench *b)
{
	void *memory = new_memory(HUGETLB, SZ_2M);
	uint32_t id[2];
	int access;

	STEP(attach(b, b->ioas));
	STEP(ioas_map(b->fd, b->ioas, memory, SZ_2M, IOVA));
	access = new_access(b->fd, b->ioas);
	STEP(access);
	STEP(pin(b->fd, access, IOVA + 10 * SZ_4K, 20 * SZ_4K, &id[0]));
	STEP(pin(b->fd, access, IOVA + 50 * SZ_4K, 20 * SZ_4K, &id[1]));
	STEP(detach(b));
	STEP(unpin(b->fd, access, id[0]));
	STEP(unpin(b->fd, access, id[1]));
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
	unsigned int nth;
	char text[16];
	int ret, left;

	for (nth = 1, left = 0; !left; nth++) {
		snprintf(text, sizeof(text), "%u", nth);
		CHECK(!write_file(FAIL_NTH, text), FAIL_NTH);
		ret = step(b);
		left = read_number(FAIL_NTH, "");
		CHECK(!write_file(FAIL_NTH, "0"), FAIL_NTH);
		trace_end(getpid());
		if (!ret)
			STEP(undo(b));
		CHECK(!ret || !left, "failed by itself: %d", ret);
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

/* Runs @child in a process that leaves everything to its exit. */
static void run_child(void (*child)(struct bench *b), struct bench *b)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0, "fork");
	if (!pid) {
		child(b);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status, "child");
	trace_end(pid);
}

static void map_and_exit(struct bench *parent)
{
	struct bench b = { .on_edu = parent->on_edu };
	void *memory = mmap(NULL, PAGES * SZ_4K, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	open_bench(&b);
	if (memory == MAP_FAILED || attach(&b, b.ioas) ||
	    ioas_map(b.fd, b.ioas, memory, PAGES * SZ_4K, IOVA))
		_exit(1);
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
/* Pages of its own that type1 maps in a new domain, to see if that has superpages */
#define PROBE	CLEAN " map1 unmap1" FLUSH
#define SIMPLE	" end" CLEAN " map1 end unmap1" FLUSH " unpin end free1 end"

static const struct directed {
	const char *name;
	void (*run)(struct bench *b);
	enum { ANY, EDU_ONLY } where;
	enum { NONE, SHARED, PROBES } special;
	const char *story;		/* NULL: whatever obeys the rules */
} directed[] = {
	{ "map, unmap", case_map, ANY, NONE,
	  " end" CLEAN " map1 end unmap1" FLUSH " unpin end"
	  CLEAN " map1 end unmap1" FLUSH " unpin end free1 end" },
	{ "attach, detach", case_attach, ANY, NONE,
	  " end" CLEAN " map1 end unmap1" FLUSH " unpin free1 end"
	  CLEAN " map2 end unmap2" FLUSH " unpin free2 end" },
	{ "two domains", case_domains, ANY, NONE,
	  " end" CLEAN " map1 end map2 end unmap2 unmap1" FLUSH " unpin end"
	  CLEAN " map1 map2 end unmap2 free2 end unmap1" FLUSH " unpin free1 end" },
	{ "copy", case_copy, ANY, NONE,
	  " end" CLEAN " map1 end map2 end unmap1 end unmap2" FLUSH " unpin end free1 free2 end" },
	{ "disjoint slices", case_slices, ANY, NONE,
	  " end" CLEAN " map1 end" CLEAN " map1 end" CLEAN " map2 end unmap1 end unmap2"
	  FLUSH " unpin unmap2" FLUSH " unpin free2 end unmap1" FLUSH
	  " unpin free1 end| end" CLEAN " map1 end" CLEAN " map1 end" CLEAN
	  " map2 end unmap1 end unmap2" FLUSH " unpin" FLUSH " unpin free2 end unmap1" FLUSH
	  " unpin free1 end" },
	{ "replace", case_replace, ANY, NONE,
	  " end" CLEAN " map1 end map2 unmap1 free1 end unmap2" FLUSH " unpin free2 end" },
	{ "access", case_access, ANY, NONE,
	  " end" CLEAN " map1 end unmap1" FLUSH " free1 end"
	  CLEAN " map2 end unmap2" FLUSH " free2 end unpin end" },
	{ "two accesses", case_accesses, ANY, NONE,
	  " end" CLEAN " map1 end unmap1" FLUSH " unpin" FLUSH " unpin" FLUSH " unpin"
	  FLUSH " free1 end unpin end unpin end" },
	{ "memory with a hole", case_hole, ANY, NONE, " end unpin end unpin end" },
	{ "failing allocations", case_failures, ANY, NONE, NULL },
	{ "bad address", case_bad_iova, ANY, NONE, SIMPLE },
	{ "memfd", case_memfd, ANY, NONE, SIMPLE },
	{ "THP", case_thp, ANY, NONE, SIMPLE },
	{ "hugetlb", case_hugetlb, ANY, NONE, SIMPLE },
	{ "split", case_split, ANY, NONE,
	  " end" CLEAN " map1 end unmap1" FLUSH " unpin end unmap1"
	  FLUSH " unpin unmap1" FLUSH " unpin free1 end" },
	/* Over-flushes, and does not mind. */
	{ "two holders", case_twice, ANY, SHARED,
	  " end" CLEAN " map1 end" CLEAN " map1 end unmap1" FLUSH " unpin end unmap1"
	  FLUSH " unpin end free1 end" },
	{ "exit", case_exit, ANY, NONE, CLEAN " map1 unmap1" FLUSH " unpin free1 end" },
	{ "DMA", case_dma, EDU_ONLY, NONE, SIMPLE },
	{ "type1", case_type1, EDU_ONLY, PROBES,
	  PROBE " end" CLEAN " map1 end unmap1 sync1" FLUSH " unpin end free1 end" },
	{ "type1, exit", case_type1_exit, EDU_ONLY, PROBES,
	  PROBE CLEAN " map1 unmap1 sync1" FLUSH " unpin free1 end" },
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

	if (test->run == case_failures && !have_failures) {
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

/* Random operations */

#define SPACES	3

enum operation {
	MAP, COPY, UNMAP, DISCARD, ATTACH, DETACH, REPLACE, NEW_HWPT, END_HWPT, PIN, UNPIN, HOLE,
	BAD, EXIT, EDU, DMA, OPERATIONS_END
};

/* Of 1000 operations that are tried */
static const struct {
	const char *name;
	unsigned int weight;
	bool needs_mock;
} operations[] = {
	[MAP]		= { "map", 220 },
	[COPY]		= { "copy", 150 },
	[UNMAP]		= { "unmap", 200 },
	[DISCARD]	= { "discard", 50 },
	[ATTACH]	= { "attach", 40, true },
	[DETACH]	= { "detach", 30, true },
	[REPLACE]	= { "replace", 50, true },
	[NEW_HWPT]	= { "new HWPT", 40 },
	[END_HWPT]	= { "end HWPT", 30 },
	[PIN]		= { "pin", 50 },
	[UNPIN]		= { "unpin", 30 },
	[HOLE]		= { "hole", 20 },
	[BAD]		= { "bad address", 30 },
	[EXIT]		= { "exit", 10, true },
	[EDU]		= { "edu", 40 },
	[DMA]		= { "edu DMA", 10 },
};

struct slot {
	enum memory kind;
	uint8_t *memory;
	size_t length;
	uint64_t iova;
	/* What each space has of it; length 0 is nothing */
	struct {
		size_t from, length;
	} in[SPACES];
};

struct worker {
	struct load *load;
	pthread_t thread;
	uint64_t random;
	struct slot slots[SLOTS];
	uint8_t *hole;
	uint64_t hole_iova;
	struct mock mock;
	bool has_mock, has_hwpt;
	uint32_t hwpt;
	unsigned int hwpt_in;		/* of which space */
	bool hwpt_of_edu;		/* can take that, not mock devices */
	struct slot *pinned;		/* or NULL */
	unsigned int pinned_in;
	uint32_t pin;
	unsigned long done[OPERATIONS_END];
};

struct load {
	int fd;
	unsigned int threads;
	unsigned int operations;	/* of each thread in this batch */
	uint32_t ioas[SPACES];
	int access[SPACES];
	struct worker workers[THREADS];
};

static unsigned int below(struct worker *w, unsigned int limit)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (w->random >> 16) % limit;
}

static int do_map(struct worker *w, struct slot *slot, unsigned int space)
{
	unsigned int i;
	int ret;

	/* Or it would have two holders */
	for (i = 0; i < SPACES; i++) {
		if (slot->in[i].length)
			return -EAGAIN;
	}
	ret = ioas_map(w->load->fd, w->load->ioas[space], slot->memory, slot->length, slot->iova);
	if (!ret)
		slot->in[space].length = slot->length;
	slot->in[space].from = 0;
	return ret;
}

static int do_copy(struct worker *w, struct slot *slot, unsigned int space)
{
	unsigned int pages, from = below(w, SPACES), first, n;
	size_t start;
	int ret;

	if (slot->in[space].length || !slot->in[from].length)
		return -EAGAIN;
	pages = slot->in[from].length / SZ_4K;
	first = below(w, 2) ? 0 : below(w, pages);
	n = below(w, 2) ? pages - first : 1 + below(w, pages - first);
	start = slot->in[from].from + first * SZ_4K;
	ret = ioas_copy(w->load->fd, w->load->ioas[space], slot->iova + start, w->load->ioas[from],
			slot->iova + start, n * SZ_4K);
	if (!ret) {
		slot->in[space].from = start;
		slot->in[space].length = n * SZ_4K;
	}
	return ret;
}

static int do_unmap(struct worker *w, struct slot *slot, unsigned int space)
{
	int ret;

	if (!slot->in[space].length)
		return -EAGAIN;
	/* This makes the mock driver unpin it. */
	if (w->pinned == slot && w->pinned_in == space)
		w->pinned = NULL;
	ret = ioas_unmap(w->load->fd, w->load->ioas[space], slot->iova + slot->in[space].from,
			 slot->in[space].length);
	slot->in[space].length = 0;
	return ret;
}

static int do_discard(struct slot *slot)
{
	unsigned int i;

	for (i = 0; i < SPACES; i++) {
		if (slot->in[i].length)
			return -EAGAIN;
	}
	discard(slot->kind, slot->memory, slot->length);
	return 0;
}

static int do_hwpt(struct worker *w, unsigned int space)
{
	int ret;

	if (w->has_hwpt || (!w->has_mock && edu.fd < 0))
		return -EAGAIN;
	w->hwpt_in = space;
	w->hwpt_of_edu = !w->has_mock || (edu.fd >= 0 && below(w, 2));
	ret = hwpt_new(w->load->fd, w->hwpt_of_edu ? edu.device : w->mock.device,
		       w->load->ioas[space], &w->hwpt);
	w->has_hwpt = !ret;
	return ret;
}

static int end_hwpt(struct worker *w)
{
	int ret;

	if (!w->has_hwpt)
		return -EAGAIN;
	ret = iommufd_destroy(w->load->fd, w->hwpt);
	w->has_hwpt = ret;
	return ret == -EBUSY ? 0 : ret;		/* a device uses it */
}

/*
 * 6.12 neither refuses nor survives to replace a domain by one of another driver, and that is
 * what IOMMUFD tries first if an IOAS has one by itself. So edu has its own in no space but 0.
 */
static int do_replace(struct worker *w, unsigned int space)
{
	uint32_t pt = w->load->ioas[space];

	if (w->has_hwpt && !w->hwpt_of_edu && below(w, 2))
		pt = w->hwpt;
	else if (!space)
		return -EAGAIN;
	return w->has_mock ? replace_mock(w->load->fd, &w->mock, pt) : -EAGAIN;
}

static int do_pin(struct worker *w, struct slot *slot, unsigned int space)
{
	int ret;

	if (w->pinned || !slot->in[space].length)
		return -EAGAIN;
	ret = pin(w->load->fd, w->load->access[space], slot->iova + slot->in[space].from,
		  1 + below(w, slot->in[space].length), &w->pin);
	if (!ret)
		w->pinned = slot;
	w->pinned_in = space;
	return ret;
}

static int do_hole(struct worker *w, unsigned int space)
{
	int ret = ioas_map(w->load->fd, w->load->ioas[space], w->hole, PAGES * SZ_4K, w->hole_iova);

	/* Nobody looks at the memory of a space without a domain. */
	if (!ret)
		ret = ioas_unmap(w->load->fd, w->load->ioas[space], w->hole_iova, PAGES * SZ_4K);
	return ret == -EFAULT ? 0 : ret;
}

static int do_bad(struct worker *w, struct slot *slot, unsigned int space)
{
	int fd = w->load->fd, ret;
	uint32_t ioas = w->load->ioas[space];

	switch (below(w, 4)) {
	case 0:
		ret = ioas_map(fd, ioas, slot->memory, slot->length, slot->iova + 1);
		break;
	case 1:
		ret = ioas_unmap(fd, ioas, w->hole_iova, SZ_4K);
		break;
	case 2:
		ret = ioas_copy(fd, ioas, slot->iova, ioas, w->hole_iova, SZ_4K);
		break;
	default:
		/* Over what is there */
		if (!slot->in[space].length)
			return -EAGAIN;
		ret = ioas_map(fd, ioas, slot->memory, slot->length, slot->iova);
		break;
	}
	return ret ? 0 : -EPROTO;
}

static int do_exit(void)
{
	struct bench b = { .on_edu = false };

	run_child(map_and_exit, &b);
	return 0;
}

static int do_edu(struct worker *w)
{
	int ret;

	if (edu.fd < 0 || pthread_mutex_trylock(&edu.lock))
		return -EAGAIN;
	if (edu.at >= 0 && below(w, 2)) {
		ret = vfio_detach(edu.fd);
		edu.at = -1;
	} else if (w->has_hwpt && w->hwpt_of_edu) {
		ret = vfio_attach(edu.fd, w->hwpt);
		if (!ret)
			edu.at = w->hwpt_in;
	} else if (edu.at < 0) {
		ret = vfio_attach(edu.fd, w->load->ioas[0]);	/* see do_replace() */
		if (!ret)
			edu.at = 0;
	} else {
		ret = -EAGAIN;
	}
	pthread_mutex_unlock(&edu.lock);
	return ret;
}

static int do_dma(struct slot *slot)
{
	int ret = -EAGAIN;

	if (edu.fd < 0 || pthread_mutex_trylock(&edu.lock))
		return -EAGAIN;
	if (edu.at >= 0 && edu.transfers < TRANSFERS && slot->length >= 2 * SZ_4K &&
	    slot->in[edu.at].length == slot->length)
		ret = copy_by_edu(slot->iova, slot->memory, 0, slot->length - SZ_4K) ? 0 : -EIO;
	pthread_mutex_unlock(&edu.lock);
	return ret;
}

/* Returns -EAGAIN if there was nothing to do. */
static int do_operation(struct worker *w, enum operation what)
{
	struct slot *slot = &w->slots[below(w, SLOTS)];
	unsigned int space = below(w, SPACES);
	struct load *load = w->load;
	int ret;

	switch (what) {
	case MAP:
		return do_map(w, slot, space);
	case COPY:
		return do_copy(w, slot, space);
	case UNMAP:
		return do_unmap(w, slot, space);
	case DISCARD:
		return do_discard(slot);
	case ATTACH:
		if (w->has_mock)
			return -EAGAIN;
		ret = new_mock(load->fd, load->ioas[space], &w->mock);
		w->has_mock = !ret;
		return ret;
	case DETACH:
		if (!w->has_mock)
			return -EAGAIN;
		w->has_mock = false;
		return iommufd_destroy(load->fd, w->mock.id);
	case REPLACE:
		return do_replace(w, space);
	case NEW_HWPT:
		return do_hwpt(w, space);
	case END_HWPT:
		return end_hwpt(w);
	case PIN:
		return do_pin(w, slot, space);
	case UNPIN:
		if (!w->pinned)
			return -EAGAIN;
		w->pinned = NULL;
		return unpin(load->fd, load->access[w->pinned_in], w->pin);
	case HOLE:
		return do_hole(w, space);
	case BAD:
		return do_bad(w, slot, space);
	case EXIT:
		return do_exit();
	case EDU:
		return do_edu(w);
	default:
		return do_dma(slot);
	}
}

static void *run_worker(void *argument)
{
	struct worker *w = argument;
	enum operation what;
	unsigned int i = 0;
	int ret, ticket;

	while (i < w->load->operations) {
		ticket = below(w, 1000);
		for (what = 0; ticket >= (int)operations[what].weight; what++)
			ticket -= operations[what].weight;
		if (operations[what].needs_mock && !have_mock)
			continue;
		ret = do_operation(w, what);
		if (ret == -EAGAIN)
			continue;
		trace_end(gettid());
		/* Whoever adds a domain while somebody's hole is mapped cannot. */
		if (ret != -EFAULT) {
			errno = -ret;
			CHECK(!ret, "random %s", operations[what].name);
			w->done[what]++;
		}
		i++;
	}
	return NULL;
}

static void open_worker(struct load *load, unsigned int index, uint64_t seed)
{
	static const struct {
		enum memory kind;
		size_t pages;
	} kinds[SLOTS] = {
		{ ANONYMOUS, 16 }, { ANONYMOUS, 7 }, { ANONYMOUS, 1 }, { ANONYMOUS, 40 },
		{ MEMFD, 16 }, { MEMFD, 5 }, { THP, 512 }, { HUGETLB, 512 },
	};
	uint64_t iova = IOVA + index * (SLOTS + 1) * SZ_2M;
	struct worker *w = &load->workers[index];
	unsigned int i;

	w->load = load;
	w->random = (seed + index) * 0x9e3779b97f4a7c15 | 1;
	for (i = 0; i < SLOTS; i++) {
		struct slot *slot = &w->slots[i];

		slot->kind = kinds[i].kind;
		slot->length = kinds[i].pages * SZ_4K;
		slot->memory = new_memory(slot->kind, slot->length);
		slot->iova = iova + i * SZ_2M;
	}
	w->hole = new_hole(PAGES * SZ_4K);
	w->hole_iova = iova + SLOTS * SZ_2M;
}

static void close_worker(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		munmap(w->slots[i].memory, w->slots[i].length);
	munmap(w->hole, PAGES * SZ_4K);
}

static void run_random(unsigned int threads, uint64_t seed)
{
	struct load load = { .threads = threads, .operations = BATCH / threads };
	struct timespec begin, end;
	unsigned int i, what, batch;
	bool good;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	order_init(&order, memmap, page_struct);
	load.fd = open("/dev/iommu", O_RDWR);
	CHECK(load.fd >= 0, "/dev/iommu");
	for (i = 0; i < SPACES; i++) {
		CHECK(!ioas_new(load.fd, &load.ioas[i]), "IOMMU_IOAS_ALLOC");
		load.access[i] = new_access(load.fd, load.ioas[i]);
		CHECK(load.access[i] >= 0, "access");
	}
	if (edu.name[0])
		open_edu(load.fd);
	for (i = 0; i < threads; i++)
		open_worker(&load, i, seed);

	for (batch = 0; batch < OPERATIONS / BATCH && !order.violation; batch++) {
		for (i = 0; i < threads; i++)
			CHECK(!pthread_create(&load.workers[i].thread, NULL, run_worker,
					      &load.workers[i]), "pthread_create");
		for (i = 0; i < threads; i++)
			pthread_join(load.workers[i].thread, NULL);
		trace_read(order_line);
	}

	for (i = 0; i < SPACES; i++)
		close(load.access[i]);
	if (edu.fd >= 0)
		close_edu();
	close(load.fd);
	trace_end(getpid());
	for (i = 0; i < threads; i++)
		close_worker(&load.workers[i]);
	trace_read(order_line);
	clock_gettime(CLOCK_MONOTONIC, &end);

	good = is_good();
	ksft_print_msg("memtype-cell: row=DMA order, threads: %u effective=%s forced=no\n", threads,
		       good ? "kept" : "violated");
	for (what = 0; what < OPERATIONS_END; what++) {
		unsigned long done = 0;

		for (i = 0; i < threads; i++)
			done += load.workers[i].done[what];
		ksft_print_msg("%lu %s\n", done, operations[what].name);
		if (operations[what].needs_mock ? !have_mock : what >= EDU && !edu.name[0])
			continue;
		good = good && done;
	}
	ksft_print_msg("%lu events, %lu pages cleaned, %lu flushed, %ld s\n", order.events,
		       order.maintained[0], order.maintained[1], end.tv_sec - begin.tv_sec);
	ksft_test_result(good, "random: %u operations, threads: %u\n", OPERATIONS, threads);
	order_free(&order);
}

static bool find_mock(void)
{
	int fd = open("/dev/iommu", O_RDWR);
	struct mock mock;
	uint32_t ioas;
	bool found;

	CHECK(fd >= 0, "/dev/iommu");
	found = !ioas_new(fd, &ioas) && !new_mock(fd, ioas, &mock);
	close(fd);
	return found;
}

/* What the kernel could not record makes a run fail: here it has room for next to nothing. */
static void run_overrun(void)
{
	struct bench b = { .on_edu = !have_mock };

	order_init(&order, memmap, page_struct);
	CHECK(!write_file(INSTANCE "buffer_size_kb", "4"), "buffer_size_kb");
	open_bench(&b);
	map_kind(&b, MEMFD);
	close_bench(&b);
	trace_read(order_line);
	ksft_test_result(order.violation && !strcmp(order.violation, "overrun"),
			 "rejects an overrun of the buffer\n");
	order_free(&order);
}

int main(int argc, char **argv)
{
	unsigned int i, tests = 3;
	uint64_t seed;

	ksft_print_header();
	if (!is_active())
		ksft_exit_skip("this kernel does not maintain caches for DMA\n");
	if (sysconf(_SC_PAGESIZE) != SZ_4K)
		ksft_exit_skip("pages are not 4 KiB\n");
	prepare_edu();
	have_mock = find_mock();
	if (!have_mock && !edu.name[0])
		ksft_exit_skip("no mock devices and no edu device behind an IOMMU\n");

	tests += ARRAY_SIZE(recorded);
	for (i = 0; i < ARRAY_SIZE(directed); i++)
		tests += (have_mock && directed[i].where != EDU_ONLY) + !!edu.name[0];
	ksft_set_plan(tests);
	if (!have_mock)
		ksft_print_msg("no mock devices: 6.12 lacks them beside this IOMMU driver\n");
	if (!edu.name[0])
		ksft_print_msg("no edu device behind an IOMMU\n");
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	else
		CHECK(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "getrandom");
	ksft_print_msg("seed %#lx\n", seed);
	/* Of all kinds of allocations, and silently */
	have_failures = !write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") &&
			!write_file("/sys/kernel/debug/failslab/verbose", "0") &&
			!write_file("/sys/kernel/debug/fail_iommufd/verbose", "0");
	if (read_number(HUGEPAGES, "") < 16)
		write_file(HUGEPAGES, "16");

	for (i = 0; i < ARRAY_SIZE(recorded); i++)
		run_recorded(&recorded[i]);
	atexit(trace_stop);
	trace_start(NULL, 0);
	learn_pages(map_once);
	for (i = 0; i < ARRAY_SIZE(directed); i++) {
		if (have_mock && directed[i].where != EDU_ONLY)
			run_directed(&directed[i], false);
		if (edu.name[0])
			run_directed(&directed[i], true);
	}
	run_random(1, seed);
	run_random(THREADS, seed);
	run_overrun();
	ksft_finished();
}
