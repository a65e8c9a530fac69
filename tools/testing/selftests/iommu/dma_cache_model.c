// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the model in dma_cache_order.h: it must accept what a good kernel's trace looks like,
 * and reject the same when lines are missing or come in another order. Needs no such kernel.
 */
#include "../kselftest.h"
#include "dma_cache_order.h"

static struct order order;

/* As recorded on x86-amd: 2 MiB in IOMMUFD, and 4 KiB in type1, of edu behind VT-d. */
#define RECORDED_MEMMAP	0xffff88807cc00000
#define RECORDED_STRUCT	64
#define TASK		" dma_cache_order-38      [001] .....  "
#define IN_IOMMUFD	" domain=0xffff888000b3eca0"
#define IN_TYPE1	" domain=0xffff888000b7dca0"
#define IN_COHERENT	" domain=0xffff888000c01ca0"
#define IN_OBJECT	" object=0xffff888000d12000 first=0x0 last=0x1"
#define AT		" iova=0x1400000"
#define RANGE		" page=0xffff88807cc08000 n=0x200"
#define BEGINNING	" page=0xffff88807cc08000 n=0x2"
#define LIST		" pages={0xffff88807eb2b4c0,0xffff888004a85e00}"
#define COUNTS		" chunks=1 skipped=0 failed=0 error=0"

static const struct {
	char name;
	const char *line;
} recorded_lines[] = {
	{ 'c', TASK "3003: dma_cache_pages: op=clean pfn=0x200 npages=512 result=done" },
	{ 'C', TASK "3004: dma_cache_done: op=clean pages=512 lines=32768" COUNTS },
	{ 'm', TASK "3005: map: (iommu_map+0x0/0x80)"
	  IN_IOMMUFD AT " paddr=0x200000 size=0x200000 prot=0x7" },
	{ 'R', TASK "3005: map: (iommu_map+0x0/0x80)"		/* not recorded: read-only */
	  IN_IOMMUFD AT " paddr=0x200000 size=0x200000 prot=0x5" },
	{ 'e', TASK "3006: tracing_mark_write: end=38" },
	{ 'u', TASK "3007: unmap: (iommu_unmap+0x4d/0x70 <- __iommu_unmap)"
	  IN_IOMMUFD AT " size=0x200000" },
	{ 's', TASK "3008: sync: (iommu_unmap+0x5b/0x70 <- intel_iommu_tlb_sync)" IN_IOMMUFD },
	{ 'f', TASK "3009: dma_cache_pages: op=flush pfn=0x200 npages=512 result=done" },
	{ 'F', TASK "3010: dma_cache_done: op=flush pages=512 lines=32768" COUNTS },
	{ 'p', TASK "3011: unpin: (unpin_user_page_range_dirty_lock+0x0/0x240)"
	  RANGE },
	{ 'r', TASK "3014: free: (iommu_domain_free+0x0/0x40)" IN_IOMMUFD },
	/* type1 */
	{ 'd', TASK "3322: dma_cache_pages: op=clean pfn=0x7cad3 npages=1 result=done" },
	{ 'D', TASK "3323: dma_cache_done: op=clean pages=1 lines=64" COUNTS },
	{ 'n', TASK "3324: map: (iommu_map+0x0/0x80)"
	  IN_TYPE1 AT " paddr=0x7cad3000 size=0x1000 prot=0x7" },
	{ 'v', TASK "3326: unmap: (vfio_unmap_unpin+0x1b8/0x3c0 <- __iommu_unmap)"
	  IN_TYPE1 AT " size=0x1000" },
	{ 't', TASK "3327: sync: (vfio_sync_unpin.isra.0+0x2d/0x140 <- intel_iommu_tlb_sync)"
	  IN_TYPE1 },
	{ 'g', TASK "3328: dma_cache_pages: op=flush pfn=0x7cad3 npages=1 result=done" },
	{ 'G', TASK "3329: dma_cache_done: op=flush pages=1 lines=64" COUNTS },
	{ 'q', TASK "3330: unpin_list: (unpin_user_pages_dirty_lock+0x0/0xe0) n=0x1"
	  LIST },
	{ 'z', TASK "3332: free: (iommu_domain_free+0x0/0x40)" IN_TYPE1 },
	/* A coherent domain, which maps what IOMMUFD's other one does */
	{ 'h', TASK "2990: enforced: (iommufd_hwpt_paging_alloc+0x1a0/0x3e0 <- mock_shadow_enforce)"
	  IN_COHERENT " ret=1" },
	{ 'k', TASK "3001: map: (iommu_map+0x0/0x80)"
	  IN_COHERENT AT " paddr=0x200000 size=0x200000 prot=0x7" },
	{ 'l', TASK "3012: unmap: (iommu_unmap+0x4d/0x70 <- __iommu_unmap)"
	  IN_COHERENT AT " size=0x200000" },
	{ 'y', TASK "3013: sync: (iommu_unmap+0x5b/0x70 <- mock_shadow_iotlb_sync)" IN_COHERENT },
	{ 'w', TASK "3015: free: (iommu_domain_free+0x0/0x40)" IN_COHERENT },
	/* An access to two of IOMMUFD's pages, where the trace shows more than these */
	{ 'i', TASK "2995: dma_cache_pages: op=clean pfn=0x200 npages=2 result=done" },
	{ 'I', TASK "2996: dma_cache_done: op=clean pages=2 lines=128" COUNTS },
	{ 'a', TASK "2997: access: (iopt_area_add_access+0x16b/0x2c0 <- iopt_noncoherent_pin)"
	  IN_OBJECT " ret=0 pages={0xffff88807cc08000,0xffff88807cc08040,0x0}" },
	{ 'A', TASK "2998: access: (iopt_area_add_access+0x16b/0x2c0 <- iopt_noncoherent_pin)"
	  IN_OBJECT " ret=-4 pages={0xffff88807cc08000,0xffff88807cc08040,0x0}" },
	{ 'b', TASK "3004: access_end: (iopt_noncoherent_unpin+0x0/0x110)" IN_OBJECT },
	{ 'j', TASK "3005: dma_cache_pages: op=flush pfn=0x200 npages=2 result=done" },
	{ 'J', TASK "3006: dma_cache_done: op=flush pages=2 lines=128" COUNTS },
	{ 'P', TASK "3007: unpin: (unpin_user_page_range_dirty_lock+0x0/0x240)"
	  BEGINNING },
	/* None of it */
	{ 'M', TASK "3003: dma_cache_pages: op=clean pfn=0x200 npages=1 result=failed" },
	{ 'N', TASK "3008: lookup: (batch_from_domain_continue+0x5c/0xd0 <- iommu_iova_to_phys)"
	  IN_IOMMUFD AT " ret=0x0" },
	{ 'V', TASK "3005: lookup: (intel_iommu_map_pages+0x6e7/0x740 <- iommu_iova_to_phys)"
	  IN_IOMMUFD AT " ret=0x0" },
	{ 'L', "CPU:1 [LOST 5 EVENTS]" },
	{ 'X', TASK "  3333: something: new" },
};

static const struct recorded {
	const char *violation;		/* NULL: none */
	const char *lines;
	bool coherent;			/* if that is what the domains were */
} recorded[] = {
	{ NULL,				"cCmeusfFpere", false },
	{ NULL,				"dDnevtgGqeze", false },
	{ "clean-missing",		"meusfFpere", false },
	{ "clean-missing",		"cCemeusfFpere", false },	/* but in another step */
	{ "clean-not-complete",		"cmCeusfFpere", false },
	{ "flush-missing",		"cCmeusere", false },
	{ "flush-missing",		"cCmeuscCme", false },
	{ "flush-before-unmap",		"cCmefFuspere", false },
	{ "flush-before-sync",		"dDnevgGtqeze", false },
	{ "flush-before-sync",		"cCmeufFspere", false },
	{ "flush-before-sync",		"cCmeufFpere", false },		/* it has none */
	{ "unpin-before-flush",		"cCmeuspfFere", false },
	{ "unpin-before-flush",		"cCmeusfpFere", false },	/* it is not complete */
	{ "unpin-before-flush",		"dDnevqtgGeze", false },
	{ "unpin-while-mapped",		"cCmepusfFere", false },
	{ "free-with-live-mappings",	"cCmereusfFpe", false },
	{ "never-unmapped",		"cCme", false },
	{ "never-unpinned",		"cCmeusfFere", false },
	{ "inconsistent",		"cCmem", false },
	{ "overrun",			"cCmeLusfFpere", false },
	{ "unreadable",			"cCmeXusfFpere", false },
	{ "not-maintained",		"MCe", false },
	{ "unmapped-lookup",		"cCmeuNsfFpere", false },
	{ NULL,				"cCmVeusfFpere", false },
	{ NULL,				"cCReuspere", false },
	{ "needless",			"cCReusfFpere", false },
	{ "clean-missing",		"Reuspere", false },
	{ NULL,				"meuspere", true },
	{ "needless",			"cCmeuspere", true },
	{ "unpin-before-flush",		"nevqtze", true },
	{ "unpin-while-mapped",		"mepusere", true },
	{ "never-unpinned",		"meusere", true },
	/* The coherent one maps the same before and after the other. */
	{ NULL,				"hkecCmeusfFerelypwe", false },
	{ "clean-missing",		"hkemeusfFerelypwe", false },
	{ "flush-missing",		"hkecCmeuserelypwe", false },
	{ "unpin-while-mapped",		"hkecCmeusfFperelywe", false },
	{ "unpin-before-flush",		"hkecCmeusfFerelpywe", false },
	{ "needless",			"hcCkelypwe", false },
	{ "needless",			"hkelyfFpwe", false },
	{ "clean-missing",		"kelypwe", false },	/* it is not said to be coherent */
	/* Accesses, alone and with a domain that comes or goes meanwhile */
	{ NULL,				"iIaebjJPe", false },
	{ "clean-missing",		"aebjJPe", false },
	{ "clean-missing",		"iIeaebjJPe", false },
	{ "clean-not-complete",		"iaIebjJPe", false },
	{ "flush-missing",		"iIaebe", false },
	{ "unpin-before-flush",		"iIaebPjJe", false },
	{ "unpin-while-mapped",		"iIaePbjJe", false },
	{ "never-unmapped",		"iIae", false },
	{ "inconsistent",		"iIAebjJPe", false },		/* it failed */
	{ "needless",			"iIaejJebjJPe", false },
	{ NULL,				"cCmeaebeusfFpere", false },
	{ "needless",			"cCmeiIaebeusfFpere", false },
	{ "flush-before-unmap",		"cCmeaebjJeusfFpere", false },
	{ NULL,				"cCmeaeusfFebjJpere", false },
	{ "unpin-while-mapped",		"cCmeaeusfFpebjJere", false },
	{ "flush-missing",		"cCmeaeusfFebepere", false },
	{ NULL,				"iIaecCmebeusfFpere", false },
	{ "clean-missing",		"iIaemebeusfFpere", false },
};

static void run_recorded(const struct recorded *r)
{
	const char *kind = r->coherent ? " of coherent domains" : "", *violation, *name;
	unsigned int i;

	order_init(&order, RECORDED_MEMMAP, RECORDED_STRUCT);
	order.coherent = r->coherent;
	for (name = r->lines; *name; name++) {
		for (i = 0; recorded_lines[i].name != *name; i++)
			;
		order_line(&order, recorded_lines[i].line);
	}
	order_finish(&order);
	violation = order.violation;
	if (!violation && (order.extra[0] || order.extra[1]))
		violation = "needless";
	if (violation)
		ksft_print_msg("%s: %s\n", r->lines, violation);
	if (r->violation)
		ksft_test_result(violation && !strcmp(violation, r->violation),
				 "rejects %s%s: %s\n", r->lines, kind, r->violation);
	else
		ksft_test_result(!violation, "accepts %s%s\n", r->lines, kind);
	order_free(&order);
}

int main(void)
{
	unsigned int i;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(recorded));
	for (i = 0; i < ARRAY_SIZE(recorded); i++)
		run_recorded(&recorded[i]);
	ksft_finished();
}
