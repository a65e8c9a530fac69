/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lets one allocation of this thread fail, or one step of the mock IOMMU that can.
 */
#ifndef SELFTEST_FAULT_INJECTION_H
#define SELFTEST_FAULT_INJECTION_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../kselftest.h"
#include "vfio_device.h"

#define DEBUGFS		"/sys/kernel/debug/"

/*
 * Any allocation may fail, and silently. Returns a file for faults_on() and faults_off() of this
 * thread, or -errno if this kernel injects no faults.
 */
static inline int faults_open(void)
{
	int ret = write_file(DEBUGFS "failslab/ignore-gfp-wait", "N") ?:
		  write_file(DEBUGFS "failslab/verbose", "0") ?:
		  write_file(DEBUGFS "fail_iommufd/verbose", "0");
	int fd;

	if (ret)
		return ret;
	/* If the kernel has that, too */
	write_file(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N");
	write_file(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N");
	write_file(DEBUGFS "fail_page_alloc/verbose", "0");
	fd = open("/proc/thread-self/fail-nth", O_RDWR);
	return fd < 0 ? -errno : fd;
}

/* The fault happens at the @nth chance from now on. */
static inline void faults_on(int fd, unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fd, text, len, 0) != len)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
}

/* Whether it happened; reading and writing the file may have had it. From now on, none does. */
static inline bool faults_off(int fd)
{
	char text[16] = "1";
	bool happened;

	happened = pread(fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
	if (pwrite(fd, "0", 1, 0) != 1 && pwrite(fd, "0", 1, 0) != 1)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
	return happened;
}

#endif /* SELFTEST_FAULT_INJECTION_H */
