// SPDX-License-Identifier: GPL-2.0-only
/*
 * What VFIO maps of a device, and which memory type a guest gets for it.
 *
 * vfio-pci lets a guest choose each uncached type, WC included, for every BAR, be
 * it prefetchable or not; vfio-platform leaves it Device. A BAR that stops
 * answering, as in a reset, is taken away from the guest first.
 *
 * How agreement is checked, and what the lines for the matrix mean, is said in
 * memtype_test.c.
 */
#include "memtype_vfio.h"
#include "memtype_walk.h"

#define MAP_EVENT	"kvm_memtype/kvm_memtype_map"
#define KPROBES		TRACING "/kprobe_events"
#define PREFETCHABLE	0x2000	/* IORESOURCE_PREFETCH, as sysfs shows it */

/* Of a BAR, in a line of the trace; x86 has no encoding for any-uncached. */
#ifdef __x86_64__
#define TRACED_BAR	"host UC- intent UC source MMIO"
#else
#define TRACED_BAR	"host nGnRnE intent UC any-uncached source MMIO"
#endif

/* KVM says what it decided of the page at TEST_GPA. */
static void check_traced(struct __test_metadata *_metadata, const char *intent)
{
	char gfn[32];

	snprintf(gfn, sizeof(gfn), "gfn %lx ", TEST_GPA / SZ_4K);
	EXPECT_TRUE(trace_has(gfn, intent));
}

FIXTURE(bar)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char device[NAME_MAX + 1];
	struct assigned assigned;
	void *hva;
};

FIXTURE_VARIANT(bar)
{
	const char *name;	/* of its rows */
	const char *id;		/* of the device; QEMU's vendor id is 0x1234 */
	uint32_t index;
	uint64_t size;		/* of what is mapped, by one entry */
	bool prefetchable;
};

FIXTURE_VARIANT_ADD(bar, edu) {
	.name = "guest %s on VFIO BAR", .id = EDU_DEVICE, .index = VFIO_PCI_BAR0_REGION_INDEX,
	.size = SZ_4K,
};

/* The display that all machines have, be it a VGA adapter or not: its memory ... */
FIXTURE_VARIANT_ADD(bar, display_memory) {
	.name = "guest %s on VFIO BAR, prefetchable", .id = "0x1111",
	.index = VFIO_PCI_BAR0_REGION_INDEX, .size = SZ_2M, .prefetchable = true,
};

/* ... and its registers */
FIXTURE_VARIANT_ADD(bar, display_registers) {
	.name = "guest %s on VFIO BAR, display registers", .id = "0x1111",
	.index = VFIO_PCI_BAR2_REGION_INDEX, .size = SZ_4K,
};

static bool is_prefetchable(const char *device, uint32_t index)
{
	unsigned long long flags = 0;
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/resource", device);
	file = fopen(path, "r");
	TEST_ASSERT(file, "%s: %s", path, strerror(errno));
	for (; fscanf(file, "%*x %*x %llx", &flags) == 1 && index; index--)
		;
	fclose(file);
	return flags & PREFETCHABLE;
}

/*
 * Maps it where one entry can map all of it. It must not be moved there: mremap() may bring
 * along a table for smaller entries.
 */
static void *map_aligned_bar(const struct assigned *assigned, uint32_t index, uint64_t size)
{
	char *room;

	room = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(room != MAP_FAILED, "mmap: %s", strerror(errno));
	room += -(uintptr_t)room & (size - 1);
	map_bar(assigned, index, size, room);
	return room;
}

FIXTURE_SETUP(bar)
{
	self->vm = create_vm(&self->vcpu, 1, 0);
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	if (!find_pci(self->device, "0x1234", variant->id))
		SKIP(return, "no device 1234:%s", variant->id + 2);
	assign(&self->assigned, self->device);
	self->hva = map_aligned_bar(&self->assigned, variant->index, variant->size);
}

FIXTURE_TEARDOWN(bar)
{
	kvm_vm_free(self->vm);
	if (!self->hva)
		return;
	munmap(self->hva, variant->size);
	unassign(&self->assigned);
	EXPECT_EQ(vfio_unbind(self->device), 0);
}

#ifdef __aarch64__
/* As if the access had not been made. */
static void guest_data_abort(struct ex_regs *regs)
{
	guest_aborted = true;
	regs->pc += 4;
}
#endif

/* Whether an access of the guest was aborted: arm64 does not split what is for a device. */
static bool guest_read_aborts(struct kvm_vcpu *vcpu, uint64_t gva, uint64_t *value)
{
#ifdef __aarch64__
	guest_aborted = false;
	sync_global_to_guest(vcpu->vm, guest_aborted);
	*value = let_guest(vcpu, GUEST_READ, gva, 0);
	sync_global_from_guest(vcpu->vm, guest_aborted);
	return guest_aborted;
#else
	*value = let_guest(vcpu, GUEST_READ, gva, 0);
	return false;
#endif
}

/* Memory of a device may be accessed unaligned if the guest maps it WC. */
static void check_unaligned(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			    uint64_t *hva)
{
	char outcome[64] = "";
	uint64_t value;
	bool aborted;
	int i;

#ifdef __aarch64__
	vm_init_descriptor_tables(vcpu->vm);
	vcpu_init_descriptor_tables(vcpu);
	vm_install_sync_handler(vcpu->vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_DABT_CUR,
				guest_data_abort);
#endif
	WRITE_ONCE(hva[0], 0x0706050403020100ull);
	WRITE_ONCE(hva[1], 0x0f0e0d0c0b0a0908ull);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		map_as(vcpu->vm, ALIAS_GVA + i * SZ_4K, TEST_GPA, guest_kinds[i]);
		aborted = guest_read_aborts(vcpu, ALIAS_GVA + i * SZ_4K + 1, &value);
		if (!aborted)
			EXPECT_EQ(value, 0x0807060504030201ull);
		snprintf(outcome + strlen(outcome), sizeof(outcome) - strlen(outcome), "%s%s",
			 i ? "," : "", aborted ? "abort" : "works");
	}
	print_cell("unaligned read of VFIO BAR, prefetchable", outcome);
}

TEST_F(bar, guest_may_choose_any_uncached)
{
	struct kvm_memtype answer;

	EXPECT_EQ(is_prefetchable(self->device, variant->index), variant->prefetchable);

	/* vfio-pci fills in the mapping when it is touched, so until then it is a guess. */
	if (have_layer()) {
		vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, variant->size,
					  self->hva);
		ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
		EXPECT_EQ(answer.attributes, KVM_MEMTYPE_ATTR_PREDICTED |
			  KVM_MEMTYPE_ATTR_ANY_UNCACHED | MMIO_NOEXEC);
		vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, 0, self->hva);
		trace_event(MAP_EVENT, true);
	}
	check_mmio(_metadata, self->vcpu, variant->name, self->hva, variant->size, VFIO_BAR,
		   KVM_MEMTYPE_ATTR_ANY_UNCACHED);
	if (have_layer()) {
		trace_event(MAP_EVENT, false);
		check_traced(_metadata, TRACED_BAR);
	}
	if (variant->prefetchable)
		check_unaligned(_metadata, self->vcpu, self->hva);
}

/*
 * While the device does not decode its BARs, as in a reset, they are out of the
 * guest's reach; an access ends KVM_RUN and never gets to the device. Afterwards
 * all is as before.
 */
TEST_F(bar, no_access_while_decoding_is_off)
{
	struct kvm_memtype_probe before = { .gpa = TEST_GPA, .gva = TEST_GVA }, after = before;
	struct kvm_memtype answer, again;
	struct ucall uc;
	uint64_t value;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, variant->size, self->hva);
	map_as(self->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WC);
	value = let_guest(self->vcpu, GUEST_READ, TEST_GVA, 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	ASSERT_EQ(__vcpu_ioctl(self->vcpu, KVM_MEMTYPE_PROBE, &before), 0);

	MUST_WORK(vfio_command(self->assigned.fd, PCI_COMMAND_MEMORY, false));
	EXPECT_EQ(__vcpu_ioctl(self->vcpu, KVM_MEMTYPE_PROBE, &after), -1);
	EXPECT_EQ(errno, ENOENT);
	run_refused(_metadata, self->vcpu, TEST_GPA, TEST_GVA);

	/* The guest repeats its access. */
	MUST_WORK(vfio_command(self->assigned.fd, PCI_COMMAND_MEMORY, true));
	vcpu_run(self->vcpu);
	ASSERT_EQ(get_ucall(self->vcpu, &uc), UCALL_SYNC);
	EXPECT_EQ(uc.args[1], value);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &again), 0);
	EXPECT_EQ(memcmp(&again, &answer, sizeof(answer)), 0);
	ASSERT_EQ(__vcpu_ioctl(self->vcpu, KVM_MEMTYPE_PROBE, &after), 0);
	EXPECT_EQ(after.leaf, before.leaf);
	EXPECT_EQ(after.par, before.par);
}

/* Number of the first line of the trace that has a text, or -1. */
static int traced_line(const char *text)
{
	FILE *trace = fopen(TRACING "/trace", "r");
	int line = -1, number = 0;
	char found[256];

	TEST_ASSERT(trace, TRACING);
	while (line < 0 && fgets(found, sizeof(found), trace)) {
		if (strstr(found, text))
			line = number;
		number++;
	}
	fclose(trace);
	return line;
}

/* Before: else an access of the guest could reach a device that does not answer. */
TEST_F(bar, unmapped_before_decoding_is_off)
{
	int zap, write;

	if (access(KPROBES, F_OK))
		SKIP(return, "no " KPROBES);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, variant->size, self->hva);
	map_as(self->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WC);
	let_guest(self->vcpu, GUEST_READ, TEST_GVA, 0);

	MUST_WORK(write_file(KPROBES, "p:memtype/command pci_user_write_config_word"));
	trace_event("memtype/command", true);
	trace_event("kvm/kvm_unmap_hva_range", true);
	MUST_WORK(vfio_command(self->assigned.fd, PCI_COMMAND_MEMORY, false));
	trace_event("kvm/kvm_unmap_hva_range", false);
	trace_event("memtype/command", false);
	zap = traced_line(" kvm_unmap_hva_range:");
	write = traced_line(" command:");
	/* This empties the trace, too. */
	MUST_WORK(write_file(KPROBES, ""));
	EXPECT_GE(zap, 0);
	EXPECT_GT(write, zap);
}

#ifdef __aarch64__
/* Of QEMU's virt machine: a device that has whole pages, and no driver here */
#define FLASH		"0.flash"
#define PLATFORM	"/sys/bus/platform/"
#define NOIOMMU		"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
#define RESET_REQUIRED	"/sys/module/vfio_platform/parameters/reset_required"

/* Opens the device by its group: without an IOMMU it has no file of its own. */
static int open_platform(const char *device)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int container = open("/dev/vfio/vfio", O_RDWR), group, fd;
	char path[PATH_MAX], link[PATH_MAX] = "";

	snprintf(path, sizeof(path), PLATFORM "devices/%s/iommu_group", device);
	TEST_ASSERT(readlink(path, link, sizeof(link) - 1) > 0, "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "/dev/vfio/noiommu-%.40s", strrchr(link, '/') + 1);
	group = open(path, O_RDWR);
	TEST_ASSERT(container >= 0 && group >= 0, "%s: %s", path, strerror(errno));
	MUST_WORK(call(group, VFIO_GROUP_GET_STATUS, &status));
	MUST_WORK(call(group, VFIO_GROUP_SET_CONTAINER, &container));
	TEST_ASSERT(!ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU), "no-IOMMU: %s",
		    strerror(errno));
	fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, device);
	TEST_ASSERT(fd >= 0, "%s: %s", device, strerror(errno));
	close(group);
	close(container);
	return fd;
}

/*
 * On arm64 only vfio-pci says that its devices stand whatever a guest's WC does to
 * them. So a region of vfio-platform is Device for the guest, too.
 */
TEST(platform_stays_device)
{
	char path[] = PLATFORM "devices/" FLASH "/driver_override";
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm(&vcpu, 1, 0);
	void *hva;
	int fd;

	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	if (access(path, F_OK))
		SKIP(return, "no platform device " FLASH);
	if (!file_starts_with(RESET_REQUIRED, "N"))
		SKIP(return, "no vfio_platform.reset_required=0");
	MUST_WORK(write_file(NOIOMMU, "1"));
	MUST_WORK(write_file(path, "vfio-platform"));
	MUST_WORK(write_file(PLATFORM "drivers_probe", FLASH));
	fd = open_platform(FLASH);
	hva = vfio_map_bar(fd, 0, SZ_4K);
	ASSERT_NE(hva, MAP_FAILED);
	close(fd);

	if (have_layer())
		trace_event(MAP_EVENT, true);
	check_mmio(_metadata, vcpu, "guest %s on vfio-platform", hva, SZ_4K, VFIO_BAR, 0);
	if (have_layer()) {
		trace_event(MAP_EVENT, false);
		check_traced(_metadata, "host nGnRnE intent UC source MMIO");
	}

	kvm_vm_free(vm);
	munmap(hva, SZ_4K);
	EXPECT_EQ(write_file(PLATFORM "drivers/vfio-platform/unbind", FLASH), 0);
	EXPECT_EQ(write_file(path, "\n"), 0);
	EXPECT_EQ(write_file(NOIOMMU, "0"), 0);
}
#endif

TEST_HARNESS_MAIN
