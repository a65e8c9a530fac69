// SPDX-License-Identifier: GPL-2.0-only
/*
 * The driver drivers/vfio/dma_sample.c, which forgets maintenance: what its device and the CPU
 * then read. It also is an example of such a test.
 */
#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_engine.h"

#define DRIVER		"dma-sample"
#define PARAMETERS	"/sys/module/dma_sample/parameters/"
#define EXCHANGES	10

static char device[NAME_MAX + 1];

static int write_of(const char *file, const char *text)
{
	char path[512];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/%s", device, file);
	return write_file(path, text);
}

/* "right" if all answers are, or else "stale"; "nothing" if one cannot be had. */
static const char *exchanges(void)
{
	char path[512], answer[8] = "";
	unsigned int i, right = 0;
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/exchange", device);
	for (i = 0; i < EXCHANGES; i++) {
		fd = open(path, O_RDONLY);
		size = read(fd, answer, sizeof(answer) - 1);
		close(fd);
		if (size <= 0)
			return "nothing";
		right += !strcmp(answer, "right\n");
	}
	return right == EXCHANGES ? "right" : "stale";
}

FIXTURE(driver)
{
};

FIXTURE_VARIANT(driver)
{
	const char *row, *for_device, *for_cpu;
};

FIXTURE_VARIANT_ADD(driver, forgets_the_device)
{
	"a driver that forgets dma_sync_single_for_device()", "N", "Y",
};

FIXTURE_VARIANT_ADD(driver, forgets_the_cpu)
{
	"a driver that forgets dma_sync_single_for_cpu()", "Y", "N",
};

FIXTURE_VARIANT_ADD(driver, forgets_nothing)
{
	"a driver that forgets neither", "Y", "Y",
};

FIXTURE_SETUP(driver)
{
	ASSERT_TRUE(engine_find(device));
	ASSERT_EQ(0, write_file(PARAMETERS "sync_for_device", variant->for_device));
	ASSERT_EQ(0, write_file(PARAMETERS "sync_for_cpu", variant->for_cpu));
	/* vfio-pci, if the other tests ran */
	write_of("driver/unbind", device);
	ASSERT_EQ(0, write_of("driver_override", DRIVER));
	ASSERT_EQ(0, write_file("/sys/bus/pci/drivers_probe", device));
}

FIXTURE_TEARDOWN(driver)
{
	EXPECT_EQ(0, write_file("/sys/bus/pci/drivers/" DRIVER "/unbind", device));
	EXPECT_EQ(0, write_of("driver_override", "\n"));
}

TEST_F(driver, exchange)
{
	ksft_print_msg("memtype-cell: row=%s effective=%s forced=no\n", variant->row,
		       exchanges());
}

TEST_HARNESS_MAIN
