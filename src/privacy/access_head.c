/*
 * access_head.c: the last number and hash of each tenant's chain in a file
 * outside of the database, which shows that rows were removed at the end.
 *
 * The keeper writes it after each batch's commit: after a crash it may be
 * behind the table by a batch, never ahead.  A line has the tenant in hex, the
 * number and the hash in hex.  It is replaced in one step.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "privacy/access_log.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"

static char *path_setting = NULL;

bool
eduai_privacy_access_heads_kept(void)
{
	return path_setting != NULL && path_setting[0] != '\0';
}

/* A file for each database. */
static char *
file_name(void)
{
	return psprintf("%s.%u", path_setting, MyDatabaseId);
}

static char *
hex_of(const char *bytes, size_t n)
{
	char *hex = palloc0(n * 2 + 1);

	hex_encode(bytes, n, hex);
	return hex;
}

/* "HEX NUMBER HEX"; false when the line is none. */
static bool
parse_line(const char *line, EduaiAccessHead *head)
{
	const char *first = strchr(line, ' ');
	const char *second = first ? strchr(first + 1, ' ') : NULL;
	char *end;

	if (second == NULL || strlen(second + 1) != sizeof(head->hash) * 2 || (first - line) % 2 != 0)
		return false;
	head->tenant = palloc0((first - line) / 2 + 1);
	hex_decode(line, first - line, head->tenant);
	head->seq = strtoll(first + 1, &end, 10);
	hex_decode(second + 1, sizeof(head->hash) * 2, (char *) head->hash);
	return end == second;
}

EduaiAccessHead *
eduai_privacy_access_heads_read(int *n)
{
	FILE *file = AllocateFile(file_name(), PG_BINARY_R);
	EduaiAccessHead *heads = palloc(sizeof(EduaiAccessHead));
	char line[512];

	*n = 0;
	if (file == NULL && errno == ENOENT)
		return heads;
	if (file == NULL)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not read the file of eduai.access_log_head: %m")));
	while (fgets(line, sizeof(line), file) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		heads = repalloc(heads, sizeof(EduaiAccessHead) * (*n + 2));
		if (!parse_line(line, &heads[*n]))
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("line %d of the file of eduai.access_log_head is not one of "
								   "its lines",
								   *n + 1),
							errhint("Find out who changed it; restore or remove it.")));
		(*n)++;
	}
	FreeFile(file);
	return heads;
}

static void
write_file(const char *name, const StringInfo text)
{
	int fd = OpenTransientFilePerm(name, O_CREAT | O_WRONLY | O_TRUNC | PG_BINARY, 0600);

	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not create the file of eduai.access_log_head: %m")));
	errno = 0;
	if (write(fd, text->data, text->len) != text->len)
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not write the file of eduai.access_log_head: %m")));
	}
	if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not write the file of eduai.access_log_head: %m")));
}

static void
append_head(StringInfo text, const EduaiAccessHead *head)
{
	appendStringInfo(text, "%s " INT64_FORMAT " %s\n", hex_of(head->tenant, strlen(head->tenant)),
					 head->seq, hex_of((const char *) head->hash, sizeof(head->hash)));
}

void
eduai_privacy_access_heads_write(const EduaiAccessHead *heads, int n)
{
	char *name = file_name();
	char *temporary = psprintf("%s.new", name);
	StringInfoData text;
	int nold;
	EduaiAccessHead *old = eduai_privacy_access_heads_read(&nold);

	initStringInfo(&text);
	for (int i = 0; i < nold; i++)
	{
		bool replaced = false;

		for (int j = 0; j < n && !replaced; j++)
			replaced = strcmp(old[i].tenant, heads[j].tenant) == 0;
		if (!replaced)
			append_head(&text, &old[i]);
	}
	for (int i = 0; i < n; i++)
		append_head(&text, &heads[i]);
	write_file(temporary, &text);
	(void) durable_rename(temporary, name, ERROR);
}

void
eduai_privacy_access_heads_init(void)
{
	DefineCustomStringVariable(
		"eduai.access_log_head",
		"A file outside of the data directory for the last hash of each access log chain.",
		"The database's oid is added to the name. Empty: none is kept.", &path_setting, "",
		PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}
