/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Level sources: the ready list, the sweep and the hint.  Mirrors "level" and
 * @hint in uapi/linux/kevent.h; in the kernel the wakeup callback of a level
 * source, the sweep in getevents, and what getevents sleeps on.
 *
 * A source may be listed, and may be in the hands of sweeps that poll it (busy).
 * It is counted in the hint while either is so.  A sweep takes it and polls
 * without the lock (a poll may take long), and then looks again.  Meanwhile it
 * stays on the list, at its end; with SLEEPY it leaves the list.  A mark that
 * comes after it was taken is remembered (again): who found it unready then
 * leaves it on the list.
 *
 * No store buffers: the waker's store and the sweep's poll are both ordered by
 * the lock.  A callback that is before the taking has stored before the poll; one
 * that is after it marks the source again.  (See sweep.litmus in ../litmus.)
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
 * Breakages: AGAIN_IGNORED, AGAIN_CLEARED_LATE (after the poll), READY_NOT_AGAIN
 * (found ready, and what others found earlier counts), UNLIST_AFTER_POLL,
 * COUNT_DOWN_AT_TAKE, NO_BUSY (the first sweep that finds it unready counts down),
 * FOUND_NO_WAKE, MARK_NO_WAKE, NO_PASS_ON, RELIST_LOST (a ready source is not put
 * back; with SLEEPY), NEVER_COUNT_DOWN, ENABLE_FORGETS (to count down if it was
 * the last to poll).
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
bool listed[S], counted[S], ready[S], again[S];
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

inline list_and_count(s)
{
	again[s] = true;
	if
	:: !listed[s] -> put_back(s)
	:: else
	fi;
	if
	:: !counted[s] -> counted[s] = true; hint++
	:: else
	fi
}

inline mark(s)
{
	list_and_count(s);
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

inline count_down(s)
{
	if
#ifdef NO_BUSY
	:: !listed[s] && counted[s] ->
#elif defined(NEVER_COUNT_DOWN)
	:: !listed[s] && false ->
#else
	:: !listed[s] && !busy[s] && counted[s] ->
#endif
		counted[s] = false;
		hint--
	:: else
	fi
}

inline found_ready(s)
{
	if
#ifdef RELIST_LOST
	:: !listed[s]
#endif
#ifdef READY_NOT_AGAIN
	:: listed[s]
#endif
	:: else -> list_and_count(s)
	fi;
#ifndef FOUND_NO_WAKE
	wake_one()
#endif
}

inline found_unready(s)
{
	if
#ifdef AGAIN_IGNORED
	:: listed[s] ->
#else
	:: listed[s] && !again[s] ->
#endif
		list??eval(s);
		listed[s] = false
	:: else
	fi;
	count_down(s)
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
#ifdef AGAIN_CLEARED_LATE
		again[s] = false;
#endif
#ifdef UNLIST_AFTER_POLL
		if
		:: listed[s] -> list??eval(s); listed[s] = false
		:: else
		fi;
#endif
		if
		:: found -> found_ready(s)
		:: else -> found_unready(s)
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
#ifdef SLEEPY
			listed[s] = false;
#else
			list!s;
#endif
			again[s] = false;
			busy[s]++;
#ifdef COUNT_DOWN_AT_TAKE
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
