// SPDX-License-Identifier: GPL-2.0
/* Timers and user events: when, how often, and that nothing is miscounted. */
#include "kevent_test.h"

#define MSEC NSEC_PER_MSEC

static int64_t clock_ns(int clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

FIXTURE(timer) {
	struct queue q;
	int fd;
};

FIXTURE_VARIANT(timer) {
	int clock;
};

FIXTURE_VARIANT_ADD(timer, monotonic) { CLOCK_MONOTONIC };
FIXTURE_VARIANT_ADD(timer, boottime) { CLOCK_BOOTTIME };
FIXTURE_VARIANT_ADD(timer, realtime) { CLOCK_REALTIME };

FIXTURE_SETUP(timer)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(timer)
{
	queue_free(&self->q);
}

/* Relative: not before its time, once. */
TEST_F(timer, relative)
{
	int64_t start = clock_ns(variant->clock);
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, 20 * MSEC, 0, 7,
			       &id));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_LE(start + 20 * MSEC, clock_ns(variant->clock));
	EXPECT_EQ(7, ev.cookie);
	EXPECT_EQ(id, ev.id);
	EXPECT_EQ(KEVENT_KIND_TIMER, ev.kind);
	EXPECT_EQ(0, ev.flags);
	EXPECT_EQ(0, ev.events);
	EXPECT_EQ(1, ev.result);
	EXPECT_EQ(0, get_soon(self->fd));
}

/* Absolute: not before that time, once. */
TEST_F(timer, absolute)
{
	int64_t when = clock_ns(variant->clock) + 20 * MSEC;
	struct ukevent ev;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_ABSTIME, when,
			       0, 7, NULL));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_LE(when, clock_ns(variant->clock));
	EXPECT_EQ(1, ev.result);
}

/* An absolute time in the past expires at once. */
TEST_F(timer, past)
{
	struct ukevent ev;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_ABSTIME, 1, 0,
			       7, NULL));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(1, ev.result);
	EXPECT_EQ(0, get_soon(self->fd));
}

/* The time 0 is in the past. */
TEST_F(timer, epoch)
{
	struct ukevent ev;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_ABSTIME, 0, 0,
			       7, NULL));
	EXPECT_EQ(1, get_one(self->fd, &ev));
}

/* The latest time there is, is not in the past. */
TEST_F(timer, far_future)
{
	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, INT64_MAX, 0, 7,
			       NULL));
	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_ABSTIME,
			       INT64_MAX, 0, 7, NULL));
	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, INT64_MAX,
			       INT64_MAX, 7, NULL));
	EXPECT_EQ(0, get_soon(self->fd));
}

/* Periodic: it goes on. */
TEST_F(timer, periodic)
{
	struct ukevent ev;
	int i;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, 2 * MSEC, 2 * MSEC,
			       7, NULL));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		ASSERT_LE(1, ev.result);
	}
}

/* With no first expiry the first is after one period. */
TEST_F(timer, after_period)
{
	int64_t start = clock_ns(variant->clock);
	struct ukevent ev;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, 0, 20 * MSEC, 7,
			       NULL));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_LE(start + 20 * MSEC, clock_ns(variant->clock));
}

/* Collects until @until and returns the sum of the results. */
static int64_t sum_until(int fd, int64_t until)
{
	struct ukevent ev[4];
	int64_t sum = 0;
	int n, i;

	do {
		n = get(fd, ev, 1, 4, MSEC);
		for (i = 0; i < n; i++)
			sum += ev[i].result;
	} while (now_ns() < until);
	return sum;
}

/* Counts reconcile with the time that passed, collected often. */
TEST_F(timer, counts)
{
	int64_t start = now_ns(), sum, before;
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, MSEC, MSEC, 7,
			       &id));
	sum = sum_until(self->fd, start + 200 * MSEC);
	before = (now_ns() - start) / MSEC;
	disable_id(self->fd, id);
	EXPECT_GE(before + 1, sum);
	/* Late is allowed, by far less than this on any machine. */
	EXPECT_LE(100, sum);
}

/* Expirations while the event is unclaimed are counted and not lost. */
TEST_F(timer, unclaimed)
{
	int64_t start = now_ns(), sum, late;
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, MSEC, MSEC, 7,
			       &id));
	nap_ns(100 * MSEC);
	EXPECT_GE(1, tail_of(&self->q, 0) - head_of(&self->q, 0));
	sum = sum_until(self->fd, now_ns() + 50 * MSEC);
	late = (now_ns() - start) / MSEC;
	EXPECT_GE(late + 1, sum);
	/* 150 have passed; the last may wait for the back-off of 10 ms. */
	EXPECT_LE(120, sum);
}

/* What has been gathered shows in @pending. */
TEST_F(timer, gathered_is_pending)
{
	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, MSEC, MSEC, 7,
			       NULL));
	EXPECT_TRUE(EVENTUALLY(pending_of(&self->q, 0) == 1));
}

/* Oneshot and periodic: one event, then ENABLE starts it anew. */
TEST_F(timer, oneshot)
{
	struct ukevent ev;
	uint64_t id;
	int i;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_ONESHOT, MSEC,
			       MSEC, 7, &id));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		EXPECT_EQ(KEVENT_EV_DISABLED, ev.flags);
		EXPECT_EQ(0, get_soon(self->fd));
		ASSERT_EQ(0, enable_id(self->fd, id));
	}
}

/* Level: ready until ACK, which takes what was gathered. */
TEST_F(timer, level)
{
	struct ukevent ev;
	uint64_t id;
	int i;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_LEVEL, MSEC, 0,
			       7, &id));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		EXPECT_EQ(KEVENT_EV_LEVEL, ev.flags);
		EXPECT_EQ(1, ev.result);
	}
	EXPECT_EQ(1, hint_of(&self->q, 0));
	ASSERT_EQ(0, ack_id(self->fd, id));
	EXPECT_EQ(0, get_now(self->fd));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* Level and periodic: the sum grows until ACK, and begins again. */
TEST_F(timer, level_periodic)
{
	struct ukevent ev;
	int64_t last = 0;
	uint64_t id;
	int i;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_LEVEL, MSEC,
			       MSEC, 7, &id));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(1, get_one(self->fd, &ev));
		EXPECT_LE(last, ev.result);
		last = ev.result;
		nap_ns(15 * MSEC);
	}
	EXPECT_LT(1, last);
	ASSERT_EQ(0, ack_id(self->fd, id));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_LE(1, ev.result);
}

/* MODIFY replaces the time and begins anew. */
TEST_F(timer, modify)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, INT64_MAX, 0, 7,
			       &id));
	ASSERT_EQ(0, modify_timer(self->fd, id, 0, MSEC, 0, 8));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(8, ev.cookie);
	ASSERT_EQ(0, modify_timer(self->fd, id, 0, MSEC, 0, 9));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(9, ev.cookie);
	EXPECT_EQ(1, ev.result);
}

/*
 * Far enough for two calls in a row on a slow machine, near enough to be waited
 * for.
 */
#define FAR_MSEC 300

/* MODIFY puts off what would have come soon. */
TEST_F(timer, modify_later)
{
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, FAR_MSEC * MSEC, 0, 7,
			       &id));
	ASSERT_EQ(0, modify_timer(self->fd, id, 0, INT64_MAX, 0, 8));
	EXPECT_EQ(0, sum_until(self->fd, now_ns() + 2 * FAR_MSEC * MSEC));
}

/* DISABLE stops it; ENABLE starts it from then. */
TEST_F(timer, disable_enable)
{
	struct ukevent ev;
	int64_t start;
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, FAR_MSEC * MSEC, 0, 7,
			       &id));
	ASSERT_EQ(0, disable_id(self->fd, id));
	EXPECT_EQ(0, sum_until(self->fd, now_ns() + 2 * FAR_MSEC * MSEC));
	start = clock_ns(variant->clock);
	ASSERT_EQ(0, enable_id(self->fd, id));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_LE(start + FAR_MSEC * MSEC, clock_ns(variant->clock));
	EXPECT_EQ(1, ev.result);
}

/* Added disabled, it counts from ENABLE. */
TEST_F(timer, add_disabled)
{
	struct ukevent ev;
	int64_t start;
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, KEVENT_DISABLED,
			       10 * MSEC, 0, 7, &id));
	EXPECT_EQ(0, get_soon(self->fd));
	start = clock_ns(variant->clock);
	ASSERT_EQ(0, enable_id(self->fd, id));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_LE(start + 10 * MSEC, clock_ns(variant->clock));
}

/* Thousands of timers all come, each once, none before its time. */
TEST_F(timer, ten_thousand)
{
	unsigned int count = scaled(10000), i, n, got = 0, early = 0, twice = 0;
	struct kevent_change *c = calloc(count, sizeof(*c));
	char *seen = calloc(count, 1);
	int64_t base = clock_ns(variant->clock) + 50 * MSEC;
	struct ukevent ev[64];

	for (i = 0; i < count; i++)
		c[i] = (struct kevent_change){
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_TIMER,
			.fd = variant->clock, .flags = KEVENT_ABSTIME,
			.value = base + (i * 7919ULL % count) * 10000,
			.cookie = i,
		};
	ASSERT_EQ(count, changes(self->fd, c, count));
	while (got < count) {
		int r = get(self->fd, ev, 1, 64, LONG_NS);
		int64_t now = clock_ns(variant->clock);

		ASSERT_LT(0, r);
		for (n = 0; n < (unsigned int)r; n++) {
			ASSERT_GT(count, ev[n].cookie);
			early += now < (int64_t)c[ev[n].cookie].value;
			twice += seen[ev[n].cookie]++ || ev[n].result != 1;
		}
		got += r;
	}
	EXPECT_EQ(0, early);
	EXPECT_EQ(0, twice);
	EXPECT_EQ(0, get_now(self->fd));
	free(c);
	free(seen);
}

/* Timers of one time come in the order of their times. */
TEST_F(timer, order)
{
	struct ukevent ev[8];
	int64_t base = clock_ns(variant->clock) + 20 * MSEC;
	int i;

	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, add_timer(self->fd, variant->clock,
				       KEVENT_ABSTIME, base + (7 - i) * MSEC,
				       0, i, NULL));
	}
	ASSERT_EQ(8, get(self->fd, ev, 8, 8, LONG_NS));
	for (i = 0; i < 8; i++)
		EXPECT_EQ(7 - i, ev[i].cookie);
}

/* A removed timer does not fire. */
TEST_F(timer, remove)
{
	uint64_t id;

	ASSERT_EQ(0, add_timer(self->fd, variant->clock, 0, FAR_MSEC * MSEC, MSEC, 7,
			       &id));
	ASSERT_EQ(0, remove_id(self->fd, id));
	EXPECT_EQ(0, sum_until(self->fd, now_ns() + 2 * FAR_MSEC * MSEC));
	EXPECT_EQ(0, sources_of(&self->q, 0));
}

/* ------------------------------------------------------------------------ */
/* User events */

FIXTURE(user) {
	struct queue q;
	int fd;
	uint64_t id;
};

FIXTURE_SETUP(user)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->fd = self->q.fd;
	ASSERT_EQ(0, add_user(self->fd, 0, 7, &self->id));
}

FIXTURE_TEARDOWN(user)
{
	queue_free(&self->q);
}

/* The sum of all events' results; @count tells how many there were. */
static int64_t sum_now(int fd, int *count)
{
	struct ukevent ev[4];
	uint64_t sum = 0;
	int n, i;

	*count = 0;
	while ((n = get(fd, ev, 0, 4, 0)) > 0) {
		*count += n;
		for (i = 0; i < n; i++)
			sum += ev[i].result;
	}
	return sum;
}

/* Values add up, and never make more than an entry and what is gathered. */
TEST_F(user, sum)
{
	int i, count;

	for (i = 1; i <= 100; i++) {
		ASSERT_EQ(0, trigger(self->fd, self->id, i));
	}
	EXPECT_EQ(1, tail_of(&self->q, 0) - head_of(&self->q, 0));
	EXPECT_EQ(5050, sum_now(self->fd, &count));
	EXPECT_GE(2, count);
}

/* What has been gathered behind an unclaimed entry shows in @pending. */
TEST_F(user, gathered_is_pending)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->id, 1));
	EXPECT_EQ(0, pending_of(&self->q, 0));
	ASSERT_EQ(0, trigger(self->fd, self->id, 2));
	EXPECT_EQ(1, pending_of(&self->q, 0));
	ASSERT_EQ(1, ring_collect(&self->q, 0, &ev, 1));
	EXPECT_EQ(1, ev.result);
	EXPECT_EQ(0, get_level(self->fd, &ev, 1));
	EXPECT_EQ(0, pending_of(&self->q, 0));
	ASSERT_EQ(1, ring_collect(&self->q, 0, &ev, 1));
	EXPECT_EQ(2, ev.result);
}

/* It stays behind that entry, whatever is posted or moved meanwhile. */
TEST_F(user, gathered_stays)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->id, 1));
	ASSERT_EQ(0, trigger(self->fd, self->id, 2));
	ASSERT_EQ(0, submit_nop(self->fd, 0, 8));
	EXPECT_EQ(0, get_level(self->fd, &ev, 1));
	EXPECT_EQ(1, pending_of(&self->q, 0));
	EXPECT_EQ(2, tail_of(&self->q, 0) - head_of(&self->q, 0));
	ASSERT_EQ(1, ring_collect(&self->q, 0, &ev, 1));
	EXPECT_EQ(1, ev.result);
}

/* A value of 0 is an event too. */
TEST_F(user, zero)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->id, 0));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(0, ev.result);
}

/* The largest value is reported as it is. */
TEST_F(user, largest)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->id, INT64_MAX));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(INT64_MAX, ev.result);
}

/* A sum that would pass the largest is EOVERFLOW, and stays as it was. */
TEST_F(user, overflow)
{
	int count;

	ASSERT_EQ(0, trigger(self->fd, self->id, 1));
	ASSERT_EQ(0, trigger(self->fd, self->id, INT64_MAX));
	EXPECT_EQ(-EOVERFLOW, trigger(self->fd, self->id, 1));
	EXPECT_EQ(0, trigger(self->fd, self->id, 0));
	/* 1 and then the largest: 2^63, which wraps here. */
	EXPECT_EQ(INT64_MIN, sum_now(self->fd, &count));
	EXPECT_EQ(0, trigger(self->fd, self->id, 1));
	EXPECT_EQ(1, sum_now(self->fd, &count));
}

/* NOMERGE: EAGAIN while an event is outstanding, and it stays as it was. */
TEST_F(user, nomerge)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger_flags(self->fd, self->id, 1, KEVENT_NOMERGE));
	EXPECT_EQ(-EAGAIN, trigger_flags(self->fd, self->id, 2,
					 KEVENT_NOMERGE));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(1, ev.result);
	EXPECT_EQ(0, get_now(self->fd));
	EXPECT_EQ(0, trigger_flags(self->fd, self->id, 3, KEVENT_NOMERGE));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(3, ev.result);
}

/* LATEST: the last value wins. */
TEST_F(user, latest)
{
	struct ukevent ev[4];
	uint64_t id;
	int i, n;

	ASSERT_EQ(0, add_user(self->fd, KEVENT_LATEST, 8, &id));
	for (i = 1; i <= 10; i++) {
		ASSERT_EQ(0, trigger(self->fd, id, i));
	}
	n = get(self->fd, ev, 0, 4, 0);
	ASSERT_LE(1, n);
	ASSERT_GE(2, n);
	if (n == 1 && ev[0].result == 1)
		n = get(self->fd, ev, 1, 4, LONG_NS);
	EXPECT_EQ(10, ev[n - 1].result);
	EXPECT_EQ(0, get_now(self->fd));
}

/* LATEST does not overflow. */
TEST_F(user, latest_largest)
{
	uint64_t id;
	int i;

	ASSERT_EQ(0, add_user(self->fd, KEVENT_LATEST, 8, &id));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, trigger(self->fd, id, INT64_MAX));
}

/* Level: each sweep reports the sum, until ACK. */
TEST_F(user, level)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_user(self->fd, KEVENT_LEVEL, 8, &id));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	ASSERT_EQ(0, trigger(self->fd, id, 2));
	EXPECT_EQ(1, hint_of(&self->q, 0));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(2, ev.result);
	EXPECT_EQ(KEVENT_EV_LEVEL, ev.flags);
	ASSERT_EQ(0, trigger(self->fd, id, 3));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(5, ev.result);
	ASSERT_EQ(0, ack_id(self->fd, id));
	EXPECT_EQ(0, get_now(self->fd));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	ASSERT_EQ(0, trigger(self->fd, id, 4));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(4, ev.result);
}

/* Level and LATEST: each sweep reports the last value. */
TEST_F(user, level_latest)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_user(self->fd, KEVENT_LEVEL | KEVENT_LATEST, 8, &id));
	ASSERT_EQ(0, trigger(self->fd, id, 2));
	ASSERT_EQ(0, trigger(self->fd, id, 9));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(9, ev.result);
}

/* ACK of a source that is not level is not known. */
TEST_F(user, ack_edge)
{
	EXPECT_EQ(-EOPNOTSUPP, ack_id(self->fd, self->id));
}

/* A oneshot reports once, and the rest after ENABLE. */
TEST_F(user, oneshot)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_user(self->fd, KEVENT_ONESHOT, 8, &id));
	ASSERT_EQ(0, trigger(self->fd, id, 1));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(KEVENT_EV_DISABLED, ev.flags);
	EXPECT_EQ(0, get_now(self->fd));
	ASSERT_EQ(0, enable_id(self->fd, id));
	ASSERT_EQ(0, trigger(self->fd, id, 2));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(2, ev.result);
}

/* MODIFY drops what was gathered and not yet posted. */
TEST_F(user, modify_drops)
{
	struct kevent_change c = { .op = KEVENT_OP_MODIFY, .id = self->id,
				   .kind = KEVENT_KIND_USER, .cookie = 9 };
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->id, 1));
	ASSERT_EQ(0, trigger(self->fd, self->id, 2));
	ASSERT_EQ(0, change(self->fd, &c));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(1, ev.result);
	EXPECT_EQ(0, get_soon(self->fd));
	EXPECT_EQ(0, pending_of(&self->q, 0));
}

/* REMOVE drops what was gathered, and tells of the entry that is left. */
TEST_F(user, remove_unclaimed)
{
	struct ukevent ev;

	ASSERT_EQ(0, trigger(self->fd, self->id, 1));
	ASSERT_EQ(0, trigger(self->fd, self->id, 2));
	EXPECT_EQ(KEVENT_UNCLAIMED, remove_id(self->fd, self->id));
	EXPECT_EQ(0, pending_of(&self->q, 0));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(1, ev.result);
	EXPECT_EQ(0, get_now(self->fd));
}

/* Many in one call, one entry each. */
TEST_F(user, array)
{
	struct kevent_change c[64];
	int i, count;

	for (i = 0; i < 64; i++)
		c[i] = (struct kevent_change){ .op = KEVENT_OP_TRIGGER,
					       .id = self->id, .value = i };
	ASSERT_EQ(64, changes(self->fd, c, 64));
	for (i = 0; i < 64; i++)
		EXPECT_EQ(0, c[i].result);
	EXPECT_EQ(2016, sum_now(self->fd, &count));
}

/* Another process that holds the queue may trigger. */
TEST_F(user, other_process)
{
	struct ukevent ev;
	pid_t pid = fork();

	if (!pid)
		_exit(trigger(self->fd, self->id, 5));
	EXPECT_EQ(0, reap(pid));
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(5, ev.result);
}

struct pump {
	int fd;
	uint64_t id;
	int rounds;
	int failed;
};

static void *pump_run(void *arg)
{
	struct pump *p = arg;
	int i;

	for (i = 0; i < p->rounds; i++)
		p->failed += trigger(p->fd, p->id, 3) != 0;
	return NULL;
}

/* Sums reconcile when several threads trigger while one collects. */
TEST_F(user, sum_threads)
{
	struct pump p = { self->fd, self->id, scaled(20000), 0 };
	int64_t sum = 0, want = 4LL * p.rounds * 3;
	struct ukevent ev[8];
	pthread_t t[4];
	int i, n;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_create(&t[i], NULL, pump_run, &p));
	}
	while (sum < want) {
		n = get(self->fd, ev, 1, 8, LONG_NS);
		ASSERT_LT(0, n);
		for (i = 0; i < n; i++)
			sum += ev[i].result;
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
	}
	EXPECT_EQ(want, sum);
	EXPECT_EQ(0, p.failed);
	EXPECT_EQ(0, get_now(self->fd));
}

static void *toggle_run(void *arg)
{
	struct pump *p = arg;
	int i;

	for (i = 0; i < p->rounds; i++) {
		p->failed += disable_id(p->fd, p->id) != 0;
		p->failed += enable_id(p->fd, p->id) != 0;
	}
	return NULL;
}

/* ENABLE and TRIGGER at once: sums reconcile. */
TEST_F(user, enable_race)
{
	struct pump p = { self->fd, self->id, scaled(5000), 0 }, e = p;
	int64_t sum = 0, want = 3LL * p.rounds;
	struct ukevent ev[8];
	pthread_t t[2];
	int i, n;

	ASSERT_EQ(0, pthread_create(&t[0], NULL, pump_run, &p));
	ASSERT_EQ(0, pthread_create(&t[1], NULL, toggle_run, &e));
	while (sum < want) {
		n = get(self->fd, ev, 1, 8, LONG_NS);
		ASSERT_LT(0, n);
		for (i = 0; i < n; i++) {
			ASSERT_LT(0, ev[i].result);
			sum += ev[i].result;
		}
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
	}
	EXPECT_EQ(want, sum);
	EXPECT_EQ(0, p.failed + e.failed);
	EXPECT_EQ(0, get_now(self->fd));
}

/* ENABLE and TRIGGER at once: the latest value is one that was given. */
TEST_F(user, enable_race_latest)
{
	struct pump p = { self->fd, 0, scaled(5000), 0 }, e;
	int wrong = 0, seen = 0, i, n;
	struct ukevent ev[8];
	pthread_t t[2];

	ASSERT_EQ(0, add_user(self->fd, KEVENT_LATEST, 8, &p.id));
	e = p;
	ASSERT_EQ(0, pthread_create(&t[0], NULL, pump_run, &p));
	ASSERT_EQ(0, pthread_create(&t[1], NULL, toggle_run, &e));
	for (i = 0; i < p.rounds; i++) {
		n = get(self->fd, ev, 0, 8, 0);
		while (n-- > 0) {
			seen++;
			wrong += ev[n].result != 3;
		}
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
	}
	while ((n = get(self->fd, ev, 0, 1, 0)) == 1) {
		seen++;
		wrong += ev[0].result != 3;
	}
	EXPECT_EQ(0, wrong);
	EXPECT_LT(0, seen);
	EXPECT_EQ(0, p.failed + e.failed);
}

/* A oneshot that gathers beside its unclaimed entry reports the sum, once. */
TEST_F(user, oneshot_gathers)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_user(self->fd, KEVENT_ONESHOT, 8, &id));
	ASSERT_EQ(0, trigger(self->fd, id, 1));
	ASSERT_EQ(0, enable_id(self->fd, id));
	ASSERT_EQ(0, trigger(self->fd, id, 2));
	ASSERT_EQ(0, trigger(self->fd, id, 3));
	ASSERT_EQ(1, ring_collect(&self->q, 0, &ev, 1));
	EXPECT_EQ(1, ev.result);
	ASSERT_EQ(1, get(self->fd, &ev, 0, 1, 0));
	EXPECT_EQ(5, ev.result);
	EXPECT_EQ(KEVENT_EV_DISABLED, ev.flags);
	EXPECT_EQ(0, get_now(self->fd));
	ASSERT_EQ(0, enable_id(self->fd, id));
	EXPECT_EQ(0, get_now(self->fd));
}

static int set_realtime(int64_t ns)
{
	struct timespec ts = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };

	return sys(clock_settime(CLOCK_REALTIME, &ts));
}

/* A relative timer does not care that its clock is set back. */
TEST_F(user, clock_set_back)
{
	int64_t offset = clock_ns(CLOCK_REALTIME) - now_ns();
	struct ukevent ev;
	int r;

	ASSERT_EQ(0, add_timer(self->fd, CLOCK_REALTIME, 0, 50 * MSEC, 0, 9,
			       NULL));
	ASSERT_EQ(0, set_realtime(now_ns() + offset - 3600 * NSEC_PER_SEC));
	r = get(self->fd, &ev, 1, 1, LONG_NS);
	ASSERT_EQ(0, set_realtime(now_ns() + offset));
	ASSERT_EQ(1, r);
	EXPECT_EQ(9, ev.cookie);
}

/* An absolute one does: set forward, the time has come. */
TEST_F(user, clock_set_forward)
{
	int64_t offset = clock_ns(CLOCK_REALTIME) - now_ns();
	struct ukevent ev;
	int r;

	ASSERT_EQ(0, add_timer(self->fd, CLOCK_REALTIME, KEVENT_ABSTIME,
			       now_ns() + offset + 1800 * NSEC_PER_SEC, 0, 9,
			       NULL));
	EXPECT_EQ(0, get_soon(self->fd));
	ASSERT_EQ(0, set_realtime(now_ns() + offset + 3600 * NSEC_PER_SEC));
	r = get(self->fd, &ev, 1, 1, LONG_NS);
	ASSERT_EQ(0, set_realtime(now_ns() + offset));
	ASSERT_EQ(1, r);
	EXPECT_EQ(9, ev.cookie);
}

TEST_HARNESS_MAIN
