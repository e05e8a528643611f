/*
 * embeddings.c: vectors out of an answer.
 *
 * An answer must hold a vector of numbers for every input, all of one length
 * (that of payload.dimensions, where there is one), in the inputs' order
 * whatever order they came in.  A vector may be base64 of 32-bit floats, low
 * byte first: it becomes the shortest decimals that mean the same floats.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "gateway/wire.h"
#include "utils/fmgrprotos.h"

/* How many vectors the payload asks for; an array of numbers is one input. */
static int
expected_vectors(const Jsonb *payload)
{
	Jsonb *input = eduai_core_json_child(payload, "input");
	JsonbValue *first;

	if (input == NULL || eduai_core_json_is_object(input))
		return 1;
	first = getIthJsonbValueFromContainer(&input->root, 0);
	return first != NULL && first->type == jbvNumeric ? 1 : eduai_core_json_length(input);
}

/* The number of elements when all are numbers, else 0. */
static int
vector_length(const Jsonb *vector)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue value;
	int n = 0;

	if (eduai_core_json_length(vector) == 0)
		return 0;
	it = JsonbIteratorInit((JsonbContainer *) &vector->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type != jbvNumeric)
			return 0;
		n++;
	}
	return n;
}

/* The floats as numbers; NULL when they are none. */
static Jsonb *
decoded(const char *base64)
{
	char *bytes;
	char *type;
	size_t length;
	EduaiJson j;

	if (!eduai_gateway_base64(base64, &bytes, &length, &type) || length % 4 != 0)
		return NULL;
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "v");
	for (size_t i = 0; i < length; i += 4)
	{
		const unsigned char *b = (const unsigned char *) bytes + i;
		uint32 bits = b[0] | (uint32) b[1] << 8 | (uint32) b[2] << 16 | (uint32) b[3] << 24;
		char text[FLOAT_SHORTEST_DECIMAL_LEN];
		float value;

		memcpy(&value, &bits, sizeof(value));
		if (isnan(value) || isinf(value))
			return NULL;
		float_to_shortest_decimal_buf(value, text);
		eduai_core_json_put_numeric(
			&j, NULL,
			DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
												ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
	}
	eduai_core_json_close_array(&j);
	return eduai_core_json_child(eduai_core_json_end(&j), "v");
}

/* An element is the vector itself, or {"index", "embedding"}. */
static bool
place(const Jsonb *data, int i, Jsonb **vectors, int n)
{
	Jsonb *element = eduai_core_json_element(data, i);
	int64 index = i;

	if (eduai_core_json_is_object(element))
	{
		char *base64 = eduai_gateway_string(element, "embedding");

		(void) eduai_core_json_int64(element, "index", &index);
		element = base64 != NULL ? decoded(base64) : eduai_core_json_child(element, "embedding");
	}
	if (index < 0 || index >= n || vectors[index] != NULL || element == NULL)
		return false;
	vectors[index] = element;
	return true;
}

static bool
collect(const GatewayCall *call, const Jsonb *data, Jsonb **vectors, int n)
{
	int64 length;

	for (int i = 0; i < n; i++)
		if (!place(data, i, vectors, n))
			return false;
	if (!eduai_core_json_int64(call->payload, "dimensions", &length))
		length = vector_length(vectors[0]);
	for (int i = 0; i < n; i++)
	{
		int this = vector_length(vectors[i]);

		if (this == 0 || this != length)
			return false;
	}
	return true;
}

static void
put_vectors(const GatewayCall *call, Jsonb **vectors, int n, CallOutcome *outcome)
{
	JsonbValue input;
	EduaiJson j;

	eduai_core_json_begin(&j);
	if (eduai_core_json_get(call->payload, "input", &input) && input.type == jbvString)
		eduai_core_json_put_json(&j, "embedding", vectors[0]);
	else
	{
		eduai_core_json_open_array(&j, "embeddings");
		for (int i = 0; i < n; i++)
			eduai_core_json_put_json(&j, NULL, vectors[i]);
		eduai_core_json_close_array(&j);
	}
	eduai_core_json_put_text(&j, "finish_reason", "stop");
	eduai_gateway_put_usage(&j, outcome);
	outcome->result = eduai_core_json_end(&j);
}

void
eduai_gateway_read_embeddings(const GatewayCall *call, const Jsonb *data, CallOutcome *outcome)
{
	int expected = expected_vectors(call->payload);
	int n = eduai_core_json_length(data);
	Jsonb **vectors;
	int64 dimensions;

	if (n != expected)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer has %d embeddings, not %d", n, expected);
		return;
	}
	vectors = palloc0(n * sizeof(Jsonb *));
	if (!collect(call, data, vectors, n))
	{
		eduai_gateway_outcome_fail(
			outcome, CALL_RETRY, "invalid_answer",
			eduai_core_json_int64(call->payload, "dimensions", &dimensions)
				? "the answer's embeddings are not vectors of the dimensions "
				  "that were asked for"
				: "the answer's embeddings are not vectors of one length");
		return;
	}
	put_vectors(call, vectors, n, outcome);
}
