/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs share that trace the order of cache maintenance: QEMU's edu device behind the
 * real IOMMU, IOMMUFD's mock device, and memory for them.
 */
#ifndef SELFTEST_DMA_CACHE_DEVICES_H
#define SELFTEST_DMA_CACHE_DEVICES_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"
#include "mock_iommu.h"
#include "vfio_device.h"

#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define SZ_4K		4096UL
#define SZ_2M		(2UL << 20)
#define PAGES		4

/* Where the mock device and the 28 address bits of edu overlap, below arm64's MSI window */
#define IOVA		(2 * SZ_2M + (1UL << 24))

/* What must work, or there is nothing to test. */
#define CHECK(condition, fmt, ...)							\
	do {										\
		if (!(condition))							\
			ksft_exit_fail_msg("line %d: " fmt ": %s\n", __LINE__,		\
					   ##__VA_ARGS__, strerror(errno));		\
	} while (0)

#include "dma_cache_trace.h"

static bool have_mock;

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

static inline void prepare_edu(void)
{
	pthread_mutex_init(&edu.lock, NULL);
	/* Fails without an IOMMU */
	if (!find_edu(edu.name) || vfio_bind(edu.name) || vfio_path(edu.name, true, edu.group))
		edu.name[0] = '\0';
}

static inline void open_edu(int fd)
{
	edu.fd = vfio_open(edu.name);
	CHECK(edu.fd >= 0 && !vfio_bind_iommufd(edu.fd, fd, &edu.device), "%s", edu.name);
	edu.at = -1;
	edu.transfers = 0;
}

static inline void close_edu(void)
{
	if (edu.bar)
		munmap(edu.bar, EDU_BAR_SIZE);
	edu.bar = NULL;
	close(edu.fd);
	edu.fd = -1;
}

/* Maps the registers and lets the device access memory. */
static inline void start_edu(void)
{
	CHECK(!vfio_command(edu.fd, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, true), "PCI_COMMAND");
	edu.bar = vfio_map_bar(edu.fd, VFIO_PCI_BAR0_REGION_INDEX, EDU_BAR_SIZE);
	CHECK(edu.bar != MAP_FAILED, "BAR 0");
}

/* One transfer of at most 4095 bytes between an IOVA and the device's buffer */
static inline void run_edu(uint64_t iova, unsigned int bytes, bool to_memory)
{
	if (!edu.bar)
		start_edu();
	edu_start(edu.bar, iova, bytes, to_memory);
	while (edu_runs(edu.bar))
		usleep(1000);
}

/* The device gets @from and writes it to @to, both mapped at @iova on. */
static inline bool copy_by_edu(uint64_t iova, uint8_t *memory, size_t from, size_t to)
{
	const unsigned int bytes = 2048;
	size_t i;

	for (i = 0; i < bytes; i++) {
		memory[from + i] = rand();
		memory[to + i] = ~memory[from + i];
	}
	run_edu(iova + from, bytes, false);
	run_edu(iova + to, bytes, true);
	edu.transfers += 2;
	return !memcmp(memory + from, memory + to, bytes);
}

/* Memory */

enum memory { ANONYMOUS, MEMFD, THP, HUGETLB };

static inline void *new_memory(enum memory kind, size_t length)
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
static inline void discard(enum memory kind, void *memory, size_t length)
{
	CHECK(!madvise(memory, length, kind == MEMFD ? MADV_REMOVE : MADV_DONTNEED), "discard");
	memset(memory, 1, length);
}

/* Pages with one that cannot be pinned among them */
static inline void *new_hole(size_t length)
{
	uint8_t *memory = new_memory(ANONYMOUS, length);

	CHECK(!mprotect(memory + length / 2, SZ_4K, PROT_NONE), "mprotect");
	return memory;
}

struct bench {
	bool on_edu;
	int fd;
	uint32_t ioas, other;	/* two address spaces */
	struct mock_device mock;
	uint32_t device;
	uint32_t hwpt;		/* a second domain, if a case needs it */
	uint8_t *memory;	/* of PAGES pages */
};

static inline int attach(struct bench *b, uint32_t pt)
{
	int ret;

	if (b->on_edu) {
		if (edu.fd < 0)
			open_edu(b->fd);
		b->device = edu.device;
		return vfio_attach(edu.fd, pt);
	}
	ret = mock_attach(b->fd, pt, 0, &b->mock);
	b->device = b->mock.idev;
	return ret;
}

static inline void open_bench(struct bench *b)
{
	b->fd = open("/dev/iommu", O_RDWR);
	CHECK(b->fd >= 0, "/dev/iommu");
	CHECK(!ioas_new(b->fd, &b->ioas) && !ioas_new(b->fd, &b->other), "IOMMU_IOAS_ALLOC");
}

static inline void close_bench(struct bench *b)
{
	if (edu.fd >= 0)
		close_edu();
	close(b->fd);
}

static inline void map_once(void *page)
{
	struct bench b = { .on_edu = !have_mock };

	open_bench(&b);
	CHECK(!attach(&b, b.ioas), "attach");
	CHECK(!ioas_map(b.fd, b.ioas, page, SZ_4K, IOVA) &&
	      !ioas_unmap(b.fd, b.ioas, IOVA, SZ_4K), "map, unmap");
	close_bench(&b);
}

/* Runs @child in a process that leaves everything to its exit. */
static inline void run_child(void (*child)(struct bench *b), struct bench *b)
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

static inline void map_and_exit(struct bench *parent)
{
	struct bench b = { .on_edu = parent->on_edu };
	void *memory = mmap(NULL, PAGES * SZ_4K, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	open_bench(&b);
	if (memory == MAP_FAILED || attach(&b, b.ioas) ||
	    ioas_map(b.fd, b.ioas, memory, PAGES * SZ_4K, IOVA))
		_exit(1);
}

static inline bool find_mock(void)
{
	int fd = open("/dev/iommu", O_RDWR);
	struct mock_device mock;
	uint32_t ioas;
	bool found;

	CHECK(fd >= 0, "/dev/iommu");
	found = !ioas_new(fd, &ioas) && !mock_attach(fd, ioas, 0, &mock);
	close(fd);
	return found;
}

/* Finds the devices, and begins to record what this task and its children do. */
static inline void prepare(void)
{
	if (!is_active())
		ksft_exit_skip("this kernel does not maintain caches for DMA\n");
	if (sysconf(_SC_PAGESIZE) != SZ_4K)
		ksft_exit_skip("pages are not 4 KiB\n");
	prepare_edu();
	have_mock = find_mock();
	if (!have_mock && !edu.name[0])
		ksft_exit_skip("no mock devices and no edu device behind an IOMMU\n");
	if (!have_mock)
		ksft_print_msg("no mock devices: 6.12 lacks them beside this IOMMU driver\n");
	if (!edu.name[0])
		ksft_print_msg("no edu device behind an IOMMU\n");
	if (read_number(HUGEPAGES, "") < 16)
		write_file(HUGEPAGES, "16");
	atexit(trace_stop);
	trace_start(NULL, 0);
	learn_pages(map_once);
}

#endif /* SELFTEST_DMA_CACHE_DEVICES_H */
