// SPDX-License-Identifier: GPL-2.0
/*
 * Each path of the interface over and over, with its first, second, ... allocation
 * or copy from and to user memory failing, until there is none left to fail.
 *
 * An attempt makes a new queue, arms the kernel's fail-nth for this thread
 * (failslab, fail_page_alloc, fail_usercopy), goes the path, and reads back
 * whether the fault was met.  Then: what failed says so with an errno that the
 * header names, what did not fail is complete, no event is lost or comes twice,
 * the queue does its work, and nothing is left counted when it is closed.  What
 * is leaked without being counted is kmemleak's to find, at the end of the run.
 *
 * The workers' own faults are not among these: fail-nth is a thread's.
 */
#include "io_test.h"

#include <pty.h>
#include <sys/rseq.h>

#define FAULTS "/sys/kernel/debug/"
#define MANY 16
#define SIZE (8 * IO_PAGE)
/* More than the longest path has. */
#define NO_END 5000

struct world {
	int q;
	int witness;	/* another queue of the user, if any */
	int file, peer;
	int kept;	/* a file that serves all attempts */
	int nodes[2];
	uint64_t id;
	char *buffer;
	struct iovec iov[8];
	struct queue map;
	struct kevent_change c[4];
	int nr_c;
	struct ukevent ev[64];
	int nr;
	pid_t child;
	const char *wrong;
	int line;
};

#define CHECK(condition) do {						\
	if (!w->wrong && !(condition)) {				\
		w->wrong = #condition;					\
		w->line = __LINE__;					\
	}								\
} while (0)

/* ------------------------------------------------------------------------ */
/* Faults */

static int fail_fd = -1;
static char console_level[64];

static void fail_at(unsigned int n)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(fail_fd, text, size, 0) != size)
		abort();
}

/* Whether the fault was met.  A call that it meets here did not meet it before. */
static int fail_met(void)
{
	char text[16] = "";
	int met = pread(fail_fd, text, sizeof(text) - 1, 0) > 0 && *text == '0';
	int i;

	for (i = 0; i < 2; i++)
		if (pwrite(fail_fd, "0", 1, 0) == 1)
			return met;
	abort();
}

/*
 * The kernel writes the thread's CPU to its rseq area when it returns to user space, and
 * kills it if it cannot: after a fork it has to copy that page, which may be what fails.
 */
static void leave_rseq(void)
{
	syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset,
		sizeof(struct rseq), RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

/* By default they spare allocations that may wait, which ours do. */
static int faults_prepare(void)
{
	static const char *const settings[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
	};
	const char *level = "/proc/sys/kernel/printk";
	char path[128];
	unsigned int i;
	int error;

	leave_rseq();
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		snprintf(path, sizeof(path), FAULTS "%s", settings[i][0]);
		error = write_text(path, settings[i][1]);
		if (error)
			return error;
	}
	/*
	 * The leak detector's own allocations fail too, which it says with a lock held
	 * that a console must not wait for: to the log alone, then.
	 */
	if (read_text(level, console_level, sizeof(console_level)) < 0)
		return -errno;
	error = write_text(level, "1");
	if (error)
		return error;
	/* So that no page of ours is allocated in between. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		return -errno;
	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return fail_fd < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------------ */
/* What a queue says about itself */

static long sources(const struct world *w)
{
	return fdinfo(w->q, "sources");
}

static int collect(struct world *w)
{
	int n = get(w->q, w->ev + w->nr, 0, ARRAY_SIZE(w->ev) - w->nr, 0);

	if (n > 0)
		w->nr += n;
	return n;
}

/* How many events of those collected have the cookie. */
static int had(const struct world *w, uint64_t cookie)
{
	int i, n = 0;

	for (i = 0; i < w->nr; i++)
		n += w->ev[i].cookie == cookie;
	return n;
}

/* It works as any queue does. */
static void usable(struct world *w)
{
	int fd = eventfd_make();
	uint64_t id;

	w->nr = 0;
	CHECK(!add_file(w->q, fd, EPOLLIN, 0, 71, &id));
	CHECK(!eventfd_fire(fd));
	CHECK(!submit_nop(w->q, 5, 72));
	CHECK(collect(w) == 2);
	CHECK(had(w, 71) == 1 && had(w, 72) == 1);
	CHECK(!remove_close(w->q, id, fd));
	CHECK(get_now(w->q) == 0);
	CHECK(fdinfo(w->q, "pending") == 0);
	CHECK(fdinfo(w->q, "requests") == 0);
}

/* ------------------------------------------------------------------------ */
/* Paths: what comes before the faults, and the state after them */

static void with_queue(struct world *w)
{
	w->q = queue_open(2, 16);
	CHECK(w->q >= 0);
}

static void no_queue(struct world *w)
{
}

static int do_open(struct world *w)
{
	return w->q = device_open();
}

static void check_open(struct world *w, int result)
{
	struct kevent_setup s = setup_arg(1, 16);

	if (result < 0)
		with_queue(w);
	else
		CHECK(!ioc(w->q, KEVENT_IOC_SETUP, &s));
}

static void opened(struct world *w)
{
	w->q = device_open();
	CHECK(w->q >= 0);
}

static int do_setup(struct world *w)
{
	struct kevent_setup s = setup_arg(2, 512);

	w->nodes[0] = 0;
	w->nodes[1] = 1;
	s.nodes = (uintptr_t)w->nodes;
	return ioc(w->q, KEVENT_IOC_SETUP, &s);
}

/* It is made or not, and only one that cannot be told is made in spite of an error. */
static void check_setup(struct world *w, int result)
{
	struct kevent_setup s = setup_arg(0, 0);
	int again = do_setup(w);

	CHECK(again == (result ? 0 : -EBUSY) ||
	      (result == -EFAULT && again == -EBUSY));
	CHECK(!ioc(w->q, KEVENT_IOC_INFO, &s));
	CHECK(s.nr_rings == 2 && s.entries == 512);
	CHECK(fdinfo(w->q, "locked") ==
	      2 * (s.ring_bytes + s.claim_bytes) / 1024);
}

static int do_info(struct world *w)
{
	struct kevent_setup s = setup_arg(0, 0);

	return ioc(w->q, KEVENT_IOC_INFO, &s);
}

static void check_nothing(struct world *w, int result)
{
	CHECK(sources(w) == 0);
}

static void with_large_queue(struct world *w)
{
	w->q = queue_open(2, 512);
	CHECK(w->q >= 0);
	w->map.setup = setup_arg(0, 0);
	CHECK(!ioc(w->q, KEVENT_IOC_INFO, &w->map.setup));
}

/* Far from other mappings, so that page tables are needed. */
static void *map_at(struct world *w, unsigned long at, size_t each, int prot,
		    off_t offset)
{
	void *p = mmap((void *)at, 2 * each, prot,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, w->q, offset);

	return p == MAP_FAILED ? NULL : p;
}

static int do_map(struct world *w)
{
	const struct kevent_setup *s = &w->map.setup;

	w->map.rings = map_at(w, 0x40000000, s->ring_bytes, PROT_READ,
			      KEVENT_MMAP_RINGS);
	if (!w->map.rings)
		return -errno;
	w->map.claims = map_at(w, 0x50000000, s->claim_bytes,
			       PROT_READ | PROT_WRITE, KEVENT_MMAP_CLAIMS);
	return w->map.claims ? 0 : -errno;
}

static void check_map(struct world *w, int result)
{
	const struct kevent_setup *s = &w->map.setup;

	if (!result) {
		CHECK(ring_at(&w->map, 1)->magic == KEVENT_MAGIC);
		CHECK(!submit_nop_at(w->q, 1, 3, 4, NULL));
		CHECK(ring_collect(&w->map, 1, w->ev, 4) == 1);
	}
	if (w->map.rings)
		CHECK(!munmap(w->map.rings, 2 * (size_t)s->ring_bytes));
	if (w->map.claims)
		CHECK(!munmap(w->map.claims, 2 * (size_t)s->claim_bytes));
}

/* --- sources --- */

static int do_changes(struct world *w)
{
	int result = changes(w->q, w->c, w->nr_c);

	if (result < 0)
		return result;
	/* An error of the only entry is the path's. */
	return w->nr_c == 1 && w->c[0].result < 0 ? w->c[0].result : result;
}

static void plan(struct world *w, struct kevent_change c)
{
	c.result = (__s32)0xa5a5a5a5;
	w->c[w->nr_c++] = c;
}

static void plan_file(struct world *w, int fd, int peer, uint32_t flags)
{
	with_queue(w);
	w->file = fd;
	w->peer = peer;
	CHECK(fd >= 0);
	plan(w, file_change(fd, EPOLLIN, flags, 1));
}

static void add_edge(struct world *w)
{
	plan_file(w, eventfd_make(), -1, 0);
}

static void add_oneshot(struct world *w)
{
	plan_file(w, eventfd_make(), -1, KEVENT_ONESHOT);
	CHECK(!eventfd_fire(w->file));
}

static void add_level(struct world *w)
{
	plan_file(w, eventfd_make(), -1, KEVENT_LEVEL);
	CHECK(!eventfd_fire(w->file));
}

/*
 * A source or none; one that is there reports, once.  One that was ready and is
 * undone has its event in the ring, from where nothing takes it back.
 */
static void check_added(struct world *w, int result)
{
	int ready = eventfd_drain(w->file) == 1;

	CHECK(sources(w) == (result >= 0));
	CHECK(!eventfd_fire(w->file));
	collect(w);
	CHECK(w->nr == (result >= 0) ||
	      (w->nr == 1 && ready && result == -EFAULT));
	CHECK(had(w, 1) == w->nr);
	/* What a level source says does not stay in the way of what follows. */
	if (result >= 0)
		CHECK(remove_id(w->q, w->c[0].id) >= 0);
}

/* Two wait queues: the second hook is allocated. */
static void add_pty(struct world *w)
{
	int master, slave;

	CHECK(!openpty(&master, &slave, NULL, NULL, NULL));
	plan_file(w, slave, master, 0);
}

static void check_pty(struct world *w, int result)
{
	CHECK(sources(w) == (result >= 0));
	CHECK(write(w->peer, "x\n", 2) == 2);
	if (result >= 0) {
		CHECK(get_one(w->q, w->ev) == 1 && w->ev[0].cookie == 1);
		CHECK(remove_id(w->q, w->c[0].id) >= 0);
	}
	CHECK(get_now(w->q) == 0);
}

/* A queue that another watches. */
static void add_queue(struct world *w)
{
	int inner = queue_open(1, 4);

	plan_file(w, inner, -1, 0);
}

static void check_queue(struct world *w, int result)
{
	CHECK(sources(w) == (result >= 0));
	CHECK(!submit_nop(w->file, 1, 2));
	CHECK(result < 0 || (get_one(w->q, w->ev) == 1 && w->ev[0].cookie == 1));
	CHECK(get_now(w->q) == 0);
	if (result >= 0)
		CHECK(remove_id(w->q, w->c[0].id) >= 0);
}

static void add_a_timer(struct world *w)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_TIMER,
		.fd = CLOCK_MONOTONIC, .value = 1000, .cookie = 1,
	};

	with_queue(w);
	plan(w, c);
}

static void check_timer(struct world *w, int result)
{
	CHECK(sources(w) == (result >= 0));
	if (result >= 0) {
		CHECK(get_one(w->q, w->ev) == 1 && w->ev[0].cookie == 1);
		CHECK(remove_id(w->q, w->c[0].id) >= 0);
	}
	/* One that was undone may have expired before. */
	CHECK(get_now(w->q) <= (result < 0));
}

static struct kevent_change user_entry(uint64_t cookie)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_USER,
		.cookie = cookie,
	};

	return c;
}

static void add_a_user(struct world *w)
{
	with_queue(w);
	plan(w, user_entry(1));
}

/* The table of sources is full. */
static void add_grows(struct world *w)
{
	unsigned int i;

	add_a_user(w);
	for (i = 0; i < IO_PAGE / sizeof(long); i++)
		CHECK(!add_user(w->q, 0, 9, NULL));
}

static void add_four(struct world *w)
{
	unsigned int i;

	with_queue(w);
	for (i = 1; i <= 4; i++)
		plan(w, user_entry(i));
}

/* As many sources more as entries say so, and each is its own. */
static void check_users(struct world *w, int result)
{
	int i, added = 0, before = sources(w), done = result < 0 ? 0 : result;

	for (i = 0; i < done; i++) {
		CHECK(w->c[i].result == 0 || w->c[i].result == -ENOMEM);
		if (w->c[i].result)
			continue;
		CHECK(!trigger(w->q, w->c[i].id, 3));
		CHECK(get_one(w->q, w->ev) == 1);
		CHECK(w->ev[0].cookie == w->c[i].cookie && w->ev[0].result == 3);
		CHECK(!remove_id(w->q, w->c[i].id));
		added++;
	}
	CHECK(sources(w) == before - added);
	CHECK(sources(w) % (IO_PAGE / (long)sizeof(long)) == 0);
}

static struct kevent_change op_entry(struct world *w, unsigned int op)
{
	struct kevent_change c = { .op = op, .id = w->id };

	return c;
}

/* A source that is there, and a change of it. */
static void with_file(struct world *w, uint32_t flags)
{
	with_queue(w);
	w->file = eventfd_make();
	CHECK(!add_file(w->q, w->file, EPOLLIN, flags, 1, &w->id));
}

static void modify_file_source(struct world *w)
{
	struct kevent_change c;

	with_file(w, 0);
	c = file_change(0, EPOLLIN | EPOLLOUT, 0, 2);
	c.op = KEVENT_OP_MODIFY;
	c.id = w->id;
	plan(w, c);
}

/* As before or as told, and one event for one news. */
static void check_modified(struct world *w, int result)
{
	CHECK(sources(w) == 1);
	collect(w); /* EPOLLOUT is ready at once */
	CHECK(w->nr == had(w, 2) && w->nr <= 1 && (result < 0 || w->nr));
	CHECK(!eventfd_fire(w->file));
	CHECK(collect(w) == 1);
	CHECK(had(w, 1) + had(w, 2) == w->nr);
	CHECK(remove_id(w->q, w->id) >= 0);
}

static void remove_source(struct world *w)
{
	with_file(w, 0);
	plan(w, op_entry(w, KEVENT_OP_REMOVE));
}

static void remove_and_close(struct world *w)
{
	struct kevent_change c;

	with_file(w, KEVENT_LEVEL);
	c = op_entry(w, KEVENT_OP_REMOVE);
	c.flags = KEVENT_CLOSE_FD;
	c.fd = w->file;
	plan(w, c);
}

/* It is gone or not, also where nobody could be told; with its descriptor. */
static void check_removed(struct world *w, int result)
{
	long left = sources(w);

	CHECK(left == 0 || (left == 1 && result == -EFAULT));
	if (w->c[0].flags & KEVENT_CLOSE_FD)
		CHECK((fcntl(w->file, F_GETFD) >= 0) == left);
	else
		CHECK(!eventfd_fire(w->file));
	if (!left && w->c[0].flags & KEVENT_CLOSE_FD)
		w->file = -1;
	CHECK(get_now(w->q) == (left && !w->c[0].flags));
	if (left)
		CHECK(remove_id(w->q, w->id) >= 0);
}

static void enable_source(struct world *w)
{
	with_file(w, KEVENT_DISABLED);
	CHECK(!eventfd_fire(w->file));
	plan(w, op_entry(w, KEVENT_OP_ENABLE));
}

static void check_enabled(struct world *w, int result)
{
	collect(w);
	CHECK(w->nr == 1 || (!w->nr && result == -EFAULT));
	if (!w->nr)
		CHECK(!enable_id(w->q, w->id) && collect(w) == 1);
	CHECK(remove_id(w->q, w->id) >= 0);
}

static void disable_source(struct world *w)
{
	with_file(w, 0);
	plan(w, op_entry(w, KEVENT_OP_DISABLE));
}

static void check_disabled(struct world *w, int result)
{
	CHECK(!eventfd_fire(w->file));
	collect(w);
	CHECK(w->nr == 0 || (w->nr == 1 && result == -EFAULT));
	CHECK(remove_id(w->q, w->id) >= 0);
}

static void trigger_source(struct world *w)
{
	struct kevent_change c;

	with_queue(w);
	CHECK(!add_user(w->q, 0, 1, &w->id));
	c = op_entry(w, KEVENT_OP_TRIGGER);
	c.value = 7;
	plan(w, c);
}

/* Once or not at all, also where nobody could be told. */
static void check_triggered(struct world *w, int result)
{
	collect(w);
	CHECK(w->nr == 1 || (!w->nr && result == -EFAULT));
	CHECK(!w->nr || w->ev[0].result == 7);
	CHECK(remove_id(w->q, w->id) >= 0);
}

static void ack_source(struct world *w)
{
	with_queue(w);
	CHECK(!add_user(w->q, KEVENT_LEVEL, 1, &w->id));
	CHECK(!trigger(w->q, w->id, 7));
	plan(w, op_entry(w, KEVENT_OP_ACK));
}

static void check_acked(struct world *w, int result)
{
	collect(w);
	CHECK(w->nr == 0 || (w->nr == 1 && result == -EFAULT));
	CHECK(!w->nr || w->ev[0].result == 7);
	CHECK(remove_id(w->q, w->id) >= 0);
}

/* --- collection --- */

/* @n events with the cookies 1 to @n, in rings of @entries. */
static void with_events(struct world *w, int n, unsigned int entries)
{
	int i;

	w->q = queue_open(1, entries);
	for (i = 1; i <= n; i++)
		CHECK(!submit_nop(w->q, i, i));
}

static void eight_events(struct world *w)
{
	with_events(w, 8, 16);
}

static void overflown(struct world *w)
{
	with_events(w, 8, 2);
}

static int run_get(struct world *w, struct kevent_get *g)
{
	int result = ioc(w->q, KEVENT_IOC_GETEVENTS, g);

	/* What it returns counts, also where it could not be stored in @nr. */
	w->nr = result > 0 ? result : 0;
	return result;
}

static int do_get(struct world *w)
{
	struct kevent_get g = get_arg(w->ev, 1, MANY, LONG_NS);

	return run_get(w, &g);
}

static int do_get_masked(struct world *w)
{
	uint64_t mask = 1 << (SIGUSR1 - 1);
	struct kevent_get g = get_arg(w->ev, 1, MANY, LONG_NS);

	g.sigmask = (uintptr_t)&mask;
	g.sigsetsize = sizeof(mask);
	return run_get(w, &g);
}

/* Each of the eight exactly once, over this call and the next. */
static void check_eight(struct world *w, int result)
{
	sigset_t mask;
	int i;

	while (collect(w) > 0)
		;
	CHECK(w->nr == 8);
	for (i = 1; i <= 8; i++)
		CHECK(had(w, i) == 1);
	CHECK(!sigprocmask(SIG_BLOCK, NULL, &mask));
	CHECK(!sigismember(&mask, SIGUSR1));
}

static void four_level(struct world *w)
{
	int i, fd;

	with_queue(w);
	w->file = eventfd_make();
	CHECK(!eventfd_fire(w->file));
	for (i = 1; i <= 4; i++) {
		fd = i == 1 ? w->file : dup(w->file);
		CHECK(!add_file_at(w->q, i % 2, fd, EPOLLIN, KEVENT_LEVEL, i, NULL));
		if (i > 1)
			close(fd);
	}
}

/* They are ready still, and each call says so once; one that faults says less. */
static void check_level(struct world *w, int result)
{
	int i;

	for (i = 1; i <= 4; i++)
		CHECK(had(w, i) <= 1);
	w->nr = 0;
	CHECK(collect(w) == 4);
	for (i = 1; i <= 4; i++)
		CHECK(had(w, i) == 1);
	CHECK(eventfd_drain(w->file) == 1);
	CHECK(get_now(w->q) == 0);
	CHECK(fdinfo(w->q, "hint") == 0);
	close(w->q); /* the sources go with it */
	with_queue(w);
}

static void asleep_soon(struct world *w)
{
	with_queue(w);
	CHECK(!add_timer(w->q, CLOCK_MONOTONIC, 0, 2 * NSEC_PER_MSEC, 0, 1, &w->id));
}

static void check_slept(struct world *w, int result)
{
	if (!w->nr)
		CHECK(get_one(w->q, w->ev) == 1);
	CHECK(w->ev[0].cookie == 1 && w->ev[0].result == 1);
	CHECK(get_now(w->q) == 0);
	CHECK(remove_id(w->q, w->id) >= 0);
}

static int do_wait_mapped(struct world *w)
{
	struct kevent_get g = get_arg(NULL, 1, 0, LONG_NS);

	g.flags = KEVENT_GET_MAPPED;
	return run_get(w, &g);
}

/* Changes first: what was done is told, what was not is not. */
static int do_change_and_get(struct world *w)
{
	struct kevent_get g = get_arg(w->ev, 0, MANY, 0);

	g.changes = (uintptr_t)w->c;
	g.nr_changes = w->nr_c;
	return run_get(w, &g);
}

static void trigger_thrice(struct world *w)
{
	int i;

	trigger_source(w);
	for (i = 0; i < 2; i++)
		plan(w, w->c[0]);
}

static void check_thrice(struct world *w, int result)
{
	int64_t sum = 0;
	int i;

	collect(w);
	for (i = 0; i < w->nr; i++)
		sum += w->ev[i].result;
	CHECK(sum % 7 == 0 && sum <= 21);
	CHECK(sum == 21 || result == -EFAULT);
	CHECK(remove_id(w->q, w->id) >= 0);
}

/* epoll's own memory, and its entry in our queue of pollers. */
static int do_epoll(struct world *w)
{
	struct epoll_event e = { .events = EPOLLIN };

	return sys(epoll_ctl(w->peer, EPOLL_CTL_ADD, w->q, &e));
}

static void with_epoll(struct world *w)
{
	with_queue(w);
	w->peer = epoll_create1(EPOLL_CLOEXEC);
}

static void check_epoll(struct world *w, int result)
{
	struct epoll_event e;

	CHECK(!submit_nop(w->q, 1, 1));
	CHECK(epoll_wait(w->peer, &e, 1, result ? 0 : 20000) == !result);
	CHECK(get_now(w->q) == 1);
}

static void mapped_queue(struct world *w)
{
	with_large_queue(w);
	CHECK(!do_map(w));
	CHECK(!add_user(w->q, 0, 1, &w->id));
}

static int do_fork(struct world *w)
{
	w->child = fork();
	if (!w->child)
		_exit(trigger(w->q, w->id, 1) ? 1 : 0);
	return w->child < 0 ? -errno : 0;
}

static void check_fork(struct world *w, int result)
{
	if (result >= 0)
		CHECK(reap(w->child) == 0);
	CHECK(ring_collect(&w->map, 0, w->ev, 4) == (result >= 0));
	CHECK(!remove_id(w->q, w->id));
	check_map(w, 0);
}

/* --- requests --- */

static void plan_request(struct world *w, struct kevent_change c)
{
	c.cookie = w->nr_c + 1;
	plan(w, c);
}

/*
 * All of them end; those that were accepted with one event, those refused with
 * none, and one whose answer could not be stored with one or none.
 */
static void check_requests(struct world *w, int result)
{
	int i, k, n, done = result < 0 ? 0 : result;

	CHECK(EVENTUALLY(fdinfo(w->q, "requests") == 0));
	while (collect(w) > 0)
		;
	for (i = 0, k = 0; i < w->nr_c; i++) {
		n = had(w, i + 1);
		k += n;
		if (i < done)
			CHECK(n == (w->c[i].result == 0));
		else
			CHECK(n <= (i == done && result != -ENOMEM));
		if (i < done && w->c[i].result)
			CHECK(w->c[i].result == -ENOMEM ||
			      w->c[i].result == -EFAULT ||
			      (w->c[i].result == -ECANCELED && i));
	}
	CHECK(k == w->nr);
}

/* And transferred all, but for what the errno says. */
static void check_transfer(struct world *w, int result)
{
	int i;

	check_requests(w, result);
	for (i = 0; i < w->nr; i++) {
		struct kevent_change *c = &w->c[w->ev[i].cookie - 1];
		int64_t got = w->ev[i].result;

		CHECK(got > 0 || got == -ENOMEM || got == -EFAULT);
		if (got > 0 && c->kind == KEVENT_KIND_READ)
			CHECK(pattern_wrong(w->buffer, got, 1, c->offset) < 0);
	}
}

static void submit_a_nop(struct world *w)
{
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_NOP, .value = 4,
	};

	with_queue(w);
	plan_request(w, c);
}

static void on_storage(struct world *w, enum storage where, int flags)
{
	with_queue(w);
	if (w->kept < 0) {
		w->kept = storage_open(where, flags, SIZE, 1);
		access_later(w->kept);
	}
	CHECK(w->kept >= 0);
	memset(w->buffer, POISON, SIZE);
}

static void read_cached(struct world *w)
{
	on_storage(w, EXT4, 0);
	plan_request(w, read_entry(w->kept, w->buffer, SIZE, 0));
}

static void read_tmpfs(struct world *w)
{
	on_storage(w, TMPFS, 0);
	plan_request(w, read_entry(w->kept, w->buffer, SIZE, 0));
}

static void read_direct(struct world *w)
{
	on_storage(w, DISK, O_DIRECT);
	plan_request(w, read_entry(w->kept, w->buffer, SIZE, 0));
}

static void write_direct(struct world *w)
{
	on_storage(w, DISK, O_DIRECT);
	pattern_fill(w->buffer, SIZE, 1, 0);
	plan_request(w, write_entry(w->kept, w->buffer, SIZE, 0));
}

static void write_tmpfs(struct world *w)
{
	on_storage(w, TMPFS, 0);
	pattern_fill(w->buffer, SIZE, 1, 0);
	plan_request(w, write_entry(w->kept, w->buffer, SIZE, 0));
}

static void in_pieces(struct world *w)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(w->iov); i++)
		w->iov[i] = (struct iovec){ w->buffer + i * IO_PAGE, IO_PAGE };
}

static void readv_tmpfs(struct world *w)
{
	on_storage(w, TMPFS, 0);
	in_pieces(w);
	plan_request(w, io_entry(KEVENT_KIND_READV, w->kept, w->iov,
				 ARRAY_SIZE(w->iov), 0));
}

static void writev_tmpfs(struct world *w)
{
	on_storage(w, TMPFS, 0);
	in_pieces(w);
	pattern_fill(w->buffer, SIZE, 1, 0);
	plan_request(w, io_entry(KEVENT_KIND_WRITEV, w->kept, w->iov,
				 ARRAY_SIZE(w->iov), 0));
}

static void sync_ext4(struct world *w)
{
	on_storage(w, EXT4, 0);
	plan_request(w, sync_entry(w->kept));
}

static void read_proc(struct world *w)
{
	with_queue(w);
	if (w->kept < 0)
		w->kept = open("/proc/version", O_RDONLY | O_CLOEXEC);
	plan_request(w, io_entry(KEVENT_KIND_READV, w->kept, w->iov, 1, 0));
	in_pieces(w);
}

/* First in line is what needs a worker: its chain is pinned as a whole. */
static void chain(struct world *w)
{
	int i;

	on_storage(w, TMPFS, 0);
	pattern_fill(w->buffer, SIZE, 1, 0);
	plan_request(w, write_entry(w->kept, w->buffer, SIZE, 0));
	plan_request(w, sync_entry(w->kept));
	plan_request(w, write_entry(w->kept, w->buffer, IO_PAGE, 0));
	for (i = 0; i < 2; i++)
		w->c[i].flags = KEVENT_LINK;
}

static void wait_for_pipe(struct world *w)
{
	int fds[2];

	with_queue(w);
	CHECK(!pipe2(fds, O_CLOEXEC));
	w->file = fds[0];
	w->peer = fds[1];
	/* Several pages, for which there must be room. */
	plan_request(w, read_entry(w->file, w->buffer, SIZE, 0));
}

static void check_waited(struct world *w, int result)
{
	char bytes[8];

	pattern_fill(bytes, 8, 1, 0);
	CHECK(write(w->peer, bytes, 8) == 8);
	check_transfer(w, result);
	CHECK(!w->nr || w->ev[0].result == 8);
}

static void read_ready(struct world *w)
{
	char bytes[8];

	wait_for_pipe(w);
	pattern_fill(bytes, 8, 1, 0);
	CHECK(write(w->peer, bytes, 8) == 8);
}

static void send_on_socket(struct world *w)
{
	int fds[2];

	with_queue(w);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	w->file = fds[0];
	w->peer = fds[1];
	plan_request(w, write_entry(w->file, w->buffer, 64, 0));
}

/* A socket's own lack of memory is an outcome of the request. */
static void check_sent(struct world *w, int result)
{
	int queued = 0;

	check_requests(w, result);
	CHECK(!ioctl(w->peer, FIONREAD, &queued));
	CHECK(!w->nr || w->ev[0].result == 64 || w->ev[0].result == -ENOBUFS ||
	      w->ev[0].result == -ENOMEM);
	CHECK(queued == (w->nr && w->ev[0].result == 64 ? 64 : 0));
}

static void cancel_waiting(struct world *w)
{
	struct kevent_change c = { .op = KEVENT_OP_CANCEL };

	wait_for_pipe(w);
	CHECK(!change(w->q, &w->c[0]));
	c.id = w->c[0].id;
	w->nr_c = 0;
	plan(w, c);
}

static void cancel_of_file(struct world *w)
{
	struct kevent_change c = {
		.op = KEVENT_OP_CANCEL, .flags = KEVENT_CANCEL_FILE,
	};

	wait_for_pipe(w);
	CHECK(!change(w->q, &w->c[0]));
	c.fd = w->file;
	w->nr_c = 0;
	plan(w, c);
}

/* One end, and the right one. */
static void check_cancelled(struct world *w, int result)
{
	CHECK(write(w->peer, "12345678", 8) == 8);
	CHECK(get_one(w->q, w->ev) == 1);
	CHECK(w->ev[0].result == -ECANCELED ||
	      (result == -EFAULT && w->ev[0].result == 8));
	CHECK(get_now(w->q) == 0);
}

/* --- registered buffers --- */

static int buffers(struct world *w, unsigned int nr, size_t at)
{
	struct kevent_buffer b[2] = {
		{ (uintptr_t)w->buffer + at, 2 * IO_PAGE },
		{ (uintptr_t)w->buffer + at + 2 * IO_PAGE, 2 * IO_PAGE },
	};
	struct kevent_buffers arg = {
		.size = sizeof(arg), .buffers = (uintptr_t)b, .first = 1,
		.nr = nr,
	};

	return ioc(w->q, KEVENT_IOC_BUFFERS, &arg);
}

static int do_register(struct world *w)
{
	return buffers(w, 2, 0);
}

static int do_replace(struct world *w)
{
	return buffers(w, 2, 4 * IO_PAGE);
}

static void with_buffers(struct world *w)
{
	with_queue(w);
	CHECK(do_register(w) == 2);
}

/* Locked beside the rings, in kB; what was let go may take a moment. */
static long locked_by_buffers(struct world *w)
{
	struct kevent_setup s = setup_arg(0, 0);

	CHECK(!ioc(w->q, KEVENT_IOC_INFO, &s));
	return fdinfo(w->q, "locked") -
	       s.nr_rings * (s.ring_bytes + s.claim_bytes) / 1024;
}

static void check_registered(struct world *w, int result)
{
	int n = result < 0 ? 0 : result;

	CHECK(EVENTUALLY(locked_by_buffers(w) == n * 8));
	CHECK(do_register(w) == 2);
	CHECK(EVENTUALLY(locked_by_buffers(w) == 16));
}

static void check_replaced(struct world *w, int result)
{
	CHECK(EVENTUALLY(locked_by_buffers(w) == 16));
	CHECK(do_register(w) == 2);
	CHECK(EVENTUALLY(locked_by_buffers(w) == 16));
}

static void read_to_buffer(struct world *w)
{
	with_buffers(w);
	if (w->kept < 0)
		w->kept = storage_open(DISK, O_DIRECT, SIZE, 1);
	plan_request(w, read_entry(w->kept, w->buffer, 2 * IO_PAGE, 0));
	w->c[0].buffer = 1;
}

/* --- the end --- */

/* With a request that waits, so that a worker is needed to end it. */
static void with_everything(struct world *w)
{
	wait_for_pipe(w);
	CHECK(do_changes(w) == 1);
	CHECK(!add_file(w->q, w->peer, EPOLLERR, KEVENT_LEVEL, 1, NULL));
	CHECK(!add_timer(w->q, CLOCK_MONOTONIC, 0, 1, 1, 2, NULL));
	CHECK(do_register(w) == 2);
}

static int do_close(struct world *w)
{
	int result = sys(close(w->q));

	w->q = -1;
	return result;
}

static void check_closed(struct world *w, int result)
{
	CHECK(fdinfo(w->witness, "user-sources") == 0);
	with_queue(w);
}

/* ------------------------------------------------------------------------ */
/* The sweep */

FIXTURE(faults) {
	struct world w;
};

/* @alone: nobody else of the user has a queue, so the account is made anew. */
FIXTURE_VARIANT(faults) {
	void (*before)(struct world *w);
	int (*path)(struct world *w);
	void (*after)(struct world *w, int result);
	int errors[3];
	int alone;
};

#define PATH(name, before_, path_, after_, ...)				\
	FIXTURE_VARIANT_ADD(faults, name) {				\
		.before = (before_),					\
		.path = (path_),					\
		.after = (after_),					\
		__VA_ARGS__						\
	}
#define FAULT .errors = { EFAULT }
#define MEMORY .errors = { ENOMEM }
#define BOTH .errors = { ENOMEM, EFAULT }

PATH(open, no_queue, do_open, check_open, BOTH);
PATH(open_first, no_queue, do_open, check_open, BOTH, .alone = 1);
PATH(setup, opened, do_setup, check_setup, BOTH);
PATH(info, with_queue, do_info, check_nothing, FAULT);
PATH(map, with_large_queue, do_map, check_map, MEMORY);
PATH(add_edge, add_edge, do_changes, check_added, BOTH);
PATH(add_oneshot, add_oneshot, do_changes, check_added, BOTH);
PATH(add_level, add_level, do_changes, check_added, BOTH);
PATH(add_pty, add_pty, do_changes, check_pty, BOTH);
PATH(add_queue, add_queue, do_changes, check_queue, BOTH);
PATH(add_timer, add_a_timer, do_changes, check_timer, BOTH);
PATH(add_user, add_a_user, do_changes, check_users, BOTH);
PATH(add_grows, add_grows, do_changes, check_users, BOTH);
PATH(add_four, add_four, do_changes, check_users, FAULT);
PATH(modify, modify_file_source, do_changes, check_modified, FAULT);
PATH(remove, remove_source, do_changes, check_removed, FAULT);
PATH(remove_close, remove_and_close, do_changes, check_removed, FAULT);
PATH(enable, enable_source, do_changes, check_enabled, FAULT);
PATH(disable, disable_source, do_changes, check_disabled, FAULT);
PATH(trigger, trigger_source, do_changes, check_triggered, FAULT);
PATH(ack, ack_source, do_changes, check_acked, FAULT);
PATH(get, eight_events, do_get, check_eight, FAULT);
PATH(get_pending, overflown, do_get, check_eight, FAULT);
PATH(get_masked, eight_events, do_get_masked, check_eight, FAULT);
PATH(get_level, four_level, do_get, check_level, FAULT);
PATH(get_asleep, asleep_soon, do_get, check_slept, FAULT);
PATH(wait_mapped, asleep_soon, do_wait_mapped, check_slept, FAULT);
PATH(change_and_get, trigger_thrice, do_change_and_get, check_thrice, FAULT);
PATH(epoll, with_epoll, do_epoll, check_epoll, BOTH);
PATH(fork, mapped_queue, do_fork, check_fork, .errors = { ENOMEM, EAGAIN });
PATH(nop, submit_a_nop, do_changes, check_requests, BOTH);
PATH(read_first, read_tmpfs, do_changes, check_transfer, BOTH, .alone = 1);
PATH(read_cached, read_cached, do_changes, check_transfer, BOTH);
PATH(read_direct, read_direct, do_changes, check_transfer, BOTH);
PATH(write_direct, write_direct, do_changes, check_transfer, BOTH);
PATH(write, write_tmpfs, do_changes, check_transfer, BOTH);
PATH(readv, readv_tmpfs, do_changes, check_transfer, BOTH);
PATH(writev, writev_tmpfs, do_changes, check_transfer, BOTH);
PATH(fsync, sync_ext4, do_changes, check_requests, BOTH);
PATH(read_proc, read_proc, do_changes, check_requests, BOTH);
PATH(chain, chain, do_changes, check_requests, BOTH);
PATH(pipe_waits, wait_for_pipe, do_changes, check_waited, BOTH);
PATH(pipe_ready, read_ready, do_changes, check_transfer, BOTH);
PATH(socket, send_on_socket, do_changes, check_sent, BOTH);
PATH(cancel, cancel_waiting, do_changes, check_cancelled, FAULT);
PATH(cancel_file, cancel_of_file, do_changes, check_cancelled, FAULT);
PATH(buffers, with_queue, do_register, check_registered, BOTH);
PATH(buffers_replaced, with_buffers, do_replace, check_replaced, BOTH);
PATH(read_buffer, read_to_buffer, do_changes, check_transfer, BOTH);
/* Ends well whatever fails. */
PATH(close, with_everything, do_close, check_closed);

FIXTURE_SETUP(faults)
{
	struct world *w = &self->w;

	w->buffer = pages(SIZE);
	w->kept = -1;
	w->witness = variant->alone ? -1 : queue_open(1, 4);
	ASSERT_EQ(0, faults_prepare());
}

FIXTURE_TEARDOWN(faults)
{
	write_text("/proc/sys/kernel/printk", console_level);
	close(self->w.kept);
	close(self->w.witness);
}

static void begin(struct world *w)
{
	w->q = -1;
	w->file = -1;
	w->peer = -1;
	w->map.rings = NULL;
	w->map.claims = NULL;
	w->nr = 0;
	w->nr_c = 0;
}

/* With its queue all goes that is counted for the user. */
static void end(struct world *w)
{
	usable(w);
	close(w->q);
	close(w->file);
	close(w->peer);
	if (w->witness < 0)
		return;
	CHECK(EVENTUALLY(fdinfo(w->witness, "user-sources") == 0));
	CHECK(EVENTUALLY(fdinfo(w->witness, "user-held") == 0));
	CHECK(EVENTUALLY(fdinfo(w->witness, "user-workers") == 0));
}

static int named(const int *errors, int result)
{
	unsigned int i;

	for (i = 0; i < 3 && errors[i]; i++)
		if (result == -errors[i])
			return 1;
	return 0;
}

TEST_F_TIMEOUT(faults, sweep, 300)
{
	struct world *w = &self->w;
	unsigned int n, failed = 0;
	int result, met = 1;

	for (n = 1; met && n < NO_END; n++) {
		begin(w);
		variant->before(w);
		ASSERT_EQ(NULL, w->wrong)
			TH_LOG("before fault %u: %s, line %d", n, w->wrong, w->line);
		fail_at(n);
		result = variant->path(w);
		met = fail_met();
		CHECK(result >= 0 || (met && named(variant->errors, result)));
		variant->after(w, result);
		end(w);
		ASSERT_EQ(NULL, w->wrong)
			TH_LOG("fault %u, met %d, result %d: %s, line %d", n, met,
			       result, w->wrong, w->line);
		failed += result < 0;
	}
	/* The last attempt met none. */
	TH_LOG("%u faults, %u of them an error", n - 2, failed);
	EXPECT_LT(2, n);
	EXPECT_EQ(!!variant->errors[0], !!failed);
	EXPECT_GT(NO_END, n);
}

TEST_HARNESS_MAIN
