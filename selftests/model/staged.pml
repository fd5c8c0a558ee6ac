/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a submission has done in the caller is staged, and its events are posted
 * together.  Mirrors kev_submission_post() in request.c and those who call it.
 *
 * An array of three entries: two are done at once; the one between them is done in
 * the caller too and may wait there, for somebody who waits for the event of the first.
 * The array may end early at any entry, with a fault.  Another thread cancels what it
 * finds in flight.
 *
 * Holds: the ioctl returns, and then the event of each entry that was answered is
 * posted, once and in order, and nothing is in flight.
 *
 * Breakages: STAGED_BEHIND_WAIT, LEFT_AT_END, LEFT_AT_FAULT, POSTED_TWICE (what was
 * posted stays staged), CANCEL_TAKES_STAGED (a cancel in time posts the event, too).
 */
#define ENTRIES 3
#define WAITS 1

bit L;
byte staged, first;		/* entries first .. staged - 1 are done and not posted */
byte answered, posted;
bool inflight[ENTRIES], cancelled[ENTRIES];
bool returned, acted;

inline post_one(n)
{
	assert(inflight[n] && posted == n);
	inflight[n] = false;
	posted++
}

inline post_staged()
{
	atomic {
		!L ->
		n = first;
		do
		:: n < staged -> post_one(n); n++
		:: else -> break
		od;
#ifndef POSTED_TWICE
		first = staged;
#endif
		n = 0
	}
}

proctype submitter()
{
	byte k, n;
	bool faults;

	do
	:: k < ENTRIES ->
		if
		:: faults = true; break		/* the next entry cannot be read */
		:: true
		fi;
		atomic { !L -> inflight[k] = true };
		if
		:: k == WAITS ->
#ifndef STAGED_BEHIND_WAIT
			post_staged();
#endif
			acted
		:: else
		fi;
		atomic { k++; staged = k; answered = k }
	:: else -> break
	od;
	if
#ifdef LEFT_AT_FAULT
	:: faults
#endif
#ifdef LEFT_AT_END
	:: !faults
#endif
	:: else -> post_staged()
	fi;
	returned = true
}

/* It waits for the first event, and then does what the second entry waits for. */
proctype consumer()
{
end_waits:
	posted;
	acted = true
}

proctype canceller()
{
	byte k;

	for (k : 0 .. ENTRIES - 1) {
		atomic {
			!L ->
			if
			:: inflight[k] ->
				cancelled[k] = true;
#ifdef CANCEL_TAKES_STAGED
				if
				:: staged > k -> post_one(k)
				:: else
				fi
#endif
			:: else
			fi
		}
	}
}

init
{
	byte k;

	atomic {
		run submitter();
		run consumer();
		run canceller()
	}
	timeout;
	assert(returned && posted == answered);
	for (k : 0 .. ENTRIES - 1) {
		assert(!inflight[k])
	}
}
