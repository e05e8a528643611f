/*
 * pseudonym.c: the names that an anonymisation gives.  See pseudonym.h.
 */
#include "postgres.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "core/lock.h"
#include "miscadmin.h"
#include "privacy/pseudonym.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define KEY_BYTES 32

static uint8 run_key[KEY_BYTES];
static HMAC_CTX *run_mac = NULL; /* with the key, for one name after the other */

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

static void
cannot_hash(void)
{
	ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not hash")));
}

static void
use_key(void)
{
	if (run_mac == NULL)
		run_mac = HMAC_CTX_new();
	if (run_mac == NULL || HMAC_Init_ex(run_mac, run_key, KEY_BYTES, EVP_sha256(), NULL) != 1)
		cannot_hash();
}

void
eduai_privacy_run_open(const char *tenant, bool *begun)
{
	char *name = file_name(tenant);

	*begun = !read_key(name);
	if (*begun)
	{
		if (!pg_strong_random(run_key, KEY_BYTES))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a key")));
		write_key(name);
	}
	use_key();
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
	HMAC_CTX_free(run_mac); /* wipes its copy */
	run_mac = NULL;
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0)
		cannot("open");
	if (write(fd, zeros, KEY_BYTES) != KEY_BYTES || pg_fsync(fd) != 0)
		cannot("overwrite");
	CloseTransientFile(fd);
	(void) durable_unlink(name, ERROR);
}

void
eduai_privacy_pseudonym(const char *tenant, char kind, const char *bytes, int length, char *name)
{
	uint8 result[EVP_MAX_MD_SIZE];
	unsigned int n;

	if (HMAC_Init_ex(run_mac, NULL, 0, NULL, NULL) != 1 ||
		HMAC_Update(run_mac, (const uint8 *) &kind, 1) != 1 ||
		HMAC_Update(run_mac, (const uint8 *) tenant, strlen(tenant) + 1) != 1 ||
		HMAC_Update(run_mac, (const uint8 *) bytes, length) != 1 ||
		HMAC_Final(run_mac, result, &n) != 1)
		cannot_hash();
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
