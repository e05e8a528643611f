/*
 * master_key.c: reading eduai.master_key_file, or what eduai.master_key_command
 * prints; see master_key.h.
 *
 * The file must not travel with what it protects: not in the data directory,
 * which base backups copy, and readable by nobody else.  What is checked is
 * what is read: the path is resolved first, the resolved one is opened without
 * following links, and owner and mode are those of the open file.
 *
 * Each call looks at the file's status; its content is read again when that
 * changed.  A file that changed a moment ago may change again within the same
 * tick of its timestamps, so it is read at every call until it is older.
 *
 * A file that cannot be used leaves no key behind: whoever takes the file away
 * takes the keys away.  Old keys and buffers are overwritten.
 *
 * A command is run once per process and again after some minutes, as nobody
 * tells when it would print something else; rotation asks again at once.
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base64.h"
#include "core/clock.h"
#include "core/command.h"
#include "core/master_key.h"
#include "core/outside.h"
#include "miscadmin.h"
#include "utils/guc.h"

#define MAX_FILE_BYTES 8192
#define BASE64_LENGTH  44 /* of 32 bytes */
#define YOUNG_SECONDS  2
#define COMMAND_US     (5 * 60 * INT64CONST(1000000)) /* until it is asked again */

static char *master_key_file = NULL;
static char *master_key_command = NULL;
static int command_timeout_ms = 10000;

static struct
{
	int n; /* 0: nothing is known */
	MasterKey keys[MAX_MASTER_KEYS];
	char path[MAXPGPATH];
	struct stat status;
	char *command; /* that printed them; NULL: the file has them */
	int64 read_us; /* when it did */
	bool young;    /* was read so soon after it changed that it may have changed again */
} known;

static void
forget(void)
{
	if (known.command != NULL)
		free(known.command);
	OPENSSL_cleanse(&known, sizeof(known));
}

/* ---- the file ---- */

static bool
is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool
is_unchanged(const struct stat *now)
{
	const struct stat *then = &known.status;

	return is_same_file(now, then) && now->st_size == then->st_size &&
		   now->st_mtim.tv_sec == then->st_mtim.tv_sec &&
		   now->st_mtim.tv_nsec == then->st_mtim.tv_nsec &&
		   now->st_ctim.tv_sec == then->st_ctim.tv_sec &&
		   now->st_ctim.tv_nsec == then->st_ctim.tv_nsec;
}

/* A file of root's may be lent to the server's group, as those of TLS keys may. */
static char *
check_status(const struct stat *status)
{
	mode_t forbidden = status->st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;

	if (!S_ISREG(status->st_mode))
		return pstrdup("the master key file is not a regular file");
	if (status->st_uid != geteuid() && status->st_uid != 0)
		return pstrdup("the master key file belongs neither to the server's user nor to root");
	if ((status->st_mode & forbidden) != 0)
		return pstrdup("the master key file is open to its group or to others; "
					   "its mode must be 0600 or less, or 0640 or less if it belongs to root");
	if (status->st_size > MAX_FILE_BYTES)
		return psprintf("the master key file is longer than %d bytes", MAX_FILE_BYTES);
	return NULL;
}

static char *
unreadable(int number)
{
	return psprintf("the master key file could not be read: %s", strerror(number));
}

/* The content into "buffer", with a zero after it; NULL, or why not. */
static char *
read_checked(const char *resolved, char *buffer, struct stat *status)
{
	int fd = open(resolved, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	char *error = NULL;
	ssize_t length = 0;

	if (fd < 0)
		return unreadable(errno);
	if (fstat(fd, status) != 0)
		error = unreadable(errno);
	else if ((error = check_status(status)) == NULL &&
			 (length = read(fd, buffer, MAX_FILE_BYTES)) < 0)
		error = unreadable(errno);
	close(fd);
	if (error != NULL)
		return error;
	buffer[Max(length, 0)] = '\0';
	return strlen(buffer) == length ? NULL : pstrdup("the master key file has a zero byte");
}

/* ---- its lines ---- */

static bool
is_id(const char *id)
{
	if (*id == '\0' || strlen(id) > MAX_MASTER_KEY_ID)
		return false;
	for (; *id; id++)
		if (!isalnum((unsigned char) *id) && strchr("-_.", *id) == NULL)
			return false;
	return true;
}

static bool
is_known(const char *id)
{
	for (int i = 0; i < known.n; i++)
		if (strcmp(known.keys[i].id, id) == 0)
			return true;
	return false;
}

/* One line, cut up in place: NULL, or what is wrong with it. */
static const char *
read_line(char *line)
{
	static const char blank[] = " \t\r";
	uint8 decoded[BASE64_LENGTH];
	char *rest;
	char *id = strtok_r(line, blank, &rest);
	char *base64 = id != NULL ? strtok_r(NULL, blank, &rest) : NULL;
	MasterKey *key = &known.keys[known.n];
	int length;

	if (id == NULL || *id == '#')
		return NULL;
	if (base64 == NULL || strtok_r(NULL, blank, &rest) != NULL || !is_id(id))
		return "is not \"ID BASE64\"";
	if (is_known(id))
		return "repeats an id";
	if (known.n == MAX_MASTER_KEYS)
		return "is one key too many";
	length = strlen(base64) == BASE64_LENGTH
				 ? pg_b64_decode(base64, BASE64_LENGTH, (void *) decoded, sizeof(decoded))
				 : -1;
	if (length == MASTER_KEY_BYTES)
	{
		strlcpy(key->id, id, sizeof(key->id));
		memcpy(key->key, decoded, MASTER_KEY_BYTES);
		known.n++;
	}
	OPENSSL_cleanse(decoded, sizeof(decoded));
	return length == MASTER_KEY_BYTES ? NULL : "has no key of 32 bytes in base64";
}

static char *
read_lines(char *text)
{
	int number = 0;

	while (text != NULL)
	{
		char *line = text;
		const char *fault;

		text = strchr(line, '\n');
		if (text != NULL)
			*text++ = '\0';
		number++;
		fault = read_line(line);
		if (fault != NULL)
			return psprintf("line %d of the master key file %s", number, fault);
	}
	return known.n > 0 ? NULL : pstrdup("the master key file has no key");
}

/* ---- together ---- */

static char *
load(const char *resolved)
{
	char buffer[MAX_FILE_BYTES + 1];
	struct stat status;
	char *error;

	if (eduai_core_in_data_directory(resolved))
		return pstrdup("the master key file is in the data directory, which backups copy");
	error = read_checked(resolved, buffer, &status);
	if (error == NULL)
		error = read_lines(buffer);
	OPENSSL_cleanse(buffer, sizeof(buffer));
	if (error == NULL)
	{
		strlcpy(known.path, master_key_file, sizeof(known.path));
		known.status = status;
		known.young = status.st_ctim.tv_sec + YOUNG_SECONDS >= time(NULL);
	}
	return error;
}

static bool
is_set(const char *setting)
{
	return setting != NULL && *setting != '\0';
}

bool
eduai_core_master_key_configured(void)
{
	return is_set(master_key_file) || is_set(master_key_command);
}

static char *
ask_command(void)
{
	char buffer[MAX_FILE_BYTES + 1];
	size_t length = 0;
	char *error = eduai_core_command_output(master_key_command, NULL, NULL, buffer, sizeof(buffer),
											&length, command_timeout_ms);

	if (error == NULL && strlen(buffer) != length)
		error = pstrdup("the command printed a zero byte");
	if (error == NULL)
		error = read_lines(buffer);
	OPENSSL_cleanse(buffer, sizeof(buffer));
	if (error == NULL)
	{
		known.command = strdup(master_key_command);
		known.read_us = eduai_core_mono_us();
	}
	return error ? psprintf("eduai.master_key_command: %s", error) : NULL;
}

static int
keys_of_command(char **error)
{
	if (known.n > 0 && known.command != NULL && strcmp(known.command, master_key_command) == 0 &&
		eduai_core_mono_us() - known.read_us < COMMAND_US)
		return known.n;
	forget();
	*error = ask_command();
	if (*error != NULL)
		forget();
	return known.n;
}

void
eduai_core_master_key_refresh(void)
{
	forget();
}

int
eduai_core_master_keys(const MasterKey **keys, char **error)
{
	struct stat now;
	char *resolved;

	*error = NULL;
	*keys = known.keys;
	if (!eduai_core_master_key_configured())
	{
		forget();
		*error = pstrdup("neither eduai.master_key_file nor eduai.master_key_command is set");
		return 0;
	}
	if (is_set(master_key_file) && is_set(master_key_command))
	{
		forget();
		*error = pstrdup("eduai.master_key_file and eduai.master_key_command are both set");
		return 0;
	}
	if (is_set(master_key_command))
		return keys_of_command(error);
	if (known.n > 0 && known.command == NULL && !known.young &&
		strcmp(known.path, master_key_file) == 0 && stat(master_key_file, &now) == 0 &&
		is_unchanged(&now))
		return known.n;

	forget();
	resolved = realpath(master_key_file, NULL);
	*error = resolved == NULL ? unreadable(errno) : load(resolved);
	free(resolved);
	if (*error != NULL)
		forget();
	return known.n;
}

/* ---- the setting ---- */

/* Its content is judged when it is used: a server must start without it. */
static bool
check_path(char **path, void **extra, GucSource source)
{
	if (*path == NULL || **path == '\0' || (is_absolute_path(*path) && strlen(*path) < MAXPGPATH))
		return true;
	GUC_check_errdetail("The path must be absolute and shorter than %d bytes.", MAXPGPATH);
	return false;
}

void
eduai_core_master_key_init(void)
{
	DefineCustomStringVariable(
		"eduai.master_key_file", "A file with the keys that seal what eduai keeps secret.",
		"Lines \"ID BASE64\" of 32 bytes, the current one first; outside "
		"of the data directory and readable by the server alone. Empty for "
		"none: nothing can be sealed.",
		&master_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_path, NULL, NULL);
	DefineCustomStringVariable(
		"eduai.master_key_command", "A command that prints the keys of eduai.master_key_file.",
		"Run by the shell as the server's user, once per process and again after five minutes; "
		"for keys that a vault or a KMS keeps. Instead of the file.",
		&master_key_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eduai.master_key_timeout", "How long eduai.master_key_command may take.",
		"It is ended then, and what needed its keys fails.", &command_timeout_ms, 10000, 100,
		600000, PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_UNIT_MS, NULL, NULL, NULL);
}
