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
 * On EPT, "# memtype-probe:" says what the CPU's own page walk must have seen of
 * one access between two "xchg %bx,%bx". There Bochs, which emulates the CPU,
 * records it; see tools/testing/memtype/README.rst. No emulator combines the types
 * of NPT: there, a cell is the cell of the APM's tables for the entry that KVM wrote.
 *
 * The rules by which a type is decided (Documentation/virt/kvm/memtype.rst), and
 * their tests:
 *
 *	the host's own type wins		host.type_wins
 *	what is unsafe is refused, and said	memtype_query_test
 *	else the guest's type counts		ram.guest_type_counts, memtype_policy_test
 *	KVM_MEM_FORCE_WB			memtype_policy_test, rows "slot: ..."
 *	arm64's stage-1 mode			memtype_stage1_test, rows "stage1: ..."
 *	nested guests				memtype_nested_test, memtype_nested_svm_test
 *	SVM cannot force			svm_cannot_force
 *
 * On a kernel without the layer (KERNEL=base) only the second and the third
 * apply, and on one without the probe (CONFIG_KVM_MEMTYPE_PROBE) none of them.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "memtype_walk.h"

#define ROUNDS		100

/* Memory of the kind that a variant names, one page for each guest type. */
FIXTURE(ram)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	uint64_t page_size;
};

FIXTURE_VARIANT(ram)
{
	const char *name;	/* with the guest's type, and perhaps the size of a page */
	enum vm_mem_backing_src_type backing;
	bool is_2m;
	uint64_t policy;
	uint32_t slot_flags;
	bool no_quirk;
	bool noncoherent_dma;
};

FIXTURE_VARIANT_ADD(ram, anonymous) {
	.name = "guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
};

FIXTURE_VARIANT_ADD(ram, thp_2m) {
	.name = "guest %s on THP 2M", .backing = VM_MEM_SRC_ANONYMOUS_THP, .is_2m = true,
};

FIXTURE_VARIANT_ADD(ram, hugetlb_2m) {
	.name = "guest %s on hugetlb 2M", .backing = VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB,
	.is_2m = true,
};

FIXTURE_VARIANT_ADD(ram, memfd) {
	.name = "guest %s on shared memfd", .backing = VM_MEM_SRC_SHMEM,
};

FIXTURE_VARIANT_ADD(ram, legacy) {
	.name = "legacy: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_LEGACY,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(ram, legacy_without_quirk) {
	.name = "legacy, no quirk: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_LEGACY, .no_quirk = true,
};

FIXTURE_VARIANT_ADD(ram, legacy_dma) {
	.name = "legacy, DMA: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_LEGACY, .noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(ram, legacy_without_quirk_dma) {
	.name = "legacy, no quirk, DMA: guest %s on anonymous %s",
	.backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_LEGACY, .no_quirk = true, .noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(ram, dma) {
	.name = "DMA: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(ram, slot) {
	.name = "slot: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.slot_flags = KVM_MEM_FORCE_WB,
};

FIXTURE_VARIANT_ADD(ram, slot_dma) {
	.name = "slot, DMA: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.slot_flags = KVM_MEM_FORCE_WB, .noncoherent_dma = true,
};

#else
FIXTURE_VARIANT_ADD(ram, stage1) {
	.name = "stage1: guest %s on anonymous %s", .backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_STAGE1,
};

FIXTURE_VARIANT_ADD(ram, stage1_thp_2m) {
	.name = "stage1: guest %s on THP 2M", .backing = VM_MEM_SRC_ANONYMOUS_THP,
	.is_2m = true, .policy = KVM_MEMTYPE_POLICY_STAGE1,
};
#endif

FIXTURE_SETUP(ram)
{
	uint64_t size;
	int i;

	if (why_not(variant->policy, variant->slot_flags))
		SKIP(return, "%s", why_not(variant->policy, variant->slot_flags));
	if (variant->is_2m && !have_2m())
		SKIP(return, NO_2M);
	if (variant->backing == VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB)
		reserve_hugepages();
	self->page_size = variant->is_2m ? SZ_2M : getpagesize();
	size = self->page_size * ARRAY_SIZE(guest_kinds);
	self->vm = create_vm(self->vcpus, ARRAY_SIZE(self->vcpus), variant->policy);
	if (variant->no_quirk && !disable_quirk(self->vm))
		SKIP(return, "no KVM_X86_QUIRK_IGNORE_GUEST_PAT to disable");
	if (variant->noncoherent_dma) {
		if (!have_probe(self->vcpus[0]))
			SKIP(return, NO_PROBE);
		set_noncoherent_dma(self->vcpus[0], true);
	}
	vm_userspace_mem_region_add(self->vm, variant->backing, TEST_GPA, TEST_SLOT,
				    size / self->vm->page_size, variant->slot_flags);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(self->vm, TEST_GVA + i * self->page_size, TEST_GPA + i * self->page_size,
		       guest_kinds[i]);
}

FIXTURE_TEARDOWN(ram)
{
	if (self->vm)
		kvm_vm_free(self->vm);
	restore_hugepages();
}

TEST_F(ram, guest_type_counts)
{
	struct page page = {
		.gpa = TEST_GPA, .size = self->page_size, .access = GUEST_WRITE,
		.untouched = true, .host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB,
	};
	uint64_t gva = TEST_GVA;
	char row[64];
	int i;

	if (!have_probe(self->vcpus[0]))
		SKIP(return, NO_PROBE);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		snprintf(row, sizeof(row), variant->name, kind_names[guest_kinds[i]],
			 page_name());
		check_type(_metadata, self->vcpus[0], row, &page, gva, guest_kinds[i]);
		page.gpa += self->page_size;
		gva += self->page_size;
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
		uint64_t gva = TEST_GVA + i * self->page_size;
		uint64_t *hva = addr_gpa2hva(self->vm, TEST_GPA + i * self->page_size);

		for (n = 0; n < 4; n++) {
			let_guest(self->vcpus[0], GUEST_WRITE, gva, PATTERN + n);
			host_sync(hva);
			TEST_ASSERT(READ_ONCE(*hva) == PATTERN + n, "host reads %lx", *hva);

			WRITE_ONCE(*hva, ~(PATTERN + n));
			host_sync(hva);
			TEST_ASSERT(let_guest(self->vcpus[0], GUEST_READ, gva, 0) ==
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
		uint64_t gpa = TEST_GPA + i * self->page_size;
		uint64_t gva[2] = { TEST_GVA + i * self->page_size, ALIAS_GVA + i * SZ_4K };

		map_as(self->vm, gva[1], gpa, guest_kinds[(i + 1) % ARRAY_SIZE(guest_kinds)]);
		for (n = 0; n < ROUNDS; n++) {
			int writer = n & 1, reader = !writer;

			move_to_cpu(writer);
			let_guest(self->vcpus[writer], GUEST_WRITE, gva[writer], PATTERN + n);
			move_to_cpu(reader);
			TEST_ASSERT(let_guest(self->vcpus[reader], GUEST_READ, gva[reader], 0) ==
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
	if (find_edu(self->device))
		enable_device(self->device);
	else if (!find_display(self->device))
		self->device[0] = '\0';
}

FIXTURE_TEARDOWN(mmio)
{
	kvm_vm_free(self->vm);
}

/* As any driver in user space may map it: VM_IO | VM_PFNMAP and nothing more. */
TEST_F(mmio, sysfs)
{
	void *bar;

	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	if (!self->device[0])
		SKIP(return, "no PCI device to map");
	bar = map_first_bar(self->device, getpagesize(), MAP_SHARED);
	check_mmio(_metadata, self->vcpu, "guest %s on host MMIO", bar, getpagesize(), SYSFS_BAR,
		   0);
}

/*
 * What the host itself maps with some type, in all ways in which drivers do, and
 * what becomes of it: whatever the policy, a type other than WB wins.
 */
enum host_memory { HOST_RAM, HOST_BAR, HOST_BAR_COPY, HOST_ISA_HOLE };

struct host_page {
	const char *name;
	enum host_memory memory;
	uint32_t prot, flags;	/* MEMTYPE_TEST_* */
	uint64_t offset;	/* of the page in the mapping, in bytes */
	uint64_t size;		/* of the second-stage mapping; 0: a page */
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
/*
 * PAT overrides what a driver says of RAM that it maps by page frames, unless the RAM
 * itself was set to a type, or the driver does not let PAT know.
 */
static const struct host_page host_pages[] = {
	HOST_PAGE("PFNMAP WB", WB, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC", WC, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP UC", UC, 0, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC premapped", WC, MEMTYPE_TEST_PREMAP, WB, WB, RAM),
	HOST_PAGE("PFNMAP WC in PTE only", WC, MEMTYPE_TEST_PTE_ONLY, WB, WB, RAM),
	HOST_PAGE("MIXEDMAP WB", WB, MEMTYPE_TEST_MIXEDMAP, WB, WB, RAM),
	HOST_PAGE("PFNMAP WB, pfn_mkwrite", WB, MEMTYPE_TEST_MKWRITE, WB, WB, RAM),
	HOST_PAGE("MIXEDMAP WC", WC, MEMTYPE_TEST_MIXEDMAP, WC, WC, PTE),
	HOST_PAGE("RAM WC behind PAT", WC, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_UNTRACKED, WC, WC,
		  PTE),
	HOST_PAGE("RAM UC behind PAT", UC, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_UNTRACKED,
		  UC_MINUS, UC, PTE),
	/* Of the two mappings, the kernel's own caches less. */
	HOST_PAGE("RAM WB entry, set to WC", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_UNTRACKED |
		  MEMTYPE_TEST_WB_ENTRIES, WC, WC, PTE),
	HOST_PAGE("RAM set to WC", WC, MEMTYPE_TEST_SET_RAM, WC, WC, PTE),
	HOST_PAGE("RAM set to WC premapped", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP, WC, WC, PTE),
	HOST_PAGE("RAM set to WC in PTE only", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PTE_ONLY, WC, WC, PTE),
	HOST_PAGE("RAM set to WC MIXEDMAP", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXEDMAP, WC, WC, PTE),
	HOST_PAGE("RAM set to WC, pfn_mkwrite", WC, MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MKWRITE,
		  WC, WC, PTE),
	HOST_PAGE("tails set to WC", WC,
		  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_TAILS, WC, WC, PTE,
		  .offset = SZ_64K),
	HOST_PAGE("RAM set to UC", UC, MEMTYPE_TEST_SET_RAM, UC_MINUS, UC, PTE),
	HOST_PAGE("2M WB", WB, MEMTYPE_TEST_HUGE, WB, WB, RAM, .size = SZ_2M),
	HOST_PAGE("2M set to WC", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_SET_RAM, WC, WC, PTE,
		  .size = SZ_2M),
	HOST_PAGE("mixed 2M, WB half", WC,
		  MEMTYPE_TEST_HUGE | MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXED, WB, WB, RAM),
	HOST_PAGE("mixed 2M", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXED,
		  WC, WC, PTE, .offset = SZ_1M),
	HOST_PAGE("MMIO WB", WB, MEMTYPE_TEST_PREMAP, UC_MINUS, UC, MMIO, .memory = HOST_BAR),
	/* The MTRRs make it UC, which EPT would ignore. */
	HOST_PAGE("MMIO WB behind PAT", WB, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_UNTRACKED, UC, UC,
		  MMIO, .memory = HOST_BAR),
	HOST_PAGE("MMIO copied", WB, 0, WB, WB, RAM, .memory = HOST_BAR_COPY),
	HOST_PAGE("MMIO WC", WC, MEMTYPE_TEST_PREMAP, WC, UC, MMIO, .memory = HOST_BAR),
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
	HOST_PAGE("PFNMAP WB, pfn_mkwrite", WB, MEMTYPE_TEST_MKWRITE, WB, WB, RAM),
	HOST_PAGE("tails WB", WB, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_TAILS, WB, WB, RAM,
		  .offset = SZ_64K),
	HOST_PAGE("tails WC", WC, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_TAILS, WC, WC, PTE, NOEXEC,
		  .offset = SZ_64K),
	HOST_PAGE("MIXEDMAP WB", WB, MEMTYPE_TEST_MIXEDMAP, WB, WB, RAM),
	HOST_PAGE("MIXEDMAP WC", WC, MEMTYPE_TEST_MIXEDMAP, WC, WC, PTE, NOEXEC),
	HOST_PAGE("2M WB", WB, MEMTYPE_TEST_HUGE, WB, WB, RAM, .size = SZ_2M),
	HOST_PAGE("2M WC", WC, MEMTYPE_TEST_HUGE, WC, WC, PTE, NOEXEC, .size = SZ_2M),
	HOST_PAGE("mixed 2M, WB half", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_MIXED, WB, WB, RAM),
	HOST_PAGE("mixed 2M", WC, MEMTYPE_TEST_HUGE | MEMTYPE_TEST_MIXED, WC, WC, PTE, NOEXEC,
		  .offset = SZ_1M),
	HOST_PAGE("MMIO WB", WB, 0, WB, WB, RAM, .memory = HOST_BAR),
	/* Memory that the host accesses as it does the BAR: no cached alias of that. */
	HOST_PAGE("MMIO copied", UC, 0, UC, UC, PTE, NOEXEC, .memory = HOST_BAR_COPY),
	HOST_PAGE("MMIO WC", WC, MEMTYPE_TEST_PREMAP, WC, UC, MMIO, NOEXEC, .memory = HOST_BAR),
	HOST_PAGE("MMIO WC any-uncached", WC, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_ANY_UNCACHED,
		  WC, UC, MMIO, .memory = HOST_BAR,
		  .attributes = KVM_MEMTYPE_ATTR_NOEXEC | KVM_MEMTYPE_ATTR_ANY_UNCACHED),
	HOST_PAGE("MMIO UC", UC, MEMTYPE_TEST_PREMAP, NGNRNE, UC, MMIO, NOEXEC,
		  .memory = HOST_BAR),
	HOST_PAGE("MMIO any-uncached", UC, MEMTYPE_TEST_ANY_UNCACHED, NGNRNE, UC, MMIO,
		  .memory = HOST_BAR,
		  .attributes = KVM_MEMTYPE_ATTR_NOEXEC | KVM_MEMTYPE_ATTR_ANY_UNCACHED),
};
#endif

/* Maps what @page describes, or returns MAP_FAILED: there is no such memory here. */
static void *map_host_page(const struct host_page *page, uint64_t bar)
{
	char display[NAME_MAX + 1];
	uint64_t *hva;
	int fd;

	switch (page->memory) {
	case HOST_RAM:
		hva = map_host(HOST_SIZE, 0, page->prot, page->flags);
		break;
	case HOST_BAR:
		hva = bar ? map_host(HOST_SIZE, bar, page->prot, page->flags) : MAP_FAILED;
		break;
	case HOST_BAR_COPY:
		if (!find_display(display))
			return MAP_FAILED;
		hva = map_first_bar(display, HOST_SIZE, MAP_PRIVATE);
		WRITE_ONCE(*hva, PATTERN);
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

/* What KVM of this kernel did not map cacheable without the layer, legacy does not either. */
static void expect_legacy(struct page *page)
{
#ifdef __aarch64__
	if (!LEGACY_IS_DEVICE)
		return;
	page->intent = KVM_MEMTYPE_UC;
	page->source = MMIO;
	page->attributes = KVM_MEMTYPE_ATTR_NOEXEC;
#endif
}

/* Maps a page as the guest wants, with each type; one cell for all of them. */
static void check_host_page(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			    const char *row, const struct host_page *host, uint64_t policy)
{
	struct page page = {
		.gpa = TEST_GPA + host->offset, .size = host->size ?: getpagesize(),
		.access = host->memory == HOST_RAM || host->memory == HOST_BAR_COPY ?
			  GUEST_WRITE : GUEST_READ,
		.host = host->host, .intent = host->intent, .source = host->source,
		.attributes = host->attributes,
	};
	uint64_t gva = TEST_GVA + host->offset;
	struct kvm_memtype answer;

	if (policy == KVM_MEMTYPE_POLICY_LEGACY && host->memory == HOST_BAR &&
	    host->intent == KVM_MEMTYPE_WB)
		expect_legacy(&page);
	/* On arm64, what is no memory is cacheable with FWB and DIC only. */
	if (have_layer() && host->memory == HOST_BAR && page.intent == KVM_MEMTYPE_WB &&
	    !get_memtype(vcpu->vm, page.gpa, &answer) && answer.refusal) {
		map_as(vcpu->vm, gva, page.gpa, KVM_MEMTYPE_WB);
		check_refusal(_metadata, vcpu, page.gpa, gva, KVM_MEMTYPE_REFUSAL_CACHEABLE,
			      "cacheable");
		print_cell(row, "refused");
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
		/* The base ends KVM_RUN there. */
		if (!have_layer() && host->flags & (MEMTYPE_TEST_TAILS | MEMTYPE_TEST_MKWRITE))
			continue;
		if (host->flags & MEMTYPE_TEST_HUGE && !have_2m()) {
			ksft_print_msg("not %s: " NO_2M "\n", host->name);
			continue;
		}
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
		check_host_page(_metadata, vcpu, row, host, variant->policy);
		kvm_vm_free(vm);
		munmap(hva, host->memory == HOST_ISA_HOLE ? SZ_64K : HOST_SIZE);
	}
}

#ifdef __x86_64__
static const struct host_page other_page =
	HOST_PAGE("RAM set to WC", WC, MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP, WC, WC, PTE);

/* Maps a driver's memory where there is memory of the process. */
static void map_other_page_at(void *hva)
{
	move_mapping(map_host_page(&other_page, 0), HOST_SIZE, hva);
}

/* A driver's memory comes to be where the memslot had memory of the process. */
TEST(type_of_what_is_there_now)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;

	if (!have_layer() || !have_driver())
		SKIP(return, have_layer() ? NO_DRIVER : NO_LAYER);
	vm = create_vm(&vcpu, 1, 0);
	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	hva = mmap(NULL, HOST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	map_as(vm, TEST_GVA - SZ_2M, TEST_GPA, KVM_MEMTYPE_WB);
	let_guest(vcpu, GUEST_WRITE, TEST_GVA - SZ_2M, PATTERN);

	map_other_page_at(hva);
	check_host_page(_metadata, vcpu, "host RAM set to WC where there was anonymous memory",
			&other_page, 0);
	kvm_vm_free(vm);
	munmap(hva, HOST_SIZE);
}

/* Nothing has so high an address. */
#define BAD_GPA		BIT_ULL(52)
#define ATTEMPTS	30

struct mover {
	struct kvm_vm *vm;
	void *hva;
	atomic_bool stop;
};

/* KVM takes the memslot away for a while, and finds out then that it cannot be moved. */
static void *move_in_vain(void *data)
{
	struct mover *mover = data;

	while (!mover->stop)
		TEST_ASSERT(__vm_set_user_memory_region(mover->vm, TEST_SLOT, 0, BAD_GPA,
							HOST_SIZE, mover->hva) &&
			    errno == EINVAL, "a move in vain: %s", strerror(errno));
	return NULL;
}

/* As above, while the memslot is not where unmapped memory is looked for. */
TEST(type_after_a_move_in_vain)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA, .gva = TEST_GVA };
	struct mover mover = {};
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	int i;

	if (!have_layer() || !have_driver())
		SKIP(return, have_layer() ? NO_DRIVER : NO_LAYER);
	mover.vm = create_vm(&vcpu, 1, 0);
	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	map_as(mover.vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	for (i = 0; i < ATTEMPTS; i++) {
		mover.hva = mmap(mover.hva, HOST_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | (i ? MAP_FIXED : 0), -1, 0);
		ASSERT_NE(mover.hva, MAP_FAILED);
		vm_set_user_memory_region(mover.vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, mover.hva);

		mover.stop = false;
		ASSERT_EQ(pthread_create(&thread, NULL, move_in_vain, &mover), 0);
		usleep(i * 100);
		map_other_page_at(mover.hva);
		mover.stop = true;
		ASSERT_EQ(pthread_join(thread, NULL), 0);

		let_guest(vcpu, GUEST_READ, TEST_GVA, 0);
		ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe), 0);
		EXPECT_EQ(walked_kind(&probe, KVM_MEMTYPE_WB).kind, KVM_MEMTYPE_WC);
		vm_set_user_memory_region(mover.vm, TEST_SLOT, 0, TEST_GPA, 0, NULL);
	}
	kvm_vm_free(mover.vm);
	munmap(mover.hva, HOST_SIZE);
}

/* What a process maps at a memslot's address says nothing of the private memory behind it. */
TEST(private_memory)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT, .type = KVM_X86_SW_PROTECTED_VM,
	};
	const struct page page = {
		.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_WRITE,
		.host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;

	if (!have_layer() || !have_driver())
		SKIP(return, have_layer() ? NO_DRIVER : NO_LAYER);
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "no KVM_X86_SW_PROTECTED_VM");
	vm = vm_create_shape_with_one_vcpu(shape, &vcpu, guest_main);
	vcpu_args_set(vcpu, 1, 0);
	init_guest_types(vcpu);
	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	hva = map_host_page(&other_page, 0);
	vm_set_user_memory_region2(vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, HOST_SIZE, hva,
				   vm_create_guest_memfd(vm, HOST_SIZE, 0), 0);
	vm_mem_set_private(vm, TEST_GPA, HOST_SIZE);
	check_types(_metadata, vcpu, "private memory", &page, TEST_GVA);
	kvm_vm_free(vm);
	munmap(hva, HOST_SIZE);
}

/* Whether the kernel has warned since @log, its log, was opened and at its end. */
static bool has_warned(int log)
{
	bool found = false;
	char record[1024];
	ssize_t length;

	while ((length = read(log, record, sizeof(record) - 1)) > 0) {
		record[length] = '\0';
		found |= !!strstr(record, "WARNING: CPU: ");
	}
	return found;
}

/* mov %eax, TEST_GPA + SZ_64K; out %al, $0x80 */
static const uint8_t write_and_exit[] = { 0xa3, 0x00, 0x00, 0x01, 0x10, 0xe6, 0x80 };

/* A guest that has not turned on paging writes to memory, which is at @hva in this process. */
static void run_without_paging(struct __test_metadata *_metadata, char *hva)
{
	struct kvm_regs regs = {
		.rip = TEST_GPA + SZ_64K + SZ_4K, .rax = PATTERN & UINT_MAX, .rflags = 2,
	};
	struct kvm_segment flat = {
		.limit = -1, .selector = 8, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_sregs sregs;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	ASSERT_NE(hva, MAP_FAILED);
	memcpy(hva + SZ_64K + SZ_4K, write_and_exit, sizeof(write_and_exit));
	vm = create_vm(&vcpu, 1, 0);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);

	vcpu_sregs_get(vcpu, &sregs);
	sregs.ds = flat;
	sregs.es = flat;
	sregs.ss = flat;
	flat.type = 11;
	sregs.cs = flat;
	sregs.cr0 &= ~X86_CR0_PG;
	sregs.efer = 0;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
	vcpu_run(vcpu);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	EXPECT_EQ(READ_ONCE(*(uint32_t *)(hva + SZ_64K)), PATTERN & UINT_MAX);
	kvm_vm_free(vm);
	munmap(hva, HOST_SIZE);
}

/*
 * Shadow paging has a path of its own for such guests: in memory, and in pages to which no
 * reference can be taken.
 */
TEST(guest_without_paging)
{
	int log;

	if (!have_layer() || !have_driver())
		SKIP(return, have_layer() ? NO_DRIVER : NO_LAYER);
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	ASSERT_GE(log, 0);
	ASSERT_GE(lseek(log, 0, SEEK_END), 0);
	run_without_paging(_metadata, mmap(NULL, HOST_SIZE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	run_without_paging(_metadata, map_host(HOST_SIZE, 0, MEMTYPE_TEST_WC,
					       MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP |
					       MEMTYPE_TEST_TAILS));
	/* The driver warns when it frees a page of which a reference was dropped. */
	EXPECT_FALSE(has_warned(log));
	close(log);
}

/* NPT has nothing to ignore a guest's PAT with, so that legacy and honor are the same. */
TEST(svm_cannot_force)
{
	static const uint64_t policies[] = {
		KVM_MEMTYPE_POLICY_HONOR, KVM_MEMTYPE_POLICY_LEGACY,
	};
	struct kvm_memtype answers[ARRAY_SIZE(policies)];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (host_cpu_is_intel || has_shadow_paging())
		SKIP(return, "no SVM with nested paging");
	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		vm = create_vm(&vcpu, 1, policies[i]);
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
		ASSERT_EQ(get_memtype(vm, TEST_GPA, &answers[i]), 0);
		EXPECT_EQ(answers[i].attributes, 0);
		EXPECT_EQ(vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_FORCE_WB, 0);
		kvm_vm_free(vm);
	}
	EXPECT_EQ(memcmp(&answers[0], &answers[1], sizeof(answers[0])), 0);
}
#endif

/* The instrument itself: it must not look at a vCPU that has never run. */
TEST(probe_before_run)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA, .gva = TEST_GVA };
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm = create_vm(vcpus, 2, 0);

	if (!have_probe(vcpus[0]))
		SKIP(return, NO_PROBE);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
				    vm_adjust_num_guest_pages(vm->mode, 1), 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	let_guest(vcpus[0], GUEST_WRITE, TEST_GVA, PATTERN);
	EXPECT_EQ(__vcpu_ioctl(vcpus[0], KVM_MEMTYPE_PROBE, &probe), 0);
	EXPECT_EQ(__vcpu_ioctl(vcpus[1], KVM_MEMTYPE_PROBE, &probe), -1);
	EXPECT_EQ(errno, ENOENT);
	probe.gpa = -1;
	EXPECT_EQ(__vcpu_ioctl(vcpus[0], KVM_MEMTYPE_PROBE, &probe), -1);
	EXPECT_EQ(errno, ENOENT);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
