// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host of the memory-type tests is: do KVM and IOMMUFD work on it, and
 * which of the CPU features does it have that decide about memory types?
 *
 * A feature is neither good nor bad in itself, so each is reported as a cell of
 * the test matrix ("# memtype-cell: ..."), to be compared with what that machine
 * is expected to have; see tools/testing/memtype/README.rst.
 */
#include <linux/iommufd.h>

#include "memtype_guest.h"

static void report(const char *feature, bool present)
{
	ksft_print_msg("memtype-cell: row=%s effective=%s forced=no\n",
		       feature, present ? "yes" : "no");
}

/* Whether the line @key of /proc/cpuinfo has the word @flag. */
static bool cpuinfo_has(const char *key, const char *flag)
{
	FILE *cpuinfo = fopen("/proc/cpuinfo", "r");
	char *line = NULL, *save, *word;
	bool found = false;
	size_t size = 0;

	TEST_ASSERT(cpuinfo, "cannot open /proc/cpuinfo");
	while (!found && getline(&line, &size, cpuinfo) > 0) {
		if (strncmp(line, key, strlen(key)) || !strchr("\t ", line[strlen(key)]))
			continue;
		for (word = strtok_r(strchr(line, ':'), ":\n ", &save); word && !found;
		     word = strtok_r(NULL, ":\n ", &save))
			found = !strcmp(word, flag);
	}
	free(line);
	fclose(cpuinfo);
	return found;
}

#ifdef __x86_64__
/* What KVM takes an entry for that has PWT alone: WC in Linux's PAT, WT without ("nopat"). */
static void report_pwt(void)
{
	struct kvm_memtype answer;
	struct kvm_vm *vm;
	void *hva;

	if (!have_layer() || !have_driver())
		return;
	hva = map_host(SZ_4K, 0, MEMTYPE_TEST_PWT, MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_UNTRACKED);
	TEST_ASSERT(hva != MAP_FAILED, "mmap: %s", strerror(errno));
	vm = vm_create_barebones();
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, hva);
	TEST_ASSERT(!get_memtype(vm, TEST_GPA, &answer), "KVM_GET_MEMTYPE: %s", strerror(errno));
	ksft_print_msg("memtype-cell: row=KVM: host type of PWT effective=%s forced=no\n",
		       kind_names[answer.host]);
	kvm_vm_free(vm);
}

static void report_features(void)
{
	report("CPU: VMX", cpuinfo_has("flags", "vmx"));
	report("CPU: SVM", cpuinfo_has("flags", "svm"));
	/* As the kernel sees it: it clears the flag where self-snoop has errata. */
	report("CPU: self-snoop", cpuinfo_has("flags", "ss"));
	report("CPU: PAT", cpuinfo_has("flags", "pat"));
	report("CPU: CLFLUSHOPT", cpuinfo_has("flags", "clflushopt"));
	report("CPU: CLWB", cpuinfo_has("flags", "clwb"));
	report("KVM: EPT", host_cpu_is_intel && get_kvm_intel_param_bool("ept"));
	report("KVM: NPT", host_cpu_is_amd && get_kvm_amd_param_bool("npt"));
	report_pwt();
}
#endif

#ifdef __aarch64__
/* Arm ARM D24.2: ID_AA64MMFR2_EL1.FWB (stage-2 forced write-back), CTR_EL0.DIC. */
#define MMFR2_FWB_SHIFT	40
#define CTR_DIC_SHIFT	29

/*
 * No file says it; but only with VHE does the CPU answer the instrument, and the instrument cannot
 * look into what pKVM's hypervisor writes.
 */
static void report_mode(void)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA, .gva = TEST_GVA };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm(&vcpu, 1, 0);
	bool probed = have_probe(vcpu);

	if (probed || errno == EOPNOTSUPP)
		report("KVM: stage 2 by pKVM", !probed);
	if (probed) {
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
					    vm_adjust_num_guest_pages(vm->mode, 1), 0);
		map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
		let_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
		vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe);
		report("KVM: VHE", probe.par_valid);
	}
	kvm_vm_free(vm);
}

static void report_features(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 mmfr2, ctr;

	/* Not visible at EL0; KVM shows a vCPU what the host's CPUs have in common. */
	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	mmfr2 = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_ID_AA64MMFR2_EL1));
	kvm_vm_free(vm);
	asm volatile("mrs %0, ctr_el0" : "=r" (ctr));

	report("CPU: FWB", (mmfr2 >> MMFR2_FWB_SHIFT) & 0xf);
	report("CPU: DIC", (ctr >> CTR_DIC_SHIFT) & 1);
	/* As the kernel sees it: without tag memory, the CPU's instructions are of no use. */
	report("CPU: MTE", cpuinfo_has("Features", "mte"));
	report("KVM: MTE", kvm_has_cap(KVM_CAP_ARM_MTE));
	report_mode();
}
#endif

static bool iommufd_works(void)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	int fd = open("/dev/iommu", O_RDWR);
	bool works = fd >= 0 && !ioctl(fd, IOMMU_IOAS_ALLOC, &alloc) && alloc.out_ioas_id;

	close(fd);
	return works;
}

int main(void)
{
	struct kvm_vm *vm;
	int fd;

	ksft_print_header();
	ksft_set_plan(3);

	fd = open("/dev/kvm", O_RDWR);
	ksft_test_result(fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION,
			 "/dev/kvm speaks API version %d\n", KVM_API_VERSION);
	close(fd);

	vm = vm_create_barebones();
	ksft_test_result(vm->fd >= 0, "KVM creates a VM\n");
	kvm_vm_free(vm);

	if (access("/dev/iommu", F_OK))
		ksft_test_result_skip("this kernel has no IOMMUFD\n");
	else
		ksft_test_result(iommufd_works(), "/dev/iommu allocates an IOAS\n");

	print_cell("kernel: pages", page_name());
	report_features();
	ksft_finished();
}
