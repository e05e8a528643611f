/*
 * save_codec.c: entries as bytes.  See save_codec.h.
 */
#include "postgres.h"

#include "ratelimit/save_codec.h"

typedef struct SavedHead
{
	uint64 hash;
	int64 width_us; /* window; pacing: the interval, in ns */
	int64 at;       /* window: the newest sub-bucket; pacing: paid until */
	uint32 database;
	uint8 algorithm;
	uint8 tenant_length;
	uint8 tier_length;
	uint8 type_length;
	uint8 key_length;
	uint8 digest;
	uint8 overflow;
	uint8 buckets; /* that follow the label: its age, then what was used */
} SavedHead;

static int
label_length(const SavedHead *head)
{
	return head->tenant_length + head->tier_length + head->type_length + head->key_length;
}

static int
encode_buckets(const RateWindow *w, SavedHead *head, char *out)
{
	char *at = out;

	head->width_us = w->width_us;
	head->at = w->newest;
	for (int age = 0; age < RATE_BUCKETS && age <= w->newest; age++)
	{
		uint32 used = w->used[(w->newest - age) % RATE_BUCKETS];

		if (used == 0)
			continue;
		*at++ = (char) age;
		memcpy(at, &used, sizeof(used));
		at += sizeof(used);
		head->buckets++;
	}
	return (int) (at - out);
}

int
eduai_ratelimit_save_encode(const RateName *name, const RateCounter *counter, char *out)
{
	SavedHead head = {.hash = name->hash,
					  .database = name->database,
					  .algorithm = (uint8) counter->algorithm,
					  .tenant_length = name->tenant_length,
					  .tier_length = name->tier_length,
					  .type_length = name->type_length,
					  .key_length = name->key_length,
					  .digest = name->digest,
					  .overflow = name->overflow};
	int length = (int) sizeof(head) + label_length(&head);

	if (counter->algorithm == RATE_WINDOW)
		length += encode_buckets(&counter->u.window, &head, out + length);
	else if (counter->algorithm == RATE_GCRA)
	{
		head.at = counter->u.pace.paid_ns;
		head.width_us = counter->u.pace.interval_ns;
	}
	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), name->label, label_length(&head));
	return length;
}

static bool
decode_buckets(const char *in, const SavedHead *head, RateWindow *w)
{
	if (head->width_us <= 0 || head->at < 0)
		return false;
	w->width_us = head->width_us;
	w->newest = head->at;
	for (int i = 0; i < head->buckets; i++)
	{
		uint8 age = (uint8) *in++;
		uint32 used;

		memcpy(&used, in, sizeof(used));
		in += sizeof(used);
		if (age >= RATE_BUCKETS || age > head->at)
			return false;
		w->total += (int64) used - w->used[(head->at - age) % RATE_BUCKETS];
		w->used[(head->at - age) % RATE_BUCKETS] = used;
	}
	return true;
}

int
eduai_ratelimit_save_decode(const char *in, size_t length, RateName *name, RateCounter *counter)
{
	SavedHead head;
	size_t all;

	if (length < sizeof(head))
		return 0;
	memcpy(&head, in, sizeof(head));
	all = sizeof(head) + label_length(&head) + (size_t) head.buckets * 5;
	if (length < all || label_length(&head) > RATE_LABEL || head.buckets > RATE_BUCKETS ||
		(head.algorithm != RATE_WINDOW && (head.algorithm != RATE_GCRA || head.buckets > 0)))
		return 0;
	*name = (RateName){.hash = head.hash,
					   .database = head.database,
					   .tenant_length = head.tenant_length,
					   .tier_length = head.tier_length,
					   .type_length = head.type_length,
					   .key_length = head.key_length,
					   .digest = head.digest != 0,
					   .overflow = head.overflow != 0};
	memcpy(name->label, in + sizeof(head), label_length(&head));
	memset(counter, 0, sizeof(*counter));
	counter->algorithm = (RateAlgorithm) head.algorithm;
	if (head.algorithm == RATE_GCRA)
		counter->u.pace = (RatePace){.paid_ns = head.at, .interval_ns = Max(head.width_us, 1)};
	else if (!decode_buckets(in + sizeof(head) + label_length(&head), &head, &counter->u.window))
		return 0;
	return (int) all;
}
