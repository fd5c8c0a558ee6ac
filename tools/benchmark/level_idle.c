// SPDX-License-Identifier: MIT
/*
 * What level sources cost the collection of a ring's edge events while none of them is
 * ready.  Run under tools/vm --icount.
 *
 * In the bracket: writes of eventfds and the collection of their events from the mapped
 * ring, one at a time, or (_batch) 256 writes and then their events; warm.  With level
 * sources a consumer looks, after each collection, at the words that may send it into
 * KEVENT_IOC_GETEVENTS: hint, and beside it need_enter and pending.  The figure is that
 * with 1,000 idle level sources registered, less the same without level sources and
 * without the look; one event at a time is the worst case.  look: what the look adds,
 * without level sources; sources: what the 1,000 add, without the look.
 *
 * epoll     one epoll_wait that finds nothing ready, of one eventfd that is watched
 */
#include <linux/kevent.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "measure.h"

#define FDS 256
#define LEVEL_FDS 1000
#define ROUNDS 40
/* Of the cookies, which are 0 to FDS - 1, and of EPOLLIN for each. */
#define SUM (FDS * (FDS - 1) / 2 + FDS * EPOLLIN)

static int fds[FDS];
static int queue;
static struct kevent_map map;

static void write_one(int i)
{
	const __u64 one = 1;

	must(write(fds[i], &one, 8) == 8, "write");
}

static unsigned long collect(void)
{
	struct ukevent ev[FDS];
	unsigned int n = kevent_ring_collect(&map, 0, ev, FDS);
	unsigned long sum = 0;

	for (unsigned int i = 0; i < n; i++)
		sum += ev[i].cookie + ev[i].events;
	return sum;
}

static inline void look(void)
{
	const struct kevent_ring *ring = kevent_ring_at(&map, 0);
	__u32 words = __atomic_load_n(&ring->hint, __ATOMIC_ACQUIRE) |
		      __atomic_load_n(&ring->need_enter, __ATOMIC_ACQUIRE) |
		      __atomic_load_n(&ring->pending, __ATOMIC_ACQUIRE);

	must(!words, "nothing is there for the ioctl");
}

static void single(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < FDS; i++) {
		write_one(i);
		sum += collect();
	}
	must(sum == SUM, "every event once");
}

static void single_and_look(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < FDS; i++) {
		write_one(i);
		sum += collect();
		look();
	}
	must(sum == SUM, "every event once");
}

static void batch(void)
{
	for (int i = 0; i < FDS; i++)
		write_one(i);
	must(collect() == SUM, "every event once");
}

static void batch_and_look(void)
{
	batch();
	look();
}

/* For each event. */
static double cost(void (*how)(void))
{
	how();
	return best_of(ROUNDS, how) / FDS;
}

static void add(int cookie, unsigned int flags)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = cookie,
		.flags = flags, .fd = fd, .events = EPOLLIN,
	};

	must(fd >= 0, "eventfd");
	must(kevent_change(queue, &c) >= 0, "add");
	if (!flags)
		fds[cookie] = fd;
}

static int epfd;

static void wait_for_nothing(void)
{
	struct epoll_event ev[FDS];

	for (int i = 0; i < FDS; i++)
		must(!epoll_wait(epfd, ev, FDS, 0), "epoll_wait");
}

static double cost_of_epoll(void)
{
	struct epoll_event ev = { .events = EPOLLIN };

	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(!epoll_ctl(epfd, EPOLL_CTL_ADD, eventfd(0, EFD_NONBLOCK), &ev),
	     "epoll_ctl");
	return cost(wait_for_nothing);
}

/* For each event: the bare ring; what it adds to look, to have level sources, both. */
struct figures {
	double bare;
	double look;
	double sources;
	double both;
};

static void measure_without(struct figures *f, void (*bare)(void), void (*looking)(void))
{
	f->bare = cost(bare);
	f->look = cost(looking) - f->bare;
}

static void measure_with(struct figures *f, void (*bare)(void), void (*looking)(void))
{
	f->sources = cost(bare) - f->bare;
	f->both = cost(looking) - f->bare;
}

int main(void)
{
	struct rlimit limit = { 2 * LEVEL_FDS, 2 * LEVEL_FDS };
	double loop = clock_check(0), epoll;
	struct figures one, many;

	must(!setrlimit(RLIMIT_NOFILE, &limit), "RLIMIT_NOFILE");
	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	for (int i = 0; i < FDS; i++)
		add(i, 0);
	measure_without(&one, single, single_and_look);
	measure_without(&many, batch, batch_and_look);
	for (int i = 0; i < LEVEL_FDS; i++)
		add(i, KEVENT_LEVEL);
	measure_with(&one, single, single_and_look);
	measure_with(&many, batch, batch_and_look);
	epoll = cost_of_epoll();
	clock_check(loop);
	report("level_idle", "instructions per event", "kevent", one.both, "epoll",
	       epoll, "kevent_batch", many.both, "look", one.look, "sources",
	       one.sources, "look_batch", many.look, "sources_batch", many.sources,
	       "bare", one.bare, "bare_batch", many.bare, NULL);
	return 0;
}
