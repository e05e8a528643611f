/*
 * line.c: the lines of calls that wait for a place; see line.h.
 *
 * A host stands in the list of those that are ready when somebody waits for it
 * and it may have one more transfer under way.  Hosts are never forgotten:
 * only administrators name them.
 */
#include "postgres.h"

#include "gateway/address.h"
#include "gateway/fleet.h"
#include "gateway/line.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define MAX_RESOLVING 32

typedef struct Host
{
	char authority[256]; /* hash key: "https://api.example.com:8443" */
	bool literal;        /* an address: nothing to look up */
	int resolving;
	dlist_head waiting;
	dlist_node node; /* in "ready" */
	bool is_ready;
} Host;

static HTAB *hosts = NULL;
static dlist_head ready = DLIST_STATIC_INIT(ready);

static void
update(Host *host)
{
	bool now =
		!dlist_is_empty(&host->waiting) && (host->literal || host->resolving < MAX_RESOLVING);

	if (now && !host->is_ready)
		dlist_push_tail(&ready, &host->node);
	else if (!now && host->is_ready)
		dlist_delete(&host->node);
	host->is_ready = now;
}

/* "https://host:port" of a base URL, which add_provider() has put into normal form. */
static void
copy_authority(const char *base_url, char *authority)
{
	const char *host = strstr(base_url, "://");
	size_t length = host == NULL ? strlen(base_url) : host + 3 - base_url + strcspn(host + 3, "/");

	strlcpy(authority, base_url, Min(length + 1, sizeof(((Host *) NULL)->authority)));
}

static bool
is_literal(const char *authority)
{
	const char *host = strstr(authority, "://");
	char name[256];
	AddressClass class;

	if (host == NULL)
		return false;
	strlcpy(name, host + 3, sizeof(name));
	if (name[0] != '[')
		name[strcspn(name, ":")] = '\0';
	return eduai_gateway_address_parse(name, &class);
}

static Host *
host_of(const char *base_url)
{
	char key[sizeof(((Host *) NULL)->authority)];
	Host *host;
	bool found;

	if (hosts == NULL)
	{
		HASHCTL info = {0};

		info.keysize = sizeof(key);
		info.entrysize = sizeof(Host);
		info.hcxt = TopMemoryContext;
		hosts = hash_create("eduai hosts", 32, &info, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	copy_authority(base_url, key);
	host = hash_search(hosts, key, HASH_ENTER, &found);
	if (!found)
	{
		host->literal = is_literal(key);
		host->resolving = 0;
		host->is_ready = false;
		dlist_init(&host->waiting);
	}
	return host;
}

void
eduai_gateway_line_join(Transfer *t)
{
	t->host = host_of(t->call->instance->provider->base_url);
	dlist_push_tail(&t->host->waiting, &t->node);
	update(t->host);
}

void
eduai_gateway_line_leave(Transfer *t)
{
	dlist_delete(&t->node);
	update(t->host);
}

Transfer *
eduai_gateway_line_next(void)
{
	Host *host;
	Transfer *t;

	if (dlist_is_empty(&ready))
		return NULL;
	host = dlist_container(Host, node, dlist_pop_head_node(&ready));
	host->is_ready = false;
	t = dlist_container(Transfer, node, dlist_pop_head_node(&host->waiting));
	t->resolving = true;
	host->resolving++;
	/* to the end of the list, if it may go on */
	update(host);
	return t;
}

void
eduai_gateway_line_resolved(Transfer *t)
{
	if (!t->resolving)
		return;
	t->resolving = false;
	t->host->resolving--;
	update(t->host);
}

bool
eduai_gateway_line_is_same_host(const char *base_url, const char *other)
{
	char authority[sizeof(((Host *) NULL)->authority)];
	char others[sizeof(authority)];

	copy_authority(base_url, authority);
	copy_authority(other, others);
	return strcmp(authority, others) == 0;
}
