// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's view of memory types: what is mapped at an address of a process.
 *
 * Nothing here maps a page, and nothing is remembered: an answer is good until
 * the mapping changes, which a caller learns from its MMU notifier.
 */
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/memtype.h>
#include <linux/mm.h>

/* A page that the kernel manages; it is not faulted in. */
static void memtype_find_page(unsigned long addr, struct memtype_mapping *map)
{
	struct page *page;

	map->present = get_user_page_fast_only(addr, 0, &page);
	if (map->present) {
		map->pfn = page_to_pfn(page);
		put_page(page);
	}
}

static void memtype_find_pfn(struct vm_area_struct *vma, unsigned long addr,
			     struct memtype_mapping *map)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };

	map->present = !follow_pfnmap_start(&args);
	if (map->present) {
		map->pfn = args.pfn;
		follow_pfnmap_end(&args);
	}
}

/**
 * memtype_find_mapping - look up a mapping of current without changing it
 * @addr: virtual address, in bytes
 * @map: filled in on success, else left as it is
 *
 * Context: May sleep. Takes the mmap_lock of current->mm for reading.
 * Return: 0, or -EFAULT if no VMA is at @addr, or one that denies any access.
 */
int memtype_find_mapping(unsigned long addr, struct memtype_mapping *map)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int ret = -EFAULT;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (!vma || !(vma->vm_flags & (VM_READ | VM_WRITE)))
		goto out;

	map->any_uncached = vma->vm_flags & VM_ALLOW_ANY_UNCACHED;
	map->pfnmap = vma->vm_flags & (VM_IO | VM_PFNMAP);
	if (map->pfnmap)
		memtype_find_pfn(vma, addr, map);
	else
		memtype_find_page(addr, map);
	/* Drivers put in what they like, and a DAX file is made of a device's pages. */
	map->certain = map->present || !(map->pfnmap || vma->vm_flags & VM_MIXEDMAP ||
					 vma_is_dax(vma));
	ret = 0;
out:
	mmap_read_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_GPL(memtype_find_mapping);
