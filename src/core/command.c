/*
 * command.c: what a command answers; see command.h.
 *
 * What it is to read is put into its pipe before it starts: it fits, so that
 * nobody waits for it to be read.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/command.h"

#define MOST_LOOK_MS 20 /* between looks whether it has ended */
#define MOST_FILES   65536

static char *
failed(const char *what)
{
	return psprintf("the command could not be %s: %s", what, strerror(errno));
}

/* ---- the child ---- */

/* Not what other files of the server would tell it, or keep open. */
static void
close_others(void)
{
	long most = sysconf(_SC_OPEN_MAX);

#ifdef CLOSE_RANGE_UNSHARE
	if (close_range(STDERR_FILENO + 1, ~0U, 0) == 0)
		return;
#endif
	for (int fd = STDERR_FILENO + 1; fd < Min(most, MOST_FILES); fd++)
		(void) close(fd);
}

static void
become(char *const *argv, char *const *environment, int in, int out) __attribute__((noreturn));

static void
become(char *const *argv, char *const *environment, int in, int out)
{
	sigset_t none;

	(void) setsid();
	(void) dup2(in, STDIN_FILENO);
	(void) dup2(out, STDOUT_FILENO);
	close_others();
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	(void) signal(SIGPIPE, SIG_DFL);
	(void) execve("/bin/sh", argv, environment);
	_exit(127);
}

/* "sh -c COMMAND", and the words as the arguments of its last command. */
static char **
arguments(const char *command, const char *const *words)
{
	char **argv;
	int n = 0;

	while (words != NULL && words[n] != NULL)
		n++;
	argv = palloc0(sizeof(char *) * (n + 5));
	argv[0] = "sh";
	argv[1] = "-c";
	argv[2] = n > 0 ? psprintf("%s \"$@\"", command) : pstrdup(command);
	argv[3] = "eduai";
	for (int i = 0; i < n; i++)
		argv[4 + i] = pstrdup(words[i]);
	return argv;
}

static char *
variable(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return psprintf("%s=%s", name, value ? value : otherwise);
}

/* ---- what it prints ---- */

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
	int look_ms = 1;
	pid_t got;

	while (!kill_it && (got = waitpid(pid, &status, WNOHANG)) != pid)
	{
		if (got < 0 && errno != EINTR)
			return failed("waited for");
		kill_it = left_ms(deadline_us) == 0;
		if (!kill_it)
			(void) poll(NULL, 0, look_ms);
		look_ms = Min(2 * look_ms, MOST_LOOK_MS);
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

/* A pipe with the input in it, at its end; -1: it could not be made. */
static int
input_pipe(const char *input)
{
	size_t length = input ? strlen(input) : 0;
	int fds[2];
	bool whole;

	if (length > EDUAI_COMMAND_INPUT)
	{
		errno = E2BIG;
		return -1;
	}
	if (pipe2(fds, O_CLOEXEC) != 0)
		return -1;
	whole = length == 0 || write(fds[1], input, length) == (ssize_t) length;
	close(fds[1]);
	if (whole)
		return fds[0];
	close(fds[0]);
	return -1;
}

char *
eduai_core_command_output(const char *command, const char *const *words, const char *input,
						  char *buffer, size_t size, size_t *length, int limit_ms)
{
	int64 deadline_us = eduai_core_mono_us() + (int64) limit_ms * 1000;
	char *environment[] = {variable("PATH", "/usr/local/bin:/usr/bin:/bin"), variable("HOME", "/"),
						   NULL};
	char **argv = arguments(command, words);
	int in = input_pipe(input);
	int fds[2];
	pid_t pid;
	char *error;
	char *end;

	if (in < 0)
		return failed("started");
	if (pipe2(fds, O_CLOEXEC) != 0)
	{
		close(in);
		return failed("started");
	}
	pid = fork();
	if (pid == 0)
		become(argv, environment, in, fds[1]);
	close(in);
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
