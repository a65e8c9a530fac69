/*
 * Guest memory types: asking KVM instead of assuming
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_KVM_MEMTYPE_H
#define QEMU_KVM_MEMTYPE_H

#include "system/kvm.h"
#include "system/memory.h"

struct kvm_run;

/**
 * kvm_memtype_framebuffer: say that a RAM region is an emulated framebuffer
 * @mr: the region, before it is mapped into the guest
 *
 * The guest gets it write-back whatever it asks for, where KVM can do that:
 * it shares it with nobody but QEMU.
 */
static inline void kvm_memtype_framebuffer(MemoryRegion *mr)
{
    mr->framebuffer = true;
}

/**
 * kvm_memtype_map_info: how a guest has to map a blob
 * @mr: RAM region of the blob, mapped into the guest
 * @map_info: in: what the renderer says; out: what KVM says, as map_info of
 *     virtio-gpu. Unchanged where KVM cannot be asked.
 *
 * Returns: false if the guest's accesses would be refused. The reason has been
 * printed, and the blob must not be offered.
 */
bool kvm_memtype_map_info(MemoryRegion *mr, uint32_t *map_info);

/* For KVM's own code */
void kvm_memtype_class_init(ObjectClass *oc);
int kvm_memtype_init(KVMState *s);
int kvm_memtype_slot_flags(MemoryRegion *mr);
void kvm_memtype_check_slot(KVMState *s, int as_id, MemoryRegion *mr,
                            hwaddr start, hwaddr size);
bool kvm_memtype_refused(CPUState *cpu, struct kvm_run *run);

#endif
