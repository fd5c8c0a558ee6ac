// SPDX-License-Identifier: GPL-2.0
/* Level sources: the sweep, the hint, fairness between ring and sweep. */
#include "kevent_test.h"
#include "pollzoo/pollzoo.h"

FIXTURE(level) {
	struct queue q;
	int fd;
};

FIXTURE_SETUP(level)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 64));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(level)
{
	queue_free(&self->q);
}

static int watch_level(int fd, uint64_t cookie)
{
	int file = eventfd_make();

	return add_file(fd, file, EPOLLIN, KEVENT_LEVEL, cookie, NULL) ? -1 :
								       file;
}

/* A level event never is in the ring. */
TEST_F(level, not_in_ring)
{
	int file = watch_level(self->fd, 1);
	struct ukevent ev[2];

	eventfd_fire(file);
	EXPECT_EQ(0, tail_of(&self->q, 0));
	EXPECT_EQ(1, get(self->fd, ev, 0, 2, 0));
	EXPECT_EQ(0, tail_of(&self->q, 0));
	EXPECT_EQ(0, ring_collect(&self->q, 0, ev, 2));
}

/* The hint counts the sources that may be ready. */
TEST_F(level, hint_counts)
{
	int files[5], i;

	for (i = 0; i < 5; i++)
		files[i] = watch_level(self->fd, i);
	EXPECT_EQ(0, hint_of(&self->q, 0));
	for (i = 0; i < 5; i++) {
		eventfd_fire(files[i]);
		EXPECT_EQ(i + 1, hint_of(&self->q, 0));
		eventfd_fire(files[i]);
		EXPECT_EQ(i + 1, hint_of(&self->q, 0));
	}
}

/* It stays up while sources are ready, sweep for sweep. */
TEST_F(level, hint_stays)
{
	int file = watch_level(self->fd, 1), i;

	eventfd_fire(file);
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(1, get_now(self->fd));
		EXPECT_EQ(1, hint_of(&self->q, 0));
	}
}

/* It comes down with the sweep that finds the source unready, not before. */
TEST_F(level, hint_comes_down)
{
	int file = watch_level(self->fd, 1);

	eventfd_fire(file);
	eventfd_drain(file);
	EXPECT_EQ(1, hint_of(&self->q, 0));
	EXPECT_EQ(0, get_now(self->fd));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* ADD of what is ready raises it at once. */
TEST_F(level, hint_add)
{
	int file = eventfd_make();

	eventfd_fire(file);
	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, KEVENT_LEVEL, 1, NULL));
	EXPECT_EQ(1, hint_of(&self->q, 0));
}

/* So do MODIFY and ENABLE. */
TEST_F(level, hint_enable)
{
	int file = eventfd_make();
	uint64_t id;

	eventfd_fire(file);
	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN,
			      KEVENT_LEVEL | KEVENT_DISABLED, 1, &id));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	ASSERT_EQ(0, enable_id(self->fd, id));
	EXPECT_EQ(1, hint_of(&self->q, 0));
	ASSERT_EQ(0, disable_id(self->fd, id));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	ASSERT_EQ(0, modify_file(self->fd, id, EPOLLIN, KEVENT_LEVEL, 1));
	EXPECT_EQ(1, hint_of(&self->q, 0));
}

/* REMOVE takes its count along. */
TEST_F(level, hint_remove)
{
	int file = eventfd_make();
	uint64_t id;

	eventfd_fire(file);
	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, KEVENT_LEVEL, 1, &id));
	ASSERT_EQ(0, remove_id(self->fd, id));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* Each ring has its own hint. */
TEST(hint_of_ring)
{
	int file = eventfd_make();
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 2, 16));
	ASSERT_EQ(0, add_file_at(q.fd, 1, file, EPOLLIN, KEVENT_LEVEL, 1,
				 NULL));
	eventfd_fire(file);
	EXPECT_EQ(0, hint_of(&q, 0));
	EXPECT_EQ(1, hint_of(&q, 1));
	queue_free(&q);
}

/* A sweep of one ring does not look at another's sources. */
TEST(sweep_of_ring)
{
	int file = eventfd_make();
	struct ukevent ev;
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 2, 16));
	ASSERT_EQ(0, add_file_at(q.fd, 1, file, EPOLLIN, KEVENT_LEVEL, 1,
				 NULL));
	eventfd_fire(file);
	EXPECT_EQ(0, mapped_wait(&q, 0, 0, &ev, 1, 0));
	EXPECT_EQ(1, mapped_wait(&q, 1, 0, &ev, 1, 0));
	queue_free(&q);
}

struct toggle {
	int file;
	const struct queue *q;
	int stop;
	unsigned long fired;
	unsigned long zero;
};

/*
 * The hint must not be 0 between the return of a write and the first drain: the
 * drainer takes a turn only when it is told to.
 */
static void *toggle_run(void *arg)
{
	struct toggle *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
		eventfd_fire(t->file);
		t->fired++;
		t->zero += hint_of(t->q, 0) == 0;
		eventfd_drain(t->file);
	}
	return NULL;
}

/* The hint is never falsely 0, while another thread sweeps. */
TEST_F(level, hint_never_falsely_zero)
{
	struct toggle t = { .q = &self->q };
	int rounds = scaled(20000), i, swept = 0;
	struct ukevent ev;
	pthread_t thread;

	t.file = watch_level(self->fd, 1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, toggle_run, &t));
	/* On a busy host the threads may take long turns, and never meet. */
	for (i = 0; i < rounds || (!swept && i < 1000 * rounds); i++)
		swept += get_level(self->fd, &ev, 1);
	t.stop = 1;
	ASSERT_EQ(0, join(thread, NULL));
	EXPECT_EQ(0, t.zero);
	EXPECT_LT(0, swept);
	ksft_print_msg("fired %lu, swept ready %d of %d\n", t.fired, swept, i);
	get_now(self->fd);
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

static void *fire_and_check(void *arg)
{
	struct toggle *t = arg;
	unsigned long i;

	for (i = 0; i < t->fired; i++) {
		eventfd_fire(t->file);
		/* Whoever drained it meanwhile polled after that. */
		if (!hint_of(t->q, 0) &&
		    poll(&(struct pollfd){ t->file, POLLIN, 0 }, 1, 0) == 1 &&
		    !hint_of(t->q, 0))
			t->zero++;
	}
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Two threads, one of which drains: what is ready at the end is found. */
TEST_F(level, two_threads)
{
	struct toggle t = { .q = &self->q, .fired = scaled(20000) };
	unsigned long want = t.fired, sum = 0;
	struct ukevent ev;
	pthread_t thread;
	int64_t value;

	t.file = watch_level(self->fd, 1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, fire_and_check, &t));
	while (sum < want) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		value = eventfd_drain(t.file);
		sum += value > 0 ? value : 0;
	}
	ASSERT_EQ(0, join(thread, NULL));
	EXPECT_EQ(want, sum);
	EXPECT_EQ(0, t.zero);
	EXPECT_EQ(0, get_now(self->fd));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* Round robin: in rooms of one, all ready sources get their turn. */
TEST_F(level, round_robin)
{
	int seen[10] = { }, i;
	struct ukevent ev;

	for (i = 0; i < 10; i++)
		eventfd_fire(watch_level(self->fd, i));
	for (i = 0; i < 30; i++) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		seen[ev.cookie]++;
	}
	for (i = 0; i < 10; i++)
		EXPECT_EQ(3, seen[i]);
}

/* An always-ready source does not starve a thousand others. */
TEST_F(level, busy_beside_thousand)
{
	int n = 1000, i, k, calls = 0, found = 0;
	int *files = calloc(n, sizeof(*files));
	struct ukevent ev[8];

	for (i = 0; i < n; i++)
		files[i] = watch_level(self->fd, i);
	eventfd_fire(watch_level(self->fd, n));
	for (i = 0; i < n; i++)
		eventfd_fire(files[i]);
	while (found < n && calls++ < n) {
		int r = get(self->fd, ev, 1, 8, LONG_NS);

		ASSERT_LT(0, r);
		for (k = 0; k < r; k++)
			if (ev[k].cookie < n)
				found += eventfd_drain(files[ev[k].cookie]) > 0;
	}
	EXPECT_EQ(n, found);
	/* Each call may spend one of its eight places on the busy one. */
	EXPECT_GE(n / 7 + 2, calls);
	EXPECT_EQ(1, get_now(self->fd));
	free(files);
}

/* One source is reported once in a call, however much room there is. */
TEST_F(level, once_a_call)
{
	struct ukevent ev[64];

	eventfd_fire(watch_level(self->fd, 1));
	EXPECT_EQ(1, get(self->fd, ev, 0, 64, 0));
}

/* Ring and level events share the room when both have more. */
TEST_F(level, shares_room)
{
	int i, n, ring = 0, level = 0;
	struct ukevent ev[8];

	for (i = 0; i < 16; i++) {
		eventfd_fire(watch_level(self->fd, i));
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	n = get(self->fd, ev, 0, 8, 0);
	ASSERT_EQ(8, n);
	for (i = 0; i < n; i++)
		if (ev[i].flags & KEVENT_EV_LEVEL)
			level++;
		else
			ring++;
	EXPECT_EQ(4, ring);
	EXPECT_EQ(4, level);
}

/* With room for one, both get their turn. */
TEST_F(level, shares_room_of_one)
{
	int i, level = 0;
	struct ukevent ev;

	eventfd_fire(watch_level(self->fd, 1));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		level += !!(ev.flags & KEVENT_EV_LEVEL);
	}
	EXPECT_LE(5, level);
	EXPECT_GE(15, level);
}

/* Room that one side does not use is the other's. */
TEST_F(level, unused_room)
{
	struct ukevent ev[8];
	int i;

	eventfd_fire(watch_level(self->fd, 1));
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	EXPECT_EQ(8, get(self->fd, ev, 0, 8, 0));
	EXPECT_EQ(8, get(self->fd, ev, 0, 8, 0));
	EXPECT_EQ(0, tail_of(&self->q, 0) - head_of(&self->q, 0) - 2);
}

/* A call that stored a level event does not sleep for more. */
TEST_F(level, no_sleep_after_level)
{
	struct ukevent ev[8];
	int64_t start = now_ns();

	eventfd_fire(watch_level(self->fd, 1));
	EXPECT_EQ(1, get(self->fd, ev, 8, 8, LONG_NS));
	EXPECT_GT(LONG_NS / 2, now_ns() - start);
}

/* A sleeper wakes for a level source, as a mapped waiter does. */
TEST_F(level, wakes)
{
	int file = watch_level(self->fd, 1);
	int64_t start = now_ns();
	struct ukevent ev;
	pid_t pid = fork();

	if (!pid) {
		if (asleep(getppid()))
			eventfd_fire(file);
		pause(); /* to close the queue would wake the sleeper, too */
	}
	EXPECT_EQ(1, mapped_wait(&self->q, 0, 1, &ev, 1, LONG_NS));
	EXPECT_GT(LONG_NS / 2, now_ns() - start);
	EXPECT_EQ(1, ev.cookie);
	kill(pid, SIGKILL);
	reap(pid);
}

/* A mapped waiter without room for level events wakes for them too. */
TEST_F(level, wakes_without_room)
{
	int64_t start = now_ns();

	eventfd_fire(watch_level(self->fd, 1));
	EXPECT_EQ(0, mapped_wait(&self->q, 0, 1, NULL, 0, LONG_NS));
	EXPECT_GT(LONG_NS / 2, now_ns() - start);
	EXPECT_EQ(1, hint_of(&self->q, 0));
}

/* The queue's own poll says readable while the hint is up. */
TEST_F(level, poll)
{
	struct pollfd p = { .fd = self->fd, .events = POLLIN };
	int file = watch_level(self->fd, 1);

	EXPECT_EQ(0, poll(&p, 1, 0));
	eventfd_fire(file);
	EXPECT_EQ(1, poll(&p, 1, 20000));
	eventfd_drain(file);
	get_now(self->fd);
	EXPECT_EQ(0, poll(&p, 1, 0));
}

/* Many idle sources cost a sweep nothing: none of them is polled. */
TEST_F(level, idle_not_polled)
{
	int zoo = open(POLLZOO_DEVICE, O_RDWR | O_CLOEXEC), i;
	struct pollzoo_info before, after;
	unsigned int n = 1000;

	ASSERT_LE(0, zoo);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, add_file(self->fd, zoo, EPOLLIN, KEVENT_LEVEL, i,
				      NULL));
	}
	get_now(self->fd);
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_INFO, &before));
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, get_now(self->fd));
	}
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_INFO, &after));
	EXPECT_EQ(before.polls, after.polls);
	close(zoo);
}

/* One that was found unready is not polled again until its wakeup. */
TEST_F(level, unready_not_polled)
{
	int zoo = open(POLLZOO_DEVICE, O_RDWR | O_CLOEXEC), i;
	struct pollzoo_wake w = { .key = EPOLLIN, .count = 1 };
	struct pollzoo_info before, after;

	ASSERT_LE(0, zoo);
	ASSERT_EQ(0, add_file(self->fd, zoo, EPOLLIN, KEVENT_LEVEL, 1, NULL));
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_INFO, &before));
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_WAKE, &w));
	EXPECT_EQ(1, hint_of(&self->q, 0));
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, get_now(self->fd));
	}
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_INFO, &after));
	EXPECT_EQ(before.polls + 1, after.polls);
	close(zoo);
}

static void *nap_sweep(void *arg)
{
	struct ukevent ev[4];
	int *args = arg, i, sum = 0;

	for (i = 0; i < args[1]; i++)
		sum += get_level(args[0], ev, 4);
	return (void *)(intptr_t)sum;
}

/* Polls that take a millisecond, from four threads at once. */
TEST_F(level, slow_polls)
{
	int zoo = open(POLLZOO_DEVICE, O_RDWR | O_CLOEXEC), i;
	struct pollzoo_program p = { 1, POLLZOO_NAP, EPOLLIN, 0 };
	int args[2] = { self->fd, 20 };
	pthread_t t[4];
	void *result;
	int sum = 0;

	ASSERT_LE(0, zoo);
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, add_file(self->fd, zoo, EPOLLIN, KEVENT_LEVEL, i,
				      NULL));
	}
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_PROGRAM, &p));
	ASSERT_EQ(0, ioc(zoo, POLLZOO_IOC_WAKE,
			 &((struct pollzoo_wake){ .key = EPOLLIN,
						  .count = 1 })));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_create(&t[i], NULL, nap_sweep, args));
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, join(t[i], &result));
		sum += (intptr_t)result;
	}
	EXPECT_LT(0, sum);
	EXPECT_EQ(8, hint_of(&self->q, 0));
	close(zoo);
}

TEST_HARNESS_MAIN
