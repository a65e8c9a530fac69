// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VMM that nobody here wrote: Debian's QEMU, unmodified, on this kernel's KVM and VFIO.
 *
 * It and its libraries come by 9p (tools/testing/memtype/rootfs.py). Its guests boot this same
 * kernel to a shell, and run programs there: fill_screen, whose colour QEMU must then see, and
 * edu_dma, which makes a device that is passed through do DMA, and reads its registers.
 */
#define _GNU_SOURCE
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

#include <linux/kvm_memtype.h>

#include "../kselftest_harness.h"
#include "no_timeout.h"
#include "../iommu/vfio_device.h"

#define ROOT		"/debian"
#define ERRORS		"/tmp/errors"
#define SCREEN		"/tmp/screen.ppm"
#define SCREENDUMP	"\"arguments\": {\"filename\": \"" SCREEN "\"}"
#define COLOUR		"336699"
#define MEMORY		"256M"
#define MEMORY_PAGES	(256l << 20 >> 12)
#define MAX_ARGS	64
/* How a monitor answers a command that has worked */
#define DONE		"{\"return\": {"
#define EDU_DMA		"/memtype/memtype/edu_dma"
/* What a command that fails makes the guest's shell say, and how */
#define FAILED		"failed1"
#define OR_FAILED	" || echo failed$((1))"

#ifdef __x86_64__
#define QEMU		"/usr/bin/qemu-system-x86_64"
#define MACHINE		"q35"
#define CONSOLE		"ttyS0"
#define STD_VGA		"VGA"
#else
#define QEMU		"/usr/bin/qemu-system-aarch64"
#define MACHINE		"virt,gic-version=3"
#define CONSOLE		"ttyAMA0"
/* What std VGA is without the I/O ports of a PC. */
#define STD_VGA		"bochs-display,romfile="
#endif

#define CMDLINE		"console=" CONSOLE " quiet panic=-1 kunit.enable=0"

/* Debian's files, with a tmpfs over them. */
static void mount_debian(void)
{
	static const struct {
		unsigned long flags;
		const char *type, *what, *where, *options;
	} mounts[] = {
		{ MS_RDONLY, "9p", "debian", "/files",
		  "trans=virtio,version=9p2000.L,msize=262144,cache=loose" },
		{ 0, "tmpfs", "tmpfs", "/changes", "" },
		{ 0, "overlay", "overlay", ROOT,
		  "lowerdir=/files,upperdir=/changes/new,workdir=/changes/work" },
		{ 0, "proc", "proc", ROOT "/proc", "" },
		{ 0, "sysfs", "sysfs", ROOT "/sys", "" },
		{ 0, "devtmpfs", "devtmpfs", ROOT "/dev", "" },
		{ 0, "tmpfs", "tmpfs", ROOT "/tmp", "" },
		{ 0, "tmpfs", "tmpfs", ROOT "/run", "" },
		{ MS_BIND, NULL, "/memtype", ROOT "/memtype", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].what, mounts[i].where, mounts[i].type, mounts[i].flags,
			  mounts[i].options))
			ksft_exit_fail_msg("%s: %s\n", mounts[i].where, strerror(errno));
		if (!strcmp(mounts[i].where, "/changes")) {
			mkdir("/changes/new", 0755);
			mkdir("/changes/work", 0755);
		}
	}
}

/* Runs a program, in Debian or outside, to its end; what it prints, or NULL if it fails. */
static char *output_of(const char *root, char *const argv[])
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
static char *errors(void)
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
	pid_t pid;
	int console, monitor;
	char said[1 << 16];		/* what was read last */
};

/*
 * Reads until @end comes, and @more after it; what came after @end. NULL if QEMU ends before, or
 * says @failed. All of it is printed.
 */
static char *read_until(struct vmm *vmm, int fd, const char *end, const char *more,
			const char *failed)
{
	size_t used = 0, printed = 0;
	char *at = NULL, *line;
	ssize_t n;

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
	return NULL;
}

/* IOMMUFD takes the place of type1, for this process alone. */
static bool use_iommufd(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(ROOT "/dev/iommu", ROOT "/dev/vfio/vfio", NULL, MS_BIND, NULL);
}

/* Starts QEMU with these devices, which are given away by IOMMUFD or by type1. */
static bool start_vmm(struct vmm *vmm, char *const devices[], bool iommufd)
{
	int console[2], monitor[2], log, n = 0;
	char console_arg[64], monitor_arg[64], cmdline[256] = CMDLINE;
	char *argv[MAX_ARGS] = {
		QEMU, "-machine", MACHINE, "-accel", "kvm", "-cpu", "host", "-m", MEMORY,
		"-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", "/memtype/guest/kernel", "-initrd", "/memtype/guest/initrd",
		"-append", cmdline,
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

/* Has QEMU's monitor do something, until it says @answer. */
static bool command(struct vmm *vmm, const char *json, const char *answer)
{
	dprintf(vmm->monitor, "{\"execute\": %s}\n", json);
	return read_until(vmm, vmm->monitor, answer, "}", "{\"error\": {");
}

/* Types a line into the guest's shell; what the command prints after @text. */
static char *type_line(struct vmm *vmm, const char *line, const char *text)
{
	dprintf(vmm->console, "%s" OR_FAILED "\n", line);
	return read_until(vmm, vmm->console, text, "\n", FAILED);
}

static bool shell_answers(struct vmm *vmm)
{
	return type_line(vmm, "echo $((6 * 7))", "42");
}

static bool comes_up(struct vmm *vmm)
{
	return read_until(vmm, vmm->console, "# ", "", "Kernel panic") && shell_answers(vmm);
}

static bool boots(struct vmm *vmm, char *const devices[], bool iommufd)
{
	return start_vmm(vmm, devices, iommufd) &&
	       command(vmm, "\"qmp_capabilities\"", DONE) && comes_up(vmm);
}

static bool powers_off(struct vmm *vmm)
{
	int status;

	return type_line(vmm, "exit", "exit") && waitpid(vmm->pid, &status, 0) == vmm->pid &&
	       status == 0;
}

/* How much of the screen QEMU sees in COLOUR, in percent; -1 if it sees no screen. */
static int percent_coloured(struct vmm *vmm)
{
	const uint32_t colour = strtoul(COLOUR, NULL, 16);
	unsigned int width, height, coloured = 0;
	FILE *screen;

	if (!command(vmm, "\"screendump\", " SCREENDUMP, DONE))
		return -1;
	screen = fopen(ROOT SCREEN, "r");
	if (!screen)
		return -1;
	if (fscanf(screen, "P6 %u %u 255", &width, &height) != 2 || !width || !height)
		return -1;
	getc(screen);
	for (unsigned int i = 0; i < width * height; i++) {
		uint32_t red = getc(screen), green = getc(screen), blue = getc(screen);

		coloured += (red << 16 | green << 8 | blue) == colour;
	}
	fclose(screen);
	ksft_print_msg("screen: %u of %u x %u pixels\n", coloured, width, height);
	return coloured * 100ull / (width * height);
}

static void print_cell(const char *row, const char *of, const char *value)
{
	ksft_print_msg("memtype-cell: row=%s%s effective=%s forced=no\n", row, of, value);
}

/* What kvm-memtype says of the guest's page at @gpa: the host's type, and what the guest gets. */
static bool explain(struct vmm *vmm, uint64_t gpa, char *value)
{
	char pid[16], host[16], effective[128], *text, *line, *at;

	snprintf(pid, sizeof(pid), "%d", vmm->pid);
	text = output_of("/", (char *[]) { "/memtype/kvm-memtype", "--json", pid, NULL });
	for (line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
		unsigned long long start, end;

		if (sscanf(line, " {\"as\": 0, \"start\": \"%llx\", \"end\": \"%llx\"", &start,
			   &end) != 2 || gpa < start || gpa >= end)
			continue;
		ksft_print_msg("%s\n", line);
		at = strstr(line, "\"host\"");
		if (!at || sscanf(at, "\"host\": \"%15[^\"]", host) != 1)
			return false;
		at = strstr(line, "\"effective\"");
		if (!at || sscanf(at, "\"effective\": [%127[^]]", effective) != 1)
			return false;
		value += sprintf(value, "%s:", host);
		for (at = effective; *at; at++)
			if (!strchr("\" ", *at))
				*value++ = *at;
		*value = '\0';
		return true;
	}
	return false;
}

static long pinned(void)
{
	return read_number("/proc/vmstat", "nr_foll_pin_acquired ") -
	       read_number("/proc/vmstat", "nr_foll_pin_released ");
}

/* Waits until that is how many it comes to: what CPUs count is added up now and then only. */
static void wait_for_pins(long least, long most)
{
	while (pinned() < least || pinned() > most)
		usleep(10000);
}

static long maintained(const char *how)
{
	return read_number("/sys/kernel/debug/dma_cache", how);
}

TEST(unmodified)
{
	char *text;

	text = output_of(ROOT, (char *[]) { QEMU, "--version", NULL });
	ASSERT_NE(text, NULL);
	ksft_print_msg("%.*s\n", (int)strcspn(text, "\n"), text);
	text = output_of(ROOT, (char *[]) {
		"/usr/bin/md5sum", "--check", "--strict", "--quiet", "/DEBIAN/md5sums", NULL });
	ASSERT_NE(text, NULL);
	text = output_of(ROOT, (char *[]) { "/bin/grep", (QEMU "$") + 1, "/DEBIAN/md5sums", NULL });
	ASSERT_NE(text, NULL);
	ksft_print_msg("%s", text);
}

FIXTURE(screen) {
	struct vmm vmm;
};

FIXTURE_VARIANT(screen) {
	const char *name;
	const char *driver;
	bool vram;			/* the screen is in a BAR */
	char *devices[7];
};

FIXTURE_VARIANT_ADD(screen, std) {
	.name = "std VGA", .driver = "bochs-drm", .vram = true,
	.devices = { "-device", STD_VGA },
};

FIXTURE_VARIANT_ADD(screen, virtio) {
	.name = "virtio-gpu", .driver = "virtio_gpu",
	.devices = { "-device", "virtio-gpu-pci" },
};

/* QEMU shows the guest's own pages, by a dma-buf of them. */
FIXTURE_VARIANT_ADD(screen, blob) {
	.name = "virtio-gpu blob", .driver = "virtio_gpu",
	.devices = { "-object", "memory-backend-memfd,id=ram,size=" MEMORY ",share=on",
		     "-machine", "memory-backend=ram", "-device", "virtio-gpu-pci,blob=on" },
};

FIXTURE_SETUP(screen)
{
}

FIXTURE_TEARDOWN(screen)
{
}

TEST_F(screen, is_shown)
{
	char shown[64], value[256], *bar;
	bool good;

	ASSERT_TRUE(boots(&self->vmm, variant->devices, false));
	ASSERT_EQ(percent_coloured(&self->vmm), 0);
	snprintf(shown, sizeof(shown), " by %s", variant->driver);
	ASSERT_NE(type_line(&self->vmm, "/memtype/memtype/fill_screen " COLOUR, shown), NULL);
	good = percent_coloured(&self->vmm) == 100;
	EXPECT_TRUE(good);
	print_cell("QEMU: screen of ", variant->name, good ? "shown" : "wrong");
	dprintf(self->vmm.console, "\n");
	if (variant->vram) {
		bar = type_line(&self->vmm, "head -n 1 /sys/class/drm/card0/device/resource", "0x");
		ASSERT_NE(bar, NULL);
		ASSERT_TRUE(explain(&self->vmm, strtoull(bar, NULL, 16), value));
		print_cell("QEMU: framebuffer of ", variant->name, value);
	}
	EXPECT_TRUE(shell_answers(&self->vmm));
	EXPECT_TRUE(powers_off(&self->vmm));
}

FIXTURE(edu) {
	struct vmm vmm;
	char name[NAME_MAX + 1];
};

FIXTURE_VARIANT(edu) {
	const char *name;
	bool iommufd;
};

FIXTURE_VARIANT_ADD(edu, type1) { .name = "type1", .iommufd = false };
FIXTURE_VARIANT_ADD(edu, iommufd) { .name = "IOMMUFD", .iommufd = true };

FIXTURE_SETUP(edu)
{
	ASSERT_TRUE(find_edu(self->name));
	ASSERT_EQ(vfio_bind(self->name), 0);
}

FIXTURE_TEARDOWN(edu)
{
}

TEST_F(edu, does_dma)
{
	const long cleaned = maintained("clean_pages "), flushed = maintained("flush_pages ");
	char device[NAME_MAX + 32], value[256], *bar;

	wait_for_pins(0, 0);
	snprintf(device, sizeof(device), "vfio-pci,host=%s", self->name);
	ASSERT_TRUE(boots(&self->vmm, (char *[]) { "-device", device, NULL }, variant->iommufd));
	bar = type_line(&self->vmm, EDU_DMA, "copied, BAR 0 at ");
	ASSERT_NE(bar, NULL);
	print_cell("QEMU: DMA over ", variant->name, "right");
	ASSERT_TRUE(explain(&self->vmm, strtoull(bar, NULL, 16), value));
	print_cell("QEMU: BAR over ", variant->name, value);
	EXPECT_GE(maintained("clean_pages ") - cleaned, MEMORY_PAGES);
	wait_for_pins(MEMORY_PAGES, LONG_MAX);

	/* While the guest has it. */
	kill(self->vmm.pid, SIGKILL);
	ASSERT_EQ(waitpid(self->vmm.pid, NULL, 0), self->vmm.pid);
	wait_for_pins(0, 0);
	EXPECT_EQ(maintained("flush_pages ") - flushed, maintained("clean_pages ") - cleaned);
	ksft_print_msg("%ld pages cleaned, %ld flushed\n", maintained("clean_pages ") - cleaned,
		       maintained("flush_pages ") - flushed);
}

/* Has the guest's program read a register; it comes to @end. */
static bool reads_register(struct vmm *vmm, int fd, const char *end)
{
	dprintf(vmm->console, "\n");
	return read_until(vmm, fd, end, "\n", FAILED);
}

/*
 * QEMU is given the device as an open file, which this process has, too. With that it lets the
 * device decode no memory, behind QEMU's back, so that the BAR stays a memslot: what else is so
 * only for a moment, while the guest writes the command register. The guest's access is refused.
 * QEMU must take that for an error, not for a conversion of private memory. It can run such a VM
 * again after a reset only.
 */
TEST(stops_at_refusal)
{
	char name[NAME_MAX + 1], device[64], flag[64], *text;
	char *const devices[] = {
		"-object", "iommufd,id=iommufd", "-device", device, "-action", "reboot=reset", NULL
	};
	struct vmm vmm;
	bool good;
	int fd;

	text = output_of(ROOT, (char *[]) { QEMU, "-object", "help", NULL });
	ASSERT_NE(text, NULL);
	if (!strstr(text, "iommufd"))
		SKIP(return, "this QEMU has no IOMMUFD");
	ASSERT_TRUE(find_edu(name));
	ASSERT_EQ(vfio_bind(name), 0);
	fd = vfio_open(name);
	ASSERT_GE(fd, 0);
	/* QEMU 11.1.3 dies of a device that has neither an id nor a path. */
	snprintf(device, sizeof(device), "vfio-pci,id=edu,iommufd=iommufd,fd=%d", fd);
	ASSERT_TRUE(boots(&vmm, devices, false));
	ASSERT_NE(type_line(&vmm, EDU_DMA, "copied"), NULL);

	ASSERT_EQ(vfio_command(fd, PCI_COMMAND_MEMORY, false), 0);
	ASSERT_TRUE(reads_register(&vmm, vmm.monitor, "\"STOP\""));
	ASSERT_TRUE(command(&vmm, "\"query-status\"", DONE));
	EXPECT_NE(strstr(vmm.said, "\"internal-error\""), NULL);
	snprintf(flag, sizeof(flag), "Unknown flag %#llx\n", KVM_MEMTYPE_EXIT_REFUSED);
	text = errors();
	good = strstr(text, flag) && !strcasestr(text, "convert");
	EXPECT_TRUE(good);
	print_cell("QEMU: BAR without decoding", "", good ? "refused" : "wrong");

	ASSERT_EQ(vfio_command(fd, PCI_COMMAND_MEMORY, true), 0);
	ASSERT_TRUE(command(&vmm, "\"system_reset\"", "\"RESET\""));
	ASSERT_TRUE(command(&vmm, "\"cont\"", "\"RESUME\""));
	ASSERT_TRUE(comes_up(&vmm));
	ASSERT_NE(type_line(&vmm, EDU_DMA, "copied"), NULL);
	EXPECT_TRUE(reads_register(&vmm, vmm.console, "2048 of 2048 bytes"));
	kill(vmm.pid, SIGKILL);
	EXPECT_EQ(waitpid(vmm.pid, NULL, 0), vmm.pid);
	close(fd);
}

int main(int argc, char **argv)
{
	mount_debian();
	return test_harness_run(argc, argv);
}
