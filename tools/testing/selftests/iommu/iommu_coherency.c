// SPDX-License-Identifier: GPL-2.0-only
/*
 * IOMMU groups whose DMA is declared coherent in sysfs: who may do that and when, that nothing is
 * maintained for their devices, and that no other device gets to use their domains.
 *
 * The devices are those of drivers/vfio/vfio_mock.c. VFIO_MOCK_SNOOPING is one whose DMA is
 * coherent, but not because its IOMMU enforces it.
 */
#include <sys/syscall.h>

#include <linux/capability.h>

#include "type1_noncoherent.h"

#define RAWIO	CAP_TO_MASK(CAP_SYS_RAWIO)

static void declaration_of(unsigned int group, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "/sys/kernel/iommu_groups/%u/dma_coherency", group);
}

static int declare(unsigned int group, const char *word)
{
	char path[PATH_MAX];

	declaration_of(group, path);
	return write_file(path, word);
}

/* What sysfs says, and debugfs lists, of a group */
static bool is_declared(unsigned int group, const char *word)
{
	char path[PATH_MAX], entry[64], text[8192] = "", *at;
	bool coherent = strcmp(word, "iommu");
	FILE *report = fopen(DMA_CACHE_REPORT, "r");

	if (!report)
		ksft_exit_fail_msg(DMA_CACHE_REPORT ": %s\n", strerror(errno));
	text[fread(text, 1, sizeof(text) - 1, report)] = '\0';
	fclose(report);
	snprintf(entry, sizeof(entry), "\ngroup_%u ", group);
	at = strstr(text, entry);
	snprintf(entry, sizeof(entry), "\ngroup_%u %s\n", group, word);
	if (!!at != coherent || (at && strncmp(at, entry, strlen(entry))))
		return false;
	declaration_of(group, path);
	snprintf(entry, sizeof(entry), "%s\n", word);
	return file_starts_with(path, entry);
}

static int effective(unsigned int set, unsigned int clear)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[0].effective = (data[0].effective | set) & ~clear;
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

static int find_group(int mock, enum vfio_mock_device which, unsigned int *group)
{
	struct vfio_mock_find find = { .device = which };
	int ret = call(mock, VFIO_MOCK_FIND, &find);

	*group = find.group;
	return ret;
}

FIXTURE(group)
{
	int mock;
	unsigned int snooping, emulated;
};

FIXTURE_SETUP(group)
{
	self->mock = open("/dev/vfio_mock", O_RDWR);
	ASSERT_LE(0, self->mock);
	ASSERT_EQ(0, find_group(self->mock, VFIO_MOCK_SNOOPING, &self->snooping));
	ASSERT_EQ(0, find_group(self->mock, VFIO_MOCK_EMULATED, &self->emulated));
}

FIXTURE_TEARDOWN(group)
{
	EXPECT_EQ(0, declare(self->snooping, "iommu"));
	close(self->mock);
}

TEST_F(group, words)
{
	EXPECT_TRUE(is_declared(self->snooping, "iommu"));
	EXPECT_EQ(0, declare(self->snooping, "declared"));
	EXPECT_TRUE(is_declared(self->snooping, "declared"));
	EXPECT_TRUE(is_declared(self->emulated, "iommu"));
	EXPECT_EQ(-EINVAL, declare(self->snooping, "coherent"));
	EXPECT_EQ(-EINVAL, declare(self->snooping, "1\n"));
	EXPECT_TRUE(is_declared(self->snooping, "declared"));
	EXPECT_EQ(0, declare(self->snooping, "iommu\n"));
	EXPECT_TRUE(is_declared(self->snooping, "iommu"));
}

/* Root is not enough, and what counts is who opened the file. */
TEST_F(group, privilege)
{
	char path[PATH_MAX];
	int with, without;

	declaration_of(self->snooping, path);
	with = open(path, O_WRONLY);
	ASSERT_LE(0, with);
	ASSERT_EQ(0, effective(0, RAWIO));
	without = open(path, O_WRONLY);
	ASSERT_LE(0, without);
	EXPECT_EQ(8, write(with, "declared", 8));
	EXPECT_TRUE(is_declared(self->snooping, "declared"));
	ASSERT_EQ(0, effective(RAWIO, 0));
	EXPECT_EQ(-1, write(without, "iommu", 5));
	EXPECT_EQ(EPERM, errno);
	EXPECT_TRUE(is_declared(self->snooping, "declared"));
	close(with);
	close(without);
}

TEST_F(group, nobody)
{
	char path[PATH_MAX];

	declaration_of(self->snooping, path);
	ASSERT_EQ(0, seteuid(65534));
	EXPECT_EQ(-1, open(path, O_WRONLY));
	EXPECT_EQ(EACCES, errno);
	ASSERT_EQ(0, seteuid(0));
}

/* There is no domain, whose need it could be. */
TEST_F(group, without_iommu)
{
	EXPECT_EQ(-ENODEV, declare(self->emulated, "declared"));
	EXPECT_TRUE(is_declared(self->emulated, "iommu"));
}

static int declare_mock(struct rig *rig, enum vfio_mock_device which, const char *word)
{
	unsigned int group;

	return find_group(rig->mock, which, &group) ?: declare(group, word);
}

/* Without a group, the container has no IOMMU any more. */
static int drop_last(struct rig *rig, enum vfio_mock_device which)
{
	rig->has_iommu = false;
	return drop(rig, which);
}

/* From now on, and not for a domain that exists. */
TEST_F(type1, declared)
{
	struct rig *rig = &self->rig;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, declare_mock(rig, VFIO_MOCK_SNOOPING, "declared"));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_SNOOPING));
	EXPECT_EQ(-EBUSY, declare_mock(rig, VFIO_MOCK_SNOOPING, "iommu"));
	EXPECT_EQ(-EBUSY, declare_mock(rig, VFIO_MOCK_SNOOPING, "declared"));
	ASSERT_EQ(0, map(rig));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, 1));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(0, 0);
	ASSERT_EQ(0, drop_last(rig, VFIO_MOCK_SNOOPING));

	ASSERT_EQ(0, declare_mock(rig, VFIO_MOCK_SNOOPING, "iommu"));
	ASSERT_EQ(0, add(rig, VFIO_MOCK_SNOOPING));
	EXPECT_EQ(-EBUSY, declare_mock(rig, VFIO_MOCK_SNOOPING, "declared"));
	ASSERT_EQ(0, map(rig));
	ASSERT_EQ(0, unmap(rig));
	EXPECT_MAINTAINED(PROBE + PAGES, PROBE + PAGES);
}

/* In one container, but with domains of their own, whoever comes first */
TEST_F(type1, apart)
{
	static const enum vfio_mock_device orders[][2] = {
		{ VFIO_MOCK_SNOOPING, VFIO_MOCK_NONCOHERENT },
		{ VFIO_MOCK_NONCOHERENT, VFIO_MOCK_SNOOPING },
	};
	struct rig *rig = &self->rig;
	unsigned int i;

	ASSERT_EQ(0, declare_mock(rig, VFIO_MOCK_SNOOPING, "declared"));
	for (i = 0; i < 2; i++) {
		cpu_writes(rig, i);
		ASSERT_EQ(0, add(rig, orders[i][0]));
		ASSERT_EQ(0, add(rig, orders[i][1]));
		EXPECT_MAINTAINED(PROBE, PROBE);
		ASSERT_EQ(0, map(rig));
		EXPECT_MAINTAINED(PAGES, 0);
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, i));
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, i));
		ASSERT_EQ(0, drop(rig, VFIO_MOCK_NONCOHERENT));
		EXPECT_MAINTAINED(0, PAGES);
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, i));
		ASSERT_EQ(0, unmap(rig));
		EXPECT_MAINTAINED(0, 0);
		ASSERT_EQ(0, drop_last(rig, VFIO_MOCK_SNOOPING));
	}
	ASSERT_EQ(0, declare_mock(rig, VFIO_MOCK_SNOOPING, "iommu"));
}

/* The same devices by their own files; the rig has no groups. */
FIXTURE(iommufd)
{
	struct rig rig;
	int fd;
	uint32_t ioas, id[VFIO_MOCK_DEVICES];
};

FIXTURE_SETUP(iommufd)
{
	struct rig *rig = &self->rig;
	unsigned int i;

	if (!dma_cache_counters().active)
		SKIP(return, "dma_cache is off: nothing is maintained");
	*rig = (struct rig) { .container = -1, .nth = -1, .pages = PAGES };
	for (i = 0; i <= EDU; i++) {
		rig->group[i] = -1;
		rig->device[i] = -1;
	}
	rig->mock = open("/dev/vfio_mock", O_RDWR);
	ASSERT_LE(0, rig->mock);
	rig->memory = rig_memory(PAGES);
	ASSERT_NE(MAP_FAILED, rig->memory);
	ASSERT_EQ(0, mock_faults(&rig->wrong));
	self->fd = open("/dev/iommu", O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ioas_new(self->fd, &self->ioas));
	ASSERT_EQ(0, declare_mock(rig, VFIO_MOCK_SNOOPING, "declared"));
	maintained(rig);
}

FIXTURE_TEARDOWN(iommufd)
{
	unsigned int i;

	for (i = 0; i < VFIO_MOCK_DEVICES; i++)
		close_fd(&self->rig.device[i]);
	close(self->fd);
	EXPECT_EQ(0, declare_mock(&self->rig, VFIO_MOCK_SNOOPING, "iommu"));
	EXPECT_TRUE(nothing_wrong(&self->rig));
	rig_close(&self->rig);
}

static int bind_mock(struct rig *rig, int fd, enum vfio_mock_device which, uint32_t *id)
{
	/* Seen from the devices of PCI */
	static const char bus[] = "../../iommufd_mock/devices/";
	struct vfio_mock_find find = { .device = which };
	char name[sizeof(bus) + sizeof(find.name)];
	int ret = call(rig->mock, VFIO_MOCK_FIND, &find);

	if (ret)
		return ret;
	snprintf(name, sizeof(name), "%s%s", bus, find.name);
	ret = vfio_open(name);
	if (ret < 0)
		return ret;
	rig->device[which] = ret;
	return vfio_bind_iommufd(ret, fd, id);
}

TEST_F(iommufd, declared)
{
	struct rig *rig = &self->rig;
	uint32_t *id = &self->id[VFIO_MOCK_SNOOPING];
	size_t size = PAGES * page_size;

	cpu_writes(rig, 1);
	ASSERT_EQ(0, bind_mock(rig, self->fd, VFIO_MOCK_SNOOPING, id));
	EXPECT_EQ(-EBUSY, declare_mock(rig, VFIO_MOCK_SNOOPING, "iommu"));
	ASSERT_EQ(0, vfio_attach(rig->device[VFIO_MOCK_SNOOPING], self->ioas));
	ASSERT_EQ(0, ioas_map(self->fd, self->ioas, rig->memory, size, IOVA));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, 1));
	ASSERT_EQ(0, ioas_unmap(self->fd, self->ioas, IOVA, size));
	EXPECT_MAINTAINED(0, 0);
	close_fd(&rig->device[VFIO_MOCK_SNOOPING]);

	ASSERT_EQ(0, declare_mock(rig, VFIO_MOCK_SNOOPING, "iommu"));
	ASSERT_EQ(0, bind_mock(rig, self->fd, VFIO_MOCK_SNOOPING, id));
	EXPECT_EQ(-EBUSY, declare_mock(rig, VFIO_MOCK_SNOOPING, "declared"));
	ASSERT_EQ(0, vfio_attach(rig->device[VFIO_MOCK_SNOOPING], self->ioas));
	ASSERT_EQ(0, ioas_map(self->fd, self->ioas, rig->memory, size, IOVA));
	ASSERT_EQ(0, ioas_unmap(self->fd, self->ioas, IOVA, size));
	EXPECT_MAINTAINED(PAGES, PAGES);
}

/* No device of another kind gets into a domain that is not maintained, or the other way. */
TEST_F(iommufd, apart)
{
	int fd = self->fd, snooping, other, coherent;
	uint32_t declared, maintained_hwpt, enforced;
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, bind_mock(rig, fd, VFIO_MOCK_SNOOPING, &self->id[VFIO_MOCK_SNOOPING]));
	ASSERT_EQ(0, bind_mock(rig, fd, VFIO_MOCK_NONCOHERENT, &self->id[VFIO_MOCK_NONCOHERENT]));
	ASSERT_EQ(0, bind_mock(rig, fd, VFIO_MOCK_COHERENT, &self->id[VFIO_MOCK_COHERENT]));
	snooping = rig->device[VFIO_MOCK_SNOOPING];
	other = rig->device[VFIO_MOCK_NONCOHERENT];
	coherent = rig->device[VFIO_MOCK_COHERENT];
	ASSERT_EQ(0, hwpt_new(fd, self->id[VFIO_MOCK_SNOOPING], self->ioas, &declared));
	ASSERT_EQ(0, hwpt_new(fd, self->id[VFIO_MOCK_NONCOHERENT], self->ioas, &maintained_hwpt));
	ASSERT_EQ(0, hwpt_new(fd, self->id[VFIO_MOCK_COHERENT], self->ioas, &enforced));

	/* Attach */
	EXPECT_EQ(-EINVAL, vfio_attach(other, declared));
	EXPECT_EQ(-EINVAL, vfio_attach(coherent, declared));
	EXPECT_EQ(-EINVAL, vfio_attach(snooping, maintained_hwpt));
	ASSERT_EQ(0, vfio_attach(snooping, declared));
	ASSERT_EQ(0, vfio_attach(other, maintained_hwpt));
	ASSERT_EQ(0, vfio_attach(coherent, enforced));
	/* Replace */
	EXPECT_EQ(-EINVAL, vfio_attach(other, declared));
	EXPECT_EQ(-EINVAL, vfio_attach(coherent, declared));
	EXPECT_EQ(-EINVAL, vfio_attach(snooping, maintained_hwpt));

	cpu_writes(rig, 1);
	ASSERT_EQ(0, ioas_map(fd, self->ioas, rig->memory, PAGES * page_size, IOVA));
	EXPECT_MAINTAINED(PAGES, 0);
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, 1));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, 1));
	EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_COHERENT, 1));
}

/* Whoever attaches to an IOAS gets a domain that fits. */
TEST_F(iommufd, automatic)
{
	static const enum vfio_mock_device orders[][2] = {
		{ VFIO_MOCK_SNOOPING, VFIO_MOCK_NONCOHERENT },
		{ VFIO_MOCK_NONCOHERENT, VFIO_MOCK_SNOOPING },
	};
	struct rig *rig = &self->rig;
	size_t size = PAGES * page_size;
	unsigned int i, j;
	uint32_t id;

	for (i = 0; i < 2; i++) {
		cpu_writes(rig, i);
		for (j = 0; j < 2; j++) {
			ASSERT_EQ(0, bind_mock(rig, self->fd, orders[i][j], &id));
			ASSERT_EQ(0, vfio_attach(rig->device[orders[i][j]], self->ioas));
		}
		ASSERT_EQ(0, ioas_map(self->fd, self->ioas, rig->memory, size, IOVA));
		EXPECT_MAINTAINED(PAGES, 0);
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, i));
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_NONCOHERENT, i));
		close_fd(&rig->device[VFIO_MOCK_NONCOHERENT]);
		EXPECT_MAINTAINED(0, PAGES);
		EXPECT_EQ(PAGES, device_reads(rig, VFIO_MOCK_SNOOPING, i));
		close_fd(&rig->device[VFIO_MOCK_SNOOPING]);
		ASSERT_EQ(0, ioas_unmap(self->fd, self->ioas, IOVA, size));
		EXPECT_MAINTAINED(0, 0);
	}
}

TEST_HARNESS_MAIN
