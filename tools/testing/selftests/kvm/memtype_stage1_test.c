// SPDX-License-Identifier: GPL-2.0-only
/*
 * arm64: is memory maintained where a guest may bypass the caches? That is all
 * memory of a VM with KVM_MEMTYPE_POLICY_STAGE1 or on a CPU without FWB, and in
 * every VM memory that the host itself maps uncached:
 *
 *  - It is cleaned and invalidated before it is mapped, and after it is unmapped:
 *    first the entry is cleared, then the TLBs are invalidated, then the memory,
 *    or else the guest could fill a cache with it again.
 *  - A block that is split keeps its type.
 *  - All memory is cleaned and invalidated when the guest turns its caches on or
 *    off or maintains them by set/way, and unmapped when a vCPU is reset.
 *
 * No emulator models caches. So kprobes record what KVM calls, and at each call the
 * stage-2 entry of the memory that is watched.
 */
#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_guest.h"

#define KPROBES		TRACING "/kprobe_events"
#define ENABLE		TRACING "/events/memtype/enable"
/* A split visits each new entry. */
#define MAX_EVENTS	4000

#define PTE_VALID	BIT_ULL(0)
#define PTE_ADDRESS	GENMASK_ULL(47, 12)
#define SCTLR_C		BIT_ULL(2)

/* MemAttr[3:0] of stage 2 */
#define DEVICE_NGNRE	0x1
#define NORMAL_NC	0x5
#define FORCED_WB	0x6
#define AS_STAGE1	0x7
#define WB_WITHOUT_FWB	0xf

#define NO_STAGE1	"this kernel or CPU has no stage-1 mode"
#define NO_MTE		"KVM has no MTE here"
#define NO_KPROBES	"this kernel has no CONFIG_KPROBE_EVENTS"
#define NO_VHE		"this instrument needs VHE"

/* Kernel address of the entry that is watched. */
static uint64_t *watched_entry;

/* A call, two of its arguments or what it returned, and the watched entry then. */
struct event {
	char name[16];
	uint64_t a, b, pte;
};

static struct event events[MAX_EVENTS];
static int nr_events;

#define PROBE(name, symbol, a, b)	\
	"p:memtype/" name " " symbol " a=" a " b=" b " pte=+0(+u0(\\%1$#lx))\n"
#define RETURN(name, symbol)		\
	"r:memtype/" name " " symbol " a=$retval:x32 b=$retval:x32 pte=+0(+u0(\\%1$#lx))\n"

/* For snprintf(), with &watched_entry. */
static const char probes[] =
	PROBE("map", "kvm_pgtable_stage2_map", "%%x1", "%%x2")
	RETURN("map_end", "kvm_pgtable_stage2_map")
	PROBE("unmap", "kvm_pgtable_stage2_unmap", "%%x1", "%%x2")
	RETURN("unmap_end", "kvm_pgtable_stage2_unmap")
	PROBE("split", "kvm_pgtable_stage2_split", "%%x1", "%%x2")
	RETURN("split_end", "kvm_pgtable_stage2_split")
	PROBE("tlbi", "__kvm_tlb_flush_vmid_ipa", "%%x1", "%%x2")
	PROBE("tlbi_range", "__kvm_tlb_flush_vmid_range", "%%x1", "%%x2")
	PROBE("flush", "dcache_clean_inval_poc", "%%x0", "%%x1")
	PROBE("toggle", "kvm_toggle_cache", "%%x1", "%%x1")
	PROBE("set_way", "kvm_set_way_flush", "%%x1", "%%x1")
	/* struct kvm_pgtable_visit_ctx begins with ptep; after four more words comes addr. */
	"p:memtype/visit stage2_map_walker a=+40(%%x0) b=+0(%%x0) pte=@memstart_addr\n";

/*
 * Two pages or blocks of memory. The first is mapped from the start and keeps the
 * tables in place, and the second is watched.
 */
struct watch {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	void *hva;
	uint64_t size;		/* of each */
	uint64_t gpa, gva;	/* of the second */
	uint64_t memstart;	/* physical address where the linear map starts */
	uint64_t linear;	/* offset of the second there */
};

static bool is(const struct event *event, const char *name)
{
	return !strcmp(event->name, name);
}

static bool have_stage1(void)
{
	return have_layer() && kvm_check_cap(KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_STAGE1;
}

static void remove_probes(void)
{
	if (access(KPROBES, F_OK))
		return;
	/* Fails if there are none. */
	write_file(ENABLE, "0");
	TEST_ASSERT(!write_file(KPROBES, ""), "cannot remove kprobes");
}

/* Once per test, for it takes a while. */
static void install_probes(void)
{
	static bool installed;
	char text[2048];

	if (installed)
		return;
	TEST_ASSERT(snprintf(text, sizeof(text), probes, (uint64_t)&watched_entry) <
		    (int)sizeof(text), "too many kprobes");
	/* There may be some of a test that failed. */
	remove_probes();
	TEST_ASSERT(!write_file(KPROBES, text) && !write_file(ENABLE, "1") &&
		    !write_file(TRACING "/trace_clock", "global"),
		    "no kprobes, see " TRACING "/error_log");
	installed = true;
}

static void start_record(void)
{
	TEST_ASSERT(!write_file(TRACING "/trace", ""), "trace: %s", strerror(errno));
}

/* Reads what was recorded, which must be all that happened. */
static void stop_record(void)
{
	unsigned long kept, written, missed;
	char line[512], *text;
	FILE *file;

	file = fopen(TRACING "/kprobe_profile", "r");
	TEST_ASSERT(file, "kprobe_profile: %s", strerror(errno));
	while (fscanf(file, "%*s %*u %lu", &missed) == 1)
		TEST_ASSERT(!missed, "%lu hits of a kprobe were missed", missed);
	fclose(file);

	file = fopen(TRACING "/trace", "r");
	TEST_ASSERT(file, "trace: %s", strerror(errno));
	nr_events = 0;
	while (fgets(line, sizeof(line), file)) {
		struct event *event = &events[nr_events];

		if (sscanf(line, "# entries-in-buffer/entries-written: %lu/%lu", &kept,
			   &written) == 2)
			TEST_ASSERT(kept == written, "only %lu of %lu events", kept, written);
		if (line[0] == '#')
			continue;
		/* task, CPU, flags and time; name; where it was called or returned */
		text = strstr(line, ": ");
		TEST_ASSERT(text && sscanf(text, ": %15[^:]: (%*[^)]) a=%lx b=%lx pte=%lx",
					   event->name, &event->a, &event->b, &event->pte) == 4,
			    "cannot read: %s", line);
		TEST_ASSERT(++nr_events < MAX_EVENTS, "too many events");
	}
	fclose(file);
}

static int probe_at(struct watch *watch, uint64_t offset, struct kvm_memtype_probe *probe)
{
	*probe = (struct kvm_memtype_probe) { .gpa = TEST_GPA + offset, .gva = TEST_GVA + offset };
	return __vcpu_ioctl(watch->vcpu, KVM_MEMTYPE_PROBE, probe);
}

static void *map_ram(uint64_t size)
{
	char *room = mmap(NULL, size + SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	TEST_ASSERT(room != MAP_FAILED, "mmap: %s", strerror(errno));
	room += -(uintptr_t)room & (SZ_2M - 1);
	TEST_ASSERT(!madvise(room, size, size < SZ_2M ? MADV_NOHUGEPAGE : MADV_HUGEPAGE),
		    "madvise: %s", strerror(errno));
	return room;
}

/* Of blocks when their memslot is logged; 0 for not before they are written to. */
static uint64_t split_chunk = SZ_2M;

/* KVM wants to know before there is any memslot, but create_vm() has made one. */
static void split_eagerly(struct kvm_vm *vm)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);

	vm_set_user_memory_region(vm, 0, 0, 0, 0, NULL);
	vm_enable_cap(vm, KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE, split_chunk);
	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
}

/*
 * Watches memory of which each page or block has @size: what is at @hva, or with
 * NULL memory of the test's own. Returns why it cannot, for SKIP().
 */
static const char *open_watch(struct watch *watch, uint64_t policy, uint64_t size, void *hva)
{
	struct kvm_memtype_probe probe;
	const struct event *event;

	*watch = (struct watch) {
		.size = size, .gpa = TEST_GPA + size, .gva = TEST_GVA + size,
		.hva = hva ?: map_ram(2 * size),
	};
	if (access(KPROBES, F_OK))
		return NO_KPROBES;
	watch->vm = create_vm(&watch->vcpu, 1, policy);
	if (!have_probe(watch->vcpu))
		return NO_PROBE;
	split_eagerly(watch->vm);
	vm_set_user_memory_region(watch->vm, TEST_SLOT, 0, TEST_GPA, 2 * size, watch->hva);
	map_as(watch->vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	map_as(watch->vm, watch->gva, watch->gpa, KVM_MEMTYPE_WB);

	install_probes();
	start_record();
	let_guest(watch->vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
	stop_record();
	TEST_ASSERT(!probe_at(watch, 0, &probe), "the first is not mapped");
	TEST_ASSERT(probe.size == size, "the first is mapped by %llu bytes", probe.size);
	if (!probe.par_valid)
		return NO_VHE;

	/* The last one on the way down is the leaf, and the watched entry is next to it. */
	watched_entry = NULL;
	for (event = events; event < events + nr_events; event++) {
		if (is(event, "visit") && event->a == TEST_GPA) {
			watched_entry = (uint64_t *)event->b + 1;
			watch->memstart = event->pte;
		}
	}
	TEST_ASSERT(watched_entry, "the entry was not found");
	return NULL;
}

static void close_watch(struct watch *watch)
{
	kvm_vm_free(watch->vm);
	munmap(watch->hva, 2 * watch->size);
}

/* Maps the watched memory by an access to it. Returns its MemAttr. */
static int map_watched(struct watch *watch, enum guest_op access)
{
	struct kvm_memtype_probe probe;

	let_guest(watch->vcpu, access, watch->gva, PATTERN);
	TEST_ASSERT(!probe_at(watch, watch->size, &probe), "it is not mapped");
	TEST_ASSERT(probe.size == watch->size, "it is mapped by %llu bytes", probe.size);
	watch->linear = (probe.leaf & PTE_ADDRESS) - watch->memstart;
	return S2_MEMATTR(probe.leaf);
}

static bool is_in_range(const struct watch *watch, uint64_t start, uint64_t size)
{
	return start <= watch->gpa && watch->gpa < start + size;
}

/* Where in the watched memory a flush begins; the upper bits locate the linear map. */
static int64_t flush_offset(const struct watch *watch, const struct event *flush)
{
	return (int64_t)((flush->a - watch->linear) << 26) >> 26;
}

/* Whether an event is about the watched memory, or about the whole VM. */
static bool is_watched(const struct watch *watch, const struct event *event)
{
	if (is(event, "map") || is(event, "tlbi"))
		return event->a == watch->gpa;
	if (is(event, "unmap") || is(event, "split"))
		return is_in_range(watch, event->a, event->b);
	if (is(event, "tlbi_range"))
		return is_in_range(watch, event->a, event->b * getpagesize());
	if (is(event, "flush"))
		return flush_offset(watch, event) < (int64_t)watch->size &&
		       flush_offset(watch, event) + (int64_t)(event->b - event->a) > 0;
	return is(event, "toggle") || is(event, "set_way");
}

/*
 * What was recorded of the watched memory, as "unmap:1 tlbi:0 flush:0 unmap_end ": the
 * calls in their order, with 1 while the entry is valid. A flush of more or less
 * than the memory is marked, and so is a call that fails.
 */
static const char *watched_order(const struct watch *watch)
{
	bool is_end, is_tlbi, invalidated = false;
	const struct event *event;
	static char text[512];
	const char *mark;
	char end[32] = "";
	size_t length = 0;

	text[0] = '\0';
	for (event = events; event < events + nr_events; event++) {
		is_end = is(event, end);
		if (!is_end && !is_watched(watch, event))
			continue;
		/* TLBs are also invalidated for write protection, or once more by range. */
		is_tlbi = is(event, "tlbi") || is(event, "tlbi_range");
		if (is_tlbi && (!end[0] || invalidated))
			continue;
		invalidated = is_tlbi || (invalidated && !is_end);
		if (is_end)
			end[0] = '\0';
		else if (is(event, "map") || is(event, "unmap") || is(event, "split"))
			snprintf(end, sizeof(end), "%.15s_end", event->name);

		mark = event->pte & PTE_VALID ? ":1" : ":0";
		/* By then the table may be gone with its last entry. */
		if (is(event, "unmap_end") || is(event, "tlbi_range"))
			mark = "";
		if (is_end && event->a)
			mark = "(failed)";
		if (is(event, "flush") && (flush_offset(watch, event) ||
					   event->b - event->a != watch->size))
			mark = "(of something else)";
		length += snprintf(text + length, sizeof(text) - length, "%s%s ", event->name,
				   mark);
		TEST_ASSERT(length < sizeof(text), "too much: %s", text);
	}
	return text;
}

#define MAINTAINED_MAP		"map:0 flush:0 map_end:1 "
#define MAINTAINED_UNMAP	"unmap:1 tlbi:0 flush:0 unmap_end "

/* KVM_MEMTYPE_POLICY_STAGE1: who can have it, and what it changes. */
FIXTURE(stage1)
{
	struct watch watch;
};

FIXTURE_SETUP(stage1)
{
}

FIXTURE_TEARDOWN(stage1)
{
	remove_probes();
}

static int choose_error(struct kvm_vm *vm, uint64_t policy)
{
	return __vm_enable_cap(vm, KVM_CAP_MEMTYPE, policy) ? errno : 0;
}

/* Only with the mode a guest of a CPU with FWB can choose. */
static bool can_choose(struct kvm_vm *vm)
{
	return vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_HONOR;
}

TEST_F(stage1, bad_input)
{
	struct kvm_vm *vm;
	bool could_choose;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm = vm_create(1);
	could_choose = can_choose(vm);
	EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1 | KVM_MEMTYPE_POLICY_HONOR), EINVAL);
	EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1 << 1), EINVAL);
	EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1 | 1ull << 32), EINVAL);
	if (!have_stage1())
		EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), EINVAL);
	EXPECT_EQ(can_choose(vm), could_choose);

	if (have_stage1()) {
		EXPECT_FALSE(could_choose);
		EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), 0);
		EXPECT_TRUE(can_choose(vm));
		EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1 << 1), EINVAL);
		EXPECT_TRUE(can_choose(vm));
		EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_HONOR), 0);
		EXPECT_FALSE(can_choose(vm));
	}
	vm_vcpu_add(vm, 0, guest_main);
	EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), EBUSY);
	EXPECT_EQ(can_choose(vm), could_choose);
	kvm_vm_free(vm);
}

/* Memory has tags only if it is write-back. */
TEST_F(stage1, no_mte)
{
	struct kvm_vm *vm;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	if (!kvm_check_cap(KVM_CAP_ARM_MTE))
		SKIP(return, NO_MTE);
	vm = vm_create_barebones();
	ASSERT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), 0);
	EXPECT_EQ(__vm_enable_cap(vm, KVM_CAP_ARM_MTE, 0), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_TRUE(can_choose(vm));

	/* The other way round. */
	ASSERT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_HONOR), 0);
	EXPECT_TRUE(vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_STAGE1);
	ASSERT_EQ(__vm_enable_cap(vm, KVM_CAP_ARM_MTE, 0), 0);
	EXPECT_FALSE(vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_STAGE1);
	EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), EINVAL);
	EXPECT_FALSE(can_choose(vm));
	kvm_vm_free(vm);
}

/* The same guest with and without the mode, by the CPU's own answer. */
TEST_F(stage1, normal_nc)
{
	static const struct {
		uint64_t policy;
		uint8_t memattr, par;
	} expected[] = {
		{ KVM_MEMTYPE_POLICY_STAGE1, AS_STAGE1, 0x44 },
		{ KVM_MEMTYPE_POLICY_HONOR, FORCED_WB, 0xff },
	};
	struct kvm_memtype_probe probe;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	for (i = 0; i < ARRAY_SIZE(expected); i++) {
		vm = create_vm(&vcpu, 1, expected[i].policy);
		if (!have_probe(vcpu))
			SKIP(return, NO_PROBE);
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
		map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WC);
		let_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
		probe = (struct kvm_memtype_probe) { .gpa = TEST_GPA, .gva = TEST_GVA };
		ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe), 0);
		if (!probe.par_valid)
			SKIP(return, NO_VHE);
		EXPECT_EQ(S2_MEMATTR(probe.leaf), expected[i].memattr);
		EXPECT_EQ(probe.par & PAR_F, 0);
		EXPECT_EQ(PAR_ATTR(probe.par), expected[i].par);
		kvm_vm_free(vm);
	}
}

/* KVM looks at M and C only together, so it need not find the MMU off as well. */
static void guest_caches(void)
{
	uint64_t set_way = 0;

	write_sysreg(read_sysreg(sctlr_el1) | SCTLR_C, sctlr_el1);
	isb();
	GUEST_SYNC(0);
	asm volatile("dc cisw, %0\n\t"
		     "dsb sy" : : "r" (set_way) : "memory");
	GUEST_SYNC(0);
}

static void run_to_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit, reason %u",
		    vcpu->run->exit_reason);
}

/* A guest with its caches off, and memory that is mapped. */
static const char *open_uncached_guest(struct watch *watch, uint64_t policy)
{
	const char *reason = open_watch(watch, policy, SZ_4K, NULL);
	uint64_t sctlr;

	if (reason)
		return reason;
	map_watched(watch, GUEST_WRITE);
	vcpu_get_reg(watch->vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1), &sctlr);
	vcpu_set_reg(watch->vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1), sctlr & ~SCTLR_C);
	vcpu_arch_set_entry_point(watch->vcpu, guest_caches);
	return NULL;
}

/* With the mode KVM does something, and without it nothing. */
static const struct {
	uint64_t policy;
	const char *caches_on, *set_way, *reset;
} reactions[] = {
	{ KVM_MEMTYPE_POLICY_STAGE1, "toggle:1 flush:1 ", "set_way:1 flush:1 ", MAINTAINED_UNMAP },
	{ KVM_MEMTYPE_POLICY_HONOR, "", "", "" },
};

/* Records the guest up to its next sync, after @nr others. Returns why it cannot. */
static const char *check_reaction(struct __test_metadata *_metadata, struct watch *watch,
				  uint64_t policy, int nr, const char *expected)
{
	const char *reason = open_uncached_guest(watch, policy);

	if (reason)
		return reason;
	while (nr--)
		run_to_sync(watch->vcpu);
	start_record();
	run_to_sync(watch->vcpu);
	stop_record();
	EXPECT_STREQ(watched_order(watch), expected);
	close_watch(watch);
	return NULL;
}

TEST_F(stage1, caches_on)
{
	const char *reason;
	int i;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	for (i = 0; i < ARRAY_SIZE(reactions); i++) {
		reason = check_reaction(_metadata, &self->watch, reactions[i].policy, 0,
					reactions[i].caches_on);
		if (reason)
			SKIP(return, "%s", reason);
	}
}

TEST_F(stage1, set_way)
{
	const char *reason;
	int i;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	for (i = 0; i < ARRAY_SIZE(reactions); i++) {
		reason = check_reaction(_metadata, &self->watch, reactions[i].policy, 1,
					reactions[i].set_way);
		if (reason)
			SKIP(return, "%s", reason);
	}
}

TEST_F(stage1, vcpu_reset)
{
	struct kvm_memtype_probe probe;
	struct kvm_vcpu_init init;
	const char *reason;
	int i;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	for (i = 0; i < ARRAY_SIZE(reactions); i++) {
		reason = open_watch(&self->watch, reactions[i].policy, SZ_4K, NULL);
		if (reason)
			SKIP(return, "%s", reason);
		map_watched(&self->watch, GUEST_WRITE);
		vm_ioctl(self->watch.vm, KVM_ARM_PREFERRED_TARGET, &init);
		start_record();
		vcpu_ioctl(self->watch.vcpu, KVM_ARM_VCPU_INIT, &init);
		stop_record();
		EXPECT_STREQ(watched_order(&self->watch), reactions[i].reset);
		EXPECT_EQ(!probe_at(&self->watch, self->watch.size, &probe), !*reactions[i].reset);
		close_watch(&self->watch);
	}
}

/* Entries, TLBs and memory. */
FIXTURE(order)
{
	struct watch watch;
};

FIXTURE_SETUP(order)
{
}

FIXTURE_TEARDOWN(order)
{
	remove_probes();
}

static const uint64_t sizes[] = { SZ_4K, SZ_2M };

/* Ways to unmap. */
static void delete_memslot(struct watch *watch)
{
	vm_set_user_memory_region(watch->vm, TEST_SLOT, 0, TEST_GPA, 0, NULL);
}

static void discard(struct watch *watch)
{
	TEST_ASSERT(!madvise(watch->hva + watch->size, watch->size, MADV_DONTNEED), "madvise: %s",
		    strerror(errno));
}

static void unmap(struct watch *watch)
{
	TEST_ASSERT(!munmap(watch->hva + watch->size, watch->size), "munmap: %s", strerror(errno));
}

static int record_map(struct watch *watch)
{
	int memattr;

	start_record();
	memattr = map_watched(watch, GUEST_WRITE);
	stop_record();
	return memattr;
}

static void record_unmap(struct watch *watch, void (*how)(struct watch *watch))
{
	start_record();
	how(watch);
	stop_record();
}

/* Without FWB what holds for VMs with the mode holds for all. */
static const char *open_ram(struct watch *watch, uint64_t size)
{
	const char *reason = open_watch(watch, have_stage1() ? KVM_MEMTYPE_POLICY_STAGE1 :
							       KVM_MEMTYPE_POLICY_HONOR,
					size, NULL);
	struct kvm_memtype_probe probe;

	if (reason)
		return reason;
	TEST_ASSERT(!probe_at(watch, 0, &probe), "the first is not mapped");
	return S2_MEMATTR(probe.leaf) == FORCED_WB ? NO_STAGE1 : NULL;
}

static int ram_memattr(void)
{
	return have_stage1() ? AS_STAGE1 : WB_WITHOUT_FWB;
}

TEST_F(order, stage1_map)
{
	const char *reason;
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		reason = open_ram(&self->watch, sizes[i]);
		if (reason)
			SKIP(return, "%s", reason);
		EXPECT_EQ(record_map(&self->watch), ram_memattr());
		EXPECT_STREQ(watched_order(&self->watch), MAINTAINED_MAP);
		close_watch(&self->watch);
	}
}

TEST_F(order, stage1_unmap)
{
	static void (* const ways[])(struct watch *) = { delete_memslot, discard, unmap };
	const char *reason;
	int i, way;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (way = 0; way < ARRAY_SIZE(ways); way++) {
			reason = open_ram(&self->watch, sizes[i]);
			if (reason)
				SKIP(return, "%s", reason);
			map_watched(&self->watch, GUEST_WRITE);
			record_unmap(&self->watch, ways[way]);
			EXPECT_STREQ(watched_order(&self->watch), MAINTAINED_UNMAP);
			close_watch(&self->watch);
		}
	}
}

/* A block that is split remains mapped, so that there is nothing to maintain. */
static void check_split(struct __test_metadata *_metadata, struct watch *watch, int memattr)
{
	struct kvm_memtype_probe probe;

	EXPECT_STREQ(watched_order(watch), "split:1 tlbi:0 split_end:1 ");
	ASSERT_EQ(probe_at(watch, watch->size, &probe), 0);
	EXPECT_EQ(probe.size, SZ_4K);
	EXPECT_EQ(S2_MEMATTR(probe.leaf), memattr);
}

TEST_F(order, stage1_split)
{
	const char *reason = open_ram(&self->watch, SZ_2M);

	if (reason)
		SKIP(return, "%s", reason);
	ASSERT_EQ(map_watched(&self->watch, GUEST_WRITE), ram_memattr());
	start_record();
	vm_set_user_memory_region(self->watch.vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA,
				  2 * SZ_2M, self->watch.hva);
	stop_record();
	check_split(_metadata, &self->watch, ram_memattr());
	close_watch(&self->watch);
}

/* One page of the block is mapped again; all of it had left the guest meanwhile. */
TEST_F(order, stage1_break)
{
	const char *reason;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	split_chunk = 0;
	reason = open_ram(&self->watch, SZ_2M);
	if (reason)
		SKIP(return, "%s", reason);
	map_watched(&self->watch, GUEST_WRITE);
	vm_set_user_memory_region(self->watch.vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA,
				  2 * SZ_2M, self->watch.hva);
	start_record();
	let_guest(self->watch.vcpu, GUEST_WRITE, self->watch.gva, PATTERN);
	stop_record();
	/* The second is for the page. */
	EXPECT_STREQ(watched_order(&self->watch),
		     "map:1 tlbi:0 flush:0 flush(of something else) map_end:1 ");
	close_watch(&self->watch);
}

/* Memory that the host maps uncached, as it is in each VM. */
static const struct {
	uint32_t prot;
	uint64_t size;
	int memattr;
} uncached[] = {
	{ MEMTYPE_TEST_WC, SZ_4K, NORMAL_NC },
	{ MEMTYPE_TEST_WC, SZ_2M, NORMAL_NC },
	{ MEMTYPE_TEST_UC, SZ_4K, DEVICE_NGNRE },
	{ MEMTYPE_TEST_UC, SZ_2M, DEVICE_NGNRE },
};

static const uint64_t policies[] = { KVM_MEMTYPE_POLICY_HONOR, KVM_MEMTYPE_POLICY_STAGE1 };

static const char *open_uncached(struct watch *watch, int policy, int memory)
{
	uint64_t size = uncached[memory].size;
	void *hva = map_host(2 * size, 0, uncached[memory].prot,
			     size == SZ_2M ? MEMTYPE_TEST_HUGE : 0);

	TEST_ASSERT(hva != MAP_FAILED, DRIVER ": %s", strerror(errno));
	return open_watch(watch, policies[policy], size, hva);
}

TEST_F(order, uncached_map)
{
	const char *reason;
	int policy, i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	for (policy = 0; policy <= have_stage1(); policy++) {
		for (i = 0; i < ARRAY_SIZE(uncached); i++) {
			reason = open_uncached(&self->watch, policy, i);
			if (reason)
				SKIP(return, "%s", reason);
			EXPECT_EQ(record_map(&self->watch), uncached[i].memattr);
			EXPECT_STREQ(watched_order(&self->watch), MAINTAINED_MAP);
			close_watch(&self->watch);
		}
	}
}

TEST_F(order, uncached_unmap)
{
	static void (* const ways[])(struct watch *) = { delete_memslot, unmap };
	const char *reason;
	int policy, way, i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	for (policy = 0; policy <= have_stage1(); policy++) {
		for (i = 0; i < ARRAY_SIZE(uncached); i++) {
			for (way = 0; way < ARRAY_SIZE(ways); way++) {
				reason = open_uncached(&self->watch, policy, i);
				if (reason)
					SKIP(return, "%s", reason);
				map_watched(&self->watch, GUEST_WRITE);
				record_unmap(&self->watch, ways[way]);
				EXPECT_STREQ(watched_order(&self->watch), MAINTAINED_UNMAP);
				close_watch(&self->watch);
			}
		}
	}
}

/*
 * KVM takes no dirty log of page frames, but it does not see the ones that are
 * mapped later. And while nothing can be written, the log does not prevent blocks.
 */
static void log_page_frames(struct watch *watch)
{
	void *room = map_ram(2 * watch->size);

	delete_memslot(watch);
	vm_enable_cap(watch->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	vm_set_user_memory_region(watch->vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY,
				  TEST_GPA, 2 * watch->size, room);
	move_mapping(watch->hva, 2 * watch->size, room);
	watch->hva = room;
}

TEST_F(order, uncached_split)
{
	uint64_t bitmap[2 * SZ_2M / SZ_4K / 64];
	const char *reason;
	int policy, i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	memset(bitmap, 0xff, sizeof(bitmap));
	for (policy = 0; policy <= have_stage1(); policy++) {
		for (i = 0; i < ARRAY_SIZE(uncached); i++) {
			if (uncached[i].size != SZ_2M)
				continue;
			reason = open_uncached(&self->watch, policy, i);
			if (reason)
				SKIP(return, "%s", reason);
			log_page_frames(&self->watch);
			ASSERT_EQ(map_watched(&self->watch, GUEST_READ), uncached[i].memattr);
			start_record();
			kvm_vm_clear_dirty_log(self->watch.vm, TEST_SLOT, bitmap, 0,
					       ARRAY_SIZE(bitmap) * 64);
			stop_record();
			check_split(_metadata, &self->watch, uncached[i].memattr);
			close_watch(&self->watch);
		}
	}
}

/* Where FWB forces write-back, it is as fast as ever. That also proves what is recorded. */
TEST_F(order, forced_needs_none)
{
	const char *reason, *unmapped;
	int i;

	if (!have_stage1())
		SKIP(return, "no CPU with FWB, or no layer that says so");
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		reason = open_watch(&self->watch, KVM_MEMTYPE_POLICY_HONOR, sizes[i], NULL);
		if (reason)
			SKIP(return, "%s", reason);
		EXPECT_EQ(record_map(&self->watch), FORCED_WB);
		EXPECT_STREQ(watched_order(&self->watch), "map:0 map_end:1 ");
		record_unmap(&self->watch, discard);
		unmapped = watched_order(&self->watch);
		/* The latter without FEAT_TLBIRANGE */
		if (strcmp(unmapped, "unmap:1 tlbi_range unmap_end "))
			EXPECT_STREQ(unmapped, "unmap:1 tlbi:0 unmap_end ");
		close_watch(&self->watch);
	}
}

TEST_HARNESS_MAIN
