// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm-memtype - print which memory types the guests of a process get, and why.
 *
 * It shows what KVM says in <debugfs>/kvm/<pid>-<fd>/memtype, or in a copy of
 * such a file, and explains each row from nothing but what is written there.
 * Documentation/virt/kvm/memtype.rst says what the words mean.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/types.h>

/* Tests give another one. */
#ifndef DEBUGFS
#define DEBUGFS "/sys/kernel/debug"
#endif

#define VMS DEBUGFS "/kvm"

/* Of the output of --json: a field more does not change it, any other change does. */
#define JSON_VERSION	1
#define VERSION		"1.0"

/* Exit statuses, beside 0; kvm-memtype.rst says when. */
enum { FAILED = 1, USAGE = 2, NO_VM = 3, UNSUPPORTED = 4 };

#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))

/* A string for good: the program prints and exits. */
#define text(...)						\
({								\
	char *string;						\
								\
	if (asprintf(&string, __VA_ARGS__) < 0)			\
		errx(FAILED, "out of memory");			\
	string;							\
})

/* The words of the file. */
static const char * const columns[] = {
	"as", "start", "end", "slot", "host", "intent", "effective", "source", "attributes",
	"refusal", "mapped",
};

static const char * const policies[] = { "honor", "legacy", "stage1", NULL };
static const char * const answers[] = { "no", "yes", NULL };

enum { NONE, WB, WT, WP, WC, UC_MINUS, UC, GRE, NGRE, NGNRNE };
static const char * const types[] = {
	"none", "WB", "WT", "WP", "WC", "UC-", "UC", "GRE", "nGRE", "nGnRnE", NULL
};

enum { SOURCE_NONE, SOURCE_RAM, SOURCE_MMIO, SOURCE_POLICY, SOURCE_CPU, SOURCE_PTE, SOURCE_SLOT };
static const char * const sources[] = {
	"none", "RAM", "MMIO", "policy", "CPU", "PTE", "slot", NULL
};

enum { REFUSAL_NONE, REFUSAL_UNMAPPED, REFUSAL_CACHEABLE, REFUSAL_MTE, REFUSAL_HYPERVISOR };
static const char * const refusals[] = {
	"none", "unmapped", "cacheable", "MTE", "hypervisor", NULL
};

/* Bit n is attributes[n]. */
enum { FORCED = 1 << 0, ANY_UNCACHED = 1 << 1, NOEXEC = 1 << 2, PREDICTED = 1 << 3 };
static const char * const attributes[] = { "forced", "any-uncached", "noexec", "predicted", NULL };

#define UNKNOWN (~0ULL)

struct range {
	__u64 as, start, end, slot;
	int host, intent, source, refusal;
	unsigned int effective;		/* bit n is types[n] */
	unsigned int attributes;
	__u64 mapped;			/* bytes, or UNKNOWN */
};

struct vm {
	const char *name;
	int policy;
	bool noncoherent_dma;
	struct range *ranges;
	size_t nr_ranges;
};

/* What is being read, for messages. */
struct input {
	const char *path;
	unsigned int line;
};

static void *check_memory(void *memory)
{
	if (!memory)
		errx(FAILED, "out of memory");
	return memory;
}

/* Reading */

static int parse_word(const struct input *in, const char *what, const char *word,
		      const char * const *words)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(word, words[i]))
			return i;
	errx(FAILED, "%s: line %u: unknown %s '%s'", in->path, in->line, what, word);
}

static __u64 parse_number(const struct input *in, const char *what, const char *word)
{
	char *end;
	__u64 number;

	errno = 0;
	number = strtoull(word, &end, 0);
	if (errno || *end || !isdigit((unsigned char)*word))
		errx(FAILED, "%s: line %u: %s '%s' is not a number", in->path, in->line, what,
		     word);
	return number;
}

static __u64 parse_mapped(const struct input *in, const char *word)
{
	__u64 kib;

	if (!strcmp(word, "-"))
		return UNKNOWN;
	kib = parse_number(in, "mapped", word);
	if (kib >= UNKNOWN / 1024)
		errx(FAILED, "%s: line %u: mapped '%s' is too large", in->path, in->line, word);
	return kib * 1024;
}

/* Of words with commas between them; bit n of the result is words[n]. */
static unsigned int parse_list(const struct input *in, const char *what, char *list,
			       const char * const *words)
{
	unsigned int bit, bits = 0;
	const char *word;

	while ((word = strsep(&list, ","))) {
		bit = 1 << parse_word(in, what, word, words);
		if (bits & bit)
			errx(FAILED, "%s: line %u: %s '%s' twice", in->path, in->line, what, word);
		bits |= bit;
	}
	return bits;
}

/* A range has all of a type, or a refusal and nothing of one. */
static bool is_consistent(const struct range *range)
{
	const unsigned int none = 1 << NONE;

	if (range->refusal == REFUSAL_NONE)
		return range->host != NONE && range->intent != NONE &&
		       range->source != SOURCE_NONE && !(range->effective & none);
	return range->host == NONE && range->intent == NONE &&
	       range->source == SOURCE_NONE && range->effective == none;
}

/* Cuts a line into exactly @wanted words. */
static void split(const struct input *in, char *line, char **words, size_t wanted)
{
	char *rest, *word;
	size_t nr = 0;

	for (word = strtok_r(line, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
		if (nr < wanted)
			words[nr] = word;
		nr++;
	}
	if (nr != wanted)
		errx(FAILED, "%s: line %u: %zu words instead of %zu", in->path, in->line, nr,
		     wanted);
}

static void parse_range(const struct input *in, char *line, struct range *range)
{
	char *words[ARRAY_SIZE(columns)];

	split(in, line, words, ARRAY_SIZE(words));
	memset(range, 0, sizeof(*range));
	range->as = parse_number(in, columns[0], words[0]);
	range->start = parse_number(in, columns[1], words[1]);
	range->end = parse_number(in, columns[2], words[2]);
	range->slot = parse_number(in, columns[3], words[3]);
	range->host = parse_word(in, columns[4], words[4], types);
	range->intent = parse_word(in, columns[5], words[5], types);
	range->effective = parse_list(in, columns[6], words[6], types);
	range->source = parse_word(in, columns[7], words[7], sources);
	if (strcmp(words[8], "-"))
		range->attributes = parse_list(in, "attribute", words[8], attributes);
	range->refusal = parse_word(in, columns[9], words[9], refusals);
	range->mapped = parse_mapped(in, words[10]);

	if (range->start >= range->end)
		errx(FAILED, "%s: line %u: the range is empty", in->path, in->line);
	if (!is_consistent(range))
		errx(FAILED, "%s: line %u: type and refusal do not agree", in->path, in->line);
}

/* The value of a line that must be "@name <one of words>". */
static int parse_setting(const struct input *in, char *line, const char *name,
			 const char * const *values)
{
	char *words[2];

	split(in, line, words, ARRAY_SIZE(words));
	if (strcmp(words[0], name))
		errx(FAILED, "%s: line %u: '%s' instead of '%s'", in->path, in->line, words[0],
		     name);
	return parse_word(in, name, words[1], values);
}

static void parse_header(const struct input *in, char *line)
{
	char *words[ARRAY_SIZE(columns)];

	split(in, line, words, ARRAY_SIZE(words));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i], columns[i]))
			errx(FAILED, "%s: line %u: column '%s' instead of '%s'", in->path, in->line,
			     words[i], columns[i]);
}

static void read_vm(const char *path, struct vm *vm)
{
	struct input in = { .path = path };
	char *line = NULL;
	size_t size = 0;
	FILE *file = fopen(path, "r");

	if (!file)
		err(FAILED, "%s", path);
	while (getline(&line, &size, file) >= 0) {
		switch (++in.line) {
		case 1:
			vm->policy = parse_setting(&in, line, "policy", policies);
			break;
		case 2:
			vm->noncoherent_dma = parse_setting(&in, line, "noncoherent-dma", answers);
			break;
		case 3:
			parse_header(&in, line);
			break;
		default:
			vm->ranges = check_memory(reallocarray(vm->ranges, vm->nr_ranges + 1,
							       sizeof(*vm->ranges)));
			parse_range(&in, line, &vm->ranges[vm->nr_ranges++]);
		}
	}
	if (!feof(file))
		err(FAILED, "%s", path);
	if (in.line < 3)
		errx(FAILED, "%s: it ends after line %u, before the table", path, in.line);
	free(line);
	fclose(file);
}

/* KVM names a VM after the thread that created it, which any of @pid's may be. */
static bool is_vm_of(const char *name, const char *pid)
{
	unsigned int thread, fd;
	char more;

	if (sscanf(name, "%u-%u%c", &thread, &fd, &more) != 2)
		return false;
	if (thread == strtoul(pid, NULL, 10))
		return true;
	return !access(text("/proc/%s/task/%u", pid, thread), F_OK);
}

static struct vm *read_process(const char *pid, size_t *nr_vms)
{
	struct dirent **entries;
	bool without_table = false;
	struct vm *vms = NULL;
	int nr;

	nr = scandir(VMS, &entries, NULL, versionsort);
	if (nr < 0 && errno == ENOENT)
		errx(UNSUPPORTED,
		     VMS " is not there: is debugfs mounted, and does this kernel have KVM?");
	if (nr < 0)
		err(FAILED, VMS);

	*nr_vms = 0;
	for (int i = 0; i < nr; i++) {
		const char *name = entries[i]->d_name, *path;

		if (!is_vm_of(name, pid))
			continue;
		path = text(VMS "/%s/memtype", name);
		if (access(path, F_OK) && errno == ENOENT) {
			warnx("%s is missing: did the VM end, is it protected, or is %s off?",
			      path, "CONFIG_KVM_MEMTYPE");
			without_table = true;
			continue;
		}
		vms = check_memory(reallocarray(vms, *nr_vms + 1, sizeof(*vms)));
		vms[*nr_vms] = (struct vm) { .name = name };
		read_vm(path, &vms[(*nr_vms)++]);
	}
	if (!*nr_vms && without_table)
		exit(UNSUPPORTED);
	if (!*nr_vms)
		errx(NO_VM, "process %s has no VM (" VMS " has none of it)", pid);
	return vms;
}

/* Explaining */

static bool is_one_type(unsigned int bits)
{
	return !(bits & (bits - 1));
}

/* Whatever the guest chooses, it gets one of these. */
static const char *guest_may(const struct range *range)
{
	const char *list = "";

	if (range->refusal != REFUSAL_NONE)
		return "no access";
	for (int i = 0; types[i]; i++) {
		if (!(range->effective & 1 << i))
			continue;
		if (*list)
			list = text("%s%s", list, range->effective >> (i + 1) ? ", " : " or ");
		list = text("%s%s", list, types[i]);
	}
	return is_one_type(range->effective) ? text("%s only", list) : list;
}

static const char * const why_refused[] = {
	[REFUSAL_UNMAPPED] =
		"refused: the host gives KVM no page here (nothing mapped, no permission, or no reference allowed)",
	[REFUSAL_CACHEABLE] =
		"refused: the host maps it cacheable, but it is not memory (arm64: without FWB and DIC, or policy stage1)",
	[REFUSAL_MTE] =
		"refused: the VM has MTE, but this mapping cannot hold tags (it lacks VM_MTE_ALLOWED)",
	[REFUSAL_HYPERVISOR] =
		"refused: pKVM's hypervisor maps only memory that the host caches (arm64)",
};

static const char *why_granted(const struct range *range)
{
	const char *host = types[range->host];

	switch (range->source) {
	case SOURCE_RAM:
		return "memory: the guest's own page tables decide, and UC there is slow";
	case SOURCE_MMIO:
		return text("device memory, which the host maps %s%s", host,
			    range->attributes & ANY_UNCACHED ? " and whose driver allows WC" : "");
	case SOURCE_POLICY:
		return "the VM's policy is legacy";
	case SOURCE_CPU:
		return "this CPU lets no guest choose (shadow paging, no self-snoop, or arm64 FWB)";
	case SOURCE_PTE:
		return text("memory, but the host itself maps it %s", host);
	default:
		return "the VMM gave this slot KVM_MEM_FORCE_WB";
	}
}

/* Where the CPU, and how KVM uses it, make something else of the intent. */
static const char *why_not_intent(const struct range *range)
{
	if (range->attributes & FORCED)
		return "";
	if (is_one_type(range->effective))
		return "; the guest's choice does not count (shadow paging)";
	if (range->intent != WB && (range->effective & 1 << WB))
		return "; this CPU leaves the choice to the guest";
	return "";
}

static const char *why(const struct range *range)
{
	if (range->refusal != REFUSAL_NONE)
		return why_refused[range->refusal];
	return text("%s%s%s%s%s", (range->attributes & FORCED) ? "forced: " : "",
		    why_granted(range), why_not_intent(range),
		    (range->attributes & NOEXEC) ? "; no instruction fetch" : "",
		    (range->attributes & PREDICTED) ? "; predicted, nothing is mapped yet" : "");
}

/* Printing */

static const char *human(__u64 bytes)
{
	static const char units[] = "BKMGTPE";
	unsigned int unit = 0;

	if (bytes == UNKNOWN)
		return "-";
	while (unit + 2 < sizeof(units) && bytes >> (10 * (unit + 1)))
		unit++;
	if (bytes & ((1ULL << (10 * unit)) - 1))
		return text("%.1f%c", (double)bytes / (1ULL << (10 * unit)), units[unit]);
	return unit ? text("%llu%c", bytes >> (10 * unit), units[unit]) :
		      text("%llu", bytes);
}

enum { AS, ADDRESS, SIZE, SLOT, HOST, INTENT, GUEST_MAY, MAPPED, WHY, NR_CELLS };

struct row {
	const char *cells[NR_CELLS];
};

static const struct row titles = { {
	"AS", "ADDRESS", "SIZE", "SLOT", "HOST", "INTENT", "GUEST MAY", "MAPPED", "WHY",
} };

static struct row make_row(const struct range *range)
{
	return (struct row) { {
		[AS] = text("%llu", range->as),
		[ADDRESS] = text("0x%09llx-0x%09llx", range->start, range->end),
		[SIZE] = human(range->end - range->start),
		[SLOT] = text("%llu", range->slot),
		[HOST] = types[range->host],
		[INTENT] = types[range->intent],
		[GUEST_MAY] = guest_may(range),
		[MAPPED] = human(range->mapped),
		[WHY] = why(range),
	} };
}

static void print_row(const struct row *row, const int *widths, bool has_as)
{
	for (int i = has_as ? AS : AS + 1; i < WHY; i++) {
		bool number = i == AS || i == SIZE || i == SLOT || i == MAPPED;

		printf("%*s  ", number ? widths[i] : -widths[i], row->cells[i]);
	}
	puts(row->cells[WHY]);
}

static const char *heading(const struct vm *vm)
{
	return text("VM %s: policy %s, %s", vm->name, policies[vm->policy],
		    vm->noncoherent_dma ? "with non-coherent DMA" : "no non-coherent DMA");
}

static void print_table(const struct vm *vm)
{
	struct row *rows = check_memory(calloc(vm->nr_ranges + 1, sizeof(*rows)));
	int widths[NR_CELLS] = {};
	bool has_as = false;

	puts(heading(vm));
	if (!vm->nr_ranges) {
		puts("no memory slots");
		return;
	}

	rows[0] = titles;
	for (size_t i = 0; i < vm->nr_ranges; i++) {
		rows[i + 1] = make_row(&vm->ranges[i]);
		has_as |= vm->ranges[i].as != 0;
	}
	for (size_t i = 0; i <= vm->nr_ranges; i++) {
		for (int j = 0; j < NR_CELLS; j++) {
			int width = strlen(rows[i].cells[j]);

			widths[j] = width > widths[j] ? width : widths[j];
		}
	}
	for (size_t i = 0; i <= vm->nr_ranges; i++)
		print_row(&rows[i], widths, has_as);
}

static void print_tables(const struct vm *vms, size_t nr_vms)
{
	for (size_t i = 0; i < nr_vms; i++) {
		if (i)
			putchar('\n');
		print_table(&vms[i]);
	}
}

#include "kvm-memtype-formats.h"

static int print_usage(FILE *to, int status)
{
	fputs("usage: kvm-memtype [--json | --svg] [--watch[=SECONDS]] PID|FILE\n"
	      "Prints which memory types the VMs of the process PID get, and why.\n"
	      "FILE is a copy of a VM's file \"memtype\" in " VMS ".\n"
	      "\n"
	      "  --json             for scripts\n"
	      "  --svg              a picture of the address space\n"
	      "  --watch[=SECONDS]  print it again each second, or so many, until the VM is gone\n"
	      "  --help, --version\n", to);
	return status;
}

static int show(const char *what, void (*print)(const struct vm *vms, size_t nr_vms))
{
	struct vm vm = { .name = what }, *vms = &vm;
	size_t nr_vms = 1;

	if (what[strspn(what, "0123456789")])
		read_vm(what, &vm);
	else
		vms = read_process(what, &nr_vms);
	print(vms, nr_vms);
	if (fflush(stdout) || ferror(stdout))
		err(FAILED, "cannot write");
	return 0;
}

/* Each time in a process of its own, with which all that it allocates goes. */
static int watch(const char *what, void (*print)(const struct vm *vms, size_t nr_vms),
		 unsigned int seconds)
{
	int status;
	pid_t pid;

	for (;; sleep(seconds)) {
		if (isatty(STDOUT_FILENO))
			fputs("\033[H\033[J", stdout);
		fflush(stdout);
		pid = fork();
		if (!pid)
			exit(show(what, print));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			err(FAILED, "fork");
		if (!WIFEXITED(status))
			return FAILED;
		if (WEXITSTATUS(status))
			return WEXITSTATUS(status);
	}
}

int main(int argc, char **argv)
{
	enum { JSON, SVG, WATCH, HELP, SAY_VERSION };
	static const struct option options[] = {
		{ .name = "json", .val = JSON },
		{ .name = "svg", .val = SVG },
		{ .name = "watch", .has_arg = optional_argument, .val = WATCH },
		{ .name = "help", .val = HELP },
		{ .name = "version", .val = SAY_VERSION },
		{},
	};
	void (*print)(const struct vm *vms, size_t nr_vms) = print_tables;
	unsigned long seconds = 0;
	int option;
	char *end;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case JSON:
		case SVG:
			if (print != print_tables)
				return print_usage(stderr, USAGE);
			print = option == JSON ? print_json : print_svg;
			break;
		case WATCH:
			seconds = strtoul(optarg ?: "1", &end, 10);
			if (*end || !seconds || seconds > 86400)
				errx(USAGE, "--watch=%s: from 1 to 86400 seconds", optarg);
			break;
		case HELP:
			return print_usage(stdout, 0);
		case SAY_VERSION:
			printf("kvm-memtype %s, version %d of --json\n", VERSION, JSON_VERSION);
			return 0;
		default:
			return print_usage(stderr, USAGE);
		}
	}
	if (argc - optind != 1 || !*argv[optind])
		return print_usage(stderr, USAGE);
	return seconds ? watch(argv[optind], print, seconds) : show(argv[optind], print);
}
