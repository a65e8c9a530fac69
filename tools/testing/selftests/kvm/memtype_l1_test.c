// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs in a Linux guest, L1, that kvm/memtype_linux_test boots, and is the VMM of a
 * guest of its own, L2. What L1's KVM_GET_MEMTYPE says of L2 is what L1's EPT says.
 * That it is also what the CPU does for L2, and not only what L1 believes, is for Bochs to
 * say: its page walk goes through the entries of L0's KVM, and must find in them what
 * the "# memtype-probe:" lines have from those of L1's.
 */
#include "memtype_walk.h"

static const struct {
	const char *row;
	uint32_t prot, flags;	/* MEMTYPE_TEST_*, or anonymous memory if @flags is 0 */
	uint32_t slot_flags;
	uint8_t host, intent, source;
} memory[] = {
	{ "guest of a Linux guest: RAM", .host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB },
	{ "guest of a Linux guest: forced slot", .slot_flags = KVM_MEM_FORCE_WB,
	  .host = KVM_MEMTYPE_WB, .intent = KVM_MEMTYPE_WB },
	{ "guest of a Linux guest: RAM set to WC", MEMTYPE_TEST_WC,
	  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP, .host = KVM_MEMTYPE_WC,
	  .intent = KVM_MEMTYPE_WC, .source = KVM_MEMTYPE_SOURCE_PTE },
	{ "guest of a Linux guest: RAM set to UC", MEMTYPE_TEST_UC,
	  MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_PREMAP, .host = KVM_MEMTYPE_UC_MINUS,
	  .intent = KVM_MEMTYPE_UC, .source = KVM_MEMTYPE_SOURCE_PTE },
};

TEST(query_is_true)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;
	int i;

	if (access("/dev/kvm", F_OK))
		SKIP(return, "no /dev/kvm");
	for (i = 0; i < ARRAY_SIZE(memory); i++) {
		const struct page page = {
			.gpa = TEST_GPA, .size = SZ_4K, .access = GUEST_READ,
			.host = memory[i].host, .intent = memory[i].intent,
			.source = memory[i].source,
		};

		vm = create_vm(&vcpu, 1, KVM_MEMTYPE_POLICY_HONOR);
		if (memory[i].flags)
			hva = map_host(HOST_SIZE, 0, memory[i].prot, memory[i].flags);
		else
			hva = mmap(NULL, HOST_SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(hva, MAP_FAILED);
		/* Not by large pages, and what is mapped already is no prediction. */
		ASSERT_EQ(madvise(hva, HOST_SIZE, MADV_NOHUGEPAGE), 0);
		WRITE_ONCE(*(uint64_t *)hva, 0);
		vm_set_user_memory_region(vm, TEST_SLOT, memory[i].slot_flags, TEST_GPA,
					  HOST_SIZE, hva);
		check_types(_metadata, vcpu, memory[i].row, &page, TEST_GVA);
		kvm_vm_free(vm);
		munmap(hva, HOST_SIZE);
	}
}

TEST_HARNESS_MAIN
