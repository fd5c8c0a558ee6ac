// SPDX-License-Identifier: GPL-2.0
/*
 * Timers: for each ring and clock a tree ordered by expiry, behind one hrtimer.
 *
 * All of it is under ring->lock.  kev_timer.base is the time of the next expiry
 * that was not yet counted; the tree holds the time at which we look, which is
 * later while an event is unclaimed.
 */
#include <linux/moduleparam.h>

#include "kev.h"

#define KEV_BACKOFF_MAX (10 * NSEC_PER_MSEC)
/* Timers that one interrupt looks at, and how long it then lets others run. */
#define KEV_EXPIRE_BATCH 128
#define KEV_EXPIRE_PAUSE (50 * NSEC_PER_USEC)

static unsigned long timer_floor_ns = 100 * NSEC_PER_USEC;
module_param(timer_floor_ns, ulong, 0644);
MODULE_PARM_DESC(timer_floor_ns, "shortest period of a timer, nanoseconds");

struct kev_timer {
	struct kev_item item; /* first: kev_value_new() and _release() */
	struct rb_node node;
	struct list_head equal; /* with the one in the tree that expires as this does */
	ktime_t expires;	/* by which the tree is ordered */
	ktime_t base;
	u64 value;  /* as given: relative ones start anew at ENABLE */
	u64 period; /* 0: one expiry */
	u32 backoff;
	u8 clock;
	u8 tree; /* where it is armed */
	bool armed;
};

static const clockid_t kev_clockids[KEV_CLOCKS] = {
	[KEV_MONOTONIC] = CLOCK_MONOTONIC,
	[KEV_BOOTTIME] = CLOCK_BOOTTIME,
	[KEV_REALTIME] = CLOCK_REALTIME,
};

static struct kev_timer *to_timer(struct kev_item *item)
{
	return container_of(item, struct kev_timer, item);
}

static struct kev_clock *kev_clock_of(struct kev_timer *t)
{
	return &t->item.ring->clocks[t->tree];
}

static ktime_t kev_now(struct kev_clock *clock)
{
	return hrtimer_cb_get_time(&clock->timer);
}

static struct kev_timer *kev_timer_at(struct rb_node *node)
{
	return rb_entry_safe(node, struct kev_timer, node);
}

static struct kev_timer *kev_timer_first(struct kev_clock *clock)
{
	return kev_timer_at(rb_first_cached(&clock->tree));
}

/*
 * Returns whether the timer is now the first of its tree.  Timeouts of one length come
 * in the order of their expiry: the last one is at hand, and has those that expire with
 * it on a list.
 */
static bool kev_timer_queue(struct kev_timer *t, ktime_t when)
{
	struct kev_clock *clock = kev_clock_of(t);
	struct rb_node **link = &clock->tree.rb_root.rb_node, *parent = clock->last;
	struct kev_timer *last = kev_timer_at(parent);
	bool first = !parent;

	t->expires = when;
	t->armed = true;
	if (last && when == last->expires) {
		RB_CLEAR_NODE(&t->node);
		list_add(&t->equal, &last->equal);
		return false;
	}
	INIT_LIST_HEAD(&t->equal);
	if (!last || when > last->expires) {
		if (parent)
			link = &parent->rb_right;
		clock->last = &t->node;
	} else {
		for (first = true; *link;) {
			parent = *link;
			if (when < kev_timer_at(parent)->expires) {
				link = &parent->rb_left;
			} else {
				link = &parent->rb_right;
				first = false;
			}
		}
	}
	rb_link_node(&t->node, parent, link);
	rb_insert_color_cached(&t->node, &clock->tree, first);
	return first;
}

static void kev_timer_unqueue(struct kev_clock *clock, struct kev_timer *t)
{
	struct kev_timer *heir;

	t->armed = false;
	if (!list_empty(&t->equal)) {
		heir = list_first_entry(&t->equal, struct kev_timer, equal);
		list_del(&t->equal);
		if (RB_EMPTY_NODE(&t->node))
			return;
		rb_replace_node_cached(&t->node, &heir->node, &clock->tree);
		if (clock->last == &t->node)
			clock->last = &heir->node;
		return;
	}
	if (clock->last == &t->node)
		clock->last = rb_prev(&t->node);
	rb_erase_cached(&t->node, &clock->tree);
}

/* Of those that expire first: one that leaves the tree alone, if there is one. */
static struct kev_timer *kev_timer_next(struct kev_clock *clock)
{
	struct kev_timer *first = kev_timer_first(clock);

	return first ? list_last_entry(&first->equal, struct kev_timer, equal) : NULL;
}

/*
 * Counts what has expired since base and says when to look again.  While the last
 * event is unclaimed that is at growing intervals: a consumer that does not
 * consume must not cost an interrupt for each period.  Returns whether it goes on.
 */
static bool kev_timer_expire(struct kev_timer *t, ktime_t now)
{
	struct kev_item *item = &t->item;
	bool waits = false;
	u64 n = 1;

	if (t->period) {
		waits = item->where != KEV_NOWHERE ||
			kev_ring_unclaimed(item->ring, item);
		n += div64_u64(ktime_to_ns(ktime_sub(now, t->base)), t->period);
		t->base = ktime_add_safe(t->base, min_t(u64, n * t->period,
							KTIME_MAX));
	}
	n = min_t(u64, n, S64_MAX - item->ev.result);
	if (unlikely(item->flags & KEV_LEVEL)) {
		item->ev.result += n;
		item->flags |= KEV_SET;
		kev_level_mark(item);
	} else {
		kev_value(item, n);
	}
	if (!t->period || item->flags & KEV_DISABLED)
		return false;
	if (waits)
		t->backoff = clamp_t(u64, 2 * (u64)t->backoff,
				     NSEC_PER_MSEC / 2, KEV_BACKOFF_MAX);
	else
		t->backoff = 0;
	kev_timer_queue(t, max(t->base, ktime_add_ns(now, t->backoff)));
	return true;
}

static enum hrtimer_restart kev_timer_fire(struct hrtimer *timer)
{
	struct kev_clock *clock = container_of(timer, struct kev_clock, timer);
	struct kev_ring *r = clock->ring;
	struct kev_user *user = r->queue->user;
	s64 pause = kev_user_overdrawn(user);
	unsigned int budget = pause ? 0 : KEV_EXPIRE_BATCH, periodic = 0;
	struct kev_timer *first;
	unsigned long flags;
	ktime_t now;

	spin_lock_irqsave(&r->lock, flags);
	now = kev_now(clock);
	while ((first = kev_timer_next(clock)) && budget-- &&
	       !ktime_after(first->expires, now)) {
		kev_timer_unqueue(clock, first);
		periodic += kev_timer_expire(first, now);
	}
	if (periodic)
		kev_user_expired(user, periodic);
	/*
	 * Set under the lock, so that an arming thread, which starts the hrtimer
	 * under it too, and we do not overwrite each other.
	 */
	if (first && !hrtimer_is_queued(timer))
		hrtimer_start(timer, max(first->expires,
					 ktime_add_ns(now, pause ?: KEV_EXPIRE_PAUSE)),
			      HRTIMER_MODE_ABS);
	spin_unlock_irqrestore(&r->lock, flags);
	return HRTIMER_NORESTART;
}

static void kev_timer_disarm(struct kev_item *item)
{
	struct kev_timer *t = to_timer(item);

	lockdep_assert_held(&item->ring->lock);
	if (t->armed)
		kev_timer_unqueue(kev_clock_of(t), t);
}

static void kev_timer_arm(struct kev_item *item)
{
	struct kev_timer *t = to_timer(item);
	struct kev_clock *clock;

	kev_timer_disarm(item);
	t->backoff = 0;
	/* Setting the clock does not move what is relative. */
	t->tree = t->clock;
	if (t->clock == KEV_REALTIME && !(item->flags & KEV_ABSTIME))
		t->tree = KEV_MONOTONIC;
	clock = kev_clock_of(t);
	if (item->flags & KEV_ABSTIME)
		t->base = ns_to_ktime(t->value);
	else
		t->base = ktime_add_safe(kev_now(clock),
					 ns_to_ktime(t->value ?: t->period));
	if (kev_timer_queue(t, t->base))
		hrtimer_start(&clock->timer, t->base, HRTIMER_MODE_ABS);
}

static int kev_timer_check(const struct kevent_change *c)
{
	if (c->events || c->value > KTIME_MAX || c->period > KTIME_MAX)
		return -EINVAL;
	if (!c->value && !c->period && !(c->flags & KEVENT_ABSTIME))
		return -EINVAL;
	return 0;
}

static void kev_timer_modify(struct kev_item *item, const struct kevent_change *c)
{
	struct kev_timer *t = to_timer(item);

	t->value = c->value;
	t->period = c->period;
	if (t->period)
		t->period = max_t(u64, t->period, READ_ONCE(timer_floor_ns));
}

static struct kev_item *kev_timer_create(struct kev_queue *q,
					 const struct kevent_change *c)
{
	struct kev_item *item;
	struct kev_timer *t;
	u8 clock;

	for (clock = 0; kev_clockids[clock] != c->fd; )
		if (++clock == KEV_CLOCKS)
			return ERR_PTR(-EINVAL);
	item = kev_value_new(q, c, sizeof(*t));
	if (IS_ERR(item))
		return item;
	t = to_timer(item);
	t->clock = clock;
	kev_timer_modify(item, c);
	return item;
}

const struct kev_kind kev_timer_kind = {
	.add_flags = KEVENT_ONESHOT | KEVENT_LEVEL | KEVENT_DISABLED |
		     KEVENT_ABSTIME,
	.check = kev_timer_check,
	.create = kev_timer_create,
	.modify = kev_timer_modify,
	.arm = kev_timer_arm,
	.disarm = kev_timer_disarm,
	.poll = kev_value_poll,
	.release = kev_value_release,
};

void kev_timer_ring_init(struct kev_ring *r)
{
	int i;

	for (i = 0; i < KEV_CLOCKS; i++) {
		r->clocks[i].ring = r;
		r->clocks[i].tree = RB_ROOT_CACHED;
		hrtimer_setup(&r->clocks[i].timer, kev_timer_fire, kev_clockids[i],
			      HRTIMER_MODE_ABS);
	}
}

/* The trees are empty: every item is gone. */
void kev_timer_ring_exit(struct kev_ring *r)
{
	int i;

	for (i = 0; i < KEV_CLOCKS; i++)
		hrtimer_cancel(&r->clocks[i].timer);
}
