// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has QEMU's edu device copy memory of this program to itself and back, as a
 * driver in user space does, says where its registers are, and keeps them
 * mapped until a line comes.
 */
#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>

/* The device (docs/specs/edu.txt in QEMU) */
#define EDU_ID		0x11e81234
#define EDU_SIZE	0x100000
#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_RUN		1
#define EDU_TO_MEMORY	2
#define EDU_BUFFER	0x40000

#define BYTES		2048
#define WAIT_MS		30000

static uint8_t *registers;

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
static bool enable_edu(const char *directory)
{
	int fd = open_file(directory, "config", O_RDWR);
	uint16_t command;
	uint32_t id;

	if (pread(fd, &id, sizeof(id), PCI_VENDOR_ID) != sizeof(id))
		err(1, "%s: ID", directory);
	if (id == EDU_ID) {
		if (pread(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
			err(1, "%s: command", directory);
		command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
			err(1, "%s: command", directory);
	}
	close(fd);
	return id == EDU_ID;
}

/* Maps BAR 0; returns its address on the bus. */
static uint64_t map_registers(const char *directory)
{
	int fd = open_file(directory, "resource", O_RDONLY);
	char line[64] = "";
	void *address;

	if (read(fd, line, sizeof(line) - 1) <= 0)
		err(1, "%s: resource", directory);
	close(fd);

	fd = open_file(directory, "resource0", O_RDWR);
	address = mmap(NULL, EDU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		err(1, "%s: resource0", directory);
	close(fd);
	registers = address;
	return strtoull(line, NULL, 16);
}

static void write_register(unsigned int offset, uint64_t value)
{
	__atomic_store_n((uint64_t *)(registers + offset), value, __ATOMIC_SEQ_CST);
}

static uint64_t read_register(unsigned int offset)
{
	return __atomic_load_n((uint64_t *)(registers + offset), __ATOMIC_SEQ_CST);
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

static void run_dma(uint64_t source, uint64_t target, uint64_t command)
{
	write_register(EDU_SOURCE, source);
	write_register(EDU_TARGET, target);
	write_register(EDU_COUNT, BYTES);
	write_register(EDU_COMMAND, command | EDU_RUN);
	for (int i = 0; i < WAIT_MS; i++) {
		if (!(read_register(EDU_COMMAND) & EDU_RUN))
			return;
		usleep(1000);
	}
	errx(1, "DMA does not end");
}

int main(void)
{
	const char *directory = NULL;
	uint8_t *from, *to;
	uint64_t bar;
	glob_t found;

	glob("/sys/bus/pci/devices/*", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc && !directory; i++)
		if (enable_edu(found.gl_pathv[i]))
			directory = found.gl_pathv[i];
	if (!directory)
		errx(1, "no edu device");
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
	run_dma(address_of(from), EDU_BUFFER, 0);
	run_dma(EDU_BUFFER, address_of(to), EDU_TO_MEMORY);
	if (memcmp(from, to, BYTES))
		errx(1, "the memory is not what the device was given");

	printf("copied, BAR 0 at 0x%llx\n", (unsigned long long)bar);
	getchar();
	return 0;
}
