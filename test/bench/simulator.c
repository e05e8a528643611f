/*
 * simulator.c: see simulator.h.
 */
#include "simulator.h"

#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 10000

const char *
simulator_url(const char *path)
{
	static char url[512];

	snprintf(url, sizeof(url), "%s%s", required_env("SIMULATOR_URL"), path);
	return url;
}

void
simulator_reset(void)
{
	free(http(simulator_url("/_sim/reset"), "{}"));
}

void
simulator_behave(const char *model, const char *behaviour)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"model\": \"%s\", \"behaviour\": \"%s\"}", model, behaviour);
	free(http(simulator_url("/_sim/default"), body));
}

/* The number behind a key that stands before a place of the journal, within its entry. */
static int64_t
number_before(const char *journal, const char *at, const char *key)
{
	while (at > journal && strncmp(at, key, strlen(key)) != 0)
		at--;
	return atoll(at + strlen(key));
}

int64_t
simulator_arrival(const char *nonce, int64_t *after)
{
	char path[128];
	char key[96] = "\"user\":";
	char *journal;
	char *entry;
	int64_t arrival = 0;

	if (nonce != NULL)
		snprintf(key, sizeof(key), "\"user\":\"%s\"", nonce);
	snprintf(path, sizeof(path), "/_sim/journal?after=%" PRId64 "&limit=%d", *after, PAGE);
	journal = http(simulator_url(path), NULL);
	entry = strstr(journal, key);
	if (entry != NULL)
	{
		/* the entry's own fields stand before its user */
		arrival = number_before(journal, entry, "\"arrival_us\":");
		*after = number_before(journal, entry, "\"seq\":");
	}
	free(journal);
	return arrival;
}

int64_t
simulator_await(const char *nonce, int64_t *after, int timeout_ms)
{
	int64_t give_up = wall_us() + (int64_t) timeout_ms * 1000;
	int64_t arrival;

	while ((arrival = simulator_arrival(nonce, after)) == 0)
	{
		if (wall_us() > give_up)
			fail("request %s did not arrive within %d ms", nonce ? nonce : "", timeout_ms);
		usleep(2000);
	}
	return arrival;
}

int64_t
simulator_last(void)
{
	int64_t last = 0;
	int64_t seen;

	do
	{
		char path[128];
		char *journal;

		seen = last;
		snprintf(path, sizeof(path), "/_sim/journal?after=%" PRId64 "&limit=%d", last, PAGE);
		journal = http(simulator_url(path), NULL);
		for (char *at = journal; (at = strstr(at, "\"seq\":")) != NULL; at++)
			last = atoll(at + 6);
		free(journal);
	} while (last != seen);
	return last;
}

void
add_simulated_instance(PGconn *db, const char *name, const char *model, int at_once)
{
	char sql[1024];

	snprintf(sql, sizeof(sql),
			 "SELECT eduai.add_provider('simulator', 'openai', '%s', NULL,"
			 " '{\"allow_loopback\": true}')"
			 " WHERE NOT EXISTS (SELECT FROM eduai.provider WHERE name = 'simulator')",
			 simulator_url("/v1"));
	run(db, sql);
	snprintf(sql, sizeof(sql),
			 "SELECT eduai.add_instance('%s', 'simulator', '%s', '{chat}', max_concurrent => %d,"
			 " price_input => 0.15, price_output => 0.60, options =>"
			 " '{\"first_byte_ms\": 120000, \"stall_ms\": 120000, \"timeout_ms\": 240000}')",
			 name, model, at_once);
	run(db, sql);
}
