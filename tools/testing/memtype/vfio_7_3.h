/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VFIO_7_3_H
#define _VFIO_7_3_H
/*
 * What upstream's vfio selftests of 7.3 miss; build.py has the compiler read this first.
 *
 * The harness would end a test after 30 s of real time, which is nothing on a busy machine.
 */
#include "../selftests/kselftest_harness.h"
#include "../selftests/memtype/no_timeout.h"

#endif /* _VFIO_7_3_H */
