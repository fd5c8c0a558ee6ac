/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ring alone: slots, tail, head; one producer (whoever holds the ring's
 * lock) and two consumers.  Mirrors "The ring, and why it has a head and a
 * tail" and kevent_ring_collect() in uapi/linux/kevent.h, and in the kernel the
 * function that writes a slot and publishes the tail.
 *
 * A slot is two words, so that a torn copy shows.  The event at position
 * START + n carries n + 1 in both.
 *
 * Each load and each store is a step of its own.  What an acquire or a release
 * forbids is modelled by its breakage, which makes the two accesses swap places.
 *
 * Holds: every claimed event is whole, is the one that was posted at that
 * position, and is claimed once; in the end all have been.
 *
 * Breakages: CLAIM_BEFORE_COPY (also: compare-and-swap without release),
 * PUBLISH_BEFORE_WRITE (also: tail stored without release), TAIL_RELAXED (tail
 * loaded without acquire), HEAD_RELAXED (head loaded without acquire: the load
 * of the tail may come first), NO_ROOM_TEST, NARROW_POSITIONS (which come round
 * while a consumer sleeps).
 *
 * RETRY_ODD_DISTANCE is no breakage: a consumer that finds tail - head > entries
 * starts again instead of believing in a full ring.  It makes HEAD_RELAXED good.
 */
#define C 2
#define EVENTS 5
#include "common.pml"

#ifdef NARROW_POSITIONS
#define POS(p) ((p) % (2 * E))
#else
#define POS(p) ((p) & 255)
#endif
#define FROM(h) (POS(DIST(tail, h)))

byte slot_a[E], slot_b[E];
bool claimed[EVENTS];

proctype producer()
{
	byte n;

	do
	:: n < EVENTS ->
#ifndef NO_ROOM_TEST
		FROM(head) < E;		/* else it would wait, see edge.pml */
#endif
#ifdef PUBLISH_BEFORE_WRITE
		slot_a[tail % E] = n + 1;
		tail = POS(tail + 1);
		slot_b[POS(tail - 1) % E] = n + 1;
#else
		slot_a[tail % E] = n + 1;
		slot_b[tail % E] = n + 1;
		tail = POS(tail + 1);
#endif
		n++
	:: else -> break
	od
}

inline copy(from)
{
	i = 0;
	do
	:: i < n ->
		a[i] = slot_a[(from + i) % E];
		b[i] = slot_b[(from + i) % E];
		i++
	:: else -> break
	od
}

inline check(from)
{
	i = 0;
	do
	:: i < n ->
		assert(a[i] == b[i]);
		assert(a[i] > 0 && POS(START + a[i] - 1) == POS(from + i));
		assert(!claimed[a[i] - 1]);
		claimed[a[i] - 1] = true;
		a[i] = 0;
		b[i] = 0;
		i++
	:: else -> break
	od
}

proctype consumer()
{
	byte h, t, n, i;
	byte a[E], b[E];

again:
end_idle:
	atomic {
		head != tail ->
		h = 0; t = 0; n = 0; i = 0
	}
#ifdef HEAD_RELAXED
	if
	:: h = head; t = tail
	:: t = tail; h = head
	fi;
#elif defined(TAIL_RELAXED)
	h = head;
	n = 1;
	copy(h);
	t = tail;
#else
	h = head;
	t = tail;
#endif
	n = POS(DIST(t, h));
	if
	:: n > E ->
#ifdef RETRY_ODD_DISTANCE
		goto again
#else
		n = E
#endif
	:: n == 0 -> goto again
	:: else
	fi;
	if
	:: n > 1 -> n = 1		/* room for one */
	:: true
	fi;

#ifdef CLAIM_BEFORE_COPY
	atomic {
		if
		:: head == h -> head = POS(h + n)
		:: else -> goto again
		fi
	}
	copy(h);
	atomic { check(h) }
#else
#ifndef TAIL_RELAXED
	copy(h);
#endif
	atomic {
		if
		:: head == h -> head = POS(h + n); check(h)
		:: else -> goto again
		fi
	}
#endif
	goto again
}

init
{
	byte i;

	atomic {
		head = POS(START);
		tail = POS(START);
		run producer();
		run consumer();
		run consumer()
	}
	timeout;
	for (i : 0 .. EVENTS - 1) {
		assert(claimed[i])
	}
	assert(head == tail)
}
