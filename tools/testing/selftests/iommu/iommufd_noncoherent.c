// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU cache maintenance of IOMMUFD: one IOAS with all sorts of domains and of memory, and what
 * the kernel says of it.
 */
#define _GNU_SOURCE
#include <linux/dma_cache.h>

#include "iommufd_noncoherent.h"

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
		ASSERT_EQ(0, batch_limit(variant->limit));
	if (noncoherent_domains(variant->domains))
		self->maintained = self->len / page_size;
	self->last = self->start;
}

FIXTURE_TEARDOWN(ioas)
{
	if (self->ctx.fd >= 0) {
		if (variant->limit)
			EXPECT_EQ(0, batch_limit(MOCK_BATCH));
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
		ASSERT_EQ(0, check_pins(self->map, self->len, 0));
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
		struct mock_device *domain = &self->ctx.domains[i];

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
	ASSERT_EQ(0, check_pins(self->map, self->len, 0));
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
		ASSERT_EQ(0, batch_limit(MOCK_BATCH));
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
	ASSERT_EQ(0, iommufd_destroy(self->ctx.fd, self->ctx.ioas));
	ASSERT_TRUE(maintained(&self->last, 0, self->maintained));
	ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
}

#ifdef IOMMU_IOAS_MAP_FILE
/* A file of the mock for a dma-buf, as vfio-pci has one for a BAR */
static int dmabuf_new(int fd, size_t len)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd), .op = IOMMU_TEST_OP_DMABUF_GET,
		.dmabuf_get = { .length = len, .open_flags = O_CLOEXEC },
	};
	int dmabuf = ioctl(fd, IOMMU_TEST_CMD, &cmd);

	return dmabuf < 0 ? -errno : dmabuf;
}

static int ioas_map_file(int fd, __u32 ioas, int file, size_t len, __u64 iova)
{
	struct iommu_ioas_map_file cmd = {
		.size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = len, .fd = file,
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
	};

	return call(fd, IOMMU_IOAS_MAP_FILE, &cmd);
}
#else
/* Older kernels map no file, and no dma-buf. */
static int dmabuf_new(int fd, size_t len)
{
	return -EOPNOTSUPP;
}

static int ioas_map_file(int fd, __u32 ioas, int file, size_t len, __u64 iova)
{
	return -EOPNOTSUPP;
}
#endif

TEST(dmabuf_has_no_lines)
{
	size_t len = 4 * page_size;
	struct counters last;
	struct context ctx;
	int dmabuf;

	last = count();
	if (!last.active)
		SKIP(return, "the kernel maintains no caches: dma_cache is off");
	context_open(_metadata, &ctx);
	dmabuf = dmabuf_new(ctx.fd, len);
	if (dmabuf == -EOPNOTSUPP)
		SKIP(return, "IOMMUFD of this kernel maps no dma-buf");
	ASSERT_LE(0, dmabuf);

	/* Each way into a domain, and out of it */
	ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
	ASSERT_EQ(0, ioas_map_file(ctx.fd, ctx.ioas, dmabuf, len, IOVA));
	ASSERT_TRUE(maintained(&last, 0, 0));
	ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
	ASSERT_TRUE(maintained(&last, 0, 0));
	ASSERT_EQ(0, domain_destroy(ctx.fd, &ctx.domains[1]));
	ASSERT_EQ(0, domain_destroy(ctx.fd, &ctx.domains[0]));
	ASSERT_TRUE(maintained(&last, 0, 0));
	ctx.ndomains = 0;
	ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
	ASSERT_TRUE(maintained(&last, 0, 0));
	ASSERT_EQ(0, ioas_unmap(ctx.fd, ctx.ioas, IOVA, len));
	ASSERT_TRUE(maintained(&last, 0, 0));
	close(dmabuf);
	close(ctx.fd);
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
	ASSERT_EQ(0, call(ctx.fd, IOMMU_GET_HW_INFO, &info));
	EXPECT_EQ(now.active, !!(info.out_capabilities & IOMMU_HW_CAP_DMA_CACHE));
	EXPECT_EQ(now.active, ioctl(ctx.fd, VFIO_CHECK_EXTENSION, VFIO_DMA_CACHE));
	close(ctx.fd);
}

static int get_coherency(int fd, __u32 id, __u64 *value)
{
	struct iommu_option option = {
		.size = sizeof(option), .option_id = IOMMU_OPTION_HWPT_COHERENCY,
		.op = IOMMU_OPTION_OP_GET, .object_id = id,
	};
	int ret = call(fd, IOMMU_OPTION, &option);

	*value = option.val64;
	return ret;
}

/* A HWPT whose page table is the guest's, in one for the IOAS */
static int hwpt_new_nested(int fd, __u32 device, __u32 ioas, __u32 *hwpt)
{
	struct iommu_hwpt_selftest data = {};
	struct iommu_hwpt_alloc parent = {
		.size = sizeof(parent), .flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
		.dev_id = device, .pt_id = ioas,
	}, nested = {
		.size = sizeof(nested), .dev_id = device,
		.data_type = IOMMU_HWPT_DATA_SELFTEST, .data_len = sizeof(data),
		.data_uptr = (uintptr_t)&data,
	};
	int ret = call(fd, IOMMU_HWPT_ALLOC, &parent);

	if (ret)
		return ret;
	nested.pt_id = parent.out_hwpt_id;
	ret = call(fd, IOMMU_HWPT_ALLOC, &nested);
	*hwpt = nested.out_hwpt_id;
	return ret;
}

TEST(hwpt_coherency)
{
	const __u64 noncoherent = count().active ? IOMMU_HWPT_COHERENCY_MAINTAINED :
						   IOMMU_HWPT_COHERENCY_NONE;
	struct iommu_option set = {
		.size = sizeof(set), .option_id = IOMMU_OPTION_HWPT_COHERENCY,
		.op = IOMMU_OPTION_OP_SET,
	};
	struct context ctx;
	__u32 nested;
	__u64 value;

	context_open(_metadata, &ctx);
	ASSERT_EQ(0, context_attach(&ctx, 'n', 0));
	ASSERT_EQ(0, context_attach(&ctx, 'c', 0));
	ASSERT_EQ(0, get_coherency(ctx.fd, ctx.domains[0].hwpt, &value));
	EXPECT_EQ(noncoherent, value);
	ASSERT_EQ(0, get_coherency(ctx.fd, ctx.domains[1].hwpt, &value));
	EXPECT_EQ(IOMMU_HWPT_COHERENCY_ENFORCED, value);
	ASSERT_EQ(0, hwpt_new_nested(ctx.fd, ctx.domains[0].idev, ctx.ioas, &nested));
	ASSERT_EQ(0, get_coherency(ctx.fd, nested, &value));
	EXPECT_EQ(noncoherent, value);

	EXPECT_EQ(-ENOENT, get_coherency(ctx.fd, ctx.ioas, &value));
	EXPECT_EQ(-ENOENT, get_coherency(ctx.fd, 0, &value));
	set.object_id = ctx.domains[0].hwpt;
	EXPECT_EQ(-EOPNOTSUPP, call(ctx.fd, IOMMU_OPTION, &set));
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
	__u32 access, item;
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
	ASSERT_EQ(0, mock_dma(ctx.fd, ctx.domains[0].hwpt, IOVA, buf, page_size, 0));
	EXPECT_NE(0, memcmp(buf, map, page_size));
	ASSERT_EQ(0, access_create(ctx.fd, ctx.ioas, &access));
	ASSERT_EQ(0, access_pin(ctx.fd, access, IOVA, page_size, &item));
	ASSERT_EQ(0, access_unpin(ctx.fd, access, item));
	close(access);
	close(ctx.fd);
	ASSERT_TRUE(maintained(&start, 0, 0));
}

TEST_HARNESS_MAIN
