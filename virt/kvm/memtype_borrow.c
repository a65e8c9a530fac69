// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types: page frames that no reference can be taken to, in kernels whose KVM
 * takes one to each page that it maps. Since 6.13, it takes none to page frames.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <linux/mm.h>

/**
 * kvm_memtype_borrow - get a page frame that no reference can be taken to
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 * @write: the guest writes
 * @pfn: what the host gave, which is KVM_PFN_ERR_FAULT of such a page; set if it is one
 * @writable: whether it can be mapped writable; set with @pfn
 *
 * A driver can map the pages of a high order one by one, of which all but the first
 * have no reference (TTM does so). As with all mappings of page frames, an MMU
 * notifier tells when it is over, so that KVM needs no reference either; but it must
 * not drop one later.
 *
 * Context: Process context of the VM's mm, whose mmap_lock is taken for reading; after
 * the mmu_invalidate_seq snapshot.
 * Return: Whether @pfn was set, and is without a reference.
 */
bool kvm_memtype_borrow(const struct kvm_memory_slot *slot, u64 gfn, bool write, u64 *pfn,
			bool *writable)
{
	struct follow_pfnmap_args args = { .address = __gfn_to_hva_memslot(slot, gfn) };
	bool borrowed = false;
	struct page *page;

	if (*pfn != KVM_PFN_ERR_FAULT)
		return false;

	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, args.address);
	if (args.vma && !follow_pfnmap_start(&args)) {
		page = kvm_pfn_to_refcounted_page(args.pfn);
		borrowed = page && !page_ref_count(page) && (!write || args.writable);
		if (borrowed) {
			*pfn = args.pfn;
			*writable = args.writable && !(slot->flags & KVM_MEM_READONLY);
		}
		follow_pfnmap_end(&args);
	}
	mmap_read_unlock(current->mm);
	return borrowed;
}
