// SPDX-License-Identifier: GPL-2.0
/*
 * Workers: what would block its submitter runs here, as the submitter.
 *
 * Each user who submits has a workqueue.  Requests are sorted into lanes, one for
 * each file system (or file that is on none).  No more than KEV_LANE_WORKERS of a
 * lane run at a time, and KEV_USER_WORKERS of a user: a file system that hangs takes
 * a quarter of one user's workers and nobody else's.  Lanes, and what waits in
 * them, are under user->lock; a lane exists while it has requests.  A cancelled
 * request does not block, and goes past those limits.
 *
 * user->lock is taken under ring->lock, from any context.
 */
#include <linux/hash.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "kev.h"

#define KEV_LANE_WORKERS 32
#define KEV_USER_WORKERS 128

struct kev_lane {
	struct hlist_node node;
	const void *key;
	struct list_head waiting; /* requests */
	struct list_head backlog; /* on user->backlog: has some, and may begin one */
	u32 active;
};

static struct kev_user *kev_user_of(const struct kev_request *req)
{
	return req->wait.item.ring->queue->user;
}

/* What a request may hang on, with others; NULL if it does not. */
static const void *kev_lane_key(const struct file *file)
{
	struct inode *inode;

	if (!file)
		return NULL;
	inode = file_inode(file);
	if (S_ISBLK(inode->i_mode))
		return file->f_mapping->host;
	if (S_ISREG(inode->i_mode) || S_ISDIR(inode->i_mode))
		return inode->i_sb;
	return kev_nowait(file) < 0 ? file : NULL;
}

static struct kev_lane *kev_lane_new(const void *key, gfp_t gfp)
{
	struct kev_lane *lane = kzalloc(sizeof(*lane), gfp);

	if (lane) {
		lane->key = key;
		INIT_LIST_HEAD(&lane->waiting);
		INIT_LIST_HEAD(&lane->backlog);
	}
	return lane;
}

static struct kev_lane *kev_lane_get(struct kev_user *user, const void *key)
{
	struct hlist_head *bucket = &user->lanes[hash_ptr(key, KEV_LANE_BITS)];
	struct kev_lane *lane;

	lockdep_assert_held(&user->lock);
	hlist_for_each_entry(lane, bucket, node)
		if (lane->key == key)
			return lane;
	lane = kev_lane_new(key, GFP_ATOMIC | __GFP_NOWARN);
	if (!lane)
		return user->spare;
	hlist_add_head(&lane->node, bucket);
	return lane;
}

static void kev_lane_begin(struct kev_user *user, struct kev_request *req)
{
	req->lane->active++;
	user->active++;
	queue_work_node(req->wait.item.ring->node, user->workers, &req->work);
}

static void kev_lane_offer(struct kev_user *user, struct kev_lane *lane)
{
	if (!list_empty(&lane->waiting) && lane->active < KEV_LANE_WORKERS &&
	    list_empty(&lane->backlog))
		list_add_tail(&lane->backlog, &user->backlog);
}

/* Begins what the limits allow, the lanes in turn. */
static void kev_lanes_run(struct kev_user *user)
{
	struct kev_lane *lane;
	struct kev_request *req;

	lockdep_assert_held(&user->lock);
	while (user->active < KEV_USER_WORKERS && !list_empty(&user->backlog)) {
		lane = list_first_entry(&user->backlog, struct kev_lane, backlog);
		req = list_first_entry(&lane->waiting, struct kev_request, turn);
		list_del_init(&lane->backlog);
		list_del_init(&req->turn);
		kev_lane_begin(user, req);
		kev_lane_offer(user, lane);
	}
}

static void kev_work(struct work_struct *work);

/* Once: to be queued again by itself a work must stay as it is. */
static void kev_work_prepare(struct kev_request *req)
{
	if (req->lane)
		return;
	INIT_WORK(&req->work, kev_work);
	INIT_LIST_HEAD(&req->turn);
	req->task = NULL;
}

/* CONTEXT: ring->lock */
void kev_work_queue(struct kev_request *req)
{
	struct kev_user *user = kev_user_of(req);
	unsigned long flags;

	req->state = KEV_REQ_QUEUED;
	kev_work_prepare(req);
	spin_lock_irqsave(&user->lock, flags);
	req->lane = kev_lane_get(user, kev_lane_key(req->iocb.ki_filp));
	if (req->cancelled) {
		kev_lane_begin(user, req);
	} else {
		list_add_tail(&req->turn, &req->lane->waiting);
		kev_lane_offer(user, req->lane);
		kev_lanes_run(user);
	}
	spin_unlock_irqrestore(&user->lock, flags);
}

/* A queued request was cancelled, and need not wait for its turn. */
void kev_work_expedite(struct kev_request *req)
{
	struct kev_user *user = kev_user_of(req);
	unsigned long flags;

	spin_lock_irqsave(&user->lock, flags);
	if (!list_empty(&req->turn)) {
		list_del_init(&req->turn);
		if (list_empty(&req->lane->waiting))
			list_del_init(&req->lane->backlog);
		kev_lane_begin(user, req);
	}
	spin_unlock_irqrestore(&user->lock, flags);
}

static void kev_lane_leave(struct kev_user *user, struct kev_lane *lane)
{
	spin_lock_irq(&user->lock);
	lane->active--;
	user->active--;
	kev_lane_offer(user, lane);
	kev_lanes_run(user);
	if (!lane->active && list_empty(&lane->waiting) && lane != user->spare) {
		hlist_del(&lane->node);
		kfree(lane);
	}
	spin_unlock_irq(&user->lock);
}

/* What may sleep and must come before the event: dirty pages, a hook, a file's end. */
void kev_work_settle(struct kev_request *req)
{
	req->settled = true;
	kev_work_prepare(req);
	queue_work(kev_user_of(req)->workers, &req->work);
}

/* Sleeps that a signal ends are ended; the caller has a reference. */
void kev_work_interrupt(struct kev_request *req)
{
	struct kev_queue *q = req->wait.item.ring->queue;

	spin_lock(&q->running);
	if (req->task)
		send_sig(SIGKILL, req->task, 1);
	spin_unlock(&q->running);
}

/* From here to its end a cancel reaches the worker. */
static void kev_work_reachable(struct kev_request *req, struct task_struct *task)
{
	struct kev_queue *q = req->wait.item.ring->queue;

	if (task)
		allow_signal(SIGKILL);
	spin_lock(&q->running);
	req->task = task;
	spin_unlock(&q->running);
	if (!task)
		disallow_signal(SIGKILL); /* drops one that is pending */
}

static ssize_t kev_work_as_submitter(struct kev_request *req)
{
	const struct kev_origin *o = req->origin;
	const struct cred *cred = override_creds(o->cred);
	struct mem_cgroup *memcg = kev_set_memcg(o->memcg);
	ssize_t res;

	kthread_associate_blkcg(o->blkcg);
	res = kev_request_perform(req);
	kthread_associate_blkcg(NULL);
	kev_set_memcg(memcg);
	revert_creds(cred);
	return res;
}

/* What is next in the chain takes the place in the lane, if that is its own. */
static bool kev_work_inherit(struct kev_request *next, struct kev_lane *lane)
{
	if (!next || kev_lane_key(next->iocb.ki_filp) != lane->key)
		return false;
	kev_work_prepare(next);
	next->lane = lane;
	return true;
}

/*
 * Runs it.  *@next: what is next in its chain, if that is to be run here too.  Returns
 * whether its memory was kept.
 */
static bool kev_work_one(struct kev_request *req, struct kev_request **next)
{
	struct kev_user *user = kev_user_of(req);
	struct kev_lane *lane = req->lane;
	ssize_t res = -ECANCELED;
	bool kept;

	*next = NULL;
	kev_work_reachable(req, current);
	if (kev_request_begin(req))
		res = kev_work_as_submitter(req);
	kev_work_reachable(req, NULL);
	if (!req->next) {
		kev_lane_leave(user, lane);
		return kev_request_performed(req, res, NULL);
	}
	kept = kev_request_performed(req, res, next);
	if (kev_work_inherit(*next, lane))
		return kept;
	kev_lane_leave(user, lane);
	if (*next)
		kev_request_queue(*next);
	*next = NULL;
	return kept;
}

static void kev_work(struct work_struct *work)
{
	struct kev_request *first = container_of(work, struct kev_request, work);
	struct kev_request *req, *next;
	bool kept;

	if (first->settled) {
		kev_request_finish(first, true);
		return;
	}
	kept = kev_work_one(first, &next);
	while ((req = next)) {
		cond_resched();
		if (kev_work_one(req, &next))
			kev_request_unkeep(req);
	}
	if (kept)
		kev_request_unkeep(first);
}

void kev_work_init(struct kev_user *user)
{
	mutex_init(&user->start);
	spin_lock_init(&user->lock);
	INIT_LIST_HEAD(&user->backlog);
}

/* Makes the user's workqueue, unless it is there. */
int kev_work_start(struct kev_user *user)
{
	struct workqueue_struct *workers;
	int ret = 0;

	/* pairs with the release below: the spare is there too */
	if (smp_load_acquire(&user->workers))
		return 0;
	mutex_lock(&user->start);
	if (!user->workers) {
		if (!user->spare)
			user->spare = kev_lane_new(NULL, GFP_KERNEL_ACCOUNT);
		workers = alloc_workqueue("kevent-%u", WQ_UNBOUND, WQ_MAX_ACTIVE,
					  from_kuid(&init_user_ns, user->uid));
		if (workers && user->spare)
			/* after the spare */
			smp_store_release(&user->workers, workers);
		else
			ret = -ENOMEM;
		if (ret && workers)
			destroy_workqueue(workers);
	}
	mutex_unlock(&user->start);
	return ret;
}

void kev_work_exit(struct kev_user *user)
{
	if (user->workers)
		destroy_workqueue(user->workers);
	kfree(user->spare);
}
