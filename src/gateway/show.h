/*
 * show.h: the text of answers that stream, shown while they do
 * (eduai.task_output()).
 *
 * Callbacks note that there is more; the loop of the transfers gives it to the
 * queue, a few times a second for each task.  Neither takes a transaction.
 */
#ifndef EDUAI_GATEWAY_SHOW_H
#define EDUAI_GATEWAY_SHOW_H

#include "gateway/exchange.h"

/* The stream may have more text than was shown.  For callbacks. */
extern void eduai_gateway_show_note(Transfer *t);

/* Shows what is due. */
extern void eduai_gateway_show_poll(int64 now_us);

/* When something will be, monotonic; -1: nothing is noted. */
extern int64 eduai_gateway_show_next_us(void);

/*
 * The answer is complete: readers who have its beginning get the rest.  Those
 * of an answer of which nothing was shown get it with the result.
 */
extern void eduai_gateway_show_end(Transfer *t);

/* The stream goes away. */
extern void eduai_gateway_show_forget(Transfer *t);

#endif
