-- Providers and instances: global, administered by eduai_admin. A change of
-- either tells every dispatcher to load its fleet again, however it was made.

CREATE TABLE eduai.provider (
	name text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 63),
	kind text NOT NULL,
	base_url text NOT NULL,
	key_ref text CHECK (key_ref = 'literal' OR key_ref LIKE 'env:%' OR key_ref LIKE 'file:%'),
	options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	home text NOT NULL
);

COMMENT ON TABLE eduai.provider IS
'A model provider. key_ref says where its key is: env:NAME, file:PATH, or "literal" for eduai.provider_secret; home names the database that recorded it. Written by eduai.add_provider() and eduai.remove_provider().';

-- Not registered with pg_extension_config_dump: a dump never carries a key.
CREATE TABLE eduai.provider_secret (
	provider text PRIMARY KEY REFERENCES eduai.provider ON DELETE CASCADE,
	sealed bytea NOT NULL
);

COMMENT ON TABLE eduai.provider_secret IS
'Literal keys of providers, sealed under the master key (eduai.master_key_file) for the provider''s name and base URL. Granted to nobody and not dumped, so that no dump carries a key. See eduai.reseal_secrets().';

CREATE TABLE eduai.instance (
	name text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 63),
	provider text NOT NULL REFERENCES eduai.provider,
	model text NOT NULL CHECK (octet_length(model) BETWEEN 1 AND 256),
	task_types text[] NOT NULL CHECK (cardinality(task_types) > 0),
	weight int NOT NULL DEFAULT 1 CHECK (weight > 0),
	max_concurrent int NOT NULL DEFAULT 10 CHECK (max_concurrent > 0),
	price_input numeric NOT NULL DEFAULT 0 CHECK (price_input >= 0),
	price_output numeric NOT NULL DEFAULT 0 CHECK (price_output >= 0),
	options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'draining', 'disabled'))
);

COMMENT ON TABLE eduai.instance IS
'A model at a provider, with its task types, share, prices (USD per million tokens) and options. Written by eduai.add_instance(), eduai.set_instance_state() and eduai.remove_instance().';

CREATE INDEX instance_provider_idx ON eduai.instance (provider);

GRANT SELECT ON eduai.provider, eduai.instance TO eduai_admin;

SELECT pg_catalog.pg_extension_config_dump('eduai.provider', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.instance', '');

-- Where this database was when it was adopted: a row per home it ever had in
-- its own or a copied life. Anything but this one stops dispatch.
CREATE TABLE eduai.adoption (
	home text PRIMARY KEY,
	adopted_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE eduai.adoption IS
'Every home that this database was recorded at; dispatch needs its present one to be the only one: see eduai.adopt_database().';
INSERT INTO eduai.adoption (home) VALUES (eduai.home());
SELECT pg_catalog.pg_extension_config_dump('eduai.adoption', '');

-- The ledger: a row per provider call, whatever became of its task.
CREATE TABLE eduai.provider_call (
	tenant_id text COLLATE "C" NOT NULL,
	task_id bigint NOT NULL,
	attempt int NOT NULL,
	hedge boolean NOT NULL DEFAULT false,
	instance text COLLATE "C",
	provider text,
	model text,
	tokens_in bigint,
	tokens_cached bigint,
	tokens_out bigint,
	cost_usd numeric NOT NULL,
	outcome text NOT NULL CHECK (outcome IN ('completed', 'failed', 'cancelled', 'refused', 'uncertain')),
	code text,
	http_status int,
	request_id text,
	started_at timestamptz NOT NULL,
	ms double precision,
	first_byte_ms double precision,
	PRIMARY KEY (tenant_id, task_id, attempt, hedge)
);
COMMENT ON TABLE eduai.provider_call IS
'A row per provider call: completed, failed, cancelled, refused (the answer came after the task had ended) or uncertain (the answer was lost with its process). hedge: the second call of its attempt (eduai.hedge_after).';
CREATE INDEX provider_call_instance ON eduai.provider_call (instance, started_at);
ALTER TABLE eduai.provider_call ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.provider_call USING (tenant_id = eduai.current_tenant());
SELECT pg_catalog.pg_extension_config_dump('eduai.provider_call', '');

-- Second calls of attempts, while they fly: a row is committed before its call
-- leaves, and goes in the commit that writes its row of the ledger.
CREATE TABLE eduai.provider_hedge (
	tenant_id text NOT NULL,
	task_id bigint NOT NULL,
	attempt int NOT NULL,
	instance text NOT NULL,
	provider text NOT NULL,
	model text NOT NULL,
	started_at timestamptz NOT NULL,
	dispatcher bigint NOT NULL,
	PRIMARY KEY (tenant_id, task_id, attempt)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE eduai.provider_hedge IS
'The second calls of attempts that are in flight (eduai.hedge_after), recorded before they leave: what a dispatcher that died leaves here becomes uncertain in the ledger.';
ALTER TABLE eduai.provider_hedge ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.provider_hedge USING (tenant_id = eduai.current_tenant());
SELECT pg_catalog.pg_extension_config_dump('eduai.provider_hedge', '');

-- ---- routing ----

CREATE TYPE eduai.routing AS (
	instance text,
	score double precision,
	reason text,
	fallbacks text[]
);

-- The latest decisions, while eduai.trace_routing is on. Not dumped.
CREATE UNLOGGED TABLE eduai.routing_trace (
	trace_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	task_id bigint NOT NULL,
	attempt int NOT NULL,
	at timestamptz NOT NULL,
	decision jsonb NOT NULL
);
COMMENT ON TABLE eduai.routing_trace IS
'The latest 10,000 choices of an instance while eduai.trace_routing is on: each with its inputs (the request in numbers, how the instances stood, the chance) and the order that it gave; all tenants together, nothing of a payload. Written by the dispatcher; not dumped.';
COMMENT ON SEQUENCE eduai.routing_trace_trace_id_seq IS
'Numbers of eduai.routing_trace; not dumped.';
GRANT SELECT ON eduai.routing_trace TO eduai_admin;

-- ---- how the instances stand ----

CREATE TYPE eduai.instance_stand AS (name text, health text, breaker text, in_flight int,
	requests bigint, successes bigint, failures bigint, avg_ms double precision,
	p95_ms double precision, p99_ms double precision, tokens_in bigint, tokens_out bigint,
	cost_usd numeric, score double precision, last_error text, last_checked_at timestamptz,
	headroom double precision, last_called_at timestamptz);
COMMENT ON TYPE eduai.instance_stand IS
'How an instance stands; see eduai.instance_stands().';

-- ---- budgets ----

-- What the ledger needs for money. user_id is a learner's: erasure has to reach it.
ALTER TABLE eduai.provider_call
	ADD COLUMN user_id text,
	ADD COLUMN task_type text,
	ADD COLUMN tokens_cache_write bigint,
	ADD COLUMN tokens_reasoning bigint,
	ADD COLUMN images int,
	ADD COLUMN audio_ms bigint,
	ADD COLUMN bound_usd numeric,
	ADD COLUMN counted_usd numeric;
COMMENT ON COLUMN eduai.provider_call.bound_usd IS
'What budgets reserved for the call: the most that it could cost. Null when no budget applied.';
COMMENT ON COLUMN eduai.provider_call.counted_usd IS
'What the call counts against budgets when that is not cost_usd: its bound, where nobody knows what it cost.';

CREATE TYPE eduai.budget_period AS (
	starts_at timestamptz,
	ends_at timestamptz
);

CREATE SEQUENCE eduai.budget_id_seq AS bigint;

-- As set_budget() was told. tenant_id is empty for providers, which are global;
-- task_type is empty for all types. revision changes with each set_budget().
CREATE TABLE eduai.budget (
	tenant_id text COLLATE "C" NOT NULL,
	scope text COLLATE "C" NOT NULL,
	task_type text COLLATE "C" NOT NULL,
	per interval NOT NULL,
	budget_id bigint NOT NULL UNIQUE,
	revision bigint NOT NULL,
	usd numeric NOT NULL CHECK (usd >= 0),
	on_exceeded text NOT NULL CHECK (on_exceeded IN ('defer', 'refuse', 'cheapest')),
	PRIMARY KEY (tenant_id, scope, task_type, per)
);
COMMENT ON TABLE eduai.budget IS
'Budgets of tenants, their users, and providers (tenant_id empty). Written by eduai.set_budget().';

-- What follows is written by the dispatcher alone. A row: the budget is counted,
-- in this time zone, and was seen in this revision.
CREATE TABLE eduai.budget_counted (
	tenant_id text COLLATE "C" NOT NULL,
	budget_id bigint NOT NULL,
	revision bigint NOT NULL,
	per interval NOT NULL,
	timezone text NOT NULL,
	PRIMARY KEY (tenant_id, budget_id)
);
COMMENT ON TABLE eduai.budget_counted IS
'The budgets that the dispatcher counts. Where a row is missing, what was spent is in the ledger alone.';

-- user_id is empty but for budgets of each user.
CREATE TABLE eduai.budget_spent (
	tenant_id text COLLATE "C" NOT NULL,
	budget_id bigint NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	starts_at timestamptz NOT NULL,
	usd numeric NOT NULL,
	PRIMARY KEY (tenant_id, budget_id, user_id, starts_at)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE eduai.budget_spent IS
'What was spent of a budget in a period, by user for those of each user. Changed in the commit that records the call.';

CREATE TABLE eduai.budget_reservation (
	tenant_id text COLLATE "C" NOT NULL,
	task_id bigint NOT NULL,
	attempt int NOT NULL,
	hedge boolean NOT NULL DEFAULT false,
	user_id text COLLATE "C",
	task_type text COLLATE "C" NOT NULL,
	provider text COLLATE "C" NOT NULL,
	instance text COLLATE "C" NOT NULL,
	model text NOT NULL,
	bound_usd numeric NOT NULL,
	reserved_at timestamptz NOT NULL,
	dispatcher bigint NOT NULL,
	PRIMARY KEY (tenant_id, task_id, attempt, hedge)
) WITH (
	autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 5000,
	autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE eduai.budget_reservation IS
'What the calls in flight may cost: a row for each to which a budget applies, from the commit that starts it to the one that records it.';

ALTER TABLE eduai.budget ENABLE ROW LEVEL SECURITY;
ALTER TABLE eduai.budget_counted ENABLE ROW LEVEL SECURITY;
ALTER TABLE eduai.budget_spent ENABLE ROW LEVEL SECURITY;
ALTER TABLE eduai.budget_reservation ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.budget USING (tenant_id = eduai.current_tenant());
CREATE POLICY tenant ON eduai.budget_counted USING (tenant_id = eduai.current_tenant());
CREATE POLICY tenant ON eduai.budget_spent USING (tenant_id = eduai.current_tenant());
CREATE POLICY tenant ON eduai.budget_reservation USING (tenant_id = eduai.current_tenant());

SELECT pg_catalog.pg_extension_config_dump('eduai.budget_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.budget', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.budget_counted', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.budget_spent', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.budget_reservation', '');
