// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once on one queue, and then the books: what was fired at a source
 * and what was delivered of it are the same number.
 *
 * Firers write to files, trigger user events and submit requests; a changer adds,
 * modifies, disables and removes; consumers collect in every way that there is; a
 * closer closes queues under those who sleep in them.  Beside that, by variant:
 * processes that use the same queue are killed, memory is short, CPUs and memory go
 * away and come back.  The books of a kind:
 *
 *	file	what was written was read, by those alone whom an event told
 *	value	the sum of the values that were triggered was delivered
 *	latest	the last value that was triggered was delivered
 *	level	each value was seen before the next one was triggered
 *	once	each arming of a timer expired once
 *	period	no expiration before its time, and all up to now
 *	request	each completed once
 *
 * A consumer never looks at what no event told it about: an event that is lost
 * leaves its source's books open, and the test waits for it in vain.
 *
 * KEVENT_STRESS_SECONDS (18) is for all variants together; hours will do as well: the
 * books are closed once a minute.  KEVENT_STRESS_SEED repeats the choices of a run,
 * though not its timing.
 */
#include <dirent.h>
#include <mqueue.h>

#include "kevent_test.h"

/* A run lasts as long as it is told to; "run" has a limit of its own. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT (7 * 24 * 3600)

#define ENTRIES 64 /* of a ring: fewer than there are sources, so it overflows */
#define SLOTS 96
#define CHILD_SLOTS 65536
#define CHILDREN 3
#define CONSUMERS 4
#define FIRERS 2
#define PERIOD (2 * NSEC_PER_MSEC)
#define ROUND_NS (60 * NSEC_PER_SEC)
#define DRAIN_NS (90 * NSEC_PER_SEC)
#define MEMCG "/sys/fs/cgroup/kevent-stress"

enum book {
	FILE_BOOK,
	VALUE_BOOK,
	LATEST_BOOK,
	LEVEL_BOOK,
	ONCE_BOOK,
	PERIOD_BOOK,
	NESTED,	    /* a queue inside: its own sources have the books */
	BOOKS,
};

enum file { EVENTFD, PIPE, SOCKET, MQUEUE };

struct source {
	enum book book;
	enum file file;
	int fd, in;		/* watched; written to */
	int queue;		/* that has it */
	unsigned int ring, flags;
	uint64_t id;
	pthread_mutex_t changing;
	uint64_t fired, delivered;
	uint64_t taken;		/* of a level value: by the one who acknowledges it */
	int64_t first;		/* expiry of a periodic timer */
	unsigned int early;	/* expirations before their time */
	int victim;		/* of a consumer that errs on purpose */
	unsigned int handled;
};

/* One of the requests; who submits owns a free slot. */
struct slot {
	int busy;
	uint64_t id;
	char buffer[64];
};

/* What a killed child may not have lived to say. */
struct child_slot {
	int intended, submitted, completed;
};

struct shared {
	struct child_slot slot[CHILD_SLOTS];
	unsigned int next;
	unsigned int refused, broken;
};

#define SOURCES 96

static struct world {
	struct queue q;
	unsigned int rings;
	struct source source[SOURCES];
	unsigned int nr;
	int inner[2];		/* queues: the first watches the second */
	struct slot slot[SLOTS];
	int request_pipe[2], request_file;
	uint64_t piped_in, piped_out;
	struct shared *shared;
	uint64_t seed;
	int err;		/* +1: victims' events twice, -1: not at all */
	int stop, stop_consumers;
	int memory_error;

	/* how much of everything there was */
	uint64_t fires, events, changed, submitted, cancelled, collected[CONSUMERS];
	uint64_t closes, forks, kills, squeezed, cpu_cycles, memory_cycles;
	unsigned int stray, twice, errors;
	char first_error[128];
} w;

#define ADD(counter, n) __atomic_fetch_add(&(counter), n, __ATOMIC_RELAXED)
#define GET(counter) __atomic_load_n(&(counter), __ATOMIC_ACQUIRE)
#define SET(counter, n) __atomic_store_n(&(counter), n, __ATOMIC_RELEASE)

static void complain(const char *what, long result)
{
	if (!ADD(w.errors, 1))
		snprintf(w.first_error, sizeof(w.first_error), "%s: %ld", what, result);
}

static unsigned int pick(uint64_t *state, unsigned int n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 11) % n;
}

static uint64_t seed_of(unsigned int who)
{
	return (w.seed + who) * 0x9e3779b97f4a7c15ULL | 1;
}

/* ------------------------------------------------------------------------ */
/* Sources */

static int add_source(struct source *s)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD,
		.flags = s->flags,
		.ring = s->ring,
		.cookie = s - w.source,
	};
	uint64_t id;
	int r;

	switch (s->book) {
	case FILE_BOOK:
	case NESTED:
		c.kind = KEVENT_KIND_FILE;
		c.fd = s->fd;
		c.events = EPOLLIN;
		break;
	case ONCE_BOOK:
	case PERIOD_BOOK:
		c.kind = KEVENT_KIND_TIMER;
		c.fd = CLOCK_MONOTONIC;
		c.value = s->book == PERIOD_BOOK ? s->first : NSEC_PER_MSEC;
		c.period = s->book == PERIOD_BOOK ? PERIOD : 0;
		break;
	default:
		c.kind = KEVENT_KIND_USER;
	}
	r = add(s->queue, &c, &id);
	if (!r)
		SET(s->id, id);
	return r;
}

static int open_file(struct source *s)
{
	struct mq_attr attr = { .mq_maxmsg = 8, .mq_msgsize = 8 };
	int fds[2];

	switch (s->file) {
	case EVENTFD:
		s->in = eventfd_make();
		s->fd = s->in;
		return s->fd;
	case PIPE:
		if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
			return -1;
		break;
	case SOCKET:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			       fds))
			return -1;
		break;
	case MQUEUE:
		s->fd = mq_open("/kevent-stress", O_RDWR | O_CREAT | O_NONBLOCK, 0600,
				&attr);
		mq_unlink("/kevent-stress");
		s->in = s->fd;
		return s->fd;
	}
	s->fd = fds[0];
	s->in = fds[1];
	return 0;
}

static struct source *new_source(enum book book, int queue, unsigned int flags)
{
	struct source *s = &w.source[w.nr++];

	s->book = book;
	s->queue = queue;
	s->flags = flags;
	s->first = now_ns() + NSEC_PER_MSEC;
	pthread_mutex_init(&s->changing, NULL);
	return s;
}

static const unsigned int file_modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL };

static int make_sources(void)
{
	struct source *s;
	unsigned int i;

	for (i = 0; i < 3 * 16; i++) {
		s = new_source(FILE_BOOK, w.q.fd, file_modes[i % 3]);
		s->file = i / 3 % 4;
		/* Nested: through one queue, and through one inside another. */
		if (i >= 3 * 12)
			s->queue = w.inner[i & 1];
		if (open_file(s) < 0)
			return -1;
	}
	for (i = 0; i < 8; i++)
		new_source(VALUE_BOOK, i < 6 ? w.q.fd : w.inner[i & 1], 0);
	for (i = 0; i < 2; i++) {
		new_source(LATEST_BOOK, w.q.fd, KEVENT_LATEST);
		new_source(LEVEL_BOOK, w.q.fd, KEVENT_LEVEL);
		new_source(PERIOD_BOOK, w.q.fd, KEVENT_ABSTIME);
	}
	for (i = 0; i < 8; i++)
		new_source(ONCE_BOOK, w.q.fd, i & 1 ? KEVENT_ONESHOT : 0);
	for (i = 0; i < 2; i++) {
		s = new_source(NESTED, i ? w.inner[0] : w.q.fd, i ? 0 : KEVENT_LEVEL);
		s->fd = w.inner[i];
	}
	for (i = 0; i < w.nr; i++) {
		s = &w.source[i];
		s->ring = s->queue == w.q.fd ? i % w.rings : 0;
		s->fired = s->book == ONCE_BOOK;
		if (add_source(s))
			return -1;
	}
	return 0;
}

static int world_make(void)
{
	const char *seed = getenv("KEVENT_STRESS_SEED");
	unsigned int i;

	memset(&w, 0, sizeof(w));
	w.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)now_ns();
	if (queue_make(&w.q, 0, ENTRIES))
		return -1;
	w.rings = w.q.setup.nr_rings;
	for (i = 0; i < 2; i++) {
		w.inner[i] = queue_open(1, 16);
		if (w.inner[i] < 0)
			return -1;
	}
	w.shared = mmap(NULL, sizeof(*w.shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	w.request_file = memfd_create("kevent-stress", MFD_CLOEXEC);
	if (w.shared == MAP_FAILED || w.request_file < 0 ||
	    ftruncate(w.request_file, 4096) || pipe2(w.request_pipe, O_CLOEXEC))
		return -1;
	fcntl(w.request_pipe[1], F_SETFL, O_NONBLOCK);
	return make_sources();
}

static void world_free(void)
{
	unsigned int i;

	for (i = 0; i < w.nr; i++)
		if (w.source[i].book == FILE_BOOK) {
			close(w.source[i].fd);
			if (w.source[i].in != w.source[i].fd)
				close(w.source[i].in);
		}
	queue_free(&w.q);
	for (i = 0; i < 2; i++) {
		close(w.inner[i]);
		close(w.request_pipe[i]);
	}
	close(w.request_file);
	munmap(w.shared, sizeof(*w.shared));
}

/* ------------------------------------------------------------------------ */
/* Firing */

static void fire_file(struct source *s, uint64_t *random)
{
	char bytes[16] = { };
	int n;

	switch (s->file) {
	case EVENTFD:
		if (eventfd_fire(s->in) == 0)
			ADD(s->fired, 1);
		return;
	case MQUEUE:
		if (mq_send(s->in, bytes, 8, 0) == 0)
			ADD(s->fired, 1);
		return;
	default:
		n = write(s->in, bytes, 1 + pick(random, sizeof(bytes)));
		if (n > 0)
			ADD(s->fired, n);
	}
}

static void fire_value(struct source *s, uint64_t value)
{
	int r;

	/* The books first: who is told may be faster than we. */
	if (s->book == VALUE_BOOK)
		ADD(s->fired, value);
	else
		SET(s->fired, value);
	r = trigger(s->queue, GET(s->id), value);
	if (r)
		complain("trigger", r);
}

static void fire(struct source *s, uint64_t *random)
{
	switch (s->book) {
	case FILE_BOOK:
		fire_file(s, random);
		break;
	case VALUE_BOOK:
	case LATEST_BOOK:
	case LEVEL_BOOK:
		/* Others than files lose with a source what is not delivered. */
		if (pthread_mutex_trylock(&s->changing))
			return;
		if (s->book == VALUE_BOOK)
			fire_value(s, 1 + pick(random, 1000));
		else if (s->book == LATEST_BOOK)
			fire_value(s, s->fired + 1);
		else if (GET(s->delivered) == s->fired)
			fire_value(s, s->fired + 1);
		pthread_mutex_unlock(&s->changing);
		break;
	default:
		return;
	}
	ADD(w.fires, 1);
}

static void *firer(void *arg)
{
	uint64_t random = seed_of((uintptr_t)arg);

	while (!GET(w.stop)) {
		fire(&w.source[pick(&random, w.nr)], &random);
		if (!pick(&random, 64))
			nap_ns(pick(&random, NSEC_PER_MSEC));
	}
	return NULL;
}

/* ------------------------------------------------------------------------ */
/* Requests */

#define REQUEST_COOKIE (1ULL << 32)
#define CHILD_COOKIE (2ULL << 32)

static struct kevent_change request_of(unsigned int i, uint64_t *random)
{
	struct slot *slot = &w.slot[i];
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT,
		.kind = KEVENT_KIND_NOP,
		.cookie = REQUEST_COOKIE | i,
		.ring = pick(random, w.rings),
	};

	switch (pick(random, 5)) {
	case 0:
		c.value = i;
		break;
	case 1:
		c.kind = KEVENT_KIND_FSYNC;
		c.fd = w.request_file;
		break;
	case 2:
		c.kind = KEVENT_KIND_WRITE;
		c.fd = w.request_file;
		c.addr = (uintptr_t)slot->buffer;
		c.len = sizeof(slot->buffer);
		break;
	default: /* waits until somebody writes, or it is cancelled */
		c.kind = KEVENT_KIND_READ;
		c.fd = w.request_pipe[0];
		c.addr = (uintptr_t)slot->buffer;
		c.len = 1 + pick(random, sizeof(slot->buffer));
	}
	return c;
}

/* One, or a chain of them. */
static void submit(uint64_t *random)
{
	struct kevent_change c[4];
	unsigned int n = 1 + pick(random, 4), i, k = 0, slot[4];
	int r;

	for (i = pick(random, SLOTS); k < n && i < SLOTS; i++) {
		if (GET(w.slot[i].busy))
			continue;
		c[k] = request_of(i, random);
		slot[k++] = i;
	}
	for (i = 0; i < k; i++) {
		if (i + 1 < k && pick(random, 2))
			c[i].flags = KEVENT_LINK;
		SET(w.slot[slot[i]].busy, 1);
	}
	if (!k)
		return;
	r = changes(w.q.fd, c, k);
	if (r != (int)k)
		complain("submit", r);
	for (i = 0; i < k; i++) {
		if (c[i].result == 0)
			SET(w.slot[slot[i]].id, c[i].id);
		else if (c[i].result == -EAGAIN || c[i].result == -ENOMEM ||
			 c[i].result == -ECANCELED || c[i].result == -ENOSPC)
			SET(w.slot[slot[i]].busy, 0);
		else
			complain("request", c[i].result);
	}
	ADD(w.submitted, k);
}

static void *submitter(void *arg)
{
	uint64_t random = seed_of((uintptr_t)arg);
	char bytes[48] = { };
	unsigned int i;
	int r;

	while (!GET(w.stop)) {
		submit(&random);
		nap_ns(pick(&random, NSEC_PER_MSEC / 2));
		r = write(w.request_pipe[1], bytes, 1 + pick(&random, sizeof(bytes)));
		if (r > 0)
			ADD(w.piped_in, r);
		if (pick(&random, 2))
			continue;
		for (i = pick(&random, SLOTS); i < SLOTS - 1 && !GET(w.slot[i].busy);)
			i++;
		r = plain_op(w.q.fd, KEVENT_OP_CANCEL, GET(w.slot[i].id));
		if (!r)
			ADD(w.cancelled, 1);
		else if (r != -ENOENT && r != -EALREADY && r != -EINVAL)
			complain("cancel", r);
	}
	return NULL;
}

/* Their books are closed by writing what the waiting ones want. */
static int requests_done(void)
{
	char bytes[64] = { };
	unsigned int i, open = 0;
	int r;

	for (i = 0; i < SLOTS; i++)
		open += GET(w.slot[i].busy);
	if (open) {
		r = write(w.request_pipe[1], bytes, sizeof(bytes));
		if (r > 0)
			ADD(w.piped_in, r);
	}
	return !open;
}

/* ------------------------------------------------------------------------ */
/* Collecting */

static void handle(const struct ukevent *ev);

static uint64_t drain_file(struct source *s)
{
	uint64_t total = 0;
	char bytes[512];
	int64_t n;

	for (;;) {
		if (s->file == EVENTFD)
			n = eventfd_drain(s->fd);
		else if (s->file == MQUEUE)
			n = mq_receive(s->fd, bytes, sizeof(bytes), NULL) < 0 ? -1 : 1;
		else
			n = read(s->fd, bytes, sizeof(bytes));
		if (n <= 0)
			return total;
		total += n;
	}
}

static void drain_queue(int queue)
{
	struct ukevent ev[8];
	int i, n;

	while ((n = get(queue, ev, 0, 8, 0)) > 0)
		for (i = 0; i < n; i++)
			handle(&ev[i]);
	if (n < 0)
		complain("inner queue", n);
}

static void raise_to(uint64_t *word, uint64_t value)
{
	uint64_t old = GET(*word);

	while (old < value &&
	       !__atomic_compare_exchange_n(word, &old, value, 0, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE))
		;
}

static void handle_level_value(struct source *s, const struct ukevent *ev)
{
	uint64_t before = ev->result - 1;
	int r;

	/* Others may see the same; the value that comes after it is not ours to drop. */
	if (!__atomic_compare_exchange_n(&s->taken, &before, ev->result, 0,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	r = ack_id(s->queue, ev->id);
	if (r && r != -ENOENT)
		complain("ack", r);
	raise_to(&s->delivered, ev->result);
}

static void handle_once(struct source *s, const struct ukevent *ev)
{
	int r;

	ADD(s->delivered, ev->result);
	if (GET(w.stop))
		return;
	ADD(s->fired, 1);
	if (s->flags & KEVENT_ONESHOT)
		r = enable_id(s->queue, ev->id);
	else
		r = modify_timer(s->queue, ev->id, 0, NSEC_PER_MSEC / 4, 0, ev->cookie);
	if (r)
		complain("arm", r);
}

static void handle_source(struct source *s, const struct ukevent *ev)
{
	uint64_t most;
	int r;

	switch (s->book) {
	case FILE_BOOK:
		ADD(s->delivered, drain_file(s));
		if (!(ev->flags & KEVENT_EV_DISABLED))
			break;
		/* If it is gone it has been added anew, which tells what is ready. */
		r = enable_id(s->queue, ev->id);
		if (r && r != -ENOENT)
			complain("enable", r);
		break;
	case VALUE_BOOK:
		ADD(s->delivered, ev->result);
		break;
	case LATEST_BOOK:
		raise_to(&s->delivered, ev->result);
		break;
	case LEVEL_BOOK:
		handle_level_value(s, ev);
		break;
	case ONCE_BOOK:
		handle_once(s, ev);
		break;
	case PERIOD_BOOK:
		most = ADD(s->delivered, ev->result) + ev->result;
		if (now_ns() < s->first ||
		    most > (uint64_t)(now_ns() - s->first) / PERIOD + 1)
			ADD(s->early, 1);
		break;
	default:
		drain_queue(s->fd);
	}
}

static void handle_request(const struct ukevent *ev)
{
	struct slot *slot = &w.slot[(uint32_t)ev->cookie];

	if (ev->kind == KEVENT_KIND_READ && ev->result > 0)
		ADD(w.piped_out, ev->result);
	if (ev->result < 0 && ev->result != -ECANCELED && ev->result != -EAGAIN)
		complain("result of a request", ev->result);
	if (!__atomic_exchange_n(&slot->busy, 0, __ATOMIC_ACQ_REL))
		ADD(w.twice, 1);
}

static void handle_once_more(const struct ukevent *ev)
{
	uint64_t number = (uint32_t)ev->cookie;

	if (ev->cookie & CHILD_COOKIE && number < CHILD_SLOTS)
		ADD(w.shared->slot[number].completed, 1);
	else if (ev->cookie & REQUEST_COOKIE && number < SLOTS)
		handle_request(ev);
	else if (ev->cookie < w.nr && !(ev->flags & KEVENT_EV_CLOSED))
		handle_source(&w.source[number], ev);
	else
		ADD(w.stray, 1);
}

static void handle(const struct ukevent *ev)
{
	struct source *s = ev->cookie < w.nr ? &w.source[ev->cookie] : NULL;

	ADD(w.events, 1);
	if (w.err && s && s->victim && ADD(s->handled, 1) > 5) {
		if (w.err < 0)
			return;
		handle_once_more(ev);
	}
	handle_once_more(ev);
}

static int collect_mapped(struct ukevent *ev)
{
	unsigned int i;
	int n;

	for (i = 0; i < w.rings; i++) {
		n = ring_collect(&w.q, i, ev, 16);
		if (n)
			return n;
	}
	return mapped_wait(&w.q, KEVENT_RING_ANY, 1, ev, 16, 5 * NSEC_PER_MSEC);
}

static int collect_polled(struct ukevent *ev)
{
	struct pollfd p = { .fd = w.q.fd, .events = POLLIN };

	poll(&p, 1, 5);
	return get(w.q.fd, ev, 0, 16, 0);
}

static int collect_local(struct ukevent *ev)
{
	struct kevent_get g = get_arg(ev, 2, 16, 5 * NSEC_PER_MSEC);

	g.ring = KEVENT_RING_LOCAL;
	return get_run(w.q.fd, &g);
}

static void *consumer(void *arg)
{
	unsigned int who = (uintptr_t)arg;
	struct ukevent ev[16];
	int n, i;

	while (!GET(w.stop_consumers)) {
		if (who == 0)
			n = collect_mapped(ev);
		else if (who == 1)
			n = collect_polled(ev);
		else if (who == 2)
			n = collect_local(ev);
		else
			n = get(w.q.fd, ev, 1, 16, 5 * NSEC_PER_MSEC);
		if (n < 0 && n != -EINTR)
			complain("collection", n);
		for (i = 0; i < n; i++)
			handle(&ev[i]);
		if (n > 0)
			ADD(w.collected[who], n);
	}
	return NULL;
}

/* ------------------------------------------------------------------------ */
/* Changing */

static void change_file(struct source *s, uint64_t *random)
{
	unsigned int flags = file_modes[pick(random, 3)];
	int r, copy;

	switch (pick(random, 4)) {
	case 0:
		r = disable_id(s->queue, s->id);
		r = r ?: enable_id(s->queue, s->id);
		break;
	case 1:
		r = modify_file(s->queue, s->id, EPOLLIN, flags, s - w.source);
		break;
	case 2:
		r = remove_id(s->queue, s->id);
		s->flags = flags;
		r = r < 0 ? r : add_source(s);
		break;
	default:
		copy = dup(s->fd);
		r = remove_close(s->queue, s->id, copy);
		s->ring = s->queue == w.q.fd ? pick(random, w.rings) : 0;
		r = r < 0 ? r : add_source(s);
	}
	if (r < 0)
		complain("change of a file", r);
}

/* Nobody fires: it may go when all has been delivered. */
static void change_value(struct source *s, uint64_t *random)
{
	int r, busy = 100;

	if (pick(random, 4)) {
		r = disable_id(s->queue, s->id);
		if (!r && s->book == VALUE_BOOK)
			fire_value(s, 7);
		r = r ?: enable_id(s->queue, s->id);
	} else {
		while (GET(s->delivered) != s->fired && busy--)
			nap_ns(NSEC_PER_MSEC);
		if (busy < 0)
			return;
		r = remove_id(s->queue, s->id);
		if (r == KEVENT_UNCLAIMED && s->book != LATEST_BOOK)
			complain("removed with an entry", s->delivered);
		if (s->book == VALUE_BOOK)
			s->flags ^= KEVENT_DISABLED;
		r = r < 0 ? r : add_source(s);
		if (!r && s->flags & KEVENT_DISABLED)
			r = enable_id(s->queue, s->id);
	}
	if (r < 0)
		complain("change of a value", r);
}

static void *changer(void *arg)
{
	uint64_t random = seed_of((uintptr_t)arg);

	while (!GET(w.stop)) {
		struct source *s = &w.source[pick(&random, w.nr)];

		pthread_mutex_lock(&s->changing);
		if (s->book == FILE_BOOK)
			change_file(s, &random);
		else if (s->book == VALUE_BOOK || s->book == LATEST_BOOK)
			change_value(s, &random);
		pthread_mutex_unlock(&s->changing);
		ADD(w.changed, 1);
		if (!pick(&random, 8))
			nap_ns(pick(&random, 2 * NSEC_PER_MSEC));
	}
	return NULL;
}

/* ------------------------------------------------------------------------ */
/* Queues that come and go, with all that the big one has */

static int queue_with_everything(uint64_t *random)
{
	unsigned int i;
	int fd = queue_open(1, 1 << pick(random, 7));

	if (fd < 0)
		return fd;
	for (i = 0; i < 8; i++) {
		struct source *s = &w.source[pick(random, w.nr)];

		if (s->book == FILE_BOOK || s->book == NESTED)
			add_file(fd, s->fd, EPOLLIN, file_modes[pick(random, 3)], i,
				 NULL);
	}
	add_file(fd, w.q.fd, EPOLLIN, file_modes[pick(random, 3)], 8, NULL);
	add_timer(fd, CLOCK_MONOTONIC, 0, 1, NSEC_PER_MSEC, 9, NULL);
	add_user(fd, KEVENT_LEVEL, 10, NULL);
	submit_nop(fd, 1, 11);
	return fd;
}

static void *sleeper(void *arg)
{
	struct ukevent ev[8];
	int n = get((intptr_t)arg, ev, 8, 8, 20 * NSEC_PER_MSEC);

	if (n < 0 && n != -EINTR && n != -EBADF)
		complain("sleeper", n);
	return NULL;
}

static void *closer(void *arg)
{
	uint64_t random = seed_of((uintptr_t)arg);

	while (!GET(w.stop)) {
		pthread_t thread;
		int first = queue_with_everything(&random), fd;

		if (first < 0) {
			complain("queue_open", first);
			return NULL;
		}
		/* Not the number that comes next: a sleeper may be late. */
		fd = fcntl(first, F_DUPFD_CLOEXEC, 800);
		close(first);
		pthread_create(&thread, NULL, sleeper, (void *)(intptr_t)fd);
		nap_ns(pick(&random, 4 * NSEC_PER_MSEC));
		close(fd);
		pthread_join(thread, NULL);
		ADD(w.closes, 1);
	}
	return NULL;
}

/* ------------------------------------------------------------------------ */
/* Processes that die at any moment */

/* An entry of the big queue whose completion counts, whether we live or not. */
static void child_submits(int file, char *buffer)
{
	struct child_slot *slot;
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT,
		.kind = file < 0 ? KEVENT_KIND_NOP : KEVENT_KIND_READ,
		.fd = file < 0 ? 0 : file,
		.addr = file < 0 ? 0 : (uintptr_t)buffer,
		.len = file < 0 ? 0 : 8,
	};
	unsigned int number = ADD(w.shared->next, 1);
	int r;

	if (number >= CHILD_SLOTS)
		return;
	slot = &w.shared->slot[number];
	c.cookie = CHILD_COOKIE | number;
	SET(slot->intended, 1);
	r = change(w.q.fd, &c);
	if (!r)
		SET(slot->submitted, 1);
	else if (r == -EAGAIN || r == -ENOMEM)
		SET(slot->intended, 0), ADD(w.shared->refused, 1);
	else
		ADD(w.shared->broken, 1);
}

/*
 * Uses the big queue as its parent does, but takes nothing from it: what it took
 * would die with it.  It waits, is woken, and may be killed before it has left.
 * Squeezed, it keeps all the memory that it takes: it dies of that, not by chance.
 */
static void child(uint64_t random, int squeezed)
{
	char buffer[8], *memory;
	struct ukevent ev[8];
	int own, never[2];

	if (pipe(never))
		_exit(1);
	for (;;) {
		switch (pick(&random, 6)) {
		case 0:
			child_submits(-1, NULL);
			break;
		case 1:
			child_submits(never[0], buffer);
			break;
		case 2:
			own = queue_with_everything(&random);
			if (own < 0)
				break;
			get(own, ev, 8, 8, NSEC_PER_MSEC);
			if (pick(&random, 2))
				close(own);
			break;
		case 3:
			memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
			if (!squeezed && memory != MAP_FAILED)
				munmap(memory, 1 << 20);
			break;
		default:
			mapped_wait(&w.q, KEVENT_RING_ANY, 1 + pick(&random, 3), NULL,
				    0, 2 * NSEC_PER_MSEC);
		}
	}
}

static pid_t start_child(uint64_t random, int squeezed)
{
	pid_t pid = fork();
	char text[32];

	if (pid)
		return pid;
	if (squeezed) {
		snprintf(text, sizeof(text), "%d", getpid());
		if (write_text(MEMCG "/cgroup.procs", text))
			_exit(1);
	}
	child(random, squeezed);
	_exit(0);
}

static void run_children(unsigned int who, int squeezed)
{
	uint64_t random = seed_of(who);
	pid_t pid[CHILDREN] = { };
	int i, status;

	while (!GET(w.stop)) {
		i = pick(&random, CHILDREN);
		if (!pid[i]) {
			pid[i] = start_child(random, squeezed);
			ADD(w.forks, 1);
		} else if (squeezed ? waitpid(pid[i], &status, WNOHANG) > 0 :
				      !pick(&random, 2)) {
			/* Whom memory squeezes the kernel kills, and nobody else. */
			if (!squeezed) {
				kill(pid[i], SIGKILL);
				waitpid(pid[i], &status, 0);
			}
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
				complain(squeezed ? "squeezed child" : "child", status);
			ADD(*(squeezed ? &w.squeezed : &w.kills), 1);
			pid[i] = 0;
		}
		nap_ns(pick(&random, 10 * NSEC_PER_MSEC));
	}
	for (i = 0; i < CHILDREN; i++)
		if (pid[i]) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], &status, 0);
		}
}

static void *killer(void *arg)
{
	run_children((uintptr_t)arg, 0);
	return NULL;
}

static void *squeezer(void *arg)
{
	run_children((uintptr_t)arg, 1);
	return NULL;
}

static int memcg_make(void)
{
	mkdir(MEMCG, 0755);
	return write_text(MEMCG "/memory.max", "6291456");
}

/* ------------------------------------------------------------------------ */
/* Hardware that goes away */

#define CPU_ONLINE "/sys/devices/system/cpu/cpu1/online"

static void *cpu_plugger(void *arg)
{
	uint64_t random = seed_of((uintptr_t)arg);

	while (!GET(w.stop)) {
		int r = write_text(CPU_ONLINE, "0");

		nap_ns(pick(&random, 30 * NSEC_PER_MSEC));
		if (r && r != -EBUSY)
			complain("CPU offline", r);
		r = r ?: write_text(CPU_ONLINE, "1");
		if (!r)
			ADD(w.cpu_cycles, 1);
		nap_ns(pick(&random, 60 * NSEC_PER_MSEC));
	}
	write_text(CPU_ONLINE, "1");
	return NULL;
}

/* The next block of memory that only has pages which can be moved; or -1. */
static int movable_block(int after)
{
	char path[96], text[64];
	int block;

	for (block = after + 1; block < 4096; block++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/memory/memory%d/valid_zones", block);
		if (read_text(path, text, sizeof(text)) > 0 &&
		    !strncmp(text, "Movable", 7))
			return block;
	}
	return -1;
}

static void *memory_plugger(void *arg)
{
	int block = -1;
	char path[96];

	while (!GET(w.stop)) {
		block = movable_block(block);
		if (block < 0)
			continue;
		snprintf(path, sizeof(path),
			 "/sys/devices/system/memory/memory%d/state", block);
		w.memory_error = write_text(path, "offline");
		if (w.memory_error)
			continue;
		if (write_text(path, "online_movable"))
			complain("memory online", block);
		ADD(w.memory_cycles, 1);
	}
	return NULL;
}

/* ------------------------------------------------------------------------ */
/* The run */

enum { KILLS = 1, SQUEEZE = 2, CPUS = 4, MEMORY = 8 };

static int balanced(const struct source *s)
{
	uint64_t fired = GET(s->fired), delivered = GET(s->delivered);

	if (s->book == NESTED)
		return 1;
	return s->book == PERIOD_BOOK ? delivered >= fired && !s->early :
					delivered == fired;
}

static unsigned int open_books(int tell)
{
	static const char *const names[BOOKS] = {
		"file", "value", "latest", "level", "once", "period", "nested",
	};
	unsigned int i, open = 0;

	for (i = 0; i < w.nr; i++) {
		struct source *s = &w.source[i];

		if (balanced(s))
			continue;
		open++;
		if (tell)
			ksft_print_msg("%s %u (file %u, flags %x, ring %u): %llu, got %llu\n",
				       names[s->book], i, s->file, s->flags, s->ring,
				       (unsigned long long)s->fired,
				       (unsigned long long)s->delivered);
	}
	return open;
}

static int children_reconcile(void)
{
	unsigned int i, wrong = 0;

	for (i = 0; i < CHILD_SLOTS; i++) {
		struct child_slot *c = &w.shared->slot[i];
		int completed = GET(c->completed);

		/* Who was killed in between does not know whether it submitted. */
		wrong += c->submitted ? completed != 1 :
			 completed > c->intended;
	}
	return !wrong;
}

/* Each of them was there to be in the way of the others. */
static int overlapped(int disturbances)
{
	unsigned int i;

	for (i = 0; i < CONSUMERS; i++)
		if (!GET(w.collected[i]))
			return 0;
	if (disturbances & KILLS && !GET(w.kills))
		return 0;
	if (disturbances & SQUEEZE && !GET(w.squeezed))
		return 0;
	if (disturbances & CPUS && !GET(w.cpu_cycles))
		return 0;
	if (disturbances & MEMORY && !GET(w.memory_cycles))
		return 0;
	return GET(w.fires) && GET(w.changed) && GET(w.cancelled) && GET(w.closes);
}

static void ignore(int number)
{
}

static int64_t share_ns(int variants)
{
	const char *text = getenv("KEVENT_STRESS_SECONDS");
	unsigned long seconds = text ? strtoul(text, NULL, 10) : 18;

	return seconds * NSEC_PER_SEC / variants;
}

static void run_world(int64_t ns, int disturbances)
{
	struct sigaction action = { .sa_handler = ignore };
	pthread_t consumers[CONSUMERS], thread[16];
	int64_t end = now_ns() + ns;
	unsigned int i, n = 0;
	uint64_t random = seed_of(100);

	sigaction(SIGUSR1, &action, NULL);
	for (i = 0; i < CONSUMERS; i++)
		pthread_create(&consumers[i], NULL, consumer, (void *)(uintptr_t)i);
	for (i = 0; i < FIRERS; i++, n++)
		pthread_create(&thread[n], NULL, firer, (void *)(uintptr_t)n);
#define ALSO(start, wanted)							\
	if (wanted) {								\
		pthread_create(&thread[n], NULL, start, (void *)(uintptr_t)n);	\
		n++;								\
	}
	ALSO(submitter, 1)
	ALSO(changer, 1)
	ALSO(closer, 1)
	ALSO(killer, disturbances & KILLS)
	ALSO(squeezer, disturbances & SQUEEZE)
	ALSO(cpu_plugger, disturbances & CPUS)
	ALSO(memory_plugger, disturbances & MEMORY)
#undef ALSO
	while (now_ns() < end ||
	       (!overlapped(disturbances) && now_ns() < end + DRAIN_NS)) {
		nap_ns(5 * NSEC_PER_MSEC);
		pthread_kill(consumers[pick(&random, CONSUMERS)], SIGUSR1);
	}
	SET(w.stop, 1);
	for (i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < w.nr; i++)
		if (w.source[i].book == PERIOD_BOOK)
			w.source[i].fired = (now_ns() - w.source[i].first) / PERIOD + 1;
	end = now_ns() + (w.err ? 2 * NSEC_PER_SEC : DRAIN_NS);
	while ((open_books(0) || !requests_done() || !children_reconcile()) &&
	       now_ns() < end)
		nap_ns(5 * NSEC_PER_MSEC);
	SET(w.stop_consumers, 1);
	for (i = 0; i < CONSUMERS; i++)
		pthread_join(consumers[i], NULL);
}

static void tell(void)
{
	ksft_print_msg("seed %llu: %llu fires, %llu events (%llu %llu %llu %llu)\n",
		       (unsigned long long)w.seed, (unsigned long long)w.fires,
		       (unsigned long long)w.events,
		       (unsigned long long)w.collected[0],
		       (unsigned long long)w.collected[1],
		       (unsigned long long)w.collected[2],
		       (unsigned long long)w.collected[3]);
	ksft_print_msg("%llu changes, %llu requests (%llu cancelled)\n",
		       (unsigned long long)w.changed, (unsigned long long)w.submitted,
		       (unsigned long long)w.cancelled);
	if (w.memory_error)
		ksft_print_msg("memory offline: %s\n", strerror(-w.memory_error));
	ksft_print_msg("%llu queues closed, %llu processes, %llu killed, %llu out of memory\n",
		       (unsigned long long)w.closes, (unsigned long long)w.forks,
		       (unsigned long long)w.kills, (unsigned long long)w.squeezed);
	ksft_print_msg("%llu CPU and %llu memory cycles\n",
		       (unsigned long long)w.cpu_cycles,
		       (unsigned long long)w.memory_cycles);
}

FIXTURE(stress) {
};

FIXTURE_VARIANT(stress) {
	int disturbances;
};

#define VARIANTS 6
FIXTURE_VARIANT_ADD(stress, alone) { 0 };
FIXTURE_VARIANT_ADD(stress, kills) { KILLS };
FIXTURE_VARIANT_ADD(stress, low_memory) { SQUEEZE };
FIXTURE_VARIANT_ADD(stress, cpu_hotplug) { CPUS };
FIXTURE_VARIANT_ADD(stress, memory_hotplug) { MEMORY };
FIXTURE_VARIANT_ADD(stress, all) { KILLS | SQUEEZE | CPUS | MEMORY };

FIXTURE_SETUP(stress)
{
}

FIXTURE_TEARDOWN(stress)
{
	if (variant->disturbances & SQUEEZE)
		EVENTUALLY(!rmdir(MEMCG) || errno == ENOENT);
}

/* Without what a machine cannot do; with nothing left of them: -1. */
static int possible(int disturbances)
{
	int wanted = disturbances;

	if (disturbances & SQUEEZE && memcg_make())
		disturbances &= ~SQUEEZE;
	if (disturbances & CPUS && access(CPU_ONLINE, W_OK))
		disturbances &= ~CPUS;
	if (disturbances & MEMORY && movable_block(-1) < 0)
		disturbances &= ~MEMORY;
	return wanted && !disturbances ? -1 : disturbances;
}

static void check_books(struct __test_metadata *_metadata)
{
	unsigned int i, sources = 0;

	EXPECT_EQ(0, open_books(1));
	EXPECT_TRUE(requests_done());
	EXPECT_LE(w.piped_out, w.piped_in);
	EXPECT_TRUE(children_reconcile());
	EXPECT_EQ(0, w.shared->broken);
	EXPECT_EQ(0, w.twice);
	EXPECT_EQ(0, w.stray);
	EXPECT_EQ(0, w.errors) {
		TH_LOG("first: %s", w.first_error);
	}
	for (i = 0; i < w.nr; i++)
		sources += w.source[i].queue == w.q.fd;
	for (i = 0; i < w.rings; i++)
		sources -= sources_of(&w.q, i);
	EXPECT_EQ(0, sources);
	for (i = 0; i < w.rings; i++)
		EXPECT_EQ(0, requests_of(&w.q, i));
}

/* All that was fired was delivered, and nothing else. */
TEST_F(stress, reconciles)
{
	int disturbances = possible(variant->disturbances);
	int64_t left = share_ns(VARIANTS), round;

	if (disturbances < 0)
		SKIP(return, "this machine cannot");
	while (left > 0) {
		round = left < 2 * ROUND_NS ? left : ROUND_NS;
		left -= round;
		ASSERT_EQ(0, world_make());
		run_world(round, disturbances);
		tell();
		check_books(_metadata);
		EXPECT_TRUE(overlapped(disturbances));
		world_free();
	}
}

FIXTURE(noticed) {
};

FIXTURE_VARIANT(noticed) {
	int err;
};

FIXTURE_VARIANT_ADD(noticed, lost) { -1 };
FIXTURE_VARIANT_ADD(noticed, twice) { 1 };

FIXTURE_SETUP(noticed)
{
	ASSERT_EQ(0, world_make());
}

FIXTURE_TEARDOWN(noticed)
{
	world_free();
}

/*
 * The books can tell: with consumers that forget, or take twice, what one source of
 * each kind reports, those are open in the end and no others.  (Twice does no harm to
 * a file, to a value that replaces another, or to one that is acknowledged.)
 */
TEST_F(noticed, exactly_those)
{
	unsigned int i, victims = 0, seen = 0;

	w.err = variant->err;
	for (i = 0; i < w.nr; i++) {
		struct source *s = &w.source[i];
		int sums = s->book == VALUE_BOOK || s->book == PERIOD_BOOK;

		if (s->book == NESTED || seen & 1 << s->book ||
		    (w.err > 0 && !sums))
			continue;
		seen |= 1 << s->book;
		s->victim = 1;
		victims++;
	}
	run_world(3 * NSEC_PER_SEC, 0);
	tell();
	open_books(1);
	for (i = 0; i < w.nr; i++)
		EXPECT_EQ(w.source[i].victim, !balanced(&w.source[i]));
	EXPECT_EQ(victims, open_books(0));
	EXPECT_LT(0, victims);
}

TEST_HARNESS_MAIN
