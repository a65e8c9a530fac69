// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VMM that nobody here wrote: Debian's QEMU, unmodified, on this kernel's KVM and VFIO; or one
 * that asks KVM (qemu.h).
 *
 * Its guests boot this same kernel to a shell, and run programs there: fill_screen, whose colour
 * QEMU must then see, and edu_dma, which makes a device that is passed through do DMA, and reads
 * its registers.
 */
#define _GNU_SOURCE
#include <linux/kvm_memtype.h>

#include "../kselftest_harness.h"
#include "no_timeout.h"
#include "qemu.h"
#include "../../memtype/vfio_user/no_snoop.h"

#define SCREEN		"/tmp/screen.ppm"
#define SCREENDUMP	"\"arguments\": {\"filename\": \"" SCREEN "\"}"
#define COLOUR		"336699"
#define MEMORY_PAGES	(256l << 20 >> 12)
/* More than all ROMs of the guest. A device cannot write to them, so they are cleaned only. */
#define ROM_PAGES	(4l << 20 >> 12)
#define EDU_DMA		"/memtype/memtype/edu_dma"
#define EDU_ADDED	"{'driver': 'vfio-pci', 'id': 'edu', 'bus': 'port0', %s 'host': '%s'}"
/* What a guest's shell does in a device's directory to change its configuration */
#define DD		"dd of=config bs=1 conv=notrunc seek="
/* The kernel's sample of a mediated device */
#define MDPY		"/sys/class/mdpy/mdpy"
#define MDPY_ID		"8b4b8a3c-0b3f-4d5c-9d5c-0d5e0c3c1a01"
#ifdef __x86_64__
/* Hot-plug is as PCI Express has it (see CMDLINE), not as ACPI has. */
#define HOTPLUG		"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
#else
#define HOTPLUG
#endif

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

/* Of what was cleaned since then, all is flushed that a device can have written to. */
static void expect_flushed(struct __test_metadata *_metadata, long cleaned, long flushed)
{
	cleaned = maintained("clean_pages ") - cleaned;
	flushed = maintained("flush_pages ") - flushed;
	ksft_print_msg("%ld pages cleaned, %ld flushed\n", cleaned, flushed);
	EXPECT_LE(flushed, cleaned);
	EXPECT_LE(cleaned, flushed + ROM_PAGES);
}

TEST(unmodified)
{
	char *text;

	if (asks())
		SKIP(return, "this QEMU is ours");
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
		print_cell("QEMU: query-memtype of ", variant->name,
			   asked(&self->vmm, strtoull(bar, NULL, 16), value));
	}
	EXPECT_TRUE(shell_answers(&self->vmm));
	EXPECT_TRUE(powers_off(&self->vmm));
}

/* -object iommufd, and the files that VFIO has for each device */
static bool has_iommufd(void)
{
	char *text = output_of(ROOT, (char *[]) { qemu, "-object", "help", NULL });

	return text && strstr(text, "iommufd");
}

FIXTURE(edu) {
	struct vmm vmm;
	char name[NAME_MAX + 1];
};

FIXTURE_VARIANT(edu) {
	const char *name;
	bool iommufd, cdev;
};

FIXTURE_VARIANT_ADD(edu, type1) { .name = "type1" };
FIXTURE_VARIANT_ADD(edu, iommufd) { .name = "IOMMUFD", .iommufd = true };
FIXTURE_VARIANT_ADD(edu, cdev) { .name = "cdev", .cdev = true };

FIXTURE_SETUP(edu)
{
	if (variant->cdev && !has_iommufd())
		SKIP(return, "this QEMU has no IOMMUFD");
	ASSERT_TRUE(find_edu(self->name));
	ASSERT_EQ(vfio_bind(self->name), 0);
}

FIXTURE_TEARDOWN(edu)
{
}

/*
 * The guest has the device do DMA all the time, from the first copies on, until it is taken away;
 * then it comes back. All that was cleaned for it is flushed when it goes, and when QEMU is killed.
 */
TEST_F(edu, does_dma)
{
	const long cleaned = maintained("clean_pages "), flushed = maintained("flush_pages ");
	const char *iommufd = variant->cdev ? "iommufd=iommufd," : "";
	char device[NAME_MAX + 64], plug[NAME_MAX + 256], value[256], *bar;

	wait_for_pins(0, 0);
	snprintf(device, sizeof(device), "vfio-pci,id=edu,bus=port0,%shost=%s", iommufd,
		 self->name);
	ASSERT_TRUE(boots(&self->vmm, (char *[]) {
			HOTPLUG "-device", "pcie-root-port,id=port0", "-device", device,
			variant->cdev ? "-object" : NULL, "iommufd,id=iommufd", NULL
		}, variant->iommufd));
	bar = type_line(&self->vmm, EDU_DMA " until-gone", "copied, BAR 0 at ");
	ASSERT_NE(bar, NULL);
	print_cell("QEMU: DMA over ", variant->name, "right");
	ASSERT_TRUE(explain(&self->vmm, strtoull(bar, NULL, 16), value));
	print_cell("QEMU: BAR over ", variant->name, value);
	EXPECT_GE(maintained("clean_pages ") - cleaned, MEMORY_PAGES);
	wait_for_pins(MEMORY_PAGES, LONG_MAX);

	ASSERT_TRUE(command(&self->vmm, "'device_del', 'arguments': {'id': 'edu'}",
			    "\"DEVICE_DELETED\""));
	ASSERT_NE(read_until(&self->vmm, self->vmm.console, "gone", "\n", FAILED), NULL);
	wait_for_pins(0, 0);
	expect_flushed(_metadata, cleaned, flushed);
	ASSERT_TRUE(shell_answers(&self->vmm));
	snprintf(plug, sizeof(plug), "'device_add', 'arguments': " EDU_ADDED,
		 variant->cdev ? "'iommufd': 'iommufd'," : "", self->name);
	ASSERT_TRUE(command(&self->vmm, plug, DONE));
	ASSERT_NE(type_line(&self->vmm, EDU_DMA, "copied"), NULL);
	print_cell("QEMU: hot-unplug over ", variant->name, "right");

	/* While the guest has it. */
	kill(self->vmm.pid, SIGKILL);
	ASSERT_EQ(waitpid(self->vmm.pid, NULL, 0), self->vmm.pid);
	wait_for_pins(0, 0);
	expect_flushed(_metadata, cleaned, flushed);
}

/*
 * A mediated device, as virtual graphics adapters are: nothing but the kernel is behind it. It is
 * given away by IOMMUFD. The guest writes to its video memory and reads it back.
 */
TEST(mediated)
{
	struct vmm vmm = {};
	char line[256], value[256];
	uint64_t bar;

	if (!has_iommufd())
		SKIP(return, "this QEMU has no IOMMUFD");
	ASSERT_EQ(write_file(MDPY "/mdev_supported_types/mdpy-vga/create", MDPY_ID), 0);
	ASSERT_TRUE(boots(&vmm, (char *[]) {
			"-object", "iommufd,id=iommufd", "-device",
			"vfio-pci,iommufd=iommufd,sysfsdev=" MDPY "/" MDPY_ID, NULL
		}, false));
	bar = enable_device(&vmm, "000f");
	ASSERT_NE(bar, 0);
	snprintf(line, sizeof(line), "devmem %#lx 32 0x12345678; echo has $(devmem %#lx)",
		 (long)bar, (long)bar);
	ASSERT_NE(type_line(&vmm, line, "has 0x12345678"), NULL);
	ASSERT_TRUE(explain(&vmm, bar, value));
	print_cell("QEMU: BAR of a mediated device", "", value);
	EXPECT_TRUE(powers_off(&vmm));
	EXPECT_EQ(write_file(MDPY "/" MDPY_ID "/remove", "1"), 0);
}

/*
 * A device of the machine that is a process (vfio_user/), of which the administrator has said that
 * it snoops if No-Snoop is disabled. The guest tries to enable it.
 */
TEST(process)
{
	char name[NAME_MAX + 1], device[NAME_MAX + 32], path[PATH_MAX], line[256], value[256];
	struct vmm vmm = {};
	uint64_t bar;
	char *said;

	if (!find_pci(name, "0x1af4", "0x1210"))
		SKIP(return, "no device of this machine is a process");
	ASSERT_EQ(vfio_bind(name), 0);
	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group/dma_coherency", name);
	ASSERT_EQ(write_file(path, "no-snoop-off"), 0);
	snprintf(device, sizeof(device), "vfio-pci,host=%s", name);
	ASSERT_TRUE(boots(&vmm, (char *[]) { "-device", device, NULL }, false));
	bar = enable_device(&vmm, "1210");
	ASSERT_NE(bar, 0);
	/* From now on, it says whether it could. Bus master, and DMA that does not snoop: */
	snprintf(line, sizeof(line), "devmem %#lx 32 0; printf '\\6' | " DD "%u",
		 (long)bar + NO_SNOOP_ALLOWED, PCI_COMMAND);
	ASSERT_NE(type_line(&vmm, line, "1+0 records out"), NULL);
	snprintf(line, sizeof(line), "printf '\\20\\50' | " DD "%u",
		 NO_SNOOP_EXP + PCI_EXP_DEVCTL);
	ASSERT_NE(type_line(&vmm, line, "2+0 records out"), NULL);
	/* "said1" is not in the line itself, which the guest's terminal shows. */
	snprintf(line, sizeof(line), "echo said$((1)) $(($(devmem %#lx) >> 11 & 1)) $(devmem %#lx)",
		 (long)bar + NO_SNOOP_DEVCTL, (long)bar + NO_SNOOP_ALLOWED);
	said = type_line(&vmm, line, "said1 ");
	ASSERT_NE(said, NULL);
	print_cell("QEMU: a process as a device", "",
		   !strncmp(said, "0 0x00000000", 12) ? "snoops" : "may not snoop");
	ASSERT_TRUE(explain(&vmm, bar, value));
	print_cell("QEMU: BAR of a process", "", value);
	EXPECT_TRUE(powers_off(&vmm));
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
	struct vmm vmm = {};
	const char *said;
	int fd;

	if (!has_iommufd())
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
	said = strcasestr(text, "convert") ? "wrong" :
	       strstr(text, "KVM: access of the guest to 0x") ? "explained" :
	       strstr(text, flag) ? "refused" : "wrong";
	EXPECT_STREQ(said, asks() ? "explained" : "refused");
	print_cell("QEMU: BAR without decoding", "", said);

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
	choose_qemu();
	return test_harness_run(argc, argv);
}
