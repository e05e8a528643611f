/*
 * output.c: streamed text in shared memory.  See output.h.
 *
 * The buffer is cut into chunks; a place (a stream) has a list of them, oldest
 * first.  A chunk holds whole deltas, each behind its length in one or two
 * bytes, numbered from the chunk's first_seq on: a token costs little more than
 * itself.  Places are found through hash buckets, which also carry the
 * condition variables, for readers come before there is a place.
 *
 * One lock, eduai_output, guards all but the buckets' condition variables and
 * counters: exclusive to write, shared to read.  Nothing is allocated, raised
 * or waited for while it is held; no other lock is taken under it.  Readers
 * take whole chunks out and look at them afterwards.
 *
 * Room is made from streams that ended, the one that ended first before others;
 * then from the beginning of the longest.  A place whose end was missed (its
 * database was dropped, or the text came while the task was being cancelled)
 * may be taken after an hour without a word.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/shmem.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "queue/output.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#define BUCKETS          1024
#define CHUNKS_PER_PLACE 4 /* of a full buffer; there are as many places */
#define SILENT_US        (INT64CONST(3600) * 1000000)
#define NONE             (-1)

/* Numbers of an attempt's deltas, and the last attempt that has its own. */
#define SEQ_SPAN         1000000
#define LAST_OWN_ATTEMPT 2147

#define CHUNK_HEADER 16
#define CHUNK_DATA   (EDUAI_OUTPUT_CHUNK - CHUNK_HEADER)
#define MOST_DELTA   (CHUNK_DATA - 2)

typedef struct Chunk
{
	int32 next;
	int32 previous;
	int32 first_seq;
	uint16 count; /* deltas */
	uint16 used;  /* bytes of data */
	char data[CHUNK_DATA];
} Chunk;

StaticAssertDecl(sizeof(Chunk) == EDUAI_OUTPUT_CHUNK, "chunks are of one size");

typedef struct Place
{
	int64 task_id;
	int64 touched_us; /* monotonic: the last text, or the end */
	Oid database;     /* InvalidOid: free */
	int32 next;       /* in its bucket, or of the free ones */
	int32 first;      /* chunks */
	int32 last;
	int32 nchunks;
	int32 attempt;
	int32 last_seq;
	bool done; /* no more text is taken of this attempt */
	uint8 nheld;
	char held[MAX_MULTIBYTE_CHAR_LEN]; /* the beginning of a character */
	char tenant[NAMEDATALEN];
} Place;

typedef struct Bucket
{
	ConditionVariable waiters;
	pg_atomic_uint64 ends; /* tasks that ended */
	int32 first;           /* place */
} Bucket;

typedef struct Output
{
	int32 nplaces;
	int32 nchunks;
	int32 free_place;
	int32 free_chunk;  /* of those given back */
	int32 fresh_chunk; /* from here on they were never used */
	Bucket buckets[BUCKETS];
	Place places[FLEXIBLE_ARRAY_MEMBER]; /* then the chunks */
} Output;

static Output *output = NULL;
static LWLockPadded *lock = NULL;
static int buffer_kb = 4096;


/* ---- the part of shared memory ---- */

static int32
count_chunks(void)
{
	return (int32) ((int64) buffer_kb * 1024 / EDUAI_OUTPUT_CHUNK);
}

static Size
chunks_offset(void)
{
	return TYPEALIGN(EDUAI_OUTPUT_CHUNK, offsetof(Output, places) + (Size) count_chunks() /
																		CHUNKS_PER_PLACE *
																		sizeof(Place));
}

static Size
output_size(void)
{
	return chunks_offset() + (Size) count_chunks() * sizeof(Chunk);
}

static void
output_shmem_init(void *ptr)
{
	Output *o = ptr;

	memset(o, 0, offsetof(Output, places));
	o->nchunks = count_chunks();
	o->nplaces = o->nchunks / CHUNKS_PER_PLACE;
	o->free_chunk = NONE;
	o->free_place = 0;
	for (int i = 0; i < o->nplaces; i++)
	{
		memset(&o->places[i], 0, sizeof(Place));
		o->places[i].next = i + 1 < o->nplaces ? i + 1 : NONE;
	}
	for (int i = 0; i < BUCKETS; i++)
	{
		ConditionVariableInit(&o->buckets[i].waiters);
		pg_atomic_init_u64(&o->buckets[i].ends, 0);
		o->buckets[i].first = NONE;
	}
}

void
eduai_queue_output_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_output",
										.size = output_size,
										.init = output_shmem_init,
										.nlocks = 1,
										.address = (void **) &output,
										.locks = &lock};

	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable(
			"eduai.output_buffer", "Shared memory for the text of tasks that stream.",
			"When it is full, tasks that ended give room, then the beginning of the longest text.",
			&buffer_kb, 4096, 64, 1024 * 1024,
			process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, GUC_UNIT_KB,
			NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
}

static Chunk *
chunk_at(int32 i)
{
	return (Chunk *) ((char *) output + chunks_offset()) + i;
}

static Bucket *
bucket_of(Oid database, int64 task_id)
{
	return &output->buckets[((uint64) task_id + (uint64) database * 2654435761u) % BUCKETS];
}

ConditionVariable *
eduai_queue_output_waiters(int64 task_id)
{
	return &bucket_of(MyDatabaseId, task_id)->waiters;
}

uint64
eduai_queue_output_ends(int64 task_id)
{
	return pg_atomic_read_u64(&bucket_of(MyDatabaseId, task_id)->ends);
}

int
eduai_queue_output_base(int attempt)
{
	return (Min(Max(attempt, 1), LAST_OWN_ATTEMPT) - 1) * SEQ_SPAN;
}

/* ---- places; the lock is held ---- */

static Place *
find_place(int64 task_id)
{
	int32 i = bucket_of(MyDatabaseId, task_id)->first;

	while (i != NONE &&
		   (output->places[i].task_id != task_id || output->places[i].database != MyDatabaseId))
		i = output->places[i].next;
	return i == NONE ? NULL : &output->places[i];
}

static void
drop_first_chunk(Place *place)
{
	int32 i = place->first;
	Chunk *chunk = chunk_at(i);

	place->first = chunk->next;
	if (place->first == NONE)
		place->last = NONE;
	else
		chunk_at(place->first)->previous = NONE;
	place->nchunks--;
	chunk->next = output->free_chunk;
	output->free_chunk = i;
}

static void
drop_text(Place *place)
{
	while (place->first != NONE)
		drop_first_chunk(place);
	place->nheld = 0;
}

static void
drop_place(Place *place)
{
	int32 mine = (int32) (place - output->places);
	int32 *link = &bucket_of(place->database, place->task_id)->first;

	drop_text(place);
	while (*link != mine)
		link = &output->places[*link].next;
	*link = place->next;
	place->database = InvalidOid;
	place->next = output->free_place;
	output->free_place = mine;
}

/* The place that ended first; else, the longest (of chunks), or the longest silent. */
static Place *
find_victim(bool of_chunks)
{
	Place *ended = NULL;
	Place *open = NULL;

	for (int32 i = 0; i < output->nplaces; i++)
	{
		Place *place = &output->places[i];

		if (place->database == InvalidOid || (of_chunks && place->nchunks == 0))
			continue;
		if (place->done)
		{
			if (ended == NULL || place->touched_us < ended->touched_us)
				ended = place;
		}
		else if (open == NULL || (of_chunks ? place->nchunks > open->nchunks
											: place->touched_us < open->touched_us))
			open = place;
	}
	return ended != NULL ? ended : open;
}

static void
restart_place(Place *place, int attempt)
{
	drop_text(place);
	place->attempt = attempt;
	place->last_seq = eduai_queue_output_base(attempt);
	place->done = false;
}

static Place *
make_place(const char *tenant, int64 task_id, int attempt)
{
	Bucket *bucket = bucket_of(MyDatabaseId, task_id);
	Place *place;

	if (output->free_place == NONE)
	{
		place = find_victim(false);
		if (!place->done && eduai_core_mono_us() - place->touched_us < SILENT_US)
			return NULL;
		drop_place(place);
	}
	place = &output->places[output->free_place];
	output->free_place = place->next;
	place->task_id = task_id;
	place->database = MyDatabaseId;
	place->first = place->last = NONE;
	place->nchunks = 0;
	strlcpy(place->tenant, tenant, NAMEDATALEN);
	restart_place(place, attempt);
	place->next = bucket->first;
	bucket->first = (int32) (place - output->places);
	return place;
}

/* The place to add text of this attempt to; NULL: it is left out. */
static Place *
open_place(const char *tenant, int64 task_id, int attempt)
{
	Place *place = find_place(task_id);

	if (place == NULL)
		return make_place(tenant, task_id, attempt);
	if (attempt > place->attempt)
		restart_place(place, attempt);
	else if (attempt < place->attempt || place->done)
		return NULL;
	return place;
}

/* ---- text; the lock is held ---- */

static int32
take_chunk(void)
{
	int32 i;

	if (output->free_chunk == NONE && output->fresh_chunk < output->nchunks)
		return output->fresh_chunk++;
	if (output->free_chunk == NONE)
	{
		Place *victim = find_victim(true);

		if (victim->done)
			drop_place(victim);
		else
			drop_first_chunk(victim);
	}
	i = output->free_chunk;
	output->free_chunk = chunk_at(i)->next;
	return i;
}

/* A last chunk with room for so many bytes more. */
static Chunk *
chunk_with_room(Place *place, int bytes)
{
	int32 i;
	Chunk *chunk;

	if (place->last != NONE && chunk_at(place->last)->used + bytes <= CHUNK_DATA)
		return chunk_at(place->last);
	i = take_chunk(); /* it may have been this place's own first */
	chunk = chunk_at(i);
	chunk->next = NONE;
	chunk->previous = place->last;
	chunk->first_seq = place->last_seq + 1;
	chunk->count = chunk->used = 0;
	if (place->last == NONE)
		place->first = i;
	else
		chunk_at(place->last)->next = i;
	place->last = i;
	place->nchunks++;
	return chunk;
}

static void
put_delta(Place *place, const char *text, int length)
{
	int head = length < 0x80 ? 1 : 2;
	Chunk *chunk;

	if (place->last_seq - eduai_queue_output_base(place->attempt) >= SEQ_SPAN - 1)
		return;
	chunk = chunk_with_room(place, head + length);
	if (head == 2)
		chunk->data[chunk->used++] = (char) (0x80 | length >> 8);
	chunk->data[chunk->used++] = (char) (length & 0xff);
	memcpy(chunk->data + chunk->used, text, length);
	chunk->used += length;
	chunk->count++;
	place->last_seq++;
}

/*
 * Takes the next character off the text, with what was held back before it;
 * writes it and returns its length, 0 when the text is over.  Of what is no
 * character one byte becomes a question mark, or all that was held back.
 */
static int
take_character(Place *place, const char **text, size_t *length, char *into)
{
	int encoding = GetDatabaseEncoding();
	int held = place->nheld;
	int taken = 0; /* of the text */
	int want;

	if (*length == 0)
		return 0;
	memcpy(into, place->held, held);
	into[held] = **text;
	want = pg_encoding_mblen(encoding, into);
	while (held + taken < want && taken < *length &&
		   (held + taken == 0 || IS_HIGHBIT_SET((*text)[taken])))
	{
		into[held + taken] = (*text)[taken];
		taken++;
	}
	if (held + taken < want && taken == *length)
	{
		memcpy(place->held, into, held + taken);
		place->nheld = held + taken;
		*length = 0;
		return 0;
	}
	place->nheld = 0;
	if (held + taken != want || into[0] == '\0' ||
		pg_encoding_verifymbchar(encoding, into, want) != want)
	{
		into[0] = '?';
		want = 1;
		taken = held > 0 ? 0 : 1;
	}
	*text += taken;
	*length -= taken;
	return want;
}

static void
put_text(Place *place, const char *text, size_t length)
{
	char clean[MOST_DELTA + MAX_MULTIBYTE_CHAR_LEN];
	int n = 0;
	int taken;

	while ((taken = take_character(place, &text, &length, clean + n)) > 0)
	{
		n += taken;
		if (n + MAX_MULTIBYTE_CHAR_LEN <= MOST_DELTA)
			continue;
		put_delta(place, clean, n);
		n = 0;
	}
	if (n > 0)
		put_delta(place, clean, n);
	place->touched_us = eduai_core_mono_us();
}

/* ---- for those who write ---- */

void
eduai_queue_output_append(const char *tenant, int64 task_id, int attempt, const char *text,
						  size_t length)
{
	Place *place;

	if (output == NULL || length == 0)
		return;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = open_place(tenant, task_id, attempt);
	if (place != NULL)
		put_text(place, text, length);
	LWLockRelease(&lock->lock);
	if (place != NULL)
		ConditionVariableBroadcast(eduai_queue_output_waiters(task_id));
}

void
eduai_queue_output_begin(int64 task_id, int attempt)
{
	Place *place;

	if (output == NULL || bucket_of(MyDatabaseId, task_id)->first == NONE)
		return;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find_place(task_id);
	if (place != NULL && attempt > place->attempt)
		restart_place(place, attempt);
	LWLockRelease(&lock->lock);
}

static void
close_place(int64 task_id)
{
	Place *place;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find_place(task_id);
	if (place != NULL && !place->done)
	{
		place->done = true;
		place->touched_us = eduai_core_mono_us();
	}
	LWLockRelease(&lock->lock);
}

void
eduai_queue_output_end(int64 task_id)
{
	Bucket *bucket;

	if (output == NULL)
		return;
	bucket = bucket_of(MyDatabaseId, task_id);
	/* most tasks do not stream: no lock for them */
	if (bucket->first != NONE)
		close_place(task_id);
	pg_atomic_fetch_add_u64(&bucket->ends, 1);
	ConditionVariableBroadcast(&bucket->waiters);
}

void
eduai_queue_output_forget(int64 from, int64 to)
{
	if (output == NULL)
		return;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	for (int32 i = 0; i < output->nplaces; i++)
		if (output->places[i].database == MyDatabaseId && output->places[i].task_id >= from &&
			output->places[i].task_id <= to)
			drop_place(&output->places[i]);
	LWLockRelease(&lock->lock);
}

/* ---- for those who read ---- */

/* The chunk with the first delta after a number, or NONE. */
static int32
chunk_after(const Place *place, int after_seq)
{
	int32 i = place->last;

	if (i == NONE || place->last_seq <= after_seq)
		return NONE;
	while (chunk_at(i)->previous != NONE && chunk_at(i)->first_seq > after_seq + 1)
		i = chunk_at(i)->previous;
	return i;
}

void
eduai_queue_output_look(const char *tenant, int64 task_id, int after_seq, OutputLook *look)
{
	const Place *place;

	if (look->bytes == NULL)
		look->bytes = palloc(EDUAI_OUTPUT_READ_BYTES);
	look->length = look->at = look->nth = look->within = 0;
	look->after_seq = after_seq;
	LWLockAcquire(&lock->lock, LW_SHARED);
	place = find_place(task_id);
	look->found = place != NULL && strcmp(place->tenant, tenant) == 0;
	look->whole = true;
	if (look->found)
	{
		int32 i = chunk_after(place, after_seq);

		look->done = place->done;
		look->attempt = place->attempt;
		look->last_seq = place->last_seq;
		look->first_seq =
			place->first == NONE ? place->last_seq + 1 : chunk_at(place->first)->first_seq;
		while (i != NONE && look->length < EDUAI_OUTPUT_READ_BYTES)
		{
			memcpy(look->bytes + look->length, chunk_at(i), EDUAI_OUTPUT_CHUNK);
			look->length += EDUAI_OUTPUT_CHUNK;
			i = chunk_at(i)->next;
		}
		look->whole = i == NONE;
	}
	LWLockRelease(&lock->lock);
}

bool
eduai_queue_output_next(OutputLook *look, int *seq, const char **text, int *length)
{
	while (look->at < look->length)
	{
		const Chunk *chunk = (const Chunk *) (look->bytes + look->at);
		const unsigned char *data = (const unsigned char *) chunk->data + look->within;

		if (look->nth == chunk->count)
		{
			look->at += EDUAI_OUTPUT_CHUNK;
			look->nth = look->within = 0;
			continue;
		}
		*seq = chunk->first_seq + look->nth++;
		*length = *data++;
		if (*length >= 0x80)
			*length = (*length & 0x7f) << 8 | *data++;
		*text = (const char *) data;
		look->within = (int) (*text - chunk->data) + *length;
		if (*seq > look->after_seq)
			return true;
	}
	return false;
}
