/* SPDX-License-Identifier: GPL-2.0-only */
/* A test instrument: what the handler of a guest's aborts calls. */
#ifndef __ASM_KVM_MEMTYPE_PROBE_H
#define __ASM_KVM_MEMTYPE_PROBE_H

struct kvm_vcpu;

#ifdef CONFIG_KVM_MEMTYPE_PROBE
void kvm_memtype_probe_abort(struct kvm_vcpu *vcpu);
#else
static inline void kvm_memtype_probe_abort(struct kvm_vcpu *vcpu)
{
}
#endif

#endif /* __ASM_KVM_MEMTYPE_PROBE_H */
