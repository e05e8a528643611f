/*
 * headers.c: rate_headers(), a decision as HTTP fields.
 *
 * RateLimit-Policy and RateLimit as in the IETF's draft "RateLimit header fields
 * for HTTP" (draft-ietf-httpapi-ratelimit-headers), the tier being the policy's
 * name; Retry-After (RFC 9110) with a refusal.  Seconds are rounded up.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "core/compat.h"
#include "core/json.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "ratelimit/tier.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_rate_headers);

typedef struct Fields
{
	HeapTupleHeader row;
} Fields;

static Datum
field(const Fields *f, const char *name, bool *isnull)
{
	return GetAttributeByName(f->row, name, isnull);
}

static int64
number(const Fields *f, const char *name)
{
	bool isnull;
	Datum value = field(f, name, &isnull);

	return isnull ? -1 : DatumGetInt64(value);
}

static int64
seconds(const Fields *f, const char *name)
{
	bool isnull;
	Datum value = field(f, name, &isnull);

	if (isnull)
		return -1;
	return (eduai_ratelimit_per_us(DatumGetIntervalP(value)) + USECS_PER_SEC - 1) / USECS_PER_SEC;
}

/* A structured field's string (RFC 8941) is printable ASCII; what is not becomes '?'. */
static char *
quoted(const char *name)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoChar(&s, '"');
	for (; *name != '\0'; name++)
	{
		if (*name == '"' || *name == '\\')
			appendStringInfoChar(&s, '\\');
		appendStringInfoChar(&s, *name >= 0x20 && *name < 0x7f ? *name : '?');
	}
	appendStringInfoChar(&s, '"');
	return s.data;
}

static void
put_policy(EduaiJson *j, const char *name, int64 limit, int64 per_s)
{
	if (per_s >= 0)
		eduai_core_json_put_text(
			j, "RateLimit-Policy",
			psprintf("%s;q=%lld;w=%lld", name, (long long) limit, (long long) per_s));
	else
		eduai_core_json_put_text(
			j, "RateLimit-Policy",
			psprintf("%s;q=%lld;qu=\"concurrent-requests\"", name, (long long) limit));
}

Datum
eduai_rate_headers(PG_FUNCTION_ARGS)
{
	Fields f = {.row = PG_GETARG_HEAPTUPLEHEADER(0)};
	int64 limit = number(&f, "limit_count");
	int64 left = number(&f, "remaining");
	int64 reset_s = seconds(&f, "reset_after");
	int64 retry_s = seconds(&f, "retry_after");
	bool isnull;
	Datum tier = field(&f, "tier", &isnull);
	char *name = quoted(isnull ? "" : TextDatumGetCString(tier));
	bool allowed = DatumGetBool(field(&f, "allowed", &isnull)) || isnull;
	EduaiJson j;

	eduai_core_json_begin(&j);
	if (limit >= 0)
	{
		put_policy(&j, name, limit, seconds(&f, "per"));
		eduai_core_json_put_text(
			&j, "RateLimit",
			reset_s >= 0
				? psprintf("%s;r=%lld;t=%lld", name, (long long) Max(left, 0), (long long) reset_s)
				: psprintf("%s;r=%lld", name, (long long) Max(left, 0)));
	}
	if (!allowed && retry_s >= 0)
		eduai_core_json_put_text(&j, "Retry-After", psprintf("%lld", (long long) Max(retry_s, 1)));
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}
