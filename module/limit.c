// SPDX-License-Identifier: GPL-2.0
/* What a user may have, over all queues that the user opened. */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "kev.h"

/* By default a 25th of memory, at some 256 bytes a source. */
static unsigned long max_user_sources;
module_param(max_user_sources, ulong, 0644);
MODULE_PARM_DESC(max_user_sources, "sources for each user (0: from memory size)");

/* By default a sixteenth of memory. */
static unsigned long max_user_held;
module_param(max_user_held, ulong, 0644);
MODULE_PARM_DESC(max_user_held, "requests in flight and pages that they pin, for each user (0: from memory size)");

/* Periodic timers go on by themselves: nobody but their user would stop them. */
static unsigned int max_user_expirations = 110000;
module_param(max_user_expirations, uint, 0644);
MODULE_PARM_DESC(max_user_expirations, "expirations of periodic timers a second, for each user, in the long run (0: any number)");

/* So long nothing need have been used to be used at once. */
#define KEV_EXPIRE_SAVED (100 * NSEC_PER_MSEC)
/* An interrupt costs as much as so many expirations. */
#define KEV_EXPIRE_INTERRUPT 3

/*
 * Those who have a queue open, by uid: whoever maps many uids makes nobody walk past
 * them.  The array's lock is for @queues too.
 */
static DEFINE_XARRAY_FLAGS(kev_users, XA_FLAGS_ACCOUNT);

static struct kev_user *kev_user_find(kuid_t uid)
{
	struct kev_user *user;

	xa_lock(&kev_users);
	user = xa_load(&kev_users, __kuid_val(uid));
	if (user)
		user->queues++;
	xa_unlock(&kev_users);
	return user;
}

/* The account of a user who opens a queue; NULL without memory. */
struct kev_user *kev_user_get(kuid_t uid)
{
	struct kev_user *user = kev_user_find(uid), *fresh;
	int ret;

	if (user)
		return user;
	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return NULL;
	fresh->uid = uid;
	fresh->queues = 1;
	kev_work_init(fresh);
	do {
		ret = xa_insert(&kev_users, __kuid_val(uid), fresh, GFP_KERNEL);
		if (!ret)
			return fresh;
		/* Somebody was faster, and may have gone again. */
		user = ret == -EBUSY ? kev_user_find(uid) : NULL;
	} while (ret == -EBUSY && !user);
	kfree(fresh);
	return user;
}

void kev_user_put(struct kev_user *user)
{
	bool last;

	xa_lock(&kev_users);
	last = !--user->queues;
	if (last)
		__xa_erase(&kev_users, __kuid_val(user->uid));
	xa_unlock(&kev_users);
	if (!last)
		return;
	kev_work_exit(user);
	kfree(user);
}

int kev_user_charge(struct kev_user *user)
{
	unsigned long max = READ_ONCE(max_user_sources);

	if (!max)
		max = totalram_pages() / 25 * (PAGE_SIZE / 256);
	if (atomic_long_inc_return(&user->sources) <= max)
		return 0;
	atomic_long_dec(&user->sources);
	return -ENOSPC;
}

void kev_user_uncharge(struct kev_user *user)
{
	atomic_long_dec(&user->sources);
}

bool kev_user_hold(struct kev_user *user, u32 n)
{
	unsigned long max = READ_ONCE(max_user_held) ?: totalram_pages() / 16;

	if (atomic_long_add_return(n, &user->held) <= max)
		return true;
	atomic_long_sub(n, &user->held);
	return false;
}

void kev_user_unhold(struct kev_user *user, u32 n)
{
	atomic_long_sub(n, &user->held);
}

/*
 * Nanoseconds for which the user's timers are not looked at; nearly always 0.  Each
 * ring's clocks look again then, which nobody is charged for: twenty times a second.
 */
u64 kev_user_overdrawn(struct kev_user *user)
{
	u64 paid = atomic64_read(&user->expirations_paid);
	u64 now = ktime_get_coarse_ns();

	if (likely(paid <= now + KEV_EXPIRE_SAVED))
		return 0;
	return max_t(u64, paid - now - KEV_EXPIRE_SAVED, KEV_EXPIRE_SAVED / 2);
}

/* @n of the user's periodic timers have expired, in one interrupt. */
void kev_user_expired(struct kev_user *user, u32 n)
{
	u32 max = READ_ONCE(max_user_expirations);
	s64 paid = atomic64_read(&user->expirations_paid);
	s64 now = ktime_get_coarse_ns();

	if (!max)
		return;
	if (paid < now)
		atomic64_cmpxchg_relaxed(&user->expirations_paid, paid, now);
	atomic64_add((u64)(n + KEV_EXPIRE_INTERRUPT) * (NSEC_PER_SEC / max),
		     &user->expirations_paid);
}
