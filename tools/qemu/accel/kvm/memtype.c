/*
 * Guest memory types: asking KVM instead of assuming
 *
 * Documentation/virt/kvm/memtype-vmm.rst of the kernel that has
 * KVM_CAP_MEMTYPE says what a VMM should do, and why.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memtype.h"
#include "qapi/qapi-types-common.h"
#include "qapi/qapi-visit-common.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"
#include "standard-headers/linux/virtio_gpu.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/kvm_memtype.h"

#include <linux/kvm_memtype.h>

/* The enumerations of QAPI are KVM's numbers. */
QEMU_BUILD_BUG_ON(GUEST_MEMTYPE_WC != KVM_MEMTYPE_WC);
QEMU_BUILD_BUG_ON(GUEST_MEMTYPE_NGNRNE != KVM_MEMTYPE_NGNRNE);
QEMU_BUILD_BUG_ON(GUEST_MEMTYPE_SOURCE_SLOT != KVM_MEMTYPE_SOURCE_SLOT);
QEMU_BUILD_BUG_ON(GUEST_MEMTYPE_REFUSAL_HYPERVISOR != KVM_MEMTYPE_REFUSAL_HYPERVISOR);

static const uint64_t policies[GUEST_MEMTYPE_POLICY__MAX] = {
    [GUEST_MEMTYPE_POLICY_HONOR] = KVM_MEMTYPE_POLICY_HONOR,
    [GUEST_MEMTYPE_POLICY_LEGACY] = KVM_MEMTYPE_POLICY_LEGACY,
    [GUEST_MEMTYPE_POLICY_STAGE1] = KVM_MEMTYPE_POLICY_STAGE1,
};

/* Of the one VM that there is */
static GuestMemtypePolicy policy;
static bool where_known;    /* the default instead, if KVM has no policies */
static int caps;

static int get_policy(Object *obj, Error **errp)
{
    return policy;
}

static void set_policy(Object *obj, int value, Error **errp)
{
    policy = value;
    where_known = false;
}

/* The name that QEMU 11 has for a part of it */
static void set_honor_guest_pat(Object *obj, Visitor *v, const char *name,
                                void *opaque, Error **errp)
{
    OnOffAuto value;

    if (!visit_type_OnOffAuto(v, name, &value, errp)) {
        return;
    }
    policy = value == ON_OFF_AUTO_OFF ? GUEST_MEMTYPE_POLICY_LEGACY :
             GUEST_MEMTYPE_POLICY_HONOR;
    where_known = value == ON_OFF_AUTO_AUTO;
}

static bool ask(KVMState *s, int as_id, hwaddr gpa, struct kvm_memtype *page)
{
    *page = (struct kvm_memtype) { .gpa = gpa, .as_id = as_id };
    return caps & KVM_MEMTYPE_CAP_QUERY &&
           !kvm_vm_ioctl(s, KVM_GET_MEMTYPE, page);
}

/* A number that only a newer kernel has reads as none. */
static int known(int number, int max)
{
    return number < max ? number : 0;
}

static const char *reason(const struct kvm_memtype *page)
{
    return GuestMemtypeRefusal_str(known(page->refusal,
                                         GUEST_MEMTYPE_REFUSAL__MAX));
}

int kvm_memtype_init(KVMState *s)
{
    int ret;

    if (where_known && !kvm_vm_check_extension(s, KVM_CAP_MEMTYPE)) {
        policy = GUEST_MEMTYPE_POLICY_DEFAULT;
    }
    if (policy != GUEST_MEMTYPE_POLICY_DEFAULT) {
        ret = kvm_vm_enable_cap(s, KVM_CAP_MEMTYPE, 0, policies[policy]);
        if (ret < 0) {
            error_report("KVM: no guest-memtype=%s here: %s",
                         GuestMemtypePolicy_str(policy), strerror(-ret));
            return ret;
        }
    }
    /* Of the VM: the choice makes a difference. */
    caps = kvm_vm_check_extension(s, KVM_CAP_MEMTYPE);
    return 0;
}

int kvm_memtype_slot_flags(MemoryRegion *mr)
{
    return mr->framebuffer && caps & KVM_MEMTYPE_CAP_FORCE_WB ?
           KVM_MEM_FORCE_WB : 0;
}

/*
 * The BARs of assigned devices. Nothing is touched for that: registers can
 * have side effects, and KVM's prediction is right for them.
 */
void kvm_memtype_check_slot(KVMState *s, int as_id, MemoryRegion *mr,
                            hwaddr start, hwaddr size)
{
    struct kvm_memtype page;
    hwaddr gpa;

    /* Once is enough: what is mapped in SMM is mapped elsewhere, too. */
    if (as_id || !memory_region_is_ram_device(mr)) {
        return;
    }
    for (gpa = start; gpa < start + size; gpa = page.end) {
        if (!ask(s, as_id, gpa, &page)) {
            return;
        }
        if (page.refusal) {
            warn_report("KVM: %s at 0x%" HWADDR_PRIx " would be refused: %s",
                        memory_region_name(mr), gpa, reason(&page));
        }
    }
}

/* KVM's address space that a CPU uses: x86 has one more for SMM. */
static int as_id_of(const struct kvm_run *run)
{
#ifdef KVM_RUN_X86_SMM
    return !!(run->flags & KVM_RUN_X86_SMM);
#else
    return 0;
#endif
}

/* Called outside BQL */
bool kvm_memtype_refused(CPUState *cpu, struct kvm_run *run)
{
    uint64_t gpa = run->memory_fault.gpa;
    struct kvm_memtype page;

    if (!(run->memory_fault.flags & KVM_MEMTYPE_EXIT_REFUSED)) {
        return false;
    }
    if (!ask(cpu->kvm_state, as_id_of(run), gpa, &page)) {
        error_report("KVM: access of the guest to 0x%" PRIx64 " refused", gpa);
    } else if (page.refusal) {
        error_report("KVM: access of the guest to 0x%" PRIx64 " refused: %s",
                     gpa, reason(&page));
    } else {
        error_report("KVM: access of the guest to 0x%" PRIx64 " refused: "
                     "the host had nothing to map, or only for reading", gpa);
    }
    return true;
}

static uint32_t map_info_of(const struct kvm_memtype *page)
{
    switch (page->effective[page->host]) {
    case KVM_MEMTYPE_WB:
    case KVM_MEMTYPE_WT:
    case KVM_MEMTYPE_WP:
        return VIRTIO_GPU_MAP_CACHE_CACHED;
    case KVM_MEMTYPE_WC:
        return VIRTIO_GPU_MAP_CACHE_WC;
    default:
        return VIRTIO_GPU_MAP_CACHE_UNCACHED;
    }
}

/* Has the host map a page, as an access does; but one that fails ends nothing. */
static bool touch(const char *page)
{
    int fds[2];
    bool mapped;

    if (!g_unix_open_pipe(fds, FD_CLOEXEC, NULL)) {
        return false;
    }
    mapped = write(fds[1], page, 1) == 1;
    close(fds[0]);
    close(fds[1]);
    return mapped;
}

bool kvm_memtype_map_info(MemoryRegion *mr, uint32_t *map_info)
{
    /*
     * A blob in pieces of several types has one map_info: CACHED if one piece
     * is, as the second stage still keeps each from being more cached than the
     * host has it; else UNCACHED if one is, as x86 cannot keep the guest from
     * making that WC.
     */
    uint32_t info = VIRTIO_GPU_MAP_CACHE_WC;
    uint64_t size = memory_region_size(mr);
    struct kvm_memtype page;
    hwaddr start, gpa;
    char *ram;

    QEMU_BUILD_BUG_ON(VIRTIO_GPU_MAP_CACHE_CACHED >
                      VIRTIO_GPU_MAP_CACHE_UNCACHED);
    QEMU_BUILD_BUG_ON(VIRTIO_GPU_MAP_CACHE_UNCACHED > VIRTIO_GPU_MAP_CACHE_WC);

    if (!kvm_enabled() || !(caps & KVM_MEMTYPE_CAP_QUERY)) {
        return true;
    }
    ram = memory_region_get_ram_ptr(mr);
    if (!kvm_physical_memory_addr_from_host(kvm_state, ram, &start)) {
        return true;
    }
    for (gpa = start; gpa < start + size; gpa = page.end) {
        if (!ask(kvm_state, 0, gpa, &page)) {
            return true;
        }
        if (page.attributes & KVM_MEMTYPE_ATTR_PREDICTED) {
            if (!touch(ram + (gpa - start))) {
                warn_report("KVM: a blob at 0x%" HWADDR_PRIx " would be "
                            "refused: the host cannot read it", gpa);
                return false;
            }
            if (!ask(kvm_state, 0, gpa, &page)) {
                return true;
            }
        }
        if (page.refusal) {
            warn_report("KVM: a blob at 0x%" HWADDR_PRIx " would be refused: "
                        "%s", gpa, reason(&page));
            return false;
        }
        info = MIN(info, map_info_of(&page));
    }
    *map_info = info;
    return true;
}

typedef struct Table {
    int as_id;
    GuestMemtypeRangeList ***tail;
    GuestMemtypeRange *last;
    struct kvm_memtype page;    /* of which it was made */
} Table;

/* Equal but for its place */
static bool same(const struct kvm_memtype *a, const struct kvm_memtype *b)
{
    return a->host == b->host && a->intent == b->intent &&
           a->source == b->source && a->refusal == b->refusal &&
           a->attributes == b->attributes &&
           !memcmp(a->effective, b->effective, sizeof(a->effective));
}

static void add_range(Table *table, const struct kvm_memtype *page,
                      const char *region, hwaddr end)
{
    GuestMemtypeRange *range = table->last;
    GuestMemtypeList **tail;
    uint32_t seen = 0;
    int i;

    if (range && range->end == page->gpa && !strcmp(range->region, region) &&
        same(page, &table->page)) {
        range->end = end;
        return;
    }

    range = g_new0(GuestMemtypeRange, 1);
    range->as_id = table->as_id;
    range->start = page->gpa;
    range->end = end;
    range->region = g_strdup(region);
    range->host = known(page->host, GUEST_MEMTYPE__MAX);
    range->intent = known(page->intent, GUEST_MEMTYPE__MAX);
    range->source = known(page->source, GUEST_MEMTYPE_SOURCE__MAX);
    range->refusal = known(page->refusal, GUEST_MEMTYPE_REFUSAL__MAX);
    range->forced = page->attributes & KVM_MEMTYPE_ATTR_FORCED;
    range->any_uncached = page->attributes & KVM_MEMTYPE_ATTR_ANY_UNCACHED;
    range->noexec = page->attributes & KVM_MEMTYPE_ATTR_NOEXEC;
    range->predicted = page->attributes & KVM_MEMTYPE_ATTR_PREDICTED;
    tail = &range->effective;
    for (i = 0; i < ARRAY_SIZE(page->effective); i++) {
        int type = known(page->effective[i], GUEST_MEMTYPE__MAX);

        if (type != GUEST_MEMTYPE_NONE && !(seen & BIT(type))) {
            seen |= BIT(type);
            QAPI_LIST_APPEND(tail, type);
        }
    }
    QAPI_LIST_APPEND(*table->tail, range);
    table->last = range;
    table->page = *page;
}

static bool add_ranges(Int128 start, Int128 len, const MemoryRegion *mr,
                       hwaddr offset, void *opaque)
{
    hwaddr gpa = int128_get64(start);
    hwaddr end = gpa + int128_get64(len);
    Table *table = opaque;
    struct kvm_memtype page;

    /* As the memslot does. Accesses to what is before it come to QEMU. */
    gpa = ROUND_UP(gpa, qemu_real_host_page_size());
    for (; gpa < end; gpa = page.end) {
        /* Where there is no memslot, accesses come to QEMU. */
        if (!ask(kvm_state, table->as_id, gpa, &page)) {
            break;
        }
        add_range(table, &page, memory_region_name(mr), MIN(page.end, end));
    }
    return false;
}

GuestMemtypeRangeList *qmp_query_memtype(Error **errp)
{
    GuestMemtypeRangeList *list = NULL, **tail = &list;
    int i;

    if (!kvm_enabled() || !(caps & KVM_MEMTYPE_CAP_QUERY)) {
        error_setg(errp, "KVM cannot be asked for memory types here");
        return NULL;
    }
    RCU_READ_LOCK_GUARD();
    for (i = 0; i < kvm_state->nr_as; i++) {
        Table table = { .as_id = i, .tail = &tail };

        if (kvm_state->as[i].as) {
            flatview_for_each_range(address_space_to_flatview(
                                    kvm_state->as[i].as), add_ranges, &table);
        }
    }
    return list;
}

static void hmp_info_memtype(Monitor *mon, const QDict *qdict)
{
    g_autoptr(GuestMemtypeRangeList) list = NULL;
    Error *err = NULL;
    GuestMemtypeRangeList *entry;
    GuestMemtypeList *type;

    list = qmp_query_memtype(&err);
    if (hmp_handle_error(mon, err)) {
        return;
    }
    for (entry = list; entry; entry = entry->next) {
        const GuestMemtypeRange *range = entry->value;

        monitor_printf(mon, "%" PRId64 " %016" PRIx64 "-%016" PRIx64 " %s:",
                       range->as_id, range->start, range->end, range->region);
        if (range->refusal != GUEST_MEMTYPE_REFUSAL_NONE) {
            monitor_printf(mon, " refused: %s\n",
                           GuestMemtypeRefusal_str(range->refusal));
            continue;
        }
        monitor_printf(mon, " host %s, intent %s by %s, effective",
                       GuestMemtype_str(range->host),
                       GuestMemtype_str(range->intent),
                       GuestMemtypeSource_str(range->source));
        for (type = range->effective; type; type = type->next) {
            monitor_printf(mon, " %s", GuestMemtype_str(type->value));
        }
        monitor_printf(mon, "%s%s%s%s\n", range->forced ? ", forced" : "",
                       range->any_uncached ? ", any-uncached" : "",
                       range->noexec ? ", noexec" : "",
                       range->predicted ? ", predicted" : "");
    }
}

void kvm_memtype_class_init(ObjectClass *oc)
{
    object_class_property_add_enum(oc, "guest-memtype", "GuestMemtypePolicy",
                                   &GuestMemtypePolicy_lookup,
                                   get_policy, set_policy);
    object_class_property_set_description(oc, "guest-memtype",
        "Whose choice of memory types counts (default: KVM's default)");
    object_class_property_add(oc, "honor-guest-pat", "OnOffAuto", NULL,
                              set_honor_guest_pat, NULL, NULL);
    object_class_property_set_description(oc, "honor-guest-pat",
        "on is guest-memtype=honor, off is guest-memtype=legacy, "
        "auto is on where KVM knows it");
    monitor_register_hmp("memtype", true, hmp_info_memtype);
}
