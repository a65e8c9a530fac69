// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices that an administrator declares coherent as long as No-Snoop is disabled in them: vfio-pci
 * keeps the bit clear, whatever userspace writes and whoever resets the device, and userspace reads
 * back what it wrote.
 *
 * The devices are those of drivers/vfio/vfio_pci_mock.c, whose real registers sysfs shows, and one
 * that is a process on the emulated machine's host (tools/testing/memtype/vfio_user/), which says
 * what it has itself.
 */
#include <assert.h>

#include "../kselftest_harness.h"
#include "../memtype/no_timeout.h"
#include "dma_cache_counters.h"
#include "vfio_device.h"
#include "../../../../drivers/vfio/vfio_pci_mock.h"
#include "../../../../drivers/vfio/vfio_mock.h"
#include "../../memtype/vfio_user/no_snoop.h"

#define DEVCTL		(VFIO_PCI_MOCK_EXP + PCI_EXP_DEVCTL)
#define NO_SNOOP	PCI_EXP_DEVCTL_NOSNOOP_EN
#define RELAXED		PCI_EXP_DEVCTL_RELAX_EN
#define PAGES		4
static_assert(NO_SNOOP_EXP == VFIO_PCI_MOCK_EXP, "DEVCTL is one offset");
#define IOVA		0x1000000ul

static char functions[VFIO_PCI_MOCK_FUNCTIONS][NAME_MAX + 1];

static int write_of(const char *name, const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/%s", name, file);
	return write_file(path, text);
}

static int declare(const char *name, const char *word)
{
	return write_of(name, "iommu_group/dma_coherency", word);
}

static bool is_declared(const char *name, const char *word)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group/dma_coherency", name);
	return file_starts_with(path, word);
}

/* The real register, beside vfio-pci */
static int real(const char *name, unsigned int at)
{
	char path[PATH_MAX];
	uint16_t value;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/config", name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	n = pread(fd, &value, 2, at);
	close(fd);
	return n == 2 ? value : -EIO;
}

static int set_real(const char *name, unsigned int at, uint16_t value)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), PCI_DEVICES "%s/config", name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	n = pwrite(fd, &value, 2, at);
	close(fd);
	return n == 2 ? 0 : -EIO;
}

struct device {
	int fd, iommufd;
	uint32_t id;
	uint64_t config;
	uint32_t *registers;	/* of one that is a process */
	const void *token;	/* of a virtual function: what the user of the physical one set */
};

/* The device's own file asks for no token in older kernels. */
static int bind_with_token(struct device *d)
{
	struct vfio_device_bind_iommufd cmd = {
		.argsz = sizeof(cmd), .iommufd = d->iommufd,
#ifdef VFIO_DEVICE_BIND_FLAG_TOKEN
		.flags = VFIO_DEVICE_BIND_FLAG_TOKEN, .token_uuid_ptr = (uintptr_t)d->token,
#endif
	};
	int ret = call(d->fd, VFIO_DEVICE_BIND_IOMMUFD, &cmd);

	d->id = cmd.out_devid;
	return ret;
}

static int set_token(struct device *d, const void *token)
{
	struct {
		struct vfio_device_feature head;
		uint8_t token[16];
	} set = {
		.head.argsz = sizeof(set),
		.head.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
	};

	memcpy(set.token, token, sizeof(set.token));
	return call(d->fd, VFIO_DEVICE_FEATURE, &set);
}

static int device_open(struct device *d, const char *name)
{
	int ret = vfio_bind(name);

	if (ret)
		return ret;
	d->iommufd = open("/dev/iommu", O_RDWR);
	d->fd = vfio_open(name);
	if (d->iommufd < 0 || d->fd < 0)
		return d->fd < 0 ? d->fd : -errno;
	return (d->token ? bind_with_token(d) : vfio_bind_iommufd(d->fd, d->iommufd, &d->id)) ?:
	       vfio_region(d->fd, VFIO_PCI_CONFIG_REGION_INDEX, &d->config, NULL);
}

static void device_close(struct device *d)
{
	close(d->fd);
	close(d->iommufd);
}

/* Userspace's registers */
static int get(struct device *d, unsigned int at)
{
	uint16_t value;

	return pread(d->fd, &value, 2, d->config + at) == 2 ? value : -EIO;
}

static bool put(struct device *d, unsigned int at, uint32_t value, unsigned int bytes)
{
	return pwrite(d->fd, &value, bytes, d->config + at) == bytes;
}

/* Whether all the devices could be found again, so that nobody has declared them yet. */
static int find_again(char names[][NAME_MAX + 1], unsigned int count)
{
	int ret = write_file("/sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y");
	unsigned int i;

	for (i = 0; i < count && !ret; i++)
		ret = write_of(names[i], "remove", "1");
	return ret ?: write_file("/sys/bus/pci/rescan", "1");
}

/* Of a declared device nothing is maintained, from the first mapping on. */
static void check_domain(struct __test_metadata *_metadata, struct device *d, const char *name)
{
	size_t size = PAGES * sysconf(_SC_PAGE_SIZE);
	struct dma_cache_counters last, now;
	unsigned int i;
	uint32_t ioas;
	void *memory;

	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, memory);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, declare(name, i ? "no-snoop-off" : "iommu"));
		ASSERT_EQ(0, device_open(d, name));
		EXPECT_EQ(-EBUSY, declare(name, "no-snoop-off"));
		ASSERT_EQ(0, ioas_new(d->iommufd, &ioas));
		ASSERT_EQ(0, vfio_attach(d->fd, ioas));
		last = dma_cache_counters();
		ASSERT_EQ(0, ioas_map(d->iommufd, ioas, memory, size, IOVA));
		ASSERT_EQ(0, ioas_unmap(d->iommufd, ioas, IOVA, size));
		now = dma_cache_counters();
		EXPECT_EQ(i ? 0 : PAGES, now.clean.pages - last.clean.pages);
		EXPECT_EQ(i ? 0 : PAGES, now.flush.pages - last.flush.pages);
		device_close(d);
	}
}

/* Devices that nobody declared yet */
FIXTURE(pci)
{
	struct device device;
};

FIXTURE_SETUP(pci)
{
	char vendor[16], device[16];
	unsigned int i;

	self->device = (struct device) { .fd = -1, .iommufd = -1 };
	snprintf(vendor, sizeof(vendor), "0x%x", VFIO_PCI_MOCK_VENDOR);
	snprintf(device, sizeof(device), "0x%x", VFIO_PCI_MOCK_DEVICE);
	ASSERT_TRUE(find_pci(functions[0], vendor, device)) {
		TH_LOG("no root port without a device");
	}
	for (i = 1; i < VFIO_PCI_MOCK_FUNCTIONS; i++) {
		memcpy(functions[i], functions[0], sizeof(functions[0]));
		functions[i][strlen(functions[i]) - 1] = '0' + i;
	}
	ASSERT_EQ(0, write_file("/sys/module/vfio_pci/parameters/enable_sriov", "Y"));
	ASSERT_EQ(0, find_again(functions, VFIO_PCI_MOCK_VF));
	/* As after a reset */
	for (i = VFIO_PCI_MOCK_PLAIN; i < VFIO_PCI_MOCK_VF; i++) {
		ASSERT_EQ(0, set_real(functions[i], DEVCTL, PCI_EXP_DEVCTL_BCR_FLR));
		ASSERT_EQ(NO_SNOOP, NO_SNOOP & real(functions[i], DEVCTL));
	}
}

FIXTURE_TEARDOWN(pci)
{
	device_close(&self->device);
}

/* A device that is not declared has its bit for itself. */
TEST_F(pci, undeclared)
{
	const char *name = functions[VFIO_PCI_MOCK_PLAIN];
	struct device *d = &self->device;

	ASSERT_EQ(0, device_open(d, name));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(d, DEVCTL));
	ASSERT_TRUE(put(d, DEVCTL, RELAXED, 2));
	EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));
	ASSERT_TRUE(put(d, DEVCTL, NO_SNOOP, 2));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & real(name, DEVCTL));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(d, DEVCTL));
}

/* Whatever size userspace writes */
TEST_F(pci, config)
{
	const char *name = functions[VFIO_PCI_MOCK_PLAIN];
	struct device *d = &self->device;
	static const struct {
		unsigned int at, bytes, shift;
	} accesses[] = {
		{ DEVCTL, 2, 0 }, { DEVCTL, 4, 0 }, { DEVCTL + 1, 1, 8 },
	};
	unsigned int i;

	ASSERT_EQ(0, declare(name, "no-snoop-off"));
	EXPECT_TRUE(is_declared(name, "no-snoop-off\n"));
	EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));
	ASSERT_EQ(0, device_open(d, name));
	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		ASSERT_TRUE(put(d, accesses[i].at, NO_SNOOP >> accesses[i].shift,
				accesses[i].bytes));
		EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(d, DEVCTL));
		EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));
		/* Other registers are not concerned. */
		ASSERT_TRUE(put(d, DEVCTL + 2, NO_SNOOP, 2));
		ASSERT_TRUE(put(d, DEVCTL, RELAXED, 1));
		EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(d, DEVCTL));
		EXPECT_EQ(RELAXED, RELAXED & real(name, DEVCTL));
		ASSERT_TRUE(put(d, DEVCTL, 0, 1));
		EXPECT_EQ(0, RELAXED & real(name, DEVCTL));
		ASSERT_TRUE(put(d, accesses[i].at, 0, accesses[i].bytes));
		EXPECT_EQ(0, NO_SNOOP & get(d, DEVCTL));
	}
}

/* By vfio-pci, by userspace's write to Device Control, and by something that nobody sees */
TEST_F(pci, resets)
{
	const char *name = functions[VFIO_PCI_MOCK_PLAIN];
	struct device *d = &self->device;

	ASSERT_EQ(0, declare(name, "no-snoop-off"));
	ASSERT_EQ(0, device_open(d, name));
	ASSERT_EQ(0, call(d->fd, VFIO_DEVICE_RESET, NULL));
	EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));
	ASSERT_TRUE(put(d, DEVCTL, PCI_EXP_DEVCTL_BCR_FLR | NO_SNOOP, 2));
	EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));

	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	ASSERT_EQ(0, set_real(name, DEVCTL, PCI_EXP_DEVCTL_BCR_FLR));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & real(name, DEVCTL));
	EXPECT_EQ(0, PCI_COMMAND_MASTER & real(name, PCI_COMMAND));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	EXPECT_EQ(PCI_COMMAND_MASTER, PCI_COMMAND_MASTER & real(name, PCI_COMMAND));
	EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));
}

/* The host enabled it between the declaration and the opening. */
TEST_F(pci, opened)
{
	const char *name = functions[VFIO_PCI_MOCK_PLAIN];

	ASSERT_EQ(0, declare(name, "no-snoop-off"));
	ASSERT_EQ(0, set_real(name, DEVCTL, NO_SNOOP));
	ASSERT_EQ(NO_SNOOP, NO_SNOOP & real(name, DEVCTL));
	ASSERT_EQ(0, device_open(&self->device, name));
	EXPECT_EQ(0, NO_SNOOP & real(name, DEVCTL));
}

TEST_F(pci, domain)
{
	check_domain(_metadata, &self->device, functions[VFIO_PCI_MOCK_PLAIN]);
}

/* What has no such bit, does not obey it, or keeps it set */
TEST_F(pci, refused)
{
	struct vfio_mock_find find = { .device = VFIO_MOCK_NONCOHERENT };
	int mock = open("/dev/vfio_mock", O_RDWR);
	char edu[NAME_MAX + 1], path[PATH_MAX];

	EXPECT_EQ(-EOPNOTSUPP, declare(functions[VFIO_PCI_MOCK_DISPLAY], "no-snoop-off"));
	EXPECT_TRUE(is_declared(functions[VFIO_PCI_MOCK_DISPLAY], "iommu\n"));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & real(functions[VFIO_PCI_MOCK_DISPLAY], DEVCTL));
	EXPECT_EQ(-EIO, declare(functions[VFIO_PCI_MOCK_STUCK], "no-snoop-off"));
	EXPECT_TRUE(is_declared(functions[VFIO_PCI_MOCK_STUCK], "iommu\n"));
	/* Conventional PCI, and no PCI at all */
	ASSERT_TRUE(find_edu(edu));
	EXPECT_EQ(-EOPNOTSUPP, declare(edu, "no-snoop-off"));
	ASSERT_LE(0, mock);
	ASSERT_EQ(0, call(mock, VFIO_MOCK_FIND, &find));
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%u/dma_coherency", find.group);
	EXPECT_EQ(-EOPNOTSUPP, write_file(path, "no-snoop-off"));
	close(mock);
}

/* What obeyed when it was declared, and does not any more */
TEST_F(pci, obeys_no_more)
{
	const char *name = functions[VFIO_PCI_MOCK_PLAIN];
	struct device *d = &self->device;

	ASSERT_EQ(0, declare(name, "no-snoop-off"));
	ASSERT_EQ(0, device_open(d, name));
	ASSERT_EQ(0, set_real(name, DEVCTL, NO_SNOOP));
	ASSERT_EQ(0, set_real(name, VFIO_PCI_MOCK_STICK, 1));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	EXPECT_EQ(0, PCI_COMMAND_MASTER & real(name, PCI_COMMAND));
	device_close(d);

	/* It is reset when it is closed. */
	ASSERT_EQ(0, set_real(name, DEVCTL, NO_SNOOP));
	ASSERT_EQ(0, set_real(name, VFIO_PCI_MOCK_STICK, 1));
	EXPECT_EQ(-EIO, device_open(d, name));
}

/* The physical function's bit is that of its virtual ones, and may have a user of its own. */
TEST_F(pci, virtual)
{
	const char *pf = functions[VFIO_PCI_MOCK_PF], *vf = functions[VFIO_PCI_MOCK_VF];
	struct device *d = &self->device, v = {
		.fd = -1, .iommufd = -1, .token = "a secret of both",
	};

	ASSERT_EQ(0, vfio_bind(pf));
	ASSERT_EQ(0, write_of(pf, "sriov_numvfs", "1"));
	ASSERT_EQ(0, device_open(d, pf));
	ASSERT_EQ(0, set_token(d, v.token));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & real(pf, DEVCTL));
	EXPECT_EQ(0, declare(vf, "no-snoop-off"));
	EXPECT_EQ(0, NO_SNOOP & real(pf, DEVCTL));
	ASSERT_TRUE(put(d, DEVCTL, NO_SNOOP, 2));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(d, DEVCTL));
	EXPECT_EQ(0, NO_SNOOP & real(pf, DEVCTL));

	ASSERT_EQ(0, set_real(pf, DEVCTL, NO_SNOOP));
	ASSERT_EQ(0, device_open(&v, vf));
	EXPECT_EQ(0, NO_SNOOP & real(pf, DEVCTL));
	ASSERT_TRUE(put(&v, DEVCTL, NO_SNOOP, 2));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(&v, DEVCTL));
	device_close(&v);
	device_close(d);
	EXPECT_EQ(0, write_of(pf, "sriov_numvfs", "0"));
}

/* A device that nobody declared yet, as after a reset, with nothing on its record */
FIXTURE(process)
{
	struct device device;
	char name[NAME_MAX + 1];
};

/* What the device itself says */
static uint32_t says(struct device *d, unsigned int what)
{
	return __atomic_load_n(d->registers + what / sizeof(*d->registers), __ATOMIC_SEQ_CST);
}

static int process_open(struct device *d, const char *name)
{
	int ret = device_open(d, name);

	if (ret)
		return ret;
	d->registers = vfio_map_bar(d->fd, VFIO_PCI_BAR0_REGION_INDEX, NO_SNOOP_BAR_SIZE);
	return d->registers == MAP_FAILED ? -errno : 0;
}

static void process_close(struct device *d)
{
	munmap(d->registers, NO_SNOOP_BAR_SIZE);
	device_close(d);
}

FIXTURE_SETUP(process)
{
	struct device *d = &self->device;
	char vendor[16], device[16];

	snprintf(vendor, sizeof(vendor), "0x%x", NO_SNOOP_VENDOR);
	snprintf(device, sizeof(device), "0x%x", NO_SNOOP_DEVICE);
	ASSERT_TRUE(find_pci(self->name, vendor, device));
	ASSERT_EQ(0, find_again(&self->name, 1));
	ASSERT_EQ(0, process_open(d, self->name));
	__atomic_store_n(d->registers + NO_SNOOP_ALLOWED / 4, 0, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, says(d, NO_SNOOP_ALLOWED));
	process_close(d);
	ASSERT_EQ(0, set_real(self->name, DEVCTL, PCI_EXP_DEVCTL_BCR_FLR));
	ASSERT_EQ(NO_SNOOP, NO_SNOOP & real(self->name, DEVCTL));
}

FIXTURE_TEARDOWN(process)
{
	process_close(&self->device);
}

/* A device that is not declared keeps the bit, and could have used it. */
TEST_F(process, undeclared)
{
	struct device *d = &self->device;

	ASSERT_EQ(0, process_open(d, self->name));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & says(d, NO_SNOOP_DEVCTL));
	EXPECT_EQ(0, says(d, NO_SNOOP_ALLOWED));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	EXPECT_EQ(1, says(d, NO_SNOOP_ALLOWED));
}

/* A declared one does not have it when it first masters the bus, and does not get it back. */
TEST_F(process, declared)
{
	struct device *d = &self->device;

	ASSERT_EQ(0, declare(self->name, "no-snoop-off"));
	ASSERT_EQ(0, process_open(d, self->name));
	EXPECT_EQ(0, NO_SNOOP & says(d, NO_SNOOP_DEVCTL));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	ASSERT_TRUE(put(d, DEVCTL, NO_SNOOP | RELAXED, 2));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & get(d, DEVCTL));
	EXPECT_EQ(RELAXED, (NO_SNOOP | RELAXED) & says(d, NO_SNOOP_DEVCTL));
	EXPECT_EQ(0, says(d, NO_SNOOP_ALLOWED));
}

/* By vfio-pci, by userspace's write to Device Control, and by something that nobody sees */
TEST_F(process, resets)
{
	struct device *d = &self->device;
	uint32_t resets;

	ASSERT_EQ(0, declare(self->name, "no-snoop-off"));
	ASSERT_EQ(0, process_open(d, self->name));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	resets = says(d, NO_SNOOP_RESETS);
	ASSERT_EQ(0, call(d->fd, VFIO_DEVICE_RESET, NULL));
	EXPECT_EQ(resets + 1, says(d, NO_SNOOP_RESETS));
	EXPECT_EQ(0, NO_SNOOP & says(d, NO_SNOOP_DEVCTL));
	ASSERT_TRUE(put(d, DEVCTL, PCI_EXP_DEVCTL_BCR_FLR | NO_SNOOP, 2));
	EXPECT_EQ(resets + 2, says(d, NO_SNOOP_RESETS));
	EXPECT_EQ(0, NO_SNOOP & says(d, NO_SNOOP_DEVCTL));

	ASSERT_EQ(0, set_real(self->name, DEVCTL, PCI_EXP_DEVCTL_BCR_FLR));
	EXPECT_EQ(NO_SNOOP, NO_SNOOP & real(self->name, DEVCTL));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, true));
	EXPECT_EQ(resets + 3, says(d, NO_SNOOP_RESETS));
	EXPECT_EQ(0, NO_SNOOP & says(d, NO_SNOOP_DEVCTL));
	EXPECT_EQ(PCI_COMMAND_MASTER, PCI_COMMAND_MASTER & real(self->name, PCI_COMMAND));
	EXPECT_EQ(0, says(d, NO_SNOOP_ALLOWED));
}

/* The host enabled it between the declaration and the opening. */
TEST_F(process, opened)
{
	struct device *d = &self->device;

	ASSERT_EQ(0, declare(self->name, "no-snoop-off"));
	ASSERT_EQ(0, set_real(self->name, DEVCTL, NO_SNOOP));
	ASSERT_EQ(NO_SNOOP, NO_SNOOP & real(self->name, DEVCTL));
	ASSERT_EQ(0, process_open(d, self->name));
	EXPECT_EQ(0, NO_SNOOP & says(d, NO_SNOOP_DEVCTL));
	ASSERT_EQ(0, vfio_command(d->fd, PCI_COMMAND_MASTER, true));
	EXPECT_EQ(0, says(d, NO_SNOOP_ALLOWED));
}

TEST_F(process, domain)
{
	check_domain(_metadata, &self->device, self->name);
}

TEST_HARNESS_MAIN
