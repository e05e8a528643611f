/*
 * pause.h: named points where a test can hold a process.
 *
 * EDUAI_PAUSE("name") costs one branch on a setting fixed at server start.
 * With eduai.test_mode on and the point armed by eduai.test_pause(name, true),
 * a process that reaches it waits, holding whatever it holds, until the point
 * is disarmed.  It sleeps in short naps: points inside commit may not use
 * latches or raise.
 */
#ifndef EDUAI_CORE_PAUSE_H
#define EDUAI_CORE_PAUSE_H

#include "postgres.h"

extern PGDLLIMPORT bool eduai_core_test_mode;

#define EDUAI_PAUSE(name)                   \
	do                                      \
	{                                       \
		if (unlikely(eduai_core_test_mode)) \
			eduai_core_pause(name);         \
	} while (0)

extern void eduai_core_pause_init(void);
extern void eduai_core_pause(const char *name);

/* Raises 55000 unless eduai.test_mode is on. */
extern void eduai_core_require_test_mode(void);

#endif
