/*
 * personal.c: a learner's tasks and attachments.  See personal.h.
 *
 * No index leads from a learner to the tasks: their requests, which never move,
 * are looked through page by page.  A task that lives is cancelled first.  One
 * that others wait for keeps its rows, without anything that was asked or
 * answered, until they are let go; then it is forgotten as any other.
 *
 * The cursor names the table and the next page: "requests N", "attachments N".
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/pages.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "queue/attachment.h"
#include "queue/change.h"
#include "queue/output.h"
#include "queue/personal.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define PAGES_AT_ONCE 256

/* ---- tasks ---- */

static EduaiPlan find_tasks = {"SELECT task_id FROM eduai.task_request WHERE ctid >= $3"
							   " AND ctid < $4 AND tenant_id = $1 AND user_id = $2",
							   4,
							   {TEXTOID, TEXTOID, TIDOID, TIDOID}};
static EduaiPlan blank_request = {
	"UPDATE eduai.task_request SET user_id = NULL, idempotency_key = NULL, unique_key = NULL,"
	" concurrency_key = NULL, payload = '{}', metadata = '{}'"
	" WHERE tenant_id = $1 AND task_id = ANY ($2) AND EXISTS (SELECT FROM eduai.task_dependency d"
	" WHERE d.tenant_id = $1 AND d.parent_id = task_request.task_id)",
	2,
	{TEXTOID, INT8ARRAYOID}};
static EduaiPlan blank_end = {
	"UPDATE eduai.task_end SET result = NULL, error = NULL, progress = NULL"
	" WHERE tenant_id = $1 AND task_id = ANY ($2) AND EXISTS (SELECT FROM eduai.task_dependency d"
	" WHERE d.tenant_id = $1 AND d.parent_id = task_end.task_id)",
	2,
	{TEXTOID, INT8ARRAYOID}};
static EduaiPlan drop_ends = {
	"DELETE FROM eduai.task_end e WHERE tenant_id = $1 AND task_id = ANY ($2) AND NOT EXISTS"
	" (SELECT FROM eduai.task_dependency d WHERE d.tenant_id = $1 AND d.parent_id = e.task_id)",
	2,
	{TEXTOID, INT8ARRAYOID}};
static EduaiPlan drop_requests = {
	"DELETE FROM eduai.task_request r WHERE tenant_id = $1 AND task_id = ANY ($2) AND NOT EXISTS"
	" (SELECT FROM eduai.task_dependency d WHERE d.tenant_id = $1 AND d.parent_id = r.task_id)",
	2,
	{TEXTOID, INT8ARRAYOID}};
static EduaiPlan drop_edges = {
	"DELETE FROM eduai.task_dependency WHERE tenant_id = $1 AND task_id = ANY ($2)",
	2,
	{TEXTOID, INT8ARRAYOID}};

static void
end_tasks(const char *tenant, int64 *ids, char **tenants, int n)
{
	Datum args[] = {CStringGetTextDatum(tenant), eduai_core_int8_array(ids, NULL, n)};

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		tenants[i] = (char *) tenant;
		if (eduai_core_preloaded())
			(void) eduai_queue_cancel(tenant, ids[i]);
		eduai_queue_output_forget(ids[i], ids[i]);
	}
	eduai_queue_drop_attachments(tenants, ids, n);
	eduai_core_run_latest(&drop_edges, args, NULL);
	eduai_core_run_latest(&blank_request, args, NULL);
	eduai_core_run_latest(&blank_end, args, NULL);
	eduai_core_run_latest(&drop_ends, args, NULL);
	eduai_core_run_latest(&drop_requests, args, NULL);
}

/* Those among some pages; returns how many. */
static int64
erase_tasks(const EduaiPersonalWork *work, int64 page)
{
	Datum args[] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(work->user_id),
					eduai_core_page_start(page), eduai_core_page_start(page + PAGES_AT_ONCE)};
	int n = (int) eduai_core_run_latest(&find_tasks, args, NULL);
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));

	for (int i = 0; i < n; i++)
		ids[i] = eduai_core_int64(i, 1, 0);
	if (n > 0)
		end_tasks(work->tenant, ids, palloc(sizeof(char *) * n), n);
	return n;
}

/* ---- attachments ---- */

static EduaiPlan drop_files = {
	"WITH gone AS (DELETE FROM eduai.attachment WHERE ctid >= $3 AND ctid < $4 AND tenant_id = $1"
	" AND user_id = $2 RETURNING attachment_id),"
	" links AS (DELETE FROM eduai.task_attachment l USING gone g WHERE l.tenant_id = $1"
	" AND l.attachment_id = g.attachment_id)"
	" SELECT count(*) FROM gone",
	4,
	{TEXTOID, TEXTOID, TIDOID, TIDOID}};

static int64
erase_attachments(const EduaiPersonalWork *work, int64 page)
{
	Datum args[] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(work->user_id),
					eduai_core_page_start(page), eduai_core_page_start(page + PAGES_AT_ONCE)};

	eduai_core_run_latest(&drop_files, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

/* ---- the store ---- */

/* Goes through a table from a page on, as far as rows and time allow; -1 at its end. */
static int64
go_through(EduaiPersonalWork *work, const char *table, int64 page,
		   int64 (*erase)(const EduaiPersonalWork *work, int64 page), int64 *removed)
{
	int64 pages = eduai_core_pages_of(get_relname_relid(table, eduai_core_schema()));

	while (page < pages && *removed < work->limit && eduai_core_mono_us() < work->until_us)
	{
		CHECK_FOR_INTERRUPTS();
		*removed += erase(work, page);
		page += PAGES_AT_ONCE;
	}
	return page < pages ? page : -1;
}

static int64
erase_part(EduaiPersonalWork *work)
{
	bool files = work->cursor != NULL && strncmp(work->cursor, "attachments ", 12) == 0;
	int64 page = work->cursor ? strtoll(strchr(work->cursor, ' ') + 1, NULL, 10) : 0;
	int64 removed = 0;

	if (!files)
	{
		page = go_through(work, "task_request", page, erase_tasks, &removed);
		work->cursor =
			page >= 0 ? psprintf("requests " INT64_FORMAT, page) : pstrdup("attachments 0");
		work->more = true;
		return removed;
	}
	page = go_through(work, "attachment", page, erase_attachments, &removed);
	work->cursor = psprintf("attachments " INT64_FORMAT, page);
	work->more = page >= 0;
	return removed;
}

/* Only looking through the table would tell. */
static int64
remaining(const char *tenant, const char *user_id)
{
	return 0;
}

static void
export_all(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	eduai_core_personal_export_rows(
		"tasks",
		"SELECT to_jsonb(t) - 'tenant_id' FROM eduai.task t WHERE t.tenant_id = $1"
		" AND t.user_id = $2 ORDER BY t.task_id",
		tenant, user_id, row, arg);
	eduai_core_personal_export_rows(
		"attachments",
		"SELECT to_jsonb(a) - 'tenant_id' - 'data' ||"
		" jsonb_build_object('data', translate(encode(a.data, 'base64'), E'\\n', '')) FROM eduai.attachment a"
		" WHERE a.tenant_id = $1 AND a.user_id = $2 ORDER BY a.attachment_id",
		tenant, user_id, row, arg);
}

static void
learners(EduaiPersonalLearner learner, void *arg)
{
	eduai_core_personal_tell_learners(
		"SELECT tenant_id, user_id FROM eduai.task_request WHERE user_id IS NOT NULL"
		" UNION SELECT tenant_id, user_id FROM eduai.attachment WHERE user_id IS NOT NULL",
		learner, arg);
}

void
eduai_queue_personal_init(void)
{
	static const EduaiPersonalStore tasks = {.name = "tasks",
											 .rank = 10,
											 .erase_part = erase_part,
											 .remaining = remaining,
											 .export = export_all,
											 .learners = learners};

	eduai_core_personal_register_store(&tasks);
}
