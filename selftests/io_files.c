// SPDX-License-Identifier: GPL-2.0
/* One contract for reads, writes and syncs, on every kind of storage. */
#include "io_test.h"

#define SIZE (512 * 1024UL)	/* of the part that is used */
#define DEPTH 64

FIXTURE(file) {
	struct queue q;
	int fd;
	char *buffer;		/* SIZE bytes */
	char *other;
	uint32_t unit;		/* offsets and lengths are multiples of it */
	int64_t end;
};

FIXTURE_VARIANT(file) {
	enum storage storage;
	int direct;
	int regular;
	int cached;		/* what is in the page cache is copied at once */
};

#define FILE_VARIANT(name, ...)						\
	FIXTURE_VARIANT_ADD(file, name) { __VA_ARGS__ }

FILE_VARIANT(tmpfs, .storage = TMPFS, .regular = 1);
FILE_VARIANT(ext4, .storage = EXT4, .regular = 1, .cached = 1);
FILE_VARIANT(ext4_direct, .storage = EXT4, .regular = 1, .direct = O_DIRECT);
FILE_VARIANT(disk, .storage = DISK, .cached = 1);
FILE_VARIANT(disk_direct, .storage = DISK, .direct = O_DIRECT);
FILE_VARIANT(loop, .storage = LOOP, .cached = 1);
FILE_VARIANT(loop_direct, .storage = LOOP, .direct = O_DIRECT);
FILE_VARIANT(null_blk, .storage = NULLB, .cached = 1);
FILE_VARIANT(null_blk_direct, .storage = NULLB, .direct = O_DIRECT);

FIXTURE_SETUP(file)
{
	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	self->fd = storage_open(variant->storage, variant->direct, SIZE, 1);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, access_later(self->fd));
	ASSERT_EQ(0, queue_make(&self->q, 2, 256));
	self->buffer = pages(SIZE);
	self->other = pages(SIZE);
	self->unit = variant->direct ? IO_PAGE : 1;
	self->end = lseek(self->fd, 0, SEEK_END);
	ASSERT_LE(SIZE, self->end);
}

FIXTURE_TEARDOWN(file)
{
	close(self->fd);
	queue_free(&self->q);
}

#define IO(c) io_do(self->q.fd, (c))

/* Whether it went the way that the manual names for such a file. */
static int right_way(const FIXTURE_VARIANT(file) *v, uint32_t flags, int write)
{
	if (v->direct)
		return (flags & ~KEVENT_EV_WORKER) == KEVENT_EV_DIRECT;
	if (write)
		return flags == KEVENT_EV_WORKER;
	/* Some file systems of some kernels have no nonblocking read. */
	return flags == KEVENT_EV_INLINE ||
	       (!v->cached && flags == KEVENT_EV_WORKER);
}

#define EXPECT_WAY(o, write)						\
	EXPECT_TRUE(right_way(variant, (o).flags, write))		\
		TH_LOG("flags %#x", (o).flags)

static const struct { uint32_t offset, len; } spans[] = {
	{ 0, 1 }, { 0, 4096 }, { 4096, 4096 }, { 1, 4095 }, { 4095, 2 },
	{ 8192, 65536 }, { 12345, 54321 }, { 0, SIZE }, { SIZE - 4096, 4096 },
};

#define EACH_SPAN(i)							\
	for (i = 0; i < ARRAY_SIZE(spans); i++)				\
		if (spans[i].offset % self->unit == 0 &&		\
		    spans[i].len % self->unit == 0)

/* Each byte that was there, and none beside. */
TEST_F(file, read)
{
	unsigned int i;

	EACH_SPAN(i) {
		uint32_t at = spans[i].offset, len = spans[i].len;
		struct outcome o;

		memset(self->buffer, POISON, SIZE);
		o = IO(read_entry(self->fd, self->buffer, len, at));
		EXPECT_EQ(len, o.result);
		EXPECT_WAY(o, 0);
		EXPECT_EQ(-1, pattern_wrong(self->buffer, len, 1, at));
		EXPECT_TRUE(all_bytes(self->buffer + len, SIZE - len, POISON));
	}
}

/* What pread(2) finds then, and nothing around it has changed. */
TEST_F(file, write)
{
	unsigned int i;

	EACH_SPAN(i) {
		uint32_t at = spans[i].offset, len = spans[i].len;
		struct outcome o;

		pattern_fill(self->buffer, SIZE, 1, 0);
		ASSERT_EQ(SIZE, pwrite(self->fd, self->buffer, SIZE, 0));
		pattern_fill(self->buffer, len, 2 + i, at);
		o = IO(write_entry(self->fd, self->buffer, len, at));
		EXPECT_EQ(len, o.result);
		EXPECT_WAY(o, 1);
		ASSERT_EQ(SIZE, pread(self->fd, self->other, SIZE, 0));
		EXPECT_EQ(-1, pattern_wrong(self->other, at, 1, 0));
		EXPECT_EQ(-1, pattern_wrong(self->other + at, len, 2 + i, at));
		EXPECT_EQ(-1, pattern_wrong(self->other + at + len,
					    SIZE - at - len, 1, at + len));
	}
}

/* What is not in the page cache is read by a worker, in whole or the rest. */
TEST_F(file, cold)
{
	struct outcome o;

	ASSERT_EQ(0, make_cold(self->fd));
	o = IO(read_entry(self->fd, self->buffer, SIZE, 0));
	EXPECT_EQ(SIZE, o.result);
	EXPECT_TRUE(variant->cached ? o.flags == KEVENT_EV_WORKER :
				      right_way(variant, o.flags, 0));
	EXPECT_EQ(-1, pattern_wrong(self->buffer, SIZE, 1, 0));

	ASSERT_EQ(0, make_cold(self->fd));
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(IO_PAGE, pread(self->fd, self->other, IO_PAGE, 0));
	memset(self->buffer, POISON, SIZE);
	o = IO(read_entry(self->fd, self->buffer + 512, 65536, 0));
	EXPECT_EQ(65536, o.result);
	EXPECT_TRUE(variant->cached ? o.flags == KEVENT_EV_WORKER :
				      right_way(variant, o.flags, 0));
	EXPECT_EQ(-1, pattern_wrong(self->buffer + 512, 65536, 1, 0));
	EXPECT_TRUE(all_bytes(self->buffer, 512, POISON));
}

/* Another descriptor's page cache and this one's way agree. */
TEST_F(file, coherent)
{
	int buffered = open(storage_path(variant->storage), O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, buffered);
	pattern_fill(self->buffer, SIZE, 7, 0);
	ASSERT_EQ(SIZE, pwrite(buffered, self->buffer, SIZE, 0));
	memset(self->buffer, POISON, SIZE);
	EXPECT_EQ(SIZE, IO(read_entry(self->fd, self->buffer, SIZE, 0)).result);
	EXPECT_EQ(-1, pattern_wrong(self->buffer, SIZE, 7, 0));
	pattern_fill(self->buffer, SIZE, 8, 0);
	EXPECT_EQ(SIZE, IO(write_entry(self->fd, self->buffer, SIZE, 0)).result);
	ASSERT_EQ(SIZE, pread(buffered, self->other, SIZE, 0));
	EXPECT_EQ(-1, pattern_wrong(self->other, SIZE, 8, 0));
	close(buffered);
}

/* Pieces of odd sizes and places, one of them empty. */
TEST_F(file, vectors)
{
	struct iovec iov[6];
	uint32_t unit = self->unit, total = 0, at = 2 * IO_PAGE, i;
	static const uint32_t lens[] = { 1, 3, 0, 7, 2, 5 };
	static const uint32_t odd[] = { 1, 17, 0, 4097, 512, 10000 };
	struct outcome o;
	char *p = self->buffer;

	for (i = 0; i < ARRAY_SIZE(iov); i++) {
		iov[i].iov_base = p;
		iov[i].iov_len = unit == 1 ? odd[i] : lens[i] * unit;
		total += iov[i].iov_len;
		p += iov[i].iov_len + (unit == 1 ? 13 : IO_PAGE);
	}
	o = IO(io_entry(KEVENT_KIND_READV, self->fd, iov, 6, at));
	EXPECT_EQ(total, o.result);
	EXPECT_WAY(o, 0);
	ASSERT_EQ(total, preadv(self->fd, (struct iovec[]){ { self->other, total } },
				1, at));
	for (i = 0, p = self->other; i < 6; p += iov[i].iov_len, i++)
		EXPECT_EQ(0, memcmp(p, iov[i].iov_base, iov[i].iov_len));

	for (i = 0; i < 6; i++)
		memset(iov[i].iov_base, 'a' + i, iov[i].iov_len);
	o = IO(io_entry(KEVENT_KIND_WRITEV, self->fd, iov, 6, at));
	EXPECT_EQ(total, o.result);
	EXPECT_WAY(o, 1);
	ASSERT_EQ(SIZE, pread(self->fd, self->other, SIZE, 0));
	for (i = 0, p = self->other + at; i < 6; p += iov[i].iov_len, i++)
		EXPECT_TRUE(all_bytes(p, iov[i].iov_len, 'a' + i));
	EXPECT_EQ(-1, pattern_wrong(self->other, at, 1, 0));
	EXPECT_EQ(-1, pattern_wrong(p, SIZE - at - total, 1, at + total));
}

/* The array and the buffer's bytes are read during submission or pinned. */
TEST_F(file, most_vectors)
{
	struct iovec *iov = pages(1024 * sizeof(*iov));
	uint32_t len = variant->direct ? 512 : 111, i;
	struct outcome o;

	for (i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ self->buffer + i % 512 * 1024, len };
	for (i = 0; i < 512; i++)
		iov[i].iov_base = self->buffer + i * len;
	o = IO(io_entry(KEVENT_KIND_READV, self->fd, iov, 512, 0));
	EXPECT_EQ(512 * len, o.result);
	EXPECT_EQ(-1, pattern_wrong(self->buffer, 512 * len, 1, 0));
	o = IO(io_entry(KEVENT_KIND_READV, self->fd, iov, 1024, 0));
	EXPECT_EQ(1024 * len, o.result);
}

/* Where the file ends, and behind. */
TEST_F(file, end)
{
	static const int64_t from[] = { -8192, -4096, -1, 0, 1, 4096, 1 << 30 };
	uint32_t i, k, len;

	for (i = 0; i < ARRAY_SIZE(from); i++)
		for (k = 0; k < 2; k++) {
			int64_t at = self->end + from[i];
			ssize_t want;

			len = k ? 3 * IO_PAGE : IO_PAGE;
			memset(self->other, POISON, 3 * IO_PAGE);
			memset(self->buffer, POISON, 3 * IO_PAGE);
			want = pread(self->fd, self->other, len, at);
			if (want < 0)
				want = -errno;
			EXPECT_EQ(want, IO(read_entry(self->fd, self->buffer, len,
						      at)).result)
				TH_LOG("read of %u at end + %lld", len,
				       (long long)from[i]);
			EXPECT_EQ(0, memcmp(self->buffer, self->other,
					    3 * IO_PAGE));
		}
}

TEST_F(file, write_end)
{
	static const int64_t from[] = { -4096, 0, 4096 };
	struct outcome o;
	uint32_t i;

	for (i = 0; i < ARRAY_SIZE(from); i++) {
		int64_t at = self->end + from[i];
		ssize_t want = pwrite(self->fd, self->other, 2 * IO_PAGE, at);

		if (want < 0)
			want = -errno;
		if (variant->regular)
			ASSERT_EQ(0, ftruncate(self->fd, self->end));
		o = IO(write_entry(self->fd, self->other, 2 * IO_PAGE, at));
		EXPECT_EQ(want, o.result)
			TH_LOG("write at end + %lld", (long long)from[i]);
		if (variant->regular) {
			EXPECT_EQ(at + 2 * IO_PAGE,
				  lseek(self->fd, 0, SEEK_END));
			ASSERT_EQ(0, ftruncate(self->fd, self->end));
		}
	}
}

/* At the end, wherever the offset points. */
TEST_F(file, append)
{
	struct iovec iov = { self->buffer, IO_PAGE };
	struct kevent_change c;
	uint32_t i;

	if (!variant->regular) {
		c = write_entry(self->fd, self->buffer, IO_PAGE, 0);
		c.rw_flags = RWF_APPEND;
		EXPECT_EQ(sys(pwritev2(self->fd, &iov, 1, 0, RWF_APPEND)),
			  IO(c).result);
		return;
	}
	for (i = 0; i < 4; i++) {
		if (i == 2)
			ASSERT_EQ(0, fcntl(self->fd, F_SETFL,
					   O_APPEND | variant->direct));
		pattern_fill(self->buffer, IO_PAGE, 9, SIZE + i * IO_PAGE);
		c = write_entry(self->fd, self->buffer, IO_PAGE, 0);
		c.rw_flags = i < 2 ? RWF_APPEND : 0;
		EXPECT_EQ(IO_PAGE, IO(c).result);
		EXPECT_EQ(SIZE + (i + 1) * IO_PAGE,
			  lseek(self->fd, 0, SEEK_END));
	}
	ASSERT_EQ(SIZE, pread(self->fd, self->other, SIZE, 0));
	EXPECT_EQ(-1, pattern_wrong(self->other, SIZE, 1, 0));
	ASSERT_EQ(4 * IO_PAGE, pread(self->fd, self->other, SIZE, SIZE));
	EXPECT_EQ(-1, pattern_wrong(self->other, 4 * IO_PAGE, 9, SIZE));
}

TEST_F(file, flags_and_syncs)
{
	static const uint32_t rw_flags[] = { RWF_DSYNC, RWF_SYNC };
	struct outcome o;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		struct kevent_change c = write_entry(self->fd, self->buffer,
						     IO_PAGE, 0);

		c.rw_flags = rw_flags[i];
		EXPECT_EQ(IO_PAGE, IO(c).result);
		o = IO(io_entry(i ? KEVENT_KIND_FDATASYNC : KEVENT_KIND_FSYNC,
				self->fd, NULL, 0, 0));
		EXPECT_EQ(0, o.result);
		EXPECT_EQ(KEVENT_EV_WORKER, o.flags);
	}
	/* Nothing to transfer is a success. */
	EXPECT_EQ(0, IO(read_entry(self->fd, self->buffer, 0, 0)).result);
	EXPECT_EQ(0, IO(write_entry(self->fd, self->buffer, 0, 0)).result);
	EXPECT_EQ(0, IO(io_entry(KEVENT_KIND_READV, self->fd, NULL, 0, 0)).result);
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

/* The file's own position is neither used nor moved. */
TEST_F(file, position)
{
	ASSERT_EQ(3 * IO_PAGE, lseek(self->fd, 3 * IO_PAGE, SEEK_SET));
	EXPECT_EQ(IO_PAGE, IO(read_entry(self->fd, self->buffer, IO_PAGE,
					 IO_PAGE)).result);
	EXPECT_EQ(-1, pattern_wrong(self->buffer, IO_PAGE, 1, IO_PAGE));
	EXPECT_EQ(IO_PAGE, IO(write_entry(self->fd, self->buffer, IO_PAGE,
					  IO_PAGE)).result);
	EXPECT_EQ(3 * IO_PAGE, lseek(self->fd, 0, SEEK_CUR));
}

/* Collects until @nr came; results by cookie.  Each cookie once. */
static int collect(int q, int64_t *results, uint32_t nr)
{
	struct ukevent ev[16];
	uint32_t n = 0;
	int got, i;

	for (i = 0; i < nr; i++)
		results[i] = INT64_MIN;
	while (n < nr) {
		got = get(q, ev, 1, 16, LONG_NS);
		if (got <= 0)
			return -ETIMEDOUT;
		for (i = 0; i < got; i++, n++) {
			if (ev[i].cookie >= nr ||
			    results[ev[i].cookie] != INT64_MIN)
				return -EPROTO;
			results[ev[i].cookie] = ev[i].result;
		}
	}
	return get_soon(q) ? -EPROTO : 0;
}

#define ALL_GONE() \
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1))

/* Each begins when the one before has succeeded. */
TEST_F(file, chain)
{
	struct kevent_change c[6];
	int64_t results[6];
	uint32_t i;

	for (i = 0; i < 5; i++) {
		pattern_fill(self->buffer + i * IO_PAGE, IO_PAGE, 20 + i, 0);
		c[i] = write_entry(self->fd, self->buffer + i * IO_PAGE, IO_PAGE,
				   0);
		c[i].flags = KEVENT_LINK;
		c[i].cookie = i;
	}
	c[2] = sync_entry(self->fd);
	c[2].flags = KEVENT_LINK;
	c[2].cookie = 2;
	c[5] = read_entry(self->fd, self->other, IO_PAGE, 0);
	c[5].cookie = 5;
	ASSERT_EQ(6, changes(self->q.fd, c, 6));
	ASSERT_EQ(0, collect(self->q.fd, results, 6));
	for (i = 0; i < 6; i++) {
		EXPECT_EQ(0, c[i].result);
		EXPECT_EQ(i == 2 ? 0 : IO_PAGE, results[i]);
	}
	EXPECT_EQ(-1, pattern_wrong(self->other, IO_PAGE, 24, 0));
	ALL_GONE();
}

/* A short transfer is not a success, and what follows does nothing. */
TEST_F(file, chain_ends_short)
{
	struct kevent_change c[5];
	int64_t results[5];
	uint32_t i;

	c[0] = read_entry(self->fd, self->buffer, 2 * IO_PAGE,
			  self->end - IO_PAGE);
	c[1] = write_entry(self->fd, self->buffer, IO_PAGE, 0);
	c[2] = sync_entry(self->fd);
	c[3] = io_entry(KEVENT_KIND_NOP, 0, NULL, 0, 0);
	c[4] = read_entry(self->fd, self->other, IO_PAGE, 0);
	for (i = 0; i < 5; i++) {
		c[i].cookie = i;
		c[i].flags = i < 3 ? KEVENT_LINK : 0;
	}
	ASSERT_EQ(5, changes(self->q.fd, c, 5));
	ASSERT_EQ(0, collect(self->q.fd, results, 5));
	EXPECT_EQ(IO_PAGE, results[0]);
	EXPECT_EQ(-ECANCELED, results[1]);
	EXPECT_EQ(-ECANCELED, results[2]);
	EXPECT_EQ(-ECANCELED, results[3]);
	EXPECT_EQ(IO_PAGE, results[4]);
	EXPECT_EQ(-1, pattern_wrong(self->other, IO_PAGE, 1, 0));
	ALL_GONE();
}

/* An entry that is refused ends the chain before it. */
TEST_F(file, chain_refused)
{
	struct kevent_change c[5];
	int64_t results[2];
	uint32_t i;

	for (i = 0; i < 5; i++) {
		c[i] = write_entry(i == 1 ? -1 : self->fd, self->buffer, IO_PAGE,
				   i * IO_PAGE);
		c[i].flags = i < 3 ? KEVENT_LINK : 0;
	}
	c[0].cookie = 0;
	c[4].cookie = 1;
	ASSERT_EQ(5, changes(self->q.fd, c, 5));
	EXPECT_EQ(0, c[0].result);
	EXPECT_EQ(-EBADF, c[1].result);
	EXPECT_EQ(-ECANCELED, c[2].result);
	EXPECT_EQ(-ECANCELED, c[3].result);
	EXPECT_EQ(0, c[3].id);
	EXPECT_EQ(0, c[4].result);
	ASSERT_EQ(0, collect(self->q.fd, results, 2));
	EXPECT_EQ(IO_PAGE, results[0]);
	EXPECT_EQ(IO_PAGE, results[1]);
	ASSERT_EQ(SIZE, pread(self->fd, self->other, SIZE, 0));
	EXPECT_EQ(-1, pattern_wrong(self->other + IO_PAGE, 3 * IO_PAGE, 1,
				    IO_PAGE));
	ALL_GONE();
}

/* Reads of block i go to buffer block i; writes of block DEPTH + i. */
static int submit_many(int q, int fd, char *buffer, uint64_t *ids)
{
	static struct kevent_change c[DEPTH];
	uint32_t i;
	int n;

	for (i = 0; i < DEPTH; i++) {
		c[i] = i % 2 ? write_entry(fd, buffer + i * IO_PAGE, IO_PAGE,
					   i * IO_PAGE) :
			       read_entry(fd, buffer + i * IO_PAGE, IO_PAGE,
					  i * IO_PAGE);
		c[i].cookie = i;
		c[i].ring = i / 2 % 2;
		if (i % 2)
			pattern_fill(buffer + i * IO_PAGE, IO_PAGE, 2,
				     i * IO_PAGE);
	}
	n = changes(q, c, DEPTH);
	for (i = 0; i < DEPTH; i++) {
		if (c[i].result)
			return c[i].result;
		if (ids)
			ids[i] = c[i].id;
	}
	return n;
}

/* What a complete submit_many() leaves behind. */
#define EXPECT_MANY(file, reads) do {					\
	uint32_t __i;							\
	for (__i = 0; __i < DEPTH; __i++) {				\
		size_t __at = __i * IO_PAGE;				\
		EXPECT_EQ(IO_PAGE, results[__i]);			\
		if (__i % 2) {						\
			ASSERT_EQ(IO_PAGE, pread(file, self->other,	\
						 IO_PAGE, __at));	\
			EXPECT_EQ(-1, pattern_wrong(self->other, IO_PAGE,\
						    2, __at));		\
		} else if (reads) {					\
			EXPECT_EQ(-1, pattern_wrong(self->buffer + __at,\
						    IO_PAGE, 1, __at));	\
		}							\
	}								\
} while (0)

/* Many at once, into a ring that has room for four. */
TEST_F(file, small_ring)
{
	int64_t results[DEPTH];
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 2, 4));
	ASSERT_EQ(DEPTH, submit_many(q.fd, self->fd, self->buffer, NULL));
	EXPECT_TRUE(EVENTUALLY(pending_of(&q, 0) == DEPTH / 2 - 4 &&
			       pending_of(&q, 1) == DEPTH / 2 - 4));
	EXPECT_EQ(DEPTH / 2 - 4, requests_of(&q, 0));
	ASSERT_EQ(0, collect(q.fd, results, DEPTH));
	EXPECT_MANY(self->fd, 1);
	EXPECT_EQ(0, requests_of(&q, 0) + requests_of(&q, 1));
	EXPECT_EQ(0, pending_of(&q, 0) + pending_of(&q, 1));
	queue_free(&q);
}

/* The descriptor is closed, and its number soon another file's. */
TEST_F(file, close_after_submit)
{
	int64_t results[DEPTH];
	int keep = dup(self->fd), other;

	ASSERT_EQ(DEPTH, submit_many(self->q.fd, self->fd, self->buffer, NULL));
	close(self->fd);
	other = open(IO_DIR "/other", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
		     0644);
	ASSERT_EQ(self->fd, other);
	ASSERT_EQ(0, collect(self->q.fd, results, DEPTH));
	EXPECT_EQ(0, lseek(other, 0, SEEK_END));
	EXPECT_MANY(keep, 1);
	close(keep);
	ALL_GONE();
}

/* The buffers are unmapped, and something else is there soon. */
TEST_F(file, unmap_after_submit)
{
	int64_t results[DEPTH];

	ASSERT_EQ(DEPTH, submit_many(self->q.fd, self->fd, self->buffer, NULL));
	ASSERT_EQ(0, munmap(self->buffer, SIZE));
	ASSERT_EQ(self->buffer, mmap(self->buffer, SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				     -1, 0));
	memset(self->buffer, 0x5c, SIZE);
	ASSERT_EQ(0, collect(self->q.fd, results, DEPTH));
	EXPECT_MANY(self->fd, 0);
	EXPECT_TRUE(all_bytes(self->buffer, SIZE, 0x5c));
	ALL_GONE();
}

/* A child that writes to its copy takes nothing away from the parent. */
TEST_F(file, fork_after_submit)
{
	int64_t results[DEPTH];
	pid_t child;

	ASSERT_EQ(DEPTH, submit_many(self->q.fd, self->fd, self->buffer, NULL));
	child = fork();
	if (!child) {
		memset(self->buffer, 0x5c, SIZE);
		_exit(!all_bytes(self->buffer, SIZE, 0x5c));
	}
	ASSERT_EQ(0, collect(self->q.fd, results, DEPTH));
	EXPECT_MANY(self->fd, 1);
	EXPECT_EQ(0, reap(child));
	ALL_GONE();
}

/* A cancel says the truth; each request ends once, done in full or not at all. */
TEST_F(file, cancel)
{
	unsigned int round, i, early = 0;
	int64_t results[DEPTH];
	uint64_t ids[DEPTH];
	int answers[DEPTH];

	for (round = 0; round < scaled(8); round++) {
		memset(self->buffer, POISON, SIZE);
		ASSERT_EQ(DEPTH, submit_many(self->q.fd, self->fd, self->buffer,
					     ids));
		for (i = DEPTH; i-- > 0;)
			answers[i] = cancel_id(self->q.fd, ids[i]);
		ASSERT_EQ(0, collect(self->q.fd, results, DEPTH));
		for (i = 0; i < DEPTH; i++) {
			char *block = self->buffer + i * IO_PAGE;

			if (answers[i] == 0) {
				EXPECT_EQ(-ECANCELED, results[i]);
				early++;
			} else if (answers[i] == -EALREADY) {
				EXPECT_TRUE(results[i] == -ECANCELED ||
					    results[i] == IO_PAGE);
			} else {
				EXPECT_EQ(-ENOENT, answers[i]);
				EXPECT_EQ(IO_PAGE, results[i]);
			}
			if (i % 2 == 0 && results[i] == IO_PAGE)
				EXPECT_EQ(-1, pattern_wrong(block, IO_PAGE, 1,
							    i * IO_PAGE));
			if (i % 2 == 0 && results[i] == -ECANCELED)
				EXPECT_TRUE(all_bytes(block, IO_PAGE, POISON));
		}
		ALL_GONE();
	}
	ksft_print_msg("%u of %lu cancelled in time\n", early,
		       scaled(8) * DEPTH);
}

/* By descriptor: the requests of that file and no others. */
TEST_F(file, cancel_file)
{
	int64_t results[DEPTH];
	int pipes[2], n, i;
	uint64_t byte;

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	ASSERT_EQ(DEPTH, submit_many(self->q.fd, self->fd, self->buffer, NULL));
	ASSERT_EQ(0, submit_read(self->q.fd, pipes[0], &byte, 1, 0, DEPTH, NULL));
	n = cancel_file(self->q.fd, self->fd);
	EXPECT_LE(0, n);
	ASSERT_EQ(0, collect(self->q.fd, results, DEPTH));
	for (i = 0; i < DEPTH; i++)
		n -= results[i] == -ECANCELED;
	EXPECT_GE(0, n);
	EXPECT_EQ(1, requests_of(&self->q, 0));
	EXPECT_EQ(1, cancel_file(self->q.fd, pipes[0]));
	EXPECT_EQ(1, get_soon(self->q.fd));
	close(pipes[0]);
	close(pipes[1]);
	ALL_GONE();
}

TEST_HARNESS_MAIN
