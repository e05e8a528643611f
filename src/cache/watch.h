/*
 * watch.h: tables whose rows have tags.
 *
 *   format  a tag with columns in braces: 'student:{student_id}'.  It begins
 *           with a family, 'student:'.  Without braces it is one tag of all rows.
 */
#ifndef EDUAI_CACHE_WATCH_H
#define EDUAI_CACHE_WATCH_H

#include "postgres.h"
#include "nodes/pg_list.h"

typedef struct FormatPart
{
	char *text;   /* before the column */
	char *column; /* NULL: the end */
} FormatPart;

/* Its parts, palloc'd, the last one with column NULL; raises 22023. */
extern List *eduai_cache_format_parse(const char *format);

/* The formats, palloc'd, that every row written to the relation itself fires; NIL when unwatched. */
extern List *eduai_cache_watch_formats(Oid relid);

/*
 * The relation was truncated by this transaction, which still has it locked:
 * calls found() for what stands for all rows of it.
 */
extern void eduai_cache_watch_truncated(Oid relid, void (*found)(uint64 dep, void *arg), void *arg);

/* Rows of the relation, which is locked, came, went or changed without its trigger. */
extern void eduai_cache_watch_changed(Oid relid);

extern void eduai_cache_watch_init(void);

#endif
