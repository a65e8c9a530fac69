// SPDX-License-Identifier: GPL-2.0-only
/*
 * The init of a test machine: runs the programs that /memtype/tests lists, one
 * after the other, and powers the machine off.
 *
 * Everything goes to the console through /dev/kmsg, so that on every emulator
 * the programs' output and the kernel's own messages come out in one order.
 * Each record of ours starts with one of these, which no kernel message does:
 *
 *	memtype> boot			the tests are about to start
 *	memtype> start NAME		the program NAME starts
 *	memtype> alive			it is still running: what time it is in the guest
 *	memtype| TEXT			a line of its output
 *	memtype+ TEXT			a part of a line that the next record continues
 *	memtype> end NAME exit=N	it ended with exit code N
 *	memtype> end NAME signal=N	... or was killed by signal N
 *	memtype> counts PATH		what gcov counted in an object follows
 *	memtype= WORD...		... 32-bit words of its .gcda file, in hex
 *	memtype> done			all programs ran, the machine powers off
 *
 * A line of /memtype/tests is NAME PROGRAM [ARGUMENT...], separated by spaces.
 * Where the initramfs holds a shell (make shell), that runs on the console
 * instead.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "../selftests/kselftest.h"

#define TESTS		"/memtype/tests"
#define SHELL		"/bin/busybox"
#define MAX_ARGS	32
/* A record of /dev/kmsg holds 1024 bytes (PRINTKRB_RECORD_MAX), prefix included. */
#define MAX_TEXT	900
/* Seconds between two signs of life while a program runs. */
#define ALIVE		10

static int kmsg = -1;

static __printf(1, 2) void say(const char *fmt, ...)
{
	char record[MAX_TEXT + 64];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(record, sizeof(record), fmt, args);
	va_end(args);

	if (len >= (int)sizeof(record) - 1)
		len = sizeof(record) - 2;
	/* Without a line end the record would wait for the next one. */
	record[len++] = '\n';
	/* One write is one record; there is no one left to tell of a failure. */
	if (write(kmsg, record, len) != len)
		reboot(RB_POWER_OFF);
}

static void mount_all(void)
{
	static const struct {
		const char *type, *dir;
	} mounts[] = {
		{ "devtmpfs",	"/dev" },
		{ "proc",	"/proc" },
		{ "sysfs",	"/sys" },
		{ "devpts",	"/dev/pts" },
		{ "tmpfs",	"/dev/shm" },
		{ "tmpfs",	"/tmp" },
		{ "debugfs",	"/sys/kernel/debug" },
		{ "tracefs",	"/sys/kernel/tracing" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].dir, 0755);
		/* A failure shows as that of the first program that needs it. */
		if (mount(mounts[i].type, mounts[i].dir, mounts[i].type, 0, NULL))
			perror(mounts[i].dir);
	}
}

static void shell(void)
{
	if (!fork()) {
		setsid();
		ioctl(STDIN_FILENO, TIOCSCTTY, 1);
		execl(SHELL, "sh", "-l", NULL);
		perror(SHELL);
		_exit(1);
	}
	/* As PID 1, reap whatever the shell leaves behind; it is last to go. */
	while (wait(NULL) > 0)
		;
}

/* Passes on one line, in as many records as it needs. */
static void say_line(char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			line[i] = '?';

	for (; len > MAX_TEXT; line += MAX_TEXT, len -= MAX_TEXT)
		say("memtype+ %.*s", MAX_TEXT, line);
	say("memtype| %.*s", (int)len, line);
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Passes on the output of @child, a line at a time, until @child has ended. */
static int relay(int fd, pid_t child)
{
	static char buf[1 << 16];
	time_t said = now();
	size_t used = 0;
	bool ended = false;
	int status = 0;

	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		char *line = buf, *end;
		ssize_t got;

		/* What the child wrote before it ended is still in the pty. */
		if (poll(&pfd, 1, ended ? 0 : 50) > 0) {
			got = read(fd, buf + used, sizeof(buf) - used);
			if (got > 0)
				used += got;
			else if (ended)
				break;
		} else if (ended) {
			break;
		}

		while ((end = memchr(line, '\n', buf + used - line))) {
			say_line(line, end - line);
			line = end + 1;
		}
		used -= line - buf;
		memmove(buf, line, used);
		if (used == sizeof(buf)) {
			say_line(buf, used);
			used = 0;
		}

		if (!ended && waitpid(child, &status, WNOHANG) == child)
			ended = true;

		/* Limits are in seconds of the guest where its clock counts instructions. */
		if (now() - said >= ALIVE) {
			say("memtype> alive");
			said = now();
		}
	}
	if (used)
		say_line(buf, used);

	return status;
}

static void run(const char *name, char **argv)
{
	struct termios raw;
	pid_t child;
	int fd, status;

	say("memtype> start %s", name);

	/* On a terminal a program's stdout is line buffered, and in step with stderr. */
	memset(&raw, 0, sizeof(raw));
	cfmakeraw(&raw);
	raw.c_cflag = CS8 | CREAD;
	child = forkpty(&fd, NULL, &raw, NULL);
	if (child < 0) {
		say("memtype| cannot start: %s", strerror(errno));
		say("memtype> end %s exit=127", name);
		return;
	}
	if (!child) {
		execv(argv[0], argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}

	status = relay(fd, child);
	/* The child leads a session: whatever it left behind must not run on. */
	kill(-child, SIGKILL);
	close(fd);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;

	if (WIFSIGNALED(status))
		say("memtype> end %s signal=%d", name, WTERMSIG(status));
	else
		say("memtype> end %s exit=%d", name, WEXITSTATUS(status));
}

/* Has kmemleak (CONFIG=debug) look now; the kernel log then says what it found. */
static void find_leaks(void)
{
	int fd = open("/sys/kernel/debug/kmemleak", O_WRONLY);

	if (fd < 0)
		return;
	/* It takes what is younger than 5 s (MSECS_MIN_AGE) for still in use. */
	sleep(6);
	if (write(fd, "scan", 4) != 4)
		say("memtype: kmemleak: %s", strerror(errno));
	close(fd);
}

/* Passes on one file of gcov's; of its 64-bit counters, most words are 0. */
static void say_counts(const char *path)
{
	FILE *file = fopen(path, "r");
	char text[MAX_TEXT];
	unsigned int word;
	size_t len = 0;

	if (!file) {
		say("memtype: %s: %s", path, strerror(errno));
		return;
	}
	say("memtype> counts %s", path);
	while (fread(&word, sizeof(word), 1, file) == 1) {
		len += sprintf(text + len, " %x", word);
		if (len > sizeof(text) - sizeof(" ffffffff")) {
			say("memtype=%s", text);
			len = 0;
		}
	}
	if (len)
		say("memtype=%s", text);
	fclose(file);
}

/* Says what gcov counted; without CONFIG=coverage there is no such directory. */
static void say_coverage(const char *directory)
{
	char *const paths[] = { (char *)directory, NULL };
	FTS *files = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	const char *end;
	FTSENT *file;

	while (files && (file = fts_read(files))) {
		end = strrchr(file->fts_name, '.');
		if (file->fts_info == FTS_F && end && !strcmp(end, ".gcda"))
			say_counts(file->fts_path);
	}
	if (files)
		fts_close(files);
}

#ifdef __x86_64__
static void run_on(long cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

/*
 * QEMU can forget that a CPU has an interrupt when that CPU leaves an SVM guest:
 * do_vmexit() takes no lock. If it was the timer's, the CPU waits for it forever, but any other
 * interrupt brings it to mind. So from each CPU another one is woken, now and then.
 */
static void keep_awake(void)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (long cpu = 0; cpus > 1 && cpu < cpus; cpu++) {
		if (fork())
			continue;
		for (;;) {
			run_on(cpu);
			usleep(100000);
			run_on((cpu + 1) % cpus);
		}
	}
}
#else
static void keep_awake(void)
{
}
#endif

static void run_all(void)
{
	FILE *tests = fopen(TESTS, "r");
	char *line = NULL;
	size_t size = 0;

	if (!tests) {
		say("memtype: %s: %s", TESTS, strerror(errno));
		return;
	}
	while (getline(&line, &size, tests) > 0) {
		char *words[MAX_ARGS + 1];
		int n = 0;

		line[strcspn(line, "\n")] = '\0';
		for (char *w = strtok(line, " "); w && n < MAX_ARGS; w = strtok(NULL, " "))
			words[n++] = w;
		words[n] = NULL;
		if (n >= 2)
			run(words[0], words + 1);
	}
	free(line);
	fclose(tests);
	find_leaks();
	say_coverage("/sys/kernel/debug/gcov");
	say("memtype> done");
}

int main(void)
{
	mount_all();
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	setenv("PATH", "/bin:/memtype", 1);
	setenv("HOME", "/tmp", 1);
	setenv("TERM", "linux", 1);
	if (!access(SHELL, X_OK)) {
		shell();
	} else if (kmsg >= 0 && !chdir("/tmp")) {
		keep_awake();
		say("memtype> boot");
		run_all();
	}
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
