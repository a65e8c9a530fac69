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
 *  - All memory is cleaned and invalidated when the first vCPU turns its caches on, when
 *    any turns them off or maintains them by set/way, and unmapped when a vCPU is reset.
 *
 * memtype_log_test is about pages that a dirty log hands out. memtype_order.h records
 * what KVM does.
 */
#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_order.h"

#define SCTLR_C		BIT_ULL(2)

#define NO_MTE		"KVM has no MTE here"

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

/* Nor with a guest_memfd, in whatever order. */
TEST_F(stage1, no_guest_memfd)
{
	uint64_t flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
	struct kvm_vm *vm;
	void *hva;
	int fd;

	if (!have_stage1())
		SKIP(return, NO_STAGE1);
	vm = vm_create_barebones();
	fd = __vm_create_guest_memfd(vm, SZ_2M, flags);
	if (!kvm_check_cap(KVM_CAP_GUEST_MEMFD)) {
		EXPECT_EQ(fd, -1);
		kvm_vm_free(vm);
		return;
	}
	ASSERT_GE(fd, 0);
	hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(hva, MAP_FAILED);

	ASSERT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), 0);
	EXPECT_EQ(__vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, TEST_GPA, SZ_2M, hva,
					       fd, 0), -1);
	EXPECT_EQ(errno, EINVAL);

	ASSERT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_HONOR), 0);
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, TEST_GPA, SZ_2M, hva, fd, 0);
	EXPECT_FALSE(vm_check_cap(vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_STAGE1);
	EXPECT_EQ(choose_error(vm, KVM_MEMTYPE_POLICY_STAGE1), EINVAL);
	munmap(hva, SZ_2M);
	kvm_vm_free(vm);
	close(fd);
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
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
					    vm_adjust_num_guest_pages(vm->mode, 1), 0);
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
static void turn_caches(bool on)
{
	uint64_t sctlr = read_sysreg(sctlr_el1);

	write_sysreg(on ? sctlr | SCTLR_C : sctlr & ~SCTLR_C, sctlr_el1);
	isb();
	GUEST_SYNC(0);
}

static void guest_caches(void)
{
	uint64_t set_way = 0;

	turn_caches(true);
	asm volatile("dc cisw, %0\n\t"
		     "dsb sy" : : "r" (set_way) : "memory");
	GUEST_SYNC(0);
	turn_caches(false);
	turn_caches(true);
}

/* Lets a vCPU begin with its caches off. */
static void start_uncached(struct kvm_vcpu *vcpu)
{
	uint64_t sctlr;

	sctlr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1));
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1), sctlr & ~SCTLR_C);
	vcpu_arch_set_entry_point(vcpu, guest_caches);
}

/* A guest with its caches off, and memory that is mapped. */
static const char *open_uncached_guest(struct watch *watch, uint64_t policy)
{
	const char *reason = open_watch(watch, policy, getpagesize(), NULL);

	if (reason)
		return reason;
	map_watched(watch, GUEST_WRITE);
	start_uncached(watch->vcpu);
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
		reason = open_watch(&self->watch, reactions[i].policy, getpagesize(), NULL);
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

/* Pages, and then blocks of 2M, if the host has any */
static uint64_t size_of(int i)
{
	return i ? SZ_2M : getpagesize();
}

static int nr_sizes(void)
{
	return have_2m() ? 2 : 1;
}

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

static int ram_memattr(void)
{
	return have_stage1() ? AS_STAGE1 : WB_WITHOUT_FWB;
}

TEST_F(order, stage1_map)
{
	const char *reason;
	int i;

	for (i = 0; i < nr_sizes(); i++) {
		reason = open_ram(&self->watch, size_of(i));
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

	for (i = 0; i < nr_sizes(); i++) {
		for (way = 0; way < ARRAY_SIZE(ways); way++) {
			reason = open_ram(&self->watch, size_of(i));
			if (reason)
				SKIP(return, "%s", reason);
			map_watched(&self->watch, GUEST_WRITE);
			record_unmap(&self->watch, ways[way]);
			EXPECT_STREQ(watched_order(&self->watch), MAINTAINED_UNMAP);
			close_watch(&self->watch);
		}
	}
}

/*
 * A block that is split remains mapped, so that there is nothing to maintain. That the log begins
 * is another matter (memtype_log_test).
 */
static void check_split(struct __test_metadata *_metadata, struct watch *watch, int memattr)
{
	const char *split = strstr(watched_order(watch), "split:");
	struct kvm_memtype_probe probe;

	EXPECT_STREQ(split, "split:1 tlbi:0 split_end:1 ");
	ASSERT_EQ(probe_at(watch, watch->size, &probe), 0);
	EXPECT_EQ(probe.size, SZ_4K);
	EXPECT_EQ(S2_MEMATTR(probe.leaf), memattr);
}

TEST_F(order, stage1_split)
{
	const char *reason = have_2m() ? open_ram(&self->watch, SZ_2M) : NO_2M;

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

	split_chunk = 0;
	reason = have_2m() ? open_ram(&self->watch, SZ_2M) : NO_2M;
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

/* When caches are turned on and off. */
FIXTURE(caches)
{
	struct watch watch;
};

FIXTURE_SETUP(caches)
{
}

FIXTURE_TEARDOWN(caches)
{
	remove_probes();
}

/* How many lines were maintained, from an event on, but for what was mapped or unmapped. */
static uint64_t count_lines(const struct event *event)
{
	uint64_t bytes = 0, ctr;
	bool other = false;

	for (; event < events + nr_events; event++) {
		if (is(event, "map") || is(event, "unmap"))
			other = true;
		else if (is(event, "map_end") || is(event, "unmap_end"))
			other = false;
		else if (is(event, "flush") && !other)
			bytes += event->b - event->a;
	}
	asm("mrs %0, ctr_el0" : "=r" (ctr));
	/* DminLine, in words of 4 bytes */
	return bytes >> (((ctr >> 16) & 0xf) + 2);
}

/* The last time that a vCPU turned its caches on or off. */
static const struct event *last_toggle(void)
{
	const struct event *event = events + nr_events;

	while (event-- > events)
		if (is(event, "toggle"))
			return event;
	TEST_FAIL("no vCPU turned its caches on");
}

/* Other vCPUs find nothing of the host's that was not maintained for the first one. */
TEST_F(caches, turned_on_by_many)
{
	static const int numbers[] = { 1, 8 };
	struct watch *watch = &self->watch;
	struct kvm_vcpu *vcpu;
	const char *reason;
	uint64_t lines;
	int i, id;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		reason = open_ram(watch, getpagesize());
		if (reason)
			SKIP(return, "%s", reason);
		map_watched(watch, GUEST_WRITE);
		start_uncached(watch->vcpu);
		start_record();
		run_to_sync(watch->vcpu);
		stop_record();
		lines = count_lines(events);
		EXPECT_GT(lines, 0);
		EXPECT_STREQ(watched_order(watch), "toggle:1 flush:1 ");

		for (id = 1; id < numbers[i]; id++) {
			vcpu = add_vcpu(watch->vm, id);
			start_uncached(vcpu);
			start_record();
			run_to_sync(vcpu);
			stop_record();
			EXPECT_EQ(count_lines(events), 0);
			EXPECT_STREQ(watched_order(watch), "toggle:1 ");
			lines += count_lines(events);
		}
		printf("# %d vCPUs turned their caches on: %lu lines\n", numbers[i], lines);
		close_watch(watch);
	}
}

/* From then on a guest may write to memory, whatever the host has in its caches. */
TEST_F(caches, turned_off)
{
	const char *reason = open_ram(&self->watch, getpagesize());
	int i;

	if (reason)
		SKIP(return, "%s", reason);
	map_watched(&self->watch, GUEST_WRITE);
	start_uncached(self->watch.vcpu);
	start_record();
	for (i = 0; i < 4; i++)
		run_to_sync(self->watch.vcpu);
	stop_record();
	EXPECT_STREQ(watched_order(&self->watch),
		     "toggle:1 flush:1 set_way:1 flush:1 toggle:1 flush:1 toggle:1 flush:1 ");
	close_watch(&self->watch);
}

/* KVM does not see that the caches are turned off, but that they are maintained. */
static void guest_maintains_by_set_way(void)
{
	uint64_t set_way = 0;

	turn_caches(true);
	write_sysreg(read_sysreg(sctlr_el1) & ~SCTLR_C, sctlr_el1);
	asm volatile("isb\n\t"
		     "dc cisw, %0\n\t"
		     "dsb sy" : : "r" (set_way) : "memory");
	turn_caches(true);
}

TEST_F(caches, set_way)
{
	const char *reason = open_ram(&self->watch, getpagesize());

	if (reason)
		SKIP(return, "%s", reason);
	map_watched(&self->watch, GUEST_WRITE);
	start_uncached(self->watch.vcpu);
	vcpu_arch_set_entry_point(self->watch.vcpu, guest_maintains_by_set_way);
	start_record();
	run_to_sync(self->watch.vcpu);
	run_to_sync(self->watch.vcpu);
	stop_record();
	EXPECT_STREQ(watched_order(&self->watch),
		     "toggle:1 flush:1 set_way:1 flush:1 toggle:1 flush:1 ");
	close_watch(&self->watch);
}

TEST_F(caches, reset)
{
	const char *reason = open_ram(&self->watch, getpagesize());
	struct kvm_vcpu *vcpu = self->watch.vcpu;
	struct kvm_vcpu_init init;
	uint64_t stack;

	if (reason)
		SKIP(return, "%s", reason);
	map_watched(&self->watch, GUEST_WRITE);
	start_uncached(vcpu);
	run_to_sync(vcpu);

	stack = vcpu_get_reg(vcpu, ARM64_CORE_REG(sp_el1));
	vm_ioctl(self->watch.vm, KVM_ARM_PREFERRED_TARGET, &init);
	aarch64_vcpu_setup(vcpu, &init);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(sp_el1), stack);
	start_uncached(vcpu);
	start_record();
	run_to_sync(vcpu);
	stop_record();
	EXPECT_GT(count_lines(last_toggle()), 0);
	close_watch(&self->watch);
}

/* Memory that the host maps uncached, as it is in each VM; one half is of pages. */
static const struct {
	uint32_t prot;
	bool is_2m;
	int memattr;
} uncached[] = {
	{ MEMTYPE_TEST_WC, false, NORMAL_NC },
	{ MEMTYPE_TEST_UC, false, DEVICE_NGNRE },
	{ MEMTYPE_TEST_WC, true, NORMAL_NC },
	{ MEMTYPE_TEST_UC, true, DEVICE_NGNRE },
};

static int nr_uncached(void)
{
	return ARRAY_SIZE(uncached) / 2 * nr_sizes();
}

static const uint64_t policies[] = { KVM_MEMTYPE_POLICY_HONOR, KVM_MEMTYPE_POLICY_STAGE1 };

static const char *open_uncached(struct watch *watch, int policy, int memory)
{
	uint64_t size = size_of(uncached[memory].is_2m);
	void *hva = map_host(2 * size, 0, uncached[memory].prot,
			     uncached[memory].is_2m ? MEMTYPE_TEST_HUGE : 0);

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
		for (i = 0; i < nr_uncached(); i++) {
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
		for (i = 0; i < nr_uncached(); i++) {
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
	if (!have_2m())
		SKIP(return, NO_2M);
	memset(bitmap, 0xff, sizeof(bitmap));
	for (policy = 0; policy <= have_stage1(); policy++) {
		for (i = 0; i < nr_uncached(); i++) {
			if (!uncached[i].is_2m)
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
		SKIP(return, NO_FWB);
	for (i = 0; i < nr_sizes(); i++) {
		reason = open_watch(&self->watch, KVM_MEMTYPE_POLICY_HONOR, size_of(i), NULL);
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
