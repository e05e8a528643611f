/*
 * command.h: what a command prints.
 */
#ifndef EDUAI_CORE_COMMAND_H
#define EDUAI_CORE_COMMAND_H

#include "postgres.h"

/*
 * Runs the command by the shell, as the server's user, and puts what it prints
 * into "buffer" with a zero after it: *length bytes, fewer than "size".  NULL,
 * or why there is nothing, palloc'd.  What does not end within limit_ms is
 * killed, with all that it started.  Its errors go to the server's log.  Does
 * not raise, and cannot be cancelled: the limit is short.
 */
extern char *eduai_core_command_output(const char *command, char *buffer, size_t size,
									   size_t *length, int limit_ms);

#endif
