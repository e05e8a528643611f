/*
 * privilege.h: how eduai's functions reach their own tables.
 *
 * The functions are SECURITY INVOKER, so that GetUserId() on entry is the
 * role that really called.  Between enter and leave the code runs as the
 * extension's owner, with search_path pinned to pg_catalog and no way for the
 * caller's settings to capture a name.  An error in between needs no cleanup:
 * (sub)transaction abort restores both.
 */
#ifndef EDUAI_CORE_PRIVILEGE_H
#define EDUAI_CORE_PRIVILEGE_H

#include "postgres.h"

typedef struct EduaiPrivilege
{
	Oid caller; /* the role that called the function */
	int sec_context;
	int guc_level; /* 0: no setting was changed */
	struct EduaiPrivilege *outer;
} EduaiPrivilege;

extern void eduai_core_enter(EduaiPrivilege *saved);
extern void eduai_core_leave(const EduaiPrivilege *saved);

/*
 * The same for calls that mostly need no SQL: the pinned path and SPI's
 * connection cost as much as two inserted rows, so they are made by the first
 * statement (core/plan.h) that runs before leaving, if there is one.  What uses
 * SPI by other ways calls eduai_core_enter_sql() first.  "saved" must stay where
 * it is until eduai_core_leave_direct(), which an error in between must reach,
 * too (PG_FINALLY).
 */
extern void eduai_core_enter_direct(EduaiPrivilege *saved);
extern void eduai_core_enter_sql(void);
extern void eduai_core_leave_direct(EduaiPrivilege *saved, bool failed);

/* The schema eduai, and the owner of the extension. */
extern Oid eduai_core_schema(void);
extern Oid eduai_core_owner(void);

/*
 * Another oid for each CREATE EXTENSION, which finds the schema of the last one
 * still there: what is remembered of the extension's objects is good as long as
 * this stays.
 */
extern Oid eduai_core_installation(void);

/*
 * Switches to "role" for user-supplied code (a reducer, a handler), with
 * SECURITY_RESTRICTED_OPERATION and search_path pg_catalog, pg_temp.
 * Leave with eduai_core_leave().
 */
extern void eduai_core_enter_role(Oid role, EduaiPrivilege *saved);

/*
 * The same for the owner of a table whose rows must all be seen: its own row
 * security does not count, and what would hide rows nevertheless is an error.
 */
extern void eduai_core_enter_table_owner(Oid owner, EduaiPrivilege *saved);

/* Gives a setting a value for what was entered; leaving takes it back. */
extern void eduai_core_set_local(const char *name, const char *value);

#endif
