/*
 * squeeze.c: zstd's contexts and dictionaries of one process.  See squeeze.h.
 */
#include "postgres.h"

#include <zstd.h>

#include "cache/squeeze.h"
#include "utils/memutils.h"

#define LEVEL        3
#define KNOWN        32
#define KEEP_AT_MOST (4 * 1024 * 1024) /* of a buffer that one large value made grow */

typedef struct Known
{
	uint32 id; /* 0: free */
	ZSTD_CDict *pack;
	ZSTD_DDict *open;
} Known;

typedef struct Buffer
{
	char *bytes;
	size_t size;
} Buffer;

static ZSTD_CCtx *packer = NULL;
static ZSTD_DCtx *opener = NULL;
static Known known[KNOWN];
static int known_turn = 0;
static Buffer packed_buffer;
static Buffer scratch_buffer;

static char *
room(Buffer *buffer, size_t n)
{
	if (n <= buffer->size && (buffer->size <= KEEP_AT_MOST || n > KEEP_AT_MOST))
		return buffer->bytes;
	if (buffer->bytes != NULL)
		pfree(buffer->bytes);
	buffer->size = Max(n, 16 * 1024);
	buffer->bytes = MemoryContextAllocExtended(TopMemoryContext, buffer->size,
											   MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
	if (buffer->bytes == NULL)
		buffer->size = 0;
	return buffer->bytes;
}

char *
eduai_cache_scratch(size_t n)
{
	return room(&scratch_buffer, n);
}

static Known *
find_known(uint32 id)
{
	for (int i = 0; i < KNOWN; i++)
		if (known[i].id == id)
			return &known[i];
	return NULL;
}

bool
eduai_cache_dictionary_known(uint32 id)
{
	return find_known(id) != NULL;
}

bool
eduai_cache_dictionary_learn(uint32 id, const char *bytes, size_t length)
{
	Known *place = &known[known_turn++ % KNOWN];

	ZSTD_freeCDict(place->pack);
	ZSTD_freeDDict(place->open);
	place->pack = ZSTD_createCDict(bytes, length, LEVEL);
	place->open = ZSTD_createDDict(bytes, length);
	place->id = place->pack != NULL && place->open != NULL ? id : 0;
	return place->id != 0;
}

/* Once: frames carry no checksum, no length and no dictionary id: the store knows. */
static bool
have_packer(void)
{
	if (packer != NULL)
		return true;
	packer = ZSTD_createCCtx();
	if (packer == NULL)
		return false;
	ZSTD_CCtx_setParameter(packer, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(packer, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(packer, ZSTD_c_checksumFlag, 0);
	ZSTD_CCtx_setParameter(packer, ZSTD_c_dictIDFlag, 0);
	return true;
}

Squeezed
eduai_cache_squeeze(const char *raw, size_t length, uint32 dictionary)
{
	Squeezed as_it_is = {raw, length, false};
	const Known *dict = dictionary != 0 ? find_known(dictionary) : NULL;
	char *to;
	size_t n;

	if (length < (dict != NULL ? SQUEEZE_LEAST_DICTIONARY : SQUEEZE_LEAST) || !have_packer())
		return as_it_is;
	to = room(&packed_buffer, ZSTD_compressBound(length));
	if (to == NULL)
		return as_it_is;
	ZSTD_CCtx_refCDict(packer, dict != NULL ? dict->pack : NULL);
	n = ZSTD_compress2(packer, to, packed_buffer.size, raw, length);
	if (ZSTD_isError(n) || n > length - Max(length / 10, SQUEEZE_SAVES))
		return as_it_is;
	return (Squeezed){to, n, true};
}

bool
eduai_cache_unsqueeze(const char *bytes, size_t length, uint32 dictionary, char *raw,
					  size_t raw_length)
{
	const Known *dict = dictionary != 0 ? find_known(dictionary) : NULL;
	size_t n;

	if (opener == NULL)
		opener = ZSTD_createDCtx();
	if (opener == NULL || (dictionary != 0 && dict == NULL))
		return false;
	n = dict != NULL
			? ZSTD_decompress_usingDDict(opener, raw, raw_length, bytes, length, dict->open)
			: ZSTD_decompressDCtx(opener, raw, raw_length, bytes, length);
	return !ZSTD_isError(n) && n == raw_length;
}
