/*
 * json_write.h: jsonb as text, fast.
 */
#ifndef EDUAI_CORE_JSON_WRITE_H
#define EDUAI_CORE_JSON_WRITE_H

#include "postgres.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Appends to "out" the bytes that jsonb's output function makes of "json". */
extern void eduai_core_json_write(StringInfo out, const JsonbContainer *json);

#endif
