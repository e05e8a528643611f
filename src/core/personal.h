/*
 * personal.h: data about learners: who looks after it, and who holds it.
 *
 * The rooms that keep or hand out such data know no keys, consents or erasures:
 * they call the functions of the first part, and the privacy room answers them
 * through the EduaiPersonalPolicy that it registers.  A room that holds data
 * about learners describes each place in an EduaiPersonalStore, so that one
 * erasure, one export and one account of what remains find it all.
 *
 * A sealed value is a JSON object with the one key "$sealed"; it may stand
 * anywhere below data.  What looks like one and does not open is somebody's own
 * data and stays as it is, unless its learner was erased.
 */
#ifndef EDUAI_CORE_PERSONAL_H
#define EDUAI_CORE_PERSONAL_H

#include "postgres.h"
#include "utils/jsonb.h"

#define EDUAI_SEALED_KEY "$sealed"

/* ---- what other rooms ask ---- */

/*
 * Raises UE008 when the learner was erased or asked to be: before anything
 * about them is written.  Cheap where nobody was.  NULL is nobody.  A write
 * that passes and commits after the erasure's intent is found by the erasure.
 */
extern void eduai_core_personal_check(const char *tenant, const char *user_id);
/* The same without raising: for those that may not. */
extern bool eduai_core_personal_erased(const char *tenant, const char *user_id);

/*
 * The same of a stream: raises UE008 when it is the one named after an erased
 * learner ("learner-ID"), or one that held nothing but an erased learner's
 * events: its versions must not be used again.
 */
extern void eduai_core_personal_check_stream(const char *tenant, const char *stream);

/* Are sensitive values sealed?  False without a master key and a key store. */
extern bool eduai_core_personal_sealing(void);

/*
 * Must sensitive values be looked for: are they sealed, or refused in clear?
 * False where neither a key store nor eduai.require_encryption is set.
 */
extern bool eduai_core_personal_guarding(void);

/*
 * Why sealing, which is set up, does not work now, palloc'd; NULL when it does or
 * is not set up.  With a learner (user_id not NULL): for what is theirs.
 */
extern char *eduai_core_personal_fault(const char *tenant, const char *user_id);

/*
 * Raises 55000 when sensitive values must be sealed (eduai.require_encryption)
 * and these cannot be: nothing is configured, or they are about nobody
 * (user_id NULL), so that there is no key.  Called where something sensitive
 * would be stored in clear.
 */
extern void eduai_core_personal_require_sealing(const char *user_id);

/*
 * The value of a field of "subject" ("event:TYPE", "task:TYPE") under the
 * learner's own key, made at need; palloc'd.  The same value in the same field
 * of the same subject gives the same bytes, so that what is sent twice compares
 * equal.  May raise (55000: the key store cannot be used), may write to the key
 * store, never to tables.  Only while eduai_core_personal_sealing().
 */
extern Jsonb *eduai_core_personal_seal(const char *tenant, const char *user_id, const Jsonb *value,
									   const char *subject, const char *field);

/* May there be a sealed value in it?  Cheap: a look for its key. */
extern bool eduai_core_personal_sealed(const Jsonb *data);

/*
 * Data with its sealed values in clear where "caller" (the role that called,
 * not the owner) may see them for "subject" ("event:TYPE", "task:TYPE"), else
 * masked; data itself when it holds none.  With caller InvalidOid, for the
 * system's own use (the dispatcher's request): in clear.
 */
extern const Jsonb *eduai_core_personal_reveal(const char *tenant, const char *user_id,
											   const Jsonb *data, const char *subject, Oid caller);

/* May "caller" see sensitive values of "subject" about the learner, wherever they are? */
extern bool
eduai_core_personal_shown(const char *tenant, const char *user_id, const char *subject, Oid caller);

/*
 * The same for bytes: under the learner's key, for one subject ("attachment:ID");
 * and in clear, NULL where "caller" may not see them.  Bytes that do not open
 * under the learner's key are NULL, too.  EDUAI_SEALED_EXTRA longer than what
 * they hold.
 */
#define EDUAI_SEALED_EXTRA 29
extern bytea *eduai_core_personal_seal_bytes(const char *tenant, const char *user_id,
											 const bytea *bytes, const char *subject);
extern bytea *
eduai_core_personal_reveal_bytes(const char *tenant, const char *user_id, const bytea *sealed,
								 const char *subject, Oid caller);

/* What may be done with data about a learner, for want of a consent that "subject" requires. */
typedef enum EduaiConsent
{
	EDUAI_CONSENT_GIVEN,  /* or none is required */
	EDUAI_CONSENT_REDACT, /* only without what is sensitive */
	EDUAI_CONSENT_REFUSE
} EduaiConsent;

/*
 * As it is committed now, whatever the snapshot.  *purpose (may be NULL) is a
 * purpose that is missing.  Given for nobody (user_id NULL); costs nothing where
 * nothing is required, a probe of an index for each purpose otherwise.
 */
extern EduaiConsent eduai_core_personal_consent(const char *tenant, const char *user_id,
												const char *subject, const char **purpose);

/*
 * Ends what was to be done with data about the learner: the tasks of these types
 * that are not final; with sensitive_only[i], those with something sensitive in
 * their payload.  As cancel_task() does, in this transaction; returns how many.
 * Inside SPI, as the owner.
 */
extern int64 eduai_core_personal_halt(const char *tenant, const char *user_id,
									  char *const *task_types, const bool *sensitive_only, int n);

/* By the room that has the tasks. */
typedef int64 (*EduaiPersonalHalt)(const char *tenant, const char *user_id, char *const *task_types,
								   const bool *sensitive_only, int n);
extern void eduai_core_personal_register_halt(EduaiPersonalHalt halt);

/*
 * Notes for the access log that "caller" read "count" rows about the learner
 * (NULL: about several or nobody known) from "source" ("events", "progress",
 * "tasks", "export", ...).  A ROLLBACK does not hide it.  May raise 53400 when
 * the log's ring is full and the setting says to refuse.
 */
extern void eduai_core_personal_note(const char *tenant, const char *user_id, const char *source,
									 int64 count, Oid caller);

/* The stream held nothing but an erased learner's events: nothing is appended to it any more. */
extern void eduai_core_personal_erase_stream(const char *tenant, const char *stream);

/* ---- what the privacy room answers ---- */

typedef struct EduaiPersonalPolicy
{
	bool (*erased)(const char *tenant, const char *user_id);
	bool (*stream_erased)(const char *tenant, const char *stream);
	void (*erase_stream)(const char *tenant, const char *stream); /* inside SPI, as the owner */
	bool (*guarding)(void);
	bool (*sealing)(void);
	char *(*fault)(const char *tenant, const char *user_id);
	void (*require_sealing)(const char *user_id);
	Jsonb *(*seal)(const char *tenant, const char *user_id, const Jsonb *value, const char *subject,
				   const char *field);
	const Jsonb *(*reveal)(const char *tenant, const char *user_id, const Jsonb *data,
						   const char *subject, Oid caller);
	bool (*shown)(const char *tenant, const char *user_id, const char *subject, Oid caller);
	bytea *(*seal_bytes)(const char *tenant, const char *user_id, const bytea *bytes,
						 const char *subject);
	bytea *(*reveal_bytes)(const char *tenant, const char *user_id, const bytea *sealed,
						   const char *subject, Oid caller);
	EduaiConsent (*consent)(const char *tenant, const char *user_id, const char *subject,
							const char **purpose);
	void (*note)(const char *tenant, const char *user_id, const char *source, int64 count,
				 Oid caller);
} EduaiPersonalPolicy;

/* Each function once; those left NULL are not touched. */
extern void eduai_core_personal_register_policy(const EduaiPersonalPolicy *policy);

/* ---- who holds data about learners ---- */

typedef void (*EduaiPersonalRow)(void *arg, const char *source, const Jsonb *row);

/* A learner of some tenant whom a store knows. */
typedef void (*EduaiPersonalLearner)(void *arg, const char *tenant, const char *user_id);

/*
 * A part of an erasure, for one transaction: what a store needs to go on where
 * it was, also after a crash.  Names that only the learner's rows had (streams,
 * sessions) go to eduai.erasure_name under user_ref, for stores of higher rank.
 */
typedef struct EduaiPersonalWork
{
	const char *tenant;
	const char *user_id;
	const char *user_ref;
	int limit;      /* about how many rows to remove */
	int64 until_us; /* on the monotonic clock: when to stop looking for them */
	char *cursor;   /* the store's own words of how far it is; NULL at first; palloc'd */
	bool more;      /* out: false when it is through */
} EduaiPersonalWork;

/* Stores that follow from what those below hold begin here: transactions that read it have ended. */
#define EDUAI_PERSONAL_DERIVED 50

/* Called as the extension's owner inside SPI (eduai_core_enter()); may raise. */
typedef struct EduaiPersonalStore
{
	const char *name; /* the source in exports and accounts: "events", "tasks", ... */
	int rank;         /* lower ones are erased first */
	/* removes some "limit" rows in this transaction; *more when others may be left */
	int64 (*erase)(const char *tenant, const char *user_id, int limit, bool *more);
	/* how many rows remain, without looking through a table: exactly if "exact", else at least */
	int64 (*remaining)(const char *tenant, const char *user_id);
	/* hands over each row, as the privacy room shows it (sealed values still sealed) */
	void (*export)(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg);
	/* instead of erase, for those that look through a table: how many were removed */
	int64 (*erase_part)(EduaiPersonalWork *work);
	/* tells whom it knows, of all tenants, some of them perhaps twice; NULL: nobody that others do not */
	void (*learners)(EduaiPersonalLearner learner, void *arg);
	bool exact; /* "remaining" counts all there is */
} EduaiPersonalStore;

#define EDUAI_PERSONAL_STORES 32

/* ---- helps for stores ---- */

/* Hands over the rows of a query of one jsonb column with $1 the tenant, $2 the learner; few at a time. */
extern void eduai_core_personal_export_rows(const char *source, const char *sql, const char *tenant,
											const char *user_id, EduaiPersonalRow row, void *arg);
/* Tells the learners that a query gives: tenant, user id. */
extern void
eduai_core_personal_tell_learners(const char *sql, EduaiPersonalLearner learner, void *arg);

/* ---- the list of stores ---- */

/* From <room>_init() only; "store" is static. */
extern void eduai_core_personal_register_store(const EduaiPersonalStore *store);
/* The i-th by rank, NULL past the last. */
extern const EduaiPersonalStore *eduai_core_personal_store(int i);

#endif
