/*
 * wire.c: see wire.h.
 */
#include "wire.h"

#include "bench.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM (1024 * 1024)

struct Wire
{
	int fd;
	char bind[64]; /* 'B', length, "", the statement's name: as they stand in each message */
	size_t bind_length;
	char *sent;
	char *got;
	const char *row; /* of the last answer, its number of columns first; or NULL */
};

static size_t
put_int(char *at, uint32_t value)
{
	value = htonl(value);
	memcpy(at, &value, 4);
	return 4;
}

static size_t
put_short(char *at, uint16_t value)
{
	value = htons(value);
	memcpy(at, &value, 2);
	return 2;
}

static uint32_t
get_int(const char *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return ntohl(value);
}

Wire *
open_wire(PGconn *db, const char *statement)
{
	Wire *wire = calloc(1, sizeof(Wire));

	if (PQsslInUse(db))
		fail("the connection is encrypted");
	if (strlen(statement) > sizeof(wire->bind) - 8)
		fail("a shorter name, please");
	wire->fd = dup(PQsocket(db));
	wire->bind[0] = 'B';
	strcpy(wire->bind + 6, statement);
	wire->bind_length = 6 + strlen(statement) + 1;
	wire->sent = malloc(ROOM);
	wire->got = malloc(ROOM);
	/* libpq has set it not to block: a wait would take a second call */
	if (fcntl(wire->fd, F_SETFL, 0) != 0)
		fail("no socket to call on");
	return wire;
}

static void
send_call(Wire *wire, int n, const char *const *values)
{
	static const char rest[] = "E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
	char *at = wire->sent;

	memcpy(at, wire->bind, wire->bind_length);
	at += wire->bind_length;
	at += put_short(at, 0); /* all in text */
	at += put_short(at, (uint16_t) n);
	for (int i = 0; i < n; i++)
	{
		size_t length = strlen(values[i]);

		at += put_int(at, (uint32_t) length);
		memcpy(at, values[i], length);
		at += length;
	}
	at += put_short(at, 0); /* all in text */
	put_int(wire->sent + 1, (uint32_t) (at - wire->sent - 1));
	memcpy(at, rest, sizeof(rest) - 1);
	at += sizeof(rest) - 1;
	for (const char *from = wire->sent; from < at;)
	{
		ssize_t sent = write(wire->fd, from, (size_t) (at - from));

		if (sent <= 0)
			fail("the server went away");
		from += sent;
	}
}

int
call_wire(Wire *wire, int n, const char *const *values)
{
	size_t have = 0;
	size_t looked = 0;
	int rows = 0;

	send_call(wire, n, values);
	wire->row = NULL;
	for (;;)
	{
		ssize_t got = read(wire->fd, wire->got + have, ROOM - have);

		if (got <= 0)
			fail("the server went away");
		have += (size_t) got;
		while (have - looked >= 5 && have - looked > get_int(wire->got + looked + 1))
		{
			const char *message = wire->got + looked;

			looked += 1 + get_int(message + 1);
			if (*message == 'Z')
				return rows;
			if (*message == 'E')
				fail("the server has an error: %.200s", message + 6);
			if (*message == 'D' && rows++ == 0)
				wire->row = message + 5;
		}
	}
}

int
wire_length(const Wire *wire, int column)
{
	const char *at = wire->row + 2;

	for (; column > 0; column--)
		at += 4 + (get_int(at) == UINT32_MAX ? 0 : get_int(at));
	return (int) get_int(at);
}
