// SPDX-License-Identifier: GPL-2.0
/*
 * First process of the test guest.
 *
 * tools/vm puts this program, a few modules and the files in /config into an
 * initramfs.  It makes the host's root file system (read-only, 9p or virtiofs)
 * writable with an overlay in memory, checks that the machine is what was asked
 * for, inserts the module under test, runs one command, and tells tools/vm how
 * all that went.
 *
 * Every channel is a virtio port of its own, found by name: "stdout" and
 * "stderr" carry the command's bytes and nothing else, "tty" a terminal, and
 * "verdict" lines of text:
 *
 *	ready		the command is about to start
 *	exit N		the command ended, N as a shell would say it
 *	fail TEXT	something is wrong; any number of them
 *	end		nothing more is to come
 *
 * No "end", no pass.  The host writes "size ROWS COLUMNS" to "verdict" when
 * the window of a terminal changes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define REMOVE_SECONDS 15
#define OPEN_FILES 1048576

static int verdict_fd = -1;
static int kmsg_fd = -1;
static bool failed;

/* ------------------------------------------------------------------------ */
/* Reporting */

static void write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return;
		data += n;
		size -= n;
	}
}

static void verdict(const char *format, ...)
{
	char line[2048];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (int i = 0; i < n; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[n++] = '\n';
	if (verdict_fd >= 0)
		write_all(verdict_fd, line, n);
	/* The console has it too, between the kernel's own messages. */
	printf("init: %.*s", n, line);
	fflush(stdout);
}

#define fail(format, ...)					\
	do {							\
		failed = true;					\
		verdict("fail " format, ##__VA_ARGS__);		\
	} while (0)

static _Noreturn void finish(void)
{
	sync();
	verdict("end");
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

#define die(format, ...)					\
	do {							\
		fail(format, ##__VA_ARGS__);			\
		finish();					\
	} while (0)

/* ------------------------------------------------------------------------ */
/* Small files */

/* The whole of a file, ended by a zero byte that *size does not count. */
static char *read_file(const char *path, size_t *size)
{
	size_t used = 0, room = 4096;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data;
	ssize_t n;

	if (fd < 0)
		return NULL;
	data = malloc(room + 1);
	while (data && (n = read(fd, data + used, room - used)) > 0) {
		used += n;
		if (used == room) {
			char *more = realloc(data, (room *= 2) + 1);

			if (!more)
				free(data);
			data = more;
		}
	}
	close(fd);
	if (!data)
		return NULL;
	data[used] = 0;
	if (size)
		*size = used;
	return data;
}

static char *read_line(const char *path)
{
	char *text = read_file(path, NULL);

	if (text)
		text[strcspn(text, "\n")] = 0;
	return text;
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good;

	if (fd < 0)
		return false;
	good = write(fd, text, strlen(text)) >= 0;
	close(fd);
	return good;
}

/* Splits what is separated by zero bytes into a vector ended by NULL. */
static char **split(char *data, size_t size)
{
	size_t count = 0, used = 0;
	char **vector;

	for (size_t i = 0; i < size; i++)
		count += !data[i];
	vector = calloc(count + 1, sizeof(*vector));
	for (char *p = data; p < data + size; p += strlen(p) + 1)
		vector[used++] = p;
	return vector;
}

/* ------------------------------------------------------------------------ */
/* What tools/vm asks for */

struct config {
	char **argv;
	char **environment;
	char *share;		/* the file system that the host's files come by */
	char *directory;	/* where the command starts */
	char *modules;		/* the host's directory for /lib/modules/... */
	char *ko;		/* the module under test, or NULL */
	char *ko_arguments;
	char *window;		/* "ROWS COLUMNS" if the command gets a terminal */
	bool foreign;		/* another architecture than the host's */
	bool network;
	bool keep_module;
	bool check_leaks;
};

static struct config read_config(void)
{
	struct config c = {
		.share = read_line("/config/share"),
		.directory = read_line("/config/directory"),
		.modules = read_line("/config/modules"),
		.ko = read_line("/config/ko"),
		.ko_arguments = read_line("/config/ko-arguments"),
		.window = read_line("/config/window"),
		.foreign = !access("/config/foreign", F_OK),
		.network = !access("/config/network", F_OK),
		.keep_module = !access("/config/keep-module", F_OK),
		.check_leaks = !access("/config/check-leaks", F_OK),
	};
	size_t size;
	char *data;

	data = read_file("/config/argv", &size);
	if (!data || !size || !c.share || !c.directory || !c.modules)
		die("the initramfs has no command to run");
	c.argv = split(data, size);
	data = read_file("/config/environment", &size);
	if (!data)
		die("the initramfs has no environment");
	c.environment = split(data, size);
	return c;
}

/* The number behind "name=" on the kernel's command line, or -1. */
static long command_line_number(const char *name)
{
	char *line = read_line("/proc/cmdline"), *save, *word;
	size_t length = strlen(name);
	long value = -1;

	if (!line)
		return -1;
	for (word = strtok_r(line, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		if (!strncmp(word, name, length) && word[length] == '=')
			value = atol(word + length + 1);
	free(line);
	return value;
}

/* ------------------------------------------------------------------------ */
/* Bringing the machine up */

/* Mounts if the kernel knows the file system; the tests say what they lack. */
static bool try_mount(const char *type, const char *target, const char *options)
{
	mkdir(target, 0755);
	return !mount(type, target, type, 0, options);
}

static void must_mount(const char *source, const char *target,
		       const char *type, unsigned long flags, const char *options)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, options))
		die("mounting %s on %s: %m", type ? type : source, target);
}

static int insert(const char *path, const char *arguments)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), result;

	if (fd < 0)
		return -1;
	result = syscall(SYS_finit_module, fd, arguments, 0);
	close(fd);
	return result;
}

/* /modules/order names what the host resolved from modules.dep. */
static void insert_boot_modules(void)
{
	char *order = read_file("/modules/order", NULL), *save, *name;
	char path[PATH_MAX];

	if (!order)
		return;
	for (name = strtok_r(order, "\n", &save); name;
	     name = strtok_r(NULL, "\n", &save)) {
		snprintf(path, sizeof(path), "/modules/%s", name);
		if (insert(path, "") && errno != EEXIST)
			die("inserting %s: %m", name);
	}
	free(order);
}

/* Opens the virtio port of that name; the device may still be starting. */
static int open_port(const char *wanted, int flags)
{
	static const char ports[] = "/sys/class/virtio-ports";

	for (int attempt = 0; attempt < 500; attempt++) {
		DIR *directory = opendir(ports);
		struct dirent *entry;
		char path[PATH_MAX];
		int fd = -1;

		while (directory && fd < 0 && (entry = readdir(directory))) {
			char *name;

			snprintf(path, sizeof(path), "%s/%s/name", ports,
				 entry->d_name);
			name = read_line(path);
			if (name && !strcmp(name, wanted)) {
				snprintf(path, sizeof(path), "/dev/%s",
					 entry->d_name);
				fd = open(path, flags | O_CLOEXEC);
			}
			free(name);
		}
		if (directory)
			closedir(directory);
		if (fd >= 0)
			return fd;
		usleep(10000);
	}
	return -1;
}

/*
 * The host's files may change between runs, not during one: that is what
 * cache=loose asks for, and it is several times faster.  Of virtiofs, tools/vm
 * asks the like on the host's side.
 */
static void mount_shared(const char *type, const char *tag, const char *target)
{
	must_mount(tag, target, type, MS_RDONLY, strcmp(type, "9p") ? NULL :
		   "trans=virtio,version=9p2000.L,cache=loose,access=any,msize=500000");
}

static void make_root(const char *share, bool foreign)
{
	char options[256];

	mount_shared(share, "host", "/lower");
	/* Programs of this architecture hide the host's of the same name. */
	if (foreign)
		mount_shared(share, "foreign", "/foreign");
	must_mount("tmpfs", "/upper", "tmpfs", 0, "mode=0755,size=75%");
	if (mkdir("/upper/data", 0755) || mkdir("/upper/work", 0755))
		die("preparing the overlay: %m");
	snprintf(options, sizeof(options),
		 "lowerdir=%s/lower,upperdir=/upper/data,workdir=/upper/work,"
		 "metacopy=off,index=off,xino=off", foreign ? "/foreign:" : "");
	must_mount("overlay", "/root", "overlay", 0, options);
}

/* The host's own /proc, /sys, /dev and /run must never show. */
static void enter_root(void)
{
	umount2("/proc", MNT_DETACH);
	umount2("/sys", MNT_DETACH);
	must_mount("proc", "/root/proc", "proc", 0, NULL);
	must_mount("sysfs", "/root/sys", "sysfs", 0, NULL);
	must_mount("tmpfs", "/root/run", "tmpfs", 0, "mode=0755");
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL))
		die("moving /dev: %m");
	/*
	 * Kernel threads share this process's root, so that what the kernel
	 * starts itself (modprobe) finds the new root as well.
	 */
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		die("entering the root file system: %m");
}

static void mount_the_rest(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	try_mount("devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666");
	try_mount("tmpfs", "/dev/shm", "mode=1777");
	try_mount("mqueue", "/dev/mqueue", NULL);
	try_mount("debugfs", "/sys/kernel/debug", NULL);
	try_mount("tracefs", "/sys/kernel/tracing", NULL);
	try_mount("configfs", "/sys/kernel/config", NULL);
	if (try_mount("cgroup2", "/sys/fs/cgroup", NULL)) {
		/* One at a time: a kernel may lack one of them. */
		write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
		write_file("/sys/fs/cgroup/cgroup.subtree_control", "+pids");
		write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpu");
		write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset");
	}
	mkdir("/run/lock", 01777);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			fail("linking %s: %m", links[i][1]);
}

static void bind_modules(const char *directory)
{
	char target[PATH_MAX];
	struct utsname uts;

	uname(&uts);
	snprintf(target, sizeof(target), "/lib/modules/%s", uts.release);
	mkdir("/lib/modules", 0755);
	mkdir(target, 0755);
	if (mount(directory, target, NULL, MS_BIND, NULL))
		fail("mounting %s on %s: %m", directory, target);
}

static void set_address(int fd, struct ifreq *request, unsigned long command,
			const char *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&request->ifr_addr;

	*in = (struct sockaddr_in){ .sin_family = AF_INET };
	inet_pton(AF_INET, address, &in->sin_addr);
	if (ioctl(fd, command, request))
		fail("setting address %s of %s: %m", address, request->ifr_name);
}

static void bring_up(int fd, const char *name)
{
	struct ifreq request = { };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &request)) {
		fail("no network interface %s: %m", name);
		return;
	}
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		fail("bringing %s up: %m", name);
}

/* The addresses are those of QEMU's user-mode network. */
static void start_network(bool outside)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "eth0" };
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct sockaddr_in any = { .sin_family = AF_INET }, gateway = any;

	if (fd < 0) {
		fail("no IPv4: %m");
		return;
	}
	bring_up(fd, "lo");
	if (outside) {
		set_address(fd, &request, SIOCSIFADDR, "10.0.2.15");
		set_address(fd, &request, SIOCSIFNETMASK, "255.255.255.0");
		bring_up(fd, "eth0");
		inet_pton(AF_INET, "10.0.2.2", &gateway.sin_addr);
		memcpy(&route.rt_gateway, &gateway, sizeof(gateway));
		memcpy(&route.rt_dst, &any, sizeof(any));
		memcpy(&route.rt_genmask, &any, sizeof(any));
		if (ioctl(fd, SIOCADDRT, &route))
			fail("setting the route: %m");
	}
	close(fd);
}

static void set_limits(void)
{
	struct rlimit files = { OPEN_FILES, OPEN_FILES };
	struct rlimit core = { 0, 0 };
	struct rlimit locked = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_NOFILE, &files))
		fail("raising the limit of open files: %m");
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_MEMLOCK, &locked);
	/* Not every kernel has each of them. */
	write_file("/proc/sys/kernel/softlockup_panic", "1");
	write_file("/proc/sys/kernel/hung_task_panic", "1");
	write_file("/proc/sys/kernel/hung_task_timeout_secs", "60");
	write_file("/proc/sys/kernel/panic_on_rcu_stall", "1");
	/* A busy host can keep an emulated CPU from running for long. */
	write_file("/proc/sys/kernel/watchdog_thresh", "30");
	/* Scans come when asked for, at the end. */
	write_file("/sys/kernel/debug/kmemleak", "scan=off");
}

/*
 * tools/vm has the kernel boot on one CPU (maxcpus=1).  The boot is when most
 * of the kernel's patching of its own code goes on, and QEMU before 8.1 can
 * keep a stale translation of an instruction that one CPU rewrites while
 * another is about to run it: one boot in fifty ended in "Oops: int3".
 */
static void start_cpus(void)
{
	char path[64];

	for (int cpu = 1;; cpu++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/cpu/cpu%d/online", cpu);
		if (access(path, F_OK))
			return;
		if (!write_file(path, "1"))
			fail("starting CPU %d: %m", cpu);
	}
}

/* ------------------------------------------------------------------------ */
/* Is the machine the one that was asked for? */

/* How many numbers a list such as "0-1,4" names. */
static long count_list(const char *path)
{
	char *text = read_line(path), *p = text;
	long count = 0;

	if (!text)
		return -1;
	while (isdigit((unsigned char)*p)) {
		long first = strtol(p, &p, 10), last = first;

		if (*p == '-')
			last = strtol(p + 1, &p, 10);
		count += last - first + 1;
		if (*p == ',')
			p++;
	}
	free(text);
	return count;
}

static void check_machine(void)
{
	static const struct {
		const char *name;
		const char *path;
		const char *what;
	} checks[] = {
		{ "guest.cpus", "/sys/devices/system/cpu/online",
		  "CPUs online" },
		{ "guest.nodes", "/sys/devices/system/node/online",
		  "NUMA nodes online" },
		{ "guest.memory_nodes", "/sys/devices/system/node/has_memory",
		  "NUMA nodes with memory" },
		{ "guest.cpu_nodes", "/sys/devices/system/node/has_cpu",
		  "NUMA nodes with CPUs" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		long wanted = command_line_number(checks[i].name);
		long got = count_list(checks[i].path);

		if (wanted != got)
			fail("the guest has %ld %s and should have %ld", got,
			     checks[i].what, wanted);
	}
}

/* ------------------------------------------------------------------------ */
/* The kernel's log */

/* What the kernel says of its own mistakes. */
static const char *const splats[] = {
	"WARNING:", "BUG:", "Oops", "cut here", "Kernel panic",
	"KASAN:", "KCSAN:", "UBSAN:", "ODEBUG:", "refcount_t:",
	"INFO: task ", "INFO: lockdep", "INFO: trying to register",
	"blocked for more than", "soft lockup", "hard LOCKUP",
	"workqueue lockup", "rcu: INFO:", "detected stall", "self-detected",
	"suspicious RCU usage", "possible recursive locking",
	"inconsistent lock state", "bad unlock balance", "held lock freed",
	"lock held when returning", "DEBUG_LOCKS_WARN_ON",
	"scheduling while atomic", "sleeping function called",
	"Bad page state", "Bad rss-counter", "list_add corruption",
	"list_del corruption", "new suspected memory leaks",
	"unreferenced object", "Slab corruption", "Object already free",
	"Objects remaining in",
};

/*
 * KCSAN watches the whole kernel, which has races of its own.  A report counts if
 * one of the modules is on top of either access's stack, or has called what is: its
 * helpers, a timer, a list.  What a watched file's operations, file systems and devices
 * below us do among themselves does not; it is counted and stays in the log.
 */
#define NEAR_FRAMES 4
static const char *const our_frames[] = { " [kevent]", " [pollzoo]" };
static const char *const file_operations[] = {
	"_poll+", "_read+", "_write+", "_read_iter+", "_write_iter+",
};
static char race[512];	/* the title of the report that is being read */
static bool race_is_ours;
static unsigned int race_frame;	/* of the stack that is being read, from its top */
static unsigned int foreign_races;

static void end_race(void)
{
	if (*race && race_is_ours)
		fail("kernel log: %s", race);
	else if (*race)
		foreign_races++;
	*race = 0;
}

static bool has_any(const char *text, const char *const *words, size_t n)
{
	while (n--)
		if (strstr(text, words[n]))
			return true;
	return false;
}

static void count_frame(const char *text)
{
	if (has_any(text, our_frames, ARRAY_SIZE(our_frames)))
		race_is_ours = true;
	else if (has_any(text, file_operations, ARRAY_SIZE(file_operations)))
		race_frame = NEAR_FRAMES;
}

/* Takes the lines of a report, from its title to the ruler below it. */
static bool is_race(const char *text)
{
	if (strstr(text, "BUG: KCSAN:")) {
		end_race();
		snprintf(race, sizeof(race), "%s", text);
		race_is_ours = false;
		race_frame = NEAR_FRAMES;
	}
	if (!*race)
		return false;
	if (strstr(text, " by task ") || strstr(text, " by interrupt "))
		race_frame = 0;
	else if (strstr(text, "+0x") && race_frame++ < NEAR_FRAMES)
		count_frame(text);
	if (!strncmp(text, "=====", 5))
		end_race();
	return true;
}

/*
 * Reads what is new.  /dev/kmsg, and not the console: it says which messages
 * are the kernel's, and a console can be lost or switched off.
 */
static void read_kernel_log(void)
{
	char record[8192];
	ssize_t n;

	for (;;) {
		unsigned long priority;
		char *text;

		n = read(kmsg_fd, record, sizeof(record) - 1);
		if (n < 0 && (errno == EPIPE || errno == EINTR))
			continue;	/* some were overwritten; go on */
		if (n <= 0)
			return;
		record[n] = 0;
		priority = strtoul(record, NULL, 10);
		text = strchr(record, ';');
		if (priority >> 3 || !text)
			continue;	/* written by a program */
		text[strcspn(text, "\n")] = 0;
		if (is_race(text + 1))
			continue;
		if (has_any(text, splats, ARRAY_SIZE(splats)))
			fail("kernel log: %s", text + 1);
	}
}

static void check_taint(void)
{
	static const struct {
		int bit;
		const char *what;
	} bad[] = {
		{ 1, "a module was loaded by force" },
		{ 3, "a module was unloaded by force" },
		{ 4, "a machine check" },
		{ 5, "a bad page" },
		{ 7, "an oops" },
		{ 9, "a warning" },
		{ 14, "a soft lockup" },
	};
	char *text = read_line("/proc/sys/kernel/tainted");
	unsigned long taint = text ? strtoul(text, NULL, 10) : ~0UL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (taint >> bad[i].bit & 1)
			fail("the kernel is tainted: %s", bad[i].what);
	free(text);
}

/* ------------------------------------------------------------------------ */
/* The command */

static _Noreturn void exec_command(const struct config *c)
{
	static const int reset[] = { SIGCHLD, SIGPIPE, SIGINT, SIGTERM };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(reset); i++)
		signal(reset[i], SIG_DFL);
	environ = c->environment;
	if (chdir(c->directory)) {
		dprintf(2, "vm: %s: %m\n", c->directory);
		_exit(126);
	}
	execvp(c->argv[0], c->argv);
	dprintf(2, "vm: %s: %m\n", c->argv[0]);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Relays what is there; false at the end of it. */
static bool relay(int from, int to)
{
	char buffer[32768];
	ssize_t n = read(from, buffer, sizeof(buffer));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	write_all(to, buffer, n);
	return true;
}

static void resize(int terminal, const char *text)
{
	unsigned short rows, columns;

	if (sscanf(text, "%hu %hu", &rows, &columns) == 2) {
		struct winsize size = { .ws_row = rows, .ws_col = columns };

		ioctl(terminal, TIOCSWINSZ, &size);
	}
}

/* Ends the children that are no more; true if the command is among them. */
static bool reap(pid_t command, int *status)
{
	bool ended = false;
	int s;
	pid_t pid;

	while ((pid = waitpid(-1, &s, WNOHANG)) > 0)
		if (pid == command) {
			*status = WIFSIGNALED(s) ? 128 + WTERMSIG(s) :
						   WEXITSTATUS(s);
			ended = true;
		}
	return ended;
}

struct wires {
	int from[2];		/* the command's stdout and stderr, or -1 */
	int to[2];		/* the ports they go to */
	int terminal;		/* the master of the command's terminal, or -1 */
	int tty;		/* the port that the terminal goes to */
};

static pid_t start_with_pipes(const struct config *c, struct wires *w)
{
	int out[2], err[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		die("making pipes: %m");
	/* The reading ends only: the command's writes are to block. */
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	pid = fork();
	if (pid < 0)
		die("fork: %m");
	if (!pid) {
		setsid();
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		exec_command(c);
	}
	close(out[1]);
	close(err[1]);
	w->from[0] = out[0];
	w->from[1] = err[0];
	return pid;
}

static pid_t start_with_terminal(const struct config *c, struct wires *w)
{
	pid_t pid = forkpty(&w->terminal, NULL, NULL, NULL);

	if (pid < 0)
		die("forkpty: %m");
	if (!pid)
		exec_command(c);
	fcntl(w->terminal, F_SETFD, FD_CLOEXEC);
	resize(w->terminal, c->window);
	return pid;
}

static struct pollfd readable(int fd)
{
	return (struct pollfd){ .fd = fd, .events = POLLIN };
}

/* Moves bytes until the command has ended; what it left running may go on. */
static int run(const struct config *c)
{
	enum { OUT, ERR, CHILD, LOG, TERMINAL, TTY, HOST, COUNT };
	struct wires w = { { -1, -1 }, { -1, -1 }, -1, -1 };
	struct pollfd fds[COUNT];
	int status = 255;
	sigset_t child;
	pid_t pid;

	w.to[0] = open_port("stdout", O_WRONLY);
	w.to[1] = open_port("stderr", O_WRONLY);
	if (w.to[0] < 0 || w.to[1] < 0)
		die("no port for the command's output");
	if (c->window) {
		w.tty = open_port("tty", O_RDWR | O_NONBLOCK);
		if (w.tty < 0)
			die("no port for the terminal");
	}
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	verdict("ready");
	pid = c->window ? start_with_terminal(c, &w) : start_with_pipes(c, &w);

	fds[OUT] = readable(w.from[0]);
	fds[ERR] = readable(w.from[1]);
	fds[CHILD] = readable(signalfd(-1, &child,
				       SFD_CLOEXEC | SFD_NONBLOCK));
	fds[LOG] = readable(kmsg_fd);
	fds[TERMINAL] = readable(w.terminal);
	fds[TTY] = readable(w.tty);
	fds[HOST] = readable(verdict_fd);

	for (bool ended = false; !ended;) {
		if (poll(fds, COUNT, -1) < 0 && errno != EINTR)
			die("poll: %m");
		if (fds[OUT].revents && !relay(w.from[0], w.to[0]))
			fds[OUT].fd = -1;
		if (fds[ERR].revents && !relay(w.from[1], w.to[1]))
			fds[ERR].fd = -1;
		if (fds[TERMINAL].revents && !relay(w.terminal, w.tty))
			fds[TERMINAL].fd = -1;
		if (fds[TTY].revents & POLLIN && !relay(w.tty, w.terminal))
			fds[TTY].fd = -1;
		if (fds[TTY].revents & POLLHUP)
			fds[TTY].fd = -1;
		if (fds[LOG].revents)
			read_kernel_log();
		if (fds[HOST].revents) {
			char text[64];
			ssize_t n = read(verdict_fd, text, sizeof(text) - 1);

			text[n > 0 ? n : 0] = 0;
			if (n > 5 && w.terminal >= 0)
				resize(w.terminal, text + 5);
			if (n <= 0)
				fds[HOST].fd = -1;
		}
		if (fds[CHILD].revents) {
			struct signalfd_siginfo info;

			while (read(fds[CHILD].fd, &info, sizeof(info)) > 0)
				;
			ended = reap(pid, &status);
		}
	}
	/* What it wrote before it ended is in the pipes now; take all of it. */
	for (int i = 0; i < 2; i++) {
		int left;

		while (w.from[i] >= 0 && !ioctl(w.from[i], FIONREAD, &left) && left)
			relay(w.from[i], w.to[i]);
	}
	if (w.terminal >= 0) {
		fcntl(w.terminal, F_SETFL, O_NONBLOCK);
		for (char byte; read(w.terminal, &byte, 1) == 1;)
			write_all(w.tty, &byte, 1);
	}
	return status;
}

/* ------------------------------------------------------------------------ */
/* Afterwards */

/* True when no process is left: an orphan becomes a child of this one. */
static bool reap_all(int tenths)
{
	for (int i = 0; i < tenths; i++) {
		pid_t pid;

		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return true;
		usleep(100000);
	}
	return false;
}

static void end_leftovers(void)
{
	kill(-1, SIGTERM);
	if (reap_all(10))
		return;
	kill(-1, SIGKILL);
	if (!reap_all(100))
		fail("a process does not die");
}

/*
 * One attempt to remove each module from outside the kernel's tree; how many
 * are still there.  They may depend on each other, so one attempt may not do.
 */
static int remove_modules(char *left, size_t size)
{
	char *text = read_file("/proc/modules", NULL), *save, *line;
	int count = 0;

	*left = 0;
	if (!text)
		return 0;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *flags = strrchr(line, '(');

		if (!flags || !strchr(flags, 'O'))
			continue;
		line[strcspn(line, " ")] = 0;
		if (syscall(SYS_delete_module, line, O_NONBLOCK)) {
			snprintf(left, size, "%s: %m", line);
			count++;
		}
	}
	free(text);
	return count;
}

static void remove_all_modules(void)
{
	char left[256];

	for (int i = 0; i < REMOVE_SECONDS * 10; i++) {
		if (!remove_modules(left, sizeof(left)))
			return;
		usleep(100000);
	}
	fail("cannot remove module %s", left);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/*
 * kmemleak reports what two scans in a row found unreferenced and unchanged,
 * and what is at least five seconds old.  A scan takes several seconds itself.
 */
static void check_leaks(void)
{
	static const char path[] = "/sys/kernel/debug/kmemleak";
	double start = now(), rest;
	char *text, *save, *line;

	if (!write_file(path, "scan"))
		return;
	rest = 5.5 - (now() - start);
	if (rest > 0)
		usleep(rest * 1e6);
	write_file(path, "scan");
	text = read_file(path, NULL);
	if (!text || !*text)
		return;
	fail("kmemleak found leaks");
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		printf("kmemleak: %s\n", line);
	fflush(stdout);
}

int main(void)
{
	struct config config;

	umask(022);
	try_mount("devtmpfs", "/dev", "mode=0755");
	try_mount("proc", "/proc", NULL);
	try_mount("sysfs", "/sys", NULL);
	insert_boot_modules();
	verdict_fd = open_port("verdict", O_RDWR);
	if (verdict_fd < 0)
		die("no port for the verdict");
	kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg_fd < 0)
		die("/dev/kmsg: %m");

	config = read_config();
	make_root(config.share, config.foreign);
	enter_root();
	mount_the_rest();
	bind_modules(config.modules);
	sethostname("kevent", 6);
	start_network(config.network);
	set_limits();
	start_cpus();
	check_machine();
	if (config.ko && insert(config.ko, config.ko_arguments ?: ""))
		fail("inserting %s: %m", config.ko);
	read_kernel_log();
	if (failed)
		finish();

	verdict("exit %d", run(&config));

	end_leftovers();
	if (!config.keep_module)
		remove_all_modules();
	if (config.check_leaks)
		check_leaks();
	/* A splat is printed by another CPU, perhaps just now. */
	usleep(20000);
	read_kernel_log();
	end_race();
	if (foreign_races)
		printf("init: %u data races of others than the modules\n",
		       foreign_races);
	check_taint();
	finish();
}
