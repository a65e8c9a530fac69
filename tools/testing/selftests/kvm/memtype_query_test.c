// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET_MEMTYPE: what it takes and what it refuses, that it follows the memslots, and that of
 * memory which a guest cannot have it says beforehand why.
 *
 * That it is right about the types, memtype_test shows.
 */
#include <sys/mount.h>
#include <sys/stat.h>

#include "memtype_walk.h"

/* Memory of which the second half is WC to the host */
#ifdef __x86_64__
#define HALF_WC		(MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_MIXED | MEMTYPE_TEST_SET_RAM)
#else
#define HALF_WC		(MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_MIXED)
#endif

/* KVM_GET_MEMTYPE: what it refuses, and that it follows the memslots. */
FIXTURE(query)
{
	struct kvm_vm *vm;
	void *hva;
};

FIXTURE_SETUP(query)
{
	self->vm = vm_create_barebones();
	self->hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->hva, MAP_FAILED);
}

FIXTURE_TEARDOWN(query)
{
	kvm_vm_free(self->vm);
}

static int query_error(struct kvm_vm *vm, const struct kvm_memtype *query)
{
	struct kvm_memtype copy = *query;
	int error;

	if (!__vm_ioctl(vm, KVM_GET_MEMTYPE, &copy))
		return 0;
	error = errno;
	TEST_ASSERT(!memcmp(&copy, query, sizeof(copy)), "a failed query changed its argument");
	return error;
}

TEST_F(query, bad_input)
{
	struct kvm_memtype good = { .gpa = TEST_GPA }, query;

	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	if (!have_layer()) {
		EXPECT_EQ(query_error(self->vm, &good), UNKNOWN_IOCTL);
		return;
	}
	EXPECT_EQ(query_error(self->vm, &good), 0);

	query = good;
	query.flags = 1;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query.flags = 1u << 31;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.padding = 1ull << 63;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.as_id = 2;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query.as_id = -1;
	EXPECT_EQ(query_error(self->vm, &query), EINVAL);
	query = good;
	query.gpa = TEST_GPA + SZ_2M;
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);
	query.gpa = -1;
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);

	EXPECT_EQ(__vm_ioctl(self->vm, KVM_GET_MEMTYPE, (struct kvm_memtype *)NULL), -1);
	EXPECT_EQ(errno, EFAULT);
	/* Readable, not writable; zeroes but for the address, where nothing is to say. */
	vm_set_user_memory_region(self->vm, TEST_SLOT + 1, 0, 0, getpagesize(), self->hva);
	ASSERT_EQ(mprotect(self->hva, getpagesize(), PROT_READ), 0);
	EXPECT_EQ(__vm_ioctl(self->vm, KVM_GET_MEMTYPE, (struct kvm_memtype *)self->hva), -1);
	EXPECT_EQ(errno, EFAULT);
}

/* Nothing is mapped in the host by asking; check_type() looks at the guest. */
TEST_F(query, maps_nothing)
{
	unsigned char resident;
	struct kvm_memtype answer;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
	EXPECT_EQ(answer.intent, KVM_MEMTYPE_WB);
	ASSERT_EQ(mincore(self->hva, getpagesize(), &resident), 0);
	EXPECT_EQ(resident & 1, 0);
}

/* Nor does asking need page tables: at powers of two, each of their levels ends somewhere. */
TEST_F(query, no_page_tables)
{
	struct kvm_memtype answer;
	unsigned char resident;
	int shift, found = 0;
	void *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	for (shift = 30; shift < 52; shift++) {
		hva = mmap((void *)(1ul << shift), SZ_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		/* Behind the end of user addresses, or something is there. */
		if (hva == MAP_FAILED)
			continue;
		found++;
		vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, hva);
		EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
		EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
		EXPECT_EQ(answer.end, TEST_GPA + SZ_2M);
		EXPECT_EQ(mincore(hva, getpagesize(), &resident), 0);
		EXPECT_EQ(resident & 1, 0);
		vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, 0, hva);
		ASSERT_EQ(munmap(hva, SZ_2M), 0);
	}
	/* User addresses have 47 bits at least. */
	EXPECT_GE(found, 15);
}

TEST_F(query, address_without_mapping)
{
	struct kvm_memtype answer, expected = {
		.gpa = TEST_GPA, .refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED,
		.end = TEST_GPA + SZ_2M,
	};

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	ASSERT_EQ(mprotect(self->hva, SZ_2M, PROT_NONE), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(memcmp(&answer, &expected, sizeof(answer)), 0);
	ASSERT_EQ(munmap(self->hva, SZ_2M), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(memcmp(&answer, &expected, sizeof(answer)), 0);
}

/* mprotect() changes who may access a page, and not how. */
TEST_F(query, mprotect_keeps_the_type)
{
	struct kvm_memtype answer;
	void *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (only_ram())
		SKIP(return, ONLY_RAM);
	/* A vm_page_prot that is WC itself would stay so. */
	hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_WC, MEMTYPE_TEST_PREMAP |
		       MEMTYPE_TEST_UNTRACKED | MEMTYPE_TEST_PTE_ONLY);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WC);
	ASSERT_EQ(mprotect(hva, HOST_SIZE, PROT_READ), 0);
	ASSERT_EQ(mprotect(hva, HOST_SIZE, PROT_READ | PROT_WRITE), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WC);
}

/* One call for each range: up to another mapping, another type, the end of the memslot. */
TEST_F(query, end)
{
	uint64_t gpa = TEST_GPA, half, end;
	struct kvm_memtype answer;
	void *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	hva = mmap(self->hva + SZ_1M, SZ_64K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	ASSERT_EQ(get_memtype(self->vm, gpa, &answer), 0);
	EXPECT_EQ(answer.end, gpa + SZ_1M);
	ASSERT_EQ(get_memtype(self->vm, gpa + SZ_1M + 1, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_UNMAPPED);
	EXPECT_EQ(answer.end, gpa + SZ_1M + SZ_64K);
	ASSERT_EQ(get_memtype(self->vm, gpa + SZ_1M + SZ_64K, &answer), 0);
	EXPECT_EQ(answer.end, gpa + SZ_2M);

	if (only_ram()) {
		ksft_print_msg("not two types: " ONLY_RAM "\n");
		return;
	}
	/*
	 * Page by page, the second half WC. One call looks at 128 pages at most, so that
	 * neither half is done by one; where the walk begins, no such limit of a call is
	 * where the halves meet.
	 */
	gpa += SZ_2M;
	half = gpa + HOST_SIZE / 2;
	end = gpa + HOST_SIZE;
	hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_WC, HALF_WC);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT + 1, 0, gpa, HOST_SIZE, hva);
	for (gpa += SZ_64K; gpa < end; gpa = answer.end) {
		ASSERT_EQ(get_memtype(self->vm, gpa, &answer), 0);
		EXPECT_EQ(answer.host, gpa < half ? KVM_MEMTYPE_WB : KVM_MEMTYPE_WC);
		ASSERT_GT(answer.end, gpa);
		ASSERT_LE(answer.end, gpa < half ? half : end);
	}
	EXPECT_EQ(gpa, end);
}

TEST_F(query, memslot_ioctls)
{
	struct kvm_memtype first, second;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &first), -1);
	EXPECT_EQ(errno, ENOENT);

	ASSERT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M,
					      self->hva), 0);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &first), 0);
	ASSERT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, 0, NULL), 0);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &second), -1);
	EXPECT_EQ(errno, ENOENT);

	ASSERT_EQ(__vm_set_user_memory_region2(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_2M,
					       self->hva, 0, 0), 0);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &second), 0);
	EXPECT_EQ(memcmp(&first, &second, sizeof(first)), 0);
}

/* Each address space has memslots of its own. */
TEST_F(query, address_spaces)
{
	int nr = vm_check_cap(self->vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	struct kvm_memtype query = { .gpa = TEST_GPA, .as_id = 1 };

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (nr < 2) {
		EXPECT_EQ(query_error(self->vm, &query), EINVAL);
		return;
	}
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);
	vm_set_user_memory_region(self->vm, 1 << 16 | TEST_SLOT, 0, TEST_GPA, SZ_2M, self->hva);
	EXPECT_EQ(query_error(self->vm, &query), 0);
	query.as_id = 0;
	EXPECT_EQ(query_error(self->vm, &query), ENOENT);
}

#ifdef __x86_64__
/* Private memory is not what the memslot's address has; it is guest_memfd's, or nothing. */
TEST_F(query, private_memory)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT, .type = KVM_X86_SW_PROTECTED_VM,
	};
	struct kvm_memtype answer;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fd;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "no KVM_X86_SW_PROTECTED_VM");
	vm = vm_create_shape_with_one_vcpu(shape, &vcpu, guest_main);
	vcpu_args_set(vcpu, 1, 0);
	fd = vm_create_guest_memfd(vm, SZ_2M, 0);
	vm_set_user_memory_region2(vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, SZ_2M, self->hva,
				   fd, 0);
	vm_set_user_memory_region(vm, TEST_SLOT + 1, 0, TEST_GPA + SZ_2M, SZ_2M, self->hva);
	ASSERT_EQ(munmap(self->hva, SZ_2M), 0);

	EXPECT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_UNMAPPED);
	vm_mem_set_private(vm, TEST_GPA, 2 * SZ_2M);
	EXPECT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_NONE);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
	EXPECT_EQ(get_memtype(vm, TEST_GPA + SZ_2M, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_UNMAPPED);

	/* The exit is KVM's own: it asks for a conversion, and is no refusal of the layer's. */
	map_as(vm, TEST_GVA, TEST_GPA + SZ_2M, KVM_MEMTYPE_WB);
	commands[0] = (struct guest_command) { GUEST_READ, TEST_GVA, 0 };
	sync_global_to_guest(vm, commands);
	EXPECT_EQ(_vcpu_run(vcpu), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	EXPECT_EQ(vcpu->run->memory_fault.gpa, TEST_GPA + SZ_2M);
	EXPECT_EQ(vcpu->run->memory_fault.flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	EXPECT_EQ(vm_statistic(vm, "memtype_refused"), 0);
	kvm_vm_free(vm);
}
#endif

/* A guest_memfd that can be mapped is memory, whatever is at the memslot's address. */
TEST_F(query, guest_memfd)
{
	uint64_t flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
	struct kvm_memtype answer;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	uint64_t *memory;
	void *hva;
	int fd;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm = create_vm(&vcpu, 1, 0);
	fd = __vm_create_guest_memfd(vm, SZ_2M, flags);
	if (!(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_MMAP)) {
		EXPECT_EQ(fd, -1);
		kvm_vm_free(vm);
		return;
	}
	ASSERT_GE(fd, 0);
	hva = have_driver() ? map_host(SZ_2M, 0, MEMTYPE_TEST_WC, MEMTYPE_TEST_PREMAP) : self->hva;
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region2(vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, SZ_2M, hva, fd, 0);

	EXPECT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_NONE);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
	EXPECT_EQ(answer.intent, KVM_MEMTYPE_WB);
	EXPECT_EQ(answer.end, TEST_GPA + SZ_2M);

	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	let_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
	EXPECT_EQ(vm_statistic(vm, "memtype_wc"), 0);
	memory = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(memory, MAP_FAILED);
	EXPECT_EQ(READ_ONCE(*memory), PATTERN);
	munmap(memory, SZ_2M);
	kvm_vm_free(vm);
	close(fd);
}

/* Neither ioctl knows a flag beside that of memory types. */
TEST_F(query, unknown_memslot_flags)
{
	EXPECT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 1 << 14, TEST_GPA, SZ_2M,
					      self->hva), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(__vm_set_user_memory_region2(self->vm, TEST_SLOT, 1 << 14, TEST_GPA, SZ_2M,
					       self->hva, 0, 0), -1);
	EXPECT_EQ(errno, EINVAL);
}

/*
 * A page of the host has one type, and so have the guest's pages in it, which may be smaller.
 * Of two neighbours the second is WC to the host.
 */
TEST(granule)
{
	uint64_t page = getpagesize(), border = TEST_GPA + page, gpa;
	struct kvm_memtype answer, first = {};
	struct kvm_memtype_probe probe;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (only_ram())
		SKIP(return, ONLY_RAM);
	hva = map_host(2 * page, 0, MEMTYPE_TEST_WC, HALF_WC);
	ASSERT_NE(hva, MAP_FAILED);
	vm = create_vm(&vcpu, 1, 0);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, 2 * page, hva);
	for (gpa = TEST_GPA; gpa < border + page; gpa += SZ_4K) {
		ASSERT_EQ(get_memtype(vm, gpa, &answer), 0);
		EXPECT_EQ(answer.host, gpa < border ? KVM_MEMTYPE_WB : KVM_MEMTYPE_WC);
		EXPECT_EQ(answer.end, gpa < border ? border : border + page);
		if (gpa % page == 0)
			first = answer;
		first.gpa = gpa;
		EXPECT_EQ(memcmp(&answer, &first, sizeof(answer)), 0);
	}

	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	/* Pages of the guest on both sides of the border, mapped by the page of the host */
	ASSERT_EQ(vm->page_size, SZ_4K);
	for (gpa = border - SZ_4K; gpa <= border; gpa += SZ_4K) {
		probe = (struct kvm_memtype_probe) { .gpa = gpa, .gva = TEST_GVA + gpa - TEST_GPA };
		map_as(vm, probe.gva, gpa, KVM_MEMTYPE_WB);
		let_guest(vcpu, GUEST_READ, probe.gva, 0);
		ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe), 0);
		EXPECT_EQ(probe.size, page);
		EXPECT_EQ(walked_kind(&probe, KVM_MEMTYPE_WB).kind,
			  gpa < border || mtrrs_decide() ? KVM_MEMTYPE_WB : KVM_MEMTYPE_WC);
	}
	kvm_vm_free(vm);
}

#ifdef __x86_64__
/* No device is there, which an access does not notice on a PC. */
#define NOBODYS_PHYS	(256ul * SZ_1G)

/* As VFIO maps a large BAR */
TEST(entry_of_1g)
{
	uint64_t slot_gpa = 4ul * SZ_1G;
	struct kvm_memtype_probe probe = { .gpa = slot_gpa + SZ_512M, .gva = TEST_GVA };
	struct kvm_memtype answer;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!this_cpu_has(X86_FEATURE_GBPAGES))
		SKIP(return, "this CPU has no entries of 1G");
	hva = map_host(SZ_1G, NOBODYS_PHYS, MEMTYPE_TEST_UC, MEMTYPE_TEST_HUGE);
	ASSERT_NE(hva, MAP_FAILED);
	READ_ONCE(hva[0]);
	vm = create_vm(&vcpu, 1, 0);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, slot_gpa, SZ_1G, hva);
	ASSERT_EQ(get_memtype(vm, probe.gpa, &answer), 0);
	EXPECT_EQ(answer.attributes & KVM_MEMTYPE_ATTR_PREDICTED, 0);
	EXPECT_EQ(answer.intent, KVM_MEMTYPE_UC);
	EXPECT_EQ(answer.end, slot_gpa + SZ_1G);

	if (!have_probe(vcpu))
		SKIP(return, NO_PROBE);
	map_as(vm, probe.gva, probe.gpa, KVM_MEMTYPE_WB);
	let_guest(vcpu, GUEST_READ, probe.gva, 0);
	ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe), 0);
	/* Where no MTRR says anything, firmware leaves them at WB. */
	EXPECT_EQ(walked_kind(&probe, KVM_MEMTYPE_WB).kind,
		  mtrrs_decide() ? KVM_MEMTYPE_WB : KVM_MEMTYPE_UC);
	kvm_vm_free(vm);
}
#endif

/* Accesses that KVM cannot allow, and that it says so beforehand, then, and why. */
FIXTURE(refusal)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_SETUP(refusal)
{
	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = create_vm(&self->vcpu, 1, 0);
	map_as(self->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(refusal)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

TEST_F(refusal, unmapped)
{
	uint64_t refused = vm_statistic(self->vm, "memtype_refused");
	size_t size = getpagesize();
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, size, hva);
	munmap(hva, size);
	check_refusal(_metadata, self->vcpu, TEST_GPA, TEST_GVA, KVM_MEMTYPE_REFUSAL_UNMAPPED,
		      "unmapped");
	EXPECT_EQ(vm_statistic(self->vm, "memtype_refused"), refused + 1);
}

/* A lack of memory is not about the page: the next access may find some. */
TEST_F(refusal, no_memory)
{
	uint64_t refused = vm_statistic(self->vm, "memtype_refused");
	void *hva;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_WB, MEMTYPE_TEST_NOMEM);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	commands[0] = (struct guest_command) { GUEST_READ, TEST_GVA, 0 };
	sync_global_to_guest(self->vm, commands);
	EXPECT_EQ(_vcpu_run(self->vcpu), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_NE(self->vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	EXPECT_EQ(vm_statistic(self->vm, "memtype_refused"), refused);
}

/* Nor is a signal that kills the process while a driver gets at the page. */
TEST_F(refusal, killed)
{
	struct kvm_vcpu *vcpu;
	int status, driver;
	struct kvm_vm *vm;
	long waiting;
	void *hva;
	pid_t pid;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	driver = open(DRIVER, O_RDWR);
	ASSERT_GE(driver, 0);
	trace_event("kvm_memtype/kvm_memtype_refuse", true);
	pid = fork();
	if (!pid) {
		hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_WB, MEMTYPE_TEST_STUCK);
		TEST_ASSERT(hva != MAP_FAILED, DRIVER ": %s", strerror(errno));
		vm = create_vm(&vcpu, 1, 0);
		vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
		map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
		let_guest(vcpu, GUEST_READ, TEST_GVA, 0);
		_exit(1);
	}
	ASSERT_GT(pid, 0);
	while (!(waiting = ioctl(driver, MEMTYPE_TEST_WAITING))) {
		/* A child that has ended would never wait. */
		ASSERT_EQ(waitpid(pid, &status, WNOHANG), 0);
		usleep(1000);
	}
	ASSERT_EQ(waiting, 1);
	close(driver);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFSIGNALED(status));
	trace_event("kvm_memtype/kvm_memtype_refuse", false);
	EXPECT_FALSE(trace_has("kvm_memtype_refuse:", ""));
}

#ifdef __aarch64__
/* As soon as it shows: here the host has mapped it when the memslot is made. */
TEST_F(refusal, cacheable_memslot)
{
	uint64_t bar = frame_buffer();
	bool can_cache;
	int error = 0;
	void *hva;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!bar)
		SKIP(return, "no display");
	hva = map_host(HOST_SIZE, bar, MEMTYPE_TEST_WB, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(hva, MAP_FAILED);
	if (__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva))
		error = errno;
	can_cache = vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP;
	EXPECT_EQ(error, can_cache || only_ram() ? 0 : EINVAL);
}

/* What pKVM's hypervisor does not map: the guest need not use all that the memslot has. */
TEST_F(refusal, hypervisor)
{
	static const struct {
		bool device;
		uint32_t prot, flags;	/* MEMTYPE_TEST_* */
	} memory[] = {
		{ .prot = MEMTYPE_TEST_WC },
		{ .prot = MEMTYPE_TEST_UC },
		{ .prot = MEMTYPE_TEST_WB, .device = true },
		{ .prot = MEMTYPE_TEST_WC, .device = true },
		{ .prot = MEMTYPE_TEST_UC, .device = true, .flags = MEMTYPE_TEST_ANY_UNCACHED },
	};
	uint64_t bar = frame_buffer();
	struct kvm_memtype answer;
	void *hva;
	int i;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!bar)
		SKIP(return, "no display");
	if (!only_ram())
		SKIP(return, "KVM writes the stage 2 itself");
	for (i = 0; i < ARRAY_SIZE(memory); i++) {
		hva = map_host(HOST_SIZE, memory[i].device ? bar : 0, memory[i].prot,
			       memory[i].flags | MEMTYPE_TEST_PREMAP);
		ASSERT_NE(hva, MAP_FAILED);
		ASSERT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE,
						      hva), 0);
		check_refusal(_metadata, self->vcpu, TEST_GPA, TEST_GVA,
			      KVM_MEMTYPE_REFUSAL_HYPERVISOR, "hypervisor");

		/* Nothing is lost: the guest goes on once there is memory. */
		ASSERT_EQ(mmap(hva, HOST_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), hva);
		*(uint64_t *)hva = PATTERN;
		EXPECT_EQ(let_guest(self->vcpu, GUEST_READ, TEST_GVA, 0), PATTERN);
		ASSERT_EQ(__vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, 0, NULL),
			  0);
		munmap(hva, HOST_SIZE);
	}

	/* A driver that has mapped nothing yet may have any memory; this one has what is cached. */
	hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_WB, 0);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_HYPERVISOR);
	EXPECT_EQ(answer.attributes, KVM_MEMTYPE_ATTR_PREDICTED);
	let_guest(self->vcpu, GUEST_READ, TEST_GVA, 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, KVM_MEMTYPE_REFUSAL_NONE);
	EXPECT_EQ(answer.host, KVM_MEMTYPE_WB);
}

/*
 * A VM with MTE may have memory with tags, and whatever is not write-back: what is
 * refused, is refused as soon as it shows.
 */
static const struct mte_memory {
	const char *name;
	bool device;
	uint32_t prot, flags;	/* MEMTYPE_TEST_* */
	bool refused;
} mte_memory[] = {
	{ "WB memory of a driver", false, MEMTYPE_TEST_WB, 0, true },
	{ "WC memory of a driver", false, MEMTYPE_TEST_WC, 0, false },
	{ "UC memory of a driver", false, MEMTYPE_TEST_UC, 0, false },
	{ "WB device", true, MEMTYPE_TEST_WB, 0, true },
	{ "WC device", true, MEMTYPE_TEST_WC, 0, false },
	{ "UC device", true, MEMTYPE_TEST_UC, 0, false },
	{ "any-uncached device", true, MEMTYPE_TEST_UC, MEMTYPE_TEST_ANY_UNCACHED, false },
};

static struct kvm_vm *create_mte_vm(struct kvm_vcpu **vcpu)
{
	struct kvm_vm *vm = vm_create(1);

	vm_enable_cap(vm, KVM_CAP_ARM_MTE, 0);
	*vcpu = vm_vcpu_add(vm, 0, guest_main);
	vcpu_args_set(*vcpu, 1, 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	return vm;
}

TEST_F(refusal, mte_memslots)
{
	const struct mte_memory *memory;
	struct kvm_memtype answer;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int ret, fd;
	void *hva;

	if (!kvm_check_cap(KVM_CAP_ARM_MTE))
		SKIP(return, "no KVM_CAP_ARM_MTE");
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!frame_buffer())
		SKIP(return, "no display");
	vm = create_mte_vm(&vcpu);
	for (memory = mte_memory; memory < mte_memory + ARRAY_SIZE(mte_memory); memory++) {
		hva = map_host(HOST_SIZE, memory->device ? frame_buffer() : 0, memory->prot,
			       memory->flags | MEMTYPE_TEST_PREMAP);
		ASSERT_NE(hva, MAP_FAILED);
		ret = __vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
		EXPECT_EQ(ret ? errno : 0, memory->refused ? EINVAL : 0)
			TH_LOG("%s", memory->name);
		if (ret)
			continue;
		ASSERT_EQ(get_memtype(vm, TEST_GPA, &answer), 0);
		EXPECT_EQ(answer.refusal, 0);
		let_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
		EXPECT_EQ(let_guest(vcpu, GUEST_READ, TEST_GVA, 0), PATTERN);
		vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, 0, hva);
	}

	/* A file's pages have no tags, unless they are of tmpfs. */
	ASSERT_EQ(mkdir("/ramfs", 0700), 0);
	ASSERT_EQ(mount("ramfs", "/ramfs", "ramfs", 0, NULL), 0);
	fd = open("/ramfs/file", O_RDWR | O_CREAT, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, SZ_4K), 0);
	hva = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(hva, MAP_FAILED);
	EXPECT_EQ(__vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, hva), -1);
	EXPECT_EQ(errno, EINVAL);
	munmap(hva, SZ_4K);
	close(fd);
	umount("/ramfs");
	rmdir("/ramfs");
	kvm_vm_free(vm);
}

/* Write-back memory that cannot have tags comes to be where the memslot was checked. */
TEST_F(refusal, mte)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva, *other;

	if (!kvm_check_cap(KVM_CAP_ARM_MTE))
		SKIP(return, "no KVM_CAP_ARM_MTE");
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	vm = create_mte_vm(&vcpu);
	hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, SZ_2M, hva);
	let_guest(vcpu, GUEST_READ, TEST_GVA, 0);
	other = map_host(SZ_2M, 0, MEMTYPE_TEST_WB, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(other, MAP_FAILED);
	move_mapping(other, SZ_2M, hva);
	check_refusal(_metadata, vcpu, TEST_GPA, TEST_GVA, KVM_MEMTYPE_REFUSAL_MTE, "MTE");
	kvm_vm_free(vm);
}

/* Persistent memory is migrated as memory is, although it is none to memblock. */
TEST_F(refusal, logged_read)
{
	unsigned long dirty[HOST_SIZE / SZ_4K / (8 * sizeof(long))];
	void *hva, *other;

	if (!(vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP))
		SKIP(return, "no cacheable mapping of what is not memory");
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!frame_buffer())
		SKIP(return, "no display");
	hva = mmap(NULL, HOST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(hva, MAP_FAILED);
	vm_set_user_memory_region(self->vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA,
				  HOST_SIZE, hva);
	other = map_host(HOST_SIZE, frame_buffer(), MEMTYPE_TEST_WB, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(other, MAP_FAILED);
	move_mapping(other, HOST_SIZE, hva);

	let_guest(self->vcpu, GUEST_READ, TEST_GVA, 0);
	kvm_vm_get_dirty_log(self->vm, TEST_SLOT, dirty);
	EXPECT_EQ(dirty[0] & 1, 0);
	let_guest(self->vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
	kvm_vm_get_dirty_log(self->vm, TEST_SLOT, dirty);
	EXPECT_EQ(dirty[0] & 1, 1);
}
#endif

/* x86 lets a guest execute from a device; arm64 injects an abort, and KVM_RUN goes on. */
TEST_F(refusal, execution_is_none)
{
	struct kvm_memtype answer;
	uint32_t *hva;

	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!CANNOT_EXECUTE_DEVICE && !frame_buffer())
		SKIP(return, "no display");
	/* Bochs cannot fetch from a device; EPT has the same entry for UC memory. */
	if (CANNOT_EXECUTE_DEVICE)
		hva = map_host(HOST_SIZE, 0, MEMTYPE_TEST_UC,
			       MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_SET_RAM);
	else
		hva = map_host(HOST_SIZE, frame_buffer(), MEMTYPE_TEST_UC, MEMTYPE_TEST_PREMAP);
	ASSERT_NE(hva, MAP_FAILED);
	WRITE_ONCE(hva[0], RETURN_INSTRUCTION);
	vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, HOST_SIZE, hva);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	EXPECT_EQ(answer.refusal, only_ram() ? KVM_MEMTYPE_REFUSAL_HYPERVISOR :
					       KVM_MEMTYPE_REFUSAL_NONE);
	EXPECT_EQ(answer.attributes & KVM_MEMTYPE_ATTR_NOEXEC, only_ram() ? 0 : MMIO_NOEXEC);
#ifdef __aarch64__
	vm_init_descriptor_tables(self->vm);
	vcpu_init_descriptor_tables(self->vcpu);
	vm_install_sync_handler(self->vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_IABT_CUR,
				guest_instruction_abort);
#endif
	EXPECT_EQ(let_guest(self->vcpu, GUEST_EXECUTE, TEST_GVA, 0), !MMIO_NOEXEC);
}

TEST_HARNESS_MAIN
