/*
 * send.c: see send.h.
 */
#include "postgres.h"

/* Servers' packages do not bring these headers, which struct Port alone wants. */
#undef ENABLE_GSS
#undef USE_OPENSSL

#include "core/send.h"
#include "libpq/libpq.h"
#include "miscadmin.h"

#define LONGEST_BUFFER (64 * 1024)

void
eduai_core_send_row(const StringInfoData *row, size_t sent)
{
	/* only a client's socket has such a buffer */
	if (MyBackendType == B_BACKEND && sent + row->len <= LONGEST_BUFFER)
		pq_putmessage_noblock('D', row->data, row->len);
	else
		(void) pq_putmessage('D', row->data, row->len);
}
