// SPDX-License-Identifier: GPL-2.0-only
/*
 * memtype-example - all that a VMM has to do about KVM's guest memory types.
 *
 *	memtype-example [--stage1] [FD]
 *
 * Makes a VM with RAM, an emulated framebuffer and a blob, which is a page of what
 * the open file descriptor FD maps (without it, of a memfd), and prints what a guest
 * will get. Documentation/virt/kvm/memtype-vmm.rst explains it.
 *
 * Exit status: 0; 1 after an error; 2 if the arguments are wrong; 4 if the kernel or
 * the CPU cannot do it.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/kvm_memtype.h>
#include <linux/virtio_gpu.h>

#define USAGE		2
#define UNSUPPORTED	4
#define RAM_SIZE	(2UL << 20)

struct range {
	const char *name;
	__u64 gpa;
	__u64 size;
	void *hva;
	__u32 flags;
};

static const char * const types[] = {
	[KVM_MEMTYPE_NONE] = "none",	[KVM_MEMTYPE_WB] = "WB",
	[KVM_MEMTYPE_WT] = "WT",	[KVM_MEMTYPE_WP] = "WP",
	[KVM_MEMTYPE_WC] = "WC",	[KVM_MEMTYPE_UC_MINUS] = "UC-",
	[KVM_MEMTYPE_UC] = "UC",	[KVM_MEMTYPE_GRE] = "GRE",
	[KVM_MEMTYPE_NGRE] = "nGRE",	[KVM_MEMTYPE_NGNRNE] = "nGnRnE",
};

static const char * const refusals[] = {
	[KVM_MEMTYPE_REFUSAL_UNMAPPED] = "the host gives KVM no page there",
	[KVM_MEMTYPE_REFUSAL_CACHEABLE] = "a device's memory, which the host caches",
	[KVM_MEMTYPE_REFUSAL_MTE] = "the VM has MTE, and it cannot have tags",
	[KVM_MEMTYPE_REFUSAL_HYPERVISOR] =
		"pKVM's hypervisor maps only memory that the host caches",
};

static const char * const map_infos[] = {
	[VIRTIO_GPU_MAP_CACHE_CACHED] = "cached",
	[VIRTIO_GPU_MAP_CACHE_UNCACHED] = "uncached",
	[VIRTIO_GPU_MAP_CACHE_WC] = "write-combining",
};

/* Of /dev/kvm: what a new VM would have. Of a VM: what that one has. */
static int check_capability(const char *name, int fd)
{
	int bits = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MEMTYPE);

	if (bits < 0)
		err(1, "KVM_CHECK_EXTENSION");
	if (!(bits & KVM_MEMTYPE_CAP_QUERY))
		errx(UNSUPPORTED, "this kernel has no KVM_CAP_MEMTYPE");
	printf("%s:%s%s%s%s%s\n", name,
	       bits & KVM_MEMTYPE_CAP_HONOR ? " honor" : "",
	       bits & KVM_MEMTYPE_CAP_WC ? " WC" : "",
	       bits & KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP ? " cacheable-PFNMAP" : "",
	       bits & KVM_MEMTYPE_CAP_FORCE_WB ? " force-WB" : "",
	       bits & KVM_MEMTYPE_CAP_STAGE1 ? " stage1" : "");
	return bits;
}

/* Only before the first vCPU. */
static void choose_stage1(int vm, int bits)
{
	struct kvm_enable_cap policy = {
		.cap = KVM_CAP_MEMTYPE, .args = { KVM_MEMTYPE_POLICY_STAGE1 },
	};

	if (!(bits & KVM_MEMTYPE_CAP_STAGE1))
		errx(UNSUPPORTED, "no stage-1 mode here: arm64 with FWB has it");
	if (ioctl(vm, KVM_ENABLE_CAP, &policy))
		err(1, "KVM_ENABLE_CAP");
}

/* A @range of size 0 goes away. */
static int set_memslot(int vm, __u32 slot, const struct range *range)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = range->flags, .guest_phys_addr = range->gpa,
		.memory_size = range->size, .userspace_addr = (__u64)range->hva,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* Has the host map a page, as an access does; but one that fails ends nothing. */
static bool touch(const char *page)
{
	bool mapped;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		err(1, "pipe2");
	mapped = write(fds[1], page, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return mapped;
}

/* What is at @gpa, and up to page->end, in the range. */
static void ask(int vm, const struct range *range, __u64 gpa, struct kvm_memtype *page)
{
	*page = (struct kvm_memtype) { .gpa = gpa };
	if (ioctl(vm, KVM_GET_MEMTYPE, page))
		err(1, "KVM_GET_MEMTYPE");
	if (!(page->attributes & KVM_MEMTYPE_ATTR_PREDICTED))
		return;

	/*
	 * The host has not mapped it yet, so that this was a guess. Read a byte, which does;
	 * but do not do that to registers of a device.
	 */
	if (!touch((char *)range->hva + (gpa - range->gpa))) {
		page->refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED;
		return;
	}
	*page = (struct kvm_memtype) { .gpa = gpa };
	if (ioctl(vm, KVM_GET_MEMTYPE, page))
		err(1, "KVM_GET_MEMTYPE");
}

/* The type of a blob for the guest: what it gets if it maps it as the host does. */
static int map_info(const struct kvm_memtype *page)
{
	switch (page->effective[page->host]) {
	case KVM_MEMTYPE_WB:
	case KVM_MEMTYPE_WT:
	case KVM_MEMTYPE_WP:
		return VIRTIO_GPU_MAP_CACHE_CACHED;
	case KVM_MEMTYPE_WC:
		return VIRTIO_GPU_MAP_CACHE_WC;
	default:
		return VIRTIO_GPU_MAP_CACHE_UNCACHED;
	}
}

static void add_range(int vm, __u32 slot, struct range *range)
{
	struct kvm_memtype page;
	__u64 gpa;

	if (set_memslot(vm, slot, range)) {
		/* arm64 sees here what no guest could access at all. */
		if (errno != EINVAL)
			err(1, "KVM_SET_USER_MEMORY_REGION");
		printf("%s at 0x%llx: refused: as a memslot\n", range->name, range->gpa);
		return;
	}
	/* Memory of several types has an answer for each piece. */
	for (gpa = range->gpa; gpa < range->gpa + range->size; gpa = page.end) {
		ask(vm, range, gpa, &page);
		printf("%s at 0x%llx: ", range->name, gpa);
		if (page.refusal) {
			printf("refused: %s\n", refusals[page.refusal]);
			range->size = 0;
			if (set_memslot(vm, slot, range))
				err(1, "KVM_SET_USER_MEMORY_REGION");
			return;
		}
		printf("host %s, tell the guest %s, its WC is %s\n", types[page.host],
		       map_infos[map_info(&page)], types[page.effective[KVM_MEMTYPE_WC]]);
	}
}

static void *map_or_exit(size_t size, int flags, int fd)
{
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (hva == MAP_FAILED)
		err(1, "mmap");
	return hva;
}

static int open_blob(const char *fd, size_t size)
{
	char *end;
	int blob;

	if (fd) {
		blob = strtol(fd, &end, 10);
		if (*end)
			errx(1, "%s is not a file descriptor", fd);
		return blob;
	}
	blob = memfd_create("blob", MFD_CLOEXEC);
	if (blob < 0 || ftruncate(blob, size))
		err(1, "memfd");
	return blob;
}

/* KVM's own view of the whole VM; the tool kvm-memtype explains it. */
static void print_table(int vm)
{
	char path[64], line[256];
	FILE *table;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/memtype", getpid(), vm);
	table = fopen(path, "r");
	if (!table) {
		warn("%s", path);
		return;
	}
	printf("%s:\n", path);
	while (fgets(line, sizeof(line), table))
		printf("  %s", line);
	if (ferror(table))
		err(1, "%s", path);
	fclose(table);
}

int main(int argc, char **argv)
{
	bool stage1 = argc > 1 && !strcmp(argv[1], "--stage1");
	size_t page_size = sysconf(_SC_PAGESIZE);
	int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	struct range ram = { .name = "RAM", .gpa = 0x40000000, .size = RAM_SIZE };
	struct range framebuffer = {
		.name = "framebuffer", .gpa = 0x80000000, .size = RAM_SIZE,
	};
	struct range blob = { .name = "blob", .gpa = 0x100000000, .size = page_size };
	int kvm, vm, bits;

	if (argc > 2 + stage1 || (argc > 1 + stage1 && !isdigit((unsigned char)*argv[1 + stage1])))
		errx(USAGE, "usage: memtype-example [--stage1] [FD]");
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	bits = check_capability("/dev/kvm", kvm);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		err(1, "KVM_CREATE_VM");
	if (stage1)
		choose_stage1(vm, bits);
	bits = check_capability("VM", vm);

	ram.hva = map_or_exit(ram.size, anonymous, -1);
	framebuffer.hva = map_or_exit(framebuffer.size, anonymous, -1);
	blob.hva = map_or_exit(blob.size, MAP_SHARED, open_blob(argv[1 + stage1], blob.size));
	/* Old guests map an emulated framebuffer uncached by mistake, which can be very slow. */
	if (bits & KVM_MEMTYPE_CAP_FORCE_WB)
		framebuffer.flags = KVM_MEM_FORCE_WB;

	add_range(vm, 0, &ram);
	add_range(vm, 1, &framebuffer);
	add_range(vm, 2, &blob);
	print_table(vm);
	return 0;
}
