// SPDX-License-Identifier: GPL-2.0
/* A node's ring: slots, the pending list, coalescing, the hint. */
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "kev.h"

/* Test only: where the positions of new rings start, to pass a wrap. */
static unsigned long long start_position;
module_param(start_position, ullong, 0644);
MODULE_PARM_DESC(start_position, "first position of new rings (test only)");

static unsigned int max_ring_requests = 65536;
module_param(max_ring_requests, uint, 0644);
MODULE_PARM_DESC(max_ring_requests, "requests in flight for each ring");

/*
 * The consumers' head, as far as it can be believed.
 *
 * Acquire: the consumer's copy of the slots is done before we reuse them; pairs
 * with the release in its claim.  The full barrier that the coalescing test
 * needs between the waker's store of readiness and this load is
 * smp_mb__after_spinlock() in kev_file_wake(); it pairs with the fence that a
 * consumer issues after its claim.
 */
u64 kev_ring_head(struct kev_ring *r)
{
	/* the copying of those who claimed is over */
	u64 head = smp_load_acquire((u64 __force *)&r->claim->head);

	lockdep_assert_held(&r->lock);
	if (head - r->head <= r->tail - r->head)
		WRITE_ONCE(r->head, head);
	return r->head;
}

/* Whether the item's newest entry is still in the ring and nobody's. */
bool kev_ring_unclaimed(struct kev_ring *r, const struct kev_item *item)
{
	/* Known to be claimed: spare the consumers' cache line. */
	if ((s64)(item->pos - r->head) < 0)
		return false;
	return (s64)(item->pos - kev_ring_head(r)) >= 0;
}

/* Unclaimed events, and those that would be in the ring had it room. */
u32 kev_ring_available(struct kev_ring *r)
{
	return r->tail - kev_ring_head(r) + r->nr_pending;
}

static bool kev_ring_room(struct kev_ring *r)
{
	return likely(r->tail - r->head <= r->mask) ||
	       r->tail - kev_ring_head(r) <= r->mask;
}

static void kev_set_pending(struct kev_ring *r, u32 n)
{
	WRITE_ONCE(r->nr_pending, n);
	if (n)
		r->attention |= KEV_BACKLOG;
	else
		r->attention &= ~KEV_BACKLOG;
	kev_store(&r->shared->pending, n);
}

static void kev_set_hint(struct kev_ring *r, u32 n)
{
	r->hint = n;
	kev_store(&r->shared->hint, n);
}

static void kev_set_stale(struct kev_ring *r, u32 n)
{
	WRITE_ONCE(r->nr_stale, n);
	kev_store(&r->shared->need_enter, n);
}

static void kev_set_requests(struct kev_ring *r, u32 n)
{
	r->requests = n;
	kev_store(&r->shared->requests, n);
}

static void kev_pend(struct kev_item *item, u8 where)
{
	struct kev_ring *r = item->ring;

	if (item->where == KEV_REPOLL) /* KEV_STALE brings it back */
		list_del(&item->node);
	item->where = where;
	list_add_tail(&item->node,
		      where == KEV_PENDING ? &r->pending : &r->merging);
	kev_set_pending(r, r->nr_pending + 1);
	r->overflowed++;
}

static void kev_list_stale(struct kev_item *item)
{
	item->where = KEV_REPOLL;
	list_add_tail(&item->node, &item->ring->repoll);
}

/* A pending item's turn has come. */
static void kev_unpend(struct kev_item *item)
{
	struct kev_ring *r = item->ring;

	list_del(&item->node);
	item->where = KEV_NOWHERE;
	kev_set_pending(r, r->nr_pending - 1);
	kev_ring_put(r, item);
	item->ev.result = 0;
	if (item->flags & KEV_ONCE) {
		kev_request_gone(item);
		return;
	}
	if (item->flags & KEV_DEAD) {
		kev_file_gone(item);
		return;
	}
	if (item->flags & KEV_STALE) {
		kev_list_stale(item);
		kev_wake_slow(r, false, item);
	}
}

/*
 * Looks at up to @budget of those that wait, and moves them into the ring: overflow
 * first, in order, then gatherers, which can move once their last entry is claimed.
 * If the ring is empty, the first of them can.
 */
void kev_ring_drain(struct kev_ring *r, unsigned int budget)
{
	struct kev_item *item, *next;

	lockdep_assert_held(&r->lock);
	list_for_each_entry_safe(item, next, &r->pending, node) {
		if (!budget-- || !kev_ring_room(r))
			return;
		kev_unpend(item);
	}
	list_for_each_entry_safe(item, next, &r->merging, node) {
		if (!budget || !budget-- || !kev_ring_room(r))
			return;
		if (kev_ring_unclaimed(r, item))
			list_move_tail(&item->node, &r->merging);
		else
			kev_unpend(item);
	}
}

/* A wakeup's share of that, with interrupts off */
#define KEV_DRAIN_POST 16

/* Whether an event may go into the ring: there is room, and nothing waits for it. */
static bool kev_ring_ready(struct kev_ring *r)
{
	lockdep_assert_held(&r->lock);
	if (unlikely(r->nr_pending))
		kev_ring_drain(r, KEV_DRAIN_POST);
	return likely(list_empty(&r->pending)) && kev_ring_room(r);
}

/* Puts the item's image into the ring if that can be done now. */
bool kev_post_now(struct kev_item *item)
{
	if (unlikely(!kev_ring_ready(item->ring)))
		return false;
	kev_ring_put(item->ring, item);
	item->ev.result = 0;
	return true;
}

static void kev_post(struct kev_item *item)
{
	if (unlikely(!kev_post_now(item)))
		kev_pend(item, KEV_PENDING);
}

/* Takes @n units of the user's limit: one for a request, one for a pinned page. */
bool kev_hold(struct kev_ring *r, u32 n)
{
	struct kev_user *user = r->queue->user;
	u32 need;

	lockdep_assert_held(&r->lock);
	if (r->credit < n) {
		need = n - r->credit;
		if (kev_user_hold(user, need + KEV_CREDIT))
			r->credit += need + KEV_CREDIT;
		else if (kev_user_hold(user, need))
			r->credit += need;
		else
			return false;
	}
	r->credit -= n;
	return true;
}

/* More than is needed soon. */
void kev_unhold_slow(struct kev_ring *r)
{
	kev_user_unhold(r->queue->user, r->credit - KEV_CREDIT);
	r->credit = KEV_CREDIT;
}

/*
 * Counts @n requests, with pages for kev_request_unlist(), until
 * kev_request_unreserve(): their events can be delivered.
 */
bool kev_request_reserve(struct kev_ring *r, u32 n)
{
	lockdep_assert_held(&r->lock);
	if (r->requests + n > READ_ONCE(max_ring_requests) ||
	    !kev_hold(r, n * (1 + KEV_SMALL_VECS)))
		return false;
	kev_set_requests(r, r->requests + n);
	return true;
}

void kev_request_unreserve(struct kev_ring *r)
{
	kev_set_requests(r, r->requests - 1);
	kev_unhold(r, 1);
}

void kev_request_gone(struct kev_item *item)
{
	kev_request_unreserve(item->ring);
	kev_request_free(item);
}

void kev_post_request(struct kev_item *item)
{
	struct kev_ring *r = item->ring;

	lockdep_assert_held(&r->lock);
	if (likely(!r->attention && r->tail - r->head <= r->mask)) {
		kev_ring_put(r, item);
		kev_request_gone(item);
		return;
	}
	if (kev_post_now(item))
		kev_request_gone(item);
	else
		kev_pend(item, KEV_PENDING);
	kev_wake(r, true);
}

/* The event of a file that was closed, whose source is gone but for its memory. */
void kev_post_last(struct kev_item *item)
{
	struct kev_ring *r = item->ring;

	lockdep_assert_held(&r->lock);
	if (kev_post_now(item))
		kev_file_gone(item);
	else
		kev_pend(item, KEV_PENDING);
	kev_wake(r, true);
}

/*
 * kev_news() for oneshot sources too, and with all that may be in the way.  While a
 * source's newest entry is unclaimed, the same bits again add nothing; new bits
 * post one more entry, with the union, so that only a source's newest entry
 * decides.  A sleeper is woken in any case: the one that was woken for the entry
 * may have died.
 */
void kev_news_slow(struct kev_item *item, u32 bits)
{
	struct kev_ring *r = item->ring;

	lockdep_assert_held(&r->lock);
	if (item->flags & KEV_ONESHOT)
		item->flags |= KEV_DISABLED;
	if (unlikely(item->where == KEV_PENDING)) {
		r->coalesced++;
		item->ev.events |= bits;
		kev_wake(r, false);
		return;
	}
	if (kev_ring_unclaimed(r, item)) {
		bits |= item->ev.events;
		if (bits == item->ev.events) {
			r->coalesced++;
			kev_wake(r, false);
			return;
		}
	}
	item->ev.events = bits;
	kev_post(item);
	kev_wake(r, true);
}

/* kev_value() with all that may be in the way. */
void kev_value_slow(struct kev_item *item, s64 value)
{
	struct kev_ring *r = item->ring;

	lockdep_assert_held(&r->lock);
	if (item->flags & KEV_LATEST)
		item->ev.result = value;
	else
		item->ev.result += value;
	item->flags &= ~KEV_SET;
	if (item->flags & KEV_ONESHOT)
		item->flags |= KEV_DISABLED;

	if (item->where == KEV_PENDING || item->where == KEV_MERGING) {
		r->coalesced++;
		kev_wake(r, false);
		return;
	}
	if (kev_ring_unclaimed(r, item))
		kev_pend(item, KEV_MERGING);
	else
		kev_post(item);
	kev_wake(r, true);
}

/* A disabled timer or user event keeps what was not yet posted. */
void kev_value_suspend(struct kev_item *item)
{
	s64 gathered = item->ev.result;
	bool has = item->flags & KEV_SET || item->where == KEV_PENDING ||
		   item->where == KEV_MERGING;

	kev_quiet(item);
	if (has) {
		item->ev.result = gathered;
		item->flags |= KEV_SET;
	}
}

void kev_value_resume(struct kev_item *item)
{
	if (item->flags & KEV_SET)
		kev_value_slow(item, item->flags & KEV_LATEST ? item->ev.result : 0);
}

/* A level source may be ready: the hint first, then whoever sleeps. */
void kev_level_mark(struct kev_item *item)
{
	struct kev_ring *r = item->ring;
	bool news = item->where != KEV_READY;

	lockdep_assert_held(&r->lock);
	item->flags |= KEV_AGAIN;
	if (!(item->flags & KEV_COUNTED)) {
		item->flags |= KEV_COUNTED;
		kev_set_hint(r, r->hint + 1);
	}
	if (news) {
		item->where = KEV_READY;
		list_add_tail(&item->node, &r->ready);
		kev_set_ready(r, r->nr_ready + 1);
	}
	kev_wake(r, news);
}

/* The source was found unready after it was unlisted, and nobody relisted it. */
void kev_level_clear(struct kev_item *item)
{
	lockdep_assert_held(&item->ring->lock);
	if (item->flags & KEV_COUNTED) {
		item->flags &= ~KEV_COUNTED;
		kev_set_hint(item->ring, item->ring->hint - 1);
	}
}

/*
 * An edge source was woken by a wakeup that does not say why: it is polled again
 * in the next getevents of a process that may do so.
 */
void kev_stale(struct kev_item *item)
{
	struct kev_ring *r = item->ring;
	bool news = !(item->flags & KEV_STALE);

	lockdep_assert_held(&r->lock);
	if (news) {
		item->flags |= KEV_STALE;
		if (item->where == KEV_NOWHERE)
			kev_list_stale(item);
		kev_set_stale(r, r->nr_stale + 1);
	}
	if (unlikely(r->attention & ~KEV_BACKLOG))
		kev_wake_slow(r, news, item);
}

/*
 * A walk over the stale sources of all processes, which lets go of the lock after
 * every KEV_STALE_STEP.  It meets each one that is there from its beginning to its
 * end; who begins it after all that he is to be woken by is in place, needs no other.
 * The cursor is an item on the list, on the walker's stack: others step over it.
 * CONTEXT: ring->lock
 */
void kev_stale_begin(struct kev_stale_walk *walk, struct kev_ring *r)
{
	lockdep_assert_held(&r->lock);
	walk->ring = r;
	walk->left = r->nr_stale;
	walk->step = 0;
	walk->cursor.where = KEV_CURSOR;
	list_add(&walk->cursor.node, &r->repoll);
}

/* CONTEXT: ring->lock, which it may drop and take again */
struct kev_item *kev_stale_next(struct kev_stale_walk *walk)
{
	struct kev_ring *r = walk->ring;
	struct list_head *cursor = &walk->cursor.node;
	struct kev_item *item;

	while (walk->left && !list_is_last(cursor, &r->repoll)) {
		if (walk->step++ == KEV_STALE_STEP) {
			walk->step = 0;
			spin_unlock_irq(&r->lock);
			cond_resched();
			spin_lock_irq(&r->lock);
			continue;
		}
		item = list_next_entry(&walk->cursor, node);
		list_move(cursor, &item->node);
		if (item->where == KEV_CURSOR)
			continue;
		walk->left--;
		return item;
	}
	return NULL;
}

/* The last one is met again. */
void kev_stale_back(struct kev_stale_walk *walk)
{
	struct list_head *cursor = &walk->cursor.node;

	list_move_tail(cursor, cursor->prev);
	walk->left++;
}

void kev_stale_end(struct kev_stale_walk *walk)
{
	lockdep_assert_held(&walk->ring->lock);
	list_del(&walk->cursor.node);
}

/* It is about to be polled. */
void kev_unstale(struct kev_item *item)
{
	lockdep_assert_held(&item->ring->lock);
	item->flags &= ~KEV_STALE;
	kev_set_stale(item->ring, item->ring->nr_stale - 1);
}

/* Takes the item off every list and forgets what it gathered. */
void kev_quiet(struct kev_item *item)
{
	struct kev_ring *r = item->ring;

	lockdep_assert_held(&r->lock);
	if (item->where != KEV_NOWHERE)
		list_del(&item->node);
	if (item->where == KEV_PENDING)
		item->ev.events = 0; /* the newest entry had fewer bits */
	if (item->where == KEV_PENDING || item->where == KEV_MERGING)
		kev_set_pending(r, r->nr_pending - 1);
	else if (item->where == KEV_READY)
		kev_set_ready(r, r->nr_ready - 1);
	if (item->flags & KEV_STALE)
		kev_unstale(item);
	kev_level_clear(item);
	item->where = KEV_NOWHERE;
	item->flags &= ~KEV_SET;
	item->ev.result = 0;
}

/* Bytes of the read-only area: the header, then the slots. */
size_t kev_ring_bytes(u32 entries)
{
	size_t slots = entries * sizeof(struct ukevent);

	if (sizeof(struct kevent_ring) + slots <= PAGE_SIZE)
		return PAGE_SIZE;
	return PAGE_SIZE + PAGE_ALIGN(slots);
}

static void kev_ring_free_pages(struct kev_ring *r)
{
	vunmap((void __force *)r->claim);
	vunmap((void __force *)r->shared);
	while (r->nr_pages)
		__free_page(r->pages[--r->nr_pages]);
	kvfree(r->pages);
}

static int kev_ring_alloc_pages(struct kev_ring *r, u32 entries)
{
	unsigned int shared = kev_ring_bytes(entries) >> PAGE_SHIFT;

	r->pages = kvmalloc_array(shared + 1, sizeof(*r->pages), GFP_KERNEL_ACCOUNT);
	if (!r->pages)
		return -ENOMEM;
	while (r->nr_pages <= shared) {
		struct page *page = alloc_pages_node(r->node,
						     GFP_KERNEL_ACCOUNT | __GFP_ZERO |
						     __GFP_THISNODE | __GFP_NOWARN, 0);

		if (!page)
			return -ENOMEM;
		r->pages[r->nr_pages++] = page;
	}
	r->shared = (struct kevent_ring __ring __force *)
		vmap(r->pages, shared, VM_MAP, PAGE_KERNEL);
	r->claim = (struct kevent_claim __ring __force *)
		vmap(r->pages + shared, 1, VM_MAP, PAGE_KERNEL);
	return r->shared && r->claim ? 0 : -ENOMEM;
}

static void kev_ring_fill_header(struct kev_ring *r, u32 entries)
{
	struct kevent_ring __ring *s = r->shared;
	u32 offset = sizeof(*s);

	if (kev_ring_bytes(entries) > PAGE_SIZE)
		offset = PAGE_SIZE;
	kev_store(&s->magic, KEVENT_MAGIC);
	kev_store(&s->header_len, (u32)sizeof(*s));
	kev_store(&s->compat, KEVENT_COMPAT);
	kev_store(&s->incompat, KEVENT_INCOMPAT);
	kev_store(&s->index, r->index);
	kev_store(&s->node, (u32)r->node);
	kev_store(&s->entries, entries);
	kev_store(&s->slots_offset, offset);
	r->slots = (u64 __ring *)((char __ring *)s + offset);

	r->head = READ_ONCE(start_position);
	r->tail = r->head;
	kev_store(&s->tail, r->tail);
	kev_store(&r->claim->head, r->head);
}

struct kev_ring *kev_ring_create(struct kev_queue *q, u32 index, int node,
				 u32 entries)
{
	struct kev_ring *r = kzalloc_node(sizeof(*r), GFP_KERNEL_ACCOUNT, node);

	if (!r)
		return NULL;
	spin_lock_init(&r->lock);
	INIT_LIST_HEAD(&r->pending);
	INIT_LIST_HEAD(&r->merging);
	INIT_LIST_HEAD(&r->ready);
	INIT_LIST_HEAD(&r->repoll);
	INIT_LIST_HEAD(&r->waiters.list);
	init_irq_work(&r->poll_work, kev_poll_work);
	/* For those who polled the queue before it was set up. */
	r->attention = KEV_POLLER;
	r->queue = q;
	r->index = index;
	r->node = node;
	r->mask = entries - 1;
	get_random_bytes(&r->seed, sizeof(r->seed));
	kev_timer_ring_init(r);
	if (kev_ring_alloc_pages(r, entries)) {
		kev_ring_free_pages(r);
		kfree(r);
		return NULL;
	}
	kev_ring_fill_header(r, entries);
	return r;
}

/* Only what found it full and has ended is left; no ioctl or callback can reach it. */
void kev_ring_destroy(struct kev_ring *r)
{
	struct kev_item *item, *next;

	kev_timer_ring_exit(r);
	irq_work_sync(&r->poll_work);
	list_for_each_entry_safe(item, next, &r->pending, node)
		if (item->flags & KEV_ONCE)
			kev_request_free(item);
		else
			kev_file_gone(item);
	kev_requests_free_spares(r);
	kev_user_unhold(r->queue->user, r->credit + r->requests);
	kev_ring_free_pages(r);
	kfree(r);
}
