// SPDX-License-Identifier: GPL-2.0
/* Requests that wait for readiness: sockets, pipes, ttys, counters. */
#include "io_test.h"

#include <dirent.h>
#include <pty.h>
#include <sys/timerfd.h>
#include <termios.h>

/* The header says "within about two seconds"; an emulated machine is slow. */
#define CLOSED_NS (4 * NSEC_PER_SEC)

enum peer_type { PIPE, FIFO, UNIX_STREAM, SEQPACKET, TCP, PTY_SLAVE, PTY_MASTER };

/* Two ways: what is written to @in_far comes out of @in, @out's at @out_far. */
struct peer {
	int in, in_far, out, out_far;
};

static int fifo_pair(int fds[2])
{
	static const char path[] = IO_DIR "/fifo";

	mkdir(IO_DIR, 0755);
	unlink(path);
	if (mkfifo(path, 0600))
		return -1;
	fds[0] = open(path, O_RDWR | O_CLOEXEC);
	fds[1] = open(path, O_WRONLY | O_CLOEXEC);
	close(fds[0]);
	fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return 0;
}

static int pty_pair(int fds[2])
{
	struct termios t;

	if (openpty(&fds[0], &fds[1], NULL, NULL, NULL))
		return -1;
	tcgetattr(fds[1], &t);
	cfmakeraw(&t);
	return tcsetattr(fds[1], TCSANOW, &t);
}

static int set_nonblocking(int fd, int on)
{
	int flags = fcntl(fd, F_GETFL) & ~O_NONBLOCK;

	return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags);
}

static int peer_make(struct peer *p, enum peer_type type, int nonblocking)
{
	int in[2] = { -1, -1 }, out[2], error = 0;

	switch (type) {
	case PIPE:
		error = pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC);
		break;
	case FIFO:
		error = fifo_pair(in) || fifo_pair(out);
		break;
	case UNIX_STREAM:
	case SEQPACKET:
		error = socketpair(AF_UNIX, (type == SEQPACKET ? SOCK_SEQPACKET :
				   SOCK_STREAM) | SOCK_CLOEXEC, 0, in);
		break;
	case TCP:
		error = tcp_pair(in);
		break;
	case PTY_SLAVE:
	case PTY_MASTER:
		error = pty_pair(in);
		if (type == PTY_SLAVE) {
			int master = in[0];

			in[0] = in[1];
			in[1] = master;
		}
	}
	if (error)
		return -1;
	*p = (struct peer){ in[0], in[1], in[0], in[1] };
	if (type == PIPE || type == FIFO) {
		p->out = out[1];
		p->out_far = out[0];
	}
	set_nonblocking(p->in_far, 1);
	set_nonblocking(p->out_far, 1);
	return set_nonblocking(p->in, nonblocking) ||
	       set_nonblocking(p->out, nonblocking);
}

static void peer_free(struct peer *p)
{
	close(p->in);
	close(p->in_far);
	if (p->out != p->in) {
		close(p->out);
		close(p->out_far);
	}
}

FIXTURE(peer) {
	struct queue q;
	struct peer p;
	char *buffer;
	struct ukevent ev;
};

FIXTURE_VARIANT(peer) {
	enum peer_type type;
	int nonblocking;
};

#define PEER(name, type)						\
	FIXTURE_VARIANT_ADD(peer, name) { type, 0 };			\
	FIXTURE_VARIANT_ADD(peer, name##_nonblocking) { type, 1 }

PEER(pipe, PIPE);
PEER(fifo, FIFO);
PEER(unix, UNIX_STREAM);
PEER(seqpacket, SEQPACKET);
PEER(tcp, TCP);
PEER(pty_slave, PTY_SLAVE);
PEER(pty_master, PTY_MASTER);

FIXTURE_SETUP(peer)
{
	signal(SIGPIPE, SIG_IGN);
	ASSERT_EQ(0, peer_make(&self->p, variant->type, variant->nonblocking));
	ASSERT_EQ(0, queue_make(&self->q, 2, 64));
	self->buffer = pages(MIB);
}

FIXTURE_TEARDOWN(peer)
{
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	peer_free(&self->p);
	queue_free(&self->q);
}

#define IO(c) io_do(self->q.fd, (c))
#define NEXT() ASSERT_EQ(1, get_one(self->q.fd, &self->ev))

/* At once; before Linux 6.4 a blocking pipe's cannot, nor a blocking tty's. */
#define EXPECT_AT_ONCE(o)						\
	EXPECT_TRUE((o).flags == KEVENT_EV_INLINE ||			\
		    (!variant->nonblocking && (o).flags & KEVENT_EV_WAITED)) \
		TH_LOG("flags %#x", (o).flags)

TEST_F(peer, read_at_once)
{
	struct outcome o;

	ASSERT_EQ(100, write(self->p.in_far, memset(self->buffer, 'x', 100), 100));
	memset(self->buffer, POISON, 4096);
	o = IO(read_entry(self->p.in, self->buffer, 4096, 0));
	EXPECT_EQ(100, o.result);
	EXPECT_AT_ONCE(o);
	EXPECT_TRUE(all_bytes(self->buffer, 100, 'x'));
	EXPECT_TRUE(all_bytes(self->buffer + 100, 3996, POISON));
}

/* The request waits, and the data that comes ends it. */
TEST_F(peer, read_waits)
{
	int i;

	for (i = 0; i < 3; i++) {
		uint64_t id;

		memset(self->buffer, POISON, 4096);
		ASSERT_EQ(0, submit_read(self->q.fd, self->p.in, self->buffer,
					 4096, 0, i, &id));
		EXPECT_EQ(0, get_soon(self->q.fd));
		EXPECT_EQ(1, requests_of(&self->q, 0));
		ASSERT_EQ(2, write(self->p.in_far, "ab", 2));
		NEXT();
		EXPECT_EQ(i, self->ev.cookie);
		EXPECT_EQ(id, self->ev.id);
		EXPECT_EQ(2, self->ev.result);
		EXPECT_TRUE(self->ev.flags & KEVENT_EV_WAITED);
		EXPECT_EQ(0, memcmp(self->buffer, "ab", 2));
		EXPECT_TRUE(all_bytes(self->buffer + 2, 4094, POISON));
	}
}

TEST_F(peer, readv_waits)
{
	struct iovec iov[] = { { self->buffer, 1 }, { NULL, 0 },
			       { self->buffer + 5000, 2 },
			       { self->buffer + 9000, 4 } };
	struct kevent_change c = io_entry(KEVENT_KIND_READV, self->p.in, iov, 4, 0);

	ASSERT_EQ(0, change(self->q.fd, &c));
	memset(iov, POISON, sizeof(iov));
	ASSERT_EQ(5, write(self->p.in_far, "abcde", 5));
	NEXT();
	EXPECT_EQ(5, self->ev.result);
	EXPECT_EQ('a', self->buffer[0]);
	EXPECT_EQ(0, memcmp(self->buffer + 5000, "bc", 2));
	EXPECT_EQ(0, memcmp(self->buffer + 9000, "de\xa5", 3));
}

TEST_F(peer, write_at_once)
{
	struct outcome o;

	pattern_fill(self->buffer, 200, 3, 0);
	o = IO(write_entry(self->p.out, self->buffer, 200, 0));
	EXPECT_EQ(200, o.result);
	EXPECT_AT_ONCE(o);
	EXPECT_TRUE(EVENTUALLY(read(self->p.out_far, self->buffer + 4096, 200) ==
			       200));
	EXPECT_EQ(0, memcmp(self->buffer, self->buffer + 4096, 200));
}

/* Writes until no more is taken; how much that was. */
static size_t fill(struct peer *p, char *buffer, size_t piece)
{
	int blocking = !(fcntl(p->out, F_GETFL) & O_NONBLOCK);
	size_t total = 0;
	ssize_t n;
	int idle, domain = 0;
	socklen_t size = sizeof(domain);

	set_nonblocking(p->out, 1);
	/* What is underway may make room later: a delayed acknowledgment. */
	getsockopt(p->out, SOL_SOCKET, SO_DOMAIN, &domain, &size);
	for (idle = 0; idle < (domain == AF_INET ? 400 : 20);) {
		pattern_fill(buffer, piece, 4, total);
		n = write(p->out, buffer, piece);
		if (n > 0) {
			total += n;
			idle = 0;
		} else {
			idle++;
			nap_ns(NSEC_PER_MSEC);
		}
	}
	set_nonblocking(p->out, !blocking);
	return total;
}

/* No room: it waits until the peer has read, and nothing is lost or doubled. */
TEST_F(peer, write_waits)
{
	size_t full = fill(&self->p, self->buffer, 4096), got = 0;
	int64_t result = -1;
	uint32_t flags = 0;

	pattern_fill(self->buffer, 4096, 4, full);
	ASSERT_EQ(0, submit_write(self->q.fd, self->p.out, self->buffer, 4096, 0,
				  1, NULL));
	EXPECT_EQ(0, get_soon(self->q.fd));
	memset(self->buffer + 4096, POISON, 4096);
	EXPECT_TRUE(EVENTUALLY(({
		ssize_t n = read(self->p.out_far, self->buffer + 4096, 4096);

		if (n > 0) {
			EXPECT_EQ(-1, pattern_wrong(self->buffer + 4096, n, 4,
						    got));
			got += n;
		}
		if (get(self->q.fd, &self->ev, 0, 1, 0) == 1) {
			result = self->ev.result;
			flags = self->ev.flags;
		}
		n <= 0 && result > 0 && got >= full + result;
	})));
	EXPECT_LT(0, result);
	EXPECT_GE(4096, result);
	EXPECT_EQ(full + result, got);
	EXPECT_TRUE(flags & KEVENT_EV_WAITED);
}

/* In time, and no longer there. */
TEST_F(peer, cancel)
{
	uint64_t id;

	ASSERT_EQ(0, submit_read(self->q.fd, self->p.in, self->buffer, 10, 0, 1,
				 &id));
	EXPECT_EQ(0, cancel_id(self->q.fd, id));
	NEXT();
	EXPECT_EQ(-ECANCELED, self->ev.result);
	EXPECT_EQ(id, self->ev.id);
	EXPECT_EQ(-ENOENT, cancel_id(self->q.fd, id));
	ASSERT_EQ(2, write(self->p.in_far, "ab", 2));
	EXPECT_EQ(0, get_soon(self->q.fd));
	/* What came later is there for the next. */
	EXPECT_EQ(2, IO(read_entry(self->p.in, self->buffer, 10, 0)).result);
}

TEST_F(peer, cancel_write)
{
	uint64_t id;

	fill(&self->p, self->buffer, 4096);
	ASSERT_EQ(0, submit_write(self->q.fd, self->p.out, self->buffer, 4096, 0,
				  1, &id));
	EXPECT_EQ(0, cancel_id(self->q.fd, id));
	NEXT();
	EXPECT_EQ(-ECANCELED, self->ev.result);
}

TEST_F(peer, cancel_file)
{
	struct ukevent ev[8];
	int i, other[2];

	ASSERT_EQ(0, pipe2(other, O_CLOEXEC));
	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, i == 5 ? other[0] : self->p.in,
					 self->buffer + i, 1, 0, i, NULL));
	EXPECT_EQ(7, cancel_file(self->q.fd, dup(self->p.in)));
	EXPECT_EQ(7, get(self->q.fd, ev, 7, 8, LONG_NS));
	for (i = 0; i < 7; i++) {
		EXPECT_EQ(-ECANCELED, ev[i].result);
		EXPECT_NE(5, ev[i].cookie);
	}
	EXPECT_EQ(0, cancel_file(self->q.fd, self->p.in));
	ASSERT_EQ(1, write(other[1], "x", 1));
	NEXT();
	EXPECT_EQ(1, self->ev.result);
	close(other[0]);
	close(other[1]);
}

/* Each byte goes to one, and each gets one. */
TEST_F(peer, many)
{
	struct ukevent ev[48];
	uint64_t seen = 0;
	int i;

	for (i = 0; i < 48; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, self->p.in,
					 self->buffer + i * 8, 1, 0, i, NULL));
	for (i = 0; i < 48; i++)
		ASSERT_EQ(1, write(self->p.in_far, (char[]){ i }, 1));
	ASSERT_EQ(48, get(self->q.fd, ev, 48, 48, LONG_NS));
	for (i = 0; i < 48; i++) {
		EXPECT_EQ(1, ev[i].result);
		seen |= 1ULL << self->buffer[i * 8];
	}
	EXPECT_EQ((1ULL << 48) - 1, seen);
}

/* What is mapped where the buffer was is not touched. */
TEST_F(peer, unmap)
{
	char *buffer = pages(IO_PAGE);

	ASSERT_EQ(0, submit_read(self->q.fd, self->p.in, buffer, 100, 0, 1, NULL));
	ASSERT_EQ(0, munmap(buffer, IO_PAGE));
	ASSERT_EQ(buffer, mmap(buffer, IO_PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(buffer, 0x5c, IO_PAGE);
	ASSERT_EQ(3, write(self->p.in_far, "abc", 3));
	NEXT();
	EXPECT_EQ(3, self->ev.result);
	EXPECT_TRUE(all_bytes(buffer, IO_PAGE, 0x5c));
}

/* As read(2) finds it. */
TEST_F(peer, far_end_closes)
{
	ssize_t want;

	ASSERT_EQ(0, submit_read(self->q.fd, self->p.in, self->buffer, 10, 0, 1,
				 NULL));
	EXPECT_EQ(0, get_soon(self->q.fd));
	close(self->p.in_far);
	NEXT();
	want = read(self->p.in, self->buffer, 10) < 0 ? -errno : 0;
	/* A tty that is being hung up says one, then the other. */
	EXPECT_TRUE(self->ev.result == want ||
		    (variant->type == PTY_SLAVE && self->ev.result == -EIO))
		TH_LOG("%lld, not %zd", (long long)self->ev.result, want);
	EXPECT_TRUE(self->ev.flags & KEVENT_EV_WAITED);
}

TEST_F(peer, far_end_closes_write)
{
	ssize_t want;

	fill(&self->p, self->buffer, 4096);
	ASSERT_EQ(0, submit_write(self->q.fd, self->p.out, self->buffer, 4096, 0,
				  1, NULL));
	close(self->p.out_far);
	if (variant->type == PTY_MASTER) {
		/* Nobody will ever read: write(2) sleeps on, and so does this. */
		EXPECT_EQ(0, get_soon(self->q.fd));
		EXPECT_LE(0, cancel_file(self->q.fd, self->p.out));
		NEXT();
		EXPECT_EQ(-ECANCELED, self->ev.result);
		return;
	}
	NEXT();
	want = write(self->p.out, self->buffer, 10) < 0 ? -errno : 0;
	EXPECT_GT(0, want);
	/* A reset is told once. */
	EXPECT_TRUE(self->ev.result == want || self->ev.result == -ECONNRESET)
		TH_LOG("%lld, not %zd", (long long)self->ev.result, want);
}

/* Both report, a request and a source on one file. */
TEST_F(peer, beside_source)
{
	struct ukevent ev[4];
	uint64_t source;
	int n, i, bytes = 0, ready = 0;

	ASSERT_EQ(0, add_file(self->q.fd, self->p.in, EPOLLIN, 0, 100, &source));
	ASSERT_EQ(0, submit_read(self->q.fd, self->p.in, self->buffer, 1, 0, 1,
				 NULL));
	ASSERT_EQ(2, write(self->p.in_far, "ab", 2));
	EXPECT_TRUE(EVENTUALLY(({
		n = get(self->q.fd, ev, 0, 4, 0);
		for (i = 0; i < n; i++) {
			bytes += ev[i].cookie == 1 ? ev[i].result : 0;
			ready |= ev[i].cookie == 100 && ev[i].id == source &&
				 ev[i].events & EPOLLIN;
		}
		bytes && ready;
	})));
	EXPECT_EQ(1, bytes);
	EXPECT_EQ(0, remove_id(self->q.fd, source));
}

/* Waits as the first of a chain too, and holds up the rest. */
TEST_F(peer, chain)
{
	struct kevent_change c[2] = {
		read_entry(self->p.in, self->buffer, 3, 0),
		write_entry(self->p.out, "xyz", 3, 0),
	};
	struct ukevent ev[2];

	c[0].flags = KEVENT_LINK;
	c[1].cookie = 1;
	ASSERT_EQ(2, changes(self->q.fd, c, 2));
	EXPECT_EQ(0, c[0].result);
	EXPECT_EQ(0, c[1].result);
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(-1, read(self->p.out_far, self->buffer, 3));
	ASSERT_EQ(3, write(self->p.in_far, "abc", 3));
	ASSERT_EQ(2, get(self->q.fd, ev, 2, 2, LONG_NS));
	EXPECT_EQ(3, ev[0].result);
	EXPECT_EQ(0, ev[0].cookie);
	EXPECT_EQ(3, ev[1].result);
	EXPECT_TRUE(EVENTUALLY(read(self->p.out_far, self->buffer + 8, 3) == 3));
	EXPECT_EQ(0, memcmp(self->buffer + 8, "xyz", 3));
}

TEST_F(peer, chain_cancelled)
{
	struct kevent_change c[3] = {
		read_entry(self->p.in, self->buffer, 3, 0),
		write_entry(self->p.out, "xyz", 3, 0),
		write_entry(self->p.out, "uvw", 3, 0),
	};
	struct ukevent ev[3];
	int i;

	c[0].flags = KEVENT_LINK;
	c[1].flags = KEVENT_LINK;
	ASSERT_EQ(3, changes(self->q.fd, c, 3));
	/* One that waits for its turn, then the one that it waits for. */
	EXPECT_EQ(0, cancel_id(self->q.fd, c[1].id));
	EXPECT_EQ(0, cancel_id(self->q.fd, c[0].id));
	ASSERT_EQ(3, get(self->q.fd, ev, 3, 3, LONG_NS));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-ECANCELED, ev[i].result);
	EXPECT_GT(0, read(self->p.out_far, self->buffer, 3));
}

/* ------------------------------------------------------------------------ */
/* Beside the list */

FIXTURE(wait) {
	struct queue q;
	char *buffer;
	struct ukevent ev;
};

FIXTURE_SETUP(wait)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 64));
	self->buffer = pages(MIB);
}

FIXTURE_TEARDOWN(wait)
{
	queue_free(&self->q);
}

TEST_F(wait, eventfd)
{
	uint64_t value = 0, add = 7;
	int fd = eventfd(0, EFD_CLOEXEC);

	ASSERT_EQ(0, submit_read(self->q.fd, fd, &value, 8, 0, 1, NULL));
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(8, write(fd, &add, 8));
	NEXT();
	EXPECT_EQ(8, self->ev.result);
	EXPECT_EQ(7, value);
	close(fd);
}

/* Timers that can be read so expire into the buffer. */
TEST_F(wait, timerfd)
{
	struct itimerspec soon = { .it_value.tv_nsec = 30 * NSEC_PER_MSEC };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), result;
	uint64_t value = 0;

	result = submit_read(self->q.fd, fd, &value, 8, 0, 1, NULL);
	if (result == -EOPNOTSUPP) {
		/* It has no iterator-based read before Linux 6.10. */
		EXPECT_EQ(0, requests_of(&self->q, 0));
		close(fd);
		return;
	}
	ASSERT_EQ(0, result);
	EXPECT_EQ(0, get_soon(self->q.fd));
	ASSERT_EQ(0, timerfd_settime(fd, 0, &soon, NULL));
	NEXT();
	EXPECT_EQ(8, self->ev.result);
	EXPECT_EQ(1, value);
	close(fd);
}

/* A plain close while reads wait: each peer sees it in the bound. */
TEST_F(wait, plain_close)
{
	static const enum peer_type types[] = {
		PIPE, FIFO, UNIX_STREAM, SEQPACKET, TCP, PTY_SLAVE, PTY_MASTER };
	struct peer p[ARRAY_SIZE(types)];
	struct ukevent ev[ARRAY_SIZE(types)];
	int64_t start;
	int i, n = ARRAY_SIZE(types);

	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, peer_make(&p[i], types[i], i % 2));
		ASSERT_EQ(0, submit_read(self->q.fd, p[i].in, self->buffer + i * 64,
					 64, 0, i, NULL));
	}
	start = now_ns();
	for (i = 0; i < n; i++)
		close(p[i].in);
	for (i = 0; i < n; i++) {
		struct pollfd pfd = { .fd = p[i].in_far, .events = POLLRDHUP };
		int64_t left = CLOSED_NS - (now_ns() - start);

		EXPECT_EQ(1, poll(&pfd, 1, left > 0 ? left / NSEC_PER_MSEC : 0))
			TH_LOG("type %d sees no end", types[i]);
	}
	ksft_print_msg("after %lld ms\n",
		       (long long)(now_ns() - start) / 1000000);
	ASSERT_EQ(n, get(self->q.fd, ev, n, n, LONG_NS));
	for (i = 0; i < n; i++)
		EXPECT_EQ(-ECANCELED, ev[i].result);
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

static uint64_t iowait_ticks(void)
{
	char text[512];
	unsigned long long t[5] = { 0 };

	read_text("/proc/stat", text, sizeof(text));
	if (sscanf(text, "cpu %llu %llu %llu %llu %llu", t, t + 1, t + 2, t + 3, t + 4) != 5)
		return 0;
	return t[4];
}

/* How many threads of the kernel's there are, and the time that they took. */
static unsigned int kernel_threads(uint64_t *ticks)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	unsigned int n = 0;

	*ticks = 0;
	while ((e = readdir(d))) {
		char path[280], text[1024], *p;
		unsigned long flags, user, system;

		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		if (!atoi(e->d_name) || read_text(path, text, sizeof(text)) < 0)
			continue;
		p = strrchr(text, ')');
		if (sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %lu %*u %*u %*u %*u %lu %lu",
			   &flags, &user, &system) == 3 && flags & 0x200000) {
			n++;
			*ticks += user + system;
		}
	}
	closedir(d);
	return n;
}

/* Where a file has as many waiting as it may: EAGAIN, or ENOSPC in a chain. */
TEST_F(wait, file_is_full)
{
	long long limit = parameter_get("max_file_sources");
	struct kevent_change c[2];
	int fds[2], i;

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(0, parameter_set("max_file_sources", 5));
	for (i = 0; i < 5; i++)
		EXPECT_EQ(0, submit_read(self->q.fd, fds[0], self->buffer, 1, 0, 1, NULL));
	EXPECT_EQ(-EAGAIN, submit_read(self->q.fd, fds[0], self->buffer, 1, 0, 1, NULL));
	EXPECT_EQ(5, requests_of(&self->q, 0));
	for (i = 0; i < 2; i++) {
		c[i] = read_entry(fds[0], self->buffer, 1, 0);
		c[!i] = io_entry(KEVENT_KIND_NOP, 0, NULL, 0, 0);
		c[0].flags = KEVENT_LINK;
		c[0].cookie = 10;
		c[1].cookie = 11;
		ASSERT_EQ(2, changes(self->q.fd, c, 2));
		NEXT();
		EXPECT_EQ(10, self->ev.cookie);
		EXPECT_EQ(i ? 0 : -ENOSPC, self->ev.result);
		NEXT();
		EXPECT_EQ(11, self->ev.cookie);
		EXPECT_EQ(i ? -ENOSPC : -ECANCELED, self->ev.result);
	}
	EXPECT_EQ(5, requests_of(&self->q, 0));
	parameter_set("max_file_sources", limit);
	close(fds[0]);
	close(fds[1]);
}

/* A thousand that wait are no threads, take no time and are no iowait. */
TEST_F(wait, idle)
{
	uint64_t before, after, waiting = 0;
	unsigned int threads, i, quiet = 0;
	struct peer p;

	ASSERT_EQ(0, peer_make(&p, UNIX_STREAM, 0));
	threads = kernel_threads(&before);
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, p.in, self->buffer + i * 8, 8,
					 0, i, NULL));
	EXPECT_GE(threads + 8, kernel_threads(&before));
	for (i = 0; i < 5 && !quiet; i++) {
		kernel_threads(&before);
		waiting = iowait_ticks();
		nap_ns(500 * NSEC_PER_MSEC);
		waiting = iowait_ticks() - waiting;
		kernel_threads(&after);
		quiet = after - before <= 10 && waiting <= 5;
	}
	EXPECT_TRUE(quiet)
		TH_LOG("kernel threads took %llu ticks, iowait %llu",
		       (unsigned long long)(after - before), (unsigned long long)waiting);
	EXPECT_EQ(1000, requests_of(&self->q, 0));
	EXPECT_EQ(1000, cancel_file(self->q.fd, p.in));
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(1, get_one(self->q.fd, &self->ev));
	EXPECT_EQ(0, requests_of(&self->q, 0));
	peer_free(&p);
}

/* Sources of every kind and requests share a ring of four: all arrive. */
TEST_F(wait, small_ring)
{
	uint64_t user, file, sum = 0, nops = 0, bytes = 0, expired = 0, ready = 0;
	struct ukevent ev[4];
	struct queue q;
	struct peer p;
	unsigned int i;
	int n, k, e = eventfd_make();

	ASSERT_EQ(0, queue_make(&q, 1, 4));
	ASSERT_EQ(0, peer_make(&p, UNIX_STREAM, 1));
	ASSERT_EQ(0, add_user(q.fd, 0, 1, &user));
	ASSERT_EQ(0, add_file(q.fd, e, EPOLLIN, 0, 2, &file));
	ASSERT_EQ(0, add_timer(q.fd, CLOCK_MONOTONIC, 0, 1, 0, 3, NULL));
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, submit_read(q.fd, p.in, self->buffer + i, 1, 0, 4, NULL));
		ASSERT_EQ(0, submit_nop(q.fd, 1, 5));
		ASSERT_EQ(0, trigger(q.fd, user, 1));
		ASSERT_EQ(1, write(p.in_far, "x", 1));
	}
	ASSERT_EQ(0, eventfd_fire(e));
	EXPECT_TRUE(EVENTUALLY(({
		n = get(q.fd, ev, 0, 4, 0);
		for (k = 0; k < n; k++) {
			sum += ev[k].cookie == 1 ? ev[k].result : 0;
			ready += ev[k].cookie == 2;
			expired += ev[k].cookie == 3;
			bytes += ev[k].cookie == 4 ? ev[k].result : 0;
			nops += ev[k].cookie == 5 ? ev[k].result : 0;
		}
		sum == 100 && ready && expired && bytes == 100 && nops == 100;
	})));
	EXPECT_EQ(0, get_soon(q.fd));
	EXPECT_EQ(0, requests_of(&q, 0));
	EXPECT_EQ(0, pending_of(&q, 0));
	EXPECT_EQ(1, ready);
	EXPECT_EQ(1, expired);
	peer_free(&p);
	queue_free(&q);
	close(e);
}

/* Cancels race data: every request ends once, and every byte is counted once. */
TEST_F(wait, cancel_races)
{
	unsigned int i, round, cancelled = 0, rounds = scaled(2000);
	uint64_t written = 0, got = 0;
	struct peer p;

	ASSERT_EQ(0, peer_make(&p, UNIX_STREAM, 1));
	for (round = 0; round < rounds; round++) {
		struct ukevent ev[8];
		uint64_t ids[8];

		for (i = 0; i < 8; i++)
			ASSERT_EQ(0, submit_read(self->q.fd, p.in, self->buffer, 1,
						 0, i, &ids[i]));
		for (i = 0; i < 8; i++) {
			if (i % 2)
				written += write(p.in_far, "x", 1) == 1;
			cancel_id(self->q.fd, ids[i]);
		}
		ASSERT_EQ(8, get(self->q.fd, ev, 8, 8, LONG_NS));
		for (i = 0; i < 8; i++) {
			ASSERT_TRUE(ev[i].result == 1 ||
				    ev[i].result == -ECANCELED);
			got += ev[i].result == 1;
			cancelled += ev[i].result == -ECANCELED;
		}
		while (read(p.in, self->buffer, 1) == 1)
			got++;
	}
	EXPECT_EQ(written, got);
	EXPECT_LT(0, cancelled);
	EXPECT_EQ(0, requests_of(&self->q, 0));
	ksft_print_msg("%u of %u cancelled\n", cancelled, rounds * 8);
	peer_free(&p);
}

/*
 * One request's memory serves the next: a wait at a FIFO and then at a socket, each
 * cancelled, and news for both when nobody waits any more.
 */
TEST_F(wait, fifo_then_socket)
{
	unsigned int round, i;
	int fifo[2], stream[2];

	ASSERT_EQ(0, fifo_pair(fifo));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream));
	for (round = 0; round < scaled(200); round++) {
		int *fds[2] = { fifo, stream };
		uint64_t id;
		char byte;

		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, submit_read(self->q.fd, fds[i][0], self->buffer, 1,
						 0, i, &id));
			ASSERT_EQ(0, cancel_id(self->q.fd, id));
			ASSERT_EQ(1, get_one(self->q.fd, &self->ev));
			EXPECT_EQ(i, self->ev.cookie);
			EXPECT_EQ(-ECANCELED, self->ev.result);
		}
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(1, write(fds[i][1], "x", 1));
			ASSERT_EQ(1, read(fds[i][0], &byte, 1));
		}
	}
	EXPECT_EQ(0, get_now(self->q.fd));
	for (i = 0; i < 2; i++) {
		close(fifo[i]);
		close(stream[i]);
	}
}

/* Sockets of other families do not wait; what is there is read. */
TEST_F(wait, netlink)
{
	struct { uint32_t length; uint16_t type, flags; uint32_t seq, pid; } ask = {
		/* No such message, and NLM_F_REQUEST | NLM_F_ACK: it is answered. */
		.length = sizeof(ask), .type = 999, .flags = 5, .seq = 77,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct outcome o;

	ASSERT_LE(0, fd);
	o = io_do(self->q.fd, read_entry(fd, self->buffer, IO_PAGE, 0));
	EXPECT_EQ(-EAGAIN, o.result);
	EXPECT_EQ(KEVENT_EV_INLINE, o.flags);
	ASSERT_EQ(sizeof(ask), write(fd, &ask, sizeof(ask)));
	o = io_do(self->q.fd, read_entry(fd, self->buffer, IO_PAGE, 0));
	EXPECT_LT((int)sizeof(ask), o.result);
	EXPECT_EQ(77, ((uint32_t *)self->buffer)[2]);
	EXPECT_EQ(-EAGAIN, io_do(self->q.fd, read_entry(fd, self->buffer, IO_PAGE,
							0)).result);
	close(fd);
}

TEST_HARNESS_MAIN
