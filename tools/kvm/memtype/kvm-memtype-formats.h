/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kvm-memtype prints for others than people at a terminal: JSON, and a picture. A part of
 * kvm-memtype.c, for its structures and words.
 */

/* JSON */

/* Of what is printed, only a file's name can have anything to escape. */
static void print_json_string(const char *string)
{
	putchar('"');
	for (; *string; string++) {
		if ((unsigned char)*string < ' ')
			printf("\\u%04x", *string);
		else
			printf("%s%c", strchr("\"\\", *string) ? "\\" : "", *string);
	}
	putchar('"');
}

/* [ words[n] of each bit n ] */
static void print_json_list(unsigned int bits, const char * const *words)
{
	const char *comma = "";

	putchar('[');
	for (int i = 0; words[i]; i++) {
		if (bits & 1 << i) {
			printf("%s\"%s\"", comma, words[i]);
			comma = ", ";
		}
	}
	putchar(']');
}

/* Sizes are in bytes. Addresses are strings, as 64 bits are more than a JSON number has. */
static void print_json_range(const struct range *range)
{
	printf("{\"as\": %llu, \"start\": \"0x%llx\", \"end\": \"0x%llx\", ",
	       range->as, range->start, range->end);
	printf("\"size\": %llu, \"slot\": %llu, ",
	       range->end - range->start, range->slot);
	printf("\"host\": \"%s\", \"intent\": \"%s\", \"effective\": ",
	       types[range->host], types[range->intent]);
	print_json_list(range->effective & ~(1 << NONE), types);
	printf(", \"source\": \"%s\", \"attributes\": ", sources[range->source]);
	print_json_list(range->attributes, attributes);
	printf(", \"refusal\": \"%s\", \"mapped\": ", refusals[range->refusal]);
	if (range->mapped == UNKNOWN)
		printf("null");
	else
		printf("%llu", range->mapped);
	printf(", \"why\": \"%s\"}", why(range));
}

static void print_json(const struct vm *vms, size_t nr_vms)
{
	printf("{\"version\": %d, \"vms\": [", JSON_VERSION);
	for (size_t i = 0; i < nr_vms; i++) {
		printf("%s\n {\"name\": ", i ? "," : "");
		print_json_string(vms[i].name);
		printf(", \"policy\": \"%s\", \"noncoherent_dma\": %s, \"ranges\": [",
		       policies[vms[i].policy], vms[i].noncoherent_dma ? "true" : "false");
		for (size_t j = 0; j < vms[i].nr_ranges; j++) {
			printf("%s\n  ", j ? "," : "");
			print_json_range(&vms[i].ranges[j]);
		}
		printf("]}");
	}
	puts("]}");
}

/*
 * The picture: a box for each range from the lowest address up, as high as its size has digits,
 * because a BAR of a page and RAM of gigabytes must both be seen. A dashed line is what lies
 * between.
 */

/* What a range can be. Colour-blind readers can tell these colours apart. */
enum { IS_WB, IS_FORCED, IS_WC, IS_OTHER, IS_REFUSED };
static const struct { const char *colour, *text; } legend[] = {
	[IS_WB] = { "#009e73", "WB" },
	[IS_FORCED] = { "#56b4e9", "WB, forced" },
	[IS_WC] = { "#f0e442", "WC" },
	[IS_OTHER] = { "#cc79a7", "UC, WT or WP" },
	[IS_REFUSED] = { "#d55e00", "refused" },
};

/* By KVM's intent */
static const char *colour(const struct range *range)
{
	int is = IS_OTHER;

	if (range->refusal != REFUSAL_NONE)
		is = IS_REFUSED;
	else if (range->intent == WB)
		is = range->attributes & FORCED ? IS_FORCED : IS_WB;
	else if (range->intent == WC)
		is = IS_WC;
	return legend[is].colour;
}

enum { LINE = 16, BOX = 230, TEXT = BOX + 20, PICTURE = 1100 };

static int height_of(const struct range *range)
{
	int height = 2 * LINE;

	for (__u64 size = (range->end - range->start) >> 12; size; size >>= 4)
		height += LINE / 4;
	return height;
}

static void print_svg_box(int x, int y, int width, int height, const char *fill)
{
	printf("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" ", x, y, width, height);
	printf("fill=\"%s\" stroke=\"black\"/>\n", fill);
}

static void print_svg_text(int x, int y, const char *string)
{
	printf("<text x=\"%d\" y=\"%d\">", x, y);
	for (; *string; string++) {
		if (strchr("<&>", *string) || (unsigned char)*string < ' ')
			printf("&#%d;", (unsigned char)*string < ' ' ? '?' : *string);
		else
			putchar(*string);
	}
	puts("</text>");
}

static int print_svg_range(const struct range *range, int y)
{
	int height = height_of(range);

	print_svg_box(10, y, BOX - 10, height, colour(range));
	print_svg_text(16, y + LINE, text("0x%llx", range->start));
	print_svg_text(16, y + height - LINE / 3, text("slot %llu, %s", range->slot,
						       human(range->end - range->start)));
	print_svg_text(TEXT, y + LINE, why(range));
	if (range->refusal == REFUSAL_NONE)
		print_svg_text(TEXT, y + 2 * LINE, text("host %s, guest may %s", types[range->host],
							guest_may(range)));
	return y + height;
}

static int print_svg_vm(const struct vm *vm, int y)
{
	const struct range *range = vm->ranges;

	y += 2 * LINE;
	print_svg_text(10, y, heading(vm));
	y += LINE / 2;
	for (size_t i = 0; i < vm->nr_ranges; i++, range++) {
		if (i && (range->as != range[-1].as || range->start != range[-1].end)) {
			printf("<path d=\"M20 %dv%d\" stroke=\"black\" stroke-dasharray=\"3\"/>\n",
			       y, LINE);
			print_svg_text(TEXT, y + LINE - 3, range->as == range[-1].as ? "no slot" :
				       text("address space %llu", range->as));
			y += LINE;
		}
		y = print_svg_range(range, y);
	}
	return y;
}

static void print_svg(const struct vm *vms, size_t nr_vms)
{
	int y = 2 * LINE;

	for (size_t i = 0; i < nr_vms; i++) {
		y += 3 * LINE;
		for (size_t j = 0; j < vms[i].nr_ranges; j++)
			y += height_of(&vms[i].ranges[j]) + LINE;
	}
	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" ", PICTURE, y);
	puts("font-family=\"sans-serif\" font-size=\"12\">");
	puts("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>");
	for (size_t i = 0; i < ARRAY_SIZE(legend); i++) {
		print_svg_box(10 + i * 130, 8, LINE, LINE, legend[i].colour);
		print_svg_text(32 + i * 130, 8 + LINE * 3 / 4, legend[i].text);
	}
	y = LINE;
	for (size_t i = 0; i < nr_vms; i++)
		y = print_svg_vm(&vms[i], y);
	puts("</svg>");
}
