// SPDX-License-Identifier: GPL-2.0
/*
 * The files that are watched: one table of sources, and of requests that wait for
 * readiness, for the whole module.  Those of one file stand next to each other.
 *
 * Each of them has one reference to its file.  If those are the file's only ones,
 * nobody else can use the file any more: every descriptor was closed, no
 * mapping and no message in flight holds it, and a new reference could come
 * from nowhere but here (epoll takes one for the time of a poll, which gives
 * nobody the file).  A scan looks for such files, a tenth of the table
 * every 100 ms while the table is not empty.  It costs a few instructions for
 * each bucket and source, and holds a bucket's lock, and the mutex that a queue
 * passes through at its end, for one chain.
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/workqueue.h>

#include "kev.h"

#define KEV_BUCKET_BITS 13
#define KEV_BUCKETS BIT(KEV_BUCKET_BITS)
#define KEV_SLICES 10
/* Sources that are followed from queue to queue, under the mutex, for one ADD. */
#define KEV_NEST_MAX 4096

struct kev_bucket {
	spinlock_t lock; /* @files */
	struct hlist_head files;
};

static unsigned int max_file_sources = 1024;
module_param(max_file_sources, uint, 0644);
MODULE_PARM_DESC(max_file_sources, "sources on one file, of all users");

static struct kev_bucket *kev_buckets;
static atomic_long_t kev_watched;
static DEFINE_MUTEX(kev_watch_mutex);

static void kev_scan(struct work_struct *work);
static DECLARE_DELAYED_WORK(kev_scan_work, kev_scan);

static struct kev_bucket *kev_bucket_of(const struct file *file)
{
	return &kev_buckets[hash_ptr(file, KEV_BUCKET_BITS)];
}

static struct kev_file *kev_watch_next(const struct kev_file *f)
{
	return hlist_entry_safe(f->watched.next, struct kev_file, watched);
}

/* The first of those that watch @file. */
static struct kev_file *kev_watch_first(struct kev_bucket *b, const struct file *file)
{
	struct kev_file *f;

	lockdep_assert_held(&b->lock);
	hlist_for_each_entry(f, &b->files, watched)
		if (f->file == file)
			return f;
	return NULL;
}

/* Counts those that watch the file of @f, the first of them.  Returns what follows. */
static struct kev_file *kev_watch_skip(struct kev_file *f, unsigned int *n)
{
	const struct file *file = f->file;

	for (*n = 0; f && f->file == file; f = kev_watch_next(f))
		++*n;
	return f;
}

static void kev_schedule_scan(void)
{
	schedule_delayed_work(&kev_scan_work, HZ / KEV_SLICES);
}

static int kev_watch_link(struct kev_file *f)
{
	struct kev_bucket *b = kev_bucket_of(f->file);
	struct kev_file *first;
	unsigned int n = 0;
	int ret = 0;

	spin_lock(&b->lock);
	first = kev_watch_first(b, f->file);
	if (first)
		kev_watch_skip(first, &n);
	if (n >= READ_ONCE(max_file_sources))
		ret = -ENOSPC;
	else if (first)
		hlist_add_behind(&f->watched, &first->watched);
	else
		hlist_add_head(&f->watched, &b->files);
	spin_unlock(&b->lock);
	return ret;
}

/*
 * Whether a queue that watches @q, directly or not, is @target's, or there are too
 * many to tell.  Walks upwards: nearly always nobody watches @q.  Release waits for
 * the mutex, so that no queue we come across goes away.
 */
static bool kev_watch_loop(struct kev_queue *q, const struct file *target)
{
	struct kev_queue *at, *next;
	struct kev_file *f;
	bool loop = q->file == target;
	unsigned int n = 0;
	LIST_HEAD(seen);

	lockdep_assert_held(&kev_watch_mutex);
	list_add(&q->nest, &seen);
	list_for_each_entry(at, &seen, nest) {
		struct kev_bucket *b = kev_bucket_of(at->file);

		if (loop)
			break;
		spin_lock(&b->lock);
		f = kev_watch_first(b, at->file);
		for (; f && f->file == at->file && !loop; f = kev_watch_next(f)) {
			next = f->item.ring->queue;
			loop = next->file == target || ++n > KEV_NEST_MAX;
			if (list_empty(&next->nest))
				list_add_tail(&next->nest, &seen);
		}
		spin_unlock(&b->lock);
	}
	list_for_each_entry_safe(at, next, &seen, nest)
		list_del_init(&at->nest);
	return loop;
}

/* Watches f->file, to which the caller has a reference for as long as that takes. */
int kev_watch_attach(struct kev_file *f)
{
	bool nested = f->file->f_op == &kev_fops;
	int ret = 0;

	if (nested)
		mutex_lock(&kev_watch_mutex);
	if (nested && kev_watch_loop(f->item.ring->queue, f->file))
		ret = -ELOOP;
	else
		ret = kev_watch_link(f);
	if (nested)
		mutex_unlock(&kev_watch_mutex);
	if (!ret && atomic_long_inc_return(&kev_watched) == 1)
		kev_schedule_scan();
	return ret;
}

void kev_watch_unlink(struct kev_file *f)
{
	lockdep_assert_held(&kev_bucket_of(f->file)->lock);
	hlist_del(&f->watched);
	atomic_long_dec(&kev_watched);
}

void kev_watch_detach(struct kev_file *f)
{
	struct kev_bucket *b = kev_bucket_of(f->file);

	spin_lock(&b->lock);
	kev_watch_unlink(f);
	spin_unlock(&b->lock);
}

/* The next @n watch a file that nobody else has. */
static void kev_watch_close(struct kev_file *f, unsigned int n)
{
	struct kev_file *next;

	for (; n--; f = next) {
		next = kev_watch_next(f);
		if (data_race(f->item.flags) & KEV_ONCE) /* others change, this does not */
			kev_request_abandon(f);
		else
			kev_file_close(f);
	}
}

static void kev_scan_bucket(struct kev_bucket *b)
{
	struct kev_file *f, *next;
	unsigned int n;

	if (hlist_empty(&b->files))
		return;
	mutex_lock(&kev_watch_mutex);
	spin_lock(&b->lock);
	f = hlist_entry_safe(b->files.first, struct kev_file, watched);
	for (; f; f = next) {
		next = kev_watch_skip(f, &n);
		if (file_count(f->file) == n)
			kev_watch_close(f, n);
	}
	spin_unlock(&b->lock);
	mutex_unlock(&kev_watch_mutex);
}

static void kev_scan(struct work_struct *work)
{
	static unsigned int slice;
	unsigned int i;

	for (i = slice; i < KEV_BUCKETS; i += KEV_SLICES) {
		kev_scan_bucket(&kev_buckets[i]);
		cond_resched();
	}
	slice = (slice + 1) % KEV_SLICES;
	if (atomic_long_read(&kev_watched))
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
