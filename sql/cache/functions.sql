-- The cache's functions and views.

-- ---- values ----

CREATE OR REPLACE FUNCTION eduai.cache_set(
	key text, value jsonb, ttl interval DEFAULT NULL, tags text[] DEFAULT '{}',
	kind text DEFAULT 'default', built_at pg_snapshot DEFAULT NULL) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_cache_set' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_set(text, jsonb, interval, text[], text, pg_snapshot) IS
'Keeps a value for the session''s tenant under a key of 1 to 1024 bytes; true when it was stored. Others see it at once, also when this transaction rolls back later: so false, and nothing is stored, in a transaction that has written anything, whatever it wrote, for nobody knows what the value was computed from. Also false when a value that was read later stands there, when the key, a tag or a pattern was deleted since the value was read, for a value larger than a quarter of eduai.cache_size, and without preload: a cache may always say no.
ttl: 1 ms to 10 years, on the monotonic clock; NULL: the kind''s. tags: up to 32 of 1 to 256 bytes; when the tenant deletes one, or a row that carries it changes (cache_watch()), whoever sees the change no longer sees the value. kind: default, query, recommendations, progress, hierarchy, or one of define_cache_kind(). built_at: pg_current_snapshot() taken in the statement that read what the value was made of; without it, this statement''s snapshot counts.
Errors: 22004 null key, value or kind; 22023 bad key, ttl, tag or kind; UE012 tenant. Role: eduai_app. Example: SELECT eduai.cache_set(''progress:7'', ''{"level": 3}'', ''10 min'', ''{student:7}'', ''progress'');';

CREATE OR REPLACE FUNCTION eduai.cache_get(key text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_cache_get' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION eduai.cache_get(text) IS
'The value under the key of the session''s tenant; NULL on a miss, after its time, and without preload. Errors: 22023 for a key of 0 or more than 1024 bytes, UE012 tenant. Role: eduai_app. Example: SELECT eduai.cache_get(''progress:7'');';

CREATE OR REPLACE FUNCTION eduai.cache_lookup(key text) RETURNS eduai.lookup
	AS 'MODULE_PATHNAME', 'eduai_cache_lookup' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION eduai.cache_lookup(text) IS
'The same as cache_get(), and whether there was a value. Errors: as eduai.cache_get(). Role: eduai_app. Example: SELECT * FROM eduai.cache_lookup(''progress:7'');';

CREATE OR REPLACE FUNCTION eduai.cache_mget(keys text[]) RETURNS SETOF eduai.cache_entry
	AS 'MODULE_PATHNAME', 'eduai_cache_mget' LANGUAGE C VOLATILE STRICT ROWS 100 PARALLEL RESTRICTED;
COMMENT ON FUNCTION eduai.cache_mget(text[]) IS
'A row for each key, in their order, repeated ones repeated; the value is NULL on a miss and for a null key. Errors: as eduai.cache_get(). Role: eduai_app. Example: SELECT * FROM eduai.cache_mget(ARRAY[''progress:7'', ''progress:8'']);';

CREATE OR REPLACE FUNCTION eduai.cache_delete(key text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_cache_delete' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_delete(text) IS
'Deletes a value; whether there was one. It takes effect at once and again at commit, and a value that was read before it is not stored after it. Errors: as eduai.cache_get(). Role: eduai_app. Example: SELECT eduai.cache_delete(''progress:7'');';

CREATE OR REPLACE FUNCTION eduai.cache_delete_tag(tag text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_cache_delete_tag' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_delete_tag(text) IS
'Deletes the tenant''s values that have exactly this tag; their number. Like a row that carries the tag, it counts as written by this transaction: older snapshots and newer ones do not share values across it. Looks at every value in the cache. Errors: 22023 for a tag of 0 or more than 256 bytes, UE012 tenant. Role: eduai_app. Example: SELECT eduai.cache_delete_tag(''student:7'');';

CREATE OR REPLACE FUNCTION eduai.cache_delete_pattern(pattern text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_cache_delete_pattern' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_delete_pattern(text) IS
'Deletes the tenant''s values set by hand whose whole key matches, and returns their number: "*" stands for any run of characters, "?" for one; nothing escapes them. It takes effect at once and again at commit, and what was read before it is not stored after it. Looks at every value in the cache. Errors: 22023 for a pattern of 0 or more than 256 bytes, UE012 tenant. Role: eduai_app. Example: SELECT eduai.cache_delete_pattern(''student:7:*'');';

CREATE OR REPLACE FUNCTION eduai.cache_clear() RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_cache_clear' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_clear() IS
'Deletes all values of the tenant in this database, cached_query()''s too; their number. The database''s dictionaries are made anew. Errors: UE012 tenant. Role: eduai_app. Example: SELECT eduai.cache_clear();';

CREATE OR REPLACE FUNCTION eduai.define_cache_kind(
	name text, ttl interval, max_entries int DEFAULT NULL, train boolean DEFAULT true) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_define_cache_kind' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.define_cache_kind(text, interval, int, boolean) IS
'Defines a kind of cached values, or changes one, for all tenants; values stored from then on follow it. ttl: how long they last, 1 ms to 10 years. max_entries: how many there are at most in the database; NULL: eduai.cache_max_entries. train: whether a dictionary for compression may be made of values of the kind; it lies in shared memory as long as a value needs it. Errors: 22004 null name or ttl, 22023 bad name, ttl or number. Role: eduai_admin. Example: SELECT eduai.define_cache_kind(''dashboard'', ''30 s'', 200);';

CREATE OR REPLACE FUNCTION eduai.cache_stats_rows() RETURNS SETOF eduai.cache_stats_row
	AS 'MODULE_PATHNAME', 'eduai_cache_stats' LANGUAGE C VOLATILE STRICT ROWS 10 PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_stats_rows() IS
'The rows of the view eduai.cache_stats. Role: eduai_admin, eduai_app, eduai_reader. Example: SELECT * FROM eduai.cache_stats_rows();';

CREATE OR REPLACE FUNCTION eduai.cache_memory() RETURNS eduai.cache_memory
	AS 'MODULE_PATHNAME', 'eduai_cache_memory' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_memory() IS
'The account of the cache''s shared memory, of all databases: size_bytes is eduai.cache_size, of which overhead_bytes serve to find values and the rest lies in blocks, used or free; NULL without preload. Role: eduai_admin, eduai_reader. Example: SELECT * FROM eduai.cache_memory();';

CREATE OR REPLACE FUNCTION eduai.simulate_cache(
	algorithm text, scenario jsonb DEFAULT '{}', seed bigint DEFAULT 1) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_simulate_cache' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.simulate_cache(text, jsonb, bigint) IS
'How often a cache of values of one size would hit, by the cache''s own eviction code over a seeded trace: {requests, hits, hit_ratio}. algorithm: s3fifo or lru. scenario: requests (1000000), keys (100000), capacity in values (10000), zipf (the exponent, 1; 0: all keys alike), scan_every and scan_length (0: none): after so many requests a run of so many keys that nobody else asks for. Errors: 22023 bad algorithm or scenario. Role: eduai_admin. Example: SELECT eduai.simulate_cache(''lru'', ''{"zipf": 0.8, "scan_every": 100000, "scan_length": 20000}'');';

CREATE OR REPLACE VIEW eduai.cache_stats AS SELECT * FROM eduai.cache_stats_rows();
COMMENT ON VIEW eduai.cache_stats IS
'Each kind of cached values in this database, all tenants together. entries: what is there, expired ones too until somebody looks or they give way. hits, misses, hit_ratio: since the server started, counted when transactions end; a miss of a key that is not there counts for the kind that the session then sets it with, else for default. computations: how often cached_query() ran its query. stale_refused: misses because the reader''s snapshot may not see the value. evictions: gave way to others. expirations: found past their time. invalidations: deleted by key, tag, pattern or cache_clear(). bytes: memory they take; raw_bytes: the values'' size as they were set; packed_bytes: as they are stored.';

REVOKE ALL ON FUNCTION eduai.cache_set(text, jsonb, interval, text[], text, pg_snapshot),
	eduai.cache_get(text), eduai.cache_lookup(text), eduai.cache_mget(text[]),
	eduai.cache_delete(text), eduai.cache_delete_tag(text), eduai.cache_delete_pattern(text),
	eduai.cache_clear(), eduai.define_cache_kind(text, interval, int, boolean),
	eduai.cache_stats_rows(), eduai.cache_memory(),
	eduai.simulate_cache(text, jsonb, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.cache_set(text, jsonb, interval, text[], text, pg_snapshot),
	eduai.cache_get(text), eduai.cache_lookup(text), eduai.cache_mget(text[]),
	eduai.cache_delete(text), eduai.cache_delete_tag(text), eduai.cache_delete_pattern(text),
	eduai.cache_clear() TO eduai_app;
GRANT EXECUTE ON FUNCTION eduai.define_cache_kind(text, interval, int, boolean),
	eduai.simulate_cache(text, jsonb, bigint) TO eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.cache_stats_rows() TO eduai_admin, eduai_app, eduai_reader;
GRANT EXECUTE ON FUNCTION eduai.cache_memory() TO eduai_admin, eduai_reader;
GRANT SELECT ON eduai.cache_stats TO eduai_admin, eduai_app, eduai_reader;
COMMENT ON TABLE eduai.cache_kind IS 'Kinds of cached values that define_cache_kind() made or changed; the others are built in.';
GRANT SELECT ON eduai.cache_kind TO eduai_admin;

-- ---- queries ----

CREATE OR REPLACE FUNCTION eduai.cached_query(
	query text, params text[] DEFAULT '{}', ttl interval DEFAULT NULL,
	tags text[] DEFAULT '{}', kind text DEFAULT 'query') RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_cached_query' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cached_query(text, text[], interval, text[], text) IS
'The rows of a SELECT as a JSON array, run with the caller''s rights in the calling statement''s snapshot, or what such a run gave before: what is returned equals what the query would return now. Who writes a table that the query reads, in whatever way, who changes definitions, rights or policies, and who wrote in this very transaction, gets it computed again. Many sessions that want the same at once compute it once.
query: one SELECT; it may read tables, views, materialized views and partitioned tables. params: $1, $2 …, typed from the context like unknown literals. ttl: 1 ms to 10 years; NULL: the kind''s. tags: for cache_delete_tag(); none is needed for tables. Where a table is watched by cache_watch() and the query reads only rows whose columns equal parameters or literals, it depends on these rows'' tag instead of the whole table. kind: see cache_set(). In SERIALIZABLE, on a standby and without preload it always computes.
Errors: 22023 for what cannot be cached (anything but one SELECT, volatile functions, the current time, stable functions of users that cache_allow_function() does not know, temporary and foreign tables, system catalogs, FOR UPDATE) and for a wrong number of parameters; 42P18 parameter without a type; 22004 nulls; UE012 tenant; what the query itself raises. Role: eduai_app. Example: SELECT eduai.cached_query(''SELECT skill, mastery FROM progress WHERE student_id = $1'', ARRAY[''7''], kind => ''progress'');';

CREATE OR REPLACE FUNCTION eduai.cache_watch_trigger() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eduai_cache_watch_trigger' LANGUAGE C;
COMMENT ON FUNCTION eduai.cache_watch_trigger() IS
'The trigger that eduai.cache_watch() makes. Role: eduai_app, who owns a watched table. Example: SELECT eduai.cache_watch(''progress'', ''{student:{student_id}}'');';

CREATE OR REPLACE FUNCTION eduai.cache_watch(tbl regclass, tags text[] DEFAULT '{}') RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_cache_watch' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_watch(regclass, text[]) IS
'Makes row tags of a table: who inserts, updates or deletes a row, or truncates the table, invalidates the values with the tags of the old and of the new row, when the transaction commits. cached_query() needs no watch for the tables that it reads; with one it depends on the rows of one pupil instead of on the whole table.
tags: up to 16; "student:{student_id}" stands for the column''s value and begins with a family and a colon; without braces it is a tag of all rows. They take the place of the tags that the table had; an empty array takes the watch away. A NULL column makes no tag. A transaction that writes more than 256 different tags invalidates all tags of their families. Makes a trigger, ENABLE ALWAYS, on the table and its partitions.
Errors: 42501 for who does not own the table; 42809 for what is no table or a temporary one; 22023 bad tag; 42703 unknown column. Role: eduai_app. Example: SELECT eduai.cache_watch(''progress'', ARRAY[''student:{student_id}'']);';

CREATE OR REPLACE FUNCTION eduai.cache_allow_function(function regprocedure, tables regclass[] DEFAULT '{}') RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_cache_allow_function' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_allow_function(regprocedure, regclass[]) IS
'Says that a stable function, or an aggregate, reads these tables and nothing else that changes (neither time nor settings), so that cached queries may call it: they then depend on the tables. It is believed: a wrong list makes stale values. tables: tables, partitioned tables, materialized views; with inheritance, the children too. NULL takes it back. Errors: 42501 for who does not own the function; 22023 for a volatile one; 42809 for what is no table; 22004. Role: eduai_app. Example: SELECT eduai.cache_allow_function(''app.level_of(text)'', ARRAY[''app.progress'']::regclass[]);';

CREATE OR REPLACE FUNCTION eduai.cache_advice_rows() RETURNS SETOF eduai.cache_advice_row
	AS 'MODULE_PATHNAME', 'eduai_cache_advice' LANGUAGE C VOLATILE STRICT ROWS 100 PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cache_advice_rows() IS
'The rows of the view eduai.cache_advice. Errors: UE012 tenant. Role: eduai_admin, eduai_reader. Example: SELECT * FROM eduai.cache_advice_rows();';

CREATE OR REPLACE VIEW eduai.cache_advice AS
SELECT query, kind, calls, hits,
	CASE WHEN calls > 0 THEN hits::double precision / calls END AS hit_ratio,
	calls - hits AS computations, total_ms,
	CASE WHEN calls > hits THEN total_ms / (calls - hits) END AS mean_ms, max_ms,
	CASE WHEN calls > hits THEN hits * total_ms / (calls - hits) END AS saved_ms,
	absent, expired, stale_refused, bypassed, not_stored, evictions, invalidations, entries, bytes,
	CASE
		WHEN calls < 20 THEN 'too few calls to tell'
		WHEN hits * 2 >= calls AND total_ms < 0.05 * (calls - hits) THEN 'hits, but the query costs little more than a hit'
		WHEN hits * 2 >= calls THEN 'worth caching'
		WHEN not_stored * 2 > calls - hits AND bypassed * 2 <= calls - hits THEN 'not stored: larger than a quarter of the cache, or overtaken by writes and definitions each time'
		WHEN bypassed >= greatest(absent, expired, stale_refused) THEN 'bypassed: called in SERIALIZABLE, on a standby, after writes of the same transaction, or reads too many tables'
		WHEN stale_refused >= greatest(absent, expired) THEN 'invalidated by writes: depend on rows instead of tables (cache_watch), or do not cache it'
		WHEN expired >= absent THEN 'expires before it is asked for again: a longer ttl'
		WHEN invalidations >= evictions AND invalidations * 2 > absent THEN 'deleted before it is asked for again'
		WHEN evictions * 2 > absent THEN 'gives way before it is asked for again: more entries of the kind, or a larger eduai.cache_size'
		ELSE 'seldom asked for twice with the same parameters'
	END AS advice
FROM eduai.cache_advice_rows();
COMMENT ON VIEW eduai.cache_advice IS
'What each query text given to cached_query() by the session''s tenant costs and brings, since the server started; 512 texts of the server, in sets of eight, of which the one called longest ago gives way. query: as the callers gave it, its first 1023 bytes, never parameters. calls: hits (also those that waited for another''s computation) and computations; a call that failed is not counted. total_ms, mean_ms, max_ms: of its computations; saved_ms: hits times mean_ms. Why it was computed: absent (no value with these parameters was there), expired, stale_refused (what it reads was written), bypassed (SERIALIZABLE, a standby, own writes, too many tables). not_stored: computations whose result was not kept. evictions, invalidations: its values that gave way, or were deleted by tag or cache_clear(). entries, bytes: what it has in the cache now. advice: a sentence from these numbers. The tenant''s erasures empty it, since texts may have literals.';

CREATE OR REPLACE FUNCTION eduai.test_cache_computed() RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_test_cache_computed' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_cache_computed() IS
'For tests: how often cached_query() ran its query in this session. Role: superuser. Example: SELECT eduai.test_cache_computed();';

REVOKE ALL ON FUNCTION eduai.cache_advice_rows(), eduai.test_cache_computed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.cache_advice_rows() TO eduai_admin, eduai_reader;
GRANT SELECT ON eduai.cache_advice TO eduai_admin, eduai_reader;
REVOKE ALL ON FUNCTION eduai.cached_query(text, text[], interval, text[], text), eduai.cache_watch_trigger(),
	eduai.cache_watch(regclass, text[]), eduai.cache_allow_function(regprocedure, regclass[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.cached_query(text, text[], interval, text[], text), eduai.cache_watch_trigger(),
	eduai.cache_watch(regclass, text[]), eduai.cache_allow_function(regprocedure, regclass[]) TO eduai_app;
COMMENT ON TABLE eduai.cache_function IS 'Functions that cache_allow_function() lets cached queries call, and the tables they read.';
GRANT SELECT ON eduai.cache_function TO eduai_admin;
