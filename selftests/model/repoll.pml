/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Wakeups that do not say what happened.  Mirrors the section of that name and
 * @need_enter in uapi/linux/kevent.h; in the kernel the wakeup callback without
 * a key, and the part of getevents that polls again.
 *
 * One edge source.  Consumer 0 belongs to the process that registered it, the
 * others to another one, unless ANY_PROCESS (a socket).  A callback without a
 * key may be left out only if the unclaimed event has all subscribed bits:
 * whoever claims it reads everything.  Else it flags the source and wakes a
 * waiter that may poll it, wherever that one stands in the queue.  Getevents
 * clears the flag first, then polls without the lock, then posts what it found
 * as a wakeup does: the barrier before the head is loaded is in the posting.
 *
 * Flag and need_enter change under the lock.  That gives the full barrier that
 * clearing and polling need between them: a callback that still saw the flag has
 * stored its readiness before the clearing took the lock.  Without the lock, a
 * missing barrier there is REPOLL_CLEAR_AFTER_POLL.  See edge.pml for store
 * buffers.
 *
 * With ABSENT consumer 0 never comes.  Then nothing can be promised to the
 * source, but the others must be able to sleep.  With OWNER_ENDS it never comes
 * either, but its process ends: from then on anybody may poll the source.
 *
 * Holds: when nothing moves any more, everybody sleeps, no flag is set and the
 * file is not ready; need_enter says how many flags are set.  The state in which
 * nothing moves is always reached: there is no cycle.
 *
 * Breakages: REPOLL_CLEAR_AFTER_POLL, KEYLESS_SKIP_IF_ANY_UNCLAIMED,
 * REPOLL_WAKES_FIRST (in the queue), REPOLL_NO_WAKE, SLEEP_IGNORES_FLAG,
 * NO_CALLBACK_BARRIER, NO_CONSUMER_FENCE, AWAKE_FOR_FOREIGN (stays awake for a
 * flag that it may not serve; with ABSENT a cycle), WAKES_ENDED_OWNER (only),
 * OWNER_ENDS_SILENTLY.
 */
#ifndef C
#define C 2
#endif
#define E 4
#include "common.pml"

#define ALL 3			/* subscribed: two kinds of news */

byte slot[E];
byte ready;
byte pos = START, bits;
bool flagged;
byte need_enter;
bit swapping;
bool ended;			/* the process that registered the source */
byte u;

#ifdef ANY_PROCESS
#define MAY_POLL(c) (true)
#else
#define MAY_POLL(c) ((c) == 0 || ended)
#endif

#ifdef AWAKE_FOR_FOREIGN
#define TO_POLL(c) (flagged)
#else
#define TO_POLL(c) (flagged && MAY_POLL(c))
#endif

/* Wakes a waiter that may poll the source, if there is one. */
inline wake_a_poller()
{
#if defined(ANY_PROCESS) || defined(REPOLL_WAKES_FIRST)
	wake_one()
#else
	if
#ifndef WAKES_ENDED_OWNER
	:: ended -> wake_one()
#endif
	:: waiters??[0] -> waiters??0; woken[0] = true
	:: else
	fi
#endif
}

/* The flag that was that process's business becomes everybody's. */
proctype end_of_owner()
{
	atomic {
		!L ->
		ended = true;
#ifndef OWNER_ENDS_SILENTLY
		if
		:: flagged -> wake_one()
		:: else
		fi
#endif
	}
}

inline news(b, h)
{
	if
	:: UNCLAIMED(pos, h) && (bits & b) == b
	:: else ->
		assert(!FULL(h));
		u = (UNCLAIMED(pos, h) -> bits | b : b);
		slot[tail % E] = u;
		bits = u;
		pos = tail;
		tail++;
		u = 0
	fi;
	wake_one()
}

#ifdef KEYLESS_SKIP_IF_ANY_UNCLAIMED
#define COVERED(h) (UNCLAIMED(pos, h))
#else
#define COVERED(h) (UNCLAIMED(pos, h) && bits == ALL)
#endif

inline news_without_a_key(h)
{
	if
	:: COVERED(h) -> wake_one()
	:: else ->
		if
		:: !flagged -> flagged = true; need_enter++
		:: else
		fi;
#ifndef REPOLL_NO_WAKE
		wake_a_poller()
#endif
	fi
}

proctype waker(byte nr; bool has_key)
{
	byte b, h;
	bool buffered;

	do
	:: nr ->
		atomic {
			select(b : 1 .. ALL);
			if
			:: ready = ready | b
			:: buffered = true
			fi
		}
		atomic {
			!L -> L = 1;
#ifndef NO_CALLBACK_BARRIER
			if
			:: buffered -> ready = ready | b; buffered = false
			:: else
			fi;
#endif
			h = head
		}
		atomic {
			if
			:: has_key -> news(b, h)
			:: else -> news_without_a_key(h)
			fi;
			if
			:: buffered -> ready = ready | b
			:: else
			fi;
			buffered = false; b = 0; h = 0;
			nr--;
			L = 0
		}
	:: else -> break
	od
}

proctype consumer(byte me)
{
	byte h, b;

user:
	if
	:: atomic { head != tail && !swapping -> b = slot[head % E]; swapping = 1 };
#ifdef NO_CONSUMER_FENCE
		if
		:: ready = ready & ~b
		:: true
		fi;
		d_step { head++; swapping = 0; b = 0 };
#else
		d_step { head++; swapping = 0 };
		d_step { ready = ready & ~b; b = 0 };
#endif
		goto user
	:: head == tail
	fi;

getevents:
	atomic {
		!L ->
		if
		:: !(flagged && MAY_POLL(me)) -> goto look
		:: else
		fi;
#ifndef REPOLL_CLEAR_AFTER_POLL
		flagged = false;
		need_enter--
#endif
	}
	b = ready;
#ifdef REPOLL_CLEAR_AFTER_POLL
	atomic { !L -> need_enter = need_enter - flagged; flagged = false };
#endif
	lock_and_load(h);
	atomic {
		if
		:: b -> news(b, h)
		:: else
		fi;
		h = 0;
		b = 0;
		L = 0
	}
look:
	lock_and_load(h);
	atomic {
		if
		:: tail != h -> h = 0; L = 0; goto user
#ifndef SLEEP_IGNORES_FLAG
		:: tail == h && TO_POLL(me) -> h = 0; L = 0; goto getevents
#endif
		:: else
		fi;
		h = 0;
		waiters!me;
		L = 0
	}
end_asleep:
	if
	:: atomic { woken[me] -> woken[me] = false }; goto getevents
	fi;
}

init
{
	byte k;

	atomic {
		run waker(2, false);
		run waker(2, true);
#ifdef OWNER_ENDS
		run end_of_owner();
#elif !defined(ABSENT)
		run consumer(0);
#endif
		for (k : 1 .. C - 1) {
			run consumer(k)
		}
		k = 0
	}
	timeout;
	assert(head == tail && need_enter == flagged);
#ifndef ABSENT
	assert(!flagged && !ready);
#endif
}
