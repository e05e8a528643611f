/*
 * redact.c: keeps a provider's key out of what the provider says; see redact.h.
 */
#include "postgres.h"

#include "core/json.h"
#include "gateway/redact.h"
#include "lib/stringinfo.h"
#include "utils/json.h"

#define MIN_SECRET_BYTES 16

bool
eduai_gateway_is_secret(const char *key)
{
	return key != NULL && strlen(key) >= MIN_SECRET_BYTES;
}

char *
eduai_gateway_redact(const char *text, size_t length, const char *key, size_t *clean_length)
{
	size_t key_length = strlen(key);
	StringInfoData clean;
	const char *found;

	initStringInfo(&clean);
	while ((found = memmem(text, length, key, key_length)) != NULL)
	{
		appendBinaryStringInfo(&clean, text, found - text);
		appendStringInfoString(&clean, EDUAI_REDACTED);
		length -= found + key_length - text;
		text = found + key_length;
	}
	appendBinaryStringInfo(&clean, text, length);
	*clean_length = clean.len;
	return clean.data;
}

/* A jsonb has its strings as they are; its text has them escaped, and so is the key looked for there. */
Jsonb *
eduai_gateway_redact_json(Jsonb *json, const char *key)
{
	StringInfoData escaped;
	size_t length;
	char *text;

	if (json == NULL || memmem(json, VARSIZE(json), key, strlen(key)) == NULL)
		return json;
	initStringInfo(&escaped);
	escape_json(&escaped, key);
	escaped.data[escaped.len - 1] = '\0';
	text = eduai_core_json_cstring(json);
	text = eduai_gateway_redact(text, strlen(text), escaped.data + 1, &length);
	return eduai_core_json_parse(text);
}

size_t
eduai_gateway_redact_held(const char *text, size_t length, const char *key)
{
	size_t most = strlen(key) - 1;

	for (size_t n = length < most ? length : most; n > 0; n--)
		if (memcmp(text + length - n, key, n) == 0)
			return n;
	return 0;
}
