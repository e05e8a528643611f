/*-------------------------------------------------------------------------
 * openai_media.c
 *		Embeddings, images and transcriptions.
 *
 * An embedding is drawn from the hash of its input's characters, and has
 * length one: the same text has the same vector, whatever its escaping.
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "openai_media.h"

#define DEFAULT_DIMENSIONS     8
#define MAX_DIMENSIONS         16384
#define MAX_INPUTS             2048
#define MAX_NUMBERS            (1024 * 1024)
#define MAX_QUOTED_CHARS       1000
#define AUDIO_BYTES_PER_SECOND 16000

/* One pixel. */
const char *const openai_image_base64 =
	"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
	"+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/* An array of integers is one input, already cut into tokens. */
static bool
is_one_input(JsonValue input)
{
	JsonIter iter = json_iterate(input);

	return input.kind == JSON_STRING || (json_next(&iter) && iter.value.kind == JSON_NUMBER);
}

bool
openai_check_embeddings(Exchange *x)
{
	JsonIter iter = json_iterate(x->fields.input);
	int count = 0;

	if (!x->fields.has_model)
		return exchange_refuse(x, 400, "missing_required_parameter", "model",
							   "you must provide a model parameter");
	while (json_next(&iter))
	{
		count++;
		if (iter.value.kind == JSON_STRING && iter.value.raw.len == 0)
			return exchange_refuse(x, 400, NULL, "input", "'input' cannot be empty");
	}
	if (x->fields.input.kind == JSON_STRING ? x->fields.input.raw.len == 0
											: x->fields.input.kind != JSON_ARRAY || count == 0)
		return exchange_refuse(x, 400, NULL, "input", "'$.input' is invalid");
	if (count > MAX_INPUTS && !is_one_input(x->fields.input))
		return exchange_refuse(x, 400, NULL, "input", "too many inputs, at most 2048");
	if (x->fields.dimensions == 0 || x->fields.dimensions < -1 ||
		x->fields.dimensions > MAX_DIMENSIONS)
		return exchange_refuse(x, 400, "invalid_value", "dimensions",
							   "'dimensions' must be between 1 and 16384");
	if (count * x->fields.dimensions > MAX_NUMBERS)
		return exchange_refuse(x, 400, "invalid_value", "dimensions",
							   "'dimensions' is too large for this many inputs");
	return true;
}

static uint64_t
hash_input(JsonValue input)
{
	const char *p = input.raw.p;
	const char *end = p + input.raw.len;
	uint64_t hash = FNV64_START;

	while (p < end)
	{
		uint32_t c = json_char(&p, end);

		hash = fnv64(hash, &c, sizeof(c));
	}
	return hash;
}

static void
make_vector(uint64_t state, float *vector, int64_t dimensions)
{
	double square = 0;

	for (int64_t i = 0; i < dimensions; i++)
	{
		uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		vector[i] = (float) ((double) (z >> 11) / 4503599627370496.0 - 1);
		square += (double) vector[i] * vector[i];
	}
	for (int64_t i = 0; i < dimensions; i++)
		vector[i] = (float) (vector[i] / sqrt(square));
}

static void
add_base64(Buf *out, const unsigned char *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3)
	{
		uint32_t bits = (uint32_t) data[i] << 16;
		char quad[4];

		if (i + 1 < len)
			bits |= (uint32_t) data[i + 1] << 8;
		if (i + 2 < len)
			bits |= data[i + 2];
		quad[0] = digits[bits >> 18];
		quad[1] = digits[bits >> 12 & 63];
		quad[2] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
		quad[3] = i + 2 < len ? digits[bits & 63] : '=';
		buf_add(out, quad, 4);
	}
}

static void
write_embedding(Exchange *x, JsonValue input, int index)
{
	static float vector[MAX_DIMENSIONS];
	int64_t dimensions = x->fields.dimensions > 0 ? x->fields.dimensions : DEFAULT_DIMENSIONS;

	make_vector(hash_input(input), vector, dimensions);
	buf_printf(x->body,
			   "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", index > 0 ? "," : "",
			   index);
	if (slice_is(x->fields.encoding_format, "base64"))
	{
		buf_str(x->body, "\"");
		add_base64(x->body, (unsigned char *) vector, sizeof(float) * dimensions);
		buf_str(x->body, "\"}");
		return;
	}
	for (int64_t i = 0; i < dimensions; i++)
		buf_printf(x->body, "%s%.9g", i > 0 ? "," : "[", vector[i]);
	buf_str(x->body, "]}");
}

/* Characters of a text, or four for every token. */
static size_t
input_chars(JsonValue input)
{
	JsonIter iter = json_iterate(input);
	size_t chars = 0;

	if (input.kind == JSON_STRING)
		return json_chars(input.raw);
	while (json_next(&iter))
		chars += 4;
	return chars;
}

void
openai_answer_embeddings(Exchange *x)
{
	JsonIter iter = json_iterate(x->fields.input);
	int64_t tokens = 0;
	int index = 0;

	buf_str(x->body, "{\"object\":\"list\",\"data\":[");
	if (is_one_input(x->fields.input))
	{
		write_embedding(x, x->fields.input, 0);
		tokens = (int64_t) input_chars(x->fields.input) / 4 + 1;
	}
	else
	{
		while (json_next(&iter))
		{
			write_embedding(x, iter.value, index++);
			tokens += (int64_t) input_chars(iter.value) / 4 + 1;
		}
	}
	buf_str(x->body, "],\"model\":\"");
	buf_json(x->body, x->fields.model);
	content_add_oddities(x->behaviour, x->body);
	buf_str(x->body, "\"");
	if (x->behaviour->tokens_in >= 0)
		tokens = x->behaviour->tokens_in;
	if (!x->behaviour->no_usage)
		buf_printf(x->body, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}",
				   (long long) tokens, (long long) tokens);
	buf_str(x->body, "}");
}

bool
openai_check_images(Exchange *x)
{
	if (x->fields.prompt.kind != JSON_STRING)
		return exchange_refuse(x, 400, "missing_required_parameter", "prompt",
							   "missing required parameter: 'prompt'");
	if (!x->fields.has_model)
		return exchange_refuse(x, 400, "missing_required_parameter", "model",
							   "you must provide a model parameter");
	if (x->fields.n == 0 || x->fields.n < -1 || x->fields.n > 10)
		return exchange_refuse(x, 400, "invalid_value", "n", "'n' must be between 1 and 10");
	return true;
}

static void
write_image_usage(Exchange *x, int64_t images)
{
	int64_t input = (int64_t) json_chars(x->fields.prompt.raw) / 4 + 1;
	int64_t output = 256 * images;

	if (x->behaviour->tokens_in >= 0)
		input = x->behaviour->tokens_in;
	if (x->behaviour->tokens_out >= 0)
		output = x->behaviour->tokens_out;
	buf_printf(x->body,
			   ",\"usage\":{\"total_tokens\":%lld,\"input_tokens\":%lld,"
			   "\"output_tokens\":%lld,\"input_tokens_details\":"
			   "{\"text_tokens\":%lld,\"image_tokens\":0}}",
			   (long long) (input + output), (long long) input, (long long) output,
			   (long long) input);
}

void
openai_answer_images(Exchange *x)
{
	int64_t images = x->fields.n > 0 ? x->fields.n : 1;
	Slice quoted = x->fields.prompt.raw;

	quoted.len = json_prefix(quoted, MAX_QUOTED_CHARS);
	buf_printf(x->body, "{\"created\":%lld,\"data\":[",
			   (long long) (x->request->arrival_us / 1000000));
	for (int64_t i = 0; i < images; i++)
	{
		buf_str(x->body, i > 0 ? ",{" : "{");
		if (slice_is(x->fields.response_format, "url"))
			buf_printf(x->body, "\"url\":\"%s/_sim/image.png\"", control_base_url());
		else
			buf_printf(x->body, "\"b64_json\":\"%s\"", openai_image_base64);
		buf_str(x->body, ",\"revised_prompt\":\"simulated answer to ");
		buf_slice(x->body, quoted);
		content_add_oddities(x->behaviour, x->body);
		buf_str(x->body, "\"}");
	}
	buf_str(x->body, "]");
	if (!x->behaviour->no_usage)
		write_image_usage(x, images);
	buf_str(x->body, "}");
}

bool
openai_check_transcription(Exchange *x)
{
	if (!x->fields.has_file)
		return exchange_refuse(x, 400, "missing_required_parameter", "file",
							   "missing required parameter: 'file'");
	if (!x->fields.has_model)
		return exchange_refuse(x, 400, "missing_required_parameter", "model",
							   "you must provide a model parameter");
	return true;
}

static void
write_transcript(Exchange *x)
{
	if (x->behaviour->text != NULL)
		buf_json(x->body, x->behaviour->text);
	else
		buf_printf(x->body, "simulated answer: transcript of %zu bytes", x->fields.file_bytes);
	content_add_oddities(x->behaviour, x->body);
}

void
openai_answer_transcription(Exchange *x)
{
	if (slice_is(x->fields.response_format, "text"))
	{
		x->content_type = "text/plain; charset=utf-8";
		write_transcript(x);
		buf_str(x->body, "\n");
		return;
	}
	buf_str(x->body, "{\"text\":\"");
	write_transcript(x);
	buf_str(x->body, "\"");
	if (!x->behaviour->no_usage)
		buf_printf(x->body, ",\"usage\":{\"type\":\"duration\",\"seconds\":%zu}",
				   x->fields.file_bytes / AUDIO_BYTES_PER_SECOND + 1);
	buf_str(x->body, "}");
}
