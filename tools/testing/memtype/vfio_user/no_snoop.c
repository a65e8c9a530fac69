// SPDX-License-Identifier: GPL-2.0-only
/* The device of no_snoop.h: its config space and its registers. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <linux/vfio.h>

#include "config.h"
#include "device.h"
#include "no_snoop.h"

static uint32_t resets;
static bool allowed;

int device_init(const char *argument)
{
	config_init(NO_SNOOP_VENDOR, NO_SNOOP_DEVICE, NO_SNOOP_BAR_SIZE);
	return argument ? -EINVAL : 0;
}

void device_reset(void)
{
	config_reset();
	resets++;
}

int device_work(void)
{
	return -1;
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
		memcpy(data, config_space + offset, count);
		return 0;
	}
	if (count != sizeof(value) || offset % sizeof(value))
		return -EINVAL;
	switch (offset) {
	case NO_SNOOP_DEVCTL:
		value = config_get16(CONFIG_DEVCTL);
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
		if (config_write(offset, data, count))
			device_reset();
		if (config_get16(PCI_COMMAND) & PCI_COMMAND_MASTER &&
		    config_get16(CONFIG_DEVCTL) & PCI_EXP_DEVCTL_NOSNOOP_EN)
			allowed = true;
		return 0;
	}
	if (count != sizeof(value) || offset % sizeof(value))
		return -EINVAL;
	memcpy(&value, data, sizeof(value));
	if (offset == NO_SNOOP_ALLOWED && !value)
		allowed = false;
	return 0;
}
