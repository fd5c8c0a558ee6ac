/* SPDX-License-Identifier: MIT */
/*
 * What every program here measures and reports with.  Under tools/vm --icount a
 * nanosecond of the guest's clock is an instruction.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static inline void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(3);
	}
}

/* The best of @rounds calls: a timer tick may fall into any. */
static inline double best_of(int rounds, void (*call)(void))
{
	double best = 1e18;

	if (getenv("KEVENT_QUICK"))
		rounds = rounds / 4 + 1;
	while (rounds--) {
		double start = now();

		call();
		start = now() - start;
		if (start < best)
			best = start;
	}
	return best;
}

static inline void fixed_loop(void)
{
	for (volatile int i = 0; i < 100000; i++)
		;
}

/*
 * Right after boot other threads still run: a fixed loop is timed before and after.
 * Exits with 2 if the clock drifted in between: the caller tries again.
 */
static inline double clock_check(double before)
{
	double loop = best_of(20, fixed_loop);

	if (before && (loop > before * 1.002 || before > loop * 1.002)) {
		fprintf(stderr, "the clock drifted: %.0f, then %.0f\n", before, loop);
		exit(2);
	}
	return loop;
}

/*
 * Prints a row as one line of JSON.  After @unit: pairs of a name (kevent, epoll,
 * io_uring, libaio, or of another figure worth knowing) and a double; then NULL.
 */
static inline void report(const char *row, const char *unit, ...)
{
	const char *name;
	va_list list;

	printf("{\"%s\": {\"unit\": \"%s\"", row, unit);
	va_start(list, unit);
	while ((name = va_arg(list, const char *)))
		printf(", \"%s\": %.2f", name, va_arg(list, double));
	va_end(list);
	printf("}}\n");
	fflush(stdout);
}

#endif
