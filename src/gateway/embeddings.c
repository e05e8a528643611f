/*
 * embeddings.c: vectors out of an answer.
 *
 * An answer must hold a vector of numbers for every input, all of one length,
 * in the inputs' order whatever order they came in.
 */
#include "postgres.h"

#include "gateway/wire.h"

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

/* An element is the vector itself, or {"index", "embedding"}. */
static bool
place(const Jsonb *data, int i, Jsonb **vectors, int n)
{
	Jsonb *element = eduai_core_json_element(data, i);
	int64 index = i;

	if (eduai_core_json_is_object(element))
	{
		(void) eduai_core_json_int64(element, "index", &index);
		element = eduai_core_json_child(element, "embedding");
	}
	if (index < 0 || index >= n || vectors[index] != NULL || element == NULL)
		return false;
	vectors[index] = element;
	return true;
}

static bool
collect(const Jsonb *data, Jsonb **vectors, int n)
{
	int length = 0;

	for (int i = 0; i < n; i++)
		if (!place(data, i, vectors, n))
			return false;
	for (int i = 0; i < n; i++)
	{
		int this = vector_length(vectors[i]);

		if (this == 0 || (i > 0 && this != length))
			return false;
		length = this;
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

	if (n != expected)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer has %d embeddings, not %d", n, expected);
		return;
	}
	vectors = palloc0(n * sizeof(Jsonb *));
	if (!collect(data, vectors, n))
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer's embeddings are not vectors of one length");
		return;
	}
	put_vectors(call, vectors, n, outcome);
}
