// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which memory type does a guest get? For each kind of memory and each type
 * that a guest can choose, three things must agree:
 *
 *  - what KVM_GET_MEMTYPE says, before the first fault and after it;
 *  - what the CPU walks: the second-stage leaf entry, which KVM_MEMTYPE_PROBE
 *    shows (and on arm64 the CPU's own answer to AT S12E1R);
 *  - what tests.toml expects of the matrix row, printed as "# memtype-cell:".
 *
 * On EPT, "# memtype-probe:" says what the hardware's own page walk must have
 * seen of one access between two "xchg %bx,%bx", which is where Bochs records
 * it; see tools/testing/memtype/README.rst.
 *
 * The rules by which a type is decided (Documentation/virt/kvm/memtype.rst), and
 * their tests:
 *
 *	the host's own type wins		host.type_wins
 *	what is unsafe is refused, and said	refusal.*
 *	else the guest's type counts		ram.guest_type_counts, policy.*, dma.*
 *	KVM_MEM_FORCE_WB			slot.*, and the rows "slot: ..."
 *	arm64's stage-1 mode			memtype_stage1_test, rows "stage1: ..."
 *	nested guests				nested_types_are_not_merged
 *	SVM is as it was			svm_is_unchanged
 *
 * On a kernel without the layer (KERNEL=base) only the second and the third
 * apply, and on one without the probe (CONFIG_KVM_MEMTYPE_PROBE) none of them.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include "memtype_walk.h"
#ifdef __x86_64__
#include "vmx.h"
#endif

#define ROUNDS		100

/* Memory of the kind that a variant names, one page for each guest type. */
FIXTURE(ram)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	char hugepages[32];	/* what there were before */
};

FIXTURE_VARIANT(ram)
{
	const char *name;
	enum vm_mem_backing_src_type backing;
	uint64_t page_size;
	uint64_t policy;
	uint32_t slot_flags;
	bool no_quirk;
	bool noncoherent_dma;
};

FIXTURE_VARIANT_ADD(ram, anonymous_4k) {
	.name = "guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS, .page_size = SZ_4K,
};

FIXTURE_VARIANT_ADD(ram, thp_2m) {
	.name = "guest %s on THP 2M", .backing = VM_MEM_SRC_ANONYMOUS_THP, .page_size = SZ_2M,
};

FIXTURE_VARIANT_ADD(ram, hugetlb_2m) {
	.name = "guest %s on hugetlb 2M", .backing = VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB,
	.page_size = SZ_2M,
};

FIXTURE_VARIANT_ADD(ram, memfd) {
	.name = "guest %s on shared memfd", .backing = VM_MEM_SRC_SHMEM, .page_size = SZ_4K,
};

FIXTURE_VARIANT_ADD(ram, legacy) {
	.name = "legacy: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .policy = KVM_MEMTYPE_POLICY_LEGACY,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(ram, legacy_without_quirk) {
	.name = "legacy, no quirk: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .policy = KVM_MEMTYPE_POLICY_LEGACY, .no_quirk = true,
};

FIXTURE_VARIANT_ADD(ram, legacy_dma) {
	.name = "legacy, DMA: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .policy = KVM_MEMTYPE_POLICY_LEGACY, .noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(ram, legacy_without_quirk_dma) {
	.name = "legacy, no quirk, DMA: guest %s on anonymous 4K",
	.backing = VM_MEM_SRC_ANONYMOUS, .page_size = SZ_4K,
	.policy = KVM_MEMTYPE_POLICY_LEGACY, .no_quirk = true, .noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(ram, dma) {
	.name = "DMA: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(ram, slot) {
	.name = "slot: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .slot_flags = KVM_MEM_FORCE_WB,
};

FIXTURE_VARIANT_ADD(ram, slot_dma) {
	.name = "slot, DMA: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .slot_flags = KVM_MEM_FORCE_WB, .noncoherent_dma = true,
};

#else
FIXTURE_VARIANT_ADD(ram, stage1) {
	.name = "stage1: guest %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.page_size = SZ_4K, .policy = KVM_MEMTYPE_POLICY_STAGE1,
};

FIXTURE_VARIANT_ADD(ram, stage1_thp_2m) {
	.name = "stage1: guest %s on THP 2M", .backing = VM_MEM_SRC_ANONYMOUS_THP,
	.page_size = SZ_2M, .policy = KVM_MEMTYPE_POLICY_STAGE1,
};
#endif

/* Why a VM cannot have this policy and these flags here; NULL if it can. */
static const char *why_not(uint64_t policy, uint32_t slot_flags)
{
	int caps = have_layer() ? kvm_check_cap(KVM_CAP_MEMTYPE) : 0;

	if (policy == KVM_MEMTYPE_POLICY_STAGE1 && !(caps & KVM_MEMTYPE_CAP_STAGE1))
		return "no KVM_MEMTYPE_CAP_STAGE1";
	if (slot_flags && !(caps & KVM_MEMTYPE_CAP_FORCE_WB))
		return "no KVM_MEMTYPE_CAP_FORCE_WB";
	return NULL;
}

/* As if a device that does not snoop were assigned to the VM, or no longer. */
static void set_noncoherent_dma(struct kvm_vcpu *vcpu, bool on)
{
	vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE_DMA, (void *)(unsigned long)on);
}

FIXTURE_SETUP(ram)
{
	uint64_t size = variant->page_size * ARRAY_SIZE(guest_kinds);
	int i;

	if (variant->backing == VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB) {
		read_file(HUGEPAGES, self->hugepages);
		TEST_ASSERT(!write_file(HUGEPAGES, "8"), "no huge pages");
	}
	if (why_not(variant->policy, variant->slot_flags))
		SKIP(return, "%s", why_not(variant->policy, variant->slot_flags));
	self->vm = create_vm(self->vcpus, ARRAY_SIZE(self->vcpus), variant->policy);
	if (variant->no_quirk && !disable_quirk(self->vm))
		SKIP(return, "no KVM_X86_QUIRK_IGNORE_GUEST_PAT to disable");
	if (variant->noncoherent_dma) {
		if (!have_probe(self->vcpus[0]))
			SKIP(return, NO_PROBE);
		set_noncoherent_dma(self->vcpus[0], true);
	}
	vm_userspace_mem_region_add(self->vm, variant->backing, TEST_GPA, TEST_SLOT,
				    size / getpagesize(), variant->slot_flags);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(self->vm, TEST_GVA + i * variant->page_size,
		       TEST_GPA + i * variant->page_size, guest_kinds[i]);
}

FIXTURE_TEARDOWN(ram)
{
	if (self->vm)
		kvm_vm_free(self->vm);
	if (self->hugepages[0])
		write_file(HUGEPAGES, self->hugepages);
}

TEST_F(ram, guest_type_counts)
{
	struct page page = {
		.gpa = TEST_GPA, .size = variant->page_size, .access = GUEST_WRITE,
		.untouched = true, .host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB,
	};
	uint64_t gva = TEST_GVA;
	char row[64];
	int i;

	if (!have_probe(self->vcpus[0]))
		SKIP(return, NO_PROBE);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		snprintf(row, sizeof(row), variant->name, kind_names[guest_kinds[i]]);
		check_type(_metadata, self->vcpus[0], row, &page, gva, guest_kinds[i]);
		page.gpa += variant->page_size;
		gva += variant->page_size;
	}
}

/*
 * Host and guest share a page, whatever type the guest uses. On arm64 without
 * FWB that takes the explicit maintenance above. Elsewhere the CPU keeps it
 * coherent, or KVM forces the guest to WB. No emulator models caches, so that
 * this shows that the right page is mapped, and cannot show a missing flush.
 */
TEST_F(ram, host_and_guest_share)
{
	uint64_t n;
	int i;

	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		uint64_t gva = TEST_GVA + i * variant->page_size;
		uint64_t *hva = addr_gpa2hva(self->vm, TEST_GPA + i * variant->page_size);

		for (n = 0; n < 4; n++) {
			run_guest(self->vcpus[0], GUEST_WRITE, gva, PATTERN + n);
			host_sync(hva);
			TEST_ASSERT(READ_ONCE(*hva) == PATTERN + n, "host reads %lx", *hva);

			WRITE_ONCE(*hva, ~(PATTERN + n));
			host_sync(hva);
			TEST_ASSERT(run_guest(self->vcpus[0], GUEST_READ, gva, 0) ==
				    ~(PATTERN + n), "guest does not see the host's write");
		}
	}
}

/* Runs a vCPU on a CPU of its own if there are two. */
static void move_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % sysconf(_SC_NPROCESSORS_ONLN), &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity()");
}

/*
 * Two vCPUs map one page with different types and hand it to each other. What
 * keeps it coherent is said at guest_write() of each architecture; no emulator
 * can make it fail for want of a fence or a flush.
 */
TEST_F(ram, mismatched_vcpus)
{
	int i, n;

	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		uint64_t gpa = TEST_GPA + i * variant->page_size;
		uint64_t gva[2] = { TEST_GVA + i * variant->page_size, ALIAS_GVA + i * SZ_4K };

		map_as(self->vm, gva[1], gpa, guest_kinds[(i + 1) % ARRAY_SIZE(guest_kinds)]);
		for (n = 0; n < ROUNDS; n++) {
			int writer = n & 1, reader = !writer;

			move_to_cpu(writer);
			run_guest(self->vcpus[writer], GUEST_WRITE, gva[writer], PATTERN + n);
			move_to_cpu(reader);
			TEST_ASSERT(run_guest(self->vcpus[reader], GUEST_READ, gva[reader], 0) ==
				    PATTERN + n, "vCPU %d does not see round %d", reader, n);
		}
	}
}

FIXTURE(mmio)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char device[NAME_MAX + 1];
};

FIXTURE_SETUP(mmio)
{
	self->vm = create_vm(&self->vcpu, 1, 0);
	/* Bochs has no edu, but its VGA adapter is a PCI device too. */
	if (!find_edu(self->device) && !find_pci(self->device, "0x1234", "0x1111"))
		self->device[0] = '\0';
}

FIXTURE_TEARDOWN(mmio)
{
	kvm_vm_free(self->vm);
}

/* As any driver in user space may map it: VM_IO | VM_PFNMAP and nothing more. */
TEST_F(mmio, sysfs)
{
	char path[512];
	void *bar;
	int fd;

	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	if (!self->device[0])
		SKIP(return, "no PCI device to map");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/enable", self->device);
	TEST_ASSERT(!write_file(path, "1"), "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", self->device);
	fd = open(path, O_RDWR);
	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	bar = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(bar != MAP_FAILED, "%s: %s", path, strerror(errno));

	check_mmio(_metadata, self->vcpu, "guest %s on host MMIO", bar, SZ_4K, SYSFS_BAR, 0);
}

/*
 * What the host itself maps with some type, in all ways in which drivers do, and
 * what becomes of it: whatever the policy, a type other than WB wins.
 */
enum host_memory { HOST_RAM, HOST_BAR, HOST_ISA_HOLE };

struct host_page {
	const char *name;
	enum host_memory memory;
	uint32_t prot, flags;	/* MEMTYPE_TEST_* */
	uint64_t offset;	/* of the page in the mapping, in bytes */
	uint64_t size;		/* of the second-stage mapping; 0: 4K */
	uint8_t host, intent, source;
	uint32_t attributes;
};

#define HOST_PAGE(_name, _prot, _flags, _host, _intent, _source, ...)			\
	{ .name = _name, .prot = MEMTYPE_TEST_##_prot, .flags = _flags,			\
	  .host = KVM_MEMTYPE_##_host, .intent = KVM_MEMTYPE_##_intent,			\
	  .source = _source, ##__VA_ARGS__ }
/* What the policy says of RAM follows from the policy. */
#define RAM		0
#define PTE		KVM_MEMTYPE_SOURCE_PTE
#define MMIO		KVM_MEMTYPE_SOURCE_MMIO

#ifdef __x86_64__
/* PAT overrides what a driver says of RAM, unless the RAM itself was set to a type. */
static const struct host_page host_pages[] = {
	HOST_PAGE("PFNMAP WB", WB, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC", WC, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP UC", UC, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC premapped", WC, MEMTYPE_TEST_PREMAP, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC in PTE only", WC, MEMTYPE_TEST_PTE_ONLY, WB, WB, RAM),
	HOST_PAGE("MIXEDMAP WB", WB, MEMTYPE_TEST_MIXEDMAP, WB, WB, RAM),
	HOST_PAGE("MIXEDMAP WC", WC, MEMTYPE_TEST_MIXEDMAP, WB, WB, RAM),
	HOST_PAGE("RAM set to WC", WC, MEMTYPE_TEST_SET_RAM, WC, WC, PTE),
	HOST_PAGE("RAM set to WC premapped", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP, WC, WC, PTE),
	HOST_PAGE("RAM set to WC in PTE only", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PTE_ONLY, WC, WC, PTE),
	HOST_PAGE("RAM set to WC MIXEDMAP", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXEDMAP, WC, WC, PTE),
	HOST_PAGE("RAM set to UC", UC, MEMTYPE_TEST_SET_RAM, UC_MINUS, UC, PTE),
	HOST_PAGE("2M WB", WB, MEMTYPE_TEST_HUGE, WB, WB, RAM, .size = SZ_2M),
	HOST_PAGE("2M set to WC", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_SET_RAM, WC, WC, PTE,
		  .size = SZ_2M),
	HOST_PAGE("mixed 2M, WB half", WC,
		  MEMTYPE_TEST_HUGE | MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXED, WB, WB, RAM),
	HOST_PAGE("mixed 2M", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXED,
		  WC, WC, PTE, .offset = SZ_1M),
	HOST_PAGE("MMIO WB", WB, MEMTYPE_TEST_PREMAP, UC_MINUS, UC, MMIO, .memory = HOST_BAR),
	HOST_PAGE("MMIO WC", WC, MEMTYPE_TEST_PREMAP, WC, UC, MMIO, .memory = HOST_BAR,
		  .attributes = KVM_MEMTYPE_ATTR_ANY_UNCACHED),
	HOST_PAGE("MMIO UC", UC, MEMTYPE_TEST_PREMAP, UC_MINUS, UC, MMIO, .memory = HOST_BAR),
	HOST_PAGE("MMIO any-uncached", UC, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_ANY_UNCACHED,
		  UC_MINUS, UC, MMIO, .memory = HOST_BAR,
		  .attributes = KVM_MEMTYPE_ATTR_ANY_UNCACHED),
	HOST_PAGE("ISA hole", WB, 0, UC, UC, MMIO, .memory = HOST_ISA_HOLE),
};
#endif

#ifdef __aarch64__
#define NOEXEC	.attributes = KVM_MEMTYPE_ATTR_NOEXEC

static const struct host_page host_pages[] = {
	HOST_PAGE("PFNMAP WB", WB, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC", WC, 0, WC, WC, PTE, NOEXEC),
	HOST_PAGE("PFNMAP UC", UC, 0, NGNRNE, UC, PTE, NOEXEC),
	HOST_PAGE("PFNMAP WC premapped", WC, MEMTYPE_TEST_PREMAP, WC, WC, PTE, NOEXEC),
	HOST_PAGE("PFNMAP WC in PTE only", WC, MEMTYPE_TEST_PTE_ONLY, WC, WC, PTE, NOEXEC),
	HOST_PAGE("MIXEDMAP WB", WB, MEMTYPE_TEST_MIXEDMAP, WB, WB, RAM),
	HOST_PAGE("MIXEDMAP WC", WC, MEMTYPE_TEST_MIXEDMAP, WC, WC, PTE, NOEXEC),
	HOST_PAGE("2M WB", WB, MEMTYPE_TEST_HUGE, WB, WB, RAM, .size = SZ_2M),
	HOST_PAGE("2M WC", WC, MEMTYPE_TEST_HUGE, WC, WC, PTE, NOEXEC, .size = SZ_2M),
	HOST_PAGE("mixed 2M, WB half", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_MIXED, WB, WB, RAM),
	HOST_PAGE("mixed 2M", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_MIXED, WC, WC, PTE, NOEXEC,
		  .offset = SZ_1M),
	HOST_PAGE("MMIO WB", WB, 0, WB, WB, RAM, .memory = HOST_BAR),
	HOST_PAGE("MMIO WC", WC, MEMTYPE_TEST_PREMAP, WC, UC, MMIO, .memory = HOST_BAR,
		  .attributes = KVM_MEMTYPE_ATTR_NOEXEC | KVM_MEMTYPE_ATTR_ANY_UNCACHED),
	HOST_PAGE("MMIO UC", UC, MEMTYPE_TEST_PREMAP, NGNRNE, UC, MMIO, NOEXEC,
		  .memory = HOST_BAR),
	HOST_PAGE("MMIO any-uncached", UC, MEMTYPE_TEST_ANY_UNCACHED, NGNRNE, UC, MMIO,
		  .memory = HOST_BAR,
		  .attributes = KVM_MEMTYPE_ATTR_NOEXEC | KVM_MEMTYPE_ATTR_ANY_UNCACHED),
};
#endif

/* The physical address of the display's frame buffer: a BAR that is prefetchable. */
static uint64_t frame_buffer(void)
{
	char device[NAME_MAX + 1], path[512];
	unsigned long long start = 0;
	FILE *file;

	if (!find_pci(device, "0x1234", "0x1111"))
		return 0;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/enable", device);
	TEST_ASSERT(!write_file(path, "1"), "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", device);
	file = fopen(path, "r");
	TEST_ASSERT(file && fscanf(file, "%llx", &start) == 1 && start, "%s", path);
	fclose(file);
	return start;
}

#define HOST_SIZE	SZ_2M

/* Maps what @page describes, or returns MAP_FAILED: there is no such memory here. */
static void *map_host_page(const struct host_page *page, uint64_t bar)
{
	void *hva;
	int fd;

	switch (page->memory) {
	case HOST_RAM:
		hva = map_host(HOST_SIZE, 0, page->prot, page->flags);
		break;
	case HOST_BAR:
		hva = bar ? map_host(HOST_SIZE, bar, page->prot, page->flags) : MAP_FAILED;
		break;
	default:
		fd = open("/dev/mem", O_RDWR);
		TEST_ASSERT(fd >= 0, "/dev/mem: %s", strerror(errno));
		hva = mmap(NULL, SZ_64K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0xa0000);
		close(fd);
	}
	TEST_ASSERT(hva != MAP_FAILED || (page->memory == HOST_BAR && !bar), "%s: %s", page->name,
		    strerror(errno));
	return hva;
}

FIXTURE(host)
{
	uint64_t bar;
};

FIXTURE_VARIANT(host)
{
	const char *prefix;
	uint64_t policy;
	uint32_t slot_flags;
	bool noncoherent_dma;
};

FIXTURE_VARIANT_ADD(host, honor) {
	.prefix = "host",
};

FIXTURE_VARIANT_ADD(host, legacy) {
	.prefix = "legacy: host", .policy = KVM_MEMTYPE_POLICY_LEGACY,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(host, slot) {
	.prefix = "slot: host", .slot_flags = KVM_MEM_FORCE_WB,
};

FIXTURE_VARIANT_ADD(host, dma) {
	.prefix = "DMA: host", .noncoherent_dma = true,
};

#else
FIXTURE_VARIANT_ADD(host, stage1) {
	.prefix = "stage1: host", .policy = KVM_MEMTYPE_POLICY_STAGE1,
};
#endif

FIXTURE_SETUP(host)
{
	const char *reason = why_not(variant->policy, variant->slot_flags);

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (reason)
		SKIP(return, "%s", reason);
	self->bar = frame_buffer();
}

FIXTURE_TEARDOWN(host)
{
}

/* Runs the guest into a page that KVM must refuse; returns what the query says of it. */
static void check_refusal(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu, uint64_t gpa,
			  uint64_t gva, uint8_t refusal, const char *name)
{
	struct kvm_memtype answer, expected = { .gpa = gpa, .refusal = refusal };
	char gfn[32], reason[32];

	EXPECT_EQ(vm_check_cap(vcpu->vm, KVM_CAP_MEMORY_FAULT_INFO), 1);
	ASSERT_EQ(get_memtype(vcpu->vm, gpa, &answer), 0);
	EXPECT_EQ(memcmp(&answer, &expected, sizeof(answer)), 0);

	trace_event("kvm_memtype/kvm_memtype_refuse", true);
	run_refused(_metadata, vcpu, gpa, gva);
	trace_event("kvm_memtype/kvm_memtype_refuse", false);
	snprintf(gfn, sizeof(gfn), "gfn %lx ", gpa / SZ_4K);
	snprintf(reason, sizeof(reason), "refusal %s", name);
	EXPECT_TRUE(trace_has(gfn, reason));
}

/* Maps a page as the guest wants, with each type; one cell for all of them. */
static void check_host_page(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			    const char *row, const struct host_page *host)
{
	const struct page page = {
		.gpa = TEST_GPA + host->offset, .size = host->size ?: SZ_4K,
		.access = host->memory == HOST_RAM ? GUEST_WRITE : GUEST_READ,
		.host = host->host, .intent = host->intent, .source = host->source,
		.attributes = host->attributes,
	};
	uint64_t gva = TEST_GVA + host->offset;
	struct kvm_memtype answer;

	/* On arm64, what is no memory is cacheable with FWB and DIC only. */
	if (have_layer() && host->memory == HOST_BAR && host->intent == KVM_MEMTYPE_WB &&
	    !get_memtype(vcpu->vm, page.gpa, &answer) && answer.refusal) {
		map_as(vcpu->vm, gva, page.gpa, KVM_MEMTYPE_WB);
		check_refusal(_metadata, vcpu, page.gpa, gva, KVM_MEMTYPE_REFUSAL_CACHEABLE,
			      "cacheable");
		print_cell(row, "refused", false);
		return;
	}
	check_types(_metadata, vcpu, row, &page, gva);
}

TEST_F(host, type_wins)
{
	const struct host_page *host;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char row[64];
	char *hva;

	for (host = host_pages; host < host_pages + ARRAY_SIZE(host_pages); host++) {
		hva = map_host_page(host, self->bar);
		if (hva == MAP_FAILED)
			continue;
		vm = create_vm(&vcpu, 1, variant->policy);
		if (!have_probe(vcpu))
			SKIP(return, NO_PROBE);
		if (variant->noncoherent_dma)
			set_noncoherent_dma(vcpu, true);
		vm_set_user_memory_region(vm, TEST_SLOT, variant->slot_flags, TEST_GPA,
					  host->memory == HOST_ISA_HOLE ? SZ_64K : HOST_SIZE, hva);
		/* What the host has not mapped yet could only be predicted. */
		READ_ONCE(hva[host->offset]);

		snprintf(row, sizeof(row), "%s %s", variant->prefix, host->name);
		check_host_page(_metadata, vcpu, row, host);
		kvm_vm_free(vm);
		munmap(hva, host->memory == HOST_ISA_HOLE ? SZ_64K : HOST_SIZE);
	}
}

/* Accesses that KVM cannot allow, and that it says so beforehand, then, and why. */
FIXTURE(refusal)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_SETUP(refusal)
{
	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = create_vm(&self->vcpu, 1, 0);
	map_as(self->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(refusal)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

TEST_F(refusal, unmapped)
{
	uint64_t refused = vm_statistic(self->vm, "memtype_refused");
	void *hva = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, hva);
	munmap(hva, SZ_4K);
	check_refusal(_metadata, self->vcpu, TEST_GPA, TEST_GVA, KVM_MEMTYPE_REFUSAL_UNMAPPED,
		      "unmapped");
	EXPECT_EQ(vm_statistic(self->vm, "memtype_refused"), refused + 1);
}

#ifdef __aarch64__
/* As soon as it shows: here the host has mapped it when the memslot is made. */
TEST_F(refusal, cacheable_memslot)
{
	uint64_t bar = frame_buffer();
	bool can_cache;
	int error = 0;
	void *hva;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	ASSERT_NE(bar, 0);
	hva = map_host(HOST_SIZE, bar, MEMTYPE_TEST_WB, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(hva, MAP_FAILED);
	if (__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva))
		error = errno;
	can_cache = vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP;
	EXPECT_EQ(error, can_cache ? 0 : EINVAL);
}

/* Write-back memory that cannot have tags comes to be where the memslot was checked. */
TEST_F(refusal, mte)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva, *other;

	if (!kvm_check_cap(KVM_CAP_ARM_MTE))
		SKIP(return, "no KVM_CAP_ARM_MTE");
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	vm = vm_create(1);
	vm_enable_cap(vm, KVM_CAP_ARM_MTE, 0);
	vcpu = vm_vcpu_add(vm, 0, guest_main);
	vcpu_args_set(vcpu, 1, 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);

	hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, hva);
	run_guest(vcpu, GUEST_READ, TEST_GVA, 0);
	other = map_host(SZ_2M, 0, MEMTYPE_TEST_WB, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(other, MAP_FAILED);
	ASSERT_EQ(mremap(other, SZ_2M, SZ_2M, MREMAP_MAYMOVE | MREMAP_FIXED, hva), hva);
	check_refusal(_metadata, vcpu, TEST_GPA, TEST_GVA, KVM_MEMTYPE_REFUSAL_MTE, "MTE");
	kvm_vm_free(vm);
}
#endif

/* x86 lets a guest execute from a device; arm64 injects an abort, and KVM_RUN goes on. */
TEST_F(refusal, execution_is_none)
{
	struct kvm_memtype answer;
	uint32_t *hva;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	/* Bochs cannot fetch from a device; EPT has the same entry for UC memory. */
	if (CANNOT_EXECUTE_DEVICE)
		hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_UC,
			       MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_SET_RAM);
	else
		hva = map_host(HOST_SIZE, frame_buffer(), MEMTYPE_TEST_UC, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(hva, MAP_FAILED);
	WRITE_ONCE(hva[0], RETURN_INSTRUCTION);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.attributes & KVM_MEMTYPE_ATTR_NOEXEC, MMIO_NOEXEC);
#ifdef __aarch64__
	vm_init_descriptor_tables(self->vm);
	vcpu_init_descriptor_tables(self->vcpu);
	vm_install_sync_handler(self->vm, VECTOR_SYNC_CURRENT, ESR_EC_IABT,
				guest_instruction_abort);
#endif
	EXPECT_EQ(run_guest(self->vcpu, GUEST_EXECUTE, TEST_GVA, 0), !MMIO_NOEXEC);
}

/* KVM_MEM_FORCE_WB, beside what the rows show. */
FIXTURE(slot)
{
	struct kvm_vm *vm;
	void *hva;
};

FIXTURE_SETUP(slot)
{
	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = vm_create(1);
	self->hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->hva, MAP_FAILED);
}

FIXTURE_TEARDOWN(slot)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static int set_slot(struct kvm_vm *vm, int slot, uint32_t flags, uint64_t gpa, void *hva)
{
	return __vm_set_user_memory_region(vm, slot, flags, gpa, SZ_2M, hva) ? errno : 0;
}

/* Both ioctls take it where the capability says so; it can be set only at first. */
TEST_F(slot, force_wb_is_immutable)
{
	bool can = vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_FORCE_WB;
	int ret;

	EXPECT_EQ(set_slot(self->vm, TEST_SLOT, KVM_MEM_FORCE_WB, TEST_GPA, self->hva),
		  can ? 0 : EINVAL);
	ret = __vm_set_user_memory_region2(self->vm, TEST_SLOT + 1, KVM_MEM_FORCE_WB,
					   TEST_GPA + SZ_2M, SZ_2M, self->hva, 0, 0);
	EXPECT_EQ(ret ? errno : 0, can ? 0 : EINVAL);
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT + 2, 0, TEST_GPA + SZ_4M, self->hva), 0);
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT + 2, KVM_MEM_FORCE_WB, TEST_GPA + SZ_4M,
			   self->hva), EINVAL);
	if (!can)
		return;
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT, 0, TEST_GPA, self->hva), EINVAL);
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT, KVM_MEM_FORCE_WB | KVM_MEM_LOG_DIRTY_PAGES,
			   TEST_GPA, self->hva), 0);
}

/* Other memslots of the VM stay as they are. */
TEST_F(slot, force_wb_is_of_one_slot)
{
	struct kvm_memtype forced, other;

	if (why_not(0, KVM_MEM_FORCE_WB))
		SKIP(return, "%s", why_not(0, KVM_MEM_FORCE_WB));
	ASSERT_EQ(set_slot(self->vm, TEST_SLOT, KVM_MEM_FORCE_WB, TEST_GPA, self->hva), 0);
	ASSERT_EQ(set_slot(self->vm, TEST_SLOT + 1, 0, TEST_GPA + SZ_2M, self->hva), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &forced), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA + SZ_2M, &other), 0);
	EXPECT_TRUE(forced.attributes & KVM_MEMTYPE_ATTR_FORCED);
	if (vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_HONOR) {
		EXPECT_EQ(forced.source, KVM_MEMTYPE_SOURCE_SLOT);
		EXPECT_FALSE(other.attributes & KVM_MEMTYPE_ATTR_FORCED);
	}
}

#ifdef __x86_64__
/*
 * The first device whose DMA does not snoop, and the last: everything is mapped
 * anew if that changes an encoding, and nothing if not.
 */
FIXTURE(dma)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_VARIANT(dma)
{
	uint64_t policy;
	uint32_t slot_flags;
};

FIXTURE_VARIANT_ADD(dma, honor) {
	.policy = KVM_MEMTYPE_POLICY_HONOR,
};

FIXTURE_VARIANT_ADD(dma, legacy) {
	.policy = KVM_MEMTYPE_POLICY_LEGACY,
};

FIXTURE_VARIANT_ADD(dma, slot) {
	.policy = KVM_MEMTYPE_POLICY_HONOR, .slot_flags = KVM_MEM_FORCE_WB,
};

#define DMA_PAGES	4

FIXTURE_SETUP(dma)
{
	int i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (why_not(0, variant->slot_flags))
		SKIP(return, "%s", why_not(0, variant->slot_flags));
	self->vm = create_vm(&self->vcpu, 1, variant->policy);
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
				    DMA_PAGES, variant->slot_flags);
	for (i = 0; i < DMA_PAGES; i++)
		map_as(self->vm, TEST_GVA + i * SZ_4K, TEST_GPA + i * SZ_4K, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(dma)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Has the guest write to all pages; returns how many of its faults KVM resolved. */
static uint64_t touch_all(struct kvm_vcpu *vcpu, uint64_t *leaf)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA };
	uint64_t before = vm_statistic(vcpu->vm, "pf_fixed");
	int i;

	for (i = 0; i < DMA_PAGES; i++)
		run_guest(vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe);
	*leaf = EPT_MT(probe.leaf) | EPT_IPAT(probe.leaf) << 3;
	if (probe.format != KVM_MEMTYPE_PROBE_EPT)
		*leaf = 0;
	return vm_statistic(vcpu->vm, "pf_fixed") - before;
}

TEST_F(dma, zaps_are_exact)
{
	static const bool devices[] = { true, true, false, false };
	uint64_t leaf, before, faults;
	int i;

	EXPECT_GE(touch_all(self->vcpu, &before), DMA_PAGES);
	EXPECT_EQ(touch_all(self->vcpu, &before), 0);
	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		trace_event("kvm_memtype/kvm_memtype_policy", true);
		set_noncoherent_dma(self->vcpu, devices[i]);
		trace_event("kvm_memtype/kvm_memtype_policy", false);

		faults = touch_all(self->vcpu, &leaf);
		if (leaf != before)
			EXPECT_GE(faults, DMA_PAGES);
		if (leaf == before)
			EXPECT_EQ(faults, 0);
		/* The second device, and the last but one, are no event at all. */
		EXPECT_EQ(trace_has("kvm_memtype_policy:", leaf != before ? "zap 1" : "zap 0"),
			  i == 0 || i == 3);
		before = leaf;
	}
}
#endif

#ifdef __x86_64__
/*
 * L2 in L1's EPT, which the library fills with type UC. KVM does not merge that into
 * the EPT that the CPU walks, as it never did; the query is about L1.
 */
#define NESTED_GPA	(TEST_GPA + SZ_2M)

static void l2_guest_main(void)
{
	guest_read(NESTED_GPA);
	GUEST_SYNC(guest_marked_read(NESTED_GPA));
	vmcall();
}

static void l1_guest_main(struct vmx_pages *vmx)
{
	static unsigned long stack[64];

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_guest_main, &stack[ARRAY_SIZE(stack)]);
	GUEST_ASSERT(!vmlaunch());
	GUEST_DONE();
}

TEST(nested_types_are_not_merged)
{
	struct kvm_memtype_probe expected = {
		.format = KVM_MEMTYPE_PROBE_EPT, .mtrr = 6, .leaf = 6 << 3,
	};
	struct kvm_memtype answer = {};
	vm_vaddr_t vmx_gva;
	struct vmx_pages *vmx;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	if (!kvm_cpu_has(X86_FEATURE_VMX) || !kvm_cpu_has_ept())
		SKIP(return, "no nested VMX with EPT");
	vm = vm_create_with_one_vcpu(&vcpu, l1_guest_main);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
	virt_map(vm, NESTED_GPA, NESTED_GPA, 1);
	vmx = vcpu_alloc_vmx(vm, &vmx_gva);
	vcpu_args_set(vcpu, 1, vmx_gva);
	prepare_eptp(vmx, vm, 0);
	nested_map_memslot(vmx, vm, 0);
	nested_map(vmx, vm, NESTED_GPA, TEST_GPA, SZ_4K);

	vcpu_run(vcpu);
	ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	if (have_layer())
		ASSERT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
	if (!have_layer() || answer.attributes & KVM_MEMTYPE_ATTR_FORCED)
		expected.leaf |= 1 << 6;
	expect_walk("nested guest WB on anonymous 4K", NESTED_GPA, &expected, KVM_MEMTYPE_WB);
	if (have_layer()) {
		EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
		EXPECT_EQ(answer.intent, KVM_MEMTYPE_WB);
	}
	vcpu_run(vcpu);
	EXPECT_EQ(get_ucall(vcpu, &uc), UCALL_DONE);
	kvm_vm_free(vm);
}
#endif

#ifdef __x86_64__
/*
 * With NPT the guest's PAT counts as on bare metal, by the host's MTRRs, whatever
 * the policy and even where the host maps memory WC. The query says so.
 */
TEST(svm_is_unchanged)
{
	static const uint64_t policies[] = {
		KVM_MEMTYPE_POLICY_HONOR, KVM_MEMTYPE_POLICY_LEGACY,
	};
	struct kvm_memtype answer;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;
	int i, n;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (kvm_encodes_type())
		SKIP(return, "no SVM with nested paging");
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_WC, MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP);
	ASSERT_NE(hva, MAP_FAILED);
	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		vm = create_vm(&vcpu, 1, policies[i]);
		vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
		ASSERT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
		EXPECT_EQ(answer.host, KVM_MEMTYPE_WC);
		EXPECT_EQ(answer.attributes, 0);
		for (n = 0; n < ARRAY_SIZE(guest_kinds); n++)
			EXPECT_EQ(answer.effective[guest_kinds[n]],
				  combine(KVM_MEMTYPE_WB, guest_kinds[n]));
		EXPECT_EQ(vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_FORCE_WB, 0);
		kvm_vm_free(vm);
	}
}
#endif

/* What one sees of a running VM. */
FIXTURE(seeing)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

#define TOOL		"/memtype/kvm-memtype"
#define EXAMPLE		"/memtype/memtype-example"
#define SEEN_PAGES	64
#define SEEN_TOUCHED	5

FIXTURE_SETUP(seeing)
{
	int i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = create_vm(&self->vcpu, 1, 0);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
				    SEEN_PAGES, 0);
	for (i = 0; i < SEEN_PAGES; i++)
		map_as(self->vm, TEST_GVA + i * SZ_4K, TEST_GPA + i * SZ_4K, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(seeing)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Reads the table of the VM; the line that starts at TEST_GPA, and how many there are. */
static int read_table(struct kvm_vm *vm, char line[256])
{
	char path[128], found[256];
	int lines = 0;
	FILE *table;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/memtype", getpid(), vm->fd);
	table = fopen(path, "r");
	TEST_ASSERT(table, "%s: %s", path, strerror(errno));
	line[0] = '\0';
	while (fgets(found, sizeof(found), table)) {
		lines++;
		if (strstr(found, " 0x0000000010000000 0x"))
			memcpy(line, found, sizeof(found));
	}
	fclose(table);
	return lines;
}

TEST_F(seeing, table)
{
	char line[256], host[8], intent[8], effective[64], source[8], attributes[32], refusal[16];
	struct kvm_memtype answer;
	unsigned long start, end, mapped;
	int as_id, slot, found, i;

	for (i = 0; i < SEEN_TOUCHED; i++)
		run_guest(self->vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	ASSERT_GE(read_table(self->vm, line), 4);
	found = sscanf(line, "%d %lx %lx %d %7s %7s %63s %7s %31s %15s %lu", &as_id, &start, &end,
		       &slot, host, intent, effective, source, attributes, refusal, &mapped);
	ASSERT_EQ(found, 11);
	EXPECT_EQ(as_id, 0);
	EXPECT_EQ(start, TEST_GPA);
	EXPECT_EQ(end, TEST_GPA + SEEN_PAGES * SZ_4K);
	EXPECT_EQ(slot, TEST_SLOT);
	EXPECT_EQ(mapped, SEEN_TOUCHED * SZ_4K / 1024);
	EXPECT_STREQ(host, "WB");
	EXPECT_STREQ(intent, "WB");
	EXPECT_STREQ(refusal, "none");
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	if (answer.attributes & KVM_MEMTYPE_ATTR_FORCED) {
		EXPECT_STREQ(attributes, "forced");
		EXPECT_STREQ(source, "CPU");
		EXPECT_STREQ(effective, "WB");
	} else {
		EXPECT_STREQ(attributes, "-");
		EXPECT_STREQ(source, "RAM");
		EXPECT_EQ(strncmp(effective, "WB,", 3), 0);
	}
}

static void *fault_all(void *data)
{
	struct kvm_vcpu *vcpu = data;
	void *hva = addr_gpa2hva(vcpu->vm, TEST_GPA);
	int n, i;

	for (n = 0; n < 8; n++) {
		madvise(hva, SEEN_PAGES * SZ_4K, MADV_DONTNEED);
		for (i = 0; i < SEEN_PAGES; i++)
			run_guest(vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	}
	return NULL;
}

TEST_F(seeing, table_while_faulting)
{
	unsigned long mapped;
	pthread_t thread;
	char line[256];
	int found, i;

	ASSERT_EQ(pthread_create(&thread, NULL, fault_all, self->vcpu), 0);
	for (i = 0; i < 20; i++) {
		ASSERT_GE(read_table(self->vm, line), 4);
		found = sscanf(line, "%*d %*x %*x %*d %*s %*s %*s %*s %*s %*s %lu", &mapped);
		ASSERT_EQ(found, 1);
		EXPECT_LE(mapped, SEEN_PAGES * SZ_4K / 1024);
	}
	ASSERT_EQ(pthread_join(thread, NULL), 0);
}

/* Starts a program with up to two arguments; its output is to be read. */
static FILE *start_program(pid_t *child, const char *path, const char *first, const char *second)
{
	int out[2];

	TEST_ASSERT(!pipe(out), "pipe()");
	*child = fork();
	if (!*child) {
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		execl(path, path, first, second, NULL);
		_exit(127);
	}
	close(out[1]);
	return fdopen(out[0], "r");
}

/* Returns its exit status, as wait() has it. */
static int end_program(pid_t child, FILE *output)
{
	int status;

	fclose(output);
	TEST_ASSERT(waitpid(child, &status, 0) == child, "waitpid()");
	return status;
}

/* The program that prints the table for people, on this very process. */
TEST_F(seeing, tool)
{
	char pid[16], line[512];
	bool found = false;
	FILE *output;
	pid_t child;

	if (access(TOOL, X_OK))
		SKIP(return, "no " TOOL);
	snprintf(pid, sizeof(pid), "%d", getpid());
	output = start_program(&child, TOOL, "--json", pid);
	while (fgets(line, sizeof(line), output))
		found |= !!strstr(line, "10000000");
	EXPECT_EQ(end_program(child, output), 0);
	EXPECT_TRUE(found);
}

/*
 * The example for VMM authors, as it is in Documentation/virt/kvm/memtype-vmm.rst. Of
 * one range, a row has what it would tell the guest, and what the guest's WC gives.
 */
static const struct {
	const char *row;
	const char *range;
	const char *option;
	bool is_mmio;
	struct memtype_test_setup blob;
} examples[] = {
	{ .row = "example: RAM", .range = "RAM" },
	{ .row = "example: stage-1 mode, RAM", .range = "RAM", .option = "--stage1" },
	{ .row = "example: framebuffer", .range = "framebuffer" },
	{ .row = "example: blob", .range = "blob" },
	{ .row = "example: blob of WC RAM", .range = "blob", .blob = {
#ifdef __x86_64__
		.flags = MEMTYPE_TEST_SET_RAM,
#endif
		.size = SZ_4K, .prot = MEMTYPE_TEST_WC } },
	{ .row = "example: blob of cacheable MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_WB } },
	{ .row = "example: blob of WC MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_WC } },
	{ .row = "example: blob of UC MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_UC } },
	{ .row = "example: blob of any-uncached MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_UC,
		    .flags = MEMTYPE_TEST_ANY_UNCACHED } },
};

/*
 * Runs it, with or without an argument. Returns its exit status, and in @said what
 * it says of @range.
 */
static int run_example(const char *argument, const char *range, char said[64])
{
	char line[256], start[32], table[64], tell[32], wc[8];
	bool has_table = false;
	int status, ranges = 0;
	FILE *output;
	pid_t child;

	snprintf(start, sizeof(start), "%s at 0x", range);
	said[0] = '\0';
	output = start_program(&child, EXAMPLE, argument, NULL);
	snprintf(table, sizeof(table), "/sys/kernel/debug/kvm/%d-", child);
	while (fgets(line, sizeof(line), output)) {
		has_table |= !strncmp(line, table, strlen(table));
		ranges += has_table && !strncmp(line, "  0 ", 4);
		if (strncmp(line, start, strlen(start)))
			continue;
		if (sscanf(line, "%*s at %*x: host %*[^,], tell the guest %31[^,], its WC is %7s",
			   tell, wc) == 2)
			snprintf(said, 64, "%s,%s", tell, wc);
		else if (strstr(line, ": refused: "))
			snprintf(said, 64, "refused");
	}
	status = end_program(child, output);
	/* RAM, framebuffer and, if it is not refused, the blob */
	TEST_ASSERT(status || ranges == 3 - !strcmp(said, "refused"),
		    "%s: %d ranges in its table", EXAMPLE, ranges);
	return status;
}

TEST(example)
{
	char said[64], fd[16];
	const char *argument;
	struct memtype_test_setup blob;
	int status, driver, i;

	if (access(EXAMPLE, X_OK))
		SKIP(return, "no " EXAMPLE);
	if (!have_layer()) {
		status = run_example(NULL, "RAM", said);
		EXPECT_TRUE(WIFEXITED(status));
		EXPECT_EQ(WEXITSTATUS(status), KSFT_SKIP);
		return;
	}
	ASSERT_TRUE(have_driver());
	for (i = 0; i < ARRAY_SIZE(examples); i++) {
		blob = examples[i].blob;
		driver = -1;
		argument = examples[i].option;
		if (blob.size) {
			if (examples[i].is_mmio)
				blob.phys = frame_buffer();
			driver = open(DRIVER, O_RDWR);
			ASSERT_GE(driver, 0);
			ASSERT_EQ(ioctl(driver, MEMTYPE_TEST_SETUP, &blob), 0);
			snprintf(fd, sizeof(fd), "%d", driver);
			argument = fd;
		}
		status = run_example(argument, examples[i].range, said);
		EXPECT_TRUE(WIFEXITED(status));
		if (WEXITSTATUS(status) == KSFT_SKIP)
			snprintf(said, sizeof(said), "unsupported");
		if (WEXITSTATUS(status) != KSFT_SKIP)
			EXPECT_EQ(status, 0);
		print_cell(examples[i].row, said, false);
		if (driver >= 0)
			close(driver);
	}
}

TEST_F(seeing, statistics)
{
	static const char * const names[] = { "memtype_wb", "memtype_forced_wb" };
	uint64_t before = 0, after = 0;
	int i;

	if (!kvm_encodes_type())
		SKIP(return, "with NPT there is no type for KVM to encode");
	for (i = 0; i < ARRAY_SIZE(names); i++)
		before += vm_statistic(self->vm, names[i]);
	for (i = 0; i < SEEN_TOUCHED; i++)
		run_guest(self->vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		after += vm_statistic(self->vm, names[i]);
	EXPECT_GE(after, before + SEEN_TOUCHED);
	EXPECT_EQ(vm_statistic(self->vm, "memtype_wc"), 0);
	EXPECT_EQ(vm_statistic(self->vm, "memtype_refused"), 0);
}

/* KVM_GET_MEMTYPE: what it refuses, and that it follows the memslots. */
FIXTURE(query)
{
	struct kvm_vm *vm;
	void *hva;
};

FIXTURE_SETUP(query)
{
	self->vm = vm_create_barebones();
	self->hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->hva, MAP_FAILED);
}

FIXTURE_TEARDOWN(query)
{
	kvm_vm_free(self->vm);
}

static int query_error(struct kvm_vm *vm, const struct kvm_memtype *query)
{
	struct kvm_memtype copy = *query;
	int error;

	if (!__vm_ioctl(vm, KVM_GET_MEMTYPE, &copy))
		return 0;
	error = errno;
	TEST_ASSERT(!memcmp(&copy, query, sizeof(copy)), "a failed query changed its argument");
	return error;
}

TEST_F(query, bad_input)
{
	struct kvm_memtype good = { .gpa = TEST_GPA }, query;

	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	if (!have_layer()) {
		EXPECT_EQ(query_error(self->vm, &good), UNKNOWN_IOCTL);
		return;
	}
	EXPECT_EQ(query_error(self->vm, &good), 0);

	query = good;
	query.flags = 1;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query.flags = 1u << 31;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.padding[0] = 1;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.padding[1] = 1ull << 63;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.as_id = 2;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query.as_id = -1;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.gpa = TEST_GPA + SZ_2M;
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);
	query.gpa = -1;
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);

	EXPECT_EQ(__vm_ioctl(self->vm, KVM_GET_MEMTYPE, (struct kvm_memtype *)NULL), -1);
	EXPECT_EQ(errno, EFAULT);
	/* Readable, not writable; zeroes but for the address, where nothing is to say. */
	vm_set_user_memory_region(self->vm, TEST_SLOT + 1, 0, 0, SZ_4K, self->hva);
	ASSERT_EQ(mprotect(self->hva, SZ_4K, PROT_READ), 0);
	EXPECT_EQ(__vm_ioctl(self->vm, KVM_GET_MEMTYPE, (struct kvm_memtype *)self->hva), -1);
	EXPECT_EQ(errno, EFAULT);
}

/* Nothing is mapped in the host by asking; check_type() looks at the guest. */
TEST_F(query, maps_nothing)
{
	unsigned char resident;
	struct kvm_memtype answer;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
	EXPECT_EQ(answer.intent, KVM_MEMTYPE_WB);
	ASSERT_EQ(mincore(self->hva, SZ_4K, &resident), 0);
	EXPECT_EQ(resident & 1, 0);
}

TEST_F(query, address_without_mapping)
{
	struct kvm_memtype answer, expected = {
		.gpa = TEST_GPA, .refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED,
	};

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	ASSERT_EQ(mprotect(self->hva, SZ_2M, PROT_NONE), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(memcmp(&answer, &expected, sizeof(answer)), 0);
	ASSERT_EQ(munmap(self->hva, SZ_2M), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(memcmp(&answer, &expected, sizeof(answer)), 0);
}

TEST_F(query, memslot_ioctls)
{
	struct kvm_memtype first, second;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &first), -1);
	EXPECT_EQ(errno, ENOENT);

	ASSERT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M,
					      self->hva), 0);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &first), 0);
	ASSERT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, 0, NULL), 0);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &second), -1);
	EXPECT_EQ(errno, ENOENT);

	ASSERT_EQ(__vm_set_user_memory_region2(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M,
					       self->hva, 0, 0), 0);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &second), 0);
	EXPECT_EQ(memcmp(&first, &second, sizeof(first)), 0);
}

/* Each address space has memslots of its own. */
TEST_F(query, address_spaces)
{
	int nr = vm_check_cap(self->vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	struct kvm_memtype query = { .gpa = TEST_GPA, .as_id = 1 };

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (nr < 2) {
		EXPECT_EQ(query_error(self->vm, &query), EINVAL);
		return;
	}
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);
	vm_set_user_memory_region(self->vm, 1 << 16 | TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	EXPECT_EQ(query_error(self->vm, &query), 0);
	query.as_id = 0;
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);
}

#ifdef __x86_64__
/* Private memory is not what the memslot's address has; it is guest_memfd's, or nothing. */
TEST_F(query, private_memory)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT, .type = KVM_X86_SW_PROTECTED_VM,
	};
	struct kvm_memtype answer;
	struct kvm_vm *vm;
	int fd;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "no KVM_X86_SW_PROTECTED_VM");
	vm = ____vm_create(shape);
	fd = vm_create_guest_memfd(vm, SZ_2M, 0);
	vm_set_user_memory_region2(vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, SZ_2M, self->hva,
				   fd, 0);
	vm_set_user_memory_region(vm, TEST_SLOT + 1, 0, TEST_GPA + SZ_2M, SZ_2M, self->hva);
	ASSERT_EQ(munmap(self->hva, SZ_2M), 0);

	EXPECT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_UNMAPPED);
	vm_mem_set_private(vm, TEST_GPA, 2 * SZ_2M);
	EXPECT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_NONE);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
	EXPECT_EQ(get_memtype(vm, TEST_GPA + SZ_2M, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_UNMAPPED);
	kvm_vm_free(vm);
}
#endif

/* Neither ioctl knows a flag beside that of memory types. */
TEST_F(query, unknown_memslot_flags)
{
	EXPECT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 1 << 14, TEST_GPA, SZ_2M,
					      self->hva), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(__vm_set_user_memory_region2(self->vm, TEST_SLOT, 1 << 14, TEST_GPA, SZ_2M,
					       self->hva, 0, 0), -1);
	EXPECT_EQ(errno, EINVAL);
}

/* The policy of a VM, and how it shows. */
FIXTURE(policy)
{
	struct kvm_vm *vm;
};

FIXTURE_SETUP(policy)
{
	self->vm = vm_create(1);
	if (have_layer())
		ASSERT_EQ(__vm_enable_cap(self->vm, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_HONOR), 0);
}

FIXTURE_TEARDOWN(policy)
{
	kvm_vm_free(self->vm);
}

/* What the capability and the query say of guest RAM. */
static bool ram_is_honored(struct kvm_vm *vm, uint8_t *source)
{
	int caps = vm_check_cap(vm, KVM_CAP_MEMTYPE);
	struct kvm_memtype answer;

	TEST_ASSERT(caps & KVM_MEMTYPE_CAP_QUERY && caps & KVM_MEMTYPE_CAP_WC, "caps %x", caps);
	TEST_ASSERT(!get_memtype(vm, 0, &answer), "query: %s", strerror(errno));
	TEST_ASSERT(!(caps & KVM_MEMTYPE_CAP_HONOR) ==
		    !!(answer.attributes & KVM_MEMTYPE_ATTR_FORCED),
		    "caps %x, attributes %x", caps, answer.attributes);
	*source = answer.source;
	return caps & KVM_MEMTYPE_CAP_HONOR;
}

/* That @legacy is a legacy VM, and @honor one that honors the guest. */
static void check_legacy(struct kvm_vm *legacy, struct kvm_vm *honor)
{
	uint8_t legacy_source, honor_source;
	bool honored = ram_is_honored(honor, &honor_source);
	bool legacy_honored = ram_is_honored(legacy, &legacy_source);

	TEST_ASSERT(honor_source == (honored ? KVM_MEMTYPE_SOURCE_RAM : KVM_MEMTYPE_SOURCE_CPU),
		    "source %d", honor_source);
	if (honored && legacy_may_force()) {
		TEST_ASSERT(!legacy_honored && legacy_source == KVM_MEMTYPE_SOURCE_POLICY,
			    "legacy has no effect, source %d", legacy_source);
		disable_quirk(legacy);
		TEST_ASSERT(ram_is_honored(legacy, &legacy_source),
			    "legacy ignores a disabled quirk, source %d", legacy_source);
	} else {
		TEST_ASSERT(legacy_honored == honored && legacy_source == honor_source,
			    "legacy has an effect, source %d", legacy_source);
	}
}

TEST_F(policy, enable_cap)
{
	struct kvm_vm *legacy;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	legacy = vm_create(1);
	EXPECT_EQ(kvm_check_cap(KVM_CAP_MEMTYPE), vm_check_cap(legacy, KVM_CAP_MEMTYPE));
	ASSERT_EQ(__vm_enable_cap(legacy, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_LEGACY), 0);
	check_legacy(legacy, self->vm);

	/* And back again. */
	ASSERT_EQ(__vm_enable_cap(legacy, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_HONOR), 0);
	EXPECT_EQ(vm_check_cap(legacy, KVM_CAP_MEMTYPE), vm_check_cap(self->vm, KVM_CAP_MEMTYPE));
	kvm_vm_free(legacy);
}

static int enable_error(struct kvm_vm *vm, struct kvm_enable_cap cap)
{
	cap.cap = KVM_CAP_MEMTYPE;
	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

TEST_F(policy, bad_input)
{
	uint8_t before, after;
	bool honored;

	if (!have_layer()) {
		EXPECT_EQ(vm_check_cap(self->vm, KVM_CAP_MEMTYPE), 0);
		EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
				.args = { KVM_MEMTYPE_POLICY_LEGACY } }), EINVAL);
		return;
	}
	honored = ram_is_honored(self->vm, &before);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {}), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) { .args = { 8 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) { .args = { 3 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY | 1ull << 63 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY, 1 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY }, .flags = 1 }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY }, .pad = { [63] = 1 } }), EINVAL);
	EXPECT_EQ(ram_is_honored(self->vm, &after), honored);
	EXPECT_EQ(after, before);
}

TEST_F(policy, too_late)
{
	int caps;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	caps = vm_check_cap(self->vm, KVM_CAP_MEMTYPE);
	vm_vcpu_add(self->vm, 0, guest_main);
	EXPECT_EQ(__vm_enable_cap(self->vm, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_LEGACY), -1);
	EXPECT_EQ(errno, EBUSY);
	EXPECT_EQ(vm_check_cap(self->vm, KVM_CAP_MEMTYPE), caps);
}

/* kvm.guest_memtype= is for VMs that are created later. */
TEST_F(policy, module_parameter)
{
	struct kvm_vm *legacy, *honor;
	bool was_legacy;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	was_legacy = file_starts_with(PARAMETER, "legacy\n");
	ASSERT_EQ(write_file(PARAMETER, "legacy"), 0);
	EXPECT_TRUE(file_starts_with(PARAMETER, "legacy\n"));
	EXPECT_EQ(write_file(PARAMETER, "no"), -EINVAL);
	legacy = vm_create(1);
	EXPECT_EQ(write_file(PARAMETER, "honor"), 0);
	EXPECT_TRUE(file_starts_with(PARAMETER, "honor\n"));
	honor = vm_create(1);
	if (was_legacy)
		EXPECT_EQ(write_file(PARAMETER, "legacy"), 0);
	check_legacy(legacy, honor);
	kvm_vm_free(honor);
	kvm_vm_free(legacy);
}

/* The instrument itself: it must not look at a vCPU that has never run. */
TEST(probe_before_run)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA, .gva = TEST_GVA };
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm = create_vm(vcpus, 2, 0);

	if (!have_probe(vcpus[0]))
		SKIP(return, NO_PROBE);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	run_guest(vcpus[0], GUEST_WRITE, TEST_GVA, PATTERN);
	EXPECT_EQ(__vcpu_ioctl(vcpus[0], KVM_MEMTYPE_PROBE, &probe), 0);
	EXPECT_EQ(__vcpu_ioctl(vcpus[1], KVM_MEMTYPE_PROBE, &probe), -1);
	EXPECT_EQ(errno, ENOENT);
	probe.gpa = -1;
	EXPECT_EQ(__vcpu_ioctl(vcpus[0], KVM_MEMTYPE_PROBE, &probe), -1);
	EXPECT_EQ(errno, ENOENT);
	kvm_vm_free(vm);
}

/* Where KVM encodes a type, a fault asks the layer for it, and a trace event says so. */
TEST(fault_is_traced)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char gfn[32];

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!kvm_encodes_type())
		SKIP(return, "with NPT there is no type for KVM to encode");
	vm = create_vm(&vcpu, 1, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);

	trace_event("kvm_memtype/kvm_memtype_map", true);
	run_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
	trace_event("kvm_memtype/kvm_memtype_map", false);
	snprintf(gfn, sizeof(gfn), "gfn %lx ", TEST_GPA / getpagesize());
	EXPECT_TRUE(trace_has(gfn, "intent WB"));
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
