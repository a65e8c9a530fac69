// SPDX-License-Identifier: GPL-2.0-only
/*
 * usnic's registration of memory as a program: what it does to pages, in which order.
 *
 * The headers that it includes are empty files, but for lists; what it takes from them is here.
 * Four pages are registered at 0x10000, of which only the first two are neighbours, and released.
 * FAIL names what fails meanwhile, and DECLARED what is declared coherent: adapter, function, both.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_PHYS_ADDR_T_64BIT
#include <linux/list.h>

#define PAGE_SIZE		4096ul
#define PAGE_SHIFT		12
#define PAGE_MASK		(~(PAGE_SIZE - 1))
#define PAGE_ALIGN(addr)	(((addr) + PAGE_SIZE - 1) & PAGE_MASK)
#define PHYS_PFN(phys)		((phys) >> PAGE_SHIFT)
#define GFP_KERNEL		0
#define GFP_ATOMIC		0
#define FOLL_LONGTERM		1
#define FOLL_WRITE		2
#define IOMMU_READ		1
#define IOMMU_WRITE		2
#define IOMMU_CACHE		4
#define IOMMU_CAP_CACHE_COHERENCY		0
#define IOMMU_CAP_ENFORCE_CACHE_COHERENCY	1
#define RLIMIT_MEMLOCK		0
#define CAP_IPC_LOCK		0
#define __counted_by(...)
#define min_t(type, a, b)	((type)least(a, b))
#define struct_size(...)	PAGE_SIZE
#define MODULE_IMPORT_NS(...)	struct mm_struct
#define WARN_ON(condition)	((condition) ? abort() : (void)0)
#define IS_ERR(p)		((uintptr_t)(p) >= (uintptr_t)-4095)
#define PTR_ERR(p)		((long)(p))
#define ERR_PTR(error)		((void *)(long)(error))
#define ERR_CAST(p)		(p)
#define __get_free_page(...)	((unsigned long)malloc(PAGE_SIZE))
#define free_page(addr)		free((void *)(addr))
#define can_do_mlock()		true
#define capable(...)		true
#define rlimit(...)		(~0ul)
#define dev_name(...)		""
#define mmap_read_lock(...)	((void)0)
#define mmap_read_unlock(...)	((void)0)
#define mmgrab(...)		((void)0)
#define mmdrop(...)		puts("drop")
#define spin_lock_init(...)	((void)0)
#define spin_lock(...)		puts("lock")
#define spin_unlock(...)	puts("unlock")
#define atomic64_add_return(n, v)	(*(v) += (n))
#define atomic64_sub(n, v)		(*(v) -= (n))

/* Instead of its own header */
#define USNIC_LOG_H_
#define usnic_dbg(...)		((void)0)
#define usnic_err(...)		((void)0)

#define dma_addr_t		unsigned long
#define pgprot_t		unsigned long
#define spinlock_t		char
struct rb_node { char unused; };
struct rb_root_cached { char unused; };
struct work_struct { char unused; };
struct iommu_group { const char *name; };
struct device { struct iommu_group *iommu_group; };
struct mm_struct { unsigned long pinned_vm; };
struct page { char unused; };
struct scatterlist { struct page *page; };

struct iommu_domain {
	const struct iommu_domain_ops {
		bool (*enforce_cache_coherency)(struct iommu_domain *domain);
	} *ops;
	bool noncoherent;
};

static struct { struct mm_struct *mm; } task = { &(struct mm_struct) {} }, *current = &task;
static struct page pages[512];
static unsigned int mapped;

static unsigned long least(unsigned long a, unsigned long b)
{
	return a < b ? a : b;
}

static bool fails(const char *what)
{
	return !strcmp(FAIL, what);
}

/* What is as large as a page is a chunk, where these are not allocated by kmalloc_flex(). */
static void *kmalloc(size_t size, gfp_t gfp)
{
	return size == PAGE_SIZE && !FLEX && fails("chunk") ? NULL : malloc(size);
}

static void *kzalloc(size_t size, gfp_t gfp)
{
	return calloc(1, size);
}

/* In newer kernels */
#define kmalloc_obj(what, ...)		kmalloc(sizeof(what), 0)
#define kzalloc_obj(what, ...)		kzalloc(sizeof(what), 0)
#define kzalloc_objs(what, n, ...)	kzalloc(sizeof(what) * (n), 0)
#define kmalloc_flex(what, member, n, ...) \
	(fails("chunk") ? NULL : malloc(sizeof(what) + sizeof((what).member[0]) * (n)))

static void *kcalloc(size_t n, size_t size, gfp_t gfp)
{
	return calloc(n, size);
}

static void kfree(void *p)
{
	free(p);
}

#define page_to_pfn(page)	((unsigned long)((page) - pages))
#define sg_page(sg)		((sg)->page)
#define sg_phys(sg)		(page_to_pfn((sg)->page) << PAGE_SHIFT)
#define sg_init_table(...)	((void)0)
#define for_each_sg(list, sg, n, i)	for (int at = 0; sg_at(list, &(sg), n, &(i), at); at++)

static void sg_set_page(struct scatterlist *sg, struct page *page, unsigned int length,
			unsigned int offset)
{
	sg->page = page;
}

static bool sg_at(struct scatterlist *list, struct scatterlist **sg, int n, int *i, int at)
{
	*sg = list + at;
	*i = at;
	return at < n;
}

static int pin_user_pages(unsigned long start, unsigned long n, unsigned int flags,
			  struct page **list)
{
	unsigned long i;

	puts("pin");
	if (fails("pin")) {
		/* The first two can be pinned */
		if (n < 4)
			return -EFAULT;
		n = 2;
	}
	for (i = 0; i < n; i++)
		list[i] = &pages[i < 2 ? 0x100 + i : 0x120 + 2 * i];
	return n;
}

static void unpin_user_pages(struct page **list, unsigned long n)
{
	unsigned long i;

	for (i = 0; i < n; i++)
		printf("unpin %lx\n", page_to_pfn(list[i]));
}

static void unpin_user_pages_dirty_lock(struct page **list, unsigned long n, bool dirty)
{
	printf("unpin %lx\n", page_to_pfn(*list));
}

static int iommu_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t phys,
		     size_t size, int prot, gfp_t gfp)
{
	printf("map %lx %lx %zx\n", iova, phys, size);
	return mapped++ && fails("map") ? -ENOMEM : 0;
}

static size_t iommu_unmap(struct iommu_domain *domain, unsigned long iova, size_t size)
{
	printf("unmap %lx\n", iova);
	return size;
}

static bool enforce(struct iommu_domain *domain)
{
	puts("enforce");
	return true;
}

static struct iommu_domain *iommu_paging_domain_alloc(struct device *dev)
{
	static const struct iommu_domain_ops ops = { enforce };
	static struct iommu_domain domain = { .ops = &ops };

	return &domain;
}

#define iommu_domain_free(...)			((void)0)
#define iommu_set_fault_handler(...)		((void)usnic_uiom_dma_fault)
#define iommu_attach_device(...)		(puts("attach"), 0)
#define iommu_detach_device(...)		((void)puts("detach"))
/* The DMA of all devices is coherent if they do not bypass the caches. */
#define device_iommu_capable(dev, cap)		((dev) && (!(cap) || ENFORCES))

static bool iommu_group_declared_coherent(struct iommu_group *group)
{
	return group && (!strcmp(DECLARED, group->name) || !strcmp(DECLARED, "both"));
}

#define CONFIG_DMA_CACHE
#include <linux/dma_cache.h>

bool dma_cache_active(void)
{
	return true;
}

void dma_cache_begin(struct dma_cache *dc, enum dma_cache_op op)
{
	dc->op = op;
	puts(op == DMA_CACHE_CLEAN ? "clean" : "flush");
}

void dma_cache_add(struct dma_cache *dc, unsigned long pfn, unsigned long npages)
{
	printf("pages %lx %lx\n", pfn, npages);
}

int dma_cache_end(struct dma_cache *dc)
{
	puts("done");
	return dc->op == DMA_CACHE_CLEAN && fails("clean") ? -EFAULT : 0;
}

#include "drivers/infiniband/hw/usnic/usnic_uiom.c"

/* One interval is all that there is. */
static int add_interval(struct list_head *list, unsigned long start, unsigned long last)
{
	struct usnic_uiom_interval_node *node = calloc(1, sizeof(*node));

	node->start = start;
	node->last = last;
	list_add_tail(&node->link, list);
	return 0;
}

int usnic_uiom_get_intervals_diff(unsigned long start, unsigned long last, int flags,
				  int flag_mask, struct rb_root_cached *root,
				  struct list_head *diff_set)
{
	return fails("diff") ? -ENOMEM : add_interval(diff_set, start, last);
}

int usnic_uiom_insert_interval(struct rb_root_cached *root, unsigned long start,
			       unsigned long last, int flags)
{
	return fails("insert") ? -ENOMEM : 0;
}

void usnic_uiom_remove_interval(struct rb_root_cached *root, unsigned long start,
				unsigned long last, struct list_head *removed)
{
	add_interval(removed, start, last);
}

void usnic_uiom_put_interval_set(struct list_head *intervals)
{
}

int main(void)
{
	struct device adapter = { &(struct iommu_group) { "adapter" } };
	struct device function = { &(struct iommu_group) { "function" } };
	struct usnic_uiom_pd *pd = usnic_uiom_alloc_pd(&adapter);
	struct usnic_uiom_reg *region = usnic_uiom_reg_get(pd, 0x10000, 4 * PAGE_SIZE, 1, 0);
	int error = 0;

	if (IS_ERR(region)) {
		error = -PTR_ERR(region);
	} else {
		puts("registered");
		error = -usnic_uiom_attach_dev_to_pd(pd, &function);
		usnic_uiom_reg_release(region);
	}
	if (error)
		printf("error %d\n", error);
	if (task.mm->pinned_vm)
		printf("accounted %lu\n", task.mm->pinned_vm);
	return 0;
}
