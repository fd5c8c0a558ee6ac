// SPDX-License-Identifier: MIT
/*
 * Kernel memory of 50,000 idle sources, each on an eventfd of its own
 * (memory_source); of 8,000 reads in flight, each waiting for an eventfd of its own
 * (memory_request); of 200 queues, open and mapped, or 4,000 of epoll
 * (memory_queue).  Bytes for each.
 *
 * How it is counted: as all pages of the machine that are not free before and after,
 * so that nothing is left out, whoever allocated it and under whatever name: rounding
 * of the slab allocator and its own tables, nodes of xarrays and trees, hash tables
 * that grow, pages of rings, page tables of their mappings.  Free are those that
 * /proc/zoneinfo counts so, in the lists of the CPUs too.  The program's own memory is
 * locked, and touched before; the eventfds exist before.  Each bracket begins with one
 * source (request, queue) there, so that what is made once is not in it, and after half
 * a second in which nothing happens, so that what is freed late is free; and slabs that
 * are empty are given back, so that nothing is made of what others left.  What the
 * module has for all queues together, some 128 KiB, is not counted, nor what the peers
 * have of that kind.
 *
 * Two more figures for each, to compare: NAME_slab, the difference of Slab in
 * /proc/meminfo, which leaves out pages that are not the slab allocator's; and
 * NAME_cgroup, the difference of "kernel" in memory.stat of a cgroup that the program
 * has for itself, which is what the owner is charged: objects without the rounding.
 *
 *   kevent    edge sources; KEVENT_KIND_READ of 8 bytes; default rings, mapped, and
 *             kevent_small with one ring of 64 entries
 *   epoll     edge-triggered; it has no requests
 *   io_uring  multishot polls; IORING_OP_READ of 8 bytes, not linked or registered; a
 *             completion queue of as many entries as kevent's ring, and a submission
 *             queue of half as many, which is liburing's default, and io_uring_small
 *             with 64 and 32
 */
#include <glob.h>
#include <liburing.h>
#include <linux/kevent.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "measure.h"

#define SOURCES 50000
#define REQUESTS 8000
#define QUEUES 200
#define EPOLLS 4000
#define SMALL 64

#define CGROUP "/sys/fs/cgroup/memory_source"

/* The sum of the numbers after @key at the beginning of lines. */
static double sum_of(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	char line[256];
	double sum = 0;

	must(!!file, path);
	while (fgets(line, sizeof(line), file)) {
		const char *at = line + strspn(line, " ");

		if (!strncmp(at, key, strlen(key)))
			sum += strtod(at + strlen(key), NULL);
	}
	fclose(file);
	return sum;
}

struct memory {
	double used, slab, cgroup;
};

/* Gives back what the slab allocator keeps. */
static void shrink(void)
{
	glob_t caches;

	must(!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches), "/sys/kernel/slab");
	for (size_t i = 0; i < caches.gl_pathc; i++) {
		int fd = open(caches.gl_pathv[i], O_WRONLY | O_CLOEXEC);

		must(fd >= 0 && write(fd, "1", 1) == 1, caches.gl_pathv[i]);
		close(fd);
	}
	globfree(&caches);
}

static struct memory look(void)
{
	struct memory m;

	usleep(500000);
	shrink();
	/* The counters of each CPU are added to the machine's now. */
	must(sum_of("/proc/sys/vm/stat_refresh", "") == 0, "stat_refresh");
	m.used = -4096 * (sum_of("/proc/zoneinfo", "pages free") +
			  sum_of("/proc/zoneinfo", "count:"));
	m.slab = 1024 * sum_of("/proc/meminfo", "Slab:");
	m.cgroup = sum_of(CGROUP "/memory.stat", "kernel ");
	return m;
}

/* Bytes for each of @n; make(first, end) makes those of these numbers. */
static struct memory cost(int n, void (*make)(int first, int end))
{
	struct memory before, after;

	make(0, 1);
	before = look();
	make(1, n);
	after = look();
	return (struct memory){
		(after.used - before.used) / (n - 1),
		(after.slab - before.slab) / (n - 1),
		(after.cgroup - before.cgroup) / (n - 1),
	};
}

static int fds[SOURCES];
static __u64 buffers[REQUESTS];

static int queue;

static void kevent_change_all(struct kevent_change *changes, int n)
{
	struct kevent_changes arg = {
		.size = sizeof(arg), .changes = (uintptr_t)changes, .nr = n,
	};

	must(ioctl(queue, KEVENT_IOC_CHANGE, &arg) == n, "KEVENT_IOC_CHANGE");
	for (int i = 0; i < n; i++)
		must(!changes[i].result, "change");
}

static struct kevent_change changes[SOURCES];

static void kevent_sources(int first, int end)
{
	for (int i = first; i < end; i++)
		changes[i] = (struct kevent_change){
			.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .fd = fds[i],
			.events = EPOLLIN,
		};
	kevent_change_all(changes + first, end - first);
}

static void kevent_requests(int first, int end)
{
	for (int i = first; i < end; i++)
		changes[i] = (struct kevent_change){
			.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_READ, .fd = fds[i],
			.addr = (uintptr_t)&buffers[i], .len = 8,
		};
	kevent_change_all(changes + first, end - first);
}

static struct memory of_kevent(int n, void (*make)(int first, int end))
{
	struct kevent_map map;
	const struct kevent_ring *r;
	struct memory m;

	queue = kevent_open();
	must(queue >= 0 && !kevent_map_rings(queue, &map), KEVENT_DEVICE);
	m = cost(n, make);
	r = kevent_ring_at(&map, 0);
	must((int)(r->sources + r->requests) == n && !r->tail, "sources and requests");
	kevent_unmap_rings(&map);
	close(queue);
	return m;
}

static int epfd;

static void epoll_sources(int first, int end)
{
	for (int i = first; i < end; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

		must(!epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), "EPOLL_CTL_ADD");
	}
}

static struct memory of_epoll(void)
{
	struct memory m;

	epfd = epoll_create1(EPOLL_CLOEXEC);
	m = cost(SOURCES, epoll_sources);
	close(epfd);
	return m;
}

static struct io_uring ring;

static struct io_uring_sqe *uring_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		must(io_uring_submit(&ring) > 0, "io_uring_submit");
		sqe = io_uring_get_sqe(&ring);
	}
	return sqe;
}

static void uring_sources(int first, int end)
{
	for (int i = first; i < end; i++)
		io_uring_prep_poll_multishot(uring_sqe(), fds[i], POLLIN);
	must(io_uring_submit(&ring) > 0 && !io_uring_cq_ready(&ring), "polls");
}

static void uring_requests(int first, int end)
{
	for (int i = first; i < end; i++)
		io_uring_prep_read(uring_sqe(), fds[i], &buffers[i], 8, 0);
	must(io_uring_submit(&ring) > 0 && !io_uring_cq_ready(&ring), "reads");
}

static struct memory of_uring(int n, void (*make)(int first, int end))
{
	struct memory m;

	must(!io_uring_queue_init(1024, &ring, 0), "io_uring_queue_init");
	m = cost(n, make);
	io_uring_queue_exit(&ring);
	return m;
}

static unsigned int entries; /* 0: the default */
static int descriptors[EPOLLS];
static struct kevent_map maps[QUEUES];
static struct io_uring rings[QUEUES];

static void kevent_queues(int first, int end)
{
	struct kevent_setup setup = {
		.size = sizeof(setup), .nr_rings = !!entries, .entries = entries,
	};

	for (int i = first; i < end; i++) {
		int fd = open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC);

		must(fd >= 0 && !ioctl(fd, KEVENT_IOC_SETUP, &setup), KEVENT_DEVICE);
		must(!kevent_map_rings(fd, &maps[i]), "kevent_map_rings");
		descriptors[i] = fd;
	}
}

static void epoll_queues(int first, int end)
{
	for (int i = first; i < end; i++) {
		descriptors[i] = epoll_create1(EPOLL_CLOEXEC);
		must(descriptors[i] >= 0, "epoll_create1");
	}
}

static void uring_queues(int first, int end)
{
	for (int i = first; i < end; i++)
		must(!io_uring_queue_init(entries / 2, &rings[i], 0), "io_uring");
}

static void close_queues(int n)
{
	for (int i = 0; i < n; i++)
		close(descriptors[i]);
}

static struct memory of_kevent_queues(unsigned int size)
{
	struct memory m;

	entries = size;
	m = cost(QUEUES, kevent_queues);
	entries = maps[0].setup.entries;
	for (int i = 0; i < QUEUES; i++)
		kevent_unmap_rings(&maps[i]);
	close_queues(QUEUES);
	return m;
}

static struct memory of_epoll_queues(void)
{
	struct memory m = cost(EPOLLS, epoll_queues);

	close_queues(EPOLLS);
	return m;
}

/* With as many entries as the queues of kevent before. */
static struct memory of_uring_queues(void)
{
	struct memory m = cost(QUEUES, uring_queues);

	for (int i = 0; i < QUEUES; i++)
		io_uring_queue_exit(&rings[i]);
	return m;
}

static void enter_cgroup(void)
{
	FILE *file;

	must(!mkdir(CGROUP, 0755), CGROUP);
	file = fopen(CGROUP "/cgroup.procs", "we");
	must(file && fputs("0", file) >= 0 && !fclose(file), CGROUP "/cgroup.procs");
}

static void report_sources(void)
{
	struct memory kevent = of_kevent(SOURCES, kevent_sources);
	struct memory epoll = of_epoll();
	struct memory uring = of_uring(SOURCES, uring_sources);

	report("memory_source", "bytes per source", "kevent", kevent.used, "epoll",
	       epoll.used, "io_uring", uring.used, "kevent_slab", kevent.slab,
	       "epoll_slab", epoll.slab, "io_uring_slab", uring.slab, "kevent_cgroup",
	       kevent.cgroup, "epoll_cgroup", epoll.cgroup, "io_uring_cgroup",
	       uring.cgroup, NULL);
}

static void report_requests(void)
{
	struct memory kevent = of_kevent(REQUESTS, kevent_requests);
	struct memory uring = of_uring(REQUESTS, uring_requests);

	report("memory_request", "bytes per request", "kevent", kevent.used, "io_uring",
	       uring.used, "kevent_slab", kevent.slab, "io_uring_slab", uring.slab,
	       "kevent_cgroup", kevent.cgroup, "io_uring_cgroup", uring.cgroup, NULL);
}

static void report_queues(void)
{
	struct memory kevent = of_kevent_queues(0), uring = of_uring_queues();
	double size = entries;
	struct memory epoll = of_epoll_queues();
	struct memory small = of_kevent_queues(SMALL), uring_small = of_uring_queues();

	report("memory_queue", "bytes per queue", "kevent", kevent.used, "epoll",
	       epoll.used, "io_uring", uring.used, "entries", size, "kevent_small",
	       small.used, "io_uring_small", uring_small.used, "kevent_slab",
	       kevent.slab, "epoll_slab", epoll.slab, "io_uring_slab", uring.slab,
	       "kevent_cgroup", kevent.cgroup, "epoll_cgroup", epoll.cgroup,
	       "io_uring_cgroup", uring.cgroup, NULL);
}

int main(void)
{
	struct rlimit files = { SOURCES + EPOLLS + 100, SOURCES + EPOLLS + 100 };

	enter_cgroup();
	must(!setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	for (int i = 0; i < SOURCES; i++) {
		fds[i] = eventfd(0, 0);
		must(fds[i] >= 0, "eventfd");
	}
	must(!mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall");
	look(); /* once in vain: it makes inodes */
	report_sources();
	report_requests();
	report_queues();
	return 0;
}
