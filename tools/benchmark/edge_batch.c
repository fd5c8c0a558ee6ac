// SPDX-License-Identifier: MIT
/*
 * What an edge event costs beyond the bare write of an eventfd: 256 eventfds are
 * written, then their events are collected; kevent from the mapped ring, epoll
 * edge-triggered in batches of 256.  Run under tools/vm --icount.
 */
#include <linux/kevent.h>
#include <sys/eventfd.h>

#include "measure.h"

#define FDS 256
#define ROUNDS 40

static int fds[FDS];

static void write_all(void)
{
	const __u64 one = 1;

	for (int i = 0; i < FDS; i++)
		must(write(fds[i], &one, 8) == 8, "write");
}

static void collect_nothing(void)
{
}

static int epfd;

static void collect_epoll(void)
{
	struct epoll_event ev[FDS];

	must(epoll_wait(epfd, ev, FDS, 0) == FDS, "epoll_wait");
}

static struct kevent_map map;

static void collect_kevent(void)
{
	struct ukevent ev[FDS];

	must(kevent_ring_collect(&map, 0, ev, FDS) == FDS, "kevent_ring_collect");
}

static void (*collect)(void);

static void write_and_collect(void)
{
	write_all();
	collect();
}

/* For each event. */
static double cost(void (*how)(void))
{
	collect = how;
	return best_of(ROUNDS, write_and_collect) / FDS;
}

static void watch_epoll(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

	epfd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < FDS; i++)
		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "epoll_ctl");
	epoll_wait(epfd, (struct epoll_event[FDS]){ 0 }, FDS, 0);
}

static void watch_kevent(void)
{
	int q = kevent_open();
	struct ukevent ev[FDS];

	must(q >= 0 && !kevent_map_rings(q, &map), KEVENT_DEVICE);
	for (int i = 0; i < FDS; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE,
			.fd = fds[i], .events = EPOLLIN,
		};

		must(kevent_change(q, &c) >= 0, "add");
	}
	kevent_ring_collect(&map, 0, ev, FDS);
}

static void make_fds(void)
{
	for (int i = 0; i < FDS; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		must(fds[i] >= 0, "eventfd");
	}
}

int main(void)
{
	double loop = clock_check(0), bare, epoll, kevent;

	make_fds();
	cost(collect_nothing);
	bare = cost(collect_nothing);
	watch_epoll();
	epoll = cost(collect_epoll) - bare;
	close(epfd);
	make_fds();
	watch_kevent();
	kevent = cost(collect_kevent) - bare;
	clock_check(loop);
	report("edge_batch", "instructions per event", "kevent", kevent, "epoll", epoll,
	       "bare_write", bare, NULL);
	return 0;
}
