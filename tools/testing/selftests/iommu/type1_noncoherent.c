// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO type1 and CPU caches: what a device sees whose DMA bypasses them, and what the CPU
 * sees after it. The devices are drivers/vfio/vfio_mock.c's, in front of the mock IOMMU
 * whose memory only cache maintenance synchronises with what the CPU has.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dma_cache.h>
#include <linux/vfio.h>

#define __EXPORTED_HEADERS__
#include "../../../../drivers/iommu/iommufd/iommufd_test.h"
#include "../../../../drivers/vfio/vfio_mock.h"

#include "../kselftest_harness.h"

#define PAGES	16
/* The largest page size of a kernel */
#define MAX_PAGE	65536
#define IOVA	0x1000000ul
/* Two pages that probe the domain for superpages */
#define PROBE	2

/* A real device beside the mocks: of QEMU, behind whatever IOMMU the machine has */
#define EDU	VFIO_MOCK_DEVICES
#define NO_EDU	"this machine has no edu device"

static unsigned long page_size;

struct counters {
	long long clean, clean_chunks, clean_skipped, flush, flush_chunks, flush_skipped;
};

/* Of a container; -1: not open */
struct rig {
	int container, mock;
	int group[VFIO_MOCK_DEVICES + 1], device[VFIO_MOCK_DEVICES + 1];
	bool has_iommu;
	unsigned char *memory;
	struct counters last;
	struct iommu_test_cmd wrong;
};

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* Also says whether anything is maintained: -1 if there is no such thing. */
static int read_counters(struct counters *c)
{
	static const char * const names[] = {
		"clean_pages", "clean_chunks", "clean_skipped",
		"flush_pages", "flush_chunks", "flush_skipped",
	};
	FILE *file = fopen("/sys/kernel/debug/dma_cache", "r");
	char line[128], name[64], value[64];
	int active = -1;
	unsigned int i;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file) &&
	       sscanf(line, "%63s %63s", name, value) == 2) {
		if (!strcmp(name, "active"))
			active = !strcmp(value, "yes");
		for (i = 0; i < ARRAY_SIZE(names); i++)
			if (!strcmp(name, names[i]))
				((long long *)c)[i] = atoll(value);
	}
	fclose(file);
	return active;
}

/* What was maintained since the last call */
static struct counters maintained(struct rig *rig)
{
	struct counters now = {}, was = rig->last;

	read_counters(&now);
	rig->last = now;
	return (struct counters) {
		now.clean - was.clean, now.clean_chunks - was.clean_chunks,
		now.clean_skipped - was.clean_skipped, now.flush - was.flush,
		now.flush_chunks - was.flush_chunks, now.flush_skipped - was.flush_skipped,
	};
}

/* Expect exactly so many pages cleaned and flushed since the last look. */
#define EXPECT_MAINTAINED(_clean, _flush) do {				\
	struct counters __now = maintained(rig);			\
	EXPECT_EQ(_clean, __now.clean);					\
	EXPECT_EQ(_flush, __now.flush);					\
} while (0)

/* The mock IOMMU saw no page that was mapped or left without what it needs. */
static int mock_stats(struct iommu_test_cmd *cmd)
{
	int fd = open("/dev/iommu", O_RDWR), ret;

	*cmd = (struct iommu_test_cmd) {
		.size = sizeof(*cmd), .op = IOMMU_TEST_OP_MD_SHADOW_STATS,
	};
	ret = fd < 0 || ioctl(fd, IOMMU_TEST_CMD, cmd) ? -errno : 0;
	close(fd);
	return ret;
}

static bool nothing_wrong(struct rig *rig)
{
	struct iommu_test_cmd now;

	return !mock_stats(&now) &&
	       !memcmp(&now.md_shadow_stats, &rig->wrong.md_shadow_stats,
		       sizeof(now.md_shadow_stats));
}

/* 0 if so many pins are on each page of the memory */
static int check_pins(struct rig *rig, unsigned int pins)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_MD_CHECK_REFS,
		.check_refs = {
			.length = PAGES * page_size,
			.uptr = (uintptr_t)rig->memory,
			.refs = pins,
		},
	};
	int fd = open("/dev/iommu", O_RDWR), ret;

	ret = fd < 0 || ioctl(fd, IOMMU_TEST_CMD, &cmd) ? -errno : 0;
	close(fd);
	return ret;
}

static int attach(struct rig *rig, unsigned int which)
{
	if (ioctl(rig->group[which], VFIO_GROUP_SET_CONTAINER, &rig->container))
		return -errno;
	if (!rig->has_iommu && ioctl(rig->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return -errno;
	rig->has_iommu = true;
	return 0;
}

static int open_device(struct rig *rig, enum vfio_mock_device which)
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

static int add(struct rig *rig, enum vfio_mock_device which)
{
	return attach(rig, which) ?: open_device(rig, which);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Takes a device out of the container, and its domain if it was the only one there. */
static int drop(struct rig *rig, unsigned int which)
{
	close_fd(&rig->device[which]);
	return ioctl(rig->group[which], VFIO_GROUP_UNSET_CONTAINER) ? -errno : 0;
}

static int map_at(struct rig *rig, unsigned long iova, void *from, unsigned long size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)from, .iova = iova, .size = size,
	};

	return ioctl(rig->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static int map(struct rig *rig)
{
	return map_at(rig, IOVA, rig->memory, PAGES * page_size);
}

static int unmap_at(struct rig *rig, unsigned long iova, unsigned long size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = iova, .size = size,
	};

	return ioctl(rig->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
}

static int unmap(struct rig *rig)
{
	return unmap_at(rig, IOVA, PAGES * page_size);
}

static int dma(struct rig *rig, enum vfio_mock_device which, unsigned long iova, void *buf,
	       unsigned int flags)
{
	struct vfio_mock_dma dma = {
		.iova = iova, .uptr = (uintptr_t)buf, .length = page_size, .flags = flags,
	};

	return ioctl(rig->device[which], VFIO_MOCK_DMA, &dma) ? -errno : 0;
}

/* What page @index has in @version; no two are the same. */
static void fill(unsigned char *page, unsigned int index, unsigned int version)
{
	unsigned long i;

	for (i = 0; i < page_size; i++)
		page[i] = i * 7 + index * 31 + version * 101 + i / 256;
}

static bool is(const unsigned char *page, unsigned int index, unsigned int version)
{
	unsigned char want[MAX_PAGE];

	fill(want, index, version);
	return !memcmp(page, want, page_size);
}

static void cpu_writes(struct rig *rig, unsigned int version)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		fill(rig->memory + i * page_size, i, version);
}

/* How many pages the CPU sees in this version */
static unsigned int cpu_reads(struct rig *rig, unsigned int version)
{
	unsigned int i, right = 0;

	for (i = 0; i < PAGES; i++)
		right += is(rig->memory + i * page_size, i, version);
	return right;
}

/*
 * The device writes all pages: the even ones at once, the odd ones as late as the IOMMU lets
 * it, which is before the IOTLB sync of the unmap.
 */
static int device_writes(struct rig *rig, enum vfio_mock_device which, unsigned int version)
{
	unsigned int late = which == VFIO_MOCK_COHERENT ? 0 : MOCK_DMA_RW_LATE;
	unsigned char buf[MAX_PAGE];
	unsigned int i;
	int ret = 0;

	for (i = 0; i < PAGES && !ret; i++) {
		fill(buf, i, version);
		ret = dma(rig, which, IOVA + i * page_size, buf,
			  MOCK_DMA_RW_WRITE | (i % 2 ? late : 0));
	}
	return ret;
}

/* How many pages the device sees in this version */
static unsigned int device_reads(struct rig *rig, enum vfio_mock_device which,
				 unsigned int version)
{
	unsigned char buf[MAX_PAGE];
	unsigned int i, right = 0;

	for (i = 0; i < PAGES; i++)
		right += !dma(rig, which, IOVA + i * page_size, buf, 0) && is(buf, i, version);
	return right;
}

static void print_row(const char *row, bool right)
{
	ksft_print_msg("memtype-cell: row=%s effective=%s forced=no\n", row,
		       right ? "new" : "old");
}

/* QEMU's edu device: its directory in sysfs */
static bool find_edu(char path[static 64])
{
	static const char edu[] = "pci:v00001234d000011E8";
	DIR *devices = opendir("/sys/bus/pci/devices");
	char name[128], alias[sizeof(edu)];
	struct dirent *entry;
	bool found = false;

	while (devices && !found && (entry = readdir(devices))) {
		FILE *file;

		snprintf(path, 64, "/sys/bus/pci/devices/%.32s", entry->d_name);
		snprintf(name, sizeof(name), "%s/modalias", path);
		file = fopen(name, "r");
		if (!file)
			continue;
		found = fgets(alias, sizeof(alias), file) && !strcmp(alias, edu);
		fclose(file);
	}
	if (devices)
		closedir(devices);
	return found;
}

/* Gives edu to vfio-pci; 0 if there is none. */
static int open_edu_group(struct rig *rig)
{
	char edu[64], path[128], link[128] = "";

	if (!find_edu(edu))
		return 0;
	snprintf(path, sizeof(path), "%s/driver_override", edu);
	if (write_text(path, "vfio-pci") ||
	    write_text("/sys/bus/pci/drivers_probe", strrchr(edu, '/') + 1))
		return -1;
	snprintf(path, sizeof(path), "%s/iommu_group", edu);
	if (readlink(path, link, sizeof(link) - 1) < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(link, '/'));
	rig->group[EDU] = open(path, O_RDWR);
	return rig->group[EDU] < 0 ? -1 : 1;
}

static int complain(const char *about)
{
	ksft_print_msg("%s: %s\n", about, strerror(errno));
	return -1;
}

static int rig_open(struct rig *rig)
{
	/* No mock device has an MSI domain that could isolate interrupts. */
	static const char unsafe[] =
		"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
	unsigned int i;
	char path[64];

	page_size = sysconf(_SC_PAGE_SIZE);
	*rig = (struct rig) { .container = -1 };
	for (i = 0; i <= EDU; i++) {
		rig->group[i] = -1;
		rig->device[i] = -1;
	}

	if (write_text(unsafe, "Y"))
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
	/* Shared, so that a child can leave it behind */
	rig->memory = mmap(NULL, PAGES * page_size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (rig->memory == MAP_FAILED)
		return complain("mmap");
	if (mock_stats(&rig->wrong))
		return complain("IOMMU_TEST_OP_MD_SHADOW_STATS");
	maintained(rig);
	return 0;
}

static void rig_close_fds(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i <= EDU; i++) {
		close_fd(&rig->device[i]);
		close_fd(&rig->group[i]);
	}
	close_fd(&rig->container);
	close_fd(&rig->mock);
}

static void rig_close(struct rig *rig)
{
	rig_close_fds(rig);
	munmap(rig->memory, PAGES * page_size);
}

/* Any allocation may fail, and silently. */
static int allow_any_failure(void)
{
	return write_text("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") ?:
	       write_text("/sys/kernel/debug/failslab/verbose", "0") ?:
	       write_text("/sys/kernel/debug/fail_iommufd/verbose", "0");
}

/*
 * Let an allocation (or a call of the mock IOMMU) of this thread fail, the @nth from now.
 * Returns the file for failed(), as open() allocates too.
 */
static int fail_nth(unsigned int nth)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR);
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		return -errno;
	return fd;
}

/* Whether it did fail; from now on, none does. */
static bool failed(int fd)
{
	char text[16] = "1";
	bool hit;

	hit = pread(fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
	if (pwrite(fd, "0", 1, 0) != 1)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
	close(fd);
	return hit;
}

TEST(capability)
{
	int container = open("/dev/vfio/vfio", O_RDWR);
	struct counters c;

	ASSERT_GE(container, 0);
	EXPECT_EQ(read_counters(&c) == 1,
		  ioctl(container, VFIO_CHECK_EXTENSION, VFIO_DMA_CACHE));
}

/* Nothing is done for a domain that enforces coherency, and its device sees all. */
TEST(coherent)
{
	struct rig here, *rig = &here;

	ASSERT_EQ(0, rig_open(rig));
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

/* Whatever fails while a group with a real IOMMU behind it comes, nothing is left of it. */
TEST(real_attach_fails)
{
	struct rig here, *rig = &here;
	struct counters done;
	bool hit = true;
	unsigned int n;
	int nth, ret;

	ASSERT_EQ(0, rig_open(rig));
	ret = open_edu_group(rig);
	if (!ret)
		SKIP(return, NO_EDU);
	ASSERT_EQ(1, ret);
	ASSERT_EQ(0, allow_any_failure());
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, map_at(rig, IOVA, rig->memory, page_size));
	ASSERT_EQ(0, map_at(rig, IOVA + page_size, rig->memory + page_size, page_size));
	maintained(rig);
	for (n = 1; hit; n++) {
		nth = fail_nth(n);
		ASSERT_GE(nth, 0);
		ret = attach(rig, EDU);
		hit = failed(nth);
		if (!ret)
			ASSERT_EQ(0, drop(rig, EDU));
		done = maintained(rig);
		EXPECT_EQ(done.clean, done.flush);
		EXPECT_EQ(0, check_pins(rig, 0));
	}
	EXPECT_EQ(0, ret);
	rig_close(rig);
}

FIXTURE(type1) {
	struct rig rig;
};

FIXTURE_SETUP(type1)
{
	struct counters c;

	if (read_counters(&c) != 1)
		SKIP(return, "dma_cache is off: nothing is maintained");
	ASSERT_EQ(0, rig_open(&self->rig));
	ASSERT_EQ(0, allow_any_failure());
}

/* However a test ends, no page may be left with old data or a pin. */
FIXTURE_TEARDOWN(type1)
{
	rig_close(&self->rig);
	EXPECT_TRUE(nothing_wrong(&self->rig));
}

TEST_F(type1, read)
{
	struct rig *rig = &self->rig;
	struct counters done;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map(rig));
	done = maintained(rig);
	EXPECT_EQ(PAGES, done.clean);
	EXPECT_EQ(0, done.flush);
	/* One pair of fences, however fragmented the memory is */
	EXPECT_EQ(1, done.clean_chunks);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	print_row("type1: device reads after map",
		  device_reads(rig, VFIO_MOCK_NONCOHERENT, 1) == PAGES);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_EQ(PAGES, cpu_reads(rig, 1));
	EXPECT_EQ(0, check_pins(rig, 0));
}

TEST_F(type1, write)
{
	struct rig *rig = &self->rig;
	struct counters done;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	/* As long as nothing is flushed, the CPU has its own. */
	EXPECT_EQ(PAGES, cpu_reads(rig, 1));
	maintained(rig);
	ASSERT_EQ(0, unmap(rig));
	done = maintained(rig);
	EXPECT_EQ(0, done.clean);
	EXPECT_EQ(PAGES, done.flush);
	EXPECT_EQ(1, done.flush_chunks);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	print_row("type1: CPU reads after unmap", cpu_reads(rig, 2) == PAGES);
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

/* Without memory, each range is unmapped, flushed and unpinned at once. */
TEST_F(type1, slow_unmap)
{
	struct rig *rig = &self->rig;
	bool hit = true;
	unsigned int n;
	int nth;

	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	for (n = 1; hit; n++) {
		cpu_writes(rig, 1);
		ASSERT_EQ(0, map(rig));
		ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
		maintained(rig);
		nth = fail_nth(n);
		ASSERT_GE(nth, 0);
		EXPECT_EQ(0, unmap(rig));
		hit = failed(nth);
		EXPECT_MAINTAINED(0, PAGES);
		EXPECT_EQ(PAGES, cpu_reads(rig, 2));
		EXPECT_EQ(0, check_pins(rig, 0));
	}
	EXPECT_GT(n, 2);
}

/* An error of a map undoes all of it. */
TEST_F(type1, map_fails)
{
	struct rig *rig = &self->rig;
	bool hit = true;
	unsigned int n;
	int nth, ret;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	for (n = 1; hit; n++) {
		nth = fail_nth(n);
		ASSERT_GE(nth, 0);
		ret = map_at(rig, IOVA, rig->memory, page_size);
		hit = failed(nth);
		if (ret) {
			/* Of this one page, nothing was cleaned ahead. */
			struct counters done = maintained(rig);

			EXPECT_TRUE(hit);
			EXPECT_EQ(done.clean, done.flush);
		} else {
			ASSERT_EQ(0, unmap_at(rig, IOVA, page_size));
			EXPECT_MAINTAINED(1, 1);
		}
		EXPECT_EQ(0, check_pins(rig, 0));
	}
	EXPECT_GT(n, 3);

	hit = true;
	for (n = 1; hit; n++) {
		nth = fail_nth(n);
		ASSERT_GE(nth, 0);
		ret = map(rig);
		hit = failed(nth);
		if (!ret) {
			EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
			ASSERT_EQ(0, unmap(rig));
		}
		EXPECT_EQ(PAGES, cpu_reads(rig, 1));
		EXPECT_EQ(0, check_pins(rig, 0));
	}
	EXPECT_EQ(0, ret);
}

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
	EXPECT_EQ(0, check_pins(rig, 0));
}

/* Two domains that need it: a page is maintained for the first one and after the last one. */
TEST_F(type1, two_domains)
{
	struct rig *rig = &self->rig;
	struct counters probe;
	int ret;

	cpu_writes(rig, 1);
	ret = open_edu_group(rig);
	if (!ret)
		SKIP(return, NO_EDU);
	ASSERT_EQ(1, ret);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, attach(rig, EDU));
	probe = maintained(rig);
	if (!probe.clean)
		SKIP(return, "the IOMMU of this machine enforces coherency");
	EXPECT_EQ(PROBE, probe.clean);
	EXPECT_EQ(PROBE, probe.flush);

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
	EXPECT_EQ(0, check_pins(rig, 0));
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
	EXPECT_EQ(0, check_pins(rig, 1));
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

/* Attach with each allocation failing in turn: what was done is undone, @pins stay. */
static void attach_and_fail(struct __test_metadata *_metadata, struct rig *rig, unsigned int pins)
{
	bool hit = true, undone = false;
	struct counters done;
	unsigned int n;

	for (n = 1; hit; n++) {
		int nth, ret;

		nth = fail_nth(n);
		ASSERT_GE(nth, 0);
		ret = attach(rig, VFIO_MOCK_NONCOHERENT);
		hit = failed(nth);
		done = maintained(rig);
		if (ret) {
			EXPECT_EQ(done.clean, done.flush);
			undone |= done.clean > PROBE;
		} else {
			/* Without memory for it there is no probe. */
			EXPECT_TRUE(done.flush == PROBE || (hit && !done.flush));
			EXPECT_EQ(PAGES + done.flush, done.clean);
			ASSERT_EQ(0, open_device(rig, VFIO_MOCK_NONCOHERENT));
			EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
			ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
			EXPECT_MAINTAINED(0, PAGES);
		}
		EXPECT_EQ(0, check_pins(rig, pins));
	}
	EXPECT_TRUE(undone);
}

/* An error of an attach undoes all that the new domain maps, and the next one begins anew. */
TEST_F(type1, attach_fails)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, map_at(rig, IOVA, rig->memory, page_size));
	ASSERT_EQ(0, map_at(rig, IOVA + page_size, rig->memory + page_size,
			    (PAGES - 1) * page_size));
	maintained(rig);
	attach_and_fail(_metadata, rig, 1);
}

/* With nothing but emulated devices, pages are not even pinned. */
TEST_F(type1, emulated_first)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, map(rig));
	EXPECT_MAINTAINED(0, 0);
	EXPECT_EQ(0, check_pins(rig, 0));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES + PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));

	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 2));
	EXPECT_EQ(0, check_pins(rig, 0));

	/* What comes back may be other pages. */
	ASSERT_EQ(0, madvise(rig->memory, PAGES * page_size, MADV_REMOVE));
	cpu_writes(rig, 3);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_MAINTAINED(PAGES + PROBE, PROBE);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 3));
	ASSERT_EQ(0, unmap(rig));
}

TEST_F(type1, emulated_attach_fails)
{
	struct rig *rig = &self->rig;
	unsigned int i;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	/* One by one, so that no page is cleaned ahead of the others */
	for (i = 0; i < PAGES; i++)
		ASSERT_EQ(0, map_at(rig, IOVA + i * page_size, rig->memory + i * page_size,
				    page_size));
	attach_and_fail(_metadata, rig, 0);
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
	EXPECT_EQ(0, check_pins(rig, 0));

	/* A pin is asked back before an unmap. */
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, ioctl(rig->device[VFIO_MOCK_EMULATED], VFIO_MOCK_PIN, &iova));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 3));
	maintained(rig);
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, PAGES);
	EXPECT_EQ(PAGES, cpu_reads(rig, 3));
	EXPECT_EQ(0, check_pins(rig, 0));
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
	struct counters done;
	char path[128];
	void *bar;
	int fd;

	if (!find_edu(path))
		SKIP(return, NO_EDU);
	strcat(path, "/resource0");
	fd = open(path, O_RDWR);
	bar = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, bar);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	ASSERT_EQ(0, map_at(rig, IOVA, bar, page_size));
	ASSERT_EQ(0, unmap_at(rig, IOVA, page_size));
	done = maintained(rig);
	EXPECT_EQ(0, done.clean);
	EXPECT_EQ(0, done.flush);
	EXPECT_EQ(1, done.clean_skipped);
	EXPECT_EQ(1, done.flush_skipped);
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

		if (rig_open(&own))
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
	EXPECT_EQ(0, check_pins(rig, 0));
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

/* The mock IOMMU warns of what no driver may do: so far, in the tests above, there was nothing. */
TEST_F(type1, no_warning)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char record[8192];
	ssize_t n;

	ASSERT_GE(fd, 0);
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		record[n > 0 ? n : 0] = '\0';
		EXPECT_EQ(NULL, strstr(record, "WARNING: "));
	}
	close(fd);
}

TEST_HARNESS_MAIN
