// SPDX-License-Identifier: GPL-2.0-only
/*
 * Misbehaves as it is told to, so that the runner of the test matrix can be
 * tested on real boots: each way to go wrong must get its own status there
 * (tools/testing/memtype/tests/test_boots.py).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kselftest.h"

/* Makes the kernel itself go wrong, by the dump test module (CONFIG_LKDTM). */
static void crash_kernel(const char *how)
{
	int fd = open("/sys/kernel/debug/provoke-crash/DIRECT", O_WRONLY);

	if (fd < 0 || write(fd, how, strlen(how)) < 0)
		ksft_exit_fail_msg("cannot make a %s: no CONFIG_LKDTM?\n", how);
	close(fd);
}

#define FLOOD	200

static void begin(unsigned int plan)
{
	ksft_print_header();
	ksft_set_plan(plan);
}

static void pass(void)
{
	begin(1);
	ksft_print_msg("memtype-cell: row=a value effective=WB forced=no\n");
	ksft_test_result_pass("good\n");
	ksft_finished();
}

static void fail(void)
{
	begin(2);
	ksft_test_result_pass("good\n");
	ksft_test_result_fail("broken\n");
	ksft_finished();
}

static void skip(void)
{
	begin(2);
	ksft_test_result_pass("good\n");
	ksft_test_result_skip("needs another machine\n");
	ksft_finished();
}

static void skip_all(void)
{
	ksft_print_header();
	ksft_exit_skip("nothing to test on this machine\n");
}

static void zero(void)
{
	begin(0);
}

static void truncated(void)
{
	begin(3);
	ksft_test_result_pass("good\n");
}

static void exit_code(void)
{
	begin(1);
	ksft_test_result_pass("good\n");
	exit(3);
}

static void killed(void)
{
	begin(2);
	ksft_test_result_pass("good\n");
	raise(SIGKILL);
}

static void hang(void)
{
	begin(2);
	ksft_test_result_pass("good\n");
	for (;;)
		pause();
}

/* Busy for ever, with a guest that is well. */
static void spin(void)
{
	begin(2);
	ksft_test_result_pass("good\n");
	for (;;)
		;
}

static void warn(void)
{
	begin(1);
	crash_kernel("WARNING");
	ksft_test_result_pass("good\n");
	ksft_finished();
}

static void panic(void)
{
	int log = open("/dev/kmsg", O_RDONLY);
	char record[8192] = "";

	if (log < 0 || lseek(log, 0, SEEK_END) < 0)
		ksft_exit_fail_perror("/dev/kmsg");
	begin(2);
	ksft_test_result_pass("good\n");
	/* Init passes that on to the kernel's log. */
	while (!strstr(record, "| ok 1 good")) {
		ssize_t n = read(log, record, sizeof(record) - 1);

		record[n < 0 ? 0 : n] = '\0';
	}
	crash_kernel("PANIC");
}

/* The kernel's messages must not get into ours, however many there are. */
static void flood(void)
{
	int fd = open("/dev/kmsg", O_WRONLY);
	char text[64];
	int len;

	if (fd < 0)
		ksft_exit_fail_perror("/dev/kmsg");
	begin(FLOOD);
	for (int i = 0; i < FLOOD; i++) {
		len = sprintf(text, "not ok %d - a message of somebody else's\n", i + 1);
		if (write(fd, text, len) != len)
			ksft_exit_fail_perror("/dev/kmsg");
		ksft_test_result_pass("line %d\n", i);
	}
	ksft_finished();
}

/* Longer than a record of /dev/kmsg, and with characters that break terminals. */
static void noise(void)
{
	begin(1);
	for (int i = 0; i < 5000; i++)
		putchar('a' + i % 26);
	putchar('\n');
	ksft_test_result_pass("good\n");
	ksft_print_msg("memtype> end memtype/pass exit=1\n");
	puts("\033[2J\001");
	ksft_finished();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} ways[] = {
		{ "pass", pass }, { "fail", fail }, { "skip", skip }, { "skip-all", skip_all },
		{ "zero", zero }, { "truncated", truncated }, { "exit-code", exit_code },
		{ "killed", killed }, { "hang", hang }, { "spin", spin }, { "warn", warn },
		{ "panic", panic }, { "flood", flood }, { "noise", noise },
	};

	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(ways); i++) {
		if (!strcmp(argv[1], ways[i].name)) {
			ways[i].run();
			return 0;
		}
	}
	fprintf(stderr, "usage: %s WAY\n", argv[0]);
	return 2;
}
