/*-------------------------------------------------------------------------
 * frame_pad.c
 *		Heads and bodies too large to keep: a block sent many times.
 *
 * The padding of a body is spaces behind its first brace, which leaves JSON
 * valid, also inside an SSE event.  A gzip body repeats one deflated block
 * of spaces: a full flush makes the block independent of what precedes it,
 * and checksums of concatenations are computed, not summed up.
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "frame_pad.h"

#define GIANT_BLOCK 16384
#define BOMB_BLOCK  (1024 * 1024)
#define HEADER_LINE 1024

static size_t
pad_offset(const Buf *body)
{
	const char *brace = body->len > 0 ? memchr(body->data, '{', body->len) : NULL;

	return brace != NULL ? (size_t) (brace + 1 - body->data) : 0;
}

/* Spaces to add to a body of len bytes so that it has wanted ones. */
static uint64_t
pad_needed(const Buf *body, int64_t wanted)
{
	return (uint64_t) wanted > body->len ? wanted - body->len : 0;
}

void
pad_head(const Exchange *x, Reply *reply)
{
	static char line[HEADER_LINE + 1];

	if (line[0] == '\0')
	{
		memset(line, 'a', HEADER_LINE);
		memcpy(line, "X-Simulated-Filler: ", 20);
		memcpy(line + HEADER_LINE - 2, "\r\n", 2);
	}
	reply->pad = line;
	reply->pad_len = HEADER_LINE;
	reply->pad_at = reply->out.len;
	reply->pad_left = (x->behaviour->giant_headers + HEADER_LINE - 1) / HEADER_LINE;
}

/* Informational answers before the final one. */
void
pad_interim(const Exchange *x, Reply *reply)
{
	static const char head[] = "HTTP/1.1 103 Early Hints\r\nRetry-After: 3600\r\n\r\n";

	reply->pad = head;
	reply->pad_len = sizeof(head) - 1;
	reply->pad_at = reply->out.len;
	reply->pad_left = (uint64_t) x->behaviour->interim;
}

static void
add_chunk_head(Buf *out, size_t len)
{
	buf_printf(out, "%zx\r\n", len);
}

size_t
pad_giant_body(const Exchange *x, Reply *reply)
{
	static Buf block;
	Buf *out = &reply->out;
	size_t at = pad_offset(x->body);
	uint64_t needed = pad_needed(x->body, x->behaviour->giant);
	size_t head_len;

	if (block.len == 0)
	{
		add_chunk_head(&block, GIANT_BLOCK);
		buf_fill(&block, ' ', GIANT_BLOCK);
		buf_str(&block, "\r\n");
	}
	buf_str(out, "Transfer-Encoding: chunked\r\n\r\n");
	head_len = out->len;
	if (at + needed % GIANT_BLOCK > 0)
	{
		add_chunk_head(out, at + needed % GIANT_BLOCK);
		buf_add(out, x->body->data, at);
		buf_fill(out, ' ', needed % GIANT_BLOCK);
		buf_str(out, "\r\n");
	}
	reply->pad_at = out->len;
	reply->pad = block.data;
	reply->pad_len = block.len;
	reply->pad_left = needed / GIANT_BLOCK;
	if (x->body->len > at)
	{
		add_chunk_head(out, x->body->len - at);
		buf_add(out, x->body->data + at, x->body->len - at);
		buf_str(out, "\r\n");
	}
	buf_str(out, "0\r\n\r\n");
	return head_len;
}

static void
deflate_to(Buf *out, const void *data, size_t len, int flush)
{
	z_stream z = {0};
	size_t room;

	if (deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) != Z_OK)
	{
		fprintf(stderr, "eduai-simulator: could not start zlib\n");
		exit(1);
	}
	room = deflateBound(&z, len) + 64;
	buf_reserve(out, room);
	z.next_in = (Bytef *) data;
	z.avail_in = len;
	z.next_out = (Bytef *) out->data + out->len;
	z.avail_out = room;
	deflate(&z, flush);
	out->len += room - z.avail_out;
	deflateEnd(&z);
}

/* The deflated block of spaces, as a chunk; *crc is the spaces'. */
static const Buf *
bomb_block(uint32_t *crc)
{
	static Buf block;
	static uint32_t block_crc;

	if (block.len == 0)
	{
		Buf spaces = {0};
		Buf deflated = {0};

		buf_fill(&spaces, ' ', BOMB_BLOCK);
		block_crc = crc32(0, (Bytef *) spaces.data, BOMB_BLOCK);
		deflate_to(&deflated, spaces.data, BOMB_BLOCK, Z_FULL_FLUSH);
		add_chunk_head(&block, deflated.len);
		buf_add(&block, deflated.data, deflated.len);
		buf_str(&block, "\r\n");
		buf_free(&spaces);
		buf_free(&deflated);
	}
	*crc = block_crc;
	return &block;
}

static void
add_little_endian(Buf *out, uint32_t value)
{
	for (int i = 0; i < 4; i++)
	{
		char byte = (char) (value >> (8 * i));

		buf_add(out, &byte, 1);
	}
}

/* The first chunk: gzip's header, the body's start and the odd spaces. */
static uint32_t
add_bomb_start(const Exchange *x, Buf *out, size_t at, size_t odd)
{
	Buf text = {0};
	Buf gzip = {0};
	uint32_t crc;

	buf_add(&text, x->body->data, at);
	buf_fill(&text, ' ', odd);
	buf_add(&gzip, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
	if (text.len > 0)
		deflate_to(&gzip, text.data, text.len, Z_FULL_FLUSH);
	add_chunk_head(out, gzip.len);
	buf_add(out, gzip.data, gzip.len);
	buf_str(out, "\r\n");
	crc = crc32(0, (Bytef *) text.data, text.len);
	buf_free(&text);
	buf_free(&gzip);
	return crc;
}

static void
add_bomb_end(const Exchange *x, Buf *out, size_t at, uint32_t crc, uint64_t size)
{
	Slice rest = {x->body->data + at, x->body->len - at};
	Buf gzip = {0};

	deflate_to(&gzip, rest.p, rest.len, Z_FINISH);
	crc = crc32(crc, (const Bytef *) rest.p, rest.len);
	add_little_endian(&gzip, crc);
	add_little_endian(&gzip, (uint32_t) size);
	add_chunk_head(out, gzip.len);
	buf_add(out, gzip.data, gzip.len);
	buf_str(out, "\r\n0\r\n\r\n");
	buf_free(&gzip);
}

size_t
pad_gzip_body(const Exchange *x, Reply *reply)
{
	Buf *out = &reply->out;
	size_t at = pad_offset(x->body);
	uint64_t needed = pad_needed(x->body, x->behaviour->gzip_bomb);
	uint32_t block_crc;
	const Buf *block = bomb_block(&block_crc);
	uint32_t crc;
	size_t head_len;

	buf_str(out, "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
	head_len = out->len;
	crc = add_bomb_start(x, out, at, needed % BOMB_BLOCK);
	reply->pad_at = out->len;
	reply->pad = block->data;
	reply->pad_len = block->len;
	reply->pad_left = needed / BOMB_BLOCK;
	for (uint64_t i = 0; i < reply->pad_left; i++)
		crc = crc32_combine(crc, block_crc, BOMB_BLOCK);
	add_bomb_end(x, out, at, crc, x->body->len + needed);
	return head_len;
}
