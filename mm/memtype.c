// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's view of memory types: what is mapped at an address of a process.
 *
 * Nothing here maps a page, and nothing is remembered: an answer is good until the
 * mapping changes, which a caller learns from its MMU notifier.
 */
#include <linux/export.h>
#include <linux/hugetlb.h>
#include <linux/irqflags.h>
#include <linux/memtype.h>
#include <linux/mm.h>
#include <linux/secretmem.h>
#include <linux/symbol_ns.h>

static pte_t memtype_read_pte(pmd_t *pmd, unsigned long addr)
{
	pte_t *ptep = pte_offset_map(pmd, addr), pte = __pte(0);

	if (ptep) {
		/* pte_offset_map() has locked it, and does not tell sparse. */
		__acquire(RCU);
		pte = ptep_get_lockless(ptep);
		pte_unmap(ptep);
	}
	return pte;
}

static bool memtype_walk(struct mm_struct *mm, unsigned long addr, struct memtype_leaf *leaf)
{
	pgd_t *pgdp = pgd_offset(mm, addr), pgd = READ_ONCE(*pgdp);
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t pmd;
	pte_t pte;

	/* Where a level is folded, the next one is found by the pointer to the entry. */
	if (pgd_none(pgd))
		return false;
	p4dp = p4d_offset_lockless(pgdp, pgd, addr);
	p4d = READ_ONCE(*p4dp);
	if (p4d_none(p4d) || !p4d_present(p4d))
		return false;

	pudp = pud_offset_lockless(p4dp, p4d, addr);
	pud = READ_ONCE(*pudp);
	if (pud_none(pud) || !pud_present(pud))
		return false;
	if (pud_leaf(pud)) {
		leaf->pfn = pud_pfn(pud) + ((addr & ~PUD_MASK) >> PAGE_SHIFT);
		leaf->prot = pud_pgprot(pud);
		leaf->size = PUD_SIZE;
		return true;
	}

	pmd = pmdp_get_lockless(pmd_offset_lockless(pudp, pud, addr));
	if (pmd_none(pmd) || !pmd_present(pmd))
		return false;
	if (pmd_leaf(pmd)) {
		leaf->pfn = pmd_pfn(pmd) + ((addr & ~PMD_MASK) >> PAGE_SHIFT);
		leaf->prot = pmd_pgprot(pmd);
		leaf->size = PMD_SIZE;
		return true;
	}

	pte = memtype_read_pte(&pmd, addr);
	if (!pte_present(pte))
		return false;
	leaf->pfn = pte_pfn(pte);
	leaf->prot = pte_pgprot(pte);
	leaf->size = PAGE_SIZE;
	return true;
}

/**
 * memtype_find_leaf - read the entry of a process's page tables that maps an address
 * @mm: of the process
 * @addr: virtual address, in bytes
 * @leaf: filled in if there is one
 *
 * As in gup_fast(), interrupts are off, so that page tables are not freed meanwhile.
 * Each entry is read once. The leaf may be gone when this returns, unless an MMU
 * notifier of the caller or the mmap_lock and a lock of the page tables prevent it.
 *
 * Context: Any. The page tables of @mm exist.
 * Return: Whether a page is mapped there, even if it is protected against any access.
 */
bool memtype_find_leaf(struct mm_struct *mm, unsigned long addr, struct memtype_leaf *leaf)
{
	unsigned long flags;
	bool found;

	local_irq_save(flags);
	found = memtype_walk(mm, addr, leaf);
	local_irq_restore(flags);
	return found;
}
EXPORT_SYMBOL_NS_GPL(memtype_find_leaf, SYMBOL_NS(KVM_MEMTYPE));

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
	struct memtype_leaf leaf;
	unsigned long start;

	*map = (struct memtype_mapping) {
		.flags = vma->vm_flags,
		.pfnmap = pfnmap,
		.end = plain ? vma->vm_end : PAGE_ALIGN_DOWN(addr) + PAGE_SIZE,
	};
	/* GUP refuses secretmem, so that it is nothing that a guest could get. */
	map->present = !vma_is_secretmem(vma) && memtype_find_leaf(vma->vm_mm, addr, &leaf);
	if (map->present) {
		map->pfn = leaf.pfn;
		map->kind = arch_memtype_kind(&leaf);
		start = ALIGN_DOWN(addr, leaf.size);
		if (!plain && leaf.size > PAGE_SIZE &&
		    arch_memtype_is_one(leaf.pfn - PFN_DOWN(addr - start), PFN_DOWN(leaf.size)))
			map->end = min(start + leaf.size, vma->vm_end);
	}
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
EXPORT_SYMBOL_NS_GPL(memtype_find_mapping, SYMBOL_NS(KVM_MEMTYPE));
