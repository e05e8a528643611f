/*
 * bytes.c: bytes that grow; see bytes.h.
 */
#include "postgres.h"

#include "gateway/bytes.h"

#define FIRST_ROOM 64

bool
eduai_gateway_bytes_add(Bytes *bytes, const char *more, size_t n)
{
	size_t room = Max(bytes->room, FIRST_ROOM);
	char *at;

	if (n == 0)
		return true;
	if (n > SIZE_MAX / 4 - bytes->length)
		return false;
	while (room < bytes->length + n)
		room *= 2;
	if (room != bytes->room)
	{
		at = realloc(bytes->at, room);
		if (at == NULL)
			return false;
		bytes->at = at;
		bytes->room = room;
	}
	memcpy(bytes->at + bytes->length, more, n);
	bytes->length += n;
	return true;
}

void
eduai_gateway_bytes_free(Bytes *bytes)
{
	free(bytes->at);
	memset(bytes, 0, sizeof(*bytes));
}
