// SPDX-License-Identifier: MIT
/*
 * What an event system costs a server for each request of keep-alive connections:
 * kevent-httpd and its twins on epoll and on io_uring, less a twin that makes the
 * same system calls on sockets and files and blocks in recv(2) for each connection in
 * turn.  tools/httpd/twins says how each is used; parser, connections and files are
 * the same code.  http_instructions_timers: the same with a limit of 30 s to the time
 * that a connection may be idle; all keep it in user space, by the same code.
 *
 * Run under tools/vm --icount by http.py, which makes the directory that they serve.
 *
 * In the bracket: the client sends a request of 37 bytes on each of 64 connections,
 * then receives the 64 responses, of a file of 1 KiB from the page cache; 48 times
 * over, without a pause, all of it warm.  Client and server are single threads on the
 * one CPU that do not preempt each other (SCHED_BATCH), so that a server finds 64
 * requests at a time, as under wrk.  The event systems' share is a hundredth of the
 * whole, and that varies with the ticks, with RCU's callbacks and with where things
 * lie in memory: so a bracket has some fifty ticks, the median of several counts, and
 * the servers are started anew for some of them.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define CONNECTIONS 64
#define TURNS 48
#define WARM_ROUNDS 1
#define SIZE 1024

enum { LOCKSTEP, EPOLL, IO_URING, KEVENT, SERVERS };

static char *kinds[] = { "lockstep", "epoll", "io_uring" };

static int starts = 3, rounds = 6;

static int sockets[CONNECTIONS];
static size_t response; /* bytes */

static void ask(int fd)
{
	static const char request[] = "GET /file.html HTTP/1.1\r\nHost: h\r\n\r\n";

	must(send(fd, request, sizeof(request) - 1, 0) == sizeof(request) - 1, "send");
}

/* Returns the bytes of a response: @expected, or what its head says if that is 0. */
static size_t hear(int fd, size_t expected)
{
	char answer[4096], *body;
	size_t got = 0;

	do {
		ssize_t n = recv(fd, answer + got, sizeof(answer) - got, 0);

		must(n > 0, "recv");
		got += n;
		body = expected ? NULL : memmem(answer, got, "\r\n\r\n", 4);
		if (body)
			expected = body + 4 + SIZE - answer;
	} while (!expected || got < expected);
	must(got == expected && !memcmp(answer, "HTTP/1.1 200", 12) &&
	     answer[got - 1] == 'x', "the response");
	return got;
}

static void take_turns(void)
{
	for (int i = 0; i < TURNS; i++) {
		for (int k = 0; k < CONNECTIONS; k++)
			ask(sockets[k]);
		for (int k = 0; k < CONNECTIONS; k++)
			hear(sockets[k], response);
	}
}

/* Returns the port, which the server prints when it listens. */
static int start(char *const argv[], pid_t *pid)
{
	char line[256], *port = NULL;
	int out[2];
	FILE *f;

	must(!pipe(out), "pipe");
	*pid = fork();
	must(*pid >= 0, "fork");
	if (!*pid) {
		dup2(out[1], 1);
		execv(argv[0], argv);
		must(0, argv[0]);
	}
	close(out[1]);
	f = fdopen(out[0], "r");
	must(f != NULL, argv[0]);
	if (fgets(line, sizeof(line), f))
		port = strrchr(line, ':');
	must(port != NULL, argv[0]);
	fclose(f);
	return atoi(port + 1);
}

static int connect_to(int port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	must(!connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
	must(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), "TCP_NODELAY");
	return fd;
}

/* Stores the instructions for each request in @costs. */
static void serve(int kind, char **argv, char *idle, double *costs)
{
	char *kevent[] = { argv[1], argv[3], "-p0", "-t1", "--idle-timeout", idle,
			   "--stats", "/dev/null", NULL };
	char *twin[] = { argv[2], kinds[kind % KEVENT], argv[3], "-p0", "-t1",
			 "--idle-timeout", idle, "--connections", "64", NULL };
	pid_t pid;
	int port = start(kind == KEVENT ? kevent : twin, &pid);

	for (int i = 0; i < CONNECTIONS; i++)
		sockets[i] = connect_to(port);
	for (int i = 0; i < CONNECTIONS; i++)
		ask(sockets[i]);
	for (int i = 0; i < CONNECTIONS; i++)
		response = hear(sockets[i], 0);
	best_of(WARM_ROUNDS, take_turns);
	for (int i = 0; i < rounds; i++)
		costs[i] = best_of(1, take_turns) / (TURNS * CONNECTIONS);
	for (int i = 0; i < CONNECTIONS; i++)
		close(sockets[i]);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
}

static int compare(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static double median(double *costs, int n)
{
	qsort(costs, n, sizeof(*costs), compare);
	return (costs[(n - 1) / 2] + costs[n / 2]) / 2;
}

static void measure(const char *row, char **argv, char *idle)
{
	double costs[SERVERS][starts * rounds], m[SERVERS];

	for (int i = 0; i < starts; i++)
		for (int kind = 0; kind < SERVERS; kind++)
			serve(kind, argv, idle, costs[kind] + i * rounds);
	for (int kind = 0; kind < SERVERS; kind++)
		m[kind] = median(costs[kind], starts * rounds);
	report(row, "instructions per request", "kevent", m[KEVENT] - m[LOCKSTEP],
	       "epoll", m[EPOLL] - m[LOCKSTEP], "io_uring", m[IO_URING] - m[LOCKSTEP],
	       "bare", m[LOCKSTEP], NULL);
}

int main(int argc, char **argv)
{
	struct sched_param none = { 0 };
	double loop;

	must(argc == 4, "Usage: http_instructions KEVENT-HTTPD TWIN-HTTPD ROOT");
	if (getenv("KEVENT_QUICK"))
		starts = 1;
	must(!sched_setscheduler(0, SCHED_BATCH, &none), "SCHED_BATCH");
	loop = clock_check(0);
	measure("http_instructions", argv, "0");
	measure("http_instructions_timers", argv, "30");
	clock_check(loop);
	return 0;
}
