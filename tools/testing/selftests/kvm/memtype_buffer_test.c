// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers that graphics drivers share with a guest, and which memory type the
 * guest gets for them:
 *
 *  - blob: a buffer of the host comes and goes in a running VM, as a blob resource
 *    of virtio-gpu that the guest mapped, and the guest maps it with the type that
 *    the VMM learned of KVM_GET_MEMTYPE;
 *  - buffer: what drivers of the kernel give to user space;
 *  - framebuffer: emulated graphics with KVM_MEM_FORCE_WB, and its neighbours.
 *
 * memtype_test is about every type of the host and of the guest. How agreement is
 * checked, and what the lines for the matrix mean, is said there.
 */
#include <drm/drm.h>
#include <drm/drm_mode.h>
#include <linux/udmabuf.h>
#include <linux/virtio_gpu.h>

#include "memtype_walk.h"

#define BUFFER_SIZE	SZ_64K

/*
 * Of map_host(): RAM whose type on the host really is WC or uncached; what comes
 * with that; and what pgprot_noncached() is to the host and to a guest's driver.
 */
#ifdef __x86_64__
#define SET_RAM		MEMTYPE_TEST_SET_RAM
#define NOEXEC		0
#define NONCACHED	KVM_MEMTYPE_UC_MINUS
#define GUEST_NONCACHED	KVM_MEMTYPE_UC_MINUS
#else
#define SET_RAM		0
#define NOEXEC		KVM_MEMTYPE_ATTR_NOEXEC
#define NONCACHED	KVM_MEMTYPE_NGNRNE
#define GUEST_NONCACHED	KVM_MEMTYPE_UC
#endif

/* Asks for the type of a guest page whose host address is @hva. */
static void ask(struct kvm_vm *vm, uint64_t gpa, void *hva, struct kvm_memtype *answer)
{
	TEST_ASSERT(!get_memtype(vm, gpa, answer), "query: %s", strerror(errno));
	if (!(answer->attributes & KVM_MEMTYPE_ATTR_PREDICTED))
		return;
	/* Its driver maps it when it is touched, and only then is it certain what it is. */
	READ_ONCE(*(char *)hva);
	TEST_ASSERT(!get_memtype(vm, gpa, answer), "query: %s", strerror(errno));
	TEST_ASSERT(!(answer->attributes & KVM_MEMTYPE_ATTR_PREDICTED), "still a guess");
}

/*
 * What a VMM answers VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB: the guest is to use the
 * host's own type. Whether it can, the query says as well.
 */
static uint32_t map_info(const struct kvm_memtype *answer)
{
	switch (answer->host) {
	case KVM_MEMTYPE_WB:
		return VIRTIO_GPU_MAP_CACHE_CACHED;
	case KVM_MEMTYPE_WC:
		return VIRTIO_GPU_MAP_CACHE_WC;
	default:
		return VIRTIO_GPU_MAP_CACHE_UNCACHED;
	}
}

/* How the virtio-gpu driver of a Linux guest then maps it, by pgprot_*(). */
static uint8_t driver_kind(uint32_t map_info)
{
	switch (map_info) {
	case VIRTIO_GPU_MAP_CACHE_WC:
		return KVM_MEMTYPE_WC;
	case VIRTIO_GPU_MAP_CACHE_UNCACHED:
		return GUEST_NONCACHED;
	default:
		return KVM_MEMTYPE_WB;
	}
}

struct blob {
	const char *row;
	uint32_t prot, flags;	/* MEMTYPE_TEST_* */
	uint32_t map_info;
	uint8_t effective;	/* of the driver's choice, and on the host but for the kind of UC */
	struct page page;
};

static const struct blob blobs[] = {
	{
		.row = "blob WC", .prot = MEMTYPE_TEST_WC, .flags = SET_RAM,
		.map_info = VIRTIO_GPU_MAP_CACHE_WC, .effective = KVM_MEMTYPE_WC,
		.page = {
			.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_WRITE, .untouched = true,
			.host = KVM_MEMTYPE_WC, .intent = KVM_MEMTYPE_WC,
			.source = KVM_MEMTYPE_SOURCE_PTE, .attributes = NOEXEC,
		},
	},
	{
		.row = "blob cached", .prot = MEMTYPE_TEST_WB,
		.map_info = VIRTIO_GPU_MAP_CACHE_CACHED, .effective = KVM_MEMTYPE_WB,
		.page = {
			.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_WRITE, .untouched = true,
			.host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB,
		},
	},
	{
		.row = "blob uncached", .prot = MEMTYPE_TEST_UC, .flags = SET_RAM,
		.map_info = VIRTIO_GPU_MAP_CACHE_UNCACHED, .effective = KVM_MEMTYPE_UC,
		.page = {
			.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_WRITE, .untouched = true,
			.host = NONCACHED, .intent = KVM_MEMTYPE_UC,
			.source = KVM_MEMTYPE_SOURCE_PTE, .attributes = NOEXEC,
		},
	},
};

FIXTURE(blob)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_SETUP(blob)
{
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	self->vm = create_vm(&self->vcpu, 1, 0);
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
}

FIXTURE_TEARDOWN(blob)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* That nothing is at TEST_GPA: the guest's access at @gva goes to the VMM. */
static void check_no_blob(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu, uint64_t gva)
{
	const uint64_t nothing = ~0ull;
	struct kvm_memtype answer;
	struct ucall uc;

	EXPECT_EQ(get_memtype(vcpu->vm, TEST_GPA, &answer), -1);
	EXPECT_EQ(errno, ENOENT);
	commands[vcpu->id] = (struct guest_command) { GUEST_READ, gva, 0 };
	sync_global_to_guest(vcpu->vm, commands);
	vcpu_run(vcpu);
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	EXPECT_EQ(vcpu->run->mmio.phys_addr, TEST_GPA);
	memcpy(vcpu->run->mmio.data, &nothing, sizeof(nothing));
	vcpu_run(vcpu);
	ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	EXPECT_EQ(uc.args[1], nothing);
}

/* The guest sees what the host writes to the blob, and the host what the guest writes. */
static void check_sharing(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu, uint64_t gva,
			  char *hva)
{
	uint64_t offset, *word;

	for (offset = 0; offset < BUFFER_SIZE; offset += SZ_4K) {
		word = (uint64_t *)(hva + offset);
		WRITE_ONCE(*word, PATTERN + offset);
		host_sync(word);
		EXPECT_EQ(let_guest(vcpu, GUEST_READ, gva + offset, 0), PATTERN + offset);
		let_guest(vcpu, GUEST_WRITE, gva + offset, ~(PATTERN + offset));
		host_sync(word);
		EXPECT_EQ(READ_ONCE(*word), ~(PATTERN + offset));
	}
}

/* A blob's life: mapped, asked about, used by the guest as it is told, taken away. */
static void use_blob(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
		     const struct blob *blob, uint64_t gva)
{
	void *hva = map_host(BUFFER_SIZE, 0, blob->prot, blob->flags);
	struct kvm_memtype answer;
	uint64_t offset;
	uint8_t kind;

	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(vcpu->vm, TEST_SLOT, 0, TEST_GPA, BUFFER_SIZE, hva);
	ask(vcpu->vm, TEST_GPA, hva, &answer);
	EXPECT_EQ(map_info(&answer), blob->map_info);
	kind = driver_kind(map_info(&answer));
	EXPECT_EQ(answer.effective[kind], blob->effective);

	for (offset = 0; offset < BUFFER_SIZE; offset += SZ_4K)
		map_as(vcpu->vm, gva + offset, TEST_GPA + offset, kind);
	check_type(_metadata, vcpu, blob->row, &blob->page, gva, kind);
	check_sharing(_metadata, vcpu, gva, hva);

	vm_set_user_memory_region(vcpu->vm, TEST_SLOT, 0, TEST_GPA, 0, hva);
	check_no_blob(_metadata, vcpu, gva);
	munmap(hva, BUFFER_SIZE);
}

TEST_F(blob, guest_uses_the_type_of_the_host)
{
	uint64_t gva = TEST_GVA;
	int i;

	/* The VM runs, with nothing in the region yet. */
	map_as(self->vm, gva, TEST_GPA, KVM_MEMTYPE_WB);
	check_no_blob(_metadata, self->vcpu, gva);
	for (i = 0; i < ARRAY_SIZE(blobs); i++) {
		gva += BUFFER_SIZE;
		use_blob(_metadata, self->vcpu, &blobs[i], gva);
	}
}

/* Buffers of the kernel's own drivers, mapped by their own mmap(). */
FIXTURE(buffer)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_SETUP(buffer)
{
	self->vm = create_vm(&self->vcpu, 1, 0);
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
}

FIXTURE_TEARDOWN(buffer)
{
	kvm_vm_free(self->vm);
}

/* Both drivers fill in the mapping page by page, so at first the type is a guess. */
static void check_buffer(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			 const char *row, const struct page *page, void *hva)
{
	struct kvm_memtype answer;

	vm_set_user_memory_region(vcpu->vm, TEST_SLOT, 0, TEST_GPA, BUFFER_SIZE, hva);
	ASSERT_EQ(get_memtype(vcpu->vm, TEST_GPA, &answer), 0);
	EXPECT_TRUE(answer.attributes & KVM_MEMTYPE_ATTR_PREDICTED);
	ask(vcpu->vm, TEST_GPA, hva, &answer);
	check_types(_metadata, vcpu, row, page, TEST_GVA);
}

/* Opens the card that a driver has. */
static int open_card(const char *driver)
{
	char path[32], name[16];
	int i, fd;

	for (i = 0; i < 8; i++) {
		struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		memset(name, 0, sizeof(name));
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, driver))
			return fd;
		close(fd);
	}
	return -1;
}

/*
 * vgem asks for WC. vmf_insert_pfn() of x86 gives each page the type that PAT has
 * for it, so it is WC there only because the pages themselves were set to WC, as
 * TTM does.
 */
TEST_F(buffer, vgem)
{
	const struct page page = {
		.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_WRITE,
		.host = KVM_MEMTYPE_WC, .intent = KVM_MEMTYPE_WC,
		.source = KVM_MEMTYPE_SOURCE_PTE, .attributes = NOEXEC,
	};
	struct drm_mode_create_dumb buffer = {
		.width = 128, .height = BUFFER_SIZE / 128 / 4, .bpp = 32,
	};
	struct drm_mode_map_dumb map = {};
	int card = open_card("vgem");
	void *hva;

	if (card < 0)
		SKIP(return, "this kernel has no CONFIG_DRM_VGEM");
	ASSERT_EQ(ioctl(card, DRM_IOCTL_MODE_CREATE_DUMB, &buffer), 0);
	ASSERT_EQ(buffer.size, BUFFER_SIZE);
	map.handle = buffer.handle;
	ASSERT_EQ(ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, &map), 0);
	hva = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, card, map.offset);
	ASSERT_NE(hva, MAP_FAILED);
	close(card);

	check_buffer(_metadata, self->vcpu, "vgem buffer", &page, hva);
}

/* A memfd as a dma-buf, which is how QEMU shows a guest's own memory to a GPU. */
TEST_F(buffer, udmabuf)
{
	const struct page page = {
		.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_WRITE,
		.host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB,
	};
	struct udmabuf_create create = { .size = BUFFER_SIZE };
	int device = open("/dev/udmabuf", O_RDWR), buffer;
	void *hva;

	if (device < 0)
		SKIP(return, "this kernel has no CONFIG_UDMABUF");
	create.memfd = memfd_create("buffer", MFD_ALLOW_SEALING);
	ASSERT_GE(create.memfd, 0);
	ASSERT_EQ(ftruncate(create.memfd, BUFFER_SIZE), 0);
	ASSERT_EQ(fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	buffer = ioctl(device, UDMABUF_CREATE, &create);
	ASSERT_GE(buffer, 0);
	close(device);
	close(create.memfd);
	hva = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, buffer, 0);
	ASSERT_NE(hva, MAP_FAILED);
	close(buffer);

	check_buffer(_metadata, self->vcpu, "udmabuf buffer", &page, hva);
}

/*
 * An emulated framebuffer between guest RAM and a buffer that is WC on the host.
 * Old drivers map it uncached by mistake.
 */
#define RAM_GPA		TEST_GPA
#define FRAME_GPA	(RAM_GPA + BUFFER_SIZE)
#define WC_GPA		(FRAME_GPA + BUFFER_SIZE)

static void check_at(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu, const char *row,
		     struct page page, uint64_t gpa, uint8_t kind)
{
	uint64_t gva = gpa - TEST_GPA + TEST_GVA;

	page.gpa = gpa;
	map_as(vcpu->vm, gva, gpa, kind);
	check_type(_metadata, vcpu, row, &page, gva, kind);
}

TEST(framebuffer)
{
	const struct page ram = {
		.size = SZ_4K, .access = GUEST_WRITE, .untouched = true,
		.host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB,
	};
	const struct page uncached = {
		.size = SZ_4K, .access = GUEST_WRITE, .untouched = true,
		.host = KVM_MEMTYPE_WC, .intent = KVM_MEMTYPE_WC,
		.source = KVM_MEMTYPE_SOURCE_PTE, .attributes = NOEXEC,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char row[64];
	void *frame, *wc;
	bool can_force;
	int i;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	vm = create_vm(&vcpu, 1, 0);
	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	frame = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(frame, MAP_FAILED);
	wc = map_host(BUFFER_SIZE, 0, MEMTYPE_TEST_WC, SET_RAM | MEMTYPE_TEST_PREMAP);
	ASSERT_NE(wc, MAP_FAILED);

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, RAM_GPA, TEST_SLOT,
				    BUFFER_SIZE / SZ_4K, 0);
	vm_set_user_memory_region(vm, TEST_SLOT + 2, 0, WC_GPA, BUFFER_SIZE, wc);
	/* Where the flag cannot be had, the framebuffer is RAM like other RAM. */
	can_force = vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_FORCE_WB;
	if (__vm_set_user_memory_region(vm, TEST_SLOT + 1, KVM_MEM_FORCE_WB, FRAME_GPA,
					BUFFER_SIZE, frame)) {
		EXPECT_EQ(errno, EINVAL);
		EXPECT_FALSE(can_force);
		vm_set_user_memory_region(vm, TEST_SLOT + 1, 0, FRAME_GPA, BUFFER_SIZE, frame);
	} else {
		EXPECT_TRUE(can_force);
	}

	for (i = 1; i < ARRAY_SIZE(guest_kinds); i++) {
		snprintf(row, sizeof(row), "framebuffer: guest %s", kind_names[guest_kinds[i]]);
		check_at(_metadata, vcpu, row, ram, FRAME_GPA + (i - 1) * SZ_4K, guest_kinds[i]);
	}
	check_at(_metadata, vcpu, "end of the framebuffer: guest WC", ram, WC_GPA - SZ_4K,
		 KVM_MEMTYPE_WC);
	check_at(_metadata, vcpu, "RAM beside the framebuffer: guest WC", ram, FRAME_GPA - SZ_4K,
		 KVM_MEMTYPE_WC);
	check_at(_metadata, vcpu, "WC buffer beside the framebuffer: guest WC", uncached, WC_GPA,
		 KVM_MEMTYPE_WC);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
