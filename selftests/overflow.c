// SPDX-License-Identifier: GPL-2.0
/* A ring that is full: nothing is lost, nothing is disarmed, order is kept. */
#include "kevent_test.h"

FIXTURE(full) {
	struct queue q;
	int fd;
};

FIXTURE_VARIANT(full) {
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(full, one) { 1 };
FIXTURE_VARIANT_ADD(full, two) { 2 };
FIXTURE_VARIANT_ADD(full, four) { 4 };

FIXTURE_SETUP(full)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, variant->entries));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(full)
{
	queue_free(&self->q);
}

/* Makes @n eventfds, each watched with its index as cookie. */
static int *watch_many(int fd, unsigned int n, uint32_t flags)
{
	int *files = calloc(n, sizeof(*files));
	unsigned int i;

	for (i = 0; files && i < n; i++) {
		files[i] = eventfd_make();
		if (files[i] < 0 || add_file(fd, files[i], EPOLLIN, flags, i,
					     NULL))
			return NULL;
	}
	return files;
}

/* The ring is not overfilled, and @pending counts the rest. */
TEST_F(full, pending_counts)
{
	int *files = watch_many(self->fd, 10, 0);
	unsigned int i;

	ASSERT_NE(NULL, files);
	for (i = 0; i < 10; i++) {
		eventfd_fire(files[i]);
		EXPECT_GE(variant->entries,
			  tail_of(&self->q, 0) - head_of(&self->q, 0));
		EXPECT_EQ(i + 1, pending_of(&self->q, 0) +
			  tail_of(&self->q, 0) - head_of(&self->q, 0));
	}
}

/* Pending events come in the order in which they were posted. */
TEST_F(full, order)
{
	int *files = watch_many(self->fd, 10, 0), i;
	struct ukevent ev;

	ASSERT_NE(NULL, files);
	for (i = 0; i < 10; i++)
		eventfd_fire(files[(i * 7) % 10]);
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(1, get(self->fd, &ev, 1, 1, 0));
		EXPECT_EQ((i * 7) % 10, ev.cookie);
	}
	EXPECT_EQ(0, pending_of(&self->q, 0));
}

/* One call takes more than the ring holds. */
TEST_F(full, one_call)
{
	int *files = watch_many(self->fd, 30, 0), i;
	struct ukevent ev[30];

	ASSERT_NE(NULL, files);
	for (i = 0; i < 30; i++)
		eventfd_fire(files[i]);
	ASSERT_EQ(30, get(self->fd, ev, 30, 30, LONG_NS));
	for (i = 0; i < 30; i++)
		EXPECT_EQ(i, ev[i].cookie);
}

/* A sleeper can wait for more than the ring holds. */
TEST_F(full, min_over_entries)
{
	struct ukevent ev[16];
	int *files = watch_many(self->fd, 16, 0), i;
	pid_t pid;

	ASSERT_NE(NULL, files);
	pid = fork();
	if (!pid) {
		for (i = 0; i < 16; i++)
			eventfd_fire(files[i]);
		_exit(0);
	}
	EXPECT_EQ(16, get(self->fd, ev, 16, 16, LONG_NS));
	EXPECT_EQ(0, reap(pid));
}

/* It is woken by what waits for room. */
TEST_F(full, pending_wakes)
{
	int *files = watch_many(self->fd, 8, 0), i;
	struct ukevent ev[8];
	pid_t pid;

	ASSERT_NE(NULL, files);
	pid = fork();
	if (!pid)
		_exit(get(self->fd, ev, 8, 8, -1));
	EXPECT_TRUE(asleep(pid));
	for (i = 0; i < 8; i++)
		eventfd_fire(files[i]);
	i = reap(pid);
	EXPECT_EQ(8, i);
	if (i < 0) {
		kill(pid, SIGKILL);
		reap(pid);
	}
}

/* Requests wait for room as sources do, as many as there are. */
TEST_F(full, nops)
{
	struct ukevent ev;
	int i, made = 0, r = 0;

	for (i = 0; i < 100 && !r; i++) {
		r = submit_nop(self->fd, i, i);
		made += !r;
	}
	EXPECT_TRUE(r == 0 || r == -EAGAIN);
	EXPECT_LE(variant->entries, made);
	for (i = 0; i < made; i++) {
		ASSERT_EQ(1, get(self->fd, &ev, 1, 1, 0));
		ASSERT_EQ(i, ev.result);
	}
	EXPECT_EQ(0, get_now(self->fd));
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

/* A pending event of a source that goes away does not come. */
TEST_F(full, remove_pending)
{
	uint64_t ids[8];
	struct ukevent ev[8];
	int i, n, left = 0;

	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, add_user(self->fd, 0, i, &ids[i]));
		ASSERT_EQ(0, trigger(self->fd, ids[i], i));
	}
	for (i = 0; i < 8; i++) {
		int r = remove_id(self->fd, ids[i]);

		ASSERT_EQ(i < variant->entries ? KEVENT_UNCLAIMED : 0, r);
		left += r;
	}
	EXPECT_EQ(0, pending_of(&self->q, 0));
	n = get(self->fd, ev, 0, 8, 0);
	EXPECT_EQ(left, n);
}

/* News for a pending event merges into it. */
TEST_F(full, merge_pending)
{
	struct ukevent ev[16];
	uint64_t id;
	int i, n;

	for (i = 0; i < variant->entries; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, 0, 1000));
	}
	ASSERT_EQ(0, add_user(self->fd, 0, 5, &id));
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, trigger(self->fd, id, 1));
	}
	EXPECT_EQ(1, pending_of(&self->q, 0));
	n = get(self->fd, ev, 0, 16, 0);
	ASSERT_EQ(variant->entries + 1, n);
	EXPECT_EQ(10, ev[n - 1].result);
}

/* A mapped consumer that finds pending calls the ioctl, and has it all. */
TEST_F(full, mapped)
{
	int *files = watch_many(self->fd, 40, 0), i, rounds = 0;
	unsigned int got = 0, n;
	struct ukevent ev[8];

	ASSERT_NE(NULL, files);
	for (i = 0; i < 40; i++)
		eventfd_fire(files[i]);
	while (got < 40 && rounds++ < 1000) {
		n = ring_collect(&self->q, 0, ev, 8);
		for (i = 0; i < n; i++) {
			ASSERT_EQ(got + i, ev[i].cookie);
		}
		got += n;
		if (!n) {
			ASSERT_LT(0, pending_of(&self->q, 0));
			ASSERT_EQ(0, get_level(self->fd, ev, 8));
		}
	}
	EXPECT_EQ(40, got);
	EXPECT_EQ(0, pending_of(&self->q, 0));
}

/* An empty ring with pending events is filled by the next post. */
TEST_F(full, drained_by_post)
{
	int *files = watch_many(self->fd, 8, 0), i;
	struct ukevent ev[8];

	ASSERT_NE(NULL, files);
	for (i = 0; i < 7; i++)
		eventfd_fire(files[i]);
	ASSERT_EQ(variant->entries, ring_collect(&self->q, 0, ev, 8));
	eventfd_fire(files[7]);
	ASSERT_LT(0, ring_collect(&self->q, 0, ev, 1));
	EXPECT_EQ(variant->entries, ev[0].cookie);
}

/* What waits for room comes first, be it more than one post moves into the ring. */
TEST(order_of_many)
{
	struct ukevent ev[64];
	struct queue q;
	int i;

	ASSERT_EQ(0, queue_make(&q, 1, 64));
	for (i = 0; i < 192; i++) {
		ASSERT_EQ(0, submit_nop(q.fd, i, i));
	}
	ASSERT_EQ(64, ring_collect(&q, 0, ev, 64));
	ASSERT_EQ(0, submit_nop(q.fd, i, i));
	for (i = 64; i <= 192; i++) {
		ASSERT_EQ(1, get(q.fd, ev, 1, 1, 0));
		ASSERT_EQ(i, ev[0].cookie);
	}
	queue_free(&q);
}

/* The queue stays readable while something is pending. */
TEST_F(full, poll_pending)
{
	struct pollfd p = { .fd = self->fd, .events = POLLIN };
	int *files = watch_many(self->fd, 8, 0), i;
	struct ukevent ev[8];

	ASSERT_NE(NULL, files);
	for (i = 0; i < 8; i++)
		eventfd_fire(files[i]);
	while (ring_collect(&self->q, 0, ev, 8) > 0)
		;
	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(8 - variant->entries, get_now(self->fd));
	EXPECT_EQ(0, poll(&p, 1, 0));
}

/* Level events are reported beside a full ring. */
TEST_F(full, level_beside)
{
	int file = eventfd_make(), i, n, level = 0;
	struct ukevent ev[4];

	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, KEVENT_LEVEL, 99, NULL));
	eventfd_fire(file);
	n = get(self->fd, ev, 0, 4, 0);
	ASSERT_EQ(4, n);
	for (i = 0; i < 4; i++)
		level += ev[i].flags == KEVENT_EV_LEVEL;
	EXPECT_EQ(1, level);
}

/* ------------------------------------------------------------------------ */
/* A thousand sources, a hundred thousand edges */

struct writers {
	int *files;
	unsigned int nr;
	unsigned int rounds;
	int done;
};

static void *write_edges(void *arg)
{
	struct writers *w = arg;
	unsigned int i, k;

	for (k = 0; k < w->rounds; k++)
		for (i = 0; i < w->nr; i++)
			eventfd_fire(w->files[(i * 617 + k) % w->nr]);
	__atomic_fetch_add(&w->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Drains what the events name and returns the sum of what was read. */
static int64_t drain_named(struct writers *w, struct ukevent *ev, int n)
{
	int64_t sum = 0, value;
	int i;

	for (i = 0; i < n; i++) {
		value = eventfd_drain(w->files[ev[i].cookie]);
		if (value > 0)
			sum += value;
	}
	return sum;
}

/* Every source's last edge is reported: no byte stays unread. */
static int64_t collect_edges(const struct queue *q, struct writers *w,
			     int64_t want, int mapped, int *overflowed)
{
	struct ukevent ev[64];
	int64_t sum = 0;
	int n;

	while (sum < want) {
		*overflowed += pending_of(q, 0) > 0;
		n = mapped ? ring_collect(q, 0, ev, 64) : 0;
		if (!n && mapped) {
			n = mapped_wait(q, 0, 1, NULL, 0, LONG_NS);
			if (n < 0)
				return sum;
			n = ring_collect(q, 0, ev, 64);
			if (!n && !needs_ioctl(q, 0) &&
			    __atomic_load_n(&w->done, __ATOMIC_ACQUIRE) == 2 &&
			    !ring_collect(q, 0, ev, 64))
				return sum;
		}
		if (!mapped)
			n = get(q->fd, ev, 1, 64, LONG_NS);
		if (n < 0 || (!mapped && !n))
			return sum;
		sum += drain_named(w, ev, n);
	}
	return sum;
}

static void edges(struct __test_metadata *_metadata, const struct queue *q,
		  int mapped)
{
	struct writers w = { .nr = 1000, .rounds = scaled(50) };
	int64_t want = 2LL * w.nr * w.rounds;
	int overflowed = 0, i;
	pthread_t t[2];

	w.files = watch_many(q->fd, w.nr, 0);
	ASSERT_NE(NULL, w.files);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_create(&t[i], NULL, write_edges, &w));
	}
	EXPECT_EQ(want, collect_edges(q, &w, want, mapped, &overflowed));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
	}
	/* Edges of what was drained meanwhile may be left. */
	while (get_now(q->fd) > 0)
		;
	EXPECT_EQ(0, pending_of(q, 0));
	EXPECT_EQ(w.nr, sources_of(q, 0));
	ksft_print_msg("edges %lld, looks that found pending %d\n",
		       (long long)want, overflowed);
	EXPECT_LT(0, overflowed);
	free(w.files);
}

/* By the ioctl. */
TEST_F(full, edges_by_ioctl)
{
	edges(_metadata, &self->q, 0);
}

/* By the mapped ring. */
TEST_F(full, edges_by_mapping)
{
	edges(_metadata, &self->q, 1);
}

struct sums {
	int fd;
	uint64_t *ids;
	unsigned int nr;
	unsigned int rounds;
	int failed;
};

static void *trigger_sums(void *arg)
{
	struct sums *s = arg;
	unsigned int i, k;

	for (k = 0; k < s->rounds; k++)
		for (i = 0; i < s->nr; i++)
			if (trigger(s->fd, s->ids[i], 1 + i % 3))
				s->failed++;
	return NULL;
}

/* The sums of many user events reconcile in a full ring. */
TEST_F(full, user_sums)
{
	uint64_t ids[100];
	struct sums s = { self->fd, ids, 100, scaled(200), 0 };
	int64_t got[100] = { }, total = 0, want = 0;
	struct ukevent ev[16];
	pthread_t t;
	int i, n;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, add_user(self->fd, 0, i, &ids[i]));
		want += (int64_t)s.rounds * (1 + i % 3);
	}
	ASSERT_EQ(0, pthread_create(&t, NULL, trigger_sums, &s));
	while (total < want) {
		n = get(self->fd, ev, 1, 16, LONG_NS);
		ASSERT_LT(0, n);
		for (i = 0; i < n; i++) {
			got[ev[i].cookie] += ev[i].result;
			total += ev[i].result;
		}
	}
	ASSERT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, s.failed);
	for (i = 0; i < 100; i++)
		EXPECT_EQ((int64_t)s.rounds * (1 + i % 3), got[i]);
	EXPECT_EQ(0, get_now(self->fd));
}

static int64_t least(const int64_t *counts, int n)
{
	int64_t min = INT64_MAX;

	while (n--)
		min = counts[n] < min ? counts[n] : min;
	return min;
}

/* Timers' counts reconcile in a full ring: all get on, none runs ahead. */
TEST_F(full, timer_counts)
{
	int64_t start = now_ns(), got[20] = { }, most;
	struct ukevent ev[8];
	uint64_t ids[20];
	int i, n;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, add_timer(self->fd, CLOCK_MONOTONIC, 0,
				       NSEC_PER_MSEC, NSEC_PER_MSEC, i,
				       &ids[i]));
	}
	nap_ns(50 * NSEC_PER_MSEC);
	while (least(got, 20) < 100 && now_ns() - start < LONG_NS) {
		n = get(self->fd, ev, 1, 8, NSEC_PER_MSEC);
		for (i = 0; i < n; i++)
			got[ev[i].cookie] += ev[i].result;
	}
	most = (now_ns() - start) / NSEC_PER_MSEC + 1;
	for (i = 0; i < 20; i++) {
		EXPECT_GE(most, got[i]);
		EXPECT_LE(100, got[i]);
	}
}

/* Entries of one source keep their order, however full the ring is. */
TEST_F(full, order_per_source)
{
	uint64_t last[4] = { }, ids[4];
	struct ukevent ev;
	int i, wrong = 0;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, add_user(self->fd, KEVENT_LATEST, i, &ids[i]));
	}
	for (i = 1; i < (int)scaled(4000); i++) {
		ASSERT_EQ(0, trigger(self->fd, ids[i % 4], i));
		if (i % 3)
			continue;
		if (get(self->fd, &ev, 0, 1, 0) == 1) {
			wrong += ev.result <= last[ev.cookie];
			last[ev.cookie] = ev.result;
		}
	}
	EXPECT_EQ(0, wrong);
}

/* A oneshot that waits for room is not fired twice. */
TEST_F(full, oneshot)
{
	int *files, i;
	struct ukevent ev[32];

	files = watch_many(self->fd, 20, KEVENT_ONESHOT);
	ASSERT_NE(NULL, files);
	for (i = 0; i < 60; i++)
		eventfd_fire(files[i % 20]);
	EXPECT_EQ(20, get(self->fd, ev, 0, 32, 0));
	for (i = 0; i < 20; i++)
		EXPECT_EQ(KEVENT_EV_DISABLED, ev[i].flags);
	EXPECT_EQ(0, get_now(self->fd));
}

/* The queue is closed with events pending. */
TEST_F(full, close_pending)
{
	int i;

	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
}

TEST_HARNESS_MAIN
