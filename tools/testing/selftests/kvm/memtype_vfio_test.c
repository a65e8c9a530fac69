// SPDX-License-Identifier: GPL-2.0-only
/*
 * An emulated device that does DMA, from end to end (memtype_edu.h):
 *
 *	edu.dma			both ways, by each type of the BAR; what is unmapped is safe
 *	edu.*orders		in every order of opening, binding, attaching, telling KVM and
 *				creating the vCPU, KVM and the IOMMU's driver agree on coherency
 *	edu.declared		the same where an administrator declares all DMA coherent
 *	edu.refused		a domain that does not enforce it, for a device that can
 *
 * memtype_removal_test takes the device away.
 */
#include "memtype_edu.h"
#include "../../../../drivers/iommu/iommufd/iommufd_test.h"

/*
 * One transfer to memory that is unmapped before it starts or, with @pending, before it is over:
 * whether the memory stays as it is.
 */
static bool is_blocked(struct vmm *v, bool pending)
{
	struct request start = {
		.op = START, .bar = BAR_GVA, .iova = RAM_GPA + SZ_4K, .to_memory = true,
	};
	struct request finish = { .op = FINISH, .bar = BAR_GVA };
	bool late;

	/* A transfer that was over before the memory was unmapped shows nothing. */
	do {
		memset(v->ram + SZ_4K, 0x5a, BYTES);
		if (!pending)
			MUST_WORK(unmap_ram(v));
		ask_guest(v, start);
		if (pending)
			MUST_WORK(unmap_ram(v));
		late = pending && !edu_runs(v->bar);
		if (late)
			MUST_WORK(map_ram(v));
	} while (late);
	ask_guest(v, finish);
	return v->ram[SZ_4K] == 0x5a && !memcmp(v->ram + SZ_4K, v->ram + SZ_4K + 1, BYTES - 1);
}

TEST_F(edu, dma)
{
	struct request trip = { .op = ROUND_TRIP, .iova = RAM_GPA };
	bool works = true, blocked;
	struct vmm v;
	char row[64];
	int i;

	begin(false);
	open_vmm(&v, edu_name);
	if (!have_probe(v.vcpu))
		SKIP(return, NO_PROBE);
	for (i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
		if (guest_kinds[i] == KVM_MEMTYPE_WB)
			continue;
		trip.bar = BAR_GVA + i * SZ_4K;
		memset(v.ram, 0, RAM_SIZE);
		works = ask_guest(&v, trip) && works;
		/* What the guest compared is what the host sees. */
		works = works && ((uint64_t *)v.ram)[1] == PATTERN &&
			!memcmp(v.ram, v.ram + SZ_4K, BYTES);
		snprintf(row, sizeof(row), "edu BAR: guest %s", kind_names[guest_kinds[i]]);
		print_type(row, check_bar(_metadata, &v, i));
	}
	EXPECT_TRUE(works);
	print_cell("edu: DMA by a guest", works ? "right" : "wrong");

	/* The device's buffer has the last pattern. */
	blocked = is_blocked(&v, false);
	MUST_WORK(map_ram(&v));
	blocked = is_blocked(&v, true) && blocked;
	EXPECT_TRUE(blocked);
	print_cell("edu: DMA after unmap", blocked ? "blocked" : "done");
	close_vmm(&v);
	trace_end(getpid());
	EXPECT_TRUE(nothing_left());
}

/*
 * Whether KVM knows what the domain is, and whether since begin() as many pages were cleaned and
 * flushed as a domain that is not coherent needs.
 */
static bool agrees(const char *when, bool coherent, uint64_t cleaned, uint64_t flushed)
{
	bool needed = maintains && !coherent, good;

	trace_end(getpid());
	trace_read(take);
	good = seen.coherent == coherent && !order.violation && seen.allocated &&
	       order.maintained[0] == (needed ? cleaned : 0) &&
	       order.maintained[1] == (needed ? flushed : 0);
#ifdef __x86_64__
	good = good && seen.registered == !coherent;
#endif
	if (!good)
		ksft_print_msg("%s: KVM %d, registered %ld, domain %d, cleaned %lu, flushed %lu\n",
			       when, seen.coherent, seen.registered, coherent, order.maintained[0],
			       order.maintained[1]);
	return good;
}

/* Whether an administrator says that edu's DMA is coherent, whatever its domain enforces */
static bool declared;

static bool is_coherent_ioas(int iommufd, uint32_t ioas)
{
	return declared || iommufd_is_coherent(iommufd, ioas);
}

/* The device goes away from its page tables and comes back, and then goes to others. */
static bool agrees_later(struct vmm *v)
{
	struct assigned *d = &v->device;
	uint32_t other, hwpt;
	bool good;

	/* Nobody else has the memory: it is flushed, and cleaned once more. */
	MUST_WORK(vfio_detach(d->fd));
	MUST_WORK(vfio_attach(d->fd, d->ioas));
	good = agrees("attached again", is_coherent_ioas(d->iommufd, d->ioas),
		      2 * RAM_PAGES, RAM_PAGES);
	/* The memory comes to be in the other domain before it leaves the first. */
	MUST_WORK(ioas_new(d->iommufd, &other));
	MUST_WORK(hwpt_new(d->iommufd, d->id, other, &hwpt));
	MUST_WORK(ioas_copy(d->iommufd, other, RAM_GPA, d->ioas, RAM_GPA, RAM_SIZE));
	MUST_WORK(vfio_attach(d->fd, hwpt));
	good = agrees("replaced", is_coherent_ioas(d->iommufd, other),
		      2 * RAM_PAGES, RAM_PAGES) && good;
	TEST_ASSERT(!set_kvm_vfio(v->kvm_vfio, d->fd, false) &&
		    !set_kvm_vfio(v->kvm_vfio, d->fd, true), "KVM_DEV_VFIO_FILE_DEL, _ADD: %s",
		    strerror(errno));
	good = agrees("told again", is_coherent_ioas(d->iommufd, other),
		      2 * RAM_PAGES, RAM_PAGES) && good;
	/* Without the first mapping, the second one has what it needs. */
	MUST_WORK(unmap_ram(v));
	return agrees("unmapped", is_coherent_ioas(d->iommufd, other),
		      2 * RAM_PAGES, RAM_PAGES) && good;
}

static bool is_permitted(const struct step *steps, const unsigned int *sequence, unsigned int nr)
{
	unsigned int i, done = 0;

	for (i = 0; i < nr; i++) {
		if (steps[sequence[i]].after & ~done)
			return false;
		done |= BIT(sequence[i]);
	}
	return true;
}

/* The next of all permutations; false after the last. */
static bool permute(unsigned int *sequence, unsigned int nr)
{
	unsigned int i = nr - 1, j = nr - 1, swap;

	while (i && sequence[i - 1] > sequence[i])
		i--;
	if (!i)
		return false;
	while (sequence[j] < sequence[i - 1])
		j--;
	swap = sequence[j];
	sequence[j] = sequence[i - 1];
	sequence[i - 1] = swap;
	for (j = nr - 1; i < j; i++, j--) {
		swap = sequence[j];
		sequence[j] = sequence[i];
		sequence[i] = swap;
	}
	return true;
}

/* Whether IOMMUFD or type1 says that the domain is coherent */
static bool is_coherent(const struct vmm *v, const struct way *way)
{
	int ret;

	if (!way->type1)
		return iommufd_is_coherent(v->device.iommufd, v->device.ioas);
	ret = ioctl(v->device.iommufd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU);
	TEST_ASSERT(ret >= 0, "VFIO_DMA_CC_IOMMU: %s", strerror(errno));
	return ret;
}

/* Sets a VMM up in all permitted orders of its steps; how many there are, or 0. */
static unsigned int try_orders(const struct way *way, bool coherent)
{
	unsigned int sequence[8], orders = 0, i;
	struct vmm v;
	bool good;

	TEST_ASSERT(way->nr <= ARRAY_SIZE(sequence), "%u steps", way->nr);
	for (i = 0; i < way->nr; i++)
		sequence[i] = i;
	do {
		if (!is_permitted(way->steps, sequence, way->nr))
			continue;
		orders++;
		begin(way->type1);
		begin_vmm(&v, way);
		for (i = 0; i < way->nr; i++)
			MUST_WORK(way->steps[sequence[i]].run(&v));
		good = (declared || is_coherent(&v, way)) == coherent &&
		       agrees(way->name, coherent, RAM_PAGES + way->probed, way->probed) &&
		       (way->type1 || agrees_later(&v));
		close_vmm(&v);
		trace_end(getpid());
		if (!nothing_left() || !good)
			return 0;
	} while (permute(sequence, way->nr));
	return orders;
}

static void check_orders(struct __test_metadata *_metadata, const struct way *way, bool coherent,
			 unsigned int wanted)
{
	unsigned int orders = try_orders(way, coherent);
	char row[64];

	EXPECT_EQ(orders, wanted);
	snprintf(row, sizeof(row), "edu: KVM and %s say", way->name);
	print_cell(row, orders != wanted ? "differ" : coherent ? "coherent" : "non-coherent");
}

TEST_F(edu, orders)
{
	check_orders(_metadata, &by_iommufd, self->coherent, 90);
	/* What the trace has of the last one */
	print_cell("edu: caches are maintained", order.maintained[0] ? "yes" : "no");
}

TEST_F(edu, type1_orders)
{
	check_orders(_metadata, &by_type1, self->coherent, 70);
}

TEST_F(edu, declared)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group/dma_coherency", edu_name);
	MUST_WORK(write_file(path, "declared"));
	declared = true;
	maintains = false;
	EXPECT_EQ(try_orders(&by_iommufd, true), 90);
	EXPECT_EQ(try_orders(&by_type1, true), 70);
	MUST_WORK(write_file(path, "iommu"));
}

/* KVM goes by what the IOMMU can do. So where that can enforce coherency, a domain must. */
TEST_F(edu, refused)
{
	struct iommu_test_cmd mock = {
		.size = sizeof(mock), .op = IOMMU_TEST_OP_MOCK_DOMAIN,
	};
	struct assigned a;
	int ret;

	if (!self->coherent)
		SKIP(return, "the IOMMU cannot enforce coherency");
	assign(&a, edu_name);
	MUST_WORK(ioas_new(a.iommufd, &mock.id));
	ret = call(a.iommufd, IOMMU_TEST_CMD, &mock);
	if (ret)
		SKIP(return, "no mock device beside this IOMMU: %s", strerror(-ret));
	/* The domain of a mock device does not enforce it. */
	EXPECT_EQ(vfio_attach(a.fd, mock.mock_domain.out_hwpt_id), -EINVAL);
	EXPECT_TRUE(iommufd_is_coherent(a.iommufd, a.ioas));
	unassign(&a);
}

int main(int argc, char **argv)
{
	remember_driver();
	return test_harness_run(argc, argv);
}
