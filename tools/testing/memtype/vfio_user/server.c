// SPDX-License-Identifier: GPL-2.0-only
/*
 * A server of vfio-user: has the device of device.h for one client, which is QEMU.
 *
 * It ends with the connection. What it does not understand, or what a client must not ask, it
 * answers with an error, and says so on standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "device.h"
#include "protocol.h"

#define fallthrough	__attribute__((__fallthrough__))
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define PAGE		4096ul
/* The most that the protocol has a server accept */
#define MAX_MAPPINGS	65535
/* The whole config space, or BAR, in one access; other messages are smaller. */
#define MAX_BODY	(sizeof(struct vfio_user_region_access) + 4096)
/* Of any kind of interrupt */
#define MAX_IRQS	32

/* What came, and in its place what goes back */
struct message {
	struct vfio_user_header header;
	union {
		struct vfio_user_version version;
		struct vfio_user_dma_map map;
		struct vfio_user_dma_unmap unmap;
		struct vfio_user_region_access access;
		struct vfio_device_info device;
		struct vfio_region_info region;
		struct vfio_irq_info irq;
		struct vfio_irq_set irq_set;
		unsigned char body[MAX_BODY];
	};
	size_t size;	/* of the body */
	int fd;		/* that came with it, or -1: whoever keeps it sets it to -1 */
	int reply_fd;	/* that goes back with it, or -1 */
	bool lost_fds;	/* Others came with it, or the only one did not arrive. */
};

/* Guest memory. The device can reach it if it is in the file of server_reach(). */
struct mapping {
	uint64_t start, last, place;
	uint32_t flags;
	bool reach;
};

/* In the order of their addresses; they do not overlap. */
static struct mapping *mappings;
static unsigned int nr_mappings;
/* The file of server_reach() */
static struct stat reached;
/* What signals an interrupt; 0 if nobody wants it, because descriptor 0 is the socket. */
static int irqs[VFIO_PCI_NUM_IRQS][MAX_IRQS];
/* What the client maps instead of asking; 0 if it asks, for the same reason. */
static int files[VFIO_PCI_NUM_REGIONS];
static uint32_t file_flags[VFIO_PCI_NUM_REGIONS];

/* The first mapping that ends at @address or later */
static unsigned int mapping_at(uint64_t address)
{
	unsigned int low = 0, high = nr_mappings;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (mappings[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool bad_range(uint64_t start, uint64_t size)
{
	return !size || (start | size) % PAGE || start + (size - 1) < start;
}

static int do_version(struct message *message)
{
	static const char capabilities[] = "{\"capabilities\":{\"max_msg_fds\":1}}";
	struct vfio_user_version *version = &message->version;

	if (message->size > sizeof(*version) && message->body[message->size - 1])
		return -EINVAL;
	if (version->major != VFIO_USER_MAJOR)
		return -EPROTONOSUPPORT;
	version->minor = VFIO_USER_MINOR;
	memcpy(version->capabilities, capabilities, sizeof(capabilities));
	message->size = sizeof(*version) + sizeof(capabilities);
	return 0;
}

int server_reach(int fd)
{
	return fstat(fd, &reached) ? -errno : 0;
}

/* What is not in the file must not be found out by a device's SIGBUS. */
static int check_file(int fd, const struct vfio_user_dma_map *map, bool *reach)
{
	struct stat file;

	if (fstat(fd, &file))
		return -errno;
	*reach = file.st_dev == reached.st_dev && file.st_ino == reached.st_ino;
	return map->offset % PAGE || map->offset > (uint64_t)file.st_size ||
	       map->size > (uint64_t)file.st_size - map->offset ? -EINVAL : 0;
}

static int do_dma_map(struct message *message)
{
	const struct vfio_user_dma_map *map = &message->map;
	uint64_t last = map->address + (map->size - 1);
	unsigned int at = mapping_at(map->address);
	struct mapping *more;
	bool reach = false;
	int ret;

	if (map->argsz != sizeof(*map) || !map->flags ||
	    map->flags & ~(VFIO_USER_DMA_READABLE | VFIO_USER_DMA_WRITEABLE) ||
	    bad_range(map->address, map->size))
		return -EINVAL;
	if (at < nr_mappings && mappings[at].start <= last)
		return -EEXIST;
	if (nr_mappings == MAX_MAPPINGS)
		return -ENOSPC;
	more = realloc(mappings, (nr_mappings + 1) * sizeof(*mappings));
	if (!more)
		return -ENOMEM;
	mappings = more;
	if (message->fd >= 0) {
		ret = check_file(message->fd, map, &reach);
		if (ret)
			return ret;
	}
	memmove(&mappings[at + 1], &mappings[at], (nr_mappings - at) * sizeof(*mappings));
	mappings[at] = (struct mapping) {
		map->address, last, map->offset, map->flags, reach,
	};
	nr_mappings++;
	message->size = 0;
	return 0;
}

/* All mappings in the range, which may have none; a part of one cannot be unmapped. */
static int do_dma_unmap(struct message *message)
{
	const struct vfio_user_dma_unmap *unmap = &message->unmap;
	uint64_t last = unmap->address + (unmap->size - 1);
	unsigned int first = mapping_at(unmap->address), end = first;

	if (unmap->argsz < sizeof(*unmap) || unmap->flags ||
	    bad_range(unmap->address, unmap->size))
		return -EINVAL;
	while (end < nr_mappings && mappings[end].start <= last)
		end++;
	if (end > first &&
	    (mappings[first].start < unmap->address || mappings[end - 1].last > last))
		return -EINVAL;
	memmove(&mappings[first], &mappings[end], (nr_mappings - end) * sizeof(*mappings));
	nr_mappings -= end - first;
	return 0;
}

int server_find(uint64_t address, bool write, uint64_t *place, uint64_t *size)
{
	const struct mapping *mapping = &mappings[mapping_at(address)];

	if (mapping == mappings + nr_mappings || mapping->start > address || !mapping->reach ||
	    !(mapping->flags & (write ? VFIO_USER_DMA_WRITEABLE : VFIO_USER_DMA_READABLE)))
		return -EFAULT;
	*place = mapping->place + (address - mapping->start);
	*size = mapping->last - address + 1;
	return 0;
}

static int do_device_info(struct message *message)
{
	struct vfio_device_info *info = &message->device;

	/* The last members of the structure are newer than the message. */
	if (info->argsz < message->size || info->flags || info->num_regions || info->num_irqs)
		return -EINVAL;
	info->argsz = message->size;
	info->flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info->num_regions = VFIO_PCI_NUM_REGIONS;
	info->num_irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

void server_give_file(unsigned int region, int fd, uint32_t flags)
{
	files[region] = fd;
	file_flags[region] = flags | VFIO_REGION_INFO_FLAG_MMAP;
}

static int do_region_info(struct message *message)
{
	struct vfio_region_info *info = &message->region;

	if (info->argsz < sizeof(*info) || info->flags || info->cap_offset || info->size ||
	    info->offset || info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info->argsz = sizeof(*info);
	info->size = device_region_size(info->index);
	if (files[info->index]) {
		info->flags = file_flags[info->index];
		message->reply_fd = files[info->index];
	} else if (info->size) {
		info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	}
	return 0;
}

static int do_irq_info(struct message *message)
{
	struct vfio_irq_info *info = &message->irq;

	if (info->argsz < sizeof(*info) || info->flags || info->count ||
	    info->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info->argsz = sizeof(*info);
	info->count = device_irqs(info->index);
	if (info->count)
		info->flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
	return 0;
}

static void set_irq(int *irq, int fd)
{
	if (*irq)
		close(*irq);
	*irq = fd;
}

void server_signal(unsigned int kind, unsigned int number)
{
	/* What cannot be signalled any more was so often enough. */
	if (irqs[kind][number])
		(void)!eventfd_write(irqs[kind][number], 1);
}

/* An interrupt is signalled or not; there is no mask. */
static int do_set_irqs(struct message *message)
{
	const struct vfio_irq_set *set = &message->irq_set;
	uint32_t data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK, i;
	bool bools = data == VFIO_IRQ_SET_DATA_BOOL;
	uint32_t most;
	int *irq;

	if (set->argsz != message->size || set->index >= VFIO_PCI_NUM_IRQS ||
	    set->flags != (data | VFIO_IRQ_SET_ACTION_TRIGGER))
		return -EINVAL;
	most = device_irqs(set->index);
	if (set->start > most || set->count > most - set->start ||
	    message->size - sizeof(*set) != (bools ? set->count : 0))
		return -EINVAL;
	irq = irqs[set->index] + set->start;
	switch (data) {
	case VFIO_IRQ_SET_DATA_NONE:
		if (!set->count)
			for (i = 0; !set->start && i < most; i++)
				set_irq(&irq[i], 0);
		fallthrough;
	case VFIO_IRQ_SET_DATA_BOOL:
		for (i = 0; i < set->count; i++)
			if (irq[i] && (!bools || set->data[i]) && eventfd_write(irq[i], 1))
				return -errno;
		break;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		if (message->fd >= 0 && set->count != 1)
			return -EINVAL;
		for (i = 0; i < set->count; i++) {
			set_irq(&irq[i], message->fd >= 0 ? message->fd : 0);
			message->fd = -1;
		}
		break;
	default:
		return -EINVAL;
	}
	message->size = 0;
	return 0;
}

static bool bad_access(const struct vfio_user_region_access *access)
{
	uint64_t size = device_region_size(access->region);

	return !access->count || access->offset > size || access->count > size - access->offset ||
	       access->count > MAX_BODY - sizeof(*access);
}

static int do_region_read(struct message *message)
{
	struct vfio_user_region_access *access = &message->access;

	if (bad_access(access))
		return -EINVAL;
	message->size += access->count;
	return device_read(access->region, access->offset, access->data, access->count);
}

static int do_region_write(struct message *message)
{
	const struct vfio_user_region_access *access = &message->access;

	if (bad_access(access) || message->size != sizeof(*access) + access->count)
		return -EINVAL;
	message->size = sizeof(*access);
	return device_write(access->region, access->offset, access->data, access->count);
}

static int do_reset(struct message *message)
{
	device_reset();
	message->size = 0;
	return 0;
}

/* A body has @size bytes, or where @more is set, at least so many. */
static const struct command {
	int (*run)(struct message *message);
	size_t size;
	bool more, takes_fd;
} commands[] = {
	[VFIO_USER_VERSION] = { do_version, sizeof(struct vfio_user_version), .more = true },
	[VFIO_USER_DMA_MAP] = { do_dma_map, sizeof(struct vfio_user_dma_map), .takes_fd = true },
	[VFIO_USER_DMA_UNMAP] = { do_dma_unmap, sizeof(struct vfio_user_dma_unmap) },
	[VFIO_USER_DEVICE_GET_INFO] = { do_device_info, 4 * sizeof(uint32_t) },
	[VFIO_USER_GET_REGION_INFO] = { do_region_info, sizeof(struct vfio_region_info) },
	[VFIO_USER_GET_IRQ_INFO] = { do_irq_info, sizeof(struct vfio_irq_info) },
	[VFIO_USER_SET_IRQS] = { do_set_irqs, sizeof(struct vfio_irq_set),
				 .more = true, .takes_fd = true },
	[VFIO_USER_REGION_READ] = { do_region_read, sizeof(struct vfio_user_region_access) },
	[VFIO_USER_REGION_WRITE] = { do_region_write, sizeof(struct vfio_user_region_access),
				     .more = true },
	[VFIO_USER_DEVICE_RESET] = { do_reset, 0 },
};

static int run(struct message *message)
{
	static bool agreed;	/* on a version, which comes first and once */
	const struct vfio_user_header *header = &message->header;
	const struct command *command;
	int ret;

	if (header->command >= ARRAY_SIZE(commands) || !commands[header->command].run)
		return -EOPNOTSUPP;
	command = &commands[header->command];
	if (header->flags & ~VFIO_USER_NO_REPLY || message->lost_fds ||
	    (message->fd >= 0 && !command->takes_fd))
		return -EINVAL;
	if (message->size < command->size || (message->size > command->size && !command->more))
		return -EINVAL;
	if (agreed ? command->run == do_version : command->run != do_version)
		return -EINVAL;
	ret = command->run(message);
	agreed = agreed || !ret;
	return ret;
}

/* Reads so many bytes, and none of the next message, whose descriptor would come with them. */
static bool receive(int client, struct message *message, void *to, size_t size)
{
	while (size) {
		/* Has room for one descriptor, so that the kernel installs no more. */
		union {
			struct cmsghdr header;
			char space[CMSG_SPACE(sizeof(int))];
		} control;
		struct iovec iov = { to, size };
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int)),
		};
		ssize_t n = recvmsg(client, &msg, 0);

		if (n <= 0)
			return false;
		if (msg.msg_flags & MSG_CTRUNC)
			message->lost_fds = true;
		if (CMSG_FIRSTHDR(&msg)) {
			if (message->fd >= 0) {
				message->lost_fds = true;
				close(message->fd);
			}
			memcpy(&message->fd, CMSG_DATA(&control.header), sizeof(message->fd));
		}
		to = (char *)to + n;
		size -= n;
	}
	return true;
}

/* In one piece, because the client does not wait for the rest of a header. */
static bool reply(int client, struct message *message)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { message, message->header.size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (message->reply_fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &message->reply_fd, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	return sendmsg(client, &msg, MSG_NOSIGNAL) == (ssize_t)message->header.size;
}

/* One message and its answer; false if there are no more, or none that can be told apart. */
static bool serve(int client)
{
	static struct message message;
	struct vfio_user_header *header = &message.header;
	int ret;

	message.fd = -1;
	message.reply_fd = -1;
	message.lost_fds = false;
	if (!receive(client, &message, header, sizeof(*header)))
		return false;
	if (header->size < sizeof(*header) || header->size - sizeof(*header) > MAX_BODY) {
		fprintf(stderr, "vfio-user: a message of %u bytes\n", header->size);
		return false;
	}
	message.size = header->size - sizeof(*header);
	if (!receive(client, &message, message.body, message.size))
		return false;

	ret = run(&message);
	if (message.fd >= 0)
		close(message.fd);
	if (ret) {
		fprintf(stderr, "vfio-user: command %u: %s\n", header->command, strerror(-ret));
		message.size = 0;
	}
	if (header->flags & VFIO_USER_NO_REPLY)
		return true;
	header->size = sizeof(*header) + message.size;
	header->flags = VFIO_USER_REPLY | (ret ? VFIO_USER_ERROR : 0);
	header->error = -ret;
	return reply(client, &message);
}

int server_run(int listening, const char *argument)
{
	struct pollfd client = { .events = POLLIN };
	int ret = device_init(argument);

	if (ret) {
		fprintf(stderr, "vfio-user: the device: %s\n", strerror(-ret));
		return 1;
	}
	client.fd = accept(listening, NULL, NULL);
	if (client.fd < 0) {
		perror("vfio-user: accept");
		return 1;
	}
	do {
		while (!poll(&client, 1, device_work()))
			;
	} while (serve(client.fd));
	return 0;
}
