/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The order that non-coherent DMA needs, as a model of what a kernel's trace tells:
 *
 *  - before a page becomes reachable, its cleaning is complete
 *  - when the last mapping is gone: unmap, IOTLB sync, flush complete, unpin; no flush if none of
 *    the mappings let a device write
 *
 * And nobody looks for the page of an address that maps none.
 *
 * An access of IOMMUFD, which is what a mediated device has, reaches pages without mapping them:
 * the same holds when it begins and ends, but for what non-coherent domains map meanwhile.
 *
 * A domain is coherent if its driver says so when it is asked to enforce that ("enforced"), or if
 * all are taken as coherent. What only such domains map may not be cleaned or flushed, and the
 * rest holds as well. The model is a function of the lines alone and needs no kernel, so that
 * recorded traces can be judged as well.
 */
#ifndef SELFTEST_DMA_CACHE_ORDER_H
#define SELFTEST_DMA_CACHE_ORDER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ORDER_PAGE	4096UL
#define ORDER_PFNS	0x10000000UL	/* 1 TiB */
#define ORDER_PIDS	0x400000UL	/* the kernel's limit */
#define ORDER_BUCKETS	0x10000UL
#define ORDER_LINE	1024
#define ORDER_LAST	24		/* lines shown with a violation */
#define ORDER_LIST	64		/* pages that a trace shows of a list */
#define ORDER_WRITE	0x2		/* IOMMU_WRITE, of what a map allows */

/* Grows at its end. */
struct order_list {
	uint64_t *item;
	size_t n, room;
};

/* What is known of a page frame; zero if it was never seen. */
struct order_page {
	uint32_t maps;		/* how many PTEs map it, and accesses have it */
	uint32_t reach;		/* how many of the PTEs are of non-coherent domains */
	uint32_t unsynced;	/* PTEs that are gone, but maybe not from an IOTLB */
	uint32_t owner;		/* the task that cleaned it, or that unmapped it last */
	uint32_t cleaned;	/* in which operation of that task; 0 if not, or used up */
	bool written;		/* one of these PTEs lets a device write */
	bool dirty;		/* was reachable so and is not flushed yet */
	bool pinned;		/* was mapped and is not unpinned yet */
};

struct order_task {
	uint32_t operation;
	struct order_list clean;	/* pfn, npages: going on */
	struct order_list flush;	/* pfn, npages: going on */
	struct order_list unsynced;	/* domain, pfn */
	struct order_list dirty;	/* pfn: made unreachable in this operation */
	struct order_list cleaned;	/* pfn: cleaned in this operation */
};

struct order_domain {
	struct order_domain *next;
	uint64_t id;
	uint64_t mapped;
	unsigned int number;		/* in the order of their first mappings; 0 before that */
	bool coherent;
};

struct order_mapping {
	struct order_mapping *next;
	uint64_t domain, iova, pfn;
};

/* Indexes of an iopt_pages */
struct order_access {
	struct order_access *next;
	uint64_t object, first, last;
	uint64_t pfn[ORDER_LIST];
};

struct order {
	struct order_page *pages;	/* by pfn */
	struct order_task **tasks;	/* by pid */
	struct order_mapping **mappings;
	struct order_access *accesses;
	struct order_domain *domains;
	unsigned int ndomains;
	uint64_t memmap, page_struct;	/* where the kernel's struct pages are, and their size */
	bool coherent;			/* all domains are */
	bool shared;			/* pages may have several holders, which unpin them */
	bool unpinned;			/* some pages that are mapped are not pinned at all */
	uint64_t pinned, mapped;
	uint64_t maintained[2];		/* pages cleaned, flushed */
	uint64_t extra[2];		/* of these, what was not necessary */
	uint64_t events;
	const char *violation;		/* the first one, or NULL */
	char story[512];		/* what happened, repetitions left out */
	char last[ORDER_LAST][ORDER_LINE];
};

static inline void order_push(struct order_list *list, uint64_t item)
{
	if (list->n == list->room) {
		list->room = list->room ? 2 * list->room : 16;
		list->item = realloc(list->item, list->room * sizeof(*list->item));
		if (!list->item)
			abort();
	}
	list->item[list->n++] = item;
}

/* Zeroes that take no memory until they are used. */
static inline void *order_sparse(size_t n, size_t size)
{
	void *table = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		abort();
	return table;
}

static inline void order_init(struct order *o, uint64_t memmap, uint64_t page_struct)
{
	memset(o, 0, sizeof(*o));
	o->memmap = memmap;
	o->page_struct = page_struct;
	o->pages = order_sparse(ORDER_PFNS, sizeof(*o->pages));
	o->tasks = order_sparse(ORDER_PIDS, sizeof(*o->tasks));
	o->mappings = order_sparse(ORDER_BUCKETS, sizeof(*o->mappings));
}

static inline void order_free(struct order *o)
{
	munmap(o->pages, ORDER_PFNS * sizeof(*o->pages));
	munmap(o->tasks, ORDER_PIDS * sizeof(*o->tasks));
	munmap(o->mappings, ORDER_BUCKETS * sizeof(*o->mappings));
}

static inline void order_violation(struct order *o, const char *name)
{
	if (!o->violation)
		o->violation = name;
}

/* Adds a word to the story, unless it is the last one already. */
static inline void order_tell(struct order *o, const char *word, unsigned int number)
{
	char next[32], *last = strrchr(o->story, ' ');

	snprintf(next, sizeof(next), number ? " %s%u" : " %s", word, number);
	if (!last || strcmp(last, next))
		strncat(o->story, next, sizeof(o->story) - strlen(o->story) - 1);
}

/* The same of unmaps, each of which may have a sync of its own. */
static inline void order_tell_unmap(struct order *o, unsigned int number)
{
	size_t told = strlen(o->story), length;
	char words[32];

	length = snprintf(words, sizeof(words), " unmap%u sync%u", number, number);
	if (told < length || strcmp(o->story + told - length, words))
		order_tell(o, "unmap", number);
}

static inline struct order_page *order_page(struct order *o, uint64_t pfn)
{
	static struct order_page nowhere;

	if (pfn < ORDER_PFNS)
		return &o->pages[pfn];
	order_violation(o, "unreadable");
	return &nowhere;
}

static inline struct order_task *order_task(struct order *o, uint64_t pid)
{
	struct order_task **task = &o->tasks[pid % ORDER_PIDS];

	if (!*task) {
		*task = calloc(1, sizeof(**task));
		if (!*task)
			abort();
		(*task)->operation = 1;
	}
	return *task;
}

static inline struct order_domain *order_domain(struct order *o, uint64_t id)
{
	struct order_domain *domain;

	for (domain = o->domains; domain; domain = domain->next) {
		if (domain->id == id)
			return domain;
	}
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		abort();
	domain->id = id;
	domain->coherent = o->coherent;
	domain->next = o->domains;
	o->domains = domain;
	return domain;
}

/* Where the mapping of an address is linked in, or would be. */
static inline struct order_mapping **order_find(struct order *o, uint64_t domain, uint64_t iova)
{
	uint64_t key = (iova / ORDER_PAGE) ^ (domain >> 6) ^ (domain >> 20);
	struct order_mapping **at = &o->mappings[key % ORDER_BUCKETS];

	while (*at && ((*at)->domain != domain || (*at)->iova != iova))
		at = &(*at)->next;
	return at;
}

static inline void order_forget(struct order *o, struct order_mapping **at)
{
	struct order_mapping *mapping = *at;

	*at = mapping->next;
	order_domain(o, mapping->domain)->mapped--;
	o->mapped--;
	free(mapping);
}

static inline bool order_covers(const struct order_list *ranges, uint64_t pfn)
{
	size_t i;

	for (i = 0; i < ranges->n; i += 2) {
		if (pfn - ranges->item[i] < ranges->item[i + 1])
			return true;
	}
	return false;
}

/* A device that bypasses the caches gets a page that none had. */
static inline void order_reach(struct order *o, uint64_t pid, struct order_page *page,
			       uint64_t pfn)
{
	struct order_task *task = order_task(o, pid);

	if (page->dirty)
		order_violation(o, "flush-missing");
	else if (order_covers(&task->clean, pfn))
		order_violation(o, "clean-not-complete");
	else if (page->owner != pid || page->cleaned != task->operation)
		order_violation(o, "clean-missing");
	page->cleaned = 0;
}

/* No such device has it any more. */
static inline void order_leave(struct order *o, uint64_t pid, struct order_page *page,
			       uint64_t pfn)
{
	if (!page->written)
		return;
	page->written = false;
	page->dirty = true;
	page->owner = pid;
	order_push(&order_task(o, pid)->dirty, pfn);
}

/* Somebody has a page that must stay pinned for that. */
static inline void order_hold(struct order *o, struct order_page *page)
{
	page->maps++;
	o->mapped++;
	if (!page->pinned)
		o->pinned++;
	page->pinned = true;
}

static inline void order_map_page(struct order *o, uint64_t pid, uint64_t domain, uint64_t iova,
				  uint64_t pfn, bool written)
{
	struct order_mapping **at = order_find(o, domain, iova);
	struct order_page *page = order_page(o, pfn);

	if (*at) {
		order_violation(o, "inconsistent");
		return;
	}
	if (!order_domain(o, domain)->coherent) {
		if (!page->reach++)
			order_reach(o, pid, page, pfn);
		page->written |= written;
	}
	order_hold(o, page);
	*at = calloc(1, sizeof(**at));
	if (!*at)
		abort();
	**at = (struct order_mapping) { .domain = domain, .iova = iova, .pfn = pfn };
	order_domain(o, domain)->mapped++;
}

/* The map function entered: from here on, a PTE may be live. */
static inline void order_map(struct order *o, uint64_t pid, uint64_t domain, uint64_t iova,
			     uint64_t paddr, uint64_t size, uint64_t prot)
{
	struct order_domain *to = order_domain(o, domain);
	uint64_t done;

	if (!to->number)
		to->number = ++o->ndomains;
	order_tell(o, "map", to->number);
	for (done = 0; done < size; done += ORDER_PAGE)
		order_map_page(o, pid, domain, iova + done, (paddr + done) / ORDER_PAGE,
			       prot & ORDER_WRITE);
}

/* It returned with an error: what it did not unmap again was never mapped, and is still clean. */
static inline void order_map_failed(struct order *o, uint64_t pid, uint64_t domain, uint64_t iova,
				    uint64_t size)
{
	bool coherent = order_domain(o, domain)->coherent;
	struct order_mapping **at;
	struct order_page *page;
	uint64_t done;

	for (done = 0; done < size; done += ORDER_PAGE) {
		at = order_find(o, domain, iova + done);
		if (!*at)
			continue;
		page = order_page(o, (*at)->pfn);
		page->maps--;
		if (!coherent && !--page->reach) {
			page->owner = pid;
			page->cleaned = order_task(o, pid)->operation;
			page->written = false;
		}
		order_forget(o, at);
	}
}

/* The PTEs are gone. An IOTLB may still have them. */
static inline void order_unmap(struct order *o, uint64_t pid, uint64_t domain, uint64_t iova,
			       uint64_t size)
{
	bool coherent = order_domain(o, domain)->coherent;
	struct order_task *task = order_task(o, pid);
	struct order_mapping **at;
	struct order_page *page;
	uint64_t done;

	if (size)
		order_tell_unmap(o, order_domain(o, domain)->number);
	for (done = 0; done < size; done += ORDER_PAGE) {
		at = order_find(o, domain, iova + done);
		if (!*at) {
			order_violation(o, "inconsistent");
			return;
		}
		page = order_page(o, (*at)->pfn);
		page->maps--;
		if (!coherent && !--page->reach)
			order_leave(o, pid, page, (*at)->pfn);
		page->unsynced++;
		order_push(&task->unsynced, domain);
		order_push(&task->unsynced, (*at)->pfn);
		order_forget(o, at);
	}
}

/* The driver's IOTLB sync returned: it is over for what this task unmapped. */
static inline void order_sync(struct order *o, uint64_t pid, uint64_t domain)
{
	struct order_list *list = &order_task(o, pid)->unsynced;
	size_t i, kept = 0;

	for (i = 0; i < list->n; i += 2) {
		if (list->item[i] == domain) {
			order_page(o, list->item[i + 1])->unsynced--;
			continue;
		}
		list->item[kept++] = list->item[i];
		list->item[kept++] = list->item[i + 1];
	}
	if (kept != list->n)
		order_tell(o, "sync", order_domain(o, domain)->number);
	list->n = kept;
}

/* A driver was asked to enforce coherency, before the domain maps anything, and does. */
static inline void order_enforced(struct order *o, uint64_t id)
{
	struct order_domain *domain = order_domain(o, id);

	if (domain->mapped && !domain->coherent)
		order_violation(o, "inconsistent");
	domain->coherent = true;
}

static inline void order_domain_free(struct order *o, uint64_t id)
{
	struct order_domain **at = &o->domains, *domain;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	domain = *at;
	if (!domain)
		return;		/* never mapped anything */
	if (domain->number)
		order_tell(o, "free", domain->number);
	if (domain->mapped)
		order_violation(o, "free-with-live-mappings");
	*at = domain->next;
	free(domain);
}

/* Lines went out. They need not have arrived yet. */
static inline void order_lines(struct order *o, uint64_t pid, bool flush, uint64_t pfn,
			       uint64_t npages)
{
	struct order_task *task = order_task(o, pid);
	struct order_list *list = flush ? &task->flush : &task->clean;
	uint64_t i;

	order_tell(o, flush ? "flush" : "clean", 0);
	if (o->coherent)
		order_violation(o, "needless");
	order_push(list, pfn);
	order_push(list, npages);
	for (i = 0; flush && i < npages; i++) {
		struct order_page *page = order_page(o, pfn + i);

		if (page->reach && !o->shared)
			order_violation(o, "flush-before-unmap");
		else if (page->unsynced)
			order_violation(o, "flush-before-sync");
	}
}

/* All lines of this task have arrived. */
static inline void order_done(struct order *o, uint64_t pid, bool flush)
{
	struct order_task *task = order_task(o, pid);
	struct order_list *list = flush ? &task->flush : &task->clean;
	struct order_page *page;
	uint64_t pfn;
	size_t i;

	if (list->n)
		order_tell(o, "done", 0);
	for (i = 0; i < list->n; i += 2) {
		for (pfn = list->item[i]; pfn < list->item[i] + list->item[i + 1]; pfn++) {
			bool cleaned;

			page = order_page(o, pfn);
			cleaned = page->owner == pid && page->cleaned == task->operation;
			o->maintained[flush]++;
			if (flush) {
				/* What was cleaned and then not mapped may be flushed. */
				o->extra[1] += !page->dirty && !cleaned;
				page->dirty = false;
				page->cleaned = 0;
			} else if (page->reach) {
				o->extra[0]++;
			} else {
				o->extra[0] += cleaned;
				page->owner = pid;
				page->cleaned = task->operation;
				order_push(&task->cleaned, pfn);
			}
		}
	}
	list->n = 0;
}

static inline uint64_t order_pfn(const struct order *o, uint64_t address)
{
	return (address - o->memmap) / o->page_struct;
}

static inline void order_unpin(struct order *o, uint64_t address, uint64_t npages)
{
	uint64_t i, pfn = order_pfn(o, address);

	order_tell(o, "unpin", 0);
	for (i = 0; i < npages; i++) {
		struct order_page *page = order_page(o, pfn + i);

		if (page->maps && !o->shared)
			order_violation(o, "unpin-while-mapped");
		else if (page->dirty || page->unsynced)
			order_violation(o, "unpin-before-flush");
		if (page->pinned)
			o->pinned--;
		page->pinned = false;
		page->cleaned = 0;
	}
}

/* A task is back from an ioctl, or has exited: nothing may be left for later. */
static inline void order_end(struct order *o, uint64_t pid)
{
	struct order_task *task = order_task(o, pid);
	struct order_page *page;
	size_t i;

	order_tell(o, "end", 0);
	for (i = 0; i < task->dirty.n; i++) {
		page = order_page(o, task->dirty.item[i]);
		if (page->dirty && page->owner == pid)
			order_violation(o, "flush-missing");
	}
	/* What was not mapped in the end was flushed. */
	for (i = 0; i < task->cleaned.n; i++) {
		page = order_page(o, task->cleaned.item[i]);
		o->extra[0] += page->cleaned == task->operation && page->owner == pid;
	}
	if (task->clean.n || task->flush.n)
		order_violation(o, "inconsistent");
	task->cleaned.n = 0;
	task->dirty.n = 0;
	task->operation++;
}

/* Every holder is gone. */
static inline void order_finish(struct order *o)
{
	if (o->mapped)
		order_violation(o, "never-unmapped");
	if (o->pinned && !o->unpinned)
		order_violation(o, "never-unpinned");
}

/* The number after " @name=", which the line must have. */
static inline uint64_t order_field(struct order *o, const char *line, const char *name)
{
	char key[32], *end;
	const char *at;
	uint64_t value;

	snprintf(key, sizeof(key), " %s=", name);
	at = strstr(line, key);
	if (!at) {
		order_violation(o, "unreadable");
		return 0;
	}
	value = strtoull(at + strlen(key), &end, 0);
	if (end == at + strlen(key))
		order_violation(o, "unreadable");
	return value;
}

/* Whether the line lists the addresses of @n struct pages. If there are more, nothing is known. */
static inline bool order_pages(struct order *o, const char *line, uint64_t n,
			       uint64_t address[ORDER_LIST])
{
	const char *at = strstr(line, " pages={");
	char *end;
	uint64_t i;

	if (!at || n > ORDER_LIST) {
		order_violation(o, "overrun");
		return false;
	}
	at += strlen(" pages={");
	for (i = 0; i < n; i++) {
		address[i] = strtoull(at, &end, 0);
		at = end + 1;
	}
	return true;
}

static inline void order_unpin_list(struct order *o, const char *line)
{
	uint64_t address[ORDER_LIST], i, n = order_field(o, line, "n");

	if (!order_pages(o, line, n, address))
		return;
	for (i = 0; i < n; i++)
		order_unpin(o, address[i], 1);
}

static inline void order_access(struct order *o, uint64_t pid, const char *line)
{
	uint64_t first = order_field(o, line, "first"), last = order_field(o, line, "last"), i;
	struct order_access *access;
	struct order_page *page;

	if (order_field(o, line, "ret"))
		return;		/* it has nothing */
	access = calloc(1, sizeof(*access));
	if (!access)
		abort();
	access->object = order_field(o, line, "object");
	access->first = first;
	access->last = last;
	access->next = o->accesses;
	o->accesses = access;
	order_tell(o, "access", 0);
	if (!order_pages(o, line, last - first + 1, access->pfn))
		return;
	for (i = 0; i <= last - first; i++) {
		access->pfn[i] = order_pfn(o, access->pfn[i]);
		page = order_page(o, access->pfn[i]);
		if (!page->reach)
			order_reach(o, pid, page, access->pfn[i]);
		order_hold(o, page);
	}
}

static inline void order_access_end(struct order *o, uint64_t pid, const char *line)
{
	uint64_t object = order_field(o, line, "object"), first = order_field(o, line, "first");
	uint64_t last = order_field(o, line, "last"), i;
	struct order_access **at = &o->accesses, *access;
	struct order_page *page;

	while (*at && ((*at)->object != object || (*at)->first != first || (*at)->last != last))
		at = &(*at)->next;
	access = *at;
	if (!access) {
		order_violation(o, "inconsistent");
		return;
	}
	order_tell(o, "release", 0);
	for (i = 0; i <= last - first; i++) {
		page = order_page(o, access->pfn[i]);
		page->maps--;
		o->mapped--;
		page->written = true;
		if (!page->reach)
			order_leave(o, pid, page, access->pfn[i]);
	}
	*at = access->next;
	free(access);
}

/* VT-d's driver finds out itself what a map has done that failed. */
static inline void order_lookup(struct order *o, const char *event, uint64_t paddr)
{
	if (!paddr && !strstr(event, "(intel_iommu_map_pages+"))
		order_violation(o, "unmapped-lookup");
}

/*
 * Takes one line of the trace:
 *   COMM-PID  [CPU] FLAGS  TIME: EVENT: FIELDS
 */
static inline void order_line(struct order *o, const char *line)
{
	const char *event, *at = strchr(line, '[');
	char *last;
	bool flush;
	uint64_t pid;

	if (o->violation)
		return;
	last = o->last[o->events++ % ORDER_LAST];
	snprintf(last, ORDER_LINE, "%s", line);
	if (strstr(line, "LOST")) {
		order_violation(o, "overrun");
		return;
	}
	event = at ? strstr(at, ": ") : NULL;
	if (!event) {
		order_violation(o, "unreadable");
		return;
	}
	event += 2;
	while (at > line && at[-1] == ' ')
		at--;
	while (at > line && at[-1] >= '0' && at[-1] <= '9')
		at--;
	pid = strtoull(at, NULL, 10);
	flush = strstr(event, " op=flush");

#define ORDER_IS(name)	(!strncmp(event, name ": ", sizeof(name ": ") - 1))
#define ORDER_FIELD(name) order_field(o, event, name)
	if (ORDER_IS("map"))
		order_map(o, pid, ORDER_FIELD("domain"), ORDER_FIELD("iova"),
			  ORDER_FIELD("paddr"), ORDER_FIELD("size"), ORDER_FIELD("prot"));
	else if (ORDER_IS("map_failed"))
		order_map_failed(o, pid, ORDER_FIELD("domain"), ORDER_FIELD("iova"),
				 ORDER_FIELD("size"));
	else if (ORDER_IS("unmap"))
		order_unmap(o, pid, ORDER_FIELD("domain"), ORDER_FIELD("iova"),
			    ORDER_FIELD("size"));
	else if (ORDER_IS("access"))
		order_access(o, pid, event);
	else if (ORDER_IS("access_end"))
		order_access_end(o, pid, event);
	else if (ORDER_IS("enforced"))
		order_enforced(o, ORDER_FIELD("domain"));
	else if (ORDER_IS("sync"))
		order_sync(o, pid, ORDER_FIELD("domain"));
	else if (ORDER_IS("lookup"))
		order_lookup(o, event, ORDER_FIELD("ret"));
	else if (ORDER_IS("free"))
		order_domain_free(o, ORDER_FIELD("domain"));
	else if (ORDER_IS("unpin"))
		order_unpin(o, ORDER_FIELD("page"), ORDER_FIELD("n"));
	else if (ORDER_IS("unpin_list"))
		order_unpin_list(o, event);
	else if (ORDER_IS("dma_cache_pages") && strstr(event, "result=failed"))
		order_violation(o, "not-maintained");
	else if (ORDER_IS("dma_cache_pages"))
		order_lines(o, pid, flush, ORDER_FIELD("pfn"), ORDER_FIELD("npages"));
	else if (ORDER_IS("dma_cache_done"))
		order_done(o, pid, flush);
	else if (ORDER_IS("tracing_mark_write"))
		order_end(o, ORDER_FIELD("end"));
	else
		order_violation(o, "unreadable");
#undef ORDER_FIELD
#undef ORDER_IS
}

#endif /* SELFTEST_DMA_CACHE_ORDER_H */
