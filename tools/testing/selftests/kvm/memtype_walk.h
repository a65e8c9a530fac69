/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of memory types check of a page: that KVM_GET_MEMTYPE, the second
 * stage and the CPU say the same of it, and the rows of the matrix about it.
 */
#ifndef SELFTEST_KVM_MEMTYPE_WALK_H
#define SELFTEST_KVM_MEMTYPE_WALK_H

#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_guest.h"

/* What a page is to the host, and how its guest may map it. */
struct page {
	uint64_t gpa;
	uint64_t size;		/* of the second-stage mapping; shadow paging maps 4K, as we do */
	enum guest_op access;	/* how to touch it first */
	bool untouched;		/* nobody has */
	uint8_t host;
	uint8_t intent;
	uint8_t source;		/* 0: RAM, whatever follows from the policy */
	uint32_t attributes;	/* beside FORCED */
};

/*
 * Has the guest access a page as @kind, and checks that query and walk agree.
 * Returns the type that the CPU uses.
 */
static inline struct walked walk_as(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
				    const char *row, const struct page *page, uint64_t gva,
				    uint8_t kind)
{
	struct kvm_memtype_probe probe = { .gpa = page->gpa, .gva = gva }, untouched = probe;
	struct kvm_memtype before = {}, after = {};
	int probed, query_before = 0, query_after = 0;
	struct walked walked;
	uint64_t value;
	bool shadow;

	if (have_layer())
		query_before = get_memtype(vcpu->vm, page->gpa, &before);
	probed = __vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &untouched);

	/* The fault goes first, so that the marks enclose one access only. */
	let_guest(vcpu, page->access, gva, PATTERN);
	value = let_guest(vcpu, GUEST_MARKED_READ, gva, 0);
	TEST_ASSERT(!__vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe), "%s: probe: %s", row,
		    strerror(errno));
	shadow = probe.format == KVM_MEMTYPE_PROBE_SHADOW;
	walked = walked_kind(&probe, kind);
	expect_walk(row, gva, &probe, kind);
	/* Shadow paging leaves the guest no choice, and the intent is FORCED if it is WB. */
	if (shadow)
		walked.forced = page->intent == KVM_MEMTYPE_WB;

	/* Without the layer, what is mixed is mapped by one entry all the same. */
	if (have_layer() || page->untouched)
		EXPECT_EQ(probe.size, shadow ? SZ_4K : page->size);
	if (page->access == GUEST_WRITE) {
		EXPECT_EQ(value, PATTERN);
		/* Neither did the query map it. */
		if (page->untouched)
			EXPECT_EQ(probed, -1);
	}
	if (!have_layer())
		return walked;

	query_after = get_memtype(vcpu->vm, page->gpa, &after);
	EXPECT_EQ(query_before, 0);
	EXPECT_EQ(query_after, 0);
	/* What was a guess no longer is, and was right, but for the kind of uncached. */
	if (before.attributes & KVM_MEMTYPE_ATTR_PREDICTED) {
		before.host = after.host;
		before.end = after.end;
	}
	before.attributes &= ~KVM_MEMTYPE_ATTR_PREDICTED;
	EXPECT_EQ(memcmp(&before, &after, sizeof(before)), 0);
	EXPECT_EQ(after.effective[kind], walked.kind);
	EXPECT_EQ(after.refusal, KVM_MEMTYPE_REFUSAL_NONE);
	EXPECT_EQ(after.host, page->host);
	EXPECT_EQ(after.intent, page->intent);
	EXPECT_EQ(after.attributes, page->attributes |
		  (walked.forced ? KVM_MEMTYPE_ATTR_FORCED : 0));
	if (page->source)
		EXPECT_EQ(after.source, page->source);
	if (!page->source)
		EXPECT_EQ(after.source == KVM_MEMTYPE_SOURCE_RAM, !walked.forced);
	return walked;
}

/* The runner compares what is printed here with what tests.toml expects. */
static inline void check_type(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			      const char *row, const struct page *page, uint64_t gva, uint8_t kind)
{
	print_type(row, walk_as(_metadata, vcpu, row, page, gva, kind));
}

/* Of a row's name, or of its cell with several types */
#define TEXT_SIZE	128

/* What a row reads, of several accesses */
struct cell {
	char types[TEXT_SIZE];
	bool unforced;	/* one of them is not forced */
	int nr;
};

static inline void add_type(struct cell *cell, const char *type, const char *suffix)
{
	size_t length = strlen(cell->types);

	snprintf(cell->types + length, sizeof(cell->types) - length, "%s%s%s",
		 cell->nr++ ? "," : "", type, suffix);
}

static inline void add_walked(struct cell *cell, struct walked walked)
{
	add_type(cell, kind_names[walked.kind], "");
	cell->unforced |= !walked.forced;
}

static inline void print_row(const char *row, const struct cell *cell)
{
	print_types(row, cell->types, !cell->unforced);
}

/* As check_type() of each type that a guest can choose, with one cell for all of them. */
static inline void check_types(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			       const char *row, const struct page *page, uint64_t gva)
{
	struct cell cell = {};
	char name[TEXT_SIZE];
	int i;

	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(vcpu->vm, gva + i * SZ_2M, page->gpa, guest_kinds[i]);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		snprintf(name, sizeof(name), "%s as %s", row, kind_names[guest_kinds[i]]);
		add_walked(&cell, walk_as(_metadata, vcpu, name, page, gva + i * SZ_2M,
					  guest_kinds[i]));
	}
	print_row(row, &cell);
}

/*
 * MMIO that the host maps at @bar by entries of @size: seen by the guest at TEST_GPA,
 * with a row of the matrix for each type that it can choose.
 */
static inline void check_mmio(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			      const char *name, void *bar, uint64_t size, uint8_t host,
			      uint32_t attributes)
{
	const struct page page = {
		.gpa = TEST_GPA, .size = size, .access = GUEST_READ, .host = host,
		.intent = KVM_MEMTYPE_UC, .source = KVM_MEMTYPE_SOURCE_MMIO,
		.attributes = attributes | MMIO_NOEXEC,
	};
	uint64_t gva = TEST_GVA;
	char row[64];
	int i;

	vm_set_user_memory_region(vcpu->vm, TEST_SLOT, 0, TEST_GPA, size, bar);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++)
		map_as(vcpu->vm, gva + i * SZ_4K, TEST_GPA, guest_kinds[i]);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		snprintf(row, sizeof(row), name, kind_names[guest_kinds[i]]);
		check_type(_metadata, vcpu, row, &page, gva + i * SZ_4K, guest_kinds[i]);
	}
}

/* Runs the guest into a page that KVM cannot map: KVM_RUN fails, and says where. */
static inline void run_refused(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
			       uint64_t gpa, uint64_t gva)
{
	commands[vcpu->id] = (struct guest_command) { GUEST_READ, gva, 0 };
	sync_global_to_guest(vcpu->vm, commands);
	ASSERT_EQ(_vcpu_run(vcpu), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	EXPECT_EQ(vcpu->run->memory_fault.gpa, gpa);
	EXPECT_EQ(vcpu->run->memory_fault.size, getpagesize());
	EXPECT_EQ(vcpu->run->memory_fault.flags, KVM_MEMTYPE_EXIT_REFUSED);
}

/* Whether the table in debugfs has @word in the line of a page. */
static inline bool table_says(const struct kvm_vm *vm, uint64_t gpa, const char *word)
{
	unsigned long start, end;
	bool found = false;
	char line[256];
	FILE *table;

	table = open_table(vm);
	while (!found && fgets(line, sizeof(line), table))
		found = sscanf(line, "%*u %lx %lx", &start, &end) == 2 && gpa >= start &&
			gpa < end && strstr(line, word);
	fclose(table);
	return found;
}

/*
 * The same of a page of which the query and the table say beforehand, and a trace event then, why.
 */
static inline void check_refusal(struct __test_metadata *_metadata, struct kvm_vcpu *vcpu,
				 uint64_t gpa, uint64_t gva, uint8_t refusal, const char *name)
{
	struct kvm_memtype answer, expected = { .gpa = gpa, .refusal = refusal };
	char gfn[32], reason[32];

	EXPECT_EQ(vm_check_cap(vcpu->vm, KVM_CAP_MEMORY_FAULT_INFO), 1);
	ASSERT_EQ(get_memtype(vcpu->vm, gpa, &answer), 0);
	EXPECT_GT(answer.end, gpa);
	expected.end = answer.end;
	EXPECT_EQ(memcmp(&answer, &expected, sizeof(answer)), 0);

	trace_event("kvm_memtype/kvm_memtype_refuse", true);
	run_refused(_metadata, vcpu, gpa, gva);
	trace_event("kvm_memtype/kvm_memtype_refuse", false);
	snprintf(gfn, sizeof(gfn), "gfn %lx ", gpa / getpagesize());
	snprintf(reason, sizeof(reason), "refusal %s", name);
	EXPECT_TRUE(trace_has(gfn, reason));
	snprintf(reason, sizeof(reason), " %s ", name);
	EXPECT_TRUE(table_says(vcpu->vm, gpa, reason));
}

#endif /* SELFTEST_KVM_MEMTYPE_WALK_H */
