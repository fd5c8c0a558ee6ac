// SPDX-License-Identifier: MIT
/*
 * Events that a program posts to itself: posted in batches of 16 (user_event) or one
 * at a time (user_event_single), and collected.  Run under tools/vm --icount.
 *
 * In the bracket, warm: all of posting and collecting, from user space to user
 * space.
 *
 *   kevent    an array of TRIGGER, into which the values are filled each time (the kernel
 *             leaves the rest as it is), and one KEVENT_IOC_CHANGE; for one event
 *             KEVENT_IOC_TRIGGER; collected from the mapped ring in place.  Each event
 *             carries a value
 *   epoll     a write to each eventfd, then one epoll_wait.  Edge-triggered, so that
 *             the eventfds need not be read: their counters just grow.  A reader that
 *             wants the value reads each; that is epoll_with_value
 *   io_uring  IORING_OP_MSG_RING to another ring, one io_uring_submit for a batch;
 *             collected from the mapped ring.  The rings' descriptors are registered
 *             for io_uring_enter (Linux does not let one ring register another as a
 *             file), and the sender asks for no completions of its own.  Both rings
 *             with default flags and with DEFER_TASKRUN: the cheapest of the four
 *             pairs is io_uring, io_uring_default is the plain one
 */
#include <liburing.h>
#include <linux/kevent.h>
#include <sys/eventfd.h>

#include "measure.h"

#define MOST 16
#define EVENTS (64 * MOST)
#define ROUNDS 20

#define DEFER (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* Each posts and collects @batch events. */
static int batch;
static void (*post_and_collect)(void);

static void run(void)
{
	for (int done = 0; done < EVENTS; done += batch)
		post_and_collect();
}

/* For each event. */
static double cost(void (*how)(void))
{
	post_and_collect = how;
	run();
	return best_of(ROUNDS, run) / EVENTS;
}

static int queue;
static struct kevent_map map;
static struct kevent_view view;
static struct kevent_change changes[MOST];

static void collect(void)
{
	const struct ukevent *ev;
	int left = batch, n;

	for (; left; left -= n) {
		n = (int)kevent_view_peek(&view, &ev);
		for (int i = 0; i < n; i++)
			must(ev[i].result == batch - left + i + 1, "event");
		must(n && kevent_view_claim(&view, (unsigned int)n), "claim");
	}
}

static void by_kevent(void)
{
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = batch,
	};

	for (int i = 0; i < batch; i++)
		changes[i].value = (__u64)i + 1;
	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == batch, "KEVENT_IOC_CHANGE");
	collect();
	for (int i = 0; i < batch; i++)
		must(!changes[i].result, "trigger");
}

static void by_kevent_single(void)
{
	struct kevent_trigger arg = { .size = sizeof(arg), .id = changes[0].id, .value = 1 };

	must(!ioctl(queue, KEVENT_IOC_TRIGGER, &arg), "KEVENT_IOC_TRIGGER");
	collect();
}

static void open_kevent(void)
{
	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	for (int i = 0; i < MOST; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_USER, .cookie = i,
		};

		must(!kevent_change(queue, &c), "add");
		changes[i] = (struct kevent_change){ .op = KEVENT_OP_TRIGGER, .id = c.id };
	}
	view = kevent_view_of(&map, 0);
}

static int epfd, fds[MOST];

static void by_epoll(void)
{
	struct epoll_event ev[MOST];
	const __u64 one = 1;

	for (int i = 0; i < batch; i++)
		must(write(fds[i], &one, 8) == 8, "write");
	must(epoll_wait(epfd, ev, MOST, 0) == batch, "epoll_wait");
	for (int i = 0; i < batch; i++)
		must(ev[i].data.fd == fds[i], "event");
}

static void by_epoll_with_value(void)
{
	__u64 value;

	by_epoll();
	for (int i = 0; i < batch; i++)
		must(read(fds[i], &value, 8) == 8, "read");
}

static void open_epoll(void)
{
	epfd = epoll_create1(EPOLL_CLOEXEC);
	must(epfd >= 0, "epoll_create1");
	for (int i = 0; i < MOST; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

		fds[i] = eventfd(0, EFD_NONBLOCK);
		ev.data.fd = fds[i];
		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "epoll_ctl");
	}
}

static struct io_uring sender, target;
static int must_enter;

static void by_uring(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, i;

	for (i = 0; (int)i < batch; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&sender);

		io_uring_prep_msg_ring(sqe, target.ring_fd, i + 1, i, 0);
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	}
	must(io_uring_submit(&sender) == batch, "io_uring_submit");
	if (must_enter)
		must(io_uring_get_events(&target) >= 0, "io_uring_get_events");
	i = 0;
	io_uring_for_each_cqe(&target, head, cqe) {
		must(cqe->res == (int)i + 1 && cqe->user_data == i, "message");
		i++;
	}
	must((int)i == batch, "messages");
	io_uring_cq_advance(&target, i);
}

static void open_ring(struct io_uring *ring, unsigned int flags)
{
	must(!io_uring_queue_init(2 * MOST, ring, flags), "io_uring_queue_init");
	must(io_uring_register_ring_fd(ring) == 1, "io_uring_register_ring_fd");
}

static double cost_of_uring(unsigned int flags, unsigned int target_flags)
{
	double result;

	open_ring(&sender, flags);
	open_ring(&target, target_flags);
	must_enter = !!target_flags;
	result = cost(by_uring);
	must(!io_uring_cq_ready(&sender), "failed messages");
	io_uring_queue_exit(&sender);
	io_uring_queue_exit(&target);
	return result;
}

static void row(const char *name, int size)
{
	double kevent, epoll, with_value, plain, uring;

	batch = size;
	kevent = cost(size == 1 ? by_kevent_single : by_kevent);
	epoll = cost(by_epoll);
	with_value = cost(by_epoll_with_value);
	uring = plain = cost_of_uring(0, 0);
	for (int i = 1; i < 4; i++) {
		double other = cost_of_uring(i & 1 ? DEFER : 0, i & 2 ? DEFER : 0);

		uring = other < uring ? other : uring;
	}
	report(name, "instructions per event", "kevent", kevent, "epoll", epoll,
	       "io_uring", uring, "io_uring_default", plain, "epoll_with_value",
	       with_value, NULL);
}

int main(void)
{
	double loop = clock_check(0);

	open_kevent();
	open_epoll();
	row("user_event", MOST);
	row("user_event_single", 1);
	clock_check(loop);
	return 0;
}
