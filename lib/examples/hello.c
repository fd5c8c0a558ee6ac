/* SPDX-License-Identifier: MIT */
/*
 * Prints a line each second until one comes from standard input (a terminal, a
 * pipe or a socket).  Needs the header and nothing else: cc hello.c
 */
#include <linux/kevent.h>
#include <stdio.h>

int main(void)
{
	struct kevent_change input = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_FILE, .cookie = 1,
		.fd = STDIN_FILENO, .events = EPOLLIN, .flags = KEVENT_LEVEL,
	};
	struct kevent_change second = {
		.op = KEVENT_OP_ADD, .kind = KEVENT_KIND_TIMER, .cookie = 2,
		.fd = CLOCK_MONOTONIC, .period = 1000000000,
	};
	struct ukevent event;
	long long seconds = 0;
	int queue = kevent_open();

	if (queue < 0) {
		perror("hello: " KEVENT_DEVICE);
		return 1;
	}
	if (kevent_change(queue, &input) < 0) {
		perror("hello: cannot watch standard input");
		return 1;
	}
	if (kevent_change(queue, &second) < 0) {
		perror("hello");
		return 1;
	}
	while (kevent_getevents(queue, &event, 1, 1, NULL) == 1) {
		if (event.cookie == 1)
			return 0;
		seconds += event.result;
		printf("%lld s\n", seconds);
		fflush(stdout);
	}
	perror("hello");
	return 1;
}
