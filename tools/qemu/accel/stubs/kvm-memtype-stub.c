/*
 * Guest memory types without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memtype.h"
#include "system/kvm_memtype.h"

bool kvm_memtype_map_info(MemoryRegion *mr, uint32_t *map_info)
{
    return true;
}

GuestMemtypeRangeList *qmp_query_memtype(Error **errp)
{
    error_setg(errp, "this QEMU has no KVM");
    return NULL;
}
