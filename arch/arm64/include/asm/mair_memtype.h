/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory types as MAIR_EL1 encodes them. */
#ifndef __ASM_MAIR_MEMTYPE_H
#define __ASM_MAIR_MEMTYPE_H

#include <linux/memtype.h>
#include <linux/types.h>

enum memtype_kind mair_memtype(u8 attr);
enum memtype_kind mair_index_memtype(unsigned int index);

#endif /* __ASM_MAIR_MEMTYPE_H */
