// SPDX-License-Identifier: MIT
/*
 * Random reads of 4 KiB at depth 32, submitted in batches of 16: kevent, collected
 * from the mapped ring; libaio, reaped in user space; io_uring with default flags and
 * nothing registered; pread.  Then kevent and io_uring tuned: with registered buffers,
 * and io_uring with a registered file and the flags of a single issuer.
 *
 * direct_read: O_DIRECT.  cached_read: from the page cache, which has all of it.
 * In the bracket: filling in the requests, submission, the reads themselves,
 * collecting the results.
 */
#include <libaio.h>
#include <liburing.h>
#include <linux/kevent.h>

#include "measure.h"

#define DEPTH 32
#define BATCH 16
#define BATCHES 64
#define SIZE 4096
#define ROUNDS 20

static int fd;
static char *buffers;
static unsigned int seed, inflight, blocks;

static unsigned long offset(void)
{
	seed = seed * 1664525 + 1013904223;
	return (unsigned long)((seed >> 16) % blocks) * SIZE;
}

static char *buffer(unsigned int i)
{
	return buffers + (size_t)(i % DEPTH) * SIZE;
}

static void check(long result)
{
	must(result == SIZE, "read");
	inflight--;
}

/* submit() sends BATCH reads; reap() takes what is there, at least one if @wait */
static void (*submit)(void);
static void (*reap)(int wait);

static void run(void)
{
	for (int i = 0; i < BATCHES; i++) {
		while (inflight > DEPTH - BATCH)
			reap(1);
		submit();
		inflight += BATCH;
		reap(0);
	}
	while (inflight)
		reap(1);
}

static double cost(void (*by_submit)(void), void (*by_reap)(int))
{
	submit = by_submit;
	reap = by_reap;
	run();
	return best_of(ROUNDS, run) / (BATCHES * BATCH);
}

static int queue;
static struct kevent_map map;
static struct kevent_change changes[BATCH];
static int tuned;

static void kevent_submit(void)
{
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = BATCH,
	};

	for (int i = 0; i < BATCH; i++) {
		struct kevent_change *c = &changes[i];

		*c = (struct kevent_change){
			.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_READ, .fd = fd,
			.addr = (uintptr_t)buffer(i), .len = SIZE,
			.offset = offset(), .buffer = tuned,
		};
	}
	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == BATCH, "KEVENT_IOC_CHANGE");
	for (int i = 0; i < BATCH; i++)
		must(!changes[i].result, "submit");
}

static void kevent_register(void)
{
	struct kevent_buffer all = { (uintptr_t)buffers, DEPTH * SIZE };
	struct kevent_buffers arg = {
		.size = sizeof(arg), .buffers = (uintptr_t)&all, .first = 1, .nr = 1,
	};

	must(ioctl(queue, KEVENT_IOC_BUFFERS, &arg) == 1, "KEVENT_IOC_BUFFERS");
}

static void kevent_reap(int wait)
{
	struct ukevent ev[DEPTH];
	unsigned int n = kevent_ring_collect(&map, 0, ev, DEPTH);

	if (!n && wait)
		n = kevent_getevents(queue, ev, 1, DEPTH, NULL);
	for (unsigned int i = 0; i < n; i++)
		check(ev[i].result);
}

static io_context_t aio;
static struct iocb iocbs[DEPTH];

static void aio_submit(void)
{
	static unsigned int next;
	struct iocb *list[BATCH];

	for (int i = 0; i < BATCH; i++, next++) {
		list[i] = &iocbs[next % DEPTH];
		io_prep_pread(list[i], fd, buffer(next), SIZE, offset());
	}
	must(io_submit(aio, BATCH, list) == BATCH, "io_submit");
}

/* The head of libaio's ring, which the kernel lets user space reap. */
struct aio_ring {
	unsigned int id, nr, head, tail, magic, compat, incompat, length;
	struct io_event events[];
};

static void aio_reap(int wait)
{
	struct aio_ring *ring = (struct aio_ring *)aio;
	struct io_event ev[DEPTH];
	unsigned int head = ring->head;

	for (; head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE); wait = 0) {
		check(ring->events[head].res);
		head = head + 1 == ring->nr ? 0 : head + 1;
	}
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	for (int i = 0, n = wait ? io_getevents(aio, 1, DEPTH, ev, NULL) : 0; i < n; i++)
		check(ev[i].res);
}

static struct io_uring ring;

static void uring_submit(void)
{
	static unsigned int next;

	for (int i = 0; i < BATCH; i++, next++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		if (tuned) {
			io_uring_prep_read_fixed(sqe, 0, buffer(next), SIZE, offset(),
						 next % DEPTH);
			sqe->flags |= IOSQE_FIXED_FILE;
		} else {
			io_uring_prep_read(sqe, fd, buffer(next), SIZE, offset());
		}
	}
	must(io_uring_submit(&ring) == BATCH, "io_uring_submit");
}

static void uring_reap(int wait)
{
	struct io_uring_cqe *cqe[DEPTH];
	unsigned int n;

	if (wait || tuned) /* completions may wait for us to enter */
		must(!io_uring_wait_cqe(&ring, cqe), "io_uring_wait_cqe");
	n = io_uring_peek_batch_cqe(&ring, cqe, DEPTH);
	for (unsigned int i = 0; i < n; i++)
		check(cqe[i]->res);
	io_uring_cq_advance(&ring, n);
}

static double cost_of_uring(void)
{
	double result;

	must(!io_uring_queue_init(DEPTH, &ring, 0), "io_uring_queue_init");
	result = cost(uring_submit, uring_reap);
	io_uring_queue_exit(&ring);
	return result;
}

static double cost_of_uring_tuned(void)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	struct iovec iov[DEPTH];

	for (int i = 0; i < DEPTH; i++)
		iov[i] = (struct iovec){ buffer(i), SIZE };
	must(!io_uring_queue_init_params(DEPTH, &ring, &p), "io_uring_queue_init");
	must(!io_uring_register_files(&ring, &fd, 1), "register_files");
	must(!io_uring_register_buffers(&ring, iov, DEPTH), "register_buffers");
	return cost(uring_submit, uring_reap);
}

static void pread_submit(void)
{
	for (int i = 0; i < BATCH; i++)
		must(pread(fd, buffer(i), SIZE, offset()) == SIZE, "pread");
	inflight -= BATCH;
}

static void pread_reap(int wait)
{
	(void)wait;
}

static void open_file(const char *row, const char *file)
{
	int direct = !strcmp(row, "direct_read");

	blocks = direct ? 65536 : 256;
	fd = open(file, O_RDONLY | (direct ? O_DIRECT : 0));
	must(fd >= 0, file);
	for (unsigned int i = 0; !direct && i < blocks; i++)
		must(pread(fd, buffers, SIZE, (off_t)i * SIZE) == SIZE, "pread");
}

int main(int argc, char **argv)
{
	double loop = clock_check(0), sync, libaio, uring, kevent, kevent_tuned, uring_tuned;

	must(argc == 3, "Usage: read direct_read|cached_read FILE");
	must(!posix_memalign((void **)&buffers, SIZE, DEPTH * SIZE), "memory");
	memset(buffers, 1, DEPTH * SIZE);
	open_file(argv[1], argv[2]);
	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	must(!io_setup(DEPTH, &aio), "io_setup");

	sync = cost(pread_submit, pread_reap);
	libaio = cost(aio_submit, aio_reap);
	uring = cost_of_uring();
	kevent = cost(kevent_submit, kevent_reap);
	tuned = 1;
	kevent_register();
	kevent_tuned = cost(kevent_submit, kevent_reap);
	uring_tuned = cost_of_uring_tuned();
	clock_check(loop);
	report(argv[1], "instructions per read", "kevent", kevent, "libaio", libaio,
	       "io_uring", uring, "kevent_tuned", kevent_tuned, "io_uring_tuned",
	       uring_tuned, "pread", sync, NULL);
	return 0;
}
