// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver that forgets to maintain caches for a device that does not snoop. It is an example for
 * those who want to find the same mistake in their own driver, see
 * tools/testing/memtype/cache/README.rst. Dangerous: for test kernels only.
 *
 * The device, which is that of engine.h there, copies a request out of memory and an answer back
 * into it. The memory stays mapped. So caches must be maintained twice each time: before the device
 * reads the request, and before the CPU reads the answer. Each can be forgotten.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>

#define SOURCE		0x80
#define TARGET		0x88
#define COUNT		0x90
#define COMMAND		0x98
#define RUN		1
#define TO_MEMORY	2
#define FAULTS		0xb8
#define BUFFER		0x40000

#define MESSAGE		256

static bool sync_for_device;
module_param(sync_for_device, bool, 0644);
MODULE_PARM_DESC(sync_for_device, "Maintain caches before the device reads the request");

static bool sync_for_cpu;
module_param(sync_for_cpu, bool, 0644);
MODULE_PARM_DESC(sync_for_cpu, "Maintain caches before the CPU reads the answer");

struct sample {
	void __iomem *bar;
	u8 *request, *answer;	/* next to each other */
	dma_addr_t dma;
	struct mutex lock;	/* one exchange at a time */
	u8 number;
};

static void transfer(struct sample *s, u64 from, u64 to, u64 command)
{
	writeq(from, s->bar + SOURCE);
	writeq(to, s->bar + TARGET);
	writeq(MESSAGE, s->bar + COUNT);
	writeq(command, s->bar + COMMAND);
	/* It is done when the device has taken the command. */
	readq(s->bar + COMMAND);
}

/* Whether the answer is what was asked. */
static ssize_t exchange_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sample *s = dev_get_drvdata(dev);
	u64 faults;
	bool right;

	mutex_lock(&s->lock);
	faults = readq(s->bar + FAULTS);
	memset(s->request, ++s->number, MESSAGE);
	if (sync_for_device)
		dma_sync_single_for_device(dev, s->dma, MESSAGE, DMA_TO_DEVICE);
	transfer(s, s->dma, BUFFER, RUN);
	transfer(s, BUFFER, s->dma + MESSAGE, RUN | TO_MEMORY);
	if (sync_for_cpu)
		dma_sync_single_for_cpu(dev, s->dma + MESSAGE, MESSAGE, DMA_FROM_DEVICE);
	right = !memcmp(s->request, s->answer, MESSAGE);
	/* What the device could not copy is not stale. */
	faults = readq(s->bar + FAULTS) - faults;
	mutex_unlock(&s->lock);
	if (faults)
		return -EIO;
	return sysfs_emit(buf, right ? "right\n" : "stale\n");
}
static DEVICE_ATTR_RO(exchange);

static struct attribute *sample_attrs[] = {
	&dev_attr_exchange.attr,
	NULL
};
ATTRIBUTE_GROUPS(sample);

static int sample_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct device *dev = &pdev->dev;
	struct sample *s;
	int ret;

	s = devm_kzalloc(dev, sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	s->request = devm_kzalloc(dev, 2 * MESSAGE, GFP_KERNEL);
	if (!s->request)
		return -ENOMEM;
	s->answer = s->request + MESSAGE;
	mutex_init(&s->lock);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	s->bar = pcim_iomap(pdev, 0, 0);
	if (!s->bar)
		return -ENOMEM;

	/* QEMU's firmware says that all devices snoop. This one does not. */
	arch_setup_dma_ops(dev, false);
	ret = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	pci_set_master(pdev);
	s->dma = dma_map_single(dev, s->request, 2 * MESSAGE, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, s->dma))
		return -ENOMEM;
	dev_set_drvdata(dev, s);
	return 0;
}

static void sample_remove(struct pci_dev *pdev)
{
	struct sample *s = dev_get_drvdata(&pdev->dev);

	pci_clear_master(pdev);
	dma_unmap_single(&pdev->dev, s->dma, 2 * MESSAGE, DMA_BIDIRECTIONAL);
}

/* For no device by itself: only for that whose driver_override names it. */
static struct pci_driver sample_driver = {
	.name = "dma-sample",
	.probe = sample_probe,
	.remove = sample_remove,
	.dev_groups = sample_groups,
};
module_pci_driver(sample_driver);

MODULE_DESCRIPTION("A driver that forgets to maintain caches");
MODULE_LICENSE("GPL");
