/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the libraries of KVM's selftests differ that these tests are built with: they use
 * the names of the newest one, and here is what an older one has in their place.
 */
#ifndef SELFTEST_KVM_MEMTYPE_BASE_H
#define SELFTEST_KVM_MEMTYPE_BASE_H

#include "kvm_util.h"
#include "processor.h"

/* Whether this is the older one */
#ifndef SELFTEST_KVM_SYSCALLS_H
#define gva_t			vm_vaddr_t
#define pin_self_to_cpu		kvm_pin_this_task_to_pcpu

/* Before 6.17, KVM on arm64 mapped nothing cacheable that is no memory. */
#define LEGACY_IS_DEVICE	true

/* Its kernel has none of these. */
#define KVM_CAP_GUEST_MEMFD_FLAGS	244
#define GUEST_MEMFD_FLAG_MMAP		BIT_ULL(0)
#define GUEST_MEMFD_FLAG_INIT_SHARED	BIT_ULL(1)

/* The newest one keeps file descriptors of statistics, each of which keeps the VM. */
static inline void close_statistics(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
}

/* The function of this name takes where to put the value. */
#define vcpu_get_reg(vcpu, id)						       \
({									       \
	uint64_t __value;						       \
									       \
	(vcpu_get_reg)(vcpu, id, &__value);				       \
	__value;							       \
})

#ifdef __x86_64__
#define vm_get_pte		vm_get_page_table_entry
#endif

#ifdef __aarch64__
#define ESR_ELx_EC_DABT_CUR	ESR_EC_DABT
#define ESR_ELx_EC_IABT_CUR	ESR_EC_IABT
#define ESR_ELx_EC(esr)		((esr) >> ESR_EC_SHIFT & ESR_EC_MASK)

#define PTE_ATTRINDX(index)	((uint64_t)(index) << 2)
#define PTE_VALID		BIT_ULL(0)
#endif
#else
#define LEGACY_IS_DEVICE	false

static inline void close_statistics(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	close(vcpu->stats.fd);
	close(vm->stats.fd);
}

#ifdef __aarch64__
/* The newest one gives each VM an interrupt controller, which wants to be set up. */
static void __attribute__((constructor)) memtype_no_vgic(void)
{
	test_disable_default_vgic();
}
#endif
#endif

#endif /* SELFTEST_KVM_MEMTYPE_BASE_H */
