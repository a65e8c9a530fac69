// SPDX-License-Identifier: GPL-2.0-only
/* The device of engine.h; its argument is the file of model.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/vfio.h>
#include <linux/virtio_pci.h>

#include "../vfio_user/config.h"
#include "../vfio_user/device.h"
#include "engine.h"
#include "model.h"

#define MSI		0x80
/* Capabilities of virtio, and how far what they are about is apart */
#define COMMON		0xa0
#define ISR		0xb0
#define NOTIFY		0xc0
#define APART		64
#define PAGE		4096u
#define NR_REGISTERS	(0x100 / sizeof(uint64_t))
#define RECENT		64
#define AT_ONCE		16	/* evictions */

static struct cache cache;
static uint64_t registers[NR_REGISTERS];
static unsigned char buffer[ENGINE_BUFFER_SIZE];
/* What a driver of virtio reads; whatever it writes there is forgotten. */
static const unsigned char virtio[3 * APART] = {
	[VIRTIO_PCI_COMMON_NUMQ] = 1,
	[VIRTIO_PCI_COMMON_Q_SIZE] = 1,
};

/* Pages in RAM that there were transfers to or from */
static uint64_t recent[RECENT];
static unsigned int nr_recent;
static uint64_t seed;

static uint64_t *reg(unsigned int offset)
{
	return &registers[offset / sizeof(uint64_t)];
}

static void virtio_capability(unsigned int at, unsigned int next, uint8_t type, uint32_t where)
{
	config_space[at] = PCI_CAP_ID_VNDR;
	config_space[at + VIRTIO_PCI_CAP_NEXT] = next;
	config_space[at + VIRTIO_PCI_CAP_LEN] = type == VIRTIO_PCI_CAP_NOTIFY_CFG ?
		sizeof(struct virtio_pci_notify_cap) : sizeof(struct virtio_pci_cap);
	config_space[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	config_set32(config_space + at + VIRTIO_PCI_CAP_OFFSET, ENGINE_VIRTIO + where);
	config_set32(config_space + at + VIRTIO_PCI_CAP_LENGTH, APART);
}

int device_init(const char *argument)
{
	int ret;

	config_init(ENGINE_VENDOR, ENGINE_DEVICE, ENGINE_BAR_SIZE);
	config_space[CONFIG_EXP + PCI_CAP_LIST_NEXT] = MSI;
	config_space[MSI] = PCI_CAP_ID_MSI;
	config_space[MSI + PCI_CAP_LIST_NEXT] = COMMON;
	config_set16(config_space + MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT);
	config_set16(config_writable + MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE);
	config_set32(config_writable + MSI + PCI_MSI_ADDRESS_LO, ~3u);
	config_set32(config_writable + MSI + PCI_MSI_ADDRESS_HI, ~0u);
	config_set16(config_writable + MSI + PCI_MSI_DATA_64, 0xffff);
	virtio_capability(COMMON, ISR, VIRTIO_PCI_CAP_COMMON_CFG, 0);
	virtio_capability(ISR, NOTIFY, VIRTIO_PCI_CAP_ISR_CFG, APART);
	virtio_capability(NOTIFY, 0, VIRTIO_PCI_CAP_NOTIFY_CFG, 2 * APART);
	ret = argument ? cache_open(&cache, argument) : -EINVAL;
	return ret ? ret : server_reach(cache.fd);
}

void device_reset(void)
{
	config_reset();
	memset(registers, 0, sizeof(registers));
	memset(buffer, 0, sizeof(buffer));
	seed = 0;
}

static void remember(uint64_t page)
{
	unsigned int i;

	for (i = 0; i < nr_recent && i < RECENT; i++)
		if (recent[i] == page)
			return;
	recent[nr_recent++ % RECENT] = page;
}

static int access_memory(uint64_t place, void *data, uint64_t size, bool write)
{
	uint64_t page;

	if (place > cache.size || size > cache.size - place)
		return -EFAULT;
	for (page = place - place % PAGE; page < place + size; page += PAGE)
		remember(page);
	if (*reg(ENGINE_SNOOP)) {
		if (write)
			memcpy(cache.ram + place, data, size);
		else
			memcpy(data, cache.ram + place, size);
	} else if (write) {
		*reg(ENGINE_DIRTY) += cache_device_write(&cache, place, data, size);
	} else {
		*reg(ENGINE_STALE) += cache_device_read(&cache, place, data, size);
	}
	return 0;
}

/* Between a part of the buffer and memory */
static int transfer(uint64_t address, uint64_t at, uint64_t count, bool write)
{
	uint64_t place, size;
	int ret;

	if (!(config_get16(PCI_COMMAND) & PCI_COMMAND_MASTER) || at < ENGINE_BUFFER ||
	    count > sizeof(buffer) || at - ENGINE_BUFFER > sizeof(buffer) - count)
		return -EINVAL;
	for (; count; count -= size, address += size, at += size) {
		ret = server_find(address, write, &place, &size);
		if (ret)
			return ret;
		if (size > count)
			size = count;
		ret = access_memory(place, buffer + (at - ENGINE_BUFFER), size, write);
		if (ret)
			return ret;
	}
	return 0;
}

static void command(uint64_t what)
{
	bool write = what & ENGINE_TO_MEMORY;
	uint64_t memory = *reg(write ? ENGINE_TARGET : ENGINE_SOURCE);
	uint64_t at = *reg(write ? ENGINE_SOURCE : ENGINE_TARGET);

	*reg(ENGINE_COMMAND) = what & ENGINE_REPEAT;
	if (what & ENGINE_RUN && transfer(memory, at, *reg(ENGINE_COUNT), write))
		++*reg(ENGINE_FAULTS);
	if (what & ENGINE_INTERRUPT)
		server_signal(VFIO_PCI_MSI_IRQ_INDEX, 0);
}

/* The next number, everywhere in the target; the memory cannot be unmapped meanwhile. */
static void fill(void)
{
	uint64_t next = *reg(ENGINE_LAST) + 1;
	unsigned int i;

	for (i = 0; i < sizeof(buffer); i += sizeof(next))
		memcpy(buffer + i, &next, sizeof(next));
	if (transfer(*reg(ENGINE_TARGET), ENGINE_BUFFER, *reg(ENGINE_COUNT), true)) {
		++*reg(ENGINE_FAULTS);
		*reg(ENGINE_COMMAND) = 0;
	} else {
		*reg(ENGINE_LAST) = next;
	}
}

static void evict(uint64_t address)
{
	uint64_t count = *reg(ENGINE_COUNT), place, size;

	for (; count; count -= size, address += size) {
		if (server_find(address, false, &place, &size) || place >= cache.size) {
			++*reg(ENGINE_FAULTS);
			return;
		}
		size = CACHE_LINE - place % CACHE_LINE;
		if (size > count)
			size = count;
		cache_maintain(&cache, CACHE_FLUSH, place);
	}
}

/* Marsaglia's xorshift */
static uint64_t random_number(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void evict_some(void)
{
	unsigned int i, pages = nr_recent < RECENT ? nr_recent : RECENT;

	for (i = random_number() % AT_ONCE; pages && i; i--) {
		uint64_t page = recent[random_number() % pages];

		cache_maintain(&cache, CACHE_FLUSH, page + random_number() % PAGE);
		++*reg(ENGINE_EVICTIONS);
	}
}

int device_work(void)
{
	if (seed)
		evict_some();
	if (!*reg(ENGINE_COMMAND))
		return seed ? 1 : -1;
	fill();
	return 0;
}

uint64_t device_region_size(unsigned int region)
{
	switch (region) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		return ENGINE_BAR_SIZE;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		return CONFIG_SIZE;
	default:
		return 0;
	}
}

unsigned int device_irqs(unsigned int kind)
{
	return kind == VFIO_PCI_MSI_IRQ_INDEX || kind == VFIO_PCI_ERR_IRQ_INDEX;
}

static bool in_virtio(uint64_t offset, uint32_t count)
{
	return offset >= ENGINE_VIRTIO && offset - ENGINE_VIRTIO < sizeof(virtio) &&
	       count <= sizeof(virtio) - (offset - ENGINE_VIRTIO);
}

/* What else of BAR 0 is there, or NULL */
static unsigned char *bar(uint64_t offset, uint32_t count)
{
	if (offset >= ENGINE_BUFFER && offset - ENGINE_BUFFER < sizeof(buffer) &&
	    count <= sizeof(buffer) - (offset - ENGINE_BUFFER))
		return buffer + (offset - ENGINE_BUFFER);
	if (offset % sizeof(uint64_t) || count > sizeof(uint64_t) || offset >= sizeof(registers))
		return NULL;
	return (unsigned char *)reg(offset);
}

int device_read(unsigned int region, uint64_t offset, void *data, uint32_t count)
{
	unsigned char *from;

	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		memcpy(data, config_space + offset, count);
		return 0;
	}
	if (in_virtio(offset, count)) {
		memcpy(data, virtio + (offset - ENGINE_VIRTIO), count);
		return 0;
	}
	from = bar(offset, count);
	if (!from)
		return -EINVAL;
	memcpy(data, from, count);
	return 0;
}

int device_write(unsigned int region, uint64_t offset, const void *data, uint32_t count)
{
	unsigned char *to;
	uint64_t value = 0;

	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		if (config_write(offset, data, count))
			device_reset();
		return 0;
	}
	if (in_virtio(offset, count))
		return 0;
	to = bar(offset, count);
	if (!to)
		return -EINVAL;
	if (offset < sizeof(registers))
		memcpy(&value, data, count);
	switch (offset) {
	case ENGINE_COMMAND:
		command(value);
		break;
	case ENGINE_EVICT:
		evict(value);
		break;
	case ENGINE_ADVERSARY:
		seed = value;
		if (seed)
			fprintf(stderr, "cache: evicts lines, seed %#llx\n",
				(unsigned long long)seed);
		break;
	default:
		memcpy(to, data, count);
	}
	return 0;
}
