// SPDX-License-Identifier: GPL-2.0-only
/*
 * What people see of a VM's memory types: the table and the statistics in debugfs, trace events,
 * kvm-memtype, and memtype-example, which says what a VMM would tell its guest.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "memtype_walk.h"

/* What one sees of a running VM. */
FIXTURE(seeing)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

#define TOOL		tool("kvm-memtype")
#define EXAMPLE		tool("memtype-example")
#define SEEN_PAGES	64
#define SEEN_TOUCHED	5

/* A program of tools/kvm/memtype: it is in the directory above this program's. */
static const char *tool(const char *name)
{
	static char path[PATH_MAX + 32];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
	int level;

	TEST_ASSERT(length > 0, "/proc/self/exe: %s", strerror(errno));
	path[length] = '\0';
	for (level = 0; level < 2 && strrchr(path, '/'); level++)
		*strrchr(path, '/') = '\0';
	snprintf(path + strlen(path), 32, "/%s", name);
	return path;
}

FIXTURE_SETUP(seeing)
{
	int i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = create_vm(&self->vcpu, 1, 0);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
				    SEEN_PAGES, 0);
	for (i = 0; i < SEEN_PAGES; i++)
		map_as(self->vm, TEST_GVA + i * SZ_4K, TEST_GPA + i * SZ_4K, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(seeing)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Reads the table of the VM; the line that starts at TEST_GPA, and how many there are. */
static int read_table(struct kvm_vm *vm, char line[256])
{
	FILE *table = open_table(vm);
	char found[256];
	int lines = 0;

	line[0] = '\0';
	while (fgets(found, sizeof(found), table)) {
		lines++;
		if (strstr(found, " 0x0000000010000000 0x"))
			memcpy(line, found, sizeof(found));
	}
	fclose(table);
	return lines;
}

TEST_F(seeing, table)
{
	char line[256], host[8], intent[8], effective[64], source[8], attributes[32], refusal[16];
	char mapped[16], touched[16] = "-";
	struct kvm_memtype answer;
	unsigned long start, end;
	int as_id, slot, found, i;

	for (i = 0; i < SEEN_TOUCHED; i++)
		let_guest(self->vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	ASSERT_GE(read_table(self->vm, line), 4);
	found = sscanf(line, "%d %lx %lx %d %7s %7s %63s %7s %31s %15s %15s", &as_id, &start, &end,
		       &slot, host, intent, effective, source, attributes, refusal, mapped);
	ASSERT_EQ(found, 11);
	EXPECT_EQ(as_id, 0);
	EXPECT_EQ(start, TEST_GPA);
	EXPECT_EQ(end, TEST_GPA + SEEN_PAGES * SZ_4K);
	EXPECT_EQ(slot, TEST_SLOT);
	/* What is in shadow page tables is not counted. */
	if (!has_shadow_paging())
		snprintf(touched, sizeof(touched), "%d", SEEN_TOUCHED * SZ_4K / 1024);
	EXPECT_STREQ(mapped, touched);
	EXPECT_STREQ(host, "WB");
	EXPECT_STREQ(intent, "WB");
	EXPECT_STREQ(refusal, "none");
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &answer), 0);
	if (answer.attributes & KVM_MEMTYPE_ATTR_FORCED) {
		EXPECT_STREQ(attributes, "forced");
		EXPECT_STREQ(source, "CPU");
		EXPECT_STREQ(effective, "WB");
	} else {
		EXPECT_STREQ(attributes, "-");
		EXPECT_STREQ(source, "RAM");
		EXPECT_EQ(strncmp(effective, "WB,", 3), 0);
	}
}

TEST(table_of_policies)
{
	static const struct {
		uint64_t policy;
		const char *line;
	} rows[] = {
		{ KVM_MEMTYPE_POLICY_HONOR, "policy honor\n" },
		{ KVM_MEMTYPE_POLICY_LEGACY, "policy legacy\n" },
		{ KVM_MEMTYPE_POLICY_STAGE1, "policy stage1\n" },
	};
	struct kvm_vm *vm;
	char line[256];
	FILE *table;
	int i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (why_not(rows[i].policy, 0))
			continue;
		vm = create_vm_without_vcpus(1, rows[i].policy);
		table = open_table(vm);
		ASSERT_TRUE(!!fgets(line, sizeof(line), table));
		EXPECT_STREQ(line, rows[i].line);
		fclose(table);
		kvm_vm_free(vm);
	}
}

TEST(table_without_memslots)
{
	struct kvm_vm *vm;
	char line[256];

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm = vm_create_barebones();
	/* policy, non-coherent DMA and the heads of the columns */
	EXPECT_EQ(read_table(vm, line), 3);
	kvm_vm_free(vm);
}

/* A VM lives as long as its file, which others can have, but has no memory any more. */
TEST(table_without_process)
{
	int dev = open_kvm_dev_path_or_exit(), status, vm;
	char path[64], byte;
	pid_t child;
	FILE *table;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	/* The child creates it in the table of files that it shares. */
	child = syscall(__NR_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (!child)
		_exit(ioctl(dev, KVM_CREATE_VM, 0));
	ASSERT_EQ(waitpid(child, &status, 0), child);
	ASSERT_TRUE(WIFEXITED(status));
	vm = WEXITSTATUS(status);
	ASSERT_GT(vm, dev);
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/memtype", child, vm);
	table = fopen(path, "r");
	ASSERT_NE(table, NULL);
	EXPECT_EQ(fread(&byte, 1, 1, table), 0);
	EXPECT_EQ(errno, ESRCH);
	fclose(table);
	close(vm);
	close(dev);
}

static void *fault_all(void *data)
{
	struct kvm_vcpu *vcpu = data;
	void *hva = addr_gpa2hva(vcpu->vm, TEST_GPA);
	int n, i;

	for (n = 0; n < 8; n++) {
		madvise(hva, SEEN_PAGES * SZ_4K, MADV_DONTNEED);
		for (i = 0; i < SEEN_PAGES; i++)
			let_guest(vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	}
	return NULL;
}

TEST_F(seeing, table_while_faulting)
{
	unsigned long mapped;
	pthread_t thread;
	char line[256];
	int found, i;

	ASSERT_EQ(pthread_create(&thread, NULL, fault_all, self->vcpu), 0);
	for (i = 0; i < 20; i++) {
		ASSERT_GE(read_table(self->vm, line), 4);
		found = sscanf(line, "%*d %*x %*x %*d %*s %*s %*s %*s %*s %*s %lu", &mapped);
		ASSERT_EQ(found, 1);
		EXPECT_LE(mapped, SEEN_PAGES * SZ_4K / 1024);
	}
	ASSERT_EQ(pthread_join(thread, NULL), 0);
}

TEST_F(seeing, statistics)
{
	static const char * const names[] = { "memtype_wb", "memtype_forced_wb" };
	uint64_t before = 0, after = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		before += vm_statistic(self->vm, names[i]);
	for (i = 0; i < SEEN_TOUCHED; i++)
		let_guest(self->vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		after += vm_statistic(self->vm, names[i]);
	EXPECT_GE(after, before + SEEN_TOUCHED);
	EXPECT_EQ(vm_statistic(self->vm, "memtype_wc"), 0);
	EXPECT_EQ(vm_statistic(self->vm, "memtype_refused"), 0);
}

/* A fault asks the layer for the type, and a trace event says so. */
TEST(fault_is_traced)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char gfn[32];

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm = create_vm(&vcpu, 1, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);

	trace_event("kvm_memtype/kvm_memtype_map", true);
	let_guest(vcpu, GUEST_WRITE, TEST_GVA, PATTERN);
	trace_event("kvm_memtype/kvm_memtype_map", false);
	snprintf(gfn, sizeof(gfn), "gfn %lx ", TEST_GPA / getpagesize());
	EXPECT_TRUE(trace_has(gfn, "intent WB"));
	kvm_vm_free(vm);
}

/* Starts a program with up to two arguments; its output is to be read. */
static FILE *start_program(pid_t *child, const char *path, const char *first, const char *second)
{
	int out[2];

	TEST_ASSERT(!pipe(out), "pipe()");
	*child = fork();
	if (!*child) {
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		execl(path, path, first, second, NULL);
		_exit(127);
	}
	close(out[1]);
	return fdopen(out[0], "r");
}

/* Returns its exit status, as wait() has it. */
static int end_program(pid_t child, FILE *output)
{
	int status;

	fclose(output);
	TEST_ASSERT(waitpid(child, &status, 0) == child, "waitpid()");
	return status;
}

/* The program that prints the table for people, on this very process. */
TEST_F(seeing, tool)
{
	char pid[16], line[512];
	bool found = false;
	FILE *output;
	pid_t child;

	if (access(TOOL, X_OK))
		SKIP(return, "no kvm-memtype");
	snprintf(pid, sizeof(pid), "%d", getpid());
	output = start_program(&child, TOOL, "--json", pid);
	while (fgets(line, sizeof(line), output))
		found |= !!strstr(line, "10000000");
	EXPECT_EQ(end_program(child, output), 0);
	EXPECT_TRUE(found);
}

/*
 * The example for VMM authors, as it is in Documentation/virt/kvm/memtype-vmm.rst. Of
 * one range, a row has what it would tell the guest, and what the guest's WC gives.
 */
static const struct {
	const char *row;
	const char *range;
	const char *option;
	bool is_mmio;
	struct memtype_test_setup blob;
} examples[] = {
	{ .row = "example: RAM", .range = "RAM" },
	{ .row = "example: stage-1 mode, RAM", .range = "RAM", .option = "--stage1" },
	{ .row = "example: framebuffer", .range = "framebuffer" },
	{ .row = "example: blob", .range = "blob" },
	{ .row = "example: blob without memory", .range = "blob",
	  .blob = { .size = SZ_4K, .flags = MEMTYPE_TEST_NOMEM } },
	{ .row = "example: blob of WC RAM", .range = "blob", .blob = {
#ifdef __x86_64__
		.flags = MEMTYPE_TEST_SET_RAM,
#endif
		.size = SZ_4K, .prot = MEMTYPE_TEST_WC } },
	{ .row = "example: blob of cacheable MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_WB } },
	{ .row = "example: blob of WC MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_WC } },
	{ .row = "example: blob of UC MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_UC } },
	{ .row = "example: blob of any-uncached MMIO", .range = "blob", .is_mmio = true,
	  .blob = { .size = SZ_4K, .prot = MEMTYPE_TEST_UC,
		    .flags = MEMTYPE_TEST_ANY_UNCACHED } },
};

/*
 * Runs it, with or without an argument. Returns its exit status, and in @said what
 * it says of @range.
 */
static int run_example(const char *argument, const char *range, char said[64])
{
	char line[256], start[32], table[64], tell[32], wc[8];
	bool has_table = false;
	int status, ranges = 0;
	FILE *output;
	pid_t child;

	snprintf(start, sizeof(start), "%s at 0x", range);
	said[0] = '\0';
	output = start_program(&child, EXAMPLE, argument, NULL);
	snprintf(table, sizeof(table), "/sys/kernel/debug/kvm/%d-", child);
	while (fgets(line, sizeof(line), output)) {
		has_table |= !strncmp(line, table, strlen(table));
		ranges += has_table && !strncmp(line, "  0 ", 4);
		if (strncmp(line, start, strlen(start)))
			continue;
		if (sscanf(line, "%*s at %*x: host %*[^,], tell the guest %31[^,], its WC is %7s",
			   tell, wc) == 2)
			snprintf(said, 64, "%s,%s", tell, wc);
		else if (strstr(line, ": refused: "))
			snprintf(said, 64, "refused");
	}
	status = end_program(child, output);
	/* RAM, framebuffer and, if it is not refused, the blob */
	TEST_ASSERT(status || ranges == 3 - !strcmp(said, "refused"),
		    "%s: %d ranges in its table", EXAMPLE, ranges);
	return status;
}

/* Prints the rows, either those of a device's memory or the others. */
static void run_examples(struct __test_metadata *_metadata, bool is_mmio)
{
	char said[64], fd[16];
	const char *argument;
	struct memtype_test_setup blob;
	int status, driver, i;

	for (i = 0; i < ARRAY_SIZE(examples); i++) {
		if (examples[i].is_mmio != is_mmio)
			continue;
		blob = examples[i].blob;
		driver = -1;
		argument = examples[i].option;
		if (blob.size) {
			if (is_mmio)
				blob.phys = frame_buffer();
			driver = driver_file(&blob);
			ASSERT_GE(driver, 0);
			snprintf(fd, sizeof(fd), "%d", driver);
			argument = fd;
		}
		status = run_example(argument, examples[i].range, said);
		EXPECT_TRUE(WIFEXITED(status));
		if (WEXITSTATUS(status) == KSFT_SKIP)
			snprintf(said, sizeof(said), "unsupported");
		if (WEXITSTATUS(status) != KSFT_SKIP)
			EXPECT_EQ(status, 0);
		print_cell(examples[i].row, said);
		if (driver >= 0)
			close(driver);
	}
}

TEST(example)
{
	char said[64];
	int status;

	if (access(EXAMPLE, X_OK))
		SKIP(return, "no memtype-example");
	if (!have_layer()) {
		status = run_example(NULL, "RAM", said);
		EXPECT_TRUE(WIFEXITED(status));
		EXPECT_EQ(WEXITSTATUS(status), KSFT_SKIP);
		return;
	}
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	run_examples(_metadata, false);
}

TEST(example_of_mmio)
{
	if (access(EXAMPLE, X_OK))
		SKIP(return, "no memtype-example");
	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (!have_driver())
		SKIP(return, NO_DRIVER);
	if (!frame_buffer())
		SKIP(return, "no display");
	run_examples(_metadata, true);
}

TEST_HARNESS_MAIN
