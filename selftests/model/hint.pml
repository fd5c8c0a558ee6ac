/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Level sources: the ready list, the sweep and the hint.  Mirrors "level" and
 * @hint in uapi/linux/kevent.h; in the kernel the wakeup callback of a level
 * source, the sweep in getevents, and what getevents sleeps on.
 *
 * A source may be listed, and may be in the hands of sweeps that poll it (busy).
 * It is counted in the hint while either is so.  A sweep unlists it, polls
 * without the lock (a poll may take long), and then looks again.
 *
 * No store buffers: the waker's store and the sweep's poll are both ordered by
 * the lock.  A callback that is before the pop has stored before the poll; one
 * that is after it finds the source unlisted.  (A callback that looks at
 * "listed" without the lock would need a full barrier on both sides.)
 *
 * Consumer 0 may be killed in its sleep, or stay in user space for good with
 * what a sweep reported to it.  Anyone who is told reads the file empty or does
 * not, as long as somebody who comes back does.  With ALL_READ everyone does, and
 * then there is no cycle either.
 *
 * Holds: from the moment that a wakeup has marked the source until a poll that
 * came after finds it unready, the hint is not zero.  When nothing moves any
 * more, no source is ready unless its report lies with consumer 0, nobody
 * sleeps beside the list, and the hint is zero if the list is empty.
 *
 * Breakages: UNLIST_AFTER_POLL, COUNT_DOWN_AT_UNLIST, NO_BUSY (the first sweep
 * that finds it unready counts down), RELIST_NO_WAKE, MARK_NO_WAKE, NO_PASS_ON,
 * RELIST_LOST (a ready source is not put back), NEVER_COUNT_DOWN, ENABLE_FORGETS
 * (to count down if it was the last to poll).
 */
#ifndef S
#define S 1
#endif
#ifndef C
#define C 2
#endif
#ifndef WAKES
#define WAKES 2
#endif
#define E 1
#include "common.pml"

chan list = [S] of { byte };
bool listed[S], counted[S], ready[S];
byte busy[S];
byte hint;
bool owed[S];			/* a mark that no poll has answered */

#define LIVE 0
#define KILLED 1
#define STAYS 2
byte fate;

#define HINT_HOLDS(s) assert(!owed[s] || hint)

inline put_back(s)
{
	listed[s] = true;
	list!s
}

inline mark(s)
{
	if
	:: !listed[s] -> put_back(s)
	:: else
	fi;
	if
	:: !counted[s] -> counted[s] = true; hint++
	:: else
	fi;
	owed[s] = true;
	HINT_HOLDS(s);
#ifndef MARK_NO_WAKE
	wake_one()
#endif
}

proctype waker()
{
	byte s, k;

	do
	:: k < WAKES ->
		atomic { select(s : 0 .. S - 1); ready[s] = true };
		atomic {
			!L ->
			mark(s);
			s = 0;
			k++
		}
	:: else -> break
	od
}

/* Somebody else reads a file empty now and then. */
proctype reader()
{
	byte k;

	for (k : 0 .. 1) {
		ready[0] = false
	}
}

inline poll_and_look_again(s)
{
	atomic {
		found = ready[s];
		if
		:: !found -> owed[s] = false
		:: else
		fi
	}
	atomic {
		!L ->
		busy[s]--;
#ifdef UNLIST_AFTER_POLL
		listed[s] = false;
#endif
		if
		:: found && !listed[s] ->
#ifndef RELIST_LOST
			put_back(s);
#endif
#ifndef RELIST_NO_WAKE
			wake_one()
#endif
		:: found && listed[s]
#ifdef NO_BUSY
		:: !found && !listed[s] && counted[s] ->
#elif defined(NEVER_COUNT_DOWN)
		:: !found && !listed[s] && false ->
#else
		:: !found && !listed[s] && !busy[s] && counted[s] ->
#endif
			counted[s] = false;
			hint--
		:: else
		fi;
		HINT_HOLDS(s)
	}
}

/* ADD, MODIFY and ENABLE poll without the lock too, and may be the last to. */
proctype enabler()
{
	bool found;

	atomic { !L -> busy[0]++ }
	atomic {
		found = ready[0];
		owed[0] = owed[0] && found
	}
	atomic {
		!L ->
		busy[0]--;
		if
		:: found -> mark(0)
#ifndef ENABLE_FORGETS
		:: !found && !listed[0] && !busy[0] && counted[0] ->
			counted[0] = false;
			hint--
#endif
		:: else
		fi;
		HINT_HOLDS(0)
	}
}

proctype consumer(byte me)
{
	byte s;
	bool found;

getevents:
	atomic {
		!L ->
		if
		:: len(list) ->
			list?s;
#ifndef UNLIST_AFTER_POLL
			listed[s] = false;
#endif
			busy[s]++;
#ifdef COUNT_DOWN_AT_UNLIST
			counted[s] = false;
			hint--;
#endif
			HINT_HOLDS(s)
		:: else ->
			waiters!me;
			goto end_asleep
		fi
	}
	poll_and_look_again(s);
	if
	:: !found -> goto getevents
	:: found && me == 0 && fate == STAYS -> goto gone
	:: found && me == 0 && fate != LIVE -> goto getevents
	:: found -> atomic { ready[s] = false; s = 0; found = false };
		goto getevents
	fi;

end_asleep:
	if
	:: atomic { woken[me] -> woken[me] = false }; goto getevents
	:: me == 0 && fate == KILLED
	fi;
	atomic {
		!L ->
		if
		:: woken[me] ->
			woken[me] = false;
#ifndef NO_PASS_ON
			if
			:: len(list) -> wake_one()
			:: else
			fi
#endif
		:: else -> waiters??eval(me)
		fi
	}
gone:
	skip
}

init
{
	byte k;

	atomic {
#ifndef ALL_READ
		select(fate : LIVE .. STAYS);
#endif
		run waker();
		run waker();
		run reader();
		run enabler();
		for (k : 0 .. C - 1) {
			run consumer(k)
		}
		k = 0
	}
	timeout;
	assert(!len(list) && !hint);
	for (k : 0 .. S - 1) {
		assert(!ready[k] && !counted[k] && !busy[k])
	}
}
