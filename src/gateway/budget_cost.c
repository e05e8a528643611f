/*
 * budget_cost.c: the most that a call can cost, before it is sent.
 *
 * Pure.  What makes it a true bound:
 *
 *   input    The bytes of the payload as JSON, in UTF-8, count as tokens: no
 *            tokenizer that knows each byte makes more tokens than bytes.  What
 *            providers add (templates, tools' system prompts) has its own
 *            allowance, a picture as well: its tokens have nothing to do with
 *            its bytes.  All at the dearest of the input's prices.
 *   output   What the request says (max_tokens, max_completion_tokens), or the
 *            instance's max_output_tokens, which the adapters send where the
 *            request is silent; for each choice (n).  At the dearer of the
 *            output's prices.  Reasoning is output.
 *   pictures The request's n.
 *   audio    Seconds are not known before: the file's bytes at the slowest rate
 *            that its format has.
 *
 * Where a request asks for what no such number bounds (other models to fall
 * back to, the provider's own tools, files by reference), there is no bound.
 * What costs nothing is bounded by that.
 */
#include "postgres.h"

#include "gateway/adapter.h"
#include "gateway/budget.h"
#include "gateway/wire.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"

#define BASE_TOKENS         256 /* templates, default system prompts */
#define MESSAGE_TOKENS      16
#define TOOLS_TOKENS        1024 /* the system prompt that a provider adds for tools */
#define TOOL_TOKENS         64
#define ANALYSIS_TOKENS     4096 /* the instructions and the schema that the gateway adds */
#define IMAGE_TOKENS        50000 /* the most that any provider counts, options.image_tokens says less */
#define ANTHROPIC_TOKENS    4096 /* max_tokens where nobody says anything, as the adapter sends it */
#define AUDIO_TOKENS        50   /* a second of sound, and what is said in it */
#define MPEG_BYTES_A_SECOND 1000 /* the slowest that MPEG audio has; RIFF's codecs are faster */
#define MIN_BYTES_A_SECOND  250  /* the slowest speech codec */

/* ---- arithmetic ---- */

static Numeric
times(Numeric a, Numeric b)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_mul, NumericGetDatum(a), NumericGetDatum(b)));
}

static Numeric
plus(Numeric a, Numeric b)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

static bool
is_zero(Numeric a)
{
	return DatumGetBool(
		DirectFunctionCall2(numeric_eq, NumericGetDatum(a), NumericGetDatum(int64_to_numeric(0))));
}

/* the dearer; b NULL: it has no price of its own */
static Numeric
dearer(Numeric a, Numeric b)
{
	if (b == NULL)
		return a;
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(a), NumericGetDatum(b)))
			   ? b
			   : a;
}

/* ---- what has no bound ---- */

/* Parameters that let the provider charge for what the tokens' bounds do not hold. */
static const char *const unbounded_keys[] = {
	"models",
	"plugins",
	"web_search_options",
	"prediction",
};

static bool
is_present(const Jsonb *json, const char *key)
{
	JsonbValue value;

	return eduai_core_json_get(json, key, &value) && value.type != jbvNull;
}

/* A tool that the provider runs is charged by its use. */
static bool
has_foreign_tool(const Jsonb *tools)
{
	for (int i = 0; i < eduai_core_json_length(tools); i++)
	{
		Jsonb *tool = eduai_core_json_element(tools, i);
		char *type = eduai_gateway_string(tool, "type");

		if (type != NULL && strcmp(type, "function") != 0 && strcmp(type, "custom") != 0)
			return true;
	}
	return false;
}

static bool
has_dear_tier(const Jsonb *payload)
{
	char *tier = eduai_gateway_string(payload, "service_tier");

	return tier != NULL && strcmp(tier, "auto") != 0 && strcmp(tier, "default") != 0 &&
		   strcmp(tier, "standard_only") != 0 && strcmp(tier, "flex") != 0;
}

static bool
speaks(const Jsonb *payload)
{
	Jsonb *modalities = eduai_core_json_child(payload, "modalities");

	for (int i = 0; i < eduai_core_json_length(modalities); i++)
	{
		char *name = eduai_core_json_element_text(modalities, i);

		if (name != NULL && strcmp(name, "text") != 0)
			return true;
	}
	return false;
}

static bool
has_extras(const Jsonb *payload)
{
	for (size_t i = 0; i < lengthof(unbounded_keys); i++)
		if (is_present(payload, unbounded_keys[i]))
			return true;
	return has_foreign_tool(eduai_core_json_child(payload, "tools")) || has_dear_tier(payload) ||
		   speaks(payload);
}

/* ---- input ---- */

/* Bytes of the payload as it is sent; other encodings grow on their way to UTF-8. */
static int64
sent_bytes(const Jsonb *payload)
{
	int64 bytes = (int64) strlen(eduai_core_json_cstring(payload));

	return GetDatabaseEncoding() == PG_UTF8 ? bytes : bytes * 3;
}

/* its bytes are more than its tokens, and are there */
static bool
is_inline_audio(const Jsonb *part)
{
	return eduai_gateway_string(eduai_core_json_child(part, "input_audio"), "data") != NULL;
}

/* Tokens of a message beyond its bytes; -1: no bound. */
static int64
message_tokens(const Jsonb *message, int64 image_tokens)
{
	Jsonb *parts = eduai_core_json_child(message, "content");
	int64 tokens = MESSAGE_TOKENS;

	for (int i = 0; i < eduai_core_json_length(parts); i++)
	{
		Jsonb *part = eduai_core_json_element(parts, i);
		char *type = eduai_gateway_string(part, "type");

		if (type == NULL || strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 ||
			strcmp(type, "refusal") == 0 || strcmp(type, "tool_result") == 0 ||
			strcmp(type, "tool_use") == 0)
			tokens += MESSAGE_TOKENS;
		else if (strcmp(type, "image_url") == 0 || strcmp(type, "image") == 0 ||
				 strcmp(type, "input_image") == 0)
			tokens += image_tokens;
		else if (strcmp(type, "input_audio") != 0 || !is_inline_audio(part))
			return -1;
	}
	return tokens;
}

/* -1: no bound */
static int64
chat_tokens_in(const Instance *instance, const char *task_type, const Jsonb *payload)
{
	Jsonb *messages = eduai_core_json_child(payload, "messages");
	int ntools = eduai_core_json_length(eduai_core_json_child(payload, "tools"));
	int64 tokens = BASE_TOKENS + MESSAGE_TOKENS + sent_bytes(payload);
	int64 image_tokens;

	if (!eduai_core_json_int64(instance->options, "image_tokens", &image_tokens))
		image_tokens = IMAGE_TOKENS;
	for (int i = 0; i < eduai_core_json_length(messages); i++)
	{
		int64 more = message_tokens(eduai_core_json_element(messages, i), image_tokens);

		if (more < 0)
			return -1;
		tokens += more;
	}
	if (ntools > 0)
		tokens += TOOLS_TOKENS + (int64) ntools * TOOL_TOKENS;
	if (strcmp(task_type, "analysis") == 0)
		tokens += ANALYSIS_TOKENS;
	return tokens;
}

/* ---- output ---- */

static bool
positive(const Jsonb *payload, const char *key, int64 *value)
{
	return eduai_core_json_int64(payload, key, value) && *value > 0;
}

/* As the adapters send it: the payload's own, else the instance's; -1: none is sent. */
static int64
tokens_out(const Instance *instance, const Jsonb *payload)
{
	int64 limit;
	int64 other;

	if (positive(payload, "max_tokens", &limit))
		return positive(payload, "max_completion_tokens", &other) ? Max(limit, other) : limit;
	if (positive(payload, "max_completion_tokens", &limit))
		return limit;
	/* a number that is none of theirs is sent as it is, and bounds nothing */
	if (eduai_core_json_numeric(payload, "max_tokens") != NULL ||
		eduai_core_json_numeric(payload, "max_completion_tokens") != NULL)
		return -1;
	if (instance->max_output_tokens > 0)
		return instance->max_output_tokens;
	return strcmp(instance->provider->kind, "anthropic") == 0 ? ANTHROPIC_TOKENS : -1;
}

static int64
choices(const Jsonb *payload)
{
	int64 n;

	return positive(payload, "n", &n) ? n : 1;
}

/* ---- sums ---- */

static const char *const no_output_limit =
	"set max_tokens in the payload, or max_output_tokens at the instance";
static const char *const no_input_limit =
	"the tokens of some part of a message have no bound (files and the like)";
static const char *const no_audio_length =
	"give the audio as base64 or as an attachment, so that its size is known";
static const char *const has_own_price =
	"the payload asks for what the provider charges by other rules (models, plugins, "
	"web_search_options, prediction, service_tier, modalities, or tools of its own)";

/* -1 tokens: no bound, unless they cost nothing */
static Numeric
price_of(Numeric price, int64 tokens)
{
	if (is_zero(price))
		return int64_to_numeric(0);
	return tokens < 0 ? NULL : times(price, int64_to_numeric(tokens));
}

static Numeric
dearest_input(const Instance *i)
{
	Numeric price = dearer(dearer(i->price_input, i->price_cached), i->price_cache_write);

	price = dearer(dearer(price, i->price_cache_write_1h), i->price_audio_input);
	return dearer(price, i->price_image_input);
}

/* *why is of the input's when it has no bound, and stays as it is then */
static Numeric
tokens_cost(const Instance *instance, int64 in, int64 out, int64 choices, const char **why)
{
	Numeric input = price_of(dearest_input(instance), in);
	Numeric output = price_of(dearer(dearer(instance->price_output, instance->price_reasoning),
									 instance->price_audio_output),
							  out);

	if (input == NULL)
		return NULL;
	*why = no_output_limit;
	if (output == NULL)
		return NULL;
	/* a division would round; a product with a power of ten does not */
	return times(plus(input, times(output, int64_to_numeric(choices))),
				 int64_div_fast_to_numeric(1, 6));
}

/* ---- audio ---- */

/* By what the file begins with: a label may be wrong. */
static int64
bytes_a_second(const unsigned char *head)
{
	bool mpeg = head[0] == 0xFF && (head[1] & 0xE0) == 0xE0;

	return mpeg || memcmp(head, "ID3", 3) == 0 || memcmp(head, "RIFF", 4) == 0 ? MPEG_BYTES_A_SECOND
																			   : MIN_BYTES_A_SECOND;
}

/* the file in the payload, as far as it matters */
static bool
inline_audio(const Jsonb *payload, BudgetAudio *audio)
{
	char *base64 = eduai_gateway_string(eduai_core_json_child(payload, "audio"), "base64");
	const char *comma = base64 != NULL ? strchr(base64, ',') : NULL;
	char *bytes;
	char *type;
	size_t length;

	if (base64 == NULL)
		return false;
	if (comma != NULL)
		base64 = (char *) comma + 1;
	audio->bytes = (int64) strlen(base64) / 4 * 3 + 3;
	memset(audio->head, 0, sizeof(audio->head));
	if (eduai_gateway_base64(pnstrdup(base64, 8), &bytes, &length, &type))
		memcpy(audio->head, bytes, Min(length, sizeof(audio->head)));
	return true;
}

/* -1: nobody knows */
static int64
audio_seconds(const Jsonb *payload, const BudgetAudio *audio)
{
	BudgetAudio own;

	if (inline_audio(payload, &own))
		audio = &own;
	return audio == NULL ? -1 : audio->bytes / bytes_a_second(audio->head) + 1;
}

static Numeric
transcription_bound(const Instance *instance, const Jsonb *payload, const BudgetAudio *audio,
					const char **why)
{
	int64 seconds = audio_seconds(payload, audio);
	char *prompt = eduai_gateway_string(payload, "prompt");
	int64 in = seconds < 0 ? -1 : seconds * AUDIO_TOKENS + BASE_TOKENS;
	int64 out = instance->max_output_tokens > 0 ? instance->max_output_tokens : -1;
	Numeric by_second =
		instance->price_audio_second != NULL ? instance->price_audio_second : int64_to_numeric(0);
	Numeric cost;

	if (in >= 0 && prompt != NULL)
		in += (int64) strlen(prompt) * 3;
	*why = no_audio_length;
	if (seconds < 0 && !is_zero(by_second))
		return NULL;
	cost = tokens_cost(instance, in, out, 1, why);
	return cost == NULL ? NULL : plus(cost, times(by_second, int64_to_numeric(Max(seconds, 0))));
}

/* ---- the bound ---- */

static Numeric
image_bound(const Instance *instance, const Jsonb *payload, const char **why)
{
	int64 n = choices(payload);
	int64 out = instance->max_output_tokens > 0 ? instance->max_output_tokens : -1;
	Numeric cost = tokens_cost(instance, BASE_TOKENS + sent_bytes(payload), out, n, why);

	if (cost == NULL || instance->price_image == NULL)
		return cost;
	return plus(cost, times(instance->price_image, int64_to_numeric(n)));
}

static bool
costs_nothing(const Instance *i)
{
	Numeric prices[] = {i->price_input,        i->price_output,         i->price_cached,
						i->price_cache_write,  i->price_reasoning,      i->price_image,
						i->price_audio_second, i->price_cache_write_1h, i->price_audio_input,
						i->price_image_input,  i->price_audio_output};

	for (size_t k = 0; k < lengthof(prices); k++)
		if (prices[k] != NULL && !is_zero(prices[k]))
			return false;
	/* it says itself what it charges */
	return strcmp(i->provider->kind, "openrouter") != 0;
}

static Numeric
bound(const Instance *instance, const char *task_type, const Jsonb *payload,
	  const BudgetAudio *audio, const char **why)
{
	if (costs_nothing(instance))
		return int64_to_numeric(0);
	*why = has_own_price;
	if (has_extras(payload))
		return NULL;
	if (strcmp(task_type, "embeddings") == 0)
		return tokens_cost(instance, BASE_TOKENS + sent_bytes(payload), 0, 1, why);
	if (strcmp(task_type, "image_generation") == 0)
		return image_bound(instance, payload, why);
	if (strcmp(task_type, "transcription") == 0)
		return transcription_bound(instance, payload, audio, why);
	*why = no_input_limit;
	return tokens_cost(instance, chat_tokens_in(instance, task_type, payload),
					   tokens_out(instance, payload), choices(payload), why);
}

Numeric
eduai_gateway_cost_bound(const Instance *instance, const char *task_type, const Jsonb *payload,
						 const BudgetAudio *audio, const char **why)
{
	const char *ignored;
	Numeric cost = bound(instance, task_type, payload, audio, why != NULL ? why : &ignored);

	return cost == NULL
			   ? NULL
			   : DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(cost)));
}

/* ---- afterwards ---- */

static bool
has_usage(const CallOutcome *o)
{
	return o->tokens_in > 0 || o->tokens_out > 0 || o->images > 0 || o->audio_ms > 0 ||
		   !is_zero(o->cost_usd);
}

bool
eduai_gateway_cost_is_known(const CallOutcome *outcome)
{
	if (has_usage(outcome))
		return true;
	/* an answer without a word of what it used says nothing of what it costs */
	if (outcome->verdict == CALL_COMPLETED)
		return false;
	/* it never left, or the provider refused it */
	return !outcome->sent || outcome->http_status >= 300;
}
