// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waits for QEMU's edu device and has it copy memory of this program to itself
 * and back, as a driver in user space does, and says where its registers are.
 * It keeps them mapped until a line comes; then it reads one of them once more.
 * Or, with "until-gone", it goes on with DMA until the device is taken away.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../iommu/vfio_device.h"

#define BYTES		2048

static void *registers;

static int open_file(const char *directory, const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, flags);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

/* Lets the device of that directory in sysfs decode addresses and access memory. */
static void enable_edu(const char *directory)
{
	int fd = open_file(directory, "config", O_RDWR);
	uint16_t command;

	if (pread(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		err(1, "%s: command", directory);
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		err(1, "%s: command", directory);
	close(fd);
}

/* Maps BAR 0; returns its address on the bus. */
static uint64_t map_registers(const char *directory)
{
	int fd = open_file(directory, "resource", O_RDONLY);
	char line[64] = "";

	if (read(fd, line, sizeof(line) - 1) <= 0)
		err(1, "%s: resource", directory);
	close(fd);

	fd = open_file(directory, "resource0", O_RDWR);
	registers = mmap(NULL, EDU_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (registers == MAP_FAILED)
		err(1, "%s: resource0", directory);
	close(fd);
	return strtoull(line, NULL, 16);
}

static uint64_t address_of(const void *address)
{
	const uint64_t present = 1ull << 63, pfns = (1ull << 55) - 1;
	uint64_t entry, page = (uintptr_t)address / getpagesize();
	int fd = open_file("/proc/self", "pagemap", O_RDONLY);

	if (pread(fd, &entry, sizeof(entry), page * sizeof(entry)) != sizeof(entry))
		err(1, "pagemap");
	close(fd);
	if (!(entry & present) || !(entry & pfns))
		errx(1, "no physical address");
	return (entry & pfns) * getpagesize() + (uintptr_t)address % getpagesize();
}

static void run_dma(const void *memory, bool to_memory)
{
	edu_start(registers, address_of(memory), BYTES, to_memory);
	while (edu_runs(registers))
		usleep(1000);
}

/*
 * Has the device write to memory until it is taken away, and with it its directory. The registers
 * stay mapped then, without a device behind them.
 */
static void run_until_gone(const char *directory, const void *memory)
{
	while (!access(directory, F_OK)) {
		edu_start(registers, address_of(memory), BYTES, true);
		usleep(1000);
	}
	puts("gone");
	/* The memory of a transfer that was pending is kept until nothing can reach it. */
	sleep(1);
}

int main(int argc, char **argv)
{
	char name[NAME_MAX + 1], directory[sizeof(PCI_DEVICES) + NAME_MAX];
	uint8_t *from, *to;
	uint64_t bar;

	while (!find_edu(name))
		usleep(10000);
	snprintf(directory, sizeof(directory), PCI_DEVICES "%s", name);
	enable_edu(directory);
	bar = map_registers(directory);

	/* One page, which stays where it is. */
	from = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	if (from == MAP_FAILED)
		err(1, "memory");
	to = from + BYTES;
	for (int i = 0; i < BYTES; i++) {
		from[i] = rand();
		to[i] = ~from[i];
	}
	run_dma(from, false);
	run_dma(to, true);
	if (memcmp(from, to, BYTES))
		errx(1, "the memory is not what the device was given");

	printf("copied, BAR 0 at 0x%llx\n", (unsigned long long)bar);
	if (argc > 1 && !strcmp(argv[1], "until-gone")) {
		run_until_gone(directory, to);
		return 0;
	}
	getchar();
	printf("%d of %d bytes\n", (int)edu_read(registers, EDU_COUNT), BYTES);
	return 0;
}
