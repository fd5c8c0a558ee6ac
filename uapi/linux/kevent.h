/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * kevent - event rings, one for each NUMA node, behind one descriptor.
 *
 * This header is the reference manual.  A C program that includes nothing
 * else can open a queue, map its rings, watch files, arm timers, trigger user
 * events and collect: the inline functions at the end are thin and optional.  They
 * need GNU C (gcc's default; -std=gnu11, or -std=c11 with _GNU_SOURCE defined).
 *
 * DOC: Words
 *
 * queue      an open /dev/kevent, after KEVENT_IOC_SETUP
 * ring       one node's event ring of a queue
 * source     a registered, long-lived interest: a file's readiness, a timer, a
 *            user event
 * request    a submitted operation that completes once
 * event      one struct ukevent
 * home ring  the ring that a source or request reports to
 * hint       the mapped word that says how many level sources may be ready
 * sweep      the part of KEVENT_IOC_GETEVENTS that polls level sources
 * claim      to move a ring's head word past events, which makes them ours
 *
 * DOC: How sources report
 *
 * edge       (the default) an event for each news.  While a source's event is
 *            unclaimed, more of the same adds no entry: a file's bits merge, a
 *            timer's expirations and a user event's values add up, and come
 *            as the next event when that one is claimed (a user event that is
 *            triggered with 3, 4 and 5 gives events of 3 and of 9).
 * oneshot    as edge, and the source is disabled by its event until
 *            KEVENT_OP_ENABLE or KEVENT_OP_MODIFY.
 * level      never put into the ring.  The hint counts it, and
 *            KEVENT_IOC_GETEVENTS reports it for as long as it is ready.
 *
 * An edge event of a file says which bits were announced; another thread may
 * have drained the file since.  So: nonblocking descriptors, and read or write
 * until EAGAIN before waiting for the next edge.
 *
 * DOC: The ring, and why it has a head and a tail
 *
 * The kernel alone writes the slots, the tail, and the other words of struct
 * kevent_ring; those pages can be mapped read-only, no other way.  Consumers
 * write one word, the head, in struct kevent_claim.  Both are 64-bit positions
 * that never wrap in practice; slot = position % entries.  A consumer
 *
 *	1. loads head with acquire (tail is not loaded before it), then tail with
 *	   acquire (pairs with the kernel's release);
 *	2. copies of the events between them what it needs;
 *	3. claims them: compare-and-swap of head to head + n, with release (the
 *	   copy is done before the kernel may reuse a slot; pairs with the
 *	   kernel's acquire load of head).  On failure another consumer was
 *	   faster: forget the copy, start again;
 *	4. issues a sequentially consistent fence, and only then acts on the
 *	   events.  Pairs with the full barrier in the kernel's wakeup callback:
 *	   either the callback sees the claim and posts a new entry, or the
 *	   consumer sees the readiness that the callback announced.
 *
 * Each event is delivered to exactly one consumer.  The alternative is an
 * ownership word in each slot.  It would spare producers the shared tail, but
 * ours already hold the ring's lock for the coalescing test, so that nothing is
 * saved there; it costs the consumer a compare-and-swap for each event where
 * one claim takes a batch, needs a writable mapping of the slots, and leaves no
 * single word from which "is this entry unclaimed?" and "is the ring empty?"
 * can be answered.  The benchmark ring_claim in lib/bench measures both: with one
 * consumer the head gave 1.3 to 1.5 times the events a second in batches of 8 and
 * 64, and the same one at a time.
 *
 * What user space writes into head hurts only its own queue: the kernel takes
 * a head that does not lie between the last one it believed and the tail for
 * that last one.
 *
 * DOC: Overflow
 *
 * An event that finds the ring full waits on the ring's pending list inside the
 * kernel: no allocation, no loss, no disarming.  @pending counts those, and
 * timers and user events that gathered more while their last event is
 * unclaimed.  They move into the ring before anything later is posted, and in
 * every KEVENT_IOC_GETEVENTS.  A consumer of the mapped ring that has emptied
 * it and reads @pending != 0 calls KEVENT_IOC_GETEVENTS.
 *
 * DOC: Wakeups that do not say what happened
 *
 * Some files wake their waiters without a key (inotify, signalfd, mqueue, older
 * pidfds, state changes of sockets).  An edge source on such a file is polled
 * again in the next KEVENT_IOC_GETEVENTS: for a socket, of any process; for
 * other files, of the process that registered it for as long as that lives, for
 * their answer can depend on who asks.  @need_enter counts the sources that wait
 * for this; a consumer of the mapped ring that reads it non-zero makes the ioctl
 * (in another process, not each time).  An edge source that has EPOLLPRI or
 * EPOLLRDBAND in its mask goes this way too when those bits are announced:
 * sockets announce them with all that arrives.
 *
 * DOC: Requests, and which way they go
 *
 * KEVENT_OP_SUBMIT starts an operation on a file; exactly one event tells its
 * end: @result is the byte count, 0 or -errno, as pread(2), pwrite(2), preadv(2),
 * pwritev(2), fsync(2) and fdatasync(2) would return it, and @flags say which way
 * it went.  What is wrong with the entry itself (a field, the descriptor, the
 * address of the iovec array, a buffer of which nothing is mapped, a limit) is the
 * entry's own @result, and then there is no event.
 *
 * Requests run in any order, unless they are linked.  Submission does not wait
 * for a device, for a peer or for a lock of the file system's:
 *
 * file                            way
 * regular file or block device,   KEVENT_EV_DIRECT: handed to the device during
 *   O_DIRECT                      submission, its interrupt completes it; if the
 *                                 file system cannot start it without waiting (it
 *                                 must allocate, say), a worker hands it over
 * the same without O_DIRECT,      KEVENT_EV_INLINE: all of it was in the page cache
 *   read                          and was copied during submission; else a worker
 *                                 reads the rest.  So does one that must set the
 *                                 file's time of last access (with relatime, the
 *                                 first after a change or a day), and with O_DIRECT
 *                                 too.  Where the file system has no
 *                                 nonblocking read (tmpfs, NFS, FUSE): always a
 *                                 worker
 * the same, write; fsync,         KEVENT_EV_WORKER: a worker on the node of the home
 *   fdatasync of a file that        ring
 *   has them
 * fsync, fdatasync of others      KEVENT_EV_INLINE: EINVAL; not in a chain (EOPNOTSUPP)
 * socket, pipe, tty, eventfd      KEVENT_EV_INLINE if it can be done at once; else
 *   (reads), other files that     the file's wait queue has the request, no thread
 *   can be polled                 does, and a worker makes the transfer
 *                                 (KEVENT_EV_WAITED).  As read(2) and write(2) of a
 *                                 nonblocking descriptor, it may transfer less than
 *                                 asked; at most 4096 bytes in one write to a
 *                                 blocking descriptor of a file that has no
 *                                 nonblocking write of its own (pipes before
 *                                 Linux 6.4, ttys).  What poll never announces is
 *                                 not done while it would block
 * proc, sysfs, cgroup and other   KEVENT_EV_INLINE, in the caller as pread(2) would,
 *   files without a device        fsync too: what they say may depend on who asks; not
 *                                 in a chain (EOPNOTSUPP).  So do character devices
 *                                 that cannot be polled, but for /dev/null and its
 *                                 like (a worker); and, without waiting (-EAGAIN),
 *                                 sockets of other families than unix, IPv4, IPv6,
 *                                 vsock and packet
 * others (epoll, a queue; files   EOPNOTSUPP
 *   without an iterator-based read
 *   or write, so writes to eventfd)
 *
 * A worker runs with the (subjective) credentials, the memory cgroup and the block
 * cgroup of the submitter, and with its own nice and CPU cgroup; a peer that asks who sent
 * (SO_PASSCRED) sees a kernel thread for a write that waited.  RLIMIT_FSIZE is looked at during
 * submission: EFBIG or a shorter write, no signal.  A write that nobody can read
 * any more ends with EPIPE and, if it ends during submission, SIGPIPE for the submitter,
 * as write(2) does.  Where a request does not complete during submission, the pages of its
 * buffer are pinned, and its address space is not looked at again: unmapping or forking
 * is safe, and what is then mapped at that address is not touched.
 *
 * Each request counts against the limit of its ring (module parameter
 * max_ring_requests) and, with its pages (two, or as many as it pins), against that
 * of the user who opened the queue (max_user_held; a sixteenth of memory): EAGAIN,
 * and nothing was done.  A request is counted until its event is in the ring; a ring
 * keeps up to 64 units of the user's limit in advance.  Workers are counted for each
 * user, and for each file system of each user, so that one that hangs does not hold
 * up others.
 *
 * DOC: Registered buffers
 *
 * KEVENT_IOC_BUFFERS pins memory once for many requests and gives it a number.  A
 * READ or WRITE with that number as @buffer finds its memory there, at the same
 * addresses as in the process that registered it, whoever submits it and whatever
 * has become of the mapping: whoever has the queue may read and write what is
 * registered.  A buffer stays pinned until its number is given to another, or to
 * none, and the last request that uses it has ended; at the latest until the queue
 * is gone.  Its pages count as locked memory, as those of the rings do.
 *
 * DOC: Links
 *
 * A SUBMIT entry with KEVENT_LINK is followed in the same array by one that is
 * started only when this has succeeded: a transfer in full, the rest with 0 or
 * more.  Otherwise all that follow in the chain complete with -ECANCELED.  An
 * entry of a chain whose @result is an error ends the chain before it, and the
 * rest of the chain gets ECANCELED as @result, without an event.
 *
 * DOC: Cancelling, closing, exiting
 *
 * KEVENT_OP_CANCEL stops what has not begun, what waits for readiness or its turn
 * in a chain, and what sleeps interruptibly in a worker; not what a device has.
 * Closing a descriptor of the queue, with close(2), exec or exit, cancels
 * the requests that were submitted through the closing table of descriptors (that
 * of a process, shared by its threads), waits for those that cannot be cancelled,
 * and leaves their events in the ring.  So after wait(2) for a process none of its
 * requests reads or writes a buffer or a file any more; that can take as long as a
 * device takes.  What others submitted to the same queue goes on.
 *
 * DOC: Lifetime
 *
 * A queue lives as long as a descriptor or a mapping of it.  Nothing in it is
 * tied to one address space: it can be inherited and passed over a unix socket;
 * mappings are not inherited.  Ids carry a generation and are never reused
 * within a queue.  A watched file stays open while it is watched.  When no
 * reference but this module's is left, the file's sources are dropped within
 * about two seconds, each with one event that carries KEVENT_EV_CLOSED.  From then
 * on REMOVE says ENOENT: that event is in the ring or waits for room (@pending).
 * KEVENT_OP_REMOVE with KEVENT_CLOSE_FD does both at once.
 *
 * Once KEVENT_OP_REMOVE has returned, no further event of the source will be
 * posted.  Its result says whether an entry that is not yet claimed remains in
 * the ring.  What the cookie points to may be freed when that entry has been
 * consumed and every consumer has since come back to collect.
 *
 * DOC: errno, one meaning each
 *
 * EACCES      (mmap) the kernel's areas can only be read, and nothing executed
 * EAGAIN      a trigger that must not merge found an event outstanding; a
 *             request found no room under the limits of the queue or the user
 * EALREADY    the request cannot be cancelled any more: its event tells its end
 * EBADF       the descriptor is not open; (KEVENT_CLOSE_FD) it does not name
 *             the watched file; (request) it is not open for that, or the
 *             queue's own descriptor was closed meanwhile
 * EBADFD      the queue has not been set up (ioctls and mmap; poll says EPOLLERR)
 * EBUSY       the queue has been set up already
 * E2BIG       an argument is longer than this kernel knows and not zero there
 * ECANCELED   (request) an earlier one of the chain failed
 * EFAULT      user memory could not be read or written; (request) it does not lie
 *             in the registered buffer
 * EFBIG       (write) it would begin past RLIMIT_FSIZE
 * EINTR       a signal came before any event
 * EINVAL      a field is out of its range, an unknown flag is set, or a field
 *             that the operation does not use is not zero
 * EISDIR      (request) to read a directory
 * ELOOP       the file is this queue, or a queue that watches this one, directly
 *             or through others, of which at most 4096 sources are followed
 * ENODEV      a node has no memory for a ring, or the caller's cpuset forbids it
 * ENOENT      the queue has no source, or no request in flight, of that id
 * ENOMEM      no memory, or the user's limit of locked memory is reached
 * ENOSPC      the limit of sources for the user or for the watched file, which
 *             counts requests of a chain that wait for it too
 * ENOTTY      no such ioctl
 * EOPNOTSUPP  the kind of source does not know the operation; (request) the file
 *             or this kernel does not
 * EOVERFLOW   a user event's sum would pass the largest 64-bit integer
 * EPERM       the file does not support polling
 * ESPIPE      (request) the file has no positions, and the offset is not 0
 */
#ifndef _UAPI_LINUX_KEVENT_H
#define _UAPI_LINUX_KEVENT_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KEVENT_DEVICE "/dev/kevent"

/* Limits of the interface; the header of a ring gives the actual numbers. */
#define KEVENT_MAX_RINGS 64
#define KEVENT_MAX_ENTRIES 32768
#define KEVENT_MAX_CHANGES 65536
#define KEVENT_MAX_BUFFERS 16384
#define KEVENT_MAX_NODES 1024

/* Values for a ring field beside an index. */
#define KEVENT_RING_ANY 0xffffffffU   /* collect: from all rings */
#define KEVENT_RING_LOCAL 0xfffffffeU /* the ring of the calling CPU's node */

/* kinds of source, and (from 16) of request */
#define KEVENT_KIND_FILE 1
#define KEVENT_KIND_TIMER 2
#define KEVENT_KIND_USER 3
#define KEVENT_KIND_NOP 16
#define KEVENT_KIND_READ 17
#define KEVENT_KIND_WRITE 18
#define KEVENT_KIND_READV 19
#define KEVENT_KIND_WRITEV 20
#define KEVENT_KIND_FSYNC 21
#define KEVENT_KIND_FDATASYNC 22

/* ukevent.flags */
#define KEVENT_EV_LEVEL 0x0001	  /* found by a sweep; never in the ring */
#define KEVENT_EV_CLOSED 0x0002	  /* the file was closed; the source is gone */
#define KEVENT_EV_DISABLED 0x0004 /* the source is oneshot and now disabled */
#define KEVENT_EV_INLINE 0x0008	  /* request: done during submission */
#define KEVENT_EV_DIRECT 0x0010	  /* request: completed by the device */
#define KEVENT_EV_WORKER 0x0020	  /* request: a worker did it or began it */
#define KEVENT_EV_WAITED 0x0040	  /* request: waited for the file's readiness */

/**
 * struct ukevent - one event
 * @cookie: what the caller gave with the source or request
 * @id:     of the source or request
 * @events: file: EPOLL bits.  Others: 0
 * @kind:   KEVENT_KIND_*
 * @flags:  KEVENT_EV_*
 * @result: timer: expirations since the last event.  User event: the sum, or
 *          the latest value.  Request: its result, -errno on failure.
 *          File: 0
 *
 * The same 32 bytes for 32-bit and 64-bit programs.
 */
struct ukevent {
	__aligned_u64 cookie;
	__aligned_u64 id;
	__u32 events;
	__u16 kind;
	__u16 flags;
	__s64 __attribute__((aligned(8))) result;
};

#define KEVENT_MAGIC 0x3154564bU /* "KVT1" */
#define KEVENT_COMPAT 0U	 /* features that an old reader may ignore */
#define KEVENT_INCOMPAT 0U	 /* features that it must know */

/**
 * struct kevent_ring - start of a ring's read-only area
 * @magic:        KEVENT_MAGIC
 * @header_len:   bytes of this struct that the kernel fills
 * @compat:       feature bits that a reader may ignore
 * @incompat:     feature bits; a reader that does not know one must not go on
 * @index:        of this ring in its queue
 * @nr_rings:     rings of the queue
 * @node:         NUMA node of the ring's memory
 * @entries:      slots, a power of two
 * @slots_offset: bytes from here to slot 0
 * @tail:         position after the newest event
 * @pending:      events that wait in the kernel for room or for their turn
 * @hint:         level sources that may be ready.  Once the wakeup that makes
 *                one ready has returned, 0 is not read until a sweep that polled
 *                after it marked the source found it unready
 * @need_enter:   sources that must be polled again by an ioctl
 * @sources:      sources whose home is this ring
 * @requests:     requests in flight whose home is this ring
 * @ring_of_node: the ring nearest to each NUMA node
 *
 * Mapped from offset KEVENT_MMAP_RINGS + index * kevent_setup.ring_bytes,
 * PROT_READ and MAP_SHARED, of a descriptor opened O_RDWR.  The kernel alone writes it.
 */
struct kevent_ring {
	/* constant */
	__u32 magic;
	__u32 header_len;
	__u32 compat;
	__u32 incompat;
	__u32 index;
	__u32 nr_rings;
	__u32 node;
	__u32 entries;
	__u32 slots_offset;
	__u32 pad0[7];

	/* written by producers, under the ring's lock */
	__aligned_u64 tail;
	__u32 pending;
	__u32 hint;
	__u32 need_enter;
	__u32 pad1[11];

	/* written by changes, under the ring's lock */
	__u32 sources;
	__u32 requests;
	__u32 pad2[14];

	__u32 pad3[208];
	__u8 ring_of_node[KEVENT_MAX_NODES];
};

/**
 * struct kevent_claim - the page of a ring that consumers write
 * @head: position of the oldest unclaimed event
 *
 * Mapped from offset KEVENT_MMAP_CLAIMS + index * kevent_setup.claim_bytes,
 * MAP_SHARED.
 */
struct kevent_claim {
	__aligned_u64 head;
	__u32 pad[14];
};

#define KEVENT_MMAP_RINGS 0
#define KEVENT_MMAP_CLAIMS 0x40000000

/**
 * struct kevent_setup - argument of KEVENT_IOC_SETUP and KEVENT_IOC_INFO
 * @size:        sizeof(struct kevent_setup)
 * @flags:       0
 * @nr_rings:    rings; 0 for one on each node that has CPUs and memory and lies
 *               within the caller's cpuset (KEVENT_MAX_DEFAULT_RINGS at the
 *               most).  Returned: the number made
 * @entries:     slots of each ring, a power of two up to KEVENT_MAX_ENTRIES; 0
 *               for as many as let all rings together fit into 64 KiB, 64 at
 *               the least.
 *               Returned: the number made
 * @nodes:       address of @nr_rings __u32, each the node of a ring; 0 to go
 *               round the default nodes.  Other nodes may be named than the
 *               default ones, and a node several times.  EINVAL: a number that
 *               is no node of this machine
 * @ring_bytes:  returned: bytes from one ring's read-only area to the next
 * @claim_bytes: returned: bytes from one ring's claim page to the next
 * @compat:      returned: as in struct kevent_ring
 * @incompat:    returned: as in struct kevent_ring
 *
 * Fields that are only returned are not read.
 *
 * Memory is allocated on the nodes named and nowhere else, charged to the memory
 * cgroup and to the locked memory of the user who opened the queue: within the
 * caller's RLIMIT_MEMLOCK, unless the opener had CAP_IPC_LOCK.
 *
 * SETUP: EBADF never; EBUSY, EINVAL, ENODEV, ENOMEM, EFAULT, E2BIG.
 * INFO fills the same struct for a queue that is set up (@nodes stays as it is):
 * EBADFD, EINVAL, EFAULT, E2BIG.
 */
struct kevent_setup {
	__u32 size;
	__u32 flags;
	__u32 nr_rings;
	__u32 entries;
	__aligned_u64 nodes;
	__u32 ring_bytes;
	__u32 claim_bytes;
	__u32 compat;
	__u32 incompat;
};

#define KEVENT_MAX_DEFAULT_RINGS 8

/* kevent_change.op */
#define KEVENT_OP_ADD 1	    /* a source */
#define KEVENT_OP_MODIFY 2  /* everything but kind, file, clock and home ring */
#define KEVENT_OP_REMOVE 3  /* result: KEVENT_UNCLAIMED or 0 */
#define KEVENT_OP_ENABLE 4  /* and report at once what is ready now */
#define KEVENT_OP_DISABLE 5 /* no further events until enabled */
#define KEVENT_OP_TRIGGER 6 /* a user event */
#define KEVENT_OP_ACK 7	    /* a level timer or level user event */
#define KEVENT_OP_SUBMIT 8  /* a request */
#define KEVENT_OP_CANCEL 9  /* requests, by id or by file */

/* kevent_change.flags */
#define KEVENT_ONESHOT 0x0001  /* ADD, MODIFY */
#define KEVENT_LEVEL 0x0002    /* ADD, MODIFY; not with KEVENT_ONESHOT */
#define KEVENT_DISABLED 0x0004 /* ADD, MODIFY: wait for ENABLE */
#define KEVENT_LATEST 0x0008   /* ADD, MODIFY of a user event: latest wins */
#define KEVENT_ABSTIME 0x0010  /* ADD, MODIFY of a timer: @value is a time */
#define KEVENT_CLOSE_FD 0x0020 /* REMOVE: then close @fd, as close(2) does */
#define KEVENT_NOMERGE 0x0040  /* TRIGGER: EAGAIN rather than merge */
#define KEVENT_LINK 0x0080     /* SUBMIT: the next entry waits for this one */
#define KEVENT_CANCEL_FILE 0x0100 /* CANCEL: all of the file that @fd names */

/* kevent_change.result of KEVENT_OP_REMOVE: an unclaimed entry is in the ring */
#define KEVENT_UNCLAIMED 1

/**
 * struct kevent_change - one change; fields that its row does not name are 0
 * @id:     of the source; returned by ADD and SUBMIT, 0 on their entry
 * @result: returned: 0 or more, or -errno.  Not read
 * @op:     KEVENT_OP_*
 * @kind:   ADD, SUBMIT: KEVENT_KIND_*.  MODIFY: the same as at ADD
 * @cookie: ADD, MODIFY, SUBMIT: returned in every event
 * @flags:  see above
 * @ring:   ADD, SUBMIT: home ring, an index or KEVENT_RING_LOCAL
 * @fd:     file: ADD: the descriptor to watch.  Timer: ADD: CLOCK_MONOTONIC,
 *          CLOCK_BOOTTIME or CLOCK_REALTIME.  REMOVE with KEVENT_CLOSE_FD: the
 *          descriptor to close, which must name the watched file and not this
 *          queue.  SUBMIT of all but nop: the descriptor to work on, which may be
 *          closed afterwards.  CANCEL with KEVENT_CANCEL_FILE: a descriptor of
 *          that file
 * @events: file: ADD, MODIFY: EPOLL bits, one at least of EPOLLIN, EPOLLPRI,
 *          EPOLLOUT, EPOLLRDNORM, EPOLLRDBAND, EPOLLWRNORM, EPOLLWRBAND,
 *          EPOLLMSG, EPOLLRDHUP, EPOLLERR, EPOLLHUP; the last two are always
 *          reported, named or not
 * @len:    READ, WRITE: bytes; READV, WRITEV: entries of the array, up to 1024.
 *          More than 2 GiB less a page are transferred in part, as by pread(2)
 * @value:  timer: ADD, MODIFY: first expiry in nanoseconds from now (from ENABLE
 *          where the source is disabled), or a time with KEVENT_ABSTIME; 0
 *          relative: after @period.  User event: TRIGGER: the value, 0 to
 *          INT64_MAX.  SUBMIT of a nop: the result to report
 * @addr:   READ, WRITE: address of the buffer; READV, WRITEV: of an array of
 *          struct iovec in the caller's layout, which is read during submission
 * @period: timer: ADD, MODIFY: nanoseconds between expiries, 0 for one expiry.
 *          A period under the module parameter timer_floor_ns becomes that
 * @offset: READ, WRITE, READV, WRITEV: position in the file, whose own is not
 *          used or moved; 0 for files that have none
 * @rw_flags: the same: RWF_DSYNC, RWF_SYNC and RWF_APPEND, as for pwritev2(2)
 * @buffer: READ, WRITE: number of the registered buffer that @addr lies in; 0: none
 *
 * ADD, MODIFY and ENABLE of a file report at once what is ready at that moment.
 * MODIFY enables unless KEVENT_DISABLED is set, and drops what was gathered and
 * not yet posted; an entry that is unclaimed then keeps its old cookie and bits.
 * ENABLE of an enabled source starts a timer anew.  ENABLE of a oneshot source
 * whose event is unclaimed and says all that is ready adds nothing: that event is
 * the one shot, and the source is disabled again.  A user event
 * that is triggered while it is disabled reports that when it is enabled, and so
 * does a timer or user event that was disabled before all was posted.  An entry
 * that is in the ring already is not taken back by anything, DISABLE included.
 *
 * A timer that expired and was not collected counts on, and looks for its event
 * being claimed at growing intervals, of 10 ms at the most or its period.  The
 * periodic timers of a user expire, in the long run, no more often together than the
 * module parameter max_user_expirations says, where an interrupt counts as three;
 * above that all timers of the user may be late, and none loses a count.  A
 * level timer or user event is ready from its expiry or trigger until ACK, which
 * takes what was gathered so far; each sweep reports the sum.
 *
 * ADD: EINVAL, EBADF, EPERM, ELOOP, ENOSPC, ENOMEM.
 * MODIFY: EINVAL, ENOENT.  REMOVE: EINVAL, ENOENT, EBADF.
 * ENABLE, DISABLE: EINVAL, ENOENT.  ACK: also EOPNOTSUPP.
 * TRIGGER: EINVAL, ENOENT, EOPNOTSUPP, EAGAIN, EOVERFLOW.
 * SUBMIT: EINVAL, EAGAIN, ENOMEM, EBADF, EFAULT, EFBIG, EISDIR, ESPIPE,
 * EOPNOTSUPP, ECANCELED.
 * CANCEL by id: 0: in time, its event says -ECANCELED, or how many bytes were read
 * during submission already; EALREADY: too late, though one
 * that sleeps interruptibly in a worker was told to stop; ENOENT.  By file: how
 * many were in time; EBADF.
 */
struct kevent_change {
	__aligned_u64 id;
	__s32 result;
	__u16 op;
	__u16 kind;
	__aligned_u64 cookie;
	__u32 flags;
	__u32 ring;
	__s32 fd;
	union {
		__u32 events;
		__u32 len;
	};
	union {
		__aligned_u64 value;
		__aligned_u64 addr;
	};
	union {
		__aligned_u64 period;
		__aligned_u64 offset;
	};
	__u32 rw_flags;
	__u32 buffer;
};

/**
 * struct kevent_changes - argument of KEVENT_IOC_CHANGE
 * @size:    sizeof(struct kevent_changes)
 * @flags:   0
 * @changes: address of @nr struct kevent_change; aligned to 8
 * @nr:      up to KEVENT_MAX_CHANGES
 * @done:    returned: entries whose @result was written
 *
 * Every entry is tried, in order, whatever became of those before it, and gets
 * its own @result (with @id, which is what a program that wants it back needs).
 * Returns @done.  An entry that cannot be read or written ends the call, and so
 * does a fatal signal; it is an error of the call, EFAULT or EINTR, only if it
 * is the first.  An ADD whose answer could not be written is undone; a SUBMIT is
 * not, and its event comes.
 *
 * EBADFD, EINVAL, EFAULT, EINTR, E2BIG.
 */
struct kevent_changes {
	__u32 size;
	__u32 flags;
	__aligned_u64 changes;
	__u32 nr;
	__u32 done;
};

/**
 * struct kevent_trigger - argument of KEVENT_IOC_TRIGGER
 * @size:  sizeof(struct kevent_trigger)
 * @flags: KEVENT_NOMERGE or 0
 * @id:    of a user event
 * @value: 0 to INT64_MAX
 *
 * What KEVENT_OP_TRIGGER does, for one event and with less to copy.  Returns 0.
 *
 * EBADFD, EINVAL, EFAULT, ENOENT, EOPNOTSUPP, EAGAIN, EOVERFLOW, E2BIG.
 */
struct kevent_trigger {
	__u32 size;
	__u32 flags;
	__aligned_u64 id;
	__aligned_u64 value;
};

/**
 * struct kevent_buffer - memory to be registered
 * @addr: of the first byte; memory that can be written and pinned for long
 * @len:  bytes, up to 1 GiB; 0: the number names nothing any more
 */
struct kevent_buffer {
	__aligned_u64 addr;
	__aligned_u64 len;
};

/**
 * struct kevent_buffers - argument of KEVENT_IOC_BUFFERS
 * @size:    sizeof(struct kevent_buffers)
 * @flags:   0
 * @buffers: address of @nr struct kevent_buffer; aligned to 8
 * @first:   number of the first of them, from 1 on; what had the number before is let go
 * @nr:      so many numbers, up to KEVENT_MAX_BUFFERS
 * @done:    returned: how many were given
 * @pad:     0
 *
 * Returns @done.  A buffer that cannot be registered ends the call; it is an error of
 * the call only if it is the first.
 *
 * EBADFD, EINVAL, EFAULT, EINTR, ENOMEM, E2BIG.
 */
struct kevent_buffers {
	__u32 size;
	__u32 flags;
	__aligned_u64 buffers;
	__u32 first;
	__u32 nr;
	__u32 done;
	__u32 pad;
};

/* kevent_get.flags */
#define KEVENT_GET_MAPPED 0x0001  /* leave the rings to the mapped path */
#define KEVENT_GET_ABSTIME 0x0002 /* @timeout is a time on CLOCK_MONOTONIC */

/**
 * struct kevent_get - argument of KEVENT_IOC_GETEVENTS
 * @size:         sizeof(struct kevent_get)
 * @flags:        KEVENT_GET_*
 * @ring:         an index, KEVENT_RING_LOCAL or KEVENT_RING_ANY
 * @min:          events to wait for; 0: do not wait.  Up to @max; with
 *                KEVENT_GET_MAPPED, up to the entries of a ring
 * @max:          room in @events (more than INT_MAX counts as that); 0 with
 *                KEVENT_GET_MAPPED: wait only
 * @nr:           returned: events stored
 * @events:       address of @max struct ukevent; aligned to 8
 * @timeout:      nanoseconds; 0: do not wait; -1: no limit
 * @min_wait:     nanoseconds that the call waits for @min events; after that,
 *                one is enough.  0: it waits for @min until @timeout.  Up to
 *                INT64_MAX
 * @sigmask:      address of the signal mask during the wait, as for
 *                epoll_pwait(2); 0: none
 * @sigsetsize:   bytes of that mask: 8; 0 where @sigmask is 0
 * @nr_changes:   changes to make first
 * @changes:      as in struct kevent_changes, but that an entry which ends the
 *                array early is an error of the call wherever it is
 * @changes_done: returned: as kevent_changes.done
 * @pad:          0
 *
 * Makes the changes, polls again what must be, moves pending events into the
 * ring, sweeps the level sources, collects from the ring (not with
 * KEVENT_GET_MAPPED), and waits while there are fewer than @min.  With
 * KEVENT_GET_MAPPED the unclaimed events of the ring count towards @min, the
 * head word tells how far the caller has seen, and only level events are
 * stored.  Ring and level events share the room: each gets half of it when both
 * have more.  A call that stored a level event does not sleep: the source would
 * only be found again.
 *
 * Returns the number stored: less than @min when the time is over, or a signal
 * came after some.  0 with KEVENT_GET_MAPPED does not say that the ring is
 * empty.  When storing faults, the events that were not stored are there for
 * the next call.  @nr and @changes_done are returned with errors too.
 *
 * One event wakes one waiter: the one that waits longest among those whose @min
 * is met, of those who wait for this ring or, if there is none, for any.  A waiter
 * that leaves without collecting passes the wakeup on.  A
 * waiter that was passed over KEVENT_PASSES times because its @min is larger has
 * the ring to itself for up to KEVENT_TURN_NS nanoseconds: no other waiter of
 * the ring is woken by less than that @min.  The bits of a file merge while they
 * are unclaimed: a @min above what the sources can have outstanding is never met.
 *
 * EBADFD, EINVAL, EFAULT, EINTR, E2BIG.
 */
struct kevent_get {
	__u32 size;
	__u32 flags;
	__u32 ring;
	__u32 min;
	__u32 max;
	__u32 nr;
	__aligned_u64 events;
	__s64 __attribute__((aligned(8))) timeout;
	__aligned_u64 min_wait;
	__aligned_u64 sigmask;
	__u32 sigsetsize;
	__u32 nr_changes;
	__aligned_u64 changes;
	__u32 changes_done;
	__u32 pad;
};

#define KEVENT_PASSES 16
#define KEVENT_TURN_NS 2000000

/*
 * The numbers carry no size: each argument starts with its own, and may grow.
 * A shorter argument than this header's is EINVAL; a longer one is accepted
 * where the kernel does not know the rest if that is zero, else E2BIG.
 */
#define KEVENT_IOC_MAGIC 0xE5
/* struct kevent_setup: make the rings of a queue; once */
#define KEVENT_IOC_SETUP _IO(KEVENT_IOC_MAGIC, 0)
/* struct kevent_setup: the geometry of a queue that is set up */
#define KEVENT_IOC_INFO _IO(KEVENT_IOC_MAGIC, 1)
/* struct kevent_changes: make them */
#define KEVENT_IOC_CHANGE _IO(KEVENT_IOC_MAGIC, 2)
/* struct kevent_get: changes, then collection */
#define KEVENT_IOC_GETEVENTS _IO(KEVENT_IOC_MAGIC, 3)
/* struct kevent_buffers: register memory for requests */
#define KEVENT_IOC_BUFFERS _IO(KEVENT_IOC_MAGIC, 4)
/* struct kevent_trigger: trigger one user event */
#define KEVENT_IOC_TRIGGER _IO(KEVENT_IOC_MAGIC, 5)

#ifndef __KERNEL__

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/**
 * kevent_open - open a queue with the default rings
 *
 * Returns a descriptor (close-on-exec), or -1 with errno.
 */
static inline int kevent_open(void)
{
	struct kevent_setup setup;
	int fd = open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC);

	memset(&setup, 0, sizeof(setup));
	setup.size = sizeof(setup);
	if (fd >= 0 && ioctl(fd, KEVENT_IOC_SETUP, &setup) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

#ifdef __cplusplus /* where it hides the constructor of the struct */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
/**
 * kevent_change - make one change
 *
 * Returns change->result, or -1 with errno; an error of the change itself is
 * put into errno too.
 */
static inline int kevent_change(int fd, struct kevent_change *change)
{
	struct kevent_changes arg;

	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg);
	arg.changes = (uintptr_t)change;
	arg.nr = 1;
	if (ioctl(fd, KEVENT_IOC_CHANGE, &arg) < 0)
		return -1;
	if (change->result < 0) {
		errno = -change->result;
		return -1;
	}
	return change->result;
}
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

/**
 * kevent_getevents - collect from all rings and all level sources
 * @fd:         a queue
 * @events:     room for @max_events
 * @min_events: wait for so many; 0: do not wait
 * @max_events: room
 * @timeout:    relative; NULL: no limit
 *
 * For programs that map nothing.  Returns the number of events, fewer than
 * @min_events after the timeout or a signal, or -1 with errno as for
 * KEVENT_IOC_GETEVENTS; a @timeout with negative or too large parts is EINVAL,
 * one of more than 292 years is no limit.
 */
static inline int kevent_getevents(int fd, struct ukevent *events,
				   unsigned int min_events,
				   unsigned int max_events,
				   const struct timespec *timeout)
{
	struct kevent_get arg;

	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg);
	arg.ring = KEVENT_RING_ANY;
	arg.min = min_events;
	arg.max = max_events;
	arg.events = (uintptr_t)events;
	arg.timeout = -1;
	if (timeout) {
		int64_t sec = timeout->tv_sec;

		if (sec < 0 || timeout->tv_nsec < 0 ||
		    timeout->tv_nsec >= 1000000000) {
			errno = EINVAL;
			return -1;
		}
		if (sec < INT64_MAX / 1000000000)
			arg.timeout = sec * 1000000000 + timeout->tv_nsec;
	}
	return ioctl(fd, KEVENT_IOC_GETEVENTS, &arg);
}

/**
 * struct kevent_map - a queue's rings, mapped
 * @setup:  the geometry
 * @rings:  read-only areas
 * @claims: claim pages
 */
struct kevent_map {
	struct kevent_setup setup;
	const char *rings;
	char *claims;
};

/**
 * kevent_map_rings - map all rings of a queue
 *
 * Returns 0, or -1 with errno; ENOTSUP for a ring with an unknown incompat bit.
 * The mapping is not inherited over fork(2) and keeps the queue alive.
 */
static inline int kevent_map_rings(int fd, struct kevent_map *map)
{
	struct kevent_setup *s = &map->setup;
	void *rings, *claims;

	memset(map, 0, sizeof(*map));
	s->size = sizeof(*s);
	if (ioctl(fd, KEVENT_IOC_INFO, s) < 0)
		return -1;
	if (s->incompat & ~KEVENT_INCOMPAT) {
		errno = ENOTSUP;
		return -1;
	}
	rings = mmap(NULL, (size_t)s->nr_rings * s->ring_bytes, PROT_READ,
		     MAP_SHARED, fd, KEVENT_MMAP_RINGS);
	if (rings == MAP_FAILED)
		return -1;
	claims = mmap(NULL, (size_t)s->nr_rings * s->claim_bytes,
		      PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      KEVENT_MMAP_CLAIMS);
	if (claims == MAP_FAILED) {
		int error = errno;

		munmap(rings, (size_t)s->nr_rings * s->ring_bytes);
		errno = error;
		return -1;
	}
	map->rings = (const char *)rings;
	map->claims = (char *)claims;
	return 0;
}

/** kevent_unmap_rings - undo kevent_map_rings() */
static inline void kevent_unmap_rings(struct kevent_map *map)
{
	munmap((void *)(uintptr_t)map->rings,
	       (size_t)map->setup.nr_rings * map->setup.ring_bytes);
	munmap(map->claims, (size_t)map->setup.nr_rings * map->setup.claim_bytes);
}

/** kevent_ring_at - the mapped header of ring @index */
static inline const struct kevent_ring *
kevent_ring_at(const struct kevent_map *map, unsigned int index)
{
	return (const struct kevent_ring *)(map->rings +
					    (size_t)index * map->setup.ring_bytes);
}

/**
 * struct kevent_view - one thread's view of a mapped ring
 * @ring:  its header
 * @claim: its head word
 * @slots: its slots
 * @mask:  entries - 1
 * @head:  the head word, as far as this thread knows
 */
struct kevent_view {
	const struct kevent_ring *ring;
	struct kevent_claim *claim;
	const struct ukevent *slots;
	__u64 mask;
	__u64 head;
};

/** kevent_view_of - a view of ring @index, for as long as @map is */
static inline struct kevent_view kevent_view_of(const struct kevent_map *map,
						unsigned int index)
{
	struct kevent_view view;

	view.ring = kevent_ring_at(map, index);
	view.claim = (struct kevent_claim *)
		(map->claims + (size_t)index * map->setup.claim_bytes);
	view.slots = (const struct ukevent *)
		((const char *)view.ring + view.ring->slots_offset);
	view.mask = view.ring->entries - 1;
	view.head = __atomic_load_n(&view.claim->head, __ATOMIC_ACQUIRE);
	return view;
}

/**
 * kevent_view_peek - look at unclaimed events in place
 *
 * Returns how many events lie at *@events, up to the last slot of the ring; 0 when
 * it is empty.  They are ours once kevent_view_claim() says so: read what is needed of
 * them first, and forget it if that says otherwise.  Act on readiness only after the
 * claim, or the file's next news may merge with what was claimed too late.
 */
static inline unsigned int kevent_view_peek(struct kevent_view *view,
					    const struct ukevent **events)
{
	__u64 n = __atomic_load_n(&view->ring->tail, __ATOMIC_ACQUIRE) - view->head;
	__u64 run = view->mask + 1 - (view->head & view->mask);

	/* A head that others have moved shows as too many; then the claim fails. */
	if (n > run)
		n = run;
	*events = &view->slots[view->head & view->mask];
	return (unsigned int)n;
}

/**
 * kevent_view_claim - take the first @n events that kevent_view_peek() showed
 *
 * Returns 1, or 0 if another consumer took some of them.
 */
static inline int kevent_view_claim(struct kevent_view *view, unsigned int n)
{
	if (!__atomic_compare_exchange_n(&view->claim->head, &view->head,
					 view->head + n, 0, __ATOMIC_RELEASE,
					 __ATOMIC_ACQUIRE))
		return 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	view->head += n;
	return 1;
}

/* Half an event; a slot that is overwritten meanwhile fails the claim. */
typedef __u64 kevent_half __attribute__((vector_size(16), aligned(8), may_alias));

/**
 * kevent_ring_collect - take events from a mapped ring, without a system call
 *
 * Any number of threads and processes may do so at once.  Returns how many were
 * stored in @events, 0 when the ring is empty: then look at pending, need_enter
 * and hint, and call KEVENT_IOC_GETEVENTS with KEVENT_GET_MAPPED.
 */
static inline unsigned int kevent_ring_collect(const struct kevent_map *map,
					       unsigned int index,
					       struct ukevent *events,
					       unsigned int max)
{
	const struct kevent_ring *ring = kevent_ring_at(map, index);
	struct kevent_claim *claim = (struct kevent_claim *)
		(map->claims + (size_t)index * map->setup.claim_bytes);
	const char *slots = (const char *)ring + ring->slots_offset;
	const __u64 bytes = (__u64)ring->entries * sizeof(struct ukevent);
	__u64 head = __atomic_load_n(&claim->head, __ATOMIC_ACQUIRE);
	__u64 n, i, at;

	do {
		n = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) - head;
		/* head and tail are two words: a stale head shows as too many */
		if (n > ring->entries)
			n = ring->entries;
		if (n > max)
			n = max;
		if (!n)
			return 0;
		at = head * sizeof(struct ukevent);
		for (i = 0; i < n; i++, at += sizeof(struct ukevent)) {
			const volatile kevent_half *slot = (const kevent_half *)
				(slots + (size_t)(at & (bytes - 1)));
			kevent_half *to = (kevent_half *)&events[i];

			to[0] = slot[0];
			to[1] = slot[1];
		}
	} while (!__atomic_compare_exchange_n(&claim->head, &head, head + n, 0,
					      __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (unsigned int)n;
}

#endif /* !__KERNEL__ */
#endif /* _UAPI_LINUX_KEVENT_H */
