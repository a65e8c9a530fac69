// SPDX-License-Identifier: GPL-2.0-only
/* The part of the test instruments that all architectures share. */
#include <linux/kvm_host.h>
#include <linux/uaccess.h>

#include "memtype_probe.h"

/**
 * kvm_memtype_probe_ioctl - KVM_MEMTYPE_PROBE, and its _DMA and _ABORT
 * @vcpu: the vCPU
 * @ioctl: number
 * @arg: struct kvm_memtype_probe in user space, or 0 or 1, or struct
 *	kvm_memtype_probe_abort in user space
 *
 * Context: Process context, under vcpu->mutex. Takes kvm->srcu.
 * Return: 0; -ENOENT if nothing is mapped there, or the vCPU has not run yet;
 * -EOPNOTSUPP if its page tables are none that can be walked, or for _ABORT if it
 * is not of arm64; -EFAULT for a bad pointer; -ENOTTY if the ioctl is another one,
 * which the caller then leaves to the architecture. After an error the argument is as
 * before.
 */
long kvm_memtype_probe_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl, unsigned long arg)
{
	void __user *argp = (void __user *)arg;
	struct kvm_memtype_probe_abort abort;
	struct kvm_memtype_probe probe;
	int idx, ret;

	if (ioctl == KVM_MEMTYPE_PROBE_DMA) {
		if (arg)
			kvm_arch_register_noncoherent_dma(vcpu->kvm);
		else
			kvm_arch_unregister_noncoherent_dma(vcpu->kvm);
		return 0;
	}
	if (ioctl == KVM_MEMTYPE_PROBE_ABORT) {
		if (copy_from_user(&abort, argp, sizeof(abort)))
			return -EFAULT;
		return kvm_arch_memtype_set_abort(vcpu, &abort);
	}
	if (ioctl != KVM_MEMTYPE_PROBE)
		return -ENOTTY;
	if (copy_from_user(&probe, argp, sizeof(probe)))
		return -EFAULT;

	vcpu_load(vcpu);
	idx = srcu_read_lock(&vcpu->kvm->srcu);
	ret = kvm_arch_memtype_probe(vcpu, &probe);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
	vcpu_put(vcpu);
	if (ret)
		return ret;

	return copy_to_user(argp, &probe, sizeof(probe)) ? -EFAULT : 0;
}
