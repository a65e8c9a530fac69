// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which memory type does a guest have, by the speed of its accesses? On a real CPU this needs
 * no page table and no answer of KVM's: loads of uncached memory are many times as slow as
 * loads that hit a cache, and stores that the CPU combines many times as fast as stores that
 * it does not. What it says is compared with what KVM says.
 *
 * Loads tell cached from uncached. Each is of another line, in an order that no prefetcher
 * follows, and depends on the one before, so that it is their latency that counts. The references
 * are the same loads of the host's own memory, which is write-back: once from a cache, and
 * once after each line was flushed. A guest whose RAM is all uncached by mistake is found,
 * too. If there is no difference between the references, the CPU is emulated, and all that
 * follows would mean nothing.
 *
 * Stores tell write-combining from uncached. They fill line by line, 64 bytes in order, and
 * the fence that waits for the last one is within the time. Whatever is written stays below
 * the size of a cache: of cached memory, it is the loads that tell.
 *
 * All kinds and both references take turns in each round, so that a CPU that changes its
 * frequency changes it for all of them; the median of the rounds leaves out those in which
 * the host did something else.
 *
 * With MEMTYPE_BAR in the environment, the name of a PCI resource file of sysfs, a guest does
 * the same to the first 32 KiB of that BAR, whose content is lost. It must be memory: a
 * framebuffer, for example.
 */
#include <sched.h>
#include <sys/stat.h>

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_guest.h"
#include "memtype_speed.h"

/* Two lines of 64 bytes, which some prefetchers fetch as one, or a line of 128 */
#define STRIDE		128
#define LINES		256
#define SIZE		(STRIDE * LINES)
/* How often memory is read and written in a round: 100 µs or more if it is uncached. */
#define LOAD_PASSES	16
#define STORE_PASSES	8
#define ROUNDS		15
#define LOADED		(8.0 * LINES * LOAD_PASSES)
#define STORED		((double)SIZE * STORE_PASSES)

#ifdef __x86_64__
#define COMBINES	true

/* All before has happened, also what the CPU was to combine, and nothing after has begun. */
static inline uint64_t settled_counter(void)
{
	asm volatile("mfence\n\t"
		     "lfence" : : : "memory");
	return rdtsc();
}

static inline void flush_line(uint64_t va)
{
	asm volatile("clflush (%0)" : : "r" (va) : "memory");
}

/* Ticks in a second; a guest's counter is as fast as its host's. */
static double frequency(struct kvm_vcpu *vcpu)
{
	int khz = __vcpu_ioctl(vcpu, KVM_GET_TSC_KHZ, NULL);

	TEST_ASSERT(khz > 0, "KVM does not know how fast the TSC is: %d", khz);
	return khz * 1000.0;
}

/* Another hypervisor has a say in the types of a virtual machine, which is not tested here. */
static bool is_virtual(char hypervisor[13])
{
	uint32_t eax, words[3];

	if (!this_cpu_has(X86_FEATURE_HYPERVISOR))
		return false;
	__cpuid(0x40000000, 0, &eax, &words[0], &words[1], &words[2]);
	memcpy(hypervisor, words, sizeof(words));
	hypervisor[12] = '\0';
	return true;
}
#endif

#ifdef __aarch64__
#include "arch_timer.h"

/* The Arm ARM permits it for Normal-NC, and demands it of no CPU. */
#define COMBINES	false

static inline uint64_t settled_counter(void)
{
	asm volatile("dsb sy" : : : "memory");
	return timer_get_cntct(VIRTUAL);
}

static inline void flush_line(uint64_t va)
{
	asm volatile("dc civac, %0" : : "r" (va) : "memory");
}

static double frequency(struct kvm_vcpu *vcpu)
{
	return timer_get_cntfrq();
}

/* The CPU does not say it. */
static bool is_virtual(char hypervisor[13])
{
	return false;
}
#endif

/* Ticks of so many loads, none of which can begin before the one before has ended */
static inline uint64_t time_loads(uint64_t va, uint64_t loads)
{
	uint64_t start, value = 0, zero = 0, line = 0, i;

	/* The compiler must not know it, and the CPU does not guess. */
	asm volatile("" : "+r" (zero));
	start = settled_counter();
	for (i = 0; i < loads; i++) {
		value = READ_ONCE(*(uint64_t *)(va + line * STRIDE + (value & zero)));
		line = (line * 5 + 3) % LINES;
	}
	return settled_counter() - start;
}

static inline uint64_t time_stores(uint64_t va)
{
	uint64_t start = settled_counter(), pass, offset;

	for (pass = 0; pass < STORE_PASSES; pass++)
		for (offset = 0; offset < SIZE; offset += sizeof(uint64_t))
			WRITE_ONCE(*(uint64_t *)(va + offset), pass);
	return settled_counter() - start;
}

/* What the guest asks for, by enum speed_kind */
static const uint8_t asked[SPEED_KINDS] = { KVM_MEMTYPE_WB, KVM_MEMTYPE_WC, KVM_MEMTYPE_UC };

/* In ticks, of a round of the guest */
static struct sample {
	uint64_t loads, stores;
} samples[SPEED_KINDS];

static inline uint64_t gva_of(int kind)
{
	return TEST_GVA + kind * SIZE;
}

static void speed_guest(void)
{
	for (;;) {
		int kind;

		for (kind = 0; kind < SPEED_KINDS; kind++) {
			/* Stores first: they bring into a cache what can be there. */
			samples[kind].stores = time_stores(gva_of(kind));
			samples[kind].loads = time_loads(gva_of(kind), LINES * LOAD_PASSES);
		}
		GUEST_SYNC(0);
	}
}

static uint64_t time_flushed_loads(uint64_t va)
{
	uint64_t ticks = 0;
	int pass, line;

	for (pass = 0; pass < LOAD_PASSES; pass++) {
		for (line = 0; line < LINES; line++)
			flush_line(va + line * STRIDE);
		ticks += time_loads(va, LINES);
	}
	return ticks;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static double median(uint64_t values[ROUNDS])
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	/* A counter that is too slow to see it saw less than one tick. */
	return values[ROUNDS / 2] ?: 1;
}

/* In GB/s: all that a guest does in each round, and the host beside it */
static void measure(struct kvm_vcpu *vcpu, struct speeds *speeds)
{
	uint64_t loads[SPEED_KINDS][ROUNDS], stores[SPEED_KINDS][ROUNDS];
	uint64_t cached[ROUNDS], flushed[ROUNDS], va;
	double giga = frequency(vcpu) / 1e9;
	void *memory = NULL;
	struct ucall uc;
	int round, kind;

	TEST_ASSERT(!posix_memalign(&memory, SZ_64K, SIZE), "no memory");
	memset(memory, 1, SIZE);
	va = (uintptr_t)memory;
	pin_self_to_cpu(sched_getcpu());
	for (round = 0; round < ROUNDS; round++) {
		vcpu_run(vcpu);
		TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
			    vcpu->run->exit_reason);
		sync_global_from_guest(vcpu->vm, samples);
		for (kind = 0; kind < SPEED_KINDS; kind++) {
			loads[kind][round] = samples[kind].loads;
			stores[kind][round] = samples[kind].stores;
		}
		flushed[round] = time_flushed_loads(va);
		cached[round] = time_loads(va, LINES * LOAD_PASSES);
	}
	free(memory);
	speeds->combines = COMBINES;
	speeds->cached = LOADED * giga / median(cached);
	speeds->flushed = LOADED * giga / median(flushed);
	for (kind = 0; kind < SPEED_KINDS; kind++) {
		speeds->loads[kind] = LOADED * giga / median(loads[kind]);
		speeds->stores[kind] = STORED * giga / median(stores[kind]);
	}
}

FIXTURE(speed)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_VARIANT(speed)
{
	const char *name;
	uint64_t policy;
	bool bar;
};

FIXTURE_VARIANT_ADD(speed, honor) {
	.name = "RAM", .policy = KVM_MEMTYPE_POLICY_HONOR,
};

FIXTURE_VARIANT_ADD(speed, legacy) {
	.name = "RAM, legacy", .policy = KVM_MEMTYPE_POLICY_LEGACY,
};

FIXTURE_VARIANT_ADD(speed, stage1) {
	.name = "RAM, stage1", .policy = KVM_MEMTYPE_POLICY_STAGE1,
};

FIXTURE_VARIANT_ADD(speed, bar) {
	.name = "BAR", .policy = KVM_MEMTYPE_POLICY_HONOR, .bar = true,
};

/* The start of a BAR; MAP_FAILED if it is too small, or sysfs does not map it. */
static void *map_resource(const char *path)
{
	int fd = open(path, O_RDWR);
	void *bar = MAP_FAILED;
	struct stat stat;

	if (fd >= 0 && !fstat(fd, &stat) && stat.st_size >= SZ_64K)
		bar = mmap(NULL, SZ_64K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	return bar;
}

/* Where a kind has its memory: each has its own of RAM, which is never mapped as two types. */
static uint64_t gpa_of(bool bar, int kind)
{
	return TEST_GPA + (bar ? 0 : kind * SZ_64K);
}

FIXTURE_SETUP(speed)
{
	const char *path = getenv("MEMTYPE_BAR"), *why = why_not(variant->policy, 0);
	char hypervisor[13];
	uint64_t offset;
	void *bar;
	int kind;

	if (variant->bar && !path)
		SKIP(return, "no BAR was given (MEMTYPE_BAR)");
	if (is_virtual(hypervisor))
		SKIP(return, "this machine is virtual itself (%s)", hypervisor);
	if (why)
		SKIP(return, "%s", why);
	self->vm = create_vm_without_vcpus(1, variant->policy);
	self->vcpu = vm_vcpu_add(self->vm, 0, speed_guest);
	init_guest_types(self->vcpu);
	if (variant->bar) {
		bar = map_resource(path);
		TEST_ASSERT(bar != MAP_FAILED, "%s: no BAR of 64 KiB that can be mapped", path);
		vm_set_user_memory_region(self->vm, TEST_SLOT, 0, TEST_GPA, SZ_64K, bar);
	} else {
		vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
					    SPEED_KINDS * SZ_64K / self->vm->page_size, 0);
	}
	for (kind = 0; kind < SPEED_KINDS; kind++)
		for (offset = 0; offset < SIZE; offset += SZ_4K)
			map_as(self->vm, gva_of(kind) + offset,
			       gpa_of(variant->bar, kind) + offset, asked[kind]);
}

FIXTURE_TEARDOWN(speed)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

TEST_F(speed, is_that_of_the_type)
{
	static const char * const verdicts[] = {
		[SPEED_FITS] = "fits", [SPEED_DIFFERS] = "differs", [SPEED_UNCLEAR] = "unclear",
	};
	const char *unclear = NULL;
	uint8_t types[SPEED_KINDS];
	struct kvm_memtype answer;
	enum speed_verdict verdict;
	struct speeds speeds;
	bool differs = false;
	int kind;

	measure(self->vcpu, &speeds);
	ksft_print_msg("memtype-speed: on=%s host: loads cached %.3f, flushed %.3f GB/s\n",
		       variant->name, speeds.cached, speeds.flushed);
	for (kind = 0; kind < SPEED_KINDS; kind++)
		ksft_print_msg("memtype-speed: on=%s guest=%s loads %.3f, stores %.3f GB/s: %s\n",
			       variant->name, kind_names[asked[kind]], speeds.loads[kind],
			       speeds.stores[kind], speed_name(&speeds, kind));
	fflush(stdout);
	if (!speed_has_caches(&speeds))
		SKIP(return, "flushed lines are as fast as cached ones: an emulated CPU");
	if (!have_layer())
		SKIP(return, NO_LAYER);

	for (kind = 0; kind < SPEED_KINDS; kind++) {
		ASSERT_EQ(get_memtype(self->vm, gpa_of(variant->bar, kind), &answer), 0);
		types[kind] = answer.effective[asked[kind]];
	}
	for (kind = 0; kind < SPEED_KINDS; kind++) {
		verdict = speed_verdict(&speeds, types, kind);
		differs |= verdict == SPEED_DIFFERS;
		if (verdict == SPEED_UNCLEAR)
			unclear = kind_names[asked[kind]];
		ksft_print_msg("memtype-speed: on=%s guest=%s KVM says %s: %s\n", variant->name,
			       kind_names[asked[kind]], kind_names[types[kind]],
			       verdicts[verdict]);
		EXPECT_NE(verdict, SPEED_DIFFERS);
	}
	fflush(stdout);
	/* A skip would hide that another kind differs. */
	if (!differs && unclear)
		SKIP(return, "the speed of the guest's %s does not tell its type", unclear);
}

/*
 * What speeds say, with numbers of the kind that CPUs have, in GB/s. The first three are the
 * loads and stores of WB, WC and UC, and then follow the types that KVM says.
 */
FIXTURE(decision)
{
};

FIXTURE_VARIANT(decision)
{
	struct speeds speeds;
	uint8_t types[SPEED_KINDS];
	enum speed_verdict verdicts[SPEED_KINDS];
	const char *names[SPEED_KINDS];
};

#define TYPES(wb, wc, uc)	{ KVM_MEMTYPE_##wb, KVM_MEMTYPE_##wc, KVM_MEMTYPE_##uc }
#define SPEEDS(...)		{ .cached = 5, .flushed = 0.09, .combines = true, __VA_ARGS__ }
#define LOADS(...)		.loads = { __VA_ARGS__ }
#define STORES(...)		.stores = { __VA_ARGS__ }
/* The same of all kinds */
#define ALL_FIT			{ SPEED_FITS, SPEED_FITS, SPEED_FITS }
#define ALL_DIFFER		{ SPEED_DIFFERS, SPEED_DIFFERS, SPEED_DIFFERS }
#define ALL_UNCLEAR		{ SPEED_UNCLEAR, SPEED_UNCLEAR, SPEED_UNCLEAR }

/* A guest that may choose gets what it asks for. */
FIXTURE_VARIANT_ADD(decision, honored) {
	.speeds = SPEEDS(LOADS(4.8, 0.07, 0.06), STORES(24, 6, 0.2)),
	.types = TYPES(WB, WC, UC), .verdicts = ALL_FIT,
	.names = { "cached", "write-combining", "uncached, not combining" },
};

/* It gets write-back whatever it asks for, and KVM says so. */
FIXTURE_VARIANT_ADD(decision, forced) {
	.speeds = SPEEDS(LOADS(4.8, 4.7, 4.9), STORES(24, 25, 23)),
	.types = TYPES(WB, WB, WB), .verdicts = ALL_FIT,
	.names = { "cached", "cached", "cached" },
};

/* KVM says that its choice counts, and it does not. */
FIXTURE_VARIANT_ADD(decision, forced_unsaid) {
	.speeds = SPEEDS(LOADS(4.8, 4.7, 4.9), STORES(24, 25, 23)),
	.types = TYPES(WB, WC, UC), .verdicts = { SPEED_FITS, SPEED_DIFFERS, SPEED_DIFFERS },
	.names = { "cached", "cached", "cached" },
};

/* KVM says that its choice does not count, and it does. */
FIXTURE_VARIANT_ADD(decision, honored_unsaid) {
	.speeds = SPEEDS(LOADS(4.8, 0.07, 0.06), STORES(24, 6, 0.2)),
	.types = TYPES(WB, WB, WB), .verdicts = { SPEED_FITS, SPEED_DIFFERS, SPEED_DIFFERS },
	.names = { "cached", "write-combining", "uncached, not combining" },
};

/* Its RAM is uncached by mistake. */
FIXTURE_VARIANT_ADD(decision, all_uncached) {
	.speeds = SPEEDS(LOADS(0.06, 0.06, 0.06), STORES(0.2, 0.2, 0.2)),
	.types = TYPES(WB, WC, UC), .verdicts = ALL_DIFFER,
	.names = { "uncached", "uncached", "uncached" },
};

/* WC became UC, and KVM does not say so ... */
FIXTURE_VARIANT_ADD(decision, wc_is_uc_unsaid) {
	.speeds = SPEEDS(LOADS(4.8, 0.06, 0.06), STORES(24, 0.21, 0.2)),
	.types = TYPES(WB, WC, UC), .verdicts = { SPEED_FITS, SPEED_DIFFERS, SPEED_DIFFERS },
	.names = { "cached", "uncached", "uncached" },
};

/* ... which is no proof where a CPU need not combine ... */
FIXTURE_VARIANT_ADD(decision, wc_may_be_uc) {
	.speeds = {
		.cached = 5, .flushed = 0.09, LOADS(4.8, 0.06, 0.06), STORES(24, 0.21, 0.2),
	},
	.types = TYPES(WB, WC, UC), .verdicts = { SPEED_FITS, SPEED_UNCLEAR, SPEED_UNCLEAR },
	.names = { "cached", "uncached", "uncached" },
};

/* ... or it does: a device that is mapped UC for good */
FIXTURE_VARIANT_ADD(decision, wc_is_uc) {
	.speeds = SPEEDS(LOADS(0.008, 0.008, 0.008), STORES(0.05, 0.05, 0.06)),
	.types = TYPES(UC, UC, UC), .verdicts = ALL_FIT,
	.names = { "uncached", "uncached", "uncached" },
};

/* Both combine, and KVM says so, or says that UC does not. */
FIXTURE_VARIANT_ADD(decision, uc_is_wc) {
	.speeds = SPEEDS(LOADS(0.008, 0.008, 0.008), STORES(3, 3, 3.1)),
	.types = TYPES(WC, WC, WC), .verdicts = ALL_FIT,
	.names = { "uncached", "uncached", "uncached" },
};

FIXTURE_VARIANT_ADD(decision, uc_is_wc_unsaid) {
	.speeds = SPEEDS(LOADS(0.008, 0.008, 0.008), STORES(3, 3, 3.1)),
	.types = TYPES(UC, WC, UC), .verdicts = { SPEED_FITS, SPEED_DIFFERS, SPEED_DIFFERS },
	.names = { "uncached", "uncached", "uncached" },
};

/* The two are mixed up. */
FIXTURE_VARIANT_ADD(decision, swapped) {
	.speeds = SPEEDS(LOADS(4.8, 0.06, 0.07), STORES(24, 0.2, 6)),
	.types = TYPES(WB, WC, UC), .verdicts = { SPEED_FITS, SPEED_DIFFERS, SPEED_DIFFERS },
	.names = { "cached", "uncached, not combining", "write-combining" },
};

/* It has caches, which make no difference of stores that is large enough. */
FIXTURE_VARIANT_ADD(decision, perhaps_combines) {
	.speeds = SPEEDS(LOADS(4.8, 0.07, 0.06), STORES(24, 0.4, 0.2)),
	.types = TYPES(WB, WC, UC), .verdicts = { SPEED_FITS, SPEED_UNCLEAR, SPEED_UNCLEAR },
	.names = { "cached", "uncached", "uncached" },
};

/* Loads are in the middle: a second-level cache, or a host that was disturbed in each round. */
FIXTURE_VARIANT_ADD(decision, between) {
	.speeds = SPEEDS(LOADS(0.67, 0.07, 0.06), STORES(24, 6, 0.2)),
	.types = TYPES(WB, WC, UC), .verdicts = { SPEED_UNCLEAR, SPEED_FITS, SPEED_FITS },
	.names = { "unclear", "write-combining", "uncached, not combining" },
};

/* Only UC is uncached, so that no stores can be compared. */
FIXTURE_VARIANT_ADD(decision, wc_is_cached) {
	.speeds = SPEEDS(LOADS(4.8, 4.7, 0.06), STORES(24, 24, 0.2)),
	.types = TYPES(WB, WB, UC), .verdicts = ALL_FIT,
	.names = { "cached", "cached", "uncached" },
};

/* An emulator: nothing is as on a CPU, whatever the numbers are. */
FIXTURE_VARIANT_ADD(decision, emulated) {
	.speeds = {
		.cached = 0.30, .flushed = 0.29, LOADS(0.2, 0.02, 0.2), STORES(0.2, 0.01, 0.3),
	},
	.types = TYPES(WB, WC, UC), .verdicts = ALL_UNCLEAR,
};

FIXTURE_SETUP(decision)
{
}

FIXTURE_TEARDOWN(decision)
{
}

TEST_F(decision, is_right)
{
	int kind;

	for (kind = 0; kind < SPEED_KINDS; kind++) {
		EXPECT_EQ(speed_verdict(&variant->speeds, variant->types, kind),
			  variant->verdicts[kind]);
		if (speed_has_caches(&variant->speeds))
			EXPECT_STREQ(speed_name(&variant->speeds, kind), variant->names[kind]);
	}
}

TEST_HARNESS_MAIN
