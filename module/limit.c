// SPDX-License-Identifier: GPL-2.0
/* What a user may have: sources, over all queues that the user opened. */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "kev.h"

/* By default a 25th of memory, at some 256 bytes a source. */
static unsigned long max_user_sources;
module_param(max_user_sources, ulong, 0644);
MODULE_PARM_DESC(max_user_sources, "sources for each user (0: from memory size)");

/* By default a sixteenth of memory. */
static unsigned long max_user_held;
module_param(max_user_held, ulong, 0644);
MODULE_PARM_DESC(max_user_held, "requests in flight and pages that they pin, for each user (0: from memory size)");

static DEFINE_MUTEX(kev_users_mutex);
static LIST_HEAD(kev_users);

static struct kev_user *kev_user_find(kuid_t uid)
{
	struct kev_user *user;

	list_for_each_entry(user, &kev_users, node)
		if (uid_eq(user->uid, uid))
			return user;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (user) {
		user->uid = uid;
		kev_work_init(user);
		list_add(&user->node, &kev_users);
	}
	return user;
}

/* The account of a user who opens a queue; NULL without memory. */
struct kev_user *kev_user_get(kuid_t uid)
{
	struct kev_user *user;

	mutex_lock(&kev_users_mutex);
	user = kev_user_find(uid);
	if (user)
		user->queues++;
	mutex_unlock(&kev_users_mutex);
	return user;
}

void kev_user_put(struct kev_user *user)
{
	bool last;

	mutex_lock(&kev_users_mutex);
	last = !--user->queues;
	if (last)
		list_del(&user->node);
	mutex_unlock(&kev_users_mutex);
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
