/* SPDX-License-Identifier: GPL-2.0 */
/* What cover.c and its readers agree on. */
#ifndef _COVER_H
#define _COVER_H

#define COVER_DEVICE "/dev/kevent-cover"
/* Half a megabyte of code, more than the module has. */
#define COVER_SHIFT 2
#define COVER_COUNTERS (1 << 17)

#endif /* _COVER_H */
