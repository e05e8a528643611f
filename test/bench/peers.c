/*
 * peers.c: see peers.h.
 */
#include "peers.h"

#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#define MAX_PROCESSES 8
#define LINE          256

typedef struct Process
{
	pid_t pid;
	FILE *to;
	FILE *from;
} Process;

bool
peers_are_here(void)
{
	const char *where = getenv("EDUAI_PEERS");

	return where != NULL && *where != '\0';
}

/* In the child: the program with its standard input and output. */
static void
become(const char *program, const char *arguments, int in, int out)
{
	char command[512];

	snprintf(command, sizeof(command), "cd \"$EDUAI_PEERS\" && exec ./node %s.mjs %s", program,
			 arguments);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execl("/bin/sh", "sh", "-c", command, (char *) NULL);
	_exit(127);
}

static Process
start(const char *program, const char *arguments)
{
	Process process;
	int to[2];
	int from[2];

	if (pipe(to) != 0 || pipe(from) != 0)
		fail("no pipe");
	fflush(stdout);
	process.pid = fork();
	if (process.pid == 0)
	{
		close(to[1]);
		close(from[0]);
		become(program, arguments, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	process.to = fdopen(to[1], "w");
	process.from = fdopen(from[0], "r");
	return process;
}

static void
end(Process *process, const char *program)
{
	int status;

	fclose(process->to);
	fclose(process->from);
	if (waitpid(process->pid, &status, 0) < 0 || status != 0)
		fail("%s.mjs failed", program);
}

char *
peer_run(const char *program, const char *arguments)
{
	Process process = start(program, arguments);
	char *text = calloc(1, LINE);

	if (fgets(text, LINE, process.from) != NULL)
		text[strcspn(text, "\n")] = '\0';
	end(&process, program);
	return text;
}

PeerResult
peer_load(const char *program, const char *arguments, int processes)
{
	Process running[MAX_PROCESSES];
	PeerResult result = {0, 0};
	char line[LINE];

	if (processes > MAX_PROCESSES)
		fail("more than %d processes", MAX_PROCESSES);
	for (int i = 0; i < processes; i++)
		running[i] = start(program, arguments);
	for (int i = 0; i < processes; i++)
		if (fgets(line, LINE, running[i].from) == NULL || strcmp(line, "ready\n") != 0)
			fail("%s.mjs did not start", program);
	for (int i = 0; i < processes; i++)
	{
		fputs("go\n", running[i].to);
		fflush(running[i].to);
	}
	for (int i = 0; i < processes; i++)
	{
		int64_t within;
		int64_t finished;
		double seconds;

		if (fgets(line, LINE, running[i].from) == NULL ||
			sscanf(line, "%" SCNd64 " %lf %" SCNd64, &within, &seconds, &finished) != 3)
			fail("%s.mjs gave no figures", program);
		result.per_second += seconds > 0 ? within / seconds : 0;
		result.finished += finished;
		end(&running[i], program);
	}
	return result;
}
