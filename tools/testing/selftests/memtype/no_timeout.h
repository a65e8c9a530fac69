/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_MEMTYPE_NO_TIMEOUT_H
#define SELFTEST_MEMTYPE_NO_TIMEOUT_H

/*
 * kselftest_harness.h kills a test after 30 s of real time, which an emulator
 * on a busy machine may need. Whoever runs the programs has limits that do not
 * depend on the speed of the machine, so the tests of a file that includes this
 * after the harness have none. Of -1 seconds, poll() knows that they never end, and for
 * alarm(), of older harnesses, they are 136 years.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT -1

#endif /* SELFTEST_MEMTYPE_NO_TIMEOUT_H */
