// SPDX-License-Identifier: GPL-2.0-only
/*
 * What QEMU's command line makes of a VM's memory types, and what QEMU says of them. Nothing runs
 * in these VMs: QEMU is only started (qemu.h).
 */
#define _GNU_SOURCE
#include "../kselftest_harness.h"
#include "no_timeout.h"
#include "qemu.h"

/* Where the guest's firmware would put the framebuffer; and memory of the guest */
#define FRAMEBUFFER	0xc0000000ul
#define RAM		0x100000ul
/* A migration says by an event that it is complete. */
#define EVENTS		"{'capabilities': [{'capability': 'events', 'state': true}]}"
/* VMware's adapter: where its ports are to be, and two of its registers */
#define SVGA_PORTS		0xc000
#define SVGA_ENABLE		1
#define SVGA_CONFIG_DONE	20
#define DEFAULT_POLICY	"/sys/module/kvm/parameters/guest_memtype"

/* What kvm-memtype says is the VM's policy; NULL if it says none. */
static const char *policy_of(struct vmm *vmm)
{
	static char policy[32];
	char pid[16], *text;

	snprintf(pid, sizeof(pid), "%d", vmm->pid);
	text = output_of("/", (char *[]) { "/memtype/kvm-memtype", "--json", pid, NULL });
	text = text ? strstr(text, "\"policy\": \"") : NULL;
	return text && sscanf(text, "\"policy\": \"%31[^\"]", policy) == 1 ? policy : NULL;
}

static void end_vmm(struct vmm *vmm)
{
	kill(vmm->pid, SIGKILL);
	waitpid(vmm->pid, NULL, 0);
}

FIXTURE(policy) {
	struct vmm vmm;
};

FIXTURE_VARIANT(policy) {
	const char *property;
};

FIXTURE_VARIANT_ADD(policy, none) { .property = "" };
FIXTURE_VARIANT_ADD(policy, honor) { .property = "guest-memtype=honor" };
FIXTURE_VARIANT_ADD(policy, legacy) { .property = "guest-memtype=legacy" };
FIXTURE_VARIANT_ADD(policy, stage1) { .property = "guest-memtype=stage1" };
FIXTURE_VARIANT_ADD(policy, pat_on) { .property = "honor-guest-pat=on" };
FIXTURE_VARIANT_ADD(policy, pat_off) { .property = "honor-guest-pat=off" };
FIXTURE_VARIANT_ADD(policy, pat_auto) { .property = "honor-guest-pat=auto" };

FIXTURE_SETUP(policy)
{
}

/* Also where an assertion has ended the test: the next one expects the host's own default. */
FIXTURE_TEARDOWN(policy)
{
	if (self->vmm.pid > 0)
		end_vmm(&self->vmm);
	EXPECT_EQ(write_file(DEFAULT_POLICY, "honor"), 0);
}

/* QEMU ends if it does not know what it is told, or KVM refuses it. */
TEST_F(policy, is_chosen)
{
	const char *value = NULL;
	char accel[64];

	snprintf(accel, sizeof(accel), "kvm%s%s", *variant->property ? "," : "", variant->property);
	self->vmm.accel = accel;
	self->vmm.empty = true;
	ASSERT_TRUE(start_vmm(&self->vmm, (char *[]) { NULL }, false));
	if (command(&self->vmm, "\"qmp_capabilities\"", DONE))
		value = policy_of(&self->vmm);
	else if (strstr(errors(), "not found"))
		value = "unknown";
	else if (strstr(errors(), " here: "))
		value = "refused";
	ASSERT_NE(value, NULL);
	print_cell("QEMU: ", accel, value);
}

#ifdef __x86_64__
/*
 * On a host whose default is legacy, the quirk decides, which is what QEMU's own honor-guest-pat
 * is about; a QEMU that asks chooses the policy instead.
 */
TEST_F(policy, decides_on_a_legacy_host)
{
	char accel[64], row[128], types[256] = "unknown";

	snprintf(accel, sizeof(accel), "kvm%s%s", *variant->property ? "," : "", variant->property);
	self->vmm.accel = accel;
	self->vmm.empty = true;
	ASSERT_EQ(write_file(DEFAULT_POLICY, "legacy"), 0);
	ASSERT_TRUE(start_vmm(&self->vmm, (char *[]) { NULL }, false));
	if (command(&self->vmm, "\"qmp_capabilities\"", DONE))
		EXPECT_TRUE(explain(&self->vmm, RAM, types));
	snprintf(row, sizeof(row), "QEMU: %s on a legacy host: ", accel);
	print_cell(row, "RAM", types);
}

/* A command of the monitor for people */
static bool command_line(struct vmm *vmm, const char *line)
{
	char json[256];

	snprintf(json, sizeof(json),
		 "'human-monitor-command', 'arguments': {'command-line': '%s'}", line);
	return command(vmm, json, "{\"return\": \"");
}

/* Writes to a register by an address port and a data port, as the guest's CPU would. */
static bool write_register(struct vmm *vmm, unsigned int port, unsigned int address,
			   unsigned int data_port, unsigned int data)
{
	char first[64], second[64];

	snprintf(first, sizeof(first), "o /w %#x %#x", port, address);
	snprintf(second, sizeof(second), "o /w %#x %#x", data_port, data);
	return command_line(vmm, first) && command_line(vmm, second);
}

/* To the configuration space of the device in slot 3 */
static bool write_config(struct vmm *vmm, unsigned int offset, unsigned int value)
{
	return write_register(vmm, 0xcf8, 0x80001800 + offset, 0xcfc, value);
}

static bool starts_with(struct vmm *vmm, char *device)
{
	vmm->empty = true;
	return start_vmm(vmm, (char *[]) { "-device", device, NULL }, false) &&
	       command(vmm, "\"qmp_capabilities\"", DONE);
}

/*
 * A QEMU that asks forces the memslot of the framebuffer, where the VM has that, and no other. A
 * migration, for which QEMU logs all that is written, leaves it so.
 */
TEST(framebuffer)
{
	char of_it[256], of_ram[256];
	struct vmm vmm = {};

	ASSERT_TRUE(starts_with(&vmm, "bochs-display,addr=3,romfile="));
	ASSERT_TRUE(write_config(&vmm, PCI_BASE_ADDRESS_0, FRAMEBUFFER));
	ASSERT_TRUE(write_config(&vmm, PCI_COMMAND, PCI_COMMAND_MEMORY));

	ASSERT_TRUE(explain(&vmm, FRAMEBUFFER, of_it));
	print_cell("QEMU: slot of ", "a framebuffer", of_it);
	print_cell("QEMU: query-memtype of ", "a framebuffer", asked(&vmm, FRAMEBUFFER, of_it));
	ASSERT_TRUE(explain(&vmm, RAM, of_ram));
	print_cell("QEMU: slot of ", "RAM", of_ram);
	print_cell("QEMU: query-memtype of ", "RAM", asked(&vmm, RAM, of_ram));
	if (asks()) {
		ASSERT_TRUE(command_line(&vmm, "info memtype"));
		EXPECT_NE(strstr(vmm.said, "bochs-display-vram: host wb, intent wb by "), NULL);
	}

	ASSERT_TRUE(command(&vmm, "'migrate-set-capabilities', 'arguments': " EVENTS, DONE));
	ASSERT_TRUE(command(&vmm, "'migrate', 'arguments': {'uri': 'file:/tmp/state'}",
			    "\"completed\""));
	ASSERT_TRUE(explain(&vmm, FRAMEBUFFER, of_it));
	print_cell("QEMU: slot of ", "a framebuffer after migration", of_it);
	end_vmm(&vmm);
}

/*
 * QEMU logs what is written to a framebuffer, and VMware's adapter has that switched off when the
 * guest's driver is to say what it has drawn. The memslot's other flags stay as they are: KVM would
 * refuse to change KVM_MEM_FORCE_WB, of which QEMU dies.
 */
TEST(logging)
{
	struct vmm vmm = {};
	char types[256];

	ASSERT_TRUE(starts_with(&vmm, "vmware-svga,addr=3,romfile="));
	ASSERT_TRUE(write_config(&vmm, PCI_BASE_ADDRESS_0, SVGA_PORTS));
	ASSERT_TRUE(write_config(&vmm, PCI_BASE_ADDRESS_1, FRAMEBUFFER));
	ASSERT_TRUE(write_config(&vmm, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
	ASSERT_TRUE(explain(&vmm, FRAMEBUFFER, types));
	print_cell("QEMU: slot of ", "a framebuffer that is logged", types);

	ASSERT_TRUE(write_register(&vmm, SVGA_PORTS, SVGA_CONFIG_DONE, SVGA_PORTS + 1, 1));
	ASSERT_TRUE(write_register(&vmm, SVGA_PORTS, SVGA_ENABLE, SVGA_PORTS + 1, 1));
	ASSERT_TRUE(explain(&vmm, FRAMEBUFFER, types));
	print_cell("QEMU: slot of ", "a framebuffer that is not logged", types);
	ASSERT_TRUE(write_register(&vmm, SVGA_PORTS, SVGA_ENABLE, SVGA_PORTS + 1, 0));
	ASSERT_TRUE(explain(&vmm, FRAMEBUFFER, types));
	print_cell("QEMU: slot of ", "a framebuffer that is logged again", types);
	end_vmm(&vmm);
}
#endif

int main(int argc, char **argv)
{
	mount_debian();
	choose_qemu();
	return test_harness_run(argc, argv);
}
