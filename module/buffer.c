// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of user memory that are pinned: for one request, or in a registered buffer
 * for many.
 *
 * A registered buffer has a reference from its place in queue->buffers and one from
 * each request that uses it.  It is freed after a grace period of RCU, for those who
 * just look it up: by the ioctl, if that let go of the last, else by a work item, for
 * which ->release waits.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kev.h"

#define KEV_BUFFER_MAX SZ_1G

/*
 * Adds pieces, one for each page, to @vecs, which has room and *@nr of them.  Returns
 * how many bytes were pinned; fewer before a bad address.  The addresses of the pages
 * lie in the latter half of the pieces that are made of them.
 */
size_t kev_pin(struct bio_vec *vecs, u32 *nr, unsigned long start, size_t len,
	       unsigned int gup)
{
	size_t done = 0;
	int got, n, i;

	do {
		struct bio_vec *v = vecs + *nr;
		struct page **pages;

		n = min_t(u32, kev_pages_of(start, len - done), KEV_PIN_BATCH);
		pages = (struct page **)v + n;
		BUILD_BUG_ON(sizeof(*v) != 2 * sizeof(*pages));
		got = pin_user_pages_fast(start & PAGE_MASK, n, gup, pages);
		for (i = 0; i < got; i++, v++) {
			v->bv_page = pages[i];
			v->bv_offset = offset_in_page(start);
			v->bv_len = min_t(size_t, PAGE_SIZE - v->bv_offset, len - done);
			start += v->bv_len;
			done += v->bv_len;
		}
		*nr += i;
		cond_resched();
	} while (i == n && done < len);
	return done;
}

/* --- registered buffers --- */

static void kev_buffer_free(struct kev_buffer *b)
{
	struct kev_queue *q = b->q;

	kev_mark_dirty(b->vecs, b->nr);
	kev_unpin(b->vecs, b->nr, true);
	kev_uncharge_locked(q, kev_pages_of(b->start, b->len));
	kvfree(b);
	spin_lock_irq(&q->owners_lock);
	if (!--q->nr_buffers)
		wake_up_all(&q->drain);
	spin_unlock_irq(&q->owners_lock);
}

static void kev_buffer_work(struct work_struct *work)
{
	kev_buffer_free(container_of(to_rcu_work(work), struct kev_buffer, work));
}

/* CONTEXT: any */
void kev_buffer_put(struct kev_buffer *b)
{
	if (b && refcount_dec_and_test(&b->refs))
		queue_rcu_work(system_dfl_wq, &b->work);
}

/* The registered buffer @number with a reference, or NULL. */
struct kev_buffer *kev_buffer_get(struct kev_queue *q, u32 number)
{
	struct kev_buffer *b;

	rcu_read_lock();
	b = xa_load(&q->buffers, number);
	if (b && !refcount_inc_not_zero(&b->refs))
		b = NULL;
	rcu_read_unlock();
	return b;
}

/* A page cache must not be written behind its back for long. */
static bool kev_may_stay(const struct kev_buffer *b)
{
	u32 i;

	for (i = 0; i < b->nr; i++)
		if (kev_file_page(b->vecs[i].bv_page))
			return false;
	return true;
}

static struct kev_buffer *kev_buffer_make(struct kev_queue *q,
					  const struct kevent_buffer *from)
{
	u32 pages = kev_pages_of(from->addr, from->len);
	struct kev_buffer *b;
	int ret;

	ret = kev_charge_locked(q, pages);
	if (ret)
		return ERR_PTR(ret);
	b = kvzalloc(struct_size(b, vecs, pages), GFP_KERNEL_ACCOUNT);
	if (!b) {
		kev_uncharge_locked(q, pages);
		return ERR_PTR(-ENOMEM);
	}
	WRITE_ONCE(kev_outlived, true);
	spin_lock_irq(&q->owners_lock);
	q->nr_buffers++;
	spin_unlock_irq(&q->owners_lock);
	b->q = q;
	b->start = from->addr;
	b->len = from->len;
	refcount_set(&b->refs, 1);
	INIT_RCU_WORK(&b->work, kev_buffer_work);
	if (kev_pin(b->vecs, &b->nr, from->addr, from->len,
		    FOLL_WRITE | FOLL_LONGTERM) == from->len && kev_may_stay(b))
		return b;
	kev_buffer_free(b);
	return ERR_PTR(fatal_signal_pending(current) ? -EINTR : -EFAULT);
}

/* What was there before is added to @gone, unless a request still has it. */
static int kev_buffer_set(struct kev_queue *q, u32 number,
			  const struct kevent_buffer *from, struct kev_buffer **gone)
{
	struct kev_buffer *b = NULL, *old;

	if (from->len) {
		if (from->len > KEV_BUFFER_MAX || from->addr + from->len < from->addr)
			return -EINVAL;
		b = kev_buffer_make(q, from);
		if (IS_ERR(b))
			return PTR_ERR(b);
	}
	old = xa_store(&q->buffers, number, b, GFP_KERNEL_ACCOUNT);
	if (xa_is_err(old)) {
		kev_buffer_put(b);
		return xa_err(old);
	}
	if (old && refcount_dec_and_test(&old->refs)) {
		old->next = *gone;
		*gone = old;
	}
	return 0;
}

static void kev_buffers_drop(struct kev_buffer **gone)
{
	struct kev_buffer *b;

	if (*gone)
		synchronize_rcu_expedited();
	while ((b = *gone)) {
		*gone = b->next;
		kev_buffer_free(b);
	}
}

static int kev_buffers_each(struct kev_queue *q, struct kevent_buffers *arg,
			    struct kev_buffer **gone)
{
	struct kevent_buffer __user *from = u64_to_user_ptr(arg->buffers);
	struct kevent_buffer b;
	int ret = 0;

	for (; !ret && arg->done < arg->nr; arg->done += !ret) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (copy_from_user(&b, from + arg->done, sizeof(b)))
			return -EFAULT;
		ret = kev_buffer_set(q, arg->first + arg->done, &b, gone);
		if (ret == -ENOMEM && *gone) { /* they are charged until they are freed */
			kev_buffers_drop(gone);
			ret = kev_buffer_set(q, arg->first + arg->done, &b, gone);
		}
	}
	return ret;
}

/* KEVENT_IOC_BUFFERS.  Returns 0 or the error that ended it early. */
int kev_buffers(struct kev_queue *q, struct kevent_buffers *arg)
{
	struct kev_buffer *gone = NULL;
	int ret;

	arg->done = 0;
	if (arg->flags || arg->buffers & 7 || arg->pad || !arg->first ||
	    arg->first > KEVENT_MAX_BUFFERS ||
	    arg->nr > KEVENT_MAX_BUFFERS + 1 - arg->first)
		return -EINVAL;
	ret = kev_buffers_each(q, arg, &gone);
	kev_buffers_drop(&gone);
	return ret;
}

/* ->release, when no request is left */
void kev_buffers_free(struct kev_queue *q)
{
	struct kev_buffer *b;
	unsigned long number;

	xa_for_each(&q->buffers, number, b)
		kev_buffer_put(b);
	xa_destroy(&q->buffers);
	spin_lock_irq(&q->owners_lock);
	wait_event_lock_irq(q->drain, !q->nr_buffers, q->owners_lock);
	spin_unlock_irq(&q->owners_lock);
}
