/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Types, locks and lifetimes of kevent.  Read this before anything else.
 *
 * Locks, outermost first
 *
 *   kev_watch_mutex  mutex    a bucket in the scan for closed files; a walk over
 *                             queues that watch queues
 *   queue->setup     mutex    making of the rings, once; growth of the table
 *   user->start      mutex    making of the user's workqueue, once
 *   users            spinlock (the array's) uid -> user, and user->queues; held
 *                             alone
 *   watch bucket     spinlock the files that are watched
 *   queue->items     spinlock id -> item
 *   queue->owners    spinlock struct kev_owner, who submits
 *   queue->running   spinlock request->task; signals are sent under it
 *   (foreign)        spinlock the watched file's wait queue head: its owner
 *                             calls kev_file_wake() with it held, interrupts on
 *                             or off, in any context
 *   ring->lock       spinlock, interrupts off: all of struct kev_ring and of
 *                             struct kev_item that is not constant; the kernel's
 *                             words of the mapped header
 *   user->lock       spinlock, interrupts off: the lanes of work.c
 *   queue->wait      spinlock waiters on any ring
 *   (foreign)        the scheduler's, the hrtimer base's, a workqueue's and the
 *                             slab allocator's, through wake_up_process(),
 *                             hrtimer_start(), queue_work() and kmem_cache_free()
 *
 * Nothing sleeps, polls a file or wakes a poll wait queue under ring->lock.
 * Pollers of the queue itself are woken from irq_work, so that no chain of
 * queues recurses.
 *
 * Who writes what
 *
 *   mapped header, slots     the holder of ring->lock
 *   claim->head              consumers in user space; collect.c on behalf of a
 *                            caller, by compare-and-swap.  Believed only within
 *                            [ring->head, ring->tail]: kev_ring_head()
 *   ring->head               the holder of ring->lock: the last head believed
 *
 * An item (source or request)
 *
 *   is found by id under the table's lock.  Whoever wants to use it outside the locks
 *   (polling sleeps) raises item->busy under ring->lock.  Who sets KEV_DEAD
 *   takes it out of the table, under the lock of that too, and from all lists;
 *   from then on it posts nothing but CLOSED.  The one that sees KEV_DEAD and
 *   busy == 0, remover or last busy user, calls kind->release(), which unhooks it
 *   and frees it; the scan does the same in kev_file_close() with sources that are
 *   not busy, and posts CLOSED for them.  References
 *   to it elsewhere, and why each ends:
 *     - wait queue entries: removed by kind->release(), under the foreign lock,
 *       before the memory goes; or by POLLFREE;
 *     - the timer tree: left under ring->lock when it dies;
 *     - the table of watched files: left in kind->release() or kev_file_close(),
 *       under the bucket's lock.
 *   One whose file was closed may wait for room on ring->pending, dead: then it is
 *   memory with an event, and goes when that is in the ring, or with the ring.
 *   An item that is KEV_ONCE is a request: see request.c.  One that is KEV_CURSOR is no
 *   item, but the place on ring->repoll of a walk that lets go of the lock: it is on
 *   the walker's stack, who takes it off before he returns.
 *
 * A queue
 *
 *   is freed by ->release, which no ioctl and no mapping outlives.  It cancels
 *   every request and waits for it, lets go of the registered buffers and waits
 *   until they are freed, removes every source, passes through
 *   kev_watch_mutex (the scan may be removing some, a walk may be looking at the
 *   queue), cancels the ring's timers and irq_work, and then frees the rings.
 */
#ifndef _KEV_H
#define _KEV_H

#include <linux/bvec.h>
#include <linux/fault-inject-usercopy.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/kevent.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "compat.h"

struct kev_buffer;
struct kev_request;

/* Memory that user space has mapped: only kev_load() and kev_store() touch it. */
#ifdef __CHECKER__
#define __ring __attribute__((noderef, address_space(__ring)))
#else
#define __ring
#endif
#define kev_load(p) READ_ONCE(*(__force typeof(*(p)) *)(p))
#define kev_store(p, v) WRITE_ONCE(*(__force typeof(*(p)) *)(p), v)

/* Fails where fail_usercopy says so, which knows only copy_from_user() and the like. */
#define kev_access_begin(p, size)                                                      \
	(!should_fail_usercopy() && user_access_begin(p, size))

/* item->where: the list that item->node is on */
enum {
	KEV_NOWHERE,
	KEV_PENDING, /* waits for room in the ring */
	KEV_MERGING, /* gathers while its last event is unclaimed */
	KEV_READY,   /* level source that may be ready */
	KEV_REPOLL,  /* edge source that was woken without a key, or with a doubtful one */
	KEV_CURSOR,  /* no source: on the same list, the place of a walk over it */
};

/* item->flags */
#define KEV_ONESHOT KEVENT_ONESHOT
#define KEV_LEVEL KEVENT_LEVEL
#define KEV_DISABLED KEVENT_DISABLED
#define KEV_LATEST KEVENT_LATEST
#define KEV_ABSTIME KEVENT_ABSTIME
#define KEV_MODE (KEV_ONESHOT | KEV_LEVEL | KEV_DISABLED | KEV_LATEST | KEV_ABSTIME)
#define KEV_DEAD BIT(5)	   /* posts nothing any more */
#define KEV_COUNTED BIT(6) /* in the hint */
#define KEV_STALE BIT(7)   /* in need_enter: to be polled again */
/* level timer or user event: ready until ACK; others: gathered while disabled */
#define KEV_SET BIT(8)
#define KEV_ONCE BIT(9)	   /* a request: freed when its event is in the ring */
#define KEV_SLEEPY BIT(10) /* polling its file may take long; constant */
#define KEV_AGAIN BIT(11)  /* level source: marked since a sweep last took it */

/* What keeps an edge from being just posted */
#define KEV_UNUSUAL (KEV_ONESHOT | KEV_LEVEL | KEV_DISABLED | KEV_DEAD)

/**
 * struct kev_item - whatever posts events
 * @node:   see @where
 * @pos:    position of its newest entry in the ring
 * @ev:     image of the next event.  @ev.events are the bits of the newest
 *          entry, @ev.result what was gathered and not yet posted
 * @ring:   home; constant
 * @events: subscribed poll bits
 * @flags:  KEV_*
 * @where:  KEV_NOWHERE, ...
 * @busy:   users outside the locks, each a thread
 */
struct kev_item {
	struct list_head node;
	u64 pos;
	struct ukevent ev;
	struct kev_ring *ring;
	u16 events;
	u16 flags;
	u32 busy : 29;
	u32 where : 3;
};

/*
 * An id: the index in queue->items, above it a generation.  A request's has the
 * top bit, its ring, and a count.
 */
#define KEV_INDEX_BITS 24
#define KEV_INDEX(id) ((u32)(id) & ((1U << KEV_INDEX_BITS) - 1))
#define KEV_REQUEST BIT_ULL(63)
#define KEV_REQUEST_RING 56
#define KEV_INFLIGHT_BITS 8

/* One tree of timers and its hrtimer, for each clock */
struct kev_clock {
	struct hrtimer timer;
	struct rb_root_cached tree; /* by expiry */
	struct rb_node *last;
	struct kev_ring *ring;
};

enum { KEV_MONOTONIC, KEV_BOOTTIME, KEV_REALTIME, KEV_CLOCKS };

/* Threads that sleep, the one that waits longest first */
struct kev_waiters {
	struct list_head list;
	u32 need;  /* none has a smaller min: those who post need not look for one */
	u32 turns; /* so many have their turn */
};

/* ring->attention: a post has more to do than to post */
#define KEV_SLEEPER BIT(0)     /* ring->waiters may not be empty */
#define KEV_ANY_SLEEPER BIT(1) /* queue->waiters may not be empty */
#define KEV_POLLER BIT(2)      /* queue->poll may not be empty */
#define KEV_BACKLOG BIT(3)     /* nr_pending is not 0 */

struct kev_ring {
	spinlock_t lock; /* all that is not constant */
	u32 attention;
	u64 head;
	u64 tail;
	u64 mask; /* entries - 1 */
	u32 nr_pending; /* on @pending or @merging */
	u64 __ring *slots;
	struct kevent_ring __ring *shared;
	struct kevent_claim __ring *claim;
	struct list_head pending;
	struct list_head merging;

	struct list_head ready;
	struct list_head repoll;
	struct kev_waiters waiters;
	u32 nr_ready;
	u32 hint;
	u32 nr_stale;
	u32 sources;
	bool level_turn; /* who gets the odd event of a call */

	u32 requests;	  /* in flight, or done and on @pending */
	u32 credit;	  /* of the user's limit, taken in advance */
	u64 last_request; /* count of their ids */
	u64 seed;	  /* of the hash by which they are found; constant */
	struct kev_request *spares;
	u32 nr_spares;
	struct hlist_head inflight[1 << KEV_INFLIGHT_BITS]; /* by id */

	/* counters for fdinfo */
	u64 coalesced;
	u64 overflowed;
	atomic64_t collected; /* from the ring by ioctl */
	u64 swept;
	u64 wakeups;

	struct kev_clock clocks[KEV_CLOCKS];
	struct irq_work poll_work;
	struct kev_queue *queue;
	u32 index;
	int node;

	struct page **pages; /* of @shared and the slots, then of @claim */
	unsigned int nr_pages;
};

#define KEV_LANE_BITS 8

/* One for each user who has a queue open. */
struct kev_user {
	kuid_t uid;
	unsigned int queues;
	atomic_long_t sources;
	atomic_long_t held; /* by requests; see kev_hold() */
	atomic64_t expirations_paid; /* the time until which they are */

	/* work.c */
	struct mutex start;
	struct workqueue_struct *workers; /* NULL before the first request; under @start */
	spinlock_t lock;
	u32 active;		  /* requests given to workers */
	struct list_head backlog; /* lanes that have requests waiting */
	struct hlist_head lanes[1 << KEV_LANE_BITS];
	struct kev_lane *spare; /* where there is no memory for another */
};

/**
 * struct kev_items - the sources of a queue by the index in their id; in change.c
 * @lock:       all but the growth of @pages, which is under queue->setup too
 * @size:       slots
 * @free:       first of the free ones
 * @generation: of the last id
 * @pages:      of slots
 */
struct kev_items {
	spinlock_t lock; /* see above */
	u32 size;
	u32 free;
	u64 generation;
	unsigned long **pages;
};

struct kev_queue {
	struct kev_ring **rings;
	u32 nr_rings; /* 0 until set up; release, pairs with kev_queue_ready() */
	u32 next;     /* where the next collection from any ring begins */
	struct kev_user *user;
	struct kev_items items;

	spinlock_t wait; /* @waiters */
	struct kev_waiters waiters;
	wait_queue_head_t poll;

	struct mutex setup; /* making of the rings; growth of @items */
	struct kevent_setup geometry;
	atomic_long_t locked_pages;
	struct file *file;     /* ours; no reference */
	struct list_head nest; /* under kev_watch_mutex: the walk in watch.c */

	spinlock_t owners_lock; /* @owners, @nr_buffers */
	struct list_head owners;
	spinlock_t running; /* request->task */
	wait_queue_head_t drain; /* those who wait for requests or buffers to end */

	struct xarray buffers; /* registered, by number */
	u32 nr_buffers;	       /* that exist; under owners_lock */
};

/* A wait queue entry of a source on a file's wait queue; a file may use several. */
struct kev_hook {
	wait_queue_entry_t wait; /* ->private is the struct kev_file */
	/* NULL once the queue was freed: release in kev_file_wake(), acquire here */
	wait_queue_head_t *head;
	struct kev_hook *next;
};

/*
 * A source of file readiness, or that part of a request which waits for it; all but
 * item is constant once it is started.
 */
struct kev_file {
	struct kev_item item;
	struct hlist_node watched; /* in the table of watch.c, by @file */
	struct file *file;	   /* a source's reference; a request has its own */
	struct pid *owner;	   /* the process that may poll again; NULL: any */
	struct kev_hook hook;
};

/**
 * struct kev_kind - a kind of source; see kev_kinds[] in change.c
 * @add_flags: KEVENT_* that ADD accepts; MODIFY accepts the same
 * @check:     validates the fields of ADD and MODIFY.  CONTEXT: process
 * @create:    allocates an item with its own fields set.  CONTEXT: process
 * @start:     begins to listen, after the item has its id, and says what is ready;
 *             NULL where @arm does that.  CONTEXT: process, no lock
 * @modify:    takes over changed fields.  CONTEXT: ring->lock
 * @arm:       ADD, MODIFY, ENABLE; may be NULL.  CONTEXT: ring->lock
 * @disarm:    DISABLE, MODIFY, REMOVE; may be NULL.  CONTEXT: ring->lock
 * @poll:      what is ready now: poll bits, 0 for nothing.  CONTEXT: process, no
 *             lock, may sleep
 * @release:   ends listening and frees.  CONTEXT: process, no lock
 */
struct kev_kind {
	u32 add_flags;
	int (*check)(const struct kevent_change *c);
	struct kev_item *(*create)(struct kev_queue *q,
				   const struct kevent_change *c);
	int (*start)(struct kev_item *item, __poll_t *ready);
	void (*modify)(struct kev_item *item, const struct kevent_change *c);
	void (*arm)(struct kev_item *item);
	void (*disarm)(struct kev_item *item);
	__poll_t (*poll)(struct kev_item *item);
	void (*release)(struct kev_item *item);
};

extern const struct kev_kind kev_file_kind, kev_timer_kind, kev_user_kind;
const struct kev_kind *kev_kind(unsigned int kind);

/* ring.c: the ring knows items, not their kinds */
struct kev_ring *kev_ring_create(struct kev_queue *q, u32 index, int node,
				 u32 entries);
void kev_ring_destroy(struct kev_ring *r);
size_t kev_ring_bytes(u32 entries);
u64 kev_ring_head(struct kev_ring *r);
bool kev_ring_unclaimed(struct kev_ring *r, const struct kev_item *item);
u32 kev_ring_available(struct kev_ring *r);
#define KEV_DRAIN_ENTER 1024
void kev_ring_drain(struct kev_ring *r, unsigned int budget);
bool kev_post_now(struct kev_item *item);
void kev_post_request(struct kev_item *item);
void kev_post_last(struct kev_item *item);
bool kev_hold(struct kev_ring *r, u32 n);
void kev_unhold_slow(struct kev_ring *r);
bool kev_request_reserve(struct kev_ring *r, u32 n);
void kev_request_unreserve(struct kev_ring *r);
void kev_request_gone(struct kev_item *item);
void kev_news_slow(struct kev_item *item, u32 bits);
void kev_value_slow(struct kev_item *item, s64 value);
void kev_value_suspend(struct kev_item *item);
void kev_value_resume(struct kev_item *item);
void kev_level_mark(struct kev_item *item);
void kev_level_clear(struct kev_item *item);

/* Entries of ring->repoll that are looked at before others get the lock */
#define KEV_STALE_STEP 16

struct kev_stale_walk {
	struct kev_item cursor;
	struct kev_ring *ring;
	unsigned int step; /* entries looked at since the lock was taken */
	u32 left;	   /* no more than were there when it began */
};

void kev_stale(struct kev_item *item);
void kev_unstale(struct kev_item *item);
void kev_stale_begin(struct kev_stale_walk *walk, struct kev_ring *r);
struct kev_item *kev_stale_next(struct kev_stale_walk *walk);
void kev_stale_back(struct kev_stale_walk *walk);
void kev_stale_end(struct kev_stale_walk *walk);
void kev_quiet(struct kev_item *item);

/* wait.c */
struct kev_waiter {
	struct list_head node;
	struct task_struct *task;
	struct pid *process;
	u32 min;
	u32 passes;
	bool turn;
	bool woken;
};

void kev_wake_slow(struct kev_ring *r, bool news, struct kev_item *stale);
int kev_wait(struct kev_queue *q, struct kev_ring *r, u32 min, ktime_t deadline,
	     bool infinite);
void kev_pass_on(struct kev_queue *q, struct kev_ring *r);
void kev_poll_work(struct irq_work *work);

/* Also read without the lock, as @head, @tail, @nr_pending and @nr_stale are. */
static inline void kev_set_ready(struct kev_ring *r, u32 n)
{
	lockdep_assert_held(&r->lock);
	WRITE_ONCE(r->nr_ready, n);
}

/* Wakes whoever waits for @r.  @news: words of the ring have changed. */
static inline void kev_wake(struct kev_ring *r, bool news)
{
	if (unlikely(r->attention & ~KEV_BACKLOG))
		kev_wake_slow(r, news, NULL);
}

/*
 * Writes the item's image into a free slot.  Release: pairs with the consumers'
 * acquire load of tail.
 */
static __always_inline void kev_ring_put(struct kev_ring *r, struct kev_item *item)
{
	u64 tail = r->tail;
	u64 __ring *slot = r->slots + (tail & r->mask) * 4;
	const u64 *image = (const u64 *)&item->ev;

	kev_store(&slot[0], image[0]);
	kev_store(&slot[1], image[1]);
	kev_store(&slot[2], image[2]);
	kev_store(&slot[3], image[3]);
	item->pos = tail++;
	WRITE_ONCE(r->tail, tail);
	/* the slot first */
	smp_store_release((u64 __force *)&r->shared->tail, tail);
}

/*
 * An edge source has news.  Most have no event that could be unclaimed, the ring
 * has room, and nobody sleeps: then this is all.
 */
static __always_inline void kev_news(struct kev_item *item, u32 bits)
{
	struct kev_ring *r = item->ring;
	u64 head = r->head;

	lockdep_assert_held(&r->lock);
	if (unlikely((s64)(item->pos - head) >= 0 || r->tail - head > r->mask ||
		     r->attention)) {
		kev_news_slow(item, bits);
		return;
	}
	item->ev.events = bits;
	kev_ring_put(r, item);
}

/*
 * A timer's expirations or a user event's value; the caller excludes overflow.  Most
 * have nothing gathered, and the rest is as in kev_news().
 */
static __always_inline void kev_value(struct kev_item *item, s64 value)
{
	struct kev_ring *r = item->ring;
	u64 head = r->head;

	lockdep_assert_held(&r->lock);
	if (unlikely((s64)(item->pos - head) >= 0))
		head = kev_ring_head(r);
	if (unlikely(item->where != KEV_NOWHERE ||
		     item->flags & (KEV_ONESHOT | KEV_SET) ||
		     (s64)(item->pos - head) >= 0 || r->tail - head > r->mask ||
		     r->attention)) {
		kev_value_slow(item, value);
		return;
	}
	item->ev.result = value;
	kev_ring_put(r, item);
	item->ev.result = 0;
}

/* Requests take from the user's limit in advance, not to share its word. */
#define KEV_CREDIT 32

static inline void kev_unhold(struct kev_ring *r, u32 n)
{
	lockdep_assert_held(&r->lock);
	r->credit += n;
	if (unlikely(r->credit > 2 * KEV_CREDIT))
		kev_unhold_slow(r);
}

/* Which way a request takes; see the header. */
enum {
	KEV_WAY_CALLER, /* done in the submitter, which may wait */
	KEV_WAY_DIRECT, /* to the device */
	KEV_WAY_WORKER,
	KEV_WAY_READY, /* waits for the file's readiness */
};

/* Where a request is; under ring->lock. */
enum {
	KEV_REQ_SUBMIT,	 /* with its submitter, or the device has it */
	KEV_REQ_LINKED,	 /* behind another of its chain */
	KEV_REQ_WAITING, /* for readiness */
	KEV_REQ_QUEUED,	 /* for a worker */
	KEV_REQ_RUNNING, /* with a worker */
};

#define KEV_SMALL_VECS 2

/**
 * struct kev_request - an operation that completes once; banner in request.c
 * @wait:      its item, and what it waits with
 * @node:      in ring->inflight, by id
 * @iocb:      its ki_filp is the file, with a reference
 * @next:      that starts when this has succeeded
 * @origin:    who submitted it; NULL if it never left the submitter
 * @refs:      the operation, and each that still looks at the request
 * @res:       what the operation returned
 * @want:      bytes asked for
 * @done:      bytes transferred before the operation that is going on
 * @pinned:    bytes of the rest, in @vecs
 * @offset:    position of the first byte
 * @limit:     of an append: RLIMIT_FSIZE of the submitter
 * @vecs:      of @nr_vecs pinned pieces; @small if that many suffice, or @buffer's
 * @skip:      where in the first of them the rest begins
 * @buffer:    registered, with a reference; NULL: the pieces are the request's own
 * @held:      units of the user's limit: itself and its pages
 * @cancelled: is not to begin, or to stop; under ring->lock, with @woken
 * @woken:     the file had news while nobody waited
 */
struct kev_request {
	struct kev_file wait;
	struct hlist_node node;
	struct kiocb iocb;
	struct kev_request *next;
	struct kev_origin *origin;
	const struct kev_owner *owner; /* origin's, to be compared only */
	refcount_t refs;
	u32 held;
	ssize_t res;
	size_t want;
	size_t done;
	size_t pinned;
	loff_t offset;
	u64 limit;
	struct bio_vec *vecs;
	u32 nr_vecs;
	u32 skip;
	struct kev_buffer *buffer;
	u8 way;
	bool woken;
	bool hooked;
	bool writing;  /* holds off a freeze of the file system */
	bool settled;  /* what is left may sleep: dirty pages, a file, a hook */
	bool prompt;   /* can be begun without waiting */
	bool transfer; /* read or @write */
	bool write;    /* also says WRITE or READ */
	bool cancelled;
	u8 state;
	struct bio_vec small[KEV_SMALL_VECS];

	/* work.c; under user->lock */
	struct work_struct work;
	struct list_head turn; /* on lane->waiting */
	struct kev_lane *lane;
	struct task_struct *task; /* that runs it; under queue->running */
	struct task_struct *worker; /* that has made it; only to be compared */
	struct kev_request **heir;  /* on its stack: what is next in the chain */
	atomic_t kept;		    /* who must still let go of the memory; 0: nobody */
};

/* The process, by its table of descriptors, that submits.  On queue->owners. */
struct kev_owner {
	struct list_head node;
	fl_owner_t files;
	refcount_t refs;
	bool closed; /* it has closed the queue */
	struct kev_origin *last;
};

/* As whom requests run. */
struct kev_origin {
	refcount_t refs;
	struct kev_owner *owner;
	const struct cred *cred;
	struct mem_cgroup *memcg;
	struct cgroup_subsys_state *blkcg;
};

/* work.c */
void kev_work_init(struct kev_user *user);
int kev_work_start(struct kev_user *user);
void kev_work_exit(struct kev_user *user);
void kev_work_queue(struct kev_request *req);
void kev_work_settle(struct kev_request *req);
void kev_work_expedite(struct kev_request *req);
void kev_work_interrupt(struct kev_request *req);

/* request.c */
extern bool kev_outlived; /* something of ours may have run beside a last ->release */
struct kev_submission;
int kev_requests_init(void);
void kev_requests_exit(void);
long kev_submit(struct kev_submission *s, struct kevent_change *c);
void kev_submission_post(struct kev_submission *s);
void kev_submission_forget(struct kev_submission *s);
void kev_submission_end(struct kev_submission *s);
long kev_cancel(struct kev_queue *q, struct kevent_change *c);
void kev_cancel_owner(struct kev_queue *q, fl_owner_t owner);
void kev_cancel_all(struct kev_queue *q);
void kev_request_abandon(struct kev_file *f);
bool kev_request_begin(struct kev_request *req);
ssize_t kev_request_perform(struct kev_request *req);
bool kev_request_performed(struct kev_request *req, ssize_t res,
			   struct kev_request **heir);
void kev_request_unkeep(struct kev_request *req);
void kev_request_finish(struct kev_request *req, bool may_sleep);
void kev_request_queue(struct kev_request *req);
int kev_nowait(const struct file *file);
void kev_request_free(struct kev_item *item);
void kev_requests_free_spares(struct kev_ring *r);

/**
 * struct kev_submission - the SUBMIT entries of one array of changes
 * @left:   entries of the array that were not looked at
 * @used:   there was such an entry; before, nothing below is set
 * @origin: who submits; NULL before the first that needs it
 * @head:   of the chain that is being put together; started when it is complete
 * @tail:   of that chain
 * @broken: an entry of the chain failed, and the rest fails with it
 * @stock:  requests of @ring for the next entries
 * @done:   requests that were done in the caller, whose events are to be posted; up to
 *          @done_last
 * @file:   of the entry before, with a reference, by @fd and @kind; goes @way
 * @iocb:   for what is tried in the caller
 * @prompt: as struct kev_request, with @transfer and @write
 * @buffer: of the entry before, with a reference, by @number; or NULL
 */
struct kev_submission {
	struct kev_queue *q;
	u32 left;
	bool used;
	bool broken;
	struct kev_origin *origin;
	struct kev_request *head;
	struct kev_request *tail;
	struct kev_request *stock;
	struct kev_request *done;
	struct kev_request *done_last;
	struct kev_ring *ring;
	struct file *file;
	int fd;
	u16 kind;
	u8 way;
	bool prompt;
	bool transfer;
	bool write;
	struct kiocb iocb;
	u32 number;
	struct kev_buffer *buffer;
};

void kev_chain_finish(struct kev_submission *s);

static inline void kev_chain_end(struct kev_submission *s)
{
	if (unlikely(s->head))
		kev_chain_finish(s);
	s->broken = false;
}

/* buffer.c */
/**
 * struct kev_buffer - a registered buffer
 * @refs:  its place in the table, and each request that uses it
 * @q:     whose it is
 * @start: address that the registering process has it at
 * @len:   bytes
 * @nr:    pages that are pinned
 * @work:  frees it
 * @next:  of those that an ioctl frees
 * @vecs:  a piece for each page
 */
struct kev_buffer {
	refcount_t refs;
	struct kev_queue *q;
	u64 start;
	size_t len;
	u32 nr;
	struct rcu_work work;
	struct kev_buffer *next;
	struct bio_vec vecs[];
};

#define KEV_PIN_BATCH 256 /* pages pinned, or let go, without a pause */
size_t kev_pin(struct bio_vec *vecs, u32 *nr, unsigned long start, size_t len,
	       unsigned int gup);
struct kev_buffer *kev_buffer_get(struct kev_queue *q, u32 number);
void kev_buffer_put(struct kev_buffer *b);
int kev_buffers(struct kev_queue *q, struct kevent_buffers *arg);
void kev_buffers_free(struct kev_queue *q);

static inline void kev_unpin(const struct bio_vec *vecs, u32 nr, bool may_sleep)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (unlikely(i && i % KEV_PIN_BATCH == 0 && may_sleep))
			cond_resched();
		unpin_user_page(vecs[i].bv_page);
	}
}

/*
 * A device fills the pages behind the back of their mapping: they are marked dirty
 * before, and looked at again after.
 */
static inline void kev_mark_dirty(const struct bio_vec *vecs, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (unlikely(i && i % KEV_PIN_BATCH == 0))
			cond_resched();
		if (!PageDirty(vecs[i].bv_page))
			set_page_dirty_lock(vecs[i].bv_page);
	}
}

static inline u32 kev_pages_of(unsigned long start, size_t len)
{
	return DIV_ROUND_UP(offset_in_page(start) + len, PAGE_SIZE);
}

static inline bool kev_buffer_holds(const struct kev_buffer *b, u64 start, size_t len)
{
	u64 from = start - b->start;

	return start >= b->start && from <= b->len && len <= b->len - from;
}

/* The pieces that hold these bytes; their number, and where in the first it begins. */
static inline u32 kev_buffer_slice(struct kev_buffer *b, u64 start, size_t len,
				   struct bio_vec **vecs, u32 *skip)
{
	u64 from = start - b->start;
	u32 first = (offset_in_page(b->start) + from) >> PAGE_SHIFT;

	*vecs = b->vecs + first;
	*skip = first ? offset_in_page(start) : from;
	return kev_pages_of(start, len);
}

/* change.c */
long kev_changes(struct kev_queue *q, u64 changes, u32 nr, u32 *done);
long kev_trigger(struct kev_queue *q, u64 id, u64 value, u32 flags);
void kev_item_init(struct kev_item *item, struct kev_ring *r,
		   const struct kevent_change *c);
void kev_item_done(struct kev_item *item, __poll_t bits);
bool kev_item_kill(struct kev_item *item);
void kev_items_init(struct kev_items *t);
void kev_items_destroy(struct kev_items *t);
void kev_items_erase(struct kev_items *t, struct kev_item *item);
void kev_release_items(struct kev_queue *q);

/* collect.c */
long kev_getevents(struct kev_queue *q, struct kevent_get *arg);
bool kev_repoll_wanted(struct kev_ring *r);

/* file.c, watch.c, timer.c, user.c, limit.c */
struct file *kev_file_of(struct kev_item *item);
int kev_hook_all(struct kev_file *f, struct file *file, wait_queue_func_t wake,
		 __poll_t *ready);
int kev_hook_pollfree(wait_queue_entry_t *wait);
void kev_unhook(struct kev_file *f);
bool kev_file_may_poll(struct kev_item *item, struct pid *process);
void kev_file_close(struct kev_file *f);
void kev_file_gone(struct kev_item *item);
int kev_file_init(void);
void kev_file_exit(void);
int kev_watch_attach(struct kev_file *f);
void kev_watch_detach(struct kev_file *f);
void kev_watch_unlink(struct kev_file *f);
void kev_watch_sync(void);
int kev_watch_init(void);
void kev_watch_exit(void);
struct kev_user *kev_user_get(kuid_t uid);
void kev_user_put(struct kev_user *user);
int kev_user_charge(struct kev_user *user);
bool kev_user_hold(struct kev_user *user, u32 n);
void kev_user_unhold(struct kev_user *user, u32 n);
void kev_user_uncharge(struct kev_user *user);
u64 kev_user_overdrawn(struct kev_user *user);
void kev_user_expired(struct kev_user *user, u32 n);
void kev_timer_ring_init(struct kev_ring *r);
void kev_timer_ring_exit(struct kev_ring *r);
__poll_t kev_poll_file(struct file *file, u32 mask);
__poll_t kev_value_poll(struct kev_item *item);
struct kev_item *kev_value_new(struct kev_queue *q, const struct kevent_change *c,
			       size_t size);
void kev_value_release(struct kev_item *item);
long kev_user_trigger(struct kev_item *item, u64 value, u32 flags);

/* queue.c */
extern const struct file_operations kev_fops;
int kev_charge_locked(struct kev_queue *q, unsigned long pages);
void kev_uncharge_locked(struct kev_queue *q, unsigned long pages);
struct kev_ring *kev_ring_of(struct kev_queue *q, u32 ring);

#endif
