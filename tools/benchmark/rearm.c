// SPDX-License-Identifier: MIT
/*
 * What oneshot sources cost beyond the bare write and read of their files: 256
 * eventfds are written, their events collected, all are read, and all armed again.
 * Run under tools/vm --icount.
 *
 * In the bracket, warm: all of that for 256 descriptors.  The writes and reads alone
 * (bare_write_read) are subtracted.
 *
 *   kevent    edge and oneshot; collected from the mapped ring; armed again by one
 *             KEVENT_IOC_CHANGE with an array of ENABLE, filled in from the events
 *   epoll     EPOLLONESHOT; collected by one epoll_wait; EPOLL_CTL_MOD for each
 *   io_uring  one-shot polls, submitted anew by one io_uring_submit.  With default
 *             flags, where the completions are there after the write, and as a single
 *             issuer with DEFER_TASKRUN, where one io_uring_enter brings them all;
 *             either with plain and with registered files: the cheapest of the four
 *             is io_uring, io_uring_default the first
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "measure.h"

#define FDS 256
#define ROUNDS 40

#define DEFER (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

static int fds[FDS];

/* collect() takes FDS events, rearm() arms the sources that they came from */
static void (*collect)(void);
static void (*rearm)(void);

static void run(void)
{
	__u64 value = 1;

	for (int i = 0; i < FDS; i++)
		must(write(fds[i], &value, 8) == 8, "write");
	collect();
	for (int i = 0; i < FDS; i++)
		must(read(fds[i], &value, 8) == 8, "read");
	rearm();
}

/* For each event. */
static double cost(void (*by_collect)(void), void (*by_rearm)(void))
{
	collect = by_collect;
	rearm = by_rearm;
	run();
	run();
	return best_of(ROUNDS, run) / FDS;
}

static void nothing(void)
{
}

static int queue;
static struct kevent_map map;
static struct ukevent events[FDS];
static struct kevent_change changes[FDS];

static void change(void)
{
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = FDS,
	};

	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == FDS, "KEVENT_IOC_CHANGE");
	for (int i = 0; i < FDS; i++)
		must(!changes[i].result, "change");
}

static void kevent_collect(void)
{
	must(kevent_ring_collect(&map, 0, events, FDS) == FDS, "kevent_ring_collect");
}

static void kevent_rearm(void)
{
	for (int i = 0; i < FDS; i++)
		changes[i] = (struct kevent_change){
			.op = KEVENT_OP_ENABLE, .id = events[i].id,
		};
	change();
}

static double cost_of_kevent(void)
{
	double result;

	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	for (int i = 0; i < FDS; i++)
		changes[i] = (struct kevent_change){
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .fd = fds[i],
			.events = EPOLLIN, .flags = KEVENT_ONESHOT,
		};
	change();
	result = cost(kevent_collect, kevent_rearm);
	kevent_unmap_rings(&map);
	close(queue);
	return result;
}

static int epfd;
static struct epoll_event ready[FDS];

static void epoll_collect(void)
{
	must(epoll_wait(epfd, ready, FDS, 0) == FDS, "epoll_wait");
}

static void epoll_arm(int op, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.fd = fd };

	must(!epoll_ctl(epfd, op, fd, &ev), "epoll_ctl");
}

static void epoll_rearm(void)
{
	for (int i = 0; i < FDS; i++)
		epoll_arm(EPOLL_CTL_MOD, ready[i].data.fd);
}

static double cost_of_epoll(void)
{
	double result;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(epfd >= 0, "epoll_create1");
	for (int i = 0; i < FDS; i++)
		epoll_arm(EPOLL_CTL_ADD, fds[i]);
	result = cost(epoll_collect, epoll_rearm);
	close(epfd);
	return result;
}

static struct io_uring ring;
static int defer, fixed;
static int fired[FDS];

static void uring_collect(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;

	if (defer)
		must(io_uring_get_events(&ring) >= 0, "io_uring_get_events");
	io_uring_for_each_cqe(&ring, head, cqe) {
		must(cqe->res == POLLIN, "poll");
		fired[n++] = (int)cqe->user_data;
	}
	must(n == FDS, "polls");
	io_uring_cq_advance(&ring, n);
}

static void uring_rearm(void)
{
	for (int i = 0; i < FDS; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_poll_add(sqe, fixed ? fired[i] : fds[fired[i]], POLLIN);
		sqe->flags = fixed ? IOSQE_FIXED_FILE : 0;
		sqe->user_data = fired[i];
	}
	must(io_uring_submit(&ring) == FDS, "io_uring_submit");
}

static double cost_of_uring(unsigned int flags, int registered)
{
	double result;

	defer = !!flags;
	fixed = registered;
	must(!io_uring_queue_init(FDS, &ring, flags), "io_uring_queue_init");
	must(io_uring_register_ring_fd(&ring) == 1, "io_uring_register_ring_fd");
	if (fixed)
		must(!io_uring_register_files(&ring, fds, FDS), "register_files");
	for (int i = 0; i < FDS; i++)
		fired[i] = i;
	uring_rearm();
	result = cost(uring_collect, uring_rearm);
	io_uring_queue_exit(&ring);
	return result;
}

int main(void)
{
	double loop = clock_check(0), bare, kevent, epoll, plain, uring;

	for (int i = 0; i < FDS; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		must(fds[i] >= 0, "eventfd");
	}
	bare = cost(nothing, nothing);
	kevent = cost_of_kevent() - bare;
	epoll = cost_of_epoll() - bare;
	uring = plain = cost_of_uring(0, 0) - bare;
	for (int i = 1; i < 4; i++) {
		double other = cost_of_uring(i & 1 ? DEFER : 0, i & 2) - bare;

		uring = other < uring ? other : uring;
	}
	clock_check(loop);
	report("rearm", "instructions per event", "kevent", kevent, "epoll", epoll,
	       "io_uring", uring, "io_uring_default", plain, "bare_write_read", bare,
	       NULL);
	return 0;
}
