-- See events_json_schema.sh.
CREATE EXTENSION eduai;
SELECT setseed(((:seed)::int % 1000000) / 1000000.0);

CREATE FUNCTION pg_temp.pick(list text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT list[1 + floor(random() * cardinality(list))::int] $$;

-- Any JSON, of few names and values, so that data and schemas meet.
CREATE FUNCTION pg_temp.value(depth int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	text text := '';
BEGIN
	IF depth > 0 AND random() < 0.6 THEN
		IF random() < 0.5 THEN
			FOR i IN 1 .. floor(random() * 4) LOOP
				text := text || CASE WHEN i > 1 THEN ', ' ELSE '' END || pg_temp.value(depth - 1);
			END LOOP;
			RETURN '[' || text || ']';
		END IF;
		FOR i IN 1 .. floor(random() * 4) LOOP
			text := text || CASE WHEN i > 1 THEN ', ' ELSE '' END || pg_temp.pick('{"\"a\"","\"b\"","\"ab\"","\"\"","\"é/~\\n\""}') || ': ' || pg_temp.value(depth - 1);
		END LOOP;
		RETURN '{' || text || '}';
	END IF;
	RETURN pg_temp.pick(ARRAY['null', 'true', 'false', '0', '1', '1.0', '-3', '2.5', '1e30', '1e-30', '"a"', '"ab"', '""', '"é😀"', '"2024-02-29"',
		'"2024-01-01T00:00:00Z"', '"a@b.c"', '"\n/~"', '12345678901234567890.5']);
END $$;

-- A schema; now and then with something wrong in it.
CREATE FUNCTION pg_temp.schema(depth int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	text text := '';
	word text;
	argument text;
	leaf text[] := '{type,enum,const,required,minProperties,maxProperties,minItems,maxItems,uniqueItems,minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf,minLength,maxLength,pattern,format,dependentRequired,$ref,title,wrong}';
	tree text[] := '{properties,additionalProperties,patternProperties,propertyNames,items,prefixItems,contains,allOf,anyOf,oneOf,not,if,then,else}';
BEGIN
	IF random() < 0.1 THEN
		RETURN pg_temp.pick('{true,false}');
	END IF;
	FOR i IN 1 .. floor(random() * 4) LOOP
		word := CASE WHEN depth > 0 AND random() < 0.6 THEN pg_temp.pick(tree) ELSE pg_temp.pick(leaf) END;
		argument := CASE
			WHEN random() < 0.01 THEN pg_temp.value(1)
			WHEN word IN ('properties', 'patternProperties') THEN format('{%s: %s, %s: %s}', pg_temp.pick('{"\"a\"","\"b\"","\"^a\""}'), pg_temp.schema(depth - 1),
				pg_temp.pick('{"\"ab\"","\"\"","\"é\""}'), pg_temp.schema(depth - 1))
			WHEN word IN ('allOf', 'anyOf', 'oneOf', 'prefixItems') THEN format('[%s, %s]', pg_temp.schema(depth - 1), pg_temp.schema(depth - 1))
			WHEN word = ANY (tree) THEN pg_temp.schema(depth - 1)
			WHEN word = 'type' THEN pg_temp.pick('{"\"object\"","\"array\"","\"string\"","\"number\"","\"integer\"","[\"null\", \"boolean\"]"}')
			WHEN word = 'enum' THEN format('[%s, %s]', pg_temp.value(1), pg_temp.value(1))
			WHEN word = 'const' THEN pg_temp.value(2)
			WHEN word = 'required' THEN '["a"]'
			WHEN word = 'dependentRequired' THEN '{"a": ["b"], "": ["ab"]}'
			WHEN word = 'uniqueItems' THEN 'true'
			WHEN word = 'multipleOf' THEN pg_temp.pick('{1,0.5,1e-20,3e10}')
			WHEN word ~ '^(min|max)(L|I|P)' THEN pg_temp.pick('{0,1,2.0,1e40}')
			WHEN word = 'pattern' THEN pg_temp.pick('{"\"^a\"","\"[é]|b$\"","\"(a)(b)?\\\\1\""}')
			WHEN word = 'format' THEN pg_temp.pick('{"\"date\"","\"date-time\"","\"email\"","\"uuid\"","\"other\""}')
			WHEN word = '$ref' THEN pg_temp.pick('{"\"#\"","\"#/$defs/d\"","\"#/$defs/none\""}')
			WHEN word = 'title' THEN '"t"'
			WHEN word = 'wrong' THEN pg_temp.pick(ARRAY['1', '{}'])
			ELSE pg_temp.pick('{-1,0,1,2.5,1e30}')
		END;
		IF word <> 'wrong' OR random() < 0.05 THEN
			text := text || CASE WHEN text = '' THEN '' ELSE ', ' END || format('%s: %s', to_json(word), argument);
		END IF;
	END LOOP;
	RETURN '{' || text || '}';
END $$;

-- Registered and appended in a subtransaction that is undone: "ok", or the SQLSTATE.
CREATE FUNCTION pg_temp.verdict(schema jsonb, data jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
BEGIN
	PERFORM eduai.register_event_type('fuzz', json_schema => schema);
	PERFORM eduai.append_event('s', 'fuzz', data);
	RAISE EXCEPTION USING ERRCODE = 'FZ000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
	IF SQLSTATE = 'FZ000' THEN
		RETURN 'ok';
	END IF;
	ASSERT SQLSTATE IN ('22023', '0A000', '23514', '54001'), format('%s %s: %s on %s', SQLSTATE, SQLERRM, schema, data);
	ASSERT SQLSTATE <> '23514' OR d ~ '^The (data|value at "[^\n]*") must [^\n]*\.$', format('detail %s: %s on %s', d, schema, data);
	RETURN SQLSTATE;
END $$;

-- "#" has another meaning where a schema is wrapped: its definition is wrapped with it.
CREATE FUNCTION pg_temp.wrapped(schema jsonb, form text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT format('{"$defs": {"s": %s, "d": {"maxLength": 1}}, %s}', schema, form)::jsonb
$$;

CREATE PROCEDURE pg_temp.run(seconds int, INOUT summary text) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	ref text := '{"$ref": "#/$defs/s"}';
	schema jsonb;
	data jsonb;
	verdict text;
	other text;
	tried int := 0;
	refused int := 0;
	accepted int := 0;
	violated int := 0;
BEGIN
	WHILE clock_timestamp() < until LOOP
		schema := pg_temp.schema(3)::jsonb;
		IF jsonb_typeof(schema) = 'object' AND random() < 0.8 THEN
			schema := schema || '{"$defs": {"d": {"maxLength": 1}}}';
		END IF;
		FOR i IN 1 .. 3 LOOP
			data := jsonb_build_object('a', pg_temp.value(2)::jsonb, pg_temp.pick('{b,ab,""}'), pg_temp.value(2)::jsonb);
			verdict := pg_temp.verdict(schema, data);
			tried := tried + 1;
			refused := refused + (verdict IN ('22023', '0A000'))::int;
			EXIT WHEN verdict IN ('22023', '0A000');
			accepted := accepted + (verdict = 'ok')::int;
			violated := violated + (verdict = '23514')::int;
			CONTINUE WHEN verdict = '54001' OR schema::text ~ '"\$ref": "#"';
			-- what the logic of schemas says of the same data
			other := pg_temp.verdict(pg_temp.wrapped(schema, '"not": ' || ref), data);
			ASSERT (verdict = 'ok') = (other = '23514') AND other IN ('ok', '23514'), format('not (%s, %s): %s on %s', verdict, other, schema, data);
			other := pg_temp.verdict(pg_temp.wrapped(schema, format('"allOf": [%s, %1$s], "oneOf": [%1$s, false]', ref)), data);
			ASSERT verdict = other, format('allOf, oneOf (%s, %s): %s on %s', verdict, other, schema, data);
			other := pg_temp.verdict(pg_temp.wrapped(schema, format('"if": %s, "then": {"oneOf": [%1$s, %1$s, true]}, "else": {"anyOf": [false, %1$s]}', ref)), data);
			ASSERT other = '23514', format('if (%s, %s): %s on %s', verdict, other, schema, data);
			other := pg_temp.verdict(pg_temp.wrapped(schema, format('"properties": {"v": {"items": %s, "contains": %1$s}}', ref)), jsonb_build_object('v', jsonb_build_array(data, data)));
			ASSERT verdict = other, format('items, contains (%s, %s): %s on %s', verdict, other, schema, data);
		END LOOP;
		-- what was undone can go
		COMMIT;
	END LOOP;
	ASSERT refused > 0 AND accepted > 0 AND violated > 0, 'nothing went through';
	summary := format('%s checks: %s schemas refused, %s data accepted, %s refused', tried, refused, accepted, violated);
END $$;
CALL pg_temp.run(:seconds, NULL);
