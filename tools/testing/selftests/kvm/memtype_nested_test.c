// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which memory type does L2 get, the guest of a guest? L1's EPT has a type for each
 * page of L2's, and a bit to ignore L2's PAT (IPAT); the CPU walks entries into which
 * KVM merged them with the type that it grants L1 for the page. For each cell of the
 * matrix, these must agree:
 *
 *  - the leaf entry that KVM wrote, which KVM_MEMTYPE_PROBE shows;
 *  - the entry that the CPU walks for an access of L2's, which Bochs records;
 *  - what tests.toml expects.
 *
 * A cell reads as the entries do: UC, WC, WT, WP or WB, and +IPAT; forced, if all of
 * them are WB+IPAT. The table that they follow is in
 * Documentation/virt/kvm/memtype-architectures.rst, "Nested guests", and every cell of it
 * has a test in arch/x86/kvm/memtype_kunit.c.
 */
#include "memtype_walk.h"
#include "memtype_nested_base.h"

/* L2's addresses, virtual and physical. Each has a page table of L1's EPT to itself. */
#define L2_GPA(n)	(0x20000000ul + (n) * SZ_2M)
/* The same with types of L2's choice. */
#define L2_ALIAS(n)	(0x80000000ul + (n) * SZ_4K)
/* Where L1 sees the table of its EPT that it changes. */
#define TABLE_GVA	0xc0000000ul

/* Bits 6:3 of an EPT entry */
#define TYPE(mt, ipat)	((mt) | (ipat) << 3)
#define UC		TYPE(0, 0)
#define WC		TYPE(1, 0)
#define WT		TYPE(4, 0)
#define WP		TYPE(5, 0)
#define WB		TYPE(6, 0)
#define IPAT		TYPE(0, 1)

#define EPT_RX		(BIT_ULL(0) | BIT_ULL(2))
#define EPT_RWX		(EPT_RX | BIT_ULL(1))
#define EPT_LARGE	BIT_ULL(7)
#define EPT_AD		(BIT_ULL(8) | BIT_ULL(9))
#define EPTP_AD		BIT_ULL(6)
#define EPT_ADDRESS	GENMASK_ULL(51, 12)
#define INVEPT_GLOBAL	2ul

/* In words: enough for ucalls */
#define L2_STACK	256

static const uint8_t l1_types[] = { UC, WC, WT, WP, WB };

struct nested {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct vmx_pages *vmx;
	gva_t vmx_gva;
};

/* L2 reads what it is told to, and leaves writes to L1. */
static void l2_main(void)
{
	for (;;) {
		/* vmcall() does not say that L1 changes memory. */
		switch (READ_ONCE(commands[0].op)) {
		case GUEST_READ:
			GUEST_SYNC(guest_read(commands[0].gva));
			break;
		case GUEST_MARKED_READ:
			GUEST_SYNC(guest_marked_read(commands[0].gva));
			break;
		default:
			vmcall();
		}
	}
}

/* L1 writes entries of its EPT, and tells the CPU. */
static void l1_main(struct vmx_pages *vmx, bool no_ad)
{
	static unsigned long stack[L2_STACK];
	struct {
		uint64_t eptp, reserved;
	} everything = {};

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_main);
	vmwrite(GUEST_RSP, (uint64_t)&stack[L2_STACK]);
	if (no_ad)
		vmwrite(EPT_POINTER, vmreadz(EPT_POINTER) & ~EPTP_AD);

	GUEST_ASSERT(!vmlaunch());
	for (;;) {
		GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
		WRITE_ONCE(*(uint64_t *)commands[0].gva, commands[0].value);
		asm volatile("invept %0, %1" : : "m" (everything), "r" (INVEPT_GLOBAL)
			     : "cc", "memory");
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + vmreadz(VM_EXIT_INSTRUCTION_LEN));
		GUEST_SYNC(0);
		GUEST_ASSERT(!vmresume());
	}
}

static const char *no_nested_ept(void)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX) || !kvm_cpu_has_ept())
		return "no nested VMX with EPT";
	return have_layer() ? NULL : NO_LAYER;
}

/*
 * Creates it, or says why there is none. What of L1's memory is of interest is in
 * TEST_SLOT, which the caller adds.
 */
static const char *try_nested(struct nested *nested, uint64_t policy, bool no_ad)
{
	const char *reason = no_nested_ept();
	struct kvm_vm *vm;

	if (reason)
		return reason;
	vm = vm_create(1);
	nested->vm = vm;
	if (policy)
		TEST_ASSERT(!__vm_enable_cap(vm, KVM_CAP_MEMTYPE, policy), "KVM_CAP_MEMTYPE: %s",
			    strerror(errno));
	nested->vcpu = vm_vcpu_add(vm, 0, l1_main);
	init_guest_types(nested->vcpu);
	nested->vmx = nested_alloc_vmx(vm, &nested->vmx_gva);
	vcpu_args_set(nested->vcpu, 2, nested->vmx_gva, no_ad);
	return have_probe(nested->vcpu) ? NULL : NO_PROBE;
}

static void free_nested(struct nested *nested)
{
	if (nested->vm)
		kvm_vm_free(nested->vm);
	restore_hugepages();
}

static void add_memory(struct nested *nested, enum vm_mem_backing_src_type backing,
		       uint32_t slot_flags)
{
	if (backing == VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB)
		reserve_hugepages();
	vm_userspace_mem_region_add(nested->vm, backing, TEST_GPA, TEST_SLOT, SZ_2M / SZ_4K,
				    slot_flags);
	/* KVM prefetches only what the host has mapped. */
	memset(addr_gpa2hva(nested->vm, TEST_GPA), 1, SZ_2M);
}

/* The leaf entry for an address of L2's. */
static uint64_t *l1_entry(struct nested *nested, uint64_t gpa, uint64_t size, uint64_t *entry_gpa)
{
	uint64_t table_gpa = nested->vmx->eptp_gpa, *table = addr_gpa2hva(nested->vm, table_gpa);
	int level = PG_LEVEL_512G, index;

	for (;; level--) {
		index = gpa >> PG_LEVEL_SHIFT(level) & 511;
		if (PG_LEVEL_SIZE(level) == size)
			break;
		table_gpa = table[index] & EPT_ADDRESS;
		table = addr_gpa2hva(nested->vm, table_gpa);
	}
	if (entry_gpa)
		*entry_gpa = table_gpa + index * sizeof(*table);
	return &table[index];
}

/* L1 maps its memory at @l1_gpa for L2 at @gpa with this type, before it starts L2. */
static void map_l2(struct nested *nested, uint64_t gpa, uint64_t l1_gpa, uint64_t size,
		   uint8_t type)
{
	/* For the tables above the entry; that of a large one is then left alone. */
	nested_map_pages(nested->vmx, nested->vm, gpa, l1_gpa, SZ_4K);
	*l1_entry(nested, gpa, size, NULL) = l1_gpa | EPT_RWX | EPT_AD | type << 3 |
					     (size == SZ_4K ? 0 : EPT_LARGE);
}

/*
 * L1 changes that entry, and invalidates what the CPU knows of it. Userspace must not
 * write it itself, which KVM would not see.
 */
static void change_l2(struct nested *nested, uint64_t gpa, uint64_t size, uint64_t permissions,
		      uint8_t type)
{
	uint64_t entry_gpa, entry = *l1_entry(nested, gpa, size, &entry_gpa);

	entry &= ~(EPT_RWX | TYPE(7, 1) << 3);
	entry |= permissions | type << 3;
	let_guest(nested->vcpu, GUEST_WRITE, TABLE_GVA + (entry_gpa & (SZ_4K - 1)), entry);
	TEST_ASSERT(*l1_entry(nested, gpa, size, NULL) == entry, "L1 did not write its entry");
}

/*
 * All else that L1 has, L2 has too, at the same address: program, stack and page
 * tables. Last, because mappings take page tables. Their type is UC, which L2 gets.
 */
static void start_nested(struct nested *nested)
{
	nested_map_library(nested->vmx, nested->vm);
}

/* What KVM's leaf entry for an address of L2's says; ENOENT if there is none. */
static int probe_l2(struct nested *nested, uint64_t gpa, struct kvm_memtype_probe *probe)
{
	*probe = (struct kvm_memtype_probe) { .gpa = gpa };
	if (__vcpu_ioctl(nested->vcpu, KVM_MEMTYPE_PROBE, probe))
		return errno;
	TEST_ASSERT(probe->format == KVM_MEMTYPE_PROBE_EPT, "format %u", probe->format);
	return 0;
}

static uint8_t probed_type(struct nested *nested, uint64_t gpa)
{
	struct kvm_memtype_probe probe;
	int error = probe_l2(nested, gpa, &probe);

	TEST_ASSERT(!error, "probe of %lx: %s", gpa, strerror(error));
	return TYPE(EPT_MT(probe.leaf), EPT_IPAT(probe.leaf));
}

/* L2 reads there, which the CPU translates by the entry that is probed then. */
static struct walked walk_l2(struct __test_metadata *_metadata, struct nested *nested,
			     const char *row, uint64_t gva, uint64_t gpa, uint64_t size,
			     uint8_t kind)
{
	struct kvm_memtype_probe probe;
	int error;

	/* The fault goes first, so that the marks enclose one access only. */
	let_guest(nested->vcpu, GUEST_READ, gva, 0);
	let_guest(nested->vcpu, GUEST_MARKED_READ, gva, 0);
	error = probe_l2(nested, gpa, &probe);
	TEST_ASSERT(!error, "%s: probe: %s", row, strerror(error));
	expect_walk(row, gva, &probe, kind);
	EXPECT_EQ(probe.size, size);
	return walked_kind(&probe, kind);
}

static void add_entry(struct cell *cell, uint8_t type)
{
	add_type(cell, kind_names[mtrr_kinds[type & 7]], type & IPAT ? "+IPAT" : "");
	cell->unforced |= type != (WB | IPAT);
}

/* As walk_l2() for WB, and adds what the entry says. */
static void add_walk(struct __test_metadata *_metadata, struct nested *nested, const char *row,
		     uint64_t gpa, uint64_t size, struct cell *cell)
{
	char name[TEXT_SIZE];

	snprintf(name, sizeof(name), "%s, no %d", row, cell->nr);
	walk_l2(_metadata, nested, name, gpa, gpa, size, KVM_MEMTYPE_WB);
	add_entry(cell, probed_type(nested, gpa));
}

/* Each type of L1's, by what KVM grants L1. All of them are for the same memory. */
FIXTURE(nested)
{
	struct nested nested;
};

FIXTURE_VARIANT(nested)
{
	const char *name;	/* %s: L1's type, or L1's type and IPAT */
	enum vm_mem_backing_src_type backing;
	uint64_t entry_size;	/* of L1's; 0: 4K */
	uint64_t page_size;	/* of KVM's; 0: 4K */
	uint32_t prot, flags;	/* MEMTYPE_TEST_*, if @flags is not 0 */
	bool bar;		/* a device's memory, so mapped */
	uint64_t policy;
	uint32_t slot_flags;
	bool noncoherent_dma;
	bool no_ad;
};

FIXTURE_VARIANT_ADD(nested, anonymous_4k) {
	.name = "nested: %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
};

/* KVM maps L1's large entry by small ones. */
FIXTURE_VARIANT_ADD(nested, large_entries) {
	.name = "nested: %s in 2M entries on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.entry_size = SZ_2M,
};

FIXTURE_VARIANT_ADD(nested, hugetlb_2m) {
	.name = "nested: %s in 2M entries on hugetlb 2M",
	.backing = VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB, .entry_size = SZ_2M, .page_size = SZ_2M,
};

/* L1's EPT has no accessed and dirty bits. */
FIXTURE_VARIANT_ADD(nested, no_ad) {
	.name = "nested, no A/D: %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.no_ad = true,
};

FIXTURE_VARIANT_ADD(nested, host_wc) {
	.name = "nested: %s on host WC", .prot = MEMTYPE_TEST_WC,
	.flags = MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP,
};

FIXTURE_VARIANT_ADD(nested, host_uc) {
	.name = "nested: %s on host UC", .prot = MEMTYPE_TEST_UC,
	.flags = MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP,
};

FIXTURE_VARIANT_ADD(nested, host_mmio) {
	.name = "nested: %s on host MMIO", .prot = MEMTYPE_TEST_UC, .bar = true,
	.flags = MEMTYPE_TEST_PREMAP,
};

/* KVM forces L1 to WB: by its policy, by the memslot, or not because of a device. */
FIXTURE_VARIANT_ADD(nested, legacy) {
	.name = "nested, legacy: %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_LEGACY,
};

FIXTURE_VARIANT_ADD(nested, legacy_dma) {
	.name = "nested, legacy, DMA: %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.policy = KVM_MEMTYPE_POLICY_LEGACY, .noncoherent_dma = true,
};

FIXTURE_VARIANT_ADD(nested, legacy_host_wc) {
	.name = "nested, legacy: %s on host WC", .prot = MEMTYPE_TEST_WC,
	.flags = MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP,
	.policy = KVM_MEMTYPE_POLICY_LEGACY,
};

FIXTURE_VARIANT_ADD(nested, slot) {
	.name = "nested, slot: %s on anonymous 4K", .backing = VM_MEM_SRC_ANONYMOUS,
	.slot_flags = KVM_MEM_FORCE_WB,
};

FIXTURE_SETUP(nested)
{
	const char *reason = no_nested_ept() ?: why_not(variant->policy, variant->slot_flags);
	uint64_t bar = 0;
	void *hva;
	int i;

	if (variant->flags && !reason && !have_driver())
		reason = NO_DRIVER;
	if (variant->bar && !reason) {
		bar = frame_buffer();
		if (!bar)
			reason = "no PCI device to map";
	}
	if (reason)
		SKIP(return, "%s", reason);

	reason = try_nested(&self->nested, variant->policy, variant->no_ad);
	if (reason)
		SKIP(return, "%s", reason);
	if (variant->noncoherent_dma)
		set_noncoherent_dma(self->nested.vcpu, true);
	if (variant->flags) {
		hva = map_host(HOST_SIZE, bar, variant->prot, variant->flags);
		ASSERT_NE(hva, MAP_FAILED);
		vm_set_user_memory_region(self->nested.vm, TEST_SLOT, variant->slot_flags,
					  TEST_GPA, HOST_SIZE, hva);
	} else {
		add_memory(&self->nested, variant->backing, variant->slot_flags);
	}
	for (i = 0; i < 2 * ARRAY_SIZE(l1_types); i++)
		map_as(self->nested.vm, L2_GPA(i), L2_GPA(i), KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(nested)
{
	free_nested(&self->nested);
}

TEST_F(nested, l1_type_counts)
{
	uint64_t entry_size = variant->entry_size ?: SZ_4K;
	struct cell cells[2] = {}, again[2] = {};
	char row[2][TEXT_SIZE];
	const int nr = ARRAY_SIZE(l1_types);
	int i;

	for (i = 0; i < 2 * nr; i++)
		map_l2(&self->nested, L2_GPA(i), TEST_GPA, entry_size,
		       l1_types[i % nr] | (i < nr ? 0 : IPAT));
	start_nested(&self->nested);

	snprintf(row[0], sizeof(row[0]), variant->name, "L1's type");
	snprintf(row[1], sizeof(row[1]), variant->name, "L1's type and IPAT");
	for (i = 0; i < 2 * nr; i++)
		add_walk(_metadata, &self->nested, row[i / nr], L2_GPA(i),
			 variant->page_size ?: SZ_4K, &cells[i / nr]);
	/* None of them took the place of another. */
	for (i = 0; i < 2 * nr; i++)
		add_entry(&again[i / nr], probed_type(&self->nested, L2_GPA(i)));
	for (i = 0; i < 2; i++) {
		print_row(row[i], &cells[i]);
		EXPECT_STREQ(cells[i].types, again[i].types);
	}
}

/* The rest is about memory that the host maps WB, and about honor. */
FIXTURE(honor)
{
	struct nested nested;
};

FIXTURE_SETUP(honor)
{
	const char *reason = try_nested(&self->nested, KVM_MEMTYPE_POLICY_HONOR, false);

	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN(honor)
{
	free_nested(&self->nested);
}

/* What L2 gets for each type that it chooses itself, by what L1 says. */
TEST_F(honor, l2_chooses)
{
	static const struct {
		const char *row;
		uint8_t type;
	} entries[] = {
		{ "nested: L2's choice where L1 says WB", WB },
		{ "nested: L2's choice where L1 says WC", WC },
		{ "nested: L2's choice where L1 says UC", UC },
		{ "nested: L2's choice where L1 forces WB", WB | IPAT },
	};
	const int nr = ARRAY_SIZE(guest_kinds);
	struct walked walked;
	char name[TEXT_SIZE];
	int i, n;

	add_memory(&self->nested, VM_MEM_SRC_ANONYMOUS, 0);
	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		for (n = 0; n < nr; n++)
			map_as(self->nested.vm, L2_ALIAS(i * nr + n), L2_GPA(i), guest_kinds[n]);
		map_l2(&self->nested, L2_GPA(i), TEST_GPA, SZ_4K, entries[i].type);
	}
	start_nested(&self->nested);

	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		struct cell cell = {};

		for (n = 0; n < nr; n++) {
			snprintf(name, sizeof(name), "%s, as %s", entries[i].row,
				 kind_names[guest_kinds[n]]);
			walked = walk_l2(_metadata, &self->nested, name, L2_ALIAS(i * nr + n),
					 L2_GPA(i), SZ_4K, guest_kinds[n]);
			add_walked(&cell, walked);
		}
		print_row(entries[i].row, &cell);
	}
}

/*
 * L1 changes the type in an entry and invalidates it. The last but one change is of
 * the permissions alone.
 */
static void check_changes(struct __test_metadata *_metadata, struct nested *nested,
			  const char *row, enum vm_mem_backing_src_type backing,
			  uint64_t entry_size, uint64_t page_size)
{
	static const struct {
		uint64_t permissions;
		uint8_t type;
	} changes[] = {
		{ EPT_RWX, UC }, { EPT_RWX, WB | IPAT }, { EPT_RWX, WC }, { EPT_RX, WC },
		{ EPT_RWX, WB },
	};
	struct cell cell = {};
	uint64_t entry_gpa;
	int i;

	add_memory(nested, backing, 0);
	map_as(nested->vm, L2_GPA(0), L2_GPA(0), KVM_MEMTYPE_WB);
	map_l2(nested, L2_GPA(0), TEST_GPA, entry_size, WB);
	l1_entry(nested, L2_GPA(0), entry_size, &entry_gpa);
	virt_pg_map(nested->vm, TABLE_GVA, entry_gpa & ~(SZ_4K - 1ul));
	start_nested(nested);

	add_walk(_metadata, nested, row, L2_GPA(0), page_size, &cell);
	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		change_l2(nested, L2_GPA(0), entry_size, changes[i].permissions, changes[i].type);
		add_walk(_metadata, nested, row, L2_GPA(0), page_size, &cell);
	}
	print_row(row, &cell);
}

TEST_F(honor, l1_changes_small)
{
	check_changes(_metadata, &self->nested, "nested: L1 changes a 4K entry",
		      VM_MEM_SRC_ANONYMOUS, SZ_4K, SZ_4K);
}

TEST_F(honor, l1_changes_large)
{
	check_changes(_metadata, &self->nested, "nested: L1 changes a 2M entry",
		      VM_MEM_SRC_ANONYMOUS, SZ_2M, SZ_4K);
}

TEST_F(honor, l1_changes_huge)
{
	check_changes(_metadata, &self->nested, "nested: L1 changes a 2M entry on hugetlb 2M",
		      VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB, SZ_2M, SZ_2M);
}

/* One page of L1's by a large entry and by small ones, of which one has the same type. */
TEST_F(honor, large_and_small)
{
	static const uint8_t entries[] = { WC, UC, WC };
	const char *row = "nested: one page by 2M, 4K and 4K entries";
	struct cell cell = {}, again = {};
	int i;

	add_memory(&self->nested, VM_MEM_SRC_ANONYMOUS, 0);
	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		map_as(self->nested.vm, L2_GPA(i), L2_GPA(i), KVM_MEMTYPE_WB);
		map_l2(&self->nested, L2_GPA(i), TEST_GPA, i ? SZ_4K : SZ_2M, entries[i]);
	}
	start_nested(&self->nested);

	for (i = 0; i < ARRAY_SIZE(entries); i++)
		add_walk(_metadata, &self->nested, row, L2_GPA(i), SZ_4K, &cell);
	for (i = 0; i < ARRAY_SIZE(entries); i++)
		add_entry(&again, probed_type(&self->nested, L2_GPA(i)));
	EXPECT_STREQ(cell.types, again.types);
	print_row(row, &cell);
}

/* A fault maps the neighbours, too, each of which has a type of its own. */
TEST_F(honor, prefetch)
{
	static const uint8_t entries[] = {
		WB, UC, WC, WT, WP, WB | IPAT, UC | IPAT, WC | IPAT,
	};
	const char *row = "nested: prefetched";
	struct cell cell = {}, walked = {};
	uint64_t gpa;
	int i;

	add_memory(&self->nested, VM_MEM_SRC_ANONYMOUS, 0);
	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		gpa = L2_GPA(0) + i * SZ_4K;
		map_as(self->nested.vm, gpa, gpa, KVM_MEMTYPE_WB);
		map_l2(&self->nested, gpa, TEST_GPA + i * SZ_4K, SZ_4K, entries[i]);
	}
	start_nested(&self->nested);

	let_guest(self->nested.vcpu, GUEST_READ, L2_GPA(0), 0);
	for (i = 0; i < ARRAY_SIZE(entries); i++)
		add_entry(&cell, probed_type(&self->nested, L2_GPA(0) + i * SZ_4K));
	print_row(row, &cell);
	for (i = 0; i < ARRAY_SIZE(entries); i++)
		add_walk(_metadata, &self->nested, row, L2_GPA(0) + i * SZ_4K, SZ_4K,
			 &walked);
	EXPECT_STREQ(cell.types, walked.types);
}

/* Dirty logging splits KVM's huge pages, here two of the same memory. */
TEST_F(honor, split)
{
	static const uint8_t entries[] = { WC, UC };
	const char *row = "nested: 2M pages after a split";
	struct cell cell = {}, before = {};
	int i;

	add_memory(&self->nested, VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB, 0);
	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		map_as(self->nested.vm, L2_GPA(i), L2_GPA(i), KVM_MEMTYPE_WB);
		map_l2(&self->nested, L2_GPA(i), TEST_GPA, SZ_2M, entries[i]);
	}
	start_nested(&self->nested);

	for (i = 0; i < ARRAY_SIZE(entries); i++)
		add_walk(_metadata, &self->nested, "nested: 2M pages before a split", L2_GPA(i),
			 SZ_2M, &before);
	vm_mem_region_set_flags(self->nested.vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < ARRAY_SIZE(entries); i++)
		add_walk(_metadata, &self->nested, row, L2_GPA(i), SZ_4K, &cell);
	EXPECT_STREQ(cell.types, before.types);
	print_row(row, &cell);
}

/* About a VM that KVM forces to WB */
FIXTURE(legacy)
{
	struct nested nested;
};

FIXTURE_SETUP(legacy)
{
	const char *reason = try_nested(&self->nested, KVM_MEMTYPE_POLICY_LEGACY, false);

	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN(legacy)
{
	free_nested(&self->nested);
}

/* What KVM grants L1 changes while L2 runs, and so does what L2 gets. */
TEST_F(legacy, policy_changes)
{
	const char *row = "nested, legacy: L1's UC with and without DMA";
	struct nested *nested = &self->nested;
	struct cell cell = {};

	add_memory(nested, VM_MEM_SRC_ANONYMOUS, 0);
	map_as(nested->vm, L2_GPA(0), L2_GPA(0), KVM_MEMTYPE_WB);
	map_l2(nested, L2_GPA(0), TEST_GPA, SZ_2M, UC);
	start_nested(nested);

	add_walk(_metadata, nested, row, L2_GPA(0), SZ_4K, &cell);
	set_noncoherent_dma(nested->vcpu, true);
	add_walk(_metadata, nested, row, L2_GPA(0), SZ_4K, &cell);
	set_noncoherent_dma(nested->vcpu, false);
	add_walk(_metadata, nested, row, L2_GPA(0), SZ_4K, &cell);
	print_row(row, &cell);
}

TEST_HARNESS_MAIN
