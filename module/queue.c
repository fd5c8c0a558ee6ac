// SPDX-License-Identifier: GPL-2.0
/* An open /dev/kevent: set-up, mapping, ioctls, poll, fdinfo, release. */
#include <linux/cpuset.h>
#include <linux/cred.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kev.h"

/* Bytes that the default rings of a queue share. */
#define KEV_DEFAULT_BYTES 65536

static bool kev_queue_ready(struct kev_queue *q)
{
	/* the rings are made; pairs with the release after that */
	return smp_load_acquire(&q->nr_rings);
}

/* The ring of that index or, for KEVENT_RING_LOCAL, of this CPU; or NULL. */
struct kev_ring *kev_ring_of(struct kev_queue *q, u32 ring)
{
	if (ring == KEVENT_RING_LOCAL)
		ring = kev_load(&q->rings[0]->shared->ring_of_node[numa_node_id()]);
	if (ring >= q->nr_rings)
		return NULL;
	return q->rings[array_index_nospec(ring, q->nr_rings)];
}

static bool kev_node_usable(int node)
{
	return node_state(node, N_NORMAL_MEMORY) &&
	       node_isset(node, cpuset_current_mems_allowed);
}

/* Nodes with CPUs and memory; if the cpuset leaves none, any that it allows. */
static u32 kev_default_nodes(u32 *nodes)
{
	u32 n = 0;
	int node;

	for_each_node_state(node, N_CPU)
		if (kev_node_usable(node) && n < KEVENT_MAX_DEFAULT_RINGS)
			nodes[n++] = node;
	if (n)
		return n;
	for_each_node_state(node, N_NORMAL_MEMORY)
		if (kev_node_usable(node) && n < KEVENT_MAX_DEFAULT_RINGS)
			nodes[n++] = node;
	return n;
}

static u32 kev_default_entries(u32 nr_rings)
{
	u32 entries = KEVENT_MAX_ENTRIES;

	while (entries > 64 && nr_rings * (kev_ring_bytes(entries) + PAGE_SIZE) >
				       KEV_DEFAULT_BYTES)
		entries /= 2;
	return entries;
}

/* Which node each ring goes to; fills in the number of rings. */
static int kev_choose_nodes(struct kevent_setup *arg, u32 *nodes)
{
	u32 defaults, i;

	if (arg->nodes) {
		if (copy_from_user(nodes, u64_to_user_ptr(arg->nodes),
				   arg->nr_rings * sizeof(*nodes)))
			return -EFAULT;
		for (i = 0; i < arg->nr_rings; i++) {
			if (nodes[i] >= nr_node_ids)
				return -EINVAL;
			if (!node_possible(nodes[i]) || !kev_node_usable(nodes[i]))
				return -ENODEV;
		}
		return 0;
	}
	defaults = kev_default_nodes(nodes);
	if (!defaults)
		return -ENODEV;
	if (!arg->nr_rings)
		arg->nr_rings = defaults;
	for (i = defaults; i < arg->nr_rings; i++)
		nodes[i] = nodes[i % defaults];
	return 0;
}

static int kev_setup_check(const struct kevent_setup *arg)
{
	if (arg->flags || arg->nr_rings > KEVENT_MAX_RINGS)
		return -EINVAL;
	if (arg->entries > KEVENT_MAX_ENTRIES ||
	    (arg->entries && !is_power_of_2(arg->entries)))
		return -EINVAL;
	return arg->nodes && !arg->nr_rings ? -EINVAL : 0;
}

/*
 * Charges the user who opened the queue, whose capability counts too; the limit is
 * the caller's.
 */
int kev_charge_locked(struct kev_queue *q, unsigned long pages)
{
	struct user_struct *user = q->file->f_cred->user;
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (atomic_long_add_return(pages, &user->locked_vm) > limit &&
	    !file_ns_capable(q->file, &init_user_ns, CAP_IPC_LOCK)) {
		atomic_long_sub(pages, &user->locked_vm);
		return -ENOMEM;
	}
	atomic_long_add(pages, &q->locked_pages);
	return 0;
}

void kev_uncharge_locked(struct kev_queue *q, unsigned long pages)
{
	atomic_long_sub(pages, &q->locked_pages);
	atomic_long_sub(pages, &q->file->f_cred->user->locked_vm);
}

/* For each node the ring at the least distance. */
static void kev_fill_node_table(struct kev_queue *q, u32 nr)
{
	u32 node, i, best;

	for (node = 0; node < min_t(u32, nr_node_ids, KEVENT_MAX_NODES); node++) {
		if (!node_possible(node))
			continue;
		for (best = 0, i = 1; i < nr; i++)
			if (node_distance(node, q->rings[i]->node) <
			    node_distance(node, q->rings[best]->node))
				best = i;
		for (i = 0; i < nr; i++) {
			kev_store(&q->rings[i]->shared->ring_of_node[node], best);
			kev_store(&q->rings[i]->shared->nr_rings, nr);
		}
	}
}

static void kev_free_rings(struct kev_queue *q, u32 nr)
{
	while (nr)
		kev_ring_destroy(q->rings[--nr]);
	kfree(q->rings);
	q->rings = NULL;
	kev_uncharge_locked(q, atomic_long_read(&q->locked_pages));
}

static int kev_make_rings(struct kev_queue *q, const struct kevent_setup *arg,
			  const u32 *nodes)
{
	u32 i;
	int ret;

	ret = kev_charge_locked(q, (arg->ring_bytes + arg->claim_bytes) / PAGE_SIZE *
					   arg->nr_rings);
	if (ret)
		return ret;
	q->rings = kcalloc(arg->nr_rings, sizeof(*q->rings), GFP_KERNEL_ACCOUNT);
	for (i = 0; q->rings && i < arg->nr_rings; i++) {
		q->rings[i] = kev_ring_create(q, i, nodes[i], arg->entries);
		if (!q->rings[i])
			break;
	}
	if (!q->rings || i < arg->nr_rings) {
		kev_free_rings(q, i);
		return -ENOMEM;
	}
	kev_fill_node_table(q, i);
	return 0;
}

static long kev_setup_locked(struct kev_queue *q, struct kevent_setup *arg)
{
	u32 nodes[KEVENT_MAX_RINGS];
	int ret = kev_setup_check(arg);

	if (ret)
		return ret;
	if (q->nr_rings)
		return -EBUSY;
	ret = kev_choose_nodes(arg, nodes);
	if (ret)
		return ret;
	if (!arg->entries)
		arg->entries = kev_default_entries(arg->nr_rings);
	arg->ring_bytes = kev_ring_bytes(arg->entries);
	arg->claim_bytes = PAGE_SIZE;
	arg->compat = KEVENT_COMPAT;
	arg->incompat = KEVENT_INCOMPAT;
	ret = kev_make_rings(q, arg, nodes);
	if (ret)
		return ret;
	q->geometry = *arg;
	/* Pairs with kev_queue_ready(). */
	smp_store_release(&q->nr_rings, arg->nr_rings);
	return 0;
}

static long kev_ioctl_setup(struct kev_queue *q, void *arg, void __user *uarg)
{
	long ret;

	/* Nothing may be made that could not be told. */
	if (copy_to_user(uarg, arg, sizeof(struct kevent_setup)))
		return -EFAULT;
	mutex_lock(&q->setup);
	ret = kev_setup_locked(q, arg);
	mutex_unlock(&q->setup);
	if (!ret && copy_to_user(uarg, arg, sizeof(struct kevent_setup)))
		return -EFAULT;
	return ret;
}

static long kev_ioctl_info(struct kev_queue *q, void *arg, void __user *uarg)
{
	struct kevent_setup *info = arg;
	u64 nodes = info->nodes;
	u32 size = info->size;

	if (info->flags)
		return -EINVAL;
	*info = q->geometry;
	info->nodes = nodes;
	info->size = size;
	return copy_to_user(uarg, info, sizeof(*info)) ? -EFAULT : 0;
}

static long kev_ioctl_change(struct kev_queue *q, void *arg, void __user *uarg)
{
	struct kevent_changes __user *to = uarg;
	struct kevent_changes *c = arg;
	long ret;

	if (c->flags)
		return -EINVAL;
	ret = kev_changes(q, c->changes, c->nr, &c->done);
	if (unlikely(put_user(c->done, &to->done)) && !c->done)
		return -EFAULT;
	return c->done ?: ret;
}

static int kev_get_answer(struct kevent_get __user *to, u32 nr, u32 changes_done)
{
	if (!kev_access_begin(to, sizeof(*to)))
		return -EFAULT;
	unsafe_put_user(nr, &to->nr, fault);
	unsafe_put_user(changes_done, &to->changes_done, fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

static long kev_ioctl_get(struct kev_queue *q, void *arg, void __user *uarg)
{
	struct kevent_get *get = arg;
	long ret;

	/* What is taken must not be lost to an answer that cannot be stored. */
	if (kev_get_answer(uarg, 0, 0))
		return -EFAULT;
	ret = kev_getevents(q, get);
	if ((get->nr || get->changes_done) &&
	    kev_get_answer(uarg, get->nr, get->changes_done) && ret <= 0)
		return -EFAULT;
	return ret;
}

static long kev_ioctl_buffers(struct kev_queue *q, void *arg, void __user *uarg)
{
	struct kevent_buffers __user *to = uarg;
	struct kevent_buffers *b = arg;
	long ret = kev_buffers(q, b);

	if (put_user(b->done, &to->done) && !b->done)
		return -EFAULT;
	return b->done ?: ret;
}

static long kev_ioctl_trigger(struct kev_queue *q, void *arg, void __user *uarg)
{
	const struct kevent_trigger *t = arg;

	if (t->flags & ~KEVENT_NOMERGE)
		return -EINVAL;
	return kev_trigger(q, t->id, t->value, t->flags);
}

/**
 * struct kev_ioctl - one row for each ioctl
 * @handle: gets a copy of the argument, and stores what it returns in the caller's
 * @size:  bytes of the argument; shorter ones were never valid
 * @early: allowed before the queue is set up
 */
struct kev_ioctl {
	long (*handle)(struct kev_queue *q, void *arg, void __user *uarg);
	u32 size;
	bool early;
};

static const struct kev_ioctl kev_ioctls[] = {
	[_IOC_NR(KEVENT_IOC_SETUP)] = { kev_ioctl_setup,
					sizeof(struct kevent_setup), .early = true },
	[_IOC_NR(KEVENT_IOC_INFO)] = { kev_ioctl_info,
				       sizeof(struct kevent_setup) },
	[_IOC_NR(KEVENT_IOC_CHANGE)] = { kev_ioctl_change,
					 sizeof(struct kevent_changes) },
	[_IOC_NR(KEVENT_IOC_GETEVENTS)] = { kev_ioctl_get,
					    sizeof(struct kevent_get) },
	[_IOC_NR(KEVENT_IOC_BUFFERS)] = { kev_ioctl_buffers,
					  sizeof(struct kevent_buffers) },
	[_IOC_NR(KEVENT_IOC_TRIGGER)] = { kev_ioctl_trigger,
					  sizeof(struct kevent_trigger) },
};

union kev_arg {
	struct kevent_setup setup;
	struct kevent_changes changes;
	struct kevent_get get;
	struct kevent_buffers buffers;
	struct kevent_trigger trigger;
};

static int kev_arg_fetch_slow(union kev_arg *arg, u32 known, const void __user *from)
{
	u32 size;

	if (get_user(size, (const u32 __user *)from))
		return -EFAULT;
	if (size < known)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(arg, known, from, size);
}

/* An argument of the size that we know: word by word, as in kev_change_fetch(). */
static int kev_arg_fetch(union kev_arg *arg, u32 known, const void __user *from)
{
	const u64 __user *word = from;
	u64 *to = (u64 *)arg;
	u32 size, i;

	if ((uintptr_t)from % sizeof(*to) || !kev_access_begin(from, known))
		return kev_arg_fetch_slow(arg, known, from);
	unsafe_get_user(size, (const u32 __user *)from, slow);
	if (unlikely(size != known))
		goto slow;
	for (i = 0; i < known / sizeof(*to); i++)
		unsafe_get_user(to[i], &word[i], slow);
	user_access_end();
	return 0;
slow:
	user_access_end();
	return kev_arg_fetch_slow(arg, known, from);
}

static long kev_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	struct kev_queue *q = file->private_data;
	void __user *uarg = (void __user *)address;
	const struct kev_ioctl *io;
	union kev_arg arg __uninitialized;
	int ret;

	if (_IOC_TYPE(cmd) != KEVENT_IOC_MAGIC ||
	    _IOC_NR(cmd) >= ARRAY_SIZE(kev_ioctls) ||
	    cmd != _IO(KEVENT_IOC_MAGIC, _IOC_NR(cmd)))
		return -ENOTTY;
	io = &kev_ioctls[array_index_nospec(_IOC_NR(cmd), ARRAY_SIZE(kev_ioctls))];
	ret = kev_arg_fetch(&arg, io->size, uarg);
	if (ret)
		return ret;
	if (!io->early && !kev_queue_ready(q))
		return -EBADFD;
	return io->handle(q, &arg, uarg);
}

/* The page behind an offset of the mapping, or NULL. */
static struct page *kev_page_at(struct kev_queue *q, unsigned long pgoff)
{
	unsigned long claims = KEVENT_MMAP_CLAIMS >> PAGE_SHIFT;
	unsigned long pages = q->geometry.ring_bytes >> PAGE_SHIFT;
	bool claim = pgoff >= claims;
	unsigned long ring = claim ? pgoff - claims : pgoff / pages;

	if (ring >= q->nr_rings)
		return NULL;
	return q->rings[ring]->pages[claim ? pages : pgoff % pages];
}

/* A thread that exits may have been woken for events that it has not claimed. */
static void kev_unmap(struct vm_area_struct *vma)
{
	kev_pass_on(vma->vm_private_data, NULL);
}

static const struct vm_operations_struct kev_vm_ops = {
	.close = kev_unmap,
};

/*
 * The areas that the kernel writes can be mapped for reading only.  VM_IO keeps
 * MADV_DOFORK from undoing VM_DONTCOPY.
 */
static int kev_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct kev_queue *q = file->private_data;
	bool claims = vma->vm_pgoff >= KEVENT_MMAP_CLAIMS >> PAGE_SHIFT;
	unsigned long at, pgoff = vma->vm_pgoff;
	int ret;

	if (!kev_queue_ready(q))
		return -EBADFD;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (!claims && vma->vm_flags & VM_WRITE)
		return -EACCES;
	if (vma->vm_flags & VM_EXEC && !(current->personality & READ_IMPLIES_EXEC))
		return -EACCES;
	for (at = vma->vm_start; at < vma->vm_end; at += PAGE_SIZE)
		if (!kev_page_at(q, pgoff++))
			return -EINVAL;

	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP | VM_IO,
		     VM_MAYEXEC | (claims ? 0 : VM_MAYWRITE));
	vma->vm_private_data = q;
	vma->vm_ops = &kev_vm_ops;
	pgoff = vma->vm_pgoff;
	for (at = vma->vm_start; at < vma->vm_end; at += PAGE_SIZE) {
		ret = kev_insert_page(vma, at, kev_page_at(q, pgoff++));
		if (ret)
			return ret;
	}
	return 0;
}

/* Words alone: polls no source. */
static bool kev_ring_readable(struct kev_ring *r)
{
	bool readable;

	spin_lock_irq(&r->lock);
	r->attention |= KEV_POLLER;
	readable = kev_ring_available(r) || r->hint ||
		   (r->nr_stale && kev_repoll_wanted(r));
	spin_unlock_irq(&r->lock);
	return readable;
}

static __poll_t kev_poll(struct file *file, poll_table *table)
{
	struct kev_queue *q = file->private_data;
	__poll_t mask = 0;
	u32 i;

	poll_wait(file, &q->poll, table);
	if (!kev_queue_ready(q))
		return EPOLLERR;
	for (i = 0; i < q->nr_rings; i++)
		if (kev_ring_readable(q->rings[i]))
			mask = EPOLLIN | EPOLLRDNORM;
	return mask;
}

static void kev_show_ring(struct seq_file *m, struct kev_ring *r)
{
	spin_lock_irq(&r->lock);
	seq_printf(m, "ring:\t%u node %d entries %u tail %llu unclaimed %llu", r->index,
		   r->node, (u32)r->mask + 1, r->tail, r->tail - kev_ring_head(r));
	seq_printf(m, " pending %u hint %u need_enter %u sources %u requests %u",
		   r->nr_pending, r->hint, r->nr_stale, r->sources, r->requests);
	seq_printf(m, " coalesced %llu overflowed %llu swept %llu wakeups %llu",
		   r->coalesced, r->overflowed, r->swept, r->wakeups);
	seq_printf(m, " collected %lld credit %u\n", atomic64_read(&r->collected),
		   r->credit);
	spin_unlock_irq(&r->lock);
}

static void kev_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct kev_queue *q = file->private_data;
	u32 i;

	if (!kev_queue_ready(q))
		return;
	seq_printf(m, "rings:\t%u\nlocked:\t%lu kB\nuser-sources:\t%ld\n", q->nr_rings,
		   atomic_long_read(&q->locked_pages) * (PAGE_SIZE / 1024),
		   atomic_long_read(&q->user->sources));
	seq_printf(m, "user-held:\t%ld\nuser-workers:\t%u\n",
		   atomic_long_read(&q->user->held),
		   data_race(q->user->active)); /* told, and no more */
	for (i = 0; i < q->nr_rings; i++)
		kev_show_ring(m, q->rings[i]);
}

static int kev_open(struct inode *inode, struct file *file)
{
	struct kev_queue *q = kzalloc(sizeof(*q), GFP_KERNEL_ACCOUNT);

	if (!q)
		return -ENOMEM;
	q->user = kev_user_get(file->f_cred->euid);
	if (!q->user) {
		kfree(q);
		return -ENOMEM;
	}
	kev_items_init(&q->items);
	xa_init(&q->buffers);
	spin_lock_init(&q->wait);
	INIT_LIST_HEAD(&q->waiters.list);
	INIT_LIST_HEAD(&q->nest);
	init_waitqueue_head(&q->poll);
	spin_lock_init(&q->owners_lock);
	INIT_LIST_HEAD(&q->owners);
	spin_lock_init(&q->running);
	init_waitqueue_head(&q->drain);
	mutex_init(&q->setup);
	q->file = file;
	file->private_data = q;
	return nonseekable_open(inode, file);
}

/* Also as kev_unmap(), for those who map nothing. */
static int kev_flush(struct file *file, fl_owner_t id)
{
	struct kev_queue *q = file->private_data;

	if (kev_queue_ready(q)) {
		kev_cancel_owner(q, id);
		kev_pass_on(q, NULL);
	}
	return 0;
}

static int kev_release(struct inode *inode, struct file *file)
{
	struct kev_queue *q = file->private_data;

	kev_cancel_all(q);
	kev_buffers_free(q);
	kev_release_items(q);
	kev_watch_sync();
	kev_items_destroy(&q->items);
	if (q->nr_rings)
		kev_free_rings(q, q->nr_rings);
	kev_user_put(q->user);
	kfree(q);
	return 0;
}

const struct file_operations kev_fops = {
	.owner = THIS_MODULE,
	.open = kev_open,
	.flush = kev_flush,
	.release = kev_release,
	.mmap = kev_mmap,
	.poll = kev_poll,
	.unlocked_ioctl = kev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = kev_show_fdinfo,
};
