// SPDX-License-Identifier: MIT
/*
 * What a user pays for another who has all that the limits allow: edge_batch, and
 * (base) the same before that other came.  Run under tools/vm --icount, as root.
 *
 * In the bracket 256 writes, each to another eventfd, and the collection of their
 * events from the mapped ring, 2,000 times.  It is the mean that counts, not the best:
 * the interrupts and the share of the CPU that the other takes are what is asked for.
 * So the writes are not subtracted either.
 *
 * The other user, in a process of its own,
 *   - has a quarter of its sources in timers of the shortest period, on all clocks,
 *     and takes their events every millisecond, so that they go on at full rate;
 *   - watches one file as often as a file can be watched;
 *   - has thousands of level sources that are ready, and of queues' sources that are
 *     watched through a chain of queues;
 *   - has as many reads waiting, and as many results uncollected, as it may;
 *   - has locked memory up to its limit, in rings and in registered buffers;
 *   - has every other source that it may in user events.
 * Each ends with the errno that says so, and it is an error if it does not.
 */
#include <errno.h>
#include <linux/kevent.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "measure.h"

#define FDS 256
#define ROUNDS 2000
#define SUM (FDS * (FDS - 1) / 2 + FDS * EPOLLIN)
#define QUEUES 24
#define RINGS 8
#define CHAIN 500
#define LEVEL 5000
#define BATCH 1024
#define USER 54321

/* ------------------------------------------------------------------------ */
/* The other */

static int queues[QUEUES];
static struct kevent_map maps[QUEUES];

static int queue_of(unsigned int rings, unsigned int entries)
{
	struct kevent_setup s = {
		.size = sizeof(s), .nr_rings = rings, .entries = entries,
	};
	int fd = open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, KEVENT_IOC_SETUP, &s) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * Makes @change, with another home ring each time, @most times or until it is refused.
 * Returns how many were made; *@error says why no more.
 */
static unsigned long fill(int queue, struct kevent_change change, unsigned int rings,
			  unsigned long most, int *error)
{
	static struct kevent_change c[BATCH];
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)c, .nr = BATCH,
	};
	unsigned long made = 0;

	*error = 0;
	while (made < most) {
		arg.nr = most - made < BATCH ? most - made : BATCH;
		for (unsigned int i = 0; i < arg.nr; i++) {
			c[i] = change;
			c[i].ring = (change.ring + i) % rings;
		}
		must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == (int)arg.nr, "changes");
		for (unsigned int i = 0; i < arg.nr; i++) {
			made += !c[i].result;
			if (c[i].result)
				*error = -c[i].result;
		}
		if (*error)
			break;
	}
	return made;
}

static unsigned long parameter(const char *name)
{
	char path[128];
	unsigned long value;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/kevent/parameters/%s", name);
	file = fopen(path, "r");
	must(file && fscanf(file, "%lu", &value) == 1, path);
	fclose(file);
	return value;
}

/* 0: the default, a 25th of memory at 256 bytes. */
static unsigned long most_sources(void)
{
	unsigned long n = parameter("max_user_sources");

	return n ? n : (unsigned long)get_phys_pages() / 25 * (sysconf(_SC_PAGESIZE) / 256);
}

static void take_timers(unsigned long n)
{
	static const int clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME };
	int error;

	for (int i = 0; i < QUEUES; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_TIMER, .period = 1,
			.fd = clocks[i % 3],
		};

		must(fill(queues[i], c, RINGS, n / QUEUES, &error) == n / QUEUES,
		     "timers");
	}
}

static void take_file(void)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .events = EPOLLIN,
		.fd = eventfd(1, EFD_NONBLOCK),
	};
	int error;

	must(fill(queues[0], c, RINGS, 1000000, &error) == parameter("max_file_sources") &&
	     error == ENOSPC, "all sources of a file");
}

static void take_level(void)
{
	int error;

	for (int i = 0; i < LEVEL; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE,
			.events = EPOLLIN, .flags = KEVENT_LEVEL,
			.fd = eventfd(1, EFD_NONBLOCK),
		};

		must(fill(queues[i % QUEUES], c, RINGS, 1, &error) == 1, "level");
	}
}

static void take_chain(void)
{
	int last = queues[0], error;

	for (int i = 0; i < CHAIN; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE,
			.events = EPOLLIN, .flags = KEVENT_LEVEL, .fd = last,
		};

		last = queue_of(1, 1);
		must(last >= 0 && fill(last, c, 1, 1, &error) == 1, "chain");
	}
}

/* Reads that wait, then results that nobody collects. */
static void take_requests(void)
{
	static char byte;
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_READ, .len = 1,
		.addr = (uintptr_t)&byte,
	};
	int fds[2], error;

	must(!pipe(fds), "pipe");
	c.fd = fds[0];
	/* Each is on the pipe's wait queue, and in the table of files. */
	for (int i = 0; i < 64; i++) {
		must(!pipe(fds), "pipe");
		c.fd = fds[0];
		must(fill(queues[i % QUEUES], c, RINGS, 16, &error) == 16, "reads");
	}
	c = (struct kevent_change){ .op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_NOP };
	for (int i = 0; i < QUEUES; i++)
		fill(queues[i], c, RINGS, 10000000, &error);
	must(error == EAGAIN, "all requests");
}

static void take_memory(void)
{
	size_t size = 4 << 20, page = 4096;
	struct kevent_buffer b;
	struct kevent_buffers arg = {
		.size = sizeof(arg), .buffers = (uintptr_t)&b, .first = 1, .nr = 1,
	};

	b.addr = (uintptr_t)mmap(NULL, size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (b.len = size; b.len >= page; arg.first++)
		if (ioctl(queues[0], KEVENT_IOC_BUFFERS, &arg) < 0) {
			must(errno == ENOMEM, "buffers");
			b.len /= 2;
		}
	must(queue_of(1, 1) < 0 && errno == ENOMEM, "all locked memory");
}

static void take_rest(void)
{
	struct kevent_change c = { .op = KEVENT_OP_ADD, .kind = KEVENT_KIND_USER };
	int error;

	fill(queues[0], c, RINGS, 100000000, &error);
	must(error == ENOSPC, "all sources");
}

/* Its rings are empty again and again, so that its timers do not slow down. */
static void claim_all(void)
{
	for (int q = 0; q < QUEUES; q++)
		for (unsigned int i = 0; i < RINGS; i++) {
			struct kevent_view v = kevent_view_of(&maps[q], i);

			__atomic_store_n(&v.claim->head,
					 __atomic_load_n(&v.ring->tail,
							 __ATOMIC_ACQUIRE),
					 __ATOMIC_RELEASE);
		}
}

static void take_everything(int ready)
{
	struct timespec pause = { 0, 1000000 };
	struct rlimit memory = { 16 << 20, 16 << 20 }, files = { 65536, 65536 };

	must(!setrlimit(RLIMIT_NOFILE, &files), "RLIMIT_NOFILE");
	must(!setrlimit(RLIMIT_MEMLOCK, &memory), "RLIMIT_MEMLOCK");
	must(!setresgid(USER, USER, USER) && !setresuid(USER, USER, USER), "setresuid");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < QUEUES; i++) {
		queues[i] = queue_of(RINGS, 64);
		must(queues[i] >= 0 && !kevent_map_rings(queues[i], &maps[i]), "queue");
	}
	take_file();
	take_level();
	take_chain();
	take_requests();
	take_memory();
	take_timers(most_sources() / 4);
	take_rest();
	must(write(ready, "", 1) == 1, "pipe");
	for (;;) {
		claim_all();
		nanosleep(&pause, NULL);
	}
}

static pid_t other;

static void other_start(void)
{
	int fds[2];
	char byte;

	must(!pipe(fds), "pipe");
	other = fork();
	must(other >= 0, "fork");
	if (!other) {
		close(fds[0]);
		take_everything(fds[1]);
	}
	close(fds[1]);
	must(read(fds[0], &byte, 1) == 1, "the other user has everything");
	close(fds[0]);
}

static void other_stop(void)
{
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
}

/* ------------------------------------------------------------------------ */
/* The one who pays */

static int fds[FDS];
static int queue;
static struct kevent_map map;
static struct kevent_view view;

static void write_and_collect(void)
{
	const struct ukevent *ev;
	const __u64 one = 1;
	unsigned long sum = 0;
	unsigned int n;

	for (int i = 0; i < FDS; i++)
		must(write(fds[i], &one, 8) == 8, "write");
	while ((n = kevent_view_peek(&view, &ev))) {
		for (unsigned int i = 0; i < n; i++)
			sum += ev[i].cookie + ev[i].events;
		must(kevent_view_claim(&view, n), "kevent_view_claim");
	}
	must(sum == SUM, "every event once");
}

static double mean_of(int rounds, void (*call)(void))
{
	double start = now();

	for (int i = 0; i < rounds; i++)
		call();
	return (now() - start) / rounds;
}

static void add_and_remove(void)
{
	for (int i = 0; i < FDS; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE,
			.events = EPOLLIN, .fd = fds[i],
		};

		must(kevent_change(queue, &c) >= 0, "add");
		c = (struct kevent_change){ .op = KEVENT_OP_REMOVE, .id = c.id };
		must(kevent_change(queue, &c) >= 0, "remove");
		__atomic_store_n(&view.claim->head, view.ring->tail, __ATOMIC_RELEASE);
	}
	view = kevent_view_of(&map, 0);
}

static void open_and_close(void)
{
	int fd = kevent_open();

	must(fd >= 0, KEVENT_DEVICE);
	close(fd);
}

static void start_queue(void)
{
	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	view = kevent_view_of(&map, 0);
	for (int i = 0; i < FDS; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = i,
			.events = EPOLLIN, .fd = fds[i] = eventfd(0, EFD_NONBLOCK),
		};

		must(fds[i] >= 0 && kevent_change(queue, &c) >= 0, "add");
	}
	write_and_collect();
}

int main(void)
{
	double loop = clock_check(0), alone, with, best_alone, best_with;
	double add_alone, add_with, open_alone, open_with;

	start_queue();
	best_alone = best_of(40, write_and_collect) / FDS;
	alone = mean_of(ROUNDS, write_and_collect) / FDS;
	add_alone = best_of(40, add_and_remove) / FDS;
	open_alone = best_of(40, open_and_close);
	other_start();
	best_with = best_of(40, write_and_collect) / FDS;
	with = mean_of(ROUNDS, write_and_collect) / FDS;
	add_with = best_of(40, add_and_remove) / FDS;
	open_with = best_of(40, open_and_close);
	other_stop();
	clock_check(loop);
	report("isolation", "instructions per event, the write included", "kevent", with,
	       "base", alone, "best", best_with, "best_base", best_alone,
	       "add_remove", add_with, "add_remove_base", add_alone, "open_close",
	       open_with, "open_close_base", open_alone, NULL);
	return 0;
}
