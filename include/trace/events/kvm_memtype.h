/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_memtype

#if !defined(_TRACE_KVM_MEMTYPE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_MEMTYPE_H

#include <linux/kvm_memtype.h>
#include <linux/tracepoint.h>

/* A fault maps a page with this intent; a large mapping fires once. */
TRACE_EVENT(kvm_memtype_map,
	    TP_PROTO(u64 gfn, u64 pfn, const struct kvm_memtype_intent *intent),
	    TP_ARGS(gfn, pfn, intent),

	    TP_STRUCT__entry(__field(u64, gfn)
			     __field(u64, pfn)
			     __field(u8, kind)
			     __field(u8, source)
			     __field(bool, any_uncached)
			     __field(bool, forced)
	    ),

	    TP_fast_assign(__entry->gfn = gfn;
			   __entry->pfn = pfn;
			   __entry->kind = intent->kind;
			   __entry->source = intent->source;
			   __entry->any_uncached = intent->any_uncached;
			   __entry->forced = intent->forced;
	    ),

	    TP_printk("gfn %llx pfn %llx intent %s%s%s source %s",
		      __entry->gfn, __entry->pfn,
		      __print_symbolic(__entry->kind,
				       { MEMTYPE_WB, "WB" },
				       { MEMTYPE_WC, "WC" },
				       { MEMTYPE_UC, "UC" }),
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
