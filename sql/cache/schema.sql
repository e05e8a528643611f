-- The cache's state: only what was defined; values are in shared memory.

-- ---- values ----

CREATE TYPE eduai.lookup AS (
	hit boolean,
	value jsonb
);

CREATE TYPE eduai.cache_entry AS (
	key text,
	value jsonb
);

CREATE TYPE eduai.cache_stats_row AS (
	kind text,
	entries bigint,
	hits bigint,
	misses bigint,
	hit_ratio double precision,
	computations bigint,
	stale_refused bigint,
	evictions bigint,
	expirations bigint,
	invalidations bigint,
	bytes bigint,
	raw_bytes bigint,
	packed_bytes bigint
);

CREATE TYPE eduai.cache_memory AS (
	size_bytes bigint,
	overhead_bytes bigint,
	used_bytes bigint,
	free_bytes bigint,
	entries bigint,
	dictionaries int
);

-- What define_cache_kind() was given; the built-in kinds are in the library
-- (src/cache/kind.c), so that a dump carries only what an administrator changed.
CREATE TABLE eduai.cache_kind (
	name text COLLATE "C" PRIMARY KEY,
	ttl_us bigint NOT NULL CHECK (ttl_us > 0),
	max_entries int CHECK (max_entries > 0),
	train boolean NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('eduai.cache_kind', '');
COMMENT ON TABLE eduai.cache_kind IS
'Kinds of cached values that define_cache_kind() defined or changed. ttl_us in microseconds; max_entries: null for eduai.cache_max_entries; train: whether dictionaries are made of their values.';

-- ---- queries ----

CREATE TYPE eduai.cache_advice_row AS (
	query text,
	kind text,
	calls bigint,
	hits bigint,
	absent bigint,
	expired bigint,
	stale_refused bigint,
	bypassed bigint,
	not_stored bigint,
	evictions bigint,
	invalidations bigint,
	total_ms double precision,
	max_ms double precision,
	entries bigint,
	bytes bigint
);

-- What cache_allow_function() was given: functions by name, and the tables that
-- they read, by name.
CREATE TABLE eduai.cache_function (
	function text COLLATE "C" PRIMARY KEY,
	tables text[] NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('eduai.cache_function', '');
COMMENT ON TABLE eduai.cache_function IS
'Functions that cached queries may call, by name and arguments, and the tables that each reads; filled by cache_allow_function().';
