/* SPDX-License-Identifier: GPL-2.0 */
/* Differences between kernels; the only place that tests their versions. */
#ifndef _KEV_COMPAT_H
#define _KEV_COMPAT_H

#include <linux/cgroup.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 10, 0)
#error "kevent supports Linux 5.10 and newer"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
static inline int kev_close_fd(unsigned int fd)
{
	return __close_fd(current->files, fd);
}
#else
#define kev_close_fd close_fd
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, unsigned long set,
				unsigned long clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*function)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

/* The callback of a kiocb, defined as KEV_KI_COMPLETE(name, iocb, res) { ... } */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
#define KEV_KI_COMPLETE(name, iocb, res) \
	static void name(struct kiocb *iocb, long res, long res2)
#else
#define KEV_KI_COMPLETE(name, iocb, res) \
	static void name(struct kiocb *iocb, long res)
#endif

/* @iov is room that the iterator may use. */
static inline int kev_import_buffer(int rw, void __user *buffer, size_t len,
				    struct iovec *iov, struct iov_iter *iter)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	return import_single_range(rw, buffer, len, iov, iter);
#else
	return import_ubuf(rw, buffer, len, iter);
#endif
}

/* The piece of user memory that @iter stands at. */
static inline struct iovec kev_iter_piece(const struct iov_iter *iter)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
	return iov_iter_iovec(iter);
#else
	return (struct iovec){ iter_iov_addr(iter), iter_iov_len(iter) };
#endif
}

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

#ifdef CONFIG_BLK_CGROUP
static inline struct cgroup_subsys_state *kev_current_blkcg(void)
{
	return task_get_css(current, io_cgrp_id);
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

static inline void kev_put_blkcg(struct cgroup_subsys_state *css)
{
}
#endif

#endif
