/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <debugfs>/memtype_test: mappings of each memory type of the host, for tests.
 *
 * Shared with selftests, and in no way stable.
 */
#ifndef __MEMTYPE_TEST_H
#define __MEMTYPE_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MEMTYPE_TEST_SETUP	_IOW('m', 1, struct memtype_test_setup)
#define MEMTYPE_TEST_ACCESS	_IOWR('m', 2, struct memtype_test_access)
/* Returns how many faults wait (MEMTYPE_TEST_STUCK), whatever file they are in. */
#define MEMTYPE_TEST_WAITING	_IO('m', 3)
/*
 * The argument is an address of the process. Returns the type with which it maps the page there,
 * KVM_MEMTYPE_*; EFAULT if nothing is mapped. Needs no setup.
 */
#define MEMTYPE_TEST_KIND	_IO('m', 4)

/* More is refused, of RAM and of a device. */
#define MEMTYPE_TEST_MAX_SIZE	(16ul << 20)
#define MEMTYPE_TEST_MAX_PHYS	(1024ul << 20)

enum memtype_test_prot {
	MEMTYPE_TEST_WB,
	MEMTYPE_TEST_WC,	/* pgprot_writecombine() */
	MEMTYPE_TEST_UC,	/* pgprot_noncached(): UC- on x86, nGnRnE on arm64 */
	MEMTYPE_TEST_PWT,	/* x86: what PWT alone selects from the PAT; with UNTRACKED only */
};

/* All entries are made by mmap(), and none by a fault. */
#define MEMTYPE_TEST_PREMAP		0x01
/* Only the leaf entries say @prot; the VMA's own vm_page_prot stays cacheable. */
#define MEMTYPE_TEST_PTE_ONLY		0x02
/* VM_MIXEDMAP of refcounted pages, not VM_PFNMAP */
#define MEMTYPE_TEST_MIXEDMAP		0x04
/*
 * PMD entries (2M with pages of 4K), where address and offset are aligned alike; else pages.
 * x86: a PUD entry for 1G of a device, if the CPU has such entries
 */
#define MEMTYPE_TEST_HUGE		0x08
/* VM_ALLOW_ANY_UNCACHED */
#define MEMTYPE_TEST_ANY_UNCACHED	0x10
/* x86: the RAM itself gets the type, in the linear map and for PAT. */
#define MEMTYPE_TEST_SET_RAM		0x20
/* @prot and SET_RAM are for the second half of the range, and the first half is WB. */
#define MEMTYPE_TEST_MIXED		0x40
/* The kernel maps @phys, too: by ioremap_cache(), ioremap_wc() or ioremap(), as @prot says. */
#define MEMTYPE_TEST_IOREMAP		0x80
/* Entries by apply_to_page_range(), of which x86's PAT is not told; as i915 makes them */
#define MEMTYPE_TEST_UNTRACKED		0x100
/* Entries are read-only until a write, which goes through pfn_mkwrite(). */
#define MEMTYPE_TEST_MKWRITE		0x200
/* A fault finds no memory. */
#define MEMTYPE_TEST_NOMEM		0x400
/* A fault waits until the process is killed. */
#define MEMTYPE_TEST_STUCK		0x800
/* RAM in pieces of 2M, of which all pages but the first have no reference; as TTM has it */
#define MEMTYPE_TEST_TAILS		0x1000

/* Entries are WB, and the RAM alone has the type @prot: x86's linear map of it, and PAT. */
#define MEMTYPE_TEST_WB_ENTRIES		0x2000
/* arm64: reserved RAM that the kernel takes for missing from its linear map (no-map) */
#define MEMTYPE_TEST_NO_MAP		0x4000

#define MEMTYPE_TEST_FLAGS		0x7fff

/**
 * struct memtype_test_setup - what mmap() of an open file maps
 * @size: in bytes, a multiple of the page size, of a PMD's with HUGE, of 2M with TAILS;
 *	MEMTYPE_TEST_MAX_SIZE at most, MEMTYPE_TEST_MAX_PHYS with @phys
 * @phys: physical address of what to map, which must not be RAM, aligned as
 *	@size is; 0: zeroed RAM, in pieces of a PMD with HUGE, else page by page
 * @prot: enum memtype_test_prot, the type that leaf entries ask for
 * @flags: MEMTYPE_TEST_*
 *
 * On x86, PAT overrules what an entry of a VM_PFNMAP asks for: RAM stays WB
 * without SET_RAM; MMIO is UC- where it should be WB, and the type that it is
 * mapped with elsewhere, if any. A 2M entry gets the type of its first page.
 * With UNTRACKED, entries have the type that they ask for, which is WB with WB_ENTRIES.
 * PAT forgets to free the type of MMIO mapped with PREMAP whose VMA was split.
 *
 * The first successful MEMTYPE_TEST_SETUP of an open file holds until it is
 * closed and unmapped. A failed one changes nothing:
 *
 * * EBUSY: there is a setup already, or PAT refuses WC for @phys
 * * EINVAL: unknown flags or type, a bad size or address, or flags that exclude
 *   each other: HUGE with PREMAP, PTE_ONLY or MIXEDMAP; MIXEDMAP with PTE_ONLY,
 *   MIXED or @phys; SET_RAM with @phys; SET_RAM or MIXED with WB; MIXED with an
 *   odd number of pages; IOREMAP with MIXED or without @phys; UNTRACKED without
 *   PREMAP or with MIXEDMAP; MKWRITE, NOMEM or STUCK with PREMAP, HUGE or MIXEDMAP; TAILS
 *   or NO_MAP with MIXEDMAP or @phys; WB_ENTRIES without SET_RAM or UNTRACKED; PWT without
 *   UNTRACKED
 * * ENOMEM: no memory, or ioremap() fails
 * * EOPNOTSUPP: SET_RAM or PWT, not on x86; NO_MAP, not on arm64
 * * EPERM: @phys without CAP_SYS_RAWIO
 */
struct memtype_test_setup {
	__u64 size;
	__u64 phys;
	__u32 prot;
	__u32 flags;
};

/**
 * struct memtype_test_access - an access of the kernel's own
 * @value: in: what to write to the first eight bytes; out: what is read from there then
 * @addr: out: where the kernel has mapped them, until the file is closed and unmapped
 *
 * On x86 only (else EOPNOTSUPP), after a MEMTYPE_TEST_SETUP of RAM, or with
 * IOREMAP (else EINVAL). The read stands between two `xchg %bx, %bx`, at which
 * Bochs records it, and finds no translation in the TLB.
 */
struct memtype_test_access {
	__u64 value;
	__u64 addr;
};

#endif /* __MEMTYPE_TEST_H */
