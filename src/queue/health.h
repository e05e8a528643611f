/*
 * health.h: what the queue says in eduai.health().
 */
#ifndef EDUAI_QUEUE_HEALTH_H
#define EDUAI_QUEUE_HEALTH_H

extern void eduai_queue_health_init(void);

#endif
