/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of IOMMUFD's CPU cache maintenance share. They have mock devices whose DMA goes
 * past simulated caches (drivers/iommu/iommufd/selftest_shadow.c): a device must read what the
 * CPU wrote before it was given the memory, the CPU must read what the device wrote after it was
 * taken away, and nothing may be maintained twice, or for DMA that is coherent.
 *
 * Each test ends with a look at what the mock saw: pages that it could reach uncleaned, that
 * were left unflushed, or that were unpinned too early; and as many pages must have been
 * flushed as were cleaned.
 */
#ifndef SELFTEST_IOMMUFD_NONCOHERENT_H
#define SELFTEST_IOMMUFD_NONCOHERENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_counters.h"
#include "mock_iommu.h"
#include "vfio_device.h"

#define IOVA		((__u64)MOCK_APERTURE_START)
#define HUGE_SIZE	(2UL << 20)
#define MAX_DOMAINS	3

static size_t page_size;

static __attribute__((constructor)) void set_page_size(void)
{
	page_size = sysconf(_SC_PAGE_SIZE);
}

/* What the kernel counts */

struct counters {
	bool active;
	__u64 cleaned, chunks, flushed, failed;
	struct mock_faults mock;
};

static inline struct counters count(void)
{
	struct dma_cache_counters c = dma_cache_counters();
	struct counters now = {
		.active = c.active,
		.cleaned = c.clean.pages,
		.chunks = c.clean.chunks,
		.flushed = c.flush.pages,
		.failed = c.clean.failed + c.flush.failed,
	};

	if (!c.exists)
		ksft_exit_fail_msg("no " DMA_CACHE_REPORT "\n");
	if (mock_faults(&now.mock))
		ksft_exit_fail_msg("the mock device does not tell what it saw\n");
	return now;
}

/* Whether so many pages were cleaned and flushed since @last, which is brought up to date */
static inline bool maintained(struct counters *last, __u64 cleaned, __u64 flushed)
{
	struct counters now = count();

	cleaned += last->cleaned;
	flushed += last->flushed;
	if (now.cleaned != cleaned || now.flushed != flushed)
		ksft_print_msg("%lld pages cleaned and %lld flushed beyond what is right\n",
			       (long long)(now.cleaned - cleaned),
			       (long long)(now.flushed - flushed));
	*last = now;
	return now.cleaned == cleaned && now.flushed == flushed;
}

/* After everything was unmapped */
static inline void expect_clean_slate(struct __test_metadata *_metadata, struct counters *start)
{
	struct counters end = count();

	EXPECT_EQ(0, end.mock.uncleaned - start->mock.uncleaned) {
		TH_LOG("a device could reach pages that were not cleaned");
	}
	EXPECT_EQ(0, end.mock.unflushed - start->mock.unflushed) {
		TH_LOG("pages were not flushed after a device could write them");
	}
	EXPECT_EQ(0, end.mock.unpinned - start->mock.unpinned) {
		TH_LOG("pages were unpinned before they were unmapped and flushed");
	}
	EXPECT_EQ(0, end.mock.lost - start->mock.lost) {
		TH_LOG("the mock was out of memory");
	}
	EXPECT_EQ(0, end.failed - start->failed);
	EXPECT_EQ(end.cleaned - start->cleaned, end.flushed - start->flushed);
}

/* Data: never the same twice */

static __u64 seed;

static inline void scribble(void *buf, size_t len)
{
	__u64 *word = buf;
	size_t i;

	seed += 0x9e3779b97f4a7c15;
	for (i = 0; i < len / sizeof(*word); i++)
		word[i] = seed ^ (i * 0xbf58476d1ce4e5b9);
}

/* Whether the device reads at @iova what the CPU has at @addr */
static inline bool device_reads(int fd, __u32 hwpt, __u64 iova, const void *addr, size_t len)
{
	void *buf = malloc(len);
	bool same = buf && !mock_dma(fd, hwpt, iova, buf, len, 0) && !memcmp(buf, addr, len);

	free(buf);
	return same;
}

/*
 * The device writes new data at @iova, which is put into @data, too: at once or, for domains
 * that are not coherent, every other page only after the IOTLB sync.
 */
static inline bool device_writes(int fd, const struct mock_device *domain, __u64 iova, void *data,
				 size_t len)
{
	size_t at, n;

	scribble(data, len);
	for (at = 0; at < len; at += n) {
		__u32 flags = !domain->coherent && at / page_size % 2 ? DMA_LATE : DMA_WRITE;

		n = len - at < page_size ? len - at : page_size;
		if (mock_dma(fd, domain->hwpt, iova + at, data + at, n, flags))
			return false;
	}
	return true;
}

static inline bool cpu_reads(const void *addr, const void *data, size_t len)
{
	return !memcmp(addr, data, len);
}

/* An IOAS and its domains, "n" for a non-coherent and "c" for a coherent one, in order */
struct context {
	int fd;
	__u32 ioas;
	struct mock_device domains[MAX_DOMAINS];
	unsigned int ndomains;
};

static inline int context_attach(struct context *ctx, char kind, __u32 flags)
{
	struct mock_device *domain = &ctx->domains[ctx->ndomains], *other;
	int rc;

	for (other = ctx->domains; other < domain; other++)
		if (kind == 'n' && !other->coherent && other->stdev)
			break;
	if (other < domain) {
		/* A device would be attached to the other domain. */
		rc = hwpt_new(ctx->fd, other->idev, ctx->ioas, &domain->hwpt);
		domain->stdev = 0;
		domain->coherent = false;
	} else {
		rc = mock_attach(ctx->fd, ctx->ioas,
				 flags | (kind == 'c' ? COHERENT : NONCOHERENT), domain);
	}
	ctx->ndomains += !rc;
	return rc;
}

/* All but the last @but of @domains; 0 or -errno */
static inline int context_attach_all(struct context *ctx, const char *domains, size_t but,
				     __u32 flags)
{
	size_t left = strlen(domains) - but;
	int rc = 0;

	for (; left-- && !rc; domains++)
		rc = context_attach(ctx, *domains, flags);
	return rc;
}

static inline bool all_read(const struct context *ctx, const void *addr, size_t len)
{
	unsigned int i;

	for (i = 0; i < ctx->ndomains; i++)
		if (!device_reads(ctx->fd, ctx->domains[i].hwpt, IOVA, addr, len))
			return false;
	return true;
}

static inline int domain_destroy(int fd, struct mock_device *domain)
{
	return iommufd_destroy(fd, domain->stdev ? domain->stdev : domain->hwpt);
}

static inline void context_open(struct __test_metadata *_metadata, struct context *ctx)
{
	memset(ctx, 0, sizeof(*ctx));
	ctx->fd = open("/dev/iommu", O_RDWR);
	ASSERT_LE(0, ctx->fd);
	ASSERT_EQ(0, ioas_new(ctx->fd, &ctx->ioas));
}

static inline void *anonymous(struct __test_metadata *_metadata, size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, addr);
	return addr;
}

static inline void *shared_memory(struct __test_metadata *_metadata, size_t len)
{
	int memfd = memfd_create("iommufd_noncoherent", 0);
	void *addr;

	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, len));
	addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	ASSERT_NE(MAP_FAILED, addr);
	close(memfd);
	return addr;
}

static inline void *huge_page(struct __test_metadata *_metadata)
{
	uintptr_t addr = (uintptr_t)anonymous(_metadata, 2 * HUGE_SIZE);
	void *page = (void *)((addr + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));

	ASSERT_EQ(0, madvise(page, HUGE_SIZE, MADV_HUGEPAGE));
	return page;
}

#endif /* SELFTEST_IOMMUFD_NONCOHERENT_H */
