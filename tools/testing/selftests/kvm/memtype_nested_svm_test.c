// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which memory type does L2 get on SVM, the guest of a guest? The entries that the CPU
 * walks for L2 have the host's type, as those for L1. KVM merges nothing into them of
 * the type that L1's nested page table (NPT) gives a page.
 */
#include "memtype_walk.h"
#include "memtype_nested_base.h"

/* Addresses of L2's, virtual and physical, each by a large entry of L1's NPT */
#define L2_ADDRESS(n)	(0x20000000ul + (n) * SZ_2M)
/* Below that, L2 has what L1 has: program, stack and page tables. */
#define NPT_ENTRIES	512
/* Present, writable, user; and accessed, dirty, large */
#define NPT_TABLE	(BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(2))
#define NPT_LEAF	(NPT_TABLE | BIT_ULL(5) | BIT_ULL(6) | BIT_ULL(7))

/* In words: enough for ucalls */
#define L2_STACK	256

static const uint64_t l1_bits[] = { 0, PTE_PWT, PTE_PCD, PTE_PCD | PTE_PWT };

static void l2_main(void)
{
	guest_main(0);
}

static void l1_main(struct svm_test_data *svm, uint64_t npt)
{
	static unsigned long stack[L2_STACK];

	generic_svm_setup(svm, l2_main);
	svm->vmcb->save.rsp = (uint64_t)&stack[L2_STACK];
	svm->vmcb->control.misc_ctl = SVM_MISC_ENABLE_NP;
	svm->vmcb->control.nested_cr3 = npt;
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_FAIL("exit code %#lx", (unsigned long)svm->vmcb->control.exit_code);
}

/* L1's NPT: 1 GiB by entries of 2 MiB, of which some have another address and a type. */
static uint64_t create_npt(struct kvm_vm *vm)
{
	uint64_t gpas[3], *entries;
	int i, n;

	for (i = 0; i < ARRAY_SIZE(gpas); i++)
		gpas[i] = vm_alloc_page_table(vm);
	for (i = 0; i < ARRAY_SIZE(gpas) - 1; i++)
		*(uint64_t *)addr_gpa2hva(vm, gpas[i]) = gpas[i + 1] | NPT_TABLE;
	entries = addr_gpa2hva(vm, gpas[i]);
	for (n = 0; n < NPT_ENTRIES; n++)
		entries[n] = n * SZ_2M | NPT_LEAF;
	for (n = 0; n < ARRAY_SIZE(l1_bits); n++)
		entries[L2_ADDRESS(n) / SZ_2M] = TEST_GPA | l1_bits[n] | NPT_LEAF;
	return gpas[0];
}

FIXTURE(nested_svm)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
};

FIXTURE_VARIANT(nested_svm)
{
	const char *row;
	uint32_t prot, flags;	/* MEMTYPE_TEST_* */
	bool bar;		/* a device's memory, so mapped */
};

FIXTURE_VARIANT_ADD(nested_svm, host_wb) {
	.row = "nested SVM: L1's type on host RAM WB", .prot = MEMTYPE_TEST_WB,
	.flags = MEMTYPE_TEST_PREMAP,
};

FIXTURE_VARIANT_ADD(nested_svm, host_wc) {
	.row = "nested SVM: L1's type on host RAM WC", .prot = MEMTYPE_TEST_WC,
	.flags = MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP,
};

FIXTURE_VARIANT_ADD(nested_svm, host_uc) {
	.row = "nested SVM: L1's type on host RAM UC", .prot = MEMTYPE_TEST_UC,
	.flags = MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP,
};

FIXTURE_VARIANT_ADD(nested_svm, host_mmio) {
	.row = "nested SVM: L1's type on host MMIO WC", .prot = MEMTYPE_TEST_WC,
	.flags = MEMTYPE_TEST_PREMAP, .bar = true,
};

FIXTURE_SETUP(nested_svm)
{
	gva_t svm_gva;
	uint64_t bar = 0;
	void *hva;
	int n;

	if (!kvm_cpu_has(X86_FEATURE_SVM) || !kvm_cpu_has(X86_FEATURE_NPT))
		SKIP(return, "no nested SVM with NPT");
	if (!have_layer() || !have_driver())
		SKIP(return, have_layer() ? NO_DRIVER : NO_LAYER);
	if (variant->bar) {
		bar = frame_buffer();
		if (!bar)
			SKIP(return, "no PCI device to map");
	}

	self->vm = vm_create(1);
	self->vcpu = vm_vcpu_add(self->vm, 0, l1_main);
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	init_guest_types(self->vcpu);
	vcpu_alloc_svm(self->vm, &svm_gva);
	vcpu_args_set(self->vcpu, 2, svm_gva, create_npt(self->vm));
	hva = map_host(HOST_SIZE, bar, variant->prot, variant->flags);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	for (n = 0; n < ARRAY_SIZE(l1_bits); n++)
		map_as(self->vm, L2_ADDRESS(n), L2_ADDRESS(n), KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(nested_svm)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

TEST_F(nested_svm, l1_type_does_not_count)
{
	struct cell cell = {};
	int n;

	for (n = 0; n < ARRAY_SIZE(l1_bits); n++) {
		struct kvm_memtype_probe probe = { .gpa = L2_ADDRESS(n) };

		let_guest(self->vcpu, GUEST_READ, L2_ADDRESS(n), 0);
		ASSERT_EQ(__vcpu_ioctl(self->vcpu, KVM_MEMTYPE_PROBE, &probe), 0);
		ASSERT_EQ(probe.format, KVM_MEMTYPE_PROBE_NPT);
		add_walked(&cell, walked_kind(&probe, KVM_MEMTYPE_WB));
	}
	print_row(variant->row, &cell);
}

TEST_HARNESS_MAIN
