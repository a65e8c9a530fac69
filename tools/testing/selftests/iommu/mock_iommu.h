/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mock devices of IOMMUFD, what an mdev driver does, and the memory behind the mock IOMMU
 * (drivers/iommu/iommufd/selftest_shadow.c). What can fail returns a negative error number.
 */
#ifndef SELFTEST_MOCK_IOMMU_H
#define SELFTEST_MOCK_IOMMU_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "vfio_device.h"

#define __EXPORTED_HEADERS__
#include "../../../../drivers/iommu/iommufd/iommufd_test.h"

/* Devices whose DMA goes to the simulated memory, by kind of domain */
#define NONCOHERENT	MOCK_FLAGS_DEVICE_SHADOW
#define COHERENT	(MOCK_FLAGS_DEVICE_SHADOW | MOCK_FLAGS_DEVICE_ENFORCE_CC)

#define DMA_WRITE	MOCK_DMA_RW_WRITE
#define DMA_LATE	(MOCK_DMA_RW_WRITE | MOCK_DMA_RW_LATE)

/* Bytes of a batch of IOMMUFD, if no test says otherwise */
#define MOCK_BATCH	65536

static inline int mock_command(int fd, struct iommu_test_cmd *cmd, uint32_t op, uint32_t id)
{
	cmd->size = sizeof(*cmd);
	cmd->op = op;
	cmd->id = id;
	return call(fd, IOMMU_TEST_CMD, cmd);
}

/* The same, by a file of its own: nothing of it stays. */
static inline int mock_ask(struct iommu_test_cmd *cmd, uint32_t op)
{
	int fd = open("/dev/iommu", O_RDWR), ret;

	if (fd < 0)
		return -errno;
	ret = mock_command(fd, cmd, op, 0);
	close(fd);
	return ret;
}

/* A device, attached until it is destroyed, and its domain */
struct mock_device {
	uint32_t stdev, idev, hwpt;
	bool coherent;
};

/* Attaches a new device to an IOAS or HWPT. */
static inline int mock_attach(int fd, uint32_t pt, uint32_t flags, struct mock_device *mock)
{
	struct iommu_test_cmd cmd = { .mock_domain_flags.dev_flags = flags };
	int ret = mock_command(fd, &cmd, IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, pt);

	if (ret)
		return ret;
	mock->stdev = cmd.mock_domain_flags.out_stdev_id;
	mock->idev = cmd.mock_domain_flags.out_idev_id;
	mock->hwpt = cmd.mock_domain_flags.out_hwpt_id;
	mock->coherent = flags & MOCK_FLAGS_DEVICE_ENFORCE_CC;
	return 0;
}

static inline int mock_replace(int fd, struct mock_device *mock, uint32_t pt)
{
	struct iommu_test_cmd cmd = { .mock_domain_replace.pt_id = pt };
	int ret = mock_command(fd, &cmd, IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, mock->stdev);

	if (!ret)
		mock->hwpt = cmd.mock_domain_replace.pt_id;
	return ret;
}

/* DMA of a device that is attached to @hwpt */
static inline int mock_dma(int fd, uint32_t hwpt, uint64_t iova, void *buf, size_t len,
			   uint32_t flags)
{
	struct iommu_test_cmd cmd = {
		.md_dma_rw = {
			.iova = iova,
			.length = len,
			.uptr = (uintptr_t)buf,
			.flags = flags,
		},
	};

	return mock_command(fd, &cmd, IOMMU_TEST_OP_MD_DMA_RW, hwpt);
}

/* Pins of an access, which has a file of its own */

static inline int access_create(int fd, uint32_t ioas, uint32_t *access)
{
	struct iommu_test_cmd cmd = {
		.create_access.flags = MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES,
	};
	int ret = mock_command(fd, &cmd, IOMMU_TEST_OP_CREATE_ACCESS, ioas);

	*access = cmd.create_access.out_access_fd;
	return ret;
}

static inline int access_pin(int fd, uint32_t access, uint64_t iova, uint64_t len, uint32_t *item)
{
	struct iommu_test_cmd cmd = {
		.access_pages = {
			.iova = iova, .length = len, .flags = MOCK_FLAGS_ACCESS_WRITE,
		},
	};
	int ret = mock_command(fd, &cmd, IOMMU_TEST_OP_ACCESS_PAGES, access);

	*item = cmd.access_pages.out_access_pages_id;
	return ret;
}

static inline int access_unpin(int fd, uint32_t access, uint32_t item)
{
	struct iommu_test_cmd cmd = { .destroy_access_pages.access_pages_id = item };

	return mock_command(fd, &cmd, IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, access);
}

/* 0 if each page has so many pins */
static inline int check_pins(void *addr, size_t len, unsigned int pins)
{
	struct iommu_test_cmd cmd = {
		.check_refs = { .length = len, .uptr = (uintptr_t)addr, .refs = pins },
	};

	return mock_ask(&cmd, IOMMU_TEST_OP_MD_CHECK_REFS);
}

/* From now on, for everybody: how many bytes a batch of page frames may take */
static inline int batch_limit(uint32_t limit)
{
	struct iommu_test_cmd cmd = { .memory_limit.limit = limit };

	return mock_ask(&cmd, IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT);
}

/* What went wrong in the simulated memory since boot, in pages */
struct mock_faults {
	uint64_t uncleaned, unflushed, unpinned, lost;
};

static inline int mock_faults(struct mock_faults *faults)
{
	struct iommu_test_cmd cmd = {};
	int ret = mock_ask(&cmd, IOMMU_TEST_OP_MD_SHADOW_STATS);

	*faults = (struct mock_faults) {
		cmd.md_shadow_stats.out_uncleaned, cmd.md_shadow_stats.out_unflushed,
		cmd.md_shadow_stats.out_unpinned, cmd.md_shadow_stats.out_lost,
	};
	return ret;
}

#endif /* SELFTEST_MOCK_IOMMU_H */
