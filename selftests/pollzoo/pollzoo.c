// SPDX-License-Identifier: GPL-2.0
/*
 * pollzoo - a device whose poll is programmed, for tests only.
 *
 * See pollzoo.h.  The wait queues live in an object of their own, freed by RCU
 * after POLLFREE, as those of signalfd and binder do: they die before the file.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../../module/compat.h"
#include "pollzoo.h"

#ifndef POLLFREE
#define POLLFREE ((__force __poll_t)0x4000)
#endif

struct zoo_queues {
	wait_queue_head_t head[POLLZOO_QUEUES];
	struct rcu_head rcu;
};

/**
 * struct zoo - one open file
 * @lock:     the life of @queues
 * @queues:   NULL after POLLZOO_IOC_FREE
 * @program:  read by poll, word by word
 * @gate:     where sleeping polls sleep
 * @sleeping: how many do
 * @tickets:  which poll slept last
 * @released: up to which they were let go
 * @polls:    calls of poll
 * @wakes:    wakeups made
 */
struct zoo {
	struct mutex lock; /* the life of @queues */
	struct zoo_queues __rcu *queues;
	struct pollzoo_program program;
	wait_queue_head_t gate;
	atomic_t sleeping;
	atomic_t tickets;
	atomic_t released;
	atomic_t polls;
	atomic_t wakes;
};

/* ------------------------------------------------------------------------ */
/* Poll */

static void zoo_sleep(struct zoo *z, u32 flags)
{
	int ticket;

	if (flags & POLLZOO_NAP)
		msleep_interruptible(1);
	if (!(flags & (POLLZOO_SLEEP | POLLZOO_ONCE)))
		return;
	if (flags & POLLZOO_ONCE)
		WRITE_ONCE(z->program.flags, flags & ~POLLZOO_ONCE);
	ticket = atomic_inc_return(&z->tickets);
	atomic_inc(&z->sleeping);
	wait_event_killable(z->gate, atomic_read(&z->released) - ticket >= 0);
	atomic_dec(&z->sleeping);
}

/* @lock keeps the queues while poll_wait(), which may sleep, adds to them. */
static void zoo_poll_wait(struct zoo *z, struct file *file, poll_table *wait,
			  u32 flags, u32 turn)
{
	u32 i, n = READ_ONCE(z->program.queues);
	struct zoo_queues *q;

	mutex_lock(&z->lock);
	q = rcu_dereference_protected(z->queues, lockdep_is_held(&z->lock));
	for (i = 0; q && i < n; i++)
		poll_wait(file, &q->head[(i + turn) % POLLZOO_QUEUES], wait);
	if (q && n && flags & POLLZOO_TWICE)
		poll_wait(file, &q->head[turn % POLLZOO_QUEUES], wait);
	mutex_unlock(&z->lock);
}

static __poll_t zoo_poll(struct file *file, poll_table *wait)
{
	struct zoo *z = file->private_data;
	u32 flags = READ_ONCE(z->program.flags);
	u32 turn = atomic_inc_return(&z->polls);
	u32 mask;

	if (wait && wait->_qproc)
		zoo_poll_wait(z, file, wait, flags,
			      flags & POLLZOO_ROTATE ? turn : 0);
	/* What was true before it slept; pairs with whoever stores it. */
	mask = smp_load_acquire(&z->program.mask);
	zoo_sleep(z, flags);
	return (__force __poll_t)mask;
}

/* ------------------------------------------------------------------------ */
/* Wakeups */

struct zoo_waker {
	struct zoo *zoo;
	struct pollzoo_wake what;
	struct hrtimer timer;
	struct irq_work work;
	struct completion done;
	spinlock_t lock; /* held in POLLZOO_ATOMIC */
};

static void zoo_wake_once(struct zoo *z, const struct pollzoo_wake *w)
{
	struct zoo_queues *q;

	rcu_read_lock();
	q = rcu_dereference(z->queues);
	if (w->flags & POLLZOO_SET_MASK)
		/* The state comes before the wakeup that tells of it: zoo_poll(). */
		smp_store_release(&z->program.mask, w->mask);
	atomic_inc(&z->wakes);
	if (q && w->flags & POLLZOO_NO_KEY)
		wake_up(&q->head[w->queue]);
	else if (q)
		wake_up_poll(&q->head[w->queue], (__force __poll_t)w->key);
	rcu_read_unlock();
}

static void zoo_wake_all(struct zoo_waker *k)
{
	u32 i;

	for (i = 0; i < k->what.count; i++)
		zoo_wake_once(k->zoo, &k->what);
}

static enum hrtimer_restart zoo_timer(struct hrtimer *timer)
{
	struct zoo_waker *k = container_of(timer, struct zoo_waker, timer);

	zoo_wake_all(k);
	complete(&k->done);
	return HRTIMER_NORESTART;
}

static void zoo_irq_work(struct irq_work *work)
{
	struct zoo_waker *k = container_of(work, struct zoo_waker, work);

	zoo_wake_all(k);
	complete(&k->done);
}

static void zoo_start_timer(struct zoo_waker *k, enum hrtimer_mode mode)
{
	hrtimer_setup(&k->timer, zoo_timer, CLOCK_MONOTONIC, mode);
	hrtimer_start(&k->timer, ns_to_ktime(1000), mode);
	wait_for_completion(&k->done);
	hrtimer_cancel(&k->timer);
}

static void zoo_wake_in(struct zoo_waker *k)
{
	unsigned long flags;

	switch (k->what.context) {
	case POLLZOO_TASK:
		zoo_wake_all(k);
		break;
	case POLLZOO_ATOMIC:
		/* As other wakers: interrupts are off, but on PREEMPT_RT. */
		spin_lock_irqsave(&k->lock, flags);
		zoo_wake_all(k);
		spin_unlock_irqrestore(&k->lock, flags);
		break;
	case POLLZOO_SOFTIRQ:
		zoo_start_timer(k, HRTIMER_MODE_REL_SOFT);
		break;
	case POLLZOO_HARDIRQ:
		/* Not _HARD, which may not take a wait queue's lock on RT. */
		zoo_start_timer(k, HRTIMER_MODE_REL);
		break;
	case POLLZOO_IRQ_WORK:
		irq_work_queue(&k->work);
		wait_for_completion(&k->done);
		irq_work_sync(&k->work);
		break;
	}
}

static long zoo_wake(struct zoo *z, void __user *arg)
{
	struct zoo_waker *k;
	long result = 0;

	k = kzalloc(sizeof(*k), GFP_KERNEL);
	if (!k)
		return -ENOMEM;
	k->zoo = z;
	init_completion(&k->done);
	spin_lock_init(&k->lock);
	init_irq_work(&k->work, zoo_irq_work);
	if (copy_from_user(&k->what, arg, sizeof(k->what)))
		result = -EFAULT;
	else if (k->what.queue >= POLLZOO_QUEUES ||
		 k->what.context > POLLZOO_IRQ_WORK || k->what.count > 100000)
		result = -EINVAL;
	else
		zoo_wake_in(k);
	kfree(k);
	return result;
}

/* ------------------------------------------------------------------------ */
/* The other ioctls */

static void zoo_let_go(struct zoo *z)
{
	atomic_set(&z->released, atomic_read(&z->tickets));
	wake_up_all(&z->gate);
}

static long zoo_release_one(struct zoo *z)
{
	atomic_inc(&z->released);
	wake_up_all(&z->gate);
	return 0;
}

static long zoo_program(struct zoo *z, void __user *arg)
{
	struct pollzoo_program p;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (p.queues > POLLZOO_QUEUES || p.pad)
		return -EINVAL;
	WRITE_ONCE(z->program.queues, p.queues);
	WRITE_ONCE(z->program.flags, p.flags);
	/* last: zoo_poll() */
	smp_store_release(&z->program.mask, p.mask);
	if (!(p.flags & (POLLZOO_SLEEP | POLLZOO_ONCE)))
		zoo_let_go(z);
	return 0;
}

static long zoo_release_polls(struct zoo *z)
{
	WRITE_ONCE(z->program.flags, z->program.flags &
				     ~(POLLZOO_SLEEP | POLLZOO_ONCE));
	zoo_let_go(z);
	return 0;
}

/* As __wake_up_pollfree(), which is not exported everywhere. */
static void zoo_pollfree(struct zoo *z)
{
	struct zoo_queues *q;
	int i;

	mutex_lock(&z->lock);
	q = rcu_dereference_protected(z->queues, lockdep_is_held(&z->lock));
	/* pairs with zoo_poll() */
	smp_store_release(&z->program.mask, (__force u32)EPOLLHUP);
	rcu_assign_pointer(z->queues, NULL);
	for (i = 0; q && i < POLLZOO_QUEUES; i++)
		wake_up_poll(&q->head[i], EPOLLHUP | POLLFREE);
	if (q)
		kfree_rcu(q, rcu);
	mutex_unlock(&z->lock);
}

static u32 zoo_count_entries(struct zoo *z)
{
	struct zoo_queues *q;
	struct list_head *p;
	unsigned long flags;
	u32 i, n = 0;

	mutex_lock(&z->lock);
	q = rcu_dereference_protected(z->queues, lockdep_is_held(&z->lock));
	for (i = 0; q && i < POLLZOO_QUEUES; i++) {
		spin_lock_irqsave(&q->head[i].lock, flags);
		list_for_each(p, &q->head[i].head)
			n++;
		spin_unlock_irqrestore(&q->head[i].lock, flags);
	}
	mutex_unlock(&z->lock);
	return n;
}

static long zoo_info(struct zoo *z, void __user *arg)
{
	struct pollzoo_info info = {
		.polls = atomic_read(&z->polls),
		.sleeping = atomic_read(&z->sleeping),
		.entries = zoo_count_entries(z),
		.wakes = atomic_read(&z->wakes),
	};

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long zoo_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct zoo *z = file->private_data;

	switch (cmd) {
	case POLLZOO_IOC_PROGRAM:
		return zoo_program(z, (void __user *)arg);
	case POLLZOO_IOC_WAKE:
		return zoo_wake(z, (void __user *)arg);
	case POLLZOO_IOC_RELEASE:
		return zoo_release_polls(z);
	case POLLZOO_IOC_RELEASE_ONE:
		return zoo_release_one(z);
	case POLLZOO_IOC_FREE:
		zoo_pollfree(z);
		return 0;
	case POLLZOO_IOC_INFO:
		return zoo_info(z, (void __user *)arg);
	}
	return -ENOTTY;
}

/* ------------------------------------------------------------------------ */
/* Open and close */

static int zoo_open(struct inode *inode, struct file *file)
{
	struct zoo *z = kzalloc(sizeof(*z), GFP_KERNEL);
	struct zoo_queues *q = kzalloc(sizeof(*q), GFP_KERNEL);
	int i;

	if (!z || !q) {
		kfree(z);
		kfree(q);
		return -ENOMEM;
	}
	for (i = 0; i < POLLZOO_QUEUES; i++)
		init_waitqueue_head(&q->head[i]);
	mutex_init(&z->lock);
	init_waitqueue_head(&z->gate);
	z->program.queues = 1;
	RCU_INIT_POINTER(z->queues, q);
	file->private_data = z;
	return nonseekable_open(inode, file);
}

static int zoo_close(struct inode *inode, struct file *file)
{
	struct zoo *z = file->private_data;

	kfree(rcu_dereference_protected(z->queues, 1));
	kfree(z);
	return 0;
}

static const struct file_operations zoo_fops = {
	.owner = THIS_MODULE,
	.open = zoo_open,
	.release = zoo_close,
	.poll = zoo_poll,
	.unlocked_ioctl = zoo_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice zoo_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pollzoo",
	.fops = &zoo_fops,
	.mode = 0600,
};

static int __init zoo_init(void)
{
	return misc_register(&zoo_device);
}
module_init(zoo_init);

static void __exit zoo_exit(void)
{
	misc_deregister(&zoo_device);
}
module_exit(zoo_exit);

MODULE_DESCRIPTION("A device whose poll is programmed, for tests only");
MODULE_LICENSE("GPL");
