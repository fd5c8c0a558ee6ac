// SPDX-License-Identifier: GPL-2.0
/*
 * No byte differs: random reads and writes from several threads over all rings,
 * with cancels, kills, and a device that fails.
 *
 * Each thread has blocks of its own.  A block's bytes say which it is and which
 * write put them there (its generation); the ledger, which outlives processes,
 * says which generations a block may have.  A write that succeeded leaves one;
 * one that failed, or was cancelled or killed, leaves the old and the new one.
 */
#include "io_test.h"

#include <sys/prctl.h>

#define THREADS 4
#define BLOCKS 96		/* of each thread */
#define SLOTS 24		/* requests that a thread has in flight */
#define SPAN 4			/* blocks of a request */
#define RINGS 2

struct block {
	uint32_t generation[2];	/* what it may hold: the same twice, if known */
	uint32_t busy;
};

struct slot {
	uint32_t state;		/* FREE, FLYING, ENDED */
	uint32_t turn;		/* how often it was used: part of the cookie */
	int reversed;		/* the pieces in memory */
	uint64_t id;
	int64_t result;
	uint32_t first, count, generation;
	int write, told;	/* what a cancel said, or 1 */
	uint32_t table;		/* at submission */
};

enum { FREE, FLYING, ENDED };

/* What a thread of work knows; in memory that its killer has too. */
struct ledger {
	struct block blocks[BLOCKS];
	struct slot slots[SLOTS];
	uint64_t random;
	uint32_t generation;
	uint32_t rounds, reads, writes, cancelled, failed, inline_, direct;
	const char *wrong;	/* what was found first */
	uint64_t detail[2];
};

struct work {
	struct queue q;
	int fd;			/* the one to work on */
	uint32_t stop;
	uint32_t table;		/* odd while the device may fail; only grows */
	struct ledger ledger[THREADS];
};

static uint32_t draw(struct ledger *l, uint32_t below)
{
	l->random += 0x9e3779b97f4a7c15ULL;
	return mix(l->random) % below;
}

static void wrong(struct ledger *l, const char *what, uint64_t a, uint64_t b)
{
	if (l->wrong)
		return;
	l->detail[0] = a;
	l->detail[1] = b;
	l->wrong = what;
}

/* Threads' blocks alternate, so that neighbours are others'. */
static uint64_t place(unsigned int thread, uint32_t block)
{
	return ((uint64_t)block / SPAN * THREADS + thread) * SPAN * IO_PAGE +
	       block % SPAN * IO_PAGE;
}

static uint64_t seed_of(unsigned int thread, uint32_t generation)
{
	return (uint64_t)thread << 32 | generation;
}

/* The bytes must be of one generation that the block may have. */
static void check_block(struct ledger *l, unsigned int thread, uint32_t block,
			const char *bytes)
{
	struct block *b = &l->blocks[block];
	uint64_t at = place(thread, block);
	int i;

	for (i = 0; i < 2; i++)
		if (pattern_wrong(bytes, IO_PAGE,
				  seed_of(thread, b->generation[i]), at) < 0) {
			/* Now that it was read, it is known. */
			b->generation[0] = b->generation[i];
			b->generation[1] = b->generation[i];
			return;
		}
	wrong(l, "a block has bytes that nobody wrote there", block,
	      pattern_wrong(bytes, IO_PAGE, seed_of(thread, b->generation[0]), at));
}

/* A run of idle blocks in one stripe; 0 if the first is busy. */
static uint32_t choose(struct ledger *l, struct slot *s)
{
	uint32_t n = 1 + draw(l, SPAN), i;

	s->first = draw(l, BLOCKS);
	for (i = 0; i < n && (s->first + i) / SPAN == s->first / SPAN; i++)
		if (l->blocks[s->first + i].busy)
			break;
	s->count = i;
	return i;
}

/* Where it is one of two, a read decides, and a write must not add a third. */
static int known(const struct ledger *l, const struct slot *s)
{
	uint32_t i;

	for (i = 0; i < s->count; i++)
		if (l->blocks[s->first + i].generation[0] !=
		    l->blocks[s->first + i].generation[1])
			return 0;
	return 1;
}

static void begin(struct work *w, unsigned int thread, struct slot *s, char *buffer)
{
	struct ledger *l = &w->ledger[thread];
	uint32_t i, n = choose(l, s);
	struct kevent_change c;
	struct iovec iov[SPAN];
	int vectored = draw(l, 4) == 0, result;

	if (!n)
		return;
	s->write = draw(l, 2) && known(l, s);
	s->generation = ++l->generation;
	s->told = 1;
	for (i = 0; i < n; i++) {
		struct block *b = &l->blocks[s->first + i];

		b->busy = 1;
		if (s->write)
			b->generation[1] = s->generation;
		/* The pieces in another order in memory than on the disk. */
		iov[i] = (struct iovec){
			buffer + (vectored ? n - 1 - i : i) * IO_PAGE, IO_PAGE };
		if (s->write)
			pattern_fill(iov[i].iov_base, IO_PAGE,
				     seed_of(thread, s->generation),
				     place(thread, s->first + i));
		else
			memset(iov[i].iov_base, POISON, IO_PAGE);
	}
	c = io_entry(s->write ? KEVENT_KIND_WRITE : KEVENT_KIND_READ, w->fd, buffer,
		     n * IO_PAGE, place(thread, s->first));
	if (vectored) {
		c.kind = s->write ? KEVENT_KIND_WRITEV : KEVENT_KIND_READV;
		c.addr = (uintptr_t)iov;
		c.len = n;
	}
	c.ring = draw(l, RINGS + 1);
	if (c.ring == RINGS)
		c.ring = KEVENT_RING_LOCAL;
	s->turn = (s->turn + 1) % (1 << 24);
	c.cookie = (uint64_t)thread << 32 | s->turn << 8 | (s - l->slots);
	s->table = __atomic_load_n(&w->table, __ATOMIC_ACQUIRE);
	s->reversed = vectored;
	__atomic_store_n(&s->state, FLYING, __ATOMIC_RELEASE);
	result = change(w->q.fd, &c);
	__atomic_store_n(&s->id, c.id, __ATOMIC_RELEASE);
	if (result)
		wrong(l, "an entry was refused", -result, n);
}

/* Its event, in whichever thread collected it. */
static void note(struct work *w, const struct ukevent *ev)
{
	struct ledger *l = &w->ledger[ev->cookie >> 32];
	struct slot *s = &l->slots[ev->cookie & 0xff];
	uint32_t flying = FLYING;

	__atomic_store_n(&s->result, ev->result, __ATOMIC_RELAXED);
	if (ev->flags & KEVENT_EV_INLINE)
		__atomic_fetch_add(&l->inline_, 1, __ATOMIC_RELAXED);
	if (ev->flags & KEVENT_EV_DIRECT)
		__atomic_fetch_add(&l->direct, 1, __ATOMIC_RELAXED);
	if ((uint32_t)ev->cookie >> 8 != s->turn ||
	    !__atomic_compare_exchange_n(&s->state, &flying, ENDED, 0,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		wrong(l, "a second event", ev->cookie, ev->id);
}

static void finish(struct work *w, unsigned int thread, struct slot *s, char *buffer)
{
	struct ledger *l = &w->ledger[thread];
	int64_t full = s->count * IO_PAGE, result = s->result;
	int failing = s->table % 2 ||
		      s->table != __atomic_load_n(&w->table, __ATOMIC_ACQUIRE);
	uint32_t i;

	if (s->told == 0 && result != -ECANCELED)
		wrong(l, "cancelled in time, and not ECANCELED", result, s->write);
	if (result == -ECANCELED && s->told == 1)
		wrong(l, "ECANCELED, and nobody cancelled", s->write, 0);
	if (result == -EIO && !failing)
		wrong(l, "EIO of a device that did not fail", s->table, s->first);
	/* A worker that is told to stop may have done a part. */
	if (result != full && result != -ECANCELED && result != -EIO &&
	    !(s->told == -EALREADY && result > 0 && result < full))
		wrong(l, "a result that cannot be", result, full);
	for (i = 0; i < s->count; i++) {
		struct block *b = &l->blocks[s->first + i];
		char *bytes = buffer +
			      (s->reversed ? s->count - 1 - i : i) * IO_PAGE;

		if (s->write && (i + 1) * IO_PAGE <= result)
			b->generation[0] = b->generation[1];
		if (!s->write && (i + 1) * IO_PAGE <= result)
			check_block(l, thread, s->first + i, bytes);
		b->busy = 0;
	}
	l->reads += !s->write;
	l->writes += s->write;
	l->cancelled += result == -ECANCELED;
	l->failed += result == -EIO;
	__atomic_store_n(&s->state, FREE, __ATOMIC_RELEASE);
}

/* One turn of a thread over its slots; how many are in flight. */
static uint32_t turn(struct work *w, unsigned int thread, char *buffers, int more)
{
	struct ledger *l = &w->ledger[thread];
	struct ukevent ev[16];
	uint32_t i, flying = 0;
	int n;

	for (i = 0; i < SLOTS; i++) {
		struct slot *s = &l->slots[i];
		char *buffer = buffers + i * SPAN * IO_PAGE;

		if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == ENDED)
			finish(w, thread, s, buffer);
		if (s->state == FREE && more)
			begin(w, thread, s, buffer);
		if (s->state == FLYING && s->told == 1 && draw(l, 16) == 0) {
			s->told = -EINPROGRESS;
			s->told = cancel_id(w->q.fd, s->id);
		}
		flying += __atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != FREE;
	}
	n = get(w->q.fd, ev, flying > SLOTS / 2, 16, NSEC_PER_MSEC);
	for (i = 0; n > 0 && i < n; i++)
		note(w, &ev[i]);
	return flying;
}

struct thread_arg {
	struct work *w;
	unsigned int thread;
	uint32_t rounds;
};

static void *work(void *arg)
{
	struct thread_arg *a = arg;
	struct ledger *l = &a->w->ledger[a->thread];
	char *buffers = pages(SLOTS * SPAN * IO_PAGE);
	int64_t end = now_ns() + LONG_NS;

	for (l->rounds = 0; l->rounds < a->rounds && !l->wrong &&
	     !__atomic_load_n(&a->w->stop, __ATOMIC_ACQUIRE);) {
		turn(a->w, a->thread, buffers, 1);
		__atomic_add_fetch(&l->rounds, 1, __ATOMIC_RELAXED);
	}
	while (turn(a->w, a->thread, buffers, 0))
		if (now_ns() > end + LONG_NS) {
			wrong(l, "an event never came", 0, 0);
			break;
		}
	munmap(buffers, SLOTS * SPAN * IO_PAGE);
	return NULL;
}

static void run_threads(struct work *w, uint32_t rounds)
{
	struct thread_arg args[THREADS];
	pthread_t threads[THREADS];
	unsigned int i;

	for (i = 0; i < THREADS; i++) {
		args[i] = (struct thread_arg){ w, i, rounds };
		pthread_create(&threads[i], NULL, work, &args[i]);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

FIXTURE(integrity) {
	struct work *w;
	char *page;
};

FIXTURE_VARIANT(integrity) {
	enum storage storage;
	int direct;
};

FIXTURE_VARIANT_ADD(integrity, tmpfs) { TMPFS };
FIXTURE_VARIANT_ADD(integrity, ext4) { EXT4 };
FIXTURE_VARIANT_ADD(integrity, ext4_direct) { EXT4, O_DIRECT };
FIXTURE_VARIANT_ADD(integrity, disk_direct) { DISK, O_DIRECT };
FIXTURE_VARIANT_ADD(integrity, loop) { LOOP };
FIXTURE_VARIANT_ADD(integrity, loop_direct) { LOOP, O_DIRECT };
FIXTURE_VARIANT_ADD(integrity, null_blk_direct) { NULLB, O_DIRECT };

/* Every block with its first generation. */
static int lay_out(struct work *w, char *page)
{
	unsigned int t, b;

	for (t = 0; t < THREADS; t++)
		for (b = 0; b < BLOCKS; b++) {
			w->ledger[t].random = t * 1000 + 1;
			w->ledger[t].generation = 1;
			w->ledger[t].blocks[b] = (struct block){ { 1, 1 }, 0 };
			pattern_fill(page, IO_PAGE, seed_of(t, 1), place(t, b));
			if (pwrite(w->fd, page, IO_PAGE, place(t, b)) != IO_PAGE)
				return -errno;
		}
	return 0;
}

FIXTURE_SETUP(integrity)
{
	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	self->w = shared_pages(sizeof(*self->w));
	self->page = pages(IO_PAGE);
	ASSERT_EQ(0, queue_make(&self->w->q, RINGS, 16));
	self->w->fd = storage_open(variant->storage, variant->direct, 0, 0);
	ASSERT_LE(0, self->w->fd);
	ASSERT_EQ(0, lay_out(self->w, self->page));
}

FIXTURE_TEARDOWN(integrity)
{
	close(self->w->fd);
	queue_free(&self->w->q);
}

/* What the ledger says is what pread(2) finds, and nothing went wrong. */
static void reconcile(struct __test_metadata *_metadata, struct work *w, char *page)
{
	unsigned int t, b;

	for (t = 0; t < THREADS; t++) {
		struct ledger *l = &w->ledger[t];

		for (b = 0; b < BLOCKS; b++) {
			ASSERT_EQ(IO_PAGE, pread(w->fd, page, IO_PAGE, place(t, b)));
			check_block(l, t, b, page);
		}
		EXPECT_EQ(NULL, l->wrong)
			TH_LOG("thread %u: %s: %llu %llu", t, l->wrong,
			       (unsigned long long)l->detail[0],
			       (unsigned long long)l->detail[1]);
	}
	EXPECT_EQ(0, requests_of(&w->q, 0) + requests_of(&w->q, 1));
}

static void tell(const struct work *w)
{
	struct ledger sum = { };
	unsigned int t;

	for (t = 0; t < THREADS; t++) {
		const struct ledger *l = &w->ledger[t];

		sum.reads += l->reads;
		sum.writes += l->writes;
		sum.cancelled += l->cancelled;
		sum.failed += l->failed;
		sum.inline_ += l->inline_;
		sum.direct += l->direct;
	}
	ksft_print_msg("%u reads, %u writes: %u cancelled, %u failed, %u inline, %u direct\n",
		       sum.reads, sum.writes, sum.cancelled, sum.failed,
		       sum.inline_, sum.direct);
}

TEST_F(integrity, threads)
{
	run_threads(self->w, scaled(150));
	reconcile(_metadata, self->w, self->page);
	tell(self->w);
}

/* What a killed process had in flight is done or not, and nothing comes later. */
static void account_for_kill(struct work *w)
{
	unsigned int t, i;

	for (t = 0; t < THREADS; t++) {
		for (i = 0; i < SLOTS; i++)
			w->ledger[t].slots[i] = (struct slot){ FREE };
		/* A slot was begun between its marks: its blocks have two. */
		for (i = 0; i < BLOCKS; i++)
			w->ledger[t].blocks[i].busy = 0;
	}
}

TEST_F(integrity, kills)
{
	unsigned int round, t, overlaps = 0;
	struct work *w = self->w;

	for (round = 0; round < scaled(16); round++) {
		pid_t child;

		w->ledger[0].rounds = 0;
		child = fork();
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			run_threads(w, ~0U);
			_exit(0);
		}
		EXPECT_TRUE(EVENTUALLY(__atomic_load_n(&w->ledger[0].rounds,
						       __ATOMIC_RELAXED) > 1));
		nap_ns(mix(round) % 40 * NSEC_PER_MSEC);
		kill(child, SIGKILL);
		ASSERT_EQ(128 + SIGKILL, reap(child));
		for (t = 0; t < THREADS; t++) {
			unsigned int i;

			for (i = 0; i < SLOTS; i++)
				overlaps += w->ledger[t].slots[i].state != FREE;
		}
		while (get_now(w->q.fd) > 0)
			;
		EXPECT_EQ(0, requests_of(&w->q, 0) + requests_of(&w->q, 1));
		account_for_kill(w);
		/* Each block is of one generation, and stays: the next child says. */
		reconcile(_metadata, w, self->page);
	}
	EXPECT_LT(0, overlaps);
	ksft_print_msg("%u requests were in flight at %u kills\n", overlaps, round);
}

/* ------------------------------------------------------------------------ */
/* A device that fails */

FIXTURE(failing) {
	struct work *w;
	char *page;
	uint64_t sectors;
};

FIXTURE_SETUP(failing)
{
	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	self->w = shared_pages(sizeof(*self->w));
	self->page = pages(IO_PAGE);
	ASSERT_EQ(0, queue_make(&self->w->q, RINGS, 16));
	self->w->fd = storage_open(DISK, O_DIRECT, 0, 0);
	ASSERT_LE(0, self->w->fd);
	self->sectors = device_size(disk(2)) / 512;
}

/* The tables: all good; all writes fail; every other stripe fails. */
static int use_table(uint64_t sectors, int which)
{
	static struct dm_segment s[17];
	unsigned int i, n = 1;

	s[0] = (struct dm_segment){ 0, sectors, which == 1 ? "flakey" : "linear" };
	snprintf(s[0].parameters, sizeof(s[0].parameters),
		 which == 1 ? "%s 0 0 60 1 error_writes" : "%s 0", disk(2));
	for (i = 0; which == 2 && i < 16; i++, n = i + 1) {
		uint64_t length = SPAN * IO_PAGE / 512;

		s[i] = (struct dm_segment){ i * length, length,
					    i % 2 ? "error" : "linear" };
		if (i % 2 == 0)
			snprintf(s[i].parameters, sizeof(s[i].parameters),
				 "%s %llu", disk(2),
				 (unsigned long long)(i * length));
		s[i + 1] = (struct dm_segment){ (i + 1) * length,
						sectors - (i + 1) * length, "linear" };
		snprintf(s[i + 1].parameters, sizeof(s[i + 1].parameters),
			 "%s %llu", disk(2),
			 (unsigned long long)((i + 1) * length));
	}
	i = dm_table(FAULTY, s, n);
	if ((int)i < 0)
		return i;
	if (dm_hold(FAULTY) < 0)
		return -EIO;
	return dm_let_go(FAULTY) < 0 ? -EIO : 0;
}

FIXTURE_TEARDOWN(failing)
{
	use_table(self->sectors, 0);
	close(self->w->fd);
	queue_free(&self->w->q);
}

/* Each error is on the request that it befell, and on no other. */
TEST_F(failing, right_request)
{
	struct kevent_change c[32];
	char *buffer = pages(32 * IO_PAGE);
	struct ukevent ev[32];
	int round, i;

	for (i = 0; i < 32; i++)
		pattern_fill(buffer + i * IO_PAGE, IO_PAGE, 1, i * IO_PAGE);
	ASSERT_EQ(32 * IO_PAGE, pwrite(self->w->fd, buffer, 32 * IO_PAGE, 0));
	for (round = 0; round < 4; round++) {
		/* Reads and writes with failing stripes; then failing writes. */
		int stripes = round < 2, write = round % 2;

		ASSERT_EQ(0, use_table(self->sectors, stripes ? 2 : 1));
		for (i = 0; i < 32; i++) {
			if (!write)
				memset(buffer + i * IO_PAGE, POISON, IO_PAGE);
			c[i] = io_entry(write ? KEVENT_KIND_WRITE : KEVENT_KIND_READ,
					self->w->fd, buffer + i * IO_PAGE, IO_PAGE,
					i * IO_PAGE);
			c[i].cookie = i;
			c[i].ring = i % 2;
		}
		ASSERT_EQ(32, changes(self->w->q.fd, c, 32));
		ASSERT_EQ(32, get(self->w->q.fd, ev, 32, 32, LONG_NS));
		for (i = 0; i < 32; i++) {
			uint32_t at = ev[i].cookie;
			int fails = stripes ? at / SPAN % 2 : write;

			EXPECT_EQ(c[at].id, ev[i].id);
			EXPECT_EQ(fails ? -EIO : IO_PAGE, ev[i].result);
			if (!fails && !write)
				EXPECT_EQ(-1, pattern_wrong(buffer + at * IO_PAGE,
							    IO_PAGE, 1,
							    at * IO_PAGE));
			if (!write && fails)
				pattern_fill(buffer + at * IO_PAGE, IO_PAGE, 1,
					     at * IO_PAGE);
		}
	}
	/* A chain ends with it. */
	c[0].flags = KEVENT_LINK;
	c[1].flags = KEVENT_LINK;
	for (i = 0; i < 3; i++)
		c[i].id = 0;
	ASSERT_EQ(3, changes(self->w->q.fd, c, 3));
	ASSERT_EQ(3, get(self->w->q.fd, ev, 3, 32, LONG_NS));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(ev[i].cookie ? -ECANCELED : -EIO, ev[i].result);
	/* What a worker makes of the page cache fails when it is synced. */
	ASSERT_EQ(0, requests_of(&self->w->q, 0) + requests_of(&self->w->q, 1));
}

/* Tables change while four threads are at it. */
TEST_F(failing, threads)
{
	struct thread_arg args[THREADS];
	pthread_t threads[THREADS];
	unsigned int i, swaps;

	ASSERT_EQ(0, lay_out(self->w, self->page));
	for (i = 0; i < THREADS; i++) {
		args[i] = (struct thread_arg){ self->w, i, ~0U };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, work, &args[i]));
	}
	for (swaps = 0; swaps < scaled(40); swaps++) {
		__atomic_add_fetch(&self->w->table, 1, __ATOMIC_ACQ_REL);
		EXPECT_EQ(0, use_table(self->sectors, 1 + swaps % 2));
		nap_ns(10 * NSEC_PER_MSEC);
		EXPECT_EQ(0, use_table(self->sectors, 0));
		__atomic_add_fetch(&self->w->table, 1, __ATOMIC_ACQ_REL);
		nap_ns(5 * NSEC_PER_MSEC);
	}
	__atomic_store_n(&self->w->stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	reconcile(_metadata, self->w, self->page);
	tell(self->w);
}

TEST_HARNESS_MAIN
