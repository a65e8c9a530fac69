// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's view of memory types: what is mapped at an address of a process.
 *
 * Nothing here maps a page, though a look at one makes it young, and nothing is
 * remembered: an answer is good until the mapping changes, which a caller learns
 * from its MMU notifier.
 */
#include <linux/export.h>
#include <linux/hugetlb.h>
#include <linux/memtype.h>
#include <linux/mm.h>

/*
 * A page that the kernel manages; it is not faulted in. All that can map one
 * (vm_insert_page(), vmf_insert_mixed()) use the VMA's own protection.
 */
static void memtype_find_page(struct vm_area_struct *vma, unsigned long addr,
			      struct memtype_mapping *map)
{
	struct page *page;

	map->present = get_user_pages_remote(vma->vm_mm, addr, 1, FOLL_NOFAULT, &page, NULL) == 1;
	if (map->present) {
		map->pfn = page_to_pfn(page);
		map->kind = arch_memtype_kind(map->pfn, vma->vm_page_prot);
		put_page(page);
	}
}

/* The leaf entry has the type: drivers leave vm_page_prot cacheable. */
static void memtype_find_pfn(struct vm_area_struct *vma, unsigned long addr,
			     struct memtype_mapping *map)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };

	map->present = !follow_pfnmap_start(&args);
	if (map->present) {
		map->pfn = args.pfn;
		map->kind = arch_memtype_kind(args.pfn, args.pgprot);
		follow_pfnmap_end(&args);
	}
}

/**
 * memtype_look_up - look up a mapping without changing it
 * @vma: the VMA
 * @addr: virtual address in it, in bytes
 * @map: filled in
 *
 * Context: May sleep. Under the mmap_lock of @vma's mm, at least for reading.
 */
void memtype_look_up(struct vm_area_struct *vma, unsigned long addr, struct memtype_mapping *map)
{
	bool pfnmap = vma->vm_flags & (VM_IO | VM_PFNMAP);
	/* Drivers put in what they like, and other files may be a device's memory. */
	bool plain = !pfnmap && !(vma->vm_flags & VM_MIXEDMAP) &&
		     (vma_is_anonymous(vma) || vma_is_shmem(vma) || is_vm_hugetlb_page(vma));

	*map = (struct memtype_mapping) {
		.flags = vma->vm_flags,
		.pfnmap = pfnmap,
		.end = plain ? vma->vm_end : PAGE_ALIGN_DOWN(addr) + PAGE_SIZE,
	};
	if (pfnmap)
		memtype_find_pfn(vma, addr, map);
	else
		memtype_find_page(vma, addr, map);
	map->certain = map->present || plain;
}

/**
 * memtype_find_mapping - look up a mapping of a process without changing it
 * @mm: of the process
 * @addr: virtual address, in bytes
 * @map: filled in; after an error, only @map->end
 *
 * Context: May sleep. Takes the mmap_lock of @mm for reading.
 * Return: 0, or -EFAULT if no VMA is at @addr, or one that denies any access.
 */
int memtype_find_mapping(struct mm_struct *mm, unsigned long addr, struct memtype_mapping *map)
{
	struct vm_area_struct *vma;
	int ret = -EFAULT;

	mmap_read_lock(mm);
	vma = find_vma(mm, addr);
	if (!vma || addr < vma->vm_start) {
		map->end = vma ? vma->vm_start : ULONG_MAX;
	} else if (!(vma->vm_flags & (VM_READ | VM_WRITE))) {
		map->end = vma->vm_end;
	} else {
		memtype_look_up(vma, addr, map);
		ret = 0;
	}
	mmap_read_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(memtype_find_mapping, KVM_MEMTYPE);
