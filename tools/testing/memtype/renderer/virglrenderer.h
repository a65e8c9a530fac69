/* SPDX-License-Identifier: GPL-2.0-only */
/* What QEMU uses of virglrenderer 1.0. Structures have those members that QEMU names. */
#ifndef RENDERER_VIRGLRENDERER_H
#define RENDERER_VIRGLRENDERER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VIRGL_RENDERER_CALLBACKS_VERSION	4
#define VIRGL_RENDERER_VENUS			0x40
#define VIRGL_RENDERER_RENDER_SERVER		0x200
#define VIRGL_RENDERER_FENCE_FLAG_MERGEABLE	0x1

struct virgl_box;

#define virgl_renderer_gl_context		void *

struct virgl_renderer_gl_ctx_param {
	int major_ver, minor_ver;
};

struct virgl_renderer_callbacks {
	int version;
	void (*write_fence)(void *cookie, uint32_t fence);
	void *(*create_gl_context)(void *cookie, int scanout,
				   struct virgl_renderer_gl_ctx_param *param);
	void (*destroy_gl_context)(void *cookie, void *context);
	int (*make_current)(void *cookie, int scanout, void *context);
	void (*write_context_fence)(void *cookie, uint32_t context, uint32_t ring, uint64_t fence);
	void *(*get_egl_display)(void *cookie);
};

struct virgl_renderer_resource_create_args {
	uint32_t handle, target, format, bind, width, height, depth, array_size, last_level;
	uint32_t nr_samples, flags;
};

struct virgl_renderer_resource_create_blob_args {
	uint32_t res_handle, ctx_id, blob_mem, blob_flags;
	uint64_t blob_id, size;
	const struct iovec *iovecs;
	uint32_t num_iovs;
};

struct virgl_renderer_resource_info {
	uint32_t width, height, flags, tex_id;
	int fd;
};

struct virgl_renderer_resource_info_ext {
	struct virgl_renderer_resource_info base;
	void *d3d_tex2d;
};

int virgl_renderer_init(void *cookie, int flags, struct virgl_renderer_callbacks *callbacks);
void virgl_renderer_cleanup(void *cookie);
void virgl_renderer_reset(void);
void virgl_renderer_poll(void);
void virgl_renderer_force_ctx_0(void);
void virgl_renderer_get_cap_set(uint32_t set, uint32_t *version, uint32_t *size);
void virgl_renderer_fill_caps(uint32_t set, uint32_t version, void *caps);
void *virgl_renderer_get_cursor_data(uint32_t handle, uint32_t *width, uint32_t *height);

int virgl_renderer_context_create(uint32_t context, uint32_t length, const char *name);
int virgl_renderer_context_create_with_flags(uint32_t context, uint32_t flags, uint32_t length,
					     const char *name);
void virgl_renderer_context_destroy(uint32_t context);
int virgl_renderer_submit_cmd(void *buffer, int context, int words);
int virgl_renderer_create_fence(int fence, uint32_t context);
int virgl_renderer_context_create_fence(uint32_t context, uint32_t flags, uint32_t ring,
					uint64_t fence);

int virgl_renderer_resource_create(struct virgl_renderer_resource_create_args *args,
				   struct iovec *iov, uint32_t iovs);
int
virgl_renderer_resource_create_blob(const struct virgl_renderer_resource_create_blob_args *args);
void virgl_renderer_resource_unref(uint32_t handle);
int virgl_renderer_resource_map(uint32_t handle, void **map, uint64_t *size);
int virgl_renderer_resource_unmap(uint32_t handle);
int virgl_renderer_resource_get_map_info(uint32_t handle, uint32_t *info);
int virgl_renderer_resource_get_info(int handle, struct virgl_renderer_resource_info *info);
int virgl_renderer_resource_get_info_ext(int handle, struct virgl_renderer_resource_info_ext *info);
int virgl_renderer_resource_attach_iov(int handle, struct iovec *iov, int iovs);
void virgl_renderer_resource_detach_iov(int handle, struct iovec **iov, int *iovs);
void virgl_renderer_ctx_attach_resource(int context, int handle);
void virgl_renderer_ctx_detach_resource(int context, int handle);
int virgl_renderer_transfer_write_iov(uint32_t handle, uint32_t context, int level, uint32_t stride,
				      uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
				      struct iovec *iov, unsigned int iovs);
int virgl_renderer_transfer_read_iov(uint32_t handle, uint32_t context, uint32_t level,
				     uint32_t stride, uint32_t layer_stride, struct virgl_box *box,
				     uint64_t offset, struct iovec *iov, int iovs);

#endif /* RENDERER_VIRGLRENDERER_H */
