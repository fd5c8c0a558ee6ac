// SPDX-License-Identifier: GPL-2.0
/*
 * Requests: submission, completion, chains, cancelling.
 *
 * Who has a request
 *
 *   It is in ring->inflight from its submission until its event is posted.
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
 *   submitted; both a submission's look at the mark and the cancelling are under
 *   ring->lock, so that none is missed.  An owner is made only if the table still
 *   has a descriptor of the queue.
 */
#include <linux/backing-dev.h>
#include <linux/cred.h>
#include <linux/magic.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kev.h"

/* One write to a blocking descriptor that cannot be told not to wait. */
#define KEV_BLOCKING_WRITE 4096

static struct kmem_cache *kev_request_cache;

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

static bool kev_is_write(const struct kev_request *req)
{
	return kev_request_kind(req) == KEVENT_KIND_WRITE ||
	       kev_request_kind(req) == KEVENT_KIND_WRITEV;
}

static bool kev_is_transfer(const struct kev_request *req)
{
	return kev_request_kind(req) >= KEVENT_KIND_READ &&
	       kev_request_kind(req) <= KEVENT_KIND_WRITEV;
}

void kev_request_free(struct kev_item *item)
{
	kmem_cache_free(kev_request_cache, to_request(item));
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

/* It has closed the queue, or goes with it. */
static void kev_owner_close(struct kev_queue *q, struct kev_owner *owner)
{
	bool listed;

	spin_lock(&q->owners_lock);
	listed = !list_empty(&owner->node);
	list_del_init(&owner->node);
	spin_unlock(&q->owners_lock);
	WRITE_ONCE(owner->closed, true);
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

void kev_origin_put(struct kev_origin *o)
{
	if (!o || !refcount_dec_and_test(&o->refs))
		return;
	put_cred(o->cred);
	mem_cgroup_put(o->memcg);
	kev_put_blkcg(o->blkcg);
	kev_owner_put(o->owner);
	kfree(o);
}

static struct kev_origin *kev_origin_get(struct kev_submission *s)
{
	struct kev_origin *o = s->origin;
	int ret;

	if (!o) {
		ret = kev_work_start(s->q->user);
		if (ret)
			return ERR_PTR(ret);
		o = kzalloc(sizeof(*o), GFP_KERNEL_ACCOUNT);
		if (!o)
			return ERR_PTR(-ENOMEM);
		o->owner = kev_owner_get(s->q);
		if (IS_ERR(o->owner)) {
			ret = PTR_ERR(o->owner);
			kfree(o);
			return ERR_PTR(ret);
		}
		refcount_set(&o->refs, 1);
		o->cred = get_current_cred();
		o->memcg = get_mem_cgroup_from_mm(current->mm);
		o->blkcg = kev_current_blkcg();
		s->origin = o;
	}
	refcount_inc(&o->refs);
	return o;
}

/* --- the buffer --- */

static void kev_piece_pages(const struct iovec *piece, unsigned long *first, u32 *n)
{
	unsigned long start = (unsigned long)piece->iov_base;

	*first = start & PAGE_MASK;
	*n = DIV_ROUND_UP(start - *first + piece->iov_len, PAGE_SIZE);
}

static u32 kev_count_pages(struct iov_iter iter)
{
	unsigned long first;
	u32 n, total = 0;

	for (; iov_iter_count(&iter); total += n) {
		struct iovec piece;

		iov_iter_advance(&iter, 0); /* past empty pieces */
		piece = kev_iter_piece(&iter);
		kev_piece_pages(&piece, &first, &n);
		iov_iter_advance(&iter, piece.iov_len);
	}
	return total;
}

/*
 * A device fills the pages behind the back of their mapping: they are marked dirty
 * before, and looked at again after.
 */
static void kev_mark_dirty(const struct kev_request *req)
{
	u32 i;

	for (i = 0; i < req->nr_vecs; i++)
		if (!PageDirty(req->vecs[i].bv_page))
			set_page_dirty_lock(req->vecs[i].bv_page);
}

static bool kev_all_dirty(const struct kev_request *req)
{
	u32 i;

	for (i = 0; i < req->nr_vecs; i++)
		if (!PageDirty(req->vecs[i].bv_page))
			return false;
	return true;
}

static void kev_unpin(struct kev_request *req)
{
	u32 i;

	for (i = 0; i < req->nr_vecs; i++)
		unpin_user_page(req->vecs[i].bv_page);
	if (req->vecs != req->small)
		kvfree(req->vecs);
	req->nr_vecs = 0;
	req->vecs = NULL;
}

static int kev_pin_pages(struct kev_request *req, unsigned long start, u32 n,
			 struct page **pages)
{
	unsigned int gup = kev_is_write(req) ? 0 : FOLL_WRITE;
	int got = -EFAULT;

	/* A peer may let us wait for long. */
	if (req->way == KEV_WAY_READY)
		got = pin_user_pages_fast(start, n, gup | FOLL_LONGTERM, pages);
	if (got <= 0)
		got = pin_user_pages_fast(start, n, gup, pages);
	return got;
}

/* Pins from where @iter stands.  Returns the bytes pinned, 0 for a bad address. */
static size_t kev_pin_piece(struct kev_request *req, const struct iovec *piece)
{
	struct page *pages[32];
	unsigned long first, offset;
	size_t bytes = 0;
	int got, i;
	u32 n;

	kev_piece_pages(piece, &first, &n);
	offset = (unsigned long)piece->iov_base - first;
	got = kev_pin_pages(req, first, min_t(u32, n, ARRAY_SIZE(pages)), pages);
	for (i = 0; i < got; i++) {
		struct bio_vec *v = &req->vecs[req->nr_vecs++];

		v->bv_page = pages[i];
		v->bv_offset = offset;
		v->bv_len = min_t(size_t, PAGE_SIZE - offset, piece->iov_len - bytes);
		bytes += v->bv_len;
		offset = 0;
	}
	return bytes;
}

/* What cannot be pinned shortens the request, as it does pread(2). */
static int kev_pin(struct kev_request *req, struct iov_iter *iter, u32 pages)
{
	size_t n;

	req->vecs = req->small;
	if (pages > KEV_SMALL_VECS)
		req->vecs = kvmalloc_array(pages, sizeof(*req->vecs),
					   GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->vecs)
		return -ENOMEM;
	while (iov_iter_count(iter)) {
		struct iovec piece;

		iov_iter_advance(iter, 0);
		piece = kev_iter_piece(iter);
		n = kev_pin_piece(req, &piece);
		iov_iter_advance(iter, n);
		if (!n)
			break;
		cond_resched();
	}
	return pages && !req->nr_vecs ? -EFAULT : 0;
}

/* --- the end --- */

/*
 * What comes next in the chain is given to a worker, which also ends it if this
 * one failed.  CONTEXT: any
 */
static void kev_chain_next(struct kev_request *next, bool ok)
{
	struct kev_ring *r = kev_ring_at(next);
	unsigned long flags;

	spin_lock_irqsave(&r->lock, flags);
	next->cancelled |= !ok;
	kev_work_queue(next);
	spin_unlock_irqrestore(&r->lock, flags);
}

static bool kev_succeeded(const struct kev_request *req)
{
	if (kev_is_transfer(req))
		return req->res >= 0 && (size_t)req->res == req->want;
	return req->res >= 0;
}

/* It is in nobody's way any more.  CONTEXT: ring->lock */
static void kev_request_unlist(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	hlist_del(&req->node);
	kev_unhold(r, req->held);
	if (waitqueue_active(&r->queue->drain))
		wake_up_all(&r->queue->drain);
}

static void kev_request_post(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	struct kev_request *next = req->next;
	bool ok = kev_succeeded(req);
	unsigned long flags;

	/* Exit waits for this, and whoever frees the queue for the lock. */
	rcu_read_lock();
	spin_lock_irqsave(&r->lock, flags);
	kev_request_unlist(req);
	req->wait.item.ev.result = req->res;
	kev_post_request(&req->wait.item);
	spin_unlock_irqrestore(&r->lock, flags);
	if (next)
		kev_chain_next(next, ok);
	rcu_read_unlock();
}

static void kev_end_write(struct kev_request *req)
{
	struct super_block *sb;

	if (!req->writing)
		return;
	req->writing = false;
	sb = file_inode(req->iocb.ki_filp)->i_sb;
	__sb_writers_acquired(sb, SB_FREEZE_WRITE); /* lockdep: on its behalf */
	sb_end_write(sb);
}

static void kev_request_drop(struct kev_request *req)
{
	kev_unpin(req);
	if (req->hooked) {
		kev_unhook(&req->wait);
		kev_watch_detach(&req->wait);
	}
	if (req->iocb.ki_filp)
		fput(req->iocb.ki_filp);
	kev_origin_put(req->origin);
}

/* Requests with hooks are finished in process context: no device has them. */
void kev_request_finish(struct kev_request *req, bool may_sleep)
{
	if (kev_is_transfer(req) && !kev_is_write(req) && !kev_all_dirty(req)) {
		if (!may_sleep) {
			kev_work_settle(req);
			return;
		}
		kev_mark_dirty(req);
	}
	kev_request_drop(req);
	kev_request_post(req);
}

/* The device or file system could not take it without waiting after all. */
static bool kev_request_again(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	unsigned long flags;

	if (req->way != KEV_WAY_DIRECT || req->res != -EAGAIN ||
	    !(req->iocb.ki_flags & IOCB_NOWAIT))
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
	kev_end_write(req);
	if (!kev_request_again(req))
		kev_request_finish(req, may_sleep);
}

KEV_KI_COMPLETE(kev_kiocb_complete, iocb, res)
{
	struct kev_request *req = container_of(iocb, struct kev_request, iocb);

	req->res = res;
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

/* CONTEXT: the submitter, or a worker in its place */
static ssize_t kev_transfer(struct kev_request *req, struct iov_iter *iter, int flags)
{
	struct kiocb *iocb = &req->iocb;
	ssize_t ret;

	iocb->ki_pos = req->offset + req->done;
	iocb->ki_flags = (iocb->ki_flags & ~(IOCB_NOWAIT | IOCB_NOIO)) | flags;
	if (!kev_is_write(req))
		return vfs_iocb_iter_read(iocb->ki_filp, iocb, iter);
	if (!kev_begin_write(req, !(flags & IOCB_NOWAIT)))
		return flags & IOCB_NOWAIT ? -EAGAIN : -EINTR;
	iocb->ki_flags |= IOCB_WRITE;
	ret = vfs_iocb_iter_write(iocb->ki_filp, iocb, iter);
	if (ret != -EIOCBQUEUED)
		kev_end_write(req);
	return ret;
}

static ssize_t kev_transfer_pinned(struct kev_request *req, int flags)
{
	struct iov_iter iter;
	size_t bytes = 0;
	u32 i;

	for (i = 0; i < req->nr_vecs; i++)
		bytes += req->vecs[i].bv_len;
	iov_iter_bvec(&iter, kev_is_write(req) ? WRITE : READ, req->vecs, req->nr_vecs,
		      bytes);
	req->iocb.ki_complete = kev_kiocb_complete;
	return kev_transfer(req, &iter, flags);
}

/* IOCB_NOWAIT if the file knows that, 0 if it never waits, -1 otherwise */
static int kev_nowait(const struct file *file)
{
	umode_t mode = file_inode(file)->i_mode;

	if (file->f_mode & FMODE_NOWAIT || S_ISSOCK(mode))
		return IOCB_NOWAIT;
	return file->f_flags & O_NONBLOCK && !S_ISREG(mode) && !S_ISBLK(mode) ? 0 : -1;
}

static u32 kev_wait_events(const struct kev_request *req)
{
	return (__force u32)(EPOLLERR | EPOLLHUP |
			     (kev_is_write(req) ? EPOLLOUT | EPOLLWRNORM :
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
	/* Pairs with smp_mb() in kev_ready_transfer(). */
	smp_mb__after_spinlock();
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
	ret = kev_watch_attach(&req->wait, get_file(file));
	if (ret)
		return ret == -ENOSPC ? -EAGAIN : ret;
	req->hooked = true;
	req->wait.item.ev.flags |= KEVENT_EV_WAITED;
	ret = kev_hook_all(&req->wait, file, kev_request_wake, &ready);
	return ret ?: (__force int)ready;
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
		/* woken was cleared; pairs with the barrier in kev_request_wake() */
		smp_mb();
		ready = (__force int)kev_poll_file(req->iocb.ki_filp,
						   req->wait.item.events);
	}
	if (!ready)
		return -EAGAIN;
	return kev_transfer_pinned(req, max(flags, 0));
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
	if (req->way == KEV_WAY_DIRECT && !kev_is_write(req))
		kev_mark_dirty(req);
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

static bool kev_interrupted(ssize_t res)
{
	return res == -EINTR || res == -ERESTARTSYS || res == -ERESTARTNOINTR ||
	       res == -ERESTARTNOHAND || res == -ERESTART_RESTARTBLOCK;
}

/* What the caller sees of @res, after a part was transferred during submission. */
static ssize_t kev_result(struct kev_request *req, ssize_t res)
{
	if (res < 0 && req->done)
		return req->done;
	if (kev_interrupted(res))
		return READ_ONCE(req->cancelled) ? -ECANCELED : -EINTR;
	return res < 0 ? res : res + req->done;
}

/* A worker is done with it for now. */
void kev_request_performed(struct kev_request *req, ssize_t res)
{
	bool again = req->way == KEV_WAY_READY && res == -EAGAIN;

	if (res != -EIOCBQUEUED && !(again && kev_request_rewait(req))) {
		req->res = kev_result(req, again ? -EINTR : res);
		kev_request_put(req, true);
	}
	kev_request_put(req, true);
}

/* --- submission --- */

/* Files whose operations do not depend on the task that makes them. */
static bool kev_may_delegate(const struct file *file)
{
	const struct super_block *sb = file_inode(file)->i_sb;

	if (sb->s_bdi != &noop_backing_dev_info)
		return true;
	return sb->s_magic == TMPFS_MAGIC || sb->s_magic == RAMFS_MAGIC ||
	       sb->s_magic == HUGETLBFS_MAGIC || sb->s_magic == OVERLAYFS_SUPER_MAGIC;
}

/* Of descriptors without a place in a file system, these do not either. */
static bool kev_known_anonymous(const struct file *file)
{
	const char *name = (const char *)file->f_path.dentry->d_name.name;

	return !strcmp(name, "[eventfd]") || !strcmp(name, "[timerfd]");
}

static int kev_way_of(const struct kev_request *req)
{
	const struct file *file = req->iocb.ki_filp;
	const struct inode *inode = file_inode(file);

	if (S_ISREG(inode->i_mode) && !kev_may_delegate(file))
		return KEV_WAY_CALLER;
	if (!kev_is_transfer(req))
		return KEV_WAY_WORKER;
	if (S_ISREG(inode->i_mode) || S_ISBLK(inode->i_mode))
		return file->f_flags & O_DIRECT ? KEV_WAY_DIRECT : KEV_WAY_WORKER;
	if (inode->i_sb->s_magic == ANON_INODE_FS_MAGIC && !kev_known_anonymous(file))
		return -EOPNOTSUPP;
	return file_can_poll((struct file *)file) ? KEV_WAY_READY : KEV_WAY_WORKER;
}

static int kev_check_transfer(const struct kev_request *req)
{
	const struct file *file = req->iocb.ki_filp;
	bool write = kev_is_write(req);

	if (!(file->f_mode & (write ? FMODE_WRITE : FMODE_READ)))
		return -EBADF;
	if (S_ISDIR(file_inode(file)->i_mode))
		return -EISDIR;
	if (!(write ? (void *)file->f_op->write_iter : (void *)file->f_op->read_iter))
		return -EOPNOTSUPP;
	if (req->offset && !(file->f_mode & (write ? FMODE_PWRITE : FMODE_PREAD)))
		return -ESPIPE;
	return 0;
}

/* The file of a request, and which way it goes. */
static int kev_request_open(struct kev_request *req, const struct kevent_change *c)
{
	struct file *file = fget(c->fd);
	int ret = 0;

	if (!file)
		return -EBADF;
	init_sync_kiocb(&req->iocb, file);
	req->offset = c->offset;
	if (kev_is_transfer(req))
		ret = kev_check_transfer(req) ?:
		      kev_set_rw_flags(&req->iocb, c->rw_flags,
				       kev_is_write(req) ? WRITE : READ);
	if (!ret)
		ret = kev_way_of(req);
	if (ret < 0)
		return ret;
	req->way = ret;
	return 0;
}

#define KEV_RW_FLAGS ((__force u32)(RWF_DSYNC | RWF_SYNC | RWF_APPEND))

static int kev_check_fields(const struct kevent_change *c)
{
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
static int kev_limit_size(const struct kev_request *req, struct iov_iter *iter)
{
	struct inode *inode = file_inode(req->iocb.ki_filp);
	u64 limit = rlimit(RLIMIT_FSIZE);
	loff_t from = req->offset;

	if (limit == RLIM_INFINITY || !kev_is_write(req) || !S_ISREG(inode->i_mode) ||
	    !iov_iter_count(iter))
		return 0;
	if (req->iocb.ki_flags & IOCB_APPEND)
		from = i_size_read(inode);
	if (from >= limit)
		return -EFBIG;
	iov_iter_truncate(iter, limit - from);
	return 0;
}

/* The caller's buffer; @iov is to be freed. */
static int kev_request_import(struct kev_request *req, const struct kevent_change *c,
			      struct iovec *fast, struct iovec **iov,
			      struct iov_iter *iter)
{
	int rw = kev_is_write(req) ? WRITE : READ;
	void __user *address = u64_to_user_ptr(c->addr);
	ssize_t ret;

	if (c->kind == KEVENT_KIND_READ || c->kind == KEVENT_KIND_WRITE)
		ret = kev_import_buffer(rw, address, c->len, fast, iter);
	else
		ret = import_iovec(rw, address, c->len, UIO_FASTIOV, iov, iter);
	if (ret < 0)
		return ret;
	req->want = iov_iter_count(iter);
	if (req->way == KEV_WAY_READY && rw == WRITE && kev_nowait(req->iocb.ki_filp) < 0)
		iov_iter_truncate(iter, KEV_BLOCKING_WRITE);
	return kev_limit_size(req, iter);
}

/* Gives it its id; from here on it is counted. */
static int kev_request_list(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	int ret = 0;

	spin_lock_irq(&r->lock);
	if (kev_request_reserve(r)) {
		u64 id = KEV_REQUEST | (u64)r->index << KEV_REQUEST_RING |
			 ++r->last_request;

		req->wait.item.ev.id = id;
		hlist_add_head(&req->node,
			       &r->inflight[id % ARRAY_SIZE(r->inflight)]);
	} else {
		ret = -EAGAIN;
	}
	spin_unlock_irq(&r->lock);
	return ret;
}

/* It is refused after all. */
static void kev_request_withdraw(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	kev_request_drop(req);
	spin_lock_irq(&r->lock);
	kev_request_unlist(req);
	kev_request_gone(&req->wait.item);
	spin_unlock_irq(&r->lock);
}

/* Counts the pages, unless the submitter has closed the queue meanwhile. */
static int kev_request_keep(struct kev_request *req, struct kev_origin *o, u32 pages)
{
	struct kev_ring *r = kev_ring_at(req);
	int ret = 0;

	spin_lock_irq(&r->lock);
	req->origin = o;
	if (READ_ONCE(o->owner->closed))
		ret = -EBADF;
	else if (!kev_hold(r, pages))
		ret = -EAGAIN;
	else
		req->held = pages;
	spin_unlock_irq(&r->lock);
	return ret;
}

/* What must be there for it to go on without its submitter. */
static int kev_request_detach(struct kev_submission *s, struct kev_request *req,
			      struct iov_iter *iter)
{
	struct kev_origin *o = kev_origin_get(s);
	u32 pages = kev_is_transfer(req) ? kev_count_pages(*iter) : 0;
	int ret;

	if (IS_ERR(o))
		return PTR_ERR(o);
	ret = kev_request_keep(req, o, pages);
	if (!ret && pages)
		ret = kev_pin(req, iter, pages);
	return ret;
}

/* The last part of a short read may be past what the page cache has. */
static bool kev_is_complete(const struct kev_request *req)
{
	const struct inode *host = req->iocb.ki_filp->f_mapping->host;

	if (req->way != KEV_WAY_WORKER || req->done == req->want)
		return true;
	return req->offset + req->done >= i_size_read(host);
}

/* Tries it in the caller.  Returns whether that was all, and the result is set. */
static bool kev_request_try(struct kev_request *req, struct iov_iter *iter)
{
	struct file *file = req->iocb.ki_filp;
	int flags = 0;

	if (kev_request_kind(req) == KEVENT_KIND_NOP)
		return true;
	if (req->way == KEV_WAY_CALLER) {
		req->res = kev_is_transfer(req) ? kev_transfer(req, iter, 0) :
						  kev_request_perform(req);
		return true;
	}
	if (!kev_is_transfer(req))
		return false;
	if (req->way == KEV_WAY_WORKER) {
		if (kev_is_write(req) || !(file->f_mode & FMODE_NOWAIT))
			return false;
		flags = IOCB_NOWAIT | IOCB_NOIO;
	} else if (req->way == KEV_WAY_READY) {
		flags = kev_nowait(file);
	}
	if (req->way == KEV_WAY_DIRECT || flags < 0)
		return false;
	req->res = kev_transfer(req, iter, flags);
	if (req->res == -EAGAIN)
		return false;
	if (req->res <= 0)
		return true;
	req->done = req->res;
	return kev_is_complete(req);
}

/* Gives the device what it can take without waiting. */
static void kev_request_issue(struct kev_request *req)
{
	ssize_t ret;

	if (!kev_is_write(req))
		kev_mark_dirty(req);
	refcount_inc(&req->refs);
	ret = kev_transfer_pinned(req, IOCB_NOWAIT);
	if (ret != -EIOCBQUEUED) {
		req->res = ret;
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

/* Starts what is detached from its submitter and need not wait for readiness. */
static void kev_request_start(struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);
	bool issue = false;

	if (req->way == KEV_WAY_DIRECT) {
		req->wait.item.ev.flags |= KEVENT_EV_DIRECT;
		issue = req->iocb.ki_filp->f_mode & FMODE_NOWAIT;
	}
	spin_lock_irq(&r->lock);
	issue &= !req->cancelled;
	if (issue)
		req->state = KEV_REQ_SUBMIT;
	else
		kev_work_queue(req);
	spin_unlock_irq(&r->lock);
	if (issue)
		kev_request_issue(req);
}

/* The chain is complete: its first request starts. */
void kev_submit_end(struct kev_submission *s)
{
	if (s->head)
		kev_request_start(s->head);
	s->head = NULL;
	s->tail = NULL;
	s->broken = false;
}

static void kev_chain_add(struct kev_submission *s, struct kev_request *req)
{
	struct kev_ring *r = kev_ring_at(req);

	spin_lock_irq(&r->lock);
	req->state = KEV_REQ_LINKED;
	spin_unlock_irq(&r->lock);
	if (s->tail)
		s->tail->next = req;
	else
		s->head = req;
	s->tail = req;
}

/* The way of one that is listed; an error leaves it to the caller. */
static int kev_request_go(struct kev_submission *s, struct kev_request *req,
			  struct iov_iter *iter, bool linked)
{
	struct iov_iter at = *iter;
	int ret;

	if (linked && req->way == KEV_WAY_CALLER)
		return -EOPNOTSUPP;
	if (!linked && kev_request_try(req, &at)) {
		req->res = kev_result(req, req->done ? 0 : req->res);
		req->wait.item.ev.flags |= KEVENT_EV_INLINE;
		kev_request_put(req, true);
		return 0;
	}
	iov_iter_advance(iter, req->done);
	ret = kev_request_detach(s, req, iter);
	if (ret)
		return ret;
	if (linked)
		kev_chain_add(s, req);
	else if (req->way == KEV_WAY_READY)
		return kev_request_wait(req);
	else
		kev_request_start(req);
	return 0;
}

static int kev_request_submit(struct kev_submission *s, struct kev_request *req,
			      struct kevent_change *c)
{
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	bool linked = c->flags & KEVENT_LINK || s->head;
	struct iov_iter iter = {};
	int ret = 0;

	if (c->kind != KEVENT_KIND_NOP)
		ret = kev_request_open(req, c);
	if (!ret && kev_is_transfer(req))
		ret = kev_request_import(req, c, fast, &iov, &iter);
	if (!ret)
		ret = kev_request_list(req);
	if (ret) {
		kev_request_drop(req);
		kev_request_free(&req->wait.item);
	} else {
		c->id = req->wait.item.ev.id;
		ret = kev_request_go(s, req, &iter, linked);
		if (ret)
			kev_request_withdraw(req);
	}
	if (iov != fast)
		kfree(iov);
	return ret;
}

long kev_submit(struct kev_submission *s, struct kevent_change *c)
{
	struct kev_ring *r = kev_ring_of(s->q, c->ring);
	struct kev_request *req;
	int ret;

	if (s->broken)
		return -ECANCELED;
	if (!r || c->id)
		return -EINVAL;
	ret = kev_check_fields(c);
	if (ret)
		return ret;
	req = kmem_cache_zalloc(kev_request_cache, GFP_KERNEL);
	if (!req)
		return -ENOMEM;
	kev_item_init(&req->wait.item, r, c);
	req->wait.item.flags |= KEV_ONCE;
	refcount_set(&req->refs, 1);
	kev_work_prepare(req);
	if (c->kind == KEVENT_KIND_NOP) {
		req->way = KEV_WAY_WORKER;
		req->res = c->value;
	}
	ret = kev_request_submit(s, req, c);
	if (ret)
		c->id = 0;
	return ret;
}

/* --- cancelling --- */

/*
 * Returns whether it was in time.  If not, and the caller gets a reference, a worker
 * has it, which is to be interrupted without the lock.  CONTEXT: ring->lock
 */
static bool kev_cancel_one(struct kev_request *req, bool *interrupt)
{
	req->cancelled = true;
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
	if (which->owner && !(req->origin && req->origin->owner == which->owner))
		return false;
	return !which->file || req->iocb.ki_filp == which->file;
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
		hlist_for_each_entry(req, &r->inflight[i], node)
			has |= kev_matches(req, which);
		spin_unlock_irq(&r->lock);
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
	/* What workers and devices had open last is closed now, not a tick later. */
	flush_delayed_fput();
}

/* ->flush */
void kev_cancel_owner(struct kev_queue *q, fl_owner_t files)
{
	struct kev_owner *owner = kev_owner_look(q, files, NULL);
	struct kev_which which = { .owner = owner };

	if (!owner)
		return;
	kev_owner_close(q, owner);
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
	hlist_for_each_entry(req, &r->inflight[id % ARRAY_SIZE(r->inflight)], node)
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
	r = q->rings[index];
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

/* Nobody else has the file any more.  CONTEXT: the lock of the watch's bucket */
void kev_request_abandon(struct kev_file *f)
{
	struct kev_request *req = container_of(f, struct kev_request, wait);
	struct kev_ring *r = f->item.ring;

	spin_lock_irq(&r->lock);
	if (req->state == KEV_REQ_WAITING) {
		req->cancelled = true;
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
	synchronize_rcu(); /* completions that have posted their event */
	kmem_cache_destroy(kev_request_cache);
}
