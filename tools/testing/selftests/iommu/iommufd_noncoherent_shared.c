// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU cache maintenance of IOMMUFD where memory has several users: areas that share it, other
 * domains, accesses, processes.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "iommufd_noncoherent.h"

static int hwpt_alloc_parent(int fd, __u32 idev, __u32 ioas, __u32 *hwpt)
{
	struct iommu_hwpt_alloc cmd = {
		.size = sizeof(cmd),
		.flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
		.dev_id = idev,
		.pt_id = ioas,
	};
	int rc = call(fd, IOMMU_HWPT_ALLOC, &cmd);

	*hwpt = cmd.out_hwpt_id;
	return rc;
}

static int hwpt_alloc_nested(int fd, __u32 idev, __u32 parent, __u32 *hwpt)
{
	struct iommu_hwpt_selftest data = { .iotlb = IOMMU_TEST_IOTLB_DEFAULT };
	struct iommu_hwpt_alloc cmd = {
		.size = sizeof(cmd),
		.dev_id = idev,
		.pt_id = parent,
		.data_type = IOMMU_HWPT_DATA_SELFTEST,
		.data_len = sizeof(data),
		.data_uptr = (uintptr_t)&data,
	};
	int rc = call(fd, IOMMU_HWPT_ALLOC, &cmd);

	*hwpt = cmd.out_hwpt_id;
	return rc;
}

FIXTURE(shared)
{
	struct context ctx, other;
	char *map, *data;
	size_t len;
	struct counters start, last;
};

FIXTURE_SETUP(shared)
{
	self->start = count();
	if (!self->start.active)
		SKIP(return, "the kernel maintains no caches: dma_cache is off");
	self->len = 16 * page_size;
	self->map = shared_memory(_metadata, self->len);
	self->data = anonymous(_metadata, self->len);
	scribble(self->map, self->len);
	context_open(_metadata, &self->ctx);
	self->other.fd = self->ctx.fd;
	ASSERT_EQ(0, ioas_new(self->other.fd, &self->other.ioas));
	self->last = self->start;
}

FIXTURE_TEARDOWN(shared)
{
	close(self->ctx.fd);
	EXPECT_EQ(0, munmap(self->map, self->len));
	expect_clean_slate(_metadata, &self->start);
}

/* Areas share their pages and take slices of them: 0-11 and 4-15 of 16. */
TEST_F(shared, slices_of_a_copy_are_maintained_once)
{
	size_t slice = 12 * page_size, offset = 4 * page_size;
	struct mock_device *domain = self->ctx.domains, *other = self->other.domains;
	int fd = self->ctx.fd;
	__u32 source;

	ASSERT_EQ(0, ioas_new(fd, &source));
	ASSERT_EQ(0, ioas_map(fd, source, self->map, self->len, IOVA));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->other, 'n', 0));
	ASSERT_TRUE(maintained(&self->last, 0, 0));

	ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, IOVA, source, IOVA, slice));
	ASSERT_TRUE(maintained(&self->last, 12, 0));
	ASSERT_EQ(0, ioas_copy(fd, self->other.ioas, IOVA, source, IOVA + offset, slice));
	ASSERT_TRUE(maintained(&self->last, 4, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, slice));
	ASSERT_TRUE(device_reads(fd, other->hwpt, IOVA, self->map + offset, slice));

	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, offset));
	ASSERT_TRUE(device_writes(fd, other, IOVA, self->data + offset, slice));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, slice));
	ASSERT_TRUE(maintained(&self->last, 0, 4));
	ASSERT_TRUE(cpu_reads(self->map, self->data, offset));
	ASSERT_EQ(0, ioas_unmap(fd, self->other.ioas, IOVA, slice));
	ASSERT_TRUE(maintained(&self->last, 0, 12));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, source, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
}

/* What no device can write needs no flush. */
TEST_F(shared, read_only)
{
	struct mock_device *domain = self->ctx.domains;
	int fd = self->ctx.fd;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map_for(fd, self->ctx.ioas, self->map, self->len, IOVA,
				  IOMMU_IOAS_MAP_READABLE));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, check_pins(self->map, self->len, 0));
	/* For the end of the test: these are not flushed. */
	self->start.cleaned += 16;
}

/* The flush must not wait until the coherent domain lets go of the pages. */
TEST_F(shared, coherent_domain_holds_what_is_flushed)
{
	struct mock_device *domain = self->ctx.domains, *other = self->other.domains;
	int fd = self->ctx.fd;

	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, ioas_map(fd, self->other.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, IOVA, self->other.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));

	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	ASSERT_TRUE(device_reads(fd, other->hwpt, IOVA, self->data, self->len));
	ASSERT_EQ(0, check_pins(self->map, self->len, 1));

	ASSERT_TRUE(device_writes(fd, other, IOVA, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->other.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

/* The same, of an access that pins half of the pages */
TEST_F(shared, access_holds_what_is_flushed)
{
	struct mock_device *domain = self->ctx.domains;
	__u32 access, item;
	int fd = self->ctx.fd, round;

	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_EQ(0, access_create(fd, self->ctx.ioas, &access));
	ASSERT_EQ(0, access_pin(fd, access, IOVA + 4 * page_size, 8 * page_size, &item));
	ASSERT_TRUE(maintained(&self->last, 8, 0));

	for (round = 0; round < 2; round++) {
		scribble(self->map, self->len);
		ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
		ASSERT_TRUE(maintained(&self->last, 16, 0));
		ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
		ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
		ASSERT_EQ(0, domain_destroy(fd, domain));
		self->ctx.ndomains = 0;
		ASSERT_TRUE(maintained(&self->last, 0, 16));
		ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
		ASSERT_EQ(0, check_pins(self->map, 4 * page_size, 0));
		ASSERT_EQ(0, check_pins(self->map + 4 * page_size, 8 * page_size, 1));
	}
	ASSERT_EQ(0, access_unpin(fd, access, item));
	close(access);
	ASSERT_EQ(0, check_pins(self->map, self->len, 0));
	ASSERT_TRUE(maintained(&self->last, 0, 8));
}

/* Contiguous page frames with holes in what is unpinned at the detach: pages 2-3 and 6-7 of 16 */
TEST_F(shared, accesses_hold_parts_of_a_hugepage)
{
	size_t len = self->len;
	struct mock_device *domain = self->ctx.domains;
	char *map = huge_page(_metadata);
	__u32 access, items[2];
	int fd = self->ctx.fd, i;

	scribble(map, len);
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, map, len, IOVA));
	ASSERT_EQ(0, access_create(fd, self->ctx.ioas, &access));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, access_pin(fd, access, IOVA + (2 + 4 * i) * page_size, 2 * page_size,
					&items[i]));
	ASSERT_TRUE(maintained(&self->last, 4, 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, map, len));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, len));
	ASSERT_EQ(0, domain_destroy(fd, domain));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(map, self->data, len));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, access_unpin(fd, access, items[i]));
	close(access);
	ASSERT_TRUE(maintained(&self->last, 0, 4));
}

/* What an emulated device pins is cleaned for it, and flushed after it, once for all its pins. */
TEST_F(shared, access_pins)
{
	__u32 access, items[2];
	int fd = self->ctx.fd, i;

	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_EQ(0, access_create(fd, self->ctx.ioas, &access));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, access_pin(fd, access, IOVA + 4 * page_size, 8 * page_size,
					&items[i]));
		ASSERT_TRUE(maintained(&self->last, i ? 0 : 8, 0));
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, access_unpin(fd, access, items[i]));
		ASSERT_TRUE(maintained(&self->last, 0, i ? 8 : 0));
	}
	close(access);
	ASSERT_EQ(0, check_pins(self->map, self->len, 0));
}

/* 3.5 pages from the middle of a page: all 4 are maintained, and the other domain holds them. */
TEST_F(shared, partial_pages_are_maintained_whole)
{
	size_t offset = page_size / 2, len = 3 * page_size + offset;
	struct mock_device *domain = self->ctx.domains;
	__u64 iova = IOVA + offset;
	int fd = self->ctx.fd;

	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map(fd, self->other.ioas, self->map + offset, len, iova));
	ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, iova, self->other.ioas, iova, len));
	ASSERT_TRUE(maintained(&self->last, 4, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, iova, self->map + offset, len));
	ASSERT_TRUE(device_writes(fd, domain, iova, self->data, len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, iova, len));
	ASSERT_TRUE(maintained(&self->last, 0, 4));
	ASSERT_TRUE(cpu_reads(self->map + offset, self->data, len));
}

/* The pages of the IOMMU are half as large, so that IOVA and memory need not be alike. */
TEST_F(shared, iova_begins_within_a_page)
{
	size_t offset[2][2] = { { page_size / 2, 0 }, { 0, page_size / 2 } };
	struct mock_device *domain = self->ctx.domains;
	int fd = self->ctx.fd, i;

	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	for (i = 0; i < 2; i++) {
		size_t len = 4 * page_size - offset[i][1];
		char *map = self->map + offset[i][1];
		__u64 iova = IOVA + offset[i][0];

		ASSERT_EQ(0, ioas_map(fd, self->other.ioas, map, len, iova));
		ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, iova, self->other.ioas, iova, len));
		ASSERT_TRUE(maintained(&self->last, 4, 0));
		ASSERT_TRUE(device_writes(fd, domain, iova, self->data, len));
		ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, iova, len));
		ASSERT_TRUE(maintained(&self->last, 0, 4));
		ASSERT_TRUE(cpu_reads(map, self->data, len));
		ASSERT_EQ(0, ioas_unmap(fd, self->other.ioas, iova, len));
	}
}

/* Only VFIO's type1 of version 1 can take a part out of a mapping. */
TEST_F(shared, split)
{
	struct iommu_vfio_ioas ioas = {
		.size = sizeof(ioas),
		.op = IOMMU_VFIO_IOAS_SET,
		.ioas_id = self->ctx.ioas,
	};
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)self->map,
		.iova = IOVA,
		.size = self->len,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = IOVA + 4 * page_size,
		.size = 4 * page_size,
	};
	size_t end = 8 * page_size;
	struct mock_device *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	char byte;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, call(fd, IOMMU_VFIO_IOAS, &ioas));
	ASSERT_EQ(0, ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
	ASSERT_EQ(0, call(fd, VFIO_IOMMU_MAP_DMA, &map));
	ASSERT_TRUE(maintained(&self->last, 16, 0));

	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, call(fd, VFIO_IOMMU_UNMAP_DMA, &unmap));
	ASSERT_TRUE(maintained(&self->last, 0, 4));
	ASSERT_TRUE(cpu_reads(self->map + 4 * page_size, self->data + 4 * page_size,
			      4 * page_size));
	ASSERT_EQ(-EFAULT, mock_dma(fd, domain->hwpt, IOVA + 4 * page_size, &byte, 1, 0));
	ASSERT_EQ(0, check_pins(self->map, 4 * page_size, 1));
	ASSERT_EQ(0, check_pins(self->map + 4 * page_size, 4 * page_size, 0));

	/* One domain less changes nothing for the parts. */
	ASSERT_EQ(0, domain_destroy(fd, &self->ctx.domains[1]));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, 4 * page_size));
	ASSERT_TRUE(device_writes(fd, domain, IOVA + end, self->data + end, self->len - end));
	unmap.iova = IOVA;
	unmap.size = self->len;
	ASSERT_EQ(0, call(fd, VFIO_IOMMU_UNMAP_DMA, &unmap));
	ASSERT_TRUE(maintained(&self->last, 0, 12));
	ASSERT_TRUE(cpu_reads(self->map, self->data, 4 * page_size));
	ASSERT_TRUE(cpu_reads(self->map + end, self->data + end, self->len - end));
}

TEST_F(shared, replace_within_an_ioas_maintains_nothing)
{
	struct mock_device *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	__u32 hwpt;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_EQ(0, hwpt_new(fd, domain->idev, self->ctx.ioas, &hwpt));
	ASSERT_EQ(0, mock_replace(fd, domain, hwpt));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, iommufd_destroy(fd, domain->stdev));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, iommufd_destroy(fd, hwpt));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

TEST_F(shared, replace_changes_what_is_reachable)
{
	struct mock_device *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	char *map;

	map = anonymous(_metadata, 8 * page_size);
	scribble(map, 8 * page_size);
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_EQ(0, ioas_map(fd, self->other.ioas, map, 8 * page_size, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, mock_replace(fd, domain, self->other.ioas));
	ASSERT_TRUE(maintained(&self->last, 8, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, map, 8 * page_size));
}

TEST_F(shared, nested_parent)
{
	struct mock_device *domain = self->ctx.domains;
	__u32 device_ioas, parent, nested;
	int fd = self->ctx.fd;

	/* The device's first IOAS is empty. */
	device_ioas = self->other.ioas;
	ASSERT_EQ(0, mock_attach(fd, device_ioas, NONCOHERENT, domain));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, hwpt_alloc_parent(fd, domain->idev, self->ctx.ioas, &parent));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_EQ(0, hwpt_alloc_nested(fd, domain->idev, parent, &nested));
	ASSERT_EQ(0, mock_replace(fd, domain, nested));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(nested, domain->hwpt);
	ASSERT_TRUE(device_reads(fd, nested, IOVA, self->map, self->len));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

/* The device goes on writing until the kernel takes the memory away from it. */
TEST_F(shared, process_dies)
{
	char *data = shared_memory(_metadata, self->len);
	int status, ready[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(ready));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct context ctx;

		close(ready[0]);
		context_open(_metadata, &ctx);
		ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
		ASSERT_EQ(0, ioas_map(ctx.fd, ctx.ioas, self->map, self->len, IOVA));
		ASSERT_TRUE(device_reads(ctx.fd, ctx.domains[0].hwpt, IOVA, self->map, self->len));
		ASSERT_TRUE(device_writes(ctx.fd, &ctx.domains[0], IOVA, data, self->len));
		ASSERT_EQ(1, write(ready[1], "", 1));
		for (;;)
			pause();
	}
	close(ready[1]);
	EXPECT_EQ(1, read(ready[0], &byte, 1));
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(maintained(&self->last, 16, 16));
	ASSERT_TRUE(cpu_reads(self->map, data, self->len));
}

/* KVM trusts what the device's IOMMU can do, so the domain must do it. */
TEST_F(shared, coherency_agrees)
{
	struct mock_device *domain = self->ctx.domains, coherent, refused, automatic;
	int fd = self->ctx.fd;
	__u32 hwpt, coherent_hwpt, nested;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, hwpt_alloc_parent(fd, domain->idev, self->ctx.ioas, &hwpt));

	/* A coherent device and a domain that is not */
	EXPECT_EQ(-EINVAL, mock_attach(fd, hwpt, COHERENT, &refused));
	ASSERT_EQ(0, mock_attach(fd, self->ctx.ioas, COHERENT, &coherent));
	EXPECT_NE(coherent.hwpt, domain->hwpt);
	EXPECT_EQ(-EINVAL, mock_replace(fd, &coherent, hwpt));
	ASSERT_EQ(0, hwpt_alloc_nested(fd, domain->idev, hwpt, &nested));
	EXPECT_EQ(-EINVAL, mock_replace(fd, &coherent, nested));
	EXPECT_EQ(-EINVAL, mock_attach(fd, nested, COHERENT, &refused));

	/* The other way around, the driver refuses. */
	ASSERT_EQ(0, hwpt_new(fd, coherent.idev, self->ctx.ioas, &coherent_hwpt));
	EXPECT_EQ(-EINVAL, mock_attach(fd, coherent_hwpt, NONCOHERENT, &refused));
	EXPECT_EQ(-EINVAL, mock_replace(fd, domain, coherent_hwpt));

	/* What agrees can be had, and the automatic domains are shared only with their like. */
	ASSERT_EQ(0, mock_attach(fd, self->ctx.ioas, COHERENT, &automatic));
	EXPECT_EQ(coherent.hwpt, automatic.hwpt);
	ASSERT_EQ(0, mock_attach(fd, self->ctx.ioas, NONCOHERENT, &automatic));
	EXPECT_EQ(domain->hwpt, automatic.hwpt);
	ASSERT_EQ(0, mock_replace(fd, &coherent, coherent_hwpt));
	ASSERT_EQ(0, mock_replace(fd, &automatic, nested));

	/* And all of that in the other order: the IOAS has a coherent domain first. */
	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, context_attach(&self->other, 'n', 0));
	EXPECT_NE(self->other.domains[0].hwpt, self->other.domains[1].hwpt);

	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
	ASSERT_TRUE(device_reads(fd, coherent.hwpt, IOVA, self->map, self->len));
}

/* What the tests rest upon: the simulated caches do not go away by themselves. */
TEST_F(shared, simulation_is_not_coherent)
{
	struct mock_device *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	char *old, byte = 0;

	old = anonymous(_metadata, self->len);
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'c', 0));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	memcpy(old, self->map, self->len);

	/* What the CPU writes later stays in its caches. */
	scribble(self->map, self->len);
	ASSERT_TRUE(device_reads(fd, domain[0].hwpt, IOVA, old, self->len));
	ASSERT_TRUE(device_reads(fd, domain[1].hwpt, IOVA, self->map, self->len));

	/* What a device writes does not reach them. */
	memcpy(old, self->map, self->len);
	ASSERT_TRUE(device_writes(fd, &domain[0], IOVA, self->data, self->len));
	ASSERT_TRUE(cpu_reads(self->map, old, self->len));
	ASSERT_TRUE(device_writes(fd, &domain[1], IOVA, self->data, self->len));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));

	EXPECT_EQ(-EFAULT, mock_dma(fd, domain[0].hwpt, IOVA + self->len - 1, self->data, 2, 0));
	EXPECT_EQ(-EFAULT, mock_dma(fd, domain[0].hwpt, 0, &byte, 1, DMA_WRITE));
	EXPECT_EQ(-EOPNOTSUPP, mock_dma(fd, domain[0].hwpt, IOVA, &byte, 1, MOCK_DMA_RW_LATE));
	EXPECT_EQ(-EOPNOTSUPP, mock_dma(fd, domain[1].hwpt, IOVA, &byte, 1, DMA_LATE));
	EXPECT_EQ(-EOPNOTSUPP, mock_dma(fd, domain[0].hwpt, IOVA, &byte, 1, 1 << 8));
}

TEST_HARNESS_MAIN
