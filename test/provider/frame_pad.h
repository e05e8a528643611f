/*-------------------------------------------------------------------------
 * frame_pad.h
 *		Heads and bodies too large to keep: a block sent many times.
 *
 * Each adds to reply->out and sets the reply's pad.  The body functions
 * finish the head first, and return its length.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_FRAME_PAD_H
#define SIM_FRAME_PAD_H

#include "reply.h"

extern void pad_head(const Exchange *x, Reply *reply);
extern void pad_interim(const Exchange *x, Reply *reply);
extern size_t pad_giant_body(const Exchange *x, Reply *reply);
extern size_t pad_gzip_body(const Exchange *x, Reply *reply);

#endif /* SIM_FRAME_PAD_H */
