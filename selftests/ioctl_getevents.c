// SPDX-License-Identifier: GPL-2.0
/* KEVENT_IOC_GETEVENTS: good and bad input, timeouts, signal masks. */
#include "kevent_test.h"

FIXTURE(get) {
	struct queue q;
	int fd;
	uint64_t user;
};

FIXTURE_SETUP(get)
{
	ASSERT_EQ(0, queue_make(&self->q, 2, 16));
	self->fd = self->q.fd;
	ASSERT_EQ(0, add_user(self->fd, 0, 1, &self->user));
}

FIXTURE_TEARDOWN(get)
{
	queue_free(&self->q);
}

FIXTURE(bad_get) {
	struct queue q;
	uint64_t user;
};

FIXTURE_VARIANT(bad_get) {
	unsigned int offset;
	unsigned int size;
	unsigned long long value;
	unsigned int flags;
	int error;
};

#define BAD_FLAGS(name, flags_, field, number, errno_)			\
	FIXTURE_VARIANT_ADD(bad_get, name) {				\
		.offset = offsetof(struct kevent_get, field),		\
		.size = sizeof(((struct kevent_get *)0)->field),	\
		.value = (number),					\
		.flags = (flags_),					\
		.error = (errno_),					\
	}
#define BAD(name, field, number, errno_)				\
	BAD_FLAGS(name, 0, field, number, errno_)

BAD(size_zero, size, 0, -EINVAL);
BAD(size_one_less, size, sizeof(struct kevent_get) - 1, -EINVAL);
BAD(flag_next, flags, 4, -EINVAL);
BAD(flag_highest, flags, 1U << 31, -EINVAL);
BAD(ring, ring, 2, -EINVAL);
BAD(ring_large, ring, 0xfffffffd, -EINVAL);
BAD(min_over_max, min, 5, -EINVAL);
BAD(min_all_ones, min, UINT_MAX, -EINVAL);
BAD_FLAGS(mapped_min_over_entries, KEVENT_GET_MAPPED, min, 17, -EINVAL);
BAD(events_odd, events, 4097, -EINVAL);
BAD(timeout_minus_two, timeout, -2LL, -EINVAL);
BAD(timeout_least, timeout, 1ULL << 63, -EINVAL);
BAD_FLAGS(abstime_minus_two, KEVENT_GET_ABSTIME, timeout, -2LL, -EINVAL);
BAD(min_wait_sign, min_wait, 1ULL << 63, -EINVAL);
BAD(min_wait_all_ones, min_wait, ~0ULL, -EINVAL);
BAD(sigsetsize_alone, sigsetsize, 8, -EINVAL);
BAD(sigmask_without_size, sigmask, 4096, -EINVAL);
BAD(changes_too_many, nr_changes, KEVENT_MAX_CHANGES + 1, -EINVAL);
BAD(changes_all_ones, nr_changes, UINT_MAX, -EINVAL);
BAD(pad, pad, 1, -EINVAL);
BAD(pad_highest, pad, 1U << 31, -EINVAL);
BAD(changes_null, nr_changes, 1, -EFAULT);

FIXTURE_SETUP(bad_get)
{
	ASSERT_EQ(0, queue_make(&self->q, 2, 16));
	ASSERT_EQ(0, add_user(self->q.fd, 0, 1, &self->user));
}

FIXTURE_TEARDOWN(bad_get)
{
	queue_free(&self->q);
}

/* One wrong field: its errno, and the event is there for the next call. */
TEST_F(bad_get, refused)
{
	struct ukevent ev[4];
	struct kevent_get g = get_arg(ev, 1, 4, LONG_NS);

	ASSERT_EQ(0, trigger(self->q.fd, self->user, 3));
	g.flags = variant->flags;
	memcpy((char *)&g + variant->offset, &variant->value, variant->size);
	EXPECT_EQ(variant->error, ioc(self->q.fd, KEVENT_IOC_GETEVENTS, &g));
	EXPECT_EQ(0, head_of(&self->q, 0) - tail_of(&self->q, 0) + 1);
	ASSERT_EQ(1, get(self->q.fd, ev, 0, 4, 0));
	EXPECT_EQ(3, ev[0].result);
}

/* A wrong field is found before any change is made. */
TEST_F(get, no_change_before_checks)
{
	struct kevent_change c = { .op = KEVENT_OP_ADD,
				   .kind = KEVENT_KIND_USER };
	struct ukevent ev;
	struct kevent_get g = get_arg(&ev, 0, 1, 0);

	g.changes = (uintptr_t)&c;
	g.nr_changes = 1;
	g.pad = 1;
	EXPECT_EQ(-EINVAL, ioc(self->fd, KEVENT_IOC_GETEVENTS, &g));
	EXPECT_EQ(1, sources_of(&self->q, 0));
}

/* Longer and zero works, longer and not zero is E2BIG. */
TEST_F(get, size)
{
	struct { struct kevent_get g; char more[8]; } a;
	struct ukevent ev;

	memset(&a, 0, sizeof(a));
	a.g = get_arg(&ev, 0, 1, 0);
	a.g.size = sizeof(a.g) + 1;
	EXPECT_EQ(0, ioc(self->fd, KEVENT_IOC_GETEVENTS, &a));
	a.more[0] = 1;
	EXPECT_EQ(-E2BIG, ioc(self->fd, KEVENT_IOC_GETEVENTS, &a));
}

/* No argument is EFAULT. */
TEST_F(get, null)
{
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_GETEVENTS, NULL));
}

/* An argument that is mapped in part is EFAULT, and takes nothing. */
TEST_F(get, half_mapped_argument)
{
	struct ukevent ev;
	struct kevent_get g = get_arg(&ev, 0, 1, 0);
	char *end = edge_of_mapping();
	size_t n;

	ASSERT_EQ(0, trigger(self->fd, self->user, 1));
	for (n = 4; n < sizeof(g); n += 4) {
		memcpy(end - n, &g, n);
		EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_GETEVENTS,
				       end - n));
	}
	EXPECT_EQ(1, get_now(self->fd));
}

/* Events that cannot be stored are there for the next call. */
TEST_F(get, events_null)
{
	struct kevent_get g = get_arg(NULL, 1, 0, LONG_NS);
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->user, 7));
	g.max = 1;
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_GETEVENTS, &g));
	EXPECT_EQ(0, g.nr);
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(7, ev.result);
}

/* The same for an array that can only be read. */
TEST_F(get, events_read_only)
{
	struct ukevent ev = { };
	struct kevent_get g = get_arg(&ev, 1, 1, LONG_NS);

	ASSERT_EQ(0, trigger(self->fd, self->user, 7));
	g.events = (uintptr_t)read_only_copy(&ev, sizeof(ev));
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_GETEVENTS, &g));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(7, ev.result);
}

/* An array that ends at an unmapped page takes none or some; none is lost. */
TEST_F(get, events_half_mapped)
{
	struct ukevent *end = (void *)edge_of_mapping(), ev[8];
	struct kevent_get g = get_arg(NULL, 5, 0, 0);
	int first, i, seen = 0;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, 0));
	}
	g.events = (uintptr_t)(end - 2);
	g.max = 8;
	g.min = 0;
	first = ioc(self->fd, KEVENT_IOC_GETEVENTS, &g);
	EXPECT_TRUE(first == -EFAULT || first == 2);
	for (i = 0; i < (first > 0 ? first : 0); i++)
		seen |= 1 << end[i - 2].result;
	first = get(self->fd, ev, 0, 8, 0);
	ASSERT_LE(0, first);
	for (i = 0; i < first; i++) {
		EXPECT_EQ(0, seen & (1 << ev[i].result));
		seen |= 1 << ev[i].result;
	}
	EXPECT_EQ(31, seen);
}

/* Level events that cannot be stored are found again. */
TEST_F(get, level_fault)
{
	struct kevent_get g = get_arg(NULL, 0, 0, 0);
	int file = eventfd_make();
	struct ukevent ev;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, KEVENT_LEVEL, 5, NULL));
	eventfd_fire(file);
	g.max = 1;
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_GETEVENTS, &g));
	EXPECT_NE(0, hint_of(&self->q, 0));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(5, ev.cookie);
	close(file);
}

/* The array and what lies behind its events stay as they were. */
TEST_F(get, nothing_behind)
{
	struct ukevent ev[4], poison;
	struct kevent_get g = get_arg(ev, 1, 2, LONG_NS);

	memset(&poison, POISON, sizeof(poison));
	memset(ev, POISON, sizeof(ev));
	ASSERT_EQ(0, trigger(self->fd, self->user, 1));
	ASSERT_EQ(1, get_run(self->fd, &g));
	EXPECT_EQ(0, memcmp(&ev[1], &poison, sizeof(poison)));
	EXPECT_EQ(0, memcmp(&ev[2], &poison, sizeof(poison)));
}

/* Only nr and changes_done of the argument are written. */
TEST_F(get, only_outputs)
{
	struct ukevent ev[2];
	struct kevent_get g = get_arg(ev, 0, 2, 0), before = g;

	ASSERT_EQ(0, get_run(self->fd, &g));
	EXPECT_EQ(0, g.nr);
	EXPECT_EQ(0, g.changes_done);
	before.nr = 0;
	before.changes_done = 0;
	EXPECT_EQ(0, memcmp(&before, &g, sizeof(g)));
}

/* An event's fields are those of its source. */
TEST_F(get, event_fields)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->user, 42));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(1, ev.cookie);
	EXPECT_EQ(self->user, ev.id);
	EXPECT_EQ(0, ev.events);
	EXPECT_EQ(KEVENT_KIND_USER, ev.kind);
	EXPECT_EQ(0, ev.flags);
	EXPECT_EQ(42, ev.result);
}

static int on_ring(int fd, unsigned int ring)
{
	struct ukevent ev[8];
	struct kevent_get g = get_arg(ev, 0, 8, 0);

	g.ring = ring;
	return get_run(fd, &g);
}

/* A ring's index collects from that ring alone. */
TEST_F(get, one_ring)
{
	ASSERT_EQ(0, submit_nop_at(self->fd, 1, 1, 1, NULL));
	EXPECT_EQ(0, on_ring(self->fd, 0));
	EXPECT_EQ(1, on_ring(self->fd, 1));
	EXPECT_EQ(0, on_ring(self->fd, 1));
}

/* A wait for one ring ends in time, whatever the others have, and leaves it there. */
TEST_F(get, one_ring_in_time)
{
	struct ukevent ev;
	struct kevent_get g = get_arg(&ev, 1, 1, SHORT_NS);

	ASSERT_EQ(0, submit_nop_at(self->fd, 0, 1, 1, NULL));
	g.ring = 1;
	EXPECT_EQ(0, get_run(self->fd, &g));
	EXPECT_EQ(1, on_ring(self->fd, 0));
}

/* The local ring is that of the CPU's node. */
TEST_F(get, local_ring)
{
	unsigned int cpu, node, ring;

	ASSERT_EQ(0, getcpu(&cpu, &node));
	ASSERT_EQ(0, on_cpu(0, cpu));
	ASSERT_EQ(0, getcpu(&cpu, &node));
	ring = ring_at(&self->q, 0)->ring_of_node[node];
	ASSERT_EQ(0, submit_nop_at(self->fd, KEVENT_RING_LOCAL, 1, 1, NULL));
	EXPECT_EQ(0, on_ring(self->fd, !ring));
	EXPECT_EQ(1, on_ring(self->fd, KEVENT_RING_LOCAL));
}

/* All rings are collected from in one call. */
TEST_F(get, all_rings)
{
	struct ukevent ev[4];

	ASSERT_EQ(0, submit_nop_at(self->fd, 0, 1, 1, NULL));
	ASSERT_EQ(0, submit_nop_at(self->fd, 1, 2, 2, NULL));
	EXPECT_EQ(2, get(self->fd, ev, 2, 4, LONG_NS));
	EXPECT_EQ(3, ev[0].result + ev[1].result);
}

/* The room is filled and not passed. */
TEST_F(get, room)
{
	struct ukevent ev[8];
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	EXPECT_EQ(3, get(self->fd, ev, 0, 3, 0));
	EXPECT_EQ(0, ev[0].result);
	EXPECT_EQ(2, ev[2].result);
	EXPECT_EQ(2, get(self->fd, ev, 0, 8, 0));
	EXPECT_EQ(3, ev[0].result);
}

/* A huge room is no reason to write past what there is. */
TEST_F(get, huge_room)
{
	struct ukevent ev[1];
	struct kevent_get g = get_arg(ev, 1, 1, LONG_NS);

	ASSERT_EQ(0, trigger(self->fd, self->user, 1));
	g.max = UINT_MAX;
	EXPECT_EQ(1, get_run(self->fd, &g));
}

/* Changes are made before collection, and their number is told. */
TEST_F(get, changes_first)
{
	struct kevent_change c[3] = {
		{ .op = KEVENT_OP_TRIGGER, .id = self->user, .value = 5 },
		{ .op = 99 },
		{ .op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_NOP, .value = 6 },
	};
	struct ukevent ev[4];
	struct kevent_get g = get_arg(ev, 2, 4, LONG_NS);

	g.changes = (uintptr_t)c;
	g.nr_changes = 3;
	EXPECT_EQ(2, get_run(self->fd, &g));
	EXPECT_EQ(3, g.changes_done);
	EXPECT_EQ(-EINVAL, c[1].result);
	EXPECT_EQ(11, ev[0].result + ev[1].result);
}

/* changes_done is told with errors too. */
TEST_F(get, changes_then_fault)
{
	struct kevent_change c = { .op = KEVENT_OP_TRIGGER, .id = self->user,
				   .value = 5 };
	struct kevent_get g = get_arg(NULL, 1, 0, LONG_NS);

	g.max = 1;
	g.changes = (uintptr_t)&c;
	g.nr_changes = 1;
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_GETEVENTS, &g));
	EXPECT_EQ(1, g.changes_done);
	EXPECT_EQ(0, g.nr);
	EXPECT_EQ(0, c.result);
	EXPECT_EQ(1, get_now(self->fd));
}

/* A misaligned array of changes is EINVAL. */
TEST_F(get, changes_misaligned)
{
	struct ukevent ev;
	struct kevent_get g = get_arg(&ev, 0, 1, 0);

	g.changes = 4097;
	g.nr_changes = 1;
	EXPECT_EQ(-EINVAL, ioc(self->fd, KEVENT_IOC_GETEVENTS, &g));
}

/* A zero timeout does not wait, whatever min says. */
TEST_F(get, timeout_zero)
{
	struct ukevent ev[4];

	EXPECT_EQ(0, get(self->fd, ev, 4, 4, 0));
}

/* A timeout is waited for, and not much longer. */
TEST_F(get, timeout)
{
	int64_t start = now_ns(), took;
	struct ukevent ev;

	EXPECT_EQ(0, get(self->fd, &ev, 1, 1, 20 * NSEC_PER_MSEC));
	took = now_ns() - start;
	EXPECT_LE(20 * NSEC_PER_MSEC, took);
	EXPECT_GE(5 * NSEC_PER_SEC, took);
}

/* The smallest timeout ends. */
TEST_F(get, timeout_one)
{
	struct ukevent ev;

	EXPECT_EQ(0, get(self->fd, &ev, 1, 1, 1));
}

/* Without min there is no waiting. */
TEST_F(get, min_zero)
{
	int64_t start = now_ns();
	struct ukevent ev;

	EXPECT_EQ(0, get(self->fd, &ev, 0, 1, LONG_NS));
	EXPECT_GE(LONG_NS / 2, now_ns() - start);
}

/* Fewer than min at the end of the time are returned. */
TEST_F(get, timeout_partial)
{
	struct ukevent ev[4];

	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(1, get(self->fd, ev, 2, 4, 20 * NSEC_PER_MSEC));
}

static int get_until(int fd, int64_t when)
{
	struct ukevent ev;
	struct kevent_get g = get_arg(&ev, 1, 1, when);

	g.flags = KEVENT_GET_ABSTIME;
	return get_run(fd, &g);
}

/* An absolute timeout is a time of CLOCK_MONOTONIC. */
TEST_F(get, absolute)
{
	int64_t when = now_ns() + 20 * NSEC_PER_MSEC;

	EXPECT_EQ(0, get_until(self->fd, when));
	EXPECT_LE(when, now_ns());
	EXPECT_GE(when + 5 * NSEC_PER_SEC, now_ns());
}

/* One in the past does not wait. */
TEST_F(get, absolute_past)
{
	EXPECT_EQ(0, get_until(self->fd, 1));
	EXPECT_EQ(0, get_until(self->fd, now_ns() - 1));
}

/* One in the past takes what is there. */
TEST_F(get, absolute_past_event)
{
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(1, get_until(self->fd, 1));
}

struct sleeper {
	int fd;
	struct kevent_get g;
	struct ukevent ev[8];
	pid_t tid;
	int result;
	pthread_t thread;
};

static void *sleeper_run(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	s->result = get_run(s->fd, &s->g);
	return NULL;
}

/* Starts a thread that makes the call s->g, and waits until it sleeps. */
static int sleeper_go(struct sleeper *s, int fd)
{
	s->fd = fd;
	s->tid = 0;
	s->result = -EINPROGRESS;
	if (pthread_create(&s->thread, NULL, sleeper_run, s))
		return -1;
	if (!EVENTUALLY(__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE)))
		return -1;
	return asleep(s->tid) ? 0 : -1;
}

static int sleeper_start(struct sleeper *s, int fd, unsigned int min,
			 int64_t timeout, unsigned int flags)
{
	s->g = get_arg(s->ev, min, 8, timeout);
	s->g.flags = flags;
	return sleeper_go(s, fd);
}

/* The largest timeout is no overflow: the caller sleeps until an event. */
TEST_F(get, timeout_largest)
{
	struct sleeper s;

	ASSERT_EQ(0, sleeper_start(&s, self->fd, 1, INT64_MAX, 0));
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(1, s.result);
}

/* The same for the largest time. */
TEST_F(get, absolute_largest)
{
	struct sleeper s;

	ASSERT_EQ(0, sleeper_start(&s, self->fd, 1, INT64_MAX,
				   KEVENT_GET_ABSTIME));
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(1, s.result);
}

/* -1 is no limit, as a time too. */
TEST_F(get, timeout_none)
{
	struct sleeper s;
	unsigned int flags;

	for (flags = 0; flags <= KEVENT_GET_ABSTIME; flags += 2) {
		ASSERT_EQ(0, sleeper_start(&s, self->fd, 1, -1, flags));
		ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
		ASSERT_EQ(0, join(s.thread, NULL));
		EXPECT_EQ(1, s.result);
	}
}

/* A sleeper for several events sleeps until there are that many. */
TEST_F(get, min_several)
{
	struct sleeper s;

	ASSERT_EQ(0, sleeper_start(&s, self->fd, 3, -1, 0));
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, submit_nop_at(self->fd, 1, 1, 1, NULL));
	ASSERT_TRUE(asleep(s.tid));
	EXPECT_EQ(-EINPROGRESS, s.result);
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(3, s.result);
}

/* After min_wait one event is enough. */
TEST_F(get, min_wait)
{
	struct ukevent ev[8];
	struct kevent_get g = get_arg(ev, 8, 8, -1);
	int64_t start = now_ns();

	g.min_wait = 30 * NSEC_PER_MSEC;
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(1, get_run(self->fd, &g));
	EXPECT_LE(30 * NSEC_PER_MSEC, now_ns() - start);
}

/* With min_wait over and nothing there, the first event ends the wait. */
TEST_F(get, min_wait_then_first)
{
	struct sleeper s;

	s.g = get_arg(s.ev, 8, 8, -1);
	s.g.min_wait = NSEC_PER_MSEC;
	ASSERT_EQ(0, sleeper_go(&s, self->fd));
	nap_ns(20 * NSEC_PER_MSEC);
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(1, s.result);
}

/* min_wait does not go beyond the timeout. */
TEST_F(get, min_wait_and_timeout)
{
	struct ukevent ev[8];
	struct kevent_get g = get_arg(ev, 8, 8, 20 * NSEC_PER_MSEC);

	g.min_wait = 60 * NSEC_PER_SEC;
	EXPECT_EQ(0, get_run(self->fd, &g));
}

/* The mapped way stores no event of the ring. */
TEST_F(get, mapped_stores_none)
{
	struct ukevent ev[4];

	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(0, get_level(self->fd, ev, 4));
	EXPECT_EQ(1, ring_collect(&self->q, 0, ev, 4));
}

/* The mapped way does not sleep beside a non-empty ring. */
TEST_F(get, mapped_unclaimed)
{
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(0, mapped_wait(&self->q, 0, 1, NULL, 0, -1));
}

/* The mapped way sleeps beside an empty one, and wakes for an event. */
TEST_F(get, mapped_sleeps)
{
	struct sleeper s;
	struct ukevent ev;

	ASSERT_EQ(0, sleeper_start(&s, self->fd, 1, -1, KEVENT_GET_MAPPED));
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(0, s.result);
	EXPECT_EQ(1, ring_collect(&self->q, 0, &ev, 1));
}

/* The mapped way may wait for as many events as the ring holds. */
TEST_F(get, mapped_min_entries)
{
	EXPECT_EQ(0, mapped_wait(&self->q, 0, 16, NULL, 0, NSEC_PER_MSEC));
}

static volatile sig_atomic_t caught;

static void catch(int signal)
{
	caught++;
}

static void catch_signal(int number, int flags)
{
	struct sigaction action = { .sa_handler = catch, .sa_flags = flags };

	caught = 0;
	sigaction(number, &action, NULL);
}

static void block(int number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int is_blocked(int number)
{
	sigset_t set;

	pthread_sigmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, number);
}

static int get_masked(int fd, const uint64_t *mask, unsigned int size,
		      int64_t timeout)
{
	struct ukevent ev;
	struct kevent_get g = get_arg(&ev, 1, 1, timeout);

	g.sigmask = (uintptr_t)mask;
	g.sigsetsize = size;
	return get_run(fd, &g);
}

/* A pending signal that the mask lets through ends the wait: EINTR. */
TEST_F(get, sigmask_opens)
{
	uint64_t none = 0;

	catch_signal(SIGUSR1, 0);
	block(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ASSERT_EQ(0, caught);
	EXPECT_EQ(-EINTR, get_masked(self->fd, &none, 8, LONG_NS));
	EXPECT_EQ(1, caught);
	EXPECT_EQ(1, is_blocked(SIGUSR1));
}

/* A signal that the mask holds back does not end the wait, and comes after. */
TEST_F(get, sigmask_holds)
{
	uint64_t mask = 1ULL << (SIGUSR1 - 1);
	struct sleeper s;

	catch_signal(SIGUSR1, 0);
	s.g = get_arg(s.ev, 1, 8, -1);
	s.g.sigmask = (uintptr_t)&mask;
	s.g.sigsetsize = sizeof(mask);
	ASSERT_EQ(0, sleeper_go(&s, self->fd));
	pthread_kill(s.thread, SIGUSR1);
	ASSERT_TRUE(asleep(s.tid));
	EXPECT_EQ(0, caught);
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(1, s.result);
	EXPECT_EQ(1, caught);
}

/* With an event there, the signal stays pending and the mask is restored. */
TEST_F(get, sigmask_event_wins)
{
	uint64_t mask = 1ULL << (SIGUSR1 - 1);

	catch_signal(SIGUSR1, 0);
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(1, get_masked(self->fd, &mask, 8, LONG_NS));
	EXPECT_EQ(0, is_blocked(SIGUSR1));
	EXPECT_EQ(0, caught);
}

/* A mask of another size is EINVAL. */
TEST_F(get, sigmask_size)
{
	uint64_t mask[2] = { 0, 0 };

	EXPECT_EQ(-EINVAL, get_masked(self->fd, mask, 4, 0));
	EXPECT_EQ(-EINVAL, get_masked(self->fd, mask, 16, 0));
	EXPECT_EQ(-EINVAL, get_masked(self->fd, mask, 0, 0));
}

/* A mask that cannot be read is EFAULT. */
TEST_F(get, sigmask_fault)
{
	EXPECT_EQ(-EFAULT, get_masked(self->fd, (void *)4096, 8, 0));
}

static void *send_signals(void *arg)
{
	struct sleeper *s = arg;

	while (__atomic_load_n(&s->result, __ATOMIC_ACQUIRE) == -EINPROGRESS) {
		pthread_kill(s->thread, SIGUSR1);
		nap_ns(NSEC_PER_MSEC);
	}
	return NULL;
}

/* A signal ends a wait with EINTR, with SA_RESTART too. */
TEST_F(get, signal)
{
	int flags[2] = { 0, SA_RESTART }, i;
	struct sleeper s;

	for (i = 0; i < 2; i++) {
		catch_signal(SIGUSR1, flags[i]);
		ASSERT_EQ(0, sleeper_start(&s, self->fd, 1, -1, 0));
		pthread_kill(s.thread, SIGUSR1);
		ASSERT_EQ(0, join(s.thread, NULL));
		EXPECT_EQ(-EINTR, s.result);
		EXPECT_EQ(1, caught);
	}
}

/* Events that came before the signal are returned. */
TEST_F(get, signal_partial)
{
	struct sleeper s;

	catch_signal(SIGUSR1, 0);
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, sleeper_start(&s, self->fd, 3, -1, 0));
	pthread_kill(s.thread, SIGUSR1);
	ASSERT_EQ(0, join(s.thread, NULL));
	EXPECT_EQ(1, s.result);
}

/* Signals at full rate do not make a wait end early without EINTR. */
TEST_F(get, signals)
{
	struct sleeper s;
	pthread_t killer;
	int round;

	catch_signal(SIGUSR1, SA_RESTART);
	for (round = 0; round < 20; round++) {
		ASSERT_EQ(0, sleeper_start(&s, self->fd, 1, -1, 0));
		pthread_create(&killer, NULL, send_signals, &s);
		ASSERT_EQ(0, join(s.thread, NULL));
		ASSERT_EQ(0, join(killer, NULL));
		ASSERT_EQ(-EINTR, s.result);
	}
	EXPECT_LE(20, caught);
}

/* The header's own inline function collects and waits. */
TEST_F(get, inline_function)
{
	struct timespec ts = { 0, 1000000 }, bad = { 0, 1000000000 };
	struct ukevent ev[4];

	EXPECT_EQ(0, kevent_getevents(self->fd, ev, 1, 4, &ts));
	ASSERT_EQ(0, submit_nop(self->fd, 9, 1));
	EXPECT_EQ(1, kevent_getevents(self->fd, ev, 1, 4, NULL));
	EXPECT_EQ(9, ev[0].result);
	EXPECT_EQ(-1, kevent_getevents(self->fd, ev, 1, 4, &bad));
	EXPECT_EQ(EINVAL, errno);
}

TEST_HARNESS_MAIN
