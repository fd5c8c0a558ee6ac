// SPDX-License-Identifier: MIT
/*
 * What it takes to collect one edge event that is there already, by a collector that
 * does not sleep.  Run under tools/vm --icount.
 *
 * An eventfd is written and its event collected, 256 times in turn, all of it warm.
 * In the bracket: the collection, and a look at the event's cookie and bits; not the
 * write.  The same bracket with nothing in it is subtracted.  The figures ending in
 * _all are what write and collection together add to the bare write.
 *
 * kevent    edge source, collected from the mapped ring with kevent_view_peek() and
 *           kevent_view_claim(): no system call; kevent_copied: by kevent_ring_collect()
 * epoll     edge-triggered, epoll_wait for one event
 * io_uring  multishot poll, collected in the cheapest of three ways: with default flags,
 *           where the write leaves a completion, by io_uring_for_each_cqe() or by
 *           io_uring_peek_cqe(), without a system call; with SINGLE_ISSUER and
 *           DEFER_TASKRUN by a system call, for that makes the completion, on a
 *           registered descriptor.  io_uring_all is the cheapest whole
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <sys/eventfd.h>

#include "measure.h"

#define EVENTS 256
#define ROUNDS 40
#define COOKIE 7

static int fd;

static void write_one(void)
{
	const __u64 one = 1;

	must(write(fd, &one, 8) == 8, "write");
}

/* Returns the sum of cookie and bits. */
static unsigned long (*collect)(void);

static unsigned long collect_nothing(void)
{
	return COOKIE + EPOLLIN;
}

static void write_and_collect(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < EVENTS; i++) {
		write_one();
		sum += collect();
	}
	must(sum == EVENTS * (COOKIE + EPOLLIN), "every event once");
}

/* Only the collections are added up. */
static double collections(void)
{
	unsigned long sum = 0;
	double total = 0, start;

	for (int i = 0; i < EVENTS; i++) {
		write_one();
		start = now();
		sum += collect();
		total += now() - start;
	}
	must(sum == EVENTS * (COOKIE + EPOLLIN), "every event once");
	return total;
}

/* For each event. */
struct cost {
	double collection;
	double all;
};

static struct cost cost(unsigned long (*how)(void))
{
	struct cost c = { .collection = 1e18 };

	collect = how;
	write_and_collect();
	c.all = best_of(ROUNDS, write_and_collect) / EVENTS;
	for (int i = 0; i < ROUNDS; i++) {
		double total = collections() / EVENTS;

		if (total < c.collection)
			c.collection = total;
	}
	return c;
}

static struct cost less(struct cost a, struct cost b)
{
	return (struct cost){ a.collection - b.collection, a.all - b.all };
}

static int epfd;

static unsigned long collect_epoll(void)
{
	struct epoll_event ev;

	must(epoll_wait(epfd, &ev, 1, 0) == 1, "epoll_wait");
	return ev.data.u64 + ev.events;
}

static struct cost cost_of_epoll(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = COOKIE };
	struct cost c;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	c = cost(collect_epoll);
	close(epfd);
	return c;
}

static struct io_uring ring;

static unsigned long collect_uring(void)
{
	struct io_uring_cqe *cqe;
	unsigned long sum = 0;
	unsigned int head;

	io_uring_for_each_cqe(&ring, head, cqe) {
		sum = cqe->user_data + cqe->res;
		break;
	}
	io_uring_cq_advance(&ring, 1);
	return sum;
}

static unsigned long peek_uring(void)
{
	struct io_uring_cqe *cqe;
	unsigned long sum;

	must(!io_uring_peek_cqe(&ring, &cqe), "io_uring_peek_cqe");
	sum = cqe->user_data + cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return sum;
}

static unsigned long enter_uring(void)
{
	must(io_uring_submit_and_wait(&ring, 1) >= 0, "submit_and_wait");
	return collect_uring();
}

static struct cost cost_of_uring(unsigned int flags, unsigned long (*how)(void))
{
	struct io_uring_params p = { .flags = flags };
	struct io_uring_sqe *sqe;
	struct cost c;

	must(!io_uring_queue_init_params(8, &ring, &p), "io_uring_queue_init");
	must(io_uring_register_ring_fd(&ring) == 1, "register_ring_fd");
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_poll_multishot(sqe, fd, EPOLLIN);
	io_uring_sqe_set_data64(sqe, COOKIE);
	must(io_uring_submit(&ring) == 1, "io_uring_submit");
	c = cost(how);
	io_uring_queue_exit(&ring);
	return c;
}

static struct kevent_map map;

static struct kevent_view view;

static unsigned long collect_kevent(void)
{
	const struct ukevent *ev;
	unsigned long sum;

	kevent_view_peek(&view, &ev);
	sum = ev->cookie + ev->events;
	kevent_view_claim(&view, 1);
	return sum;
}

static unsigned long copy_kevent(void)
{
	struct ukevent ev;

	must(kevent_ring_collect(&map, 0, &ev, 1) == 1, "kevent_ring_collect");
	return ev.cookie + ev.events;
}

static struct cost cost_of_kevent(unsigned long (*how)(void))
{
	int queue = kevent_open();
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = COOKIE,
		.fd = fd, .events = EPOLLIN,
	};
	struct cost result;

	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	must(kevent_change(queue, &c) >= 0, "add");
	view = kevent_view_of(&map, 0);
	result = cost(how);
	kevent_unmap_rings(&map);
	close(queue);
	return result;
}

/* Each with an eventfd of its own, that nobody else watches and that is not ready. */
static struct cost with_fd(struct cost (*of)(void))
{
	struct cost c;

	fd = eventfd(0, EFD_NONBLOCK);
	must(fd >= 0, "eventfd");
	c = of();
	close(fd);
	return c;
}

static struct cost cost_of_nothing(void)
{
	return cost(collect_nothing);
}

static struct cost cost_of_kevent_view(void)
{
	return cost_of_kevent(collect_kevent);
}

static struct cost cost_of_kevent_copy(void)
{
	return cost_of_kevent(copy_kevent);
}

static struct cost cost_of_uring_each(void)
{
	return cost_of_uring(0, collect_uring);
}

static struct cost cost_of_uring_peek(void)
{
	return cost_of_uring(0, peek_uring);
}

static struct cost cost_of_uring_defer(void)
{
	return cost_of_uring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
			     enter_uring);
}

static double least(double a, double b, double c)
{
	double least = a < b ? a : b;

	return least < c ? least : c;
}

int main(void)
{
	double loop = clock_check(0);
	struct cost bare = with_fd(cost_of_nothing);
	struct cost kevent = less(with_fd(cost_of_kevent_view), bare);
	struct cost copied = less(with_fd(cost_of_kevent_copy), bare);
	struct cost epoll = less(with_fd(cost_of_epoll), bare);
	struct cost each = less(with_fd(cost_of_uring_each), bare);
	struct cost peek = less(with_fd(cost_of_uring_peek), bare);
	struct cost defer = less(with_fd(cost_of_uring_defer), bare);

	clock_check(loop);
	report("edge_single", "instructions per event", "kevent", kevent.collection,
	       "epoll", epoll.collection, "io_uring",
	       least(each.collection, peek.collection, defer.collection),
	       "kevent_copied", copied.collection, "io_uring_for_each", each.collection, "io_uring_peek", peek.collection,
	       "io_uring_defer", defer.collection, "kevent_all", kevent.all,
	       "epoll_all", epoll.all, "io_uring_all",
	       least(each.all, peek.all, defer.all), "bare_write", bare.all, NULL);
	return 0;
}
