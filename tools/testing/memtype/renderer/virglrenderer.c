// SPDX-License-Identifier: GPL-2.0-only
/*
 * The renderer of renderer.h. Blobs are mapped by the kernel's test driver (mm/memtype_test.h).
 * Whatever else a guest asks for fails, or does nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_gpu.h>

#include "../../../../mm/memtype_test.h"
#include "renderer.h"
#include "virglrenderer.h"

#define DRIVER		"/sys/kernel/debug/memtype_test"
/* x86: a mapping of RAM is not write-back only if the RAM itself is not. */
#ifdef __x86_64__
#define SET_RAM		MEMTYPE_TEST_SET_RAM
#else
#define SET_RAM		0
#endif

struct blob {
	struct blob *next;
	uint32_t handle;
	uint64_t size;
	void *map;
};

static struct blob *blobs;
static struct virgl_renderer_callbacks *callbacks;
static void *cookie;
static uint32_t last_fence;

/* Where the blob with this handle is in the list, or the end of that */
static struct blob **find_blob(uint32_t handle)
{
	struct blob **at = &blobs;

	while (*at && (*at)->handle != handle)
		at = &(*at)->next;
	return at;
}

static void *map_blob(uint64_t id, uint64_t size)
{
	struct memtype_test_setup setup = {
		.size = size, .prot = id, .flags = id == RENDERER_WB ? 0 : SET_RAM,
	};
	void *map;
	int fd;

	if (id == RENDERER_NOTHING)
		return mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (id == RENDERER_NO_MEMORY) {
		setup.prot = MEMTYPE_TEST_WB;
		setup.flags = MEMTYPE_TEST_NOMEM;
	}
	fd = open(DRIVER, O_RDWR);
	if (fd < 0)
		return MAP_FAILED;
	map = ioctl(fd, MEMTYPE_TEST_SETUP, &setup) ? MAP_FAILED :
	      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map;
}

int virgl_renderer_resource_create_blob(const struct virgl_renderer_resource_create_blob_args *args)
{
	struct blob *blob;

	if (args->blob_mem != VIRTIO_GPU_BLOB_MEM_HOST3D || args->blob_id >= RENDERER_BLOBS)
		return -EINVAL;
	blob = malloc(sizeof(*blob));
	if (!blob)
		return -ENOMEM;
	*blob = (struct blob) { blobs, args->res_handle, args->size,
				map_blob(args->blob_id, args->size) };
	if (blob->map == MAP_FAILED) {
		int error = errno;

		free(blob);
		return -error;
	}
	blobs = blob;
	return 0;
}

void virgl_renderer_resource_unref(uint32_t handle)
{
	struct blob **at = find_blob(handle), *blob = *at;

	if (!blob)
		return;
	*at = blob->next;
	munmap(blob->map, blob->size);
	free(blob);
}

int virgl_renderer_resource_map(uint32_t handle, void **map, uint64_t *size)
{
	struct blob *blob = *find_blob(handle);

	if (!blob)
		return -EINVAL;
	*map = blob->map;
	*size = blob->size;
	return 0;
}

int virgl_renderer_resource_unmap(uint32_t handle)
{
	return *find_blob(handle) ? 0 : -EINVAL;
}

/* As if it did not know the driver. This is what QEMU believes if it does not ask KVM. */
int virgl_renderer_resource_get_map_info(uint32_t handle, uint32_t *info)
{
	*info = VIRTIO_GPU_MAP_CACHE_CACHED;
	return 0;
}

int virgl_renderer_resource_get_info(int handle, struct virgl_renderer_resource_info *info)
{
	*info = (struct virgl_renderer_resource_info) { .fd = -1 };
	return *find_blob(handle) ? 0 : -EINVAL;
}

int virgl_renderer_resource_get_info_ext(int handle, struct virgl_renderer_resource_info_ext *info)
{
	return virgl_renderer_resource_get_info(handle, &info->base);
}

int virgl_renderer_init(void *opaque, int flags, struct virgl_renderer_callbacks *cbs)
{
	cookie = opaque;
	callbacks = cbs;
	return 0;
}

void virgl_renderer_reset(void)
{
	while (blobs)
		virgl_renderer_resource_unref(blobs->handle);
}

void virgl_renderer_cleanup(void *opaque)
{
	virgl_renderer_reset();
}

/* All is done when it is asked for, but QEMU expects to hear of that later. */
int virgl_renderer_create_fence(int fence, uint32_t context)
{
	last_fence = fence;
	return 0;
}

void virgl_renderer_poll(void)
{
	callbacks->write_fence(cookie, last_fence);
}

int virgl_renderer_context_create_fence(uint32_t context, uint32_t flags, uint32_t ring,
					uint64_t fence)
{
	return -EINVAL;
}

/* A guest's driver wants to see something. */
void virgl_renderer_get_cap_set(uint32_t set, uint32_t *version, uint32_t *size)
{
	*version = set == VIRTIO_GPU_CAPSET_VIRGL;
	*size = *version * sizeof(uint32_t);
}

void virgl_renderer_fill_caps(uint32_t set, uint32_t version, void *caps)
{
}

void virgl_renderer_force_ctx_0(void)
{
}

void *virgl_renderer_get_cursor_data(uint32_t handle, uint32_t *width, uint32_t *height)
{
	return NULL;
}

int virgl_renderer_context_create(uint32_t context, uint32_t length, const char *name)
{
	return 0;
}

int virgl_renderer_context_create_with_flags(uint32_t context, uint32_t flags, uint32_t length,
					     const char *name)
{
	return virgl_renderer_context_create(context, length, name);
}

void virgl_renderer_context_destroy(uint32_t context)
{
}

int virgl_renderer_submit_cmd(void *buffer, int context, int words)
{
	return -EINVAL;
}

int virgl_renderer_resource_create(struct virgl_renderer_resource_create_args *args,
				   struct iovec *iov, uint32_t iovs)
{
	return -EINVAL;
}

int virgl_renderer_resource_attach_iov(int handle, struct iovec *iov, int iovs)
{
	return -EINVAL;
}

void virgl_renderer_resource_detach_iov(int handle, struct iovec **iov, int *iovs)
{
	*iov = NULL;
	*iovs = 0;
}

void virgl_renderer_ctx_attach_resource(int context, int handle)
{
}

void virgl_renderer_ctx_detach_resource(int context, int handle)
{
}

int virgl_renderer_transfer_write_iov(uint32_t handle, uint32_t context, int level, uint32_t stride,
				      uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
				      struct iovec *iov, unsigned int iovs)
{
	return -EINVAL;
}

int virgl_renderer_transfer_read_iov(uint32_t handle, uint32_t context, uint32_t level,
				     uint32_t stride, uint32_t layer_stride, struct virgl_box *box,
				     uint64_t offset, struct iovec *iov, int iovs)
{
	return virgl_renderer_transfer_write_iov(handle, context, level, stride, layer_stride, box,
						 offset, iov, iovs);
}
