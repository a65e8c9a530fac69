// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_MEMTYPE_PROBE on arm64: the stage-2 leaf entry, and with VHE also what the
 * CPU itself makes of stage 1 and stage 2 together. KVM_MEMTYPE_PROBE_ABORT: aborts
 * that no emulator raises.
 */
#include <linux/kvm_host.h>
#include <asm/esr.h>
#include <asm/kvm_asm.h>
#include <asm/kvm_emulate.h>
#include <asm/kvm_memtype_base.h>
#include <asm/kvm_memtype_probe.h>
#include <asm/kvm_pgtable.h>
#include <asm/sysreg.h>

#include "../../../virt/kvm/memtype_probe.h"

/*
 * PAR_EL1 after AT S12E1R. The vCPU is loaded, so that its EL1 registers and its
 * stage 2 are the CPU's; what is missing is HCR_EL2 as it is while the guest
 * runs. With E2H, the kernel's own translations do not depend on TGE.
 */
static u64 kvm_memtype_translate(struct kvm_vcpu *vcpu, u64 gva)
{
	u64 hcr, guest_par, par;
	unsigned long flags;

	local_irq_save(flags);
	hcr = read_sysreg(hcr_el2);
	guest_par = read_sysreg_par();
	write_sysreg(vcpu->arch.hcr_el2 & ~HCR_TGE, hcr_el2);
	isb();
	par = __kvm_at(OP_AT_S12E1R, gva) ? SYS_PAR_EL1_F : read_sysreg_par();
	write_sysreg(guest_par, par_el1);
	write_sysreg(hcr, hcr_el2);
	isb();
	local_irq_restore(flags);
	return par;
}

int kvm_arch_memtype_probe(struct kvm_vcpu *vcpu, struct kvm_memtype_probe *probe)
{
	struct kvm_pgtable *pgt;
	kvm_pte_t leaf = 0;
	s8 level;
	int ret;

	if (!kvm_memtype_has_stage2())
		return -EOPNOTSUPP;

	/* Only then HCR_EL2 is what the guest runs with. */
	if (!vcpu_has_run_once(vcpu))
		return -ENOENT;

	write_lock(&vcpu->kvm->mmu_lock);
	pgt = vcpu->arch.hw_mmu->pgt;
	ret = pgt ? kvm_pgtable_get_leaf(pgt, probe->gpa, &leaf, &level) : -ENOENT;
	write_unlock(&vcpu->kvm->mmu_lock);
	if (ret || !kvm_pte_valid(leaf))
		return -ENOENT;

	probe->leaf = leaf;
	probe->size = kvm_granule_size(level);
	probe->format = KVM_MEMTYPE_PROBE_STAGE2;
	probe->par_valid = has_vhe();
	probe->par = has_vhe() ? kvm_memtype_translate(vcpu, probe->gva) : 0;
	return 0;
}

int kvm_arch_memtype_set_abort(struct kvm_vcpu *vcpu, const struct kvm_memtype_probe_abort *abort)
{
	vcpu->arch.memtype_abort.gva = abort->gva;
	vcpu->arch.memtype_abort.iss = abort->iss & ESR_ELx_ISS_MASK;
	return 0;
}

/**
 * kvm_memtype_probe_abort - let an abort be what KVM_MEMTYPE_PROBE_ABORT asked for
 * @vcpu: the vCPU, which aborted at stage 2
 *
 * HPFAR_EL2 is UNKNOWN after what is neither a translation nor an access flag nor a
 * permission fault (Arm ARM DDI 0487, "HPFAR_EL2"; KVM finds out about the last of
 * these by itself, and newer kernels about all). It then has an address that no memslot
 * can have.
 *
 * Context: In the handler of the abort, before anything else.
 */
void kvm_memtype_probe_abort(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_fault_info *fault = &vcpu->arch.fault;
	u32 iss = vcpu->arch.memtype_abort.iss;

	if (!iss || kvm_vcpu_trap_is_iabt(vcpu) || kvm_vcpu_abt_iss1tw(vcpu) ||
	    kvm_vcpu_get_hfar(vcpu) != vcpu->arch.memtype_abort.gva)
		return;

	vcpu->arch.memtype_abort.iss = 0;
	fault->esr_el2 = (fault->esr_el2 & (ESR_ELx_EC_MASK | ESR_ELx_IL)) | iss;
	if (!KVM_MEMTYPE_KNOWS_IPA &&
	    !esr_fsc_is_translation_fault(iss) && !esr_fsc_is_access_flag_fault(iss) &&
	    !esr_fsc_is_permission_fault(iss))
		fault->hpfar_el2 = HPFAR_MASK;
}
