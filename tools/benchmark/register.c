// SPDX-License-Identifier: MIT
/*
 * 10,000 eventfds, none of them ready, are added to a queue and removed from it.
 * The row is the sum of both for each descriptor; NAME_add and NAME_remove are its
 * parts.  Run under tools/vm --icount.
 *
 * In the bracket: all of adding and, in a second one, of removing, from user space
 * to user space, with every result checked.  Warm: the same descriptors were added
 * and removed before; NAME_cold is the sum for the first time, when caches of memory
 * must be filled.
 *
 *   kevent    KEVENT_IOC_CHANGE with arrays of 1,000 ADD (edge), then of REMOVE
 *   epoll     epoll_ctl for each: edge-triggered ADD, then DEL
 *   io_uring  multishot polls, then a poll removal for each, 1,000 for each
 *             io_uring_submit; the removals ask for no completion of their own, those
 *             of the polls are collected.  The descriptors are not registered as
 *             files: that would cost more than it spares a poll that is added once.
 *             With as many CQ entries as a hash table of the largest size takes (256
 *             buckets), and with the last added removed first, which the kernel finds
 *             at the head of its bucket: in the order of adding, the removals cost
 *             io_uring_in_order.  With default flags, and as a single issuer
 *             (DEFER_TASKRUN): the cheaper one is io_uring
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "measure.h"

#define FDS 10000
#define BATCH 1000
#define ROUNDS 6

static int fds[FDS];

struct cost {
	double add, remove;
	double cold; /* both, the first time */
};

static double sum(const struct cost *c)
{
	return c->add + c->remove;
}

static void best(double *best, double start)
{
	double took = (now() - start) / FDS;

	if (took < *best)
		*best = took;
}

static struct cost cost(void (*add)(void), void (*remove)(void))
{
	struct cost c = { 1e18, 1e18, 1e18 };
	double start = now();

	add();
	remove();
	best(&c.cold, start);
	for (int i = 0; i < ROUNDS; i++) {
		start = now();
		add();
		best(&c.add, start);
		start = now();
		remove();
		best(&c.remove, start);
	}
	return c;
}

static int queue;
static struct kevent_change changes[BATCH];
static __u64 ids[FDS];

static void change(void)
{
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = BATCH,
	};

	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == BATCH, "KEVENT_IOC_CHANGE");
}

static void kevent_add(void)
{
	for (int i = 0; i < FDS; i += BATCH) {
		for (int k = 0; k < BATCH; k++)
			changes[k] = (struct kevent_change){
				.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE,
				.fd = fds[i + k], .events = EPOLLIN, .cookie = i + k,
			};
		change();
		for (int k = 0; k < BATCH; k++) {
			must(!changes[k].result, "ADD");
			ids[i + k] = changes[k].id;
		}
	}
}

static void kevent_remove(void)
{
	for (int i = 0; i < FDS; i += BATCH) {
		for (int k = 0; k < BATCH; k++)
			changes[k] = (struct kevent_change){
				.op = KEVENT_OP_REMOVE, .id = ids[i + k],
			};
		change();
		for (int k = 0; k < BATCH; k++)
			must(!changes[k].result, "REMOVE");
	}
}

static int epfd;

static void epoll_add(void)
{
	for (int i = 0; i < FDS; i++) {
		struct epoll_event ev = {
			.events = EPOLLIN | EPOLLET, .data.u64 = i,
		};

		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "EPOLL_CTL_ADD");
	}
}

static void epoll_remove(void)
{
	for (int i = 0; i < FDS; i++)
		must(!epoll_ctl(epfd, EPOLL_CTL_DEL, fds[i], NULL), "EPOLL_CTL_DEL");
}

static struct io_uring ring;
static int defer, in_order;

static void uring_add(void)
{
	for (int i = 0; i < FDS; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_poll_multishot(sqe, fds[i], POLLIN);
		io_uring_sqe_set_data64(sqe, i);
		if ((i + 1) % BATCH == 0)
			must(io_uring_submit(&ring) == BATCH, "io_uring_submit");
	}
	must(!io_uring_cq_ready(&ring), "polls");
}

static void uring_cancelled(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;

	io_uring_for_each_cqe(&ring, head, cqe) {
		must(cqe->res == -ECANCELED, "poll");
		n++;
	}
	must(n == BATCH, "removed polls");
	io_uring_cq_advance(&ring, n);
}

static void uring_remove(void)
{
	int n;

	for (int i = 0; i < FDS; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_poll_remove(sqe, in_order ? i : FDS - 1 - i);
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
		if ((i + 1) % BATCH)
			continue;
		if (defer) /* completions may wait for us to ask for them */
			n = io_uring_submit_and_get_events(&ring);
		else
			n = io_uring_submit(&ring);
		must(n == BATCH, "io_uring_submit");
		uring_cancelled();
	}
}

static struct cost cost_of_uring(unsigned int flags)
{
	struct io_uring_params p = {
		.flags = flags | IORING_SETUP_CQSIZE, .cq_entries = 16384,
	};
	struct cost c;

	defer = !!flags;
	must(!io_uring_queue_init_params(BATCH, &ring, &p), "io_uring_queue_init");
	must(io_uring_register_ring_fd(&ring) == 1, "io_uring_register_ring_fd");
	c = cost(uring_add, uring_remove);
	io_uring_queue_exit(&ring);
	return c;
}

int main(void)
{
	double loop = clock_check(0);
	struct cost kevent, epoll, uring, other, ordered;

	for (int i = 0; i < FDS; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		must(fds[i] >= 0, "eventfd");
	}
	queue = kevent_open();
	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(queue >= 0 && epfd >= 0, "queues");

	kevent = cost(kevent_add, kevent_remove);
	epoll = cost(epoll_add, epoll_remove);
	uring = cost_of_uring(0);
	other = cost_of_uring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (sum(&other) < sum(&uring))
		uring = other;
	in_order = 1;
	ordered = cost_of_uring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	clock_check(loop);
	report("register", "instructions per descriptor", "kevent", sum(&kevent), "epoll",
	       sum(&epoll), "io_uring", sum(&uring), "io_uring_in_order", sum(&ordered),
	       "kevent_add", kevent.add, "kevent_remove", kevent.remove,
	       "epoll_add", epoll.add, "epoll_remove", epoll.remove,
	       "io_uring_add", uring.add, "io_uring_remove", uring.remove,
	       "kevent_cold", kevent.cold, "epoll_cold", epoll.cold,
	       "io_uring_cold", uring.cold, NULL);
	return 0;
}
