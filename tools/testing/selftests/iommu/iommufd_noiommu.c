// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that no IOMMU translates, in an IOAS all the same: what that maps is maintained as for
 * any domain that does not enforce coherency, since nothing enforces it for the device.
 */
#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_counters.h"
#include "vfio_device.h"

#include <linux/dma_cache.h>

/* QEMU's pci-testdev, which the machine has on a bus beside the IOMMU */
#define TESTDEV_VENDOR	"0x1b36"
#define TESTDEV_DEVICE	"0x0005"
#define UNSAFE	"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
#define PAGES	4
#define IOVA	0x1000000ul

FIXTURE(noiommu)
{
	char name[NAME_MAX + 1];
	int iommufd, device;
	uint32_t ioas, id;
	long page_size;
	char *memory;
};

static void release(const char *name)
{
	vfio_unbind(name);
	write_file(UNSAFE, "N");
}

FIXTURE_SETUP(noiommu)
{
	self->iommufd = -1;
	self->device = -1;
	self->page_size = sysconf(_SC_PAGESIZE);
	ASSERT_TRUE(find_pci(self->name, TESTDEV_VENDOR, TESTDEV_DEVICE));
	ASSERT_EQ(0, write_file(UNSAFE, "Y"));
	ASSERT_EQ(0, vfio_bind(self->name));
	self->device = vfio_open(self->name);
	if (self->device == -ENOENT) {
		release(self->name);
		SKIP(return, "IOMMUFD of this kernel serves no device without an IOMMU");
	}
	ASSERT_GE(self->device, 0);
	self->iommufd = open("/dev/iommu", O_RDWR);
	ASSERT_GE(self->iommufd, 0);
	ASSERT_EQ(0, vfio_bind_iommufd(self->device, self->iommufd, &self->id));
	ASSERT_EQ(0, ioas_new(self->iommufd, &self->ioas));
	self->memory = mmap(NULL, PAGES * self->page_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->memory);
}

FIXTURE_TEARDOWN(noiommu)
{
	if (self->device >= 0)
		close(self->device);
	if (self->iommufd >= 0)
		close(self->iommufd);
	release(self->name);
}

/* Whether so many pages were cleaned, and so many flushed, since it was last asked */
static bool has_maintained(struct dma_cache_counters *last, unsigned int cleaned,
			   unsigned int flushed)
{
	struct dma_cache_counters now = dma_cache_counters();
	bool right = now.clean.pages - last->clean.pages == cleaned &&
		     now.flush.pages - last->flush.pages == flushed;

	*last = now;
	return right;
}

TEST_F(noiommu, maintained)
{
	size_t size = PAGES * self->page_size;
	struct dma_cache_counters last;

	ASSERT_EQ(0, vfio_attach(self->device, self->ioas));
	last = dma_cache_counters();
	ASSERT_TRUE(last.active);
	ASSERT_EQ(0, ioas_map(self->iommufd, self->ioas, self->memory, size, IOVA));
	EXPECT_TRUE(has_maintained(&last, PAGES, 0));
	ASSERT_EQ(0, ioas_unmap(self->iommufd, self->ioas, IOVA, size));
	EXPECT_TRUE(has_maintained(&last, 0, PAGES));

	/* Nothing is done for what no device reaches, until one comes, and when it goes. */
	ASSERT_EQ(0, vfio_detach(self->device));
	ASSERT_EQ(0, ioas_map(self->iommufd, self->ioas, self->memory, size, IOVA));
	EXPECT_TRUE(has_maintained(&last, 0, 0));
	ASSERT_EQ(0, vfio_attach(self->device, self->ioas));
	EXPECT_TRUE(has_maintained(&last, PAGES, 0));
	ASSERT_EQ(0, vfio_detach(self->device));
	EXPECT_TRUE(has_maintained(&last, 0, PAGES));
}

/* What it asks for is what it gets told. */
TEST_F(noiommu, told)
{
	struct iommu_option ask = {
		.size = sizeof(ask), .option_id = IOMMU_OPTION_HWPT_COHERENCY,
		.op = IOMMU_OPTION_OP_GET,
	};

	ASSERT_EQ(0, hwpt_new(self->iommufd, self->id, self->ioas, &ask.object_id));
	ASSERT_EQ(0, call(self->iommufd, IOMMU_OPTION, &ask));
	EXPECT_EQ(IOMMU_HWPT_COHERENCY_MAINTAINED, ask.val64);
}

TEST_HARNESS_MAIN
