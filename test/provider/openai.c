/*-------------------------------------------------------------------------
 * openai.c
 *		Answers of the OpenAI-compatible endpoints: chat and its stream,
 *		and the list of models.
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>

#include "exchange.h"
#include "openai_media.h"

#define MAX_REPEATED_BYTES (1024 * 1024)

static bool
check_chat(Exchange *x)
{
	if (!x->fields.has_model)
		return exchange_refuse(x, 400, "missing_required_parameter", "model",
							   "you must provide a model parameter");
	if (!x->fields.has_messages)
		return exchange_refuse(x, 400, "missing_required_parameter", "messages",
							   "missing required parameter: 'messages'");
	if (x->fields.max_tokens == 0 || x->fields.max_tokens < -1)
		return exchange_refuse(x, 400, "integer_below_min_value", "max_tokens",
							   "'max_tokens' must be at least 1");
	if (x->fields.n == 0 || x->fields.n < -1 || x->fields.n > 128)
		return exchange_refuse(x, 400, "invalid_value", "n", "'n' must be between 1 and 128");
	if (x->fields.n > 1 && x->request->body.len > MAX_REPEATED_BYTES)
		return exchange_refuse(x, 400, "invalid_value", "n",
							   "'n' must be 1 for a request this long");
	return true;
}

static int64_t
choices_wanted(const Exchange *x)
{
	return x->fields.n > 0 ? x->fields.n : 1;
}

static void
write_usage(Exchange *x, const Content *content)
{
	int64_t completion = content->completion_tokens * choices_wanted(x);
	Buf *out = x->body;

	buf_str(out, "\"usage\":{\"prompt_tokens\":");
	buf_int(out, content->prompt_tokens);
	buf_str(out, ",\"completion_tokens\":");
	buf_int(out, completion);
	buf_str(out, ",\"total_tokens\":");
	buf_int(out, content->prompt_tokens + completion);
	buf_str(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
	buf_int(out, content->cached_tokens);
	buf_str(out, ",\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":");
	buf_int(out, content->reasoning_tokens);
	buf_str(out, ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
				 "\"rejected_prediction_tokens\":0}");
	if (x->behaviour->cost != NULL)
	{
		buf_str(out, ",\"cost\":");
		buf_str(out, x->behaviour->cost);
	}
	buf_str(out, "}");
}

static void
write_chat_opening(Exchange *x, Buf *out, const char *object)
{
	buf_str(out, "{\"id\":\"chatcmpl-sim-");
	buf_int(out, (int64_t) x->seq);
	buf_str(out, "\",\"object\":\"");
	buf_str(out, object);
	buf_str(out, "\",\"created\":");
	buf_int(out, x->request->arrival_us / 1000000);
	buf_str(out, ",\"model\":\"");
	buf_json(out, x->fields.model);
	buf_str(out, "\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_simulator\",");
}

static void
write_choice(Exchange *x, const Content *content, int64_t index)
{
	Buf *out = x->body;

	buf_str(out, index > 0 ? ",{\"index\":" : "{\"index\":");
	buf_int(out, index);
	buf_str(out, ",\"message\":{\"role\":\"assistant\",\"content\":\"");
	buf_slice(out, content->text);
	buf_str(out, "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null");
	if (!x->behaviour->no_finish)
		buf_str(out, content->cut_by_max_tokens ? ",\"finish_reason\":\"length\""
												: ",\"finish_reason\":\"stop\"");
	buf_str(out, "}");
}

static void
write_chat(Exchange *x, const Content *content)
{
	write_chat_opening(x, x->body, "chat.completion");
	buf_str(x->body, "\"choices\":[");
	for (int64_t i = 0; i < choices_wanted(x); i++)
		write_choice(x, content, i);
	buf_str(x->body, "]");
	if (!x->behaviour->no_usage)
	{
		buf_str(x->body, ",");
		write_usage(x, content);
	}
	buf_str(x->body, "}");
}

/* One chunk of the stream, around what the caller puts into delta. */
static void
write_delta(Exchange *x, const Buf *opening, int64_t index, const char *member, Slice value,
			const char *finish)
{
	Buf *out = x->body;

	buf_str(out, "data: ");
	buf_add(out, opening->data, opening->len);
	buf_str(out, "\"choices\":[{\"index\":");
	buf_int(out, index);
	buf_str(out, ",\"delta\":{");
	if (member != NULL)
	{
		buf_str(out, member);
		buf_slice(out, value);
		buf_str(out, "\"");
	}
	buf_str(out, "},\"logprobs\":null,\"finish_reason\":");
	buf_str(out, finish);
	buf_str(out, "}]");
	if (x->fields.include_usage && !x->behaviour->no_usage)
		buf_str(out, ",\"usage\":null");
	buf_str(out, "}\n\n");
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
		buf_str(x->body, "data: {\"id\":\"chatcmpl-sim\",\"choices\":[{\"delta\":{\"cont\n\n");
		exchange_end_event(x);
	}
	if (x->behaviour->stream_error)
		exchange_write_error_event(x);
	return x->behaviour->stream_error;
}

static void
write_choice_stream(Exchange *x, const Buf *opening, const Content *content, int64_t index)
{
	Slice rest = content->text;
	Slice piece;
	const Slice nothing = {"", 0};
	int pieces = 0;

	write_delta(x, opening, index, "\"role\":\"assistant\",\"refusal\":null,\"content\":\"",
				nothing, "null");
	while (content_next_piece(content, &rest, &piece))
	{
		write_delta(x, opening, index, "\"content\":\"", piece, "null");
		if (spoil_stream(x, ++pieces))
			return;
	}
	if (!x->behaviour->no_finish)
		write_delta(x, opening, index, NULL, nothing,
					content->cut_by_max_tokens ? "\"length\"" : "\"stop\"");
}

static void
write_chat_stream(Exchange *x, const Content *content)
{
	static Buf opening;

	opening.len = 0;
	write_chat_opening(x, &opening, "chat.completion.chunk");
	x->streamed = true;
	x->content_type = "text/event-stream; charset=utf-8";
	exchange_add_heartbeat(x);
	for (int64_t i = 0; i < choices_wanted(x) && !x->broken_off; i++)
		write_choice_stream(x, &opening, content, i);
	if (x->broken_off)
		return;
	if (x->fields.include_usage && !x->behaviour->no_usage)
	{
		buf_str(x->body, "data: ");
		buf_add(x->body, opening.data, opening.len);
		buf_str(x->body, "\"choices\":[],");
		write_usage(x, content);
		buf_str(x->body, "}\n\n");
		exchange_end_event(x);
	}
	if (!x->behaviour->no_done)
	{
		buf_str(x->body, "data: [DONE]\n\n");
		exchange_end_event(x);
	}
}

static void
answer_chat(Exchange *x)
{
	Content content;

	content_make(x, &content);
	if (x->fields.stream && !x->behaviour->no_stream)
		write_chat_stream(x, &content);
	else
		write_chat(x, &content);
}

static void
answer_models(Exchange *x)
{
	static const char *const models[] = {"sim-chat", "sim-embedding", "sim-image", "sim-speech"};

	buf_str(x->body, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
		buf_printf(x->body,
				   "%s{\"id\":\"%s\",\"object\":\"model\","
				   "\"created\":1700000000,\"owned_by\":\"eduai-simulator\"}",
				   i > 0 ? "," : "", models[i]);
	buf_str(x->body, "]}");
}

const Endpoint openai_endpoints[] = {
	{"chat", "POST", "/chat/completions", API_OPENAI, BODY_JSON, check_chat, answer_chat},
	{"embeddings", "POST", "/embeddings", API_OPENAI, BODY_JSON, openai_check_embeddings,
	 openai_answer_embeddings},
	{"images", "POST", "/images/generations", API_OPENAI, BODY_JSON, openai_check_images,
	 openai_answer_images},
	{"transcriptions", "POST", "/audio/transcriptions", API_OPENAI, BODY_MULTIPART,
	 openai_check_transcription, openai_answer_transcription},
	{"models", "GET", "/models", API_OPENAI, BODY_NONE, NULL, answer_models},
	{0}};
