/*
 * pseudonym.c: the names that an anonymisation gives.  See pseudonym.h.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "core/lock.h"
#include "miscadmin.h"
#include "privacy/pseudonym.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define KEY_BYTES 32

static uint8 run_key[KEY_BYTES];

/* In the data directory, which is the current one of every process. */
static char *
file_name(const char *tenant)
{
	return psprintf("pgsql_tmp_eduai_anonymise.%u.%016llx", MyDatabaseId,
					(unsigned long long) eduai_core_lock_key(tenant, "anonymise"));
}

static void
cannot(const char *what)
{
	ereport(ERROR, (errcode_for_file_access(),
					errmsg("could not %s the key of the anonymisation: %m", what)));
}

static bool
read_key(const char *name)
{
	int fd = OpenTransientFile(name, O_RDONLY | PG_BINARY);
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return false;
	if (fd < 0)
		cannot("open");
	n = read(fd, run_key, KEY_BYTES);
	if (n < 0)
		cannot("read");
	CloseTransientFile(fd);
	/* a crash left it before its bytes were there: nothing was named by it */
	return n == KEY_BYTES;
}

/* Makes what it says durable under the name, or not at all. */
static void
write_key(const char *name)
{
	char *temporary = psprintf("%s.new", name);
	int fd = OpenTransientFilePerm(temporary, O_CREAT | O_WRONLY | O_TRUNC | PG_BINARY, 0600);

	if (fd < 0)
		cannot("create");
	if (write(fd, run_key, KEY_BYTES) != KEY_BYTES || pg_fsync(fd) != 0)
		cannot("write");
	CloseTransientFile(fd);
	(void) durable_rename(temporary, name, ERROR);
}

void
eduai_privacy_run_open(const char *tenant, bool *begun)
{
	char *name = file_name(tenant);

	*begun = !read_key(name);
	if (!*begun)
		return;
	if (!pg_strong_random(run_key, KEY_BYTES))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a key")));
	write_key(name);
}

bool
eduai_privacy_run_open_now(const char *tenant)
{
	return access(file_name(tenant), F_OK) == 0;
}

void
eduai_privacy_run_close(const char *tenant)
{
	static const uint8 zeros[KEY_BYTES];
	char *name = file_name(tenant);
	int fd = OpenTransientFile(name, O_WRONLY | PG_BINARY);

	explicit_bzero(run_key, KEY_BYTES);
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0)
		cannot("open");
	if (write(fd, zeros, KEY_BYTES) != KEY_BYTES || pg_fsync(fd) != 0)
		cannot("overwrite");
	CloseTransientFile(fd);
	(void) durable_unlink(name, ERROR);
}

static void
digest(const char *tenant, char kind, const char *bytes, int length, uint8 *result)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
	bool ok = hmac != NULL && pg_hmac_init(hmac, run_key, KEY_BYTES) >= 0 &&
			  pg_hmac_update(hmac, (const uint8 *) &kind, 1) >= 0 &&
			  pg_hmac_update(hmac, (const uint8 *) tenant, strlen(tenant) + 1) >= 0 &&
			  pg_hmac_update(hmac, (const uint8 *) bytes, length) >= 0 &&
			  pg_hmac_final(hmac, result, PG_SHA256_DIGEST_LENGTH) >= 0;

	pg_hmac_free(hmac);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not hash")));
}

void
eduai_privacy_pseudonym(const char *tenant, char kind, const char *bytes, int length, char *name)
{
	uint8 result[PG_SHA256_DIGEST_LENGTH];

	digest(tenant, kind, bytes, length, result);
	memcpy(name, "anon-", 5);
	hex_encode((const char *) result, 16, name + 5);
	name[EDUAI_PSEUDONYM_BYTES - 1] = '\0';
}

uint64
eduai_privacy_shuffle(const char *name)
{
	/* the names are random already; their order would be that of the streams */
	return DatumGetUInt64(hash_any_extended((const unsigned char *) name, (int) strlen(name),
											(uint64) run_key[0] << 8 | run_key[1]));
}
