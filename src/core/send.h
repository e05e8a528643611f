/*
 * send.h: messages to the client, many in one packet.
 */
#ifndef EDUAI_CORE_SEND_H
#define EDUAI_CORE_SEND_H

#include "postgres.h"
#include "lib/stringinfo.h"

/*
 * Sends a DataRow of an answer of which "sent" bytes were sent before.  The server's
 * buffer holds 8 kB, and each time it is full the client is woken up for what is in it;
 * for answers that are longer it grows, to 64 kB at most, and stays so.
 */
extern void eduai_core_send_row(const StringInfoData *row, size_t sent);

#endif
