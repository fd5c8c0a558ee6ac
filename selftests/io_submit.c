// SPDX-License-Identifier: GPL-2.0
/* Submission: each wrong field, and the errors that pread and pwrite give. */
#include "io_test.h"

#include <linux/memfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <netinet/in.h>
#include <pty.h>

#define SIZE (16 * IO_PAGE)

/* ------------------------------------------------------------------------ */
/* One wrong field */

FIXTURE(bad) {
	struct queue q;
	int file;
	char *buffer;
	struct iovec *iov;
	uint64_t source;
};

FIXTURE_VARIANT(bad) {
	struct kevent_change c;
	int error;
	int with;		/* what the test puts in beside */
};

enum { FD = 1, ADDR = 2, SOURCE = 4 };

FIXTURE_SETUP(bad)
{
	ASSERT_EQ(0, queue_make(&self->q, 2, 16));
	self->file = storage_open(TMPFS, 0, SIZE, 1);
	ASSERT_LE(0, self->file);
	self->buffer = pages(SIZE);
	self->iov = pages(IO_PAGE);
	self->iov[0] = (struct iovec){ self->buffer, IO_PAGE };
	ASSERT_EQ(0, add_user(self->q.fd, 0, 1, &self->source));
}

FIXTURE_TEARDOWN(bad)
{
	close(self->file);
	queue_free(&self->q);
}

#define BAD(name, error_, with_, ...)					\
	FIXTURE_VARIANT_ADD(bad, name) {				\
		.c = { .op = KEVENT_OP_SUBMIT, __VA_ARGS__ },		\
		.error = (error_),					\
		.with = (with_),					\
	}

/* What is wrong with a transfer, whatever its direction. */
#define TRANSFER(k, n, ...)						\
	BAD(k##_id, -EINVAL, FD | ADDR, IO_##k, .len = n, .id = 1);	\
	BAD(k##_ring, -EINVAL, FD | ADDR, IO_##k, .len = n, .ring = 2);	\
	BAD(k##_ring_any, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .ring = KEVENT_RING_ANY);					\
	BAD(k##_fd, -EBADF, ADDR, IO_##k, .len = n, .fd = -1);		\
	BAD(k##_fd_least, -EBADF, ADDR, IO_##k, .len = n, .fd = INT_MIN); \
	BAD(k##_fd_closed, -EBADF, ADDR, IO_##k, .len = n, .fd = 1000);	\
	BAD(k##_address_null, -EFAULT, FD, IO_##k, .len = n);		\
	BAD(k##_address_kernel, -EFAULT, FD, IO_##k, .len = n,		\
	    .addr = 0xffff888000000000ULL);				\
	BAD(k##_address_hole, -EFAULT, FD, IO_##k, .len = n,		\
	    .addr = 0x8000000000000000ULL);				\
	BAD(k##_offset_sign, -EINVAL, FD | ADDR, IO_##k, .len = n,	\
	    .offset = 1ULL << 63);					\
	BAD(k##_offset_minus_one, -EINVAL, FD | ADDR, IO_##k, .len = n,	\
	    .offset = ~0ULL);						\
	BAD(k##_hipri, -EOPNOTSUPP, FD | ADDR, IO_##k, .len = n,	\
	    .rw_flags = RWF_HIPRI);					\
	BAD(k##_nowait, -EOPNOTSUPP, FD | ADDR, IO_##k, .len = n,	\
	    .rw_flags = RWF_NOWAIT);					\
	BAD(k##_rw_flag, -EOPNOTSUPP, FD | ADDR, IO_##k, .len = n,	\
	    .rw_flags = 0x400);						\
	BAD(k##_rw_flag_highest, -EOPNOTSUPP, FD | ADDR, IO_##k, .len = n, \
	    .rw_flags = 1U << 31);					\
	BAD(k##_oneshot, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_ONESHOT);					\
	BAD(k##_level, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_LEVEL);					\
	BAD(k##_disabled, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_DISABLED);					\
	BAD(k##_latest, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_LATEST);					\
	BAD(k##_abstime, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_ABSTIME);					\
	BAD(k##_close_fd, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_CLOSE_FD);					\
	BAD(k##_nomerge, -EINVAL, FD | ADDR, IO_##k, .len = n,		\
	    .flags = KEVENT_NOMERGE);					\
	BAD(k##_cancel_file, -EINVAL, FD | ADDR, IO_##k, .len = n,	\
	    .flags = KEVENT_CANCEL_FILE);				\
	BAD(k##_flag_next, -EINVAL, FD | ADDR, IO_##k, .len = n,	\
	    .flags = 0x200);						\
	BAD(k##_flag_highest, -EINVAL, FD | ADDR, IO_##k, .len = n,	\
	    .flags = 1U << 31)

#define IO_read .kind = KEVENT_KIND_READ
#define IO_write .kind = KEVENT_KIND_WRITE
#define IO_readv .kind = KEVENT_KIND_READV
#define IO_writev .kind = KEVENT_KIND_WRITEV

TRANSFER(read, IO_PAGE);
TRANSFER(write, IO_PAGE);
TRANSFER(readv, 1);
TRANSFER(writev, 1);
BAD(readv_1025, -EINVAL, FD | ADDR, IO_readv, .len = 1025);
BAD(readv_most, -EINVAL, FD | ADDR, IO_readv, .len = ~0U);
BAD(writev_1025, -EINVAL, FD | ADDR, IO_writev, .len = 1025);
BAD(writev_most, -EINVAL, FD | ADDR, IO_writev, .len = ~0U);

#define SYNC(name, kind_)						\
	BAD(name##_id, -EINVAL, FD, .kind = kind_, .id = 1);		\
	BAD(name##_reserved, -EINVAL, FD, .kind = kind_, .buffer = 1);\
	BAD(name##_ring, -EINVAL, FD, .kind = kind_, .ring = 2);	\
	BAD(name##_fd, -EBADF, 0, .kind = kind_, .fd = -1);		\
	BAD(name##_len, -EINVAL, FD, .kind = kind_, .len = 1);		\
	BAD(name##_addr, -EINVAL, FD, .kind = kind_, .addr = 4096);	\
	BAD(name##_offset, -EINVAL, FD, .kind = kind_, .offset = 1);	\
	BAD(name##_rw_flags, -EINVAL, FD, .kind = kind_,		\
	    .rw_flags = RWF_SYNC)

SYNC(fsync, KEVENT_KIND_FSYNC);
SYNC(fdatasync, KEVENT_KIND_FDATASYNC);

#define NOP_BAD(name, ...)						\
	BAD(nop_##name, -EINVAL, 0, .kind = KEVENT_KIND_NOP, __VA_ARGS__)

NOP_BAD(id, .id = 1);
NOP_BAD(fd, .fd = 1);
NOP_BAD(len, .len = 1);
NOP_BAD(offset, .offset = 1);
NOP_BAD(rw_flags, .rw_flags = RWF_SYNC);
NOP_BAD(reserved, .buffer = 1);
BAD(kind_0, -EINVAL, FD | ADDR, .len = IO_PAGE);
BAD(kind_file, -EINVAL, FD, .kind = KEVENT_KIND_FILE, .events = EPOLLIN);
BAD(kind_user, -EINVAL, 0, .kind = KEVENT_KIND_USER);
BAD(kind_15, -EINVAL, FD | ADDR, .kind = 15, .len = IO_PAGE);
BAD(kind_next, -EINVAL, FD | ADDR, .kind = 23, .len = IO_PAGE);
BAD(kind_highest, -EINVAL, FD | ADDR, .kind = 0xffff, .len = IO_PAGE);

#define CANCEL_BAD(name, error_, with_, ...)				\
	FIXTURE_VARIANT_ADD(bad, cancel_##name) {			\
		.c = { .op = KEVENT_OP_CANCEL, __VA_ARGS__ },		\
		.error = (error_),					\
		.with = (with_),					\
	}

CANCEL_BAD(id_0, -ENOENT, 0);
CANCEL_BAD(id_unknown, -ENOENT, 0, .id = 1ULL << 63 | 12345);
CANCEL_BAD(id_all_ones, -ENOENT, 0, .id = ~0ULL);
CANCEL_BAD(id_of_source, -ENOENT, SOURCE);
CANCEL_BAD(kind, -EINVAL, 0, .kind = KEVENT_KIND_READ);
CANCEL_BAD(cookie, -EINVAL, 0, .cookie = 1);
CANCEL_BAD(ring, -EINVAL, 0, .ring = 1);
CANCEL_BAD(fd, -EINVAL, FD);
CANCEL_BAD(len, -EINVAL, 0, .len = 1);
CANCEL_BAD(addr, -EINVAL, 0, .addr = 1);
CANCEL_BAD(offset, -EINVAL, 0, .offset = 1);
CANCEL_BAD(rw_flags, -EINVAL, 0, .rw_flags = 1);
CANCEL_BAD(reserved, -EINVAL, 0, .buffer = 1);
CANCEL_BAD(link, -EINVAL, 0, .flags = KEVENT_LINK);
CANCEL_BAD(file_and_id, -EINVAL, FD, .flags = KEVENT_CANCEL_FILE, .id = 1);
CANCEL_BAD(file_fd, -EBADF, 0, .flags = KEVENT_CANCEL_FILE, .fd = -1);
CANCEL_BAD(file_fd_closed, -EBADF, 0, .flags = KEVENT_CANCEL_FILE, .fd = 1000);

/* The entry's own errno, and nothing has changed. */
TEST_F(bad, entry)
{
	struct kevent_change c = variant->c;
	struct iovec *iov = self->iov;
	char now[IO_PAGE];
	uint64_t id;

	if (variant->with & FD)
		c.fd = self->file;
	if (variant->with & ADDR)
		c.addr = c.kind == KEVENT_KIND_READV ||
			 c.kind == KEVENT_KIND_WRITEV ? (uintptr_t)iov :
							(uintptr_t)self->buffer;
	if (variant->with & SOURCE)
		c.id = self->source;
	id = c.id;
	EXPECT_EQ(variant->error, change(self->q.fd, &c));
	/* Of a submission, no id is returned. */
	EXPECT_EQ(c.op == KEVENT_OP_CANCEL || variant->c.id ? id : 0, c.id);
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	EXPECT_EQ(1, sources_of(&self->q, 0));
	EXPECT_TRUE(all_bytes(self->buffer, SIZE, POISON));
	EXPECT_EQ(SIZE, lseek(self->file, 0, SEEK_END));
	ASSERT_EQ(IO_PAGE, pread(self->file, now, IO_PAGE, 0));
	EXPECT_EQ(-1, pattern_wrong(now, IO_PAGE, 1, 0));
}

/* ------------------------------------------------------------------------ */
/* The results of pread and pwrite, on files of every kind */

FIXTURE(same) {
	struct queue q;
	int fd, other;
	char *buffer;
};

FIXTURE_VARIANT(same) {
	int (*make)(int *other);
	int refused;		/* the manual says that it may be */
	int unit;		/* of addresses, lengths and offsets; 0: 1 */
};

static int file_flags(int flags)
{
	int fd = storage_open(TMPFS, 0, SIZE, 1);

	close(fd);
	return open(IO_DIR "/file", flags | O_CLOEXEC);
}

static int make_rw(int *other) { return file_flags(O_RDWR); }
static int make_ro(int *other) { return file_flags(O_RDONLY); }
static int make_wo(int *other) { return file_flags(O_WRONLY); }
static int make_append(int *other) { return file_flags(O_RDWR | O_APPEND); }
static int make_path(int *other) { return file_flags(O_PATH); }
static int make_dir(int *other) { return open("/run", O_RDONLY | O_CLOEXEC); }
static int make_null(int *other) { return open("/dev/null", O_RDWR); }
static int make_zero(int *other) { return open("/dev/zero", O_RDWR); }
static int make_full(int *other) { return open("/dev/full", O_RDWR); }
static int make_epoll(int *other) { return epoll_create1(0); }
static int make_queue(int *other) { return queue_open(1, 4); }
static int make_inotify(int *other) { return inotify_init1(IN_NONBLOCK); }
static int make_eventfd(int *other) { return eventfd(1000, EFD_NONBLOCK | EFD_SEMAPHORE); }

static int make_ext4(int *other)
{
	return storage_open(EXT4, 0, SIZE, 1);
}

static int make_direct(int *other)
{
	return storage_open(EXT4, O_DIRECT, SIZE, 1);
}

static int make_block(int *other)
{
	const char *path = storage_path(NULLB);

	return path ? open(path, O_RDWR | O_CLOEXEC) : -1;
}

static int make_block_direct(int *other)
{
	const char *path = storage_path(NULLB);

	return path ? open(path, O_RDWR | O_DIRECT | O_CLOEXEC) : -1;
}

static int make_proc(int *other)
{
	return open("/proc/sys/kernel/core_pattern", O_RDWR | O_CLOEXEC);
}

static int make_proc_status(int *other)
{
	return open("/proc/self/limits", O_RDONLY | O_CLOEXEC);
}

static int make_sysfs(int *other)
{
	return open("/sys/module/kevent/parameters/max_file_sources", O_RDONLY);
}

static int make_sealed(int *other)
{
	int fd = memfd_create("kevent", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (ftruncate(fd, SIZE) || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW))
		return -1;
	return fd;
}

static int make_pipe_in(int *other)
{
	static const char data[4096];
	int fds[2];

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) || write(fds[1], data, 4096) != 4096)
		return -1;
	*other = fds[1];
	return fds[0];
}

static int make_pipe_out(int *other)
{
	int fds[2];

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -1;
	*other = fds[0];
	return fds[1];
}

static int make_pipe_broken(int *other)
{
	int fd = make_pipe_out(other);

	close(*other);
	*other = -1;
	return fd;
}

static int make_pipe_ended(int *other)
{
	int fds[2];

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -1;
	close(fds[1]);
	return fds[0];
}

static int make_socket(int *other)
{
	static const char data[4096];
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) ||
	    write(fds[1], data, 4096) != 4096)
		return -1;
	*other = fds[1];
	return fds[0];
}

static int make_socket_shut(int *other)
{
	int fd = make_socket(other);

	return shutdown(fd, SHUT_WR) ? -1 : fd;
}

static int make_unconnected(int *other)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int make_listening(int *other)
{
	int fd = make_unconnected(other);

	return listen(fd, 1) ? -1 : fd;
}

static int make_tty(int *other)
{
	int fd;

	if (openpty(other, &fd, NULL, NULL, NULL))
		return -1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return write(*other, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n", 24) == 24 ? fd : -1;
}

static int make_tty_gone(int *other)
{
	int fd = make_tty(other);

	close(*other);
	*other = -1;
	return fd;
}

static int make_signalfd(int *other)
{
	sigset_t set;

	sigemptyset(&set);
	return signalfd(-1, &set, SFD_NONBLOCK);
}

static int make_timerfd(int *other)
{
	return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
}

#define SAME(name, ...)							\
	FIXTURE_VARIANT_ADD(same, name) { make_##name, __VA_ARGS__ }

SAME(rw);
SAME(ro);
SAME(wo);
SAME(append);
SAME(path);
SAME(dir);
SAME(null);
SAME(zero);
SAME(full, 1);
SAME(ext4);
SAME(direct, 0, IO_PAGE);
SAME(block);
SAME(block_direct, 0, IO_PAGE);
SAME(proc);
SAME(proc_status, 1);	/* has a plain read alone */
SAME(sysfs);
SAME(sealed);
SAME(pipe_in);
SAME(pipe_out);
SAME(pipe_broken);
SAME(pipe_ended);
SAME(socket);
SAME(socket_shut);
SAME(unconnected);
SAME(listening);
SAME(tty);
SAME(tty_gone);
SAME(eventfd, 1);	/* has a plain write alone */
SAME(epoll, 1);
SAME(queue, 1);
SAME(inotify, 1);
SAME(signalfd, 1);
SAME(timerfd, 1);

FIXTURE_SETUP(same)
{
	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	signal(SIGPIPE, SIG_IGN);
	self->other = -1;
	self->fd = variant->make(&self->other);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->buffer = pages(SIZE);
}

FIXTURE_TEARDOWN(same)
{
	if (self->other >= 0)
		close(self->other);
	close(self->fd);
	queue_free(&self->q);
}

/* What the system call says to the same. */
static int64_t by_call(const struct kevent_change *c)
{
	const struct iovec one = { (void *)(uintptr_t)c->addr, c->len };
	const struct iovec *iov = &one;
	uint32_t n = 1;
	ssize_t r;

	if (c->kind == KEVENT_KIND_FSYNC)
		return sys(fsync(c->fd));
	if (c->kind == KEVENT_KIND_FDATASYNC)
		return sys(fdatasync(c->fd));
	if (c->kind == KEVENT_KIND_READV || c->kind == KEVENT_KIND_WRITEV) {
		iov = (void *)(uintptr_t)c->addr;
		n = c->len;
	}
	if (c->kind == KEVENT_KIND_READ || c->kind == KEVENT_KIND_READV) {
		r = preadv2(c->fd, iov, n, c->offset, c->rw_flags);
		if (r < 0 && errno == ESPIPE && !c->offset)
			r = preadv2(c->fd, iov, n, -1, c->rw_flags);
	} else {
		r = pwritev2(c->fd, iov, n, c->offset, c->rw_flags);
		if (r < 0 && errno == ESPIPE && !c->offset)
			r = pwritev2(c->fd, iov, n, -1, c->rw_flags);
	}
	return r < 0 ? -errno : r;
}

/* It waits where the call says EAGAIN; then it is cancelled. */
static int64_t by_request(int q, struct kevent_change c, int64_t want)
{
	struct ukevent ev;
	int result = change(q, &c);

	if (result < 0)
		return c.id ? IO_WRONG : result;
	if (get(q, &ev, 1, 1, want == -EAGAIN ? SHORT_NS : LONG_NS) != 1)
		return cancel_id(q, c.id) == 0 && get_one(q, &ev) == 1 &&
		       ev.result == -ECANCELED ? -EAGAIN : IO_WRONG;
	return ev.id == c.id && ev.kind == c.kind ? ev.result : IO_WRONG;
}

static bool is_write(const struct kevent_change *c)
{
	return c->kind == KEVENT_KIND_WRITE || c->kind == KEVENT_KIND_WRITEV;
}

/* What is wrong with every such transfer of that file. */
static int64_t always_wrong(int q, const struct kevent_change *c)
{
	static char page[IO_PAGE] __attribute__((aligned(IO_PAGE)));
	struct kevent_change plain = io_entry(is_write(c) ? KEVENT_KIND_WRITE :
					      KEVENT_KIND_READ, c->fd, page,
					      IO_PAGE, 0);
	int64_t call = by_call(&plain);

	return call < 0 && by_request(q, plain, call) == call ? call : 0;
}

/* Of two things that are wrong either may be told. */
static bool other_wrong(int q, const struct kevent_change *c, int64_t want, int64_t got)
{
	int64_t always;

	if (got >= 0 || got == want)
		return false;
	always = always_wrong(q, c);
	return always && (got == always || (got == -EFAULT && want == always));
}

/*
 * Memory is pinned for a worker, though the file may not look at it: a write to
 * /dev/null, and in 5.10 a read of it.
 */
static bool pinned_for_nothing(const struct kevent_change *c, int64_t result)
{
	char byte;
	struct iovec one = { &byte, 1 };
	struct stat st;

	if (is_write(c))
		return !fstat(c->fd, &st) && S_ISCHR(st.st_mode);
	return !result && preadv2(c->fd, &one, 1, 0, RWF_NOWAIT) < 0 &&
	       errno == EOPNOTSUPP;
}

#define EXPECT_SAME(what, entry) do {					\
	struct kevent_change __c = (entry);				\
	int64_t __want = by_call(&__c);					\
	int64_t __got = by_request(self->q.fd, __c, __want);		\
	/* A request that will wait has its buffer looked at before. */	\
	if (__got == -EFAULT &&						\
	    (__want == -EAGAIN || pinned_for_nothing(&__c, __want)))	\
		__want = __got;						\
	if (!(variant->refused && __got == -EOPNOTSUPP) &&		\
	    !other_wrong(self->q.fd, &__c, __want, __got))		\
		EXPECT_EQ(__want, __got)				\
			TH_LOG("%s %s", what, #entry);			\
} while (0)

#define TR(kind, addr, len, offset)					\
	io_entry(KEVENT_KIND_##kind, self->fd, addr, len, offset)

TEST_F(same, sizes_and_offsets)
{
	char *b = self->buffer;
	off_t end = lseek(self->fd, 0, SEEK_END);

	EXPECT_SAME("", TR(READ, b, 2, 0));
	EXPECT_SAME("", TR(READ, b, 0, 0));
	EXPECT_SAME("", TR(READ, NULL, 0, 0));
	EXPECT_SAME("", TR(READ, b, 8, 1));
	EXPECT_SAME("", TR(READ, b, 512, 512));
	EXPECT_SAME("", TR(READ, b + 1, 512, 512));
	EXPECT_SAME("", TR(READ, b, 8, INT64_MAX));
	EXPECT_SAME("", TR(READ, b, IO_PAGE, INT64_MAX - IO_PAGE + 1));
	EXPECT_SAME("", TR(READ, b, IO_PAGE, INT64_MAX - 2 * IO_PAGE + 1));
	EXPECT_SAME("", TR(WRITE, b, 2, 0));
	EXPECT_SAME("", TR(WRITE, b, 0, 0));
	EXPECT_SAME("", TR(WRITE, b, 8, 1));
	EXPECT_SAME("", TR(WRITE, b, 512, 512));
	EXPECT_SAME("", TR(WRITE, b + 1, 512, 512));
	EXPECT_SAME("", TR(WRITE, b, 8, INT64_MAX));
	EXPECT_SAME("", TR(WRITE, b, IO_PAGE, INT64_MAX - IO_PAGE + 1));
	if (end > 0) {
		EXPECT_SAME("", TR(READ, b, 2 * IO_PAGE, end - IO_PAGE));
		EXPECT_SAME("", TR(READ, b, IO_PAGE, end));
		EXPECT_SAME("", TR(READ, b, IO_PAGE, end + IO_PAGE));
	}
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

TEST_F(same, addresses)
{
	char *edge = edge_of_mapping(), *ro = read_only_copy("x", 1);
	char *kernel = (char *)~0UL - IO_PAGE + 1;
	int n = variant->unit ?: 8;

	EXPECT_SAME("nothing mapped", TR(READ, edge, n, 0));
	EXPECT_SAME("nothing mapped", TR(WRITE, edge, n, 0));
	EXPECT_SAME("read-only", TR(READ, ro, n, 0));
	/* A 32-bit program has no addresses of the kernel's. */
	if (sizeof(long) == 8) {
		EXPECT_SAME("kernel's", TR(READ, kernel, n, 0));
		EXPECT_SAME("kernel's", TR(WRITE, kernel, n, 0));
	}
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

TEST_F(same, vectors)
{
	char *b = self->buffer, *edge = edge_of_mapping();
	size_t n = variant->unit ?: 1;
	struct iovec good[3] = { { b, n }, { b + 2 * n, 0 }, { b + 5 * n, n } };
	struct iovec negative[2] = { { b, n }, { b, (size_t)-1 } };
	struct iovec null_empty[2] = { { NULL, 0 }, { b, 2 * n } };
	struct iovec bad_first[2] = { { edge, 8 * n }, { b, 8 * n } };
	struct iovec *cut = (void *)(edge - sizeof(*cut));

	*cut = good[0];
	EXPECT_SAME("", TR(READV, good, 3, 0));
	EXPECT_SAME("", TR(WRITEV, good, 3, 0));
	EXPECT_SAME("", TR(READV, null_empty, 2, 0));
	EXPECT_SAME("negative", TR(READV, negative, 2, 0));
	EXPECT_SAME("negative", TR(WRITEV, negative, 2, 0));
	EXPECT_SAME("bad first", TR(READV, bad_first, 2, 0));
	EXPECT_SAME("array ends", TR(READV, cut, 2, 0));
	EXPECT_SAME("array ends", TR(WRITEV, cut, 2, 0));
	EXPECT_SAME("one of it", TR(READV, cut, 1, 0));
	EXPECT_SAME("none", TR(READV, NULL, 0, 0));
	EXPECT_SAME("too many", TR(READV, good, 1025, 0));
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

TEST_F(same, flags_and_syncs)
{
	static const uint32_t flags[] = { RWF_SYNC, RWF_DSYNC, RWF_APPEND,
					  RWF_APPEND | RWF_DSYNC };
	struct kevent_change c;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		c = TR(WRITE, self->buffer, 512, 0);
		c.rw_flags = flags[i];
		EXPECT_SAME("flags", c);
		c = TR(READ, self->buffer, 512, 0);
		c.rw_flags = flags[i];
		EXPECT_SAME("flags", c);
	}
	EXPECT_SAME("", TR(FSYNC, NULL, 0, 0));
	EXPECT_SAME("", TR(FDATASYNC, NULL, 0, 0));
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

/* ------------------------------------------------------------------------ */
/* Beside the tables */

FIXTURE(submit) {
	struct queue q;
	int fd;
	char *buffer;
};

FIXTURE_SETUP(submit)
{
	ASSERT_EQ(0, queue_make(&self->q, 2, 64));
	self->fd = storage_open(TMPFS, 0, SIZE, 1);
	ASSERT_LE(0, self->fd);
	self->buffer = pages(SIZE);
}

FIXTURE_TEARDOWN(submit)
{
	close(self->fd);
	queue_free(&self->q);
}

#define IO(c) io_do(self->q.fd, (c))

/* A buffer that ends early shortens the transfer, as it does pread's. */
TEST_F(submit, half_buffer)
{
	char *edge = edge_of_mapping();
	struct iovec iov[2] = { { self->buffer, 10 }, { edge, 10 } };
	int64_t want;

	want = pread(self->fd, edge - 100, 200, 0);
	memset(edge - 100, POISON, 100);
	EXPECT_EQ(want, IO(read_entry(self->fd, edge - 100, 200, 0)).result);
	EXPECT_EQ(-1, pattern_wrong(edge - 100, 100, 1, 0));
	want = preadv(self->fd, iov, 2, 0);
	EXPECT_EQ(want, IO(io_entry(KEVENT_KIND_READV, self->fd, iov, 2, 0)).result);
	EXPECT_EQ(-1, pattern_wrong(self->buffer, 10, 1, 0));
	EXPECT_EQ(100, IO(write_entry(self->fd, edge - 100, 200, IO_PAGE)).result);
	ASSERT_EQ(IO_PAGE, pread(self->fd, self->buffer, IO_PAGE, IO_PAGE));
	EXPECT_EQ(-1, pattern_wrong(self->buffer, 100, 1, 0));
	EXPECT_EQ(-1, pattern_wrong(self->buffer + 100, IO_PAGE - 100, 1,
				    IO_PAGE + 100));
}

/* More than two gigabytes: no error, and no more than is there. */
TEST_F(submit, longest)
{
	/* Low: on arm64 the mappings end less than that length below the kernel. */
	void *hint = (void *)(uintptr_t)0x100000000ULL, *low;
	int fd;

	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	low = mmap(hint, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, low);
	fd = storage_open(EXT4, 0, SIZE, 1);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, access_later(fd));
	EXPECT_EQ(100, IO(read_entry(fd, low, 0x7fffffff, SIZE - 100)).result);
	close(fd);
	EXPECT_EQ(-1, pattern_wrong(low, 100, 1, SIZE - 100));
	munmap(low, SIZE);
}

/* To each ring by its index, and to the caller's own. */
TEST_F(submit, home)
{
	struct kevent_change c;
	struct ukevent ev;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		c = write_entry(self->fd, self->buffer, IO_PAGE, 0);
		c.ring = i;
		ASSERT_EQ(0, change(self->q.fd, &c));
		ASSERT_TRUE(EVENTUALLY(ring_collect(&self->q, i, &ev, 1) == 1));
		EXPECT_EQ(IO_PAGE, ev.result);
		EXPECT_EQ(c.id, ev.id);
	}
	c.ring = KEVENT_RING_LOCAL;
	c.id = 0;
	EXPECT_EQ(IO_PAGE, IO(c).result);
}

/* Ids are never used again, and the operations on sources do not know them. */
TEST_F(submit, ids)
{
	struct kevent_change c = read_entry(self->fd, self->buffer, 1, 0);
	uint64_t ids[100], id;
	struct ukevent ev;
	int i, k, pipes[2];

	for (i = 0; i < 100; i++) {
		c.id = 0;
		c.ring = i % 2;
		ASSERT_EQ(0, change(self->q.fd, &c));
		ids[i] = c.id;
		ASSERT_EQ(1, get_one(self->q.fd, &ev));
		EXPECT_EQ(c.id, ev.id);
		for (k = 0; k < i; k++)
			ASSERT_NE(ids[k], ids[i]);
	}
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	ASSERT_EQ(0, submit_read(self->q.fd, pipes[0], self->buffer, 1, 0, 1, &id));
	EXPECT_EQ(-ENOENT, remove_id(self->q.fd, id));
	EXPECT_EQ(-ENOENT, enable_id(self->q.fd, id));
	EXPECT_EQ(-ENOENT, disable_id(self->q.fd, id));
	EXPECT_EQ(-ENOENT, trigger(self->q.fd, id, 1));
	EXPECT_EQ(-ENOENT, ack_id(self->q.fd, id));
	EXPECT_EQ(1, requests_of(&self->q, 0));
	EXPECT_EQ(0, cancel_id(self->q.fd, id));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	close(pipes[0]);
	close(pipes[1]);
}

/* RLIMIT_FSIZE: a shorter write, then EFBIG; and no signal. */
TEST_F(submit, file_size_limit)
{
	struct rlimit limit = { SIZE + 100, RLIM_INFINITY };
	struct kevent_change c;

	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	EXPECT_EQ(100, IO(write_entry(self->fd, self->buffer, 200, SIZE)).result);
	EXPECT_EQ(SIZE + 100, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(-EFBIG, IO(write_entry(self->fd, self->buffer, 1,
					 SIZE + 100)).result);
	EXPECT_EQ(-EFBIG, IO(write_entry(self->fd, self->buffer, 1,
					 1 << 30)).result);
	EXPECT_EQ(0, IO(write_entry(self->fd, self->buffer, 0, 1 << 30)).result);
	c = write_entry(self->fd, self->buffer, 8, 0);
	c.rw_flags = RWF_APPEND;
	EXPECT_EQ(-EFBIG, IO(c).result);
	EXPECT_EQ(8, IO(write_entry(self->fd, self->buffer, 8, 0)).result);
	EXPECT_EQ(SIZE + 100, lseek(self->fd, 0, SEEK_END));
}

/* Appends that were all accepted when the file was short. */
TEST_F(submit, file_size_limit_of_appends)
{
	static const int results[] = { 40, 40, -EFBIG, -ECANCELED };
	struct rlimit limit = { SIZE + 80, RLIM_INFINITY };
	struct kevent_change c[4];
	struct ukevent ev[4];
	int i;

	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	for (i = 0; i < 4; i++) {
		c[i] = write_entry(self->fd, self->buffer, 40, 0);
		c[i].rw_flags = RWF_APPEND;
		c[i].flags = i < 3 ? KEVENT_LINK : 0;
		c[i].cookie = i;
	}
	ASSERT_EQ(4, changes(self->q.fd, c, 4));
	ASSERT_EQ(4, get(self->q.fd, ev, 4, 4, LONG_NS));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(results[ev[i].cookie], ev[i].result);
	EXPECT_EQ(SIZE + 80, lseek(self->fd, 0, SEEK_END));
}

/* One bad entry does not hide the others. */
TEST_F(submit, array)
{
	struct kevent_change c[64];
	struct ukevent ev[64];
	int i, good = 0;

	for (i = 0; i < 64; i++) {
		c[i] = read_entry(i % 3 ? self->fd : -1, self->buffer + i * 16, 16,
				  i * 16);
		c[i].cookie = i;
		good += i % 3 != 0;
	}
	ASSERT_EQ(64, changes(self->q.fd, c, 64));
	ASSERT_EQ(good, get(self->q.fd, ev, good, 64, LONG_NS));
	for (i = 0; i < 64; i++)
		EXPECT_EQ(i % 3 ? 0 : -EBADF, c[i].result);
	for (i = 0; i < good; i++) {
		EXPECT_EQ(16, ev[i].result);
		EXPECT_EQ(c[ev[i].cookie].id, ev[i].id);
		EXPECT_EQ(-1, pattern_wrong(self->buffer + ev[i].cookie * 16, 16, 1,
					    ev[i].cookie * 16));
	}
}

/* The last entry of an array has nothing to be linked with. */
TEST_F(submit, link_at_end)
{
	struct kevent_change c = write_entry(self->fd, self->buffer, 8, 0);

	c.flags = KEVENT_LINK;
	EXPECT_EQ(8, IO(c).result);
	c.id = 0;
	c.fd = -1;
	EXPECT_EQ(-EBADF, IO(c).result);
	c.fd = self->fd;
	EXPECT_EQ(8, IO(c).result);
}

/* An entry that is no submission ends a chain. */
TEST_F(submit, chain_with_others)
{
	struct kevent_change c[3] = {
		read_entry(self->fd, self->buffer, 100, SIZE - 50),
		{ .op = KEVENT_OP_ADD, .kind = KEVENT_KIND_USER },
		write_entry(self->fd, self->buffer + 200, 8, 0),
	};
	struct ukevent ev[2];
	int i;

	c[0].flags = KEVENT_LINK;
	c[2].cookie = 2;
	ASSERT_EQ(3, changes(self->q.fd, c, 3));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, c[i].result);
	ASSERT_EQ(2, get(self->q.fd, ev, 2, 2, LONG_NS));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(ev[i].cookie ? 8 : 50, ev[i].result);
	EXPECT_EQ(0, remove_id(self->q.fd, c[1].id));
}

/* What an entry closes, the next ones do not find. */
TEST_F(submit, closed_in_array)
{
	struct kevent_change c[3];
	uint64_t id;
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ(0, add_file(self->q.fd, fds[0], EPOLLIN, 0, 1, &id));
	c[0] = read_entry(fds[0], self->buffer, 1, 0);
	c[2] = c[0];
	c[1] = (struct kevent_change){ .op = KEVENT_OP_REMOVE, .id = id,
				       .flags = KEVENT_CLOSE_FD, .fd = fds[0] };
	ASSERT_EQ(3, changes(self->q.fd, c, 3));
	EXPECT_EQ(0, c[0].result);
	EXPECT_EQ(0, c[1].result);
	EXPECT_EQ(-EBADF, c[2].result);
	EXPECT_EQ(0, cancel_id(self->q.fd, c[0].id));
	EXPECT_EQ(1, get_soon(self->q.fd));
	close(fds[1]);
}

/* What must be done by its caller cannot be a link. */
TEST_F(submit, chain_of_proc)
{
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	struct kevent_change c[2] = {
		read_entry(fd, self->buffer, 10, 0),
		read_entry(self->fd, self->buffer, 10, 0),
	};

	c[0].flags = KEVENT_LINK;
	ASSERT_EQ(2, changes(self->q.fd, c, 2));
	EXPECT_EQ(-EOPNOTSUPP, c[0].result);
	EXPECT_EQ(-ECANCELED, c[1].result);
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(0, requests_of(&self->q, 0));
	c[0].flags = 0;
	EXPECT_EQ(10, IO(c[0]).result);
	close(fd);
}

/* A descriptor of a child that has its own table is the child's. */
TEST_F(submit, after_fork)
{
	pid_t child = fork();

	if (!child)
		_exit(IO(read_entry(self->fd, self->buffer, 100, 0)).result == 100 &&
		      pattern_wrong(self->buffer, 100, 1, 0) == -1 ? 0 : 1);
	EXPECT_EQ(0, reap(child));
	EXPECT_TRUE(all_bytes(self->buffer, 100, POISON));
	EXPECT_EQ(100, IO(read_entry(self->fd, self->buffer, 100, 0)).result);
}

/* In an overlay, what a file says may depend on who asks if that below it does. */
TEST(overlay_of_cgroup)
{
	char directory[] = "/tmp/kevent-XXXXXX", options[64], name[64], text[IO_PAGE];
	struct outcome o;
	struct queue q;
	int fd;

	ASSERT_EQ(0, queue_make(&q, 1, 16));
	ASSERT_NE(NULL, mkdtemp(directory));
	snprintf(options, sizeof(options), "lowerdir=/sys/fs/cgroup:%s", directory);
	ASSERT_EQ(0, mount("overlay", directory, "overlay", 0, options));
	snprintf(name, sizeof(name), "%s/cgroup.procs", directory);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	EXPECT_LE(0, fd);
	o = io_do(q.fd, read_entry(fd, text, sizeof(text), 0));
	EXPECT_LT(0, o.result);
	EXPECT_EQ(KEVENT_EV_INLINE, o.flags);
	close(fd);
	EXPECT_EQ(0, umount(directory));
	rmdir(directory);
	queue_free(&q);
}

TEST_HARNESS_MAIN
