/*-------------------------------------------------------------------------
 * buf.c
 *		Growable byte buffers and slices of the provider simulator.
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "buf.h"

void *
mem_realloc(void *p, size_t size)
{
	p = realloc(p, size);
	if (p == NULL)
	{
		fprintf(stderr, "eduai-simulator: out of memory (%zu bytes)\n", size);
		exit(1);
	}
	return p;
}

void *
mem_alloc(size_t size)
{
	void *p = mem_realloc(NULL, size);

	memset(p, 0, size);
	return p;
}

char *
mem_strdup(const char *s)
{
	size_t size = strlen(s) + 1;

	return memcpy(mem_realloc(NULL, size), s, size);
}

/* Make room for that many more bytes, and a terminator. */
void
buf_reserve(Buf *buf, size_t room)
{
	size_t cap = buf->cap > 0 ? buf->cap : 512;

	if (buf->cap - buf->len > room)
		return;
	while (cap - buf->len <= room)
		cap *= 2;
	buf->data = mem_realloc(buf->data, cap);
	buf->cap = cap;
}

void
buf_free(Buf *buf)
{
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}

/* Empty the buffer; memory above keep bytes goes back. */
void
buf_clear(Buf *buf, size_t keep)
{
	if (buf->cap > keep)
		buf_free(buf);
	buf->len = 0;
}

void
buf_add(Buf *buf, const void *data, size_t len)
{
	if (len == 0)
		return;
	buf_reserve(buf, len);
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
}

void
buf_fill(Buf *buf, char c, size_t len)
{
	buf_reserve(buf, len);
	memset(buf->data + buf->len, c, len);
	buf->len += len;
}

void
buf_str(Buf *buf, const char *s)
{
	buf_add(buf, s, strlen(s));
}

/* printf is half of a plain answer's cost, and most of it writes integers. */
void
buf_int(Buf *buf, int64_t value)
{
	char digits[24];
	char *p = digits + sizeof(digits);
	uint64_t rest = value < 0 ? 0 - (uint64_t) value : (uint64_t) value;

	do
	{
		*--p = '0' + rest % 10;
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		*--p = '-';
	buf_add(buf, p, digits + sizeof(digits) - p);
}

void
buf_printf(Buf *buf, const char *format, ...)
{
	va_list args;
	int len;

	buf_reserve(buf, 256);
	for (;;)
	{
		size_t room = buf->cap - buf->len;

		va_start(args, format);
		len = vsnprintf(buf->data + buf->len, room, format, args);
		va_end(args);
		if (len < 0)
			return;
		if ((size_t) len < room)
			break;
		buf_reserve(buf, len);
	}
	buf->len += len;
}

/*
 * Append s as the inside of a JSON string.  A byte that is not UTF-8 becomes
 * a question mark.
 */
void
buf_json(Buf *buf, const char *s)
{
	const char *end = s + strlen(s);

	while (s < end)
	{
		unsigned char c = *s;
		size_t len = utf8_len(s, end);

		if (len == 0)
			buf_add(buf, "?", len = 1);
		else if (c == '"' || c == '\\')
			buf_printf(buf, "\\%c", c);
		else if (c < 0x20)
			buf_printf(buf, "\\u%04x", c);
		else
			buf_add(buf, s, len);
		s += len;
	}
}

/* Length of the UTF-8 sequence at p, 0 when it is not one. */
size_t
utf8_len(const char *p, const char *end)
{
	const unsigned char *s = (const unsigned char *) p;
	size_t len = s[0] < 0x80   ? 1
				 : s[0] < 0xc2 ? 0
				 : s[0] < 0xe0 ? 2
				 : s[0] < 0xf0 ? 3
				 : s[0] < 0xf5 ? 4
							   : 0;

	if (len == 0 || (size_t) (end - p) < len)
		return 0;
	for (size_t i = 1; i < len; i++)
	{
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

bool
slice_is(Slice slice, const char *s)
{
	size_t len = strlen(s);

	return slice.p != NULL && slice.len == len && memcmp(slice.p, s, len) == 0;
}

bool
slice_is_nocase(Slice slice, const char *s)
{
	size_t len = strlen(s);

	return slice.p != NULL && slice.len == len && strncasecmp(slice.p, s, len) == 0;
}

Slice
slice_trim(Slice slice)
{
	while (slice.len > 0 && (*slice.p == ' ' || *slice.p == '\t'))
	{
		slice.p++;
		slice.len--;
	}
	while (slice.len > 0 && (slice.p[slice.len - 1] == ' ' || slice.p[slice.len - 1] == '\t'))
		slice.len--;
	return slice;
}

/* Copy into a terminated array, cutting what does not fit between characters. */
void
slice_copy(Slice slice, char *dst, size_t size)
{
	size_t len = slice.len < size ? slice.len : size - 1;

	while (len > 0 && len < slice.len && (slice.p[len] & 0xc0) == 0x80)
		len--;
	if (len > 0)
		memcpy(dst, slice.p, len);
	dst[len] = '\0';
}

/* A plain decimal integer of at most 18 digits and nothing else. */
bool
slice_int(Slice slice, int64_t *value)
{
	int64_t result = 0;
	size_t i = 0;
	bool negative = slice.len > 0 && slice.p[0] == '-';

	if (negative)
		i++;
	if (slice.len == i || slice.len - i > 18)
		return false;
	for (; i < slice.len; i++)
	{
		if (!isdigit((unsigned char) slice.p[i]))
			return false;
		result = result * 10 + (slice.p[i] - '0');
	}
	*value = negative ? -result : result;
	return true;
}

uint64_t
fnv64(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}
