/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A renderer that draws nothing, for QEMU's virtio-gpu-gl: a blob is memory that the host maps as
 * the guest's program says.
 *
 * Shared with selftests, and in no way stable.
 */
#ifndef MEMTYPE_RENDERER_H
#define MEMTYPE_RENDERER_H

/* What a blob of this id is. The first three are also MEMTYPE_TEST_*, the type of the mapping. */
enum renderer_blob {
	RENDERER_WB,
	RENDERER_WC,
	RENDERER_UC,
	RENDERER_NOTHING,	/* nobody may access it */
	RENDERER_NO_MEMORY,	/* the driver finds none for it */
	RENDERER_BLOBS
};

#endif /* MEMTYPE_RENDERER_H */
