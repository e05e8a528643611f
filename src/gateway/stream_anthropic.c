/*
 * stream_anthropic.c: the events of Anthropic's Messages API, and the message
 * that they make.  See stream.h.
 *
 * message_start brings the message without content; each content block has a
 * start, deltas and a stop; message_delta brings the stop reason and what of
 * the usage has changed, as sums; then message_stop.  Pings and events of
 * kinds yet unknown are passed over, as the documentation asks.
 *
 * A tool's input comes as JSON cut anywhere.  Cut by max_tokens it is no JSON,
 * and the call gets an empty input; for any other reason the stream is broken.
 */
#include "postgres.h"

#include "gateway/stream_internal.h"

#define MAX_BLOCKS 4096

/* deltas that are strings to be added to the block's member of that name */
static const struct
{
	const char *type;
	const char *member;
} deltas[] = {
	{"text_delta", "text"}, {"thinking_delta", "thinking"}, {"signature_delta", "signature"}};
#define TEXT 0

typedef struct Block
{
	Bytes start;                     /* the block as it began, a JSON object; empty: no block */
	Bytes strings[lengthof(deltas)]; /* insides of strings */
	bool given[lengthof(deltas)];
	Bytes input;     /* JSON, decoded */
	int high;        /* of its decoding */
	Bytes citations; /* elements */
} Block;

typedef struct State
{
	Bytes message; /* as it began, a JSON object */
	Bytes usage;   /* what message_delta said of it, a JSON object */
	Bytes stop_reason;
	Bytes stop_sequence;
	Block *blocks;
	int nblocks;
} State;

static void *
state_new(void)
{
	return calloc(1, sizeof(State));
}

static void
state_free(void *arg)
{
	State *state = arg;

	eduai_gateway_bytes_free(&state->message);
	eduai_gateway_bytes_free(&state->usage);
	eduai_gateway_bytes_free(&state->stop_reason);
	eduai_gateway_bytes_free(&state->stop_sequence);
	for (int i = 0; i < state->nblocks; i++)
	{
		eduai_gateway_bytes_free(&state->blocks[i].start);
		for (int k = 0; k < lengthof(deltas); k++)
			eduai_gateway_bytes_free(&state->blocks[i].strings[k]);
		eduai_gateway_bytes_free(&state->blocks[i].input);
		eduai_gateway_bytes_free(&state->blocks[i].citations);
	}
	free(state->blocks);
	free(state);
}

static JsonSlice
slice_of(const Bytes *bytes)
{
	return (JsonSlice){bytes->at, bytes->length};
}

/* ---- blocks ---- */

static bool
start_block(Stream *stream, State *state, JsonSlice json)
{
	JsonSlice block = eduai_gateway_scan_member(json, "content_block");
	JsonSlice text;
	int index;

	/* they begin one after the other */
	if (!eduai_gateway_scan_is_object(block) ||
		!eduai_gateway_scan_count(eduai_gateway_scan_member(json, "index"), &index) ||
		index != state->nblocks)
		return eduai_gateway_stream_fail(stream, STREAM_MALFORMED);
	if (index >= MAX_BLOCKS)
		return eduai_gateway_stream_fail(stream, STREAM_TOO_LARGE);
	if ((state->nblocks & (state->nblocks - 1)) == 0)
	{
		Block *blocks = realloc(state->blocks, sizeof(Block) * Max(state->nblocks * 2, 1));

		if (blocks == NULL)
			return eduai_gateway_stream_fail(stream, STREAM_NO_MEMORY);
		state->blocks = blocks;
	}
	memset(&state->blocks[index], 0, sizeof(Block));
	state->nblocks++;
	if (eduai_gateway_scan_is(eduai_gateway_scan_member(block, "type"), "text") &&
		eduai_gateway_scan_string(eduai_gateway_scan_member(block, "text"), &text) &&
		!eduai_gateway_stream_show(stream, text))
		return false;
	return eduai_gateway_stream_keep_slice(stream, &state->blocks[index].start, block);
}

static bool
add_citation(Stream *stream, Block *block, JsonSlice citation)
{
	return eduai_gateway_scan_is_null(citation) ||
		   eduai_gateway_stream_keep_element(stream, &block->citations, citation);
}

static bool
add_delta(Stream *stream, Block *block, JsonSlice delta)
{
	JsonSlice type = eduai_gateway_scan_member(delta, "type");
	JsonSlice inside;

	for (int i = 0; i < lengthof(deltas); i++)
	{
		if (!eduai_gateway_scan_is(type, deltas[i].type) ||
			!eduai_gateway_scan_string(eduai_gateway_scan_member(delta, deltas[i].member), &inside))
			continue;
		block->given[i] = true;
		return eduai_gateway_stream_keep_slice(stream, &block->strings[i], inside) &&
			   (i != TEXT || eduai_gateway_stream_show(stream, inside));
	}
	if (eduai_gateway_scan_is(type, "input_json_delta") &&
		eduai_gateway_scan_string(eduai_gateway_scan_member(delta, "partial_json"), &inside))
		return eduai_gateway_stream_decode(stream, &block->input, &block->high, inside);
	if (eduai_gateway_scan_is(type, "citations_delta"))
		return add_citation(stream, block, eduai_gateway_scan_member(delta, "citation"));
	return true;
}

static bool
change_block(Stream *stream, State *state, JsonSlice json)
{
	int index;

	if (!eduai_gateway_scan_count(eduai_gateway_scan_member(json, "index"), &index) ||
		index >= state->nblocks)
		return eduai_gateway_stream_fail(stream, STREAM_MALFORMED);
	return add_delta(stream, &state->blocks[index], eduai_gateway_scan_member(json, "delta"));
}

/* ---- the message ---- */

static bool
start_message(Stream *stream, State *state, JsonSlice json)
{
	JsonSlice message = eduai_gateway_scan_member(json, "message");

	if (!eduai_gateway_scan_is_object(message) || state->message.length > 0)
		return eduai_gateway_stream_fail(stream, STREAM_MALFORMED);
	return eduai_gateway_stream_keep_slice(stream, &state->message, message);
}

static bool
change_message(Stream *stream, State *state, JsonSlice json)
{
	JsonSlice delta = eduai_gateway_scan_member(json, "delta");
	JsonSlice usage = eduai_gateway_scan_member(json, "usage");

	if (eduai_gateway_scan_is_object(usage) &&
		!eduai_gateway_stream_keep_last(stream, &state->usage, usage))
		return false;
	if (!eduai_gateway_stream_keep_last(stream, &state->stop_reason,
										eduai_gateway_scan_member(delta, "stop_reason")) ||
		!eduai_gateway_stream_keep_last(stream, &state->stop_sequence,
										eduai_gateway_scan_member(delta, "stop_sequence")))
		return false;
	if (state->stop_reason.length > 2)
		stream->end = STREAM_FINISHED;
	return true;
}

static bool
on_event(Stream *stream, const char *name, JsonSlice json)
{
	State *state = stream->state;
	JsonSlice type = eduai_gateway_scan_member(json, "type");

	if (eduai_gateway_scan_is(type, "ping"))
		return true;
	stream->begun = true;
	if (eduai_gateway_scan_is(type, "error") || strcmp(name, "error") == 0 ||
		!eduai_gateway_scan_is_null(eduai_gateway_scan_member(json, "error")))
		return eduai_gateway_stream_error(stream, name, json);
	if (eduai_gateway_scan_is(type, "message_start"))
		return start_message(stream, state, json);
	if (eduai_gateway_scan_is(type, "content_block_start"))
		return start_block(stream, state, json);
	if (eduai_gateway_scan_is(type, "content_block_delta"))
		return change_block(stream, state, json);
	if (eduai_gateway_scan_is(type, "message_delta"))
		return change_message(stream, state, json);
	if (eduai_gateway_scan_is(type, "message_stop"))
		stream->over = true;
	return true;
}

/* ---- the body ---- */

static bool
key_is(JsonSlice key, const char *name)
{
	return key.length == strlen(name) && memcmp(key.at, name, key.length) == 0;
}

/* key and value as they were written, behind a comma where one is needed */
static bool
put_member(Stream *stream, JsonSlice key, JsonSlice value)
{
	bool first = stream->body.at[stream->body.length - 1] == '{';

	return eduai_gateway_stream_put(stream, first ? "\"" : ",\"") &&
		   eduai_gateway_stream_put_slice(stream, key) && eduai_gateway_stream_put(stream, "\":") &&
		   eduai_gateway_stream_put_slice(stream, value);
}

/* A block's string: as it began, then its deltas. */
static bool
put_string(Stream *stream, JsonSlice start, const Bytes *more, const char *key)
{
	JsonSlice inside = {0};

	(void) eduai_gateway_scan_string(eduai_gateway_scan_member(start, key), &inside);
	return eduai_gateway_stream_put_key(stream, key) && eduai_gateway_stream_put(stream, "\"") &&
		   eduai_gateway_stream_put_slice(stream, inside) &&
		   eduai_gateway_stream_put_bytes(stream, more) && eduai_gateway_stream_put(stream, "\"");
}

static bool
put_input(Stream *stream, const State *state, const Block *block)
{
	JsonSlice stop = slice_of(&state->stop_reason);
	JsonSlice value;

	if (!eduai_gateway_stream_put_key(stream, "input"))
		return false;
	if (eduai_gateway_scan(block->input.at, block->input.length, &value))
		return eduai_gateway_stream_put_slice(stream, value);
	/* of a stream that has no end yet it is no wonder */
	if (stop.length > 0 && !eduai_gateway_scan_is(stop, "max_tokens"))
		stream->end = STREAM_MALFORMED;
	return eduai_gateway_stream_put(stream, "{}");
}

/* Which of a block's members have grown since it began? */
static bool
has_grown(const Block *block, JsonSlice key)
{
	for (int i = 0; i < lengthof(deltas); i++)
		if (block->given[i] && key_is(key, deltas[i].member))
			return true;
	return (block->input.length > 0 && key_is(key, "input")) ||
		   (block->citations.length > 0 && key_is(key, "citations"));
}

static bool
put_block(Stream *stream, const State *state, const Block *block)
{
	JsonSlice start = slice_of(&block->start);
	size_t position = 0;
	JsonSlice key;
	JsonSlice value;

	if (!eduai_gateway_stream_put(stream, "{"))
		return false;
	while (eduai_gateway_scan_next(start, &position, &key, &value))
		if (!has_grown(block, key) && !put_member(stream, key, value))
			return false;
	for (int i = 0; i < lengthof(deltas); i++)
		if (block->given[i] && !put_string(stream, start, &block->strings[i], deltas[i].member))
			return false;
	if (block->input.length > 0 && !put_input(stream, state, block))
		return false;
	if (block->citations.length > 0 &&
		!(eduai_gateway_stream_put_key(stream, "citations") &&
		  eduai_gateway_stream_put(stream, "[") &&
		  eduai_gateway_stream_put_bytes(stream, &block->citations) &&
		  eduai_gateway_stream_put(stream, "]")))
		return false;
	return eduai_gateway_stream_put(stream, "}");
}

/* What message_delta says wins, but for nulls. */
static bool
put_usage(Stream *stream, const State *state)
{
	JsonSlice before = eduai_gateway_scan_member(slice_of(&state->message), "usage");
	JsonSlice after = slice_of(&state->usage);
	size_t position = 0;
	JsonSlice key;
	JsonSlice value;

	if (!eduai_gateway_stream_put(stream, ",\"usage\":{"))
		return false;
	while (eduai_gateway_scan_next(before, &position, &key, &value))
	{
		JsonSlice name;
		JsonSlice newer;
		size_t at = 0;
		bool replaced = false;

		while (eduai_gateway_scan_next(after, &at, &name, &newer))
			replaced = replaced ||
					   (name.length == key.length && memcmp(name.at, key.at, key.length) == 0 &&
						!eduai_gateway_scan_is_null(newer));
		if (!replaced && !put_member(stream, key, value))
			return false;
	}
	position = 0;
	while (eduai_gateway_scan_next(after, &position, &key, &value))
		if (!eduai_gateway_scan_is_null(value) && !put_member(stream, key, value))
			return false;
	return eduai_gateway_stream_put(stream, "}");
}

static bool
put_heads(Stream *stream, const State *state)
{
	static const char *const replaced[] = {"content", "stop_reason", "stop_sequence", "usage"};
	JsonSlice message = slice_of(&state->message);
	size_t position = 0;
	JsonSlice key;
	JsonSlice value;

	while (eduai_gateway_scan_next(message, &position, &key, &value))
	{
		bool keep = true;

		for (int i = 0; i < lengthof(replaced); i++)
			keep = keep && !key_is(key, replaced[i]);
		if (keep && !put_member(stream, key, value))
			return false;
	}
	return true;
}

static bool
assemble(Stream *stream)
{
	const State *state = stream->state;

	if (!eduai_gateway_stream_put(stream, "{") || !put_heads(stream, state) ||
		!eduai_gateway_stream_put_key(stream, "content") || !eduai_gateway_stream_put(stream, "["))
		return false;
	for (int i = 0; i < state->nblocks; i++)
		if (!(i == 0 || eduai_gateway_stream_put(stream, ",")) ||
			!put_block(stream, state, &state->blocks[i]))
			return false;
	return eduai_gateway_stream_put(stream, "]") &&
		   eduai_gateway_stream_put_value(stream, "stop_reason", &state->stop_reason) &&
		   eduai_gateway_stream_put_value(stream, "stop_sequence", &state->stop_sequence) &&
		   put_usage(stream, state) && eduai_gateway_stream_put(stream, "}");
}

const StreamParser eduai_gateway_stream_anthropic = {
	.new = state_new,
	.free = state_free,
	.event = on_event,
	.assemble = assemble,
};
