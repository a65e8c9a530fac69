/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the kernels that this layer is built for differ: it uses the names of the newest
 * one, and here is what an older one has in their place. For *.c, after <linux/kvm_host.h>.
 */
#ifndef _LINUX_KVM_MEMTYPE_BASE_H
#define _LINUX_KVM_MEMTYPE_BASE_H

#include <linux/kvm_host.h>

/* All memory of a memslot can be that of its guest_memfd, also what is not private. */
#ifndef KVM_MEMSLOT_GMEM_ONLY
static inline bool kvm_slot_has_gmem(const struct kvm_memory_slot *slot)
{
	return kvm_slot_can_be_private(slot);
}

static inline bool kvm_memslot_is_gmem_only(const struct kvm_memory_slot *slot)
{
	return false;
}
#endif

#endif /* _LINUX_KVM_MEMTYPE_BASE_H */
