/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of memory types share: a guest that accesses memory with types
 * of its own choice, what the CPU walks for it, and mappings of the host.
 */
#ifndef SELFTEST_KVM_MEMTYPE_H
#define SELFTEST_KVM_MEMTYPE_H

#include <fcntl.h>
#include <limits.h>
#include <linux/kvm_memtype.h>
#include <linux/sizes.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#include "../../../../mm/memtype_test.h"
#include "../../../../virt/kvm/memtype_probe.h"
#include "../iommu/vfio_device.h"
#include "memtype_base.h"

#define PARAMETER	"/sys/module/kvm/parameters/guest_memtype"
#define TRACING		"/sys/kernel/tracing"
#define DRIVER		"/sys/kernel/debug/memtype_test"
#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

#define TEST_SLOT	10
#define TEST_GPA	0x10000000ul
#define TEST_GVA	0x40000000ul
/* The same memory once more, with another type. */
#define ALIAS_GVA	0x60000000ul
#define PATTERN		0x5eed000000000001ull

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
enum guest_op { GUEST_READ, GUEST_MARKED_READ, GUEST_WRITE, GUEST_EXECUTE };

static struct guest_command {
	enum guest_op op;
	uint64_t gva;
	uint64_t value;
} commands[2];

static inline uint64_t guest_read(uint64_t gva);
static inline uint64_t guest_marked_read(uint64_t gva);
static inline void guest_write(uint64_t gva, uint64_t value);
static inline uint64_t guest_execute(uint64_t gva);

/* What the CPU makes of an access, by walked_kind() of each architecture */
struct walked {
	uint8_t kind;
	bool forced;	/* whatever the guest chose */
};

static inline void guest_main(int id)
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
		case GUEST_EXECUTE:
			GUEST_SYNC(guest_execute(command->gva));
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
#define PTE_PAT		BIT_ULL(7)
/* What KVM says to an ioctl that it does not know. */
#define UNKNOWN_IOCTL	ENOTTY
/* x86 lets a guest execute MMIO. */
#define MMIO_NOEXEC	0
/* How sysfs and VFIO map a BAR. */
#define SYSFS_BAR	KVM_MEMTYPE_UC_MINUS
#define VFIO_BAR	KVM_MEMTYPE_UC_MINUS
#define EPT_MT(leaf)	(((leaf) >> 3) & 7)
#define EPT_IPAT(leaf)	(((leaf) >> 6) & 1)

/* Entries 0 to 3 of the host's PAT, as Linux programs it, and of GUEST_PAT */
static const uint8_t host_pat_kinds[4] = {
	KVM_MEMTYPE_WB, KVM_MEMTYPE_WC, KVM_MEMTYPE_UC_MINUS, KVM_MEMTYPE_UC,
};

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
static inline void guest_write(uint64_t gva, uint64_t value)
{
	asm volatile("mov %1, (%0)\n\t"
		     "sfence" : : "r" (gva), "r" (value) : "memory");
}

static inline uint64_t guest_read(uint64_t gva)
{
	return READ_ONCE(*(uint64_t *)gva);
}

/* One access that the page walker has to translate anew, between two marks. */
static inline uint64_t guest_marked_read(uint64_t gva)
{
	uint64_t value;

	asm volatile("invlpg (%1)\n\t"
		     "xchg %%bx, %%bx\n\t"
		     "mov (%1), %0\n\t"
		     "xchg %%bx, %%bx" : "=&r" (value) : "r" (gva) : "memory");
	return value;
}

#define CANNOT_EXECUTE_DEVICE	host_cpu_is_intel
#define RETURN_INSTRUCTION	0xc3

/* Calls a return instruction there; whether it could be fetched. */
static inline uint64_t guest_execute(uint64_t gva)
{
	((void (*)(void))gva)();
	return true;
}

static inline void host_sync(void *hva)
{
}

static inline void init_guest_types(struct kvm_vcpu *vcpu)
{
	vcpu_set_msr(vcpu, MSR_IA32_CR_PAT, GUEST_PAT);
}

static inline void map_as(struct kvm_vm *vm, uint64_t gva, uint64_t gpa, uint8_t kind)
{
	uint64_t *pte;

	virt_pg_map(vm, gva, gpa);
	pte = vm_get_pte(vm, gva);
	*pte &= ~(PTE_PWT | PTE_PCD);
	if (kind == KVM_MEMTYPE_WC || kind == KVM_MEMTYPE_UC)
		*pte |= PTE_PWT;
	if (kind == KVM_MEMTYPE_UC_MINUS || kind == KVM_MEMTYPE_UC)
		*pte |= PTE_PCD;
}

/*
 * Intel SDM vol. 3, section 13.5.2.2 (EPT: 30.3.7.2): the part for the guest's types
 * above on memory that is WB, WC or UC.
 */
static inline uint8_t combine(uint8_t memory, uint8_t guest)
{
	if (guest == KVM_MEMTYPE_UC_MINUS)
		return memory == KVM_MEMTYPE_WC ? KVM_MEMTYPE_WC : KVM_MEMTYPE_UC;
	return guest == KVM_MEMTYPE_WB ? memory : guest;
}

/* AMD APM vol. 2, section 15.25.8, tables 15-19 and 15-20, the same part. */
static inline uint8_t combine_pat(uint8_t host, uint8_t guest)
{
	if (guest == KVM_MEMTYPE_WB)
		return host == KVM_MEMTYPE_UC_MINUS ? KVM_MEMTYPE_UC : host;
	if (guest == KVM_MEMTYPE_UC_MINUS)
		return host == KVM_MEMTYPE_WC || host == KVM_MEMTYPE_UC_MINUS ? host :
										KVM_MEMTYPE_UC;
	return guest;
}

static inline uint8_t combine_apm(uint8_t mtrr, uint8_t pat)
{
	if (pat == KVM_MEMTYPE_UC_MINUS)
		return mtrr == KVM_MEMTYPE_WC ? KVM_MEMTYPE_WC : KVM_MEMTYPE_UC;
	return pat == KVM_MEMTYPE_WB ? mtrr : pat;
}

static inline struct walked walked_kind(const struct kvm_memtype_probe *probe, uint8_t guest)
{
	struct walked walked = {};
	uint8_t memory;

	if (probe->format == KVM_MEMTYPE_PROBE_EPT) {
		memory = mtrr_kinds[EPT_MT(probe->leaf)];
		walked.forced = EPT_IPAT(probe->leaf);
		walked.kind = walked.forced ? memory : combine(memory, guest);
		return walked;
	}

	/* The bit that is PAT's in an entry of 4 KiB is another one's in a large entry. */
	TEST_ASSERT(probe->size > SZ_4K || !(probe->leaf & PTE_PAT), "leaf %llx", probe->leaf);
	memory = host_pat_kinds[(probe->leaf & (PTE_PWT | PTE_PCD)) / PTE_PWT];
	/* With shadow paging the CPU does not see the guest's own entries. */
	if (probe->format == KVM_MEMTYPE_PROBE_NPT)
		memory = combine_pat(memory, guest);
	walked.kind = combine_apm(mtrr_kinds[probe->mtrr], memory);
	return walked;
}

static inline void expect_walk(const char *row, uint64_t gva,
			       const struct kvm_memtype_probe *probe, uint8_t guest)
{
	/*
	 * Bochs shows the type of the entry that it walks first with the MTRR's: with EPT, the
	 * guest's own, and with shadow paging, KVM's. SVM does not run there.
	 */
	if (probe->format == KVM_MEMTYPE_PROBE_SHADOW && host_cpu_is_intel)
		ksft_print_msg("memtype-probe: row=%s gva=%#lx type=%s\n", row, gva,
			       kind_names[walked_kind(probe, guest).kind]);
	else if (probe->format == KVM_MEMTYPE_PROBE_EPT)
		ksft_print_msg("memtype-probe: row=%s gva=%#lx mt=%llu ipat=%llu type=%s\n",
			       row, gva, EPT_MT(probe->leaf), EPT_IPAT(probe->leaf),
			       kind_names[combine(mtrr_kinds[probe->mtrr], guest)]);
}

/* Whether KVM runs guests without two-dimensional page tables; then they have no choice. */
static inline bool has_shadow_paging(void)
{
	return host_cpu_is_intel ? !get_kvm_intel_param_bool("ept") :
				   !get_kvm_amd_param_bool("npt");
}

/* pKVM is arm64's. */
static inline bool only_ram(void)
{
	return false;
}

/* Shadow paging on VMX goes by the MTRRs, whatever the host maps. */
static inline bool mtrrs_decide(void)
{
	return host_cpu_is_intel && has_shadow_paging();
}

static inline bool legacy_may_force(void)
{
	return host_cpu_is_intel;
}

/* Takes back what makes a legacy VM ignore the guest's PAT; false if nothing does. */
static inline bool disable_quirk(struct kvm_vm *vm)
{
	if (!(vm_check_cap(vm, KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_IGNORE_GUEST_PAT))
		return false;
	vm_enable_cap(vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_IGNORE_GUEST_PAT);
	return true;
}
#endif /* __x86_64__ */

#ifdef __aarch64__
/* What a guest chooses; UC is Device-nGnRE, which Linux's ioremap() asks for. */
static const uint8_t guest_kinds[] = { KVM_MEMTYPE_WB, KVM_MEMTYPE_WC, KVM_MEMTYPE_UC };

/* Device-nGnRE in the library's DEFAULT_MAIR_EL1 */
#define MAIR_DEVICE		1
#define UNKNOWN_IOCTL		EINVAL
#define MMIO_NOEXEC		KVM_MEMTYPE_ATTR_NOEXEC
#define SYSFS_BAR		KVM_MEMTYPE_UC
#define VFIO_BAR		KVM_MEMTYPE_NGNRNE
#define S2_MEMATTR(leaf)	(((leaf) >> 2) & 0xf)
#define PAR_F			BIT_ULL(0)
#define PAR_ATTR(par)		((par) >> 56)

/*
 * Locations that are accessed with mismatched attributes lose coherency. It is
 * kept by cleaning and invalidating after each write and before each read with
 * another type (Arm ARM, section "Mismatched memory attributes").
 */
static inline void clean_invalidate(uint64_t va)
{
	asm volatile("dsb sy\n\t"
		     "dc civac, %0\n\t"
		     "dsb sy" : : "r" (va) : "memory");
}

static inline void guest_write(uint64_t gva, uint64_t value)
{
	WRITE_ONCE(*(uint64_t *)gva, value);
	clean_invalidate(gva);
}

static inline uint64_t guest_read(uint64_t gva)
{
	clean_invalidate(gva);
	return READ_ONCE(*(uint64_t *)gva);
}

/* AT S12E1R needs no access to look at. */
static inline uint64_t guest_marked_read(uint64_t gva)
{
	return guest_read(gva);
}

static inline void host_sync(void *hva)
{
	clean_invalidate((uint64_t)hva);
}

#define CANNOT_EXECUTE_DEVICE	false
#define RETURN_INSTRUCTION	0xd65f03c0

static uint64_t guest_aborted;

/* As if the instruction there had been a return. */
static inline void guest_instruction_abort(struct ex_regs *regs)
{
	guest_aborted = true;
	regs->pc = regs->regs[30];
}

/* Calls a return instruction there; whether it could be fetched. */
static inline uint64_t guest_execute(uint64_t gva)
{
	WRITE_ONCE(guest_aborted, false);
	((void (*)(void))gva)();
	return !READ_ONCE(guest_aborted);
}

static inline void init_guest_types(struct kvm_vcpu *vcpu)
{
	/* The library's MAIR_EL1 has all types. */
}

static inline void map_as(struct kvm_vm *vm, uint64_t gva, uint64_t gpa, uint8_t kind)
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
static inline uint8_t par_kind(uint8_t attr)
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

/* Arm ARM D8.6, for guest types WB, Normal-NC and Device-nGnRE. */
static inline uint8_t stage2_kind(uint8_t memattr, uint8_t guest)
{
	switch (memattr) {
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

static inline struct walked walked_kind(const struct kvm_memtype_probe *probe, uint8_t guest)
{
	uint8_t memattr = S2_MEMATTR(probe->leaf);
	/* Only with FWB is there a MemAttr that overrides stage 1 with write-back. */
	struct walked walked = { .forced = memattr == 6 };

	TEST_ASSERT(!probe->par_valid || !(probe->par & PAR_F),
		    "AT S12E1R failed: PAR_EL1 %llx", probe->par);
	/* With nVHE there is no answer of the CPU, but the entry that KVM wrote. */
	walked.kind = probe->par_valid ? par_kind(PAR_ATTR(probe->par)) :
					 stage2_kind(memattr, guest);
	return walked;
}

static inline void expect_walk(const char *row, uint64_t gva,
			       const struct kvm_memtype_probe *probe, uint8_t guest)
{
}

static inline bool has_shadow_paging(void)
{
	return false;
}

#ifndef KVM_VM_TYPE_ARM_PROTECTED
#define KVM_VM_TYPE_ARM_PROTECTED	BIT(31)
#endif

/* A VM that pKVM protects, as a file descriptor; negative if there is no pKVM. */
static inline int create_protected_vm(void)
{
	int kvm = open_kvm_dev_path_or_exit();
	int vm = ioctl(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_PROTECTED);

	TEST_ASSERT(vm >= 0 || errno == EINVAL, "KVM_CREATE_VM: %s", strerror(errno));
	close(kvm);
	return vm;
}

/*
 * Whether guests get only memory that the host caches: with pKVM, once it can protect a guest. Its
 * hypervisor then maps the memory of all of them.
 */
static inline bool only_ram(void)
{
	int vm = create_protected_vm();

	if (vm >= 0)
		close(vm);
	return vm >= 0;
}

static inline bool mtrrs_decide(void)
{
	return false;
}

static inline bool legacy_may_force(void)
{
	return false;
}

static inline bool disable_quirk(struct kvm_vm *vm)
{
	return false;
}
#endif /* __aarch64__ */

/* A page of the host, in the names of rows; a guest's own may be smaller. */
static inline const char *page_name(void)
{
	return getpagesize() == SZ_64K ? "64K" : getpagesize() == SZ_16K ? "16K" : "4K";
}

/* Whether the host has entries of 2M: where pages are larger, blocks are much larger. */
static inline bool have_2m(void)
{
	return getpagesize() == SZ_4K;
}

#define NO_2M		"no entry of this host maps 2M"

/* Whether the kernel has the layer; not asked of the uAPI that is tested here. */
static inline bool have_layer(void)
{
	return !access(PARAMETER, F_OK);
}

#define NO_LAYER	"this kernel has no guest memory types"
#define NO_PROBE	"CONFIG_KVM_MEMTYPE_PROBE is off, or cannot see these page tables (pKVM)"

/* Why a VM cannot have this policy and these flags here; NULL if it can. */
static inline const char *why_not(uint64_t policy, uint32_t slot_flags)
{
	int caps = have_layer() ? kvm_check_cap(KVM_CAP_MEMTYPE) : 0;

	if (policy == KVM_MEMTYPE_POLICY_STAGE1 && !(caps & KVM_MEMTYPE_CAP_STAGE1))
		return "no KVM_MEMTYPE_CAP_STAGE1";
	if (slot_flags && !(caps & KVM_MEMTYPE_CAP_FORCE_WB))
		return "no KVM_MEMTYPE_CAP_FORCE_WB";
	return NULL;
}

static inline bool have_probe(struct kvm_vcpu *vcpu)
{
	struct kvm_memtype_probe probe = {};

	/* What else can go wrong has other numbers. */
	return !__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe) ||
	       (errno != ENOTTY && errno != EINVAL && errno != EOPNOTSUPP);
}

/*
 * A cell of the matrix: the types of one access or of several. The harness does not flush
 * stdout when a test ends.
 */
static inline void print_types(const char *row, const char *types, bool forced)
{
	ksft_print_msg("memtype-cell: row=%s effective=%s forced=%s\n", row, types,
		       forced ? "yes" : "no");
	fflush(stdout);
}

static inline void print_type(const char *row, struct walked walked)
{
	print_types(row, kind_names[walked.kind], walked.forced);
}

/* A cell that says something else, which was seen */
static inline void print_cell(const char *row, const char *value)
{
	print_types(row, value, false);
}

static inline int get_memtype(struct kvm_vm *vm, uint64_t gpa, struct kvm_memtype *answer)
{
	*answer = (struct kvm_memtype) { .gpa = gpa };
	return __vm_ioctl(vm, KVM_GET_MEMTYPE, answer);
}

/* Returns what the guest says. */
static inline uint64_t run_to_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    vcpu->run->exit_reason);
	return uc.args[1];
}

static inline uint64_t let_guest(struct kvm_vcpu *vcpu, enum guest_op op, uint64_t gva,
				 uint64_t value)
{
	struct guest_command *command = &commands[vcpu->id];

	*command = (struct guest_command) { op, gva, value };
	sync_global_to_guest(vcpu->vm, commands);
	return run_to_sync(vcpu);
}

/* A VM with a policy (0: the host's default) and room for vCPUs. */
static inline struct kvm_vm *create_vm_without_vcpus(int nr_vcpus, uint64_t policy)
{
	struct kvm_vm *vm = vm_create(nr_vcpus);

	if (policy && have_layer())
		TEST_ASSERT(!__vm_enable_cap(vm, KVM_CAP_MEMTYPE, policy),
			    "KVM_CAP_MEMTYPE: %s", strerror(errno));
	return vm;
}

/* A vCPU that runs guest_main(). */
static inline struct kvm_vcpu *add_vcpu(struct kvm_vm *vm, int id)
{
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, id, guest_main);

	vcpu_args_set(vcpu, 1, id);
	init_guest_types(vcpu);
	return vcpu;
}

static inline struct kvm_vm *create_vm(struct kvm_vcpu *vcpus[], int nr_vcpus, uint64_t policy)
{
	struct kvm_vm *vm = create_vm_without_vcpus(nr_vcpus, policy);
	int i;

	for (i = 0; i < nr_vcpus; i++)
		vcpus[i] = add_vcpu(vm, i);
	return vm;
}

/* As if a device that does not snoop were assigned to the VM, or no longer. */
static inline void set_noncoherent_dma(struct kvm_vcpu *vcpu, bool on)
{
	vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE_DMA, (void *)(unsigned long)on);
}

/* A number in the debugfs directory that a VM of this process has. */
static inline uint64_t vm_statistic(struct kvm_vm *vm, const char *name)
{
	char path[128], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), vm->fd, name);
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0, "%s: %s", path,
		    strerror(errno));
	close(fd);
	return strtoull(text, NULL, 10);
}

/* Starts to record the trace event "<group>/<name>", or ends it. */
static inline void trace_event(const char *event, bool on)
{
	char path[128];

	if (on)
		TEST_ASSERT(!write_file(TRACING "/trace", ""), TRACING);
	snprintf(path, sizeof(path), TRACING "/events/%s/enable", event);
	TEST_ASSERT(!write_file(path, on ? "1" : "0"), "%s", path);
}

/* Whether a line of the trace has both texts. */
static inline bool trace_has(const char *first, const char *second)
{
	FILE *trace = fopen(TRACING "/trace", "r");
	bool found = false;
	char line[256];

	TEST_ASSERT(trace, TRACING);
	while (!found && fgets(line, sizeof(line), trace))
		found = strstr(line, first) && strstr(line, second);
	fclose(trace);
	return found;
}

/* The first line of a file of sysfs, if it is no longer than that. */
static inline void read_file(const char *path, char text[32])
{
	int fd = open(path, O_RDONLY);
	ssize_t length;

	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	length = read(fd, text, 31);
	text[length > 0 ? length : 0] = '\0';
	close(fd);
}

/* Of 2M: memtype_test has one for each type that a guest can choose, and nobody more. */
#define NR_HUGEPAGES	"8"

/* How many there were before */
static char saved_hugepages[32];

static inline void restore_hugepages(void)
{
	if (saved_hugepages[0])
		write_file(HUGEPAGES, saved_hugepages);
	saved_hugepages[0] = '\0';
}

/* Until restore_hugepages(), which happens too if TEST_ASSERT() ends the process. */
static inline void reserve_hugepages(void)
{
	read_file(HUGEPAGES, saved_hugepages);
	atexit(restore_hugepages);
	TEST_ASSERT(!write_file(HUGEPAGES, NR_HUGEPAGES), "no huge pages");
}

/* The table of the VM in debugfs */
static inline FILE *open_table(const struct kvm_vm *vm)
{
	char path[128];
	FILE *table;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/memtype", getpid(), vm->fd);
	table = fopen(path, "r");
	TEST_ASSERT(table, "%s: %s", path, strerror(errno));
	return table;
}

/* A file of the driver that maps what @setup says; -1 with errno if the driver refuses. */
static inline int driver_file(const struct memtype_test_setup *setup)
{
	int fd = open(DRIVER, O_RDWR), error;

	TEST_ASSERT(fd >= 0, DRIVER ": %s", strerror(errno));
	if (!ioctl(fd, MEMTYPE_TEST_SETUP, setup))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/*
 * Maps memory, or with @phys a device's, as @prot and @flags say (MEMTYPE_TEST_*);
 * 2M-aligned, or 1G-aligned if it is as large. Returns MAP_FAILED and sets errno if the
 * driver refuses.
 */
static inline void *map_host(uint64_t size, uint64_t phys, uint32_t prot, uint32_t flags)
{
	struct memtype_test_setup setup = {
		.size = size, .phys = phys, .prot = prot, .flags = flags,
	};
	uint64_t align = size < SZ_1G ? SZ_2M : SZ_1G;
	int fd = driver_file(&setup), error;
	void *hva;
	char *room;

	if (fd < 0)
		return MAP_FAILED;
	room = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(room != MAP_FAILED, "mmap: %s", strerror(errno));
	room += -(uintptr_t)room & (align - 1);
	hva = mmap(room, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	/* The mapping keeps the file open. */
	error = errno;
	close(fd);
	errno = error;
	return hva;
}

/* Moves a mapping to where another one may be. */
static inline void move_mapping(void *from, uint64_t size, void *to)
{
	TEST_ASSERT(mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to,
		    "mremap: %s", strerror(errno));
}

static inline bool have_driver(void)
{
	return !access(DRIVER, F_OK);
}

#define NO_DRIVER	"this kernel has no CONFIG_MEMTYPE_TEST"

/* The physical address of a device's first BAR. */
static inline uint64_t first_bar(const char *device)
{
	unsigned long long start = 0;
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/resource", device);
	file = fopen(path, "r");
	TEST_ASSERT(file && fscanf(file, "%llx", &start) == 1 && start, "%s", path);
	fclose(file);
	return start;
}

/* Lets a device decode accesses to its BARs, without which sysfs does not map them. */
static inline void enable_device(const char *device)
{
	char path[512];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/enable", device);
	TEST_ASSERT(!write_file(path, "1"), "%s: %s", path, strerror(errno));
}

/* The display's directory in PCI_DEVICES, with BARs that can be mapped; false if there is none. */
static inline bool find_display(char device[NAME_MAX + 1])
{
	if (!find_pci(device, "0x1234", "0x1111"))
		return false;
	enable_device(device);
	return true;
}

/* Maps the first BAR of a device by sysfs, after enable_device(); @flags as of mmap() */
static inline void *map_first_bar(const char *device, uint64_t size, int flags)
{
	char path[512];
	void *bar;
	int fd;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/resource0", device);
	fd = open(path, O_RDWR);
	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	bar = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	TEST_ASSERT(bar != MAP_FAILED, "%s: %s", path, strerror(errno));
	close(fd);
	return bar;
}

/* Where the display's frame buffer is, a BAR that is prefetchable; 0 if there is none. */
static inline uint64_t frame_buffer(void)
{
	char device[NAME_MAX + 1];

	return find_display(device) ? first_bar(device) : 0;
}

/* What tests have of it, or of the driver's memory */
#define HOST_SIZE	SZ_2M

#define ONLY_RAM	"pKVM's hypervisor maps only memory that the host caches"

#endif /* SELFTEST_KVM_MEMTYPE_H */
