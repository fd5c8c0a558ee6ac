// SPDX-License-Identifier: GPL-2.0
/* Registered buffers: what can be one, what reads and writes by number do, who pays. */
#include "io_test.h"

#include <pty.h>
#include <sys/prctl.h>

#define NUMBER 7		/* of most buffers here */
#define GIB (1ULL << 30)

/* ------------------------------------------------------------------------ */
/* The ioctl, and what it leaves */

static struct kevent_buffers buffers_arg(const void *array, unsigned int first,
					 unsigned int nr)
{
	struct kevent_buffers arg;

	memset(&arg, POISON, sizeof(arg));
	arg.size = sizeof(arg);
	arg.flags = 0;
	arg.buffers = (uintptr_t)array;
	arg.first = first;
	arg.nr = nr;
	arg.pad = 0;
	return arg;
}

/* Returns what the ioctl does, which must equal done. */
static int buffers_run(int q, struct kevent_buffers *arg)
{
	int result = ioc(q, KEVENT_IOC_BUFFERS, arg);

	return arg->done == (result < 0 ? 0 : result) ? result : -EPROTO;
}

static int buffers(int q, unsigned int first, const struct kevent_buffer *array,
		   unsigned int nr)
{
	struct kevent_buffers arg = buffers_arg(array, first, nr);

	return buffers_run(q, &arg);
}

static struct kevent_buffer buffer_at(const void *start, uint64_t len)
{
	return (struct kevent_buffer){ (uintptr_t)start, len };
}

/* 1, or the error. */
static int give(int q, unsigned int number, const void *start, uint64_t len)
{
	struct kevent_buffer b = buffer_at(start, len);

	return buffers(q, number, &b, 1);
}

static int empty(int q, unsigned int number)
{
	return give(q, number, NULL, 0);
}

static struct kevent_change by(unsigned int number, struct kevent_change c)
{
	c.buffer = number;
	return c;
}

/* Submits without waiting for the end; the entry's result. */
static int start(int q, struct kevent_change c)
{
	return change(q, &c);
}

/* In KiB, with those of the rings. */
static long locked_of(int q)
{
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", q);
	if (read_text(path, text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, "locked:");
	return at ? atol(at + 7) : -1;
}

static long long counter(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? atoll(at + strlen(name)) : 0;
}

/* Pages that are pinned, in the whole machine. */
static long long pins(void)
{
	static char text[1 << 16];

	read_text("/proc/sys/vm/stat_refresh", text, sizeof(text));
	if (read_text("/proc/vmstat", text, sizeof(text)) < 0)
		return -1;
	return counter(text, "nr_foll_pin_acquired ") -
	       counter(text, "nr_foll_pin_released ");
}

/* ------------------------------------------------------------------------ */
/* The argument of the ioctl */

FIXTURE(arg) {
	int q;
	long locked;
	long long pins;
	char *memory;		/* two pages */
	struct kevent_buffer array[4];
};

FIXTURE_VARIANT(arg) {
	struct kevent_buffers a;	/* buffers is added to the array's address */
};

FIXTURE_SETUP(arg)
{
	int i;

	self->q = queue_open(1, 16);
	ASSERT_LE(0, self->q);
	self->memory = pages(2 * IO_PAGE);
	self->locked = locked_of(self->q);
	self->pins = pins();
	for (i = 0; i < 4; i++)
		self->array[i] = buffer_at(self->memory + i * 100, 100);
}

FIXTURE_TEARDOWN(arg)
{
	EXPECT_EQ(self->locked, locked_of(self->q));
	EXPECT_EQ(self->pins, pins());
	close(self->q);
}

#define BAD_ARG(name, first_, nr_, ...)					\
	FIXTURE_VARIANT_ADD(arg, name) {				\
		.a = { .first = (first_), .nr = (nr_), __VA_ARGS__ },	\
	}

BAD_ARG(flag, 1, 1, .flags = 1);
BAD_ARG(flag_highest, 1, 1, .flags = 1U << 31);
BAD_ARG(pad, 1, 1, .pad = 1);
BAD_ARG(pad_highest, 1, 1, .pad = 1U << 31);
BAD_ARG(first_0, 0, 1);
BAD_ARG(first_0_none, 0, 0);
BAD_ARG(first_next, KEVENT_MAX_BUFFERS + 1, 1);
BAD_ARG(first_next_none, KEVENT_MAX_BUFFERS + 1, 0);
BAD_ARG(first_most, ~0U, 1);
BAD_ARG(nr_past_end, KEVENT_MAX_BUFFERS, 2);
BAD_ARG(nr_next, 1, KEVENT_MAX_BUFFERS + 1);
BAD_ARG(nr_most, 1, ~0U);
BAD_ARG(nr_wraps, 2, ~0U);
BAD_ARG(misaligned_1, 1, 1, .buffers = 1);
BAD_ARG(misaligned_4, 1, 1, .buffers = 4);
BAD_ARG(misaligned_none, 1, 0, .buffers = 4);

TEST_F(arg, refused)
{
	struct kevent_buffers arg = variant->a;

	arg.size = sizeof(arg);
	arg.buffers += (uintptr_t)self->array;
	arg.done = 0xa5a5a5a5;
	EXPECT_EQ(-EINVAL, buffers_run(self->q, &arg));
}

TEST(arg_size)
{
	struct {
		struct kevent_buffers arg;
		uint64_t more[2];
	} a = { .arg = buffers_arg(NULL, 1, 0) };
	int q = queue_open(1, 16);

	a.arg.size = sizeof(a);
	EXPECT_EQ(0, buffers_run(q, &a.arg));
	a.more[1] = 1;
	EXPECT_EQ(-E2BIG, ioc(q, KEVENT_IOC_BUFFERS, &a));
	a.arg.size = sizeof(a.arg) - 1;
	EXPECT_EQ(-EINVAL, ioc(q, KEVENT_IOC_BUFFERS, &a));
	a.arg.size = 0;
	EXPECT_EQ(-EINVAL, ioc(q, KEVENT_IOC_BUFFERS, &a));
	EXPECT_EQ(-EFAULT, ioc(q, KEVENT_IOC_BUFFERS, edge_of_mapping()));
	close(q);
}

TEST(before_setup)
{
	struct kevent_buffers arg = buffers_arg(NULL, 1, 0);
	int q = device_open();

	EXPECT_EQ(-EBADFD, ioc(q, KEVENT_IOC_BUFFERS, &arg));
	close(q);
}

/* ------------------------------------------------------------------------ */
/* What can be a buffer */

FIXTURE(life) {
	struct queue q;
	int pipe[2];
	int file;		/* in memory, empty */
	long locked;
	long long pins;
	char *a, *b;		/* pages, LIFE of each */
};

#define LIFE 4
#define LIFE_KIB (LIFE * IO_PAGE / 1024)

FIXTURE_SETUP(life)
{
	self->pins = pins();
	ASSERT_EQ(0, queue_make(&self->q, 2, 64));
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
	self->file = storage_open(TMPFS, 0, 0, 1);
	ASSERT_LE(0, self->file);
	self->locked = locked_of(self->q.fd);
	self->a = pages(LIFE * IO_PAGE);
	self->b = pages(LIFE * IO_PAGE);
}

FIXTURE_TEARDOWN(life)
{
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	queue_free(&self->q);
	/* The last close has waited for that. */
	EXPECT_EQ(self->pins, pins());
	close(self->pipe[0]);
	close(self->pipe[1]);
	close(self->file);
}

#define IO(c) io_do(self->q.fd, (c))
#define GIVE(n, start, len) give(self->q.fd, n, start, len)
#define START(c) start(self->q.fd, (c))
#define LOCKED() (locked_of(self->q.fd) - self->locked)

/* A number that names nothing; what is at @address does not matter. */
static int names_nothing(int q, unsigned int number, int file, void *address)
{
	return io_do(q, by(number, write_entry(file, address, 1, 0))).result == -EFAULT;
}

/* Refused with this errno, and nothing of it stays. */
#define EXPECT_NO_BUFFER(error, start, len) do {			\
	EXPECT_EQ(error, GIVE(NUMBER, start, len));			\
	EXPECT_TRUE(names_nothing(self->q.fd, NUMBER, self->file,	\
				  (void *)(start)));			\
	EXPECT_EQ(0, LOCKED());						\
	EXPECT_EQ(self->pins, pins());					\
} while (0)

TEST_F(life, lengths)
{
	uint64_t a = (uintptr_t)self->a;

	EXPECT_NO_BUFFER(-EINVAL, self->a, GIB + 1);
	EXPECT_NO_BUFFER(-EINVAL, self->a, 1ULL << 32);
	EXPECT_NO_BUFFER(-EINVAL, self->a, 1ULL << 63);
	EXPECT_NO_BUFFER(-EINVAL, self->a, ~0ULL);
	/* It ends where it began. */
	EXPECT_NO_BUFFER(-EINVAL, self->a, -a);
	EXPECT_NO_BUFFER(-EFAULT, NULL, GIB);
	EXPECT_NO_BUFFER(-EFAULT, NULL, 1);
}

/* Addresses of a size that a 32-bit program's pointers do not have. */
TEST_F(life, addresses)
{
	static const struct { uint64_t addr, len; int error; } bad[] = {
		{ 0xffff888000000000ULL, IO_PAGE, -EFAULT },
		{ 0x8000000000000000ULL, IO_PAGE, -EFAULT },
		{ 0x7ffffffff000ULL, IO_PAGE, -EFAULT },
		{ -2ULL * IO_PAGE, IO_PAGE, -EFAULT },
		{ -1ULL * IO_PAGE, IO_PAGE, -EINVAL },
		{ -1ULL, 2, -EINVAL },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct kevent_buffer b = { bad[i].addr, bad[i].len };

		EXPECT_EQ(bad[i].error, buffers(self->q.fd, NUMBER, &b, 1))
			TH_LOG("row %u", i);
	}
	EXPECT_EQ(0, LOCKED());
}

TEST_F(life, memory)
{
	char *edge = edge_of_mapping(), *fixed = read_only_copy("x", 1);
	char *none = mmap(NULL, IO_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int zero = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *text = mmap(NULL, IO_PAGE, PROT_READ, MAP_SHARED, zero, 0);

	EXPECT_NO_BUFFER(-EFAULT, edge, 1);
	EXPECT_NO_BUFFER(-EFAULT, edge - 1, 2);
	EXPECT_NO_BUFFER(-EFAULT, edge - IO_PAGE, 2 * IO_PAGE);
	EXPECT_NO_BUFFER(-EFAULT, fixed, 1);
	EXPECT_NO_BUFFER(-EFAULT, none, IO_PAGE);
	EXPECT_NO_BUFFER(-EFAULT, text, IO_PAGE);
	EXPECT_NO_BUFFER(-EFAULT, self->q.rings, IO_PAGE);
	close(zero);
}

/* Some kernels pin what drivers have mapped: then it is there for as long. */
TEST_F(life, claims_of_queue)
{
	struct queue other;
	int result;

	ASSERT_EQ(0, queue_make(&other, 1, 16));
	result = GIVE(NUMBER, other.claims, IO_PAGE);
	EXPECT_TRUE(result == 1 || result == -EFAULT) TH_LOG("%d", result);
	queue_free(&other);
	if (result != 1)
		return;
	ASSERT_EQ(3, write(self->pipe[1], "abc", 3));
	EXPECT_EQ(3, IO(by(NUMBER, read_entry(self->pipe[0], other.claims, 3,
					      0))).result);
	EXPECT_EQ(3, IO(by(NUMBER, write_entry(self->file, other.claims, 3, 0))).result);
	ASSERT_EQ(3, pread(self->file, self->a, 3, 0));
	EXPECT_EQ(0, memcmp(self->a, "abc", 3));
}

/* All up to the last byte of a mapping, and the pages that are counted. */
TEST_F(life, counted)
{
	char *edge = edge_of_mapping();

	EXPECT_EQ(1, GIVE(1, edge - IO_PAGE, IO_PAGE));
	EXPECT_EQ(4, LOCKED());
	EXPECT_EQ(1, GIVE(2, edge - 1, 1));
	EXPECT_EQ(8, LOCKED());
	EXPECT_EQ(1, GIVE(3, self->a + IO_PAGE - 1, 2));
	EXPECT_EQ(16, LOCKED());
	EXPECT_EQ(1, GIVE(KEVENT_MAX_BUFFERS, self->a + 1, 2 * IO_PAGE));
	EXPECT_EQ(28, LOCKED());
	EXPECT_EQ(self->pins + 7, pins());
	EXPECT_EQ(1, empty(self->q.fd, 3));
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 20 && pins() == self->pins + 5));
	/* The number before is not the one after. */
	EXPECT_EQ(1, empty(self->q.fd, KEVENT_MAX_BUFFERS - 1));
	EXPECT_EQ(1, empty(self->q.fd, 3));
	EXPECT_EQ(1, empty(self->q.fd, KEVENT_MAX_BUFFERS));
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 8));
}

/* Many at once: the first that cannot be one ends it, and so does the array. */
TEST_F(life, array)
{
	struct kevent_buffer array[5];
	char *edge = edge_of_mapping();
	struct kevent_buffer *cut = (void *)(edge - 2 * sizeof(*cut));
	int i;

	for (i = 0; i < 5; i++)
		array[i] = buffer_at(self->a + i * 100, 100);
	ASSERT_EQ(5, buffers(self->q.fd, 10, array, 5));
	EXPECT_EQ(20, LOCKED());
	array[1] = buffer_at(self->b, 100);
	array[2] = buffer_at(edge - 1, 2);
	array[3] = buffer_at(NULL, 0);
	EXPECT_EQ(2, buffers(self->q.fd, 10, array, 5));
	/* These are as they were. */
	for (i = 2; i < 5; i++)
		EXPECT_EQ(100, IO(by(10 + i, write_entry(self->file, self->a + i * 100,
							 100, 0))).result);
	EXPECT_EQ(100, IO(by(11, write_entry(self->file, self->b, 100, 0))).result);
	EXPECT_EQ(-EFAULT, IO(by(11, write_entry(self->file, self->a + 100, 100,
						 0))).result);
	cut[0] = buffer_at(self->b, 1);
	cut[1] = cut[0];
	EXPECT_EQ(2, buffers(self->q.fd, 20, cut, 3));
	EXPECT_EQ(-EFAULT, buffers(self->q.fd, 20, (void *)edge, 1));
	EXPECT_EQ(-EFAULT, buffers(self->q.fd, 20, NULL, 1));
	EXPECT_EQ(1, IO(by(21, write_entry(self->file, self->b, 1, 0))).result);
	EXPECT_TRUE(names_nothing(self->q.fd, 22, self->file, self->b));
	EXPECT_EQ(0, buffers(self->q.fd, 20, NULL, 0));
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 28));
}

/* One that cannot take its place leaves the one before where it is. */
TEST_F(life, not_replaced)
{
	ASSERT_EQ(1, GIVE(NUMBER, self->a, IO_PAGE));
	EXPECT_EQ(-EFAULT, GIVE(NUMBER, edge_of_mapping(), 1));
	EXPECT_EQ(-EINVAL, GIVE(NUMBER, self->a, GIB + 1));
	EXPECT_EQ(IO_PAGE, IO(by(NUMBER, write_entry(self->file, self->a, IO_PAGE,
						     0))).result);
	EXPECT_EQ(IO_PAGE / 1024, LOCKED());
	EXPECT_EQ(self->pins + 1, pins());
}

/* Every number at once, and all gone by one call. */
TEST_F(life, most)
{
	size_t size = KEVENT_MAX_BUFFERS * sizeof(struct kevent_buffer);
	struct kevent_buffer *array = pages(size);
	unsigned int i;

	for (i = 0; i < KEVENT_MAX_BUFFERS; i++)
		array[i] = buffer_at(self->a + i % IO_PAGE, 1);
	ASSERT_EQ(KEVENT_MAX_BUFFERS, buffers(self->q.fd, 1, array, KEVENT_MAX_BUFFERS));
	EXPECT_EQ(KEVENT_MAX_BUFFERS * (IO_PAGE / 1024), LOCKED());
	for (i = 1; i <= KEVENT_MAX_BUFFERS; i += 1023)
		EXPECT_EQ(1, IO(by(i, write_entry(self->file, self->a +
						  (i - 1) % IO_PAGE, 1, 0))).result);
	memset(array, 0, size);
	EXPECT_EQ(KEVENT_MAX_BUFFERS, buffers(self->q.fd, 1, array, KEVENT_MAX_BUFFERS));
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 0));
	for (i = 0; i < 1000; i++)
		array[i] = buffer_at(self->a + i, 1);
	/* These the close takes away. */
	ASSERT_EQ(1000, buffers(self->q.fd, 1, array, 1000));
	munmap(array, size);
}

/* More than are pinned, and let go, at a time. */
TEST_F(life, large)
{
	size_t size = 16 * MIB;
	char *large = pages(size), *at = large + size / 2 - 1000;

	ASSERT_EQ(1, GIVE(NUMBER, large + 1, size - 2));
	EXPECT_EQ(size / 1024, LOCKED());
	pattern_fill(at, 2000, 3, 0);
	EXPECT_EQ(2000, IO(by(NUMBER, write_entry(self->file, at, 2000, 0))).result);
	at = large + size - 1 - 2000;
	EXPECT_EQ(2000, IO(by(NUMBER, read_entry(self->file, at, 2000, 0))).result);
	EXPECT_EQ(-1, pattern_wrong(at, 2000, 3, 0));
	EXPECT_EQ(POISON, (unsigned char)large[size - 1]);
	EXPECT_EQ(-EFAULT, IO(by(NUMBER, read_entry(self->file, at, 2001, 0))).result);
	munmap(large, size);
}

/* Memory that others share has what was read, wherever it is mapped. */
TEST_F(life, shared)
{
	int fd = memfd_create("kevent", MFD_CLOEXEC);
	char *m;

	ASSERT_EQ(0, ftruncate(fd, 2 * IO_PAGE));
	m = mmap(NULL, 2 * IO_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_EQ(1, GIVE(NUMBER, m, 2 * IO_PAGE));
	ASSERT_EQ(3, write(self->pipe[1], "abc", 3));
	EXPECT_EQ(3, IO(by(NUMBER, read_entry(self->pipe[0], m + IO_PAGE - 1, 3,
					      0))).result);
	munmap(m, 2 * IO_PAGE);
	ASSERT_EQ(3, pread(fd, self->a, 3, IO_PAGE - 1));
	EXPECT_EQ(0, memcmp(self->a, "abc", 3));
	close(fd);
}

/* The pages of a file either cannot be one, or fsync(2) finds what was read. */
TEST_F(life, of_file)
{
	int fd = storage_open(EXT4, 0, LIFE * IO_PAGE, 1), direct, i, result;
	char *m, word[4];

	if (fd < 0)
		SKIP(return, "KEVENT_DISKS names no disk");
	direct = open(storage_path(EXT4), O_RDONLY | O_DIRECT | O_CLOEXEC);
	m = mmap(NULL, LIFE * IO_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	result = GIVE(NUMBER, m, LIFE * IO_PAGE);
	EXPECT_TRUE(result == 1 || result == -EFAULT) TH_LOG("%d", result);
	for (i = 0; i < 4 && result == 1; i++) {
		snprintf(word, sizeof(word), "%03d", i);
		ASSERT_EQ(3, write(self->pipe[1], word, 3));
		ASSERT_EQ(3, IO(by(NUMBER, read_entry(self->pipe[0], m, 3, 0))).result);
		ASSERT_EQ(0, fsync(fd));
		ASSERT_EQ(IO_PAGE, pread(direct, self->a, IO_PAGE, 0));
		EXPECT_EQ(0, memcmp(self->a, word, 3)) TH_LOG("round %d", i);
	}
	munmap(m, LIFE * IO_PAGE);
	close(direct);
	close(fd);
}

/* ------------------------------------------------------------------------ */
/* Entries that are refused */

#define BEFORE 100		/* the buffer begins so far into its first page */
#define LENGTH (2 * IO_PAGE)

static const struct {
	const char *what;
	int64_t from;		/* from the first byte of the buffer */
	uint32_t len;
} outside[] = {
	{ "the byte before", -1, 1 },
	{ "from before", -1, 2 },
	{ "the page before", -IO_PAGE, IO_PAGE },
	{ "all and one before", -1, LENGTH + 1 },
	{ "on both sides", -1, LENGTH + 2 },
	{ "the byte behind", LENGTH, 1 },
	{ "past the end", LENGTH - 1, 2 },
	{ "all and one behind", 0, LENGTH + 1 },
	{ "the page behind", LENGTH + IO_PAGE, 1 },
	{ "to the end of the address space", 0, ~0U },
	{ "most", 0, 0x7fffffff },
	{ "most that is transferred", 1, 0x7ffff000 },
	{ "4 GiB behind", 1LL << 32, 1 },
	{ "4 GiB before", -(1LL << 32), 1 },
	{ "the sign", INT64_MIN, 1 },
};

FIXTURE(entry) {
	struct queue q;
	int file, pipe[2], device;	/* ways of their own */
	char *memory, *start;
};

FIXTURE_SETUP(entry)
{
	const char *path = storage_path(NULLB);

	ASSERT_NE(NULL, path);
	ASSERT_EQ(0, queue_make(&self->q, 2, 16));
	self->file = storage_open(TMPFS, 0, 4 * IO_PAGE, 1);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC | O_NONBLOCK));
	self->device = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, self->device);
	self->memory = pages(8 * IO_PAGE);
	self->start = self->memory + 2 * IO_PAGE + BEFORE;
	ASSERT_EQ(1, GIVE(NUMBER, self->start, LENGTH));
}

FIXTURE_TEARDOWN(entry)
{
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	EXPECT_TRUE(all_bytes(self->memory, 8 * IO_PAGE, POISON));
	EXPECT_EQ(4 * IO_PAGE, lseek(self->file, 0, SEEK_END));
	queue_free(&self->q);
}

/* The same of each file, in both directions. */
#define EXPECT_REFUSED(error, number, what, address, len_) do {		\
	const int __in[] = { self->file, self->pipe[0], self->device };	\
	const int __out[] = { self->file, self->pipe[1], self->device }; \
	struct kevent_change __c;					\
	int __i;							\
									\
	for (__i = 0; __i < 3; __i++) {					\
		__c = by(number, read_entry(__in[__i], NULL, len_, 0));	\
		__c.addr = (address);					\
		EXPECT_EQ(error, IO(__c).result)			\
			TH_LOG("read %d: %s", __i, what);		\
		__c.kind = KEVENT_KIND_WRITE;				\
		__c.fd = __out[__i];					\
		EXPECT_EQ(error, IO(__c).result)			\
			TH_LOG("write %d: %s", __i, what);		\
	}								\
} while (0)

TEST_F(entry, outside)
{
	uint64_t at = (uintptr_t)self->start;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(outside); i++)
		EXPECT_REFUSED(-EFAULT, NUMBER, outside[i].what, at + outside[i].from,
			       outside[i].len);
	EXPECT_REFUSED(-EFAULT, NUMBER, "null", 0, 1);
	EXPECT_REFUSED(-EFAULT, NUMBER, "the last byte", ~0ULL, 1);
	EXPECT_REFUSED(-EFAULT, NUMBER, "around", ~0ULL - 99, 200);
	EXPECT_REFUSED(-EFAULT, NUMBER, "kernel's", 0xffff888000000000ULL, 1);
}

/* All of it is asked for, though less would be taken. */
TEST_F(entry, outside_of_what_is_taken)
{
	struct rlimit limit = { 4 * IO_PAGE + 10, RLIM_INFINITY };

	fcntl(self->pipe[1], F_SETFL, 0);
	EXPECT_EQ(-EFAULT, IO(by(NUMBER, write_entry(self->pipe[1], self->start,
						     LENGTH + 1, 0))).result);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	EXPECT_EQ(-EFAULT, IO(by(NUMBER, write_entry(self->file, self->start, LENGTH + 1,
						     4 * IO_PAGE - 10))).result);
}

TEST_F(entry, no_such_number)
{
	static const uint32_t numbers[] = {
		1, NUMBER - 1, NUMBER + 1, NUMBER + 64, KEVENT_MAX_BUFFERS,
		KEVENT_MAX_BUFFERS + 1, KEVENT_MAX_BUFFERS + NUMBER, 1U << 31, ~0U,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		EXPECT_REFUSED(-EFAULT, numbers[i], "", (uintptr_t)self->start, 1);
	ASSERT_EQ(1, empty(self->q.fd, NUMBER));
	EXPECT_REFUSED(-EFAULT, NUMBER, "emptied", (uintptr_t)self->start, 1);
}

/* Kinds of request that know none. */
TEST_F(entry, other_kinds)
{
	struct iovec *iov = pages(IO_PAGE);
	static const int plain[] = { KEVENT_KIND_FSYNC, KEVENT_KIND_FDATASYNC };
	struct kevent_change c;
	unsigned int i;

	*iov = (struct iovec){ self->start, 10 };
	c = io_entry(KEVENT_KIND_READV, self->file, iov, 1, 0);
	EXPECT_EQ(-EINVAL, IO(by(NUMBER, c)).result);
	c.kind = KEVENT_KIND_WRITEV;
	EXPECT_EQ(-EINVAL, IO(by(NUMBER, c)).result);
	EXPECT_EQ(-EINVAL, IO(by(~0U, c)).result);
	for (i = 0; i < ARRAY_SIZE(plain); i++)
		EXPECT_EQ(-EINVAL, IO(by(NUMBER, io_entry(plain[i], self->file, NULL, 0,
							  0))).result);
	EXPECT_EQ(-EINVAL, IO(by(NUMBER, io_entry(KEVENT_KIND_NOP, 0, NULL, 0,
						  0))).result);
	munmap(iov, IO_PAGE);
}

/* Operations that know none. */
TEST_F(entry, other_operations)
{
	uint64_t file, user;
	struct kevent_change c;
	unsigned int op;

	ASSERT_EQ(0, add_file(self->q.fd, self->pipe[0], EPOLLIN, 0, 1, &file));
	ASSERT_EQ(0, add_user(self->q.fd, KEVENT_LEVEL, 1, &user));
	c = file_change(self->pipe[0], EPOLLIN, 0, 1);
	EXPECT_EQ(-EINVAL, start(self->q.fd, by(NUMBER, c)));
	c.op = KEVENT_OP_MODIFY;
	c.id = file;
	c.fd = 0;
	EXPECT_EQ(-EINVAL, start(self->q.fd, by(NUMBER, c)));
	EXPECT_EQ(0, start(self->q.fd, c));
	for (op = KEVENT_OP_REMOVE; op <= KEVENT_OP_CANCEL; op++) {
		if (op == KEVENT_OP_SUBMIT)
			continue;
		c = (struct kevent_change){ .op = op, .id = user };
		EXPECT_EQ(-EINVAL, start(self->q.fd, by(NUMBER, c)));
	}
	EXPECT_EQ(0, remove_id(self->q.fd, file));
	EXPECT_EQ(0, remove_id(self->q.fd, user));
}

/* It ends its chain as others do; those before it go on. */
TEST_F(entry, in_chain)
{
	struct kevent_change c[3];
	struct ukevent ev;
	int i;

	for (i = 0; i < 3; i++) {
		c[i] = by(NUMBER, write_entry(self->file, self->start, 10, 0));
		c[i].flags = i < 2 ? KEVENT_LINK : 0;
	}
	c[1].addr += LENGTH;
	ASSERT_EQ(3, changes(self->q.fd, c, 3));
	EXPECT_EQ(0, c[0].result);
	EXPECT_EQ(-EFAULT, c[1].result);
	EXPECT_EQ(-ECANCELED, c[2].result);
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(10, ev.result);
}

/* In one array: each number is looked up anew where it differs from the last. */
TEST_F(entry, numbers_in_turn)
{
	static const uint32_t numbers[] = { NUMBER, NUMBER, 9, NUMBER, 9, 9, 8, 8,
					    NUMBER, 0, NUMBER };
	struct kevent_change c[ARRAY_SIZE(numbers)];
	struct ukevent ev[ARRAY_SIZE(numbers)];
	unsigned int i, good = 0;

	ASSERT_EQ(1, GIVE(8, self->start, 10));
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		c[i] = by(numbers[i], write_entry(self->file, self->start, 11, 0));
		good += numbers[i] == NUMBER || !numbers[i];
	}
	ASSERT_EQ(ARRAY_SIZE(numbers), changes(self->q.fd, c, ARRAY_SIZE(numbers)));
	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		EXPECT_EQ(numbers[i] == NUMBER || !numbers[i] ? 0 : -EFAULT, c[i].result);
	ASSERT_EQ(good, get(self->q.fd, ev, good, ARRAY_SIZE(numbers), LONG_NS));
	for (i = 0; i < good; i++)
		EXPECT_EQ(11, ev[i].result);
}

/* ------------------------------------------------------------------------ */
/* Bytes, on storage of many kinds */

#define SIZE (64 * IO_PAGE)	/* of the part of a file that is used */
#define AREA (12 * IO_PAGE)
#define REGISTERED (7 * IO_PAGE)

FIXTURE(file) {
	struct queue q;
	int fd;
	char *area;		/* the buffer is somewhere in it */
	char *check;
	uint32_t unit;		/* offsets, addresses and lengths are multiples */
};

FIXTURE_VARIANT(file) {
	enum storage storage;
	int direct;
	int cached;
};

#define FILE_VARIANT(name, ...)						\
	FIXTURE_VARIANT_ADD(file, name) { __VA_ARGS__ }

FILE_VARIANT(tmpfs, .storage = TMPFS);
FILE_VARIANT(ext4, .storage = EXT4, .cached = 1);
FILE_VARIANT(ext4_direct, .storage = EXT4, .direct = O_DIRECT);
FILE_VARIANT(disk, .storage = DISK, .cached = 1);
FILE_VARIANT(disk_direct, .storage = DISK, .direct = O_DIRECT);
FILE_VARIANT(loop_direct, .storage = LOOP, .direct = O_DIRECT);
FILE_VARIANT(null_blk_direct, .storage = NULLB, .direct = O_DIRECT);

FIXTURE_SETUP(file)
{
	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	self->fd = storage_open(variant->storage, variant->direct, SIZE, 1);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, access_later(self->fd));
	ASSERT_EQ(0, queue_make(&self->q, 2, 256));
	self->area = pages(AREA);
	self->check = pages(SIZE);
	self->unit = variant->direct ? 512 : 1;
}

FIXTURE_TEARDOWN(file)
{
	close(self->fd);
	queue_free(&self->q);
}

static const uint32_t heads[] = { 0, 512, 4095 };
static const uint32_t froms[] = { 0, 1, 512, 3584, 4095, 8192, 9001 };
static const uint32_t lens[] = { 1, 512, 4097, 4608, 16384 };

/* A part of a buffer. */
struct part {
	uint32_t head;		/* where in its page the buffer begins */
	uint32_t from;		/* in the buffer */
	uint32_t len;
};

/* The nth that has this unit, or 0. */
static int part_at(unsigned int n, uint32_t unit, struct part *p)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(heads) * ARRAY_SIZE(froms) * ARRAY_SIZE(lens); i++) {
		p->len = lens[i % ARRAY_SIZE(lens)];
		p->from = froms[i / ARRAY_SIZE(lens) % ARRAY_SIZE(froms)];
		p->head = heads[i / ARRAY_SIZE(lens) / ARRAY_SIZE(froms)];
		if (p->head % unit == 0 && p->from % unit == 0 && p->len % unit == 0 &&
		    !n--)
			return 1;
	}
	return 0;
}

static int right_flags(int direct, uint32_t flags)
{
	return !direct == !(flags & KEVENT_EV_DIRECT);
}

#define PART_LOG(p)							\
	TH_LOG("head %u from %u len %u", (p).head, (p).from, (p).len)

/* Each byte that was there, and none beside. */
TEST_F(file, read)
{
	struct part p;
	unsigned int n;

	for (n = 0; part_at(n, self->unit, &p); n++) {
		char *buffer = self->area + IO_PAGE + p.head, *at = buffer + p.from;
		uint32_t offset = n % 8 * IO_PAGE + (self->unit == 1 ? n * 7 : 0);
		struct outcome o;

		ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
		memset(self->area, POISON, AREA);
		o = IO(by(NUMBER, read_entry(self->fd, at, p.len, offset)));
		EXPECT_EQ(p.len, o.result) PART_LOG(p);
		EXPECT_TRUE(right_flags(variant->direct, o.flags));
		EXPECT_TRUE(all_bytes(self->area, at - self->area, POISON)) PART_LOG(p);
		EXPECT_EQ(-1, pattern_wrong(at, p.len, 1, offset)) PART_LOG(p);
		EXPECT_TRUE(all_bytes(at + p.len, self->area + AREA - at - p.len,
				      POISON)) PART_LOG(p);
	}
}

/* What pread(2) finds then. */
TEST_F(file, write)
{
	struct part p;
	unsigned int n;

	for (n = 0; part_at(n, self->unit, &p); n++) {
		char *buffer = self->area + IO_PAGE + p.head, *at = buffer + p.from;
		uint32_t offset = n % 8 * IO_PAGE + (self->unit == 1 ? n * 7 : 0);
		struct outcome o;

		ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
		pattern_fill(at, p.len, 2 + n, offset);
		o = IO(by(NUMBER, write_entry(self->fd, at, p.len, offset)));
		EXPECT_EQ(p.len, o.result) PART_LOG(p);
		EXPECT_TRUE(right_flags(variant->direct, o.flags));
		ASSERT_EQ(p.len, pread(self->fd, self->check, p.len, offset));
		EXPECT_EQ(-1, pattern_wrong(self->check, p.len, 2 + n, offset))
			PART_LOG(p);
	}
}

TEST_F(file, whole)
{
	char *buffer = self->area + IO_PAGE + 512;

	ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
	EXPECT_EQ(REGISTERED, IO(by(NUMBER, read_entry(self->fd, buffer, REGISTERED,
						       0))).result);
	EXPECT_EQ(-1, pattern_wrong(buffer, REGISTERED, 1, 0));
	EXPECT_EQ(0, IO(by(NUMBER, read_entry(self->fd, buffer, 0, 0))).result);
	EXPECT_EQ(0, IO(by(NUMBER, read_entry(self->fd, buffer + 512, 0, 0))).result);
	EXPECT_EQ(0, IO(by(NUMBER, write_entry(self->fd, buffer + IO_PAGE - 512, 0,
					       0))).result);
}

/* A part is copied from the page cache at once, and a worker goes on behind it. */
TEST_F(file, in_two_parts)
{
	char *buffer = self->area + IO_PAGE + 512, *at = buffer + 1024;
	uint32_t len = 5 * IO_PAGE;
	struct outcome o;

	ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
	ASSERT_EQ(0, make_cold(self->fd));
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(IO_PAGE, pread(self->fd, self->check, IO_PAGE, 0));
	o = IO(by(NUMBER, read_entry(self->fd, at, len, 0)));
	EXPECT_EQ(len, o.result);
	if (variant->cached)
		EXPECT_EQ(KEVENT_EV_WORKER, o.flags);
	EXPECT_EQ(-1, pattern_wrong(at, len, 1, 0));
	EXPECT_TRUE(all_bytes(self->area, at - self->area, POISON));
	EXPECT_TRUE(all_bytes(at + len, self->area + AREA - at - len, POISON));
}

/* As pread(2) finds the end, and an address that is not aligned. */
TEST_F(file, as_calls)
{
	int64_t end = lseek(self->fd, 0, SEEK_END), want;
	char *buffer = self->area + IO_PAGE;

	ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
	want = pread(self->fd, self->check, 3 * IO_PAGE, end - IO_PAGE);
	EXPECT_EQ(want, IO(by(NUMBER, read_entry(self->fd, buffer + 512, 3 * IO_PAGE,
						 end - IO_PAGE))).result);
	EXPECT_EQ(0, memcmp(self->check, buffer + 512, want));
	EXPECT_EQ(0, IO(by(NUMBER, read_entry(self->fd, buffer, IO_PAGE, end))).result);
	want = sys(pread(self->fd, self->check + 1, IO_PAGE, 0));
	EXPECT_EQ(want, IO(by(NUMBER, read_entry(self->fd, buffer + IO_PAGE + 1, IO_PAGE,
						 0))).result);
	want = sys(pwrite(self->fd, self->check + 3, 512, 0));
	EXPECT_EQ(want, IO(by(NUMBER, write_entry(self->fd, buffer + IO_PAGE + 3, 512,
						  0))).result);
}

/* Many in flight, of two buffers in turn, and some of none. */
TEST_F(file, many)
{
	struct kevent_change c[64];
	struct ukevent ev[64];
	unsigned int i;

	ASSERT_EQ(1, GIVE(1, self->check, SIZE));
	ASSERT_EQ(1, GIVE(2, self->check + 512, SIZE - 512));
	for (i = 0; i < 64; i++) {
		uint32_t at = i * IO_PAGE + 512;

		c[i] = by(i % 3, read_entry(self->fd, self->check + at, 3584, at));
		c[i].ring = i % 2;
	}
	ASSERT_EQ(64, changes(self->q.fd, c, 64));
	ASSERT_EQ(64, get(self->q.fd, ev, 64, 64, LONG_NS));
	for (i = 0; i < 64; i++) {
		EXPECT_EQ(0, c[i].result);
		EXPECT_EQ(3584, ev[i].result);
		EXPECT_TRUE(all_bytes(self->check + i * IO_PAGE, 512, POISON));
		EXPECT_EQ(-1, pattern_wrong(self->check + i * IO_PAGE + 512, 3584, 1,
					    i * IO_PAGE + 512));
	}
}

/* The same bytes go in and out again, in a chain, though the number is given away. */
TEST_F(file, chain)
{
	char *buffer = self->area + IO_PAGE + 512;
	struct kevent_change c[3];
	struct ukevent ev[3];
	int i;

	ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
	c[0] = by(NUMBER, read_entry(self->fd, buffer + 512, 8192, 4096));
	c[1] = by(NUMBER, write_entry(self->fd, buffer + 1024, 4096, 40960));
	c[2] = by(NUMBER, read_entry(self->fd, buffer + 16384, 4096, 40960));
	c[0].flags = KEVENT_LINK;
	c[1].flags = KEVENT_LINK;
	ASSERT_EQ(3, changes(self->q.fd, c, 3));
	EXPECT_EQ(1, empty(self->q.fd, NUMBER));
	ASSERT_EQ(3, get(self->q.fd, ev, 3, 3, LONG_NS));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(i ? 4096 : 8192, ev[i].result);
	EXPECT_EQ(-1, pattern_wrong(buffer + 16384, 4096, 1, 4096 + 512));
}

/* At the end of the file, where it is: by a worker with O_DIRECT too. */
TEST_F(file, append)
{
	char *buffer = self->area + IO_PAGE + 512;
	int64_t end = lseek(self->fd, 0, SEEK_END);
	struct kevent_change c;

	if (end != SIZE)
		SKIP(return, "a device has no end that moves");
	ASSERT_EQ(1, GIVE(NUMBER, buffer, REGISTERED));
	pattern_fill(buffer, 8192, 5, 0);
	c = by(NUMBER, write_entry(self->fd, buffer, 8192, 0));
	c.rw_flags = RWF_APPEND | RWF_DSYNC;
	EXPECT_EQ(8192, IO(c).result);
	EXPECT_EQ(end + 8192, lseek(self->fd, 0, SEEK_END));
	ASSERT_EQ(8192, pread(self->fd, self->check, 8192, end));
	EXPECT_EQ(-1, pattern_wrong(self->check, 8192, 5, 0));
}

/* What the device has goes on when the number, its memory and the file are gone. */
TEST_F(file, in_flight_without)
{
	char *memory = pages(2 * IO_PAGE);
	int fd = dup(self->fd);
	struct kevent_change c;
	struct ukevent ev;
	long locked;

	if (variant->storage != DISK)
		SKIP(return, "only the disk can be held");
	locked = locked_of(self->q.fd);
	ASSERT_EQ(1, GIVE(NUMBER, memory, 2 * IO_PAGE));
	pattern_fill(memory, 2 * IO_PAGE, 9, 0);
	c = variant->direct ? write_entry(fd, memory + 512, 4096, 4096) :
			      read_entry(fd, memory + 1, 5000, 4096);
	ASSERT_EQ(0, make_cold(self->fd));
	ASSERT_LE(0, dm_hold(FAULTY));
	EXPECT_EQ(0, START(by(NUMBER, c)));
	EXPECT_EQ(1, empty(self->q.fd, NUMBER));
	EXPECT_EQ(0, munmap(memory, 2 * IO_PAGE));
	EXPECT_EQ(memory, mmap(memory, 2 * IO_PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(memory, 0x5c, 2 * IO_PAGE);
	close(fd);
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(locked + 8, locked_of(self->q.fd));
	EXPECT_LE(0, dm_let_go(FAULTY));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(variant->direct ? 4096 : 5000, ev.result);
	EXPECT_TRUE(all_bytes(memory, 2 * IO_PAGE, 0x5c));
	EXPECT_TRUE(EVENTUALLY(locked_of(self->q.fd) == locked));
	if (!variant->direct)
		return;
	ASSERT_EQ(4096, pread(self->fd, self->check, 4096, 4096));
	EXPECT_EQ(-1, pattern_wrong(self->check, 4096, 9, 512));
}

/* A file system in user space gets and gives the right pages. */
TEST(fuse)
{
	struct fuse_server server = { };
	char *area = pages(AREA), *buffer = area + IO_PAGE + 100;
	int q, fd, n;

	ASSERT_EQ(0, fuse_start(&server));
	q = queue_open(1, 16);
	fd = open(FUSE_DIR "/file", O_RDWR | O_CLOEXEC);
	ASSERT_EQ(1, give(q, NUMBER, buffer, REGISTERED));
	for (n = 0; n < 5000; n += 499) {
		memset(area, POISON, AREA);
		EXPECT_EQ(9000, io_do(q, by(NUMBER, read_entry(fd, buffer + n, 9000,
							       n))).result);
		EXPECT_TRUE(all_bytes(area, buffer + n - area, POISON));
		EXPECT_EQ(-1, pattern_wrong(buffer + n, 9000, 1, n));
		EXPECT_TRUE(all_bytes(buffer + n + 9000, area + AREA - buffer - n - 9000,
				      POISON));
		EXPECT_EQ(9000, io_do(q, by(NUMBER, write_entry(fd, buffer + n, 9000,
								n))).result);
	}
	close(fd);
	close(q);
	fuse_stop(&server);
}

/* Files that are read in the caller, or make what they say. */
TEST_F(life, others)
{
	static const char *const paths[] = {
		"/dev/zero", "/dev/null", "/proc/sys/kernel/core_pattern",
		"/proc/self/mountinfo", "/sys/module/kevent/parameters/max_file_sources",
	};
	int64_t want, got;
	unsigned int i;
	int fd;

	ASSERT_EQ(1, GIVE(NUMBER, self->a + 100, 3 * IO_PAGE));
	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		memset(self->a, POISON, LIFE * IO_PAGE);
		memset(self->b, POISON, LIFE * IO_PAGE);
		fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		want = sys(pread(fd, self->b + 4000, 5000, 0));
		got = IO(by(NUMBER, read_entry(fd, self->a + 4000, 5000, 0))).result;
		close(fd);
		if (got == -EOPNOTSUPP) /* has a plain read alone */
			continue;
		EXPECT_EQ(want, got) TH_LOG("%s", paths[i]);
		EXPECT_EQ(0, memcmp(self->a, self->b, LIFE * IO_PAGE))
			TH_LOG("%s", paths[i]);
	}
	fd = eventfd(77, EFD_CLOEXEC);
	EXPECT_EQ(8, IO(by(NUMBER, read_entry(fd, self->a + IO_PAGE - 3, 8, 0))).result);
	EXPECT_EQ(77, *(self->a + IO_PAGE - 3));
	close(fd);
}

/* ------------------------------------------------------------------------ */
/* Files that must be waited for */

enum peer_type { PIPE, UNIX, TCP, PTY };

FIXTURE(peer) {
	struct queue q;
	int in, in_far, out, out_far;
	char *area;
};

FIXTURE_VARIANT(peer) {
	enum peer_type type;
	int flags;
};

FIXTURE_VARIANT_ADD(peer, pipe) { PIPE };
FIXTURE_VARIANT_ADD(peer, pipe_nonblocking) { PIPE, O_NONBLOCK };
FIXTURE_VARIANT_ADD(peer, unix) { UNIX };
FIXTURE_VARIANT_ADD(peer, tcp) { TCP };
FIXTURE_VARIANT_ADD(peer, tcp_nonblocking) { TCP, O_NONBLOCK };
FIXTURE_VARIANT_ADD(peer, pty) { PTY };

static int pair_of(enum peer_type type, int in[2], int out[2])
{
	struct termios t;

	if (type == PIPE)
		return pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC);
	if (type == UNIX && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in))
		return -1;
	if (type == TCP && tcp_pair(in))
		return -1;
	if (type == PTY) {
		if (openpty(&in[0], &in[1], NULL, NULL, NULL) || tcgetattr(in[1], &t))
			return -1;
		cfmakeraw(&t);
		tcsetattr(in[1], TCSANOW, &t);
	}
	out[0] = in[1];
	out[1] = in[0];
	return 0;
}

FIXTURE_SETUP(peer)
{
	int in[2] = { -1, -1 }, out[2];

	ASSERT_EQ(0, pair_of(variant->type, in, out));
	self->in = in[0];
	self->in_far = in[1];
	self->out = out[1];
	self->out_far = out[0];
	fcntl(self->in_far, F_SETFL, O_NONBLOCK);
	fcntl(self->out_far, F_SETFL, O_NONBLOCK);
	fcntl(self->in, F_SETFL, variant->flags);
	fcntl(self->out, F_SETFL, variant->flags);
	ASSERT_EQ(0, queue_make(&self->q, 2, 64));
	self->area = pages(4 * IO_PAGE);
	ASSERT_EQ(1, GIVE(NUMBER, self->area + 100, 3 * IO_PAGE));
}

FIXTURE_TEARDOWN(peer)
{
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	queue_free(&self->q);
}

/* Into three pages, and nothing beside. */
#define FROM 4000
#define MANY 1200

#define EXPECT_IN_AREA(seed, n) do {					\
	EXPECT_TRUE(all_bytes(self->area, FROM, POISON));		\
	EXPECT_EQ(-1, pattern_wrong(self->area + FROM, n, seed, 0));	\
	EXPECT_TRUE(all_bytes(self->area + FROM + (n),			\
			      4 * IO_PAGE - FROM - (n), POISON));	\
} while (0)

TEST_F(peer, read_at_once)
{
	char data[MANY];

	pattern_fill(data, MANY, 1, 0);
	ASSERT_EQ(MANY, write(self->in_far, data, MANY));
	nap_ns(SHORT_NS);
	EXPECT_EQ(MANY, IO(by(NUMBER, read_entry(self->in, self->area + FROM, 6000,
						 0))).result);
	EXPECT_IN_AREA(1, MANY);
}

TEST_F(peer, read_waits)
{
	struct ukevent ev;
	char data[MANY];

	ASSERT_EQ(0, START(by(NUMBER, read_entry(self->in, self->area + FROM, 6000, 0))));
	EXPECT_EQ(0, get_soon(self->q.fd));
	pattern_fill(data, MANY, 2, 0);
	ASSERT_EQ(MANY, write(self->in_far, data, MANY));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	/* A tty may give it in parts. */
	EXPECT_LT(0, ev.result);
	EXPECT_GE(MANY, ev.result);
	EXPECT_TRUE(variant->type == PTY || ev.result == MANY);
	EXPECT_TRUE(ev.flags & KEVENT_EV_WAITED);
	EXPECT_IN_AREA(2, ev.result);
}

TEST_F(peer, write_at_once)
{
	char *data = pages(IO_PAGE);
	int n = 0;

	pattern_fill(self->area + FROM, MANY, 3, 0);
	EXPECT_EQ(MANY, IO(by(NUMBER, write_entry(self->out, self->area + FROM, MANY,
						  0))).result);
	EXPECT_TRUE(EVENTUALLY(({
		ssize_t some = read(self->out_far, data + n, IO_PAGE - n);

		n += some > 0 ? some : 0;
		n >= MANY;
	})));
	EXPECT_EQ(MANY, n);
	EXPECT_EQ(-1, pattern_wrong(data, MANY, 3, 0));
}

/* Until nothing more is taken; how much that was. */
static size_t fill(int fd, int flags)
{
	static char byte[IO_PAGE];
	size_t total = 0;
	int idle = 0;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (idle < 50) {
		ssize_t n = write(fd, byte, sizeof(byte));

		if (n > 0) {
			total += n;
			idle = 0;
		} else {
			idle++;
			nap_ns(NSEC_PER_MSEC);
		}
	}
	fcntl(fd, F_SETFL, flags);
	return total;
}

TEST_F(peer, write_waits)
{
	size_t full = fill(self->out, variant->flags), got = 0;
	char *all = pages(full + IO_PAGE);
	int64_t result = 0;
	struct ukevent ev;

	pattern_fill(self->area + FROM, MANY, 4, 0);
	ASSERT_EQ(0, START(by(NUMBER, write_entry(self->out, self->area + FROM, MANY,
						  0))));
	EXPECT_TRUE(EVENTUALLY(({
		ssize_t n = read(self->out_far, all + got, full + IO_PAGE - got);

		got += n > 0 ? n : 0;
		if (!result && get(self->q.fd, &ev, 0, 1, 0) == 1)
			result = ev.result;
		n <= 0 && result && got >= full + result;
	})));
	EXPECT_LT(0, result);
	EXPECT_GE(MANY, result);
	EXPECT_EQ(full + result, got);
	EXPECT_EQ(-1, pattern_wrong(all + full, result, 4, 0));
}

TEST_F(peer, cancel)
{
	struct kevent_change c = by(NUMBER, read_entry(self->in, self->area + FROM, 10,
						       0));
	struct ukevent ev;

	ASSERT_EQ(0, change(self->q.fd, &c));
	EXPECT_EQ(0, cancel_id(self->q.fd, c.id));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(-ECANCELED, ev.result);
	ASSERT_EQ(2, write(self->in_far, "ab", 2));
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_TRUE(all_bytes(self->area, 4 * IO_PAGE, POISON));
}

/* ------------------------------------------------------------------------ */
/* How long a buffer lives */

#define WAIT_IN(buffer) \
	START(by(NUMBER, read_entry(self->pipe[0], buffer, 10, 0)))

/* The request has the memory that it was given, and that stays until it ends. */
TEST_F(life, replaced)
{
	struct ukevent ev;

	ASSERT_EQ(1, GIVE(NUMBER, self->a, LIFE * IO_PAGE));
	ASSERT_EQ(0, WAIT_IN(self->a + IO_PAGE - 1));
	ASSERT_EQ(1, GIVE(NUMBER, self->b, LIFE * IO_PAGE));
	EXPECT_EQ(-EFAULT, WAIT_IN(self->a));
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(2 * LIFE_KIB, LOCKED());
	ASSERT_EQ(3, write(self->pipe[1], "abc", 3));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(3, ev.result);
	EXPECT_EQ(0, memcmp(self->a + IO_PAGE - 1, "abc\xa5", 4));
	EXPECT_TRUE(EVENTUALLY(LOCKED() == LIFE_KIB));
	EXPECT_EQ(self->pins + LIFE, pins());
	ASSERT_EQ(3, write(self->pipe[1], "def", 3));
	EXPECT_EQ(3, IO(by(NUMBER, read_entry(self->pipe[0], self->b, 10, 0))).result);
	EXPECT_EQ(0, memcmp(self->b, "def\xa5", 4));
}

TEST_F(life, emptied)
{
	struct ukevent ev;
	int i;

	ASSERT_EQ(1, GIVE(NUMBER, self->a, LIFE * IO_PAGE));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, WAIT_IN(self->a + i * 100));
	ASSERT_EQ(1, empty(self->q.fd, NUMBER));
	EXPECT_TRUE(names_nothing(self->q.fd, NUMBER, self->file, self->a));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, get_soon(self->q.fd));
		EXPECT_EQ(LIFE_KIB, LOCKED());
		EXPECT_EQ(self->pins + LIFE, pins());
		ASSERT_EQ(1, write(self->pipe[1], "x", 1));
		ASSERT_EQ(1, get_one(self->q.fd, &ev));
		EXPECT_EQ(1, ev.result);
	}
	EXPECT_EQ('x', self->a[0]);
	EXPECT_EQ('x', self->a[100]);
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 0));
	EXPECT_EQ(self->pins, pins());
}

TEST_F(life, cancelled)
{
	struct ukevent ev;

	ASSERT_EQ(1, GIVE(NUMBER, self->a, LIFE * IO_PAGE));
	ASSERT_EQ(0, WAIT_IN(self->a));
	ASSERT_EQ(1, empty(self->q.fd, NUMBER));
	EXPECT_EQ(1, cancel_file(self->q.fd, self->pipe[0]));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(-ECANCELED, ev.result);
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 0));
}

/* The address is a name for what was there; what is there now is not touched. */
TEST_F(life, unmapped)
{
	size_t size = LIFE * IO_PAGE;

	ASSERT_EQ(1, GIVE(NUMBER, self->a, size));
	pattern_fill(self->a, size, 6, 0);
	ASSERT_EQ(0, munmap(self->a, size));
	EXPECT_EQ(5000, IO(by(NUMBER, write_entry(self->file, self->a + 77, 5000,
						  0))).result);
	ASSERT_EQ(self->a, mmap(self->a, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(self->a, 0x5c, size);
	EXPECT_EQ(5000, IO(by(NUMBER, read_entry(self->file, self->a + 5077, 5000,
						 0))).result);
	ASSERT_EQ(3, write(self->pipe[1], "abc", 3));
	EXPECT_EQ(3, IO(by(NUMBER, read_entry(self->pipe[0], self->a, 3, 0))).result);
	EXPECT_TRUE(all_bytes(self->a, size, 0x5c));
	EXPECT_EQ(10077, IO(by(NUMBER, write_entry(self->file, self->a, 10077,
						   0))).result);
	ASSERT_EQ(10077, pread(self->file, self->b, 10077, 0));
	EXPECT_EQ(0, memcmp(self->b, "abc", 3));
	EXPECT_EQ(-1, pattern_wrong(self->b + 3, 5074, 6, 3));
	EXPECT_EQ(-1, pattern_wrong(self->b + 5077, 5000, 6, 77));
}

/* What is protected afterwards can be read into all the same. */
TEST_F(life, protected)
{
	ASSERT_EQ(1, GIVE(NUMBER, self->a, IO_PAGE));
	ASSERT_EQ(0, mprotect(self->a, IO_PAGE, PROT_READ));
	ASSERT_EQ(3, write(self->pipe[1], "abc", 3));
	EXPECT_EQ(3, IO(by(NUMBER, read_entry(self->pipe[0], self->a, 3, 0))).result);
	EXPECT_EQ(0, memcmp(self->a, "abc", 3));
}

/* A child's number names its parent's memory, of which it has a copy. */
TEST_F(life, forked)
{
	pid_t child;

	ASSERT_EQ(1, GIVE(NUMBER, self->a, LIFE * IO_PAGE));
	child = fork();
	if (!child) {
		if (write(self->pipe[1], "abc", 3) != 3 ||
		    IO(by(NUMBER, read_entry(self->pipe[0], self->a, 3, 0))).result != 3)
			_exit(1);
		_exit(all_bytes(self->a, LIFE * IO_PAGE, POISON) ? 0 : 2);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(0, memcmp(self->a, "abc\xa5", 4));
	/* It is still what the parent has, too. */
	strcpy(self->a, "parent");
	EXPECT_EQ(6, IO(by(NUMBER, write_entry(self->file, self->a, 6, 0))).result);
	ASSERT_EQ(6, pread(self->file, self->b, 6, 0));
	EXPECT_EQ(0, memcmp(self->b, "parent", 6));
}

/* Another process may use a number that was given after it was born. */
TEST_F(life, passed)
{
	int sockets[2], q;
	void *at[2];
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	child = fork();
	if (!child) {
		close(self->q.fd);
		q = receive_fd(sockets[1]);
		if (q < 0 || read(sockets[1], at, sizeof(at)) != sizeof(at))
			_exit(1);
		if (write(self->pipe[1], "abc", 3) != 3 ||
		    io_do(q, by(1, read_entry(self->pipe[0], at[0], 3, 0))).result != 3)
			_exit(2);
		/* And give one, which outlives it. */
		pattern_fill(self->b, IO_PAGE, 8, 0);
		_exit(give(q, 2, self->b, IO_PAGE) == 1 ? 0 : 3);
	}
	at[0] = pages(3 * IO_PAGE);
	ASSERT_EQ(1, GIVE(1, at[0], 3 * IO_PAGE));
	ASSERT_EQ(0, send_fd(sockets[0], self->q.fd));
	ASSERT_EQ(sizeof(at), write(sockets[0], at, sizeof(at)));
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(0, memcmp(at[0], "abc\xa5", 4));
	EXPECT_EQ(IO_PAGE, IO(by(2, write_entry(self->file, self->b, IO_PAGE,
						0))).result);
	EXPECT_TRUE(all_bytes(self->b, IO_PAGE, POISON));
	ASSERT_EQ(IO_PAGE, pread(self->file, at[0], IO_PAGE, 0));
	EXPECT_EQ(-1, pattern_wrong(at[0], IO_PAGE, 8, 0));
	close(sockets[0]);
	close(sockets[1]);
}

/* The close waits for the request, and then for the memory. */
TEST_F(life, closed)
{
	unsigned int round;
	int q;

	for (round = 0; round < scaled(50); round++) {
		q = queue_open(1, 16);
		ASSERT_LE(0, q);
		ASSERT_EQ(1, give(q, NUMBER, self->a, LIFE * IO_PAGE));
		ASSERT_EQ(0, start(q, by(NUMBER, read_entry(self->pipe[0], self->a, 1,
							    0))));
		if (round % 2)
			ASSERT_EQ(1, empty(q, NUMBER));
		EXPECT_EQ(self->pins + LIFE, pins());
		close(q);
		EXPECT_EQ(self->pins, pins());
	}
	/* Nobody took what nobody waits for any more. */
	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	EXPECT_EQ(1, read(self->pipe[0], self->a, 1));
}

enum end { KILLED, EXITS, EXECS };

/* In a child: has a queue of its own, and all that can be in it. */
static void hold_and_end(FIXTURE_DATA(life) *self, int tell, enum end end)
{
	int q = queue_open(1, 16);

	if (give(q, 1, self->a, LIFE * IO_PAGE) != 1 ||
	    give(q, 2, self->b, LIFE * IO_PAGE) != 1 ||
	    start(q, by(1, read_entry(self->pipe[0], self->a, 1, 0))) ||
	    start(q, by(2, read_entry(self->pipe[0], self->b, 1, 0))) ||
	    empty(q, 2) != 1 || write(tell, "g", 1) != 1)
		_exit(1);
	if (end == KILLED)
		pause();
	if (end == EXECS)
		execl("/bin/sleep", "sleep", "1000", NULL);
	_exit(0);
}

static void end_of_owner(struct __test_metadata *_metadata, FIXTURE_DATA(life) *self,
			 enum end end)
{
	int tell[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe2(tell, O_CLOEXEC));
	child = fork();
	if (!child)
		hold_and_end(self, tell[1], end);
	ASSERT_EQ(1, read(tell[0], &byte, 1));
	if (end == KILLED) {
		EXPECT_EQ(self->pins + 2 * LIFE, pins());
		kill(child, SIGKILL);
	}
	if (end == EXECS) {
		EXPECT_TRUE(EVENTUALLY(pins() == self->pins));
		EXPECT_EQ(0, waitpid(child, NULL, WNOHANG));
		kill(child, SIGKILL);
	}
	EXPECT_EQ(end == EXITS ? 0 : 128 + SIGKILL, reap(child));
	EXPECT_EQ(self->pins, pins());
	close(tell[0]);
	close(tell[1]);
}

TEST_F(life, owner_killed)
{
	end_of_owner(_metadata, self, KILLED);
}

TEST_F(life, owner_exits)
{
	end_of_owner(_metadata, self, EXITS);
}

TEST_F(life, owner_execs)
{
	end_of_owner(_metadata, self, EXECS);
}

/* ------------------------------------------------------------------------ */
/* Who pays */

#define LIMIT (1UL << 20)

static int become_user(uid_t uid, rlim_t limit)
{
	struct rlimit r = { limit, limit };

	if (setrlimit(RLIMIT_MEMLOCK, &r) || chmod(KEVENT_DEVICE, 0666) ||
	    setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		return -1;
	return prctl(PR_SET_DUMPABLE, 1); /* to see its own fdinfo */
}

#define MUST(condition) do {						\
	if (!(condition)) {						\
		ksft_print_msg("line %d: %s\n", __LINE__, #condition);	\
		_exit(1);						\
	}								\
} while (0)

/* Up to the limit and not past it; what is let go can be taken again. */
TEST_F(life, limit)
{
	pid_t child = fork();

	if (!child) {
		char *memory = pages(2 * LIMIT), *page = pages(IO_PAGE);
		long locked;
		size_t room;
		int q;

		MUST(become_user(54331, LIMIT) == 0);
		q = queue_open(1, 64);
		locked = locked_of(q);
		room = LIMIT - locked * 1024;
		MUST(give(q, 1, memory, room + 1) == -ENOMEM);
		MUST(give(q, 1, memory + 1, room) == -ENOMEM);
		MUST(give(q, 1, memory, GIB) == -ENOMEM);
		MUST(locked_of(q) == locked);
		MUST(names_nothing(q, 1, self->file, memory));
		/* An address that is bad costs nothing either. */
		MUST(give(q, 1, NULL, room) == -EFAULT);
		MUST(locked_of(q) == locked);
		MUST(give(q, 1, memory, room) == 1);
		MUST(locked_of(q) == LIMIT / 1024);
		MUST(give(q, 2, page, 1) == -ENOMEM);
		MUST(queue_open(1, 64) == -ENOMEM);
		/* What was there is what is there. */
		MUST(io_do(q, by(1, write_entry(self->file, memory + room - 9, 9,
						0))).result == 9);
		MUST(empty(q, 1) == 1);
		MUST(EVENTUALLY(locked_of(q) == locked));
		MUST(give(q, 2, memory, room) == 1);
		close(q);
		q = queue_open(1, 64);
		MUST(give(q, 2, memory, room) == 1);
		_exit(0);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(self->pins, pins());
}

/* What nobody uses any more does not count any more. */
TEST_F(life, limit_at_once)
{
	pid_t child = fork();

	if (!child) {
		char *memory = pages(LIMIT);
		int q, i;

		MUST(become_user(54335, LIMIT) == 0);
		q = queue_open(1, 64);
		for (i = 0; i < 20; i++) {
			MUST(give(q, 1, memory, LIMIT * 5 / 8) == 1);
			MUST(empty(q, 1) == 1);
		}
		_exit(0);
	}
	EXPECT_EQ(0, reap(child));
}

/* What a request still uses counts as well. */
TEST_F(life, limit_in_use)
{
	pid_t child = fork();

	if (!child) {
		char *memory = pages(2 * LIMIT);
		struct ukevent ev;
		size_t room;
		int q;

		MUST(become_user(54332, LIMIT) == 0);
		q = queue_open(1, 64);
		room = LIMIT - locked_of(q) * 1024;
		MUST(give(q, 1, memory, room) == 1);
		MUST(start(q, by(1, read_entry(self->pipe[0], memory, 1, 0))) == 0);
		MUST(empty(q, 1) == 1);
		nap_ns(5 * SHORT_NS);
		MUST(give(q, 1, memory, 1) == -ENOMEM);
		MUST(write(self->pipe[1], "x", 1) == 1);
		MUST(get_one(q, &ev) == 1 && ev.result == 1);
		MUST(EVENTUALLY(give(q, 1, memory, room) == 1));
		_exit(0);
	}
	EXPECT_EQ(0, reap(child));
}

/* Some of an array fit. */
TEST_F(life, limit_in_array)
{
	pid_t child = fork();

	if (!child) {
		struct kevent_buffer array[8];
		char *memory = pages(LIMIT);
		int q, i;

		for (i = 0; i < 8; i++)
			array[i] = buffer_at(memory, LIMIT / 4);
		MUST(become_user(54333, LIMIT) == 0);
		q = queue_open(1, 64);
		MUST(buffers(q, 1, array, 8) == 3);
		MUST(buffers(q, 4, array, 5) == -ENOMEM);
		MUST(io_do(q, by(3, write_entry(self->file, memory, 9, 0))).result == 9);
		MUST(names_nothing(q, 4, self->file, memory));
		_exit(0);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(self->pins, pins());
}

/* The opener's privilege and the opener's account, whoever makes the call. */
TEST_F(life, limit_of_opener)
{
	pid_t child = fork();

	if (!child) {
		MUST(become_user(54334, 0) == 0);
		MUST(GIVE(NUMBER, self->a, LIFE * IO_PAGE) == 1);
		_exit(0);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(LIFE_KIB, LOCKED());
}

/* ------------------------------------------------------------------------ */
/* All at once */

#define RACE (4 * IO_PAGE)
#define PIECE (2 * IO_PAGE - 100)	/* in three pages */

struct race {
	int q;
	char *fixed;		/* where memory comes and goes */
	char *steady;
	int stop;
	uint64_t given;
};

struct submitter {
	struct race *race;
	unsigned int ring;
	int file, pipe[2];
	uint64_t submitted, refused, ended;
	const char *wrong;
};

/* New memory, filled with one byte, at the same address as the one before. */
static void *race_give(void *arg)
{
	struct race *r = arg;
	unsigned int byte = 0;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		if (mmap(r->fixed, RACE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_FIXED, -1, 0) != r->fixed)
			return "mmap";
		memset(r->fixed, ++byte, RACE);
		if (give(r->q, NUMBER, r->fixed, RACE) != 1)
			return "give";
		r->given++;
	}
	return NULL;
}

static void *race_empty(void *arg)
{
	struct race *r = arg;
	unsigned int i;

	for (i = 0; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED); i++) {
		if (give(r->q, NUMBER, r->steady, i % 2 ? RACE : 0) != 1)
			return "empty";
		nap_ns(mix(i) % 2 * NSEC_PER_MSEC);
	}
	return NULL;
}

/* Submits, and counts it if it was taken. */
static int race_submit(struct submitter *s, struct kevent_change c)
{
	int result;

	c.ring = s->ring;
	result = change(s->race->q, &c);
	if (result && result != -EFAULT) {
		s->wrong = "submit";
		return 0;
	}
	__atomic_fetch_add(result ? &s->refused : &s->submitted, 1, __ATOMIC_RELAXED);
	return !result;
}

static void race_collect(struct submitter *s, unsigned int n)
{
	struct ukevent ev[2];
	struct kevent_get g = get_arg(ev, n, 2, LONG_NS);
	unsigned int i;

	g.ring = s->ring;
	if (n && get_run(s->race->q, &g) != (int)n)
		s->wrong = "number of events";
	for (i = 0; i < n; i++)
		if (ev[i].result != (ev[i].kind == KEVENT_KIND_WRITE ? PIECE : 1))
			s->wrong = "result";
	s->ended += n;
}

/* All that a request wrote is of one buffer. */
static int race_whole(struct submitter *s)
{
	static __thread char got[PIECE];
	ssize_t n = pread(s->file, got, PIECE, 0);

	return n == 0 || (n == PIECE && all_bytes(got, PIECE, got[0]));
}

static void *race_use(void *arg)
{
	struct submitter *s = arg;
	unsigned int i, n;
	char byte;

	for (i = s->ring; !__atomic_load_n(&s->race->stop, __ATOMIC_RELAXED); i++) {
		char *at = i % 4 < 3 ? s->race->fixed : s->race->steady;

		n = race_submit(s, by(NUMBER, read_entry(s->pipe[0], at + RACE - 1, 1, 0)));
		if (!n)
			sched_yield();
		n += race_submit(s, by(NUMBER, write_entry(s->file, at + 50, PIECE, 0)));
		if (write(s->pipe[1], "x", 1) != 1)
			s->wrong = "write";
		race_collect(s, n);
		/* If no request took it, we do. */
		fcntl(s->pipe[0], F_SETFL, O_NONBLOCK);
		if (read(s->pipe[0], &byte, 1) < 0)
			byte = 0;
		fcntl(s->pipe[0], F_SETFL, 0);
		if (!race_whole(s))
			s->wrong = "two buffers in one request";
		if (s->wrong)
			return NULL;
	}
	return NULL;
}

static uint64_t race_count(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* Numbers are given, taken away and used; everything is accounted for. */
TEST_F(life, race)
{
	struct race r = { .q = self->q.fd, .fixed = pages(RACE), .steady = pages(RACE) };
	struct submitter s[2] = { { .race = &r, .ring = 0 }, { .race = &r, .ring = 1 } };
	pthread_t threads[4];
	void *result;
	int i;

	for (i = 0; i < 2; i++) {
		s[i].file = storage_open(TMPFS, 0, 0, 1);
		ASSERT_EQ(0, pipe2(s[i].pipe, O_CLOEXEC));
	}
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, race_give, &r));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, race_empty, &r));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[2 + i], NULL, race_use, &s[i]));
	nap_ns(scaled(2000) * NSEC_PER_MSEC);
	EXPECT_TRUE(EVENTUALLY(race_count(&s[0].submitted) && race_count(&s[1].submitted)));
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, join(threads[i], &result));
		EXPECT_EQ(NULL, result) TH_LOG("%s", (char *)result);
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(NULL, s[i].wrong) TH_LOG("%s", s[i].wrong);
		EXPECT_EQ(s[i].submitted, s[i].ended);
		ksft_print_msg("%llu given; %llu of %llu taken\n",
			       (unsigned long long)r.given,
			       (unsigned long long)s[i].submitted,
			       (unsigned long long)(s[i].submitted + s[i].refused));
		close(s[i].file);
		close(s[i].pipe[0]);
		close(s[i].pipe[1]);
	}
	EXPECT_EQ(1, empty(self->q.fd, NUMBER));
	EXPECT_TRUE(EVENTUALLY(LOCKED() == 0));
	EXPECT_EQ(self->pins, pins());
	EXPECT_EQ(0, get_soon(self->q.fd));
}

/* Killed anywhere; nothing stays, and nothing is written after wait(2). */
TEST_F(life, killed_at_random)
{
	char *shared = shared_pages(RACE);
	unsigned int round;

	for (round = 0; round < scaled(40); round++) {
		pid_t child;

		/* The last one's write may have ended in the middle. */
		ASSERT_EQ(0, ftruncate(self->file, 0));
		child = fork();
		if (!child) {
			struct race r = { .q = queue_open(2, 64), .steady = shared,
					  .fixed = pages(RACE) };
			struct submitter s = { .race = &r, .file = self->file };
			pthread_t thread;

			if (pipe2(s.pipe, O_CLOEXEC) ||
			    pthread_create(&thread, NULL, race_give, &r) ||
			    pthread_create(&thread, NULL, race_empty, &r))
				_exit(1);
			race_use(&s);
			_exit(2);
		}
		nap_ns((2 + mix(round) % 16) * NSEC_PER_MSEC);
		kill(child, SIGKILL);
		ASSERT_EQ(128 + SIGKILL, reap(child));
		EXPECT_EQ(self->pins, pins());
		memset(shared, 0x5c, RACE);
		sched_yield();
		EXPECT_TRUE(all_bytes(shared, RACE, 0x5c));
	}
	munmap(shared, RACE);
}

/*
 * Killed while much is being pinned, page by page: the call ends early (EINTR, which
 * nobody lives to see), and so does the process; nothing stays pinned.
 */
TEST_F(life, killed_in_registration)
{
	const size_t size = 64 * MIB;
	int *within = shared_pages(IO_PAGE);
	unsigned int round, caught = 0;

	for (round = 0; round < scaled(40); round++) {
		pid_t child;

		*within = 0;
		child = fork();
		if (!child) {
			for (;;) {
				char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
						    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

				__atomic_store_n(within, 1, __ATOMIC_RELEASE);
				if (give(self->q.fd, NUMBER, memory, size) != 1)
					_exit(1);
				__atomic_store_n(within, 2, __ATOMIC_RELEASE);
				empty(self->q.fd, NUMBER);
				munmap(memory, size);
			}
		}
		EXPECT_TRUE(EVENTUALLY(__atomic_load_n(within, __ATOMIC_ACQUIRE)));
		nap_ns(mix(round) % 8 * NSEC_PER_MSEC);
		kill(child, SIGKILL);
		caught += __atomic_load_n(within, __ATOMIC_ACQUIRE) == 1;
		ASSERT_EQ(128 + SIGKILL, reap(child));
		/* What was registered in time is the queue's. */
		empty(self->q.fd, NUMBER);
		EXPECT_TRUE(EVENTUALLY(LOCKED() == 0));
		EXPECT_TRUE(EVENTUALLY(self->pins == pins()));
	}
	EXPECT_LT(0, caught);
	munmap(within, IO_PAGE);
}

TEST_HARNESS_MAIN
