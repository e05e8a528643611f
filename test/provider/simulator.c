/*-------------------------------------------------------------------------
 * simulator.c
 *		A stand-in for AI providers: the program.
 *
 * One thread, one event loop.  See README.md for what it answers.
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "behaviour.h"
#include "conn.h"
#include "exchange.h"
#include "journal.h"

#define ACCEPTS_AT_ONCE 64
#define BACKLOG         4096

typedef struct Options
{
	const char *bind;
	const char *journal;
	const char *port_file;
	int64_t port;
	int64_t parent_pid;
	int64_t seed;
} Options;

static struct event_base *base;
static struct event *listener;
static bool stopping = false;

static int parent_fd = -1;
static pid_t parent_pid;

static void
die(const char *what, const char *name)
{
	fprintf(stderr, "eduai-simulator: %s \"%s\": %s\n", what, name, strerror(errno));
	exit(1);
}

static void
usage(int status)
{
	fprintf(status == 0 ? stdout : stderr,
			"usage: eduai-simulator [--port N] [--bind ADDRESS] [--journal FILE]\n"
			"                       [--port-file FILE] [--parent-pid N] [--seed N]\n");
	exit(status);
}

static int64_t
number_option(const char *value, int64_t max)
{
	int64_t number;

	if (!slice_int((Slice){value, strlen(value)}, &number) || number < 0 || number > max)
	{
		fprintf(stderr, "eduai-simulator: invalid number \"%s\"\n", value);
		usage(2);
	}
	return number;
}

static void
read_options(int argc, char **argv, Options *options)
{
	static const struct option known[] = {{"port", required_argument, NULL, 'p'},
										  {"bind", required_argument, NULL, 'b'},
										  {"journal", required_argument, NULL, 'j'},
										  {"port-file", required_argument, NULL, 'f'},
										  {"parent-pid", required_argument, NULL, 'P'},
										  {"seed", required_argument, NULL, 's'},
										  {"help", no_argument, NULL, 'h'},
										  {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		if (c == 'p')
			options->port = number_option(optarg, 65535);
		else if (c == 'b')
			options->bind = optarg;
		else if (c == 'j')
			options->journal = optarg;
		else if (c == 'f')
			options->port_file = optarg;
		else if (c == 'P')
			options->parent_pid = number_option(optarg, INT32_MAX);
		else if (c == 's')
			options->seed = number_option(optarg, INT64_MAX);
		else
			usage(c == 'h' ? 0 : 2);
	}
	if (optind < argc)
		usage(2);
}

static void
on_listener_rest(evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	(void) arg;
	event_add(listener, NULL);
}

/* Out of descriptors, accept() would fail in a busy loop. */
static void
rest_listener(void)
{
	struct timeval rest = {0, 100000};

	event_del(listener);
	event_base_once(base, -1, EV_TIMEOUT, on_listener_rest, NULL, &rest);
}

static void
on_connection(evutil_socket_t fd, short what, void *arg)
{
	const int one = 1;

	(void) what;
	(void) arg;
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++)
	{
		int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (client < 0)
		{
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				rest_listener();
			return;
		}
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		conn_start(base, client);
	}
}

static void
on_signal(evutil_socket_t signal_number, short what, void *arg)
{
	(void) signal_number;
	(void) what;
	(void) arg;
	stopping = true;
}

/* A zombie still answers kill(), and a pid may come again: ask its pidfd. */
static bool
parent_gone(void)
{
	struct pollfd parent = {parent_fd, POLLIN, 0};

	if (parent_fd >= 0)
		return poll(&parent, 1, 0) > 0;
	return kill(parent_pid, 0) != 0 && errno == ESRCH;
}

static void
on_parent_check(evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	(void) arg;
	if (parent_gone())
		stopping = true;
}

static void
watch_parent(pid_t pid)
{
	struct timeval second = {1, 0};

	if (pid == 0)
		return;
	parent_pid = pid;
	parent_fd = (int) syscall(SYS_pidfd_open, pid, 0);
	on_parent_check(-1, 0, NULL);
	event_add(event_new(base, -1, EV_PERSIST, on_parent_check, NULL), &second);
}

static void
watch_signals(void)
{
	signal(SIGPIPE, SIG_IGN);
	event_add(evsignal_new(base, SIGTERM, on_signal, NULL), NULL);
	event_add(evsignal_new(base, SIGINT, on_signal, NULL), NULL);
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static socklen_t
make_address(const char *bind_to, int64_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, bind_to, &v4->sin_addr) == 1)
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t) port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, bind_to, &v6->sin6_addr) == 1)
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t) port);
		return sizeof(*v6);
	}
	errno = EINVAL;
	die("could not use the address", bind_to);
	return 0;
}

/* Returns the port it got. */
static int
start_listening(const Options *options)
{
	struct sockaddr_storage address;
	socklen_t len = make_address(options->bind, options->port, &address);
	const int one = 1;
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("could not create a socket for", options->bind);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *) &address, len) != 0 || listen(fd, BACKLOG) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &len) != 0)
		die("could not listen on", options->bind);
	listener = event_new(base, fd, EV_READ | EV_PERSIST, on_connection, NULL);
	event_add(listener, NULL);
	return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *) &address)->sin_port
											  : ((struct sockaddr_in6 *) &address)->sin6_port);
}

/* Readers see a whole port or no file. */
static void
write_port_file(const char *path, int port)
{
	Buf temporary = {0};
	FILE *file;

	if (path == NULL)
		return;
	buf_printf(&temporary, "%s.%d", path, (int) getpid());
	file = fopen(temporary.data, "w");
	if (file == NULL || fprintf(file, "%d\n", port) < 0 || fclose(file) != 0 ||
		rename(temporary.data, path) != 0)
		die("could not write", path);
	buf_free(&temporary);
}

static void
announce(const Options *options, int port)
{
	const char *format = strchr(options->bind, ':') ? "http://[%s]:%d" : "http://%s:%d";
	Buf url = {0};

	buf_printf(&url, format, options->bind, port);
	control_set_base_url(url.data);
	write_port_file(options->port_file, port);
	printf("eduai provider simulator listening on %s\n", url.data);
	fflush(stdout);
	buf_free(&url);
}

static struct event_base *
make_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *made;

	/* The default clock ticks every 4 ms: too coarse for latencies. */
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	made = event_base_new_with_config(config);
	event_config_free(config);
	if (made == NULL)
		die("could not start", "libevent");
	return made;
}

int
main(int argc, char **argv)
{
	Options options = {.bind = "127.0.0.1", .seed = 1};

	read_options(argc, argv, &options);
	behaviour_seed((uint64_t) options.seed);
	raise_descriptor_limit();
	journal_open(options.journal);
	base = make_base();
	watch_signals();
	watch_parent((pid_t) options.parent_pid);
	announce(&options, start_listening(&options));
	while (!stopping && event_base_loop(base, EVLOOP_ONCE) == 0)
		journal_flush();
	journal_flush();
	return 0;
}
