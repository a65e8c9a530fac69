// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO type1 and CPU caches when something fails in the middle: what was done is undone, and
 * the next attempt begins anew.
 */
#include "type1_noncoherent.h"

/* Pages that type1 pins at a time: those whose struct page pointers fill a page */
#define BATCH	(page_size / sizeof(void *))
/* Of the faults before the second batch: each page has one or more. */
#define STRIDE	97

/* Whatever fails while a group with a real IOMMU behind it comes, nothing is left of it. */
TEST(real_attach_fails)
{
	struct rig here, *rig = &here;
	struct dma_cache_counters done;
	bool hit = true;
	unsigned int n;
	int ret;

	ASSERT_EQ(0, rig_open(rig, PAGES));
	ret = open_edu_group(rig);
	if (ret == -ENODEV)
		SKIP(return, NO_EDU);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, map_at(rig, IOVA, rig->memory, page_size));
	ASSERT_EQ(0, map_at(rig, IOVA + page_size, rig->memory + page_size, page_size));
	maintained(rig);
	for (n = 1; hit; n++) {
		faults_on(rig->nth, n);
		ret = attach(rig, EDU);
		hit = faults_off(rig->nth);
		if (!ret)
			ASSERT_EQ(0, drop(rig, EDU));
		done = maintained(rig);
		EXPECT_EQ(done.clean.pages, done.flush.pages);
		EXPECT_EQ(0, check_rig(rig, 0));
	}
	EXPECT_EQ(0, ret);
	rig_close(rig);
}

/* Without memory, each range is unmapped, flushed and unpinned at once. */
TEST_F(type1, slow_unmap)
{
	struct rig *rig = &self->rig;
	bool hit = true;
	unsigned int n;

	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	for (n = 1; hit; n++) {
		cpu_writes(rig, 1);
		ASSERT_EQ(0, map(rig));
		ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
		maintained(rig);
		faults_on(rig->nth, n);
		EXPECT_EQ(0, unmap(rig));
		hit = faults_off(rig->nth);
		EXPECT_MAINTAINED(0, PAGES);
		EXPECT_EQ(PAGES, cpu_reads(rig, 2));
		EXPECT_EQ(0, check_rig(rig, 0));
	}
	EXPECT_GT(n, 2);
}

/* An error of a map undoes all of it. */
TEST_F(type1, map_fails)
{
	struct rig *rig = &self->rig;
	bool hit = true;
	unsigned int n;
	int ret;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	maintained(rig);
	for (n = 1; hit; n++) {
		faults_on(rig->nth, n);
		ret = map_at(rig, IOVA, rig->memory, page_size);
		hit = faults_off(rig->nth);
		if (ret) {
			/* Of this one page, nothing was cleaned ahead. */
			struct dma_cache_counters done = maintained(rig);

			EXPECT_TRUE(hit);
			EXPECT_EQ(done.clean.pages, done.flush.pages);
		} else {
			ASSERT_EQ(0, unmap_at(rig, IOVA, page_size));
			EXPECT_MAINTAINED(1, 1);
		}
		EXPECT_EQ(0, check_rig(rig, 0));
	}
	EXPECT_GT(n, 3);

	hit = true;
	for (n = 1; hit; n++) {
		faults_on(rig->nth, n);
		ret = map(rig);
		hit = faults_off(rig->nth);
		if (!ret) {
			EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
			ASSERT_EQ(0, unmap(rig));
		}
		EXPECT_EQ(PAGES, cpu_reads(rig, 1));
		EXPECT_EQ(0, check_rig(rig, 0));
	}
	EXPECT_EQ(0, ret);
}

/* Attach with each allocation failing in turn: what was done is undone, @pins stay. */
static void attach_and_fail(struct __test_metadata *_metadata, struct rig *rig, unsigned int pins)
{
	bool hit = true, undone = false;
	struct dma_cache_counters done;
	unsigned int n;

	for (n = 1; hit; n++) {
		int ret;

		faults_on(rig->nth, n);
		ret = attach(rig, VFIO_MOCK_NONCOHERENT);
		hit = faults_off(rig->nth);
		done = maintained(rig);
		if (ret) {
			/* What others map is flushed as a whole, once the replay has begun. */
			bool begun = done.clean.pages > PROBE || ret == -EINTR;

			EXPECT_EQ(pins && begun ? PAGES + PROBE : done.clean.pages,
				  done.flush.pages);
			undone |= done.clean.pages > PROBE;
		} else {
			/* Without memory for it there is no probe. */
			EXPECT_TRUE(done.flush.pages == PROBE || (hit && !done.flush.pages));
			EXPECT_EQ(PAGES + done.flush.pages, done.clean.pages);
			ASSERT_EQ(0, open_device(rig, VFIO_MOCK_NONCOHERENT));
			EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
			ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
			EXPECT_MAINTAINED(0, PAGES);
		}
		EXPECT_EQ(0, check_rig(rig, pins));
	}
	EXPECT_TRUE(undone);
}

/* An error of an attach undoes all that the new domain maps, and the next one begins anew. */
TEST_F(type1, attach_fails)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, map_at(rig, IOVA, rig->memory, page_size));
	ASSERT_EQ(0, map_at(rig, IOVA + page_size, rig->memory + page_size,
			    (PAGES - 1) * page_size));
	maintained(rig);
	attach_and_fail(_metadata, rig, 1);
}

TEST_F(type1, emulated_attach_fails)
{
	struct rig *rig = &self->rig;
	unsigned int i;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	/* One by one, so that no page is cleaned ahead of the others */
	for (i = 0; i < PAGES; i++)
		ASSERT_EQ(0, map_at(rig, IOVA + i * page_size, rig->memory + i * page_size,
				    page_size));
	attach_and_fail(_metadata, rig, 0);
}

/* Nothing is left of what an emulated device could not pin: not in memory, nor in its array. */
TEST_F(type1, emulated_pin_fails)
{
	struct rig *rig = &self->rig;
	bool hit = true, uncleaned = false;
	__u64 iova = IOVA + page_size;
	unsigned int n;

	ASSERT_EQ(0, add(rig, VFIO_MOCK_EMULATED));
	ASSERT_EQ(0, map(rig));
	for (n = 1; hit; n++) {
		int *device = &rig->device[VFIO_MOCK_EMULATED], ret;

		maintained(rig);
		faults_on(rig->nth, n);
		ret = ioctl(*device, VFIO_MOCK_PIN, &iova) ? errno : 0;
		hit = faults_off(rig->nth);
		if (ret) {
			EXPECT_TRUE(hit);
			uncleaned |= ret == EINTR;
			EXPECT_EQ(0, maintained(rig).clean.pages);
		} else {
			ASSERT_EQ(0, ioctl(*device, VFIO_MOCK_UNPIN));
			EXPECT_MAINTAINED(1, 1);
		}
		EXPECT_EQ(0, check_rig(rig, 0));
	}
	EXPECT_TRUE(uncleaned);
}

/* More pages than type1 pins at a time: errors come when others were mapped already. */

FIXTURE(batches)
{
	struct rig rig;
};

FIXTURE_SETUP(batches)
{
	if (!dma_cache_counters().active)
		SKIP(return, "dma_cache is off: nothing is maintained");
	ASSERT_EQ(0, rig_open(&self->rig, BATCH + PAGES));
}

FIXTURE_TEARDOWN(batches)
{
	rig_close(&self->rig);
	EXPECT_TRUE(nothing_wrong(&self->rig));
}

/* With the @nth fault, after which @pins are on each page. Returns if the second batch began. */
typedef bool attempt_fn(struct __test_metadata *_metadata, struct rig *rig, unsigned int nth,
			unsigned int pins, bool *hit);

/* Some of the faults in the first batch, and each one after it */
static void fail_batches(struct __test_metadata *_metadata, struct rig *rig, unsigned int pins,
			 attempt_fn *attempt)
{
	bool hit = true, later = false;
	unsigned int n;

	for (n = 1; hit; n += STRIDE)
		attempt(_metadata, rig, n, pins, &hit);
	while (attempt(_metadata, rig, --n, pins, &hit))
		later |= hit;
	EXPECT_TRUE(later);
}

static bool attempt_map(struct __test_metadata *_metadata, struct rig *rig, unsigned int nth,
			unsigned int pins, bool *hit)
{
	__u64 cleaned;
	int ret;

	maintained(rig);
	faults_on(rig->nth, nth);
	ret = map(rig);
	*hit = faults_off(rig->nth);
	cleaned = maintained(rig).clean.pages;
	if (ret) {
		EXPECT_TRUE(*hit);
	} else {
		EXPECT_EQ(rig->pages, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
		EXPECT_EQ(0, unmap(rig));
	}
	EXPECT_EQ(rig->pages, cpu_reads(rig, 1));
	EXPECT_EQ(0, check_rig(rig, pins));
	return cleaned > BATCH;
}

TEST_F(batches, map_fails)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_COHERENT));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	fail_batches(_metadata, rig, 0, attempt_map);
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_EQ(rig->pages, cpu_reads(rig, 2));
}

static bool attempt_attach(struct __test_metadata *_metadata, struct rig *rig, unsigned int nth,
			   unsigned int pins, bool *hit)
{
	__u64 cleaned;
	int ret;

	maintained(rig);
	faults_on(rig->nth, nth);
	ret = attach(rig, VFIO_MOCK_NONCOHERENT);
	*hit = faults_off(rig->nth);
	cleaned = maintained(rig).clean.pages;
	if (ret) {
		EXPECT_TRUE(*hit);
	} else {
		EXPECT_EQ(0, open_device(rig, VFIO_MOCK_NONCOHERENT));
		EXPECT_EQ(rig->pages, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
		maintained(rig);
		EXPECT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
		EXPECT_MAINTAINED(0, rig->pages);
	}
	EXPECT_EQ(0, check_rig(rig, pins));
	return cleaned > BATCH + PROBE;
}

/* All pages are in one mapping, which another domain or nobody maps; @pins stay. */
static void attach_batches(struct __test_metadata *_metadata, struct rig *rig, unsigned int pins)
{
	cpu_writes(rig, 1);
	ASSERT_EQ(0, map(rig));
	fail_batches(_metadata, rig, pins, attempt_attach);
	ASSERT_EQ(0, add(rig, VFIO_MOCK_NONCOHERENT));
	ASSERT_EQ(0, device_writes(rig, VFIO_MOCK_NONCOHERENT, 2));
	ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
	EXPECT_EQ(rig->pages, cpu_reads(rig, 2));
}

TEST_F(batches, attach_fails)
{
	ASSERT_EQ(0, add(&self->rig, VFIO_MOCK_COHERENT));
	attach_batches(_metadata, &self->rig, 1);
}

TEST_F(batches, emulated_attach_fails)
{
	ASSERT_EQ(0, add(&self->rig, VFIO_MOCK_EMULATED));
	attach_batches(_metadata, &self->rig, 0);
}

/* In the tests above, and before */
TEST_F(type1, no_warning)
{
	EXPECT_FALSE(kernel_warned());
}

TEST_HARNESS_MAIN
