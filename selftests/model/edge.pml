/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Edge sources: coalescing, the pending list, sleeping and waking.  Mirrors
 * "The ring", "Overflow" and the last paragraph on KEVENT_IOC_GETEVENTS in
 * uapi/linux/kevent.h; in the kernel the wakeup callback, the function that
 * posts or coalesces, the one that drains the pending list, the waiting part of
 * getevents, and what the release of a descriptor does for the others.
 *
 * Store buffers.  A waker's store of readiness may stay in its buffer until a
 * full barrier, at the latest until it drops the lock.  A consumer's
 * compare-and-swap may stay in its buffer until the fence: meanwhile no other
 * can succeed, but the kernel still loads the old head.
 *
 * A consumer claims one event at a time and its load, copy and claim are one
 * step: a claim that succeeds proves that none of the three was disturbed
 * (ring.pml).  It acts on the bits that the event names and on no others.
 *
 * A consumer that is woken is off the list, and leaves without the lock.  What it
 * then reads without the lock only lets it go back to user space sooner, where it
 * may find nothing: that is a step of it here in any case.
 *
 * With LEAVES_AT_ONCE, which is no breakage, one that leaves for a signal takes
 * itself off the list and passes its wakeup on in one step: fewer states.
 *
 * The consumers but the last are threads of one process.  It may be killed: in
 * the ioctl or in user space, though not between a claim and acting on it, which
 * loses an event by design.  Or consumer 0 is interrupted in the ioctl and never
 * comes back.  Or it leaves in user space, as a thread that exits while its
 * process lives: nobody notices, but the next wakeup must reach another.
 *
 * Holds: when nothing moves any more, no source is ready, the ring is empty and
 * nothing is pending.  A source has no more entries than kinds of news.
 *
 * Breakages: NO_CALLBACK_BARRIER, NO_CONSUMER_FENCE, COALESCE_IGNORES_BITS,
 * SLOT_NO_UNION (the slot has the new bits only), POST_NO_UNION (the kernel's
 * memory has, too), WRAP_COMPARE, COALESCED_NO_WAKE, PENDING_NO_WAKE,
 * CHECK_THEN_WAIT_UNLOCKED, PENDING_NOT_DRAINED, NO_PASS_ON, NO_FLUSH_PASS_ON,
 * PASS_ON_RING_ONLY (with C=3).
 */
#ifndef E
#define E 1		/* slots */
#endif
#ifndef S
#define S 2		/* sources */
#endif
#ifndef C
#define C 2		/* consumers */
#endif
#ifndef WAKES
#define WAKES 2		/* of each of the two wakers */
#endif
#ifndef NEWS
#define NEWS 2		/* kinds of news */
#endif
#include "common.pml"

#define LAST (C - 1)
#define LIVE 0
#define KILLED 1
#define LEAVES 2
#define INTERRUPTED 3

byte slot_source[E], slot_bits[E];
byte ready[S];			/* what the file's poll would answer */
byte pos[S], bits[S];		/* the newest entry, in kernel memory */
byte more[S];			/* what waits on the pending list */
chan pending = [S] of { byte };
bit swapping;			/* a claim is in a consumer's store buffer */

byte fate;
byte threads = LAST;		/* of the process that may be killed */
bool left, woke_after;		/* a thread left; a wakeup came after that */

byte u, d, i, n;

inline put(s, b, h)
{
	n = 0;
	i = h;
	do
	:: i != tail ->
		n = n + (slot_source[i % E] == s -> 1 : 0);
		i = DIST(i + 1, 0)
	:: else -> break
	od;
	assert(n < NEWS);
	u = (UNCLAIMED(pos[s], h) -> bits[s] | b : b);
#ifdef POST_NO_UNION
	u = b;
#endif
	slot_source[tail % E] = s;
#ifdef SLOT_NO_UNION
	slot_bits[tail % E] = b;
#else
	slot_bits[tail % E] = u;
#endif
	bits[s] = u;
	pos[s] = tail;
	tail++;
	n = 0; i = 0; u = 0
}

inline drain(h)
{
	do
	:: len(pending) && !FULL(h) ->
		pending?d;
		put(d, more[d], h);
		more[d] = 0;
		d = 0
	:: else -> break
	od
}

#ifdef COALESCE_IGNORES_BITS
#define COVERED(s, b, h) (UNCLAIMED(pos[s], h) && bits[s])
#else
#define COVERED(s, b, h) (UNCLAIMED(pos[s], h) && (bits[s] & b) == b)
#endif

/* Posts, waits for room or coalesces; then wakes. */
inline news(s, b, h)
{
	drain(h);
	if
	:: more[s] ->
		more[s] = more[s] | b;
		wake_one()
	:: !more[s] && COVERED(s, b, h) ->
#ifndef COALESCED_NO_WAKE
		wake_one()
#else
		skip
#endif
	:: !more[s] && !COVERED(s, b, h) && (FULL(h) || len(pending)) ->
		more[s] = b;
		pending!s;
#ifndef PENDING_NO_WAKE
		wake_one()
#endif
	:: !more[s] && !COVERED(s, b, h) && !FULL(h) && !len(pending) ->
		put(s, b, h);
		wake_one()
	fi
}

proctype waker()
{
	byte s, b, h, k;
	bool buffered;

	do
	:: k < WAKES ->
		atomic {
			select(s : 0 .. S - 1);
			select(b : 1 .. NEWS);
			if
			:: ready[s] = ready[s] | b
			:: buffered = true
			fi
		}
		atomic {
			!L -> L = 1;
#ifndef NO_CALLBACK_BARRIER
			if
			:: buffered -> ready[s] = ready[s] | b; buffered = false
			:: else
			fi;
#endif
			h = head
		}
		d_step {
			news(s, b, h);
			woke_after = left;
			if
			:: buffered -> ready[s] = ready[s] | b
			:: else
			fi;
			buffered = false; s = 0; b = 0; h = 0;
			k++;
			L = 0
		}
	:: else -> break
	od
}

#ifdef PASS_ON_RING_ONLY
#define ANYTHING(h) (tail != h)
#else
#define ANYTHING(h) (tail != h || len(pending))
#endif

inline pass_on(h)
{
	if
	:: ANYTHING(h) -> wake_one()
	:: else
	fi
}

proctype consumer(byte me)
{
	byte h, s, b;

user:
	if
	:: atomic {
		head != tail && !swapping ->
		s = slot_source[head % E];
		b = slot_bits[head % E];
		swapping = 1
	   };
#ifdef NO_CONSUMER_FENCE
		if
		:: ready[s] = ready[s] & ~b
		:: true
		fi;
		d_step { head++; swapping = 0; s = 0; b = 0 }
#else
		d_step { head++; swapping = 0 };
		d_step { ready[s] = ready[s] & ~b; s = 0; b = 0 }
#endif
		goto user
	:: head == tail
	:: me != LAST && fate == KILLED -> goto killed
	:: me == 0 && fate == LEAVES -> left = true; goto gone
	fi;

getevents:
	lock_and_load(h);
	atomic {
#ifndef PENDING_NOT_DRAINED
		drain(h);
#endif
		if
		:: tail != h -> h = 0; L = 0; goto user
		:: else
		fi;
#ifdef CHECK_THEN_WAIT_UNLOCKED
		L = 0
	}
	atomic {
		!L ->
#endif
		waiters!me;
		h = 0;
		L = 0
	}
end_asleep:
	if
	:: atomic { woken[me] -> woken[me] = false }; goto getevents
	:: !woken[me] && me != LAST && fate == KILLED
	:: !woken[me] && me == 0 && fate == INTERRUPTED
	fi;

	/* a signal: this one collects nothing, but it may be woken before it has left */
#ifdef LEAVES_AT_ONCE
	lock_and_load(h);
	d_step {
		if
		:: woken[me] -> woken[me] = false; pass_on(h)
		:: else -> waiters??eval(me)
		fi;
		h = 0;
		L = 0
	}
#else
	lock_and_load(h);
	d_step {
		if
		:: waiters??[eval(me)] -> waiters??eval(me)
		:: else
		fi;
		h = 0;
		L = 0
	}
	if
	:: woken[me] ->
		woken[me] = false;
#ifndef NO_PASS_ON
		lock_and_load(h);
		d_step { pass_on(h); h = 0; L = 0 }
#endif
	:: else
	fi;
#endif
	if
	:: fate == INTERRUPTED -> goto gone
	:: else
	fi;
killed:
	/* the last thread of the process closes its descriptors */
	atomic {
		threads--;
		if
		:: threads -> goto gone
		:: else
		fi
	}
#ifndef NO_FLUSH_PASS_ON
	lock_and_load(h);
	d_step { pass_on(h); h = 0; L = 0 }
#endif
gone:
	skip
}

init
{
	byte k;

	atomic {
		for (k : 0 .. S - 1) {
			pos[k] = START
		}
		if
		:: fate = LIVE
		:: fate = KILLED
		:: fate = INTERRUPTED
		:: C == 2 -> fate = LEAVES
		fi;
		run waker();
		run waker();
		for (k : 0 .. C - 1) {
			run consumer(k)
		}
		k = 0
	}
	timeout;
	for (k : 0 .. S - 1) {
		assert(!ready[k] || (left && !woke_after))
	}
	assert((head == tail && !len(pending)) || (left && !woke_after))
}
