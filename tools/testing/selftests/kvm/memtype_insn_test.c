// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of an instruction of an arm64 guest on memory of each type?
 *
 * No access ends the VM because of a memory type: either the instruction is done, and
 * memory is as it says, or the guest takes a data abort. For each instruction, each way
 * in which the host maps the memory, with and without KVM_MEM_READONLY, there is a row
 * of the matrix ("# memtype-cell:"), which has an outcome for each type that the guest
 * can choose, or one for all:
 *
 *	done		the instruction did what it is for
 *	alignment	abort: the memory is Device
 *	unsupported	abort: an exclusive or an atomic, and the memory is not WB
 *	external	abort: a write to a read-only memslot that nobody can do
 *	MMIO		KVM_EXIT_MMIO: a write to a read-only memslot that the VMM can do
 *
 * or two, of which the second is for a page that KVM has mapped already.
 *
 * Not all emulators make Device memory abort: QEMU 7.2 does not, and QEMU 10 not for all
 * instructions. What this CPU does is asked of the guest's own stage 1, to which KVM
 * contributes nothing; memory that is Device by stage 2 must then behave the same.
 *
 * Aborts that no emulator raises come from KVM_MEMTYPE_PROBE_ABORT.
 */
#include "memtype_walk.h"

#define TRIES		100	/* of a store exclusive */

/* ESR_ELx of a data abort, Arm ARM DDI 0487 section D24.2 */
#define ESR_IL			BIT(25)
#define ESR_ISV			BIT(24)
#define ESR_CM			BIT(8)
#define ESR_WNR			BIT(6)
#define ESR_FSC(esr)		((esr) & 0x3f)
#define EC_DABT_LOW		0x24
#define FSC_TRANSLATION_L3	0x07
#define FSC_PERMISSION_L3	0x0f
#define FSC_EXTERNAL		0x10
#define FSC_ALIGNMENT		0x21
#define FSC_EXCL_ATOMIC		0x35

enum outcome { DONE, ALIGNMENT, UNSUPPORTED, ROM_WRITE, EMULATED, OTHER_ABORT, FAILED };

static const char * const outcome_names[] = {
	[DONE] = "done",		[ALIGNMENT] = "alignment",
	[UNSUPPORTED] = "unsupported",	[ROM_WRITE] = "external",
	[EMULATED] = "MMIO",		[OTHER_ABORT] = "other-abort",
	[FAILED] = "KVM_RUN-fails",
};

enum insn { LDXR_STXR, LDADD, LOAD, STORE, ZVA, CVAC, CIVAC, IVAC, IVAU };

static const struct {
	const char *name;
	uint8_t offset;			/* of the access in its page, in bytes */
	bool writes;
	enum outcome on_device;		/* what may happen there, if it is not done */
	enum outcome on_uncached;	/* the same on all that is not WB */
	enum outcome on_read_only;
} insns[] = {
	[LDXR_STXR] = { "LDXR, STXR", 0, true, UNSUPPORTED, UNSUPPORTED, ROM_WRITE },
	[LDADD] = { "LDADD", 0, true, UNSUPPORTED, UNSUPPORTED, ROM_WRITE },
	[LOAD] = { "unaligned load", 1, false, ALIGNMENT },
	/* The one whose syndrome says what is written */
	[STORE] = { "unaligned store", 1, true, ALIGNMENT, DONE, EMULATED },
	[ZVA] = { "DC ZVA", 0, true, ALIGNMENT, DONE, ROM_WRITE },
	[CVAC] = { "DC CVAC" },
	[CIVAC] = { "DC CIVAC" },
	[IVAC] = { "DC IVAC" },
	[IVAU] = { "IC IVAU" },
};

/* What the guest is to do, at the start of which page, and what it saw. */
static struct {
	enum insn insn;
	uint64_t gva;
	bool read_first;
	bool aborted;
	uint64_t esr, far;
	uint64_t loaded;
	uint64_t words[2];
} task;

static const uint64_t words[2] = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };

static void guest_data_abort(struct ex_regs *regs)
{
	if (!task.aborted) {
		task.esr = read_sysreg(esr_el1);
		task.far = read_sysreg(far_el1);
	}
	task.aborted = true;
	regs->pc += 4;
}

static void guest_do(uint64_t va)
{
	uint64_t value, failed = 1;
	int i;

	switch (task.insn) {
	case LDXR_STXR:
		for (i = 0; failed && !READ_ONCE(task.aborted) && i < TRIES; i++)
			asm volatile("ldxr %0, [%2]\n\t"
				     "add %0, %0, #1\n\t"
				     "stxr %w1, %0, [%2]"
				     : "=&r" (value), "+&r" (failed) : "r" (va) : "memory");
		break;
	case LDADD:
		asm volatile(".arch_extension lse\n\t"
			     "ldadd %1, %0, [%2]"
			     : "=&r" (value) : "r" (1ul), "r" (va) : "memory");
		break;
	case LOAD:
		asm volatile("ldr %0, [%1]" : "=&r" (value) : "r" (va) : "memory");
		task.loaded = value;
		break;
	case STORE:
		asm volatile("str %0, [%1]" : : "r" (PATTERN), "r" (va) : "memory");
		break;
	case ZVA:
		asm volatile("dc zva, %0" : : "r" (va) : "memory");
		break;
	case CVAC:
		asm volatile("dc cvac, %0" : : "r" (va) : "memory");
		break;
	case CIVAC:
		asm volatile("dc civac, %0" : : "r" (va) : "memory");
		break;
	case IVAC:
		asm volatile("dc ivac, %0" : : "r" (va) : "memory");
		break;
	case IVAU:
		asm volatile("ic ivau, %0" : : "r" (va) : "memory");
		break;
	}
}

static void guest_code(void)
{
	for (;;) {
		task.aborted = false;
		if (task.read_first)
			guest_read(task.gva);
		guest_do(task.gva + insns[task.insn].offset);
		/* An abort of these would be seen, too. */
		task.words[0] = guest_read(task.gva);
		task.words[1] = guest_read(task.gva + sizeof(words[0]));
		GUEST_SYNC(0);
	}
}

static struct kvm_vm *create_insn_vm(struct kvm_vcpu **vcpu, void *entry)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, entry);

	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(*vcpu);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_DABT_CUR, guest_data_abort);
	return vm;
}

/* Arm ARM DDI 0487 section D24.2, "DCZID_EL0": the logarithm of the number of 4-byte words */
static uint64_t zva_size(void)
{
	return 4ul << (read_sysreg(dczid_el0) & 0xf);
}

static bool have_atomics(struct kvm_vcpu *vcpu)
{
	uint64_t isar0 = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_ID_AA64ISAR0_EL1));

	return isar0 >> 20 & 0xf;	/* ID_AA64ISAR0_EL1.Atomic */
}

static enum outcome abort_outcome(void)
{
	switch (ESR_FSC(task.esr)) {
	case FSC_ALIGNMENT:
		return ALIGNMENT;
	case FSC_EXCL_ATOMIC:
		return UNSUPPORTED;
	case FSC_EXTERNAL:
		return ROM_WRITE;
	default:
		return OTHER_ABORT;
	}
}

/* Lets the guest do an instruction at the start of a page, with its @offset. */
static enum outcome run_insn(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			     enum insn insn, uint64_t gva, uint64_t gpa, bool read_first)
{
	struct kvm_run *run = vcpu->run;
	enum outcome outcome = DONE;
	struct ucall uc;
	int failures = 0;
	uint64_t pc;

	task.insn = insn;
	task.gva = gva;
	task.read_first = read_first;
	sync_global_to_guest(vcpu->vm, task);
	for (;;) {
		if (_vcpu_run(vcpu)) {
			if (outcome != FAILED)
				TH_LOG("KVM_RUN: %s, exit reason %u", strerror(errno),
				       run->exit_reason);
			/* A store exclusive is tried again. */
			TEST_ASSERT(failures++ < TRIES, "KVM_RUN fails again and again");
			outcome = FAILED;
			pc = vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc));
			vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), pc + 4);
			continue;
		}
		if (get_ucall(vcpu, &uc) == UCALL_SYNC)
			break;
		TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO && outcome == DONE,
			    "unexpected exit, reason %u", run->exit_reason);
		outcome = EMULATED;
		EXPECT_EQ(run->mmio.phys_addr, gpa + insns[insn].offset);
		EXPECT_TRUE(run->mmio.is_write);
		EXPECT_EQ(run->mmio.len, sizeof(PATTERN));
		EXPECT_EQ(*(uint64_t *)run->mmio.data, PATTERN);
	}
	sync_global_from_guest(vcpu->vm, task);
	if (!task.aborted)
		return outcome;
	EXPECT_EQ(outcome, DONE);
	return abort_outcome();
}

/* An abort, if there was one, says what it is, where, and of what. */
static void check_abort(struct __test_metadata *_metadata, enum insn insn, uint64_t gva)
{
	uint64_t mask = insn == ZVA ? ~(zva_size() - 1) : -1ul;

	if (!task.aborted)
		return;
	EXPECT_EQ(ESR_ELx_EC(task.esr), ESR_ELx_EC_DABT_CUR);
	EXPECT_EQ(task.esr & ESR_IL, ESR_IL);
	EXPECT_EQ(task.far & mask, gva + insns[insn].offset);
	/* KVM's external aborts do not say it. */
	if (abort_outcome() == ALIGNMENT)
		EXPECT_EQ(!!(task.esr & ESR_WNR), insns[insn].writes);
}

/* Memory is as the instruction says, or if it was not done, as before. */
static void check_memory(struct __test_metadata *_metadata, enum insn insn,
			 enum outcome outcome, const uint64_t *hva)
{
	uint64_t expected[2] = { words[0], words[1] }, stored = PATTERN, loaded;

	if (outcome == DONE) {
		switch (insn) {
		case LDXR_STXR:
		case LDADD:
			expected[0]++;
			break;
		case LOAD:
			memcpy(&loaded, (char *)words + insns[insn].offset, sizeof(loaded));
			EXPECT_EQ(task.loaded, loaded);
			break;
		case STORE:
			memcpy((char *)expected + insns[insn].offset, &stored,
			       sizeof(stored));
			break;
		case ZVA:
			expected[0] = 0;
			expected[1] = 0;
			break;
		default:
			break;
		}
	}
	EXPECT_EQ(task.words[0], expected[0]);
	EXPECT_EQ(task.words[1], expected[1]);
	/* DC ZVA stays in its block. */
	EXPECT_EQ(READ_ONCE(hva[zva_size() / sizeof(*hva)]), words[0]);
}

static void fill_page(uint64_t *hva)
{
	uint64_t *behind = hva + zva_size() / sizeof(*hva);

	WRITE_ONCE(hva[0], words[0]);
	WRITE_ONCE(hva[1], words[1]);
	WRITE_ONCE(*behind, words[0]);
	host_sync(hva);
	host_sync(behind);
}

enum host_memory { ANONYMOUS, RAM_WC, RAM_UC, MMIO_WC, MMIO_UC };

/* Pages of 4K, so that each of them is mapped for the guest by an access of its own. */
static void *map_memory(enum host_memory memory)
{
	bool wc = memory == RAM_WC || memory == MMIO_WC;
	uint64_t phys = 0;
	void *hva;

	if (memory == ANONYMOUS) {
		hva = mmap(NULL, HOST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
		if (hva != MAP_FAILED)
			madvise(hva, HOST_SIZE, MADV_NOHUGEPAGE);
		return hva;
	}
	if (memory == MMIO_WC || memory == MMIO_UC)
		phys = frame_buffer();
	/* Without VM_ALLOW_ANY_UNCACHED, all MMIO is Device. */
	return map_host(HOST_SIZE, phys, wc ? MEMTYPE_TEST_WC : MEMTYPE_TEST_UC,
			MEMTYPE_TEST_PREMAP | (wc ? MEMTYPE_TEST_ANY_UNCACHED : 0));
}

/*
 * What the CPU does with each instruction if stage 1 says Device. The memory is also Device
 * to the host, or FEAT_S2FWB might make it WB.
 */
static void ask_stage1(struct __test_metadata *_metadata, enum outcome on_device[])
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_insn_vm(&vcpu, guest_code);
	void *hva = map_memory(have_driver() ? RAM_UC : ANONYMOUS);
	bool aborts = false;
	enum insn insn;

	TEST_ASSERT(hva != MAP_FAILED, "mmap: %s", strerror(errno));
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	for (insn = 0; insn < ARRAY_SIZE(insns); insn++) {
		uint64_t offset = insn * SZ_4K;

		if (insn == LDADD && !have_atomics(vcpu))
			continue;
		map_as(vm, TEST_GVA + offset, TEST_GPA + offset, KVM_MEMTYPE_UC);
		on_device[insn] = run_insn(_metadata, vcpu, insn, TEST_GVA + offset,
					   TEST_GPA + offset, false);
		if (on_device[insn] != DONE)
			EXPECT_EQ(on_device[insn], insns[insn].on_device);
		aborts |= on_device[insn] != DONE;
	}
	if (!aborts)
		ksft_print_msg("This emulator has no aborts because of Device memory.\n");
	kvm_vm_free(vm);
	munmap(hva, HOST_SIZE);
}

FIXTURE(insn)
{
	enum outcome on_device[ARRAY_SIZE(insns)];
};

FIXTURE_VARIANT(insn)
{
	const char *host;
	enum host_memory memory;
};

FIXTURE_VARIANT_ADD(insn, anonymous) {
	.host = "anonymous", .memory = ANONYMOUS,
};

FIXTURE_VARIANT_ADD(insn, ram_wc) {
	.host = "host RAM WC", .memory = RAM_WC,
};

FIXTURE_VARIANT_ADD(insn, ram_uc) {
	.host = "host RAM UC", .memory = RAM_UC,
};

FIXTURE_VARIANT_ADD(insn, mmio_wc) {
	.host = "host MMIO WC", .memory = MMIO_WC,
};

FIXTURE_VARIANT_ADD(insn, mmio_uc) {
	.host = "host MMIO UC", .memory = MMIO_UC,
};

FIXTURE_SETUP(insn)
{
	if (variant->memory != ANONYMOUS && !have_driver())
		SKIP(return, NO_DRIVER);
	if (variant->memory >= MMIO_WC && !frame_buffer())
		SKIP(return, "no display");
	ask_stage1(_metadata, self->on_device);
}

FIXTURE_TEARDOWN(insn)
{
}

struct insn_cell {
	enum host_memory memory;
	bool read_only;
	enum insn insn;
	uint8_t guest;
};

/* Whether an instruction may have an outcome. */
static bool is_expected(const struct insn_cell *cell, enum outcome outcome, enum outcome on_device)
{
	bool stage2_device = cell->memory == RAM_UC || cell->memory == MMIO_UC;

	if ((stage2_device || cell->guest == KVM_MEMTYPE_UC) && on_device != DONE &&
	    outcome == on_device)
		return true;
	/* Which of two aborts comes first is the CPU's. */
	if (cell->read_only && insns[cell->insn].writes)
		return outcome == insns[cell->insn].on_read_only;
	if (stage2_device)
		return outcome == on_device;
	/* Normal Non-cacheable; there it is the CPU's, too. */
	if (cell->memory != ANONYMOUS && outcome == insns[cell->insn].on_uncached)
		return true;
	/*
	 * Nor has KVM a part in what stage 1 alone makes Device. FEAT_S2FWB may make it WB, and
	 * QEMU 10 forgets about it if the page is in the TLB, and not Device by stage 2.
	 */
	return outcome == DONE;
}

/* With the page mapped already, and not; one row for each instruction. */
static void check_insns(struct __test_metadata *_metadata, const char *host, struct insn_cell cell,
			const enum outcome on_device[])
{
	const char *prefix = cell.read_only ? "read-only: " : "";
	char texts[ARRAY_SIZE(guest_kinds)][32], row[64], text[128];
	char *hva = map_memory(cell.memory);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_insn_vm(&vcpu, guest_code);
	uint64_t offset = 0;
	int i, touched;

	TEST_ASSERT(hva != MAP_FAILED, "mmap: %s", strerror(errno));
	vm_set_user_memory_region(vm, TEST_SLOT, cell.read_only ? KVM_MEM_READONLY : 0, TEST_GPA,
				  HOST_SIZE, hva);
	for (cell.insn = 0; cell.insn < ARRAY_SIZE(insns); cell.insn++) {
		if (cell.insn == LDADD && !have_atomics(vcpu))
			continue;
		for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
			enum outcome outcomes[2];

			cell.guest = guest_kinds[i];
			for (touched = 0; touched < 2; touched++, offset += SZ_4K) {
				uint64_t gva = TEST_GVA + offset, gpa = TEST_GPA + offset;
				uint64_t *page = (uint64_t *)(hva + offset);

				map_as(vm, gva, gpa, cell.guest);
				fill_page(page);
				outcomes[touched] = run_insn(_metadata, vcpu, cell.insn, gva, gpa,
							     touched);
				check_abort(_metadata, cell.insn, gva);
				check_memory(_metadata, cell.insn, outcomes[touched], page);
				EXPECT_TRUE(is_expected(&cell, outcomes[touched],
							on_device[cell.insn]))
					TH_LOG("%s, guest %s: %s", insns[cell.insn].name,
					       kind_names[cell.guest],
					       outcome_names[outcomes[touched]]);
			}
			snprintf(texts[i], sizeof(texts[i]), "%s%s%s", outcome_names[outcomes[0]],
				 outcomes[1] == outcomes[0] ? "" : "/",
				 outcomes[1] == outcomes[0] ? "" : outcome_names[outcomes[1]]);
		}
		snprintf(text, sizeof(text), "%s,%s,%s", texts[0], texts[1], texts[2]);
		if (!strcmp(texts[0], texts[1]) && !strcmp(texts[0], texts[2]))
			snprintf(text, sizeof(text), "%s", texts[0]);
		snprintf(row, sizeof(row), "%s%s on %s", prefix, insns[cell.insn].name, host);
		print_cell(row, text);
	}
	kvm_vm_free(vm);
	munmap(hva, HOST_SIZE);
}

TEST_F(insn, ends_in_guest)
{
	struct insn_cell cell = { .memory = variant->memory };

	check_insns(_metadata, variant->host, cell, self->on_device);
}

TEST_F(insn, ends_in_guest_read_only)
{
	struct insn_cell cell = { .memory = variant->memory, .read_only = true };

	check_insns(_metadata, variant->host, cell, self->on_device);
}

/*
 * Aborts that a memory type causes, as the CPU reports them to KVM: the guest must get
 * the same ones, in whatever state it is.
 */
enum state { EL1, EL0, AARCH32, AARCH32_LPAE };

FIXTURE(abort)
{
};

FIXTURE_VARIANT(abort)
{
	enum state state;
};

FIXTURE_VARIANT_ADD(abort, el1) {
	.state = EL1,
};

FIXTURE_VARIANT_ADD(abort, el0) {
	.state = EL0,
};

FIXTURE_VARIANT_ADD(abort, aarch32) {
	.state = AARCH32,
};

FIXTURE_VARIANT_ADD(abort, aarch32_lpae) {
	.state = AARCH32_LPAE,
};

/*
 * What KVM sees, and ESR_EL1 of the guest, whose EC says from which level, or its DFSR
 * (Arm ARM DDI 0487 section G8.2): there, WnR is bit 11. With short descriptors, the
 * status is bits 10 and 3:0, with long ones bits 5:0, and bit 9 is set.
 */
static const struct type_fault {
	uint32_t iss;
	uint32_t esr[4];
} alignment_load = {
	FSC_ALIGNMENT,
	{ [EL1] = 0x96000021, [EL0] = 0x92000021, [AARCH32] = 0x001, [AARCH32_LPAE] = 0x221 },
}, alignment_store = {
	FSC_ALIGNMENT | ESR_WNR,
	{ [EL1] = 0x96000061, [EL0] = 0x92000061, [AARCH32] = 0x801, [AARCH32_LPAE] = 0xa21 },
}, excl_atomic_load = {
	FSC_EXCL_ATOMIC,
	{ [EL1] = 0x96000035, [EL0] = 0x92000035, [AARCH32] = 0x405, [AARCH32_LPAE] = 0x235 },
}, excl_atomic_store = {
	FSC_EXCL_ATOMIC | ESR_WNR,
	{ [EL1] = 0x96000075, [EL0] = 0x92000075, [AARCH32] = 0xc05, [AARCH32_LPAE] = 0xa35 },
};

static void set_abort(struct kvm_vcpu *vcpu, uint64_t gva, uint32_t iss)
{
	struct kvm_memtype_probe_abort abort = { .gva = gva, .iss = iss };

	vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE_ABORT, &abort);
}

/* Of EL0: its page of instructions, which both levels may only read, and its data. */
#define CODE_GVA	TEST_GVA
#define CODE_GPA	TEST_GPA
#define DATA_GVA	(TEST_GVA + SZ_4K)
#define DATA_GPA	(TEST_GPA + SZ_4K)
#define PTE_USER	BIT_ULL(6)
#define PTE_RDONLY	BIT_ULL(7)
#define LDR_X0_X0	0xf9400000
#define STR_X0_X0	0xf9000000

/* There is no way back from EL0 but the abort. */
static void guest_el0_abort(struct ex_regs *regs)
{
	guest_data_abort(regs);
	GUEST_SYNC(0);
}

static void guest_to_el0(void)
{
	asm volatile("msr spsr_el1, xzr\n\t"	/* EL0t */
		     "msr elr_el1, %0\n\t"
		     "mov x0, %1\n\t"
		     "eret" : : "r" (CODE_GVA), "r" (DATA_GVA) : "x0", "memory");
}

static void map_for_el0(struct kvm_vm *vm, uint64_t gva, uint64_t gpa, uint64_t flags)
{
	virt_pg_map(vm, gva, gpa);
	*virt_get_pte_hva(vm, gva) |= PTE_USER | flags;
}

static void check_aarch64(struct __test_metadata *_metadata, bool el0,
			  const struct type_fault *fault, uint64_t esr)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_insn_vm(&vcpu, el0 ? (void *)guest_to_el0 : (void *)guest_code);
	bool store = fault->iss & ESR_WNR;
	struct ucall uc;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 2, 0);
	set_abort(vcpu, DATA_GVA, fault->iss);
	if (el0) {
		vm_install_sync_handler(vm, VECTOR_SYNC_LOWER_64, EC_DABT_LOW, guest_el0_abort);
		map_for_el0(vm, CODE_GVA, CODE_GPA, PTE_RDONLY);
		map_for_el0(vm, DATA_GVA, DATA_GPA, 0);
		*(uint32_t *)addr_gpa2hva(vm, CODE_GPA) = store ? STR_X0_X0 : LDR_X0_X0;
		vcpu_run(vcpu);
		ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
		sync_global_from_guest(vm, task);
	} else {
		map_as(vm, DATA_GVA, DATA_GPA, KVM_MEMTYPE_WB);
		run_insn(_metadata, vcpu, store ? ZVA : LDXR_STXR, DATA_GVA, DATA_GPA, false);
	}
	EXPECT_TRUE(task.aborted);
	EXPECT_EQ(task.esr, esr);
	EXPECT_EQ(task.far, DATA_GVA);
	kvm_vm_free(vm);
}

#define LDR_R0_R1	0xe5910000
#define STR_R0_R1	0xe5810000
#define STR_R0_R2	0xe5820000
#define VECTOR_DABT	0x10
#define DONE_GPA	0x09000000ul
#define TTBCR_EAE	BIT(31)

/* A vCPU starts at 0, where its vectors are, too, and with its MMU off. */
static void check_aarch32(struct __test_metadata *_metadata, bool lpae,
			  const struct type_fault *fault, uint64_t dfsr)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_vcpu_init init;
	uint64_t value;
	uint32_t *code;

	vm_ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_EL1_32BIT);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);

	code = mmap(NULL, 2 * SZ_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(code, MAP_FAILED);
	code[0] = fault->iss & ESR_WNR ? STR_R0_R1 : LDR_R0_R1;
	code[VECTOR_DABT / sizeof(*code)] = STR_R0_R2;
	vm_set_user_memory_region(vm, 0, 0, 0, 2 * SZ_4K, code);

	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[1]), SZ_4K);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[2]), DONE_GPA);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_TCR_EL1), lpae ? TTBCR_EAE : 0);
	set_abort(vcpu, SZ_4K, fault->iss);
	vcpu_run(vcpu);

	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	EXPECT_EQ(vcpu->run->mmio.phys_addr, DONE_GPA);
	value = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_ESR_EL1));
	EXPECT_EQ((uint32_t)value, dfsr);
	value = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_FAR_EL1));
	EXPECT_EQ((uint32_t)value, SZ_4K);	/* DFAR */
	kvm_vm_free(vm);
	munmap(code, 2 * SZ_4K);
}

FIXTURE_SETUP(abort)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	bool has_probe = have_probe(vcpu);

	kvm_vm_free(vm);
	if (!has_probe)
		SKIP(return, NO_PROBE);
	if (variant->state >= AARCH32 && !kvm_has_cap(KVM_CAP_ARM_EL1_32BIT))
		SKIP(return, "no KVM_CAP_ARM_EL1_32BIT");
}

FIXTURE_TEARDOWN(abort)
{
}

static void check_fault(struct __test_metadata *_metadata, enum state state,
			const struct type_fault *fault)
{
	if (state < AARCH32)
		check_aarch64(_metadata, state == EL0, fault, fault->esr[state]);
	else
		check_aarch32(_metadata, state == AARCH32_LPAE, fault, fault->esr[state]);
}

TEST_F(abort, alignment_load)
{
	check_fault(_metadata, variant->state, &alignment_load);
}

TEST_F(abort, alignment_store)
{
	check_fault(_metadata, variant->state, &alignment_store);
}

TEST_F(abort, excl_atomic_load)
{
	check_fault(_metadata, variant->state, &excl_atomic_load);
}

TEST_F(abort, excl_atomic_store)
{
	check_fault(_metadata, variant->state, &excl_atomic_store);
}

/* A memslot that the guest cannot write */
FIXTURE(read_only)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	uint64_t *hva;
};

FIXTURE_SETUP(read_only)
{
	self->vm = create_insn_vm(&self->vcpu, guest_code);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1,
				    KVM_MEM_READONLY);
	self->hva = addr_gpa2hva(self->vm, TEST_GPA);
	fill_page(self->hva);
	map_as(self->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(read_only)
{
	kvm_vm_free(self->vm);
}

/*
 * Where the page is not mapped, any maintenance aborts; where it is, what needs write
 * permission (DC IVAC) does. The instruction is DC ZVA, as its effect would show.
 */
TEST_F(read_only, maintenance_is_skipped)
{
	static const uint32_t codes[] = { FSC_TRANSLATION_L3, FSC_PERMISSION_L3 };
	int i;

	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		set_abort(self->vcpu, TEST_GVA, ESR_CM | ESR_WNR | codes[i]);
		EXPECT_EQ(run_insn(_metadata, self->vcpu, ZVA, TEST_GVA, TEST_GPA, i), DONE);
		EXPECT_EQ(task.words[0], words[0]);
		EXPECT_EQ(READ_ONCE(self->hva[0]), words[0]);
	}
}

/* A VMM that wants to see such accesses still does. */
TEST_F(read_only, userspace_may_decide)
{
	struct kvm_run *run = self->vcpu->run;

	vm_enable_cap(self->vm, KVM_CAP_ARM_NISV_TO_USER, 0);
	task.insn = ZVA;
	task.gva = TEST_GVA;
	sync_global_to_guest(self->vm, task);
	vcpu_run(self->vcpu);
	ASSERT_EQ(run->exit_reason, KVM_EXIT_ARM_NISV);
	EXPECT_EQ(run->arm_nisv.fault_ipa, TEST_GPA);
	EXPECT_EQ(run->arm_nisv.esr_iss & (ESR_ISV | ESR_CM | ESR_WNR), ESR_WNR);
}

/* This is not about memory, and stays as api.rst says. */
TEST(outside_of_memslots)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_insn_vm(&vcpu, guest_code);

	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	task.insn = ZVA;
	task.gva = TEST_GVA;
	sync_global_to_guest(vm, task);
	EXPECT_EQ(_vcpu_run(vcpu), -1);
	EXPECT_STREQ(strerrorname_np(errno), "ENOSYS");
	kvm_vm_free(vm);
}

/*
 * A write to a private mapping of a device's memory goes to a copy, which has to be made
 * first, whether or not the guest has read the original before.
 */
TEST(private_bar)
{
	char display[NAME_MAX + 1];
	struct kvm_memtype answer;
	uint64_t *hva, *bar;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	if (!find_display(display))
		SKIP(return, "no display");
	bar = map_first_bar(display, 2 * SZ_4K, MAP_SHARED);
	hva = map_first_bar(display, 2 * SZ_4K, MAP_PRIVATE);
	vm = create_vm(&vcpu, 1, 0);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, 2 * SZ_4K, hva);
	for (i = 0; i < 2; i++) {
		uint64_t gva = TEST_GVA + i * SZ_4K, word = i * SZ_4K / sizeof(*bar);

		map_as(vm, gva, TEST_GPA + i * SZ_4K, KVM_MEMTYPE_WB);
		WRITE_ONCE(bar[word], words[i]);
		if (i)
			EXPECT_EQ(let_guest(vcpu, GUEST_READ, gva, 0), words[i]);
		let_guest(vcpu, GUEST_WRITE, gva, PATTERN);
		host_sync(hva + word);
		EXPECT_EQ(READ_ONCE(hva[word]), PATTERN);
		EXPECT_EQ(let_guest(vcpu, GUEST_READ, gva, 0), PATTERN);
		EXPECT_EQ(READ_ONCE(bar[word]), words[i]);
		ASSERT_EQ(get_memtype(vm, TEST_GPA + i * SZ_4K, &answer), 0);
		/* The host's own accesses to the copy are Device, too. */
		EXPECT_EQ(answer.host, SYSFS_BAR);
		EXPECT_EQ(answer.source, KVM_MEMTYPE_SOURCE_PTE);
	}
	print_cell("guest's write to a private mapping of a BAR", "copied");
	kvm_vm_free(vm);
	munmap(hva, 2 * SZ_4K);
	munmap(bar, 2 * SZ_4K);
}

TEST_HARNESS_MAIN
