/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A QEMU that is not ours, Debian's, or one that asks KVM (tools/testing/memtype/qemu.py), which
 * runs with Debian's libraries. It is started in Debian's files, which come by 9p
 * (tools/testing/memtype/rootfs.py), or with as few of them as it needs, in the initramfs. Here is
 * how it is started, spoken to, and compared with kvm-memtype.
 *
 * After kselftest_harness.h and with _GNU_SOURCE.
 */
#ifndef SELFTEST_MEMTYPE_QEMU_H
#define SELFTEST_MEMTYPE_QEMU_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../iommu/vfio_device.h"

#define ROOT		"/debian"
#define ERRORS		"/tmp/errors"
#define MEMORY		"256M"
#define MAX_ARGS	64
/* How a monitor answers a command that has worked */
#define DONE		"{\"return\": {"
#define P9		"trans=virtio,version=9p2000.L,msize=262144,cache=loose"
#define QEMU		"/usr/bin/" PROGRAM
#define OURS		"/asks/" PROGRAM
/* What a guest's shell does in a device's directory */
#define ENABLE		"echo 1 > enable; head -n 1 resource"
/* What a command that fails makes the guest's shell say, and how */
#define FAILED		"failed1"
#define OR_FAILED	" || echo failed$((1))"

#ifdef __x86_64__
#define PROGRAM		"qemu-system-x86_64"
#define MACHINE		"q35"
#define CONSOLE		"ttyS0"
#define STD_VGA		"VGA"
#else
#define PROGRAM		"qemu-system-aarch64"
#define MACHINE		"virt,gic-version=3"
#define CONSOLE		"ttyAMA0"
/* What std VGA is without the I/O ports of a PC. */
#define STD_VGA		"bochs-display,romfile="
#endif

#define CMDLINE		"console=" CONSOLE " loglevel=1 panic=-1 kunit.enable=0 pcie_ports=native"

/* The program of all tests */
static char *qemu = QEMU;

struct mounted {
	unsigned long flags;
	const char *type, *what, *where, *options;
};

static inline void mount_all(const struct mounted *mounts, size_t number)
{
	for (size_t i = 0; i < number; i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].what, mounts[i].where, mounts[i].type, mounts[i].flags,
			  mounts[i].options))
			ksft_exit_fail_msg("%s: %s\n", mounts[i].where, strerror(errno));
	}
}

/* Mounts Debian's files with a tmpfs over them, unless the initramfs has what QEMU needs. */
static inline void mount_debian(void)
{
	static const struct mounted files[] = {
		{ MS_RDONLY, "9p", "debian", "/files", P9 },
		{ 0, "tmpfs", "tmpfs", "/changes", "" },
	}, over[] = {
		{ 0, "overlay", "overlay", ROOT,
		  "lowerdir=/files,upperdir=/changes/new,workdir=/changes/work" },
	}, others[] = {
		{ 0, "proc", "proc", ROOT "/proc", "" },
		{ 0, "sysfs", "sysfs", ROOT "/sys", "" },
		{ 0, "devtmpfs", "devtmpfs", ROOT "/dev", "" },
		{ 0, "tmpfs", "tmpfs", ROOT "/tmp", "" },
		{ 0, "tmpfs", "tmpfs", ROOT "/run", "" },
		{ MS_BIND, NULL, "/memtype", ROOT "/memtype", NULL },
	};

	/* Another program of this machine has done it. */
	if (!access(ROOT "/proc/self", F_OK))
		return;
	if (access(ROOT "/usr", F_OK)) {
		mount_all(files, ARRAY_SIZE(files));
		mkdir("/changes/new", 0755);
		mkdir("/changes/work", 0755);
		mount_all(over, ARRAY_SIZE(over));
	}
	mount_all(others, ARRAY_SIZE(others));
}

/* Where there is a QEMU that asks, that one runs. */
static inline void choose_qemu(void)
{
	mkdir(ROOT "/asks", 0755);
	/* Elsewhere, this fails. */
	mount("asks", ROOT "/asks", "9p", MS_RDONLY, P9);
	if (!access(ROOT OURS, X_OK))
		qemu = OURS;
}

static inline bool asks(void)
{
	return strcmp(qemu, QEMU);
}

/* Runs a program, in Debian or outside, to its end; what it prints, or NULL if it fails. */
static inline char *output_of(const char *root, char *const argv[])
{
	static char text[1 << 16];
	size_t used = 0;
	ssize_t n;
	int out[2], status;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return NULL;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		if (!chroot(root) && !chdir("/"))
			execv(argv[0], argv);
		_exit(127);
	}
	close(out[1]);
	while ((n = read(out[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += n;
	text[used] = '\0';
	close(out[0]);
	return waitpid(pid, &status, 0) == pid && !status ? text : NULL;
}

/* What QEMU has said on its standard error output, all of which is printed. */
static inline char *errors(void)
{
	static char text[1 << 16];
	int fd = open(ROOT ERRORS, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		ksft_print_msg("! %.*s\n", (int)strcspn(line, "\n"), line);
	return text;
}

struct vmm {
	const char *accel;		/* by default, KVM as it is */
	bool empty;			/* has nothing to boot, and is not started */
	pid_t pid;
	int console, monitor;
	char said[1 << 16];		/* what was read last */
};

/* How QEMU has ended, which anybody can still wait for, and what its monitor said of it. */
static inline void print_end(const struct vmm *vmm)
{
	siginfo_t info = {};
	char events[4096];
	ssize_t n;

	if (!waitid(P_PID, vmm->pid, &info, WEXITED | WNOWAIT))
		ksft_print_msg("QEMU %s %d\n", info.si_code == CLD_EXITED ? "exits with status" :
			       "is killed by signal", info.si_status);
	n = recv(vmm->monitor, events, sizeof(events) - 1, MSG_DONTWAIT);
	events[n > 0 ? n : 0] = '\0';
	for (char *line = strtok(events, "\r\n"); line; line = strtok(NULL, "\r\n"))
		ksft_print_msg("| %s\n", line);
}

/*
 * Reads until @end comes, and @more after it; what came after @end. NULL if QEMU ends before, or
 * says @failed. All of it is printed.
 */
static inline char *read_until(struct vmm *vmm, int fd, const char *end, const char *more,
			       const char *failed)
{
	size_t used = 0, printed = 0;
	char *at = NULL, *line;
	ssize_t n = 1;

	vmm->said[0] = '\0';
	while (!at && !strstr(vmm->said, failed)) {
		n = read(fd, vmm->said + used, sizeof(vmm->said) - 1 - used);
		if (n <= 0)
			break;
		used += n;
		vmm->said[used] = '\0';
		while ((line = strchr(vmm->said + printed, '\n'))) {
			ksft_print_msg("| %.*s\n", (int)(line - vmm->said - printed),
				       vmm->said + printed);
			printed = line + 1 - vmm->said;
		}
		at = strstr(vmm->said, end);
		if (at && !strstr(at + strlen(end), more))
			at = NULL;
	}
	if (at)
		return at + strlen(end);
	ksft_print_msg("| %s\n", vmm->said + printed);
	ksft_print_msg("no '%s'\n", end);
	errors();
	/* The other end of the socket is closed. */
	if (!n && used < sizeof(vmm->said) - 1)
		print_end(vmm);
	return NULL;
}

/* IOMMUFD takes the place of type1, for this process alone. */
static inline bool use_iommufd(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(ROOT "/dev/iommu", ROOT "/dev/vfio/vfio", NULL, MS_BIND, NULL);
}

/* Starts QEMU with these devices, which are given away by IOMMUFD or by type1. */
static inline bool start_vmm(struct vmm *vmm, char *const devices[], bool iommufd)
{
	int console[2], monitor[2], log, n = 0;
	char console_arg[64], monitor_arg[64], cmdline[256] = CMDLINE;
	char *const boot[] = {
		"-kernel", "/memtype/guest/kernel", "-initrd", "/memtype/guest/initrd",
		"-append", cmdline, NULL
	}, *const stopped[] = { "-S", NULL };
	char *argv[MAX_ARGS] = {
		qemu, "-machine", MACHINE, "-accel", (char *)(vmm->accel ?: "kvm"),
		"-L", "/usr/share/qemu", "-L", "/usr/share/seabios", "-cpu", "host", "-m", MEMORY,
		"-nodefaults", "-display", "none", "-no-reboot",
		"-chardev", console_arg, "-serial", "chardev:console",
		"-chardev", monitor_arg, "-mon", "chardev=monitor,mode=control",
	};

#ifdef __x86_64__
	/* Where time is as uneven as here, the guest had better not measure these. */
	snprintf(cmdline, sizeof(cmdline), CMDLINE " no_timer_check tsc_early_khz=%ld000",
		 read_number("/proc/cpuinfo", "cpu MHz\t\t: "));
#endif
	while (argv[n])
		n++;
	for (char *const *more = vmm->empty ? stopped : boot; *more; more++)
		argv[n++] = *more;
	for (; *devices && n < MAX_ARGS - 1; devices++)
		argv[n++] = *devices;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, console) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, monitor))
		return false;
	fcntl(console[0], F_SETFD, FD_CLOEXEC);
	fcntl(monitor[0], F_SETFD, FD_CLOEXEC);
	snprintf(console_arg, sizeof(console_arg), "socket,id=console,fd=%d", console[1]);
	snprintf(monitor_arg, sizeof(monitor_arg), "socket,id=monitor,fd=%d", monitor[1]);
	log = open(ROOT ERRORS, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	vmm->pid = fork();
	if (!vmm->pid) {
		/* Whatever ends the test ends QEMU. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(log, STDERR_FILENO);
		if ((!iommufd || use_iommufd()) && !chroot(ROOT) && !chdir("/"))
			execv(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	close(log);
	close(console[1]);
	close(monitor[1]);
	vmm->console = console[0];
	vmm->monitor = monitor[0];
	return vmm->pid > 0;
}

/* Has QEMU's monitor do something, until it has said the line with @answer. */
static inline bool command(struct vmm *vmm, const char *json, const char *answer)
{
	dprintf(vmm->monitor, "{\"execute\": %s}\n", json);
	return read_until(vmm, vmm->monitor, answer, "\n", "{\"error\": {");
}

/* Types a line into the guest's shell; what the command prints after @text. */
static inline char *type_line(struct vmm *vmm, const char *line, const char *text)
{
	dprintf(vmm->console, "%s" OR_FAILED "\n", line);
	return read_until(vmm, vmm->console, text, "\n", FAILED);
}

static inline bool shell_answers(struct vmm *vmm)
{
	return type_line(vmm, "echo $((6 * 7))", "42");
}

static inline bool comes_up(struct vmm *vmm)
{
	return read_until(vmm, vmm->console, "# ", "", "Kernel panic") && shell_answers(vmm);
}

static inline bool boots(struct vmm *vmm, char *const devices[], bool iommufd)
{
	return start_vmm(vmm, devices, iommufd) &&
	       command(vmm, "\"qmp_capabilities\"", DONE) && comes_up(vmm);
}

/* The guest's device with that id in sysfs decodes addresses from now on; where BAR 0 is, or 0. */
static inline uint64_t enable_device(struct vmm *vmm, const char *id)
{
	char line[256], *bar;

	snprintf(line, sizeof(line), "cd $(dirname $(grep -l %s " PCI_DEVICES "*/device)) && "
		 ENABLE, id);
	bar = type_line(vmm, line, "0x");
	return bar ? strtoull(bar, NULL, 16) : 0;
}

static inline bool powers_off(struct vmm *vmm)
{
	int status;

	return type_line(vmm, "exit", "exit") && waitpid(vmm->pid, &status, 0) == vmm->pid &&
	       status == 0;
}

static inline void print_cell(const char *row, const char *of, const char *value)
{
	ksft_print_msg("memtype-cell: row=%s%s effective=%s forced=no\n", row, of, value);
}

/*
 * What JSON of kvm-memtype or of QEMU says of a range: the host's type, and those that the guest
 * gets; or "forced", if what the guest asks for makes no difference.
 */
static inline bool types_of(const char *json, const char *forced, char *value)
{
	const char *host = strstr(json, "\"host\": "), *effective = strstr(json, "\"effective\": ");
	char type[16], types[128];

	if (strstr(json, forced)) {
		sprintf(value, "forced");
		return true;
	}
	if (!host || sscanf(host, "\"host\": \"%15[^\"]", type) != 1 ||
	    !effective || sscanf(effective, "\"effective\": [%127[^]]", types) != 1)
		return false;
	value += sprintf(value, "%s:", type);
	for (const char *at = types; *at; at++)
		if (!strchr("\" ", *at))
			*value++ = *at;
	*value = '\0';
	return true;
}

/* The types of the guest's page at @gpa by kvm-memtype */
static inline bool explain(struct vmm *vmm, uint64_t gpa, char *value)
{
	unsigned long long start, end;
	char pid[16], *text, *line;

	snprintf(pid, sizeof(pid), "%d", vmm->pid);
	text = output_of("/", (char *[]) { "/memtype/kvm-memtype", "--json", pid, NULL });
	for (line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
		if (sscanf(line, " {\"as\": 0, \"start\": \"%llx\", \"end\": \"%llx\"", &start,
			   &end) != 2 || gpa < start || gpa >= end)
			continue;
		ksft_print_msg("%s\n", line);
		return types_of(line, "\"forced\"", value);
	}
	return false;
}

/* How what QEMU says of the guest's page at @gpa compares with @value, what kvm-memtype does. */
static inline const char *asked(struct vmm *vmm, uint64_t gpa, const char *value)
{
	char types[256], *range, *at;
	unsigned long long start, end;

	if (!command(vmm, "\"query-memtype\"", "{\"return\": ["))
		return "unknown";
	for (range = strtok(vmm->said, "{}"); range; range = strtok(NULL, "{}")) {
		at = strstr(range, "\"start\": ");
		if (!at || sscanf(at, "\"start\": %llu", &start) != 1)
			continue;
		at = strstr(range, "\"end\": ");
		if (!at || sscanf(at, "\"end\": %llu", &end) != 1 || gpa < start || gpa >= end)
			continue;
		return types_of(range, "\"forced\": true", types) && !strcasecmp(types, value) ?
		       "same" : "wrong";
	}
	return "wrong";
}

#endif /* SELFTEST_MEMTYPE_QEMU_H */
