// SPDX-License-Identifier: GPL-2.0
/*
 * Sizes, offsets and numbers are those of abi.golden, in C and in C++, for 64
 * and for 32 bits.  "abi --dump" prints what a new golden file would hold.
 */
#include "kevent_test.h"
#include "abi_table.h"

const struct abi_row *abi_cxx_rows(void);
unsigned long abi_cxx_count(void);

static void print_row(char *line, size_t size, const struct abi_row *row)
{
	snprintf(line, size, "%s %#llx\n", row->name, row->value);
}

static FILE *golden(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);

	if (n < 0)
		return NULL;
	path[n] = 0;
	strcpy(strrchr(path, '/') + 1, "abi.golden");
	return fopen(path, "r");
}

/* How many rows differ from the golden file, which must have no more lines. */
static int differences(const struct abi_row *rows, unsigned long count)
{
	char have[256], want[256];
	FILE *file = golden();
	unsigned long i;
	int n = 0;

	if (!file)
		return -ENOENT;
	for (i = 0; i < count; i++) {
		print_row(have, sizeof(have), &rows[i]);
		if (!fgets(want, sizeof(want), file))
			strcpy(want, "(end)\n");
		if (strcmp(have, want)) {
			ksft_print_msg("golden %s", want);
			ksft_print_msg("here   %s", have);
			n++;
		}
	}
	if (fgets(want, sizeof(want), file))
		n++;
	fclose(file);
	return n;
}

/* C sees the golden layout. */
TEST(c)
{
	EXPECT_EQ(0, differences(abi_rows, ABI_ROWS));
}

/* C++ sees the golden layout. */
TEST(cxx)
{
	EXPECT_EQ(0, differences(abi_cxx_rows(), abi_cxx_count()));
}

/* An event is 32 bytes, aligned to 8, without padding. */
TEST(event)
{
	EXPECT_EQ(32, sizeof(struct ukevent));
	EXPECT_EQ(8, __alignof__(struct ukevent));
	EXPECT_EQ(32, 8 + 8 + 4 + 2 + 2 + 8);
}

/* The structs of ioctls have no hole where a 32-bit compiler would close it. */
TEST(no_hole)
{
	EXPECT_EQ(40, sizeof(struct kevent_setup));
	EXPECT_EQ(64, sizeof(struct kevent_change));
	EXPECT_EQ(24, sizeof(struct kevent_changes));
	EXPECT_EQ(80, sizeof(struct kevent_get));
}

/* Words of different writers lie on cache lines of their own. */
TEST(cache_lines)
{
	EXPECT_EQ(0, offsetof(struct kevent_ring, tail) % 64);
	EXPECT_EQ(0, offsetof(struct kevent_ring, sources) % 64);
	EXPECT_EQ(0, offsetof(struct kevent_ring, ring_of_node) % 64);
	EXPECT_EQ(64, sizeof(struct kevent_claim));
}

int main(int argc, char **argv)
{
	char line[256];
	unsigned long i;

	if (argc != 2 || strcmp(argv[1], "--dump"))
		return test_harness_run(argc, argv);
	for (i = 0; i < ABI_ROWS; i++) {
		print_row(line, sizeof(line), &abi_rows[i]);
		fputs(line, stdout);
	}
	return 0;
}
