// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO type1 and CPU caches: what a device sees whose DMA bypasses them, and what the CPU
 * sees after it.
 */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include <linux/dma_cache.h>

#include "type1_noncoherent.h"

static void print_row(const char *row, bool right)
{
	ksft_print_msg("memtype-cell: row=%s effective=%s forced=no\n", row,
		       right ? "new" : "old");
}

TEST(capability)
{
	int container = open("/dev/vfio/vfio", O_RDWR);

	ASSERT_GE(container, 0);
	EXPECT_EQ(dma_cache_counters().active,
		  ioctl(container, VFIO_CHECK_EXTENSION, VFIO_DMA_CACHE));
}

/* Nothing is done for a domain that enforces coherency, and its device sees all. */
TEST(coherent)
{
	struct rig here, *rig = &here;

	ASSERT_EQ(0, rig_open(rig, PAGES));
	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, map(rig));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_COHERENT, 1));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_COHERENT, 2));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_COHERENT));
	EXPECT_MAINTAINED(0, 0);
	rig_close(rig);
}

TEST_F(type1, read)
{
	struct rig *rig = &self->rig;
	struct dma_cache_counters done;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map(rig));
	done = maintained(rig);
	EXPECT_EQ(PAGES, done.clean.pages);
	EXPECT_EQ(0, done.flush.pages);
	/* One pair of fences, however fragmented the memory is */
	EXPECT_EQ(1, done.clean.chunks);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	print_row("type1: device reads after map",
		  device_reads(rig, VFIO_MOCK_NONCOHERENT, 1) == PAGES);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_EQ(PAGES, cpu_reads(rig, 1));
	EXPECT_EQ(0, check_rig(rig, 0));
}

TEST_F(type1, write)
{
	struct rig *rig = &self->rig;
	struct dma_cache_counters done;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	/* As long as nothing is flushed, the CPU has its own. */
	EXPECT_EQ(PAGES, cpu_reads(rig, 1));
	maintained(rig);
	ASSERT_EQ(0, unmap(rig));
	done = maintained(rig);
	EXPECT_EQ(0, done.clean.pages);
	EXPECT_EQ(PAGES, done.flush.pages);
	EXPECT_EQ(1, done.flush.chunks);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	print_row("type1: CPU reads after unmap", cpu_reads(rig, 2) == PAGES);
}

/* What a device cannot write needs no flush. */
TEST_F(type1, read_only)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map_for(rig, IOVA, rig->memory, PAGES * page_size,
			     VFIO_DMA_MAP_FLAG_READ));
	EXPECT_MAINTAINED(PAGES, 0);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, 0);
	EXPECT_EQ(PAGES, cpu_reads(rig, 1));
}

/*
 * What it cannot read is cleaned nevertheless: a dirty line that is evicted later would
 * overwrite what the device wrote.
 */
TEST_F(type1, write_only)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map_for(rig, IOVA, rig->memory, PAGES * page_size,
			     VFIO_DMA_MAP_FLAG_WRITE));
	EXPECT_MAINTAINED(PAGES, 0);
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
}

/* A page that an emulated device pins is cleaned for it, and flushed after it. */
TEST_F(type1, emulated_pins)
{
	struct rig *rig = &self->rig;
	__u64 iova = IOVA + page_size;
	int *device = &rig->device[VFIO_MOCK_EMULATED];

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(0, 0);
	ASSERT_EQ(0, ioctl(*device, VFIO_MOCK_PIN, &iova));
	EXPECT_MAINTAINED(1, 0);
	ASSERT_EQ(0, ioctl(*device, VFIO_MOCK_UNPIN));
	EXPECT_MAINTAINED(0, 1);
	/* The device is asked to unpin what is unmapped. */
	ASSERT_EQ(0, ioctl(*device, VFIO_MOCK_PIN, &iova));
	EXPECT_MAINTAINED(1, 0);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, 1);
	EXPECT_EQ(0, check_rig(rig, 0));
}

/* The pages of a mapping may be others the next time. */
TEST_F(type1, other_pages)
{
	struct rig *rig = &self->rig;
	unsigned int i;

	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	for (i = 1; i < 4; i++) {
		cpu_writes(rig, i);
		ASSERT_EQ(0, map(rig));
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, i));
		ASSERT_EQ(0, unmap(rig));
		EXPECT_MAINTAINED(PAGES, PAGES);
		ASSERT_EQ(0, madvise(rig->memory, PAGES * page_size, MADV_REMOVE));
	}
}

#if PROBE
/* A new domain is probed for superpages with two pages that have just been zeroed. */
TEST_F(type1, probe_pages)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PROBE, PROBE);
	/* It gets the same domain. */
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT2));
	EXPECT_MAINTAINED(0, 0);
}
#endif

/* One domain for both devices: maintained once, and only when the mapping goes. */
TEST_F(type1, two_devices)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT2));
	maintained(rig);
	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(PAGES, 0);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT2, 1));
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(0, 0);
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT2, 2));
	/* Its domain goes, and it is the last one. */
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT2));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	EXPECT_EQ(0, check_rig(rig, 0));
}

/* Two domains that need it: a page is maintained for the first one and after the last one. */
TEST_F(type1, two_domains)
{
	struct rig *rig = &self->rig;
	int ret;

	cpu_writes(rig, 1);
	ret = open_edu_group(rig);
	if (ret == -ENODEV)
		SKIP(return, NO_EDU);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	maintained(rig);
	ASSERT_EQ(0, attach(rig, EDU));
	if (ioctl(rig->container, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU))
		SKIP(return, "the IOMMU of this machine enforces coherency");
	EXPECT_MAINTAINED(PROBE, PROBE);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PROBE, PROBE);

	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(PAGES, 0);
	ASSERT_EQ(0, drop(rig, EDU));
	EXPECT_MAINTAINED(0, 0);
	ASSERT_EQ(0, attach(rig, EDU));
	EXPECT_MAINTAINED(PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));

	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES, 0);
	ASSERT_EQ(0, drop(rig, EDU));
	EXPECT_MAINTAINED(0, PAGES);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, 0);
	EXPECT_EQ(0, check_rig(rig, 0));
}

/* What the container maps already is cleaned when the first domain comes that needs it. */
TEST_F(type1, noncoherent_last)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(0, 0);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES + PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
}

/* Nothing more for a coherent domain that comes later */
TEST_F(type1, noncoherent_first)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(PAGES, 0);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	EXPECT_MAINTAINED(0, 0);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_COHERENT, 1));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
}

/* The pages stay mapped and pinned, and are flushed all the same. */
TEST_F(type1, noncoherent_leaves)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	maintained(rig);
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	EXPECT_EQ(0, check_rig(rig, 1));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_COHERENT, 2));

	cpu_writes(rig, 3);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES + PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 3));
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, 0);
}

/* The same with a large page, and with memory beside it that no device can write */
TEST_F(type1, noncoherent_leaves_large)
{
	struct rig *rig = &self->rig;
	unsigned char *small = rig->memory, *large;
	const size_t size = 2UL << 20;

	large = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		     -1, 0);
	ASSERT_NE(MAP_FAILED, large);
	rig->memory = large;
	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, map_for(rig, IOVA + size, small, page_size, VFIO_DMA_MAP_FLAG_READ));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	maintained(rig);
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	ASSERT_EQ(0, unmap(rig));
	rig->memory = small;
	ASSERT_EQ(0, munmap(large, size));
}

/* The other one still needs its pages as they are. */
TEST_F(type1, coherent_leaves)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	maintained(rig);
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_COHERENT));
	EXPECT_MAINTAINED(0, 0);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
}

/* With nothing but emulated devices, pages are not even pinned. */
TEST_F(type1, emulated_first)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(0, 0);
	EXPECT_EQ(0, check_rig(rig, 0));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES + PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));

	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	EXPECT_EQ(0, check_rig(rig, 0));

	/* What comes back may be other pages. */
	ASSERT_EQ(0, madvise(rig->memory, PAGES * page_size, MADV_REMOVE));
	cpu_writes(rig, 3);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES + PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 3));
	ASSERT_EQ(0, unmap(rig));
}

/* A page that somebody else has pinned is flushed with the others. */
TEST_F(type1, pinned)
{
	__u64 iova = IOVA + 3 * getpagesize();
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, ioctl(rig->device[VFIO_MOCK_EMULATED], VFIO_MOCK_PIN, &iova));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	maintained(rig);
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	ASSERT_EQ(0, ioctl(rig->device[VFIO_MOCK_EMULATED], VFIO_MOCK_UNPIN));
	EXPECT_MAINTAINED(0, 1);
	EXPECT_EQ(0, check_rig(rig, 0));

	/* A pin is asked back before an unmap, and its page is flushed then, too. */
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, ioctl(rig->device[VFIO_MOCK_EMULATED], VFIO_MOCK_PIN, &iova));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 3));
	maintained(rig);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES + 1);
	EXPECT_EQ(PAGES, cpu_reads(rig, 3));
	EXPECT_EQ(0, check_rig(rig, 0));
}

/* Nobody pins reserved memory, but it is memory. */
TEST_F(type1, reserved)
{
	struct rig *rig = &self->rig;
	void *page;

	page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, rig->mock, 0);
	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map_at(rig, IOVA, page, page_size));
	EXPECT_MAINTAINED(1, 0);
	ASSERT_EQ(0, unmap_at(rig, IOVA, page_size));
	EXPECT_MAINTAINED(0, 1);
}

/* MMIO has nothing in a cache that is worth writing back. */
TEST_F(type1, mmio)
{
	struct rig *rig = &self->rig;
	struct dma_cache_counters done;
	char edu[NAME_MAX + 1], path[512];
	void *bar;
	int fd;

	if (!find_edu(edu))
		SKIP(return, NO_EDU);
	snprintf(path, sizeof(path), PCI_DEVICES "%s/resource0", edu);
	fd = open(path, O_RDWR);
	bar = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, bar);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map_at(rig, IOVA, bar, page_size));
	ASSERT_EQ(0, unmap_at(rig, IOVA, page_size));
	done = maintained(rig);
	EXPECT_EQ(0, done.clean.pages);
	EXPECT_EQ(0, done.flush.pages);
	EXPECT_EQ(1, done.clean.skipped);
	EXPECT_EQ(1, done.flush.skipped);
}

static void *map_no_map(unsigned int prot)
{
	struct memtype_test_setup setup = {
		.size = page_size, .prot = prot,
		.flags = MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_NO_MAP,
	};
	int fd = open("/sys/kernel/debug/memtype_test", O_RDWR);
	void *page = MAP_FAILED;

	if (fd < 0)
		return MAP_FAILED;
	if (!ioctl(fd, MEMTYPE_TEST_SETUP, &setup))
		page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return page;
}

/* The linear map lacks it, so that nobody could clean what a process has in the caches. */
TEST_F(type1, no_map)
{
	struct rig *rig = &self->rig;
	void *page = map_no_map(MEMTYPE_TEST_WB);

	if (page == MAP_FAILED && errno == EOPNOTSUPP)
		SKIP(return, "only arm64 has no-map memory");
	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_EQ(-EFAULT, map_at(rig, IOVA, page, page_size));
	ASSERT_EQ(0, munmap(page, page_size));

	page = map_no_map(MEMTYPE_TEST_WC);
	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(0, map_at(rig, IOVA, page, page_size));
	EXPECT_EQ(0, unmap_at(rig, IOVA, page_size));
	ASSERT_EQ(0, munmap(page, page_size));
}

/* A process that just ends leaves its memory to others. */
TEST_F(type1, exit)
{
	struct rig *rig = &self->rig;
	unsigned char *memory = rig->memory;
	int status;
	pid_t pid;

	cpu_writes(rig, 1);
	/* The child has to be the only one that holds the container. */
	rig_close_fds(rig);
	maintained(rig);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rig own;

		if (rig_open(&own, PAGES))
			_exit(1);
		munmap(own.memory, PAGES * page_size);
		own.memory = memory;
		_exit(add(&own, VFIO_MOCK_NONCOHERENT) || map(&own) ||
		      device_writes(&own, VFIO_MOCK_NONCOHERENT, 2) ||
		      cpu_reads(&own, 1) != PAGES);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_MAINTAINED(PAGES + PROBE, PAGES + PROBE);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	EXPECT_EQ(0, check_rig(rig, 0));
}

/* One unmap for many mappings */
TEST_F(type1, unmap_all)
{
	struct vfio_iommu_type1_dma_unmap all = {
		.argsz = sizeof(all), .flags = VFIO_DMA_UNMAP_FLAG_ALL,
	};
	struct rig *rig = &self->rig;
	unsigned int i;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	for (i = 0; i < PAGES; i++)
		ASSERT_EQ(0, map_at(rig, IOVA + i * page_size, rig->memory + i * page_size,
				    page_size));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	maintained(rig);
	ASSERT_EQ(0, ioctl(rig->container, VFIO_IOMMU_UNMAP_DMA, &all));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
}

/* How often an emulated device has pinned a page, and whether that is unmapped now */
static atomic_uint pins;
static atomic_bool unmapping;

#define ROUNDS	50

/* Each time, an emulated device is opened, pins a page, and is closed while that is unmapped. */
static void *open_and_close(void *data)
{
	struct rig *rig = data;
	__u64 iova = IOVA;
	long error = 0;
	int i;

	for (i = 0; i < ROUNDS && !error; i++) {
		error = open_device(rig, VFIO_MOCK_EMULATED);
		while (!error && ioctl(rig->device[VFIO_MOCK_EMULATED], VFIO_MOCK_PIN, &iova))
			sched_yield();
		pins++;
		while (!error && !unmapping)
			sched_yield();
		/* Until the pin is asked back, which takes vfio_mock longer than this. */
		usleep(5000);
		unmapping = false;
		close_fd(&rig->device[VFIO_MOCK_EMULATED]);
	}
	pins = ROUNDS;		/* An error must not leave the other thread waiting. */
	return (void *)error;
}

static int ask_back_while_device_goes(void)
{
	pthread_t thread;
	struct rig rig;
	void *error;
	int i;

	if (rig_open(&rig, PAGES) || add(&rig, VFIO_MOCK_NONCOHERENT) ||
	    attach(&rig, VFIO_MOCK_EMULATED) ||
	    pthread_create(&thread, NULL, open_and_close, &rig))
		return 1;
	for (i = 1; i <= ROUNDS; i++) {
		if (map(&rig))
			return 1;
		while (pins < i)
			sched_yield();
		unmapping = true;
		if (unmap(&rig))
			return 1;
	}
	return pthread_join(thread, &error) || error;
}

/* How often the threads of a process have slept, if now all sleep and no signal wakes them. */
static unsigned long count_sleeps(pid_t pid)
{
	unsigned long all = 0, sleeps;
	struct dirent *entry;
	char path[512], line[128];
	bool asleep = true;
	FILE *file;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (file && fgets(line, sizeof(line), file)) {
			if (!strncmp(line, "State:", 6))
				asleep &= !!strchr(line, 'D');
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &sleeps) == 1)
				all += sleeps;
		}
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	return asleep ? all : 0;
}

/*
 * A pin is asked back while its device goes: neither waits for a lock that the other has.
 * Threads that do would never end, nor could they be killed.
 */
TEST_F(type1, device_goes)
{
	unsigned long before = 0, now;
	int status = 0, same = 0;
	pid_t pid;

	rig_close_fds(&self->rig);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(ask_back_while_device_goes());
	while (same < 50 && !waitpid(pid, &status, WNOHANG)) {
		usleep(100000);
		now = count_sleeps(pid);
		same = now && now == before ? same + 1 : 0;
		before = now;
	}
	ASSERT_LT(same, 50)
		TH_LOG("all threads wait, and nothing happens any more");
	EXPECT_EQ(0, status);
}

/* In the tests above, and before */
TEST_F(type1, no_warning)
{
	EXPECT_FALSE(kernel_warned());
}

TEST_HARNESS_MAIN
