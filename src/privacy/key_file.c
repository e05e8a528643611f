/*
 * key_file.c: the file of eduai.key_store; see key_file.h.
 *
 *   block 0      two copies of the header (512 bytes each), the state
 *   segment 0    256 buckets of one block
 *   segment 1    512 buckets, and so on, each twice as large
 *
 * The header has the file's id and a key of its own, sealed under the master
 * key: the file tells nobody whose keys it has, and no slot of another file
 * opens in it.  It changes only when the master key does: first one copy, then
 * the other, synced in between, so that one of them is always whole.
 *
 * The state is one small write into one sector.  Its count of destroyed keys
 * is read at each use of remembered keys, by whoever has the file open: other
 * clusters of the machine and servers without preload, too.  It need not
 * survive the machine's crash, as what was remembered does not.
 *
 * The file is on a local disk: what one process writes the others read at
 * once.  Segments are sparse until their buckets are used.
 *
 * Nothing here has to do with transactions: a key that was made for one that
 * was rolled back is there for the next.
 */
#include "postgres.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/compat.h"
#include "core/outside.h"
#include "core/seal.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "privacy/key_file.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#define MAGIC         "eduaikey"
#define VERSION       1
#define HEADER_BYTES  512
#define STATE_OFFSET  (2 * HEADER_BYTES)
#define LOCK_WAIT_US  (10 * INT64CONST(1000000))
#define LOCK_PAUSE_MS 2
#define MAX_HEX_ID    (2 * KEY_STORE_ID_BYTES + 1)

typedef struct Header
{
	char magic[8];
	uint32 crc; /* of what follows */
	uint32 version;
	uint64 seq; /* of two whole copies the higher one counts */
	uint8 id[KEY_STORE_ID_BYTES];
	uint32 length; /* of "sealed" */
	uint8 sealed[KEY_WRAPPED_BYTES];
} Header;

StaticAssertDecl(sizeof(Header) <= HEADER_BYTES, "a header fits its place");

static char *key_store = NULL;
static KeyFile file = {.fd = -1};
static dev_t open_dev;
static ino_t open_ino;
static Header header; /* of the open file */

/* ---- parts ---- */

off_t
eduai_privacy_key_segment_start(int segment)
{
	return KEY_BLOCK_BYTES * (1 + (off_t) KEY_FIRST_BUCKETS * ((INT64CONST(1) << segment) - 1));
}

uint64
eduai_privacy_key_segment_buckets(int segment)
{
	return (uint64) KEY_FIRST_BUCKETS << segment;
}

static uint32
header_crc(const Header *h)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &h->version, sizeof(Header) - offsetof(Header, version));
	FIN_CRC32C(crc);
	return crc;
}

static char *
seal_context(const Header *h)
{
	char hex[MAX_HEX_ID];

	for (int i = 0; i < KEY_STORE_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", h->id[i]);
	return psprintf("eduai key store %s", hex);
}

static char *
failed(const char *what)
{
	return psprintf("the key store could not be %s: %s", what, strerror(errno));
}

/* ---- reading and writing ---- */

char *
eduai_privacy_key_file_read(KeyFile *f, void *bytes, size_t n, off_t offset)
{
	ssize_t got = pread(f->fd, bytes, n, offset);

	if (got < 0)
		return failed("read");
	return (size_t) got == n ? NULL : pstrdup("the key store is shorter than it was");
}

char *
eduai_privacy_key_file_write(KeyFile *f, const void *bytes, size_t n, off_t offset)
{
	ssize_t put;

	if (!f->writable)
		return pstrdup("the key store may not be written");
	errno = 0;
	put = pwrite(f->fd, bytes, n, offset);
	if (put == (ssize_t) n)
		return NULL;
	if (put >= 0 && errno == 0)
		errno = ENOSPC;
	return failed("written");
}

char *
eduai_privacy_key_file_sync(KeyFile *f)
{
	return fdatasync(f->fd) == 0 ? NULL : failed("synced");
}

static char *
write_header_copy(KeyFile *f, const Header *h, int copy)
{
	uint8 place[HEADER_BYTES] = {0};
	char *error;

	memcpy(place, h, sizeof(Header));
	error = eduai_privacy_key_file_write(f, place, HEADER_BYTES, (off_t) copy * HEADER_BYTES);
	return error ? error : eduai_privacy_key_file_sync(f);
}

static char *
read_state(KeyFile *f)
{
	char *error = eduai_privacy_key_file_read(f, &f->state, sizeof(KeyState), STATE_OFFSET);

	if (error != NULL)
		return error;
	if (f->state.check != ~f->state.segments || f->state.segments < 1 ||
		f->state.segments > KEY_MAX_SEGMENTS)
		return pstrdup("the key store is damaged");
	return NULL;
}

/* What is cut cannot tell which keys it had. */
static char *
check_size(off_t size)
{
	off_t least = eduai_privacy_key_segment_start((int) file.state.segments);
	struct stat now;

	/* somebody may have added a segment since its size was looked at */
	if (size >= least || (fstat(file.fd, &now) == 0 && now.st_size >= least))
		return NULL;
	return pstrdup("the key store is shorter than it was");
}

static char *
write_state(KeyFile *f)
{
	f->state.check = ~f->state.segments;
	return eduai_privacy_key_file_write(f, &f->state, sizeof(KeyState), STATE_OFFSET);
}

/* ---- opening ---- */

static void
close_file(void)
{
	if (file.fd >= 0)
	{
		close(file.fd);
		ReleaseExternalFD();
	}
	OPENSSL_cleanse(&file, sizeof(file));
	file.fd = -1;
}

static char *
check_status(const struct stat *status)
{
	if (!S_ISREG(status->st_mode))
		return pstrdup("the key store is not a regular file");
	if (status->st_uid != geteuid())
		return pstrdup("the key store does not belong to the server's user");
	if ((status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return pstrdup("the key store is open to its group or to others; its mode must be 0600");
	return NULL;
}

static char *
read_header(void)
{
	Header copies[2];
	int best = -1;
	char *error;

	for (int i = 0; i < 2; i++)
	{
		error = eduai_privacy_key_file_read(&file, &copies[i], sizeof(Header),
											(off_t) i * HEADER_BYTES);
		if (error != NULL)
			return error;
		if (memcmp(copies[i].magic, MAGIC, sizeof(copies[i].magic)) == 0 &&
			copies[i].crc == header_crc(&copies[i]) &&
			(best < 0 || copies[i].seq > copies[best].seq))
			best = i;
	}
	if (best < 0)
		return pstrdup("it is not a key store, or its header is damaged");
	if (copies[best].version != VERSION)
		return psprintf("the key store has version %u, not %d", copies[best].version, VERSION);
	header = copies[best];
	return NULL;
}

static bytea *
sealed_of(const Header *h)
{
	uint32 length = Min(h->length, KEY_WRAPPED_BYTES);
	bytea *sealed = palloc(VARHDRSZ + length);

	SET_VARSIZE(sealed, VARHDRSZ + length);
	memcpy(VARDATA(sealed), h->sealed, length);
	return sealed;
}

static char *
open_header(void)
{
	char *why;
	size_t length;
	char *error = read_header();
	char *key;

	if (error != NULL)
		return error;
	key = eduai_core_unseal(sealed_of(&header), seal_context(&header), &length, &why);
	if (key == NULL)
		return psprintf("the key store does not open: %s", why);
	if (length == KEY_STORE_KEY_BYTES)
		memcpy(file.key, key, KEY_STORE_KEY_BYTES);
	OPENSSL_cleanse(key, length);
	memcpy(file.id, header.id, KEY_STORE_ID_BYTES);
	return length == KEY_STORE_KEY_BYTES ? read_state(&file) : pstrdup("the key store is damaged");
}

/* What is checked is what is open; one that may only be read serves reading. */
static char *
open_checked(const char *resolved)
{
	const int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	struct stat status;
	char *error;

	file.writable = true;
	file.fd = open(resolved, O_RDWR | flags);
	if (file.fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
	{
		file.writable = false;
		file.fd = open(resolved, O_RDONLY | flags);
	}
	if (file.fd < 0)
		return failed("opened");
	ReserveExternalFD();
	if (fstat(file.fd, &status) != 0)
		return failed("opened");
	error = check_status(&status);
	open_dev = status.st_dev;
	open_ino = status.st_ino;
	if (error == NULL)
		error = open_header();
	return error ? error : check_size(status.st_size);
}

static char *
open_file(void)
{
	char *resolved = realpath(key_store, NULL);
	char *error;

	close_file();
	if (resolved == NULL)
		return failed("opened");
	error = eduai_core_in_data_directory(resolved)
				? pstrdup("the key store is in the data directory, which backups copy")
				: open_checked(resolved);
	free(resolved);
	if (error != NULL)
		close_file();
	return error;
}

bool
eduai_privacy_key_file_configured(void)
{
	return key_store != NULL && *key_store != '\0';
}

KeyFile *
eduai_privacy_key_file_use(char **error)
{
	struct stat now;

	*error = NULL;
	if (!eduai_privacy_key_file_configured())
		*error = pstrdup("eduai.key_store is not set");
	else if ((*error = eduai_core_seal_fault()) == NULL)
	{
		/* a path that leads elsewhere by now must not go on with what it led to */
		if (file.fd >= 0 && stat(key_store, &now) == 0 && now.st_dev == open_dev &&
			now.st_ino == open_ino)
		{
			*error = read_state(&file);
			if (*error == NULL)
				*error = check_size(now.st_size);
		}
		else
			*error = open_file();
	}
	if (*error == NULL)
		return &file;
	close_file();
	return NULL;
}

/* ---- making one ---- */

static char *
write_new(void)
{
	bytea *sealed;
	char *error;

	memset(&header, 0, sizeof(header));
	memcpy(header.magic, MAGIC, sizeof(header.magic));
	header.version = VERSION;
	header.seq = 1;
	if (!pg_strong_random(header.id, KEY_STORE_ID_BYTES) ||
		!pg_strong_random(file.key, KEY_STORE_KEY_BYTES))
		return pstrdup("there are no random bytes to be had");
	sealed = eduai_core_seal((char *) file.key, KEY_STORE_KEY_BYTES, seal_context(&header));
	header.length = VARSIZE_ANY_EXHDR(sealed);
	memcpy(header.sealed, VARDATA_ANY(sealed), Min(header.length, KEY_WRAPPED_BYTES));
	header.crc = header_crc(&header);
	file.state = (KeyState){.segments = 1};
	if (ftruncate(file.fd, eduai_privacy_key_segment_start(1)) != 0)
		return failed("written");
	error = write_state(&file);
	for (int copy = 0; copy < 2 && error == NULL; copy++)
		error = write_header_copy(&file, &header, copy);
	return error;
}

/* The directory's entry is as durable as the file. */
static char *
sync_directory(void)
{
	char parent[MAXPGPATH];
	int fd;
	char *error = NULL;

	strlcpy(parent, key_store, sizeof(parent));
	get_parent_directory(parent);
	fd = open(*parent ? parent : "/", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		error = failed("synced");
	if (fd >= 0)
		close(fd);
	return error;
}

static char *
directory_fault(void)
{
	char parent[MAXPGPATH];
	char *resolved;
	char *error = NULL;

	strlcpy(parent, key_store, sizeof(parent));
	get_parent_directory(parent);
	resolved = realpath(*parent ? parent : "/", NULL);
	if (resolved == NULL)
		return failed("made");
	if (eduai_core_in_data_directory(psprintf("%s/store", resolved)))
		error = pstrdup("the key store is in the data directory, which backups copy");
	free(resolved);
	return error;
}

/* Under another name until it is whole: nobody opens half of one. */
char *
eduai_privacy_key_file_create(void)
{
	char *made = psprintf("%s.new.%d", key_store ? key_store : "", MyProcPid);
	char *error = eduai_core_seal_fault();

	if (!eduai_privacy_key_file_configured())
		return pstrdup("eduai.key_store is not set");
	if (error == NULL)
		error = directory_fault();
	if (error != NULL)
		return error;
	close_file();
	file.fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file.fd < 0)
		return failed("made");
	ReserveExternalFD();
	file.writable = true;
	error = write_new();
	if (error == NULL && link(made, key_store) != 0)
		error = failed("made");
	(void) unlink(made);
	close_file();
	return error ? error : sync_directory();
}

/* ---- the master key ---- */

bool
eduai_privacy_key_file_is_current(void)
{
	return file.fd >= 0 && read_header() == NULL && eduai_core_seal_is_current(sealed_of(&header));
}

char *
eduai_privacy_key_file_reseal(KeyFile *f)
{
	bytea *sealed = eduai_core_seal((char *) f->key, KEY_STORE_KEY_BYTES, seal_context(&header));
	Header next;
	char *error = eduai_privacy_key_file_lock(f);

	if (error != NULL)
		return error;
	error = read_header();
	if (error == NULL)
	{
		next = header;
		next.seq++;
		next.length = VARSIZE_ANY_EXHDR(sealed);
		memset(next.sealed, 0, KEY_WRAPPED_BYTES);
		memcpy(next.sealed, VARDATA_ANY(sealed), Min(next.length, KEY_WRAPPED_BYTES));
		next.crc = header_crc(&next);
		for (int copy = 0; copy < 2 && error == NULL; copy++)
			error = write_header_copy(f, &next, copy);
	}
	eduai_privacy_key_file_unlock(f);
	return error;
}

/* ---- with the lock ---- */

char *
eduai_privacy_key_file_lock(KeyFile *f)
{
	int64 deadline = eduai_core_mono_us() + LOCK_WAIT_US;
	bool waited = false;
	char *error;

	while (flock(f->fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK && errno != EINTR)
			return failed("locked");
		if (eduai_core_mono_us() > deadline)
			return pstrdup("the key store was held by another process for too long");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_PAUSE_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		waited = true;
		CHECK_FOR_INTERRUPTS();
	}
	/* it may have been set for somebody else's sake */
	if (waited)
		SetLatch(MyLatch);
	error = read_state(f);
	if (error != NULL)
		eduai_privacy_key_file_unlock(f);
	return error;
}

void
eduai_privacy_key_file_unlock(KeyFile *f)
{
	(void) flock(f->fd, LOCK_UN);
}

char *
eduai_privacy_key_file_count_destroyed(KeyFile *f)
{
	f->state.destroyed++;
	return write_state(f);
}

char *
eduai_privacy_key_file_add_segment(KeyFile *f)
{
	int segments = (int) f->state.segments;
	char *error;

	if (segments == KEY_MAX_SEGMENTS)
		return pstrdup("the key store is full");
	/* first the room, then the number: a number is never more than there is */
	if (ftruncate(f->fd, eduai_privacy_key_segment_start(segments + 1)) != 0)
		return failed("extended");
	error = eduai_privacy_key_file_sync(f);
	if (error == NULL)
	{
		f->state.segments++;
		error = write_state(f);
	}
	return error ? error : eduai_privacy_key_file_sync(f);
}

/* ---- the setting ---- */

/* Its content is judged when it is used: a server must start without it. */
static bool
check_path(char **path, void **extra, GucSource source)
{
	if (*path == NULL || **path == '\0' ||
		(is_absolute_path(*path) && strlen(*path) < MAXPGPATH - 32))
		return true;
	GUC_check_errdetail("The path must be absolute and shorter than %d bytes.", MAXPGPATH - 32);
	return false;
}

void
eduai_privacy_key_file_init(void)
{
	DefineCustomStringVariable(
		"eduai.key_store", "The file of the learners' keys, which seal what is sensitive.",
		"Made by eduai.create_key_store(), outside of the data directory, so that a backup of the "
		"data has no key. Empty for none: nothing is sealed.",
		&key_store, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_path, NULL, NULL);
}
