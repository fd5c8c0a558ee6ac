// SPDX-License-Identifier: MIT
/*
 * A thread asleep in the collector is woken by one event.  Run under tools/vm --icount.
 *
 * Two threads share the one CPU.  The sleeper has the higher real-time priority: the
 * writer's write(2) of an eventfd wakes it, it runs at once, has the event in hand,
 * looks at its cookie and bits, and goes back to sleep; then the write returns.  In
 * the bracket: that round trip, two switches of threads with it, 1,000 times in turn,
 * warm.  Nothing is subtracted; the same with a sleeper in a blocking read(2) of the
 * eventfd shows how much of it is not the event system's.
 *
 * kevent    edge source; the cheapest of three: GETEVENTS of one ring or of any ring
 *           into the caller's array; GETEVENTS with KEVENT_GET_MAPPED, which only
 *           waits, and kevent_view_peek() and kevent_view_claim() in the mapped ring
 * epoll     edge-triggered, epoll_wait (epoll_pwait2 does the same and looks at a
 *           timespec besides)
 * io_uring  multishot poll, registered ring descriptor, io_uring_submit_and_wait(); the
 *           cheapest of three rings: default flags; COOP_TASKRUN; SINGLE_ISSUER with
 *           DEFER_TASKRUN
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "measure.h"

#define EVENTS 1000
#define ROUNDS 10
#define COOKIE 7

static int fd;
static unsigned long got; /* events that the sleeper had in hand */
static int over;

static void write_one(void)
{
	const __u64 one = 1;

	must(write(fd, &one, 8) == 8, "write");
}

static void wake(void)
{
	unsigned long before = got;

	for (int i = 0; i < EVENTS; i++)
		write_one();
	must(got == before + EVENTS, "the sleeper has each event before write returns");
}

static void set_priority(int priority)
{
	struct sched_param param = { .sched_priority = priority };

	must(!sched_setscheduler(0, SCHED_FIFO, &param), "sched_setscheduler");
}

/* One way to sleep; @wait returns the sum of the event's cookie and bits. */
struct way {
	void (*open)(void);
	unsigned long (*wait)(void);
	void (*close)(void);
};

static void *sleeper(void *arg)
{
	const struct way *way = arg;

	set_priority(2);
	way->open();
	while (way->wait() == COOKIE + EPOLLIN && !over)
		got++;
	must(over, "one event");
	way->close();
	return NULL;
}

/* For each event. */
static double cost(struct way way)
{
	pthread_t thread;
	double result;

	fd = eventfd(0, 0);
	must(fd >= 0, "eventfd");
	over = 0;
	must(!pthread_create(&thread, NULL, sleeper, &way), "pthread_create");
	usleep(10000); /* until it sleeps too */
	wake();
	result = best_of(ROUNDS, wake) / EVENTS;
	over = 1;
	write_one();
	pthread_join(thread, NULL);
	close(fd);
	return result;
}

static void nothing(void)
{
}

static unsigned long read_wait(void)
{
	__u64 value;

	must(read(fd, &value, 8) == 8, "read");
	return COOKIE + EPOLLIN;
}

static int epfd;

static void epoll_open(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = COOKIE };

	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
}

static unsigned long epoll_wait_one(void)
{
	struct epoll_event ev[8];

	must(epoll_wait(epfd, ev, 8, -1) == 1, "epoll_wait");
	return ev[0].data.u64 + ev[0].events;
}

static void epoll_close(void)
{
	close(epfd);
}

static struct io_uring ring;

static void uring_open(unsigned int flags)
{
	struct io_uring_params p = { .flags = flags };
	struct io_uring_sqe *sqe;

	must(!io_uring_queue_init_params(8, &ring, &p), "io_uring_queue_init");
	must(io_uring_register_ring_fd(&ring) == 1, "register_ring_fd");
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_poll_multishot(sqe, fd, EPOLLIN);
	io_uring_sqe_set_data64(sqe, COOKIE);
	must(io_uring_submit(&ring) == 1, "io_uring_submit");
}

static void uring_open_default(void)
{
	uring_open(0);
}

static void uring_open_coop(void)
{
	uring_open(IORING_SETUP_COOP_TASKRUN);
}

static void uring_open_defer(void)
{
	uring_open(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

static unsigned long uring_wait(void)
{
	struct io_uring_cqe *cqe;
	unsigned long sum = 0;
	unsigned int head, n = 0;

	must(io_uring_submit_and_wait(&ring, 1) >= 0, "submit_and_wait");
	io_uring_for_each_cqe(&ring, head, cqe) {
		sum += cqe->user_data + cqe->res;
		n++;
	}
	io_uring_cq_advance(&ring, n);
	return sum;
}

static void uring_close(void)
{
	io_uring_queue_exit(&ring);
}

static int queue;
static struct kevent_map map;
static struct kevent_view view;

/* Filled once: the kernel writes only what it returns. */
static struct ukevent events[8];
static struct kevent_get get;

static void kev_open(void)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = COOKIE,
		.fd = fd, .events = EPOLLIN,
	};

	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	must(kevent_change(queue, &c) >= 0, "add");
	view = kevent_view_of(&map, 0);
}

static void kev_open_array(void)
{
	kev_open();
	get = (struct kevent_get){
		.size = sizeof(get), .min = 1, .max = 8, .timeout = -1,
		.events = (uintptr_t)events,
	};
}

static void kev_open_any(void)
{
	kev_open_array();
	get.ring = KEVENT_RING_ANY;
}

static void kev_open_mapped(void)
{
	kev_open();
	get = (struct kevent_get){
		.size = sizeof(get), .flags = KEVENT_GET_MAPPED, .min = 1, .timeout = -1,
	};
}

static unsigned long kev_wait_array(void)
{
	must(ioctl(queue, KEVENT_IOC_GETEVENTS, &get) == 1, "KEVENT_IOC_GETEVENTS");
	return events[0].cookie + events[0].events;
}

static unsigned long kev_wait_mapped(void)
{
	const struct ukevent *ev;
	unsigned long sum;

	must(!ioctl(queue, KEVENT_IOC_GETEVENTS, &get), "KEVENT_IOC_GETEVENTS");
	must(kevent_view_peek(&view, &ev) == 1, "kevent_view_peek");
	sum = ev->cookie + ev->events;
	must(kevent_view_claim(&view, 1), "kevent_view_claim");
	return sum;
}

static void kev_close(void)
{
	kevent_unmap_rings(&map);
	close(queue);
}

static double least(double a, double b, double c)
{
	double least = a < b ? a : b;

	return least < c ? least : c;
}

int main(void)
{
	double loop = clock_check(0), one, any, mapped, epoll, uring, coop, defer, reader;

	set_priority(1);
	reader = cost((struct way){ nothing, read_wait, nothing });
	one = cost((struct way){ kev_open_array, kev_wait_array, kev_close });
	any = cost((struct way){ kev_open_any, kev_wait_array, kev_close });
	mapped = cost((struct way){ kev_open_mapped, kev_wait_mapped, kev_close });
	epoll = cost((struct way){ epoll_open, epoll_wait_one, epoll_close });
	uring = cost((struct way){ uring_open_default, uring_wait, uring_close });
	coop = cost((struct way){ uring_open_coop, uring_wait, uring_close });
	defer = cost((struct way){ uring_open_defer, uring_wait, uring_close });
	clock_check(loop);
	report("wake_block", "instructions per round trip", "kevent",
	       least(one, any, mapped), "epoll", epoll, "io_uring",
	       least(uring, coop, defer), "kevent_ring", one, "kevent_any", any,
	       "kevent_mapped", mapped, "io_uring_default", uring, "io_uring_coop", coop,
	       "io_uring_defer", defer, "read", reader, NULL);
	return 0;
}
