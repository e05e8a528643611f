/*-------------------------------------------------------------------------
 * anthropic.c
 *		Answers of the Anthropic messages endpoint and its stream.
 *
 * Unlike OpenAI's, input_tokens does not include what came from the cache.
 *-------------------------------------------------------------------------
 */
#include "exchange.h"

static bool
check_messages(Exchange *x)
{
	if (x->request->anthropic_version.p == NULL)
		return exchange_refuse(x, 400, NULL, NULL, "anthropic-version: header is required");
	if (!x->fields.has_model)
		return exchange_refuse(x, 400, NULL, NULL, "model: Field required");
	if (x->fields.max_tokens == -1)
		return exchange_refuse(x, 400, NULL, NULL, "max_tokens: Field required");
	if (x->fields.max_tokens < 1)
		return exchange_refuse(x, 400, NULL, NULL,
							   "max_tokens: must be greater than or equal to 1");
	if (!x->fields.has_messages)
		return exchange_refuse(x, 400, NULL, NULL, "messages: Field required");
	return true;
}

static void
write_usage(Exchange *x, const Content *content, int64_t output_tokens)
{
	int64_t input = content->prompt_tokens - content->cached_tokens;

	buf_str(x->body, "\"usage\":{\"input_tokens\":");
	buf_int(x->body, input > 0 ? input : 0);
	buf_str(x->body, ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":");
	buf_int(x->body, content->cached_tokens);
	buf_str(x->body, ",\"output_tokens\":");
	buf_int(x->body, output_tokens);
	buf_str(x->body, ",\"service_tier\":\"standard\"}");
}

static const char *
stop_reason(const Content *content)
{
	return content->cut_by_max_tokens ? "\"max_tokens\"" : "\"end_turn\"";
}

/* Everything but the content and what follows it. */
static void
write_message_opening(Exchange *x)
{
	buf_str(x->body, "{\"id\":\"msg_sim_");
	buf_int(x->body, (int64_t) x->seq);
	buf_str(x->body, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"");
	buf_json(x->body, x->fields.model);
	buf_str(x->body, "\",\"content\":[");
}

static void
write_message(Exchange *x, const Content *content)
{
	write_message_opening(x);
	buf_str(x->body, "{\"type\":\"text\",\"text\":\"");
	buf_slice(x->body, content->text);
	buf_str(x->body, "\"}]");
	if (!x->behaviour->no_finish)
	{
		buf_str(x->body, ",\"stop_reason\":");
		buf_str(x->body, stop_reason(content));
		buf_str(x->body, ",\"stop_sequence\":null");
	}
	if (!x->behaviour->no_usage)
	{
		buf_str(x->body, ",");
		write_usage(x, content, content->completion_tokens);
	}
	buf_str(x->body, "}");
}

static void
write_event(Exchange *x, const char *name, const char *members)
{
	buf_printf(x->body, "event: %s\ndata: {\"type\":\"%s\"%s}\n\n", name, name, members);
	exchange_end_event(x);
}

static void
write_message_start(Exchange *x, const Content *content)
{
	buf_str(x->body, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
	write_message_opening(x);
	buf_str(x->body, "],\"stop_reason\":null,\"stop_sequence\":null");
	if (!x->behaviour->no_usage)
	{
		buf_str(x->body, ",");
		write_usage(x, content, 1);
	}
	buf_str(x->body, "}}\n\n");
	exchange_end_event(x);
}

static void
write_message_delta(Exchange *x, const Content *content)
{
	buf_str(x->body, "event: message_delta\ndata: {\"type\":\"message_delta\","
					 "\"delta\":{\"stop_reason\":");
	buf_str(x->body, stop_reason(content));
	buf_str(x->body, ",\"stop_sequence\":null}");
	if (!x->behaviour->no_usage)
	{
		buf_str(x->body, ",\"usage\":{\"output_tokens\":");
		buf_int(x->body, content->completion_tokens);
		buf_str(x->body, "}");
	}
	buf_str(x->body, "}\n\n");
	exchange_end_event(x);
}

/* An error event ends the stream: true once it was written. */
static bool
spoil_stream(Exchange *x, int pieces)
{
	if (pieces != PIECES_BEFORE_FAULT)
		return false;
	if (x->behaviour->bad_event)
	{
		buf_str(x->body, "event: content_block_delta\ndata: {\"type\":\"content_block_del\n\n");
		exchange_end_event(x);
	}
	if (x->behaviour->stream_error)
		exchange_write_error_event(x);
	return x->behaviour->stream_error;
}

static void
write_stream(Exchange *x, const Content *content)
{
	Slice rest = content->text;
	Slice piece;
	int pieces = 0;

	x->streamed = true;
	x->content_type = "text/event-stream; charset=utf-8";
	exchange_add_heartbeat(x);
	write_message_start(x, content);
	write_event(x, "content_block_start",
				",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
	write_event(x, "ping", "");
	while (content_next_piece(content, &rest, &piece))
	{
		buf_str(x->body, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
						 "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"");
		buf_slice(x->body, piece);
		buf_str(x->body, "\"}}\n\n");
		exchange_end_event(x);
		if (spoil_stream(x, ++pieces))
			return;
	}
	write_event(x, "content_block_stop", ",\"index\":0");
	if (!x->behaviour->no_finish)
		write_message_delta(x, content);
	if (!x->behaviour->no_done)
		write_event(x, "message_stop", "");
}

static void
answer_messages(Exchange *x)
{
	Content content;

	content_make(x, &content);
	if (x->fields.stream && !x->behaviour->no_stream)
		write_stream(x, &content);
	else
		write_message(x, &content);
}

const Endpoint anthropic_endpoints[] = {
	{"messages", "POST", "/messages", API_ANTHROPIC, BODY_JSON, check_messages, answer_messages},
	{0}};
