/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sources with values: a user event that adds up, or a timer's expirations.
 * Mirrors "edge" and "Overflow" in uapi/linux/kevent.h; in the kernel the
 * trigger (or the timer's callback), the posting of values, and the draining of
 * what waits, by later posts and by getevents.
 *
 * A value lives in exactly one place: in kernel memory (sum), in an unclaimed
 * slot, or with the consumer that claimed the slot.  While the source's entry is
 * unclaimed the source gathers: it is on the merging list.  Once the entry is
 * claimed it competes for room.  The mapped word pending counts both lists.
 *
 * Another source's events compete for the slots.  Consumer 0's process may be
 * killed, but in this model only after it has added up what it claimed.
 *
 * With POLLING no consumer sleeps: each makes the ioctl only when it reads an
 * empty ring and pending != 0.
 *
 * Holds: when nothing moves any more, what was delivered is what was triggered,
 * and nothing waits anywhere; an empty ring with pending != 0 can always be
 * drained.
 *
 * Breakages: MERGE_DROPPED, MERGE_IN_PLACE (adds to the unclaimed slot),
 * MERGING_NOT_DRAINED (by getevents), MERGING_NOT_COUNTED (in pending),
 * CLAIM_TEST_IN_DRAIN_MISSING (posts although the last entry is unclaimed),
 * PASS_ON_RING_ONLY, POST_KEEPS_SUM.
 */
#ifndef E
#define E 1
#endif
#ifndef C
#define C 2
#endif
#include "common.pml"

#define LAST (C - 1)
#define V 0			/* the source with values */
#define OTHER 1			/* the other source; its events carry 0 */
#define TRIGGERED (1 + 2 + 4)

byte slot_source[E], slot_value[E];
byte sum;			/* gathered and not yet posted */
byte pos = START;		/* V's newest entry */
bool posted;			/* there has been one */
bool merging, waits;		/* V's list: none or one of the two */
bit others, other_waits;	/* events of the other source delivered */
byte delivered;
bool killed_some;
byte threads = LAST;

#ifdef MERGING_NOT_COUNTED
#define PENDING (waits + other_waits)
#else
#define PENDING (waits + other_waits + merging)
#endif
#define OUTSTANDING(h) (posted && UNCLAIMED(pos, h))

inline put(s, v)
{
	slot_source[tail % E] = s;
	slot_value[tail % E] = v;
	tail++
}

inline put_sum(h)
{
	assert(!OUTSTANDING(h));
	pos = tail;
	posted = true;
	put(V, sum);
#ifndef POST_KEEPS_SUM
	sum = 0
#endif
}

inline drain(h)
{
	if
#ifdef CLAIM_TEST_IN_DRAIN_MISSING
	:: merging && !FULL(h) -> merging = false; put_sum(h)
#else
	:: merging && !OUTSTANDING(h) -> merging = false; waits = true
#endif
	:: else
	fi;
	if
	:: other_waits && !FULL(h) -> other_waits = 0; put(OTHER, 0)
	:: else
	fi;
	if
	:: waits && !FULL(h) -> waits = false; put_sum(h)
	:: else
	fi
}

inline trigger(v, h)
{
	drain(h);
	if
#ifdef MERGE_IN_PLACE
	:: OUTSTANDING(h) -> slot_value[pos % E] = slot_value[pos % E] + v
#elif defined(MERGE_DROPPED)
	:: OUTSTANDING(h)
#endif
	:: else ->
		sum = sum + v;
		if
		:: merging || waits
		:: else ->
			if
			:: OUTSTANDING(h) -> merging = true
			:: else ->
				if
				:: FULL(h) || other_waits -> waits = true
				:: else -> put_sum(h)
				fi
			fi
		fi
	fi;
	wake_one()
}

proctype triggers(byte v; byte w)
{
	byte h;

	do
	:: v ->
		lock_and_load(h);
		d_step { trigger(v, h); v = w; w = 0; h = 0; L = 0 }
	:: else -> break
	od
}

proctype other()
{
	byte h;

	lock_and_load(h);
	d_step {
		drain(h);
		if
		:: FULL(h) || waits -> other_waits = 1
		:: else -> put(OTHER, 0)
		fi;
		wake_one();
		h = 0;
		L = 0
	}
}

#ifdef PASS_ON_RING_ONLY
#define ANYTHING(h) (tail != h)
#else
#define ANYTHING(h) (tail != h || PENDING)
#endif

proctype consumer(byte me)
{
	byte h, s, v;

user:
end_polling:
	if
	:: atomic {
		head != tail ->
		h = head;
		s = slot_source[h % E];
		v = slot_value[h % E]
	   };
		d_step {
			if
			:: head == h ->		/* compare-and-swap */
				head++;
				delivered = delivered + v;
				others = others + s
			:: else
			fi;
			h = 0; s = 0; v = 0
		}
		goto user
#ifdef POLLING
	:: head == tail && PENDING
#else
	:: head == tail
	:: me != LAST && killed_some -> goto killed
#endif
	fi;

getevents:
	lock_and_load(h);
	atomic {
#ifndef MERGING_NOT_DRAINED
		drain(h);
		assert(tail != h || !PENDING);
#endif
		if
		:: tail != h -> h = 0; L = 0; goto user
		:: else
		fi;
		h = 0;
#ifdef POLLING
		L = 0;
		goto user
	}
#else
		waiters!me;
		L = 0
	}
end_asleep:
	if
	:: atomic { woken[me] -> woken[me] = false }; goto getevents
	:: me != LAST && killed_some
	fi;
	lock_and_load(h);
	d_step {
		if
		:: woken[me] ->
			woken[me] = false;
			if
			:: ANYTHING(h) -> wake_one()
			:: else
			fi
		:: else -> waiters??eval(me)
		fi;
		h = 0;
		L = 0
	}
killed:
	atomic {
		threads--;
		if
		:: threads -> goto gone
		:: else
		fi
	}
	lock_and_load(h);
	d_step {
		if
		:: ANYTHING(h) -> wake_one()
		:: else
		fi;
		h = 0;
		L = 0
	}
gone:
	skip
#endif
}

init
{
	byte k;

	atomic {
		if
		:: killed_some = true
		:: true
		fi;
		run triggers(1, 2);
		run triggers(4, 0);
		run other();
		for (k : 0 .. C - 1) {
			run consumer(k)
		}
		k = 0
	}
	timeout;
	assert(delivered == TRIGGERED && others == 1);
	assert(head == tail && !merging && !waits && !other_waits && !sum)
}
