/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the selftests of requests share: entries and their outcomes, patterns,
 * block devices, a file system that is served from here.
 *
 * Devices and mounts are made by the first test that wants them and stay until
 * "run" takes them away, which shows that nothing holds them.  The disks are
 * those that KEVENT_DISKS names (tools/vm --disk): they are overwritten.
 */
#ifndef IO_TEST_H
#define IO_TEST_H

/* So this header comes before all others. */
#define _FILE_OFFSET_BITS 64
#include "kevent_test.h"

#include <linux/dm-ioctl.h>
#include <linux/fuse.h>
#include <linux/loop.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#define IO_DIR "/run/kevent-io"
#define IO_PAGE 4096
#define MIB (1UL << 20)
#ifndef FIFREEZE
#define FIFREEZE _IOWR('X', 119, int)
#define FITHAW _IOWR('X', 120, int)
#endif

/* ------------------------------------------------------------------------ */
/* Entries and outcomes */

kt struct kevent_change io_entry(unsigned int kind, int fd, const void *addr,
				 uint32_t len, uint64_t offset)
{
	struct kevent_change c = {
		.op = KEVENT_OP_SUBMIT,
		.kind = kind,
		.fd = fd,
		.addr = (uintptr_t)addr,
		.len = len,
		.offset = offset,
	};

	return c;
}

kt struct kevent_change read_entry(int fd, void *addr, uint32_t len,
				   uint64_t offset)
{
	return io_entry(KEVENT_KIND_READ, fd, addr, len, offset);
}

kt struct kevent_change write_entry(int fd, const void *addr, uint32_t len,
				    uint64_t offset)
{
	return io_entry(KEVENT_KIND_WRITE, fd, addr, len, offset);
}

kt struct kevent_change sync_entry(int fd)
{
	return io_entry(KEVENT_KIND_FSYNC, fd, NULL, 0, 0);
}

/* Submits a read with this cookie; its result. */
kt int submit_read(int q, int fd, void *addr, uint32_t len, uint64_t offset,
		   uint64_t cookie, uint64_t *id)
{
	struct kevent_change c = read_entry(fd, addr, len, offset);

	c.cookie = cookie;
	return add(q, &c, id);
}

kt int submit_write(int q, int fd, const void *addr, uint32_t len,
		    uint64_t offset, uint64_t cookie, uint64_t *id)
{
	struct kevent_change c = write_entry(fd, addr, len, offset);

	c.cookie = cookie;
	return add(q, &c, id);
}

kt int cancel_id(int q, uint64_t id)
{
	return plain_op(q, KEVENT_OP_CANCEL, id);
}

kt int cancel_file(int q, int fd)
{
	struct kevent_change c = {
		.op = KEVENT_OP_CANCEL,
		.flags = KEVENT_CANCEL_FILE,
		.fd = fd,
	};

	return change(q, &c);
}

/* How a request ended.  @flags is 0 where its entry was refused. */
struct outcome {
	int64_t result;
	uint32_t flags;
};

#define IO_WRONG (-99999)	/* an event that is not the request's */

/* Submits and waits for the one event, or takes the entry's own error. */
kt struct outcome io_do(int q, struct kevent_change c)
{
	static uint64_t cookie = 1000;
	struct outcome o = { IO_WRONG, 0 };
	struct ukevent ev;
	int result;

	c.cookie = ++cookie;
	result = change(q, &c);
	if (result < 0) {
		if (!c.id)
			o.result = result;
		return o;
	}
	if (result || !c.id || get_one(q, &ev) != 1 || ev.cookie != cookie ||
	    ev.id != c.id || ev.kind != c.kind || ev.events || !ev.flags)
		return o;
	o.result = ev.result;
	o.flags = ev.flags;
	return o;
}

/* ------------------------------------------------------------------------ */
/* Patterns: every byte says where it belongs, and to which generation */

kt uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

kt uint8_t pattern_at(uint64_t seed, uint64_t position)
{
	return mix(seed * 0x9e3779b97f4a7c15ULL + position / 8) >>
	       position % 8 * 8;
}

kt void pattern_fill(void *to, size_t size, uint64_t seed, uint64_t position)
{
	uint8_t *bytes = to;
	size_t i = 0;

	for (; i < size && (position + i) % 8; i++)
		bytes[i] = pattern_at(seed, position + i);
	for (; i + 8 <= size; i += 8) {
		uint64_t word = mix(seed * 0x9e3779b97f4a7c15ULL +
				    (position + i) / 8);

		memcpy(bytes + i, &word, 8);
	}
	for (; i < size; i++)
		bytes[i] = pattern_at(seed, position + i);
}

/* Where the first wrong byte is, or -1. */
kt long pattern_wrong(const void *from, size_t size, uint64_t seed,
		      uint64_t position)
{
	uint8_t want[512];
	size_t i, k, n;

	for (i = 0; i < size; i += n) {
		n = size - i < sizeof(want) ? size - i : sizeof(want);
		pattern_fill(want, n, seed, position + i);
		if (!memcmp((const char *)from + i, want, n))
			continue;
		for (k = 0; ((const uint8_t *)from)[i + k] == want[k]; k++)
			;
		return i + k;
	}
	return -1;
}

kt int all_bytes(const void *from, size_t size, uint8_t byte)
{
	const uint8_t *p = from;

	while (size && *p == byte)
		p++, size--;
	return !size;
}

/* Pages of their own, so that they can be unmapped and are aligned. */
kt void *pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : memset(p, POISON, size);
}

/* Pages that a child process has as well. */
kt void *shared_pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ------------------------------------------------------------------------ */
/* Devices */

kt int command(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return system(text);
}

/* The nth disk that may be overwritten, or NULL. */
kt const char *disk(unsigned int n)
{
	static char name[64];
	const char *all = getenv("KEVENT_DISKS") ?: "";

	while (n-- && all)
		all = strchr(all, ' ') ? strchr(all, ' ') + 1 : NULL;
	if (!all || sscanf(all, "%63s", name) != 1)
		return NULL;
	return name;
}

struct dm_segment {
	uint64_t start, length;
	const char *type;
	char parameters[128];
};

/* One call to the device mapper; the minor number of the device, or -errno. */
kt int dm_call(unsigned long request, const char *name, uint32_t flags,
	       const struct dm_segment *segments, unsigned int nr)
{
	static union {
		struct dm_ioctl d;
		char bytes[4096];
	} arg;
	size_t at = sizeof(struct dm_ioctl);
	int fd, result;
	unsigned int i;

	memset(&arg, 0, sizeof(arg));
	arg.d.version[0] = DM_VERSION_MAJOR;
	arg.d.data_size = sizeof(arg);
	arg.d.data_start = at;
	arg.d.flags = flags;
	arg.d.target_count = nr;
	snprintf(arg.d.name, sizeof(arg.d.name), "%s", name);
	for (i = 0; i < nr; i++) {
		struct dm_target_spec *t = (void *)(arg.bytes + at);

		t->sector_start = segments[i].start;
		t->length = segments[i].length;
		strcpy(t->target_type, segments[i].type);
		strcpy((char *)(t + 1), segments[i].parameters);
		t->next = (sizeof(*t) + strlen(segments[i].parameters) + 8) &
			  ~7UL;
		at += t->next;
	}
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	result = sys(ioctl(fd, request, &arg));
	close(fd);
	return result < 0 ? result : (int)minor(arg.d.dev);
}

kt int dm_table(const char *name, const struct dm_segment *segments,
		unsigned int nr)
{
	return dm_call(DM_TABLE_LOAD, name, 0, segments, nr);
}

/* From here on the device keeps what it is given, and finishes nothing. */
kt int dm_hold(const char *name)
{
	return dm_call(DM_DEV_SUSPEND, name, DM_SUSPEND_FLAG |
		       DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG, NULL, 0);
}

kt int dm_let_go(const char *name)
{
	return dm_call(DM_DEV_SUSPEND, name, 0, NULL, 0);
}

kt uint64_t device_size(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = lseek(fd, 0, SEEK_END);

	close(fd);
	return size < 0 ? 0 : size;
}

/* A mapped device over the whole of @under; its path. */
kt const char *dm_over(const char *name, const char *under)
{
	static char path[64];
	struct dm_segment all = {
		.length = device_size(under) / 512,
		.type = "linear",
	};
	int n = dm_call(DM_DEV_STATUS, name, 0, NULL, 0);

	if (n == -ENOENT || n == -ENXIO) {
		command("modprobe -a dm-mod dm-flakey 2>/dev/null");
		snprintf(all.parameters, sizeof(all.parameters), "%s 0", under);
		n = dm_call(DM_DEV_CREATE, name, 0, NULL, 0);
		if (n == -ENOENT || n == -ENXIO || dm_table(name, &all, 1) < 0)
			return NULL;
	}
	if (n < 0 || dm_let_go(name) < 0)
		return NULL;
	snprintf(path, sizeof(path), "/dev/dm-%d", n);
	return path;
}

#define HELD "kevent-held"	/* on the second disk, has an ext4 file system */
#define FAULTY "kevent-faulty"	/* on the third disk */

/* ------------------------------------------------------------------------ */
/* Files of many kinds */

enum storage { TMPFS, EXT4, EXT4_HELD, DISK, LOOP, NULLB };

kt int mount_ext4(const char *device, const char *where)
{
	struct stat inner, outer;

	mkdir(IO_DIR, 0755);
	mkdir(where, 0755);
	if (stat(where, &inner) || stat(IO_DIR, &outer))
		return -errno;
	if (inner.st_dev != outer.st_dev)
		return 0;
	command("modprobe ext4 2>/dev/null");
	if (command("mkfs.ext4 -q -F -b 4096 %s >/dev/null", device))
		return -EIO;
	return sys(mount(device, where, "ext4", 0, ""));
}

kt const char *loop_make(void)
{
	static char path[64];
	struct loop_config config = { .info.lo_file_name = "kevent" };
	int control, file, fd, n;

	if (*path)
		return path;
	n = readlink(IO_DIR "/loop", path, sizeof(path) - 1);
	if (n > 0) {
		path[n] = 0;
		return path;
	}
	command("modprobe loop 2>/dev/null");
	mkdir(IO_DIR, 0755);
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	file = open(IO_DIR "/loop.img", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (ftruncate(file, 16 * MIB))
		return NULL;
	n = ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, sizeof(path), "/dev/loop%d", n);
	fd = open(path, O_RDWR | O_CLOEXEC);
	config.fd = file;
	if (ioctl(fd, LOOP_CONFIGURE, &config) ||
	    symlink(path, IO_DIR "/loop"))
		*path = 0;
	close(fd);
	close(file);
	close(control);
	return *path ? path : NULL;
}

/* In memory, and done before submission returns. */
kt const char *null_blk_make(void)
{
	static const char path[] = "/dev/nullb0";
#define NULLB_DIR "/sys/kernel/config/nullb/nullb0"

	if (!access(path, F_OK))
		return path;
	command("modprobe null_blk nr_devices=0");
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	if (mkdir(NULLB_DIR, 0755) ||
	    write_text(NULLB_DIR "/size", "16") ||
	    write_text(NULLB_DIR "/memory_backed", "1") ||
	    write_text(NULLB_DIR "/irqmode", "0") ||
	    write_text(NULLB_DIR "/power", "1"))
		return NULL;
	return path;
}

/* A file or device that may be overwritten; NULL where there is none. */
kt const char *storage_path(enum storage storage)
{
	const char *device;

	switch (storage) {
	case TMPFS:
		mkdir(IO_DIR, 0755);
		return IO_DIR "/file";
	case EXT4:
		device = disk(0);
		if (!device || mount_ext4(device, IO_DIR "/ext4"))
			return NULL;
		return IO_DIR "/ext4/file";
	case EXT4_HELD:
		device = disk(1) ? dm_over(HELD, disk(1)) : NULL;
		if (!device || mount_ext4(device, IO_DIR "/held"))
			return NULL;
		return IO_DIR "/held/file";
	case DISK:
		return disk(2) ? dm_over(FAULTY, disk(2)) : NULL;
	case LOOP:
		return loop_make();
	case NULLB:
		return null_blk_make();
	}
	return NULL;
}

/* Opens it for reading and writing; a file is new and has @size bytes. */
kt int storage_open(enum storage storage, int flags, size_t size, uint64_t seed)
{
	const char *path = storage_path(storage);
	char *buffer = pages(MIB);
	size_t at, n;
	int fd;

	if (!path)
		return -ENODEV;
	if (strncmp(path, "/dev/", 5))
		unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0644);
	for (at = 0; fd >= 0 && at < size; at += n) {
		n = size - at < MIB ? size - at : MIB;
		pattern_fill(buffer, n, seed, at);
		if (pwrite(fd, buffer, n, at) != (ssize_t)n) {
			close(fd);
			fd = -1;
		}
	}
	munmap(buffer, MIB);
	return fd < 0 ? -errno : fd;
}

/* The next reads do not have to set the time of access, which can wait. */
kt int access_later(int fd)
{
	struct timespec times[2] = { { time(NULL) + 3600, 0 }, { 0, UTIME_OMIT } };

	return sys(futimens(fd, times));
}

/* Nothing of it stays in the page cache. */
kt int make_cold(int fd)
{
	return fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ------------------------------------------------------------------------ */
/* A FUSE file system with one file, "file", that answers when it is let go */

#define FUSE_DIR IO_DIR "/fuse"

struct fuse_shared {
	uint32_t hold;		/* reads and writes get no answer while set */
	uint32_t waiting;	/* those that came and have none */
	uint32_t interrupted;
	uint32_t uid;		/* of the latest */
};

struct fuse_server {
	struct fuse_shared *shared;
	pid_t pid;
	int wake;		/* an eventfd */
};

struct fuse_pending {
	uint64_t unique;
	uint64_t offset;
	uint32_t size;
	uint32_t opcode;
};

kt void fuse_reply(int fd, uint64_t unique, int error, const void *data,
		   size_t size)
{
	struct fuse_out_header h = {
		.len = sizeof(h) + size,
		.error = error,
		.unique = unique,
	};
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)data, size } };

	if (writev(fd, iov, 2) < 0 && errno != ENOENT)
		_exit(1);
}

kt void fuse_transfer(int fd, const struct fuse_pending *p)
{
	static char data[1 << 17];
	struct fuse_write_out out = { .size = p->size };

	if (p->opcode == FUSE_WRITE) {
		fuse_reply(fd, p->unique, 0, &out, sizeof(out));
		return;
	}
	pattern_fill(data, p->size, 1, p->offset);
	fuse_reply(fd, p->unique, 0, data, p->size);
}

kt struct fuse_attr fuse_attr_of(uint64_t node)
{
	struct fuse_attr a = {
		.ino = node,
		.mode = node == 1 ? S_IFDIR | 0777 : S_IFREG | 0666,
		.nlink = 1,
		.size = node == 1 ? 0 : MIB,
		.blksize = IO_PAGE,
	};

	return a;
}

/* All but reads and writes. */
kt void fuse_answer(int fd, const struct fuse_in_header *in)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_background = 1000,
		.congestion_threshold = 1000,
		.max_write = 1 << 17,
	};
	struct fuse_entry_out entry = {
		.nodeid = 2, .attr_valid = 3600, .entry_valid = 3600,
		.attr = fuse_attr_of(2),
	};
	struct fuse_attr_out attr = {
		.attr_valid = 3600, .attr = fuse_attr_of(in->nodeid),
	};
	struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };

	switch (in->opcode) {
	case FUSE_INIT:
		fuse_reply(fd, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		fuse_reply(fd, in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		fuse_reply(fd, in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		fuse_reply(fd, in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
		fuse_reply(fd, in->unique, 0, NULL, 0);
		break;
	default:
		fuse_reply(fd, in->unique, -ENOSYS, NULL, 0);
	}
}

kt void fuse_serve(int fd, const struct fuse_server *s)
{
	static struct fuse_pending pending[1024];
	static char message[(1 << 17) + 4096];
	struct fuse_in_header *in = (void *)message;
	struct fuse_read_in *io = (void *)(in + 1); /* as fuse_write_in starts */
	struct fuse_interrupt_in *interrupt = (void *)(in + 1);
	struct pollfd p[2] = { { fd, POLLIN, 0 }, { s->wake, POLLIN, 0 } };
	uint32_t i, n = 0;

	for (;;) {
		if (poll(p, 2, -1) < 0)
			_exit(1);
		if (p[1].revents) {
			eventfd_drain(s->wake);
			for (i = 0; i < n; i++)
				fuse_transfer(fd, &pending[i]);
			n = 0;
		}
		if (!p[0].revents)
			goto count;
		if (read(fd, message, sizeof(message)) < 0) {
			if (errno == EINTR || errno == ENOENT || errno == EAGAIN)
				continue;
			_exit(0);
		}
		if (in->opcode == FUSE_READ || in->opcode == FUSE_WRITE) {
			pending[n] = (struct fuse_pending){
				in->unique, io->offset, io->size, in->opcode };
			s->shared->uid = in->uid;
			if (__atomic_load_n(&s->shared->hold, __ATOMIC_ACQUIRE))
				n++;
			else
				fuse_transfer(fd, &pending[n]);
		} else if (in->opcode == FUSE_INTERRUPT) {
			for (i = 0; i < n; i++)
				if (pending[i].unique == interrupt->unique)
					break;
			if (i < n) {
				s->shared->interrupted++;
				fuse_reply(fd, pending[i].unique, -EINTR, NULL, 0);
				pending[i] = pending[--n];
			}
		} else {
			fuse_answer(fd, in);
		}
count:
		__atomic_store_n(&s->shared->waiting, n, __ATOMIC_RELEASE);
	}
}

/* Another process serves: a kernel that waits for it waits for nobody here. */
kt int fuse_start(struct fuse_server *s)
{
	char options[128];
	int fd;

	command("modprobe fuse 2>/dev/null");
	mkdir(IO_DIR, 0755);
	mkdir(FUSE_DIR, 0755);
	umount2(FUSE_DIR, MNT_DETACH);
	s->shared = shared_pages(IO_PAGE);
	s->wake = eventfd_make();
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
	if (fd < 0 || mount("kevent", FUSE_DIR, "fuse", 0, options))
		return -errno;
	s->pid = fork();
	if (!s->pid)
		fuse_serve(fd, s);
	close(fd);
	return s->pid < 0 ? -errno : 0;
}

kt void fuse_hold(struct fuse_server *s)
{
	__atomic_store_n(&s->shared->hold, 1, __ATOMIC_RELEASE);
}

kt uint32_t fuse_waiting(const struct fuse_server *s)
{
	return __atomic_load_n(&s->shared->waiting, __ATOMIC_ACQUIRE);
}

kt void fuse_let_go(struct fuse_server *s)
{
	__atomic_store_n(&s->shared->hold, 0, __ATOMIC_RELEASE);
	eventfd_fire(s->wake);
}

kt void fuse_stop(struct fuse_server *s)
{
	fuse_let_go(s);
	umount2(FUSE_DIR, MNT_DETACH);
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	close(s->wake);
}

#endif /* IO_TEST_H */
