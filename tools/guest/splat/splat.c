// SPDX-License-Identifier: GPL-2.0
/*
 * A module that makes one mistake, for tools/vm-selftest to see that the
 * mistake is caught.
 */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static char *mistake = "none";
module_param(mistake, charp, 0444);
MODULE_PARM_DESC(mistake, "none, warn, oops, pin, race, foreign_races, deadlock, sleep, free or leak");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(lock);

static void lock_in_both_orders(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void use_after_free(void)
{
	char *object = kmalloc(80, GFP_KERNEL);

	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	WRITE_ONCE(object[3], 1);
}

/* More than one: a stale word somewhere may look like a pointer to one. */
static void leak(void)
{
	for (int i = 0; i < 10; i++) {
		void *object = kmalloc(80, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(object);
	}
}

static void sleep_with_spinlock(void)
{
	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
}

/* As KCSAN prints it: a line for each letter of the stacks, the top one first */
static void print_frames(const char *frames)
{
	for (; *frames; frames++)
		pr_err(" %s+0x10/0x20%s\n", *frames == 'p' ? "eventfd_poll" : "function",
		       *frames == 'k' ? " [kevent]" : "");
}

static void report_race(const char *first, const char *second)
{
	pr_err("==================================================================\n");
	pr_err("BUG: KCSAN: data-race in function / function\n");
	pr_err("write to 0x0000000000000010 of 4 bytes by task 1 on cpu 0:\n");
	print_frames(first);
	pr_err("read to 0x0000000000000010 of 4 bytes by interrupt on cpu 1:\n");
	print_frames(second);
	pr_err("value changed: 0x00000001 -> 0x00000002\n");
	pr_err("==================================================================\n");
}

static int __init splat_init(void)
{
	if (!strcmp(mistake, "warn"))
		WARN_ON(1);
	else if (!strcmp(mistake, "oops"))
		WRITE_ONCE(*(int *)16, 1);
	else if (!strcmp(mistake, "pin"))
		__module_get(THIS_MODULE);
	else if (!strcmp(mistake, "race"))
		report_race("ffffk", "fffk");
	else if (!strcmp(mistake, "foreign_races")) {
		report_race("ffffk", "ffffk");
		report_race("fpk", "f");
	} else if (!strcmp(mistake, "deadlock"))
		lock_in_both_orders();
	else if (!strcmp(mistake, "sleep"))
		sleep_with_spinlock();
	else if (!strcmp(mistake, "free"))
		use_after_free();
	else if (!strcmp(mistake, "leak"))
		leak();
	else if (strcmp(mistake, "none"))
		return -EINVAL;
	return 0;
}

static void __exit splat_exit(void)
{
}

module_init(splat_init);
module_exit(splat_exit);
MODULE_DESCRIPTION("Makes one mistake, for the test of the test harness");
MODULE_LICENSE("GPL");
