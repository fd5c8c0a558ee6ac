// SPDX-License-Identifier: GPL-2.0
/* The mapped areas: what can be mapped how, where it lies, who pays for it. */
#include <sys/syscall.h>
#include "kevent_test.h"

#ifndef MADV_DOFORK
#define MADV_DOFORK 11
#endif

FIXTURE(map) {
	int fd;
	struct kevent_setup s;
	size_t rings;
	size_t claims;
};

FIXTURE_SETUP(map)
{
	self->fd = queue_open(2, 256);
	ASSERT_LE(0, self->fd);
	self->s = setup_arg(0, 0);
	ASSERT_EQ(0, ioc(self->fd, KEVENT_IOC_INFO, &self->s));
	self->rings = (size_t)self->s.nr_rings * self->s.ring_bytes;
	self->claims = (size_t)self->s.nr_rings * self->s.claim_bytes;
}

FIXTURE_TEARDOWN(map)
{
	close(self->fd);
}

static char *map(int fd, size_t size, int prot, int flags, off_t offset)
{
	void *p = mmap(NULL, size, prot, flags, fd, offset);

	return p == MAP_FAILED ? NULL : p;
}

static char *map_rings(int fd, size_t size)
{
	return map(fd, size, PROT_READ, MAP_SHARED, KEVENT_MMAP_RINGS);
}

static char *map_claims(int fd, size_t size)
{
	return map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   KEVENT_MMAP_CLAIMS);
}

#define EXPECT_NO_MAP(error, fd, size, prot, flags, offset) do {	\
	errno = 0;							\
	EXPECT_EQ(NULL, map(fd, size, prot, flags, offset));		\
	EXPECT_EQ(error, errno);					\
} while (0)

/* Both areas map, as a whole and ring by ring. */
TEST_F(map, areas)
{
	unsigned int i;

	EXPECT_NE(NULL, map_rings(self->fd, self->rings));
	EXPECT_NE(NULL, map_claims(self->fd, self->claims));
	for (i = 0; i < 2; i++) {
		char *p = map(self->fd, self->s.ring_bytes, PROT_READ,
			      MAP_SHARED,
			      KEVENT_MMAP_RINGS + i * self->s.ring_bytes);

		ASSERT_NE(NULL, p);
		EXPECT_EQ(i, ((struct kevent_ring *)p)->index);
	}
}

/* The header's constants say what SETUP said. */
TEST_F(map, constants)
{
	char *p = map_rings(self->fd, self->rings);
	unsigned int i;

	ASSERT_NE(NULL, p);
	for (i = 0; i < 2; i++) {
		struct kevent_ring *r = (void *)(p + i * self->s.ring_bytes);

		EXPECT_EQ(KEVENT_MAGIC, r->magic);
		EXPECT_EQ(sizeof(*r), r->header_len);
		EXPECT_EQ(self->s.compat, r->compat);
		EXPECT_EQ(self->s.incompat, r->incompat);
		EXPECT_EQ(i, r->index);
		EXPECT_EQ(2, r->nr_rings);
		EXPECT_EQ(256, r->entries);
		EXPECT_LE(sizeof(*r), r->slots_offset);
		EXPECT_EQ(0, r->slots_offset % 32);
	}
}

/* Every node has a nearest ring, and a node with a ring has its own. */
TEST(ring_of_node)
{
	int fd = queue_open(0, 0), i;
	struct queue q;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, queue_map(&q, fd));
	for (i = 0; i < KEVENT_MAX_NODES; i++) {
		ASSERT_GT(q.setup.nr_rings, ring_at(&q, 0)->ring_of_node[i]);
	}
	for (i = 0; i < q.setup.nr_rings; i++)
		EXPECT_EQ(i, ring_at(&q, 0)->ring_of_node[ring_at(&q, i)->node]);
	queue_free(&q);
}

/* Memory fresh from the kernel is zero wherever the header says nothing. */
TEST_F(map, nothing_stale)
{
	char *p = map_rings(self->fd, self->rings);
	char *c = map_claims(self->fd, self->claims);
	struct kevent_ring r;
	size_t i, dirty = 0;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, c);
	memcpy(&r, p, sizeof(r));
	for (i = sizeof(r); i < self->s.ring_bytes; i++)
		dirty += p[i] != 0;
	for (i = 0; i < sizeof(r.pad0); i++)
		dirty += ((char *)r.pad0)[i] != 0;
	for (i = 0; i < sizeof(r.pad1); i++)
		dirty += ((char *)r.pad1)[i] != 0;
	for (i = 0; i < sizeof(r.pad2); i++)
		dirty += ((char *)r.pad2)[i] != 0;
	for (i = 0; i < sizeof(r.pad3); i++)
		dirty += ((char *)r.pad3)[i] != 0;
	for (i = sizeof(uint64_t); i < self->claims; i++)
		dirty += i % self->s.claim_bytes >= 8 && c[i] != 0;
	EXPECT_EQ(0, dirty);
	EXPECT_EQ(0, r.pending);
	EXPECT_EQ(0, r.hint);
	EXPECT_EQ(0, r.need_enter);
	EXPECT_EQ(0, r.sources);
	EXPECT_EQ(0, r.requests);
	EXPECT_EQ(r.tail, *(uint64_t *)c);
}

/* After use, too, slots hold events and nothing else. */
TEST_F(map, slots_hold_events)
{
	char *p = map_rings(self->fd, self->rings);
	struct kevent_ring *r = (void *)p;
	struct ukevent ev;
	int i;

	ASSERT_NE(NULL, p);
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, -1, 0x77));
	}
	for (i = 0; i < 10; i++) {
		memcpy(&ev, p + r->slots_offset + i * 32, 32);
		EXPECT_EQ(0x77, ev.cookie);
		EXPECT_EQ(0, ev.events);
		EXPECT_EQ(KEVENT_KIND_NOP, ev.kind);
		EXPECT_EQ(KEVENT_EV_INLINE, ev.flags);
		EXPECT_EQ(-1, ev.result);
	}
	for (i = 10 * 32; i < 256 * 32; i++) {
		ASSERT_EQ(0, p[r->slots_offset + i]);
	}
}

/* ------------------------------------------------------------------------ */
/* What the kernel knows and we are not to */

/*
 * Words that the kernel's allocators fill memory with (slub_debug=P, page_poison=1),
 * and what looks like an address of the kernel's, where one can be.  A negative result
 * does not look like one.
 */
static size_t leaks_in(const void *from, size_t size)
{
	const char *p = from;
	size_t i, n = 0;
	uint64_t word;

	for (i = 0; i + 4 <= size; i += 4) {
		word = 0;
		memcpy(&word, p + i, i % 8 ? 4 : 8);
		n += word >= 0xffff800000000000 && word < 0xfffffffffff00000;
		n += (uint32_t)word == 0x6b6b6b6b || (uint32_t)word == 0x5a5a5a5a ||
		     (uint32_t)word == 0xaaaaaaaa;
	}
	return n;
}

/* It finds what it is to find. */
TEST(leaks_are_seen)
{
	uint64_t words[4] = { 1, 0xffff888012345678, -EINVAL, 0x5a5a5a5a };
	char bytes[64] = { };

	EXPECT_EQ(2, leaks_in(words, sizeof(words)));
	EXPECT_EQ(0, leaks_in(bytes, sizeof(bytes)));
	memset(bytes, 0xaa, sizeof(bytes));
	EXPECT_EQ(16, leaks_in(bytes, sizeof(bytes)));
}

struct leaks {
	struct queue q;
	int file, pipe[2], memory;
	char byte[64];
};

static int leaks_submit(struct leaks *l, unsigned int kind, int fd, uint32_t flags)
{
	struct kevent_change c[2] = { {
		.op = KEVENT_OP_SUBMIT, .kind = kind, .fd = fd, .flags = flags,
		.addr = kind == KEVENT_KIND_FSYNC ? 0 : (uintptr_t)l->byte,
		.len = kind == KEVENT_KIND_FSYNC ? 0 : 8, .cookie = 3,
	}, {
		.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_NOP, .cookie = 4,
		.ring = 1, .value = -7,
	} };

	return changes(l->q.fd, c, 2) != 2 || leaks_in(c, sizeof(c));
}

/* Sources of every kind and mode, and requests of every way. */
static int leaks_use(struct leaks *l)
{
	static const uint32_t modes[] = { 0, KEVENT_ONESHOT, KEVENT_LEVEL,
					  KEVENT_DISABLED };
	int i, bad = 0, fd = l->q.fd;
	uint64_t id[4];

	for (i = 0; i < 4; i++) {
		bad += add_file_at(fd, i & 1, l->file, EPOLLIN, modes[i], 1, NULL) < 0;
		bad += add_timer(fd, CLOCK_MONOTONIC, modes[i], 1, 1000000, 2, NULL) < 0;
		bad += add_user_at(fd, i & 1, modes[i], 5, &id[i]) < 0;
		bad += trigger(fd, id[i], 9) < 0;
	}
	bad += eventfd_fire(l->file) < 0;
	bad += remove_id(fd, id[0]) < 0;
	bad += leaks_submit(l, KEVENT_KIND_READ, l->memory, 0);
	bad += leaks_submit(l, KEVENT_KIND_WRITE, l->memory, KEVENT_LINK);
	bad += leaks_submit(l, KEVENT_KIND_FSYNC, l->memory, 0);
	bad += leaks_submit(l, KEVENT_KIND_READ, l->pipe[0], 0);
	bad += leaks_submit(l, KEVENT_KIND_READ, l->pipe[0], KEVENT_LINK);
	bad += write(l->pipe[1], "12345678", 8) != 8;
	return bad;
}

/* What collection and the mapping show; also how many events there were. */
static size_t leaks_shown(struct leaks *l, int *events)
{
	struct kevent_get g;
	struct ukevent ev[16];
	size_t found = 0;
	char text[4096];
	int i, n;

	for (i = 0; i < 3; i++) {
		g = get_arg(ev, 0, 16, 0);
		if (i == 1)
			g.flags = KEVENT_GET_MAPPED;
		n = i == 2 ? (int)ring_collect(&l->q, 0, ev, 16) : get_run(l->q.fd, &g);
		*events += n > 0 ? n : 0;
		g.events = 0; /* an address, but ours */
		found += leaks_in(&g, sizeof(g)) + leaks_in(ev, n > 0 ? n * 32 : 0);
	}
	found += leaks_in(l->q.rings, (size_t)l->q.setup.nr_rings *
				      l->q.setup.ring_bytes);
	found += leaks_in(l->q.claims, (size_t)l->q.setup.nr_rings *
				       l->q.setup.claim_bytes);
	found += leaks_in(&l->q.setup, sizeof(l->q.setup));
	snprintf(text, sizeof(text), "/proc/self/fdinfo/%d", l->q.fd);
	if (read_text(text, text, sizeof(text)) < 0)
		return 1000000;
	/* An address would be a long number, whatever its base. */
	for (i = 0, n = 0; text[i]; i++) {
		n = strchr("0123456789abcdef", text[i]) ? n + 1 : 0;
		found += n >= 16;
	}
	return found;
}

/*
 * No byte that the kernel had before, and no address of its own, comes out.  On any
 * kernel; the run with poisoned allocators makes sure that there is something to see.
 */
TEST(nothing_leaks)
{
	struct leaks l = { };
	int round, events = 0;

	l.file = eventfd_make();
	l.memory = memfd_create("kevent", MFD_CLOEXEC);
	ASSERT_EQ(0, ftruncate(l.memory, 4096));
	ASSERT_EQ(0, pipe(l.pipe));
	for (round = 0; round < 20; round++) {
		/* 2 slots: events wait in the kernel, too. */
		ASSERT_EQ(0, queue_make(&l.q, 2, round % 2 ? 2 : 256));
		EXPECT_EQ(0, leaks_shown(&l, &events));
		EXPECT_EQ(0, leaks_use(&l));
		EXPECT_EQ(0, leaks_shown(&l, &events));
		nap_ns(2 * NSEC_PER_MSEC);
		EXPECT_EQ(0, leaks_use(&l));
		EXPECT_EQ(0, leaks_shown(&l, &events));
		queue_free(&l.q);
	}
	EXPECT_LT(200, events);
}

/* The rings cannot be mapped for writing. */
TEST_F(map, rings_writable)
{
	EXPECT_NO_MAP(EACCES, self->fd, self->rings, PROT_READ | PROT_WRITE,
		      MAP_SHARED, KEVENT_MMAP_RINGS);
	EXPECT_NO_MAP(EACCES, self->fd, self->rings, PROT_WRITE, MAP_SHARED,
		      KEVENT_MMAP_RINGS);
}

/* Nothing can be mapped to be executed. */
TEST_F(map, executable)
{
	EXPECT_NO_MAP(EACCES, self->fd, self->rings, PROT_READ | PROT_EXEC,
		      MAP_SHARED, KEVENT_MMAP_RINGS);
	EXPECT_NO_MAP(EACCES, self->fd, self->claims,
		      PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED,
		      KEVENT_MMAP_CLAIMS);
}

/* A private copy is of no use to anyone: EINVAL. */
TEST_F(map, private)
{
	EXPECT_NO_MAP(EINVAL, self->fd, self->rings, PROT_READ, MAP_PRIVATE,
		      KEVENT_MMAP_RINGS);
	EXPECT_NO_MAP(EINVAL, self->fd, self->claims, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE, KEVENT_MMAP_CLAIMS);
}

/* More than there is cannot be mapped. */
TEST_F(map, too_long)
{
	EXPECT_NO_MAP(EINVAL, self->fd, self->rings + 4096, PROT_READ,
		      MAP_SHARED, KEVENT_MMAP_RINGS);
	EXPECT_NO_MAP(EINVAL, self->fd, self->claims + 4096,
		      PROT_READ | PROT_WRITE, MAP_SHARED, KEVENT_MMAP_CLAIMS);
}

/* Offsets that lead to nothing are EINVAL. */
TEST_F(map, wrong_offset)
{
	EXPECT_NO_MAP(EINVAL, self->fd, 4096, PROT_READ, MAP_SHARED,
		      self->rings);
	EXPECT_NO_MAP(EINVAL, self->fd, 4096, PROT_READ, MAP_SHARED,
		      KEVENT_MMAP_CLAIMS - 4096);
	EXPECT_NO_MAP(EINVAL, self->fd, 4096, PROT_READ, MAP_SHARED,
		      KEVENT_MMAP_CLAIMS + self->claims);
	EXPECT_NO_MAP(EINVAL, self->fd, self->rings, PROT_READ, MAP_SHARED,
		      4096);
}

/* A length that runs from the rings to the claims is none. */
TEST_F(map, across)
{
	EXPECT_NO_MAP(EINVAL, self->fd, KEVENT_MMAP_CLAIMS + 4096, PROT_READ,
		      MAP_SHARED, KEVENT_MMAP_RINGS);
}

/* What was mapped to be read cannot be made writable or executable. */
TEST_F(map, mprotect)
{
	char *p = map_rings(self->fd, self->rings);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(-1, mprotect(p, 4096, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(p, 4096, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, mprotect(p, 4096, PROT_NONE));
	EXPECT_EQ(0, mprotect(p, 4096, PROT_READ));
	p = map_claims(self->fd, self->claims);
	EXPECT_EQ(-1, mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
}

/* A write to the rings is a fault. */
TEST_SIGNAL(write_faults, SIGSEGV)
{
	char *p = map_rings(queue_open(1, 8), 4096);

	*(volatile char *)p = 1;
}

/* A debugger's way of writing does not work either. */
TEST_F(map, ptrace_write)
{
	char *p = map_rings(self->fd, self->rings);
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	char byte = 1;

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, mem);
	EXPECT_EQ(-1, pwrite(mem, &byte, 1, (uintptr_t)p));
	EXPECT_NE(byte, *p);
	close(mem);
}

/* Two mappings show the same. */
TEST_F(map, twice)
{
	struct kevent_ring *a = (void *)map_rings(self->fd, self->rings);
	struct kevent_ring *b = (void *)map_rings(self->fd, self->rings);

	ASSERT_NE(NULL, a);
	ASSERT_NE(NULL, b);
	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	EXPECT_EQ(1, a->tail);
	EXPECT_EQ(1, b->tail);
	EXPECT_EQ(0, munmap(a, self->rings));
	EXPECT_EQ(1, b->tail);
}

/* Part of it can be unmapped. */
TEST_F(map, partial_munmap)
{
	char *p = map_rings(self->fd, self->rings);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + self->s.ring_bytes, self->s.ring_bytes));
	EXPECT_EQ(KEVENT_MAGIC, ((struct kevent_ring *)p)->magic);
	ASSERT_EQ(0, munmap(p, 4096));
	EXPECT_EQ(0, munmap(p, self->rings));
}

/* It can be moved, and not made longer. */
TEST_F(map, mremap)
{
	char *p = map_rings(self->fd, self->rings), *m;

	ASSERT_NE(NULL, p);
	EXPECT_EQ(MAP_FAILED, mremap(p, self->rings, self->rings + 4096,
				     MREMAP_MAYMOVE));
	m = mmap(NULL, self->rings, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		 -1, 0);
	m = mremap(p, self->rings, self->rings, MREMAP_MAYMOVE | MREMAP_FIXED,
		   m);
	if (m != MAP_FAILED)
		EXPECT_EQ(KEVENT_MAGIC, ((struct kevent_ring *)m)->magic);
}

/* A mapping keeps the queue alive: events go on arriving. */
TEST_F(map, survives_close)
{
	int file = eventfd_make();
	struct ukevent ev;
	struct queue q;

	ASSERT_EQ(0, queue_map(&q, queue_open(1, 8)));
	ASSERT_EQ(0, add_file(q.fd, file, EPOLLIN, 0, 5, NULL));
	close(q.fd);
	eventfd_fire(file);
	ASSERT_EQ(1, ring_collect(&q, 0, &ev, 1));
	EXPECT_EQ(5, ev.cookie);
	queue_unmap(&q);
}

/* One small part of a mapping does so as well. */
TEST_F(map, page_survives_close)
{
	int file = eventfd_make();
	struct queue q;

	ASSERT_EQ(0, queue_map(&q, queue_open(2, 256)));
	ASSERT_EQ(0, add_file(q.fd, file, EPOLLIN, 0, 5, NULL));
	close(q.fd);
	munmap(q.claims, 2 * q.setup.claim_bytes);
	munmap(q.rings + 4096, 2 * q.setup.ring_bytes - 4096);
	eventfd_fire(file);
	EXPECT_EQ(1, ring_at(&q, 0)->tail);
	munmap(q.rings, 4096);
}

/* Whether a child has the page mapped: 0 no, 1 yes. */
static int child_has(char *p)
{
	unsigned char vec;
	pid_t pid = fork();

	if (!pid)
		_exit(mincore(p, 4096, &vec) == 0);
	return reap(pid);
}

/* A forked child does not inherit the mapping. */
TEST_F(map, fork)
{
	char *p = map_rings(self->fd, self->rings);
	char *c = map_claims(self->fd, self->claims);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, c);
	EXPECT_EQ(0, child_has(p));
	EXPECT_EQ(0, child_has(c));
}

/* Not after MADV_DOFORK either. */
TEST_F(map, do_fork)
{
	char *p = map_rings(self->fd, self->rings);
	char *c = map_claims(self->fd, self->claims);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, c);
	madvise(p, self->rings, MADV_DOFORK);
	madvise(c, self->claims, MADV_DOFORK);
	EXPECT_EQ(0, child_has(p));
	EXPECT_EQ(0, child_has(c));
}

/* The child may map for itself and collect. */
TEST_F(map, child_maps)
{
	pid_t pid;

	ASSERT_EQ(0, submit_nop(self->fd, 1, 1));
	pid = fork();
	if (!pid) {
		struct ukevent ev;
		struct queue q;

		_exit(queue_map(&q, self->fd) ? 1 :
		      ring_collect(&q, 0, &ev, 1) == 1 ? 0 : 2);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, get_now(self->fd));
}

/* ------------------------------------------------------------------------ */
/* Nodes */

static int has_memory(int node)
{
	char path[96], text[4096];
	unsigned long kb = 0;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo",
		 node);
	if (read_text(path, text, sizeof(text)) < 0)
		return 0;
	return sscanf(strstr(text, "MemTotal:") ?: "", "MemTotal: %lu", &kb) == 1 && kb > 0;
}

static int node_exists(int node)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	return !access(path, F_OK);
}

/* The node of each page of [p, p + size): all @node? */
static int all_on_node(char *p, size_t size, int node)
{
	size_t off;

	for (off = 0; off < size; off += 4096) {
		void *page = p + off;
		int status = -1;

		*(volatile char *)page;
		if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0))
			return -errno;
		if (status != node)
			return status < 0 ? status : 0;
	}
	return 1;
}

/*
 * move_pages(2) tells of pages that the kernel may move.  Ring memory may be
 * of another kind; then only the header and the node's own counters tell.
 */
static int ring_on_node(const struct queue *q, unsigned int i, int node)
{
	return all_on_node(q->rings + (size_t)i * q->setup.ring_bytes,
			   q->setup.ring_bytes, node);
}

static int setup_on_nodes(uint32_t *nodes, unsigned int n, unsigned int entries)
{
	struct kevent_setup s = setup_arg(n, entries);
	int fd = device_open(), error;

	s.nodes = (uintptr_t)nodes;
	error = ioc(fd, KEVENT_IOC_SETUP, &s);
	if (error >= 0)
		return fd;
	close(fd);
	return error;
}

/* Each default ring is on a node of its own that has memory. */
TEST(default_nodes)
{
	unsigned int i, k, want = 0;
	struct queue q;
	int node;

	ASSERT_EQ(0, queue_make(&q, 0, 0));
	for (i = 0; i < q.setup.nr_rings; i++) {
		EXPECT_TRUE(has_memory(ring_at(&q, i)->node));
		for (k = 0; k < i; k++)
			EXPECT_NE(ring_at(&q, k)->node, ring_at(&q, i)->node);
	}
	for (node = 0; node < 64; node++) {
		char path[96], text[256];

		snprintf(path, sizeof(path),
			 "/sys/devices/system/node/node%d/cpulist", node);
		want += read_text(path, text, sizeof(text)) > 1 &&
			has_memory(node);
	}
	EXPECT_EQ(want > KEVENT_MAX_DEFAULT_RINGS ? KEVENT_MAX_DEFAULT_RINGS :
		  want, q.setup.nr_rings);
	queue_free(&q);
}

/* A ring lies on the node that was asked for: as the header says. */
TEST(node_as_asked)
{
	uint32_t nodes[4];
	unsigned int n = 0, i;
	struct queue q;
	int node, fd;

	for (node = 0; node < 64 && n < 4; node++)
		if (has_memory(node))
			nodes[n++] = node;
	ASSERT_LT(0, n);
	fd = setup_on_nodes(nodes, n, 16);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, queue_map(&q, fd));
	for (i = 0; i < n; i++)
		EXPECT_EQ(nodes[i], ring_at(&q, i)->node);
	queue_free(&q);
}

/* ... and as move_pages(2) says. */
TEST(node_of_pages)
{
	uint32_t nodes[2];
	struct queue q;
	unsigned int i;
	int node, n = 0, fd, r;

	for (node = 63; node >= 0 && n < 2; node--)
		if (has_memory(node))
			nodes[n++] = node;
	fd = setup_on_nodes(nodes, n, 1024);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, queue_map(&q, fd));
	for (i = 0; i < n; i++) {
		r = ring_on_node(&q, i, nodes[i]);
		if (r == -EFAULT || r == -ENOENT || r == -EINVAL || r == -EEXIST)
			SKIP(goto out, "move_pages does not see this kind of memory");
		EXPECT_EQ(1, r);
	}
out:
	queue_free(&q);
}

static long free_kb(int node)
{
	char path[96], text[4096];
	long kb = -1;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo",
		 node);
	if (read_text(path, text, sizeof(text)) > 0)
		sscanf(strstr(text, "MemFree:") ?: "", "MemFree: %ld", &kb);
	return kb;
}

/* KiB that 128 MiB of rings on a node take of its free memory; LONG_MIN if one is refused. */
static long taken_by_rings(uint32_t node)
{
	long taken = free_kb(node);
	int k, n, fds[128];

	for (n = 0; n < 128; n++) {
		fds[n] = setup_on_nodes(&node, 1, KEVENT_MAX_ENTRIES);
		if (fds[n] < 0)
			break;
	}
	taken -= free_kb(node);
	for (k = 0; k < n; k++)
		close(fds[k]);
	return n == 128 ? taken : LONG_MIN;
}

/* How much of the memory CPUs keep, that is freed; by itself this grows (6.7). */
#define CPUS_KEEP "/proc/sys/vm/percpu_pagelist_high_fraction"

/* ... and as the node's free memory says, where others free some at the same time. */
TEST(node_free_memory)
{
	int node, tries, limited = !write_text(CPUS_KEEP, "1000");
	long taken;

	for (node = 0; node < 64; node++) {
		if (!has_memory(node))
			continue;
		for (taken = 0, tries = 0; tries < 5 && taken < 64 * 1024; tries++) {
			usleep(tries * 100000);
			taken = taken_by_rings(node);
			ASSERT_NE(LONG_MIN, taken);
		}
		EXPECT_LE(64 * 1024, taken);
	}
	EXPECT_EQ(0, limited ? write_text(CPUS_KEEP, "0") : 0);
}

/* A node without memory is ENODEV when named; its CPUs have another's ring. */
TEST(memoryless_node)
{
	uint32_t nodes[1];
	struct queue q;
	int node;

	for (node = 0; node < 64; node++)
		if (node_exists(node) && !has_memory(node))
			break;
	if (node == 64) {
		/* The run with --memoryless-node has one. */
		EXPECT_EQ(64, node);
		return;
	}
	nodes[0] = node;
	EXPECT_EQ(-ENODEV, setup_on_nodes(nodes, 1, 8));
	ASSERT_EQ(0, queue_make(&q, 0, 0));
	EXPECT_GT(q.setup.nr_rings, ring_at(&q, 0)->ring_of_node[node]);
	queue_free(&q);
}

#define CPUSET "/sys/fs/cgroup/kevent-test"

/* Moves the caller into a cpuset of one node; -errno where there is none. */
static int enter_cpuset(int node)
{
	char text[64];
	int r;

	mkdir(CPUSET, 0755);
	snprintf(text, sizeof(text), "%d", node);
	r = write_text(CPUSET "/cpuset.mems", text);
	if (r)
		return r;
	snprintf(text, sizeof(text), "%d", getpid());
	return write_text(CPUSET "/cgroup.procs", text);
}

static void leave_cpuset(void)
{
	char text[64];

	snprintf(text, sizeof(text), "%d", getpid());
	write_text("/sys/fs/cgroup/cgroup.procs", text);
	rmdir(CPUSET);
}

/* A caller whose cpuset has one node gets that one, and no other when named. */
TEST(cpuset)
{
	int node, first = -1, last = -1, fd, r;
	uint32_t nodes[1];
	struct queue q;

	for (node = 0; node < 64; node++)
		if (has_memory(node)) {
			first = first < 0 ? node : first;
			last = node;
		}
	if (first == last)
		SKIP(return, "one node alone has memory");
	r = enter_cpuset(last);
	if (r)
		SKIP(return, "no cpuset to be had: %s", strerror(-r));
	nodes[0] = first;
	EXPECT_EQ(-ENODEV, setup_on_nodes(nodes, 1, 8));
	nodes[0] = last;
	fd = setup_on_nodes(nodes, 1, 8);
	EXPECT_LE(0, fd);
	close(fd);
	EXPECT_EQ(0, queue_make(&q, 0, 0));
	EXPECT_EQ(1, q.setup.nr_rings);
	EXPECT_EQ(last, ring_at(&q, 0)->node);
	queue_free(&q);
	leave_cpuset();
}

/* ------------------------------------------------------------------------ */
/* Who pays */

/* As another user with a limit of locked memory; the open is its own. */
static int open_as_user(uid_t uid, rlim_t limit)
{
	struct rlimit r = { limit, limit };

	if (setrlimit(RLIMIT_MEMLOCK, &r) || chmod(KEVENT_DEVICE, 0666) ||
	    setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		return -1;
	return 0;
}

/* Beyond the limit of locked memory there is ENOMEM; closing gives it back. */
TEST(locked_memory)
{
	pid_t pid = fork();

	if (!pid) {
		int fds[64], n = 0, again;

		if (open_as_user(54321, 1 << 20))
			_exit(1);
		while (n < 64 && (fds[n] = queue_open(1, 4096)) >= 0)
			n++;
		if (n < 2 || n > 8 || fds[n] != -ENOMEM)
			_exit(2);
		close(fds[0]);
		again = EVENTUALLY((again = queue_open(1, 4096)) >= 0);
		_exit(again ? 0 : 3);
	}
	EXPECT_EQ(0, reap(pid));
}

/* Without any locked memory there is no ring. */
TEST(locked_memory_none)
{
	pid_t pid = fork();

	if (!pid) {
		if (open_as_user(54322, 0))
			_exit(1);
		_exit(queue_open(1, 1) == -ENOMEM ? 0 : 2);
	}
	EXPECT_EQ(0, reap(pid));
}

/* A failed SETUP leaves nothing charged, and may be tried with less. */
TEST(locked_memory_retry)
{
	pid_t pid = fork();

	if (!pid) {
		struct kevent_setup s = setup_arg(8, 32768);
		int i, fd;

		if (open_as_user(54323, 1 << 20))
			_exit(1);
		fd = device_open();
		for (i = 0; i < 20; i++)
			if (ioc(fd, KEVENT_IOC_SETUP, &s) != -ENOMEM)
				_exit(2);
		s = setup_arg(1, 4096);
		_exit(ioc(fd, KEVENT_IOC_SETUP, &s) ? 3 : 0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* Who opened it pays, whoever sets it up. */
TEST(locked_memory_of_opener)
{
	int fd = device_open();
	pid_t pid = fork();

	if (!pid) {
		struct kevent_setup s = setup_arg(1, 4096);

		if (open_as_user(54324, 0))
			_exit(1);
		_exit(ioc(fd, KEVENT_IOC_SETUP, &s) ? 2 : 0);
	}
	EXPECT_EQ(0, reap(pid));
	close(fd);
}

#define MEMCG "/sys/fs/cgroup/kevent-memory"

static long memcg_current(void)
{
	char text[64];

	if (read_text(MEMCG "/memory.current", text, sizeof(text)) < 0)
		return -1;
	return atol(text);
}

/* The memory cgroup is charged. */
TEST(memory_cgroup)
{
	char text[32];
	long before, after;
	int fd[8], i;

	mkdir(MEMCG, 0755);
	snprintf(text, sizeof(text), "%d", getpid());
	if (write_text(MEMCG "/cgroup.procs", text) || memcg_current() < 0)
		SKIP(return, "no memory cgroup to be had");
	before = memcg_current();
	for (i = 0; i < 8; i++)
		fd[i] = queue_open(1, 32768);
	after = memcg_current();
	for (i = 0; i < 8; i++)
		close(fd[i]);
	EXPECT_LE(7 << 20, after - before);
	write_text("/sys/fs/cgroup/cgroup.procs", text);
	EVENTUALLY(rmdir(MEMCG) == 0);
}

/*
 * It is charged for what waits in the kernel, too: requests and sources.  So many of
 * them, and on one CPU, as each CPU's stock of 64 pages is in the figure, used or not;
 * of several files, as one file has a limit of sources and requests that wait.
 */
#define REQUESTS 1600
#define SOURCES 20000

TEST(memory_cgroup_requests)
{
	int q = queue_open(1, 64), fds[2][2], i;
	long before, requests, sources;
	char text[32], byte;

	ASSERT_EQ(0, on_cpu(0, 0));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pipe(fds[i]));
	mkdir(MEMCG, 0755);
	snprintf(text, sizeof(text), "%d", getpid());
	if (write_text(MEMCG "/cgroup.procs", text) || memcg_current() < 0)
		SKIP(return, "no memory cgroup to be had");
	before = memcg_current();
	for (i = 0; i < REQUESTS; i++) {
		struct kevent_change c = {
			.op = KEVENT_OP_SUBMIT, .kind = KEVENT_KIND_READ, .fd = fds[i % 2][0],
			.addr = (uintptr_t)&byte, .len = 1,
		};

		ASSERT_EQ(0, change(q, &c));
	}
	requests = memcg_current();
	for (i = 0; i < SOURCES; i++)
		ASSERT_EQ(0, add_user(q, 0, i, NULL));
	sources = memcg_current();
	close(q);
	/* struct kev_request has some 500 bytes, the smallest source 96 */
	EXPECT_LE(REQUESTS * 256, requests - before);
	EXPECT_LE(SOURCES * 64, sources - requests);
	write_text("/sys/fs/cgroup/cgroup.procs", text);
	EVENTUALLY(rmdir(MEMCG) == 0);
}

/* A descriptor is closed by exec, as the inline function opens it too. */
TEST(close_on_exec)
{
	int fd = queue_open(1, 8);

	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	close(fd);
	fd = kevent_open();
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	close(fd);
}

/* The header's own inline functions map and collect as these tests do. */
TEST(inline_functions)
{
	struct kevent_map map;
	struct ukevent ev[4];
	int fd = kevent_open();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, kevent_map_rings(fd, &map));
	EXPECT_EQ(KEVENT_MAGIC, kevent_ring_at(&map, 0)->magic);
	EXPECT_EQ(0, kevent_ring_collect(&map, 0, ev, 4));
	ASSERT_EQ(0, submit_nop(fd, 3, 4));
	ASSERT_EQ(1, kevent_ring_collect(&map, 0, ev, 4));
	EXPECT_EQ(4, ev[0].cookie);
	EXPECT_EQ(3, ev[0].result);
	kevent_unmap_rings(&map);
	close(fd);
}

/* Load that moves and compacts memory does not move the rings. */
TEST(compaction)
{
	struct ukevent ev;
	struct queue q;
	int i;

	ASSERT_EQ(0, queue_make(&q, 2, 64));
	for (i = 0; i < 20; i++) {
		size_t size = scaled(32) << 20;
		char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
			       0);

		ASSERT_EQ(0, submit_nop_at(q.fd, i & 1, i, i, NULL));
		if (i % 5 == 0)
			write_text("/proc/sys/vm/compact_memory", "1");
		ASSERT_EQ(1, ring_collect(&q, i & 1, &ev, 1));
		ASSERT_EQ(i, ev.cookie);
		munmap(p, size);
	}
	queue_free(&q);
}

TEST_HARNESS_MAIN
