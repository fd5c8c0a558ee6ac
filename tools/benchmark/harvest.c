// SPDX-License-Identifier: MIT
/*
 * What user space does for each event of a full ring of 4,096.  Run under
 * tools/vm --icount.
 *
 * The ring is filled by requests that complete during their submission; that is not in
 * the bracket.  In the bracket: everything from the first look at the ring until it is
 * known to be empty, and each event's cookie and result are added up.  No system call;
 * warm.
 *
 * kevent    nops; kevent_view_peek() and kevent_view_claim(), in place, as their results need
 *           no acting on; kevent_copied: kevent_ring_collect() in batches of 256
 * io_uring  nops; the cheaper of io_uring_for_each_cqe() over the whole ring with one
 *           io_uring_cq_advance(), and io_uring_peek_batch_cqe() in batches of 256
 * libaio    reads of eight bytes from a file in memory; the ring that the kernel maps is
 *           reaped in place, without io_getevents(): its tail is loaded and its head
 *           stored once.  libaio_copied: the same in batches of 256 that are copied
 *           first, as io_getevents() gives them
 */
#include <libaio.h>
#include <liburing.h>
#include <linux/kevent.h>

#include "measure.h"

#define EVENTS 4096
#define BATCH 256
#define ROUNDS 20
#define RESULT 8
/* Of the cookies, which are 0 to EVENTS - 1, and of the results. */
#define SUM (EVENTS * (EVENTS - 1UL) / 2 + EVENTS * RESULT)

/* For each event. */
static double cost(void (*fill)(void), unsigned long (*harvest)(void))
{
	double best = 1e18;

	for (int i = 0; i <= ROUNDS; i++) {
		unsigned long sum;
		double start;

		fill();
		start = now();
		sum = harvest();
		start = now() - start;
		must(sum == SUM, "every event once");
		if (i && start < best) /* the first one warms up */
			best = start;
	}
	return best / EVENTS;
}

static int queue;
static struct kevent_map map;

static void kevent_fill(void)
{
	static struct kevent_change changes[EVENTS];
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = EVENTS,
	};

	for (int i = 0; i < EVENTS; i++)
		changes[i] = (struct kevent_change){
			.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_NOP, .cookie = i,
			.value = RESULT,
		};
	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == EVENTS, "KEVENT_IOC_CHANGE");
}

static struct kevent_view view;

static unsigned long kevent_harvest(void)
{
	const struct ukevent *ev;
	unsigned long sum = 0;
	unsigned int n;

	while ((n = kevent_view_peek(&view, &ev))) {
		for (unsigned int i = 0; i < n; i++)
			sum += ev[i].cookie + ev[i].result;
		kevent_view_claim(&view, n);
	}
	return sum;
}

static unsigned long kevent_copied(void)
{
	struct ukevent ev[BATCH];
	unsigned long sum = 0;
	unsigned int n;

	while ((n = kevent_ring_collect(&map, 0, ev, BATCH)))
		for (unsigned int i = 0; i < n; i++)
			sum += ev[i].cookie + ev[i].result;
	return sum;
}

static void open_kevent(void)
{
	struct kevent_setup setup = { .size = sizeof(setup), .entries = EVENTS };

	queue = open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC);
	must(queue >= 0 && !ioctl(queue, KEVENT_IOC_SETUP, &setup) &&
	     !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	view = kevent_view_of(&map, 0);
}

static struct io_uring ring;

static void uring_fill(void)
{
	for (int i = 0; i < EVENTS; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_nop(sqe);
		/* The result is always 0. */
		io_uring_sqe_set_data64(sqe, i + RESULT);
	}
	must(io_uring_submit(&ring) == EVENTS, "io_uring_submit");
}

static unsigned long uring_each(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;
	unsigned long sum = 0;

	io_uring_for_each_cqe(&ring, head, cqe) {
		sum += cqe->user_data + cqe->res;
		n++;
	}
	io_uring_cq_advance(&ring, n);
	return sum;
}

static unsigned long uring_batches(void)
{
	struct io_uring_cqe *cqe[BATCH];
	unsigned long sum = 0;
	unsigned int n;

	while ((n = io_uring_peek_batch_cqe(&ring, cqe, BATCH))) {
		for (unsigned int i = 0; i < n; i++)
			sum += cqe[i]->user_data + cqe[i]->res;
		io_uring_cq_advance(&ring, n);
	}
	return sum;
}

static io_context_t aio;
static int file;

static void aio_fill(void)
{
	static struct iocb iocbs[EVENTS];
	static struct iocb *list[EVENTS];
	static char buffer[RESULT];

	for (int i = 0; i < EVENTS; i++) {
		list[i] = &iocbs[i];
		io_prep_pread(list[i], file, buffer, sizeof(buffer), 0);
		list[i]->data = (void *)(uintptr_t)i;
	}
	for (int i = 0, n; i < EVENTS; i += n) {
		n = io_submit(aio, EVENTS - i, list + i);
		must(n > 0, "io_submit");
	}
}

/* The head of the ring, whose address is the context. */
struct aio_ring {
	unsigned int id, nr, head, tail, magic, compat, incompat, length;
	struct io_event events[];
};

static unsigned long aio_harvest(void)
{
	struct aio_ring *aio_ring = (struct aio_ring *)aio;
	unsigned int head = aio_ring->head, nr = aio_ring->nr;
	unsigned int tail = __atomic_load_n(&aio_ring->tail, __ATOMIC_ACQUIRE);
	unsigned long sum = 0;

	while (head != tail) {
		const struct io_event *ev = &aio_ring->events[head];

		sum += (unsigned long)ev->data + ev->res;
		head = head + 1 == nr ? 0 : head + 1;
	}
	__atomic_store_n(&aio_ring->head, head, __ATOMIC_RELEASE);
	return sum;
}

static unsigned int aio_copy(struct io_event *to, unsigned int max)
{
	struct aio_ring *aio_ring = (struct aio_ring *)aio;
	unsigned int head = aio_ring->head, nr = aio_ring->nr, n = 0;
	unsigned int tail = __atomic_load_n(&aio_ring->tail, __ATOMIC_ACQUIRE);

	while (head != tail && n < max) {
		to[n++] = aio_ring->events[head];
		head = head + 1 == nr ? 0 : head + 1;
	}
	__atomic_store_n(&aio_ring->head, head, __ATOMIC_RELEASE);
	return n;
}

static unsigned long aio_copy_and_harvest(void)
{
	struct io_event ev[BATCH];
	unsigned long sum = 0;
	unsigned int n;

	while ((n = aio_copy(ev, BATCH)))
		for (unsigned int i = 0; i < n; i++)
			sum += (unsigned long)ev[i].data + ev[i].res;
	return sum;
}

static void open_aio(void)
{
	file = memfd_create("harvest", MFD_CLOEXEC);
	must(file >= 0 && write(file, "harvest", RESULT) == RESULT, "memfd");
	must(!io_setup(EVENTS, &aio), "io_setup");
}

int main(void)
{
	double loop = clock_check(0), kevent, kevent_copies, each, batches, libaio,
	       copied;

	open_kevent();
	kevent = cost(kevent_fill, kevent_harvest);
	kevent_copies = cost(kevent_fill, kevent_copied);
	must(!io_uring_queue_init(EVENTS, &ring, 0), "io_uring_queue_init");
	each = cost(uring_fill, uring_each);
	batches = cost(uring_fill, uring_batches);
	open_aio();
	libaio = cost(aio_fill, aio_harvest);
	copied = cost(aio_fill, aio_copy_and_harvest);
	clock_check(loop);
	report("harvest", "instructions per event", "kevent", kevent, "io_uring",
	       each < batches ? each : batches, "libaio", libaio,
	       "kevent_copied", kevent_copies, "libaio_copied", copied, "io_uring_for_each", each, "io_uring_peek_batch", batches, NULL);
	return 0;
}
