// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of cache maintenance for DMA; included by dma_cache.c.
 *
 * They run at boot, before anything else maintains caches and before init memory is freed.
 * What became of each page is what the trace events say.
 */
#include <kunit/test.h>
#include <kunit/test-bug.h>
#include <linux/cpufeature.h>
#include <linux/extable.h>
#include <linux/kallsyms.h>
#include <linux/kmsg_dump.h>
#include <linux/kprobes.h>
#include <linux/memblock.h>
#include <linux/pci.h>
#include <linux/random.h>
#include <linux/set_memory.h>

#include <asm/extable.h>
#include <asm/insn.h>
#include <asm/tlbflush.h>

/* Of a chunk */
#define MOST_PAGES	(SZ_2M / PAGE_SIZE)
#define BLOCK_PAGES	(2 * MOST_PAGES)
#define PAGE_LINES	(PAGE_SIZE / dma_cache_line)

struct dma_cache_run {
	enum dma_cache_op op;
	unsigned long pfn, npages;
	int result;
};

struct dma_cache_fixture {
	struct page *block;
	unsigned long pfn;		/* of BLOCK_PAGES pages */
	struct dma_cache_stats stats[2];
	unsigned long hole;		/* address of a page that has no linear mapping */
	u8 *memory, *agreed;		/* of dma_cache_lines_simulated() */
	unsigned int nr_runs;		/* also of those that found no room */
	struct dma_cache_run runs[8];
};

static void dma_cache_note_run(void *data, enum dma_cache_op op, unsigned long pfn,
			       unsigned long npages, int result)
{
	struct dma_cache_fixture *f = data;

	if (f->nr_runs < ARRAY_SIZE(f->runs))
		f->runs[f->nr_runs] = (struct dma_cache_run) { op, pfn, npages, result };
	f->nr_runs++;
}

static int dma_cache_fixture_init(struct kunit *test)
{
	struct dma_cache_fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->block = alloc_pages(GFP_KERNEL, get_order(BLOCK_PAGES * PAGE_SIZE));
	KUNIT_ASSERT_NOT_NULL(test, f->block);
	f->pfn = page_to_pfn(f->block);
	memcpy(f->stats, dma_cache_stats, sizeof(f->stats));
	memset(dma_cache_stats, 0, sizeof(dma_cache_stats));
	test->priv = f;
	return register_trace_dma_cache_pages(dma_cache_note_run, f);
}

static void dma_cache_fixture_exit(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;

	if (!f)
		return;
	unregister_trace_dma_cache_pages(dma_cache_note_run, f);
	tracepoint_synchronize_unregister();
	memcpy(dma_cache_stats, f->stats, sizeof(f->stats));
	__free_pages(f->block, get_order(BLOCK_PAGES * PAGE_SIZE));
}

static void dma_cache_expect_run(struct kunit *test, unsigned int i, unsigned long pfn,
				 unsigned long npages, int result)
{
	struct dma_cache_fixture *f = test->priv;

	KUNIT_ASSERT_LT(test, i, min_t(unsigned int, f->nr_runs, ARRAY_SIZE(f->runs)));
	KUNIT_EXPECT_EQ_MSG(test, f->runs[i].pfn, pfn, "run %u", i);
	KUNIT_EXPECT_EQ_MSG(test, f->runs[i].npages, npages, "run %u", i);
	KUNIT_EXPECT_EQ_MSG(test, f->runs[i].result, result, "run %u", i);
}

/* How often the kernel's log has @text. */
static unsigned int dma_cache_logged(struct kunit *test, const char *text)
{
	size_t size = 1024, len;
	char *line = kunit_kzalloc(test, size, GFP_KERNEL);
	struct kmsg_dump_iter iter;
	unsigned int n = 0;

	KUNIT_ASSERT_NOT_NULL(test, line);
	kmsg_dump_rewind(&iter);
	while (kmsg_dump_get_line(&iter, false, line, size - 1, &len)) {
		line[len] = '\0';
		n += !!strstr(line, text);
	}
	return n;
}

/* For pages whose number matters, and not what becomes of them */
static unsigned long dma_cache_no_lines(enum dma_cache_op op, unsigned long start,
					unsigned long end)
{
	return end;
}

/* What dma_cache_lines() does where the cache instructions of the CPU fault. */
static unsigned long dma_cache_lines_fault(enum dma_cache_op op, unsigned long start,
					   unsigned long end)
{
	struct dma_cache_fixture *f = kunit_get_current_test()->priv;

	return f->hole >= start && f->hole < end ? f->hole : end;
}

/* One range, or many: the fences are as many as the pages need. */
static void dma_cache_chunks_test(struct kunit *test)
{
	static const unsigned int steps[] = { 1, 3, BLOCK_PAGES };
	static const unsigned int sizes[] = { 1, MOST_PAGES, MOST_PAGES + 1 };
	struct dma_cache_fixture *f = test->priv;
	unsigned int i, j, at;
	struct dma_cache dc;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			unsigned int size = sizes[j], step = steps[i];

			dma_cache_begin(&dc, DMA_CACHE_CLEAN);
			for (at = 0; at < size; at += step)
				dma_cache_add(&dc, f->pfn + at, min(step, size - at));
			KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
			KUNIT_EXPECT_EQ_MSG(test, dc.chunks, DIV_ROUND_UP(size, MOST_PAGES),
					    "%u by %u pages", size, step);
			KUNIT_EXPECT_EQ_MSG(test, dc.pages, size, "%u by %u pages", size, step);
			KUNIT_EXPECT_EQ_MSG(test, dc.lines, size * PAGE_LINES,
					    "%u by %u pages", size, step);
			KUNIT_EXPECT_EQ(test, dc.skipped, 0);
			KUNIT_EXPECT_EQ(test, dc.failed, 0);
		}
	}
}

/* As if this thread were a process that is killed. */
static void dma_cache_kill(void)
{
	sigaddset(&current->pending.signal, SIGKILL);
	set_thread_flag(TIF_SIGPENDING);
}

/*
 * However much there is to do, here 1 TiB in pieces of 4 MiB: the chunk that has begun is the
 * last one to be cleaned. A flush does all, here 16 MiB.
 */
static void dma_cache_killed_test(struct kunit *test)
{
	static const enum dma_cache_op ops[] = { DMA_CACHE_CLEAN, DMA_CACHE_FLUSH };
	struct dma_cache_fixture *f = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		bool clean = ops[i] == DMA_CACHE_CLEAN;
		unsigned long at, add = (clean ? SZ_1T : SZ_16M) / PAGE_SIZE / BLOCK_PAGES;
		struct dma_cache dc;

		dma_cache_begin(&dc, ops[i]);
		dma_cache_add(&dc, f->pfn, MOST_PAGES + 1);
		dma_cache_kill();
		dma_cache_add(&dc, f->pfn + 1, BLOCK_PAGES - 1);
		kunit_activate_static_stub(test, dma_cache_lines, dma_cache_no_lines);
		for (at = 0; at < add; at++)
			dma_cache_add(&dc, f->pfn, BLOCK_PAGES);
		kunit_deactivate_static_stub(test, dma_cache_lines);
		KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), clean ? -EINTR : 0);
		flush_signals(current);
		KUNIT_EXPECT_EQ(test, dc.chunks, clean ? 2 : 3 + 2 * add);
		KUNIT_EXPECT_EQ(test, dc.pages, clean ? 2 * MOST_PAGES :
						MOST_PAGES + (add + 1) * BLOCK_PAGES);
	}
}

/* A range goes out in order, in runs that end where the chunks do. */
static void dma_cache_runs_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	struct dma_cache dc;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	dma_cache_add(&dc, f->pfn, 5);
	dma_cache_add(&dc, f->pfn + 10, MOST_PAGES);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 3);
	dma_cache_expect_run(test, 0, f->pfn, 5, 0);
	dma_cache_expect_run(test, 1, f->pfn + 10, MOST_PAGES - 5, 0);
	dma_cache_expect_run(test, 2, f->pfn + MOST_PAGES + 5, 5, 0);
	KUNIT_EXPECT_EQ(test, f->runs[0].op, DMA_CACHE_FLUSH);
}

/* Runs of which the first pages are left out, and pages that are alone, to the end of a chunk */
static void dma_cache_add_runs_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	unsigned long pfn = f->pfn, pfns[] = { pfn, pfn + 10, pfn + 30, pfn + 40, pfn + 50 };
	u32 npfns[] = { 1, 5, 1, 4, 1 };
	struct dma_cache dc;
	unsigned int i;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	dma_cache_add_runs(&dc, pfns, npfns, 3, 6);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, dc.pages, 6);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 3);
	dma_cache_expect_run(test, 0, pfn + 12, 3, 0);
	dma_cache_expect_run(test, 1, pfn + 30, 1, 0);
	dma_cache_expect_run(test, 2, pfn + 40, 2, 0);

	f->nr_runs = 0;
	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	for (i = 0; i < MOST_PAGES + 1; i++)
		dma_cache_add_runs(&dc, &pfn, npfns, 0, 1);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, dc.pages, MOST_PAGES + 1);
	KUNIT_EXPECT_EQ(test, dc.lines, (MOST_PAGES + 1) * PAGE_LINES);
	KUNIT_EXPECT_EQ(test, dc.chunks, 2);
	KUNIT_EXPECT_EQ(test, f->nr_runs, MOST_PAGES + 1);

	kunit_activate_static_stub(test, dma_cache_lines, dma_cache_lines_fault);
	f->hole = (unsigned long)page_address(f->block) + 10 * PAGE_SIZE;
	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	npfns[1] = 1;
	dma_cache_add_runs(&dc, pfns, npfns, 0, 3);
	kunit_deactivate_static_stub(test, dma_cache_lines);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), -EFAULT);
	KUNIT_EXPECT_EQ(test, dc.pages, 2);
	KUNIT_EXPECT_EQ(test, dc.failed, 1);
}

/* Neighbours go together, in the middle of a chunk and where one begins and ends. */
static void dma_cache_add_pfns_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	unsigned long pfn = f->pfn;
	unsigned long pfns[] = { pfn, pfn + 1, pfn + 2, pfn + 9, pfn + 7, pfn + 20, pfn + 21 };
	struct dma_cache dc;
	unsigned int i;

	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	dma_cache_add_pfns(&dc, pfns, ARRAY_SIZE(pfns));
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, dc.pages, 7);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 4);
	dma_cache_expect_run(test, 0, pfn, 3, 0);
	dma_cache_expect_run(test, 1, pfn + 9, 1, 0);
	dma_cache_expect_run(test, 2, pfn + 7, 1, 0);
	dma_cache_expect_run(test, 3, pfn + 20, 2, 0);

	f->nr_runs = 0;
	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	for (i = 0; i < MOST_PAGES + 1; i++)
		dma_cache_add_pfns(&dc, &pfns[3], 1 + i % 2);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, dc.pages, MOST_PAGES + 1 + MOST_PAGES / 2);
	KUNIT_EXPECT_EQ(test, dc.chunks, 2);
	KUNIT_EXPECT_EQ(test, f->nr_runs, MOST_PAGES + 1 + MOST_PAGES / 2);
}

static void dma_cache_empty_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	struct dma_cache dc;

	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	dma_cache_add(&dc, f->pfn, 0);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, dc.chunks, 0);
	KUNIT_EXPECT_EQ(test, dc.pages, 0);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 0);
}

/* Memory has the same content after it as before; a flush does not lose what is dirty. */
static void dma_cache_keeps_content_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	u8 *data = page_address(f->block), *copy = kunit_kmalloc(test, 2 * PAGE_SIZE, GFP_KERNEL);
	enum dma_cache_op op;

	KUNIT_ASSERT_NOT_NULL(test, copy);
	for (op = DMA_CACHE_CLEAN; op <= DMA_CACHE_FLUSH; op++) {
		get_random_bytes(copy, 2 * PAGE_SIZE);
		memcpy(data, copy, 2 * PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, dma_cache_range(op, f->pfn, 2), 0);
		KUNIT_EXPECT_MEMEQ(test, data, copy, 2 * PAGE_SIZE);
	}
}

/*
 * What caches do that have one line, a page: @memory is what a device sees of it, and @agreed what
 * the page had when it last was the same. What the CPU wrote since then is dirty.
 */
static unsigned long dma_cache_lines_simulated(enum dma_cache_op op, unsigned long start,
					       unsigned long end)
{
	struct dma_cache_fixture *f = kunit_get_current_test()->priv;
	u8 *page = (u8 *)start;

	if (memcmp(page, f->agreed, PAGE_SIZE))
		memcpy(f->memory, page, PAGE_SIZE);
	else if (op == DMA_CACHE_FLUSH)
		memcpy(page, f->memory, PAGE_SIZE);
	else
		return end;
	memcpy(f->agreed, page, PAGE_SIZE);
	return end;
}

/* Both write back what is dirty, and only a flush lets the CPU see what a device wrote. */
static void dma_cache_content_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	u8 *page = page_address(f->block);
	enum dma_cache_op op;

	f->memory = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	f->agreed = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->memory);
	KUNIT_ASSERT_NOT_NULL(test, f->agreed);
	kunit_activate_static_stub(test, dma_cache_lines, dma_cache_lines_simulated);
	for (op = DMA_CACHE_CLEAN; op <= DMA_CACHE_FLUSH; op++) {
		get_random_bytes(page, PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, dma_cache_range(op, f->pfn, 1), 0);
		KUNIT_EXPECT_MEMEQ(test, f->memory, page, PAGE_SIZE);
		get_random_bytes(f->memory, PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, dma_cache_range(op, f->pfn, 1), 0);
		if (op == DMA_CACHE_CLEAN)
			KUNIT_EXPECT_MEMNEQ(test, page, f->memory, PAGE_SIZE);
		else
			KUNIT_EXPECT_MEMEQ(test, page, f->memory, PAGE_SIZE);
	}
	kunit_deactivate_static_stub(test, dma_cache_lines);
}

#ifdef CONFIG_ARM64
asmlinkage unsigned long dma_cache_lines_cvac(unsigned long start, unsigned long end,
					      unsigned long line);
asmlinkage unsigned long dma_cache_lines_civac(unsigned long start, unsigned long end,
					       unsigned long line);

static void * const dma_cache_loops[] = { dma_cache_lines_cvac, dma_cache_lines_civac };

static const char * __init dma_cache_wanted(enum dma_cache_op op)
{
	if (op == DMA_CACHE_CLEAN && !cpus_have_final_cap(ARM64_WORKAROUND_CLEAN_CACHE))
		return "DC CVAC";
	return "DC CIVAC";
}

/* The cache instruction at @addr, or NULL; Arm ARM DDI 0487, C5.3 */
static const char *dma_cache_decode(unsigned long addr, unsigned int *length)
{
	*length = AARCH64_INSN_SIZE;
	switch (*(u32 *)addr & ~0x1f) {
	case 0xd50b7a20:
		return "DC CVAC";
	case 0xd50b7e20:
		return "DC CIVAC";
	default:
		return NULL;
	}
}

/* Behind the RET of a loop is what its alternatives are patched from. */
static bool dma_cache_ends(unsigned long addr)
{
	return *(u32 *)addr == 0xd65f03c0;
}
#else
static void * const dma_cache_loops[] = { arch_dma_cache_lines };

static const char * __init dma_cache_wanted(enum dma_cache_op op)
{
	if (op == DMA_CACHE_CLEAN && dma_cache_clwb && boot_cpu_has(X86_FEATURE_CLWB))
		return "CLWB";
	return boot_cpu_has(X86_FEATURE_CLFLUSHOPT) ? "CLFLUSHOPT" : "CLFLUSH";
}

/* The cache instruction at @addr, or NULL; Intel SDM volume 2D, A.3 and A.4, group 15 */
static const char *dma_cache_decode(unsigned long addr, unsigned int *length)
{
	struct insn insn;
	bool prefixed = false;
	unsigned int i;

	if (insn_decode_kernel(&insn, (void *)addr)) {
		*length = 1;
		return NULL;
	}
	*length = insn.length;
	if (insn.opcode.bytes[0] != 0x0f || insn.opcode.bytes[1] != 0xae ||
	    X86_MODRM_MOD(insn.modrm.value) == 3)
		return NULL;
	for (i = 0; i < insn.prefixes.nbytes; i++)
		prefixed |= insn.prefixes.bytes[i] == 0x66;
	switch (X86_MODRM_REG(insn.modrm.value)) {
	case 6:
		return prefixed ? "CLWB" : NULL;
	case 7:
		return prefixed ? "CLFLUSHOPT" : "CLFLUSH";
	default:
		return NULL;
	}
}

static bool dma_cache_ends(unsigned long addr)
{
	return false;
}
#endif

/* A cache instruction of the kernel, by a probe on the one after it: it may fault itself. */
struct dma_cache_insn_count {
	struct kprobe probe;
	const char *name;
	unsigned long executed;
};

static int dma_cache_executed(struct kprobe *probe, struct pt_regs *regs)
{
	container_of(probe, struct dma_cache_insn_count, probe)->executed++;
	return 0;
}

static unsigned int __init dma_cache_find_insns(struct dma_cache_insn_count *count,
						unsigned int room)
{
	unsigned long at, end, size, offset;
	unsigned int i, n = 0, length;

	for (i = 0; i < ARRAY_SIZE(dma_cache_loops); i++) {
		at = (unsigned long)dma_cache_loops[i];
		if (!kallsyms_lookup_size_offset(at, &size, &offset))
			return 0;
		for (end = at + size; at < end && n < room && !dma_cache_ends(at); at += length) {
			count[n].name = dma_cache_decode(at, &length);
			if (!count[n].name)
				continue;
			count[n].probe.addr = (kprobe_opcode_t *)(at + length);
			count[n].probe.pre_handler = dma_cache_executed;
			n++;
		}
	}
	return n;
}

/* No emulator has caches, but the instruction that cleans a line is not the one that flushes it. */
static void __init dma_cache_instruction_test(struct kunit *test)
{
	const unsigned int room = 16;
	struct dma_cache_fixture *f = test->priv;
	struct dma_cache_insn_count *count;
	unsigned long wanted, others;
	enum dma_cache_op op;
	unsigned int i, n, on;

	if (!IS_ENABLED(CONFIG_KPROBES))
		kunit_skip(test, "nothing counts instructions without CONFIG_KPROBES");
	count = kunit_kcalloc(test, room, sizeof(*count), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, count);
	n = dma_cache_find_insns(count, room);
	KUNIT_ASSERT_GE(test, n, 2);

	for (on = 0; on < n; on++)
		if (register_kprobe(&count[on].probe))
			break;
	KUNIT_EXPECT_EQ(test, on, n);
	for (op = DMA_CACHE_CLEAN; on == n && op <= DMA_CACHE_FLUSH; op++) {
		for (i = 0; i < n; i++)
			count[i].executed = 0;
		KUNIT_EXPECT_EQ(test, dma_cache_range(op, f->pfn, 1), 0);
		wanted = 0;
		others = 0;
		for (i = 0; i < n; i++) {
			if (strcmp(count[i].name, dma_cache_wanted(op)))
				others += count[i].executed;
			else
				wanted += count[i].executed;
		}
		KUNIT_EXPECT_EQ_MSG(test, wanted, PAGE_LINES, "%s", dma_cache_wanted(op));
		KUNIT_EXPECT_EQ(test, others, 0);
	}
	while (on--)
		unregister_kprobe(&count[on].probe);
}

static int dma_cache_set_mapped(struct page *page, bool mapped)
{
	unsigned long addr = (unsigned long)page_address(page);
	int ret = mapped ? set_direct_map_default_noflush(page) :
			   set_direct_map_invalid_noflush(page);

	flush_tlb_kernel_range(addr, addr + PAGE_SIZE);
	return ret;
}

/*
 * Each of four pages in turn has no linear mapping: it alone is not maintained. Of the emulators,
 * only Bochs has cache instructions that fault.
 */
static void dma_cache_hole(struct kunit *test, enum dma_cache_op op, bool poisoned)
{
	struct dma_cache_fixture *f = test->priv;
	unsigned int i, n;

	for (i = 0; i < 4; i++) {
		struct page *page = f->block + i;
		unsigned long addr = (unsigned long)page_address(page), stop;
		struct dma_cache dc;
		bool skipped = poisoned && op == DMA_CACHE_FLUSH;
		int error = poisoned ? -EHWPOISON : -EFAULT, ret;

		if (poisoned)
			SetPageHWPoison(page);
		KUNIT_EXPECT_EQ(test, dma_cache_set_mapped(page, false), 0);
		stop = arch_dma_cache_lines(op, addr, addr + PAGE_SIZE, dma_cache_line);
		if (stop == addr + PAGE_SIZE)
			kunit_activate_static_stub(test, dma_cache_lines, dma_cache_lines_fault);
		f->hole = addr;
		f->nr_runs = 0;
		dma_cache_begin(&dc, op);
		dma_cache_add(&dc, f->pfn, 4);
		ret = dma_cache_end(&dc);
		KUNIT_EXPECT_EQ(test, dma_cache_set_mapped(page, true), 0);
		ClearPageHWPoison(page);

		KUNIT_EXPECT_TRUE(test, stop == addr || stop == addr + PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, ret, skipped ? 0 : error);
		KUNIT_EXPECT_EQ(test, dc.pages, 3);
		KUNIT_EXPECT_EQ(test, dc.lines, 3 * PAGE_LINES);
		KUNIT_EXPECT_EQ(test, dc.skipped, skipped);
		KUNIT_EXPECT_EQ(test, dc.failed, !skipped);

		n = 0;
		if (i)
			dma_cache_expect_run(test, n++, f->pfn, i, 0);
		dma_cache_expect_run(test, n++, f->pfn + i, 1, error);
		if (i < 3)
			dma_cache_expect_run(test, n++, f->pfn + i + 1, 3 - i, 0);
		KUNIT_EXPECT_EQ(test, f->nr_runs, n);
	}
}

static void dma_cache_unreachable_test(struct kunit *test)
{
	static const char warning[] = "that a device had access to cannot be flushed";

	dma_cache_hole(test, DMA_CACHE_CLEAN, false);
	KUNIT_EXPECT_EQ(test, dma_cache_logged(test, warning), 0);
	dma_cache_hole(test, DMA_CACHE_FLUSH, false);
	KUNIT_EXPECT_EQ(test, dma_cache_logged(test, warning), 1);
	KUNIT_EXPECT_EQ(test, atomic64_read(&dma_cache_stats[DMA_CACHE_CLEAN].failed), 4);
	KUNIT_EXPECT_EQ(test, atomic64_read(&dma_cache_stats[DMA_CACHE_FLUSH].failed), 4);
}

static void dma_cache_poisoned_test(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "no page can be poisoned without CONFIG_MEMORY_FAILURE");
	dma_cache_hole(test, DMA_CACHE_CLEAN, true);
	dma_cache_hole(test, DMA_CACHE_FLUSH, true);
	KUNIT_EXPECT_EQ(test, atomic64_read(&dma_cache_stats[DMA_CACHE_CLEAN].failed), 4);
	KUNIT_EXPECT_EQ(test, atomic64_read(&dma_cache_stats[DMA_CACHE_FLUSH].skipped), 4);
}

static void dma_cache_left_alone(struct kunit *test, unsigned long pfn, unsigned long npages)
{
	struct dma_cache_fixture *f = test->priv;
	struct dma_cache dc;

	f->nr_runs = 0;
	dma_cache_begin(&dc, DMA_CACHE_FLUSH);
	dma_cache_add(&dc, f->pfn, 1);
	dma_cache_add(&dc, pfn, npages);
	dma_cache_add(&dc, f->pfn + 1, 1);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	KUNIT_EXPECT_EQ(test, dc.pages, 2);
	KUNIT_EXPECT_EQ(test, dc.lines, 2 * PAGE_LINES);
	KUNIT_EXPECT_EQ(test, dc.skipped, npages);
	KUNIT_EXPECT_EQ(test, dc.failed, 0);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 3);
	dma_cache_expect_run(test, 0, f->pfn, 1, 0);
	dma_cache_expect_run(test, 1, pfn, npages, -ENXIO);
	dma_cache_expect_run(test, 2, f->pfn + 1, 1, 0);
}

static void dma_cache_mmio_test(struct kunit *test)
{
	struct pci_dev *pdev = NULL;
	bool found = false;
	int i;

	for_each_pci_dev(pdev) {
		for (i = 0; i < PCI_STD_NUM_BARS; i++) {
			struct resource *bar = pci_resource_n(pdev, i);
			unsigned long npages = resource_size(bar) / PAGE_SIZE;

			if (!(bar->flags & IORESOURCE_MEM) || !bar->parent || !npages)
				continue;
			found = true;
			dma_cache_left_alone(test, PHYS_PFN(bar->start), min(npages, 4ul));
		}
	}
	if (!found)
		kunit_skip(test, "no PCI device has a memory BAR");
}

/* Memory-mapped I/O that has a struct page, as its neighbours are RAM */
static void dma_cache_isa_hole_test(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_X86))
		kunit_skip(test, "only x86 has an ISA hole");
	KUNIT_EXPECT_TRUE(test, pfn_valid(PHYS_PFN(0xa0000)));
	dma_cache_left_alone(test, PHYS_PFN(0xa0000), SZ_128K / PAGE_SIZE);
}

/* A reserved page is memory all the same: one amid others, and the zero page. */
static void dma_cache_reserved_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	unsigned long zero = page_to_pfn(ZERO_PAGE(0));
	struct dma_cache dc;

	KUNIT_EXPECT_TRUE(test, PageReserved(ZERO_PAGE(0)));
	SetPageReserved(f->block + 1);
	dma_cache_begin(&dc, DMA_CACHE_CLEAN);
	dma_cache_add(&dc, f->pfn, 3);
	dma_cache_add(&dc, zero, 1);
	KUNIT_EXPECT_EQ(test, dma_cache_end(&dc), 0);
	ClearPageReserved(f->block + 1);
	KUNIT_EXPECT_EQ(test, dc.pages, 4);
	KUNIT_EXPECT_EQ(test, dc.lines, 4 * PAGE_LINES);
	KUNIT_EXPECT_EQ(test, dc.skipped, 0);
	KUNIT_EXPECT_EQ(test, dc.failed, 0);
}

static void dma_cache_hidden_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;

	if (pfn_valid(max_pfn) || !arch_dma_cache_is_memory(PFN_PHYS(max_pfn), PAGE_SIZE))
		kunit_skip(test, "no RAM is hidden from this kernel (mem= does that on x86)");
	KUNIT_EXPECT_EQ(test, dma_cache_range(DMA_CACHE_FLUSH, max_pfn, 3), 0);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 1);
	dma_cache_expect_run(test, 0, max_pfn, 3, 0);

	/* What is hidden begins in the middle. */
	KUNIT_EXPECT_EQ(test, dma_cache_range(DMA_CACHE_FLUSH, max_pfn - 1, 2), 0);
	KUNIT_EXPECT_EQ(test, f->nr_runs, 3);
	dma_cache_expect_run(test, 1, max_pfn - 1, 1, 0);
	dma_cache_expect_run(test, 2, max_pfn, 1, 0);
}

/* Memory that the linear map lacks, and that a process caches, or does not. */
static void dma_cache_no_map_test(struct kunit *test)
{
#ifdef CONFIG_ARM64
	struct dma_cache_fixture *f = test->priv;
	phys_addr_t phys = PFN_PHYS(f->pfn);
	bool cached, uncached;

	KUNIT_EXPECT_FALSE(test, arch_dma_cache_unreachable(phys, PAGE_KERNEL));
	KUNIT_ASSERT_EQ(test, memblock_mark_nomap(phys, PAGE_SIZE), 0);
	cached = arch_dma_cache_unreachable(phys, PAGE_KERNEL);
	uncached = arch_dma_cache_unreachable(phys, pgprot_writecombine(PAGE_KERNEL)) ||
		   arch_dma_cache_unreachable(phys, pgprot_noncached(PAGE_KERNEL));
	KUNIT_ASSERT_EQ(test, memblock_clear_nomap(phys, PAGE_SIZE), 0);
	KUNIT_EXPECT_TRUE(test, cached);
	KUNIT_EXPECT_FALSE(test, uncached);
	/* Nothing is given an alias. */
	KUNIT_EXPECT_FALSE(test, arch_dma_cache_is_memory(phys, PAGE_SIZE));
#else
	kunit_skip(test, "only arm64 has no-map memory");
#endif
}

static void dma_cache_counters_test(struct kunit *test)
{
	struct dma_cache_fixture *f = test->priv;
	struct dma_cache_stats *clean = &dma_cache_stats[DMA_CACHE_CLEAN];
	struct dma_cache_stats *flush = &dma_cache_stats[DMA_CACHE_FLUSH];

	atomic64_set(&flush->longest_ns, S64_MAX);
	dma_cache_range(DMA_CACHE_CLEAN, f->pfn, MOST_PAGES + 1);
	dma_cache_range(DMA_CACHE_CLEAN, f->pfn, 1);
	dma_cache_range(DMA_CACHE_FLUSH, f->pfn, 2);

	KUNIT_EXPECT_EQ(test, atomic64_read(&clean->pages), MOST_PAGES + 2);
	KUNIT_EXPECT_EQ(test, atomic64_read(&clean->lines), (MOST_PAGES + 2) * PAGE_LINES);
	KUNIT_EXPECT_EQ(test, atomic64_read(&clean->chunks), 3);
	KUNIT_EXPECT_LE(test, atomic64_read(&clean->longest_ns), atomic64_read(&clean->ns));
	KUNIT_EXPECT_EQ(test, atomic64_read(&flush->pages), 2);
	KUNIT_EXPECT_EQ(test, atomic64_read(&flush->lines), 2 * PAGE_LINES);
	KUNIT_EXPECT_EQ(test, atomic64_read(&flush->chunks), 1);
	KUNIT_EXPECT_EQ(test, atomic64_read(&flush->longest_ns), S64_MAX);
}

static void dma_cache_debugfs_test(struct kunit *test)
{
	const char *clean = arch_dma_cache_name(DMA_CACHE_CLEAN);
	const char *flush = arch_dma_cache_name(DMA_CACHE_FLUSH);
	struct seq_file m = { .size = PAGE_SIZE };
	char *text = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	struct dentry *file = debugfs_lookup("dma_cache", NULL);
	bool on = dma_cache_on;
	unsigned int op;

	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, file);
	if (!IS_ERR_OR_NULL(file))
		dput(file);
	m.buf = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	KUNIT_ASSERT_NOT_NULL(test, text);
	for (op = 0; op < 2; op++) {
		atomic64_set(&dma_cache_stats[op].pages, 10 * op + 1);
		atomic64_set(&dma_cache_stats[op].lines, 10 * op + 2);
		atomic64_set(&dma_cache_stats[op].chunks, 10 * op + 3);
		atomic64_set(&dma_cache_stats[op].skipped, 10 * op + 4);
		atomic64_set(&dma_cache_stats[op].failed, 10 * op + 5);
		atomic64_set(&dma_cache_stats[op].ns, 10 * op + 6);
		atomic64_set(&dma_cache_stats[op].longest_ns, 10 * op + 7);
	}
	snprintf(text, PAGE_SIZE,
		 "active yes\nclean_instruction %s\nclean_pages 1\nclean_lines 2\n"
		 "clean_chunks 3\nclean_skipped 4\nclean_failed 5\nclean_ns 6\n"
		 "clean_longest_ns 7\nflush_instruction %s\nflush_pages 11\nflush_lines 12\n"
		 "flush_chunks 13\nflush_skipped 14\nflush_failed 15\nflush_ns 16\n"
		 "flush_longest_ns 17\n", clean, flush);
	dma_cache_on = true;
	dma_cache_show(&m, NULL);
	KUNIT_EXPECT_STREQ(test, m.buf, text);

	m.count = 0;
	memset(m.buf, 0, PAGE_SIZE);
	dma_cache_on = false;
	dma_cache_show(&m, NULL);
	dma_cache_on = on;
	KUNIT_EXPECT_EQ(test, strncmp(m.buf, "active no\n", 10), 0);
}

static bool dma_cache_enforce_yes(struct iommu_domain *domain)
{
	return true;
}

static bool dma_cache_enforce_no(struct iommu_domain *domain)
{
	return false;
}

/* The need is of the domain: it does not enforce coherency, and maintenance is on. */
static void dma_cache_domain_test(struct kunit *test)
{
	static const struct iommu_domain_ops ops[] = {
		{}, { .enforce_cache_coherency = dma_cache_enforce_no },
		{ .enforce_cache_coherency = dma_cache_enforce_yes },
	};
	bool on = dma_cache_on;
	unsigned int i;

	for (i = 0; i < 4 * ARRAY_SIZE(ops); i++) {
		bool ask = i & 1, enforced = ask && i / 4 == 2;
		struct iommu_domain domain = { .ops = &ops[i / 4], .noncoherent = enforced };

		dma_cache_on = i & 2;
		KUNIT_EXPECT_EQ_MSG(test, dma_cache_enforce(&domain, NULL, ask), enforced,
				    "row %u", i);
		KUNIT_EXPECT_EQ_MSG(test, dma_cache_needed(&domain), dma_cache_on && !enforced,
				    "row %u", i);
	}
	dma_cache_on = on;
}

static void __init dma_cache_parameter_test(struct kunit *test)
{
	static const struct {
		const char *arg;
		int mode;
		bool clwb;
	} rows[] = {
		{ "auto", DMA_CACHE_AUTO },
		{ "on", DMA_CACHE_ON },
		{ "off", DMA_CACHE_OFF },
		{ "on,clwb", DMA_CACHE_ON, true },
		{ "clwb,off", DMA_CACHE_OFF, true },
		{ "clwb", DMA_CACHE_AUTO, true },
		{ "off,on", DMA_CACHE_ON },
		{ "kunit", DMA_CACHE_AUTO },
		{ "on,kunit,clwb", DMA_CACHE_ON, true },
	};
	int i, old_mode = dma_cache_mode, logged;
	bool old_clwb = dma_cache_clwb;
	char arg[16];

	logged = dma_cache_logged(test, "dma_cache: unknown option \"kunit\"");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		dma_cache_mode = DMA_CACHE_AUTO;
		dma_cache_clwb = false;
		strscpy(arg, rows[i].arg);
		KUNIT_EXPECT_EQ(test, dma_cache_setup(arg), 0);
		KUNIT_EXPECT_EQ_MSG(test, dma_cache_mode, rows[i].mode, "%s", rows[i].arg);
		KUNIT_EXPECT_EQ_MSG(test, dma_cache_clwb, rows[i].clwb, "%s", rows[i].arg);
	}
	KUNIT_EXPECT_EQ(test, dma_cache_setup(NULL), 0);
	KUNIT_EXPECT_EQ(test, dma_cache_logged(test, "dma_cache: unknown option \"kunit\""),
			logged + 2);
	dma_cache_mode = old_mode;
	dma_cache_clwb = old_clwb;
}

#ifdef CONFIG_ARM64
/*
 * No emulator's DC faults. So: the first of the loop's instructions that may fault goes on
 * at its RET, with the address that it had.
 */
static void dma_cache_fixup(struct kunit *test, void *loop)
{
	struct pt_regs regs = { .regs = { 0x1040, 0x2000, 64 } };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		regs.pc = (unsigned long)loop + i * AARCH64_INSN_SIZE;
		if (search_exception_tables(regs.pc))
			break;
	}
#ifdef EX_TYPE_UACCESS_CPY
	KUNIT_ASSERT_TRUE(test, fixup_exception(&regs, 0));	/* wants to see the ESR */
#else
	KUNIT_ASSERT_TRUE(test, fixup_exception(&regs));
#endif
	KUNIT_EXPECT_EQ(test, *(u32 *)regs.pc, 0xd65f03c0);
	KUNIT_EXPECT_EQ(test, regs.regs[0], 0x1040);
}

static void dma_cache_fixups_test(struct kunit *test)
{
	dma_cache_fixup(test, dma_cache_lines_cvac);
	dma_cache_fixup(test, dma_cache_lines_civac);
}
#else
static void dma_cache_fixups_test(struct kunit *test)
{
	kunit_skip(test, "of arm64; on x86, dma_cache_unreachable_test makes a line fault");
}
#endif

static struct kunit_case __refdata dma_cache_cases[] = {
	KUNIT_CASE(dma_cache_chunks_test),
	KUNIT_CASE(dma_cache_killed_test),
	KUNIT_CASE(dma_cache_runs_test),
	KUNIT_CASE(dma_cache_add_runs_test),
	KUNIT_CASE(dma_cache_add_pfns_test),
	KUNIT_CASE(dma_cache_empty_test),
	KUNIT_CASE(dma_cache_keeps_content_test),
	KUNIT_CASE(dma_cache_content_test),
	KUNIT_CASE(dma_cache_instruction_test),
	KUNIT_CASE(dma_cache_unreachable_test),
	KUNIT_CASE(dma_cache_poisoned_test),
	KUNIT_CASE(dma_cache_fixups_test),
	KUNIT_CASE(dma_cache_mmio_test),
	KUNIT_CASE(dma_cache_isa_hole_test),
	KUNIT_CASE(dma_cache_reserved_test),
	KUNIT_CASE(dma_cache_hidden_test),
	KUNIT_CASE(dma_cache_no_map_test),
	KUNIT_CASE(dma_cache_counters_test),
	KUNIT_CASE(dma_cache_debugfs_test),
	KUNIT_CASE(dma_cache_domain_test),
	KUNIT_CASE(dma_cache_parameter_test),
	{}
};

static struct kunit_suite dma_cache_suite = {
	.name = "dma_cache",
	.init = dma_cache_fixture_init,
	.exit = dma_cache_fixture_exit,
	.test_cases = dma_cache_cases,
};

kunit_test_init_section_suites(&dma_cache_suite);
