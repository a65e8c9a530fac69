/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Groups whose DMA an administrator declares coherent, because the IOMMU cannot tell: a guest's
 * kernel whose virtual IOMMU says nothing of the host's, which does enforce it; or devices that
 * snoop as long as nobody enables No-Snoop in them.
 *
 * Part of iommu.c, for its private structures.
 */
#include <linux/capability.h>
#include <linux/iommu_coherency.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/seq_file.h>

/* Binary attributes are constant in kernels that have this. */
#ifdef __SYSFS_FUNCTION_ALTERNATIVE
#define BIN_ATTR_CONST	const
#else
#define BIN_ATTR_CONST
#endif

#ifdef CONFIG_DMA_CACHE
static const char * const iommu_coherency_words[] = {
	[IOMMU_COHERENCY_IOMMU] = "iommu",
	[IOMMU_COHERENCY_DECLARED] = "declared",
	[IOMMU_COHERENCY_NO_SNOOP_OFF] = "no-snoop-off",
};

static ssize_t dma_coherency_read(struct file *file, struct kobject *kobj,
				  BIN_ATTR_CONST struct bin_attribute *attr, char *buf, loff_t off,
				  size_t count)
{
	enum iommu_coherency coherency = READ_ONCE(to_iommu_group(kobj)->coherency);
	char text[32];
	int len = scnprintf(text, sizeof(text), "%s\n", iommu_coherency_words[coherency]);

	return memory_read_from_buffer(buf, count, &off, text, len);
}

/* Disable No-Snoop in a function, and have vfio-pci keep it so until the function is removed. */
static int no_snoop_off(struct pci_dev *pdev)
{
	bool was_off = pdev->no_snoop_off;
	u16 control;

	if (!pci_is_pcie(pdev))
		return -EOPNOTSUPP;
	/* An integrated GPU bypasses the caches whatever the bit says; a VM has it on any bus. */
	if (pdev->class >> 16 == PCI_BASE_CLASS_DISPLAY)
		return -EOPNOTSUPP;

	pdev->no_snoop_off = true;
	pm_runtime_get_sync(&pdev->dev);
	pcie_capability_clear_word(pdev, PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_NOSNOOP_EN);
	if (pcie_capability_read_word(pdev, PCI_EXP_DEVCTL, &control))
		control = ~0;
	pm_runtime_put(&pdev->dev);
	if (!(control & PCI_EXP_DEVCTL_NOSNOOP_EN))
		return 0;
	pdev->no_snoop_off = was_off;
	return -EIO;
}

/* The bit of a virtual function reads as 0: that of the physical one counts. */
static int no_snoop_off_both(struct pci_dev *pdev)
{
	int ret = no_snoop_off(pdev);

	if (!ret && pdev->is_virtfn)
		ret = no_snoop_off(pci_physfn(pdev));
	return ret;
}

static int group_no_snoop_off(struct iommu_group *group)
{
	struct group_device *device;
	int ret = 0;

	for_each_group_device(group, device) {
		ret = dev_is_pci(device->dev) ? no_snoop_off_both(to_pci_dev(device->dev)) :
						-EOPNOTSUPP;
		if (ret)
			break;
	}
	return ret;
}

/**
 * iommu_no_snoop_off() - disable No-Snoop in a device that is declared coherent without it
 * @pdev: a device that userspace opens, or that it is about to let master the bus
 *
 * Device Control may have changed since the declaration, and a device may have come to a declared
 * group after it.
 *
 * Context: May sleep. The caller keeps the device's group.
 * Return: 0, also of devices that are not declared so; -EOPNOTSUPP if a device, or its physical
 * function, has no such bit or does not obey it; -EIO if the bit cannot be cleared. Userspace
 * must not have the device then.
 */
int iommu_no_snoop_off(struct pci_dev *pdev)
{
	struct iommu_group *group = pdev->dev.iommu_group;

	if (!pdev->no_snoop_off &&
	    (!group || READ_ONCE(group->coherency) != IOMMU_COHERENCY_NO_SNOOP_OFF))
		return 0;
	return no_snoop_off_both(pdev);
}
EXPORT_SYMBOL_GPL(iommu_no_snoop_off);

/* What a domain was made for must stay true of it, and of what KVM was told. */
static bool iommu_group_in_use(struct iommu_group *group)
{
	return group->owner || group->domain != group->default_domain;
}

static ssize_t dma_coherency_write(struct file *file, struct kobject *kobj,
				   BIN_ATTR_CONST struct bin_attribute *attr, char *buf, loff_t off,
				   size_t count)
{
	int coherency = sysfs_match_string(iommu_coherency_words, buf);
	struct iommu_group *group = to_iommu_group(kobj);
	int ret;

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
	ret = coherency == IOMMU_COHERENCY_NO_SNOOP_OFF ? group_no_snoop_off(group) : 0;
	if (ret)
		return ret;
	if (coherency != group->coherency)
		pr_info("group %d: DMA coherency: %s\n", group->id,
			iommu_coherency_words[coherency]);
	WRITE_ONCE(group->coherency, coherency);
	return count;
}

/* A binary attribute, to check who opened the file, not who writes */
static BIN_ATTR_RW(dma_coherency, 0);

static BIN_ATTR_CONST struct bin_attribute *BIN_ATTR_CONST iommu_coherency_attrs[] = {
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
