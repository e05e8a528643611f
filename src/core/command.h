/*
 * command.h: what a command answers.
 */
#ifndef EDUAI_CORE_COMMAND_H
#define EDUAI_CORE_COMMAND_H

#include "postgres.h"

#define EDUAI_COMMAND_INPUT 4096 /* the most that a command is given to read */

/*
 * Runs the command by the shell, as the server's user, with the words (up to a
 * NULL; may be NULL) after it and "input" (may be NULL) to read, and puts what
 * it prints into "buffer" with a zero after it: *length bytes, fewer than
 * "size".  NULL, or why there is nothing, palloc'd.  Of the environment it gets
 * PATH and HOME, of what the server has open the log: its errors go there.  What
 * does not end within limit_ms is killed, with all that it started.  Does not
 * raise, and cannot be cancelled: the limit is short.
 */
extern char *
eduai_core_command_output(const char *command, const char *const *words, const char *input,
						  char *buffer, size_t size, size_t *length, int limit_ms);

#endif
