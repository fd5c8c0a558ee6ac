// SPDX-License-Identifier: GPL-2.0
/*
 * File readiness: hooks in the wait queues of any file that can be polled.
 *
 * A source is hooked first and polled then, and what poll answers is treated as
 * a wakeup: whatever happens in between is seen by one or the other.
 */
#include <linux/magic.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/stat.h>

#include "kev.h"

#define KEV_POLLFREE ((__force u32)POLLFREE)
/* Part of every source's mask; POLLFREE is never reported. */
#define KEV_ALWAYS ((__force u32)(EPOLLERR | EPOLLHUP) | KEV_POLLFREE)
#define KEV_SUBSCRIBE                                                          \
	((__force u32)(EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM |           \
		       EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG |    \
		       EPOLLRDHUP | EPOLLERR | EPOLLHUP))
/* Announced by sockets with every arrival of data, true or not. */
#define KEV_DOUBTFUL ((__force u32)(EPOLLPRI | EPOLLRDBAND))

static struct kmem_cache *kev_file_cache;

static struct kev_file *to_file(struct kev_item *item)
{
	return container_of(item, struct kev_file, item);
}

struct file *kev_file_of(struct kev_item *item)
{
	if (item->ev.kind != KEVENT_KIND_FILE)
		return NULL;
	return to_file(item)->file;
}

static bool kev_process_ended(struct pid *process)
{
	struct signal_struct *signal;
	struct task_struct *task;
	bool ended;

	rcu_read_lock();
	task = pid_task(process, PIDTYPE_TGID);
	signal = task ? READ_ONCE(task->signal) : NULL;
	ended = !signal || !atomic_read(&signal->live);
	rcu_read_unlock();
	return ended;
}

/* Whether @process may poll; in place of one that has ended, any may. */
bool kev_file_may_poll(struct kev_item *item, struct pid *process)
{
	struct pid *owner = to_file(item)->owner;

	return !owner || owner == process || kev_process_ended(owner);
}

/* All that is not an edge with a key.  CONTEXT: ring->lock */
static noinline void kev_file_woken(struct kev_file *f, u32 got)
{
	struct kev_item *item = &f->item;
	u32 bits = got & item->events & ~KEV_POLLFREE;

	if (item->flags & (KEV_DEAD | KEV_DISABLED) || (got && !bits))
		return;
	if (item->flags & KEV_LEVEL)
		kev_level_mark(item);
	else if (!got || bits & KEV_DOUBTFUL)
		kev_stale(item);
	else
		kev_news_slow(item, bits);
}

/* The queue is about to be freed.  CONTEXT: its lock */
noinline int kev_hook_pollfree(wait_queue_entry_t *wait)
{
	struct kev_hook *hook = container_of(wait, struct kev_hook, wait);

	list_del_init(&wait->entry);
	/* Pairs with the acquire in kev_unhook_one(): then the hook may be gone. */
	smp_store_release(&hook->head, NULL);
	return 0;
}

/* What is more than an edge to be posted.  CONTEXT: ring->lock, which it drops */
static noinline int kev_file_wake_slow(wait_queue_entry_t *wait, u32 got,
				       unsigned long flags)
	__releases(&((struct kev_file *)wait->private)->item.ring->lock)
{
	struct kev_file *f = wait->private;
	u32 bits = got & f->item.events;

	kev_file_woken(f, got);
	spin_unlock_irqrestore(&f->item.ring->lock, flags);
	return bits & KEV_POLLFREE ? kev_hook_pollfree(wait) : 0;
}

/*
 * CONTEXT: any, under the lock of a foreign wait queue head, with interrupts on
 * or off.  Posts, lists or marks, and wakes sleepers; polls nothing.
 */
static int kev_file_wake(wait_queue_entry_t *wait, unsigned int mode, int sync,
			 void *key)
{
	struct kev_file *f = wait->private;
	struct kev_ring *r = f->item.ring;
	u32 got = (__force u32)key_to_poll(key), bits;
	unsigned long flags;

	/* Not asked for. */
	if (unlikely(!(got & READ_ONCE(f->item.events)) && got)) {
		/*
		 * A mask that is changed meanwhile is polled for after smp_mb() in
		 * kev_item_enable(), with which this one pairs: the waker's store of
		 * readiness comes before our load of the mask.
		 */
		smp_mb();
		if (!(got & READ_ONCE(f->item.events)))
			return 0;
	}
	spin_lock_irqsave(&r->lock, flags);
	/*
	 * The waker's store of readiness comes before our loads of the mask and
	 * of the claim word.  Pairs with smp_mb() in kev_item_enable() and with
	 * the consumer's fence after its claim.
	 */
	smp_mb__after_spinlock();
	bits = got & f->item.events;
	if (unlikely(!bits || bits & (KEV_DOUBTFUL | KEV_POLLFREE) ||
		     f->item.flags & KEV_UNUSUAL))
		return kev_file_wake_slow(wait, got, flags);
	kev_news(&f->item, bits);
	spin_unlock_irqrestore(&r->lock, flags);
	return 0;
}

struct kev_hooking {
	poll_table table;
	struct kev_file *file;
	wait_queue_func_t wake;
	struct kev_hook **next;
	int error;
};

static void kev_hook(struct file *file, wait_queue_head_t *head, poll_table *table)
{
	struct kev_hooking *h = container_of(table, struct kev_hooking, table);
	struct kev_hook *hook = &h->file->hook;

	if (h->error)
		return;
	if (h->next) {
		hook = kzalloc(sizeof(*hook), GFP_KERNEL_ACCOUNT);
		if (!hook) {
			h->error = -ENOMEM;
			return;
		}
		*h->next = hook;
	}
	h->next = &hook->next;
	init_waitqueue_func_entry(&hook->wait, h->wake);
	hook->wait.private = h->file;
	hook->head = head;
	add_wait_queue(head, &hook->wait);
	/*
	 * The entry is on the queue before the file looks at its state; pairs
	 * with the barrier of the waker's waitqueue_active().  poll_wait() has its
	 * own since 6.14, and in stable releases of that time.
	 */
	smp_mb();
}

/* Puts @wake on all wait queues of the file, and tells what is ready now. */
int kev_hook_all(struct kev_file *f, struct file *file, wait_queue_func_t wake,
		 __poll_t *ready)
{
	__poll_t events = (__force __poll_t)f->item.events;
	struct kev_hooking h = { .file = f, .wake = wake };

	f->hook.head = NULL;
	f->hook.next = NULL;
	init_poll_funcptr(&h.table, kev_hook);
	h.table._key = events;
	*ready = vfs_poll(file, &h.table) & events;
	return h.error;
}

static int kev_file_start(struct kev_item *item, __poll_t *ready)
{
	return kev_hook_all(to_file(item), kev_file_of(item), kev_file_wake, ready);
}

/* What of @mask is ready, without a wait. */
__poll_t kev_poll_file(struct file *file, u32 mask)
{
	__poll_t events = (__force __poll_t)mask;
	poll_table table;

	init_poll_funcptr(&table, NULL);
	table._key = events;
	return vfs_poll(file, &table) & events;
}

static __poll_t kev_file_poll(struct kev_item *item)
{
	return kev_poll_file(kev_file_of(item), READ_ONCE(item->events));
}

/*
 * RCU: who frees a wait queue before its file does so (signalfd, binder) wakes it
 * with POLLFREE first and waits for a grace period.
 */
static void kev_unhook_one(struct kev_hook *hook)
{
	wait_queue_head_t *head;

	rcu_read_lock();
	/* NULL: nobody reads the queue that is being freed; pairs with POLLFREE */
	head = smp_load_acquire(&hook->head);
	if (head)
		remove_wait_queue(head, &hook->wait);
	rcu_read_unlock();
}

void kev_unhook(struct kev_file *f)
{
	struct kev_hook *hook = f->hook.next, *next;

	kev_unhook_one(&f->hook);
	for (; hook; hook = next) {
		next = hook->next;
		kev_unhook_one(hook);
		kfree(hook);
	}
}

/* The memory; the file and what it has of us went before.  CONTEXT: any */
void kev_file_gone(struct kev_item *item)
{
	kev_user_uncharge(item->ring->queue->user);
	kmem_cache_free(kev_file_cache, to_file(item));
}

static void kev_file_release(struct kev_item *item)
{
	struct kev_file *f = to_file(item);

	kev_unhook(f); /* before the file may go */
	kev_watch_detach(f);
	fput(f->file);
	put_pid(f->owner);
	kev_file_gone(item);
}

/* Unless it is being used, or added.  CONTEXT: the lock of the table of items */
static bool kev_file_kill(struct kev_item *item)
{
	struct kev_ring *r = item->ring;
	u32 waits;
	bool idle;

	spin_lock_irq(&r->lock);
	idle = item->ev.id && !item->busy && !(item->flags & KEV_DEAD);
	if (idle) {
		/* What waits for room goes with the last event. */
		waits = item->where == KEV_PENDING ? item->ev.events : 0;
		kev_item_kill(item);
		item->ev.events = waits | (__force u32)EPOLLHUP;
		item->ev.flags |= KEVENT_EV_CLOSED;
	}
	spin_unlock_irq(&r->lock);
	return idle;
}

/*
 * All but this module have closed the file.  Lets go of it and posts CLOSED, unless
 * the source is in use: a later scan comes back.  The event may wait for room, but
 * the file does not: it can be the socket that holds the queue, whose ring nobody
 * would empty any more.  The scan's mutex keeps the queue.  CONTEXT: the lock of the
 * file's bucket
 */
void kev_file_close(struct kev_file *f)
{
	struct kev_item *item = &f->item;
	struct kev_ring *r = item->ring;
	struct kev_queue *q = r->queue;
	struct file *file = f->file;
	bool closed;

	spin_lock(&q->items.lock);
	closed = kev_file_kill(item);
	if (closed) {
		kev_items_erase(&q->items, item);
		kev_unhook(f);
		kev_watch_unlink(f);
		put_pid(f->owner);
		spin_lock_irq(&r->lock);
		kev_post_last(item);
		spin_unlock_irq(&r->lock);
	}
	/* Not before: who does not find the id any more finds the event. */
	spin_unlock(&q->items.lock);
	if (closed)
		fput(file);
}

static int kev_file_check(const struct kevent_change *c)
{
	if (!c->events || c->events & ~KEV_SUBSCRIBE || c->value || c->period)
		return -EINVAL;
	return 0;
}

static void kev_file_modify(struct kev_item *item, const struct kevent_change *c)
{
	WRITE_ONCE(item->events, c->events | KEV_ALWAYS);
	item->ev.events = 0;
}

/* Whether the poll of any process will do. */
static bool kev_polled_by_any(struct file *file)
{
	return S_ISSOCK(file_inode(file)->i_mode) || file->f_op == &kev_fops;
}

/* Sockets, pipes and descriptors of the eventfd kind look at words. */
static bool kev_poll_may_sleep(struct file *file)
{
	struct inode *inode = file_inode(file);

	return !(S_ISSOCK(inode->i_mode) || S_ISFIFO(inode->i_mode) ||
		 inode->i_sb->s_magic == ANON_INODE_FS_MAGIC ||
		 file->f_op == &kev_fops);
}

static struct kev_file *kev_file_alloc(struct kev_user *user)
{
	struct kev_file *f;

	if (kev_user_charge(user))
		return ERR_PTR(-ENOSPC);
	f = kmem_cache_alloc(kev_file_cache, GFP_KERNEL);
	if (f) {
		memset(&f->item, 0, sizeof(f->item));
		f->owner = NULL;
		f->hook.head = NULL;
		f->hook.next = NULL;
		return f;
	}
	kev_user_uncharge(user);
	return ERR_PTR(-ENOMEM);
}

/* Takes over the reference to @file, unless it fails. */
static struct kev_item *kev_file_new(struct kev_queue *q,
				     const struct kevent_change *c,
				     struct file *file)
{
	struct kev_file *f = kev_file_alloc(q->user);
	int ret;

	if (IS_ERR(f))
		return ERR_CAST(f);
	kev_item_init(&f->item, kev_ring_of(q, c->ring), c);
	kev_file_modify(&f->item, c);
	f->file = file;
	ret = kev_watch_attach(f);
	if (ret) {
		kev_user_uncharge(q->user);
		kmem_cache_free(kev_file_cache, f);
		return ERR_PTR(ret);
	}
	if (!kev_polled_by_any(file))
		f->owner = get_pid(task_tgid(current));
	if (kev_poll_may_sleep(file))
		f->item.flags |= KEV_SLEEPY;
	return &f->item;
}

static struct kev_item *kev_file_create(struct kev_queue *q,
					const struct kevent_change *c)
{
	struct file *file = fget(c->fd);
	struct kev_item *item;

	if (!file)
		return ERR_PTR(-EBADF);
	item = file_can_poll(file) ? kev_file_new(q, c, file) : ERR_PTR(-EPERM);
	if (IS_ERR(item))
		fput(file);
	return item;
}

const struct kev_kind kev_file_kind = {
	.add_flags = KEVENT_ONESHOT | KEVENT_LEVEL | KEVENT_DISABLED,
	.check = kev_file_check,
	.create = kev_file_create,
	.start = kev_file_start,
	.modify = kev_file_modify,
	.poll = kev_file_poll,
	.release = kev_file_release,
};

/* Memory of a cache that has a constructor is not zeroed for each allocation. */
static void kev_file_construct(void *f)
{
}

int kev_file_init(void)
{
	kev_file_cache = kmem_cache_create("kev_file", sizeof(struct kev_file), 0,
					   SLAB_ACCOUNT, kev_file_construct);
	return kev_file_cache ? 0 : -ENOMEM;
}

void kev_file_exit(void)
{
	kmem_cache_destroy(kev_file_cache);
}
