// SPDX-License-Identifier: GPL-2.0
/*
 * The files that sources watch: one table for the whole module.
 *
 * All sources of a file share one reference to it, and requests that wait for its
 * readiness have one each.  If those are the file's only ones, nobody else can use
 * the file any more: every descriptor was closed, no
 * mapping and no message in flight holds it, and a new reference could come
 * from nowhere but here.  A scan looks for such files, a tenth of the table
 * every 100 ms while the table is not empty.  It costs a few instructions for
 * each bucket and watched file, and holds a bucket's lock for one chain.
 */
#include <linux/hash.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "kev.h"

#define KEV_BUCKET_BITS 13
#define KEV_BUCKETS (1 << KEV_BUCKET_BITS)
#define KEV_SLICES 10

struct kev_bucket {
	spinlock_t lock;
	struct hlist_head watches;
};

static unsigned int max_file_sources = 1024;
module_param(max_file_sources, uint, 0644);
MODULE_PARM_DESC(max_file_sources, "sources on one file, of all users");

static struct kev_bucket *kev_buckets;
static atomic_long_t kev_watches;
static DEFINE_MUTEX(kev_watch_mutex);

static void kev_scan(struct work_struct *work);
static DECLARE_DELAYED_WORK(kev_scan_work, kev_scan);

static struct kev_bucket *kev_bucket_of(const struct file *file)
{
	return &kev_buckets[hash_ptr(file, KEV_BUCKET_BITS)];
}

static struct kev_watch *kev_watch_find(struct kev_bucket *b,
					const struct file *file)
{
	struct kev_watch *w;

	lockdep_assert_held(&b->lock);
	hlist_for_each_entry(w, &b->watches, node)
		if (w->file == file)
			return w;
	return NULL;
}

static void kev_schedule_scan(void)
{
	schedule_delayed_work(&kev_scan_work, HZ / KEV_SLICES);
}

static int kev_watch_link(struct kev_file *f, struct kev_watch *fresh)
{
	struct kev_bucket *b = kev_bucket_of(fresh->file);
	struct kev_watch *w;
	int ret = 0;

	spin_lock(&b->lock);
	w = kev_watch_find(b, fresh->file) ?: fresh;
	if (w->nr >= READ_ONCE(max_file_sources)) {
		ret = -ENOSPC;
	} else {
		if (!w->nr++)
			hlist_add_head(&w->node, &b->watches);
		w->requests += f->item.flags & KEV_ONCE ? 1 : 0;
		f->watch = w;
		hlist_add_head(&f->same, &w->sources);
	}
	spin_unlock(&b->lock);
	return ret;
}

/* The new watch was not needed, or its file has enough of them. */
static void kev_watch_drop(struct kev_watch *fresh)
{
	fput(fresh->file);
	kfree(fresh);
}

/*
 * Whether a queue that watches @q, directly or not, is @target's.  Walks upwards:
 * nearly always nobody watches @q.  Release waits for the mutex, so that no queue
 * we come across goes away.
 */
static bool kev_watch_loop(struct kev_queue *q, const struct file *target)
{
	struct kev_queue *at, *next;
	struct kev_watch *w;
	struct kev_file *f;
	bool loop = q->file == target;
	LIST_HEAD(seen);

	lockdep_assert_held(&kev_watch_mutex);
	list_add(&q->nest, &seen);
	list_for_each_entry(at, &seen, nest) {
		struct kev_bucket *b = kev_bucket_of(at->file);

		spin_lock(&b->lock);
		w = kev_watch_find(b, at->file);
		if (w)
			hlist_for_each_entry(f, &w->sources, same) {
				next = f->item.ring->queue;
				loop |= next->file == target;
				if (list_empty(&next->nest))
					list_add_tail(&next->nest, &seen);
			}
		spin_unlock(&b->lock);
	}
	list_for_each_entry_safe(at, next, &seen, nest)
		list_del_init(&at->nest);
	return loop;
}

static int kev_watch_add(struct kev_file *f, struct kev_watch *fresh)
{
	int ret;

	if (fresh->file->f_op != &kev_fops)
		return kev_watch_link(f, fresh);
	mutex_lock(&kev_watch_mutex);
	ret = kev_watch_loop(f->item.ring->queue, fresh->file) ?
		      -ELOOP : kev_watch_link(f, fresh);
	mutex_unlock(&kev_watch_mutex);
	return ret;
}

/* Takes over the reference to @file. */
int kev_watch_attach(struct kev_file *f, struct file *file)
{
	struct kev_watch *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!fresh) {
		fput(file);
		return -ENOMEM;
	}
	fresh->file = file;
	ret = kev_watch_add(f, fresh);
	if (ret || f->watch != fresh)
		kev_watch_drop(fresh);
	else if (atomic_long_inc_return(&kev_watches) == 1)
		kev_schedule_scan();
	return ret;
}

/* The last source of a file lets go of it; fput() only defers here. */
void kev_watch_unlink(struct kev_file *f)
{
	struct kev_watch *w = f->watch;

	lockdep_assert_held(&kev_bucket_of(w->file)->lock);
	hlist_del(&f->same);
	w->requests -= f->item.flags & KEV_ONCE ? 1 : 0;
	if (--w->nr)
		return;
	hlist_del(&w->node);
	atomic_long_dec(&kev_watches);
	kev_watch_drop(w);
}

void kev_watch_detach(struct kev_file *f)
{
	struct kev_bucket *b = kev_bucket_of(f->watch->file);

	spin_lock(&b->lock);
	kev_watch_unlink(f);
	spin_unlock(&b->lock);
}

static void kev_scan_bucket(struct kev_bucket *b)
{
	struct hlist_node *next_watch, *next_file;
	struct kev_watch *w;
	struct kev_file *f;

	if (hlist_empty(&b->watches))
		return;
	spin_lock(&b->lock);
	hlist_for_each_entry_safe(w, next_watch, &b->watches, node) {
		if (file_count(w->file) != 1 + w->requests)
			continue;
		hlist_for_each_entry_safe(f, next_file, &w->sources, same)
			if (f->item.flags & KEV_ONCE)
				kev_request_abandon(f);
			else
				kev_file_close(f);
	}
	spin_unlock(&b->lock);
}

static void kev_scan(struct work_struct *work)
{
	static unsigned int slice;
	unsigned int i;

	mutex_lock(&kev_watch_mutex);
	for (i = slice; i < KEV_BUCKETS; i += KEV_SLICES) {
		kev_scan_bucket(&kev_buckets[i]);
		cond_resched();
	}
	slice = (slice + 1) % KEV_SLICES;
	mutex_unlock(&kev_watch_mutex);
	if (atomic_long_read(&kev_watches))
		kev_schedule_scan();
}

/* When this returns, the scan and walks are done with what was unlinked before. */
void kev_watch_sync(void)
{
	mutex_lock(&kev_watch_mutex);
	mutex_unlock(&kev_watch_mutex);
}

int kev_watch_init(void)
{
	unsigned int i;

	kev_buckets = kvcalloc(KEV_BUCKETS, sizeof(*kev_buckets), GFP_KERNEL);
	if (!kev_buckets)
		return -ENOMEM;
	for (i = 0; i < KEV_BUCKETS; i++)
		spin_lock_init(&kev_buckets[i].lock);
	return 0;
}

void kev_watch_exit(void)
{
	cancel_delayed_work_sync(&kev_scan_work);
	kvfree(kev_buckets);
}
