/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A test instrument: what the second-stage page tables of a vCPU really have at
 * an address, on any kernel, with guest memory types or without. Shared with
 * tools/testing/selftests/kvm/memtype_test.c; not an ABI.
 */
#ifndef __KVM_MEMTYPE_PROBE_H
#define __KVM_MEMTYPE_PROBE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* How @leaf is to be read. */
#define KVM_MEMTYPE_PROBE_EPT		1
#define KVM_MEMTYPE_PROBE_NPT		2
#define KVM_MEMTYPE_PROBE_STAGE2	3
#define KVM_MEMTYPE_PROBE_SHADOW	4	/* entry of the host's PAT, on VMX of the guest's */

/**
 * struct kvm_memtype_probe - argument of KVM_MEMTYPE_PROBE, a vCPU ioctl
 * @gpa: in: guest physical address, in bytes; L2's if that ran last, in page tables
 *	of L1's (x86)
 * @gva: in: guest virtual address that the guest maps to it (arm64; on x86, by which
 *	shadow paging has it)
 * @leaf: out: the leaf entry, as the CPU reads it
 * @size: out: number of bytes that it maps
 * @format: out: KVM_MEMTYPE_PROBE_*
 * @par_valid: out: @par is the CPU's answer (arm64, VHE)
 * @mtrr: out: memory type of the host's MTRRs (x86)
 * @padding: unused
 * @par: out: PAR_EL1 after AT S12E1R of @gva, with the vCPU's own stage 1
 */
struct kvm_memtype_probe {
	__u64 gpa;
	__u64 gva;
	__u64 leaf;
	__u64 size;
	__u8 format;
	__u8 par_valid;
	__u8 mtrr;
	__u8 padding[5];
	__u64 par;
};

#define KVM_MEMTYPE_PROBE	_IOWR(0xAE, 0xf5, struct kvm_memtype_probe)

/*
 * A vCPU ioctl: gives the VM a device whose DMA does not snoop (1), or takes one
 * away again (0), as assigning a real one would. Each 0 needs a 1 before it.
 */
#define KVM_MEMTYPE_PROBE_DMA	_IO(0xAE, 0xf6)

/**
 * struct kvm_memtype_probe_abort - argument of KVM_MEMTYPE_PROBE_ABORT, a vCPU ioctl (arm64)
 * @gva: in: guest virtual address, as FAR_EL2 has it
 * @iss: in: bits 24:0 of ESR_EL2; 0: no longer
 * @padding: unused
 *
 * The next data abort that an access to @gva takes to KVM, other than one of the page
 * table walk, then has @iss.
 */
struct kvm_memtype_probe_abort {
	__u64 gva;
	__u32 iss;
	__u32 padding;
};

#define KVM_MEMTYPE_PROBE_ABORT	_IOW(0xAE, 0xf7, struct kvm_memtype_probe_abort)

#ifdef __KERNEL__
#include <linux/errno.h>

struct kvm_vcpu;

#ifdef CONFIG_KVM_MEMTYPE_PROBE
long kvm_memtype_probe_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl, unsigned long arg);
int kvm_arch_memtype_probe(struct kvm_vcpu *vcpu, struct kvm_memtype_probe *probe);
int kvm_arch_memtype_set_abort(struct kvm_vcpu *vcpu, const struct kvm_memtype_probe_abort *abort);
#else
static inline long kvm_memtype_probe_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl,
					   unsigned long arg)
{
	return -ENOTTY;
}
#endif
#endif /* __KERNEL__ */

#endif /* __KVM_MEMTYPE_PROBE_H */
