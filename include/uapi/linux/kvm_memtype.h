/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Guest memory types. Documentation/virt/kvm/memtype.rst says what each type
 * promises and who decides it.
 */
#ifndef _UAPI_LINUX_KVM_MEMTYPE_H
#define _UAPI_LINUX_KVM_MEMTYPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * KVM_CHECK_EXTENSION(KVM_CAP_MEMTYPE) returns a bitmap of KVM_MEMTYPE_CAP_*;
 * asked of a VM, it is about that VM, else about a VM with the host's default.
 */
#define KVM_CAP_MEMTYPE			0x4d54

/* The guest's own choice (x86 PAT, arm64 stage 1) counts for guest RAM. */
#define KVM_MEMTYPE_CAP_HONOR		(1 << 0)
/* A guest that asks for WC gets it, for RAM or for any-uncached host MMIO. */
#define KVM_MEMTYPE_CAP_WC		(1 << 1)
/* KVM_GET_MEMTYPE exists. */
#define KVM_MEMTYPE_CAP_QUERY		(1 << 2)
/* What the host maps cacheable although it is not memory is mapped so. */
#define KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP (1 << 3)
/* KVM_MEM_FORCE_WB is accepted. */
#define KVM_MEMTYPE_CAP_FORCE_WB	(1 << 4)
/* KVM_MEMTYPE_POLICY_STAGE1 is accepted. */
#define KVM_MEMTYPE_CAP_STAGE1		(1 << 5)

/* KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP on arm64, as Linux 6.17 and later say it */
#ifndef KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
#define KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED	243
#endif

/*
 * KVM_ENABLE_CAP(KVM_CAP_MEMTYPE) on a VM without vCPUs: args[0] is one of
 * these, everything else 0.
 */
#define KVM_MEMTYPE_POLICY_HONOR	(1 << 0)
/* As KVM did before for what the host caches; on Intel, KVM_X86_QUIRK_IGNORE_GUEST_PAT decides. */
#define KVM_MEMTYPE_POLICY_LEGACY	(1 << 1)
/* arm64 with FWB: honor, and KVM maintains caches as on a CPU without FWB. */
#define KVM_MEMTYPE_POLICY_STAGE1	(1 << 2)

/*
 * Flag of a memslot (KVM_SET_USER_MEMORY_REGION and ..._REGION2), immutable: the
 * guest's choice for memory in it is ignored, as long as the VM has no
 * non-coherent DMA. For framebuffers that are emulated.
 */
#define KVM_MEM_FORCE_WB		(1UL << 15)

/* Memory types. */
#define KVM_MEMTYPE_NONE		0	/* not a type of this architecture */
#define KVM_MEMTYPE_WB			1
#define KVM_MEMTYPE_WT			2
#define KVM_MEMTYPE_WP			3	/* x86 */
#define KVM_MEMTYPE_WC			4	/* arm64: Normal Non-cacheable */
#define KVM_MEMTYPE_UC_MINUS		5	/* x86 */
#define KVM_MEMTYPE_UC			6	/* arm64: Device-nGnRE */
#define KVM_MEMTYPE_GRE			7	/* arm64: Device-GRE */
#define KVM_MEMTYPE_NGRE		8	/* arm64: Device-nGRE */
#define KVM_MEMTYPE_NGNRNE		9	/* arm64: Device-nGnRnE */

/* struct kvm_memtype.source: what the intent follows from. */
#define KVM_MEMTYPE_SOURCE_NONE		0	/* refused */
#define KVM_MEMTYPE_SOURCE_RAM		1	/* mapped WB by the host */
#define KVM_MEMTYPE_SOURCE_MMIO		2	/* not memory */
#define KVM_MEMTYPE_SOURCE_POLICY	3	/* the VM's policy is legacy */
#define KVM_MEMTYPE_SOURCE_CPU		4	/* KVM lets no guest choose on this CPU */
#define KVM_MEMTYPE_SOURCE_PTE		5	/* memory that the host does not map WB */
#define KVM_MEMTYPE_SOURCE_SLOT		6	/* the memslot has KVM_MEM_FORCE_WB */

/* struct kvm_memtype.refusal: why a guest access ends KVM_RUN with an error. */
#define KVM_MEMTYPE_REFUSAL_NONE	0
/* Nothing backs the page, or (a fault only) nothing that may be written. */
#define KVM_MEMTYPE_REFUSAL_UNMAPPED	1
/*
 * Not memory, the host maps it cacheable, and the CPU lacks FWB or DIC or the VM's
 * policy is KVM_MEMTYPE_POLICY_STAGE1 (arm64).
 */
#define KVM_MEMTYPE_REFUSAL_CACHEABLE	2
/* The VM has MTE, and the memory cannot have tags (arm64). */
#define KVM_MEMTYPE_REFUSAL_MTE		3
/* Not memory that the host caches, and pKVM's hypervisor maps nothing else (arm64). */
#define KVM_MEMTYPE_REFUSAL_HYPERVISOR	4

/*
 * Flag of struct kvm_run.memory_fault.flags: the access was refused, and it will be
 * until the host maps something else there. struct kvm_memtype.refusal usually says
 * why. It is never set of a page that userspace has to convert between private and
 * shared.
 */
#define KVM_MEMTYPE_EXIT_REFUSED	(1ULL << 56)

/* struct kvm_memtype.attributes */
#define KVM_MEMTYPE_ATTR_FORCED		(1 << 0) /* the guest's choice is ignored */
#define KVM_MEMTYPE_ATTR_ANY_UNCACHED	(1 << 1) /* UC, and the guest may choose WC */
#define KVM_MEMTYPE_ATTR_NOEXEC		(1 << 2) /* instruction fetches abort */
#define KVM_MEMTYPE_ATTR_PREDICTED	(1 << 3) /* what will be mapped there is a guess */

/**
 * struct kvm_memtype - argument of KVM_GET_MEMTYPE
 * @gpa: in: guest physical address, in bytes
 * @as_id: in: address space (x86: 1 is SMM), as in the slot field of
 *	KVM_SET_USER_MEMORY_REGION
 * @flags: in: must be 0
 * @end: out: guest physical address, in bytes, up to which all other outputs hold;
 *	what follows may still have the same ones
 * @padding: in: must be 0
 * @host: out: type with which the host maps the page
 * @intent: out: type that KVM grants
 * @source: out: KVM_MEMTYPE_SOURCE_*
 * @refusal: out: KVM_MEMTYPE_REFUSAL_*; if not 0, all outputs are 0 but @end and
 *	KVM_MEMTYPE_ATTR_PREDICTED
 * @attributes: out: KVM_MEMTYPE_ATTR_*
 * @effective: out: type that the CPU uses, indexed by the type that the guest
 *	chooses in its own page tables; KVM_MEMTYPE_NONE where it cannot
 */
struct kvm_memtype {
	__u64 gpa;
	__u32 as_id;
	__u32 flags;
	__u64 end;
	__u64 padding;
	__u8 host;
	__u8 intent;
	__u8 source;
	__u8 refusal;
	__u32 attributes;
	__u8 effective[16];
};

/* VM ioctl, available with KVM_MEMTYPE_CAP_QUERY; <linux/kvm.h> has KVMIO. */
#define KVM_GET_MEMTYPE		_IOWR(KVMIO, 0xf4, struct kvm_memtype)

#endif /* _UAPI_LINUX_KVM_MEMTYPE_H */
