// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blobs of virtio-gpu in the memory of the host, with a QEMU that asks (qemu.h) and a renderer that
 * maps them with each memory type (../../memtype/renderer/). A program in the guest says with which
 * type the guest's driver maps them. The renderer tells QEMU that all are cached, as one that goes
 * by the name of a driver would.
 */
#define _GNU_SOURCE
#include "../kselftest_harness.h"
#include "no_timeout.h"
#include "qemu.h"
#include "../../memtype/renderer/renderer.h"

/* Has the guest's program map a blob; the type that it says. */
static char *type_of_blob(struct vmm *vmm, enum renderer_blob id)
{
	static char kind[16];
	char line[64], *said;

	snprintf(line, sizeof(line), "/memtype/memtype/map_blob %u", id);
	said = type_line(vmm, line, "blob is ");
	return said && sscanf(said, "%15s", kind) == 1 ? kind : NULL;
}

/* Has the program use it. */
static bool holds_what_was_written(struct vmm *vmm)
{
	dprintf(vmm->console, "\n");
	return read_until(vmm, vmm->console, "it holds", "\n", FAILED);
}

/* The BAR of the blobs is so large that it is above 4 GiB, where no MTRR of a PC makes it UC. */
TEST(mapped_as_told)
{
	static const struct mounted debugfs[] = {
		{ 0, "debugfs", "debugfs", ROOT "/sys/kernel/debug", "" },
	};
	static const char * const names[] = {
		[RENDERER_WB] = "WB", [RENDERER_WC] = "WC", [RENDERER_UC] = "UC",
	};
	struct vmm vmm = {};
	unsigned int id;
	char *kind;

	mount_all(debugfs, ARRAY_SIZE(debugfs));
	ASSERT_TRUE(boots(&vmm, (char *[]) {
			"-display", "egl-headless,rendernode=/dev/null",
			"-device", "virtio-gpu-gl-pci,blob=on,hostmem=4G", NULL
		}, false));
	for (id = 0; id < ARRAY_SIZE(names); id++) {
		kind = type_of_blob(&vmm, id);
		ASSERT_NE(kind, NULL);
		print_cell("QEMU: blob ", names[id], kind);
		ASSERT_TRUE(holds_what_was_written(&vmm));
	}

	kind = type_of_blob(&vmm, RENDERER_NOTHING);
	ASSERT_NE(kind, NULL);
	print_cell("QEMU: blob ", "without access", kind);
	ASSERT_STREQ(kind, "refused");
	EXPECT_NE(strstr(errors(), "would be refused: unmapped"), NULL);
	kind = type_of_blob(&vmm, RENDERER_NO_MEMORY);
	ASSERT_NE(kind, NULL);
	print_cell("QEMU: blob ", "without memory", kind);
	ASSERT_STREQ(kind, "refused");
	EXPECT_NE(strstr(errors(), "would be refused: the host cannot read it"), NULL);
	/* QEMU goes on. */
	kind = type_of_blob(&vmm, RENDERER_WB);
	ASSERT_NE(kind, NULL);
	EXPECT_STREQ(kind, "WB");
	EXPECT_TRUE(holds_what_was_written(&vmm));
	EXPECT_TRUE(powers_off(&vmm));
}

int main(int argc, char **argv)
{
	mount_debian();
	choose_qemu();
	return test_harness_run(argc, argv);
}
