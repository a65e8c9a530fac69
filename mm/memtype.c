// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's view of memory types: what is mapped at an address of a process,
 * and with which type the host itself accesses it.
 *
 * Nothing here maps or pins a page, and nothing is remembered: an answer is
 * good until the mapping changes, which a caller learns from its MMU notifier.
 */
#include <linux/export.h>
#include <linux/memtype.h>
#include <linux/mm.h>

/**
 * memtype_find_mapping - look up a mapping without changing it
 * @mm: the address space, which the caller keeps alive
 * @addr: virtual address, in bytes
 * @map: filled in on success, else left as it is
 *
 * Only a mapping of page frames is followed to its leaf entry: pages that the
 * kernel manages have one type wherever they are mapped.
 *
 * Context: May sleep. Takes the mmap_lock of @mm for reading.
 * Return: 0, or -EFAULT if no VMA is at @addr.
 */
int memtype_find_mapping(struct mm_struct *mm, unsigned long addr,
			 struct memtype_mapping *map)
{
	struct follow_pfnmap_args args = { .address = addr };
	struct vm_area_struct *vma;
	int ret = -EFAULT;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (!vma)
		goto out;

	map->any_uncached = vma->vm_flags & VM_ALLOW_ANY_UNCACHED;
	map->pfnmap = vma->vm_flags & (VM_IO | VM_PFNMAP);
	map->present = false;
	args.vma = vma;
	if (map->pfnmap && !follow_pfnmap_start(&args)) {
		map->present = true;
		map->pfn = args.pfn;
		follow_pfnmap_end(&args);
	}
	ret = 0;
out:
	mmap_read_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_GPL(memtype_find_mapping);

/**
 * memtype_host - the type with which the host maps a page
 * @mmio: the page is not memory, or not memory that the host caches
 * @any_uncached: its VMA has VM_ALLOW_ANY_UNCACHED
 *
 * Context: Any.
 * Return: WB for memory, else UC; only what is uncached can be any-uncached.
 */
struct memtype_host memtype_host(bool mmio, bool any_uncached)
{
	return (struct memtype_host) {
		.kind = mmio ? MEMTYPE_UC : MEMTYPE_WB,
		.any_uncached = mmio && any_uncached,
	};
}
EXPORT_SYMBOL_GPL(memtype_host);
