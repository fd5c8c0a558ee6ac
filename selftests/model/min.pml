/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Waiters for several events.  Mirrors the last paragraph on
 * KEVENT_IOC_GETEVENTS in uapi/linux/kevent.h; in the kernel whoever chooses a
 * waiter, the waiting itself, and the end of a turn.
 *
 * Consumers with a mapped ring wait for MIN of them; the last waits for one.
 * Whoever has his number claims one event or all.  A wakeup goes to the first
 * whose number is met; those it passes over have a turn then (after one pass, to
 * keep this small), in which nobody behind them is woken by less.  A turn ends
 * at any time.
 *
 * A level source that may be ready meets any number, and then a sweep finds it
 * unready.  Or somebody else claims first.  So a wakeup may come to one who must
 * sleep again: before he does, he passes it on.
 *
 * Consumer 0 may be interrupted and never come back.
 *
 * Holds: when nothing moves any more, no one sleeps whose number is there, and
 * no level source is listed.
 *
 * Breakages: SLEEPS_AGAIN (and does not pass on), TURN_LEAVES (interrupted in
 * his turn, passes nothing on), TURN_ENDS (and passes nothing on), NO_PASS_ON.
 */
#ifndef C
#define C 3
#endif
#ifndef MIN
#define MIN 2
#endif
#define E 4
#define EVENTS 3
#include "common.pml"

#define THERE DIST(tail, head)
#define NUMBER(c) ((c) == C - 1 -> 1 : MIN)
#define MET(c) (listed || THERE >= NUMBER(c))

bool listed;		/* a level source; no poll finds it ready */
bool turn[C], passed[C];
bool interrupt;
byte k, w, chosen;

/* Wakes the first whose number is met, unless someone before him has his turn. */
inline wake_by_number()
{
	k = len(waiters);
	chosen = C;
	do
	:: k > 0 ->
		waiters?w;
		if
		:: chosen == C && MET(w) -> chosen = w
		:: else ->
			if
			:: chosen == C && turn[w] -> chosen = C + 1
			:: else
			fi;
			passed[w] = (chosen == C);
			waiters!w
		fi;
		k--
	:: else -> break
	od;
	for (w : 0 .. C - 1) {
		turn[w] = turn[w] || (passed[w] && chosen < C);
		passed[w] = false
	}
	if
	:: chosen < C -> woken[chosen] = true
	:: else
	fi;
	w = 0;
	chosen = 0
}

proctype producer()
{
	byte n;

	do
	:: n < EVENTS -> atomic { !L -> tail++; n++; wake_by_number() }
	:: else -> break
	od
}

proctype marker()
{
	atomic { !L -> listed = true; wake_by_number() }
}

proctype consumer(byte me)
{
	bool given;	/* a wakeup, and nothing claimed since */

getevents:
	atomic {
		!L ->
		if
		:: listed -> listed = false; goto getevents
		:: !listed && MET(me) -> goto user
		:: else
		fi;
#ifndef SLEEPS_AGAIN
		if
		:: given -> wake_by_number()
		:: else
		fi;
#endif
		given = false;
		waiters!me
	}
end_asleep:
	if
	:: atomic { woken[me] -> woken[me] = false; turn[me] = false; given = true };
		goto getevents
	:: atomic {
		turn[me] && !woken[me] ->
		turn[me] = false;
#ifndef TURN_ENDS
		wake_by_number()
#endif
	   };
		goto end_asleep
	:: me == 0 && interrupt
	fi;
	atomic {
		!L ->
		given = woken[me];
#ifndef TURN_LEAVES
		given = given || turn[me];
#endif
		turn[me] = false;
		if
		:: woken[me] -> woken[me] = false
		:: else -> waiters??eval(me)
		fi;
#ifndef NO_PASS_ON
		if
		:: given -> wake_by_number()
		:: else
		fi
#endif
	}
	goto gone;

user:
	atomic {
		if
		:: THERE -> head++
		:: THERE -> head = tail
		:: !THERE
		fi;
		given = false
	}
	if
	:: THERE -> goto user
	:: !THERE -> goto getevents
	fi;
gone:
	skip
}

init
{
	byte c;

	atomic {
		if
		:: interrupt = true
		:: true
		fi;
		run producer();
		run marker();
		for (c : 0 .. C - 1) {
			run consumer(c)
		}
		c = 0
	}
	timeout;
	assert(!listed);
	for (c : 0 .. C - 1) {
		assert(!(waiters??[eval(c)]) || THERE < NUMBER(c))
	}
}
