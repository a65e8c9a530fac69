// SPDX-License-Identifier: GPL-2.0-only
/*
 * What QEMU uses of libepoxy and libgbm, for a renderer that draws nothing: every function works,
 * and does nothing. Those of GL and EGL have their names in gl_names.S.
 */
#include <stdbool.h>
#include <stddef.h>

#include "gbm.h"

/* True, or an object. */
long nothing(void)
{
	return 1;
}

/* Of a shader or a program */
void get_status(unsigned int object, unsigned int what, int *status)
{
	*status = true;
}

unsigned int choose_config(void *display, const int *wanted, void **configs, int size, int *number)
{
	*number = 1;
	return true;
}

bool epoxy_has_egl_extension(void *display, const char *name)
{
	return true;
}

bool epoxy_has_gl_extension(const char *name)
{
	return true;
}

bool epoxy_is_desktop_gl(void)
{
	return true;
}

struct gbm_device *gbm_create_device(int fd)
{
	static char device;

	return (struct gbm_device *)&device;
}

void gbm_device_destroy(struct gbm_device *device)
{
}
