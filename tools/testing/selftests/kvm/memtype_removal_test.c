// SPDX-License-Identifier: GPL-2.0-only
/*
 * An emulated device with DMA is taken away, and VMMs that have it die (memtype_edu.h):
 *
 *	edu.removal		of a device that has DMA pending
 *	edu.kills		VMMs are killed or end, and the device is removed or unbound, at
 *				random points of a VMM's life
 *
 * Whatever happens at such a point, all must be in order and nothing be left behind. No result
 * depends on how long something takes: who waits, waits for what another process or the device
 * says.
 *
 * Usage: memtype_removal_test [ROUNDS [SEED]] [OPTION of kselftest's harness...]
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "memtype_edu.h"

/* What the first of edu's registers reads: its version and "edu" */
#define EDU_ID		0x010000edu

static unsigned int rounds = 20;
static uint64_t seed;

/* Where the kernel asks the VMM to close the device, because it is wanted away */
static int expect_request(struct vmm *v, int *request)
{
	struct {
		struct vfio_irq_set set;
		int fd;
	} cmd = {
		.set = {
			.argsz = sizeof(cmd), .index = VFIO_PCI_REQ_IRQ_INDEX, .count = 1,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		},
	};

	*request = eventfd(0, EFD_NONBLOCK);
	cmd.fd = *request;
	return call(v->group_device ?: v->device.fd, VFIO_DEVICE_SET_IRQS, &cmd);
}

/* Whether it asked; or waits until it does. */
static bool is_requested(int request, bool wait)
{
	struct pollfd pollfd = { .fd = request, .events = POLLIN };

	return poll(&pollfd, 1, wait ? -1 : 0) == 1;
}

/* Takes edu away, which lasts until nobody has it open: removes it, or unbinds it from vfio-pci. */
struct taking {
	bool remove;
	pthread_t thread;
	int error;
};

static void *take_edu(void *taking)
{
	struct taking *t = taking;
	char path[512];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/remove", edu_name);
	t->error = t->remove ? write_file(path, "1") : vfio_unbind(edu_name);
	return NULL;
}

static void begin_taking(struct taking *t)
{
	TEST_ASSERT(!pthread_create(&t->thread, NULL, take_edu, t), "pthread_create()");
}

/* Nobody has it open: so it goes away. */
static bool end_taking(struct taking *t)
{
	char path[512];
	bool away;

	TEST_ASSERT(!pthread_join(t->thread, NULL), "pthread_join()");
	snprintf(path, sizeof(path), PCI_DEVICES "%s%s", edu_name, t->remove ? "" : "/driver");
	away = !t->error && access(path, F_OK);
	if (!away)
		ksft_print_msg("%s is still there, error %d\n", path, t->error);
	return away;
}

static bool bring_back(const struct taking *t)
{
	return (!t->remove || !write_file("/sys/bus/pci/rescan", "1")) && !vfio_bind(edu_name);
}

/* A transfer takes edu 100 ms, and closing the device takes as long as it takes. */
struct transfers {
	void *registers;
	atomic_bool stop;
	pthread_t thread;
};

static void *keep_pending(void *transfers)
{
	struct transfers *t = transfers;

	for (; !t->stop; usleep(1000)) {
		if (!edu_runs(t->registers))
			edu_start(t->registers, RAM_GPA + SZ_4K, BYTES, true);
	}
	return NULL;
}

/* Takes edu away while DMA to memory is pending: whether nothing arrives from then on. */
static bool take_pending(struct __test_metadata *_metadata, bool remove)
{
	struct request start = {
		.op = START, .bar = BAR_GVA, .iova = RAM_GPA + SZ_4K, .to_memory = true,
	};
	struct request finish = { .op = FINISH, .bar = BAR_GVA };
	struct taking taking = { .remove = remove };
	struct transfers transfers = {};
	uint8_t *memory;
	void *registers;
	int request;
	struct vmm v;
	bool safe;

	open_vmm(&v, edu_name);
	memory = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      memslot2region(v.vm, RAM_SLOT)->fd, 0);
	TEST_ASSERT(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	/* They answer when the device has no driver, and when the kernel has forgotten it. */
	registers = map_host(SZ_4K, first_bar(edu_name), MEMTYPE_TEST_UC, MEMTYPE_TEST_PREMAP);
	TEST_ASSERT(registers != MAP_FAILED, "the BAR: %s", strerror(errno));
	MUST_WORK(expect_request(&v, &request));
	EXPECT_FALSE(is_requested(request, false));
	begin_taking(&taking);
	EXPECT_TRUE(is_requested(request, true));
	EXPECT_EQ(pthread_tryjoin_np(taking.thread, NULL), EBUSY);

	/* The device works until it is closed. */
	ask_guest(&v, finish);
	TEST_ASSERT(!set_kvm_vfio(v.kvm_vfio, v.device.fd, false), "KVM_DEV_VFIO_FILE_DEL: %s",
		    strerror(errno));
	ask_guest(&v, start);
	transfers.registers = registers;
	TEST_ASSERT(!pthread_create(&transfers.thread, NULL, keep_pending, &transfers),
		    "pthread_create()");
	munmap(v.bar, SZ_4K);
	unassign(&v.device);
	memset(memory + SZ_4K, 0x5a, BYTES);
	TEST_ASSERT(READ_ONCE(*(uint32_t *)registers) == EDU_ID, "the registers do not answer");
	EXPECT_TRUE(end_taking(&taking));
	transfers.stop = true;
	TEST_ASSERT(!pthread_join(transfers.thread, NULL), "pthread_join()");
	while (edu_runs(registers))
		usleep(1000);
	safe = memory[SZ_4K] == 0x5a && !memcmp(memory + SZ_4K, memory + SZ_4K + 1, BYTES - 1);
	munmap(registers, SZ_4K);
	EXPECT_TRUE(bring_back(&taking));
	free_vm(&v);
	close(request);
	munmap(memory, RAM_SIZE);
	return safe;
}

TEST_F(edu, removal)
{
	struct request trip = { .op = ROUND_TRIP, .bar = BAR_GVA, .iova = RAM_GPA };
	bool good = true, safe;
	struct vmm v;
	int i, kind;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	for (i = 0; i < 2; i++) {
		begin(false);
		safe = take_pending(_metadata, !i);
		trace_end(getpid());
		EXPECT_TRUE(safe);
		good = nothing_left() && safe && good;
		begin(false);
		open_vmm(&v, edu_name);
		good = ask_guest(&v, trip) && good;
		/* Where the BAR is now, the host's MTRRs may say something else of it. */
		for (kind = 0; kind < ARRAY_SIZE(guest_kinds); kind++)
			check_bar(_metadata, &v, kind);
		close_vmm(&v);
		trace_end(getpid());
		good = nothing_left() && good;
	}
	EXPECT_TRUE(good);
	print_cell("edu: removal with DMA pending", good ? "complete" : "wrong");
}

/*
 * Random rounds: a VMM says at each point of its life that it got there, and at two of them
 * something happens, at once or a little later.
 *
 *	0			it was forked
 *	1			it has a VM
 *	2 ... STEPS + 1		a step is done
 *	STEPS + 2		it is complete
 *	STEPS + 3, + 5, ...	DMA is pending
 *	STEPS + 4, + 6, ...	memory went to the device and back
 */
#define COMPLETE(way)	((way)->nr + 2)
#define PENDING(way)	((way)->nr + 3)
#define ARRIVED(way)	((way)->nr + 4)

/* us; what falls into that time is up to the machine. */
#define LATER		20000

/* A VMM that maps and unmaps does so this often: the trace has room for more. */
#define MAPPINGS	200

/* Where the first of the two points is. Rounds take turns with it, and with taken and killed. */
enum phase { IN_SETUP, IN_DMA, AFTER_DMA, NR_PHASES };

struct plan {
	const struct way *way;
	enum phase phase;
	bool second;		/* domain */
	bool maps;		/* and unmaps again and again, when the first DMA has arrived */
	bool copies;		/* to the second domain, which then is of another IOAS */
	bool taken;		/* away, before the VMM ends or after */
	bool remove;
	bool killed;		/* or it ends by itself, then or when it is asked to close */
	unsigned int take_at, end_at;
	unsigned int delay[2];	/* us */
};

static uint64_t below(uint64_t limit)
{
	static uint64_t random;

	if (!random)
		random = seed | 1;
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	return (random >> 16) % limit;
}

static struct plan new_plan(unsigned int number)
{
	unsigned int turn = number / NR_PHASES % 4;
	struct plan p = {
		.way = below(4) ? &by_iommufd : &by_type1, .phase = number % NR_PHASES,
		.second = below(2), .maps = below(2), .copies = below(2), .taken = turn & 1,
		.remove = below(2), .killed = turn != 1, .delay = { below(LATER), below(LATER) },
	};
	unsigned int first, then;

	p.second = p.second && !p.way->type1;
	p.copies = p.copies && p.second;
	if (p.phase == IN_SETUP)
		first = below(PENDING(p.way));
	else
		first = (p.phase == IN_DMA ? PENDING(p.way) : ARRIVED(p.way)) +
			2 * (p.maps || below(2));
	then = first + below(4);
	p.take_at = first;
	p.end_at = then;
	if (below(2)) {
		p.take_at = then;
		p.end_at = first;
	}
	if (!p.taken)
		p.end_at = first;
	return p;
}

static bool takes_first(const struct plan *p)
{
	return p->taken && p->take_at < p->end_at;
}

static unsigned int first_point(const struct plan *p)
{
	return takes_first(p) ? p->take_at : p->end_at;
}

static void print_plan(unsigned int number, const struct plan *p)
{
	ksft_print_msg("round %u: %s%s%s%s", number, p->way->name,
		       p->second ? " second domain" : "", p->maps ? " maps" : "",
		       p->copies ? " copies" : "");
	if (p->taken)
		printf(", %s at %u", p->remove ? "removed" : "unbound", p->take_at);
	printf(", %s at %u, later by %u and %u us\n", p->killed ? "killed" : "ends", p->end_at,
	       p->delay[0], p->delay[1]);
}

struct mapper {
	const struct plan *plan;
	struct vmm *v;
	uint32_t other;		/* of the second domain */
};

/* From one domain to the other, and to none; the memory is always that of one mapping alone. */
static void map_again(const struct mapper *m)
{
	struct vfio_iommu_type1_dma_unmap cmd = {
		.argsz = sizeof(cmd), .iova = RAM_GPA, .size = RAM_SIZE,
	};
	const struct assigned *d = &m->v->device;

	if (m->plan->copies) {
		MUST_WORK(ioas_copy(d->iommufd, m->other, RAM_GPA, d->ioas, RAM_GPA, RAM_SIZE));
		trace_end(gettid());
	}
	if (m->plan->way->type1)
		MUST_WORK(call(d->iommufd, VFIO_IOMMU_UNMAP_DMA, &cmd));
	else
		MUST_WORK(unmap_ram(m->v));
	trace_end(gettid());
	if (m->plan->copies) {
		MUST_WORK(ioas_unmap(d->iommufd, m->other, RAM_GPA, RAM_SIZE));
		trace_end(gettid());
	}
	if (m->plan->way->type1)
		MUST_WORK(step_map_type1(m->v));
	else
		MUST_WORK(map_ram(m->v));
	trace_end(gettid());
}

static void *map_often(void *mapper)
{
	unsigned int i;

	for (i = 0; i < MAPPINGS; i++) {
		map_again(mapper);
		usleep(1000);
	}
	return NULL;
}

/* In memory that the VMMs share: from now on, the device is being taken away. */
static bool *taking_began;

/* A VMM, which is a process of its own */
struct life {
	const struct plan *plan;
	int points;		/* a byte for each that it reaches */
	unsigned int reached;
};

/* At the last point of a VMM that ends by itself, this does not return. */
static void reach(struct life *life)
{
	TEST_ASSERT(write(life->points, "", 1) == 1, "pipe: %s", strerror(errno));
	if (life->reached++ == life->plan->end_at && !life->plan->killed)
		_exit(0);
}

/* What must work unless the device is being taken away: then the VMM has nothing more to do. */
static void must(int ret)
{
	if (ret && READ_ONCE(*taking_began))
		_exit(0);
	TEST_ASSERT(!ret, "%s", strerror(-ret));
}

/* The whole life of a VMM, of which no plan lets it see the end */
static void run_vmm(struct life *life)
{
	const struct plan *plan = life->plan;
	struct request start = {
		.op = START, .bar = BAR_GVA, .iova = RAM_GPA + SZ_4K, .to_memory = true,
	};
	struct request trip = { .op = ROUND_TRIP, .bar = BAR_GVA, .iova = RAM_GPA };
	struct vmm v;
	struct mapper mapper = { .plan = plan, .v = &v };
	bool mapping = false, arrived;
	pthread_t thread;
	uint32_t hwpt;
	int request;
	size_t i;

	reach(life);
	begin_vmm(&v, plan->way);
	reach(life);
	for (i = 0; i < plan->way->nr; i++) {
		must(plan->way->steps[i].run(&v));
		reach(life);
	}
	must(expect_request(&v, &request));
	must(add_bar(&v));
	if (!plan->way->type1)
		MUST_WORK(map_ram0(&v));
	if (plan->copies)
		MUST_WORK(ioas_new(v.device.iommufd, &mapper.other));
	if (plan->second)
		must(hwpt_new(v.device.iommufd, v.device.id,
			      plan->copies ? mapper.other : v.device.ioas, &hwpt));
	trace_end(getpid());
	reach(life);
	/* One that is to be killed does not listen. */
	while (plan->killed || !is_requested(request, false)) {
		ask_guest(&v, start);
		reach(life);
		arrived = ask_guest(&v, trip);
		/* What is unmapped meanwhile cannot arrive. */
		TEST_ASSERT(arrived || mapping, "DMA");
		if (plan->maps && !mapping) {
			TEST_ASSERT(!pthread_create(&thread, NULL, map_often, &mapper),
				    "pthread_create()");
			mapping = true;
		}
		reach(life);
	}
}

/* Waits until the VMM is at this point, or has ended before it. */
static bool wait_for_point(struct life *life, unsigned int point)
{
	char byte;

	while (life->reached <= point && read(life->points, &byte, 1) == 1)
		life->reached++;
	return life->reached > point;
}

/* Whether KVM still has a VM of the process */
static bool has_vm(pid_t pid)
{
	DIR *vms = opendir("/sys/kernel/debug/kvm");
	struct dirent *entry;
	bool found = false;
	char prefix[16];

	snprintf(prefix, sizeof(prefix), "%d-", pid);
	while (vms && (entry = readdir(vms)))
		found = found || !strncmp(entry->d_name, prefix, strlen(prefix));
	if (vms)
		closedir(vms);
	return found;
}

static void begin_life(struct life *life, pid_t *pid)
{
	int points[2];

	TEST_ASSERT(!pipe(points), "pipe: %s", strerror(errno));
	*pid = fork();
	TEST_ASSERT(*pid >= 0, "fork: %s", strerror(errno));
	if (!*pid) {
		close(points[0]);
		life->points = points[1];
		run_vmm(life);
		_exit(0);
	}
	close(points[1]);
	life->points = points[0];
}

/* One that should be killed ends by itself if its device is no longer there. */
static bool may_end(const struct plan *plan, int status)
{
	if (plan->killed && WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL;
	return !status && (!plan->killed || takes_first(plan));
}

/* In @reached, how many points the VMM reached. */
static bool run_round(const struct plan *plan, unsigned int *reached)
{
	struct taking taking = { .remove = plan->remove };
	struct life life = { .plan = plan };
	bool good, take = plan->taken;
	int status;
	pid_t pid;

	begin(plan->way->type1);
	WRITE_ONCE(*taking_began, false);
	begin_life(&life, &pid);
	/* Up to here, nothing can keep it. */
	good = wait_for_point(&life, first_point(plan));
	usleep(plan->delay[0]);
	if (takes_first(plan)) {
		WRITE_ONCE(*taking_began, true);
		begin_taking(&taking);
		take = false;
		wait_for_point(&life, plan->end_at);
		usleep(plan->delay[1]);
	}
	if (plan->killed)
		kill(pid, SIGKILL);
	if (take)
		begin_taking(&taking);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	/* The rest of what it said */
	wait_for_point(&life, -1);
	close(life.points);
	*reached = life.reached;
	trace_end(pid);
	good = good && may_end(plan, status);
	if (!good)
		ksft_print_msg("the VMM ended with status %#x after %u points\n", status,
			       life.reached);
	if (plan->taken) {
		good = end_taking(&taking) && good;
		good = bring_back(&taking) && good;
	}
	if (has_vm(pid)) {
		ksft_print_msg("KVM still has the VM\n");
		good = false;
	}
	return nothing_left() && good;
}

static long pinned(void)
{
	long acquired = read_number("/proc/vmstat", "nr_foll_pin_acquired ");

	TEST_ASSERT(acquired >= 0, "/proc/vmstat does not count pins");
	return acquired - read_number("/proc/vmstat", "nr_foll_pin_released ");
}

TEST_F(edu, kills)
{
	unsigned int i, reached, taken = 0, killed = 0, complete = 0, pending = 0, arrived = 0;
	bool good = true;
	struct plan p;

	if (!seed)
		TEST_ASSERT(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "getrandom()");
	ksft_print_msg("seed %#lx\n", seed);
	taking_began = mmap(NULL, sizeof(*taking_began), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(taking_began, MAP_FAILED);
	for (i = 0; i < rounds && good; i++) {
		p = new_plan(i);
		good = run_round(&p, &reached);
		taken += p.taken;
		killed += p.killed;
		complete += reached > COMPLETE(p.way);
		pending += reached > PENDING(p.way);
		arrived += reached > ARRIVED(p.way);
		if (!good)
			print_plan(i, &p);
	}
	/* What CPUs count is added up now and then only. */
	while (good && pinned())
		usleep(10000);
	ksft_print_msg("%u rounds, %u with SIGKILL, %u with a device taken away\n", i, killed,
		       taken);
	ksft_print_msg("%u VMMs were complete, %u started DMA, and that of %u arrived\n", complete,
		       pending, arrived);
	EXPECT_TRUE(good);
	/* Rounds of two phases in three start DMA, and it arrives in one of them at least. */
	EXPECT_GE(pending, rounds / NR_PHASES * 2);
	EXPECT_GE(arrived, rounds / NR_PHASES);
	print_cell("edu: kills and removals", good ? "kept" : "broken");
}

int main(int argc, char **argv)
{
	remember_driver();
	if (argc > 1 && argv[1][0] != '-') {
		rounds = atoi(argv[1]);
		if (!rounds)
			ksft_exit_fail_msg("%s is no number of rounds\n", argv[1]);
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	if (argc > 1 && argv[1][0] != '-') {
		seed = strtoull(argv[1], NULL, 0);
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	return test_harness_run(argc, argv);
}
