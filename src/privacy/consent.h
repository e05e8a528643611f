/*
 * consent.h: which processing of a learner's data needs the learner's consent.
 *
 * A requirement says, for a tenant and a subject ("event:TYPE", "task:TYPE"),
 * which purpose the learner must have consented to, and what happens otherwise.
 * Others ask by eduai_core_personal_consent().
 */
#ifndef EDUAI_PRIVACY_CONSENT_H
#define EDUAI_PRIVACY_CONSENT_H

#include "postgres.h"
#include "core/personal.h"

extern void eduai_privacy_consent_init(void);

/* The last word of the learner, as it is committed now or this transaction wrote it. */
extern bool eduai_privacy_has_consent(const char *tenant, const char *user_id, const char *purpose);

/* Consents as a store of personal data. */
extern void eduai_privacy_consent_store_init(void);

#define CONSENT_EVENT "event:"
#define CONSENT_TASK  "task:"

typedef struct ConsentRequirement
{
	char *tenant;
	char *subject;
	char *purpose;
	bool redact;                     /* or refuse */
	struct ConsentRequirement *next; /* of the same tenant and subject */
} ConsentRequirement;

/*
 * The first requirement of a tenant's subject, NULL for none; valid until the
 * next call.  Reads the table, by itself, when the cache is stale.
 */
extern const ConsentRequirement *
eduai_privacy_requirements(const char *tenant, const char *subject);
/* Is anything required of anybody?  The cheap question. */
extern bool eduai_privacy_requires_consent(void);

/* Tells every backend, at commit, that requirements have changed, and this one now. */
extern void eduai_privacy_requirements_forget(void);

extern void eduai_privacy_requirements_init(void);

#endif
