// SPDX-License-Identifier: MIT
/*
 * Prints how many thousand ticks a second this machine's time stamp counter
 * makes.  QEMU hands the counter to the guest as it is, and a guest on a busy
 * host that measures it itself can be wrong by a factor of thirty.
 */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct instant {
	double seconds;
	unsigned long long ticks;
};

/* Both clocks, as close together as a few attempts can get them. */
static struct instant now(void)
{
	unsigned long long best = -1ULL;
	struct instant result = { 0 };

	for (int i = 0; i < 20; i++) {
		unsigned long long before = __rdtsc(), after;
		struct timespec t;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			result.seconds = t.tv_sec + t.tv_nsec / 1e9;
			result.ticks = before + best / 2;
		}
	}
	return result;
}

int main(void)
{
	struct timespec pause = { 0, 50 * 1000 * 1000 };
	struct instant from = now(), to;

	nanosleep(&pause, NULL);
	to = now();
	printf("%.0f\n", (to.ticks - from.ticks) / (to.seconds - from.seconds) / 1000);
	return 0;
}
