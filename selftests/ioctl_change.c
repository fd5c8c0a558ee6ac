// SPDX-License-Identifier: GPL-2.0
/* KEVENT_IOC_CHANGE: good and bad input. */
#include "kevent_test.h"

enum target { NO_ID, FILE_ID, TIMER_ID, USER_ID };

/* A queue of two rings with one idle source of each kind. */
struct bench {
	struct queue q;
	int file;
	uint64_t ids[4];
};

static int bench_make(struct bench *b)
{
	b->file = eventfd_make();
	if (queue_make(&b->q, 2, 16))
		return -1;
	if (add_file(b->q.fd, b->file, EPOLLIN, 0, 1, &b->ids[FILE_ID]) ||
	    add_timer(b->q.fd, CLOCK_MONOTONIC, 0, 3600 * NSEC_PER_SEC, 0, 2,
		      &b->ids[TIMER_ID]) ||
	    add_user(b->q.fd, 0, 3, &b->ids[USER_ID]))
		return -1;
	return 0;
}

static void bench_free(struct bench *b)
{
	queue_free(&b->q);
	close(b->file);
}

FIXTURE(change) {
	struct bench b;
	int fd;
};

FIXTURE_SETUP(change)
{
	ASSERT_EQ(0, bench_make(&self->b));
	self->fd = self->b.q.fd;
}

FIXTURE_TEARDOWN(change)
{
	bench_free(&self->b);
}

FIXTURE(bad) {
	struct bench b;
	int fd;
};

FIXTURE_VARIANT(bad) {
	struct kevent_change c;
	enum target target;
	int with_file;	/* put the descriptor of an eventfd into @c.fd */
	int error;
};

FIXTURE_SETUP(bad)
{
	ASSERT_EQ(0, bench_make(&self->b));
	self->fd = self->b.q.fd;
}

FIXTURE_TEARDOWN(bad)
{
	bench_free(&self->b);
}

#define BAD(name, errno_, target_, with_file_, ...)			\
	FIXTURE_VARIANT_ADD(bad, name) {				\
		.c = { __VA_ARGS__ },					\
		.target = (target_),					\
		.with_file = (with_file_),				\
		.error = (errno_),					\
	}

#define ADD_FILE .op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE
#define FILE_BAD(name, errno_, ...)					\
	BAD(add_file_##name, errno_, NO_ID, 1, ADD_FILE, __VA_ARGS__)

FILE_BAD(id, -EINVAL, .events = EPOLLIN, .id = 1);
FILE_BAD(value, -EINVAL, .events = EPOLLIN, .value = 1);
FILE_BAD(period, -EINVAL, .events = EPOLLIN, .period = 1);
FILE_BAD(buffer, -EINVAL, .events = EPOLLIN, .buffer = 1);
FILE_BAD(no_events, -EINVAL, .events = 0);
FILE_BAD(epollet, -EINVAL, .events = EPOLLIN | EPOLLET);
FILE_BAD(epolloneshot, -EINVAL, .events = EPOLLIN | EPOLLONESHOT);
FILE_BAD(epollexclusive, -EINVAL, .events = EPOLLIN | EPOLLEXCLUSIVE);
FILE_BAD(epollnval, -EINVAL, .events = EPOLLIN | 0x20);
FILE_BAD(pollfree, -EINVAL, .events = EPOLLIN | 0x4000);
FILE_BAD(oneshot_level, -EINVAL, .events = EPOLLIN,
	 .flags = KEVENT_ONESHOT | KEVENT_LEVEL);
FILE_BAD(latest, -EINVAL, .events = EPOLLIN, .flags = KEVENT_LATEST);
FILE_BAD(abstime, -EINVAL, .events = EPOLLIN, .flags = KEVENT_ABSTIME);
FILE_BAD(close_fd, -EINVAL, .events = EPOLLIN, .flags = KEVENT_CLOSE_FD);
FILE_BAD(nomerge, -EINVAL, .events = EPOLLIN, .flags = KEVENT_NOMERGE);
FILE_BAD(flag_next, -EINVAL, .events = EPOLLIN, .flags = 0x80);
FILE_BAD(flag_highest, -EINVAL, .events = EPOLLIN, .flags = 1U << 31);
FILE_BAD(ring, -EINVAL, .events = EPOLLIN, .ring = 2);
FILE_BAD(ring_any, -EINVAL, .events = EPOLLIN, .ring = KEVENT_RING_ANY);
BAD(add_file_fd_minus_one, -EBADF, NO_ID, 0, ADD_FILE, .events = EPOLLIN, .fd = -1);
BAD(add_file_fd_least, -EBADF, NO_ID, 0, ADD_FILE, .events = EPOLLIN, .fd = INT_MIN);
BAD(add_file_fd_closed, -EBADF, NO_ID, 0, ADD_FILE, .events = EPOLLIN, .fd = 1000);
BAD(add_kind_0, -EINVAL, NO_ID, 1, .op = KEVENT_OP_ADD, .events = EPOLLIN);
BAD(add_kind_4, -EINVAL, NO_ID, 1, .op = KEVENT_OP_ADD, .kind = 4, .events = EPOLLIN);
BAD(add_kind_nop, -EINVAL, NO_ID, 0, .op = KEVENT_OP_ADD, .kind = KEVENT_KIND_NOP);
BAD(add_kind_highest, -EINVAL, NO_ID, 0, .op = KEVENT_OP_ADD, .kind = 0xffff);

#define TIMER_BAD(name, errno_, ...)					\
	BAD(add_timer_##name, errno_, NO_ID, 0, .op = KEVENT_OP_ADD,	\
	    .kind = KEVENT_KIND_TIMER, __VA_ARGS__)

TIMER_BAD(id, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1, .id = 1);
TIMER_BAD(events, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1,
	  .events = EPOLLIN);
TIMER_BAD(buffer, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1, .buffer = 1);
TIMER_BAD(clock_minus_one, -EINVAL, .fd = -1, .value = 1);
TIMER_BAD(clock_cpu, -EINVAL, .fd = CLOCK_PROCESS_CPUTIME_ID, .value = 1);
TIMER_BAD(clock_raw, -EINVAL, .fd = CLOCK_MONOTONIC_RAW, .value = 1);
TIMER_BAD(clock_tai, -EINVAL, .fd = CLOCK_TAI, .value = 1);
TIMER_BAD(clock_unknown, -EINVAL, .fd = 1000, .value = 1);
TIMER_BAD(value_sign, -EINVAL, .fd = CLOCK_MONOTONIC,
	  .value = 1ULL << 63);
TIMER_BAD(value_all_ones, -EINVAL, .fd = CLOCK_MONOTONIC, .value = ~0ULL);
TIMER_BAD(period_sign, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1,
	  .period = 1ULL << 63);
TIMER_BAD(never, -EINVAL, .fd = CLOCK_MONOTONIC);
TIMER_BAD(latest, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1,
	  .flags = KEVENT_LATEST);
TIMER_BAD(oneshot_level, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1,
	  .flags = KEVENT_ONESHOT | KEVENT_LEVEL);
TIMER_BAD(flag, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1, .flags = 0x80);
TIMER_BAD(ring, -EINVAL, .fd = CLOCK_MONOTONIC, .value = 1, .ring = 2);

#define USER_BAD(name, errno_, ...)					\
	BAD(add_user_##name, errno_, NO_ID, 0, .op = KEVENT_OP_ADD,	\
	    .kind = KEVENT_KIND_USER, __VA_ARGS__)

USER_BAD(id, -EINVAL, .id = 1);
USER_BAD(fd, -EINVAL, .fd = 1);
USER_BAD(events, -EINVAL, .events = EPOLLIN);
USER_BAD(value, -EINVAL, .value = 1);
USER_BAD(period, -EINVAL, .period = 1);
USER_BAD(buffer, -EINVAL, .buffer = 1);
USER_BAD(abstime, -EINVAL, .flags = KEVENT_ABSTIME);
USER_BAD(nomerge, -EINVAL, .flags = KEVENT_NOMERGE);
USER_BAD(oneshot_level, -EINVAL, .flags = KEVENT_ONESHOT | KEVENT_LEVEL);
USER_BAD(ring, -EINVAL, .ring = 2);

#define MODIFY_BAD(name, errno_, target_, ...)				\
	BAD(modify_##name, errno_, target_, 0, .op = KEVENT_OP_MODIFY,	\
	    __VA_ARGS__)

MODIFY_BAD(missing, -ENOENT, NO_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN, .id = 0x123456789ULL);
MODIFY_BAD(id_0, -ENOENT, NO_ID, .kind = KEVENT_KIND_FILE, .events = EPOLLIN);
MODIFY_BAD(kind, -EINVAL, FILE_ID, .kind = KEVENT_KIND_TIMER, .value = 1);
MODIFY_BAD(kind_0, -EINVAL, FILE_ID, .events = EPOLLIN);
MODIFY_BAD(file_ring, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN, .ring = 1);
MODIFY_BAD(file_fd, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN, .fd = 1);
MODIFY_BAD(file_value, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN, .value = 1);
MODIFY_BAD(file_buffer, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN, .buffer = 1);
MODIFY_BAD(file_no_events, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE);
MODIFY_BAD(file_epollet, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN | EPOLLET);
MODIFY_BAD(file_flags, -EINVAL, FILE_ID, .kind = KEVENT_KIND_FILE,
	   .events = EPOLLIN, .flags = KEVENT_ONESHOT | KEVENT_LEVEL);
MODIFY_BAD(timer_clock, -EINVAL, TIMER_ID, .kind = KEVENT_KIND_TIMER,
	   .fd = CLOCK_BOOTTIME, .value = 1);
MODIFY_BAD(timer_value, -EINVAL, TIMER_ID, .kind = KEVENT_KIND_TIMER,
	   .value = 1ULL << 63);
MODIFY_BAD(user_value, -EINVAL, USER_ID, .kind = KEVENT_KIND_USER, .value = 1);

#define PLAIN_BAD(op_)							\
	BAD(op_##_id_0, -ENOENT, NO_ID, 0, .op = KEVENT_OP_##op_);	\
	BAD(op_##_missing, -ENOENT, NO_ID, 0, .op = KEVENT_OP_##op_,	\
	    .id = 0x123456789ULL);					\
	BAD(op_##_kind, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .kind = KEVENT_KIND_USER);					\
	BAD(op_##_cookie, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .cookie = 1);						\
	BAD(op_##_flags, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .flags = KEVENT_DISABLED);					\
	BAD(op_##_ring, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .ring = 1);							\
	BAD(op_##_fd, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .fd = 1);							\
	BAD(op_##_events, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .events = EPOLLIN);						\
	BAD(op_##_period, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .period = 1);						\
	BAD(op_##_buffer, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .buffer = 1)

#define VALUELESS_BAD(op_)						\
	PLAIN_BAD(op_);							\
	BAD(op_##_value, -EINVAL, USER_ID, 0, .op = KEVENT_OP_##op_,	\
	    .value = 1)

VALUELESS_BAD(REMOVE);
VALUELESS_BAD(ENABLE);
VALUELESS_BAD(DISABLE);
VALUELESS_BAD(ACK);
PLAIN_BAD(TRIGGER);

BAD(trigger_file, -EOPNOTSUPP, FILE_ID, 0, .op = KEVENT_OP_TRIGGER);
BAD(trigger_timer, -EOPNOTSUPP, TIMER_ID, 0, .op = KEVENT_OP_TRIGGER);
BAD(trigger_negative, -EINVAL, USER_ID, 0, .op = KEVENT_OP_TRIGGER, .value = 1ULL << 63);
BAD(ack_file, -EOPNOTSUPP, FILE_ID, 0, .op = KEVENT_OP_ACK);
BAD(close_fd_of_timer, -EBADF, TIMER_ID, 1, .op = KEVENT_OP_REMOVE, .flags = KEVENT_CLOSE_FD);
BAD(op_0, -EINVAL, USER_ID, 0, .op = 0);
BAD(op_10, -EINVAL, USER_ID, 0, .op = 10);
BAD(op_highest, -EINVAL, USER_ID, 0, .op = 0xffff);

#define SUBMIT_BAD(name, errno_, ...)					\
	BAD(submit_##name, errno_, NO_ID, 0, .op = KEVENT_OP_SUBMIT,	\
	    __VA_ARGS__)

SUBMIT_BAD(kind_0, -EINVAL, .value = 1);
SUBMIT_BAD(kind_file, -EINVAL, .kind = KEVENT_KIND_FILE, .value = 1);
SUBMIT_BAD(kind_23, -EINVAL, .kind = 23);
SUBMIT_BAD(id, -EINVAL, .kind = KEVENT_KIND_NOP, .id = 1);
SUBMIT_BAD(flags, -EINVAL, .kind = KEVENT_KIND_NOP, .flags = KEVENT_ONESHOT);
SUBMIT_BAD(ring, -EINVAL, .kind = KEVENT_KIND_NOP, .ring = 2);
SUBMIT_BAD(fd, -EINVAL, .kind = KEVENT_KIND_NOP, .fd = 1);
SUBMIT_BAD(events, -EINVAL, .kind = KEVENT_KIND_NOP, .events = EPOLLIN);
SUBMIT_BAD(period, -EINVAL, .kind = KEVENT_KIND_NOP, .period = 1);
SUBMIT_BAD(buffer, -EINVAL, .kind = KEVENT_KIND_NOP, .buffer = 1);

/* The sources of the bench are there and as they were. */
static int bench_unchanged(struct bench *b)
{
	struct ukevent ev;

	return sources_of(&b->q, 0) == 3 && sources_of(&b->q, 1) == 0 &&
	       tail_of(&b->q, 0) == head_of(&b->q, 0) &&
	       !get(b->q.fd, &ev, 0, 1, 0) && !eventfd_fire(b->file) &&
	       get_one(b->q.fd, &ev) == 1 && ev.cookie == 1 &&
	       ev.id == b->ids[FILE_ID] && ev.events == EPOLLIN &&
	       !trigger(b->q.fd, b->ids[USER_ID], 5) &&
	       get_one(b->q.fd, &ev) == 1 && ev.cookie == 3 && ev.result == 5 &&
	       !get_now(b->q.fd);
}

/* One wrong field: its errno, nothing else written, nothing changed. */
TEST_F(bad, refused)
{
	struct kevent_change c = variant->c, before;

	if (variant->target)
		c.id = self->b.ids[variant->target];
	if (variant->with_file)
		c.fd = self->b.file;
	before = c;
	EXPECT_EQ(variant->error, change(self->fd, &c));
	c.result = before.result;
	EXPECT_EQ(0, memcmp(&before, &c, sizeof(c)));
	EXPECT_TRUE(bench_unchanged(&self->b));
}

/* A regular file cannot be polled: EPERM. */
TEST_F(change, regular_file)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	EXPECT_EQ(-EPERM, add_file(self->fd, fd, EPOLLIN, 0, 0, NULL));
	EXPECT_TRUE(bench_unchanged(&self->b));
	close(fd);
}

/* Neither can a directory. */
TEST_F(change, directory)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY);

	EXPECT_EQ(-EPERM, add_file(self->fd, fd, EPOLLIN, 0, 0, NULL));
	close(fd);
}

/* A descriptor opened with O_PATH does not count as open: EBADF. */
TEST_F(change, o_path)
{
	int fd = open("/", O_PATH);

	EXPECT_EQ(-EBADF, add_file(self->fd, fd, EPOLLIN, 0, 0, NULL));
	close(fd);
}

/* A closed descriptor is EBADF. */
TEST_F(change, closed)
{
	int fd = eventfd_make();

	close(fd);
	EXPECT_EQ(-EBADF, add_file(self->fd, fd, EPOLLIN, 0, 0, NULL));
}

/* ERR and HUP may be named beside others, as other interfaces have it. */
TEST_F(change, err_and_hup)
{
	EXPECT_EQ(0, add_file(self->fd, self->b.file,
			      EPOLLIN | EPOLLERR | EPOLLHUP, 0, 9, NULL));
}

/* Every bit that may be asked for may be. */
TEST_F(change, all_bits)
{
	static const uint32_t bits[] = {
		EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLRDNORM, EPOLLRDBAND,
		EPOLLWRNORM, EPOLLWRBAND, EPOLLMSG, EPOLLRDHUP, EPOLLERR,
		EPOLLHUP,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bits); i++)
		EXPECT_EQ(0, add_file(self->fd, self->b.file, bits[i],
				      KEVENT_DISABLED, 0, NULL));
}

/* The caller's own ring is some ring. */
TEST_F(change, local_ring)
{
	uint64_t id;

	ASSERT_EQ(0, add_user_at(self->fd, KEVENT_RING_LOCAL, 0, 7, &id));
	EXPECT_EQ(4, sources_of(&self->b.q, 0) + sources_of(&self->b.q, 1));
}

/* Ids are not 0, differ, and are not used again. */
TEST_F(change, ids)
{
	uint64_t ids[200];
	int i, k;

	for (i = 0; i < 200; i++) {
		ASSERT_EQ(0, add_user(self->fd, 0, 0, &ids[i]));
		ASSERT_NE(0, ids[i]);
		for (k = 0; k < i; k++) {
			ASSERT_NE(ids[k], ids[i]);
		}
		if (i % 3) {
			ASSERT_EQ(0, remove_id(self->fd, ids[i]));
		}
	}
}

/* The id of a removed source names nothing, though its place is used again. */
TEST_F(change, stale_id)
{
	uint64_t old, new;

	ASSERT_EQ(0, add_user(self->fd, 0, 1, &old));
	ASSERT_EQ(0, remove_id(self->fd, old));
	ASSERT_EQ(0, add_user(self->fd, 0, 2, &new));
	EXPECT_EQ(-ENOENT, trigger(self->fd, old, 1));
	EXPECT_EQ(-ENOENT, remove_id(self->fd, old));
	EXPECT_EQ(-ENOENT, enable_id(self->fd, old));
	EXPECT_EQ(-ENOENT, disable_id(self->fd, old));
	EXPECT_EQ(-ENOENT, ack_id(self->fd, old));
	EXPECT_EQ(0, trigger(self->fd, new, 1));
}

/* A flipped bit in an id names nothing. */
TEST_F(change, forged_id)
{
	uint64_t id = self->b.ids[USER_ID];
	int bit, found = 0;

	for (bit = 0; bit < 64; bit++)
		found += trigger(self->fd, id ^ (1ULL << bit), 1) == 0;
	EXPECT_EQ(0, found);
}

/* An id of one queue means nothing to another. */
TEST_F(change, foreign_id)
{
	int other = queue_open(1, 8);

	ASSERT_LE(0, other);
	EXPECT_EQ(-ENOENT, remove_id(other, self->b.ids[USER_ID]));
	EXPECT_TRUE(bench_unchanged(&self->b));
	close(other);
}

/* One bad entry does not hide those around it, and each has its result. */
TEST_F(change, bad_in_the_middle)
{
	struct kevent_change c[5] = {
		file_change(self->b.file, EPOLLIN, 0, 10),
		file_change(-1, EPOLLIN, 0, 11),
		{ .op = KEVENT_OP_ADD, .kind = KEVENT_KIND_USER, .cookie = 12 },
		{ .op = 77 },
		{ .op = KEVENT_OP_TRIGGER, .id = self->b.ids[USER_ID],
		  .value = 4 },
	};
	struct ukevent ev;
	int i;

	for (i = 0; i < 5; i++)
		c[i].result = 0x5a5a5a5a;
	EXPECT_EQ(5, changes(self->fd, c, 5));
	EXPECT_EQ(0, c[0].result);
	EXPECT_EQ(-EBADF, c[1].result);
	EXPECT_EQ(0, c[2].result);
	EXPECT_EQ(-EINVAL, c[3].result);
	EXPECT_EQ(0, c[4].result);
	EXPECT_NE(0, c[0].id);
	EXPECT_EQ(0, c[1].id);
	EXPECT_NE(0, c[2].id);
	EXPECT_EQ(5, sources_of(&self->b.q, 0));
	EXPECT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(4, ev.result);
}

static int changes_arg(int fd, unsigned int size, unsigned int flags,
		       uint64_t address, unsigned int nr)
{
	struct { struct kevent_changes a; char more[8]; } arg;
	int result;

	memset(&arg, 0, sizeof(arg));
	arg.a.size = size;
	arg.a.flags = flags;
	arg.a.changes = address;
	arg.a.nr = nr;
	arg.a.done = 0xa5a5a5a5;
	if (size > sizeof(arg.a) + 1)
		arg.more[size - sizeof(arg.a) - 1] = 1;
	result = ioc(fd, KEVENT_IOC_CHANGE, &arg);
	if (result >= 0 && (unsigned int)result != arg.a.done)
		return -EPROTO;
	return result;
}

#define CHANGES_SIZE sizeof(struct kevent_changes)

/* The size of the argument: shorter EINVAL, longer and zero works. */
TEST_F(change, size)
{
	struct kevent_change c = { .op = KEVENT_OP_TRIGGER };
	uint64_t a = (uintptr_t)&c;

	EXPECT_EQ(-EINVAL, changes_arg(self->fd, 0, 0, a, 1));
	EXPECT_EQ(-EINVAL, changes_arg(self->fd, CHANGES_SIZE - 1, 0, a, 1));
	EXPECT_EQ(0, c.result);
	EXPECT_EQ(1, changes_arg(self->fd, CHANGES_SIZE + 1, 0, a, 1));
	EXPECT_EQ(-ENOENT, c.result);
}

/* Longer and not zero is E2BIG. */
TEST_F(change, size_not_zero)
{
	struct kevent_change c = { .op = KEVENT_OP_TRIGGER };

	EXPECT_EQ(-E2BIG, changes_arg(self->fd, CHANGES_SIZE + 2, 0,
				      (uintptr_t)&c, 1));
	EXPECT_EQ(0, c.result);
}

/* No flag is known. */
TEST_F(change, call_flags)
{
	struct kevent_change c = { .op = KEVENT_OP_TRIGGER };

	EXPECT_EQ(-EINVAL, changes_arg(self->fd, CHANGES_SIZE, 1,
				       (uintptr_t)&c, 1));
	EXPECT_EQ(-EINVAL, changes_arg(self->fd, CHANGES_SIZE, 1U << 31,
				       (uintptr_t)&c, 1));
	EXPECT_EQ(0, c.result);
}

/* More changes than the limit are EINVAL. */
TEST_F(change, too_many)
{
	struct kevent_change c = { .op = KEVENT_OP_TRIGGER };

	EXPECT_EQ(-EINVAL, changes_arg(self->fd, CHANGES_SIZE, 0,
				       (uintptr_t)&c, KEVENT_MAX_CHANGES + 1));
	EXPECT_EQ(-EINVAL, changes_arg(self->fd, CHANGES_SIZE, 0,
				       (uintptr_t)&c, UINT_MAX));
	EXPECT_EQ(0, c.result);
}

/* KEVENT_IOC_TRIGGER posts what TRIGGER does. */
TEST_F(change, trigger_call)
{
	uint64_t id = self->b.ids[USER_ID];
	struct ukevent ev;

	EXPECT_EQ(0, trigger_call(self->fd, id, 7, KEVENT_NOMERGE));
	EXPECT_EQ(-EAGAIN, trigger_call(self->fd, id, 8, KEVENT_NOMERGE));
	EXPECT_EQ(0, trigger_flags(self->fd, id, 9, 0));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(id, ev.id);
	EXPECT_EQ(3, ev.cookie);
	EXPECT_EQ(7, ev.result);
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(9, ev.result);
}

/* And fails where TRIGGER does. */
TEST_F(change, trigger_call_bad)
{
	uint64_t id = self->b.ids[USER_ID];

	EXPECT_EQ(-ENOENT, trigger_call(self->fd, 0, 0, 0));
	EXPECT_EQ(-ENOENT, trigger_call(self->fd, id + (1ULL << 40), 0, 0));
	EXPECT_EQ(-EOPNOTSUPP, trigger_call(self->fd, self->b.ids[FILE_ID], 0, 0));
	EXPECT_EQ(-EOPNOTSUPP, trigger_call(self->fd, self->b.ids[TIMER_ID], 0, 0));
	EXPECT_EQ(-EINVAL, trigger_call(self->fd, id, 1ULL << 63, 0));
	EXPECT_EQ(-EINVAL, trigger_call(self->fd, id, 0, KEVENT_ONESHOT));
	EXPECT_EQ(-EINVAL, trigger_call(self->fd, id, 0, 1U << 31));
	EXPECT_EQ(0, get_now(self->fd));
	ASSERT_EQ(0, trigger_call(self->fd, id, INT64_MAX, 0));
	ASSERT_EQ(0, trigger_call(self->fd, id, INT64_MAX, 0));
	EXPECT_EQ(-EOVERFLOW, trigger_call(self->fd, id, 1, 0));
}

/* Its argument, as others: sizes, bad addresses, no queue. */
TEST_F(change, trigger_call_argument)
{
	struct { struct kevent_trigger t; uint64_t more; } a = {
		.t = { .size = sizeof(a.t) - 1, .id = self->b.ids[USER_ID] },
	};
	int fd = open(KEVENT_DEVICE, O_RDWR);
	char *edge = edge_of_mapping();

	EXPECT_EQ(-EINVAL, ioc(self->fd, KEVENT_IOC_TRIGGER, &a));
	a.t.size = sizeof(a);
	EXPECT_EQ(0, ioc(self->fd, KEVENT_IOC_TRIGGER, &a));
	a.more = 1;
	EXPECT_EQ(-E2BIG, ioc(self->fd, KEVENT_IOC_TRIGGER, &a));
	a.t.size = sizeof(a.t);
	EXPECT_EQ(-EBADFD, ioc(fd, KEVENT_IOC_TRIGGER, &a));
	EXPECT_EQ(0, ioc(self->fd, KEVENT_IOC_TRIGGER, &a));
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_TRIGGER, NULL));
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_TRIGGER, edge));
	memcpy(edge - 16, &a, 16);
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_TRIGGER, edge - 16));
	memcpy(edge - sizeof(a.t) - 1, &a, sizeof(a.t));
	EXPECT_EQ(0, ioc(self->fd, KEVENT_IOC_TRIGGER, edge - sizeof(a.t) - 1));
	close(fd);
}

/* The limit itself works. */
TEST_F(change, most)
{
	struct kevent_change *c = calloc(KEVENT_MAX_CHANGES, sizeof(*c));
	unsigned int i, wrong = 0;

	ASSERT_NE(NULL, c);
	EXPECT_EQ(KEVENT_MAX_CHANGES,
		  changes_arg(self->fd, CHANGES_SIZE, 0, (uintptr_t)c,
			      KEVENT_MAX_CHANGES));
	for (i = 0; i < KEVENT_MAX_CHANGES; i++)
		wrong += c[i].result != -EINVAL;
	EXPECT_EQ(0, wrong);
	free(c);
}

/* No changes: none done. */
TEST_F(change, none)
{
	EXPECT_EQ(0, changes_arg(self->fd, CHANGES_SIZE, 0, 0, 0));
}

/* A misaligned array is EINVAL. */
TEST_F(change, misaligned)
{
	char room[2 * sizeof(struct kevent_change)] __attribute__((aligned(8)));
	int i;

	memset(room, 0, sizeof(room));
	for (i = 1; i < 8; i++)
		EXPECT_EQ(-EINVAL, changes_arg(self->fd, CHANGES_SIZE, 0,
					       (uintptr_t)room + i, 1));
}

/* No array is EFAULT, and so is one in the kernel. */
TEST_F(change, null_array)
{
	EXPECT_EQ(-EFAULT, changes_arg(self->fd, CHANGES_SIZE, 0, 0, 1));
	EXPECT_EQ(-EFAULT, changes_arg(self->fd, CHANGES_SIZE, 0,
				       0xffffffff80000000ULL, 1));
	EXPECT_EQ(-EFAULT, changes_arg(self->fd, CHANGES_SIZE, 0,
				       ~0ULL - 7, 1));
}

/* No argument is EFAULT. */
TEST_F(change, null)
{
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_CHANGE, NULL));
}

/* An array that ends early is worked off up to there. */
TEST_F(change, half_mapped)
{
	struct kevent_change *c = (void *)edge_of_mapping();

	ASSERT_NE(NULL, c);
	c -= 2;
	memset(c, 0, 2 * sizeof(*c));
	c[0].op = KEVENT_OP_ADD;
	c[0].kind = KEVENT_KIND_USER;
	c[1] = c[0];
	EXPECT_EQ(2, changes_arg(self->fd, CHANGES_SIZE, 0, (uintptr_t)c, 3));
	EXPECT_EQ(5, sources_of(&self->b.q, 0));
	EXPECT_NE(0, c[1].id);
}

/* An entry that is itself mapped in part is not done. */
TEST_F(change, split_entry)
{
	char *end = edge_of_mapping();
	struct kevent_change *c = (void *)(end - sizeof(*c) - 32);

	memset(c, 0, sizeof(*c) + 32);
	c[0].op = KEVENT_OP_ADD;
	c[0].kind = KEVENT_KIND_USER;
	EXPECT_EQ(1, changes_arg(self->fd, CHANGES_SIZE, 0, (uintptr_t)c, 2));
	EXPECT_EQ(4, sources_of(&self->b.q, 0));
	EXPECT_EQ(-EFAULT, changes_arg(self->fd, CHANGES_SIZE, 0,
				       (uintptr_t)(c + 1), 1));
}

/* An ADD whose answer cannot be written is undone. */
TEST_F(change, read_only)
{
	struct kevent_change c = file_change(self->b.file, EPOLLIN, 0, 9);
	void *p = read_only_copy(&c, sizeof(c));

	EXPECT_EQ(-EFAULT, changes_arg(self->fd, CHANGES_SIZE, 0,
				       (uintptr_t)p, 1));
	EXPECT_TRUE(bench_unchanged(&self->b));
}

/* An argument that cannot be written is EFAULT. */
TEST_F(change, read_only_argument)
{
	struct kevent_changes arg = { .size = CHANGES_SIZE };
	void *p = read_only_copy(&arg, sizeof(arg));

	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_CHANGE, p));
}

/* Thousands of sources come and go, and the counter says so. */
TEST_F(change, many)
{
	unsigned int n = scaled(10000), i;
	struct kevent_change *c = calloc(n, sizeof(*c));

	ASSERT_NE(NULL, c);
	for (i = 0; i < n; i++)
		c[i] = file_change(self->b.file, EPOLLIN, 0, i);
	ASSERT_EQ(n, changes(self->fd, c, n));
	for (i = 0; i < n; i++)
		if (c[i].result == -ENOSPC)
			break;
	EXPECT_EQ(i + 3, sources_of(&self->b.q, 0));
	n = i;
	for (i = 0; i < n; i++)
		c[i] = (struct kevent_change){ .op = KEVENT_OP_REMOVE,
					       .id = c[i].id };
	ASSERT_EQ(n, changes(self->fd, c, n));
	EXPECT_EQ(3, sources_of(&self->b.q, 0));
	free(c);
}

/* A nop reports the result that it was given, whatever it is. */
TEST_F(change, nop_results)
{
	static const int64_t values[] = {
		0, 1, -1, -EIO, INT_MAX, INT64_MAX, INT64_MIN,
	};
	struct ukevent ev;
	unsigned int i;
	uint64_t id;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(0, submit_nop_at(self->fd, 1, values[i], i, &id));
		EXPECT_EQ(1, get_one(self->fd, &ev));
		EXPECT_EQ(i, ev.cookie);
		EXPECT_EQ(id, ev.id);
		EXPECT_NE(0, id);
		EXPECT_EQ(KEVENT_KIND_NOP, ev.kind);
		EXPECT_EQ(KEVENT_EV_INLINE, ev.flags);
		EXPECT_EQ(0, ev.events);
		EXPECT_EQ(values[i], ev.result);
	}
	EXPECT_EQ(0, requests_of(&self->b.q, 1));
}

/* The id of a request names no source. */
TEST_F(change, nop_id)
{
	uint64_t id;

	ASSERT_EQ(0, submit_nop_at(self->fd, 0, 1, 1, &id));
	EXPECT_EQ(-ENOENT, remove_id(self->fd, id));
	EXPECT_EQ(1, get_now(self->fd));
}

TEST_HARNESS_MAIN
