// SPDX-License-Identifier: GPL-2.0
/* Changes: the table of kinds, ids, and the life of an item. */
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
	return kind < ARRAY_SIZE(kev_kinds) ? kev_kinds[kind] : NULL;
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
	item->flags &= ~(KEV_ONESHOT | KEV_LEVEL | KEV_DISABLED | KEV_LATEST |
			 KEV_ABSTIME);
	if (c->flags & KEVENT_ONESHOT)
		item->flags |= KEV_ONESHOT;
	if (c->flags & KEVENT_LEVEL)
		item->flags |= KEV_LEVEL;
	if (c->flags & KEVENT_DISABLED)
		item->flags |= KEV_DISABLED;
	if (c->flags & KEVENT_LATEST)
		item->flags |= KEV_LATEST;
	if (c->flags & KEVENT_ABSTIME)
		item->flags |= KEV_ABSTIME;
}

void kev_item_init(struct kev_item *item, struct kev_ring *r,
		   const struct kevent_change *c)
{
	item->ring = r;
	item->pos = READ_ONCE(r->head) - 1; /* no entry: claimed */
	item->ev.kind = c->kind;
	item->busy = 1; /* the caller, until kev_item_done() */
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

/* The item of that id with its ring's lock held, interrupts off; or NULL. */
static struct kev_item *kev_item_lock(struct kev_queue *q, u64 id)
{
	struct kev_item *item;

	xa_lock(&q->items);
	item = id ? xa_load(&q->items, KEV_INDEX(id)) : NULL;
	if (item) {
		spin_lock_irq(&item->ring->lock);
		if (item->ev.id != id || item->flags & KEV_DEAD) {
			spin_unlock_irq(&item->ring->lock);
			item = NULL;
		}
	}
	xa_unlock(&q->items);
	return item;
}

static void kev_item_unlock(struct kev_item *item)
{
	spin_unlock_irq(&item->ring->lock);
}

/* Gives the item its id: its index in the table, above it the generation. */
static int kev_item_insert(struct kev_queue *q, struct kev_item *item)
{
	struct kev_ring *r = item->ring;
	u32 index;
	int ret;

	ret = xa_alloc(&q->items, &index, item,
		       XA_LIMIT(0, (1U << KEV_INDEX_BITS) - 1), GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret == -EBUSY ? -ENOSPC : ret;
	spin_lock_irq(&r->lock);
	WRITE_ONCE(item->ev.id, atomic64_inc_return(&q->generation) << KEV_INDEX_BITS |
					index);
	kev_count_sources(r, 1);
	spin_unlock_irq(&r->lock);
	return 0;
}

/* The caller has raised item->busy, and what follows ends that use. */
static void kev_item_enable(struct kev_item *item)
{
	const struct kev_kind *kind = kev_kind(item->ev.kind);
	struct kev_ring *r = item->ring;

	if (kind->arm) {
		spin_lock_irq(&r->lock);
		if (!(item->flags & (KEV_DEAD | KEV_DISABLED)))
			kind->arm(item);
		spin_unlock_irq(&r->lock);
	}
	/*
	 * Wakeups see the new mask before the file is polled; pairs with the
	 * barrier in kev_file_wake().
	 */
	smp_mb();
	kev_item_done(item, kind->poll(item));
}

/* Called with xa_lock held, which it drops.  Whether an entry is unclaimed. */
static bool kev_remove_item(struct kev_queue *q, struct kev_item *item)
	__releases(&q->items.xa_lock)
{
	struct kev_ring *r = item->ring;
	bool unclaimed, last;

	/* First: once it is dead and unlocked, its last user may free it. */
	__xa_erase(&q->items, KEV_INDEX(item->ev.id));
	spin_lock_irq(&r->lock);
	unclaimed = kev_ring_unclaimed(r, item);
	last = kev_item_kill(item);
	spin_unlock_irq(&r->lock);
	xa_unlock(&q->items);
	if (last)
		kev_kind(item->ev.kind)->release(item);
	return unclaimed;
}

/* @must_be: the file that the source must watch, NULL for no matter. */
static long kev_remove_id(struct kev_queue *q, u64 id, struct file *must_be)
{
	struct kev_item *item;
	long ret = -ENOENT;

	xa_lock(&q->items);
	item = id ? xa_load(&q->items, KEV_INDEX(id)) : NULL;
	if (item && READ_ONCE(item->ev.id) == id) {
		if (!must_be || kev_file_of(item) == must_be)
			return kev_remove_item(q, item) ? KEVENT_UNCLAIMED : 0;
		ret = -EBADF;
	}
	xa_unlock(&q->items);
	return ret;
}

static int kev_mode_check(const struct kevent_change *c)
{
	const struct kev_kind *kind = kev_kind(c->kind);

	if (!kind || c->flags & ~kind->add_flags)
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
	ret = kev_item_insert(q, item);
	if (ret) {
		kind->release(item);
		return ret;
	}
	id = item->ev.id;
	if (!kind->start) {
		kev_item_enable(item);
	} else {
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
	item->busy++;
	kev_item_unlock(item);
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
	/* A queue never watches itself, so this is never the queue's own. */
	ret = kev_remove_id(q, c->id, file);
	fput(file);
	if (ret >= 0)
		kev_close_fd(c->fd);
	return ret;
}

static long kev_enable(struct kev_queue *q, struct kevent_change *c)
{
	struct kev_item *item = kev_item_lock(q, c->id);

	if (!item)
		return -ENOENT;
	item->flags &= ~KEV_DISABLED;
	item->busy++;
	kev_item_unlock(item);
	kev_item_enable(item);
	return 0;
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

static long kev_trigger(struct kev_queue *q, struct kevent_change *c)
{
	struct kev_item *item = kev_item_lock(q, c->id);
	long ret = -EOPNOTSUPP;

	if (!item)
		return -ENOENT;
	if (item->ev.kind == KEVENT_KIND_USER)
		ret = kev_user_trigger(item, c);
	kev_item_unlock(item);
	return ret;
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

/**
 * struct kev_op - what an operation accepts
 * @change: makes the change; returns its result.  NULL: kev_submit()
 * @flags:  KEVENT_* it knows; ADD and MODIFY ask the kind
 * @fields: those of struct kevent_change beside op, id and flags that it reads
 */
struct kev_op {
	long (*change)(struct kev_queue *q, struct kevent_change *c);
	u32 flags;
	u32 fields;
};

#define KEV_F_KIND BIT(0)
#define KEV_F_COOKIE BIT(1)
#define KEV_F_RING BIT(2)
#define KEV_F_FD BIT(3)
#define KEV_F_EVENTS BIT(4)
#define KEV_F_VALUE BIT(5)
#define KEV_F_PERIOD BIT(6)
#define KEV_F_REQUEST BIT(7)

static const struct kev_op kev_ops[] = {
	[KEVENT_OP_ADD] = { kev_add, ~0U, (u32)~KEV_F_REQUEST },
	[KEVENT_OP_MODIFY] = { kev_modify, ~0U, (u32)~KEV_F_REQUEST },
	[KEVENT_OP_REMOVE] = { kev_remove, KEVENT_CLOSE_FD, KEV_F_FD },
	[KEVENT_OP_ENABLE] = { kev_enable, 0, 0 },
	[KEVENT_OP_DISABLE] = { kev_disable, 0, 0 },
	[KEVENT_OP_TRIGGER] = { kev_trigger, KEVENT_NOMERGE, KEV_F_VALUE },
	[KEVENT_OP_ACK] = { kev_ack, 0, 0 },
	[KEVENT_OP_SUBMIT] = { NULL, KEVENT_LINK, ~0U },
	[KEVENT_OP_CANCEL] = { kev_cancel, KEVENT_CANCEL_FILE, KEV_F_FD },
};

static u32 kev_fields(const struct kevent_change *c)
{
	return (c->kind ? KEV_F_KIND : 0) | (c->cookie ? KEV_F_COOKIE : 0) |
	       (c->ring ? KEV_F_RING : 0) | (c->fd ? KEV_F_FD : 0) |
	       (c->events ? KEV_F_EVENTS : 0) | (c->value ? KEV_F_VALUE : 0) |
	       (c->period ? KEV_F_PERIOD : 0) |
	       (c->rw_flags | c->buffer ? KEV_F_REQUEST : 0);
}

static long kev_change_one(struct kev_submission *s, struct kevent_change *c)
{
	const struct kev_op *op;

	if (!c->op || c->op >= ARRAY_SIZE(kev_ops))
		return -EINVAL;
	op = &kev_ops[c->op];
	if (c->flags & ~op->flags ||
	    (op->fields != ~0U && kev_fields(c) & ~op->fields))
		return -EINVAL;
	if (!op->change)
		return kev_submit(s, c);
	kev_chain_end(s); /* first: closing the queue waits for it */
	return op->change(s->q, c);
}

/* Word by word: short copies are faster so than by copy_from_user(). */
static int kev_change_fetch(struct kevent_change *c, struct kevent_change __user *from)
{
	u64 __user *word = (u64 __user *)from;
	u64 *to = (u64 *)c;

	BUILD_BUG_ON(sizeof(*c) != 8 * sizeof(u64));
	if (!user_access_begin(from, sizeof(*from)))
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
	if (!user_access_begin(to, sizeof(*to)))
		return -EFAULT;
	unsafe_put_user(c->id, &to->id, fault);
	unsafe_put_user(c->result, &to->result, fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

/* A chain ends with the first entry that does not go on with it. */
static void kev_change_link(struct kev_submission *s, const struct kevent_change *c)
{
	if (c->op == KEVENT_OP_SUBMIT && c->flags & KEVENT_LINK)
		s->broken |= c->result < 0;
	else
		kev_chain_end(s);
	if (c->op != KEVENT_OP_SUBMIT)
		kev_submission_forget(s); /* its number may name another now */
}

static int kev_changes_each(struct kev_submission *s,
			    struct kevent_change __user *to, u32 *done)
{
	struct kevent_change c;

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
		kev_change_link(s, &c);
		cond_resched();
	}
	return 0;
}

/* Returns 0 or the error that ended the array early; *@done are answered. */
long kev_changes(struct kev_queue *q, u64 changes, u32 nr, u32 *done)
{
	struct kev_submission s = { .q = q, .left = nr };
	struct blk_plug plug;
	int ret;

	*done = 0;
	if (nr > KEVENT_MAX_CHANGES || changes & 7)
		return -EINVAL;
	if (nr > 2)
		kev_start_plug(&plug, nr);
	ret = kev_changes_each(&s, u64_to_user_ptr(changes), done);
	kev_submission_end(&s);
	if (nr > 2)
		blk_finish_plug(&plug);
	return ret;
}

/* ->release: no ioctl runs, but the scan may be removing items too. */
void kev_release_items(struct kev_queue *q)
{
	struct kev_item *item;
	unsigned long index;

	xa_for_each(&q->items, index, item) {
		xa_lock(&q->items);
		item = xa_load(&q->items, index);
		if (item)
			kev_remove_item(q, item);
		else
			xa_unlock(&q->items);
		cond_resched();
	}
}
