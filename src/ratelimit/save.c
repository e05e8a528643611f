/*
 * save.c: the file of counters.  See save.h.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/shmem.h"
#include "core/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "ratelimit/save.h"
#include "ratelimit/save_codec.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FILE_NAME PGSTAT_STAT_PERMANENT_DIRECTORY "/eduai_rate.stat"
#define TEMP_NAME FILE_NAME ".tmp"
#define MAGIC     "eduaiRL1"
#define BOOT_ID   "/proc/sys/kernel/random/boot_id"

typedef struct SavedFile
{
	char magic[8];
	uint32 nshards;
	uint32 entries; /* as the table has them: another build may have others */
	uint64 seed;
	int64 now_us;  /* the limiter's */
	int64 mono_us; /* with boot */
	TimestampTz wall;
	char boot[40];
} SavedFile;

typedef struct SaveState
{
	slock_t lock; /* of the rest */
	RateSaved saved;
} SaveState;

static int save_interval_ms = 5000;
static SaveState *state = NULL;

/* ---- writing ---- */

static void
read_boot_id(char *id, size_t size)
{
	FILE *file = fopen(BOOT_ID, "r");

	memset(id, 0, size);
	if (file == NULL)
		return;
	if (fgets(id, (int) size, file) == NULL)
		id[0] = '\0';
	fclose(file);
}

static SavedFile
file_head(void)
{
	RateTable *table = eduai_ratelimit_table();
	SavedFile head = {.nshards = (uint32) table->nshards,
					  .entries = (uint32) eduai_ratelimit_places(),
					  .seed = table->seed,
					  .now_us = eduai_ratelimit_now_us(),
					  .mono_us = eduai_core_mono_us(),
					  .wall = GetCurrentTimestamp()};

	memcpy(head.magic, MAGIC, sizeof(head.magic));
	read_boot_id(head.boot, sizeof(head.boot));
	return head;
}

/* Encodes what counts in a shard; the buffer has room for all of it. */
static int
copy_shard(int shard, int64 now_us, char *buffer)
{
	char *at = buffer;

	eduai_ratelimit_shard_lock(shard, LW_SHARED);
	for (int i = 0; i < eduai_ratelimit_places(); i++)
	{
		const RateEntry *entry = eduai_ratelimit_entry_at(shard, i);

		if (entry == NULL ||
			(entry->counter.algorithm != RATE_WINDOW && entry->counter.algorithm != RATE_GCRA))
			continue;
		if (entry->counter.held > 0 || eduai_ratelimit_counter_idle_us(&entry->counter) > now_us)
			at += eduai_ratelimit_save_encode(&entry->name, &entry->counter, at);
	}
	eduai_ratelimit_shard_unlock(shard);
	return (int) (at - buffer);
}

static bool
put(FILE *file, pg_crc32c *crc, const void *bytes, size_t length)
{
	COMP_CRC32C(*crc, bytes, length);
	return fwrite(bytes, 1, length, file) == length;
}

static bool
write_table(FILE *file)
{
	SavedFile head = file_head();
	char *buffer = palloc((Size) eduai_ratelimit_places() * RATE_SAVED_MOST);
	pg_crc32c crc;
	bool ok;

	INIT_CRC32C(crc);
	ok = put(file, &crc, &head, sizeof(head));
	for (int shard = 0; ok && shard < (int) head.nshards; shard++)
	{
		int length = copy_shard(shard, head.now_us, buffer);

		ok = put(file, &crc, buffer, (size_t) length);
	}
	pfree(buffer);
	FIN_CRC32C(crc);
	return ok && fwrite(&crc, sizeof(crc), 1, file) == 1 && fflush(file) == 0 &&
		   pg_fsync(fileno(file)) == 0;
}

/* Nothing raises: the launcher goes on, and tries again. */
static bool
save(void)
{
	FILE *file;
	bool ok;

	pg_atomic_write_u32(&eduai_ratelimit_table()->dirty, 0);
	pg_memory_barrier();
	file = AllocateFile(TEMP_NAME, PG_BINARY_W);
	ok = file != NULL && write_table(file);
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (!ok)
		ereport(LOG,
				(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", TEMP_NAME)));
	/* durable_rename() says what went wrong */
	ok = ok && durable_rename(TEMP_NAME, FILE_NAME, LOG) == 0;
	if (!ok)
	{
		unlink(TEMP_NAME);
		pg_atomic_write_u32(&eduai_ratelimit_table()->dirty, 1);
	}
	SpinLockAcquire(&state->lock);
	if (ok)
	{
		state->saved.saved_at = GetCurrentTimestamp();
		state->saved.saves++;
		state->saved.failures = 0;
	}
	else
		state->saved.failures++;
	SpinLockRelease(&state->lock);
	return ok;
}

/* ---- reading ---- */

static void
go_on_from(const SavedFile *head)
{
	RateTable *table = eduai_ratelimit_table();
	int64 mono_us = eduai_core_mono_us();
	int64 passed_us = GetCurrentTimestamp() - head->wall;
	char boot[sizeof(head->boot)];

	read_boot_id(boot, sizeof(boot));
	if (boot[0] != '\0' && memcmp(boot, head->boot, sizeof(boot)) == 0)
		passed_us = mono_us - head->mono_us;
	table->ahead_us = head->now_us + Max(passed_us, 0) - mono_us;
	table->seed = head->seed;
}

/*
 * An overflow counter belongs to a shard: with others than there were, its keys
 * cannot be told from others.
 */
static bool
restore(RateName *name, const RateCounter *counter, bool same_shards)
{
	RateEntry *entry;

	if (!name->overflow)
		eduai_ratelimit_name_hash(name);
	else if (!same_shards)
		return false;
	entry = eduai_ratelimit_make(name, counter->algorithm, 0);
	if (entry == NULL || entry->name.overflow != name->overflow)
		return false;
	entry->counter = *counter;
	eduai_ratelimit_changed(entry);
	return true;
}

static void
load_entries(const SavedFile *head, const char *at, const char *end)
{
	bool same_shards = (int) head->nshards == eduai_ratelimit_table()->nshards;
	int lost = 0;

	while (at < end)
	{
		RateName name;
		RateCounter counter;
		int length = eduai_ratelimit_save_decode(at, (size_t) (end - at), &name, &counter);

		if (length == 0)
		{
			ereport(LOG, (errmsg("file \"%s\" has bytes that are no counter", FILE_NAME)));
			break;
		}
		if (restore(&name, &counter, same_shards))
			state->saved.loaded++;
		else
			lost++;
		at += length;
	}
	if (lost > 0)
		ereport(LOG,
				(errmsg("%d counters of the rate limiter found no room and were forgotten", lost),
				 errhint("eduai.rate_keys was lowered.")));
}

static bool
is_whole(const char *bytes, size_t length)
{
	SavedFile head;
	pg_crc32c crc;
	pg_crc32c written;

	if (length < sizeof(head) + sizeof(crc))
		return false;
	memcpy(&head, bytes, sizeof(head));
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, bytes, length - sizeof(crc));
	FIN_CRC32C(crc);
	memcpy(&written, bytes + length - sizeof(crc), sizeof(crc));
	return memcmp(head.magic, MAGIC, sizeof(head.magic)) == 0 && EQ_CRC32C(crc, written);
}

/* The whole file; NULL: there is none. */
static char *
read_file(size_t *length)
{
	FILE *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	struct stat st;
	char *bytes = NULL;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(),
						  errmsg("could not read file \"%s\": %m", FILE_NAME)));
		return NULL;
	}
	if (fstat(fileno(file), &st) == 0 &&
		(bytes = MemoryContextAllocExtended(CurrentMemoryContext, (Size) st.st_size + 1,
											MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM)) != NULL)
		*length = fread(bytes, 1, (size_t) st.st_size, file);
	FreeFile(file);
	return bytes;
}

static void
load(void)
{
	size_t length = 0;
	char *bytes = read_file(&length);
	SavedFile head;

	if (bytes == NULL)
		return;
	if (is_whole(bytes, length))
	{
		memcpy(&head, bytes, sizeof(head));
		go_on_from(&head);
		load_entries(&head, bytes + sizeof(head), bytes + length - sizeof(pg_crc32c));
	}
	else
		ereport(LOG, (errmsg("ignoring file \"%s\": it is torn, or of another version", FILE_NAME),
					  errdetail("The rate limiter has forgotten what was admitted.")));
	pfree(bytes);
}

/* ---- when ---- */

/* The server stops: everybody has left. */
static void
save_at_shutdown(int code, Datum arg)
{
	if (code == 0 && eduai_ratelimit_table() != NULL && state != NULL)
		(void) save();
}

/* ms until the launcher should call again; -1: when it is woken. */
static long
save_if_due(void)
{
	static int64 saved_us = 0;
	int64 now_us = eduai_core_mono_us();
	int64 due_us = saved_us + (int64) save_interval_ms * 1000;

	if (save_interval_ms == 0 || eduai_ratelimit_table() == NULL ||
		pg_atomic_read_u32(&eduai_ratelimit_table()->dirty) == 0)
		return -1;
	if (saved_us == 0 || now_us >= due_us)
	{
		(void) save();
		saved_us = eduai_core_mono_us();
		due_us = saved_us + (int64) save_interval_ms * 1000;
		now_us = saved_us;
	}
	return (long) ((due_us - now_us + 999) / 1000);
}

void
eduai_ratelimit_save_soon(void)
{
	pg_atomic_uint32 *dirty = &eduai_ratelimit_table()->dirty;

	if (likely(pg_atomic_read_u32(dirty) != 0))
		return;
	if (pg_atomic_exchange_u32(dirty, 1) == 0 && save_interval_ms > 0)
		eduai_core_launcher_wake();
}

static Size
state_size(void)
{
	return sizeof(SaveState);
}

static void
state_shmem_init(void *ptr)
{
	SaveState *s = ptr;

	memset(s, 0, sizeof(*s));
	SpinLockInit(&s->lock);
}

void
eduai_ratelimit_save_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_ratelimit_save",
										.size = state_size,
										.init = state_shmem_init,
										.address = (void **) &state};
	static const EduaiLauncherTask task = {"the rate limiter's counters", save_if_due};

	DefineCustomIntVariable(
		"eduai.rate_save_interval", "How often what was admitted is saved, when something changed.",
		"0: only when the server stops. A crash forgets what came since.", &save_interval_ms, 5000,
		0, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
	eduai_core_launcher_task_register(&task);
}

void
eduai_ratelimit_save_started(void)
{
	on_shmem_exit(save_at_shutdown, (Datum) 0);
	load();
}

RateSaved
eduai_ratelimit_saved(void)
{
	RateSaved saved;

	SpinLockAcquire(&state->lock);
	saved = state->saved;
	SpinLockRelease(&state->lock);
	return saved;
}
