/*
 * gateway_stream.c: fuzzes the streams' core, which libcurl's callbacks run.
 *
 * Streams of either dialect, mutated, with bounds from tight to wide, fed in
 * one piece and in random ones. Under the sanitizers nothing may go wrong, and:
 *	 - the pieces make no difference to end, text or body;
 *	 - a body is JSON, whatever came; that of a stream that finished has a reason;
 *	 - the text only ever grows, what was shown of it stays, and it is bounded;
 *	 - nothing more is wanted after a failure.
 *
 * SEED repeats a run, FUZZ_SECONDS bounds it.
 */
#include "postgres.h"

#include <time.h>

#include "gateway/scan.h"
#include "gateway/stream.h"

#define MOST 65536

static const char *const openai[] = {
	"data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Caf\\u00e9 \\ud83d\"}}]}\r\n\r\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ude00 \xc3\xa9\"}}]}\n\n",
	"data: {\"choices\":[{\"index\":1,\"delta\":{\"refusal\":\"no\"},\"logprobs\":{\"content\":[{\"token\":\"a\"}]}}]}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\"\"}}]}}]}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}},{\"id\":\"b\",\"function\":{\"arguments\":{\"q\":\"\\\"\"}}}]}}]}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}},\"finish_reason\":\"stop\"}]}\r\r",
	"data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":5}}\n\n",
	"data: {\"error\":{\"message\":\"m\"}}\n\n",
	"event: error\ndata: {\"message\":\"m\"}\n\n",
	": ping\n\n",
	"\xEF\xBB\xBF",
	"data: [DONE]\n\n"};

static const char *const anthropic[] = {
	"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
	"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"B\"}}\n\n",
	"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"\\ud83d\\ude00 \xf0\x9f\x98\x80\"}}\n\n",
	"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"a\":[1]}}}\n\n",
	"data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n",
	"data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
	"data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\" [1]}\"}}\n\n",
	"data: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
	"data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
	"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":9,\"input_tokens\":null}}\n\n",
	"data: {\"type\":\"message_stop\"}\n\n",
	"data: {\"type\":\"ping\"}\n\n",
	"data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"};

static const char *const tokens[] = {
	"null",    "{",       "}",         "[",      "]",          "\"",   ",",      "\\",
	"\\u0000", "\\ud800", "\\udc00",   "\n",     "\r",         "\n\n", ":",      "5",
	"1e9",     "-0.1",    "999999999", "data: ", "\"index\":", "{}",   "[[[[[[", "\"content\":",
	"é"};

static uint64 state;

static uint32
draw(uint32 below)
{
	uint64 z = (state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return (uint32) ((z ^ (z >> 31)) >> 16) % below;
}

/* Min() would draw twice. */
static size_t
at_most(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void
require(bool holds, const char *what, const char *bytes, size_t n)
{
	if (holds)
		return;
	fprintf(stderr, "%s; the stream:\n", what);
	fwrite(bytes, 1, n, stderr);
	fprintf(stderr, "\n");
	exit(1);
}

/* The events in order, each now and then left out or doubled. */
static size_t
compose(const char *const *events, int nevents, char *into)
{
	size_t n = 0;

	for (int i = 0; i < nevents; i++)
	{
		uint32 chance = draw(20);

		for (uint32 k = chance < 3 ? 0 : chance == 3 ? 2 : 1; k > 0; k--)
		{
			memcpy(into + n, events[i], strlen(events[i]));
			n += strlen(events[i]);
		}
	}
	return n;
}

static size_t
insert(char *bytes, size_t n, size_t at, const char *more, size_t length)
{
	if (n + length > MOST)
		return n;
	memmove(bytes + at + length, bytes + at, n - at);
	memcpy(bytes + at, more, length);
	return n + length;
}

static size_t
mutate(char *bytes, size_t n)
{
	for (uint32 left = draw(5); left > 0 && n > 0; left--)
	{
		size_t at = draw((uint32) n);
		size_t span = at_most(1 + draw(12), n - at);
		const char *token = tokens[draw(lengthof(tokens))];
		char copy[16];

		switch (draw(5))
		{
			case 0:
				bytes[at] = (char) draw(256);
				break;
			case 1:
				memmove(bytes + at, bytes + at + span, n - at - span);
				n -= span;
				break;
			case 2:
				memcpy(copy, bytes + at, span);
				n = insert(bytes, n, at, copy, span);
				break;
			case 3:
				n = insert(bytes, n, at, token, strlen(token));
				break;
			case 4:
				if (draw(4) == 0)
					n = at;
		}
	}
	return n;
}

/* In a copy of its own size, so that a byte read too far is found. */
static bool
feed(Stream *stream, const char *bytes, size_t n)
{
	char *copy = malloc(Max(n, 1));
	bool wanted;

	memcpy(copy, bytes, n);
	wanted = eduai_gateway_stream_feed(stream, copy, n);
	free(copy);
	return wanted;
}

static void
feed_in_pieces(Stream *stream, const char *bytes, size_t n)
{
	char *shown = malloc(MOST * 2);
	size_t nshown = 0;
	uint32 most = 1 + draw(draw(4) == 0 ? 300 : 12);
	bool wanted = true;

	for (size_t at = 0; at < n;)
	{
		size_t piece = at_most(1 + draw(most), n - at);
		size_t length;
		const char *text;
		bool now = feed(stream, bytes + at, piece);

		require(wanted || !now, "more is wanted after a failure", bytes, n);
		wanted = now;
		text = eduai_gateway_stream_text(stream, &length);
		require(length >= nshown && length <= MOST * 2 && memcmp(shown, text, nshown) == 0,
				"text was taken back", bytes, n);
		memcpy(shown, text, length);
		nshown = length;
		at += piece;
	}
	free(shown);
}

static void
check_body(Stream *stream, const char *bytes, size_t n)
{
	size_t length;
	const char *body = eduai_gateway_stream_body(stream, &length);
	JsonSlice json;

	if (length == 0 && eduai_gateway_stream_end(stream) >= STREAM_TOO_LARGE)
		return;
	require(eduai_gateway_scan(body, length, &json) && eduai_gateway_scan_is_object(json),
			"the body is no JSON object", bytes, n);
	if (eduai_gateway_stream_end(stream) == STREAM_FINISHED)
		require(eduai_gateway_scan_member(json, "stop_reason").length > 2 ||
					memmem(body, length, "\"finish_reason\":", 16) != NULL,
				"a stream without a reason has finished", bytes, n);
}

static StreamEnd
one(StreamDialect dialect, const char *bytes, size_t n)
{
	size_t max = draw(3) == 0 ? draw(2000) : 1024 * 1024;
	Stream *whole = eduai_gateway_stream_new(dialect, max);
	Stream *pieces = eduai_gateway_stream_new(dialect, max);
	const char *a;
	const char *b;
	size_t na;
	size_t nb;
	StreamEnd end;

	(void) feed(whole, bytes, n);
	feed_in_pieces(pieces, bytes, n);
	a = eduai_gateway_stream_text(whole, &na);
	b = eduai_gateway_stream_text(pieces, &nb);
	require(na == nb && memcmp(a, b, na) == 0, "the texts differ", bytes, n);
	check_body(whole, bytes, n);
	check_body(pieces, bytes, n);
	end = eduai_gateway_stream_end(whole);
	require(end == eduai_gateway_stream_end(pieces), "the ends differ", bytes, n);
	a = eduai_gateway_stream_body(whole, &na);
	b = eduai_gateway_stream_body(pieces, &nb);
	require(na == nb && memcmp(a, b, na) == 0, "the bodies differ", bytes, n);
	eduai_gateway_stream_free(whole);
	eduai_gateway_stream_free(pieces);
	return end;
}

int
main(void)
{
	const char *seed = getenv("SEED");
	const char *seconds = getenv("FUZZ_SECONDS");
	time_t until = time(NULL) + (seconds != NULL ? atoi(seconds) : 30);
	static char bytes[MOST + 64];
	long long ends[STREAM_NO_MEMORY + 1] = {0};
	long long n = 0;

	state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
	while (time(NULL) < until)
		for (int i = 0; i < 1000; i++, n++)
		{
			bool first = draw(2) == 0;
			size_t length = first ? compose(openai, lengthof(openai), bytes)
								  : compose(anthropic, lengthof(anthropic), bytes);

			length = mutate(bytes, length);
			ends[one(first ? STREAM_OPENAI : STREAM_ANTHROPIC, bytes, length)]++;
		}
	printf("%lld streams: %lld open, %lld finished, %lld errors, %lld malformed, %lld too large\n",
		   n, ends[STREAM_OPEN], ends[STREAM_FINISHED], ends[STREAM_ERROR], ends[STREAM_MALFORMED],
		   ends[STREAM_TOO_LARGE]);
	for (int i = 0; i <= STREAM_TOO_LARGE; i++)
		require(ends[i] > 0, "an end never came: the corpus is no use", "", 0);
	return 0;
}
