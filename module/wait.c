// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that sleep in getevents, and pollers of the queue.
 *
 * A waiter is on ring->waiters (under ring->lock) or, for any ring, on
 * queue->waiters (under queue->wait).  Whoever wakes it takes it off the list
 * first, so that the next news wakes the next one.  It looks at the ring's words
 * after it is on the list, under the lock that producers hold while they post:
 * there is no moment at which it can miss news.
 *
 * The list's lock covers its need and turns as well.  need is at most the least min
 * of those listed: it falls when one is listed, and rises when a walk finds nobody.
 * turns counts those listed who have their turn, so who leaves the list takes it along.
 */
#include <linux/pid.h>
#include <linux/sched/signal.h>

#include "kev.h"

static inline void kev_unlist_waiter(struct kev_waiters *waiters, struct kev_waiter *w)
{
	list_del_init(&w->node);
	waiters->turns -= w->turn;
}

/*
 * Once it sees @woken the waiter may leave, and @w with it.  Its task stays until
 * the lock is dropped: that is an RCU reader.
 */
static void kev_wake_one(struct kev_waiters *waiters, struct kev_waiter *w)
{
	struct task_struct *task = w->task;

	kev_unlist_waiter(waiters, w);
	smp_store_release(&w->woken, true); /* pairs with kev_waiter_woken() */
	wake_up_process(task);
}

/* Then nobody else looks at @w any more. */
static bool kev_waiter_woken(struct kev_waiter *w)
{
	/* pairs with kev_wake_one() */
	return smp_load_acquire(&w->woken);
}

/* Passed over too often: it wakes, and sleeps on for KEVENT_TURN_NS. */
static void kev_waiter_passed(struct kev_waiters *waiters, struct kev_waiter *w)
{
	if (++w->passes < KEVENT_PASSES)
		return;
	WRITE_ONCE(w->turn, true);
	waiters->turns++;
	wake_up_process(w->task);
}

enum kev_woke {
	KEV_NOBODY,
	KEV_WOKEN,
	KEV_WITHHELD, /* somebody has his turn */
};

static noinline u32 kev_least_min(struct kev_waiters *waiters)
{
	struct kev_waiter *w;
	u32 least = U32_MAX;

	list_for_each_entry(w, &waiters->list, node)
		least = min(least, w->min);
	return least;
}

/* Wakes the one that waits longest among those whose min is met. */
static enum kev_woke kev_wake_list(struct kev_waiters *waiters, u32 available)
{
	struct kev_waiter *w, *before;

	if (available < waiters->need)
		return waiters->turns ? KEV_WITHHELD : KEV_NOBODY;
	list_for_each_entry(w, &waiters->list, node) {
		if (available < w->min) {
			if (w->turn)
				return KEV_WITHHELD;
			continue;
		}
		list_for_each_entry(before, &waiters->list, node) {
			if (before == w)
				break;
			kev_waiter_passed(waiters, before);
		}
		kev_wake_one(waiters, w);
		return KEV_WOKEN;
	}
	waiters->need = kev_least_min(waiters);
	return KEV_NOBODY;
}

/* Whatever its min, among those that may poll the source. */
static enum kev_woke kev_wake_for_poll(struct kev_waiters *waiters, struct kev_item *stale)
{
	struct kev_waiter *w;

	list_for_each_entry(w, &waiters->list, node) {
		if (!kev_file_may_poll(stale, w->process))
			continue;
		kev_wake_one(waiters, w);
		return KEV_WOKEN;
	}
	return KEV_NOBODY;
}

/* How many events a waiter finds.  One ready level source meets any min. */
static u32 kev_wake_count(struct kev_ring *r)
{
	return r->nr_ready ? U32_MAX : kev_ring_available(r);
}

/* Other rings' words are read as they are: queue->wait orders their posters. */
static u32 kev_available_anywhere(struct kev_queue *q)
{
	u64 n = 0, head;
	u32 i;

	for (i = 0; i < q->nr_rings; i++) {
		struct kev_ring *r = q->rings[i];

		if (READ_ONCE(r->nr_ready))
			return U32_MAX;
		/* The head first: too many are better than too few. */
		head = smp_load_acquire((u64 __force *)&r->claim->head);
		n += kev_load(&r->shared->tail) - head + READ_ONCE(r->nr_pending);
	}
	return min_t(u64, n, U32_MAX);
}

/* Those who wait for this ring first, then those who wait for any. */
static enum kev_woke kev_wake_sleeper(struct kev_ring *r, struct kev_item *stale)
{
	struct kev_queue *q = r->queue;
	enum kev_woke woke = KEV_NOBODY;

	if (r->attention & KEV_SLEEPER) {
		woke = stale ? kev_wake_for_poll(&r->waiters, stale) :
			       kev_wake_list(&r->waiters, kev_wake_count(r));
		if (list_empty(&r->waiters.list))
			r->attention &= ~KEV_SLEEPER;
	}
	if (woke == KEV_NOBODY && r->attention & KEV_ANY_SLEEPER) {
		spin_lock(&q->wait);
		if (list_empty(&q->waiters.list))
			r->attention &= ~KEV_ANY_SLEEPER;
		else
			woke = stale ? kev_wake_for_poll(&q->waiters, stale) :
				       kev_wake_list(&q->waiters, kev_available_anywhere(q));
		spin_unlock(&q->wait);
	}
	r->wakeups += woke == KEV_WOKEN;
	return woke;
}

/* @stale: the source that must be polled again, NULL for events */
void kev_wake_slow(struct kev_ring *r, bool news, struct kev_item *stale)
{
	lockdep_assert_held(&r->lock);
	kev_wake_sleeper(r, stale);
	if (!news || !(r->attention & KEV_POLLER))
		return;
	/* A poller hooks itself first and then reads the words under our lock. */
	if (waitqueue_active(&r->queue->poll))
		irq_work_queue(&r->poll_work);
	else
		r->attention &= ~KEV_POLLER;
}

void kev_poll_work(struct irq_work *work)
{
	struct kev_ring *r = container_of(work, struct kev_ring, poll_work);

	wake_up_poll(&r->queue->poll, EPOLLIN | EPOLLRDNORM);
}

/* What this thread would find in @r.  CONTEXT: ring->lock, dropped and taken again */
static u32 kev_look(struct kev_ring *r)
{
	if (r->nr_pending)
		kev_ring_drain(r, KEV_DRAIN_ENTER);
	if (r->nr_ready || (r->nr_stale && kev_repoll_wanted(r)))
		return U32_MAX;
	return kev_ring_available(r);
}

/* Puts the waiter on its list, unless it is there.  CONTEXT: the list's lock */
static void kev_list(struct kev_waiters *waiters, struct kev_waiter *w)
{
	if (w->woken || !list_empty(&w->node))
		return;
	list_add_tail(&w->node, &waiters->list);
	waiters->need = min(waiters->need, w->min);
}

static u64 kev_enlist_ring(struct kev_ring *r, struct kev_waiter *w)
{
	u64 n;

	spin_lock_irq(&r->lock);
	r->attention |= KEV_SLEEPER;
	kev_list(&r->waiters, w);
	n = kev_look(r);
	spin_unlock_irq(&r->lock);
	return n;
}

/*
 * Every ring's posters are told before any ring is counted: the one that posts
 * what makes up the number either sees us or is seen.
 */
static u64 kev_enlist_any(struct kev_queue *q, struct kev_waiter *w)
{
	u64 n = 0;
	u32 i;

	spin_lock_irq(&q->wait);
	kev_list(&q->waiters, w);
	spin_unlock_irq(&q->wait);
	for (i = 0; i < q->nr_rings; i++) {
		/*
		 * Taken back only under q->wait, and while nobody is listed, so
		 * that it stays if it is there; other bits may change meanwhile.
		 */
		if (data_race(q->rings[i]->attention) & KEV_ANY_SLEEPER)
			continue;
		spin_lock_irq(&q->rings[i]->lock);
		q->rings[i]->attention |= KEV_ANY_SLEEPER;
		spin_unlock_irq(&q->rings[i]->lock);
	}
	for (i = 0; i < q->nr_rings; i++) {
		spin_lock_irq(&q->rings[i]->lock);
		n += kev_look(q->rings[i]);
		spin_unlock_irq(&q->rings[i]->lock);
	}
	return n;
}

/* Puts the waiter on its list.  Returns whether its min is met already. */
static bool kev_enlist(struct kev_queue *q, struct kev_ring *r,
		       struct kev_waiter *w)
{
	return (r ? kev_enlist_ring(r, w) : kev_enlist_any(q, w)) >= w->min;
}

static void kev_delist(struct kev_queue *q, struct kev_ring *r,
		       struct kev_waiter *w)
{
	spinlock_t *lock = r ? &r->lock : &q->wait;

	spin_lock_irq(lock);
	if (!list_empty(&w->node))
		kev_unlist_waiter(r ? &r->waiters : &q->waiters, w);
	spin_unlock_irq(lock);
}

/* Returns whether the time is over. */
static bool kev_doze(ktime_t *until)
{
	if (until)
		return !schedule_hrtimeout_range(until, current->timer_slack_ns,
						 HRTIMER_MODE_ABS);
	schedule();
	return false;
}

/* The turn is over: those behind get what is there. */
static void kev_turn_over(struct kev_queue *q, struct kev_ring *r,
			  struct kev_waiter *w)
{
	spinlock_t *lock = r ? &r->lock : &q->wait;

	spin_lock_irq(lock);
	if (!list_empty(&w->node))
		(r ? &r->waiters : &q->waiters)->turns--;
	w->turn = false;
	w->passes = 0;
	spin_unlock_irq(lock);
	kev_pass_on(q, r);
}

/* CONTEXT: ring->lock, which it may drop and take again */
static void kev_pass_on_ring(struct kev_ring *r)
{
	struct kev_stale_walk walk;
	u32 n = kev_wake_count(r);
	struct kev_item *item;

	while (n-- && kev_wake_sleeper(r, NULL) == KEV_WOKEN)
		;
	if (!r->nr_stale)
		return;
	kev_stale_begin(&walk, r);
	while (r->attention & (KEV_SLEEPER | KEV_ANY_SLEEPER) &&
	       (item = kev_stale_next(&walk)))
		kev_wake_slow(r, false, item);
	kev_stale_end(&walk);
}

/* Wakes others for what is in the ring, or in any if @r is NULL. */
void kev_pass_on(struct kev_queue *q, struct kev_ring *r)
{
	u32 i;

	for (i = 0; i < q->nr_rings; i++) {
		if (r && q->rings[i] != r)
			continue;
		spin_lock_irq(&q->rings[i]->lock);
		kev_pass_on_ring(q->rings[i]);
		spin_unlock_irq(&q->rings[i]->lock);
	}
}

/*
 * Sleeps until @min events are in @r, or in all rings if that is NULL.  A level
 * source on a ready list, or a file that this process must poll again, ends it too.
 * Returns 0, -ETIME, or -EINTR; in the latter two cases a wakeup that this thread
 * was given, or that was withheld for its turn, goes to the next one.
 */
int kev_wait(struct kev_queue *q, struct kev_ring *r, u32 min, ktime_t deadline,
	     bool infinite)
{
	struct kev_waiter w = {
		.node = LIST_HEAD_INIT(w.node),
		.task = current,
		.process = task_tgid(current),
		.min = min,
	};
	int ret = 0;

	for (;;) {
		ktime_t until = deadline;
		bool turn, timed_out;

		set_current_state(TASK_INTERRUPTIBLE);
		if (kev_enlist(q, r, &w))
			break;
		if (kev_waiter_woken(&w))
			break;
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		turn = READ_ONCE(w.turn);
		if (turn)
			until = ktime_add_ns(ktime_get(), KEVENT_TURN_NS);
		if (!infinite && ktime_after(until, deadline))
			until = deadline;
		timed_out = kev_doze(infinite && !turn ? NULL : &until);
		if (kev_waiter_woken(&w))
			break;
		if (!timed_out)
			continue;
		if (!infinite && !ktime_before(ktime_get(), deadline)) {
			ret = -ETIME;
			break;
		}
		if (turn)
			kev_turn_over(q, r, &w);
	}
	__set_current_state(TASK_RUNNING);
	if (!kev_waiter_woken(&w))
		kev_delist(q, r, &w);
	if (w.turn || (ret && w.woken))
		kev_pass_on(q, r);
	return ret;
}
