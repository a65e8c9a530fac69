// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who reads what: another one's secret in memory that is new to a device, and what was there before
 * the device wrote, in memory that a CPU has back. That is data of an emulated device: on this
 * machine a line is not in memory before it is cleaned, and hides what is there until it is
 * invalidated.
 *
 * The tests only say what is read, as rows. What must be read depends on the kernel.
 */
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_engine.h"
#include "fault_injection.h"
#include "mock_iommu.h"
#include "../../../../drivers/vfio/vfio_mock.h"

/* The mock whose driver pins pages, below PCI_DEVICES */
#define MEDIATED	"../../../devices/vfio_mock"
#define IOVA		0x1000000ul
#define COPY		0x2000000ul
#define SECRET		0x5ec7e75ec7e75ec7ull
#define MAX_PAGE	4096	/* of the device's buffer */
#define WORDS		(MAX_PAGE / sizeof(uint64_t))
/* So many of one owner's pages are looked for among as many of the next one. */
#define PAGES		64
#define UNMAPS		50
#define ROUNDS		200
#define MOST		8	/* pages in a round */

static void say(struct rig *rig, const char *what, const char *value)
{
	static const char * const apis[] = { "iommufd", "type1", "compat", "vhost-vdpa" };

	ksft_print_msg("memtype-cell: row=%s, %s effective=%s forced=no\n", what, apis[rig->api],
		       value);
}

/* What there is in a page that had one thing and then has another */
static const char *which(const uint64_t *page, uint64_t old, const char *old_name, uint64_t new,
			 const char *new_name)
{
	unsigned int i, olds = 0, news = 0;

	for (i = 0; i < WORDS; i++) {
		olds += page[i] == old;
		news += page[i] == new;
	}
	return olds == WORDS ? old_name : news == WORDS ? new_name : "mixed";
}

static void fill(uint64_t *page, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		page[i] = value;
}

static uint64_t *new_pages(unsigned int pages, int flags)
{
	uint64_t *memory = mmap(NULL, pages * MAX_PAGE, PROT_READ | PROT_WRITE,
				MAP_ANONYMOUS | MAP_POPULATE | flags, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* A page of the kernel's zeroes whose frame another owner's secret was in, in DRAM, too */
static uint64_t *reused_page(void)
{
	uint64_t frames[PAGES], *memory;
	unsigned int i, j;

	memory = new_pages(PAGES, MAP_PRIVATE);
	if (!memory)
		return NULL;
	for (i = 0; i < PAGES; i++) {
		fill(memory + i * WORDS, SECRET);
		frames[i] = page_frame(memory + i * WORDS);
	}
	cpu_flush(memory, PAGES * MAX_PAGE);
	munmap(memory, PAGES * MAX_PAGE);

	memory = new_pages(PAGES, MAP_PRIVATE);
	for (i = 0; memory && i < PAGES; i++)
		for (j = 0; j < PAGES; j++)
			if (frames[j] && page_frame(memory + i * WORDS) == frames[j])
				return memory + i * WORDS;
	return NULL;
}

FIXTURE(dma)
{
	struct rig rig;
};

FIXTURE_VARIANT(dma)
{
	enum api api;
};

FIXTURE_VARIANT_ADD(dma, iommufd)
{
	.api = IOMMUFD,
};

FIXTURE_VARIANT_ADD(dma, type1)
{
	.api = TYPE1,
};

FIXTURE_VARIANT_ADD(dma, vdpa)
{
	.api = VDPA,
};

FIXTURE_SETUP(dma)
{
	if (variant->api == VDPA && access(VP_VDPA, F_OK))
		SKIP(return, "this kernel has no vp-vdpa");
	ASSERT_EQ(MAX_PAGE, sysconf(_SC_PAGE_SIZE));
	ASSERT_EQ(0, engine_open(&self->rig, variant->api));
}

FIXTURE_TEARDOWN(dma)
{
	engine_close(&self->rig);
}

/* One's secret, in a page that was zeroed for another */
TEST_F(dma, secret)
{
	uint64_t *page = reused_page(), read[WORDS];
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, page);
	EXPECT_EQ(0, page[0] | page[WORDS - 1]);
	ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
	ASSERT_EQ(0, engine_read(rig, IOVA, read, MAX_PAGE));
	say(rig, "a page zeroed for its new owner, read by a device",
	    which(read, SECRET, "secret", 0, "zeroes"));
}

/* The same, of a device that snoops: no kernel has to do anything. */
TEST_F(dma, snooping)
{
	uint64_t *page = reused_page(), read[WORDS];
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, page);
	engine_set(rig, ENGINE_SNOOP, 1);
	ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
	ASSERT_EQ(0, engine_read(rig, IOVA, read, MAX_PAGE));
	say(rig, "a page zeroed for its new owner, read by a device that snoops",
	    which(read, SECRET, "secret", 0, "zeroes"));
	fill(read, 1);
	ASSERT_EQ(0, engine_write(rig, IOVA, read, MAX_PAGE));
	EXPECT_EQ(1, page[0]);
	EXPECT_EQ(0, engine_get(rig, ENGINE_STALE) + engine_get(rig, ENGINE_DIRTY));
}

/* What a device wrote, once it cannot write any more */
TEST_F(dma, unmap)
{
	uint64_t *page = new_pages(1, MAP_PRIVATE), written[WORDS];
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, page);
	fill(page, 1);
	cpu_flush(page, MAX_PAGE);
	ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
	fill(written, 2);
	ASSERT_EQ(0, engine_write(rig, IOVA, written, MAX_PAGE));
	ASSERT_EQ(0, engine_unmap(rig, IOVA, MAX_PAGE));
	say(rig, "what a device wrote, read by a CPU after the unmap",
	    which(page, 1, "old", 2, "new"));
}

/* A line that was dirty when the page was mapped, and that the CPU evicts later */
TEST_F(dma, eviction)
{
	uint64_t *page = new_pages(1, MAP_PRIVATE), words[WORDS];
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, page);
	fill(page, 1);
	ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
	fill(words, 2);
	ASSERT_EQ(0, engine_write(rig, IOVA, words, MAX_PAGE));
	engine_set(rig, ENGINE_COUNT, MAX_PAGE);
	engine_set(rig, ENGINE_EVICT, IOVA);
	ASSERT_EQ(0, engine_read(rig, IOVA, words, MAX_PAGE));
	say(rig, "what a device wrote, read by it after evictions",
	    which(words, 1, "lost", 2, "kept"));
}

/* A device that writes all the time until it cannot any more */
TEST_F(dma, last)
{
	uint64_t *page = new_pages(1, MAP_PRIVATE), last, faults;
	struct rig *rig = &self->rig;
	const char *found = "last";
	unsigned int i;

	ASSERT_NE(NULL, page);
	for (i = 0; i < UNMAPS; i++) {
		last = engine_get(rig, ENGINE_LAST);
		faults = engine_get(rig, ENGINE_FAULTS);
		fill(page, 0);
		ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
		engine_set(rig, ENGINE_TARGET, IOVA);
		engine_set(rig, ENGINE_COUNT, MAX_PAGE);
		engine_set(rig, ENGINE_COMMAND, ENGINE_REPEAT);
		/* It does not count up while it cannot write. */
		while (engine_get(rig, ENGINE_LAST) < last + 2)
			ASSERT_EQ(faults, engine_get(rig, ENGINE_FAULTS));
		ASSERT_EQ(0, engine_unmap(rig, IOVA, MAX_PAGE));
		engine_set(rig, ENGINE_COMMAND, 0);
		last = engine_get(rig, ENGINE_LAST);
		if (strcmp(which(page, 0, "nothing", last, "last"), "last"))
			found = "earlier";
	}
	say(rig, "what a device wrote at last, read by a CPU after the unmap", found);
}

/* Signals of MSI, through the remapping of interrupts */
TEST_F(dma, interrupt)
{
	struct {
		struct vfio_irq_set head;
		int32_t fd;
	} set = {
		.head.argsz = sizeof(set), .head.index = VFIO_PCI_MSI_IRQ_INDEX, .head.count = 1,
		.head.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.fd = eventfd(0, 0),
	};
	eventfd_t signals;
	unsigned int i;

	if (variant->api == VDPA)
		SKIP(return, "vhost-vdpa has interrupts of queues only");
	ASSERT_LE(0, set.fd);
	ASSERT_EQ(0, call(self->rig.device, VFIO_DEVICE_SET_IRQS, &set));
	for (i = 0; i < 3; i++) {
		engine_set(&self->rig, ENGINE_COMMAND, ENGINE_INTERRUPT);
		ASSERT_EQ(0, eventfd_read(set.fd, &signals));
		EXPECT_EQ(1, signals);
	}
}

/* Outside of what is mapped, and what must not be written */
TEST_F(dma, faults)
{
	uint64_t *page = new_pages(1, MAP_PRIVATE), words[WORDS] = {};
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, page);
	EXPECT_EQ(-EFAULT, engine_read(rig, IOVA, words, LINE));
	ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
	EXPECT_EQ(-EFAULT, engine_read(rig, IOVA + LINE, words, MAX_PAGE));
	if (rig->api == VDPA)
		return;
	ASSERT_EQ(0, vfio_command(rig->device, PCI_COMMAND_MASTER, false));
	EXPECT_EQ(-EFAULT, engine_read(rig, IOVA, words, LINE));
}

/* Who is killed leaves what a device wrote to those who share the memory. */
TEST_F(dma, killed)
{
	uint64_t *page = new_pages(1, MAP_SHARED), words[WORDS];
	int status;
	pid_t pid;

	ASSERT_NE(NULL, page);
	fill(page, 1);
	engine_close(&self->rig);
	pid = fork();
	if (!pid) {
		fill(words, 2);
		if (!engine_open(&self->rig, variant->api) &&
		    !engine_map(&self->rig, IOVA, page, MAX_PAGE) &&
		    !engine_write(&self->rig, IOVA, words, MAX_PAGE))
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	say(&self->rig, "what a device wrote, after its owner was killed",
	    which(page, 1, "old", 2, "new"));
	ASSERT_EQ(0, engine_open(&self->rig, variant->api));
}

static uint64_t rounds_seed;

/* Another one each time; that of a run can be had again by the environment. */
static bool set_seed(void)
{
	const char *wanted = getenv("SEED");

	if (wanted)
		rounds_seed = strtoull(wanted, NULL, 0);
	else if (getrandom(&rounds_seed, sizeof(rounds_seed), 0) != sizeof(rounds_seed))
		return false;
	ksft_print_msg("SEED=%#llx\n", (unsigned long long)rounds_seed);
	return rounds_seed;
}

static unsigned int pick(unsigned int below)
{
	rounds_seed ^= rounds_seed << 13;
	rounds_seed ^= rounds_seed >> 7;
	rounds_seed ^= rounds_seed << 17;
	return rounds_seed % below;
}

/* Some words of a page, by the device: what it reads, and what others must read afterwards */
static bool transfer(struct rig *rig, uint64_t iova, uint64_t *want)
{
	unsigned int at = pick(WORDS), words = 1 + pick(WORDS - at), i;
	uint64_t data[WORDS];

	iova += at * sizeof(*want);
	if (pick(2)) {
		if (engine_read(rig, iova, data, words * sizeof(*want)))
			return false;
		return !memcmp(data, want + at, words * sizeof(*want));
	}
	for (i = 0; i < words; i++)
		data[i] = rounds_seed + i;
	memcpy(want + at, data, words * sizeof(*want));
	return !engine_write(rig, iova, data, words * sizeof(*want));
}

/* Pages mapped at once or one by one, used, and unmapped likewise; a CPU reads what is unmapped. */
static bool one_round(struct rig *rig, uint64_t *memory, uint64_t *want)
{
	unsigned int pages = 1 + pick(MOST), pieces = pick(2) ? 1 : pages, size, i;
	bool right = true;

	for (i = 0; i < pages * WORDS; i++)
		if (pick(2))
			want[i] = rounds_seed;
	memcpy(memory, want, pages * MAX_PAGE);
	size = pages / pieces * MAX_PAGE;
	for (i = 0; i < pieces; i++)
		right &= !engine_map(rig, IOVA + i * size, (char *)memory + i * size, size);
	for (i = pick(6); i; i--) {
		unsigned int page = pick(pages);

		right &= transfer(rig, IOVA + page * MAX_PAGE, want + page * WORDS);
	}
	for (i = 0; i < pieces; i++) {
		right &= !engine_unmap(rig, IOVA + i * size, size);
		right &= !memcmp((char *)memory + i * size, (char *)want + i * size, size);
	}
	return right;
}

/* Under an adversary that evicts lines */
TEST_F(dma, rounds)
{
	uint64_t *memory = new_pages(MOST, MAP_SHARED), *want = new_pages(MOST, MAP_PRIVATE);
	struct rig *rig = &self->rig;
	unsigned int i, wrong = 0;

	ASSERT_NE(NULL, memory);
	ASSERT_NE(NULL, want);
	ASSERT_TRUE(set_seed());
	engine_set(rig, ENGINE_ADVERSARY, rounds_seed);
	for (i = 0; i < ROUNDS; i++) {
		if (!one_round(rig, memory, want))
			wrong++;
	}
	ksft_print_msg("%u of %u rounds wrong, %llu lines evicted, %llu read stale\n", wrong,
		       ROUNDS, (unsigned long long)engine_get(rig, ENGINE_EVICTIONS),
		       (unsigned long long)engine_get(rig, ENGINE_STALE));
	EXPECT_LT(0, engine_get(rig, ENGINE_EVICTIONS));
	say(rig, "random rounds with evictions", wrong ? "stale" : "right");
}

/* Page tables that the device is not attached to yet, with one page of another owner's secret */
FIXTURE(tables)
{
	struct rig rig;
	uint32_t other;
	uint64_t *page;
};

FIXTURE_SETUP(tables)
{
	ASSERT_EQ(0, engine_open(&self->rig, IOMMUFD));
	self->page = reused_page();
	ASSERT_NE(NULL, self->page);
	ASSERT_EQ(0, ioas_new(self->rig.container, &self->other));
	ASSERT_EQ(0, ioas_map(self->rig.container, self->other, self->page, MAX_PAGE, IOVA));
}

FIXTURE_TEARDOWN(tables)
{
	engine_close(&self->rig);
}

/*
 * Attaches the device to other page tables at once, if these can be filled before. Those of
 * virtio-iommu in 6.12 know no addresses before they have a device.
 */
static int attach_to(struct rig *rig, uint32_t ioas)
{
	int ret = vfio_attach(rig->device, ioas);

	if (ret != -EADDRINUSE)
		return ret;
	return vfio_detach(rig->device) ?: vfio_attach(rig->device, ioas);
}

/* Has the CPU store what memory does not have yet. */
static void make_dirty(uint64_t *page)
{
	fill(page, 1);
	cpu_flush(page, MAX_PAGE);
	fill(page, 2);
}

static const char *device_finds(struct rig *rig, uint64_t iova)
{
	uint64_t words[WORDS];

	if (engine_read(rig, iova, words, MAX_PAGE))
		return "nothing";
	return which(words, 1, "old", 2, "new");
}

TEST_F(tables, copy)
{
	struct rig *rig = &self->rig;
	uint64_t words[WORDS];

	ASSERT_EQ(0, ioas_copy(rig->container, rig->ioas, COPY, self->other, IOVA, MAX_PAGE));
	ASSERT_EQ(0, engine_read(rig, COPY, words, MAX_PAGE));
	say(rig, "a page that IOAS_COPY maps, read by a device",
	    which(words, SECRET, "secret", 0, "zeroes"));
}

/* Two parts of the same memory, each by a copy of its own */
TEST_F(tables, slices)
{
	uint64_t *memory = new_pages(2, MAP_PRIVATE);
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, memory);
	make_dirty(memory);
	make_dirty(memory + WORDS);
	ASSERT_EQ(0, ioas_map(rig->container, self->other, memory, 2 * MAX_PAGE, COPY));
	ASSERT_EQ(0, ioas_copy(rig->container, rig->ioas, IOVA, self->other, COPY, MAX_PAGE));
	ASSERT_EQ(0, ioas_copy(rig->container, rig->ioas, COPY, self->other, COPY + MAX_PAGE,
			       MAX_PAGE));
	say(rig, "the second part of a copy, read by a device", device_finds(rig, COPY));
}

TEST_F(tables, attach)
{
	struct rig *rig = &self->rig;
	uint64_t words[WORDS];

	fill(self->page, 1);
	ASSERT_EQ(0, attach_to(rig, self->other));
	ASSERT_EQ(0, engine_read(rig, IOVA, words, MAX_PAGE));
	say(rig, "a page that attach maps, read by a device",
	    which(words, SECRET, "secret", 1, "new"));
	fill(words, 2);
	ASSERT_EQ(0, engine_write(rig, IOVA, words, MAX_PAGE));
	ASSERT_EQ(0, attach_to(rig, rig->ioas));
	say(rig, "what a device wrote, after it was attached to other memory",
	    which(self->page, 1, "old", 2, "new"));

	make_dirty(self->page);
	ASSERT_EQ(0, attach_to(rig, self->other));
	say(rig, "a page that attach maps again, read by a device", device_finds(rig, IOVA));
}

/* The page stays pinned by an access, as of a mediated device. */
TEST_F(tables, pinned)
{
	struct rig *rig = &self->rig;
	uint32_t access, pins;
	uint64_t words[WORDS];

	fill(self->page, 1);
	ASSERT_EQ(0, access_create(rig->container, self->other, &access));
	ASSERT_EQ(0, access_pin(rig->container, access, IOVA, MAX_PAGE, &pins));
	ASSERT_EQ(0, attach_to(rig, self->other));
	fill(words, 2);
	ASSERT_EQ(0, engine_write(rig, IOVA, words, MAX_PAGE));
	ASSERT_EQ(0, attach_to(rig, rig->ioas));
	say(rig, "what a device wrote to a pinned page, read by a CPU after the unmap",
	    which(self->page, 1, "old", 2, "new"));
	ASSERT_EQ(0, access_unpin(rig->container, access, pins));
	close(access);
}

/* After each way in which it can fail, for want of memory */
TEST_F(tables, attach_fails)
{
	const char *found = "new", *now;
	struct rig *rig = &self->rig;
	int faults = faults_open(), ret;
	unsigned int nth, failed = 0;
	bool happened;

	ASSERT_LE(0, faults);
	for (nth = 1; ; nth++) {
		make_dirty(self->page);
		faults_on(faults, nth);
		ret = vfio_attach(rig->device, self->other);
		happened = faults_off(faults);
		failed += ret && ret != -EADDRINUSE;
		if (ret)
			ASSERT_EQ(0, attach_to(rig, self->other));
		now = device_finds(rig, IOVA);
		if (strcmp(now, "new"))
			found = now;
		ASSERT_EQ(0, attach_to(rig, rig->ioas));
		if (!happened)
			break;
	}
	ksft_print_msg("%u of %u attaches failed\n", failed, nth);
	EXPECT_LT(0, failed);
	say(rig, "a page that attach maps after it failed, read by a device", found);
}

/* The engine belongs to the driver of a mediated device, which pins a page and gives it that. */
FIXTURE(mediated)
{
	struct rig rig;
	int mock;
};

FIXTURE_VARIANT(mediated)
{
	enum api api;
};

FIXTURE_VARIANT_ADD(mediated, iommufd)
{
	.api = IOMMUFD,
};

FIXTURE_VARIANT_ADD(mediated, type1)
{
	.api = TYPE1,
};

FIXTURE_SETUP(mediated)
{
	self->mock = open("/dev/vfio_mock", O_RDWR);
	if (self->mock < 0)
		SKIP(return, "this kernel has no mediated device");
	ASSERT_EQ(0, engine_open_vfio(&self->rig, variant->api, MEDIATED));
	ASSERT_EQ(0, engine_map_bar(&self->rig));
}

FIXTURE_TEARDOWN(mediated)
{
	engine_close(&self->rig);
	close(self->mock);
}

TEST_F(mediated, pin)
{
	struct vfio_mock_mediate given = { .vendor = ENGINE_VENDOR, .device = ENGINE_DEVICE };
	uint64_t *page = reused_page(), words[WORDS], iova = IOVA;
	struct rig *rig = &self->rig;

	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, engine_map(rig, IOVA, page, MAX_PAGE));
	ASSERT_EQ(0, call(rig->device, VFIO_MOCK_PIN, &iova));
	ASSERT_EQ(0, call(rig->device, VFIO_MOCK_MEDIATE, &given));
	ASSERT_EQ(0, engine_read(rig, given.address, words, MAX_PAGE));
	say(rig, "a page that a mediated device pins, read by what is behind it",
	    which(words, SECRET, "secret", 0, "zeroes"));
	fill(words, 2);
	ASSERT_EQ(0, engine_write(rig, given.address, words, MAX_PAGE));
	ASSERT_EQ(0, ioctl(rig->device, VFIO_MOCK_UNPIN));
	say(rig, "what that wrote, read by a CPU after the unpin", which(page, 0, "old", 2, "new"));
}

/* A mapping of which a part is unmapped, and then the rest */
TEST(split)
{
	uint64_t *page = new_pages(3, MAP_PRIVATE), words[WORDS];
	const char *found = "new", *now;
	struct rig rig;
	unsigned int i;

	ASSERT_EQ(0, engine_open(&rig, COMPAT));
	ASSERT_NE(NULL, page);
	for (i = 0; i < 3; i++)
		make_dirty(page + i * WORDS);
	ASSERT_EQ(0, engine_map(&rig, IOVA, page, 3 * MAX_PAGE));
	fill(words, 3);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, engine_write(&rig, IOVA + i * MAX_PAGE, words, MAX_PAGE));
	ASSERT_EQ(0, engine_unmap(&rig, IOVA + MAX_PAGE, MAX_PAGE));
	say(&rig, "what a device wrote to the part that is unmapped",
	    which(page + WORDS, 2, "old", 3, "new"));

	ASSERT_EQ(-EFAULT, engine_write(&rig, IOVA + MAX_PAGE, words, MAX_PAGE));
	fill(words, 4);
	for (i = 0; i < 3; i += 2)
		ASSERT_EQ(0, engine_write(&rig, IOVA + i * MAX_PAGE, words, MAX_PAGE));
	ASSERT_EQ(0, engine_unmap(&rig, IOVA, 3 * MAX_PAGE));
	for (i = 0; i < 3; i += 2) {
		now = which(page + i * WORDS, 2, "old", 4, "new");
		if (strcmp(now, "new"))
			found = now;
	}
	say(&rig, "what a device wrote to the parts that are left", found);
	engine_close(&rig);
}

TEST_HARNESS_MAIN
