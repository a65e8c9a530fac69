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
	    TP_PROTO(u64 gfn, enum memtype_kind host, const struct kvm_memtype_intent *intent),
	    TP_ARGS(gfn, host, intent),

	    TP_STRUCT__entry(__field(u64, gfn)
			     __field(u8, host)
			     __field(u8, kind)
			     __field(u8, source)
			     __field(bool, any_uncached)
			     __field(bool, forced)
	    ),

	    TP_fast_assign(__entry->gfn = gfn;
			   __entry->host = host;
			   __entry->kind = intent->kind;
			   __entry->source = intent->source;
			   __entry->any_uncached = intent->any_uncached;
			   __entry->forced = intent->forced;
	    ),

	    TP_printk("gfn %llx host %s intent %s%s%s source %s",
		      __entry->gfn,
		      __print_symbolic(__entry->host,
				       { KVM_MEMTYPE_WB, "WB" },
				       { KVM_MEMTYPE_WT, "WT" },
				       { KVM_MEMTYPE_WP, "WP" },
				       { KVM_MEMTYPE_WC, "WC" },
				       { KVM_MEMTYPE_UC_MINUS, "UC-" },
				       { KVM_MEMTYPE_UC, "UC" },
				       { KVM_MEMTYPE_GRE, "GRE" },
				       { KVM_MEMTYPE_NGRE, "nGRE" },
				       { KVM_MEMTYPE_NGNRNE, "nGnRnE" }),
		      __print_symbolic(__entry->kind,
				       { KVM_MEMTYPE_WB, "WB" },
				       { KVM_MEMTYPE_WT, "WT" },
				       { KVM_MEMTYPE_WP, "WP" },
				       { KVM_MEMTYPE_WC, "WC" },
				       { KVM_MEMTYPE_UC, "UC" }),
		      __entry->any_uncached ? " any-uncached" : "",
		      __entry->forced ? " forced" : "",
		      __print_symbolic(__entry->source,
				       { KVM_MEMTYPE_SOURCE_RAM, "RAM" },
				       { KVM_MEMTYPE_SOURCE_MMIO, "MMIO" },
				       { KVM_MEMTYPE_SOURCE_POLICY, "policy" },
				       { KVM_MEMTYPE_SOURCE_CPU, "CPU" },
				       { KVM_MEMTYPE_SOURCE_PTE, "PTE" },
				       { KVM_MEMTYPE_SOURCE_SLOT, "slot" }))
);

/* KVM cannot map a page that a guest needs. */
TRACE_EVENT(kvm_memtype_refuse,
	    TP_PROTO(u64 gfn, u8 refusal),
	    TP_ARGS(gfn, refusal),

	    TP_STRUCT__entry(__field(u64, gfn)
			     __field(u8, refusal)
	    ),

	    TP_fast_assign(__entry->gfn = gfn;
			   __entry->refusal = refusal;
	    ),

	    TP_printk("gfn %llx refusal %s", __entry->gfn,
		      __print_symbolic(__entry->refusal,
				       { KVM_MEMTYPE_REFUSAL_UNMAPPED, "unmapped" },
				       { KVM_MEMTYPE_REFUSAL_CACHEABLE, "cacheable" },
				       { KVM_MEMTYPE_REFUSAL_MTE, "MTE" },
				       { KVM_MEMTYPE_REFUSAL_HYPERVISOR, "hypervisor" }))
);

/*
 * Userspace chose the policy of a VM, or the VM got its first non-coherent device
 * or lost its last; then zap says whether everything must be mapped anew.
 */
TRACE_EVENT(kvm_memtype_policy,
	    TP_PROTO(u8 policy, bool noncoherent_dma, bool zap),
	    TP_ARGS(policy, noncoherent_dma, zap),

	    TP_STRUCT__entry(__field(u8, policy)
			     __field(bool, noncoherent_dma)
			     __field(bool, zap)
	    ),

	    TP_fast_assign(__entry->policy = policy;
			   __entry->noncoherent_dma = noncoherent_dma;
			   __entry->zap = zap;
	    ),

	    TP_printk("policy %s non-coherent DMA %d zap %d",
		      __print_symbolic(__entry->policy,
				       { KVM_MEMTYPE_POLICY_HONOR, "honor" },
				       { KVM_MEMTYPE_POLICY_LEGACY, "legacy" },
				       { KVM_MEMTYPE_POLICY_STAGE1, "stage1" }),
		      __entry->noncoherent_dma, __entry->zap)
);

#endif /* _TRACE_KVM_MEMTYPE_H */

#include <trace/define_trace.h>
