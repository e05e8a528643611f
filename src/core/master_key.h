/*
 * master_key.h: the keys of eduai.master_key_file, or those that
 * eduai.master_key_command prints, for seal.c alone.
 */
#ifndef EDUAI_CORE_MASTER_KEY_H
#define EDUAI_CORE_MASTER_KEY_H

#include "postgres.h"

#define MASTER_KEY_BYTES  32
#define MAX_MASTER_KEY_ID 32
#define MAX_MASTER_KEYS   16

typedef struct MasterKey
{
	char id[MAX_MASTER_KEY_ID + 1];
	uint8 key[MASTER_KEY_BYTES];
} MasterKey;

extern void eduai_core_master_key_init(void);
extern bool eduai_core_master_key_configured(void);
/* The next call reads them again. */
extern void eduai_core_master_key_refresh(void);

/*
 * The keys in the order of the file, the current one first, valid until the
 * next call; their number, or 0 with *error in words that hold neither the
 * path nor anything of the content.  Reads the file when it changed.  Does not
 * raise.
 */
extern int eduai_core_master_keys(const MasterKey **keys, char **error);

#endif
