// SPDX-License-Identifier: GPL-2.0-only
/*
 * One allocation after the other fails, in all that the memory types of a VM have to do with:
 * the VM itself, its memslots and policy, first faults, queries and the end. A call that fails
 * says ENOMEM, or EFAULT if it is KVM_RUN, has changed nothing, and succeeds the next time. What
 * the kernel prints meanwhile, and what leaks, is for whoever runs this to judge.
 */
#include <dirent.h>

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "../iommu/fault_injection.h"
#include "memtype_guest.h"

#define VM_DIRECTORIES	"/sys/kernel/debug/kvm"

/* What is in a memslot */
static const struct memory {
	const char *name;
	uint64_t size;
	uint32_t prot, flags;
	bool driver;
} memories[] = {
	{ "anonymous", 0, 0, 0, false },
	{ "anonymous 2M", SZ_2M, 0, 0, false },
	{ "WC page frames", 0, MEMTYPE_TEST_WC, 0, true },
	{ "WC page frames, 2M", SZ_2M, MEMTYPE_TEST_WC, MEMTYPE_TEST_HUGE, true },
	{ "WC pages", 0, MEMTYPE_TEST_WC, MEMTYPE_TEST_MIXEDMAP | MEMTYPE_TEST_PREMAP, true },
	{ "written later", 0, MEMTYPE_TEST_WC, MEMTYPE_TEST_MKWRITE, true },
};

FIXTURE(fail_nth)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int faults;
};

FIXTURE_SETUP(fail_nth)
{
	self->faults = faults_open();
	if (self->faults < 0)
		SKIP(return, "this kernel injects no faults");
	self->vm = create_vm(&self->vcpu, 1, 0);
	map_as(self->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WC);
}

FIXTURE_TEARDOWN(fail_nth)
{
	if (self->faults >= 0)
		kvm_vm_free(self->vm);
	close(self->faults);
}

/* With nothing mapped yet, if the memory is such. */
static void *map_memory(const struct memory *memory, uint64_t *size)
{
	void *hva;

	*size = memory->size ?: getpagesize();
	if (memory->driver)
		return map_host(*size, 0, memory->prot, memory->flags);
	hva = mmap(NULL, *size + SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hva == MAP_FAILED)
		return hva;
	hva += -(uintptr_t)hva & (SZ_2M - 1);
	return madvise(hva, *size, memory->size ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ? MAP_FAILED :
										   hva;
}

static int set_memslot(struct kvm_vm *vm, uint64_t size, void *hva)
{
	return __vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, size, hva) ? errno : 0;
}

/* A new VM, in which the guest has not accessed the memory yet. */
static struct kvm_vm *create_vm_with(const struct memory *memory, struct kvm_vcpu **vcpu,
				     void **hva, uint64_t *size)
{
	struct kvm_vm *vm = create_vm(vcpu, 1, 0);

	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WC);
	*hva = map_memory(memory, size);
	TEST_ASSERT(*hva != MAP_FAILED, "%s: %s", memory->name, strerror(errno));
	TEST_ASSERT(!set_memslot(vm, *size, *hva), "%s: no memslot", memory->name);
	return vm;
}

TEST_F(fail_nth, memslot)
{
	uint64_t size;
	int i, nth, error;
	bool happened;
	void *hva;

	for (i = 0; i < ARRAY_SIZE(memories); i++) {
		if (memories[i].driver && !have_driver())
			continue;
		hva = map_memory(&memories[i], &size);
		ASSERT_NE(hva, MAP_FAILED);
		for (nth = 1, happened = true; happened; nth++) {
			faults_on(self->faults, nth);
			error = set_memslot(self->vm, size, hva);
			happened = faults_off(self->faults);
			if (error) {
				ASSERT_TRUE(happened);
				ASSERT_EQ(error, ENOMEM);
				ASSERT_EQ(set_memslot(self->vm, size, hva), 0);
			}
			/* It goes as it came. */
			faults_on(self->faults, nth);
			error = set_memslot(self->vm, 0, hva);
			happened |= faults_off(self->faults);
			if (error) {
				ASSERT_EQ(error, ENOMEM);
				ASSERT_EQ(set_memslot(self->vm, 0, hva), 0);
			}
		}
		EXPECT_GT(nth, 2);
		munmap(hva, size);
	}
}

static void check_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    vcpu->run->exit_reason);
}

/* In a new VM each time, because KVM keeps what it has allocated for the next fault. */
TEST_F(fail_nth, first_fault)
{
	int i, nth, error, failed;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	uint64_t size;
	bool happened;
	void *hva;

	for (i = 0; i < ARRAY_SIZE(memories); i++) {
		if (memories[i].driver && !have_driver())
			continue;
		failed = 0;
		for (nth = 1, happened = true; happened; nth++) {
			vm = create_vm_with(&memories[i], &vcpu, &hva, &size);
			commands[0] = (struct guest_command) { GUEST_WRITE, TEST_GVA, PATTERN };
			sync_global_to_guest(vm, commands);

			faults_on(self->faults, nth);
			/* The library's own function also gets registers. */
			error = __vcpu_run(vcpu) ? errno : 0;
			happened = faults_off(self->faults);
			if (error) {
				ASSERT_TRUE(happened)
					TH_LOG("%s: %s", memories[i].name, strerror(error));
				EXPECT_TRUE(error == ENOMEM || error == EFAULT);
				/* It says nothing about the page. */
				EXPECT_FALSE(vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
					     vcpu->run->memory_fault.flags &
					     KVM_MEMTYPE_EXIT_REFUSED)
					TH_LOG("%s, allocation %d", memories[i].name, nth);
				vcpu_run(vcpu);
				failed++;
			}
			check_sync(vcpu);
			ASSERT_EQ(READ_ONCE(*(uint64_t *)hva), PATTERN);
			kvm_vm_free(vm);
			munmap(hva, size);
		}
		printf("# %s: %d of %d allocations are needed for the first access\n",
		       memories[i].name, failed, nth - 2);
		EXPECT_GT(failed, 0);
	}
}

/* Nothing of this needs memory, and all of it is done. */
TEST_F(fail_nth, policy)
{
	static const uint64_t policies[] = {
		KVM_MEMTYPE_POLICY_LEGACY, KVM_MEMTYPE_POLICY_STAGE1, KVM_MEMTYPE_POLICY_HONOR,
	};
	uint64_t size;
	bool happened;
	void *hva;
	int i, on, nth;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		struct kvm_vm *vm = vm_create_barebones();
		bool possible = !__vm_enable_cap(vm, KVM_CAP_MEMTYPE, policies[i]);

		faults_on(self->faults, 1);
		EXPECT_EQ(!__vm_enable_cap(vm, KVM_CAP_MEMTYPE, policies[i]), possible);
		EXPECT_FALSE(faults_off(self->faults));
		kvm_vm_free(vm);
	}
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);

	/* On x86 all that is mapped may have to go. */
	hva = map_memory(&memories[0], &size);
	ASSERT_NE(hva, MAP_FAILED);
	ASSERT_EQ(set_memslot(self->vm, size, hva), 0);
	for (on = 1; on >= 0; on--) {
		for (nth = 1, happened = true; happened; nth++) {
			let_guest(self->vcpu, GUEST_WRITE, TEST_GVA, PATTERN + nth);
			faults_on(self->faults, nth);
			set_noncoherent_dma(self->vcpu, on);
			happened = faults_off(self->faults);
			let_guest(self->vcpu, GUEST_WRITE, TEST_GVA, PATTERN + 2 * nth);
			EXPECT_EQ(READ_ONCE(*(uint64_t *)hva), PATTERN + 2 * nth);
			if (happened)
				set_noncoherent_dma(self->vcpu, !on);
		}
	}
}

/* Of the debugfs table of a VM; returns its length, or -errno. */
static int read_table(struct kvm_vm *vm, char *text, size_t size)
{
	char path[128];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), VM_DIRECTORIES "/%d-%d/memtype", getpid(), vm->fd);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	length = read(fd, text, size);
	if (length < 0)
		length = -errno;
	close(fd);
	return length;
}

TEST_F(fail_nth, query)
{
	static char reference[SZ_16K], text[SZ_16K];
	struct kvm_memtype answer, other;
	int nth, length, complete;
	uint64_t size;
	bool happened;
	void *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	hva = map_memory(&memories[0], &size);
	ASSERT_NE(hva, MAP_FAILED);
	ASSERT_EQ(set_memslot(self->vm, size, hva), 0);
	let_guest(self->vcpu, GUEST_WRITE, TEST_GVA, PATTERN);

	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	faults_on(self->faults, 1);
	EXPECT_EQ(get_memtype(self->vm, TEST_GPA, &other), 0);
	EXPECT_FALSE(faults_off(self->faults));
	EXPECT_EQ(memcmp(&answer, &other, sizeof(answer)), 0);

	complete = read_table(self->vm, reference, sizeof(reference));
	ASSERT_GT(complete, 0);
	for (nth = 1, happened = true; happened; nth++) {
		faults_on(self->faults, nth);
		length = read_table(self->vm, text, sizeof(text));
		happened = faults_off(self->faults);
		if (length < 0) {
			ASSERT_TRUE(happened);
			EXPECT_EQ(length, -ENOMEM);
		} else {
			EXPECT_EQ(length, complete);
			EXPECT_EQ(memcmp(text, reference, complete), 0);
		}
	}
	EXPECT_GT(nth, 2);
}

static int count_vms(void)
{
	DIR *dir = opendir(VM_DIRECTORIES);
	struct dirent *entry;
	char prefix[32];
	int count = 0;

	TEST_ASSERT(dir, VM_DIRECTORIES ": %s", strerror(errno));
	snprintf(prefix, sizeof(prefix), "%d-", getpid());
	while ((entry = readdir(dir)))
		count += !strncmp(entry->d_name, prefix, strlen(prefix));
	closedir(dir);
	return count;
}

TEST_F(fail_nth, create)
{
	int before = count_vms(), nth, fd, error;
	bool happened;

	for (nth = 1, happened = true; happened; nth++) {
		faults_on(self->faults, nth);
		fd = ioctl(self->vm->kvm_fd, KVM_CREATE_VM, self->vm->type);
		error = errno;
		happened = faults_off(self->faults);
		if (fd < 0) {
			ASSERT_TRUE(happened);
			EXPECT_EQ(error, ENOMEM)
				TH_LOG("allocation %d: %s", nth, strerror(error));
		} else {
			close(fd);
		}
		ASSERT_EQ(count_vms(), before);
	}
	EXPECT_GT(nth, 2);
}

/* The file descriptors go without the library, which would want each call to succeed. */
TEST_F(fail_nth, destroy)
{
	int i, nth, before = count_vms();
	int run_size = ioctl(self->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	uint64_t size;
	bool happened;
	void *hva;

	for (i = 0; i < ARRAY_SIZE(memories); i++) {
		if (memories[i].driver && !have_driver())
			continue;
		for (nth = 1, happened = true; happened; nth++) {
			vm = create_vm_with(&memories[i], &vcpu, &hva, &size);
			let_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
			faults_on(self->faults, nth);
			munmap(vcpu->run, run_size);
			close_statistics(vm, vcpu);
			close(vcpu->fd);
			close(vm->fd);
			munmap(hva, size);
			happened = faults_off(self->faults);
			ASSERT_EQ(count_vms(), before);
		}
	}
}

TEST_HARNESS_MAIN
