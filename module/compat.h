/* SPDX-License-Identifier: GPL-2.0 */
/* Differences between kernels; the only place that tests their versions. */
#ifndef _KEV_COMPAT_H
#define _KEV_COMPAT_H

#include <linux/fdtable.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
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

#endif
