// SPDX-License-Identifier: MIT
/*
 * Whether idle sources cost those that are not idle: edge_batch with 100,000 idle
 * eventfds registered as well, and (base) with 1,000.  Run under tools/vm --icount.
 *
 * In the bracket, as in edge_batch: 256 writes, each to another eventfd, then the
 * collection of their 256 events, of which each one's cookie and bits are looked at;
 * all of it warm.  The same writes while nobody watches are subtracted.  The writes go
 * to the eventfds that were registered last.  As everywhere the best of the rounds
 * counts: the module's scan for closed files, a slice ten times a second, is in none.
 *
 * kevent    edge sources, collected from the mapped ring with kevent_view_peek() and
 *           kevent_view_claim()
 * epoll     edge-triggered, one epoll_wait for the batch
 */
#include <linux/kevent.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "measure.h"

#define FDS 256
#define FEW 1000
#define MANY 100000
#define ROUNDS 40
/* Of the cookies, which are 0 to FDS - 1, and of EPOLLIN for each. */
#define SUM (FDS * (FDS - 1) / 2 + FDS * EPOLLIN)

static int fds[FDS + MANY]; /* the idle ones come first */
static int *busy;

static void write_all(void)
{
	const __u64 one = 1;

	for (int i = 0; i < FDS; i++)
		must(write(busy[i], &one, 8) == 8, "write");
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

static int queue;
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

static void add_to_epoll(int fd, __u64 cookie)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = cookie };

	must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
}

static void add_to_kevent(int fd, __u64 cookie)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = cookie,
		.fd = fd, .events = EPOLLIN,
	};

	must(kevent_change(queue, &c) >= 0, "add");
}

/* Opens @idle eventfds and FDS more; an idle one's event would spoil the sum. */
static void open_fds(int idle, void (*add)(int fd, __u64 cookie))
{
	busy = fds + idle;
	for (int i = 0; i < idle + FDS; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		must(fds[i] >= 0, "eventfd");
		if (add)
			add(fds[i], i < idle ? MANY : i - idle);
	}
}

static void close_fds(void)
{
	for (int *fd = fds; fd < busy + FDS; fd++)
		close(*fd);
}

static double cost_of_nothing(void)
{
	double result;

	open_fds(0, NULL);
	result = cost(collect_nothing);
	close_fds();
	return result;
}

static double cost_of_epoll(int idle)
{
	double result;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(epfd >= 0, "epoll_create1");
	open_fds(idle, add_to_epoll);
	result = cost(collect_epoll);
	close(epfd);
	close_fds();
	return result;
}

static double cost_of_kevent(int idle)
{
	double result;

	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	open_fds(idle, add_to_kevent);
	view = kevent_view_of(&map, 0);
	result = cost(collect_kevent);
	kevent_unmap_rings(&map);
	close(queue);
	close_fds();
	return result;
}

int main(void)
{
	struct rlimit limit = { 2 * MANY, 2 * MANY };
	double loop = clock_check(0), bare, few, many, epoll_few, epoll_many;

	must(!setrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE");
	bare = cost_of_nothing();
	few = cost_of_kevent(FEW) - bare;
	many = cost_of_kevent(MANY) - bare;
	epoll_few = cost_of_epoll(FEW) - bare;
	epoll_many = cost_of_epoll(MANY) - bare;
	clock_check(loop);
	report("idle_scale", "instructions per event", "kevent", many, "base", few,
	       "epoll_many", epoll_many, "epoll_base", epoll_few, "bare_write", bare,
	       NULL);
	return 0;
}
