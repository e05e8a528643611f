/*
 * load.c: counts per instance.  See load.h.
 */
#include "postgres.h"

#include "gateway/load.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

static HTAB *instances = NULL;

Load *
eduai_gateway_load_of_instance(const char *instance)
{
	char key[NAMEDATALEN] = {0};
	Load *load;
	bool found;

	if (instances == NULL)
	{
		HASHCTL info = {0};

		info.keysize = NAMEDATALEN;
		info.entrysize = sizeof(Load);
		info.hcxt = TopMemoryContext;
		instances =
			hash_create("eduai instances", 64, &info, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(key, instance, sizeof(key));
	load = hash_search(instances, key, HASH_ENTER, &found);
	if (!found)
		load->running = load->pending = 0;
	return load;
}

void
eduai_gateway_load_settle(bool committed)
{
	HASH_SEQ_STATUS scan;
	Load *load;

	if (instances == NULL)
		return;
	hash_seq_init(&scan, instances);
	while ((load = hash_seq_search(&scan)) != NULL)
	{
		if (!committed)
			load->running -= load->pending;
		load->pending = 0;
	}
}
