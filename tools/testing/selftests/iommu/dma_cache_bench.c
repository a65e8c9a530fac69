// SPDX-License-Identifier: GPL-2.0-only
/*
 * What does it cost to map memory for DMA through IOMMUFD, and to unmap it? Counts
 * instructions on machines whose clock does, as QEMU's with -icount shift=0, and
 * the cache lines that the kernel maintains. A loop of known length shows whether
 * the clock counts instructions; elsewhere the numbers are nanoseconds.
 *
 * The device is QEMU's edu, behind the machine's real IOMMU. It does no DMA: a
 * domain has to be maintained because of what the IOMMU can do, not the device.
 *
 * tools/testing/memtype/bench.py reads the lines "# memtype-dma:".
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_counters.h"
#include "mock_iommu.h"
#include "vfio_device.h"

#define SZ_4K		4096ul
#define SZ_1M		(256 * SZ_4K)
#define SZ_2M		(2 * SZ_1M)
#define SZ_1G		(1024 * SZ_1M)
/* Above the addresses of interrupts */
#define IOVA		(4 * SZ_1G)
#define MAX_DOMAINS	2
#define ROUNDS		7
#define LOOPS		500000
/* What an access of the mock pins at once */
#define MOST_PINNED	(16 * SZ_1M)
/* Memory that stands for more */
#define SPARSE_SIZE	(64 * SZ_1M)
/* How often the thread that measures latency wakes up, in ns */
#define INTERVAL	100000

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Two instructions for each of @loops. */
static void count_down(uint64_t loops)
{
#ifdef __x86_64__
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (loops) : : "cc");
#else
	asm volatile("1: subs %0, %0, #1\n\t"
		     "b.ne 1b" : "+r" (loops) : : "cc");
#endif
}

/* A timer interrupt may come in between, but not each time. */
static bool clock_counts(void)
{
	uint64_t start, loop, best = UINT64_MAX;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		start = now();
		count_down(LOOPS);
		loop = now() - start;
		if (loop < best)
			best = loop;
	}
	printf("# %d instructions take %lu ns\n", 2 * LOOPS, best);
	return labs((long)best - 2 * LOOPS) < 2 * LOOPS / 100;
}

static const char *unit(void)
{
	return clock_counts() ? "instructions" : "ns";
}

/* Touched in an order that leaves no small page beside its neighbour in physical memory. */
static char *alloc_memory(size_t size, size_t page)
{
	char *memory = mmap(NULL, size + SZ_2M, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i, n = size / page;

	if (memory == MAP_FAILED)
		return NULL;
	memory = (char *)(((uintptr_t)memory + SZ_2M - 1) & -(uintptr_t)SZ_2M);
	if (madvise(memory, size, page == SZ_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		return NULL;
	for (i = 0; i < n; i++)
		memory[i * 1021 % n * page] = 1;
	return memory;
}

static unsigned long hugepages_left(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");
	unsigned long nr = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lu", &nr) != 1)
		nr = 0;
	fclose(file);
	return nr;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static uint64_t median(uint64_t *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

/* Where memory is mapped for edu: an IOAS of an iommufd, or a container of type1 */
struct space {
	bool type1;
	int fd;
	int device;	/* or its group */
	uint32_t id;	/* of the device in the iommufd */
	uint32_t ioas;
};

/* Gives an IOAS @domains, and attaches the device to the last one. */
static int space_attach(struct space *space, unsigned int domains)
{
	uint32_t hwpt = 0;
	int ret = ioas_new(space->fd, &space->ioas);

	while (!ret && domains--)
		ret = hwpt_new(space->fd, space->id, space->ioas, &hwpt);
	return ret ?: vfio_attach(space->device, hwpt);
}

/* An iommufd with @domains, or a container: -ENODEV without a device behind an IOMMU */
static int space_open(struct space *space, bool type1, unsigned int domains)
{
	char name[NAME_MAX + 1], path[PATH_MAX];

	*space = (struct space) { .type1 = type1, .fd = -1, .device = -1 };
	if (!find_edu(name) || vfio_bind(name) || vfio_path(name, true, path))
		return -ENODEV;
	space->device = type1 ? open(path, O_RDWR) : vfio_open(name);
	space->fd = open(type1 ? "/dev/vfio/vfio" : "/dev/iommu", O_RDWR);
	if (space->device < 0 || space->fd < 0)
		return -errno;
	if (!type1)
		return vfio_bind_iommufd(space->device, space->fd, &space->id) ?:
		       space_attach(space, domains);
	return call(space->device, VFIO_GROUP_SET_CONTAINER, &space->fd) ?:
	       call(space->fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
}

static void space_close(struct space *space)
{
	close(space->device);
	close(space->fd);
}

static int space_map(const struct space *space, char *memory, size_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory, .iova = IOVA, .size = size,
	};

	if (space->type1)
		return ioctl(space->fd, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
	return ioas_map(space->fd, space->ioas, memory, size, IOVA);
}

static int space_unmap(const struct space *space, size_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = IOVA, .size = size,
	};

	if (space->type1)
		return ioctl(space->fd, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
	return ioas_unmap(space->fd, space->ioas, IOVA, size);
}

/* An IOAS with as many domains as a test wants. */
FIXTURE(ioas)
{
	struct space space;
};

FIXTURE_VARIANT(ioas)
{
	const char *pages;
	size_t page;
	size_t size;
	int domains;
};

FIXTURE_VARIANT_ADD(ioas, 4k_one_domain) {
	.pages = "4K", .page = SZ_4K, .size = 64 * SZ_1M, .domains = 1,
};

FIXTURE_VARIANT_ADD(ioas, 4k_two_domains) {
	.pages = "4K", .page = SZ_4K, .size = 64 * SZ_1M, .domains = 2,
};

FIXTURE_VARIANT_ADD(ioas, 2m_one_domain) {
	.pages = "2M", .page = SZ_2M, .size = 256 * SZ_1M, .domains = 1,
};

FIXTURE_VARIANT_ADD(ioas, 2m_two_domains) {
	.pages = "2M", .page = SZ_2M, .size = 256 * SZ_1M, .domains = 2,
};

FIXTURE_SETUP(ioas)
{
	int ret = space_open(&self->space, false, variant->domains);

	if (ret == -ENODEV)
		SKIP(return, "no edu device behind an IOMMU");
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(ioas)
{
	space_close(&self->space);
}

/* Per GiB, of which less is mapped: all costs but the ioctl's own grow with the size. */
TEST_F(ioas, cost)
{
	struct dma_cache_counters before = dma_cache_counters(), after;
	uint64_t cleaned, flushed;
	uint64_t maps[ROUNDS], unmaps[ROUNDS], start;
	char *memory = alloc_memory(variant->size, variant->page);
	size_t per_gib = SZ_1G / variant->size;
	const char *counted;
	int i;

	ASSERT_NE(NULL, memory);
	for (i = 0; i < ROUNDS; i++) {
		start = now();
		ASSERT_EQ(0, space_map(&self->space, memory, variant->size));
		maps[i] = now() - start;
		start = now();
		ASSERT_EQ(0, space_unmap(&self->space, variant->size));
		unmaps[i] = now() - start;
	}
	after = dma_cache_counters();
	cleaned = after.clean.lines - before.clean.lines;
	flushed = after.flush.lines - before.flush.lines;
	counted = unit();
	printf("# memtype-dma: pages=%s domains=%d ", variant->pages, variant->domains);
	printf("map=%lu unmap=%lu cleaned=%lu flushed=%lu unit=%s\n",
	       median(maps, ROUNDS) * per_gib, median(unmaps, ROUNDS) * per_gib,
	       cleaned / ROUNDS * per_gib, flushed / ROUNDS * per_gib, counted);
	fflush(stdout);
	EXPECT_EQ(flushed, cleaned);
	EXPECT_TRUE(after.active || !cleaned);
}

/* A domain that gets what is mapped already, and that goes, alone or while an access has pins. */
TEST_F(ioas, attach)
{
	uint64_t attach[2], detach[2], start, cleaned = 0, flushed = 0;
	size_t per_gib = SZ_1G / variant->size, at;
	struct dma_cache_counters before, after;
	uint32_t ioas, hwpt, item, access = 0;
	const char *counted;
	char *memory;
	int i;

	if (variant->domains > 1)
		SKIP(return, "one domain at a time comes and goes");
	memory = alloc_memory(variant->size, variant->page);
	ASSERT_NE(NULL, memory);
	ASSERT_EQ(0, ioas_new(self->space.fd, &ioas));
	ASSERT_EQ(0, ioas_map(self->space.fd, ioas, memory, variant->size, IOVA));
	for (i = 0; i < 2; i++) {
		before = dma_cache_counters();
		start = now();
		ASSERT_EQ(0, hwpt_new(self->space.fd, self->space.id, ioas, &hwpt));
		attach[i] = now() - start;
		after = dma_cache_counters();
		cleaned += after.clean.lines - before.clean.lines;
		if (i) {
			ASSERT_EQ(0, access_create(self->space.fd, ioas, &access));
			for (at = 0; at < variant->size; at += MOST_PINNED)
				ASSERT_EQ(0, access_pin(self->space.fd, access, IOVA + at,
							MOST_PINNED, &item));
		}
		before = dma_cache_counters();
		start = now();
		ASSERT_EQ(0, iommufd_destroy(self->space.fd, hwpt));
		detach[i] = now() - start;
		after = dma_cache_counters();
		flushed += after.flush.lines - before.flush.lines;
	}
	close(access);
	counted = unit();
	printf("# memtype-dma-attach: pages=%s attach=%lu detach=%lu pinned=%lu ", variant->pages,
	       attach[0] * per_gib, detach[0] * per_gib, detach[1] * per_gib);
	printf("cleaned=%lu flushed=%lu unit=%s\n", cleaned / 2 * per_gib, flushed / 2 * per_gib,
	       counted);
	fflush(stdout);
	EXPECT_EQ(flushed, cleaned);
}

/* Whether all domains of the IOAS enforce coherency, as VFIO and KVM would hear of it; or -errno */
static int enforces_coherency(int iommufd, uint32_t ioas)
{
	struct iommu_vfio_ioas set = {
		.size = sizeof(set), .ioas_id = ioas, .op = IOMMU_VFIO_IOAS_SET,
	};
	int ret = call(iommufd, IOMMU_VFIO_IOAS, &set);

	if (ret)
		return ret;
	ret = ioctl(iommufd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU);
	return ret < 0 ? -errno : ret;
}

static struct dma_cache_work work_since(const struct dma_cache_work *before,
					const struct dma_cache_work *after)
{
	return (struct dma_cache_work) {
		.pages = after->pages - before->pages,
		.lines = after->lines - before->lines,
		.ns = after->ns - before->ns,
	};
}

/* Instructions for four lines (asm/dma_cache_lines.h, dma_cache_lines.S) */
#ifdef __x86_64__
#define FOUR_LINES	7
#else
#define FOUR_LINES	10
#endif

/*
 * There is little around the lines if the pages are one range. A kernel that only says that it
 * maintains lines, or maintains them twice, takes another time.
 */
static void expect_instructions(struct __test_metadata *_metadata, const char *what,
				const struct dma_cache_work *work)
{
	printf("# %s: %lu lines and %lu instructions a page\n", what, work->lines / work->pages,
	       work->ns / work->pages);
	EXPECT_LE(FOUR_LINES * work->lines, 4 * work->ns);
	/* The checks of CONFIG=debug are counted as well. */
	if (access("/proc/lockdep", F_OK))
		EXPECT_GT(FOUR_LINES * work->lines * 5 / 4, 4 * work->ns);
}

TEST_F(ioas, lines_are_executed)
{
	struct dma_cache_counters before = dma_cache_counters(), after;
	struct dma_cache_work clean, flush;
	int enforced;
	char *memory;
	size_t pages;

	if (variant->page != SZ_2M)
		SKIP(return, "there are as many instructions around the lines of small pages");
	if (!before.exists)
		SKIP(return, "this kernel cannot maintain caches for DMA");
	enforced = enforces_coherency(self->space.fd, self->space.ioas);
	ASSERT_LE(0, enforced);
	memory = alloc_memory(variant->size, variant->page);
	ASSERT_NE(NULL, memory);
	before = dma_cache_counters();
	ASSERT_EQ(0, space_map(&self->space, memory, variant->size));
	ASSERT_EQ(0, space_unmap(&self->space, variant->size));
	after = dma_cache_counters();
	clean = work_since(&before.clean, &after.clean);
	flush = work_since(&before.flush, &after.flush);
	printf("# dma_cache is %s, and the domains %s coherency\n", before.active ? "on" : "off",
	       enforced ? "enforce" : "do not enforce");
	pages = before.active && !enforced ? variant->size / getpagesize() : 0;
	ASSERT_EQ(pages, clean.pages);
	ASSERT_EQ(pages, flush.pages);
	if (!pages)
		return;
	if (!clock_counts())
		SKIP(return, "the clock of this machine does not count instructions");
	expect_instructions(_metadata, "clean", &clean);
	expect_instructions(_metadata, "flush", &flush);
}

/* The same SPARSE_SIZE of memory again and again, in pages of 2M */
static char *alloc_sparse(size_t size)
{
	int fd = memfd_create("sparse", MFD_HUGETLB);
	char *memory = mmap(NULL, size + SZ_2M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t at;

	if (fd < 0 || ftruncate(fd, SPARSE_SIZE) || memory == MAP_FAILED)
		return NULL;
	memory = (char *)(((uintptr_t)memory + SZ_2M - 1) & -(uintptr_t)SZ_2M);
	for (at = 0; at < size; at += SPARSE_SIZE)
		if (mmap(memory + at, SPARSE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED)
			return NULL;
	return memory;
}

/* A map that a signal ends: of memory of its own, or of a little that is mapped many times */
FIXTURE(killed)
{
	struct space space;
};

FIXTURE_VARIANT(killed)
{
	const char *space;
	size_t size;
	bool sparse;
	unsigned int points;
};

FIXTURE_VARIANT_ADD(killed, iommufd_1g) {
	.space = "iommufd", .size = SZ_1G, .points = 3,
};

FIXTURE_VARIANT_ADD(killed, iommufd_8g) {
	.space = "iommufd", .size = 8 * SZ_1G, .sparse = true, .points = 2,
};

FIXTURE_VARIANT_ADD(killed, type1_1g) {
	.space = "type1", .size = SZ_1G, .points = 3,
};

FIXTURE_VARIANT_ADD(killed, type1_8g) {
	.space = "type1", .size = 8 * SZ_1G, .sparse = true, .points = 2,
};

FIXTURE_SETUP(killed)
{
	int ret;

	if (!clock_counts())
		SKIP(return, "the clock of this machine does not count instructions");
	if (variant->sparse ? hugepages_left() < SPARSE_SIZE / SZ_2M :
			      sysconf(_SC_AVPHYS_PAGES) * getpagesize() < SZ_1G + 128 * SZ_1M)
		SKIP(return, "this machine has not enough free memory");
	ret = space_open(&self->space, !strcmp(variant->space, "type1"), 1);
	if (ret == -ENODEV)
		SKIP(return, "no edu device behind an IOMMU");
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(killed)
{
	space_close(&self->space);
}

/* Maps memory, unmaps it and maps it again. How long it took goes to @out in between. */
static void map_twice(const struct space *space, size_t size, bool sparse, int out)
{
	char *memory = sparse ? alloc_sparse(size) : alloc_memory(size, SZ_2M);
	uint64_t took[2], start = now();
	int ret;

	if (!memory) {
		printf("# no memory: %s\n", strerror(errno));
		exit(1);
	}
	ret = space_map(space, memory, size);
	took[0] = now() - start;
	start = now();
	if (!ret)
		ret = space_unmap(space, size);
	if (ret) {
		printf("# cannot map and unmap: %s\n", strerror(-ret));
		exit(1);
	}
	took[1] = now() - start;
	if (write(out, took, sizeof(took)) < 0)
		exit(1);
	space_map(space, memory, size);
	_exit(0);
}

/*
 * Who is killed in the middle of a map does not clean the rest. The parent runs as soon as it can:
 * both are on one CPU, so that is between two chunks. Points are random, and the same each time.
 */
TEST_F(killed, at_random)
{
	const struct sched_param param = { .sched_priority = 1 }, normal = {};
	size_t all = variant->size / getpagesize(), first = 0, cleaned, most = 0;
	struct dma_cache_counters before, after;
	uint64_t took[2], killed, chunk;
	unsigned int point, percent;
	struct timespec t;
	struct utsname kernel;
	int status, pipes[2];
	pid_t child;

	ASSERT_EQ(0, uname(&kernel));
	srandom(1);
	for (point = 0; point < variant->points; point++) {
		percent = 5 + random() % 90;
		before = dma_cache_counters();
		ASSERT_EQ(0, pipe(pipes));
		fflush(stdout);
		child = fork();
		if (!child)
			map_twice(&self->space, variant->size, variant->sparse, pipes[1]);
		close(pipes[1]);
		ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &param));
		ASSERT_EQ(sizeof(took), read(pipes[0], took, sizeof(took)));
		killed = took[0] * percent / 100;
		t = (struct timespec) {
			.tv_sec = killed / 1000000000, .tv_nsec = killed % 1000000000,
		};
		nanosleep(&t, NULL);
		killed = now();
		ASSERT_EQ(0, kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		killed = now() - killed;
		ASSERT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &normal));
		close(pipes[0]);
		after = dma_cache_counters();
		/* If it came too late, which it may where a map takes no longer than pinning */
		space_unmap(&self->space, variant->size);
		/* Of the first map, all or none */
		cleaned = after.clean.pages - before.clean.pages;
		first = cleaned ? all : 0;
		cleaned -= first;
		printf("# memtype-dma-killed: space=%s size=%zu percent=%u ", variant->space,
		       variant->size / SZ_1G, percent);
		printf("map=%lu unmap=%lu after=%lu cleaned=%zu unit=instructions\n", took[0],
		       took[1], killed, cleaned);
		fflush(stdout);
		if (!first)
			continue;
		EXPECT_TRUE(WIFSIGNALED(status));
		/* What is mapped is unmapped, and one chunk may have begun. */
		chunk = took[0] / (variant->size / SZ_2M);
		EXPECT_LE(killed, took[1] + 2 * chunk);
		/* One that can be preempted may have been pinning, but not at all of the points. */
		if (!strstr(kernel.version, "PREEMPT"))
			EXPECT_LT(0, cleaned);
		EXPECT_LT(cleaned, all);
		most = cleaned > most ? cleaned : most;
		EXPECT_LE(after.flush.pages - before.flush.pages - first, cleaned);
	}
	if (first)
		EXPECT_LT(0, most);
}

static struct sleeper {
	bool stop;
	uint64_t longest;	/* ns that it was late */
} sleeper;

/* A real-time thread that is late was kept waiting by a task that did not reschedule. */
static void *sleep_and_wake(void *unused)
{
	uint64_t due, late;

	while (!__atomic_load_n(&sleeper.stop, __ATOMIC_RELAXED)) {
		struct timespec t;

		due = now() + INTERVAL;
		t.tv_sec = due / 1000000000;
		t.tv_nsec = due % 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		late = now() - due;
		if (late > sleeper.longest)
			sleeper.longest = late;
	}
	return NULL;
}

/* 1 GiB at once, on one CPU with a thread that wants to run at any time. */
TEST_F(ioas, longest_stretch)
{
	const struct sched_param param = { .sched_priority = 1 };
	struct dma_cache_counters work;
	pthread_attr_t attr;
	const char *counted;
	pthread_t thread;
	cpu_set_t cpu;
	char *memory;
	int ret;

	if (variant->page != SZ_2M)
		SKIP(return, "1 GiB once is enough");
	if (sysconf(_SC_AVPHYS_PAGES) * getpagesize() < SZ_1G + 128 * SZ_1M)
		SKIP(return, "this machine has no 1 GiB of free memory");
	memory = alloc_memory(SZ_1G, SZ_2M);
	ASSERT_NE(NULL, memory);
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpu), &cpu));
	memset(&sleeper, 0, sizeof(sleeper));
	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &param);
	ASSERT_EQ(0, pthread_create(&thread, &attr, sleep_and_wake, NULL));
	ret = space_map(&self->space, memory, SZ_1G);
	ret = ret ?: space_unmap(&self->space, SZ_1G);
	__atomic_store_n(&sleeper.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, ret);
	counted = unit();
	printf("# memtype-dma-longest: domains=%d stretch=%lu ", variant->domains,
	       sleeper.longest);
	work = dma_cache_counters();
	printf("clean-chunk=%lu flush-chunk=%lu unit=%s\n", work.clean.longest_ns,
	       work.flush.longest_ns, counted);
	fflush(stdout);
}

TEST_HARNESS_MAIN
