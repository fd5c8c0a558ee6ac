// SPDX-License-Identifier: GPL-2.0
/*
 * Runs libFuzzer's inputs as programs over the interface of /dev/kevent.
 *
 * An input is a list of records of 12 bytes: an operation, the thread that runs it,
 * and its arguments, each a byte that picks from a table of values.  Descriptors,
 * maps and ids live in slots that all threads share.  `fuzz --assemble` and
 * `fuzz --print` turn text into inputs and back; README.md says how to use them.
 *
 * What the kernel answers is judged: errnos are those that the header lists, nothing
 * is written past what was asked for, events are well-formed, and each request that
 * was accepted gives exactly one event.
 */
#include <linux/kevent.h>

#include <inttypes.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../pollzoo/pollzoo.h"
#include "cover.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MS 1000000ULL
#define DIRECTORY "/run/kevent-fuzz/"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* ------------------------------------------------------------------------ */
/* Where things are */

#define THREADS 3
#define RECORDS 64
#define ARGS 10
#define BATCH 16
#define FDS 24
#define FD_BASE 100
#define IDS 32
#define MAPS 8
#define ROOM 128      /* events that a thread's array holds */
#define MAP_BYTES (1 << 21)
#define IO_BYTES 65536

/* All below 4 GiB, for 32-bit calls.  A page that cannot be touched follows each. */
#define OUT_AT 0x10000000UL    /* events, a megabyte for each thread */
#define IO_AT 0x20000000UL     /* what requests read and write; shared with children */
#define MAP_AT 0x30000000UL    /* queues' rings and claims, then other mappings */
#define NOWHERE_AT 0x60000000UL

/* libFuzzer reads these after each run; the kernel's pages are mapped here. */
__attribute__((section("__libfuzzer_extra_counters"), aligned(4096)))
static u8 counters[COVER_COUNTERS];
static u8 *ever;

struct record {
	u8 op;
	u8 thread; /* and FLAG_* */
	u8 a[ARGS];
};

#define FLAG_MORE 0x80 /* the entry waits for the next, which goes with it */

enum { NONE, SURE, UNSURE };
#define SERIALS 2048

/* Of one run, shared with its children. */
struct ledger {
	u64 run;
	u32 serials;
	u8 state[SERIALS]; /* of a request: was it accepted? */
	u8 count[SERIALS]; /* its events */
	u64 ids[IDS];
	u64 requests[2 * IDS]; /* ids too, by serial */
	bool used[FDS];
	bool forged;   /* a head was moved by force: events may come again or not */
	bool lost;     /* a queue may be gone with events in it */
	bool poked;    /* a cookie may be anything */
	bool faults;
};
static struct ledger *ledger;

struct part {
	pthread_t thread;
	u32 index;
	pid_t tid;
	u32 go;	  /* futex: which run to take part in */
	u32 done; /* the one it has finished */
	const struct record *program;
	u32 records;

	struct kevent_change batch[BATCH];
	u16 serial[BATCH];
	u32 nr;
	struct {
		bool wanted, entry;
		u8 offset, width;
		u64 value;
	} poke;
	u32 fault; /* which allocation or copy of the next call fails */
	bool compat;
	int fail_fd;
	struct ukevent *out;
	sigjmp_buf jump;
	volatile sig_atomic_t jumping;
};
static struct part parts[THREADS];
static __thread struct part *self;
static u32 nr_parts; /* of this run */
static u64 runs;
static int log_fd = -1;
static dev_t kevent_dev;
static long idle_references;
static pid_t children[8];
static u32 nr_children;

static bool in_child;

static void describe(FILE *out, const struct record *r, u32 n);
static void save_ever(void);

static __attribute__((format(printf, 1, 2), noreturn))
void broken(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "fuzz: run %" PRIu64 ": ", runs);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (self && self->program)
		describe(stderr, self->program, self->records);
	if (ever && !in_child)
		save_ever();
	abort();
}

/* ------------------------------------------------------------------------ */
/* Tables of values */

struct value {
	const char *name;
	u64 v;
};

struct table {
	const struct value *v;
	u32 n;
};

#define V(x) { #x, (u64)(x) }
#define TABLE(name, ...)						\
static const struct value name##_values[] = { __VA_ARGS__ };		\
static const struct table name = { name##_values, ARRAY_SIZE(name##_values) }

enum {
	F_EVENTFD, F_PIPE, F_STREAM, F_DGRAM, F_SEQPACKET, F_UDP, F_TCP, F_TIMERFD,
	F_SIGNALFD, F_EPOLL, F_INOTIFY, F_PIDFD, F_PTY, F_MEMFD, F_TMPFS, F_EXT4,
	F_EXT4_DIRECT, F_DISK, F_DISK_DIRECT, F_POLLZOO, F_NULL, F_ZERO, F_PROC,
	F_DIRECTORY, F_MQUEUE, F_QUEUE, F_PATH, F_FIFO_PACKET, F_SEMAPHORE, F_FULL,
};

TABLE(files,
	{ "eventfd", F_EVENTFD }, { "pipe", F_PIPE }, { "stream", F_STREAM },
	{ "dgram", F_DGRAM }, { "seqpacket", F_SEQPACKET }, { "udp", F_UDP },
	{ "tcp", F_TCP }, { "timerfd", F_TIMERFD }, { "signalfd", F_SIGNALFD },
	{ "epoll", F_EPOLL }, { "inotify", F_INOTIFY }, { "pidfd", F_PIDFD },
	{ "pty", F_PTY }, { "memfd", F_MEMFD }, { "tmpfs", F_TMPFS },
	{ "ext4", F_EXT4 }, { "ext4_direct", F_EXT4_DIRECT }, { "disk", F_DISK },
	{ "disk_direct", F_DISK_DIRECT }, { "pollzoo", F_POLLZOO },
	{ "null", F_NULL }, { "zero", F_ZERO }, { "proc", F_PROC },
	{ "directory", F_DIRECTORY }, { "mqueue", F_MQUEUE }, { "queue", F_QUEUE },
	{ "path", F_PATH }, { "packet_pipe", F_FIFO_PACKET },
	{ "semaphore", F_SEMAPHORE }, { "full", F_FULL });

TABLE(switches, V(0), V(1));
TABLE(small, V(0), V(1), V(2), V(3), V(4), V(5), V(6), V(7), V(8), V(16), V(63), V(64),
	V(65), V(1000), V(0xffffffff));
TABLE(ring_sizes, V(2), V(4), V(8), V(1), V(16), V(64), V(1024), V(0), V(3), V(32768),
	V(65536), V(0x80000000));
TABLE(nodes, V(0), { "node_0_1", 1 }, { "node_1_1", 2 }, { "node_9", 3 },
	{ "node_max", 4 }, { "nowhere", 5 });
TABLE(masks, V(EPOLLIN), V(EPOLLOUT), V(EPOLLIN | EPOLLOUT), V(EPOLLRDHUP),
	V(EPOLLIN | EPOLLPRI), V(EPOLLERR), V(EPOLLHUP), V(EPOLLRDNORM | EPOLLWRNORM),
	V(EPOLLRDBAND | EPOLLWRBAND), V(EPOLLMSG), V(0), V(0x27df), V(EPOLLET | EPOLLIN),
	V(EPOLLEXCLUSIVE | EPOLLIN), V(0xffffffff), V(0x20), V(0x10000));
TABLE(flags, V(0), V(KEVENT_ONESHOT), V(KEVENT_LEVEL), V(KEVENT_DISABLED), V(KEVENT_LATEST),
	V(KEVENT_ABSTIME), V(KEVENT_CLOSE_FD), V(KEVENT_NOMERGE), V(KEVENT_LINK),
	V(KEVENT_CANCEL_FILE), V(KEVENT_ONESHOT | KEVENT_DISABLED),
	V(KEVENT_LEVEL | KEVENT_DISABLED), V(KEVENT_LEVEL | KEVENT_LATEST),
	V(KEVENT_ONESHOT | KEVENT_LATEST), V(KEVENT_ABSTIME | KEVENT_ONESHOT),
	V(KEVENT_ABSTIME | KEVENT_LEVEL), V(KEVENT_ONESHOT | KEVENT_LEVEL), V(0x200),
	V(0x80000000));
TABLE(ring_numbers, V(0), V(1), V(KEVENT_RING_LOCAL), V(KEVENT_RING_ANY), V(2), V(63), V(64));
TABLE(kinds, V(KEVENT_KIND_FILE), V(KEVENT_KIND_TIMER), V(KEVENT_KIND_USER),
	V(KEVENT_KIND_NOP), V(KEVENT_KIND_READ), V(KEVENT_KIND_WRITE),
	V(KEVENT_KIND_READV), V(KEVENT_KIND_WRITEV), V(KEVENT_KIND_FSYNC),
	V(KEVENT_KIND_FDATASYNC), V(0), V(4), V(23), V(0xffff));
TABLE(requests, V(KEVENT_KIND_NOP), V(KEVENT_KIND_READ), V(KEVENT_KIND_WRITE),
	V(KEVENT_KIND_READV), V(KEVENT_KIND_WRITEV), V(KEVENT_KIND_FSYNC),
	V(KEVENT_KIND_FDATASYNC));
TABLE(controls, V(KEVENT_OP_REMOVE), V(KEVENT_OP_ENABLE), V(KEVENT_OP_DISABLE),
	V(KEVENT_OP_TRIGGER), V(KEVENT_OP_ACK), V(KEVENT_OP_CANCEL), V(0), V(10),
	V(0xffff));
TABLE(clocks, V(CLOCK_MONOTONIC), V(CLOCK_REALTIME), V(CLOCK_BOOTTIME),
	V(CLOCK_PROCESS_CPUTIME_ID), V(CLOCK_TAI), V(-1));
TABLE(times, V(0), V(1), V(1000), V(100000), V(MS), V(3 * MS), V(10 * MS), V(1000 * MS),
	V(3600000 * MS), V(INT64_MAX), V(INT64_MAX - 1), V(1ULL << 63), V(-1),
	{ "now", 1ULL << 62 }, { "soon", (1ULL << 62) + 1 });
TABLE(timeouts, V(0), V(1), V(10000), V(100000), V(MS), V(4 * MS), V(-1), V(INT64_MAX),
	V(-2), V(INT64_MIN), { "now", 1ULL << 62 }, { "soon", (1ULL << 62) + 1 });
TABLE(counts, V(1), V(0), V(2), V(3), V(4), V(8), V(16), V(64), V(128), V(1024), V(65536),
	V(65537), V(INT32_MAX), V(0x80000000), V(0xffffffff));
TABLE(get_flags, V(0), V(KEVENT_GET_MAPPED), V(KEVENT_GET_ABSTIME),
	V(KEVENT_GET_MAPPED | KEVENT_GET_ABSTIME), V(4), V(0x80000000));
TABLE(lengths, V(1), V(0), V(7), V(8), V(64), V(511), V(512), V(1024), V(1025), V(4096),
	V(4097), V(8192), V(16384), V(65536), V(1 << 20), V(INT32_MAX), V(0x80000000),
	V(0xffffffff));
TABLE(offsets, V(0), V(1), V(512), V(4096), V(65535), V(65536), V(1 << 20), V(1ULL << 40),
	V(INT64_MAX), V(INT64_MAX - 4095), V(1ULL << 63), V(-1));
TABLE(rw_flags, V(0), V(RWF_DSYNC), V(RWF_SYNC), V(RWF_APPEND), V(RWF_HIPRI), V(RWF_NOWAIT),
	V(0x80000000));
TABLE(numbers, V(0), V(1), V(2), V(3), V(KEVENT_MAX_BUFFERS), V(KEVENT_MAX_BUFFERS + 1),
	V(0xffffffff));
TABLE(addresses,
	{ "io", IO_AT }, { "io_1", IO_AT + 1 }, { "io_512", IO_AT + 512 },
	{ "io_4096", IO_AT + 4096 }, { "io_4095", IO_AT + 4095 },
	{ "io_end", IO_AT + IO_BYTES - 100 },
	{ "io_last", IO_AT + IO_BYTES - 4096 },
	{ "rings", MAP_AT }, { "claims", MAP_AT + MAP_BYTES / 2 },
	{ "map", MAP_AT + MAPS * MAP_BYTES }, { "map_1", MAP_AT + (MAPS + 1) * MAP_BYTES },
	{ "nowhere", NOWHERE_AT }, V(0), { "text", 1 },
	{ "kernel", 0xffff888000000000 }, { "noncanonical", 1ULL << 63 }, V(-1));
TABLE(outs, { "room", 0 }, { "end", 1 }, { "unaligned", 2 }, { "nowhere", 3 },
	{ "rings", 4 }, { "kernel", 5 });
TABLE(signals, { "none", 0 }, { "some", 1 }, { "short", 2 }, { "nowhere", 3 }, { "size_alone", 4 });
TABLE(map_offsets, V(KEVENT_MMAP_RINGS), V(KEVENT_MMAP_CLAIMS), { "rings_1", 1 },
	{ "claims_1", 2 }, { "between", 0x20000000 }, { "beyond", 0x7ffff000 });
TABLE(map_lengths, V(4096), V(8192), V(12288), V(65536), V(1 << 20), V(0));
TABLE(protections, V(PROT_READ), V(PROT_READ | PROT_WRITE), V(PROT_NONE),
	V(PROT_READ | PROT_EXEC), V(PROT_WRITE));
TABLE(map_flags, V(MAP_SHARED), V(MAP_PRIVATE), V(MAP_SHARED | MAP_POPULATE),
	V(MAP_SHARED | MAP_LOCKED), V(MAP_PRIVATE | MAP_ANONYMOUS),
	V(MAP_SHARED | MAP_ANONYMOUS));
TABLE(advices, V(MADV_DOFORK), V(MADV_DONTNEED), V(MADV_DONTFORK), V(MADV_WILLNEED),
	V(MADV_REMOVE), V(MADV_PAGEOUT), V(MADV_DODUMP), V(MADV_POPULATE_READ));
TABLE(heads, V(0), V(1), V(-1), V(1ULL << 32), V(1ULL << 63), { "tail", 1ULL << 62 },
	{ "tail_1", (1ULL << 62) + 1 }, { "tail_less", (1ULL << 62) - 1 },
	{ "random", 1ULL << 61 });
TABLE(limits, V(RLIMIT_FSIZE), V(RLIMIT_MEMLOCK), V(RLIMIT_NOFILE));
TABLE(ends, { "waits", 0 }, { "killed", 1 }, { "nobody", 2 });
TABLE(structs, { "entry", 0 }, { "argument", 1 });
TABLE(widths, V(4), V(8), V(2), V(1));
TABLE(pokes, V(0), V(1), V(2), V(8), V(16), V(40), V(56), V(64), V(255), V(0x7fff),
	V(0xffff), V(0x10000), V(0x7fffffff), V(0x80000000), V(0xffffffff),
	V(1ULL << 32), V(INT64_MAX), V(-1), { "nowhere", NOWHERE_AT }, { "io", IO_AT });
TABLE(contexts, V(POLLZOO_TASK), V(POLLZOO_ATOMIC), V(POLLZOO_SOFTIRQ), V(POLLZOO_HARDIRQ),
	V(POLLZOO_IRQ_WORK));
TABLE(zoo_flags, V(0), V(POLLZOO_TWICE), V(POLLZOO_ROTATE), V(POLLZOO_NAP),
	V(POLLZOO_TWICE | POLLZOO_ROTATE));
TABLE(wake_flags, V(POLLZOO_SET_MASK), V(0), V(POLLZOO_NO_KEY),
	V(POLLZOO_SET_MASK | POLLZOO_NO_KEY));
TABLE(epoll_ops, V(EPOLL_CTL_ADD), V(EPOLL_CTL_DEL), V(EPOLL_CTL_MOD));
TABLE(pauses, { "yield", 0 }, V(10000), V(100000), V(MS), V(3 * MS));
TABLE(shut, V(SHUT_RD), V(SHUT_WR), V(SHUT_RDWR));

static u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Times that depend on the clock. */
static u64 time_of(u64 v)
{
	if (v == 1ULL << 62)
		return now();
	if (v == (1ULL << 62) + 1)
		return now() + MS;
	return v;
}

static int fd_of(u8 a)
{
	static const int others[] = { -1, 999, INT32_MAX, AT_FDCWD };

	/* A program means slots; a few numbers mean nothing at all. */
	return a < 252 ? FD_BASE + a % FDS : others[a - 252];
}

static u64 id_of(u8 a)
{
	u64 id = __atomic_load_n(&ledger->ids[a % IDS], __ATOMIC_RELAXED);

	switch (a / IDS) {
	case 6: return id + (1 << 24);	/* another generation */
	case 7: return a & 1 ? ~id : (u64)1 << 63 | id;
	}
	return id;
}

static char *map_of(u8 a)
{
	return (char *)MAP_AT + a % (2 * MAPS) * MAP_BYTES;
}

/* ------------------------------------------------------------------------ */
/* What the kernel may answer */

static const int add_errors[] = { EINVAL, EBADF, EPERM, ELOOP, ENOSPC, ENOMEM, 0 };
static const int modify_errors[] = { EINVAL, ENOENT, 0 };
static const int remove_errors[] = { EINVAL, ENOENT, EBADF, 0 };
static const int trigger_errors[] = { EINVAL, ENOENT, EOPNOTSUPP, EAGAIN, EOVERFLOW, 0 };
static const int ack_errors[] = { EINVAL, ENOENT, EOPNOTSUPP, 0 };
static const int submit_errors[] = { EINVAL, EAGAIN, ENOMEM, EBADF, EFAULT, EFBIG, EISDIR,
	ESPIPE, EOPNOTSUPP, ECANCELED, 0 };
static const int cancel_errors[] = { EINVAL, EALREADY, ENOENT, EBADF, 0 };
static const int other_errors[] = { EINVAL, 0 };

static const int *const entry_errors[] = {
	[KEVENT_OP_ADD] = add_errors, [KEVENT_OP_MODIFY] = modify_errors,
	[KEVENT_OP_REMOVE] = remove_errors, [KEVENT_OP_ENABLE] = modify_errors,
	[KEVENT_OP_DISABLE] = modify_errors, [KEVENT_OP_TRIGGER] = trigger_errors,
	[KEVENT_OP_ACK] = ack_errors, [KEVENT_OP_SUBMIT] = submit_errors,
	[KEVENT_OP_CANCEL] = cancel_errors,
};

static const int setup_errors[] = { EBUSY, EINVAL, ENODEV, ENOMEM, EFAULT, E2BIG, 0 };
static const int info_errors[] = { EBADFD, EINVAL, EFAULT, E2BIG, 0 };
static const int change_errors[] = { EBADFD, EINVAL, EFAULT, EINTR, E2BIG, 0 };
static const int trigger_call_errors[] = { EBADFD, EINVAL, EFAULT, ENOENT, EOPNOTSUPP,
	EAGAIN, EOVERFLOW, E2BIG, 0 };
static const int buffer_errors[] = { EBADFD, EINVAL, EFAULT, EINTR, ENOMEM, E2BIG, 0 };

static bool listed(const int *list, int error)
{
	while (*list && *list != error)
		list++;
	return *list;
}

static bool is_queue(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == kevent_dev;
}

/* Another thread may have closed it meanwhile. */
static void check_errno(int fd, const char *what, const int *list)
{
	int error = errno;

	if (listed(list, error) || error == EBADF || error == ENOTTY)
		return;
	if (nr_parts == 1 && is_queue(fd))
		broken("%s: %s", what, strerror(error));
	errno = error;
}

static void check_entry(const struct kevent_change *c, const struct kevent_change *was)
{
	const int *errors = other_errors;

	if (c->op != was->op || c->kind != was->kind || c->cookie != was->cookie ||
	    c->flags != was->flags || c->ring != was->ring || c->fd != was->fd ||
	    c->len != was->len || c->value != was->value || c->offset != was->offset ||
	    c->rw_flags != was->rw_flags || c->buffer != was->buffer)
		broken("an entry was changed, op %u", was->op);
	if (c->op < ARRAY_SIZE(entry_errors) && entry_errors[c->op])
		errors = entry_errors[c->op];
	if (c->result < 0 && !listed(errors, -c->result))
		broken("op %u kind %u: %s", c->op, c->kind, strerror(-c->result));
	if (c->result > 0 && c->op != KEVENT_OP_CANCEL &&
	    (c->op != KEVENT_OP_REMOVE || c->result != KEVENT_UNCLAIMED))
		broken("op %u: result %d", c->op, c->result);
	if (c->op != KEVENT_OP_ADD && c->op != KEVENT_OP_SUBMIT && c->id != was->id)
		broken("op %u: the id was changed", c->op);
}

#define COOKIE 0xc00cULL

static u64 cookie_of(u32 serial)
{
	return COOKIE << 48 | (ledger->run & 0xffffffff) << 16 | serial;
}

static void check_event(const struct ukevent *e)
{
	bool request = e->kind >= KEVENT_KIND_NOP;
	u32 ways = KEVENT_EV_INLINE | KEVENT_EV_DIRECT | KEVENT_EV_WORKER | KEVENT_EV_WAITED;
	u32 serial = e->cookie & 0xffff;

	if (!e->kind || (e->kind > KEVENT_KIND_USER && !request) ||
	    e->kind > KEVENT_KIND_FDATASYNC || !e->id)
		broken("an event of kind %u, id %" PRIx64, e->kind, (u64)e->id);
	if (e->flags & ~(request ? ways : KEVENT_EV_LEVEL | KEVENT_EV_CLOSED | KEVENT_EV_DISABLED))
		broken("an event of kind %u with flags %x", e->kind, e->flags);
	if (e->kind == KEVENT_KIND_FILE ? e->result || !e->events : e->events)
		broken("an event of kind %u, flags %x: bits %x, result %" PRIi64, e->kind,
		       e->flags, e->events, (int64_t)e->result);
	if (e->kind == KEVENT_KIND_TIMER && e->result < 1)
		broken("a timer's event says %" PRIi64, (int64_t)e->result);
	if (e->kind == KEVENT_KIND_USER && e->result < 0)
		broken("a user event says %" PRIi64, (int64_t)e->result);
	if (!request)
		return;
	/* Behind EHWPOISON are those that the kernel keeps to itself. */
	if (e->kind != KEVENT_KIND_NOP && e->result < -EHWPOISON)
		broken("a request's result is %" PRIi64, (int64_t)e->result);
	if (e->cookie != cookie_of(serial) || serial >= SERIALS) {
		if (!ledger->poked)
			broken("an event with the cookie %" PRIx64, (u64)e->cookie);
		return;
	}
	__atomic_add_fetch(&ledger->count[serial], 1, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------------ */
/* Calls */

static void set_fault(u32 n)
{
	char text[16];

	if (self->fail_fd >= 0)
		(void)!pwrite(self->fail_fd, text, snprintf(text, sizeof(text), "%u", n), 0);
}

/* An ioctl, with what the records before it asked for. */
static int call(int fd, unsigned int command, void *arg, size_t size)
{
	int ret;

	if (self->poke.wanted && !self->poke.entry) {
		u32 at = self->poke.offset % size;

		memcpy((char *)arg + at, &self->poke.value,
		       self->poke.width < size - at ? self->poke.width : size - at);
		self->poke.wanted = false;
		ledger->poked = true;
	}
	if (self->fault) {
		ledger->faults = true;
		set_fault(self->fault);
	}
	if (self->compat) {
		__asm__ volatile("int $0x80" : "=a"(ret)
			: "a"(54), "b"(fd), "c"(command), "d"(arg)
			: "r8", "r9", "r10", "r11", "memory");
		if (ret < 0) {
			errno = -ret;
			ret = -1;
		}
	} else {
		ret = ioctl(fd, command, arg);
	}
	if (self->fault) {
		int error = errno;

		set_fault(0);
		errno = error;
	}
	self->fault = 0;
	self->compat = false;
	return ret;
}

/* Room for arguments that 32-bit calls reach as well, in front of the events. */
static void *low(size_t at)
{
	return (char *)OUT_AT + self->index * 0x100000 + at;
}

#define ARG_AT 0
#define CHANGES_AT 1024
#define EVENTS_AT (65536 - ROOM * sizeof(struct ukevent))
#define POISON 0xa5

static struct kevent_change *put_changes(void)
{
	struct kevent_change *c = low(CHANGES_AT);

	memcpy(c, self->batch, self->nr * sizeof(*c));
	return c;
}

/* What became of the batch: @done entries have results. */
static void take_changes(const struct kevent_change *c, u32 done)
{
	u32 i;

	if (done > self->nr) {
		if (!ledger->poked)
			broken("%u of %u entries done", done, self->nr);
		done = 0;
	}
	for (i = 0; i < self->nr; i++) {
		const struct kevent_change *was = &self->batch[i];
		u32 serial = self->serial[i];

		if (i < done) {
			check_entry(&c[i], was);
			if (c[i].op == KEVENT_OP_ADD && !c[i].result)
				ledger->ids[was->cookie % IDS] = c[i].id;
			if (c[i].op == KEVENT_OP_SUBMIT && !c[i].result) {
				ledger->ids[serial % IDS] = c[i].id;
				ledger->requests[serial % (2 * IDS)] = c[i].id;
			}
		}
		if (was->op == KEVENT_OP_SUBMIT && serial < SERIALS)
			ledger->state[serial] = i >= done ? UNSURE : c[i].result ? NONE : SURE;
	}
	self->nr = 0;
}

static void flush(int fd)
{
	struct kevent_changes *arg = low(ARG_AT);
	struct kevent_change *c = put_changes();
	bool poked = self->poke.wanted && !self->poke.entry;
	int ret;

	*arg = (struct kevent_changes){
		.size = sizeof(*arg), .changes = (uintptr_t)c, .nr = self->nr,
	};
	ret = call(fd, KEVENT_IOC_CHANGE, arg, sizeof(*arg));
	if (ret < 0)
		check_errno(fd, "CHANGE", change_errors);
	else if (ret != (int)arg->done && !poked)
		broken("CHANGE: %d, done %u", ret, arg->done);
	if (poked && ret > 0 && (uintptr_t)arg->changes != (uintptr_t)c)
		ret = 0;
	take_changes(c, ret < 0 ? 0 : ret);
}

/* An entry is sent alone, or waits for others. */
static void entry(const struct record *r, int fd, struct kevent_change c)
{
	u32 serial = SERIALS;

	if (self->poke.wanted && self->poke.entry) {
		u32 at = self->poke.offset % sizeof(c);

		memcpy((char *)&c + at, &self->poke.value,
		       self->poke.width < sizeof(c) - at ? self->poke.width : sizeof(c) - at);
		self->poke.wanted = false;
		ledger->poked = true;
	} else if (c.op == KEVENT_OP_SUBMIT) {
		serial = __atomic_fetch_add(&ledger->serials, 1, __ATOMIC_RELAXED) % SERIALS;
		c.cookie = cookie_of(serial);
	}
	self->serial[self->nr] = serial;
	self->batch[self->nr++] = c;
	if (!(r->thread & FLAG_MORE) || self->nr == BATCH)
		flush(fd);
}

#define OP(name) static void op_##name(const struct record *r, const u64 *v)
#define FD(i) fd_of(r->a[i])

/* ------------------------------------------------------------------------ */
/* Operations: files */

/* Whatever had the number is closed. */
static void install(u8 slot, int fd)
{
	int to = FD_BASE + slot % FDS;

	if (fd < 0)
		return;
	if (__atomic_exchange_n(&ledger->used[slot % FDS], true, __ATOMIC_RELAXED))
		ledger->lost = true;
	dup3(fd, to, O_CLOEXEC);
	close(fd);
}

static void install_pair(u8 slot, const int *pair)
{
	install(slot, pair[0]);
	install(slot + 1, pair[1]);
}

static int udp_socket(int type)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(in);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	/* A UDP socket that talks to itself, or a listener. */
	if (bind(fd, (void *)&in, size) || getsockname(fd, (void *)&in, &size) ||
	    (type & SOCK_STREAM ? listen(fd, 4) : connect(fd, (void *)&in, size))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void open_tcp(u8 slot)
{
	struct sockaddr_in in;
	socklen_t size = sizeof(in);
	int listener = udp_socket(SOCK_STREAM), fd;

	install(slot, listener);
	if (getsockname(FD_BASE + slot % FDS, (void *)&in, &size))
		return;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	connect(fd, (void *)&in, size);
	install(slot + 1, fd);
}

static int open_mqueue(void)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
	int fd = mq_open("/kevent-fuzz", O_RDWR | O_CREAT | O_NONBLOCK, 0600, &attr);

	mq_unlink("/kevent-fuzz");
	return fd;
}

static int open_signalfd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Those of a path; of the first two a write may move the end. */
static const struct {
	const char *path;
	int flags;
} paths[] = {
	[F_TMPFS] = { DIRECTORY "tmpfs", O_RDWR },
	[F_EXT4] = { DIRECTORY "ext4/file", O_RDWR },
	[F_EXT4_DIRECT] = { DIRECTORY "ext4/file", O_RDWR | O_DIRECT },
	[F_DISK] = { DIRECTORY "disk", O_RDWR },
	[F_DISK_DIRECT] = { DIRECTORY "disk", O_RDWR | O_DIRECT },
	[F_POLLZOO] = { POLLZOO_DEVICE, O_RDWR },
	[F_NULL] = { "/dev/null", O_RDWR },
	[F_ZERO] = { "/dev/zero", O_RDWR },
	[F_FULL] = { "/dev/full", O_RDWR },
	[F_PROC] = { "/proc/self/mounts", O_RDONLY },
	[F_DIRECTORY] = { "/", O_RDONLY | O_DIRECTORY },
	[F_QUEUE] = { KEVENT_DEVICE, O_RDWR },
	[F_PATH] = { DIRECTORY "tmpfs", O_PATH },
};

static int open_path(u32 file, int nonblock)
{
	int fd, flags = paths[file].flags;

	/* A queue that cannot be mapped. */
	if (file == F_QUEUE && nonblock)
		flags = O_RDONLY;
	fd = open(paths[file].path, flags | O_CLOEXEC);
	if (file == F_TMPFS || file == F_EXT4 || file == F_EXT4_DIRECT)
		(void)!ftruncate(fd, IO_BYTES);
	return fd;
}

static int open_inotify(int nonblock)
{
	int fd = inotify_init1(IN_CLOEXEC | nonblock);

	inotify_add_watch(fd, DIRECTORY "tmpfs", IN_ALL_EVENTS);
	return fd;
}

static int open_memfd(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	(void)!ftruncate(fd, 8192);
	return fd;
}

/* One descriptor, or -1 for the kinds that are two. */
static int open_one(u32 file, int nonblock)
{
	if (file < ARRAY_SIZE(paths) && paths[file].path)
		return open_path(file, nonblock);
	switch (file) {
	case F_EVENTFD: return eventfd(0, EFD_CLOEXEC | nonblock);
	case F_SEMAPHORE: return eventfd(3, EFD_CLOEXEC | EFD_SEMAPHORE | nonblock);
	case F_UDP: return udp_socket(SOCK_DGRAM | nonblock);
	case F_TIMERFD: return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | nonblock);
	case F_SIGNALFD: return open_signalfd();
	case F_EPOLL: return epoll_create1(EPOLL_CLOEXEC);
	case F_INOTIFY: return open_inotify(nonblock);
	case F_PIDFD: return syscall(SYS_pidfd_open, getpid(), 0);
	case F_MEMFD: return open_memfd();
	case F_MQUEUE: return open_mqueue();
	}
	return -1;
}

static int open_two(u32 file, int nonblock, int *pair)
{
	switch (file) {
	case F_PIPE: return pipe2(pair, O_CLOEXEC | nonblock);
	case F_FIFO_PACKET: return pipe2(pair, O_CLOEXEC | O_DIRECT | nonblock);
	case F_STREAM: return socketpair(AF_UNIX, SOCK_STREAM | nonblock, 0, pair);
	case F_DGRAM: return socketpair(AF_UNIX, SOCK_DGRAM | nonblock, 0, pair);
	case F_SEQPACKET: return socketpair(AF_UNIX, SOCK_SEQPACKET | nonblock, 0, pair);
	case F_PTY: return openpty(&pair[0], &pair[1], NULL, NULL, NULL);
	}
	return -1;
}

OP(open)
{
	int pair[2], nonblock = v[2] ? O_NONBLOCK : 0;

	if (v[1] == F_TCP)
		open_tcp(r->a[0]);
	else if (!open_two(v[1], nonblock, pair))
		install_pair(r->a[0], pair);
	else
		install(r->a[0], open_one(v[1], nonblock));
}

OP(close)
{
	if (is_queue(FD(0)))
		ledger->lost = true;
	close(FD(0));
}

OP(dup)
{
	int fd = fcntl(FD(0), F_DUPFD_CLOEXEC, 3);

	install(r->a[1], fd);
}

/* Data that differs, so that copies can be told apart. */
OP(write) { (void)!write(FD(0), (char *)IO_AT, v[1] > IO_BYTES ? IO_BYTES : v[1]); }

OP(read)
{
	static __thread char buffer[8192];

	(void)!read(FD(0), buffer, v[1] > sizeof(buffer) ? sizeof(buffer) : v[1]);
}

OP(nonblock) { fcntl(FD(0), F_SETFL, v[1] ? O_NONBLOCK : 0); }
OP(shutdown) { shutdown(FD(0), v[1]); }
OP(accept) { install(r->a[1], accept4(FD(0), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); }
OP(truncate) { (void)!ftruncate(FD(0), v[1] > 1 << 20 ? 1 << 20 : v[1]); }
static bool signalled;

OP(signal)
{
	signalled = true;
	kill(getpid(), SIGRTMIN);
}

OP(settime)
{
	struct itimerspec t = {
		.it_value.tv_nsec = v[1] % 1000000000, .it_interval.tv_nsec = v[2] % 1000000000,
	};

	/* Not faster than the machine. */
	if (t.it_interval.tv_nsec && t.it_interval.tv_nsec < 100000)
		t.it_interval.tv_nsec = 100000;
	timerfd_settime(FD(0), 0, &t, NULL);
}

OP(epoll)
{
	struct epoll_event e = { .events = v[3], .data.u64 = 1 };

	epoll_ctl(FD(0), v[2], FD(1), &e);
}

OP(epoll_wait)
{
	struct epoll_event e[8];

	epoll_wait(FD(0), e, 8, v[1] ? 1 : 0);
}

OP(zoo)
{
	struct pollzoo_program p = { .queues = v[1], .flags = v[2], .mask = v[3] };

	ioctl(FD(0), POLLZOO_IOC_PROGRAM, &p);
}

OP(wake)
{
	struct pollzoo_wake w = {
		.queue = v[1], .context = v[2], .key = v[3], .mask = v[3], .flags = v[4],
		.count = 1 + v[5] % 4,
	};

	ioctl(FD(0), POLLZOO_IOC_WAKE, &w);
}

OP(zoo_free) { ioctl(FD(0), POLLZOO_IOC_FREE); }

/* Not of sockets: one that holds itself is freed by nobody, as the header says. */
OP(pass)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (char *)IO_AT, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	struct stat st;
	int fd = FD(1);

	if (fstat(fd, &st) || S_ISSOCK(st.st_mode))
		return;
	ledger->lost = true;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	sendmsg(FD(0), &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

OP(take)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int fd;

	if (recvmsg(FD(0), &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return;
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	install(r->a[1], fd);
}

/* ------------------------------------------------------------------------ */
/* Operations: queues */

static int setup(int fd, u64 rings, u64 entries, u64 nodes)
{
	static const u32 lists[][KEVENT_MAX_RINGS] = {
		{ 0 }, { 0, 1, 0, 1 }, { 1, 1, 1, 1 }, { 9 }, { 0xffffffff },
	};
	struct kevent_setup *arg = low(ARG_AT);
	u32 *list = low(CHANGES_AT);
	bool poked = self->poke.wanted;
	int ret;

	*arg = (struct kevent_setup){
		.size = sizeof(*arg), .nr_rings = rings, .entries = entries,
		.nodes = nodes == 5 ? NOWHERE_AT : nodes ? (uintptr_t)list : 0,
	};
	if (nodes && nodes < ARRAY_SIZE(lists))
		memcpy(list, lists[nodes], sizeof(lists[nodes]));
	ret = call(fd, KEVENT_IOC_SETUP, arg, sizeof(*arg));
	if (ret < 0)
		check_errno(fd, "SETUP", setup_errors);
	else if (ret || !arg->nr_rings || !arg->ring_bytes || !arg->claim_bytes || !arg->entries)
		broken("SETUP: %d", ret);
	else if (!poked && ((rings && arg->nr_rings != rings) ||
			    (entries && arg->entries != entries)))
		broken("SETUP made %u rings of %u", arg->nr_rings, arg->entries);
	return ret;
}

OP(setup) { setup(FD(0), v[1], v[2], v[3]); }

OP(info)
{
	struct kevent_setup *arg = low(ARG_AT);

	*arg = (struct kevent_setup){ .size = sizeof(*arg) };
	if (call(FD(0), KEVENT_IOC_INFO, arg, sizeof(*arg)) < 0)
		check_errno(FD(0), "INFO", info_errors);
}

/* Opens, sets up, and maps what fits. */
OP(queue)
{
	struct kevent_setup *arg = low(ARG_AT);
	u8 slot = r->a[0] % FDS;
	char *map = map_of(slot % MAPS);
	int fd = FD_BASE + slot;

	install(slot, open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC));
	if (setup(fd, v[1], v[2], v[3]))
		return;
	if ((u64)arg->nr_rings * arg->ring_bytes > MAP_BYTES / 2)
		return;
	mmap(map, arg->nr_rings * arg->ring_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
	     KEVENT_MMAP_RINGS);
	mmap(map + MAP_BYTES / 2, arg->nr_rings * arg->claim_bytes, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_FIXED, fd, KEVENT_MMAP_CLAIMS);
}

OP(command)
{
	u32 number = _IOC_NR(KEVENT_IOC_TRIGGER) + 1 + r->a[1] % 249;
	int ret = ioctl(FD(0), _IO(KEVENT_IOC_MAGIC, number), low(ARG_AT));

	if ((ret >= 0 || errno != ENOTTY) && nr_parts == 1 && is_queue(FD(0)))
		broken("ioctl %u: %d %m", number, ret);
}

OP(add_file)
{
	entry(r, FD(0), (struct kevent_change){
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .fd = FD(1), .events = v[2],
		.flags = v[3], .ring = v[4], .cookie = r->a[5] % IDS,
	});
}

OP(add_timer)
{
	entry(r, FD(0), (struct kevent_change){
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_TIMER, .fd = v[1], .flags = v[2],
		.ring = v[3], .value = time_of(v[4]), .period = v[5], .cookie = r->a[6] % IDS,
	});
}

OP(add_user)
{
	entry(r, FD(0), (struct kevent_change){
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_USER, .flags = v[1], .ring = v[2],
		.cookie = r->a[3] % IDS,
	});
}

OP(modify)
{
	bool timer = v[2] == KEVENT_KIND_TIMER;

	entry(r, FD(0), (struct kevent_change){
		.op = KEVENT_OP_MODIFY, .kind = v[2], .id = id_of(r->a[1]), .flags = v[3],
		.events = v[2] == KEVENT_KIND_FILE ? v[4] : 0,
		.value = timer ? time_of(v[5]) : 0, .period = timer ? v[6] : 0,
		.cookie = r->a[1] % IDS,
	});
}

OP(control)
{
	bool file = v[3] & (KEVENT_CLOSE_FD | KEVENT_CANCEL_FILE);

	if (v[3] & KEVENT_CLOSE_FD)
		ledger->lost = true;
	entry(r, FD(0), (struct kevent_change){
		.op = v[1], .id = v[3] & KEVENT_CANCEL_FILE ? 0 : id_of(r->a[2]), .flags = v[3],
		.value = v[1] == KEVENT_OP_TRIGGER ? v[4] : 0, .fd = file ? FD(5) : 0,
	});
}

/* Vectors of few pieces, for programs of 64 and of 32 bits. */
static u64 make_vectors(u64 addr, u64 len, u32 *nr)
{
	struct iovec *iov = low(CHANGES_AT + (BATCH + 2) * sizeof(struct kevent_change) +
				self->nr * 8 * sizeof(*iov));
	u32 i, n = 1 + (addr >> 9) % 8;

	for (i = 0; i < n; i++)
		iov[i] = (struct iovec){ (void *)(addr + i * 64), len / n };
	*nr = n;
	/* In a call of 32 bits each is two: an address and 0, a length and 0. */
	return (uintptr_t)iov;
}

OP(submit)
{
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT, .kind = v[1], .flags = v[3], .ring = v[4],
	};
	u32 nr;

	switch (v[1]) {
	case KEVENT_KIND_NOP:
		c.value = r->a[6];
		break;
	case KEVENT_KIND_FSYNC:
	case KEVENT_KIND_FDATASYNC:
		c.fd = FD(2);
		break;
	case KEVENT_KIND_READV:
	case KEVENT_KIND_WRITEV:
		c.fd = FD(2);
		c.addr = v[5];
		c.len = v[6];
		if (v[5] >= IO_AT && v[5] < IO_AT + IO_BYTES) {
			c.addr = make_vectors(v[5], v[6], &nr);
			c.len = nr;
		}
		c.offset = v[7];
		c.rw_flags = v[8];
		break;
	default:
		c.fd = FD(2);
		c.addr = v[5] == 1 ? (uintptr_t)&op_submit : v[5];
		c.len = v[6];
		c.offset = v[7];
		c.rw_flags = v[8];
		c.buffer = v[9];
	}
	entry(r, FD(0), c);
}

OP(buffers)
{
	struct kevent_buffers *arg = low(ARG_AT);
	struct kevent_buffer *b = low(CHANGES_AT);
	bool poked = self->poke.wanted && !self->poke.entry;
	u32 i, nr = v[2] > 64 ? 64 : v[2];
	int ret;

	for (i = 0; i < nr; i++)
		b[i] = (struct kevent_buffer){ v[3] + i * 64, v[4] };
	*arg = (struct kevent_buffers){
		.size = sizeof(*arg), .buffers = (uintptr_t)b, .first = v[1], .nr = v[2],
	};
	ret = call(FD(0), KEVENT_IOC_BUFFERS, arg, sizeof(*arg));
	if (ret < 0)
		check_errno(FD(0), "BUFFERS", buffer_errors);
	else if (!poked && (ret > (int)v[2] || ret != (int)arg->done))
		broken("BUFFERS: %d of %u, done %u", ret, (u32)v[2], arg->done);
}

OP(trigger)
{
	struct kevent_trigger *arg = low(ARG_AT);

	*arg = (struct kevent_trigger){
		.size = sizeof(*arg), .id = id_of(r->a[1]), .flags = v[2], .value = v[3],
	};
	if (call(FD(0), KEVENT_IOC_TRIGGER, arg, sizeof(*arg)) < 0)
		check_errno(FD(0), "TRIGGER", trigger_call_errors);
}

static void *out_address(u64 which)
{
	switch (which) {
	case 1: return self->out + ROOM - 2;
	case 2: return (char *)self->out + 4;
	case 3: return (void *)NOWHERE_AT;
	case 4: return (void *)MAP_AT;
	case 5: return (void *)0xffff888000000000;
	}
	return self->out;
}

static int get_events(int fd, struct kevent_get *arg, u32 max, bool poked)
{
	struct ukevent *to = (void *)(uintptr_t)arg->events;
	u32 i, room = self->out + ROOM - to;
	bool ours = to >= self->out && to < self->out + ROOM;
	const u8 *p;
	int ret;

	memset(self->out, POISON, ROOM * sizeof(*self->out));
	if (self->fault)
		ledger->lost = true;
	ret = call(fd, KEVENT_IOC_GETEVENTS, arg, sizeof(*arg));
	if (ret < 0)
		check_errno(fd, "GETEVENTS", change_errors);
	if (!ours || poked) {
		ledger->lost = true;
		return ret;
	}
	/* Stored events belong to us even if the call failed, but not with EFAULT. */
	if (ret >= 0 && (ret != (int)arg->nr || arg->nr > max || arg->nr > room))
		broken("GETEVENTS: %d, nr %u, max %u, room %u", ret, arg->nr, max, room);
	for (i = 0; ret > 0 && i < arg->nr; i++)
		check_event(&to[i]);
	if (max < room)
		for (p = (u8 *)(to + max); p < (u8 *)(self->out + ROOM); p++)
			if (*p != POISON)
				broken("written past %u events", max);
	return ret;
}

OP(get)
{
	struct kevent_get *arg = low(ARG_AT);
	struct kevent_change *c = put_changes();
	bool poked = self->poke.wanted && !self->poke.entry;
	u64 *mask = low(512);

	*mask = 1ULL << (SIGTERM - 1);
	*arg = (struct kevent_get){
		.size = sizeof(*arg), .flags = v[1], .ring = v[2], .min = v[3], .max = v[4],
		.events = (uintptr_t)out_address(v[7]), .timeout = time_of(v[5]),
		.min_wait = v[6], .nr_changes = self->nr,
		.changes = self->nr ? (uintptr_t)c : 0,
	};
	if (v[8] == 3)
		arg->sigmask = NOWHERE_AT;
	else if (v[8] == 1 || v[8] == 2)
		arg->sigmask = (uintptr_t)mask;
	if (v[8])
		arg->sigsetsize = v[8] == 2 ? 4 : 8;
	get_events(FD(0), arg, v[4], poked);
	if (self->nr)
		take_changes(c, arg->changes_done);
}

OP(poll)
{
	struct pollfd p = { .fd = FD(0), .events = v[1] };

	poll(&p, 1, v[2] ? 1 : 0);
}

OP(fdinfo)
{
	char path[64], text[4096];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", FD(0));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!read(fd, text, sizeof(text));
	close(fd);
}

OP(flush) { flush(FD(0)); }

/* ------------------------------------------------------------------------ */
/* Operations: memory */

/* Touching a mapping may fault; then the operation ends. */
#define GUARDED(...)						\
	do {							\
		if (!sigsetjmp(self->jump, 0)) {		\
			self->jumping = 1;			\
			__VA_ARGS__;				\
		}						\
		self->jumping = 0;				\
	} while (0)

static void collect(const char *map, u32 index, u32 max)
{
	const struct kevent_ring *first = (const void *)map;
	u32 entries = first->entries, i, n;
	size_t bytes = first->slots_offset + entries * sizeof(struct ukevent);
	struct kevent_map m = {
		.rings = map, .claims = (char *)map + MAP_BYTES / 2,
		.setup = { .nr_rings = first->nr_rings, .claim_bytes = 4096 },
	};

	m.setup.ring_bytes = (bytes + 4095) & ~4095UL;
	if (first->magic != KEVENT_MAGIC || index >= first->nr_rings ||
	    kevent_ring_at(&m, index)->entries != entries)
		return;
	n = kevent_ring_collect(&m, index, self->out, max < ROOM ? max : ROOM);
	for (i = 0; i < n && !ledger->forged; i++)
		check_event(&self->out[i]);
}

OP(collect) { GUARDED(collect(map_of(r->a[0] % MAPS), v[1], v[2])); }

static void scribble(char *map, u32 index, u64 value, u32 count)
{
	const struct kevent_ring *ring = (const void *)map;
	volatile u64 *word = (u64 *)(map + MAP_BYTES / 2 + index * 4096);
	u64 random = value + runs;

	while (count--) {
		if (value >> 60 == 4 || value >> 60 == 3)
			*word = ring->tail + (int64_t)(value - (1ULL << 62));
		else if (value == 1ULL << 61)
			*word = random = random * 6364136223846793005 + 1442695040888963407;
		else
			*word = value;
	}
}

OP(scribble)
{
	ledger->forged = true;
	GUARDED(scribble(map_of(r->a[0] % MAPS), v[1], v[2], r->a[3]));
}

OP(mmap)
{
	u64 at = v[2];
	char *to = map_of(r->a[0]);

	ledger->forged = true;
	if (at == 1)
		at = KEVENT_MMAP_RINGS + 4096;
	else if (at == 2)
		at = KEVENT_MMAP_CLAIMS + 4096;
	mmap(to, v[3], v[4], v[5] | MAP_FIXED, v[5] & MAP_ANONYMOUS ? -1 : FD(1), at);
	/* Pages that are there or not: nobody minds either. */
	GUARDED((void)*(volatile char *)to);
}

OP(munmap) { ledger->forged = true; munmap(map_of(r->a[0]) + r->a[2] % 4 * 4096, v[1]); }
OP(mprotect) { mprotect(map_of(r->a[0]) + r->a[3] % 2 * (MAP_BYTES / 2), v[1], v[2]); }

OP(madvise)
{
	ledger->forged = true;
	madvise(map_of(r->a[0]) + r->a[3] % 2 * (MAP_BYTES / 2), v[1], v[2]);
}

OP(mremap)
{
	ledger->forged = true;
	mremap(map_of(r->a[0]), v[2], v[3], MREMAP_MAYMOVE | MREMAP_FIXED, map_of(r->a[1]));
}

/* ------------------------------------------------------------------------ */
/* Operations: what concerns the next, and processes */

OP(poke)
{
	self->poke.entry = !v[0];
	self->poke.offset = r->a[1];
	self->poke.value = v[2];
	self->poke.width = v[3];
	self->poke.wanted = true;
}

OP(fault) { self->fault = 1 + r->a[0] % 32; }
OP(compat) { self->compat = true; }

OP(pause)
{
	struct timespec t = { .tv_nsec = v[0] };

	if (v[0])
		nanosleep(&t, NULL);
	else
		sched_yield();
}

/* Of a child alone: it would stay with the others for good. */
OP(limit)
{
	struct rlimit limit = { v[1], v[1] };

	if (in_child)
		setrlimit(v[0], &limit);
}

/* See run_part(): the child runs the records that follow. */
OP(fork) { }

struct arg {
	const char *name;
	const struct table *table; /* NULL: a plain byte */
};

static const struct op {
	const char *name;
	void (*run)(const struct record *r, const u64 *v);
	struct arg args[ARGS];
} ops[] = {
#define O(name, ...) { #name, op_##name, { __VA_ARGS__ } }
	O(queue, { "q" }, { "rings", &small }, { "entries", &ring_sizes }, { "nodes", &nodes }),
	O(open, { "fd" }, { "file", &files }, { "nonblock", &switches }),
	O(add_file, { "q" }, { "fd" }, { "events", &masks }, { "flags", &flags },
	  { "ring", &ring_numbers }, { "id" }),
	O(add_timer, { "q" }, { "clock", &clocks }, { "flags", &flags },
	  { "ring", &ring_numbers }, { "value", &times }, { "period", &times }, { "id" }),
	O(add_user, { "q" }, { "flags", &flags }, { "ring", &ring_numbers }, { "id" }),
	O(modify, { "q" }, { "id" }, { "kind", &kinds }, { "flags", &flags },
	  { "events", &masks }, { "value", &times }, { "period", &times }),
	O(control, { "q" }, { "op", &controls }, { "id" }, { "flags", &flags },
	  { "value", &times }, { "fd" }),
	O(submit, { "q" }, { "kind", &requests }, { "fd" }, { "flags", &flags },
	  { "ring", &ring_numbers }, { "addr", &addresses }, { "len", &lengths },
	  { "offset", &offsets }, { "rw", &rw_flags }, { "buffer", &numbers }),
	O(get, { "q" }, { "flags", &get_flags }, { "ring", &ring_numbers },
	  { "min", &counts }, { "max", &counts }, { "timeout", &timeouts },
	  { "min_wait", &timeouts }, { "out", &outs }, { "mask", &signals }),
	O(collect, { "map" }, { "ring", &small }, { "max", &counts }),
	O(write, { "fd" }, { "len", &lengths }),
	O(read, { "fd" }, { "len", &lengths }),
	O(buffers, { "q" }, { "first", &numbers }, { "nr", &counts },
	  { "addr", &addresses }, { "len", &lengths }),
	O(trigger, { "q" }, { "id" }, { "flags", &flags }, { "value", &times }),
	O(close, { "fd" }),
	O(dup, { "fd" }, { "to" }),
	O(pause, { "time", &pauses }),
	O(poke, { "what", &structs }, { "offset" }, { "value", &pokes }, { "width", &widths }),
	O(fault, { "nth" }),
	O(compat),
	O(scribble, { "map" }, { "ring", &small }, { "value", &heads }, { "count" }),
	O(fork, { "records" }, { "end", &ends }, { "user", &switches }),
	O(limit, { "of", &limits }, { "to", &lengths }),
	O(setup, { "q" }, { "rings", &small }, { "entries", &ring_sizes }, { "nodes", &nodes }),
	O(info, { "q" }),
	O(command, { "q" }, { "number" }),
	O(flush, { "q" }),
	O(poll, { "fd" }, { "events", &masks }, { "wait", &switches }),
	O(fdinfo, { "fd" }),
	O(mmap, { "map" }, { "fd" }, { "offset", &map_offsets }, { "len", &map_lengths },
	  { "prot", &protections }, { "flags", &map_flags }),
	O(munmap, { "map" }, { "len", &map_lengths }, { "page" }),
	O(mprotect, { "map" }, { "len", &map_lengths }, { "prot", &protections }, { "claims" }),
	O(madvise, { "map" }, { "len", &map_lengths }, { "advice", &advices }, { "claims" }),
	O(mremap, { "map" }, { "to" }, { "len", &map_lengths }, { "new", &map_lengths }),
	O(zoo, { "fd" }, { "queues", &small }, { "flags", &zoo_flags }, { "mask", &masks }),
	O(wake, { "fd" }, { "queue", &small }, { "context", &contexts }, { "key", &masks },
	  { "flags", &wake_flags }, { "count" }),
	O(zoo_free, { "fd" }),
	O(nonblock, { "fd" }, { "on", &switches }),
	O(shutdown, { "fd" }, { "how", &shut }),
	O(accept, { "fd" }, { "to" }),
	O(truncate, { "fd" }, { "len", &lengths }),
	O(settime, { "fd" }, { "value", &times }, { "period", &times }),
	O(signal),
	O(epoll, { "ep" }, { "fd" }, { "op", &epoll_ops }, { "events", &masks }),
	O(epoll_wait, { "ep" }, { "wait", &switches }),
	O(pass, { "socket" }, { "fd" }),
	O(take, { "socket" }, { "to" }),
#undef O
};

static const struct op *op_of(const struct record *r)
{
	return &ops[r->op % ARRAY_SIZE(ops)];
}

static u32 thread_of(const struct record *r)
{
	return (r->thread & 0x7f) % THREADS;
}

/* ------------------------------------------------------------------------ */
/* Running */

static void run_record(const struct record *r)
{
	const struct op *op = op_of(r);
	u64 v[ARGS] = { 0 };
	u32 i;

	for (i = 0; i < ARGS; i++)
		v[i] = op->args[i].table ? op->args[i].table->v[r->a[i] % op->args[i].table->n].v :
					   r->a[i];
	op->run(r, v);
}

static void bury(pid_t pid, bool patient)
{
	int status, i;

	/* What disturbs calls that wait ends this wait as well. */
	for (i = 0; patient && i < 5; i++) {
		if (waitpid(pid, &status, 0) == pid)
			goto out;
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return;
out:
	if (WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) != SIGKILL)
		broken("a child ended with status %x", status);
}

/* Forks; the child runs @n records.  Returns how many were meant for it. */
static u32 run_child(const struct record *r, const struct record *first, u32 n)
{
	u32 end = ends.v[r->a[1] % ends.n].v, i;
	u32 at = __atomic_fetch_add(&nr_children, 1, __ATOMIC_RELAXED);
	pid_t pid;

	if (n > 1u + r->a[0] % 8)
		n = 1 + r->a[0] % 8;
	if (at >= ARRAY_SIZE(children))
		return n;
	ledger->lost = true;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		self->tid = gettid();
		self->fail_fd = -1;
		in_child = true;
		if (r->a[2] % 2 && setresuid(65534, 65534, 65534))
			_exit(0);
		for (i = 0; i < n; i++)
			run_record(&first[i]);
		_exit(0);
	}
	if (pid > 0 && end == 2)
		children[at] = pid;
	else if (pid > 0)
		bury(pid, !end);
	return n;
}

static void run_part(struct part *part)
{
	u32 i;

	for (i = 0; i < part->records; i++) {
		const struct record *r = &part->program[i];

		if (thread_of(r) != part->index)
			continue;
		if (op_of(r)->run == op_fork)
			i += run_child(r, r + 1, part->records - i - 1);
		else
			run_record(r);
	}
	part->nr = 0;
	part->fault = 0;
	part->compat = false;
	part->poke.wanted = false;
}

static long futex(u32 *word, int op, u32 value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

static void enter(struct part *part)
{
	char path[64];

	self = part;
	part->tid = gettid();
	part->out = low(EVENTS_AT);
	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", part->tid);
	part->fail_fd = open(path, O_RDWR | O_CLOEXEC);
}

static void *thread_main(void *arg)
{
	struct part *part = arg;
	u32 go = 0;

	enter(part);
	for (;;) {
		while (__atomic_load_n(&part->go, __ATOMIC_ACQUIRE) == go)
			futex(&part->go, FUTEX_WAIT, go, NULL);
		go = __atomic_load_n(&part->go, __ATOMIC_ACQUIRE);
		run_part(part);
		__atomic_store_n(&part->done, go, __ATOMIC_RELEASE);
		futex(&part->done, FUTEX_WAKE, 1, NULL);
	}
	return NULL;
}

static void start(struct part *part)
{
	__atomic_add_fetch(&part->go, 1, __ATOMIC_RELEASE);
	futex(&part->go, FUTEX_WAKE, 1, NULL);
}

/* Where the threads hang, on stderr. */
static void show_stacks(void)
{
	fflush(stderr);
	(void)!system("head -n 30 /proc/$PPID/task/*/stack >&2; echo w >/proc/sysrq-trigger");
}

#define PATIENCE (120000 * MS)

static void join(struct part *part)
{
	struct timespec second = { .tv_sec = 1 };
	u64 limit = now() + PATIENCE;
	u32 done;

	while ((done = __atomic_load_n(&part->done, __ATOMIC_ACQUIRE)) != part->go) {
		futex(&part->done, FUTEX_WAIT, done, &second);
		if (now() > limit) {
			show_stacks();
			broken("thread %u does not end", part->index);
		}
	}
}

/* The fault is for the call, not for what the kernel copies to return from a signal. */
static void disarm(void)
{
	if (self && self->fault)
		set_fault(0);
}

/* Disturbs calls that would wait for long. */
static void on_tick(int signal)
{
	int error = errno;
	u32 i;

	(void)signal;
	disarm();
	for (i = 1; i < THREADS; i++)
		if (parts[i].done != parts[i].go)
			syscall(SYS_tgkill, getpid(), parts[i].tid, SIGUSR2);
	errno = error;
}

static void on_kick(int signal)
{
	int error = errno;

	(void)signal;
	disarm();
	errno = error;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (self && self->jumping)
		siglongjmp(self->jump, 1);
	/* The fault was met where the kernel delivers a signal: that one is lost. */
	if (self && self->fault && info->si_code == SI_KERNEL) {
		self->fault = 0;
		return;
	}
	broken("signal %d at %p", signal, info->si_addr);
}

static void tick(bool on)
{
	static timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct itimerspec t = { { 0, on ? 20 * MS : 0 }, { 0, on ? 20 * MS : 0 } };

	event._sigev_un._tid = gettid();
	if (!timer && timer_create(CLOCK_MONOTONIC, &event, &timer))
		broken("timer_create: %m");
	timer_settime(timer, 0, &t, NULL);
}

/* ------------------------------------------------------------------------ */
/* What must be true at the end of a run */

/* Whether every request that was accepted has given its event. */
static bool all_told(void)
{
	u32 i;

	for (i = 0; i < ledger->serials; i++)
		if (ledger->state[i] == SURE && !ledger->count[i])
			return false;
	return true;
}

static void cancel_all(int fd)
{
	u32 i;

	for (i = 0; i < 2 * IDS; i++) {
		struct kevent_change c = { .op = KEVENT_OP_CANCEL, .id = ledger->requests[i] };

		if (c.id && kevent_change(fd, &c) < 0 && errno != ENOENT &&
		    errno != EALREADY && errno != EBADFD)
			broken("cancelling at the end: %m");
	}
}

static void collect_all(void)
{
	u32 i;

	for (i = 0; i < FDS; i++) {
		struct kevent_get arg = {
			.size = sizeof(arg), .ring = KEVENT_RING_ANY, .max = ROOM,
			.events = (uintptr_t)self->out,
		};

		if (is_queue(FD_BASE + i))
			get_events(FD_BASE + i, &arg, ROOM, false);
	}
}

static void reconcile(void)
{
	u64 limit = now() + PATIENCE;
	u32 i;

	if (ledger->forged || ledger->lost || ledger->poked || !ledger->serials ||
	    ledger->serials > 2 * IDS)
		return;
	for (i = 0; i < FDS; i++)
		if (is_queue(FD_BASE + i))
			cancel_all(FD_BASE + i);
	while (!all_told()) {
		collect_all();
		usleep(1000);
		if (now() > limit) {
			show_stacks();
			broken("a request has given no event");
		}
	}
	collect_all();
	for (i = 0; i < ledger->serials; i++) {
		u32 most = ledger->state[i] != NONE;

		if (ledger->count[i] > most)
			broken("request %u gave %u events", i, ledger->count[i]);
	}
}

static long references(void)
{
	FILE *f = fopen("/sys/module/kevent/refcnt", "re");
	long n = -1;

	if (!f || fscanf(f, "%ld", &n) != 1)
		broken("no count of references: %m");
	fclose(f);
	return n;
}

/* Queues in flight in a socket that they watch go when the module looks for such. */
static void check_references(void)
{
	u64 limit = now() + PATIENCE;
	long n;

	while ((n = references()) != idle_references) {
		if (now() > limit)
			broken("%ld references are left", n - idle_references);
		usleep(10000);
	}
}

/* ------------------------------------------------------------------------ */
/* libFuzzer */

/* The last inputs, on a disk that outlives the kernel; tools/fuzz reads it. */
#define LOG_BYTES 1024
#define LOG_SLOTS 64

struct log {
	char magic[4];
	u32 len;
	u64 run;
	u8 data[LOG_BYTES - 16];
};

static void note(const struct record *program, u32 n)
{
	static struct log log __attribute__((aligned(LOG_BYTES))) = { .magic = "KVFZ" };

	if (log_fd < 0)
		return;
	log.len = n * sizeof(*program);
	log.run = runs;
	memcpy(log.data, program, log.len);
	if (pwrite(log_fd, &log, sizeof(log), runs % LOG_SLOTS * LOG_BYTES) != sizeof(log))
		broken("writing to the log: %m");
}

/* Signals that no signalfd took. */
static void drop_signals(void)
{
	struct timespec none = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (signalled && sigtimedwait(&set, NULL, &none) > 0)
		;
	signalled = false;
}

static void prepare(const struct record *program, u32 n)
{
	u32 i;

	memset(ledger, 0, sizeof(*ledger));
	ledger->run = runs;
	nr_children = 0;
	memset(children, 0, sizeof(children));
	nr_parts = 1;
	for (i = 0; i < n; i++)
		if (thread_of(&program[i]) >= nr_parts)
			nr_parts = thread_of(&program[i]) + 1;
	for (i = 0; i < THREADS; i++) {
		parts[i].program = program;
		parts[i].records = n;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct record program[RECORDS];
	u32 n = size / sizeof(*program), i;

	if (n > RECORDS)
		n = RECORDS;
	memcpy(program, data, n * sizeof(*program));
	runs++;
	note(program, n);
	prepare(program, n);
	tick(true);
	for (i = 1; i < nr_parts; i++)
		start(&parts[i]);
	run_part(&parts[0]);
	for (i = 1; i < nr_parts; i++)
		join(&parts[i]);
	for (i = 0; i < ARRAY_SIZE(children); i++)
		if (children[i])
			bury(children[i], false);
	tick(false);
	reconcile();
	syscall(SYS_close_range, FD_BASE, FD_BASE + FDS - 1, 0);
	munmap((void *)MAP_AT, 0x130000000);
	drop_signals();
	if (runs % 256 == 0)
		check_references();
	return 0;
}

static u32 seed;

static u32 rnd(u32 n)
{
	seed = seed * 1664525 + 1013904223;
	return (u64)seed * n >> 32;
}

/* Mostly the first slots, so that operations meet each other. */
static u8 random_arg(const struct arg *arg)
{
	if (arg->table)
		return rnd(3) ? rnd(arg->table->n) : rnd(3);
	return rnd(8) ? rnd(4) : rnd(4) ? rnd(FDS) : rnd(256);
}

static struct record random_record(void)
{
	struct record r = { .op = rnd(3) ? rnd(17) : rnd(ARRAY_SIZE(ops)) };
	u32 i;

	for (i = 0; i < ARGS && ops[r.op].args[i].name; i++)
		if (rnd(3))
			r.a[i] = random_arg(&ops[r.op].args[i]);
	if (!rnd(4))
		r.thread = rnd(THREADS);
	if (!rnd(6))
		r.thread |= FLAG_MORE;
	return r;
}

static void change_arg(struct record *r)
{
	const struct op *op = op_of(r);
	u32 i = rnd(ARGS);

	while (i && !op->args[i].name)
		i = rnd(i);
	if (op->args[i].name)
		r->a[i] = random_arg(&op->args[i]);
}

/* Makes room for @n records at @at; returns how many there is room for. */
static u32 open_gap(struct record *p, u32 *nr, u32 max, u32 at, u32 n)
{
	if (n > max - *nr)
		n = max - *nr;
	memmove(p + at + n, p + at, (*nr - at) * sizeof(*p));
	*nr += n;
	return n;
}

static void mutate(struct record *p, u32 *nr, u32 max)
{
	struct record copy[RECORDS];
	u32 at = rnd(*nr + 1), from = rnd(*nr + 1), n = 1 + rnd(4), i;

	if (from + n > *nr)
		n = *nr - from;
	switch (*nr ? rnd(12) : 0) {
	case 0: case 1: case 2:
		if (open_gap(p, nr, max, at, 1))
			p[at] = random_record();
		break;
	case 3:
		memmove(p + from, p + from + n, (*nr - from - n) * sizeof(*p));
		*nr -= n;
		break;
	case 4:
		memcpy(copy, p + from, n * sizeof(*p));
		n = open_gap(p, nr, max, at, n);
		memcpy(p + at, copy, n * sizeof(*p));
		break;
	case 5:
		for (i = from; i < from + n; i++)
			p[i].thread = (p[i].thread & FLAG_MORE) | rnd(THREADS);
		break;
	case 6:
		if (n)
			p[from].thread ^= FLAG_MORE;
		break;
	default:
		if (n)
			change_arg(&p[from]);
	}
}

size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max, unsigned int seed_);
size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max, unsigned int seed_)
{
	struct record p[RECORDS];
	u32 nr = size / sizeof(*p), room = max / sizeof(*p), times;

	if (room > RECORDS)
		room = RECORDS;
	if (nr > room)
		nr = room;
	if (!room)
		return 0;
	memcpy(p, data, nr * sizeof(*p));
	seed = seed_;
	for (times = 1 + rnd(4); times; times--)
		mutate(p, &nr, room);
	memcpy(data, p, nr * sizeof(*p));
	return nr * sizeof(*p);
}

/* The start of one and the end of the other. */
size_t LLVMFuzzerCustomCrossOver(const u8 *a, size_t a_size, const u8 *b, size_t b_size,
				 u8 *out, size_t max, unsigned int seed_);
size_t LLVMFuzzerCustomCrossOver(const u8 *a, size_t a_size, const u8 *b, size_t b_size,
				 u8 *out, size_t max, unsigned int seed_)
{
	u32 na = a_size / sizeof(struct record), nb = b_size / sizeof(struct record), skip;

	seed = seed_;
	na = rnd(na + 1);
	skip = rnd(nb + 1);
	nb -= skip;
	if (na + nb > max / sizeof(struct record))
		nb = na > max / sizeof(struct record) ? 0 : max / sizeof(struct record) - na;
	if ((na + nb) * sizeof(struct record) > max)
		return 0;
	memcpy(out, a, na * sizeof(struct record));
	memcpy(out + na * sizeof(struct record), b + skip * sizeof(struct record),
	       nb * sizeof(struct record));
	return (na + nb) * sizeof(struct record);
}

/* ------------------------------------------------------------------------ */
/* Text */

static void describe_arg(FILE *out, const struct arg *arg, u8 a)
{
	const char *p;

	fprintf(out, " %s=", arg->name);
	if (!arg->table) {
		fprintf(out, "%u", a);
		return;
	}
	for (p = arg->table->v[a % arg->table->n].name; *p; p++)
		if (*p != ' ')
			fputc(*p, out);
}

static void describe(FILE *out, const struct record *r, u32 n)
{
	u32 i, k;

	for (i = 0; i < n; i++) {
		const struct op *op = op_of(&r[i]);

		if (thread_of(&r[i]))
			fprintf(out, "%u: ", thread_of(&r[i]));
		fputs(op->name, out);
		for (k = 0; k < ARGS && op->args[k].name; k++)
			if (r[i].a[k])
				describe_arg(out, &op->args[k], r[i].a[k]);
		fputs(r[i].thread & FLAG_MORE ? " +\n" : "\n", out);
	}
}

static bool same_name(const char *name, const char *word)
{
	for (; *name; name++)
		if (*name != ' ' && *name != *word++)
			return false;
	return !*word;
}

static int parse_arg(const struct op *op, char *word, u8 *a)
{
	char *value = strchr(word, '='), *end;
	u32 i, k;

	if (!value)
		return -1;
	*value++ = 0;
	for (i = 0; i < ARGS && op->args[i].name; i++) {
		const struct table *t = op->args[i].table;
		u64 number = strtoull(value, &end, 0);

		if (strcmp(op->args[i].name, word))
			continue;
		if (!t && !*end) {
			a[i] = number;
			return 0;
		}
		for (k = 0; t && k < t->n; k++) {
			if (same_name(t->v[k].name, value) || (!*end && t->v[k].v == number)) {
				a[i] = k;
				return 0;
			}
		}
	}
	return -1;
}

/* "[THREAD:] OPERATION [NAME=VALUE]... [+]" */
static int parse_line(char *line, struct record *r)
{
	char *save, *word = strtok_r(line, " \t\n", &save);
	u32 i;

	*r = (struct record){ 0 };
	if (word[strlen(word) - 1] == ':') {
		r->thread = atoi(word);
		word = strtok_r(NULL, " \t\n", &save);
	}
	for (i = 0; word && i < ARRAY_SIZE(ops); i++)
		if (!strcmp(ops[i].name, word))
			break;
	if (!word || i == ARRAY_SIZE(ops))
		return -1;
	r->op = i;
	while ((word = strtok_r(NULL, " \t\n", &save))) {
		if (!strcmp(word, "+"))
			r->thread |= FLAG_MORE;
		else if (parse_arg(&ops[r->op], word, r->a))
			return -1;
	}
	return 0;
}

/* Programs, each behind a line "[name]", become files of a directory. */
static int assemble(const char *path, const char *directory)
{
	FILE *in = fopen(path, "re"), *out = NULL;
	char line[512], copy[512], name[256];
	struct record r;
	u32 number = 0;

	if (!in)
		return 1;
	while (fgets(line, sizeof(line), in)) {
		number++;
		line[strcspn(line, "#\n")] = 0;
		if (!line[strspn(line, " \t")])
			continue;
		strcpy(copy, line);
		if (*line == '[') {
			snprintf(name, sizeof(name), "%s/%.*s", directory,
				 (int)strcspn(line + 1, "]"), line + 1);
			if (out)
				fclose(out);
			out = fopen(name, "we");
		} else if (!out || parse_line(line, &r)) {
			fprintf(stderr, "%s:%u: %s\n", path, number, copy);
			return 1;
		} else {
			fwrite(&r, sizeof(r), 1, out);
		}
	}
	fclose(in);
	return out && fclose(out);
}

static int print(char **paths)
{
	struct record program[RECORDS];
	FILE *in;

	for (; *paths; paths++) {
		in = fopen(*paths, "re");
		if (!in)
			return 1;
		printf("[%s]\n", strrchr(*paths, '/') ? strrchr(*paths, '/') + 1 : *paths);
		describe(stdout, program, fread(program, sizeof(*program), RECORDS, in));
		fclose(in);
	}
	return 0;
}

/* ------------------------------------------------------------------------ */
/* The beginning and the end */

/* What was ever reached, for tools/fuzz. */
static void save_ever(void)
{
	FILE *f = fopen(DIRECTORY "ever", "we");

	if (f) {
		fwrite(ever, COVER_COUNTERS, 1, f);
		fclose(f);
	}
}

static void map_counters(void)
{
	int fd = open(COVER_DEVICE, O_RDWR | O_CLOEXEC);

	if (mmap(counters, COVER_COUNTERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 0) == MAP_FAILED)
		broken(COVER_DEVICE ": %m");
	ever = mmap(NULL, COVER_COUNTERS, PROT_READ, MAP_SHARED, fd, COVER_COUNTERS);
	if (ever == MAP_FAILED)
		broken(COVER_DEVICE ": %m");
	close(fd);
}

static void *map_at(unsigned long at, size_t bytes, int flags)
{
	void *p = mmap((void *)at, bytes, PROT_READ | PROT_WRITE,
		       flags | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p != (void *)at)
		broken("mmap: %m");
	return p;
}

static void handle_signals(void)
{
	struct sigaction a = { .sa_handler = on_tick };
	sigset_t set;

	sigaction(SIGUSR1, &a, NULL);
	a.sa_handler = on_kick;
	sigaction(SIGUSR2, &a, NULL);
	/* For signalfd; it is delivered in a call that waits with another mask. */
	sigaction(SIGRTMIN, &a, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	a.sa_sigaction = on_fault;
	a.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigaction(SIGSEGV, &a, NULL);
	sigaction(SIGBUS, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *log = getenv("KEVENT_FUZZ_LOG");
	struct stat st;
	u32 i;

	if (*argc == 4 && !strcmp((*argv)[1], "--assemble"))
		exit(assemble((*argv)[2], (*argv)[3]));
	if (*argc > 2 && !strcmp((*argv)[1], "--print"))
		exit(print(*argv + 2));

	if (log) {
		log_fd = open(log, O_WRONLY | O_DIRECT | O_CLOEXEC);
		if (log_fd < 0)
			broken("%s: %m", log);
	}
	if (stat(KEVENT_DEVICE, &st))
		broken(KEVENT_DEVICE ": %m");
	kevent_dev = st.st_rdev;
	map_counters();
	atexit(save_ever);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < THREADS; i++)
		map_at(OUT_AT + i * 0x100000, 65536, MAP_PRIVATE);
	map_at(IO_AT, IO_BYTES, MAP_SHARED);
	for (i = 0; i < IO_BYTES; i++)
		((u8 *)IO_AT)[i] = i * 7 + (i >> 8);
	handle_signals();
	idle_references = references();
	for (i = 0; i < THREADS; i++)
		parts[i].index = i;
	enter(&parts[0]);
	for (i = 1; i < THREADS; i++)
		if (pthread_create(&parts[i].thread, NULL, thread_main, &parts[i]))
			broken("pthread_create: %m");
	return 0;
}
