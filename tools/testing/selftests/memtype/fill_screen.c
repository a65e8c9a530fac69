// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fills the screen of the first graphics card with one colour, through a buffer
 * that its driver maps for the CPU as it likes, and keeps it until a line comes:
 *
 *	fill_screen RRGGBB
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>

#define CARD		"/dev/dri/card0"
#define MAX_MODES	64

static int card;

static void call(unsigned long request, void *argument, const char *what)
{
	if (ioctl(card, request, argument))
		err(1, "%s", what);
}

#define CALL(request, argument) call(request, argument, #request)

/* The first connector, of its modes the first, which it prefers, and the first CRTC. */
static void find_screen(uint32_t *crtc, uint32_t *connector, struct drm_mode_modeinfo *mode)
{
	static struct drm_mode_modeinfo modes[MAX_MODES];
	struct drm_mode_card_res resources = {};
	struct drm_mode_get_connector state = {};

	CALL(DRM_IOCTL_MODE_GETRESOURCES, &resources);
	if (resources.count_crtcs < 1 || resources.count_connectors < 1)
		errx(1, "%s has no screen", CARD);
	resources = (struct drm_mode_card_res) {
		.crtc_id_ptr = (uintptr_t)crtc, .count_crtcs = 1,
		.connector_id_ptr = (uintptr_t)connector, .count_connectors = 1,
	};
	CALL(DRM_IOCTL_MODE_GETRESOURCES, &resources);

	/* Asked with no room for modes, the driver looks for them; it copies them if all fit. */
	state.connector_id = *connector;
	CALL(DRM_IOCTL_MODE_GETCONNECTOR, &state);
	if (state.count_modes < 1 || state.count_modes > MAX_MODES)
		errx(1, "the screen has %u modes", state.count_modes);
	state = (struct drm_mode_get_connector) {
		.connector_id = *connector,
		.modes_ptr = (uintptr_t)modes, .count_modes = state.count_modes,
	};
	CALL(DRM_IOCTL_MODE_GETCONNECTOR, &state);
	*mode = modes[0];
}

int main(int argc, char **argv)
{
	struct drm_mode_create_dumb buffer = { .bpp = 32 };
	struct drm_mode_crtc set = { .mode_valid = 1 };
	struct drm_mode_map_dumb map = {};
	struct drm_mode_fb_dirty_cmd dirty = {};
	struct drm_mode_fb_cmd2 fb = { .pixel_format = DRM_FORMAT_XRGB8888 };
	struct drm_version version = {};
	char driver[32] = "";
	uint32_t connector, *pixels, colour;

	if (argc != 2)
		errx(2, "usage: fill_screen RRGGBB");
	colour = strtoul(argv[1], NULL, 16);
	card = open(CARD, O_RDWR);
	if (card < 0)
		err(1, CARD);
	version.name = driver;
	version.name_len = sizeof(driver) - 1;
	CALL(DRM_IOCTL_VERSION, &version);

	find_screen(&set.crtc_id, &connector, &set.mode);
	buffer.width = set.mode.hdisplay;
	buffer.height = set.mode.vdisplay;
	CALL(DRM_IOCTL_MODE_CREATE_DUMB, &buffer);
	map.handle = buffer.handle;
	CALL(DRM_IOCTL_MODE_MAP_DUMB, &map);
	pixels = mmap(NULL, buffer.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, map.offset);
	if (pixels == MAP_FAILED)
		err(1, "the buffer");

	fb.width = buffer.width;
	fb.height = buffer.height;
	fb.handles[0] = buffer.handle;
	fb.pitches[0] = buffer.pitch;
	CALL(DRM_IOCTL_MODE_ADDFB2, &fb);
	set.fb_id = fb.fb_id;
	set.set_connectors_ptr = (uintptr_t)&connector;
	set.count_connectors = 1;
	CALL(DRM_IOCTL_MODE_SETCRTC, &set);
	/* Now that it is where the device wants it. */
	for (size_t i = 0; i < buffer.size / sizeof(*pixels); i++)
		pixels[i] = colour;
	/* A device that has a copy of its own must be told; others cannot. */
	dirty.fb_id = fb.fb_id;
	ioctl(card, DRM_IOCTL_MODE_DIRTYFB, &dirty);

	printf("%ux%u by %s\n", buffer.width, buffer.height, driver);
	/* The picture goes with the file. */
	getchar();
	return 0;
}
