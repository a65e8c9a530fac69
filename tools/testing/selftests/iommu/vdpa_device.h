/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A virtio device that user space drives by vhost-vdpa: bound to vp_vdpa, which makes a vDPA device
 * of it, opened, and given memory. QEMU's virtio-rng is one.
 *
 * What can fail returns a negative error number.
 */
#ifndef SELFTEST_VDPA_DEVICE_H
#define SELFTEST_VDPA_DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/vdpa.h>
#include <linux/vhost.h>

#include "vfio_device.h"

#define RNG_VENDOR	"0x1af4"
#define RNG_DEVICE	"0x1044"
#define VHOST_VDPA	"/dev/vhost-vdpa-0"

/* A message to the kernel and its answer, which begins in the same way */
struct netlink {
	struct nlmsghdr header;
	struct genlmsghdr what;
	char attributes[4096];
};

static inline void netlink_init(struct netlink *message, uint16_t family, uint8_t command)
{
	memset(message, 0, sizeof(*message));
	message->header.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	message->header.nlmsg_type = family;
	message->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	message->what.cmd = command;
	message->what.version = 1;
}

static inline void netlink_add(struct netlink *message, uint16_t type, const char *text)
{
	struct nlattr *at = (void *)((char *)message + message->header.nlmsg_len);

	at->nla_type = type;
	at->nla_len = NLA_HDRLEN + strlen(text) + 1;
	memcpy((char *)at + NLA_HDRLEN, text, strlen(text) + 1);
	message->header.nlmsg_len += NLA_ALIGN(at->nla_len);
}

/* Sends it, and has the answer in its place. */
static inline int netlink_ask(int netlink, struct netlink *message)
{
	struct nlmsgerr *error = (void *)&message->what;

	if (send(netlink, message, message->header.nlmsg_len, 0) < 0 ||
	    recv(netlink, message, sizeof(*message), 0) < 0)
		return -errno;
	return message->header.nlmsg_type == NLMSG_ERROR ? error->error : 0;
}

/* The number that generic netlink gave to vDPA */
static inline int vdpa_family(int netlink)
{
	struct netlink message;
	uint32_t at = NLMSG_LENGTH(GENL_HDRLEN);
	struct nlattr *attribute;
	int ret;

	netlink_init(&message, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	message.header.nlmsg_flags = NLM_F_REQUEST;
	netlink_add(&message, CTRL_ATTR_FAMILY_NAME, VDPA_GENL_NAME);
	ret = netlink_ask(netlink, &message);
	if (ret)
		return ret;
	for (; at < message.header.nlmsg_len; at += NLA_ALIGN(attribute->nla_len)) {
		attribute = (void *)((char *)&message + at);
		if (attribute->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(uint16_t *)((char *)attribute + NLA_HDRLEN);
	}
	return -ENOENT;
}

/* Makes a vDPA device of a PCI device that vp_vdpa drives. */
static inline int vdpa_add(const char *device)
{
	int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC), family;
	struct netlink message;
	int ret = -errno;

	if (netlink < 0)
		return ret;
	family = vdpa_family(netlink);
	ret = family;
	if (family > 0) {
		netlink_init(&message, family, VDPA_CMD_DEV_NEW);
		netlink_add(&message, VDPA_ATTR_MGMTDEV_BUS_NAME, "pci");
		netlink_add(&message, VDPA_ATTR_MGMTDEV_DEV_NAME, device);
		netlink_add(&message, VDPA_ATTR_DEV_NAME, "vdpa0");
		ret = netlink_ask(netlink, &message);
	}
	close(netlink);
	return ret;
}

/* Has vhost-vdpa drive a device that no other driver has. An earlier run may have done so. */
static inline int vdpa_bind_to(const char *name)
{
	char path[512];
	int ret;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver_override", name);
	ret = write_file(path, "vp-vdpa") ?: write_file("/sys/bus/pci/drivers_probe", name);
	if (!ret && access(VHOST_VDPA, F_OK))
		ret = vdpa_add(name);
	return ret ?: access(VHOST_VDPA, F_OK) ? -errno : 0;
}

/* The same of the virtio-rng */
static inline int vdpa_bind(void)
{
	char name[NAME_MAX + 1];

	return find_pci(name, RNG_VENDOR, RNG_DEVICE) ? vdpa_bind_to(name) : -ENODEV;
}

/* Says of its group what makes the DMA coherent. */
static inline int vdpa_declare(const char *word)
{
	char name[NAME_MAX + 1], path[512];

	if (!find_pci(name, RNG_VENDOR, RNG_DEVICE))
		return -ENODEV;
	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group/dma_coherency", name);
	return write_file(path, word);
}

/* Opens it, for memory of the caller. */
static inline int vdpa_open(void)
{
	int fd = open(VHOST_VDPA, O_RDWR), ret;

	if (fd < 0 || !ioctl(fd, VHOST_SET_OWNER))
		return fd < 0 ? -errno : fd;
	ret = -errno;
	close(fd);
	return ret;
}

static inline int vdpa_message(int fd, uint8_t type, void *memory, uint64_t length, uint64_t iova,
			       uint8_t perm)
{
	struct vhost_msg_v2 message = {
		.type = VHOST_IOTLB_MSG_V2,
		.iotlb = {
			.iova = iova, .size = length, .uaddr = (uintptr_t)memory,
			.perm = perm, .type = type,
		},
	};

	return write(fd, &message, sizeof(message)) == sizeof(message) ? 0 : -errno;
}

/* @perm is what the device may do: VHOST_ACCESS_RW and so on. */
static inline int vdpa_map(int fd, void *memory, uint64_t length, uint64_t iova, uint8_t perm)
{
	return vdpa_message(fd, VHOST_IOTLB_UPDATE, memory, length, iova, perm);
}

static inline int vdpa_unmap(int fd, uint64_t length, uint64_t iova)
{
	return vdpa_message(fd, VHOST_IOTLB_INVALIDATE, NULL, length, iova, 0);
}

#endif /* SELFTEST_VDPA_DEVICE_H */
