/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory types: how a CPU accesses a page, and how the host itself maps it.
 *
 * mm/memtype.c finds out what the host does with a page. What a guest may do
 * with it is decided elsewhere (<linux/kvm_memtype.h>).
 */
#ifndef _LINUX_MEMTYPE_H
#define _LINUX_MEMTYPE_H

#include <linux/pgtable.h>
#include <linux/types.h>

struct mm_struct;
struct vm_area_struct;

/**
 * enum memtype_kind - how a CPU may access a page
 * @MEMTYPE_NONE: unknown, or not a type of this architecture
 * @MEMTYPE_WB: cacheable, write-back
 * @MEMTYPE_WT: cacheable, write-through
 * @MEMTYPE_WP: x86 write-protected: reads are cached, writes are not
 * @MEMTYPE_WC: not cached; gathering, reordering and speculative reads are
 *	allowed (x86 WC, arm64 Normal Non-cacheable)
 * @MEMTYPE_UC_MINUS: x86 UC-: UC, unless an MTRR or EPT type says WC
 * @MEMTYPE_UC: not cached, strongly ordered (x86 UC, arm64 Device-nGnRE)
 * @MEMTYPE_GRE: arm64 Device-GRE
 * @MEMTYPE_NGRE: arm64 Device-nGRE
 * @MEMTYPE_NGNRNE: arm64 Device-nGnRnE
 * @NR_MEMTYPES: number of the above
 *
 * The order means nothing. The values are those of KVM_MEMTYPE_* in
 * <linux/kvm_memtype.h>, which userspace sees.
 */
enum memtype_kind {
	MEMTYPE_NONE,
	MEMTYPE_WB,
	MEMTYPE_WT,
	MEMTYPE_WP,
	MEMTYPE_WC,
	MEMTYPE_UC_MINUS,
	MEMTYPE_UC,
	MEMTYPE_GRE,
	MEMTYPE_NGRE,
	MEMTYPE_NGNRNE,
	NR_MEMTYPES
};

/**
 * struct memtype_mapping - what a process has mapped at an address
 * @flags: the flags of the VMA (VM_*)
 * @pfnmap: a mapping of page frames (VM_IO, VM_PFNMAP), not of the kernel's pages
 * @present: a page is there now
 * @certain: it is, or what a fault puts there is memory like any other
 * @kind: the type with which the host maps the page, if @present
 * @pfn: page frame number, if @present
 * @end: virtual address, in bytes, up to which all of this but @pfn is the same; of
 *	anonymous, shared and hugetlb memory only if nobody changes its pages' types
 */
struct memtype_mapping {
	vm_flags_t flags;
	bool pfnmap;
	bool present;
	bool certain;
	enum memtype_kind kind;
	unsigned long pfn;
	unsigned long end;
};

/**
 * struct memtype_leaf - an entry of a process's page tables that maps a page
 * @pfn: page frame number of the address that was looked up, in pages
 * @size: what the entry maps, in bytes
 * @prot: its other bits, at the places that they have at that level
 */
struct memtype_leaf {
	unsigned long pfn;
	unsigned long size;
	pgprot_t prot;
};

bool memtype_find_leaf(struct mm_struct *mm, unsigned long addr, struct memtype_leaf *leaf);
void memtype_look_up(struct vm_area_struct *vma, unsigned long addr, struct memtype_mapping *map);
int memtype_find_mapping(struct mm_struct *mm, unsigned long addr, struct memtype_mapping *map);

/**
 * arch_memtype_kind - the type with which the host maps a page
 * @leaf: the entry that maps it
 *
 * Each architecture's.
 *
 * Context: Any. Takes no lock.
 * Return: The type; MEMTYPE_NONE if the architecture cannot tell.
 */
enum memtype_kind arch_memtype_kind(const struct memtype_leaf *leaf);

/**
 * arch_memtype_is_one - whether an entry maps page frames with one type
 * @pfn: the first page frame number
 * @nr: number of pages
 *
 * Each architecture's.
 *
 * Context: Any. Takes no lock. On x86, of memory all @nr pages are looked at.
 * Return: Whether it does, whatever the entry says.
 */
bool arch_memtype_is_one(unsigned long pfn, unsigned long nr);

#endif /* _LINUX_MEMTYPE_H */
