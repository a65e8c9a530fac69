// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a VM's memory types from several threads, while vCPUs run in the
 * same memory, what backs it comes and goes, a device comes and goes whose DMA does not
 * snoop, and the debugfs table is read.
 *
 *	memtype_fuzz [operations [seed]]
 *
 * Each operation has to end, with success or with an errno that is documented. What the
 * kernel prints meanwhile is for whoever runs this to judge. The seed makes the choices
 * the same again, but not the order in which threads make them.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "memtype_guest.h"

#define OPERATIONS	1000000
#define WORKERS		3
#define VCPUS		2
#define READERS		2

/* Of so many operations one is such, the others are queries. */
#define ONE_IN_MEMSLOT		100
#define ONE_IN_POLICY		16
/* Of so many calls one is of another kind than most: */
#define ONE_IN_BAD_POINTER	16
#define ONE_IN_BAD_FIELD	32	/* each field of a query that must be something */
#define ONE_IN_NEW_VM		32	/* policies, which fail for a VM with vCPUs */
#define ONE_IN_WILD		8	/* policies and flags that nobody has ever defined */
#define ONE_IN_OFFSET		4	/* memslots that begin in the middle of a piece */
#define ONE_IN_SYNC		32	/* accesses of the guest, after which it says so */
#define ONE_IN_DMA		16	/* exits, at which the device comes or goes */
/* In microseconds, so that the operations have most of the CPUs */
#define PAUSE			200
#define READER_PAUSE		1000

/* Pieces of memory, each with a backing, and each a memslot or a part of one or neither. */
#define PIECE		SZ_512K
#define PIECES		8
#define SPAN		((uint64_t)PIECE * PIECES)
#define KINDS		ARRAY_SIZE(guest_kinds)

/* What backs a piece, of which some are files, or what becomes of it */
enum backing {
	BACKING_ANONYMOUS, BACKING_SHMEM, BACKING_MIXEDMAP, BACKING_WC, BACKING_MKWRITE,
	BACKING_EMPTY_FILE, NR_FILES,
	BACKING_NO_ACCESS = NR_FILES, BACKING_READ_ONLY, BACKING_DISCARD, NR_BACKINGS
};

/* The results that are documented; 0 is success. Memory must not be short here. */
enum call {
	CALL_QUERY, CALL_BAD_QUERY, CALL_BAD_POINTER, CALL_POLICY, CALL_USED_POLICY,
	CALL_MEMSLOT, CALL_RUN,
};

static const struct {
	const char *name;
	int results[3], nr;
} calls[] = {
	/* memtype.rst (Documentation/virt/kvm), "KVM_GET_MEMTYPE" */
	[CALL_QUERY] = { "KVM_GET_MEMTYPE", { 0, ENOENT }, 2 },
	[CALL_BAD_QUERY] = { "KVM_GET_MEMTYPE of what is not 0", { EINVAL }, 1 },
	[CALL_BAD_POINTER] = { "KVM_GET_MEMTYPE of a bad pointer", { EFAULT }, 1 },
	/* The same, "KVM_ENABLE_CAP(KVM_CAP_MEMTYPE)" */
	[CALL_POLICY] = { "KVM_ENABLE_CAP", { 0, EINVAL }, 2 },
	[CALL_USED_POLICY] = { "KVM_ENABLE_CAP of a VM with vCPUs", { EINVAL, EBUSY }, 2 },
	/* api.rst and memtype.rst say what is wrong; EEXIST of an overlap is kvm_main.c's */
	[CALL_MEMSLOT] = { "KVM_SET_USER_MEMORY_REGION", { 0, EINVAL, EEXIST }, 3 },
	/* memtype.rst, "When an access is refused", see check_refused(); EINTR is tried again */
	[CALL_RUN] = { "KVM_RUN", { 0, EFAULT }, 2 },
};

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[VCPUS];
static char *span;
static int files[NR_FILES];
static unsigned int address_spaces;
static bool have_dma;
static atomic_bool stop, failed;
static atomic_long left, answers, refused_runs, changed_slots, tables, syncs;

/* xorshift64: Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003 */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline bool one_in(uint64_t *state, unsigned int n)
{
	return next_random(state) % n == 0;
}

static void guest_fuzz(uint64_t seed)
{
	for (;;) {
		uint64_t random = next_random(&seed);
		uint64_t gva = TEST_GVA + random % (SPAN * KINDS) / 8 * 8;

		if (random >> 63)
			WRITE_ONCE(*(uint64_t *)gva, random);
		else
			READ_ONCE(*(uint64_t *)gva);
		if (one_in(&seed, ONE_IN_SYNC))
			GUEST_SYNC(0);
	}
}

/* All goes on, so that what else is wrong is said, too. */
static void check_result(enum call call, int result)
{
	int i;

	for (i = 0; i < calls[call].nr; i++)
		if (calls[call].results[i] == result)
			return;
	ksft_print_msg("%s: %s is not documented\n", calls[call].name,
		       result ? strerror(result) : "success");
	failed = true;
}

static void fuzz_query(uint64_t *state)
{
	struct kvm_memtype query = {
		.gpa = TEST_GPA - SZ_1M + next_random(state) % (SPAN + SZ_2M),
		.as_id = one_in(state, ONE_IN_BAD_FIELD) ? next_random(state) % 4 : 0,
		.flags = one_in(state, ONE_IN_BAD_FIELD) ? next_random(state) : 0,
		.padding = one_in(state, ONE_IN_BAD_FIELD) ? next_random(state) : 0,
	};
	bool bad = query.flags || query.padding || query.as_id >= address_spaces;
	bool bad_pointer = one_in(state, ONE_IN_BAD_POINTER);
	/* Nothing is ever mapped below mmap_min_addr. */
	struct kvm_memtype *argument = bad_pointer ? (struct kvm_memtype *)8 : &query;
	uint64_t gpa = query.gpa;
	int result = __vm_ioctl(vm, KVM_GET_MEMTYPE, argument) ? errno : 0;

	check_result(bad_pointer ? CALL_BAD_POINTER : bad ? CALL_BAD_QUERY : CALL_QUERY, result);
	if (result)
		return;
	answers++;
	TEST_ASSERT(query.gpa == gpa && query.end > gpa && !query.refusal == !!query.intent &&
		    !query.refusal == !!query.host && !query.refusal == !!query.source,
		    "gpa %#lx: gpa %#llx end %#llx host %u intent %u source %u refusal %u", gpa,
		    query.gpa, query.end, query.host, query.intent, query.source, query.refusal);
}

/* Of the VM, which has vCPUs, or of a new one: no policy, one, or several at once. */
static void fuzz_policy(uint64_t *state)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MEMTYPE,
		.flags = one_in(state, ONE_IN_WILD) ? next_random(state) : 0,
		.args = {
			one_in(state, ONE_IN_WILD) ? next_random(state) : next_random(state) % 8,
			one_in(state, ONE_IN_WILD) ? next_random(state) : 0,
		},
	};
	struct kvm_vm *other = one_in(state, ONE_IN_NEW_VM) ? vm_create_barebones() : NULL;
	int result = __vm_ioctl(other ?: vm, KVM_ENABLE_CAP, &cap) ? errno : 0;

	check_result(other ? CALL_POLICY : CALL_USED_POLICY, result);
	if (other)
		kvm_vm_free(other);
}

static void fuzz_memslot(uint64_t *state)
{
	static const uint32_t flags[] = {
		0, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_FORCE_WB, KVM_MEM_READONLY, 1 << 14,
	};
	uint64_t start = next_random(state) % PIECES * PIECE, size;
	uint32_t slot = TEST_SLOT + next_random(state) % PIECES;
	int result;

	if (one_in(state, ONE_IN_OFFSET))
		start += SZ_4K;
	/* Removed, or one piece or two, of which only as much is used as there is. */
	size = one_in(state, 2) ? 0 : PIECE << (next_random(state) & 1);
	size = size < SPAN - start ? size : SPAN - start;
	result = __vm_set_user_memory_region(vm, slot,
					     flags[next_random(state) % ARRAY_SIZE(flags)],
					     TEST_GPA + start, size, span + next_random(state) %
					     PIECES * PIECE % (SPAN - size)) ? errno : 0;
	check_result(CALL_MEMSLOT, result);
	changed_slots += !result;
}

static void *worker(void *seed)
{
	uint64_t state = (uint64_t)seed;
	long operation;

	while ((operation = left--) > 0) {
		if (!(operation % ONE_IN_MEMSLOT))
			fuzz_memslot(&state);
		else if (!(operation % ONE_IN_POLICY))
			fuzz_policy(&state);
		else
			fuzz_query(&state);
	}
	return NULL;
}

/* What is at a piece of memory changes. Of page frames, nothing can be discarded. */
static void *change_backings(void *seed)
{
	uint64_t state = (uint64_t)seed;
	bool pfnmap[PIECES] = {};

	for (; !stop; usleep(PAUSE)) {
		int i = next_random(&state) % PIECES, flags, result = 0;
		enum backing backing = next_random(&state) % NR_BACKINGS;
		char *piece = span + i * PIECE;

		if (backing == BACKING_NO_ACCESS) {
			result = mprotect(piece, PIECE, PROT_NONE);
		} else if (backing == BACKING_READ_ONLY) {
			result = mprotect(piece, PIECE, PROT_READ);
		} else if (backing == BACKING_DISCARD) {
			result = madvise(piece, PIECE, MADV_DONTNEED);
			if (pfnmap[i])
				result = !(result && errno == EINVAL);
		} else {
			flags = files[backing] < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
			result = mmap(piece, PIECE, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
				      files[backing], 0) != piece;
			pfnmap[i] = backing == BACKING_WC || backing == BACKING_MKWRITE;
		}
		TEST_ASSERT(!result, "backing %u: %s", backing, strerror(errno));
	}
	return NULL;
}

/*
 * Of the causes of EFAULT, memtype.rst names those without the layer's exit: a lack of
 * memory, private memory, and two of arm64 that a guest cannot bring about. None of them
 * is here; memtype_query_test has the first two. So a refusal says what is refused.
 */
static void check_refused(const struct kvm_run *run)
{
	TEST_ASSERT(run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
		    run->memory_fault.flags == KVM_MEMTYPE_EXIT_REFUSED &&
		    run->memory_fault.size == SZ_4K && !(run->memory_fault.gpa % SZ_4K) &&
		    run->memory_fault.gpa - TEST_GPA < SPAN,
		    "EFAULT, exit reason %u, flags %#llx, gpa %#llx", run->exit_reason,
		    run->memory_fault.flags, run->memory_fault.gpa);
	refused_runs++;
}

static void *run_vcpu(void *data)
{
	struct kvm_vcpu *vcpu = data;
	uint64_t state = vcpu->id + 1;
	bool dma = false;
	int result;

	while (!stop) {
		result = _vcpu_run(vcpu) ? errno : 0;
		check_result(CALL_RUN, result);
		if (result == EFAULT) {
			check_refused(vcpu->run);
			/* Until another thread maps something there */
			usleep(PAUSE);
		} else if (get_ucall(vcpu, NULL) == UCALL_SYNC) {
			syncs++;
		} else {
			TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_MMIO, "exit reason %u",
				    vcpu->run->exit_reason);
		}
		if (have_dma && one_in(&state, ONE_IN_DMA)) {
			dma = !dma;
			set_noncoherent_dma(vcpu, dma);
		}
	}
	if (dma)
		set_noncoherent_dma(vcpu, false);
	return NULL;
}

static void *read_tables(void *unused)
{
	char line[256];
	FILE *table;

	for (; !stop; usleep(READER_PAUSE)) {
		table = open_table(vm);
		while (fgets(line, sizeof(line), table))
			;
		TEST_ASSERT(!ferror(table), "the table: %s", strerror(errno));
		fclose(table);
		tables++;
	}
	return NULL;
}

static int driver_piece(uint32_t prot, uint32_t flags)
{
	struct memtype_test_setup setup = { .size = PIECE, .prot = prot, .flags = flags };
	int fd = driver_file(&setup);

	TEST_ASSERT(fd >= 0, DRIVER ": %s", strerror(errno));
	return fd;
}

/* What the VM is follows from the seed, too. */
static void create_fuzzed_vm(uint64_t seed)
{
	static const uint64_t policies[] = {
		KVM_MEMTYPE_POLICY_HONOR, KVM_MEMTYPE_POLICY_LEGACY, KVM_MEMTYPE_POLICY_STAGE1,
	};
	int nr = ARRAY_SIZE(policies) - !!why_not(KVM_MEMTYPE_POLICY_STAGE1, 0), i;
	uint64_t policy = policies[next_random(&seed) % nr], offset, gva = TEST_GVA;
	uint32_t force = why_not(0, KVM_MEM_FORCE_WB) ? 0 : KVM_MEM_FORCE_WB;

	vm = vm_create(VCPUS);
	vm_enable_cap(vm, KVM_CAP_MEMTYPE, policy);
	for (i = 0; i < VCPUS; i++) {
		vcpus[i] = vm_vcpu_add(vm, i, guest_fuzz);
		vcpu_args_set(vcpus[i], 1, next_random(&seed));
		init_guest_types(vcpus[i]);
	}
	for (i = 0; i < KINDS; i++) {
		for (offset = 0; offset < SPAN; offset += SZ_4K, gva += SZ_4K)
			map_as(vm, gva, TEST_GPA + offset, guest_kinds[i]);
	}
	for (i = 0; i < PIECES; i++)
		vm_set_user_memory_region(vm, TEST_SLOT + i, one_in(&seed, 2) ? force : 0,
					  TEST_GPA + i * PIECE, PIECE, span + i * PIECE);
	address_spaces = vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) ?: 1;
	have_dma = have_probe(vcpus[0]) && one_in(&seed, 2);
	ksft_print_msg("policy %lu, DMA %d\n", policy, have_dma);
}

static pthread_t start(void *(*function)(void *data), void *data)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, function, data);

	TEST_ASSERT(!error, "pthread_create: %s", strerror(error));
	return thread;
}

int main(int argc, char **argv)
{
	long operations = argc > 1 ? atol(argv[1]) : OPERATIONS;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : time(NULL);
	pthread_t workers[WORKERS], others[VCPUS + READERS + 1];
	int i, nr = 0;

	ksft_print_header();
	if (!have_layer() || !have_driver())
		ksft_exit_skip("%s\n", have_layer() ? NO_DRIVER : NO_LAYER);
	ksft_set_plan(2);
	ksft_print_msg("seed %lu, %ld operations\n", seed, operations);

	files[BACKING_ANONYMOUS] = -1;
	files[BACKING_SHMEM] = memfd_create("backing", 0);
	TEST_ASSERT(!ftruncate(files[BACKING_SHMEM], PIECE), "memfd");
	files[BACKING_EMPTY_FILE] = memfd_create("empty", 0);
	files[BACKING_MIXEDMAP] = driver_piece(MEMTYPE_TEST_WB, MEMTYPE_TEST_MIXEDMAP);
	files[BACKING_WC] = driver_piece(MEMTYPE_TEST_WC,
					 MEMTYPE_TEST_PREMAP | MEMTYPE_TEST_UNTRACKED);
	files[BACKING_MKWRITE] = driver_piece(MEMTYPE_TEST_WB, MEMTYPE_TEST_MKWRITE);
	span = mmap(NULL, SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(span != MAP_FAILED, "mmap");
	/* Xorshift never leaves 0, and takes a while to leave small numbers. */
	seed = seed * 0x9e3779b97f4a7c15ull | 1;
	create_fuzzed_vm(seed);
	left = operations;

	for (i = 0; i < VCPUS; i++)
		others[nr++] = start(run_vcpu, vcpus[i]);
	for (i = 0; i < READERS; i++)
		others[nr++] = start(read_tables, NULL);
	others[nr++] = start(change_backings, (void *)next_random(&seed));
	for (i = 0; i < WORKERS; i++)
		workers[i] = start(worker, (void *)next_random(&seed));
	for (i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	stop = true;
	for (i = 0; i < nr; i++)
		pthread_join(others[i], NULL);

	ksft_print_msg("%ld answers, %ld memslots, %ld refusals, %ld tables, %ld signs of life\n",
		       answers, changed_slots, refused_runs, tables, syncs);
	ksft_test_result(!failed, "documented results only\n");
	ksft_test_result(answers && changed_slots && refused_runs && tables && syncs,
			 "all of it happened\n");
	kvm_vm_free(vm);
	ksft_finished();
}
