// SPDX-License-Identifier: MIT
/*
 * What each ready level source costs in a sweep: of 10,000 registered eventfds 1,024
 * (row level_sweep) or 64 (row level_sweep_64) are readable all the time.  Run under
 * tools/vm --icount.
 *
 * In the bracket: one system call that reports all of the ready ones, and a look at
 * each one's cookie and bits; warm.
 *
 * kevent    KEVENT_IOC_GETEVENTS with KEVENT_GET_MAPPED, which sweeps the level sources
 *           and leaves the ring alone
 * epoll     level-triggered, one epoll_wait for all; *_batches: in calls for 256 each,
 *           where that is fewer than the ready ones
 */
#include <linux/kevent.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "measure.h"

#define FDS 10000
#define MOST 1024
#define BATCH 256
#define ROUNDS 40

static int fds[FDS];
static unsigned int ready, batch;

/* The ready ones lie apart, as far as they can. */
static void set_ready(unsigned int n)
{
	const __u64 one = 1;

	ready = n;
	for (unsigned int i = 0; i < n; i++)
		must(write(fds[i * (FDS / n)], &one, 8) == 8, "write");
}

static void set_unready(void)
{
	__u64 value;

	for (unsigned int i = 0; i < FDS; i++)
		must(read(fds[i], &value, 8) == 8 || errno == EAGAIN, "read");
}

/* Returns the sum of the cookies, which are the fds' indices, and of the bits. */
static unsigned long (*collect)(void);

static void collect_all(void)
{
	unsigned long sum = 0;

	for (unsigned int i = 0; i < ready; i += batch)
		sum += collect();
	must(sum == ready * (ready - 1UL) / 2 * (FDS / ready) + ready * EPOLLIN,
	     "every ready source once");
}

static int epfd;

static unsigned long collect_epoll(void)
{
	struct epoll_event ev[MOST];
	unsigned long sum = 0;
	int n = epoll_wait(epfd, ev, batch, 0);

	for (int i = 0; i < n; i++)
		sum += ev[i].data.u64 + ev[i].events;
	return sum;
}

static int queue;

static unsigned long collect_kevent(void)
{
	struct ukevent ev[MOST];
	struct kevent_get get = {
		.size = sizeof(get), .flags = KEVENT_GET_MAPPED, .max = batch,
		.events = (uintptr_t)ev,
	};
	unsigned long sum = 0;
	int n = ioctl(queue, KEVENT_IOC_GETEVENTS, &get);

	for (int i = 0; i < n; i++)
		sum += ev[i].cookie + ev[i].events;
	return sum;
}

/* For each ready source, in calls for @by at most. */
static double cost(unsigned long (*how)(void), unsigned int by)
{
	collect = how;
	batch = by < ready ? by : ready;
	collect_all();
	return best_of(ROUNDS, collect_all) / ready;
}

static void open_fds(void)
{
	struct rlimit limit = { 2 * FDS, 2 * FDS };

	must(!setrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE");
	for (int i = 0; i < FDS; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK);
		must(fds[i] >= 0, "eventfd");
	}
}

static void watch_epoll(void)
{
	epfd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < FDS; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u64 = i };

		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "epoll_ctl");
	}
}

static void watch_kevent(void)
{
	queue = kevent_open();
	must(queue >= 0, KEVENT_DEVICE);
	for (int i = 0; i < FDS; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = i,
			.flags = KEVENT_LEVEL, .fd = fds[i], .events = EPOLLIN,
		};

		must(kevent_change(queue, &c) >= 0, "add");
	}
}

struct figures {
	double whole;
	double batches;
};

static struct figures measure(unsigned long (*how)(void))
{
	return (struct figures){ cost(how, MOST), cost(how, BATCH) };
}

static void report_row(const char *row, struct figures kevent, struct figures epoll)
{
	report(row, "instructions per ready source", "kevent", kevent.whole, "epoll",
	       epoll.whole, "kevent_batches", kevent.batches, "epoll_batches",
	       epoll.batches, NULL);
}

int main(void)
{
	double loop = clock_check(0);
	struct figures kevent, kevent_64, epoll, epoll_64;

	open_fds();
	watch_kevent();
	set_ready(1024);
	kevent = measure(collect_kevent);
	set_unready();
	set_ready(64);
	kevent_64 = measure(collect_kevent);
	set_unready();
	close(queue);

	watch_epoll();
	set_ready(1024);
	epoll = measure(collect_epoll);
	set_unready();
	set_ready(64);
	epoll_64 = measure(collect_epoll);
	clock_check(loop);
	report_row("level_sweep", kevent, epoll);
	report_row("level_sweep_64", kevent_64, epoll_64);
	return 0;
}
