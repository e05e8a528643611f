/*
 * block_frame.c: the bytes around a block's columns, and zstd.  See block_codec.h.
 *
 * The contexts of zstd live as long as the process: making them costs as much
 * as using them on a few kilobytes.
 */
#include "postgres.h"

#include <zstd.h>

#include "events/block_codec.h"
#include "utils/memutils.h"

/* Blocks are written once, in the background, and read often. */
#define LEVEL 19

static ZSTD_CCtx *compressor = NULL;
static ZSTD_DCtx *decompressor = NULL;

static void out_of_memory(void) __attribute__((noreturn));

static void
out_of_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* ---- dictionaries ---- */

EduaiDictionary *
eduai_events_dictionary_open(int id, const char *bytes, size_t length, bool to_write)
{
	EduaiDictionary *d = malloc(sizeof(EduaiDictionary));

	if (d == NULL)
	{
		out_of_memory();
		return NULL;
	}
	*d = (EduaiDictionary){id, ZSTD_createDDict(bytes, length), NULL};
	if (to_write)
		d->make = ZSTD_createCDict(bytes, length, LEVEL);
	if (d->use == NULL || (to_write && d->make == NULL))
	{
		eduai_events_dictionary_close(d);
		out_of_memory();
	}
	return d;
}

void
eduai_events_dictionary_close(EduaiDictionary *dictionary)
{
	ZSTD_freeDDict(dictionary->use);
	ZSTD_freeCDict(dictionary->make);
	free(dictionary);
}

/* ---- writing ---- */

static void
check_zstd(size_t code, const char *what)
{
	if (ZSTD_isError(code))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not %s a block of events: %s", what, ZSTD_getErrorName(code))));
}

static ZSTD_CCtx *
prepared_compressor(const EduaiDictionary *dictionary, bool checksum)
{
	if (compressor == NULL)
		compressor = ZSTD_createCCtx();
	if (compressor == NULL)
		out_of_memory();
	check_zstd(ZSTD_CCtx_reset(compressor, ZSTD_reset_session_and_parameters), "compress");
	check_zstd(ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, LEVEL), "compress");
	check_zstd(ZSTD_CCtx_setParameter(compressor, ZSTD_c_dictIDFlag, 0), "compress");
	check_zstd(ZSTD_CCtx_setParameter(compressor, ZSTD_c_checksumFlag, checksum), "compress");
	check_zstd(ZSTD_CCtx_refCDict(compressor, dictionary ? dictionary->make : NULL), "compress");
	return compressor;
}

bytea *
eduai_events_block_pack(EduaiColumnWriter *w, const EduaiDictionary *dictionary, int version)
{
	StringInfoData out;
	size_t room = ZSTD_compressBound(w->text.len);
	size_t size;

	eduai_events_column_writer_flush(w);
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	appendStringInfoCharMacro(&out, version);
	eduai_events_put_varint(&out, dictionary ? dictionary->id : 0);
	eduai_events_put_varint(&out, w->text.len);
	eduai_events_put_varint(&out, w->bits.len);
	appendBinaryStringInfo(&out, w->bits.data, w->bits.len);
	enlargeStringInfo(&out, (int) Min(room, MaxAllocSize));
	size = ZSTD_compress2(prepared_compressor(dictionary, version == EDUAI_BLOCK_RAW),
						  out.data + out.len, room, w->text.data, w->text.len);
	check_zstd(size, "compress");
	out.len += (int) size;
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}

/* ---- reading ---- */

static size_t
decompress(char *out, size_t room, const char *in, size_t length, const EduaiDictionary *dictionary)
{
	if (decompressor == NULL)
		decompressor = ZSTD_createDCtx();
	if (decompressor == NULL)
		out_of_memory();
	if (dictionary != NULL)
		return ZSTD_decompress_usingDDict(decompressor, out, room, in, length, dictionary->use);
	return ZSTD_decompressDCtx(decompressor, out, room, in, length);
}

/* The bits, copied: the reader looks a few bytes beyond their end. */
static void
take_bits(EduaiColumnReader *r, size_t size)
{
	const char *bits = eduai_events_get_bytes(r, size);
	char *copy = palloc(size + 16);

	memcpy(copy, bits, size);
	memset(copy + size, 0, 16);
	r->bits = (unsigned char *) copy;
	r->bit = 0;
	r->bit_end = (uint64) size * 8;
}

void
eduai_events_block_unpack(const char *body, size_t length, EduaiDictionaryFinder finder, void *arg,
						  EduaiColumnReader *r, int *version)
{
	const EduaiDictionary *dictionary = NULL;
	int id;
	size_t size;
	size_t frame;
	char *text;

	*r = (EduaiColumnReader){(const unsigned char *) body, (const unsigned char *) body + length};
	*version = *eduai_events_get_bytes(r, 1);
	if (*version != EDUAI_BLOCK_VERSION && *version != EDUAI_BLOCK_RAW)
		eduai_events_corrupted("version of the format");
	id = (int) eduai_events_get_count(r, PG_INT32_MAX);
	size = eduai_events_get_count(r, MaxAllocSize - 1);
	take_bits(r, eduai_events_get_count(r, MaxAllocSize - 16));
	if (id != 0 && (dictionary = finder(id, arg)) == NULL)
		eduai_events_corrupted("dictionary");
	frame = r->text_end - r->text;
	if (ZSTD_getFrameContentSize(r->text, frame) != size)
		eduai_events_corrupted("size");
	text = palloc(size + 1);
	if (decompress(text, size, (const char *) r->text, frame, dictionary) != size)
		eduai_events_corrupted("frame");
	r->text = (unsigned char *) text;
	r->text_end = r->text + size;
}
