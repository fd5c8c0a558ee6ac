// SPDX-License-Identifier: GPL-2.0
/* KEVENT_IOC_SETUP and KEVENT_IOC_INFO: good and bad input. */
#include "kevent_test.h"

FIXTURE(setup) {
	int fd;
};

FIXTURE_SETUP(setup)
{
	self->fd = device_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(setup)
{
	close(self->fd);
}

static int do_setup(int fd, struct kevent_setup *s)
{
	return ioc(fd, KEVENT_IOC_SETUP, s);
}

static int do_info(int fd)
{
	struct kevent_setup s = setup_arg(0, 0);

	return ioc(fd, KEVENT_IOC_INFO, &s);
}

/* The defaults are a ring or more, and what is returned makes sense. */
TEST_F(setup, defaults)
{
	struct kevent_setup s = setup_arg(0, 0);

	ASSERT_EQ(0, do_setup(self->fd, &s));
	EXPECT_LE(1, s.nr_rings);
	EXPECT_GE(KEVENT_MAX_DEFAULT_RINGS, s.nr_rings);
	EXPECT_EQ(0, s.entries & (s.entries - 1));
	EXPECT_LT(0, s.entries);
	EXPECT_EQ(0, s.ring_bytes % sysconf(_SC_PAGESIZE));
	EXPECT_EQ(0, s.claim_bytes % sysconf(_SC_PAGESIZE));
	EXPECT_EQ(KEVENT_COMPAT, s.compat);
	EXPECT_EQ(KEVENT_INCOMPAT, s.incompat);
}

/* The default rings together fit into 64 KiB. */
TEST_F(setup, defaults_are_small)
{
	struct kevent_setup s = setup_arg(0, 0);

	ASSERT_EQ(0, do_setup(self->fd, &s));
	EXPECT_GE(65536, s.nr_rings * (s.ring_bytes + s.claim_bytes));
}

/* The slots lie inside the ring's area. */
TEST_F(setup, slots_fit)
{
	struct queue q;

	ASSERT_EQ(0, queue_make(&q, 2, 64));
	EXPECT_LE(ring_at(&q, 0)->slots_offset + 64 * sizeof(struct ukevent),
		  q.setup.ring_bytes);
	EXPECT_LE(sizeof(struct kevent_ring), ring_at(&q, 0)->slots_offset);
	queue_free(&q);
}

/* Any number of rings up to the limit can be made. */
TEST(every_ring_count)
{
	unsigned int n;

	for (n = 1; n <= KEVENT_MAX_RINGS; n++) {
		struct kevent_setup s = setup_arg(n, 1);
		int fd = device_open();

		ASSERT_EQ(0, do_setup(fd, &s));
		EXPECT_EQ(n, s.nr_rings);
		EXPECT_EQ(1, s.entries);
		close(fd);
	}
}

/* Any power of two of entries up to the limit can be made. */
TEST(every_entry_count)
{
	unsigned int n;

	for (n = 1; n <= KEVENT_MAX_ENTRIES; n *= 2) {
		struct kevent_setup s = setup_arg(1, n);
		int fd = device_open();

		ASSERT_EQ(0, do_setup(fd, &s));
		EXPECT_EQ(n, s.entries);
		EXPECT_EQ(1, s.nr_rings);
		close(fd);
	}
}

/* A second SETUP is EBUSY, and the first geometry stays. */
TEST_F(setup, twice)
{
	struct kevent_setup s = setup_arg(1, 8), info = setup_arg(0, 0);

	ASSERT_EQ(0, do_setup(self->fd, &s));
	s = setup_arg(2, 16);
	EXPECT_EQ(-EBUSY, do_setup(self->fd, &s));
	EXPECT_EQ(2, s.nr_rings);
	ASSERT_EQ(0, ioc(self->fd, KEVENT_IOC_INFO, &info));
	EXPECT_EQ(1, info.nr_rings);
	EXPECT_EQ(8, info.entries);
}

/* INFO tells what SETUP told. */
TEST_F(setup, info)
{
	struct kevent_setup s = setup_arg(3, 16), info = setup_arg(0, 0);

	ASSERT_EQ(0, do_setup(self->fd, &s));
	info.nodes = 0;
	s.nodes = 0;
	ASSERT_EQ(0, ioc(self->fd, KEVENT_IOC_INFO, &info));
	EXPECT_EQ(0, memcmp(&s, &info, sizeof(s)));
}

/* Before SETUP, INFO is EBADFD. */
TEST_F(setup, info_before)
{
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* Before SETUP, CHANGE is EBADFD. */
TEST_F(setup, change_before)
{
	struct kevent_change c = { .op = KEVENT_OP_ADD };

	EXPECT_EQ(-EBADFD, changes(self->fd, &c, 1));
	EXPECT_EQ(0, c.result);
}

/* Before SETUP, GETEVENTS is EBADFD. */
TEST_F(setup, getevents_before)
{
	struct ukevent ev;

	EXPECT_EQ(-EBADFD, get(self->fd, &ev, 0, 1, 0));
}

/* Before SETUP, mmap is EBADFD. */
TEST_F(setup, mmap_before)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, self->fd,
		       KEVENT_MMAP_RINGS);

	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EBADFD, errno);
}

/* Before SETUP, poll says EPOLLERR. */
TEST_F(setup, poll_before)
{
	struct pollfd p = { .fd = self->fd, .events = POLLIN };

	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(POLLERR, p.revents);
}

FIXTURE(bad_setup) {
	int fd;
};

FIXTURE_VARIANT(bad_setup) {
	unsigned int offset;
	unsigned int size;
	unsigned long long value;
	int error;
};

#define BAD(name, field, number, errno_)				\
	FIXTURE_VARIANT_ADD(bad_setup, name) {				\
		.offset = offsetof(struct kevent_setup, field),		\
		.size = sizeof(((struct kevent_setup *)0)->field),	\
		.value = (number),					\
		.error = (errno_),					\
	}

BAD(size_zero, size, 0, -EINVAL);
BAD(size_one_less, size, sizeof(struct kevent_setup) - 1, -EINVAL);
BAD(size_four, size, 4, -EINVAL);
BAD(flag_lowest, flags, 1, -EINVAL);
BAD(flag_highest, flags, 1U << 31, -EINVAL);
BAD(rings_too_many, nr_rings, KEVENT_MAX_RINGS + 1, -EINVAL);
BAD(rings_far_too_many, nr_rings, UINT_MAX, -EINVAL);
BAD(entries_no_power, entries, 3, -EINVAL);
BAD(entries_too_many, entries, 2 * KEVENT_MAX_ENTRIES, -EINVAL);
BAD(entries_highest, entries, 1U << 31, -EINVAL);
BAD(entries_all_ones, entries, UINT_MAX, -EINVAL);
BAD(nodes_unmapped, nodes, 4096, -EFAULT);
BAD(nodes_kernel, nodes, 0xffffffff80000000ULL, -EFAULT);
BAD(nodes_not_canonical, nodes, 0x8000000000000000ULL, -EFAULT);

FIXTURE_SETUP(bad_setup)
{
	self->fd = device_open();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(bad_setup)
{
	close(self->fd);
}

/* One wrong field: its errno, nothing written, and no queue was made. */
TEST_F(bad_setup, refused)
{
	struct kevent_setup s = setup_arg(2, 8), before;

	memcpy((char *)&s + variant->offset, &variant->value, variant->size);
	before = s;
	EXPECT_EQ(variant->error, do_setup(self->fd, &s));
	EXPECT_EQ(0, memcmp(&before, &s, sizeof(s)));
	EXPECT_EQ(-EBADFD, do_info(self->fd));
	s = setup_arg(1, 8);
	EXPECT_EQ(0, do_setup(self->fd, &s));
}

/* A longer argument whose rest is zero is taken. */
TEST_F(setup, longer_zero)
{
	struct { struct kevent_setup s; char more[8]; } a = { };

	a.s = setup_arg(1, 8);
	a.s.size = sizeof(a.s) + 1;
	EXPECT_EQ(0, do_setup(self->fd, &a.s));
}

/* A longer argument whose rest is not zero is E2BIG. */
TEST_F(setup, longer_not_zero)
{
	struct { struct kevent_setup s; char more[8]; } a = { };

	a.s = setup_arg(1, 8);
	a.s.size = sizeof(a.s) + 1;
	a.more[0] = 1;
	EXPECT_EQ(-E2BIG, do_setup(self->fd, &a.s));
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* A byte behind the argument's size is not looked at. */
TEST_F(setup, not_longer)
{
	struct { struct kevent_setup s; char more[8]; } a = { };

	a.s = setup_arg(1, 8);
	a.s.size = sizeof(a.s) + 1;
	a.more[1] = 1;
	EXPECT_EQ(0, do_setup(self->fd, &a.s));
}

/* INFO checks the size as SETUP does. */
TEST_F(setup, info_size)
{
	struct { struct kevent_setup s; char more[8]; } a = { };
	struct kevent_setup s = setup_arg(1, 8);

	ASSERT_EQ(0, do_setup(self->fd, &s));
	a.s = setup_arg(0, 0);
	a.s.size = sizeof(a.s) - 1;
	EXPECT_EQ(-EINVAL, ioc(self->fd, KEVENT_IOC_INFO, &a.s));
	a.s.size = sizeof(a.s) + 1;
	EXPECT_EQ(0, ioc(self->fd, KEVENT_IOC_INFO, &a.s));
	a.s.size = sizeof(a.s) + 1;
	a.more[0] = 1;
	EXPECT_EQ(-E2BIG, ioc(self->fd, KEVENT_IOC_INFO, &a.s));
}

/* INFO knows no flag. */
TEST_F(setup, info_flags)
{
	struct kevent_setup s = setup_arg(1, 8);

	ASSERT_EQ(0, do_setup(self->fd, &s));
	s.flags = 1;
	EXPECT_EQ(-EINVAL, ioc(self->fd, KEVENT_IOC_INFO, &s));
}

/* No argument is EFAULT. */
TEST_F(setup, null)
{
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_SETUP, NULL));
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* An argument that reaches into unmapped memory is EFAULT. */
TEST_F(setup, half_mapped)
{
	char *end = edge_of_mapping();
	struct kevent_setup s = setup_arg(1, 8);
	size_t n;

	for (n = 4; n < sizeof(s); n += 4) {
		memcpy(end - n, &s, n);
		EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_SETUP, end - n));
	}
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* An argument that cannot be written is EFAULT, and no queue was made. */
TEST_F(setup, read_only)
{
	struct kevent_setup s = setup_arg(1, 8);
	void *p = read_only_copy(&s, sizeof(s));

	ASSERT_NE(NULL, p);
	EXPECT_EQ(-EFAULT, ioc(self->fd, KEVENT_IOC_SETUP, p));
	EXPECT_EQ(0, do_setup(self->fd, &s));
}

/* An argument at an odd address works. */
TEST_F(setup, odd_address)
{
	char room[sizeof(struct kevent_setup) + 1];
	struct kevent_setup s = setup_arg(1, 8);

	memcpy(room + 1, &s, sizeof(s));
	EXPECT_EQ(0, ioc(self->fd, KEVENT_IOC_SETUP, room + 1));
}

/* Nodes can be named, more than once too. */
TEST_F(setup, nodes)
{
	uint32_t nodes[3] = { 0, 0, 0 };
	struct kevent_setup s = setup_arg(3, 8);

	s.nodes = (uintptr_t)nodes;
	EXPECT_EQ(0, do_setup(self->fd, &s));
	EXPECT_EQ(3, s.nr_rings);
	EXPECT_EQ((uintptr_t)nodes, s.nodes);
}

static int setup_on_node(int fd, uint32_t node)
{
	uint32_t nodes[2] = { 0, node };
	struct kevent_setup s = setup_arg(2, 8);

	s.nodes = (uintptr_t)nodes;
	return do_setup(fd, &s);
}

/* A node that this machine cannot have is out of range: EINVAL. */
TEST_F(setup, node_missing)
{
	EXPECT_EQ(-EINVAL, setup_on_node(self->fd, 60));
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* A node number that cannot be is EINVAL or ENODEV, and harmless. */
TEST_F(setup, node_out_of_range)
{
	static const uint32_t nodes[] = {
		KEVENT_MAX_NODES, 0x7fffffff, 0x80000000, 0xffffffff,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(nodes); i++) {
		int error = setup_on_node(self->fd, nodes[i]);

		EXPECT_TRUE(error == -EINVAL || error == -ENODEV);
	}
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* An array of nodes that is mapped in part is EFAULT. */
TEST_F(setup, nodes_half_mapped)
{
	char *end = edge_of_mapping();
	struct kevent_setup s = setup_arg(2, 8);

	s.nodes = (uintptr_t)(end - sizeof(uint32_t));
	EXPECT_EQ(-EFAULT, do_setup(self->fd, &s));
	EXPECT_EQ(-EBADFD, do_info(self->fd));
}

/* Nodes without a number of them are EINVAL. */
TEST_F(setup, nodes_without_rings)
{
	uint32_t node = 0;
	struct kevent_setup s = setup_arg(0, 8);

	s.nodes = (uintptr_t)&node;
	EXPECT_EQ(-EINVAL, do_setup(self->fd, &s));
}

/* An ioctl that there is not is ENOTTY, before and after SETUP. */
TEST_F(setup, unknown_ioctl)
{
	static const unsigned long unknown[] = {
		KEVENT_IOC_TRIGGER + 1, _IO(KEVENT_IOC_MAGIC, 255),
		_IO(KEVENT_IOC_MAGIC + 1, 0), 0, 0xffffffff,
	};
	struct kevent_setup s = setup_arg(1, 8);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++)
		EXPECT_EQ(-ENOTTY, ioc(self->fd, unknown[i], &s));
	ASSERT_EQ(0, do_setup(self->fd, &s));
	for (i = 0; i < ARRAY_SIZE(unknown); i++)
		EXPECT_EQ(-ENOTTY, ioc(self->fd, unknown[i], &s));
}

/* The queue is no file to read, write or seek. */
TEST_F(setup, no_file)
{
	char byte;

	EXPECT_EQ(-1, read(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, pread(self->fd, &byte, 1, 0));
}

static void *setup_thread(void *arg)
{
	struct kevent_setup s = setup_arg(2, 64);

	return (void *)(intptr_t)do_setup(*(int *)arg, &s);
}

/* Of several SETUPs at once, one wins and the others are EBUSY. */
TEST_F(setup, race)
{
	pthread_t t[4];
	int won, lost, round;
	unsigned int i;
	void *result;

	for (round = 0; round < (int)scaled(50); round++) {
		int fd = device_open();

		won = 0;
		lost = 0;
		for (i = 0; i < ARRAY_SIZE(t); i++)
			pthread_create(&t[i], NULL, setup_thread, &fd);
		for (i = 0; i < ARRAY_SIZE(t); i++) {
			ASSERT_EQ(0, join(t[i], &result));
			won += (intptr_t)result == 0;
			lost += (intptr_t)result == -EBUSY;
		}
		close(fd);
		ASSERT_EQ(1, won);
		ASSERT_EQ(3, lost);
	}
}

/* fdinfo can be read before and after SETUP and names every ring. */
TEST_F(setup, fdinfo)
{
	char path[64], text[8192];
	struct kevent_setup s = setup_arg(2, 8);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->fd);
	EXPECT_LT(0, read_text(path, text, sizeof(text)));
	ASSERT_EQ(0, do_setup(self->fd, &s));
	EXPECT_LT(0, read_text(path, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "ring"));
}

TEST_HARNESS_MAIN
