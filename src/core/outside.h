/*
 * outside.h: files that must not travel with what they protect.
 */
#ifndef EDUAI_CORE_OUTSIDE_H
#define EDUAI_CORE_OUTSIDE_H

#include "postgres.h"

/*
 * Is the path, all links of it resolved, below the data directory, which base
 * backups copy?  By the directories themselves, whatever their names: links and
 * bind mounts lead there, too.  True also where that cannot be told.
 */
extern bool eduai_core_in_data_directory(const char *resolved);

#endif
