// SPDX-License-Identifier: GPL-2.0
/*
 * KEVENT_IOC_GETEVENTS.
 *
 * Files are polled without any lock, in batches: the items are raised busy under
 * ring->lock, polled, and settled under the lock again.  Stale ones are taken off
 * their list before, and a wakeup in between lists them anew.  A sweep moves its
 * batch to the end of the list of level sources, as one piece, and takes off it what
 * was found unready and was not marked in between.  It leaves an item counted in the
 * hint until it was found unready and nobody else is polling it.
 */
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "kev.h"

#define KEV_BATCH 16
/* Claims that other consumers may win before a collection gives up. */
#define KEV_CLAIM_TRIES 64

/* One call; @ring is NULL for any. */
struct kev_call {
	struct kev_queue *q;
	struct kev_ring *ring;
	struct ukevent __user *events;
	u32 min;
	u32 max;
	u32 nr;
	bool mapped;
	bool level; /* a level event was stored */
};

struct kev_batch {
	struct kev_item *item[KEV_BATCH];
	unsigned int n;
};

/* CONTEXT: ring->lock */
static void kev_batch_take(struct kev_batch *b, struct kev_item *item)
{
	item->busy++;
	b->item[b->n++] = item;
}

static void kev_unlist(struct kev_item *item)
{
	list_del(&item->node);
	item->where = KEV_NOWHERE;
}

/* A file whose poll may take long is polled alone: others do not wait for it. */
static bool kev_batch_open(const struct kev_batch *b, const struct kev_item *item)
{
	if (!b->n)
		return true;
	return b->n < KEV_BATCH && !((b->item[0]->flags | item->flags) & KEV_SLEEPY);
}

/*
 * The files that this process may poll, out of those woken without a key.
 * CONTEXT: ring->lock, which it may drop and take again
 */
static void kev_take_stale(struct kev_stale_walk *walk, struct kev_batch *b)
{
	struct kev_item *item;

	b->n = 0;
	while ((item = kev_stale_next(walk))) {
		if (!kev_file_may_poll(item, task_tgid(current)))
			continue;
		if (!kev_batch_open(b, item)) {
			kev_stale_back(walk);
			break;
		}
		kev_unlist(item);
		kev_batch_take(b, item);
		kev_unstale(item);
	}
}

static void kev_repoll(struct kev_ring *r)
{
	struct kev_stale_walk walk;
	struct kev_batch b;
	unsigned int i;

	spin_lock_irq(&r->lock);
	kev_stale_begin(&walk, r);
	for (;;) {
		kev_take_stale(&walk, &b);
		if (!b.n)
			break;
		spin_unlock_irq(&r->lock);
		/*
		 * The mark was cleared, under the lock, before the file is polled: a
		 * wakeup that this poll misses takes the lock later, and marks it
		 * again.
		 */
		for (i = 0; i < b.n; i++)
			kev_item_done(b.item[i], kev_file_kind.poll(b.item[i]));
		cond_resched();
		spin_lock_irq(&r->lock);
	}
	kev_stale_end(&walk);
	spin_unlock_irq(&r->lock);
}

/*
 * Whether there is a file that this process must poll.  What becomes one after the
 * call wakes the caller, who is where such wakeups look.
 * CONTEXT: ring->lock, which it may drop and take again
 */
bool kev_repoll_wanted(struct kev_ring *r)
{
	struct kev_stale_walk walk;
	struct kev_item *item;

	kev_stale_begin(&walk, r);
	do
		item = kev_stale_next(&walk);
	while (item && !kev_file_may_poll(item, task_tgid(current)));
	kev_stale_end(&walk);
	return item;
}

/* Unready, and not marked since it was taken: it leaves the list, and the hint. */
static void kev_settle_unready(struct kev_item *item)
{
	if (item->where == KEV_READY && !(item->flags & KEV_AGAIN)) {
		kev_unlist(item);
		kev_set_ready(item->ring, item->ring->nr_ready - 1);
	}
	if (item->where == KEV_NOWHERE && !item->busy)
		kev_level_clear(item);
}

/* Returns whether the item is ready: then it is on the list, and in @ev. */
static bool kev_settle(struct kev_item *item, __poll_t bits, struct ukevent *ev)
{
	bool file = item->ev.kind == KEVENT_KIND_FILE;

	item->busy--;
	if ((item->flags & (KEV_DEAD | KEV_DISABLED | KEV_LEVEL)) != KEV_LEVEL)
		return false;
	/* An ACK or a new mask may have come since. */
	if (likely(file))
		bits &= (__force __poll_t)item->events;
	else
		bits = kev_value_poll(item);
	if (!bits) {
		kev_settle_unready(item);
		return false;
	}
	ev->cookie = item->ev.cookie;
	ev->id = item->ev.id;
	ev->events = file ? (__force u32)bits : item->ev.events;
	ev->kind = item->ev.kind;
	ev->flags = item->ev.flags | KEVENT_EV_LEVEL;
	ev->result = item->ev.result;
	/* Who else polls it may have done so earlier: what that one found is old. */
	if (unlikely(item->where != KEV_READY || item->busy ||
		     item->ring->attention & ~KEV_BACKLOG))
		kev_level_mark(item);
	return true;
}

/* What is ready of each; nearly all are files. */
static void kev_poll_each(const struct kev_batch *b, __poll_t *bits)
{
	poll_table table;
	unsigned int i;

	init_poll_funcptr(&table, NULL);
	for (i = 0; i < b->n; i++) {
		struct kev_item *item = b->item[i];

		if (unlikely(item->ev.kind != KEVENT_KIND_FILE)) {
			bits[i] = 0; /* kev_settle() looks, under the lock */
			continue;
		}
		table._key = (__force __poll_t)READ_ONCE(item->events);
		bits[i] = vfs_poll(container_of(item, struct kev_file, item)->file,
				   &table);
	}
}

/* Polls a batch.  Returns how many were ready. */
static unsigned int kev_poll_batch(struct kev_ring *r, struct kev_batch *b,
				   struct ukevent *ev)
{
	unsigned int i, n = 0, gone = 0;
	__poll_t bits[KEV_BATCH];

	kev_poll_each(b, bits);
	spin_lock_irq(&r->lock);
	for (i = 0; i < b->n; i++) {
		struct kev_item *item = b->item[i];

		n += kev_settle(item, bits[i], &ev[n]);
		if (unlikely(item->flags & KEV_DEAD) && !item->busy)
			b->item[gone++] = item;
	}
	r->swept += n;
	spin_unlock_irq(&r->lock);
	while (gone--)
		kev_kind(b->item[gone]->ev.kind)->release(b->item[gone]);
	return n;
}

/*
 * The next of the level sources.  They go to the end of the list; what is polled alone
 * leaves it meanwhile, so that others do not wait for it.
 */
static void kev_take_ready(struct kev_ring *r, struct kev_batch *b, u32 max)
{
	struct kev_item *item;

	b->n = 0;
	spin_lock_irq(&r->lock);
	list_for_each_entry(item, &r->ready, node) {
		if (b->n == max || !kev_batch_open(b, item))
			break;
		item->flags &= ~KEV_AGAIN;
		kev_batch_take(b, item);
	}
	if (b->n && b->item[0]->flags & KEV_SLEEPY) {
		kev_unlist(b->item[0]);
		kev_set_ready(r, r->nr_ready - 1);
	} else if (b->n) {
		list_bulk_move_tail(&r->ready, &b->item[0]->node,
				    &b->item[b->n - 1]->node);
	}
	spin_unlock_irq(&r->lock);
}

static int kev_store_swept(struct ukevent __user *to, const struct ukevent *ev, u32 n)
{
	u64 __user *out = (u64 __user *)to;
	const u64 *word = (const u64 *)ev, *end = word + n * 4;

	if (!kev_access_begin(to, n * sizeof(*to)))
		return -EFAULT;
	for (; word < end; word += 4, out += 4) {
		unsafe_put_user(word[0], &out[0], fault);
		unsafe_put_user(word[1], &out[1], fault);
		unsafe_put_user(word[2], &out[2], fault);
		unsafe_put_user(word[3], &out[3], fault);
	}
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

/*
 * Level sources, each at most once: those that were listed at the start, in turn.
 * Each is on the list when it is stored, so that a fault loses nothing.
 */
static int kev_sweep(struct kev_ring *r, struct kev_call *call, u32 room)
{
	u32 budget = READ_ONCE(r->nr_ready), n;
	struct ukevent ev[KEV_BATCH] __uninitialized;
	struct kev_batch b __uninitialized;

	while (budget && room) {
		kev_take_ready(r, &b, min(budget, room));
		if (!b.n)
			break;
		budget -= b.n;
		n = kev_poll_batch(r, &b, ev);
		if (n && kev_store_swept(call->events + call->nr, ev, n))
			return -EFAULT;
		call->nr += n;
		call->level |= n;
		room -= n;
		cond_resched();
	}
	return 0;
}

/* Copies slots to the caller.  Returns how many were stored before a fault. */
static u32 kev_store_events(struct kev_ring *r, u64 head, u32 n,
			    struct ukevent __user *to)
{
	u64 __user *out = (u64 __user *)to;
	u32 i = 0;

	if (!kev_access_begin(to, n * sizeof(*to)))
		return 0;
	for (; i < n; i++, out += 4) {
		u64 __ring *slot = r->slots + ((head + i) & r->mask) * 4;

		unsafe_put_user(kev_load(&slot[0]), &out[0], fault);
		unsafe_put_user(kev_load(&slot[1]), &out[1], fault);
		unsafe_put_user(kev_load(&slot[2]), &out[2], fault);
		unsafe_put_user(kev_load(&slot[3]), &out[3], fault);
	}
fault:
	user_access_end();
	return i;
}

/* What is unclaimed now, from *@head on. */
static u32 kev_ring_snapshot(struct kev_ring *r, u64 *head)
{
	u32 n;

	spin_lock_irq(&r->lock);
	if (r->nr_pending)
		kev_ring_drain(r, KEV_DRAIN_ENTER);
	*head = kev_ring_head(r);
	n = r->tail - *head;
	spin_unlock_irq(&r->lock);
	return n;
}

/* A head that cannot be true would make every claim fail. */
static void kev_ring_heal(struct kev_ring *r)
{
	u64 head;

	spin_lock_irq(&r->lock);
	head = kev_load(&r->claim->head);
	if (head - r->head > r->tail - r->head)
		cmpxchg64((u64 __force *)&r->claim->head, head, r->head);
	spin_unlock_irq(&r->lock);
}

/*
 * Takes events as any consumer does: copy, then claim.  A fault ends the copy, and
 * what was not stored stays in the ring.  Goes on while events wait for room.
 */
static int kev_collect_ring(struct kev_ring *r, struct kev_call *call, u32 room)
{
	unsigned int tries = KEV_CLAIM_TRIES;
	u64 head;
	u32 n;

	while (room && tries) {
		n = min(kev_ring_snapshot(r, &head), room);
		if (!n)
			return 0;
		n = kev_store_events(r, head, n, call->events + call->nr);
		if (!n)
			return -EFAULT;
		if (cmpxchg64((u64 __force *)&r->claim->head, head, head + n) != head) {
			kev_ring_heal(r);
			tries--;
			continue;
		}
		atomic64_add(n, &r->collected);
		call->nr += n;
		room -= n;
		if (!READ_ONCE(r->nr_pending))
			return 0;
		cond_resched();
	}
	return 0;
}

/* Ring and level events share the room; the odd one goes to each in turn. */
static int kev_gather_both(struct kev_ring *r, struct kev_call *call)
{
	u32 room = call->max - call->nr;
	u32 share = room;
	int ret;

	if (READ_ONCE(r->nr_ready)) {
		share = (room + READ_ONCE(r->level_turn)) / 2;
		WRITE_ONCE(r->level_turn, !r->level_turn);
	}
	ret = kev_collect_ring(r, call, share);
	if (!ret && READ_ONCE(r->nr_ready))
		ret = kev_sweep(r, call, call->max - call->nr);
	if (!ret && share < room)
		ret = kev_collect_ring(r, call, call->max - call->nr);
	return ret;
}

static int kev_gather_ring(struct kev_ring *r, struct kev_call *call)
{
	u64 head;

	if (READ_ONCE(r->nr_stale))
		kev_repoll(r);
	if (!call->mapped)
		return kev_gather_both(r, call);
	if (READ_ONCE(r->nr_pending))
		kev_ring_snapshot(r, &head);
	if (!READ_ONCE(r->nr_ready))
		return 0;
	return kev_sweep(r, call, call->max - call->nr);
}

/* From any ring: each call begins with another one. */
static int kev_gather(struct kev_call *call)
{
	struct kev_queue *q = call->q;
	u32 i, first;
	int ret = 0;

	if (call->ring)
		return kev_gather_ring(call->ring, call);
	first = READ_ONCE(q->next);
	WRITE_ONCE(q->next, first + 1); /* two calls may begin with the same */
	for (i = 0; i < q->nr_rings && !ret; i++)
		ret = kev_gather_ring(q->rings[(first + i) % q->nr_rings], call);
	return ret;
}

/* Words that can be true need no lock, which who woke us may still hold. */
static u64 kev_unclaimed(struct kev_call *call, struct kev_ring *r)
{
	u64 n;

	if (READ_ONCE(r->nr_ready) && !call->max)
		return U32_MAX;
	/* head before tail, or it may seem to be past it */
	n = smp_load_acquire((u64 __force *)&r->claim->head);
	n = READ_ONCE(r->tail) - n;
	if (likely(n - 1 <= r->mask && !READ_ONCE(r->nr_pending)))
		return n;
	spin_lock_irq(&r->lock);
	n = kev_ring_available(r);
	spin_unlock_irq(&r->lock);
	return n;
}

static bool kev_stored(const struct kev_call *call, u32 min)
{
	return call->level || call->nr >= min;
}

/* Whether the call has what it waits for. */
static bool kev_satisfied(struct kev_call *call, u32 min)
{
	struct kev_queue *q = call->q;
	u64 n = call->nr;
	u32 i;

	if (kev_stored(call, min))
		return true;
	if (!call->mapped)
		return false;
	if (call->ring)
		return n + kev_unclaimed(call, call->ring) >= min;
	for (i = 0; i < q->nr_rings; i++)
		n += kev_unclaimed(call, q->rings[i]);
	return n >= min;
}

/* Two stages where min_wait is given: min events, then one. */
struct kev_deadline {
	ktime_t first;
	ktime_t last;
	bool two;
	bool infinite;
};

static struct kev_deadline kev_deadline(const struct kevent_get *arg)
{
	struct kev_deadline d = { .infinite = arg->timeout == -1 };
	ktime_t now;

	if (d.infinite && !arg->min_wait)
		return d;
	now = ktime_get();
	if (arg->flags & KEVENT_GET_ABSTIME)
		d.last = ns_to_ktime(arg->timeout);
	else if (!d.infinite)
		d.last = ktime_add_safe(now, ns_to_ktime(arg->timeout));
	if (arg->min_wait) {
		d.first = ktime_add_safe(now, ns_to_ktime(arg->min_wait));
		d.two = d.infinite || ktime_before(d.first, d.last);
	}
	return d;
}

static int kev_sleep(struct kev_call *call, u32 *min, struct kev_deadline *d)
{
	u32 need = *min - (call->mapped ? 0 : call->nr);
	int ret;

	if (!d->two)
		return kev_wait(call->q, call->ring, need, d->last, d->infinite);
	ret = kev_wait(call->q, call->ring, need, d->first, false);
	if (ret != -ETIME)
		return ret;
	d->two = false;
	*min = 1;
	return 0;
}

static int kev_collect(struct kev_call *call, const struct kevent_get *arg)
{
	struct kev_deadline d;
	u32 min = call->min;
	bool slept = false;
	int ret, end = 0;

	for (;;) {
		ret = kev_gather(call);
		if (ret || end || !arg->timeout)
			break;
		if (slept ? kev_satisfied(call, min) : kev_stored(call, min))
			break;
		if (!slept) {
			d = kev_deadline(arg); /* kev_wait() looks at the rings */
		} else {
			kev_pass_on(call->q, call->ring); /* not for us */
			if (signal_pending(current))
				end = -EINTR;
			else if (!d.infinite && !ktime_before(ktime_get(), d.last))
				end = -ETIME;
			cond_resched();
		}
		slept = true;
		/* After the end: what came in the meantime is a partial result. */
		if (!end)
			end = kev_sleep(call, &min, &d);
	}
	if (ret && slept)
		kev_pass_on(call->q, call->ring);
	if (call->nr || ret)
		return call->nr ? 0 : ret;
	if (end == -EINTR && call->mapped && kev_satisfied(call, 1))
		return 0;
	return end == -ETIME ? 0 : end;
}

/*
 * set_user_sigmask() is not exported.  After an interrupted wait the old mask is
 * restored on the way to user space, once the signal was delivered.
 */
static int kev_collect_masked(struct kev_call *call, const struct kevent_get *arg)
{
	sigset_t mask, old;
	int ret;

	if (!arg->sigmask)
		return kev_collect(call, arg);
	if (copy_from_user(&mask, u64_to_user_ptr(arg->sigmask), sizeof(mask)))
		return -EFAULT;
	sigdelsetmask(&mask, sigmask(SIGKILL) | sigmask(SIGSTOP));
	sigprocmask(SIG_SETMASK, &mask, &old);
	ret = kev_collect(call, arg);
	if (ret == -EINTR) {
		current->saved_sigmask = old;
		set_restore_sigmask();
	} else {
		sigprocmask(SIG_SETMASK, &old, NULL);
	}
	return ret;
}

static int kev_get_check(struct kev_queue *q, const struct kevent_get *arg)
{
	bool mapped = arg->flags & KEVENT_GET_MAPPED;

	if (arg->flags & ~(KEVENT_GET_MAPPED | KEVENT_GET_ABSTIME) || arg->pad)
		return -EINVAL;
	if (arg->events & 7 || arg->timeout < -1)
		return -EINVAL;
	if (arg->min > (mapped ? q->geometry.entries : arg->max))
		return -EINVAL;
	if (arg->min_wait > KTIME_MAX)
		return -EINVAL;
	if (arg->sigsetsize != (arg->sigmask ? sizeof(sigset_t) : 0))
		return -EINVAL;
	return arg->nr_changes > KEVENT_MAX_CHANGES || arg->changes & 7 ? -EINVAL : 0;
}

/* arg->nr and arg->changes_done are valid whatever is returned. */
long kev_getevents(struct kev_queue *q, struct kevent_get *arg)
{
	struct kev_call call = { .q = q };
	long ret = kev_get_check(q, arg);

	arg->nr = 0;
	arg->changes_done = 0;
	if (ret)
		return ret;
	if (arg->ring != KEVENT_RING_ANY) {
		call.ring = kev_ring_of(q, arg->ring);
		if (!call.ring)
			return -EINVAL;
	}
	if (arg->nr_changes) {
		ret = kev_changes(q, arg->changes, arg->nr_changes,
				  &arg->changes_done);
		if (ret)
			return ret;
	}
	call.events = u64_to_user_ptr(arg->events);
	call.min = arg->min;
	call.max = min_t(u32, arg->max, INT_MAX);
	call.mapped = arg->flags & KEVENT_GET_MAPPED;
	ret = kev_collect_masked(&call, arg);
	arg->nr = call.nr;
	return ret ?: call.nr;
}
