/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of VFIO type1 and CPU caches share: a container with the devices of
 * drivers/vfio/vfio_mock.c, in front of the mock IOMMU whose memory only cache maintenance
 * synchronises with what the CPU has.
 */
#ifndef SELFTEST_TYPE1_NONCOHERENT_H
#define SELFTEST_TYPE1_NONCOHERENT_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_counters.h"
#include "fault_injection.h"
#include "mock_iommu.h"
#include "vfio_device.h"
#include "../../../../drivers/vfio/vfio_mock.h"
#include "../../../../mm/memtype_test.h"

#define PAGES	16
/* The largest page size of a kernel */
#define MAX_PAGE	65536
#define IOVA	0x1000000ul

/* A real device beside the mocks: of QEMU, behind whatever IOMMU the machine has */
#define EDU	VFIO_MOCK_DEVICES
#define NO_EDU	"this machine has no edu device"

static unsigned long page_size;

static __attribute__((constructor)) void set_page_size(void)
{
	page_size = sysconf(_SC_PAGE_SIZE);
}

/* Of a container; -1: not open */
struct rig {
	int container, mock;
	int group[VFIO_MOCK_DEVICES + 1], device[VFIO_MOCK_DEVICES + 1];
	bool has_iommu;
	unsigned char *memory;
	unsigned int pages;		/* of the memory */
	int nth;			/* for faults_on() and faults_off() */
	struct dma_cache_counters last;
	struct mock_faults wrong;
};

/* What was maintained since the last call */
static inline struct dma_cache_counters maintained(struct rig *rig)
{
	struct dma_cache_counters now = dma_cache_counters(), done = now;

	done.clean.pages -= rig->last.clean.pages;
	done.clean.chunks -= rig->last.clean.chunks;
	done.clean.skipped -= rig->last.clean.skipped;
	done.flush.pages -= rig->last.flush.pages;
	done.flush.chunks -= rig->last.flush.chunks;
	done.flush.skipped -= rig->last.flush.skipped;
	rig->last = now;
	return done;
}

/* Expect exactly so many pages cleaned and flushed since the last look. */
#define EXPECT_MAINTAINED(_clean, _flush) do {				\
	struct dma_cache_counters __now = maintained(rig);		\
	EXPECT_EQ(_clean, __now.clean.pages);				\
	EXPECT_EQ(_flush, __now.flush.pages);				\
} while (0)

/* The mock IOMMU saw no page that was mapped or left without what it needs. */
static inline bool nothing_wrong(struct rig *rig)
{
	struct mock_faults now;

	return !mock_faults(&now) && !memcmp(&now, &rig->wrong, sizeof(now));
}

/* 0 if so many pins are on each page of the memory */
static inline int check_rig(struct rig *rig, unsigned int pins)
{
	return check_pins(rig->memory, rig->pages * page_size, pins);
}

static inline int attach(struct rig *rig, unsigned int which)
{
	if (ioctl(rig->group[which], VFIO_GROUP_SET_CONTAINER, &rig->container))
		return -errno;
	if (!rig->has_iommu && ioctl(rig->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return -errno;
	rig->has_iommu = true;
	return 0;
}

static inline int open_device(struct rig *rig, enum vfio_mock_device which)
{
	struct vfio_mock_find find = { .device = which };
	int fd;

	if (ioctl(rig->mock, VFIO_MOCK_FIND, &find))
		return -errno;
	fd = ioctl(rig->group[which], VFIO_GROUP_GET_DEVICE_FD, find.name);
	if (fd < 0)
		return -errno;
	rig->device[which] = fd;
	return 0;
}

static inline int add(struct rig *rig, enum vfio_mock_device which)
{
	return attach(rig, which) ?: open_device(rig, which);
}

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Takes a device out of the container, and its domain if it was the only one there. */
static inline int drop(struct rig *rig, unsigned int which)
{
	close_fd(&rig->device[which]);
	return ioctl(rig->group[which], VFIO_GROUP_UNSET_CONTAINER) ? -errno : 0;
}

static inline int map_for(struct rig *rig, unsigned long iova, void *from, unsigned long size,
			  unsigned int flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = flags,
		.vaddr = (uintptr_t)from, .iova = iova, .size = size,
	};

	return ioctl(rig->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static inline int map_at(struct rig *rig, unsigned long iova, void *from, unsigned long size)
{
	return map_for(rig, iova, from, size, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
}

static inline int map(struct rig *rig)
{
	return map_at(rig, IOVA, rig->memory, rig->pages * page_size);
}

static inline int unmap_at(struct rig *rig, unsigned long iova, unsigned long size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = iova, .size = size,
	};

	return ioctl(rig->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
}

static inline int unmap(struct rig *rig)
{
	return unmap_at(rig, IOVA, rig->pages * page_size);
}

static inline int dma(struct rig *rig, enum vfio_mock_device which, unsigned long iova, void *buf,
		      unsigned int flags)
{
	struct vfio_mock_dma dma = {
		.iova = iova, .uptr = (uintptr_t)buf, .length = page_size, .flags = flags,
	};

	return ioctl(rig->device[which], VFIO_MOCK_DMA, &dma) ? -errno : 0;
}

/* What page @index has in @version; no two are the same. */
static inline void fill(unsigned char *page, unsigned int index, unsigned int version)
{
	unsigned long i;

	for (i = 0; i < page_size; i++)
		page[i] = i * 7 + index * 31 + version * 101 + i / 256;
	for (i = 0; i < sizeof(index); i++) {
		page[i] = index >> 8 * i;
		page[sizeof(index) + i] = version >> 8 * i;
	}
}

static inline bool is(const unsigned char *page, unsigned int index, unsigned int version)
{
	unsigned char want[MAX_PAGE];

	fill(want, index, version);
	return !memcmp(page, want, page_size);
}

static inline void cpu_writes(struct rig *rig, unsigned int version)
{
	unsigned int i;

	for (i = 0; i < rig->pages; i++)
		fill(rig->memory + i * page_size, i, version);
}

/* How many pages the CPU sees in this version */
static inline unsigned int cpu_reads(struct rig *rig, unsigned int version)
{
	unsigned int i, right = 0;

	for (i = 0; i < rig->pages; i++)
		right += is(rig->memory + i * page_size, i, version);
	return right;
}

/*
 * The device writes all pages: the even ones at once, the odd ones as late as the IOMMU lets
 * it, which is before the IOTLB sync of the unmap.
 */
static inline int device_writes(struct rig *rig, enum vfio_mock_device which, unsigned int version)
{
	unsigned int late = which == VFIO_MOCK_COHERENT ? 0 : MOCK_DMA_RW_LATE;
	unsigned char buf[MAX_PAGE];
	unsigned int i;
	int ret = 0;

	for (i = 0; i < rig->pages && !ret; i++) {
		fill(buf, i, version);
		ret = dma(rig, which, IOVA + i * page_size, buf,
			  MOCK_DMA_RW_WRITE | (i % 2 ? late : 0));
	}
	return ret;
}

/* How many pages the device sees in this version */
static inline unsigned int device_reads(struct rig *rig, enum vfio_mock_device which,
					unsigned int version)
{
	unsigned char buf[MAX_PAGE];
	unsigned int i, right = 0;

	for (i = 0; i < rig->pages; i++)
		right += !dma(rig, which, IOVA + i * page_size, buf, 0) && is(buf, i, version);
	return right;
}

/* Gives edu to vfio-pci, and opens its group; -ENODEV if there is no such device. */
static inline int open_edu_group(struct rig *rig)
{
	char edu[NAME_MAX + 1], path[PATH_MAX];
	int ret;

	if (!find_edu(edu))
		return -ENODEV;
	ret = vfio_bind(edu) ?: vfio_path(edu, true, path);
	if (ret)
		ksft_exit_fail_msg("%s: %s\n", edu, strerror(-ret));
	rig->group[EDU] = open(path, O_RDWR);
	return rig->group[EDU] < 0 ? -errno : 0;
}

static inline int complain(const char *about)
{
	ksft_print_msg("%s: %s\n", about, strerror(errno));
	return -1;
}

/*
 * Touched in an order that leaves no page beside its neighbour in physical memory, and shared, so
 * that a child can leave it behind.
 */
static inline unsigned char *rig_memory(unsigned int pages)
{
	unsigned char *memory = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	/* 7 is no divisor of any number of pages here. */
	for (i = 0; memory != MAP_FAILED && i < pages; i++)
		memory[i * 7 % pages * page_size] = 1;
	return memory;
}

static inline int rig_open(struct rig *rig, unsigned int pages)
{
	/* No mock device has an MSI domain that could isolate interrupts. */
	static const char unsafe[] =
		"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
	unsigned int i;
	char path[64];

	*rig = (struct rig) { .container = -1, .pages = pages };
	for (i = 0; i <= EDU; i++) {
		rig->group[i] = -1;
		rig->device[i] = -1;
	}

	if (write_file(unsafe, "Y"))
		return complain(unsafe);
	rig->mock = open("/dev/vfio_mock", O_RDWR);
	if (rig->mock < 0)
		return complain("/dev/vfio_mock");
	rig->container = open("/dev/vfio/vfio", O_RDWR);
	if (rig->container < 0)
		return complain("/dev/vfio/vfio");
	for (i = 0; i < VFIO_MOCK_DEVICES; i++) {
		struct vfio_mock_find find = { .device = i };

		if (ioctl(rig->mock, VFIO_MOCK_FIND, &find))
			return complain("VFIO_MOCK_FIND");
		snprintf(path, sizeof(path), "/dev/vfio/%u", find.group);
		rig->group[i] = open(path, O_RDWR);
		if (rig->group[i] < 0)
			return complain(path);
	}
	rig->memory = rig_memory(pages);
	if (rig->memory == MAP_FAILED)
		return complain("mmap");
	if (mock_faults(&rig->wrong))
		return complain("IOMMU_TEST_OP_MD_SHADOW_STATS");
	rig->nth = faults_open();
	maintained(rig);
	return 0;
}

static inline void rig_close_fds(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i <= EDU; i++) {
		close_fd(&rig->device[i]);
		close_fd(&rig->group[i]);
	}
	close_fd(&rig->container);
	close_fd(&rig->mock);
	close_fd(&rig->nth);
}

static inline void rig_close(struct rig *rig)
{
	rig_close_fds(rig);
	munmap(rig->memory, rig->pages * page_size);
}

/* The mock IOMMU warns of what no driver may do: whether it did so since boot */
static inline bool kernel_warned(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char record[8192];
	bool warned = false;
	ssize_t n;

	if (fd < 0)
		ksft_exit_fail_msg("/dev/kmsg: %s\n", strerror(errno));
	/* EPIPE: some were overwritten. */
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		record[n > 0 ? n : 0] = '\0';
		warned |= !!strstr(record, "WARNING: ");
	}
	close(fd);
	return warned;
}

FIXTURE(type1)
{
	struct rig rig;
};

FIXTURE_SETUP(type1)
{
	if (!dma_cache_counters().active)
		SKIP(return, "dma_cache is off: nothing is maintained");
	ASSERT_EQ(0, rig_open(&self->rig, PAGES));
}

/* However a test ends, no page may be left with old data or a pin. */
FIXTURE_TEARDOWN(type1)
{
	rig_close(&self->rig);
	EXPECT_TRUE(nothing_wrong(&self->rig));
}

#endif /* SELFTEST_TYPE1_NONCOHERENT_H */
