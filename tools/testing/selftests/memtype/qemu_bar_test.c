// SPDX-License-Identifier: GPL-2.0-only
/*
 * A BAR of which accesses would be refused. The device is a process, this one's child, and QEMU
 * maps the BAR from a file that it gives (../../memtype/vfio_user/), but with neither read nor
 * write access. A QEMU that asks KVM (qemu.h) warns as soon as the guest has enabled the BAR.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/un.h>

#include "../kselftest_harness.h"
#include "no_timeout.h"
#include "qemu.h"
#include "../../memtype/vfio_user/config.h"
#include "../../memtype/vfio_user/device.h"

#define SOCKET		"/tmp/device"
#define VENDOR		0x1af4
#define DEVICE		0x1211
#define BAR_SIZE	0x10000
/* No answer of the device may come too late. */
#define DEVICE_ARG							\
	"{'driver': 'vfio-user-pci', 'x-msg-timeout': 3600000, "	\
	"'socket': {'type': 'unix', 'path': '" SOCKET "'}}"

int device_init(const char *argument)
{
	int file = memfd_create("bar", 0);

	(void)argument;
	if (file < 0 || ftruncate(file, BAR_SIZE))
		return -errno;
	config_init(VENDOR, DEVICE, BAR_SIZE);
	server_give_file(VFIO_PCI_BAR0_REGION_INDEX, file, 0);
	return 0;
}

void device_reset(void)
{
	config_reset();
}

int device_work(void)
{
	return -1;
}

uint64_t device_region_size(unsigned int region)
{
	return region == VFIO_PCI_BAR0_REGION_INDEX ? BAR_SIZE :
	       region == VFIO_PCI_CONFIG_REGION_INDEX ? CONFIG_SIZE : 0;
}

unsigned int device_irqs(unsigned int kind)
{
	return kind == VFIO_PCI_ERR_IRQ_INDEX;
}

int device_read(unsigned int region, uint64_t offset, void *data, uint32_t count)
{
	if (region != VFIO_PCI_CONFIG_REGION_INDEX)
		return -EACCES;
	memcpy(data, config_space + offset, count);
	return 0;
}

int device_write(unsigned int region, uint64_t offset, const void *data, uint32_t count)
{
	if (region != VFIO_PCI_CONFIG_REGION_INDEX)
		return -EACCES;
	if (config_write(offset, data, count))
		device_reset();
	return 0;
}

/* Starts the process, which ends with QEMU; false if there is no socket. */
static bool start_device(void)
{
	const struct sockaddr_un address = { AF_UNIX, ROOT SOCKET };
	int listening = socket(AF_UNIX, SOCK_STREAM, 0);

	unlink(ROOT SOCKET);
	if (bind(listening, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(listening, 1))
		return false;
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(server_run(listening, NULL));
	}
	close(listening);
	return true;
}

TEST(refused)
{
	struct vmm vmm = {};
	const char *said;
	char *text;

	/* A PC's firmware may enable it before Linux does. */
	ASSERT_TRUE(start_device());
	ASSERT_TRUE(boots(&vmm, (char *[]) { "-device", DEVICE_ARG, NULL }, false));
	ASSERT_NE(enable_device(&vmm, "1211"), 0);
	text = errors();
	said = strstr(text, "would be refused: unmapped") ? "explained" :
	       strstr(text, "refused") ? "wrong" : "silent";
	print_cell("QEMU: BAR without access", "", said);
	EXPECT_TRUE(powers_off(&vmm));
}

int main(int argc, char **argv)
{
	mount_debian();
	choose_qemu();
	return test_harness_run(argc, argv);
}
