// SPDX-License-Identifier: GPL-2.0
/* Changes: the table of kinds, ids, and the life of an item. */
#include <linux/log2.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kev.h"

static const struct kev_kind *const kev_kinds[] = {
	[KEVENT_KIND_FILE] = &kev_file_kind,
	[KEVENT_KIND_TIMER] = &kev_timer_kind,
	[KEVENT_KIND_USER] = &kev_user_kind,
};

const struct kev_kind *kev_kind(unsigned int kind)
{
	if (kind >= ARRAY_SIZE(kev_kinds))
		return NULL;
	return kev_kinds[array_index_nospec(kind, ARRAY_SIZE(kev_kinds))];
}

static void kev_count_sources(struct kev_ring *r, int change)
{
	lockdep_assert_held(&r->lock);
	r->sources += change;
	kev_store(&r->shared->sources, r->sources);
}

/* ADD and MODIFY: what the kinds have in common. */
static void kev_item_apply(struct kev_item *item, const struct kevent_change *c)
{
	item->ev.cookie = c->cookie;
	item->ev.flags = c->flags & KEVENT_ONESHOT ? KEVENT_EV_DISABLED : 0;
	item->flags = (item->flags & ~KEV_MODE) | (c->flags & KEV_MODE);
}

void kev_item_init(struct kev_item *item, struct kev_ring *r,
		   const struct kevent_change *c)
{
	item->ring = r;
	item->pos = READ_ONCE(r->head) - 1; /* no entry: claimed */
	item->ev.kind = c->kind;
	kev_item_apply(item, c);
}

/* The item's mode decides what becomes of @bits that were found ready. */
static void kev_item_evaluate(struct kev_item *item, __poll_t bits)
{
	lockdep_assert_held(&item->ring->lock);
	if (item->ev.kind == KEVENT_KIND_FILE) /* the mask may have changed since */
		bits &= (__force __poll_t)item->events;
	if (!bits || item->flags & (KEV_DEAD | KEV_DISABLED))
		return;
	if (item->flags & KEV_LEVEL)
		kev_level_mark(item);
	else if (item->ev.kind == KEVENT_KIND_FILE)
		kev_news_slow(item, (__force u32)bits);
	else
		kev_value_resume(item);
}

/*
 * Ends a use outside the locks, which found @bits ready.  The last user of a dead
 * item releases it.
 */
void kev_item_done(struct kev_item *item, __poll_t bits)
{
	struct kev_ring *r = item->ring;
	bool last;

	spin_lock_irq(&r->lock);
	kev_item_evaluate(item, bits);
	last = !--item->busy;
	/* A sweep that found it unready left the hint to us. */
	if (last && item->where == KEV_NOWHERE)
		kev_level_clear(item);
	last = last && item->flags & KEV_DEAD;
	spin_unlock_irq(&r->lock);
	if (last)
		kev_kind(item->ev.kind)->release(item);
}

/*
 * From here on the item posts nothing.  Returns whether the caller must release
 * it, which otherwise its last user does.
 */
bool kev_item_kill(struct kev_item *item)
{
	const struct kev_kind *kind = kev_kind(item->ev.kind);

	lockdep_assert_held(&item->ring->lock);
	item->flags |= KEV_DEAD;
	if (kind->disarm)
		kind->disarm(item);
	kev_quiet(item);
	kev_count_sources(item->ring, -1);
	return !item->busy;
}

/*
 * The table of items.  A slot is an item or, with the lowest bit set, the index of
 * the next free slot.
 */
#define KEV_SLOTS (PAGE_SIZE / sizeof(unsigned long))
#define KEV_NO_SLOT BIT(KEV_INDEX_BITS)
#define KEV_FREE_SLOT(next) ((unsigned long)(next) << 1 | 1)

static unsigned long *kev_slot(struct kev_items *t, u32 index)
{
	return &t->pages[index / KEV_SLOTS][index % KEV_SLOTS];
}

void kev_items_init(struct kev_items *t)
{
	spin_lock_init(&t->lock);
	t->free = KEV_NO_SLOT;
}

void kev_items_destroy(struct kev_items *t)
{
	while (t->size) {
		t->size -= KEV_SLOTS;
		free_page((unsigned long)t->pages[t->size / KEV_SLOTS]);
	}
	kvfree(t->pages);
}

/* Puts one more page behind the others; the list of them doubles when it is full. */
static int kev_items_extend(struct kev_items *t)
{
	unsigned long **pages = t->pages, **old = NULL, *page;
	u32 n = t->size / KEV_SLOTS, i;

	if (t->size == 1U << KEV_INDEX_BITS)
		return -ENOSPC;
	page = (unsigned long *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (!page)
		return -ENOMEM;
	if (!n || is_power_of_2(n)) {
		pages = kvmalloc_array(n ? 2 * n : 1, sizeof(*pages), GFP_KERNEL_ACCOUNT);
		if (!pages) {
			free_page((unsigned long)page);
			return -ENOMEM;
		}
		if (n)
			memcpy(pages, t->pages, n * sizeof(*pages));
		old = t->pages;
	}
	for (i = 0; i < KEV_SLOTS; i++)
		page[i] = KEV_FREE_SLOT(t->size + i + 1);
	pages[n] = page;
	spin_lock(&t->lock);
	page[KEV_SLOTS - 1] = KEV_FREE_SLOT(t->free);
	t->free = t->size;
	t->pages = pages;
	t->size += KEV_SLOTS;
	spin_unlock(&t->lock);
	kvfree(old);
	return 0;
}

static int kev_items_grow(struct kev_queue *q)
{
	bool full;
	int ret = 0;

	mutex_lock(&q->setup);
	spin_lock(&q->items.lock);
	full = q->items.free == KEV_NO_SLOT; /* nobody else was faster */
	spin_unlock(&q->items.lock);
	if (full)
		ret = kev_items_extend(&q->items);
	mutex_unlock(&q->setup);
	return ret;
}

void kev_items_erase(struct kev_items *t, struct kev_item *item)
{
	u32 index = KEV_INDEX(item->ev.id);

	lockdep_assert_held(&t->lock);
	*kev_slot(t, index) = KEV_FREE_SLOT(t->free);
	t->free = index;
}

/* What is in the table is not dead.  CONTEXT: its lock */
static __always_inline struct kev_item *kev_items_find(struct kev_items *t, u64 id)
{
	u32 index = KEV_INDEX(id);
	struct kev_item *item;
	unsigned long slot;

	if (index >= t->size)
		return NULL;
	slot = *kev_slot(t, array_index_nospec(index, t->size));
	if (slot & 1)
		return NULL;
	item = (struct kev_item *)slot;
	return item->ev.id == id ? item : NULL;
}

/* The item of that id with its ring's lock held, interrupts off; or NULL. */
static __always_inline struct kev_item *kev_item_lock(struct kev_queue *q, u64 id)
{
	struct kev_item *item;

	spin_lock(&q->items.lock);
	item = kev_items_find(&q->items, id);
	if (likely(item)) {
		spin_lock_irq(&item->ring->lock);
		__release(&item->ring->lock);
	}
	spin_unlock(&q->items.lock);
	/* Sparse follows this, if nothing is between it and the caller's test. */
	if (item)
		__acquire(&item->ring->lock);
	return item;
}

static void kev_item_unlock(struct kev_item *item)
	__releases(&item->ring->lock)
{
	spin_unlock_irq(&item->ring->lock);
}

/*
 * Of a source that is not a file: these are polled under the lock.  What was
 * gathered while it was disabled is reported.  CONTEXT: ring->lock
 */
static void kev_item_arm(struct kev_item *item)
{
	const struct kev_kind *kind = kev_kind(item->ev.kind);

	if (item->flags & KEV_DISABLED)
		return;
	if (kind->arm)
		kind->arm(item);
	if (item->flags & KEV_SET)
		kev_item_evaluate(item, EPOLLIN);
}

/*
 * Gives the item its id: its slot in the table, above it the generation.  Then it
 * can be found, and is armed, unless it has to be started.
 */
static int kev_item_insert(struct kev_queue *q, struct kev_item *item, u64 *id)
{
	struct kev_items *t = &q->items;
	struct kev_ring *r = item->ring;
	unsigned long *slot;
	int ret;

	spin_lock(&t->lock);
	while (unlikely(t->free == KEV_NO_SLOT)) {
		spin_unlock(&t->lock);
		ret = kev_items_grow(q);
		if (ret)
			return ret;
		spin_lock(&t->lock);
	}
	*id = ++t->generation << KEV_INDEX_BITS | t->free;
	slot = kev_slot(t, t->free);
	t->free = *slot >> 1;
	*slot = (unsigned long)item;
	spin_lock_irq(&r->lock);
	item->ev.id = *id;
	kev_count_sources(r, 1);
	if (!item->busy)
		kev_item_arm(item);
	spin_unlock_irq(&r->lock);
	spin_unlock(&t->lock);
	return 0;
}

/* Called with ring->lock, which it drops. */
static void kev_item_enable(struct kev_item *item)
	__releases(&item->ring->lock)
{
	if (item->ev.kind != KEVENT_KIND_FILE) {
		kev_item_arm(item);
		kev_item_unlock(item);
		return;
	}
	item->busy++;
	kev_item_unlock(item);
	/*
	 * Wakeups see the new mask before the file is polled; pairs with the
	 * barrier in kev_file_wake().
	 */
	smp_mb();
	kev_item_done(item, kev_file_kind.poll(item));
}

/* Called with the table's lock, which it drops.  Whether an entry is unclaimed. */
static bool kev_remove_item(struct kev_queue *q, struct kev_item *item)
	__releases(&q->items.lock)
{
	struct kev_ring *r = item->ring;
	bool unclaimed, last;

	/* First: once it is dead and unlocked, its last user may free it. */
	kev_items_erase(&q->items, item);
	spin_lock_irq(&r->lock);
	unclaimed = kev_ring_unclaimed(r, item);
	last = kev_item_kill(item);
	spin_unlock_irq(&r->lock);
	spin_unlock(&q->items.lock);
	if (last)
		kev_kind(item->ev.kind)->release(item);
	return unclaimed;
}

/* @must_be: the file that the source must watch, NULL for no matter. */
static long kev_remove_id(struct kev_queue *q, u64 id, struct file *must_be)
{
	struct kev_item *item;
	long ret = -ENOENT;

	spin_lock(&q->items.lock);
	item = kev_items_find(&q->items, id);
	if (item) {
		if (!must_be || kev_file_of(item) == must_be)
			return kev_remove_item(q, item) ? KEVENT_UNCLAIMED : 0;
		ret = -EBADF;
	}
	spin_unlock(&q->items.lock);
	return ret;
}

static int kev_mode_check(const struct kevent_change *c)
{
	const struct kev_kind *kind = kev_kind(c->kind);

	if (!kind || c->flags & ~kind->add_flags || c->rw_flags | c->buffer)
		return -EINVAL;
	if (c->flags & KEVENT_ONESHOT && c->flags & KEVENT_LEVEL)
		return -EINVAL;
	return kind->check(c);
}

static long kev_add(struct kev_queue *q, struct kevent_change *c)
{
	const struct kev_kind *kind = kev_kind(c->kind);
	struct kev_item *item;
	__poll_t bits = 0;
	u64 id;
	int ret = kev_mode_check(c);

	if (ret)
		return ret;
	if (c->id || !kev_ring_of(q, c->ring))
		return -EINVAL;
	item = kind->create(q, c);
	if (IS_ERR(item))
		return PTR_ERR(item);
	item->busy = !!kind->start; /* ours, until kev_item_done() */
	ret = kev_item_insert(q, item, &id);
	if (ret) {
		kind->release(item);
		return ret;
	}
	if (kind->start) {
		ret = kind->start(item, &bits);
		if (ret)
			kev_remove_id(q, id, NULL);
		kev_item_done(item, bits);
	}
	if (!ret)
		c->id = id;
	return ret;
}

static long kev_modify(struct kev_queue *q, struct kevent_change *c)
{
	const struct kev_kind *kind;
	struct kev_item *item;
	int ret = kev_mode_check(c);

	if (ret)
		return ret;
	if (c->ring || c->fd)
		return -EINVAL;
	item = kev_item_lock(q, c->id);
	if (!item)
		return -ENOENT;
	kind = kev_kind(item->ev.kind);
	if (c->kind != item->ev.kind) {
		kev_item_unlock(item);
		return -EINVAL;
	}
	if (kind->disarm)
		kind->disarm(item);
	kev_quiet(item);
	kev_item_apply(item, c);
	kind->modify(item, c);
	kev_item_enable(item);
	return 0;
}

static long kev_remove(struct kev_queue *q, struct kevent_change *c)
{
	struct file *file;
	long ret;

	if (!(c->flags & KEVENT_CLOSE_FD))
		return c->fd ? -EINVAL : kev_remove_id(q, c->id, NULL);
	file = fget(c->fd);
	if (!file)
		return -EBADF;
	/* The queue's own descriptor fails here: no source of it has that file. */
	ret = kev_remove_id(q, c->id, file);
	fput(file);
	if (ret >= 0)
		close_fd(c->fd);
	return ret;
}

static long kev_enable(struct kev_queue *q, struct kevent_change *c)
{
	struct kev_item *item = kev_item_lock(q, c->id);

	if (item) {
		item->flags &= ~KEV_DISABLED;
		kev_item_enable(item);
	}
	return item ? 0 : -ENOENT;
}

static long kev_disable(struct kev_queue *q, struct kevent_change *c)
{
	struct kev_item *item = kev_item_lock(q, c->id);
	const struct kev_kind *kind;

	if (!item)
		return -ENOENT;
	kind = kev_kind(item->ev.kind);
	item->flags |= KEV_DISABLED;
	if (kind->disarm)
		kind->disarm(item);
	if (item->ev.kind == KEVENT_KIND_FILE)
		kev_quiet(item);
	else
		kev_value_suspend(item);
	kev_item_unlock(item);
	return 0;
}

static __always_inline long kev_trigger_id(struct kev_queue *q, u64 id, u64 value,
					   u32 flags)
{
	struct kev_item *item = kev_item_lock(q, id);
	long ret = -EOPNOTSUPP;

	if (!item)
		return -ENOENT;
	if (item->ev.kind == KEVENT_KIND_USER)
		ret = kev_user_trigger(item, value, flags);
	kev_item_unlock(item);
	return ret;
}

long kev_trigger(struct kev_queue *q, u64 id, u64 value, u32 flags)
{
	return kev_trigger_id(q, id, value, flags);
}

static long kev_ack(struct kev_queue *q, struct kevent_change *c)
{
	struct kev_item *item = kev_item_lock(q, c->id);
	long ret = -EOPNOTSUPP;

	if (!item)
		return -ENOENT;
	if (item->ev.kind != KEVENT_KIND_FILE && item->flags & KEV_LEVEL) {
		kev_quiet(item);
		ret = 0;
	}
	kev_item_unlock(item);
	return ret;
}

#define KEV_USES_FD BIT(0)
#define KEV_USES_VALUE BIT(1)

/* Whether all is 0 that neither ADD, MODIFY nor SUBMIT leave to be 0. */
static __always_inline bool kev_plain(const struct kevent_change *c, u32 flags, u32 uses)
{
	u32 other = (c->flags & ~flags) | c->kind | c->ring | c->events | c->rw_flags |
		    c->buffer;
	u64 wide = c->cookie | c->period;

	if (!(uses & KEV_USES_FD))
		other |= c->fd;
	if (!(uses & KEV_USES_VALUE))
		wide |= c->value;
	return !(other | wide);
}

static long kev_change_source(struct kev_queue *q, struct kevent_change *c)
{
	switch (c->op) {
	case KEVENT_OP_ADD:
		return kev_add(q, c);
	case KEVENT_OP_MODIFY:
		return kev_modify(q, c);
	case KEVENT_OP_REMOVE:
		if (!kev_plain(c, KEVENT_CLOSE_FD, KEV_USES_FD))
			break;
		return kev_remove(q, c);
	case KEVENT_OP_ENABLE:
		return kev_plain(c, 0, 0) ? kev_enable(q, c) : -EINVAL;
	case KEVENT_OP_DISABLE:
		return kev_plain(c, 0, 0) ? kev_disable(q, c) : -EINVAL;
	case KEVENT_OP_TRIGGER:
		if (!kev_plain(c, KEVENT_NOMERGE, KEV_USES_VALUE))
			break;
		return kev_trigger_id(q, c->id, c->value, c->flags);
	case KEVENT_OP_ACK:
		return kev_plain(c, 0, 0) ? kev_ack(q, c) : -EINVAL;
	case KEVENT_OP_CANCEL:
		if (!kev_plain(c, KEVENT_CANCEL_FILE, KEV_USES_FD))
			break;
		return kev_cancel(q, c);
	}
	return -EINVAL;
}

static long kev_change_one(struct kev_submission *s, struct kevent_change *c)
{
	if (c->op == KEVENT_OP_SUBMIT) {
		if (!s->used)
			*s = (struct kev_submission){ .q = s->q, .left = s->left,
						      .used = true };
		return c->flags & ~KEVENT_LINK ? -EINVAL : kev_submit(s, c);
	}
	if (s->used) {
		/* first: closing the queue waits for them */
		kev_chain_end(s);
		kev_submission_post(s);
		kev_submission_forget(s); /* its number may name another now */
	}
	return kev_change_source(s->q, c);
}

/* Word by word: short copies are faster so than by copy_from_user(). */
static int kev_change_fetch(struct kevent_change *c, struct kevent_change __user *from)
{
	u64 __user *word = (u64 __user *)from;
	u64 *to = (u64 *)c;

	BUILD_BUG_ON(sizeof(*c) != 8 * sizeof(u64));
	if (!kev_access_begin(from, sizeof(*from)))
		return -EFAULT;
	unsafe_get_user(to[0], &word[0], fault);
	unsafe_get_user(to[1], &word[1], fault);
	unsafe_get_user(to[2], &word[2], fault);
	unsafe_get_user(to[3], &word[3], fault);
	unsafe_get_user(to[4], &word[4], fault);
	unsafe_get_user(to[5], &word[5], fault);
	unsafe_get_user(to[6], &word[6], fault);
	unsafe_get_user(to[7], &word[7], fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

static int kev_change_answer(struct kevent_change __user *to,
			     const struct kevent_change *c)
{
	if (!kev_access_begin(to, sizeof(*to)))
		return -EFAULT;
	unsafe_put_user(c->id, &to->id, fault);
	unsafe_put_user(c->result, &to->result, fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

static int kev_changes_each(struct kev_submission *s,
			    struct kevent_change __user *to, u32 *done)
{
	struct kevent_change c __uninitialized;

	for (; s->left; s->left--, to++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (kev_change_fetch(&c, to))
			return -EFAULT;
		c.result = kev_change_one(s, &c);
		if (kev_change_answer(to, &c)) {
			if (c.op == KEVENT_OP_ADD && !c.result)
				kev_remove_id(s->q, c.id, NULL);
			return -EFAULT;
		}
		++*done;
		/* A chain ends with the first entry that does not go on with it. */
		if (c.op == KEVENT_OP_SUBMIT) {
			if (c.flags & KEVENT_LINK)
				s->broken |= c.result < 0;
			else
				kev_chain_end(s);
		}
		if (need_resched())
			cond_resched();
	}
	return 0;
}

/* Returns 0 or the error that ended the array early; *@done are answered. */
long kev_changes(struct kev_queue *q, u64 changes, u32 nr, u32 *done)
{
	struct kev_submission s __uninitialized;
	struct blk_plug plug __uninitialized;
	int ret;

	s.q = q;
	s.left = nr;
	s.used = false;
	*done = 0;
	if (nr > KEVENT_MAX_CHANGES || changes & 7)
		return -EINVAL;
	if (nr > 2)
		kev_start_plug(&plug, nr);
	ret = kev_changes_each(&s, u64_to_user_ptr(changes), done);
	if (s.used)
		kev_submission_end(&s);
	if (nr > 2)
		blk_finish_plug(&plug);
	return ret;
}

/* ->release: no ioctl runs, but the scan may be removing items too. */
void kev_release_items(struct kev_queue *q)
{
	struct kev_items *t = &q->items;
	unsigned long slot;
	u32 index;

	for (index = 0; index < t->size; index++) {
		spin_lock(&t->lock);
		slot = *kev_slot(t, index);
		if (slot & 1)
			spin_unlock(&t->lock);
		else
			kev_remove_item(q, (struct kev_item *)slot);
		cond_resched();
	}
}
