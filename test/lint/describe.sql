-- The extension as text, a line per object, without oids, to be sorted: it does
-- not depend on how the extension came to be, so an upgraded database must print
-- the same.

SET search_path = pg_catalog;

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'eduai';

SELECT 'version ' || extversion FROM pg_extension WHERE extname = 'eduai';

SELECT concat_ws(' | ', pg_describe_object(classid, objid, 0)) FROM member;

SELECT concat_ws(' | ', 'function', p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
                 (SELECT lanname FROM pg_language l WHERE l.oid = p.prolang), p.provolatile, p.proparallel, p.proisstrict, p.prosecdef, p.proleakproof, p.procost, p.prorows,
                 p.proconfig, md5(p.prosrc), p.proacl, md5(obj_description(p.oid, 'pg_proc')))
FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

SELECT concat_ws(' | ', 'relation', c.oid::regclass, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
                 c.reloptions, c.relacl, c.oid = ANY (e.extconfig), md5(obj_description(c.oid, 'pg_class')),
                 CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END)
FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid, pg_extension e
WHERE e.extname = 'eduai';

SELECT concat_ws(' | ', 'column', a.attrelid::regclass, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum), a.attname,
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage,
                 pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'eduai'::regnamespace AND c.relkind IN ('r', 'p', 'c') AND a.attnum > 0 AND NOT a.attisdropped;

SELECT concat_ws(' | ', 'index', pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisreplident)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'eduai'::regnamespace;

SELECT concat_ws(' | ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'eduai'::regnamespace;

SELECT concat_ws(' | ', 'trigger', pg_get_triggerdef(t.oid))
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'eduai'::regnamespace AND NOT t.tgisinternal;

SELECT concat_ws(' | ', 'policy', p.polrelid::regclass, p.polname, p.polcmd, p.polpermissive,
                 pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
WHERE c.relnamespace = 'eduai'::regnamespace;

SELECT concat_ws(' | ', 'type', t.oid::regtype, t.typtype, t.typacl, md5(obj_description(t.oid, 'pg_type')))
FROM pg_type t WHERE t.typnamespace = 'eduai'::regnamespace AND t.typtype IN ('e', 'd', 'r');
