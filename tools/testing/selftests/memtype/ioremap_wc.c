// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs in a Linux guest whose VMM wants to see what memory types its kernel
 * asks for (kvm/memtype_linux_test). The guest's command line says what to map,
 * as ADDRESS:TYPE, and how; 0 is RAM:
 *
 *	ioremap=0xc0000000:wc,0xc0001000:uc,0:wb
 *
 * The kernel hands an option that it does not know to init as a variable of the
 * environment. For each, a line says where the kernel has mapped it, and what
 * it wrote there and read back; then this waits for the VMM to look.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../kselftest.h"
#include "../../../../mm/memtype_test.h"

#define DRIVER	"/sys/kernel/debug/memtype_test"

static const char * const types[] = {
	[MEMTYPE_TEST_WB] = "wb", [MEMTYPE_TEST_WC] = "wc", [MEMTYPE_TEST_UC] = "uc",
};

/* The file stays open: closing it would unmap what the VMM is to see. */
static void map(unsigned long long phys, const char *type)
{
	struct memtype_test_setup setup = {
		.size = getpagesize(), .phys = phys, .flags = phys ? MEMTYPE_TEST_IOREMAP : 0,
	};
	struct memtype_test_access access = { .value = ~phys };
	int fd = open(DRIVER, O_RDWR);

	while (setup.prot < ARRAY_SIZE(types) && strcmp(types[setup.prot], type))
		setup.prot++;
	if (fd < 0 || ioctl(fd, MEMTYPE_TEST_SETUP, &setup) ||
	    ioctl(fd, MEMTYPE_TEST_ACCESS, &access))
		ksft_exit_fail_msg("%#llx as %s: %s\n", phys, type, strerror(errno));
	printf("mapped %#llx as %s at %#llx: %#llx\n", phys, type,
	       (unsigned long long)access.addr, (unsigned long long)access.value);
}

int main(void)
{
	char *list = getenv("ioremap");
	unsigned long long phys;
	char type[3];

	for (list = strtok(list, ","); list; list = strtok(NULL, ",")) {
		if (sscanf(list, "%llx:%2s", &phys, type) != 2)
			ksft_exit_fail_msg("ioremap=: not ADDRESS:TYPE: %s\n", list);
		map(phys, type);
	}
	puts("mapped all");
	pause();
	return 0;
}
