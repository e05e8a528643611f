/*
 * stream_testing.c: a SQL function by which tests feed a stream in pieces of
 * their choice.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/json.h"
#include "core/pause.h"
#include "fmgr.h"
#include "gateway/stream.h"
#include "gateway/wire.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_stream);

static StreamDialect
dialect_named(const char *name)
{
	if (strcmp(name, "openai") == 0)
		return STREAM_OPENAI;
	if (strcmp(name, "anthropic") == 0)
		return STREAM_ANTHROPIC;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown stream dialect \"%s\"", name),
					errhint("Dialects are openai and anthropic.")));
}

static const char *
end_name(StreamEnd end)
{
	static const char *const names[] = {"open",      "finished",  "error",
										"malformed", "too_large", "no_memory"};

	return names[end];
}

static void
put_text(EduaiJson *j, const Stream *stream)
{
	size_t length;
	const char *text = eduai_gateway_stream_text(stream, &length);

	if (pg_verify_mbstr(PG_UTF8, text, (int) length, true) && GetDatabaseEncoding() == PG_UTF8)
		eduai_core_json_put_textn(j, "text", text, (int) length);
	else
		eduai_core_json_put_int(j, "text_bytes", (int64) length);
}

static void
put_body(EduaiJson *j, Stream *stream)
{
	size_t length;
	const char *body = eduai_gateway_stream_body(stream, &length);
	char *why = NULL;
	Jsonb *json = eduai_gateway_parse_answer(body, length, &why);

	if (json != NULL)
		eduai_core_json_put_json(j, "body", json);
	else
		eduai_core_json_put_text(j, "no_json", why);
}

Datum
eduai_test_stream(PG_FUNCTION_ARGS)
{
	StreamDialect dialect = dialect_named(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Datum *pieces;
	bool *nulls;
	int n;
	Stream *stream;
	EduaiJson j;

	eduai_core_require_test_mode();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), BYTEAOID, -1, false, TYPALIGN_INT, &pieces, &nulls,
					  &n);
	stream = eduai_gateway_stream_new(dialect, (size_t) Max(PG_GETARG_INT32(2), 0));
	if (stream == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	for (int i = 0; i < n; i++)
	{
		bytea *piece = nulls[i] ? NULL : DatumGetByteaPP(pieces[i]);

		if (piece != NULL &&
			!eduai_gateway_stream_feed(stream, VARDATA_ANY(piece), VARSIZE_ANY_EXHDR(piece)))
			break;
	}
	eduai_core_json_begin(&j);
	put_body(&j, stream);
	put_text(&j, stream);
	eduai_core_json_put_bool(&j, "begun", eduai_gateway_stream_begun(stream));
	eduai_core_json_put_text(&j, "end", end_name(eduai_gateway_stream_end(stream)));
	eduai_gateway_stream_free(stream);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}
