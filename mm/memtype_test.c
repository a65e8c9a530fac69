// SPDX-License-Identifier: GPL-2.0-only
/*
 * A test driver: mappings of each memory type that a host can have, so that
 * selftests see what becomes of them. memtype_test.h says what it can do.
 *
 * An open file has no setup at first, then one for good. A VMA holds the file,
 * so pages, their type and PAT's reservation outlive all mappings.
 */
#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/debugfs.h>
#include <linux/dma-map-ops.h>
#include <linux/fs.h>
#include <linux/huge_mm.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/irqflags.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#ifdef CONFIG_X86
#include <asm/set_memory.h>
#endif

#ifdef CONFIG_MEMTYPE
#include <linux/memtype.h>
#endif

#include "memtype_test.h"
#include "memtype_test_base.h"

/**
 * struct memtype_test - what an open file maps
 * @setup: as userspace asked for it
 * @nr_pages: number of pages
 * @first: index of the first page that is to have the type @setup.prot
 * @pages: the pages, each with a reference of its own; NULL with @setup.phys
 * @io: what IOREMAP maps of @setup.phys; else NULL
 */
struct memtype_test {
	struct memtype_test_setup setup;
	unsigned long nr_pages;
	unsigned long first;
	struct page **pages;
	void __iomem *io;
};

/* vmf_insert_pfn_pud() does not ask the CPU. */
#ifdef CONFIG_X86_64
#define MEMTYPE_TEST_HAS_PUD	boot_cpu_has(X86_FEATURE_GBPAGES)
#else
#define MEMTYPE_TEST_HAS_PUD	false
#endif

/* Faults that wait now, in all files */
static atomic_t memtype_test_waiting = ATOMIC_INIT(0);

static bool memtype_test_has(const struct memtype_test *test, u32 flag)
{
	return test->setup.flags & flag;
}

static unsigned long memtype_test_pfn(const struct memtype_test *test, unsigned long index)
{
	if (test->pages)
		return page_to_pfn(test->pages[index]);
	return PHYS_PFN(test->setup.phys) + index;
}

static pgprot_t memtype_test_prot(const struct memtype_test *test,
				  const struct vm_area_struct *vma, unsigned long index)
{
	vm_flags_t flags = vma->vm_flags;
	pgprot_t prot;

	/* What is private is read-only until it is copied. */
	if (memtype_test_has(test, MEMTYPE_TEST_MKWRITE))
		flags &= ~VM_SHARED;
	prot = vm_get_page_prot(flags);
	if (memtype_test_has(test, MEMTYPE_TEST_WB_ENTRIES))
		return prot;
	if (index >= test->first && test->setup.prot == MEMTYPE_TEST_WC)
		return pgprot_writecombine(prot);
	if (index >= test->first && test->setup.prot == MEMTYPE_TEST_UC)
		return pgprot_noncached(prot);
#ifdef CONFIG_X86
	if (index >= test->first && test->setup.prot == MEMTYPE_TEST_PWT)
		return __pgprot(pgprot_val(prot) | _PAGE_PWT);
#endif
	return prot;
}

/* As __folio_lock_or_retry() waits, but that nothing ever comes. */
static vm_fault_t memtype_test_wait(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return VM_FAULT_SIGBUS;
	release_fault_lock(vmf);
	atomic_inc(&memtype_test_waiting);
	while (!fatal_signal_pending(current))
		schedule_timeout_killable(MAX_SCHEDULE_TIMEOUT);
	atomic_dec(&memtype_test_waiting);
	return VM_FAULT_RETRY;
}

static vm_fault_t memtype_test_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct memtype_test *test = vma->vm_private_data;

	if (memtype_test_has(test, MEMTYPE_TEST_NOMEM))
		return VM_FAULT_OOM;
	if (memtype_test_has(test, MEMTYPE_TEST_STUCK))
		return memtype_test_wait(vmf);
	if (memtype_test_has(test, MEMTYPE_TEST_MIXEDMAP))
		return vmf_insert_page(vma, vmf->address, test->pages[vmf->pgoff]);
	return vmf_insert_pfn_prot(vma, vmf->address, memtype_test_pfn(test, vmf->pgoff),
				   memtype_test_prot(test, vma, vmf->pgoff));
}

/* Of the pieces in which RAM is allocated, and of the entries */
static unsigned int memtype_test_order(const struct memtype_test_setup *setup)
{
	if (setup->flags & MEMTYPE_TEST_HUGE)
		return MEMTYPE_TEST_HAS_PUD && setup->phys && IS_ALIGNED(setup->size, PUD_SIZE) ?
		       PUD_ORDER : PMD_ORDER;
	return setup->flags & MEMTYPE_TEST_TAILS ? get_order(SZ_2M) : 0;
}

static vm_fault_t memtype_test_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct memtype_test *test = vmf->vma->vm_private_data;
	unsigned long index = ALIGN_DOWN(vmf->pgoff, 1ul << order);
	bool write = vmf->flags & FAULT_FLAG_WRITE;
	unsigned long pfn;

	if (!memtype_test_has(test, MEMTYPE_TEST_HUGE) ||
	    order != memtype_test_order(&test->setup) ||
	    !thp_vma_suitable_order(vmf->vma, vmf->address, order))
		return VM_FAULT_FALLBACK;
	/*
	 * A PMD can only have the type of vm_page_prot, which is not that of the
	 * first half; but x86 takes it from PAT, for the first page alone.
	 */
	if (index < test->first && !IS_ENABLED(CONFIG_X86))
		return VM_FAULT_FALLBACK;
	pfn = memtype_test_pfn(test, index);
	if (MEMTYPE_TEST_HAS_PUD && order == PUD_ORDER)
		return vmf_insert_pfn_pud(vmf, memtype_test_frame(pfn), write);
	return vmf_insert_pfn_pmd(vmf, memtype_test_frame(pfn), write);
}

static const struct vm_operations_struct memtype_test_vm_ops = {
	.fault = memtype_test_fault,
	.huge_fault = memtype_test_huge_fault,
};

static vm_fault_t memtype_test_mkwrite(struct vm_fault *vmf)
{
	return 0;
}

static const struct vm_operations_struct memtype_test_mkwrite_ops = {
	.fault = memtype_test_fault,
	.pfn_mkwrite = memtype_test_mkwrite,
};

static int memtype_test_set_entry(pte_t *entry, unsigned long addr, void *data)
{
	struct vm_area_struct *vma = data;
	struct memtype_test *test = vma->vm_file->private_data;
	unsigned long index = linear_page_index(vma, addr);

	set_pte_at(vma->vm_mm, addr, entry,
		   pte_mkspecial(pfn_pte(memtype_test_pfn(test, index),
					 memtype_test_prot(test, vma, index))));
	return 0;
}

/* What was mapped before an error is unmapped by the caller of mmap(). */
static int memtype_test_premap(const struct memtype_test *test, struct vm_area_struct *vma)
{
	unsigned long index = vma->vm_pgoff, end = index + vma_pages(vma);
	unsigned long addr = vma->vm_start, nr = 1;
	int ret = 0;

	if (memtype_test_has(test, MEMTYPE_TEST_UNTRACKED))
		return apply_to_page_range(vma->vm_mm, addr, vma->vm_end - addr,
					   memtype_test_set_entry, vma);
	for (; index < end && !ret; index += nr, addr += nr * PAGE_SIZE) {
		if (memtype_test_has(test, MEMTYPE_TEST_MIXEDMAP)) {
			ret = vm_insert_page(vma, addr, test->pages[index]);
			continue;
		}
		/* MMIO in one call per type: PAT reserves only for a whole VMA. */
		if (!test->pages)
			nr = (index < test->first ? min(test->first, end) : end) - index;
		ret = remap_pfn_range(vma, addr, memtype_test_pfn(test, index), nr * PAGE_SIZE,
				      memtype_test_prot(test, vma, index));
	}
	return ret;
}

static int memtype_test_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct memtype_test *test = READ_ONCE(file->private_data);

	/* A copy of a page that is private has no type of its own. */
	if (!test || (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE)
		return -EINVAL;
	if (vma->vm_pgoff > test->nr_pages || vma_pages(vma) > test->nr_pages - vma->vm_pgoff)
		return -EINVAL;

	/* As remap_pfn_range() sets them, but GUP must not see VM_IO where there are pages. */
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vm_flags_set(vma, memtype_test_has(test, MEMTYPE_TEST_MIXEDMAP) ? VM_MIXEDMAP :
							       VM_IO | VM_PFNMAP);
	if (memtype_test_has(test, MEMTYPE_TEST_ANY_UNCACHED))
		vm_flags_set(vma, VM_ALLOW_ANY_UNCACHED);
	if (!memtype_test_has(test, MEMTYPE_TEST_PTE_ONLY))
		vma->vm_page_prot = memtype_test_prot(test, vma, test->first);

	if (memtype_test_has(test, MEMTYPE_TEST_PREMAP))
		return memtype_test_premap(test, vma);
	vma->vm_private_data = test;
	vma->vm_ops = memtype_test_has(test, MEMTYPE_TEST_MKWRITE) ? &memtype_test_mkwrite_ops :
								    &memtype_test_vm_ops;
	return 0;
}

#ifdef CONFIG_X86
static int memtype_test_set_ram(const struct memtype_test *test, u32 prot)
{
	struct page **pages = test->pages + test->first;
	int nr = test->nr_pages - test->first;

	if (!memtype_test_has(test, MEMTYPE_TEST_SET_RAM))
		return 0;
	if (prot == MEMTYPE_TEST_WB)
		return set_pages_array_wb(pages, nr);
	return prot == MEMTYPE_TEST_WC ? set_pages_array_wc(pages, nr) :
					 set_pages_array_uc(pages, nr);
}
#else
static int memtype_test_set_ram(const struct memtype_test *test, u32 prot)
{
	return 0;
}
#endif

#ifdef CONFIG_ARM64
/* memblock has no lock: nothing else may change it or run a guest meanwhile. */
static int memtype_test_set_no_map(const struct memtype_test *test)
{
	unsigned long i;
	int ret;

	for (i = 0; i < test->nr_pages && memtype_test_has(test, MEMTYPE_TEST_NO_MAP); i++) {
		SetPageReserved(test->pages[i]);
		ret = memblock_mark_nomap(page_to_phys(test->pages[i]), PAGE_SIZE);
		if (ret)
			return ret;
	}
	return 0;
}

static void memtype_test_clear_no_map(const struct memtype_test *test)
{
	unsigned long i;

	for (i = 0; i < test->nr_pages && memtype_test_has(test, MEMTYPE_TEST_NO_MAP); i++) {
		memblock_clear_nomap(page_to_phys(test->pages[i]), PAGE_SIZE);
		ClearPageReserved(test->pages[i]);
	}
}
#else
static int memtype_test_set_no_map(const struct memtype_test *test)
{
	return 0;
}

static void memtype_test_clear_no_map(const struct memtype_test *test)
{
}
#endif

static void memtype_test_free_pages(const struct memtype_test *test, unsigned long nr)
{
	unsigned int order = memtype_test_has(test, MEMTYPE_TEST_TAILS) ?
			     memtype_test_order(&test->setup) : 0;
	unsigned long i;

	while (nr) {
		nr -= 1ul << order;
		/* Somebody may have dropped a reference that there never was. */
		for (i = 1; i < 1ul << order; i++)
			WARN_ON_ONCE(page_ref_count(test->pages[nr + i]));
		__free_pages(test->pages[nr], order);
	}
	kvfree(test->pages);
}

static void memtype_test_free_ram(struct memtype_test *test)
{
	/* Nobody else expects uncached memory, so rather lose it. */
	if (WARN_ON(memtype_test_set_ram(test, MEMTYPE_TEST_WB)))
		return;
	memtype_test_clear_no_map(test);
	memtype_test_free_pages(test, test->nr_pages);
}

static int memtype_test_alloc_ram(struct memtype_test *test)
{
	unsigned int order = memtype_test_order(&test->setup);
	unsigned long i, nr = 0;
	struct page *page;
	int ret;

	test->pages = kvcalloc(test->nr_pages, sizeof(*test->pages), GFP_KERNEL);
	if (!test->pages)
		return -ENOMEM;
	while (nr < test->nr_pages) {
		page = alloc_pages(GFP_KERNEL | __GFP_ZERO, order);
		if (!page) {
			memtype_test_free_pages(test, nr);
			return -ENOMEM;
		}
		/* Where a CPU does not snoop, uncached reads must find the zeroes in memory. */
		arch_sync_dma_for_device(page_to_phys(page), PAGE_SIZE << order, DMA_TO_DEVICE);
		/* KVM takes references of single pages, if there are any. */
		if (!memtype_test_has(test, MEMTYPE_TEST_TAILS))
			split_page(page, order);
		for (i = 0; i < 1ul << order; i++)
			test->pages[nr++] = page + i;
	}

	ret = memtype_test_set_no_map(test);
	if (!ret)
		ret = memtype_test_set_ram(test, test->setup.prot);
	/* It may have changed some of the pages before it failed. */
	if (ret)
		memtype_test_free_ram(test);
	return ret;
}

static void __iomem *memtype_test_ioremap(const struct memtype_test_setup *setup)
{
	if (setup->prot == MEMTYPE_TEST_WB)
		return ioremap_cache(setup->phys, setup->size);
	return setup->prot == MEMTYPE_TEST_WC ? ioremap_wc(setup->phys, setup->size) :
						ioremap(setup->phys, setup->size);
}

static void memtype_test_free_phys(struct memtype_test *test)
{
	if (test->io)
		iounmap(test->io);
	if (test->setup.prot == MEMTYPE_TEST_WC)
		arch_io_free_memtype_wc(test->setup.phys + test->first * PAGE_SIZE,
					(test->nr_pages - test->first) * PAGE_SIZE);
}

static int memtype_test_claim_phys(struct memtype_test *test)
{
	const struct memtype_test_setup *setup = &test->setup;
	int ret;

	if (!capable(CAP_SYS_RAWIO))
		return -EPERM;
	if (setup->phys > PHYS_ADDR_MAX - setup->size ||
	    !valid_mmap_phys_addr_range(PHYS_PFN(setup->phys), setup->size) ||
	    region_intersects(setup->phys, setup->size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return -EINVAL;
	if (setup->prot == MEMTYPE_TEST_WC) {
		/* For x86, which asks PAT for the type when a fault maps it. */
		ret = arch_io_reserve_memtype_wc(setup->phys + test->first * PAGE_SIZE,
						 (test->nr_pages - test->first) * PAGE_SIZE);
		if (ret)
			return ret;
	}
	if (!memtype_test_has(test, MEMTYPE_TEST_IOREMAP))
		return 0;
	test->io = memtype_test_ioremap(setup);
	if (test->io)
		return 0;
	memtype_test_free_phys(test);
	return -ENOMEM;
}

static int memtype_test_check(const struct memtype_test_setup *setup)
{
	u32 flags = setup->flags;
	unsigned long align = PAGE_SIZE << memtype_test_order(setup);

	if (setup->prot > MEMTYPE_TEST_PWT || flags & ~MEMTYPE_TEST_FLAGS)
		return -EINVAL;
	if (setup->prot == MEMTYPE_TEST_PWT && !(flags & MEMTYPE_TEST_UNTRACKED))
		return -EINVAL;
	if (!setup->size ||
	    setup->size > (setup->phys ? MEMTYPE_TEST_MAX_PHYS : MEMTYPE_TEST_MAX_SIZE) ||
	    !IS_ALIGNED(setup->size | setup->phys, align))
		return -EINVAL;

	/* A PMD cannot be made before a fault, nor with another type than vm_page_prot. */
	if (flags & MEMTYPE_TEST_HUGE &&
	    flags & (MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_PTE_ONLY | MEMTYPE_TEST_MIXEDMAP))
		return -EINVAL;
	/* Nor can vm_insert_page() insert one with another type. */
	if (flags & MEMTYPE_TEST_MIXEDMAP && flags & (MEMTYPE_TEST_PTE_ONLY | MEMTYPE_TEST_MIXED))
		return -EINVAL;
	if (setup->phys && flags & (MEMTYPE_TEST_MIXEDMAP | MEMTYPE_TEST_SET_RAM))
		return -EINVAL;
	if (setup->prot == MEMTYPE_TEST_WB && flags & (MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_MIXED))
		return -EINVAL;
	if (flags & MEMTYPE_TEST_MIXED && !IS_ALIGNED(setup->size, 2 * PAGE_SIZE))
		return -EINVAL;
	if (flags & (MEMTYPE_TEST_TAILS | MEMTYPE_TEST_NO_MAP) &&
	    (setup->phys || flags & MEMTYPE_TEST_MIXEDMAP))
		return -EINVAL;
	if (flags & MEMTYPE_TEST_UNTRACKED &&
	    (flags & (MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_MIXEDMAP)) != MEMTYPE_TEST_PREMAP)
		return -EINVAL;
	if (flags & MEMTYPE_TEST_WB_ENTRIES &&
	    (~flags & (MEMTYPE_TEST_SET_RAM | MEMTYPE_TEST_UNTRACKED)))
		return -EINVAL;
	if (flags & (MEMTYPE_TEST_MKWRITE | MEMTYPE_TEST_NOMEM | MEMTYPE_TEST_STUCK) &&
	    flags & (MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_HUGE | MEMTYPE_TEST_MIXEDMAP))
		return -EINVAL;
	if (flags & MEMTYPE_TEST_IOREMAP && (!setup->phys || flags & MEMTYPE_TEST_MIXED))
		return -EINVAL;

	if ((flags & MEMTYPE_TEST_SET_RAM || setup->prot == MEMTYPE_TEST_PWT) &&
	    !IS_ENABLED(CONFIG_X86))
		return -EOPNOTSUPP;
	if (flags & MEMTYPE_TEST_NO_MAP && !IS_ENABLED(CONFIG_ARM64))
		return -EOPNOTSUPP;
	return 0;
}

static struct memtype_test *memtype_test_create(const struct memtype_test_setup *setup)
{
	const struct memtype_test new = {
		.setup = *setup, .nr_pages = setup->size >> PAGE_SHIFT,
	};
	struct memtype_test *test;
	int ret;

	ret = memtype_test_check(setup);
	if (ret)
		return ERR_PTR(ret);
	test = kmemdup(&new, sizeof(new), GFP_KERNEL);
	if (!test)
		return ERR_PTR(-ENOMEM);
	if (memtype_test_has(test, MEMTYPE_TEST_MIXED))
		test->first = test->nr_pages / 2;

	ret = setup->phys ? memtype_test_claim_phys(test) : memtype_test_alloc_ram(test);
	if (ret) {
		kfree(test);
		return ERR_PTR(ret);
	}
	return test;
}

static void memtype_test_destroy(struct memtype_test *test)
{
	if (test->pages)
		memtype_test_free_ram(test);
	else
		memtype_test_free_phys(test);
	kfree(test);
}

#ifdef CONFIG_X86
/* Interrupts, too, would be recorded. */
static u64 memtype_test_marked_read(const u64 *addr)
{
	unsigned long flags;
	u64 value;

	local_irq_save(flags);
	asm volatile("invlpg (%1)\n\t"
		     "xchg %%bx, %%bx\n\t"
		     "mov (%1), %0\n\t"
		     "xchg %%bx, %%bx" : "=&r" (value) : "r" (addr) : "memory");
	local_irq_restore(flags);
	return value;
}

static long memtype_test_access(const struct memtype_test *test,
				struct memtype_test_access __user *user)
{
	struct memtype_test_access access;
	u64 *addr;

	if (!test || !(test->pages || test->io))
		return -EINVAL;
	if (copy_from_user(&access, user, sizeof(access)))
		return -EFAULT;
	addr = test->pages ? page_address(test->pages[0]) : (u64 __force *)test->io;
	/* Faults of the second stage come here, and not between the marks. */
	WRITE_ONCE(*addr, access.value);
	access.value = memtype_test_marked_read(addr);
	access.addr = (unsigned long)addr;
	return copy_to_user(user, &access, sizeof(access)) ? -EFAULT : 0;
}
#else
static long memtype_test_access(const struct memtype_test *test,
				struct memtype_test_access __user *user)
{
	return -EOPNOTSUPP;
}
#endif

#ifdef CONFIG_MEMTYPE
static long memtype_test_kind(unsigned long addr)
{
	struct memtype_mapping map;

	if (memtype_find_mapping(current->mm, addr, &map) || !map.present)
		return -EFAULT;
	return map.kind;
}
#else
static long memtype_test_kind(unsigned long addr)
{
	return -EOPNOTSUPP;
}
#endif

static long memtype_test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct memtype_test_setup setup;
	struct memtype_test *test;

	if (cmd == MEMTYPE_TEST_ACCESS)
		return memtype_test_access(READ_ONCE(file->private_data), (void __user *)arg);
	if (cmd == MEMTYPE_TEST_WAITING)
		return atomic_read(&memtype_test_waiting);
	if (cmd == MEMTYPE_TEST_KIND)
		return memtype_test_kind(arg);
	if (cmd != MEMTYPE_TEST_SETUP)
		return -ENOTTY;
	if (copy_from_user(&setup, (void __user *)arg, sizeof(setup)))
		return -EFAULT;
	test = memtype_test_create(&setup);
	if (IS_ERR(test))
		return PTR_ERR(test);
	/* Other threads may be here or in mmap(): the first setup wins. */
	if (cmpxchg(&file->private_data, NULL, test)) {
		memtype_test_destroy(test);
		return -EBUSY;
	}
	return 0;
}

static int memtype_test_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		memtype_test_destroy(file->private_data);
	return 0;
}

static const struct file_operations memtype_test_fops = {
	.open = nonseekable_open,
	.unlocked_ioctl = memtype_test_ioctl,
	.mmap = memtype_test_mmap,
	.release = memtype_test_release,
};

static int __init memtype_test_init(void)
{
	/* The safe variant does not know mmap(), and this file is never removed. */
	debugfs_create_file_unsafe("memtype_test", 0600, NULL, NULL, &memtype_test_fops);
	return 0;
}
late_initcall(memtype_test_init);
