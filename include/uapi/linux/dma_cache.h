/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * CPU cache maintenance for DMA that bypasses the caches: how userspace learns that the
 * kernel does it. Documentation/driver-api/dma-cache.rst has the rules.
 */
#ifndef _UAPI_LINUX_DMA_CACHE_H
#define _UAPI_LINUX_DMA_CACHE_H

/*
 * VFIO_CHECK_EXTENSION returns 1 if memory of a container is maintained for each device
 * whose IOMMU does not enforce coherency, 0 if DMA must be coherent.
 */
#define VFIO_DMA_CACHE		0x4d54

/* The same, in out_capabilities of IOMMU_GET_HW_INFO */
#define IOMMU_HW_CAP_DMA_CACHE	(1ULL << 62)

/*
 * An option of IOMMU_OPTION, which can only be read: object_id is a hardware page table, and
 * val64 becomes one of enum iommu_hwpt_coherency. For a nested one, its parent counts.
 */
#define IOMMU_OPTION_HWPT_COHERENCY	0x4d54

/**
 * enum iommu_hwpt_coherency - what becomes of DMA that bypasses the CPU caches
 * @IOMMU_HWPT_COHERENCY_NONE: nothing is done: devices must snoop
 * @IOMMU_HWPT_COHERENCY_ENFORCED: the IOMMU makes it coherent
 * @IOMMU_HWPT_COHERENCY_MAINTAINED: the kernel cleans caches before, and flushes them after
 */
enum iommu_hwpt_coherency {
	IOMMU_HWPT_COHERENCY_NONE,
	IOMMU_HWPT_COHERENCY_ENFORCED,
	IOMMU_HWPT_COHERENCY_MAINTAINED,
};

#endif /* _UAPI_LINUX_DMA_CACHE_H */
