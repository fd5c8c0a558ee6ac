// SPDX-License-Identifier: MIT
/*
 * 10,000 one-shot timers are armed for absolute times of CLOCK_MONOTONIC, expire, and
 * are collected: all at one time (timer), or one each microsecond in mixed order
 * (timer_spread).  Run under tools/vm --icount.
 *
 * In the bracket, warm: arming, the interrupts of the expiry and what they set off,
 * and collecting; NAME_arm, NAME_expire and NAME_collect are these parts.  Nobody
 * sleeps.  When all are armed, the program looks at the clock until 2 ms before the
 * first expiry, which is not counted.  Then a loop of a fixed number of instructions
 * runs in user space, and ends after the last expiry; what it takes longer than
 * without timers is the cost of the interrupts.  So waiting counts for nothing, and
 * the same is done for all.
 *
 *   kevent    timers added beforehand, disabled, as the timerfds are; armed by
 *             KEVENT_IOC_CHANGE with arrays of 1,000 MODIFY; collected from the mapped
 *             ring, which has room for all, 256 at a time.  kevent_add is the sum with
 *             ADD in place of MODIFY, where the sources are made inside the bracket,
 *             as the requests of io_uring are (and removed outside)
 *   epoll     timerfds created and added, edge-triggered, beforehand; timerfd_settime
 *             for each; epoll_wait with room for 256.  The timerfds are not read: to
 *             arm one anew resets it
 *   io_uring  IORING_OP_TIMEOUT, 1,000 for each io_uring_submit; collected from the
 *             mapped ring, which has room for all.  With default flags, where the
 *             completions run when the interrupt returns, and as a single issuer with
 *             DEFER_TASKRUN, where one io_uring_enter runs them all: the cheaper one is
 *             io_uring, the first io_uring_default
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <sys/timerfd.h>

#include "measure.h"

#define TIMERS 10000
#define BATCH 1000
#define COLLECT 256
#define ENTRIES 16384
#define ROUNDS 7

#define LEAD 2e6 /* nanoseconds from the beginning of the loop to the first expiry */
#define SPINS 7000000

static void spin(void)
{
	for (volatile int i = 0; i < SPINS; i++)
		;
}

static double bare;
static int spread;
static __s64 base;

/* When timer @i expires. */
static __s64 expiry(int i)
{
	return base + (spread ? (__s64)i * 7919 % TIMERS * 1000 : 0);
}

struct cost {
	double arm, expire, collect;
};

static double sum(const struct cost *c)
{
	return c->arm + c->expire + c->collect;
}

/* @arming: nanoseconds that are enough to arm them all */
static struct cost one_round(double arming, void (*arm)(void), void (*collect)(void))
{
	double start = now(), armed, begin, expired, end;

	base = (__s64)(start + arming + LEAD);
	arm();
	armed = now();
	must(armed + LEAD < base, "arming took too long");
	do
		begin = now();
	while (begin + LEAD < base);
	spin();
	expired = now();
	collect();
	end = now();
	return (struct cost){
		(armed - start) / TIMERS, (expired - begin - bare) / TIMERS,
		(end - expired) / TIMERS,
	};
}

static void nothing(void)
{
}

static int by_sum(const void *a, const void *b)
{
	double x = sum(a), y = sum(b);

	return (x > y) - (x < y);
}

/* The median round: an interrupt may fall where it is not counted, too. */
static struct cost cost(void (*arm)(void), void (*collect)(void), void (*after)(void))
{
	double arming = one_round(200e6, arm, collect).arm * TIMERS * 1.2;
	struct cost rounds[ROUNDS];

	after();
	for (int i = 0; i < ROUNDS; i++) {
		rounds[i] = one_round(arming, arm, collect);
		after();
	}
	qsort(rounds, ROUNDS, sizeof(*rounds), by_sum);
	return rounds[ROUNDS / 2];
}

static int queue;
static struct kevent_map map;
static struct kevent_change changes[BATCH];
static __u64 ids[TIMERS];

static void change(void)
{
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = BATCH,
	};

	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == BATCH, "KEVENT_IOC_CHANGE");
	for (int i = 0; i < BATCH; i++)
		must(!changes[i].result, "change");
}

static void kevent_make(unsigned int flags)
{
	for (int i = 0; i < TIMERS; i += BATCH) {
		for (int k = 0; k < BATCH; k++)
			changes[k] = (struct kevent_change){
				.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_TIMER,
				.fd = CLOCK_MONOTONIC, .cookie = i + k,
				.flags = KEVENT_ABSTIME | flags,
				.value = expiry(i + k),
			};
		change();
		for (int k = 0; k < BATCH; k++)
			ids[i + k] = changes[k].id;
	}
}

static void kevent_add(void)
{
	kevent_make(0);
}

static void kevent_arm(void)
{
	for (int i = 0; i < TIMERS; i += BATCH) {
		for (int k = 0; k < BATCH; k++)
			changes[k] = (struct kevent_change){
				.op = KEVENT_OP_MODIFY, .kind = KEVENT_KIND_TIMER,
				.id = ids[i + k], .cookie = i + k,
				.flags = KEVENT_ABSTIME, .value = expiry(i + k),
			};
		change();
	}
}

static void kevent_remove(void)
{
	for (int i = 0; i < TIMERS; i += BATCH) {
		for (int k = 0; k < BATCH; k++)
			changes[k] = (struct kevent_change){
				.op = KEVENT_OP_REMOVE, .id = ids[i + k],
			};
		change();
	}
}

static void kevent_collect(void)
{
	struct ukevent ev[COLLECT];
	unsigned int n, total = 0;

	while ((n = kevent_ring_collect(&map, 0, ev, COLLECT))) {
		for (unsigned int i = 0; i < n; i++)
			must(ev[i].result == 1, "expirations");
		total += n;
	}
	must(total == TIMERS, "timers of kevent");
}

static void open_kevent(void)
{
	struct kevent_setup setup = {
		.size = sizeof(setup), .nr_rings = 1, .entries = ENTRIES,
	};

	queue = open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC);
	must(queue >= 0 && !ioctl(queue, KEVENT_IOC_SETUP, &setup), KEVENT_DEVICE);
	must(!kevent_map_rings(queue, &map), "kevent_map_rings");
}

static int epfd, fds[TIMERS];

static void epoll_arm(void)
{
	for (int i = 0; i < TIMERS; i++) {
		__s64 at = expiry(i);
		struct itimerspec when = {
			.it_value = { at / 1000000000, at % 1000000000 },
		};

		must(!timerfd_settime(fds[i], TFD_TIMER_ABSTIME, &when, NULL),
		     "timerfd_settime");
	}
}

static void epoll_collect(void)
{
	struct epoll_event ev[COLLECT];
	int n, total = 0;

	while ((n = epoll_wait(epfd, ev, COLLECT, 0)) > 0) {
		for (int i = 0; i < n; i++)
			must(ev[i].events == EPOLLIN, "timerfd");
		total += n;
	}
	must(total == TIMERS, "timers of epoll");
}

static void open_epoll(void)
{
	epfd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < TIMERS; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = i };

		fds[i] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "epoll_ctl");
	}
}

static struct io_uring ring;
static int defer;

static void uring_arm(void)
{
	static struct __kernel_timespec when[BATCH];

	for (int i = 0; i < TIMERS; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		__s64 at = expiry(i);

		when[i % BATCH].tv_sec = at / 1000000000;
		when[i % BATCH].tv_nsec = at % 1000000000;
		io_uring_prep_timeout(sqe, &when[i % BATCH], 0, IORING_TIMEOUT_ABS);
		sqe->user_data = i;
		if ((i + 1) % BATCH == 0)
			must(io_uring_submit(&ring) == BATCH, "io_uring_submit");
	}
}

static void uring_collect(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, total = 0;

	if (defer)
		must(io_uring_get_events(&ring) >= 0, "io_uring_get_events");
	io_uring_for_each_cqe(&ring, head, cqe) {
		must(cqe->res == -ETIME, "timeout");
		total++;
	}
	must(total == TIMERS, "timeouts of io_uring");
	io_uring_cq_advance(&ring, total);
}

static struct cost cost_of_uring(unsigned int flags)
{
	struct io_uring_params p = {
		.flags = flags | IORING_SETUP_CQSIZE, .cq_entries = ENTRIES,
	};
	struct cost c;

	defer = !!flags;
	must(!io_uring_queue_init_params(BATCH, &ring, &p), "io_uring_queue_init");
	must(io_uring_register_ring_fd(&ring) == 1, "io_uring_register_ring_fd");
	c = cost(uring_arm, uring_collect, nothing);
	io_uring_queue_exit(&ring);
	return c;
}

static void row(const char *name)
{
	struct cost add = cost(kevent_add, kevent_collect, kevent_remove), kevent;
	struct cost epoll = cost(epoll_arm, epoll_collect, nothing);
	struct cost plain = cost_of_uring(0), uring = plain, other;

	kevent_make(KEVENT_DISABLED);
	kevent = cost(kevent_arm, kevent_collect, nothing);
	kevent_remove();
	other = cost_of_uring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (sum(&other) < sum(&uring))
		uring = other;
	report(name, "instructions per timer", "kevent", sum(&kevent), "epoll",
	       sum(&epoll), "io_uring", sum(&uring), "kevent_add", sum(&add),
	       "io_uring_default", sum(&plain), "kevent_arm", kevent.arm, "epoll_arm",
	       epoll.arm, "io_uring_arm", uring.arm, "kevent_expire", kevent.expire,
	       "epoll_expire", epoll.expire, "io_uring_expire", uring.expire,
	       "kevent_collect", kevent.collect, "epoll_collect", epoll.collect,
	       "io_uring_collect", uring.collect, NULL);
}

int main(void)
{
	double loop = clock_check(0);

	open_kevent();
	open_epoll();
	bare = best_of(ROUNDS, spin);
	row("timer");
	spread = 1;
	row("timer_spread");
	clock_check(loop);
	return 0;
}
