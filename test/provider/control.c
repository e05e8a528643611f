/*-------------------------------------------------------------------------
 * control.c
 *		The endpoints under /_sim that steer the simulator.
 *-------------------------------------------------------------------------
 */
#include "journal.h"
#include "openai_media.h"
#include "reply.h"

#define JOURNAL_LIMIT     10000
#define JOURNAL_MAX_LIMIT 100000

static char base_url[128];

void
control_set_base_url(const char *url)
{
	slice_copy((Slice){url, strlen(url)}, base_url, sizeof(base_url));
}

const char *
control_base_url(void)
{
	return base_url;
}

bool
control_handles(const Request *request)
{
	return request->path.len >= 6 && memcmp(request->path.p, "/_sim/", 6) == 0;
}

/* A string member of the body; false when it is absent or not a string. */
static bool
read_string(const Request *request, const char *name, Buf *value)
{
	JsonIter iter = json_iterate(json_scan(request->body));
	bool found = false;

	while (json_next(&iter))
	{
		if (!slice_is(iter.key, name) || iter.value.kind != JSON_STRING)
			continue;
		value->len = 0;
		json_decode(iter.value.raw, value);
		buf_add(value, "", 1);
		found = true;
	}
	return found;
}

static int
fail(Buf *out, const char *message)
{
	buf_str(out, "{\"error\":\"");
	buf_json(out, message);
	buf_str(out, "\"}\n");
	return 400;
}

static int
post_default(const Request *request, Buf *out)
{
	Buf model = {0};
	Buf behaviour = {0};
	Buf error = {0};
	bool named = read_string(request, "model", &model);
	int status = 200;

	if (!read_string(request, "behaviour", &behaviour))
		status = fail(out, "the body must be {\"model\": \"...\", \"behaviour\": \"...\"}");
	else if (!behaviour_set_default(named ? model.data : NULL, behaviour.data, &error))
	{
		buf_add(&error, "", 1);
		status = fail(out, error.data);
	}
	else
		buf_str(out, "{\"ok\":true}\n");
	buf_free(&model);
	buf_free(&behaviour);
	buf_free(&error);
	return status;
}

static int
post_key(const Request *request, Buf *out)
{
	Buf key = {0};

	if (json_scan(request->body).kind != JSON_OBJECT)
		return fail(out, "the body must be {\"key\": \"...\"}, or null for none");
	answer_set_key(read_string(request, "key", &key) ? key.data : NULL);
	buf_free(&key);
	buf_str(out, "{\"ok\":true}\n");
	return 200;
}

static int
post_reset(const Request *request, Buf *out)
{
	(void) request;
	journal_reset();
	behaviour_reset();
	answer_set_key(NULL);
	buf_str(out, "{\"ok\":true}\n");
	return 200;
}

static int
get_stats(const Request *request, Buf *out)
{
	(void) request;
	journal_write_stats(out);
	buf_str(out, "\n");
	return 200;
}

/* name=N in the query; the default when it is absent or not a number. */
static int64_t
query_number(Slice query, const char *name, int64_t otherwise)
{
	size_t len = strlen(name);
	const char *p = query.p;
	const char *end = query.p + query.len;
	int64_t value;

	while (p < end)
	{
		const char *amp = memchr(p, '&', end - p);
		const char *stop = amp != NULL ? amp : end;

		if ((size_t) (stop - p) > len && memcmp(p, name, len) == 0 && p[len] == '=' &&
			slice_int((Slice){p + len + 1, stop - p - len - 1}, &value) && value >= 0)
			return value;
		p = stop + 1;
	}
	return otherwise;
}

static int
get_journal(const Request *request, Buf *out)
{
	int64_t limit = query_number(request->query, "limit", JOURNAL_LIMIT);

	if (limit > JOURNAL_MAX_LIMIT)
		limit = JOURNAL_MAX_LIMIT;
	journal_write_entries(out, query_number(request->query, "after", 0), limit);
	return 200;
}

static int
get_image(const Request *request, Buf *out)
{
	uint32_t bits = 0;
	int nbits = 0;

	(void) request;
	for (const char *p = openai_image_base64; *p != '\0' && *p != '='; p++)
	{
		static const char digits[] =
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

		bits = bits << 6 | (uint32_t) (strchr(digits, *p) - digits);
		nbits += 6;
		if (nbits >= 8)
		{
			char byte = (char) (bits >> (nbits - 8));

			buf_add(out, &byte, 1);
			nbits -= 8;
		}
	}
	return 200;
}

static const struct
{
	const char *method;
	const char *path;
	const char *content_type;
	int (*handle)(const Request *request, Buf *out);
} controls[] = {
	{"POST", "/_sim/default", "application/json", post_default},
	{"POST", "/_sim/key", "application/json", post_key},
	{"POST", "/_sim/reset", "application/json", post_reset},
	{"GET", "/_sim/stats", "application/json", get_stats},
	{"GET", "/_sim/journal", "application/json", get_journal},
	{"GET", "/_sim/image.png", "image/png", get_image},
};

void
control_request(const Request *request, Reply *reply)
{
	static Buf body;
	const char *content_type = "application/json";
	int status = 404;

	buf_clear(&body, 1024 * 1024);
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
	{
		if (!slice_is(request->path, controls[i].path) ||
			!slice_is(request->method, controls[i].method))
			continue;
		status = controls[i].handle(request, &body);
		content_type = controls[i].content_type;
	}
	if (status == 404)
		buf_str(&body, "{\"error\":\"no such control endpoint\"}\n");
	frame_simple(reply, status, content_type, (Slice){body.data, body.len}, request->keep_alive);
}
