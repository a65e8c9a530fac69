/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * arm64: what KVM does to the stage-2 entry of a page or block, to the TLBs and to the
 * caches, and in which order.
 *
 * No emulator models caches. So kprobes record what KVM calls, and at each call the
 * stage-2 entry of the memory that is watched.
 */
#ifndef SELFTEST_KVM_MEMTYPE_ORDER_H
#define SELFTEST_KVM_MEMTYPE_ORDER_H

#include "memtype_guest.h"

#define KPROBES		TRACING "/kprobe_events"
#define ENABLE		TRACING "/events/memtype/enable"
/* A split visits each new entry. */
#define MAX_EVENTS	4000

#define PTE_S2AP_W	BIT_ULL(7)
#define PTE_ADDRESS	GENMASK_ULL(47, 12)

/* MemAttr[3:0] of stage 2 */
#define DEVICE_NGNRE	0x1
#define NORMAL_NC	0x5
#define FORCED_WB	0x6
#define AS_STAGE1	0x7
#define WB_WITHOUT_FWB	0xf

#define NO_STAGE1	"this kernel or CPU has no stage-1 mode"
#define NO_KPROBES	"this kernel has no CONFIG_KPROBE_EVENTS"
#define NO_FWB		"no CPU with FWB, or no layer that says so"
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
	PROBE("tlbi_all", "__kvm_tlb_flush_vmid", "%%x0", "%%x0")
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

static inline bool is(const struct event *event, const char *name)
{
	return !strcmp(event->name, name);
}

static inline bool have_stage1(void)
{
	return have_layer() && kvm_check_cap(KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_STAGE1;
}

static inline void remove_probes(void)
{
	if (access(KPROBES, F_OK))
		return;
	/* Fails if there are none. */
	write_file(ENABLE, "0");
	TEST_ASSERT(!write_file(KPROBES, ""), "cannot remove kprobes");
}

/* Once per test, for it takes a while. */
static inline void install_probes(void)
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

static inline void start_record(void)
{
	TEST_ASSERT(!write_file(TRACING "/trace", ""), "trace: %s", strerror(errno));
}

/* Reads what was recorded, which must be all that happened. */
static inline void stop_record(void)
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

static inline int probe_at(struct watch *watch, uint64_t offset, struct kvm_memtype_probe *probe)
{
	*probe = (struct kvm_memtype_probe) { .gpa = TEST_GPA + offset, .gva = TEST_GVA + offset };
	return __vcpu_ioctl(watch->vcpu, KVM_MEMTYPE_PROBE, probe);
}

static inline void *map_ram(uint64_t size)
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

/* Of each vCPU's dirty ring, in bytes; 0 for none */
static uint32_t ring_size;

/* KVM wants to know before there is any memslot, but create_vm() has made one. */
static inline void split_eagerly(struct kvm_vm *vm)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);

	vm_set_user_memory_region(vm, 0, 0, 0, 0, NULL);
	vm_enable_cap(vm, KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE, have_2m() ? split_chunk : 0);
	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
}

/*
 * Watches memory of which each page or block has @size: what is at @hva, or with
 * NULL memory of the test's own. Returns why it cannot, for SKIP().
 */
static inline const char *open_watch(struct watch *watch, uint64_t policy, uint64_t size,
				     void *hva)
{
	struct kvm_memtype_probe probe;
	const struct event *event;

	*watch = (struct watch) {
		.size = size, .gpa = TEST_GPA + size, .gva = TEST_GVA + size,
		.hva = hva ?: map_ram(2 * size),
	};
	if (access(KPROBES, F_OK))
		return NO_KPROBES;
	watch->vm = create_vm_without_vcpus(1, policy);
	if (ring_size)
		vm_enable_dirty_ring(watch->vm, ring_size);
	watch->vcpu = add_vcpu(watch->vm, 0);
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

static inline void close_watch(struct watch *watch)
{
	kvm_vm_free(watch->vm);
	munmap(watch->hva, 2 * watch->size);
}

/* Maps the watched memory by an access to it. Returns its MemAttr. */
static inline int map_watched(struct watch *watch, enum guest_op access)
{
	struct kvm_memtype_probe probe;

	let_guest(watch->vcpu, access, watch->gva, PATTERN);
	TEST_ASSERT(!probe_at(watch, watch->size, &probe), "it is not mapped");
	TEST_ASSERT(probe.size == watch->size, "it is mapped by %llu bytes", probe.size);
	watch->linear = (probe.leaf & PTE_ADDRESS) - watch->memstart;
	return S2_MEMATTR(probe.leaf);
}

static inline bool is_in_range(const struct watch *watch, uint64_t start, uint64_t size)
{
	return start <= watch->gpa && watch->gpa < start + size;
}

/* Where in the watched memory a flush begins; the upper bits locate the linear map. */
static inline int64_t flush_offset(const struct watch *watch, const struct event *flush)
{
	return (int64_t)((flush->a - watch->linear) << 26) >> 26;
}

/* Whether an event is about the watched memory, or about the whole VM. */
static inline bool is_watched(const struct watch *watch, const struct event *event)
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
static inline const char *watched_order(const struct watch *watch)
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

/* Without FWB what holds for VMs with the mode holds for all. */
static inline const char *open_ram(struct watch *watch, uint64_t size)
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

#endif /* SELFTEST_KVM_MEMTYPE_ORDER_H */
