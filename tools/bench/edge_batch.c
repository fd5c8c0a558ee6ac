// SPDX-License-Identifier: MIT
/*
 * What an edge event costs beyond the bare write of an eventfd: 256 eventfds are
 * written, then their events are collected; kevent from the mapped ring, epoll
 * edge-triggered in batches of 256.  Run under tools/vm --icount, where a
 * nanosecond of the guest's clock is an instruction.
 *
 * Prints one line of JSON.  Exits with 1 if the ratio is over the limit given as
 * first argument, and with 2 if the clock drifted: a fixed loop is timed before
 * and after, and right after boot other threads still run.
 */
#include <linux/kevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define FDS 256
#define ROUNDS 40

static int fds[FDS];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(3);
	}
}

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

/* The best of ROUNDS, for each event. */
static double cost(void (*collect)(void))
{
	double best = 1e18;

	for (int i = 0; i < ROUNDS; i++) {
		double start = now();

		write_all();
		collect();
		start = now() - start;
		if (start < best)
			best = start;
	}
	return best / FDS;
}

/* The best of some: a timer tick may fall into any. */
static double fixed_loop(void)
{
	double best = 1e18;

	for (int round = 0; round < 20; round++) {
		double start = now();

		for (volatile int i = 0; i < 100000; i++)
			;
		start = now() - start;
		if (start < best)
			best = start;
	}
	return best;
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

int main(int argc, char **argv)
{
	double limit = argc > 1 ? atof(argv[1]) : 1e9;
	double before, after, bare, epoll, kevent, ratio;

	before = fixed_loop();
	make_fds();
	cost(collect_nothing);
	bare = cost(collect_nothing);
	watch_epoll();
	epoll = cost(collect_epoll) - bare;
	close(epfd);
	make_fds();
	watch_kevent();
	kevent = cost(collect_kevent) - bare;
	after = fixed_loop();

	ratio = kevent / epoll;
	printf("{\"edge_batch\": {\"unit\": \"instructions\", \"bare_write\": %.1f, "
	       "\"kevent\": %.1f, \"epoll\": %.1f, \"ratio\": {\"epoll\": %.3f}}}\n",
	       bare, kevent, epoll, ratio);
	if (after > before * 1.002 || before > after * 1.002) {
		fprintf(stderr, "edge_batch: the clock drifted: %.0f, then %.0f\n",
			before, after);
		return 2;
	}
	return ratio > limit;
}
