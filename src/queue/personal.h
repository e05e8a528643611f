/*
 * personal.h: a learner's data in this room, to be erased and exported:
 * tasks and attachments.
 */
#ifndef EDUAI_QUEUE_PERSONAL_H
#define EDUAI_QUEUE_PERSONAL_H

extern void eduai_queue_personal_init(void);

#endif
