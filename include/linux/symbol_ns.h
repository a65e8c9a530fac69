/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_SYMBOL_NS_H
#define _LINUX_SYMBOL_NS_H
/*
 * The name of a symbol namespace, for EXPORT_SYMBOL_NS_GPL() and MODULE_IMPORT_NS(). It is a
 * string, and was a bare word in kernels that do not have EXPORT_SYMBOL_FOR_MODULES() yet.
 */
#include <linux/export.h>

#ifdef EXPORT_SYMBOL_FOR_MODULES
#define SYMBOL_NS(name)	#name
#else
#define SYMBOL_NS(name)	name
#endif

#endif
