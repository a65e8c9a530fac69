/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PCI device that user space owns: found, bound to vfio-pci, attached to page
 * tables of /dev/iommu, and its registers mapped. The device that all machines
 * have is QEMU's edu, which does DMA.
 *
 * What can fail returns a negative error number. This header knows nothing of
 * the tests that include it.
 */
#ifndef SELFTEST_VFIO_DEVICE_H
#define SELFTEST_VFIO_DEVICE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#define PCI_DEVICES	"/sys/bus/pci/devices/"
#define VFIO_PCI	"/sys/bus/pci/drivers/vfio-pci"
/*
 * How many pages of its own type1 maps in a new domain, to see if that has superpages. It ceased to
 * do so in the kernel that says that the number of nesting domains is reserved, or before.
 */
#ifdef __VFIO_RESERVED_TYPE1_NESTING_IOMMU
#define PROBE		0
#else
#define PROBE		2
#endif

/* sysfs */

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, text, strlen(text));
	if (written < 0)
		written = -errno;
	close(fd);
	return written < 0 ? written : written == (ssize_t)strlen(text) ? 0 : -EIO;
}

/* Whether a file of sysfs starts with @text. */
static inline bool file_starts_with(const char *path, const char *text)
{
	char buffer[32] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return false;
	if (read(fd, buffer, sizeof(buffer) - 1) < 0)
		buffer[0] = '\0';
	close(fd);
	return !strncmp(buffer, text, strlen(text));
}

/* The number after @key in the file, anywhere; -1 if it has none. */
static inline long read_number(const char *path, const char *key)
{
	char text[8192] = "", *at;
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	at = n > 0 ? strstr(text, key) : NULL;
	return at ? strtol(at + strlen(key), NULL, 0) : -1;
}

/* The sysfs name of the first PCI device with this vendor and device id. */
static inline bool find_pci(char name[NAME_MAX + 1], const char *vendor, const char *device)
{
	DIR *devices = opendir(PCI_DEVICES);
	struct dirent *entry;
	bool found = false;
	char path[512];

	while (devices && !found && (entry = readdir(devices))) {
		snprintf(path, sizeof(path), PCI_DEVICES "%s/vendor", entry->d_name);
		if (!file_starts_with(path, vendor))
			continue;
		snprintf(path, sizeof(path), PCI_DEVICES "%s/device", entry->d_name);
		found = file_starts_with(path, device);
		if (found)
			snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
	}
	if (devices)
		closedir(devices);
	return found;
}

/* vfio-pci */

/* Has vfio-pci drive the device, if no other driver does. */
static inline int vfio_bind(const char *device)
{
	char path[512];
	int ret;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver_override", device);
	ret = write_file(path, "vfio-pci");
	if (ret)
		return ret;
	ret = write_file("/sys/bus/pci/drivers_probe", device);
	/* That it does not want the device is no error. */
	snprintf(path, sizeof(path), VFIO_PCI "/%s", device);
	return ret ?: access(path, F_OK) ? -ENODEV : 0;
}

/* Undoes that; waits until nobody has the device open. */
static inline int vfio_unbind(const char *device)
{
	char path[512];
	int ret = write_file(VFIO_PCI "/unbind", device);

	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver_override", device);
	return ret ?: write_file(path, "\n");
}

/* The path of the device's own file, or with @group of its IOMMU group's. */
static inline int vfio_path(const char *device, bool group, char path[PATH_MAX])
{
	char link[PATH_MAX] = "";
	struct dirent *entry;
	int ret = -ENODEV;
	DIR *directory;

	if (group) {
		snprintf(path, PATH_MAX, PCI_DEVICES "%s/iommu_group", device);
		if (readlink(path, link, sizeof(link) - 1) < 0)
			return -errno;
		snprintf(path, PATH_MAX, "/dev/vfio/%.40s", strrchr(link, '/') + 1);
		return 0;
	}
	snprintf(path, PATH_MAX, PCI_DEVICES "%s/vfio-dev", device);
	directory = opendir(path);
	while (directory && (entry = readdir(directory))) {
		if (!strstr(entry->d_name, "vfio"))
			continue;
		snprintf(path, PATH_MAX, "/dev/vfio/devices/%.40s", entry->d_name);
		ret = 0;
	}
	if (directory)
		closedir(directory);
	return ret;
}

/* Opens the device's own file. */
static inline int vfio_open(const char *device)
{
	char path[PATH_MAX];
	int ret = vfio_path(device, false, path), fd;

	if (ret)
		return ret;
	fd = open(path, O_RDWR);
	return fd < 0 ? -errno : fd;
}

/* An ioctl whose result is 0 or an error. */
static inline int call(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument) ? -errno : 0;
}

/* Binds the open device to an open /dev/iommu, which then knows it as @id. */
static inline int vfio_bind_iommufd(int device, int iommufd, uint32_t *id)
{
	struct vfio_device_bind_iommufd cmd = { .argsz = sizeof(cmd), .iommufd = iommufd };
	int ret = call(device, VFIO_DEVICE_BIND_IOMMUFD, &cmd);

	*id = cmd.out_devid;
	return ret;
}

/* Attaches it to an IOAS or HWPT, in place of what it was attached to. */
static inline int vfio_attach(int device, uint32_t pt)
{
	struct vfio_device_attach_iommufd_pt cmd = { .argsz = sizeof(cmd), .pt_id = pt };

	return call(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd);
}

static inline int vfio_detach(int device)
{
	struct vfio_device_detach_iommufd_pt cmd = { .argsz = sizeof(cmd) };

	return call(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd);
}

/* Where a region is in the device's file, and its size in bytes if @size is not NULL. */
static inline int vfio_region(int device, uint32_t index, uint64_t *offset, uint64_t *size)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };
	int ret = call(device, VFIO_DEVICE_GET_REGION_INFO, &info);

	*offset = info.offset;
	if (size)
		*size = info.size;
	return ret;
}

/* Sets bits of the PCI command register, or clears them. */
static inline int vfio_command(int device, uint16_t bits, bool on)
{
	uint16_t command;
	uint64_t config;
	int ret = vfio_region(device, VFIO_PCI_CONFIG_REGION_INDEX, &config, NULL);

	if (ret)
		return ret;
	if (pread(device, &command, 2, config + PCI_COMMAND) != 2)
		return -EIO;
	command = on ? command | bits : command & ~bits;
	return pwrite(device, &command, 2, config + PCI_COMMAND) == 2 ? 0 : -EIO;
}

/* Maps the first @length bytes of a BAR; MAP_FAILED with errno if it cannot be. */
static inline void *vfio_map_bar(int device, uint32_t index, uint64_t length)
{
	uint64_t offset;
	int ret = vfio_region(device, index, &offset, NULL);

	if (ret) {
		errno = -ret;
		return MAP_FAILED;
	}
	return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, device, offset);
}

/* IOMMUFD */

static inline int ioas_new(int fd, uint32_t *ioas)
{
	struct iommu_ioas_alloc cmd = { .size = sizeof(cmd) };
	int ret = call(fd, IOMMU_IOAS_ALLOC, &cmd);

	*ioas = cmd.out_ioas_id;
	return ret;
}

static inline int ioas_map_for(int fd, uint32_t ioas, void *memory, uint64_t length,
			       uint64_t iova, uint32_t flags)
{
	struct iommu_ioas_map cmd = {
		.size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = length,
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | flags,
		.user_va = (uintptr_t)memory,
	};

	return call(fd, IOMMU_IOAS_MAP, &cmd);
}

static inline int ioas_map(int fd, uint32_t ioas, void *memory, uint64_t length, uint64_t iova)
{
	return ioas_map_for(fd, ioas, memory, length, iova,
			    IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE);
}

static inline int ioas_copy(int fd, uint32_t to, uint64_t to_iova, uint32_t from,
			    uint64_t from_iova, uint64_t length)
{
	struct iommu_ioas_copy cmd = {
		.size = sizeof(cmd), .dst_ioas_id = to, .dst_iova = to_iova,
		.src_ioas_id = from, .src_iova = from_iova, .length = length,
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
	};

	return call(fd, IOMMU_IOAS_COPY, &cmd);
}

static inline int ioas_unmap(int fd, uint32_t ioas, uint64_t iova, uint64_t length)
{
	struct iommu_ioas_unmap cmd = {
		.size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = length,
	};

	return call(fd, IOMMU_IOAS_UNMAP, &cmd);
}

static inline int hwpt_new(int fd, uint32_t device, uint32_t ioas, uint32_t *hwpt)
{
	struct iommu_hwpt_alloc cmd = { .size = sizeof(cmd), .dev_id = device, .pt_id = ioas };
	int ret = call(fd, IOMMU_HWPT_ALLOC, &cmd);

	*hwpt = cmd.out_hwpt_id;
	return ret;
}

/* Any object of IOMMUFD */
static inline int iommufd_destroy(int fd, uint32_t id)
{
	struct iommu_destroy cmd = { .size = sizeof(cmd), .id = id };

	return call(fd, IOMMU_DESTROY, &cmd);
}

/*
 * QEMU's edu device: BAR 0 has registers and a buffer; DMA goes between that and
 * 28 bits of addresses, at most 4095 bytes at a time, and takes 100 ms.
 */
#define EDU_VENDOR	"0x1234"
#define EDU_DEVICE	"0x11e8"
#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_RUN		1
#define EDU_TO_MEMORY	2
#define EDU_BUFFER	0x40000
#define EDU_BAR_SIZE	0x100000

static inline bool find_edu(char name[NAME_MAX + 1])
{
	return find_pci(name, EDU_VENDOR, EDU_DEVICE);
}

static inline uint64_t edu_read(void *bar, unsigned int offset)
{
	return __atomic_load_n((uint64_t *)((char *)bar + offset), __ATOMIC_SEQ_CST);
}

static inline void edu_write(void *bar, unsigned int offset, uint64_t value)
{
	__atomic_store_n((uint64_t *)((char *)bar + offset), value, __ATOMIC_SEQ_CST);
}

/* Starts a transfer between @iova and the device's buffer. */
static inline void edu_start(void *bar, uint64_t iova, unsigned int bytes, bool to_memory)
{
	edu_write(bar, EDU_SOURCE, to_memory ? EDU_BUFFER : iova);
	edu_write(bar, EDU_TARGET, to_memory ? iova : EDU_BUFFER);
	edu_write(bar, EDU_COUNT, bytes);
	edu_write(bar, EDU_COMMAND, EDU_RUN | (to_memory ? EDU_TO_MEMORY : 0));
}

static inline bool edu_runs(void *bar)
{
	return edu_read(bar, EDU_COMMAND) & EDU_RUN;
}

#endif /* SELFTEST_VFIO_DEVICE_H */
