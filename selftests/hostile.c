// SPDX-License-Identifier: GPL-2.0
/*
 * What one user can do to itself, it does to nobody else: forged ring words,
 * limits, timers without pause, death at any moment.
 */
#include "kevent_test.h"

FIXTURE(forge) {
	struct queue q;
	struct queue other;
	int file;
	int other_file;
};

FIXTURE_SETUP(forge)
{
	ASSERT_EQ(0, queue_make(&self->q, 2, 8));
	ASSERT_EQ(0, queue_make(&self->other, 2, 8));
	self->file = eventfd_make();
	self->other_file = eventfd_make();
	ASSERT_EQ(0, add_file(self->q.fd, self->file, EPOLLIN, 0, 1, NULL));
	ASSERT_EQ(0, add_file(self->other.fd, self->other_file, EPOLLIN, 0, 2,
			      NULL));
}

FIXTURE_TEARDOWN(forge)
{
	queue_free(&self->q);
	queue_free(&self->other);
	close(self->file);
	close(self->other_file);
}

/* The other queue works, in every way of collecting. */
static int works(const struct queue *q, int file)
{
	struct ukevent ev;
	int ok;

	eventfd_fire(file);
	ok = get_one(q->fd, &ev) == 1 && ev.cookie == 2;
	eventfd_drain(file);
	eventfd_fire(file);
	ok = ok && ring_collect(q, 0, &ev, 1) == 1 && ev.cookie == 2;
	eventfd_drain(file);
	return ok && !get_now(q->fd);
}

static void forge(struct queue *q, uint64_t value)
{
	__atomic_store_n(head_at(q, 0), value, __ATOMIC_SEQ_CST);
}

/* A head that cannot be is not believed: the event before it is collected. */
static void forged_head(struct __test_metadata *_metadata, struct queue *q,
			int file, uint64_t value)
{
	struct ukevent ev[8];
	int n, i;

	eventfd_fire(file);
	forge(q, value);
	eventfd_fire(file);
	for (i = 0; i < 3; i++) {
		n = get(q->fd, ev, 0, 8, 0);
		EXPECT_LE(0, n);
		EXPECT_GE(8, n);
		eventfd_drain(file);
		eventfd_fire(file);
	}
	/* Set right again, the queue goes on. */
	forge(q, tail_of(q, 0));
	get(q->fd, ev, 0, 8, 0);
	eventfd_drain(file);
	eventfd_fire(file);
	EXPECT_EQ(1, get(q->fd, ev, 1, 8, LONG_NS));
}

#define FORGED(name, value)						\
TEST_F(forge, name)							\
{									\
	forged_head(_metadata, &self->q, self->file, value);		\
	EXPECT_TRUE(works(&self->other, self->other_file));		\
}

/* One past the tail, and so on: each a head that no consumer can have left. */
FORGED(tail_plus_one, tail_of(&self->q, 0) + 1)
FORGED(zero, 0)
FORGED(all_ones, ~0ULL)
FORGED(half, 1ULL << 63)
FORGED(just_under_half, (1ULL << 63) - 1)
FORGED(above_32_bits, tail_of(&self->q, 0) + (1ULL << 32))
FORGED(behind, tail_of(&self->q, 0) - 9)
FORGED(ring_ahead, tail_of(&self->q, 0) + 8)

/* A head that cannot be brings nothing that was not in the ring, and hides nothing. */
TEST_F(forge, not_believed)
{
	static const uint64_t past[] = {
		1, 7, 8, 9, 1ULL << 31, (1ULL << 32) + 1, 1ULL << 63, -2ULL, -9ULL, -1ULL << 40,
	};
	struct ukevent ev[8];
	int i;

	for (i = 0; i < (int)ARRAY_SIZE(past); i++) {
		/* The kernel knows the head: nothing before it comes again. */
		ASSERT_EQ(0, get_now(self->q.fd));
		ASSERT_EQ(0, submit_nop(self->q.fd, i, i));
		forge(&self->q, tail_of(&self->q, 0) + past[i]);
		ASSERT_EQ(1, get(self->q.fd, ev, 0, 8, 0));
		EXPECT_EQ(i, ev[0].result);
	}
}

/* A head that went back delivers again at most what its owner had already. */
TEST_F(forge, back)
{
	struct ukevent ev[8];
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, submit_nop(self->q.fd, i, i));
	}
	ASSERT_EQ(4, get(self->q.fd, ev, 0, 8, 0));
	ASSERT_EQ(0, submit_nop(self->q.fd, 4, 4));
	forge(&self->q, 0);
	i = get(self->q.fd, ev, 0, 8, 0);
	ASSERT_LE(1, i);
	EXPECT_GE(5, i);
	EXPECT_EQ(4, ev[i - 1].result);
	EXPECT_TRUE(works(&self->other, self->other_file));
}

/* Requests with a full ring and a head from nowhere. */
TEST_F(forge, full_ring)
{
	struct ukevent ev[64];
	int i, r;

	for (i = 0; i < 20; i++) {
		r = submit_nop(self->q.fd, i, i);
		ASSERT_TRUE(r == 0 || r == -EAGAIN);
	}
	forge(&self->q, 1ULL << 40);
	for (i = 0; i < 20; i++)
		submit_nop(self->q.fd, i, i);
	EXPECT_LE(0, get(self->q.fd, ev, 0, 64, 0));
	EXPECT_TRUE(works(&self->other, self->other_file));
}

struct scribbler {
	struct queue *q;
	int stop;
	unsigned long writes;
	unsigned int seed;
};

/* Writes at random over every writable byte, mostly over the head. */
static void *scribble(void *arg)
{
	struct scribbler *s = arg;
	size_t words = s->q->setup.nr_rings * s->q->setup.claim_bytes / 8;
	volatile uint64_t *all = (void *)s->q->claims;
	volatile uint64_t *head = (void *)head_at(s->q, 0);

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		uint64_t r = ((uint64_t)rand_r(&s->seed) << 33) ^
			     ((uint64_t)rand_r(&s->seed) << 11) ^
			     rand_r(&s->seed);

		if (r & 1)
			*head = r;
		else if (r & 2)
			*head = tail_of(s->q, 0) + (r >> 4) % 19 - 9;
		else
			all[(r >> 3) % words] = r;
		s->writes++;
	}
	return NULL;
}

/* One round of every ioctl on a queue whose words are being overwritten. */
static int use(struct queue *q, int file, unsigned int *seed)
{
	struct ukevent ev[8];
	uint64_t id;
	int n = 0;

	eventfd_fire(file);
	submit_nop_at(q->fd, rand_r(seed) & 1, 1, 1, NULL);
	if (!add_file(q->fd, file, EPOLLIN, rand_r(seed) & 3, 3, &id)) {
		eventfd_fire(file);
		n += remove_id(q->fd, id) < 0;
	}
	if (!add_user(q->fd, 0, 4, &id)) {
		trigger(q->fd, id, 1);
		trigger(q->fd, id, 1);
		n += remove_id(q->fd, id) < 0;
	}
	n += get(q->fd, ev, 0, 8, 0) < 0;
	n += get(q->fd, ev, 1, 8, 10000) < 0;
	n += get_level(q->fd, ev, 8) < 0;
	n += poll(&(struct pollfd){ q->fd, POLLIN, 0 }, 1, 0) < 0;
	eventfd_drain(file);
	return n;
}

/* Every writable word overwritten at random while events flow. */
TEST_F(forge, scribbler)
{
	struct scribbler s = { .q = &self->q, .seed = 7 };
	int i, rounds = scaled(3000), broken = 0, errors = 0;
	unsigned int seed = 9;
	pthread_t t;

	ASSERT_EQ(0, pthread_create(&t, NULL, scribble, &s));
	for (i = 0; i < rounds; i++) {
		errors += use(&self->q, self->file, &seed);
		if (i % 100 == 0)
			broken += !works(&self->other, self->other_file);
	}
	s.stop = 1;
	ASSERT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, errors);
	EXPECT_EQ(0, broken);
	EXPECT_LT(0, s.writes);
	ksft_print_msg("rounds %d, words overwritten %lu\n", rounds, s.writes);
}

/* The same while a sleeper waits: it returns in the end. */
TEST_F(forge, scribbler_and_sleeper)
{
	struct scribbler s = { .q = &self->q, .seed = 3 };
	struct ukevent ev[4];
	pthread_t t;
	int i, n;

	ASSERT_EQ(0, pthread_create(&t, NULL, scribble, &s));
	for (i = 0; i < (int)scaled(300); i++) {
		eventfd_fire(self->file);
		n = get(self->q.fd, ev, 1, 4, NSEC_PER_MSEC);
		ASSERT_LE(0, n);
		n = mapped_wait(&self->q, 0, 1, ev, 4, NSEC_PER_MSEC);
		ASSERT_LE(0, n);
		eventfd_drain(self->file);
	}
	s.stop = 1;
	ASSERT_EQ(0, join(t, NULL));
	EXPECT_TRUE(works(&self->other, self->other_file));
}

/* A queue that was scribbled over is closed like any other. */
TEST_F(forge, close_scribbled)
{
	struct queue q;
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, queue_make(&q, 2, 4));
		ASSERT_EQ(0, add_file(q.fd, self->file, EPOLLIN, 0, 1, NULL));
		eventfd_fire(self->file);
		memset(q.claims, 0xff - i, 2 * q.setup.claim_bytes);
		eventfd_fire(self->file);
		queue_free(&q);
	}
}

/* ------------------------------------------------------------------------ */
/* Limits */

FIXTURE(limit) {
	long long user;
	long long file;
	long long floor;
	long long expirations;
};

FIXTURE_SETUP(limit)
{
	self->user = parameter_get("max_user_sources");
	self->file = parameter_get("max_file_sources");
	self->floor = parameter_get("timer_floor_ns");
	self->expirations = parameter_get("max_user_expirations");
	ASSERT_LE(0, self->user);
	ASSERT_LE(0, self->expirations);
	ASSERT_LE(1, self->file);
	ASSERT_LE(1, self->floor);
}

FIXTURE_TEARDOWN(limit)
{
	parameter_set("max_user_sources", self->user);
	parameter_set("max_file_sources", self->file);
	parameter_set("timer_floor_ns", self->floor);
	parameter_set("max_user_expirations", self->expirations);
}

/* Adds until it fails; how many worked.  The error goes to @error. */
static int add_until(int fd, int file, int most, int *error)
{
	int i;

	for (i = 0; i < most; i++) {
		*error = add_file(fd, file, EPOLLIN, 0, i, NULL);
		if (*error)
			break;
	}
	return i;
}

/* Sources of one file: ENOSPC at the limit, and other files go on. */
TEST_F(limit, file)
{
	int fd = queue_open(1, 8), file = eventfd_make(), error = 0;
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, parameter_set("max_file_sources", 10));
	EXPECT_EQ(10, add_until(fd, file, 20, &error));
	EXPECT_EQ(-ENOSPC, error);
	EXPECT_EQ(0, add_file(fd, eventfd_make(), EPOLLIN, 0, 1, &id));
	EXPECT_EQ(0, add_user(fd, 0, 1, NULL));
	eventfd_fire(file);
	EXPECT_EQ(1, get_one(fd, &ev));
	close(fd);
}

/* The limit of a file counts all queues; removal makes room. */
TEST_F(limit, file_of_queues)
{
	int a = queue_open(1, 8), b = queue_open(1, 8), file = eventfd_make();
	uint64_t id;
	int error = 0;

	ASSERT_EQ(0, parameter_set("max_file_sources", 5));
	ASSERT_EQ(0, add_file(a, file, EPOLLIN, 0, 1, &id));
	EXPECT_EQ(4, add_until(b, file, 10, &error));
	EXPECT_EQ(-ENOSPC, error);
	EXPECT_EQ(-ENOSPC, add_file(a, file, EPOLLIN, 0, 1, NULL));
	EXPECT_EQ(0, remove_id(a, id));
	EXPECT_TRUE(EVENTUALLY(!add_file(a, file, EPOLLIN, 0, 1, NULL)));
	close(a);
	close(b);
}

/* Of the sources that watch a queue so many are followed to find a loop. */
TEST_F(limit, followed)
{
	int a = queue_open(1, 8), b = queue_open(1, 8), error = 0;

	ASSERT_EQ(0, parameter_set("max_file_sources", 5000));
	ASSERT_EQ(4096, add_until(b, a, 4096, &error));
	EXPECT_EQ(0, add_file(a, queue_open(1, 1), EPOLLIN, 0, 1, NULL));
	EXPECT_EQ(-ELOOP, add_file(a, b, EPOLLIN, 0, 1, NULL));
	ASSERT_EQ(1, add_until(b, a, 1, &error));
	EXPECT_EQ(-ELOOP, add_file(a, queue_open(1, 1), EPOLLIN, 0, 1, NULL));
	/* It is about queues alone. */
	EXPECT_EQ(0, add_file(a, eventfd_make(), EPOLLIN, 0, 1, NULL));
	close(a);
	close(b);
}

/* A million sources on one file stop at the limit as it is. */
TEST_F(limit, file_default)
{
	int fd = queue_open(1, 8), file = eventfd_make(), error = 0, n;

	n = add_until(fd, file, 1000000, &error);
	EXPECT_EQ(-ENOSPC, error);
	EXPECT_EQ(self->file, n);
	eventfd_fire(file);
	EXPECT_LT(0, get_now(fd));
	close(fd);
}

/* As another user: its sources are counted apart from root's. */
static int limited_user(unsigned int limit)
{
	int i, r = 0, fd;
	uint64_t id = 0;

	if (chmod(KEVENT_DEVICE, 0666) || setresuid(54321, 54321, 54321))
		return 1;
	fd = queue_open(1, 8);
	if (fd < 0)
		return 2;
	for (i = 0; i < limit; i++)
		if (i % 3 == 0 ? add_user(fd, 0, i, &id) : i % 3 == 1 ?
		    add_timer(fd, CLOCK_MONOTONIC, 0, 1ULL << 60, 0, i, &id) :
		    add_file(fd, eventfd_make(), EPOLLIN, 0, i, &id))
			return 3;
	r = add_user(fd, 0, i, NULL);
	if (r != -ENOSPC)
		return 4;
	if (add_file(fd, eventfd_make(), EPOLLIN, 0, i, NULL) != -ENOSPC)
		return 5;
	if (remove_id(fd, id) < 0)
		return 6;
	return EVENTUALLY(!add_user(fd, 0, i, NULL)) ? 0 : 7;
}

/* Sources of a user: ENOSPC at the limit, for every kind; others go on. */
TEST_F(limit, user)
{
	int fd = queue_open(1, 8);
	pid_t pid;

	ASSERT_EQ(0, parameter_set("max_user_sources", 30));
	pid = fork();
	if (!pid) {
		close(fd);
		_exit(limited_user(30));
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, add_user(fd, 0, 1, NULL));
	close(fd);
}

/* What a user had is given back when its process is gone. */
TEST_F(limit, user_given_back)
{
	pid_t pid;
	int i;

	ASSERT_EQ(0, parameter_set("max_user_sources", 30));
	for (i = 0; i < 3; i++) {
		pid = fork();
		if (!pid)
			_exit(limited_user(30));
		EXPECT_EQ(0, reap(pid));
	}
}

/* A million user events against the limit: refused, nothing breaks. */
TEST_F(limit, million)
{
	unsigned int batch = 10000, i, k, added = 0, refused = 0, other = 0;
	struct kevent_change *c = calloc(batch, sizeof(*c));
	int fd = queue_open(1, 8);

	ASSERT_EQ(0, parameter_set("max_user_sources", scaled(50000)));
	for (i = 0; i < 1000000 / batch && refused < 3 * batch; i++) {
		memset(c, 0, batch * sizeof(*c));
		for (k = 0; k < batch; k++) {
			c[k].op = KEVENT_OP_ADD;
			c[k].kind = KEVENT_KIND_USER;
		}
		ASSERT_EQ(batch, changes(fd, c, batch));
		for (k = 0; k < batch; k++) {
			added += !c[k].result;
			refused += c[k].result == -ENOSPC;
			other += c[k].result && c[k].result != -ENOSPC;
		}
	}
	EXPECT_EQ(0, other);
	EXPECT_EQ(scaled(50000), added);
	EXPECT_LT(0, refused);
	EXPECT_EQ(0, submit_nop(fd, 1, 1));
	EXPECT_EQ(1, get_now(fd));
	close(fd);
	free(c);
}

/* Requests that nobody collects are EAGAIN in the end. */
TEST_F(limit, requests)
{
	int fd = queue_open(1, 4), r = 0;
	unsigned int made = 0;

	while (made < 10000000 && !r) {
		r = submit_nop(fd, 1, made);
		made += !r;
	}
	EXPECT_EQ(-EAGAIN, r);
	EXPECT_LT(0, get_now(fd));
	EXPECT_EQ(0, submit_nop(fd, 1, 1));
	close(fd);
}

/* Counts the expirations of a periodic timer in a tenth of a second. */
static int64_t expirations(int fd, uint64_t period)
{
	struct ukevent ev;
	int64_t start = now_ns(), sum = 0;
	uint64_t id;

	if (add_timer(fd, CLOCK_MONOTONIC, 0, 1, period, 1, &id))
		return -1;
	while (now_ns() - start < 100 * NSEC_PER_MSEC)
		if (get(fd, &ev, 1, 1, NSEC_PER_MSEC) == 1)
			sum += ev.result;
	start = now_ns() - start;
	remove_id(fd, id);
	get_now(fd);
	/* as if it had been a tenth of a second exactly */
	return sum * 100 * NSEC_PER_MSEC / start;
}

/* A period of 1 ns becomes the floor, and the machine goes on. */
TEST_F(limit, timer_floor)
{
	int64_t most = 100 * NSEC_PER_MSEC / self->floor, n;
	int fd = queue_open(1, 8);

	n = expirations(fd, 1);
	EXPECT_LT(0, n);
	EXPECT_GE(most + most / 10 + 2, n);
	ksft_print_msg("%lld expirations, at most %lld\n", (long long)n,
		       (long long)most);
	close(fd);
}

/* The floor is what the parameter says. */
TEST_F(limit, timer_floor_set)
{
	int fd = queue_open(1, 8);
	int64_t n;

	ASSERT_EQ(0, parameter_set("timer_floor_ns", 10 * NSEC_PER_MSEC));
	n = expirations(fd, 1);
	EXPECT_LT(0, n);
	EXPECT_GE(13, n);
	close(fd);
}

/* A hundred such timers whose events nobody collects leave the machine be. */
TEST_F(limit, timer_storm)
{
	int fd = queue_open(1, 4), i;
	int64_t start;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, add_timer(fd, CLOCK_MONOTONIC, 0, 1, 1, i, NULL));
	}
	start = now_ns();
	nap_ns(50 * NSEC_PER_MSEC);
	EXPECT_GE(10 * NSEC_PER_SEC, now_ns() - start);
	EXPECT_LT(0, get_now(fd));
	close(fd);
}

/* A level timer of 1 ns that nobody acknowledges as well. */
TEST_F(limit, level_timer_storm)
{
	int fd = queue_open(1, 4), i;
	struct ukevent ev;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, add_timer(fd, CLOCK_MONOTONIC, KEVENT_LEVEL, 1, 1,
				       i, NULL));
	}
	nap_ns(50 * NSEC_PER_MSEC);
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(1, get_one(fd, &ev));
	}
	close(fd);
}

/*
 * Periodic timers of a user expire so often together and not more, on however many
 * rings; nothing of the count is lost, and who has no such timers is not late.
 */
TEST_F(limit, expirations)
{
	const int64_t rate = 200, period = NSEC_PER_MSEC, last = NSEC_PER_SEC;
	int fds[8], i, n, events = 0, single;
	uint64_t sum = 0, want = 0;
	int64_t start, elapsed;
	struct ukevent ev[64];
	pid_t pid;

	ASSERT_EQ(0, parameter_set("max_user_expirations", rate));
	start = now_ns();
	for (i = 0; i < 64; i++) {
		if (i < 8)
			fds[i] = queue_open(1, 64);
		ASSERT_EQ(0, add_timer(fds[i % 8], CLOCK_MONOTONIC, KEVENT_ABSTIME,
				       start + period, period, i, NULL));
	}
	while (now_ns() - start < last)
		for (i = 0; i < 8; i++) {
			n = get(fds[i], ev, 0, 64, 0);
			events += n;
			while (n-- > 0)
				sum += ev[n].result;
		}
	elapsed = now_ns() - start;
	/* What was saved up, and one batch on each ring that was over it. */
	EXPECT_GE((elapsed + NSEC_PER_SEC / 5) * rate / NSEC_PER_SEC + 64, events);
	EXPECT_LT(64, events);
	ksft_print_msg("%d events in %lld ms\n", events, (long long)elapsed / 1000000);

	pid = fork();
	if (!pid) {
		if (chmod(KEVENT_DEVICE, 0666) || setresuid(54323, 54323, 54323))
			_exit(1);
		single = queue_open(1, 8);
		start = now_ns();
		if (add_timer(single, CLOCK_MONOTONIC, 0, 1, period, 1, NULL) ||
		    get(single, ev, 1, 1, LONG_NS) != 1)
			_exit(2);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	ASSERT_EQ(0, parameter_set("max_user_expirations", 0));
	want = 64 * ((now_ns() - start) / period);
	start = now_ns();
	while (sum < want && now_ns() - start < LONG_NS)
		for (i = 0; i < 8; i++) {
			n = get(fds[i], ev, 0, 64, 0);
			while (n-- > 0)
				sum += ev[n].result;
		}
	EXPECT_LE(want, sum);
	for (i = 0; i < 8; i++)
		close(fds[i]);
}

/* ------------------------------------------------------------------------ */
/* Death */

static void live_dangerously(int fd, int file)
{
	struct ukevent ev[8];
	struct queue q;
	uint64_t id;

	if (queue_map(&q, fd))
		_exit(1);
	for (;;) {
		add_file(fd, file, EPOLLIN, KEVENT_LEVEL, 1, &id);
		eventfd_fire(file);
		get(fd, ev, 1, 8, 100000);
		ring_collect(&q, 0, ev, 8);
		submit_nop(fd, 1, 1);
		remove_id(fd, id);
		eventfd_drain(file);
	}
}

/* A consumer is killed at any moment: those who share the queue go on. */
TEST(killed_anywhere)
{
	int file = eventfd_make(), i;
	unsigned int seed = 5;
	struct ukevent ev[64];
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 1, 16));
	for (i = 0; i < (int)scaled(60); i++) {
		pid_t pid = fork();

		if (!pid)
			live_dangerously(q.fd, file);
		nap_ns(rand_r(&seed) % 8000000);
		kill(pid, SIGKILL);
		ASSERT_EQ(128 + SIGKILL, reap(pid));
		/* Sources that it left behind stay ready as long as this is. */
		eventfd_drain(file);
		while (get_now(q.fd) > 0)
			;
		ASSERT_EQ(0, submit_nop(q.fd, 99, 99));
		ASSERT_LT(0, get(q.fd, ev, 1, 64, LONG_NS));
	}
	EXPECT_GE((int)scaled(60), sources_of(&q, 0));
	queue_free(&q);
	close(file);
}

static void *remap(void *arg)
{
	struct scribbler *s = arg;
	struct queue q;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		if (!queue_map(&q, s->q->fd))
			queue_unmap(&q);
		s->writes++;
	}
	return NULL;
}

/* A thread maps and unmaps the queue while another uses it. */
TEST_F(forge, remap)
{
	struct scribbler s = { .q = &self->q };
	unsigned int seed = 2;
	int i, errors = 0;
	pthread_t t;

	ASSERT_EQ(0, pthread_create(&t, NULL, remap, &s));
	for (i = 0; i < (int)scaled(300); i++)
		errors += use(&self->q, self->file, &seed);
	s.stop = 1;
	ASSERT_EQ(0, join(t, NULL));
	EXPECT_EQ(0, errors);
	EXPECT_LT(0, s.writes);
}

/* Random bytes as arguments are refused or harmless. */
TEST_F(forge, fuzz)
{
	static const unsigned long requests[] = {
		KEVENT_IOC_SETUP, KEVENT_IOC_INFO, KEVENT_IOC_CHANGE,
	};
	struct kevent_change c[4];
	unsigned int seed = 11;
	unsigned char arg[128];
	int i, k;

	for (i = 0; i < (int)scaled(20000); i++) {
		for (k = 0; k < sizeof(arg); k++)
			arg[k] = rand_r(&seed) >> 7;
		if (rand_r(&seed) & 1)
			*(uint32_t *)arg = sizeof(struct kevent_setup);
		ioctl(self->q.fd, requests[i % 3], arg);
		for (k = 0; k < sizeof(c); k++)
			((char *)c)[k] = rand_r(&seed) % 5 ? 0 :
					 rand_r(&seed) % 9;
		for (k = 0; k < 4; k++) {
			/* Never close a descriptor of the test. */
			c[k].flags &= ~KEVENT_CLOSE_FD;
			c[k].ring %= 3;
		}
		ASSERT_EQ(4, changes(self->q.fd, c, 4));
	}
	EXPECT_TRUE(works(&self->other, self->other_file));
}

/* A call with a timeout ends by it, whatever is written over the head. */
TEST_F(forge, scribbler_and_timeout)
{
	struct scribbler s = { .q = &self->q, .seed = 13 };
	struct ukevent ev[8];
	int64_t start;
	pthread_t t;
	int i;

	ASSERT_EQ(0, pthread_create(&t, NULL, scribble, &s));
	for (i = 0; i < (int)scaled(50); i++) {
		start = now_ns();
		ASSERT_LE(0, get(self->q.fd, ev, 8, 8, 2 * NSEC_PER_MSEC));
		ASSERT_LE(0, mapped_wait(&self->q, 0, 8, ev, 8,
					 2 * NSEC_PER_MSEC));
		ASSERT_GT(10 * NSEC_PER_SEC, now_ns() - start);
	}
	s.stop = 1;
	ASSERT_EQ(0, join(t, NULL));
}

TEST_HARNESS_MAIN
