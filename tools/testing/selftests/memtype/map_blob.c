// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has the virtio-gpu make a blob of this id in the memory of the host, maps it as the kernel's
 * driver was told to, says as which memory type that is, and uses it when a line comes:
 *
 *	map_blob ID
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <drm/virtgpu_drm.h>

#include "../../../../mm/memtype_test.h"

#define CARD		"/dev/dri/card0"
#define DRIVER		"/sys/kernel/debug/memtype_test"
#define SIZE		0x10000
#define PATTERN		0x0123456789abcdefull

/* By KVM_MEMTYPE_*, of which there are no others */
static const char * const kinds[] = {
	"none", "WB", "WT", "WP", "WC", "UC-", "UC", "GRE", "nGRE", "nGnRnE",
};

int main(int argc, char **argv)
{
	struct drm_virtgpu_resource_create_blob blob = {
		.blob_mem = VIRTGPU_BLOB_MEM_HOST3D, .blob_flags = VIRTGPU_BLOB_FLAG_USE_MAPPABLE,
		.size = SIZE,
	};
	int card = open(CARD, O_RDWR), driver = open(DRIVER, O_RDWR), kind;
	struct drm_virtgpu_map map = {};
	uint64_t *memory;

	if (argc != 2)
		errx(2, "usage: map_blob ID");
	if (card < 0)
		err(1, CARD);
	if (driver < 0)
		err(1, DRIVER);
	blob.blob_id = strtoul(argv[1], NULL, 0);
	if (ioctl(card, DRM_IOCTL_VIRTGPU_RESOURCE_CREATE_BLOB, &blob))
		err(1, "the blob");
	map.handle = blob.bo_handle;
	if (ioctl(card, DRM_IOCTL_VIRTGPU_MAP, &map))
		err(1, "the blob's place");
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, card, map.offset);
	if (memory == MAP_FAILED) {
		printf("blob is refused\n");
		return 0;
	}
	kind = ioctl(driver, MEMTYPE_TEST_KIND, memory);
	if (kind < 0)
		err(1, "the type");
	printf("blob is %s\n", kinds[kind]);
	/* If accesses are refused, they stop the machine. */
	fflush(stdout);
	getchar();
	for (size_t i = 0; i < SIZE / sizeof(*memory); i++)
		__atomic_store_n(&memory[i], PATTERN + i, __ATOMIC_SEQ_CST);
	for (size_t i = 0; i < SIZE / sizeof(*memory); i++)
		if (__atomic_load_n(&memory[i], __ATOMIC_SEQ_CST) != PATTERN + i)
			errx(1, "wrong at %zu", i);
	printf("it holds what was written\n");
	return 0;
}
