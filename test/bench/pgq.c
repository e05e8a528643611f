/*
 * pgq.c: PgQ as a peer.  See pgq.h.
 */
#include "pgq.h"

#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

pid_t
start_pgq(PGconn *db)
{
	PGresult *result = PQexec(db, "CREATE EXTENSION pgq");
	pid_t pid;

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		printf("pgq: skipped: %s", PQerrorMessage(db));
		PQclear(result);
		return 0;
	}
	PQclear(result);
	run(db, "SELECT pgq.create_queue('bench')");
	printf("pgq: version %s\n",
		   ask(db, "SELECT extversion FROM pg_extension WHERE extname = 'pgq'"));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		PGconn *own = connect_db();

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;; usleep(100000))
			run(own, "SELECT pgq.ticker()");
	}
	return pid;
}
