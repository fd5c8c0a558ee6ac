// SPDX-License-Identifier: GPL-2.0
/* Requests in flight: processes and queues that end, limits, what is stuck. */
#include "io_test.h"

#include <sys/prctl.h>

#define SIZE (64 * IO_PAGE)

static int make_pipe(int fds[2])
{
	return pipe2(fds, O_CLOEXEC);
}

/* ------------------------------------------------------------------------ */
/* A device that is held: what it has cannot be cancelled */

FIXTURE(held) {
	struct queue q;
	int device;		/* O_DIRECT */
	int file;		/* on the file system there */
	pid_t watchdog;
	char *buffer;		/* SIZE, shared with children */
	char *check;
};

/* A test that waits for a held device would wait for ever; it fails instead. */
static pid_t let_go_later(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	nap_ns(2 * LONG_NS);
	dm_let_go(FAULTY);
	dm_let_go(HELD);
	_exit(0);
}

FIXTURE_SETUP(held)
{
	const char *path;

	if (!disk(2))
		SKIP(return, "KEVENT_DISKS names fewer than three disks");
	dm_let_go(FAULTY);
	dm_let_go(HELD);
	path = storage_path(DISK);
	ASSERT_NE(NULL, path);
	self->device = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, self->device);
	self->file = storage_open(EXT4_HELD, 0, SIZE, 1);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, fsync(self->file));
	ASSERT_EQ(0, queue_make(&self->q, 2, 64));
	self->buffer = shared_pages(SIZE);
	self->check = pages(SIZE);
	pattern_fill(self->check, SIZE, 1, 0);
	ASSERT_EQ(SIZE, pwrite(self->device, self->check, SIZE, 0));
	self->watchdog = let_go_later();
}

FIXTURE_TEARDOWN(held)
{
	/* It did not have to do anything. */
	EXPECT_EQ(0, waitpid(self->watchdog, NULL, WNOHANG));
	kill(self->watchdog, SIGKILL);
	waitpid(self->watchdog, NULL, 0);
	dm_let_go(FAULTY);
	dm_let_go(HELD);
	close(self->device);
	close(self->file);
	queue_free(&self->q);
}

/* Even blocks are read, odd ones written, all by the device. */
static int submit_to_device(int q, int device, char *buffer)
{
	unsigned int i;
	int result = 0;

	for (i = 0; i < 16 && !result; i++) {
		char *block = buffer + i * IO_PAGE;

		if (i % 2 == 0) {
			result = submit_read(q, device, memset(block, POISON, IO_PAGE),
					     IO_PAGE, i * IO_PAGE, i, NULL);
			continue;
		}
		pattern_fill(block, IO_PAGE, 2, i * IO_PAGE);
		result = submit_write(q, device, block, IO_PAGE, i * IO_PAGE, i,
				      NULL);
	}
	return result;
}

/* Whether a child is still there after a while in which it could have ended. */
static int stays(pid_t child)
{
	nap_ns(5 * SHORT_NS);
	return waitpid(child, NULL, WNOHANG) == 0;
}

enum end { KILLED, EXITS, CLOSES, EXECS };

/* In a child: submits, tells, and ends that way. */
static void submit_and_end(FIXTURE_DATA(held) *self, int tell, enum end end)
{
	if (submit_to_device(self->q.fd, self->device, self->buffer))
		_exit(1);
	/* Long enough, most times, for the device to have them. */
	nap_ns(2 * SHORT_NS);
	if (write(tell, "g", 1) != 1)
		_exit(2);
	if (end == KILLED)
		pause();
	if (end == EXECS)
		execl("/bin/true", "true", NULL);
	if (end == CLOSES) {
		close(self->q.fd);
		write(tell, "c", 1);
	}
	_exit(0);
}

/* All has ended; nobody writes a buffer or the device from here on. */
static void all_ended(struct __test_metadata *_metadata,
		      FIXTURE_DATA(held) *self)
{
	struct ukevent ev[32];
	unsigned int i;

	EXPECT_EQ(16, get(self->q.fd, ev, 0, 32, 0));
	EXPECT_EQ(0, requests_of(&self->q, 0));
	for (i = 0; i < 16; i++) {
		char *block = self->buffer + ev[i].cookie * IO_PAGE;

		if (ev[i].result == -ECANCELED)
			continue;
		EXPECT_EQ(IO_PAGE, ev[i].result);
		if (ev[i].cookie % 2 == 0)
			EXPECT_EQ(-1, pattern_wrong(block, IO_PAGE, 1,
						    ev[i].cookie * IO_PAGE));
	}
	memset(self->buffer, 0x5c, SIZE);
	pattern_fill(self->check, SIZE, 1, 0);
	ASSERT_EQ(SIZE, pwrite(self->device, self->check, SIZE, 0));
	nap_ns(SHORT_NS);
	EXPECT_TRUE(all_bytes(self->buffer, SIZE, 0x5c));
	ASSERT_EQ(SIZE, pread(self->device, self->check, SIZE, 0));
	EXPECT_EQ(-1, pattern_wrong(self->check, SIZE, 1, 0));
}

/* Whether the device had something when the child ended. */
static int end_in_flight(struct __test_metadata *_metadata,
			 FIXTURE_DATA(held) *self, enum end end)
{
	struct pollfd p = { .events = POLLIN };
	unsigned int with_device;
	int fds[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, make_pipe(fds));
	ASSERT_LE(0, dm_hold(FAULTY));
	child = fork();
	if (!child)
		submit_and_end(self, fds[1], end);
	ASSERT_EQ(1, read(fds[0], &byte, 1));
	if (end == KILLED)
		kill(child, SIGKILL);
	nap_ns(2 * SHORT_NS);
	with_device = requests_of(&self->q, 0) - pending_of(&self->q, 0);
	p.fd = fds[0];
	if (with_device) {
		/* It waits for the device. */
		EXPECT_TRUE(stays(child));
		EXPECT_EQ(0, poll(&p, 1, 0));
	}
	dm_let_go(FAULTY);
	EXPECT_EQ(end == KILLED ? 128 + SIGKILL : 0, reap(child));
	EXPECT_EQ(end == CLOSES, poll(&p, 1, 0));
	all_ended(_metadata, self);
	close(fds[0]);
	close(fds[1]);
	return with_device > 0;
}

#define END_IN_FLIGHT(name, end)					\
TEST_F(held, name)							\
{									\
	int i, overlaps = 0;						\
									\
	for (i = 0; i < 20 && !overlaps; i++)				\
		overlaps = end_in_flight(_metadata, self, end);		\
	EXPECT_LT(0, overlaps);						\
}

END_IN_FLIGHT(killed, KILLED)
END_IN_FLIGHT(exits, EXITS)
END_IN_FLIGHT(closes, CLOSES)
END_IN_FLIGHT(execs, EXECS)

/* Too late, and the end comes as it would have. */
TEST_F(held, cancel)
{
	struct ukevent ev;
	uint64_t id;

	ASSERT_LE(0, dm_hold(FAULTY));
	ASSERT_EQ(0, submit_read(self->q.fd, self->device, self->buffer, IO_PAGE, 0,
				 1, &id));
	/* Until the device has it, it is in time. */
	EXPECT_TRUE(EVENTUALLY(requests_of(&self->q, 0) == 1));
	nap_ns(5 * SHORT_NS);
	EXPECT_EQ(-EALREADY, cancel_id(self->q.fd, id));
	EXPECT_EQ(-EALREADY, cancel_id(self->q.fd, id));
	EXPECT_EQ(0, cancel_file(self->q.fd, self->device));
	EXPECT_EQ(0, get_soon(self->q.fd));
	dm_let_go(FAULTY);
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(IO_PAGE, ev.result);
	EXPECT_EQ(-ENOENT, cancel_id(self->q.fd, id));
}

/* What the device has goes on without its buffer and its descriptor. */
TEST_F(held, unmap_and_close)
{
	char *buffer = pages(16 * IO_PAGE);
	struct ukevent ev[16];
	const char *path = storage_path(DISK);
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC), i;

	ASSERT_LE(0, dm_hold(FAULTY));
	ASSERT_EQ(0, submit_to_device(self->q.fd, fd, buffer));
	ASSERT_EQ(0, munmap(buffer, 16 * IO_PAGE));
	ASSERT_EQ(buffer, mmap(buffer, 16 * IO_PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(buffer, 0x5c, 16 * IO_PAGE);
	ASSERT_EQ(fd, dup2(self->file, fd));
	close(fd);
	dm_let_go(FAULTY);
	ASSERT_EQ(16, get(self->q.fd, ev, 16, 16, LONG_NS));
	for (i = 0; i < 16; i++)
		EXPECT_EQ(IO_PAGE, ev[i].result);
	EXPECT_TRUE(all_bytes(buffer, 16 * IO_PAGE, 0x5c));
	ASSERT_EQ(SIZE, pread(self->device, self->check, SIZE, 0));
	for (i = 0; i < 16; i++)
		EXPECT_EQ(-1, pattern_wrong(self->check + i * IO_PAGE, IO_PAGE,
					    1 + i % 2, i * IO_PAGE));
}

/* No submission waits: cold cache, allocation, the disk's own queue, syncs. */
TEST_F(held, submission_is_short)
{
	int direct = open(storage_path(EXT4_HELD), O_RDWR | O_DIRECT | O_CLOEXEC);
	/* What is read is due to be marked as read, too. */
	struct timespec times[2] = { { 0, 0 }, { 0, UTIME_NOW } };
	struct kevent_change c[6];
	struct ukevent ev[1024];
	int64_t start, longest = 0;
	int i, k, n = 0;

	dm_let_go(HELD);
	ASSERT_LE(0, direct);
	ASSERT_EQ(0, futimens(self->file, times));
	ASSERT_EQ(0, make_cold(self->file));
	ASSERT_LE(0, dm_hold(HELD));
	for (i = 0; i < 100; i++) {
		uint32_t at = i % 64 * IO_PAGE;

		c[0] = read_entry(self->file, self->buffer, IO_PAGE, at);
		c[1] = write_entry(self->file, self->buffer, IO_PAGE, at + 1);
		c[2] = read_entry(direct, self->buffer, IO_PAGE, at);
		c[3] = write_entry(direct, self->buffer, IO_PAGE, SIZE + at);
		c[4] = sync_entry(self->file);
		c[5] = sync_entry(direct);
		for (k = 0; k < 6; k++) {
			c[k].ring = i % 2;
			start = now_ns();
			ASSERT_EQ(0, change(self->q.fd, &c[k]));
			if (now_ns() - start > longest)
				longest = now_ns() - start;
			n++;
		}
	}
	/* On a busy machine, being off the CPU counts too. */
	EXPECT_GT(2 * NSEC_PER_SEC, longest);
	ksft_print_msg("the longest submission took %lld us\n",
		       (long long)longest / 1000);
	EXPECT_LT(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	dm_let_go(HELD);
	for (i = 0; i < n; i += k) {
		k = get(self->q.fd, ev, 1, 1024, LONG_NS);
		ASSERT_LT(0, k);
	}
	EXPECT_EQ(n, i);
	EXPECT_EQ(0, requests_of(&self->q, 0) + requests_of(&self->q, 1));
	close(direct);
}

/* Workers that are stuck on one file system leave some to the others. */
TEST_F(held, others_go_on)
{
	struct ukevent ev[512];
	int i, n, other = storage_open(TMPFS, 0, SIZE, 1);

	ASSERT_LE(0, other);
	ASSERT_EQ(IO_PAGE, pwrite(self->file, self->check, IO_PAGE, 0));
	ASSERT_LE(0, dm_hold(HELD));
	for (i = 0; i < 400; i++) {
		struct kevent_change c = sync_entry(self->file);

		ASSERT_EQ(0, change(self->q.fd, &c));
	}
	for (i = 0; i < 100; i++)
		ASSERT_EQ(0, submit_write(self->q.fd, other, self->check, 100, i * 100,
					  1000 + i, NULL));
	for (i = 0; i < 100; i += n) {
		n = get(self->q.fd, ev, 1, 1, LONG_NS);
		ASSERT_EQ(1, n);
		EXPECT_LE(1000, ev[0].cookie);
		EXPECT_EQ(100, ev[0].result);
	}
	EXPECT_EQ(400, requests_of(&self->q, 0));
	dm_let_go(HELD);
	for (i = 0; i < 400; i += n) {
		n = get(self->q.fd, ev, 1, 512, LONG_NS);
		ASSERT_LT(0, n);
	}
	close(other);
}

/* A queued one is cancelled in time, although all its workers are stuck. */
TEST_F(held, cancel_queued)
{
	static uint64_t ids[200];
	struct ukevent ev;
	unsigned int i, early = 0, cancelled = 0;

	ASSERT_EQ(IO_PAGE, pwrite(self->file, self->check, IO_PAGE, 0));
	ASSERT_LE(0, dm_hold(HELD));
	for (i = 0; i < 200; i++) {
		struct kevent_change c = sync_entry(self->file);

		ASSERT_EQ(0, change(self->q.fd, &c));
		ids[i] = c.id;
	}
	for (i = 200; i-- > 0;)
		early += cancel_id(self->q.fd, ids[i]) == 0;
	EXPECT_LT(0, early);
	for (i = 0; i < early; i++) {
		ASSERT_EQ(1, get_one(self->q.fd, &ev));
		EXPECT_EQ(-ECANCELED, ev.result);
	}
	dm_let_go(HELD);
	for (; i < 200; i++) {
		ASSERT_EQ(1, get_one(self->q.fd, &ev));
		EXPECT_TRUE(ev.result == 0 || ev.result == -ECANCELED);
		cancelled += ev.result == -ECANCELED;
	}
	ksft_print_msg("%u in time, %u told to stop\n", early, cancelled);
}

/* Cancelled in time, it still tells what it found in the page cache. */
TEST_F(held, cancel_partial)
{
	struct ukevent ev;
	uint64_t ids[64];
	int i, answer[64];

	ASSERT_EQ(0, make_cold(self->file));
	ASSERT_EQ(0, posix_fadvise(self->file, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(IO_PAGE, pread(self->file, self->check, IO_PAGE, 0));
	ASSERT_LE(0, dm_hold(HELD));
	for (i = 0; i < 64; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, self->file, self->check,
					 2 * IO_PAGE, 0, i, &ids[i]));
	for (i = 64; i-- > 0;)
		answer[i] = cancel_id(self->q.fd, ids[i]);
	EXPECT_EQ(0, answer[63]);
	dm_let_go(HELD);
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(1, get_one(self->q.fd, &ev));
		EXPECT_TRUE(ev.result == IO_PAGE ||
			    (answer[ev.cookie] && ev.result == 2 * IO_PAGE))
			TH_LOG("cancel said %d, the event %lld",
			       answer[ev.cookie], (long long)ev.result);
	}
}

/* A frozen file system: nobody's submission waits, and all is written after. */
TEST_F(held, frozen)
{
	int direct = open(storage_path(EXT4_HELD), O_RDWR | O_DIRECT | O_CLOEXEC);
	struct ukevent ev[64];
	int i, early;

	dm_let_go(HELD);
	pattern_fill(self->check, SIZE, 3, 0);
	ASSERT_EQ(0, ioctl(self->file, FIFREEZE, 0));
	for (i = 0; i < 32; i++)
		EXPECT_EQ(0, submit_write(self->q.fd, i % 2 ? direct : self->file,
					  self->check + i * IO_PAGE, IO_PAGE,
					  i * IO_PAGE, i, NULL));
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(32, requests_of(&self->q, 0));
	/* Told to stop while it sleeps, or in time. */
	early = cancel_file(self->q.fd, direct);
	EXPECT_LE(0, early);
	ASSERT_EQ(16, get(self->q.fd, ev, 16, 16, LONG_NS));
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(-ECANCELED, ev[i].result);
		EXPECT_EQ(1, ev[i].cookie % 2);
	}
	EXPECT_EQ(0, get_soon(self->q.fd));
	ASSERT_EQ(0, ioctl(self->file, FITHAW, 0));
	ASSERT_EQ(16, get(self->q.fd, ev, 16, 16, LONG_NS));
	for (i = 0; i < 16; i++)
		EXPECT_EQ(IO_PAGE, ev[i].result);
	ASSERT_EQ(SIZE, pread(self->file, self->check, SIZE, 0));
	for (i = 0; i < 32; i++)
		EXPECT_EQ(-1, pattern_wrong(self->check + i * IO_PAGE, IO_PAGE,
					    i % 2 ? 1 : 3, i * IO_PAGE));
	close(direct);
}

/* Freezing and thawing under load: each write ends, and no freeze is missed. */
TEST_F(held, freeze_under_load)
{
	int direct = open(storage_path(EXT4_HELD), O_RDWR | O_DIRECT | O_CLOEXEC);
	unsigned int round, i, in_flight = 0, done = 0;
	struct ukevent ev[64];
	int n;

	dm_let_go(HELD);
	for (round = 0; round < scaled(40); round++) {
		for (; in_flight < 64; in_flight++)
			ASSERT_EQ(0, submit_write(self->q.fd, in_flight % 2 ? direct :
						  self->file, self->check, IO_PAGE,
						  in_flight * IO_PAGE, 0, NULL));
		ASSERT_EQ(0, ioctl(self->file, FIFREEZE, 0));
		ASSERT_EQ(0, ioctl(self->file, FITHAW, 0));
		n = get(self->q.fd, ev, 1, 64, LONG_NS);
		ASSERT_LT(0, n);
		for (i = 0; i < n; i++)
			EXPECT_EQ(IO_PAGE, ev[i].result);
		in_flight -= n;
		done += n;
	}
	ASSERT_EQ(in_flight, get(self->q.fd, ev, in_flight, 64, LONG_NS));
	EXPECT_EQ(0, requests_of(&self->q, 0));
	ksft_print_msg("%u writes in %u freezes\n", done, round);
	close(direct);
}

/*
 * A raw block device is nothing that could be frozen: under load it is refused, and
 * writes to it go on while a file system elsewhere is frozen.
 */
TEST_F(held, block_device_under_frozen)
{
	int cached = open(storage_path(DISK), O_RDWR | O_CLOEXEC);
	struct ukevent ev[32];
	unsigned int i;

	dm_let_go(HELD);
	for (i = 0; i < 32; i++) {
		if (i == 8)
			ASSERT_EQ(0, ioctl(self->file, FIFREEZE, 0));
		EXPECT_EQ(-1, ioctl(i % 2 ? cached : self->device, FIFREEZE, 0));
		EXPECT_EQ(EOPNOTSUPP, errno);
		EXPECT_EQ(0, submit_write(self->q.fd, i % 2 ? cached : self->device,
					  self->check + i * IO_PAGE, IO_PAGE,
					  i * IO_PAGE, i, NULL));
	}
	EXPECT_EQ(32, get(self->q.fd, ev, 32, 32, LONG_NS));
	for (i = 0; i < 32; i++)
		EXPECT_EQ(IO_PAGE, ev[i].result);
	ASSERT_EQ(0, ioctl(self->file, FITHAW, 0));
	/* And it can be frozen again: nobody has held that off. */
	ASSERT_EQ(0, ioctl(self->file, FIFREEZE, 0));
	ASSERT_EQ(0, ioctl(self->file, FITHAW, 0));
	close(cached);
}

/*
 * A worker that has done the first of a chain hangs in the second; the first's memory
 * may be given to another request meanwhile, which does not wait for that worker.
 */
TEST_F(held, chain_hangs)
{
	struct kevent_change c[2] = {
		write_entry(storage_open(TMPFS, 0, SIZE, 1), self->check, 100, 0),
		sync_entry(self->file),
	};
	struct ukevent ev[64];
	unsigned int i, round;

	ASSERT_LE(0, c[0].fd);
	c[0].flags = KEVENT_LINK;
	c[1].cookie = 1;
	ASSERT_EQ(IO_PAGE, pwrite(self->file, self->check, IO_PAGE, 0));
	ASSERT_LE(0, dm_hold(HELD));
	ASSERT_EQ(2, changes(self->q.fd, c, 2));
	ASSERT_EQ(1, get_one(self->q.fd, ev));
	EXPECT_EQ(0, ev[0].cookie);
	EXPECT_EQ(100, ev[0].result);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < 64; i++)
			ASSERT_EQ(0, submit_write(self->q.fd, c[0].fd, self->check, 10,
						  i * 10, 2 + i, NULL));
		ASSERT_EQ(64, get(self->q.fd, ev, 64, 64, LONG_NS));
		for (i = 0; i < 64; i++) {
			EXPECT_LE(2, ev[i].cookie);
			EXPECT_EQ(10, ev[i].result);
		}
	}
	EXPECT_EQ(1, requests_of(&self->q, 0));
	dm_let_go(HELD);
	ASSERT_EQ(1, get_one(self->q.fd, ev));
	EXPECT_EQ(1, ev[0].cookie);
	EXPECT_EQ(0, ev[0].result);
	close(c[0].fd);
}

/* The module stays for as long as anything is in flight. */
TEST_F(held, unload)
{
	struct ukevent ev;

	ASSERT_LE(0, dm_hold(FAULTY));
	ASSERT_EQ(0, submit_read(self->q.fd, self->device, self->buffer, IO_PAGE, 0,
				 1, NULL));
	EXPECT_EQ(-1, syscall(SYS_delete_module, "kevent", O_NONBLOCK));
	EXPECT_EQ(EAGAIN, errno);
	dm_let_go(FAULTY);
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(IO_PAGE, ev.result);
}

/* ------------------------------------------------------------------------ */
/* Who closes what */

FIXTURE(life) {
	struct queue q;
	int fds[2];
	char *buffer;
};

FIXTURE_SETUP(life)
{
	ASSERT_EQ(0, queue_make(&self->q, 2, 64));
	ASSERT_EQ(0, make_pipe(self->fds));
	self->buffer = shared_pages(MIB);
}

FIXTURE_TEARDOWN(life)
{
	parameter_set("max_ring_requests", 65536);
	parameter_set("max_user_held", 0);
	queue_free(&self->q);
	close(self->fds[0]);
	close(self->fds[1]);
}

/* Any descriptor of the queue that is closed cancels what this table has. */
TEST_F(life, close_dup)
{
	int other = dup(self->q.fd), i;
	struct ukevent ev[4];

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, submit_read(i % 2 ? other : self->q.fd, self->fds[0],
					 self->buffer, 1, 0, i, NULL));
	close(other);
	ASSERT_EQ(3, get(self->q.fd, ev, 0, 4, 0));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-ECANCELED, ev[i].result);
	/* The one that is left can be used as before. */
	ASSERT_EQ(0, submit_read(self->q.fd, self->fds[0], self->buffer, 1, 0, 7,
				 NULL));
	ASSERT_EQ(1, write(self->fds[1], "x", 1));
	ASSERT_EQ(1, get_one(self->q.fd, ev));
	EXPECT_EQ(1, ev[0].result);
}

/* A child that exits cancels its own, and the parent's go on; and the reverse. */
TEST_F(life, child_exits)
{
	struct ukevent ev[8];
	pid_t child;
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, self->fds[0], self->buffer + i, 1,
					 0, i, NULL));
	child = fork();
	if (!child) {
		for (i = 0; i < 3; i++)
			if (submit_read(self->q.fd, self->fds[0], self->buffer, 1, 0,
					100 + i, NULL))
				_exit(1);
		_exit(0);
	}
	EXPECT_EQ(0, reap(child));
	ASSERT_EQ(3, get(self->q.fd, ev, 0, 8, 0));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-ECANCELED, ev[i].result);
		EXPECT_LE(100, ev[i].cookie);
	}
	EXPECT_EQ(3, requests_of(&self->q, 0));
	ASSERT_EQ(3, write(self->fds[1], "abc", 3));
	ASSERT_EQ(3, get(self->q.fd, ev, 3, 8, LONG_NS));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(1, ev[i].result);
}

static void *submit_in_thread(void *arg)
{
	FIXTURE_DATA(life) *self = arg;

	return (void *)(intptr_t)submit_read(self->q.fd, self->fds[0], self->buffer,
					     1, 0, 1, NULL);
}

/* A thread shares its process's table: its end is nobody's close. */
TEST_F(life, thread_exits)
{
	struct ukevent ev;
	pthread_t thread;
	void *result;

	ASSERT_EQ(0, pthread_create(&thread, NULL, submit_in_thread, self));
	ASSERT_EQ(0, join(thread, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_EQ(0, get_soon(self->q.fd));
	ASSERT_EQ(1, write(self->fds[1], "x", 1));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(1, ev.result);
}

/* The last close with requests that wait, are linked, and are queued. */
TEST_F(life, last_close)
{
	unsigned int round;

	for (round = 0; round < scaled(200); round++) {
		int q = queue_open(2, 4), i, fd = storage_open(TMPFS, 0, 0, 1);
		struct kevent_change c[4];

		ASSERT_LE(0, q);
		for (i = 0; i < 3; i++) {
			c[i] = read_entry(self->fds[0], self->buffer, 1, 0);
			c[i].flags = i < 2 ? KEVENT_LINK : 0;
		}
		c[3] = write_entry(fd, self->buffer, IO_PAGE, 0);
		ASSERT_EQ(4, changes(q, c, 4));
		for (i = 0; i < 4; i++)
			EXPECT_EQ(0, c[i].result);
		close(q);
		close(fd);
	}
	/* Nobody took the data that nobody waits for any more. */
	ASSERT_EQ(1, write(self->fds[1], "x", 1));
	EXPECT_EQ(1, read(self->fds[0], self->buffer, 1));
}

/* Killed at random while all is in motion; nothing is written after wait(2). */
TEST_F(life, killed_at_random)
{
	int fd = storage_open(TMPFS, 0, 64 * IO_PAGE, 1);
	unsigned int round, i, k;
	char *page = pages(64 * IO_PAGE);

	ASSERT_LE(0, fd);
	for (round = 0; round < scaled(60); round++) {
		pid_t child = fork();

		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (i = 0;; i++) {
				struct ukevent ev[64];

				memset(self->buffer, i, 64 * IO_PAGE);
				for (k = 0; k < 16; k++) {
					submit_write(self->q.fd, fd, self->buffer +
						     k * 4 * IO_PAGE, 4 * IO_PAGE,
						     k * 4 * IO_PAGE, 0, NULL);
					submit_read(self->q.fd, fd, self->buffer +
						    k * 4 * IO_PAGE, 4 * IO_PAGE,
						    k * 4 * IO_PAGE, 0, NULL);
				}
				get(self->q.fd, ev, 1, 64, 0);
			}
		}
		nap_ns(mix(round) % 8 * NSEC_PER_MSEC);
		kill(child, SIGKILL);
		ASSERT_EQ(128 + SIGKILL, reap(child));
		/* From here on all that is written is ours. */
		memset(page, 0x5c, 64 * IO_PAGE);
		memset(self->buffer, 0x5d, 64 * IO_PAGE);
		ASSERT_EQ(64 * IO_PAGE, pwrite(fd, page, 64 * IO_PAGE, 0));
		sched_yield();
		ASSERT_EQ(64 * IO_PAGE, pread(fd, page, 64 * IO_PAGE, 0));
		EXPECT_TRUE(all_bytes(page, 64 * IO_PAGE, 0x5c));
		EXPECT_TRUE(all_bytes(self->buffer, 64 * IO_PAGE, 0x5d));
		while (get_now(self->q.fd) > 0)
			;
		EXPECT_EQ(0, requests_of(&self->q, 0));
	}
	close(fd);
}

/* ------------------------------------------------------------------------ */
/* Limits */

TEST_F(life, ring_limit)
{
	struct ukevent ev[16];
	uint64_t ids[10];
	int i, other;

	ASSERT_EQ(0, parameter_set("max_ring_requests", 10));
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, self->fds[0], self->buffer, 1, 0,
					 i, &ids[i]));
	for (i = 0; i < 3; i++) {
		struct kevent_change c = read_entry(self->fds[0], self->buffer, 1, 0);

		EXPECT_EQ(-EAGAIN, change(self->q.fd, &c));
		EXPECT_EQ(0, c.id);
		EXPECT_EQ(10, requests_of(&self->q, 0));
	}
	EXPECT_EQ(-EAGAIN, submit_nop(self->q.fd, 1, 1));
	EXPECT_EQ(0, get_soon(self->q.fd));
	/* Another ring and another queue have their own. */
	EXPECT_EQ(0, submit_nop_at(self->q.fd, 1, 1, 1, NULL));
	other = queue_open(1, 4);
	EXPECT_EQ(0, submit_nop(other, 1, 1));
	close(other);
	EXPECT_EQ(1, get_now(self->q.fd));
	EXPECT_EQ(0, cancel_id(self->q.fd, ids[3]));
	EXPECT_EQ(1, get(self->q.fd, ev, 1, 16, LONG_NS));
	EXPECT_EQ(0, submit_read(self->q.fd, self->fds[0], self->buffer, 1, 0, 1, NULL));
	EXPECT_EQ(-EAGAIN, submit_nop(self->q.fd, 1, 1));
	EXPECT_EQ(10, cancel_file(self->q.fd, self->fds[0]));
	EXPECT_EQ(10, get(self->q.fd, ev, 10, 16, LONG_NS));
	EXPECT_EQ(0, requests_of(&self->q, 0));
}

/* An event that waits for room in its ring counts as well. */
TEST_F(life, ring_limit_unclaimed)
{
	struct ukevent ev[16];
	int q = queue_open(1, 4), i;

	ASSERT_EQ(0, parameter_set("max_ring_requests", 10));
	for (i = 0; i < 14; i++)
		EXPECT_EQ(0, submit_nop(q, i, i));
	EXPECT_EQ(-EAGAIN, submit_nop(q, 14, 14));
	for (i = 0; i < 14; i++) {
		ASSERT_EQ(1, get_one(q, ev));
		EXPECT_EQ(i, ev[0].result);
	}
	EXPECT_EQ(0, submit_nop(q, 14, 14));
	close(q);
}

/* Fills until EAGAIN; how many were taken. */
static int fill_up(int q, int fd, char *buffer, uint32_t len)
{
	int n = 0, result;

	do
		result = submit_read(q, fd, buffer, len, 0, n, NULL);
	while (!result && ++n < 5000);
	return result == -EAGAIN ? n : -1;
}

/* Requests and the pages that they pin, of all the user's queues together. */
TEST_F(life, user_limit)
{
	struct ukevent ev[64];
	int first, second, other, n, i;
	pid_t child;

	ASSERT_EQ(0, parameter_set("max_user_held", 1000));
	/* Each is one, its page, and what its waiting takes. */
	first = fill_up(self->q.fd, self->fds[0], self->buffer, 1);
	EXPECT_GE(500, first);
	EXPECT_LE(250, first);
	EXPECT_EQ(first, requests_of(&self->q, 0));
	other = queue_open(1, 4);
	second = fill_up(other, self->fds[0], self->buffer, 1);
	EXPECT_LE(0, second);
	EXPECT_GE(500, first + second);
	/* Another user's account is another. */
	child = fork();
	if (!child) {
		if (chmod("/dev/kevent", 0666) || setresuid(65534, 65534, 65534))
			_exit(1);
		other = queue_open(1, 4);
		_exit(submit_read(other, self->fds[0], self->buffer, 1, 0, 1, NULL) ?
		      2 : 0);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(first, cancel_file(self->q.fd, self->fds[0]));
	for (i = 0; i < first; i += n) {
		n = get(self->q.fd, ev, 1, 64, LONG_NS);
		ASSERT_LT(0, n);
	}
	close(other);
	/* All of it has come back. */
	EXPECT_EQ(first, fill_up(self->q.fd, self->fds[0], self->buffer, 1));
	EXPECT_EQ(first, cancel_file(self->q.fd, self->fds[0]));
}

/* A megabyte is 256 pages, and nothing is pinned of what is refused. */
TEST_F(life, pages_limit)
{
	ASSERT_EQ(0, parameter_set("max_user_held", 600));
	EXPECT_EQ(2, fill_up(self->q.fd, self->fds[0], self->buffer, MIB));
	EXPECT_EQ(2, requests_of(&self->q, 0));
	EXPECT_EQ(2, cancel_file(self->q.fd, self->fds[0]));
	EXPECT_EQ(2, get_soon(self->q.fd));
	EXPECT_EQ(2, fill_up(self->q.fd, self->fds[0], self->buffer, MIB));
	EXPECT_EQ(2, cancel_file(self->q.fd, self->fds[0]));
	EXPECT_EQ(2, get_soon(self->q.fd));
}

/* ------------------------------------------------------------------------ */
/* A worker is its submitter */

/* Who may not keep it loses the set-user-id bit by writing, and root does not. */
TEST_F(life, rights)
{
	struct stat st;
	int fd = storage_open(TMPFS, 0, IO_PAGE, 1);
	pid_t child;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, chmod("/dev/kevent", 0666));
	ASSERT_EQ(0, fchmod(fd, 04777));
	EXPECT_EQ(4, io_do(self->q.fd, write_entry(fd, "root", 4, 0)).result);
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(04777, st.st_mode & 07777);
	child = fork();
	if (!child) {
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(1);
		_exit(io_do(self->q.fd, write_entry(fd, "user", 4, 0)).result == 4 ?
		      0 : 2);
	}
	EXPECT_EQ(0, reap(child));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(0777, st.st_mode & 07777);
	close(fd);
}

FIXTURE(fuse) {
	struct fuse_server server;
	struct queue q;
	int file;
	char *buffer;
};

FIXTURE_SETUP(fuse)
{
	ASSERT_EQ(0, fuse_start(&self->server));
	ASSERT_EQ(0, queue_make(&self->q, 1, 64));
	self->file = open(FUSE_DIR "/file", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->file);
	self->buffer = pages(MIB);
}

FIXTURE_TEARDOWN(fuse)
{
	fuse_let_go(&self->server);
	close(self->file);
	queue_free(&self->q);
	fuse_stop(&self->server);
}

/* The credentials are those at submission, whatever became of the submitter. */
TEST_F(fuse, credentials_dropped)
{
	struct ukevent ev;
	pid_t child;

	EXPECT_EQ(100, io_do(self->q.fd, read_entry(self->file, self->buffer, 100,
						    50)).result);
	EXPECT_EQ(-1, pattern_wrong(self->buffer, 100, 1, 50));
	EXPECT_EQ(0, self->server.shared->uid);
	child = fork();
	if (!child) {
		struct kevent_change c[2];
		int fds[2], i;

		if (make_pipe(fds) || setresuid(1234, 1234, 1234))
			_exit(1);
		c[0] = read_entry(fds[0], self->buffer, 1, 0);
		c[0].flags = KEVENT_LINK;
		c[1] = read_entry(self->file, self->buffer, 100, 0);
		if (changes(self->q.fd, c, 2) != 2 || c[0].result || c[1].result)
			_exit(2);
		/* The second begins only now. */
		if (write(fds[1], "x", 1) != 1)
			_exit(3);
		for (i = 0; i < 2; i++)
			if (get_one(self->q.fd, &ev) != 1)
				_exit(4);
		_exit(ev.result == 100 ? 0 : 5);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(1234, self->server.shared->uid);
}

TEST_F(fuse, credentials_kept)
{
	pid_t child;

	self->server.shared->uid = 77;
	child = fork();
	if (!child) {
		struct kevent_change c[2];
		struct ukevent ev[2];
		int fds[2];

		if (make_pipe(fds))
			_exit(1);
		c[0] = read_entry(fds[0], self->buffer, 1, 0);
		c[0].flags = KEVENT_LINK;
		c[1] = write_entry(self->file, self->buffer, 100, 0);
		/* Submitted by root, begun when it is root no more. */
		if (changes(self->q.fd, c, 2) != 2 ||
		    setresuid(4321, 4321, 4321) || write(fds[1], "x", 1) != 1 ||
		    get(self->q.fd, ev, 2, 2, LONG_NS) != 2)
			_exit(2);
		_exit(ev[0].result == 1 && ev[1].result == 100 ? 0 : 3);
	}
	EXPECT_EQ(0, reap(child));
	EXPECT_EQ(0, self->server.shared->uid);
}

/* A server that does not answer stops neither submission nor other files. */
TEST_F(fuse, stuck)
{
	struct ukevent ev[512];
	int i, n, other = storage_open(TMPFS, 0, SIZE, 1);

	ASSERT_LE(0, other);
	fuse_hold(&self->server);
	for (i = 0; i < 300; i++)
		ASSERT_EQ(0, submit_read(self->q.fd, self->file, self->buffer, IO_PAGE,
					 i % 256 * IO_PAGE, i, NULL));
	EXPECT_TRUE(EVENTUALLY(fuse_waiting(&self->server) > 0));
	for (i = 0; i < 50; i++) {
		EXPECT_EQ(100, io_do(self->q.fd, write_entry(other, self->buffer, 100,
							     0)).result);
	}
	EXPECT_EQ(300, requests_of(&self->q, 0));
	/* Not one worker for each. */
	EXPECT_GE(128, fuse_waiting(&self->server));
	ksft_print_msg("%u of 300 with the server\n", fuse_waiting(&self->server));
	fuse_let_go(&self->server);
	for (i = 0; i < 300; i += n) {
		n = get(self->q.fd, ev, 1, 512, LONG_NS);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(0, requests_of(&self->q, 0));
	close(other);
}

/* What sleeps in a worker is told to stop, and does. */
TEST_F(fuse, cancel)
{
	struct ukevent ev;
	uint64_t id;

	fuse_hold(&self->server);
	ASSERT_EQ(0, submit_read(self->q.fd, self->file, self->buffer, 100, 0, 1, &id));
	EXPECT_TRUE(EVENTUALLY(fuse_waiting(&self->server) == 1));
	EXPECT_EQ(0, get_soon(self->q.fd));
	EXPECT_EQ(-EALREADY, cancel_id(self->q.fd, id));
	ASSERT_EQ(1, get_one(self->q.fd, &ev));
	EXPECT_EQ(-ECANCELED, ev.result);
	EXPECT_EQ(1, self->server.shared->interrupted);
	/* The worker is none the worse for it. */
	fuse_let_go(&self->server);
	EXPECT_EQ(100, io_do(self->q.fd, read_entry(self->file, self->buffer, 100,
						    0)).result);
}

/* A kill ends what sleeps in workers, and wait(2) comes after that. */
TEST_F(fuse, killed)
{
	struct ukevent ev[64];
	pid_t child;
	int i;

	fuse_hold(&self->server);
	child = fork();
	if (!child) {
		for (i = 0; i < 50; i++)
			submit_read(self->q.fd, self->file, self->buffer, 100, 0, i,
				    NULL);
		pause();
	}
	EXPECT_TRUE(EVENTUALLY(fuse_waiting(&self->server) > 0 &&
			       requests_of(&self->q, 0) == 50));
	kill(child, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, reap(child));
	EXPECT_EQ(50, get(self->q.fd, ev, 0, 64, 0));
	for (i = 0; i < 50; i++)
		EXPECT_EQ(-ECANCELED, ev[i].result);
	EXPECT_EQ(0, requests_of(&self->q, 0));
	EXPECT_EQ(0, fuse_waiting(&self->server));
}

TEST_HARNESS_MAIN
