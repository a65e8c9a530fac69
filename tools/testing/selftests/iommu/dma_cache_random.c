// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the kernel maintain caches for non-coherent DMA in the right order, whatever happens?
 *
 * Threads do random work with IOMMUFD and VFIO, in domains of QEMU's edu device behind the real
 * IOMMU and of mock devices, and the trace of every step (dma_cache_trace.h) is judged by the
 * model in dma_cache_order.h. Without a choice of its own, no domain enforces coherency; in a
 * mixed run, those of half of the mock devices do.
 *
 * Each page has one holder at a time: then one clean and one flush must be all that it gets.
 *
 * Usage: dma_cache_random [SEED]
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/random.h>

#include "dma_cache_devices.h"

#define OPERATIONS	5000	/* for each run */
#define BATCH		250	/* between two looks at the trace */
#define THREADS		4
#define SLOTS		8	/* buffers of a thread */
#define TRANSFERS	8	/* real DMA, for each run: 100 ms each, by the device's clock */

#define SPACES	3

enum operation {
	MAP, COPY, UNMAP, DISCARD, ATTACH, DETACH, REPLACE, NEW_HWPT, END_HWPT, PIN, UNPIN, HOLE,
	BAD, EXIT, EDU, DMA, OPERATIONS_END
};

/* How often they are tried, in proportion */
static const struct {
	const char *name;
	unsigned int weight;
	bool needs_mock;
} operations[] = {
	[MAP]		= { "map", 220 },
	[COPY]		= { "copy", 150 },
	[UNMAP]		= { "unmap", 200 },
	[DISCARD]	= { "discard", 50 },
	[ATTACH]	= { "attach", 40, true },
	[DETACH]	= { "detach", 30, true },
	[REPLACE]	= { "replace", 50, true },
	[NEW_HWPT]	= { "new HWPT", 40 },
	[END_HWPT]	= { "end HWPT", 30 },
	[PIN]		= { "pin", 50 },
	[UNPIN]		= { "unpin", 30 },
	[HOLE]		= { "hole", 20 },
	[BAD]		= { "bad address", 30 },
	[EXIT]		= { "exit", 10, true },
	[EDU]		= { "edu", 40 },
	[DMA]		= { "edu DMA", 10 },
};

struct slot {
	enum memory kind;
	uint8_t *memory;
	size_t length;
	uint64_t iova;
	/* What each space has of it; length 0 is nothing */
	struct {
		size_t from, length;
	} in[SPACES];
};

struct worker {
	struct load *load;
	pthread_t thread;
	uint64_t random;
	struct slot slots[SLOTS];
	uint8_t *hole;
	uint64_t hole_iova;
	struct mock_device mock;
	unsigned int mock_in;		/* of which space */
	bool has_mock, has_hwpt;
	uint32_t hwpt;
	unsigned int hwpt_in;		/* of which space */
	bool hwpt_of_edu;		/* can take that, not mock devices */
	bool hwpt_coherent;
	struct slot *pinned;		/* or NULL */
	unsigned int pinned_in;
	uint32_t pin;
	unsigned long done[OPERATIONS_END];
};

struct load {
	int fd;
	bool mixed;			/* coherent mock devices among the others */
	unsigned int threads;
	unsigned int operations;	/* of each thread in this batch */
	uint32_t ioas[SPACES];
	uint32_t access[SPACES];
	/* Read: for who gives a space a domain, or takes one; write: for who must know if it has */
	pthread_rwlock_t lock;
	unsigned int domains[SPACES];	/* and devices */
	struct worker workers[THREADS];
};

static unsigned int below(struct worker *w, unsigned int limit)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (w->random >> 16) % limit;
}

static int do_map(struct worker *w, struct slot *slot, unsigned int space)
{
	unsigned int i;
	int ret;

	/* Or it would have two holders */
	for (i = 0; i < SPACES; i++) {
		if (slot->in[i].length)
			return -EAGAIN;
	}
	ret = ioas_map(w->load->fd, w->load->ioas[space], slot->memory, slot->length, slot->iova);
	if (!ret)
		slot->in[space].length = slot->length;
	slot->in[space].from = 0;
	return ret;
}

static int do_copy(struct worker *w, struct slot *slot, unsigned int space)
{
	unsigned int pages, from = below(w, SPACES), first, n;
	size_t start;
	int ret;

	if (slot->in[space].length || !slot->in[from].length)
		return -EAGAIN;
	pages = slot->in[from].length / SZ_4K;
	first = below(w, 2) ? 0 : below(w, pages);
	n = below(w, 2) ? pages - first : 1 + below(w, pages - first);
	start = slot->in[from].from + first * SZ_4K;
	ret = ioas_copy(w->load->fd, w->load->ioas[space], slot->iova + start, w->load->ioas[from],
			slot->iova + start, n * SZ_4K);
	if (!ret) {
		slot->in[space].from = start;
		slot->in[space].length = n * SZ_4K;
	}
	return ret;
}

static int do_unmap(struct worker *w, struct slot *slot, unsigned int space)
{
	int ret;

	if (!slot->in[space].length)
		return -EAGAIN;
	/* This makes the mock driver unpin it. */
	if (w->pinned == slot && w->pinned_in == space)
		w->pinned = NULL;
	ret = ioas_unmap(w->load->fd, w->load->ioas[space], slot->iova + slot->in[space].from,
			 slot->in[space].length);
	slot->in[space].length = 0;
	return ret;
}

static int do_discard(struct slot *slot)
{
	unsigned int i;

	for (i = 0; i < SPACES; i++) {
		if (slot->in[i].length)
			return -EAGAIN;
	}
	discard(slot->kind, slot->memory, slot->length);
	return 0;
}

/* A space has a domain as long as it has any device or HWPT. */
static void count_domain(struct load *load, unsigned int space, int change)
{
	__atomic_add_fetch(&load->domains[space], change, __ATOMIC_RELAXED);
}

/* What a new mock device is in this run */
static uint32_t mock_kind(struct worker *w)
{
	return w->load->mixed && below(w, 2) ? COHERENT : 0;
}

static int do_attach(struct worker *w, unsigned int space)
{
	int ret;

	if (w->has_mock)
		return -EAGAIN;
	ret = mock_attach(w->load->fd, w->load->ioas[space], mock_kind(w), &w->mock);
	w->has_mock = !ret;
	w->mock_in = space;
	if (!ret)
		count_domain(w->load, space, 1);
	return ret;
}

static int do_detach(struct worker *w)
{
	int ret;

	if (!w->has_mock)
		return -EAGAIN;
	ret = iommufd_destroy(w->load->fd, w->mock.stdev);
	w->has_mock = ret;
	if (!ret)
		count_domain(w->load, w->mock_in, -1);
	return ret;
}

static int do_hwpt(struct worker *w, unsigned int space)
{
	int ret;

	if (w->has_hwpt || (!w->has_mock && edu.fd < 0))
		return -EAGAIN;
	w->hwpt_in = space;
	w->hwpt_of_edu = !w->has_mock || (edu.fd >= 0 && below(w, 2));
	w->hwpt_coherent = !w->hwpt_of_edu && w->mock.coherent;
	ret = hwpt_new(w->load->fd, w->hwpt_of_edu ? edu.device : w->mock.idev,
		       w->load->ioas[space], &w->hwpt);
	w->has_hwpt = !ret;
	if (!ret)
		count_domain(w->load, space, 1);
	return ret;
}

static int end_hwpt(struct worker *w)
{
	int ret;

	if (!w->has_hwpt)
		return -EAGAIN;
	ret = iommufd_destroy(w->load->fd, w->hwpt);
	w->has_hwpt = ret;
	if (!ret)
		count_domain(w->load, w->hwpt_in, -1);
	return ret == -EBUSY ? 0 : ret;		/* a device uses it */
}

static int do_replace(struct worker *w, unsigned int space)
{
	uint32_t pt = w->load->ioas[space];
	int ret;

	if (!w->has_mock)
		return -EAGAIN;
	if (w->has_hwpt && below(w, 2)) {
		pt = w->hwpt;
		space = w->hwpt_in;
	}
	ret = mock_replace(w->load->fd, &w->mock, pt);
	/* One is not for the other. */
	if (pt == w->hwpt && w->has_hwpt &&
	    (w->hwpt_of_edu || w->hwpt_coherent != w->mock.coherent))
		return ret == -EINVAL ? 0 : -EPROTO;
	if (!ret) {
		count_domain(w->load, w->mock_in, -1);
		count_domain(w->load, space, 1);
		w->mock_in = space;
	}
	return ret;
}

static int do_pin(struct worker *w, struct slot *slot, unsigned int space)
{
	uint64_t first, length;
	int ret;

	if (w->pinned || !slot->in[space].length)
		return -EAGAIN;
	first = below(w, slot->in[space].length / SZ_4K) * SZ_4K;
	length = slot->in[space].length - first;
	/* No more pages than the trace shows of a list */
	if (length > ORDER_LIST * SZ_4K)
		length = ORDER_LIST * SZ_4K;
	ret = access_pin(w->load->fd, w->load->access[space],
			 slot->iova + slot->in[space].from + first, 1 + below(w, length), &w->pin);
	if (!ret)
		w->pinned = slot;
	w->pinned_in = space;
	return ret;
}

/*
 * Nobody looks at the memory of a space without a domain, but whoever gives it one does. The
 * caller has the load's lock for itself.
 */
static int do_hole(struct worker *w, unsigned int space)
{
	int fd = w->load->fd, ret;
	uint32_t ioas = w->load->ioas[space];
	struct mock_device mock;

	ret = ioas_map(fd, ioas, w->hole, PAGES * SZ_4K, w->hole_iova);
	if (w->load->domains[space])
		return ret == -EFAULT ? 0 : -EPROTO;
	/*
	 * Beside other threads there may be one all the same: an automatic domain outlives its
	 * last device if somebody looks at it then (iommufd_object_put_and_try_destroy()).
	 */
	if (ret == -EFAULT && w->load->threads > 1)
		return 0;
	if (ret)
		return ret;
	if (have_mock && mock_attach(fd, ioas, mock_kind(w), &mock) != -EFAULT)
		return -EPROTO;
	return ioas_unmap(fd, ioas, w->hole_iova, PAGES * SZ_4K);
}

static int do_bad(struct worker *w, struct slot *slot, unsigned int space)
{
	int fd = w->load->fd, ret;
	uint32_t ioas = w->load->ioas[space];

	switch (below(w, 4)) {
	case 0:
		ret = ioas_map(fd, ioas, slot->memory, slot->length, slot->iova + 1);
		break;
	case 1:
		ret = ioas_unmap(fd, ioas, w->hole_iova, SZ_4K);
		break;
	case 2:
		ret = ioas_copy(fd, ioas, slot->iova, ioas, w->hole_iova, SZ_4K);
		break;
	default:
		/* Over what is there */
		if (!slot->in[space].length)
			return -EAGAIN;
		ret = ioas_map(fd, ioas, slot->memory, slot->length, slot->iova);
		break;
	}
	return ret ? 0 : -EPROTO;
}

static int do_exit(void)
{
	struct bench b = { .on_edu = false };

	run_child(map_and_exit, &b);
	return 0;
}

static int do_edu(struct worker *w, unsigned int space)
{
	uint32_t pt = w->load->ioas[space];
	int from, to = space, ret;

	if (edu.fd < 0 || pthread_mutex_trylock(&edu.lock))
		return -EAGAIN;
	from = edu.at;
	if (from >= 0 && below(w, 2)) {
		to = -1;
	} else if (w->has_hwpt && w->hwpt_of_edu) {
		pt = w->hwpt;
		to = w->hwpt_in;
	}
	ret = to < 0 ? vfio_detach(edu.fd) : vfio_attach(edu.fd, pt);
	if (!ret) {
		edu.at = to;
		if (from >= 0)
			count_domain(w->load, from, -1);
		if (to >= 0)
			count_domain(w->load, to, 1);
	}
	pthread_mutex_unlock(&edu.lock);
	return ret;
}

static int do_dma(struct slot *slot)
{
	int ret = -EAGAIN;

	if (edu.fd < 0 || pthread_mutex_trylock(&edu.lock))
		return -EAGAIN;
	if (edu.at >= 0 && edu.transfers < TRANSFERS && slot->length >= 2 * SZ_4K &&
	    slot->in[edu.at].length == slot->length)
		ret = copy_by_edu(slot->iova, slot->memory, 0, slot->length - SZ_4K) ? 0 : -EIO;
	pthread_mutex_unlock(&edu.lock);
	return ret;
}

/* Returns -EAGAIN if there was nothing to do. */
static int do_operation(struct worker *w, enum operation what)
{
	struct slot *slot = &w->slots[below(w, SLOTS)];
	unsigned int space = below(w, SPACES);
	struct load *load = w->load;

	switch (what) {
	case MAP:
		return do_map(w, slot, space);
	case COPY:
		return do_copy(w, slot, space);
	case UNMAP:
		return do_unmap(w, slot, space);
	case DISCARD:
		return do_discard(slot);
	case ATTACH:
		return do_attach(w, space);
	case DETACH:
		return do_detach(w);
	case REPLACE:
		return do_replace(w, space);
	case NEW_HWPT:
		return do_hwpt(w, space);
	case END_HWPT:
		return end_hwpt(w);
	case PIN:
		return do_pin(w, slot, space);
	case UNPIN:
		if (!w->pinned)
			return -EAGAIN;
		w->pinned = NULL;
		return access_unpin(load->fd, load->access[w->pinned_in], w->pin);
	case HOLE:
		return do_hole(w, space);
	case BAD:
		return do_bad(w, slot, space);
	case EXIT:
		return do_exit();
	case EDU:
		return do_edu(w, space);
	default:
		return do_dma(slot);
	}
}

/* Domains come and go at any time, but not while somebody must know. */
static int do_locked(struct worker *w, enum operation what)
{
	pthread_rwlock_t *lock = &w->load->lock;
	int ret;

	if (what == HOLE)
		pthread_rwlock_wrlock(lock);
	else
		pthread_rwlock_rdlock(lock);
	ret = do_operation(w, what);
	pthread_rwlock_unlock(lock);
	return ret;
}

static void *run_worker(void *argument)
{
	struct worker *w = argument;
	enum operation what;
	unsigned int i = 0, weights = 0;
	int ret, ticket;

	for (what = 0; what < OPERATIONS_END; what++)
		weights += operations[what].weight;
	while (i < w->load->operations) {
		ticket = below(w, weights);
		for (what = 0; ticket >= (int)operations[what].weight; what++)
			ticket -= operations[what].weight;
		if (operations[what].needs_mock && !have_mock)
			continue;
		ret = do_locked(w, what);
		if (ret == -EAGAIN)
			continue;
		trace_end(gettid());
		errno = -ret;
		CHECK(!ret, "random %s", operations[what].name);
		w->done[what]++;
		i++;
	}
	return NULL;
}

static void open_worker(struct load *load, unsigned int index, uint64_t seed)
{
	static const struct {
		enum memory kind;
		size_t pages;
	} kinds[SLOTS] = {
		{ ANONYMOUS, 16 }, { ANONYMOUS, 7 }, { ANONYMOUS, 1 }, { ANONYMOUS, 40 },
		{ MEMFD, 16 }, { MEMFD, 5 }, { THP, 512 }, { HUGETLB, 512 },
	};
	uint64_t iova = IOVA + index * (SLOTS + 1) * SZ_2M;
	struct worker *w = &load->workers[index];
	unsigned int i;

	w->load = load;
	w->random = (seed + index) * 0x9e3779b97f4a7c15 | 1;
	for (i = 0; i < SLOTS; i++) {
		struct slot *slot = &w->slots[i];

		slot->kind = kinds[i].kind;
		slot->length = kinds[i].pages * SZ_4K;
		slot->memory = new_memory(slot->kind, slot->length);
		slot->iova = iova + i * SZ_2M;
	}
	w->hole = new_hole(PAGES * SZ_4K);
	w->hole_iova = iova + SLOTS * SZ_2M;
}

static void close_worker(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		munmap(w->slots[i].memory, w->slots[i].length);
	munmap(w->hole, PAGES * SZ_4K);
}

/* Whether each operation was done at least once */
static bool print_done(const struct load *load)
{
	unsigned int i, what;
	bool all = true;

	for (what = 0; what < OPERATIONS_END; what++) {
		unsigned long done = 0;

		for (i = 0; i < load->threads; i++)
			done += load->workers[i].done[what];
		ksft_print_msg("%lu %s\n", done, operations[what].name);
		if (operations[what].needs_mock ? !have_mock : what >= EDU && !edu.name[0])
			continue;
		all = all && done;
	}
	return all;
}

static void run_random(unsigned int threads, bool mixed, uint64_t seed)
{
	struct load load = {
		.threads = threads, .mixed = mixed, .operations = BATCH / threads,
		.lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP,
	};
	const char *domains = mixed ? ", mixed domains" : "";
	unsigned int i, batch;
	bool good;

	order_init(&order, memmap, page_struct);
	load.fd = open("/dev/iommu", O_RDWR);
	CHECK(load.fd >= 0, "/dev/iommu");
	for (i = 0; i < SPACES; i++) {
		CHECK(!ioas_new(load.fd, &load.ioas[i]), "IOMMU_IOAS_ALLOC");
		CHECK(!access_create(load.fd, load.ioas[i], &load.access[i]), "access");
	}
	if (edu.name[0])
		open_edu(load.fd);
	for (i = 0; i < threads; i++)
		open_worker(&load, i, seed);

	for (batch = 0; batch < OPERATIONS / BATCH && !order.violation; batch++) {
		for (i = 0; i < threads; i++)
			CHECK(!pthread_create(&load.workers[i].thread, NULL, run_worker,
					      &load.workers[i]), "pthread_create");
		for (i = 0; i < threads; i++)
			pthread_join(load.workers[i].thread, NULL);
		trace_read(order_line);
	}

	for (i = 0; i < SPACES; i++)
		close(load.access[i]);
	if (edu.fd >= 0)
		close_edu();
	close(load.fd);
	trace_end(getpid());
	for (i = 0; i < threads; i++)
		close_worker(&load.workers[i]);
	trace_read(order_line);

	good = is_good();
	ksft_print_msg("memtype-cell: row=DMA order, threads: %u%s effective=%s forced=no\n",
		       threads, domains, good ? "kept" : "violated");
	good = print_done(&load) && good;
	ksft_print_msg("%lu events, %lu pages cleaned, %lu flushed\n", order.events,
		       order.maintained[0], order.maintained[1]);
	ksft_test_result(good, "random: %u operations, threads: %u%s\n", OPERATIONS, threads,
			 domains);
	order_free(&order);
}

int main(int argc, char **argv)
{
	uint64_t seed;

	ksft_print_header();
	prepare();
	ksft_set_plan(have_mock ? 4 : 2);
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	else
		CHECK(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "getrandom");
	ksft_print_msg("seed %#lx\n", seed);
	run_random(1, false, seed);
	run_random(THREADS, false, seed);
	if (have_mock) {
		run_random(1, true, seed);
		run_random(THREADS, true, seed);
	}
	ksft_finished();
}
