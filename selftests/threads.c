// SPDX-License-Identifier: GPL-2.0
/*
 * Many threads and processes on one queue: each event goes to exactly one, no
 * wakeup is lost, none is left to a waiter that is dead.
 */
#include "kevent_test.h"

#define PRODUCERS 3
#define CONSUMERS 3

/* What was fired against what was delivered, by (producer, sequence). */
struct ledger {
	struct queue q;
	unsigned int rings;
	unsigned int each;		/* events of a producer */
	unsigned char *seen[PRODUCERS];
	unsigned int twice;
	unsigned int stray;
	unsigned int taken[CONSUMERS];	/* events each consumer had */
	unsigned int got;
	unsigned int interrupted;
	unsigned int errors;
};

struct worker {
	struct ledger *l;
	unsigned int number;
	int mapped;
};

static int ledger_make(struct ledger *l, unsigned int rings,
		       unsigned int entries, unsigned int each)
{
	int i;

	memset(l, 0, sizeof(*l));
	l->rings = rings;
	l->each = each;
	for (i = 0; i < PRODUCERS; i++) {
		l->seen[i] = calloc(each, 1);
		if (!l->seen[i])
			return -1;
	}
	return queue_make(&l->q, rings, entries);
}

static void ledger_free(struct ledger *l)
{
	int i;

	for (i = 0; i < PRODUCERS; i++)
		free(l->seen[i]);
	queue_free(&l->q);
}

static void ledger_enter(struct ledger *l, unsigned int consumer,
			 const struct ukevent *ev, int n)
{
	int i;

	for (i = 0; i < n; i++) {
		uint64_t who = ev[i].cookie, what = ev[i].result;

		if (who >= PRODUCERS || what >= l->each) {
			__atomic_fetch_add(&l->stray, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (__atomic_fetch_add(&l->seen[who][what], 1,
				       __ATOMIC_RELAXED))
			__atomic_fetch_add(&l->twice, 1, __ATOMIC_RELAXED);
	}
	l->taken[consumer] += n;
	__atomic_fetch_add(&l->got, n, __ATOMIC_RELEASE);
}

static int ledger_open(struct ledger *l)
{
	return __atomic_load_n(&l->got, __ATOMIC_ACQUIRE) <
	       PRODUCERS * l->each;
}

static unsigned int ledger_missing(struct ledger *l)
{
	unsigned int i, k, missing = 0;

	for (i = 0; i < PRODUCERS; i++)
		for (k = 0; k < l->each; k++)
			missing += !l->seen[i][k];
	return missing;
}

static void *produce(void *arg)
{
	struct worker *w = arg;
	struct ledger *l = w->l;
	unsigned int i;

	for (i = 0; i < l->each; i++)
		while (submit_nop_at(l->q.fd, (i + w->number) % l->rings, i,
				     w->number, NULL) == -EAGAIN)
			sched_yield();
	return NULL;
}

/* The mapped way: collect from every ring, then sleep. */
static int collect_mapped(struct ledger *l, struct ukevent *ev, int max)
{
	unsigned int i;
	int n;

	for (i = 0; i < l->rings; i++) {
		n = ring_collect(&l->q, i, ev, max);
		if (n)
			return n;
	}
	n = mapped_wait(&l->q, l->rings > 1 ? KEVENT_RING_ANY : 0, 1, NULL, 0,
			50 * NSEC_PER_MSEC);
	return n;
}

static void *consume(void *arg)
{
	struct worker *w = arg;
	struct ledger *l = w->l;
	struct ukevent ev[16];
	int n;

	while (ledger_open(l)) {
		if (w->mapped)
			n = collect_mapped(l, ev, 16);
		else
			n = get(l->q.fd, ev, 1, 16, 50 * NSEC_PER_MSEC);
		if (n == -EINTR)
			__atomic_fetch_add(&l->interrupted, 1,
					   __ATOMIC_RELAXED);
		else if (n < 0)
			__atomic_fetch_add(&l->errors, 1, __ATOMIC_RELAXED);
		else
			ledger_enter(l, w->number, ev, n);
	}
	return NULL;
}

FIXTURE(ledger) {
	struct ledger l;
};

FIXTURE_VARIANT(ledger) {
	unsigned int rings;
	unsigned int entries;
	int mapped;	/* how many of the consumers */
	int signals;
};

FIXTURE_VARIANT_ADD(ledger, mapped) { 1, 256, 3, 0 };
FIXTURE_VARIANT_ADD(ledger, ioctl) { 1, 256, 0, 0 };
FIXTURE_VARIANT_ADD(ledger, mixed) { 1, 256, 2, 0 };
FIXTURE_VARIANT_ADD(ledger, mapped_two_rings) { 2, 256, 3, 0 };
FIXTURE_VARIANT_ADD(ledger, mixed_two_rings) { 2, 64, 1, 0 };
FIXTURE_VARIANT_ADD(ledger, mapped_two_slots) { 1, 2, 3, 0 };
FIXTURE_VARIANT_ADD(ledger, mixed_one_slot) { 1, 1, 1, 0 };
FIXTURE_VARIANT_ADD(ledger, mapped_signals) { 1, 64, 3, 1 };
FIXTURE_VARIANT_ADD(ledger, ioctl_signals) { 1, 64, 0, 1 };
FIXTURE_VARIANT_ADD(ledger, mixed_signals) { 2, 4, 2, 1 };

FIXTURE_SETUP(ledger)
{
	ASSERT_EQ(0, ledger_make(&self->l, variant->rings, variant->entries,
				 scaled(variant->entries < 8 ? 3000 : 10000)));
}

FIXTURE_TEARDOWN(ledger)
{
	ledger_free(&self->l);
}

static void ignore(int number)
{
}

/* Every event is delivered once, whoever collects and how. */
TEST_F(ledger, exactly_once)
{
	struct sigaction action = { .sa_handler = ignore };
	struct worker p[PRODUCERS], c[CONSUMERS];
	pthread_t pt[PRODUCERS], ct[CONSUMERS];
	struct ledger *l = &self->l;
	int i;

	sigaction(SIGUSR1, &action, NULL);
	for (i = 0; i < CONSUMERS; i++) {
		c[i] = (struct worker){ l, i, i < variant->mapped };
		ASSERT_EQ(0, pthread_create(&ct[i], NULL, consume, &c[i]));
	}
	for (i = 0; i < PRODUCERS; i++) {
		p[i] = (struct worker){ l, i, 0 };
		ASSERT_EQ(0, pthread_create(&pt[i], NULL, produce, &p[i]));
	}
	for (i = 0; variant->signals && ledger_open(l); i++) {
		pthread_kill(ct[i % CONSUMERS], SIGUSR1);
		sched_yield();
	}
	for (i = 0; i < PRODUCERS; i++) {
		ASSERT_EQ(0, join(pt[i], NULL));
	}
	for (i = 0; i < CONSUMERS; i++) {
		ASSERT_EQ(0, join(ct[i], NULL));
	}
	EXPECT_EQ(0, l->twice);
	EXPECT_EQ(0, l->stray);
	EXPECT_EQ(0, l->errors);
	EXPECT_EQ(0, ledger_missing(l));
	EXPECT_EQ(0, get_now(l->q.fd));
	for (i = 0; i < variant->rings; i++)
		EXPECT_EQ(0, requests_of(&l->q, i));
	ksft_print_msg("taken %u %u %u, interrupted %u\n", l->taken[0],
		       l->taken[1], l->taken[2], l->interrupted);
}

/* ------------------------------------------------------------------------ */
/* Sleepers */

struct sleeper {
	const struct queue *q;
	unsigned int min;
	int mapped;
	pid_t tid;
	int result;
	int done;
	struct ukevent ev[16];
	pthread_t thread;
};

static void *sleeper_run(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	if (s->mapped)
		s->result = mapped_wait(s->q, 0, s->min, NULL, 0, -1);
	else
		s->result = get(s->q->fd, s->ev, s->min, s->min, -1);
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static int sleeper_start(struct sleeper *s, const struct queue *q,
			 unsigned int min, int mapped)
{
	memset(s, 0, sizeof(*s));
	s->q = q;
	s->min = min;
	s->mapped = mapped;
	if (pthread_create(&s->thread, NULL, sleeper_run, s))
		return -1;
	if (!EVENTUALLY(__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE)))
		return -1;
	return asleep(s->tid) ? 0 : -1;
}

static int is_done(struct sleeper *s)
{
	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

static int count_done(struct sleeper *s, int n)
{
	int i, done = 0;

	for (i = 0; i < n; i++)
		done += is_done(&s[i]);
	return done;
}

FIXTURE(sleep) {
	struct queue q;
	int fd;
	struct sleeper s[4];
};

FIXTURE_SETUP(sleep)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 64));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(sleep)
{
	queue_free(&self->q);
}

/* One event wakes one of several; the others sleep on. */
TEST_F(sleep, wake_one)
{
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, sleeper_start(&self->s[i], &self->q, 1, 0));
	}
	for (i = 1; i <= 4; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
		ASSERT_TRUE(EVENTUALLY(count_done(self->s, 4) >= i));
		nap_ns(5 * NSEC_PER_MSEC);
		ASSERT_EQ(i, count_done(self->s, 4));
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, join(self->s[i].thread, NULL));
		EXPECT_EQ(1, self->s[i].result);
	}
}

/* The one that has waited longest is woken, so that work is spread. */
TEST_F(sleep, longest_first)
{
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, sleeper_start(&self->s[i], &self->q, 1, 0));
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
		ASSERT_TRUE(EVENTUALLY(is_done(&self->s[i])));
		EXPECT_EQ(i + 1, count_done(self->s, 4));
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, join(self->s[i].thread, NULL));
	}
}

/* A waiter for many does not keep those for few from being woken. */
TEST_F(sleep, small_min_passes)
{
	ASSERT_EQ(0, sleeper_start(&self->s[0], &self->q, 8, 0));
	ASSERT_EQ(0, sleeper_start(&self->s[1], &self->q, 1, 0));
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_EQ(0, join(self->s[1].thread, NULL));
	EXPECT_EQ(1, self->s[1].result);
	EXPECT_EQ(0, is_done(&self->s[0]));
	for (int i = 0; i < 8; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	}
	ASSERT_EQ(0, join(self->s[0].thread, NULL));
	EXPECT_EQ(8, self->s[0].result);
}

/* A coalesced wakeup wakes the next: the first left without collecting. */
TEST_F(sleep, coalesced_wakes)
{
	int file = eventfd_make(), i;
	struct ukevent ev[2];

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&self->s[i], &self->q, 1, 1));
	}
	for (i = 0; i < 3; i++) {
		eventfd_fire(file);
		ASSERT_TRUE(EVENTUALLY(count_done(self->s, 3) > i));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, join(self->s[i].thread, NULL));
	}
	EXPECT_EQ(1, ring_collect(&self->q, 0, ev, 2));
	close(file);
}

/* A process that waits and dies at once when it is woken, claiming nothing. */
static pid_t start_mortal(const struct queue *q)
{
	pid_t pid = fork();

	if (!pid) {
		mapped_wait(q, 0, 1, NULL, 0, -1);
		_exit(0);
	}
	return pid;
}

/* A woken waiter that is killed hands its wakeup on. */
TEST_F(sleep, killed_after_woken)
{
	pid_t pids[4];
	int i, alive;

	for (i = 0; i < 4; i++) {
		pids[i] = start_mortal(&self->q);
		ASSERT_TRUE(asleep(pids[i]));
	}
	/* Stopped, it cannot act on its wakeup ... */
	for (i = 0; i < 3; i++)
		kill(pids[i], SIGSTOP);
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(EVENTUALLY(task_state(pids[i]) == 'T'));
	}
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	/* ... and dead it never will; the last one must be woken instead. */
	for (i = 0; i < 3; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(128 + SIGKILL, reap(pids[i]));
	}
	alive = reap(pids[3]);
	EXPECT_EQ(0, alive);
	if (alive)
		kill(pids[3], SIGKILL);
	EXPECT_EQ(1, get_now(self->fd));
}

/* One that was woken, claims nothing and ends hands its wakeup on, too. */
TEST_F(sleep, ended_after_woken)
{
	pid_t pids[3];
	int i, left = 0;

	for (i = 0; i < 3; i++) {
		pids[i] = start_mortal(&self->q);
		ASSERT_TRUE(asleep(pids[i]));
	}
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	ASSERT_TRUE(EVENTUALLY(task_state(pids[0]) == 'Z'));
	for (i = 0; i < 3; i++) {
		left += !EVENTUALLY(task_state(pids[i]) == 'Z');
		kill(pids[i], SIGKILL);
		reap(pids[i]);
	}
	EXPECT_EQ(0, left);
	EXPECT_EQ(1, get_now(self->fd));
}

/* A process that collects for ever, and may be killed at any moment. */
static pid_t start_collector(int fd, int mapped)
{
	pid_t pid = fork();
	struct ukevent ev[4];
	struct queue q;

	if (pid)
		return pid;
	if (queue_map(&q, fd))
		_exit(1);
	for (;;) {
		if (!mapped)
			get(fd, ev, 1, 4, -1);
		else if (!ring_collect(&q, 0, ev, 4))
			mapped_wait(&q, 0, 1, NULL, 0, -1);
	}
}

/* Waiters are killed at random while events come: nobody sleeps beside one. */
TEST_F(sleep, killed_at_random)
{
	int file = eventfd_make(), i, rounds = scaled(150), stuck = 0;
	pid_t pids[3] = { };
	unsigned int seed = 1;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	for (i = 0; i < rounds && !stuck; i++) {
		int victim = i % 3;

		if (pids[victim]) {
			kill(pids[victim], SIGKILL);
			reap(pids[victim]);
		}
		pids[victim] = start_collector(self->fd, i & 1);
		if (i < 3)
			continue;
		nap_ns(rand_r(&seed) % 3000000);
		eventfd_fire(file);
		kill(pids[(i + 1) % 3], SIGKILL);
		eventfd_fire(file);
		/* One of the three is alive and has to take it. */
		stuck += !EVENTUALLY(head_of(&self->q, 0) ==
				     tail_of(&self->q, 0));
	}
	for (i = 0; i < 3; i++) {
		kill(pids[i], SIGKILL);
		reap(pids[i]);
	}
	EXPECT_EQ(0, stuck);
	close(file);
}

struct pair {
	const struct queue *q;
	int file;
	int rounds;
	int taken;
	int timeouts;
};

static void *ping(void *arg)
{
	struct pair *p = arg;
	int i;

	for (i = 0; i < p->rounds; i++) {
		eventfd_fire(p->file);
		while (__atomic_load_n(&p->taken, __ATOMIC_ACQUIRE) <= i &&
		       !__atomic_load_n(&p->timeouts, __ATOMIC_ACQUIRE))
			sched_yield();
	}
	return NULL;
}

/* Check and sleep against post and wake: never asleep beside an event. */
TEST_F(sleep, ping_pong)
{
	struct pair p = { &self->q, eventfd_make(), scaled(10000), 0, 0 };
	struct ukevent ev;
	pthread_t t;

	ASSERT_EQ(0, add_file(self->fd, p.file, EPOLLIN, 0, 1, NULL));
	ASSERT_EQ(0, pthread_create(&t, NULL, ping, &p));
	while (p.taken < p.rounds && !p.timeouts) {
		int64_t start = now_ns();

		while (!ring_collect(&self->q, 0, &ev, 1) && !p.timeouts) {
			mapped_wait(&self->q, 0, 1, NULL, 0, LONG_NS);
			p.timeouts += now_ns() - start > LONG_NS;
		}
		eventfd_drain(p.file);
		__atomic_store_n(&p.taken, p.taken + 1, __ATOMIC_RELEASE);
	}
	ASSERT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, p.timeouts);
	EXPECT_EQ(p.rounds, p.taken);
	close(p.file);
}

struct greedy {
	const struct queue *q;
	unsigned int min;
	int stop;
	unsigned long calls;
	unsigned long events;
	unsigned long full;	/* calls that had min */
};

static void *greedy_run(void *arg)
{
	struct greedy *g = arg;
	struct ukevent ev[32];
	int n;

	while (!__atomic_load_n(&g->stop, __ATOMIC_ACQUIRE)) {
		n = get(g->q->fd, ev, g->min, g->min, 20 * NSEC_PER_MSEC);
		g->calls++;
		g->events += n > 0 ? n : 0;
		g->full += n >= (int)g->min;
	}
	return NULL;
}

static int all_served(const struct greedy *g)
{
	return __atomic_load_n(&g[0].full, __ATOMIC_RELAXED) &&
	       __atomic_load_n(&g[1].events, __ATOMIC_RELAXED) &&
	       __atomic_load_n(&g[2].events, __ATOMIC_RELAXED);
}

/* A waiter for many gets its turn beside two for one: bounded unfairness. */
TEST_F(sleep, min_fairness)
{
	struct greedy g[3] = {
		{ &self->q, 8, 0, 0, 0, 0 }, { &self->q, 1, 0, 0, 0, 0 },
		{ &self->q, 1, 0, 0, 0, 0 },
	};
	int64_t end = now_ns() + LONG_NS;
	unsigned long fired = 0;
	unsigned long left = 0;
	pthread_t t[3];
	int i, n;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_create(&t[i], NULL, greedy_run, &g[i]));
	}
	while (now_ns() < end && (fired < scaled(20000) || !all_served(g)))
		fired += !submit_nop(self->fd, 1, 1);
	for (i = 0; i < 3; i++)
		__atomic_store_n(&g[i].stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
	}
	while ((n = get_now(self->fd)) > 0)
		left += n;
	EXPECT_LT(0, g[0].full);
	EXPECT_LT(0, g[1].events);
	EXPECT_LT(0, g[2].events);
	EXPECT_EQ(fired, g[0].events + g[1].events + g[2].events + left);
	ksft_print_msg("fired %lu: for 8: %lu in %lu calls (%lu full), for 1: %lu, %lu\n",
		       fired, g[0].events, g[0].calls, g[0].full, g[1].events,
		       g[2].events);
}

/* Waits under signals last as long as they were asked to, in sum. */
TEST_F(sleep, signals_elapsed)
{
	struct sigaction action = { .sa_handler = ignore };
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	int64_t end = now_ns() + 100 * NSEC_PER_MSEC;
	struct ukevent ev;
	int n, interrupted = 0;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (;;) {
		struct kevent_get g = get_arg(&ev, 1, 1, end);

		g.flags = KEVENT_GET_ABSTIME;
		n = get_run(self->fd, &g);
		if (n != -EINTR)
			break;
		interrupted++;
		ASSERT_GT(end + 10 * NSEC_PER_SEC, now_ns());
	}
	memset(&often, 0, sizeof(often));
	setitimer(ITIMER_REAL, &often, NULL);
	EXPECT_EQ(0, n);
	EXPECT_LE(end, now_ns());
	EXPECT_LT(0, interrupted);
}

/* ------------------------------------------------------------------------ */
/* Everything at once */

struct chaos {
	const struct queue *q;
	int *files;
	unsigned int nr;
	unsigned int rounds;
	unsigned int seed;
	unsigned int added;
	unsigned int removed;
	unsigned int fired;
	unsigned int collected;
	unsigned int wrong;
};

static void chaos_source(struct chaos *c)
{
	static const uint32_t modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL };
	int file = c->files[rand_r(&c->seed) % c->nr], r;
	uint64_t id;

	r = add_file_at(c->q->fd, rand_r(&c->seed) % 2, file,
			EPOLLIN | EPOLLOUT, modes[rand_r(&c->seed) % 3], 1,
			&id);
	c->added += !r;
	if (rand_r(&c->seed) % 4 == 0)
		c->wrong += modify_file(c->q->fd, id, EPOLLIN,
					modes[rand_r(&c->seed) % 3], 2) != 0;
	if (rand_r(&c->seed) % 4 == 0)
		c->wrong += disable_id(c->q->fd, id) != 0;
	if (rand_r(&c->seed) % 4 == 0)
		c->wrong += enable_id(c->q->fd, id) != 0;
	r = remove_id(c->q->fd, id);
	c->removed += r >= 0;
	c->wrong += r < 0;
}

static void *chaos_change(void *arg)
{
	struct chaos *c = arg;
	unsigned int i;

	for (i = 0; i < c->rounds; i++)
		chaos_source(c);
	return NULL;
}

static void *chaos_fire(void *arg)
{
	struct chaos *c = arg;
	unsigned int i;

	for (i = 0; i < c->rounds * 4; i++) {
		int file = c->files[rand_r(&c->seed) % c->nr];

		if (rand_r(&c->seed) % 3)
			c->fired += !eventfd_fire(file);
		else
			eventfd_drain(file);
	}
	return NULL;
}

static void *chaos_collect(void *arg)
{
	struct chaos *c = arg;
	struct ukevent ev[8];
	unsigned int i;
	int n;

	for (i = 0; i < c->rounds; i++) {
		if (rand_r(&c->seed) % 2)
			n = ring_collect(c->q, rand_r(&c->seed) % 2, ev, 8);
		else
			n = get(c->q->fd, ev, 1, 8, NSEC_PER_MSEC / 10);
		c->wrong += n < 0;
		c->collected += n > 0 ? n : 0;
	}
	return NULL;
}

/* Add, modify, remove, fire and collect on all CPUs: nothing is left over. */
TEST(chaos)
{
	static void *(*const what[])(void *) = {
		chaos_change, chaos_fire, chaos_collect,
		chaos_change, chaos_fire, chaos_collect,
	};
	int files[8], i;
	struct chaos c[ARRAY_SIZE(what)];
	pthread_t t[ARRAY_SIZE(what)];
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 2, 8));
	for (i = 0; i < 8; i++)
		files[i] = eventfd_make();
	for (i = 0; i < ARRAY_SIZE(what); i++) {
		c[i] = (struct chaos){ .q = &q, .files = files, .nr = 8,
				       .rounds = scaled(3000), .seed = i };
		ASSERT_EQ(0, pthread_create(&t[i], NULL, what[i], &c[i]));
	}
	for (i = 0; i < ARRAY_SIZE(what); i++) {
		ASSERT_EQ(0, join(t[i], NULL));
		EXPECT_EQ(0, c[i].wrong);
		EXPECT_EQ(c[i].added, c[i].removed);
	}
	while (get_now(q.fd) > 0)
		;
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, sources_of(&q, i));
		EXPECT_EQ(0, hint_of(&q, i));
		EXPECT_EQ(0, need_enter_of(&q, i));
		EXPECT_EQ(0, pending_of(&q, i));
	}
	ksft_print_msg("added %u, fired %u, collected %u\n",
		       c[0].added + c[3].added, c[1].fired + c[4].fired,
		       c[2].collected + c[5].collected);
	for (i = 0; i < 8; i++)
		close(files[i]);
	queue_free(&q);
}

/* Removal of a source whose event is being claimed: one consumer or none. */
TEST(remove_in_flight)
{
	int file = eventfd_make(), i, rounds = scaled(3000), unclaimed = 0;
	struct ukevent ev[2];
	struct queue q;
	uint64_t id;

	ASSERT_EQ(0, queue_make(&q, 1, 4));
	for (i = 0; i < rounds; i++) {
		int left, n;

		eventfd_fire(file);
		ASSERT_EQ(0, add_file(q.fd, file, EPOLLIN, 0, i, &id));
		n = i % 2 ? ring_collect(&q, 0, ev, 2) : 0;
		left = remove_id(q.fd, id);
		ASSERT_EQ(i % 2 ? 0 : KEVENT_UNCLAIMED, left);
		unclaimed += left;
		n += ring_collect(&q, 0, ev, 2);
		ASSERT_EQ(1, n);
		ASSERT_EQ(i, ev[0].cookie);
	}
	EXPECT_LT(0, unclaimed);
	queue_free(&q);
	close(file);
}

/* Two queues watch one listener's worth of news: both hear of each. */
TEST(two_queues_one_file)
{
	struct ukevent ev;
	int file = eventfd_make(), i;
	struct queue a, b;

	ASSERT_EQ(0, queue_make(&a, 1, 4));
	ASSERT_EQ(0, queue_make(&b, 1, 4));
	ASSERT_EQ(0, add_file(a.fd, file, EPOLLIN, 0, 1, NULL));
	ASSERT_EQ(0, add_file(b.fd, file, EPOLLIN, KEVENT_LEVEL, 2, NULL));
	for (i = 0; i < 10; i++) {
		eventfd_fire(file);
		ASSERT_EQ(1, get_one(a.fd, &ev));
		ASSERT_EQ(1, get_one(b.fd, &ev));
		eventfd_drain(file);
		ASSERT_EQ(0, get_now(b.fd));
	}
	queue_free(&a);
	queue_free(&b);
	close(file);
}

struct poster {
	int fd;
	unsigned int ring;
	int rounds;
	int *round;
	int failed;
};

static void *post_run(void *arg)
{
	struct poster *p = arg;
	int i;

	for (i = 1; i <= p->rounds; i++) {
		while (__atomic_load_n(p->round, __ATOMIC_ACQUIRE) < i)
			sched_yield();
		p->failed += submit_nop_at(p->fd, p->ring, i, i, NULL) != 0;
	}
	return NULL;
}

/* One who waits for two of any ring does not sleep beside one in each. */
TEST(any_ring_min)
{
	int round = 0, rounds = scaled(3000), i, n, short_of = 0;
	struct poster p[2];
	struct ukevent ev[4];
	pthread_t t[2];
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 2, 8));
	for (i = 0; i < 2; i++) {
		p[i] = (struct poster){ q.fd, i, rounds, &round, 0 };
		ASSERT_EQ(0, pthread_create(&t[i], NULL, post_run, &p[i]));
	}
	for (i = 1; i <= rounds && !short_of; i++) {
		__atomic_store_n(&round, i, __ATOMIC_RELEASE);
		n = get(q.fd, ev, 2, 4, LONG_NS);
		short_of += n != 2;
	}
	__atomic_store_n(&round, rounds, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
		EXPECT_EQ(0, p[i].failed);
	}
	EXPECT_EQ(0, short_of);
	queue_free(&q);
}

/* What is withheld for one's turn goes to the others when the turn is over. */
TEST_F(sleep, turn_ends)
{
	struct sleeper big, *s = self->s;
	int i;

	ASSERT_EQ(0, sleeper_start(&big, &self->q, 5, 0));
	for (i = 1; i < KEVENT_PASSES; i++) {
		ASSERT_EQ(0, sleeper_start(&s[0], &self->q, 1, 0));
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
		ASSERT_EQ(0, join(s[0].thread, NULL));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s[i], &self->q, 1, 0));
	}
	/* One pass more begins the turn, within which two more come. */
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, join(s[i].thread, NULL));
		EXPECT_EQ(1, s[i].result);
	}
	EXPECT_EQ(0, is_done(&big));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	ASSERT_EQ(0, join(big.thread, NULL));
	EXPECT_EQ(5, big.result);
}

/* While it lasts nobody is woken for less. */
TEST_F(sleep, turn_withholds)
{
	struct sched_param first = { .sched_priority = 1 }, usual = { };
	struct sleeper big, *s = self->s;
	unsigned int cpu, node;
	long woken[3];
	int i;

	ASSERT_EQ(0, sleeper_start(&big, &self->q, 5, 0));
	while (fdinfo(self->fd, "wakeups") < KEVENT_PASSES - 1) {
		ASSERT_EQ(0, sleeper_start(&s[0], &self->q, 1, 0));
		ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
		ASSERT_EQ(0, join(s[0].thread, NULL));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(&s[i], &self->q, 1, 0));
	}
	/* It cannot end its turn before we let it have the CPU. */
	ASSERT_EQ(0, getcpu(&cpu, &node));
	ASSERT_EQ(0, on_cpu(0, cpu));
	ASSERT_EQ(0, on_cpu(big.tid, cpu));
	if (sched_setscheduler(0, SCHED_FIFO, &first))
		SKIP(goto out, "SCHED_FIFO is not ours to have");
	for (i = 0; i < 3; i++) {
		submit_nop(self->fd, i, i);
		woken[i] = fdinfo(self->fd, "wakeups");
	}
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &usual));
	EXPECT_EQ(KEVENT_PASSES, woken[0]);
	EXPECT_EQ(KEVENT_PASSES, woken[2]);
out:
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, join(s[i].thread, NULL));
	}
	ASSERT_EQ(0, join(big.thread, NULL));
}

static int64_t time_of_posts(const struct queue *q)
{
	int64_t best = INT64_MAX, start;
	struct ukevent ev;
	int i, j;

	for (i = 0; i < 20; i++) {
		start = now_ns();
		for (j = 0; j < 20; j++)
			if (submit_nop(q->fd, j, j) || ring_collect(q, 0, &ev, 1) != 1)
				return -1;
		if (now_ns() - start < best)
			best = now_ns() - start;
	}
	return best;
}

/* Those who wait for more cost nothing until there is more: then each has it. */
TEST_F(sleep, unmet_cost_nothing)
{
	static struct sleeper s[600];
	int64_t alone = time_of_posts(&self->q), beside;
	pthread_attr_t small;
	int i;

	ASSERT_EQ(0, pthread_attr_init(&small));
	ASSERT_EQ(0, pthread_attr_setstacksize(&small, 262144));
	ASSERT_EQ(0, pthread_setattr_default_np(&small));
	for (i = 0; i < ARRAY_SIZE(s); i++) {
		ASSERT_EQ(0, sleeper_start(&s[i], &self->q, 16, 0));
	}
	beside = time_of_posts(&self->q);
	EXPECT_LT(0, alone);
	EXPECT_LT(0, beside);
	EXPECT_LT(beside, 5 * alone / 2);
	for (i = 0; i < 16 * ARRAY_SIZE(s); i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	for (i = 0; i < ARRAY_SIZE(s); i++) {
		ASSERT_EQ(0, join(s[i].thread, NULL));
		EXPECT_EQ(16, s[i].result);
	}
}

TEST_HARNESS_MAIN
