/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the kernels that this layer is built for differ: it uses the names of the newest
 * one, and here is what an older one has in their place.
 */
#ifndef __ASM_KVM_MEMTYPE_BASE_H
#define __ASM_KVM_MEMTYPE_BASE_H

#include <asm/memory.h>
#include <asm/sysreg.h>
#include <asm/virt.h>

#ifdef MT_S2_FWB_AS_S1
/* Not even the host of pKVM turns FWB off. */
#define KVM_PGTABLE_S2_NOFWB		0

/* KVM's own choice was not always Device for what is not memory. */
#define KVM_MEMTYPE_LEGACY_IS_DEVICE	false

/* With pKVM, its hypervisor writes the stage 2 of all guests, and the host cannot walk it. */
#define kvm_memtype_has_stage2()	(!is_protected_kvm_enabled())
#else
/*
 * With FWB: use what stage 1 says. Arm ARM DDI 0487, section D8.6, R_RHWZM:
 * MemAttr[2:0] = 0b111 and MemAttr[3] = 0.
 */
#define MT_S2_FWB_AS_S1			7

#define KVM_MEMTYPE_LEGACY_IS_DEVICE	true
#define kvm_memtype_has_stage2()	true
#endif

/* Whether KVM translates FAR_EL2 where HPFAR_EL2 is not valid */
#ifdef HPFAR_EL2_NS
#define KVM_MEMTYPE_KNOWS_IPA		true
#else
#define KVM_MEMTYPE_KNOWS_IPA		false
#endif

#endif /* __ASM_KVM_MEMTYPE_BASE_H */
