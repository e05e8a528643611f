/*
 * varint.c: base-128 numbers.  See varint.h.
 */
#include "postgres.h"

#include "events/varint.h"

void
eduai_events_put_varint(StringInfo out, uint64 value)
{
	while (value >= 0x80)
	{
		appendStringInfoCharMacro(out, (char) (value | 0x80));
		value >>= 7;
	}
	appendStringInfoCharMacro(out, (char) value);
}

bool
eduai_events_take_varint(const unsigned char **at, const unsigned char *end, uint64 *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && *at < end; shift += 7)
	{
		unsigned char byte = *(*at)++;

		*value |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}
