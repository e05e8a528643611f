/*-------------------------------------------------------------------------
 * buf.h
 *		Growable byte buffers and slices of the provider simulator.
 *
 * A Buf owns its memory; a Slice points into memory that somebody else
 * owns and is absent when p is NULL.  Running out of memory ends the
 * program: a simulator has nothing better to do.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_BUF_H
#define SIM_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct Slice
{
	const char *p;
	size_t len;
} Slice;

typedef struct Buf
{
	char *data;
	size_t len;
	size_t cap;
} Buf;

extern void *mem_alloc(size_t size);
extern void *mem_realloc(void *p, size_t size);
extern char *mem_strdup(const char *s);

extern void buf_reserve(Buf *buf, size_t room);
extern void buf_free(Buf *buf);
extern void buf_clear(Buf *buf, size_t keep);
extern void buf_add(Buf *buf, const void *data, size_t len);
extern void buf_fill(Buf *buf, char c, size_t len);
extern void buf_str(Buf *buf, const char *s);
extern void buf_int(Buf *buf, int64_t value);
extern void buf_printf(Buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void buf_json(Buf *buf, const char *s);

extern bool slice_is(Slice slice, const char *s);
extern bool slice_is_nocase(Slice slice, const char *s);
extern Slice slice_trim(Slice slice);
extern void slice_copy(Slice slice, char *dst, size_t size);
extern bool slice_int(Slice slice, int64_t *value);
extern size_t utf8_len(const char *p, const char *end);
extern uint64_t fnv64(uint64_t hash, const void *data, size_t len);

#define FNV64_START UINT64_C(0xcbf29ce484222325)

static inline void
buf_slice(Buf *buf, Slice slice)
{
	buf_add(buf, slice.p, slice.len);
}

#endif /* SIM_BUF_H */
