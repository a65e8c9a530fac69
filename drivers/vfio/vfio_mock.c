// SPDX-License-Identifier: GPL-2.0-only
/*
 * A test driver: VFIO devices in front of the mock IOMMU of iommufd's selftest, so that
 * type1 maps memory in domains whose DMA goes past simulated caches. vfio_mock.h says what
 * they can do.
 */
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/symbol_ns.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "../iommu/iommufd/iommufd_test.h"
#include "../iommu/iommufd/selftest_shadow.h"
#include "vfio_mock.h"

MODULE_IMPORT_NS(SYMBOL_NS(IOMMUFD));

/**
 * struct vfio_mock - a device
 * @vdev: what VFIO has
 * @lock: protects what follows
 * @pinned: whether the emulated device pins a page
 * @iova: which one
 * @page: the page itself
 * @pdev: the PCI device that it is given to, or NULL
 * @dma: where that finds it
 */
struct vfio_mock {
	struct vfio_device vdev;
	struct mutex lock;	/* of the pin */
	bool pinned;
	dma_addr_t iova;
	struct page *page;
	struct pci_dev *pdev;
	dma_addr_t dma;
};

static const unsigned long mock_flags[VFIO_MOCK_EMULATED] = {
	/* Type1 may unmap a part of what it mapped, which needs HUGE_IOVA here. */
	[VFIO_MOCK_COHERENT] = MOCK_FLAGS_DEVICE_SHADOW | MOCK_FLAGS_DEVICE_ENFORCE_CC |
			       MOCK_FLAGS_DEVICE_HUGE_IOVA,
	[VFIO_MOCK_NONCOHERENT] = MOCK_FLAGS_DEVICE_SHADOW | MOCK_FLAGS_DEVICE_HUGE_IOVA,
	[VFIO_MOCK_NONCOHERENT2] = MOCK_FLAGS_DEVICE_SHADOW | MOCK_FLAGS_DEVICE_HUGE_IOVA,
	[VFIO_MOCK_SNOOPING] = MOCK_FLAGS_DEVICE_HUGE_IOVA,
};

static struct vfio_mock *mocks[VFIO_MOCK_DEVICES];
static struct page *reserved;
/* Protects both of them */
static DEFINE_MUTEX(mocks_lock);

static int vfio_mock_dma(struct vfio_mock *mock, void __user *arg)
{
	struct vfio_mock_dma dma;
	struct iommu_domain *domain;
	void *buf;
	int ret;

	if (copy_from_user(&dma, arg, sizeof(dma)))
		return -EFAULT;
	if (dma.length > PAGE_SIZE)
		return -EINVAL;
	domain = iommu_get_domain_for_dev(mock->vdev.dev);
	if (!domain || !(domain->type & __IOMMU_DOMAIN_PAGING))
		return -ENODEV;

	if (dma.flags & MOCK_DMA_RW_WRITE)
		buf = memdup_user(u64_to_user_ptr(dma.uptr), dma.length);
	else
		buf = kzalloc(dma.length, GFP_KERNEL) ?: ERR_PTR(-ENOMEM);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = iommufd_mock_dma_rw(domain, dma.iova, buf, dma.length, dma.flags);
	if (!ret && !(dma.flags & MOCK_DMA_RW_WRITE) &&
	    copy_to_user(u64_to_user_ptr(dma.uptr), buf, dma.length))
		ret = -EFAULT;
	kfree(buf);
	return ret;
}

static int vfio_mock_pin(struct vfio_mock *mock, void __user *arg)
{
	struct page *other = ZERO_PAGE(0), *pages[2] = { NULL, other };
	u64 iova;
	int ret;

	if (get_user(iova, (u64 __user *)arg))
		return -EFAULT;
	/* A pin that nobody knows of yet must not be asked back. */
	guard(mutex)(&mock->lock);
	if (mock->pinned)
		return -EBUSY;
	/* Only the first one is VFIO's to write. */
	ret = vfio_pin_pages(&mock->vdev, iova, 1, IOMMU_READ | IOMMU_WRITE, pages);
	WARN_ON(pages[1] != other);
	if (ret < 0)
		return ret;
	mock->pinned = true;
	mock->iova = iova;
	mock->page = pages[0];
	return 0;
}

static int vfio_mock_mediate(struct vfio_mock *mock, void __user *arg)
{
	struct vfio_mock_mediate mediate;
	struct pci_dev *pdev;
	int ret;

	if (copy_from_user(&mediate, arg, sizeof(mediate)))
		return -EFAULT;
	guard(mutex)(&mock->lock);
	if (!mock->pinned || mock->pdev)
		return -EBUSY;
	pdev = pci_get_device(mediate.vendor, mediate.device, NULL);
	if (!pdev)
		return -ENODEV;
	ret = pci_enable_device(pdev);
	if (ret)
		goto put;
	pci_set_master(pdev);
	mock->dma = dma_map_page(&pdev->dev, mock->page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
	ret = dma_mapping_error(&pdev->dev, mock->dma);
	if (ret)
		goto disable;
	mock->pdev = pdev;
	mediate.address = mock->dma;
	return copy_to_user(arg, &mediate, sizeof(mediate)) ? -EFAULT : 0;

disable:
	pci_disable_device(pdev);
put:
	pci_dev_put(pdev);
	return ret;
}

/* Before the page is unpinned, with @lock held */
static void vfio_mock_take_back(struct vfio_mock *mock)
{
	struct pci_dev *pdev = mock->pdev;

	if (!pdev)
		return;
	dma_unmap_page(&pdev->dev, mock->dma, PAGE_SIZE, DMA_BIDIRECTIONAL);
	pci_disable_device(pdev);
	pci_dev_put(pdev);
	mock->pdev = NULL;
}

/* Type1 calls back with its device_list_lock held; iommu->lock is taken within @lock. */
static void vfio_mock_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct vfio_mock *mock = container_of(vdev, struct vfio_mock, vdev);

	scoped_guard(mutex, &mock->lock) {
		if (!mock->pinned || mock->iova - iova >= length)
			return;
		mock->pinned = false;
		iova = mock->iova;
		vfio_mock_take_back(mock);
	}
	/* Others come to wait for what the caller holds. */
	msleep(20);
	vfio_unpin_pages(vdev, iova, 1);
}

/* A pin that is gone for the device, but not yet for type1, would be asked back in vain. */
static void vfio_mock_close(struct vfio_device *vdev)
{
	struct vfio_mock *mock = container_of(vdev, struct vfio_mock, vdev);

	guard(mutex)(&mock->lock);
	vfio_mock_take_back(mock);
	if (mock->pinned)
		vfio_unpin_pages(vdev, mock->iova, 1);
	mock->pinned = false;
}

static long vfio_mock_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct vfio_mock *mock = container_of(vdev, struct vfio_mock, vdev);

	switch (cmd) {
	case VFIO_MOCK_DMA:
		return vfio_mock_dma(mock, (void __user *)arg);
	case VFIO_MOCK_PIN:
		return vfio_mock_pin(mock, (void __user *)arg);
	case VFIO_MOCK_UNPIN:
		vfio_mock_close(vdev);
		return 0;
	case VFIO_MOCK_MEDIATE:
		return vfio_mock_mediate(mock, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static const struct vfio_device_ops vfio_mock_ops = {
	.name = "vfio-mock",
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
	.ioctl = vfio_mock_ioctl,
};

static const struct vfio_device_ops vfio_mock_emulated_ops = {
	.name = "vfio-mock-emulated",
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
	.close_device = vfio_mock_close,
	.ioctl = vfio_mock_ioctl,
	.dma_unmap = vfio_mock_dma_unmap,
};

/* VFIO takes a reference to the module of a device's driver, so there has to be one. */
static struct device_driver vfio_mock_driver = {
	.name = "vfio_mock",
	.owner = THIS_MODULE,
};

static struct device *vfio_mock_parent(enum vfio_mock_device which)
{
	struct device *dev = which == VFIO_MOCK_EMULATED ?
			     root_device_register("vfio_mock") :
			     iommufd_mock_dev_create(mock_flags[which]);

	if (!IS_ERR(dev))
		dev->driver = &vfio_mock_driver;
	return dev;
}

static void vfio_mock_put_parent(enum vfio_mock_device which, struct device *dev)
{
	/* No bus has bound it, and none is to unbind it. */
	dev->driver = NULL;
	if (which == VFIO_MOCK_EMULATED)
		root_device_unregister(dev);
	else
		iommufd_mock_dev_destroy(dev);
}

static int vfio_mock_create(enum vfio_mock_device which)
{
	bool emulated = which == VFIO_MOCK_EMULATED;
	struct device *dev = vfio_mock_parent(which);
	struct vfio_mock *mock;
	int ret;

	if (IS_ERR(dev))
		return PTR_ERR(dev);
	mock = vfio_alloc_device(vfio_mock, vdev, dev,
				 emulated ? &vfio_mock_emulated_ops : &vfio_mock_ops);
	if (IS_ERR(mock)) {
		vfio_mock_put_parent(which, dev);
		return PTR_ERR(mock);
	}
	mutex_init(&mock->lock);
	ret = emulated ? vfio_register_emulated_iommu_dev(&mock->vdev) :
			 vfio_register_group_dev(&mock->vdev);
	if (ret) {
		vfio_put_device(&mock->vdev);
		vfio_mock_put_parent(which, dev);
		return ret;
	}
	mocks[which] = mock;
	return 0;
}

/* What the first open creates stays: it must not go while a group is in use. */
static int vfio_mock_open(struct inode *inode, struct file *file)
{
	unsigned int which;
	int ret;

	guard(mutex)(&mocks_lock);
	if (!reserved) {
		reserved = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!reserved)
			return -ENOMEM;
		SetPageReserved(reserved);
	}
	for (which = 0; which < VFIO_MOCK_DEVICES; which++) {
		if (mocks[which])
			continue;
		ret = vfio_mock_create(which);
		if (ret)
			return ret;
	}
	return 0;
}

static long vfio_mock_find(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vfio_mock_find find;
	struct device *dev;

	if (cmd != VFIO_MOCK_FIND)
		return -ENOTTY;
	if (copy_from_user(&find, (void __user *)arg, sizeof(find)))
		return -EFAULT;
	if (find.device >= VFIO_MOCK_DEVICES)
		return -EINVAL;
	dev = mocks[find.device]->vdev.dev;
	find.group = iommu_group_id(dev->iommu_group);
	strscpy_pad(find.name, dev_name(dev));
	return copy_to_user((void __user *)arg, &find, sizeof(find)) ? -EFAULT : 0;
}

static int vfio_mock_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) != 1)
		return -EINVAL;
	return remap_pfn_range(vma, vma->vm_start, page_to_pfn(reserved), PAGE_SIZE,
			       vma->vm_page_prot);
}

static const struct file_operations vfio_mock_fops = {
	.owner = THIS_MODULE,
	.open = vfio_mock_open,
	.unlocked_ioctl = vfio_mock_find,
	.mmap = vfio_mock_mmap,
};

static struct miscdevice vfio_mock_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vfio_mock",
	.fops = &vfio_mock_fops,
	.mode = 0600,
};

static int __init vfio_mock_init(void)
{
	return misc_register(&vfio_mock_misc);
}
module_init(vfio_mock_init);

static void __exit vfio_mock_exit(void)
{
	unsigned int which;

	misc_deregister(&vfio_mock_misc);
	for (which = 0; which < VFIO_MOCK_DEVICES; which++) {
		struct vfio_mock *mock = mocks[which];
		struct device *dev;

		if (!mock)
			continue;
		dev = mock->vdev.dev;
		vfio_unregister_group_dev(&mock->vdev);
		vfio_put_device(&mock->vdev);
		vfio_mock_put_parent(which, dev);
	}
	if (reserved) {
		ClearPageReserved(reserved);
		__free_page(reserved);
	}
}
module_exit(vfio_mock_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VFIO devices for tests, without hardware");
