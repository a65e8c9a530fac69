// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU cache maintenance of IOMMUFD when something fails in the middle: what was mapped is
 * unmapped and flushed, and a second attempt begins anew.
 */
#define _GNU_SOURCE
#include "fault_injection.h"
#include "iommufd_noncoherent.h"

#define PAGES		8
#define MAX_FAULTS	1000
/* Bytes: one run of page frames */
#define SMALL_BATCH	16

/* Each allocation, and each step of the mock that can fail, fails once. */

FIXTURE(fail_nth)
{
	struct context ctx;
	int nth;
	char *map, *data;
	size_t len;
	struct counters start;
	__u64 batches;		/* that a call which failed had cleaned, at most */
};

FIXTURE_VARIANT(fail_nth)
{
	const char *domains;
	bool small_batches;
};

FIXTURE_VARIANT_ADD(fail_nth, one) { .domains = "n" };
FIXTURE_VARIANT_ADD(fail_nth, two) { .domains = "nn" };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_first) { .domains = "cn" };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_second) { .domains = "nc" };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_between) { .domains = "ncn" };
/* A batch is a page, so that errors come after others were mapped. */
FIXTURE_VARIANT_ADD(fail_nth, one_small_batches) { .domains = "n", .small_batches = true };
FIXTURE_VARIANT_ADD(fail_nth, two_small_batches) { .domains = "nn", .small_batches = true };
FIXTURE_VARIANT_ADD(fail_nth, coherent_sibling_between_small_batches)
{
	.domains = "ncn", .small_batches = true,
};

/* Touched in an order that leaves no page beside its neighbour in physical memory. */
static void scatter(char *addr)
{
	size_t i;

	for (i = 0; i < PAGES; i++)
		addr[i * 5 % PAGES * page_size] = 1;
}

FIXTURE_SETUP(fail_nth)
{
	self->start = count();
	if (!self->start.active)
		SKIP(return, "the kernel maintains no caches: dma_cache is off");
	self->nth = faults_open();
	if (self->nth < 0)
		SKIP(return, "the kernel has no CONFIG_FAILSLAB");
	self->len = PAGES * page_size;
	self->map = anonymous(_metadata, self->len);
	self->data = anonymous(_metadata, self->len);
	scatter(self->map);
	if (variant->small_batches)
		ASSERT_EQ(0, batch_limit(SMALL_BATCH));
}

FIXTURE_TEARDOWN(fail_nth)
{
	close(self->nth);
	close(self->ctx.fd);
	EXPECT_EQ(0, batch_limit(MOCK_BATCH));
	expect_clean_slate(_metadata, &self->start);
}

/* Whether all works as if nothing had happened, up to the unmap */
static bool device_works(const struct context *ctx, void *map, void *data, size_t len)
{
	return all_read(ctx, map, len) &&
	       device_writes(ctx->fd, &ctx->domains[ctx->ndomains - 1], IOVA, data, len) &&
	       !ioas_unmap(ctx->fd, ctx->ioas, IOVA, len) && cpu_reads(map, data, len);
}

/* How many batches were cleaned since @before, if that is more than ever */
static void note_batches(__u64 *batches, const struct counters *before)
{
	__u64 now = count().chunks - before->chunks;

	if (now > *batches)
		*batches = now;
}

TEST_F(fail_nth, map)
{
	struct counters before;
	bool happened;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		before = count();
		faults_on(self->nth, n);
		rc = ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA);
		happened = faults_off(self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			note_batches(&self->batches, &before);
			ASSERT_EQ(0, check_pins(self->map, self->len, 0));
			/* Now it is other data that must be cleaned. */
			scribble(self->map, self->len);
			ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len,
					      IOVA));
		}
		ASSERT_TRUE(device_works(&self->ctx, self->map, self->data, self->len));
		ASSERT_EQ(0, check_pins(self->map, self->len, 0));
		close(self->ctx.fd);
	}
	EXPECT_LE(variant->small_batches ? 2 : 1, self->batches);
}

TEST_F(fail_nth, attach)
{
	struct counters before;
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
			before = count();
			faults_on(self->nth, n);
			rc = context_attach(&self->ctx, kind, 0);
			happened = faults_off(self->nth);
			if (rc) {
				ASSERT_TRUE(happened);
				note_batches(&self->batches, &before);
				ASSERT_EQ(0, check_pins(self->map, self->len,
							!!self->ctx.ndomains));
				/* If nobody else has it, it must be cleaned again. */
				if (!self->ctx.ndomains)
					scribble(self->map, self->len);
				ASSERT_EQ(0, context_attach(&self->ctx, kind, 0));
			}
			ASSERT_TRUE(device_works(&self->ctx, self->map, self->data, self->len));
			ASSERT_EQ(0, check_pins(self->map, self->len, 0));
			close(self->ctx.fd);
		}
	}
	EXPECT_LE(variant->small_batches ? 2 : 1, self->batches);
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
		ASSERT_EQ(0, ioas_new(other.fd, &other.ioas));
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		ASSERT_EQ(0, context_attach_all(&other, variant->domains, 0, 0));
		scribble(self->map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		faults_on(self->nth, n);
		rc = ioas_copy(other.fd, other.ioas, IOVA, self->ctx.ioas, IOVA + half, half);
		happened = faults_off(self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(0, ioas_copy(other.fd, other.ioas, IOVA, self->ctx.ioas,
					       IOVA + half, half));
		}
		ASSERT_TRUE(device_reads(other.fd, other.domains[other.ndomains - 1].hwpt, IOVA,
					 self->map + half, half));
		ASSERT_EQ(0, ioas_unmap(other.fd, other.ioas, IOVA, half));
		ASSERT_TRUE(device_works(&self->ctx, self->map, self->data, self->len));
		ASSERT_EQ(0, check_pins(self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

TEST_F(fail_nth, replace)
{
	struct mock_device *domain = self->ctx.domains;
	char *map = anonymous(_metadata, self->len);
	struct counters before;
	bool happened;
	__u32 ioas;
	int n, rc;

	scatter(map);
	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, ioas_new(self->ctx.fd, &ioas));
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		scribble(map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		ASSERT_EQ(0, ioas_map(self->ctx.fd, ioas, map, self->len, IOVA));
		before = count();
		faults_on(self->nth, n);
		rc = mock_replace(self->ctx.fd, domain, ioas);
		happened = faults_off(self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			note_batches(&self->batches, &before);
			ASSERT_EQ(0, check_pins(map, self->len, 0));
			ASSERT_TRUE(device_reads(self->ctx.fd, domain->hwpt, IOVA, self->map,
						 self->len));
			scribble(map, self->len);
			ASSERT_EQ(0, mock_replace(self->ctx.fd, domain, ioas));
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
	struct mock_device *domain = self->ctx.domains;
	bool happened;
	int n, rc;

	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		context_open(_metadata, &self->ctx);
		ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
		scribble(self->map, self->len);
		ASSERT_EQ(0, ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA));
		ASSERT_TRUE(device_writes(self->ctx.fd, domain, IOVA, self->data, self->len));
		faults_on(self->nth, n);
		rc = ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len);
		happened = faults_off(self->nth);
		if (rc) {
			ASSERT_TRUE(happened);
			ASSERT_EQ(0, ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len));
		}
		ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
		ASSERT_EQ(0, check_pins(self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

TEST_F(fail_nth, detach)
{
	struct mock_device *domain = self->ctx.domains;
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

			faults_on(self->nth, n);
			rc = domain_destroy(self->ctx.fd, &domain[i]);
			now = faults_off(self->nth);
			happened |= now;
			if (rc) {
				ASSERT_TRUE(now);
				ASSERT_EQ(0, domain_destroy(self->ctx.fd, &domain[i]));
			}
		}
		ASSERT_TRUE(cpu_reads(self->map, self->data, self->len));
		ASSERT_EQ(0, check_pins(self->map, self->len, 0));
		close(self->ctx.fd);
	}
}

/* The mock looks at each page that it unmaps. */
TEST_F(fail_nth, fill_domains_unmaps_before_unpin)
{
	bool happened;
	int n, rc;

	context_open(_metadata, &self->ctx);
	ASSERT_EQ(0, context_attach_all(&self->ctx, variant->domains, 0, 0));
	for (n = 1, happened = true; happened; n++) {
		ASSERT_GT(MAX_FAULTS, n);
		faults_on(self->nth, n);
		rc = ioas_map(self->ctx.fd, self->ctx.ioas, self->map, self->len, IOVA);
		happened = faults_off(self->nth);
		ASSERT_EQ(0, count().mock.unpinned - self->start.mock.unpinned);
		if (!rc)
			ASSERT_EQ(0, ioas_unmap(self->ctx.fd, self->ctx.ioas, IOVA, self->len));
	}
}

TEST_HARNESS_MAIN
