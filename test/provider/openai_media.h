/*-------------------------------------------------------------------------
 * openai_media.h
 *		Embeddings, images and transcriptions.
 *
 * A check returns false after settling on an error; an answer writes the
 * body of a request that passed its check.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_OPENAI_MEDIA_H
#define SIM_OPENAI_MEDIA_H

#include "exchange.h"

extern bool openai_check_embeddings(Exchange *x);
extern void openai_answer_embeddings(Exchange *x);
extern bool openai_check_images(Exchange *x);
extern void openai_answer_images(Exchange *x);
extern bool openai_check_transcription(Exchange *x);
extern void openai_answer_transcription(Exchange *x);

/* The image, base64; its bytes are served at /_sim/image.png. */
extern const char *const openai_image_base64;

#endif /* SIM_OPENAI_MEDIA_H */
