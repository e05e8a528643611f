/*
 * server_cpu.c: see server_cpu.h.
 */
#include "server_cpu.h"

#include "bench.h"

#include <stdio.h>
#include <string.h>

#define MAX_PROCESSES 4096

typedef struct Process
{
	int pid;
	char title[200];
	double seconds;
} Process;

static Process processes[MAX_PROCESSES];
static int nprocesses = 0;
static int postmaster;

void
server_cpu_open(PGconn *db)
{
	char path[64];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/stat", PQbackendPID(db));
	in = fopen(path, "r");
	if (in == NULL || fscanf(in, "%*d (%*[^)]) %*c %d", &postmaster) != 1)
		fail("cannot read %s", path);
	fclose(in);
	nprocesses = 0;
	server_cpu_sample();
}

static Process *
find_process(int pid)
{
	for (int i = 0; i < nprocesses; i++)
		if (processes[i].pid == pid)
			return &processes[i];
	if (nprocesses == MAX_PROCESSES)
		fail("more than %d processes", MAX_PROCESSES);
	memset(&processes[nprocesses], 0, sizeof(Process));
	processes[nprocesses].pid = pid;
	return &processes[nprocesses++];
}

/* What is gone meanwhile stays as it was. */
static void
look_at(int pid)
{
	Process *process = find_process(pid);
	char path[64];
	FILE *in;
	double ns;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	if ((in = fopen(path, "r")) != NULL)
	{
		if (fscanf(in, "%lf", &ns) == 1)
			process->seconds = ns / 1e9;
		fclose(in);
	}
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if ((in = fopen(path, "r")) != NULL)
	{
		if (fgets(process->title, sizeof(process->title), in) == NULL)
			process->title[0] = '\0';
		fclose(in);
	}
}

void
server_cpu_sample(void)
{
	char path[64];
	FILE *in;
	int pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", postmaster, postmaster);
	in = fopen(path, "r");
	if (in == NULL)
		fail("cannot read %s", path);
	while (fscanf(in, "%d", &pid) == 1)
		look_at(pid);
	fclose(in);
}

double
server_cpu(const char *words)
{
	double seconds = 0;

	for (int i = 0; i < nprocesses; i++)
		if (strstr(processes[i].title, words) != NULL)
			seconds += processes[i].seconds;
	return seconds;
}

double
server_cpu_of(int pid)
{
	return find_process(pid)->seconds;
}
