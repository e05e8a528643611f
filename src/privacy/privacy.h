/*
 * privacy.h: the privacy room, consent, keys, erasure, export, anonymisation, retention.
 */
#ifndef EDUAI_PRIVACY_PRIVACY_H
#define EDUAI_PRIVACY_PRIVACY_H

/* Registers the room's parts; called once, from _PG_init(). */
extern void eduai_privacy_init(void);

#endif
