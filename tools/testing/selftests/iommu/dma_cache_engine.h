/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device that does not snoop, on a machine whose caches are a model, which is in
 * tools/testing/memtype/cache/. Its memory is in the hands of IOMMUFD, type1 or vhost-vdpa.
 *
 * What can fail returns a negative error number.
 */
#ifndef SELFTEST_DMA_CACHE_ENGINE_H
#define SELFTEST_DMA_CACHE_ENGINE_H

#include "vdpa_device.h"
#include "vfio_device.h"
#include "../../memtype/cache/engine.h"

/* What a machine's line is, at the least */
#define LINE		64

/* What maps memory; COMPAT is what IOMMUFD does in the place of type1. */
enum api { IOMMUFD, TYPE1, COMPAT, VDPA };
#define VP_VDPA		"/sys/bus/pci/drivers/vp-vdpa"

struct rig {
	enum api api;
	int container, group, device;
	uint32_t id, ioas;
	uint64_t *bar;
};

static inline bool engine_find(char name[NAME_MAX + 1])
{
	char vendor[16], device[16];

	snprintf(vendor, sizeof(vendor), "0x%x", ENGINE_VENDOR);
	snprintf(device, sizeof(device), "0x%x", ENGINE_DEVICE);
	return find_pci(name, vendor, device);
}

/* @name is below PCI_DEVICES; what follows its last slash is what the device is called. */
static inline int engine_open_type1(struct rig *rig, const char *name)
{
	const char *slash = strrchr(name, '/');
	char path[PATH_MAX];
	int ret = vfio_path(name, true, path);

	if (ret)
		return ret;
	rig->container = open(rig->api == TYPE1 ? "/dev/vfio/vfio" : "/dev/iommu", O_RDWR);
	rig->group = open(path, O_RDWR);
	if (rig->container < 0 || rig->group < 0 ||
	    ioctl(rig->group, VFIO_GROUP_SET_CONTAINER, &rig->container) ||
	    /* The first version lets a part of a mapping be unmapped. */
	    ioctl(rig->container, VFIO_SET_IOMMU,
		  rig->api == TYPE1 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU))
		return -errno;
	rig->device = ioctl(rig->group, VFIO_GROUP_GET_DEVICE_FD, slash ? slash + 1 : name);
	return rig->device < 0 ? -errno : 0;
}

static inline int engine_open_iommufd(struct rig *rig, const char *name)
{
	rig->container = open("/dev/iommu", O_RDWR);
	rig->device = vfio_open(name);
	if (rig->container < 0)
		return -errno;
	if (rig->device < 0)
		return rig->device;
	return vfio_bind_iommufd(rig->device, rig->container, &rig->id) ?:
	       ioas_new(rig->container, &rig->ioas) ?: vfio_attach(rig->device, rig->ioas);
}

/* A device of VFIO's, with nothing mapped; after an error, too, it is to be closed. */
static inline int engine_open_vfio(struct rig *rig, enum api api, const char *name)
{
	*rig = (struct rig) { .api = api, .container = -1, .group = -1, .device = -1 };
	return api == IOMMUFD ? engine_open_iommufd(rig, name) : engine_open_type1(rig, name);
}

/* Its registers, whoever drives it */
static inline int engine_map_bar(struct rig *rig)
{
	char name[NAME_MAX + 1], path[512];
	int fd;

	if (!engine_find(name))
		return -ENODEV;
	snprintf(path, sizeof(path), PCI_DEVICES "%s/resource0", name);
	fd = open(path, O_RDWR);
	rig->bar = mmap(NULL, ENGINE_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return rig->bar == MAP_FAILED ? -errno : 0;
}

static inline int engine_open_vdpa(struct rig *rig, const char *name)
{
	char path[512];
	int ret;

	*rig = (struct rig) { .api = VDPA, .container = -1, .group = -1, .device = -1 };
	/* As VFIO does when a device is opened */
	snprintf(path, sizeof(path), PCI_DEVICES "%s/reset", name);
	ret = vdpa_bind_to(name) ?: write_file(path, "1");
	if (ret)
		return ret;
	rig->device = vdpa_open();
	return rig->device < 0 ? rig->device : engine_map_bar(rig);
}

/* The engine itself, likewise */
static inline int engine_open(struct rig *rig, enum api api)
{
	char name[NAME_MAX + 1];
	int ret;

	if (!engine_find(name))
		return -ENODEV;
	/* Another test may have left it to the other driver. */
	write_file(api == VDPA ? VFIO_PCI "/unbind" : VP_VDPA "/unbind", name);
	if (api == VDPA)
		return engine_open_vdpa(rig, name);
	ret = vfio_bind(name) ?: engine_open_vfio(rig, api, name);
	if (ret)
		return ret;
	rig->bar = vfio_map_bar(rig->device, VFIO_PCI_BAR0_REGION_INDEX, ENGINE_BAR_SIZE);
	if (rig->bar == MAP_FAILED)
		return -errno;
	return vfio_command(rig->device, PCI_COMMAND_MASTER, true);
}

static inline void engine_close(struct rig *rig)
{
	if (rig->bar && rig->bar != MAP_FAILED)
		munmap(rig->bar, ENGINE_BAR_SIZE);
	close(rig->device);
	close(rig->group);
	close(rig->container);
}

static inline int engine_map(struct rig *rig, uint64_t iova, void *memory, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .vaddr = (uintptr_t)memory, .iova = iova, .size = size,
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
	};

	if (rig->api == VDPA)
		return vdpa_map(rig->device, memory, size, iova, VHOST_ACCESS_RW);
	if (rig->api == IOMMUFD)
		return ioas_map(rig->container, rig->ioas, memory, size, iova);
	return call(rig->container, VFIO_IOMMU_MAP_DMA, &map);
}

static inline int engine_unmap(struct rig *rig, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = iova, .size = size,
	};

	if (rig->api == VDPA)
		return vdpa_unmap(rig->device, size, iova);
	if (rig->api == IOMMUFD)
		return ioas_unmap(rig->container, rig->ioas, iova, size);
	return call(rig->container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static inline uint64_t engine_get(struct rig *rig, unsigned int what)
{
	return __atomic_load_n(rig->bar + what / sizeof(*rig->bar), __ATOMIC_SEQ_CST);
}

static inline void engine_set(struct rig *rig, unsigned int what, uint64_t value)
{
	__atomic_store_n(rig->bar + what / sizeof(*rig->bar), value, __ATOMIC_SEQ_CST);
}

/* A transfer of the buffer's first bytes, which is done when this returns */
static inline int engine_transfer(struct rig *rig, uint64_t iova, uint64_t bytes, bool to_memory)
{
	uint64_t faults = engine_get(rig, ENGINE_FAULTS);

	engine_set(rig, ENGINE_SOURCE, to_memory ? ENGINE_BUFFER : iova);
	engine_set(rig, ENGINE_TARGET, to_memory ? iova : ENGINE_BUFFER);
	engine_set(rig, ENGINE_COUNT, bytes);
	engine_set(rig, ENGINE_COMMAND, ENGINE_RUN | (to_memory ? ENGINE_TO_MEMORY : 0));
	return engine_get(rig, ENGINE_FAULTS) == faults ? 0 : -EFAULT;
}

/* Reads memory into @to, or writes it from there; whole words. */
static inline int engine_read(struct rig *rig, uint64_t iova, uint64_t *to, uint64_t bytes)
{
	int ret = engine_transfer(rig, iova, bytes, false);
	uint64_t i;

	for (i = 0; i < bytes / sizeof(*to); i++)
		to[i] = engine_get(rig, ENGINE_BUFFER + i * sizeof(*to));
	return ret;
}

static inline int engine_write(struct rig *rig, uint64_t iova, const uint64_t *from,
			       uint64_t bytes)
{
	uint64_t i;

	for (i = 0; i < bytes / sizeof(*from); i++)
		engine_set(rig, ENGINE_BUFFER + i * sizeof(*from), from[i]);
	return engine_transfer(rig, iova, bytes, true);
}

/* Has the CPU write its lines of some memory back, and drop them. */
static inline void cpu_flush(const void *memory, uint64_t bytes)
{
	const char *at;

	for (at = memory; at < (const char *)memory + bytes; at += LINE)
#ifdef __x86_64__
		__asm__ volatile("clflush (%0)" : : "r" (at) : "memory");
	__asm__ volatile("mfence" : : : "memory");
#elif defined(__aarch64__)
		__asm__ volatile("dc civac, %0" : : "r" (at) : "memory");
	__asm__ volatile("dsb sy" : : : "memory");
#endif
}

/* The frame that a page is in, or 0 */
static inline uint64_t page_frame(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)page / sysconf(_SC_PAGE_SIZE) * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

#endif /* SELFTEST_DMA_CACHE_ENGINE_H */
