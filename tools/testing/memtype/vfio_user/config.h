/* SPDX-License-Identifier: GPL-2.0-only */
/* The config space of a PCI Express endpoint with one BAR. */
#ifndef VFIO_USER_CONFIG_H
#define VFIO_USER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/pci_regs.h>

#define CONFIG_SIZE	4096
/* Where the PCI Express capability is, and its register */
#define CONFIG_EXP	0x40
#define CONFIG_DEVCTL	(CONFIG_EXP + PCI_EXP_DEVCTL)

/* What it has, and the bits of it that can be written */
extern uint8_t config_space[CONFIG_SIZE], config_writable[CONFIG_SIZE];

/* PCI is little-endian, and so is the host. */
void config_set16(uint8_t *where, uint16_t value);
void config_set32(uint8_t *where, uint32_t value);
uint16_t config_get16(unsigned int where);

/* What it has when the device is switched on; the capability is the last of the list. */
void config_init(uint16_t vendor, uint16_t device, uint32_t bar_size);

/* What can be written is cleared, but the device may use No-Snoop. */
void config_reset(void);

/* Whether that was a function-level reset, which then is the caller's to do. */
bool config_write(uint64_t offset, const uint8_t *data, uint32_t count);

#endif /* VFIO_USER_CONFIG_H */
