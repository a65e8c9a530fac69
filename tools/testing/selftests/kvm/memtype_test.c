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
 * On a kernel without the layer (KERNEL=base) only the second and the third
 * apply, and on one without the probe (CONFIG_KVM_MEMTYPE_PROBE) none of them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/kvm_memtype.h>
#include <linux/sizes.h>
#include <linux/vfio.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#include "../../../../virt/kvm/memtype_probe.h"

#define PARAMETER	"/sys/module/kvm/parameters/guest_memtype"
#define TRACING		"/sys/kernel/tracing"
#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

#define TEST_SLOT	10
#define TEST_GPA	0x10000000ul
#define TEST_GVA	0x40000000ul
/* The same memory once more, with another type. */
#define ALIAS_GVA	0x60000000ul
#define PATTERN		0x5eed000000000001ull
#define ROUNDS		100

static const char * const kind_names[] = {
	[KVM_MEMTYPE_NONE] = "none",	[KVM_MEMTYPE_WB] = "WB",
	[KVM_MEMTYPE_WT] = "WT",	[KVM_MEMTYPE_WP] = "WP",
	[KVM_MEMTYPE_WC] = "WC",	[KVM_MEMTYPE_UC_MINUS] = "UC-",
	[KVM_MEMTYPE_UC] = "UC",	[KVM_MEMTYPE_GRE] = "GRE",
	[KVM_MEMTYPE_NGRE] = "nGRE",	[KVM_MEMTYPE_NGNRNE] = "nGnRnE",
};

/*
 * The guest: does what it is told, one access at a time, on its own page tables.
 */
enum guest_op { GUEST_READ, GUEST_MARKED_READ, GUEST_WRITE };

static struct guest_command {
	enum guest_op op;
	uint64_t gva;
	uint64_t value;
} commands[2];

static uint64_t guest_read(uint64_t gva);
static uint64_t guest_marked_read(uint64_t gva);
static void guest_write(uint64_t gva, uint64_t value);

static void guest_main(int id)
{
	struct guest_command *command = &commands[id];

	for (;;) {
		switch (command->op) {
		case GUEST_READ:
			GUEST_SYNC(guest_read(command->gva));
			break;
		case GUEST_MARKED_READ:
			GUEST_SYNC(guest_marked_read(command->gva));
			break;
		case GUEST_WRITE:
			guest_write(command->gva, command->value);
			GUEST_SYNC(0);
			break;
		}
	}
}

#ifdef __x86_64__
/* What a guest chooses; UC- is what Linux's ioremap() asks for. */
static const uint8_t guest_kinds[] = {
	KVM_MEMTYPE_WB, KVM_MEMTYPE_WC, KVM_MEMTYPE_UC_MINUS, KVM_MEMTYPE_UC,
};

/* As Linux programs it: entry 1 is WC, entry 2 is UC-, entry 3 is UC. */
#define GUEST_PAT	0x0407050600070106ull
#define PTE_PWT		BIT_ULL(3)
#define PTE_PCD		BIT_ULL(4)
/* What KVM says to an ioctl that it does not know. */
#define UNKNOWN_IOCTL	ENOTTY
/* x86 lets a guest execute MMIO. */
#define MMIO_NOEXEC	0
#define EPT_MT(leaf)	(((leaf) >> 3) & 7)
#define EPT_IPAT(leaf)	(((leaf) >> 6) & 1)

static const uint8_t mtrr_kinds[8] = {
	[0] = KVM_MEMTYPE_UC, [1] = KVM_MEMTYPE_WC, [4] = KVM_MEMTYPE_WT,
	[5] = KVM_MEMTYPE_WP, [6] = KVM_MEMTYPE_WB,
};

/*
 * SFENCE makes WC stores visible before the hand-over to another CPU (Intel SDM
 * vol. 3, "Strengthening or Weakening the Memory-Ordering Model"). Where two
 * mappings have different types, caches stay coherent on Intel CPUs by
 * self-snoop (without it KVM forces WB), and on AMD CPUs because uncached
 * accesses snoop them (APM vol. 2, section 7.3).
 */
static void guest_write(uint64_t gva, uint64_t value)
{
	asm volatile("mov %1, (%0)\n\t"
		     "sfence" : : "r" (gva), "r" (value) : "memory");
}

static uint64_t guest_read(uint64_t gva)
{
	return READ_ONCE(*(uint64_t *)gva);
}

/* One access that the page walker has to translate anew, between two marks. */
static uint64_t guest_marked_read(uint64_t gva)
{
	uint64_t value;

	asm volatile("invlpg (%1)\n\t"
		     "xchg %%bx, %%bx\n\t"
		     "mov (%1), %0\n\t"
		     "xchg %%bx, %%bx" : "=&r" (value) : "r" (gva) : "memory");
	return value;
}

static void host_sync(void *hva)
{
}

static void init_guest_types(struct kvm_vcpu *vcpu)
{
	vcpu_set_msr(vcpu, MSR_IA32_CR_PAT, GUEST_PAT);
}

static void map_as(struct kvm_vm *vm, uint64_t gva, uint64_t gpa, uint8_t kind)
{
	uint64_t *pte;

	virt_pg_map(vm, gva, gpa);
	pte = vm_get_page_table_entry(vm, gva);
	*pte &= ~(PTE_PWT | PTE_PCD);
	if (kind == KVM_MEMTYPE_WC || kind == KVM_MEMTYPE_UC)
		*pte |= PTE_PWT;
	if (kind == KVM_MEMTYPE_UC_MINUS || kind == KVM_MEMTYPE_UC)
		*pte |= PTE_PCD;
}

/*
 * Intel SDM vol. 3, section 13.5.2.2 (EPT: 30.3.7.2), AMD APM vol. 2, section
 * 7.8.4: the part for the guest's types above on memory that is WB, WC or UC.
 */
static uint8_t combine(uint8_t memory, uint8_t guest)
{
	if (guest == KVM_MEMTYPE_UC_MINUS)
		return memory == KVM_MEMTYPE_WC ? KVM_MEMTYPE_WC : KVM_MEMTYPE_UC;
	return guest == KVM_MEMTYPE_WB ? memory : guest;
}

static uint8_t walked_kind(const struct kvm_memtype_probe *probe, uint8_t guest, bool *forced)
{
	*forced = probe->format == KVM_MEMTYPE_PROBE_EPT && EPT_IPAT(probe->leaf);
	if (*forced)
		return mtrr_kinds[EPT_MT(probe->leaf)];
	if (probe->format == KVM_MEMTYPE_PROBE_EPT)
		return combine(mtrr_kinds[EPT_MT(probe->leaf)], guest);

	/* NPT: the nested entry selects host PAT entry 0, which is WB. */
	TEST_ASSERT(!(probe->leaf & (PTE_PWT | PTE_PCD)), "NPT leaf %llx", probe->leaf);
	return combine(mtrr_kinds[probe->mtrr], guest);
}

static void expect_walk(const char *row, uint64_t gva, const struct kvm_memtype_probe *probe,
			uint8_t guest)
{
	/* Bochs shows the guest's own type with the MTRR's; SVM does not run there. */
	if (probe->format == KVM_MEMTYPE_PROBE_EPT)
		ksft_print_msg("memtype-probe: row=%s gva=%#lx mt=%llu ipat=%llu type=%s\n",
			       row, gva, EPT_MT(probe->leaf), EPT_IPAT(probe->leaf),
			       kind_names[combine(mtrr_kinds[probe->mtrr], guest)]);
}

static bool legacy_may_force(void)
{
	return host_cpu_is_intel;
}

/* Takes back what makes a legacy VM ignore the guest's PAT. */
static void disable_quirk(struct kvm_vm *vm)
{
	vm_enable_cap(vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_IGNORE_GUEST_PAT);
}

static bool kvm_encodes_type(void)
{
	return host_cpu_is_intel;
}
#endif /* __x86_64__ */

#ifdef __aarch64__
/* What a guest chooses; UC is Device-nGnRE, which Linux's ioremap() asks for. */
static const uint8_t guest_kinds[] = { KVM_MEMTYPE_WB, KVM_MEMTYPE_WC, KVM_MEMTYPE_UC };

/* Device-nGnRE in the library's DEFAULT_MAIR_EL1 */
#define MAIR_DEVICE		1
#define PTE_ATTRINDX(idx)	((uint64_t)(idx) << 2)
#define UNKNOWN_IOCTL		EINVAL
#define MMIO_NOEXEC		KVM_MEMTYPE_ATTR_NOEXEC
#define S2_MEMATTR(leaf)	(((leaf) >> 2) & 0xf)
#define PAR_F			BIT_ULL(0)
#define PAR_ATTR(par)		((par) >> 56)

/*
 * Locations that are accessed with mismatched attributes lose coherency. It is
 * kept by cleaning and invalidating after each write and before each read with
 * another type (Arm ARM, section "Mismatched memory attributes").
 */
static void clean_invalidate(uint64_t va)
{
	asm volatile("dsb sy\n\t"
		     "dc civac, %0\n\t"
		     "dsb sy" : : "r" (va) : "memory");
}

static void guest_write(uint64_t gva, uint64_t value)
{
	WRITE_ONCE(*(uint64_t *)gva, value);
	clean_invalidate(gva);
}

static uint64_t guest_read(uint64_t gva)
{
	clean_invalidate(gva);
	return READ_ONCE(*(uint64_t *)gva);
}

/* AT S12E1R needs no access to look at. */
static uint64_t guest_marked_read(uint64_t gva)
{
	return guest_read(gva);
}

static void host_sync(void *hva)
{
	clean_invalidate((uint64_t)hva);
}

static void init_guest_types(struct kvm_vcpu *vcpu)
{
	/* The library's MAIR_EL1 has all types. */
}

static void map_as(struct kvm_vm *vm, uint64_t gva, uint64_t gpa, uint8_t kind)
{
	uint64_t *pte;

	virt_pg_map(vm, gva, gpa);
	pte = virt_get_pte_hva(vm, gva);
	*pte &= ~PTE_ATTRINDX(7);
	if (kind == KVM_MEMTYPE_WB)
		*pte |= PTE_ATTRINDX(MT_NORMAL);
	else if (kind == KVM_MEMTYPE_WC)
		*pte |= PTE_ATTRINDX(MT_NORMAL_NC);
	else
		*pte |= PTE_ATTRINDX(MAIR_DEVICE);
}

/* PAR_EL1.ATTR is encoded as in MAIR_EL1 (Arm ARM). */
static uint8_t par_kind(uint8_t attr)
{
	switch (attr) {
	case 0x00:
		return KVM_MEMTYPE_NGNRNE;
	case 0x04:
		return KVM_MEMTYPE_UC;
	case 0x08:
		return KVM_MEMTYPE_NGRE;
	case 0x0c:
		return KVM_MEMTYPE_GRE;
	case 0x44:
		return KVM_MEMTYPE_WC;
	case 0xff:
		return KVM_MEMTYPE_WB;
	default:
		return KVM_MEMTYPE_NONE;
	}
}

static uint8_t walked_kind(const struct kvm_memtype_probe *probe, uint8_t guest, bool *forced)
{
	/* Only with FWB is there a MemAttr that overrides stage 1 with write-back. */
	*forced = S2_MEMATTR(probe->leaf) == 6;
	if (probe->par_valid) {
		TEST_ASSERT(!(probe->par & PAR_F), "AT S12E1R failed: PAR_EL1 %llx", probe->par);
		return par_kind(PAR_ATTR(probe->par));
	}

	/* nVHE: Arm ARM D8.6, for guest types WB, Normal-NC and Device-nGnRE. */
	switch (S2_MEMATTR(probe->leaf)) {
	case 0x1:
		return KVM_MEMTYPE_UC;
	case 0x5:
		return guest == KVM_MEMTYPE_UC ? guest : KVM_MEMTYPE_WC;
	case 0x6:
		return KVM_MEMTYPE_WB;
	case 0xf:
		return guest;
	default:
		return KVM_MEMTYPE_NONE;
	}
}

static void expect_walk(const char *row, uint64_t gva, const struct kvm_memtype_probe *probe,
			uint8_t guest)
{
}

static bool legacy_may_force(void)
{
	return false;
}

static void disable_quirk(struct kvm_vm *vm)
{
}

static bool kvm_encodes_type(void)
{
	return true;
}
#endif /* __aarch64__ */

/* Whether the kernel has the layer; not asked of the uAPI that is tested here. */
static bool have_layer(void)
{
	return !access(PARAMETER, F_OK);
}

#define NO_LAYER	"this kernel has no guest memory types"
#define NO_PROBE	"this kernel has no CONFIG_KVM_MEMTYPE_PROBE"

static bool have_probe(struct kvm_vcpu *vcpu)
{
	struct kvm_memtype_probe probe = {};

	return !__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe) || errno != UNKNOWN_IOCTL;
}

/* stdout, which the harness does not flush when a test ends. */
static void print_cell(const char *row, uint8_t kind, bool forced)
{
	ksft_print_msg("memtype-cell: row=%s effective=%s forced=%s\n",
		       row, kind_names[kind], forced ? "yes" : "no");
	fflush(stdout);
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, text, strlen(text));
	if (written < 0)
		written = -errno;
	close(fd);
	return written < 0 ? written : written == (ssize_t)strlen(text) ? 0 : -EIO;
}

static int get_memtype(struct kvm_vm *vm, uint64_t gpa, struct kvm_memtype *answer)
{
	*answer = (struct kvm_memtype) { .gpa = gpa };
	return __vm_ioctl(vm, KVM_GET_MEMTYPE, answer);
}

static uint64_t run_guest(struct kvm_vcpu *vcpu, enum guest_op op, uint64_t gva, uint64_t value)
{
	struct guest_command *command = &commands[vcpu->id];
	struct ucall uc;

	*command = (struct guest_command) { op, gva, value };
	sync_global_to_guest(vcpu->vm, commands);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    vcpu->run->exit_reason);
	return uc.args[1];
}

/* A VM with a policy (0: the host's default) and vCPUs that run guest_main(). */
static struct kvm_vm *create_vm(struct kvm_vcpu *vcpus[], int nr_vcpus, uint64_t policy)
{
	struct kvm_vm *vm = vm_create(nr_vcpus);
	int i;

	if (policy && have_layer())
		TEST_ASSERT(!__vm_enable_cap(vm, KVM_CAP_MEMTYPE, policy),
			    "KVM_CAP_MEMTYPE: %s", strerror(errno));
	for (i = 0; i < nr_vcpus; i++) {
		vcpus[i] = vm_vcpu_add(vm, i, guest_main);
		vcpu_args_set(vcpus[i], 1, i);
		init_guest_types(vcpus[i]);
	}
	return vm;
}

/* What a page is to the host, and how its guest may map it. */
struct page {
	uint64_t gpa;
	uint64_t size;		/* of the second-stage mapping */
	enum guest_op access;	/* how to touch it first */
	uint8_t host;
	uint8_t source;		/* 0: RAM, whatever follows from the policy */
	uint32_t attributes;	/* beside FORCED */
};

/*
 * Has the guest access a page as @kind, and checks that query and walk agree,
 * and by the printed cell that both are as expected. First what is printed: the
 * runner compares it with what else it knows.
 */
static void check_type(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
		       const char *row, const struct page *page, uint64_t gva, uint8_t kind)
{
	struct kvm_memtype_probe probe = { .gpa = page->gpa, .gva = gva }, untouched = probe;
	struct kvm_memtype before = {}, after = {};
	int probed, query_before = 0, query_after = 0;
	uint8_t walked;
	uint64_t value;
	bool forced;

	if (have_layer())
		query_before = get_memtype(vcpu->vm, page->gpa, &before);
	probed = __vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &untouched);

	/* The fault goes first, so that the marks enclose one access only. */
	run_guest(vcpu, page->access, gva, PATTERN);
	value = run_guest(vcpu, GUEST_MARKED_READ, gva, 0);
	TEST_ASSERT(!__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe), "%s: probe: %s", row,
		    strerror(errno));
	walked = walked_kind(&probe, kind, &forced);
	expect_walk(row, gva, &probe, kind);
	print_cell(row, walked, forced);

	EXPECT_EQ(probe.size, page->size);
	if (page->access == GUEST_WRITE) {
		EXPECT_EQ(value, PATTERN);
		/* Neither did the query map it. */
		EXPECT_EQ(probed, -1);
	}
	if (!have_layer())
		return;

	query_after = get_memtype(vcpu->vm, page->gpa, &after);
	EXPECT_EQ(query_before, 0);
	EXPECT_EQ(query_after, 0);
	/* What was a guess no longer is, and was right. */
	before.attributes &= ~KVM_MEMTYPE_ATTR_PREDICTED;
	EXPECT_EQ(memcmp(&before, &after, sizeof(before)), 0);
	EXPECT_EQ(after.effective[kind], walked);
	EXPECT_EQ(after.host, page->host);
	EXPECT_EQ(after.intent, page->host);
	EXPECT_EQ(after.attributes, page->attributes | (forced ? KVM_MEMTYPE_ATTR_FORCED : 0));
	if (!page->source)
		EXPECT_EQ(after.source == KVM_MEMTYPE_SOURCE_RAM, !forced);
	if (page->source)
		EXPECT_EQ(after.source, page->source);
}

/* Memory of the kind that a variant names, one page for each guest type. */
FIXTURE(ram)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
};

FIXTURE_VARIANT(ram)
{
	const char *name;
	enum vm_mem_backing_src_type backing;
	uint64_t policy;
	uint64_t page_size;
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

FIXTURE_SETUP(ram)
{
	uint64_t size = variant->page_size * ARRAY_SIZE(guest_kinds);
	int i;

	if (variant->backing == VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB)
		TEST_ASSERT(!write_file(HUGEPAGES, "8"), "no huge pages");

	self->vm = create_vm(self->vcpus, ARRAY_SIZE(self->vcpus), variant->policy);
	vm_userspace_mem_region_add(self->vm, variant->backing, TEST_GPA, TEST_SLOT,
				    size / getpagesize(), 0);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(self->vm, TEST_GVA + i * variant->page_size,
		       TEST_GPA + i * variant->page_size, guest_kinds[i]);
}

FIXTURE_TEARDOWN(ram)
{
	kvm_vm_free(self->vm);
}

TEST_F(ram, type)
{
	struct page page = {
		.gpa = TEST_GPA, .size = variant->page_size, .access = GUEST_WRITE,
		.host = KVM_MEMTYPE_WB,
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

/* Host MMIO: one page of a PCI device, seen by the guest with every type. */
static void check_mmio(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
		       const char *name, void *bar, uint32_t attributes)
{
	const struct page page = {
		.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_READ, .host = KVM_MEMTYPE_UC,
		.source = KVM_MEMTYPE_SOURCE_MMIO, .attributes = attributes | MMIO_NOEXEC,
	};
	uint64_t gva = TEST_GVA;
	char row[64];
	int i;

	vm_set_user_memory_region(vcpu->vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, bar);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(vcpu->vm, gva + i * SZ_4K, TEST_GPA, guest_kinds[i]);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		snprintf(row, sizeof(row), name, kind_names[guest_kinds[i]]);
		check_type(_metadata, vcpu, row, &page, gva + i * SZ_4K, guest_kinds[i]);
	}
}

/* Whether a file of sysfs starts with @text. */
static bool file_starts_with(const char *path, const char *text)
{
	char buffer[32] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return false;
	if (read(fd, buffer, sizeof(buffer) - 1) < 0)
		buffer[0] = '\0';
	close(fd);
	return !strncmp(buffer, text, strlen(text));
}

/* The sysfs name of the first PCI device with this vendor and device id. */
static bool find_pci(char name[NAME_MAX + 1], const char *vendor, const char *device)
{
	DIR *devices = opendir("/sys/bus/pci/devices");
	struct dirent *entry;
	bool found = false;
	char path[512];

	while (devices && !found && (entry = readdir(devices))) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", entry->d_name);
		if (!file_starts_with(path, vendor))
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", entry->d_name);
		found = file_starts_with(path, device);
		if (found)
			snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
	}
	if (devices)
		closedir(devices);
	return found;
}

FIXTURE(mmio)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char device[NAME_MAX + 1];
	bool is_edu;
};

FIXTURE_SETUP(mmio)
{
	self->vm = create_vm(&self->vcpu, 1, 0);
	self->is_edu = find_pci(self->device, "0x1234", "0x11e8");
	/* Bochs has no edu, but its VGA adapter is a PCI device too. */
	if (!self->is_edu && !find_pci(self->device, "0x1234", "0x1111"))
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

	check_mmio(_metadata, self->vcpu, "guest %s on host MMIO", bar, 0);
}

/* Binds the device to vfio-pci and IOMMUFD and maps BAR 0: VM_ALLOW_ANY_UNCACHED. */
static void *map_vfio_bar(const char *device)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct vfio_region_info bar = {
		.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct dirent *entry = NULL;
	char path[512];
	int fd, iommu;
	DIR *directory;
	void *hva;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", device);
	TEST_ASSERT(!write_file(path, "vfio-pci"), "%s: %s", path, strerror(errno));
	TEST_ASSERT(!write_file("/sys/bus/pci/drivers_probe", device), "cannot bind vfio-pci");

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", device);
	directory = opendir(path);
	TEST_ASSERT(directory, "%s: %s", path, strerror(errno));
	while ((entry = readdir(directory)) && strncmp(entry->d_name, "vfio", 4))
		;
	TEST_ASSERT(entry, "%s is empty", path);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	closedir(directory);

	fd = open(path, O_RDWR);
	iommu = open("/dev/iommu", O_RDWR);
	TEST_ASSERT(fd >= 0 && iommu >= 0, "%s, /dev/iommu: %s", path, strerror(errno));
	bind.iommufd = iommu;
	TEST_ASSERT(!ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind: %s", strerror(errno));
	TEST_ASSERT(!ioctl(iommu, IOMMU_IOAS_ALLOC, &ioas), "IOAS: %s", strerror(errno));
	attach.pt_id = ioas.out_ioas_id;
	TEST_ASSERT(!ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "attach: %s",
		    strerror(errno));
	TEST_ASSERT(!ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &bar), "BAR 0: %s", strerror(errno));
	hva = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, bar.offset);
	TEST_ASSERT(hva != MAP_FAILED, "BAR 0: %s", strerror(errno));
	return hva;
}

TEST_F(mmio, vfio_bar)
{
	struct kvm_memtype answer;
	void *bar;

	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	if (!self->is_edu)
		SKIP(return, "no edu device behind an IOMMU");
	bar = map_vfio_bar(self->device);

	/* vfio-pci fills in the mapping when it is touched, so until then it is a guess. */
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, bar);
	if (have_layer()) {
		TEST_ASSERT(!get_memtype(self->vm, TEST_GPA, &answer), "query");
		EXPECT_EQ(answer.attributes, KVM_MEMTYPE_ATTR_PREDICTED |
			  KVM_MEMTYPE_ATTR_ANY_UNCACHED | MMIO_NOEXEC);
	}
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, 0, bar);
	check_mmio(_metadata, self->vcpu, "guest %s on VFIO BAR", bar,
		   KVM_MEMTYPE_ATTR_ANY_UNCACHED);
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

/* Neither ioctl has a flag for memory types (yet). */
TEST_F(query, unknown_memslot_flags)
{
	EXPECT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 1 << 15, TEST_GPA, SZ_2M,
					      self->hva), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(__vm_set_user_memory_region2(self->vm, TEST_SLOT, 1 << 15, TEST_GPA, SZ_2M,
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
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) { .args = { 4 } }), EINVAL);
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
	char line[256], gfn[32];
	bool found = false;
	struct kvm_vm *vm;
	FILE *trace;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!kvm_encodes_type())
		SKIP(return, "with NPT there is no type for KVM to encode");
	/* Fails if it is mounted already; what follows needs it either way. */
	mount("tracefs", TRACING, "tracefs", 0, NULL);
	ASSERT_EQ(access(TRACING "/trace", F_OK), 0);
	vm = create_vm(&vcpu, 1, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);

	ASSERT_EQ(write_file(TRACING "/trace", ""), 0);
	ASSERT_EQ(write_file(TRACING "/events/kvm_memtype/kvm_memtype_map/enable", "1"), 0);
	run_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
	ASSERT_EQ(write_file(TRACING "/events/kvm_memtype/kvm_memtype_map/enable", "0"), 0);

	snprintf(gfn, sizeof(gfn), "gfn %lx ", TEST_GPA / getpagesize());
	trace = fopen(TRACING "/trace", "r");
	ASSERT_NE(trace, NULL);
	while (!found && fgets(line, sizeof(line), trace))
		found = strstr(line, gfn) && strstr(line, "intent WB");
	fclose(trace);
	EXPECT_TRUE(found);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
