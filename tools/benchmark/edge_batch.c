// SPDX-License-Identifier: MIT
/*
 * What an edge event costs beyond the bare write of an eventfd, in batches of 256.
 * Run under tools/vm --icount.
 *
 * In the bracket: 256 writes, each to another eventfd, then the collection of their
 * 256 events, of which each one's cookie and bits are looked at; all of it warm.  The
 * same writes while nobody watches are subtracted.
 *
 * kevent    edge sources, collected from the mapped ring with kevent_view_peek() and
 *           kevent_view_claim(): no system call; kevent_copied: by kevent_ring_collect()
 * epoll     edge-triggered, one epoll_wait for the batch (epoll_pwait2 with a timeout
 *           of 0 does the same and copies the timespec besides)
 * io_uring  multishot polls, no system call but where completions wait for one; the
 *           ring's descriptor is registered.  The cheapest of three rings: default
 *           flags; COOP_TASKRUN; SINGLE_ISSUER with DEFER_TASKRUN
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <sys/eventfd.h>

#include "measure.h"

#define FDS 256
#define ROUNDS 40
/* Of the cookies, which are 0 to FDS - 1, and of EPOLLIN for each. */
#define SUM (FDS * (FDS - 1) / 2 + FDS * EPOLLIN)

static int fds[FDS];

static void open_fds(void)
{
	for (int i = 0; i < FDS; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		must(fds[i] >= 0, "eventfd");
	}
}

static void close_fds(void)
{
	for (int i = 0; i < FDS; i++)
		close(fds[i]);
}

static void write_all(void)
{
	const __u64 one = 1;

	for (int i = 0; i < FDS; i++)
		must(write(fds[i], &one, 8) == 8, "write");
}

/* Returns the sum of what was collected. */
static unsigned long (*collect)(void);

static void write_and_collect(void)
{
	write_all();
	must(collect() == SUM, "every event once");
}

/* For each event. */
static double cost(unsigned long (*how)(void))
{
	collect = how;
	write_and_collect();
	return best_of(ROUNDS, write_and_collect) / FDS;
}

static unsigned long collect_nothing(void)
{
	return SUM;
}

static double cost_of_nothing(void)
{
	double result;

	open_fds();
	result = cost(collect_nothing);
	close_fds();
	return result;
}

static int epfd;

static unsigned long collect_epoll(void)
{
	struct epoll_event ev[FDS];
	unsigned long sum = 0;
	int n = epoll_wait(epfd, ev, FDS, 0);

	for (int i = 0; i < n; i++)
		sum += ev[i].data.u64 + ev[i].events;
	return sum;
}

static double cost_of_epoll(void)
{
	double result;

	open_fds();
	epfd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < FDS; i++) {
		struct epoll_event ev = {
			.events = EPOLLIN | EPOLLET, .data.u64 = i,
		};

		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "epoll_ctl");
	}
	result = cost(collect_epoll);
	close(epfd);
	close_fds();
	return result;
}

static struct io_uring ring;

static unsigned long collect_uring(void)
{
	struct io_uring_cqe *cqe;
	unsigned long sum = 0;
	unsigned int head, n = 0;

	if (ring.flags & IORING_SETUP_DEFER_TASKRUN)
		must(io_uring_submit_and_wait(&ring, FDS) >= 0, "submit_and_wait");
	io_uring_for_each_cqe(&ring, head, cqe) {
		sum += cqe->user_data + cqe->res;
		n++;
	}
	io_uring_cq_advance(&ring, n);
	return sum;
}

static double cost_of_uring(unsigned int flags)
{
	struct io_uring_params p = { .flags = flags };
	double result;

	open_fds();
	must(!io_uring_queue_init_params(FDS, &ring, &p), "io_uring_queue_init");
	must(io_uring_register_ring_fd(&ring) == 1, "register_ring_fd");
	for (int i = 0; i < FDS; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_poll_multishot(sqe, fds[i], EPOLLIN);
		io_uring_sqe_set_data64(sqe, i);
	}
	must(io_uring_submit(&ring) == FDS, "io_uring_submit");
	result = cost(collect_uring);
	io_uring_queue_exit(&ring);
	close_fds();
	return result;
}

static struct kevent_map map;
static struct kevent_view view;

static unsigned long collect_kevent(void)
{
	const struct ukevent *ev;
	unsigned long sum = 0;
	unsigned int n;

	while ((n = kevent_view_peek(&view, &ev))) {
		for (unsigned int i = 0; i < n; i++)
			sum += ev[i].cookie + ev[i].events;
		must(kevent_view_claim(&view, n), "kevent_view_claim");
	}
	return sum;
}

static unsigned long copy_kevent(void)
{
	struct ukevent ev[FDS];
	unsigned long sum = 0;
	unsigned int n = kevent_ring_collect(&map, 0, ev, FDS);

	for (unsigned int i = 0; i < n; i++)
		sum += ev[i].cookie + ev[i].events;
	return sum;
}

static double cost_of_kevent(unsigned long (*how)(void))
{
	int queue = kevent_open();
	double result;

	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	open_fds();
	for (int i = 0; i < FDS; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = i,
			.fd = fds[i], .events = EPOLLIN,
		};

		must(kevent_change(queue, &c) >= 0, "add");
	}
	view = kevent_view_of(&map, 0);
	result = cost(how);
	kevent_unmap_rings(&map);
	close(queue);
	close_fds();
	return result;
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

int main(void)
{
	double loop = clock_check(0), bare, kevent, copied, epoll, uring, coop, defer;

	bare = cost_of_nothing();
	kevent = cost_of_kevent(collect_kevent) - bare;
	copied = cost_of_kevent(copy_kevent) - bare;
	epoll = cost_of_epoll() - bare;
	uring = cost_of_uring(0) - bare;
	coop = cost_of_uring(IORING_SETUP_COOP_TASKRUN) - bare;
	defer = cost_of_uring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) -
		bare;
	clock_check(loop);
	report("edge_batch", "instructions per event", "kevent", kevent, "epoll", epoll,
	       "io_uring", least(least(uring, coop), defer), "kevent_copied", copied,
	       "io_uring_default", uring, "io_uring_coop", coop, "io_uring_defer", defer,
	       "bare_write", bare, NULL);
	return 0;
}
