// SPDX-License-Identifier: GPL-2.0-only
/* The config space of config.h */
#include <string.h>

#include "config.h"

uint8_t config_space[CONFIG_SIZE], config_writable[CONFIG_SIZE];

void config_set16(uint8_t *where, uint16_t value)
{
	memcpy(where, &value, sizeof(value));
}

void config_set32(uint8_t *where, uint32_t value)
{
	memcpy(where, &value, sizeof(value));
}

uint16_t config_get16(unsigned int where)
{
	uint16_t value;

	memcpy(&value, config_space + where, sizeof(value));
	return value;
}

void config_init(uint16_t vendor, uint16_t device, uint32_t bar_size)
{
	config_set16(config_space + PCI_VENDOR_ID, vendor);
	config_set16(config_space + PCI_DEVICE_ID, device);
	config_space[PCI_CLASS_DEVICE + 1] = 0xff;	/* no class of its own */
	config_set16(config_space + PCI_STATUS, PCI_STATUS_CAP_LIST);
	config_space[PCI_CAPABILITY_LIST] = CONFIG_EXP;
	config_set16(config_writable + PCI_COMMAND,
		     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	config_set32(config_writable + PCI_BASE_ADDRESS_0, -bar_size);
	config_writable[PCI_INTERRUPT_LINE] = 0xff;

	config_space[CONFIG_EXP] = PCI_CAP_ID_EXP;
	config_set16(config_space + CONFIG_EXP + PCI_EXP_FLAGS, PCI_EXP_TYPE_ENDPOINT << 4 | 2);
	config_set32(config_space + CONFIG_EXP + PCI_EXP_DEVCAP,
		     PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER);
	/* All but the bit that resets the device */
	config_set16(config_writable + CONFIG_DEVCTL, 0x7fff);
	config_reset();
}

void config_reset(void)
{
	unsigned int i;

	for (i = 0; i < CONFIG_SIZE; i++)
		config_space[i] &= ~config_writable[i];
	/* And 512 bytes a read */
	config_set16(config_space + CONFIG_DEVCTL, PCI_EXP_DEVCTL_NOSNOOP_EN |
		     PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_READRQ_512B);
}

bool config_write(uint64_t offset, const uint8_t *data, uint32_t count)
{
	bool reset = false;
	uint32_t i;

	for (i = 0; i < count; i++, offset++) {
		uint8_t bits = config_writable[offset];

		config_space[offset] = (config_space[offset] & ~bits) | (data[i] & bits);
		if (offset == CONFIG_DEVCTL + 1)
			reset = data[i] & (PCI_EXP_DEVCTL_BCR_FLR >> 8);
	}
	return reset;
}
