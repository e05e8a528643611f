/*
 * command.c: what a command prints; see command.h.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/command.h"

#define LOOK_MS 20 /* between looks whether it has ended */

static char *
failed(const char *what)
{
	return psprintf("the command could not be %s: %s", what, strerror(errno));
}

/* In the child: nothing of the server's goes with it but the log. */
static void become(const char *command, int out) __attribute__((noreturn));

static void
become(const char *command, int out)
{
	int null = open("/dev/null", O_RDONLY);
	sigset_t none;

	(void) setsid();
	(void) dup2(null, STDIN_FILENO);
	(void) dup2(out, STDOUT_FILENO);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	(void) signal(SIGPIPE, SIG_DFL);
	execl("/bin/sh", "sh", "-c", command, (char *) NULL);
	_exit(127);
}

static int
left_ms(int64 deadline_us)
{
	return (int) Max(0, (deadline_us - eduai_core_mono_us()) / 1000);
}

/* To the end of what it prints. */
static char *
read_all(int fd, char *buffer, size_t size, size_t *length, int64 deadline_us)
{
	*length = 0;
	for (;;)
	{
		struct pollfd wanted = {.fd = fd, .events = POLLIN};
		int ready = poll(&wanted, 1, left_ms(deadline_us));
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return failed("read");
		if (ready == 0)
			return pstrdup("the command took too long");
		n = read(fd, buffer + *length, size - *length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed("read");
		if (n == 0)
			break;
		*length += n;
		if (*length == size)
			return pstrdup("the command printed too much");
	}
	buffer[*length] = '\0';
	return NULL;
}

/* Waits for its end; kills it, and its group, when "kill_it" or the time is over. */
static char *
reap(pid_t pid, bool kill_it, int64 deadline_us)
{
	int status = 0;
	pid_t got;

	while (!kill_it && (got = waitpid(pid, &status, WNOHANG)) != pid)
	{
		if (got < 0 && errno != EINTR)
			return failed("waited for");
		kill_it = left_ms(deadline_us) == 0;
		if (!kill_it)
			(void) poll(NULL, 0, LOOK_MS);
	}
	if (kill_it)
	{
		(void) kill(-pid, SIGKILL);
		(void) kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		return pstrdup("the command took too long");
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return pstrdup("the command failed");
	return NULL;
}

char *
eduai_core_command_output(const char *command, char *buffer, size_t size, size_t *length,
						  int limit_ms)
{
	int64 deadline_us = eduai_core_mono_us() + (int64) limit_ms * 1000;
	int fds[2];
	pid_t pid;
	char *error;
	char *end;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return failed("started");
	pid = fork();
	if (pid == 0)
		become(command, fds[1]);
	close(fds[1]);
	if (pid < 0)
	{
		close(fds[0]);
		return failed("started");
	}
	error = read_all(fds[0], buffer, size, length, deadline_us);
	close(fds[0]);
	end = reap(pid, error != NULL, deadline_us);
	return error ? error : end;
}
