/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _IOMMUFD_6_12_H
#define _IOMMUFD_6_12_H
/*
 * What upstream's iommufd selftests use and the headers of 6.12 lack, so that they compile as they
 * are; build.py has the compiler read this first. The values are upstream's, but for the flag:
 * 6.12's mock device refuses one that it does not know.
 */
#include <linux/iommufd.h>

/* A union of the two there. */
#define in_data_type			out_data_type
#define IOMMU_HW_INFO_TYPE_DEFAULT	0
#define IOMMU_HW_INFO_FLAG_INPUT_TYPE	1
#define MOCK_FLAGS_DEVICE_PASID		0
#define MOCK_PASID_WIDTH		20

/* The harness would end a test after 30 s of real time, which is nothing on a busy machine. */
#include "../selftests/kselftest_harness.h"
#include "../selftests/memtype/no_timeout.h"

#endif /* _IOMMUFD_6_12_H */
