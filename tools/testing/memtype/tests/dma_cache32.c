// SPDX-License-Identifier: GPL-2.0-only
/*
 * mm/dma_cache.c as a program for 32-bit x86, without kernel and C library.
 *
 * The headers that it includes are empty files; what it takes from them is here. The program
 * does the CALLS of its command line and prints, in hexadecimal, what they do to memory.
 *
 * 16 MiB from 1 MiB on have struct pages and a linear map at 0xc0000000, which lacks two pages:
 * one of them is poisoned. 16 MiB from 4 GiB on have neither. Everything else is MMIO.
 */
#include <stdbool.h>

typedef unsigned int u32;
typedef unsigned long long u64, phys_addr_t, pgprot_t;
typedef long long s64;
typedef struct { s64 n; } atomic64_t;
#define gfp_t		unsigned int
#define size_t		__SIZE_TYPE__

struct iommu_domain {
	const struct { bool (*enforce_cache_coherency)(struct iommu_domain *domain); } *ops;
	bool noncoherent;
};

struct page { char unused; };
struct iommu_group;
struct seq_file;

#define PAGE_SHIFT			12
#define PHYS_PFN(phys)			((unsigned long)((phys) >> PAGE_SHIFT))
#define iommu_map(...)			0
#define iommu_unmap(...)		((void)0)
#define iommu_group_declared_coherent(...)	false
#define IOMMU_WRITE			2
#define CONFIG_DMA_CACHE
#include <linux/dma_cache.h>

#define __init
#define __initdata
#define __ro_after_init
#define IS_ENABLED(...)			0
#define EXPORT_SYMBOL_NS_GPL(...)	struct dma_cache
#define DEFINE_SHOW_ATTRIBUTE(...)	struct dma_cache
#define early_param(...)		struct dma_cache
#define subsys_initcall(...)		struct dma_cache
#define debugfs_create_file(...)	((void)0)
#define seq_printf(...)			((void)0)
#define iommu_show_coherency(...)	((void)0)
#define strsep(...)			NULL
#define strcmp(...)			0
#define pr_info(...)			((void)0)
#define pr_err(...)			((void)0)

#define NULL			((void *)0)
#define ENXIO			6
#define EINTR			4
#define EFAULT			14
#define EHWPOISON		133
#define SZ_2M			0x200000
#define PAGE_SIZE		4096ul
#define PFN_PHYS(pfn)		((phys_addr_t)(pfn) << PAGE_SHIFT)
#define MEMREMAP_WB		1
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof(*(array)))
#define ARCH_DMA_CACHE_AUTO	true
#define KUNIT_STATIC_STUB_REDIRECT(...)	((void)0)

static struct page all_pages[0x1000];
#define FIRST			0x100ul
#define HOLE			0x180ul
#define POISONED		0x1a0ul
#define LINEAR(pfn)		(0xc0000000ul + (pfn) * PAGE_SIZE)

static long system_call(long number, long first, const void *second, long third)
{
	asm volatile("int $0x80" : "+a" (number)
		     : "b" (first), "c" (second), "d" (third) : "memory");
	return number;
}

static void say(const char *word, u64 a, u64 b, u64 c)
{
	u64 numbers[] = { a, b, c };
	char line[80], *at = line;
	int i, shift;

	while (*word)
		*at++ = *word++;
	for (i = 0; i < 3; i++) {
		*at++ = ' ';
		for (shift = 60; shift && !(numbers[i] >> shift); shift -= 4)
			;
		for (; shift >= 0; shift -= 4)
			*at++ = "0123456789abcdef"[(numbers[i] >> shift) & 0xf];
	}
	*at++ = '\n';
	system_call(4, 1, line, at - line);
}

#define atomic64_read(v)			((v)->n)
#define atomic64_add(value, v)			((void)((v)->n += (value)))
#define atomic64_try_cmpxchg(...)		true
#define ktime_get_ns()				0
#define might_sleep()				((void)0)
#define fatal_signal_pending(...)		false
#define cond_resched()				say("resched", 0, 0, 0)
#define get_online_mems()			say("lock", 0, 0, 0)
#define put_online_mems()			say("unlock", 0, 0, 0)
#define pfn_valid(pfn)				((pfn) - FIRST < ARRAY_SIZE(all_pages))
#define pfn_to_page(pfn)			(&all_pages[(pfn) - FIRST])
#define page_to_pfn(page)			((page) - all_pages + FIRST)
#define is_zone_device_page(...)		false
#define is_pci_p2pdma_page(...)			false
#define PageReserved(...)			false
#define PageCompound(...)			false
#define compound_nr(...)			1
#define compound_head(page)			(page)
#define PAGES_PER_SUBSECTION			512
#define likely(x)				(x)
#define __va(phys)		((void *)LINEAR((unsigned long)((phys) >> PAGE_SHIFT)))
#define __always_inline				inline
#define noinline
#define page_is_ram(...)			false
#define is_page_hwpoison(page)			(page_to_pfn(page) == POISONED)
#define memunmap(addr)				say("memunmap", (unsigned long)(addr), 0, 0)
#define arch_dma_cache_init(...)		64
#define arch_dma_cache_name(...)		""
#define arch_dma_cache_fence()			say("fence", 0, 0, 0)
#define arch_dma_cache_is_memory(phys, ...)	((phys) >> 24 == 0x100)
#define arch_dma_cache_unreachable(...)		false

static unsigned long min(unsigned long a, unsigned long b)
{
	return a < b ? a : b;
}

static void pr_warn_once(const char *format, u64 npages)
{
	say("warning", npages, 0, 0);
}

/* The last MiB cannot be mapped. */
static void *memremap(phys_addr_t phys, unsigned long size, unsigned long flags)
{
	say("memremap", phys, size, flags);
	return phys < 0x100f00000 ? (void *)0x80000000 : NULL;
}

static unsigned long arch_dma_cache_lines(enum dma_cache_op op, unsigned long start,
					  unsigned long end, unsigned int line)
{
	if (start <= LINEAR(HOLE) && LINEAR(HOLE) < end)
		end = LINEAR(HOLE);
	if (start <= LINEAR(POISONED) && LINEAR(POISONED) < end)
		end = LINEAR(POISONED);
	say("lines", op, start, end);
	return end;
}

static void trace_dma_cache_pages(enum dma_cache_op op, unsigned long pfn, unsigned long npages,
				  int result)
{
	say("pages", pfn, npages, -result);
}

static void trace_dma_cache_done(const struct dma_cache *dc)
{
	say("done", dc->chunks, dc->pages, dc->lines);
	say("not", dc->skipped, dc->failed, -dc->error);
}

#include "mm/dma_cache.c"

void _start(void)
{
	struct dma_cache dc;

	dma_cache_init();
	dma_cache_begin(&dc, OP);
	CALLS;
	say("end", -dma_cache_end(&dc), 0, 0);
	system_call(1, 0, NULL, 0);
}
