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
	api_key text NOT NULL
);

COMMENT ON TABLE eduai.provider_secret IS
'Literal keys of providers. Granted to nobody and not dumped, so that no dump carries a key.';

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
	tenant_id text NOT NULL,
	task_id bigint NOT NULL,
	attempt int NOT NULL,
	instance text,
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
	PRIMARY KEY (tenant_id, task_id, attempt)
);
COMMENT ON TABLE eduai.provider_call IS
'A row per provider call: completed, failed, cancelled, refused (the answer came after the task had ended) or uncertain (the answer was lost with its process).';
CREATE INDEX provider_call_instance ON eduai.provider_call (instance, started_at);
ALTER TABLE eduai.provider_call ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.provider_call USING (tenant_id = eduai.current_tenant());
SELECT pg_catalog.pg_extension_config_dump('eduai.provider_call', '');
