/*
 * ledger.c: the ledger of erasures outside the database.  See ledger.h.
 *
 * Lines may stand there twice, after a crash between the file and the commit.
 * The file may be shared by the databases of a server, and by servers: an
 * erasure concerns this database when its key of digests is known here, or the
 * home that it was made at is one of those in eduai.adoption, which a dump
 * carries along.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/file_utils.h"
#include "core/errors.h"
#include "core/health.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "privacy/erase.h"
#include "privacy/ledger.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include <sys/stat.h>
#include <unistd.h>

#define KEY_BYTES 32

PG_FUNCTION_INFO_V1(eduai_export_erasures);
PG_FUNCTION_INFO_V1(eduai_apply_erasures);

static char *ledger_setting = NULL;

/* ---- the file ---- */

/* palloc'd; NULL when there is none. */
static char *
ledger_path(void)
{
	const char *store;

	if (ledger_setting && ledger_setting[0] != '\0')
		return pstrdup(ledger_setting);
	store = GetConfigOption("eduai.key_store", true, false);
	return store && store[0] == '/' ? psprintf("%s.erasures", store) : NULL;
}

static void
raise_file(const char *what)
{
	ereport(ERROR,
			(errcode_for_file_access(), errmsg("could not %s the ledger of erasures: %m", what),
			 errhint("See eduai.erasure_ledger and eduai.key_store.")));
}

static void
append_to_file(const char *path, const StringInfoData *lines)
{
	char *directory;
	int fd = OpenTransientFilePerm(path, O_WRONLY | O_APPEND | O_CREAT | PG_BINARY, 0600);

	if (fd < 0)
		raise_file("open");
	errno = 0;
	if (write(fd, lines->data, lines->len) != lines->len)
	{
		if (errno == 0)
			errno = ENOSPC;
		raise_file("write to");
	}
	if (pg_fsync(fd) != 0)
		raise_file("flush");
	if (CloseTransientFile(fd) != 0)
		raise_file("close");
	/* the file's name, if it is new */
	directory = pstrdup(path);
	get_parent_directory(directory);
	fsync_fname(directory[0] ? directory : ".", true);
}

/* The file's bytes; NULL when it is not there. */
static char *
read_file(const char *path)
{
	struct stat status;
	char *bytes;
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	ssize_t got = 0;

	if (fd < 0 && errno == ENOENT)
		return NULL;
	if (fd < 0 || fstat(fd, &status) != 0)
		raise_file("read");
	bytes = MemoryContextAllocHuge(CurrentMemoryContext, status.st_size + 1);
	while (got < status.st_size)
	{
		ssize_t n = read(fd, bytes + got, status.st_size - got);

		if (n < 0)
			raise_file("read");
		if (n == 0)
			break;
		got += n;
	}
	bytes[got] = '\0';
	CloseTransientFile(fd);
	return bytes;
}

/* ---- entries ---- */

typedef struct LedgerKey
{
	pg_uuid_t id;
	char *id_text;
	uint8 *key;
	char *created_at;
} LedgerKey;

typedef struct LedgerEntry
{
	char ref[EDUAI_ERASED_REF + 1]; /* the key of the table: with the tenant's, see find_entry() */
	char *tenant;
	char *key_id;
	char *requested_at;
	char *reason;
	char *home;
	int32 probe;
	bool known; /* the database has it */
} LedgerEntry;

typedef struct Ledger
{
	LedgerKey *keys;
	int nkeys;
	HTAB *entries; /* by ref: 128 bits of a digest that includes the tenant */
} Ledger;

static Ledger *
new_ledger(void)
{
	HASHCTL info = {.keysize = EDUAI_ERASED_REF + 1,
					.entrysize = sizeof(LedgerEntry),
					.hcxt = CurrentMemoryContext};
	Ledger *ledger = palloc0(sizeof(Ledger));

	ledger->entries =
		hash_create("eduai ledger", 1024, &info, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	return ledger;
}

static void __attribute__((noreturn)) refuse_ledger(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid ledger of erasures: %s", what),
					errhint("Give what eduai.export_erasures() returned.")));
}

static uint8 *
read_secret(const Jsonb *line, const pg_uuid_t *id)
{
	char *secret = eduai_core_json_text(line, "secret");
	bool sealed = false;
	bytea *bytes;
	int length;

	(void) eduai_core_json_bool(line, "sealed", &sealed);
	if (secret == NULL)
		refuse_ledger("a key has no secret");
	bytes = palloc(VARHDRSZ + pg_b64_dec_len((int) strlen(secret)));
	length = pg_b64_decode(secret, (int) strlen(secret), VARDATA(bytes),
						   pg_b64_dec_len((int) strlen(secret)));
	if (length < 0)
		refuse_ledger("a key's secret is not base64");
	SET_VARSIZE(bytes, VARHDRSZ + length);
	return eduai_privacy_erasure_key_open(id, sealed, bytes);
}

static void
take_key(Ledger *ledger, const Jsonb *line, bool open)
{
	LedgerKey key = {.id_text = eduai_core_json_text(line, "key_id"),
					 .created_at = eduai_core_json_text(line, "created_at")};

	if (key.id_text == NULL)
		refuse_ledger("a key lacks key_id");
	for (int i = 0; i < ledger->nkeys; i++)
		if (strcmp(ledger->keys[i].id_text, key.id_text) == 0)
			return;
	key.id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(key.id_text)));
	if (open)
		key.key = read_secret(line, &key.id);
	ledger->keys = ledger->keys ? repalloc(ledger->keys, sizeof(LedgerKey) * (ledger->nkeys + 1))
								: palloc(sizeof(LedgerKey));
	ledger->keys[ledger->nkeys++] = key;
}

static void
take_entry(Ledger *ledger, const Jsonb *line)
{
	char *ref = eduai_core_json_text(line, "user_ref");
	char *tenant = eduai_core_json_text(line, "tenant");
	int64 probe = 0;
	LedgerEntry *entry;
	bool found;

	if (ref == NULL || strlen(ref) != EDUAI_ERASED_REF || tenant == NULL ||
		!eduai_core_json_int64(line, "probe", &probe) ||
		eduai_core_json_text(line, "key_id") == NULL)
		refuse_ledger("an erasure lacks user_ref, tenant, probe or key_id");
	entry = hash_search(ledger->entries, ref, HASH_ENTER, &found);
	if (found)
		return;
	entry->tenant = tenant;
	entry->key_id = eduai_core_json_text(line, "key_id");
	entry->requested_at = eduai_core_json_text(line, "requested_at");
	entry->reason = eduai_core_json_text(line, "reason");
	entry->home = eduai_core_json_text(line, "home");
	entry->probe = (int32) probe;
	entry->known = false;
}

static void
take_line(Ledger *ledger, const Jsonb *line, bool open)
{
	if (line == NULL || !eduai_core_json_is_object(line))
		refuse_ledger("a line is not an object");
	if (eduai_core_json_text(line, "secret") != NULL)
		take_key(ledger, line, open);
	else
		take_entry(ledger, line);
}

/* The ledger outside; NULL without one.  A last line that a crash cut short is passed over. */
static Ledger *
read_ledger(bool open)
{
	char *path = ledger_path();
	char *bytes = path ? read_file(path) : NULL;
	Ledger *ledger;

	if (bytes == NULL)
		return NULL;
	ledger = new_ledger();
	for (char *at = bytes; *at != '\0';)
	{
		char *end = strchr(at, '\n');
		char *why = NULL;
		Jsonb *line;

		if (end == NULL)
			break;
		line = eduai_core_json_parse_bytes(at, end - at, &why);
		if (line != NULL)
			take_line(ledger, line, open);
		at = end + 1;
	}
	return ledger;
}

/* ---- the database's side ---- */

static EduaiPlan all_keys = {
	"SELECT jsonb_build_object('key_id', k.key_id, 'created_at', k.created_at, 'sealed', k.sealed,"
	" 'secret', translate(encode(k.secret, 'base64'), E'\\n', '')) FROM eduai.erasure_key k"
	" ORDER BY k.created_at, k.key_id",
	0};
#define ENTRY                                                                               \
	"jsonb_build_object('user_ref', e.user_ref, 'tenant', e.tenant_id, 'key_id', e.key_id," \
	" 'probe', e.probe, 'requested_at', e.requested_at, 'reason', e.reason, 'home', eduai.home())"
static EduaiPlan new_entries = {
	"UPDATE eduai.erasure e SET noted = true WHERE NOT e.noted RETURNING " ENTRY, 0};
static EduaiPlan all_entries = {
	"SELECT " ENTRY " FROM eduai.erasure e ORDER BY e.requested_at, e.user_ref", 0};

static void
add_lines(StringInfo lines, uint64 n)
{
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Jsonb *line = DatumGetJsonbP(eduai_core_value(i, 1, &isnull));

		appendStringInfo(lines, "%s\n", eduai_core_json_cstring(line));
	}
}

void
eduai_privacy_ledger_write(void)
{
	char *path = ledger_path();
	StringInfoData lines;
	StringInfoData entries;
	uint64 n;

	if (path == NULL)
		return;
	initStringInfo(&lines);
	initStringInfo(&entries);
	n = eduai_core_run_latest(&new_entries, NULL, NULL);
	if (n == 0)
		return;
	add_lines(&entries, n);
	add_lines(&lines, eduai_core_run_latest(&all_keys, NULL, NULL));
	appendBinaryStringInfo(&lines, entries.data, entries.len);
	append_to_file(path, &lines);
}

/* export_erasures() returns jsonb */
Datum
eduai_export_erasures(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	EduaiPrivilege saved;
	EduaiJson j;
	Jsonb *result;
	bool isnull;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "keys");
	n = eduai_core_query(&all_keys, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
		eduai_core_json_put_json(&j, NULL, DatumGetJsonbP(eduai_core_value(i, 1, &isnull)));
	eduai_core_json_close_array(&j);
	eduai_core_json_open_array(&j, "erasures");
	n = eduai_core_query(&all_entries, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
		eduai_core_json_put_json(&j, NULL, DatumGetJsonbP(eduai_core_value(i, 1, &isnull)));
	eduai_core_json_close_array(&j);
	result = eduai_core_json_end(&j);
	result = memcpy(MemoryContextAlloc(caller, VARSIZE(result)), result, VARSIZE(result));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_JSONB_P(result);
}

/* ---- applying ---- */

static EduaiPlan known_refs = {"SELECT e.user_ref FROM eduai.erasure e", 0};
static EduaiPlan keep_key = {"INSERT INTO eduai.erasure_key (key_id, created_at, sealed, secret)"
							 " VALUES ($1, $2::timestamptz, $3, $4) ON CONFLICT DO NOTHING",
							 4,
							 {UUIDOID, TEXTOID, BOOLOID, BYTEAOID}};
static EduaiPlan keep_entry = {
	"INSERT INTO eduai.erasure (tenant_id, user_ref, reason, requested_at, requested_by,"
	" completed_at, probe, key_id, noted) VALUES ($1, $2, $3, $4::timestamptz, $5,"
	" pg_catalog.clock_timestamp(), $6, $7::uuid, true) ON CONFLICT DO NOTHING",
	7,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, NAMEOID, INT4OID, TEXTOID}};

static void
mark_known(Ledger *ledger)
{
	uint64 n = eduai_core_run_latest(&known_refs, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		LedgerEntry *entry = hash_search(ledger->entries, eduai_core_text(i, 1), HASH_FIND, NULL);

		if (entry != NULL)
			entry->known = true;
	}
}

static void
keep_keys(const Ledger *ledger)
{
	for (int i = 0; i < ledger->nkeys; i++)
	{
		const LedgerKey *key = &ledger->keys[i];
		bool sealed;
		bytea *secret = eduai_privacy_erasure_key_close(&key->id, key->key, &sealed);
		Datum args[] = {UUIDPGetDatum(&key->id),
						CStringGetTextDatum(key->created_at ? key->created_at : "now"),
						BoolGetDatum(sealed), PointerGetDatum(secret)};

		eduai_core_run_latest(&keep_key, args, NULL);
	}
	eduai_privacy_erased_reload();
}

typedef struct Match
{
	Ledger *ledger;
	int64 applied;
} Match;

/* A learner of this database whom the ledger may know. */
static void
match_learner(void *arg, const char *tenant, const char *user_id)
{
	Match *match = arg;

	for (int i = 0; i < match->ledger->nkeys; i++)
	{
		const LedgerKey *key = &match->ledger->keys[i];
		EduaiErasedDigest digest;
		LedgerEntry *entry;

		eduai_privacy_digest_under(&key->id, key->key, EDUAI_ERASED_LEARNER, tenant, user_id,
								   &digest);
		entry = hash_search(match->ledger->entries, digest.ref, HASH_FIND, NULL);
		if (entry == NULL || entry->known)
			continue;
		entry->known = true;
		if (eduai_privacy_erase_intend(tenant, user_id, entry->reason, &digest))
			match->applied++;
	}
}

/* Those that nothing is held about here: only to be refused. */
static void
keep_rest(Match *match)
{
	HASH_SEQ_STATUS status;
	LedgerEntry *entry;
	NameData role;

	namestrcpy(&role, GetUserNameFromId(GetSessionUserId(), false));
	hash_seq_init(&status, match->ledger->entries);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		Datum args[] = {CStringGetTextDatum(entry->tenant),
						CStringGetTextDatum(entry->ref),
						entry->reason ? CStringGetTextDatum(entry->reason) : (Datum) 0,
						CStringGetTextDatum(entry->requested_at ? entry->requested_at : "now"),
						NameGetDatum(&role),
						Int32GetDatum(entry->probe),
						CStringGetTextDatum(entry->key_id)};
		char nulls[] = "       ";
		EduaiErasedDigest digest = {.probe = entry->probe};

		if (entry->known)
			continue;
		nulls[2] = entry->reason ? ' ' : 'n';
		eduai_privacy_erased_mark(&digest);
		match->applied += (int64) eduai_core_run_latest(&keep_entry, args, nulls);
	}
}

static int64
apply(Ledger *ledger)
{
	Match match = {ledger, 0};
	const EduaiPersonalStore *store;

	mark_known(ledger);
	keep_keys(ledger);
	for (int i = 0; (store = eduai_core_personal_store(i)) != NULL; i++)
		if (store->learners)
			store->learners(match_learner, &match);
	eduai_privacy_tables_learners(match_learner, &match);
	keep_rest(&match);
	return match.applied;
}

static Ledger *
ledger_of_json(const Jsonb *json)
{
	Jsonb *keys = eduai_core_json_child(json, "keys");
	Jsonb *erasures = eduai_core_json_child(json, "erasures");
	Ledger *ledger = new_ledger();

	if (keys == NULL || erasures == NULL)
		refuse_ledger("it has no keys or no erasures");
	for (int i = 0; i < eduai_core_json_length(keys); i++)
		take_line(ledger, eduai_core_json_element(keys, i), true);
	for (int i = 0; i < eduai_core_json_length(erasures); i++)
		take_line(ledger, eduai_core_json_element(erasures, i), true);
	return ledger;
}

/* apply_erasures(ledger jsonb) returns bigint */
Datum
eduai_apply_erasures(PG_FUNCTION_ARGS)
{
	EduaiPrivilege saved;
	Ledger *ledger;
	int64 applied;

	PreventCommandIfReadOnly("apply_erasures()");
	eduai_core_require_preload("erasure");
	eduai_core_enter(&saved);
	SPI_connect();
	ledger = PG_ARGISNULL(0) ? read_ledger(true) : ledger_of_json(PG_GETARG_JSONB_P(0));
	if (ledger == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("there is no ledger of erasures outside the database"),
						errhint("Set eduai.erasure_ledger, or give what "
								"eduai.export_erasures() returned.")));
	applied = apply(ledger);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(applied);
}

/* ---- health ---- */

static EduaiPlan lineage = {"SELECT k.key_id::text FROM eduai.erasure_key k"
							" UNION ALL SELECT a.home FROM eduai.adoption a",
							0};

/* How many erasures of the ledger concern this database and are not known to it. */
static int64
count_missing(Ledger *ledger)
{
	uint64 n = eduai_core_run_latest(&lineage, NULL, NULL);
	HASH_SEQ_STATUS status;
	LedgerEntry *entry;
	char **mine = palloc(sizeof(char *) * (n + 1));
	int64 missing = 0;

	for (uint64 i = 0; i < n; i++)
		mine[i] = pstrdup(eduai_core_text(i, 1));
	mark_known(ledger);
	hash_seq_init(&status, ledger->entries);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		bool ours = false;

		for (uint64 i = 0; i < n && !ours; i++)
			ours = strcmp(mine[i], entry->key_id) == 0 ||
				   (entry->home && strcmp(mine[i], entry->home) == 0);
		missing += ours && !entry->known;
	}
	return missing;
}

static EduaiPlan failing = {
	"SELECT count(DISTINCT (s.tenant_id, s.user_ref)) FROM eduai.erasure_step s"
	" WHERE s.failures >= 5",
	0};

static void
report(EduaiHealth *health)
{
	Ledger *ledger = read_ledger(false);
	int64 missing = ledger ? count_missing(ledger) : 0;
	int64 stuck;

	if (missing > 0)
		eduai_core_health_problem(
			health, "erasures_missing", "critical", 0,
			psprintf("The ledger outside the database has %lld erasures that this database does "
					 "not know: it was restored to a time before them.",
					 (long long) missing),
			"Run SELECT eduai.apply_erasures() before anybody uses the database.");
	eduai_core_run_latest(&failing, NULL, NULL);
	stuck = eduai_core_int64(0, 1, 0);
	if (stuck > 0)
		eduai_core_health_problem(
			health, "erasures_failing", "warning", 0,
			psprintf("%lld erasures cannot be completed.", (long long) stuck),
			"The errors are in eduai.erasure_status; each is tried again at least once an hour.");
}

void
eduai_privacy_ledger_init(void)
{
	DefineCustomStringVariable(
		"eduai.erasure_ledger", "The file outside the data directory that keeps the erasures.",
		"Empty: the key store's path and \".erasures\"; none without one.", &ledger_setting, "",
		PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	eduai_core_health_register(report);
}
