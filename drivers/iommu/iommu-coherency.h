/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Groups whose DMA an administrator declares coherent, because the IOMMU cannot tell: a guest's
 * kernel whose virtual IOMMU says nothing of the host's, which does enforce it.
 *
 * Part of iommu.c, for its private structures.
 */
#include <linux/capability.h>
#include <linux/iommu_coherency.h>
#include <linux/seq_file.h>

#ifdef CONFIG_DMA_CACHE
static const char * const iommu_coherency_words[] = {
	[IOMMU_COHERENCY_IOMMU] = "iommu",
	[IOMMU_COHERENCY_DECLARED] = "declared",
};

static ssize_t dma_coherency_read(struct file *file, struct kobject *kobj,
				  struct bin_attribute *attr, char *buf, loff_t off, size_t count)
{
	enum iommu_coherency coherency = READ_ONCE(to_iommu_group(kobj)->coherency);
	char text[32];
	int len = scnprintf(text, sizeof(text), "%s\n", iommu_coherency_words[coherency]);

	return memory_read_from_buffer(buf, count, &off, text, len);
}

/* What a domain was made for must stay true of it, and of what KVM was told. */
static bool iommu_group_in_use(struct iommu_group *group)
{
	return group->owner || group->domain != group->default_domain;
}

static ssize_t dma_coherency_write(struct file *file, struct kobject *kobj,
				   struct bin_attribute *attr, char *buf, loff_t off, size_t count)
{
	int coherency = sysfs_match_string(iommu_coherency_words, buf);
	struct iommu_group *group = to_iommu_group(kobj);

	/* If it is not true, whoever has the device reads others' old data: like /dev/mem. */
	if (!file_ns_capable(file, &init_user_ns, CAP_SYS_RAWIO))
		return -EPERM;
	if (coherency < 0)
		return coherency;

	guard(mutex)(&group->mutex);
	/* Groups of emulated devices have no domain. */
	if (!group->default_domain)
		return -ENODEV;
	if (iommu_group_in_use(group))
		return -EBUSY;
	if (coherency != group->coherency)
		pr_info("group %d: DMA coherency: %s\n", group->id,
			iommu_coherency_words[coherency]);
	WRITE_ONCE(group->coherency, coherency);
	return count;
}

/* A binary attribute, to check who opened the file, not who writes */
static BIN_ATTR_RW(dma_coherency, 0);

static struct bin_attribute *iommu_coherency_attrs[] = {
	&bin_attr_dma_coherency,
	NULL
};

static const struct attribute_group iommu_coherency_group = {
	.bin_attrs = iommu_coherency_attrs,
};

static const struct attribute_group *iommu_coherency_groups[] = {
	&iommu_coherency_group,
	NULL
};

/**
 * iommu_group_declared_coherent() - whether all DMA of a group is declared coherent
 * @group: the group, or NULL
 *
 * The IOMMU need not enforce it. The answer does not change while the group has an owner
 * (iommu_group_claim_dma_owner()) or a domain other than its default domain.
 *
 * Context: Any. The caller keeps @group.
 * Return: Whether an administrator said so in sysfs. Without a group, nobody did.
 */
bool iommu_group_declared_coherent(struct iommu_group *group)
{
	return group && READ_ONCE(group->coherency) != IOMMU_COHERENCY_IOMMU;
}
EXPORT_SYMBOL_GPL(iommu_group_declared_coherent);

/**
 * iommu_show_coherency() - list the groups whose DMA is declared coherent
 * @m: where to
 *
 * Context: Any.
 */
void iommu_show_coherency(struct seq_file *m)
{
	struct kobject *kobj;

	spin_lock(&iommu_group_kset->list_lock);
	list_for_each_entry(kobj, &iommu_group_kset->list, entry) {
		struct iommu_group *group = to_iommu_group(kobj);
		enum iommu_coherency coherency = READ_ONCE(group->coherency);

		if (coherency != IOMMU_COHERENCY_IOMMU)
			seq_printf(m, "group_%d %s\n", group->id,
				   iommu_coherency_words[coherency]);
	}
	spin_unlock(&iommu_group_kset->list_lock);
}
#else
#define iommu_coherency_groups NULL
#endif
