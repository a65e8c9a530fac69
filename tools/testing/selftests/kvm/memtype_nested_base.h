/* SPDX-License-Identifier: GPL-2.0-only */
/* As memtype_base.h, for L1's that have an L2. */
#ifndef SELFTEST_KVM_MEMTYPE_NESTED_BASE_H
#define SELFTEST_KVM_MEMTYPE_NESTED_BASE_H

#include "memtype_base.h"
#include "svm_util.h"
#include "vmx.h"

#ifndef SELFTEST_KVM_SYSCALLS_H
/* The functions of these names take the top of a stack. */
#define prepare_vmcs(vmx, rip)		((prepare_vmcs)(vmx, rip, NULL))
#define generic_svm_setup(svm, rip)	((generic_svm_setup)(svm, rip, NULL))

#define misc_ctl			nested_ctl
#define SVM_MISC_ENABLE_NP		SVM_NESTED_CTL_NP_ENABLE

/* With an EPT that is empty */
static inline struct vmx_pages *nested_alloc_vmx(struct kvm_vm *vm, gva_t *vmx_gva)
{
	struct vmx_pages *vmx = vcpu_alloc_vmx(vm, vmx_gva);

	prepare_eptp(vmx, vm, 0);
	return vmx;
}

static inline void nested_map_pages(struct vmx_pages *vmx, struct kvm_vm *vm, uint64_t l2_gpa,
				    uint64_t gpa, uint64_t size)
{
	nested_map(vmx, vm, l2_gpa, gpa, size);
}

/* All that L1 has from the library, at the same address */
static inline void nested_map_library(struct vmx_pages *vmx, struct kvm_vm *vm)
{
	nested_map_memslot(vmx, vm, 0);
}
#else
static inline struct vmx_pages *nested_alloc_vmx(struct kvm_vm *vm, gva_t *vmx_gva)
{
	vm_enable_ept(vm);
	return vcpu_alloc_vmx(vm, vmx_gva);
}

static inline void nested_map_pages(struct vmx_pages *vmx, struct kvm_vm *vm, uint64_t l2_gpa,
				    uint64_t gpa, uint64_t size)
{
	tdp_map(vm, l2_gpa, gpa, size);
}

static inline void nested_map_library(struct vmx_pages *vmx, struct kvm_vm *vm)
{
	tdp_identity_map_default_memslots(vm);
}
#endif

#endif /* SELFTEST_KVM_MEMTYPE_NESTED_BASE_H */
