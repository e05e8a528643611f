/*
 * row_write.h: a row's columns as a client that wants text gets them, fast.
 */
#ifndef EDUAI_CORE_ROW_WRITE_H
#define EDUAI_CORE_ROW_WRITE_H

#include "postgres.h"
#include "lib/stringinfo.h"

/*
 * Appends a column of a DataRow: its length and the bytes that the type's output
 * function makes of the value, whatever the session's settings are, in the
 * database's encoding.  Leaves no memory behind.
 */
typedef void (*EduaiColumnWriter)(StringInfo message, Datum value);

/* NULL: the type's output function has to be looked up. */
extern EduaiColumnWriter eduai_core_column_writer(Oid type);

#endif
