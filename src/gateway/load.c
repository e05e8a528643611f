/*
 * load.c: counts of what runs.  See load.h.
 */
#include "postgres.h"

#include "gateway/load.h"
#include "utils/hsearch.h"

static Load *
find(HTAB **table, const char *what, const char *name)
{
	char key[NAMEDATALEN] = {0};
	bool found;
	Load *load;

	if (*table == NULL)
	{
		HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(Load)};

		*table = hash_create(what, 64, &control, HASH_ELEM | HASH_STRINGS);
	}
	/* names of pools and instances are shorter than NAMEDATALEN */
	strlcpy(key, name, NAMEDATALEN);
	load = hash_search(*table, key, HASH_ENTER, &found);
	if (!found)
	{
		load->running = 0;
		load->critical = 0;
	}
	return load;
}

Load *
eduai_gateway_load_of_pool(const char *pool)
{
	static HTAB *table = NULL;

	return find(&table, "eduai pools", pool);
}

Load *
eduai_gateway_load_of_instance(const char *instance)
{
	static HTAB *table = NULL;

	return find(&table, "eduai instances", instance);
}
