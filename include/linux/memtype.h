/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory types: how a CPU accesses a page, and how the host itself maps it.
 *
 * mm/memtype.c finds out what the host does with a page. What a guest may do
 * with it is decided elsewhere (<linux/kvm_memtype.h>).
 */
#ifndef _LINUX_MEMTYPE_H
#define _LINUX_MEMTYPE_H

#include <linux/types.h>

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
 * struct memtype_host - the host's type of a page
 * @kind: MEMTYPE_WB or MEMTYPE_UC
 * @any_uncached: @kind is uncached and its owner says that WC is as good
 *	(VM_ALLOW_ANY_UNCACHED)
 */
struct memtype_host {
	enum memtype_kind kind;
	bool any_uncached;
};

/**
 * memtype_of_page - the host's type of a page
 * @mmio: the page is not memory
 * @any_uncached: its VMA has VM_ALLOW_ANY_UNCACHED
 *
 * Context: Any.
 * Return: WB for memory, else UC; only what is uncached can be any-uncached.
 */
static inline struct memtype_host memtype_of_page(bool mmio, bool any_uncached)
{
	return (struct memtype_host) {
		.kind = mmio ? MEMTYPE_UC : MEMTYPE_WB,
		.any_uncached = mmio && any_uncached,
	};
}

/**
 * struct memtype_mapping - what a process has mapped at an address
 * @pfnmap: a mapping of page frames (VM_IO, VM_PFNMAP), not of the kernel's pages
 * @present: a page is there now
 * @certain: it is, or what a fault puts there is RAM of the kernel's
 * @any_uncached: the VMA has VM_ALLOW_ANY_UNCACHED
 * @pfn: page frame number, if @present
 */
struct memtype_mapping {
	bool pfnmap;
	bool present;
	bool certain;
	bool any_uncached;
	unsigned long pfn;
};

int memtype_find_mapping(unsigned long addr, struct memtype_mapping *map);

#endif /* _LINUX_MEMTYPE_H */
