/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table of sources: ids, use outside the locks, removal.  Mirrors "ids" in
 * uapi/linux/kevent.h and "An item" in kev.h; in the kernel the table in change.c, what
 * uses a source outside the locks, REMOVE, and the scan that drops a source whose file
 * nobody else has.
 *
 * The table has pages behind a list of them, which is replaced by a longer one when it
 * is full.  A slot holds a source, or is free.  An id is a slot and a generation.  Who
 * wants a source finds it under the table's lock and takes its ring's lock before he
 * lets go of the table's.
 *
 * Memory is a few numbered pieces, used again at once when they are freed: then a
 * source is at hand where another one was.
 *
 * Holds: nobody looks at freed memory, of sources or of the list; what is found is what
 * was asked for, and not dead; each source is released once, by the last who has it.
 *
 * Breakages: RING_LOCK_LATE (the table's lock is let go of first), FOUND_UNLOCKED (the
 * list is followed without a lock), GROWN_UNLOCKED, NO_GENERATION, RELEASED_WHILE_BUSY,
 * LAST_FORGETS (the last user of a dead source does not release it), ERASED_LATE
 * (after it is dead and unlocked), SCAN_TAKES_BUSY.
 */
#define PIECES 2		/* of memory for sources */
#define NONE 255

bit T, R;			/* the table's lock, the ring's */

byte list;			/* which of the two lists */
bool gone[2];			/* lists that are freed */
byte slot = NONE;		/* the piece that is in it; one slot */
byte generation;

bool used[PIECES], dead[PIECES];
byte id[PIECES], busy[PIECES];
byte releases, adds;
byte wanted;			/* an id that was given out */

#define LOOK(p) assert(used[p])

inline release(p)
{
	LOOK(p);
	assert(dead[p] && !busy[p]);
	assert(slot != p);
	used[p] = false;
	id[p] = 0;
	releases++
}

inline add()
{
	if
	:: slot == NONE && !used[0] -> p = 0
	:: slot == NONE && !used[1] -> p = 1
	:: else -> p = NONE
	fi;
	if
	:: p != NONE ->
		used[p] = true;
		dead[p] = false;
		busy[p] = 0;
		generation++;
		id[p] = generation;
		wanted = generation;
		slot = p;
		adds++
	:: else
	fi;
	p = NONE
}

/* Adds a source twice; the first is removed by then, or not. */
proctype adder()
{
	byte p = NONE, n;

	do
	:: n < 2 -> atomic { !T && !R -> add(); n++ }
	:: else -> break
	od
}

/* The list is full: a longer one in its place. */
proctype grower()
{
#ifdef GROWN_UNLOCKED
	list = 1;
#else
	atomic { !T -> list = 1 };
#endif
	gone[0] = true
}

/* Sets @p to the source, with the ring's lock; or to NONE. */
inline find(asked)
{
	atomic {
#ifndef FOUND_UNLOCKED
		!T -> T = 1;
#endif
		l = list
	};
	atomic {
		assert(!gone[l]);
		p = slot;
		if
#ifndef NO_GENERATION
		:: p != NONE && id[p] != asked -> p = NONE
#endif
		:: else
		fi;
#ifdef RING_LOCK_LATE
		T = 0
#elif defined(FOUND_UNLOCKED)
		skip
#endif
	};
	if
	:: p != NONE ->
		atomic {
			!R -> R = 1;
			LOOK(p);
			assert(id[p] == asked);
			assert(!dead[p])
		}
	:: else
	fi;
#if !defined(RING_LOCK_LATE) && !defined(FOUND_UNLOCKED)
	T = 0
#endif
}

/* ENABLE, or a sweep, or who polls again: uses the source outside the locks. */
proctype user()
{
	byte p = NONE, l, asked;
	bool last;

	asked = wanted;
	find(asked);
	if
	:: p == NONE -> goto gone_already
	:: else -> atomic { busy[p]++; R = 0 }
	fi;
	LOOK(p);			/* polls it */
	assert(id[p] == asked);
	atomic {
		!R ->
		LOOK(p);
		busy[p]--;
#ifdef LAST_FORGETS
		last = false
#else
		last = !busy[p] && dead[p]
#endif
	}
	if
	:: last -> atomic { release(p) }
	:: else
	fi;
gone_already:
	skip
}

/* REMOVE, and the release of the queue. */
proctype remover()
{
	byte p = NONE, asked;
	bool last;

	asked = wanted;
	atomic {
		!T -> T = 1;
		p = slot;
		if
		:: p != NONE && id[p] != asked -> p = NONE
		:: else
		fi
	}
	if
	:: p == NONE -> T = 0; goto gone_already
	:: else
	fi;
#ifndef ERASED_LATE
	slot = NONE;
#endif
	atomic {
		!R ->
		LOOK(p);
		assert(!dead[p]);
		dead[p] = true;
#ifdef RELEASED_WHILE_BUSY
		last = true
#else
		last = !busy[p]
#endif
	}
#ifdef ERASED_LATE
	atomic { LOOK(p); slot = NONE };
#endif
	T = 0;
	if
	:: last -> atomic { release(p) }
	:: else
	fi;
gone_already:
	skip
}

/* Nobody else has the file any more.  It comes across the source by its file. */
proctype scan()
{
	byte p = NONE;

	atomic {
		!T && !R ->
		if
		:: slot != NONE -> p = slot
		:: else -> goto nothing
		fi;
		if
#ifdef SCAN_TAKES_BUSY
		:: !dead[p] ->
#else
		:: !dead[p] && !busy[p] ->
#endif
			dead[p] = true;
			slot = NONE
		:: else -> p = NONE
		fi
	}
	if
	:: p != NONE -> atomic { release(p) }
	:: else
	fi;
nothing:
	skip
}

init
{
	byte p = NONE;

	atomic {
		add();
		run adder();
		run grower();
		run user();
		run user();
		run remover();
		run scan()
	}
	timeout;
	/* ->release of the queue */
	atomic {
		if
		:: slot != NONE -> p = slot; slot = NONE; dead[p] = true; release(p)
		:: else
		fi
	}
	assert(releases == adds && !used[0] && !used[1] && !T && !R)
}
