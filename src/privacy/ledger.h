/*
 * ledger.h: the ledger of erasures outside the database.
 *
 * A file of one JSON object a line, beside the key store, that is only ever
 * added to: what was erased is known there also when the database is restored
 * to a time before.  A line is an erasure (user_ref, tenant, key_id, probe,
 * requested_at, reason, home) or a key of digests (key_id, sealed, secret in
 * base64).  It names nobody.
 */
#ifndef EDUAI_PRIVACY_LEDGER_H
#define EDUAI_PRIVACY_LEDGER_H

#include "postgres.h"
#include "utils/jsonb.h"

extern void eduai_privacy_ledger_init(void);

/*
 * Adds the erasures that are not there yet, and their keys, and waits until they
 * are on disk; nothing where no file is set.  Inside SPI, as the owner.  Raises
 * when the file cannot be written.
 */
extern void eduai_privacy_ledger_write(void);

#endif
