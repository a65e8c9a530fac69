/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM with an emulated device that does DMA: QEMU's edu is bound to vfio-pci and attached through
 * /dev/iommu or VFIO's type1, and the VM has it in KVM_DEV_VFIO. The guest itself programs the DMA,
 * through the BAR that it maps with types of its own choice.
 *
 * The trace of all of it (../iommu/dma_cache_trace.h) shows that caches are maintained in order,
 * or not at all where DMA is coherent, and that nothing is left behind.
 */
#ifndef SELFTEST_KVM_MEMTYPE_EDU_H
#define SELFTEST_KVM_MEMTYPE_EDU_H

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_guest.h"
#include "memtype_vfio.h"

#define CHECK(condition, fmt, ...)							\
	TEST_ASSERT(condition, fmt ": %s", ##__VA_ARGS__, strerror(errno))

#include "../iommu/dma_cache_trace.h"

/* The registers of edu, and memory that it may reach at the same IOVA: it has 28 address bits. */
#define BAR_GPA		TEST_GPA
#define BAR_GVA		TEST_GVA
#define RAM_SLOT	(TEST_SLOT + 1)
#define RAM_GPA		0x4000000ul
#define RAM_GVA		0x50000000ul
#define RAM_PAGES	16
#define RAM_SIZE	(RAM_PAGES * SZ_4K)
#define BYTES		2048
#define NO_EDU		"no edu device behind an IOMMU"

/* The guest */

static struct request {
	enum { START, FINISH, ROUND_TRIP } op;
	uint64_t bar;
	uint64_t iova;
	bool to_memory;
} request;

static inline void guest_waits(void *bar)
{
	while (edu_runs(bar))
		;
}

/* Returns when the device said that it runs; a transfer that is over by then is repeated. */
static inline void guest_starts(void *bar, uint64_t iova, bool to_memory)
{
	guest_waits(bar);
	do {
		edu_start(bar, iova, BYTES, to_memory);
	} while (!edu_runs(bar));
}

/* Memory to device to other memory, and whether it is the same then */
static inline bool guest_round_trip(void *bar, uint64_t iova)
{
	uint64_t *from = (uint64_t *)RAM_GVA, *to = (uint64_t *)(RAM_GVA + SZ_4K);
	unsigned int i;

	/* Of a VMM that was killed, a transfer may still be going on. */
	guest_waits(bar);
	for (i = 0; i < BYTES / 8; i++) {
		from[i] = PATTERN * i;
		to[i] = ~from[i];
	}
	edu_start(bar, iova, BYTES, false);
	guest_waits(bar);
	edu_start(bar, iova + SZ_4K, BYTES, true);
	guest_waits(bar);
	for (i = 0; i < BYTES / 8; i++) {
		if (READ_ONCE(to[i]) != PATTERN * i)
			return false;
	}
	return true;
}

static inline void guest_dma(void)
{
	for (;;) {
		void *bar = (void *)request.bar;

		switch (request.op) {
		case START:
			guest_starts(bar, request.iova, request.to_memory);
			GUEST_SYNC(0);
			break;
		case FINISH:
			guest_waits(bar);
			GUEST_SYNC(0);
			break;
		case ROUND_TRIP:
			GUEST_SYNC(guest_round_trip(bar, request.iova));
			break;
		}
	}
}

/* What was traced of this process and its children, beside what the model judges */

/*
 * Newer kernels have all paging domains from one function of the driver, also those of the DMA
 * API, of which a device that comes back gets a new one.
 */
#ifdef SELFTEST_KVM_SYSCALLS_H
#define ALLOC_DOMAIN	"domain_alloc_paging_flags"
#else
#define ALLOC_DOMAIN	"domain_alloc_user"
#endif

static const char * const probes[] = {
	"r512:" TRACED "/coherent vfio_file_enforced_coherent ret=$retval:u8",
#ifdef SELFTEST_KVM_SYSCALLS_H
	"p:" TRACED "/default iommu_get_dma_cookie domain=$arg1",
#else
	"r512:" TRACED "/domain iommu_paging_domain_alloc domain=$retval",
#endif
	"r512:" TRACED "/pin pin_user_pages_fast n=$retval:s32",
	"r512:" TRACED "/pin pin_user_pages_remote n=$retval:s32",
#ifdef __x86_64__
	"r512:" TRACED "/domain intel_iommu_" ALLOC_DOMAIN " domain=$retval",
	"r512:" TRACED "/domain amd_iommu_" ALLOC_DOMAIN " domain=$retval",
	"p:" TRACED "/register kvm_arch_register_noncoherent_dma",
	"p:" TRACED "/unregister kvm_arch_unregister_noncoherent_dma",
#else
	"r512:" TRACED "/domain arm_smmu_" ALLOC_DOMAIN " domain=$retval",
#endif
};

static struct {
	uint64_t domains[16];	/* that are there; 0 is none */
	uint64_t allocated;	/* domains that ever were */
	int64_t pins;
	int64_t registered;	/* KVM's counts of non-coherent DMA */
	int coherent;		/* what VFIO last told KVM */
} seen;

static inline void change_domain(struct order *o, uint64_t from, uint64_t to)
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

static inline void take(struct order *o, const char *line)
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
	} else if (IS("default")) {
		change_domain(o, order_field(o, event, "domain"), 0);
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

static inline void begin(bool type1)
{
	order_init(&order, memmap, page_struct);
	order.coherent = !maintains;
	/* type1 maps pages of its own, to see if a domain has superpages. */
	order.unpinned = type1;
	memset(&seen, 0, sizeof(seen));
	seen.coherent = -1;
}

/* Whether all was in order, and nothing is left; when everything is closed. */
static inline bool nothing_left(void)
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

static inline void new_vm(struct vmm *v)
{
	v->vm = vm_create(1);
	v->kvm_vfio = kvm_create_device(v->vm, KVM_DEV_TYPE_VFIO);
	/* Of shmem, so that it can be looked at when the VM is gone. */
	vm_userspace_mem_region_add(v->vm, VM_MEM_SRC_SHMEM, RAM_GPA, RAM_SLOT, RAM_PAGES, 0);
	v->ram = addr_gpa2hva(v->vm, RAM_GPA);
	v->ram0 = memslot2region(v->vm, 0)->region.memory_size;
}

static inline void new_vcpu(struct vmm *v)
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
static inline int add_bar(struct vmm *v)
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
static inline int map_ram(const struct vmm *v)
{
	return ioas_map(v->device.iommufd, v->device.ioas, v->ram, RAM_SIZE, RAM_GPA);
}

/* Where its program is */
static inline int map_ram0(const struct vmm *v)
{
	return ioas_map(v->device.iommufd, v->device.ioas, addr_gpa2hva(v->vm, 0), v->ram0, 0);
}

static inline int unmap_ram(const struct vmm *v)
{
	return ioas_unmap(v->device.iommufd, v->device.ioas, RAM_GPA, RAM_SIZE);
}

static inline void open_vmm(struct vmm *v, const char *name)
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

static inline void free_vm(struct vmm *v)
{
	close(v->kvm_vfio);
	kvm_vm_free(v->vm);
}

/* KVM's device has the device's file, too, and so has the mapping of the BAR. */
static inline void close_vmm(struct vmm *v)
{
	if (v->bar)
		munmap(v->bar, SZ_4K);
	if (v->group_device)
		close(v->group_device);
	free_vm(v);
	unassign(&v->device);
}

static inline uint64_t ask_guest(struct vmm *v, struct request what)
{
	struct ucall uc;

	request = what;
	sync_global_to_guest(v->vm, request);
	vcpu_run(v->vcpu);
	TEST_ASSERT(get_ucall(v->vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    v->vcpu->run->exit_reason);
	return uc.args[1];
}

/* For pages that the model numbers */
static char edu_name[NAME_MAX + 1];

static inline void map_once(void *page)
{
	struct assigned a;

	assign(&a, edu_name);
	MUST_WORK(ioas_map(a.iommufd, a.ioas, page, SZ_4K, RAM_GPA));
	MUST_WORK(ioas_unmap(a.iommufd, a.ioas, RAM_GPA, SZ_4K));
	unassign(&a);
}

/* What IOMMUFD itself says of the domains of an IOAS */
static inline bool iommufd_is_coherent(int iommufd, uint32_t ioas)
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
static inline struct walked check_bar(struct __test_metadata *_metadata, struct vmm *v,
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

/*
 * The steps of a VMM. A step comes after those in @after, and that is all that the uAPI asks for.
 */
struct step {
	int (*run)(struct vmm *v);	/* 0 or -errno */
	unsigned int after;		/* bits of other steps */
};

static inline int step_vcpu(struct vmm *v)
{
	new_vcpu(v);
	return 0;
}

static inline int step_open(struct vmm *v)
{
	v->device.fd = vfio_open(edu_name);
	return v->device.fd < 0 ? v->device.fd : 0;
}

static inline int step_bind(struct vmm *v)
{
	return vfio_bind_iommufd(v->device.fd, v->device.iommufd, &v->device.id);
}

static inline int step_attach(struct vmm *v)
{
	return vfio_attach(v->device.fd, v->device.ioas);
}

static inline int step_map(struct vmm *v)
{
	return map_ram(v);
}

static inline int step_kvm(struct vmm *v)
{
	return set_kvm_vfio(v->kvm_vfio, v->device.fd, true) ? -errno : 0;
}

static const struct step iommufd_steps[] = {
	{ step_open, 0 },
	{ step_bind, BIT(0) },
	{ step_attach, BIT(1) },
	{ step_kvm, BIT(0) },
	{ step_map, 0 },
	{ step_vcpu, 0 },
};

/* With type1, a container is in place of IOMMUFD, and the group in place of the device. */
static inline int step_open_group(struct vmm *v)
{
	char path[PATH_MAX];
	int ret = vfio_path(edu_name, true, path);

	if (ret)
		return ret;
	v->device.fd = open(path, O_RDWR);
	return v->device.fd < 0 ? -errno : 0;
}

static inline int step_set_container(struct vmm *v)
{
	return call(v->device.fd, VFIO_GROUP_SET_CONTAINER, &v->device.iommufd);
}

static inline int step_set_iommu(struct vmm *v)
{
	return call(v->device.iommufd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
}

static inline int step_get_device(struct vmm *v)
{
	v->group_device = ioctl(v->device.fd, VFIO_GROUP_GET_DEVICE_FD, edu_name);
	return v->group_device < 0 ? -errno : 0;
}

static inline int step_map_type1(struct vmm *v)
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

/* Which of VFIO's two interfaces a VMM uses */
struct way {
	const char *name;
	const char *file;
	bool type1;
	const struct step *steps;
	unsigned int nr;
	unsigned int probed;	/* pages that the kernel maps for a moment, to try a domain */
};

static const struct way by_iommufd = {
	.name = "IOMMUFD", .file = "/dev/iommu",
	.steps = iommufd_steps, .nr = ARRAY_SIZE(iommufd_steps),
};

static const struct way by_type1 = {
	.name = "type1", .file = "/dev/vfio/vfio", .type1 = true,
	.steps = type1_steps, .nr = ARRAY_SIZE(type1_steps), .probed = PROBE,
};

/* A VM, and a new IOMMUFD or a container, but no step done yet */
static inline void begin_vmm(struct vmm *v, const struct way *way)
{
	memset(v, 0, sizeof(*v));
	v->device.iommufd = open(way->file, O_RDWR);
	TEST_ASSERT(v->device.iommufd >= 0, "%s: %s", way->file, strerror(errno));
	if (!way->type1)
		MUST_WORK(ioas_new(v->device.iommufd, &v->device.ioas));
	new_vm(v);
}

static pid_t main_process;
static bool was_bound;

/* All as it was before: a test, which runs in a child, may fail and leave everything as it is. */
static inline void clean_up(void)
{
	if (getpid() != main_process)
		return;
	trace_stop();
	if (edu_name[0] && !was_bound)
		vfio_unbind(edu_name);
}

/* To be called first in main() */
static inline void remember_driver(void)
{
	char driver[512];

	main_process = getpid();
	if (find_edu(edu_name)) {
		snprintf(driver, sizeof(driver), PCI_DEVICES "%s/driver", edu_name);
		was_bound = !access(driver, F_OK);
	}
	atexit(clean_up);
}

#endif /* SELFTEST_KVM_MEMTYPE_EDU_H */
