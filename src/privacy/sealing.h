/*
 * sealing.h: what core/personal.h promises of sealed values.
 */
#ifndef EDUAI_PRIVACY_SEALING_H
#define EDUAI_PRIVACY_SEALING_H

extern void eduai_privacy_sealing_init(void); /* eduai.require_encryption */

#endif
