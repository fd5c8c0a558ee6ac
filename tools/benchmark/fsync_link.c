// SPDX-License-Identifier: MIT
/*
 * The append to a log that databases make: a write of 4 KiB into a preallocated file on
 * ext4, linked with an fdatasync; the next begins when both have ended.
 *
 * In the bracket: filling in both, one system call that submits them and waits for both,
 * what the kernel's threads do for them, collecting the results.  kevent: getevents with
 * the two changes.  io_uring: io_uring_submit_and_wait(), once with default flags and
 * once with a registered file and the flags of a single issuer; the cheaper counts.
 * For comparison pwrite and fdatasync.
 */
#include <liburing.h>
#include <linux/kevent.h>

#include "measure.h"

#define SIZE 4096
#define BLOCKS 1024
#define CALLS 64
#define ROUNDS 20

static int fd;
static char *buffer;
static unsigned int next;

static off_t offset(void)
{
	return (off_t)(next++ % BLOCKS) * SIZE;
}

static void (*commit)(void);

static void run(void)
{
	for (int i = 0; i < CALLS; i++)
		commit();
}

static double cost(void (*how)(void))
{
	commit = how;
	run();
	return best_of(ROUNDS, run) / CALLS;
}

static void commit_calls(void)
{
	must(pwrite(fd, buffer, SIZE, offset()) == SIZE, "pwrite");
	must(!fdatasync(fd), "fdatasync");
}

static int queue;

static void commit_kevent(void)
{
	struct kevent_change c[2] = {
		{ .op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_WRITE, .flags = KEVENT_LINK,
		  .fd = fd, .addr = (uintptr_t)buffer, .len = SIZE, .offset = (__u64)offset(),
		  .cookie = SIZE },
		{ .op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_FDATASYNC, .fd = fd },
	};
	struct ukevent ev[2];
	struct kevent_get arg = {
		.size = sizeof(arg), .ring = 0, .min = 2, .max = 2,
		.events = (uintptr_t)ev, .timeout = -1,
		.changes = (uintptr_t)c, .nr_changes = 2,
	};

	must(ioctl(queue, KEVENT_IOC_GETEVENTS, &arg) == 2, "KEVENT_IOC_GETEVENTS");
	for (int i = 0; i < 2; i++)
		must(ev[i].result == (__s64)ev[i].cookie, "result");
}

static struct io_uring ring;
static int file_flag;

static void commit_uring(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	struct io_uring_cqe *cqe;

	io_uring_prep_write(sqe, file_flag ? 0 : fd, buffer, SIZE, (__u64)offset());
	io_uring_sqe_set_flags(sqe, (unsigned int)(IOSQE_IO_LINK | file_flag));
	io_uring_sqe_set_data64(sqe, SIZE);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_fsync(sqe, file_flag ? 0 : fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_flags(sqe, (unsigned int)file_flag);
	io_uring_sqe_set_data64(sqe, 0);
	must(io_uring_submit_and_wait(&ring, 2) == 2, "io_uring_submit_and_wait");
	for (int i = 0; i < 2; i++) {
		must(!io_uring_wait_cqe(&ring, &cqe), "io_uring_wait_cqe");
		must(cqe->res == (int)cqe->user_data, "result");
		io_uring_cqe_seen(&ring, cqe);
	}
}

static double cost_of_uring(unsigned int flags)
{
	struct io_uring_params p = { .flags = flags };
	double result;

	must(!io_uring_queue_init_params(8, &ring, &p), "io_uring_queue_init");
	file_flag = flags ? IOSQE_FIXED_FILE : 0;
	if (flags)
		must(!io_uring_register_files(&ring, &fd, 1), "register_files");
	result = cost(commit_uring);
	io_uring_queue_exit(&ring);
	return result;
}

int main(int argc, char **argv)
{
	double loop = clock_check(0), calls, kevent, uring, single;

	must(argc == 2, "Usage: fsync_link FILE");
	fd = open(argv[1], O_RDWR | O_CREAT, 0600);
	must(fd >= 0, argv[1]);
	must(!posix_memalign((void **)&buffer, SIZE, SIZE), "memory");
	memset(buffer, 1, SIZE);
	for (int i = 0; i < BLOCKS; i++)
		must(pwrite(fd, buffer, SIZE, offset()) == SIZE, "pwrite");
	must(!fsync(fd), "fsync");
	queue = kevent_open();
	must(queue >= 0, KEVENT_DEVICE);

	calls = cost(commit_calls);
	kevent = cost(commit_kevent);
	uring = cost_of_uring(0);
	single = cost_of_uring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	clock_check(loop);
	report("fsync_link", "instructions per commit", "kevent", kevent, "io_uring",
	       uring < single ? uring : single, "io_uring_plain", uring, "calls", calls, NULL);
	return 0;
}
