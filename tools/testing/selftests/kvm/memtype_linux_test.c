// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of ioremap_wc() in a Linux guest?
 *
 * Boots the kernel and initrd that the test's own initramfs holds, with RAM, two
 * regions of "video memory" outside of it, KVM's interrupt controllers and
 * timer, and a serial port; no firmware, no PCI. The guest runs
 * memtype/ioremap_wc, which has its kernel map the video memory and says where.
 * For each mapping four things are looked at:
 *
 *  - the guest's own page tables and PAT: what its kernel asks for;
 *  - the second-stage leaf entry, and with it the type that the CPU uses;
 *  - what KVM_GET_MEMTYPE says;
 *  - in Bochs, what the CPU walked ("# memtype-probe:", see memtype_test.c).
 *
 * Where it has VMX, the guest first runs a guest of its own, see memtype_l1_test.c.
 */
#include <asm/bootparam.h>
#include <linux/serial_reg.h>

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_guest.h"

#define KERNEL		"/memtype/guest/kernel"
#define INITRD		"/memtype/guest/initrd"

#define RAM_SLOT	0
#define VIDEO_SLOT	1
#define FORCED_SLOT	2
#define RAM_SIZE	SZ_256M
#define VIDEO_GPA	0xc0000000ul
#define FORCED_GPA	0xd0000000ul

/* Guest physical addresses of what the kernel is handed. */
#define BOOT_PARAMS_GPA	0x10000ul
#define CMDLINE_GPA	0x20000ul
#define LOW_RAM_END	0x9f000ul
#define INITRD_GPA	(RAM_SIZE / 2)

#define COM1		0x3f8
#define COM1_REGISTERS	8
#define RTC_DATA	0x71

/* Documentation/arch/x86/boot.rst: the kernel's GDT has these, too. */
#define BOOT_CS		0x10
#define BOOT_DS		0x18
#define HEADER_MAGIC	0x53726448	/* "HdrS" */
#define BOOT_LOADER	0xff
#define E820_RAM	1
#define MTRR_DEF_TYPE	0x2ff
#define MTRR_ENABLED	BIT(11)
#define PTE_PRESENT	BIT_ULL(0)
#define PTE_LARGE	BIT_ULL(7)

#define OUTPUT		"console=ttyS0 loglevel=5 printk.devkmsg=on kunit.enable=0"
/* Neither ACPI nor an MP table; "ht" and XSAVE as in machines.toml. */
#define MACHINE		"acpi=off noapic clearcpuid=ht noxsave tsc=reliable"

/* What the guest's kernel is told to map, and what it must choose then; gpa 0 is any RAM. */
static const struct mapping {
	const char *row;
	const char *type;
	uint64_t gpa;
	uint8_t kind;
} mappings[] = {
	{ "ioremap_wc", "wc", VIDEO_GPA, KVM_MEMTYPE_WC },
	{ "ioremap", "uc", VIDEO_GPA + SZ_4K, KVM_MEMTYPE_UC_MINUS },
	{ "RAM", "wb", 0, KVM_MEMTYPE_WB },
	{ "ioremap_wc of a forced slot", "wc", FORCED_GPA, KVM_MEMTYPE_WC },
};

/* The type that an entry of a guest's PAT stands for (Intel SDM vol. 3, table 13-10). */
static const uint8_t pat_kinds[8] = {
	[0] = KVM_MEMTYPE_UC, [1] = KVM_MEMTYPE_WC, [4] = KVM_MEMTYPE_WT,
	[5] = KVM_MEMTYPE_WP, [6] = KVM_MEMTYPE_WB, [7] = KVM_MEMTYPE_UC_MINUS,
};

struct guest {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	uint8_t com1[COM1_REGISTERS];
	char line[1024];	/* of the guest's console, as far as it is printed */
	size_t length;
	int nr_mappings;	/* in this VM */
	int nr_mapped;		/* that the guest has told of */
	uint64_t gva[ARRAY_SIZE(mappings)];
	int l1_exit;		/* of memtype_l1_test */
	bool l1_skipped;	/* a test of it */
	bool ready;
};

FIXTURE(linux_guest)
{
	struct guest guest;
};

FIXTURE_VARIANT(linux_guest)
{
	const char *name;
	uint64_t policy;
	bool vmx;
};

FIXTURE_VARIANT_ADD(linux_guest, honor) {
	.name = "Linux guest: %s", .policy = KVM_MEMTYPE_POLICY_HONOR, .vmx = true,
};

/* Without a guest of its own, of which it would say what is not so. */
FIXTURE_VARIANT_ADD(linux_guest, legacy) {
	.name = "legacy: Linux guest: %s", .policy = KVM_MEMTYPE_POLICY_LEGACY,
};

/* Copies the file from @offset on to guest physical memory; returns how much that is. */
static size_t load_file(struct kvm_vm *vm, const char *path, size_t offset, uint64_t gpa)
{
	int fd = open(path, O_RDONLY);
	off_t size;

	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	size = lseek(fd, 0, SEEK_END) - offset;
	TEST_ASSERT(pread(fd, addr_gpa2hva(vm, gpa), size, offset) == size, "%s: %s", path,
		    strerror(errno));
	close(fd);
	return size;
}

static void load_linux(struct guest *guest)
{
	struct boot_params *params = addr_gpa2hva(guest->vm, BOOT_PARAMS_GPA);
	char *cmdline = addr_gpa2hva(guest->vm, CMDLINE_GPA);
	struct setup_header *header = &params->hdr;
	int i, fd = open(KERNEL, O_RDONLY);

	TEST_ASSERT(fd >= 0, KERNEL ": %s", strerror(errno));
	TEST_ASSERT(pread(fd, header, sizeof(*header),
			  offsetof(struct boot_params, hdr)) == sizeof(*header), KERNEL);
	close(fd);
	TEST_ASSERT(header->header == HEADER_MAGIC, KERNEL " is no bzImage");

	load_file(guest->vm, KERNEL, (header->setup_sects + 1) * 512, header->code32_start);
	header->type_of_loader = BOOT_LOADER;
	header->ramdisk_image = INITRD_GPA;
	header->ramdisk_size = load_file(guest->vm, INITRD, 0, INITRD_GPA);
	header->cmd_line_ptr = CMDLINE_GPA;
	params->e820_table[0] = (struct boot_e820_entry) { 0, LOW_RAM_END, E820_RAM };
	params->e820_table[1] = (struct boot_e820_entry) { SZ_1M, RAM_SIZE - SZ_1M, E820_RAM };
	params->e820_entries = 2;

	cmdline += sprintf(cmdline, OUTPUT " " MACHINE " tsc_early_khz=%d ioremap=",
			   __vm_ioctl(guest->vm, KVM_GET_TSC_KHZ, NULL));
	for (i = 0; i < guest->nr_mappings; i++)
		cmdline += sprintf(cmdline, "%s%#lx:%s", i ? "," : "", mappings[i].gpa,
				   mappings[i].type);
}

/* Documentation/arch/x86/boot.rst, 32-bit boot protocol: flat segments, no paging. */
static void enter_linux(struct guest *guest)
{
	struct boot_params *params = addr_gpa2hva(guest->vm, BOOT_PARAMS_GPA);
	struct kvm_segment flat = {
		.limit = -1, .selector = BOOT_DS, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_regs regs = {
		.rip = params->hdr.code32_start, .rsi = BOOT_PARAMS_GPA, .rflags = 2,
	};
	struct kvm_sregs sregs;

	vcpu_sregs_get(guest->vcpu, &sregs);
	sregs.ds = flat;
	sregs.es = flat;
	sregs.ss = flat;
	flat.selector = BOOT_CS;
	flat.type = 11;
	sregs.cs = flat;
	sregs.cr0 |= X86_CR0_PE;
	vcpu_sregs_set(guest->vcpu, &sregs);
	vcpu_regs_set(guest->vcpu, &regs);
	/* As firmware leaves them: without MTRRs, nothing would be cacheable. */
	vcpu_set_msr(guest->vcpu, MTRR_DEF_TYPE, MTRR_ENABLED | 6);
}

/* A machine that is about to boot. */
static void create_guest(struct guest *guest, uint64_t policy, bool vmx)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint32_t flags = 0;
	struct kvm_vm *vm;

	/* KVM offers the CPUID of the CPU that asks; the APIC id in it is to be the guest's. */
	pin_self_to_cpu(0);
	vm = vm_create_barebones();
	TEST_ASSERT(!__vm_enable_cap(vm, KVM_CAP_MEMTYPE, policy), "KVM_CAP_MEMTYPE: %s",
		    strerror(errno));
	vm_create_irqchip(vm);
	vm_ioctl(vm, KVM_CREATE_PIT2, &pit);
	if (vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_FORCE_WB)
		flags = KVM_MEM_FORCE_WB;
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS_THP, 0, RAM_SLOT,
				    RAM_SIZE / SZ_4K, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, VIDEO_GPA, VIDEO_SLOT, 2, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, FORCED_GPA, FORCED_SLOT, 1, flags);

	guest->vm = vm;
	guest->vcpu = __vm_vcpu_add(vm, 0);
	vcpu_init_cpuid(guest->vcpu, kvm_get_supported_cpuid());
	if (!vmx)
		vcpu_clear_cpuid_feature(guest->vcpu, X86_FEATURE_VMX);
	vcpu_clear_cpuid_feature(guest->vcpu, X86_FEATURE_SVM);
	/* The last mapping is of the forced slot. */
	guest->nr_mappings = ARRAY_SIZE(mappings) - !flags;
	load_linux(guest);
	enter_linux(guest);
}

FIXTURE_SETUP(linux_guest)
{
	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (access(KERNEL, F_OK))
		SKIP(return, "there is no kernel for a guest here: " KERNEL);
	create_guest(&self->guest, variant->policy, variant->vmx);
	if (!have_probe(self->guest.vcpu))
		SKIP(return, NO_PROBE);
}

FIXTURE_TEARDOWN(linux_guest)
{
	kvm_vm_free(self->guest.vm);
}

/* A line of the guest's console. What its programs print is passed on by init. */
static void see_line(struct guest *guest)
{
	const char *text = strstr(guest->line, "memtype| ");
	unsigned long gpa, gva, value;
	char type[3];

	/* What it says of a guest of its own is for the runner, as if said here. */
	if (text && !strncmp(text, "memtype| # memtype-", 19)) {
		ksft_print_msg("%s\n", text + strlen("memtype| # "));
		return;
	}
	ksft_print_msg("guest: %s\n", guest->line);
	if (sscanf(guest->line, "%*[^>]> end kvm/memtype_l1_test exit=%d", &guest->l1_exit) == 1)
		return;
	TEST_ASSERT(!strstr(guest->line, "reboot: ") && !strstr(guest->line, "Call Trace:"),
		    "The guest ended, or is broken");
	if (!text)
		return;
	text += strlen("memtype| ");
	guest->l1_skipped |= !strncmp(text, "ok ", 3) && strstr(text, " # SKIP ");
	guest->ready = !strcmp(text, "mapped all");
	if (sscanf(text, "mapped %lx as %2s at %lx: %lx", &gpa, type, &gva, &value) != 4)
		return;
	TEST_ASSERT(guest->nr_mapped < guest->nr_mappings && value == ~gpa &&
		    gpa == mappings[guest->nr_mapped].gpa &&
		    !strcmp(type, mappings[guest->nr_mapped].type), "unexpected: %s", text);
	guest->gva[guest->nr_mapped++] = gva;
}

/* As much of a 8250 as its driver wants to see; it is always ready. */
static void access_com1(struct guest *guest, int reg, bool out, uint8_t *data)
{
	if (guest->com1[UART_LCR] & UART_LCR_DLAB && reg <= UART_DLM)
		return;
	if (out && reg == UART_TX && *data == '\n') {
		guest->line[guest->length] = '\0';
		guest->length = 0;
		see_line(guest);
	} else if (out && reg == UART_TX) {
		if (*data != '\r' && guest->length < sizeof(guest->line) - 1)
			guest->line[guest->length++] = *data;
	} else if (out) {
		guest->com1[reg] = reg == UART_IER ? *data & 0xf : *data;
	} else if (reg == UART_IIR) {
		*data = UART_IIR_NO_INT;
	} else if (reg == UART_LSR) {
		*data = UART_LSR_TEMT | UART_LSR_THRE;
	} else if (reg == UART_MSR) {
		*data = UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	} else {
		*data = guest->com1[reg];
	}
}

static void access_port(struct guest *guest)
{
	struct kvm_run *run = guest->vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;

	/* Nobody is there, but a clock that stands still. */
	if (!out)
		memset(data, run->io.port == RTC_DATA ? 0 : 0xff, run->io.size * run->io.count);
	if (run->io.port >= COM1 && run->io.port < COM1 + COM1_REGISTERS)
		access_com1(guest, run->io.port - COM1, out, data);
}

static void run_linux(struct guest *guest)
{
	struct kvm_run *run = guest->vcpu->run;

	while (!guest->ready) {
		vcpu_run(guest->vcpu);
		if (run->exit_reason == KVM_EXIT_IO)
			access_port(guest);
		else if (run->exit_reason == KVM_EXIT_MMIO)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		else
			TEST_FAIL("exit reason %u", run->exit_reason);
	}
}

/* Walks the guest's page tables: where @gva leads to, and with which type. */
static uint64_t walk_guest(struct guest *guest, uint64_t gva, uint8_t *kind)
{
	struct kvm_sregs sregs;
	uint64_t pte, size;
	int level, entry;

	vcpu_sregs_get(guest->vcpu, &sregs);
	pte = sregs.cr3;
	for (level = PG_LEVEL_512G;; level--) {
		uint64_t *table = addr_gpa2hva(guest->vm, pte & PHYSICAL_PAGE_MASK);

		pte = table[gva >> PG_LEVEL_SHIFT(level) & 511];
		TEST_ASSERT(pte & PTE_PRESENT, "entry %lx of level %d", pte, level);
		if (level == PG_LEVEL_4K || pte & PTE_LARGE)
			break;
	}
	size = PG_LEVEL_SIZE(level);
	/* In a 4K entry, that is the third bit of the index, which Linux has no use for here. */
	TEST_ASSERT(level > PG_LEVEL_4K || !(pte & PTE_LARGE), "entry %lx", pte);
	entry = pte / PTE_PWT & 3;
	*kind = pat_kinds[vcpu_get_msr(guest->vcpu, MSR_IA32_CR_PAT) >> entry * 8 & 7];
	return (pte & PHYSICAL_PAGE_MASK & ~(size - 1)) | (gva & (size - 1));
}

static void check_mapping(struct __test_metadata *_metadata, struct guest *guest,
			  const char *row, const struct mapping *mapping, uint64_t gva)
{
	struct kvm_memtype_probe probe = {};
	struct kvm_memtype answer;
	struct walked walked;
	uint8_t kind;

	probe.gpa = walk_guest(guest, gva, &kind);
	EXPECT_EQ(kind, mapping->kind);
	if (mapping->gpa)
		EXPECT_EQ(probe.gpa, mapping->gpa);
	/* What the guest wrote is there. */
	EXPECT_EQ(*(uint64_t *)addr_gpa2hva(guest->vm, probe.gpa), ~mapping->gpa);

	TEST_ASSERT(!__vcpu_ioctl(guest->vcpu, KVM_MEMTYPE_PROBE, &probe), "probe: %s",
		    strerror(errno));
	walked = walked_kind(&probe, kind);
	expect_walk(row, gva, &probe, kind);
	ASSERT_EQ(get_memtype(guest->vm, probe.gpa, &answer), 0);
	EXPECT_EQ(answer.effective[kind], walked.kind);
	EXPECT_EQ(!!(answer.attributes & KVM_MEMTYPE_ATTR_FORCED), walked.forced);
	print_type(row, walked);
}

TEST_F(linux_guest, mappings)
{
	struct guest *guest = &self->guest;
	char row[64];
	int i;

	guest->l1_exit = -1;
	run_linux(guest);
	/* To the harness, a test that is skipped has passed; newer kernels skip the program. */
	if (guest->l1_exit == KSFT_SKIP)
		guest->l1_skipped = true;
	else
		EXPECT_EQ(guest->l1_exit, 0);
	EXPECT_EQ(guest->l1_skipped, !variant->vmx);
	ASSERT_EQ(guest->nr_mapped, guest->nr_mappings);
	for (i = 0; i < guest->nr_mapped; i++) {
		snprintf(row, sizeof(row), variant->name, mappings[i].row);
		check_mapping(_metadata, guest, row, &mappings[i], guest->gva[i]);
	}
}

TEST_HARNESS_MAIN
