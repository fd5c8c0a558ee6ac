// SPDX-License-Identifier: GPL-2.0
/* Descriptors, processes, and what is left when they go. */
#include <sys/file.h>
#include <sys/un.h>

#include "kevent_test.h"

/* The header says "within about two seconds"; an emulated machine is slow. */
#define CLOSED_NS (4 * NSEC_PER_SEC)

static int module_references(void)
{
	char text[32];

	if (read_text("/sys/module/kevent/refcnt", text, sizeof(text)) < 0)
		return -1;
	return atoi(text);
}

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int stream_pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			  0, fds);
}

/* Whether the peer sees the end of the stream within the time. */
static int sees_end(int fd, int64_t ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };
	char byte;

	return poll(&p, 1, ns / NSEC_PER_MSEC) == 1 && read(fd, &byte, 1) == 0;
}

FIXTURE(life) {
	struct queue q;
	int fd;
};

FIXTURE_SETUP(life)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(life)
{
	queue_free(&self->q);
}

/* ------------------------------------------------------------------------ */
/* Close of what is watched */

/* A plain close of a watched socket: the peer sees the end in the bound. */
TEST_F(life, plain_close)
{
	int64_t start = now_ns();
	int fds[2];

	ASSERT_LE(0, tcp_pair(fds));
	ASSERT_EQ(0, add_file(self->fd, fds[0], EPOLLIN, 0, 1, NULL));
	close(fds[0]);
	EXPECT_TRUE(sees_end(fds[1], CLOSED_NS));
	ksft_print_msg("after %lld ms\n",
		       (long long)(now_ns() - start) / 1000000);
	close(fds[1]);
}

FIXTURE(closed) {
	struct queue q;
	int fd;
};

FIXTURE_VARIANT(closed) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(closed, edge) { 0 };
FIXTURE_VARIANT_ADD(closed, oneshot) { KEVENT_ONESHOT };
FIXTURE_VARIANT_ADD(closed, level) { KEVENT_LEVEL };
FIXTURE_VARIANT_ADD(closed, disabled) { KEVENT_DISABLED };
FIXTURE_VARIANT_ADD(closed, level_disabled) { KEVENT_LEVEL | KEVENT_DISABLED };

FIXTURE_SETUP(closed)
{
	ASSERT_EQ(0, queue_make(&self->q, 1, 16));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(closed)
{
	queue_free(&self->q);
}

/* One CLOSED event tells of it, and the source is gone. */
TEST_F(closed, event)
{
	int file = eventfd_make();
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, variant->flags, 9, &id));
	close(file);
	ASSERT_EQ(1, get(self->fd, &ev, 1, 1, CLOSED_NS));
	EXPECT_EQ(9, ev.cookie);
	EXPECT_EQ(id, ev.id);
	EXPECT_EQ(KEVENT_KIND_FILE, ev.kind);
	EXPECT_TRUE(ev.flags & KEVENT_EV_CLOSED);
	EXPECT_EQ(-ENOENT, remove_id(self->fd, id));
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(0, hint_of(&self->q, 0));
	EXPECT_EQ(0, need_enter_of(&self->q, 0));
	EXPECT_EQ(0, get_now(self->fd));
}

/* It comes beside an unclaimed event of the source, too. */
TEST_F(closed, beside_unclaimed)
{
	int file = eventfd_make(), n, i, closed = 0;
	struct ukevent ev[4];

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, variant->flags, 9,
			      NULL));
	eventfd_fire(file);
	close(file);
	ASSERT_TRUE(EVENTUALLY(sources_of(&self->q, 0) == 0));
	n = get(self->fd, ev, 0, 4, 0);
	for (i = 0; i < n; i++)
		closed += !!(ev[i].flags & KEVENT_EV_CLOSED);
	EXPECT_EQ(1, closed);
}

/* All sources of the file, in all queues, have theirs. */
TEST_F(life, closed_everywhere)
{
	int file = eventfd_make(), i, n, seen = 0;
	struct ukevent ev[8];
	struct queue other;

	ASSERT_EQ(0, queue_make(&other, 1, 16));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1 << i,
				      NULL));
	}
	ASSERT_EQ(0, add_file(other.fd, file, EPOLLIN, KEVENT_LEVEL, 8, NULL));
	close(file);
	n = get(self->fd, ev, 3, 8, CLOSED_NS);
	ASSERT_EQ(3, n);
	for (i = 0; i < n; i++)
		seen |= ev[i].cookie;
	ASSERT_EQ(1, get(other.fd, ev, 1, 8, CLOSED_NS));
	EXPECT_EQ(15, seen | ev[0].cookie);
	queue_free(&other);
}

/* In a full ring CLOSED waits for room like any event. */
TEST_F(life, closed_overflow)
{
	int64_t end = now_ns() + LONG_NS;
	int i, n, closed = 0;
	struct ukevent ev[64];

	for (i = 0; i < 40; i++) {
		int file = eventfd_make();

		ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, i, NULL));
		close(file);
	}
	/* Let the scan find the ring full. */
	ASSERT_TRUE(EVENTUALLY(tail_of(&self->q, 0) == 16));
	while (closed < 40 && now_ns() < end) {
		n = get(self->fd, ev, 1, 64, NSEC_PER_SEC);
		for (i = 0; i < n; i++)
			closed += !!(ev[i].flags & KEVENT_EV_CLOSED);
	}
	EXPECT_EQ(40, closed);
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(0, pending_of(&self->q, 0));
}

/* A dup keeps the watch; its close ends it. */
TEST_F(life, dup_close)
{
	int file = eventfd_make(), copy = dup(file);
	struct ukevent ev;
	uint64_t id;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, &id));
	close(file);
	eventfd_fire(copy);
	ASSERT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(0, ev.flags);
	/* Longer than the scan needs. */
	EXPECT_EQ(0, get(self->fd, &ev, 1, 1, 2500 * NSEC_PER_MSEC));
	close(copy);
	ASSERT_EQ(1, get(self->fd, &ev, 1, 1, CLOSED_NS));
	EXPECT_TRUE(ev.flags & KEVENT_EV_CLOSED);
}

/* dup, close, and the source can still be removed by its id. */
TEST_F(life, dup_close_remove)
{
	int file = eventfd_make(), copy = dup(file);
	uint64_t id;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, &id));
	close(file);
	EXPECT_EQ(0, remove_id(self->fd, id));
	eventfd_fire(copy);
	EXPECT_EQ(0, get_now(self->fd));
	close(copy);
}

/* A reused number does not report on the new file. */
TEST_F(life, reused_number)
{
	int file = eventfd_make(), copy = dup(file), other;
	struct ukevent ev;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	close(file);
	other = eventfd_make();
	ASSERT_EQ(file, other);
	eventfd_fire(other);
	EXPECT_EQ(0, get_now(self->fd));
	eventfd_fire(copy);
	EXPECT_EQ(1, get_one(self->fd, &ev));
	close(copy);
	close(other);
}

/* A file that another process holds is not closed. */
TEST_F(life, held_by_child)
{
	int fds[2], hold[2];
	struct ukevent ev;
	pid_t pid;
	char byte;

	ASSERT_EQ(0, stream_pair(fds));
	ASSERT_EQ(0, pipe(hold));
	pid = fork();
	if (!pid) {
		close(hold[1]);
		_exit(read(hold[0], &byte, 1));
	}
	ASSERT_EQ(0, add_file(self->fd, fds[0], EPOLLIN, 0, 1, NULL));
	close(fds[0]);
	EXPECT_EQ(0, get(self->fd, &ev, 1, 1, 2500 * NSEC_PER_MSEC));
	close(hold[1]);
	EXPECT_EQ(0, reap(pid));
	ASSERT_EQ(1, get(self->fd, &ev, 1, 1, CLOSED_NS));
	EXPECT_TRUE(ev.flags & KEVENT_EV_CLOSED);
	close(fds[1]);
}

/* The last descriptor is the one in a message that nobody has read yet. */
TEST_F(life, held_by_message)
{
	int file = eventfd_make(), fds[2], back;
	struct ukevent ev;

	ASSERT_EQ(0, stream_pair(fds));
	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	ASSERT_EQ(0, send_fd(fds[0], file));
	close(file);
	EXPECT_EQ(0, get(self->fd, &ev, 1, 1, 2500 * NSEC_PER_MSEC));
	back = receive_fd(fds[1]);
	ASSERT_LE(0, back);
	eventfd_fire(back);
	EXPECT_EQ(1, get_one(self->fd, &ev));
	EXPECT_EQ(0, ev.flags);
	close(back);
	close(fds[0]);
	close(fds[1]);
}

/* Sources on one file do not keep each other alive. */
TEST_F(life, many_watchers_close)
{
	int fds[2], i;
	struct queue other[4];

	ASSERT_LE(0, tcp_pair(fds));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, queue_make(&other[i], 1, 8));
		ASSERT_EQ(0, add_file(other[i].fd, fds[0], EPOLLIN,
				      i & 1 ? KEVENT_LEVEL : 0, 1, NULL));
	}
	close(fds[0]);
	EXPECT_TRUE(sees_end(fds[1], CLOSED_NS));
	for (i = 0; i < 4; i++)
		queue_free(&other[i]);
	close(fds[1]);
}

/* ------------------------------------------------------------------------ */
/* KEVENT_CLOSE_FD */

/* Removes and closes at once: the peer sees the end, no CLOSED event comes. */
TEST_F(life, close_fd)
{
	int fds[2];
	uint64_t id;

	ASSERT_LE(0, tcp_pair(fds));
	ASSERT_EQ(0, add_file(self->fd, fds[0], EPOLLIN, 0, 1, &id));
	EXPECT_EQ(0, remove_close(self->fd, id, fds[0]));
	EXPECT_FALSE(is_open(fds[0]));
	EXPECT_TRUE(sees_end(fds[1], NSEC_PER_SEC));
	EXPECT_EQ(0, sources_of(&self->q, 0));
	EXPECT_EQ(-ENOENT, remove_id(self->fd, id));
	EXPECT_EQ(0, get_now(self->fd));
	close(fds[1]);
}

/* It tells of an unclaimed entry as plain removal does. */
TEST_F(life, close_fd_unclaimed)
{
	int file = eventfd_make();
	uint64_t id;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, &id));
	eventfd_fire(file);
	EXPECT_EQ(KEVENT_UNCLAIMED, remove_close(self->fd, id, file));
	EXPECT_FALSE(is_open(file));
	EXPECT_EQ(1, get_now(self->fd));
}

/* A dup names the file too; the other descriptor stays. */
TEST_F(life, close_fd_dup)
{
	int file = eventfd_make(), copy = dup(file);
	uint64_t id;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, &id));
	EXPECT_EQ(0, remove_close(self->fd, id, copy));
	EXPECT_FALSE(is_open(copy));
	EXPECT_TRUE(is_open(file));
	close(file);
}

/* Refused: its errno, the source and the descriptor stay. */
static int close_fd_refused(const struct queue *q, int named)
{
	int file = eventfd_make(), r, bad;
	struct ukevent ev;
	uint64_t id;

	if (add_file(q->fd, file, EPOLLIN, 0, 5, &id))
		return 1;
	r = remove_close(q->fd, id, named);
	bad = sources_of(q, 0) != 1 ||
	      (named >= 0 && named < 900 && !is_open(named)) || eventfd_fire(file) ||
	      get_one(q->fd, &ev) != 1 || ev.cookie != 5;
	remove_id(q->fd, id);
	close(file);
	return bad ? 2 : r;
}

/* A number that is not open is EBADF. */
TEST_F(life, close_fd_not_open)
{
	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, 999));
	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, -1));
	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, INT_MIN));
}

/* A number that names another file is EBADF, of the same kind even. */
TEST_F(life, close_fd_other_file)
{
	int other = eventfd_make();

	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, other));
	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, 0));
	close(other);
}

/* The queue's own descriptor is never closed so: it is not what is watched. */
TEST_F(life, close_fd_own_queue)
{
	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, self->fd));
}

/* Nor under another number, as the only reference of a call. */
TEST_F(life, close_fd_own_queue_dup)
{
	int copy = dup(self->fd);

	EXPECT_EQ(-EBADF, close_fd_refused(&self->q, copy));
	close(copy);
}

/* An id that names nothing closes nothing. */
TEST_F(life, close_fd_no_source)
{
	int file = eventfd_make();

	EXPECT_EQ(-ENOENT, remove_close(self->fd, 12345678, file));
	EXPECT_TRUE(is_open(file));
	close(file);
}

/* A number that came to name another file between: EBADF. */
TEST_F(life, close_fd_reused)
{
	int file = eventfd_make(), copy = dup(file), other;
	uint64_t id;

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, &id));
	close(file);
	other = eventfd_make();
	ASSERT_EQ(file, other);
	EXPECT_EQ(-EBADF, remove_close(self->fd, id, other));
	EXPECT_TRUE(is_open(other));
	EXPECT_EQ(1, sources_of(&self->q, 0));
	close(other);
	close(copy);
}

/* In an array, between others. */
TEST_F(life, close_fd_array)
{
	struct kevent_change c[8];
	int files[8], i;

	for (i = 0; i < 8; i++) {
		uint64_t id;

		files[i] = eventfd_make();
		ASSERT_EQ(0, add_file(self->fd, files[i], EPOLLIN, 0, i, &id));
		c[i] = (struct kevent_change){
			.op = KEVENT_OP_REMOVE, .id = id,
			.flags = i & 1 ? KEVENT_CLOSE_FD : 0,
			.fd = i & 1 ? files[i] : 0,
		};
	}
	ASSERT_EQ(8, changes(self->fd, c, 8));
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(0, c[i].result);
		EXPECT_EQ(!(i & 1), is_open(files[i]));
	}
}

/* ------------------------------------------------------------------------ */
/* Close and exit of the one who watches */

/* What a process leaves open in a queue when it goes. */
static int leave_everything(int fd)
{
	int fds[2], i;

	if (stream_pair(fds))
		return -1;
	for (i = 0; i < 20; i++)
		if (add_file(fd, eventfd_make(), EPOLLIN, 0, i, NULL) ||
		    add_file(fd, fds[0], EPOLLIN, KEVENT_LEVEL, i, NULL) ||
		    add_timer(fd, CLOCK_MONOTONIC, 0, 1000, 200000, i, NULL) ||
		    add_user(fd, 0, i, NULL) || submit_nop(fd, i, i))
			return -1;
	return write(fds[1], "x", 1) == 1 ? 0 : -1;
}

/* Closing with everything open frees it all. */
TEST(close_with_everything)
{
	int before = module_references(), i, fd;

	for (i = 0; i < (int)scaled(30); i++) {
		struct queue q;

		ASSERT_EQ(0, queue_make(&q, 2, 8));
		ASSERT_EQ(0, leave_everything(q.fd));
		queue_free(&q);
	}
	for (fd = 3; fd < 2000; fd++)
		close(fd);
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* So does exiting; after wait(2) nothing is left. */
TEST(exit_with_everything)
{
	int before = module_references(), i;

	for (i = 0; i < (int)scaled(30); i++) {
		pid_t pid = fork();

		if (!pid) {
			struct queue q;

			_exit(queue_make(&q, 2, 8) || leave_everything(q.fd));
		}
		ASSERT_EQ(0, reap(pid));
	}
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* So does being killed in the middle of it. */
TEST(kill_with_everything)
{
	int before = module_references(), i;

	for (i = 0; i < (int)scaled(30); i++) {
		pid_t pid = fork();
		struct queue q;

		if (!pid) {
			for (;;)
				if (!queue_make(&q, 2, 8))
					leave_everything(q.fd);
		}
		nap_ns((i % 7) * 3 * NSEC_PER_MSEC);
		kill(pid, SIGKILL);
		ASSERT_EQ(128 + SIGKILL, reap(pid));
	}
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* A process that has a lock on a watched file and exits gives it back. */
static int lock_and_exit(const char *path, int whole, int cloexec)
{
	struct flock l = { .l_type = F_WRLCK };
	int file = open(path, O_RDWR | O_NONBLOCK), r, status;
	pid_t pid = fork();

	if (!pid) {
		int queue = queue_open(1, 8);
		int own = open(path, O_RDWR | O_NONBLOCK | cloexec);

		if (add_file(queue, own, EPOLLIN, 0, 1, NULL))
			_exit(1);
		if (whole)
			_exit(flock(own, LOCK_EX));
		_exit(fcntl(own, F_OFD_SETLK, &l));
	}
	if (waitpid(pid, &status, 0) != pid || status)
		return -1;
	r = whole ? flock(file, LOCK_EX | LOCK_NB) :
		    fcntl(file, F_OFD_SETLK, &l);
	close(file);
	return r;
}

/* File locks are free when wait(2) has returned. */
TEST(locks_after_exit)
{
	char path[] = "/dev/shm/kevent-fifo";

	unlink(path);
	ASSERT_EQ(0, mkfifo(path, 0600));
	EXPECT_EQ(0, lock_and_exit(path, 1, 0));
	EXPECT_EQ(0, lock_and_exit(path, 0, 0));
	unlink(path);
}

/* ... and in the bound after a plain close, while the queue lives on. */
TEST_F(life, lock_after_close)
{
	char path[] = "/dev/shm/kevent-fifo2";
	int a, b;

	unlink(path);
	ASSERT_EQ(0, mkfifo(path, 0600));
	a = open(path, O_RDWR | O_NONBLOCK);
	b = open(path, O_RDWR | O_NONBLOCK);
	ASSERT_EQ(0, flock(a, LOCK_EX));
	ASSERT_EQ(0, add_file(self->fd, a, EPOLLIN, 0, 1, NULL));
	EXPECT_NE(0, flock(b, LOCK_EX | LOCK_NB));
	close(a);
	EXPECT_TRUE(EVENTUALLY(flock(b, LOCK_EX | LOCK_NB) == 0));
	close(b);
	unlink(path);
}

/* A forked child may use the queue; its exit ends nothing. */
TEST_F(life, fork)
{
	int file = eventfd_make();
	struct ukevent ev;
	pid_t pid = fork();

	if (!pid)
		_exit(add_file(self->fd, file, EPOLLIN, 0, 7, NULL) ||
		      eventfd_fire(file) || get_one(self->fd, &ev) != 1 ||
		      ev.cookie != 7);
	ASSERT_EQ(0, reap(pid));
	EXPECT_EQ(1, sources_of(&self->q, 0));
	eventfd_drain(file);
	eventfd_fire(file);
	EXPECT_EQ(1, get_one(self->fd, &ev));
	close(file);
}

/* The child's descriptor keeps the queue when the parent's is closed. */
TEST(fork_then_close)
{
	int before = module_references(), queue = queue_open(1, 8), sync[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(sync));
	pid = fork();
	if (!pid) {
		struct ukevent ev;
		char byte;

		close(sync[1]);
		if (read(sync[0], &byte, 1) != 0 || submit_nop(queue, 1, 1))
			_exit(1);
		_exit(get_one(queue, &ev) != 1);
	}
	close(queue);
	EXPECT_EQ(before + 1, module_references());
	close(sync[1]);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* A queue that is passed over a unix socket works for the receiver. */
TEST(pass)
{
	int fds[2], queue;
	struct ukevent ev;
	uint64_t id;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
	pid = fork();
	if (!pid) {
		queue = receive_fd(fds[1]);
		_exit(queue < 0 || add_user(queue, 0, 1, &id) ||
		      trigger(queue, id, 11) || get_one(queue, &ev) != 1 ||
		      ev.result != 11 || trigger(queue, id, 12));
	}
	queue = queue_open(1, 8);
	ASSERT_EQ(0, send_fd(fds[0], queue));
	ASSERT_EQ(0, reap(pid));
	ASSERT_EQ(1, get_one(queue, &ev));
	EXPECT_EQ(12, ev.result);
	close(queue);
	close(fds[0]);
	close(fds[1]);
}

/* A receiver with other credentials gets no memory or rights of the sender. */
TEST(pass_to_other_user)
{
	int fds[2], queue = queue_open(1, 8);
	struct ukevent ev;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
	ASSERT_EQ(0, send_fd(fds[0], queue));
	pid = fork();
	if (!pid) {
		if (setresuid(54321, 54321, 54321))
			_exit(1);
		close(queue);
		queue = receive_fd(fds[1]);
		/* Its memory: a pointer that is good in the parent alone. */
		_exit(queue < 0 || submit_nop(queue, 5, 5) ||
		      get_one(queue, &ev) != 1 || ev.result != 5);
	}
	EXPECT_EQ(0, reap(pid));
	close(queue);
	close(fds[0]);
	close(fds[1]);
}

/* A queue whose last descriptor is in an unread message goes with that. */
TEST(in_flight)
{
	int before = module_references(), fds[2], queue = queue_open(1, 8);

	ASSERT_EQ(0, stream_pair(fds));
	ASSERT_EQ(0, send_fd(fds[0], queue));
	close(queue);
	EXPECT_EQ(before + 1, module_references());
	close(fds[0]);
	close(fds[1]);
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* Closes a queue that is left in the receive queue of a socket that it watches. */
static int leave_in_watched(int queue)
{
	int fds[2];

	if (stream_pair(fds) || add_file(queue, fds[1], EPOLLIN, 0, 1, NULL) ||
	    send_fd(fds[0], queue))
		return -1;
	close(queue);
	close(fds[0]);
	close(fds[1]);
	return 0;
}

/* A queue in the receive queue of a socket that it watches is freed. */
TEST(in_flight_in_watched)
{
	int before = module_references();

	ASSERT_EQ(0, leave_in_watched(queue_open(1, 8)));
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* And if its ring is full, which nobody can empty any more. */
TEST(in_flight_in_watched_full)
{
	int before = module_references(), queue = queue_open(1, 2), i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, submit_nop(queue, i, i));
	}
	ASSERT_EQ(0, leave_in_watched(queue));
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

/* The module cannot be unloaded while a queue is open or mapped. */
TEST(unload)
{
	int fd = queue_open(1, 8);
	struct queue q;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, syscall(SYS_delete_module, "kevent", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
	ASSERT_EQ(0, queue_map(&q, fd));
	close(fd);
	EXPECT_EQ(-1, syscall(SYS_delete_module, "kevent", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
	EXPECT_EQ(KEVENT_MAGIC, ring_at(&q, 0)->magic);
	queue_unmap(&q);
}

/* ------------------------------------------------------------------------ */
/* Nesting */

/* A queue does not watch itself. */
TEST_F(life, self_watch)
{
	int copy = dup(self->fd);

	EXPECT_EQ(-ELOOP, add_file(self->fd, self->fd, EPOLLIN, 0, 1, NULL));
	EXPECT_EQ(-ELOOP, add_file(self->fd, copy, EPOLLIN, KEVENT_LEVEL, 1,
				   NULL));
	EXPECT_EQ(0, sources_of(&self->q, 0));
	close(copy);
}

/* Nor does a ring of queues close, of any length. */
TEST(ring_of_queues)
{
	int before = module_references(), fds[16], n, i;

	for (n = 2; n <= 16; n++) {
		for (i = 0; i < n; i++)
			fds[i] = queue_open(1, 4);
		for (i = 1; i < n; i++) {
			ASSERT_EQ(0, add_file(fds[i], fds[i - 1], EPOLLIN,
					      i & 1 ? KEVENT_LEVEL : 0, i,
					      NULL));
		}
		EXPECT_EQ(-ELOOP, add_file(fds[0], fds[n - 1], EPOLLIN, 0, 0,
					   NULL));
		for (i = 0; i < n; i++)
			close(fds[i]);
	}
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

struct loop {
	int from;
	int to;
	int result;
	int *go;
};

static void *loop_add(void *arg)
{
	struct loop *l = arg;

	while (!__atomic_load_n(l->go, __ATOMIC_ACQUIRE))
		;
	l->result = add_file(l->from, l->to, EPOLLIN, 0, 1, NULL);
	return NULL;
}

/* Two threads that close the ring from both sides: one of them is refused. */
TEST(loop_race)
{
	int i, k, both = 0;

	for (i = 0; i < (int)scaled(300); i++) {
		int a = queue_open(1, 1), b = queue_open(1, 1), go = 0;
		struct loop l[2] = { { a, b, 1, &go }, { b, a, 1, &go } };
		pthread_t t[2];

		for (k = 0; k < 2; k++) {
			ASSERT_EQ(0, pthread_create(&t[k], NULL, loop_add,
						    &l[k]));
		}
		__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
		for (k = 0; k < 2; k++) {
			ASSERT_EQ(0, join(t[k], NULL));
		}
		both += !l[0].result && !l[1].result;
		close(a);
		close(b);
	}
	EXPECT_EQ(0, both);
}

static int epoll_add(int ep, int fd)
{
	struct epoll_event e = { .events = EPOLLIN };

	return sys(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

/* A queue in epoll is readable when it has an event. */
TEST_F(life, queue_in_epoll)
{
	int ep = epoll_create1(0);
	struct epoll_event e;

	ASSERT_EQ(0, epoll_add(ep, self->fd));
	EXPECT_EQ(0, epoll_wait(ep, &e, 1, 0));
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(1, epoll_wait(ep, &e, 1, 20000));
	EXPECT_EQ(EPOLLIN, e.events);
	EXPECT_EQ(1, get_now(self->fd));
	EXPECT_EQ(0, epoll_wait(ep, &e, 1, 0));
	close(ep);
}

/* A sleeper in epoll_wait is woken. */
TEST_F(life, queue_wakes_epoll)
{
	int ep = epoll_create1(0), file = eventfd_make();
	struct epoll_event e;
	pid_t pid;

	ASSERT_EQ(0, epoll_add(ep, self->fd));
	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	pid = fork();
	if (!pid)
		_exit(eventfd_fire(file) != 0);
	EXPECT_EQ(1, epoll_wait(ep, &e, 1, 20000));
	EXPECT_EQ(0, reap(pid));
	close(ep);
	close(file);
}

/* An epoll instance in a queue, in each mode. */
TEST_F(life, epoll_in_queue)
{
	static const uint32_t modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL };
	struct ukevent ev;
	int i;

	for (i = 0; i < 3; i++) {
		int ep = epoll_create1(0), file = eventfd_make();
		uint64_t id;

		ASSERT_EQ(0, epoll_add(ep, file));
		ASSERT_EQ(0, add_file(self->fd, ep, EPOLLIN, modes[i], i, &id));
		EXPECT_EQ(0, get_now(self->fd));
		eventfd_fire(file);
		ASSERT_EQ(1, get_one(self->fd, &ev));
		EXPECT_EQ(i, ev.cookie);
		ASSERT_LE(0, remove_id(self->fd, id));
		close(ep);
		close(file);
	}
}

/* Loops through epoll: refused by the one or harmless by the other. */
TEST(epoll_loops)
{
	int before = module_references(), i, r;

	for (i = 0; i < 20; i++) {
		int ep = epoll_create1(0), q = queue_open(1, 4);
		int file = eventfd_make();

		ASSERT_EQ(0, add_file(q, file, EPOLLIN,
				      i & 1 ? KEVENT_LEVEL : 0, 1, NULL));
		if (i & 2) {
			ASSERT_EQ(0, epoll_add(ep, q));
			r = add_file(q, ep, EPOLLIN, i & 4 ? KEVENT_LEVEL : 0,
				     2, NULL);
		} else {
			ASSERT_EQ(0, add_file(q, ep, EPOLLIN,
					      i & 4 ? KEVENT_LEVEL : 0, 2,
					      NULL));
			r = epoll_add(ep, q);
		}
		EXPECT_TRUE(r == 0 || r == -ELOOP);
		eventfd_fire(file);
		get_now(q);
		eventfd_fire(file);
		close(i & 8 ? q : ep);
		eventfd_fire(file);
		close(i & 8 ? ep : q);
		close(file);
	}
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
}

struct fire {
	int file;
	int rounds;
};

static void *fire_run(void *arg)
{
	struct fire *f = arg;
	int i;

	for (i = 0; i < f->rounds; i++) {
		eventfd_fire(f->file);
		if (i % 3 == 0)
			eventfd_drain(f->file);
	}
	eventfd_fire(f->file);
	return NULL;
}

FIXTURE(chain) {
	int fds[8];
	int file;
};

FIXTURE_VARIANT(chain) {
	int length;
	uint32_t mode;
	int epoll;	/* every other link is an epoll instance */
};

#define CHAIN(n)							\
	FIXTURE_VARIANT_ADD(chain, edge_##n) { n, 0, 0 };		\
	FIXTURE_VARIANT_ADD(chain, level_##n) { n, KEVENT_LEVEL, 0 }

CHAIN(1);
CHAIN(2);
CHAIN(3);
CHAIN(4);
CHAIN(5);
CHAIN(6);
CHAIN(7);
CHAIN(8);
FIXTURE_VARIANT_ADD(chain, epoll_2) { 2, 0, 1 };
FIXTURE_VARIANT_ADD(chain, epoll_3) { 3, 0, 1 };
FIXTURE_VARIANT_ADD(chain, epoll_4) { 4, KEVENT_LEVEL, 1 };
FIXTURE_VARIANT_ADD(chain, epoll_6) { 6, KEVENT_LEVEL, 1 };

FIXTURE_SETUP(chain)
{
	int i, below;

	self->file = eventfd_make();
	below = self->file;
	for (i = 0; i < variant->length; i++) {
		if (variant->epoll && i & 1) {
			self->fds[i] = epoll_create1(EPOLL_CLOEXEC);
			ASSERT_EQ(0, epoll_add(self->fds[i], below));
		} else {
			self->fds[i] = queue_open(1, 4);
			ASSERT_EQ(0, add_file(self->fds[i], below, EPOLLIN,
					      variant->mode, i, NULL));
		}
		below = self->fds[i];
	}
}

FIXTURE_TEARDOWN(chain)
{
	int i;

	for (i = 0; i < variant->length; i++)
		close(self->fds[i]);
	close(self->file);
}

/* News at the bottom reach the top, and only news. */
TEST_F(chain, reaches_top)
{
	struct pollfd p = { .fd = self->fds[variant->length - 1],
			    .events = POLLIN };

	EXPECT_EQ(0, poll(&p, 1, 0));
	eventfd_fire(self->file);
	EXPECT_EQ(1, poll(&p, 1, 20000));
}

/* Signalled at full rate from two threads, nothing locks up. */
TEST_F(chain, full_rate)
{
	struct fire f = { self->file, scaled(2000) };
	struct pollfd p = { .fd = self->fds[variant->length - 1],
			    .events = POLLIN };
	pthread_t t[2];
	int i, k;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_create(&t[i], NULL, fire_run, &f));
	}
	for (k = 0; k < 200; k++)
		for (i = 0; i < variant->length; i++)
			if (!variant->epoll || !(i & 1))
				get_now(self->fds[i]);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, join(t[i], NULL));
	}
	/* What the drains above took away comes anew. */
	for (i = variant->length - 1; i >= 0; i--)
		if (!variant->epoll || !(i & 1))
			get_now(self->fds[i]);
	eventfd_drain(self->file);
	for (i = 0; i < variant->length; i++)
		if (!variant->epoll || !(i & 1))
			get_now(self->fds[i]);
	eventfd_fire(self->file);
	EXPECT_EQ(1, poll(&p, 1, 20000));
}

/* A long chain whose head is closed comes down without using up the stack. */
TEST(long_chain)
{
	int before = module_references(), n = scaled(1000), i;
	int *fds = calloc(n, sizeof(*fds));

	for (i = 0; i < n; i++) {
		fds[i] = queue_open(1, 1);
		ASSERT_LE(0, fds[i]);
		if (i) {
			ASSERT_EQ(0, add_file(fds[i], fds[i - 1], EPOLLIN,
					      KEVENT_LEVEL, i, NULL));
		}
	}
	for (i = 0; i < n - 1; i++)
		close(fds[i]);
	ASSERT_EQ(before + n, module_references());
	close(fds[n - 1]);
	EXPECT_TRUE(EVENTUALLY(module_references() == before));
	free(fds);
}

/* CLOSED and what was gathered share a ring that is nearly full. */
TEST(closed_beside_gathered)
{
	int file = eventfd_make(), i, n, closed = 0;
	int64_t end = now_ns() + LONG_NS, sum = 0;
	struct ukevent ev[8];
	struct queue q;
	uint64_t ids[4];

	ASSERT_EQ(0, queue_make(&q, 1, 4));
	ASSERT_EQ(0, add_file(q.fd, file, EPOLLIN, 0, 9, NULL));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, add_user(q.fd, 0, i, &ids[i]));
		ASSERT_EQ(0, trigger(q.fd, ids[i], 1));
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, trigger(q.fd, ids[i], 10));
	}
	ASSERT_EQ(4, ring_collect(&q, 0, ev, 8));
	close(file);
	while ((!closed || sum < 40) && now_ns() < end) {
		n = get(q.fd, ev, 1, 8, NSEC_PER_SEC);
		for (i = 0; i < n; i++) {
			closed += !!(ev[i].flags & KEVENT_EV_CLOSED);
			sum += ev[i].result;
		}
	}
	EXPECT_EQ(1, closed);
	EXPECT_EQ(40, sum);
	queue_free(&q);
}

/* Who watched the queue before SETUP hears of events after it. */
TEST(epoll_before_setup)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0), fd = device_open();
	struct kevent_setup s = setup_arg(1, 8);

	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	EXPECT_EQ(1, epoll_wait(ep, &e, 1, 0));
	EXPECT_EQ(EPOLLERR, e.events);
	ASSERT_EQ(0, ioc(fd, KEVENT_IOC_SETUP, &s));
	epoll_wait(ep, &e, 1, 0);
	ASSERT_EQ(0, submit_nop(fd, 1, 1));
	EXPECT_EQ(1, epoll_wait(ep, &e, 1, 20000));
	EXPECT_EQ(EPOLLIN, e.events);
	close(ep);
	close(fd);
}

TEST_HARNESS_MAIN
