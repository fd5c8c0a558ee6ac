// SPDX-License-Identifier: GPL-2.0
/*
 * Requests: submission, completion, chains, cancelling.
 *
 * Who has a request
 *
 *   It is in ring->inflight from its submission until its event is posted, unless
 *   it is done before its submitter has anything to wait for.
 *   Changes of state, @cancelled and @woken are under ring->lock.  The operation is
 *   with exactly one of: the submitter (KEV_REQ_SUBMIT), the device (the same, or
 *   RUNNING), the request before it in its chain (LINKED), the file's wait queues
 *   (WAITING), a lane or the workqueue (QUEUED), a worker (RUNNING).  To take it
 *   from WAITING or QUEUED is to change the state.
 *
 * How it ends
 *
 *   Whoever has the operation holds one reference, and so does each that still
 *   looks at the request: the submitter or worker that gave it to a device, a
 *   cancel that interrupts a worker.  The last to let go finishes it, in any
 *   context: it lets go of pages, wait queues, file and submitter, and then posts
 *   the event.  From then on the memory is the pending list's, or freed.  What
 *   waits for requests to end (flush, release) waits for ring->inflight, so
 *   nothing of a request but its memory outlives that.
 *
 * Who submits
 *
 *   A process's table of descriptors is known by a struct kev_owner from its first
 *   submission on.  ->flush marks that closed and then cancels what the table
 *   submitted; a submission names its owner and then looks at the mark.  An owner
 *   that was made is closed at once if the table has no descriptor of the queue.
 */
#include <linux/backing-dev.h>
#include <linux/cred.h>
#include <linux/hash.h>
#include <linux/magic.h>
#include <linux/major.h>
#include <linux/mount.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/sock.h>

#include "kev.h"

/* One write to a blocking descriptor that cannot be told not to wait. */
#define KEV_BLOCKING_WRITE 4096

static struct kmem_cache *kev_request_cache;
bool kev_outlived;

static struct kev_request *to_request(struct kev_item *item)
{
	return container_of(item, struct kev_request, wait.item);
}

static struct kev_ring *kev_ring_at(const struct kev_request *req)
{
	return req->wait.item.ring;
}

static u16 kev_request_kind(const struct kev_request *req)
{
	return req->wait.item.ev.kind;
}

/* Each ring keeps some requests that are done for the next ones. */
#define KEV_SPARES 32

/* It is posted, or its worker is done; the later of both frees what was kept. */
void kev_request_unkeep(struct kev_request *req)
{
	if (atomic_dec_and_test(&req->kept))
		kmem_cache_free(kev_request_cache, req);
}

/* CONTEXT: ring->lock */
void kev_request_free(struct kev_item *item)
{
	struct kev_request *req = to_request(item);
	struct kev_ring *r = item->ring;

	if (unlikely(atomic_read(&req->kept))) {
		kev_request_unkeep(req);
	} else if (r->nr_spares < KEV_SPARES) {
		req->next = r->spares;
		r->spares = req;
		r->nr_spares++;
	} else {
		kmem_cache_free(kev_request_cache, req);
	}
}

void kev_requests_free_spares(struct kev_ring *r)
{
	struct kev_request *req;

	while ((req = r->spares)) {
		r->spares = req->next;
		kmem_cache_free(kev_request_cache, req);
	}
}

/* --- who submits --- */

static void kev_owner_put(struct kev_owner *owner)
{
	if (refcount_dec_and_test(&owner->refs))
		kfree(owner);
}

static int kev_is_file(const void *file, struct file *other, unsigned int fd)
{
	return file == other;
}

static struct kev_owner *kev_owner_find(struct kev_queue *q, fl_owner_t files)
{
	struct kev_owner *owner;

	lockdep_assert_held(&q->owners_lock);
	list_for_each_entry(owner, &q->owners, node)
		if (owner->files == files)
			return owner;
	return NULL;
}

/* Also adds @fresh, if it is given and there is none. */
static struct kev_owner *kev_owner_look(struct kev_queue *q, fl_owner_t files,
					struct kev_owner *fresh)
{
	struct kev_owner *owner;

	spin_lock(&q->owners_lock);
	owner = kev_owner_find(q, files);
	if (!owner && fresh) {
		list_add(&fresh->node, &q->owners);
		owner = fresh;
	}
	if (owner)
		refcount_inc(&owner->refs);
	spin_unlock(&q->owners_lock);
	return owner;
}

static void kev_origin_put(struct kev_origin *o)
{
	if (!o || !refcount_dec_and_test(&o->refs))
		return;
	put_cred(o->cred);
	mem_cgroup_put(o->memcg);
	kev_put_blkcg(o->blkcg);
	kev_owner_put(o->owner);
	kfree(o);
}

/* What its next submission takes, in place of the one before. */
static void kev_owner_remember(struct kev_queue *q, struct kev_owner *owner,
			       struct kev_origin *o)
{
	struct kev_origin *before = o;

	if (o)
		refcount_inc(&o->refs);
	spin_lock(&q->owners_lock);
	if (!o || !owner->closed)
		swap(owner->last, before);
	spin_unlock(&q->owners_lock);
	kev_origin_put(before);
}

/* It has closed the queue, or goes with it. */
static void kev_owner_close(struct kev_queue *q, struct kev_owner *owner)
{
	bool listed;

	spin_lock(&q->owners_lock);
	listed = !list_empty(&owner->node);
	list_del_init(&owner->node);
	WRITE_ONCE(owner->closed, true);
	spin_unlock(&q->owners_lock);
	kev_owner_remember(q, owner, NULL);
	if (listed)
		kev_owner_put(owner);
}

static struct kev_owner *kev_owner_get(struct kev_queue *q)
{
	struct kev_owner *owner = kev_owner_look(q, current->files, NULL), *fresh;

	if (owner)
		return owner;
	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return ERR_PTR(-ENOMEM);
	fresh->files = current->files;
	refcount_set(&fresh->refs, 1);
	owner = kev_owner_look(q, current->files, fresh);
	if (owner != fresh) {
		kfree(fresh);
	} else if (!iterate_fd(current->files, 0, kev_is_file, q->file)) {
		/* Another thread closed it while we came in. */
		kev_owner_close(q, owner);
		kev_owner_put(owner);
		owner = ERR_PTR(-EBADF);
	}
	return owner;
}

/* Whether that is who we are. */
static bool kev_origin_current(const struct kev_origin *o)
{
	bool same;

	if (o->cred != current_cred())
		return false;
	rcu_read_lock();
	same = o->memcg == kev_task_memcg(current) &&
	       o->blkcg == kev_task_blkcg(current);
	rcu_read_unlock();
	return same;
}

static struct kev_origin *kev_origin_last(struct kev_queue *q)
{
	struct kev_origin *o = NULL;
	struct kev_owner *owner;

	spin_lock(&q->owners_lock);
	owner = kev_owner_find(q, current->files);
	if (owner && owner->last && kev_origin_current(owner->last)) {
		o = owner->last;
		refcount_inc(&o->refs);
	}
	spin_unlock(&q->owners_lock);
	return o;
}

static struct kev_origin *kev_origin_new(struct kev_queue *q)
{
	struct kev_origin *o;
	int ret = kev_work_start(q->user);

	if (ret)
		return ERR_PTR(ret);
	WRITE_ONCE(kev_outlived, true);
	o = kzalloc(sizeof(*o), GFP_KERNEL_ACCOUNT);
	if (!o)
		return ERR_PTR(-ENOMEM);
	o->owner = kev_owner_get(q);
	if (IS_ERR(o->owner)) {
		ret = PTR_ERR(o->owner);
		kfree(o);
		return ERR_PTR(ret);
	}
	refcount_set(&o->refs, 1);
	o->cred = get_current_cred();
	o->memcg = get_mem_cgroup_from_mm(current->mm);
	o->blkcg = kev_current_blkcg();
	kev_owner_remember(q, o->owner, o);
	return o;
}

static struct kev_origin *kev_origin_get(struct kev_submission *s)
{
	struct kev_origin *o = s->origin;

	if (!o) {
		o = kev_origin_last(s->q) ?: kev_origin_new(s->q);
		if (IS_ERR(o))
			return o;
		s->origin = o;
	}
	refcount_inc(&o->refs);
	return o;
}

/* --- the memory --- */

/**
 * struct kev_memory - the caller's, during submission
 * @pieces: of it, @nr
 * @nr:     those that @iov or @fast have room for
 * @count:  bytes to be transferred
 * @want:   bytes asked for, which may be more
 * @done:   bytes transferred already
 * @buffer: registered, of which it is a part; or NULL
 * @iov:    to be freed, unless it is @fast
 * @fast:   room for few pieces
 */
struct kev_memory {
	const struct iovec *pieces;
	u32 nr;
	size_t count;
	size_t want;
	size_t done;
	struct kev_buffer *buffer;
	struct iovec *iov;
	struct iovec fast[2];
};

static u32 kev_count_pages(const struct kev_memory *m)
{
	size_t left = m->count, len;
	u32 i, total = 0;

	if (likely(m->nr == 1))
		return kev_pages_of((unsigned long)m->pieces->iov_base, left);
	for (i = 0; left; i++, left -= len) {
		len = min(m->pieces[i].iov_len, left);
		if (len)
			total += kev_pages_of((unsigned long)m->pieces[i].iov_base, len);
	}
	return total;
}

static bool kev_all_dirty(const struct kev_request *req)
{
	u32 i;

	for (i = 0; i < req->nr_vecs; i++)
		if (!PageDirty(req->vecs[i].bv_page))
			return false;
	return true;
}

static void kev_let_go(struct kev_request *req, bool may_sleep)
{
	if (req->buffer) {
		kev_buffer_put(req->buffer);
	} else {
		kev_unpin(req->vecs, req->nr_vecs, may_sleep);
		if (req->vecs != req->small)
			kvfree(req->vecs);
	}
	req->nr_vecs = 0;
	req->vecs = NULL;
}

/* Returns how many bytes were pinned; fewer before a bad address. */
static size_t kev_pin_piece(struct kev_request *req, unsigned long start, size_t len)
{
	unsigned int gup = req->write ? 0 : FOLL_WRITE;
	size_t got = 0;

	/* A peer may let us wait for long; not all memory can be pinned for that. */
	if (req->way == KEV_WAY_READY)
		got = kev_pin(req->vecs, &req->nr_vecs, start, len, gup | FOLL_LONGTERM);
	if (got < len)
		got += kev_pin(req->vecs, &req->nr_vecs, start + got, len - got, gup);
	return got;
}

/* All that is left lies in one page. */
static int kev_pin_page(struct kev_request *req, unsigned long start, u32 len)
{
	struct bio_vec *v = req->small;

	if (pin_user_pages_fast(start & PAGE_MASK, 1, req->write ? 0 : FOLL_WRITE,
				&v->bv_page) != 1)
		return -EFAULT;
	v->bv_offset = offset_in_page(start);
	v->bv_len = len;
	req->nr_vecs = 1;
	req->pinned = len;
	return 0;
}

/*
 * Pins what was not transferred yet.  What cannot be pinned shortens the request,
 * as it does pread(2).
 */
static int kev_pin_memory(struct kev_request *req, const struct kev_memory *m, u32 pages)
{
	size_t left = m->count, skip = req->done, len, got;
	u32 i;

	req->vecs = req->small;
	if (likely(pages == 1 && m->nr == 1 && req->way != KEV_WAY_READY))
		return kev_pin_page(req, (unsigned long)m->pieces->iov_base + skip,
				    left - skip);
	if (pages > KEV_SMALL_VECS)
		req->vecs = kvmalloc_array(pages, sizeof(*req->vecs),
					   GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->vecs)
		return -ENOMEM;
	for (i = 0; left; i++, left -= len) {
		len = min(m->pieces[i].iov_len, left);
		if (skip >= len) {
			skip -= len;
			continue;
		}
		got = kev_pin_piece(req, (unsigned long)m->pieces[i].iov_base + skip,
				    len - skip);
		req->pinned += got;
		if (got < len - skip)
			break;
		skip = 0;
	}
	return req->pinned ? 0 : -EFAULT;
}

/* --- the end --- */

/*
 * What comes next in the chain goes on with the worker that made this one, if that is
 * who ends it, or else with another; there it also ends if this one failed.
 * CONTEXT: any
 */
static void kev_chain_next(struct kev_request *next, bool ok,
			   struct kev_request **heir)
{
	struct kev_ring *r = kev_ring_at(next);
	unsigned long flags;

	spin_lock_irqsave(&r->lock, flags);
	if (!ok)
		WRITE_ONCE(next->cancelled, true);
	if (heir)
		*heir = next;
	else
		kev_work_queue(next);
	spin_unlock_irqrestore(&r->lock, flags);
}

static bool kev_succeeded(const struct kev_request *req)
{
	if (req->transfer)
		return req->res >= 0 && (size_t)req->res == req->want;
	return req->res >= 0;
}

/* It is in nobody's way any more.  CONTEXT: ring->lock */
static void kev_request_unlist(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	hlist_del_init(&req->node);
	kev_unhold(r, req->held);
	/* Who waits has joined before it looks, under our lock. */
	if (waitqueue_active(&r->queue->drain))
		wake_up_all(&r->queue->drain);
}

static void kev_request_post(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	struct kev_request *next = req->next;
	bool ok = next && kev_succeeded(req);
	struct kev_request **heir = next && req->worker == current ? req->heir : NULL;
	unsigned long flags;

	spin_lock_irqsave(&r->lock, flags);
	kev_request_unlist(req);
	req->wait.item.ev.result = req->res;
	kev_post_request(&req->wait.item);
	spin_unlock_irqrestore(&r->lock, flags);
	if (next)
		kev_chain_next(next, ok, heir);
}

static void kev_end_write(struct kev_request *req)
{
	struct super_block *sb = file_inode(req->iocb.ki_filp)->i_sb;

	req->writing = false;
	__sb_writers_acquired(sb, SB_FREEZE_WRITE); /* lockdep: on its behalf */
	sb_end_write(sb);
}

/*
 * A file that nobody else has is closed before the event is posted, in a worker:
 * no queue is among them.
 */
static void kev_request_drop(struct kev_request *req, bool may_sleep)
{
	struct file *file = req->iocb.ki_filp;

	kev_let_go(req, may_sleep);
	if (unlikely(req->hooked)) {
		kev_unhook(&req->wait);
		kev_watch_detach(&req->wait);
	}
	if (may_sleep && file && current->flags & PF_KTHREAD)
		__fput_sync(file);
	else if (likely(file))
		fput(file);
	kev_origin_put(req->origin);
}

/* What must not be done in an interrupt, or would take long there. */
static bool kev_must_settle(const struct kev_request *req)
{
	if (req->hooked || file_count(req->iocb.ki_filp) == 1)
		return true;
	return !req->buffer &&
	       (req->nr_vecs > KEV_PIN_BATCH || is_vmalloc_addr(req->vecs) ||
		(req->transfer && !req->write && !kev_all_dirty(req)));
}

/* Of what is pinned for the request alone. */
static void kev_request_dirty(const struct kev_request *req)
{
	if (req->transfer && !req->write && !req->buffer)
		kev_mark_dirty(req->vecs, req->nr_vecs);
}

void kev_request_finish(struct kev_request *req, bool may_sleep)
{
	if (!may_sleep && kev_must_settle(req)) {
		kev_work_settle(req);
		return;
	}
	if (may_sleep)
		kev_request_dirty(req);
	kev_request_drop(req, may_sleep);
	kev_request_post(req);
}

/*
 * The device or file system could not take it without waiting after all: -EAGAIN, or
 * -EOPNOTSUPP of a device that knows no nonblocking requests.
 */
static bool kev_request_again(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	unsigned long flags;

	if (req->way != KEV_WAY_DIRECT || !(req->iocb.ki_flags & IOCB_NOWAIT))
		return false;
	refcount_set(&req->refs, 1);
	spin_lock_irqsave(&r->lock, flags);
	kev_work_queue(req);
	spin_unlock_irqrestore(&r->lock, flags);
	return true;
}

static void kev_request_put(struct kev_request *req, bool may_sleep)
{
	if (!refcount_dec_and_test(&req->refs))
		return;
	if (unlikely(req->writing))
		kev_end_write(req);
	if (unlikely(req->res == -EAGAIN || req->res == -EOPNOTSUPP) &&
	    kev_request_again(req))
		return;
	kev_request_finish(req, may_sleep);
}

static bool kev_interrupted(ssize_t res)
{
	return res == -EINTR || res == -ERESTARTSYS || res == -ERESTARTNOINTR ||
	       res == -ERESTARTNOHAND || res == -ERESTART_RESTARTBLOCK;
}

/* What the caller sees of @res, after a part was transferred during submission. */
static ssize_t kev_result(struct kev_request *req, ssize_t res)
{
	if (!req->iocb.ki_filp) /* a nop says what it was told */
		return res;
	if (res < 0 && req->done)
		return req->done;
	if (kev_interrupted(res))
		return READ_ONCE(req->cancelled) ? -ECANCELED : -EINTR;
	return res < 0 ? res : res + req->done;
}

KEV_KI_COMPLETE(kev_kiocb_complete, iocb, res)
{
	struct kev_request *req = container_of(iocb, struct kev_request, iocb);

	req->res = kev_result(req, res);
	kev_request_put(req, false);
}

/* --- the operation --- */

/* A signal to the worker ends the wait; the file system is frozen rarely. */
static bool kev_begin_write(struct kev_request *req, bool may_wait)
{
	struct inode *inode = file_inode(req->iocb.ki_filp);

	if (!S_ISREG(inode->i_mode))
		return true;
	while (!sb_start_write_trylock(inode->i_sb)) {
		if (!may_wait || signal_pending(current))
			return false;
		schedule_timeout_interruptible(HZ / 50);
	}
	/* lockdep: whoever completes it lets go */
	__sb_writers_release(inode->i_sb, SB_FREEZE_WRITE);
	req->writing = true;
	return true;
}

/* Where an append begins is known only now. */
static int kev_limit_append(const struct kev_request *req, struct iov_iter *iter)
{
	struct inode *inode = file_inode(req->iocb.ki_filp);
	loff_t size = i_size_read(inode);

	if (!S_ISREG(inode->i_mode) || !iov_iter_count(iter))
		return 0;
	if (size >= req->limit)
		return -EFBIG;
	iov_iter_truncate(iter, req->limit - size);
	return 0;
}

/* CONTEXT: the submitter, or a worker in its place */
static ssize_t kev_transfer(struct kev_request *req, struct iov_iter *iter, int flags)
{
	struct kiocb *iocb = &req->iocb;
	ssize_t ret;

	iocb->ki_pos = req->offset + req->done;
	iocb->ki_flags = (iocb->ki_flags & ~(IOCB_NOWAIT | IOCB_NOIO)) | flags;
	if (!req->write)
		return vfs_iocb_iter_read(iocb->ki_filp, iocb, iter);
	if (unlikely(iocb->ki_flags & IOCB_APPEND)) {
		ret = kev_limit_append(req, iter);
		if (ret)
			return ret;
	}
	ret = kev_verify_write(iocb->ki_filp, iocb, iter);
	if (ret)
		return ret;
	if (!kev_begin_write(req, !(flags & IOCB_NOWAIT)))
		return flags & IOCB_NOWAIT ? -EAGAIN : -EINTR;
	iocb->ki_flags |= IOCB_WRITE;
	ret = kev_iter_write(iocb->ki_filp, iocb, iter);
	if (ret != -EIOCBQUEUED && req->writing)
		kev_end_write(req);
	return ret;
}

static void kev_pinned_iter(const struct kev_request *req, struct iov_iter *iter)
{
	iov_iter_bvec(iter, req->write, req->vecs, req->nr_vecs, req->pinned);
	iter->iov_offset = req->skip;
}

static ssize_t kev_transfer_pinned(struct kev_request *req, int flags)
{
	struct iov_iter iter __uninitialized;

	if (req->way == KEV_WAY_DIRECT)
		req->wait.item.ev.flags |= KEVENT_EV_DIRECT;
	kev_pinned_iter(req, &iter);
	req->iocb.ki_complete = kev_kiocb_complete;
	if (req->way == KEV_WAY_DIRECT &&
	    !kev_device_reaches(req->iocb.ki_filp, req->offset + req->done, req->pinned,
				req->vecs, req->nr_vecs, req->skip))
		return -EINVAL;
	return kev_transfer(req, &iter, flags | KEV_IOCB_CACHE);
}

/* IOCB_NOWAIT if the file knows that, 0 if it never waits, -1 otherwise */
int kev_nowait(const struct file *file)
{
	umode_t mode = file_inode(file)->i_mode;

	if (file->f_mode & FMODE_NOWAIT || S_ISSOCK(mode))
		return IOCB_NOWAIT;
	return file->f_flags & O_NONBLOCK && !S_ISREG(mode) && !S_ISBLK(mode) ? 0 : -1;
}

static u32 kev_wait_events(const struct kev_request *req)
{
	return (__force u32)(EPOLLERR | EPOLLHUP |
			     (req->write ? EPOLLOUT | EPOLLWRNORM :
					   EPOLLIN | EPOLLRDNORM | EPOLLRDHUP));
}

static int kev_request_wake(wait_queue_entry_t *wait, unsigned int mode, int sync,
			    void *key)
{
	struct kev_file *f = wait->private;
	struct kev_request *req = container_of(f, struct kev_request, wait);
	struct kev_ring *r = f->item.ring;
	u32 got = (__force u32)key_to_poll(key);
	unsigned long flags;

	if (got && !(got & (f->item.events | (__force u32)POLLFREE)))
		return 0;
	spin_lock_irqsave(&r->lock, flags);
	if (req->state == KEV_REQ_WAITING)
		kev_work_queue(req);
	else
		req->woken = true;
	spin_unlock_irqrestore(&r->lock, flags);
	return got & (__force u32)POLLFREE ? kev_hook_pollfree(wait) : 0;
}

/* Puts the request on the file's wait queues.  Returns what is ready, or -errno. */
static int kev_request_hook(struct kev_request *req)
{
	struct file *file = req->iocb.ki_filp;
	__poll_t ready;
	int ret;

	req->wait.item.events = kev_wait_events(req);
	req->wait.file = file;
	ret = kev_watch_attach(&req->wait);
	if (ret)
		return ret == -ENOSPC ? -EAGAIN : ret;
	req->hooked = true;
	req->wait.item.ev.flags |= KEVENT_EV_WAITED;
	ret = kev_hook_all(&req->wait, file, kev_request_wake, &ready);
	return ret ?: (__force int)ready;
}

/*
 * A file that is ready and says -EAGAIN is being read by another (ttys do that), who
 * may leave something and wake nobody: tried again, ever more rarely.
 */
static ssize_t kev_transfer_patiently(struct kev_request *req, int flags)
{
	u32 news = req->wait.item.events & ~(__force u32)(EPOLLERR | EPOLLHUP);
	long delay = 1;
	ssize_t ret;

	for (;; delay *= 2) {
		ret = kev_transfer_pinned(req, flags);
		if (ret != -EAGAIN || delay > HZ ||
		    !kev_poll_file(req->iocb.ki_filp, news))
			return ret;
		schedule_timeout_interruptible(delay);
		if (signal_pending(current))
			return -EINTR;
	}
}

/* In a worker: -EAGAIN if the file is not ready. */
static ssize_t kev_ready_transfer(struct kev_request *req)
{
	int flags = kev_nowait(req->iocb.ki_filp);
	int ready;

	if (!req->hooked) {
		ready = kev_request_hook(req);
		if (ready < 0)
			return ready == -EAGAIN ? -ENOSPC : ready;
	} else {
		/* A wakeup that this misses takes the lock later, and sets woken again. */
		ready = (__force int)kev_poll_file(req->iocb.ki_filp,
						   req->wait.item.events);
	}
	if (!ready)
		return -EAGAIN;
	return kev_transfer_patiently(req, max(flags, 0));
}

/* CONTEXT: a worker, as the submitter */
ssize_t kev_request_perform(struct kev_request *req)
{
	switch (kev_request_kind(req)) {
	case KEVENT_KIND_NOP:
		return req->res;
	case KEVENT_KIND_FSYNC:
	case KEVENT_KIND_FDATASYNC:
		return vfs_fsync(req->iocb.ki_filp,
				 kev_request_kind(req) == KEVENT_KIND_FDATASYNC);
	}
	if (req->way == KEV_WAY_READY)
		return kev_ready_transfer(req);
	if (req->way == KEV_WAY_DIRECT)
		kev_request_dirty(req);
	return kev_transfer_pinned(req, 0);
}

/* A worker takes the operation; false if it was cancelled. */
bool kev_request_begin(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	bool go;

	spin_lock_irq(&r->lock);
	req->state = KEV_REQ_RUNNING;
	req->woken = false;
	req->wait.item.ev.flags |= KEVENT_EV_WORKER;
	refcount_inc(&req->refs);
	go = !req->cancelled;
	spin_unlock_irq(&r->lock);
	return go;
}

/* The file was not ready: back to its wait queue.  False if cancelled. */
static bool kev_request_rewait(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	bool wait;

	spin_lock_irq(&r->lock);
	wait = !req->cancelled;
	if (wait && req->woken)
		kev_work_queue(req);
	else if (wait)
		req->state = KEV_REQ_WAITING;
	spin_unlock_irq(&r->lock);
	return wait;
}

/*
 * After a worker has tried it, which may go on with what is next, in @heir.  Then its
 * memory stays until kev_request_unkeep(), which is what is returned: the workqueue
 * knows by its address what the worker is busy with, and would put another request
 * there behind the rest of this chain.
 */
bool kev_request_performed(struct kev_request *req, ssize_t res,
			   struct kev_request **heir)
{
	bool kept = false;
	bool again = req->way == KEV_WAY_READY && res == -EAGAIN;

	if (!(req->transfer && res == -EIOCBQUEUED) &&
	    !(again && kev_request_rewait(req))) {
		req->res = kev_result(req, again ? -EINTR : res);
		req->heir = heir;
		req->worker = current;
		kept = heir;
		if (kept)
			atomic_set(&req->kept, 2);
		kev_request_put(req, true);
	}
	kev_request_put(req, true);
	return kept;
}

/* --- submission --- */

/*
 * Files whose operations do not depend on the task that makes them.  In an overlay
 * those below it count.
 */
static bool kev_may_delegate(const struct file *file)
{
	const struct super_block *sb = d_real_inode(file->f_path.dentry)->i_sb;

	if (sb->s_bdi != &noop_backing_dev_info)
		return true;
	return sb->s_magic == TMPFS_MAGIC || sb->s_magic == RAMFS_MAGIC ||
	       sb->s_magic == HUGETLBFS_MAGIC;
}

/* Drivers may expect a task that has memory; those of /dev/null and the like do not. */
static bool kev_known_device(const struct inode *inode)
{
	return !S_ISCHR(inode->i_mode) || imajor(inode) == MEM_MAJOR;
}

/* Of descriptors without a place in a file system, these do not either. */
static bool kev_known_anonymous(const struct file *file)
{
	const char *name = (const char *)file->f_path.dentry->d_name.name;

	return !strcmp(name, "[eventfd]") || !strcmp(name, "[timerfd]");
}

/* Others (netlink, say) look at the namespaces of the task. */
static bool kev_known_family(struct file *file)
{
	switch (kev_socket_of(file)->sk->sk_family) {
	case AF_UNIX:
	case AF_INET:
	case AF_INET6:
	case AF_VSOCK:
	case AF_PACKET:
		return true;
	}
	return false;
}

static int kev_way_of(struct file *file, bool transfer)
{
	const struct inode *inode = file_inode(file);

	if (S_ISREG(inode->i_mode) && !kev_may_delegate(file))
		return KEV_WAY_CALLER;
	if (!transfer) /* without fsync() the answer is known */
		return file->f_op->fsync ? KEV_WAY_WORKER : KEV_WAY_CALLER;
	if (S_ISREG(inode->i_mode) || S_ISBLK(inode->i_mode))
		return file->f_flags & O_DIRECT ? KEV_WAY_DIRECT : KEV_WAY_WORKER;
	if (inode->i_sb->s_magic == ANON_INODE_FS_MAGIC && !kev_known_anonymous(file))
		return -EOPNOTSUPP;
	if (S_ISSOCK(inode->i_mode) && !kev_known_family(file))
		return KEV_WAY_CALLER;
	if (file_can_poll(file))
		return KEV_WAY_READY;
	return kev_known_device(inode) ? KEV_WAY_WORKER : KEV_WAY_CALLER;
}

static int kev_check_transfer(const struct file *file, bool write)
{
	if (!(file->f_mode & (write ? FMODE_WRITE : FMODE_READ)))
		return -EBADF;
	if (S_ISDIR(file_inode(file)->i_mode))
		return -EISDIR;
	if (!(write ? (void *)file->f_op->write_iter : (void *)file->f_op->read_iter))
		return -EOPNOTSUPP;
	return 0;
}

#define KEV_DAY (24 * 60 * 60)

/* A read would set the time of the last access, which can wait for a journal. */
static bool kev_atime_due(const struct file *file)
{
	const struct inode *inode = file_inode(file);
	struct timespec64 atime, mtime, ctime;
	int mount = file->f_path.mnt->mnt_flags;

	if (!S_ISREG(inode->i_mode) || file->f_flags & O_NOATIME || IS_NOATIME(inode) ||
	    mount & MNT_NOATIME)
		return false;
	if (!(mount & MNT_RELATIME))
		return true;
	atime = inode_get_atime(inode);
	mtime = inode_get_mtime(inode);
	ctime = inode_get_ctime(inode);
	return timespec64_compare(&mtime, &atime) >= 0 ||
	       timespec64_compare(&ctime, &atime) >= 0 ||
	       ktime_get_real_seconds() - atime.tv_sec >= KEV_DAY;
}

/* Whether a read or write can be begun without waiting. */
static bool kev_is_prompt(const struct file *file, bool write)
{
	return file->f_mode & FMODE_NOWAIT && (write || !kev_atime_due(file));
}

/* As the entry before, mostly; else looks up the file and which way it goes. */
static int kev_submission_open(struct kev_submission *s, const struct kevent_change *c)
{
	int ret;

	if (likely(s->file && s->fd == c->fd && s->kind == c->kind))
		return 0;
	kev_submission_forget(s);
	s->fd = c->fd;
	s->kind = c->kind;
	s->write = c->kind == KEVENT_KIND_WRITE || c->kind == KEVENT_KIND_WRITEV;
	s->transfer = s->write || c->kind == KEVENT_KIND_READ ||
		      c->kind == KEVENT_KIND_READV;
	s->way = KEV_WAY_WORKER;
	if (c->kind == KEVENT_KIND_NOP)
		return 0;
	s->file = fget(c->fd);
	if (!s->file)
		return -EBADF;
	ret = s->transfer ? kev_check_transfer(s->file, s->write) : 0;
	if (!ret)
		ret = kev_way_of(s->file, s->transfer);
	if (ret < 0) {
		kev_submission_forget(s);
		return ret;
	}
	s->way = ret;
	s->prompt = kev_is_prompt(s->file, s->write);
	s->iocb = (struct kiocb){ .ki_filp = s->file };
	return 0;
}

#define KEV_RW_FLAGS ((__force u32)(RWF_DSYNC | RWF_SYNC | RWF_APPEND))

static int kev_check_fields(const struct kevent_change *c)
{
	if (c->buffer && c->kind != KEVENT_KIND_READ && c->kind != KEVENT_KIND_WRITE)
		return -EINVAL;
	switch (c->kind) {
	case KEVENT_KIND_NOP:
		return c->fd || c->len || c->offset || c->rw_flags ? -EINVAL : 0;
	case KEVENT_KIND_FSYNC:
	case KEVENT_KIND_FDATASYNC:
		return c->len || c->addr || c->offset || c->rw_flags ? -EINVAL : 0;
	case KEVENT_KIND_READ:
	case KEVENT_KIND_WRITE:
	case KEVENT_KIND_READV:
	case KEVENT_KIND_WRITEV:
		if (c->offset > S64_MAX)
			return -EINVAL;
		return c->rw_flags & ~KEV_RW_FLAGS ? -EOPNOTSUPP : 0;
	}
	return -EINVAL;
}

/* As the file system would, but without the signal, and not of a worker. */
static int kev_limit_size(const struct kev_submission *s, struct kev_memory *m)
{
	struct inode *inode = file_inode(s->file);
	loff_t from = s->iocb.ki_pos;
	u64 limit;

	if (!S_ISREG(inode->i_mode) || !m->count)
		return 0;
	limit = rlimit(RLIMIT_FSIZE);
	if (limit == RLIM_INFINITY)
		return 0;
	if (s->iocb.ki_flags & IOCB_APPEND)
		from = i_size_read(inode);
	if (from >= limit)
		return -EFBIG;
	m->count = min_t(u64, m->count, limit - from);
	return 0;
}

static noinline int kev_import_vector(struct kev_memory *m, int rw, void __user *address, u32 nr)
{
	struct iov_iter iter;
	ssize_t ret;

	m->iov = m->fast;
	ret = import_iovec(rw, address, nr, ARRAY_SIZE(m->fast), &m->iov, &iter);
	if (ret < 0)
		return ret;
	m->pieces = m->iov ?: m->fast;
	m->nr = nr;
	m->count = ret;
	return 0;
}

/* Its address is looked at by whoever uses it. */
static void kev_import_single(struct kev_memory *m, void __user *address, size_t len)
{
	m->count = min_t(size_t, len, MAX_RW_COUNT);
	m->fast[0] = (struct iovec){ address, m->count };
	m->pieces = m->fast;
	m->nr = 1;
}

/* That of the entry before, mostly. */
static int kev_submission_buffer(struct kev_submission *s, u32 number)
{
	if (s->buffer && s->number == number)
		return 0;
	kev_buffer_put(s->buffer);
	s->buffer = kev_buffer_get(s->q, number);
	s->number = number;
	return s->buffer ? 0 : -EFAULT;
}

/* Where in the file, and the memory. */
static int kev_import(struct kev_submission *s, const struct kevent_change *c,
		      struct kev_memory *m)
{
	void __user *address = u64_to_user_ptr(c->addr);
	int ret = 0;

	if (c->offset && !(s->file->f_mode & (s->write ? FMODE_PWRITE : FMODE_PREAD)))
		return -ESPIPE;
	s->iocb.ki_pos = c->offset;
	s->iocb.ki_flags = kev_iocb_flags(s->file);
	if (unlikely(c->rw_flags))
		ret = kev_set_rw_flags(&s->iocb, c->rw_flags, s->write);
	if (ret)
		return ret;
	if (c->buffer) {
		ret = kev_submission_buffer(s, c->buffer);
		m->buffer = s->buffer;
	}
	if (c->kind == KEVENT_KIND_READ || c->kind == KEVENT_KIND_WRITE)
		kev_import_single(m, address, c->len);
	else
		ret = kev_import_vector(m, s->write, address, c->len);
	if (ret)
		return ret;
	if (m->buffer && !kev_buffer_holds(m->buffer, c->addr, m->count))
		return -EFAULT;
	m->want = m->count;
	if (!s->write)
		return 0;
	if (s->way == KEV_WAY_READY && kev_nowait(s->file) < 0)
		m->count = min_t(size_t, m->count, KEV_BLOCKING_WRITE);
	return kev_limit_size(s, m);
}

/* Ids are given in order: without the seed a program could fill one bucket. */
static struct hlist_head *kev_inflight(struct kev_ring *r, u64 id)
{
	return &r->inflight[hash_64(id ^ r->seed, KEV_INFLIGHT_BITS)];
}

/* A request that is counted, for its submitter alone. */
static void kev_request_prepare(struct kev_ring *r, struct kev_request *req)
{
	u64 count = ++r->last_request;

	lockdep_assert_held(&r->lock);
	req->wait.item.ring = r;
	req->wait.item.ev.id = KEV_REQUEST | (u64)r->index << KEV_REQUEST_RING | count;
	req->held = KEV_SMALL_VECS;
	INIT_HLIST_NODE(&req->node);
}

/* What others may look at from now on. */
static void kev_request_list(struct kev_ring *r, struct kev_request *req)
{
	lockdep_assert_held(&r->lock);
	req->iocb.ki_filp = NULL;
	req->origin = NULL;
	req->owner = NULL;
	refcount_set(&req->refs, 1);
	req->state = KEV_REQ_SUBMIT;
	req->cancelled = false;
	hlist_add_head(&req->node, kev_inflight(r, req->wait.item.ev.id));
}

/* What its event needs. */
static void kev_request_name(struct kev_request *req, const struct kevent_change *c)
{
	struct kev_item *item = &req->wait.item;

	item->flags = KEV_ONCE;
	item->where = KEV_NOWHERE;
	item->ev.cookie = c->cookie;
	item->ev.events = 0;
	item->ev.kind = c->kind;
	item->ev.flags = 0;
	req->next = NULL;
}

/* The rest, and the file: it takes over what the submission found. */
static void kev_request_attach(struct kev_submission *s, struct kev_request *req,
			       const struct kevent_change *c, const struct kev_memory *m)
{
	struct kev_ring *r = kev_ring_at(req);

	if (hlist_unhashed(&req->node)) {
		spin_lock_irq(&r->lock);
		kev_request_list(r, req);
		spin_unlock_irq(&r->lock);
	} else {
		/* Who cancelled it while it was in stock meant another. */
		WRITE_ONCE(req->cancelled, false);
	}
	if (unlikely(s->iocb.ki_flags & IOCB_APPEND))
		req->limit = rlimit(RLIMIT_FSIZE);
	if (s->file)
		WRITE_ONCE(req->iocb.ki_filp, get_file(s->file));
	req->iocb.ki_flags = s->iocb.ki_flags;
	req->iocb.ki_complete = NULL;
	req->iocb.private = NULL;
	req->iocb.ki_ioprio = 0; /* the block layer takes the task's */
	req->offset = c->offset;
	req->res = c->value; /* of a nop */
	req->want = m->want;
	req->done = m->done;
	req->pinned = 0;
	req->vecs = NULL;
	req->nr_vecs = 0;
	req->skip = 0;
	req->buffer = m->buffer;
	if (m->buffer)
		refcount_inc(&m->buffer->refs);
	req->way = s->way;
	req->prompt = s->prompt;
	req->transfer = s->transfer;
	req->write = s->write;
	req->woken = false;
	req->hooked = false;
	req->writing = false;
	req->settled = false;
	req->lane = NULL;
	req->worker = NULL;
}

/* Requests are taken from the ring in numbers; listed if most will leave us. */
#define KEV_STOCK 16

/* The events of what was done here. */
void kev_submission_post(struct kev_submission *s)
{
	struct kev_ring *r = s->ring;
	struct kev_request *req, *next;

	if (!s->done)
		return;
	spin_lock_irq(&r->lock);
	for (req = s->done; req; req = next) {
		next = req->next;
		kev_request_unlist(req);
		kev_post_request(&req->wait.item);
	}
	spin_unlock_irq(&r->lock);
	s->done = NULL;
}

static void kev_unstock(struct kev_submission *s)
{
	struct kev_ring *r = s->ring;
	struct kev_request *req;

	kev_submission_post(s);
	if (!s->stock)
		return;
	spin_lock_irq(&r->lock);
	while ((req = s->stock)) {
		s->stock = req->next;
		kev_request_unlist(req);
		kev_request_gone(&req->wait.item);
	}
	spin_unlock_irq(&r->lock);
}

static void kev_restock(struct kev_submission *s, struct kev_ring *r)
{
	struct kev_request *req;
	u32 n;

	s->ring = r;
	spin_lock_irq(&r->lock);
	n = min3(s->left, r->nr_spares, (u32)KEV_STOCK);
	if (kev_request_reserve(r, n)) {
		r->nr_spares -= n;
		while (n--) {
			req = r->spares;
			r->spares = req->next;
			kev_request_prepare(r, req);
			if (s->way == KEV_WAY_DIRECT)
				kev_request_list(r, req);
			req->next = s->stock;
			s->stock = req;
		}
	}
	spin_unlock_irq(&r->lock);
}

/* When the ring has no spare one */
static struct kev_request *kev_request_alloc(struct kev_ring *r)
{
	struct kev_request *req;
	bool may;

	/* First: over the limit nothing is done. */
	spin_lock_irq(&r->lock);
	may = kev_request_reserve(r, 1);
	spin_unlock_irq(&r->lock);
	if (!may)
		return ERR_PTR(-EAGAIN);
	req = kmem_cache_alloc_node(kev_request_cache, GFP_KERNEL, r->node);
	if (req) {
		memset(&req->iocb, 0, sizeof(req->iocb)); /* what we never set */
		atomic_set(&req->kept, 0);
	}
	spin_lock_irq(&r->lock);
	if (req) {
		kev_request_prepare(r, req);
	} else {
		kev_unhold(r, KEV_SMALL_VECS);
		kev_request_unreserve(r);
	}
	spin_unlock_irq(&r->lock);
	return req ?: ERR_PTR(-ENOMEM);
}

static struct kev_request *kev_request_get(struct kev_submission *s, struct kev_ring *r)
{
	struct kev_request *req;

	if (s->ring != r)
		kev_unstock(s);
	if (!s->stock) {
		kev_submission_post(s);
		kev_restock(s, r);
	}
	req = s->stock;
	if (!req)
		return kev_request_alloc(r);
	s->stock = req->next;
	return req;
}

/* It is refused after all. */
static void kev_request_withdraw(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	spin_lock_irq(&r->lock);
	kev_request_unlist(req);
	kev_request_gone(&req->wait.item);
	spin_unlock_irq(&r->lock);
}

/* Counts the pages that are more than every request is counted with. */
static bool kev_hold_pages(struct kev_request *req, u32 pages)
{
	struct kev_ring *r = kev_ring_at(req);
	bool held;

	if (pages <= KEV_SMALL_VECS)
		return true;
	spin_lock_irq(&r->lock);
	held = kev_hold(r, pages - KEV_SMALL_VECS);
	if (held)
		req->held = pages;
	spin_unlock_irq(&r->lock);
	return held;
}

/* The part of its registered buffer that is left. */
static void kev_request_slice(struct kev_request *req, const struct kev_memory *m)
{
	req->pinned = m->count - m->done;
	req->nr_vecs = kev_buffer_slice(m->buffer, (unsigned long)m->pieces->iov_base + m->done,
					req->pinned, &req->vecs, &req->skip);
}

/* It is to go on without its submitter. */
static int kev_request_detach(struct kev_submission *s, struct kev_request *req,
			      const struct kev_memory *m)
{
	struct kev_origin *o = kev_origin_get(s);
	u32 pages;

	if (IS_ERR(o))
		return PTR_ERR(o);
	req->origin = o;
	WRITE_ONCE(req->owner, o->owner);
	/* Pairs with smp_mb() in kev_cancel_owner(): it finds this, or we that. */
	smp_mb();
	if (READ_ONCE(o->owner->closed))
		return -EBADF;
	if (m->buffer) {
		kev_request_slice(req, m);
		return 0;
	}
	pages = likely(m->count) ? kev_count_pages(m) : 0;
	if (!kev_hold_pages(req, pages))
		return -EAGAIN;
	return pages ? kev_pin_memory(req, m, pages) : 0;
}

/* The last part of a short read may be past what the page cache has. */
static bool kev_is_complete(const struct kev_submission *s, const struct kevent_change *c,
			    const struct kev_memory *m)
{
	if (s->way != KEV_WAY_WORKER || m->done == m->want)
		return true;
	return c->offset + m->done >= i_size_read(s->file->f_mapping->host);
}

/* How the caller may try it: as kev_nowait(), and -1 where there is no use. */
static int kev_try_flags(const struct kev_submission *s)
{
	if (s->way == KEV_WAY_CALLER)
		return S_ISSOCK(file_inode(s->file)->i_mode) ? IOCB_NOWAIT : 0;
	if (s->way == KEV_WAY_READY)
		return kev_nowait(s->file);
	if (s->way == KEV_WAY_WORKER && !s->write && s->prompt)
		return IOCB_NOWAIT | IOCB_NOIO;
	return -1;
}

static int kev_try_iter(const struct kev_submission *s, const struct kev_memory *m,
			struct iov_iter *iter)
{
	struct bio_vec *vecs;
	u32 skip, n;

	if (m->buffer) {
		n = kev_buffer_slice(m->buffer, (unsigned long)m->pieces->iov_base, m->count, &vecs,
				     &skip);
		iov_iter_bvec(iter, s->write, vecs, n, m->count);
		iter->iov_offset = skip;
		return 0;
	}
	if (m->nr == 1 && !access_ok(m->pieces->iov_base, m->count))
		return -EFAULT;
	iov_iter_init(iter, s->write, m->pieces, m->nr, m->count);
	return 0;
}

static ssize_t kev_transfer_here(struct kev_submission *s, struct iov_iter *iter,
				 int flags)
{
	ssize_t ret;

	s->iocb.ki_flags |= flags;
	if (!s->write)
		return vfs_iocb_iter_read(s->file, &s->iocb, iter);
	ret = kev_verify_write(s->file, &s->iocb, iter);
	if (ret)
		return ret;
	s->iocb.ki_flags |= IOCB_WRITE;
	file_start_write(s->file); /* waits for none but a file of KEV_WAY_CALLER */
	ret = kev_iter_write(s->file, &s->iocb, iter);
	file_end_write(s->file);
	return ret;
}

/*
 * Tries it in the caller.  Returns whether that was all, and what it came to; else
 * m->done is what was transferred.
 */
static noinline bool kev_try(struct kev_submission *s, const struct kevent_change *c,
			     struct kev_memory *m, s64 *res)
{
	int flags = kev_try_flags(s);
	struct iov_iter iter;
	ssize_t ret;

	if (flags < 0)
		return false;
	*res = kev_try_iter(s, m, &iter);
	if (*res)
		return true;
	ret = kev_transfer_here(s, &iter, flags);
	if (ret == -EAGAIN && s->way != KEV_WAY_CALLER)
		return false;
	*res = ret;
	if (unlikely(ret < 0)) {
		if (kev_interrupted(ret))
			*res = -EINTR;
		return true;
	}
	m->done = ret;
	return kev_is_complete(s, c, m);
}

/* A file whose answer may depend on who asks. */
static void kev_ask_here(struct kev_submission *s, const struct kevent_change *c,
			 struct kev_memory *m, s64 *res)
{
	kev_submission_post(s); /* this may wait */
	if (s->transfer)
		kev_try(s, c, m, res);
	else
		*res = vfs_fsync(s->file, c->kind == KEVENT_KIND_FDATASYNC);
}

/* What needs neither device, worker nor peer.  Returns whether that was all. */
static bool kev_done_here(struct kev_submission *s, const struct kevent_change *c,
			  struct kev_memory *m, s64 *res)
{
	if (s->way == KEV_WAY_CALLER) {
		kev_ask_here(s, c, m, res);
		return true;
	}
	if (s->transfer)
		return kev_try(s, c, m, res);
	*res = c->value;
	return c->kind == KEVENT_KIND_NOP;
}

/* Gives the device what it can take without waiting. */
static void kev_request_issue(struct kev_request *req)
{
	ssize_t ret;

	kev_request_dirty(req);
	refcount_set(&req->refs, 2); /* the device's and ours */
	ret = kev_transfer_pinned(req, IOCB_NOWAIT);
	if (ret != -EIOCBQUEUED) {
		req->res = kev_result(req, ret);
		kev_request_put(req, true);
	}
	kev_request_put(req, true);
}

/* Waits for readiness, or goes on with what is ready. */
static int kev_request_wait(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	int ready = kev_request_hook(req);

	if (ready < 0)
		return ready;
	spin_lock_irq(&r->lock);
	if (ready || req->woken || req->cancelled)
		kev_work_queue(req);
	else
		req->state = KEV_REQ_WAITING;
	spin_unlock_irq(&r->lock);
	return 0;
}

/* Whether its submitter can give it to the device. */
static bool kev_may_issue(const struct kev_request *req)
{
	return req->way == KEV_WAY_DIRECT && req->prompt &&
	       !(req->iocb.ki_flags & IOCB_APPEND);
}

void kev_request_queue(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	spin_lock_irq(&r->lock);
	kev_work_queue(req);
	spin_unlock_irq(&r->lock);
}

static void kev_request_delegate(struct kev_request *req)
{
	req->iocb.ki_ioprio = get_current_ioprio();
	kev_request_queue(req);
}

/* The chain is complete: its first request starts, unless it was cancelled. */
static void kev_chain_start(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	bool here = req->way == KEV_WAY_READY || kev_may_issue(req);
	int ret;

	spin_lock_irq(&r->lock);
	here &= !req->cancelled;
	if (here)
		req->state = KEV_REQ_SUBMIT;
	else
		kev_work_queue(req);
	spin_unlock_irq(&r->lock);
	if (!here)
		return;
	if (req->way == KEV_WAY_DIRECT) {
		kev_request_issue(req);
		return;
	}
	ret = kev_request_wait(req);
	if (ret) {
		req->res = ret == -EAGAIN ? -ENOSPC : ret; /* as for those behind it */
		kev_request_put(req, true);
	}
}

void kev_chain_finish(struct kev_submission *s)
{
	kev_chain_start(s->head);
	s->head = NULL;
	s->tail = NULL;
}

static void kev_chain_add(struct kev_submission *s, struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	req->iocb.ki_ioprio = get_current_ioprio();
	spin_lock_irq(&r->lock);
	req->state = KEV_REQ_LINKED;
	spin_unlock_irq(&r->lock);
	if (s->tail)
		s->tail->next = req;
	else
		s->head = req;
	s->tail = req;
}

/* Done in the caller: its event is posted with those of its neighbours. */
static void kev_request_here(struct kev_submission *s, struct kev_request *req, s64 res)
{
	req->wait.item.ev.result = res;
	req->wait.item.ev.flags = KEVENT_EV_INLINE;
	if (s->done)
		s->done_last->next = req;
	else
		s->done = req;
	s->done_last = req;
}

/* Returns 0 if that was all, 1 if it is to go on without the caller. */
static int kev_submission_try(struct kev_submission *s, struct kev_request *req,
			      const struct kevent_change *c, struct kev_memory *m,
			      bool linked)
{
	int ret = s->transfer ? kev_import(s, c, m) : 0;
	s64 res;

	if (ret)
		return ret;
	if (linked && s->way == KEV_WAY_CALLER)
		return -EOPNOTSUPP;
	if (linked || s->way == KEV_WAY_DIRECT || !kev_done_here(s, c, m, &res))
		return 1;
	if (s->transfer && res == -EFAULT)
		return -EFAULT;
	kev_request_here(s, req, res);
	return 0;
}

static int kev_request_go(struct kev_submission *s, struct kev_request *req,
			  const struct kev_memory *m, bool linked)
{
	int ret = kev_request_detach(s, req, m);

	if (ret)
		return ret;
	if (linked)
		kev_chain_add(s, req);
	else if (req->way == KEV_WAY_READY)
		return kev_request_wait(req);
	else if (kev_may_issue(req))
		kev_request_issue(req);
	else
		kev_request_delegate(req);
	return 0;
}

/* It goes on without the caller, if it can; a part may have been transferred. */
static int kev_request_leave(struct kev_submission *s, struct kev_request *req,
			     const struct kevent_change *c, const struct kev_memory *m,
			     bool linked)
{
	int ret;

	kev_submission_post(s); /* memory that is to be pinned may let us wait */
	kev_request_attach(s, req, c, m);
	ret = kev_request_go(s, req, m, linked);
	if (likely(!ret))
		return 0;
	kev_request_drop(req, true);
	if (!m->done) {
		kev_request_withdraw(req);
		return ret;
	}
	kev_request_here(s, req, m->done);
	return 0;
}

static int kev_submission_next(struct kev_submission *s, struct kev_request *req,
			       const struct kevent_change *c)
{
	bool linked = c->flags & KEVENT_LINK || s->head;
	struct kev_memory m __uninitialized;
	int ret;

	m.count = 0;
	m.want = 0;
	m.done = 0;
	m.buffer = NULL;
	m.iov = m.fast;
	ret = kev_submission_try(s, req, c, &m, linked);
	if (ret > 0) {
		ret = kev_request_leave(s, req, c, &m, linked);
	} else if (ret < 0) {
		req->next = s->stock;
		s->stock = req;
	}
	if (unlikely(m.iov != m.fast))
		kfree(m.iov);
	return ret;
}

long kev_submit(struct kev_submission *s, struct kevent_change *c)
{
	struct kev_ring *r = s->ring;
	struct kev_request *req;
	u64 id;
	int ret;

	if (s->broken)
		return -ECANCELED;
	if (!r || r->index != c->ring)
		r = kev_ring_of(s->q, c->ring);
	if (!r || c->id)
		return -EINVAL;
	ret = kev_check_fields(c) ?: kev_submission_open(s, c);
	if (ret)
		return ret;
	req = kev_request_get(s, r);
	if (IS_ERR(req))
		return PTR_ERR(req);
	kev_request_name(req, c);
	id = req->wait.item.ev.id;
	ret = kev_submission_next(s, req, c);
	if (!ret)
		c->id = id;
	return ret;
}

void kev_submission_forget(struct kev_submission *s)
{
	if (s->file)
		fput(s->file);
	s->file = NULL;
}

void kev_submission_end(struct kev_submission *s)
{
	kev_chain_end(s);
	kev_unstock(s);
	kev_submission_forget(s);
	kev_buffer_put(s->buffer);
	kev_origin_put(s->origin);
}

/* --- cancelling --- */

/*
 * Returns whether it was in time.  If not, and the caller gets a reference, a worker
 * has it, which is to be interrupted without the lock.  CONTEXT: ring->lock
 */
static bool kev_cancel_one(struct kev_request *req, bool *interrupt)
{
	WRITE_ONCE(req->cancelled, true); /* kev_result() has no lock */
	*interrupt = false;
	switch (req->state) {
	case KEV_REQ_WAITING:
		kev_work_queue(req);
		return true;
	case KEV_REQ_QUEUED:
		kev_work_expedite(req);
		return true;
	case KEV_REQ_LINKED:
		return true;
	case KEV_REQ_RUNNING:
		*interrupt = refcount_inc_not_zero(&req->refs);
		return false;
	}
	return false;
}

static void kev_interrupt(struct kev_request *req)
{
	kev_work_interrupt(req);
	kev_request_put(req, true);
}

/* Which requests: of an owner, or of a file, or all. */
struct kev_which {
	const struct kev_owner *owner;
	const struct file *file;
};

static bool kev_matches(const struct kev_request *req, const struct kev_which *which)
{
	if (which->owner && READ_ONCE(req->owner) != which->owner)
		return false;
	return !which->file || READ_ONCE(req->iocb.ki_filp) == which->file;
}

/* Returns how many were in time; goes on after each that must be interrupted. */
static u32 kev_cancel_bucket(struct kev_ring *r, struct hlist_head *bucket,
			     const struct kev_which *which)
{
	struct kev_request *req;
	bool interrupt;
	u32 n = 0;

	do {
		interrupt = false;
		spin_lock_irq(&r->lock);
		hlist_for_each_entry(req, bucket, node) {
			if (req->cancelled || !kev_matches(req, which))
				continue;
			n += kev_cancel_one(req, &interrupt);
			if (interrupt)
				break;
		}
		spin_unlock_irq(&r->lock);
		if (interrupt)
			kev_interrupt(req);
	} while (interrupt);
	return n;
}

static u32 kev_cancel_matching(struct kev_queue *q, const struct kev_which *which)
{
	u32 i, j, n = 0;

	for (i = 0; i < q->nr_rings; i++)
		for (j = 0; j < ARRAY_SIZE(q->rings[i]->inflight); j++)
			if (!hlist_empty(&q->rings[i]->inflight[j]))
				n += kev_cancel_bucket(q->rings[i],
						       &q->rings[i]->inflight[j], which);
	return n;
}

static bool kev_ring_has(struct kev_ring *r, const struct kev_which *which)
{
	struct kev_request *req;
	bool has = false;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(r->inflight) && !has; i++) {
		spin_lock_irq(&r->lock);
		hlist_for_each_entry(req, &r->inflight[i], node) {
			has = kev_matches(req, which);
			if (has)
				break;
		}
		spin_unlock_irq(&r->lock);
		cond_resched();
	}
	return has;
}

static bool kev_queue_has(struct kev_queue *q, const struct kev_which *which)
{
	u32 i;

	for (i = 0; i < q->nr_rings; i++)
		if (kev_ring_has(q->rings[i], which))
			return true;
	return false;
}

static void kev_cancel_and_wait(struct kev_queue *q, const struct kev_which *which)
{
	kev_cancel_matching(q, which);
	wait_event(q->drain, !kev_queue_has(q, which));
}

/* ->flush */
void kev_cancel_owner(struct kev_queue *q, fl_owner_t files)
{
	struct kev_owner *owner = kev_owner_look(q, files, NULL);
	struct kev_which which = { .owner = owner };

	if (!owner)
		return;
	kev_owner_close(q, owner);
	smp_mb(); /* pairs with that in kev_request_detach() */
	kev_cancel_and_wait(q, &which);
	kev_owner_put(owner);
}

/* ->release */
void kev_cancel_all(struct kev_queue *q)
{
	const struct kev_which all = {};
	struct kev_owner *owner, *next;

	if (kev_queue_has(q, &all))
		kev_cancel_and_wait(q, &all);
	list_for_each_entry_safe(owner, next, &q->owners, node)
		kev_owner_close(q, owner);
}

static struct kev_request *kev_request_find(struct kev_ring *r, u64 id)
{
	struct kev_request *req;

	lockdep_assert_held(&r->lock);
	hlist_for_each_entry(req, kev_inflight(r, id), node)
		if (req->wait.item.ev.id == id)
			return req;
	return NULL;
}

static long kev_cancel_id(struct kev_queue *q, u64 id)
{
	u64 index = (id & ~KEV_REQUEST) >> KEV_REQUEST_RING;
	struct kev_request *req;
	bool interrupt = false;
	struct kev_ring *r;
	long ret = -ENOENT;

	if (!(id & KEV_REQUEST) || index >= q->nr_rings)
		return -ENOENT;
	r = q->rings[array_index_nospec(index, q->nr_rings)];
	spin_lock_irq(&r->lock);
	req = kev_request_find(r, id);
	if (req)
		ret = kev_cancel_one(req, &interrupt) ? 0 : -EALREADY;
	spin_unlock_irq(&r->lock);
	if (interrupt)
		kev_interrupt(req);
	return ret;
}

long kev_cancel(struct kev_queue *q, struct kevent_change *c)
{
	struct kev_which which = {};
	struct file *file;
	long ret;

	if (!(c->flags & KEVENT_CANCEL_FILE))
		return c->fd ? -EINVAL : kev_cancel_id(q, c->id);
	if (c->id)
		return -EINVAL;
	file = fget(c->fd);
	if (!file)
		return -EBADF;
	which.file = file;
	ret = kev_cancel_matching(q, &which);
	fput(file);
	return ret;
}

/* Nobody else has the file any more.  CONTEXT: the lock of the file's bucket */
void kev_request_abandon(struct kev_file *f)
{
	struct kev_request *req = container_of(f, struct kev_request, wait);
	struct kev_ring *r = f->item.ring;

	spin_lock_irq(&r->lock);
	if (req->state == KEV_REQ_WAITING) {
		WRITE_ONCE(req->cancelled, true);
		kev_work_queue(req);
	}
	spin_unlock_irq(&r->lock);
}

int kev_requests_init(void)
{
	kev_request_cache = KMEM_CACHE(kev_request, SLAB_ACCOUNT);
	return kev_request_cache ? 0 : -ENOMEM;
}

void kev_requests_exit(void)
{
	/* Completions that have posted their event are on their way out. */
	if (kev_outlived)
		kev_synchronize_tasks();
	kmem_cache_destroy(kev_request_cache);
}
