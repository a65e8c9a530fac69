/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the speed of accesses says about the memory type that the CPU uses. Only speeds that
 * were measured in the same run are compared with each other, never with a number from
 * elsewhere. Nothing here accesses memory or asks KVM.
 */
#ifndef SELFTEST_KVM_MEMTYPE_SPEED_H
#define SELFTEST_KVM_MEMTYPE_SPEED_H

#include <linux/kvm_memtype.h>
#include <stdbool.h>
#include <stdint.h>

/* What the guest asks for */
enum speed_kind { SPEED_WB, SPEED_WC, SPEED_UC, SPEED_KINDS };

/* In any unit, as long as it is the same for all: medians of many rounds. */
struct speeds {
	/* of the host's own memory: loads of lines that are in a cache, and that are in none */
	double cached, flushed;
	/* of the guest, by what it asks for */
	double loads[SPEED_KINDS], stores[SPEED_KINDS];
	/* CPUs of this architecture combine stores to WC: all of x86, not all of arm64 */
	bool combines;
};

/*
 * A load that misses all caches takes twenty times as long as one that hits the first, or
 * more. Where it does not take even four times as long, nothing can be told.
 */
#define SPEED_CACHES	4.0
/*
 * Cached and uncached are what is above and below the geometric mean of the two references.
 * Between these factors of it, it is neither.
 */
#define SPEED_MIDDLE	1.25
/*
 * A line that is written as a whole needs one transaction, and eight if nothing is combined.
 * Of two kinds of stores, one combines if it is so many times as fast, and neither or both
 * do if it is less than ...
 */
#define SPEED_COMBINES	3.0
/* ... that. */
#define SPEED_SAME	1.5

/* Whether there is a difference that tells cached from uncached. */
static inline bool speed_has_caches(const struct speeds *speeds)
{
	return speeds->cached >= SPEED_CACHES * speeds->flushed;
}

enum caching { SPEED_CACHED, SPEED_UNCACHED, SPEED_BETWEEN };

static inline enum caching speed_caching(const struct speeds *speeds, enum speed_kind kind)
{
	double square = speeds->loads[kind] * speeds->loads[kind];
	double middle = speeds->cached * speeds->flushed;

	if (square > middle * SPEED_MIDDLE * SPEED_MIDDLE)
		return SPEED_CACHED;
	if (square * SPEED_MIDDLE * SPEED_MIDDLE < middle)
		return SPEED_UNCACHED;
	return SPEED_BETWEEN;
}

/* What stores of WC and of UC tell, where both are uncached */
enum combining { SPEED_NEITHER, SPEED_WC_COMBINES, SPEED_UC_COMBINES, SPEED_PERHAPS };

static inline enum combining speed_combining(const struct speeds *speeds)
{
	double wc = speeds->stores[SPEED_WC], uc = speeds->stores[SPEED_UC];

	if (wc >= SPEED_COMBINES * uc)
		return SPEED_WC_COMBINES;
	if (uc >= SPEED_COMBINES * wc)
		return SPEED_UC_COMBINES;
	return wc < SPEED_SAME * uc && uc < SPEED_SAME * wc ? SPEED_NEITHER : SPEED_PERHAPS;
}

/* Whether loads of memory of this type hit caches, and whether stores to it are combined. */
static inline bool speed_type_caches(uint8_t type)
{
	return type == KVM_MEMTYPE_WB || type == KVM_MEMTYPE_WT || type == KVM_MEMTYPE_WP;
}

static inline bool speed_type_combines(uint8_t type)
{
	return type == KVM_MEMTYPE_WC || type == KVM_MEMTYPE_GRE;
}

/* Whether stores of both uncached kinds can be compared with each other. */
static inline bool speed_both_uncached(const struct speeds *speeds)
{
	return speed_caching(speeds, SPEED_WC) == SPEED_UNCACHED &&
	       speed_caching(speeds, SPEED_UC) == SPEED_UNCACHED;
}

/* The type by its speed, as one prints it */
static inline const char *speed_name(const struct speeds *speeds, enum speed_kind kind)
{
	enum combining combining;

	switch (speed_caching(speeds, kind)) {
	case SPEED_CACHED:
		return "cached";
	case SPEED_BETWEEN:
		return "unclear";
	case SPEED_UNCACHED:
		break;
	}
	if (kind == SPEED_WB || !speed_both_uncached(speeds))
		return "uncached";
	combining = speed_combining(speeds);
	if (combining == SPEED_PERHAPS || combining == SPEED_NEITHER)
		return "uncached";
	return (combining == SPEED_WC_COMBINES) == (kind == SPEED_WC) ?
		"write-combining" : "uncached, not combining";
}

enum speed_verdict { SPEED_FITS, SPEED_DIFFERS, SPEED_UNCLEAR };

/* Whether the speed of @kind is that of the type which KVM says; @types has that of each kind. */
static inline enum speed_verdict speed_verdict(const struct speeds *speeds,
					       const uint8_t types[SPEED_KINDS],
					       enum speed_kind kind)
{
	bool wc = speed_type_combines(types[SPEED_WC]), uc = speed_type_combines(types[SPEED_UC]);
	enum caching caching = speed_caching(speeds, kind);
	bool cached;

	if (!speed_has_caches(speeds) || caching == SPEED_BETWEEN)
		return SPEED_UNCLEAR;
	cached = caching == SPEED_CACHED;
	if (cached != speed_type_caches(types[kind]))
		return SPEED_DIFFERS;
	/* Stores tell more only if there are others to compare them with. */
	if (kind == SPEED_WB || cached || !speed_both_uncached(speeds))
		return SPEED_FITS;
	switch (speed_combining(speeds)) {
	case SPEED_PERHAPS:
		return SPEED_UNCLEAR;
	case SPEED_WC_COMBINES:
		return wc && !uc ? SPEED_FITS : SPEED_DIFFERS;
	case SPEED_UC_COMBINES:
		return uc && !wc ? SPEED_FITS : SPEED_DIFFERS;
	case SPEED_NEITHER:
		break;
	}
	if (wc == uc)
		return SPEED_FITS;
	return speeds->combines ? SPEED_DIFFERS : SPEED_UNCLEAR;
}

#endif /* SELFTEST_KVM_MEMTYPE_SPEED_H */
