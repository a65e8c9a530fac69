// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long does a change of the memslots wait for those who read the table in debugfs, and
 * how long does a reader who is killed go on? The machine's clock counts instructions, so
 * that the answer does not depend on how fast it is.
 *
 * It has one CPU. What a change on another CPU would spend on waiting for mmu_lock, which a
 * reader holds, shows here as the time that the reader does not let the CPU go.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "memtype_walk.h"

/* Mapped by pages of 4 KiB, all of which are the zero page, and looked at area by area. */
#define BIG_GPA		(4ull * SZ_1G)
#define BIG_SIZE	(SZ_1G + SZ_512M)
#define BIG_AREA	SZ_64K
#define BIG_SLOT	TEST_SLOT
#define SMALL_SLOT	(TEST_SLOT + 1)
#define ROUNDS		50
#define WARM_UP		5
/*
 * In nanoseconds, each of which is an instruction. A worker of SRCU may wait for a tick. Where
 * the kernel can be preempted lazily, which is the default of kernels that say PREEMPT, it does
 * so at each step of a grace period, as long as the reader does not return to userspace; but
 * not for as long as the whole table takes, which is 95 ms.
 */
#define MORE		10000000ull
#define MORE_LAZY	60000000ull
#define PAUSE		1000000ull

FIXTURE(table)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *page;
};

static void guest_nothing(void)
{
}

FIXTURE_SETUP(table)
{
	struct kvm_pre_fault_memory range = { .gpa = BIG_GPA, .size = BIG_SIZE };
	uint64_t offset;
	void *big;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = vm_create_with_one_vcpu(&self->vcpu, guest_nothing);
	/* Else the end of a small memslot unmaps the big one, too. */
	vm_enable_cap(self->vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);
	self->page = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->page, MAP_FAILED);
	big = mmap(NULL, BIG_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(big, MAP_FAILED);
	ASSERT_EQ(madvise(big, BIG_SIZE, MADV_NOHUGEPAGE), 0);
	ASSERT_EQ(madvise(big, BIG_SIZE, MADV_POPULATE_READ), 0);
	for (offset = 0; offset < BIG_SIZE; offset += 2 * BIG_AREA)
		ASSERT_EQ(madvise(big + offset, BIG_AREA, MADV_DONTDUMP), 0);
	vm_set_user_memory_region(self->vm, BIG_SLOT, 0, BIG_GPA, BIG_SIZE, big);
	while (range.size)
		ASSERT_EQ(__vcpu_ioctl(self->vcpu, KVM_PRE_FAULT_MEMORY, &range), 0);
}

FIXTURE_TEARDOWN(table)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NSEC_PER_SEC + time.tv_nsec;
}

static atomic_bool stop;

/* Reads to the end; how many KiB the table says that are mapped. */
static unsigned long read_table(struct kvm_vm *vm)
{
	unsigned long mapped, most = 0;
	FILE *table = open_table(vm);
	char line[256];

	while (fgets(line, sizeof(line), table)) {
		if (sscanf(line, "%*d %*x %*x %*d %*s %*s %*s %*s %*s %*s %lu", &mapped) == 1)
			most = max(most, mapped);
	}
	fclose(table);
	return most;
}

/*
 * Takes the CPU only while nobody else wants it: what others wait for is not the CPU. A second
 * one would take it from a reader of SRCU where the kernel can be preempted.
 */
static void *read_tables(void *data)
{
	struct sched_param param = {};
	unsigned long tables = 0;

	TEST_ASSERT(!sched_setscheduler(0, SCHED_IDLE, &param), "SCHED_IDLE");
	for (; !stop; tables++)
		TEST_ASSERT(read_table(data) == BIG_SIZE / SZ_1K, "part of the table");
	return (void *)tables;
}

/*
 * The longest of many changes, from when it was to start, in nanoseconds; the first ones
 * are not counted.
 */
static uint64_t longest_change(struct kvm_vm *vm, void *page)
{
	uint64_t start, longest = 0;
	struct timespec time;
	int i;

	for (i = -WARM_UP; i < ROUNDS; i++) {
		/* Let the reader get somewhere else. */
		start = now() + PAUSE * (1 + (i & 7));
		time = (struct timespec) {
			.tv_sec = start / NSEC_PER_SEC, .tv_nsec = start % NSEC_PER_SEC,
		};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
		vm_set_user_memory_region(vm, SMALL_SLOT, 0, TEST_GPA, SZ_4K, page);
		vm_set_user_memory_region(vm, SMALL_SLOT, 0, TEST_GPA, 0, page);
		if (i >= 0)
			longest = max(longest, now() - start);
	}
	return longest;
}

static uint64_t most_wait(void)
{
	struct utsname name;

	TEST_ASSERT(!uname(&name), "uname()");
	return strstr(name.version, "PREEMPT") ? MORE_LAZY : MORE;
}

TEST_F(table, memslots_wait)
{
	struct sched_param first = { .sched_priority = 1 };
	uint64_t alone, beside;
	pthread_t reader;
	void *tables;

	/* It gets the CPU as soon as a reader lets it go. */
	ASSERT_EQ(sched_setscheduler(0, SCHED_FIFO, &first), 0);
	ASSERT_EQ(read_table(self->vm), BIG_SIZE / SZ_1K);
	alone = longest_change(self->vm, self->page);
	ASSERT_EQ(pthread_create(&reader, NULL, read_tables, self->vm), 0);
	beside = longest_change(self->vm, self->page);
	stop = true;
	pthread_join(reader, &tables);
	EXPECT_GT((unsigned long)tables, 0);
	ksft_print_msg("the longest change: %lu ns alone, %lu beside a reader\n", alone, beside);
	EXPECT_LE(beside, alone + most_wait());
}

/* Of which one page is mapped for each piece that KVM counts at a time. */
#define SPARSE_SIZE	(128ull * SZ_1G)
#define SPARSE_PIECE	SZ_32M

/* A reader who is killed does not count to the end of a large range. */
TEST(killed_reader)
{
	uint64_t start, all, rest, offset;
	struct kvm_vcpu *vcpu;
	struct timespec pause;
	struct kvm_vm *vm;
	char line[256];
	FILE *table;
	pid_t child;
	int status;
	void *hva;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm = vm_create_with_one_vcpu(&vcpu, guest_nothing);
	hva = mmap(NULL, SPARSE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(hva, MAP_FAILED);
	ASSERT_EQ(madvise(hva, SPARSE_SIZE, MADV_NOHUGEPAGE), 0);
	vm_set_user_memory_region(vm, BIG_SLOT, 0, BIG_GPA, SPARSE_SIZE, hva);
	for (offset = 0; offset < SPARSE_SIZE; offset += SPARSE_PIECE) {
		struct kvm_pre_fault_memory page = { .gpa = BIG_GPA + offset, .size = SZ_4K };

		ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &page), 0);
	}

	start = now();
	EXPECT_EQ(read_table(vm), SPARSE_SIZE / SPARSE_PIECE * SZ_4K / SZ_1K);
	all = now() - start;
	table = open_table(vm);
	child = fork();
	if (!child) {
		while (fgets(line, sizeof(line), table))
			;
		_exit(0);
	}
	pause = (struct timespec) { .tv_nsec = all / 4 };
	nanosleep(&pause, NULL);
	start = now();
	kill(child, SIGKILL);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	rest = now() - start;
	EXPECT_TRUE(WIFSIGNALED(status));
	ksft_print_msg("all of the table: %lu ns; killed after %lu, it took %lu more\n", all,
		       all / 4, rest);
	EXPECT_LT(rest, all / 4);
	fclose(table);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
