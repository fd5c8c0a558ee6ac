// SPDX-License-Identifier: GPL-2.0
/*
 * A byte for each piece of code of the module, mapped by whoever fuzzes it.
 *
 * The compiler calls the function below at the start of every basic block.  The
 * kernel's own (KCOV) records for tasks that asked for it, in task context alone:
 * what interrupts, workers and children do would not be seen.  This one counts
 * whatever runs, and libFuzzer reads the counters where they lie.
 *
 * Built in place of main.c, which it contains: the module itself knows nothing of
 * this.
 */
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#include "cover.h"

#pragma push_macro("module_init")
#pragma push_macro("module_exit")
#undef module_init
#undef module_exit
#define module_init(f)
#define module_exit(f)
#include "../../module/main.c"
#pragma pop_macro("module_init")
#pragma pop_macro("module_exit")

static u8 *counters;

void __sanitizer_cov_trace_pc(void);

/*
 * A call is five bytes long, so that no two share a counter.  Once and more than
 * once is all that is told apart: how often would differ from run to run.
 */
notrace __no_sanitize_address void __sanitizer_cov_trace_pc(void)
{
	unsigned long at = (unsigned long)__builtin_return_address(0);
	u8 *all = READ_ONCE(counters), *c;

	if (!all)
		return;
	at = at >> COVER_SHIFT & (COVER_COUNTERS - 1);
	c = all + at;
	if (*c < 2)
		WRITE_ONCE(*c, *c + 1);
	all[COVER_COUNTERS + at] = 1;
}

static int cover_mmap(struct file *file, struct vm_area_struct *vma)
{
	return remap_vmalloc_range(vma, counters, vma->vm_pgoff);
}

static const struct file_operations cover_fops = {
	.owner = THIS_MODULE,
	.mmap = cover_mmap,
};

static struct miscdevice cover_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kevent-cover",
	.fops = &cover_fops,
};

static int __init cover_init(void)
{
	int ret;

	/* Those of the runs, and behind them what was ever reached. */
	counters = vmalloc_user(2 * COVER_COUNTERS);
	if (!counters)
		return -ENOMEM;
	ret = misc_register(&cover_device);
	if (ret)
		goto out_free;
	ret = kev_init();
	if (ret)
		goto out_device;
	return 0;

out_device:
	misc_deregister(&cover_device);
out_free:
	vfree(xchg(&counters, NULL));
	return ret;
}

static void __exit cover_exit(void)
{
	kev_exit();
	misc_deregister(&cover_device);
	vfree(xchg(&counters, NULL));
}

module_init(cover_init);
module_exit(cover_exit);
