/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_memtype

#if !defined(_TRACE_KVM_MEMTYPE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_MEMTYPE_H

#include <linux/kvm_memtype.h>
#include <linux/tracepoint.h>

/*
 * KVM encodes an intent for a leaf entry, however large: for a fault, for a page
 * next to it, or for a change of permissions. Where any-uncached has no encoding
 * of its own (x86), it is not looked at.
 */
TRACE_EVENT(kvm_memtype_map,
	    TP_PROTO(u64 gfn, const struct kvm_memtype_intent *intent),
	    TP_ARGS(gfn, intent),

	    TP_STRUCT__entry(__field(u64, gfn)
			     __field(u8, kind)
			     __field(u8, source)
			     __field(bool, any_uncached)
			     __field(bool, forced)
	    ),

	    TP_fast_assign(__entry->gfn = gfn;
			   __entry->kind = intent->kind;
			   __entry->source = intent->source;
			   __entry->any_uncached = intent->any_uncached;
			   __entry->forced = intent->forced;
	    ),

	    TP_printk("gfn %llx intent %s%s%s source %s",
		      __entry->gfn,
		      __print_symbolic(__entry->kind,
				       { KVM_MEMTYPE_WB, "WB" },
				       { KVM_MEMTYPE_WC, "WC" },
				       { KVM_MEMTYPE_UC, "UC" }),
		      __entry->any_uncached ? " any-uncached" : "",
		      __entry->forced ? " forced" : "",
		      __print_symbolic(__entry->source,
				       { KVM_MEMTYPE_SOURCE_RAM, "RAM" },
				       { KVM_MEMTYPE_SOURCE_MMIO, "MMIO" },
				       { KVM_MEMTYPE_SOURCE_POLICY, "policy" },
				       { KVM_MEMTYPE_SOURCE_CPU, "CPU" }))
);

#endif /* _TRACE_KVM_MEMTYPE_H */

#include <trace/define_trace.h>
