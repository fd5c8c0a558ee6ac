// SPDX-License-Identifier: GPL-2.0
/*
 * Wait queues as no driver has them all: the device of pollzoo.ko in each mode,
 * woken from each context.
 */
#include "kevent_test.h"
#include "pollzoo/pollzoo.h"

static int zoo_open(void)
{
	return open(POLLZOO_DEVICE, O_RDWR | O_CLOEXEC);
}

static int zoo_program(int fd, unsigned int queues, unsigned int flags,
		       uint32_t mask)
{
	struct pollzoo_program p = { queues, flags, mask, 0 };

	return ioc(fd, POLLZOO_IOC_PROGRAM, &p);
}

static int zoo_wake_many(int fd, unsigned int queue, unsigned int context,
			 uint32_t key, unsigned int flags, uint32_t mask,
			 unsigned int count)
{
	struct pollzoo_wake w = { queue, context, key, mask, flags, count };

	return ioc(fd, POLLZOO_IOC_WAKE, &w);
}

/* A driver's wakeup: the state first, then the key that says it. */
static int zoo_news(int fd, unsigned int queue, unsigned int context,
		    uint32_t mask)
{
	return zoo_wake_many(fd, queue, context, mask, POLLZOO_SET_MASK, mask,
			     1);
}

/* A wakeup that does not say what happened. */
static int zoo_keyless(int fd, unsigned int queue, unsigned int context,
		       uint32_t mask)
{
	return zoo_wake_many(fd, queue, context, 0,
			     POLLZOO_SET_MASK | POLLZOO_NO_KEY, mask, 1);
}

static struct pollzoo_info zoo_info(int fd)
{
	struct pollzoo_info info;

	memset(&info, POISON, sizeof(info));
	ioc(fd, POLLZOO_IOC_INFO, &info);
	return info;
}

static uint32_t other_flags(uint32_t mode)
{
	return mode == KEVENT_LEVEL ? KEVENT_EV_LEVEL :
	       mode == KEVENT_ONESHOT ? KEVENT_EV_DISABLED : 0;
}

FIXTURE(zoo) {
	struct queue q;
	int fd;
};

FIXTURE_VARIANT(zoo) {
	uint32_t mode;
	unsigned int context;
};

#define IN_CONTEXTS(mode_, number)					\
	FIXTURE_VARIANT_ADD(zoo, mode_##_task)				\
		{ number, POLLZOO_TASK };				\
	FIXTURE_VARIANT_ADD(zoo, mode_##_atomic)			\
		{ number, POLLZOO_ATOMIC };				\
	FIXTURE_VARIANT_ADD(zoo, mode_##_softirq)			\
		{ number, POLLZOO_SOFTIRQ };				\
	FIXTURE_VARIANT_ADD(zoo, mode_##_hardirq)			\
		{ number, POLLZOO_HARDIRQ };				\
	FIXTURE_VARIANT_ADD(zoo, mode_##_irq_work)			\
		{ number, POLLZOO_IRQ_WORK }

IN_CONTEXTS(edge, 0);
IN_CONTEXTS(oneshot, KEVENT_ONESHOT);
IN_CONTEXTS(level, KEVENT_LEVEL);

FIXTURE_SETUP(zoo)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->fd = zoo_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(zoo)
{
	queue_free(&self->q);
	close(self->fd);
}

/* A wakeup with a key is reported with that key's bits. */
TEST_F(zoo, key)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      &id));
	EXPECT_EQ(0, get_now(self->q.fd));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, EPOLLIN));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(EPOLLIN, ev.events);
	EXPECT_EQ(other_flags(variant->mode), ev.flags);
}

/* A wakeup without a key makes the file be polled again. */
TEST_F(zoo, no_key)
{
	struct ukevent ev;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_keyless(self->fd, 0, variant->context, EPOLLIN));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(EPOLLIN, ev.events);
	EXPECT_EQ(0, need_enter_of(&self->q, 0));
}

/* A key of 0 is no key. */
TEST_F(zoo, key_zero)
{
	struct ukevent ev;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_wake_many(self->fd, 0, variant->context, 0,
				   POLLZOO_SET_MASK, EPOLLIN, 1));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(EPOLLIN, ev.events);
}

/* A key for bits that were not asked for is no news. */
TEST_F(zoo, foreign_key)
{
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, EPOLLOUT));
	EXPECT_EQ(0, get_now(self->q.fd));
	EXPECT_EQ(0, tail_of(&self->q, 0));
}

/* A key that holds asked bits and others shows the asked ones alone. */
TEST_F(zoo, wide_key)
{
	uint32_t wide = EPOLLIN | EPOLLRDNORM | EPOLLPRI | EPOLLRDBAND;
	struct ukevent ev;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, wide));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(EPOLLIN, ev.events);
}

/* ERR and HUP come through whatever was asked for. */
TEST_F(zoo, hangup)
{
	struct ukevent ev;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLPRI, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context,
			      EPOLLERR | EPOLLHUP));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(EPOLLERR | EPOLLHUP, ev.events);
}

/* News on any of eight queues is news. */
TEST_F(zoo, eight_queues)
{
	struct ukevent ev;
	uint64_t id;
	int i;

	ASSERT_EQ(0, zoo_program(self->fd, 8, 0, 0));
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      &id));
	EXPECT_EQ(8, zoo_info(self->fd).entries);
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, zoo_news(self->fd, i, variant->context, EPOLLIN));
		ASSERT_EQ(1, get_one(self->q.fd, &ev));
		ASSERT_EQ(0, zoo_program(self->fd, 8, 0, 0));
		ASSERT_EQ(0, get_now(self->q.fd));
		ASSERT_EQ(0, modify_file(self->q.fd, id, EPOLLIN,
					 variant->mode, 1));
	}
	ASSERT_EQ(0, remove_id(self->q.fd, id));
	EXPECT_TRUE(EVENTUALLY(zoo_info(self->fd).entries == 0));
}

/* A queue that poll passes twice gives one event, and is left in full. */
TEST_F(zoo, queue_twice)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, zoo_program(self->fd, 1, POLLZOO_TWICE, 0));
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      &id));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, EPOLLIN));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	ASSERT_EQ(0, zoo_program(self->fd, 1, 0, 0));
	EXPECT_EQ(0, get_now(self->q.fd));
	ASSERT_EQ(0, remove_id(self->q.fd, id));
	EXPECT_TRUE(EVENTUALLY(zoo_info(self->fd).entries == 0));
}

/* A poll whose queue changes does not lose the one that was hooked. */
TEST_F(zoo, queue_changes)
{
	struct ukevent ev;
	uint64_t id;
	int i, n = 0;

	ASSERT_EQ(0, zoo_program(self->fd, 1, POLLZOO_ROTATE, 0));
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      &id));
	EXPECT_EQ(1, zoo_info(self->fd).entries);
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, zoo_news(self->fd, i, variant->context, EPOLLIN));
	}
	n = get_one(self->q.fd, &ev);
	EXPECT_EQ(1, n);
	ASSERT_EQ(0, zoo_program(self->fd, 1, POLLZOO_ROTATE, 0));
	EXPECT_EQ(0, get_now(self->q.fd));
	ASSERT_EQ(0, remove_id(self->q.fd, id));
	EXPECT_TRUE(EVENTUALLY(zoo_info(self->fd).entries == 0));
}

/* A file without a wait queue reports what is ready when it is added. */
TEST_F(zoo, no_queue)
{
	struct ukevent ev;

	ASSERT_EQ(0, zoo_program(self->fd, 0, 0, EPOLLIN));
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(EPOLLIN, ev.events);
}

/* A spurious keyless wakeup is no event. */
TEST_F(zoo, spurious)
{
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_keyless(self->fd, 0, variant->context, 0));
	EXPECT_EQ(0, get_now(self->q.fd));
	EXPECT_EQ(0, need_enter_of(&self->q, 0));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* New bits beside an unclaimed event are not lost. */
TEST_F(zoo, more_bits)
{
	uint32_t ask = EPOLLIN | EPOLLOUT | EPOLLPRI, seen = 0;
	struct ukevent ev[4];
	int i, n;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, ask, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, EPOLLIN));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context,
			      EPOLLIN | EPOLLOUT));
	ASSERT_EQ(0, zoo_keyless(self->fd, 0, variant->context, ask));
	n = get(self->q.fd, ev, 0, 4, 0);
	ASSERT_LT(0, n);
	for (i = 0; i < n; i++)
		seen |= ev[i].events;
	/* A oneshot source is disabled by its first. */
	EXPECT_EQ(variant->mode == KEVENT_ONESHOT ? EPOLLIN : ask, seen);
	EXPECT_EQ(seen, ev[n - 1].events);
}

/* The entry for new bits has those of the unclaimed one too: the newest decides. */
TEST_F(zoo, other_bits)
{
	uint32_t ask = EPOLLIN | EPOLLOUT;
	struct ukevent ev[4];
	int n;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, ask, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, EPOLLIN));
	ASSERT_EQ(0, zoo_wake_many(self->fd, 0, variant->context, EPOLLOUT,
				   POLLZOO_SET_MASK, ask, 1));
	n = get(self->q.fd, ev, 0, 4, 0);
	ASSERT_EQ(variant->mode == 0 ? 2 : 1, n);
	EXPECT_EQ(variant->mode == KEVENT_ONESHOT ? EPOLLIN : ask,
		  ev[n - 1].events);
}

/* POLLFREE: the queues go before the file, and removal touches them no more. */
TEST_F(zoo, pollfree)
{
	struct ukevent ev[4];
	uint64_t id;

	ASSERT_EQ(0, zoo_program(self->fd, 3, POLLZOO_TWICE, 0));
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      &id));
	ASSERT_EQ(0, zoo_news(self->fd, 0, variant->context, EPOLLIN));
	ASSERT_EQ(0, ioc(self->fd, POLLZOO_IOC_FREE, NULL));
	ASSERT_LE(0, get(self->q.fd, ev, 0, 4, 0));
	EXPECT_LE(0, remove_id(self->q.fd, id));
}

/* POLLFREE, then close of the queue with the source in it. */
TEST_F(zoo, pollfree_close)
{
	ASSERT_EQ(0, zoo_program(self->fd, 8, 0, 0));
	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      NULL));
	ASSERT_EQ(0, ioc(self->fd, POLLZOO_IOC_FREE, NULL));
	EXPECT_LE(0, get_now(self->q.fd));
}

/* After POLLFREE a source that is enabled again still says that it is over. */
TEST_F(zoo, pollfree_enable)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN, variant->mode, 1,
			      &id));
	ASSERT_EQ(0, ioc(self->fd, POLLZOO_IOC_FREE, NULL));
	get_now(self->q.fd);
	ASSERT_EQ(0, modify_file(self->q.fd, id, EPOLLIN, variant->mode, 1));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_TRUE(ev.events & EPOLLHUP);
}

/* A burst of wakeups of a disabled source is nothing. */
TEST_F(zoo, disabled)
{
	uint64_t id;

	ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN,
			      variant->mode | KEVENT_DISABLED, 1, &id));
	ASSERT_EQ(0, zoo_wake_many(self->fd, 0, variant->context, EPOLLIN, 0,
				   0, 100));
	EXPECT_EQ(0, get_now(self->q.fd));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* ------------------------------------------------------------------------ */
/* Races */

struct storm {
	int fd;
	int stop;
	unsigned int context;
	unsigned long wakes;
};

static void *storm_run(void *arg)
{
	struct storm *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		zoo_news(s->fd, 0, s->context, EPOLLIN);
		zoo_keyless(s->fd, 1, s->context, EPOLLIN | EPOLLOUT);
		s->wakes += 2;
	}
	return NULL;
}

/* Removal against wakeups: nothing comes after REMOVE but what it told of. */
TEST_F(zoo, remove_storm)
{
	struct storm s = { .fd = self->fd, .context = variant->context };
	int rounds = scaled(300), i, left, late = 0, hit = 0;
	pthread_t t;
	uint64_t id;

	ASSERT_EQ(0, zoo_program(self->fd, 2, POLLZOO_TWICE, 0));
	ASSERT_EQ(0, pthread_create(&t, NULL, storm_run, &s));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, add_file(self->q.fd, self->fd, EPOLLIN | EPOLLOUT,
				      variant->mode, i, &id));
		left = remove_id(self->q.fd, id);
		ASSERT_LE(0, left);
		/* Two bits were asked for: two entries at the most. */
		left = left ? 2 : 0;
		hit += left > 0;
		late += get_now(self->q.fd) > left;
	}
	s.stop = 1;
	EXPECT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, late);
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	EXPECT_EQ(0, need_enter_of(&self->q, 0));
	ksft_print_msg("wakeups %lu, removals that met one %d of %d\n",
		       s.wakes, hit, rounds);
}

/* POLLFREE against REMOVE. */
TEST(pollfree_race)
{
	int queue = queue_open(1, 16), i;

	for (i = 0; i < (int)scaled(300); i++) {
		int fd = zoo_open();
		pid_t pid;
		uint64_t id;

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, zoo_program(fd, 8, 0, 0));
		ASSERT_EQ(0, add_file(queue, fd, EPOLLIN,
				      i % 3 ? KEVENT_LEVEL : 0, i, &id));
		pid = fork();
		if (!pid) {
			ioc(fd, POLLZOO_IOC_FREE, NULL);
			_exit(0);
		}
		get_now(queue);
		ASSERT_LE(0, remove_id(queue, id));
		ASSERT_EQ(0, reap(pid));
		get_now(queue);
		close(fd);
	}
	close(queue);
}

/* ------------------------------------------------------------------------ */
/* A poll that sleeps */

static void *collect_run(void *arg)
{
	return (void *)(intptr_t)get_now(*(int *)arg);
}

/* Lets a thread sweep into a poll that sleeps, then answers @mask. */
static int sleep_in_poll(int queue, int zoo, uint32_t mask, pthread_t *t)
{
	static int shared;

	shared = queue;
	if (zoo_program(zoo, 1, POLLZOO_SLEEP, mask) ||
	    pthread_create(t, NULL, collect_run, &shared))
		return -1;
	return EVENTUALLY(zoo_info(zoo).sleeping == 1) ? 0 : -1;
}

static int start_sleeping(int queue, int zoo, pthread_t *t)
{
	return sleep_in_poll(queue, zoo, EPOLLIN, t);
}

FIXTURE(slow) {
	struct queue q;
	int zoo;
	uint64_t id;
};

FIXTURE_SETUP(slow)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->zoo = zoo_open();
	ASSERT_LE(0, self->zoo);
	ASSERT_EQ(0, add_file(self->q.fd, self->zoo, EPOLLIN, KEVENT_LEVEL, 1,
			      &self->id));
	ASSERT_EQ(0, zoo_news(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
}

FIXTURE_TEARDOWN(slow)
{
	ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL);
	queue_free(&self->q);
	close(self->zoo);
}

/* A poll that sleeps does not hold up another thread's sweep. */
TEST_F(slow, other_sweep)
{
	int file = eventfd_make();
	struct ukevent ev[4];
	pthread_t t;
	int n, i, seen = 0;

	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	ASSERT_EQ(0, add_file(self->q.fd, file, EPOLLIN, KEVENT_LEVEL, 2,
			      NULL));
	eventfd_fire(file);
	n = get(self->q.fd, ev, 1, 4, LONG_NS);
	for (i = 0; i < n; i++)
		seen |= ev[i].cookie;
	EXPECT_EQ(2, seen);
	EXPECT_EQ(1, zoo_info(self->zoo).sleeping);
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
}

/* It does not hold up the ring's events. */
TEST_F(slow, ring_events)
{
	struct ukevent ev;
	pthread_t t;

	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	ASSERT_EQ(0, submit_nop(self->q.fd, 4, 4));
	EXPECT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(4, ev.result);
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
}

/* REMOVE does not wait for it, and its answer is not reported. */
TEST_F(slow, remove)
{
	pthread_t t;
	void *result;

	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	EXPECT_EQ(0, remove_id(self->q.fd, self->id));
	EXPECT_EQ(1, zoo_info(self->zoo).sleeping);
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* DISABLE does not wait for it, and its answer is not reported. */
TEST_F(slow, disable)
{
	pthread_t t;
	void *result;

	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	EXPECT_EQ(0, disable_id(self->q.fd, self->id));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* The hint stays up while it sleeps. */
TEST_F(slow, hint)
{
	pthread_t t;

	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	EXPECT_LT(0, hint_of(&self->q, 0));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
}

/* A wakeup while it sleeps is not lost, though its answer is "unready". */
TEST_F(slow, wakeup_meanwhile)
{
	struct ukevent ev;
	pthread_t t;

	ASSERT_EQ(0, sleep_in_poll(self->q.fd, self->zoo, 0, &t));
	ASSERT_EQ(0, zoo_news(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
	EXPECT_LT(0, hint_of(&self->q, 0));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
	EXPECT_LT(0, hint_of(&self->q, 0));
	EXPECT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(1, ev.cookie);
}

/* One whose wakeup a second sweep follows up at once: the second finds it. */
TEST_F(slow, second_sweep)
{
	struct ukevent ev;
	pthread_t t;

	ASSERT_EQ(0, sleep_in_poll(self->q.fd, self->zoo, 0, &t));
	ASSERT_EQ(0, zoo_program(self->zoo, 1, 0, 0));
	EXPECT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	ASSERT_EQ(0, zoo_news(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
	EXPECT_EQ(1, get_one(self->q.fd, &ev));
}

/* What one poll found before the wakeup hides nothing from one that polls after it. */
TEST_F(slow, late_answer)
{
	pthread_t late, next;
	void *result;

	ASSERT_EQ(0, sleep_in_poll(self->q.fd, self->zoo, 0, &late));
	ASSERT_EQ(0, zoo_news(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
	ASSERT_EQ(0, pthread_create(&next, NULL, collect_run, &self->q.fd));
	ASSERT_TRUE(EVENTUALLY(zoo_info(self->zoo).sleeping == 2));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE_ONE, NULL));
	EXPECT_EQ(0, join(late, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_LT(0, hint_of(&self->q, 0));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(next, &result));
	EXPECT_EQ((void *)1, result);
}

/* Makes the source an edge one, which must be polled again. */
static int make_stale(struct queue *q, int zoo, uint64_t id)
{
	if (zoo_program(zoo, 1, 0, 0) || modify_file(q->fd, id, EPOLLIN, 0, 1) ||
	    get_now(q->fd) || zoo_keyless(zoo, 0, POLLZOO_TASK, 0))
		return -1;
	return need_enter_of(q, 0) == 1 ? 0 : -1;
}

/* A wakeup while the second poll after a keyless one sleeps is not lost. */
TEST_F(slow, wakeup_in_repoll)
{
	struct ukevent ev;
	pthread_t t;
	void *result;

	ASSERT_EQ(0, make_stale(&self->q, self->zoo, self->id));
	ASSERT_EQ(0, sleep_in_poll(self->q.fd, self->zoo, 0, &t));
	ASSERT_EQ(0, zoo_keyless(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_EQ(1, need_enter_of(&self->q, 0));
	ASSERT_EQ(1, get(self->q.fd, &ev, 1, 1, 0));
	EXPECT_EQ(EPOLLIN, ev.events);
}

static void *wait_run(void *arg)
{
	struct ukevent ev;

	return (void *)(intptr_t)get(*(int *)arg, &ev, 1, 1, -1);
}

/* Who would sleep after that poll finds it. */
TEST_F(slow, sleep_after_repoll)
{
	pthread_t t;
	void *result;

	ASSERT_EQ(0, make_stale(&self->q, self->zoo, self->id));
	ASSERT_EQ(0, zoo_program(self->zoo, 1, POLLZOO_SLEEP, 0));
	ASSERT_EQ(0, pthread_create(&t, NULL, wait_run, &self->q.fd));
	ASSERT_TRUE(EVENTUALLY(zoo_info(self->zoo).sleeping == 1));
	ASSERT_EQ(0, zoo_keyless(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	ASSERT_EQ(0, join(t, &result));
	EXPECT_EQ((void *)1, result);
}

/* A thread that sleeps in it can be killed, and the queue closed. */
TEST_F(slow, kill)
{
	pid_t pid = fork();

	if (!pid) {
		zoo_program(self->zoo, 1, POLLZOO_SLEEP, EPOLLIN);
		get_now(self->q.fd);
		_exit(0);
	}
	ASSERT_TRUE(EVENTUALLY(zoo_info(self->zoo).sleeping == 1));
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, reap(pid));
	EXPECT_EQ(0, zoo_info(self->zoo).sleeping);
}

/* Two polls of the same source may sleep at once. */
TEST_F(slow, both)
{
	pthread_t a, b;
	int fd = self->q.fd;

	ASSERT_EQ(0, start_sleeping(fd, self->zoo, &a));
	ASSERT_EQ(0, zoo_wake_many(self->zoo, 0, POLLZOO_TASK, EPOLLIN, 0, 0,
				   1));
	ASSERT_EQ(0, pthread_create(&b, NULL, collect_run, &fd));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(a, NULL));
	EXPECT_EQ(0, join(b, NULL));
	EXPECT_EQ(1, get_now(fd));
}

struct release {
	int fd;
	int go;
};

static void *release_run(void *arg)
{
	struct release *r = arg;

	while (!__atomic_load_n(&r->go, __ATOMIC_ACQUIRE))
		;
	ioc(r->fd, POLLZOO_IOC_RELEASE, NULL);
	return NULL;
}

/* REMOVE at the moment that a poll of the source ends, in a sweep. */
TEST_F(slow, remove_as_poll_ends)
{
	int i, rounds = scaled(200), late = 0;
	pthread_t sweeper, releaser;
	void *result;
	uint64_t id;

	ASSERT_EQ(0, remove_id(self->q.fd, self->id));
	for (i = 0; i < rounds; i++) {
		struct release r = { self->zoo, 0 };

		ASSERT_EQ(0, zoo_program(self->zoo, 2, 0, EPOLLIN));
		ASSERT_EQ(0, add_file(self->q.fd, self->zoo, EPOLLIN,
				      KEVENT_LEVEL, i, &id));
		ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &sweeper));
		ASSERT_EQ(0, pthread_create(&releaser, NULL, release_run, &r));
		__atomic_store_n(&r.go, 1, __ATOMIC_RELEASE);
		if (i & 1)
			sched_yield();
		ASSERT_EQ(0, remove_id(self->q.fd, id));
		ASSERT_EQ(0, join(releaser, NULL));
		ASSERT_EQ(0, join(sweeper, &result));
		late += get_now(self->q.fd);
	}
	EXPECT_EQ(0, late);
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

struct enable {
	int fd;
	uint64_t id;
};

static void *enable_run(void *arg)
{
	struct enable *e = arg;

	return (void *)(intptr_t)enable_id(e->fd, e->id);
}

/* A sweep leaves the hint to an ENABLE that polls meanwhile, and that takes it down. */
TEST_F(slow, hint_of_enable)
{
	struct enable e = { self->q.fd, self->id };
	pthread_t t;

	ASSERT_EQ(0, disable_id(self->q.fd, self->id));
	ASSERT_EQ(0, zoo_program(self->zoo, 1, POLLZOO_ONCE, 0));
	ASSERT_EQ(0, pthread_create(&t, NULL, enable_run, &e));
	ASSERT_TRUE(EVENTUALLY(zoo_info(self->zoo).sleeping == 1));
	/* News that is gone when the sweep looks */
	ASSERT_EQ(0, zoo_wake_many(self->zoo, 0, POLLZOO_TASK, EPOLLIN, 0, 0, 1));
	EXPECT_LT(0, hint_of(&self->q, 0));
	EXPECT_EQ(0, get_now(self->q.fd));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* REMOVE at the moment that an ENABLE's poll ends, too. */
TEST_F(slow, remove_as_enable_polls)
{
	int i, rounds = scaled(200), late = 0;
	pthread_t enabler, releaser;
	struct enable e = { self->q.fd, 0 };
	void *result;

	ASSERT_EQ(0, remove_id(self->q.fd, self->id));
	for (i = 0; i < rounds; i++) {
		struct release r = { self->zoo, 0 };
		int left;

		ASSERT_EQ(0, zoo_program(self->zoo, 2, 0, EPOLLIN));
		ASSERT_EQ(0, add_file(self->q.fd, self->zoo, EPOLLIN,
				      KEVENT_DISABLED | (i & 2 ? KEVENT_LEVEL :
				      0), i, &e.id));
		ASSERT_EQ(0, zoo_program(self->zoo, 2, POLLZOO_SLEEP, EPOLLIN));
		ASSERT_EQ(0, pthread_create(&enabler, NULL, enable_run, &e));
		ASSERT_TRUE(EVENTUALLY(zoo_info(self->zoo).sleeping == 1));
		ASSERT_EQ(0, pthread_create(&releaser, NULL, release_run, &r));
		__atomic_store_n(&r.go, 1, __ATOMIC_RELEASE);
		if (i & 1)
			sched_yield();
		left = remove_id(self->q.fd, e.id);
		ASSERT_LE(0, left);
		ASSERT_EQ(0, join(releaser, NULL));
		ASSERT_EQ(0, join(enabler, &result));
		late += get_now(self->q.fd) != left;
	}
	EXPECT_EQ(0, late);
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(0, hint_of(&self->q, 0));
}

/* A sweep that sleeps in one source has not taken the others along. */
TEST_F(slow, batch)
{
	struct ukevent ev[16];
	int i, n, seen = 0;
	pthread_t t;

	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
	for (i = 0; i < 15; i++) {
		int file = eventfd_make();

		ASSERT_EQ(0, add_file(self->q.fd, file, EPOLLIN, KEVENT_LEVEL,
				      100 + i, NULL));
		eventfd_fire(file);
	}
	/* The slow one is first in turn: the sweep that meets it sleeps. */
	ASSERT_EQ(0, start_sleeping(self->q.fd, self->zoo, &t));
	for (i = 0; i < 100 && seen != 0x7fff; i++) {
		n = get(self->q.fd, ev, 0, 16, 0);
		while (n-- > 0)
			if (ev[n].cookie >= 100)
				seen |= 1 << (ev[n].cookie - 100);
	}
	EXPECT_EQ(0x7fff, seen);
	EXPECT_EQ(1, zoo_info(self->zoo).sleeping);
	EXPECT_EQ(0, ioc(self->zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, NULL));
}

static void *collect_one(void *arg)
{
	struct ukevent *ev = arg;
	int fd = ev->kind;

	return (void *)(intptr_t)get(fd, ev, 0, 1, 0);
}

/* The bits that MODIFY took out of the mask are not reported after it. */
static void modify_in_poll(struct __test_metadata *_metadata, struct queue *q,
			   int zoo, uint64_t id, uint32_t mode)
{
	struct ukevent ev = { .kind = q->fd };
	pthread_t t;
	void *result;

	ASSERT_EQ(0, zoo_program(zoo, 1, POLLZOO_ONCE, EPOLLIN));
	ASSERT_EQ(0, pthread_create(&t, NULL, collect_one, &ev));
	ASSERT_TRUE(EVENTUALLY(zoo_info(zoo).sleeping == 1));
	ASSERT_EQ(0, modify_file(q->fd, id, EPOLLOUT, mode, 1));
	EXPECT_EQ(0, ioc(zoo, POLLZOO_IOC_RELEASE, NULL));
	EXPECT_EQ(0, join(t, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_EQ(0, get_now(q->fd));
	EXPECT_EQ(0, hint_of(q, 0));
}

/* In a sweep. */
TEST_F(slow, modify_in_sweep)
{
	modify_in_poll(_metadata, &self->q, self->zoo, self->id, KEVENT_LEVEL);
}

/* In the second poll after a keyless wakeup. */
TEST_F(slow, modify_in_repoll)
{
	ASSERT_EQ(0, zoo_program(self->zoo, 1, 0, 0));
	ASSERT_EQ(0, modify_file(self->q.fd, self->id, EPOLLIN, 0, 1));
	EXPECT_EQ(0, get_now(self->q.fd));
	ASSERT_EQ(0, zoo_keyless(self->zoo, 0, POLLZOO_TASK, EPOLLIN));
	ASSERT_EQ(1, need_enter_of(&self->q, 0));
	modify_in_poll(_metadata, &self->q, self->zoo, self->id, 0);
}

/* Bits that come while an event waits for room come with it. */
TEST(more_bits_pending)
{
	uint32_t ask = EPOLLIN | EPOLLOUT | EPOLLPRI;
	struct ukevent ev[4];
	int zoo = zoo_open();
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 1, 1));
	ASSERT_EQ(0, submit_nop(q.fd, 0, 0));
	ASSERT_EQ(0, add_file(q.fd, zoo, ask, 0, 1, NULL));
	ASSERT_EQ(0, zoo_news(zoo, 0, POLLZOO_TASK, EPOLLIN));
	ASSERT_EQ(1, pending_of(&q, 0));
	ASSERT_EQ(0, zoo_news(zoo, 0, POLLZOO_TASK, EPOLLOUT));
	ASSERT_EQ(1, pending_of(&q, 0));
	ASSERT_EQ(2, get(q.fd, ev, 0, 4, 0));
	EXPECT_EQ(EPOLLIN | EPOLLOUT, ev[1].events);
	queue_free(&q);
	close(zoo);
}

/* Bits that waited for room when the source was disabled come with ENABLE. */
TEST(disable_pending)
{
	int zoo = zoo_open(), n, i;
	struct ukevent ev[4];
	uint32_t seen = 0;
	struct queue q;
	uint64_t id;

	ASSERT_EQ(0, queue_make(&q, 1, 1));
	ASSERT_EQ(0, add_file(q.fd, zoo, EPOLLIN | EPOLLOUT, 0, 1, &id));
	ASSERT_EQ(0, zoo_news(zoo, 0, POLLZOO_TASK, EPOLLIN));
	ASSERT_EQ(0, zoo_news(zoo, 0, POLLZOO_TASK, EPOLLIN | EPOLLOUT));
	ASSERT_EQ(1, pending_of(&q, 0));
	ASSERT_EQ(0, disable_id(q.fd, id));
	ASSERT_EQ(0, enable_id(q.fd, id));
	while ((n = get(q.fd, ev, 0, 4, 0)) > 0)
		for (i = 0; i < n; i++)
			seen |= ev[i].events;
	EXPECT_EQ(EPOLLIN | EPOLLOUT, seen);
	queue_free(&q);
	close(zoo);
}

/* What a queue of one slot has for a source, until there is no more. */
static uint32_t all_bits(struct queue *q, uint64_t cookie)
{
	struct ukevent ev[4];
	uint32_t seen = 0;
	int n, i;

	while ((n = get(q->fd, ev, 0, 4, 0)) > 0)
		for (i = 0; i < n; i++)
			if (ev[i].cookie == cookie)
				seen |= ev[i].events;
	return seen;
}

/* A source that is to be polled has news, which wait for room. */
TEST(keyless_then_pending)
{
	uint32_t ask = EPOLLIN | EPOLLOUT;
	int zoo = zoo_open();
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 1, 1));
	ASSERT_EQ(0, add_file(q.fd, zoo, ask, 0, 1, NULL));
	ASSERT_EQ(0, submit_nop(q.fd, 0, 2));
	ASSERT_EQ(0, zoo_keyless(zoo, 0, POLLZOO_TASK, EPOLLIN));
	EXPECT_EQ(0, pending_of(&q, 0));
	ASSERT_EQ(0, zoo_wake_many(zoo, 0, POLLZOO_TASK, EPOLLOUT, POLLZOO_SET_MASK, ask, 1));
	EXPECT_EQ(1, pending_of(&q, 0));
	EXPECT_EQ(ask, all_bits(&q, 1));
	EXPECT_EQ(0, need_enter_of(&q, 0));
	queue_free(&q);
	close(zoo);
}

/* One whose news wait for room is to be polled as well, also after they have it. */
TEST(pending_then_keyless)
{
	uint32_t ask = EPOLLIN | EPOLLOUT;
	int zoo = zoo_open(), other = zoo_open();
	struct ukevent ev[4];
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 1, 1));
	ASSERT_EQ(0, add_file(q.fd, zoo, ask, 0, 1, NULL));
	ASSERT_EQ(0, add_file(q.fd, other, ask, 0, 3, NULL));
	ASSERT_EQ(0, submit_nop(q.fd, 0, 2));
	ASSERT_EQ(0, zoo_news(zoo, 0, POLLZOO_TASK, EPOLLIN));
	ASSERT_EQ(1, pending_of(&q, 0));
	ASSERT_EQ(0, zoo_keyless(zoo, 0, POLLZOO_TASK, ask));
	ASSERT_EQ(1, ring_collect(&q, 0, ev, 4));
	ASSERT_EQ(0, zoo_news(other, 0, POLLZOO_TASK, EPOLLIN));
	ASSERT_EQ(1, ring_collect(&q, 0, ev, 4));
	EXPECT_EQ(1, ev[0].cookie);
	EXPECT_EQ(1, need_enter_of(&q, 0));
	EXPECT_EQ(ask, ev[0].events | all_bits(&q, 1));
	EXPECT_EQ(0, need_enter_of(&q, 0));
	queue_free(&q);
	close(zoo);
	close(other);
}

TEST_HARNESS_MAIN
