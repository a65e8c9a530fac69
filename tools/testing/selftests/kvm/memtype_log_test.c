// SPDX-License-Identifier: GPL-2.0-only
/*
 * arm64: does whoever migrates a guest read what is in memory? A guest that bypasses the
 * caches writes past lines that the host has from when it read the page last. So KVM
 * cleans and invalidates a page when a dirty log hands it out: after the guest can no
 * longer write to it unnoticed, and before the host reads it. memtype_order.h records it.
 */
#include <asm/barrier.h>

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_order.h"

/* What a dirty log hands out: whoever migrates the guest reads what is in memory. */
FIXTURE(log)
{
	struct watch watch;
	uint64_t bitmap;
};

FIXTURE_SETUP(log)
{
}

FIXTURE_TEARDOWN(log)
{
	remove_probes();
}

/*
 * What was recorded of TLBs and of the watched page up to the last flush, as
 * "tlbi:ro flush:ro ": whether the guest could write by the entry then. The same once more
 * is not shown.
 */
static const char *log_order(const struct watch *watch)
{
	const struct event *event;
	static char text[256];
	char last[32] = "", one[32];
	size_t length = 0;
	bool is_tlbi;

	text[0] = '\0';
	for (event = events; event < events + nr_events; event++) {
		is_tlbi = is(event, "tlbi") || is(event, "tlbi_range");
		if (!is(event, "tlbi_all") &&
		    !((is_tlbi || is(event, "flush")) && is_watched(watch, event)))
			continue;
		snprintf(one, sizeof(one), "%.5s:%s ", is(event, "flush") ? "flush" : "tlbi",
			 event->pte & PTE_S2AP_W ? "rw" : "ro");
		if (!strcmp(one, last))
			continue;
		memcpy(last, one, sizeof(last));
		TEST_ASSERT(strlen(text) + strlen(one) < sizeof(text), "too much: %s", text);
		strcat(text, one);
		if (is(event, "flush"))
			length = strlen(text);
	}
	text[length] = '\0';
	return text;
}

static void enable_log(struct watch *watch)
{
	start_record();
	vm_set_user_memory_region(watch->vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA,
				  2 * watch->size, watch->hva);
	stop_record();
}

/* Writes past the caches, which the host must not notice by the log alone. */
static void write_uncached(struct watch *watch, uint64_t value)
{
	let_guest(watch->vcpu, GUEST_WRITE, ALIAS_GVA, value);
}

static const char *open_log(struct watch *watch)
{
	const char *reason = open_ram(watch, getpagesize());

	if (reason)
		return reason;
	map_as(watch->vm, ALIAS_GVA, watch->gpa, KVM_MEMTYPE_WC);
	map_watched(watch, GUEST_WRITE);
	return NULL;
}

/* No emulator has caches from which this could be wrong; the order shows it. */
static uint64_t watched_value(const struct watch *watch)
{
	return READ_ONCE(*(uint64_t *)(watch->hva + watch->size));
}

#define MAINTAINED_LATER	"flush:rw "
#define MAINTAINED_LOG		"tlbi:ro flush:ro "

TEST_F(log, bitmap)
{
	struct watch *watch = &self->watch;
	const char *reason = open_log(watch);

	if (reason)
		SKIP(return, "%s", reason);
	/* Of what was written before, the log says nothing. */
	enable_log(watch);
	EXPECT_STREQ(log_order(watch), MAINTAINED_LOG);
	EXPECT_EQ(watched_value(watch), PATTERN);

	write_uncached(watch, PATTERN + 1);
	start_record();
	kvm_vm_get_dirty_log(watch->vm, TEST_SLOT, &self->bitmap);
	stop_record();
	EXPECT_EQ(self->bitmap, BIT_ULL(1));
	EXPECT_STREQ(log_order(watch), MAINTAINED_LOG);
	EXPECT_EQ(watched_value(watch), PATTERN + 1);

	/* It is not written again, so that nothing would make good for it. */
	start_record();
	kvm_vm_get_dirty_log(watch->vm, TEST_SLOT, &self->bitmap);
	stop_record();
	EXPECT_EQ(self->bitmap, 0);
	EXPECT_STREQ(log_order(watch), "");
	close_watch(watch);
}

TEST_F(log, manual)
{
	static const uint64_t modes[] = {
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET,
	};
	struct watch *watch = &self->watch;
	const char *reason;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		reason = open_log(watch);
		if (reason)
			SKIP(return, "%s", reason);
		vm_enable_cap(watch->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, modes[i]);
		enable_log(watch);
		/* With all pages dirty at first, they are maintained when they are handed out. */
		EXPECT_STREQ(log_order(watch), i ? "" : MAINTAINED_LOG);
		write_uncached(watch, PATTERN + 1);

		start_record();
		kvm_vm_get_dirty_log(watch->vm, TEST_SLOT, &self->bitmap);
		stop_record();
		EXPECT_EQ(self->bitmap, i ? 3 : BIT_ULL(1));
		EXPECT_STREQ(log_order(watch), MAINTAINED_LATER);

		self->bitmap = BIT_ULL(1);
		start_record();
		kvm_vm_clear_dirty_log(watch->vm, TEST_SLOT, &self->bitmap, 0, 2);
		stop_record();
		EXPECT_STREQ(log_order(watch), MAINTAINED_LOG);
		EXPECT_EQ(watched_value(watch), PATTERN + 1);
		close_watch(watch);
	}
}

/*
 * Takes all pages from a ring, without asking the kernel, and gives them back. Returns how
 * many there were; the watched one must be among them.
 */
static int take_from_ring(struct kvm_dirty_gfn *ring)
{
	bool found = false;
	int i;

	/* The kernel sets the flags last, and may use the entry again once they are RESET. */
	for (i = 0; smp_load_acquire(&ring[i].flags) == KVM_DIRTY_GFN_F_DIRTY; i++) {
		found |= ring[i].slot == TEST_SLOT && ring[i].offset == 1;
		/* After the entry has been read, see above. */
		smp_store_release(&ring[i].flags, KVM_DIRTY_GFN_F_RESET);
	}
	TEST_ASSERT(found, "the page is not in the ring");
	return i;
}

/* Userspace reads pages of a ring after it has reset that. */
TEST_F(log, ring)
{
	struct watch *watch = &self->watch;
	struct kvm_dirty_gfn *ring;
	const char *reason;
	int taken;

	if (!kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		SKIP(return, "KVM has no dirty ring here");
	ring_size = SZ_64K;
	reason = open_log(watch);
	if (reason)
		SKIP(return, "%s", reason);
	ring = vcpu_map_dirty_ring(watch->vcpu);
	enable_log(watch);
	EXPECT_STREQ(log_order(watch), MAINTAINED_LOG);

	write_uncached(watch, PATTERN + 1);
	taken = take_from_ring(ring);
	start_record();
	EXPECT_EQ(kvm_vm_reset_dirty_ring(watch->vm), taken);
	stop_record();
	EXPECT_STREQ(log_order(watch), MAINTAINED_LOG);
	EXPECT_EQ(watched_value(watch), PATTERN + 1);
	close_watch(watch);
}

TEST_F(log, forced_needs_none)
{
	struct watch *watch = &self->watch;
	const char *reason;

	if (!have_stage1())
		SKIP(return, NO_FWB);
	reason = open_watch(watch, KVM_MEMTYPE_POLICY_HONOR, getpagesize(), NULL);
	if (reason)
		SKIP(return, "%s", reason);
	map_watched(watch, GUEST_WRITE);
	enable_log(watch);
	EXPECT_STREQ(log_order(watch), "");
	let_guest(watch->vcpu, GUEST_WRITE, watch->gva, PATTERN + 1);
	start_record();
	kvm_vm_get_dirty_log(watch->vm, TEST_SLOT, &self->bitmap);
	stop_record();
	EXPECT_EQ(self->bitmap, BIT_ULL(1));
	EXPECT_STREQ(log_order(watch), "");
	close_watch(watch);
}

/* Nor is the TLB invalidated for each piece of the ring, but once at the end for the VM. */
TEST_F(log, forced_ring_needs_none)
{
	struct watch *watch = &self->watch;
	struct kvm_dirty_gfn *ring;
	const char *reason;
	int taken, i;

	if (!have_stage1())
		SKIP(return, NO_FWB);
	ring_size = SZ_64K;
	reason = open_watch(watch, KVM_MEMTYPE_POLICY_HONOR, getpagesize(), NULL);
	if (reason)
		SKIP(return, "%s", reason);
	ring = vcpu_map_dirty_ring(watch->vcpu);
	map_watched(watch, GUEST_WRITE);
	enable_log(watch);
	let_guest(watch->vcpu, GUEST_WRITE, watch->gva, PATTERN + 1);
	taken = take_from_ring(ring);
	start_record();
	EXPECT_EQ(kvm_vm_reset_dirty_ring(watch->vm), taken);
	stop_record();
	for (i = 0; i < nr_events; i++)
		EXPECT_FALSE(is_watched(watch, &events[i]));
	close_watch(watch);
}

TEST_HARNESS_MAIN
