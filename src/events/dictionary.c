/*
 * dictionary.c: making the dictionary that blocks of a tenant share.  See
 * dictionary.h.
 *
 * zstd's own training would copy whatever repeats, a learner's words
 * included.  Here the content is chosen, and zstd adds statistics of bytes.
 * Strings of one key stand together and sorted, as they do in a block's
 * tables, so that a whole stretch of a table can be one repetition.
 */
#include "postgres.h"

#include <zdict.h>

#include "common/hashfn.h"
#include "events/dictionary.h"
#include "utils/memutils.h"

/* Seen in fewer streams, a string may say something about a learner. */
#define LEAST_STREAMS 8

#define CONTENT_BYTES 12288 /* more does not pay */
#define HEADER_BYTES  1024  /* zstd's statistics take less */
#define LEAST_BYTES   256   /* zstd refuses less than half of it */
#define SHORT_STRING  2
#define LONG_STRING   64
#define SAMPLE_EVENTS 200
#define SAMPLES       64
#define LEVEL         19

typedef struct Word
{
	EduaiSlice key;
	EduaiSlice value;
	int stream; /* the first one's number; then how many */
} Word;

typedef struct Words
{
	Word *values;
	int n;
	int size;
} Words;

static void
add_word(Words *words, const EduaiSlice *key, const EduaiSlice *value, int stream)
{
	if (words->n == words->size)
	{
		words->size = words->size ? words->size * 2 : 1024;
		words->values = words->values ? repalloc_huge(words->values, sizeof(Word) * words->size)
									  : palloc(sizeof(Word) * words->size);
	}
	words->values[words->n++] = (Word){*key, *value, stream};
}

static bool
is_sensitive(const EduaiSensitive *sensitive, int n, const text *type, const EduaiSlice *key)
{
	for (int i = 0; i < n; i++)
		if (strlen(sensitive[i].event_type) == VARSIZE_ANY_EXHDR(type) &&
			memcmp(sensitive[i].event_type, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) == 0 &&
			strlen(sensitive[i].key) == key->length &&
			memcmp(sensitive[i].key, key->bytes, key->length) == 0)
			return true;
	return false;
}

/* The strings of a value, with the nearest key above them. */
static void
collect(const Jsonb *json, const text *type, const EduaiSensitive *sensitive, int nsensitive,
		int stream, Words *words)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &json->root);
	JsonbIteratorToken token;
	JsonbValue v;
	EduaiSlice key = {"", 0};
	int depth = 0;
	bool skip = false;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		depth += token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY;
		depth -= token == WJB_END_OBJECT || token == WJB_END_ARRAY;
		if (token == WJB_KEY)
		{
			key = (EduaiSlice){v.val.string.val, v.val.string.len};
			/* what lies below a sensitive key is sensitive too */
			if (depth == 1)
				skip = is_sensitive(sensitive, nsensitive, type, &key);
		}
		else if ((token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvString && !skip &&
				 v.val.string.len >= SHORT_STRING && v.val.string.len <= LONG_STRING)
		{
			EduaiSlice value = {v.val.string.val, v.val.string.len};

			add_word(words, &key, &value, stream);
		}
	}
}

static int
compare_words(const void *a, const void *b)
{
	const Word *x = a;
	const Word *y = b;
	int order = eduai_events_slice_compare(&x->key, &y->key);

	if (order == 0)
		order = eduai_events_slice_compare(&x->value, &y->value);
	return order != 0 ? order : x->stream - y->stream;
}

/* Sorts, and leaves each word once, with the number of its streams. */
static void
count_streams(Words *words)
{
	int n = 0;

	qsort(words->values, words->n, sizeof(Word), compare_words);
	for (int i = 0, last = -1; i < words->n; i++)
	{
		Word this = words->values[i];

		if (n == 0 || eduai_events_slice_compare(&this.key, &words->values[n - 1].key) != 0 ||
			eduai_events_slice_compare(&this.value, &words->values[n - 1].value) != 0)
		{
			last = this.stream;
			this.stream = 1;
			words->values[n++] = this;
		}
		else if (this.stream != last)
		{
			last = this.stream;
			words->values[n - 1].stream++;
		}
	}
	words->n = n;
}

/* The words common enough, as many as fit; the strings before the shapes. */
static void
write_content(const Words *strings, const Words *shapes, StringInfo out)
{
	const Words *both[] = {strings, shapes};

	for (int least = LEAST_STREAMS;; least *= 2)
	{
		resetStringInfo(out);
		for (int b = 0; b < 2; b++)
			for (int i = 0; i < both[b]->n; i++)
				if (both[b]->values[i].stream >= least)
					appendBinaryStringInfo(out, both[b]->values[i].value.bytes,
										   both[b]->values[i].value.length);
		if (out->len <= CONTENT_BYTES)
			return;
	}
}

/* Texts of blocks spread over the events, for zstd's statistics. */
static int
take_samples(const char *tenant, const EduaiRecord *records, int n, StringInfo samples,
			 size_t *sizes)
{
	int nsamples = Min(SAMPLES, n / SAMPLE_EVENTS);
	int taken = 0;

	for (int i = 0; i < nsamples; i++)
	{
		EduaiColumnWriter w;

		eduai_events_block_columns(tenant, records + (int64) n * i / nsamples,
								   Min(SAMPLE_EVENTS, n - (int) ((int64) n * i / nsamples)), &w);
		if (samples->len + w.text.len > 4 * 1024 * 1024)
			break;
		appendBinaryStringInfo(samples, w.text.data, w.text.len);
		sizes[taken++] = w.text.len;
	}
	return taken;
}

static bytea *
finish(const StringInfo content, const StringInfo samples, const size_t *sizes, int nsamples)
{
	ZDICT_params_t params = {.compressionLevel = LEVEL};
	size_t room = content->len + HEADER_BYTES;
	bytea *dictionary = palloc(VARHDRSZ + room);
	size_t size = ZDICT_finalizeDictionary(VARDATA(dictionary), room, content->data, content->len,
										   samples->data, sizes, nsamples, params);

	if (ZDICT_isError(size))
		return NULL;
	SET_VARSIZE(dictionary, VARHDRSZ + size);
	return dictionary;
}

bytea *
eduai_events_dictionary_make(const char *tenant, const EduaiRecord *records, int n,
							 const EduaiSensitive *sensitive, int nsensitive)
{
	Words strings = {0};
	Words shapes = {0};
	StringInfoData content;
	StringInfoData samples;
	size_t sizes[SAMPLES];
	EduaiSlice none = {"", 0};
	int stream = 0;
	int nsamples;

	for (int i = 0; i < n; i++)
	{
		const EduaiRecord *record = &records[i];
		EduaiSlice shape = eduai_events_block_shape(tenant, record);

		if (i > 0 && (VARSIZE_ANY_EXHDR(record->stream) != VARSIZE_ANY_EXHDR(record[-1].stream) ||
					  memcmp(VARDATA_ANY(record->stream), VARDATA_ANY(record[-1].stream),
							 VARSIZE_ANY_EXHDR(record->stream)) != 0))
			stream++;
		add_word(&shapes, &none, &shape, stream);
		collect(record->data, record->event_type, sensitive, nsensitive, stream, &strings);
	}
	count_streams(&strings);
	count_streams(&shapes);
	initStringInfo(&content);
	initStringInfo(&samples);
	write_content(&strings, &shapes, &content);
	nsamples = take_samples(tenant, records, n, &samples, sizes);
	if (content.len < LEAST_BYTES || nsamples < 8)
		return NULL;
	return finish(&content, &samples, sizes, nsamples);
}

int
eduai_events_dictionary_number(const bytea *dictionary)
{
	uint32 hash =
		hash_bytes((const unsigned char *) VARDATA_ANY(dictionary), VARSIZE_ANY_EXHDR(dictionary));

	return (int) (hash % PG_INT32_MAX) + 1;
}
