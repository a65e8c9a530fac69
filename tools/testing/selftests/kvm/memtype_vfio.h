/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PCI device of a VM, by vfio-pci and /dev/iommu. What is here must work, or the test ends;
 * the steps themselves are in ../iommu/vfio_device.h.
 */
#ifndef SELFTEST_KVM_MEMTYPE_VFIO_H
#define SELFTEST_KVM_MEMTYPE_VFIO_H

#include "kvm_util.h"
#include "test_util.h"

#include "../iommu/vfio_device.h"

#define MUST_WORK(call)								\
	do {										\
		int must_ret = (call);							\
		TEST_ASSERT(must_ret >= 0, "%s: %s", #call, strerror(-must_ret));	\
	} while (0)

struct assigned {
	int fd;			/* the device */
	int iommufd;
	uint32_t id;		/* of the device in IOMMUFD */
	uint32_t ioas;		/* that it is attached to */
};

/* Opens a PCI device, by its name in sysfs, and attaches it to a new IOAS. */
static inline void assign(struct assigned *a, const char *device)
{
	MUST_WORK(vfio_bind(device));
	a->iommufd = open("/dev/iommu", O_RDWR);
	TEST_ASSERT(a->iommufd >= 0, "/dev/iommu: %s", strerror(errno));
	MUST_WORK(a->fd = vfio_open(device));
	MUST_WORK(vfio_bind_iommufd(a->fd, a->iommufd, &a->id));
	MUST_WORK(ioas_new(a->iommufd, &a->ioas));
	MUST_WORK(vfio_attach(a->fd, a->ioas));
}

/* The device stays with vfio-pci, and open as long as a BAR is mapped. */
static inline void unassign(struct assigned *a)
{
	close(a->fd);
	close(a->iommufd);
}

/* The first @size bytes of a BAR, at @address: VM_ALLOW_ANY_UNCACHED. */
static inline void map_bar(const struct assigned *a, uint32_t index, uint64_t size, void *address)
{
	uint64_t offset;

	MUST_WORK(vfio_region(a->fd, index, &offset, NULL));
	TEST_ASSERT(mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd,
			 offset) == address, "BAR %u: %s", index, strerror(errno));
}

/* Adds a device to a VM, or takes it away: @file is its own or its group's. 0, or errno is set. */
static inline int set_kvm_vfio(int kvm_vfio, int file, bool add)
{
	int32_t fd = file;

	return __kvm_device_attr_set(kvm_vfio, KVM_DEV_VFIO_FILE,
				     add ? KVM_DEV_VFIO_FILE_ADD : KVM_DEV_VFIO_FILE_DEL, &fd);
}

#endif /* SELFTEST_KVM_MEMTYPE_VFIO_H */
