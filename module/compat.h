/* SPDX-License-Identifier: GPL-2.0 */
/* Differences between kernels; the only place that tests their versions. */
#ifndef _KEV_COMPAT_H
#define _KEV_COMPAT_H

#include <linux/blkdev.h>
#include <linux/cgroup.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>
#include <linux/version.h>
#include <linux/workqueue.h>

/* Oldest that was tried; its close_fd() is not in all that are called 5.10. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 10, 223)
#error "kevent supports Linux 5.10.223 and newer"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, unsigned long set,
				unsigned long clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

/*
 * Puts a page of kernel memory into a mapping whose file keeps it.  Up to 5.10 the
 * mark of a page that is charged to a cgroup is where its mappings are counted, so
 * that it can be mapped by its number only.
 */
static inline int kev_insert_page(struct vm_area_struct *vma, unsigned long at,
				  struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
	return remap_pfn_range(vma, at, page_to_pfn(page), PAGE_SIZE, vma->vm_page_prot);
#else
	return vm_insert_page(vma, at, page);
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*function)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

/* Newer kernels have the old name still, and complain when it is used. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define system_dfl_wq system_unbound_wq
#endif

/* Some kernels zero what is on the stack, unless told that it is set before use. */
#ifndef __uninitialized
#define __uninitialized __attribute__((__uninitialized__))
#endif

/* The callback of a kiocb, defined as KEV_KI_COMPLETE(name, iocb, res) { ... } */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
#define KEV_KI_COMPLETE(name, iocb, res) \
	static void name(struct kiocb *iocb, long res, long res2)
#else
#define KEV_KI_COMPLETE(name, iocb, res) \
	static void name(struct kiocb *iocb, long res)
#endif

/* Says how many requests the plug will see; block layers allocate by that. */
static inline void kev_start_plug(struct blk_plug *plug, u32 nr)
{
	blk_start_plug(plug);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
	plug->nr_ios = min_t(u32, nr, 32);
#endif
}

/*
 * A write, in two parts: who may have to be asked, before a freeze of the file system
 * is held off, and what is done while it is.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
static inline int kev_verify_write(struct file *file, struct kiocb *iocb,
				   struct iov_iter *iter)
{
	return 0; /* vfs_iocb_iter_write() does */
}

static inline ssize_t kev_iter_write(struct file *file, struct kiocb *iocb,
				     struct iov_iter *iter)
{
	return vfs_iocb_iter_write(file, iocb, iter);
}
#else
static inline int kev_verify_write(struct file *file, struct kiocb *iocb,
				   struct iov_iter *iter)
{
	return rw_verify_area(WRITE, file, &iocb->ki_pos, iov_iter_count(iter));
}

/* vfs_iocb_iter_write() holds the freeze off itself, and lets its caller wait for it. */
static inline ssize_t kev_iter_write(struct file *file, struct kiocb *iocb,
				     struct iov_iter *iter)
{
	ssize_t ret;

	if (!iov_iter_count(iter))
		return 0;
	ret = file->f_op->write_iter(iocb, iter);
	if (ret > 0)
		fsnotify_modify(file);
	return ret;
}
#endif

/*
 * Whether the device that the file is, or lies on, can reach @count bytes of the memory.
 * Newer kernels ask so of pages that they pin themselves, and not of those that they
 * are given.
 */
static inline bool kev_device_reaches(struct file *file, loff_t pos, size_t count,
				      const struct bio_vec *vecs, u32 nr, u32 skip)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	struct inode *inode = file->f_mapping->host;
	struct block_device *bdev = inode->i_sb->s_bdev;
	unsigned int at;
	u32 i;

	if (S_ISBLK(inode->i_mode)) {
		bdev = I_BDEV(inode);
		if (pos >= bdev_nr_bytes(bdev))
			return true; /* the memory is not looked at */
	}
	if (!bdev || !count)
		return true;
	at = vecs[0].bv_offset + skip;
	for (i = 1; i < nr; i++)
		at |= vecs[i].bv_offset | (vecs[i - 1].bv_offset + vecs[i - 1].bv_len);
	return !(at & bdev_dma_alignment(bdev));
#else
	return true;
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define inode_get_ctime(inode) ((inode)->i_ctime)
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define inode_get_atime(inode) ((inode)->i_atime)
#define inode_get_mtime(inode) ((inode)->i_mtime)
#endif

/* Whether the page is of a file that is not in memory; newer kernels do not pin those. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static inline bool kev_file_page(struct page *page)
{
	struct address_space *mapping;
	unsigned long magic;

	rcu_read_lock(); /* the pin keeps the page, not its file */
	mapping = PageAnon(page) ? NULL : page_mapping(page);
	magic = mapping ? mapping->host->i_sb->s_magic : TMPFS_MAGIC;
	rcu_read_unlock();
	return magic != TMPFS_MAGIC && magic != HUGETLBFS_MAGIC;
}
#else
static inline bool kev_file_page(struct page *page)
{
	return false;
}
#endif

static inline struct socket *kev_socket_of(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
	int error;

	return sock_from_file(file, &error);
#else
	return sock_from_file(file);
#endif
}

static inline int kev_iocb_flags(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 0, 0)
	return iocb_flags(file);
#else
	return file->f_iocb_flags;
#endif
}

/* Where completions in interrupts may use the block layer's cache of bios. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define KEV_IOCB_CACHE 0
#else
#define KEV_IOCB_CACHE IOCB_ALLOC_CACHE
#endif

static inline int kev_set_rw_flags(struct kiocb *iocb, u32 flags, int rw)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	return kiocb_set_rw_flags(iocb, (__force rwf_t)flags);
#else
	return kiocb_set_rw_flags(iocb, (__force rwf_t)flags, rw);
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
/* The kernel's own needs a symbol that is not exported. */
static inline struct mem_cgroup *kev_set_memcg(struct mem_cgroup *memcg)
{
	swap(current->active_memcg, memcg);
	return memcg;
}
#else
#define kev_set_memcg set_active_memcg
#endif

/* CONTEXT: RCU */
static inline struct mem_cgroup *kev_task_memcg(struct task_struct *task)
{
#ifdef CONFIG_MEMCG
	return mem_cgroup_from_task(task);
#else
	return NULL;
#endif
}

/* Until no task is preempted in code that it was in before. */
static inline void kev_synchronize_tasks(void)
{
#ifdef CONFIG_TASKS_RCU
	synchronize_rcu_tasks();
#else
	synchronize_rcu();
#endif
}

#ifdef CONFIG_BLK_CGROUP
static inline struct cgroup_subsys_state *kev_current_blkcg(void)
{
	return task_get_css(current, io_cgrp_id);
}

/* CONTEXT: RCU */
static inline struct cgroup_subsys_state *kev_task_blkcg(struct task_struct *task)
{
	return task_css(task, io_cgrp_id);
}

static inline void kev_put_blkcg(struct cgroup_subsys_state *css)
{
	css_put(css);
}
#else
static inline struct cgroup_subsys_state *kev_current_blkcg(void)
{
	return NULL;
}

static inline struct cgroup_subsys_state *kev_task_blkcg(struct task_struct *task)
{
	return NULL;
}

static inline void kev_put_blkcg(struct cgroup_subsys_state *css)
{
}
#endif

#endif
