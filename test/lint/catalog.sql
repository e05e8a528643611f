-- House rules that only the catalog can tell. Each query prints rows of (rule,
-- object that breaks it); scripts/catalog.sh reads the rules' names from the
-- lines that start with "-- RULE".

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'eduai';

CREATE TEMP VIEW routine AS
SELECT p.*, p.oid::regprocedure::text AS signature
FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

CREATE TEMP VIEW relation AS
SELECT c.*, c.oid::regclass::text AS name
FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid;

-- RULE every function has a comment
SELECT 'every function has a comment', signature FROM routine
WHERE obj_description(oid, 'pg_proc') IS NULL ORDER BY 2;

-- RULE every argument has a name
SELECT 'every argument has a name', signature FROM routine
WHERE pronargs > 0 AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND (proargnames IS NULL OR '' = ANY (proargnames[1:pronargs])) ORDER BY 2;

-- RULE security definer functions pin search_path
SELECT 'security definer functions pin search_path', signature FROM routine
WHERE prosecdef AND NOT coalesce(array_to_string(proconfig, ' ') LIKE '%search_path=%', false) ORDER BY 2;

-- RULE results of several columns are named types
SELECT 'results of several columns are named types', signature FROM routine
WHERE prokind = 'f' AND prorettype = 'record'::regtype ORDER BY 2;

-- RULE nothing is granted to PUBLIC
SELECT 'nothing is granted to PUBLIC', signature FROM routine
WHERE EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE a.grantee = 0)
UNION ALL
SELECT 'nothing is granted to PUBLIC', name FROM relation
WHERE EXISTS (SELECT FROM aclexplode(relacl) a WHERE a.grantee = 0)
UNION ALL
SELECT 'nothing is granted to PUBLIC', 'schema ' || nspname FROM pg_namespace
WHERE nspname = 'eduai' AND EXISTS (SELECT FROM aclexplode(nspacl) a WHERE a.grantee = 0)
ORDER BY 2;

-- A partitioned table has none: it is in each partition, which is made at run time.
-- RULE tenant_id leads the primary key
SELECT 'tenant_id leads the primary key', r.name FROM relation r
JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = r.oid AND i.indisprimary
WHERE r.relkind = 'r' AND i.indkey[0] IS DISTINCT FROM a.attnum ORDER BY 2;

-- RULE tables of a tenant have row security
SELECT 'tables of a tenant have row security', r.name FROM relation r
JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE r.relkind IN ('r', 'p') AND NOT (r.relrowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid))
ORDER BY 2;

-- A table whose comment says that it is not dumped is left out on purpose.
-- RULE tables and sequences are dumped
SELECT 'tables and sequences are dumped', r.name FROM relation r
WHERE r.relkind IN ('r', 'p', 'S')
  AND NOT coalesce(obj_description(r.oid, 'pg_class') LIKE '%not dumped%', false)
  AND r.oid <> ALL (SELECT unnest(coalesce(extconfig, '{}')) FROM pg_extension WHERE extname = 'eduai')
ORDER BY 2;

-- RULE tables and views have a comment
SELECT 'tables and views have a comment', name FROM relation
WHERE relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL ORDER BY 2;

-- RULE everything is in the schema eduai
SELECT 'everything is in the schema eduai', signature FROM routine WHERE pronamespace <> 'eduai'::regnamespace
UNION ALL
SELECT 'everything is in the schema eduai', name FROM relation WHERE relnamespace <> 'eduai'::regnamespace
ORDER BY 2;
