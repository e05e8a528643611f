/*
 * answer.h: the rows of statements that only call eduai's functions, on their
 * way to the client.
 */
#ifndef EDUAI_CORE_ANSWER_H
#define EDUAI_CORE_ANSWER_H

extern void eduai_core_answer_init(void);

#endif
