/* SPDX-License-Identifier: GPL-2.0-only */
/* What QEMU uses of libgbm */
#ifndef RENDERER_GBM_H
#define RENDERER_GBM_H

struct gbm_device;

struct gbm_device *gbm_create_device(int fd);
void gbm_device_destroy(struct gbm_device *device);

#endif /* RENDERER_GBM_H */
