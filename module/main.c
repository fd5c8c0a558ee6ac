// SPDX-License-Identifier: GPL-2.0
/* Init in order, exit in mirror order. */
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "kev.h"

static struct miscdevice kev_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kevent",
	.fops = &kev_fops,
	.mode = 0666,
};

static int __init kev_init(void)
{
	int ret;

	ret = kev_file_init();
	if (ret)
		return ret;
	ret = kev_watch_init();
	if (ret)
		goto out_file;
	ret = kev_requests_init();
	if (ret)
		goto out_watch;
	ret = misc_register(&kev_device);
	if (ret)
		goto out_requests;
	return 0;

out_requests:
	kev_requests_exit();
out_watch:
	kev_watch_exit();
out_file:
	kev_file_exit();
	return ret;
}

static void __exit kev_exit(void)
{
	misc_deregister(&kev_device);
	kev_requests_exit();
	kev_watch_exit();
	kev_file_exit();
}

module_init(kev_init);
module_exit(kev_exit);

MODULE_DESCRIPTION("Event rings, one for each NUMA node");
MODULE_LICENSE("GPL");
