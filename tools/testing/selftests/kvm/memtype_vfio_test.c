// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that does DMA, from end to end: QEMU's edu device is bound to vfio-pci and attached
 * through /dev/iommu or VFIO's type1, and a VM has it in KVM_DEV_VFIO. The guest itself programs
 * the DMA, through the BAR that it maps with types of its own choice.
 *
 *	edu.dma			both ways, by each type of the BAR; what is unmapped is safe
 *	edu.*orders		in every order of opening, binding, attaching, telling KVM and
 *				creating the vCPU, KVM and the IOMMU's driver agree on coherency
 *	edu.refused		a domain that does not enforce it, for a device that can
 *	edu.removal		of a device that has DMA pending
 *	edu.kills		VMMs die, and devices go away, at random points
 *
 * The trace of all of it (../iommu/dma_cache_trace.h) shows that caches are maintained in order,
 * or not at all where DMA is coherent, and that nothing is left behind.
 *
 * Usage: memtype_vfio_test [ROUNDS [SEED]] [OPTION of kselftest's harness...]
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "memtype_guest.h"
#include "memtype_vfio.h"

#define CHECK(condition, fmt, ...)							\
	TEST_ASSERT(condition, fmt ": %s", ##__VA_ARGS__, strerror(errno))

#include "../iommu/dma_cache_trace.h"
#include "../../../../drivers/iommu/iommufd/iommufd_test.h"

/* The registers of edu, and memory that it may reach at the same IOVA: it has 28 address bits. */
#define BAR_GPA		TEST_GPA
#define BAR_GVA		TEST_GVA
#define RAM_SLOT	(TEST_SLOT + 1)
#define RAM_GPA		0x4000000ul
#define RAM_GVA		0x50000000ul
#define RAM_PAGES	16
#define RAM_SIZE	(RAM_PAGES * SZ_4K)
#define BYTES		2048
/* Of the guest's patience: a transfer takes 100 ms (us). */
#define POLLS		5000000
#define TRANSFER	100000
/* ms; for kernels with CONFIG=debug on a busy machine */
#define LONG		20000
#define NO_EDU		"no edu device behind an IOMMU"

static unsigned int rounds = 20;
static uint64_t seed;

/* The guest */

static struct request {
	enum { START, FINISH, ROUND_TRIP } op;
	uint64_t bar;
	uint64_t iova;
	bool to_memory;
} request;

static bool guest_waits(void *bar)
{
	unsigned int i;

	for (i = 0; i < POLLS; i++) {
		if (!edu_runs(bar))
			return true;
	}
	return false;
}

/* Memory to device to other memory, and whether it is the same then */
static bool guest_round_trip(void *bar, uint64_t iova)
{
	uint64_t *from = (uint64_t *)RAM_GVA, *to = (uint64_t *)(RAM_GVA + SZ_4K);
	unsigned int i;

	/* Of a VMM that was killed, a transfer may still be going on. */
	if (!guest_waits(bar))
		return false;
	for (i = 0; i < BYTES / 8; i++) {
		from[i] = PATTERN * i;
		to[i] = ~from[i];
	}
	edu_start(bar, iova, BYTES, false);
	if (!guest_waits(bar))
		return false;
	edu_start(bar, iova + SZ_4K, BYTES, true);
	if (!guest_waits(bar))
		return false;
	for (i = 0; i < BYTES / 8; i++) {
		if (READ_ONCE(to[i]) != PATTERN * i)
			return false;
	}
	return true;
}

static void guest_dma(void)
{
	for (;;) {
		void *bar = (void *)request.bar;

		switch (request.op) {
		case START:
			edu_start(bar, request.iova, BYTES, request.to_memory);
			GUEST_SYNC(edu_runs(bar));
			break;
		case FINISH:
			GUEST_SYNC(guest_waits(bar));
			break;
		case ROUND_TRIP:
			GUEST_SYNC(guest_round_trip(bar, request.iova));
			break;
		}
	}
}

/* What was traced of this process and its children, beside what the model judges */

static const char * const probes[] = {
	"r512:" TRACED "/coherent vfio_file_enforced_coherent ret=$retval:u8",
	"r512:" TRACED "/domain iommu_paging_domain_alloc domain=$retval",
	"r512:" TRACED "/pin pin_user_pages_fast n=$retval:s32",
	"r512:" TRACED "/pin pin_user_pages_remote n=$retval:s32",
#ifdef __x86_64__
	"r512:" TRACED "/domain intel_iommu_domain_alloc_user domain=$retval",
	"r512:" TRACED "/domain amd_iommu_domain_alloc_user domain=$retval",
	"p:" TRACED "/register kvm_arch_register_noncoherent_dma",
	"p:" TRACED "/unregister kvm_arch_unregister_noncoherent_dma",
#else
	"r512:" TRACED "/domain arm_smmu_domain_alloc_user domain=$retval",
#endif
};

static struct {
	uint64_t domains[16];	/* that are there; 0 is none */
	uint64_t allocated;	/* domains that ever were */
	int64_t pins;
	int64_t registered;	/* KVM's counts of non-coherent DMA */
	int coherent;		/* what VFIO last told KVM */
} seen;

static void change_domain(struct order *o, uint64_t from, uint64_t to)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(seen.domains); i++) {
		if (seen.domains[i] == from) {
			seen.domains[i] = to;
			return;
		}
	}
	/* Others than those of this test are freed as well. */
	if (!from)
		order_violation(o, "too many domains");
}

static void take(struct order *o, const char *line)
{
	const char *event = strchr(line, '[');
	uint64_t domain;

	event = event ? strstr(event, ": ") : NULL;
	event = event ? event + 2 : "";
#define IS(name) (!strncmp(event, name ": ", sizeof(name ": ") - 1))
	if (IS("coherent")) {
		seen.coherent = order_field(o, event, "ret");
	} else if (IS("register")) {
		seen.registered++;
	} else if (IS("unregister")) {
		seen.registered--;
	} else if (IS("pin")) {
		if ((int64_t)order_field(o, event, "n") > 0)
			seen.pins += order_field(o, event, "n");
	} else if (IS("domain")) {
		domain = order_field(o, event, "domain");
		/* An error is in the last page. */
		if (domain < -SZ_4K) {
			change_domain(o, 0, domain);
			seen.allocated++;
		}
	} else {
		if (IS("free"))
			change_domain(o, order_field(o, event, "domain"), 0);
		else if (IS("unpin") || IS("unpin_list"))
			seen.pins -= order_field(o, event, "n");
		order_line(o, line);
	}
#undef IS
}

/* Whether this kernel maintains caches for edu; from what the IOMMU's driver says. */
static bool maintains;

static void begin(bool type1)
{
	order_init(&order, memmap, page_struct);
	order.coherent = !maintains;
	/* type1 maps pages of its own, to see if a domain has superpages. */
	order.unpinned = type1;
	memset(&seen, 0, sizeof(seen));
	seen.coherent = -1;
}

/* Whether all was in order, and nothing is left; when everything is closed. */
static bool nothing_left(void)
{
	unsigned int i, domains = 0;
	bool good;

	trace_read(take);
	for (i = 0; i < ARRAY_SIZE(seen.domains); i++)
		domains += !!seen.domains[i];
	good = is_good() && !seen.pins && !domains && !seen.registered;
	if (seen.pins || domains || seen.registered)
		ksft_print_msg("left behind: %ld pins, %u domains, %ld times non-coherent\n",
			       seen.pins, domains, seen.registered);
	order_free(&order);
	return good;
}

/* The VMM */

struct vmm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct assigned device;
	int kvm_vfio;
	int group_device;	/* 0: the device is no group */
	void *bar;
	uint8_t *ram;		/* RAM_GPA */
	uint64_t ram0;		/* the size of what is at 0 */
};

static void new_vm(struct vmm *v)
{
	v->vm = vm_create(1);
	v->kvm_vfio = kvm_create_device(v->vm, KVM_DEV_TYPE_VFIO);
	/* Of shmem, so that it can be looked at when the VM is gone. */
	vm_userspace_mem_region_add(v->vm, VM_MEM_SRC_SHMEM, RAM_GPA, RAM_SLOT, RAM_PAGES, 0);
	v->ram = addr_gpa2hva(v->vm, RAM_GPA);
	v->ram0 = memslot2region(v->vm, 0)->region.memory_size;
}

static void new_vcpu(struct vmm *v)
{
	int i;

	v->vcpu = vm_vcpu_add(v->vm, 0, guest_dma);
	init_guest_types(v->vcpu);
	for (i = 0; i < RAM_PAGES; i++)
		map_as(v->vm, RAM_GVA + i * SZ_4K, RAM_GPA + i * SZ_4K, KVM_MEMTYPE_WB);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(v->vm, BAR_GVA + i * SZ_4K, BAR_GPA, guest_kinds[i]);
}

/* The registers become a memslot. */
static int add_bar(struct vmm *v)
{
	int fd = v->group_device ?: v->device.fd;
	int ret = vfio_command(fd, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, true);

	if (ret)
		return ret;
	v->bar = vfio_map_bar(fd, VFIO_PCI_BAR0_REGION_INDEX, SZ_4K);
	if (v->bar == MAP_FAILED)
		return -errno;
	vm_set_user_memory_region(v->vm, TEST_SLOT, 0, BAR_GPA, SZ_4K, v->bar);
	return 0;
}

/* The guest's RAM has the same addresses for the device. */
static int map_ram(const struct vmm *v)
{
	return ioas_map(v->device.iommufd, v->device.ioas, v->ram, RAM_SIZE, RAM_GPA);
}

/* Where its program is */
static int map_ram0(const struct vmm *v)
{
	return ioas_map(v->device.iommufd, v->device.ioas, addr_gpa2hva(v->vm, 0), v->ram0, 0);
}

static int unmap_ram(const struct vmm *v)
{
	return ioas_unmap(v->device.iommufd, v->device.ioas, RAM_GPA, RAM_SIZE);
}

static void open_vmm(struct vmm *v, const char *name)
{
	memset(v, 0, sizeof(*v));
	new_vm(v);
	new_vcpu(v);
	assign(&v->device, name);
	MUST_WORK(map_ram0(v));
	MUST_WORK(map_ram(v));
	TEST_ASSERT(!set_kvm_vfio(v->kvm_vfio, v->device.fd, true), "KVM_DEV_VFIO_FILE_ADD: %s",
		    strerror(errno));
	MUST_WORK(add_bar(v));
}

static void free_vm(struct vmm *v)
{
	close(v->kvm_vfio);
	kvm_vm_free(v->vm);
}

/* KVM's device has the device's file, too, and so has the mapping of the BAR. */
static void close_vmm(struct vmm *v)
{
	if (v->bar)
		munmap(v->bar, SZ_4K);
	if (v->group_device)
		close(v->group_device);
	free_vm(v);
	unassign(&v->device);
}

static uint64_t ask_guest(struct vmm *v, struct request what)
{
	struct ucall uc;

	request = what;
	sync_global_to_guest(v->vm, request);
	vcpu_run(v->vcpu);
	TEST_ASSERT(get_ucall(v->vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    v->vcpu->run->exit_reason);
	return uc.args[1];
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ul + t.tv_nsec / 1000;
}

/* For pages that the model numbers */
static char edu_name[NAME_MAX + 1];

static void map_once(void *page)
{
	struct assigned a;

	assign(&a, edu_name);
	MUST_WORK(ioas_map(a.iommufd, a.ioas, page, SZ_4K, RAM_GPA));
	MUST_WORK(ioas_unmap(a.iommufd, a.ioas, RAM_GPA, SZ_4K));
	unassign(&a);
}

/* What IOMMUFD itself says of the domains of an IOAS */
static bool iommufd_is_coherent(int iommufd, uint32_t ioas)
{
	struct iommu_vfio_ioas set = {
		.size = sizeof(set), .ioas_id = ioas, .op = IOMMU_VFIO_IOAS_SET,
	};
	int ret;

	MUST_WORK(call(iommufd, IOMMU_VFIO_IOAS, &set));
	ret = ioctl(iommufd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU);
	TEST_ASSERT(ret >= 0, "VFIO_DMA_CC_IOMMU: %s", strerror(errno));
	return ret;
}

FIXTURE(edu)
{
	bool coherent;		/* what IOMMUFD says of a domain that it made for edu */
};

FIXTURE_SETUP(edu)
{
	struct assigned a;

	if (!find_edu(edu_name) || vfio_bind(edu_name))
		SKIP(return, NO_EDU);
	assign(&a, edu_name);
	self->coherent = iommufd_is_coherent(a.iommufd, a.ioas);
	unassign(&a);
	maintains = is_active() && !self->coherent;
	trace_start(probes, ARRAY_SIZE(probes));
	order_init(&order, 0, 1);
	learn_pages(map_once);
	order_free(&order);
}

FIXTURE_TEARDOWN(edu)
{
	trace_stop();
}

/* What becomes of the guest's i-th type for the BAR, after it used it */
static struct walked check_bar(struct __test_metadata *_metadata, struct vmm *v,
			       unsigned int i)
{
	struct kvm_memtype_probe probe = { .gpa = BAR_GPA, .gva = BAR_GVA + i * SZ_4K };
	struct kvm_memtype answer;
	struct walked walked;

	TEST_ASSERT(!__vcpu_ioctl(v->vcpu, KVM_MEMTYPE_PROBE, &probe), "probe: %s",
		    strerror(errno));
	TEST_ASSERT(!get_memtype(v->vm, BAR_GPA, &answer), "query: %s", strerror(errno));
	walked = walked_kind(&probe, guest_kinds[i]);
	EXPECT_EQ(answer.effective[guest_kinds[i]], walked.kind);
	EXPECT_EQ(answer.host, VFIO_BAR);
	EXPECT_EQ(answer.attributes, KVM_MEMTYPE_ATTR_ANY_UNCACHED | MMIO_NOEXEC);
	EXPECT_FALSE(walked.forced);
	return walked;
}

/* One transfer from memory that is unmapped, before it or while it is pending */
static bool is_blocked(struct vmm *v, bool pending)
{
	struct request start = {
		.op = START, .bar = BAR_GVA, .iova = RAM_GPA + SZ_4K, .to_memory = true,
	};
	struct request finish = { .op = FINISH, .bar = BAR_GVA };
	bool late;

	/* On a busy host, the 100 ms may be over before the memory is unmapped. */
	do {
		memset(v->ram + SZ_4K, 0x5a, BYTES);
		if (!pending)
			MUST_WORK(unmap_ram(v));
		ask_guest(v, start);
		if (pending)
			MUST_WORK(unmap_ram(v));
		late = pending && !edu_runs(v->bar);
		if (late)
			MUST_WORK(map_ram(v));
	} while (late);
	if (!ask_guest(v, finish))
		return false;
	return v->ram[SZ_4K] == 0x5a && !memcmp(v->ram + SZ_4K, v->ram + SZ_4K + 1, BYTES - 1);
}

TEST_F_TIMEOUT(edu, dma, 120)
{
	struct request trip = { .op = ROUND_TRIP, .iova = RAM_GPA };
	bool works = true, blocked;
	struct vmm v;
	char row[64];
	int i;

	begin(false);
	open_vmm(&v, edu_name);
	if (!have_probe(v.vcpu))
		SKIP(return, NO_PROBE);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		if (guest_kinds[i] == KVM_MEMTYPE_WB)
			continue;
		trip.bar = BAR_GVA + i * SZ_4K;
		memset(v.ram, 0, RAM_SIZE);
		works = ask_guest(&v, trip) && works;
		/* What the guest compared is what the host sees. */
		works = works && ((uint64_t *)v.ram)[1] == PATTERN &&
			!memcmp(v.ram, v.ram + SZ_4K, BYTES);
		snprintf(row, sizeof(row), "edu BAR: guest %s", kind_names[guest_kinds[i]]);
		print_type(row, check_bar(_metadata, &v, i));
	}
	EXPECT_TRUE(works);
	print_cell("edu: DMA by a guest", works ? "right" : "wrong");

	/* The device's buffer has the last pattern. */
	blocked = is_blocked(&v, false);
	MUST_WORK(map_ram(&v));
	blocked = is_blocked(&v, true) && blocked;
	EXPECT_TRUE(blocked);
	print_cell("edu: DMA after unmap", blocked ? "blocked" : "done");
	close_vmm(&v);
	trace_end(getpid());
	EXPECT_TRUE(nothing_left());
}

/*
 * The steps of a VMM. A step comes after those in @after, and that is all that the uAPI asks for.
 */
struct step {
	int (*run)(struct vmm *v);	/* 0 or -errno */
	unsigned int after;		/* bits of other steps */
};

static int step_vcpu(struct vmm *v)
{
	new_vcpu(v);
	return 0;
}

static int step_open(struct vmm *v)
{
	v->device.fd = vfio_open(edu_name);
	return v->device.fd < 0 ? v->device.fd : 0;
}

static int step_bind(struct vmm *v)
{
	return vfio_bind_iommufd(v->device.fd, v->device.iommufd, &v->device.id);
}

static int step_attach(struct vmm *v)
{
	return vfio_attach(v->device.fd, v->device.ioas);
}

static int step_map(struct vmm *v)
{
	return map_ram(v);
}

static int step_kvm(struct vmm *v)
{
	return set_kvm_vfio(v->kvm_vfio, v->device.fd, true) ? -errno : 0;
}

static const struct step cdev_steps[] = {
	{ step_open, 0 },
	{ step_bind, BIT(0) },
	{ step_attach, BIT(1) },
	{ step_kvm, BIT(0) },
	{ step_map, 0 },
	{ step_vcpu, 0 },
};

/* With type1, a container is in place of IOMMUFD, and the group in place of the device. */
static int step_open_group(struct vmm *v)
{
	char path[PATH_MAX];
	int ret = vfio_path(edu_name, true, path);

	if (ret)
		return ret;
	v->device.fd = open(path, O_RDWR);
	return v->device.fd < 0 ? -errno : 0;
}

static int step_set_container(struct vmm *v)
{
	return call(v->device.fd, VFIO_GROUP_SET_CONTAINER, &v->device.iommufd);
}

static int step_set_iommu(struct vmm *v)
{
	return call(v->device.iommufd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
}

static int step_get_device(struct vmm *v)
{
	v->group_device = ioctl(v->device.fd, VFIO_GROUP_GET_DEVICE_FD, edu_name);
	return v->group_device < 0 ? -errno : 0;
}

static int step_map_type1(struct vmm *v)
{
	struct vfio_iommu_type1_dma_map cmd = {
		.argsz = sizeof(cmd), .vaddr = (uintptr_t)v->ram, .iova = RAM_GPA,
		.size = RAM_SIZE, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
	};

	return call(v->device.iommufd, VFIO_IOMMU_MAP_DMA, &cmd);
}

static const struct step type1_steps[] = {
	{ step_open_group, 0 },
	{ step_set_container, BIT(0) },
	{ step_set_iommu, BIT(1) },
	{ step_get_device, BIT(2) },
	{ step_map_type1, BIT(2) },
	{ step_kvm, BIT(0) },
	{ step_vcpu, 0 },
};

/* A VM, and a new IOMMUFD or a container, but no step done yet */
static void begin_vmm(struct vmm *v, bool type1)
{
	memset(v, 0, sizeof(*v));
	v->device.iommufd = open(type1 ? "/dev/vfio/vfio" : "/dev/iommu", O_RDWR);
	TEST_ASSERT(v->device.iommufd >= 0, "%s: %s", type1 ? "/dev/vfio/vfio" : "/dev/iommu",
		    strerror(errno));
	if (!type1)
		MUST_WORK(ioas_new(v->device.iommufd, &v->device.ioas));
	new_vm(v);
}

/*
 * Whether KVM knows what the domain is, and caches were maintained, if that is necessary, since
 * @cleaned pages were.
 */
static bool agrees(const char *when, bool coherent, uint64_t cleaned)
{
	bool good;

	trace_end(getpid());
	trace_read(take);
	good = seen.coherent == coherent && !order.violation && seen.allocated &&
	       (order.maintained[0] > cleaned) == (maintains && !coherent);
#ifdef __x86_64__
	good = good && seen.registered == !coherent;
#endif
	if (!good)
		ksft_print_msg("%s: KVM %d, registered %ld, domain %d, cleaned %lu\n", when,
			       seen.coherent, seen.registered, coherent, order.maintained[0]);
	return good;
}

/* The device goes away from its page tables and comes back, and then goes to others. */
static bool agrees_later(struct vmm *v)
{
	uint64_t cleaned = order.maintained[0];
	struct assigned *d = &v->device;
	uint32_t other, hwpt;
	bool good;

	MUST_WORK(vfio_detach(d->fd));
	MUST_WORK(vfio_attach(d->fd, d->ioas));
	good = agrees("attached again", iommufd_is_coherent(d->iommufd, d->ioas), cleaned);
	MUST_WORK(ioas_new(d->iommufd, &other));
	MUST_WORK(hwpt_new(d->iommufd, d->id, other, &hwpt));
	MUST_WORK(ioas_copy(d->iommufd, other, RAM_GPA, d->ioas, RAM_GPA, RAM_SIZE));
	MUST_WORK(vfio_attach(d->fd, hwpt));
	good = agrees("replaced", iommufd_is_coherent(d->iommufd, other), cleaned) && good;
	TEST_ASSERT(!set_kvm_vfio(v->kvm_vfio, d->fd, false) &&
		    !set_kvm_vfio(v->kvm_vfio, d->fd, true), "KVM_DEV_VFIO_FILE_DEL, _ADD: %s",
		    strerror(errno));
	return agrees("told again", iommufd_is_coherent(d->iommufd, other), cleaned) && good;
}

static bool is_permitted(const struct step *steps, const unsigned int *sequence, unsigned int nr)
{
	unsigned int i, done = 0;

	for (i = 0; i < nr; i++) {
		if (steps[sequence[i]].after & ~done)
			return false;
		done |= BIT(sequence[i]);
	}
	return true;
}

/* The next of all permutations; false after the last. */
static bool permute(unsigned int *sequence, unsigned int nr)
{
	unsigned int i = nr - 1, j = nr - 1, swap;

	while (i && sequence[i - 1] > sequence[i])
		i--;
	if (!i)
		return false;
	while (sequence[j] < sequence[i - 1])
		j--;
	swap = sequence[j];
	sequence[j] = sequence[i - 1];
	sequence[i - 1] = swap;
	for (j = nr - 1; i < j; i++, j--) {
		swap = sequence[j];
		sequence[j] = sequence[i];
		sequence[i] = swap;
	}
	return true;
}

TEST_F_TIMEOUT(edu, orders, 600)
{
	unsigned int sequence[ARRAY_SIZE(cdev_steps)] = { 0, 1, 2, 3, 4, 5 }, orders = 0, i;
	bool good = true, coherent;
	struct vmm v;

	do {
		if (!is_permitted(cdev_steps, sequence, ARRAY_SIZE(sequence)))
			continue;
		orders++;
		begin(false);
		begin_vmm(&v, false);
		for (i = 0; i < ARRAY_SIZE(sequence); i++)
			MUST_WORK(cdev_steps[sequence[i]].run(&v));
		coherent = iommufd_is_coherent(v.device.iommufd, v.device.ioas);
		good = agrees("IOMMUFD", coherent, 0) && coherent == self->coherent &&
		       agrees_later(&v);
		close_vmm(&v);
		trace_end(getpid());
		good = nothing_left() && good;
	} while (good && permute(sequence, ARRAY_SIZE(sequence)));
	EXPECT_TRUE(good);
	EXPECT_EQ(orders, 90);
	print_cell("edu: caches are maintained", maintains ? "yes" : "no");
	print_cell("edu: KVM and IOMMUFD say",
		   !good ? "differ" : self->coherent ? "coherent" : "non-coherent");
}

TEST_F_TIMEOUT(edu, type1_orders, 600)
{
	unsigned int sequence[ARRAY_SIZE(type1_steps)] = { 0, 1, 2, 3, 4, 5, 6 }, orders = 0, i;
	bool good = true, coherent = false;
	struct vmm v;

	do {
		if (!is_permitted(type1_steps, sequence, ARRAY_SIZE(sequence)))
			continue;
		orders++;
		begin(true);
		begin_vmm(&v, true);
		for (i = 0; i < ARRAY_SIZE(sequence); i++)
			MUST_WORK(type1_steps[sequence[i]].run(&v));
		coherent = ioctl(v.device.iommufd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU);
		good = agrees("type1", coherent, 0) && coherent == self->coherent;
		close_vmm(&v);
		trace_end(getpid());
		good = nothing_left() && good;
	} while (good && permute(sequence, ARRAY_SIZE(sequence)));
	EXPECT_TRUE(good);
	EXPECT_EQ(orders, 70);
	print_cell("edu: KVM and type1 say",
		   !good ? "differ" : coherent ? "coherent" : "non-coherent");
}

/* KVM goes by what the IOMMU can do. So where that can enforce coherency, a domain must. */
TEST_F_TIMEOUT(edu, refused, 60)
{
	struct iommu_test_cmd mock = {
		.size = sizeof(mock), .op = IOMMU_TEST_OP_MOCK_DOMAIN,
	};
	struct assigned a;
	int ret;

	if (!self->coherent)
		SKIP(return, "the IOMMU cannot enforce coherency");
	assign(&a, edu_name);
	MUST_WORK(ioas_new(a.iommufd, &mock.id));
	ret = call(a.iommufd, IOMMU_TEST_CMD, &mock);
	if (ret)
		SKIP(return, "no mock device beside this IOMMU: %s", strerror(-ret));
	/* The domain of a mock device does not enforce it. */
	EXPECT_EQ(vfio_attach(a.fd, mock.mock_domain.out_hwpt_id), -EINVAL);
	EXPECT_TRUE(iommufd_is_coherent(a.iommufd, a.ioas));
	unassign(&a);
}

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

static bool is_requested(int request, int ms)
{
	struct pollfd pollfd = { .fd = request, .events = POLLIN };

	return poll(&pollfd, 1, ms) == 1;
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

/* Nobody has it open: then it must be away, and can be had back. */
static bool end_taking(struct taking *t)
{
	struct timespec until;
	char path[512];
	int ret;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LONG / 1000;
	ret = pthread_timedjoin_np(t->thread, NULL, &until);
	snprintf(path, sizeof(path), PCI_DEVICES "%s%s", edu_name, t->remove ? "" : "/driver");
	if (ret || t->error || !access(path, F_OK)) {
		ksft_print_msg("%s: join %d, error %d\n", path, ret, t->error);
		return false;
	}
	return (!t->remove || !write_file("/sys/bus/pci/rescan", "1")) && !vfio_bind(edu_name);
}

/*
 * Takes edu away while its DMA to memory is pending: 1 if nothing arrived, 0 if something did after
 * the device was closed, -1 if it took too long to close it.
 */
static int take_pending(struct __test_metadata *_metadata, bool remove)
{
	struct request start = {
		.op = START, .bar = BAR_GVA, .iova = RAM_GPA + SZ_4K, .to_memory = true,
	};
	struct request finish = { .op = FINISH, .bar = BAR_GVA };
	struct taking taking = { .remove = remove };
	uint64_t started, closed;
	uint8_t *memory;
	bool safe, back;
	int request;
	struct vmm v;

	open_vmm(&v, edu_name);
	memory = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      memslot2region(v.vm, RAM_SLOT)->fd, 0);
	TEST_ASSERT(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	MUST_WORK(expect_request(&v, &request));
	EXPECT_FALSE(is_requested(request, 0));
	begin_taking(&taking);
	EXPECT_TRUE(is_requested(request, LONG));
	EXPECT_EQ(pthread_tryjoin_np(taking.thread, NULL), EBUSY);

	/* The device works until it is closed, which is to be quick. */
	EXPECT_TRUE(ask_guest(&v, finish));
	TEST_ASSERT(!set_kvm_vfio(v.kvm_vfio, v.device.fd, false), "KVM_DEV_VFIO_FILE_DEL: %s",
		    strerror(errno));
	memset(memory + SZ_4K, 0x5a, BYTES);
	started = now();
	ask_guest(&v, start);
	munmap(v.bar, SZ_4K);
	unassign(&v.device);
	closed = now();
	back = end_taking(&taking);
	usleep(2 * TRANSFER);
	safe = memory[SZ_4K] == 0x5a && !memcmp(memory + SZ_4K, memory + SZ_4K + 1, BYTES - 1);
	free_vm(&v);
	close(request);
	munmap(memory, RAM_SIZE);
	EXPECT_TRUE(back);
	/* A transfer arrives when 100 ms are over: after the close, unless that was late. */
	return safe ? 1 : closed - started < TRANSFER ? 0 : -1;
}

TEST_F_TIMEOUT(edu, removal, 240)
{
	struct request trip = { .op = ROUND_TRIP, .bar = BAR_GVA, .iova = RAM_GPA };
	int i, kind, tries, safe;
	bool good = true;
	struct vmm v;

	for (i = 0; i < 2; i++) {
		begin(false);
		/* On a busy host it can take too long. */
		for (tries = 0, safe = -1; tries < 20 && safe < 0; tries++)
			safe = take_pending(_metadata, !i);
		EXPECT_EQ(safe, 1);
		good = safe == 1 && good;
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

/* Random rounds */

struct plan {
	bool type1;
	bool second;		/* domain */
	bool maps;		/* and unmaps, all the time */
	bool copies;		/* to the second domain, which then is of another IOAS */
	bool taken;		/* away, while the VMM has it or before */
	bool killed;		/* or it closes the device, on request or at that time */
	bool remove;
	uint64_t take_at, end_at;
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

static struct plan new_plan(uint64_t span)
{
	struct plan p = {
		.type1 = !below(4), .second = below(2), .maps = below(2), .copies = below(2),
		.taken = below(2), .killed = true, .remove = below(2),
		.take_at = below(span), .end_at = below(span),
	};

	p.second = p.second && !p.type1;
	p.copies = p.copies && p.second;
	if (p.taken)
		p.killed = below(2);
	return p;
}

static void print_plan(unsigned int number, const struct plan *p)
{
	ksft_print_msg("round %u:%s%s%s%s", number, p->type1 ? " type1" : "",
		       p->second ? " second domain" : "", p->maps ? " maps" : "",
		       p->copies ? " copies" : "");
	if (p->taken)
		printf(" %s at %lu us", p->remove ? "removed" : "unbound", p->take_at);
	printf(" %s at %lu us\n", p->killed ? "killed" : "closed", p->end_at);
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
	if (m->plan->type1)
		MUST_WORK(call(d->iommufd, VFIO_IOMMU_UNMAP_DMA, &cmd));
	else
		MUST_WORK(unmap_ram(m->v));
	trace_end(gettid());
	if (m->plan->copies) {
		MUST_WORK(ioas_unmap(d->iommufd, m->other, RAM_GPA, RAM_SIZE));
		trace_end(gettid());
	}
	if (m->plan->type1)
		MUST_WORK(step_map_type1(m->v));
	else
		MUST_WORK(map_ram(m->v));
	trace_end(gettid());
}

static void *map_forever(void *mapper)
{
	for (;;) {
		map_again(mapper);
		usleep(1000);
	}
	return NULL;
}

/* How far the VMMs got, all together; in memory that they share with the test */
static struct {
	unsigned int attached, transfers;
} *reached;

/* What must work unless the device was taken away: then the VMM has nothing more to do. */
static void must(const struct plan *plan, uint64_t start, int ret)
{
	uint64_t taken_at = start + (plan->take_at < plan->end_at ? plan->take_at : plan->end_at);

	if (ret && plan->taken && now() >= taken_at)
		_exit(0);
	TEST_ASSERT(!ret, "%s", strerror(-ret));
}

/* The whole life of a VMM, which most do not reach the end of */
static void run_vmm(const struct plan *plan, uint64_t start)
{
	struct request trip = { .op = ROUND_TRIP, .bar = BAR_GVA, .iova = RAM_GPA };
	const struct step *steps = plan->type1 ? type1_steps : cdev_steps;
	size_t i, nr = plan->type1 ? ARRAY_SIZE(type1_steps) : ARRAY_SIZE(cdev_steps);
	struct vmm v;
	struct mapper mapper = { .plan = plan, .v = &v };
	pthread_t thread;
	uint32_t hwpt;
	int request;

	begin_vmm(&v, plan->type1);
	for (i = 0; i < nr; i++)
		must(plan, start, steps[i].run(&v));
	must(plan, start, expect_request(&v, &request));
	must(plan, start, add_bar(&v));
	if (!plan->type1)
		MUST_WORK(map_ram0(&v));
	if (plan->copies)
		MUST_WORK(ioas_new(v.device.iommufd, &mapper.other));
	if (plan->second)
		must(plan, start, hwpt_new(v.device.iommufd, v.device.id,
					   plan->copies ? mapper.other : v.device.ioas, &hwpt));
	trace_end(getpid());
	reached->attached++;
	if (plan->maps)
		TEST_ASSERT(!pthread_create(&thread, NULL, map_forever, &mapper),
			    "pthread_create()");
	while (!is_requested(request, 0) && (plan->killed || now() < start + plan->end_at)) {
		bool arrived = ask_guest(&v, trip);

		/* What is unmapped meanwhile cannot arrive. */
		TEST_ASSERT(arrived || plan->maps, "DMA");
		reached->transfers++;
	}
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

static void sleep_until(uint64_t time)
{
	while (now() < time)
		usleep(1000);
}

/* How the process ended; -1 if it does not. */
static int wait_for(pid_t pid)
{
	uint64_t until = now() + LONG * 1000;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now() > until)
			return -1;
		usleep(1000);
	}
	return status;
}

static bool run_round(const struct plan *plan)
{
	struct taking taking = { .remove = plan->remove };
	uint64_t start = now();
	bool good, takes_first = plan->take_at < plan->end_at;
	int status;
	pid_t pid;

	begin(plan->type1);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		run_vmm(plan, start);
		_exit(0);
	}
	if (plan->taken && takes_first) {
		sleep_until(start + plan->take_at);
		begin_taking(&taking);
	}
	sleep_until(start + plan->end_at);
	if (plan->killed)
		kill(pid, SIGKILL);
	if (plan->taken && !takes_first)
		begin_taking(&taking);
	status = wait_for(pid);
	if (status == -1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	trace_end(pid);
	good = plan->killed && WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL :
						     plan->taken && !status;
	if (!good)
		ksft_print_msg("the VMM ended with status %#x\n", status);
	if (plan->taken)
		good = end_taking(&taking) && good;
	if (has_vm(pid)) {
		ksft_print_msg("KVM still has the VM\n");
		good = false;
	}
	return nothing_left() && good;
}

/* The kernel adds up the numbers of all CPUs now and then. */
static bool no_pins(void)
{
	long pins = -1;
	int i;

	for (i = 0; i < 50 && pins; i++) {
		pins = read_number("/proc/vmstat", "nr_foll_pin_acquired ");
		TEST_ASSERT(pins >= 0, "/proc/vmstat does not count pins");
		pins -= read_number("/proc/vmstat", "nr_foll_pin_released ");
		usleep(100000);
	}
	return !pins;
}

TEST_F_TIMEOUT(edu, kills, 1800)
{
	struct request trip = { .op = ROUND_TRIP, .bar = BAR_GVA, .iova = RAM_GPA };
	unsigned int i, taken = 0, killed = 0;
	uint64_t start, span;
	bool good = true;
	struct plan p;
	struct vmm v;

	if (!seed)
		TEST_ASSERT(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "getrandom()");
	ksft_print_msg("seed %#lx\n", seed);
	reached = mmap(NULL, sizeof(*reached), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	ASSERT_NE(reached, MAP_FAILED);
	begin(false);
	start = now();
	open_vmm(&v, edu_name);
	EXPECT_TRUE(ask_guest(&v, trip));
	close_vmm(&v);
	span = now() - start;
	trace_end(getpid());
	EXPECT_TRUE(nothing_left());

	for (i = 0; i < rounds && good; i++) {
		p = new_plan(span);
		good = run_round(&p);
		taken += p.taken;
		killed += p.killed;
		if (!good)
			print_plan(i, &p);
	}
	good = good && no_pins();
	ksft_print_msg("%u rounds, %u with SIGKILL, %u with a device taken away, %lu s\n", i,
		       killed, taken, (now() - start) / 1000000);
	ksft_print_msg("%u VMMs were complete, and made %u round trips\n", reached->attached,
		       reached->transfers);
	EXPECT_TRUE(good);
	EXPECT_GT(killed, 0);
	EXPECT_GT(taken, 0);
	EXPECT_GT(reached->transfers, 0);
	print_cell("edu: kills and removals", good ? "kept" : "broken");
}

static pid_t main_process;
static bool was_bound;

/* All as it was before: a test, which runs in a child, may fail and leave everything as it is. */
static void clean_up(void)
{
	if (getpid() != main_process)
		return;
	trace_stop();
	if (edu_name[0] && !was_bound)
		vfio_unbind(edu_name);
}

int main(int argc, char **argv)
{
	char driver[512];

	main_process = getpid();
	if (find_edu(edu_name)) {
		snprintf(driver, sizeof(driver), PCI_DEVICES "%s/driver", edu_name);
		was_bound = !access(driver, F_OK);
	}
	atexit(clean_up);
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
