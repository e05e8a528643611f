/*
 * keyring.c: the newest key of each provider; see keyring.h.
 *
 * Entries are of the process, not of a fleet: a fleet may be gone while calls
 * of it are still refused.  Keys that are replaced are overwritten.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <time.h>

#include "core/clock.h"
#include "core/health.h"
#include "core/plan.h"
#include "core/seal.h"
#include "gateway/keyref.h"
#include "gateway/keyring.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define LOOK_PERIOD_US   (5 * INT64CONST(1000000))
#define REREAD_PERIOD_US INT64CONST(1000000)
#define YOUNG_SECONDS    2

typedef struct KeyringEntry
{
	char provider[NAMEDATALEN]; /* hash key */
	char *kind;
	char *base_url;
	char *key_ref; /* NULL: no key */
	char *key;     /* NULL: none, or it could not be had */
	char *error;   /* why not */
	struct stat file;
	bool file_settled; /* "file" is what the key was read from */
	int64 reread_us;   /* monotonic, when a refusal made us read it last */
	bool listed;       /* in the fleet being noted */
} KeyringEntry;

static HTAB *keyring = NULL;
static int64 next_look_us = 0;

static void
open_keyring(void)
{
	HASHCTL info = {0};

	if (keyring != NULL)
		return;
	info.keysize = NAMEDATALEN;
	info.entrysize = sizeof(KeyringEntry);
	info.hcxt = TopMemoryContext;
	keyring = hash_create("eduai keyring", 32, &info, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static KeyringEntry *
find(const char *provider)
{
	return keyring != NULL ? hash_search(keyring, provider, HASH_FIND, NULL) : NULL;
}

/* ---- entries ---- */

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* In memory that lives as long as the process; what was there is overwritten. */
static void
keep(char **slot, const char *text)
{
	char *copy = text != NULL ? MemoryContextStrdup(TopMemoryContext, text) : NULL;

	if (*slot != NULL)
	{
		eduai_core_seal_wipe(*slot);
		pfree(*slot);
	}
	*slot = copy;
}

static const char *
file_of(const KeyringEntry *entry)
{
	return eduai_gateway_keyref_is_file(entry->key_ref) ? strchr(entry->key_ref, ':') + 1 : NULL;
}

/*
 * The file was read just before.  One that changed just before that may have
 * changed again since, within the same tick of its times.
 */
static void
remember_file(KeyringEntry *entry)
{
	const char *path = file_of(entry);

	entry->file_settled = path != NULL && stat(path, &entry->file) == 0 &&
						  entry->file.st_ctim.tv_sec + YOUNG_SECONDS < time(NULL);
}

static bool
is_file_changed(const KeyringEntry *entry)
{
	const struct stat *then = &entry->file;
	const char *path = file_of(entry);
	struct stat now;

	if (path == NULL)
		return false;
	return !entry->file_settled || stat(path, &now) != 0 || now.st_dev != then->st_dev ||
		   now.st_ino != then->st_ino || now.st_size != then->st_size ||
		   now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
		   now.st_mtim.tv_nsec != then->st_mtim.tv_nsec ||
		   now.st_ctim.tv_sec != then->st_ctim.tv_sec ||
		   now.st_ctim.tv_nsec != then->st_ctim.tv_nsec;
}

static void
note(const Provider *provider)
{
	bool found;
	KeyringEntry *entry = hash_search(keyring, provider->name, HASH_ENTER, &found);

	if (!found)
		memset((char *) entry + NAMEDATALEN, 0, sizeof(KeyringEntry) - NAMEDATALEN);
	if (provider->key_error != NULL && !same(entry->error, provider->key_error))
		ereport(LOG, (errmsg("eduai provider \"%s\" cannot be called: %s", provider->name,
							 provider->key_error)));
	keep(&entry->kind, provider->kind);
	keep(&entry->base_url, provider->base_url);
	keep(&entry->key_ref, provider->key_ref);
	keep(&entry->key, provider->api_key);
	keep(&entry->error, provider->key_error);
	remember_file(entry);
	entry->listed = true;
}

static void
forget_unlisted(void)
{
	HASH_SEQ_STATUS scan;
	KeyringEntry *entry;

	hash_seq_init(&scan, keyring);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->listed)
		{
			keep(&entry->kind, NULL);
			keep(&entry->base_url, NULL);
			keep(&entry->key_ref, NULL);
			keep(&entry->key, NULL);
			keep(&entry->error, NULL);
			hash_search(keyring, entry->provider, HASH_REMOVE, NULL);
			continue;
		}
		entry->listed = false;
	}
}

void
eduai_gateway_keyring_note(const Fleet *fleet)
{
	open_keyring();
	for (int i = 0; i < fleet->nproviders; i++)
		note(&fleet->providers[i]);
	forget_unlisted();
}

bool
eduai_gateway_keyring_stale(void)
{
	HASH_SEQ_STATUS scan;
	KeyringEntry *entry;
	bool stale = false;

	if (keyring == NULL || eduai_core_mono_us() < next_look_us)
		return false;
	next_look_us = eduai_core_mono_us() + LOOK_PERIOD_US;
	hash_seq_init(&scan, keyring);
	while ((entry = hash_seq_search(&scan)) != NULL)
		stale = stale || entry->error != NULL || is_file_changed(entry);
	return stale;
}

/* ---- refused calls ---- */

/* A file that is being replaced, or is gone, leaves the key as it was. */
static void
reread(KeyringEntry *entry)
{
	int64 now_us = eduai_core_mono_us();
	char *error;
	char *key;

	if (file_of(entry) == NULL ||
		(entry->reread_us != 0 && now_us - entry->reread_us < REREAD_PERIOD_US))
		return;
	entry->reread_us = now_us;
	key = eduai_gateway_keyref_resolve(entry->key_ref, NULL, NULL, &error);
	if (key == NULL || same(key, entry->key))
		return;
	keep(&entry->key, key);
	eduai_core_seal_wipe(key);
	eduai_gateway_fleet_mark_stale();
}

static Instance *
with_key(const GatewayCall *call, const char *key)
{
	Instance *instance = MemoryContextAlloc(call->context, sizeof(Instance));
	Provider *provider = MemoryContextAlloc(call->context, sizeof(Provider));

	*provider = *call->instance->provider;
	provider->api_key = MemoryContextStrdup(call->context, key);
	*instance = *call->instance;
	instance->provider = provider;
	return instance;
}

bool
eduai_gateway_keyring_renew(GatewayCall *call)
{
	const Provider *used = call->instance->provider;
	KeyringEntry *entry = find(used->name);

	if (used->api_key == NULL || entry == NULL || !same(entry->kind, used->kind) ||
		!same(entry->base_url, used->base_url))
		return false;
	if (same(entry->key, used->api_key))
		reread(entry);
	if (entry->key == NULL || same(entry->key, used->api_key))
		return false;
	call->instance = with_key(call, entry->key);
	return true;
}

/* ---- health ---- */

/*
 * Tried here and now, in the session that asks: the dispatcher may not run at
 * all.  The reason may name a path or a variable, which not every reader of
 * health() may know: it is in the server's log.
 */
static void
report(EduaiHealth *health)
{
	static EduaiPlan keys = {"SELECT p.name, p.base_url, p.key_ref, s.sealed FROM eduai.provider p "
							 "LEFT JOIN eduai.provider_secret s ON s.provider = p.name "
							 "WHERE p.key_ref IS NOT NULL ORDER BY p.name",
							 0,
							 {0}};
	uint64 n = eduai_core_run(&keys, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		char *name = eduai_core_text(i, 1);
		bool isnull;
		Datum sealed = eduai_core_value(i, 4, &isnull);
		char *error;
		char *key = eduai_gateway_keyref_resolve(
			eduai_core_text(i, 3), isnull ? NULL : DatumGetByteaPCopy(sealed),
			eduai_gateway_keyref_context(name, eduai_core_text(i, 2)), &error);

		eduai_core_seal_wipe(key);
		if (key == NULL)
			eduai_core_health_problem(
				health, "provider_key_missing", "warning", 0,
				psprintf("Provider \"%s\" is not called: its key cannot be had.", name),
				"The server's log says why. Mend what the key refers to, or give it again with "
				"eduai.add_provider().");
	}
}

void
eduai_gateway_keyring_init(void)
{
	eduai_core_health_register(report);
}
