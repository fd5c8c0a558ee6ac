/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the models share: positions, the ring's lock, and waiters.
 *
 * A position is a byte.  64-bit positions never wrap in practice, bytes do, in
 * every run: START lies just below the wrap.  No model posts so many events
 * that two positions in use could be confused.
 *
 * A critical section is two steps: take the lock and load the head; then all
 * the rest.  Only user space moves the head meanwhile, and what user space can
 * see of the rest becomes visible at one point, the store of the tail (ring.pml
 * takes that store apart).
 */
#define START 254
#define DIST(a, b) (((a) - (b)) & 255)

bit L;				/* the ring's lock */
byte head = START;		/* written by user space */
byte tail = START;		/* written under L */

#ifdef WRAP_COMPARE
#define UNCLAIMED(p, h) ((p) >= (h) && (p) < tail)
#else
#define UNCLAIMED(p, h) (DIST(p, h) < DIST(tail, h))
#endif
#define FULL(h) (DIST(tail, h) >= E)

inline lock_and_load(h)
{
	atomic { !L -> L = 1; h = head }
}

/*
 * Waiters, first come first woken.  They are put into the queue under L, by
 * themselves, and taken out under L, by whoever wakes them.
 */
chan waiters = [C] of { byte };
bool woken[C];
byte first;

inline wake_one()
{
	if
	:: waiters?first -> woken[first] = true; first = 0
	:: empty(waiters)
	fi
}
