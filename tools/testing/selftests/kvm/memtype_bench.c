// SPDX-License-Identifier: GPL-2.0-only
/*
 * What does the memory type layer cost? Counts the instructions of a fault at
 * the second stage and of KVM_GET_MEMTYPE, where the counter that guest and
 * host can read counts instructions. On some emulators it does: a loop of known
 * length shows whether. Elsewhere the numbers are ticks and mean little.
 *
 * The guest reads the counter around its first access to a page, so that the
 * difference is exit, handling and entry. The host's memory is there already,
 * and so are the page tables above the entry for all but a few faults. Timer
 * interrupts of the host hit some of them; the median leaves both out, as long
 * as nothing else takes time between two faults.
 *
 * tools/testing/memtype/bench.py reads the lines "# memtype-bench:".
 */
#include <linux/kvm_memtype.h>
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	10
#define TEST_GPA	0x10000000ul
#define AWAY_GPA	0x40000000ul
#define TEST_GVA	0x40000000ul
#define ROUNDS		8
#define MAX_PAGES	512
#define LOOPS		10000
/* Of a counter that counts instructions: reading it takes some, too. */
#define TOLERANCE	(LOOPS / 100)

#ifdef __x86_64__
static uint64_t counter(void)
{
	return rdtsc();
}

/* Two instructions for each of @loops. */
static void count_down(uint64_t loops)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (loops) : : "cc");
}
#endif

#ifdef __aarch64__
#include "arch_timer.h"

static uint64_t counter(void)
{
	return timer_get_cntct(VIRTUAL);
}

static void count_down(uint64_t loops)
{
	asm volatile("1: subs %0, %0, #1\n\t"
		     "b.ne 1b" : "+r" (loops) : : "cc");
}
#endif

/* In ticks of the counter, by page; of the guest. */
static struct sample {
	uint64_t first;		/* the access that faults */
	uint64_t second;	/* one elsewhere in the same page, which does not */
} samples[MAX_PAGES];

static uint64_t timed_loop(void)
{
	uint64_t start = counter();

	count_down(LOOPS);
	return counter() - start;
}

/* Each page is mapped twice, at its start and at its middle. */
static void guest_main(uint64_t nr_pages)
{
	for (;;) {
		for (uint64_t i = 0; i < nr_pages; i++) {
			uint64_t *page = (uint64_t *)(TEST_GVA + i * 2 * SZ_4K), t[3];

			t[0] = counter();
			WRITE_ONCE(page[0], i);
			t[1] = counter();
			WRITE_ONCE(page[SZ_4K / sizeof(*page)], i);
			t[2] = counter();
			samples[i] = (struct sample) { t[1] - t[0], t[2] - t[1] };
		}
		GUEST_SYNC(timed_loop());
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static uint64_t median(uint64_t *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

/* On stdout, which the harness does not flush when a test ends. */
static void report(const char *what, uint64_t *values, size_t nr, uint64_t *loops, size_t nr_loops)
{
	uint64_t loop = median(loops, nr_loops);
	bool counts = labs((long)loop - 2 * LOOPS) <= TOLERANCE;

	ksft_print_msg("%d instructions take %lu ticks\n", 2 * LOOPS, loop);
	ksft_print_msg("memtype-bench: what=%s median=%lu unit=%s of=%zu\n", what,
		       median(values, nr), counts ? "instructions" : "ticks", nr);
	fflush(stdout);
}

/* Returns the guest's timed_loop(). */
static uint64_t let_guest(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    vcpu->run->exit_reason);
	return uc.args[1];
}

/* Guest memory that the host has, in pages of @page_size, and the guest has not touched. */
static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, enum vm_mem_backing_src_type backing,
				uint64_t page_size, int nr_pages)
{
	uint64_t size = nr_pages * page_size, offset;
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, guest_main);
	int i;

	vm_userspace_mem_region_add(vm, backing, TEST_GPA, TEST_SLOT, size / getpagesize(), 0);
	for (offset = 0; offset < size; offset += getpagesize())
		WRITE_ONCE(*(uint64_t *)addr_gpa2hva(vm, TEST_GPA + offset), offset);
	for (i = 0; i < nr_pages; i++) {
		offset = page_size > SZ_4K ? page_size / 2 : 0;
		virt_pg_map(vm, TEST_GVA + i * 2 * SZ_4K, TEST_GPA + i * page_size);
		virt_pg_map(vm, TEST_GVA + (i * 2 + 1) * SZ_4K, TEST_GPA + i * page_size + offset);
	}
	vcpu_args_set(*vcpu, 1, (uint64_t)nr_pages);
	return vm;
}

FIXTURE(fault)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_VARIANT(fault)
{
	const char *name;
	enum vm_mem_backing_src_type backing;
	uint64_t page_size;
	int nr_pages;
};

FIXTURE_VARIANT_ADD(fault, 4k) {
	.name = "4K-fault", .backing = VM_MEM_SRC_ANONYMOUS, .page_size = SZ_4K,
	.nr_pages = MAX_PAGES,
};

FIXTURE_VARIANT_ADD(fault, 2m) {
	.name = "2M-fault", .backing = VM_MEM_SRC_ANONYMOUS_THP, .page_size = SZ_2M,
	.nr_pages = 32,
};

FIXTURE_SETUP(fault)
{
	self->vm = create_vm(&self->vcpu, variant->backing, variant->page_size, variant->nr_pages);
}

FIXTURE_TEARDOWN(fault)
{
	kvm_vm_free(self->vm);
}

TEST_F(fault, cost)
{
	uint64_t faults[ROUNDS * MAX_PAGES], seconds[ROUNDS * MAX_PAGES], loops[ROUNDS];
	int n = 0, round, i;

	for (round = 0; round < ROUNDS; round++) {
		/* A memslot that moves loses its second-stage mappings. */
		vm_mem_region_move(self->vm, TEST_SLOT, AWAY_GPA);
		vm_mem_region_move(self->vm, TEST_SLOT, TEST_GPA);
		loops[round] = let_guest(self->vcpu);
		sync_global_from_guest(self->vm, samples);
		for (i = 0; i < variant->nr_pages; i++, n++) {
			faults[n] = samples[i].first - samples[i].second;
			seconds[n] = samples[i].second;
		}
	}
	report(variant->name, faults, n, loops, ROUNDS);
	/* Or else nothing faulted, or the mapping is smaller than the page. */
	EXPECT_LT(10 * median(seconds, n), median(faults, n));
}

TEST(query)
{
	uint64_t queries[MAX_PAGES], loops[ROUNDS], t[3];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	if (!(kvm_check_cap(KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_QUERY))
		SKIP(return, "this kernel has no guest memory types");
	vm = create_vm(&vcpu, VM_MEM_SRC_ANONYMOUS, SZ_4K, MAX_PAGES);
	let_guest(vcpu);
	for (i = 0; i < MAX_PAGES; i++) {
		struct kvm_memtype query = { .gpa = TEST_GPA + i * SZ_4K };
		int ret;

		t[0] = counter();
		ret = __vm_ioctl(vm, KVM_GET_MEMTYPE, &query);
		t[1] = counter();
		t[2] = counter();
		TEST_ASSERT(!ret, "KVM_GET_MEMTYPE: %s", strerror(errno));
		queries[i] = t[1] - t[0] - (t[2] - t[1]);
	}
	for (i = 0; i < ROUNDS; i++)
		loops[i] = timed_loop();
	report("query", queries, MAX_PAGES, loops, ROUNDS);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
