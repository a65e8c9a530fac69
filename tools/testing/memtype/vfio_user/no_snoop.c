// SPDX-License-Identifier: GPL-2.0-only
/* The device of no_snoop.h: its config space and its registers. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "device.h"
#include "no_snoop.h"

#define CONFIG_SIZE	4096
#define EXP		NO_SNOOP_EXP
#define DEVCTL		(EXP + PCI_EXP_DEVCTL)

/* Config space, and the bits of it that can be written */
static uint8_t space[CONFIG_SIZE], writable[CONFIG_SIZE];
static uint32_t resets;
static bool allowed;

/* The host is little-endian, as PCI is. */
static void set16(uint8_t *where, uint16_t value)
{
	memcpy(where, &value, sizeof(value));
}

static void set32(uint8_t *where, uint32_t value)
{
	memcpy(where, &value, sizeof(value));
}

static uint16_t get16(unsigned int where)
{
	uint16_t value;

	memcpy(&value, space + where, sizeof(value));
	return value;
}

/* What config space has when the device is switched on */
static void __attribute__((constructor)) config_init(void)
{
	set16(space + PCI_VENDOR_ID, NO_SNOOP_VENDOR);
	set16(space + PCI_DEVICE_ID, NO_SNOOP_DEVICE);
	space[PCI_CLASS_DEVICE + 1] = 0xff;	/* no class of its own */
	set16(space + PCI_STATUS, PCI_STATUS_CAP_LIST);
	space[PCI_CAPABILITY_LIST] = EXP;
	set16(writable + PCI_COMMAND,
	      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	set32(writable + PCI_BASE_ADDRESS_0, -NO_SNOOP_BAR_SIZE);
	writable[PCI_INTERRUPT_LINE] = 0xff;

	space[EXP] = PCI_CAP_ID_EXP;
	set16(space + EXP + PCI_EXP_FLAGS, PCI_EXP_TYPE_ENDPOINT << 4 | 2);
	set32(space + EXP + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER);
	/* All but the bit that resets the device */
	set16(writable + DEVCTL, 0x7fff);
	device_reset();
	resets = 0;
}

void device_reset(void)
{
	unsigned int i;

	for (i = 0; i < CONFIG_SIZE; i++)
		space[i] &= ~writable[i];
	/* And 512 bytes a read */
	set16(space + DEVCTL, PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_RELAX_EN |
	      PCI_EXP_DEVCTL_READRQ_512B);
	resets++;
}

static void config_write(uint64_t offset, const uint8_t *data, uint32_t count)
{
	bool reset = false;
	uint32_t i;

	for (i = 0; i < count; i++, offset++) {
		uint8_t bits = writable[offset];

		space[offset] = (space[offset] & ~bits) | (data[i] & bits);
		if (offset == DEVCTL + 1)
			reset = data[i] & (PCI_EXP_DEVCTL_BCR_FLR >> 8);
	}
	if (reset)
		device_reset();
	if (get16(PCI_COMMAND) & PCI_COMMAND_MASTER && get16(DEVCTL) & PCI_EXP_DEVCTL_NOSNOOP_EN)
		allowed = true;
}

uint64_t device_region_size(unsigned int region)
{
	switch (region) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		return NO_SNOOP_BAR_SIZE;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		return CONFIG_SIZE;
	default:
		return 0;
	}
}

/* Every PCI Express device can report an error. */
unsigned int device_irqs(unsigned int kind)
{
	return kind == VFIO_PCI_ERR_IRQ_INDEX;
}

int device_read(unsigned int region, uint64_t offset, void *data, uint32_t count)
{
	uint32_t value = 0;

	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		memcpy(data, space + offset, count);
		return 0;
	}
	if (count != sizeof(value) || offset % sizeof(value))
		return -EINVAL;
	switch (offset) {
	case NO_SNOOP_DEVCTL:
		value = get16(DEVCTL);
		break;
	case NO_SNOOP_RESETS:
		value = resets;
		break;
	case NO_SNOOP_ALLOWED:
		value = allowed;
		break;
	}
	memcpy(data, &value, sizeof(value));
	return 0;
}

int device_write(unsigned int region, uint64_t offset, const void *data, uint32_t count)
{
	uint32_t value;

	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		config_write(offset, data, count);
		return 0;
	}
	if (count != sizeof(value) || offset % sizeof(value))
		return -EINVAL;
	memcpy(&value, data, sizeof(value));
	if (offset == NO_SNOOP_ALLOWED && !value)
		allowed = false;
	return 0;
}
