// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU cache maintenance of IOMMUFD, on mock devices whose DMA goes past simulated caches
 * (drivers/iommu/iommufd/selftest_shadow.c): a device must read what the CPU wrote before it
 * was given the memory, the CPU must read what the device wrote after it was taken away, and
 * nothing may be maintained twice, or for DMA that is coherent.
 *
 * Each test ends with a look at what the mock saw: pages that it could reach uncleaned, that
 * were left unflushed, or that were unpinned too early; and as many pages must have been
 * flushed as were cleaned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dma_cache.h>
#define __EXPORTED_HEADERS__
#include <linux/vfio.h>

#include "../kselftest_harness.h"
#include "../../../../drivers/iommu/iommufd/iommufd_test.h"

#define NONCOHERENT	MOCK_FLAGS_DEVICE_SHADOW
#define COHERENT	(MOCK_FLAGS_DEVICE_SHADOW | MOCK_FLAGS_DEVICE_ENFORCE_CC)
#define DMA_WRITE	MOCK_DMA_RW_WRITE
#define DMA_LATE	(MOCK_DMA_RW_WRITE | MOCK_DMA_RW_LATE)

#define IOVA		((__u64)MOCK_APERTURE_START)
#define HUGE_SIZE	(2UL << 20)
#define MAX_DOMAINS	3
#define MAX_FAULTS	1000

static size_t page_size;

static __attribute__((constructor)) void set_page_size(void)
{
	page_size = sysconf(_SC_PAGE_SIZE);
}

/* ioctls: 0 or -errno */

static int iommufd_ioctl(int fd, unsigned long request, void *cmd)
{
	return ioctl(fd, request, cmd) < 0 ? -errno : 0;
}

static int ioas_alloc(int fd, __u32 *ioas)
{
	struct iommu_ioas_alloc cmd = { .size = sizeof(cmd) };
	int rc = iommufd_ioctl(fd, IOMMU_IOAS_ALLOC, &cmd);

	*ioas = cmd.out_ioas_id;
	return rc;
}

static int ioas_map(int fd, __u32 ioas, void *addr, size_t len, __u64 iova)
{
	struct iommu_ioas_map cmd = {
		.size = sizeof(cmd),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)addr,
		.length = len,
		.iova = iova,
	};

	return iommufd_ioctl(fd, IOMMU_IOAS_MAP, &cmd);
}

static int ioas_copy(int fd, __u32 to, __u32 from, __u64 from_iova, size_t len, __u64 to_iova)
{
	struct iommu_ioas_copy cmd = {
		.size = sizeof(cmd),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.dst_ioas_id = to,
		.src_ioas_id = from,
		.length = len,
		.dst_iova = to_iova,
		.src_iova = from_iova,
	};

	return iommufd_ioctl(fd, IOMMU_IOAS_COPY, &cmd);
}

static int ioas_unmap(int fd, __u32 ioas, __u64 iova, size_t len)
{
	struct iommu_ioas_unmap cmd = {
		.size = sizeof(cmd),
		.ioas_id = ioas,
		.iova = iova,
		.length = len,
	};

	return iommufd_ioctl(fd, IOMMU_IOAS_UNMAP, &cmd);
}

static int destroy(int fd, __u32 id)
{
	struct iommu_destroy cmd = { .size = sizeof(cmd), .id = id };

	return iommufd_ioctl(fd, IOMMU_DESTROY, &cmd);
}

static int hwpt_alloc(int fd, __u32 idev, __u32 pt, __u32 flags, __u32 *hwpt)
{
	struct iommu_hwpt_alloc cmd = {
		.size = sizeof(cmd),
		.flags = flags,
		.dev_id = idev,
		.pt_id = pt,
	};
	int rc = iommufd_ioctl(fd, IOMMU_HWPT_ALLOC, &cmd);

	*hwpt = cmd.out_hwpt_id;
	return rc;
}

static int hwpt_alloc_nested(int fd, __u32 idev, __u32 parent, __u32 *hwpt)
{
	struct iommu_hwpt_selftest data = { .iotlb = IOMMU_TEST_IOTLB_DEFAULT };
	struct iommu_hwpt_alloc cmd = {
		.size = sizeof(cmd),
		.dev_id = idev,
		.pt_id = parent,
		.data_type = IOMMU_HWPT_DATA_SELFTEST,
		.data_len = sizeof(data),
		.data_uptr = (uintptr_t)&data,
	};
	int rc = iommufd_ioctl(fd, IOMMU_HWPT_ALLOC, &cmd);

	*hwpt = cmd.out_hwpt_id;
	return rc;
}

static int mock(int fd, struct iommu_test_cmd *cmd, __u32 op, __u32 id)
{
	cmd->size = sizeof(*cmd);
	cmd->op = op;
	cmd->id = id;
	return iommufd_ioctl(fd, IOMMU_TEST_CMD, cmd);
}

/* A domain, and the device that it came with or no device */
struct domain {
	__u32 stdev, idev, hwpt;
	bool coherent;
};

static int device_attach(int fd, __u32 pt, __u32 flags, struct domain *domain)
{
	struct iommu_test_cmd cmd = { .mock_domain_flags.dev_flags = flags };
	int rc = mock(fd, &cmd, IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, pt);

	if (rc)
		return rc;
	domain->stdev = cmd.mock_domain_flags.out_stdev_id;
	domain->idev = cmd.mock_domain_flags.out_idev_id;
	domain->hwpt = cmd.mock_domain_flags.out_hwpt_id;
	domain->coherent = flags & MOCK_FLAGS_DEVICE_ENFORCE_CC;
	return 0;
}

static int device_replace(int fd, struct domain *domain, __u32 pt)
{
	struct iommu_test_cmd cmd = { .mock_domain_replace.pt_id = pt };
	int rc = mock(fd, &cmd, IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, domain->stdev);

	if (!rc)
		domain->hwpt = cmd.mock_domain_replace.pt_id;
	return rc;
}

static int dma(int fd, __u32 hwpt, __u64 iova, void *buf, size_t len, __u32 flags)
{
	struct iommu_test_cmd cmd = {
		.md_dma_rw = {
			.iova = iova,
			.length = len,
			.uptr = (uintptr_t)buf,
			.flags = flags,
		},
	};

	return mock(fd, &cmd, IOMMU_TEST_OP_MD_DMA_RW, hwpt);
}

static int check_refs(int fd, void *addr, size_t len, unsigned int refs)
{
	struct iommu_test_cmd cmd = {
		.check_refs = { .length = len, .uptr = (uintptr_t)addr, .refs = refs },
	};

	return mock(fd, &cmd, IOMMU_TEST_OP_MD_CHECK_REFS, 0);
}

static int batch_limit(int fd, __u32 limit)
{
	struct iommu_test_cmd cmd = { .memory_limit.limit = limit };

	return mock(fd, &cmd, IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, 0);
}

static int access_create(int fd, __u32 ioas, __u32 *access)
{
	struct iommu_test_cmd cmd = {
		.create_access.flags = MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES,
	};
	int rc = mock(fd, &cmd, IOMMU_TEST_OP_CREATE_ACCESS, ioas);

	*access = cmd.create_access.out_access_fd;
	return rc;
}

static int access_pin(int fd, __u32 access, __u64 iova, size_t len, __u32 *item)
{
	struct iommu_test_cmd cmd = { .access_pages = { .iova = iova, .length = len } };
	int rc = mock(fd, &cmd, IOMMU_TEST_OP_ACCESS_PAGES, access);

	*item = cmd.access_pages.out_access_pages_id;
	return rc;
}

static int access_unpin(int fd, __u32 access, __u32 item)
{
	struct iommu_test_cmd cmd = { .destroy_access_pages.access_pages_id = item };

	return mock(fd, &cmd, IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, access);
}

/* What the kernel counts */

struct counters {
	bool active;
	__u64 cleaned, flushed, failed;
	__u64 uncleaned, unflushed, unpinned, lost;
};

static struct counters count(void)
{
	struct iommu_test_cmd cmd = {};
	struct counters now = {};
	char line[128], name[64], value[64];
	int fd, found = 0;
	FILE *f;

	f = fopen("/sys/kernel/debug/dma_cache", "r");
	if (!f)
		ksft_exit_fail_msg("no dma_cache in debugfs: %s\n", strerror(errno));
	while (fgets(line, sizeof(line), f) && sscanf(line, "%63s %63s", name, value) == 2) {
		__u64 number = strtoull(value, NULL, 0);

		found++;
		if (!strcmp(name, "active"))
			now.active = !strcmp(value, "yes");
		else if (!strcmp(name, "clean_pages"))
			now.cleaned = number;
		else if (!strcmp(name, "flush_pages"))
			now.flushed = number;
		else if (!strcmp(name, "clean_failed") || !strcmp(name, "flush_failed"))
			now.failed += number;
		else
			found--;
	}
	fclose(f);
	if (found != 5)
		ksft_exit_fail_msg("not all counters in debugfs's dma_cache\n");

	fd = open("/dev/iommu", O_RDWR);
	if (mock(fd, &cmd, IOMMU_TEST_OP_MD_SHADOW_STATS, 0))
		ksft_exit_fail_msg("the mock device does not tell what it saw\n");
	close(fd);
	now.uncleaned = cmd.md_shadow_stats.out_uncleaned;
	now.unflushed = cmd.md_shadow_stats.out_unflushed;
	now.unpinned = cmd.md_shadow_stats.out_unpinned;
	now.lost = cmd.md_shadow_stats.out_lost;
	return now;
}

/* Whether so many pages were cleaned and flushed since @last, which is brought up to date */
static bool maintained(struct counters *last, __u64 cleaned, __u64 flushed)
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
static void expect_clean_slate(struct __test_metadata *_metadata, struct counters *start)
{
	struct counters end = count();

	EXPECT_EQ(0, end.uncleaned - start->uncleaned) {
		TH_LOG("a device could reach pages that were not cleaned");
	}
	EXPECT_EQ(0, end.unflushed - start->unflushed) {
		TH_LOG("pages were not flushed after a device could write them");
	}
	EXPECT_EQ(0, end.unpinned - start->unpinned) {
		TH_LOG("pages were unpinned before they were unmapped and flushed");
	}
	EXPECT_EQ(0, end.lost - start->lost) {
		TH_LOG("the mock was out of memory");
	}
	EXPECT_EQ(0, end.failed - start->failed);
	EXPECT_EQ(end.cleaned - start->cleaned, end.flushed - start->flushed);
}

/* Data: never the same twice */

static __u64 seed;

static void scribble(void *buf, size_t len)
{
	__u64 *word = buf;
	size_t i;

	seed += 0x9e3779b97f4a7c15;
	for (i = 0; i < len / sizeof(*word); i++)
		word[i] = seed ^ (i * 0xbf58476d1ce4e5b9);
}

/* Whether the device reads at @iova what the CPU has at @addr */
static bool device_reads(int fd, __u32 hwpt, __u64 iova, const void *addr, size_t len)
{
	void *buf = malloc(len);
	bool same = buf && !dma(fd, hwpt, iova, buf, len, 0) && !memcmp(buf, addr, len);

	free(buf);
	return same;
}

/*
 * The device writes new data at @iova, which is put into @data, too: at once or, for domains
 * that are not coherent, every other page only after the IOTLB sync.
 */
static bool device_writes(int fd, const struct domain *domain, __u64 iova, void *data, size_t len)
{
	size_t at, n;

	scribble(data, len);
	for (at = 0; at < len; at += n) {
		bool late = !domain->coherent && at / page_size % 2;

		n = len - at < page_size ? len - at : page_size;
		if (dma(fd, domain->hwpt, iova + at, data + at, n, late ? DMA_LATE : DMA_WRITE))
			return false;
	}
	return true;
}

static bool cpu_reads(const void *addr, const void *data, size_t len)
{
	return !memcmp(addr, data, len);
}

/* An IOAS and its domains, "n" for a non-coherent and "c" for a coherent one, in order */
struct context {
	int fd;
	__u32 ioas;
	struct domain domains[MAX_DOMAINS];
	unsigned int ndomains;
};

static int context_attach(struct context *ctx, char kind, __u32 flags)
{
	struct domain *domain = &ctx->domains[ctx->ndomains], *other;
	int rc;

	for (other = ctx->domains; other < domain; other++)
		if (kind == 'n' && !other->coherent && other->stdev)
			break;
	if (other < domain) {
		/* A device would be attached to the other domain. */
		rc = hwpt_alloc(ctx->fd, other->idev, ctx->ioas, 0, &domain->hwpt);
		domain->stdev = 0;
		domain->coherent = false;
	} else {
		rc = device_attach(ctx->fd, ctx->ioas,
				   flags | (kind == 'c' ? COHERENT : NONCOHERENT), domain);
	}
	ctx->ndomains += !rc;
	return rc;
}

/* All but the last @but of @domains; 0 or -errno */
static int context_attach_all(struct context *ctx, const char *domains, size_t but, __u32 flags)
{
	size_t left = strlen(domains) - but;
	int rc = 0;

	for (; left-- && !rc; domains++)
		rc = context_attach(ctx, *domains, flags);
	return rc;
}

static bool all_read(const struct context *ctx, const void *addr, size_t len)
{
	unsigned int i;

	for (i = 0; i < ctx->ndomains; i++)
		if (!device_reads(ctx->fd, ctx->domains[i].hwpt, IOVA, addr, len))
			return false;
	return true;
}

static int domain_destroy(int fd, struct domain *domain)
{
	return destroy(fd, domain->stdev ? domain->stdev : domain->hwpt);
}

static void context_open(struct __test_metadata *_metadata, struct context *ctx)
{
	memset(ctx, 0, sizeof(*ctx));
	ctx->fd = open("/dev/iommu", O_RDWR);
	ASSERT_LE(0, ctx->fd);
	ASSERT_EQ(0, ioas_alloc(ctx->fd, &ctx->ioas));
}

static void *anonymous(struct __test_metadata *_metadata, size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, addr);
	return addr;
}

static void *shared_memory(struct __test_metadata *_metadata, size_t len)
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

static bool write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	close(fd);
	return done;
}

/* This task's fail-nth, or -1 */
static int faults_open(void)
{
	char path[64];

	if (!write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N"))
		return -1;
	write_file("/sys/kernel/debug/failslab/verbose", "0");
	write_file("/sys/kernel/debug/fail_iommufd/verbose", "0");
	/* If the kernel has that, too */
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth", syscall(SYS_gettid));
	return open(path, O_RDWR);
}

static void faults_on(struct __test_metadata *_metadata, int nth, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	ASSERT_EQ(len, pwrite(nth, text, len, 0));
}

/* Whether the fault happened; reading and writing the file may have had it. */
static bool faults_off(struct __test_metadata *_metadata, int nth)
{
	char text[16] = "";
	bool happened;

	happened = pread(nth, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
	if (pwrite(nth, "0", 1, 0) != 1)
		ASSERT_EQ(1, pwrite(nth, "0", 1, 0));
	return happened;
}

static void *huge_page(struct __test_metadata *_metadata)
{
	uintptr_t addr = (uintptr_t)anonymous(_metadata, 2 * HUGE_SIZE);
	void *page = (void *)((addr + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));

	ASSERT_EQ(0, madvise(page, HUGE_SIZE, MADV_HUGEPAGE));
	return page;
}

/* One IOAS, with all sorts of domains and of memory */

enum memory { ANONYMOUS, HUGE, HUGETLB, MEMFD };

FIXTURE(ioas)
{
	struct context ctx;
	void *map;		/* mapped at IOVA */
	void *data;		/* what devices write */
	size_t len;
	size_t maintained;	/* pages to maintain */
	struct counters start, last;
};

FIXTURE_VARIANT(ioas)
{
	const char *domains;
	enum memory memory;
	__u32 flags;		/* of devices */
	__u32 limit;		/* bytes for a batch */
};

FIXTURE_VARIANT_ADD(ioas, coherent) { .domains = "c" };
FIXTURE_VARIANT_ADD(ioas, one) { .domains = "n" };
FIXTURE_VARIANT_ADD(ioas, two) { .domains = "nn" };
FIXTURE_VARIANT_ADD(ioas, coherent_sibling_first) { .domains = "cn" };
FIXTURE_VARIANT_ADD(ioas, coherent_sibling_second) { .domains = "nc" };
FIXTURE_VARIANT_ADD(ioas, coherent_sibling_between) { .domains = "ncn" };
FIXTURE_VARIANT_ADD(ioas, small_batches) { .domains = "nn", .limit = 16 };
FIXTURE_VARIANT_ADD(ioas, memfd) { .domains = "nn", .memory = MEMFD };
FIXTURE_VARIANT_ADD(ioas, hugepage) { .domains = "nn", .memory = HUGE };
FIXTURE_VARIANT_ADD(ioas, hugetlb) { .domains = "cn", .memory = HUGETLB };
FIXTURE_VARIANT_ADD(ioas, huge_iova)
{
	.domains = "n", .memory = HUGE, .flags = MOCK_FLAGS_DEVICE_HUGE_IOVA,
};

static size_t noncoherent_domains(const char *domains)
{
	size_t n = 0;

	for (; *domains; domains++)
		n += *domains == 'n';
	return n;
}

FIXTURE_SETUP(ioas)
{
	self->start = count();
	if (!self->start.active)
		SKIP(return, "the kernel maintains no caches: dma_cache is off");

	self->len = 16 * page_size;
	if (variant->memory == ANONYMOUS) {
		self->map = anonymous(_metadata, self->len);
	} else if (variant->memory == MEMFD) {
		self->map = shared_memory(_metadata, self->len);
	} else if (variant->memory == HUGE) {
		self->len = HUGE_SIZE;
		self->map = huge_page(_metadata);
	} else {
		FILE *f = fopen("/proc/sys/vm/nr_hugepages", "w");

		self->len = HUGE_SIZE;
		if (f) {
			fputs("4", f);
			fclose(f);
		}
		self->map = mmap(NULL, self->len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT),
				 -1, 0);
		if (self->map == MAP_FAILED)
			SKIP(return, "no hugetlb page of 2M: %s", strerror(errno));
	}
	self->data = anonymous(_metadata, self->len);
	context_open(_metadata, &self->ctx);
	if (variant->limit)
		ASSERT_EQ(0, batch_limit(self->ctx.fd, variant->limit));
	if (noncoherent_domains(variant->domains))
		self->maintained = self->len / page_size;
	self->last = self->start;
}

FIXTURE_TEARDOWN(ioas)
{
	if (self->ctx.fd >= 0) {
		if (variant->limit)
			EXPECT_EQ(0, batch_limit(self->ctx.fd, 65536));
		close(self->ctx.fd);
	}
	EXPECT_EQ(0, munmap(self->map, self->len));
	expect_clean_slate(_metadata, &self->start);
}

/* A row of the matrix, of the simplest variant */
static void print_row(const char *domains, int flags, const char *row, const char *value)
{
	if (!strcmp(domains, "n") && !flags)
		ksft_print_msg("memtype-cell: row=%s effective=%s forced=no\n", row, value);
}

TEST_F(ioas, map_reads_what_the_cpu_wrote)
{
	bool right;

	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, variant->flags));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	scribble(self->map, self->len);
	ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
	right = maintained(&self->last, self->maintained, 0);
	print_row(variant->domains, variant->flags, "iommufd: pages cleaned by map",
		  right ? "each" : "wrong");
	EXPECT_TRUE(right);
	right = all_read(&self->ctx, self->map, self->len);
	print_row(variant->domains, variant->flags, "iommufd: device reads after map",
		  right ? "new" : "old");
	ASSERT_TRUE(right);
}

TEST_F(ioas, unmap_shows_what_the_device_wrote)
{
	bool flushed = true, right = true;
	unsigned int i;

	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, variant->flags));
	for (i = 0; i < self->ctx.ndomains; i++) {
		scribble(self->map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		ASSERT_TRUE(maintained(&self->last, self->maintained, 0));
		ASSERT_TRUE(device_writes(self->ctx.fd, &self->ctx.domains[i], IOVA, self->data,
					  self->len));
		ASSERT_EQ(0, ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len));
		flushed &= maintained(&self->last, 0, self->maintained);
		right &= cpu_reads(self->map, self->data, self->len);
		ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
	}
	print_row(variant->domains, variant->flags, "iommufd: pages flushed by unmap",
		  flushed ? "each" : "wrong");
	print_row(variant->domains, variant->flags, "iommufd: CPU reads after unmap",
		  right ? "new" : "old");
	ASSERT_TRUE(flushed);
	ASSERT_TRUE(right);
}

TEST_F(ioas, attach_replays_what_was_mapped)
{
	scribble(self->map, self->len);
	ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, variant->flags));
	ASSERT_TRUE(maintained(&self->last, self->maintained, 0));
	ASSERT_TRUE(all_read(&self->ctx, self->map, self->len));
}

TEST_F(ioas, detach_flushes_with_the_last_noncoherent_domain)
{
	size_t left = noncoherent_domains(variant->domains);
	unsigned int i;

	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, variant->flags));
	scribble(self->map, self->len);
	ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, self->maintained, 0));
	for (i = 0; i < self->ctx.ndomains; i++) {
		struct domain *domain = &self->ctx.domains[i];

		ASSERT_TRUE(device_writes(self->ctx.fd, domain, IOVA, self->data, self->len));
		ASSERT_EQ(0, domain_destroy(self->ctx.fd, domain));
		if (domain->coherent) {
			ASSERT_TRUE(maintained(&self->last, 0, 0));
			if (!left)
				ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
			continue;
		}
		ASSERT_TRUE(maintained(&self->last, 0, --left ? 0 : self->maintained));
		if (!left)
			ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	}
	ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
}

TEST_F(ioas, reattach_cleans_pages_that_were_discarded)
{
	unsigned int i, round;
	struct context other;

	/* Keeps the simulated memory alive */
	context_open(_metadata, &other);
	ASSERT_EQ(0, context_attach(&other, 'n', 0));

	ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, madvise(self->map, self->len,
				     variant->memory == MEMFD ? MADV_REMOVE : MADV_DONTNEED));
		scribble(self->map, self->len);
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0,
						variant->flags));
		ASSERT_TRUE(maintained(&self->last, self->maintained, 0));
		ASSERT_TRUE(all_read(&self->ctx, self->map, self->len));
		for (i = 0; i < self->ctx.ndomains; i++)
			ASSERT_EQ(0, domain_destroy(self->ctx.fd, &self->ctx.domains[i]));
		self->ctx.ndomains = 0;
		ASSERT_TRUE(maintained(&self->last, 0, self->maintained));
	}
	close(other.fd);
}

TEST_F(ioas, close_shows_what_the_device_wrote)
{
	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, variant->flags));
	scribble(self->map, self->len);
	ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, self->maintained, 0));
	ASSERT_TRUE(device_writes(self->ctx.fd, &self->ctx.domains[0], IOVA, self->data,
				  self->len));
	if (variant->limit)
		ASSERT_EQ(0, batch_limit(self->ctx.fd, 65536));
	close(self->ctx.fd);
	self->ctx.fd = -1;
	ASSERT_TRUE(maintained(&self->last, 0, self->maintained));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

TEST_F(ioas, destroyed_with_its_mappings)
{
	unsigned int i;

	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, variant->flags));
	ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, self->maintained, 0));
	ASSERT_TRUE(device_writes(self->ctx.fd, &self->ctx.domains[0], IOVA, self->data,
				  self->len));
	for (i = self->ctx.ndomains; i--;)
		ASSERT_EQ(0, domain_destroy(self->ctx.fd, &self->ctx.domains[i]));
	ASSERT_EQ(0, destroy(self->ctx.fd, self->ctx.ioas));
	ASSERT_TRUE(maintained(&self->last, 0, self->maintained));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

/* What needs more than one IOAS, or other users of its memory */

FIXTURE(shared)
{
	struct context ctx, other;
	char *map, *data;
	size_t len;
	struct counters start, last;
};

FIXTURE_SETUP(shared)
{
	self->start = count();
	if (!self->start.active)
		SKIP(return, "the kernel maintains no caches: dma_cache is off");
	self->len = 16 * page_size;
	self->map = shared_memory(_metadata, self->len);
	self->data = anonymous(_metadata, self->len);
	scribble(self->map, self->len);
	context_open(_metadata, &self->ctx);
	self->other.fd = self->ctx.fd;
	ASSERT_EQ(0, ioas_alloc(self->other.fd, &self->other.ioas));
	self->last = self->start;
}

FIXTURE_TEARDOWN(shared)
{
	close(self->ctx.fd);
	EXPECT_EQ(0, munmap(self->map, self->len));
	expect_clean_slate(_metadata, &self->start);
}

/* Areas share their pages and take slices of them: 0-11 and 4-15 of 16. */
TEST_F(shared, slices_of_a_copy_are_maintained_once)
{
	size_t slice = 12 * page_size, offset = 4 * page_size;
	struct domain *domain = self->ctx.domains, *other = self->other.domains;
	int fd = self->ctx.fd;
	__u32 source;

	ASSERT_EQ(0, ioas_alloc(fd, &source));
	ASSERT_EQ(0, ioas_map(fd, source, self->map, self->len, IOVA));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->other, 'n', 0));
	ASSERT_TRUE(maintained(&self->last, 0, 0));

	ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, source, IOVA, slice, IOVA));
	ASSERT_TRUE(maintained(&self->last, 12, 0));
	ASSERT_EQ(0, ioas_copy(fd, self->other.ioas, source, IOVA + offset, slice, IOVA));
	ASSERT_TRUE(maintained(&self->last, 4, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, slice));
	ASSERT_TRUE(device_reads(fd, other->hwpt, IOVA, self->map + offset, slice));

	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, offset));
	ASSERT_TRUE(device_writes(fd, other, IOVA, self->data + offset, slice));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, slice));
	ASSERT_TRUE(maintained(&self->last, 0, 4));
	ASSERT_TRUE(cpu_reads(self->map, self->data, offset));
	ASSERT_EQ(0, ioas_unmap(fd, self->other.ioas, IOVA, slice));
	ASSERT_TRUE(maintained(&self->last, 0, 12));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, source, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
}

/* The flush must not wait until the coherent domain lets go of the pages. */
TEST_F(shared, coherent_domain_holds_what_is_flushed)
{
	struct domain *domain = self->ctx.domains, *other = self->other.domains;
	int fd = self->ctx.fd;

	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, ioas_map(fd, self->other.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, self->other.ioas, IOVA, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));

	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	ASSERT_TRUE(device_reads(fd, other->hwpt, IOVA, self->data, self->len));
	ASSERT_EQ(0, check_refs(fd, self->map, self->len, 1));

	ASSERT_TRUE(device_writes(fd, other, IOVA, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->other.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

/* The same, of an access that pins half of the pages */
TEST_F(shared, access_holds_what_is_flushed)
{
	struct domain *domain = self->ctx.domains;
	__u32 access, item;
	int fd = self->ctx.fd, round;

	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_EQ(0, access_create(fd, self->ctx.ioas, &access));
	ASSERT_EQ(0, access_pin(fd, access, IOVA + 4 * page_size, 8 * page_size, &item));
	ASSERT_TRUE(maintained(&self->last, 0, 0));

	for (round = 0; round < 2; round++) {
		scribble(self->map, self->len);
		ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
		ASSERT_TRUE(maintained(&self->last, 16, 0));
		ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
		ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
		ASSERT_EQ(0, domain_destroy(fd, domain));
		self->ctx.ndomains = 0;
		ASSERT_TRUE(maintained(&self->last, 0, 16));
		ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
		ASSERT_EQ(0, check_refs(fd, self->map, 4 * page_size, 0));
		ASSERT_EQ(0, check_refs(fd, self->map + 4 * page_size, 8 * page_size, 1));
	}
	ASSERT_EQ(0, access_unpin(fd, access, item));
	close(access);
	ASSERT_EQ(0, check_refs(fd, self->map, self->len, 0));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
}

/* Contiguous page frames with holes in what is unpinned at the detach: pages 2-3 and 6-7 of 16 */
TEST_F(shared, accesses_hold_parts_of_a_hugepage)
{
	size_t len = self->len;
	struct domain *domain = self->ctx.domains;
	char *map = huge_page(_metadata);
	__u32 access, items[2];
	int fd = self->ctx.fd, i;

	scribble(map, len);
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, map, len, IOVA));
	ASSERT_EQ(0, access_create(fd, self->ctx.ioas, &access));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, access_pin(fd, access, IOVA + (2 + 4 * i) * page_size, 2 * page_size,
					&items[i]));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, map, len));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, len));
	ASSERT_EQ(0, domain_destroy(fd, domain));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(map, self->data, len));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, access_unpin(fd, access, items[i]));
	close(access);
	ASSERT_TRUE(maintained(&self->last, 0, 0));
}

/* 3.5 pages from the middle of a page: all 4 are maintained, and the other domain holds them. */
TEST_F(shared, partial_pages_are_maintained_whole)
{
	size_t offset = page_size / 2, len = 3 * page_size + offset;
	struct domain *domain = self->ctx.domains;
	__u64 iova = IOVA + offset;
	int fd = self->ctx.fd;

	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map(fd, self->other.ioas, self->map + offset, len, iova));
	ASSERT_EQ(0, ioas_copy(fd, self->ctx.ioas, self->other.ioas, iova, len, iova));
	ASSERT_TRUE(maintained(&self->last, 4, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, iova, self->map + offset, len));
	ASSERT_TRUE(device_writes(fd, domain, iova, self->data, len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, iova, len));
	ASSERT_TRUE(maintained(&self->last, 0, 4));
	ASSERT_TRUE(cpu_reads(self->map + offset, self->data, len));
}

/* Only VFIO's type1 of version 1 can take a part out of a mapping. */
TEST_F(shared, split)
{
	struct iommu_vfio_ioas ioas = {
		.size = sizeof(ioas),
		.op = IOMMU_VFIO_IOAS_SET,
		.ioas_id = self->ctx.ioas,
	};
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)self->map,
		.iova = IOVA,
		.size = self->len,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = IOVA + 4 * page_size,
		.size = 4 * page_size,
	};
	size_t end = 8 * page_size;
	struct domain *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	char byte;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, iommufd_ioctl(fd, IOMMU_VFIO_IOAS, &ioas));
	ASSERT_EQ(0, ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
	ASSERT_EQ(0, iommufd_ioctl(fd, VFIO_IOMMU_MAP_DMA, &map));
	ASSERT_TRUE(maintained(&self->last, 16, 0));

	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, iommufd_ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &unmap));
	ASSERT_TRUE(maintained(&self->last, 0, 4));
	ASSERT_TRUE(cpu_reads(self->map + 4 * page_size, self->data + 4 * page_size,
			      4 * page_size));
	ASSERT_EQ(-EFAULT, dma(fd, domain->hwpt, IOVA + 4 * page_size, &byte, 1, 0));
	ASSERT_EQ(0, check_refs(fd, self->map, 4 * page_size, 1));
	ASSERT_EQ(0, check_refs(fd, self->map + 4 * page_size, 4 * page_size, 0));

	/* One domain less changes nothing for the parts. */
	ASSERT_EQ(0, domain_destroy(fd, &self->ctx.domains[1]));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, 4 * page_size));
	ASSERT_TRUE(device_writes(fd, domain, IOVA + end, self->data + end, self->len - end));
	unmap.iova = IOVA;
	unmap.size = self->len;
	ASSERT_EQ(0, iommufd_ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &unmap));
	ASSERT_TRUE(maintained(&self->last, 0, 12));
	ASSERT_TRUE(cpu_reads(self->map, self->data, 4 * page_size));
	ASSERT_TRUE(cpu_reads(self->map + end, self->data + end, self->len - end));
}

TEST_F(shared, replace_within_an_ioas_maintains_nothing)
{
	struct domain *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	__u32 hwpt;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_EQ(0, hwpt_alloc(fd, domain->idev, self->ctx.ioas, 0, &hwpt));
	ASSERT_EQ(0, device_replace(fd, domain, hwpt));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, destroy(fd, domain->stdev));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, destroy(fd, hwpt));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

TEST_F(shared, replace_changes_what_is_reachable)
{
	struct domain *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	char *map;

	map = anonymous(_metadata, 8 * page_size);
	scribble(map, 8 * page_size);
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_EQ(0, ioas_map(fd, self->other.ioas, map, 8 * page_size, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, device_replace(fd, domain, self->other.ioas));
	ASSERT_TRUE(maintained(&self->last, 8, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, map, 8 * page_size));
}

TEST_F(shared, nested_parent)
{
	struct domain *domain = self->ctx.domains;
	__u32 device_ioas, parent, nested;
	int fd = self->ctx.fd;

	/* The device's first IOAS is empty. */
	device_ioas = self->other.ioas;
	ASSERT_EQ(0, device_attach(fd, device_ioas, NONCOHERENT, domain));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(0, hwpt_alloc(fd, domain->idev, self->ctx.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT,
				&parent));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_EQ(0, hwpt_alloc_nested(fd, domain->idev, parent, &nested));
	ASSERT_EQ(0, device_replace(fd, domain, nested));
	ASSERT_TRUE(maintained(&self->last, 0, 0));
	ASSERT_EQ(nested, domain->hwpt);
	ASSERT_TRUE(device_reads(fd, nested, IOVA, self->map, self->len));
	ASSERT_TRUE(device_writes(fd, domain, IOVA, self->data, self->len));
	ASSERT_EQ(0, ioas_unmap(fd, self->ctx.ioas, IOVA, self->len));
	ASSERT_TRUE(maintained(&self->last, 0, 16));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

/* The device goes on writing until the kernel takes the memory away from it. */
TEST_F(shared, process_dies)
{
	char *data = shared_memory(_metadata, self->len);
	int status, ready[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(ready));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct context ctx;

		close(ready[0]);
		context_open(_metadata, &ctx);
		ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
		ASSERT_EQ(0, ioas_map(ctx.fd, ctx.ioas, self->map, self->len, IOVA));
		ASSERT_TRUE(device_reads(ctx.fd, ctx.domains[0].hwpt, IOVA, self->map, self->len));
		ASSERT_TRUE(device_writes(ctx.fd, &ctx.domains[0], IOVA, data, self->len));
		ASSERT_EQ(1, write(ready[1], "", 1));
		for (;;)
			pause();
	}
	close(ready[1]);
	EXPECT_EQ(1, read(ready[0], &byte, 1));
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(maintained(&self->last, 16, 16));
	ASSERT_TRUE(cpu_reads(self->map, data, self->len));
}

/* KVM trusts what the device's IOMMU can do, so the domain must do it. */
TEST_F(shared, coherency_agrees)
{
	struct domain *domain = self->ctx.domains, coherent, refused, automatic;
	int fd = self->ctx.fd;
	__u32 hwpt, coherent_hwpt, nested;

	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, hwpt_alloc(fd, domain->idev, self->ctx.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT,
				&hwpt));

	/* A coherent device and a domain that is not */
	EXPECT_EQ(-EINVAL, device_attach(fd, hwpt, COHERENT, &refused));
	ASSERT_EQ(0, device_attach(fd, self->ctx.ioas, COHERENT, &coherent));
	EXPECT_NE(coherent.hwpt, domain->hwpt);
	EXPECT_EQ(-EINVAL, device_replace(fd, &coherent, hwpt));
	ASSERT_EQ(0, hwpt_alloc_nested(fd, domain->idev, hwpt, &nested));
	EXPECT_EQ(-EINVAL, device_replace(fd, &coherent, nested));
	EXPECT_EQ(-EINVAL, device_attach(fd, nested, COHERENT, &refused));

	/* The other way around, the driver refuses. */
	ASSERT_EQ(0, hwpt_alloc(fd, coherent.idev, self->ctx.ioas, 0, &coherent_hwpt));
	EXPECT_EQ(-EINVAL, device_attach(fd, coherent_hwpt, NONCOHERENT, &refused));
	EXPECT_EQ(-EINVAL, device_replace(fd, domain, coherent_hwpt));

	/* What agrees can be had, and the automatic domains are shared only with their like. */
	ASSERT_EQ(0, device_attach(fd, self->ctx.ioas, COHERENT, &automatic));
	EXPECT_EQ(coherent.hwpt, automatic.hwpt);
	ASSERT_EQ(0, device_attach(fd, self->ctx.ioas, NONCOHERENT, &automatic));
	EXPECT_EQ(domain->hwpt, automatic.hwpt);
	ASSERT_EQ(0, device_replace(fd, &coherent, coherent_hwpt));
	ASSERT_EQ(0, device_replace(fd, &automatic, nested));

	/* And all of that in the other order: the IOAS has a coherent domain first. */
	ASSERT_EQ(0, context_attach(&self->other, 'c', 0));
	ASSERT_EQ(0, context_attach(&self->other, 'n', 0));
	EXPECT_NE(self->other.domains[0].hwpt, self->other.domains[1].hwpt);

	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	ASSERT_TRUE(maintained(&self->last, 16, 0));
	ASSERT_TRUE(device_reads(fd, domain->hwpt, IOVA, self->map, self->len));
	ASSERT_TRUE(device_reads(fd, coherent.hwpt, IOVA, self->map, self->len));
}

/* What the tests rest upon: the simulated caches do not go away by themselves. */
TEST_F(shared, simulation_is_not_coherent)
{
	struct domain *domain = self->ctx.domains;
	int fd = self->ctx.fd;
	char *old, byte = 0;

	old = anonymous(_metadata, self->len);
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'c', 0));
	ASSERT_EQ(0, ioas_map(fd, self->ctx.ioas, self->map, self->len, IOVA));
	memcpy(old, self->map, self->len);

	/* What the CPU writes later stays in its caches. */
	scribble(self->map, self->len);
	ASSERT_TRUE(device_reads(fd, domain[0].hwpt, IOVA, old, self->len));
	ASSERT_TRUE(device_reads(fd, domain[1].hwpt, IOVA, self->map, self->len));

	/* What a device writes does not reach them. */
	memcpy(old, self->map, self->len);
	ASSERT_TRUE(device_writes(fd, &domain[0], IOVA, self->data, self->len));
	ASSERT_TRUE(cpu_reads(self->map, old, self->len));
	ASSERT_TRUE(device_writes(fd, &domain[1], IOVA, self->data, self->len));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));

	EXPECT_EQ(-EFAULT, dma(fd, domain[0].hwpt, IOVA + self->len - 1, self->data, 2, 0));
	EXPECT_EQ(-EFAULT, dma(fd, domain[0].hwpt, 0, &byte, 1, DMA_WRITE));
	EXPECT_EQ(-EOPNOTSUPP, dma(fd, domain[0].hwpt, IOVA, &byte, 1, MOCK_DMA_RW_LATE));
	EXPECT_EQ(-EOPNOTSUPP, dma(fd, domain[1].hwpt, IOVA, &byte, 1, DMA_LATE));
	EXPECT_EQ(-EOPNOTSUPP, dma(fd, domain[0].hwpt, IOVA, &byte, 1, 1 << 8));
}

/* Each allocation, and each step of the mock that can fail, fails once. */

FIXTURE(fail_nth)
{
	struct context ctx;
	int nth;
	char *map, *data;
	size_t len;
	struct counters start;
};

FIXTURE_VARIANT(fail_nth)
{
	const char *domains;
};

FIXTURE_VARIANT_ADD(fail_nth, one) { .domains = "n" };
FIXTURE_VARIANT_ADD(fail_nth, two) { .domains = "nn" };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_first) { .domains = "cn" };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_second) { .domains = "nc" };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_between) { .domains = "ncn" };

FIXTURE_SETUP(fail_nth)
{
	self->start = count();
	if (!self->start.active)
		SKIP(return, "the kernel maintains no caches: dma_cache is off");
	self->nth = faults_open();
	if (self->nth < 0)
		SKIP(return, "the kernel has no CONFIG_FAILSLAB");
	self->len = 8 * page_size;
	self->map = anonymous(_metadata, self->len);
	self->data = anonymous(_metadata, self->len);
}

FIXTURE_TEARDOWN(fail_nth)
{
	close(self->nth);
	close(self->ctx.fd);
	expect_clean_slate(_metadata, &self->start);
}

/* Whether all works as if nothing had happened, up to the unmap */
static bool device_works(const struct context *ctx, void *map, void *data, size_t len)
{
	return all_read(ctx, map, len) &&
	       device_writes(ctx->fd, &ctx->domains[ctx->ndomains - 1], IOVA, data, len) &&
	       !ioas_unmap(ctx->fd, ctx->ioas, IOVA, len) && cpu_reads(map, data, len);
}

TEST_F(fail_nth, map)
{
	bool happened;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		faults_on(_metadata, self->nth, n);
		rc = ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA);
		happened = faults_off(_metadata, self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
			/* Now it is other data that must be cleaned. */
			scribble(self->map, self->len);
			ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len,
					      IOVA));
		}
		ASSERT_TRUE(device_works(&self->ctx, self->map, self->data, self->len));
		ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

TEST_F(fail_nth, attach)
{
	size_t but;
	bool happened;
	int n, rc;

	/* The domain that fails is the first, the second ... */
	for (but = strlen(variant->domains); but; but--) {
		char kind = variant->domains[strlen(variant->domains) - but];

		for (n = 1, happened = true; happened; n++) {
			ASSERT_GT(MAX_FAULTS, n);
			context_open(_metadata, &self->ctx);
			ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len,
					      IOVA));
			scribble(self->map, self->len);
			ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, but, 0));
			faults_on(_metadata, self->nth, n);
			rc = context_attach(&self->ctx, kind, 0);
			happened = faults_off(_metadata, self->nth);
			if (rc) {
				ASSERT_TRUE(happened);
				ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len,
							!!self->ctx.ndomains));
				/* If nobody else has it, it must be cleaned again. */
				if (!self->ctx.ndomains)
					scribble(self->map, self->len);
				ASSERT_EQ(0, context_attach(&self->ctx, kind, 0));
			}
			ASSERT_TRUE(device_works(&self->ctx, self->map, self->data, self->len));
			ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
			close(self->ctx.fd);
		}
	}
}

TEST_F(fail_nth, copy)
{
	size_t half = self->len / 2;
	struct context other;
	bool happened;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		memset(&other, 0, sizeof(other));
		other.fd = self->ctx.fd;
		ASSERT_EQ(0, ioas_alloc(other.fd, &other.ioas));
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		ASSERT_EQ(0, context_attach_all(&other, variant->domains, 0, 0));
		scribble(self->map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		faults_on(_metadata, self->nth, n);
		rc = ioas_copy(other.fd, other.ioas, self->ctx.ioas, IOVA + half, half, IOVA);
		happened = faults_off(_metadata, self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(0, ioas_copy(other.fd, other.ioas, self->ctx.ioas, IOVA + half,
					       half, IOVA));
		}
		ASSERT_TRUE(device_reads(other.fd, other.domains[other.ndomains - 1].hwpt, IOVA,
					 self->map + half, half));
		ASSERT_EQ(0, ioas_unmap(other.fd, other.ioas, IOVA, half));
		ASSERT_TRUE(device_works(&self->ctx, self->map, self->data, self->len));
		ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

TEST_F(fail_nth, replace)
{
	struct domain *domain = self->ctx.domains;
	char *map = anonymous(_metadata, self->len);
	bool happened;
	__u32 ioas;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, ioas_alloc(self->ctx.fd, &ioas));
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		scribble(map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		ASSERT_EQ(0, ioas_map(self->ctx.fd, ioas, map, self->len, IOVA));
		faults_on(_metadata, self->nth, n);
		rc = device_replace(self->ctx.fd, domain, ioas);
		happened = faults_off(_metadata, self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(0, check_refs(self->ctx.fd, map, self->len, 0));
			ASSERT_TRUE(device_reads(self->ctx.fd, domain->hwpt, IOVA, self->map,
						 self->len));
			scribble(map, self->len);
			ASSERT_EQ(0, device_replace(self->ctx.fd, domain, ioas));
		}
		ASSERT_TRUE(device_reads(self->ctx.fd, domain->hwpt, IOVA, map, self->len));
		ASSERT_TRUE(device_writes(self->ctx.fd, domain, IOVA, self->data, self->len));
		ASSERT_EQ(0, ioas_unmap(self->ctx.fd, ioas, IOVA, self->len));
		ASSERT_TRUE(cpu_reads(map, self->data, self->len));
		close(self->ctx.fd);
	}
}

TEST_F(fail_nth, unmap)
{
	struct domain *domain = self->ctx.domains;
	bool happened;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		ASSERT_TRUE(device_writes(self->ctx.fd, domain, IOVA, self->data, self->len));
		faults_on(_metadata, self->nth, n);
		rc = ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len);
		happened = faults_off(_metadata, self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(0, ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len));
		}
		ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
		ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

TEST_F(fail_nth, detach)
{
	struct domain *domain = self->ctx.domains;
	bool happened;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		unsigned int i;

		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		ASSERT_TRUE(device_writes(self->ctx.fd, domain, IOVA, self->data, self->len));
		for (i = self->ctx.ndomains, happened = false; i--;) {
			bool now;

			faults_on(_metadata, self->nth, n);
			rc = domain_destroy(self->ctx.fd, &domain[i]);
			now = faults_off(_metadata, self->nth);
			happened |= now;
			if (rc) {
				ASSERT_TRUE(now);
				ASSERT_EQ(0, domain_destroy(self->ctx.fd, &domain[i]));
			}
		}
		ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
		ASSERT_EQ(0, check_refs(self->ctx.fd, self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

/* The mock looks at each page that it unmaps. */
TEST_F(shared, fill_domains_unmaps_before_unpin)
{
	int n, rc, nth = faults_open();
	struct counters now;
	bool happened;

	if (nth < 0)
		SKIP(return, "the kernel has no CONFIG_FAILSLAB");
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&self->ctx, 'n', 0));
	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		faults_on(_metadata, nth, n);
		rc = ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA);
		happened = faults_off(_metadata, nth);
		now = count();
		ASSERT_EQ(0, now.unpinned - self->start.unpinned);
		if (!rc)
			ASSERT_EQ(0, ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len));
	}
}

/* In any kernel with this layer, whether it is on or not */

TEST(capability)
{
	struct iommu_hw_info info = { .size = sizeof(info) };
	struct counters now;
	struct context ctx;

	now = count();
	context_open(_metadata, &ctx);
	ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
	info.dev_id = ctx.domains[0].idev;
	ASSERT_EQ(0, iommufd_ioctl(ctx.fd, IOMMU_GET_HW_INFO, &info));
	EXPECT_EQ(now.active, !!(info.out_capabilities & IOMMU_HW_CAP_DMA_CACHE));
	EXPECT_EQ(now.active, ioctl(ctx.fd, VFIO_CHECK_EXTENSION, VFIO_DMA_CACHE));
	close(ctx.fd);
}

/* The kernel's log says at boot what is active. */
TEST(boot_line)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char record[8192], *line = NULL;
	bool whole = false;
	ssize_t n;

	ASSERT_GE(fd, 0);
	/* <priority>,<sequence number>,<time>,<flags>;<text> */
	while (!line && ((n = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE)) {
		if (n < 0)
			continue;
		record[n] = '\0';
		whole |= strtoul(strchr(record, ',') + 1, NULL, 10) == 0;
		line = strstr(record, ";dma_cache: o");
	}
	close(fd);
	if (!line && !whole)
		SKIP(return, "the beginning of the kernel's log is overwritten");
	ASSERT_NE(NULL, line);
	EXPECT_EQ(count().active, !strncmp(line, ";dma_cache: on", 14));
	EXPECT_EQ(count().active, !!strstr(line, "clean by "));
}

TEST(off_maintains_nothing)
{
	char *map = anonymous(_metadata, page_size), *buf = anonymous(_metadata, page_size);
	struct counters start;
	struct context ctx;

	start = count();
	if (start.active)
		SKIP(return, "dma_cache is on");
	context_open(_metadata, &ctx);
	ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&ctx, 'c', 0));
	scribble(map, page_size);
	ASSERT_EQ(0, ioas_map(ctx.fd, ctx.ioas, map, page_size, IOVA));
	ASSERT_TRUE(device_reads(ctx.fd, ctx.domains[1].hwpt, IOVA, map, page_size));
	/* What is left in memory of somebody else */
	ASSERT_EQ(0, dma(ctx.fd, ctx.domains[0].hwpt, IOVA, buf, page_size, 0));
	EXPECT_NE(0, memcmp(buf, map, page_size));
	close(ctx.fd);
	ASSERT_TRUE(maintained(&start, 0, 0));
}

TEST_HARNESS_MAIN
