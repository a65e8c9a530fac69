// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU cache maintenance for DMA that bypasses the caches.
 *
 * Which pages, and when, is up to the owners of IOMMU domains. Here is how: page frames,
 * found again in the kernel's address space, in chunks that keep the fences few and the
 * scheduler happy.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/dma_cache.h>
#include <linux/export.h>
#include <linux/fault-inject.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/iommu_coherency.h>
#include <linux/ktime.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/symbol_ns.h>

#include <asm/dma_cache.h>
#include <kunit/static_stub.h>

#define CREATE_TRACE_POINTS
#include <trace/events/dma_cache.h>

#if IS_ENABLED(CONFIG_IOMMUFD_TEST)
/* The mock device simulates memory that is not coherent. */
EXPORT_TRACEPOINT_SYMBOL_GPL(dma_cache_pages);
#endif

/* The longest stretch between two fences, and without a chance for other tasks. */
#define CHUNK_PAGES	(SZ_2M / PAGE_SIZE)

static enum { DMA_CACHE_AUTO, DMA_CACHE_ON, DMA_CACHE_OFF } dma_cache_mode __initdata;
static bool dma_cache_clwb __initdata;
static bool dma_cache_on __ro_after_init;
static unsigned int dma_cache_line __ro_after_init;	/* bytes */

static struct dma_cache_stats {
	atomic64_t pages, lines, chunks, skipped, failed, ns, longest_ns;
} dma_cache_stats[2];

/**
 * dma_cache_active() - whether this kernel maintains caches for DMA at all
 *
 * Context: Any. The answer never changes.
 * Return: true if the owner of a domain that does not enforce coherency has to maintain
 * what it maps there.
 */
bool dma_cache_active(void)
{
	return dma_cache_on;
}
EXPORT_SYMBOL_NS_GPL(dma_cache_active, SYMBOL_NS(DMA_CACHE));

/* Whether this task was killed, or a test wants a clean to fail as if it had been */
static bool dma_cache_killed(void)
{
#if IS_ENABLED(CONFIG_IOMMUFD_TEST)
	static struct fault_attr fault;		/* by fail-nth only */

	if (should_fail(&fault, 1))
		return true;
#endif
	return fatal_signal_pending(current);
}

/* Pages are cleaned for a mapping, which a task that was killed no longer makes: false. */
static bool dma_cache_chunk_begin(struct dma_cache *dc)
{
	if (dc->op == DMA_CACHE_CLEAN && dma_cache_killed()) {
		dc->error = -EINTR;
		return false;
	}
	dc->chunk_ns = ktime_get_ns();
	arch_dma_cache_fence();
	return true;
}

static void dma_cache_chunk_end(struct dma_cache *dc)
{
	struct dma_cache_stats *stats = &dma_cache_stats[dc->op];
	s64 longest, ns;

	arch_dma_cache_fence();
	dc->chunks++;
	dc->room = CHUNK_PAGES;
	ns = ktime_get_ns() - dc->chunk_ns;
	longest = atomic64_read(&stats->longest_ns);
	while (ns > longest && !atomic64_try_cmpxchg(&stats->longest_ns, &longest, ns))
		;
}

/**
 * dma_cache_begin() - begin to maintain caches
 * @dc: filled in
 * @op: what is going to be done to the pages that dma_cache_add() gets
 *
 * The CPU's earlier stores are maintained with the lines they are in.
 *
 * Context: May sleep. The caller holds no lock that others need soon, such as an mmap_lock,
 * and calls dma_cache_end() in the same task.
 */
void dma_cache_begin(struct dma_cache *dc, enum dma_cache_op op)
{
	might_sleep();
	*dc = (struct dma_cache) { .op = op, .room = CHUNK_PAGES, .start_ns = ktime_get_ns() };
}
EXPORT_SYMBOL_NS_GPL(dma_cache_begin, SYMBOL_NS(DMA_CACHE));

/*
 * How to reach a page: 0 for the linear map, 1 for memory that is not in it, -ENXIO for what
 * is no memory and has no dirty lines. *@same becomes the number of pages from @pfn on that are
 * certainly reached like it, and may stay 1 if it is. A page that is @pinned has a struct page.
 */
static int dma_cache_kind(unsigned long pfn, bool pinned, unsigned long *same)
{
	if (pinned || pfn_valid(pfn)) {
		struct page *page = pfn_to_page(pfn), *head;

		if (*same > 1) {
			head = compound_head(page);
			*same = compound_nr(head) - (pfn - page_to_pfn(head));
		}
		if (is_zone_device_page(page))
			return is_pci_p2pdma_page(page) ? -ENXIO : 0;
		if (!PageReserved(page) || page_is_ram(pfn))
			return 0;
	} else {
		/* pfn_valid() is the same for all of it: no look at each page of a BAR */
		*same = PAGES_PER_SUBSECTION - pfn % PAGES_PER_SUBSECTION;
		if (!arch_dma_cache_is_memory(PFN_PHYS(pfn), PFN_PHYS(*same)))
			return -ENXIO;
	}
	*same = 1;
	return arch_dma_cache_is_memory(PFN_PHYS(pfn), PAGE_SIZE) ? 1 : -ENXIO;
}

static __always_inline void dma_cache_count(struct dma_cache *dc, unsigned long pfn,
					    unsigned long npages, int result)
{
	if (!result) {
		dc->pages += npages;
	} else if (result == -EFAULT || (result == -EHWPOISON && dc->op == DMA_CACHE_CLEAN)) {
		dc->failed += npages;
		dc->error = result;
	} else {
		dc->skipped += npages;
	}
	trace_dma_cache_pages(dc->op, pfn, npages, result);
}

/* Returns @end, or an address in the first page that is not mapped. */
static __always_inline unsigned long dma_cache_lines(enum dma_cache_op op, unsigned long start,
						     unsigned long end)
{
	KUNIT_STATIC_STUB_REDIRECT(dma_cache_lines, op, start, end);
	return arch_dma_cache_lines(op, start, end, dma_cache_line);
}

/* Go on where a page faulted at @bad, and step over those that do. */
static noinline void dma_cache_step_over(struct dma_cache *dc, unsigned long start,
					 unsigned long bad, unsigned long pfn,
					 unsigned long npages)
{
	unsigned long end = start + npages * PAGE_SIZE, done;

	for (;;) {
		done = (bad - start) / PAGE_SIZE;
		if (done)
			dma_cache_count(dc, pfn, done, 0);
		if (done == npages)
			return;
		pfn += done;
		/* A poisoned page loses its linear mapping, pinned or not. */
		dma_cache_count(dc, pfn, 1,
				pfn_valid(pfn) && is_page_hwpoison(pfn_to_page(pfn)) ?
				-EHWPOISON : -EFAULT);
		pfn++;
		npages -= done + 1;
		if (!npages)
			return;
		start += (done + 1) * PAGE_SIZE;
		bad = dma_cache_lines(dc->op, start, end);
	}
}

/* Maintain what is mapped at @addr. */
static __always_inline void dma_cache_maintain(struct dma_cache *dc, void *addr,
					       unsigned long pfn, unsigned long npages)
{
	unsigned long start = (unsigned long)addr, end = start + npages * PAGE_SIZE;
	unsigned long bad = dma_cache_lines(dc->op, start, end);

	if (likely(bad == end))
		dma_cache_count(dc, pfn, npages, 0);
	else
		dma_cache_step_over(dc, start, bad, pfn, npages);
}

/* Memory that the linear map lacks: hidden by mem= (x86). */
static void dma_cache_maintain_unmapped(struct dma_cache *dc, unsigned long pfn,
					unsigned long npages)
{
	void *addr;

	/* Nobody pins it, so keep it from being unplugged. */
	get_online_mems();
	addr = memremap(PFN_PHYS(pfn), npages * PAGE_SIZE, MEMREMAP_WB);
	if (addr) {
		dma_cache_maintain(dc, addr, pfn, npages);
		memunmap(addr);
	} else {
		dma_cache_count(dc, pfn, npages, -EFAULT);
	}
	put_online_mems();
}

/*
 * Returns how many pages are done: to the end of the chunk, or as far as they are alike. 0 if
 * no chunk is to begin. What has no lines needs no chunk.
 */
static unsigned long dma_cache_add_some(struct dma_cache *dc, unsigned long pfn,
					unsigned long npages, bool pinned)
{
	unsigned long most = min(npages, dc->room), n = most, same;
	int kind = dma_cache_kind(pfn, pinned, &n);

	while (n < most) {
		same = most - n;
		if (dma_cache_kind(pfn + n, pinned, &same) != kind)
			break;
		n += same;
	}
	n = min(n, most);
	if (kind < 0) {
		dma_cache_count(dc, pfn, n, kind);
		cond_resched();
		return n;
	}
	if (dc->room == CHUNK_PAGES && !dma_cache_chunk_begin(dc))
		return 0;
	if (likely(!kind))
		dma_cache_maintain(dc, __va(PFN_PHYS(pfn)), pfn, n);
	else
		dma_cache_maintain_unmapped(dc, pfn, n);
	dc->room -= n;
	if (!dc->room) {
		dma_cache_chunk_end(dc);
		cond_resched();
	}
	return n;
}

static noinline void dma_cache_add_all(struct dma_cache *dc, unsigned long pfn,
				       unsigned long npages, bool pinned)
{
	unsigned long n;

	for (; npages && dc->error != -EINTR; npages -= n) {
		n = dma_cache_add_some(dc, pfn, npages, pinned);
		pfn += n;
	}
}

/*
 * Single pages, which are most of what there is in fragmented memory, so that all that is around
 * their lines counts. Returns how many of @pfns are done: as far as they are no run (@npfns, or
 * their neighbour, says so), are in the linear map, do not fault, and do not begin or end a chunk.
 */
static __always_inline unsigned long dma_cache_add_single(struct dma_cache *dc,
							  const unsigned long *pfns,
							  const u32 *npfns, unsigned long n)
{
	const enum dma_cache_op op = dc->op;
	unsigned long i, most = dc->room == CHUNK_PAGES ? 0 : min(n, dc->room - 1);

	for (i = 0; i < most; i++) {
		unsigned long pfn = pfns[i], start = (unsigned long)__va(PFN_PHYS(pfn));
		struct page *page = pfn_to_page(pfn);

		if (npfns ? npfns[i] != 1 : i + 1 < n && pfns[i + 1] == pfn + 1)
			break;
		if (is_zone_device_page(page) || PageReserved(page))
			break;
		if (dma_cache_lines(op, start, start + PAGE_SIZE) != start + PAGE_SIZE)
			break;
		trace_dma_cache_pages(op, pfn, 1, 0);
	}
	dc->pages += i;
	dc->room -= i;
	return i;
}

/**
 * dma_cache_add() - maintain the caches for a range of page frames
 * @dc: of dma_cache_begin()
 * @pfn: first page frame
 * @npages: how many pages
 *
 * What is no memory (MMIO, also of a PCI device that offers it as ZONE_DEVICE) is left
 * alone. So is poisoned memory that has lost its linear mapping, if it is to be flushed;
 * that it cannot be cleaned is an error, as nobody shall map it any more. After a fatal
 * signal to the task, no further chunk is cleaned.
 *
 * Context: May sleep. The pages are pinned, or reserved, or page frames without pages.
 */
void dma_cache_add(struct dma_cache *dc, unsigned long pfn, unsigned long npages)
{
	dma_cache_add_all(dc, pfn, npages, false);
}
EXPORT_SYMBOL_NS_GPL(dma_cache_add, SYMBOL_NS(DMA_CACHE));

/**
 * dma_cache_add_runs() - maintain the caches for runs of pages that have a struct page each
 * @dc: of dma_cache_begin()
 * @pfns: first page frame of each run
 * @npfns: how many pages each run has
 * @skip: how many pages to leave out at the beginning
 * @npages: how many pages come after them
 *
 * As dma_cache_add() of each run, but does not ask whether there is a struct page. In fragmented
 * memory that, and a call for each page, would cost as much as all the rest around the lines.
 *
 * Context: May sleep. The pages are pinned, or reserved.
 */
void dma_cache_add_runs(struct dma_cache *dc, const unsigned long *pfns, const u32 *npfns,
			unsigned long skip, unsigned long npages)
{
	unsigned long n;

	while (npages) {
		if (skip >= *npfns) {
			skip -= *npfns++;
			pfns++;
			continue;
		}
		n = skip ? 0 : dma_cache_add_single(dc, pfns, npfns, npages);
		if (n) {
			pfns += n;
			npfns += n;
		} else {
			n = min(npages, *npfns++ - skip);
			dma_cache_add_all(dc, *pfns++ + skip, n, true);
			skip = 0;
		}
		npages -= n;
	}
}
EXPORT_SYMBOL_NS_GPL(dma_cache_add_runs, SYMBOL_NS(DMA_CACHE));

/**
 * dma_cache_add_pfns() - maintain the caches for pages that have a struct page each
 * @dc: of dma_cache_begin()
 * @pfns: their page frames
 * @npfns: how many
 *
 * As dma_cache_add_runs(), for who has not looked for runs.
 *
 * Context: May sleep. The pages are pinned, or reserved.
 */
void dma_cache_add_pfns(struct dma_cache *dc, const unsigned long *pfns, unsigned long npfns)
{
	unsigned long n;

	while (npfns) {
		n = dma_cache_add_single(dc, pfns, NULL, npfns);
		if (!n) {
			for (n = 1; n < npfns && pfns[n] == pfns[0] + n; n++)
				;
			dma_cache_add_all(dc, pfns[0], n, true);
		}
		pfns += n;
		npfns -= n;
	}
}
EXPORT_SYMBOL_NS_GPL(dma_cache_add_pfns, SYMBOL_NS(DMA_CACHE));

/**
 * dma_cache_clean_pages() - clean pages that GUP has pinned
 * @pages: the pages
 * @npages: how many
 *
 * Context: May sleep.
 * Return: As dma_cache_end().
 */
int dma_cache_clean_pages(struct page **pages, unsigned long npages)
{
	unsigned long pfns[64], i, n;
	struct dma_cache dc;

	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	for (; npages; npages -= n) {
		n = min(npages, ARRAY_SIZE(pfns));
		for (i = 0; i < n; i++)
			pfns[i] = page_to_pfn(*pages++);
		dma_cache_add_pfns(&dc, pfns, n);
	}
	return dma_cache_end(&dc);
}
EXPORT_SYMBOL_NS_GPL(dma_cache_clean_pages, SYMBOL_NS(DMA_CACHE));

/**
 * dma_cache_unreachable() - whether page frames have lines that nobody can maintain
 * @pfn: page frame that a process maps, without a reference to a page
 * @prot: of the entry by which it does
 *
 * Memory that the linear map lacks (no-map) is left alone, as it has no dirty lines where
 * nobody caches it. If a process does, a device that bypasses the caches must not have it.
 *
 * Context: Any.
 * Return: Whether it is so, and caches are maintained at all.
 */
bool dma_cache_unreachable(unsigned long pfn, pgprot_t prot)
{
	return dma_cache_on && arch_dma_cache_unreachable(PFN_PHYS(pfn), prot);
}
EXPORT_SYMBOL_NS_GPL(dma_cache_unreachable, SYMBOL_NS(DMA_CACHE));

/**
 * dma_cache_end() - finish maintenance
 * @dc: of dma_cache_begin()
 *
 * All lines have reached memory when this returns.
 *
 * Context: May sleep.
 * Return: 0; -EFAULT if cacheable memory could not be reached, or -EHWPOISON if poisoned
 * memory was to be cleaned: everything else was maintained nevertheless; -EINTR if the task
 * was killed before all was clean. Before a device gets access each is fatal. After it had
 * access there is nothing left to do: the first time, the kernel's log has it.
 */
int dma_cache_end(struct dma_cache *dc)
{
	struct dma_cache_stats *stats = &dma_cache_stats[dc->op];

	if (dc->room != CHUNK_PAGES)
		dma_cache_chunk_end(dc);
	dc->lines = dc->pages * (PAGE_SIZE / dma_cache_line);
	atomic64_add(dc->pages, &stats->pages);
	atomic64_add(dc->lines, &stats->lines);
	atomic64_add(dc->chunks, &stats->chunks);
	atomic64_add(dc->skipped, &stats->skipped);
	atomic64_add(dc->failed, &stats->failed);
	atomic64_add(ktime_get_ns() - dc->start_ns, &stats->ns);
	trace_dma_cache_done(dc);
	if (dc->error && dc->op == DMA_CACHE_FLUSH)
		pr_warn_once("dma_cache: %llu pages that a device had access to cannot be flushed\n",
			     dc->failed);
	return dc->error;
}
EXPORT_SYMBOL_NS_GPL(dma_cache_end, SYMBOL_NS(DMA_CACHE));

static int dma_cache_show(struct seq_file *m, void *v)
{
	static const char * const names[] = { "clean", "flush" };
	unsigned int op;

	seq_printf(m, "active %s\n", dma_cache_on ? "yes" : "no");
	for (op = 0; op < ARRAY_SIZE(dma_cache_stats); op++) {
		struct dma_cache_stats *s = &dma_cache_stats[op];

		seq_printf(m, "%s_instruction %s\n", names[op], arch_dma_cache_name(op));
		seq_printf(m, "%s_pages %lld\n", names[op], atomic64_read(&s->pages));
		seq_printf(m, "%s_lines %lld\n", names[op], atomic64_read(&s->lines));
		seq_printf(m, "%s_chunks %lld\n", names[op], atomic64_read(&s->chunks));
		seq_printf(m, "%s_skipped %lld\n", names[op], atomic64_read(&s->skipped));
		seq_printf(m, "%s_failed %lld\n", names[op], atomic64_read(&s->failed));
		seq_printf(m, "%s_ns %lld\n", names[op], atomic64_read(&s->ns));
		seq_printf(m, "%s_longest_ns %lld\n", names[op], atomic64_read(&s->longest_ns));
	}
	iommu_show_coherency(m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dma_cache);

static int __init dma_cache_setup(char *arg)
{
	char *word;

	while ((word = strsep(&arg, ","))) {
		if (!strcmp(word, "auto"))
			dma_cache_mode = DMA_CACHE_AUTO;
		else if (!strcmp(word, "on"))
			dma_cache_mode = DMA_CACHE_ON;
		else if (!strcmp(word, "off"))
			dma_cache_mode = DMA_CACHE_OFF;
		else if (!strcmp(word, "clwb"))
			dma_cache_clwb = true;
		else
			pr_err("dma_cache: unknown option \"%s\"\n", word);
	}
	return 0;
}
early_param("dma_cache", dma_cache_setup);

/* Before any driver can make a domain */
static int __init dma_cache_init(void)
{
	dma_cache_line = arch_dma_cache_init(dma_cache_clwb);
	dma_cache_on = dma_cache_mode == DMA_CACHE_ON ||
		       (dma_cache_mode == DMA_CACHE_AUTO && ARCH_DMA_CACHE_AUTO);
	if (dma_cache_on)
		pr_info("dma_cache: on%s: clean by %s, flush by %s, lines of %u bytes\n",
			dma_cache_mode == DMA_CACHE_AUTO ? " by default" : "",
			arch_dma_cache_name(DMA_CACHE_CLEAN), arch_dma_cache_name(DMA_CACHE_FLUSH),
			dma_cache_line);
	else
		pr_info("dma_cache: off%s: DMA must be coherent\n",
			dma_cache_mode == DMA_CACHE_AUTO ? " by default" : "");
	debugfs_create_file("dma_cache", 0444, NULL, NULL, &dma_cache_fops);
	return 0;
}
subsys_initcall(dma_cache_init);

#ifdef CONFIG_DMA_CACHE_KUNIT_TEST
#include "dma_cache_kunit.c"
#endif
