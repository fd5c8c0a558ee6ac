// SPDX-License-Identifier: GPL-2.0
/*
 * Positions that wrap: rings that start just below 2^32 and 2^64, by the
 * module's parameter start_position.
 */
#include "kevent_test.h"

FIXTURE(wrap) {
	struct queue q;
	int fd;
};

FIXTURE_VARIANT(wrap) {
	uint64_t start;
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(wrap, bits_31) { (1ULL << 31) - 3, 4 };
FIXTURE_VARIANT_ADD(wrap, bits_32) { (1ULL << 32) - 3, 4 };
FIXTURE_VARIANT_ADD(wrap, bits_32_two) { (1ULL << 32) - 3, 2 };
FIXTURE_VARIANT_ADD(wrap, bits_32_one) { (1ULL << 32) - 3, 1 };
FIXTURE_VARIANT_ADD(wrap, bits_63) { (1ULL << 63) - 3, 4 };
FIXTURE_VARIANT_ADD(wrap, bits_64) { -3ULL, 4 };
FIXTURE_VARIANT_ADD(wrap, bits_64_two) { -3ULL, 2 };
FIXTURE_VARIANT_ADD(wrap, bits_64_one) { -3ULL, 1 };
FIXTURE_VARIANT_ADD(wrap, bits_64_large) { -1000ULL, 256 };

FIXTURE_SETUP(wrap)
{
	long long before = parameter_get("start_position");

	ASSERT_LE(0, before);
	ASSERT_EQ(0, parameter_set("start_position", variant->start));
	EXPECT_EQ(0, queue_make(&self->q, 1, variant->entries));
	ASSERT_EQ(0, parameter_set("start_position", before));
	self->fd = self->q.fd;
}

FIXTURE_TEARDOWN(wrap)
{
	queue_free(&self->q);
}

/* The ring starts where it was told to. */
TEST_F(wrap, start)
{
	EXPECT_EQ(variant->start, tail_of(&self->q, 0));
	EXPECT_EQ(variant->start, head_of(&self->q, 0));
	EXPECT_EQ(0, get_now(self->fd));
}

/* One event at a time, by the ioctl. */
TEST_F(wrap, ioctl)
{
	struct ukevent ev;
	int i;

	for (i = 0; i < 2000; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
		ASSERT_EQ(1, get(self->fd, &ev, 1, 1, LONG_NS));
		ASSERT_EQ(i, ev.result);
	}
	EXPECT_EQ(variant->start + 2000, tail_of(&self->q, 0));
}

/* One event at a time, from the mapped ring. */
TEST_F(wrap, mapped)
{
	struct ukevent ev[4];
	int i;

	for (i = 0; i < 2000; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
		ASSERT_EQ(0, mapped_wait(&self->q, 0, 1, NULL, 0, LONG_NS));
		ASSERT_EQ(1, ring_collect(&self->q, 0, ev, 4));
		ASSERT_EQ(i, ev[0].result);
	}
	EXPECT_EQ(variant->start + 2000, head_of(&self->q, 0));
}

/* Full rings, over and over. */
TEST_F(wrap, full)
{
	unsigned int n = variant->entries, round, i;
	struct ukevent ev[256];

	for (round = 0; round < 20; round++) {
		for (i = 0; i < n; i++) {
			ASSERT_EQ(0, submit_nop(self->fd, round, i));
		}
		ASSERT_EQ(n, ring_collect(&self->q, 0, ev, 256));
		for (i = 0; i < n; i++) {
			ASSERT_EQ(i, ev[i].cookie);
			ASSERT_EQ(round, ev[i].result);
		}
	}
}

/* A source's unclaimed event is known as such across the wrap. */
TEST_F(wrap, coalesce)
{
	int file = eventfd_make(), i, k;
	struct ukevent ev[4];

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	for (i = 0; i < 10; i++) {
		for (k = 0; k < 3; k++)
			eventfd_fire(file);
		ASSERT_EQ(1, tail_of(&self->q, 0) - head_of(&self->q, 0));
		ASSERT_EQ(1, ring_collect(&self->q, 0, ev, 4));
		eventfd_drain(file);
	}
	close(file);
}

/* Also one that lies behind others, of the other side perhaps. */
TEST_F(wrap, coalesce_behind)
{
	unsigned int n = variant->entries, round, i;
	struct ukevent ev[256];
	int file = eventfd_make();

	ASSERT_EQ(0, add_file(self->fd, file, EPOLLIN, 0, 1, NULL));
	for (round = 0; round < 10; round++) {
		for (i = 1; i < n; i++) {
			ASSERT_EQ(0, submit_nop(self->fd, i, i));
		}
		for (i = 0; i < 3; i++)
			eventfd_fire(file);
		ASSERT_EQ(0, pending_of(&self->q, 0));
		ASSERT_EQ(n, ring_collect(&self->q, 0, ev, 256));
		eventfd_drain(file);
	}
	close(file);
}

/* Pending events across the wrap keep their order. */
TEST_F(wrap, overflow)
{
	unsigned int n = variant->entries * 3 + 5, i;
	struct ukevent ev;

	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, submit_nop(self->fd, i, i));
	}
	EXPECT_EQ(n - variant->entries, pending_of(&self->q, 0));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(1, get(self->fd, &ev, 0, 1, 0));
		ASSERT_EQ(i, ev.result);
	}
	EXPECT_EQ(0, pending_of(&self->q, 0));
}

/* The sums of a user event reconcile across the wrap. */
TEST_F(wrap, sums)
{
	struct ukevent ev[4];
	int64_t sum = 0;
	uint64_t id;
	int i, n;

	ASSERT_EQ(0, add_user(self->fd, 0, 1, &id));
	for (i = 0; i < 300; i++) {
		ASSERT_EQ(0, trigger(self->fd, id, 1));
		if (i % 3)
			continue;
		n = get(self->fd, ev, 0, 1, 0);
		sum += n == 1 ? ev[0].result : 0;
	}
	while ((n = get(self->fd, ev, 0, 1, 0)) == 1)
		sum += ev[0].result;
	EXPECT_EQ(300, sum);
}

/* A head of the other side of the wrap is not believed. */
TEST_F(wrap, forged)
{
	struct ukevent ev[4];

	__atomic_store_n(head_at(&self->q, 0), variant->start + (1ULL << 32),
			 __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, submit_nop(self->fd, 7, 7));
	ASSERT_EQ(1, get(self->fd, ev, 0, 4, 0));
	EXPECT_EQ(7, ev[0].result);
}

TEST_HARNESS_MAIN
