// SPDX-License-Identifier: GPL-2.0
/*
 * Each kind of source in each mode, held to one list of promises.
 *
 * A type says how to open something, how to make it ready once more, and how to
 * take that back.  An epoll instance that watches the same file from before is
 * the witness that a wakeup has been through: wait queue entries are called
 * newest first, so when the witness has been called, so has the module.
 */
#include <mqueue.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <termios.h>

#include "kevent_test.h"

struct dev {
	int fd;		/* the file that is watched */
	int peer;
	int witness;
	char name[64];
};

struct type {
	const char *name;
	unsigned int kind;
	int (*open)(struct dev *d);
	int (*fire)(struct dev *d);
	void (*drain)(struct dev *d);
};

/* ------------------------------------------------------------------------ */
/* Types */

static int fire_byte(struct dev *d)
{
	return write(d->peer, "x", 1) == 1 ? 0 : -1;
}

static void drain_bytes(struct dev *d)
{
	char bytes[256];

	while (read(d->fd, bytes, sizeof(bytes)) > 0)
		;
}

static int open_eventfd(struct dev *d)
{
	d->fd = eventfd_make();
	d->peer = dup(d->fd);
	return d->fd;
}

static int fire_eventfd(struct dev *d)
{
	return eventfd_fire(d->peer);
}

static int open_pipe(struct dev *d)
{
	int fds[2];

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -1;
	d->fd = fds[0];
	d->peer = fds[1];
	return 0;
}

static int open_pair(struct dev *d, int type)
{
	int fds[2];

	if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds))
		return -1;
	d->fd = fds[0];
	d->peer = fds[1];
	return 0;
}

static int open_unix_stream(struct dev *d)
{
	return open_pair(d, SOCK_STREAM);
}

static int open_unix_dgram(struct dev *d)
{
	return open_pair(d, SOCK_DGRAM);
}

static int open_unix_seqpacket(struct dev *d)
{
	return open_pair(d, SOCK_SEQPACKET);
}

static int open_tcp(struct dev *d)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t size = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (l < 0 || bind(l, (void *)&a, size) || listen(l, 1) ||
	    getsockname(l, (void *)&a, &size))
		return -1;
	d->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(d->peer, (void *)&a, size))
		return -1;
	d->fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	fcntl(d->peer, F_SETFL, O_NONBLOCK);
	close(l);
	return d->fd;
}

static int open_udp(struct dev *d)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t size = sizeof(a);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	d->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	d->peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(d->fd, (void *)&a, size) ||
	    getsockname(d->fd, (void *)&a, &size))
		return -1;
	return connect(d->peer, (void *)&a, size);
}

static int open_pty(int *master, int *slave)
{
	struct termios raw;

	if (openpty(master, slave, NULL, NULL, NULL))
		return -1;
	tcgetattr(*slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(*slave, TCSANOW, &raw);
	fcntl(*master, F_SETFL, O_NONBLOCK);
	fcntl(*slave, F_SETFL, O_NONBLOCK);
	return 0;
}

static int open_pty_master(struct dev *d)
{
	return open_pty(&d->fd, &d->peer);
}

static int open_pty_slave(struct dev *d)
{
	return open_pty(&d->peer, &d->fd);
}

static int open_timerfd(struct dev *d)
{
	d->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return d->fd;
}

static int fire_timerfd(struct dev *d)
{
	struct itimerspec soon = { .it_value.tv_nsec = 1 };

	return timerfd_settime(d->fd, 0, &soon, NULL);
}

static int open_signalfd(struct dev *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return d->fd;
}

static int fire_signalfd(struct dev *d)
{
	return kill(getpid(), SIGRTMIN);
}

static void drain_signalfd(struct dev *d)
{
	struct signalfd_siginfo info;

	while (read(d->fd, &info, sizeof(info)) > 0)
		;
}

static int open_inotify(struct dev *d)
{
	int file;

	strcpy(d->name, "/tmp/kevent-XXXXXX");
	file = mkstemp(d->name);
	d->peer = file;
	d->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (file < 0 || d->fd < 0)
		return -1;
	return inotify_add_watch(d->fd, d->name, IN_MODIFY | IN_ATTRIB) < 0 ? -1 : 0;
}

/* Two kinds in turn, for inotify drops news that equal the last unread. */
static int fire_inotify(struct dev *d)
{
	static int turn;

	if (turn++ % 2)
		return fchmod(d->peer, 0600);
	return pwrite(d->peer, "x", 1, 0) == 1 ? 0 : -1;
}

static void drain_inotify(struct dev *d)
{
	char bytes[4096];

	while (read(d->fd, bytes, sizeof(bytes)) > 0)
		;
}

static int open_mqueue(struct dev *d)
{
	struct mq_attr attr = { .mq_maxmsg = 10, .mq_msgsize = 8 };

	snprintf(d->name, sizeof(d->name), "/kevent-%d", getpid());
	d->fd = mq_open(d->name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, &attr);
	mq_unlink(d->name);
	d->name[0] = 0;
	return d->fd;
}

static int fire_mqueue(struct dev *d)
{
	return mq_send(d->fd, "x", 1, 0);
}

static void drain_mqueue(struct dev *d)
{
	char bytes[8];

	while (mq_receive(d->fd, bytes, sizeof(bytes), NULL) > 0)
		;
}

/* An epoll instance, readable when the eventfd in it is. */
static int open_epoll(struct dev *d)
{
	struct epoll_event e = { .events = EPOLLIN };

	d->fd = epoll_create1(EPOLL_CLOEXEC);
	d->peer = eventfd_make();
	return epoll_ctl(d->fd, EPOLL_CTL_ADD, d->peer, &e);
}

static void drain_epoll(struct dev *d)
{
	struct epoll_event e;

	eventfd_drain(d->peer);
	epoll_wait(d->fd, &e, 1, 0);
}

/* Another queue, readable when it has an event. */
static int open_queue(struct dev *d)
{
	d->fd = queue_open(1, 64);
	return d->fd;
}

static int fire_queue(struct dev *d)
{
	return submit_nop(d->fd, 1, 1);
}

static void drain_queue(struct dev *d)
{
	while (get_now(d->fd) > 0)
		;
}

static int open_nothing(struct dev *d)
{
	return 0;
}

static void drain_nothing(struct dev *d)
{
}

#define FILE_TYPE(name_, open_, fire_, drain_)				\
	static const struct type name_##_type = {			\
		.name = #name_,						\
		.kind = KEVENT_KIND_FILE,				\
		.open = open_,						\
		.fire = fire_,						\
		.drain = drain_,					\
	}

FILE_TYPE(eventfd, open_eventfd, fire_eventfd, drain_bytes);
FILE_TYPE(pipe, open_pipe, fire_byte, drain_bytes);
FILE_TYPE(unix_stream, open_unix_stream, fire_byte, drain_bytes);
FILE_TYPE(unix_dgram, open_unix_dgram, fire_byte, drain_bytes);
FILE_TYPE(unix_seqpacket, open_unix_seqpacket, fire_byte, drain_bytes);
FILE_TYPE(tcp, open_tcp, fire_byte, drain_bytes);
FILE_TYPE(udp, open_udp, fire_byte, drain_bytes);
FILE_TYPE(pty_master, open_pty_master, fire_byte, drain_bytes);
FILE_TYPE(pty_slave, open_pty_slave, fire_byte, drain_bytes);
FILE_TYPE(timerfd, open_timerfd, fire_timerfd, drain_bytes);
FILE_TYPE(signalfd, open_signalfd, fire_signalfd, drain_signalfd);
FILE_TYPE(inotify, open_inotify, fire_inotify, drain_inotify);
FILE_TYPE(mqueue, open_mqueue, fire_mqueue, drain_mqueue);
FILE_TYPE(epoll, open_epoll, fire_eventfd, drain_epoll);
FILE_TYPE(queue, open_queue, fire_queue, drain_queue);

static const struct type timer_type = {
	"timer", KEVENT_KIND_TIMER, open_nothing, NULL, drain_nothing
};

static const struct type user_type = {
	"user", KEVENT_KIND_USER, open_nothing, NULL, drain_nothing
};

/* ------------------------------------------------------------------------ */
/* A source under test */

struct bench {
	struct queue q;
	struct dev d;
	const struct type *type;
	uint32_t mode;
	uint32_t flags;		/* as last given */
	uint64_t cookie;
	uint64_t id;
};

static int is_file(const struct bench *b)
{
	return b->type->kind == KEVENT_KIND_FILE;
}

static int watch_with_witness(struct dev *d)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };

	d->witness = epoll_create1(EPOLL_CLOEXEC);
	return epoll_ctl(d->witness, EPOLL_CTL_ADD, d->fd, &e);
}

static int bench_open(struct bench *b, const struct type *type, uint32_t mode)
{
	b->type = type;
	b->mode = mode;
	b->d.fd = -1;
	b->d.peer = -1;
	b->d.witness = -1;
	b->cookie = 0x1122334455667788ULL;
	if (queue_make(&b->q, 1, 16) || type->open(&b->d) < 0)
		return -1;
	return is_file(b) ? watch_with_witness(&b->d) : 0;
}

static void bench_close(struct bench *b)
{
	queue_free(&b->q);
	close(b->d.witness);
	close(b->d.fd);
	close(b->d.peer);
	if (b->d.name[0])
		unlink(b->d.name);
}

/* A timer that is not armed far ahead would fire on its own. */
#define FAR (3600ULL * NSEC_PER_SEC)

static struct kevent_change bench_change(struct bench *b, unsigned int op,
					 uint32_t flags)
{
	struct kevent_change c = {
		.op = op,
		.kind = b->type->kind,
		.flags = b->mode | flags,
		.cookie = b->cookie,
		.id = op == KEVENT_OP_ADD ? 0 : b->id,
	};

	b->flags = flags;
	if (is_file(b))
		c.events = EPOLLIN;
	if (is_file(b) && op == KEVENT_OP_ADD)
		c.fd = b->d.fd;
	if (b->type->kind == KEVENT_KIND_TIMER)
		c.value = FAR;
	if (b->type->kind == KEVENT_KIND_TIMER && op == KEVENT_OP_ADD)
		c.fd = CLOCK_MONOTONIC;
	return c;
}

static int bench_add(struct bench *b, uint32_t flags)
{
	struct kevent_change c = bench_change(b, KEVENT_OP_ADD, flags);

	return add(b->q.fd, &c, &b->id);
}

static int bench_modify(struct bench *b, uint32_t flags)
{
	struct kevent_change c = bench_change(b, KEVENT_OP_MODIFY, flags);

	return change(b->q.fd, &c);
}

/* Makes the file ready once more; returns when its wakeup has gone through. */
static int fire_file(struct bench *b)
{
	struct epoll_event e;

	epoll_wait(b->d.witness, &e, 1, 0);
	if (b->type->fire(&b->d))
		return -1;
	/* A queue that is readable already owes its pollers no wakeup. */
	if (b->type == &queue_type)
		return epoll_wait(b->d.witness, &e, 1, 10) < 0;
	return epoll_wait(b->d.witness, &e, 1, 20000) == 1 ? 0 : -1;
}

/* A timer is made to expire at once, if it is enabled. */
static int fire_timer(struct bench *b)
{
	return modify_timer(b->q.fd, b->id, b->mode | b->flags, 1, 0,
			    b->cookie);
}

static int fire(struct bench *b)
{
	if (b->type->kind == KEVENT_KIND_TIMER)
		return fire_timer(b);
	if (b->type->kind == KEVENT_KIND_USER)
		return trigger(b->q.fd, b->id, 1);
	return fire_file(b);
}

static void drain(struct bench *b)
{
	if (is_file(b))
		b->type->drain(&b->d);
	else if (b->mode == KEVENT_LEVEL)
		ack_id(b->q.fd, b->id);
}

static uint16_t expected_flags(const struct bench *b)
{
	if (b->mode == KEVENT_LEVEL)
		return KEVENT_EV_LEVEL;
	return b->mode == KEVENT_ONESHOT ? KEVENT_EV_DISABLED : 0;
}

/* Whether an event is this source's, in every field. */
static int is_ours(const struct bench *b, const struct ukevent *ev)
{
	if (ev->cookie != b->cookie || ev->id != b->id ||
	    ev->kind != b->type->kind || ev->flags != expected_flags(b))
		return 0;
	if (is_file(b))
		return ev->events == EPOLLIN && ev->result == 0;
	return ev->events == 0 && ev->result >= 1;
}

/*
 * How many events there are.  The wakeup of a file has been through when fire()
 * returns; a timer may take a moment.
 */
static int events_left(struct bench *b)
{
	return is_file(b) ? get_now(b->q.fd) : get_soon(b->q.fd);
}

/* Waits for one event, which must be this source's. */
static int one_event(struct bench *b)
{
	struct ukevent ev;

	return get_one(b->q.fd, &ev) == 1 && is_ours(b, &ev);
}

/* ------------------------------------------------------------------------ */
/* The list */

FIXTURE(source) {
	struct bench b;
};

FIXTURE_VARIANT(source) {
	const struct type *type;
	uint32_t mode;
};

#define IN_MODES(type_)							\
	FIXTURE_VARIANT_ADD(source, type_##_edge)			\
		{ &type_##_type, 0 };					\
	FIXTURE_VARIANT_ADD(source, type_##_oneshot)			\
		{ &type_##_type, KEVENT_ONESHOT };			\
	FIXTURE_VARIANT_ADD(source, type_##_level)			\
		{ &type_##_type, KEVENT_LEVEL }

IN_MODES(eventfd);
IN_MODES(pipe);
IN_MODES(unix_stream);
IN_MODES(unix_dgram);
IN_MODES(unix_seqpacket);
IN_MODES(tcp);
IN_MODES(udp);
IN_MODES(pty_master);
IN_MODES(pty_slave);
IN_MODES(timerfd);
IN_MODES(signalfd);
IN_MODES(inotify);
IN_MODES(mqueue);
IN_MODES(epoll);
IN_MODES(queue);
IN_MODES(timer);
IN_MODES(user);

FIXTURE_SETUP(source)
{
	ASSERT_EQ(0, bench_open(&self->b, variant->type, variant->mode));
}

FIXTURE_TEARDOWN(source)
{
	bench_close(&self->b);
}

/* Add: nothing until it is ready, then one event. */
TEST_F(source, add)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	EXPECT_EQ(0, get_now(b->q.fd));
	ASSERT_EQ(0, fire(b));
	EXPECT_TRUE(one_event(b));
}

/* Receipt: an addition has an id and a result, and takes no event. */
TEST_F(source, receipt)
{
	struct bench *b = &self->b;
	struct kevent_change c[2];

	ASSERT_EQ(0, submit_nop(b->q.fd, 1, 1));
	c[0] = bench_change(b, KEVENT_OP_ADD, 0);
	c[1] = c[0];
	ASSERT_EQ(2, changes(b->q.fd, c, 2));
	EXPECT_EQ(0, c[0].result);
	EXPECT_EQ(0, c[1].result);
	EXPECT_NE(0, c[0].id);
	EXPECT_NE(c[0].id, c[1].id);
	EXPECT_EQ(2, sources_of(&b->q, 0));
	EXPECT_EQ(1, get_now(b->q.fd));
}

/* What is ready when it is added is reported at once. */
TEST_F(source, add_ready)
{
	struct bench *b = &self->b;

	if (is_file(b)) {
		ASSERT_EQ(0, fire(b));
	}
	ASSERT_EQ(0, bench_add(b, 0));
	if (!is_file(b)) {
		ASSERT_EQ(0, fire(b));
	}
	EXPECT_TRUE(one_event(b));
}

/* Delete: nothing any more. */
TEST_F(source, remove)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	EXPECT_EQ(0, remove_id(b->q.fd, b->id));
	EXPECT_EQ(0, sources_of(&b->q, 0));
	if (is_file(b)) {
		ASSERT_EQ(0, fire(b));
	}
	EXPECT_EQ(0, events_left(b));
}

/* Delete what is not there: ENOENT. */
TEST_F(source, remove_missing)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, remove_id(b->q.fd, b->id));
	EXPECT_EQ(-ENOENT, remove_id(b->q.fd, b->id));
	EXPECT_EQ(-ENOENT, bench_modify(b, 0));
	EXPECT_EQ(-ENOENT, enable_id(b->q.fd, b->id));
}

/* Disable: nothing while it is disabled. */
TEST_F(source, disable)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, disable_id(b->q.fd, b->id));
	b->flags = KEVENT_DISABLED;
	ASSERT_EQ(0, fire(b));
	EXPECT_EQ(0, events_left(b));
	EXPECT_EQ(0, hint_of(&b->q, 0));
}

/* Added disabled: the same. */
TEST_F(source, add_disabled)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, KEVENT_DISABLED));
	ASSERT_EQ(0, fire(b));
	EXPECT_EQ(0, events_left(b));
	EXPECT_EQ(0, hint_of(&b->q, 0));
}

/* Enable: what is ready now is reported at once. */
TEST_F(source, enable_ready)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, KEVENT_DISABLED));
	ASSERT_EQ(0, fire(b));
	ASSERT_EQ(0, enable_id(b->q.fd, b->id));
	EXPECT_TRUE(one_event(b));
}

/* Enable: what becomes ready later is reported. */
TEST_F(source, enable_then_fire)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, KEVENT_DISABLED));
	ASSERT_EQ(0, enable_id(b->q.fd, b->id));
	b->flags = 0;
	EXPECT_EQ(0, get_now(b->q.fd));
	ASSERT_EQ(0, fire(b));
	EXPECT_TRUE(one_event(b));
}

/* Modify can disable and enable. */
TEST_F(source, modify_disables)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, bench_modify(b, KEVENT_DISABLED));
	ASSERT_EQ(0, fire(b));
	EXPECT_EQ(0, events_left(b));
	ASSERT_EQ(0, bench_modify(b, 0));
	if (!is_file(b)) {
		ASSERT_EQ(0, fire(b));
	}
	EXPECT_TRUE(one_event(b));
}

/* Modify replaces the cookie, and adds no source. */
TEST_F(source, modify_cookie)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	b->cookie = ~b->cookie;
	ASSERT_EQ(0, bench_modify(b, 0));
	EXPECT_EQ(1, sources_of(&b->q, 0));
	ASSERT_EQ(0, fire(b));
	EXPECT_TRUE(one_event(b));
}

/* Modify replaces the mode, both ways. */
TEST_F(source, modify_mode)
{
	static const uint32_t modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL, 0 };
	struct bench *b = &self->b;
	uint32_t mode = b->mode;
	unsigned int i;

	ASSERT_EQ(0, bench_add(b, 0));
	for (i = 0; i <= ARRAY_SIZE(modes); i++) {
		b->mode = i < ARRAY_SIZE(modes) ? modes[i] : mode;
		ASSERT_EQ(0, bench_modify(b, 0));
		ASSERT_EQ(0, fire(b));
		ASSERT_TRUE(one_event(b));
		drain(b);
		ASSERT_EQ(0, events_left(b));
		ASSERT_EQ(0, hint_of(&b->q, 0));
	}
}

/* The cookie is kept over events, disabling and enabling. */
TEST_F(source, cookie_kept)
{
	struct bench *b = &self->b;
	int i;

	ASSERT_EQ(0, bench_add(b, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, fire(b));
		ASSERT_TRUE(one_event(b));
		drain(b);
		ASSERT_EQ(0, disable_id(b->q.fd, b->id));
		ASSERT_EQ(0, enable_id(b->q.fd, b->id));
		events_left(b);
		drain(b);
		get_now(b->q.fd);
		b->flags = 0;
	}
}

/* Disable drains: an unclaimed event may stay, nothing is added to it. */
TEST_F(source, disable_drains)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, fire(b));
	ASSERT_EQ(0, disable_id(b->q.fd, b->id));
	b->flags = KEVENT_DISABLED;
	EXPECT_GE(b->mode == KEVENT_LEVEL ? 0 : 1, events_left(b));
	if (b->type->kind != KEVENT_KIND_USER) {
		ASSERT_EQ(0, fire(b));
	}
	EXPECT_EQ(0, events_left(b));
}

/* Delete drains: the result tells whether an unclaimed event is left. */
TEST_F(source, remove_drains)
{
	struct bench *b = &self->b;
	int left;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, fire(b));
	left = remove_id(b->q.fd, b->id);
	ASSERT_TRUE(left == 0 || left == KEVENT_UNCLAIMED);
	EXPECT_EQ(left, events_left(b));
	if (b->mode == KEVENT_LEVEL)
		EXPECT_EQ(0, left);
	if (is_file(b)) {
		ASSERT_EQ(0, fire(b));
	}
	EXPECT_EQ(0, get_now(b->q.fd));
}

/* Several queues watch the same: each has its event. */
TEST_F(source, several_queues)
{
	struct bench *b = &self->b, other = *b;

	if (!is_file(b))
		return;	/* a timer or user event is of one queue */
	ASSERT_EQ(0, queue_make(&other.q, 1, 16));
	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, bench_add(&other, 0));
	ASSERT_EQ(0, fire(b));
	EXPECT_TRUE(one_event(b));
	EXPECT_TRUE(one_event(&other));
	queue_free(&other.q);
}

/* Two sources of one queue watch the same: each has its event. */
TEST_F(source, twice)
{
	struct bench *b = &self->b;
	struct ukevent ev[4];
	uint64_t first;

	if (!is_file(b))
		return;	/* a timer or user event is one source */
	ASSERT_EQ(0, bench_add(b, 0));
	first = b->id;
	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, fire(b));
	/* A call that stored a level event does not wait for the other. */
	ASSERT_EQ(2, get(b->q.fd, ev, 2, 4, LONG_NS));
	EXPECT_NE(ev[0].id, ev[1].id);
	EXPECT_TRUE(ev[0].id == first || ev[1].id == first);
}

/* Edge and oneshot report once, level for as long as it is ready. */
TEST_F(source, edge_or_level)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, fire(b));
	ASSERT_TRUE(one_event(b));
	EXPECT_EQ(b->mode == KEVENT_LEVEL, get_now(b->q.fd));
	EXPECT_EQ(b->mode == KEVENT_LEVEL, get_now(b->q.fd));
	drain(b);
	EXPECT_EQ(0, get_now(b->q.fd));
	EXPECT_EQ(0, hint_of(&b->q, 0));
	EXPECT_EQ(0, need_enter_of(&b->q, 0));
	EXPECT_EQ(0, pending_of(&b->q, 0));
}

/* Ready again after being drained: reported again, but for oneshot. */
TEST_F(source, again)
{
	struct bench *b = &self->b;
	int i;

	ASSERT_EQ(0, bench_add(b, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, fire(b));
		if (b->mode != KEVENT_ONESHOT || !i ||
		    b->type->kind == KEVENT_KIND_TIMER)
			EXPECT_TRUE(one_event(b));
		drain(b);
		EXPECT_EQ(0, get_now(b->q.fd));
	}
}

/* News beside an unclaimed event adds none. */
TEST_F(source, coalesce)
{
	struct bench *b = &self->b;
	int i;

	if (b->type->kind == KEVENT_KIND_TIMER)
		return;	/* MODIFY begins anew; timers.c has the counts */
	ASSERT_EQ(0, bench_add(b, 0));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, fire(b));
	}
	EXPECT_TRUE(one_event(b));
	drain(b);
	/* A user event may have to report the rest of its sum. */
	EXPECT_GE(b->type->kind == KEVENT_KIND_USER, events_left(b));
}

/* Oneshot and ENABLE: once more. */
TEST_F(source, oneshot_rearm)
{
	struct bench *b = &self->b;
	int i;

	if (b->mode != KEVENT_ONESHOT)
		return;	/* the variants of the other modes */
	ASSERT_EQ(0, bench_add(b, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, fire(b));
		ASSERT_TRUE(one_event(b));
		drain(b);
		ASSERT_EQ(0, get_now(b->q.fd));
		ASSERT_EQ(0, bench_modify(b, 0));
	}
}

/* The mapped ring holds edges, and never a level event. */
TEST_F(source, mapped)
{
	struct bench *b = &self->b;
	struct ukevent ev[4];

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, fire(b));
	if (b->mode == KEVENT_LEVEL) {
		EXPECT_TRUE(EVENTUALLY(hint_of(&b->q, 0)));
		EXPECT_EQ(1, get_level(b->q.fd, ev, 4));
		EXPECT_EQ(0, ring_collect(&b->q, 0, ev, 4));
		return;
	}
	/* A wakeup without a key shows in need_enter until the ioctl. */
	EXPECT_EQ(0, mapped_wait(&b->q, 0, 1, NULL, 0, LONG_NS));
	ASSERT_EQ(1, ring_collect(&b->q, 0, ev, 4));
	EXPECT_TRUE(is_ours(b, &ev[0]));
	EXPECT_EQ(0, need_enter_of(&b->q, 0));
}

/* A sleeper wakes for it. */
TEST_F(source, wakes)
{
	struct bench *b = &self->b;
	pid_t pid;

	if (b->type == &signalfd_type)
		return;	/* of the process that reads; the next test */
	ASSERT_EQ(0, bench_add(b, 0));
	pid = fork();
	if (!pid)
		_exit(fire(b) ? 1 : 0);
	EXPECT_TRUE(one_event(b));
	EXPECT_EQ(0, reap(pid));
}

static void *fire_thread(void *arg)
{
	return (void *)(intptr_t)fire(arg);
}

/* A sleeper wakes for what another thread does. */
TEST_F(source, wakes_thread)
{
	struct bench *b = &self->b;
	pthread_t t;
	void *result;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, pthread_create(&t, NULL, fire_thread, b));
	EXPECT_TRUE(one_event(b));
	EXPECT_EQ(0, join(t, &result));
	EXPECT_EQ(NULL, result);
}

/* Removal races with news: no event comes after REMOVE has returned. */
TEST_F(source, remove_race)
{
	struct bench *b = &self->b;
	int i, left, late = 0;
	pthread_t t;

	if (!is_file(b))
		return;	/* threads.c */
	for (i = 0; i < (int)scaled(20); i++) {
		ASSERT_EQ(0, bench_add(b, 0));
		ASSERT_EQ(0, pthread_create(&t, NULL, fire_thread, b));
		left = remove_id(b->q.fd, b->id);
		late += get_now(b->q.fd) > left;
		ASSERT_EQ(0, join(t, NULL));
		late += get_now(b->q.fd) > 0;
		drain(b);
	}
	EXPECT_EQ(0, late);
}

/* ------------------------------------------------------------------------ */
/* What is always reported, and what wakeups leave out */

FIXTURE(hangup) {
	struct bench b;
};

FIXTURE_VARIANT(hangup) {
	const struct type *type;
	uint32_t mode;
	uint32_t ask;
	uint32_t expect;
};

#define HANGUP(name, type_, ask_, expect_)				\
	FIXTURE_VARIANT_ADD(hangup, name##_edge)			\
		{ &type_##_type, 0, ask_, expect_ };			\
	FIXTURE_VARIANT_ADD(hangup, name##_oneshot)			\
		{ &type_##_type, KEVENT_ONESHOT, ask_, expect_ };	\
	FIXTURE_VARIANT_ADD(hangup, name##_level)			\
		{ &type_##_type, KEVENT_LEVEL, ask_, expect_ }

HANGUP(pipe, pipe, EPOLLIN, EPOLLHUP);
HANGUP(pipe_pri, pipe, EPOLLPRI, EPOLLHUP);
HANGUP(unix_stream, unix_stream, EPOLLPRI, EPOLLHUP);
HANGUP(unix_rdhup, unix_stream, EPOLLRDHUP, EPOLLHUP | EPOLLRDHUP);
HANGUP(tcp_fin, tcp, EPOLLIN, EPOLLIN);
HANGUP(tcp_rdhup, tcp, EPOLLRDHUP, EPOLLRDHUP);
HANGUP(pty_master, pty_master, EPOLLPRI, EPOLLHUP);
/* It is woken with EPOLLIN; who reads then finds the end. */
HANGUP(pty_slave, pty_slave, EPOLLIN, EPOLLIN);

FIXTURE_SETUP(hangup)
{
	ASSERT_EQ(0, bench_open(&self->b, variant->type, variant->mode));
}

FIXTURE_TEARDOWN(hangup)
{
	bench_close(&self->b);
}

/* Collects until the bits have been seen. */
static int saw_bits(int fd, uint32_t bits)
{
	int64_t end = now_ns() + LONG_NS;
	struct ukevent ev;
	uint32_t seen = 0;

	while ((seen & bits) != bits && now_ns() < end)
		if (get(fd, &ev, 1, 1, end - now_ns()) == 1)
			seen |= ev.events;
	return (seen & bits) == bits;
}

/* The other end goes away: reported, asked for or not. */
TEST_F(hangup, reported)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, add_file(b->q.fd, b->d.fd, variant->ask, b->mode, 1,
			      &b->id));
	EXPECT_EQ(0, get_now(b->q.fd));
	close(b->d.peer);
	b->d.peer = -1;
	EXPECT_TRUE(saw_bits(b->q.fd, variant->expect));
}

/* The same while a readable event is unclaimed, where it can be. */
TEST_F(hangup, beside_unclaimed)
{
	struct bench *b = &self->b;
	struct pollfd p = { .fd = b->d.fd, .events = variant->expect };
	struct ukevent ev;

	ASSERT_EQ(0, add_file(b->q.fd, b->d.fd, variant->ask | EPOLLIN,
			      b->mode, 1, &b->id));
	ASSERT_EQ(0, fire(b));
	close(b->d.peer);
	b->d.peer = -1;
	if (b->mode != KEVENT_ONESHOT) {
		EXPECT_TRUE(saw_bits(b->q.fd, variant->expect));
		return;
	}
	/*
	 * A oneshot has its one event; the rest comes with MODIFY, if the file has
	 * heard of it: a TCP connection may do so a moment later.
	 */
	ASSERT_EQ(1, get_one(b->q.fd, &ev));
	EXPECT_TRUE(EVENTUALLY(poll(&p, 1, 0) == 1 &&
			       (p.revents & variant->expect) == variant->expect));
	ASSERT_EQ(0, modify_file(b->q.fd, b->id, variant->ask | EPOLLIN,
				 b->mode, 1));
	EXPECT_TRUE(saw_bits(b->q.fd, variant->expect));
}

/* What is gone when it is added is reported at once. */
TEST_F(hangup, before_add)
{
	struct bench *b = &self->b;
	struct pollfd p = { .fd = b->d.fd };

	close(b->d.peer);
	b->d.peer = -1;
	/* A pty or a TCP connection hears of it a moment later. */
	p.events = variant->ask | EPOLLIN | EPOLLRDHUP;
	ASSERT_TRUE(EVENTUALLY(poll(&p, 1, 0) == 1));
	ASSERT_EQ(0, add_file(b->q.fd, b->d.fd, variant->ask, b->mode, 1,
			      &b->id));
	EXPECT_TRUE(saw_bits(b->q.fd, variant->expect));
}

FIXTURE(edge) {
	struct bench b;
};

FIXTURE_SETUP(edge)
{
	ASSERT_EQ(0, bench_open(&self->b, &tcp_type, 0));
}

FIXTURE_TEARDOWN(edge)
{
	bench_close(&self->b);
}

static void reset_on_close(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

/* A reset beside an unclaimed readable event is reported. */
TEST_F(edge, reset_beside_unclaimed)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, bench_add(b, 0));
	ASSERT_EQ(0, fire(b));
	ASSERT_EQ(1, tail_of(&b->q, 0) - head_of(&b->q, 0));
	reset_on_close(b->d.peer);
	EXPECT_TRUE(saw_bits(b->q.fd, EPOLLHUP | EPOLLERR));
}

/* A reset is reported without having been asked for. */
TEST_F(edge, reset)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, add_file(b->q.fd, b->d.fd, EPOLLPRI, 0, 1, &b->id));
	reset_on_close(b->d.peer);
	EXPECT_TRUE(saw_bits(b->q.fd, EPOLLHUP | EPOLLERR));
}

/* Shutdown of the peer's writing, with an unclaimed readable event. */
TEST_F(edge, fin_beside_unclaimed)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, add_file(b->q.fd, b->d.fd, EPOLLIN | EPOLLRDHUP, 0, 1,
			      &b->id));
	ASSERT_EQ(0, fire(b));
	shutdown(b->d.peer, SHUT_WR);
	EXPECT_TRUE(saw_bits(b->q.fd, EPOLLIN | EPOLLRDHUP));
}

/* Out-of-band data are EPOLLPRI. */
TEST_F(edge, urgent)
{
	struct bench *b = &self->b;

	ASSERT_EQ(0, add_file(b->q.fd, b->d.fd, EPOLLPRI, 0, 1, &b->id));
	ASSERT_EQ(1, send(b->d.peer, "!", 1, MSG_OOB));
	EXPECT_TRUE(saw_bits(b->q.fd, EPOLLPRI));
}

static int fill(int fd)
{
	static char zeros[65536];
	int n = 0;

	while (write(fd, zeros, sizeof(zeros)) > 0)
		n++;
	return n;
}

static void empty(int fd)
{
	static char bytes[65536];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

/* Writable while the readable event is unclaimed: both bits are seen. */
TEST(both_bits)
{
	struct bench b = { };
	struct ukevent ev[4];
	int n;

	ASSERT_EQ(0, bench_open(&b, &unix_stream_type, 0));
	ASSERT_LT(0, fill(b.d.fd));
	ASSERT_EQ(0, add_file(b.q.fd, b.d.fd, EPOLLIN | EPOLLOUT, 0, 1, &b.id));
	ASSERT_EQ(0, fire(&b));
	empty(b.d.peer);
	ASSERT_TRUE(EVENTUALLY(tail_of(&b.q, 0) == 2));
	n = get(b.q.fd, ev, 0, 4, 0);
	ASSERT_EQ(2, n);
	EXPECT_EQ(EPOLLIN, ev[0].events);
	/* An entry for new bits carries the union with the unclaimed ones. */
	EXPECT_EQ(EPOLLIN | EPOLLOUT, ev[1].events);
	bench_close(&b);
}

/* A source has never more entries than bits that it asked for. */
TEST(entries_bounded)
{
	struct bench b = { };
	int i;

	ASSERT_EQ(0, bench_open(&b, &unix_stream_type, 0));
	ASSERT_EQ(0, add_file(b.q.fd, b.d.fd, EPOLLIN | EPOLLOUT, 0, 1, &b.id));
	for (i = 0; i < 50; i++) {
		fill(b.d.fd);
		ASSERT_EQ(0, b.type->fire(&b.d));
		empty(b.d.peer);
	}
	EXPECT_GE(2, tail_of(&b.q, 0) - head_of(&b.q, 0));
	EXPECT_EQ(0, pending_of(&b.q, 0));
	bench_close(&b);
}

/* A pipe's writer hears of room, and of the reader's end. */
TEST(pipe_writer)
{
	struct queue q;
	int fds[2];

	ASSERT_EQ(0, queue_make(&q, 1, 16));
	ASSERT_EQ(0, pipe2(fds, O_NONBLOCK));
	fill(fds[1]);
	ASSERT_EQ(0, add_file(q.fd, fds[1], EPOLLOUT, 0, 1, NULL));
	EXPECT_EQ(0, get_now(q.fd));
	empty(fds[0]);
	EXPECT_TRUE(saw_bits(q.fd, EPOLLOUT));
	close(fds[0]);
	EXPECT_TRUE(saw_bits(q.fd, EPOLLERR));
	queue_free(&q);
}

/* A listening socket is ready when a connection waits; connect is reported. */
TEST(listen_and_connect)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t size = sizeof(a);
	struct ukevent ev;
	struct queue q;
	int l, c;

	ASSERT_EQ(0, queue_make(&q, 1, 16));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ASSERT_EQ(0, bind(l, (void *)&a, size));
	ASSERT_EQ(0, listen(l, 1));
	ASSERT_EQ(0, getsockname(l, (void *)&a, &size));
	ASSERT_EQ(0, add_file(q.fd, l, EPOLLIN, KEVENT_LEVEL, 1, NULL));
	EXPECT_EQ(0, get_now(q.fd));
	connect(c, (void *)&a, size);
	ASSERT_EQ(0, add_file(q.fd, c, EPOLLOUT, 0, 2, NULL));
	EXPECT_TRUE(saw_bits(q.fd, EPOLLIN));
	close(accept(l, NULL, NULL));
	EXPECT_TRUE(EVENTUALLY(get_now(q.fd) == 0));
	ASSERT_EQ(0, get(q.fd, &ev, 0, 1, 0));
	queue_free(&q);
}

/* A refused connection is reported to one who waits to write. */
TEST(connect_refused)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t size = sizeof(a);
	struct queue q;
	int l, c;

	ASSERT_EQ(0, queue_make(&q, 1, 16));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_EQ(0, bind(l, (void *)&a, size));
	ASSERT_EQ(0, getsockname(l, (void *)&a, &size));
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ASSERT_EQ(0, add_file(q.fd, c, EPOLLIN, 0, 1, NULL));
	connect(c, (void *)&a, size);
	EXPECT_TRUE(saw_bits(q.fd, EPOLLERR | EPOLLHUP));
	queue_free(&q);
	close(l);
	close(c);
}

static int pidfd_of(pid_t pid)
{
	return syscall(SYS_pidfd_open, pid, 0);
}

static pid_t fork_idle(void)
{
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(0);
	}
	return pid;
}

/* A process that ends makes its pidfd ready, in every mode. */
TEST(pidfd)
{
	static const uint32_t modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL };
	struct ukevent ev;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		int queue = queue_open(1, 16), fd;
		pid_t pid = fork_idle();

		fd = pidfd_of(pid);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, add_file(queue, fd, EPOLLIN, modes[i], i, NULL));
		EXPECT_EQ(0, get_now(queue));
		kill(pid, SIGKILL);
		ASSERT_EQ(1, get_one(queue, &ev));
		EXPECT_EQ(i, ev.cookie);
		EXPECT_TRUE(ev.events & EPOLLIN);
		waitpid(pid, NULL, 0);
		close(fd);
		close(queue);
	}
}

/* A pidfd of a process that has ended already is reported at once. */
TEST(pidfd_late)
{
	int queue = queue_open(1, 16), fd;
	struct ukevent ev;
	siginfo_t info;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	fd = pidfd_of(pid);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	ASSERT_EQ(0, add_file(queue, fd, EPOLLIN, 0, 1, NULL));
	EXPECT_EQ(1, get_one(queue, &ev));
	waitpid(pid, NULL, 0);
	close(queue);
}

/* A keyless wakeup shows in need_enter, and the ioctl takes it down. */
TEST(need_enter)
{
	struct bench b = { };
	struct ukevent ev[4];

	ASSERT_EQ(0, bench_open(&b, &inotify_type, 0));
	ASSERT_EQ(0, bench_add(&b, 0));
	ASSERT_EQ(0, need_enter_of(&b.q, 0));
	ASSERT_EQ(0, fire(&b));
	EXPECT_EQ(1, need_enter_of(&b.q, 0));
	EXPECT_EQ(0, ring_collect(&b.q, 0, ev, 4));
	EXPECT_EQ(0, get_level(b.q.fd, ev, 4));
	EXPECT_EQ(0, need_enter_of(&b.q, 0));
	EXPECT_EQ(1, ring_collect(&b.q, 0, ev, 4));
	bench_close(&b);
}

/* A keyless wakeup of a file that was drained since: no event. */
TEST(need_enter_drained)
{
	struct bench b = { };

	ASSERT_EQ(0, bench_open(&b, &inotify_type, 0));
	ASSERT_EQ(0, bench_add(&b, 0));
	ASSERT_EQ(0, fire(&b));
	drain(&b);
	EXPECT_EQ(0, get_now(b.q.fd));
	EXPECT_EQ(0, need_enter_of(&b.q, 0));
	bench_close(&b);
}

/* The queue's own poll says readable when a source waits to be polled again. */
TEST(need_enter_polls)
{
	struct bench b = { };
	struct pollfd p = { .events = POLLIN };

	ASSERT_EQ(0, bench_open(&b, &inotify_type, 0));
	ASSERT_EQ(0, bench_add(&b, 0));
	p.fd = b.q.fd;
	ASSERT_EQ(0, poll(&p, 1, 0));
	ASSERT_EQ(0, fire(&b));
	EXPECT_EQ(1, poll(&p, 1, 20000));
	EXPECT_EQ(1, get_now(b.q.fd));
	EXPECT_EQ(0, poll(&p, 1, 0));
	bench_close(&b);
}

/* A signalfd that a child added is not answered for by the parent. */
TEST(signalfd_of_child)
{
	int fd = queue_open(1, 16), out[2];
	struct ukevent ev;
	pid_t pid;
	char byte;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe(out));
	pid = fork();
	if (!pid) {
		struct dev d = { };

		if (open_signalfd(&d) < 0 ||
		    add_file(fd, d.fd, EPOLLIN, 0, 7, NULL))
			_exit(1);
		if (write(out[1], "x", 1) != 1)
			_exit(1);
		/* Only this process can find the signal. */
		_exit(get_one(fd, &ev) == 1 && ev.cookie == 7 ? 0 : 2);
	}
	ASSERT_EQ(1, read(out[0], &byte, 1));
	ASSERT_TRUE(asleep(pid));
	ASSERT_EQ(0, kill(pid, SIGRTMIN));
	EXPECT_EQ(0, reap(pid));
	close(fd);
}

/* Nor does it keep the parent from sleeping. */
TEST(signalfd_lets_sleep)
{
	struct rusage before, after;
	struct ukevent ev;
	struct queue q;
	int out[2];
	pid_t pid;
	char byte;

	ASSERT_EQ(0, queue_make(&q, 1, 16));
	ASSERT_EQ(0, pipe(out));
	pid = fork();
	if (!pid) {
		struct dev d = { };

		if (open_signalfd(&d) < 0 ||
		    add_file(q.fd, d.fd, EPOLLIN, 0, 7, NULL) ||
		    write(out[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ASSERT_EQ(1, read(out[0], &byte, 1));
	ASSERT_EQ(0, kill(pid, SIGRTMIN));
	EXPECT_EQ(1, need_enter_of(&q, 0));
	getrusage(RUSAGE_THREAD, &before);
	EXPECT_EQ(0, get(q.fd, &ev, 1, 1, 10 * SHORT_NS));
	getrusage(RUSAGE_THREAD, &after);
	/* It gave the CPU away, and had it not taken. */
	EXPECT_LT(before.ru_nvcsw, after.ru_nvcsw);
	EXPECT_EQ(1, need_enter_of(&q, 0));
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, reap(pid));
	queue_free(&q);
}

#define CROWD 100

/* As many sources as one signal makes stale at once; cookies from @first */
static int add_crowd(int queue, struct dev *d, unsigned int first)
{
	unsigned int i;

	for (i = first; i < first + CROWD; i++)
		if (open_signalfd(d) < 0 || add_file(queue, d->fd, EPOLLIN, 0, i, NULL))
			return -1;
	return 0;
}

/* 0 if all of those from @first were told of, each once, and no other. */
static int get_crowd(int queue, unsigned int first, unsigned int max)
{
	bool seen[CROWD] = { };
	unsigned int left = CROWD;

	while (left) {
		struct ukevent ev[CROWD];
		int n = get(queue, ev, 1, max, LONG_NS), i;

		if (n <= 0 || (unsigned int)n > left)
			return -1;
		left -= n;
		for (i = 0; i < n; i++) {
			if (ev[i].cookie < first || ev[i].cookie >= first + CROWD ||
			    seen[ev[i].cookie - first])
				return -1;
			seen[ev[i].cookie - first] = true;
		}
	}
	return 0;
}

/* One's own are found behind and among many of another process. */
TEST(signalfds_of_two)
{
	struct pollfd p = { .events = POLLIN };
	struct dev d = { };
	struct queue q;
	int out[2], in[2];
	pid_t pid;
	char byte;

	ASSERT_EQ(0, queue_make(&q, 1, 256));
	ASSERT_EQ(0, pipe(out));
	ASSERT_EQ(0, pipe(in));
	pid = fork();
	if (!pid) {
		if (add_crowd(q.fd, &d, 1000) || write(out[1], "x", 1) != 1 ||
		    read(in[0], &byte, 1) != 1)
			_exit(1);
		_exit(get_crowd(q.fd, 1000, CROWD) ? 2 : 0);
	}
	ASSERT_EQ(1, read(out[0], &byte, 1));
	ASSERT_EQ(0, add_crowd(q.fd, &d, 0));
	ASSERT_EQ(0, kill(pid, SIGRTMIN));
	EXPECT_EQ(CROWD, need_enter_of(&q, 0));
	ASSERT_EQ(0, fire_signalfd(&d));
	EXPECT_EQ(2 * CROWD, need_enter_of(&q, 0));
	p.fd = q.fd;
	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(0, get_crowd(q.fd, 0, 7));
	EXPECT_EQ(CROWD, need_enter_of(&q, 0));
	EXPECT_EQ(0, poll(&p, 1, 0));
	ASSERT_EQ(1, write(in[1], "x", 1));
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, need_enter_of(&q, 0));
	queue_free(&q);
}

/*
 * One process of two that share @queue.  @told: how often each source was told of, by
 * whichever took its event, which is once for each signal.
 */
static int crowd_of_two(int queue, uint32_t *told, unsigned int first)
{
	unsigned int rounds = scaled(100), round, i;
	struct dev d = { };

	if (add_crowd(queue, &d, first))
		return 1;
	for (round = 1; round <= rounds; round++) {
		int64_t end = now_ns() + LONG_NS;

		if (fire_signalfd(&d))
			return 2;
		for (i = first; i < first + CROWD;) {
			uint32_t times = __atomic_load_n(&told[i], __ATOMIC_RELAXED);
			struct ukevent ev[16];
			int n;

			if (times > round || now_ns() > end)
				return 3;
			if (times == round) {
				i++;
				continue;
			}
			n = get(queue, ev, 1, 16, SHORT_NS);
			if (n < 0 && n != -ETIME)
				return 4;
			while (n-- > 0)
				__atomic_add_fetch(&told[ev[n].cookie], 1,
						   __ATOMIC_RELAXED);
		}
		drain_signalfd(&d);
	}
	return 0;
}

/* Both look for their own at once. */
TEST(signalfds_race)
{
	uint32_t *told = mmap(NULL, 2 * CROWD * sizeof(*told), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int queue = queue_open(1, 256);
	pid_t pid[2];
	unsigned int i;

	ASSERT_NE(MAP_FAILED, told);
	ASSERT_LE(0, queue);
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(crowd_of_two(queue, told, i * CROWD));
	}
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, reap(pid[i]));
	close(queue);
	munmap(told, 2 * CROWD * sizeof(*told));
}

/* The thread that a signalfd was added by exits: the queue lives on. */
TEST(signalfd_exit)
{
	int fd = queue_open(1, 16), i;

	for (i = 0; i < (int)scaled(50); i++) {
		pid_t pid = fork();

		if (!pid) {
			struct dev d = { };

			if (open_signalfd(&d) < 0 ||
			    add_file(fd, d.fd, EPOLLIN, i % 2 ? KEVENT_LEVEL :
				     0, 7, NULL))
				_exit(1);
			_exit(0);
		}
		ASSERT_EQ(0, reap(pid));
		ASSERT_LE(0, get_now(fd));
	}
	close(fd);
}

/* All directions of a pty at once, in all modes. */
TEST(pty_both_ways)
{
	static const uint32_t modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL };
	struct ukevent ev[8];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		int queue = queue_open(1, 16), master, slave, n, k;
		uint32_t seen = 0;

		ASSERT_EQ(0, open_pty(&master, &slave));
		ASSERT_EQ(0, add_file(queue, master, EPOLLIN, modes[i], 1,
				      NULL));
		ASSERT_EQ(0, add_file(queue, slave, EPOLLIN, modes[i], 2,
				      NULL));
		ASSERT_EQ(1, write(master, "a", 1));
		ASSERT_EQ(1, write(slave, "b", 1));
		while (seen != 3) {
			n = get(queue, ev, 1, 8, LONG_NS);
			ASSERT_LT(0, n);
			for (k = 0; k < n; k++)
				seen |= ev[k].cookie;
		}
		close(queue);
		close(master);
		close(slave);
	}
}

struct add_race {
	int fd;
	int go;
	int fired;
};

static void *add_race_writer(void *arg)
{
	struct add_race *r = arg;

	while (!__atomic_load_n(&r->go, __ATOMIC_ACQUIRE))
		;
	eventfd_fire(r->fd);
	__atomic_store_n(&r->fired, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* An event between poll and hooking is not missed: a writer races ADD. */
TEST(add_race)
{
	int rounds = scaled(2000), i, before = 0;
	int queue = queue_open(1, 16);
	struct ukevent ev;
	uint64_t id;

	for (i = 0; i < rounds; i++) {
		struct add_race r = { .fd = eventfd_make() };
		pthread_t t;

		ASSERT_EQ(0, pthread_create(&t, NULL, add_race_writer, &r));
		__atomic_store_n(&r.go, 1, __ATOMIC_RELEASE);
		ASSERT_EQ(0, add_file(queue, r.fd, EPOLLIN, 0, i, &id));
		before += __atomic_load_n(&r.fired, __ATOMIC_ACQUIRE);
		ASSERT_EQ(1, get_one(queue, &ev));
		ASSERT_EQ(i, ev.cookie);
		ASSERT_EQ(0, join(t, NULL));
		remove_id(queue, id);
		get_now(queue);
		close(r.fd);
	}
	ksft_print_msg("fired before ADD returned: %d of %d\n", before, rounds);
	close(queue);
}

/* A source whose process has ended is polled again by whoever is there. */
TEST(owner_ended)
{
	int queue = queue_open(1, 16);
	struct dev d = { };
	struct ukevent ev;
	pid_t pid;

	ASSERT_LE(0, queue);
	ASSERT_EQ(0, open_inotify(&d));
	pid = fork();
	if (!pid)
		_exit(add_file(queue, d.fd, EPOLLIN, 0, 3, NULL) != 0);
	ASSERT_EQ(0, reap(pid));
	pid = fork();
	if (!pid)
		_exit(!asleep(getppid()) || fire_inotify(&d));
	ASSERT_EQ(1, get_one(queue, &ev));
	EXPECT_EQ(3, ev.cookie);
	EXPECT_EQ(0, reap(pid));
	unlink(d.name);
	close(queue);
}

TEST_HARNESS_MAIN
