/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests that wait for a file, and the chain behind one.  Mirrors "Requests, and
 * which way they go" in uapi/linux/kevent.h and the banners of request.c and work.c:
 * the wakeup callback of a request, what a worker does with it, cancelling, and the
 * close of the queue by its submitter.
 *
 * Request 0 waits for readiness; request 1 is linked to it.  There are two workers,
 * and a queue of what they are to do.  One that ends request 0 goes on with request 1
 * itself, and keeps the memory of request 0 until then, for the workqueue knows by
 * its address what the worker is busy with.
 *
 * The file's wakeups may be false.  The canceller cancels either request, at any
 * time.  The closer marks the submitter closed, cancels what it finds, and waits
 * until nothing is in flight; a submission that sees the mark ends with an error.
 *
 * Holds: each request is performed by one worker at a time and never after its close;
 * its event is posted exactly once; what follows is performed only if what came
 * before succeeded; the memory goes once, and nobody looks at it then.  When nothing
 * moves any more, nothing is in flight unless the file never was ready.
 *
 * Breakages: WOKEN_IGNORED (by who gives the request back to the wait queue),
 * WOKEN_CLEARED_LATE (after the poll), CANCEL_IGNORED (the same), KEEPS_STATE (of a
 * waiting request that is queued), INTERRUPT_NO_REFERENCE, NEXT_REGARDLESS (of how it
 * ended), UNLISTED_EARLY (before the operation is over), NOT_KEPT, FREED_ONCE_DONE
 * (what was kept, whether its event is posted or not), OWNER_LATE (the submission
 * looks at the mark, and then says whose the request is), CLOSE_UNMARKED,
 * EXPEDITED_TWICE (a queued request that is cancelled).  With NO_CLOSE nobody closes
 * the queue, so that what the file did not wake is not ended by that.
 */
#define SUBMIT 0
#define LINKED 1
#define WAITING 2
#define QUEUED 3
#define RUNNING 4

bit L;				/* the ring's lock; each step under it is one */
byte state[2], refs[2], posted[2];
bool inflight[2], cancelled[2], woken[2], named[2], freed[2];
bool succeeds[2];
byte performing[2];
byte kept[2];
chan work = [2] of { byte };
bool ready, closed, all_closed;

#define ALIVE(r) assert(!freed[r])

inline queue_work(r)
{
	assert(!(work??[eval(r)]));
#ifndef KEEPS_STATE
	state[r] = QUEUED;
#endif
	work!r
}

inline free_memory(r)
{
	assert(!freed[r]);
	freed[r] = true
}

/* The event is in the ring. */
inline post(r)
{
	assert(!posted[r]);
	posted[r] = 1;
	inflight[r] = false;
	if
	:: kept[r] == 2 -> kept[r] = 1
	:: kept[r] == 1 -> kept[r] = 0; free_memory(r)
	:: else -> free_memory(r)
	fi
}

/* The last who looks at it finishes it; what is next goes to @heir, or is queued. */
inline put(r, heir)
{
	ALIVE(r);
	refs[r]--;
	if
	:: !refs[r] ->
		post(r);
		if
		:: r == 0 ->
#ifndef NEXT_REGARDLESS
			cancelled[1] = cancelled[1] || !succeeds[0];
#endif
			if
			:: heir -> goes_on = true
			:: else -> queue_work(1)
			fi
		:: else
		fi
	:: else
	fi
}

inline cancel_one(r)
{
	cancelled[r] = true;
	if
	:: state[r] == WAITING -> queue_work(r)
#ifdef EXPEDITED_TWICE
	:: state[r] == QUEUED -> work!r
#endif
	:: state[r] == RUNNING ->
#ifndef INTERRUPT_NO_REFERENCE
		refs[r]++;
#endif
		interrupts = true
	:: else
	fi
}

/* The file becomes ready, and somebody else may take what was there. */
proctype file()
{
	atomic {
		if
		:: ready = true
		:: true
		fi
	}
	atomic {
		if
		:: state[0] == WAITING && inflight[0] -> queue_work(0)
		:: else -> woken[0] = true
		fi
	}
	atomic { ready = true };
	atomic {
		if
		:: state[0] == WAITING && inflight[0] -> queue_work(0)
		:: else -> woken[0] = true
		fi
	}
}

proctype submitter()
{
	bool goes_on, marked;

	atomic { state[0] = SUBMIT; state[1] = LINKED; inflight[0] = true;
		 inflight[1] = true; refs[0] = 1; refs[1] = 1 }
#ifdef OWNER_LATE
	marked = closed;
	atomic { named[0] = true; named[1] = true };
#else
	atomic { named[0] = true; named[1] = true };
	marked = closed;
#endif
	/* Hooked; what is ready is not waited for. */
	atomic {
		if
		:: marked -> cancelled[0] = true; queue_work(0)
		:: !marked && (woken[0] || cancelled[0]) -> queue_work(0)
		:: else -> state[0] = WAITING
		fi
	}
}

inline begin_and_count()
{
	ALIVE(r);
	assert(!keeps || !freed[0]);
	state[r] = RUNNING;
#ifndef WOKEN_CLEARED_LATE
	woken[r] = false;
#endif
	refs[r]++;
	go = !cancelled[r];
	goes_on = false
}

proctype worker()
{
	byte r;
	bool go, found, goes_on, keeps;

end_idle:
	atomic { work?r -> begin_and_count() };
performs:
	if
	:: go ->
		atomic {
			ALIVE(r);
			performing[r]++;
			assert(performing[r] == 1 && !posted[r]);
			assert(!all_closed);
			assert(r == 0 || succeeds[0]);
#ifdef UNLISTED_EARLY
			inflight[r] = false;
#endif
			found = (r == 1 || ready)
		}
		atomic { ALIVE(r); assert(!all_closed); performing[r]-- };
		if
		:: found -> succeeds[r] = true
		:: else ->
			atomic {	/* back to the wait queue */
#ifdef WOKEN_CLEARED_LATE
				woken[r] = false;
#endif
				if
#ifndef CANCEL_IGNORED
				:: cancelled[r] -> go = false
#endif
#ifndef WOKEN_IGNORED
				:: !cancelled[r] && woken[r] -> queue_work(r)
#endif
				:: else -> state[r] = WAITING
				fi
			};
			if
			:: go -> goto lets_go
			:: else
			fi
		fi
	:: else
	fi;
	atomic {
#ifndef NOT_KEPT
		if
		:: r == 0 -> kept[0] = 2
		:: else
		fi;
#endif
		keeps = keeps || r == 0;
		put(r, true)
	}
lets_go:
	atomic { put(r, true) };
	atomic {
		if
		:: goes_on && r == 0 ->
			r = 1;
			begin_and_count();
			goto performs
		:: else
		fi;
		/* the first one's memory may go */
		if
#ifdef FREED_ONCE_DONE
		:: keeps -> kept[0] = 0; free_memory(0)
#elif !defined(NOT_KEPT)
		:: keeps && kept[0] == 2 -> kept[0] = 1
		:: keeps && kept[0] == 1 -> kept[0] = 0; free_memory(0)
#endif
		:: else
		fi;
		r = 0; go = false; found = false; goes_on = false; keeps = false
	}
	goto end_idle
}

/* Without the lock, and the request may be over. */
inline interrupt(r)
{
	if
	:: interrupts ->
		atomic { ALIVE(r); interrupts = false };
#ifndef INTERRUPT_NO_REFERENCE
		atomic { put(r, false) }
#endif
	:: else
	fi
}

proctype canceller()
{
	byte r;
	bool interrupts, goes_on;

	if
	:: r = 0
	:: r = 1
	:: goto gone
	fi;
	atomic {
		if
		:: inflight[r] -> cancel_one(r)
		:: else
		fi
	};
	interrupt(r);
gone:
	skip
}

#define HIS(r) (inflight[r] && named[r])

proctype closer()
{
	byte r;
	bool interrupts, goes_on;

#ifndef CLOSE_UNMARKED
	closed = true;
#endif
	do
	:: r < 2 ->
		atomic {
			if
			:: HIS(r) && !cancelled[r] -> cancel_one(r)
			:: else
			fi
		};
		interrupt(r);
		r++
	:: else -> break
	od;
	atomic { !HIS(0) && !HIS(1) -> all_closed = true }
}

init
{
	atomic {
		run file();
		run submitter();
		run worker();
		run worker();
		run canceller();
#ifndef NO_CLOSE
		run closer()
#endif
	}
	timeout;
	assert(posted[0] && posted[1] && freed[0] && freed[1]);
	assert(!inflight[0] && !inflight[1] && !refs[0] && !refs[1])
}
