// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated non-coherent memory behind the mock devices' domains.
 *
 * A page itself is what CPUs see through their caches. Its shadow has what devices see:
 * "dram", and "base", the page when a CPU and dram last agreed. A line in which the page
 * differs from base is dirty. Nothing but the kernel's cache maintenance, seen by its
 * tracepoint, moves data: a clean writes dirty lines to dram, a flush then also drops the
 * lines, so that the page is as dram. Real caches may do more at any time, but a kernel
 * that relies on that is wrong.
 *
 * A shadow begins when its page is first cleaned or mapped, full of poison, and stays until
 * no simulated domain is left. A domain that enforces coherency sees the page itself. What
 * a domain is does not depend on struct iommu_domain::noncoherent, which is what is tested.
 */
#include <linux/dma_cache.h>
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/symbol_ns.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>
#include <trace/events/dma_cache.h>

#include "iommufd_private.h"
#include "iommufd_test.h"
#include "selftest_shadow.h"

enum {
	LINE_SIZE = 64,
	POISON = 0x5a,
};

struct shadow {
	unsigned int maps;	/* in non-coherent domains */
	bool cleaned;		/* since it was last mapped */
	bool exposed;		/* mapped for writes since it was last flushed */
	bool pinned;		/* when it was mapped */
	u8 *dram, *base;
};

struct late_write {
	struct list_head list;
	u64 iova;
	phys_addr_t phys;
	size_t len;
	u8 data[] __counted_by(len);
};

/* Protects everything below, and each domain's late writes. */
static DEFINE_SPINLOCK(shadow_lock);
static DEFINE_XARRAY(shadows);
static unsigned int simulated_domains;
static struct {
	u64 uncleaned, unflushed, unpinned, lost;
} stats;

/* Only memory that is certainly in the linear map */
static struct page *ram_page(unsigned long pfn)
{
	struct page *page = pfn_valid(pfn) ? pfn_to_page(pfn) : NULL;

	return page && !PageReserved(page) ? page : NULL;
}

static struct shadow *shadow_alloc(unsigned long pfn)
{
	const gfp_t gfp = GFP_ATOMIC | __GFP_NOWARN;
	struct shadow *s = kzalloc(sizeof(*s), gfp);

	if (!s)
		return NULL;
	s->dram = (u8 *)__get_free_pages(gfp, 1);
	s->base = s->dram + PAGE_SIZE;
	if (s->dram && !xa_is_err(xa_store(&shadows, pfn, s, gfp))) {
		memset(s->dram, POISON, 2 * PAGE_SIZE);
		return s;
	}
	free_pages((unsigned long)s->dram, 1);
	kfree(s);
	return NULL;
}

static struct shadow *shadow_get(unsigned long pfn)
{
	struct shadow *s = xa_load(&shadows, pfn);
	unsigned int fail_nth = current->fail_nth;

	if (s || !ram_page(pfn))
		return s;
	/* Memory needs no allocation to exist, so injected faults are not meant for it. */
	current->fail_nth = 0;
	s = shadow_alloc(pfn);
	current->fail_nth = fail_nth;
	if (!s)
		stats.lost++;
	return s;
}

static bool is_pinned(unsigned long pfn)
{
	return folio_maybe_dma_pinned(page_folio(pfn_to_page(pfn)));
}

/* A page that was pinned when it was mapped must stay so until it is unmapped and flushed. */
static bool unpinned_early(struct shadow *s, unsigned long pfn)
{
	if (!s->pinned || is_pinned(pfn))
		return false;
	WARN_ONCE(1, "iommufd mock: page unpinned before it was unmapped and flushed\n");
	stats.unpinned++;
	s->pinned = false;
	return true;
}

static void shadow_maintain(struct shadow *s, unsigned long pfn, enum dma_cache_op op)
{
	u8 *cpu, *dram = s->dram, *base = s->base;
	unsigned int at;

	/* It may be somebody else's by now. */
	if (unpinned_early(s, pfn))
		return;
	cpu = kmap_local_page(pfn_to_page(pfn));
	for (at = 0; at < PAGE_SIZE; at += LINE_SIZE) {
		if (memcmp(cpu + at, base + at, LINE_SIZE)) {
			memcpy(dram + at, cpu + at, LINE_SIZE);
			memcpy(base + at, dram + at, LINE_SIZE);
		} else if (op == DMA_CACHE_FLUSH && memcmp(cpu + at, dram + at, LINE_SIZE)) {
			memcpy(cpu + at, dram + at, LINE_SIZE);
			memcpy(base + at, dram + at, LINE_SIZE);
		}
	}
	kunmap_local(cpu);
	if (op == DMA_CACHE_CLEAN) {
		s->cleaned = true;
	} else if (!s->maps) {
		s->cleaned = false;
		s->exposed = false;
		s->pinned = false;
	}
}

static void maintained(void *data, enum dma_cache_op op, unsigned long pfn,
		       unsigned long npages, int result)
{
	struct shadow *s;

	for (; !result && npages; npages--, pfn++) {
		spin_lock(&shadow_lock);
		if (simulated_domains) {
			s = op == DMA_CACHE_CLEAN ? shadow_get(pfn) : xa_load(&shadows, pfn);
			if (s)
				shadow_maintain(s, pfn, op);
		}
		spin_unlock(&shadow_lock);
	}
}

static DEFINE_MUTEX(register_lock);
static bool registered;

/* Before the first device that needs it: a kernel without one is as fast as others. */
int mock_shadow_begin(unsigned long dev_flags)
{
	int rc = 0;

	if (!(dev_flags & MOCK_SHADOW_DEVICE_FLAGS))
		return 0;
	mutex_lock(&register_lock);
	if (!registered)
		rc = register_trace_dma_cache_pages(maintained, NULL);
	if (!rc)
		registered = true;
	mutex_unlock(&register_lock);
	return rc;
}

/* When no device is left */
void mock_shadow_end(void)
{
	if (!registered)
		return;
	unregister_trace_dma_cache_pages(maintained, NULL);
	tracepoint_synchronize_unregister();
	registered = false;
}

void mock_shadow_init(struct mock_shadow *sh, struct iommu_domain *domain, struct xarray *pfns,
		      unsigned long dev_flags)
{
	sh->domain = domain;
	sh->pfns = pfns;
	sh->granule = 1UL << __ffs(domain->pgsize_bitmap);
	INIT_LIST_HEAD(&sh->late);
	sh->simulated = dev_flags & MOCK_SHADOW_DEVICE_FLAGS;
	sh->enforceable = dev_flags & MOCK_FLAGS_DEVICE_ENFORCE_CC;
	spin_lock(&shadow_lock);
	simulated_domains += sh->simulated;
	spin_unlock(&shadow_lock);
}

static bool noncoherent(struct mock_shadow *sh)
{
	return sh->simulated && !sh->enforced;
}

static bool is_mapped(struct mock_shadow *sh, u64 iova)
{
	if (sh->pfns)
		return xa_load(sh->pfns, iova / sh->granule);
	return iommu_iova_to_phys(sh->domain, iova);
}

static void write_bytes(u8 *to, phys_addr_t phys, const void *data, size_t len)
{
	memcpy(to + offset_in_page(phys), data, len);
}

/* Let the writes land that no IOTLB entry holds back any longer. */
static void land(struct mock_shadow *sh, bool all)
{
	struct late_write *write, *next;
	struct shadow *s;

	spin_lock(&shadow_lock);
	list_for_each_entry_safe(write, next, &sh->late, list) {
		if (!all && is_mapped(sh, write->iova))
			continue;
		s = xa_load(&shadows, PHYS_PFN(write->phys));
		if (s)
			write_bytes(s->dram, write->phys, write->data, write->len);
		list_del(&write->list);
		kfree(write);
	}
	spin_unlock(&shadow_lock);
}

void mock_shadow_iotlb_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather)
{
	land(mock_shadow_of(domain), false);
}

void mock_shadow_flush_iotlb_all(struct iommu_domain *domain)
{
	land(mock_shadow_of(domain), false);
}

static u64 count_unflushed(void)
{
	unsigned long pfn;
	struct shadow *s;
	u64 n = 0;

	xa_for_each(&shadows, pfn, s)
		n += s->exposed && !s->maps;
	return n;
}

void mock_shadow_free(struct mock_shadow *sh)
{
	unsigned long pfn;
	struct shadow *s;

	land(sh, true);
	spin_lock(&shadow_lock);
	simulated_domains -= sh->simulated;
	if (!simulated_domains) {
		stats.unflushed += count_unflushed();
		xa_for_each(&shadows, pfn, s) {
			free_pages((unsigned long)s->dram, 1);
			kfree(s);
		}
		xa_destroy(&shadows);
	}
	spin_unlock(&shadow_lock);
}

void mock_shadow_map(struct mock_shadow *sh, phys_addr_t phys, size_t size, int prot)
{
	phys_addr_t end = phys + size;
	struct shadow *s;

	if (!noncoherent(sh))
		return;
	for (; phys < end; phys += sh->granule) {
		spin_lock(&shadow_lock);
		s = shadow_get(PHYS_PFN(phys));
		if (s) {
			if (!s->maps++ && !s->cleaned)
				stats.uncleaned++;
			s->exposed |= prot & IOMMU_WRITE;
			s->pinned = is_pinned(PHYS_PFN(phys));
		}
		spin_unlock(&shadow_lock);
	}
}

void mock_shadow_unmap(struct mock_shadow *sh, phys_addr_t phys)
{
	struct shadow *s;

	if (!noncoherent(sh))
		return;
	spin_lock(&shadow_lock);
	s = xa_load(&shadows, PHYS_PFN(phys));
	if (s) {
		unpinned_early(s, PHYS_PFN(phys));
		if (!--s->maps)
			s->cleaned = false;
	}
	spin_unlock(&shadow_lock);
}

bool mock_shadow_refuses(struct iommu_domain *domain, unsigned long dev_flags)
{
	struct mock_shadow *sh = mock_shadow_of(domain);

	return sh && sh->enforced && !(dev_flags & MOCK_FLAGS_DEVICE_ENFORCE_CC);
}

bool mock_shadow_enforce(struct iommu_domain *domain)
{
	struct mock_shadow *sh = mock_shadow_of(domain);

	if (sh->enforceable && xa_empty(sh->pfns))
		sh->enforced = true;
	return sh->enforced;
}

static int access_late(struct mock_shadow *sh, u64 iova, phys_addr_t phys, const void *data,
		       size_t len)
{
	struct late_write *write = kmalloc(struct_size(write, data, len), GFP_KERNEL);

	if (!write)
		return -ENOMEM;
	write->iova = iova;
	write->phys = phys;
	write->len = len;
	memcpy(write->data, data, len);
	spin_lock(&shadow_lock);
	list_add_tail(&write->list, &sh->late);
	spin_unlock(&shadow_lock);
	return 0;
}

/* One access within a page */
static int access_now(struct mock_shadow *sh, phys_addr_t phys, void *buf, size_t len, bool write)
{
	struct shadow *s;
	int rc = 0;
	u8 *cpu;

	spin_lock(&shadow_lock);
	s = xa_load(&shadows, PHYS_PFN(phys));
	if (!noncoherent(sh)) {
		cpu = kmap_local_page(pfn_to_page(PHYS_PFN(phys)));
		if (write)
			write_bytes(cpu, phys, buf, len);
		else
			memcpy(buf, cpu + offset_in_page(phys), len);
		kunmap_local(cpu);
		if (write && s) {
			write_bytes(s->dram, phys, buf, len);
			write_bytes(s->base, phys, buf, len);
		}
	} else if (!s) {
		rc = -ENOMEM;
	} else if (write) {
		write_bytes(s->dram, phys, buf, len);
	} else {
		memcpy(buf, s->dram + offset_in_page(phys), len);
	}
	spin_unlock(&shadow_lock);
	return rc;
}

/**
 * iommufd_mock_dma_rw() - DMA of a mock device
 * @domain: mock domain that the device is attached to
 * @iova: where it reads or writes
 * @buf: what it writes, or where to put what it reads
 * @len: how many bytes
 * @flags: MOCK_DMA_RW_* of iommufd_test.h
 *
 * Late writes wait for an IOTLB sync after their IOVA was unmapped; only non-coherent
 * domains have them.
 *
 * Context: May sleep. Nobody unmaps the range meanwhile.
 * Return: 0; -EFAULT if something is not mapped, -ENXIO if it is no memory, and then
 * nothing was accessed; other errors.
 */
int iommufd_mock_dma_rw(struct iommu_domain *domain, u64 iova, void *buf, size_t len,
			unsigned int flags)
{
	struct mock_shadow *sh = mock_shadow_of(domain);
	phys_addr_t phys;
	u64 at, end;
	size_t n;
	int rc;

	if (!sh || check_add_overflow(iova, len, &end))
		return -EINVAL;
	if (flags & ~(MOCK_DMA_RW_WRITE | MOCK_DMA_RW_LATE))
		return -EOPNOTSUPP;
	if (flags & MOCK_DMA_RW_LATE && !(flags & MOCK_DMA_RW_WRITE && noncoherent(sh)))
		return -EOPNOTSUPP;
	for (at = ALIGN_DOWN(iova, sh->granule); at < end; at += sh->granule) {
		if (!is_mapped(sh, at))
			return -EFAULT;
		if (!ram_page(PHYS_PFN(iommu_iova_to_phys(sh->domain, at))))
			return -ENXIO;
	}
	for (; iova < end; iova += n, buf += n) {
		at = ALIGN_DOWN(iova, sh->granule);
		n = min(end, at + sh->granule) - iova;
		phys = iommu_iova_to_phys(sh->domain, at) + (iova - at);
		if (flags & MOCK_DMA_RW_LATE)
			rc = access_late(sh, iova, phys, buf, n);
		else
			rc = access_now(sh, phys, buf, n, flags & MOCK_DMA_RW_WRITE);
		if (rc)
			return rc;
	}
	return 0;
}
EXPORT_SYMBOL_NS_GPL(iommufd_mock_dma_rw, SYMBOL_NS(IOMMUFD));

static int test_dma_rw(struct iommufd_ucmd *ucmd, struct iommu_test_cmd *cmd)
{
	void __user *uptr = u64_to_user_ptr(cmd->md_dma_rw.uptr);
	size_t len = cmd->md_dma_rw.length;
	u32 flags = cmd->md_dma_rw.flags;
	struct iommufd_object *obj;
	void *buf;
	int rc;

	if (len > SZ_16M)
		return -ENOMEM;
	buf = kvzalloc(len, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	obj = iommufd_get_object(ucmd->ictx, cmd->id, IOMMUFD_OBJ_ANY);
	if (IS_ERR(obj)) {
		rc = PTR_ERR(obj);
		goto out_free;
	}
	if (obj->type != IOMMUFD_OBJ_HWPT_PAGING && obj->type != IOMMUFD_OBJ_HWPT_NESTED)
		rc = -EINVAL;
	else if (flags & MOCK_DMA_RW_WRITE && copy_from_user(buf, uptr, len))
		rc = -EFAULT;
	else
		rc = iommufd_mock_dma_rw(container_of(obj, struct iommufd_hw_pagetable,
						      obj)->domain,
					 cmd->md_dma_rw.iova, buf, len, flags);
	if (!rc && !(flags & MOCK_DMA_RW_WRITE) && copy_to_user(uptr, buf, len))
		rc = -EFAULT;
	iommufd_put_object(ucmd->ictx, obj);
out_free:
	kvfree(buf);
	return rc;
}

int mock_shadow_test(struct iommufd_ucmd *ucmd)
{
	struct iommu_test_cmd *cmd = ucmd->cmd;

	switch (cmd->op) {
	case IOMMU_TEST_OP_MD_DMA_RW:
		return test_dma_rw(ucmd, cmd);
	case IOMMU_TEST_OP_MD_SHADOW_STATS:
		spin_lock(&shadow_lock);
		cmd->md_shadow_stats.out_uncleaned = stats.uncleaned;
		cmd->md_shadow_stats.out_unflushed = stats.unflushed + count_unflushed();
		cmd->md_shadow_stats.out_unpinned = stats.unpinned;
		cmd->md_shadow_stats.out_lost = stats.lost;
		spin_unlock(&shadow_lock);
		return iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	default:
		return -EOPNOTSUPP;
	}
}
