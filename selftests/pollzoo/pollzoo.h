/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * pollzoo - a device whose poll is programmed, for tests only.
 *
 * Each open file has up to POLLZOO_QUEUES wait queues, a mask that its poll
 * answers, and flags that say how its poll behaves.
 */
#ifndef _POLLZOO_H
#define _POLLZOO_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define POLLZOO_DEVICE "/dev/pollzoo"
#define POLLZOO_QUEUES 8

/* pollzoo_program.flags */
#define POLLZOO_TWICE 1	   /* poll passes its first queue a second time */
#define POLLZOO_ROTATE 2   /* each poll begins with another queue */
#define POLLZOO_SLEEP 4	   /* poll sleeps until POLLZOO_IOC_RELEASE */
#define POLLZOO_NAP 8	   /* poll sleeps for a millisecond */
#define POLLZOO_ONCE 16	   /* the next poll alone sleeps until then */

/**
 * struct pollzoo_program - what the next polls do
 * @queues: how many wait queues they pass, 0 to POLLZOO_QUEUES
 * @flags:  POLLZOO_*
 * @mask:   what they answer
 * @pad:    0
 */
struct pollzoo_program {
	__u32 queues;
	__u32 flags;
	__u32 mask;
	__u32 pad;
};

/* pollzoo_wake.context */
#define POLLZOO_TASK 0	   /* in the ioctl */
#define POLLZOO_ATOMIC 1   /* in the ioctl, interrupts off */
#define POLLZOO_SOFTIRQ 2  /* from an hrtimer in soft interrupt context */
#define POLLZOO_HARDIRQ 3  /* from an hrtimer in hard interrupt context */
#define POLLZOO_IRQ_WORK 4 /* from an irq_work */

/* pollzoo_wake.flags */
#define POLLZOO_SET_MASK 1 /* store @mask first, as a driver would */
#define POLLZOO_NO_KEY 2   /* wake_up(), which passes no key */

/**
 * struct pollzoo_wake - wake one queue
 * @queue:   which
 * @context: where from.  The ioctl returns when the wakeup has been made
 * @key:     the key of the wakeup
 * @mask:    with POLLZOO_SET_MASK, what poll answers from now on
 * @flags:   POLLZOO_SET_MASK, POLLZOO_NO_KEY
 * @count:   how many wakeups, one at least
 */
struct pollzoo_wake {
	__u32 queue;
	__u32 context;
	__u32 key;
	__u32 mask;
	__u32 flags;
	__u32 count;
};

/**
 * struct pollzoo_info - what has happened
 * @polls:    calls of poll
 * @sleeping: calls of poll that sleep now
 * @entries:  wait queue entries on all queues now
 * @wakes:    wakeups made
 */
struct pollzoo_info {
	__u32 polls;
	__u32 sleeping;
	__u32 entries;
	__u32 wakes;
};

#define POLLZOO_IOC_PROGRAM _IOW(0xE6, 0, struct pollzoo_program)
#define POLLZOO_IOC_WAKE _IOW(0xE6, 1, struct pollzoo_wake)
/* lets sleeping polls go on, and clears POLLZOO_SLEEP and POLLZOO_ONCE */
#define POLLZOO_IOC_RELEASE _IO(0xE6, 2)
/* wakes all with POLLFREE and frees the queues; polls answer HUP from then on */
#define POLLZOO_IOC_FREE _IO(0xE6, 3)
/* lets that one go on which sleeps longest */
#define POLLZOO_IOC_RELEASE_ONE _IO(0xE6, 5)
#define POLLZOO_IOC_INFO _IOR(0xE6, 4, struct pollzoo_info)

#endif /* _POLLZOO_H */
