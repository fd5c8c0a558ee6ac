// SPDX-License-Identifier: GPL-2.0
/* User events: triggered by whoever holds the queue; values add up or replace. */
#include <linux/overflow.h>
#include <linux/slab.h>

#include "kev.h"

static int kev_user_check(const struct kevent_change *c)
{
	return c->fd || c->events || c->value || c->period ? -EINVAL : 0;
}

/* A timer or user event of @size bytes that begin with the item. */
struct kev_item *kev_value_new(struct kev_queue *q, const struct kevent_change *c,
			       size_t size)
{
	struct kev_item *item;

	if (kev_user_charge(q->user))
		return ERR_PTR(-ENOSPC);
	item = kzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!item) {
		kev_user_uncharge(q->user);
		return ERR_PTR(-ENOMEM);
	}
	kev_item_init(item, kev_ring_of(q, c->ring), c);
	return item;
}

static struct kev_item *kev_user_create(struct kev_queue *q,
					const struct kevent_change *c)
{
	return kev_value_new(q, c, sizeof(struct kev_item));
}

static void kev_user_modify(struct kev_item *item, const struct kevent_change *c)
{
}

static bool kev_outstanding(struct kev_item *item)
{
	return item->where != KEV_NOWHERE || item->flags & KEV_SET ||
	       kev_ring_unclaimed(item->ring, item);
}

/* CONTEXT: ring->lock.  A disabled source reports it when it is enabled. */
long kev_user_trigger(struct kev_item *item, u64 value, u32 flags)
{
	s64 sum = value;

	if (value > S64_MAX)
		return -EINVAL;
	if (flags & KEVENT_NOMERGE && kev_outstanding(item))
		return -EAGAIN;
	if (!(item->flags & KEV_LATEST) &&
	    check_add_overflow(item->ev.result, sum, &sum))
		return -EOVERFLOW;
	if (!(item->flags & (KEV_LEVEL | KEV_DISABLED))) {
		kev_value(item, value);
		return 0;
	}
	item->ev.result = sum;
	if (item->where != KEV_PENDING && item->where != KEV_MERGING)
		item->flags |= KEV_SET;
	if (!(item->flags & KEV_DISABLED))
		kev_level_mark(item);
	return 0;
}

/* Level timers and user events are ready from their first news until ACK. */
__poll_t kev_value_poll(struct kev_item *item)
{
	return READ_ONCE(item->flags) & KEV_SET ? EPOLLIN : 0;
}

void kev_value_release(struct kev_item *item)
{
	kev_user_uncharge(item->ring->queue->user);
	kfree(item);
}

const struct kev_kind kev_user_kind = {
	.add_flags = KEVENT_ONESHOT | KEVENT_LEVEL | KEVENT_DISABLED |
		     KEVENT_LATEST,
	.check = kev_user_check,
	.create = kev_user_create,
	.modify = kev_user_modify,
	.poll = kev_value_poll,
	.release = kev_value_release,
};
