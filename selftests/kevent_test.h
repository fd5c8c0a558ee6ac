/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the selftests share.
 *
 * The claim protocol is written here from the words of linux/kevent.h, and not
 * taken from the header's inline functions, so that the interface is read
 * twice.  Functions return 0 or more, or -errno, so that a test compares with
 * the exact errno.  Every struct that the kernel is to fill is poisoned first.
 */
#ifndef KEVENT_TEST_H
#define KEVENT_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/kevent.h>
#include "kselftest_harness.h"

/* An emulated machine with a checking kernel is slow; a test that hangs ends. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif
#define kt __attribute__((unused)) static

#define POISON 0xa5
#define NSEC_PER_SEC 1000000000LL
#define NSEC_PER_MSEC 1000000LL
/* For what must come: long.  For what must not come: short. */
#define LONG_NS (20 * NSEC_PER_SEC)
#define SHORT_NS (20 * NSEC_PER_MSEC)

#define PARAMETERS "/sys/module/kevent/parameters/"

/* ------------------------------------------------------------------------ */
/* Time and scale */

kt int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

kt void nap_ns(int64_t ns)
{
	struct timespec ts = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };

	nanosleep(&ts, NULL);
}

/* KEVENT_TEST_SCALE is in percent. */
kt unsigned long scaled(unsigned long n)
{
	const char *text = getenv("KEVENT_TEST_SCALE");
	unsigned long percent = text ? strtoul(text, NULL, 10) : 100;

	n = n * (percent ? percent : 100) / 100;
	return n ? n : 1;
}

/* Waits, for a bounded time, until @condition holds; 0 if it never did. */
#define EVENTUALLY(condition) ({					\
	int64_t __end = now_ns() + LONG_NS;				\
	int __held;							\
	while (!(__held = !!(condition)) && now_ns() < __end)		\
		nap_ns(NSEC_PER_MSEC);					\
	__held; })

/* ------------------------------------------------------------------------ */
/* ioctls */

kt int sys(long result)
{
	return result < 0 ? -errno : (int)result;
}

kt int ioc(int fd, unsigned long request, void *arg)
{
	return sys(ioctl(fd, request, arg));
}

kt int device_open(void)
{
	return sys(open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC));
}

kt struct kevent_setup setup_arg(unsigned int rings, unsigned int entries)
{
	struct kevent_setup s;

	memset(&s, POISON, sizeof(s));
	s.size = sizeof(s);
	s.flags = 0;
	s.nr_rings = rings;
	s.entries = entries;
	s.nodes = 0;
	return s;
}

/* An unmapped queue. */
kt int queue_open(unsigned int rings, unsigned int entries)
{
	struct kevent_setup s = setup_arg(rings, entries);
	int fd = device_open(), error;

	if (fd < 0)
		return fd;
	error = ioc(fd, KEVENT_IOC_SETUP, &s);
	if (error < 0) {
		close(fd);
		return error;
	}
	return fd;
}

/* Makes @nr changes; returns what the ioctl does, which must equal done. */
kt int changes(int fd, struct kevent_change *c, unsigned int nr)
{
	struct kevent_changes arg;
	int result;

	memset(&arg, POISON, sizeof(arg));
	arg.size = sizeof(arg);
	arg.flags = 0;
	arg.changes = (uintptr_t)c;
	arg.nr = nr;
	result = ioc(fd, KEVENT_IOC_CHANGE, &arg);
	if (result >= 0 && (unsigned int)result != arg.done)
		return -EPROTO;
	return result;
}

/* One change; its own result, or the call's error. */
kt int change(int fd, struct kevent_change *c)
{
	int result;

	c->result = (__s32)0xa5a5a5a5;
	result = changes(fd, c, 1);
	if (result < 0)
		return result;
	return result == 1 ? c->result : -EPROTO;
}

kt struct kevent_change file_change(int file, uint32_t events, uint32_t flags,
				    uint64_t cookie)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD,
		.kind = KEVENT_KIND_FILE,
		.fd = file,
		.events = events,
		.flags = flags,
		.cookie = cookie,
	};

	return c;
}

/* Adds what @c says and stores its id. */
kt int add(int fd, struct kevent_change *c, uint64_t *id)
{
	int result = change(fd, c);

	if (id)
		*id = c->id;
	return result;
}

kt int add_file_at(int fd, unsigned int ring, int file, uint32_t events,
		   uint32_t flags, uint64_t cookie, uint64_t *id)
{
	struct kevent_change c = file_change(file, events, flags, cookie);

	c.ring = ring;
	return add(fd, &c, id);
}

kt int add_file(int fd, int file, uint32_t events, uint32_t flags,
		uint64_t cookie, uint64_t *id)
{
	return add_file_at(fd, 0, file, events, flags, cookie, id);
}

kt int add_user_at(int fd, unsigned int ring, uint32_t flags, uint64_t cookie,
		   uint64_t *id)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD,
		.kind = KEVENT_KIND_USER,
		.flags = flags,
		.ring = ring,
		.cookie = cookie,
	};

	return add(fd, &c, id);
}

kt int add_user(int fd, uint32_t flags, uint64_t cookie, uint64_t *id)
{
	return add_user_at(fd, 0, flags, cookie, id);
}

kt int add_timer(int fd, int clock, uint32_t flags, uint64_t value,
		 uint64_t period, uint64_t cookie, uint64_t *id)
{
	struct kevent_change c = {
		.op = KEVENT_OP_ADD,
		.kind = KEVENT_KIND_TIMER,
		.flags = flags,
		.fd = clock,
		.value = value,
		.period = period,
		.cookie = cookie,
	};

	return add(fd, &c, id);
}

/* REMOVE, ENABLE, DISABLE or ACK. */
kt int plain_op(int fd, unsigned int op, uint64_t id)
{
	struct kevent_change c = { .op = op, .id = id };

	return change(fd, &c);
}

kt int remove_id(int fd, uint64_t id)
{
	return plain_op(fd, KEVENT_OP_REMOVE, id);
}

kt int enable_id(int fd, uint64_t id)
{
	return plain_op(fd, KEVENT_OP_ENABLE, id);
}

kt int disable_id(int fd, uint64_t id)
{
	return plain_op(fd, KEVENT_OP_DISABLE, id);
}

kt int ack_id(int fd, uint64_t id)
{
	return plain_op(fd, KEVENT_OP_ACK, id);
}

kt int remove_close(int fd, uint64_t id, int file)
{
	struct kevent_change c = {
		.op = KEVENT_OP_REMOVE,
		.flags = KEVENT_CLOSE_FD,
		.id = id,
		.fd = file,
	};

	return change(fd, &c);
}

kt int trigger_flags(int fd, uint64_t id, uint64_t value, uint32_t flags)
{
	struct kevent_change c = {
		.op = KEVENT_OP_TRIGGER,
		.flags = flags,
		.id = id,
		.value = value,
	};

	return change(fd, &c);
}

/* The same by the call for one. */
kt int trigger_call(int fd, uint64_t id, uint64_t value, uint32_t flags)
{
	struct kevent_trigger t = {
		.size = sizeof(t), .flags = flags, .id = id, .value = value,
	};

	return ioc(fd, KEVENT_IOC_TRIGGER, &t);
}

kt int trigger(int fd, uint64_t id, uint64_t value)
{
	return trigger_call(fd, id, value, 0);
}

kt int modify_file(int fd, uint64_t id, uint32_t events, uint32_t flags,
		   uint64_t cookie)
{
	struct kevent_change c = {
		.op = KEVENT_OP_MODIFY,
		.kind = KEVENT_KIND_FILE,
		.id = id,
		.events = events,
		.flags = flags,
		.cookie = cookie,
	};

	return change(fd, &c);
}

kt int modify_timer(int fd, uint64_t id, uint32_t flags, uint64_t value,
		    uint64_t period, uint64_t cookie)
{
	struct kevent_change c = {
		.op = KEVENT_OP_MODIFY,
		.kind = KEVENT_KIND_TIMER,
		.id = id,
		.flags = flags,
		.value = value,
		.period = period,
		.cookie = cookie,
	};

	return change(fd, &c);
}

kt int submit_nop_at(int fd, unsigned int ring, int64_t value, uint64_t cookie,
		     uint64_t *id)
{
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT,
		.kind = KEVENT_KIND_NOP,
		.ring = ring,
		.value = value,
		.cookie = cookie,
	};

	return add(fd, &c, id);
}

kt int submit_nop(int fd, int64_t value, uint64_t cookie)
{
	return submit_nop_at(fd, 0, value, cookie, NULL);
}

kt struct kevent_get get_arg(struct ukevent *ev, unsigned int min,
			     unsigned int max, int64_t timeout)
{
	struct kevent_get g;

	memset(&g, 0, sizeof(g));
	g.size = sizeof(g);
	g.ring = KEVENT_RING_ANY;
	g.min = min;
	g.max = max;
	g.nr = 0xa5a5a5a5;
	g.changes_done = 0xa5a5a5a5;
	g.events = (uintptr_t)ev;
	g.timeout = timeout;
	if (ev)
		memset(ev, POISON, max * sizeof(*ev));
	return g;
}

kt int get_run(int fd, struct kevent_get *g)
{
	int result = ioc(fd, KEVENT_IOC_GETEVENTS, g);

	if (result >= 0 && (unsigned int)result != g->nr)
		return -EPROTO;
	return result;
}

/* Collects from all rings by the ioctl. */
kt int get(int fd, struct ukevent *ev, unsigned int min, unsigned int max,
	   int64_t timeout)
{
	struct kevent_get g = get_arg(ev, min, max, timeout);

	return get_run(fd, &g);
}

/* Waits for one event; 1 when it came. */
kt int get_one(int fd, struct ukevent *ev)
{
	return get(fd, ev, 1, 1, LONG_NS);
}

/* How many events there are now, at most 64; they are gone then. */
kt int get_now(int fd)
{
	struct ukevent ev[64];

	return get(fd, ev, 0, 64, 0);
}

/* How many events come within a short time, at most 64. */
kt int get_soon(int fd)
{
	struct ukevent ev[64];

	return get(fd, ev, 64, 64, SHORT_NS);
}

/* The sweep alone. */
kt int get_level(int fd, struct ukevent *ev, unsigned int max)
{
	struct kevent_get g = get_arg(ev, 0, max, 0);

	g.flags = KEVENT_GET_MAPPED;
	return get_run(fd, &g);
}

/* ------------------------------------------------------------------------ */
/* Mapped queues */

struct queue {
	int fd;
	struct kevent_setup setup;
	char *rings;
	char *claims;
};

kt const struct kevent_ring *ring_at(const struct queue *q, unsigned int i)
{
	return (const void *)(q->rings + (size_t)i * q->setup.ring_bytes);
}

kt uint64_t *head_at(const struct queue *q, unsigned int i)
{
	struct kevent_claim *claim = (void *)(q->claims +
				      (size_t)i * q->setup.claim_bytes);

	return (uint64_t *)&claim->head;
}

kt uint64_t tail_of(const struct queue *q, unsigned int i)
{
	return __atomic_load_n(&ring_at(q, i)->tail, __ATOMIC_ACQUIRE);
}

kt uint64_t head_of(const struct queue *q, unsigned int i)
{
	return __atomic_load_n(head_at(q, i), __ATOMIC_ACQUIRE);
}

#define RING_WORD(name)							\
kt uint32_t name##_of(const struct queue *q, unsigned int i)		\
{									\
	return __atomic_load_n(&ring_at(q, i)->name, __ATOMIC_ACQUIRE);	\
}
RING_WORD(pending)
RING_WORD(hint)
RING_WORD(need_enter)
RING_WORD(sources)
RING_WORD(requests)

kt int queue_map(struct queue *q, int fd)
{
	void *p;
	int error;

	q->fd = fd;
	q->setup = setup_arg(0, 0);
	error = ioc(fd, KEVENT_IOC_INFO, &q->setup);
	if (error < 0)
		return error;
	p = mmap(NULL, (size_t)q->setup.nr_rings * q->setup.ring_bytes,
		 PROT_READ, MAP_SHARED, fd, KEVENT_MMAP_RINGS);
	if (p == MAP_FAILED)
		return -errno;
	q->rings = p;
	p = mmap(NULL, (size_t)q->setup.nr_rings * q->setup.claim_bytes,
		 PROT_READ | PROT_WRITE, MAP_SHARED, fd, KEVENT_MMAP_CLAIMS);
	if (p == MAP_FAILED)
		return -errno;
	q->claims = p;
	return 0;
}

kt int queue_make(struct queue *q, unsigned int rings, unsigned int entries)
{
	int fd = queue_open(rings, entries);

	return fd < 0 ? fd : queue_map(q, fd);
}

kt void queue_unmap(struct queue *q)
{
	munmap(q->rings, (size_t)q->setup.nr_rings * q->setup.ring_bytes);
	munmap(q->claims, (size_t)q->setup.nr_rings * q->setup.claim_bytes);
}

kt void queue_free(struct queue *q)
{
	queue_unmap(q);
	close(q->fd);
}

kt void copy_slot(const struct kevent_ring *r, uint64_t position,
		  struct ukevent *to)
{
	const uint64_t *from = (const void *)((const char *)r +
					      r->slots_offset);
	uint64_t words[4];
	int w;

	from += (position % r->entries) * 4;
	for (w = 0; w < 4; w++)
		words[w] = __atomic_load_n(from + w, __ATOMIC_RELAXED);
	memcpy(to, words, sizeof(words));
}

/*
 * The protocol of "The ring, and why it has a head and a tail": head and tail,
 * copy, claim, fence.  Returns the number of events taken.
 */
kt unsigned int ring_collect(const struct queue *q, unsigned int i,
			     struct ukevent *ev, unsigned int max)
{
	const struct kevent_ring *r = ring_at(q, i);
	uint64_t *head = head_at(q, i), h, t, n, k;

	for (;;) {
		/* with acquire: the tail is to be the newer of the two */
		h = __atomic_load_n(head, __ATOMIC_ACQUIRE);
		t = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
		n = t - h;
		if (!n)
			return 0;
		/* Another consumer moved the head between the two loads. */
		if (n > r->entries)
			continue;
		if (n > max)
			n = max;
		for (k = 0; k < n; k++)
			copy_slot(r, h + k, &ev[k]);
		if (__atomic_compare_exchange_n(head, &h, h + n, 0,
						__ATOMIC_RELEASE,
						__ATOMIC_RELAXED))
			break;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return n;
}

/* Whether the ioctl has something to do that the mapped ring cannot show. */
kt int needs_ioctl(const struct queue *q, unsigned int i)
{
	return pending_of(q, i) || need_enter_of(q, i) || hint_of(q, i);
}

/* Sleeps until ring @i has an event; level events go to @ev. */
kt int mapped_wait(const struct queue *q, unsigned int i, unsigned int min,
		   struct ukevent *ev, unsigned int max, int64_t timeout)
{
	struct kevent_get g = get_arg(ev, min, max, timeout);

	g.flags = KEVENT_GET_MAPPED;
	g.ring = i;
	return get_run(q->fd, &g);
}

/* ------------------------------------------------------------------------ */
/* Files */

kt int eventfd_make(void)
{
	return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

kt int eventfd_fire(int fd)
{
	uint64_t one = 1;

	return write(fd, &one, 8) == 8 ? 0 : -errno;
}

kt int64_t eventfd_drain(int fd)
{
	uint64_t value;

	return read(fd, &value, 8) == 8 ? (int64_t)value : -errno;
}

kt int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return -errno;
	text[n] = 0;
	return n;
}

kt int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		result = -errno;
	close(fd);
	return result;
}

/* A parameter of the module; -1 when there is none. */
kt long long parameter_get(const char *name)
{
	char path[256], text[64];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	if (read_text(path, text, sizeof(text)) < 0)
		return -1;
	return strtoll(text, NULL, 0);
}

kt int parameter_set(const char *name, unsigned long long value)
{
	char path[256], text[64];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	snprintf(text, sizeof(text), "%llu", value);
	return write_text(path, text);
}

/* From here on a thread, 0: the caller, runs on that CPU alone. */
kt int on_cpu(pid_t tid, unsigned int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return sys(sched_setaffinity(tid, sizeof(one), &one));
}

/* What a queue says of itself, the sum over its rings; -1 if there is no such word. */
kt long fdinfo(int q, const char *name)
{
	static char text[16384];
	char path[64], *p = text;
	size_t length = strlen(name);
	long sum = -1;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", q);
	if (read_text(path, text, sizeof(text)) < 0)
		return -1;
	while ((p = strstr(p, name))) {
		if ((p == text || strchr("\t\n ", p[-1])) &&
		    strchr(" :", p[length]))
			sum = (sum < 0 ? 0 : sum) +
			      strtol(p + length + strspn(p + length, " :\t"),
				     NULL, 10);
		p += length;
	}
	return sum;
}

/* ------------------------------------------------------------------------ */
/* User memory that is not there */

/*
 * Two pages, of which the second cannot be accessed; returns its start, so that
 * what lies @n bytes before it reaches @n bytes into readable memory.
 */
kt char *edge_of_mapping(void)
{
	long page = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* Not unmapped: the next mapping might take its place. */
	mprotect(p + page, page, PROT_NONE);
	return p + page;
}

/* A page that can be read and not written, and starts with @size of @data. */
kt void *read_only_copy(const void *data, size_t size)
{
	long page = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	memcpy(p, data, size);
	mprotect(p, page, PROT_READ);
	return p;
}

/* ------------------------------------------------------------------------ */
/* Threads and processes */

/* Joins within a bounded time; 0 or -ETIMEDOUT. */
kt int join(pthread_t thread, void **result)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 60;
	return -pthread_timedjoin_np(thread, result, &ts);
}

/* Exit status of @pid, 128 + its signal, or -ETIMEDOUT. */
kt int reap(pid_t pid)
{
	int status, r = 0;
	int ended = EVENTUALLY((r = waitpid(pid, &status, WNOHANG)) != 0);

	if (!ended)
		return -ETIMEDOUT;
	if (r < 0)
		return -errno;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

/* The state letter of a task of this process, or of another process. */
kt char task_state(pid_t tid)
{
	char path[64], text[512], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (read_text(path, text, sizeof(text)) < 0)
		return 0;
	p = strrchr(text, ')');
	return p ? p[2] : 0;
}

kt int asleep(pid_t tid)
{
	return EVENTUALLY(task_state(tid) == 'S');
}

kt int send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sys(sendmsg(socket, &msg, 0)) == 1 ? 0 : -errno;
}

kt int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int fd;

	if (recvmsg(socket, &msg, 0) != 1)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (!c)
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

/* A connection over the loopback; 0 or -1. */
static inline int tcp_pair(int fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t size = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (l < 0 || bind(l, (void *)&a, size) || listen(l, 1) ||
	    getsockname(l, (void *)&a, &size))
		return -1;
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fds[1], (void *)&a, size))
		return -1;
	fds[0] = accept(l, NULL, NULL);
	close(l);
	return fds[0] < 0 ? -1 : 0;
}

#endif /* KEVENT_TEST_H */
